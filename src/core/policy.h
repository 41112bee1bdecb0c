/*
 * policy.h
 *	  Durability policies: for libraries that bring one of their own.
 *
 * This header is installed, as extension/pg_elector/policy.h.  A library that comes
 * behind pg_elector in shared_preload_libraries calls elector_policy_register() in its
 * _PG_init(); then pg_elector.durability can name its policy.  All nodes need it.  The
 * functions are called often, in elections, too: they must be quick, must not fail, and
 * must depend on nothing but their arguments, so that all nodes say the same.
 */
#ifndef ELECTOR_POLICY_H
#define ELECTOR_POLICY_H

#include <stdbool.h>
#include <stddef.h>

/* One identifier (node, cluster, zone), with the terminating NUL. */
#define ELECTOR_NAME_SIZE		64

/*
 * A group of PostgreSQL servers has a handful of members; etcd's own advice for
 * its members is seven.  The bound sizes arrays in shared memory.
 */
#define ELECTOR_MEMBERS_MAX		32

/*
 * A durability policy with the members it is about, whoever of them leads: which sets
 * of acknowledgements make a commit durable.
 */
typedef struct ElectorCommitMember
{
	char		node[ELECTOR_NAME_SIZE];
	char		zone[ELECTOR_NAME_SIZE];
} ElectorCommitMember;

typedef struct ElectorCommitRule
{
	char		policy[ELECTOR_NAME_SIZE];	/* "async", "any 1", "zones 2", ... */
	int			nmembers;		/* none for "async" */
	ElectorCommitMember members[ELECTOR_MEMBERS_MAX];
} ElectorCommitRule;

/*
 * A durability policy.  The library has "async", "any N" and "zones N"; others can be
 * registered.  In the setting and in etcd a policy is its name and, behind a space, what
 * it makes of the rest.
 */
typedef struct ElectorPolicy
{
	const char *name;

	/* Is this a policy: the words behind the name?  If not, *message says why. */
	bool		(*valid) (const char *arguments, const char **message);

	/*
	 * Are these acknowledgements enough, when member number `leader` leads?  The
	 * leader's own is not in the set.  Whatever suffices still does with more.
	 */
	bool		(*suffices) (const char *arguments, const ElectorCommitRule *rule,
							 int leader, const bool *acknowledged);

	/*
	 * The least number of members, of those that are marked, any of which suffice:
	 * synchronous_standby_names is "ANY that_number (those)".  0: no number does.
	 */
	int			(*quorum) (const char *arguments, const ElectorCommitRule *rule,
						   int leader, bool *marked);
} ElectorPolicy;

/* False if there is one of that name already, or no room. */
extern bool elector_policy_register(const ElectorPolicy *policy);

#endif							/* ELECTOR_POLICY_H */
