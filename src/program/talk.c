/*
 * talk.c
 *	  Ask etcd something, and wait for the answer.
 *
 * The client (etcd/client.h) never waits; here is a process that has nothing else
 * to do.  A talk has a deadline, and each question in it a bound, so that an
 * endpoint which does not answer leaves time for the next one.
 *
 * The trap is the client's: after a question without an answer it may have
 * happened.  Only reading is tried again in here.
 */
#include "program.h"

#include <poll.h>
#include <time.h>

/* A healthy etcd answers in milliseconds. */
#define REQUEST_BOUND	(700 * INT64CONST(1000))
#define PAUSE			(50 * 1000L)

int64
elector_talk_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

/* What is wrong with certificates or the password is known by then. */
static void
notice(void *arg, bool trouble, const char *message, const char *hint)
{
	if (!trouble)
		return;
	elector_log(ELECTOR_WARNING, "%s", message);
	if (hint[0] != '\0')
		elector_log_hint("%s", hint);
}

/* False, with a message, if the settings are of no use. */
bool
elector_talk_begin(ElectorTalk *talk, const ElectorEtcdSettings *etcd, const char *cluster,
				   const char *node, int64 bound)
{
	const char *error = "no endpoint is set";

	memset(talk, 0, sizeof(*talk));
	talk->deadline = elector_talk_now() + bound;
	talk->etcd = etcd->endpoints ? elector_etcd_create(etcd, &error) : NULL;
	if (talk->etcd == NULL)
	{
		elector_log(ELECTOR_WARNING, "could not use etcd: %s", error);
		return false;
	}
	elector_etcd_listen(talk->etcd, notice, NULL);
	talk->mirror = pg_malloc0(sizeof(ElectorMirror));
	elector_mirror_init(talk->mirror, cluster, node);
	return true;
}

void
elector_talk_end(ElectorTalk *talk)
{
	elector_etcd_destroy(talk->etcd);
	pg_free(talk->mirror);
}

static void
take_answer(void *arg, const ElectorEtcdReply *reply)
{
	ElectorTalk *talk = arg;

	talk->answered = true;
	talk->status = reply->status;
	talk->succeeded = reply->succeeded;
	talk->lease = reply->lease;
	talk->ttl = reply->ttl;
	strlcpy(talk->endpoint, reply->endpoint, sizeof(talk->endpoint));
	if (reply->status != ELECTOR_ETCD_OK)
		strlcpy(talk->error, reply->error, sizeof(talk->error));
	else if (talk->loading)
		elector_mirror_load(talk->mirror, reply);
}

static int64
request_bound(const ElectorTalk *talk)
{
	return Min(REQUEST_BOUND, Max(talk->deadline - elector_talk_now(), 1000));
}

/* Wait for the answer to the request just made.  True if etcd answered well. */
static bool
wait_for_answer(ElectorTalk *talk)
{
	while (!talk->answered && elector_talk_now() < talk->deadline)
	{
		struct pollfd readable = {.fd = elector_etcd_fd(talk->etcd),.events = POLLIN};
		int64		wait = elector_etcd_timeout(talk->etcd);
		int64		left = Max(talk->deadline - elector_talk_now(), 0);

		wait = wait < 0 ? left : Min(wait, left);
		poll(&readable, 1, (int) ((wait + 999) / 1000));
		elector_etcd_pump(talk->etcd);
	}
	if (!talk->answered)
		strlcpy(talk->error, "timeout expired", sizeof(talk->error));
	return talk->answered && talk->status == ELECTOR_ETCD_OK;
}

/* Read all keys of the cluster. */
bool
elector_talk_read(ElectorTalk *talk)
{
	bool		ok;

	talk->answered = false;
	talk->loading = true;
	elector_etcd_commit(talk->etcd, elector_mirror_read(talk->mirror), request_bound(talk),
						take_answer, talk);
	ok = wait_for_answer(talk);
	talk->loading = false;
	return ok;
}

/* The same until an endpoint answers; what etcd refuses it would refuse again. */
bool
elector_talk_load(ElectorTalk *talk)
{
	for (;;)
	{
		if (elector_talk_read(talk))
			return true;
		if ((talk->answered && talk->status == ELECTOR_ETCD_REFUSED) ||
			elector_talk_now() + PAUSE >= talk->deadline)
			return false;
		pg_usleep(PAUSE);
	}
}

/* Frees txn. */
bool
elector_talk_commit(ElectorTalk *talk, ElectorTxn *txn)
{
	talk->answered = false;
	elector_etcd_commit(talk->etcd, txn, request_bound(talk), take_answer, talk);
	return wait_for_answer(talk);
}

bool
elector_talk_revoke(ElectorTalk *talk, int64 lease)
{
	talk->answered = false;
	elector_etcd_revoke(talk->etcd, lease, request_bound(talk), take_answer, talk);

	/* what etcd refuses is a lease that it does not have */
	return wait_for_answer(talk) || (talk->answered && talk->status == ELECTOR_ETCD_REFUSED);
}

/* A lease of at least so many seconds: talk->lease, and talk->ttl is what etcd gave. */
bool
elector_talk_grant(ElectorTalk *talk, int64 ttl)
{
	talk->answered = false;
	elector_etcd_grant(talk->etcd, ttl, request_bound(talk), take_answer, talk);
	return wait_for_answer(talk);
}

/* How many seconds a lease has left; -1: that is not known. */
int64
elector_talk_time_left(ElectorTalk *talk, int64 lease)
{
	talk->answered = false;
	elector_etcd_timetolive(talk->etcd, lease, request_bound(talk), take_answer, talk);
	return wait_for_answer(talk) ? Max(talk->ttl, 0) : -1;
}
