/*
 * server.c
 *	  Simulated PostgreSQL servers: their processes, WAL, and clients.
 *
 * WAL is a position on a branch.  A promotion makes a new branch, whatever
 * timeline number it gets, so the world knows of two histories that they differ
 * when their numbers say otherwise.
 *
 * The trap: everything that a process does later is bound to its life, and is
 * void when it has died meanwhile.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMIT_SIZE 20
#define OTHER_WAL_SIZE 7

#define IDLE_GAP (6 * SEC)
#define CHECKPOINT_SIZE 100
#define RECORD_SIZE 50

/* As in the library and the program. */
#define RELEASE_BOUND (2 * SEC)
#define REQUEST_BOUND (700 * MS)
#define LAST_WILL_DRAIN (50 * MS)

typedef struct WalMessage
{
	int			branch;
	ElectorLsn	lsn;
	ElectorLsn	end;
} WalMessage;

int			world_broken_rule = WORLD_RULES;

ElectorTime
server_local(const Server *server, ElectorTime at)
{
	return server->offset + at + at / 1000000 * server->drift +
		at % 1000000 * server->drift / 1000000;
}

/* The soonest true time at which the local clock shows at least this. */
ElectorTime
server_true(const Server *server, ElectorTime local)
{
	ElectorTime at = (ElectorTime) ((double) (local - server->offset) /
									(1.0 + (double) server->drift / 1e6)) - 2;

	while (server_local(server, at) < local)
		at++;
	return at;
}

uint32_t
server_timeline(const Server *server)
{
	return server->world->branches[server->branch].timeline;
}

/* Is everything up to lsn of this branch in the history of that one? */
bool
server_on_history(const World *world, int branch, ElectorLsn lsn, int of)
{
	ElectorLsn	limit = UINT64_MAX;

	for (; of >= 0; of = world->branches[of].parent)
	{
		if (of == branch)
			return lsn <= limit;
		if (world->branches[of].lsn < limit)
			limit = world->branches[of].lsn;
	}
	return false;
}

const Server *
server_by_instance(const World *world, const char *instance)
{
	for (int i = 0; i < world->nservers; i++)
	{
		if (strcmp(world->servers[i].instance, instance) == 0)
			return &world->servers[i];
	}
	return NULL;
}

/* Does it let a control connection in? */
bool
server_accepts(const Server *server)
{
	return server->phase == PHASE_STANDBY || server->phase == PHASE_PRIMARY;
}

/* --- memory and disk --- */

/* What was being written to the state file when everything stopped is lost. */
void
server_take_state(Server *server)
{
	if (server->saved_at > server->world->now)
	{
		server->state = server->state_before;
		server->seen_term = server->state.term;
		server->seen_token = server->state.token;
	}
	server->saved_at = 0;
}

static void
clear_shared_memory(Server *server)
{
	server->gate = 0;
	server->reads = 0;
	server->opened_term = 0;
	server->upstream_term = 0;
	server->led_term = 0;
	server->drain_until = 0;
	server->marks = 0;
	commits_forget(server);
}

static void
end_elector(Server *server)
{
	etcd_forget(server);
	server->running = false;
	server->elector_life++;
	server->watching = false;
	server->round_at = NEVER;
	server->ncalls = 0;
	server->freeze = FREEZE_NONE;
	server->doomed = false;
	memset(server->peers, 0, sizeof(server->peers));
}

/* --- streaming --- */

void
server_disconnect(Server *server)
{
	server->streaming = false;
	server->stream = ++server->world->next_number;
}

static void
try_to_connect(World *world, Server *server, void *payload, int64_t number)
{
	server_connect(server);
}

/* The startup process starts a walreceiver. */
void
server_connect(Server *server)
{
	World	   *world = server->world;
	Server	   *upstream;
	ElectorTime again = world->now + chance_between(&world->chance, 200, 5000) * MS;

	if (server->phase != PHASE_STANDBY || server->streaming || server->upstream < 0)
		return;

	/* Permission is asked by the walreceiver itself (S1, S2). */
	if (server->upstream_term == 0 && WORLD_RULE(GUARDED_CONNECT))
		return;
	upstream = &world->servers[server->upstream];
	if (!world_linked(world, server, upstream) || !server_accepts(upstream) ||
		(upstream->branch != server->branch && upstream->phase != PHASE_PRIMARY) ||
		(upstream->led_term != server->upstream_term && WORLD_RULE(TERM_AT_UPSTREAM)))
	{
		world_later(world, server, again, try_to_connect, NULL, 0);
		return;
	}

	/* The walreceiver fetches histories first; recovery never turns back from one. */
	server->history = upstream->branch;
	if (!server_on_history(world, server->bound_for, 0, upstream->branch))
	{
		world_later(world, server, again, try_to_connect, NULL, 0);
		return;
	}
	server->bound_for = upstream->branch;
	server_disconnect(server);
	server->streaming = true;
	server->upstream_life = upstream->life;
	TRACE(world, server, "streams from %s", world_name(upstream));
	check_stream(world, server);
	upstream->known[server->index] = 0;
	commits_flushed(server);
	server_wal_flushed(upstream);
}

/*
 * Take in some of what was sent: along the history, one timeline after the
 * other, and not all at once.  True when all of it is there.
 */
static bool
take_wal(Server *server, const Server *upstream, const WalMessage *message)
{
	World	   *world = server->world;
	int			next = message->branch;
	ElectorLsn	missing;

	if (server->branch != message->branch)
	{
		if (server_on_history(world, message->branch, 0, server->branch))
			return true;		/* it was overtaken by a newer one */
		while (next >= 0 && world->branches[next].parent != server->branch)
			next = world->branches[next].parent;
		if (next >= 0 && server->lsn < world->branches[next].lsn)
			server->lsn = world->branches[next].lsn;
		else
			server->branch = next >= 0 ? next : message->branch;
		return false;
	}
	if (message->lsn <= server->lsn)
		return true;
	missing = message->lsn - server->lsn;
	if (missing > COMMIT_SIZE && chance_one_in(&world->chance, 3))
	{
		/* Half a record is as good as none; commits need no such care. */
		if (upstream->checkpoint == 0 || server->lsn + missing / 2 <= upstream->checkpoint)
			server->lsn += missing / 2;
		else if (server->lsn < upstream->checkpoint)
			server->lsn = upstream->checkpoint;
		return false;
	}
	server->lsn = message->lsn;
	return true;
}

static void
wal_arrives(World *world, Server *server, void *payload, int64_t number)
{
	WalMessage *message = payload;
	Server	   *upstream;

	if (!server->streaming || (uint64_t) number != server->stream ||
		server->phase != PHASE_STANDBY || server->upstream < 0)
		return;
	upstream = &world->servers[server->upstream];
	if (message->branch != server->branch || message->lsn > server->lsn)
	{
		if (!take_wal(server, upstream, message))
		{
			WalMessage *rest = malloc(sizeof(WalMessage));

			*rest = *message;
			world_later(world, server, world->now + chance_between(&world->chance, 100, 5000),
						wal_arrives, rest, number);
		}
		if (world->branches[server->branch].timeline > server->newest_timeline)
			server->newest_timeline = world->branches[server->branch].timeline;
		check_received(server, upstream);
	}
	commits_flushed(server);
	server->told_end = message->end;
	server->told_at = server_local(server, world->now);
	if (server->freeze != FREEZE_DONE)
		server->replayed = server->lsn - (ElectorLsn) chance_between(&world->chance, 0, 40);
	if (server->promoting)
		server->replayed = server->lsn;
}

static bool
has_backends(const Server *server)
{
	return server->phase == PHASE_PRIMARY ||
		(server->phase == PHASE_ORPHANED && server->was_primary);
}

/* WAL is on the disk: walsenders send it. */
void
server_wal_flushed(Server *server)
{
	World	   *world = server->world;

	for (int i = 0; i < world->nservers; i++)
	{
		Server	   *follower = &world->servers[i];
		WalMessage *message;

		if (!follower->streaming || follower->upstream != server->index ||
			follower->upstream_life != server->life || !world_linked(world, server, follower) ||
			follower->lags_until > world->now)
			continue;
		message = malloc(sizeof(WalMessage));
		message->branch = server->branch;
		message->lsn = message->end = server->lsn;
		world_later(world, follower, world->now + follower->wal_delay + world_transit(world),
					wal_arrives, message, (int64_t) follower->stream);
	}
}

void
server_wal_flushed_by_all(World *world)
{
	for (int i = 0; i < world->nservers; i++)
	{
		if (has_backends(&world->servers[i]))
			server_wal_flushed(&world->servers[i]);
	}
}

/* --- clients --- */

static bool
gate_is_open(const Server *server)
{
	return server_local(server, server->world->now) < server->gate;
}

/* Nothing holds the commit up any more: look once more, and tell the client. */
void
server_commit_released(Server *server, ElectorLsn lsn)
{
	if (!has_backends(server) && server->phase != PHASE_STOPPING)
		return;
	if (gate_is_open(server) || !WORLD_RULE(GATE_CHECKED_TWICE))
		check_commit(server->world, server, lsn);
}

static void
commit_ends(World *world, Server *server, void *payload, int64_t number)
{
	if (!has_backends(server) &&
		(server->phase != PHASE_STOPPING || server->checkpoint != 0))
	{
		if (server->marks > 0)
			server->marks--;
		return;
	}
	server->lsn += COMMIT_SIZE;
	world->branches[server->branch].written = server->lsn;
	server_wal_flushed(server);
	check_flushed(server);
	if (world->synchronous)
	{
		commits_wait(server, server->lsn);
		return;
	}
	if (server->marks > 0)
		server->marks--;
	server_commit_released(server, server->lsn);
}

static void
client_writes(World *world, Server *server, void *payload, int64_t number)
{
	/* When nothing happens, commits teach nothing. */
	ElectorTime gap = world->now < world->busy_until ? world->client_gap : IDLE_GAP;
	ElectorTime flush = chance_between(&world->chance, 200,
									   chance_one_in(&world->chance, 10) ? 60 * MS : 3 * MS);

	world_later(world, NULL, world->now + chance_between(&world->chance, 10 * MS, gap),
				client_writes, NULL, 0);
	for (int i = 0; i < world->nservers; i++)
	{
		server = &world->servers[i];
		if (!has_backends(server) || server->paused_until > world->now)
			continue;
		if (chance_one_in(&world->chance, 4))
		{
			/* Not every record is a commit. */
			server->lsn += OTHER_WAL_SIZE;
			server_wal_flushed(server);
		}
		if (!gate_is_open(server) ||
			server_local(server, world->now) < server->drain_until)
			continue;
		server->marks++;
		if (world->disk_slow_until > world->now)
			flush += chance_between(&world->chance, 0, world->disk_stall);
		world_later(world, server, world->now + flush, commit_ends, NULL, 0);
	}
}

void
server_begin_clients(World *world)
{
	client_writes(world, NULL, NULL, 0);
}

/* --- starting --- */

static void
new_instance(Server *server)
{
	snprintf(server->instance, sizeof(server->instance), "%032llx",
			 (unsigned long long) ++server->world->next_number);
}

static void
elector_starts(World *world, Server *server, void *payload, int64_t number)
{
	if (server->running || (server->phase != PHASE_STANDBY && server->phase != PHASE_PRIMARY))
		return;
	ports_begin_elector(server);
}

static void
replay_ends(World *world, Server *server, void *payload, int64_t number)
{
	if (server->phase == PHASE_STANDBY && !server->streaming)
		server->replayed = server->lsn;
}

/* number: it was a primary when it ended. */
static void
starts_up(World *world, Server *server, void *payload, int64_t number)
{
	if (server->phase != PHASE_STARTING)
		return;

	server->phase = number && !WORLD_RULE(BORN_STANDBY) ? PHASE_PRIMARY : PHASE_STANDBY;
	if (server->phase == PHASE_PRIMARY)
		world_violation(world, "I5", "%s opened read-write without being established",
						world_name(server));
	server->replayed = server->lsn - (ElectorLsn) chance_between(&world->chance, 0, 100);
	world_later(world, server, world->now + chance_between(&world->chance, 1, 300) * MS,
				replay_ends, NULL, 0);
	TRACE(world, server, "is a standby at %u/%llu (stray %u, allotted %u, %s)", server_timeline(server),
		  (unsigned long long) server->lsn, server->state.stray,
		  server->state.allotted, server->state.caught_up ? "counts" : "does not count");
	world_later(world, server, world->now + chance_between(&world->chance, 1, 50) * MS,
				elector_starts, NULL, 0);
}

static void run_program(Server *server);

static void
launch(Server *server, ElectorTime after, bool was_primary)
{
	World	   *world = server->world;

	/* As restart.c, from the control file. */
	if (was_primary && server->state.present && WORLD_RULE(STRAY_AT_START))
		elector_state_note_primary(&server->state, server_timeline(server));
	server->life++;
	end_elector(server);
	clear_shared_memory(server);
	new_instance(server);
	server->phase = PHASE_STARTING;
	server->promoting = false;
	server->bound_for = server_timeline(server) < world->branches[server->history].timeline ?
		server->history : server->branch;
	server->upstream = -1;
	server->start_wanted = false;
	server_disconnect(server);
	world_later(world, server, world->now + after, starts_up, NULL, was_primary);
}

/* Somebody starts it: pg_ctl, systemd, the program. */
void
server_start(Server *server)
{
	World	   *world = server->world;

	if (!server->exists || server->phase != PHASE_DOWN)
	{
		server->start_wanted = server->exists;
		return;
	}
	server_take_state(server);
	if (server->todo.kind == ELECTOR_TODO_REWIND || server->todo.kind == ELECTOR_TODO_CLONE)
	{
		server->life++;
		run_program(server);
		return;
	}
	memset(&server->todo, 0, sizeof(server->todo));
	TRACE(world, server, "starts");
	launch(server, chance_between(&world->chance, 30, 1500) * MS, server->was_primary);
}

void
server_create(World *world, int index, int node)
{
	Server	   *server = &world->servers[index];

	memset(server, 0, sizeof(*server));
	server->world = world;
	server->index = index;
	server->node = node;
	server->round_at = NEVER;
	server->upstream = -1;
	server->boot = ++world->next_number;
	server->directory = ++world->next_number;
	server->offset = chance_between(&world->chance, 1, 1000) * SEC;
	server->drift = chance_one_in(&world->chance, 3) ? -world->drift :
		chance_between(&world->chance, -world->drift, world->drift);
	if (!WORLD_RULE(DRIFT))
		server->drift *= 6;
	server->endpoint = (int) chance_between(&world->chance, 0, SIM_ETCD_MEMBERS - 1);
	if (world->theme == THEME_DURABILITY)
	{
		const ElectorTime delays[] = {0, 0, 0, 30 * MS, 300 * MS};

		server->wal_delay = delays[chance_between(&world->chance, 0, 4)];
	}
}

/* --- dying --- */

/* What the control file says of how it ended. */
static void
note_end(Server *server)
{
	if (server->phase == PHASE_PRIMARY)
		server->was_primary = true;
	else if (server->phase == PHASE_STANDBY)
		server->was_primary = false;
}

static void
stream_breaks(World *world, Server *server, void *payload, int64_t number)
{
	if (!server->streaming || (uint64_t) number != server->stream)
		return;
	server_disconnect(server);
	server_round_soon(server);
	world_later(world, server, world->now + chance_between(&world->chance, 1, 5000) * MS,
				try_to_connect, NULL, 0);
}

/* Who streams from it notices, soon or late. */
static void
break_streams(Server *server, ElectorTime low, ElectorTime high)
{
	World	   *world = server->world;

	for (int i = 0; i < world->nservers; i++)
	{
		Server	   *follower = &world->servers[i];

		if (follower->streaming && follower->upstream == server->index)
			world_later(world, follower, world->now + chance_between(&world->chance, low, high),
						stream_breaks, NULL, (int64_t) follower->stream);
	}
}

static void
start_again(World *world, Server *server, void *payload, int64_t number)
{
	server_start(server);
}

static void
lie_down(Server *server)
{
	bool		wanted = server->start_wanted;

	note_end(server);
	server->life++;
	end_elector(server);
	clear_shared_memory(server);
	server_take_state(server);
	server->phase = PHASE_DOWN;
	server->promoting = false;
	server->checkpoint = 0;
	server_disconnect(server);
	server->start_wanted = false;
	if (wanted)
		world_later(server->world, server, server->world->now + MS, start_again, NULL, 0);
}

void
server_kill(Server *server)
{
	lie_down(server);
	break_streams(server, MS, 20 * SEC);
}

void
server_crash_in_place(Server *server)
{
	World	   *world = server->world;
	bool		was_primary = server->phase == PHASE_PRIMARY;

	if (!server_accepts(server))
		return;
	TRACE(world, server, "a backend crashes: restarts in place");
	lie_down(server);
	break_streams(server, 100, 2 * MS);
	server_take_state(server);
	launch(server, chance_between(&world->chance, 20, 600) * MS, was_primary);
}

static void
last_will(World *world, Server *server, void *payload, int64_t number)
{
	static ElectorChange change;
	ElectorErrand errand = {ELECTOR_ERRAND_COMMIT};
	int64_t		leases[ELECTOR_LEASES];

	if (server->phase != PHASE_ORPHANED)
		return;
	server->gate = 0;
	server->reads = 0;
	if (server->marks > 0 && number < LAST_WILL_DRAIN)
	{
		world_elector_later(server, world->now + MS, last_will, NULL, number + MS);
		return;
	}
	for (int kind = 0; kind < ELECTOR_LEASES; kind++)
		leases[kind] = server->elector.leases[kind].id;
	errand.deed = ELECTOR_DEED_RELEASE;
	errand.bound = elector_session_bound(&server->elector);
	if (elector_last_word(&server->elector, &change))
	{
		TRACE(world, server, "its last word: the leadership is over");
		errand.change = &change;
		etcd_run(server, &errand, true);
	}
	errand.kind = ELECTOR_ERRAND_REVOKE;
	errand.change = NULL;
	for (int kind = 0; kind < ELECTOR_LEASES; kind++)
	{
		errand.lease = leases[kind];
		if (leases[kind] != 0)
			etcd_run(server, &errand, true);
	}
	server_kill(server);
}

static void
orphans_end(World *world, Server *server, void *payload, int64_t number)
{
	if (server->phase == PHASE_ORPHANED)
		server_kill(server);
}

void
server_kill_postmaster(Server *server)
{
	World	   *world = server->world;

	if (!server_accepts(server))
	{
		server_kill(server);
		return;
	}
	note_end(server);
	server->phase = PHASE_ORPHANED;
	server_disconnect(server);
	break_streams(server, 100, 5 * MS);
	if (server->running)
		world_elector_later(server, world->now + chance_between(&world->chance, 100, 5000),
							last_will, NULL, 0);
	else
		world_later(world, server, world->now + chance_between(&world->chance, 1, 60) * SEC,
					orphans_end, NULL, 0);
}

void
server_kill_elector(Server *server)
{
	World	   *world = server->world;

	if (!server->running)
		return;
	TRACE(world, server, "the elector dies");
	end_elector(server);
	if (server->phase == PHASE_ORPHANED)
		world_later(world, server, world->now + chance_between(&world->chance, 1, 20) * SEC,
					orphans_end, NULL, 0);
	else
		world_later(world, server, world->now + chance_between(&world->chance, 1, 1000) * MS,
					elector_starts, NULL, 0);
}

/* --- the postmaster's last act --- */

static void
program_ends(World *world, Server *server, void *payload, int64_t number)
{
	if (server->phase != PHASE_PROGRAM)
		return;
	memset(&server->todo, 0, sizeof(server->todo));
	server->phase = PHASE_DOWN;
	if (!server->stay_down || server->start_wanted)
		server_start(server);
}

/* As pg_rewind finds it: by the numbers of timelines and where they begin. */
static void
rewind_server(Server *server, const Server *source)
{
	World	   *world = server->world;
	int			ours[SIM_BRANCHES_MAX];
	int			theirs[SIM_BRANCHES_MAX];
	int			nours = 0;
	int			ntheirs = 0;

	if (server_timeline(server) == server_timeline(source))
		return;					/* "no rewind required" */
	for (int b = server->branch; b >= 0; b = world->branches[b].parent)
		ours[nours++] = b;
	for (int b = source->branch; b >= 0; b = world->branches[b].parent)
		theirs[ntheirs++] = b;

	/* From the oldest on, as long as the numbers agree. */
	while (nours > 0 && ntheirs > 0 &&
		   world->branches[ours[nours - 1]].timeline == world->branches[theirs[ntheirs - 1]].timeline &&
		   world->branches[ours[nours - 1]].lsn == world->branches[theirs[ntheirs - 1]].lsn)
	{
		if (ours[nours - 1] != theirs[ntheirs - 1])
			world_violation(world, "I9", "pg_rewind takes two histories of timeline %u for one on %s",
							world->branches[ours[nours - 1]].timeline, world_name(server));
		nours--;
		ntheirs--;
	}
	server->branch = server->history = source->branch;
	server->lsn = source->lsn;
}

/* As rewind.c, S18: is the timeline's number in the source's history? */
static bool
is_named(const Server *source, uint32_t timeline)
{
	const World *world = source->world;

	for (int b = source->branch; b >= 0 && timeline != 0; b = world->branches[b].parent)
	{
		if (world->branches[b].timeline == timeline)
			return true;
	}
	return false;
}

static void
rejoin_ends(World *world, Server *server, void *payload, int64_t number)
{
	Server	   *source = &world->servers[number];

	if (server->phase != PHASE_PROGRAM)
		return;
	if (!world_linked(world, server, source) || source->phase != PHASE_PRIMARY ||
		(world->now < world->calm_at && chance_one_in(&world->chance, 10)))
	{
		TRACE(world, server, "could not rejoin");
		server->problem_at = server_local(server, world->now);
	}
	else if (server->todo.kind == ELECTOR_TODO_REWIND && is_named(source, server->state.stray) &&
			 !world->settings[server->node].may_clone)
	{
		TRACE(world, server, "must not be rewound");
		server->problem_at = server_local(server, world->now);
	}
	else if (server->todo.kind == ELECTOR_TODO_REWIND && !is_named(source, server->state.stray))
	{
		server->was_primary = false;
		rewind_server(server, source);
		TRACE(world, server, "is rewound to %u/%llu", server_timeline(server),
			  (unsigned long long) server->lsn);
	}
	else
	{
		server->was_primary = false;
		server->branch = source->branch;
		server->lsn = source->lsn;
		server->newest_timeline = source->newest_timeline;
		server->history = source->history;
		elector_state_clone(&server->state);
		TRACE(world, server, "is cloned");
	}
	if (server_timeline(server) > server->newest_timeline)
		server->newest_timeline = server_timeline(server);
	program_ends(world, server, NULL, 0);
}

static void
released_or_not(Server *server)
{
	World	   *world = server->world;
	int			source;

	server->leadership.present = false;
	switch (server->todo.kind)
	{
		case ELECTOR_TODO_NONE:
		case ELECTOR_TODO_STANDBY:
		case ELECTOR_TODO_HANDOVER:
			world_later(world, server, world->now + MS, program_ends, NULL, 0);
			break;
		case ELECTOR_TODO_REWIND:
		case ELECTOR_TODO_CLONE:
			source = atoi(server->todo.source);
			world_later(world, server, world->now + chance_between(&world->chance, 200, 4000) * MS,
						rejoin_ends, NULL, source);
			break;
	}
}

static void
ask_for_keys(World *world, Server *server, void *payload, int64_t number)
{
	ElectorErrand errand = {ELECTOR_ERRAND_LOAD};

	if (server->phase != PHASE_PROGRAM)
		return;
	if (world->now >= server->program_until)
	{
		released_or_not(server);
		return;
	}
	faults_moment(world, server, MOMENT_RELEASING);
	errand.bound = REQUEST_BOUND;
	etcd_run(server, &errand, true);
}

static void
revoke_led_lease(Server *server)
{
	ElectorErrand errand = {ELECTOR_ERRAND_REVOKE};

	errand.lease = server->leadership.lease;
	errand.bound = REQUEST_BOUND;
	etcd_run(server, &errand, true);
}

void
server_program_answered(Server *server, const EtcdReply *reply)
{
	static ElectorChange change;
	World	   *world = server->world;
	const ElectorLeader *leader = &server->program_cluster.leader;
	ElectorErrand errand = {ELECTOR_ERRAND_COMMIT};
	ElectorPosition position = {0};

	if (server->phase != PHASE_PROGRAM || !server->leadership.present ||
		reply->errand.kind == ELECTOR_ERRAND_REVOKE)
		return;
	if (reply->errand.kind == ELECTOR_ERRAND_COMMIT && reply->result.succeeded)
	{
		TRACE(world, server, "the program released term %llu at %llu",
			  (unsigned long long) server->leadership.term,
			  (unsigned long long) server->checkpoint);
		revoke_led_lease(server);
		released_or_not(server);
		return;
	}
	if (reply->errand.kind != ELECTOR_ERRAND_LOAD || reply->result.status != ELECTOR_ETCD_OK)
	{
		world_later(world, server, world->now + 50 * MS, ask_for_keys, NULL, 0);
		return;
	}
	memset(&server->program_cluster, 0, sizeof(server->program_cluster));
	etcd_fill_cluster(world, &server->program_cluster, reply->kvs, reply->result.revision);
	if (!leader->present ||
		(!elector_change_releases(leader, &server->leadership) && ELECTOR_RULE(RELEASE_OWN_KEY)))
	{
		revoke_led_lease(server);
		released_or_not(server);
		return;
	}
	if (server->checkpoint != 0)
	{
		position.timeline = server_timeline(server);
		position.lsn = server->checkpoint;
	}
	elector_change_release(&change, &server->program_cluster, &server->leadership,
						   server->checkpoint != 0 ? &position : NULL, -1);
	errand.deed = ELECTOR_DEED_RELEASE;
	errand.bound = REQUEST_BOUND;
	errand.change = &change;
	etcd_run(server, &errand, true);
}

static void
run_program(Server *server)
{
	World	   *world = server->world;

	server->phase = PHASE_PROGRAM;
	server->program_until = world->now + RELEASE_BOUND;
	if (server->leadership.present)
		ask_for_keys(world, server, NULL, 0);
	else
		released_or_not(server);
}

/* --- stopping --- */

static void
has_stopped(World *world, Server *server, void *payload, int64_t number)
{
	if (server->phase != PHASE_STOPPING)
		return;
	server->life++;
	end_elector(server);
	clear_shared_memory(server);
	server_take_state(server);
	server_disconnect(server);
	break_streams(server, 100, 2 * MS);
	if (server->todo.kind == ELECTOR_TODO_NONE && !server->leadership.present)
	{
		server->phase = PHASE_DOWN;
		if (!server->stay_down || server->start_wanted)
			server_start(server);
		return;
	}
	run_program(server);
}

/* Walsenders end when everything has arrived; those that are cut off, late. */
static ElectorTime
until_all_sent(Server *server)
{
	World	   *world = server->world;
	ElectorTime wait = 3 * world->delay + chance_between(&world->chance, 1, 5) * MS;

	for (int i = 0; i < world->nservers; i++)
	{
		Server	   *follower = &world->servers[i];

		if (follower->streaming && follower->upstream == server->index &&
			!world_linked(world, server, follower))
			wait = chance_between(&world->chance, 1, 60) * SEC;
	}
	return wait;
}

static void
shuts_down(World *world, Server *server, void *payload, int64_t number)
{
	if (server->phase != PHASE_STOPPING)
		return;
	server->running = false;
	server->elector_life++;
	server->watching = false;
	if (number)
	{
		server->checkpoint = server->lsn;
		server->lsn += CHECKPOINT_SIZE;
		server_wal_flushed(server);
		world_later(world, server, world->now + until_all_sent(server), has_stopped, NULL, 0);
	}
	else
		has_stopped(world, server, NULL, 0);
}

static void
killed_at_once(World *world, Server *server, void *payload, int64_t number)
{
	if (server->phase == PHASE_STOPPING)
		has_stopped(world, server, NULL, 0);
}

void
server_stop(Server *server, ElectorStop how, bool stay_down)
{
	World	   *world = server->world;
	bool		primary = server->phase == PHASE_PRIMARY;

	if (!server_accepts(server))
		return;
	note_end(server);
	server->stay_down = stay_down;
	server->checkpoint = 0;
	server->promoting = false;
	server->phase = PHASE_STOPPING;
	if (how == ELECTOR_STOP_IMMEDIATE)
	{
		world_later(world, server, world->now + server->stall +
					chance_between(&world->chance, 1, 10) * MS, killed_at_once, NULL, 0);
		return;
	}
	if (server->running && server->stall == 0 && !server->doomed)
		elector_finish(&server->elector);
	world_later(world, server, world->now + server->stall +
				chance_between(&world->chance, 10, primary ? 300 : 60) * MS,
				shuts_down, NULL, primary);
}

/* --- promotion by hand (S18) --- */

void
server_promote_by_hand(Server *server)
{
	World	   *world = server->world;
	Branch	   *branch;

	if (server->phase != PHASE_STANDBY || world->nbranches == SIM_BRANCHES_MAX)
		return;
	branch = &world->branches[world->nbranches];
	branch->timeline = ++server->newest_timeline;
	branch->parent = server->branch;
	branch->lsn = server->lsn;
	branch->term = 0;
	server->branch = server->history = world->nbranches++;
	server->lsn += RECORD_SIZE;
	server->phase = PHASE_PRIMARY;
	server->promoting = false;
	server_disconnect(server);
	TRACE(world, server, "is promoted by hand to timeline %u", branch->timeline);
	server_round_soon(server);
}
