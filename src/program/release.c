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

#include <time.h>

/*
 * The server's restart waits for this; with an etcd that answers it is a few
 * milliseconds.  Several endpoints may be tried within it (talk.c).
 */
#define RELEASE_BOUND	(2 * INT64CONST(1000000))
#define PAUSE			(50 * 1000L)

/* A stop that took longer than this was another boot's. */
#define RELEASE_STALE	(24 * 3600 * INT64CONST(1000000))

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
	int64		now = elector_talk_now();

	return since > 0 && since <= now && now - since < RELEASE_STALE ? (now - since) / 1000 : -1;
}

void
elector_release(const ElectorProgram *program, const ElectorLeadership *leadership)
{
	ElectorPosition position = shutdown_position(program->data_directory);
	ElectorChange *change;
	bool		over = false;
	bool		released = false;
	ElectorTalk talk;

	if (!elector_talk_begin(&talk, &program->etcd, program->cluster, program->node, RELEASE_BOUND))
		return;
	change = pg_malloc(sizeof(ElectorChange));

	while (!over && elector_talk_now() < talk.deadline)
	{
		if (elector_talk_read(&talk))
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
				if (elector_talk_commit(&talk, elector_mirror_txn(talk.mirror, change)))
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

	if (!over || !elector_talk_revoke(&talk, leadership->lease))
	{
		elector_log(ELECTOR_WARNING, "could not %s in etcd: %s",
					over ? "revoke the leader's lease" : "release leadership", talk.error);
		elector_log_detail("The lease expires by itself.");
	}
	pg_free(change);
	elector_talk_end(&talk);
}

/* Who leads now?  False if nobody, or if that is not known. */
bool
elector_find_leader(const ElectorProgram *program, ElectorLeader *leader)
{
	bool		found = false;
	ElectorTalk talk;

	if (!elector_talk_begin(&talk, &program->etcd, program->cluster, program->node, RELEASE_BOUND))
		return false;
	while (!found && elector_talk_now() < talk.deadline)
	{
		if (elector_talk_read(&talk))
		{
			*leader = talk.mirror->cluster.leader;
			found = leader->present && strcmp(leader->node, program->node) != 0;
			break;
		}
		pg_usleep(PAUSE);
	}
	elector_talk_end(&talk);
	return found;
}
