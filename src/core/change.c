/*
 * change.c
 *	  A transaction in etcd, as data.
 *
 * See change.h.
 */
#include "change.h"
#include "name.h"
#include "rules.h"

#include <assert.h>
#include <string.h>

void
elector_change_init(ElectorChange *change)
{
	memset(change, 0, sizeof(*change));
}

void
elector_change_if_created(ElectorChange *change, ElectorKey key, int64_t revision)
{
	assert(!change->keys[key].if_modified);
	change->keys[key].if_created = true;
	change->keys[key].revision = revision;
}

void
elector_change_if_modified(ElectorChange *change, ElectorKey key, int64_t revision)
{
	assert(!change->keys[key].if_created);
	change->keys[key].if_modified = true;
	change->keys[key].revision = revision;
}

void
elector_change_put(ElectorChange *change, ElectorKey key, int64_t lease)
{
	change->keys[key].write = ELECTOR_WRITE_PUT;
	change->keys[key].lease = lease;
}

void
elector_change_delete(ElectorChange *change, ElectorKey key)
{
	change->keys[key].write = ELECTOR_WRITE_DELETE;
}

/* A restored etcd may use a revision again. */
bool
elector_change_releases(const ElectorLeader *leader, const ElectorLeadership *leadership)
{
	return leader->present && leader->create_revision == leadership->create_revision &&
		leader->term == leadership->term &&
		strcmp(leader->node, leadership->node) == 0 &&
		strcmp(leader->instance, leadership->instance) == 0;
}

void
elector_change_release(ElectorChange *change, const ElectorCluster *cluster,
					   const ElectorLeadership *leadership,
					   const ElectorPosition *position, int32_t stopping_ms)
{
	const ElectorElection *election = &cluster->election;

	elector_change_init(change);
	if (ELECTOR_RULE(RELEASE_OWN_KEY))
		elector_change_if_created(change, ELECTOR_KEY_LEADER,
								  leadership->create_revision);
	elector_change_delete(change, ELECTOR_KEY_LEADER);

	if (cluster->term.present && cluster->term.term == leadership->term)
	{
		change->term = cluster->term;
		change->term.released = true;
		memset(&change->term.released_at, 0, sizeof(change->term.released_at));
		change->term.heir[0] = '\0';
		if (position != NULL)
		{
			change->term.released_at = *position;
			elector_copy(change->term.heir, leadership->heir, sizeof(change->term.heir));
		}
		change->term.stopping_ms = stopping_ms;
		elector_change_if_modified(change, ELECTOR_KEY_TERM,
								   cluster->term.mod_revision);
		elector_change_put(change, ELECTOR_KEY_TERM, 0);
	}

	/* The lock of a handover has done its work. */
	if (election->present && strcmp(election->node, leadership->node) == 0 &&
		strcmp(election->instance, leadership->instance) == 0)
	{
		elector_change_if_created(change, ELECTOR_KEY_ELECTION,
								  election->create_revision);
		elector_change_delete(change, ELECTOR_KEY_ELECTION);
	}
}
