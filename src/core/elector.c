/*
 * elector.c
 *	  The elector's round: keep up with etcd, observe, decide, act.
 *
 * The trap: a round can be late, because the process or the machine was stopped.
 * Then what is known is old although nothing says so; elector_step() reads etcd
 * anew before it acts on anything.  The gate needs no such care, it closes by
 * the clock.
 */
#include "elector.h"
#include "durability.h"
#include "name.h"
#include "rules.h"

#include <stdio.h>
#include <string.h>

/* No round changes more than this without hearing what has come in. */
#define DECISIONS_MAX 8

/* How often a standby that should stream and does not is woken. */
#define WAKE_INTERVAL 200000

/* How often a request under way is looked at. */
#define REQUEST_INTERVAL 20000

/* For so long a drain lasts when it is done; act.c's STOP_BOUND is longer. */
#define DRAINED_BOUND 800000

/* How often a leader looks who follows. */
#define FOLLOWERS_INTERVAL 500000

/* A round that comes this much later than it should is late. */
#define LATE 500000

/* How often a node looks whether the others can come in. */
#define OWN_ACCESS_INTERVAL ((ElectorTime) 10 * 1000000)

/* How often a node that was renamed looks whether its former name can be forgotten. */
#define FORMER_INTERVAL 1000000

/* An etcd that comes and goes is not worth a line more often. */
#define NOTES_APART ((ElectorTime) 10 * 1000000)

/* Look again after this time, whatever else happens. */
void
elector_poll(Elector *elector, ElectorTime interval)
{
	ElectorTime at = elector->ports->now(elector->world) + interval;

	if (elector->poll_at == 0 || at < elector->poll_at)
		elector->poll_at = at;
}

void
elector_save_state(Elector *elector)
{
	elector->ports->save_state(elector->world, &elector->state);
}

void
elector_note(Elector *elector, ElectorNoteKind kind, const char *text)
{
	ElectorNote note = {kind, elector->view.leader.term, "", text};

	elector->ports->note(elector->world, &note);
}

void
elector_note_term(Elector *elector, ElectorNoteKind kind, uint64_t term)
{
	ElectorNote note = {kind, term, "", ""};

	elector->ports->note(elector->world, &note);
}

/* Is it worth a note again?  Then this was one. */
bool
elector_note_apart(ElectorTime *noted_at, ElectorTime now)
{
	if (*noted_at != 0 && now < *noted_at + NOTES_APART)
		return false;
	*noted_at = now;
	return true;
}

void
elector_close_gate(Elector *elector)
{
	elector->ports->set_gate(elector->world, 0);
	elector->ports->set_opened(elector->world, 0);
	elector->ports->set_led(elector->world, 0);
	if (elector->gate_open)
		elector_note(elector, ELECTOR_NOTE_GATE_CLOSED, "");
	elector->gate_open = false;
	elector->gate_until = 0;
}

void
elector_move_gate(Elector *elector, ElectorTime deadline)
{
	if (!elector->gate_open || deadline <= elector->gate_until)
		return;
	elector->gate_until = deadline;
	elector->ports->set_gate(elector->world, deadline);
}

void
elector_init(Elector *elector, const ElectorState *state, const char *instance,
			 const char *predecessor)
{
	elector->state = *state;
	elector_copy(elector->instance, instance, sizeof(elector->instance));
	elector_copy(elector->predecessor, predecessor, sizeof(elector->predecessor));
	elector->started_at = elector->ports->now(elector->world);
	elector->reachable = true;
	elector_forget_names(elector);
	elector->plan.reason = ELECTOR_BECAUSE_ETCD_UNKNOWN;
	if (elector->state.directory[0] == '\0')
		elector_copy(elector->state.directory, instance, sizeof(elector->state.directory));
	elector_promise_init(elector);
	elector_save_state(elector);
}

/*
 * An elector that was restarted within the life of its postmaster finds its
 * leadership in shared memory and in etcd, where the key still carries our
 * instance.
 */
static void
resume_leadership(Elector *elector)
{
	const ElectorLeader *leader = &elector->cluster->leader;
	ElectorLease *lease = &elector->leases[ELECTOR_LEASE_LEADER];

	if (elector->leader_revision != 0 || !leader->present ||
		strcmp(leader->node, elector->settings.node) != 0 ||
		strcmp(leader->instance, elector->instance) != 0 ||
		elector->server.opened_term != leader->term)
		return;
	elector->leader_revision = leader->create_revision;
	elector->leader_term = leader->term;
	lease->id = leader->lease;
	lease->ttl = elector->settings.lease_ttl;
	elector->leading_since = elector->ports->now(elector->world);
	elector->gate_open = true;
	elector_promise_resume(elector);
}

/*
 * A standby whose history is the leader's answers reads while its lease lasts, or while
 * the leader, without etcd itself, goes on asking for promises.
 */
static void
move_read_deadline(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorTime until = elector->leases[ELECTOR_LEASE_ALIVE].deadline;
	bool		verified = view->recovering && view->upstream_term != 0 &&
	view->term.present && view->term.term == view->upstream_term;

	if (!ELECTOR_RULE(READS_VERIFIED))
		verified = view->recovering;
	if (elector->reads_until > until && view->upstream_term == elector->state.promised)
		until = elector->reads_until;
	elector->ports->set_reads(elector->world, verified ? until : 0);
}

/* What streaming teaches: how far the leader is, and that we caught up (S10). */
static void
watch_streaming(Elector *elector)
{
	const ElectorView *view = &elector->view;
	const ElectorServer *server = &elector->server;

	if (!view->recovering || view->upstream_term == 0 || !server->streaming ||
		server->told_end == 0)
		return;
	if (server->told_at > elector->leader_told_at)
	{
		elector->leader_told_at = server->told_at;
		if (server->told_end > elector->leader_end)
			elector->leader_end = server->told_end;
	}
	if (!elector->state.caught_up && server->flushed >= elector->leader_end &&
		view->term.opened && view->term.term == view->upstream_term)
	{
		elector->state.caught_up = true;
		elector_save_state(elector);
	}
}

/* A request begins and ends a handover's memory. */
static void
watch_request(Elector *elector)
{
	const ElectorView *view = &elector->view;
	bool		asked = view->request.present && view->request.refused[0] == '\0' &&
	view->request.at <= view->wall_ms && elector->gate_open;

	if (!asked && elector->handover.drain_since != 0)
	{
		elector->ports->drain(elector->world, 0);
		elector->stopped_at = 0;
	}

	/* A server that stops leaves them to its heir. */
	if (!asked && elector->handover.pause_since != 0 && !elector->stopping)
		elector->ports->resume_clients(elector->world);
	/* What has ended by then has begun again since. */
	if (elector->handover.drained &&
		view->now >= elector->handover.drain_since + view->drain_timeout + DRAINED_BOUND)
	{
		elector->handover.drained = false;
		elector->handover.drain_since = 0;
		elector->stopped_at = 0;
	}
	if (asked && elector->handover.since == 0)
	{
		memset(&elector->handover, 0, sizeof(elector->handover));
		elector->handover.since = view->now;
		elector->checkpoint_since = 0;
		elector->ask_reports_at = 0;
	}
	else if (!asked)
		memset(&elector->handover, 0, sizeof(elector->handover));
	if (asked)
		elector_poll(elector, REQUEST_INTERVAL);
}

/*
 * What the old leader sent last may lie unreplayed on disk: a startup process
 * that finds its walreceiver gone sleeps before it looks there.  One that has
 * lost its stream tries again only after wal_retrieve_retry_interval; when the
 * leader is there it need not wait.
 */
static void
wake_startup(Elector *elector)
{
	const ElectorView *view = &elector->view;

	if (!view->known || !view->recovering)
		return;
	if (!view->leader.present)
	{
		if (view->term.released)
			elector->ports->wake(elector->world);
	}
	else if (view->upstream_term != 0 && !elector->server.streaming &&
			 elector->ports->silent_since(elector->world, view->leader.node) == 0)
	{
		if (view->now >= elector->wake_at)
		{
			elector->wake_at = view->now + WAKE_INTERVAL;
			elector->ports->wake(elector->world);
		}
		elector_poll(elector, WAKE_INTERVAL);
	}
}

/* Who follows, and since when too few do. */
static void
watch_followers(Elector *elector)
{
	const ElectorView *view = &elector->view;

	for (int i = 0; i < elector->nsaid && elector->leader_revision == 0; i++)
		elector->said[i].absent_since = 0;
	for (int i = 0; i < view->npeers && elector->leader_revision != 0; i++)
	{
		ElectorSaid *said = elector_said(elector, view->peers[i].node);

		if (said == NULL)
			continue;
		if (view->peers[i].flushed != 0)
			said->absent_since = 0;
		else if (said->absent_since == 0)
			said->absent_since = view->now;
	}
	if (elector->leader_revision == 0 || !view->known || elector_durability_served(view))
		elector->unserved_since = 0;
	else if (elector->unserved_since == 0)
		elector->unserved_since = view->now;

	/* Followers come and go without an event. */
	if (elector->leader_revision != 0 && !elector_policy_is_async(view->policy))
		elector_poll(elector, FOLLOWERS_INTERVAL);
}

/* When was the old leadership proven over? */
static void
watch_revocation(Elector *elector)
{
	if (elector->fence_term != 0 && elector->revoked_at == 0 &&
		elector_is_over(&elector->view))
		elector->revoked_at = elector->view.now;
}

/* The lock's work is done, or its lease has ended. */
static void
watch_lock(Elector *elector)
{
	const ElectorView *view = &elector->view;

	if (!view->known || elector->lock_since == 0 ||
		(view->election.present && view->election.create_revision == elector->token))
		return;
	elector->lock_since = 0;
	elector->fence_term = 0;
	elector->establishing[0] = '\0';
	elector_session_drop_lease(elector, ELECTOR_LEASE_ELECTION, true);
}

/*
 * Reports tell how far behind we are, and that the others are there.  Ourselves
 * only to see that it works; each failure is an ERROR there.
 */
static void
ask_regularly(Elector *elector)
{
	const ElectorView *view = &elector->view;

	if (view->now < elector->ask_reports_at)
		return;
	elector->ask_reports_at = view->now + view->lease_ttl / 3;
	for (int i = 0; i < view->npeers; i++)
	{
		if (i == view->self)
		{
			if (view->now < elector->ask_self_at)
				continue;
			elector->ask_self_at = view->now + OWN_ACCESS_INTERVAL;
		}
		elector->ports->ask(elector->world, view->peers[i].node, ELECTOR_ASK_REPORT, NULL);
	}
}

/* Whatever else is wrong: who crashes now is a standby when it is back (S18). */
static void
watch_timeline(Elector *elector)
{
	const ElectorView *view = &elector->view;

	if ((!view->recovering ||
		 (!ELECTOR_RULE(STRAY_IS_PRIMARY) && elector->plan.action == ELECTOR_DEMOTE)) &&
		elector_state_note_primary(&elector->state, view->position.timeline))
		elector_save_state(elector);
}

/* What is done whether or not there is a decision to make. */
static void
keep_up(Elector *elector)
{
	watch_timeline(elector);
	move_read_deadline(elector);
	watch_streaming(elector);
	watch_followers(elector);
	watch_request(elector);
	wake_startup(elector);
	watch_lock(elector);
	watch_revocation(elector);
	elector_promise_step(elector);
	elector_obey_step(elector);
	ask_regularly(elector);
}

static void
note_plan(Elector *elector, const ElectorPlan *plan)
{
	ElectorPlan *noted = &elector->noted;
	bool		quiet = plan->action == ELECTOR_WAIT || plan->action == ELECTOR_CHECK_LEASE;

	if ((quiet || plan->action == noted->action) &&
		plan->reason == noted->reason && plan->term == noted->term)
		return;
	if ((plan->reason == ELECTOR_BECAUSE_LEASE_UNSURE ||
		 plan->reason == ELECTOR_BECAUSE_ETCD_UNKNOWN) &&
		!elector_note_apart(&elector->unsure_noted_at, elector->view.now))
		return;
	*noted = *plan;

	/* That has a word of its own. */
	if (quiet && plan->reason == ELECTOR_BECAUSE_PROMISED)
		return;
	elector_note_term(elector, ELECTOR_NOTE_PLAN, plan->term);
}

/* Decide and act until there is nothing to do but wait. */
static ElectorTime
decide_and_act(Elector *elector)
{
	ElectorTime again = 0;

	for (int i = 0; i < DECISIONS_MAX; i++)
	{
		elector_observe(elector);
		keep_up(elector);

		/* etcd is about to tell: what was decided last still holds. */
		if (!elector->view.known && elector->unreachable_since == 0)
			break;
		elector_observe(elector);
		elector->plan = elector_decide(&elector->view);
		again = elector->plan.again;
		note_plan(elector, &elector->plan);
		if (elector->plan.action == ELECTOR_WAIT)
			break;
		elector_act(elector, &elector->plan);
		if (elector->acting || elector->poll_at != 0)
			break;
	}
	return again;
}

/* Stopped meanwhile?  Then look before acting. */
static void
notice_stop(Elector *elector, ElectorTime now)
{
	char		text[32];

	if (elector->due == 0 || now <= elector->due + LATE)
		return;
	snprintf(text, sizeof(text), "%lld ms", (long long) ((now - elector->due) / 1000));
	elector_note(elector, ELECTOR_NOTE_LATE, text);
	elector_forget_names(elector);
	elector_session_reload(elector);
}

/*
 * This node had another name before its server was started: nobody shall wait for that
 * one (S20).  The leader takes it out of the durability rule, so there has to be one.
 * If somebody is alive by that name, this is a copy, and the name is not ours to end.
 */
static void
forget_former(Elector *elector)
{
	const ElectorView *view = &elector->view;
	char	   *former = elector->state.former;
	const ElectorNode *node;
	ElectorReason why;

	if (former[0] == '\0' || elector->acting || !view->known || !view->registered ||
		view->refusal != ELECTOR_REFUSAL_NONE)
		return;
	node = elector_cluster_node(elector->cluster, former);
	if (node == NULL || !node->member.present ||
		(node->alive.present && strcmp(node->alive.instance, elector->predecessor) != 0))
	{
		former[0] = '\0';
		elector_save_state(elector);
	}
	else if (view->leader.present && view->term.opened && view->leader.term == view->term.term &&
			 elector_judge_removal(view, former, &why))
		elector_remove_member(elector, former);
	else
		elector_poll(elector, FORMER_INTERVAL);
}

ElectorTime
elector_step(Elector *elector)
{
	ElectorTime now = elector->ports->now(elector->world);
	ElectorTime at;
	ElectorTime again;

	notice_stop(elector, now);
	elector_session_step(elector, now);
	elector->ports->look(elector->world, &elector->server);
	resume_leadership(elector);
	elector->poll_at = 0;
	elector->news = false;
	again = decide_and_act(elector);
	forget_former(elector);

	at = elector_session_next(elector, now);
	if (again != 0 && again < at)
		at = again;
	if (elector->ask_reports_at < at)
		at = elector->ask_reports_at;
	again = elector_promise_next(elector);
	if (again != 0 && again < at)
		at = again;
	if (elector->poll_at != 0 && elector->poll_at < at)
		at = elector->poll_at;
	elector->due = at > now ? at : now;
	return at;
}

void
elector_heard(Elector *elector, const ElectorErrand *errand,
			  const ElectorErrandResult *result)
{
	if (result->status == ELECTOR_ETCD_OK && result->raft_term > elector->raft_term)
		elector->raft_term = result->raft_term;
	elector_session_heard(elector, errand, result);
	elector_act_heard(elector, errand, result);
}

void
elector_finish(Elector *elector)
{
	ElectorLease *lease = &elector->leases[ELECTOR_LEASE_LEADER];

	if (elector->gate_open && !elector->stopping)
		elector_name_heir(elector);

	/* alive/<node> says that a node is there. */
	elector_session_drop_lease(elector, ELECTOR_LEASE_ALIVE, true);

	/* Nobody waits for an election that has ended; a handover is ended by its release. */
	if (elector->leader_revision == 0)
		elector_session_drop_lease(elector, ELECTOR_LEASE_ELECTION, true);
	if (lease->id != 0)
		elector_session_renew(elector, ELECTOR_LEASE_LEADER,
							  elector->ports->now(elector->world));
}

/* --- what peers say --- */

static void
heard_report(Elector *elector, ElectorSaid *said, const ElectorReport *report)
{
	const ElectorLeader *leader = &elector->cluster->leader;

	if (strcmp(report->node, said->node) != 0)
	{
		if (strcmp(said->misled_to, report->node) != 0)
		{
			ElectorNote note = {ELECTOR_NOTE_MISLED, 0, said->node, report->node};

			elector->ports->note(elector->world, &note);
		}
		elector_copy(said->misled_to, report->node, sizeof(said->misled_to));
		if (said->misled_since == 0)
			said->misled_since = elector->ports->now(elector->world);
		memset(&said->report, 0, sizeof(said->report));
		return;
	}
	said->misled_since = 0;
	said->misled_to[0] = '\0';
	said->report = *report;
	if (report->remembered > elector->remembered && report->remembered <= INT64_MAX / 2)
		elector->remembered = report->remembered;
	said->reported_at = elector->ports->now(elector->world);
	if (report->stopping)
	{
		/* Our connection would keep a smart shutdown waiting. */
		elector->ports->disconnect(elector->world, said->node);
		return;
	}

	/* The end of WAL that the leader told last (L4). */
	if (report->leads && leader->present && strcmp(report->node, leader->node) == 0)
	{
		elector->leader_end = report->lsn;
		elector->leader_told_at = said->reported_at;
	}
}

static void
heard_answer(Elector *elector, ElectorSaid *said, const ElectorAnswer *answer)
{
	if (answer != NULL && answer->remembered > elector->remembered)
		elector->remembered = answer->remembered;
	if (elector->lock_since == 0)
		return;					/* of an election that is over */
	if (answer == NULL)
	{
		memset(&said->answer, 0, sizeof(said->answer));
		said->answer.kind = ELECTOR_ANSWER_FAILED;
	}
	else if (answer->kind == ELECTOR_ANSWER_FENCED &&
			 answer->kept_term != elector->fence_term)
		memset(&said->answer, 0, sizeof(said->answer)); /* of an earlier fence */
	else
		said->answer = *answer;
}

void
elector_told(Elector *elector, const char *node, ElectorQuestion question,
			 const void *answer, const char *error)
{
	ElectorSaid *said = elector_said(elector, node);

	if (said == NULL)
		return;
	elector->news = true;
	switch (question)
	{
		case ELECTOR_ASK_REPORT:
			if (answer != NULL)
				heard_report(elector, said, answer);
			break;
		case ELECTOR_ASK_FENCE:
			heard_answer(elector, said, answer);
			break;
		case ELECTOR_ASK_PROMISE:
			if (answer != NULL)
				elector_promise_told(elector, said, answer);
			break;
		case ELECTOR_ASK_ESTABLISH:
			if (error != NULL)
			{
				ElectorNote note = {ELECTOR_NOTE_NOT_ESTABLISHED, 0, node, error};

				elector->ports->note(elector->world, &note);
				if (strcmp(elector->establishing, node) == 0)
				{
					said->passed_over = true;
					elector->establishing[0] = '\0';
				}
			}
			break;
		case ELECTOR_QUESTIONS:
			break;
	}
}
