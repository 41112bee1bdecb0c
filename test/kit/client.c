/*-------------------------------------------------------------------------
 *
 * client.c
 *	  The applications of the tests.
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
 * registers: reads, writes and compares registers; in client/registers.c.
 *
 * Everything is one state machine over non-blocking connections
 * (client/session.c).
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/session.h"

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
			"       client registers CONNINFO LOG --client N --registers N [OPTIONS]\n"
			"options:\n"
			"  --duration S       end after that many seconds\n"
			"  --interval-ms N    between two statements (writer, registers 2, prober 20)\n"
			"  --reconnect-ms N   between two attempts to connect (20)\n"
			"  --connect-ms N     bound of one attempt to connect (250, ask 3000)\n"
			"  --statement-ms N   bound of one statement (1000, ask 5000)\n"
			"  --fresh-ms N       prober: between two new sessions (200)\n"
			"  --start N          writer: first number (1)\n"
			"  --term SQL         prober: expression for the term (elector_term())\n"
			"  --client N         registers: number of this client, from 1\n"
			"  --registers N      registers: how many there are\n");
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
		else if (strcmp(name, "--client") == 0)
			options->client = (int) number;
		else if (strcmp(name, "--registers") == 0)
			options->registers = (int) number;
		else
			usage();
	}
}

static void
handle_stop(int signo)
{
	(void) signo;
	stop_requested = 1;
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
	else if (argc >= 4 && strcmp(argv[1], "registers") == 0)
	{
		parse_options(argv + 4, &options);
		open_log(argv[3]);
		run_registers(argv[2], &options);
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
