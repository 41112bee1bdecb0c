/*
 * failsafe.c
 *	  Leading without etcd, by promises of the members.
 *
 * A leader whose lease etcd does not confirm asks all members on record to promise that
 * they will not be fenced for a newer term until a given time, and goes on for as long as
 * enough of them have promised: all, or, under a durability policy, as many as make a commit
 * durable.  An election proves that the old leader does not go on by fencing so many that
 * the others are not enough: whoever is fenced has promised nothing, or no more, and having
 * obeyed a newer term never promises the old one again.  So of the two things, to lead by
 * promises and to be followed by another leader, only one can be; etcd's lease is proof
 * only as long as there is nobody to promise.
 *
 * The record stands in etcd under `failsafe`.  Only the leader that holds the leader key
 * writes it, so it knows it; while a change of it may still come about, all of both are
 * asked.  It names data directories, not only nodes: a copy of a member has promised
 * nothing.
 *
 * The leader counts from before it asked, the member from when it was asked, and each
 * takes its margin off, or adds it, because either clock may be wrong.
 *
 * The trap: a promise binds a data directory, not a process.  It is on disk before it is
 * given; who finds one there when it starts does not know when it was given, and keeps it
 * for its whole length from then on.
 */
#include "failsafe.h"
#include "durability.h"
#include "elect.h"
#include "name.h"
#include "rules.h"

#include <stdio.h>
#include <string.h>

/* No lease is longer than that. */
#define LASTS_MAX_MS ((int64_t) 3600 * 1000)

/* --- the record --- */

static const ElectorFailsafeMember *
find_member(const ElectorFailsafe *record, const char *node)
{
	for (int i = 0; i < record->nmembers; i++)
	{
		if (strcmp(record->members[i].node, node) == 0)
			return &record->members[i];
	}
	return NULL;
}

static bool
has_member(const ElectorFailsafe *record, const ElectorFailsafeMember *member)
{
	for (int i = 0; i < record->nmembers; i++)
	{
		if (strcmp(record->members[i].node, member->node) == 0 &&
			strcmp(record->members[i].directory, member->directory) == 0)
			return true;
	}
	return false;
}

/* Mostly empty. */
void
elector_failsafe_copy(ElectorFailsafe *to, const ElectorFailsafe *from)
{
	memcpy(to, from, offsetof(ElectorFailsafe, members));
	memcpy(to->members, from->members, (size_t) from->nmembers * sizeof(from->members[0]));
}

void
elector_failsafe_common(ElectorFailsafe *to, const ElectorFailsafe *other)
{
	int			kept = 0;

	for (int i = 0; i < to->nmembers; i++)
	{
		if (has_member(other, &to->members[i]))
			to->members[kept++] = to->members[i];
	}
	to->nmembers = kept;
}

bool
elector_failsafe_add(ElectorFailsafe *to, const ElectorFailsafe *more)
{
	for (int i = 0; i < more->nmembers; i++)
	{
		if (has_member(to, &more->members[i]))
			continue;
		if (to->nmembers == ELECTOR_MEMBERS_MAX)
			return false;
		to->members[to->nmembers++] = more->members[i];
	}
	return true;
}

static bool
is_same(const ElectorFailsafe *a, const ElectorFailsafe *b)
{
	if (a->present != b->present || a->nmembers != b->nmembers)
		return false;
	for (int i = 0; i < a->nmembers; i++)
	{
		if (!has_member(b, &a->members[i]))
			return false;
	}
	return true;
}

/*
 * Those that are there, and those that are away for a while: one that has been away for
 * long would end every leadership without etcd.
 */
static void
wanted_record(const ElectorView *view, ElectorFailsafe *record)
{
	record->present = view->may_promise;
	record->nmembers = 0;
	record->mod_revision = 0;
	for (int i = 0; i < view->npeers && record->present; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];
		const ElectorFailsafeMember *before = find_member(&view->failsafe, peer->node);
		bool		gone = peer->silent_since != 0 &&
		view->now >= peer->silent_since + view->follower_timeout;
		ElectorFailsafeMember *member = &record->members[record->nmembers];

		if (peer->directory[0] == '\0' ||
			(i != view->self && !peer->alive && (before == NULL || gone)))
			continue;
		elector_copy(member->node, peer->node, sizeof(member->node));
		elector_copy(member->directory, peer->directory, sizeof(member->directory));
		record->nmembers++;
	}
}

ElectorPlan
elector_failsafe_plan(const ElectorView *view, ElectorFailsafe *record)
{
	wanted_record(view, record);

	/* Where there is to be none, what may still come about does no harm. */
	if (is_same(record, &view->failsafe) && (!view->asked_changing || !record->present))
		return elector_plan_wait(view, ELECTOR_BECAUSE_LEADING, 0);
	return elector_plan(view, ELECTOR_SET_FAILSAFE, ELECTOR_BECAUSE_FAILSAFE);
}

/* --- the leader --- */

/* Until when has it promised?  0: it has not. */
static ElectorTime
promised_until(const ElectorView *view, const ElectorFailsafeMember *member)
{
	int			i = elector_find_peer(view, member->node);

	if (i < 0 || strcmp(view->peers[i].promised_by, member->directory) != 0)
		return 0;
	return view->peers[i].promised_until;
}

static bool
is_self(const ElectorView *view, const ElectorFailsafeMember *member)
{
	return strcmp(member->node, view->node) == 0 &&
		strcmp(member->directory, view->state.directory) == 0;
}

/* When the first promise ends, if all have promised who have to. */
static ElectorTime
all_until(const ElectorView *view)
{
	ElectorTime soonest = 0;

	for (int i = 0; i < view->asked.nmembers; i++)
	{
		ElectorTime until;

		if (is_self(view, &view->asked.members[i]))
			continue;
		until = promised_until(view, &view->asked.members[i]);
		if (until == 0 && ELECTOR_RULE(ALL_PROMISE))
			return 0;
		if (soonest == 0 || (ELECTOR_RULE(ALL_PROMISE) ? until < soonest : until > soonest))
			soonest = until;
	}
	return soonest;
}

/* Has the node promised until then, which is on record whatever comes about? */
static bool
has_promised(const ElectorView *view, const char *node, ElectorTime until)
{
	const ElectorFailsafeMember *member = find_member(&view->surely, node);

	return member != NULL && promised_until(view, member) >= until;
}

/* For how long so many have promised as make a commit durable. */
static ElectorTime
enough_until(const ElectorView *view, const ElectorCommitRule *rule)
{
	ElectorTime latest = 0;

	for (int i = 0; i < view->surely.nmembers; i++)
	{
		ElectorTime until = promised_until(view, &view->surely.members[i]);
		bool		set[ELECTOR_MEMBERS_MAX] = {false};

		if (until <= latest || is_self(view, &view->surely.members[i]))
			continue;
		for (int m = 0; m < rule->nmembers; m++)
			set[m] = has_promised(view, rule->members[m].node, until);
		if (elector_rule_suffices(rule, view->node, set))
			latest = until;
	}
	return latest;
}

static ElectorTime
until_under(const ElectorView *view, const ElectorCommitRule *rule)
{
	return elector_policy_is_async(rule->policy) || !ELECTOR_RULE(ALL_PROMISE) ?
		all_until(view) : enough_until(view, rule);
}

ElectorTime
elector_failsafe_until(const ElectorView *view)
{
	const ElectorDurability *record = &view->durability;
	ElectorTime until;

	/* Fenced, nobody leads; and who gives its leadership up is not to be kept from it. */
	if (!view->gate_open || !view->may_promise || !view->asked.present ||
		view->state.term > view->state.followed || view->lapsed || view->cut_off)
		return 0;
	if (!record->present)
		return all_until(view);
	until = until_under(view, &record->rule);
	if (record->changing && ELECTOR_RULE(PROMISE_BOTH_RULES))
	{
		ElectorTime next = until_under(view, &record->next);

		if (next < until)
			until = next;
	}
	return until;
}

void
elector_failsafe_missing(const ElectorView *view, char *missing, size_t size)
{
	const ElectorFailsafe *asked = &view->asked;
	size_t		length = 0;

	missing[0] = '\0';
	for (int i = 0; i < asked->nmembers && length < size; i++)
	{
		if (!is_self(view, &asked->members[i]) &&
			promised_until(view, &asked->members[i]) <= view->now)
			length += (size_t) snprintf(missing + length, size - length, "%s%s",
										length > 0 ? ", " : "", asked->members[i].node);
	}
}

bool
elector_failsafe_may_retake(const ElectorView *view)
{
	if (!ELECTOR_RULE(RETAKEN_ALONE))
		return view->gate_open && view->leader.term != view->state.followed;
	return view->gate_open && view->now < view->promises_until &&
		!view->leader.present && elector_led_last(view) && !view->term.released &&
		view->state.term <= view->term.term &&
		view->remembered <= view->term.term && view->forgot_since == 0;
}

/* --- who promises --- */

/*
 * Whoever was fenced for a newer term proves that the older one is over; but not to an
 * elector that can establish nobody any more.
 */
static bool
obeys(const ElectorView *view, uint64_t term)
{
	return view->state.term == term || (view->state.term > term && view->fence_void);
}

bool
elector_failsafe_may_promise(const ElectorView *view, const ElectorPromiseRequest *request)
{
	const ElectorState *state = &view->state;

	if (!view->may_promise || !view->recovering || view->stopping ||
		request->lasts_ms <= 0 || request->lasts_ms > LASTS_MAX_MS)
		return false;

	/* An election is under way that wants this node. */
	if (view->ordered || view->lock_since != 0 || view->fence_waits)
		return false;

	/* What a copy or a restored data directory has obeyed nobody knows (S10). */
	if (ELECTOR_RULE(PROMISE_OF_THIS_TERM) &&
		(!state->present || !state->caught_up || !obeys(view, request->term) ||
		 state->followed != request->term || view->remembered > request->term))
		return false;

	/* Whoever sees that etcd has gone on lets it. */
	return !view->known ||
		(view->leader.present && view->leader.term == request->term &&
		 strcmp(view->leader.instance, request->instance) == 0);
}

bool
elector_failsafe_binds(const ElectorView *view, uint64_t over)
{
	const ElectorTerm *term = &view->term;
	uint64_t	promised = view->state.promised;

	if (view->now >= view->promised_until || over >= promised ||
		!ELECTOR_RULE(PROMISE_KEPT))
		return false;
	return !view->known || !term->present || term->term < promised ||
		(term->term == promised && !term->released);
}

/* --- elections --- */

/*
 * Is the member sure not to promise any more: fenced in this election, or, before there
 * is one, there to be fenced?  A copy of it proves nothing.
 */
static bool
is_out(const ElectorView *view, int i, const ElectorFailsafeMember *member, bool foretold)
{
	const ElectorPeerView *peer = &view->peers[i];
	const char *directory = foretold ? peer->directory : peer->answer.directory;

	if (foretold ? !peer->alive || (peer->silent_since != 0 &&
									view->now >= peer->silent_since + view->fence_timeout / 4) :
		peer->answer.kind != ELECTOR_ANSWER_FENCED)
		return false;
	if (member == NULL)
		return !ELECTOR_RULE(ON_RECORD);
	return strcmp(directory, member->directory) == 0 || !ELECTOR_RULE(SAME_PROMISER);
}

/*
 * The old leader's own word, or a later life of it in the same data directory.  Whom an
 * operator has removed is gone for good.
 */
static bool
old_leader_out(const ElectorView *view, bool foretold)
{
	const ElectorTerm *term = &view->term;
	int			i = elector_find_peer(view, term->node);

	if (!term->present)
		return false;
	if (i < 0)
		return true;
	if (!foretold && view->peers[i].answer.kind == ELECTOR_ANSWER_FENCED &&
		strcmp(view->peers[i].answer.instance, term->instance) == 0)
		return true;
	return is_out(view, i, find_member(&view->failsafe, term->node), foretold);
}

/* All would have to promise: is one of them out, or nobody left? */
static bool
one_is_out(const ElectorView *view, bool foretold)
{
	bool		anybody = false;

	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorFailsafeMember *member = find_member(&view->failsafe, view->peers[i].node);

		if (strcmp(view->peers[i].node, view->term.node) == 0)
			continue;
		if (is_out(view, i, member, foretold))
			return true;
	}

	/* Also one that was removed: only removing the old leader says that it is gone. */
	for (int m = 0; m < view->failsafe.nmembers; m++)
		anybody = anybody || strcmp(view->failsafe.members[m].node, view->term.node) != 0;
	return !anybody;
}

/* Would those on record that are not out be too few? */
static bool
too_few_left(const ElectorView *view, const ElectorCommitRule *rule, bool foretold)
{
	bool		left[ELECTOR_MEMBERS_MAX] = {false};
	bool		anybody = false;

	for (int m = 0; m < rule->nmembers; m++)
	{
		const char *node = rule->members[m].node;
		const ElectorFailsafeMember *member = find_member(&view->failsafe, node);
		int			i = elector_find_peer(view, node);

		if (member == NULL || strcmp(node, view->term.node) == 0)
			continue;
		left[m] = i < 0 || !is_out(view, i, member, foretold);
		anybody = anybody || left[m];
	}
	return !anybody || !elector_rule_might_suffice(rule, view->term.node, left);
}

static bool
over_under(const ElectorView *view, const ElectorCommitRule *rule, bool foretold)
{
	return elector_policy_is_async(rule->policy) || !ELECTOR_RULE(PROMISERS_INTERSECT) ?
		one_is_out(view, foretold) : too_few_left(view, rule, foretold);
}

static bool
all_fenced(const ElectorView *view)
{
	for (int i = 0; i < view->npeers; i++)
	{
		if (view->peers[i].answer.kind != ELECTOR_ANSWER_FENCED)
			return false;
	}
	return true;
}

static bool
is_over(const ElectorView *view, bool foretold)
{
	const ElectorDurability *record = &view->durability;

	if (!ELECTOR_RULE(PROMISERS_FENCED))
		return true;

	/* What the forgotten leadership had on record nobody knows, nor its word (S15). */
	if (view->forgot_since != 0)
		return foretold || all_fenced(view);
	if (view->term.released || !view->failsafe.present || old_leader_out(view, foretold))
		return true;

	/* Whose gate has not been open has nothing to go on with. */
	if (view->term.present && !view->term.opened)
		return true;
	if (!record->present)
		return one_is_out(view, foretold);
	return over_under(view, &record->rule, foretold) &&
		(!record->changing || over_under(view, &record->next, foretold));
}

bool
elector_failsafe_over(const ElectorView *view)
{
	return is_over(view, false);
}

bool
elector_failsafe_to_end(const ElectorView *view)
{
	return is_over(view, true);
}

int
elector_failsafe_doubted(const ElectorView *view)
{
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorFailsafeMember *member = find_member(&view->failsafe, view->peers[i].node);

		if (strcmp(view->peers[i].node, view->term.node) != 0 && member != NULL &&
			!is_out(view, i, member, false))
			return i;
	}
	return -1;
}
