/*
 * calls.c
 *	  What others ask of the worker: fences, orders, requests, reports.
 *
 * A backend leaves its call in shared memory and waits; the worker takes it in
 * its next round.  What a fence or an order means is core/obey.c's; here they
 * are only brought in and answered.  A fence takes several rounds, so every
 * round looks which of the fences that were taken can be answered.
 */
#include "worker.h"

#include "miscadmin.h"

/* Fresh reports are waited for so long. */
#define REFRESH_BOUND 500000

static ElectorTime refresh_since = 0;

/* The call for which something is being written to etcd. */
static ElectorCall *writing = NULL;

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

/* Calls that an earlier worker has left half done. */
void
elector_calls_reset(void)
{
	for (int i = 0; i < ELECTOR_CALLS_MAX; i++)
		answer_call(&elector_shared->calls[i], true, "the elector of this node was restarted");
}

/* A call of this kind that the worker is at. */
static bool
is_taken(const ElectorCall *call, ElectorCallKind kind)
{
	return call->kind == kind &&
		(call->state == ELECTOR_CALL_TAKEN || call->state == ELECTOR_CALL_ABANDONED);
}

/* --- serving --- */

static void
serve_fence(ElectorCall *call)
{
	ElectorFenceRequest request;

	if (elector_fence_parse(call->argument, &request))
		elector_take_fence(&elector_worker->elector, &request);
	else
		answer_call(call, true, "malformed fence request");
}

static void
serve_establish(ElectorCall *call)
{
	ElectorOrder order;

	if (!elector_order_parse(call->argument, &order))
		answer_call(call, true, "malformed order");
	else if (elector_take_order(&elector_worker->elector, &order))
		answer_call(call, false, "{}");
	else
		answer_call(call, true, "not as fenced");
}

static void
serve_promise(ElectorCall *call)
{
	ElectorPromiseRequest request;
	ElectorPromise promise;
	char		text[ELECTOR_CALL_SIZE];

	if (!elector_promise_request_parse(call->argument, &request))
	{
		answer_call(call, true, "malformed request");
		return;
	}
	elector_take_promise(&elector_worker->elector, &request, &promise);
	if (elector_promise_format(&promise, text, sizeof(text)))
		answer_call(call, false, text);
	else
		answer_call(call, true, "could not format the answer");
}

/* Who holds the leader where it is, and until when. */
static const char *
describe_hold(const ElectorView *view)
{
	const ElectorClusterSettings *settings = &elector_worker->elector.cluster->settings;
	int			hold = elector_find_hold(settings, view->leader.term, view->wall_ms, 0);

	if (hold < 0)
		return elector_reason_sentence(ELECTOR_BECAUSE_HELD);
	return psprintf("hold " INT64_FORMAT ", taken on \"%s\", keeps the leader where it is for another %d s: %s; wait, or end it with elector_release(" INT64_FORMAT ")",
					settings->holds[hold].id, settings->holds[hold].node,
					(int) ((settings->holds[hold].until - view->wall_ms) / 1000),
					settings->holds[hold].reason, settings->holds[hold].id);
}

/* What the operator asks for is written to etcd, one thing at a time. */
static void
serve_switchover(ElectorCall *call, bool only_check)
{
	Elector    *elector = &elector_worker->elector;
	const ElectorView *view = &elector->view;
	char		target[ELECTOR_NAME_SIZE] = "";
	ElectorReason why;
	int64		at;
	int			wait;
	int			heir;

	if (sscanf(call->argument, INT64_FORMAT " %d %63s", &at, &wait, target) < 2)
	{
		answer_call(call, true, "malformed request");
		return;
	}
	elector_observe(elector);
	heir = elector_judge_switchover(view, target, &why);
	if (heir < 0)
	{
		answer_call(call, true, why == ELECTOR_BECAUSE_HELD ? describe_hold(view) :
					elector_reason_sentence(why));
		return;
	}
	if (only_check)
	{
		answer_call(call, false, view->peers[heir].node);
		return;
	}
	writing = call;

	/* At a time that is still to come, the best may be another. */
	call->request = elector_request_switchover(elector, at != 0 ? target : view->peers[heir].node, at);
	call->request_term = view->leader.term;

	/* The session of who asks the leader itself would end by it. */
	if (!wait || at != 0 || strcmp(view->leader.node, elector_node) == 0)
		call->request = 0;
	strlcpy(call->argument, view->peers[heir].node, sizeof(call->argument));
}

/* An operator's override, where no leader is elected because commits may be lost. */
static void
serve_failover(ElectorCall *call)
{
	Elector    *elector = &elector_worker->elector;
	const ElectorView *view = &elector->view;
	char		target[ELECTOR_NAME_SIZE] = "";
	ElectorLsn	best = 0;
	ElectorReason why;
	int			accepted;

	if (sscanf(call->argument, "%d %63s", &accepted, target) < 1)
	{
		answer_call(call, true, "malformed request");
		return;
	}
	elector_observe(elector);
	if (!elector_judge_failover(view, target, &why))
	{
		answer_call(call, true, elector_reason_sentence(why));
		return;
	}
	for (int i = 0; i < view->npeers; i++)
	{
		if (view->peers[i].alive && (target[0] == '\0' || strcmp(view->peers[i].node, target) == 0))
			best = Max(best, view->peers[i].position.lsn);
	}
	if (!accepted)
	{
		answer_call(call, true,
					psprintf("acknowledged commits may be lost: " UINT64_FORMAT " bytes of WAL that the last leader had told of, and all that it wrote after that; with accept_data_loss => true it is done all the same",
							 elector->leader_end > best ? elector->leader_end - best : 0));
		return;
	}
	writing = call;
	call->request = elector_request_failover(elector, target);
	call->request_term = view->term.term;
}

static void
serve_cancel(ElectorCall *call)
{
	Elector    *elector = &elector_worker->elector;
	const ElectorView *view = &elector->view;

	elector_observe(elector);
	if (!view->known)
		answer_call(call, true, elector_reason_sentence(ELECTOR_BECAUSE_ETCD_UNKNOWN));
	else if (!view->request.present || view->request.refused[0] != '\0')
		answer_call(call, false, "");
	else if (!view->leader.present)
		answer_call(call, true, "it takes place already");
	else
	{
		writing = call;
		call->request = view->request.id;
		call->request_term = view->leader.term;
		elector_refuse_request(elector, psprintf("it was canceled on node \"%s\"", elector_node));
	}
}

static void
serve_hold(ElectorCall *call)
{
	Elector    *elector = &elector_worker->elector;
	const ElectorView *view = &elector->view;
	int64		lasts;
	int64		id;
	int			rest = 0;

	elector_observe(elector);
	if (sscanf(call->argument, INT64_FORMAT " %n", &lasts, &rest) < 1)
		answer_call(call, true, "malformed request");
	else if (!view->known)
		answer_call(call, true, elector_reason_sentence(ELECTOR_BECAUSE_ETCD_UNKNOWN));
	else if (!view->leader.present || !view->term.opened)
		answer_call(call, true, elector_reason_sentence(ELECTOR_BECAUSE_NO_LEADER));
	else if (elector_is_changing(view))
		answer_call(call, true, elector_reason_sentence(ELECTOR_BECAUSE_CHANGING));
	else if ((id = elector_hold(elector, call->argument + rest, lasts)) == 0)
		answer_call(call, true, "there are as many holds as there can be; release one");
	else
	{
		writing = call;
		call->request = 0;
		snprintf(call->argument, sizeof(call->argument), INT64_FORMAT, id);
	}
}

static void
serve_release(ElectorCall *call)
{
	Elector    *elector = &elector_worker->elector;

	elector_observe(elector);
	if (!elector->view.known)
		answer_call(call, true, elector_reason_sentence(ELECTOR_BECAUSE_ETCD_UNKNOWN));
	else if (!elector_release_hold(elector, strtoll(call->argument, NULL, 10)))
		answer_call(call, false, "");
	else
	{
		writing = call;
		call->request = 0;
		strlcpy(call->argument, "released", sizeof(call->argument));
	}
}

static void
serve_pause(ElectorCall *call, bool pause)
{
	Elector    *elector = &elector_worker->elector;

	elector_observe(elector);
	if (!elector->view.known)
		answer_call(call, true, elector_reason_sentence(ELECTOR_BECAUSE_ETCD_UNKNOWN));
	else if (elector->view.paused == pause)
		answer_call(call, false, "");
	else
	{
		writing = call;
		call->request = 0;
		elector_set_paused(elector, pause, call->argument);
		strlcpy(call->argument, "changed", sizeof(call->argument));
	}
}

static void
serve_remove(ElectorCall *call)
{
	Elector    *elector = &elector_worker->elector;
	ElectorReason why;

	elector_observe(elector);
	if (!elector_judge_removal(&elector->view, call->argument, &why))
	{
		answer_call(call, true, elector_reason_sentence(why));
		return;
	}
	writing = call;
	call->request = 0;
	elector_remove_member(elector, call->argument);
}

/* etcd has answered. */
void
elector_calls_written(ElectorDeed deed, const ElectorErrandResult *result)
{
	ElectorCall *call = writing;

	if (call == NULL || (deed != ELECTOR_DEED_REQUEST && deed != ELECTOR_DEED_REFUSE &&
						 deed != ELECTOR_DEED_SETTINGS && deed != ELECTOR_DEED_REMOVE))
		return;
	writing = NULL;
	if (result->status != ELECTOR_ETCD_OK)
		answer_call(call, true, "etcd did not confirm the request; see elector_status whether it takes place");
	else if (!result->succeeded)
		answer_call(call, true, deed == ELECTOR_DEED_REMOVE ?
					"it has come back, or the leader has changed, meanwhile" :
					"the leader has changed meanwhile, or another change is under way");
	else if (call->request == 0)
		answer_call(call, false, call->argument);
}

static void
serve_refresh(void)
{
	const ElectorView *view = &elector_worker->elector.view;

	if (refresh_since != 0)
		return;
	refresh_since = elector_now();
	elector_peers_hurry();
	for (int i = 0; i < view->npeers; i++)
	{
		if (i != view->self)
			elector_peers_ask(view->peers[i].node, ELECTOR_ASK_REPORT, "");
	}
}

/* Does serving it write to etcd? */
static bool
is_written(ElectorCallKind kind)
{
	switch (kind)
	{
		case ELECTOR_CALL_SWITCHOVER:
		case ELECTOR_CALL_FAILOVER:
		case ELECTOR_CALL_CANCEL:
		case ELECTOR_CALL_HOLD:
		case ELECTOR_CALL_RELEASE:
		case ELECTOR_CALL_PAUSE:
		case ELECTOR_CALL_RESUME:
		case ELECTOR_CALL_REMOVE:
			return true;
		case ELECTOR_CALL_FENCE:
		case ELECTOR_CALL_ESTABLISH:
		case ELECTOR_CALL_PROMISE:
		case ELECTOR_CALL_CHECK:
		case ELECTOR_CALL_REFRESH:
			return false;
	}
	pg_unreachable();
}

void
elector_calls_serve(void)
{
	for (int i = 0; i < ELECTOR_CALLS_MAX; i++)
	{
		ElectorCall *call = &elector_shared->calls[i];
		bool		asked;

		LWLockAcquire(elector_shared->lock, LW_EXCLUSIVE);
		asked = call->state == ELECTOR_CALL_ASKED;

		/* A transaction at a time: a request waits for the one under way. */
		if (asked && is_written(call->kind) && elector_worker->elector.acting)
			asked = false;
		if (asked)
			call->state = ELECTOR_CALL_TAKEN;
		LWLockRelease(elector_shared->lock);
		if (!asked)
			continue;
		switch (call->kind)
		{
			case ELECTOR_CALL_FENCE:
				serve_fence(call);
				break;
			case ELECTOR_CALL_ESTABLISH:
				serve_establish(call);
				break;
			case ELECTOR_CALL_PROMISE:
				serve_promise(call);
				break;
			case ELECTOR_CALL_SWITCHOVER:
				serve_switchover(call, false);
				break;
			case ELECTOR_CALL_CHECK:
				serve_switchover(call, true);
				break;
			case ELECTOR_CALL_FAILOVER:
				serve_failover(call);
				break;
			case ELECTOR_CALL_CANCEL:
				serve_cancel(call);
				break;
			case ELECTOR_CALL_HOLD:
				serve_hold(call);
				break;
			case ELECTOR_CALL_RELEASE:
				serve_release(call);
				break;
			case ELECTOR_CALL_PAUSE:
				serve_pause(call, true);
				break;
			case ELECTOR_CALL_RESUME:
				serve_pause(call, false);
				break;
			case ELECTOR_CALL_REMOVE:
				serve_remove(call);
				break;
			case ELECTOR_CALL_REFRESH:
				serve_refresh();
				break;
		}
	}
}

/* --- what can be answered after a round --- */

static void
answer_fence(ElectorCall *call)
{
	ElectorFenceRequest request;
	ElectorAnswer answer;
	char		text[ELECTOR_CALL_SIZE];

	if (!elector_fence_parse(call->argument, &request) ||
		!elector_fence_answer(&elector_worker->elector, &request, &answer))
		return;
	if (elector_answer_format(&answer, text, sizeof(text)))
		answer_call(call, false, text);
	else
		answer_call(call, true, "could not format the answer");
}

/* For how long nobody took writes, in milliseconds; -1: not known. */
static int
pause_of(uint64 term)
{
	const ElectorMirror *mirror = &elector_worker->mirror;

	for (int i = mirror->nhistory - 1; i >= 0; i--)
	{
		if (mirror->history[i].term == term)
			return elector_history_pause(&mirror->history[i]);
	}
	return -1;
}

/* The switchover that was asked for has ended one way or the other, or not yet. */
static void
answer_switchover(ElectorCall *call)
{
	const ElectorView *view = &elector_worker->elector.view;
	const ElectorRequest *request = &view->request;

	if (call->request == 0 || call == writing || !view->known)
		return;
	if (view->term.term > call->request_term && view->term.opened)
		answer_call(call, false, psprintf("%s " UINT64_FORMAT " %d", view->term.node,
										  view->term.term, pause_of(view->term.term)));
	else if (request->present && request->id == call->request &&
			 strcmp(request->node, elector_node) == 0)
	{
		if (request->refused[0] != '\0')
			answer_call(call, true, request->refused);
	}
	else if (view->term.term == call->request_term)
		answer_call(call, true, "another change came before it");
}

/* The leader may have begun to stop when it was told; it unlocks if it has not. */
static void
answer_cancel(ElectorCall *call)
{
	const ElectorView *view = &elector_worker->elector.view;

	if (call->request == 0 || call == writing || !view->known)
		return;
	if (!view->leader.present || view->leader.term != call->request_term)
		answer_call(call, true, "it comes too late, the leader has changed or is about to; see elector_status");
	else if (!view->election.present || strcmp(view->election.node, view->leader.node) != 0)
		answer_call(call, false, "canceled");
}

/* Have all peers that answer at all given a fresh report? */
static bool
refreshed(const ElectorView *view)
{
	if (elector_now() >= refresh_since + REFRESH_BOUND)
		return true;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];

		if (i != view->self && peer->reported_at < refresh_since &&
			!(peer->silent_since != 0 && !peer->alive &&
			  peer->silent_since + REFRESH_BOUND < refresh_since))
			return false;
	}
	return true;
}

void
elector_calls_answer(void)
{
	Elector    *elector = &elector_worker->elector;
	bool		fresh = refresh_since != 0 && refreshed(&elector->view);

	for (int i = 0; i < ELECTOR_CALLS_MAX; i++)
	{
		ElectorCall *call = &elector_shared->calls[i];

		if (is_taken(call, ELECTOR_CALL_FENCE))
			answer_fence(call);
		else if (is_taken(call, ELECTOR_CALL_SWITCHOVER) || is_taken(call, ELECTOR_CALL_FAILOVER))
			answer_switchover(call);
		else if (is_taken(call, ELECTOR_CALL_CANCEL))
			answer_cancel(call);
		else if (fresh && is_taken(call, ELECTOR_CALL_REFRESH))
			answer_call(call, false, "");
	}
	if (fresh)
		refresh_since = 0;
	else if (refresh_since != 0)
		elector_poll(elector, 10000);
}

/* --- answers of peers --- */

/* Can the others come in?  A line in the log when that changes. */
static void
note_own_access(const char *error)
{
	char	   *kept = elector_worker->access_error;

	if (elector_worker->elector.stopping || elector_postmaster_stopping())
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
elector_calls_peer_answered(const char *node, ElectorQuestion question, const char *answer,
							const char *error)
{
	Elector    *elector = &elector_worker->elector;
	ElectorReport report;
	ElectorAnswer fenced;
	ElectorPromise promise;

	switch (question)
	{
		case ELECTOR_ASK_REPORT:
			if (strcmp(node, elector_node) == 0)
				note_own_access(error);
			if (answer != NULL && elector_report_parse(answer, &report))
			{
				elector_told(elector, node, question, &report, NULL);
				elector_staleness_told(node, &report);
			}
			break;
		case ELECTOR_ASK_FENCE:
			elector_told(elector, node, question,
						 answer != NULL && elector_answer_parse(answer, &fenced) ? &fenced : NULL,
						 error);
			break;
		case ELECTOR_ASK_PROMISE:
			elector_told(elector, node, question,
						 answer != NULL && elector_promise_parse(answer, &promise) ? &promise : NULL,
						 error);
			break;
		case ELECTOR_ASK_ESTABLISH:
			elector_told(elector, node, question, NULL, error);
			break;
		case ELECTOR_QUESTIONS:
			break;
	}
}
