/*
 * standby.c
 *	  What the worker does with a server in recovery: freeze, follow, promote.
 *
 * Freezing means that the server follows nobody and that the last WAL record it
 * holds is known.  Three processes have to agree for that: the startup process
 * must have loaded the empty primary_conninfo (proved by the generation
 * setting), the walreceiver must be gone, having flushed what it received, and
 * the startup process must have replayed all of that (S2, S5), unless the node is
 * no candidate (received.c).
 *
 * Whether a walreceiver may connect at all is not left to settings, which a
 * process may have read too early: the library wraps libpqwalreceiver's connect
 * function, which asks shared memory (S1).
 *
 * Promotion goes to the timeline that etcd allotted.  PostgreSQL takes the first
 * one without a history file, so the IDs in between get placeholders: history
 * files with a comment and nothing else (I9).
 *
 * What an archive has is kept away from a server that starts: the history of a
 * timeline that this server's WAL is not on would be taken for the recovery
 * target, and it never came up to be asked or rewound.  Only a backup is given
 * its archive, until it is whole.
 *
 * The trap: a history file that says nothing is harmless below a real one, but
 * as the newest it is taken for the recovery target and the server never
 * becomes consistent.  So every start removes placeholders that no real history
 * file stands above.
 */
#include "standby.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "common/controldata_utils.h"
#include "common/file_perm.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "autoconf.h"

#define PLACEHOLDER "# pg_elector: no server was promoted to this timeline\n"

/* What ALTER SYSTEM has set restore_command to, while it is off. */
#define RESTORE_KEPT_AS "pg_elector.restore_command"

/* And primary_slot_name, while it is ours. */
#define SLOT_KEPT_AS "pg_elector.primary_slot_name"

/*
 * A leader that has just heard of this node makes its slot within SLOT_BOUND; it is
 * asked for it every SLOT_INTERVAL milliseconds.
 */
#define SLOT_BOUND 500000
#define SLOT_INTERVAL 100

/* No cluster changes its leader this often between two looks. */
#define PLACEHOLDERS_MAX 100000

static TimeLineID newest_history(TimeLineID own);

/*
 * For our walsender.  A standby that is cut off while the leader stops would hold the
 * shutdown, and so a handover, up for wal_sender_timeout.
 */
#define WALSENDER_OPTIONS "-ctcp_user_timeout=3000"

/* How often in a row the startup process must be seen out of work. */
#define IDLE_SIGHTINGS 3

typedef enum FreezeStage
{
	FREEZE_NOT_BEGUN,
	FREEZE_LOADING,				/* startup is to load the empty settings */
	FREEZE_STOPPING,			/* the walreceiver is to go */
	FREEZE_REPLAYING,			/* what it left is to be replayed, or read */
	FREEZE_DONE
} FreezeStage;

/*
 * How often the startup process is woken until it has loaded its settings.  The
 * reload wakes it, too; what this adds is for one that missed it, and starts a
 * walreceiver each time, which may not connect.
 */
#define WAKE_INTERVAL 200000

static FreezeStage freeze_stage = FREEZE_NOT_BEGUN;
static uint32 wanted_generation = 0;
static ElectorTime wanted_since = 0;
static ElectorTime woken_at = 0;	/* the startup process */
static bool archive_unread = false; /* since before the freeze */
static bool unloadable_noted = false;
static bool slot_written = true;	/* primary_slot_name is ours */
static ElectorPosition held = {0};	/* that was read and not replayed */
static TimeLineID target = 0;	/* see elector_standby_target() */
static int	idle_sightings = 0;
static XLogRecPtr idle_lsn = InvalidXLogRecPtr;

static bool promote_signaled = false;

static WalReceiverFunctionsType wrapped_functions;
static walrcv_connect_fn original_connect = NULL;
static walrcv_startstreaming_fn original_start = NULL;

/* In the walreceiver: may it connect, and to there? */
static WalReceiverConn *
guarded_connect(const char *conninfo, bool logical, const char *appname, char **err)
{
	if (!logical && MyBackendType == B_WAL_RECEIVER)
	{
		bool		allowed;

		LWLockAcquire(elector_shared->lock, LW_SHARED);
		allowed = pg_atomic_read_u64(&elector_shared->upstream_term) != 0 &&
			strcmp(conninfo, elector_shared->upstream_conninfo) == 0;
		LWLockRelease(elector_shared->lock);
		if (!allowed)
		{
			*err = pstrdup("this node does not follow that server now");
			return NULL;
		}
	}
	return original_connect(conninfo, logical, appname, err);
}

/* Streaming begins, or the error tells why not; the connection can be used again. */
static bool
try_start(WalReceiverConn *connection, const WalRcvStreamOptions *options, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool started = false;

	*error = NULL;
	PG_TRY();
	{
		started = original_start(connection, options);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	return started;
}

/*
 * In the walreceiver: one that cannot have its slot streams without it.  The leader
 * may have no room for slots, or not know yet that an earlier walreceiver of this
 * node, which still has the slot, is gone.
 */
static bool
guarded_start(WalReceiverConn *connection, const WalRcvStreamOptions *given)
{
	ElectorTime until = (ElectorTime) pg_atomic_read_u64(&elector_shared->upstream_since) + SLOT_BOUND;
	WalRcvStreamOptions options = *given;
	ErrorData  *error;
	bool		started;

	if (given->logical || given->slotname == NULL ||
		strncmp(given->slotname, ELECTOR_SLOT_PREFIX, strlen(ELECTOR_SLOT_PREFIX)) != 0)
		return original_start(connection, given);

	started = try_start(connection, given, &error);
	while (error != NULL && elector_now() < until)
	{
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, SLOT_INTERVAL,
				  PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		ProcessWalRcvInterrupts();
		FreeErrorData(error);
		started = try_start(connection, given, &error);
	}
	if (error == NULL)
		return started;

	options.slotname = NULL;
	started = original_start(connection, &options);
	ereport(LOG,
			(errmsg("streaming without replication slot \"%s\"", given->slotname),
			 errdetail_internal("%s", error->message)));
	FreeErrorData(error);

	/* pg_stat_wal_receiver is not to show it */
	SpinLockAcquire(&WalRcv->mutex);
	WalRcv->slotname[0] = '\0';
	SpinLockRelease(&WalRcv->mutex);
	return started;
}

void
elector_standby_install(void)
{
	load_file("libpqwalreceiver", false);
	if (WalReceiverFunctions == NULL)
		elog(FATAL, "libpqwalreceiver did not initialize correctly");
	wrapped_functions = *WalReceiverFunctions;
	original_connect = wrapped_functions.walrcv_connect;
	wrapped_functions.walrcv_connect = guarded_connect;
	original_start = wrapped_functions.walrcv_startstreaming;
	wrapped_functions.walrcv_startstreaming = guarded_start;
	WalReceiverFunctions = &wrapped_functions;
}

static void
set_upstream(const char *conninfo, uint64 term)
{
	LWLockAcquire(elector_shared->lock, LW_EXCLUSIVE);
	strlcpy(elector_shared->upstream_conninfo, conninfo,
			sizeof(elector_shared->upstream_conninfo));
	LWLockRelease(elector_shared->lock);
	pg_atomic_write_u64(&elector_shared->upstream_since, elector_now());
	pg_atomic_write_u64(&elector_shared->upstream_term, term);
}

/*
 * Write primary_conninfo and have it loaded.  Freezing also stops an archive
 * from being read; following gives that setting back to the configuration.  The
 * slot is this node's own, wherever it follows, or what the configuration says.
 */
static void
write_upstream(const char *conninfo, const char *restore_command)
{
	char		generation[16];
	char		slot[ELECTOR_SLOT_NAME_SIZE];
	ElectorAutoConf settings[] = {
		{"primary_conninfo", conninfo},
		{"primary_slot_name", elector_slots ? slot : NULL, SLOT_KEPT_AS, ELECTOR_SLOT_PREFIX},
		{"restore_command", restore_command, RESTORE_KEPT_AS},
		{"pg_elector.generation", generation}
	};

	wanted_generation = (Max((uint32) elector_generation, wanted_generation) + 1) % PG_INT32_MAX;
	wanted_since = elector_now();
	snprintf(generation, sizeof(generation), "%u", wanted_generation);
	elector_slot_name(elector_node, slot);
	slot_written = elector_slots;
	elector_autoconf_write(settings, lengthof(settings));
	kill(PostmasterPid, SIGHUP);
}

void
elector_standby_reload(void)
{
	if (pg_atomic_read_u64(&elector_shared->upstream_term) != 0 &&
		slot_written != elector_slots)
		write_upstream(elector_shared->upstream_conninfo, NULL);
}

static bool
settings_loaded(void)
{
	return pg_atomic_read_u32(&elector_shared->startup_generation) == wanted_generation;
}

void
elector_standby_wake(void)
{
	ElectorTime now = elector_now();

	if (wanted_generation == 0 || settings_loaded() || now >= woken_at + WAKE_INTERVAL)
	{
		woken_at = now;
		WakeupRecovery();
	}
}

/* By now the startup process should have loaded them. */
static bool
settings_overdue(void)
{
	return elector_now() >= wanted_since + (ElectorTime) elector_fence_timeout * 500;
}

bool
elector_standby_unloadable(void)
{
	return RecoveryInProgress() && wanted_generation != 0 && !settings_loaded() &&
		(uint32) elector_generation != wanted_generation && settings_overdue();
}

/* Say so once, until they are loaded again. */
static void
note_unloadable(void)
{
	if (unloadable_noted || !elector_standby_unloadable())
		return;
	unloadable_noted = true;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("the configuration cannot be loaded"),
			 errdetail("This node follows nobody until it is."),
			 errhint("Correct the configuration files and reload them.")));
}

/*
 * Is the startup process without its old settings?  Where it does not load the
 * empty ones in time, it may do with the old: no walreceiver can connect
 * (guarded_connect), so all that could bring WAL is an archive.  That none was
 * read is known only if the startup process and this one had loaded the same
 * file before.
 */
static bool
settings_dropped(void)
{
	if (settings_loaded())
	{
		unloadable_noted = false;
		return true;
	}
	note_unloadable();
	if (archive_unread && settings_overdue())
		return true;
	elector_standby_wake();
	return false;
}

/* Has the walreceiver gone?  If not, see that it goes. */
static bool
walreceiver_gone(void)
{
	WalRcvState state;
	pid_t		pid;

	SpinLockAcquire(&WalRcv->mutex);
	state = WalRcv->walRcvState;
	pid = WalRcv->pid;
	SpinLockRelease(&WalRcv->mutex);
	if (state == WALRCV_STOPPED)
		return true;
	if (pid != 0)
		kill(pid, SIGTERM);
	return false;
}

/*
 * Does the startup process wait for WAL that it does not have?  No other process
 * waits for that.
 */
static bool
startup_idle(void)
{
	for (int i = 0; i < NUM_AUXILIARY_PROCS; i++)
	{
		const volatile PGPROC *proc = &ProcGlobal->allProcs[MaxBackends + i];

		if (proc->pid != 0 &&
			proc->wait_event_info == WAIT_EVENT_RECOVERY_RETRIEVE_RETRY_INTERVAL)
			return true;
	}
	return false;
}

/*
 * Has all WAL on disk been replayed?  Either replay has reached what the
 * walreceiver flushed, all of which follows what was on disk before; or the
 * startup process, woken each time, is found waiting again and again without
 * having moved (the end may be half a record).
 */
static bool
all_replayed(ElectorPosition *position)
{
	TimeLineID	replayed_timeline;
	TimeLineID	flushed_timeline;
	XLogRecPtr	replayed = GetXLogReplayRecPtr(&replayed_timeline);
	XLogRecPtr	flushed = GetWalRcvFlushRecPtr(NULL, &flushed_timeline);

	position->timeline = replayed_timeline;
	position->lsn = replayed;
	if (replayed == InvalidXLogRecPtr)
		return false;
	if (flushed != InvalidXLogRecPtr && flushed_timeline == replayed_timeline &&
		replayed >= flushed)
		return true;
	if (replayed != idle_lsn)
	{
		idle_lsn = replayed;
		idle_sightings = 0;
	}
	if (startup_idle())
		idle_sightings++;
	WakeupRecovery();
	return idle_sightings >= IDLE_SIGHTINGS;
}

/*
 * The last record held.  Whoever may be chosen has replayed it; nobody waits for
 * the others, which may be behind on purpose.
 */
static bool
find_position(ElectorPosition *position)
{
	if (elector_candidate && held.lsn == InvalidXLogRecPtr)
		return all_replayed(position);
	if (held.lsn == InvalidXLogRecPtr && !elector_standby_received(&held))
		return false;
	*position = held;
	return true;
}

/*
 * Is the data directory a backup, or a rewound one, that lacks WAL to be whole?
 * The startup process renames the label when the control file says so.
 */
static bool
is_incomplete(void)
{
	bool		crc_ok;
	ControlFileData *control;
	bool		incomplete;

	if (access(BACKUP_LABEL_FILE, F_OK) == 0)
		return true;
	control = get_controlfile(DataDir, &crc_ok);
	incomplete = !crc_ok || control->backupStartPoint != InvalidXLogRecPtr ||
		control->backupEndRequired;
	pfree(control);
	return incomplete;
}

void
elector_standby_prepare_restore(void)
{
	ElectorAutoConf restore = {"restore_command", NULL, RESTORE_KEPT_AS};

	if (is_incomplete())
	{
		if (recoveryRestoreCommand[0] == '\0')
		{
			elector_autoconf_write(&restore, 1);
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
	else if (recoveryRestoreCommand[0] != '\0')
	{
		restore.value = "";
		elector_autoconf_write(&restore, 1);
		SetConfigOption(restore.name, restore.value, PGC_SIGHUP, PGC_S_FILE);
	}
}

void
elector_standby_thaw(void)
{
	freeze_stage = FREEZE_NOT_BEGUN;
	held.lsn = InvalidXLogRecPtr;
}

ElectorPosition
elector_standby_position(void)
{
	TimeLineID	timeline = 0;
	ElectorPosition position;

	position.lsn = GetXLogReplayRecPtr(&timeline);
	position.timeline = timeline;
	return elector_standby_frozen() && held.lsn > position.lsn ? held : position;
}

bool
elector_standby_frozen(void)
{
	return freeze_stage == FREEZE_DONE;
}

uint32
elector_standby_target(void)
{
	return elector_standby_frozen() ? target : 0;
}

bool
elector_standby_freeze(ElectorPosition *position)
{
	switch (freeze_stage)
	{
		case FREEZE_NOT_BEGUN:

			/*
			 * A backup is made whole from its archive first, as far as that
			 * goes.
			 */
			if (recoveryRestoreCommand[0] != '\0' && !startup_idle() && is_incomplete())
				return false;
			set_upstream("", 0);
			pg_atomic_write_u64(&elector_shared->read_deadline, 0);
			archive_unread = recoveryRestoreCommand[0] == '\0' &&
				pg_atomic_read_u32(&elector_shared->startup_generation) == (uint32) elector_generation;
			write_upstream("", "");
			freeze_stage = FREEZE_LOADING;
			return false;
		case FREEZE_LOADING:
			if (!settings_dropped())
				return false;
			freeze_stage = FREEZE_STOPPING;
			/* FALLTHROUGH */
		case FREEZE_STOPPING:
			if (!walreceiver_gone())
				return false;
			idle_sightings = 0;
			idle_lsn = InvalidXLogRecPtr;
			held.lsn = InvalidXLogRecPtr;
			freeze_stage = FREEZE_REPLAYING;
			/* FALLTHROUGH */
		case FREEZE_REPLAYING:
			if (!find_position(position))
				return false;
			target = newest_history(position->timeline);
			if (target == position->timeline)
				target = 0;
			freeze_stage = FREEZE_DONE;
			return true;
		case FREEZE_DONE:
			return find_position(position);
	}
	pg_unreachable();
}

static void
append_quoted(StringInfo text, const char *value)
{
	for (const char *c = value; *c != '\0'; c++)
	{
		if (*c == '\'' || *c == '\\')
			appendStringInfoChar(text, '\\');
		appendStringInfoChar(text, *c);
	}
}

/*
 * The leader's connection string, with our name and the term that we mean to
 * follow, in keyword form.
 */
static char *
upstream_conninfo(const char *conninfo, uint64 term)
{
	const char *given = "";
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	StringInfoData text;

	if (options == NULL)
		return NULL;
	initStringInfo(&text);
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (option->val == NULL || strcmp(option->keyword, "dbname") == 0 ||
			strcmp(option->keyword, "application_name") == 0)
			continue;
		if (strcmp(option->keyword, "options") == 0)
		{
			given = option->val;
			continue;
		}
		appendStringInfo(&text, "%s='", option->keyword);
		append_quoted(&text, option->val);
		appendStringInfoString(&text, "' ");
	}
	appendStringInfo(&text, "application_name=%s options='", elector_node);
	append_quoted(&text, given);
	appendStringInfo(&text, "%s" WALSENDER_OPTIONS " " ELECTOR_UPSTREAM_OPTION UINT64_FORMAT "'",
					 given[0] != '\0' ? " " : "", term);
	PQconninfoFree(options);
	return text.data;
}

bool
elector_standby_follow(const char *conninfo, uint64 term)
{
	char	   *text = upstream_conninfo(conninfo, term);

	/* It came from etcd, and goes into a configuration file. */
	if (text == NULL || strlen(text) >= ELECTOR_CONNINFO_SIZE ||
		strpbrk(text, "\n\r") != NULL)
	{
		ereport(LOG,
				(errmsg("cannot follow the leader: its connection string cannot be used")));
		return false;
	}

	/*
	 * Permission first: a walreceiver that is refused is tried again only after
	 * wal_retrieve_retry_interval.  None can come too early, since the frozen
	 * server has no primary_conninfo, nor to anywhere else, since permission is
	 * for this very connection string.
	 */
	elector_standby_thaw();
	set_upstream(text, term);
	write_upstream(text, NULL);
	pfree(text);
	return true;
}

/* --- promotion and timelines --- */

/*
 * How much of a placeholder is the file?  It is cut off where the power failed
 * while it was written; -1 if it is anything else, or not there.
 */
static int
placeholder_length(const char *path)
{
	char		text[sizeof(PLACEHOLDER)];
	int			fd = open(path, O_RDONLY | PG_BINARY);
	ssize_t		length;

	if (fd < 0)
		return -1;
	length = read(fd, text, sizeof(text));
	close(fd);
	return length >= 0 && length <= strlen(PLACEHOLDER) &&
		memcmp(text, PLACEHOLDER, length) == 0 ? (int) length : -1;
}

static bool
is_placeholder(const char *path)
{
	return placeholder_length(path) >= 0;
}

static void
place_placeholder(TimeLineID timeline)
{
	char		path[MAXPGPATH];
	char		temporary[MAXPGPATH];
	int			length;
	int			fd;

	TLHistoryFilePath(path, timeline);
	length = placeholder_length(path);
	if (length == strlen(PLACEHOLDER) || (length < 0 && access(path, F_OK) == 0))
		return;

	/* By a name that the next start of the server removes. */
	snprintf(temporary, sizeof(temporary), XLOGDIR "/xlogtemp.%d", MyProcPid);
	fd = open(temporary, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY, pg_file_create_mode);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", temporary)));
	if (write(fd, PLACEHOLDER, strlen(PLACEHOLDER)) != strlen(PLACEHOLDER) ||
		pg_fsync(fd) != 0)
	{
		int			save_errno = errno;

		close(fd);
		unlink(temporary);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", temporary)));
	}
	close(fd);
	if (rename(temporary, path) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m", temporary, path)));
}

void
elector_standby_promote(uint32 timeline)
{
	FILE	   *file;

	if (promote_signaled)
	{
		WakeupRecovery();
		return;
	}
	if (timeline > PLACEHOLDERS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("timeline %u is too high to be promoted to", timeline)));
	for (TimeLineID id = 2; id < timeline; id++)
		place_placeholder(id);
	fsync_fname(XLOGDIR, true);

	file = AllocateFile(PROMOTE_SIGNAL_FILE, "w");
	if (file == NULL || FreeFile(file) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", PROMOTE_SIGNAL_FILE)));
	if (kill(PostmasterPid, SIGUSR1) != 0)
		ereport(ERROR,
				(errmsg("could not signal the postmaster: %m")));
	promote_signaled = true;
}

bool
elector_standby_promoting(void)
{
	return RecoveryInProgress() && (promote_signaled || PromoteIsTriggered());
}

/* The timeline that a file name in pg_wal is the history of; 0: none. */
static TimeLineID
history_timeline(const char *name)
{
	return IsTLHistoryFileName(name) ? (TimeLineID) strtoul(name, NULL, 16) : 0;
}

/* The newest timeline with a history that says something, or own. */
static TimeLineID
newest_history(TimeLineID own)
{
	DIR		   *directory = AllocateDir(XLOGDIR);
	struct dirent *entry;

	while ((entry = ReadDir(directory, XLOGDIR)) != NULL)
	{
		TimeLineID	timeline = history_timeline(entry->d_name);
		char		path[MAXPGPATH];

		snprintf(path, sizeof(path), XLOGDIR "/%s", entry->d_name);
		if (timeline > own && !is_placeholder(path))
			own = timeline;
	}
	FreeDir(directory);
	return own;
}

void
elector_standby_clean_placeholders(void)
{
	TimeLineID	newest = newest_history(0);
	DIR		   *directory = AllocateDir(XLOGDIR);
	struct dirent *entry;

	while ((entry = ReadDir(directory, XLOGDIR)) != NULL)
	{
		char		path[MAXPGPATH];

		snprintf(path, sizeof(path), XLOGDIR "/%s", entry->d_name);
		if (history_timeline(entry->d_name) > newest && is_placeholder(path))
			durable_unlink(path, LOG);
	}
	FreeDir(directory);
}

uint32
elector_standby_newest_timeline(uint32 own)
{
	DIR		   *directory = AllocateDir(XLOGDIR);
	struct dirent *entry;

	while ((entry = ReadDir(directory, XLOGDIR)) != NULL)
		own = Max(own, history_timeline(entry->d_name));
	FreeDir(directory);
	return own;
}

void
elector_standby_forget_timeline(uint32 timeline)
{
	char		path[MAXPGPATH];

	TLHistoryFilePath(path, timeline);
	durable_unlink(path, ERROR);
}

XLogRecPtr
elector_standby_ancestors(uint32 timeline, ElectorAncestor *ancestors, int *count)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "pg_elector timeline history",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *history = readTimeLineHistory(timeline);	/* newest first */
	XLogRecPtr	begin = InvalidXLogRecPtr;
	int			skip = Max(0, list_length(history) - 1 - ELECTOR_ANCESTORS_MAX);

	*count = 0;
	for (int i = list_length(history) - 1; i >= 1; i--)
	{
		TimeLineHistoryEntry *entry = list_nth(history, i);

		begin = entry->end;
		if (skip-- > 0)
			continue;
		ancestors[*count].timeline = entry->tli;
		ancestors[*count].lsn = entry->end;
		(*count)++;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return begin;
}
