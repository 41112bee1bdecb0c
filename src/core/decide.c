/*
 * decide.c
 *	  What one elector does next, from all it knows at one instant.
 *
 * elector_decide() is level-triggered: it is called after every event and from
 * nothing but the view derives one action.  The worker carries the action out,
 * looks again, and asks again; an action that is still under way when asked
 * again is harmless to repeat.  What a node must remember between two calls is
 * a field of the view.
 *
 * The order of the questions is the order of what matters: first whether this
 * node takes part at all, then a leadership that is ours, then a server that is
 * a primary and must not be, then whom to follow, and only then, in elect.c,
 * whether to run an election.
 *
 * The trap: `leader` in the view is what etcd said when it last spoke.  Nothing
 * is decided while the view is not `known`, except that the gate closes by the
 * clock, without us.  What must not race is compared again in etcd, by the
 * transaction that carries the action out.
 */
#include "decide.h"
#include "durability.h"
#include "elect.h"
#include "failsafe.h"
#include "rules.h"

#include <assert.h>
#include <string.h>

#define SECONDS(n) ((ElectorTime) (n) * 1000000)

/*
 * A promotion replays what is already on disk and fenced, so it is short.  One
 * that takes this long is stuck, and another node can do better (L2).
 */
#define PROMOTION_BOUND SECONDS(15)

/*
 * One whose followers do not acknowledge its beginning lets others try, who may have
 * better ones.
 */
#define ACKNOWLEDGE_BOUND SECONDS(60)

/* How often a leader whose WAL volume is full asks whether another is better off. */
#define WAL_FULL_INTERVAL SECONDS(60)

/* How often the lease of a silent leader is looked at ... */
#define LEASE_WATCH_INTERVAL ((ElectorTime) 25000)

/*
 * ... and how long its last second is by our clock, which may be too fast: no clock is
 * wrong by more than a tenth.  It must be over: until then its leader may renew it.
 */
#define LAST_SECOND ((ElectorTime) 1020000 * 10 / 9)

ElectorPlan
elector_plan(const ElectorView *view, ElectorAction action, ElectorReason reason)
{
	ElectorPlan plan;

	memset(&plan, 0, sizeof(plan));
	plan.action = action;
	plan.reason = reason;
	plan.term = view->leader.present ? view->leader.term : view->term.term;
	plan.target = -1;
	return plan;
}

ElectorPlan
elector_plan_wait(const ElectorView *view, ElectorReason reason, ElectorTime again)
{
	ElectorPlan plan = elector_plan(view, ELECTOR_WAIT, reason);

	plan.again = again;
	return plan;
}

/* Is the leader key in etcd this very server's? */
static bool
holds_leader(const ElectorView *view)
{
	return view->leader.present &&
		strcmp(view->leader.node, view->node) == 0 &&
		strcmp(view->leader.instance, view->instance) == 0;
}

bool
elector_led_last(const ElectorView *view)
{
	return view->term.present &&
		strcmp(view->term.node, view->node) == 0 &&
		strcmp(view->term.instance, view->instance) == 0;
}

bool
elector_position_on_history(ElectorPosition position, const ElectorTerm *term)
{
	if (!ELECTOR_RULE(ON_HISTORY))
		return true;
	if (!term->present || !term->begun || position.lsn == 0)
		return false;
	if (position.timeline == term->timeline)
		return true;
	for (int i = 0; i < term->nancestors; i++)
	{
		if (term->ancestors[i].timeline == position.timeline)
			return position.lsn <= term->ancestors[i].lsn;
	}
	return false;
}

bool
elector_state_counts(const ElectorState *state, uint64_t opened_term)
{
	if (opened_term == 0 || !ELECTOR_RULE(ANSWERS_COUNT))
		return true;			/* nothing was ever acknowledged */
	return state->present && state->caught_up && state->term >= opened_term;
}

bool
elector_state_note_primary(ElectorState *state, uint32_t timeline)
{
	if (timeline == state->allotted || timeline == state->stray ||
		!ELECTOR_RULE(STRAY_KNOWN))
		return false;
	state->stray = timeline;
	if (timeline > state->timeline)
		state->timeline = timeline;
	return true;
}

void
elector_state_clone(ElectorState *state)
{
	state->caught_up = false;
	if (ELECTOR_RULE(CLONE_IS_NO_STRAY))
		state->stray = 0;
}

bool
elector_is_predecessor(const ElectorState *state, const ElectorState *now)
{
	if (!state->present || state->instance[0] == '\0' ||
		strcmp(state->instance, now->instance) == 0)
		return false;
	if (!ELECTOR_RULE(SAME_DIRECTORY))
		return true;
	return now->boot_id[0] != '\0' && strcmp(state->boot_id, now->boot_id) == 0 &&
		state->device == now->device && state->inode == now->inode;
}

ElectorFenceVerdict
elector_judge_fence(const ElectorView *view, const ElectorFenceRequest *request)
{
	uint64_t	term = request->term;
	int64_t		token = request->token;

	if (term < view->state.term && ELECTOR_RULE(FENCE_TERM))
		return ELECTOR_FENCE_OLD_TERM;
	if (term == view->state.term && token < view->state.token && ELECTOR_RULE(FENCE_TOKEN))
		return ELECTOR_FENCE_OLD_TERM;

	/*
	 * Whether the mirror is current does not matter here: a fence for a term
	 * that was ours, even if it is over by now, is spent.
	 */
	if (holds_leader(view) && term <= view->leader.term)
		return ELECTOR_FENCE_TERM_IN_USE;
	if (term <= view->upstream_term || term <= view->state.followed)
		return ELECTOR_FENCE_TERM_IN_USE;
	if (elector_failsafe_binds(view, request->over))
		return ELECTOR_FENCE_PROMISED;
	return ELECTOR_FENCE_OBEY;
}

bool
elector_accept_order(const ElectorView *view, uint64_t term, int64_t token,
					 const char *instance, ElectorPosition position)
{
	return view->state.term == term && view->state.token == token &&
		strcmp(instance, view->instance) == 0 &&
		(view->frozen || !view->recovering) &&
		elector_position_compare(view->position, position) >= 0;
}

/* For what is waited for besides. */
static ElectorPlan
no_later_than(ElectorPlan plan, ElectorTime again)
{
	if (plan.action == ELECTOR_WAIT && again != 0 && (plan.again == 0 || again < plan.again))
		plan.again = again;
	return plan;
}

/*
 * Until when our leadership has to be open; 0: it is, or nobody could do better, since
 * all who are there follow us.
 */
static ElectorTime
open_bound(const ElectorView *view)
{
	if (view->gate_open)
		return 0;

	/* It may have waited for long until it could open. */
	if (!view->recovering && view->durability.present && elector_durability_may_open(view))
		return 0;
	if (view->recovering || elector_durability_may_lose(view))
		return view->leading_since + PROMOTION_BOUND;
	for (int i = 0; i < view->npeers; i++)
	{
		if (i != view->self && view->peers[i].alive && view->peers[i].flushed == 0)
			return (view->unfollowed_since > view->leading_since ?
					view->unfollowed_since : view->leading_since) + ACKNOWLEDGE_BOUND;
	}
	return 0;
}

static bool
anybody_else(const ElectorView *view)
{
	for (int i = 0; i < view->npeers; i++)
	{
		if (i != view->self && view->peers[i].alive)
			return true;
	}
	return false;
}

/* An open leadership that serves nobody, though another node might. */
static bool
decide_giving_up(const ElectorView *view, ElectorPlan *plan)
{
	if (view->paused && ELECTOR_RULE(PAUSE_HOLDS))
		return false;

	/*
	 * Neither the end of what is being committed nor our word can be waited for:
	 * both may need the disk.
	 */
	if (view->disk_stuck && anybody_else(view))
	{
		*plan = elector_plan(view, ELECTOR_LAPSE, ELECTOR_BECAUSE_DISK_STUCK);
		return true;
	}
	if (elector_durability_cut_off(view))
	{
		*plan = elector_plan(view, ELECTOR_RESIGN, ELECTOR_BECAUSE_CUT_OFF);
		return true;
	}
	if (view->wal_full && !view->held && !elector_is_requested(view) && anybody_else(view) &&
		(view->wal_full_asked == 0 || view->now >= view->wal_full_asked + WAL_FULL_INTERVAL))
	{
		*plan = elector_plan(view, ELECTOR_ASK_CHANGE, ELECTOR_BECAUSE_WAL_FULL);
		return true;
	}
	return false;
}

/*
 * Those who have promised have done so by what was on record.  It is not changed before the
 * gate is open by the lease alone (S8).
 */
static ElectorPlan
under_lease(const ElectorView *view, ElectorPlan plan)
{
	bool		changes = plan.action == ELECTOR_CHANGE_RULE || plan.action == ELECTOR_SET_FAILSAFE;

	if (!changes || view->gate_until <= view->lease_until)
		return plan;
	return elector_plan_wait(view, ELECTOR_BECAUSE_LEADING,
							 view->gate_until > view->now ? view->gate_until : 0);
}

/* A leadership that is ours: promote, open, keep, or give up. */
static ElectorPlan
decide_leading(const ElectorView *view)
{
	bool		ours = view->ordered && view->order_term == view->leader.term;
	bool		recorded = view->term.present &&
	view->term.term == view->leader.term;
	ElectorTime bound = open_bound(view);
	char		names[ELECTOR_NAMES_SIZE];
	ElectorDurability record;
	ElectorFailsafe promisers;
	ElectorPlan durability;
	ElectorPlan failsafe;
	ElectorPlan plan;

	if (view->lapsed && view->disk_stuck)
		return elector_plan_wait(view, ELECTOR_BECAUSE_DISK_STUCK, 0);
	if (view->lapsed)
		return elector_plan(view, ELECTOR_RESIGN, ELECTOR_BECAUSE_DISK_STUCK);

	/* The gate is closed by now, and the last commits may still be ending. */
	if (view->cut_off)
		return elector_plan(view, ELECTOR_RESIGN, ELECTOR_BECAUSE_CUT_OFF);

	if (view->state.term > view->leader.term && ELECTOR_RULE(OPEN_IN_TIME))
		return elector_plan(view, ELECTOR_RESIGN, ELECTOR_BECAUSE_FENCED_ABOVE);

	/* S15: another has led since, and etcd, restored, does not know. */
	if (view->remembered > view->leader.term && ELECTOR_RULE(ETCD_RESTORED))
		return elector_plan(view, ELECTOR_RESIGN, ELECTOR_BECAUSE_ETCD_RESTORED);

	/* S12: a term that this postmaster was not chosen for is not ours. */
	if (!ours && !view->gate_open)
		return elector_plan(view, ELECTOR_RESIGN, ELECTOR_BECAUSE_NO_ORDER);

	/* S12: nor is what a promotion of another term would make of the server. */
	if (view->promoting && view->promoting_term != view->leader.term &&
		ELECTOR_RULE(PROMOTION_OF_THIS_TERM))
		return elector_plan(view, ELECTOR_RESIGN, ELECTOR_BECAUSE_PROMOTION_VOID);

	if (bound != 0 && view->now >= bound && ELECTOR_RULE(OPEN_IN_TIME))
		return elector_plan(view, ELECTOR_RESIGN,
							ELECTOR_BECAUSE_NOT_OPEN_IN_TIME);

	/*
	 * Without its record there is no timeline to promote to (I9).  A
	 * leadership that is open does not end because somebody took the record
	 * away.
	 */
	if (!recorded && (view->recovering || !view->gate_open))
		return elector_plan(view, ELECTOR_RESIGN,
							ELECTOR_BECAUSE_TIMELINE_DIFFERS);

	/* S4: the deadline of this very lease, directly before acting under it. */
	if (view->now >= view->deadline)
		return elector_plan_wait(view, ELECTOR_BECAUSE_LEASE_UNSURE, bound);

	/* No commit of the term before its rule is loaded. */
	elector_durability_names(view, names, sizeof(names));
	if (!view->gate_open && strcmp(names, view->names) != 0 &&
		ELECTOR_RULE(NAMES_BEFORE_PROMOTING))
		return elector_plan(view, ELECTOR_SET_NAMES, ELECTOR_BECAUSE_ESTABLISHED);

	if (view->recovering && ELECTOR_RULE(PROMOTED_BEFORE_OPENING))
		return elector_plan(view, ELECTOR_PROMOTE, ELECTOR_BECAUSE_ESTABLISHED);

	/* S18: only on the timeline that the term allotted (I9). */
	if (recorded && view->position.timeline != view->term.timeline &&
		ELECTOR_RULE(LAST_LEADER_IN_PLACE))
		return elector_plan(view, ELECTOR_RESIGN,
							ELECTOR_BECAUSE_TIMELINE_DIFFERS);

	if (!view->gate_open)
	{
		if (elector_durability_may_open(view))
			return elector_plan(view, ELECTOR_OPEN, ELECTOR_BECAUSE_PROMOTED);
		if (!view->term.begun)
			return elector_plan(view, ELECTOR_BEGIN, ELECTOR_BECAUSE_PROMOTED);
		durability = elector_durability_plan(view, &record);
		if (durability.action != ELECTOR_WAIT)
			return durability;
		return elector_plan_wait(view, ELECTOR_BECAUSE_UNACKNOWLEDGED,
								 elector_look_again(view, view->leading_since));
	}

	/* What etcd has lost by a restore it has to be told again, before it is believed (S15). */
	if (view->forgot_since != 0 && recorded && elector_durability_settled(view))
		return elector_plan(view, ELECTOR_OPEN, ELECTOR_BECAUSE_ETCD_RESTORED);

	/* Nor does it let anybody follow who was not there when we began. */
	if (recorded && !view->term.begun)
		return elector_plan(view, ELECTOR_BEGIN, ELECTOR_BECAUSE_PROMOTED);

	if (decide_giving_up(view, &plan))
		return plan;

	/* A switchover may be scheduled for tomorrow; while clients wait for one, it goes first. */
	durability = under_lease(view, elector_durability_plan(view, &record));
	if (durability.action != ELECTOR_WAIT && view->handover.pause_since == 0 &&
		view->handover.drain_since == 0)
		return durability;
	failsafe = under_lease(view, elector_failsafe_plan(view, &promisers));
	if (failsafe.action != ELECTOR_WAIT && view->handover.pause_since == 0 &&
		view->handover.drain_since == 0)
		return failsafe;
	durability = no_later_than(durability, failsafe.again);
	if (elector_is_requested(view))
		return no_later_than(elector_decide_handover(view), durability.again);

	/* A handover that was called off leaves its lock behind. */
	if (view->lock_since != 0)
		return elector_plan(view, ELECTOR_UNLOCK, ELECTOR_BECAUSE_LEADER_EXISTS);
	return durability;
}

/* Does the number of the timeline occur in the leader's history? */
static bool
in_history(uint32_t timeline, const ElectorTerm *term)
{
	for (int i = 0; i < term->nancestors; i++)
	{
		if (term->ancestors[i].timeline == timeline)
			return true;
	}
	return timeline == term->timeline;
}

/*
 * Our WAL and the leader's part ways.  pg_rewind finds where by the numbers of
 * timelines, so one that means two things would fool it (S18).
 */
static ElectorPlan
decide_rejoin(const ElectorView *view)
{
	bool		fooled = view->state.stray != 0 &&
	in_history(view->state.stray, &view->term) && ELECTOR_RULE(STRAY_CLONED);

	if (!view->may_rejoin)
		return elector_plan_wait(view, ELECTOR_BECAUSE_REJOIN_OFF, 0);
	if (fooled && !view->may_clone)
		return elector_plan_wait(view, ELECTOR_BECAUSE_STRAY, 0);
	if (view->now < view->rejoin_after)
		return elector_plan_wait(view, ELECTOR_BECAUSE_REJOIN_FAILED,
								 view->rejoin_after);
	/*
	 * One that does not open is not followed.  Under a policy it has all that was
	 * acknowledged, and may wait for just this follower.
	 */
	if (!view->term.opened && elector_durability_may_lose(view))
		return elector_plan_wait(view, ELECTOR_BECAUSE_LEADER_BEGINS, 0);
	return elector_plan(view, fooled ? ELECTOR_CLONE : ELECTOR_REJOIN,
						ELECTOR_BECAUSE_DIVERGED);
}

/*
 * The leader does not answer us.  etcd notices the end of a lease only every
 * half second; whoever watches the lease run out can say so sooner.  A lease of
 * which etcd says that less than a second is left, and still says so when that
 * second is over, has run out by etcd's own clock, and is not renewed any more.
 */
static ElectorPlan
watch_lease(const ElectorView *view)
{
	if (view->last_second_since != 0 &&
		(view->last_second_asked >= view->last_second_since + LAST_SECOND ||
		 !ELECTOR_RULE(LAST_SECOND_TWICE)))
		return elector_plan(view, ELECTOR_EXPIRE, ELECTOR_BECAUSE_LEADER_SILENT);
	if (view->now >= view->lease_checked_at + LEASE_WATCH_INTERVAL)
		return elector_plan(view, ELECTOR_CHECK_LEASE,
							ELECTOR_BECAUSE_LEADER_SILENT);
	return elector_plan_wait(view, ELECTOR_BECAUSE_LEADER_SILENT,
							 view->lease_checked_at + LEASE_WATCH_INTERVAL);
}

/*
 * Has the leader been silent for long enough to look at its lease?  A short lease
 * must be looked at before its last second.
 */
static bool
leader_silent(const ElectorView *view)
{
	ElectorTime bound = view->lease_ttl / 10;

	if (bound > view->fence_timeout / 2)
		bound = view->fence_timeout / 2;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];

		if (strcmp(peer->node, view->leader.node) == 0)
			return peer->silent_since != 0 &&
				view->now >= peer->silent_since + bound;
	}
	return false;
}

/* A leader other than this server: follow it, if our history allows. */
static ElectorPlan
decide_following(const ElectorView *view)
{
	/* The lock has done its work, or lost its point. */
	if (view->lock_since != 0 && view->term.term == view->leader.term &&
		view->term.opened)
		return elector_plan(view, ELECTOR_UNLOCK, ELECTOR_BECAUSE_LEADER_EXISTS);

	if (view->ordered)
		return elector_plan(view, ELECTOR_DROP_ORDER, ELECTOR_BECAUSE_ORDER_STALE);

	if (!view->recovering)
		return elector_plan(view, ELECTOR_DEMOTE,
							view->position.timeline == view->state.allotted ?
							ELECTOR_BECAUSE_OTHER_LEADS :
							ELECTOR_BECAUSE_PROMOTED_BY_HAND);

	/*
	 * We have obeyed a fence for a newer term, whose elector may be about to
	 * establish somebody.  Once a leader exists that is younger than that
	 * elector's lock, the lock is spent and can establish nobody.
	 */
	if (view->leader.term < view->state.term &&
		view->leader.create_revision < view->state.token)
		return elector_plan_wait(view, ELECTOR_BECAUSE_OLDER_LEADER, 0);

	if (view->upstream_term == view->leader.term)
		return leader_silent(view) && !view->paused ? watch_lease(view) :
			elector_plan_wait(view, ELECTOR_BECAUSE_FOLLOWING, 0);

	if (view->upstream_term != 0)
		return elector_plan(view, ELECTOR_FREEZE, ELECTOR_BECAUSE_LEADER_CHANGED);
	if (!view->frozen && ELECTOR_RULE(FROZEN_BEFORE_FOLLOWING))
		return elector_plan(view, ELECTOR_FREEZE,
							ELECTOR_BECAUSE_FINDING_POSITION);

	/* S1: no stream before the leadership's beginning is on record. */
	if (!view->term.present || view->term.term != view->leader.term ||
		!view->term.begun)
		return elector_plan_wait(view, ELECTOR_BECAUSE_LEADER_BEGINS, 0);

	if ((view->position.timeline == view->state.stray && ELECTOR_RULE(STRAY_REWOUND)) ||
		!elector_position_on_history(view->position, &view->term))
		return decide_rejoin(view);

	/*
	 * Recovery takes the newest history for where it is bound, before there is
	 * any WAL of it.
	 */
	if (view->target_timeline != 0 && !in_history(view->target_timeline, &view->term) &&
		ELECTOR_RULE(BOUND_FOR_LEADER))
		return elector_plan(view, ELECTOR_DEMOTE, ELECTOR_BECAUSE_DEAD_TIMELINE);
	return elector_plan(view, ELECTOR_FOLLOW, ELECTOR_BECAUSE_ON_HISTORY);
}

static ElectorReason
refusal_reason(ElectorRefusal refusal)
{
	switch (refusal)
	{
		case ELECTOR_REFUSAL_SYSTEM:
			return ELECTOR_BECAUSE_SYSTEM_DIFFERS;
		case ELECTOR_REFUSAL_NODE:
			return ELECTOR_BECAUSE_NODE_TAKEN;
		case ELECTOR_REFUSAL_FULL:
			return ELECTOR_BECAUSE_FULL;
		case ELECTOR_REFUSAL_NONE:
			break;
	}
	assert(false);
	return ELECTOR_BECAUSE_NOT_REGISTERED;
}

/* Restart as a standby. */
static ElectorPlan
decide_restart(const ElectorView *view, ElectorReason reason)
{
	/* The lock would outlive us by the rest of its lease. */
	if (view->lock_since != 0)
		return elector_plan(view, ELECTOR_UNLOCK, reason);
	return elector_plan(view, ELECTOR_DEMOTE, reason);
}

/*
 * The leader key is not ours.  Where only its lease has ended, and the members keep their
 * promises, nobody else has led, and we take it again.
 */
static ElectorPlan
decide_keyless(const ElectorView *view)
{
	if (!elector_failsafe_may_retake(view))
		return elector_plan(view, ELECTOR_CLOSE, ELECTOR_BECAUSE_KEY_LOST);

	/* An election can come to nothing, and we cannot take part in one. */
	if (view->election.present && ELECTOR_RULE(RETAKEN_ALONE))
		return elector_plan_wait(view, ELECTOR_BECAUSE_PROMISED, view->promises_until);
	return elector_plan(view, ELECTOR_RETAKE, ELECTOR_BECAUSE_PROMISED);
}

ElectorPlan
elector_decide(const ElectorView *view)
{
	if (view->stopping)
		return elector_plan_wait(view, ELECTOR_BECAUSE_STOPPING, 0);

	if (!view->known && ELECTOR_RULE(KNOWN))
		return elector_plan_wait(view, view->gate_open && view->now < view->promises_until ?
								 ELECTOR_BECAUSE_PROMISED : ELECTOR_BECAUSE_ETCD_UNKNOWN,
								 view->gate_open && view->now < view->promises_until ?
								 view->promises_until : 0);

	if ((view->gate_open || view->lapsed) && !holds_leader(view))
		return decide_keyless(view);

	/*
	 * A leadership that is ours is kept or given up whatever else is wrong: a
	 * leader that only waited would hold its key for ever (L0, L2).
	 */
	if (view->refusal != ELECTOR_REFUSAL_NONE && !holds_leader(view))
		return elector_plan_wait(view, refusal_reason(view->refusal), 0);

	/* Our own earlier life: dead, or another machine's copy of us (S9). */
	if (view->leader.present && strcmp(view->leader.node, view->node) == 0 &&
		strcmp(view->leader.instance, view->instance) != 0)
	{
		if (view->predecessor[0] != '\0' &&
			strcmp(view->leader.instance, view->predecessor) == 0)
			return elector_plan(view, ELECTOR_RELEASE,
								ELECTOR_BECAUSE_PREDECESSOR);
		return elector_plan_wait(view, ELECTOR_BECAUSE_OTHER_INSTANCE, 0);
	}

	if (!view->registered && view->refusal == ELECTOR_REFUSAL_NONE)
		return elector_plan(view, ELECTOR_REGISTER,
							ELECTOR_BECAUSE_NOT_REGISTERED);

	if (holds_leader(view))
		return decide_leading(view);

	/* S12: it would come about in somebody else's term. */
	if (view->promoting && ELECTOR_RULE(PROMOTION_OF_THIS_TERM))
		return decide_restart(view, ELECTOR_BECAUSE_PROMOTION_VOID);

	if (view->leader.present && ELECTOR_RULE(NO_ELECTION_BESIDE_LEADER))
		return decide_following(view);

	/*
	 * There is no leader.  A primary that did not lead last was promoted by
	 * hand, or overtaken; either way its timeline is not to be trusted (S4,
	 * S18).
	 */
	if (!view->recovering && !elector_led_last(view) && ELECTOR_RULE(LAST_LEADER_IN_PLACE))
		return decide_restart(view,
							  view->term.present &&
							  strcmp(view->term.node, view->node) != 0 &&
							  view->term.term > view->state.term ?
							  ELECTOR_BECAUSE_OTHER_LEADS :
							  ELECTOR_BECAUSE_PROMOTED_BY_HAND);

	/*
	 * Nor is one that reached another timeline than its term was allotted:
	 * established in place it would resign again, and so on for ever (S18).
	 */
	if (!view->recovering && view->position.timeline != view->term.timeline &&
		ELECTOR_RULE(LAST_LEADER_IN_PLACE))
		return decide_restart(view, ELECTOR_BECAUSE_TIMELINE_DIFFERS);

	/*
	 * We gave up a leadership that we did not open.  Begin anew as a standby:
	 * the promotion may be stuck, or still come about (L2, S12).  A newer
	 * election that has fenced us meanwhile is not to lose our answer.
	 */
	if (elector_led_last(view) && view->term.released && !view->term.opened &&
		view->state.term <= view->term.term)
		return decide_restart(view, ELECTOR_BECAUSE_NOT_OPEN_IN_TIME);

	/*
	 * PostgreSQL would write into the history that it came through the timeline
	 * that recovery is bound for: then others, further on the one before that,
	 * would be taken for being on this history (S1).
	 */
	if (view->ordered && view->target_timeline != 0 && ELECTOR_RULE(PROMOTED_FROM_OWN))
		return decide_restart(view, ELECTOR_BECAUSE_DEAD_TIMELINE);

	return elector_decide_election(view);
}
