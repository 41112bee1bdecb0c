/*
 * policy.c
 *	  Durability policies: the library's own, and those of others.
 *
 * A policy tells which sets of members suffice, and is told who leads.  What follows from
 * that is in durability.c.
 *
 * The trap: a policy that is not known here is one of a library that is missing on this
 * node.  Nobody can say what suffices for it; each caller has to fear the worst.
 */
#include "durability.h"
#include "name.h"

#include <stdlib.h>
#include <string.h>

#define POLICIES_MAX 16

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

const ElectorPolicy *
elector_policy_find(const char *text, const char **arguments)
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
		elector_policy_find(policy->name, &arguments) != NULL)
		return false;
	policies[npolicies++] = *policy;
	return true;
}

bool
elector_policy_valid(const char *text, const char **message)
{
	const char *arguments;
	const ElectorPolicy *policy = elector_policy_find(text, &arguments);

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
