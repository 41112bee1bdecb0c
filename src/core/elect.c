/*
 * elect.c
 *	  Elections: who may begin one, who is fenced, who is chosen.
 *
 * An election is lock, revoke, choose, establish (design, section 6).  The
 * elector that holds the lock fences every member at once and goes on when all
 * have answered or had their time, and the old leadership is proven over (I4).
 * A member that has been silent since before the fence was sent has had its
 * time already: a dead host costs nothing here.
 *
 * The trap: whoever is chosen acts alone.  It takes the leader key itself, in a
 * transaction that compares our lock, so a slow candidate and a new election
 * cannot both win (S3, S4, L0b).
 */
#include "elect.h"
#include "durability.h"
#include "failsafe.h"
#include "rules.h"

#include <string.h>

#define MILLISECONDS(n) ((ElectorTime) (n) * 1000)

/* How long others let the heir of a handover go first. */
#define HEIR_BOUND MILLISECONDS(2000)

/* Nodes that are unlikely to win let the others try first. */
#define NO_CANDIDATE_DELAY MILLISECONDS(100)
#define NOT_COUNTED_DELAY MILLISECONDS(300)

/* etcd says within this time that a lease is gone. */
#define LEASE_CHECK_INTERVAL MILLISECONDS(50)

/* Terms are raised once per member that knows better, not for ever. */
#define RAISES_MAX 5

int
elector_position_compare(ElectorPosition a, ElectorPosition b)
{
	if (a.timeline != b.timeline)
		return a.timeline < b.timeline ? -1 : 1;
	if (a.lsn != b.lsn)
		return a.lsn < b.lsn ? -1 : 1;
	return 0;
}

int
elector_priority_compare(int32_t a, int32_t b)
{
	return (a > b) - (a < b);
}

static ElectorTime
later(ElectorTime a, ElectorTime b)
{
	return a > b ? a : b;
}

/* How long a candidate may take to win the leader key. */
static ElectorTime
establish_bound(const ElectorView *view)
{
	return 3 * view->fence_timeout;
}

/*
 * Did this node receive the old leader's last record?  Replay moves by whole
 * records, so past the start of the shutdown checkpoint is past its end (S19).
 */
static bool
has_last_word(const ElectorView *view, ElectorPosition position)
{
	return view->term.released && view->term.released_at.lsn != 0 &&
		position.timeline == view->term.released_at.timeline &&
		position.lsn + (ELECTOR_RULE(PAST_LAST_RECORD) ? 0 : 1) > view->term.released_at.lsn;
}

bool
elector_lacks_rows(const ElectorTerm *term, ElectorPosition position)
{
	return term->released && term->opened && term->released_at.lsn != 0 &&
		(position.timeline != term->released_at.timeline ||
		 position.lsn < term->released_at.lsn);
}

static bool
is_ready_heir(const ElectorView *view)
{
	return strcmp(view->term.heir, view->node) == 0 &&
		has_last_word(view, view->position);
}

int
elector_find_peer(const ElectorView *view, const char *node)
{
	for (int i = 0; i < view->npeers; i++)
	{
		if (strcmp(view->peers[i].node, node) == 0)
			return i;
	}
	return -1;
}

bool
elector_may_lead(bool paused, const ElectorTerm *term, const char *node)
{
	return !paused || term->opened_term == 0 || strcmp(term->node, node) == 0 ||
		!ELECTOR_RULE(PAUSE_HOLDS);
}

/* I4: the old leader's word, or its lease gone; in that order of speed. */
bool
elector_is_over(const ElectorView *view)
{
	int			old;

	if (!view->term.present || view->term.released || view->lease_gone ||
		!ELECTOR_RULE(REVOKE_FIRST))
		return true;
	old = elector_find_peer(view, view->term.node);
	return old >= 0 &&
		view->peers[old].answer.kind == ELECTOR_ANSWER_FENCED &&
		strcmp(view->peers[old].answer.instance, view->term.instance) == 0;
}

/*
 * May member i become leader, its position aside?  *blocked tells why not.
 */
static bool
is_eligible(const ElectorView *view, int i, bool unknown_lag,
			ElectorReason *blocked)
{
	const ElectorPeerView *peer = &view->peers[i];
	const ElectorAnswer *answer = &peer->answer;
	const ElectorTerm *term = &view->term;

	if (answer->kind != ELECTOR_ANSWER_FENCED || !answer->candidate || !answer->etcd)
		return false;
	if (!elector_is_overridden(view) && !elector_may_lead(view->paused, term, peer->node))
		return false;

	/* It had its chance: choosing goes on only when its time is over. */
	if (peer->passed_over || i == view->establishing)
		return false;

	/*
	 * S4: in place only the newest leader on record, in its own lifetime, and
	 * on the timeline that it was allotted (S18).
	 */
	if (answer->primary &&
		(!term->present || strcmp(term->node, peer->node) != 0 ||
		 strcmp(term->instance, answer->instance) != 0 ||
		 answer->position.timeline != term->timeline) &&
		ELECTOR_RULE(LAST_LEADER_IN_PLACE))
		return false;

	/* What it lacks the operator has accepted. */
	if (elector_is_overridden(view))
		return view->request.target[0] == '\0' || strcmp(view->request.target, peer->node) == 0;

	/*
	 * One that may have forgotten what it acknowledged is taken only when
	 * nobody else came, and lacks no more than the last leader's own writes:
	 * it merely did not follow that one (S10).
	 */
	if (!answer->counts)
	{
		if (!elector_durability_may_lose(view) || term->opened_from.lsn == 0 ||
			elector_position_compare(answer->position, term->opened_from) < 0)
			return false;
		if (!unknown_lag && *blocked == ELECTOR_BECAUSE_NO_CANDIDATE)
			*blocked = ELECTOR_BECAUSE_LAG_UNKNOWN;
		return unknown_lag;
	}

	/*
	 * The last leader has said where its WAL ends, so it is known who lacks some of
	 * it (S19).  It may come back itself; nobody else leads before it had time to.
	 */
	if (elector_lacks_rows(term, answer->position) && elector_durability_may_lose(view) &&
		ELECTOR_RULE(WHOLE_WORD) && !unknown_lag)
	{
		if (*blocked == ELECTOR_BECAUSE_NO_CANDIDATE)
			*blocked = ELECTOR_BECAUSE_LAG_UNKNOWN;
		return false;
	}

	/* Lag is measured against what was once acknowledged, if anything was. */
	if (term->opened_term == 0 || view->maximum_lag < 0 || !elector_durability_may_lose(view) ||
		strcmp(term->node, peer->node) == 0 ||
		has_last_word(view, answer->position))
		return true;
	if (!answer->lag_known)
	{
		if (!unknown_lag && *blocked == ELECTOR_BECAUSE_NO_CANDIDATE)
			*blocked = ELECTOR_BECAUSE_LAG_UNKNOWN;
		return unknown_lag;
	}
	if (answer->lag > view->maximum_lag)
	{
		*blocked = ELECTOR_BECAUSE_ALL_BEHIND;
		return false;
	}
	return true;
}

/* It may still be a primary, and lead again without a restart. */
static bool
is_last_leader(const ElectorView *view, int i)
{
	return view->term.present && strcmp(view->peers[i].node, view->term.node) == 0;
}

int
elector_choose(const ElectorView *view, bool unknown_lag, ElectorReason *blocked)
{
	int			best = -1;

	*blocked = ELECTOR_BECAUSE_NO_CANDIDATE;
	for (int i = 0; i < view->npeers; i++)
	{
		int			order;

		if (!is_eligible(view, i, unknown_lag, blocked))
			continue;
		if (best < 0)
		{
			best = i;
			continue;
		}
		order = view->peers[i].answer.counts - view->peers[best].answer.counts;
		if (order == 0)
			order = elector_position_compare(view->peers[i].answer.position,
											 view->peers[best].answer.position);
		if (order == 0 || !ELECTOR_RULE(MOST_ADVANCED))
			order = elector_priority_compare(view->peers[i].answer.priority,
											 view->peers[best].answer.priority);
		if (order == 0)
			order = is_last_leader(view, i) - is_last_leader(view, best);
		if (order > 0 || (order == 0 && i == view->self))
			best = i;
	}
	return best;
}

uint32_t
elector_next_timeline(const ElectorView *view)
{
	uint32_t	newest = view->term.timeline;

	if (view->state.timeline > newest)
		newest = view->state.timeline;
	if (view->position.timeline > newest)
		newest = view->position.timeline;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorAnswer *answer = &view->peers[i].answer;

		if (answer->kept_timeline > newest && ELECTOR_RULE(NEW_TIMELINE))
			newest = answer->kept_timeline;
		if (answer->position.timeline > newest && ELECTOR_RULE(NEW_TIMELINE))
			newest = answer->position.timeline;
	}
	return newest + 1;
}

/*
 * Does this node remember a leadership that opened, while etcd knows of none
 * (S15)?  A term alone is no sign of one: it may come from a first election
 * that was broken off.
 */
static bool
etcd_forgot(const ElectorView *view)
{
	return !view->term.present && view->state.caught_up;
}

/*
 * Does somebody remember a leadership that etcd, restored from a backup, has
 * forgotten?  That one renews nothing any more, since its key is not there, so
 * its gate is shut one lease_ttl later; until when is told (S15, I4).
 */
static bool
restored_until(const ElectorView *view, ElectorTime *until)
{
	*until = view->forgot_since + view->lease_ttl;
	return view->forgot_since != 0 && view->now < *until;
}

/* Terms and timelines that etcd has forgotten are in the members' answers only. */
static bool
all_answered(const ElectorView *view)
{
	for (int i = 0; i < view->npeers; i++)
	{
		if (view->peers[i].answer.kind != ELECTOR_ANSWER_FENCED &&
			view->peers[i].answer.kind != ELECTOR_ANSWER_REFUSED)
			return false;
	}
	return true;
}

/* Why an election may begin now; or false, with why and until when not. */
static bool
may_begin(const ElectorView *view, ElectorReason *reason, ElectorTime *again)
{
	const ElectorTerm *term = &view->term;
	ElectorTime noticed = view->gone_since;
	int			last = elector_find_peer(view, term->node);
	ElectorTime delay = 0;

	*again = 0;
	if (!view->state.present)
	{
		*reason = ELECTOR_BECAUSE_NOT_READY;
		return false;
	}
	if (view->now < view->backoff_until)
	{
		*reason = ELECTOR_BECAUSE_BACKOFF;
		*again = view->backoff_until;
		return false;
	}
	if (etcd_forgot(view))
	{
		*reason = ELECTOR_BECAUSE_ETCD_FORGOT;
		return false;
	}
	if (!elector_is_overridden(view) && !elector_may_lead(view->paused, &view->term, view->node))
	{
		*reason = ELECTOR_BECAUSE_PAUSED;
		return false;
	}
	if (restored_until(view, again))
	{
		*reason = ELECTOR_BECAUSE_ETCD_RESTORED;
		return false;
	}
	if (elector_failsafe_binds(view, 0))
	{
		*reason = ELECTOR_BECAUSE_PROMISE_BINDS;
		*again = view->promised_until;
		return false;
	}
	*again = 0;
	if (elector_is_overridden(view))
	{
		*reason = ELECTOR_BECAUSE_OVERRIDDEN;
		return true;
	}
	if (term->opened_term == 0)
	{
		*reason = ELECTOR_BECAUSE_FIRST_LEADER;
		return true;
	}

	/* A handover names who goes first, while it is there to do so. */
	if (term->released && term->heir[0] != '\0')
	{
		int			heir = elector_find_peer(view, term->heir);

		*reason = elector_is_requested(view) && view->request.term == term->term ?
			ELECTOR_BECAUSE_HANDED_OVER : ELECTOR_BECAUSE_STOPPED;
		if (*reason == ELECTOR_BECAUSE_HANDED_OVER && view->request.full)
			*reason = ELECTOR_BECAUSE_LEADER_FULL;
		if (is_ready_heir(view))
			return true;
		if (view->now < noticed + HEIR_BOUND && heir >= 0 &&
			elector_may_lead(view->paused, term, term->heir) &&
			view->peers[heir].alive)
		{
			*reason = ELECTOR_BECAUSE_HEIR_FIRST;
			*again = strcmp(term->heir, view->node) == 0 ?
				view->now + MILLISECONDS(5) : noticed + HEIR_BOUND;
			return false;
		}
	}

	*reason = term->released ? ELECTOR_BECAUSE_RELEASED :
		ELECTOR_BECAUSE_LEADER_GONE;

	/* A cold start: the last leader has the newest rows. */
	if (!view->warm && strcmp(term->node, view->node) != 0 &&
		!has_last_word(view, view->position) &&
		!(last >= 0 && view->peers[last].alive))
	{
		*reason = ELECTOR_BECAUSE_COLD_START;
		*again = later(view->started_at, noticed) + view->cold_start_wait;
		if (view->now < *again)
			return false;
		*reason = ELECTOR_BECAUSE_LAST_LEADER_AWAY;
	}

	/* Calm: only changes that opened count (L7), and a word is never held up. */
	if (term->opened && term->automatic && !term->released)
	{
		int64_t		left_ms = term->opened_at +
		view->failover_cooldown / 1000 - view->wall_ms;

		/* A clock that was set back must not hold an election up for ever. */
		if (left_ms > 0 && left_ms <= view->failover_cooldown / 1000)
		{
			*reason = ELECTOR_BECAUSE_COOLDOWN;
			*again = view->now + MILLISECONDS(left_ms);
			return false;
		}
	}

	if (!elector_state_counts(&view->state, term->opened_term))
		delay = NOT_COUNTED_DELAY;
	else if (!view->candidate)
		delay = NO_CANDIDATE_DELAY;
	if (view->now < noticed + delay)
	{
		*again = noticed + delay;
		return false;
	}
	return true;
}

/* An election that cannot go on is given up then (L1). */
static ElectorTime
give_up_at(const ElectorView *view)
{
	return later(view->lock_since, view->fence_since) +
		3 * view->fence_timeout;
}

/*
 * Until when the fence waits for member i; 0 if it does not.  This node itself
 * is waited for until the election as a whole is given up.  A member that was
 * silent before it was fenced has had its time, as far as we could hear.
 */
static ElectorTime
answer_due(const ElectorView *view, int i)
{
	const ElectorPeerView *peer = &view->peers[i];
	ElectorTime asked = view->fence_since;

	if (peer->answer.kind != ELECTOR_ANSWER_NONE)
		return 0;
	if (i == view->self)
		return give_up_at(view);
	if (peer->silent_since != 0 && peer->silent_since < asked)
		asked = later(peer->silent_since, view->linked_since);
	return asked + view->fence_timeout;
}

/* Cannot go on: wait a while for the world to change, then let others try (L1). */
static ElectorPlan
stuck(const ElectorView *view, ElectorReason reason, ElectorTime again)
{
	ElectorTime bound = give_up_at(view);

	if (view->now >= bound && ELECTOR_RULE(GIVE_UP_LOCK))
		return elector_plan(view, ELECTOR_UNLOCK, reason);
	if (again == 0 || again > bound)
		again = bound;
	return elector_plan_wait(view, reason, again);
}

static ElectorPlan
fence(const ElectorView *view, uint64_t term, ElectorReason reason)
{
	ElectorPlan plan = elector_plan(view, ELECTOR_FENCE, reason);

	plan.term = term;
	return plan;
}

/* The lock is ours. */
static ElectorPlan
run_election(const ElectorView *view)
{
	const ElectorPeerView *self;
	ElectorPlan plan;
	ElectorReason blocked;
	ElectorTime due = 0;
	uint64_t	newest = view->term.term;
	bool		patience_over;
	const char *missing;
	int			chosen;

	if (view->self < 0)
		return stuck(view, ELECTOR_BECAUSE_NOT_REGISTERED, 0);
	self = &view->peers[view->self];

	/*
	 * The first fence, and again whenever the term it was for is spent: by a
	 * member that keeps a newer one, or by a candidate that won the leader
	 * key and lost it (L0b).
	 */
	if (view->state.term > newest && view->fence_term == 0)
		newest = view->state.term;
	if (view->remembered > newest)
		newest = view->remembered;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorAnswer *answer = &view->peers[i].answer;

		if (view->fence_term != 0 && answer->kind == ELECTOR_ANSWER_REFUSED &&
			answer->kept_term > newest)
			newest = answer->kept_term;
	}
	if (view->fence_term == 0)
		return fence(view, newest + 1, ELECTOR_BECAUSE_WAITING_FOR_ANSWERS);
	if (newest >= view->fence_term)
	{
		if (view->raises >= RAISES_MAX)
			return stuck(view, ELECTOR_BECAUSE_TERM_SPENT, 0);
		return fence(view, newest + 1, ELECTOR_BECAUSE_TERM_SPENT);
	}

	/* Then there is no telling whether the old leadership is over (I4). */
	if (etcd_forgot(view))
		return stuck(view, ELECTOR_BECAUSE_ETCD_FORGOT, 0);
	if (restored_until(view, &due) || (view->forgot_since != 0 && !all_answered(view)))
		return stuck(view, ELECTOR_BECAUSE_ETCD_RESTORED, due > view->now ? due : 0);
	due = 0;

	/* Where an answer takes longer than the interval, the bound still counts. */
	if (!elector_is_over(view))
	{
		if (view->now >= view->lease_checked_at + LEASE_CHECK_INTERVAL &&
			view->now < give_up_at(view))
			return elector_plan(view, ELECTOR_CHECK_LEASE,
								ELECTOR_BECAUSE_NOT_REVOKED);
		return stuck(view, ELECTOR_BECAUSE_NOT_REVOKED,
					 view->lease_checked_at + LEASE_CHECK_INTERVAL);
	}

	/*
	 * The heir of a handover needs nobody's answer but its own: it holds all
	 * that the old leader ever wrote.
	 */
	if (self->answer.kind == ELECTOR_ANSWER_FENCED && !self->passed_over &&
		is_ready_heir(view) && self->answer.candidate &&
		!self->answer.primary && has_last_word(view, self->answer.position))
	{
		plan = elector_plan(view, ELECTOR_ESTABLISH, ELECTOR_BECAUSE_HANDED_OVER);
		plan.term = view->fence_term;
		plan.target = view->self;
		if (view->establishing != view->self)
			return plan;
	}

	if (view->establishing >= 0 &&
		view->now < view->establish_since + establish_bound(view))
		return elector_plan_wait(view, ELECTOR_BECAUSE_ESTABLISHING,
								 view->establish_since + establish_bound(view));

	for (int i = 0; i < view->npeers; i++)
		due = later(due, answer_due(view, i));
	if (due > view->now)
		return elector_plan_wait(view, ELECTOR_BECAUSE_WAITING_FOR_ANSWERS, due);

	patience_over = view->now >= later(view->started_at, view->gone_since) +
		view->cold_start_wait;
	chosen = elector_choose(view, patience_over, &blocked);
	if (chosen < 0)
		return stuck(view, blocked, 0);
	if (!elector_is_overridden(view) && !elector_durability_revoked(view, chosen, &missing))
	{
		plan = stuck(view, ELECTOR_BECAUSE_COMMITS_MISSING, 0);
		plan.target = elector_find_peer(view, missing);
		return plan;
	}

	/* No override skips a promise (S8). */
	if (!elector_failsafe_over(view))
	{
		plan = stuck(view, ELECTOR_BECAUSE_MAY_BE_PROMISED, 0);
		plan.target = elector_failsafe_doubted(view);
		return plan;
	}

	plan = elector_plan(view, ELECTOR_ESTABLISH, ELECTOR_BECAUSE_ESTABLISHING);
	plan.term = view->fence_term;
	plan.target = chosen;
	return plan;
}

ElectorPlan
elector_decide_election(const ElectorView *view)
{
	ElectorReason reason;
	ElectorTime again;

	if (view->ordered)
	{
		if (!ELECTOR_RULE(ORDER_OF_THIS_ELECTION))
			return elector_plan(view, ELECTOR_TAKE, ELECTOR_BECAUSE_CHOSEN);
		if (!view->election.present ||
			view->election.create_revision != view->order_token ||
			view->state.term != view->order_term ||
			view->state.token != view->order_token ||
			view->term.term >= view->order_term)
			return elector_plan(view, ELECTOR_DROP_ORDER,
								ELECTOR_BECAUSE_ORDER_STALE);
		return elector_plan(view, ELECTOR_TAKE, ELECTOR_BECAUSE_CHOSEN);
	}
	if (view->lock_since != 0 && !elector_is_overridden(view) &&
		!elector_may_lead(view->paused, &view->term, view->node))
		return elector_plan(view, ELECTOR_UNLOCK, ELECTOR_BECAUSE_PAUSED);
	if (view->lock_since != 0)
		return run_election(view);
	if (view->election.present)
		return elector_plan_wait(view, ELECTOR_BECAUSE_ELECTION_ELSEWHERE, 0);
	if (!may_begin(view, &reason, &again))
	{
		/* Who asks later why nothing happened shall know. */
		if ((reason == ELECTOR_BECAUSE_COOLDOWN || reason == ELECTOR_BECAUSE_PAUSED) &&
			view->unblocked)
			return elector_plan(view, ELECTOR_NOTE_BLOCKED, reason);
		return elector_plan_wait(view, reason, again);
	}
	return elector_plan(view, ELECTOR_LOCK, reason);
}
