/*
 * each_zone.c
 *	  An example of a durability policy that another library brings: a copy in each of
 *	  two zones that are named, "each_zone east west".
 *
 * The leader's own zone has its copy by the leader itself.
 */
#include "postgres.h"

#include "fmgr.h"

#include "extension/pg_elector/policy.h"

PG_MODULE_MAGIC;

typedef struct Zones
{
	char		names[2][ELECTOR_NAME_SIZE];
} Zones;

static bool
read_zones(const char *arguments, Zones *zones)
{
	char		rest;

	return sscanf(arguments, "%63s %63s %c", zones->names[0], zones->names[1], &rest) == 2;
}

static bool
each_zone_valid(const char *arguments, const char **message)
{
	Zones		zones;

	if (read_zones(arguments, &zones) && strcmp(zones.names[0], zones.names[1]) != 0)
		return true;
	*message = "behind \"each_zone\" belong the names of two zones";
	return false;
}

static bool
is_in(const ElectorCommitRule *rule, int member, const char *zone)
{
	return member >= 0 && strcmp(rule->members[member].zone, zone) == 0;
}

static bool
each_zone_suffices(const char *arguments, const ElectorCommitRule *rule, int leader,
				   const bool *acknowledged)
{
	Zones		zones;

	if (!read_zones(arguments, &zones))
		return false;
	for (int z = 0; z < 2; z++)
	{
		bool		has_copy = is_in(rule, leader, zones.names[z]);

		for (int i = 0; i < rule->nmembers; i++)
			has_copy |= acknowledged[i] && is_in(rule, i, zones.names[z]);
		if (!has_copy)
			return false;
	}
	return true;
}

/* Of the zones that need another copy, one more than the bigger one has members. */
static int
each_zone_quorum(const char *arguments, const ElectorCommitRule *rule, int leader, bool *marked)
{
	Zones		zones;
	int			bigger = 0;
	int			needed = 0;

	if (!read_zones(arguments, &zones))
		return 0;
	for (int z = 0; z < 2; z++)
	{
		int			size = 0;

		if (is_in(rule, leader, zones.names[z]))
			continue;
		for (int i = 0; i < rule->nmembers; i++)
		{
			if (i != leader && is_in(rule, i, zones.names[z]))
			{
				marked[i] = true;
				size++;
			}
		}
		if (size == 0)
			return 0;
		bigger = Max(bigger, size);
		needed++;
	}
	return needed == 2 ? bigger + 1 : 1;
}

void		_PG_init(void);

void
_PG_init(void)
{
	static const ElectorPolicy policy = {
		"each_zone", each_zone_valid, each_zone_suffices, each_zone_quorum
	};

	if (!elector_policy_register(&policy))
		ereport(FATAL,
				(errmsg("could not register durability policy \"%s\"", policy.name)));
}
