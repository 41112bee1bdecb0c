/*
 * handover.c
 *	  Planned changes: who can take over, and how the leader gets there.
 *
 * What has to hold is looked at twice with the same eyes: by the node that is
 * asked, so that who asks hears at once what is wrong, and by the leader, when the
 * time has come.  Then the leader prepares whatever does not stop writes (a
 * checkpoint, the lock), lets running transactions end for a while, first those of
 * poolers, which hold their clients back, then all others, and stops with a note of
 * its heir (design, section 7).
 *
 * The trap: what a member has said of itself is some time old.  It serves to choose
 * whom to hand over to; that nothing is lost is proven later, by the heir, from the
 * position of the shutdown checkpoint (S19).
 */
#include "durability.h"
#include "elect.h"
#include "rules.h"
#include "failsafe.h"

#include <string.h>

#define SECONDS(n) ((ElectorTime) (n) * 1000000)

/* A requested switchover that cannot be prepared by then is refused. */
#define PREPARE_BOUND SECONDS(20)
#define CHECKPOINT_BOUND SECONDS(600)

/* How often a report that is under way is looked for. */
#define REPORT_INTERVAL ((ElectorTime) 20000)

bool
elector_is_requested(const ElectorView *view)
{
	return view->request.present && view->request.refused[0] == '\0' && !view->request.failover;
}

bool
elector_is_overridden(const ElectorView *view)
{
	return view->request.present && view->request.refused[0] == '\0' && view->request.failover &&
		view->request.term == view->term.term && !view->leader.present;
}

int
elector_find_hold(const ElectorClusterSettings *settings, uint64_t term, int64_t at, int64_t id)
{
	for (int i = 0; i < settings->nholds; i++)
	{
		const ElectorLeaderHold *hold = &settings->holds[i];

		if (hold->term == term && hold->until > at && (id == 0 || hold->id == id))
			return i;
	}
	return -1;
}

static bool
is_held(const ElectorView *view)
{
	return view->held && ELECTOR_RULE(HELD_STAYS);
}

bool
elector_judge_failover(const ElectorView *view, const char *target, ElectorReason *why)
{
	int			peer = elector_find_peer(view, target);

	if (!view->known)
		*why = ELECTOR_BECAUSE_ETCD_UNKNOWN;
	else if (view->leader.present)
		*why = ELECTOR_BECAUSE_LEADER_LIVES;
	else if (!view->term.present || view->term.opened_term == 0)
		*why = ELECTOR_BECAUSE_FIRST_LEADER;
	else if (target[0] != '\0' && peer < 0)
		*why = ELECTOR_BECAUSE_TARGET_UNKNOWN;
	else if (target[0] != '\0' && !view->peers[peer].alive)
		*why = ELECTOR_BECAUSE_TARGET_NOT_ALIVE;

	/* No override skips a promise (S8). */
	else if (!elector_failsafe_to_end(view))
		*why = ELECTOR_BECAUSE_MAY_BE_PROMISED;
	else
		return true;
	return false;
}

/*
 * The leader takes a member out of the durability rule in two steps, whoever is
 * removed (S6, S20).  While there is none, an election may wait for just that member,
 * and only while it is a member elector_status can say so (I7).  But that the old leader
 * is gone for good, and does not go on without etcd, only an operator can know (S8).  After
 * etcd was restored it is the other way around: all that are members must answer (S15).
 */
bool
elector_judge_removal(const ElectorView *view, const char *node, ElectorReason *why)
{
	int			peer = elector_find_peer(view, node);

	if (!view->known)
		*why = ELECTOR_BECAUSE_ETCD_UNKNOWN;
	else if (peer < 0)
		*why = ELECTOR_BECAUSE_REMOVED_UNKNOWN;
	else if (view->leader.present && strcmp(view->leader.node, node) == 0)
		*why = ELECTOR_BECAUSE_REMOVED_LEADS;
	else if (view->peers[peer].alive || view->peers[peer].silent_since == 0)
		*why = ELECTOR_BECAUSE_REMOVED_ALIVE;
	else if (!view->leader.present && view->forgot_since == 0 &&
			 elector_durability_counts(view, node) &&
			 (strcmp(view->term.node, node) != 0 || elector_failsafe_to_end(view)))
		*why = ELECTOR_BECAUSE_REMOVED_COUNTS;
	else
		return true;
	return false;
}

/* Why not this member?  False if it can. */
static bool
cannot_follow_on(const ElectorView *view, int i, ElectorLsn end, ElectorReason *why)
{
	const ElectorPeerView *peer = &view->peers[i];
	ElectorLsn	has = peer->position.lsn;

	/* Where it streams from here, that is known as of now. */
	if (peer->flushed > has)
		has = peer->flushed;
	if (strcmp(peer->node, view->leader.node) == 0)
		*why = ELECTOR_BECAUSE_TARGET_LEADS;
	else if (!peer->alive)
		*why = ELECTOR_BECAUSE_TARGET_NOT_ALIVE;

	/* What it said before the request may be out of date. */
	else if (peer->reported_at == 0 || peer->reported_at < view->handover.since ||
			 (peer->silent_since != 0 &&
			  view->now >= peer->silent_since + view->fence_timeout / 4))
		*why = ELECTOR_BECAUSE_TARGET_SILENT;
	else if (!peer->candidate)
		*why = ELECTOR_BECAUSE_TARGET_NO_CANDIDATE;
	else if (peer->full)
		*why = ELECTOR_BECAUSE_TARGET_FULL;
	else if (!peer->following)
		*why = ELECTOR_BECAUSE_TARGET_NOT_FOLLOWING;
	else if (view->maximum_lag >= 0 &&
			 has + (uint64_t) view->maximum_lag < end)
		*why = ELECTOR_BECAUSE_TARGET_BEHIND;
	else
		return false;
	return true;
}

/* Where the leader's WAL ends, as far as is known. */
static ElectorLsn
leader_end(const ElectorView *view)
{
	int			leader = elector_find_peer(view, view->leader.node);

	if (leader < 0 || leader == view->self)
		return view->position.lsn;
	return view->peers[leader].position.lsn;
}

int
elector_choose_heir(const ElectorView *view, const char *target, ElectorReason *blocked)
{
	ElectorLsn	end = leader_end(view);
	ElectorReason why;
	int			best = -1;

	if (target[0] != '\0')
	{
		best = elector_find_peer(view, target);
		if (best < 0)
			*blocked = ELECTOR_BECAUSE_TARGET_UNKNOWN;
		else if (cannot_follow_on(view, best, end, blocked))
			best = -1;
		return best;
	}

	*blocked = ELECTOR_BECAUSE_NO_HEIR;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];
		int			order;

		if (cannot_follow_on(view, i, end, &why))
			continue;
		if (best < 0)
		{
			best = i;
			continue;
		}
		order = elector_position_compare(peer->position, view->peers[best].position);
		if (order == 0)
			order = elector_priority_compare(peer->priority, view->peers[best].priority);
		if (order > 0)
			best = i;
	}
	return best;
}

bool
elector_is_changing(const ElectorView *view)
{
	return view->election.present ||
		(elector_is_requested(view) && view->request.term == view->leader.term &&
		 view->request.at <= view->wall_ms);
}

int
elector_judge_switchover(const ElectorView *view, const char *target, ElectorReason *why)
{
	if (!view->known)
		*why = ELECTOR_BECAUSE_ETCD_UNKNOWN;
	else if (!view->leader.present || !view->term.opened ||
			 view->term.term != view->leader.term)
		*why = ELECTOR_BECAUSE_NO_LEADER;
	else if (elector_is_changing(view) ||
			 (elector_is_requested(view) && view->request.term == view->leader.term))
		*why = ELECTOR_BECAUSE_CHANGING;
	else if (view->paused)
		*why = ELECTOR_BECAUSE_PAUSED_SWITCHOVER;
	else if (is_held(view))
		*why = ELECTOR_BECAUSE_HELD;
	else
		return elector_choose_heir(view, target, why);
	return -1;
}

/*
 * Until when it must be prepared.  A checkpoint holds nobody up, and without it the stop
 * would.
 */
static ElectorTime
prepared_by(const ElectorView *view)
{
	const ElectorHandover *handover = &view->handover;

	if (!handover->checkpointed)
		return handover->since + CHECKPOINT_BOUND;
	return (handover->checkpointed_at != 0 ? handover->checkpointed_at : handover->since) +
		PREPARE_BOUND + 2 * view->drain_timeout;
}

/* The old leader's last moments, one step after the other. */
static ElectorPlan
next_step(const ElectorView *view)
{
	if (!view->handover.checkpointed)
		return elector_plan(view, ELECTOR_CHECKPOINT, ELECTOR_BECAUSE_REQUESTED);
	if (view->lock_since == 0)
	{
		if (view->election.present)
			return elector_plan_wait(view, ELECTOR_BECAUSE_ELECTION_ELSEWHERE,
									 view->handover.since + PREPARE_BOUND);
		return elector_plan(view, ELECTOR_LOCK, ELECTOR_BECAUSE_REQUESTED);
	}
	if (!view->handover.clients_paused)
		return elector_plan(view, ELECTOR_PAUSE_CLIENTS, ELECTOR_BECAUSE_REQUESTED);
	if (!view->handover.drained)
		return elector_plan(view, ELECTOR_DRAIN, ELECTOR_BECAUSE_REQUESTED);
	return elector_plan(view, ELECTOR_HANDOVER, ELECTOR_BECAUSE_REQUESTED);
}

ElectorPlan
elector_decide_handover(const ElectorView *view)
{
	ElectorPlan plan;
	ElectorReason blocked;
	int			heir;

	if (view->request.term != view->leader.term)
		return elector_plan(view, ELECTOR_CANCEL, ELECTOR_BECAUSE_REQUEST_VOID);
	if (view->request.at > view->wall_ms)
		return elector_plan_wait(view, ELECTOR_BECAUSE_SCHEDULED,
								 view->now + (view->request.at - view->wall_ms) * 1000);
	if (view->paused)
		return elector_plan(view, ELECTOR_CANCEL, ELECTOR_BECAUSE_PAUSED_SWITCHOVER);
	if (is_held(view) && view->handover.drain_since == 0)
		return elector_plan(view, ELECTOR_CANCEL, ELECTOR_BECAUSE_HELD);
	if (view->handover.since != 0 && view->now >= prepared_by(view))
		return elector_plan(view, ELECTOR_CANCEL, ELECTOR_BECAUSE_REQUEST_TIMEOUT);

	heir = elector_choose_heir(view, view->request.target, &blocked);
	if (heir < 0)
	{
		/* A report may be under way; the bound above ends the waiting. */
		if (view->handover.since == 0 ||
			view->now < view->handover.since + 2 * view->fence_timeout)
			return elector_plan_wait(view, ELECTOR_BECAUSE_REQUESTED,
									 view->now + REPORT_INTERVAL);
		return elector_plan(view, ELECTOR_CANCEL, blocked);
	}
	plan = next_step(view);
	plan.target = heir;
	return plan;
}
