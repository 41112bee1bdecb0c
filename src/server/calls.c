/*
 * calls.c
 *	  What others ask of the worker: fences, orders, requests, reports.
 *
 * A backend leaves its call in shared memory and waits; the worker takes it in
 * its next round.  A fence takes several rounds: remember the term durably,
 * close the gate or drop the upstream, wait for the last commits or for the
 * walreceiver, find the position, answer.
 *
 * The trap: a fence is answered only when it is complete.  A node that cannot
 * complete it does not answer, and then counts as not fenced (S2, S5).
 */
#include "worker.h"

#include <signal.h>

#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "utils/timestamp.h"

#include "core/name.h"
#include "etcd/json.h"
#include "standby.h"

/* Fresh reports are waited for so long. */
#define REFRESH_BOUND 500000

/* How often a node looks whether the others can come in. */
#define OWN_ACCESS_INTERVAL ((ElectorTime) 10 * 1000000)

static ElectorTime refresh_since = 0;

/* --- answering --- */

static void
answer_call(ElectorCall *call, bool failed, const char *text)
{
	LWLockAcquire(elector_shared->lock, LW_EXCLUSIVE);
	if (call->state == ELECTOR_CALL_ABANDONED)
		call->state = ELECTOR_CALL_FREE;
	else if (call->state == ELECTOR_CALL_TAKEN)
	{
		call->failed = failed;
		strlcpy(call->answer, text, sizeof(call->answer));
		call->state = ELECTOR_CALL_ANSWERED;
	}
	LWLockRelease(elector_shared->lock);
	ConditionVariableBroadcast(&elector_shared->answered);
}

static void
fill_answer(ElectorAnswer *answer, ElectorAnswerKind kind)
{
	ElectorWorker *worker = elector_worker;
	ElectorTime reference = worker->gone_since != 0 ? worker->gone_since : elector_now();

	memset(answer, 0, sizeof(*answer));
	answer->kind = kind;
	strlcpy(answer->instance, elector_shared->instance, sizeof(answer->instance));
	answer->kept_term = worker->state.term;
	answer->kept_timeline = elector_standby_newest_timeline(worker->state.timeline);
	answer->position = worker->position;
	answer->primary = !RecoveryInProgress();
	answer->counts = worker->fence_counts && worker->state.stray == 0;	/* S10, S18 */
	answer->candidate = elector_candidate;
	answer->priority = elector_priority;
	answer->etcd = worker->unreachable_since == 0;

	/*
	 * The leader's key outlives it by up to a TTL, and it was last asked up
	 * to a third of one before that.
	 */
	answer->lag_known = answer->primary ||
		(worker->leader_told_at != 0 &&
		 worker->leader_told_at + 2 * (ElectorTime) elector_lease_ttl * 1000000 >= reference);
	answer->lag = answer->primary || worker->leader_end <= worker->position.lsn ? 0 :
		(int64) (worker->leader_end - worker->position.lsn);
}

/* Our own election asked us, too. */
static void
answer_self(ElectorAnswerKind kind)
{
	ElectorWorker *worker = elector_worker;
	int			said = elector_said_index(elector_node);

	if (!worker->fence_self || said < 0)
		return;
	worker->fence_self = false;
	fill_answer(&worker->said[said].answer, kind);
}

static void
answer_fences(ElectorAnswerKind kind)
{
	ElectorAnswer answer;
	char		text[ELECTOR_CALL_SIZE];

	for (int i = 0; i < ELECTOR_CALLS_MAX; i++)
	{
		ElectorCall *call = &elector_shared->calls[i];
		ElectorFenceRequest request;

		if (call->kind != ELECTOR_CALL_FENCE ||
			(call->state != ELECTOR_CALL_TAKEN && call->state != ELECTOR_CALL_ABANDONED))
			continue;
		elector_fence_parse(call->argument, &request);

		/* Who asked for something older has been overtaken. */
		fill_answer(&answer,
					request.term == elector_worker->fenced.term &&
					request.token == elector_worker->fenced.token ?
					kind : ELECTOR_ANSWER_REFUSED);
		elector_answer_format(&answer, text, sizeof(text));
		answer_call(call, false, text);
	}
}

/* Calls that an earlier worker has left half done. */
void
elector_calls_reset(void)
{
	for (int i = 0; i < ELECTOR_CALLS_MAX; i++)
		answer_call(&elector_shared->calls[i], true, "the elector of this node was restarted");
}

/* --- being fenced --- */

void
elector_fence_begin(const ElectorView *view, const ElectorFenceRequest *request)
{
	ElectorWorker *worker = elector_worker;

	if (elector_judge_fence(view, request->term, request->token) != ELECTOR_FENCE_OBEY)
	{
		answer_self(ELECTOR_ANSWER_REFUSED);
		return;
	}
	if (worker->fence_stage != ELECTOR_FENCE_IDLE &&
		worker->fenced.term == request->term && worker->fenced.token == request->token)
		return;					/* asked again; the step answers */

	ereport(LOG,
			(errmsg("fenced for term " UINT64_FORMAT, request->term)));
	worker->fence_counts = elector_state_counts(&worker->state, request->opened_term);
	if (!worker->fence_counts)
		worker->state.caught_up = false;
	worker->state.term = request->term;
	worker->state.token = request->token;
	elector_close_gate();
	worker->ordered = false;
	elector_worker_save_state();

	worker->fenced = *request;
	worker->fenced_since = view->now;
	worker->terminated = false;
	worker->fence_stage = view->recovering ? ELECTOR_FENCE_FREEZING : ELECTOR_FENCE_DRAINING;
	elector_worker_poll(0);
}

/* Close the gate, wait for the commits that passed it, end the rest. */
static bool
drain(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	elector_close_gate();
	if (elector_gate_drained())
	{
		worker->position = view->position;
		worker->position.lsn = GetFlushRecPtr(NULL);
		return true;
	}
	if (view->now >= worker->fenced_since + view->fence_timeout / 4)
		elector_gate_terminate();
	return false;
}

void
elector_fence_step(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	switch (worker->fence_stage)
	{
		case ELECTOR_FENCE_IDLE:
			return;
		case ELECTOR_FENCE_FREEZING:
			if (!RecoveryInProgress())
			{
				worker->fence_stage = ELECTOR_FENCE_DRAINING;
				elector_worker_poll(0);
				return;
			}
			if (!elector_standby_freeze(&worker->position))
			{
				elector_worker_poll(5000);
				return;
			}
			break;
		case ELECTOR_FENCE_DRAINING:
			if (!drain(view))
			{
				elector_worker_poll(5000);
				return;
			}
			break;
		case ELECTOR_FENCE_DONE:
			break;
	}
	worker->fence_stage = ELECTOR_FENCE_DONE;
	answer_self(ELECTOR_ANSWER_FENCED);
	answer_fences(ELECTOR_ANSWER_FENCED);
}

/* --- calls of backends --- */

static void
serve_fence(const ElectorView *view, ElectorCall *call)
{
	ElectorFenceRequest request;

	if (!elector_fence_parse(call->argument, &request))
	{
		answer_call(call, true, "malformed fence request");
		return;
	}
	if (elector_judge_fence(view, request.term, request.token) != ELECTOR_FENCE_OBEY)
	{
		ElectorAnswer answer;
		char		text[ELECTOR_CALL_SIZE];

		fill_answer(&answer, ELECTOR_ANSWER_REFUSED);
		elector_answer_format(&answer, text, sizeof(text));
		answer_call(call, false, text);
		return;
	}
	elector_fence_begin(view, &request);
}

static void
serve_establish(const ElectorView *view, ElectorCall *call)
{
	ElectorOrder order;

	if (!elector_order_parse(call->argument, &order))
		answer_call(call, true, "malformed order");
	else if (elector_worker->fence_stage != ELECTOR_FENCE_DONE ||
			 !elector_accept_order(view, order.term, order.token, order.instance,
								   order.position))
		answer_call(call, true, "not as fenced");
	else
	{
		elector_worker->order = order;
		elector_worker->ordered = true;
		elector_worker_poll(0);
		answer_call(call, false, "{}");
	}
}

static void
request_written(void *arg, const ElectorEtcdReply *reply)
{
	ElectorCall *call = arg;

	elector_worker->acting = false;
	elector_session_note(reply);
	if (reply->status == ELECTOR_ETCD_OK && reply->succeeded)
	{
		elector_worker->written = Max(elector_worker->written, reply->revision);
		answer_call(call, false, call->argument);
		return;
	}
	elector_session_reload();
	answer_call(call, true, reply->status == ELECTOR_ETCD_OK ?
				"the leader has changed meanwhile, or another switchover is under way" :
				"etcd did not confirm the request; see elector_status whether it takes place");
}

/* Why a switchover to the target cannot be; false if nothing speaks against it. */
static bool
refuse_switchover(const ElectorView *view, const char *target, char *why, size_t size)
{
	ElectorNode *node = elector_mirror_node(&elector_worker->mirror, target);

	if (!view->known)
		snprintf(why, size, "etcd does not answer");
	else if (!view->leader.present || !view->term.opened ||
			 view->term.term != view->leader.term)
		snprintf(why, size, "there is no leader at the moment");
	else if (view->request.present && view->request.term == view->leader.term)
		snprintf(why, size, "another switchover is under way");
	else if (target[0] == '\0')
		return false;
	else if (strcmp(target, view->leader.node) == 0)
		snprintf(why, size, "\"%s\" is the leader already", target);
	else if (node == NULL || !node->member.present)
		snprintf(why, size, "\"%s\" is no member of the cluster; see elector_status", target);
	else if (!node->alive.present)
		snprintf(why, size, "\"%s\" is not alive; see elector_status", target);
	else if (!node->member.candidate)
		snprintf(why, size, "\"%s\" is not a candidate (pg_elector.candidate)", target);
	else
		return false;
	return true;
}

static void
serve_switchover(const ElectorView *view, ElectorCall *call)
{
	const ElectorKeys *keys = &elector_worker->mirror.keys;
	char		why[ELECTOR_TEXT_SIZE];
	ElectorRequest request;
	ElectorTxn *txn;
	char	   *json;

	if (refuse_switchover(view, call->argument, why, sizeof(why)))
	{
		answer_call(call, true, why);
		return;
	}
	memset(&request, 0, sizeof(request));
	strlcpy(request.target, call->argument, sizeof(request.target));
	strlcpy(request.node, elector_node, sizeof(request.node));
	request.term = view->leader.term;
	json = elector_request_to_json(&request);

	txn = elector_txn_create();
	elector_txn_if_created(txn, keys->leader, view->leader.create_revision);
	elector_txn_if_created(txn, keys->request, view->request.present ?
						   view->request.create_revision : 0);
	elector_txn_put(txn, keys->request, json, 0);
	free(json);
	elector_worker->acting = true;
	elector_etcd_commit(elector_worker->etcd, txn, elector_session_bound(),
						request_written, call);
}

static void
ask_reports(const ElectorView *view)
{
	for (int i = 0; i < view->npeers; i++)
	{
		/* Ourselves only to see that it works; each failure is an ERROR there. */
		if (i == view->self)
		{
			if (view->now < elector_worker->ask_self_at)
				continue;
			elector_worker->ask_self_at = view->now + OWN_ACCESS_INTERVAL;
		}
		elector_peers_ask(view->peers[i].node, ELECTOR_ASK_REPORT, "");
	}
}

/* Have all peers that answer at all given a fresh report? */
static bool
refreshed(const ElectorView *view)
{
	if (view->now >= refresh_since + REFRESH_BOUND)
		return true;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];

		if (i != view->self && peer->reported_at < refresh_since &&
			!(peer->silent_since != 0 &&
			  peer->silent_since + REFRESH_BOUND < refresh_since))
			return false;
	}
	return true;
}

static void
serve_refresh(const ElectorView *view, ElectorCall *call)
{
	if (refresh_since == 0)
	{
		refresh_since = view->now;
		ask_reports(view);
		elector_worker_poll(0);
	}
}

static void
finish_refresh(const ElectorView *view)
{
	if (refresh_since == 0)
		return;
	if (!refreshed(view))
	{
		elector_worker_poll(10000);
		return;
	}
	refresh_since = 0;
	for (int i = 0; i < ELECTOR_CALLS_MAX; i++)
	{
		ElectorCall *call = &elector_shared->calls[i];

		if (call->kind == ELECTOR_CALL_REFRESH &&
			(call->state == ELECTOR_CALL_TAKEN || call->state == ELECTOR_CALL_ABANDONED))
			answer_call(call, false, "");
	}
}

/* Reports tell how far behind we are, and that the others are there. */
static void
ask_regularly(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	if (view->now < worker->ask_reports_at)
		return;
	worker->ask_reports_at = view->now + view->lease_ttl / 3;
	ask_reports(view);
}

void
elector_calls_serve(const ElectorView *view)
{
	for (int i = 0; i < ELECTOR_CALLS_MAX; i++)
	{
		ElectorCall *call = &elector_shared->calls[i];
		bool		asked;

		LWLockAcquire(elector_shared->lock, LW_EXCLUSIVE);
		asked = call->state == ELECTOR_CALL_ASKED;

		/* A transaction at a time: a request waits for the one under way. */
		if (asked && call->kind == ELECTOR_CALL_SWITCHOVER && elector_worker->acting)
			asked = false;
		if (asked)
			call->state = ELECTOR_CALL_TAKEN;
		LWLockRelease(elector_shared->lock);
		if (!asked)
			continue;
		switch (call->kind)
		{
			case ELECTOR_CALL_FENCE:
				serve_fence(view, call);
				break;
			case ELECTOR_CALL_ESTABLISH:
				serve_establish(view, call);
				break;
			case ELECTOR_CALL_SWITCHOVER:
				serve_switchover(view, call);
				break;
			case ELECTOR_CALL_REFRESH:
				serve_refresh(view, call);
				break;
		}
	}
	elector_fence_step(view);
	finish_refresh(view);
	ask_regularly(view);
}

/* --- answers of peers --- */

static void
heard_report(int said, const char *answer)
{
	ElectorWorker *worker = elector_worker;
	ElectorReport report;

	if (!elector_report_parse(answer, &report) ||
		strcmp(report.node, worker->said[said].node) != 0)
		return;
	worker->said[said].report = report;
	worker->said[said].reported_at = elector_now();

	if (report.stopping)
	{
		/* Our connection would keep a smart shutdown waiting. */
		elector_peers_disconnect(report.node);
		return;
	}

	/* The end of WAL that the leader told last (L4). */
	if (report.leads && worker->mirror.leader.present &&
		strcmp(report.node, worker->mirror.leader.node) == 0)
	{
		worker->leader_end = report.lsn;
		worker->leader_told_at = worker->said[said].reported_at;
	}
}

/* Can the others come in?  A line in the log when that changes. */
static void
note_own_access(const char *error)
{
	char	   *kept = elector_worker->access_error;

	if (elector_worker->stopping || elector_postmaster_stopping())
		return;
	if (error == NULL)
		error = "";
	if (strcmp(kept, error) == 0)
		return;
	strlcpy(kept, error, ELECTOR_TEXT_SIZE);
	if (error[0] != '\0')
		ereport(WARNING,
				(errmsg("other nodes cannot use \"pg_elector.conninfo\" of this one: %s", error),
				 errdetail("It cannot be fenced or asked for its status, and nobody can follow it.")));
	else
		ereport(LOG,
				(errmsg("other nodes can use \"pg_elector.conninfo\" of this one")));
}

void
elector_peer_answered(const char *node, ElectorQuestion question, const char *answer,
					  const char *error)
{
	ElectorWorker *worker = elector_worker;
	int			said = elector_said_index(node);

	if (said < 0)
		return;
	worker->news = true;
	switch (question)
	{
		case ELECTOR_ASK_REPORT:
			if (strcmp(node, elector_node) == 0)
				note_own_access(error);
			if (answer != NULL)
				heard_report(said, answer);
			break;
		case ELECTOR_ASK_FENCE:
			{
				ElectorAnswer *kept = &worker->said[said].answer;

				if (worker->lock_since == 0)
					break;		/* of an election that is over */
				if (answer == NULL || !elector_answer_parse(answer, kept))
				{
					memset(kept, 0, sizeof(*kept));
					kept->kind = ELECTOR_ANSWER_FAILED;
				}
				else if (kept->kind == ELECTOR_ANSWER_FENCED &&
						 kept->kept_term != worker->fence_term)
					memset(kept, 0, sizeof(*kept)); /* of an earlier fence */
				break;
			}
		case ELECTOR_ASK_ESTABLISH:
			if (answer == NULL)
			{
				ereport(LOG,
						(errmsg("node \"%s\" could not be established: %s", node, error)));
				if (strcmp(worker->establishing, node) == 0)
				{
					worker->said[said].passed_over = true;
					worker->establishing[0] = '\0';
				}
			}
			break;
		case ELECTOR_QUESTIONS:
			break;
	}
}
