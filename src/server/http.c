/*
 * http.c
 *	  The worker of the HTTP endpoint: addresses, connections, and their bounds.
 *
 * libmicrohttpd runs in the worker's own latch loop, in the same thread: functions of
 * PostgreSQL may be called by its callbacks.  What is answered comes from shared
 * memory alone (answers.c), read without a lock, so nobody waits for this process, and
 * the answer is true when nobody else is there to ask.
 *
 * Whoever can reach the port may be an enemy, or merely slow.  So a connection carries
 * one request and is ended after CONNECTION_LIFE whatever is done with it; there is a
 * bound on connections, on those from one address, and on the memory of each.  A
 * request is a method that only reads and a short path.
 *
 * When libmicrohttpd finds itself broken it calls panic(), and this process ends as
 * after an ERROR: the postmaster starts it again in a second, and no other process is
 * touched.
 *
 * The trap: an idle timeout does not bound a client that sends a byte now and then.
 * libmicrohttpd has no other, so end_old_connections() shuts the socket.
 */
#include "http.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#define ADDRESSES_MAX 8

/* Of each address that is listened at. */
#define CONNECTIONS_MAX 100
#define CONNECTIONS_MAX_PER_IP 25

/* Request and headers; a browser's have about one kilobyte. */
#define CONNECTION_MEMORY 8192

#define CONNECTION_IDLE 5		/* seconds */
#define CONNECTION_LIFE ((ElectorTime) 10 * 1000000)

#define PATH_MAX_LENGTH 64

/* How often an address that is taken is tried again. */
#define RETRY_INTERVAL 1000

typedef struct Address
{
	struct sockaddr_storage address;
	socklen_t	length;
	char		name[ELECTOR_NAME_SIZE];
	bool		optional;		/* this machine may not have IPv6 */
	int			fd;
	struct MHD_Daemon *daemon;	/* NULL: does not serve yet */
} Address;

typedef struct Connection
{
	struct MHD_Connection *connection;	/* NULL: free */
	ElectorTime since;
} Connection;

static Address addresses[ADDRESSES_MAX];
static int	naddresses = 0;

/* During a reload there are two daemons at each address. */
static Connection connections[2 * ADDRESSES_MAX * CONNECTIONS_MAX];
static int	nconnections = 0;

static volatile sig_atomic_t terminated = false;

/* Of one answer, and all that was allocated for it. */
static MemoryContext answer_context = NULL;

/* --- the setting --- */

static bool
add_address(Address *list, int *count, int family, const char *host, int port)
{
	Address    *address = &list[*count];
	struct sockaddr_in *v4 = (struct sockaddr_in *) &address->address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) &address->address;

	memset(address, 0, sizeof(*address));
	address->fd = -1;
	address->address.ss_family = family;
	snprintf(address->name, sizeof(address->name), family == AF_INET ? "%s:%d" : "[%s]:%d",
			 host, port);
	if (family == AF_INET)
	{
		address->length = sizeof(*v4);
		v4->sin_port = htons(port);
		if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
			return false;
	}
	else
	{
		address->length = sizeof(*v6);
		v6->sin6_port = htons(port);
		if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
			return false;
	}
	(*count)++;
	return true;
}

/* One of "10.0.0.1:8008", "[fd00::1]:8008", "*:8008". */
static bool
parse_address(const char *text, Address *list, int *count)
{
	char		host[INET6_ADDRSTRLEN + 2];
	const char *colon = strrchr(text, ':');
	size_t		length = colon != NULL ? colon - text : 0;
	char	   *end;
	long		port;

	if (length == 0 || length >= sizeof(host) || colon[1] < '0' || colon[1] > '9')
		return false;
	port = strtol(colon + 1, &end, 10);
	if (*end != '\0' || port < 1 || port > 65535)
		return false;
	memcpy(host, text, length);
	host[length] = '\0';
	if (strcmp(host, "*") == 0)
	{
		(void) add_address(list, count, AF_INET, "0.0.0.0", port);
		(void) add_address(list, count, AF_INET6, "::", port);
		list[*count - 1].optional = true;
		return true;
	}
	if (host[0] == '[' && host[length - 1] == ']')
	{
		host[length - 1] = '\0';
		return add_address(list, count, AF_INET6, host + 1, port);
	}
	return add_address(list, count, AF_INET, host, port);
}

static bool
parse_addresses(const char *value, Address *list, int *count, char *error, size_t size)
{
	char	   *copy = pstrdup(value);
	char	   *rest = copy;
	char	   *item;

	*count = 0;
	while ((item = strsep(&rest, ",")) != NULL)
	{
		item += strspn(item, " \t");
		item[strcspn(item, " \t")] = '\0';
		if (*count > ADDRESSES_MAX - 2) /* "*" is two */
		{
			snprintf(error, size, "There are more than %d addresses.", ADDRESSES_MAX - 2);
			return false;
		}
		if (!parse_address(item, list, count))
		{
			snprintf(error, size, "\"%s\" is not an address and a port.", item);
			return false;
		}
	}
	pfree(copy);
	return true;
}

bool
elector_http_listen_valid(const char *value, char *error, size_t size)
{
	Address		list[ADDRESSES_MAX];
	int			count;

	return value[0] == '\0' || parse_addresses(value, list, &count, error, size);
}

/* --- requests --- */

static void
add_headers(struct MHD_Response *response, const ElectorHttpAnswer *answer)
{
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
	MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
	if (answer->type != NULL)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->type);
	if (answer->policy != NULL)
		MHD_add_response_header(response, "Content-Security-Policy", answer->policy);
	if (answer->status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD, OPTIONS");
}

/*
 * HAProxy's `option httpchk` asks with OPTIONS unless it is told otherwise; that gets
 * the status, like HEAD.
 */
static enum MHD_Result
handle(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
	   const char *version, const char *upload, size_t *upload_size, void **request)
{
	ElectorHttpAnswer answer = {0};
	struct MHD_Response *response;
	enum MHD_Result result;
	MemoryContext old;

	MemoryContextReset(answer_context);
	old = MemoryContextSwitchTo(answer_context);
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0 &&
		strcmp(method, MHD_HTTP_METHOD_OPTIONS) != 0)
		answer.status = MHD_HTTP_METHOD_NOT_ALLOWED;
	else if (strlen(path) > PATH_MAX_LENGTH)
		answer.status = MHD_HTTP_URI_TOO_LONG;
	else
		elector_http_answer(path, MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "lag"),
							&answer);
	if (strcmp(method, MHD_HTTP_METHOD_OPTIONS) == 0)
		answer.length = 0;
	response = MHD_create_response_from_buffer(answer.length, unconstify(char *, answer.body),
											   MHD_RESPMEM_MUST_COPY);
	MemoryContextSwitchTo(old);
	if (response == NULL)
		return MHD_NO;
	add_headers(response, &answer);
	result = MHD_queue_response(connection, answer.status, response);
	MHD_destroy_response(response);
	return result;
}

/* --- connections --- */

static void
note_connection(void *cls, struct MHD_Connection *connection, void **slot,
				enum MHD_ConnectionNotificationCode code)
{
	Connection *entry = *slot;

	switch (code)
	{
		case MHD_CONNECTION_NOTIFY_STARTED:
			for (int i = 0; i < lengthof(connections); i++)
			{
				if (connections[i].connection == NULL)
				{
					connections[i].connection = connection;
					connections[i].since = elector_now();
					nconnections++;
					*slot = &connections[i];
					return;
				}
			}
			break;
		case MHD_CONNECTION_NOTIFY_CLOSED:
			if (entry != NULL)
			{
				entry->connection = NULL;
				nconnections--;
			}
			break;
	}
}

/* The daemon finds the socket closed, and does the rest. */
static void
end_old_connections(void)
{
	ElectorTime now = elector_now();

	for (int i = 0; i < lengthof(connections) && nconnections > 0; i++)
	{
		const union MHD_ConnectionInfo *info;

		if (connections[i].connection == NULL || now < connections[i].since + CONNECTION_LIFE)
			continue;
		info = MHD_get_connection_info(connections[i].connection, MHD_CONNECTION_INFO_CONNECTION_FD);
		if (info != NULL)
			shutdown(info->connect_fd, SHUT_RDWR);
	}
}

/* --- daemons --- */

static void
panic(void *cls, const char *file, unsigned int line, const char *reason)
{
	ereport(FATAL,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("the HTTP endpoint is broken: %s", reason ? reason : "no reason given"),
			 errdetail_internal("%s, line %u", file, line)));
}

static struct MHD_Daemon *
start_daemon(const Address *address, const ElectorHttpTls *tls)
{
	struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
	struct MHD_OptionItem keys[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, tls->certificate},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, tls->key},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, "NORMAL:-VERS-TLS1.0:-VERS-TLS1.1"},
		{MHD_OPTION_END, 0, NULL}
	};

	return MHD_start_daemon(MHD_USE_EPOLL | (tls->wanted ? MHD_USE_TLS : 0), 0, NULL, NULL,
							handle, NULL,
							MHD_OPTION_LISTEN_SOCKET, (MHD_socket) address->fd,
							MHD_OPTION_CONNECTION_LIMIT, (unsigned int) CONNECTIONS_MAX,
							MHD_OPTION_PER_IP_CONNECTION_LIMIT, (unsigned int) CONNECTIONS_MAX_PER_IP,
							MHD_OPTION_CONNECTION_TIMEOUT, (unsigned int) CONNECTION_IDLE,
							MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) CONNECTION_MEMORY,
							MHD_OPTION_NOTIFY_CONNECTION, note_connection, NULL,
							MHD_OPTION_ARRAY, tls->wanted ? keys : none,
							MHD_OPTION_END);
}

/* The socket is ours, and stays open when a daemon is stopped. */
static void
stop_daemon(struct MHD_Daemon *daemon)
{
	if (daemon == NULL)
		return;
	MHD_quiesce_daemon(daemon);
	MHD_stop_daemon(daemon);
}

static bool
same_tls(const ElectorHttpTls *one, const ElectorHttpTls *other)
{
	return one->wanted == other->wanted &&
		(!one->wanted || (strcmp(one->certificate, other->certificate) == 0 &&
						  strcmp(one->key, other->key) == 0));
}

static void
start_address(Address *address, const ElectorHttpTls *tls)
{
	struct MHD_Daemon *daemon = start_daemon(address, tls);

	if (daemon == NULL)
	{
		ereport(WARNING,
				(errmsg("could not start the HTTP endpoint at \"%s\"", address->name)));
		return;
	}
	stop_daemon(address->daemon);
	address->daemon = daemon;
	ereport(LOG,
			(errmsg("HTTP endpoint serves at \"%s\"%s", address->name,
					tls->wanted ? " with TLS" : "")));
}

/*
 * Serve with the certificate and key as they are now.  If these cannot be used, those
 * that were in use go on; with none, nothing is served.
 */
static void
start_daemons(void)
{
	static ElectorHttpTls served = {false, NULL, NULL};
	static char said[ELECTOR_TEXT_SIZE] = "";
	ElectorHttpTls tls;
	char		error[ELECTOR_TEXT_SIZE] = "";
	bool		serving = false;
	bool		changed;
	MemoryContext old;

	MemoryContextReset(answer_context);
	old = MemoryContextSwitchTo(answer_context);
	for (int i = 0; i < naddresses; i++)
		serving |= addresses[i].daemon != NULL;
	if (!elector_http_load_tls(&tls, error, sizeof(error)))
	{
		/* the elector reloads often, and that is no news */
		if (strcmp(error, said) != 0)
			ereport(WARNING,
					(errmsg("the HTTP endpoint %s: %s",
							serving ? "goes on as it was" : "does not serve", error),
					 errhint("Correct \"pg_elector.http_cert_file\" and \"pg_elector.http_key_file\", or the files, and reload.")));
		strlcpy(said, error, sizeof(said));
		MemoryContextSwitchTo(old);
		return;
	}
	said[0] = '\0';
	changed = !same_tls(&tls, &served);
	for (int i = 0; i < naddresses; i++)
	{
		if (addresses[i].fd >= 0 && (changed || addresses[i].daemon == NULL))
			start_address(&addresses[i], &tls);
	}
	MemoryContextSwitchTo(TopMemoryContext);
	if (changed)
	{
		if (served.wanted)
		{
			pfree(served.certificate);
			pfree(served.key);
		}
		served = tls;
		if (tls.wanted)
		{
			served.certificate = pstrdup(tls.certificate);
			served.key = pstrdup(tls.key);
		}
	}
	MemoryContextSwitchTo(old);
}

static bool
open_socket(Address *address)
{
	int			on = 1;
	int			fd = socket(address->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return false;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
		(address->address.ss_family == AF_INET6 &&
		 setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) != 0) ||
		bind(fd, (struct sockaddr *) &address->address, address->length) != 0 ||
		listen(fd, CONNECTIONS_MAX) != 0)
	{
		int			save_errno = errno;

		close(fd);
		errno = save_errno;
		return false;
	}
	address->fd = fd;
	return true;
}

/*
 * Listen where it is not listened yet, and serve there.  True when that is everywhere;
 * else there is one line in the log for each address.
 */
static bool
open_sockets(bool quiet)
{
	bool		complete = true;
	bool		opened = false;

	for (int i = 0; i < naddresses; i++)
	{
		if (addresses[i].fd >= 0)
			continue;
		if (open_socket(&addresses[i]))
		{
			opened = true;
			continue;
		}
		if (addresses[i].optional && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
			continue;
		complete = false;
		if (!quiet)
			ereport(WARNING,
					(errcode_for_socket_access(),
					 errmsg("the HTTP endpoint cannot listen at \"%s\": %m", addresses[i].name),
					 errhint("It is tried again until it works.")));
	}
	if (opened)
		start_daemons();
	return complete;
}

/* --- the loop --- */

static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	terminated = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* In milliseconds; -1: until something happens. */
static long
next_timeout(bool complete)
{
	long		timeout = complete ? -1 : RETRY_INTERVAL;

	if (nconnections > 0)
		timeout = timeout < 0 ? 1000 : Min(timeout, 1000);
	for (int i = 0; i < naddresses; i++)
	{
		MHD_UNSIGNED_LONG_LONG wanted;

		if (addresses[i].daemon != NULL && MHD_get_timeout(addresses[i].daemon, &wanted) == MHD_YES &&
			(timeout < 0 || wanted < (MHD_UNSIGNED_LONG_LONG) timeout))
			timeout = (long) wanted;
	}
	return timeout;
}

static void
wait_for_something(long timeout)
{
	WaitEventSet *set = CreateWaitEventSet(CurrentMemoryContext, 2 + naddresses);
	WaitEvent	event;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (int i = 0; i < naddresses; i++)
	{
		if (addresses[i].daemon != NULL)
			AddWaitEventToSet(set, WL_SOCKET_READABLE,
							  MHD_get_daemon_info(addresses[i].daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd,
							  NULL, NULL);
	}
	if (WaitEventSetWait(set, timeout, &event, 1, PG_WAIT_EXTENSION) == 1 &&
		(event.events & WL_LATCH_SET))
		ResetLatch(MyLatch);
	FreeWaitEventSet(set);
}

void
elector_http_main(Datum argument)
{
	char		error[ELECTOR_TEXT_SIZE];
	bool		complete;

	pqsignal(SIGTERM, on_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	answer_context = AllocSetContextCreate(TopMemoryContext, "pg_elector answer",
										   ALLOCSET_DEFAULT_SIZES);
	MHD_set_panic_func(panic, NULL);
	if (!parse_addresses(elector_http_listen, addresses, &naddresses, error, sizeof(error)))
		elog(ERROR, "%s", error);
	complete = open_sockets(false);

	/* Not by 0: that would end it for ever. */
	while (!terminated)
	{
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			start_daemons();
		}
		if (!complete)
			complete = open_sockets(true);
		for (int i = 0; i < naddresses; i++)
		{
			if (addresses[i].daemon != NULL)
				MHD_run(addresses[i].daemon);
		}
		end_old_connections();
		wait_for_something(next_timeout(complete));
	}
	proc_exit(1);
}
