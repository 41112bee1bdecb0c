/*
 * messages.c
 *	  What nodes say to each other over libpq, as JSON.
 *
 * One table per message, one writer and one reader.  A message is read strictly:
 * every field must be there with its type and within its bounds.  64-bit
 * numbers are strings, since JSON's numbers are doubles.
 */
#include "messages.h"

#include <cjson/cJSON.h>

typedef enum FieldKind
{
	FIELD_TEXT,
	FIELD_BOOL,
	FIELD_INT32,
	FIELD_UINT32,
	FIELD_INT64,
	FIELD_UINT64,
	FIELD_ANSWER
} FieldKind;

typedef struct Field
{
	const char *name;
	FieldKind	kind;
	size_t		offset;
	size_t		size;
} Field;

#define FIELD(type, name, member, kind) \
	{name, kind, offsetof(type, member), sizeof(((type *) 0)->member)}

static const Field report_fields[] = {
	FIELD(ElectorReport, "node", node, FIELD_TEXT),
	FIELD(ElectorReport, "instance", instance, FIELD_TEXT),
	FIELD(ElectorReport, "leads", leads, FIELD_BOOL),
	FIELD(ElectorReport, "state", state, FIELD_TEXT),
	FIELD(ElectorReport, "detail", detail, FIELD_TEXT),
	FIELD(ElectorReport, "term", term, FIELD_UINT64),
	FIELD(ElectorReport, "timeline", timeline, FIELD_UINT32),
	FIELD(ElectorReport, "lsn", lsn, FIELD_UINT64),
	FIELD(ElectorReport, "replayed", replayed, FIELD_UINT64),
	FIELD(ElectorReport, "lease_ms_left", lease_ms_left, FIELD_INT64),
	FIELD(ElectorReport, "streaming", streaming, FIELD_BOOL),
	FIELD(ElectorReport, "candidate", candidate, FIELD_BOOL),
	FIELD(ElectorReport, "priority", priority, FIELD_INT32),
	FIELD(ElectorReport, "stopping", stopping, FIELD_BOOL),
	{NULL}
};

static const Field fence_fields[] = {
	FIELD(ElectorFenceRequest, "term", term, FIELD_UINT64),
	FIELD(ElectorFenceRequest, "token", token, FIELD_INT64),
	FIELD(ElectorFenceRequest, "opened_term", opened_term, FIELD_UINT64),
	{NULL}
};

static const Field answer_fields[] = {
	FIELD(ElectorAnswer, "answer", kind, FIELD_ANSWER),
	FIELD(ElectorAnswer, "instance", instance, FIELD_TEXT),
	FIELD(ElectorAnswer, "kept_term", kept_term, FIELD_UINT64),
	FIELD(ElectorAnswer, "kept_timeline", kept_timeline, FIELD_UINT32),
	FIELD(ElectorAnswer, "timeline", position.timeline, FIELD_UINT32),
	FIELD(ElectorAnswer, "lsn", position.lsn, FIELD_UINT64),
	FIELD(ElectorAnswer, "primary", primary, FIELD_BOOL),
	FIELD(ElectorAnswer, "counts", counts, FIELD_BOOL),
	FIELD(ElectorAnswer, "candidate", candidate, FIELD_BOOL),
	FIELD(ElectorAnswer, "priority", priority, FIELD_INT32),
	FIELD(ElectorAnswer, "etcd", etcd, FIELD_BOOL),
	FIELD(ElectorAnswer, "lag_known", lag_known, FIELD_BOOL),
	FIELD(ElectorAnswer, "lag", lag, FIELD_INT64),
	{NULL}
};

static const Field order_fields[] = {
	FIELD(ElectorOrder, "term", term, FIELD_UINT64),
	FIELD(ElectorOrder, "token", token, FIELD_INT64),
	FIELD(ElectorOrder, "timeline", timeline, FIELD_UINT32),
	FIELD(ElectorOrder, "instance", instance, FIELD_TEXT),
	FIELD(ElectorOrder, "position_timeline", position.timeline, FIELD_UINT32),
	FIELD(ElectorOrder, "position_lsn", position.lsn, FIELD_UINT64),
	FIELD(ElectorOrder, "elector", elector, FIELD_TEXT),
	FIELD(ElectorOrder, "reason", reason, FIELD_TEXT),
	FIELD(ElectorOrder, "revoked", revoked, FIELD_TEXT),
	FIELD(ElectorOrder, "note", note, FIELD_TEXT),
	FIELD(ElectorOrder, "automatic", automatic, FIELD_BOOL),
	FIELD(ElectorOrder, "lock_ms", lock_ms, FIELD_INT32),
	FIELD(ElectorOrder, "revoke_ms", revoke_ms, FIELD_INT32),
	{NULL}
};

static cJSON *
format_field(const Field *field, const char *base)
{
	const void *place = base + field->offset;
	char		number[32];

	switch (field->kind)
	{
		case FIELD_TEXT:
			return cJSON_CreateString(place);
		case FIELD_BOOL:
			return cJSON_CreateBool(*(const bool *) place);
		case FIELD_INT32:
			return cJSON_CreateNumber(*(const int32 *) place);
		case FIELD_UINT32:
			return cJSON_CreateNumber(*(const uint32 *) place);
		case FIELD_INT64:
			snprintf(number, sizeof(number), INT64_FORMAT, *(const int64 *) place);
			return cJSON_CreateString(number);
		case FIELD_UINT64:
			snprintf(number, sizeof(number), UINT64_FORMAT, *(const uint64 *) place);
			return cJSON_CreateString(number);
		case FIELD_ANSWER:
			return cJSON_CreateString(*(const ElectorAnswerKind *) place ==
									  ELECTOR_ANSWER_FENCED ? "fenced" : "refused");
	}
	pg_unreachable();
}

static bool
parse_field(const Field *field, const cJSON *item, char *base)
{
	void	   *place = base + field->offset;
	const char *text = cJSON_GetStringValue(item);
	char	   *end;

	switch (field->kind)
	{
		case FIELD_TEXT:
			if (text == NULL || strlen(text) >= field->size)
				return false;
			strcpy(place, text);
			return true;
		case FIELD_BOOL:
			*(bool *) place = cJSON_IsTrue(item);
			return cJSON_IsBool(item);
		case FIELD_INT32:
			if (!cJSON_IsNumber(item) || item->valuedouble < PG_INT32_MIN ||
				item->valuedouble > PG_INT32_MAX)
				return false;
			*(int32 *) place = (int32) item->valuedouble;
			return true;
		case FIELD_UINT32:
			if (!cJSON_IsNumber(item) || item->valuedouble < 0 ||
				item->valuedouble > PG_UINT32_MAX)
				return false;
			*(uint32 *) place = (uint32) item->valuedouble;
			return true;
		case FIELD_INT64:
			if (text == NULL || text[0] == '\0')
				return false;
			errno = 0;
			*(int64 *) place = strtoll(text, &end, 10);
			return errno == 0 && *end == '\0';
		case FIELD_UINT64:
			if (text == NULL || text[0] < '0' || text[0] > '9')
				return false;
			errno = 0;
			*(uint64 *) place = strtoull(text, &end, 10);
			return errno == 0 && *end == '\0';
		case FIELD_ANSWER:
			if (text == NULL)
				return false;
			*(ElectorAnswerKind *) place = strcmp(text, "fenced") == 0 ?
				ELECTOR_ANSWER_FENCED : ELECTOR_ANSWER_REFUSED;
			return strcmp(text, "fenced") == 0 || strcmp(text, "refused") == 0;
	}
	pg_unreachable();
}

static bool
format_message(const Field *fields, const void *record, char *text, size_t size)
{
	cJSON	   *object = cJSON_CreateObject();
	bool		fits;

	for (const Field *field = fields; field->name != NULL; field++)
		cJSON_AddItemToObject(object, field->name, format_field(field, record));
	fits = cJSON_PrintPreallocated(object, text, (int) size, false);
	cJSON_Delete(object);
	return fits;
}

static bool
parse_message(const Field *fields, const char *text, void *record, size_t size)
{
	cJSON	   *object = cJSON_Parse(text);
	bool		valid = cJSON_IsObject(object);

	memset(record, 0, size);
	for (const Field *field = fields; valid && field->name != NULL; field++)
		valid = parse_field(field,
							cJSON_GetObjectItemCaseSensitive(object, field->name),
							record);
	cJSON_Delete(object);
	if (!valid)
		memset(record, 0, size);
	return valid;
}

bool
elector_report_format(const ElectorReport *report, char *text, size_t size)
{
	return format_message(report_fields, report, text, size);
}

bool
elector_report_parse(const char *text, ElectorReport *report)
{
	report->present = parse_message(report_fields, text, report, sizeof(*report));
	return report->present;
}

bool
elector_fence_format(const ElectorFenceRequest *request, char *text, size_t size)
{
	return format_message(fence_fields, request, text, size);
}

bool
elector_fence_parse(const char *text, ElectorFenceRequest *request)
{
	return parse_message(fence_fields, text, request, sizeof(*request));
}

bool
elector_answer_format(const ElectorAnswer *answer, char *text, size_t size)
{
	return format_message(answer_fields, answer, text, size);
}

bool
elector_answer_parse(const char *text, ElectorAnswer *answer)
{
	if (!parse_message(answer_fields, text, answer, sizeof(*answer)))
		return false;

	/* Terms and timelines grow by one; numbers like these never came about. */
	if (answer->kept_term > PG_INT64_MAX / 2 || answer->kept_timeline > PG_INT32_MAX ||
		answer->position.timeline > PG_INT32_MAX)
	{
		memset(answer, 0, sizeof(*answer));
		return false;
	}
	return true;
}

bool
elector_order_format(const ElectorOrder *order, char *text, size_t size)
{
	return format_message(order_fields, order, text, size);
}

bool
elector_order_parse(const char *text, ElectorOrder *order)
{
	return parse_message(order_fields, text, order, sizeof(*order));
}
