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

/* The call whose switchover is being written to etcd. */
static ElectorCall *requesting = NULL;

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

/* Why a switchover to the target cannot be; false if nothing speaks against it. */
static bool
refuse_switchover(const ElectorView *view, const char *target, char *why, size_t size)
{
	const ElectorNode *node = elector_cluster_node(elector_worker->elector.cluster, target);

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
serve_switchover(ElectorCall *call)
{
	Elector    *elector = &elector_worker->elector;
	char		why[ELECTOR_TEXT_SIZE];

	elector_observe(elector);
	if (refuse_switchover(&elector->view, call->argument, why, sizeof(why)))
	{
		answer_call(call, true, why);
		return;
	}
	requesting = call;
	elector_request_switchover(elector, call->argument);
}

/* etcd has answered. */
void
elector_calls_requested(const ElectorErrandResult *result)
{
	ElectorCall *call = requesting;

	requesting = NULL;
	if (call == NULL)
		return;
	if (result->status == ELECTOR_ETCD_OK && result->succeeded)
		answer_call(call, false, call->argument);
	else
		answer_call(call, true, result->status == ELECTOR_ETCD_OK ?
					"the leader has changed meanwhile, or another switchover is under way" :
					"etcd did not confirm the request; see elector_status whether it takes place");
}

static void
serve_refresh(void)
{
	const ElectorView *view = &elector_worker->elector.view;

	if (refresh_since != 0)
		return;
	refresh_since = elector_now();
	for (int i = 0; i < view->npeers; i++)
	{
		if (i != view->self)
			elector_peers_ask(view->peers[i].node, ELECTOR_ASK_REPORT, "");
	}
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
		if (asked && call->kind == ELECTOR_CALL_SWITCHOVER && elector_worker->elector.acting)
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
			case ELECTOR_CALL_SWITCHOVER:
				serve_switchover(call);
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
			!(peer->silent_since != 0 &&
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

	switch (question)
	{
		case ELECTOR_ASK_REPORT:
			if (strcmp(node, elector_node) == 0)
				note_own_access(error);
			if (answer != NULL && elector_report_parse(answer, &report))
				elector_told(elector, node, question, &report, NULL);
			break;
		case ELECTOR_ASK_FENCE:
			elector_told(elector, node, question,
						 answer != NULL && elector_answer_parse(answer, &fenced) ? &fenced : NULL,
						 error);
			break;
		case ELECTOR_ASK_ESTABLISH:
			elector_told(elector, node, question, NULL, error);
			break;
		case ELECTOR_QUESTIONS:
			break;
	}
}
