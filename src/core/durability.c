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
#include <stdlib.h>
#include <string.h>

#define POLICIES_MAX 16

/* A follower that is this close to the end of WAL has caught up. */
#define CAUGHT_UP ((ElectorLsn) 1024 * 1024)

/* How soon it is looked again what followers have flushed: no event tells. */
#define LOOK_SOONEST ((ElectorTime) 2000)
#define LOOK_LATEST ((ElectorTime) 300000)

/* --- policies --- */

static bool
async_valid(const char *arguments, const char **message)
{
	if (arguments[0] == '\0')
		return true;
	*message = "\"async\" takes no number";
	return false;
}

static bool
async_suffices(const char *arguments, const ElectorCommitRule *rule, int leader,
			   const bool *acknowledged)
{
	return true;
}

static int
async_quorum(const char *arguments, const ElectorCommitRule *rule, int leader, bool *marked)
{
	return 0;
}

static bool
number_valid(const char *arguments, const char **message)
{
	char	   *end;
	long		number = strtol(arguments, &end, 10);

	if (arguments[0] >= '0' && arguments[0] <= '9' && *end == '\0' &&
		number >= 1 && number < ELECTOR_MEMBERS_MAX)
		return true;
	*message = "behind the policy's name belongs a number from 1 to 31";
	return false;
}

static int
count(const bool *set, int n)
{
	int			sum = 0;

	for (int i = 0; i < n; i++)
		sum += set[i];
	return sum;
}

static bool
any_suffices(const char *arguments, const ElectorCommitRule *rule, int leader,
			 const bool *acknowledged)
{
	return count(acknowledged, rule->nmembers) >= atoi(arguments);
}

static int
any_quorum(const char *arguments, const ElectorCommitRule *rule, int leader, bool *marked)
{
	for (int i = 0; i < rule->nmembers; i++)
		marked[i] = i != leader;
	return count(marked, rule->nmembers) >= atoi(arguments) ? atoi(arguments) : 0;
}

/* Is member i the first of the set in its zone?  Where there is none, it is alone. */
static bool
is_first_of_zone(const ElectorCommitRule *rule, const bool *set, int i)
{
	for (int j = 0; j < i; j++)
	{
		if (set[j] && rule->members[i].zone[0] != '\0' &&
			strcmp(rule->members[i].zone, rule->members[j].zone) == 0)
			return false;
	}
	return set[i];
}

static bool
in_leaders_zone(const ElectorCommitRule *rule, int leader, int i)
{
	return leader >= 0 && rule->members[i].zone[0] != '\0' &&
		strcmp(rule->members[i].zone, rule->members[leader].zone) == 0;
}

static int
count_zones(const ElectorCommitRule *rule, int leader, const bool *set)
{
	int			zones = 0;

	for (int i = 0; i < rule->nmembers; i++)
	{
		if (!in_leaders_zone(rule, leader, i))
			zones += is_first_of_zone(rule, set, i);
	}
	return zones;
}

static bool
zones_suffices(const char *arguments, const ElectorCommitRule *rule, int leader,
			   const bool *acknowledged)
{
	return count_zones(rule, leader, acknowledged) >= atoi(arguments);
}

/*
 * PostgreSQL counts standbys, not zones.  So many that they cannot all be in fewer
 * zones: one more than there are in the biggest ones, one less than asked for.
 */
static int
zones_quorum(const char *arguments, const ElectorCommitRule *rule, int leader, bool *marked)
{
	int			sizes[ELECTOR_MEMBERS_MAX];
	int			zones = 0;
	int			quorum = 1;

	for (int i = 0; i < rule->nmembers; i++)
		marked[i] = i != leader && !in_leaders_zone(rule, leader, i);
	for (int i = 0; i < rule->nmembers; i++)
	{
		int			place = zones;
		int			size = 0;

		if (!is_first_of_zone(rule, marked, i))
			continue;
		for (int j = i; j < rule->nmembers; j++)
			size += marked[j] && (j == i || (rule->members[i].zone[0] != '\0' &&
											 strcmp(rule->members[i].zone, rule->members[j].zone) == 0));
		for (; place > 0 && sizes[place - 1] < size; place--)
			sizes[place] = sizes[place - 1];
		sizes[place] = size;
		zones++;
	}
	if (zones < atoi(arguments))
		return 0;
	for (int i = 0; i < atoi(arguments) - 1; i++)
		quorum += sizes[i];
	return quorum;
}

static ElectorPolicy policies[POLICIES_MAX] = {
	{"async", async_valid, async_suffices, async_quorum},
	{"any", number_valid, any_suffices, any_quorum},
	{"zones", number_valid, zones_suffices, zones_quorum}
};
static int	npolicies = 3;

/* The policy that the text begins with, and the words behind its name. */
static const ElectorPolicy *
find_policy(const char *text, const char **arguments)
{
	size_t		length = strcspn(text, " ");

	*arguments = text + length + strspn(text + length, " ");
	for (int i = 0; i < npolicies; i++)
	{
		if (strlen(policies[i].name) == length && strncmp(policies[i].name, text, length) == 0)
			return &policies[i];
	}
	return NULL;
}

bool
elector_policy_register(const ElectorPolicy *policy)
{
	const char *arguments;

	if (npolicies == POLICIES_MAX || !elector_name_valid(policy->name) ||
		find_policy(policy->name, &arguments) != NULL)
		return false;
	policies[npolicies++] = *policy;
	return true;
}

bool
elector_policy_valid(const char *text, const char **message)
{
	const char *arguments;
	const ElectorPolicy *policy = find_policy(text, &arguments);

	if (strlen(text) >= ELECTOR_NAME_SIZE)
		*message = "it is too long";
	else if (policy == NULL)
		*message = "there is no such policy; the library has \"async\", \"any N\" and \"zones N\"";
	else
		return policy->valid(arguments, message);
	return false;
}

bool
elector_policy_is_async(const char *text)
{
	return text[0] == '\0' || strcmp(text, "async") == 0;
}

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

	policy = find_policy(rule->policy, &arguments);
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
elector_rule_names(const ElectorCommitRule *rule, const char *leader, char *names, size_t size)
{
	const char *arguments;
	const ElectorPolicy *policy = find_policy(rule->policy, &arguments);
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

/* Are all commits acknowledged under `leader` with the candidate? */
static bool
revoked_under(const ElectorView *view, const ElectorCommitRule *rule, const char *leader,
			  int candidate, const char **missing)
{
	const ElectorPosition best = view->peers[candidate].answer.position;
	bool		absent[ELECTOR_MEMBERS_MAX];
	const char *first = "";

	for (int i = 0; i < rule->nmembers; i++)
		absent[i] = true;
	for (int i = 0; i < view->npeers; i++)
	{
		const ElectorPeerView *peer = &view->peers[i];
		int			member = find_member(rule, peer->node);
		bool		counts = peer->answer.kind == ELECTOR_ANSWER_FENCED && !peer->passed_over &&
		(peer->answer.counts || !ELECTOR_RULE(ANSWERS_COUNT)) &&
		(elector_position_compare(peer->answer.position, best) <= 0 ||
		 !ELECTOR_RULE(AHEAD_IS_ABSENT));

		/* Who led itself has all that it ever acknowledged. */
		if (counts && strcmp(peer->node, leader) == 0)
			return true;
		if (counts && member >= 0)
			absent[member] = false;
	}
	if (!suffices(rule, leader, absent, true))
		return true;
	for (int i = 0; i < rule->nmembers && first[0] == '\0'; i++)
	{
		if (absent[i] && strcmp(rule->members[i].node, leader) != 0)
			first = rule->members[i].node;
	}
	*missing = first;
	return false;
}

bool
elector_durability_revoked(const ElectorView *view, int candidate, const char **missing)
{
	const ElectorDurability *record = &view->durability;
	const ElectorTerm *term = &view->term;

	*missing = "";
	if (!record->present || term->opened_term == 0 || !ELECTOR_RULE(COMMITS_FOUND))
		return true;
	for (int i = 0; i < term->nleaders; i++)
	{
		if (!revoked_under(view, &record->rule, term->leaders[i], candidate, missing))
			return false;
		if (record->changing && ELECTOR_RULE(BOTH_RULES) &&
			!revoked_under(view, &record->next, term->leaders[i], candidate, missing))
			return false;
		if (!ELECTOR_RULE(ALL_LEADERS))
			break;
	}
	return true;
}

/* Neither rule asks for more than the leader's own word. */
static bool
is_async(const ElectorDurability *record)
{
	return !record->present || (elector_policy_is_async(record->rule.policy) &&
								!record->changing);
}

bool
elector_durability_may_lose(const ElectorView *view)
{
	return is_async(&view->durability);
}

/* Have those of the rule's members flushed so far that it takes? */
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

/* The longer it has lasted, the less often. */
ElectorTime
elector_look_again(const ElectorView *view, ElectorTime since)
{
	ElectorTime interval = (view->now - since) / 20;

	if (interval < LOOK_SOONEST)
		interval = LOOK_SOONEST;
	return view->now + (interval < LOOK_LATEST ? interval : LOOK_LATEST);
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
	if (view->policy_agreed || !view->durability.present)
		return view->policy;
	return newest_rule(&view->durability)->policy;
}

/*
 * The wanted policy with its members: those that follow, and those that are away for a
 * while.  One that has been away for long is left out, where the rest can do without it.
 */
static void
wanted_rule(const ElectorView *view, bool keep_absent, ElectorCommitRule *rule)
{
	const ElectorCommitRule *before = newest_rule(&view->durability);

	memset(rule, 0, sizeof(*rule));
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
	bool		present[ELECTOR_MEMBERS_MAX] = {false};

	wanted_rule(view, true, &rule);
	for (int i = 0; i < view->npeers; i++)
	{
		int			member = find_member(&rule, view->peers[i].node);

		if (member >= 0)
			present[member] = view->peers[i].flushed != 0;
	}
	return elector_rule_suffices(&rule, view->node, present);
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
		memset(rule, 0, sizeof(*rule));
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

ElectorPlan
elector_durability_plan(const ElectorView *view, ElectorDurability *record)
{
	const ElectorDurability *before = &view->durability;
	char		names[ELECTOR_NAMES_SIZE];
	ElectorCommitRule wanted;
	const ElectorCommitRule *in_force = newest_rule(before);
	bool		less;

	*record = *before;
	elector_durability_names(view, names, sizeof(names));

	/* First what is on record, whatever comes next. */
	if (strcmp(names, view->names) != 0)
		return elector_plan(view, ELECTOR_SET_NAMES, ELECTOR_BECAUSE_DURABILITY);
	if (!before->present && elector_policy_is_async(view->policy))
		return elector_plan_wait(view, ELECTOR_BECAUSE_LEADING, 0);
	less = choose_rule(view, &wanted);

	if (before->changing)
	{
		/* S6: the old rule stays until the next one has all of its commits. */
		if (acknowledged(view, &before->next, view->names_barrier) ||
			!ELECTOR_RULE(FLUSHED_BEFORE_DROPPING))
		{
			record->rule = before->next;
			record->changing = false;
			memset(&record->next, 0, sizeof(record->next));
			return elector_plan(view, ELECTOR_CHANGE_RULE, ELECTOR_BECAUSE_DURABILITY);
		}

		/* The followers it needs have gone: back, in the same way. */
		if (!elector_rule_equal(&wanted, &before->next) && elector_rule_equal(&wanted, &before->rule))
		{
			record->next = before->rule;
			record->rule = before->next;
			record->degraded = less;
			return elector_plan(view, ELECTOR_CHANGE_RULE, ELECTOR_BECAUSE_DURABILITY);
		}
		return elector_plan_wait(view, ELECTOR_BECAUSE_DURABILITY,
								 elector_look_again(view, view->names_since));
	}

	if (elector_rule_equal(&wanted, in_force))
	{
		if (!before->present || before->degraded == less)
			return elector_plan_wait(view, ELECTOR_BECAUSE_LEADING, 0);
		record->degraded = less;
		return elector_plan(view, ELECTOR_CHANGE_RULE, ELECTOR_BECAUSE_DURABILITY);
	}

	/* A rule that nobody could satisfy is not begun with. */
	if (!less && !elector_rule_names(&wanted, view->node, names, sizeof(names)))
		return elector_plan_wait(view, ELECTOR_BECAUSE_LEADING, 0);
	if (!before->present)
	{
		memset(&record->rule, 0, sizeof(record->rule));
		elector_copy(record->rule.policy, "async", sizeof(record->rule.policy));
	}
	record->present = true;
	record->changing = ELECTOR_RULE(TWO_PHASES);
	record->degraded = less;
	if (record->changing)
		record->next = wanted;
	else
		record->rule = wanted;
	return elector_plan(view, ELECTOR_CHANGE_RULE, ELECTOR_BECAUSE_DURABILITY);
}
