/*
 * gateway.h
 *	  What goes over the wire to etcd's JSON gateway, and what comes back; for
 *	  client.c, which does the going.
 */
#ifndef ELECTOR_ETCD_GATEWAY_H
#define ELECTOR_ETCD_GATEWAY_H

#include "client.h"
#include "value.h"

typedef enum ElectorCallKind
{
	ELECTOR_CALL_GRANT,
	ELECTOR_CALL_KEEPALIVE,
	ELECTOR_CALL_REVOKE,
	ELECTOR_CALL_TIMETOLIVE,
	ELECTOR_CALL_TXN,
	ELECTOR_CALL_WATCH,
	ELECTOR_CALL_AUTHENTICATE
} ElectorCallKind;

/* Refused, because of who asks. */
typedef enum ElectorDenial
{
	ELECTOR_DENIAL_NONE,
	ELECTOR_DENIAL_TOKEN,		/* has none, or one that is not valid (any
								 * more) */
	ELECTOR_DENIAL_PASSWORD,	/* or the user */
	ELECTOR_DENIAL_OFF,			/* there is no authentication */
	ELECTOR_DENIAL_PERMISSION,
	ELECTOR_DENIAL_COMMON_NAME	/* in the client's certificate */
} ElectorDenial;

/* What was asked, as far as it takes to judge the answer. */
typedef struct ElectorCall
{
	ElectorCallKind kind;
	int64_t		lease;			/* keep-alive, time-to-live: the lease */
	int			nsuccess;		/* transaction: operations if the comparisons */
	int			nfailure;		/* hold, and if they do not */
} ElectorCall;

#define ELECTOR_ANSWER_ERROR_SIZE	256

/* An answer, and what its reply points to. */
typedef struct ElectorGatewayAnswer
{
	ElectorEtcdReply reply;
	bool		unavailable;	/* this endpoint is of no use now */
	ElectorDenial denial;
	const char *token;			/* authenticate */
	char		error[ELECTOR_ANSWER_ERROR_SIZE];
	cJSON	   *root;			/* keys and values live in here */
	ElectorEtcdKv *kvs;
	size_t		kvs_size;
} ElectorGatewayAnswer;

/* The path after the endpoint. */
extern const char *elector_call_path(ElectorCallKind kind);

/* Bodies of requests: a string to free(), or NULL if memory is out. */
extern char *elector_body_grant(int64_t ttl);
extern char *elector_body_lease(int64_t lease);
extern char *elector_body_txn(const ElectorTxn *txn, ElectorCall *call);
extern char *elector_body_watch(const char *key, const char *range_end,
								int64_t start_revision);
extern char *elector_body_authenticate(const char *user, const char *password);

/*
 * Read an answer: text[length] must be NUL.  For a watch it is one message.
 * elector_answer_fail() makes an answer of what is none.
 */
extern void elector_answer_read(ElectorGatewayAnswer *answer, const ElectorCall *call,
								long http_status, const char *text, size_t length);
extern void elector_answer_fail(ElectorGatewayAnswer *answer, ElectorEtcdStatus status,
								bool unavailable, const char *fmt,...)
			__attribute__((format(printf, 4, 5)));
extern void elector_answer_free(ElectorGatewayAnswer *answer);

#endif							/* ELECTOR_ETCD_GATEWAY_H */
