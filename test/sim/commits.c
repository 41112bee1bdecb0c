/*
 * commits.c
 *	  Commits that wait for standbys, as PostgreSQL's synchronous replication does.
 *
 * A standby tells what it has flushed; a commit is acknowledged when as many of those
 * named in synchronous_standby_names have it as it asks for.  New names take a while to
 * be loaded, and while they are, the walsender that releases a commit may go by the old
 * ones or by the new ones.  What a standby says is believed: whether it is on this
 * server's history is not PostgreSQL's business (S1).
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Flush
{
	int			follower;
	uint64_t	stream;
	ElectorLsn	lsn;
} Flush;

/* "ANY n ("a","b")" */
static SyncNames
parse_names(const World *world, const char *text)
{
	SyncNames	names = {0, 0};

	if (sscanf(text, "ANY %d", &names.quorum) != 1)
		return names;
	for (int i = 0; i < world->nnodes; i++)
	{
		char		quoted[ELECTOR_NAME_SIZE + 2];

		snprintf(quoted, sizeof(quoted), "\"%s\"", world->names[i]);
		if (strstr(text, quoted) != NULL)
			names.mask |= 1u << i;
	}
	return names;
}

static bool
satisfied(const Server *server, SyncNames names, ElectorLsn lsn)
{
	const World *world = server->world;
	int			count = 0;

	for (int i = 0; i < world->nservers; i++)
		count += (names.mask & (1u << world->servers[i].node)) != 0 && server->known[i] >= lsn;
	return count >= names.quorum;
}

static bool
may_be_released(Server *server, ElectorLsn lsn)
{
	World	   *world = server->world;

	if (world->now >= server->names_loaded_at)
		server->names = server->names_loading;
	if (satisfied(server, server->names, lsn))
		return true;
	return world->now < server->names_loaded_at && satisfied(server, server->names_loading, lsn);
}

void
commits_release(Server *server)
{
	int			kept = 0;

	for (int i = 0; i < server->npending; i++)
	{
		ElectorLsn	lsn = server->pending[i];

		if (!may_be_released(server, lsn))
			server->pending[kept++] = lsn;
		else
		{
			if (server->marks > 0)
				server->marks--;
			server_commit_released(server, lsn);
		}
	}
	server->npending = kept;
}

void
commits_wait(Server *server, ElectorLsn lsn)
{
	if (server->npending == SIM_PENDING_MAX)
	{
		/* One more client that gives up: its connection ends without an answer. */
		if (server->marks > 0)
			server->marks--;
		return;
	}
	server->pending[server->npending++] = lsn;
	commits_release(server);
}

/* Backends that wait are ended; nobody is told anything. */
void
commits_terminate(Server *server)
{
	server->marks -= server->npending < server->marks ? server->npending : server->marks;
	server->npending = 0;
}

void
commits_forget(Server *server)
{
	server->npending = 0;
	memset(server->known, 0, sizeof(server->known));
	server->names = server->names_loading = parse_names(server->world, server->names_text);
	server->names_loaded_at = 0;
}

static void
names_are_loaded(World *world, Server *server, void *payload, int64_t number)
{
	commits_release(server);
}

bool
commits_set_names(Server *server, const char *text)
{
	World	   *world = server->world;

	if (strcmp(server->names_text, text) != 0)
	{
		if (world->now >= server->names_loaded_at)
			server->names = server->names_loading;
		snprintf(server->names_text, sizeof(server->names_text), "%s", text);
		server->names_loading = parse_names(world, text);
		server->names_loaded_at = world->now + server->stall +
			chance_between(&world->chance, 1, chance_one_in(&world->chance, 10) ? 2000 : 60) * MS;
		world_later(world, server, server->names_loaded_at, names_are_loaded, NULL, 0);
	}
	return world->now >= server->names_loaded_at;
}

/* --- what standbys say --- */

static void
flush_arrives(World *world, Server *server, void *payload, int64_t number)
{
	Flush	   *flush = payload;
	const Server *follower = &world->servers[flush->follower];

	if (!follower->streaming || follower->stream != flush->stream ||
		follower->upstream != server->index || follower->upstream_life != server->life)
		return;
	if (flush->lsn > server->known[flush->follower])
		server->known[flush->follower] = flush->lsn;
	commits_release(server);
}

/* A standby tells its upstream what it has on its disk. */
void
commits_flushed(Server *follower)
{
	World	   *world = follower->world;
	Server	   *upstream;
	Flush	   *flush;

	if (!world->synchronous || !follower->streaming || follower->upstream < 0)
		return;
	upstream = &world->servers[follower->upstream];
	if (!world_linked(world, follower, upstream))
		return;
	flush = malloc(sizeof(Flush));
	flush->follower = follower->index;
	flush->stream = follower->stream;
	flush->lsn = follower->lsn;
	world_later(world, upstream, world->now + world_transit(world), flush_arrives, flush, 0);
}

void
commits_look(const Server *server, ElectorServer *facts)
{
	const World *world = server->world;

	for (int i = 0; i < world->nservers && world->synchronous; i++)
	{
		const Server *follower = &world->servers[i];

		if (server->known[i] == 0 || !follower->streaming || follower->upstream != server->index ||
			follower->upstream_life != server->life)
			continue;
		snprintf(facts->followers[facts->nfollowers].node, ELECTOR_NAME_SIZE, "%s",
				 world->names[follower->node]);
		facts->followers[facts->nfollowers++].flushed = server->known[i];
	}
}
