/*
 * registers.c
 *	  A client that uses rows as registers: it reads one, writes it, or compares
 *	  and sets it, and remembers when it asked, when it was answered, and what.
 *
 * Whether what several of these were told fits together is for linearizable.c to say.
 * Every value is written once: it is made of the client's number and a counter.  What
 * is compared with is the value that this client saw last.
 *
 * The hosts of the connection string are used in turn, as by the writer.  With
 * target_session_attrs=read-write a session is let go only with a server that is no
 * standby, whose reads would be old by right.
 *
 * Lines of the log, which linearizable.c reads; times are microseconds of
 * CLOCK_MONOTONIC, "-" where nobody knows whether it has happened:
 *	 <register> <asked> <answered> <client> read <value>
 *	 <register> <asked> <answered>|- <client> write <value>
 *	 <register> <asked> <answered>|- <client> cas <old> <new> yes|no|-
 *	 # <now> <sqlstate> connect|session <host> <message>	refused, or lost
 * What the server has refused has not happened, and is in none but the last kind.  Nor
 * is a read without an answer.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "session.h"

#define REGISTERS_MAX 64

/* What a client writes: its number times this, and a counter. */
#define VALUES_OF_CLIENT INT64_C(1000000000)

typedef enum Operation
{
	OPERATION_READ,
	OPERATION_WRITE,
	OPERATION_CAS
} Operation;

typedef struct Register
{
	int			number;			/* of the register in use */
	Operation	operation;
	int64_t		old;
	int64_t		new;
	int64_t		seen[REGISTERS_MAX];	/* the value this client saw last */
} Register;

static SessionEvent
ask(Register *reg, Session *session, const Options *options)
{
	char		sql[256];
	int			dice = (int) (random() % 10);

	reg->number = (int) (random() % options->registers);
	reg->operation = dice < 5 ? OPERATION_READ : dice < 8 ? OPERATION_WRITE : OPERATION_CAS;
	reg->old = reg->seen[reg->number];
	if (reg->operation != OPERATION_READ)
		reg->new++;
	switch (reg->operation)
	{
		case OPERATION_READ:
			snprintf(sql, sizeof(sql), "SELECT value FROM registers WHERE id = %d", reg->number);
			break;
		case OPERATION_WRITE:
			snprintf(sql, sizeof(sql), "UPDATE registers SET value = %lld WHERE id = %d",
					 (long long) reg->new, reg->number);
			break;
		case OPERATION_CAS:
			snprintf(sql, sizeof(sql),
					 "UPDATE registers SET value = %lld WHERE id = %d AND value = %lld RETURNING value",
					 (long long) reg->new, reg->number, (long long) reg->old);
			break;
	}
	session->number = 1;
	return session_send(session, sql, options->statement_us);
}

static void
log_answer(Register *reg, const Session *session, const Options *options)
{
	int64_t		value = session->rows == 1 ? strtoll(session->value, NULL, 10) : -1;
	bool		yes = session->rows == 1;

	switch (reg->operation)
	{
		case OPERATION_READ:
			log_line("%d %lld %lld %d read %lld", reg->number, (long long) session->sent_at,
					 (long long) now_us(), options->client, (long long) value);
			reg->seen[reg->number] = value;
			break;
		case OPERATION_WRITE:
			log_line("%d %lld %lld %d write %lld", reg->number, (long long) session->sent_at,
					 (long long) now_us(), options->client, (long long) reg->new);
			reg->seen[reg->number] = reg->new;
			break;
		case OPERATION_CAS:
			log_line("%d %lld %lld %d cas %lld %lld %s", reg->number,
					 (long long) session->sent_at, (long long) now_us(), options->client,
					 (long long) reg->old, (long long) reg->new, yes ? "yes" : "no");
			if (yes)
				reg->seen[reg->number] = reg->new;
			break;
	}
}

/* The connection was lost before the answer. */
static void
log_unknown(const Register *reg, const Session *session, const Options *options)
{
	switch (reg->operation)
	{
		case OPERATION_READ:
			break;
		case OPERATION_WRITE:
			log_line("%d %lld - %d write %lld", reg->number, (long long) session->sent_at,
					 options->client, (long long) reg->new);
			break;
		case OPERATION_CAS:
			log_line("%d %lld - %d cas %lld %lld -", reg->number, (long long) session->sent_at,
					 options->client, (long long) reg->old, (long long) reg->new);
			break;
	}
}

void
run_registers(const char *conninfo, const Options *options)
{
	static Target targets[MAX_HOSTS];
	int			ntargets = parse_targets(conninfo, options, targets);
	int			current = 0;
	Register	reg = {.new = options->client * VALUES_OF_CLIENT};
	Session		session = {0};
	Session    *sessions[1] = {&session};
	int64_t		next_at = now_us();

	if (options->registers < 1 || options->registers > REGISTERS_MAX)
		fail("there can be 1 to %d registers", REGISTERS_MAX);
	srandom((unsigned) options->client);

	while (!stop_requested || session.state == SESSION_BUSY)
	{
		SessionEvent event = EVENT_NONE;
		int64_t		now = now_us();
		bool		ready = false;
		bool		idle;

		if (now >= next_at && session.state == SESSION_CLOSED)
			event = session_connect(&session, &targets[current], options->connect_us);
		else if (now >= next_at && session.state == SESSION_READY)
		{
			event = ask(&reg, &session, options);
			next_at = session.sent_at + options->interval_us;
		}
		if (event == EVENT_NONE)
		{
			idle = session.state == SESSION_CLOSED || session.state == SESSION_READY;
			wait_for_sessions(sessions, &ready, 1, idle ? next_at : INT64_MAX);
			event = session_advance(&session, ready);
		}

		switch (event)
		{
			case EVENT_NONE:
			case EVENT_CONNECTED:
				break;
			case EVENT_ACKNOWLEDGED:
				log_answer(&reg, &session, options);
				session.number = 0;
				break;
			case EVENT_LOST:
				if (session.number != 0)
					log_unknown(&reg, &session, options);
				/* FALLTHROUGH */
			case EVENT_REFUSED:
			case EVENT_CONNECT_FAILED:
				log_line("# %lld %s %s %s %s", (long long) now_us(), session.sqlstate,
						 event == EVENT_CONNECT_FAILED ? "connect" : "session",
						 targets[current].host, session.message);
				session.number = 0;
				session_close(&session);
				current = (current + 1) % ntargets;
				next_at = now_us() + (current == 0 ? options->reconnect_us : 0);
				break;
		}
	}
	session_close(&session);
}
