/*
 * session.c
 *	  A connection that never holds its client for longer than a bound that the
 *	  client gives, and never says more than is known.
 *
 * The client is one state machine: it asks for something, waits for all of its
 * sessions at once, and goes on with what has happened (SessionEvent).
 *
 * The trap: libpq hands over CommandComplete as a result, but the server may
 * send that before the transaction is durable.  A statement counts as
 * acknowledged only after ReadyForQuery, which PQgetResult() shows as NULL on
 * a connection that is still good.
 *
 * libpq's own connect_timeout is not used: it does not work for asynchronous
 * connections and cannot be less than two seconds.  The hosts of the
 * connection string are tried one after another, each within a bound.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "session.h"

volatile sig_atomic_t stop_requested = 0;
static FILE *logfile;

int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void
open_log(const char *path)
{
	logfile = fopen(path, "a");
	if (logfile == NULL)
		fail("could not open \"%s\": %s", path, strerror(errno));
}

void
log_line(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vfprintf(logfile, format, args);
	va_end(args);
	fputc('\n', logfile);
	fflush(logfile);
}

void
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

void
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

SessionEvent
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

SessionEvent
session_send(Session *session, const char *sql, int64_t bound_us)
{
	session->state = SESSION_BUSY;
	session->succeeded = false;
	session->rows = 0;
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
			session->rows = PQntuples(result);
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
SessionEvent
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
void
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

int
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
