/*
 * facts.c
 *	  What this node is, and what its elector has published, read without a lock.
 *
 * A load balancer must get its answer, and a virtual address be taken away, also
 * when the elector's worker is stopped, and it may be stopped while it holds the
 * lock.  And a process that talks to the network must not hold a lock that the
 * worker waits for.  So what is published is copied without one: `publication`
 * tells whether the worker was writing meanwhile, and then it is copied again.
 *
 * What this node is comes from the gate's deadline and the clock, as in gate.c, and
 * from nothing that the worker would have to be there for.
 *
 * The trap: a copy that was torn may hold anything.  It is looked at when it is known
 * to be whole.
 */
#include "facts.h"

#include "access/xlog.h"
#include "utils/memutils.h"

/* The worker writes for some microseconds; then it is looked at this often. */
#define TRIES 20
#define PAUSE_US 500

ElectorRole
elector_role(void)
{
	if (RecoveryInProgress())
		return ELECTOR_ROLE_FOLLOWER;
	return elector_gate_is_open() ? ELECTOR_ROLE_LEADER : ELECTOR_ROLE_NONE;
}

const char *
elector_role_name(ElectorRole role)
{
	switch (role)
	{
		case ELECTOR_ROLE_NONE:
			return "none";
		case ELECTOR_ROLE_LEADER:
			return "leader";
		case ELECTOR_ROLE_FOLLOWER:
			return "follower";
	}
	pg_unreachable();
}

/* A worker before this one may have ended in the middle. */
void
elector_facts_begin(void)
{
	pg_atomic_write_u32(&elector_shared->publication,
						pg_atomic_read_u32(&elector_shared->publication) | 1);
	pg_write_barrier();
}

void
elector_facts_end(void)
{
	pg_write_barrier();
	pg_atomic_write_u32(&elector_shared->publication,
						(pg_atomic_read_u32(&elector_shared->publication) | 1) + 1);
	pg_atomic_write_u64(&elector_shared->published_at, (uint64) elector_now());
}

/* Copy until the copy is whole. */
static bool
read_published(void (*copy) (void *to), void *to)
{
	for (int i = 0; i < TRIES; i++)
	{
		uint32		before = pg_atomic_read_u32(&elector_shared->publication);

		if ((before & 1) == 0)
		{
			pg_read_barrier();
			copy(to);
			pg_read_barrier();
			if (pg_atomic_read_u32(&elector_shared->publication) == before)
				return true;
		}
		pg_usleep(PAUSE_US);
	}
	return false;
}

static void
copy_facts(void *to)
{
	ElectorFacts *facts = to;
	const ElectorShared *shared = elector_shared;
	int			nrows = *(volatile const int *) &shared->nrows;
	int			nhistory = *(volatile const int *) &shared->nhistory;

	memcpy(facts->leader, shared->leader, sizeof(facts->leader));
	facts->self = shared->self;
	facts->lease = shared->lease;
	facts->renewals = shared->renewals;
	facts->term = shared->term;
	facts->paused = shared->settings.paused;
	facts->leader_end = shared->leader_end;
	facts->leader_told_at = shared->leader_told_at;
	facts->nrows = Max(0, Min(nrows, ELECTOR_MEMBERS_MAX));
	memcpy(facts->rows, shared->rows, sizeof(ElectorStatusRow) * facts->nrows);
	facts->nhistory = Max(0, Min(nhistory, ELECTOR_HISTORY_MAX));
	memcpy(facts->history, shared->history, sizeof(ElectorHistory) * facts->nhistory);
	facts->durability = shared->durability;
	facts->safe = shared->safe && !shared->durability.degraded;
	memcpy(facts->missing, shared->missing, sizeof(facts->missing));
}

bool
elector_facts_read(ElectorFacts *facts)
{
	static ElectorFacts *copy = NULL;

	if (copy == NULL)
		copy = MemoryContextAllocZero(TopMemoryContext, sizeof(ElectorFacts));
	if (!read_published(copy_facts, copy))
		return false;
	*facts = *copy;
	return true;
}

typedef struct Leader
{
	char		node[ELECTOR_NAME_SIZE];
	uint64		term;
} Leader;

static void
copy_leader(void *to)
{
	Leader	   *leader = to;

	memcpy(leader->node, elector_shared->leader, sizeof(leader->node));
	leader->term = elector_shared->term;
}

bool
elector_facts_read_leader(char *leader, uint64 *term)
{
	Leader		copy;

	if (!read_published(copy_leader, &copy))
		return false;
	strlcpy(leader, copy.node, ELECTOR_NAME_SIZE);
	*term = copy.term;
	return true;
}
