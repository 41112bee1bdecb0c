/*
 * outcome.h
 *	  For the tests of the client: ask, wait as the worker's loop does, and
 *	  keep what the callback was told.
 */
#ifndef ELECTOR_OUTCOME_H
#define ELECTOR_OUTCOME_H

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../src/etcd/client.h"
#include "tap.h"

#define SECOND			INT64_C(1000000)
#define ENOUGH			(10 * SECOND)	/* far more than anything here takes */

#define OK		ELECTOR_ETCD_OK
#define UNKNOWN	ELECTOR_ETCD_UNKNOWN
#define REFUSED	ELECTOR_ETCD_REFUSED

typedef struct Outcome
{
	int			calls;
	ElectorEtcdReply reply;		/* pointers are void */
	char		error[512];
	char		endpoint[256];
	char		key[64];		/* of the first key, the last, ... */
	char		last_key[64];
	char		value[64];
	ElectorEtcdKv kv;			/* ... and numbers of the first */
	size_t		total;			/* keys over all calls */
} Outcome;

static int64_t
now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SECOND + ts.tv_nsec / 1000;
}

static void
record(void *arg, const ElectorEtcdReply *reply)
{
	Outcome    *outcome = arg;

	outcome->calls++;
	outcome->reply = *reply;
	outcome->total += reply->nkvs;
	snprintf(outcome->error, sizeof(outcome->error), "%s", reply->error);
	snprintf(outcome->endpoint, sizeof(outcome->endpoint), "%s", reply->endpoint);
	if (reply->nkvs > 0)
	{
		outcome->kv = reply->kvs[0];
		snprintf(outcome->key, sizeof(outcome->key), "%s", reply->kvs[0].key);
		snprintf(outcome->last_key, sizeof(outcome->last_key), "%s",
				 reply->kvs[reply->nkvs - 1].key);
		snprintf(outcome->value, sizeof(outcome->value), "%s", reply->kvs[0].value);
	}
}

/* As the worker's loop does it. */
static bool
wait_for(ElectorEtcd *etcd, const Outcome *outcome, int calls)
{
	int64_t		end = now_us() + ENOUGH;

	while (outcome->calls < calls && now_us() < end)
	{
		struct pollfd pollfd = {.fd = elector_etcd_fd(etcd),.events = POLLIN};
		int64_t		timeout = elector_etcd_timeout(etcd);

		if (timeout < 0 || timeout > SECOND)
			timeout = SECOND;
		poll(&pollfd, 1, (int) ((timeout + 999) / 1000));
		elector_etcd_pump(etcd);
	}
	return outcome->calls >= calls;
}

/* Time passes, with nothing expected. */
static void TAP_UNUSED
pump_for(ElectorEtcd *etcd, int64_t us)
{
	int64_t		end = now_us() + us;

	while (now_us() < end)
	{
		struct pollfd pollfd = {.fd = elector_etcd_fd(etcd),.events = POLLIN};

		poll(&pollfd, 1, 10);
		elector_etcd_pump(etcd);
	}
}

static ElectorTxn *
range_txn(const char *key, const char *range_end)
{
	ElectorTxn *txn = elector_txn_create();

	elector_txn_range(txn, key, range_end, 0, false);
	return txn;
}

static ElectorEtcd *
client_of(const char *endpoints)
{
	const char *error;
	ElectorEtcdSettings settings = {.endpoints = endpoints};
	ElectorEtcd *etcd = elector_etcd_create(&settings, &error);

	if (etcd == NULL)
	{
		printf("Bail out! %s: %s\n", endpoints, error);
		exit(1);
	}
	return etcd;
}

typedef enum Question
{
	GRANT,
	KEEPALIVE,
	REVOKE,
	TIMETOLIVE,
	RANGE,						/* a transaction with one range */
	WATCH
} Question;

static void
ask(ElectorEtcd *etcd, Question question, int64_t bound, Outcome *outcome)
{
	memset(outcome, 0, sizeof(*outcome));
	switch (question)
	{
		case GRANT:
			elector_etcd_grant(etcd, 5, bound, record, outcome);
			break;
		case KEEPALIVE:
			elector_etcd_keepalive(etcd, 77, bound, record, outcome);
			break;
		case REVOKE:
			elector_etcd_revoke(etcd, 77, bound, record, outcome);
			break;
		case TIMETOLIVE:
			elector_etcd_timetolive(etcd, 77, bound, record, outcome);
			break;
		case RANGE:
			elector_etcd_commit(etcd, range_txn("a", "b"), bound, record, outcome);
			break;
		case WATCH:
			elector_etcd_watch(etcd, "a", "b", 1, bound, record, outcome);
			break;
	}
}

static int
listen_on_loopback(int *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t	length = sizeof(address);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(fd, 64) != 0 ||
		getsockname(fd, (struct sockaddr *) &address, &length) != 0)
	{
		printf("Bail out! cannot listen: %s\n", strerror(errno));
		exit(1);
	}
	*port = ntohs(address.sin_port);
	return fd;
}

static int TAP_UNUSED
free_port(void)
{
	int			port;

	close(listen_on_loopback(&port));
	return port;
}

#endif							/* ELECTOR_OUTCOME_H */
