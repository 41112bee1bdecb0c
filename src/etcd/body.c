/*
 * body.c
 *	  The JSON of etcd's v3 gateway: bodies of requests.
 *
 * Pure functions that make text; client.c moves it.  Keys and values are base64,
 * and 64-bit numbers are strings.  Memory that is out shows once, at the end, as a
 * body that is not there.
 *
 * The one trap: cJSON copies what it is given and does not overwrite it.  So the
 * password is referred to, and the text it ends up in is the caller's to wipe.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"

struct ElectorTxn
{
	cJSON	   *compare;		/* arrays, or NULL if memory was out */
	cJSON	   *success;
	cJSON	   *failure;
	bool		failed;			/* something could not be added */
};

static const char base64_alphabet[] =
"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const char *
elector_call_path(ElectorCallKind kind)
{
	switch (kind)
	{
		case ELECTOR_CALL_GRANT:
			return "/v3/lease/grant";
		case ELECTOR_CALL_KEEPALIVE:
			return "/v3/lease/keepalive";
		case ELECTOR_CALL_REVOKE:
			return "/v3/lease/revoke";
		case ELECTOR_CALL_TIMETOLIVE:
			return "/v3/lease/timetolive";
		case ELECTOR_CALL_TXN:
			return "/v3/kv/txn";
		case ELECTOR_CALL_WATCH:
			return "/v3/watch";
		case ELECTOR_CALL_AUTHENTICATE:
			return "/v3/auth/authenticate";
	}
	return "";
}

static char *
base64_encode(const char *text)
{
	const unsigned char *in = (const unsigned char *) text;
	size_t		length = strlen(text);
	char	   *result;
	char	   *out;

	result = out = malloc((length + 2) / 3 * 4 + 1);
	if (result == NULL)
		return NULL;
	while (length > 0)
	{
		uint32_t	group = (uint32_t) in[0] << 16;

		if (length > 1)
			group |= (uint32_t) in[1] << 8;
		if (length > 2)
			group |= in[2];
		*out++ = base64_alphabet[group >> 18];
		*out++ = base64_alphabet[(group >> 12) & 63];
		*out++ = length > 1 ? base64_alphabet[(group >> 6) & 63] : '=';
		*out++ = length > 2 ? base64_alphabet[group & 63] : '=';
		in += length > 2 ? 3 : length;
		length -= length > 2 ? 3 : length;
	}
	*out = '\0';
	return result;
}

static bool
add_base64(cJSON *object, const char *name, const char *text)
{
	char	   *encoded = base64_encode(text);
	bool		added;

	added = encoded != NULL &&
		cJSON_AddStringToObject(object, name, encoded) != NULL;
	free(encoded);
	return added;
}

static bool
add_int64(cJSON *object, const char *name, int64_t number)
{
	char		text[24];

	snprintf(text, sizeof(text), "%" PRId64, number);
	return cJSON_AddStringToObject(object, name, text) != NULL;
}

/* cJSON allocates with malloc() unless told otherwise, and nobody tells it. */
static char *
print_and_delete(cJSON *root)
{
	char	   *text = root == NULL ? NULL : cJSON_PrintUnformatted(root);

	cJSON_Delete(root);
	return text;
}

static char *
print_number(const char *name, int64_t number)
{
	cJSON	   *root = cJSON_CreateObject();

	if (root == NULL || !add_int64(root, name, number))
	{
		cJSON_Delete(root);
		return NULL;
	}
	return print_and_delete(root);
}

char	   *
elector_body_grant(int64_t ttl)
{
	return print_number("TTL", ttl);
}

char	   *
elector_body_lease(int64_t lease)
{
	return print_number("ID", lease);
}

/* progress_notify makes etcd send a sign of life now and then. */
char	   *
elector_body_watch(const char *key, const char *range_end, int64_t start_revision)
{
	cJSON	   *root = cJSON_CreateObject();
	cJSON	   *create = cJSON_AddObjectToObject(root, "create_request");

	if (create == NULL ||
		!add_base64(create, "key", key) ||
		(range_end != NULL && !add_base64(create, "range_end", range_end)) ||
		!add_int64(create, "start_revision", start_revision) ||
		cJSON_AddTrueToObject(create, "progress_notify") == NULL)
	{
		cJSON_Delete(root);
		return NULL;
	}
	return print_and_delete(root);
}

/* The caller overwrites the text: it holds the password. */
char	   *
elector_body_authenticate(const char *user, const char *password)
{
	cJSON	   *root = cJSON_CreateObject();
	cJSON	   *secret = cJSON_CreateStringReference(password);
	char	   *text = NULL;

	if (root != NULL && secret != NULL &&
		cJSON_AddStringToObject(root, "name", user) != NULL &&
		cJSON_AddItemToObject(root, "password", secret))
	{
		secret = NULL;
		text = cJSON_PrintUnformatted(root);
	}
	cJSON_Delete(secret);
	cJSON_Delete(root);
	return text;
}

ElectorTxn *
elector_txn_create(void)
{
	ElectorTxn *txn = calloc(1, sizeof(ElectorTxn));

	if (txn == NULL)
		return NULL;
	txn->compare = cJSON_CreateArray();
	txn->success = cJSON_CreateArray();
	txn->failure = cJSON_CreateArray();
	txn->failed = (txn->compare == NULL || txn->success == NULL ||
				   txn->failure == NULL);
	return txn;
}

void
elector_txn_destroy(ElectorTxn *txn)
{
	if (txn == NULL)
		return;
	cJSON_Delete(txn->compare);
	cJSON_Delete(txn->success);
	cJSON_Delete(txn->failure);
	free(txn);
}

/* An empty object at the end of an array; NULL if memory is out. */
static cJSON *
append_object(cJSON *array)
{
	cJSON	   *object = cJSON_CreateObject();

	if (object != NULL && !cJSON_AddItemToArray(array, object))
	{
		cJSON_Delete(object);
		return NULL;
	}
	return object;
}

static void
txn_compare(ElectorTxn *txn, const char *target, const char *field,
			const char *key, int64_t revision)
{
	cJSON	   *compare;

	if (txn == NULL || txn->failed)
		return;
	compare = append_object(txn->compare);
	if (compare == NULL ||
		cJSON_AddStringToObject(compare, "target", target) == NULL ||
		cJSON_AddStringToObject(compare, "result", "EQUAL") == NULL ||
		!add_base64(compare, "key", key) ||
		!add_int64(compare, field, revision))
		txn->failed = true;
}

void
elector_txn_if_created(ElectorTxn *txn, const char *key, int64_t create_revision)
{
	txn_compare(txn, "CREATE", "create_revision", key, create_revision);
}

void
elector_txn_if_modified(ElectorTxn *txn, const char *key, int64_t mod_revision)
{
	txn_compare(txn, "MOD", "mod_revision", key, mod_revision);
}

void
elector_txn_put(ElectorTxn *txn, const char *key, const char *value, int64_t lease)
{
	cJSON	   *put;

	if (txn == NULL || txn->failed)
		return;
	put = cJSON_AddObjectToObject(append_object(txn->success), "request_put");
	if (put == NULL ||
		!add_base64(put, "key", key) ||
		!add_base64(put, "value", value) ||
		(lease != 0 && !add_int64(put, "lease", lease)))
		txn->failed = true;
}

void
elector_txn_delete(ElectorTxn *txn, const char *key)
{
	cJSON	   *del;

	if (txn == NULL || txn->failed)
		return;
	del = cJSON_AddObjectToObject(append_object(txn->success),
								  "request_delete_range");
	if (del == NULL || !add_base64(del, "key", key))
		txn->failed = true;
}

static bool
append_range(cJSON *array, const char *key, const char *range_end,
			 int64_t limit, bool newest_first)
{
	cJSON	   *range = cJSON_AddObjectToObject(append_object(array),
												"request_range");

	return range != NULL &&
		add_base64(range, "key", key) &&
		(range_end == NULL || add_base64(range, "range_end", range_end)) &&
		(limit == 0 || add_int64(range, "limit", limit)) &&
		(!newest_first ||
		 (cJSON_AddStringToObject(range, "sort_order", "DESCEND") != NULL &&
		  cJSON_AddStringToObject(range, "sort_target", "KEY") != NULL));
}

void
elector_txn_range(ElectorTxn *txn, const char *key, const char *range_end,
				  int64_t limit, bool newest_first)
{
	if (txn == NULL || txn->failed)
		return;
	if (!append_range(txn->success, key, range_end, limit, newest_first) ||
		!append_range(txn->failure, key, range_end, limit, newest_first))
		txn->failed = true;
}

char	   *
elector_body_txn(const ElectorTxn *txn, ElectorCall *call)
{
	cJSON	   *root;

	if (txn == NULL || txn->failed)
		return NULL;
	root = cJSON_CreateObject();
	if (root == NULL ||
		!cJSON_AddItemReferenceToObject(root, "compare", txn->compare) ||
		!cJSON_AddItemReferenceToObject(root, "success", txn->success) ||
		!cJSON_AddItemReferenceToObject(root, "failure", txn->failure))
	{
		cJSON_Delete(root);
		return NULL;
	}
	call->nsuccess = cJSON_GetArraySize(txn->success);
	call->nfailure = cJSON_GetArraySize(txn->failure);
	return print_and_delete(root);
}
