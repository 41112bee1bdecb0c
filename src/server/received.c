/*
 * received.c
 *	  Where the WAL that a standby holds ends, replayed or not.
 *
 * A node that may be chosen replays what it holds before it says where that ends
 * (standby.c).  One that is no candidate is not waited for: it may be hours behind
 * on purpose (recovery_min_apply_delay), or paused.  It reads the end of its WAL
 * instead.
 *
 * WAL in pg_wal is a row of pages, of which the first that is not of its place
 * ends it: those behind are empty, or left from a segment that was used before.  So
 * the last page is found by bisection, and only the last records are read, from as
 * far before that page as is needed to find where one begins.
 *
 * The trap: a walreceiver stops anywhere, also within a record.  What counts is
 * where the last whole record ends; half a record more than the next leader has is
 * no other history.
 */
#include "standby.h"

#include <unistd.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogrecovery.h"
#include "utils/memutils.h"

/* Records are looked for in so many pages before the end, then in more. */
#define WINDOW_PAGES 16
#define WINDOW_GROWTH 16

/* What is held, and the segment that was read last. */
typedef struct Held
{
	List	   *history;		/* newest timeline first */
	int			fd;				/* -1: none is open */
	XLogSegNo	segment;
	TimeLineID	timeline;
} Held;

static int
open_file(XLogSegNo segment, TimeLineID timeline)
{
	char		path[MAXPGPATH];

	XLogFilePath(path, timeline, segment, wal_segment_size);
	return open(path, O_RDONLY | PG_BINARY | O_CLOEXEC);
}

/*
 * Open the file that the startup process would read: that of the newest timeline
 * that had begun by then and has one.
 */
static bool
open_segment(Held *held, XLogSegNo segment)
{
	ListCell   *cell;

	if (held->fd >= 0 && held->segment == segment)
		return true;
	if (held->fd >= 0)
		close(held->fd);
	held->fd = -1;
	foreach(cell, held->history)
	{
		TimeLineHistoryEntry *entry = lfirst(cell);

		if (entry->begin != InvalidXLogRecPtr &&
			segment < entry->begin / wal_segment_size)
			continue;
		held->fd = open_file(segment, entry->tli);
		if (held->fd < 0)
			continue;
		held->segment = segment;
		held->timeline = entry->tli;
		return true;
	}
	return false;
}

static bool
read_page(Held *held, XLogRecPtr page, char *buffer)
{
	return open_segment(held, page / wal_segment_size) &&
		pg_pread(held->fd, buffer, XLOG_BLCKSZ, XLogSegmentOffset(page, wal_segment_size)) == XLOG_BLCKSZ;
}

/* As XLogReader wants it. */
static int
read_for_reader(XLogReaderState *reader, XLogRecPtr page, int length, XLogRecPtr record,
				char *buffer)
{
	return read_page(reader->private_data, page, buffer) ? XLOG_BLCKSZ : -1;
}

/* Does the page hold WAL of its place? */
static bool
is_written(Held *held, XLogRecPtr page)
{
	PGAlignedXLogBlock buffer;
	XLogPageHeader header = (XLogPageHeader) buffer.data;

	return read_page(held, page, buffer.data) && header->xlp_magic == XLOG_PAGE_MAGIC &&
		header->xlp_pageaddr == page;
}

/*
 * The last page that is written, from one that is.  A timeline's WAL does not go on
 * in its parent's.
 */
static XLogRecPtr
last_page(Held *held, XLogRecPtr page)
{
	XLogRecPtr	segment = page - page % wal_segment_size;
	TimeLineID	timeline = held->timeline;
	uint32		first;
	uint32		behind = wal_segment_size / XLOG_BLCKSZ;

	while (is_written(held, segment + wal_segment_size) && held->timeline >= timeline)
	{
		timeline = held->timeline;
		page = segment = segment + wal_segment_size;
	}
	first = (page - segment) / XLOG_BLCKSZ;
	while (behind - first > 1)
	{
		uint32		middle = first + (behind - first) / 2;

		if (is_written(held, segment + (XLogRecPtr) middle * XLOG_BLCKSZ))
			first = middle;
		else
			behind = middle;
	}
	return segment + (XLogRecPtr) first * XLOG_BLCKSZ;
}

/* Where the last whole record ends of those that begin after `from`; 0: none does. */
static XLogRecPtr
last_record(Held *held, XLogRecPtr from)
{
	XLogReaderState *reader = XLogReaderAllocate(wal_segment_size, NULL,
												 XL_ROUTINE(.page_read = read_for_reader),
												 held);
	XLogRecPtr	end = InvalidXLogRecPtr;
	char	   *error;

	if (reader == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	reader->system_identifier = GetSystemIdentifier();
	if (XLogFindNextRecord(reader, from) != InvalidXLogRecPtr)
	{
		while (XLogReadRecord(reader, &error) != NULL)
			end = reader->EndRecPtr;
	}
	XLogReaderFree(reader);
	return end;
}

/* The history of the newest timeline in pg_wal that the position may go on to. */
static List *
newest_history(TimeLineID timeline, XLogRecPtr lsn)
{
	TimeLineID	newest = elector_standby_newest_timeline(timeline);

	for (TimeLineID id = newest; id > timeline; id--)
	{
		List	   *history = existsTimeLineHistory(id) ? readTimeLineHistory(id) : NIL;
		ListCell   *cell;

		foreach(cell, history)
		{
			TimeLineHistoryEntry *entry = lfirst(cell);

			if (entry->tli == timeline && entry->end >= lsn)
				return history;
		}
	}
	return readTimeLineHistory(timeline);
}

/* Which timeline are the bytes before `end` of, in the file that has them? */
static TimeLineID
timeline_before(const Held *held, XLogRecPtr end)
{
	ListCell   *cell;

	foreach(cell, held->history)
	{
		TimeLineHistoryEntry *entry = lfirst(cell);

		if (entry->tli <= held->timeline &&
			(entry->begin == InvalidXLogRecPtr || entry->begin < end))
			return entry->tli;
	}
	return held->timeline;
}

static void
find_end(ElectorPosition *position, TimeLineID timeline, XLogRecPtr replayed)
{
	Held		held = {newest_history(timeline, replayed), -1};
	XLogRecPtr	page = replayed - replayed % XLOG_BLCKSZ;
	XLogRecPtr	end = InvalidXLogRecPtr;

	position->timeline = timeline;
	position->lsn = replayed;
	if (is_written(&held, page))
	{
		XLogRecPtr	last = last_page(&held, page);
		uint64		window = WINDOW_PAGES * (uint64) XLOG_BLCKSZ;

		for (;; window *= WINDOW_GROWTH)
		{
			bool		whole = last - page <= window;

			end = last_record(&held, whole ? replayed : last - window);
			if (end != InvalidXLogRecPtr || whole)
				break;
		}
	}
	if (end > replayed && open_segment(&held, (end - 1) / wal_segment_size))
	{
		position->lsn = end;
		position->timeline = timeline_before(&held, end);
	}
	if (held.fd >= 0)
		close(held.fd);
}

bool
elector_standby_received(ElectorPosition *position)
{
	TimeLineID	timeline;
	XLogRecPtr	replayed = GetXLogReplayRecPtr(&timeline);
	MemoryContext context;
	MemoryContext old;

	if (replayed == InvalidXLogRecPtr)
		return false;
	context = AllocSetContextCreate(CurrentMemoryContext, "pg_elector received WAL",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	find_end(position, timeline, replayed);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return true;
}
