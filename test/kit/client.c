/*-------------------------------------------------------------------------
 *
 * client.c
 *	  The applications of the tests: a writer and a prober.
 *
 * writer: writes increasing numbers, one row a transaction, to whichever host
 * of a multi-host connection string takes them, and remembers what was
 * acknowledged.
 *
 * prober: tries to write on one server all the time, over an open session and
 * over new ones, and remembers what was acknowledged and how it was refused.
 *
 * ask: one statement, its rows or its SQLSTATE.
 *
 * Everything is one state machine over a non-blocking connection (Session), so
 * that a server that accepts and then is silent never holds the program for
 * longer than a bound that the caller gives.
 *
 * The trap: libpq hands over CommandComplete as a result, but the server may
 * send that before the transaction is durable.  A statement counts as
 * acknowledged only after ReadyForQuery, which PQgetResult() shows as NULL on
 * a connection that is still good.
 *
 * libpq's own connect_timeout is not used: it does not work for asynchronous
 * connections and cannot be less than two seconds.  The hosts of the
 * connection string are tried one after another, each within a bound.
 *
 * Lines of the log; times are microseconds of CLOCK_MONOTONIC:
 *	 A <n> <sent> <acked> <host>			writer: acknowledged
 *	 U <n> <sent> <now>						writer: sent, outcome unknown
 *	 R <n> <sent> <now> <sqlstate>			writer: refused by the server
 *	 E <now> <sqlstate> <host> <message>	writer: any error
 *	 A <node> <sent> <acked> <term>			prober: acknowledged
 *	 U <node> <sent> <now>					prober: outcome unknown
 *	 E <now> <sqlstate> session|connect <message>	prober: any error
 * A number whose outcome is not known is never sent again.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libpq-fe.h>

#define MAX_HOSTS		16
#define MAX_KEYWORDS	64
#define MESSAGE_SIZE	256

typedef enum SessionState
{
	SESSION_CLOSED,
	SESSION_CONNECTING,
	SESSION_READY,
	SESSION_BUSY				/* a statement is under way */
} SessionState;

typedef enum SessionEvent
{
	EVENT_NONE,
	EVENT_CONNECTED,
	EVENT_CONNECT_FAILED,		/* closed */
	EVENT_ACKNOWLEDGED,
	EVENT_REFUSED,				/* the server said so; the session goes on */
	EVENT_LOST					/* closed, outcome of the statement unknown */
} SessionEvent;

typedef struct Session
{
	SessionState state;
	PGconn	   *conn;
	short		wait_for;		/* POLLIN, POLLOUT */
	int64_t		deadline;		/* of what is under way */
	int64_t		sent_at;
	int64_t		number;			/* of the row under way */
	bool		succeeded;		/* a good result was seen */
	char		value[64];		/* first column of its first row */
	char		sqlstate[6];
	char		message[MESSAGE_SIZE];
} Session;

/* One host of the connection string. */
typedef struct Target
{
	const char *keywords[MAX_KEYWORDS];
	const char *values[MAX_KEYWORDS];
	const char *host;
} Target;

typedef struct Options
{
	int64_t		duration_us;	/* 0: until SIGTERM */
	int64_t		interval_us;	/* between two statements */
	int64_t		reconnect_us;	/* between two attempts to connect */
	int64_t		connect_us;		/* bound of one attempt to connect */
	int64_t		statement_us;	/* bound of one statement */
	int64_t		fresh_us;		/* prober: between two new sessions */
	int64_t		start;			/* writer: first number */
	const char *term_sql;		/* prober: what RETURNING says */
} Options;

static volatile sig_atomic_t stop_requested = 0;
static FILE *logfile;

static void
handle_stop(int signo)
{
	(void) signo;
	stop_requested = 1;
}

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void
log_line(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vfprintf(logfile, format, args);
	va_end(args);
	fputc('\n', logfile);
	fflush(logfile);
}

static void
fail(const char *format,...)
{
	va_list		args;

	fprintf(stderr, "client: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

/*-------------------------------------------------------------------------
 * Session
 *-------------------------------------------------------------------------
 */

/*
 * Keep the first line of a message, and the SQLSTATE.  For a connection that
 * failed, libpq has no result to ask; the verbose message carries the code
 * behind the severity.
 */
static void
remember_error(Session *session, const char *sqlstate, const char *message)
{
	size_t		length = strcspn(message, "\r\n");

	if (length >= MESSAGE_SIZE)
		length = MESSAGE_SIZE - 1;
	memcpy(session->message, message, length);
	session->message[length] = '\0';

	if (sqlstate == NULL)
	{
		static const char *const severities[] = {"FATAL:  ", "ERROR:  ", "PANIC:  "};

		for (int i = 0; i < 3; i++)
		{
			const char *found = strstr(message, severities[i]);

			if (found != NULL && strlen(found) > 13 && found[13] == ':')
			{
				sqlstate = found + 8;
				break;
			}
		}
	}
	snprintf(session->sqlstate, sizeof(session->sqlstate), "%.5s",
			 sqlstate != NULL ? sqlstate : "-----");
}

static void
session_close(Session *session)
{
	if (session->conn != NULL)
		PQfinish(session->conn);
	session->conn = NULL;
	session->state = SESSION_CLOSED;
}

static SessionEvent
session_fail(Session *session, const char *message, bool connected)
{
	if (message != NULL)
		remember_error(session, NULL, message);
	session_close(session);
	return connected ? EVENT_LOST : EVENT_CONNECT_FAILED;
}

static SessionEvent
session_connect(Session *session, const Target *target, int64_t bound_us)
{
	session->conn = PQconnectStartParams(target->keywords, target->values, 0);
	if (session->conn == NULL)
		fail("out of memory");
	PQsetErrorVerbosity(session->conn, PQERRORS_VERBOSE);
	session->state = SESSION_CONNECTING;
	session->deadline = now_us() + bound_us;
	session->wait_for = POLLOUT;
	if (PQstatus(session->conn) == CONNECTION_BAD)
		return session_fail(session, PQerrorMessage(session->conn), false);
	return EVENT_NONE;
}

static SessionEvent
session_send(Session *session, const char *sql, int64_t bound_us)
{
	session->state = SESSION_BUSY;
	session->succeeded = false;
	session->value[0] = '\0';
	session->sqlstate[0] = '\0';
	session->message[0] = '\0';
	session->sent_at = now_us();
	session->deadline = session->sent_at + bound_us;
	session->wait_for = POLLIN;
	if (!PQsendQuery(session->conn, sql))
		return session_fail(session, PQerrorMessage(session->conn), true);
	return EVENT_NONE;
}

static SessionEvent
advance_connecting(Session *session)
{
	switch (PQconnectPoll(session->conn))
	{
		case PGRES_POLLING_OK:
			session->state = SESSION_READY;
			session->wait_for = POLLIN;
			if (PQsetnonblocking(session->conn, 1) != 0)
				return session_fail(session, PQerrorMessage(session->conn), false);
			return EVENT_CONNECTED;
		case PGRES_POLLING_FAILED:
			return session_fail(session, PQerrorMessage(session->conn), false);
		case PGRES_POLLING_READING:
			session->wait_for = POLLIN;
			return EVENT_NONE;
		case PGRES_POLLING_WRITING:
			session->wait_for = POLLOUT;
			return EVENT_NONE;
		case PGRES_POLLING_ACTIVE:
			return EVENT_NONE;
	}
	return EVENT_NONE;
}

/* Take one result.  True when it was the end of the statement. */
static bool
take_result(Session *session)
{
	PGresult   *result = PQgetResult(session->conn);

	if (result == NULL)
		return true;

	switch (PQresultStatus(result))
	{
		case PGRES_TUPLES_OK:
			if (PQntuples(result) > 0 && PQnfields(result) > 0)
				snprintf(session->value, sizeof(session->value), "%s",
						 PQgetvalue(result, 0, 0));
			session->succeeded = true;
			break;
		case PGRES_COMMAND_OK:
			session->succeeded = true;
			break;
		default:
			session->succeeded = false;
			remember_error(session, PQresultErrorField(result, PG_DIAG_SQLSTATE),
						   PQresultErrorMessage(result));
			break;
	}
	PQclear(result);
	return false;
}

static SessionEvent
advance_busy(Session *session)
{
	int			flushed = PQflush(session->conn);

	session->wait_for = POLLIN | (flushed > 0 ? POLLOUT : 0);

	/* Read on after a failure to send: the server's last word may be there. */
	(void) PQconsumeInput(session->conn);

	while (!PQisBusy(session->conn))
	{
		if (!take_result(session))
			continue;
		if (PQstatus(session->conn) != CONNECTION_OK)
			return session_fail(session, session->message[0] != '\0' ?
								NULL : PQerrorMessage(session->conn), true);
		session->state = SESSION_READY;
		session->wait_for = POLLIN;
		return session->succeeded ? EVENT_ACKNOWLEDGED : EVENT_REFUSED;
	}
	return EVENT_NONE;
}

/* A session between two statements: the server may have ended it. */
static SessionEvent
advance_ready(Session *session)
{
	if (!PQconsumeInput(session->conn) || PQstatus(session->conn) != CONNECTION_OK)
	{
		PGresult   *result;

		/* Its last message, when there is one, is a result of its own. */
		remember_error(session, NULL, PQerrorMessage(session->conn));
		while (!PQisBusy(session->conn) &&
			   (result = PQgetResult(session->conn)) != NULL)
			PQclear(result);
		session_close(session);
		return EVENT_LOST;
	}
	return EVENT_NONE;
}

/*
 * Go on with a session that poll() has reported, or whose deadline has passed.
 */
static SessionEvent
session_advance(Session *session, bool readable)
{
	SessionEvent event = EVENT_NONE;

	switch (session->state)
	{
		case SESSION_CLOSED:
			return EVENT_NONE;
		case SESSION_CONNECTING:
			if (readable)
				event = advance_connecting(session);
			break;
		case SESSION_READY:
			return readable ? advance_ready(session) : EVENT_NONE;
		case SESSION_BUSY:
			if (readable)
				event = advance_busy(session);
			break;
	}

	if (event == EVENT_NONE && now_us() >= session->deadline)
		return session_fail(session, "no answer within the bound",
							session->state == SESSION_BUSY);
	return event;
}

/*
 * Wait until one of the sessions can go on, or until the given time.
 */
static void
wait_for_sessions(Session **sessions, bool *ready, int nsessions, int64_t until)
{
	struct pollfd fds[2];
	int64_t		timeout;

	for (int i = 0; i < nsessions; i++)
	{
		Session    *session = sessions[i];

		fds[i].fd = session->conn != NULL ? PQsocket(session->conn) : -1;
		fds[i].events = session->wait_for;
		fds[i].revents = 0;
		if ((session->state == SESSION_CONNECTING || session->state == SESSION_BUSY) &&
			session->deadline < until)
			until = session->deadline;
	}

	timeout = until - now_us();
	if (timeout < 0)
		timeout = 0;
	{
		struct timespec ts = {timeout / 1000000, timeout % 1000000 * 1000};

		(void) ppoll(fds, nsessions, &ts, NULL);
	}
	for (int i = 0; i < nsessions; i++)
		ready[i] = fds[i].revents != 0;
}

/*-------------------------------------------------------------------------
 * Connection strings
 *-------------------------------------------------------------------------
 */

/* The item of a comma-separated list; a list of one item serves all. */
static char *
list_item(const char *list, int index)
{
	const char *start = list;

	for (int i = 0; i < index; i++)
	{
		const char *comma = strchr(start, ',');

		if (comma == NULL)
			break;
		start = comma + 1;
	}
	return strndup(start, strcspn(start, ","));
}

static int
parse_targets(const char *conninfo, const Options *options, Target *targets)
{
	static PQconninfoOption *parsed;	/* the targets point into it */
	char	   *error = NULL;
	char		user_timeout[32];
	int			ntargets = 1;

	parsed = PQconninfoParse(conninfo, &error);
	if (parsed == NULL)
		fail("connection string: %s", error != NULL ? error : "out of memory");
	snprintf(user_timeout, sizeof(user_timeout), "%lld",
			 (long long) options->statement_us / 1000);

	for (PQconninfoOption *option = parsed; option->keyword != NULL; option++)
		if (strcmp(option->keyword, "host") == 0 && option->val != NULL)
			for (const char *p = option->val; *p != '\0'; p++)
				ntargets += (*p == ',');
	if (ntargets > MAX_HOSTS)
		fail("more than %d hosts", MAX_HOSTS);

	for (int i = 0; i < ntargets; i++)
	{
		Target	   *target = &targets[i];
		int			used = 0;

		target->host = "";
		for (PQconninfoOption *option = parsed; option->keyword != NULL; option++)
		{
			const char *keyword = option->keyword;
			const char *value = option->val;

			if (value == NULL || strcmp(keyword, "connect_timeout") == 0 ||
				used >= MAX_KEYWORDS - 3)
				continue;
			if (strcmp(keyword, "host") == 0 || strcmp(keyword, "port") == 0)
				value = list_item(value, i);
			if (strcmp(keyword, "host") == 0)
				target->host = value;
			target->keywords[used] = keyword;
			target->values[used++] = value;
		}
		target->keywords[used] = "tcp_user_timeout";
		target->values[used++] = strdup(user_timeout);
		target->keywords[used] = NULL;
		target->values[used] = NULL;
	}
	return ntargets;
}

/*-------------------------------------------------------------------------
 * writer
 *-------------------------------------------------------------------------
 */

static void
run_writer(const char *conninfo, const char *table, const Options *options)
{
	static Target targets[MAX_HOSTS];
	int			ntargets = parse_targets(conninfo, options, targets);
	int			current = 0;	/* host that is tried, or connected to */
	Session		session = {0};
	Session    *sessions[1] = {&session};
	int64_t		started = now_us();
	int64_t		next_at = started;
	int64_t		number = options->start;

	for (;;)
	{
		SessionEvent event = EVENT_NONE;
		int64_t		now = now_us();
		bool		stopping = stop_requested ||
			(options->duration_us > 0 && now - started >= options->duration_us);
		bool		ready = false;

		/* A statement under way is seen to its end, which is bounded. */
		if (stopping && session.state != SESSION_BUSY)
			break;

		if (session.state == SESSION_CLOSED && now >= next_at)
			event = session_connect(&session, &targets[current], options->connect_us);
		else if (session.state == SESSION_READY && now >= next_at)
		{
			char		sql[256];

			snprintf(sql, sizeof(sql), "INSERT INTO %s (n) VALUES (%lld)",
					 table, (long long) number);
			session.number = number++;
			event = session_send(&session, sql, options->statement_us);
			next_at = session.sent_at + options->interval_us;
		}

		if (event == EVENT_NONE)
		{
			bool		idle = session.state == SESSION_CLOSED ||
				session.state == SESSION_READY;

			wait_for_sessions(sessions, &ready, 1, idle ? next_at : INT64_MAX);
			event = session_advance(&session, ready);
		}

		switch (event)
		{
			case EVENT_NONE:
			case EVENT_CONNECTED:
				break;
			case EVENT_ACKNOWLEDGED:
				log_line("A %lld %lld %lld %s", (long long) session.number,
						 (long long) session.sent_at, (long long) now_us(),
						 targets[current].host);
				session.number = 0;
				break;
			case EVENT_REFUSED:
				log_line("R %lld %lld %lld %s", (long long) session.number,
						 (long long) session.sent_at, (long long) now_us(),
						 session.sqlstate);
				session.number = 0;
				/* Read-only, or no leader here: another host may take it. */
				session_close(&session);
				/* FALLTHROUGH */
			case EVENT_LOST:
			case EVENT_CONNECT_FAILED:
				if (session.number != 0)
					log_line("U %lld %lld %lld", (long long) session.number,
							 (long long) session.sent_at, (long long) now_us());
				session.number = 0;
				log_line("E %lld %s %s %s", (long long) now_us(), session.sqlstate,
						 targets[current].host, session.message);
				current = (current + 1) % ntargets;
				/* All hosts at once, then a breath. */
				next_at = now_us() + (current == 0 ? options->reconnect_us : 0);
				break;
		}
	}
	session_close(&session);
}

/*-------------------------------------------------------------------------
 * prober
 *-------------------------------------------------------------------------
 */

typedef struct Prober
{
	const char *node;
	const char *table;
	const Target *target;
	const Options *options;
	int64_t		number;
} Prober;

static SessionEvent
probe(Prober *prober, Session *session)
{
	char		sql[512];

	snprintf(sql, sizeof(sql),
			 "INSERT INTO %s (node, n) VALUES ('%s', %lld) RETURNING %s",
			 prober->table, prober->node, (long long) ++prober->number,
			 prober->options->term_sql);
	session->number = prober->number;
	return session_send(session, sql, prober->options->statement_us);
}

static void
log_probe(Prober *prober, Session *session, SessionEvent event, bool fresh)
{
	switch (event)
	{
		case EVENT_NONE:
		case EVENT_CONNECTED:
			return;
		case EVENT_ACKNOWLEDGED:
			log_line("A %s %lld %lld %s", prober->node, (long long) session->sent_at,
					 (long long) now_us(), session->value);
			break;
		case EVENT_LOST:
			if (session->number != 0)
				log_line("U %s %lld %lld", prober->node,
						 (long long) session->sent_at, (long long) now_us());
			/* FALLTHROUGH */
		case EVENT_REFUSED:
		case EVENT_CONNECT_FAILED:
			log_line("E %lld %s %s %s", (long long) now_us(), session->sqlstate,
					 event == EVENT_CONNECT_FAILED || fresh ? "connect" : "session",
					 session->message);
			break;
	}
	session->number = 0;
}

/*
 * Two sessions to the same server: one that stays open as long as the server
 * lets it, and one that is new every time.
 */
static void
run_prober(const char *conninfo, const char *node, const char *table,
		   const Options *options)
{
	static Target targets[MAX_HOSTS];
	Prober		prober = {node, table, targets, options, 0};
	Session		open_session = {0};
	Session		new_session = {0};
	Session    *sessions[2] = {&open_session, &new_session};
	int64_t		next_at[2] = {now_us(), now_us()};

	(void) parse_targets(conninfo, options, targets);

	while (!stop_requested)
	{
		bool		ready[2] = {false, false};
		int64_t		until = INT64_MAX;

		for (int i = 0; i < 2; i++)
		{
			Session    *session = sessions[i];
			bool		fresh = (i == 1);
			SessionEvent event = EVENT_NONE;
			int64_t		now = now_us();

			if (now >= next_at[i] && session->state == SESSION_CLOSED)
			{
				next_at[i] = now + (fresh ? options->fresh_us : options->reconnect_us);
				event = session_connect(session, prober.target, options->connect_us);
			}
			else if (now >= next_at[i] && session->state == SESSION_READY && !fresh)
			{
				next_at[i] = now + options->interval_us;
				event = probe(&prober, session);
			}
			log_probe(&prober, session, event, fresh);
			if ((session->state == SESSION_CLOSED || session->state == SESSION_READY) &&
				next_at[i] < until)
				until = next_at[i];
		}

		wait_for_sessions(sessions, ready, 2, until);

		for (int i = 0; i < 2; i++)
		{
			Session    *session = sessions[i];
			bool		fresh = (i == 1);
			SessionEvent event = session_advance(session, ready[i]);

			log_probe(&prober, session, event, fresh);
			if (!fresh)
				continue;
			if (event == EVENT_CONNECTED)
				log_probe(&prober, session, probe(&prober, session), true);
			else if (event == EVENT_ACKNOWLEDGED || event == EVENT_REFUSED)
				session_close(session);
		}
	}
	session_close(&open_session);
	session_close(&new_session);
}

/*-------------------------------------------------------------------------
 * ask
 *-------------------------------------------------------------------------
 */

/* Prints "ok <first value>", or "<sqlstate> session|connect <message>". */
static int
run_ask(const char *conninfo, const char *sql, const Options *options)
{
	static Target targets[MAX_HOSTS];
	Session		session = {0};
	Session    *sessions[1] = {&session};
	SessionEvent event;

	(void) parse_targets(conninfo, options, targets);
	event = session_connect(&session, &targets[0], options->connect_us);
	while (event == EVENT_NONE || event == EVENT_CONNECTED)
	{
		bool		ready;

		if (event == EVENT_CONNECTED)
		{
			event = session_send(&session, sql, options->statement_us);
			continue;
		}
		wait_for_sessions(sessions, &ready, 1, INT64_MAX);
		event = session_advance(&session, ready);
	}
	if (event == EVENT_ACKNOWLEDGED)
		printf("ok %s\n", session.value);
	else
		printf("%s %s %s\n", session.sqlstate,
			   event == EVENT_CONNECT_FAILED ? "connect" : "session", session.message);
	session_close(&session);
	return event == EVENT_ACKNOWLEDGED ? 0 : 1;
}

/*-------------------------------------------------------------------------
 * Command line
 *-------------------------------------------------------------------------
 */

static void
usage(void)
{
	fprintf(stderr,
			"usage: client writer CONNINFO TABLE LOG [OPTIONS]\n"
			"       client prober CONNINFO NODE TABLE LOG [OPTIONS]\n"
			"       client ask CONNINFO SQL [OPTIONS]\n"
			"options:\n"
			"  --duration S       end after that many seconds\n"
			"  --interval-ms N    between two statements (writer 2, prober 20)\n"
			"  --reconnect-ms N   between two attempts to connect (20)\n"
			"  --connect-ms N     bound of one attempt to connect (250, ask 3000)\n"
			"  --statement-ms N   bound of one statement (1000, ask 5000)\n"
			"  --fresh-ms N       prober: between two new sessions (200)\n"
			"  --start N          writer: first number (1)\n"
			"  --term SQL         prober: expression for the term (elector_term())\n");
	exit(2);
}

static void
parse_options(char **args, Options *options)
{
	for (; *args != NULL; args += 2)
	{
		const char *name = args[0];
		const char *value = args[1];
		int64_t		number;

		if (value == NULL)
			usage();
		number = strtoll(value, NULL, 10);
		if (strcmp(name, "--duration") == 0)
			options->duration_us = (int64_t) (strtod(value, NULL) * 1000000);
		else if (strcmp(name, "--interval-ms") == 0)
			options->interval_us = number * 1000;
		else if (strcmp(name, "--reconnect-ms") == 0)
			options->reconnect_us = number * 1000;
		else if (strcmp(name, "--connect-ms") == 0)
			options->connect_us = number * 1000;
		else if (strcmp(name, "--statement-ms") == 0)
			options->statement_us = number * 1000;
		else if (strcmp(name, "--fresh-ms") == 0)
			options->fresh_us = number * 1000;
		else if (strcmp(name, "--start") == 0)
			options->start = number;
		else if (strcmp(name, "--term") == 0)
			options->term_sql = value;
		else
			usage();
	}
}

static void
open_log(const char *path)
{
	logfile = fopen(path, "a");
	if (logfile == NULL)
		fail("could not open \"%s\": %s", path, strerror(errno));
}

int
main(int argc, char **argv)
{
	Options		options = {0, 2000, 20000, 250000, 1000000, 200000, 1, "elector_term()"};
	struct sigaction action = {.sa_handler = handle_stop};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	signal(SIGPIPE, SIG_IGN);

	if (argc >= 5 && strcmp(argv[1], "writer") == 0)
	{
		parse_options(argv + 5, &options);
		open_log(argv[4]);
		run_writer(argv[2], argv[3], &options);
	}
	else if (argc >= 6 && strcmp(argv[1], "prober") == 0)
	{
		options.interval_us = 20000;
		parse_options(argv + 6, &options);
		open_log(argv[5]);
		run_prober(argv[2], argv[3], argv[4], &options);
	}
	else if (argc >= 4 && strcmp(argv[1], "ask") == 0)
	{
		options.connect_us = 3000000;
		options.statement_us = 5000000;
		parse_options(argv + 4, &options);
		return run_ask(argv[2], argv[3], &options);
	}
	else
		usage();
	return 0;
}
