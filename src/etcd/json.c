/*
 * json.c
 *	  The records of src/core/records.h as the JSON values of etcd's keys.
 *
 * One table a record: the field's name in JSON, its type, its place in the
 * struct, and what reading insists on.  Writing writes every field, so that a
 * value can be read by people.  Only the lists of `term`, and what its fields
 * mean together, are plain C.
 *
 * The one trap: a key's value may have been written by another version, or by
 * hand.  A field that decides something must be required and, where zero means
 * nothing, must not be zero; or a value that was only half understood becomes a
 * fact.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fields.h"
#include "json.h"
#include "value.h"

static const ElectorField member_fields[] = {
	ELECTOR_FIELD(ElectorMember, conninfo, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorMember, zone, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorMember, priority, ELECTOR_FIELD_INT32, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorMember, candidate, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorMember, durability, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorMember, directory, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorMember, version, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField alive_fields[] = {
	ELECTOR_FIELD(ElectorAlive, instance, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorAlive, misses, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField leader_fields[] = {
	ELECTOR_FIELD(ElectorLeader, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorLeader, instance, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorLeader, term, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorLeader, conninfo, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField election_fields[] = {
	ELECTOR_FIELD(ElectorElection, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorElection, instance, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorElection, purpose, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorElection, term, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField term_fields[] = {
	ELECTOR_FIELD(ElectorTerm, term, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorTerm, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorTerm, instance, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorTerm, lease, ELECTOR_FIELD_INT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorTerm, etcd, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorTerm, timeline, ELECTOR_FIELD_UINT32, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorTerm, begun, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorTerm, lsn, ELECTOR_FIELD_LSN, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorTerm, opened, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorTerm, opened_term, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorTerm, opened_node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorTerm, opened_at, ELECTOR_FIELD_INT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorTerm, opened_timeline, ELECTOR_FIELD_UINT32, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_RENAMED_FIELD(ElectorTerm, opened_from.timeline, "opened_from_timeline",
						  ELECTOR_FIELD_UINT32, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_RENAMED_FIELD(ElectorTerm, opened_from.lsn, "opened_from_lsn",
						  ELECTOR_FIELD_LSN, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorTerm, automatic, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorTerm, released, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_REQUIRED),
	ELECTOR_RENAMED_FIELD(ElectorTerm, released_at.timeline, "released_timeline",
						  ELECTOR_FIELD_UINT32, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_RENAMED_FIELD(ElectorTerm, released_at.lsn, "released_lsn",
						  ELECTOR_FIELD_LSN, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorTerm, heir, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorTerm, stopping_ms, ELECTOR_FIELD_MILLISECONDS, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField ancestor_fields[] = {
	ELECTOR_FIELD(ElectorAncestor, timeline, ELECTOR_FIELD_UINT32, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorAncestor, lsn, ELECTOR_FIELD_LSN, ELECTOR_FIELD_NONZERO),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField history_fields[] = {
	ELECTOR_FIELD(ElectorHistory, term, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorHistory, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorHistory, elector, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, timeline, ELECTOR_FIELD_UINT32, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorHistory, lsn, ELECTOR_FIELD_LSN, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, reason, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, revoked, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, note, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, began_at, ELECTOR_FIELD_INT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, opened_at, ELECTOR_FIELD_INT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, blocked, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, blocked_at, ELECTOR_FIELD_INT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, blocked_until, ELECTOR_FIELD_INT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, notice_ms, ELECTOR_FIELD_MILLISECONDS, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, lock_ms, ELECTOR_FIELD_MILLISECONDS, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, revoke_ms, ELECTOR_FIELD_MILLISECONDS, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, choose_ms, ELECTOR_FIELD_MILLISECONDS, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, establish_ms, ELECTOR_FIELD_MILLISECONDS, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, promote_ms, ELECTOR_FIELD_MILLISECONDS, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorHistory, open_ms, ELECTOR_FIELD_MILLISECONDS, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField request_fields[] = {
	ELECTOR_FIELD(ElectorRequest, target, ELECTOR_FIELD_STRING, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorRequest, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorRequest, id, ELECTOR_FIELD_INT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorRequest, term, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorRequest, at, ELECTOR_FIELD_INT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorRequest, failover, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorRequest, full, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorRequest, refused, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField commit_member_fields[] = {
	ELECTOR_FIELD(ElectorCommitMember, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorCommitMember, zone, ELECTOR_FIELD_STRING, ELECTOR_FIELD_REQUIRED),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField commit_rule_fields[] = {
	ELECTOR_FIELD(ElectorCommitRule, policy, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField durability_fields[] = {
	ELECTOR_FIELD(ElectorDurability, changing, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorDurability, degraded, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorDurability, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorDurability, term, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField failsafe_member_fields[] = {
	ELECTOR_FIELD(ElectorFailsafeMember, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorFailsafeMember, directory, ELECTOR_FIELD_STRING, ELECTOR_FIELD_NONZERO),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField hold_fields[] = {
	ELECTOR_FIELD(ElectorLeaderHold, id, ELECTOR_FIELD_INT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorLeaderHold, term, ELECTOR_FIELD_UINT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_FIELD(ElectorLeaderHold, node, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorLeaderHold, reason, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorLeaderHold, until, ELECTOR_FIELD_INT64, ELECTOR_FIELD_NONZERO),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField settings_fields[] = {
	ELECTOR_FIELD(ElectorClusterSettings, paused, ELECTOR_FIELD_BOOL, ELECTOR_FIELD_REQUIRED),
	ELECTOR_FIELD(ElectorClusterSettings, paused_by, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorClusterSettings, pause_reason, ELECTOR_FIELD_STRING, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_FIELD(ElectorClusterSettings, paused_at, ELECTOR_FIELD_INT64, ELECTOR_FIELD_OPTIONAL),
	ELECTOR_END_OF_FIELDS
};

/* ----------
 * Writing
 * ----------
 */

static bool
write_ancestors(cJSON *object, const ElectorTerm *term)
{
	cJSON	   *array = cJSON_AddArrayToObject(object, "ancestors");

	if (array == NULL)
		return false;
	for (int i = 0; i < term->nancestors; i++)
	{
		cJSON	   *ancestor = elector_fields_write(ancestor_fields, &term->ancestors[i]);

		if (ancestor == NULL)
			return false;
		cJSON_AddItemToArray(array, ancestor);
	}
	return true;
}

char	   *
elector_member_to_json(const ElectorMember *member)
{
	return elector_fields_print(elector_fields_write(member_fields, member));
}

char	   *
elector_alive_to_json(const ElectorAlive *alive)
{
	return elector_fields_print(elector_fields_write(alive_fields, alive));
}

char	   *
elector_leader_to_json(const ElectorLeader *leader)
{
	return elector_fields_print(elector_fields_write(leader_fields, leader));
}

char	   *
elector_election_to_json(const ElectorElection *election)
{
	return elector_fields_print(elector_fields_write(election_fields, election));
}

char	   *
elector_term_to_json(const ElectorTerm *term)
{
	cJSON	   *object = elector_fields_write(term_fields, term);

	if (object == NULL ||
		!write_ancestors(object, term))
	{
		cJSON_Delete(object);
		return NULL;
	}
	return elector_fields_print(object);
}

char	   *
elector_history_to_json(const ElectorHistory *history)
{
	return elector_fields_print(elector_fields_write(history_fields, history));
}

char	   *
elector_request_to_json(const ElectorRequest *request)
{
	return elector_fields_print(elector_fields_write(request_fields, request));
}

static bool
write_rule(cJSON *object, const char *name, const ElectorCommitRule *rule)
{
	cJSON	   *value = elector_fields_write(commit_rule_fields, rule);
	cJSON	   *array;

	if (value == NULL)
		return false;
	cJSON_AddItemToObject(object, name, value);
	array = cJSON_AddArrayToObject(value, "members");
	for (int i = 0; i < rule->nmembers; i++)
	{
		cJSON	   *member = elector_fields_write(commit_member_fields, &rule->members[i]);

		if (array == NULL || member == NULL)
			return false;
		cJSON_AddItemToArray(array, member);
	}
	return array != NULL;
}

char	   *
elector_durability_to_json(const ElectorDurability *durability)
{
	cJSON	   *object = elector_fields_write(durability_fields, durability);

	if (object == NULL || !write_rule(object, "rule", &durability->rule) ||
		(durability->changing && !write_rule(object, "next", &durability->next)))
	{
		cJSON_Delete(object);
		return NULL;
	}
	return elector_fields_print(object);
}

char	   *
elector_failsafe_to_json(const ElectorFailsafe *failsafe)
{
	cJSON	   *object = cJSON_CreateObject();
	cJSON	   *array = object == NULL ? NULL : cJSON_AddArrayToObject(object, "members");

	for (int i = 0; i < failsafe->nmembers && array != NULL; i++)
	{
		cJSON	   *member = elector_fields_write(failsafe_member_fields, &failsafe->members[i]);

		if (member == NULL)
		{
			cJSON_Delete(object);
			return NULL;
		}
		cJSON_AddItemToArray(array, member);
	}
	if (array == NULL)
	{
		cJSON_Delete(object);
		return NULL;
	}
	return elector_fields_print(object);
}

char	   *
elector_settings_to_json(const ElectorClusterSettings *settings)
{
	cJSON	   *object = elector_fields_write(settings_fields, settings);
	cJSON	   *array = object == NULL ? NULL : cJSON_AddArrayToObject(object, "holds");

	for (int i = 0; i < settings->nholds && array != NULL; i++)
	{
		cJSON	   *hold = elector_fields_write(hold_fields, &settings->holds[i]);

		if (hold == NULL)
		{
			cJSON_Delete(object);
			return NULL;
		}
		cJSON_AddItemToArray(array, hold);
	}
	if (array == NULL)
	{
		cJSON_Delete(object);
		return NULL;
	}
	return elector_fields_print(object);
}

/* ----------
 * Reading
 * ----------
 */

static bool
read_ancestors(const cJSON *object, ElectorTerm *term)
{
	const cJSON *array = elector_value_get(object, "ancestors");
	const cJSON *value;

	if (array != NULL && !cJSON_IsArray(array))
		return false;
	cJSON_ArrayForEach(value, array)
	{
		if (term->nancestors == ELECTOR_ANCESTORS_MAX ||
			!elector_fields_read(value, ancestor_fields, &term->ancestors[term->nancestors]))
			return false;
		term->nancestors++;
	}
	return true;
}

bool
elector_member_from_json(const char *json, ElectorMember *member)
{
	return member->present = elector_fields_parse(json, member_fields, member, sizeof(*member));
}

bool
elector_alive_from_json(const char *json, ElectorAlive *alive)
{
	return alive->present = elector_fields_parse(json, alive_fields, alive, sizeof(*alive));
}

bool
elector_leader_from_json(const char *json, ElectorLeader *leader)
{
	return leader->present = elector_fields_parse(json, leader_fields, leader, sizeof(*leader));
}

bool
elector_election_from_json(const char *json, ElectorElection *election)
{
	return election->present = elector_fields_parse(json, election_fields, election,
													sizeof(*election));
}

bool
elector_term_from_json(const char *json, ElectorTerm *term)
{
	cJSON	   *object = elector_value_parse(json, strlen(json));
	bool		valid;

	memset(term, 0, sizeof(*term));
	valid = elector_fields_read(object, term_fields, term) &&
		read_ancestors(object, term) &&
		(!term->begun || term->lsn != 0) &&
		(term->opened_term == 0 || term->opened_node[0] != '\0');
	cJSON_Delete(object);
	if (!valid)
		memset(term, 0, sizeof(*term));
	term->present = valid;
	return valid;
}

bool
elector_history_from_json(const char *json, ElectorHistory *history)
{
	return history->present = elector_fields_parse(json, history_fields, history,
												   sizeof(*history));
}

bool
elector_request_from_json(const char *json, ElectorRequest *request)
{
	return request->present = elector_fields_parse(json, request_fields, request,
												   sizeof(*request));
}

static bool
read_rule(const cJSON *value, ElectorCommitRule *rule)
{
	const cJSON *array = elector_value_get(value, "members");
	const cJSON *member;

	if (!elector_fields_read(value, commit_rule_fields, rule) || !cJSON_IsArray(array))
		return false;
	cJSON_ArrayForEach(member, array)
	{
		if (rule->nmembers == ELECTOR_MEMBERS_MAX ||
			!elector_fields_read(member, commit_member_fields, &rule->members[rule->nmembers]))
			return false;
		rule->nmembers++;
	}
	return true;
}

bool
elector_durability_from_json(const char *json, ElectorDurability *durability)
{
	cJSON	   *object = elector_value_parse(json, strlen(json));
	bool		valid;

	memset(durability, 0, sizeof(*durability));
	valid = elector_fields_read(object, durability_fields, durability) &&
		read_rule(elector_value_get(object, "rule"), &durability->rule) &&
		(!durability->changing || read_rule(elector_value_get(object, "next"), &durability->next));
	cJSON_Delete(object);
	if (!valid)
		memset(durability, 0, sizeof(*durability));
	return durability->present = valid;
}

bool
elector_failsafe_from_json(const char *json, ElectorFailsafe *failsafe)
{
	cJSON	   *object = elector_value_parse(json, strlen(json));
	const cJSON *array = elector_value_get(object, "members");
	const cJSON *value;
	bool		valid = cJSON_IsArray(array);

	memset(failsafe, 0, sizeof(*failsafe));
	cJSON_ArrayForEach(value, array)
	{
		if (failsafe->nmembers == ELECTOR_MEMBERS_MAX ||
			!elector_fields_read(value, failsafe_member_fields,
								 &failsafe->members[failsafe->nmembers]))
		{
			valid = false;
			break;
		}
		failsafe->nmembers++;
	}
	cJSON_Delete(object);
	if (!valid)
		memset(failsafe, 0, sizeof(*failsafe));
	return failsafe->present = valid;
}

bool
elector_settings_from_json(const char *json, ElectorClusterSettings *settings)
{
	cJSON	   *object = elector_value_parse(json, strlen(json));
	const cJSON *array = elector_value_get(object, "holds");
	const cJSON *value;
	bool		valid;

	memset(settings, 0, sizeof(*settings));
	valid = elector_fields_read(object, settings_fields, settings);
	cJSON_ArrayForEach(value, array)
	{
		if (settings->nholds == ELECTOR_HOLDS_MAX ||
			!elector_fields_read(value, hold_fields, &settings->holds[settings->nholds]))
		{
			valid = false;
			break;
		}
		settings->nholds++;
	}
	cJSON_Delete(object);
	if (!valid)
		memset(settings, 0, sizeof(*settings));
	return settings->present = valid;
}
