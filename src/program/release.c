/*
 * release.c
 *	  Give up leadership in etcd, as the postmaster's last word.
 *
 * The postmaster and all its children are gone, so no commit can be under way:
 * this is the leader's own word that its term is over (I4).  Where the control
 * file says "shut down", the word carries the position of the shutdown
 * checkpoint, by which an heir knows that it lacks nothing (S14, S19).
 *
 * All is one transaction that compares the leader key's create revision: a
 * leadership that ended meanwhile, and its successor, are left alone.  The trap
 * is the answer that does not come: the transaction may have happened, so
 * everything is read again before another try.  If etcd cannot be reached the
 * lease expires by itself, and somebody waits for it a little.
 */
#include "program.h"

#include <poll.h>
#include <time.h>

#include "../etcd/client.h"
#include "../etcd/json.h"
#include "../etcd/mirror.h"

/*
 * The server's restart waits for this; with an etcd that answers it is a few
 * milliseconds.  Several endpoints may be tried within it.
 */
#define RELEASE_BOUND	(2 * INT64CONST(1000000))
#define REQUEST_BOUND	(700 * INT64CONST(1000))
#define PAUSE			(50 * 1000L)

/* A stop that took longer than this was another boot's. */
#define RELEASE_STALE	(24 * 3600 * INT64CONST(1000000))

typedef struct Talk
{
	ElectorEtcd *etcd;
	ElectorMirror *mirror;
	int64		deadline;
	bool		loading;		/* the request under way reads the mirror */
	bool		answered;
	ElectorEtcdStatus status;
	bool		succeeded;
	char		error[256];
} Talk;

static int64
microseconds(void)
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

static bool
talk_begin(Talk *talk, const ElectorProgram *program, int64 bound)
{
	const char *error = "no endpoint is set";

	memset(talk, 0, sizeof(*talk));
	talk->deadline = microseconds() + bound;
	talk->etcd = program->etcd.endpoints ? elector_etcd_create(&program->etcd, &error) : NULL;
	if (talk->etcd == NULL)
	{
		elector_log(ELECTOR_WARNING, "could not use etcd: %s", error);
		return false;
	}
	elector_etcd_listen(talk->etcd, notice, NULL);
	talk->mirror = pg_malloc0(sizeof(ElectorMirror));
	elector_mirror_init(talk->mirror, program->cluster, program->node);
	return true;
}

static void
talk_end(Talk *talk)
{
	elector_etcd_destroy(talk->etcd);
	pg_free(talk->mirror);
}

static void
take_answer(void *arg, const ElectorEtcdReply *reply)
{
	Talk	   *talk = arg;

	talk->answered = true;
	talk->status = reply->status;
	talk->succeeded = reply->succeeded;
	if (reply->status != ELECTOR_ETCD_OK)
		snprintf(talk->error, sizeof(talk->error), "%s", reply->error);
	else if (talk->loading)
		elector_mirror_load(talk->mirror, reply);
}

static int64
request_bound(const Talk *talk)
{
	return Min(REQUEST_BOUND, Max(talk->deadline - microseconds(), 1000));
}

/* Wait for the answer to the request just made.  True if etcd answered well. */
static bool
talk_wait(Talk *talk)
{
	while (!talk->answered && microseconds() < talk->deadline)
	{
		struct pollfd readable = {.fd = elector_etcd_fd(talk->etcd),.events = POLLIN};
		int64		wait = elector_etcd_timeout(talk->etcd);
		int64		left = Max(talk->deadline - microseconds(), 0);

		wait = wait < 0 ? left : Min(wait, left);
		poll(&readable, 1, (int) ((wait + 999) / 1000));
		elector_etcd_pump(talk->etcd);
	}
	if (!talk->answered)
		snprintf(talk->error, sizeof(talk->error), "timeout expired");
	return talk->answered && talk->status == ELECTOR_ETCD_OK;
}

static bool
talk_read(Talk *talk)
{
	bool		ok;

	talk->answered = false;
	talk->loading = true;
	elector_etcd_commit(talk->etcd, elector_mirror_read(talk->mirror), request_bound(talk),
						take_answer, talk);
	ok = talk_wait(talk);
	talk->loading = false;
	return ok;
}

static bool
talk_commit(Talk *talk, ElectorTxn *txn)
{
	talk->answered = false;
	elector_etcd_commit(talk->etcd, txn, request_bound(talk), take_answer, talk);
	return talk_wait(talk);
}

static bool
talk_revoke(Talk *talk, int64 lease)
{
	talk->answered = false;
	elector_etcd_revoke(talk->etcd, lease, request_bound(talk), take_answer, talk);

	/* what etcd refuses is a lease that it does not have */
	return talk_wait(talk) || (talk->answered && talk->status == ELECTOR_ETCD_REFUSED);
}

/* Where the server was shut down; nowhere if it was not. */
static ElectorPosition
shutdown_position(const char *data_directory)
{
	ElectorPosition position = {0};
	ControlFileData control;

	if (elector_control_read(data_directory, &control) && control.state == DB_SHUTDOWNED)
	{
		position.timeline = control.checkPointCopy.ThisTimeLineID;
		position.lsn = control.checkPoint;
	}
	return position;
}

/* For how long nothing has been written, if the server was stopped as planned. */
static int32
stopping_ms(const ElectorLeadership *leadership)
{
	int64		since = leadership->stopped_at;
	int64		now = microseconds();

	return since > 0 && since <= now && now - since < RELEASE_STALE ? (now - since) / 1000 : -1;
}

void
elector_release(const ElectorProgram *program, const ElectorLeadership *leadership)
{
	ElectorPosition position = shutdown_position(program->data_directory);
	ElectorChange *change;
	bool		over = false;
	bool		released = false;
	Talk		talk;

	if (!talk_begin(&talk, program, RELEASE_BOUND))
		return;
	change = pg_malloc(sizeof(ElectorChange));

	while (!over && microseconds() < talk.deadline)
	{
		if (talk_read(&talk))
		{
			const ElectorLeader *leader = &talk.mirror->cluster.leader;

			if (!elector_change_releases(leader, leadership))
				over = true;
			else
			{
				/* What `term` says of another leadership is left alone. */
				elector_change_release(change, &talk.mirror->cluster, leadership,
									   position.lsn != 0 ? &position : NULL,
									   stopping_ms(leadership));
				if (talk_commit(&talk, elector_mirror_txn(talk.mirror, change)))
					over = released = talk.succeeded;
			}
		}
		if (!over)
			pg_usleep(PAUSE);
	}

	if (released)
		elector_log(ELECTOR_LOG, "released leadership of term " UINT64_FORMAT " at %X/%X on timeline %u",
					leadership->term, LSN_FORMAT_ARGS(position.lsn), position.timeline);
	else if (over)
		elector_log(ELECTOR_LOG, "leadership of term " UINT64_FORMAT " is over already",
					leadership->term);

	if (!over || !talk_revoke(&talk, leadership->lease))
	{
		elector_log(ELECTOR_WARNING, "could not %s in etcd: %s",
					over ? "revoke the leader's lease" : "release leadership", talk.error);
		elector_log_detail("The lease expires by itself.");
	}
	pg_free(change);
	talk_end(&talk);
}

/* Who leads now?  False if nobody, or if that is not known. */
bool
elector_find_leader(const ElectorProgram *program, ElectorLeader *leader)
{
	bool		found = false;
	Talk		talk;

	if (!talk_begin(&talk, program, RELEASE_BOUND))
		return false;
	while (!found && microseconds() < talk.deadline)
	{
		if (talk_read(&talk))
		{
			*leader = talk.mirror->cluster.leader;
			found = leader->present && strcmp(leader->node, program->node) != 0;
			break;
		}
		pg_usleep(PAUSE);
	}
	talk_end(&talk);
	return found;
}
