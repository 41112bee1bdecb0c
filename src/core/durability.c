/*
 * durability.c
 *	  What makes a commit durable, as a rule over sets of members.
 *
 * A policy tells which sets of acknowledgements suffice.  All else follows from that:
 *
 *	 - an old leadership is revoked when the members that did not answer could not have
 *	   sufficed, so that every set that did has one that answered;
 *	 - the gate of a new leader opens when a set has flushed its beginning;
 *	 - synchronous_standby_names is the smallest quorum that cannot do with less.
 *
 * The rule in force is concrete, a policy with its members, and stands in etcd under
 * `durability`; elections read it there and nowhere else.  It is changed in two steps:
 * the next rule is recorded beside the old one, then the server's setting is changed,
 * and when a set of the next rule has flushed all that was written before that was known
 * to be loaded, the old one is dropped (S6).  In between an election satisfies both.
 *
 * The trap: being further is not having acknowledged.  A member that is ahead of the
 * candidate may hold what was acknowledged, so the candidate counts it as not having
 * answered at all (S3).
 */
#include "durability.h"
#include "elect.h"
#include "name.h"
#include "rules.h"

#include <stdio.h>
#include <string.h>

/* A follower that is this close to the end of WAL has caught up. */
#define CAUGHT_UP ((ElectorLsn) 1024 * 1024)

/* How soon it is looked again what followers have flushed: no event tells. */
#define LOOK_SOONEST ((ElectorTime) 2000)
#define LOOK_LATEST ((ElectorTime) 300000)

/* --- the rule --- */

static int
find_member(const ElectorCommitRule *rule, const char *node)
{
	for (int i = 0; i < rule->nmembers; i++)
	{
		if (strcmp(rule->members[i].node, node) == 0)
			return i;
	}
	return -1;
}

/*
 * Would these members suffice?  leader may be no member of the rule.  Of a policy that is
 * not known here nobody can say; then it is as the caller fears.
 */
static bool
suffices(const ElectorCommitRule *rule, const char *leader, const bool *acknowledged,
		 bool if_unknown)
{
	const char *arguments;
	const ElectorPolicy *policy;
	int			leads = find_member(rule, leader);
	bool		others[ELECTOR_MEMBERS_MAX];

	if (elector_policy_is_async(rule->policy))
		return true;

	policy = elector_policy_find(rule->policy, &arguments);
	if (policy == NULL)
		return if_unknown;
	for (int i = 0; i < rule->nmembers; i++)
		others[i] = acknowledged[i] && i != leads;
	return policy->suffices(arguments, rule, leads, others);
}

bool
elector_rule_suffices(const ElectorCommitRule *rule, const char *leader,
					  const bool *acknowledged)
{
	return suffices(rule, leader, acknowledged, false);
}

bool
elector_rule_might_suffice(const ElectorCommitRule *rule, const char *leader,
						   const bool *acknowledged)
{
	return suffices(rule, leader, acknowledged, true);
}

bool
elector_rule_names(const ElectorCommitRule *rule, const char *leader, char *names, size_t size)
{
	const char *arguments;
	const ElectorPolicy *policy = elector_policy_find(rule->policy, &arguments);
	bool		marked[ELECTOR_MEMBERS_MAX] = {false};
	const char *between = "";
	size_t		length;
	int			quorum;

	names[0] = '\0';
	if (elector_policy_is_async(rule->policy))
		return true;
	if (policy == NULL)
		return false;
	quorum = policy->quorum(arguments, rule, find_member(rule, leader), marked);
	if (quorum <= 0)
		return false;
	length = (size_t) snprintf(names, size, "ANY %d (", quorum);
	for (int i = 0; i < rule->nmembers && length < size; i++)
	{
		if (!marked[i])
			continue;
		length += (size_t) snprintf(names + length, size - length, "%s\"%s\"", between,
									rule->members[i].node);
		between = ",";
	}
	if (length + 1 >= size)
	{
		names[0] = '\0';
		return false;
	}
	strcpy(names + length, ")");
	return true;
}

/* Rules are long, and mostly empty. */
void
elector_rule_copy(ElectorCommitRule *to, const ElectorCommitRule *from)
{
	elector_copy(to->policy, from->policy, sizeof(to->policy));
	to->nmembers = from->nmembers;
	memcpy(to->members, from->members, (size_t) from->nmembers * sizeof(from->members[0]));
}

bool
elector_rule_equal(const ElectorCommitRule *a, const ElectorCommitRule *b)
{
	if (elector_policy_is_async(a->policy) && elector_policy_is_async(b->policy))
		return true;
	if (strcmp(a->policy, b->policy) != 0 || a->nmembers != b->nmembers)
		return false;
	for (int i = 0; i < a->nmembers; i++)
	{
		int			j = find_member(b, a->members[i].node);

		if (j < 0 || strcmp(a->members[i].zone, b->members[j].zone) != 0)
			return false;
	}
	return true;
}

/* --- what elections ask --- */

/* Does the answer tell of WAL that the candidate has, too? */
static bool
is_found(const ElectorView *view, int i, int candidate)
{
	const ElectorAnswer *answer = &view->peers[i].answer;

	return answer->kind == ELECTOR_ANSWER_FENCED &&
		(answer->counts || !ELECTOR_RULE(ANSWERS_COUNT)) &&
		(elector_position_compare(answer->position, view->peers[candidate].answer.position) <= 0 ||
		 !ELECTOR_RULE(AHEAD_IS_ABSENT));
}

/*
 * Are all commits acknowledged under `leader` with the candidate?  Under async nothing was
 * promised; but a leader that acknowledged alone because it was degraded has them all.
 */
static bool
revoked_under(const ElectorView *view, const ElectorCommitRule *rule, const char *leader,
			  int candidate, const char **missing)
{
	bool		absent[ELECTOR_MEMBERS_MAX];
	const char *first = "";

	if (elector_policy_is_async(rule->policy) && !view->durability.degraded)
		return true;
	for (int i = 0; i < rule->nmembers; i++)
		absent[i] = true;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];
		int			member = find_member(rule, peer->node);

		if (!is_found(view, i, candidate))
			continue;

		/* Who led itself has all that it ever acknowledged. */
		if (strcmp(peer->node, leader) == 0)
			return true;
		if (member >= 0)
			absent[member] = false;
	}
	if (!suffices(rule, leader, absent, true))
		return true;
	for (int i = 0; i < rule->nmembers && first[0] == '\0'; i++)
	{
		if (absent[i] && strcmp(rule->members[i].node, leader) != 0)
			first = rule->members[i].node;
	}
	*missing = first[0] != '\0' ? first : leader;
	return false;
}

/*
 * A restored etcd does not know by which rule was acknowledged lately, nor, maybe, that
 * there was one.  Then nobody may be ahead, and all have answered (all_answered, elect.c).
 */
static bool
nobody_ahead(const ElectorView *view, int candidate, const char **missing)
{
	for (int i = 0; i < view->npeers; i++)
	{
		if (view->peers[i].answer.kind == ELECTOR_ANSWER_FENCED && view->peers[i].answer.counts &&
			!is_found(view, i, candidate))
		{
			*missing = view->peers[i].node;
			return false;
		}
	}
	return true;
}

bool
elector_durability_revoked(const ElectorView *view, int candidate, const char **missing)
{
	const ElectorDurability *record = &view->durability;
	const ElectorTerm *term = &view->term;

	/* S7: of those that led since, none has acknowledged anything. */
	const char *leader = ELECTOR_RULE(OPENED_LAST) ? term->opened_node : term->node;

	/* Who has changed the rule since then has found them all by it, from where it led. */
	if (record->term > term->opened_term)
		leader = record->node;

	*missing = "";
	if (term->opened_term == 0 || !ELECTOR_RULE(COMMITS_FOUND))
		return true;
	if (view->forgot_since != 0 && !elector_policy_is_async(view->policy) &&
		!nobody_ahead(view, candidate, missing))
		return false;
	if (!record->present)
		return true;
	return revoked_under(view, &record->rule, leader, candidate, missing) &&
		(!record->changing || !ELECTOR_RULE(BOTH_RULES) ||
		 revoked_under(view, &record->next, leader, candidate, missing));
}

/* Neither rule asks for more than the leader's own word. */
static bool
is_async(const ElectorDurability *record)
{
	return !record->present || (elector_policy_is_async(record->rule.policy) &&
								!record->changing);
}

static bool
counts_under(const ElectorCommitRule *rule, const char *node)
{
	return !elector_policy_is_async(rule->policy) && find_member(rule, node) >= 0;
}

bool
elector_durability_counts(const ElectorView *view, const char *node)
{
	const ElectorDurability *record = &view->durability;

	return record->present && (counts_under(&record->rule, node) ||
							   (record->changing && counts_under(&record->next, node)));
}

bool
elector_durability_may_lose(const ElectorView *view)
{
	return is_async(&view->durability);
}

/* Have as many of the rule's members flushed so far as it takes?  0: follow at all. */
static bool
acknowledged(const ElectorView *view, const ElectorCommitRule *rule, ElectorLsn lsn)
{
	bool		set[ELECTOR_MEMBERS_MAX] = {false};

	for (int i = 0; i < view->npeers; i++)
	{
		int			member = find_member(rule, view->peers[i].node);

		if (member >= 0 && i != view->self && view->peers[i].flushed != 0)
			set[member] = view->peers[i].flushed >= lsn;
	}
	return elector_rule_suffices(rule, view->node, set);
}

bool
elector_durability_may_open(const ElectorView *view)
{
	const ElectorDurability *record = &view->durability;

	if (is_async(record) || !ELECTOR_RULE(FLUSHED_BEFORE_OPENING))
		return true;
	return acknowledged(view, &record->rule, view->barrier) &&
		(!record->changing || acknowledged(view, &record->next, view->barrier));
}

bool
elector_durability_settled(const ElectorView *view)
{
	ElectorDurability record;
	const ElectorPlan plan = elector_durability_plan(view, &record);

	return plan.action == ELECTOR_WAIT && plan.reason == ELECTOR_BECAUSE_LEADING &&
		(is_async(&view->durability) ||
		 acknowledged(view, &view->durability.rule, view->names_barrier));
}

/* The longer it has lasted, the less often. */
ElectorTime
elector_look_again(const ElectorView *view, ElectorTime since)
{
	ElectorTime interval = (view->now - since) / 20;

	if (interval < LOOK_SOONEST)
		interval = LOOK_SOONEST;
	return view->now + (interval < LOOK_LATEST ? interval : LOOK_LATEST);
}

/* Could those that miss the leader lead among themselves, and find all commits there? */
static bool
replaced_under(const ElectorView *view, const ElectorCommitRule *rule)
{
	bool		there[ELECTOR_MEMBERS_MAX] = {false};
	bool		absent[ELECTOR_MEMBERS_MAX];

	for (int i = 0; i < view->npeers; i++)
	{
		int			member = find_member(rule, view->peers[i].node);

		if (member >= 0 && i != view->self)
			there[member] = view->peers[i].alive && view->peers[i].misses == view->leader.term;
	}
	for (int i = 0; i < rule->nmembers; i++)
		absent[i] = !there[i];
	if (suffices(rule, view->node, absent, true))
		return false;
	for (int i = 0; i < rule->nmembers; i++)
	{
		if (there[i] && elector_rule_suffices(rule, rule->members[i].node, there))
			return true;
	}
	return false;
}

bool
elector_durability_cut_off(const ElectorView *view)
{
	const ElectorDurability *record = &view->durability;

	return !is_async(record) && view->unserved_since != 0 &&
		view->now >= view->unserved_since + view->lease_ttl &&
		replaced_under(view, &record->rule) &&
		(!record->changing || replaced_under(view, &record->next));
}

/* The members that would be needed and are not there; false if there are any. */
static bool
is_safe_under(const ElectorView *view, const ElectorCommitRule *rule, char *missing, size_t size)
{
	bool		absent[ELECTOR_MEMBERS_MAX];
	size_t		length = strlen(missing);

	for (int i = 0; i < rule->nmembers; i++)
		absent[i] = strcmp(rule->members[i].node, view->leader.node) != 0;
	for (int i = 0; i < view->npeers; i++)
	{
		int			member = find_member(rule, view->peers[i].node);

		bool		silent = view->peers[i].silent_since != 0 &&
		view->now >= view->peers[i].silent_since + view->fence_timeout / 4;

		if (member >= 0 && view->peers[i].alive && view->peers[i].following && !silent)
			absent[member] = false;
	}
	if (!suffices(rule, view->leader.node, absent, true))
		return true;
	for (int i = 0; i < rule->nmembers && length < size; i++)
	{
		if (absent[i])
			length += (size_t) snprintf(missing + length, size - length, "%s%s",
										length > 0 ? ", " : "", rule->members[i].node);
	}
	return false;
}

bool
elector_durability_safe(const ElectorView *view, char *missing, size_t size)
{
	const ElectorDurability *record = &view->durability;

	missing[0] = '\0';
	if (is_async(record))
		return true;
	return is_safe_under(view, &record->rule, missing, size) &&
		(!record->changing || is_safe_under(view, &record->next, missing, size));
}

/* --- the leader brings the rule into force that is wanted --- */

/* The member follows, and has done so to the end of WAL. */
static bool
is_with_us(const ElectorView *view, int i)
{
	return view->peers[i].flushed != 0 &&
		view->peers[i].flushed + CAUGHT_UP >= view->position.lsn;
}

static void
add_member(ElectorCommitRule *rule, const ElectorPeerView *peer)
{
	ElectorCommitMember *member = &rule->members[rule->nmembers++];

	elector_copy(member->node, peer->node, sizeof(member->node));
	elector_copy(member->zone, peer->zone, sizeof(member->zone));
}

/* The rule in force, or that is to be, which commits are acknowledged by. */
static const ElectorCommitRule *
newest_rule(const ElectorDurability *record)
{
	return record->changing ? &record->next : &record->rule;
}

/*
 * The policy that is wanted: what all members that are there have set; until they
 * agree, what is in force.
 */
static const char *
wanted_policy(const ElectorView *view)
{
	if (view->policy_agreed)
		return view->policy;
	return view->durability.present ? newest_rule(&view->durability)->policy : "async";
}

/*
 * The wanted policy with its members: those that follow, and those that are away for a
 * while.  One that has been away for long is left out, where the rest can do without it.
 */
static void
wanted_rule(const ElectorView *view, bool keep_absent, ElectorCommitRule *rule)
{
	const ElectorCommitRule *before = newest_rule(&view->durability);

	rule->nmembers = 0;
	elector_copy(rule->policy, wanted_policy(view), sizeof(rule->policy));
	if (elector_policy_is_async(rule->policy))
		return;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];
		bool		was = view->durability.present && find_member(before, peer->node) >= 0;
		bool		gone = peer->absent_since != 0 &&
		view->now >= peer->absent_since + view->follower_timeout;

		if (i == view->self || is_with_us(view, i) || (was && (keep_absent || !gone)))
			add_member(rule, peer);
	}
}

bool
elector_durability_served(const ElectorView *view)
{
	ElectorCommitRule rule;

	wanted_rule(view, true, &rule);
	return acknowledged(view, &rule, 0);
}

/* What is to be in force, as things are.  True if it is less than what is wanted. */
static bool
choose_rule(const ElectorView *view, ElectorCommitRule *rule)
{
	char		names[ELECTOR_NAMES_SIZE];
	bool		degrade = view->may_degrade && view->unserved_since != 0 &&
	view->now >= view->unserved_since + view->degrade_after;

	/* Once degraded, until the followers are there again. */
	if (view->may_degrade && view->durability.present && view->durability.degraded &&
		!elector_durability_served(view))
		degrade = true;
	if (degrade)
	{
		rule->nmembers = 0;
		elector_copy(rule->policy, "async", sizeof(rule->policy));
		return !elector_policy_is_async(wanted_policy(view));
	}
	wanted_rule(view, false, rule);
	if (!elector_rule_names(rule, view->node, names, sizeof(names)))
		wanted_rule(view, true, rule);
	return false;
}

void
elector_durability_names(const ElectorView *view, char *names, size_t size)
{
	const ElectorDurability *record = &view->durability;

	names[0] = '\0';
	if (record->present &&
		!elector_rule_names(newest_rule(record), view->node, names, size))
	{
		/* Nobody could suffice: a name that nobody has. */
		elector_copy(names, "ANY 1 (\"pg_elector has too few followers\")", size);
	}
}

/*
 * A rule that holds what either of the two promises: no set that suffices for one of
 * them does not suffice for it.  False if there is no room.
 */
static bool
cover_both(const ElectorCommitRule *a, const ElectorCommitRule *b, ElectorCommitRule *both)
{
	const char *arguments;
	const ElectorPolicy *policy = elector_policy_find(a->policy, &arguments);

	if (elector_policy_is_async(a->policy) || elector_policy_is_async(b->policy))
	{
		elector_rule_copy(both, elector_policy_is_async(a->policy) ? b : a);
		return true;
	}
	elector_rule_copy(both, a);

	/* What other policies make of more members is their affair. */
	if (strcmp(a->policy, b->policy) != 0 || policy == NULL || strcmp(policy->name, "any") != 0)
		elector_copy(both->policy, "any 1", sizeof(both->policy));
	for (int i = 0; i < b->nmembers; i++)
	{
		if (find_member(both, b->members[i].node) >= 0)
			continue;
		if (both->nmembers == ELECTOR_MEMBERS_MAX)
			return false;
		both->members[both->nmembers++] = b->members[i];
	}
	return true;
}

static void
begin_change(const ElectorDurability *before, const ElectorCommitRule *next, bool less,
			 ElectorDurability *record)
{
	if (before->present)
		elector_rule_copy(&record->rule, &before->rule);
	else
		elector_copy(record->rule.policy, "async", sizeof(record->rule.policy));
	elector_copy(record->node, before->node, sizeof(record->node));
	record->term = before->term;
	record->present = true;
	record->changing = ELECTOR_RULE(TWO_PHASES);
	record->degraded = less;
	elector_rule_copy(record->changing ? &record->next : &record->rule, next);
}

/*
 * The followers that the next rule needs have gone before it was in force.  Then on to
 * what is wanted now, if there are followers for that; and what was acknowledged by either
 * of the two meanwhile stays covered.
 */
static bool
change_course(const ElectorView *view, const ElectorCommitRule *wanted, bool less,
			  ElectorDurability *record)
{
	const ElectorDurability *before = &view->durability;

	if (elector_rule_equal(wanted, &before->next) || acknowledged(view, &before->next, 0) ||
		!acknowledged(view, wanted, 0))
		return false;
	record->present = record->changing = true;
	record->degraded = less;
	elector_rule_copy(&record->next, wanted);
	if (elector_rule_equal(wanted, &before->rule))
		elector_rule_copy(&record->rule, &before->next);
	else if (!cover_both(&before->rule, &before->next, &record->rule))
		return false;
	return true;
}

/* The next rule is recorded, and loaded. */
static ElectorPlan
finish_change(const ElectorView *view, const ElectorCommitRule *wanted, bool less,
			  ElectorDurability *record)
{
	const ElectorDurability *before = &view->durability;

	/* S6: the old rule stays until the next one has all of its commits. */
	if (acknowledged(view, &before->next, view->names_barrier) ||
		!ELECTOR_RULE(FLUSHED_BEFORE_DROPPING))
	{
		record->present = true;
		record->degraded = before->degraded;
		elector_rule_copy(&record->rule, &before->next);
		elector_copy(record->node, view->node, sizeof(record->node));
		record->term = view->leader.term;
		return elector_plan(view, ELECTOR_CHANGE_RULE, ELECTOR_BECAUSE_DURABILITY);
	}
	if (change_course(view, wanted, less, record))
		return elector_plan(view, ELECTOR_CHANGE_RULE, ELECTOR_BECAUSE_DURABILITY);
	return elector_plan_wait(view, ELECTOR_BECAUSE_DURABILITY,
							 elector_look_again(view, view->names_since));
}

ElectorPlan
elector_durability_plan(const ElectorView *view, ElectorDurability *record)
{
	const ElectorDurability *before = &view->durability;
	char		names[ELECTOR_NAMES_SIZE];
	ElectorCommitRule wanted;
	bool		less;

	/* First what is on record, whatever comes next. */
	elector_durability_names(view, names, sizeof(names));
	if (strcmp(names, view->names) != 0)
		return elector_plan(view, ELECTOR_SET_NAMES, ELECTOR_BECAUSE_DURABILITY);
	if (!before->present && elector_policy_is_async(wanted_policy(view)))
		return elector_plan_wait(view, ELECTOR_BECAUSE_LEADING, 0);

	less = choose_rule(view, &wanted);
	if (before->changing)
		return finish_change(view, &wanted, less, record);
	if (elector_rule_equal(&wanted, &before->rule))
	{
		if (!before->present || before->degraded == less)
			return elector_plan_wait(view, ELECTOR_BECAUSE_LEADING, 0);
		record->present = true;
		record->degraded = less;
		elector_rule_copy(&record->rule, &before->rule);
		elector_copy(record->node, before->node, sizeof(record->node));
		record->term = before->term;
		return elector_plan(view, ELECTOR_CHANGE_RULE, ELECTOR_BECAUSE_DURABILITY);
	}

	/*
	 * A rule that nobody could satisfy is not begun with; nor is one of other members
	 * that cannot be satisfied now.
	 */
	if ((!less && !elector_rule_names(&wanted, view->node, names, sizeof(names))) ||
		(strcmp(wanted.policy, before->rule.policy) == 0 && !acknowledged(view, &wanted, 0)))
		return elector_plan_wait(view, ELECTOR_BECAUSE_LEADING, 0);
	begin_change(before, &wanted, less, record);
	return elector_plan(view, ELECTOR_CHANGE_RULE, ELECTOR_BECAUSE_DURABILITY);
}
