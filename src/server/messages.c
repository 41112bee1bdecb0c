/*
 * messages.c
 *	  What nodes say to each other over libpq, as JSON.
 *
 * One table a message.  A message is read strictly: every field must be there,
 * with its type and within its bounds.
 */
#include "messages.h"

#include "etcd/fields.h"
#include "etcd/value.h"

#define FIELD(record, member, type) \
	ELECTOR_FIELD(record, member, ELECTOR_FIELD_##type, ELECTOR_FIELD_REQUIRED)
#define RENAMED_FIELD(record, member, name, type) \
	ELECTOR_RENAMED_FIELD(record, member, name, ELECTOR_FIELD_##type, \
						  ELECTOR_FIELD_REQUIRED)

static const ElectorField report_fields[] = {
	FIELD(ElectorReport, node, STRING),
	FIELD(ElectorReport, instance, STRING),
	FIELD(ElectorReport, leads, BOOL),
	FIELD(ElectorReport, state, STRING),
	FIELD(ElectorReport, detail, STRING),
	FIELD(ElectorReport, term, UINT64),
	FIELD(ElectorReport, remembered, UINT64),
	FIELD(ElectorReport, timeline, UINT32),
	FIELD(ElectorReport, lsn, LSN),
	FIELD(ElectorReport, replayed, LSN),
	FIELD(ElectorReport, lease_ms_left, INT64),
	FIELD(ElectorReport, streaming, BOOL),
	FIELD(ElectorReport, candidate, BOOL),
	FIELD(ElectorReport, full, BOOL),
	FIELD(ElectorReport, priority, INT32),
	FIELD(ElectorReport, stopping, BOOL),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField fence_fields[] = {
	FIELD(ElectorFenceRequest, term, UINT64),
	FIELD(ElectorFenceRequest, token, INT64),
	FIELD(ElectorFenceRequest, opened_term, UINT64),
	FIELD(ElectorFenceRequest, over, UINT64),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField answer_fields[] = {
	FIELD(ElectorAnswer, instance, STRING),
	FIELD(ElectorAnswer, directory, STRING),
	FIELD(ElectorAnswer, kept_term, UINT64),
	FIELD(ElectorAnswer, remembered, UINT64),
	FIELD(ElectorAnswer, kept_timeline, UINT32),
	RENAMED_FIELD(ElectorAnswer, position.timeline, "timeline", UINT32),
	RENAMED_FIELD(ElectorAnswer, position.lsn, "lsn", LSN),
	FIELD(ElectorAnswer, primary, BOOL),
	FIELD(ElectorAnswer, counts, BOOL),
	FIELD(ElectorAnswer, candidate, BOOL),
	FIELD(ElectorAnswer, priority, INT32),
	FIELD(ElectorAnswer, etcd, BOOL),
	FIELD(ElectorAnswer, lag_known, BOOL),
	FIELD(ElectorAnswer, lag, INT64),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField order_fields[] = {
	FIELD(ElectorOrder, term, UINT64),
	FIELD(ElectorOrder, token, INT64),
	FIELD(ElectorOrder, timeline, UINT32),
	FIELD(ElectorOrder, instance, STRING),
	RENAMED_FIELD(ElectorOrder, position.timeline, "position_timeline", UINT32),
	RENAMED_FIELD(ElectorOrder, position.lsn, "position_lsn", LSN),
	FIELD(ElectorOrder, elector, STRING),
	FIELD(ElectorOrder, reason, STRING),
	FIELD(ElectorOrder, revoked, STRING),
	FIELD(ElectorOrder, note, STRING),
	FIELD(ElectorOrder, automatic, BOOL),
	FIELD(ElectorOrder, notice_ms, MILLISECONDS),
	FIELD(ElectorOrder, lock_ms, MILLISECONDS),
	FIELD(ElectorOrder, revoke_ms, MILLISECONDS),
	FIELD(ElectorOrder, choose_ms, MILLISECONDS),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField promise_request_fields[] = {
	FIELD(ElectorPromiseRequest, term, UINT64),
	FIELD(ElectorPromiseRequest, instance, STRING),
	FIELD(ElectorPromiseRequest, asked_at, INT64),
	FIELD(ElectorPromiseRequest, lasts_ms, INT64),
	FIELD(ElectorPromiseRequest, open, BOOL),
	ELECTOR_END_OF_FIELDS
};

static const ElectorField promise_fields[] = {
	FIELD(ElectorPromise, given, BOOL),
	FIELD(ElectorPromise, directory, STRING),
	FIELD(ElectorPromise, term, UINT64),
	FIELD(ElectorPromise, asked_at, INT64),
	FIELD(ElectorPromise, lasts_ms, INT64),
	ELECTOR_END_OF_FIELDS
};

/* Print into the caller's buffer. */
static bool
print_object(cJSON *object, char *text, size_t size)
{
	bool		fits = object != NULL &&
	cJSON_PrintPreallocated(object, text, (int) size, false);

	cJSON_Delete(object);
	return fits;
}

bool
elector_report_format(const ElectorReport *report, char *text, size_t size)
{
	return print_object(elector_fields_write(report_fields, report), text, size);
}

bool
elector_report_parse(const char *text, ElectorReport *report)
{
	report->present = elector_fields_parse(text, report_fields, report, sizeof(*report));
	return report->present;
}

bool
elector_fence_format(const ElectorFenceRequest *request, char *text, size_t size)
{
	return print_object(elector_fields_write(fence_fields, request), text, size);
}

bool
elector_fence_parse(const char *text, ElectorFenceRequest *request)
{
	return elector_fields_parse(text, fence_fields, request, sizeof(*request));
}

/* Only two kinds of answer are ever sent. */
bool
elector_answer_format(const ElectorAnswer *answer, char *text, size_t size)
{
	cJSON	   *object = elector_fields_write(answer_fields, answer);

	if (object != NULL)
		cJSON_AddBoolToObject(object, "fenced", answer->kind == ELECTOR_ANSWER_FENCED);
	return print_object(object, text, size);
}

bool
elector_answer_parse(const char *text, ElectorAnswer *answer)
{
	cJSON	   *object = elector_value_parse(text, strlen(text));
	const cJSON *fenced = elector_value_get(object, "fenced");
	bool		valid;

	memset(answer, 0, sizeof(*answer));
	valid = elector_fields_read(object, answer_fields, answer) && cJSON_IsBool(fenced);
	answer->kind = cJSON_IsTrue(fenced) ? ELECTOR_ANSWER_FENCED : ELECTOR_ANSWER_REFUSED;
	cJSON_Delete(object);

	/* Terms and timelines grow by one; numbers like these never came about. */
	if (answer->kept_term > PG_INT64_MAX / 2 || answer->remembered > PG_INT64_MAX / 2 || answer->kept_timeline > PG_INT32_MAX ||
		answer->position.timeline > PG_INT32_MAX)
		valid = false;
	if (!valid)
		memset(answer, 0, sizeof(*answer));
	return valid;
}

bool
elector_order_format(const ElectorOrder *order, char *text, size_t size)
{
	return print_object(elector_fields_write(order_fields, order), text, size);
}

bool
elector_order_parse(const char *text, ElectorOrder *order)
{
	return elector_fields_parse(text, order_fields, order, sizeof(*order));
}

bool
elector_promise_request_format(const ElectorPromiseRequest *request, char *text, size_t size)
{
	return print_object(elector_fields_write(promise_request_fields, request), text, size);
}

bool
elector_promise_request_parse(const char *text, ElectorPromiseRequest *request)
{
	return elector_fields_parse(text, promise_request_fields, request, sizeof(*request));
}

bool
elector_promise_format(const ElectorPromise *promise, char *text, size_t size)
{
	return print_object(elector_fields_write(promise_fields, promise), text, size);
}

bool
elector_promise_parse(const char *text, ElectorPromise *promise)
{
	return elector_fields_parse(text, promise_fields, promise, sizeof(*promise));
}
