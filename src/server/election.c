/*
 * election.c
 *	  The deeds of an elector: the lock, the fences, the order.
 *
 * What is to be done is decided in core/elect.c; what a fenced or chosen node
 * does is in calls.c and lead.c.
 *
 * The trap: everything here belongs to one holding of the lock.  What comes back
 * when the lock has changed hands is thrown away (elector_peer_answered).
 */
#include "worker.h"

#include "common/pg_prng.h"

#include "act.h"
#include "etcd/json.h"

static void
locked(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;

	if (!elector_act_happened(reply))
	{
		elector_session_drop_lease(&worker->election, true);
		return;
	}
	worker->lock_since = elector_now();
	worker->token = reply->revision;
	worker->fence_term = 0;
	worker->raises = 0;
	worker->revoked_at = 0;
	worker->establishing[0] = '\0';
	elector_forget_answers();
}

static void
lock_granted(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;
	const ElectorKeys *keys = &worker->mirror.keys;
	ElectorElection election;
	ElectorTxn *txn;
	bool		handover = worker->leader_revision != 0;

	worker->acting = false;
	elector_session_note(reply);
	if (reply->status != ELECTOR_ETCD_OK || reply->lease == 0)
	{
		elector_worker_poll(100000);
		return;
	}
	elector_session_set_lease(&worker->election, reply, elector_lease_asked_at);

	memset(&election, 0, sizeof(election));
	strlcpy(election.node, elector_node, sizeof(election.node));
	strlcpy(election.instance, elector_shared->instance, sizeof(election.instance));
	strlcpy(election.purpose, handover ? "handover" : "election",
			sizeof(election.purpose));
	election.term = worker->mirror.term.term + 1;

	txn = elector_txn_create();
	elector_txn_if_created(txn, keys->election, 0);
	elector_txn_if_created(txn, keys->leader, worker->leader_revision);
	elector_txn_put_record(txn, keys->election, elector_election_to_json(&election), worker->election.id);
	elector_act_commit(txn, locked, NULL);
}

void
elector_act_lock(const ElectorPlan *plan)
{
	elector_worker->lock_reason = plan->reason;
	if (elector_worker->election.id != 0)
		elector_session_drop_lease(&elector_worker->election, true);
	elector_act_grant(elector_lease_ttl, lock_granted);
}

void
elector_act_unlock(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;
	ElectorTxn *txn = elector_txn_create();

	/* Back off longer than the others, who saw the same (L1). */
	if (!view->leader.present)
		worker->backoff_until = view->now +
			(ElectorTime) ((1 + 2 * pg_prng_double(&pg_global_prng_state)) *
						   view->fence_timeout);
	elector_txn_if_created(txn, worker->mirror.keys.election, worker->token);
	elector_txn_delete(txn, worker->mirror.keys.election);
	worker->lock_since = 0;
	worker->fence_term = 0;
	worker->establishing[0] = '\0';
	elector_peers_forget(ELECTOR_ASK_FENCE);
	elector_peers_forget(ELECTOR_ASK_ESTABLISH);
	elector_act_commit(txn, elector_act_outcome, NULL);
	elector_session_drop_lease(&worker->election, true);
}

static void
lease_checked(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;

	worker->acting = false;
	elector_session_note(reply);
	if (reply->status != ELECTOR_ETCD_OK)
		return;
	if (reply->ttl <= 0)
		worker->gone_lease = worker->checked_lease;
	if (!reply->last_second)
		worker->last_second_lease = 0;
	else if (worker->last_second_lease != worker->checked_lease)
	{
		worker->last_second_lease = worker->checked_lease;
		worker->last_second_since = elector_now();
	}
}

void
elector_act_check_lease(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	worker->checked_lease = view->leader.present ? view->leader.lease : view->term.lease;
	worker->lease_checked_at = view->now;
	worker->acting = true;
	elector_etcd_timetolive(worker->etcd, worker->checked_lease,
							elector_session_bound(), lease_checked, NULL);
}

/* Its keys go with it, and the watch says so. */
void
elector_act_expire(const ElectorView *view)
{
	elector_worker->last_second_lease = 0;
	elector_etcd_revoke(elector_worker->etcd, view->leader.lease, ELECTOR_WRITE_BOUND,
						elector_act_unheard, NULL);
}

void
elector_act_fence(const ElectorView *view, const ElectorPlan *plan)
{
	ElectorWorker *worker = elector_worker;
	ElectorFenceRequest request;
	char		argument[ELECTOR_CALL_SIZE];

	/*
	 * A term above the next one is asked for only while the lock is seen to
	 * be ours and `leader` absent by a read after the answers came (L0).
	 */
	if (worker->fence_term != 0 && worker->raise_checked != worker->fence_term)
	{
		elector_session_reload();
		return;
	}
	if (worker->fence_term != 0)
		worker->raises++;
	worker->raise_checked = 0;
	worker->fence_term = plan->term;
	worker->fence_since = view->now;
	worker->establishing[0] = '\0';
	elector_forget_answers();

	memset(&request, 0, sizeof(request));
	request.term = plan->term;
	request.token = worker->token;
	request.opened_term = view->term.opened_term;
	elector_fence_format(&request, argument, sizeof(argument));
	for (int i = 0; i < view->npeers; i++)
	{
		if (i != view->self)
			elector_peers_ask(view->peers[i].node, ELECTOR_ASK_FENCE, argument);
	}
	worker->fence_self = true;
	elector_fence_begin(view, &request);
}

static const char *
how_revoked(const ElectorView *view)
{
	if (!view->term.present || view->term.opened_term == 0)
		return "none";
	if (view->term.released)
		return view->term.heir[0] != '\0' ? "handed over" : "released";
	for (int i = 0; i < view->npeers; i++)
	{
		if (strcmp(view->peers[i].node, view->term.node) == 0 &&
			view->peers[i].answer.kind == ELECTOR_ANSWER_FENCED &&
			strcmp(view->peers[i].answer.instance, view->term.instance) == 0)
			return "fenced";
	}
	return "lease gone";
}

void
elector_act_establish(const ElectorView *view, const ElectorPlan *plan)
{
	ElectorWorker *worker = elector_worker;
	const ElectorPeerView *peer = &view->peers[plan->target];
	const ElectorAnswer *answer = &peer->answer;
	ElectorOrder order;
	char		argument[ELECTOR_CALL_SIZE];

	if (worker->establishing[0] != '\0')
		worker->said[elector_said_index(worker->establishing)].passed_over = true;
	strlcpy(worker->establishing, peer->node, sizeof(worker->establishing));
	worker->establish_since = view->now;

	memset(&order, 0, sizeof(order));
	order.term = plan->term;
	order.token = worker->token;
	order.timeline = answer->primary ? view->term.timeline : elector_next_timeline(view);
	strlcpy(order.instance, answer->instance, sizeof(order.instance));
	order.position = answer->position;
	strlcpy(order.elector, elector_node, sizeof(order.elector));
	strlcpy(order.reason, elector_reason_name(worker->lock_reason), sizeof(order.reason));
	strlcpy(order.revoked, how_revoked(view), sizeof(order.revoked));
	if (worker->lock_reason == ELECTOR_BECAUSE_LAST_LEADER_AWAY ||
		(!answer->lag_known && strcmp(peer->node, view->term.node) != 0 &&
		 view->term.opened_term != 0 && !view->term.released))
		snprintf(order.note, sizeof(order.note),
				 "rows may be missing: how far this node was behind the last leader, \"%s\", is not known",
				 view->term.node);
	order.automatic = worker->lock_reason != ELECTOR_BECAUSE_HANDED_OVER &&
		worker->lock_reason != ELECTOR_BECAUSE_FIRST_LEADER;
	order.lock_ms = (worker->lock_since - worker->gone_since) / 1000;
	order.revoke_ms = (view->now - worker->lock_since) / 1000;

	if (plan->target == view->self)
	{
		worker->order = order;
		worker->ordered = true;
		return;
	}
	if (elector_order_format(&order, argument, sizeof(argument)))
		elector_peers_ask(peer->node, ELECTOR_ASK_ESTABLISH, argument);
}
