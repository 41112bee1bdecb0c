/*
 * client.c
 *	  An asynchronous client of etcd's v3 JSON gateway: requests, where they go,
 *	  and what becomes of them.
 *
 * What is in a request and what its answer means is gateway.c's business, how it
 * travels transfer.c's, with which certificates tls.c's, in whose name auth.c's.
 *
 * A request passes through these states.  It is parked while there is no token to
 * send with it, started (its transfer is under way), ended (the outcome is known,
 * the transfer is gone) and delivered (the callback has been made, and it is
 * freed).  One that etcd refused because of its token, and so did not execute, is
 * parked and sent again, within its bound.  Only elector_etcd_pump() delivers, and
 * nothing else frees; so a callback may start requests, rotate, or replace the
 * watch that it is the callback of.
 *
 * Endpoints are used one at a time.  A failure moves on to the next only if the
 * request was started on the present choice: `generation` counts the choices,
 * or else several requests failing together would rotate back to the endpoint
 * that failed them.  With a single endpoint there is nowhere to go, and an
 * answer that says "unavailable" leaves the watch alone; silence ends it.
 *
 * An endpoint that is merely slow loses later requests to the next one before it
 * is given up.  The watch stays until another endpoint has answered while its own
 * is silent, and requests go back to where the watch is when that answers.
 *
 * The one trap is asking for a token: it is a request like others, except that
 * nobody waits for it, that it is not parked, and that its body holds a password.
 *
 * A child process must not touch a client that its parent created: the epoll
 * descriptor is shared between them.
 *
 * Called by the worker's loop and by the program.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "request.h"

/* An endpoint is given up when it has been silent for so many times the patience. */
#define SILENCE		6

/* Microseconds; goes on while the machine sleeps, as a lease does. */
int64_t
elector_etcd_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ----------
 * Endpoints
 * ----------
 */

/* Nobody waits for these. */
bool
elector_request_is_own(const ElectorEtcdRequest *request)
{
	return request->call.kind == ELECTOR_CALL_AUTHENTICATE;
}

/* Has been sent, and an answer is due. */
static bool
is_waiting(const ElectorEtcdRequest *request)
{
	return !request->ended && !request->parked && request->deadline >= 0;
}

bool
elector_etcd_busy(const ElectorEtcd *etcd)
{
	for (const ElectorEtcdRequest *request = etcd->requests; request != NULL; request = request->next)
	{
		if (request->call.kind != ELECTOR_CALL_WATCH && !elector_request_is_own(request))
			return true;
	}
	return false;
}

const char *
elector_etcd_endpoint(const ElectorEtcd *etcd)
{
	return etcd->endpoints.all[etcd->current].url;
}

void
elector_etcd_set_patience(ElectorEtcd *etcd, int64_t least)
{
	etcd->patience = least;
}

int64_t
elector_etcd_patience(const ElectorEtcd *etcd)
{
	return elector_endpoint_patience(&etcd->endpoints.all[etcd->current], etcd->patience);
}

static void
choose(ElectorEtcd *etcd, int endpoint)
{
	etcd->current = endpoint;
	etcd->generation++;
}

void
elector_etcd_rotate(ElectorEtcd *etcd)
{
	ElectorEtcdRequest *watch = etcd->watch;

	choose(etcd, elector_endpoints_next(&etcd->endpoints, etcd->current, elector_etcd_now()));
	if (watch != NULL)
		elector_request_end(watch, "gave up this endpoint");
}

/*
 * The request has shown that its endpoint is of no use now.  silent: for how long
 * it has not answered; 0: it has, or it broke off.
 */
static void
give_up_endpoint(ElectorEtcd *etcd, const ElectorEtcdRequest *request, bool transport,
				 int64_t silent)
{
	if (transport)
		elector_endpoint_failed(&etcd->endpoints.all[request->endpoint], elector_etcd_now(), silent);
	if (request->generation != etcd->generation)
		return;
	if (etcd->endpoints.count > 1 || transport)
		elector_etcd_rotate(etcd);
}

/* When the request has waited too long for its endpoint to be given others. */
static int64_t
patience_ends(const ElectorEtcd *etcd, const ElectorEtcdRequest *request)
{
	int64_t		patience = elector_endpoint_patience(&etcd->endpoints.all[request->endpoint],
													 etcd->patience);

	return request->sent_at + (elector_request_is_own(request) ? 2 * patience : patience);
}

/* So long, and not a word since it was sent: nobody is there. */
static bool
is_given_up(const ElectorEtcd *etcd, const ElectorEtcdRequest *request, int64_t now)
{
	return now >= request->sent_at + SILENCE * etcd->patience &&
		etcd->endpoints.all[request->endpoint].answered_at < request->sent_at;
}

/* Later requests go elsewhere; the watch stays until the endpoint is given up. */
static void
lose_patience(ElectorEtcd *etcd)
{
	int64_t		now = elector_etcd_now();

	if (etcd->patience == 0)
		return;
	for (ElectorEtcdRequest *request = etcd->requests; request != NULL; request = request->next)
	{
		ElectorEtcdRequest *watch = etcd->watch;

		if (!is_waiting(request))
			continue;
		if (is_given_up(etcd, request, now) &&
			(request->generation == etcd->generation ||
			 (watch != NULL && !watch->parked && watch->endpoint == request->endpoint)))
			elector_etcd_rotate(etcd);
		else if (request->generation == etcd->generation && etcd->endpoints.count > 1 &&
				 now >= patience_ends(etcd, request))
		{
			elector_endpoint_failed(&etcd->endpoints.all[request->endpoint], now, 0);
			choose(etcd, elector_endpoints_next(&etcd->endpoints, etcd->current, now));
		}
	}
}

static bool
is_silent(const ElectorEtcd *etcd, int endpoint)
{
	int64_t		now = elector_etcd_now();

	for (const ElectorEtcdRequest *request = etcd->requests; request != NULL; request = request->next)
	{
		if (is_waiting(request) && request->endpoint == endpoint &&
			now >= patience_ends(etcd, request))
			return true;
	}
	return false;
}

/* etcd has answered there. */
static void
heard_from(ElectorEtcd *etcd, const ElectorEtcdRequest *request)
{
	ElectorEtcdRequest *watch = etcd->watch;

	elector_endpoint_answered(&etcd->endpoints.all[request->endpoint],
							  elector_etcd_now(),
							  elector_request_is_own(request) ? 0 :
							  elector_etcd_now() - request->sent_at, &etcd->notices);
	if (watch == NULL || watch->parked || etcd->patience == 0)
		return;
	if (watch->endpoint != request->endpoint)
	{
		if (is_silent(etcd, watch->endpoint))
			elector_request_end(watch, "gave up this endpoint");
	}
	else if (etcd->current != watch->endpoint)
		choose(etcd, watch->endpoint);
}

/* ----------
 * Starting and ending requests
 * ----------
 */

/* Behind those that are there. */
static void
enlist(ElectorEtcdRequest *request)
{
	ElectorEtcdRequest **tail = &request->etcd->requests;

	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = request;
	request->next = NULL;
	if (request->call.kind == ELECTOR_CALL_WATCH)
		request->etcd->watch = request;
}

/* One that has ended and been taken out begins anew. */
void
elector_request_again(ElectorEtcdRequest *request)
{
	request->ended = false;
	request->due = false;
	enlist(request);
	elector_request_send(request);
}

/* To the present endpoint, or as soon as there is a token. */
void
elector_request_send(ElectorEtcdRequest *request)
{
	ElectorEtcd *etcd = request->etcd;

	request->parked = !elector_request_is_own(request) && elector_auth_waits(&etcd->auth);
	if (request->parked)
		return;
	request->sendings++;
	request->endpoint = etcd->current;
	request->generation = etcd->generation;
	request->sent_at = elector_etcd_now();
	request->body_sent = 0;
	request->reply.length = 0;
	request->scanned = 0;
	request->header_length = 0;
	request->http_status = 0;
	if (!elector_transfer_start(request))
		elector_request_end(request, NULL);
}

/*
 * Takes the body, NULL if there was no memory for it.  What fails in here ends
 * the request, and the next pump tells.
 */
void
elector_request_start(ElectorEtcd *etcd, const ElectorCall *call, char *body,
					  bool former, int64_t bound_us,
					  ElectorEtcdCallback callback, void *arg)
{
	ElectorEtcdRequest *request = calloc(1, sizeof(ElectorEtcdRequest));

	/*
	 * A request that is not there cannot call back, and a caller that waits
	 * for ever is worse than one that is gone: gates close by the clock (I6).
	 */
	if (request == NULL)
		abort();
	request->etcd = etcd;
	request->call = *call;
	request->callback = callback;
	request->arg = arg;
	request->deadline = elector_etcd_now() + (bound_us > 0 ? bound_us : 0);
	request->body = body;
	request->body_length = body == NULL ? 0 : strlen(body);
	request->former = former;
	request->endpoint = etcd->current;
	enlist(request);
	elector_request_send(request);
}

/* Not to be called from within libcurl. */
void
elector_request_end(ElectorEtcdRequest *request, const char *error)
{
	assert(!request->ended);
	request->ended = true;
	request->parked = false;
	elector_transfer_stop(request);
	if (error != NULL)
		snprintf(request->error, sizeof(request->error), "%s", error);
	if (request->etcd->watch == request)
		request->etcd->watch = NULL;
}

static void
free_request(ElectorEtcdRequest *request)
{
	assert(request->ended);
	if (elector_request_is_own(request))
		elector_file_forget(request->body);
	else
		free(request->body);
	if (elector_request_is_own(request) && request->reply.data != NULL)
		explicit_bzero(request->reply.data, request->reply.size);
	free(request->reply.data);
	free(request);
}

static void
start_lease_request(ElectorEtcd *etcd, ElectorCallKind kind, int64_t lease,
					int64_t bound_us, ElectorEtcdCallback callback, void *arg)
{
	ElectorCall call = {.kind = kind,.lease = lease};

	elector_request_start(etcd, &call, elector_body_lease(lease), false, bound_us, callback, arg);
}

void
elector_etcd_grant(ElectorEtcd *etcd, int64_t ttl, int64_t bound_us,
				   ElectorEtcdCallback callback, void *arg)
{
	ElectorCall call = {.kind = ELECTOR_CALL_GRANT};

	elector_request_start(etcd, &call, elector_body_grant(ttl), false, bound_us, callback, arg);
}

void
elector_etcd_keepalive(ElectorEtcd *etcd, int64_t lease, int64_t bound_us,
					   ElectorEtcdCallback callback, void *arg)
{
	start_lease_request(etcd, ELECTOR_CALL_KEEPALIVE, lease, bound_us, callback, arg);
}

void
elector_etcd_revoke(ElectorEtcd *etcd, int64_t lease, int64_t bound_us,
					ElectorEtcdCallback callback, void *arg)
{
	start_lease_request(etcd, ELECTOR_CALL_REVOKE, lease, bound_us, callback, arg);
}

void
elector_etcd_timetolive(ElectorEtcd *etcd, int64_t lease, int64_t bound_us,
						ElectorEtcdCallback callback, void *arg)
{
	start_lease_request(etcd, ELECTOR_CALL_TIMETOLIVE, lease, bound_us, callback, arg);
}

void
elector_etcd_commit(ElectorEtcd *etcd, ElectorTxn *txn, int64_t bound_us,
					ElectorEtcdCallback callback, void *arg)
{
	ElectorCall call = {.kind = ELECTOR_CALL_TXN};
	char	   *body = elector_body_txn(txn, &call);

	elector_txn_destroy(txn);
	elector_request_start(etcd, &call, body, false, bound_us, callback, arg);
}

void
elector_etcd_watch(ElectorEtcd *etcd, const char *key, const char *range_end,
				   int64_t start_revision, int64_t connect_bound_us,
				   ElectorEtcdCallback callback, void *arg)
{
	ElectorCall call = {.kind = ELECTOR_CALL_WATCH};

	/* The one before ends silently, even if it has ended but not yet told. */
	if (etcd->watch != NULL)
		elector_request_end(etcd->watch, NULL);
	for (ElectorEtcdRequest *request = etcd->requests; request != NULL; request = request->next)
	{
		if (request->call.kind == ELECTOR_CALL_WATCH)
			request->callback = NULL;
	}
	elector_request_start(etcd, &call, elector_body_watch(key, range_end, start_revision),
						  false, connect_bound_us, callback, arg);
}

bool
elector_etcd_watching(const ElectorEtcd *etcd)
{
	return etcd->watch != NULL;
}

/* ----------
 * Making progress
 * ----------
 */

static void
call_back(const ElectorEtcdRequest *request, ElectorGatewayAnswer *answer)
{
	answer->reply.endpoint = request->etcd->endpoints.all[request->endpoint].url;
	if (request->callback != NULL)
		request->callback(request->arg, &answer->reply);
}

/*
 * One message of the watch.  A message that is not OK is its last: the request
 * ends with that message as its answer, to be delivered as any other.
 */
static void
watch_message(ElectorEtcdRequest *request, const char *text, size_t length)
{
	ElectorGatewayAnswer answer;

	elector_answer_read(&answer, &request->call, request->http_status, text, length);
	if (answer.reply.status == ELECTOR_ETCD_OK)
	{
		if (request->deadline >= 0)
			heard_from(request->etcd, request);
		request->deadline = -1;
		call_back(request, &answer);
	}
	else
	{
		elector_buffer_consume(&request->reply, (size_t) (text - request->reply.data));
		request->reply.length = length;
		request->answered = true;
		elector_request_end(request, NULL);
	}
	elector_answer_free(&answer);
}

/* The lines that the watch has received so far. */
static void
run_watch(ElectorEtcd *etcd)
{
	ElectorEtcdRequest *request = etcd->watch;
	size_t		start = 0;
	bool		too_large = false;

	if (request == NULL || request->parked || request->reply.length == 0)
		return;
	curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &request->http_status);
	if (request->http_status != 200)
		return;					/* an error; wait for all of it */

	while (!request->ended && !too_large &&
		   request->scanned < request->reply.length)
	{
		char	   *line = request->reply.data + start;
		char	   *newline = memchr(request->reply.data + request->scanned, '\n',
									 request->reply.length - request->scanned);
		size_t		length;

		if (newline == NULL)
		{
			request->scanned = request->reply.length;
			break;
		}
		*newline = '\0';
		length = (size_t) (newline - line);
		start += length + 1;
		request->scanned = start;
		if (length > ELECTOR_ETCD_REPLY_MAX)
			too_large = true;
		else if (length > 0)
			watch_message(request, line, length);
	}
	if (request->ended)
		return;
	elector_buffer_consume(&request->reply, start);
	request->scanned -= start;
	if (too_large || request->reply.length > ELECTOR_ETCD_REPLY_MAX)
	{
		elector_request_end(request, "watch message is too large");
		give_up_endpoint(etcd, request, true, 0);
	}
}

/* End the requests whose transfer has ended. */
static void
collect_transfers(ElectorEtcd *etcd)
{
	ElectorEtcdRequest *request;
	bool		answered;

	while ((request = elector_transfers_next(etcd, &answered)) != NULL)
	{
		request->answered = answered;
		elector_request_end(request, NULL);
		if (!answered)
			give_up_endpoint(etcd, request, true, 0);
	}
}

/* End the requests whose bound has passed. */
static void
expire_requests(ElectorEtcd *etcd)
{
	int64_t		now = elector_etcd_now();

	for (ElectorEtcdRequest *request = etcd->requests; request != NULL; request = request->next)
	{
		if (request->ended || request->deadline < 0 || now < request->deadline)
			continue;
		if (request->parked)
			elector_request_end(request, etcd->auth.problem[0] != '\0' ? etcd->auth.problem :
								"no token in time");
		else
		{
			elector_request_end(request, "no reply in time");
			give_up_endpoint(etcd, request, true, now - request->sent_at);
		}
	}
}

static void
deliver(ElectorEtcdRequest *request)
{
	ElectorEtcd *etcd = request->etcd;
	ElectorGatewayAnswer answer = {.unavailable = false};

	if (!request->answered)
		elector_answer_fail(&answer, ELECTOR_ETCD_UNKNOWN, false, "%s", request->error);
	else
	{
		const char *text = request->reply.data;

		elector_answer_read(&answer, &request->call, request->http_status,
							request->reply.length == 0 ? "" : text, request->reply.length);

		/* a watch never ends well */
		if (request->call.kind == ELECTOR_CALL_WATCH &&
			(request->reply.length == 0 || answer.reply.status == ELECTOR_ETCD_OK))
			elector_answer_fail(&answer, ELECTOR_ETCD_UNKNOWN, true,
								"watch ended, HTTP status %ld", request->http_status);
		elector_token_explain_name(request, &answer);
		if (answer.unavailable)
			give_up_endpoint(etcd, request, false, 0);
		else
			heard_from(etcd, request);
	}
	if (elector_request_is_own(request))
		elector_token_answered(request, &answer);
	else if (elector_token_send_again(request, &answer))
	{
		elector_answer_free(&answer);
		return;
	}
	else
	{
		elector_token_explain(request, &answer);
		call_back(request, &answer);
	}
	elector_answer_free(&answer);
	free_request(request);
}

/* Take the oldest request that is due out of the list. */
static ElectorEtcdRequest *
next_due(ElectorEtcd *etcd)
{
	for (ElectorEtcdRequest **link = &etcd->requests; *link != NULL; link = &(*link)->next)
	{
		ElectorEtcdRequest *request = *link;

		if (request->due)
		{
			*link = request->next;
			return request;
		}
	}
	return NULL;
}

/*
 * Deliver what has ended by now.  What a callback ends, or starts in vain, is
 * for the next pump: this loop has an end.
 */
static void
deliver_requests(ElectorEtcd *etcd)
{
	ElectorEtcdRequest *request;

	for (request = etcd->requests; request != NULL; request = request->next)
		request->due = request->ended;
	while ((request = next_due(etcd)) != NULL)
		deliver(request);
}

void
elector_etcd_pump(ElectorEtcd *etcd)
{
	assert(!etcd->pumping);
	etcd->pumping = true;
	elector_transfers_run(etcd);
	run_watch(etcd);
	collect_transfers(etcd);
	expire_requests(etcd);
	lose_patience(etcd);
	deliver_requests(etcd);
	elector_token_keep(etcd);
	etcd->pumping = false;
}

int
elector_etcd_fd(const ElectorEtcd *etcd)
{
	return etcd->epoll_fd;
}

static void
sooner(int64_t *timeout, int64_t at, int64_t now)
{
	int64_t		left = at > now ? at - now : 0;

	if (*timeout < 0 || left < *timeout)
		*timeout = left;
}

int64_t
elector_etcd_timeout(const ElectorEtcd *etcd)
{
	int64_t		now = elector_etcd_now();
	int64_t		timeout = -1;
	int64_t		next = elector_auth_next(&etcd->auth);
	long		curl_ms = -1;

	curl_multi_timeout(etcd->multi, &curl_ms);
	if (curl_ms >= 0)
		timeout = (int64_t) curl_ms * 1000;
	if (next >= 0 && !elector_token_is_asked(etcd))
		sooner(&timeout, next, now);
	for (const ElectorEtcdRequest *request = etcd->requests; request != NULL; request = request->next)
	{
		if (request->ended || (request->parked && !elector_token_may_come(etcd)))
			return 0;
		if (request->deadline >= 0)
			sooner(&timeout, request->deadline, now);
		if (is_waiting(request) && request->generation == etcd->generation &&
			etcd->patience > 0)
		{
			if (etcd->endpoints.count > 1)
				sooner(&timeout, patience_ends(etcd, request), now);
			else if (etcd->endpoints.all[0].answered_at < request->sent_at)
				sooner(&timeout, request->sent_at + SILENCE * etcd->patience, now);
		}
	}
	return timeout;
}

/* ----------
 * The client
 * ----------
 */

static bool
differs(const char *present, const char *wanted)
{
	return strcmp(present, wanted != NULL ? wanted : "") != 0;
}

void
elector_etcd_configure(ElectorEtcd *etcd, const ElectorEtcdSettings *settings)
{
	ElectorTls *tls = &etcd->tls;
	ElectorAuth *auth = &etcd->auth;

	if (differs(tls->ca.path, settings->ca_file) ||
		differs(tls->cert.path, settings->cert_file) ||
		differs(tls->key.path, settings->key_file))
		elector_tls_move(tls, settings->ca_file, settings->cert_file, settings->key_file);
	if (differs(auth->user, settings->user))
	{
		elector_auth_forget(auth);
		elector_auth_init(auth, settings->user, settings->password_file);
	}
	else
		elector_auth_move(auth, settings->password_file);
}

const char *
elector_etcd_token(const ElectorEtcd *etcd)
{
	return etcd->auth.token;
}

void
elector_etcd_listen(ElectorEtcd *etcd, ElectorEtcdNotice callback, void *arg)
{
	etcd->notices.callback = callback;
	etcd->notices.arg = arg;
}

ElectorEtcd *
elector_etcd_create(const ElectorEtcdSettings *settings, const char **error)
{
	static bool initialized = false;
	ElectorEtcd *etcd;

	if (!initialized && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
	{
		*error = "could not initialize libcurl";
		return NULL;
	}
	initialized = true;

	etcd = calloc(1, sizeof(ElectorEtcd));
	if (etcd == NULL)
	{
		*error = "out of memory";
		return NULL;
	}
	etcd->epoll_fd = -1;
	*error = elector_endpoints_parse(settings->endpoints, &etcd->endpoints);
	if (*error == NULL && !elector_transfers_begin(etcd))
		*error = "could not set up libcurl";
	if (*error != NULL)
	{
		elector_etcd_destroy(etcd);
		return NULL;
	}
	elector_etcd_configure(etcd, settings);
	elector_auth_inherit(&etcd->auth, settings->token);
	return etcd;
}

void
elector_etcd_destroy(ElectorEtcd *etcd)
{
	if (etcd == NULL)
		return;
	assert(!etcd->pumping);
	while (etcd->requests != NULL)
	{
		ElectorEtcdRequest *request = etcd->requests;

		etcd->requests = request->next;
		if (!request->ended)
			elector_request_end(request, NULL);
		free_request(request);
	}
	elector_transfers_end(etcd);
	elector_auth_forget(&etcd->auth);
	elector_tls_forget(&etcd->tls);
	free(etcd);
}
