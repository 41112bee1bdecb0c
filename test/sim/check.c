/*
 * check.c
 *	  The invariants of the design, against the world as it truly is.
 *
 * These are written from the outside: what is compared are true positions on
 * true histories, true clocks and what etcd truly holds, never what an elector
 * believes.
 */
#include "sim.h"

#include <string.h>

/* Some client writes more often than that, and nothing holds its commit up. */
#define ACKNOWLEDGE_BOUND (15 * SEC)

static bool
gate_is_open(const Server *server)
{
	const World *world = server->world;

	return (server->phase == PHASE_PRIMARY || server->phase == PHASE_ORPHANED ||
			server->phase == PHASE_STOPPING) &&
		server->paused_until <= world->now &&
		server_local(server, world->now) < server->gate;
}

static bool
reads_are_open(const Server *server)
{
	const World *world = server->world;

	return server->phase == PHASE_STANDBY && server->paused_until <= world->now &&
		server_local(server, world->now) < server->reads;
}

/*
 * Is what the standby holds on the history of the leadership that it follows?
 * Or of a later one of the same server, which it may stream from before its
 * elector has heard.
 */
static bool
is_led_history(const Server *server)
{
	const World *world = server->world;

	for (int b = world->nbranches - 1; b >= 0; b--)
	{
		if (world->branches[b].newest_term >= server->upstream_term &&
			server_on_history(world, server->branch, server->lsn, b))
			return true;
	}
	return false;
}

/* I1, I8: after every event. */
void
check_always(World *world)
{
	const Server *open = NULL;

	for (int i = 0; i < world->nservers; i++)
	{
		const Server *server = &world->servers[i];

		if (gate_is_open(server))
		{
			if (open != NULL)
				world_violation(world, "I1", "the gates of %s (term %llu) and %s (term %llu) are both open",
								world_name(open), (unsigned long long) open->opened_term,
								world_name(server), (unsigned long long) server->opened_term);
			open = server;

			/* A restored etcd may have an older leader's key, and its lease lives on. */
			if (server->opened_term < world->opened_term && !world->restored)
				world_violation(world, "I3", "the gate of %s is open in term %llu, and was open elsewhere in term %llu",
								world_name(server), (unsigned long long) server->opened_term,
								(unsigned long long) world->opened_term);
		}
		else if (server->reads != 0 && reads_are_open(server))
		{
			if (server->upstream_term == 0)
				world_violation(world, "I8", "%s answers reads, and follows nobody",
								world_name(server));
			else if (!is_led_history(server))
				world_violation(world, "I8", "%s answers reads at %u/%llu, which is not on the history of term %llu",
								world_name(server), server_timeline(server),
								(unsigned long long) server->lsn,
								(unsigned long long) server->upstream_term);
		}
	}
}

/* I3: what a node remembers only grows. */
void
check_state(Server *server, const ElectorState *after)
{
	if (after->term < server->seen_term)
		world_violation(server->world, "I3", "%s goes back from term %llu to %llu",
						world_name(server), (unsigned long long) server->seen_term,
						(unsigned long long) after->term);
	if (after->term == server->seen_term && after->token < server->seen_token)
		world_violation(server->world, "I3", "%s goes back to an older lock in term %llu",
						world_name(server), (unsigned long long) after->term);
	server->seen_token = after->token;
	if (after->term > server->seen_term)
	{
		server->seen_term = after->term;
		faults_moment(server->world, server, MOMENT_FENCED);
	}
}

/* The node's word: so far my WAL goes, and it will not go further. */
void
check_answer(Server *server, const ElectorFenceRequest *request, const ElectorAnswer *answer)
{
	if (answer->kind != ELECTOR_ANSWER_FENCED)
		return;
	server->answered_term = request->term;
	server->answered = answer->position;
	if (server->saved_at > server->world->now + server->stall || server->state.term < request->term)
		world_violation(server->world, "I3", "%s answers a fence for term %llu that its disk does not know of",
						world_name(server), (unsigned long long) request->term);

	/* A primary goes on to write what is no commit; check_flushed() sees to those. */
	if (answer->position.timeline != server_timeline(server) ||
		(answer->primary ? answer->position.lsn > server->lsn :
		 answer->position.lsn != server->lsn))
		world_violation(server->world, "I2", "%s answers %u/%llu and holds %u/%llu",
						world_name(server), answer->position.timeline,
						(unsigned long long) answer->position.lsn, server_timeline(server),
						(unsigned long long) server->lsn);
}

/* S2: nothing more of an older leadership comes in after the answer. */
void
check_received(Server *server, const Server *upstream)
{
	World	   *world = server->world;

	if (server->upstream_term == 0 && server->freeze == FREEZE_DONE)
		world_violation(world, "I2", "%s takes WAL from %s after it was fenced for term %llu",
						world_name(server), world_name(upstream),
						(unsigned long long) server->answered_term);
}

/* S1: only on the leader's history. */
void
check_stream(World *world, const Server *server)
{
	const Server *upstream = &world->servers[server->upstream];

	if (!server_on_history(world, server->branch, server->lsn, upstream->branch))
		world_violation(world, "I8", "%s at %u/%llu streams from %s, on whose history that is not",
						world_name(server), server_timeline(server),
						(unsigned long long) server->lsn, world_name(upstream));
}

/* I2: of those who have answered and may lead, nobody is further. */
void
check_choice(Server *server)
{
	const Elector *elector = &server->elector;
	const ElectorPeerView *chosen = &elector->view.peers[elector->plan.target];

	if (strcmp(elector->cluster->term.heir, chosen->node) == 0 ||
		(elector->view.request.present && elector->view.request.failover))
		return;
	for (int i = 0; i < elector->view.npeers; i++)
	{
		const ElectorPeerView *peer = &elector->view.peers[i];
		const ElectorAnswer *answer = &peer->answer;

		if (answer->kind == ELECTOR_ANSWER_FENCED && answer->counts && answer->candidate &&
			answer->etcd && answer->lag_known && !answer->primary && !peer->passed_over &&
			i != elector->view.establishing &&
			elector_may_lead(elector->view.paused, &elector->view.term, peer->node) &&
			(elector->settings.maximum_lag < 0 || answer->lag <= elector->settings.maximum_lag) &&
			elector_position_compare(answer->position, chosen->answer.position) > 0)
			world_violation(server->world, "I2", "%s is chosen at %u/%llu although %s holds %u/%llu",
							chosen->node, chosen->answer.position.timeline,
							(unsigned long long) chosen->answer.position.lsn, peer->node,
							answer->position.timeline, (unsigned long long) answer->position.lsn);
	}
}

/* I4: the word that a leadership is over. */
void
check_release(World *world, const Server *by, bool program, const ElectorTerm *term)
{
	const Server *server = server_by_instance(world, term->instance);

	if (program && by->phase == PHASE_PROGRAM)
	{
		world->released_term = term->term;
		world->released_branch = by->branch;
		world->released_lsn = by->lsn;
	}
	if (server == by && !program && server->marks > 0)
		world_violation(world, "I4", "%s says that term %llu is over while it still commits",
						world_name(server), (unsigned long long) term->term);
	if (server != NULL && gate_is_open(server) && server->opened_term == term->term)
		world_violation(world, "I4", "it is said that term %llu is over, and the gate of %s is open",
						(unsigned long long) term->term, world_name(server));
}

/* I4, S14: the program gives up its own leadership, and no other. */
void
check_key_deleted(World *world, const Server *server)
{
	const ElectorLeader *leader = etcd_leader(world);

	if (leader != NULL && server->phase == PHASE_PROGRAM &&
		strcmp(leader->instance, server->leadership.instance) != 0)
		world_violation(world, "I4", "%s deletes the leader key of %s",
						world_name(server), leader->node);
}

/* A switchover is carried out; nobody may have held the leader when it was asked for. */
void
check_handover(const Server *server)
{
	World	   *world = server->world;
	const Kv   *settings = &world->etcd.kvs[ELECTOR_KEY_SETTINGS];
	const Kv   *request = &world->etcd.kvs[ELECTOR_KEY_REQUEST];

	if (settings->present && request->present && settings->mod < request->mod &&
		elector_find_hold(settings->value, server->elector.leader_term,
						  server->elector.ports->wall_ms((void *) server), 0) >= 0)
		world_violation(world, "hold", "%s hands over, and somebody holds it", world_name(server));
}

/* I4 and I3, when the leader key is taken. */
void
check_take(World *world, const Server *server, int64_t token, const ElectorTerm *before,
		   const ElectorTerm *after)
{
	const ElectorElection *lock = world->etcd.kvs[ELECTOR_KEY_ELECTION].present ?
		world->etcd.kvs[ELECTOR_KEY_ELECTION].value : NULL;
	const Server *old = before != NULL ? server_by_instance(world, before->instance) : NULL;

	faults_moment(world, (Server *) server, MOMENT_TAKEN);
	promises_take(world, server);
	for (int i = 0; i < world->nservers; i++)
	{
		if (&world->servers[i] != server && gate_is_open(&world->servers[i]))
			world_violation(world, "I4", "%s is established in term %llu while the gate of %s is open in term %llu",
							world_name(server), (unsigned long long) after->term,
							world_name(&world->servers[i]),
							(unsigned long long) world->servers[i].opened_term);
	}
	if (after->term <= world->taken_term)
		world_violation(world, "I3", "%s takes term %llu after term %llu", world_name(server),
						(unsigned long long) after->term, (unsigned long long) world->taken_term);
	world->taken_term = after->term;
	if (before != NULL && after->opened_term != 0 && etcd_paused(world) &&
		strcmp(before->node, world->names[server->node]) != 0)
		world_violation(world, "pause", "%s takes the leader key while the cluster is paused",
						world_name(server));
	if (etcd_leader(world) != NULL)
		world_violation(world, "I4", "%s takes the leader key of %s", world_name(server),
						etcd_leader(world)->node);
	if (lock == NULL)
		world_violation(world, "I4", "%s takes the leader key, and nobody holds the lock",
						world_name(server));
	else if (world->etcd.kvs[ELECTOR_KEY_ELECTION].create != token)
		world_violation(world, "I4", "%s takes the leader key on the order of an elector whose lock is gone",
						world_name(server));

	/* One of: its own word; its lease gone; fenced; or not there any more. */
	if (before != NULL && !before->released && etcd_has_lease(world, before->lease) &&
		old != NULL && old != server && old->state.term < after->term &&
		(old->phase == PHASE_PRIMARY || old->phase == PHASE_ORPHANED || old->phase == PHASE_STOPPING))
		world_violation(world, "I4", "%s is established while the leadership of %s is not proven over",
						world_name(server), world_name(old));

	/* An elector that has died meanwhile cannot tell what it noted. */
	if (!server->state.caught_up && after->opened_term != 0 && server->elector.ordered &&
		strstr(server->elector.order.note, "rows may be missing") == NULL)
		world_violation(world, "I2", "%s is established although it may have forgotten commits",
						world_name(server));

	/* A handover's promise, under every policy: all that there ever was (S19). */
	if (before != NULL && before->released && before->released_at.lsn != 0 &&
		strcmp(before->heir, world->names[server->node]) == 0 &&
		strcmp(server->elector.order.reason, "switchover") == 0 &&
		world->released_term == before->term &&
		(!server_on_history(world, world->released_branch, world->released_lsn, server->branch) ||
		 (server->branch == world->released_branch && server->lsn < world->released_lsn)))
		world_violation(world, "I2", "the handover to %s at %u/%llu leaves behind what the old leader wrote up to %llu",
						world_name(server), server_timeline(server),
						(unsigned long long) server->lsn, (unsigned long long) world->released_lsn);
}

/* I9; and S1: the history that PostgreSQL writes ends with what recovery was bound for. */
void
check_promotion(World *world, const Server *server, int branch)
{
	const Branch *new = &world->branches[branch];

	if (world->branches[server->bound_for].timeline > world->branches[new->parent].timeline)
		world_violation(world, "I2", "%s is promoted from timeline %u, and its history says from %u",
						world_name(server), world->branches[new->parent].timeline,
						world->branches[server->bound_for].timeline);
	faults_moment(world, (Server *) server, MOMENT_PROMOTED);
	for (int b = 0; b < branch; b++)
	{
		if (world->branches[b].timeline == new->timeline &&
			(world->branches[b].term != 0 || b == 0))
			world_violation(world, "I9", "%s is promoted to timeline %u, which has been used",
							world_name(server), new->timeline);
	}
}

/* etcd has it that the leadership has begun. */
void
check_begun(World *world, const Server *server, const ElectorTerm *term)
{
	Branch	   *branch = &world->branches[server->branch];

	faults_moment(world, (Server *) server, term->opened ? MOMENT_OPENED : MOMENT_BEGUN);

	/* Promoted by hand, to the very timeline that it was allotted. */
	if (branch->term == 0 && server->branch != 0)
	{
		branch->term = term->term;
		check_promotion(world, server, server->branch);
	}
	branch->newest_term = term->term;
}

/* The gate opens. */
void
check_open(World *world, const Server *server)
{
	const ElectorTerm *term = etcd_term(world);
	Branch	   *branch = &world->branches[server->branch];

	world->counters.leaderships++;
	if (server->opened_term <= world->opened_term)
		world_violation(world, "I3", "the gate of %s opens in term %llu after term %llu",
						world_name(server), (unsigned long long) server->opened_term,
						(unsigned long long) world->opened_term);
	world->opened_term = server->opened_term;
	world->opened_by = server;
	if (server->phase != PHASE_PRIMARY && server->phase != PHASE_ORPHANED &&
		server->phase != PHASE_STOPPING)
		world_violation(world, "I5", "the gate of %s opens before its promotion has ended",
						world_name(server));
	if (server->state.term > server->opened_term)
		world_violation(world, "I3", "the gate of %s opens in term %llu, and it has obeyed a fence for term %llu",
						world_name(server), (unsigned long long) server->opened_term,
						(unsigned long long) server->state.term);
	if (term != NULL && term->term == server->opened_term &&
		term->timeline != branch->timeline)
		world_violation(world, "I9", "the gate of %s opens on timeline %u; allotted was %u",
						world_name(server), branch->timeline, term->timeline);

	promises_open(world, server);
}

/* A commit is on the disk. */
void
check_flushed(const Server *server)
{
	if (server->answered_term > server->checked_term && server->answered_term == server->state.term &&
		server->answered.timeline == server_timeline(server) &&
		server->lsn > server->answered.lsn)
		world_violation(server->world, "I2", "%s writes a commit at %llu after it answered a fence for term %llu with %llu",
						world_name(server), (unsigned long long) server->lsn,
						(unsigned long long) server->answered_term,
						(unsigned long long) server->answered.lsn);
}

/* A client is told that its commit succeeded. */
void
check_commit(World *world, const Server *server, ElectorLsn lsn)
{
	const ElectorTerm *term = etcd_term(world);

	world->counters.commits++;
	world->counters.promised += server->elector.failsafe_since != 0;
	promises_commit(world, server, lsn);
	if (term != NULL && strcmp(term->instance, server->instance) == 0 && term->released)
		world_violation(world, "I4", "%s acknowledges a commit after its word that its term is over",
						world_name(server));
	if (server->answered_term > server->opened_term &&
		server->answered_term >= server->state.term && server->state.term > server->opened_term &&
		server->opened_term != 0)
		world_violation(world, "I2", "%s acknowledges a commit after it was fenced",
						world_name(server));
	if (server_local(server, world->now) >= server->gate)
		world_violation(world, "I6", "%s acknowledges a commit while its gate is closed",
						world_name(server));
}

/* I7: soon after the last fault. */
void
check_led(World *world)
{
	if (world->forsaken)
		return;
	for (int i = 0; i < world->nnodes; i++)
	{
		if (gate_is_open(&world->servers[i]))
			return;
	}
	world_violation(world, "I7", "no gate is open %lld s after the last fault",
					(long long) (world->open_bound / SEC));
}

/* These wait for an operator, and say so. */
static bool
waits_for_operator(const Server *server)
{
	ElectorReason reason = server->elector.plan.reason;

	return reason == ELECTOR_BECAUSE_REJOIN_OFF || reason == ELECTOR_BECAUSE_STRAY;
}

/*
 * All is as it should be: a gate is open, commits are acknowledged, and every node
 * follows.  If not, *who is what is wrong with; NULL: the whole.
 */
bool
check_is_well(const World *world, const Server **who)
{
	const Server *leader = NULL;

	*who = NULL;
	for (int i = 0; i < world->nnodes; i++)
	{
		if (gate_is_open(&world->servers[i]))
			leader = &world->servers[i];
	}
	if (leader == NULL)
		return false;
	for (int i = 0; i < world->nnodes; i++)
	{
		const Server *server = &world->servers[i];

		*who = server;
		if (server != leader && i != world->corpse && !waits_for_operator(server) &&
			(server->phase != PHASE_STANDBY || !server->streaming ||
			 server->upstream_term != leader->opened_term || !reads_are_open(server)))
			return false;
	}
	*who = leader;
	return world->now < world->acknowledged_at + ACKNOWLEDGE_BOUND;
}

/* I7: and some time after it. */
void
check_calm(World *world)
{
	const Server *who;
	long long	bound = (long long) (world->bound / SEC);

	if (check_is_well(world, &who) || world->forsaken)
		return;
	if (who == NULL)
		world_violation(world, "I7", "no gate is open %lld s after the last fault (n1: %s)", bound,
						elector_reason_name(world->servers[0].elector.plan.reason));
	else if (gate_is_open(who))
		world_violation(world, "I7", "no commit is acknowledged by %s %lld s after the last fault (%s)",
						world_name(who), bound, elector_reason_name(who->elector.plan.reason));
	else
		world_violation(world, "I7", "%s does not follow %lld s after the last fault: %s",
						world_name(who), bound, elector_reason_name(who->elector.plan.reason));
}
