/*
 * request.h
 *	  What a client is made of, for the files that make it: client.c has the
 *	  requests and their order, transfer.c what goes through libcurl, token.c what
 *	  keeps them in etcd's favour.
 */
#ifndef ELECTOR_ETCD_REQUEST_H
#define ELECTOR_ETCD_REQUEST_H

#include <curl/curl.h>

#include "auth.h"
#include "client.h"
#include "endpoints.h"
#include "gateway.h"
#include "tls.h"

typedef struct ElectorBuffer
{
	char	   *data;			/* NUL-terminated, or NULL while empty */
	size_t		length;
	size_t		size;
} ElectorBuffer;

typedef struct ElectorEtcdRequest
{
	struct ElectorEtcdRequest *next;
	ElectorEtcd *etcd;
	ElectorCall call;
	ElectorEtcdCallback callback;	/* NULL: nobody wants to know any more */
	void	   *arg;
	int64_t		deadline;		/* -1: none (a watch that was created) */

	char	   *body;
	size_t		body_length;
	size_t		body_sent;

	/* where it goes; it may go twice if it was refused for its token */
	CURL	   *easy;			/* NULL when parked or ended */
	bool		parked;			/* waits for a token */
	int			sendings;
	int			endpoint;		/* index of, ... */
	uint64_t	generation;		/* ... and chosen as of */
	int64_t		sent_at;
	uint64_t	token;			/* number of the token it was sent with; 0:
								 * none */
	bool		former;			/* authenticate: with the former password */
	struct curl_slist *headers;

	ElectorBuffer reply;
	size_t		scanned;		/* a watch: no newline before this offset */
	size_t		header_length;
	const char *too_large;		/* what was, or NULL */

	bool		ended;
	bool		due;			/* to be delivered in this pump */
	bool		answered;		/* ended with an HTTP response */
	long		http_status;
	char		said[CURL_ERROR_SIZE];	/* by libcurl */
	char		error[ELECTOR_PROBLEM_SIZE];	/* why there is no answer */
} ElectorEtcdRequest;

struct ElectorEtcd
{
	CURLM	   *multi;
	int			epoll_fd;

	ElectorEndpoints endpoints;
	int			current;
	uint64_t	generation;		/* counts the choices */
	int64_t		patience;		/* the least; 0: none is lost */

	ElectorAuth auth;
	ElectorTls	tls;
	ElectorNotices notices;
	bool		user_noted;		/* that etcd wants one */
	bool		permission_noted;	/* that ours may not do what we do */

	ElectorEtcdRequest *requests;	/* oldest first */
	ElectorEtcdRequest *watch;	/* the one that has not ended, or NULL */
	bool		pumping;
};

/* client.c */
extern int64_t elector_etcd_now(void);
extern bool elector_request_is_own(const ElectorEtcdRequest *request);

/*
 * Takes the body, NULL if there was no memory for it.  What fails in here ends
 * the request, and the next pump tells.
 */
extern void elector_request_start(ElectorEtcd *etcd, const ElectorCall *call, char *body,
								  bool former, int64_t bound_us,
								  ElectorEtcdCallback callback, void *arg);

/* To the present endpoint, or as soon as there is a token. */
extern void elector_request_send(ElectorEtcdRequest *request);

/* One that has ended and was taken out begins anew. */
extern void elector_request_again(ElectorEtcdRequest *request);

/* Not to be called from within libcurl.  error: NULL leaves what is there. */
extern void elector_request_end(ElectorEtcdRequest *request, const char *error);

/* token.c */
extern bool elector_token_is_asked(const ElectorEtcd *etcd);
extern bool elector_token_may_come(const ElectorEtcd *etcd);
extern void elector_token_keep(ElectorEtcd *etcd);
extern void elector_token_answered(ElectorEtcdRequest *request,
								   const ElectorGatewayAnswer *answer);
extern bool elector_token_send_again(ElectorEtcdRequest *request,
									 ElectorGatewayAnswer *answer);
extern void elector_token_explain_name(ElectorEtcdRequest *request,
									   ElectorGatewayAnswer *answer);
extern void elector_token_explain(ElectorEtcdRequest *request, ElectorGatewayAnswer *answer);

/* transfer.c */
extern void elector_buffer_consume(ElectorBuffer *buffer, size_t length);
extern bool elector_transfers_begin(ElectorEtcd *etcd);
extern void elector_transfers_end(ElectorEtcd *etcd);

/* False: request->error says why. */
extern bool elector_transfer_start(ElectorEtcdRequest *request);
extern void elector_transfer_stop(ElectorEtcdRequest *request);

/* Let libcurl work on the sockets that are ready, and on its timers. */
extern void elector_transfers_run(ElectorEtcd *etcd);

/* A transfer that has ended: its request, and whether there is an HTTP response. */
extern ElectorEtcdRequest *elector_transfers_next(ElectorEtcd *etcd, bool *answered);

#endif							/* ELECTOR_ETCD_REQUEST_H */
