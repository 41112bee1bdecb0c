/*
 * peers.c
 *	  The worker's connections to the other members.
 *
 * One libpq connection a member, itself among them (which shows whether the
 * others can come in by pg_elector.conninfo at all), kept open, so that an election finds it open
 * and needs no free slot at the worst moment.  Everything is asynchronous: the
 * worker waits for all sockets in its one WaitEventSet and calls
 * elector_peers_pump() when something has happened.
 *
 * A peer is asked one question at a time, the most urgent first.  One that does
 * not answer within pg_elector.fence_timeout loses its connection and gets a
 * new one; since when it has been silent is remembered, so that an election
 * need not wait again for a host that is already known not to answer.
 *
 * The trap: libpq resolves host names while it connects, without a bound.  Where
 * pg_elector.conninfo names hosts by name, the resolver must be a fast one.
 */
#include "peers.h"

#include <poll.h>

#include "libpq-fe.h"
#include "storage/latch.h"
#include "utils/guc.h"

/* How long before a refused or broken connection is tried again ... */
#define RETRY_INTERVAL 1000000

/* ... when something urgent waits for it. */
#define URGENT_INTERVAL 100000

#define ARGUMENT_SIZE ELECTOR_CALL_SIZE

typedef enum PeerState
{
	PEER_DOWN,					/* no connection; see retry_at */
	PEER_CONNECTING,
	PEER_IDLE,
	PEER_BUSY					/* a question is out */
} PeerState;

typedef struct Peer
{
	char		node[ELECTOR_NAME_SIZE];
	char		conninfo[ELECTOR_CONNINFO_SIZE];
	PGconn	   *connection;
	PeerState	state;
	PostgresPollingStatusType polling;
	ElectorTime since;			/* of the connection attempt, or of the
								 * question */
	ElectorTime retry_at;
	ElectorTime silent_since;
	char		error[ELECTOR_TEXT_SIZE];
	ElectorQuestion asked;		/* when busy */
	bool		wanted[ELECTOR_QUESTIONS];
	char		argument[ELECTOR_QUESTIONS][ARGUMENT_SIZE];
} Peer;

static Peer peers[ELECTOR_MEMBERS_MAX];
static int	npeers = 0;
static ElectorPeerCallback callback;

/*
 * The owner of that database or of a schema in it must not be able to have the
 * peers' role call a function of his own: everything is qualified, and of one type
 * only.  The extension is always in public.
 */
#define SEARCH_PATH_OPTION "-csearch_path=pg_catalog"

static const char *const statements[] = {
	[ELECTOR_ASK_FENCE] = "SELECT public.elector_fence($1::pg_catalog.text)",
	[ELECTOR_ASK_ESTABLISH] = "SELECT public.elector_establish($1::pg_catalog.text)",
	[ELECTOR_ASK_PROMISE] = "SELECT public.elector_promise($1::pg_catalog.text)",
	[ELECTOR_ASK_REPORT] = "SELECT public.elector_report()"
};

static Peer *
find(const char *node)
{
	for (int i = 0; i < npeers; i++)
	{
		if (strcmp(peers[i].node, node) == 0)
			return &peers[i];
	}
	return NULL;
}

void
elector_peers_init(ElectorPeerCallback result_callback)
{
	callback = result_callback;
	npeers = 0;
}

/* The first line of libpq's message, which holds no password. */
static void
keep_error(Peer *peer, const char *message)
{
	strlcpy(peer->error, message, sizeof(peer->error));
	peer->error[strcspn(peer->error, "\n")] = '\0';
}

static void
finish(Peer *peer)
{
	PQfinish(peer->connection);
	peer->connection = NULL;
	peer->state = PEER_DOWN;
}

/* All questions that wait end unanswered. */
static void
fail_questions(Peer *peer)
{
	for (int question = 0; question < ELECTOR_QUESTIONS; question++)
	{
		if (peer->wanted[question])
		{
			peer->wanted[question] = false;
			callback(peer->node, question, NULL, peer->error);
		}
	}
}

/*
 * The connection cannot be used any more.  Being refused is an answer to
 * whatever was to be asked; having no answer is not.
 */
static void
lose(Peer *peer, ElectorTime now, const char *message, bool answered)
{
	bool		busy = peer->state == PEER_BUSY;

	keep_error(peer, message);
	finish(peer);
	peer->retry_at = now + (peer->wanted[ELECTOR_ASK_FENCE] ||
							peer->wanted[ELECTOR_ASK_ESTABLISH] ||
							peer->wanted[ELECTOR_ASK_PROMISE] ?
							URGENT_INTERVAL : RETRY_INTERVAL);
	if (peer->silent_since == 0)
		peer->silent_since = peer->since;
	if (busy)
		callback(peer->node, peer->asked, NULL, peer->error);
	if (answered)
		fail_questions(peer);
}

/* The options that the connection string gives, and then ours, which prevail. */
static void
make_options(const char *conninfo, char *options, size_t size)
{
	PQconninfoOption *given = PQconninfoParse(conninfo, NULL);

	strlcpy(options, SEARCH_PATH_OPTION, size);
	for (PQconninfoOption *option = given; option != NULL && option->keyword != NULL; option++)
	{
		if (strcmp(option->keyword, "options") == 0 && option->val != NULL)
			snprintf(options, size, "%s " SEARCH_PATH_OPTION, option->val);
	}
	PQconninfoFree(given);
}

static void
start_connection(Peer *peer, ElectorTime now)
{
	char		name[ELECTOR_NAME_SIZE + 16];
	char		options[ELECTOR_CONNINFO_SIZE + sizeof(SEARCH_PATH_OPTION)];
	const char *keywords[] = {"dbname", "application_name", "options", "gssencmode", "client_encoding", NULL};
	const char *values[] = {peer->conninfo, name, options, "disable", "UTF8", NULL};

	snprintf(name, sizeof(name), ELECTOR_LIBRARY "/%s", elector_node);
	make_options(peer->conninfo, options, sizeof(options));
	peer->since = now;
	peer->connection = PQconnectStartParams(keywords, values, 1);
	if (peer->connection == NULL || PQstatus(peer->connection) == CONNECTION_BAD)
	{
		lose(peer, now,
			 peer->connection ? PQerrorMessage(peer->connection) : "out of memory",
			 true);
		return;
	}
	peer->state = PEER_CONNECTING;
	peer->polling = PGRES_POLLING_WRITING;
}

/* PQconnectPoll() blocks if it is called before the socket is ready. */
static bool
socket_ready(const Peer *peer)
{
	struct pollfd ready = {PQsocket(peer->connection),
	peer->polling == PGRES_POLLING_READING ? POLLIN : POLLOUT, 0};

	return poll(&ready, 1, 0) != 0;
}

static void
poll_connection(Peer *peer, ElectorTime now)
{
	if (!socket_ready(peer))
		return;
	peer->polling = PQconnectPoll(peer->connection);
	switch (peer->polling)
	{
		case PGRES_POLLING_OK:
			if (PQsetnonblocking(peer->connection, 1) != 0)
			{
				lose(peer, now, PQerrorMessage(peer->connection), true);
				break;
			}
			peer->state = PEER_IDLE;
			peer->silent_since = 0;
			peer->error[0] = '\0';
			break;
		case PGRES_POLLING_FAILED:
			{
				/*
				 * A server that starts or stops is there and may answer soon;
				 * one that is not there will not.
				 */
				const char *message = PQerrorMessage(peer->connection);
				bool		starting = strstr(message, "starting up") != NULL ||
				strstr(message, "recovery state") != NULL;

				lose(peer, now, message, !starting);
				break;
			}
		case PGRES_POLLING_READING:
		case PGRES_POLLING_WRITING:
		case PGRES_POLLING_ACTIVE:
			break;
	}
}

static void
send_question(Peer *peer, ElectorTime now)
{
	for (int question = 0; question < ELECTOR_QUESTIONS; question++)
	{
		const char *values[] = {peer->argument[question]};

		if (!peer->wanted[question])
			continue;
		peer->wanted[question] = false;
		peer->asked = question;
		peer->state = PEER_BUSY;
		peer->since = now;
		if (!PQsendQueryParams(peer->connection, statements[question],
							   question == ELECTOR_ASK_REPORT ? 0 : 1, NULL,
							   values, NULL, NULL, 0))
			lose(peer, now, PQerrorMessage(peer->connection), false);
		return;
	}
}

/* The two errors that a set-up is known to run into say what to do. */
static const char *
explain_error(const PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (code != NULL && strcmp(code, "42883") == 0)
		return "extension pg_elector is missing in the database of its pg_elector.conninfo: it cannot be fenced or asked; run CREATE EXTENSION pg_elector there";
	if (code != NULL && strcmp(code, "42501") == 0)
		return "the role of its pg_elector.conninfo may not fence or ask it; run SELECT elector_grant_peer(role) as a superuser";
	return PQresultErrorMessage(result);
}

static void
read_answer(Peer *peer, ElectorTime now)
{
	PGresult   *result;

	if (PQflush(peer->connection) < 0 || !PQconsumeInput(peer->connection))
	{
		lose(peer, now, PQerrorMessage(peer->connection), false);
		return;
	}
	while (!PQisBusy(peer->connection))
	{
		result = PQgetResult(peer->connection);
		if (result == NULL)
		{
			peer->state = PEER_IDLE;
			return;
		}
		if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1 &&
			PQnfields(result) == 1 && !PQgetisnull(result, 0, 0))
		{
			peer->silent_since = 0;
			peer->error[0] = '\0';
			callback(peer->node, peer->asked, PQgetvalue(result, 0, 0), NULL);
		}
		else
		{
			keep_error(peer, explain_error(result));
			callback(peer->node, peer->asked, NULL, peer->error);
		}
		PQclear(result);
	}
}

/* An idle connection that becomes readable has been closed. */
static void
watch_idle(Peer *peer, ElectorTime now)
{
	if (!PQconsumeInput(peer->connection) ||
		PQstatus(peer->connection) == CONNECTION_BAD)
	{
		peer->since = now;
		lose(peer, now, PQerrorMessage(peer->connection), false);
	}
}

static ElectorTime
pump_peer(Peer *peer, ElectorTime now)
{
	ElectorTime bound = (ElectorTime) elector_fence_timeout * 1000;

	if (peer->state == PEER_DOWN && now >= peer->retry_at)
		start_connection(peer, now);
	if (peer->state == PEER_CONNECTING)
		poll_connection(peer, now);
	if (peer->state == PEER_BUSY)
		read_answer(peer, now);
	if (peer->state == PEER_IDLE)
		watch_idle(peer, now);
	if (peer->state == PEER_IDLE)
		send_question(peer, now);

	if (peer->state == PEER_CONNECTING || peer->state == PEER_BUSY)
	{
		if (now >= peer->since + bound)
		{
			lose(peer, now, "no answer in time", false);
			return peer->retry_at;
		}
		/* From the moment it was asked, it owes us an answer. */
		if (peer->silent_since == 0)
			peer->silent_since = peer->since;
		return peer->since + bound;
	}
	return peer->state == PEER_DOWN ? peer->retry_at : now + 3600 * (ElectorTime) 1000000;
}

ElectorTime
elector_peers_pump(ElectorTime now)
{
	ElectorTime again = now + 3600 * (ElectorTime) 1000000;

	for (int i = 0; i < npeers; i++)
		again = Min(again, pump_peer(&peers[i], now));
	return again;
}

void
elector_peers_sync(const ElectorMirror *mirror)
{
	for (int i = npeers - 1; i >= 0; i--)
	{
		bool		kept = false;

		for (int j = 0; j < mirror->cluster.nnodes; j++)
		{
			const ElectorMember *member = &mirror->cluster.nodes[j].member;

			kept |= member->present && strcmp(member->node, peers[i].node) == 0 &&
				strcmp(member->conninfo, peers[i].conninfo) == 0;
		}
		if (!kept)
		{
			finish(&peers[i]);
			peers[i] = peers[--npeers];
		}
	}
	for (int j = 0; j < mirror->cluster.nnodes; j++)
	{
		const ElectorMember *member = &mirror->cluster.nodes[j].member;

		if (!member->present ||
			find(member->node) != NULL || npeers == ELECTOR_MEMBERS_MAX)
			continue;
		memset(&peers[npeers], 0, sizeof(Peer));
		strlcpy(peers[npeers].node, member->node, ELECTOR_NAME_SIZE);
		strlcpy(peers[npeers].conninfo, member->conninfo, ELECTOR_CONNINFO_SIZE);
		npeers++;
	}
}

void
elector_peers_ask(const char *node, ElectorQuestion question, const char *argument)
{
	Peer	   *peer = find(node);

	if (peer == NULL)
	{
		callback(node, question, NULL, "not a member");
		return;
	}
	peer->wanted[question] = true;
	strlcpy(peer->argument[question], argument, ARGUMENT_SIZE);

	/* What is urgent does not wait for the next try. */
	if (question != ELECTOR_ASK_REPORT)
		peer->retry_at = 0;
}

/* Somebody waits for what they say: do not wait before the next try. */
void
elector_peers_hurry(void)
{
	for (int i = 0; i < npeers; i++)
		peers[i].retry_at = 0;
}

void
elector_peers_forget(ElectorQuestion question)
{
	for (int i = 0; i < npeers; i++)
		peers[i].wanted[question] = false;
}

ElectorTime
elector_peers_asked_at(const char *node)
{
	const Peer *peer = find(node);

	return peer != NULL ? peer->since : 0;
}

ElectorTime
elector_peers_silent_since(const char *node)
{
	Peer	   *peer = find(node);

	return peer != NULL ? peer->silent_since : 0;
}

const char *
elector_peers_error(const char *node)
{
	Peer	   *peer = find(node);

	return peer != NULL ? peer->error : "";
}

void
elector_peers_disconnect(const char *node)
{
	Peer	   *peer = find(node);

	if (peer != NULL && peer->state != PEER_DOWN)
	{
		peer->since = elector_now();
		lose(peer, peer->since, "the server is stopping", true);
	}
}

int
elector_peers_count(void)
{
	return npeers;
}

void
elector_peers_add_events(WaitEventSet *set)
{
	for (int i = 0; i < npeers; i++)
	{
		Peer	   *peer = &peers[i];
		int			events = WL_SOCKET_READABLE;

		if (peer->state == PEER_DOWN)
			continue;
		if (peer->state == PEER_CONNECTING && peer->polling == PGRES_POLLING_WRITING)
			events = PQstatus(peer->connection) == CONNECTION_STARTED ?
				WL_SOCKET_CONNECTED : WL_SOCKET_WRITEABLE;
		else if (peer->state == PEER_BUSY && PQflush(peer->connection) == 1)
			events |= WL_SOCKET_WRITEABLE;
		AddWaitEventToSet(set, events, PQsocket(peer->connection), NULL, NULL);
	}
}
