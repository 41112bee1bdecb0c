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

#include "json.h"
#include "value.h"

typedef enum FieldType
{
	FIELD_STRING,				/* char[size] */
	FIELD_BOOL,					/* bool */
	FIELD_INT32,				/* int32_t, any */
	FIELD_MILLISECONDS,			/* int32_t, -1 or more */
	FIELD_UINT32,				/* uint32_t */
	FIELD_INT64,				/* int64_t, not negative; as string */
	FIELD_UINT64,				/* uint64_t; as string */
	FIELD_LSN					/* ElectorLsn; as string 'X/X' */
} FieldType;

typedef enum FieldRule
{
	OPTIONAL,					/* zero if it is not there */
	REQUIRED,					/* must be there */
	NONZERO						/* must be there, and not be zero or empty */
} FieldRule;

typedef struct Field
{
	const char *name;
	FieldType	type;
	size_t		offset;
	size_t		size;
	FieldRule	rule;
} Field;

#define FIELD(record, member, type, rule) \
	{#member, type, offsetof(record, member), sizeof(((record *) NULL)->member), rule}
#define RENAMED_FIELD(record, member, name, type, rule) \
	{name, type, offsetof(record, member), sizeof(((record *) NULL)->member), rule}
#define END_OF_FIELDS	{NULL, FIELD_BOOL, 0, 0, OPTIONAL}

static const Field member_fields[] = {
	FIELD(ElectorMember, conninfo, FIELD_STRING, NONZERO),
	FIELD(ElectorMember, zone, FIELD_STRING, OPTIONAL),
	FIELD(ElectorMember, priority, FIELD_INT32, REQUIRED),
	FIELD(ElectorMember, candidate, FIELD_BOOL, REQUIRED),
	FIELD(ElectorMember, version, FIELD_STRING, OPTIONAL),
	END_OF_FIELDS
};

static const Field alive_fields[] = {
	FIELD(ElectorAlive, instance, FIELD_STRING, NONZERO),
	END_OF_FIELDS
};

static const Field leader_fields[] = {
	FIELD(ElectorLeader, node, FIELD_STRING, NONZERO),
	FIELD(ElectorLeader, instance, FIELD_STRING, NONZERO),
	FIELD(ElectorLeader, term, FIELD_UINT64, NONZERO),
	FIELD(ElectorLeader, conninfo, FIELD_STRING, NONZERO),
	END_OF_FIELDS
};

static const Field election_fields[] = {
	FIELD(ElectorElection, node, FIELD_STRING, NONZERO),
	FIELD(ElectorElection, instance, FIELD_STRING, NONZERO),
	FIELD(ElectorElection, purpose, FIELD_STRING, NONZERO),
	FIELD(ElectorElection, term, FIELD_UINT64, NONZERO),
	END_OF_FIELDS
};

static const Field term_fields[] = {
	FIELD(ElectorTerm, term, FIELD_UINT64, NONZERO),
	FIELD(ElectorTerm, node, FIELD_STRING, NONZERO),
	FIELD(ElectorTerm, instance, FIELD_STRING, NONZERO),
	FIELD(ElectorTerm, lease, FIELD_INT64, NONZERO),
	FIELD(ElectorTerm, timeline, FIELD_UINT32, NONZERO),
	FIELD(ElectorTerm, begun, FIELD_BOOL, REQUIRED),
	FIELD(ElectorTerm, lsn, FIELD_LSN, OPTIONAL),
	FIELD(ElectorTerm, opened, FIELD_BOOL, REQUIRED),
	FIELD(ElectorTerm, opened_term, FIELD_UINT64, OPTIONAL),
	FIELD(ElectorTerm, opened_at, FIELD_INT64, OPTIONAL),
	FIELD(ElectorTerm, automatic, FIELD_BOOL, REQUIRED),
	FIELD(ElectorTerm, released, FIELD_BOOL, REQUIRED),
	RENAMED_FIELD(ElectorTerm, released_at.timeline, "released_timeline",
				  FIELD_UINT32, OPTIONAL),
	RENAMED_FIELD(ElectorTerm, released_at.lsn, "released_lsn",
				  FIELD_LSN, OPTIONAL),
	FIELD(ElectorTerm, heir, FIELD_STRING, OPTIONAL),
	END_OF_FIELDS
};

static const Field ancestor_fields[] = {
	FIELD(ElectorAncestor, timeline, FIELD_UINT32, NONZERO),
	FIELD(ElectorAncestor, lsn, FIELD_LSN, NONZERO),
	END_OF_FIELDS
};

static const Field history_fields[] = {
	FIELD(ElectorHistory, term, FIELD_UINT64, NONZERO),
	FIELD(ElectorHistory, node, FIELD_STRING, NONZERO),
	FIELD(ElectorHistory, elector, FIELD_STRING, OPTIONAL),
	FIELD(ElectorHistory, timeline, FIELD_UINT32, NONZERO),
	FIELD(ElectorHistory, lsn, FIELD_LSN, OPTIONAL),
	FIELD(ElectorHistory, reason, FIELD_STRING, OPTIONAL),
	FIELD(ElectorHistory, revoked, FIELD_STRING, OPTIONAL),
	FIELD(ElectorHistory, note, FIELD_STRING, OPTIONAL),
	FIELD(ElectorHistory, began_at, FIELD_INT64, OPTIONAL),
	FIELD(ElectorHistory, opened_at, FIELD_INT64, OPTIONAL),
	FIELD(ElectorHistory, lock_ms, FIELD_MILLISECONDS, OPTIONAL),
	FIELD(ElectorHistory, revoke_ms, FIELD_MILLISECONDS, OPTIONAL),
	FIELD(ElectorHistory, establish_ms, FIELD_MILLISECONDS, OPTIONAL),
	FIELD(ElectorHistory, promote_ms, FIELD_MILLISECONDS, OPTIONAL),
	FIELD(ElectorHistory, open_ms, FIELD_MILLISECONDS, OPTIONAL),
	END_OF_FIELDS
};

static const Field request_fields[] = {
	FIELD(ElectorRequest, target, FIELD_STRING, REQUIRED),
	FIELD(ElectorRequest, node, FIELD_STRING, NONZERO),
	FIELD(ElectorRequest, term, FIELD_UINT64, NONZERO),
	END_OF_FIELDS
};

/* ----------
 * Writing
 * ----------
 */

static bool
write_field(cJSON *object, const Field *field, const void *place)
{
	char		text[32];

	switch (field->type)
	{
		case FIELD_STRING:
			return cJSON_AddStringToObject(object, field->name, place) != NULL;
		case FIELD_BOOL:
			return cJSON_AddBoolToObject(object, field->name,
										 *(const bool *) place) != NULL;
		case FIELD_INT32:
		case FIELD_MILLISECONDS:
			return cJSON_AddNumberToObject(object, field->name,
										   *(const int32_t *) place) != NULL;
		case FIELD_UINT32:
			return cJSON_AddNumberToObject(object, field->name,
										   *(const uint32_t *) place) != NULL;
		case FIELD_INT64:
			snprintf(text, sizeof(text), "%" PRId64, *(const int64_t *) place);
			return cJSON_AddStringToObject(object, field->name, text) != NULL;
		case FIELD_UINT64:
			snprintf(text, sizeof(text), "%" PRIu64, *(const uint64_t *) place);
			return cJSON_AddStringToObject(object, field->name, text) != NULL;
		case FIELD_LSN:
			snprintf(text, sizeof(text), "%X/%X",
					 (unsigned int) (*(const ElectorLsn *) place >> 32),
					 (unsigned int) (*(const ElectorLsn *) place & UINT32_MAX));
			return cJSON_AddStringToObject(object, field->name, text) != NULL;
	}
	return false;
}

/* A new object, or NULL if memory is out. */
static cJSON *
write_object(const Field *fields, const void *record)
{
	cJSON	   *object = cJSON_CreateObject();

	if (object == NULL)
		return NULL;
	for (const Field *field = fields; field->name != NULL; field++)
	{
		if (!write_field(object, field, (const char *) record + field->offset))
		{
			cJSON_Delete(object);
			return NULL;
		}
	}
	return object;
}

/* cJSON allocates with malloc() unless told otherwise, and nobody tells it. */
static char *
print_and_delete(cJSON *object)
{
	char	   *text = object == NULL ? NULL : cJSON_PrintUnformatted(object);

	cJSON_Delete(object);
	return text;
}

static bool
write_ancestors(cJSON *object, const ElectorTerm *term)
{
	cJSON	   *array = cJSON_AddArrayToObject(object, "ancestors");

	if (array == NULL)
		return false;
	for (int i = 0; i < term->nancestors; i++)
	{
		cJSON	   *ancestor = write_object(ancestor_fields, &term->ancestors[i]);

		if (ancestor == NULL)
			return false;
		cJSON_AddItemToArray(array, ancestor);
	}
	return true;
}

static bool
write_leaders(cJSON *object, const ElectorTerm *term)
{
	cJSON	   *array = cJSON_AddArrayToObject(object, "leaders");

	if (array == NULL)
		return false;
	for (int i = 0; i < term->nleaders; i++)
	{
		cJSON	   *leader = cJSON_CreateString(term->leaders[i]);

		if (leader == NULL)
			return false;
		cJSON_AddItemToArray(array, leader);
	}
	return true;
}

char *
elector_member_to_json(const ElectorMember *member)
{
	return print_and_delete(write_object(member_fields, member));
}

char *
elector_alive_to_json(const ElectorAlive *alive)
{
	return print_and_delete(write_object(alive_fields, alive));
}

char *
elector_leader_to_json(const ElectorLeader *leader)
{
	return print_and_delete(write_object(leader_fields, leader));
}

char *
elector_election_to_json(const ElectorElection *election)
{
	return print_and_delete(write_object(election_fields, election));
}

char *
elector_term_to_json(const ElectorTerm *term)
{
	cJSON	   *object = write_object(term_fields, term);

	if (object == NULL ||
		!write_ancestors(object, term) || !write_leaders(object, term))
	{
		cJSON_Delete(object);
		return NULL;
	}
	return print_and_delete(object);
}

char *
elector_history_to_json(const ElectorHistory *history)
{
	return print_and_delete(write_object(history_fields, history));
}

char *
elector_request_to_json(const ElectorRequest *request)
{
	return print_and_delete(write_object(request_fields, request));
}

/* ----------
 * Reading
 * ----------
 */

/* One to eight hexadecimal digits; the end is where they end. */
static bool
parse_lsn_half(const char *text, uint32_t *half, const char **end)
{
	size_t		length = strspn(text, "0123456789ABCDEFabcdef");

	if (length < 1 || length > 8 ||
		sscanf(text, "%" SCNx32, half) != 1)
		return false;
	*end = text + length;
	return true;
}

static bool
parse_lsn(const char *text, ElectorLsn *lsn)
{
	uint32_t	high;
	uint32_t	low;

	if (!parse_lsn_half(text, &high, &text) || *text != '/' ||
		!parse_lsn_half(text + 1, &low, &text) || *text != '\0')
		return false;
	*lsn = (ElectorLsn) high << 32 | low;
	return true;
}

static bool
read_string(const cJSON *value, char *place, size_t size)
{
	size_t		length;

	if (!cJSON_IsString(value))
		return false;
	length = strlen(value->valuestring);
	if (length >= size)
		return false;
	memcpy(place, value->valuestring, length + 1);
	return true;
}

static bool
read_value(const cJSON *value, const Field *field, void *place)
{
	int64_t		number;

	switch (field->type)
	{
		case FIELD_STRING:
			return read_string(value, place, field->size);
		case FIELD_BOOL:
			*(bool *) place = cJSON_IsTrue(value);
			return cJSON_IsBool(value);
		case FIELD_INT32:
			if (!elector_value_int64(value, INT32_MIN, INT32_MAX, &number))
				return false;
			*(int32_t *) place = (int32_t) number;
			return true;
		case FIELD_MILLISECONDS:
			if (!elector_value_int64(value, -1, INT32_MAX, &number))
				return false;
			*(int32_t *) place = (int32_t) number;
			return true;
		case FIELD_UINT32:
			if (!elector_value_int64(value, 0, UINT32_MAX, &number))
				return false;
			*(uint32_t *) place = (uint32_t) number;
			return true;
		case FIELD_INT64:
			return elector_value_int64(value, 0, INT64_MAX, place);
		case FIELD_UINT64:
			return elector_value_uint64(value, place);
		case FIELD_LSN:
			return cJSON_IsString(value) && parse_lsn(value->valuestring, place);
	}
	return false;
}

static bool
is_zero(const Field *field, const char *place)
{
	size_t		size = field->type == FIELD_STRING ? 1 : field->size;

	for (size_t i = 0; i < size; i++)
	{
		if (place[i] != 0)
			return false;
	}
	return true;
}

/* The record is zeroed, and remains half filled if this fails. */
static bool
read_object(const cJSON *object, const Field *fields, void *record)
{
	if (!cJSON_IsObject(object))
		return false;
	for (const Field *field = fields; field->name != NULL; field++)
	{
		const cJSON *value = elector_value_get(object, field->name);
		char	   *place = (char *) record + field->offset;

		if (value != NULL && !read_value(value, field, place))
			return false;
		if (value == NULL && field->rule != OPTIONAL)
			return false;
		if (field->rule == NONZERO && is_zero(field, place))
			return false;
	}
	return true;
}

static bool
read_record(const char *json, const Field *fields, void *record, size_t size)
{
	cJSON	   *object = elector_value_parse(json, strlen(json));
	bool		valid;

	memset(record, 0, size);
	valid = read_object(object, fields, record);
	cJSON_Delete(object);
	if (!valid)
		memset(record, 0, size);
	return valid;
}

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
			!read_object(value, ancestor_fields, &term->ancestors[term->nancestors]))
			return false;
		term->nancestors++;
	}
	return true;
}

/* Who must be revoked (S7): required, as none would mean nobody. */
static bool
read_leaders(const cJSON *object, ElectorTerm *term)
{
	const cJSON *array = elector_value_get(object, "leaders");
	const cJSON *value;

	if (!cJSON_IsArray(array))
		return false;
	cJSON_ArrayForEach(value, array)
	{
		if (term->nleaders == ELECTOR_MEMBERS_MAX ||
			!read_string(value, term->leaders[term->nleaders], ELECTOR_NAME_SIZE) ||
			term->leaders[term->nleaders][0] == '\0')
			return false;
		term->nleaders++;
	}
	return true;
}

bool
elector_member_from_json(const char *json, ElectorMember *member)
{
	return member->present = read_record(json, member_fields, member, sizeof(*member));
}

bool
elector_alive_from_json(const char *json, ElectorAlive *alive)
{
	return alive->present = read_record(json, alive_fields, alive, sizeof(*alive));
}

bool
elector_leader_from_json(const char *json, ElectorLeader *leader)
{
	return leader->present = read_record(json, leader_fields, leader, sizeof(*leader));
}

bool
elector_election_from_json(const char *json, ElectorElection *election)
{
	return election->present = read_record(json, election_fields, election,
										   sizeof(*election));
}

bool
elector_term_from_json(const char *json, ElectorTerm *term)
{
	cJSON	   *object = elector_value_parse(json, strlen(json));
	bool		valid;

	memset(term, 0, sizeof(*term));
	valid = read_object(object, term_fields, term) &&
		read_ancestors(object, term) &&
		read_leaders(object, term) &&
		(!term->begun || term->lsn != 0);
	cJSON_Delete(object);
	if (!valid)
		memset(term, 0, sizeof(*term));
	term->present = valid;
	return valid;
}

bool
elector_history_from_json(const char *json, ElectorHistory *history)
{
	return history->present = read_record(json, history_fields, history,
										  sizeof(*history));
}

bool
elector_request_from_json(const char *json, ElectorRequest *request)
{
	return request->present = read_record(json, request_fields, request,
										  sizeof(*request));
}
