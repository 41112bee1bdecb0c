/*
 * session.h
 *	  What the clients of the tests are made of; see session.c.
 */
#ifndef SESSION_H
#define SESSION_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

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
	int			rows;			/* how many it had */
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
	int			client;			/* registers: number of this client, from 1 */
	int			registers;		/* registers: how many there are */
} Options;

extern volatile sig_atomic_t stop_requested;

extern int64_t now_us(void);
extern void open_log(const char *path);
extern void log_line(const char *format,...);
extern void fail(const char *format,...);

extern void session_close(Session *session);
extern SessionEvent session_connect(Session *session, const Target *target, int64_t bound_us);
extern SessionEvent session_send(Session *session, const char *sql, int64_t bound_us);
extern SessionEvent session_advance(Session *session, bool readable);
extern void wait_for_sessions(Session **sessions, bool *ready, int nsessions, int64_t until);
extern int	parse_targets(const char *conninfo, const Options *options, Target *targets);

extern void run_registers(const char *conninfo, const Options *options);

#endif							/* SESSION_H */
