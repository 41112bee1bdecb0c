/*
 * console.c
 *	  The admin console of one PgBouncer: what is said to it, and what it answers.
 *
 * elector_console_pump() derives from what is known of the PgBouncer, and from what
 * is wanted of all of them, the one statement to make next (choose_pausing,
 * choose_pointing).  Its answer is what is known then.  pgbouncer.c, which calls
 * it, tells what the statements are for.
 *
 * All is asynchronous, as in peers.c, and in the simple protocol, as the console
 * knows no other.
 *
 * The trap: who leads no more may have a successor that points the same PgBouncer
 * elsewhere.  So behind a closed gate nothing is said but SHOW, and what was not
 * sent when the gate closed is taken back, with the connection.  For host names
 * holds what peers.c says of them.
 */
#include "console.h"

#include <poll.h>
#include <sys/socket.h>

#define CONSOLE_DATABASE "pgbouncer"
#define CONSOLE_PORT "6432"

/* The database by which a PgBouncer tells what it has loaded, and who paused it. */
#define MARKER "pg_elector"

/* A console on a network nearby answers in a few milliseconds. */
#define ANSWER_BOUND 1000000

/* How soon one that cannot be reached is tried again. */
#define RETRY_INTERVAL 500000

/* How often one is looked at that nothing is wrong with. */
#define CHECK_INTERVAL 5000000

/* How soon something that takes a moment is looked at again. */
#define SHORT_INTERVAL 5000

#define NOT_SOON ((ElectorTime) 3600 * 1000000)

/* --- the connection string --- */

static void
name_console(ElectorConsole *console, const PQconninfoOption *options)
{
	const char *host = NULL;
	const char *port = CONSOLE_PORT;

	for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (option->val == NULL || option->val[0] == '\0')
			continue;
		if (strcmp(option->keyword, "host") == 0 ||
			(strcmp(option->keyword, "hostaddr") == 0 && host == NULL))
			host = option->val;
		if (strcmp(option->keyword, "port") == 0)
			port = option->val;
	}
	snprintf(console->name, sizeof(console->name), "%s:%s", host, port);
}

/* What is wrong with a connection string that can be read; NULL if nothing is. */
static const char *
find_fault(const PQconninfoOption *options)
{
	bool		has_host = false;

	for (const PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (option->val == NULL || option->val[0] == '\0')
			continue;
		if (strcmp(option->keyword, "host") == 0 ||
			strcmp(option->keyword, "hostaddr") == 0)
		{
			has_host = true;
			if (strchr(option->val, ',') != NULL)
				return "names several hosts";
		}
		if (strcmp(option->keyword, "dbname") == 0 &&
			strcmp(option->val, CONSOLE_DATABASE) != 0)
			return "names a database other than that of the admin console, \"" CONSOLE_DATABASE "\"";
		if (strcmp(option->keyword, "password") == 0 ||
			strcmp(option->keyword, "sslpassword") == 0)
			return "holds a password, which everybody who may read the configuration or the server's log would see";
	}
	return has_host ? NULL : "names no host";
}

bool
elector_console_init(ElectorConsole *console, const char *conninfo, int number,
					 char *error, size_t size)
{
	char	   *message = NULL;
	const char *fault;
	PQconninfoOption *options;

	memset(console, 0, sizeof(*console));
	if (strlen(conninfo) >= ELECTOR_CONNINFO_SIZE || strchr(conninfo, '\n') != NULL)
	{
		snprintf(error, size, "Connection string %d is longer than %d bytes or has several lines.",
				 number, ELECTOR_CONNINFO_SIZE - 1);
		return false;
	}
	options = PQconninfoParse(conninfo, &message);
	if (options == NULL)
	{
		if (message != NULL)
			message[strcspn(message, "\n")] = '\0';
		snprintf(error, size, "Of connection string %d libpq says: %s",
				 number, message != NULL ? message : "out of memory");
		PQfreemem(message);
		return false;
	}
	fault = find_fault(options);
	if (fault != NULL)
		snprintf(error, size, "Connection string %d %s.", number, fault);
	else
	{
		strlcpy(console->conninfo, conninfo, sizeof(console->conninfo));
		name_console(console, options);
	}
	PQconninfoFree(options);
	return fault == NULL;
}

/* --- connections --- */

void
elector_console_finish(ElectorConsole *console)
{
	struct linger at_once = {1, 0};

	if (console->connection != NULL)
	{
		setsockopt(PQsocket(console->connection), SOL_SOCKET, SO_LINGER,
				   &at_once, sizeof(at_once));
		PQfinish(console->connection);
	}
	console->connection = NULL;
	console->step = ELECTOR_CONSOLE_DOWN;
	console->next_at = 0;
	memset(&console->talk, 0, sizeof(ElectorConsoleTalk));
}

/* What people are to know: "" if nothing is wrong.  It is logged when that changes. */
static void
note_problem(ElectorConsole *console, const char *text)
{
	char		problem[ELECTOR_TEXT_SIZE];

	strlcpy(problem, text, sizeof(problem));
	problem[strcspn(problem, "\n")] = '\0';
	if (problem[0] != '\0' && console->problem[0] == '\0')
		ereport(LOG,
				(errmsg("cannot use PgBouncer \"%s\": %s",
						console->name, problem)));
	else if (problem[0] == '\0' && console->problem[0] != '\0')
		ereport(LOG,
				(errmsg("PgBouncer \"%s\" can be used again", console->name)));
	strlcpy(console->problem, problem, sizeof(console->problem));
}

static void
lose(ElectorConsole *console, ElectorTime now, const char *message)
{
	note_problem(console, message);
	elector_console_finish(console);
	console->next_at = now + RETRY_INTERVAL;
}

/* A notice is nothing that this node's log should have. */
static void
ignore_notice(void *arg, const PGresult *result)
{
}

static void
start_connection(ElectorConsole *console, ElectorTime now)
{
	char		name[ELECTOR_NAME_SIZE + 16];
	char		timeout[16];
	const char *keywords[] = {"port", "dbname", "dbname", "application_name",
	"gssencmode", "tcp_user_timeout", NULL};
	const char *values[] = {CONSOLE_PORT, console->conninfo, CONSOLE_DATABASE, name,
	"disable", timeout, NULL};

	snprintf(name, sizeof(name), ELECTOR_LIBRARY "/%s", elector_node);
	snprintf(timeout, sizeof(timeout), "%d", ANSWER_BOUND / 1000);
	console->since = now;
	console->connection = PQconnectStartParams(keywords, values, 1);
	if (console->connection == NULL || PQstatus(console->connection) == CONNECTION_BAD)
	{
		lose(console, now, console->connection != NULL ?
			 PQerrorMessage(console->connection) : "out of memory");
		return;
	}
	PQsetNoticeReceiver(console->connection, ignore_notice, NULL);
	console->step = ELECTOR_CONSOLE_CONNECT;
	console->polling = PGRES_POLLING_WRITING;
}

/* PQconnectPoll() blocks if it is called before the socket is ready. */
static bool
socket_ready(const ElectorConsole *console)
{
	struct pollfd ready = {PQsocket(console->connection),
	console->polling == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0};

	return poll(&ready, 1, 0) != 0;
}

static void
poll_connection(ElectorConsole *console, ElectorTime now)
{
	if (!socket_ready(console))
		return;
	console->polling = PQconnectPoll(console->connection);
	switch (console->polling)
	{
		case PGRES_POLLING_OK:
			if (PQsetnonblocking(console->connection, 1) != 0)
				lose(console, now, PQerrorMessage(console->connection));
			else
				console->step = ELECTOR_CONSOLE_IDLE;
			break;
		case PGRES_POLLING_FAILED:
			lose(console, now, PQerrorMessage(console->connection));
			break;
		case PGRES_POLLING_READING:
		case PGRES_POLLING_WRITING:
		case PGRES_POLLING_ACTIVE:
			break;
	}
}

/* --- what to say --- */

bool
elector_console_unreachable(const ElectorConsole *console)
{
	return (console->step == ELECTOR_CONSOLE_DOWN && console->next_at != 0) ||
		(console->step == ELECTOR_CONSOLE_CONNECT && console->problem[0] != '\0');
}

static ElectorConsoleStep
choose_pausing(const ElectorConsole *console, const ElectorConsoleWish *wish, ElectorTime now)
{
	const ElectorConsoleTalk *talk = &console->talk;

	if (talk->refused || talk->paused)
		return ELECTOR_CONSOLE_IDLE;
	if (!talk->ready)
		return ELECTOR_CONSOLE_MARK;
	if (!wish->all_marked)
		return ELECTOR_CONSOLE_IDLE;
	if (!talk->held)
		return ELECTOR_CONSOLE_HOLD;
	if (talk->calm || wish->calm_or_not)
		return ELECTOR_CONSOLE_PAUSE;
	return now >= console->next_at ? ELECTOR_CONSOLE_SHOW_POOLS : ELECTOR_CONSOLE_IDLE;
}

static ElectorConsoleStep
choose_pointing(const ElectorConsole *console, bool leading)
{
	const ElectorConsoleTalk *talk = &console->talk;

	if (talk->checked)
		return ELECTOR_CONSOLE_IDLE;
	if (talk->directory[0] == '\0')
		return ELECTOR_CONSOLE_SHOW_CONFIG;
	if (!talk->named && leading)
		return ELECTOR_CONSOLE_SET_FILE;
	if (!talk->looked)
		return ELECTOR_CONSOLE_SHOW_DATABASES;
	if (!leading)
		return ELECTOR_CONSOLE_IDLE;

	/* Marked, it has settings of ours that end with a RELOAD. */
	if ((!talk->loaded || talk->marked) && !talk->reloaded)
		return ELECTOR_CONSOLE_RELOAD;
	if (talk->marked)
		return talk->resumed ? ELECTOR_CONSOLE_UNMARK : ELECTOR_CONSOLE_RESUME;
	return ELECTOR_CONSOLE_IDLE;
}

/* A check has come to its end, good or bad. */
static void
end_check(ElectorConsole *console, ElectorTime now)
{
	ElectorConsoleTalk *talk = &console->talk;

	if (talk->named && talk->looked && !talk->loaded && talk->error[0] == '\0')
		snprintf(talk->error, sizeof(talk->error),
				 "it has not loaded \"%.100s/%s.ini\", or there is no \"" MARKER " = dbname=%s\" in it",
				 talk->directory, elector_node, elector_node);
	note_problem(console, talk->error);
	talk->checked = true;
	console->next_at = now + CHECK_INTERVAL;
}

static void
begin_check(ElectorConsole *console)
{
	ElectorConsoleTalk *talk = &console->talk;

	talk->checked = talk->named = talk->looked = talk->reloaded = talk->resumed = false;
	talk->stale = console->step == ELECTOR_CONSOLE_SHOW_DATABASES;
	talk->error[0] = '\0';
}

/* A check that an error has ended; it is made again later. */
static void
fail_check(ElectorConsole *console, ElectorTime now, const char *message)
{
	strlcpy(console->talk.error, message, sizeof(console->talk.error));
	end_check(console, now);
}

static const char *const statements[] = {
	[ELECTOR_CONSOLE_SHOW_CONFIG] = "SHOW CONFIG",
	[ELECTOR_CONSOLE_SHOW_DATABASES] = "SHOW DATABASES",
	[ELECTOR_CONSOLE_RELOAD] = "RELOAD",
	[ELECTOR_CONSOLE_RESUME] = "RESUME",
	[ELECTOR_CONSOLE_UNMARK] = "RESUME " MARKER,
	[ELECTOR_CONSOLE_MARK] = "PAUSE " MARKER,
	[ELECTOR_CONSOLE_HOLD] = "SET max_db_connections = '1'",
	[ELECTOR_CONSOLE_SHOW_POOLS] = "SHOW POOLS",
	[ELECTOR_CONSOLE_PAUSE] = "PAUSE"
};

static void
send_statement(ElectorConsole *console, ElectorConsoleStep step, ElectorTime now)
{
	char		set_file[2 * MAXPGPATH + ELECTOR_NAME_SIZE + 32];
	const char *statement = statements[step];

	if (step == ELECTOR_CONSOLE_SET_FILE)
	{
		char		directory[2 * MAXPGPATH];
		char	   *to = directory;

		for (const char *from = console->talk.directory; *from != '\0'; from++)
		{
			if (*from == '\'')
				*to++ = '\'';
			*to++ = *from;
		}
		*to = '\0';
		snprintf(set_file, sizeof(set_file), "SET conffile = '%s/%s.ini'",
				 directory, elector_node);
		statement = set_file;
	}
	console->step = step;
	console->since = now;
	if (!PQsendQuery(console->connection, statement))
		lose(console, now, PQerrorMessage(console->connection));
}

/* Say the next thing, if there is any. */
static void
go_on(ElectorConsole *console, const ElectorConsoleWish *wish, ElectorTime now)
{
	ElectorConsoleStep step;

	if (wish->leading && wish->pausing)
		step = choose_pausing(console, wish, now);
	else
	{
		if (console->talk.checked && now >= console->next_at)
			begin_check(console);
		step = choose_pointing(console, wish->leading);
		if (step == ELECTOR_CONSOLE_IDLE && !console->talk.checked)
			end_check(console, now);
	}
	if (step != ELECTOR_CONSOLE_IDLE)
		send_statement(console, step, now);
}

/* --- what it answers --- */

/* A row's value by the column's name; "" if there is none. */
static const char *
value_of(const PGresult *result, int row, const char *column)
{
	int			number = PQfnumber(result, column);

	return number >= 0 ? PQgetvalue(result, row, number) : "";
}

/* The row whose column of that name has that value; -1 if there is none. */
static int
find_row(const PGresult *result, const char *column, const char *value)
{
	for (int row = 0; row < PQntuples(result); row++)
	{
		if (strcmp(value_of(result, row, column), value) == 0)
			return row;
	}
	return -1;
}

static void
read_config(ElectorConsole *console, const PGresult *result, ElectorTime now)
{
	int			row = find_row(result, "key", "conffile");
	char	   *slash;

	strlcpy(console->talk.directory, row >= 0 ? value_of(result, row, "value") : "",
			sizeof(console->talk.directory));
	slash = strrchr(console->talk.directory, '/');
	if (slash != NULL)
		slash[slash == console->talk.directory ? 1 : 0] = '\0';
	else if (console->talk.directory[0] != '\0')
		strlcpy(console->talk.directory, ".", sizeof(console->talk.directory));
	else
		fail_check(console, now, "it does not tell where its configuration file is");
}

static void
read_databases(ElectorConsole *console, const PGresult *result)
{
	ElectorConsoleTalk *talk = &console->talk;
	int			row = find_row(result, "name", MARKER);
	bool		was_loaded = talk->loaded;

	if (talk->stale)
		return;
	talk->looked = true;
	talk->loaded = row >= 0 && strcmp(value_of(result, row, "database"), elector_node) == 0;
	talk->marked = row >= 0 && strcmp(value_of(result, row, "paused"), "1") == 0;
	if (talk->loaded && !was_loaded && talk->reloaded)
		ereport(LOG,
				(errmsg("PgBouncer \"%s\" points at this node now", console->name)));
}

static void
read_pools(ElectorConsole *console, const PGresult *result, ElectorTime now)
{
	ElectorConsoleTalk *talk = &console->talk;

	talk->calm = true;
	for (int row = 0; row < PQntuples(result); row++)
	{
		if (atoi(value_of(result, row, "sv_login")) > 0)
			talk->calm = false;
	}
	console->next_at = now + SHORT_INTERVAL;
}

static void
accept_answer(ElectorConsole *console, const PGresult *result, ElectorTime now)
{
	ElectorConsoleTalk *talk = &console->talk;

	switch (console->step)
	{
		case ELECTOR_CONSOLE_SHOW_CONFIG:
			read_config(console, result, now);
			break;
		case ELECTOR_CONSOLE_SET_FILE:
			talk->named = true;
			break;
		case ELECTOR_CONSOLE_SHOW_DATABASES:
			read_databases(console, result);
			break;
		case ELECTOR_CONSOLE_RELOAD:
			talk->reloaded = true;
			talk->looked = false;
			break;
		case ELECTOR_CONSOLE_RESUME:
			talk->resumed = true;
			break;
		case ELECTOR_CONSOLE_UNMARK:
			talk->marked = false;
			break;
		case ELECTOR_CONSOLE_MARK:
			talk->ready = true;
			break;
		case ELECTOR_CONSOLE_HOLD:
			talk->held = true;
			break;
		case ELECTOR_CONSOLE_SHOW_POOLS:
			read_pools(console, result, now);
			break;
		case ELECTOR_CONSOLE_PAUSE:
			talk->paused = true;
			break;
		case ELECTOR_CONSOLE_DOWN:
		case ELECTOR_CONSOLE_CONNECT:
		case ELECTOR_CONSOLE_IDLE:
			Assert(false);
			break;
	}
}

static void
accept_error(ElectorConsole *console, const char *message, ElectorTime now)
{
	ElectorConsoleTalk *talk = &console->talk;

	switch (console->step)
	{
		case ELECTOR_CONSOLE_SHOW_CONFIG:
		case ELECTOR_CONSOLE_SET_FILE:
		case ELECTOR_CONSOLE_SHOW_DATABASES:
		case ELECTOR_CONSOLE_UNMARK:
			fail_check(console, now, message);
			break;
		case ELECTOR_CONSOLE_RELOAD:

			/*
			 * Clients that wait are let go on all the same: they are told
			 * sooner.
			 */
			strlcpy(talk->error, message, sizeof(talk->error));
			talk->reloaded = true;
			talk->looked = false;
			break;
		case ELECTOR_CONSOLE_RESUME:
			talk->resumed = true;	/* somebody else was quicker */
			break;
		case ELECTOR_CONSOLE_MARK:
			ereport(LOG,
					(errmsg("PgBouncer \"%s\" is not paused: %s", console->name, message)));
			talk->refused = true;
			break;
		case ELECTOR_CONSOLE_HOLD:
			talk->held = true;	/* as far as it can be */
			break;
		case ELECTOR_CONSOLE_SHOW_POOLS:
			talk->calm = true;	/* as far as one can know */
			break;
		case ELECTOR_CONSOLE_PAUSE:
			talk->paused = true;	/* it is already */
			break;
		case ELECTOR_CONSOLE_DOWN:
		case ELECTOR_CONSOLE_CONNECT:
		case ELECTOR_CONSOLE_IDLE:
			Assert(false);
			break;
	}
}

static void
read_answer(ElectorConsole *console, ElectorTime now)
{
	PGresult   *result;

	if (PQflush(console->connection) < 0 || !PQconsumeInput(console->connection))
	{
		lose(console, now, PQerrorMessage(console->connection));
		return;
	}
	while (!PQisBusy(console->connection))
	{
		result = PQgetResult(console->connection);
		if (result == NULL)
		{
			console->step = ELECTOR_CONSOLE_IDLE;
			console->talk.stale = false;
			return;
		}
		if (PQresultStatus(result) == PGRES_TUPLES_OK ||
			PQresultStatus(result) == PGRES_COMMAND_OK)
			accept_answer(console, result, now);
		else
		{
			char	   *message = pstrdup(PQresultErrorMessage(result));

			message[strcspn(message, "\n")] = '\0';
			accept_error(console, message, now);
			pfree(message);
		}
		PQclear(result);
	}
}

/* An idle connection that becomes readable has been closed. */
static void
watch_idle(ElectorConsole *console, ElectorTime now)
{
	if (!PQconsumeInput(console->connection) ||
		PQstatus(console->connection) == CONNECTION_BAD)
	{
		lose(console, now, PQerrorMessage(console->connection));
		console->next_at = 0;	/* it may just be restarted */
	}
}

/* --- for pgbouncer.c --- */

static bool
answer_due(const ElectorConsole *console)
{
	switch (console->step)
	{
		case ELECTOR_CONSOLE_DOWN:
		case ELECTOR_CONSOLE_IDLE:
		case ELECTOR_CONSOLE_PAUSE: /* waits for clients */
			return false;
		case ELECTOR_CONSOLE_CONNECT:
		case ELECTOR_CONSOLE_SHOW_CONFIG:
		case ELECTOR_CONSOLE_SHOW_DATABASES:
		case ELECTOR_CONSOLE_SHOW_POOLS:
		case ELECTOR_CONSOLE_SET_FILE:
		case ELECTOR_CONSOLE_RELOAD:
		case ELECTOR_CONSOLE_RESUME:
		case ELECTOR_CONSOLE_UNMARK:
		case ELECTOR_CONSOLE_MARK:
		case ELECTOR_CONSOLE_HOLD:
			return true;
	}
	pg_unreachable();
}

ElectorTime
elector_console_pump(ElectorConsole *console, const ElectorConsoleWish *wish, ElectorTime now)
{
	if (console->step == ELECTOR_CONSOLE_DOWN && now >= console->next_at)
		start_connection(console, now);
	if (console->step == ELECTOR_CONSOLE_CONNECT)
		poll_connection(console, now);
	if (console->step > ELECTOR_CONSOLE_IDLE)
		read_answer(console, now);
	if (console->step == ELECTOR_CONSOLE_IDLE)
		watch_idle(console, now);
	if (console->step == ELECTOR_CONSOLE_IDLE)
		go_on(console, wish, now);

	if (answer_due(console))
	{
		if (now < console->since + ANSWER_BOUND)
			return console->since + ANSWER_BOUND;
		lose(console, now, "no answer in time");
	}
	if (console->step == ELECTOR_CONSOLE_PAUSE)
		return now + NOT_SOON;
	return Max(console->next_at, now + SHORT_INTERVAL);
}

void
elector_console_begin_anew(ElectorConsole *console, bool leading)
{
	/* While it waits for a PAUSE, it listens to nothing else. */
	if (console->step == ELECTOR_CONSOLE_PAUSE ||
		(console->step >= ELECTOR_CONSOLE_SET_FILE && !leading))
		elector_console_finish(console);
	begin_check(console);
}

void
elector_console_begin_pausing(ElectorConsole *console)
{
	ElectorConsoleTalk *talk = &console->talk;

	talk->ready = talk->refused = talk->held = talk->calm = talk->paused = false;
	if (console->step != ELECTOR_CONSOLE_DOWN)
		console->next_at = 0;
}

void
elector_console_add_events(const ElectorConsole *console, WaitEventSet *set)
{
	int			events = WL_SOCKET_READABLE;

	if (console->step == ELECTOR_CONSOLE_DOWN)
		return;
	if (console->step == ELECTOR_CONSOLE_CONNECT && console->polling == PGRES_POLLING_WRITING)
		events = PQstatus(console->connection) == CONNECTION_STARTED ?
			WL_SOCKET_CONNECTED : WL_SOCKET_WRITEABLE;
	else if (console->step > ELECTOR_CONSOLE_IDLE && PQflush(console->connection) == 1)
		events |= WL_SOCKET_WRITEABLE;
	AddWaitEventToSet(set, events, PQsocket(console->connection), NULL, NULL);
}
