/*
 * next.c
 *	  A durability policy whose sets differ by leader: the member behind the leader, in
 *	  the order of their names, acknowledges for it; behind the last comes the first.
 *
 * It takes no arguments.  Nobody should want it: it shows what "any N" hides.
 */
#include "postgres.h"

#include "fmgr.h"

#include "extension/pg_elector/policy.h"

PG_MODULE_MAGIC;

static bool
next_valid(const char *arguments, const char **message)
{
	*message = "\"next\" takes no arguments";
	return arguments[0] == '\0';
}

/* The member behind the leader; -1: there is none. */
static int
find_next(const ElectorCommitRule *rule, int leader)
{
	int			next = -1;
	int			first = -1;

	for (int i = 0; i < rule->nmembers; i++)
	{
		const char *node = rule->members[i].node;

		if (leader < 0 || i == leader)
			continue;
		if (first < 0 || strcmp(node, rule->members[first].node) < 0)
			first = i;
		if (strcmp(node, rule->members[leader].node) > 0 &&
			(next < 0 || strcmp(node, rule->members[next].node) < 0))
			next = i;
	}
	return next >= 0 ? next : first;
}

static bool
next_suffices(const char *arguments, const ElectorCommitRule *rule, int leader,
			  const bool *acknowledged)
{
	int			next = find_next(rule, leader);

	return next >= 0 && acknowledged[next];
}

static int
next_quorum(const char *arguments, const ElectorCommitRule *rule, int leader, bool *marked)
{
	int			next = find_next(rule, leader);

	if (next < 0)
		return 0;
	marked[next] = true;
	return 1;
}

void		_PG_init(void);

void
_PG_init(void)
{
	static const ElectorPolicy policy = {
		"next", next_valid, next_suffices, next_quorum
	};

	if (!elector_policy_register(&policy))
		ereport(FATAL,
				(errmsg("could not register durability policy \"%s\"", policy.name)));
}
