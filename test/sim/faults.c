/*
 * faults.c
 *	  What goes wrong: a plan made from the seed, and how each of it is done.
 *
 * Every world draws which kinds of fault it has at all, so that some are rare
 * mixtures and some are full of one kind.  Half of the faults come soon after
 * another, and many wait for a moment of an election.
 *
 * The trap: a plan is a list, and leaving one out must leave the others what
 * they were (--shrink).
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For so long after something has happened clients write a lot. */
#define BUSY (3 * SEC)

typedef enum FaultKind
{
	FAULT_POWER,				/* the machine goes down */
	FAULT_KILL_POSTMASTER,
	FAULT_CRASH,				/* a backend crashes: restart in place */
	FAULT_KILL_ELECTOR,
	FAULT_PAUSE_MACHINE,
	FAULT_PAUSE_ELECTOR,
	FAULT_STOP,					/* pg_ctl stop */
	FAULT_RESTART,				/* pg_ctl restart */
	FAULT_SWITCHOVER,			/* requested, at once or for later */
	FAULT_CANCEL,				/* of a switchover */
	FAULT_FAILOVER,				/* at an operator's word, whatever is lost */
	FAULT_PAUSE,				/* of the cluster, by the operator */
	FAULT_HOLD,					/* of the leader, by somebody who works there */
	FAULT_POLICY,				/* another one is set, on one node after the other */
	FAULT_LAG,					/* a standby gets no WAL */
	FAULT_DOUBLE,				/* the leader fails, and all who have its newest
								 * commit: power */
	FAULT_DOUBLE_CUT,			/* likewise: cut off */
	FAULT_CUT_PAIR,
	FAULT_CUT_ONE_WAY,
	FAULT_CUT_PEERS,			/* from all other nodes */
	FAULT_CUT_NODE,				/* from all other nodes and from etcd */
	FAULT_CUT_ETCD,				/* from all of etcd */
	FAULT_CUT_FROM_ETCD,		/* its answers do not come back */
	FAULT_CUT_SITE,				/* several servers from etcd, and maybe from
								 * the others */
	FAULT_LEFT_ALONE,			/* first etcd goes, then the other servers */
	FAULT_CUT_ETCD_MEMBER,
	FAULT_ETCD_MEMBER,			/* is down */
	FAULT_ETCD_ISOLATED,
	FAULT_PARTITION,			/* a server and a member of etcd are on one
								 * side */
	FAULT_ETCD_DOWN,
	FAULT_ETCD_COMPACTED,
	FAULT_ETCD_RESTORED,		/* from a backup */
	FAULT_ETCD_SLOW,			/* each answer by up to half of lease_ttl */
	FAULT_SLOW,
	FAULT_LOSS,
	FAULT_DISK,
	FAULT_DISK_STUCK,			/* takes no write at all */
	FAULT_WAL_FULL,				/* no room for another segment */
	FAULT_CRASH_AT_STEP,
	FAULT_BY_HAND,				/* pg_ctl promote */
	FAULT_DELETE_LEADER,		/* etcdctl del */
	FAULT_RESTORE,				/* the data directory, from a backup */
	FAULT_COPY,					/* of the data directory is started elsewhere */
	FAULTS
} FaultKind;

static const char *const names[FAULTS] = {
	[FAULT_POWER] = "power cut",
	[FAULT_KILL_POSTMASTER] = "postmaster killed",
	[FAULT_CRASH] = "backend crash",
	[FAULT_KILL_ELECTOR] = "elector killed",
	[FAULT_PAUSE_MACHINE] = "machine paused",
	[FAULT_PAUSE_ELECTOR] = "elector paused",
	[FAULT_STOP] = "stopped",
	[FAULT_RESTART] = "restarted",
	[FAULT_SWITCHOVER] = "switchover requested",
	[FAULT_FAILOVER] = "failover requested",
	[FAULT_CANCEL] = "switchover canceled",
	[FAULT_PAUSE] = "cluster paused",
	[FAULT_HOLD] = "leader held",
	[FAULT_POLICY] = "policy changed",
	[FAULT_LAG] = "no WAL arrives",
	[FAULT_DOUBLE] = "leader and those with its commits down",
	[FAULT_DOUBLE_CUT] = "leader and those with its commits cut off",
	[FAULT_CUT_PAIR] = "pair cut",
	[FAULT_CUT_ONE_WAY] = "cut one way",
	[FAULT_CUT_PEERS] = "cut off from its peers",
	[FAULT_CUT_NODE] = "cut off",
	[FAULT_CUT_ETCD] = "cut off from etcd",
	[FAULT_CUT_FROM_ETCD] = "etcd's answers lost",
	[FAULT_CUT_SITE] = "cut off together",
	[FAULT_LEFT_ALONE] = "cut off from etcd, and later from its peers",
	[FAULT_CUT_ETCD_MEMBER] = "cut off from a member of etcd",
	[FAULT_ETCD_MEMBER] = "member of etcd down",
	[FAULT_ETCD_ISOLATED] = "member of etcd isolated",
	[FAULT_PARTITION] = "partition",
	[FAULT_ETCD_DOWN] = "etcd down",
	[FAULT_ETCD_COMPACTED] = "etcd compacted",
	[FAULT_ETCD_RESTORED] = "etcd restored from a backup",
	[FAULT_ETCD_SLOW] = "etcd slow",
	[FAULT_SLOW] = "network slow",
	[FAULT_LOSS] = "messages lost",
	[FAULT_DISK] = "disks stall",
	[FAULT_DISK_STUCK] = "disk stuck",
	[FAULT_WAL_FULL] = "no room for WAL",
	[FAULT_CRASH_AT_STEP] = "crash between two steps",
	[FAULT_BY_HAND] = "promoted by hand",
	[FAULT_DELETE_LEADER] = "leader key deleted",
	[FAULT_RESTORE] = "restored from a backup",
	[FAULT_COPY] = "copy started elsewhere"
};

void
fault_describe(const World *world, const Fault *fault, char *text, size_t size)
{
	const char *const moments[MOMENTS] = {
		[MOMENT_ANY] = "",
		[MOMENT_LOCKED] = ", after a lock",
		[MOMENT_FENCED] = ", after a fence",
		[MOMENT_TAKEN] = ", after an establishment",
		[MOMENT_PROMOTED] = ", after a promotion",
		[MOMENT_BEGUN] = ", after a beginning",
		[MOMENT_OPENED] = ", after an opening",
		[MOMENT_RULE] = ", after a change of the rule",
		[MOMENT_NAMES] = ", after names were loaded",
		[MOMENT_RECORDING] = ", when it is recorded who has to promise, or by which rule",
		[MOMENT_RELEASING] = ", after a stop"
	};

	snprintf(text, size, "at %lld.%03lld s%s+%lld ms: %s, a=%d b=%d, for %lld ms, amount %lld",
			 (long long) (fault->at / SEC), (long long) (fault->at % SEC / MS),
			 moments[fault->moment], (long long) (fault->after / MS), names[fault->kind],
			 fault->a, fault->b, (long long) (fault->lasts / MS), (long long) fault->amount);
}

/* --- the plan --- */

/* Short ones and long ones alike. */
static ElectorTime
duration(Chance *chance)
{
	const ElectorTime scales[] = {20 * MS, 200 * MS, 2 * SEC, 10 * SEC, 40 * SEC};

	return chance_between(chance, 1, scales[chance_between(chance, 0, 4)]);
}

/*
 * Worlds have themes: some faults matter only together, and close together.
 * THEME_ANY draws its kinds by lot.
 */
static const struct
{
	int			count;
	FaultKind	kinds[17];		/* one may be named twice */
}			themes[THEMES] =
{
	[THEME_LEASE] = {9, {FAULT_SLOW, FAULT_CUT_ETCD, FAULT_CUT_FROM_ETCD, FAULT_PAUSE_ELECTOR,
	FAULT_PARTITION, FAULT_CUT_NODE, FAULT_LOSS, FAULT_PARTITION, FAULT_ETCD_SLOW}},
	[THEME_ELECTION] = {8, {FAULT_KILL_POSTMASTER, FAULT_CRASH_AT_STEP, FAULT_KILL_ELECTOR,
	FAULT_CUT_PAIR, FAULT_PAUSE_ELECTOR, FAULT_CUT_NODE, FAULT_POWER, FAULT_DISK}},
	[THEME_MEDDLING] = {8, {FAULT_BY_HAND, FAULT_DELETE_LEADER, FAULT_COPY, FAULT_CRASH,
	FAULT_ETCD_RESTORED, FAULT_PAUSE_MACHINE, FAULT_RESTORE, FAULT_SLOW}},
	[THEME_DURABILITY] = {12, {FAULT_LAG, FAULT_DOUBLE, FAULT_POLICY, FAULT_CUT_NODE, FAULT_POWER,
	FAULT_DOUBLE_CUT, FAULT_LAG, FAULT_PAUSE_ELECTOR, FAULT_KILL_POSTMASTER, FAULT_CUT_PAIR,
	FAULT_CUT_PEERS, FAULT_CUT_ETCD}},
	[THEME_FAILSAFE] = {17, {FAULT_LEFT_ALONE, FAULT_LEFT_ALONE, FAULT_LEFT_ALONE,
	FAULT_CUT_SITE, FAULT_CUT_SITE, FAULT_CUT_SITE, FAULT_ETCD_DOWN,
	FAULT_CUT_SITE, FAULT_POWER, FAULT_KILL_ELECTOR, FAULT_CUT_PAIR, FAULT_COPY, FAULT_CUT_ETCD,
	FAULT_CRASH, FAULT_SLOW, FAULT_FAILOVER, FAULT_POLICY}},
	[THEME_HANDOVER] = {10, {FAULT_SWITCHOVER, FAULT_SWITCHOVER, FAULT_STOP, FAULT_RESTART,
	FAULT_PAUSE, FAULT_CUT_PAIR, FAULT_PAUSE_MACHINE, FAULT_CANCEL, FAULT_HOLD, FAULT_WAL_FULL}}
};

static int
choose_kind(const World *world, Chance *chance, const bool *used)
{
	int			kind;

	if (world->theme != THEME_ANY)
		return themes[world->theme].kinds[chance_between(chance, 0,
														 themes[world->theme].count - 1)];
	do
		kind = (int) chance_between(chance, 0, FAULTS - 1);
	while (!used[kind]);
	return kind;
}

static ElectorTime
how_long(const World *world, Chance *chance)
{
	if (world->theme == THEME_LEASE)
		return chance_between(chance, 1, 3 * world->settings[0].lease_ttl);
	if (world->theme == THEME_FAILSAFE)
		return chance_between(chance, 1, (chance_one_in(chance, 2) ? 2 : 8) *
							  world->settings[0].lease_ttl);
	if (world->theme == THEME_DURABILITY && !chance_one_in(chance, 4))
		return chance_between(chance, 200, chance_one_in(chance, 2) ? 8000 : 25000) * MS;
	return duration(chance);
}

static ElectorTime
how_much_later(const World *world, Chance *chance)
{
	if ((world->theme == THEME_LEASE || world->theme == THEME_FAILSAFE) &&
		!chance_one_in(chance, 4))
		return chance_between(chance, 1, (world->theme == THEME_LEASE ? 1 : 3) *
							  world->settings[0].lease_ttl);
	if (world->theme == THEME_DURABILITY && !chance_one_in(chance, 4))
		return chance_between(chance, 1, chance_one_in(chance, 2) ? 800 : 6000) * MS;
	if (chance_one_in(chance, 2))
		return duration(chance) / 4;
	return chance_between(chance, 1, 60) * SEC;
}

int
faults_plan(World *world, Fault *faults)
{
	Chance		chance = {world->seed * UINT64_C(0x9fb21c651e98df25) + 7};
	bool		used[FAULTS];
	int			count = (int) chance_between(&chance, 1, world->theme == THEME_LEASE ? 40 :
											 world->theme == THEME_DURABILITY ||
											 world->theme == THEME_FAILSAFE ? 25 : 14);
	ElectorTime at = chance_between(&chance, 5, 30) * SEC;
	int			nused = 0;
	bool		meddled = false;

	for (int kind = 0; kind < FAULTS; kind++)
		nused += used[kind] = chance_one_in(&chance, 4);
	if (nused == 0)
		used[chance_between(&chance, 0, FAULTS - 1)] = true;
	for (int i = 0; i < count; i++)
	{
		Fault	   *fault = &faults[i];

		memset(fault, 0, sizeof(*fault));
		fault->kind = choose_kind(world, &chance, used);

		/*
		 * Who restores several things, or promotes several nodes by hand, has
		 * to say which is to lead.
		 */
		if (fault->kind == FAULT_RESTORE || fault->kind == FAULT_BY_HAND ||
			fault->kind == FAULT_ETCD_RESTORED || fault->kind == FAULT_COPY)
		{
			if (meddled)
				fault->kind = FAULT_CRASH;
			meddled = true;
		}
		fault->at = at;
		if (chance_one_in(&chance, world->theme == THEME_DURABILITY ? 2 : 3))
		{
			fault->moment = (Moment) chance_between(&chance, 1, MOMENTS - 1);
			fault->after = chance_between(&chance, 0, chance_one_in(&chance, 3) ? 1000 : 60) * MS;
		}
		fault->lasts = how_long(world, &chance);
		fault->a = (int) chance_between(&chance, 0, world->nnodes - 1);
		if (fault->moment != MOMENT_ANY && chance_one_in(&chance, 2))
			fault->a = -1;
		fault->b = (int) chance_between(&chance, 0, world->nnodes - 1);
		fault->amount = chance_between(&chance, 1, 100);
		if (fault->kind == FAULT_CUT_SITE && chance_one_in(&chance, 4))
		{
			/* So soon that etcd's answer is lost. */
			fault->moment = MOMENT_RECORDING;
			fault->after = chance_between(&chance, 0, 3 * world->delay);
			fault->a = -1;
		}
		at += how_much_later(world, &chance);
	}

	/* Of the seed alone, not of which faults are left. */
	world->horizon = at + 10 * SEC;
	world->calm_at = world->horizon + 45 * SEC;
	return count;
}

/* --- doing --- */

static void
change_cut(int *cut, int by)
{
	*cut += by;
}

static void
cut_peers(World *world, int node, int by)
{
	for (int i = 0; i < world->nservers; i++)
	{
		if (i == node)
			continue;
		change_cut(&world->cut[node][i], by);
		change_cut(&world->cut[i][node], by);
	}
}

static void
cut_etcd(World *world, int node, int by, bool there, bool back)
{
	for (int member = 0; member < SIM_ETCD_MEMBERS; member++)
	{
		if (there)
			change_cut(&world->cut_to_etcd[node][member], by);
		if (back)
			change_cut(&world->cut_from_etcd[node][member], by);
	}
}

/* Its operator is told what etcd said last. */
static bool
can_be_asked(Server *server)
{
	if (!server->running || server->elector.acting || !server_accepts(server))
		return false;
	elector_observe(&server->elector);
	return server->elector.view.known;
}

/* To whom it likes, or to the one of that number; at once, or so much later. */
static void
request_switchover(World *world, Server *server, int target, ElectorTime later)
{
	Elector    *elector = &server->elector;
	const char *name = target < world->nnodes ? world->names[target] : "";
	ElectorReason why;

	if (can_be_asked(server) && elector_judge_switchover(&elector->view, name, &why) >= 0)
		elector_request_switchover(elector, name,
								   later == 0 ? 0 : elector->view.wall_ms + later / MS);
}

/* Where there is no leader, whoever can be asked is told to have one. */
static void
request_failover(World *world)
{
	for (int i = 0; i < world->nnodes; i++)
	{
		Server	   *server = &world->servers[i];
		ElectorReason why;

		if (can_be_asked(server) &&
			elector_judge_failover(&server->elector.view, "", &why))
		{
			elector_request_failover(&server->elector, "");
			return;
		}
	}
}

static void
cancel_switchover(Server *server)
{
	if (can_be_asked(server) && server->elector.view.request.present)
		elector_refuse_request(&server->elector, "canceled");
}

/* The first half of the nodes now, the rest in the end. */
static void
change_policy(World *world, const Fault *fault, int by)
{
	Chance		chance = {(uint64_t) fault->at + (uint64_t) fault->amount};
	const char *policy = world_policy(&chance, world->nnodes);

	if (!world->synchronous)
		return;
	for (int i = 0; i < world->nservers; i++)
	{
		Server	   *server = &world->servers[i];
		int			node = server->node;

		if ((by > 0) != (node < world->nnodes / 2))
			continue;
		snprintf(world->settings[node].durability, ELECTOR_NAME_SIZE, "%s", policy);
		if (!server->running)
			continue;
		snprintf(server->elector.settings.durability, ELECTOR_NAME_SIZE, "%s", policy);
		server_round_soon(server);
	}
}

/* Until some node has done it. */
static void
resume(World *world, Server *none, void *payload, int64_t number)
{
	if (!etcd_paused(world))
		return;
	for (int i = 0; i < world->nservers; i++)
	{
		Server	   *server = &world->servers[i];

		if (server->exists && can_be_asked(server) && server->elector.view.paused)
		{
			elector_set_paused(&server->elector, false, "");
			break;
		}
	}
	world_later(world, NULL, world->now + 300 * MS, resume, NULL, 0);
}

/*
 * Its data directory is replaced by one that is older (S10).  Not the last
 * leader's: who does that has to say who is to lead.
 */
static void
restore(Server *server)
{
	const ElectorTerm *term = etcd_term(server->world);

	if (term != NULL && strcmp(term->node, server->world->names[server->node]) == 0)
		return;
	if (server->phase != PHASE_DOWN)
		server_kill(server);
	if (server->backup_lsn == 0)
		return;
	server->world->restored = true;
	server->branch = server->history = server->backup_branch;
	server->lsn = server->backup_lsn;
	server->state = server->backup_state;
	server->was_primary = false;
	server->seen_term = server->state.term;
	server->seen_token = server->state.token;
	server->directory = ++server->world->next_number;
	memset(&server->leadership, 0, sizeof(server->leadership));
	memset(&server->todo, 0, sizeof(server->todo));
}

static void
back_up(Server *server)
{
	server->backup_branch = server->branch;
	server->backup_lsn = server->lsn;
	server->backup_state = server->state;
}

static bool
holds(const Server *server, int branch, ElectorLsn lsn)
{
	return server_on_history(server->world, branch, lsn, server->branch) &&
		(server->branch != branch || server->lsn >= lsn);
}

/*
 * The leader, and all who have its newest commit.  Where everybody has it, the one of
 * that number stays.
 */
static uint32_t
those_with_its_commits(const World *world, int stays)
{
	const ElectorLeader *leader = etcd_leader(world);
	const Server *server;
	uint32_t	mask;
	int			count = 1;

	if (leader == NULL)
		return 0;
	server = &world->servers[leader->node[1] - '1'];
	mask = 1u << server->index;
	for (int i = 0; i < world->nnodes; i++)
	{
		if (i != server->index &&
			holds(&world->servers[i], server->branch, world->branches[server->branch].written))
		{
			mask |= 1u << i;
			count++;
		}
	}
	if (count == world->nnodes && stays != server->index)
		mask &= ~(1u << stays);
	return mask;
}

static void
fail_together(World *world, const Fault *fault, int by, bool power)
{
	for (int i = 0; i < world->nnodes; i++)
	{
		if ((fault->servers & (1u << i)) == 0)
			continue;
		if (!power)
		{
			cut_peers(world, i, by);
			cut_etcd(world, i, by, true, true);
		}
		else if (by > 0)
		{
			server_kill(&world->servers[i]);
			world->servers[i].boot = ++world->next_number;
		}

		/* The rest starts when all is over. */
		else if (fault->amount % 3 == 0 || (fault->amount >> (i + 2)) % 2 == 0)
			server_start(&world->servers[i]);
	}
}

/* A copy of its data directory starts on another machine (S9). */
static void
copy_elsewhere(World *world, Server *server)
{
	Server	   *copy = &world->servers[world->nnodes];

	if (copy->exists || server->index == copy->index)
		return;

	/*
	 * Where its original is cut off for long it may take the name over, and what it then
	 * acknowledges is gone with it.  That is known, and no matter of promises.
	 */
	if (world->theme == THEME_FAILSAFE && world->synchronous)
		return;
	copy->exists = true;
	copy->node = server->node;
	copy->branch = server->branch;
	copy->lsn = server->lsn;
	copy->newest_timeline = server->newest_timeline;
	copy->history = server->history;
	copy->state = server->state;
	copy->was_primary = server->phase == PHASE_PRIMARY;
	copy->seen_term = server->seen_term;
	copy->seen_token = server->seen_token;
	server_start(copy);
}

/*
 * The copy goes.  If it has led last, what it had is gone with it, and an operator has to
 * say who is to lead.
 */
static void
forsake_copy(World *world)
{
	Server	   *copy = &world->servers[world->nnodes];

	if (!copy->exists)
		return;
	world->forsaken = world->opened_by == copy;
	server_kill(copy);
	copy->exists = false;
}

/*
 * The server sees one member of etcd and nobody else, or only its peers do not
 * see it.
 */
static void
partition(World *world, const Fault *fault, Server *server, int by)
{
	int			member = fault->b % SIM_ETCD_MEMBERS;

	if (by > 0)
	{
		server->endpoint = member;
		etcd_move_leader(world, member);
		etcd_isolate(world, member);
	}
	else
	{
		for (int i = 0; i < SIM_ETCD_MEMBERS; i++)
			etcd_rejoin(world, i);
	}
	cut_peers(world, server->index, by);
	if (fault->amount > 50)
		return;
	for (int i = 0; i < SIM_ETCD_MEMBERS; i++)
	{
		if (i == member)
			continue;
		change_cut(&world->cut_to_etcd[server->index][i], by);
		change_cut(&world->cut_from_etcd[server->index][i], by);
	}
}

/* A site is cut off from etcd; with an odd b, from the other servers, too. */
static void
cut_site(World *world, const Fault *fault, const Server *server, int by)
{
	unsigned	site = (unsigned) fault->amount | 1u << server->index;

	/* All but the one that joins late. */
	if (fault->amount > 66)
		site = (1u << (world->nnodes - 1)) - 1;

	for (int i = 0; i < world->nservers; i++)
	{
		if ((site & 1u << i) == 0)
			continue;
		cut_etcd(world, i, by, true, true);
		for (int j = 0; j < world->nservers && fault->b % 2 != 0; j++)
		{
			if ((site & 1u << j) != 0)
				continue;
			change_cut(&world->cut[i][j], by);
			change_cut(&world->cut[j][i], by);
		}
	}
}

/*
 * A leader that was without etcd for a while, and whose peers have answered it late, is
 * alone from now on.  Some of them start anew at that moment.
 */
static void
peers_leave(World *world, Server *none, void *payload, int64_t number)
{
	Server	   *server = &world->servers[number];
	const Fault *fault = payload;

	server->answers_late = 0;
	server->left_alone++;
	cut_peers(world, server->index, 1);
	for (int i = 0; i < world->nnodes && fault->b % 2 == 0; i++)
	{
		if (i == server->index)
			continue;
		if (fault->amount % 2 == 0)
			server_kill_elector(&world->servers[i]);
		else
			server_crash_in_place(&world->servers[i]);
	}
}

static void
leave_alone(World *world, const Fault *fault, Server *server, int by)
{
	ElectorTime lasts = fault->lasts;
	Fault	   *copy;

	cut_etcd(world, server->index, by, true, true);
	if (by < 0)
	{
		if (server->left_alone > 0)
			cut_peers(world, server->index, -1);
		server->left_alone -= server->left_alone > 0;
		return;
	}
	if (world->now + lasts > world->calm_at)
		lasts = world->calm_at - world->now;
	copy = malloc(sizeof(Fault));
	*copy = *fault;
	if (fault->amount % 3 != 0)
		server->answers_late = world->settings[server->node].fence_timeout * 3 / 4;
	world_later(world, NULL, world->now + lasts * fault->amount / 120, peers_leave, copy,
				server->index);
}

/* Begin (+1) or end (-1) it. */
static void
apply_fault(World *world, const Fault *fault, Server *server, int by)
{
	int			member = (int) (fault->amount % SIM_ETCD_MEMBERS);
	ElectorTime until = world->now + fault->lasts;

	switch ((FaultKind) fault->kind)
	{
		case FAULT_POWER:
			if (by > 0)
			{
				server_kill(server);
				server->boot = ++world->next_number;
			}
			else
				server_start(server);
			break;
		case FAULT_KILL_POSTMASTER:
			if (by > 0)
				server_kill_postmaster(server);
			else
				server_start(server);
			break;
		case FAULT_CRASH:
			if (by > 0)
				server_crash_in_place(server);
			break;
		case FAULT_KILL_ELECTOR:
			if (by > 0)
				server_kill_elector(server);
			break;
		case FAULT_PAUSE_MACHINE:
			if (by > 0)
			{
				server->paused_until = until;
				if (!WORLD_RULE(CLOCK_RUNS))
					server->offset -= fault->lasts;
			}
			break;
		case FAULT_PAUSE_ELECTOR:
			if (by > 0)
				server->elector_paused_until = until;
			break;
		case FAULT_STOP:
			if (by > 0)
				server_stop(server, ELECTOR_STOP_FAST, true);
			else
				server_start(server);
			break;
		case FAULT_RESTART:
			if (by > 0)
				server_stop(server, ELECTOR_STOP_FAST, false);
			break;
		case FAULT_SWITCHOVER:
			if (by > 0)
				request_switchover(world, server, fault->amount % 2 ? fault->b : world->nnodes,
								   fault->amount % 4 == 0 ? fault->amount * 100 * MS : 0);
			break;
		case FAULT_FAILOVER:
			request_failover(world);
			break;
		case FAULT_CANCEL:
			if (by > 0)
				cancel_switchover(server);
			break;
		case FAULT_PAUSE:
			if (by < 0)
				resume(world, NULL, NULL, 0);
			else if (can_be_asked(server))
				elector_set_paused(&server->elector, true, "");
			break;
		case FAULT_HOLD:
			if (by > 0 && can_be_asked(server))
				elector_hold(&server->elector, "", fault->lasts / MS);
			break;
		case FAULT_POLICY:
			change_policy(world, fault, by);
			break;
		case FAULT_DISK_STUCK:
			if (by > 0)
				server->disk_stuck_until = until;
			break;
		case FAULT_WAL_FULL:
			if (by > 0)
				server->wal_full_until = until;
			break;
		case FAULT_LAG:
			if (by > 0)
				server->lags_until = until;
			else
				server_wal_flushed_by_all(world);
			break;
		case FAULT_DOUBLE:
			fail_together(world, fault, by, true);
			break;
		case FAULT_DOUBLE_CUT:
			fail_together(world, fault, by, false);
			break;
		case FAULT_CUT_PAIR:
			if (server->index == fault->b)
				break;
			change_cut(&world->cut[server->index][fault->b], by);
			change_cut(&world->cut[fault->b][server->index], by);
			break;
		case FAULT_CUT_ONE_WAY:
			if (server->index != fault->b)
				change_cut(&world->cut[server->index][fault->b], by);
			break;
		case FAULT_CUT_PEERS:
			cut_peers(world, server->index, by);
			break;
		case FAULT_CUT_NODE:
			cut_peers(world, server->index, by);
			cut_etcd(world, server->index, by, true, true);
			break;
		case FAULT_CUT_ETCD:
			cut_etcd(world, server->index, by, true, true);
			break;
		case FAULT_CUT_FROM_ETCD:
			cut_etcd(world, server->index, by, false, true);
			break;
		case FAULT_CUT_SITE:
			cut_site(world, fault, server, by);
			break;
		case FAULT_LEFT_ALONE:
			leave_alone(world, fault, server, by);
			break;
		case FAULT_CUT_ETCD_MEMBER:
			change_cut(&world->cut_to_etcd[server->index][member], by);
			change_cut(&world->cut_from_etcd[server->index][member], by);
			break;
		case FAULT_ETCD_MEMBER:
			if (by > 0)
				etcd_stop_member(world, member);
			else
				etcd_start_member(world, member);
			break;
		case FAULT_ETCD_ISOLATED:
			if (world->etcd.leader >= 0 && by > 0 && fault->amount > 30)
				member = world->etcd.leader;
			if (by > 0)
				etcd_isolate(world, member);
			else
			{
				for (int i = 0; i < SIM_ETCD_MEMBERS; i++)
					etcd_rejoin(world, i);
			}
			break;
		case FAULT_PARTITION:
			partition(world, fault, server, by);
			break;
		case FAULT_ETCD_DOWN:
			for (int i = 0; i < SIM_ETCD_MEMBERS; i++)
			{
				if (by > 0)
					etcd_stop_member(world, i);
				else
					etcd_start_member(world, i);
			}
			break;
		case FAULT_ETCD_COMPACTED:
			if (by > 0)
				etcd_compact(world);
			break;
		case FAULT_ETCD_RESTORED:
			if (by > 0)
				etcd_restore(world);
			break;
		case FAULT_ETCD_SLOW:
			if (by > 0)
				world->etcd_slow_until = until;
			break;
		case FAULT_SLOW:
			if (by > 0)
			{
				world->slow_until = until;
				world->slow_delay = fault->amount * 8 * MS;
			}
			break;
		case FAULT_LOSS:
			world->loss = by > 0 ? 2 + (int) fault->amount / 5 : 0;
			break;
		case FAULT_DISK:
			if (by > 0)
			{
				world->disk_slow_until = until;
				world->disk_stall = fault->amount * 50 * MS;
			}
			break;
		case FAULT_CRASH_AT_STEP:
			if (by > 0)
				server->crash_in = (int) fault->amount;
			break;
		case FAULT_BY_HAND:
			if (by > 0)
				server_promote_by_hand(server);
			break;
		case FAULT_DELETE_LEADER:
			if (by > 0)
				etcd_delete_leader(world);
			break;
		case FAULT_RESTORE:
			if (by > 0)
				restore(server);
			else
				server_start(server);
			break;
		case FAULT_COPY:
			if (by > 0)
				copy_elsewhere(world, server);
			else
				forsake_copy(world);
			break;
		case FAULTS:
			break;
	}
}

typedef struct Ending
{
	Fault		fault;
	int			server;
} Ending;

static void
fault_ends(World *world, Server *none, void *payload, int64_t number)
{
	Ending	   *ending = payload;
	Server	   *server = &world->servers[ending->server];

	TRACE(world, server, "FAULT ends: %s", names[ending->fault.kind]);
	apply_fault(world, &ending->fault, server, -1);
}

static void
fault_begins(World *world, Server *actor, void *payload, int64_t number)
{
	Fault	   *fault = &world->faults[number];
	Ending	   *ending;
	Server	   *server = fault->a >= 0 ? &world->servers[fault->a] : *(Server **) payload;
	const ElectorLeader *leader = etcd_leader(world);
	ElectorTime end = world->now + fault->lasts;

	/* Most trouble with leases is the leader's. */
	if ((world->theme == THEME_LEASE || world->theme == THEME_FAILSAFE) && leader != NULL &&
		fault->amount % 3 != 0)
		server = &world->servers[leader->node[1] - '1'];
	TRACE(world, server, "FAULT: %s (b=%d, %lld ms)", names[fault->kind], fault->b,
		  (long long) (fault->lasts / MS));
	world->counters.faults++;
	world->busy_until = end + BUSY;
	fault->servers = those_with_its_commits(world, fault->b);
	apply_fault(world, fault, server, 1);
	ending = malloc(sizeof(Ending));
	ending->fault = *fault;
	ending->server = server->index;

	/* All is over by then, whenever it began. */
	if (end > world->calm_at)
		end = world->calm_at;
	world_later(world, NULL, end, fault_ends, ending, 0);
}

static void
fault_waits(World *world, Server *none, void *payload, int64_t number)
{
	world->faults[number].waiting = true;
}

/* A moment that some faults wait for. */
void
faults_moment(World *world, Server *server, Moment moment)
{
	if (world->busy_until < world->now + BUSY)
		world->busy_until = world->now + BUSY;
	for (int i = 0; i < world->nfaults; i++)
	{
		Fault	   *fault = &world->faults[i];
		Server	  **actor;

		if (!fault->waiting || fault->moment != moment || world->now > world->horizon)
			continue;
		fault->waiting = false;
		actor = malloc(sizeof(Server *));
		*actor = server;
		world_later(world, NULL, world->now + fault->after, fault_begins, actor, i);
	}
}

static void
takes_backup(World *world, Server *none, void *payload, int64_t number)
{
	for (int i = 0; i < world->nnodes; i++)
		back_up(&world->servers[i]);
	etcd_back_up(world);
}

static void
all_is_well(World *world, Server *none, void *payload, int64_t number)
{
	TRACE(world, NULL, "all faults are over");
	for (int i = 0; i < world->nnodes; i++)
	{
		world->servers[i].crash_in = 0;
		server_start(&world->servers[i]);
	}
}

void
faults_begin(World *world)
{
	for (int i = 0; i < world->nfaults; i++)
	{
		Fault	   *fault = &world->faults[i];

		fault->waiting = false;
		world_later(world, NULL, fault->at, fault->moment == MOMENT_ANY ? fault_begins : fault_waits,
					NULL, i);
	}
	world_later(world, NULL, (world->seed % 40 + 8) * SEC, takes_backup, NULL, 0);
	world_later(world, NULL, world->calm_at + MS, all_is_well, NULL, 0);
}
