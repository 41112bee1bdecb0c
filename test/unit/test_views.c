/*
 * test_views.c
 *	  Small views, all of them, against rules in plain words.
 *
 * A view is made of digits (views.h).  Two groups of digits are gone through
 * exhaustively, everything together by lot with a fixed seed.  The rules say
 * what must never be done, and what must be, with other words than the code;
 * each is one check, counted over all views.
 *
 * A rule about loops is checked by carrying plans out on the view itself: after
 * a few of them with the clock standing still there must be nothing left to do,
 * or something that takes time (the server restarts, etcd is asked to change).
 */
#include <stdlib.h>

#include "tap.h"
#include "views.h"

#define RANDOM_VIEWS 600000
#define SETTLE_EVERY 5
#define SETTLE_STEPS 12

/* --- the rules --- */

typedef struct Seen
{
	const ElectorView *view;
	ElectorPlan plan;
	bool		taking_part;	/* nothing keeps this node out */
	bool		holds;			/* the leader key is ours */
	bool		other_leads;
	bool		last;			/* this postmaster is the newest leader on record */
	bool		running;		/* our election is under way */
} Seen;

static bool
is_action(const Seen *seen, ElectorAction action)
{
	return seen->plan.action == action;
}

static bool
rule_plan_is_whole(const Seen *seen)
{
	const ElectorPlan *plan = &seen->plan;
	bool		wants_target = plan->action == ELECTOR_ESTABLISH ||
		plan->action == ELECTOR_CHECKPOINT ||
		plan->action == ELECTOR_PAUSE_CLIENTS ||
		plan->action == ELECTOR_DRAIN || plan->action == ELECTOR_HANDOVER;

	return plan->action <= ELECTOR_CANCEL && plan->reason < ELECTOR_REASON_COUNT &&
		elector_reason_name(plan->reason)[0] != '\0' &&
		plan->target >= -1 && plan->target < seen->view->npeers &&
		(!wants_target || plan->target >= 0);
}

static bool
rule_same_again(const Seen *seen)
{
	ElectorPlan again = elector_decide(seen->view);

	return again.action == seen->plan.action && again.reason == seen->plan.reason &&
		again.term == seen->plan.term && again.target == seen->plan.target &&
		again.again == seen->plan.again;
}

static bool
rule_blind_does_nothing(const Seen *seen)
{
	return (seen->view->known && !seen->view->stopping) || is_action(seen, ELECTOR_WAIT);
}

static bool
rule_gate_closes(const Seen *seen)
{
	bool		must = seen->view->known && !seen->view->stopping &&
		seen->view->gate_open && !seen->holds;

	return must == is_action(seen, ELECTOR_CLOSE);
}

static bool
rule_refused_stays_out(const Seen *seen)
{
	return seen->view->refusal == ELECTOR_REFUSAL_NONE || seen->holds ||
		is_action(seen, ELECTOR_WAIT) || is_action(seen, ELECTOR_CLOSE);
}

static bool
rule_unregistered_registers(const Seen *seen)
{
	return seen->view->registered || seen->view->refusal != ELECTOR_REFUSAL_NONE ||
		is_action(seen, ELECTOR_WAIT) || is_action(seen, ELECTOR_CLOSE) ||
		is_action(seen, ELECTOR_RELEASE) || is_action(seen, ELECTOR_REGISTER);
}

/* No election while there is a leader; its holder may lock to hand over. */
static bool
rule_one_leader_at_a_time(const Seen *seen)
{
	if (!seen->view->leader.present)
		return true;
	if (is_action(seen, ELECTOR_LOCK))
		return seen->holds && seen->view->gate_open && seen->view->request.present;
	return !is_action(seen, ELECTOR_FENCE) && !is_action(seen, ELECTOR_ESTABLISH) &&
		!is_action(seen, ELECTOR_TAKE) &&
		(!is_action(seen, ELECTOR_CHECK_LEASE) || seen->other_leads);
}

static bool
rule_only_the_holder(const Seen *seen)
{
	switch (seen->plan.action)
	{
		case ELECTOR_RESIGN:
		case ELECTOR_LAPSE:
		case ELECTOR_ASK_CHANGE:
		case ELECTOR_PROMOTE:
		case ELECTOR_OPEN:
		case ELECTOR_CHECKPOINT:
		case ELECTOR_PAUSE_CLIENTS:
		case ELECTOR_DRAIN:
		case ELECTOR_SET_NAMES:
		case ELECTOR_BEGIN:
		case ELECTOR_CHANGE_RULE:
		case ELECTOR_SET_FAILSAFE:
		case ELECTOR_HANDOVER:
		case ELECTOR_CANCEL:
			return seen->holds;
		case ELECTOR_FREEZE:
		case ELECTOR_FOLLOW:
		case ELECTOR_REJOIN:
		case ELECTOR_CLONE:
			return seen->other_leads;
		case ELECTOR_EXPIRE:
			return seen->other_leads && seen->view->last_second_since != 0;
		case ELECTOR_RELEASE:
			return seen->view->leader.present && !seen->holds &&
				strcmp(seen->view->leader.node, "n1") == 0 &&
				strcmp(seen->view->leader.instance, seen->view->predecessor) == 0;
		case ELECTOR_DEMOTE:
		case ELECTOR_DROP_ORDER:
		case ELECTOR_TAKE:
		case ELECTOR_RETAKE:
			return !seen->holds;
		case ELECTOR_NOTE_BLOCKED:
			return !seen->view->leader.present;
		case ELECTOR_WAIT:
		case ELECTOR_REGISTER:
		case ELECTOR_CLOSE:
		case ELECTOR_LOCK:
		case ELECTOR_UNLOCK:
		case ELECTOR_CHECK_LEASE:
		case ELECTOR_FENCE:
		case ELECTOR_ESTABLISH:
			return true;
	}
	return false;
}

/* S4, S12, S18 */
static bool
rule_promote_and_open(const Seen *seen)
{
	const ElectorView *view = seen->view;

	if (!is_action(seen, ELECTOR_PROMOTE) && !is_action(seen, ELECTOR_OPEN))
		return true;
	if (!view->term.present || view->term.term != view->leader.term)
		return false;

	/* S15: only the record, for an etcd that was restored */
	if (is_action(seen, ELECTOR_OPEN) && view->gate_open)
		return !view->term.opened || view->forgot_since != 0;
	if (view->now >= view->deadline || view->state.term > view->leader.term)
		return false;
	if (is_action(seen, ELECTOR_OPEN) &&
		(view->recovering || view->position.timeline != view->term.timeline))
		return false;
	return view->gate_open ||
		(view->ordered && view->order_term == view->leader.term &&
		 view->now < view->leading_since + 15 * SECOND);
}

static bool
rule_fenced_above_resigns(const Seen *seen)
{
	return !seen->taking_part || !seen->holds ||
		seen->view->state.term <= seen->view->leader.term ||
		is_action(seen, ELECTOR_RESIGN);
}

static bool
rule_not_opened_resigns(const Seen *seen)
{
	return !seen->taking_part || !seen->holds || seen->view->gate_open ||
		seen->view->now < seen->view->leading_since + 15 * SECOND ||
		is_action(seen, ELECTOR_RESIGN);
}

/* I5: a primary beside a leader does not stay one. */
static bool
rule_second_primary_ends(const Seen *seen)
{
	return !seen->taking_part || !seen->other_leads || seen->view->recovering ||
		is_action(seen, ELECTOR_DEMOTE) || is_action(seen, ELECTOR_CLOSE) ||
		is_action(seen, ELECTOR_DROP_ORDER) || is_action(seen, ELECTOR_UNLOCK);
}

/* S18: without a leader only one on its own timeline may go on. */
static bool
rule_stray_primary_ends(const Seen *seen)
{
	const ElectorView *view = seen->view;

	if (!seen->taking_part || view->leader.present || view->recovering ||
		(seen->last && view->position.timeline == view->term.timeline))
		return true;
	return is_action(seen, ELECTOR_DEMOTE) || is_action(seen, ELECTOR_CLOSE) ||
		is_action(seen, ELECTOR_UNLOCK);
}

static bool
rule_restart_has_a_cause(const Seen *seen)
{
	const ElectorTerm *term = &seen->view->term;

	return !is_action(seen, ELECTOR_DEMOTE) || !seen->view->recovering ||
		(!seen->view->leader.present && seen->last && term->released && !term->opened);
}

/* S1, in other words: the record's timelines are 1 to 0/1000, 2 to 0/2000, 3. */
static bool
on_history(const ElectorView *view)
{
	const ElectorPosition *position = &view->position;

	return position->timeline == 3 ||
		(position->timeline == 2 && position->lsn <= 0x2000) ||
		(position->timeline == 1 && position->lsn <= 0x1000);
}

static bool
rule_follow_and_rejoin(const Seen *seen)
{
	const ElectorView *view = seen->view;
	bool		follow = is_action(seen, ELECTOR_FOLLOW);

	if (!follow && !is_action(seen, ELECTOR_REJOIN))
		return true;
	if (!view->recovering || !view->frozen || view->upstream_term != 0 ||
		view->ordered || !view->term.begun || view->term.term != view->leader.term ||
		(view->state.term > view->leader.term &&
		 view->leader.create_revision < view->state.token))
		return false;
	return follow ? on_history(view) :
		!on_history(view) && view->term.opened && view->may_rejoin &&
		view->now >= view->rejoin_after;
}

static bool
rule_lock(const Seen *seen)
{
	const ElectorView *view = seen->view;

	if (!is_action(seen, ELECTOR_LOCK))
		return true;
	return !view->election.present && view->lock_since == 0 &&
		(view->leader.present ||
		 (!view->ordered && view->now >= view->backoff_until &&
		  (view->recovering || seen->last) &&
		  (view->term.present || !view->state.caught_up)));
}

static bool
rule_take(const Seen *seen)
{
	const ElectorView *view = seen->view;

	return !is_action(seen, ELECTOR_TAKE) ||
		(view->ordered && view->election.present &&
		 view->election.create_revision == view->order_token &&
		 view->state.term == view->order_term && view->term.term < view->order_term);
}

static bool
rule_fence(const Seen *seen)
{
	const ElectorView *view = seen->view;

	return !is_action(seen, ELECTOR_FENCE) ||
		(seen->running && seen->plan.term > view->term.term &&
		 seen->plan.term > view->fence_term &&
		 (view->fence_term != 0 || seen->plan.term > view->state.term) &&
		 (view->fence_term == 0 || view->raises < 5));
}

/* Does member i hold all that the old leader wrote before it left? */
static bool
has_all(const ElectorView *view, int i)
{
	return view->term.released && view->term.released_at.lsn != 0 &&
		view->peers[i].answer.position.timeline == view->term.released_at.timeline &&
		view->peers[i].answer.position.lsn > view->term.released_at.lsn;
}

static bool
is_heir(const Seen *seen)
{
	return strcmp(seen->view->term.heir, "n1") == 0 && seen->plan.target == 0 &&
		has_all(seen->view, 0);
}

/* I4 */
static bool
rule_revoke_before_establish(const Seen *seen)
{
	const ElectorView *view = seen->view;

	if (!is_action(seen, ELECTOR_ESTABLISH))
		return true;
	if (!view->term.present)
		return !view->state.caught_up;
	if (view->term.released || view->lease_gone)
		return true;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorAnswer *answer = &view->peers[i].answer;

		if (strcmp(view->peers[i].node, view->term.node) == 0 &&
			strcmp(answer->instance, view->term.instance) == 0 &&
			answer->kind == ELECTOR_ANSWER_FENCED)
			return true;
	}
	return false;
}

static bool
may_lead(const Seen *seen, int i)
{
	const ElectorView *view = seen->view;
	const ElectorAnswer *answer = &view->peers[i].answer;
	bool		led = strcmp(view->peers[i].node, view->term.node) == 0;

	if (answer->kind != ELECTOR_ANSWER_FENCED || view->peers[i].passed_over ||
		i == view->establishing || !answer->candidate)
		return false;
	if (answer->primary && !(led && answer->position.timeline == view->term.timeline &&
							 strcmp(answer->instance, view->term.instance) == 0))
		return false;
	if (is_heir(seen))
		return true;
	if (!answer->etcd || !answer->counts)
		return false;
	return view->term.opened_term == 0 || led || has_all(view, i) || !answer->lag_known ||
		answer->lag <= view->maximum_lag;
}

static bool
rule_establish(const Seen *seen)
{
	const ElectorView *view = seen->view;

	if (!is_action(seen, ELECTOR_ESTABLISH))
		return true;
	return seen->running && view->fence_term > view->term.term &&
		seen->plan.term == view->fence_term && may_lead(seen, seen->plan.target);
}

/* Nobody who may lead, and whose lag is known, holds more. */
static bool
rule_best_is_established(const Seen *seen)
{
	const ElectorView *view = seen->view;

	if (!is_action(seen, ELECTOR_ESTABLISH) || is_heir(seen))
		return true;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorAnswer *answer = &view->peers[i].answer;

		if (may_lead(seen, i) && answer->lag_known &&
			answer->position.lsn > view->peers[seen->plan.target].answer.position.lsn)
			return false;
	}
	return true;
}

static bool
rule_all_had_their_time(const Seen *seen)
{
	const ElectorView *view = seen->view;

	if (!is_action(seen, ELECTOR_ESTABLISH) || is_heir(seen))
		return true;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];

		if (peer->answer.kind == ELECTOR_ANSWER_NONE &&
			view->now < view->fence_since + (i == view->self ? 3 : 1) * view->fence_timeout &&
			!(i != view->self && peer->silent_since != 0 &&
			  view->now >= peer->silent_since + view->fence_timeout))
			return false;
	}
	return true;
}

/* S3: the one that was told has its time, unless it said that it will not. */
static bool
rule_one_establishment_at_a_time(const Seen *seen)
{
	const ElectorView *view = seen->view;

	return !is_action(seen, ELECTOR_ESTABLISH) || is_heir(seen) ||
		view->establishing < 0 ||
		view->now >= view->establish_since + 3 * view->fence_timeout;
}

static bool
rule_wait_is_ahead(const Seen *seen)
{
	return !is_action(seen, ELECTOR_WAIT) || seen->plan.again == 0 ||
		seen->plan.again > seen->view->now;
}

/* I7, L1: who holds the lock waits for nothing without a bound ... */
static bool
rule_lock_wait_is_bounded(const Seen *seen)
{
	return !seen->running || !is_action(seen, ELECTOR_WAIT) ||
		(seen->plan.again > seen->view->now &&
		 seen->plan.again <= seen->view->now + 3 * seen->view->fence_timeout);
}

/* ... and not at all once every bound has passed. */
static bool
rule_lock_wait_ends(const Seen *seen)
{
	const ElectorView *view = seen->view;
	ElectorTime bound = 3 * view->fence_timeout;

	return !seen->running || !is_action(seen, ELECTOR_WAIT) ||
		view->now < view->lock_since + bound || view->now < view->fence_since + bound ||
		(view->establishing >= 0 && view->now < view->establish_since + bound);
}

static bool
rule_promotion_wait_is_bounded(const Seen *seen)
{
	return !seen->taking_part || !seen->holds || seen->view->gate_open ||
		!is_action(seen, ELECTOR_WAIT) || seen->plan.again != 0;
}

/*
 * Clients wait from then on, so nothing else may be left to wait for; and what a
 * pooler sends on while transactions drain would wait for its stop.
 */
static bool
rule_clients_paused_last(const Seen *seen)
{
	const ElectorView *view = seen->view;
	const ElectorHandover *handover = &view->handover;

	if (is_action(seen, ELECTOR_DRAIN) || is_action(seen, ELECTOR_HANDOVER))
		return handover->clients_paused &&
			handover->drained == is_action(seen, ELECTOR_HANDOVER);
	return !is_action(seen, ELECTOR_PAUSE_CLIENTS) ||
		(view->request.present && view->request.term == view->leader.term &&
		 handover->checkpointed && view->lock_since != 0);
}

/*
 * Do what the plan says, as far as it shows in the view; false if it takes the
 * server or etcd some time, so that there is no loop to look for.
 */
static bool
carry_out(ElectorView *view, const ElectorPlan *plan)
{
	switch (plan->action)
	{
		case ELECTOR_WAIT:
		case ELECTOR_DEMOTE:
		case ELECTOR_REJOIN:
		case ELECTOR_CLONE:
		case ELECTOR_EXPIRE:
		case ELECTOR_HANDOVER:
		case ELECTOR_PROMOTE:
			return false;
		case ELECTOR_REGISTER:
			view->registered = true;
			return true;
		case ELECTOR_CLOSE:
			view->gate_open = false;
			view->ordered = false;
			return true;
		case ELECTOR_NOTE_BLOCKED:
			view->unblocked = false;
			return true;
		case ELECTOR_LAPSE:
			view->gate_open = false;
			view->lapsed = true;
			return true;
		case ELECTOR_ASK_CHANGE:
			view->wal_full_asked = view->now;
			return true;
		case ELECTOR_RESIGN:
		case ELECTOR_RELEASE:
			view->gate_open = view->gate_open && plan->action == ELECTOR_RELEASE;
			view->ordered = false;
			view->leader.present = false;
			view->gone_since = view->now;
			if (view->term.term == view->leader.term)
				view->term.released = view->term.present;
			return true;
		case ELECTOR_FREEZE:
			view->upstream_term = 0;
			view->frozen = true;
			return true;
		case ELECTOR_FOLLOW:
			view->upstream_term = view->leader.term;
			view->frozen = false;
			return true;
		case ELECTOR_LOCK:
			view->election.present = true;
			view->election.create_revision = 600;
			view->lock_since = view->now;
			view->fence_term = 0;
			return true;
		case ELECTOR_UNLOCK:
			view->election.present = false;
			view->lock_since = 0;
			view->fence_term = 0;
			view->backoff_until = view->now + SECOND;
			return true;
		case ELECTOR_CHECK_LEASE:
			view->lease_checked_at = view->now;
			return true;
		case ELECTOR_FENCE:
			view->raises += view->fence_term != 0;
			view->fence_term = plan->term;
			view->fence_since = view->now;
			view->establishing = -1;
			view->state.term = plan->term;
			for (int i = 0; i < view->npeers; i++)
				view->peers[i].answer.kind = ELECTOR_ANSWER_NONE;
			return true;
		case ELECTOR_ESTABLISH:
			if (view->establishing >= 0)
				view->peers[view->establishing].passed_over = true;
			view->establishing = plan->target;
			view->establish_since = view->now;
			return true;
		case ELECTOR_DROP_ORDER:
			view->ordered = false;
			return true;
		case ELECTOR_TAKE:
			view->leader.present = true;
			strcpy(view->leader.node, view->node);
			strcpy(view->leader.instance, view->instance);
			view->leader.term = view->term.term = view->order_term;
			view->leader.create_revision = 650;
			strcpy(view->term.node, view->node);
			strcpy(view->term.instance, view->instance);
			view->term.present = true;
			view->term.released = view->term.begun = view->term.opened = false;
			view->term.timeline = view->recovering ? 9 : view->position.timeline;
			view->leading_since = view->now;
			view->deadline = view->now + SECOND;
			return true;
		case ELECTOR_OPEN:
			view->gate_open = true;
			view->term.begun = view->term.opened = true;
			view->election.present = false;
			view->lock_since = 0;
			return true;
		case ELECTOR_CHECKPOINT:
			view->handover.checkpointed = true;
			return true;
		case ELECTOR_SET_NAMES:
		case ELECTOR_BEGIN:
		case ELECTOR_CHANGE_RULE:
		case ELECTOR_SET_FAILSAFE:
		case ELECTOR_RETAKE:
			return false;		/* not in these views */
		case ELECTOR_PAUSE_CLIENTS:
			view->handover.clients_paused = true;
			return true;
		case ELECTOR_DRAIN:
			view->handover.drained = true;
			return true;
		case ELECTOR_CANCEL:
			view->request.present = false;
			return true;
	}
	return false;
}

static bool
rule_settles(const Seen *seen)
{
	static ElectorView view;
	static int	turn = 0;

	if (turn++ % SETTLE_EVERY != 0)
		return true;
	view = *seen->view;
	for (int i = 0; i < SETTLE_STEPS; i++)
	{
		ElectorPlan plan = elector_decide(&view);

		if (!carry_out(&view, &plan))
			return true;
	}
	return false;
}

static const struct
{
	bool		(*holds) (const Seen *seen);
	const char *words;
}			rules[] = {
	{rule_plan_is_whole, "every plan has an action, a reason with a name, and a target if it needs one"},
	{rule_same_again, "the same view gives the same plan"},
	{rule_blind_does_nothing, "nothing is done without etcd, or while the server stops"},
	{rule_gate_closes, "I1: the gate is closed when the leader key is not ours, and only then"},
	{rule_refused_stays_out, "a refused node does nothing but close, unless it leads"},
	{rule_unregistered_registers, "a node registers before it takes part"},
	{rule_one_leader_at_a_time, "no election while there is a leader"},
	{rule_only_the_holder, "every action is done in its own role"},
	{rule_promote_and_open, "S4, S12, S18: promoted and opened only as ordered, in time, as allotted"},
	{rule_fenced_above_resigns, "L0: a leader fenced above its term resigns"},
	{rule_not_opened_resigns, "L2: a leader that does not open in time resigns"},
	{rule_second_primary_ends, "I5: a primary beside a leader restarts"},
	{rule_stray_primary_ends, "S4, S18: a primary that is not the newest leader on record restarts"},
	{rule_restart_has_a_cause, "a standby restarts only after a leadership it did not open (L2)"},
	{rule_follow_and_rejoin, "S1, I3: followed only on the leader's recorded history, rewound only off it"},
	{rule_lock, "the lock is taken only when it is free and its time has come"},
	{rule_take, "S11: the key is taken only by an order of the election under way"},
	{rule_fence, "I3, L0b: a fence is for a term above all that is known, and not for ever"},
	{rule_revoke_before_establish, "I4: nobody is established before the old leadership is proven over"},
	{rule_establish, "S4, S10, L4: only a member that answered and may lead is established"},
	{rule_best_is_established, "nobody that may lead holds more than who is established"},
	{rule_all_had_their_time, "all members had their time to answer"},
	{rule_one_establishment_at_a_time, "S3: who was told to establish itself has its time"},
	{rule_wait_is_ahead, "what is waited for is ahead, so that no loop spins"},
	{rule_lock_wait_is_bounded, "I7: no wait under the lock is without a bound"},
	{rule_lock_wait_ends, "L1: no wait under the lock outlasts all bounds"},
	{rule_promotion_wait_is_bounded, "L2: no wait between the key and the gate is without a bound"},
	{rule_clients_paused_last, "clients are paused when all else is prepared, before transactions drain"},
	{rule_settles, "plans that are carried out come to an end"}
};

static long long broken[LENGTH(rules)];
static int	example[LENGTH(rules)][DIGITS];
static ElectorPlan example_plan[LENGTH(rules)];
static long long views = 0;

static void
check_view(ElectorView *view, const int *digit)
{
	Seen		seen;

	build(view, digit);
	seen.view = view;
	seen.plan = elector_decide(view);
	seen.holds = digit[LEADER] == 1;
	seen.other_leads = digit[LEADER] == 3;
	seen.taking_part = view->known && !view->stopping &&
		(view->registered || view->refusal != ELECTOR_REFUSAL_NONE) &&
		(seen.holds || view->refusal == ELECTOR_REFUSAL_NONE);
	seen.last = view->term.present && strcmp(view->term.node, "n1") == 0 &&
		strcmp(view->term.instance, "i1") == 0;
	seen.running = seen.taking_part && !view->leader.present && view->lock_since != 0;
	views++;
	for (int i = 0; i < LENGTH(rules); i++)
	{
		if (rules[i].holds(&seen))
			continue;
		if (broken[i]++ == 0)
		{
			memcpy(example[i], digit, sizeof(example[i]));
			example_plan[i] = seen.plan;
		}
	}
}

/* All combinations of some digits; the lock is ours, or there is none. */
static void
check_all(ElectorView *view, const Digit *varied, int count, bool locked)
{
	int			digit[DIGITS];

	memcpy(digit, defaults, sizeof(digit));
	digit[ELECTION] = locked ? 1 : 0;
	for (int i = 0; i < count; i++)
		digit[varied[i]] = 0;
	for (;;)
	{
		int			i = 0;

		check_view(view, digit);
		while (i < count && ++digit[varied[i]] == counts[varied[i]])
			digit[varied[i++]] = 0;
		if (i == count)
			return;
	}
}

static uint32_t
next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t) (*seed >> 33);
}

/* Anything; but what keeps a node out altogether is the exception. */
static void
check_random(ElectorView *view, int count)
{
	uint64_t	seed = 20;
	int			digit[DIGITS];

	for (int n = 0; n < count; n++)
	{
		for (int i = 0; i < DIGITS; i++)
		{
			digit[i] = (int) (next_random(&seed) % (uint32_t) counts[i]);
			if (i >= KNOWN && next_random(&seed) % 8 != 0)
				digit[i] = defaults[i];
		}
		check_view(view, digit);
	}
}

int
main(void)
{
	static const Digit roles[] = {
		LEADER, LEADER_TERM, TERM, ELECTION, RECOVERING, FROZEN, GATE, ORDERED,
		DEADLINE, STATE, POSITION, UPSTREAM
	};
	static const Digit elections[] = {
		TERM, FENCE, AGE, ANSWER1, ANSWER2, ANSWER3, ESTABLISHING, LEASE, PASSED,
		SILENT
	};
	static ElectorView view;

	prepare(&view);
	check_all(&view, roles, LENGTH(roles), false);
	check_all(&view, elections, LENGTH(elections), true);
	check_random(&view, RANDOM_VIEWS);
	printf("# %lld views\n", views);
	for (int i = 0; i < LENGTH(rules); i++)
	{
		if (ok(broken[i] == 0, "%s", rules[i].words))
			continue;
		printf("#   broken by %lld views; the first: %s (%s), digits", broken[i],
			   elector_action_name(example_plan[i].action),
			   elector_reason_name(example_plan[i].reason));
		for (int d = 0; d < DIGITS; d++)
			printf(" %d", example[i][d]);
		printf("\n");
	}
	return done_testing();
}
