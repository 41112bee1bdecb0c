/*
 * transfer.c
 *	  What of a request goes through libcurl.
 *
 * Every request is one HTTP/1.1 POST on a libcurl easy handle.  The multi handle
 * keeps connections open between requests, so that a renewal is one round trip.
 * Its sockets are collected in one epoll descriptor, which the caller waits on: an
 * epoll descriptor is itself readable when one of its members is ready, so that
 * this needs no private waiting.  Its timer is not a descriptor; the caller asks
 * elector_etcd_timeout().
 *
 * The one trap: libcurl repeats a request on its own when a kept-open
 * connection turns out to be dead, although etcd may have executed it before
 * the connection broke.  A transaction would then be reported as "comparisons
 * did not hold" because of its own first execution.  The body is therefore
 * handed out by a read callback that refuses to start over: such a request ends
 * as ELECTOR_ETCD_UNKNOWN.
 *
 * The process ignores SIGPIPE: libcurl was told to keep its hands off signals.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "request.h"

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

/* ----------
 * Buffers
 * ----------
 */

static bool
buffer_append(ElectorBuffer *buffer, const char *data, size_t length)
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

void
elector_buffer_consume(ElectorBuffer *buffer, size_t length)
{
	if (length == 0)
		return;
	memmove(buffer->data, buffer->data + length, buffer->length - length + 1);
	buffer->length -= length;
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
	ElectorEtcdRequest *request = arg;
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
	ElectorEtcdRequest *request = arg;

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
	ElectorEtcdRequest *request = arg;
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
 * Starting and stopping
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
set_transport_options(ElectorEtcdRequest *request)
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
	SET(CURLOPT_ERRORBUFFER, request->said);
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
append_header(struct curl_slist **headers, const char *header)
{
	struct curl_slist *appended = curl_slist_append(*headers, header);

	if (appended == NULL)
		return false;
	*headers = appended;
	return true;
}

/* The token goes with every request: newer etcds want it with each. */
static bool
make_headers(ElectorEtcdRequest *request)
{
	const ElectorAuth *auth = &request->etcd->auth;
	char		authorization[ELECTOR_TOKEN_SIZE + 32];
	bool		made;

	made = append_header(&request->headers, "Content-Type: application/json") &&
		append_header(&request->headers, "Expect:");
	if (request->call.kind == ELECTOR_CALL_WATCH)
		made = made && append_header(&request->headers, "Grpc-Metadata-hasleader: true");
	request->token = 0;
	if (auth->token[0] != '\0' && request->call.kind != ELECTOR_CALL_AUTHENTICATE)
	{
		snprintf(authorization, sizeof(authorization), "Authorization: %s", auth->token);
		made = made && append_header(&request->headers, authorization);
		request->token = auth->number;
		explicit_bzero(authorization, sizeof(authorization));
	}
	return made;
}

static bool
set_request_options(ElectorEtcdRequest *request)
{
	ElectorEtcd *etcd = request->etcd;
	CURL	   *easy = request->easy;
	CURLcode	failed = CURLE_OK;
	char		url[URL_SIZE];

	snprintf(url, sizeof(url), "%s%s", etcd->endpoints.all[request->endpoint].url,
			 elector_call_path(request->call.kind));
	SET(CURLOPT_URL, url);		/* is copied */
	SET(CURLOPT_PRIVATE, request);
	SET(CURLOPT_HTTPHEADER, request->headers);
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

bool
elector_transfer_start(ElectorEtcdRequest *request)
{
	ElectorEtcd *etcd = request->etcd;
	const ElectorEndpoint *endpoint = &etcd->endpoints.all[request->endpoint];
	const char *error = NULL;

	if (elector_endpoint_is_tls(endpoint) &&
		!elector_tls_refresh(&etcd->tls, request->sent_at, &etcd->notices))
		error = etcd->tls.problem;
	else if (request->body == NULL || (request->easy = curl_easy_init()) == NULL)
		error = "out of memory";
	else if (!make_headers(request) || !set_transport_options(request) ||
			 !set_request_options(request) ||
			 !elector_tls_apply(&etcd->tls, request->easy, endpoint->unclear))
		error = "could not set up the request";
	else if (curl_multi_add_handle(etcd->multi, request->easy) != CURLM_OK)
		error = "could not start the request";
	if (error == NULL)
		return true;
	snprintf(request->error, sizeof(request->error), "%s", error);
	elector_transfer_stop(request);
	return false;
}

/* Not to be called from within libcurl. */
void
elector_transfer_stop(ElectorEtcdRequest *request)
{
	if (request->easy != NULL)
	{
		curl_multi_remove_handle(request->etcd->multi, request->easy);
		curl_easy_cleanup(request->easy);
		request->easy = NULL;
	}
	curl_slist_free_all(request->headers);
	request->headers = NULL;
}

/* ----------
 * Making progress
 * ----------
 */

void
elector_transfers_run(ElectorEtcd *etcd)
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

/*
 * Why there is no response.  What is wrong with a certificate is told once, since
 * another endpoint may hide it; what comes and goes is not.
 */
static void
explain_failure(ElectorEtcdRequest *request, CURLcode result)
{
	ElectorEtcd *etcd = request->etcd;
	ElectorEndpoint *endpoint = &etcd->endpoints.all[request->endpoint];
	const char *said = request->said[0] != '\0' ? request->said : curl_easy_strerror(result);
	const char *hint;

	request->error[0] = '\0';
	if (request->too_large != NULL)
		said = request->too_large;
	else if (elector_endpoint_is_tls(endpoint) &&
			 elector_tls_explain(&etcd->tls, request->easy, result, said, request->error,
								 sizeof(request->error), &hint, &endpoint->unclear))
		elector_endpoint_tell(endpoint, request->sent_at, request->error, hint, &etcd->notices);
	else if (result == CURLE_GOT_NOTHING && !elector_endpoint_is_tls(endpoint))
		snprintf(request->error, sizeof(request->error),
				 "%s; if that etcd uses TLS, its endpoint begins with \"https://\"", said);

	/* What is known of it says more than how it showed this time. */
	if (endpoint->unclear && endpoint->trouble[0] != '\0')
		snprintf(request->error, sizeof(request->error), "%s", endpoint->trouble);
	if (request->error[0] == '\0')
		snprintf(request->error, sizeof(request->error), "%s", said);
}

ElectorEtcdRequest *
elector_transfers_next(ElectorEtcd *etcd, bool *answered)
{
	ElectorEtcdRequest *request;
	CURLMsg    *message;
	int			left;

	message = curl_multi_info_read(etcd->multi, &left);
	if (message == NULL)
		return NULL;
	*answered = message->data.result == CURLE_OK;
	curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
	if (*answered)
		curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &request->http_status);
	else
		explain_failure(request, message->data.result);
	return request;
}

/* ----------
 * All of them
 * ----------
 */

bool
elector_transfers_begin(ElectorEtcd *etcd)
{
	etcd->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	etcd->multi = curl_multi_init();
	return etcd->epoll_fd >= 0 && etcd->multi != NULL &&
		curl_multi_setopt(etcd->multi, CURLMOPT_SOCKETFUNCTION, socket_changed) == CURLM_OK &&
		curl_multi_setopt(etcd->multi, CURLMOPT_SOCKETDATA, etcd) == CURLM_OK;
}

void
elector_transfers_end(ElectorEtcd *etcd)
{
	if (etcd->multi != NULL)
		curl_multi_cleanup(etcd->multi);
	if (etcd->epoll_fd >= 0)
		close(etcd->epoll_fd);
}
