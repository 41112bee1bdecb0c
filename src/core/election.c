/*
 * election.c
 *	  The deeds of an election: the lock, the fences, the order.
 *
 * What is to be done is decided in elect.c; what a fenced or chosen node does is
 * in obey.c and lead.c.
 *
 * The trap: everything here belongs to one holding of the lock.  What comes back
 * when the lock has changed hands is thrown away (elector_told).
 */
#include "act.h"
#include "elect.h"
#include "name.h"
#include "rules.h"

#include <stdio.h>
#include <string.h>

/* A renewed lease does not come to its last second again within this time. */
#define LOOKS_APART ((ElectorTime) 500000)

static void
forget_answers(Elector *elector)
{
	for (int i = 0; i < elector->nsaid; i++)
	{
		memset(&elector->said[i].answer, 0, sizeof(ElectorAnswer));
		elector->said[i].passed_over = false;
	}
}

void
elector_act_lock(Elector *elector, const ElectorPlan *plan)
{
	elector->lock_reason = plan->reason;
	if (elector->leases[ELECTOR_LEASE_ELECTION].id != 0)
		elector_session_drop_lease(elector, ELECTOR_LEASE_ELECTION, true);
	elector_act_grant(elector, ELECTOR_LEASE_ELECTION, elector->settings.lease_ttl);
}

void
elector_lock_granted(Elector *elector)
{
	const ElectorCluster *cluster = elector->cluster;
	bool		handover = elector->leader_revision != 0;
	ElectorChange change;

	elector_change_init(&change);
	elector_copy(change.election.node, elector->settings.node, ELECTOR_NAME_SIZE);
	elector_copy(change.election.instance, elector->instance, ELECTOR_INSTANCE_SIZE);
	elector_copy(change.election.purpose, handover ? "handover" : "election",
				 ELECTOR_NAME_SIZE);
	change.election.term = cluster->term.term + 1;

	elector_change_if_created(&change, ELECTOR_KEY_ELECTION, 0);
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, elector->leader_revision);
	elector_change_put(&change, ELECTOR_KEY_ELECTION,
					   elector->leases[ELECTOR_LEASE_ELECTION].id);
	elector_act_commit(elector, ELECTOR_DEED_LOCK, &change);
}

void
elector_locked(Elector *elector, bool happened, int64_t revision)
{
	if (!happened)
	{
		elector_session_drop_lease(elector, ELECTOR_LEASE_ELECTION, true);
		return;
	}
	elector->lock_since = elector->ports->now(elector->world);
	elector->token = revision;
	elector->fence_term = 0;
	elector->revoked_at = 0;
	elector->raises = 0;
	elector->establishing[0] = '\0';
	forget_answers(elector);
}

void
elector_act_unlock(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorChange change;

	/* Back off longer than the others, who saw the same (L1). */
	if (!view->leader.present)
		elector->backoff_until = view->now +
			(ElectorTime) ((1 + 2 * elector->ports->lot(elector->world)) *
						   (double) view->fence_timeout);
	elector_change_init(&change);
	elector_change_if_created(&change, ELECTOR_KEY_ELECTION, elector->token);
	elector_change_delete(&change, ELECTOR_KEY_ELECTION);
	elector->lock_since = 0;
	elector->fence_term = 0;
	elector->establishing[0] = '\0';
	elector->ports->forget(elector->world, ELECTOR_ASK_FENCE);
	elector->ports->forget(elector->world, ELECTOR_ASK_ESTABLISH);
	elector_act_commit(elector, ELECTOR_DEED_UNLOCK, &change);
	elector_session_drop_lease(elector, ELECTOR_LEASE_ELECTION, true);
}

/* --- the old leader's lease --- */

void
elector_act_check_lease(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorErrand errand = {ELECTOR_ERRAND_LOOK};

	elector->checked_lease = view->leader.present ? view->leader.lease : view->term.lease;
	elector->lease_checked_at = view->now;
	elector->acting = true;
	errand.lease = elector->checked_lease;
	errand.bound = elector_session_bound(elector);
	elector->ports->run(elector->world, &errand);
}

void
elector_lease_looked_at(Elector *elector, const ElectorErrandResult *result)
{
	ElectorTime now = elector->ports->now(elector->world);

	/* Who is left behind knows neither renewals nor new leases. */
	if (result->status != ELECTOR_ETCD_OK || result->raft_term < elector->raft_term)
		return;
	if (result->ttl <= 0)
		elector->gone_lease = elector->checked_lease;
	if (!result->last_second)
	{
		elector->last_second_lease = 0;
		return;
	}

	/* Between two looks that are far apart it may have been renewed. */
	if (elector->last_second_lease != elector->checked_lease ||
		elector->last_second_raft_term != result->raft_term ||
		now > elector->last_second_seen + LOOKS_APART)
	{
		elector->last_second_lease = elector->checked_lease;
		elector->last_second_raft_term = result->raft_term;
		elector->last_second_since = now;
	}
	elector->last_second_seen = now;
	elector->last_second_asked = elector->lease_checked_at;
}

/*
 * A member of etcd that is cut off from the others still tells how long leases
 * will live, and does not know of renewals.  So etcd as a whole is asked for the
 * leader key, and its answer must be of the same raft term.
 */
void
elector_act_expire(Elector *elector)
{
	ElectorErrand errand = {ELECTOR_ERRAND_VERIFY};

	elector->last_second_lease = 0;
	elector->acting = true;
	errand.lease = elector->view.leader.lease;
	errand.bound = elector_session_bound(elector);
	elector->ports->run(elector->world, &errand);
}

/* Its keys go with it, and the watch says so. */
void
elector_lease_verified(Elector *elector, int64_t lease, const ElectorErrandResult *result)
{
	ElectorErrand errand = {ELECTOR_ERRAND_REVOKE};

	if (result->status != ELECTOR_ETCD_OK ||
		!result->present || result->key_lease != lease ||
		result->raft_term != elector->last_second_raft_term)
		return;
	errand.lease = lease;
	errand.bound = elector_session_bound(elector);
	elector->ports->run(elector->world, &errand);
}

/* --- revoke and establish --- */

void
elector_act_fence(Elector *elector, const ElectorPlan *plan)
{
	const ElectorView *view = &elector->view;
	ElectorFenceRequest request;

	/*
	 * A term above the next one is asked for only while the lock is seen to
	 * be ours and `leader` absent by a read after the answers came (L0).
	 */
	if (elector->fence_term != 0 && elector->raise_checked != elector->fence_term)
	{
		elector_session_reload(elector);
		return;
	}
	if (elector->fence_term != 0)
		elector->raises++;
	elector->raise_checked = 0;
	elector->fence_term = plan->term;
	elector->fence_since = view->now;
	elector->establishing[0] = '\0';
	forget_answers(elector);

	memset(&request, 0, sizeof(request));
	request.term = plan->term;
	request.token = elector->token;
	request.opened_term = view->term.opened_term;
	request.over = !view->term.present || view->term.released ? view->term.term :
		view->term.term - 1;
	for (int i = 0; i < view->npeers; i++)
	{
		if (i != view->self)
			elector->ports->ask(elector->world, view->peers[i].node, ELECTOR_ASK_FENCE,
								&request);
	}
	elector_fence_self(elector, &request);
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

/*
 * From the old leader's last sign until it was seen to be gone: its own word of how
 * long it took to stop, or how long it had not answered.
 */
static int32_t
notice_ms(const Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorTime sign;
	int			old = elector_find_peer(view, view->term.node);

	if (!view->term.present || view->term.opened_term == 0 || !view->warm)
		return -1;
	if (view->term.released && view->term.stopping_ms >= 0)
		return view->term.stopping_ms;
	if (old < 0 || old == view->self || view->peers[old].silent_since == 0)
		return view->term.released ? 0 : -1;
	sign = view->peers[old].silent_since;
	if (elector->leader_told_at > sign)
		sign = elector->leader_told_at;
	return elector_milliseconds(sign, view->gone_since);
}

/* What its entry in the history will say. */
static void
explain_order(const Elector *elector, const ElectorPeerView *peer, ElectorOrder *order)
{
	const ElectorView *view = &elector->view;
	ElectorTime revoked_at = elector->revoked_at != 0 ? elector->revoked_at : view->now;

	elector_copy(order->elector, elector->settings.node, sizeof(order->elector));
	elector_copy(order->reason, elector_reason_name(elector_is_overridden(view) ?
													ELECTOR_BECAUSE_OVERRIDDEN :
													elector->lock_reason),
				 sizeof(order->reason));
	elector_copy(order->revoked, how_revoked(view), sizeof(order->revoked));
	if (elector_is_overridden(view))
		snprintf(order->note, sizeof(order->note),
				 "rows may be missing: an operator accepted on \"%s\" that acknowledged commits may be lost",
				 view->request.node);
	else if (elector_lacks_rows(&view->term, peer->answer.position))
		snprintf(order->note, sizeof(order->note),
				 "rows may be missing: the last leader, \"%s\", did not come back, and had written more than this node has",
				 view->term.node);
	else if (view->term.opened_term != 0 &&
		(elector->lock_reason == ELECTOR_BECAUSE_LAST_LEADER_AWAY || !peer->answer.counts ||
		 (!peer->answer.lag_known && strcmp(peer->node, view->term.node) != 0 &&
		  !view->term.released)))
		snprintf(order->note, sizeof(order->note),
				 "rows may be missing: how far this node was behind the last leader, \"%s\", is not known",
				 view->term.node);
	order->automatic = elector->lock_reason != ELECTOR_BECAUSE_HANDED_OVER &&
		elector->lock_reason != ELECTOR_BECAUSE_STOPPED &&
		elector->lock_reason != ELECTOR_BECAUSE_OVERRIDDEN &&
		elector->lock_reason != ELECTOR_BECAUSE_FIRST_LEADER;
	order->notice_ms = notice_ms(elector);
	order->lock_ms = elector_milliseconds(elector->gone_since, elector->lock_since);
	order->revoke_ms = elector_milliseconds(elector->lock_since, revoked_at);
	order->choose_ms = elector_milliseconds(revoked_at, view->now);
}

void
elector_act_establish(Elector *elector, const ElectorPlan *plan)
{
	const ElectorView *view = &elector->view;
	const ElectorPeerView *peer = &view->peers[plan->target];
	const ElectorAnswer *answer = &peer->answer;
	ElectorSaid *before = elector->establishing[0] == '\0' ? NULL :
	elector_said(elector, elector->establishing);
	ElectorOrder order;

	if (before != NULL)
		before->passed_over = true;
	elector_copy(elector->establishing, peer->node, sizeof(elector->establishing));
	elector->establish_since = view->now;

	memset(&order, 0, sizeof(order));
	order.term = plan->term;
	order.token = elector->token;
	order.timeline = answer->primary ? view->term.timeline : elector_next_timeline(view);
	elector_copy(order.instance, answer->instance, sizeof(order.instance));
	order.position = answer->position;
	explain_order(elector, peer, &order);

	if (plan->target == view->self)
	{
		elector->order = order;
		elector->ordered = true;
		return;
	}
	elector->ports->ask(elector->world, peer->node, ELECTOR_ASK_ESTABLISH, &order);
}
