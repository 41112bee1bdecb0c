/*
 * promises.c
 *	  What a durability policy promises, against the disks as they truly are.
 *
 * A commit that was acknowledged while a rule other than "async" was in force must be
 * on the history of every later leader (I2).  It is looked for when the leader key is
 * taken and when the gate opens.  That is the end of a story, and it takes two failures
 * more to get there; so the beginning is checked, too: that a sufficing set of members
 * has on its disks what is acknowledged, what a new leader shows to its readers (S13),
 * and what a rule takes over from the one before (S6).
 *
 * The trap: a disk that was lost has nothing.  In worlds where one was replaced by
 * something older, or an etcd was, only the end of the story counts.
 */
#include "sim.h"

#include "core/durability.h"

#include <string.h>

bool		world_only_loss = false;

/* --- a policy of another extension's --- */

static bool
next_valid(const char *arguments, const char **message)
{
	*message = "\"next\" takes no number";
	return arguments[0] == '\0';
}

/*
 * Behind the leader, in the order of the rule, comes who has to acknowledge; behind one
 * that is no member, the first.
 */
static int
next_of(const ElectorCommitRule *rule, int leader)
{
	return rule->nmembers == 0 ? -1 : (leader + 1) % rule->nmembers;
}

static bool
next_suffices(const char *arguments, const ElectorCommitRule *rule, int leader,
			  const bool *acknowledged)
{
	int			next = next_of(rule, leader);

	return next >= 0 && next != leader && acknowledged[next];
}

static int
next_quorum(const char *arguments, const ElectorCommitRule *rule, int leader, bool *marked)
{
	int			next = next_of(rule, leader);

	if (next < 0 || next == leader)
		return 0;
	marked[next] = true;
	return 1;
}

/*
 * Sets that suffice under one leader say nothing about another one's, unlike those of
 * the library's own policies.
 */
void
promises_register(void)
{
	static const ElectorPolicy next = {"next", next_valid, next_suffices, next_quorum};

	(void) elector_policy_register(&next);
}

/* --- what is promised --- */

static bool
asks_for_copies(const ElectorCommitRule *rule)
{
	return !elector_policy_is_async(rule->policy);
}

/* Is what is acknowledged now never to be lost? */
static bool
promises(const ElectorDurability *record)
{
	return record != NULL && asks_for_copies(&record->rule) &&
		(!record->changing || asks_for_copies(&record->next));
}

static bool
holds(const Server *server, int branch, ElectorLsn lsn)
{
	return server->exists && server_on_history(server->world, branch, lsn, server->branch) &&
		(server->branch != branch || server->lsn >= lsn);
}

/* Do so many members have it on their disks that it is durable under the rule? */
static bool
is_kept(const World *world, const ElectorCommitRule *rule, const Server *leader, int branch,
		ElectorLsn lsn)
{
	bool		set[ELECTOR_MEMBERS_MAX] = {false};

	for (int i = 0; i < rule->nmembers; i++)
	{
		for (int s = 0; s < world->nservers; s++)
		{
			const Server *server = &world->servers[s];

			if (strcmp(world->names[server->node], rule->members[i].node) == 0 &&
				holds(server, branch, lsn))
				set[i] = true;
		}
	}
	return elector_rule_suffices(rule, world->names[leader->node], set);
}

static void
promise(World *world, int branch, ElectorLsn lsn)
{
	if (lsn > world->branches[branch].promised)
		world->branches[branch].promised = lsn;
}

/* The newest commit that the server's history has; 0: none.  By which LSN of a branch? */
static ElectorLsn
newest_commit(const Server *server, bool told, int *branch)
{
	const World *world = server->world;
	ElectorLsn	limit = UINT64_MAX;

	for (int b = server->branch; b >= 0; b = world->branches[b].parent)
	{
		ElectorLsn	lsn = told ? world->branches[b].told : world->branches[b].written;

		*branch = b;
		if (lsn > limit)
			lsn = limit;
		if (lsn != 0)
			return lsn;
		if (world->branches[b].lsn < limit)
			limit = world->branches[b].lsn;
	}
	return 0;
}

/* A client is told that its commit succeeded. */
void
promises_commit(World *world, const Server *server, ElectorLsn lsn)
{
	const ElectorDurability *record = etcd_durability(world);
	Branch	   *branch = &world->branches[server->branch];

	world->acknowledged_at = world->now;
	if (lsn > branch->told)
		branch->told = lsn;
	if (!promises(record))
		return;
	promise(world, server->branch, lsn);
	if (!world->restored && !is_kept(world, &record->rule, server, server->branch, lsn) &&
		!(record->changing && is_kept(world, &record->next, server, server->branch, lsn)))
		world_violation(world, "I2", "%s acknowledges its commit at %u/%llu, which too few hold for \"%s\"",
						world_name(server), branch->timeline, (unsigned long long) lsn,
						record->rule.policy);
}

/*
 * The rule in etcd changes.  One that comes into force, alone, takes over all that was
 * acknowledged before.
 */
void
promises_rule(World *world, const Server *server, const ElectorDurability *before,
			  const ElectorDurability *after)
{
	ElectorLsn	told;
	int			branch;

	TRACE(world, server, "the rule is %s of %d%s%s%s", after->rule.policy, after->rule.nmembers,
		  after->changing ? ", next " : "", after->changing ? after->next.policy : "",
		  after->degraded ? ", degraded" : "");
	faults_moment(world, (Server *) server, MOMENT_RULE);
	if (after->changing)
		return;
	if (!asks_for_copies(&after->rule))
	{
		for (int b = 0; b < world->nbranches; b++)
			world->branches[b].promised = 0;
		return;
	}
	told = newest_commit(server, true, &branch);
	if (told == 0)
		return;
	promise(world, branch, told);
	if (!world->restored && !is_kept(world, &after->rule, server, branch, told))
		world_violation(world, "I2", "\"%s\" of %d is in force on %s, and too few of its members hold the commit at %u/%llu",
						after->rule.policy, after->rule.nmembers, world_name(server),
						world->branches[branch].timeline, (unsigned long long) told);
}

static void
check_all_there(World *world, const Server *server, const char *what)
{
	for (int b = 0; b < world->nbranches; b++)
	{
		ElectorLsn	promised = world->branches[b].promised;

		if (promised != 0 && !holds(server, b, promised))
			world_loss(world, "%s %s at %u/%llu, and a commit that was acknowledged at %u/%llu is not there",
					   world_name(server), what, server_timeline(server),
					   (unsigned long long) server->lsn, world->branches[b].timeline,
					   (unsigned long long) promised);
	}
}

void
promises_take(World *world, const Server *server)
{
	/* An operator has accepted that they are lost. */
	if (strcmp(server->elector.order.reason, "failover") == 0)
	{
		for (int b = 0; b < world->nbranches; b++)
			world->branches[b].promised = 0;
	}
	check_all_there(world, server, "takes the leader key");
}

/* The gate opens: what is there can be read now, acknowledged before or not. */
void
promises_open(World *world, const Server *server)
{
	const ElectorDurability *record = etcd_durability(world);
	ElectorLsn	written;
	int			branch;

	check_all_there(world, server, "opens its gate");
	if (!promises(record))
		return;
	written = newest_commit(server, false, &branch);
	if (written == 0)
		return;
	promise(world, branch, written);
	if (!world->restored && !is_kept(world, &record->rule, server, branch, written))
		world_violation(world, "I2", "the gate of %s opens, and too few hold its commit at %u/%llu for \"%s\"",
						world_name(server), world->branches[branch].timeline,
						(unsigned long long) written, record->rule.policy);
}
