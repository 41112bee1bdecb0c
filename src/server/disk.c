/*
 * disk.c
 *	  Does the disk of this node take a write?
 *
 * A thread of the worker writes a page and has it flushed, several times within
 * pg_elector.disk_timeout, to the volume of the data directory and, if that is another
 * one, to that of WAL.  The worker looks how long it has been at it: a leader whose disk
 * hangs has its lease end, and is no candidate meanwhile.  The thread also looks how much
 * room there is for WAL.
 *
 * It is a thread because whoever waits for a disk that hangs does not come back before
 * the disk does, and the worker must.  It calls nothing of PostgreSQL, gets no signal,
 * and shares only what is in `probe`, by atomic operations.
 *
 * The trap: the worker writes to that disk, too, when its state changes.  A leader that
 * lets its lease end needs no write for it.
 */
#include "library.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"

#include "worker.h"

#define PROBES_PER_TIMEOUT 4
#define INTERVAL_MIN 100		/* milliseconds */
#define INTERVAL_MAX 5000
#define IDLE_INTERVAL 1000		/* between two looks whether to begin */

/* Room for less than so many WAL segments is none. */
#define SEGMENTS_LEFT_MIN 2

#define PAGE_SIZE 512

/* Relative to the data directory, in which every process of the server works. */
#define DATA_FILE ELECTOR_LIBRARY "/probe"
#define WAL_FILE XLOGDIR "/" ELECTOR_LIBRARY ".probe"

/*
 * interval and segment are written by the worker, all else by the thread.  began is when
 * the write under way began, or the first of those that have failed since, 0 when the
 * last one succeeded; error is the errno of the last one; room is in bytes.
 */
static struct
{
	pg_atomic_uint32 interval;	/* milliseconds; 0: do nothing */
	pg_atomic_uint64 segment;	/* of WAL that is written now; those after it are
								 * there to be used again */
	pg_atomic_uint64 began;
	pg_atomic_uint32 error;
	pg_atomic_uint64 room;
}			probe;

static bool started = false;
static bool wal_elsewhere = false;
static bool noted_stuck = false;
static bool noted_full = false;

/* --- the thread --- */

/* 0, or errno. */
static int
write_page(const char *path)
{
	char		page[PAGE_SIZE] = {0};
	int			fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
	int			error = 0;

	if (fd < 0)
		return errno;
	errno = ENOSPC;				/* where too little is written without an error */
	if (pwrite(fd, page, sizeof(page), 0) != sizeof(page) || fdatasync(fd) != 0)
		error = errno;
	close(fd);
	return error;
}

/* What is free, and the segments that are there already. */
static void
look_at_room(void)
{
	struct statvfs volume;
	uint64		room;
	DIR		   *directory;
	struct dirent *entry;

	if (statvfs(XLOGDIR, &volume) != 0 || (directory = opendir(XLOGDIR)) == NULL)
		return;
	room = (uint64) volume.f_bavail * volume.f_frsize;
	while ((entry = readdir(directory)) != NULL)
	{
		TimeLineID	timeline;
		XLogSegNo	segment;

		if (!IsXLogFileName(entry->d_name))
			continue;
		XLogFromFileName(entry->d_name, &timeline, &segment, wal_segment_size);
		if (segment > pg_atomic_read_u64(&probe.segment))
			room += wal_segment_size;
	}
	closedir(directory);
	pg_atomic_write_u64(&probe.room, room);
}

/* A full volume is another matter. */
static int
error_of_disk(int error)
{
	return error == ENOSPC || error == EDQUOT ? 0 : error;
}

static void *
run_probe(void *argument)
{
	for (;;)
	{
		uint32		interval = pg_atomic_read_u32(&probe.interval);
		struct timespec pause;
		int			error;

		if (interval != 0)
		{
			if (pg_atomic_read_u64(&probe.began) == 0)
				pg_atomic_write_u64(&probe.began, elector_now());
			error = error_of_disk(write_page(DATA_FILE));
			if (error == 0 && wal_elsewhere)
				error = error_of_disk(write_page(WAL_FILE));
			pg_atomic_write_u32(&probe.error, error);
			if (error == 0)
				pg_atomic_write_u64(&probe.began, 0);
			look_at_room();
		}
		else
			interval = IDLE_INTERVAL;
		pause.tv_sec = interval / 1000;
		pause.tv_nsec = (long) (interval % 1000) * 1000000;
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* --- the worker --- */

static void
start_probe(void)
{
	struct stat data;
	struct stat wal;
	sigset_t	all;
	sigset_t	old;
	pthread_t	thread;
	int			error;

	started = true;
	pg_atomic_init_u32(&probe.interval, 0);
	pg_atomic_init_u64(&probe.began, 0);
	pg_atomic_init_u32(&probe.error, 0);
	pg_atomic_init_u64(&probe.segment, PG_UINT64_MAX);
	pg_atomic_init_u64(&probe.room, PG_UINT64_MAX);
	wal_elsewhere = stat(".", &data) == 0 && stat(XLOGDIR, &wal) == 0 &&
		data.st_dev != wal.st_dev;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&thread, NULL, run_probe, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error != 0)
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start the thread that watches the disk: %s", strerror(error)),
				 errdetail("A disk that takes no write is not noticed.")));
}

static bool
is_stuck(ElectorTime now)
{
	ElectorTime began = (ElectorTime) pg_atomic_read_u64(&probe.began);

	return began != 0 && now >= began + (ElectorTime) elector_disk_timeout * 1000;
}

/* One line when it begins and one when it ends. */
static void
note(bool stuck, bool full)
{
	int			error = (int) pg_atomic_read_u32(&probe.error);

	if (stuck && !noted_stuck && error != 0)
		ereport(WARNING,
				(errmsg("the disk has not taken a write for %d ms: %s", elector_disk_timeout, strerror(error)),
				 errdetail("This node does not lead, nor is it a candidate, until it does.")));
	else if (stuck && !noted_stuck)
		ereport(WARNING,
				(errmsg("the disk has not taken a write for %d ms", elector_disk_timeout),
				 errdetail("This node does not lead, nor is it a candidate, until it does.")));
	else if (!stuck && noted_stuck)
		ereport(LOG,
				(errmsg("the disk takes writes again")));
	if (full && !noted_full)
		ereport(WARNING,
				(errmsg("there is no room for WAL: " UINT64_FORMAT " bytes are left in \"%s\"",
						pg_atomic_read_u64(&probe.room), XLOGDIR),
				 errdetail("A leader asks for another one that has some.")));
	else if (!full && noted_full)
		ereport(LOG,
				(errmsg("there is room for WAL again")));
	noted_stuck = stuck;
	noted_full = full;
}

void
elector_disk_look(ElectorServer *server)
{
	uint32		interval = (uint32) elector_disk_timeout / PROBES_PER_TIMEOUT;

	server->disk_stuck = false;
	server->wal_full = false;
	if (!started && elector_disk_timeout != 0)
		start_probe();
	if (!started)
		return;
	pg_atomic_write_u32(&probe.interval, elector_disk_timeout == 0 ? 0 :
						Min(Max(interval, INTERVAL_MIN), INTERVAL_MAX));
	if (elector_disk_timeout != 0)
	{
		pg_atomic_write_u64(&probe.segment, Max(server->position.lsn, server->flushed) / wal_segment_size);
		server->disk_stuck = is_stuck(elector_now());
		server->wal_full = pg_atomic_read_u64(&probe.room) <
			(uint64) SEGMENTS_LEFT_MIN * wal_segment_size;
	}
	note(server->disk_stuck, server->wal_full);
}

ElectorTime
elector_disk_next(ElectorTime now)
{
	ElectorTime began = started ? (ElectorTime) pg_atomic_read_u64(&probe.began) : 0;
	ElectorTime until = began + (ElectorTime) elector_disk_timeout * 1000;

	if (elector_disk_timeout == 0 || began == 0 || until <= now)
		return now + 3600 * (ElectorTime) 1000000;
	return until;
}
