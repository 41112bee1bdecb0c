/*
 * world.c
 *	  One world: made from a seed, run until it is calm again.
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK (256 * 1024)

/* A world that is well for so long has come to its end. */
#define WELL (20 * SEC)

int			world_theme = THEMES;

/* --- memory --- */

void *
world_alloc(World *world, size_t size)
{
	size = (size + 15) & ~(size_t) 15;
	if (world->nchunks == 0 || world->chunk_used + size > CHUNK)
	{
		world->chunks = realloc(world->chunks, (size_t) (world->nchunks + 1) * sizeof(char *));
		world->chunks[world->nchunks++] = malloc(CHUNK);
		world->chunk_used = 0;
	}
	world->chunk_used += size;
	return world->chunks[world->nchunks - 1] + world->chunk_used - size;
}

void
world_free(World *world)
{
	for (int i = 0; i < world->queue.count; i++)
		free(world->queue.events[i].payload);
	free(world->queue.events);
	for (int i = 0; i < world->nchunks; i++)
		free(world->chunks[i]);
	free(world->chunks);
	free(world->etcd.log);
	if (world->trace != NULL)
	{
		for (int i = 0; i < SIM_TRACE_LINES; i++)
			free(world->trace[i]);
	}
	free(world->trace);
}

/* --- what is told --- */

const char *
world_name(const Server *server)
{
	static char names[4][ELECTOR_NAME_SIZE + 2];
	static int	next = 0;
	char	   *name = names[next++ % 4];

	snprintf(name, sizeof(names[0]), "%s%s", server->world->names[server->node],
			 server->index >= server->world->nnodes ? "'" : "");
	return name;
}

void
world_trace(World *world, const Server *server, const char *format,...)
{
	char		text[512];
	char		line[640];
	char	  **place;
	va_list		arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	snprintf(line, sizeof(line), "%5lld.%06lld %-4s %s", (long long) (world->now / SEC),
			 (long long) (world->now % SEC), server != NULL ? world_name(server) : "-", text);
	if (world->telling)
	{
		printf("# %s\n", line);
		return;
	}
	if (world->trace == NULL)
		world->trace = calloc(SIM_TRACE_LINES, sizeof(char *));
	place = &world->trace[world->ntrace++ % SIM_TRACE_LINES];
	free(*place);
	*place = strdup(line);
}

/* The first one counts; what follows from it is no news. */
static void
break_invariant(World *world, const char *invariant, const char *format, va_list arguments)
{
	Violation  *violation = &world->violation;

	if (violation->found)
		return;
	violation->found = true;
	violation->at = world->now;
	snprintf(violation->invariant, sizeof(violation->invariant), "%s", invariant);
	vsnprintf(violation->text, sizeof(violation->text), format, arguments);
	TRACE(world, NULL, "%s BROKEN: %s", invariant, violation->text);
}

void
world_violation(World *world, const char *invariant, const char *format,...)
{
	va_list		arguments;

	if (world_only_loss)
		return;
	va_start(arguments, format);
	break_invariant(world, invariant, format, arguments);
	va_end(arguments);
}

/* An acknowledged commit is lost: what all the rest is for. */
void
world_loss(World *world, const char *format,...)
{
	va_list		arguments;

	va_start(arguments, format);
	break_invariant(world, "I2", format, arguments);
	va_end(arguments);
}

/* --- events --- */

void
world_later(World *world, Server *server, ElectorTime at, EventFunction function,
			void *payload, int64_t number)
{
	queue_add(&world->queue, (Event)
			  {
				  .at = at, .function = function, .server = server,
				  .life = server != NULL ? server->life : 0,
				  .payload = payload, .number = number
			  });
}

void
world_elector_later(Server *server, ElectorTime at, EventFunction function, void *payload,
					int64_t number)
{
	queue_add(&server->world->queue, (Event)
			  {
				  .at = at, .function = function, .server = server,
				  .term = server->elector_life, .payload = payload, .number = number
			  });
}

static void
serve(World *world, Event event)
{
	Server	   *server = event.server;

	if (server != NULL)
	{
		if ((event.life != 0 && event.life != server->life) ||
			(event.term != 0 && event.term != server->elector_life))
		{
			free(event.payload);
			return;
		}
		if (server->paused_until > world->now ||
			(event.term != 0 && server->elector_paused_until > world->now))
		{
			event.at = server->paused_until > world->now ? server->paused_until :
				server->elector_paused_until;
			queue_add(&world->queue, event);
			return;
		}
	}
	world->counters.events++;
	event.function(world, server, event.payload, event.number);
	free(event.payload);
	check_always(world);
}

/* --- the network --- */

ElectorTime
world_transit(World *world)
{
	ElectorTime typical = world->slow_until > world->now ? world->slow_delay : world->delay;
	ElectorTime transit = typical / 2 + chance_between(&world->chance, 0, typical);

	/* One draw a statement: C does not say in which order operands are drawn. */
	if (chance_one_in(&world->chance, 200))
		transit += chance_between(&world->chance, 0, 200 * MS);
	return transit;
}

bool
world_lost(World *world)
{
	return world->loss != 0 && chance_one_in(&world->chance, world->loss);
}

bool
world_linked(const World *world, const Server *from, const Server *to)
{
	return world->cut[from->index][to->index] == 0 && world->cut[to->index][from->index] == 0 &&
		from->paused_until <= world->now && to->paused_until <= world->now;
}

/* --- settings --- */

/* Narrow, as wide as any clock may be wrong, or wider. */
static ElectorTime
choose_margin(Chance *chance, ElectorTime ttl)
{
	switch (chance_between(chance, 0, 3))
	{
		case 0:
			return ttl / 200 + 5 * MS;
		case 1:
			return ttl / 5;
		case 2:
			return ttl / 2;
		default:
			return ttl / 10;
	}
}

/* One that the members can satisfy, where their zones allow it. */
const char *
world_policy(Chance *chance, int nnodes)
{
	switch (chance_between(chance, 0, 9))
	{
		case 0:
			return "async";
		case 1:
		case 2:
			return nnodes > 2 ? "any 2" : "any 1";
		case 3:
		case 4:
			return nnodes > 4 && chance_one_in(chance, 2) ? "zones 2" : "zones 1";
		case 5:
		case 6:
			return "next";
		default:
			return "any 1";
	}
}

static void
choose_settings(World *world)
{
	Chance	   *chance = &world->chance;
	const ElectorTime ttls[] = {2, 2, 3, 5, 10, 10, 20};
	ElectorTime ttl = ttls[chance_between(chance, 0, 6)] * SEC;
	ElectorTime margin = choose_margin(chance, ttl);
	ElectorTime fence_timeout = chance_between(chance, 1, 10) * 100 * MS;
	ElectorTime cold_start_wait = chance_between(chance, 0, 30) * SEC;
	ElectorTime cooldown = chance_one_in(chance, 2) ? 0 : chance_between(chance, 1, 30) * SEC;
	ElectorTime drain_timeout = chance_between(chance, 0, 500) * MS;
	int			rejoin = (int) chance_between(chance, 0, 7);
	bool		may_degrade = chance_one_in(chance, 4);
	ElectorTime degrade_after = chance_between(chance, 0, 5000) * MS;
	ElectorTime follower_timeout = chance_between(chance, 1, 40) * SEC;
	bool		failsafe = !chance_one_in(chance, 4);
	const char *policy;

	world->theme = chance_one_in(chance, 3) ? THEME_ANY :
		(Theme) chance_between(chance, 1, THEMES - 1);
	if (world_theme != THEMES)
		world->theme = (Theme) world_theme;
	world->delay = chance_between(chance, 100, 3000);
	world->client_gap = chance_one_in(chance, 3) ? 100 * MS : 3 * SEC;
	world->nnodes = (int) chance_between(chance, 2, 4);
	if (world->nnodes == 4)
		world->nnodes = chance_one_in(chance, 2) ? 3 : 5;
	world->nservers = world->nnodes + 1;
	policy = world_policy(chance, world->nnodes);
	world->synchronous = chance_one_in(chance, 2) || world->theme == THEME_DURABILITY;
	if (!world->synchronous)
		policy = "async";
	for (int i = 0; i < world->nnodes; i++)
	{
		ElectorSettings *settings = &world->settings[i];

		snprintf(world->names[i], sizeof(world->names[i]), "n%d", i + 1);
		snprintf(settings->node, sizeof(settings->node), "n%d", i + 1);
		settings->system = 1;
		settings->priority = chance_one_in(chance, 4) ? 50 : 100;

		/* Two candidates at least. */
		settings->candidate = i < 2 || !chance_one_in(chance, 6);
		settings->lease_ttl = ttl;
		settings->lease_margin = margin;
		settings->fence_timeout = fence_timeout;
		settings->cold_start_wait = cold_start_wait;
		settings->failover_cooldown = cooldown;
		settings->drain_timeout = drain_timeout;
		settings->maximum_lag = chance_one_in(chance, 4) ? 200 : -1;
		settings->may_rejoin = rejoin != 0 || world->synchronous;
		settings->may_clone = rejoin > 4 || world->synchronous;
		settings->may_degrade = may_degrade;
		settings->degrade_after = degrade_after;
		settings->follower_timeout = follower_timeout;
		settings->failsafe = failsafe;
		snprintf(settings->durability, sizeof(settings->durability), "%s", policy);
		snprintf(settings->zone, sizeof(settings->zone), "z%d", i % 3);
	}

	if (world->theme == THEME_LEASE)
	{
		/* Quick elections, so that what is late is too late. */
		ttl = chance_between(chance, 2, 3) * SEC;
		margin = chance_one_in(chance, 2) ? ttl / 100 : ttl / 10;
		for (int i = 0; i < world->nnodes; i++)
		{
			world->settings[i].lease_ttl = ttl;
			world->settings[i].lease_margin = margin;
			world->settings[i].fence_timeout = 100 * MS;
			world->settings[i].failover_cooldown = 0;
			world->settings[i].cold_start_wait = 0;
			world->settings[i].maximum_lag = -1;
		}
	}

	if (world->theme == THEME_FAILSAFE)
	{
		/* Promises come and go, and there are few to give them. */
		ElectorTime follower_timeout = chance_between(chance, 1, 20) * SEC;

		ttl = chance_between(chance, 2, 4) * SEC;
		margin = chance_one_in(chance, 2) ? ttl / 100 : ttl / 10;
		if (margin < ttl / 10 && chance_one_in(chance, 2))
			world->delay = chance_between(chance, 20, 60) * MS;
		for (int i = 0; i < world->nnodes; i++)
		{
			world->settings[i].failsafe = true;
			world->settings[i].lease_ttl = ttl;
			world->settings[i].lease_margin = margin;
			world->settings[i].fence_timeout = chance_between(chance, 1, 4) * 100 * MS;
			world->settings[i].failover_cooldown = 0;
			world->settings[i].cold_start_wait = chance_between(chance, 0, 3) * SEC;
			world->settings[i].follower_timeout = follower_timeout;
			world->settings[i].maximum_lag = -1;
		}
	}

	if (world->theme == THEME_DURABILITY)
	{
		/* Members are dropped and come back all the time. */
		ElectorTime follower_timeout = chance_between(chance, 1, chance_one_in(chance, 3) ? 60 : 10) *
			100 * MS;
		bool		may_degrade = chance_one_in(chance, 6);

		ttl = chance_between(chance, 2, 4) * SEC;
		margin = ttl / 10;
		world->client_gap = chance_between(chance, 20, 400) * MS;
		for (int i = 0; i < world->nnodes; i++)
		{
			world->settings[i].lease_ttl = ttl;
			world->settings[i].lease_margin = margin;
			world->settings[i].fence_timeout = chance_between(chance, 1, 4) * 100 * MS;
			world->settings[i].failover_cooldown = 0;
			world->settings[i].cold_start_wait = chance_between(chance, 0, 3) * SEC;
			world->settings[i].follower_timeout = follower_timeout;
			world->settings[i].may_degrade = may_degrade;
			snprintf(world->settings[i].zone, ELECTOR_NAME_SIZE, "z%d",
					 (int) chance_between(chance, 0, 2));
		}
	}

	/* What the margin is for, up to a tenth; in parts per million. */
	if (margin > ttl / 10)
		margin = ttl / 10;
	world->drift = margin * (chance_one_in(chance, 3) ? 950000 : 400000) / ttl;
	world->open_bound = 30 * SEC + 4 * ttl + cold_start_wait + cooldown;
	world->bound = 120 * SEC + 6 * ttl + cold_start_wait + cooldown;

	/* Who has to come back first has to be rewound or cloned first. */
	if (world->synchronous)
	{
		world->open_bound += 60 * SEC;
		world->bound += 60 * SEC;
	}
}

static void
first_start(World *world, Server *server, void *payload, int64_t number)
{
	server_start(server);
}

/* All at once, or the last one much later. */
static ElectorTime
joins_at(World *world, int node)
{
	ElectorTime at = chance_between(&world->chance, 1, 3000) * MS;

	if (world->theme == THEME_FAILSAFE && node == world->nnodes - 1 &&
		chance_one_in(&world->chance, 2))
		at += chance_between(&world->chance, 1, 60) * SEC;
	return at;
}

static void
should_be_led(World *world, Server *server, void *payload, int64_t number)
{
	check_led(world);
}

static void
end_of_world(World *world, Server *server, void *payload, int64_t number)
{
	check_calm(world);
	world->stopped = true;
}

/* All faults are over, and all is well: that it stays so is seen soon. */
static void
looks_whether_well(World *world, Server *server, void *payload, int64_t number)
{
	const Server *who;

	if (!check_is_well(world, &who))
		world->well_since = 0;
	else if (world->well_since == 0)
		world->well_since = world->now;
	else if (world->now >= world->well_since + WELL)
		world->stopped = true;
	world_later(world, NULL, world->now + SEC, looks_whether_well, NULL, 0);
}

/*
 * Run the world of this seed, to the end or until something is broken.  faults:
 * those to have; NULL: those of the seed.
 */
void
world_run(World *world, uint64_t seed, const Fault *faults, int nfaults, Tracing tracing)
{
	memset(world, 0, sizeof(*world));
	world->seed = seed;
	world->tracing = tracing != TRACING_OFF;
	world->telling = tracing == TRACING_ALL;
	world->chance.state = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
	world->next_number = 1000;
	world->corpse = -1;
	choose_settings(world);
	world->branches[0] = (Branch) {1, -1, 0, 0, 0};
	world->nbranches = 1;
	etcd_begin(world);
	for (int i = 0; i < world->nservers; i++)
	{
		Server	   *server = &world->servers[i];

		server_create(world, i, i < world->nnodes ? i : 0);
		server->lsn = 1000;
		server->newest_timeline = 1;
		server->exists = i < world->nnodes;
		if (server->exists)
			world_later(world, server, joins_at(world, i), first_start, NULL, 0);
	}
	server_begin_clients(world);

	world->nfaults = faults_plan(world, world->faults);
	if (faults != NULL)
	{
		memcpy(world->faults, faults, (size_t) nfaults * sizeof(Fault));
		world->nfaults = nfaults;
	}
	faults_begin(world);
	world_later(world, NULL, world->calm_at + SEC, looks_whether_well, NULL, 0);
	world_later(world, NULL, world->calm_at + world->open_bound, should_be_led, NULL, 0);
	world_later(world, NULL, world->calm_at + world->bound, end_of_world, NULL, 0);

	while (!world->stopped && !world->violation.found)
	{
		Event		event = queue_take(&world->queue);

		world->now = event.at;
		serve(world, event);
	}
	world->counters.time = world->now;
}
