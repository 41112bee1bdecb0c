/*
 * ports.c
 *	  The elector's ports to a simulated server.
 *
 * Each call is a step between two of which the server can crash, and each that
 * waits for a disk may take long: then what the rest of the round does, happens
 * later.
 */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As in the library's peers.c. */
#define RETRY_INTERVAL SEC
#define URGENT_INTERVAL (100 * MS)
#define REJOIN_INTERVAL (30 * SEC)

/* A promotion that takes so long is stuck; only a restart helps. */
#define STUCK (100000 * SEC)

typedef struct Message
{
	ElectorQuestion question;
	int			from;
	uint64_t	number;
	bool		failed;
	bool		refused;		/* nobody listens */
	union
	{
		ElectorFenceRequest fence;
		ElectorOrder order;
		ElectorPromiseRequest promise_request;
		ElectorPromise promise;
		ElectorAnswer answer;
		ElectorReport report;
	}			body;
} Message;

static void pump_peer(Server *server, int node);

/* A port is called.  False: the server is dead, whatever is done is not. */
static bool
step(Server *server)
{
	server->steps++;
	if (server->crash_in > 0 && --server->crash_in == 0)
		server->doomed = true;
	return !server->doomed;
}

static ElectorTime
port_now(void *world)
{
	Server	   *server = world;

	return server_local(server, server->world->now + server->stall);
}

static int64_t
port_wall_ms(void *world)
{
	Server	   *server = world;

	return (server->world->now + server->stall) / MS + 1700000000000;
}

static double
port_lot(void *world)
{
	Server	   *server = world;

	return (double) chance_between(&server->world->chance, 0, 1000) / 1000.0;
}

static void
port_note(void *world, const ElectorNote *note)
{
	Server	   *server = world;
	const ElectorPlan *plan = &server->elector.plan;
	const char *const names[] = {
		[ELECTOR_NOTE_LATE] = "was stopped for",
		[ELECTOR_NOTE_ETCD_SILENT] = "etcd is silent:",
		[ELECTOR_NOTE_ETCD_BACK] = "etcd is back",
		[ELECTOR_NOTE_ETCD_REFUSED] = "etcd refused:",
		[ELECTOR_NOTE_LEASE_ENDED] = "lease ended in etcd",
		[ELECTOR_NOTE_FAILSAFE_BEGINS] = "leads by promises",
		[ELECTOR_NOTE_FAILSAFE_ENDS] = "leads by promises no more:",
		[ELECTOR_NOTE_KEY_REPAIRED] = "leader key repaired",
		[ELECTOR_NOTE_FENCED] = "fenced",
		[ELECTOR_NOTE_GATE_CLOSED] = "gate closed",
		[ELECTOR_NOTE_GATE_OPENED] = "gate opened",
		[ELECTOR_NOTE_NOT_ESTABLISHED] = "not established:",
		[ELECTOR_NOTE_CANCELED] = "switchover canceled:",
		[ELECTOR_NOTE_CANNOT_FOLLOW] = "cannot follow"
	};

	if (server->doomed)
		return;
	if (note->kind == ELECTOR_NOTE_PLAN && plan->action == ELECTOR_ESTABLISH)
		check_choice(server);
	if (!server->world->tracing)
		return;
	if (note->kind != ELECTOR_NOTE_PLAN)
		world_trace(server->world, server, "%s %s%s (term %llu)", names[note->kind],
					note->text, note->node, (unsigned long long) note->term);
	else
		world_trace(server->world, server, "%s -> %s%s%s (term %llu)",
					elector_reason_name(plan->reason), elector_action_name(plan->action),
					plan->target >= 0 ? " " : "",
					plan->target >= 0 ? server->elector.view.peers[plan->target].node : "",
					(unsigned long long) plan->term);
}

static void
port_run(void *world, const ElectorErrand *errand)
{
	Server	   *server = world;

	if (step(server))
		etcd_run(server, errand, false);
}

/* --- the peers --- */

static int
find_node(const World *world, const char *name)
{
	for (int i = 0; i < world->nnodes; i++)
	{
		if (strcmp(world->names[i], name) == 0)
			return i;
	}
	return -1;
}

/* Whom its connection string in etcd leads to. */
static Server *
find_server(const Server *server, const char *node)
{
	const ElectorNode *member = elector_cluster_node(&server->cluster, node);

	return member == NULL || !member->member.present ? NULL :
		&server->world->servers[atoi(member->member.conninfo)];
}

static void
question_ends(Server *server, int node, ElectorQuestion question, const void *answer,
			  const char *error)
{
	if (server->running)
	{
		elector_told(&server->elector, server->world->names[node], question, answer, error);
		server_round_soon(server);
	}
}

static void
pump_again(World *world, Server *server, void *payload, int64_t number)
{
	pump_peer(server, (int) number);
}

/* The connection is lost: what was asked has no answer. */
static void
lose(Server *server, int node, bool refused)
{
	World	   *world = server->world;
	Peer	   *peer = &server->peers[node];
	bool		urgent = peer->asked[ELECTOR_ASK_FENCE].wanted ||
		peer->asked[ELECTOR_ASK_ESTABLISH].wanted || peer->asked[ELECTOR_ASK_PROMISE].wanted;

	peer->busy = false;
	peer->retry_at = world->now + (urgent ? URGENT_INTERVAL : RETRY_INTERVAL);
	if (peer->silent_since == 0)
		peer->silent_since = peer->since;
	question_ends(server, node, peer->question, NULL, "no answer");
	if (refused)
	{
		for (int question = 0; question < ELECTOR_QUESTIONS; question++)
		{
			if (!peer->asked[question].wanted)
				continue;
			peer->asked[question].wanted = false;
			question_ends(server, node, question, NULL, "refused");
		}
	}
	world_elector_later(server, peer->retry_at, pump_again, NULL, node);
}

static void
question_times_out(World *world, Server *server, void *payload, int64_t number)
{
	int			node = *(int *) payload;

	if (server->peers[node].busy && server->peers[node].number == (uint64_t) number)
		lose(server, node, false);
}

/* The answer has come back. */
void
ports_answer(World *world, Server *server, void *payload, int64_t node)
{
	Message    *message = payload;
	Peer	   *peer = &server->peers[node];

	if (!peer->busy || peer->number != message->number)
		return;
	if (message->refused)
	{
		lose(server, (int) node, true);
		return;
	}
	peer->busy = false;
	if (message->failed)
		question_ends(server, (int) node, message->question, NULL, "an error");
	else
	{
		peer->silent_since = 0;
		question_ends(server, (int) node, message->question,
					  message->question == ELECTOR_ASK_ESTABLISH ? NULL : &message->body, NULL);
	}
	pump_peer(server, (int) node);
}

static void
send_back(Server *server, const Message *message)
{
	World	   *world = server->world;
	Server	   *asker = &world->servers[message->from];
	Message    *copy;

	if (world->cut[server->index][asker->index] > 0 || world_lost(world) || !asker->running)
		return;
	copy = malloc(sizeof(Message));
	*copy = *message;
	world_elector_later(asker, world->now + server->stall + world_transit(world) +
						asker->answers_late, ports_answer, copy, server->node);
}

static void
fill_report(const Server *server, ElectorReport *report)
{
	const World *world = server->world;
	ElectorTime local = server_local(server, world->now);

	memset(report, 0, sizeof(*report));
	report->present = true;
	strcpy(report->node, world->names[server->node]);
	strcpy(report->instance, server->instance);
	report->candidate = server->elector.settings.candidate;
	report->full = world->now < server->wal_full_until;
	report->priority = world->settings[server->node].priority;
	report->timeline = server_timeline(server);
	report->lsn = server->lsn;
	report->leads = server->phase == PHASE_PRIMARY && local < server->gate;
	report->streaming = server->streaming && server->upstream_term != 0;
	report->remembered = server->running ? server->elector.remembered : 0;
	report->term = server->phase == PHASE_PRIMARY ? server->opened_term : server->upstream_term;
}

/* What it has promised is on the disk. */
static void
promise_is_kept(World *world, Server *server, void *payload, int64_t number)
{
	send_back(server, payload);
}

/* A question reaches the server that was asked. */
static void
question_arrives(World *world, Server *server, void *payload, int64_t number)
{
	Message    *message = payload;
	Message		answer;

	if (server->running && server->elector_paused_until > world->now &&
		message->question != ELECTOR_ASK_REPORT)
	{
		/* A backend has it, and waits for the elector. */
		Message    *copy = malloc(sizeof(Message));

		*copy = *message;
		world_elector_later(server, server->elector_paused_until, question_arrives, copy, 0);
		return;
	}
	memset(&answer, 0, offsetof(Message, body));
	answer.question = message->question;
	answer.from = message->from;
	answer.number = message->number;
	if (!server_accepts(server))
	{
		answer.refused = true;
		send_back(server, &answer);
		return;
	}
	switch (message->question)
	{
		case ELECTOR_ASK_REPORT:
			fill_report(server, &answer.body.report);
			send_back(server, &answer);
			break;
		case ELECTOR_ASK_FENCE:
			if (server->ncalls == SIM_CALLS_MAX || !server->running)
				break;
			server->calls[server->ncalls++] =
				(Call) {message->from, message->number, message->body.fence};
			elector_take_fence(&server->elector, &message->body.fence);
			server_settle(server);
			server_round_soon(server);
			break;
		case ELECTOR_ASK_PROMISE:
			if (!server->running)
				break;
			elector_take_promise(&server->elector, &message->body.promise_request,
								 &answer.body.promise);
			if (!server->doomed)
			{
				Message    *copy = malloc(sizeof(Message));

				*copy = answer;
				world_later(world, server, world->now + server->stall, promise_is_kept, copy, 0);
			}
			server_settle(server);
			server_round_soon(server);
			break;
		case ELECTOR_ASK_ESTABLISH:
			if (!server->running)
				break;
			answer.failed = !elector_take_order(&server->elector, &message->body.order);
			send_back(server, &answer);
			server_settle(server);
			server_round_soon(server);
			break;
		case ELECTOR_QUESTIONS:
			break;
	}
}

static void
send_question(Server *server, int node, ElectorQuestion question)
{
	World	   *world = server->world;
	Peer	   *peer = &server->peers[node];
	Server	   *target = find_server(server, world->names[node]);
	Message    *message;
	int		   *whose = malloc(sizeof(int));
	ElectorTime now = world->now + server->stall;

	peer->asked[question].wanted = false;
	peer->busy = true;
	peer->question = question;
	peer->number = ++world->next_number;
	peer->since = server_local(server, now);
	if (peer->silent_since == 0)
		peer->silent_since = peer->since;
	*whose = node;
	world_elector_later(server, now + world->settings[server->node].fence_timeout,
						question_times_out, whose, (int64_t) peer->number);
	if (target == NULL || !target->exists || world->cut[server->index][target->index] > 0 ||
		world_lost(world))
		return;
	message = malloc(sizeof(Message));
	message->question = question;
	message->from = server->index;
	message->number = peer->number;
	message->failed = message->refused = false;
	if (question == ELECTOR_ASK_FENCE)
		message->body.fence = peer->asked[question].argument.fence;
	else if (question == ELECTOR_ASK_ESTABLISH)
		message->body.order = peer->asked[question].argument.order;
	else if (question == ELECTOR_ASK_PROMISE)
		message->body.promise_request = peer->asked[question].argument.promise;

	/* Asked again, it arrives twice; only the first answer is taken. */
	if (chance_one_in(&world->chance, 40))
	{
		Message    *again = malloc(sizeof(Message));

		*again = *message;
		queue_add(&world->queue, (Event)
				  {
					  .at = now + 4 * world_transit(world), .function = question_arrives,
					  .server = target, .payload = again
				  });
	}

	/* Whoever is there by then: not bound to the target's life. */
	queue_add(&world->queue, (Event)
			  {
				  .at = now + world_transit(world), .function = question_arrives,
				  .server = target, .life = 0, .payload = message
			  });
}

static void
pump_peer(Server *server, int node)
{
	Peer	   *peer = &server->peers[node];

	if (!server->running || peer->busy || server->world->now < peer->retry_at)
		return;
	for (ElectorQuestion question = 0; question < ELECTOR_QUESTIONS; question++)
	{
		if (peer->asked[question].wanted)
		{
			send_question(server, node, question);
			return;
		}
	}
}

static void
port_ask(void *world, const char *name, ElectorQuestion question, const void *argument)
{
	Server	   *server = world;
	int			node = find_node(server->world, name);
	Peer	   *peer = &server->peers[node];

	if (!step(server) || node == server->node)
		return;
	peer->asked[question].wanted = true;
	if (question == ELECTOR_ASK_FENCE)
		peer->asked[question].argument.fence = *(const ElectorFenceRequest *) argument;
	if (question == ELECTOR_ASK_ESTABLISH)
		peer->asked[question].argument.order = *(const ElectorOrder *) argument;
	if (question == ELECTOR_ASK_PROMISE)
		peer->asked[question].argument.promise = *(const ElectorPromiseRequest *) argument;
	if (question != ELECTOR_ASK_REPORT)
		peer->retry_at = 0;
	pump_peer(server, node);
}

static void
port_forget(void *world, ElectorQuestion question)
{
	Server	   *server = world;

	for (int i = 0; i < server->world->nnodes; i++)
		server->peers[i].asked[question].wanted = false;
}

static void
port_disconnect(void *world, const char *node)
{
}

static ElectorTime
port_silent_since(void *world, const char *name)
{
	Server	   *server = world;
	int			node = find_node(server->world, name);

	return node < 0 ? 0 : server->peers[node].silent_since;
}

/* --- the server --- */

static void
port_look(void *world, ElectorServer *facts)
{
	Server	   *server = world;
	const World *all = server->world;

	memset(facts, 0, offsetof(ElectorServer, followers));
	facts->recovering = server->phase != PHASE_PRIMARY;
	facts->opened_term = server->opened_term;
	facts->position.timeline = server_timeline(server);
	facts->position.lsn = server->lsn;
	if (facts->recovering)
	{
		facts->frozen = server->freeze == FREEZE_DONE;
		if (facts->frozen && all->branches[server->history].timeline > facts->position.timeline)
			facts->target_timeline = all->branches[server->history].timeline;
		facts->promoting = server->promoting;
		facts->position.lsn = server->replayed;
		facts->upstream_term = server->upstream_term;
		facts->streaming = server->streaming;
		facts->flushed = server->lsn;
		facts->told_end = server->streaming ? server->told_end : 0;
		facts->told_at = server->told_at;
	}
	facts->disk_stuck = all->now < server->disk_stuck_until;
	facts->wal_full = all->now < server->wal_full_until;
	server->elector.settings.candidate = all->settings[server->node].candidate &&
		!facts->disk_stuck;
	commits_look(server, facts);
}

static bool
port_freeze(void *world, ElectorPosition *position)
{
	Server	   *server = world;
	World	   *all = server->world;

	if (!step(server) || server->phase != PHASE_STANDBY)
		return false;
	switch (server->freeze)
	{
		case FREEZE_NONE:
			server->upstream_term = 0;
			server->reads = 0;
			server->freeze = FREEZE_GOING;
			server->freeze_until = all->now + server->stall +
				chance_between(&all->chance, 2, chance_one_in(&all->chance, 20) ? 3000 : 60) * MS;
			if (WORLD_RULE(ALL_REPLAYED))
				return false;
			position->timeline = server_timeline(server);
			position->lsn = server->replayed;
			server->freeze = FREEZE_DONE;
			return true;
		case FREEZE_GOING:
			if (all->now < server->freeze_until)
				return false;
			if (WORLD_RULE(WALRECEIVER_GONE))
				server_disconnect(server);
			if (WORLD_RULE(GUARDED_CONNECT))
				server->upstream = -1;
			server->freeze = FREEZE_DONE;
			server->replayed = server->lsn;
			/* FALLTHROUGH */
		case FREEZE_DONE:
			position->timeline = server_timeline(server);
			position->lsn = server->replayed;
			return true;
	}
	abort();
}

static void
connects(World *world, Server *server, void *payload, int64_t number)
{
	server_connect(server);
}

static bool
port_follow(void *world, const char *conninfo, uint64_t term)
{
	Server	   *server = world;

	if (!step(server))
		return true;
	server->freeze = FREEZE_NONE;
	server->upstream = atoi(conninfo);
	server->upstream_term = term;
	world_later(server->world, server, server->world->now + server->stall +
				chance_between(&server->world->chance, 1, 40) * MS, connects, NULL, 0);
	return true;
}

static void
promotion_ends(World *world, Server *server, void *payload, int64_t number)
{
	Branch	   *branch = &world->branches[world->nbranches];

	if (!server->promoting || server->phase != PHASE_STANDBY)
		return;
	server->promoting = false;
	if (world->nbranches == SIM_BRANCHES_MAX)
		return;
	branch->timeline = (uint32_t) number;
	if (branch->timeline <= server->newest_timeline)
		branch->timeline = server->newest_timeline + 1;
	branch->parent = server->branch;
	branch->lsn = server->lsn;
	branch->term = server->elector.leader_term;
	server->newest_timeline = branch->timeline;
	server->branch = server->history = world->nbranches++;
	server->lsn += 50;
	server->phase = PHASE_PRIMARY;
	server->upstream_term = 0;
	server_disconnect(server);
	TRACE(world, server, "is a primary on timeline %u from %llu", branch->timeline,
		  (unsigned long long) branch->lsn);
	check_promotion(world, server, server->branch);
	server_round_soon(server);
}

static void
promotion_fails(World *world, Server *server, void *payload, int64_t number)
{
	if (server->promoting && server->phase == PHASE_STANDBY)
		server_crash_in_place(server);
}

static void
port_promote(void *world, uint32_t timeline)
{
	Server	   *server = world;
	World	   *all = server->world;
	ElectorTime lasts = chance_between(&all->chance, 10, 150) * MS;
	bool		fails = false;

	if (!step(server) || server->promoting || server->phase != PHASE_STANDBY)
		return;
	server->promoting = true;
	if (all->now < all->calm_at)
	{
		if (chance_one_in(&all->chance, 25))
			lasts = chance_between(&all->chance, 1, 20) * SEC;
		else if (chance_one_in(&all->chance, 60))
			lasts = STUCK;
		fails = chance_one_in(&all->chance, 40);
	}
	world_later(all, server, all->now + server->stall + lasts,
				fails ? promotion_fails : promotion_ends, NULL, timeline);
}

static void
port_read_history(void *world, ElectorTerm *term)
{
	Server	   *server = world;
	const World *all = server->world;
	int			path[SIM_BRANCHES_MAX];
	int			depth = 0;

	term->nancestors = 0;
	term->lsn = all->branches[server->branch].lsn;
	for (int b = server->branch; b >= 0; b = all->branches[b].parent)
		path[depth++] = b;
	for (int i = depth - 1; i >= 1; i--)
	{
		if (i > ELECTOR_ANCESTORS_MAX)
			continue;
		term->ancestors[term->nancestors].timeline = all->branches[path[i]].timeline;
		term->ancestors[term->nancestors].lsn = all->branches[path[i - 1]].lsn;
		term->nancestors++;
	}
}

static uint32_t
port_newest_timeline(void *world, uint32_t own)
{
	Server	   *server = world;

	return server->newest_timeline > own ? server->newest_timeline : own;
}

static void
port_forget_timeline(void *world, uint32_t timeline)
{
	Server	   *server = world;

	if (step(server) && server->world->branches[server->history].timeline == timeline)
		server->history = server->branch;
}

static void
port_wake(void *world)
{
	Server	   *server = world;

	if (step(server) && server->phase == PHASE_STANDBY)
	{
		server->replayed = server->lsn;
		if (!server->streaming)
			world_later(server->world, server, server->world->now + MS, connects, NULL, 0);
	}
}

static bool
port_checkpoint(void *world, bool begin)
{
	Server	   *server = world;

	if (begin)
		server->checkpoint_done = server->world->now +
			chance_between(&server->world->chance, 1, 300) * MS;
	return step(server) && server->world->now >= server->checkpoint_done;
}

static bool
port_drain(void *world, ElectorTime until)
{
	Server	   *server = world;

	if (!step(server))
		return false;
	server->drain_until = until;

	/* Some transactions have more to do before they commit. */
	return server->marks == 0 && chance_one_in(&server->world->chance, 3);
}

/* Whose clients come by a pooler makes no difference to what is checked here. */
static bool
port_pause_clients(void *world, ElectorTime patience)
{
	return true;
}

static void
port_resume_clients(void *world)
{
}

static void
port_restart(void *world, const ElectorTodo *todo, ElectorStop how)
{
	Server	   *server = world;

	if (!step(server))
		return;
	server->todo = *todo;
	if (todo->kind == ELECTOR_TODO_HANDOVER)
		check_handover(server);
	if (step(server))
		server_stop(server, how, false);
}

static bool
port_set_names(void *world, const char *names)
{
	Server	   *server = world;

	if (!step(server) || !commits_set_names(server, names))
		return false;
	faults_moment(server->world, server, MOMENT_NAMES);
	return true;
}

/* --- the gate --- */

static void
port_set_gate(void *world, ElectorTime deadline)
{
	Server	   *server = world;

	if (!step(server))
		return;
	server->gate = deadline;
	if (server->opened_term != server->checked_term &&
		deadline > server_local(server, server->world->now + server->stall))
	{
		server->checked_term = server->opened_term;
		check_open(server->world, server);
	}
	if (deadline != 0 && server->phase != PHASE_PRIMARY && server->phase != PHASE_STOPPING &&
		server->phase != PHASE_ORPHANED)
		world_violation(server->world, "I5", "the gate of %s opens while it is no primary",
						world_name(server));
}

static void
port_set_opened(void *world, uint64_t term)
{
	Server	   *server = world;

	if (!step(server))
		return;
	server->opened_term = term;
}

static void
port_set_led(void *world, uint64_t term)
{
	Server	   *server = world;

	if (step(server))
		server->led_term = term;
}

static void
port_set_reads(void *world, ElectorTime deadline)
{
	Server	   *server = world;

	if (step(server))
		server->reads = deadline;
}

static bool
port_drained(void *world)
{
	Server	   *server = world;

	return server->marks == 0;
}

static void
port_terminate(void *world)
{
	commits_terminate(world);
}

/* --- the disk --- */

static void
port_save_state(void *world, const ElectorState *state)
{
	Server	   *server = world;
	World	   *all = server->world;

	if (!step(server))
		return;
	server_take_state(server);
	server->state_before = server->state;
	if (WORLD_RULE(FSYNC) || chance_one_in(&all->chance, 2))
		check_state(server, state);
	server->state = *state;
	if (all->disk_slow_until > all->now)
		server->stall += chance_between(&all->chance, 0, all->disk_stall);
	server->saved_at = all->now + server->stall;
	if (!WORLD_RULE(FSYNC))
		server->saved_at = all->now + 20 * SEC;
	step(server);
}

static void
port_save_leadership(void *world, const ElectorLeadership *leadership)
{
	Server	   *server = world;

	if (!step(server))
		return;
	if (leadership != NULL)
		server->leadership = *leadership;
	else
		server->leadership.present = false;
	step(server);
}

static void
port_forget_problem(void *world)
{
	Server	   *server = world;

	if (step(server))
		server->problem_at = 0;
}

const ElectorPorts sim_ports = {
	.now = port_now,
	.wall_ms = port_wall_ms,
	.lot = port_lot,
	.note = port_note,
	.run = port_run,
	.ask = port_ask,
	.forget = port_forget,
	.disconnect = port_disconnect,
	.silent_since = port_silent_since,
	.look = port_look,
	.freeze = port_freeze,
	.follow = port_follow,
	.promote = port_promote,
	.read_history = port_read_history,
	.newest_timeline = port_newest_timeline,
	.forget_timeline = port_forget_timeline,
	.wake = port_wake,
	.checkpoint = port_checkpoint,
	.drain = port_drain,
	.restart = port_restart,
	.set_names = port_set_names,
	.pause_clients = port_pause_clients,
	.resume_clients = port_resume_clients,
	.set_gate = port_set_gate,
	.set_opened = port_set_opened,
	.set_led = port_set_led,
	.set_reads = port_set_reads,
	.drained = port_drained,
	.terminate = port_terminate,
	.save_state = port_save_state,
	.save_leadership = port_save_leadership,
	.forget_problem = port_forget_problem
};

/* --- the worker's part --- */

void
ports_begin_elector(Server *server)
{
	World	   *world = server->world;
	Elector    *elector = &server->elector;
	ElectorState state = server->state;
	ElectorState now;
	char		predecessor[ELECTOR_INSTANCE_SIZE] = "";

	memset(elector, 0, sizeof(*elector));
	memset(&server->cluster, 0, sizeof(server->cluster));
	server->running = true;
	server->stall = 0;
	if (!WORLD_RULE(STATE_SURVIVES))
	{
		state.term = 0;
		state.token = 0;
	}

	memset(&now, 0, sizeof(now));
	strcpy(now.instance, server->instance);
	snprintf(now.boot_id, sizeof(now.boot_id), "%llu", (unsigned long long) server->boot);
	now.device = 1;
	now.inode = server->directory;
	if (elector_is_predecessor(&state, &now))
		strcpy(predecessor, state.instance);

	/* As restart.c: a copy does not know what its original did since (S10). */
	if (state.present && (state.inode != now.inode || state.device != now.device))
	{
		state.caught_up = false;
		state.directory[0] = '\0';
	}
	state.present = true;
	state.system = 1;
	strcpy(state.node, world->names[server->node]);
	strcpy(state.instance, server->instance);
	strcpy(state.boot_id, now.boot_id);
	state.device = now.device;
	state.inode = now.inode;

	elector->ports = &sim_ports;
	elector->world = server;
	elector->cluster = &server->cluster;
	elector->settings = world->settings[server->node];
	snprintf(elector->settings.conninfo, ELECTOR_CONNINFO_SIZE, "%d", server->index);
	elector_init(elector, &state, server->instance, predecessor);
	if (server->problem_at != 0)
		elector->rejoin_after = server->problem_at + REJOIN_INTERVAL;
	server_settle(server);
	server_round_soon(server);
}

static void
answer_calls(Server *server)
{
	int			kept = 0;

	for (int i = 0; i < server->ncalls; i++)
	{
		Call	   *call = &server->calls[i];
		Message		message;

		memset(&message, 0, offsetof(Message, body));
		if (elector_fence_answer(&server->elector, &call->request, &message.body.answer))
		{
			message.question = ELECTOR_ASK_FENCE;
			message.from = call->from;
			message.number = call->number;
			check_answer(server, &call->request, &message.body.answer);
			send_back(server, &message);
		}
		else
			server->calls[kept++] = *call;
	}
	server->ncalls = kept;
}

static void
round_comes(World *world, Server *server, void *payload, int64_t number)
{
	if ((uint64_t) number != server->round)
		return;
	server->round_at = NEVER;
	ports_round(server);
}

static void
round_at(Server *server, ElectorTime at)
{
	if (at >= server->round_at)
		return;
	server->round_at = at;
	server->round = ++server->world->next_number;
	world_elector_later(server, at, round_comes, NULL, (int64_t) server->round);
}

/* What the disk has held up holds up everything that comes. */
void
server_settle(Server *server)
{
	ElectorTime until = server->world->now + server->stall;

	if (server->stall > 0 && until > server->elector_paused_until)
		server->elector_paused_until = until;
	server->stall = 0;
}

void
server_round_soon(Server *server)
{
	if (server->running)
		round_at(server, server->world->now + chance_between(&server->world->chance, 20, 500));
}

void
ports_round(Server *server)
{
	World	   *world = server->world;
	ElectorTime at;
	uint32_t	life = server->elector_life;

	if (!server->running || !server_accepts(server))
		return;
	at = elector_step(&server->elector);
	if (server->doomed)
	{
		TRACE(world, server, "crashes between two steps");
		if (chance_one_in(&world->chance, 2))
			server_kill_elector(server);
		else if (chance_one_in(&world->chance, 2))
			server_crash_in_place(server);
		else
		{
			server_kill(server);
			server_start(server);
		}
		return;
	}
	if (server->elector_life != life || !server->running)
		return;
	answer_calls(server);
	server_settle(server);
	at = server_true(server, at);
	round_at(server, at > world->now ? at : world->now + 100);
}
