/*
 * gateway.c
 *	  The JSON of etcd's v3 gateway: the reading of answers.
 *
 * Pure functions over text; client.c moves the text.  Keys and values are
 * base64, 64-bit numbers are strings, and a field with the value zero is not
 * there at all.
 *
 * The one trap follows from that: `{}` is a perfect answer that says "this
 * lease is dead" or "the comparisons did not hold", and both are final.  So an
 * answer counts only with a header that names a cluster, about the lease that
 * was asked for, with as many responses as there were operations.  Everything
 * else is ELECTOR_ETCD_UNKNOWN.
 *
 * The reverse care is taken with errors.  Only those that etcd gives before it
 * executes a request are ELECTOR_ETCD_REFUSED.  RESOURCE_EXHAUSTED is not among
 * them: the transaction that crosses etcd's space quota is executed and answers
 * "database space exceeded".
 */
#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "gateway.h"

/* etcd refuses a longer TTL, so that a longer one is not etcd's. */
#define TTL_MAX		INT64_C(9000000000)

/* gRPC's status codes, as far as etcd's answers are told apart by them */
enum
{
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_NOT_FOUND = 5,
	GRPC_ALREADY_EXISTS = 6,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_OUT_OF_RANGE = 11,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_UNAUTHENTICATED = 16
};

/* ----------
 * Base64
 * ----------
 */

static int
base64_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+')
		return 62;
	if (c == '/')
		return 63;
	return -1;
}

/*
 * Decode in place, which the result, being shorter, always allows, and add a
 * NUL.  Strict: whole groups of four, padding only at the end.
 */
static bool
base64_decode(char *text, size_t *length)
{
	size_t		left = strlen(text);
	const char *in = text;
	char	   *out = text;

	if (left % 4 != 0)
		return false;
	for (; left > 0; left -= 4, in += 4)
	{
		int			digits = 4;
		uint32_t	group = 0;

		if (left == 4 && in[3] == '=')
			digits = (in[2] == '=') ? 2 : 3;
		for (int i = 0; i < 4; i++)
		{
			int			digit = i < digits ? base64_digit(in[i]) : 0;

			if (digit < 0)
				return false;
			group = group << 6 | (uint32_t) digit;
		}
		*out++ = (char) (group >> 16);
		if (digits > 2)
			*out++ = (char) (group >> 8 & 255);
		if (digits > 3)
			*out++ = (char) (group & 255);
	}
	*length = (size_t) (out - text);
	*out = '\0';
	return true;
}

/* ----------
 * Answers
 * ----------
 */

void
elector_answer_free(ElectorGatewayAnswer *answer)
{
	cJSON_Delete(answer->root);
	free(answer->kvs);
	memset(answer, 0, sizeof(*answer));
}

/*
 * Nothing that was read before the failure remains visible: an answer is
 * whole or none.
 */
void
elector_answer_fail(ElectorGatewayAnswer *answer, ElectorEtcdStatus status,
					bool unavailable, const char *fmt,...)
{
	va_list		args;

	memset(&answer->reply, 0, sizeof(answer->reply));
	answer->reply.status = status;
	answer->unavailable = unavailable;
	answer->denial = ELECTOR_DENIAL_NONE;
	answer->token = NULL;
	va_start(args, fmt);
	vsnprintf(answer->error, sizeof(answer->error), fmt, args);
	va_end(args);
	answer->reply.error = answer->error;

	/* one line, whatever the other side sent */
	for (char *p = answer->error; *p != '\0'; p++)
	{
		if ((unsigned char) *p < ' ' || *p == 0x7f)
			*p = '?';
	}
}

static void
answer_malformed(ElectorGatewayAnswer *answer, const char *what)
{
	elector_answer_fail(answer, ELECTOR_ETCD_UNKNOWN, true,
						"malformed reply: %s", what);
}

/* Optional, because zero-valued fields are omitted. */
static bool
read_int64(const cJSON *object, const char *name, int64_t min, int64_t max,
		   int64_t *result)
{
	const cJSON *value = elector_value_get(object, name);

	*result = 0;
	return value == NULL || elector_value_int64(value, min, max, result);
}

static bool
read_uint64(const cJSON *object, const char *name, uint64_t *result)
{
	const cJSON *value = elector_value_get(object, name);

	*result = 0;
	return value == NULL || elector_value_uint64(value, result);
}

static bool
read_bool(const cJSON *object, const char *name, bool *result)
{
	const cJSON *value = elector_value_get(object, name);

	*result = cJSON_IsTrue(value);
	return value == NULL || cJSON_IsBool(value);
}

/* The header is always there, and what it says is what makes this etcd. */
static bool
read_header(const cJSON *object, ElectorEtcdReply *reply)
{
	const cJSON *header = elector_value_get(object, "header");

	return cJSON_IsObject(header) &&
		read_int64(header, "revision", 0, INT64_MAX, &reply->revision) &&
		read_uint64(header, "raft_term", &reply->raft_term) &&
		read_uint64(header, "cluster_id", &reply->cluster_id) &&
		reply->cluster_id != 0;
}

/*
 * Is an error one that etcd gives before it executes the request?  By the gRPC
 * code, or by the HTTP status where the body has none.
 */
static bool
is_refusal(int64_t code, long http_status)
{
	switch (code)
	{
		case GRPC_INVALID_ARGUMENT:
		case GRPC_NOT_FOUND:
		case GRPC_ALREADY_EXISTS:
		case GRPC_PERMISSION_DENIED:
		case GRPC_FAILED_PRECONDITION:
		case GRPC_OUT_OF_RANGE:
		case GRPC_UNIMPLEMENTED:
		case GRPC_UNAUTHENTICATED:
			return true;
		case 0:
			return http_status == 400 || http_status == 401 ||
				http_status == 403 || http_status == 404 ||
				http_status == 412 || http_status == 501;
		default:
			return false;
	}
}

/* Errors of a member that has lost the others, whatever their code. */
static bool
is_unavailability(const char *message)
{
	return strstr(message, "no leader") != NULL ||
		strstr(message, "timed out") != NULL;
}

/* What etcd's refusals of a person look like, in any version. */
static const struct
{
	const char *text;
	ElectorDenial denial;
}			denials[] = {
	{"invalid auth token", ELECTOR_DENIAL_TOKEN},
	{"revision of auth store is old", ELECTOR_DENIAL_TOKEN},
	{"user name is empty", ELECTOR_DENIAL_TOKEN},
	{"user name not found", ELECTOR_DENIAL_TOKEN},
	{"invalid user ID or password", ELECTOR_DENIAL_PASSWORD},
	{"authentication is not enabled", ELECTOR_DENIAL_OFF},
	{"permission denied", ELECTOR_DENIAL_PERMISSION}
};

static ElectorDenial
which_denial(const char *message)
{
	for (size_t i = 0; i < sizeof(denials) / sizeof(denials[0]); i++)
	{
		if (strstr(message, denials[i].text) != NULL)
			return denials[i].denial;
	}
	return ELECTOR_DENIAL_NONE;
}

/*
 * An error body is {"error": text, "code": n, "message": text}; newer gateways
 * leave out "error", and streams have an object there: {"error": {"grpc_code"
 * or "code": n, "message": text}}.  True if this was one.
 */
static bool
read_error(ElectorGatewayAnswer *answer, long http_status)
{
	const cJSON *root = answer->root;
	const cJSON *error = elector_value_get(root, "error");
	const cJSON *message;
	const cJSON *code;
	const char *text;
	int64_t		number = 0;

	if (http_status == 200 && error == NULL &&
		elector_value_get(root, "code") == NULL)
		return false;
	if (cJSON_IsObject(error))
		root = error;
	message = elector_value_get(root, "message");
	code = elector_value_get(root, "grpc_code");
	if (code == NULL)
		code = elector_value_get(root, "code");
	if (message == NULL)
		message = error;
	if (!cJSON_IsString(message) ||
		(code != NULL && !elector_value_int64(code, 0, INT32_MAX, &number)))
	{
		answer_malformed(answer, "not an error of etcd");
		return true;
	}

	text = message->valuestring;
	if (is_refusal(number, http_status) && !is_unavailability(text))
	{
		elector_answer_fail(answer, ELECTOR_ETCD_REFUSED, false, "%s", text);
		answer->denial = which_denial(text);
	}
	else
		elector_answer_fail(answer, ELECTOR_ETCD_UNKNOWN,
							number != GRPC_RESOURCE_EXHAUSTED, "%s", text);
	return true;
}

/* Append what kv describes; true unless it is malformed. */
static bool
read_kv(ElectorGatewayAnswer *answer, const cJSON *object, bool deleted)
{
	const cJSON *key = elector_value_get(object, "key");
	const cJSON *value = elector_value_get(object, "value");
	ElectorEtcdKv kv = {.value = ""};
	size_t		key_length;

	if (!cJSON_IsString(key) || (value != NULL && !cJSON_IsString(value)))
		return false;
	if (!read_int64(object, "create_revision", 0, INT64_MAX, &kv.create_revision) ||
		!read_int64(object, "mod_revision", 0, INT64_MAX, &kv.mod_revision) ||
		!read_int64(object, "lease", INT64_MIN, INT64_MAX, &kv.lease))
		return false;
	if (!base64_decode(key->valuestring, &key_length) ||
		(value != NULL && !base64_decode(value->valuestring, &kv.value_length)))
		return false;
	if (strlen(key->valuestring) != key_length)
		return true;			/* not one of ours */

	if (answer->reply.nkvs == answer->kvs_size)
	{
		size_t		size = answer->kvs_size == 0 ? 64 : answer->kvs_size * 2;
		ElectorEtcdKv *kvs;

		if (answer->kvs_size >= ELECTOR_ETCD_KVS_MAX)
			return false;
		kvs = realloc(answer->kvs, size * sizeof(ElectorEtcdKv));
		if (kvs == NULL)
			return false;
		answer->kvs = kvs;
		answer->kvs_size = size;
	}
	kv.key = key->valuestring;
	if (value != NULL)
		kv.value = value->valuestring;
	kv.deleted = deleted;
	answer->kvs[answer->reply.nkvs++] = kv;
	answer->reply.kvs = answer->kvs;
	return true;
}

static void
read_txn(ElectorGatewayAnswer *answer, const ElectorCall *call)
{
	const cJSON *responses = elector_value_get(answer->root, "responses");
	const cJSON *response;
	int			nresponses = 0;

	if (!read_bool(answer->root, "succeeded", &answer->reply.succeeded) ||
		(responses != NULL && !cJSON_IsArray(responses)))
	{
		answer_malformed(answer, "not the result of a transaction");
		return;
	}
	cJSON_ArrayForEach(response, responses)
	{
		const cJSON *range = elector_value_get(response, "response_range");
		const cJSON *kvs = elector_value_get(range, "kvs");
		const cJSON *kv;

		nresponses++;
		if (!cJSON_IsObject(response) ||
			(range != NULL && !cJSON_IsObject(range)) ||
			(kvs != NULL && !cJSON_IsArray(kvs)))
		{
			answer_malformed(answer, "not a transaction's response");
			return;
		}
		cJSON_ArrayForEach(kv, kvs)
		{
			if (!read_kv(answer, kv, false))
			{
				answer_malformed(answer, "bad key, or too many keys");
				return;
			}
		}
	}
	if (nresponses != (answer->reply.succeeded ? call->nsuccess : call->nfailure))
		answer_malformed(answer, "wrong number of responses");
}

static void
read_canceled(ElectorGatewayAnswer *answer, const cJSON *result, int64_t compact_revision)
{
	const cJSON *reason = elector_value_get(result, "cancel_reason");
	const char *text = cJSON_IsString(reason) ? reason->valuestring : "";

	if (is_unavailability(text))
		elector_answer_fail(answer, ELECTOR_ETCD_UNKNOWN, true,
							"watch canceled: %s", text);
	else if (compact_revision > 0)
		elector_answer_fail(answer, ELECTOR_ETCD_REFUSED, false,
							"watch canceled: compacted up to revision %" PRId64,
							compact_revision);
	else
	{
		elector_answer_fail(answer, ELECTOR_ETCD_REFUSED, false,
							"watch canceled: %s", *text ? text : "no reason given");
		answer->denial = which_denial(text);
	}
}

static void
read_watch(ElectorGatewayAnswer *answer)
{
	const cJSON *result = elector_value_get(answer->root, "result");
	const cJSON *events = elector_value_get(result, "events");
	const cJSON *event;
	bool		canceled;
	int64_t		compact_revision;

	if (!read_header(result, &answer->reply) ||
		!read_bool(result, "canceled", &canceled) ||
		!read_int64(result, "compact_revision", 0, INT64_MAX, &compact_revision) ||
		(events != NULL && !cJSON_IsArray(events)))
	{
		answer_malformed(answer, "not a watch message");
		return;
	}
	if (canceled)
	{
		read_canceled(answer, result, compact_revision);
		return;
	}
	cJSON_ArrayForEach(event, events)
	{
		const cJSON *type = elector_value_get(event, "type");
		bool		deleted = false;
		bool		valid = true;

		if (cJSON_IsString(type))
		{
			deleted = (strcmp(type->valuestring, "DELETE") == 0);
			valid = deleted || strcmp(type->valuestring, "PUT") == 0;
		}
		else if (type != NULL)
			valid = false;
		if (!valid || !read_kv(answer, elector_value_get(event, "kv"), deleted))
		{
			answer_malformed(answer, "bad event, or too many events");
			return;
		}
	}
}

/*
 * A lease that has less than a second left has no "TTL" field, and one that is
 * past its end but not yet revoked may say -1: it exists, and so do its keys.
 * Only one without "grantedTTL" is gone.
 */
static void
read_timetolive(ElectorGatewayAnswer *answer)
{
	int64_t		granted;

	if (!read_int64(answer->root, "TTL", -TTL_MAX, TTL_MAX, &answer->reply.ttl) ||
		!read_int64(answer->root, "grantedTTL", 0, TTL_MAX, &granted) ||
		(granted == 0 && answer->reply.ttl != -1))
		answer_malformed(answer, "not a lease's time to live");
	else if (granted > 0 && answer->reply.ttl < 1)
	{
		answer->reply.ttl = 1;
		answer->reply.last_second = true;
	}
}

/* It goes into a header, where some characters would mean something. */
static void
read_token(ElectorGatewayAnswer *answer)
{
	const cJSON *token = elector_value_get(answer->root, "token");
	const char *text = cJSON_IsString(token) ? token->valuestring : "";
	size_t		length = strlen(text);

	for (size_t i = 0; i < length; i++)
	{
		if ((unsigned char) text[i] <= ' ' || (unsigned char) text[i] >= 0x7f)
			length = 0;
	}
	if (length == 0 || length >= ELECTOR_TOKEN_SIZE)
		answer_malformed(answer, "not a token");
	else
		answer->token = text;
}

/* A stream's answer is wrapped; unwrapping keeps answer->root its owner. */
static void
unwrap_result(ElectorGatewayAnswer *answer)
{
	cJSON	   *result = elector_value_get(answer->root, "result");

	if (result != NULL)
	{
		cJSON_DetachItemViaPointer(answer->root, result);
		cJSON_Delete(answer->root);
		answer->root = result;
	}
}

static void
read_lease_answer(ElectorGatewayAnswer *answer, const ElectorCall *call)
{
	ElectorEtcdReply *reply = &answer->reply;

	if (call->kind != ELECTOR_CALL_REVOKE &&
		!read_int64(answer->root, "ID", INT64_MIN, INT64_MAX, &reply->lease))
		answer_malformed(answer, "bad lease ID");
	else if (call->kind == ELECTOR_CALL_GRANT)
	{
		if (!read_int64(answer->root, "TTL", 1, TTL_MAX, &reply->ttl) ||
			reply->ttl == 0 || reply->lease == 0)
			answer_malformed(answer, "not a granted lease");
	}
	else if (call->kind != ELECTOR_CALL_REVOKE && reply->lease != call->lease)
		answer_malformed(answer, "about another lease");
	else if (call->kind == ELECTOR_CALL_KEEPALIVE)
	{
		if (!read_int64(answer->root, "TTL", 0, TTL_MAX, &reply->ttl))
			answer_malformed(answer, "not a renewed lease");
	}
	else if (call->kind == ELECTOR_CALL_TIMETOLIVE)
		read_timetolive(answer);
}

void
elector_answer_read(ElectorGatewayAnswer *answer, const ElectorCall *call,
					long http_status, const char *text, size_t length)
{
	assert(text[length] == '\0');

	memset(answer, 0, sizeof(*answer));
	answer->reply.status = ELECTOR_ETCD_OK;
	answer->reply.error = "";
	answer->root = elector_value_parse(text, length);
	if (!cJSON_IsObject(answer->root))
	{
		if (http_status == 200)
			answer_malformed(answer, "not a JSON object");
		else
		{
			elector_answer_fail(answer, ELECTOR_ETCD_UNKNOWN, true,
								"HTTP status %ld", http_status);
			if (strstr(text, "CommonName of client") != NULL)
				answer->denial = ELECTOR_DENIAL_COMMON_NAME;
		}
		return;
	}
	if (read_error(answer, http_status))
		return;
	if (call->kind == ELECTOR_CALL_WATCH)
	{
		read_watch(answer);
		return;
	}

	if (call->kind == ELECTOR_CALL_KEEPALIVE)
		unwrap_result(answer);
	if (!read_header(answer->root, &answer->reply))
		answer_malformed(answer, "no etcd header");
	else if (call->kind == ELECTOR_CALL_TXN)
		read_txn(answer, call);
	else if (call->kind == ELECTOR_CALL_AUTHENTICATE)
		read_token(answer);
	else
		read_lease_answer(answer, call);
}
