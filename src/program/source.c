/*
 * source.c
 *	  The server to rejoin: how to reach it, and is it fit to be copied from?
 *
 * Passwords are passed to children in the environment, not on their command
 * line, where everybody could read them.
 */
#include "program.h"

#include <poll.h>
#include <time.h>

#include "pqexpbuffer.h"

#define CONNECT_BOUND	10		/* seconds */
#define QUERY_BOUND		10

/* A checkpoint of a busy server with slow disks; it is asked to be fast. */
#define CHECKPOINT_BOUND	300

/*
 * What the connection string should say if it does not: a source that dies
 * while it is copied from should be noticed in half a minute.
 */
static const struct
{
	const char *keyword;
	const char *value;
}			defaults[] = {
	{"dbname", "postgres"},
	{"connect_timeout", "10"},
	{"keepalives_idle", "10"},
	{"keepalives_interval", "5"},
	{"keepalives_count", "4"},
	{"tcp_user_timeout", "30000"},
};

static void
append_option(PQExpBuffer buffer, const char *keyword, const char *value)
{
	appendPQExpBuffer(buffer, "%s%s='", buffer->len > 0 ? " " : "", keyword);
	for (; *value; value++)
	{
		if (*value == '\'' || *value == '\\')
			appendPQExpBufferChar(buffer, '\\');
		appendPQExpBufferChar(buffer, *value);
	}
	appendPQExpBufferChar(buffer, '\'');
}

/* Take a connection string apart.  False, with a message, if it is none. */
bool
elector_source_parse(const char *conninfo, ElectorSource *source)
{
	char	   *error = NULL;
	PQconninfoOption *options = PQconninfoParse(conninfo, &error);
	PQExpBufferData text;

	memset(source, 0, sizeof(*source));
	if (options == NULL || conninfo[0] == '\0')
	{
		elector_log(ELECTOR_WARNING, "connection string of the server to rejoin is not usable: %s",
					error ? error : "it is empty");
		PQfreemem(error);
		PQconninfoFree(options);
		return false;
	}

	initPQExpBuffer(&text);
	for (PQconninfoOption *option = options; option->keyword; option++)
	{
		const char *value = option->val;

		for (size_t i = 0; value == NULL && i < lengthof(defaults); i++)
		{
			if (strcmp(option->keyword, defaults[i].keyword) == 0)
				value = defaults[i].value;
		}

		/* The leader lets nobody in by a node's name who is not its standby. */
		if (value == NULL || strcmp(option->keyword, "application_name") == 0)
			continue;
		if (strcmp(option->keyword, "password") == 0)
			source->password = pg_strdup(value);
		else
			append_option(&text, option->keyword, value);
	}
	source->conninfo = pg_strdup(text.data);
	termPQExpBuffer(&text);
	PQconninfoFree(options);
	return true;
}

static int64
milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * INT64CONST(1000) + now.tv_nsec / 1000000;
}

/* False when the deadline has passed. */
static bool
wait_for_socket(PGconn *conn, short events, int64 deadline)
{
	struct pollfd socket = {.fd = PQsocket(conn),.events = events};
	int64		left = deadline - milliseconds();

	return left > 0 && poll(&socket, 1, (int) left) > 0;
}

/* Not NULL; its status tells.  replication: for replication commands, not SQL. */
PGconn	   *
elector_source_open(const ElectorSource *source, int bound, bool replication)
{
	const char *keywords[] = {"dbname", "password", "fallback_application_name",
	"replication", NULL};
	const char *values[] = {source->conninfo, source->password, "pg_elector",
	replication ? "true" : NULL, NULL};
	int64		deadline = milliseconds() + bound * INT64CONST(1000);
	PGconn	   *conn = PQconnectStartParams(keywords, values, 1);
	PostgresPollingStatusType step = PGRES_POLLING_WRITING;

	while (conn && PQstatus(conn) != CONNECTION_BAD && step != PGRES_POLLING_OK &&
		   step != PGRES_POLLING_FAILED)
	{
		if (!wait_for_socket(conn, step == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
			break;
		step = PQconnectPoll(conn);
	}
	if (conn == NULL)
	{
		elector_log(ELECTOR_FATAL, "out of memory");
		exit(1);
	}
	return conn;
}

static PGconn *
open_connection(const ElectorSource *source)
{
	return elector_source_open(source, CONNECT_BOUND, false);
}

/* libpq's last word in a line: the first says what, what follows are guesses. */
char	   *
elector_source_problem(PGconn *conn)
{
	char	   *message = pg_strdup(PQerrorMessage(conn));

	message[strcspn(message, "\n")] = '\0';
	return message[0] != '\0' ? message : pg_strdup("timeout expired");
}

/* One query, one row; NULL if it failed or took too long. */
PGresult   *
elector_source_query(PGconn *conn, const char *query, int bound)
{
	int64		deadline = milliseconds() + bound * INT64CONST(1000);
	PGresult   *result = NULL;
	PGresult   *next;

	if (!PQsendQuery(conn, query))
		return NULL;
	for (;;)
	{
		while (PQisBusy(conn))
		{
			if (!wait_for_socket(conn, POLLIN, deadline) || !PQconsumeInput(conn))
			{
				PQclear(result);
				return NULL;
			}
		}
		next = PQgetResult(conn);
		if (next == NULL)
			break;
		PQclear(result);
		result = next;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		return result;
	if (PQresultStatus(result) == PGRES_COMMAND_OK)
		return result;
	PQclear(result);
	return NULL;
}

static bool
look(PGconn *conn, ElectorSource *source, bool *recovering, bool *checkpointed)
{
	PGresult   *result = elector_source_query(conn,
											  "SELECT pg_catalog.pg_is_in_recovery(), system_identifier, timeline_id,"
											  " CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE"
											  " pg_catalog.substr(pg_catalog.pg_walfile_name("
											  "pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END"
											  " FROM pg_catalog.pg_control_system(),"
											  " pg_catalog.pg_control_checkpoint()", QUERY_BOUND);

	if (result == NULL)
		return false;
	*recovering = PQgetvalue(result, 0, 0)[0] == 't';
	source->system = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
	source->timeline = strtoul(PQgetvalue(result, 0, 2), NULL, 10);
	*checkpointed = strtoul(PQgetvalue(result, 0, 3), NULL, 16) == source->timeline;
	PQclear(result);
	return true;
}

/*
 * Is the source a primary whose control file shows its timeline?  pg_rewind
 * compares control files, and up to PostgreSQL 15 that of a freshly promoted
 * server shows the timeline before until the first checkpoint.
 */
bool
elector_source_prepare(ElectorSource *source, char *problem, size_t size)
{
	PGconn	   *conn = open_connection(source);
	bool		recovering = false;
	bool		checkpointed = false;
	bool		ok = false;

	if (PQstatus(conn) != CONNECTION_OK)
		snprintf(problem, size, "could not connect to the server to rejoin: %s",
				 elector_source_problem(conn));
	else if (!look(conn, source, &recovering, &checkpointed))
		snprintf(problem, size, "could not query the server to rejoin: %s", PQerrorMessage(conn));
	else if (recovering)
		snprintf(problem, size, "the server to rejoin is in recovery");
	else
	{
		if (!checkpointed)
		{
			PQclear(elector_source_query(conn, "CHECKPOINT", CHECKPOINT_BOUND));
			if (!look(conn, source, &recovering, &checkpointed))
				checkpointed = false;
		}
		ok = checkpointed;
		if (!ok)
			snprintf(problem, size, "could not make a checkpoint on the server to rejoin: %s",
					 PQerrorMessage(conn));
	}
	PQfinish(conn);
	return ok;
}

/* The history of its timeline, which is empty for the first one; NULL: not known. */
char	   *
elector_source_history(const ElectorSource *source)
{
	PGconn	   *conn = open_connection(source);
	char		query[256];
	PGresult   *result = NULL;
	char	   *history = NULL;

	snprintf(query, sizeof(query),
			 "SELECT pg_catalog.convert_from(pg_catalog.pg_read_binary_file("
			 "'pg_wal/%08X.history', 0, 1000000, true), 'SQL_ASCII')", source->timeline);
	if (PQstatus(conn) == CONNECTION_OK)
		result = elector_source_query(conn, query, QUERY_BOUND);
	PQfinish(conn);
	if (result != NULL)
		history = pg_strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
	return history;
}

char	   *
elector_source_ask(const ElectorSource *source, const char *query, char *problem, size_t size)
{
	PGconn	   *conn = open_connection(source);
	PGresult   *result = NULL;
	char	   *value = NULL;

	if (PQstatus(conn) == CONNECTION_OK)
		result = elector_source_query(conn, query, QUERY_BOUND);
	if (result != NULL && PQntuples(result) == 1)
		value = pg_strdup(PQgetvalue(result, 0, 0));
	else
		snprintf(problem, size, "%s", elector_source_problem(conn));
	PQclear(result);
	PQfinish(conn);
	return value;
}

XLogRecPtr
elector_source_left_at(const ElectorSource *source, const char *history, TimeLineID timeline)
{
	if (source->timeline == timeline)
		return PG_UINT64_MAX;
	for (const char *line = history; line != NULL && *line != '\0';)
	{
		uint32		id;
		uint32		high;
		uint32		low;

		if (sscanf(line, "%u\t%X/%X", &id, &high, &low) == 3 && id == timeline)
			return (uint64) high << 32 | low;
		line = strchr(line, '\n');
		if (line != NULL)
			line++;
	}
	return InvalidXLogRecPtr;
}
