/*
 * discard.c
 *	  Forget WAL that a standby has received and not replayed.
 *
 * A standby that replays late on purpose (recovery_min_apply_delay) may hold WAL
 * that the leader's history does not have, while its data is older than where the
 * two part.  Then nothing has to be rewound, and must not be: pg_rewind would bring
 * data that is not to be seen yet.  It is enough to forget that WAL, and to receive
 * the leader's instead.
 *
 * The trap: a timeline that the leader does not come from must go altogether, its
 * history file too, or the startup process takes it for the one to follow.
 *
 * Every step can be taken again after it was cut off in the middle.
 */
#include "program.h"

#include "access/xlog_internal.h"

typedef struct Discard
{
	const char *history;		/* of the source */
	const ElectorSource *source;
	const ControlFileData *control;
	TimeLineID	timeline;		/* of the data */
	XLogRecPtr	upto;			/* the data is not newer than this */
} Discard;

static XLogRecPtr
left_at(const Discard *discard, TimeLineID timeline)
{
	return elector_source_left_at(discard->source, discard->history, timeline);
}

/* Is all that the data may contain in the source's history? */
static bool
data_is_older(const Discard *discard)
{
	const CheckPoint *checkpoint = &discard->control->checkPointCopy;

	return discard->control->state == DB_SHUTDOWNED_IN_RECOVERY &&
		discard->control->backupStartPoint == InvalidXLogRecPtr &&
		!discard->control->backupEndRequired &&
		discard->upto != InvalidXLogRecPtr &&
		discard->upto <= left_at(discard, discard->timeline) &&
		discard->control->checkPoint < left_at(discard, checkpoint->ThisTimeLineID);
}

static bool
discard_file(const Discard *discard, const char *directory, const char *name)
{
	char	   *path = psprintf("%s/%s", directory, name);
	uint64		size = discard->control->xlog_seg_size;
	TimeLineID	timeline;
	XLogSegNo	segment;
	XLogRecPtr	begin;
	XLogRecPtr	end;
	bool		ok = true;

	if (IsTLHistoryFileName(name))
	{
		timeline = (TimeLineID) strtoul(name, NULL, 16);
		if (timeline > discard->timeline && left_at(discard, timeline) == InvalidXLogRecPtr)
			ok = elector_disk_remove(path);
	}
	else if (IsXLogFileName(name))
	{
		XLogFromFileName(name, &timeline, &segment, size);
		begin = segment * size;
		end = left_at(discard, timeline);
		if (timeline < discard->timeline || begin + size <= discard->upto)
			ok = true;
		else if (begin >= end)
			ok = elector_disk_remove(path);
		else if (begin + size > end)
			ok = elector_disk_clear(path, end - begin, size);
	}
	pg_free(path);
	return ok;
}

/* What the source's history does not have; false if it could not be removed. */
static bool
discard_files(const Discard *discard, const char *data_directory)
{
	char	   *directory = psprintf("%s/" XLOGDIR, data_directory);
	char	  **names = elector_disk_names(directory);
	bool		ok = names != NULL;

	for (int i = 0; ok && names[i] != NULL; i++)
		ok = discard_file(discard, directory, names[i]);
	if (names)
		pgfnames_cleanup(names);
	pg_free(directory);
	return ok;
}

/* CANNOT: there is more to do than that, and nothing was done. */
ElectorRejoinResult
elector_discard(ElectorRejoin *rejoin, const ElectorSource *source,
				const ControlFileData *control)
{
	Discard		discard = {
		.history = elector_source_history(source),
		.source = source,
		.control = control,
		.timeline = control->minRecoveryPointTLI,
		.upto = control->minRecoveryPoint
	};

	if (discard.history == NULL)
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "could not read the history of the server to rejoin");
		return ELECTOR_REJOIN_NOT_NOW;
	}
	if (!data_is_older(&discard))
		return ELECTOR_REJOIN_CANNOT;
	elector_log(ELECTOR_LOG, "discarding WAL that was not replayed");
	elector_log_detail("The data is from before %X/%X on timeline %u, which is in the history of the server to rejoin.",
					   LSN_FORMAT_ARGS(discard.upto), discard.timeline);
	if (elector_hold_create(&rejoin->hold, &rejoin->todo) &&
		discard_files(&discard, rejoin->program->data_directory) &&
		elector_hold_mark(&rejoin->hold, ELECTOR_HOLD_DONE))
		return ELECTOR_REJOIN_DONE;
	snprintf(rejoin->problem, sizeof(rejoin->problem),
			 "could not discard WAL that was not replayed");
	elector_rewind_undo(&rejoin->hold);
	return ELECTOR_REJOIN_NOT_NOW;
}
