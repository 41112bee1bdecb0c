/*
 * client.c
 *	  An asynchronous client of etcd's v3 JSON gateway: the transport.
 *
 * Every request is one HTTP/1.1 POST on a libcurl easy handle; what is in it
 * and what its answer means is gateway.c's business.  The multi handle keeps
 * connections open between requests, so that a renewal is one round trip.  Its
 * sockets are collected in one epoll descriptor, which the caller waits on: an
 * epoll descriptor is itself readable when one of its members is ready, so that
 * this needs no private waiting.  Its timer is not a descriptor; the caller
 * asks elector_etcd_timeout().
 *
 * A request passes through three states.  It is started (its easy handle is in
 * the multi handle), ended (the outcome is known, the easy handle is gone) and
 * delivered (the callback has been made, and it is freed).  Only
 * elector_etcd_pump() delivers, and nothing else frees; so a callback may start
 * requests, rotate, or replace the watch that it is the callback of.
 *
 * Endpoints are used one at a time.  A failure moves on to the next only if the
 * request was started on the present choice: `generation` counts the choices,
 * or else several requests failing together would rotate back to the endpoint
 * that failed them.  With a single endpoint there is nowhere to go, and an
 * answer that says "unavailable" leaves the watch alone; silence ends it.
 *
 * The one trap: libcurl repeats a request on its own when a kept-open
 * connection turns out to be dead, although etcd may have executed it before
 * the connection broke.  A transaction would then be reported as "comparisons
 * did not hold" because of its own first execution.  The body is therefore
 * handed out by a read callback that refuses to start over: such a request ends
 * as ELECTOR_ETCD_UNKNOWN.
 *
 * The process ignores SIGPIPE: libcurl was told to keep its hands off signals.
 * A child process must not touch a client that its parent created: the epoll
 * descriptor is shared between them.
 *
 * Called by the worker's loop and by the program.
 */
#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "endpoints.h"
#include "gateway.h"

#define PATH_SIZE			32	/* fits each of elector_call_path() */
#define URL_SIZE			(ELECTOR_ENDPOINT_SIZE + PATH_SIZE)

/* No response's header is larger; etcd's have some 300 bytes. */
#define HEADER_MAX			(64 * 1024)

/*
 * A watch's buffer holds the message that is not yet complete and what one
 * round of reading has added, which libcurl limits to less than this.
 */
#define WATCH_BUFFER_MAX	(2 * ELECTOR_ETCD_REPLY_MAX)

/* Sockets served in one round; the others remain readable. */
#define EVENTS_MAX			32

/*
 * A watch is silent for hours; a host that vanished shows after
 * IDLE + INTERVAL * COUNT = 11 seconds, if no renewal fails before.
 */
#define TCP_IDLE_SECONDS		5
#define TCP_INTERVAL_SECONDS	2
#define TCP_PROBES				3

typedef struct Buffer
{
	char	   *data;			/* NUL-terminated, or NULL while empty */
	size_t		length;
	size_t		size;
} Buffer;

typedef struct Request
{
	struct Request *next;
	ElectorEtcd *etcd;
	ElectorCall call;
	ElectorEtcdCallback callback;	/* NULL: nobody wants to know any more */
	void	   *arg;

	CURL	   *easy;			/* NULL when ended */
	int			endpoint;		/* index of, ... */
	uint64_t	generation;		/* ... and chosen as of */
	int64_t		deadline;		/* -1: none (a watch that was created) */

	char	   *body;
	size_t		body_length;
	size_t		body_sent;

	Buffer		reply;
	size_t		scanned;		/* a watch: no newline before this offset */
	size_t		header_length;
	const char *too_large;		/* what was, or NULL */

	bool		ended;
	bool		due;			/* to be delivered in this pump */
	bool		answered;		/* ended with an HTTP response */
	long		http_status;
	char		error[CURL_ERROR_SIZE]; /* libcurl's, or why there is no
										 * answer */
} Request;

struct ElectorEtcd
{
	CURLM	   *multi;
	int			epoll_fd;
	struct curl_slist *headers;
	struct curl_slist *watch_headers;

	ElectorEndpoints endpoints;
	int			current;
	uint64_t	generation;

	Request    *requests;		/* oldest first */
	Request    *watch;			/* the one that has not ended, or NULL */
	bool		pumping;
};

static void end_request(Request *request, const char *error);

/* Microseconds; goes on while the machine sleeps, as a lease does. */
static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ----------
 * Buffers
 * ----------
 */

static bool
buffer_append(Buffer *buffer, const char *data, size_t length)
{
	size_t		needed = buffer->length + length + 1;

	if (needed > buffer->size)
	{
		size_t		size = buffer->size == 0 ? 1024 : buffer->size;
		char	   *grown;

		while (size < needed)
			size *= 2;
		grown = realloc(buffer->data, size);
		if (grown == NULL)
			return false;
		buffer->data = grown;
		buffer->size = size;
	}
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	buffer->data[buffer->length] = '\0';
	return true;
}

static void
buffer_consume(Buffer *buffer, size_t length)
{
	if (length == 0)
		return;
	memmove(buffer->data, buffer->data + length, buffer->length - length + 1);
	buffer->length -= length;
}

/* ----------
 * Endpoints
 * ----------
 */

bool
elector_etcd_busy(const ElectorEtcd *etcd)
{
	for (const Request *request = etcd->requests; request != NULL; request = request->next)
	{
		if (request->call.kind != ELECTOR_CALL_WATCH)
			return true;
	}
	return false;
}

const char *
elector_etcd_endpoint(const ElectorEtcd *etcd)
{
	return etcd->endpoints.url[etcd->current];
}

void
elector_etcd_rotate(ElectorEtcd *etcd)
{
	Request    *watch = etcd->watch;

	etcd->current = (etcd->current + 1) % etcd->endpoints.count;
	etcd->generation++;
	if (watch != NULL)
		end_request(watch, "gave up this endpoint");
}

/* The request has shown that its endpoint is of no use now. */
static void
give_up_endpoint(ElectorEtcd *etcd, const Request *request, bool transport)
{
	if (request->generation != etcd->generation)
		return;
	if (etcd->endpoints.count > 1 || transport)
		elector_etcd_rotate(etcd);
}

/* ----------
 * What libcurl calls
 * ----------
 */

static int
socket_changed(CURL *easy, curl_socket_t fd, int what, void *arg, void *unused)
{
	ElectorEtcd *etcd = arg;
	struct epoll_event event = {.data.fd = fd};

	(void) easy;
	(void) unused;
	if (what == CURL_POLL_REMOVE)
	{
		epoll_ctl(etcd->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	if (what & CURL_POLL_IN)
		event.events |= EPOLLIN;
	if (what & CURL_POLL_OUT)
		event.events |= EPOLLOUT;
	if (epoll_ctl(etcd->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
		return 0;
	if (errno == ENOENT &&
		epoll_ctl(etcd->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
		return 0;
	return -1;
}

/* The process may start programs; they inherit none of this. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void) arg;
	(void) purpose;
	return socket(address->family, address->socktype | SOCK_CLOEXEC,
				  address->protocol);
}

static int
set_socket_options(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	int			probes = TCP_PROBES;

	(void) arg;
	(void) purpose;
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
	return CURL_SOCKOPT_OK;
}

static size_t
send_body(char *data, size_t size, size_t nitems, void *arg)
{
	Request    *request = arg;
	size_t		length = request->body_length - request->body_sent;

	if (length > size * nitems)
		length = size * nitems;
	memcpy(data, request->body + request->body_sent, length);
	request->body_sent += length;
	return length;
}

/* Called to send the body anew: never, see the head of this file. */
static int
rewind_body(void *arg, curl_off_t offset, int origin)
{
	(void) arg;
	(void) offset;
	(void) origin;
	return CURL_SEEKFUNC_FAIL;
}

static size_t
receive_header(char *data, size_t size, size_t nitems, void *arg)
{
	Request    *request = arg;

	(void) data;
	request->header_length += size * nitems;
	if (request->header_length > HEADER_MAX)
	{
		request->too_large = "header of the reply is too large";
		return 0;
	}
	return size * nitems;
}

static size_t
receive_body(char *data, size_t size, size_t nitems, void *arg)
{
	Request    *request = arg;
	size_t		length = size * nitems;
	size_t		max = ELECTOR_ETCD_REPLY_MAX;

	if (request->call.kind == ELECTOR_CALL_WATCH)
		max = WATCH_BUFFER_MAX;
	if (length > max - request->reply.length)
	{
		request->too_large = "reply is too large";
		return 0;
	}
	return buffer_append(&request->reply, data, length) ? length : 0;
}

/* ----------
 * Starting and ending requests
 * ----------
 */

/* Remembers a failure; CURLOPT_URL needs memory, for one. */
#define SET(option, value) \
	do { \
		CURLcode	code_ = curl_easy_setopt(easy, option, value); \
		if (code_ != CURLE_OK) \
			failed = code_; \
	} while (0)

static bool
set_transport_options(Request *request)
{
	CURL	   *easy = request->easy;
	CURLcode	failed = CURLE_OK;

	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");		/* not even the environment's */
	SET(CURLOPT_TCP_NODELAY, 1L);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_TCP_KEEPIDLE, (long) TCP_IDLE_SECONDS);
	SET(CURLOPT_TCP_KEEPINTVL, (long) TCP_INTERVAL_SECONDS);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_SOCKOPTFUNCTION, set_socket_options);
	SET(CURLOPT_ERRORBUFFER, request->error);
#if LIBCURL_VERSION_NUM >= 0x075500
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
#else
	SET(CURLOPT_PROTOCOLS, (long) (CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
#if LIBCURL_VERSION_NUM >= 0x075700
	/* giving up does not wait for the thread that resolves a name */
	SET(CURLOPT_QUICK_EXIT, 1L);
#endif
	return failed == CURLE_OK;
}

static bool
set_request_options(Request *request)
{
	ElectorEtcd *etcd = request->etcd;
	bool		watch = request->call.kind == ELECTOR_CALL_WATCH;
	CURL	   *easy = request->easy;
	CURLcode	failed = CURLE_OK;
	char		url[URL_SIZE];

	snprintf(url, sizeof(url), "%s%s", etcd->endpoints.url[request->endpoint],
			 elector_call_path(request->call.kind));
	SET(CURLOPT_URL, url);		/* is copied */
	SET(CURLOPT_PRIVATE, request);
	SET(CURLOPT_HTTPHEADER, watch ? etcd->watch_headers : etcd->headers);
	SET(CURLOPT_POST, 1L);
	SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) request->body_length);
	SET(CURLOPT_READFUNCTION, send_body);
	SET(CURLOPT_READDATA, request);
	SET(CURLOPT_SEEKFUNCTION, rewind_body);
	SET(CURLOPT_HEADERFUNCTION, receive_header);
	SET(CURLOPT_HEADERDATA, request);
	SET(CURLOPT_WRITEFUNCTION, receive_body);
	SET(CURLOPT_WRITEDATA, request);
	return failed == CURLE_OK;
}

#undef SET

/*
 * Takes the body, NULL if there was no memory for it.  What fails in here ends
 * the request, and the next pump tells.
 */
static Request *
start_request(ElectorEtcd *etcd, const ElectorCall *call, char *body,
			  int64_t bound_us, ElectorEtcdCallback callback, void *arg)
{
	Request    *request = calloc(1, sizeof(Request));
	Request   **tail = &etcd->requests;

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
	request->endpoint = etcd->current;
	request->generation = etcd->generation;
	request->deadline = now_us() + (bound_us > 0 ? bound_us : 0);
	request->body = body;
	request->body_length = body == NULL ? 0 : strlen(body);
	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = request;
	if (call->kind == ELECTOR_CALL_WATCH)
		etcd->watch = request;

	if (body == NULL || (request->easy = curl_easy_init()) == NULL)
		end_request(request, "out of memory");
	else if (!set_transport_options(request) || !set_request_options(request))
		end_request(request, "could not set up the request");
	else if (curl_multi_add_handle(etcd->multi, request->easy) != CURLM_OK)
		end_request(request, "could not start the request");
	return request;
}

/* Not to be called from within libcurl. */
static void
end_request(Request *request, const char *error)
{
	assert(!request->ended);
	request->ended = true;
	if (request->easy != NULL)
	{
		curl_multi_remove_handle(request->etcd->multi, request->easy);
		curl_easy_cleanup(request->easy);
		request->easy = NULL;
	}
	if (error != NULL)
		snprintf(request->error, sizeof(request->error), "%s", error);
	if (request->etcd->watch == request)
		request->etcd->watch = NULL;
}

static void
free_request(Request *request)
{
	assert(request->ended);
	free(request->body);
	free(request->reply.data);
	free(request);
}

static void
start_lease_request(ElectorEtcd *etcd, ElectorCallKind kind, int64_t lease,
					int64_t bound_us, ElectorEtcdCallback callback, void *arg)
{
	ElectorCall call = {.kind = kind,.lease = lease};

	start_request(etcd, &call, elector_body_lease(lease), bound_us, callback, arg);
}

void
elector_etcd_grant(ElectorEtcd *etcd, int64_t ttl, int64_t bound_us,
				   ElectorEtcdCallback callback, void *arg)
{
	ElectorCall call = {.kind = ELECTOR_CALL_GRANT};

	start_request(etcd, &call, elector_body_grant(ttl), bound_us, callback, arg);
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
	start_request(etcd, &call, body, bound_us, callback, arg);
}

void
elector_etcd_watch(ElectorEtcd *etcd, const char *key, const char *range_end,
				   int64_t start_revision, int64_t connect_bound_us,
				   ElectorEtcdCallback callback, void *arg)
{
	ElectorCall call = {.kind = ELECTOR_CALL_WATCH};

	/* The one before ends silently, even if it has ended but not yet told. */
	if (etcd->watch != NULL)
		end_request(etcd->watch, NULL);
	for (Request *request = etcd->requests; request != NULL; request = request->next)
	{
		if (request->call.kind == ELECTOR_CALL_WATCH)
			request->callback = NULL;
	}
	start_request(etcd, &call, elector_body_watch(key, range_end, start_revision),
				  connect_bound_us, callback, arg);
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

/* Let libcurl work on the sockets that are ready, and on its timers. */
static void
run_transfers(ElectorEtcd *etcd)
{
	struct epoll_event events[EVENTS_MAX];
	int			running;
	int			nevents = epoll_wait(etcd->epoll_fd, events, EVENTS_MAX, 0);

	for (int i = 0; i < nevents; i++)
	{
		int			what = 0;

		if (events[i].events & EPOLLIN)
			what |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			what |= CURL_CSELECT_ERR;
		curl_multi_socket_action(etcd->multi, events[i].data.fd, what, &running);
	}
	curl_multi_socket_action(etcd->multi, CURL_SOCKET_TIMEOUT, 0, &running);
}

static void
call_back(const Request *request, ElectorGatewayAnswer *answer)
{
	answer->reply.endpoint = request->etcd->endpoints.url[request->endpoint];
	if (request->callback != NULL)
		request->callback(request->arg, &answer->reply);
}

/*
 * One message of the watch.  A message that is not OK is its last: the request
 * ends with that message as its answer, to be delivered as any other.
 */
static void
watch_message(Request *request, const char *text, size_t length)
{
	ElectorGatewayAnswer answer;

	elector_answer_read(&answer, &request->call, request->http_status, text, length);
	if (answer.reply.status == ELECTOR_ETCD_OK)
	{
		request->deadline = -1;
		call_back(request, &answer);
	}
	else
	{
		buffer_consume(&request->reply, (size_t) (text - request->reply.data));
		request->reply.length = length;
		request->answered = true;
		end_request(request, NULL);
	}
	elector_answer_free(&answer);
}

/* The lines that the watch has received so far. */
static void
run_watch(ElectorEtcd *etcd)
{
	Request    *request = etcd->watch;
	size_t		start = 0;
	bool		too_large = false;

	if (request == NULL || request->reply.length == 0)
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
	buffer_consume(&request->reply, start);
	request->scanned -= start;
	if (too_large || request->reply.length > ELECTOR_ETCD_REPLY_MAX)
	{
		end_request(request, "watch message is too large");
		give_up_endpoint(etcd, request, true);
	}
}

/* End the requests whose transfer has ended. */
static void
collect_transfers(ElectorEtcd *etcd)
{
	CURLMsg    *message;
	int			left;

	while ((message = curl_multi_info_read(etcd->multi, &left)) != NULL)
	{
		CURLcode	result = message->data.result;
		Request    *request;

		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
		if (result == CURLE_OK)
		{
			curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE,
							  &request->http_status);
			request->answered = true;
			end_request(request, NULL);
		}
		else
		{
			const char *error = request->too_large;

			if (error == NULL && request->error[0] == '\0')
				error = curl_easy_strerror(result);
			end_request(request, error);
			give_up_endpoint(etcd, request, true);
		}
	}
}

/* End the requests whose bound has passed. */
static void
expire_requests(ElectorEtcd *etcd)
{
	int64_t		now = now_us();

	for (Request *request = etcd->requests; request != NULL; request = request->next)
	{
		if (request->ended || request->deadline < 0 || now < request->deadline)
			continue;
		end_request(request, "no reply in time");
		give_up_endpoint(etcd, request, true);
	}
}

static void
deliver(Request *request)
{
	ElectorEtcd *etcd = request->etcd;
	ElectorGatewayAnswer answer = {.unavailable = false};

	if (!request->answered)
		elector_answer_fail(&answer, ELECTOR_ETCD_UNKNOWN, false, "%s", request->error);
	else
	{
		const char *text = request->reply.data;

		elector_answer_read(&answer, &request->call, request->http_status,
							text == NULL ? "" : text, request->reply.length);

		/* a watch never ends well */
		if (request->call.kind == ELECTOR_CALL_WATCH &&
			(request->reply.length == 0 || answer.reply.status == ELECTOR_ETCD_OK))
			elector_answer_fail(&answer, ELECTOR_ETCD_UNKNOWN, true,
								"watch ended, HTTP status %ld", request->http_status);
	}
	if (answer.unavailable)
		give_up_endpoint(etcd, request, false);
	call_back(request, &answer);
	elector_answer_free(&answer);
	free_request(request);
}

/* Take the oldest request that is due out of the list. */
static Request *
next_due(ElectorEtcd *etcd)
{
	for (Request **link = &etcd->requests; *link != NULL; link = &(*link)->next)
	{
		Request    *request = *link;

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
	Request    *request;

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
	run_transfers(etcd);
	run_watch(etcd);
	collect_transfers(etcd);
	expire_requests(etcd);
	deliver_requests(etcd);
	etcd->pumping = false;
}

int
elector_etcd_fd(const ElectorEtcd *etcd)
{
	return etcd->epoll_fd;
}

int64_t
elector_etcd_timeout(const ElectorEtcd *etcd)
{
	int64_t		now = now_us();
	int64_t		timeout = -1;
	long		curl_ms = -1;

	curl_multi_timeout(etcd->multi, &curl_ms);
	if (curl_ms >= 0)
		timeout = (int64_t) curl_ms * 1000;
	for (const Request *request = etcd->requests; request != NULL; request = request->next)
	{
		int64_t		left;

		if (request->ended)
			return 0;
		if (request->deadline < 0)
			continue;
		left = request->deadline > now ? request->deadline - now : 0;
		if (timeout < 0 || left < timeout)
			timeout = left;
	}
	return timeout;
}

/* ----------
 * The client
 * ----------
 */

static bool
append_header(struct curl_slist **headers, const char *header)
{
	struct curl_slist *appended = curl_slist_append(*headers, header);

	if (appended == NULL)
		return false;
	*headers = appended;
	return true;
}

static bool
make_headers(struct curl_slist **headers, bool watch)
{
	return append_header(headers, "Content-Type: application/json") &&
		append_header(headers, "Expect:") &&
		(!watch || append_header(headers, "Grpc-Metadata-hasleader: true"));
}

ElectorEtcd *
elector_etcd_create(const char *endpoints, const char **error)
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
	*error = elector_endpoints_parse(endpoints, &etcd->endpoints);
	if (*error != NULL)
	{
		elector_etcd_destroy(etcd);
		return NULL;
	}
	etcd->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	etcd->multi = curl_multi_init();
	if (etcd->epoll_fd < 0 || etcd->multi == NULL ||
		curl_multi_setopt(etcd->multi, CURLMOPT_SOCKETFUNCTION, socket_changed) != CURLM_OK ||
		curl_multi_setopt(etcd->multi, CURLMOPT_SOCKETDATA, etcd) != CURLM_OK ||
		!make_headers(&etcd->headers, false) ||
		!make_headers(&etcd->watch_headers, true))
	{
		*error = "could not set up libcurl";
		elector_etcd_destroy(etcd);
		return NULL;
	}
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
		Request    *request = etcd->requests;

		etcd->requests = request->next;
		if (!request->ended)
			end_request(request, NULL);
		free_request(request);
	}
	if (etcd->multi != NULL)
		curl_multi_cleanup(etcd->multi);
	curl_slist_free_all(etcd->headers);
	curl_slist_free_all(etcd->watch_headers);
	if (etcd->epoll_fd >= 0)
		close(etcd->epoll_fd);
	free(etcd);
}
