/*
 * rewind.c
 *	  Take a server back to where its history left the leader's: pg_rewind.
 *
 * What pg_rewind does not do well is done around it: crash recovery of the
 * server that died (before, since a second run of pg_rewind that recovers what
 * a first one has rewound diverges silently: hence --no-ensure-shutdown), the
 * checkpoint on the source, and keeping the node's own files.
 *
 * The trap is that nothing in a half rewound data directory says so.  pg_rewind
 * tells on standard error, first, that it has found where to rewind to, and
 * then, directly before it changes anything, how much it will copy.  At the
 * first of these it is halted until the hold says "rewinding" and the control
 * file is spoiled; if it fails before the second, nothing has changed.
 */
#include "program.h"

#include <signal.h>

#include "common/controldata_utils.h"

/* What pg_rewind says, in its order. */
#define SAYS_FOUND		"rewinding from last common checkpoint"
#define SAYS_CHANGES	"need to copy"
#define SAYS_PROGRESS	" kB ("
#define SAYS_ERROR		"error: "

typedef struct Watch
{
	ElectorRejoin *rejoin;
	ElectorChild *child;
	ControlFileData control;	/* of the target before */
	bool		changes;
} Watch;

static bool
watch_line(void *arg, pid_t pid, const char *line)
{
	Watch	   *watch = arg;
	ElectorRejoin *rejoin = watch->rejoin;
	const char *error = strstr(line, SAYS_ERROR);

	if (strstr(line, SAYS_FOUND))
	{
		/* from here on it is better finished */
		watch->child->stoppable = false;
		if (elector_child_pause(pid))
		{
			if (!elector_hold_mark(&rejoin->hold, ELECTOR_HOLD_REWINDING) ||
				!elector_control_spoil(rejoin->program->data_directory, &watch->control))
				kill(pid, SIGKILL);
			kill(pid, SIGCONT);
		}
	}
	if (strstr(line, SAYS_CHANGES))
		watch->changes = true;
	if (error)
		snprintf(rejoin->problem, sizeof(rejoin->problem), "pg_rewind: %s",
				 error + strlen(SAYS_ERROR));
	return strstr(line, SAYS_PROGRESS) != NULL;
}

/* Let a server that was not shut down recover, alone and without clients. */
static bool
recover(ElectorRejoin *rejoin, ControlFileData *control)
{
	const ElectorProgram *program = rejoin->program;
	char	   *config = psprintf("config_file=%s", program->config_file ? program->config_file :
								  psprintf("%s/postgresql.conf", program->data_directory));
	char	   *argv[] = {psprintf("%s/postgres", program->bin_directory),
		"--single", "-D", (char *) program->data_directory, "-c", config,
	"template1", NULL};
	ElectorChild child = {.name = "crash recovery",.argv = argv,.stoppable = true};

	elector_log(ELECTOR_LOG, "data directory is \"%s\"; running crash recovery before rewinding",
				elector_control_state(control));
	return elector_child_run(&child) &&
		elector_control_read(program->data_directory, control) &&
		control->state == DB_SHUTDOWNED;
}

/*
 * The timeline that the server's WAL ends on.  Its last checkpoint may be older
 * than that: a promoted server that died before its first one.
 */
static TimeLineID
control_timeline(const ControlFileData *control)
{
	return Max(control->checkPointCopy.ThisTimeLineID, control->minRecoveryPointTLI);
}

/*
 * Up to PostgreSQL 15 pg_rewind takes the last checkpoint's timeline for the
 * target's, and then does not find its way.  Show it the right one, as later
 * versions see it themselves; the hold has the control file as it was.
 */
static bool
show_timeline(const ElectorHold *hold, ControlFileData *control)
{
	if (!elector_control_save(hold->data_directory, elector_hold_file(hold, "control")))
		return false;
#if PG_VERSION_NUM < 160000
	if (control->checkPointCopy.ThisTimeLineID != control_timeline(control))
	{
		control->checkPointCopy.ThisTimeLineID = control_timeline(control);
		update_controlfile(hold->data_directory, control, true);
		return elector_control_read(hold->data_directory, control);
	}
#endif
	return true;
}

/* A tablespace that would not be rewound (hold.c), whatever pg_rewind says. */
static bool
tablespaces_fit(ElectorRejoin *rejoin)
{
	char	   *location = elector_hold_tablespace_within(rejoin->program->data_directory);

	if (location != NULL)
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "tablespace location \"%s\" is inside the data directory", location);
	return location == NULL;
}

/*
 * pg_rewind knows histories by the numbers of their timelines.  A number that
 * this node took by hand may have been allotted since it decided to rewind (S18).
 */
static ElectorRejoinResult
check_stray(ElectorRejoin *rejoin, const ElectorSource *source)
{
	char	   *path = psprintf("%s/%s", rejoin->program->data_directory, ELECTOR_STATE_FILE);
	char	   *text = elector_disk_read(path, ELECTOR_FILE_SIZE, NULL);
	ElectorState state;
	char	   *history;

	if (text == NULL || !elector_state_parse(text, &state) || state.stray == 0)
		return ELECTOR_REJOIN_DONE;
	history = elector_source_history(source);
	if (history == NULL)
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "could not read the history of the server to rejoin");
		return ELECTOR_REJOIN_NOT_NOW;
	}
	if (elector_source_left_at(source, history, state.stray) == InvalidXLogRecPtr)
		return ELECTOR_REJOIN_DONE;
	snprintf(rejoin->problem, sizeof(rejoin->problem),
			 "timeline %u, which this node took by hand, is also in the history of the server to rejoin",
			 state.stray);
	return ELECTOR_REJOIN_CANNOT;
}

/* Bring the target into the state that pg_rewind wants. */
static ElectorRejoinResult
prepare(ElectorRejoin *rejoin, ElectorSource *source, ControlFileData *control)
{
	const char *directory = rejoin->program->data_directory;
	ElectorRejoinResult stray;

	if (!elector_control_read(directory, control))
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem), "the control file cannot be read");
		return ELECTOR_REJOIN_CANNOT;
	}
	if (!elector_source_parse(rejoin->todo.source, source))
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "the connection string of the server to rejoin is not usable");
		return ELECTOR_REJOIN_NOT_NOW;
	}
	if (!elector_source_prepare(source, rejoin->problem, sizeof(rejoin->problem)))
		return ELECTOR_REJOIN_NOT_NOW;
	if (source->system != control->system_identifier)
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "the server to rejoin has another system identifier");
		return ELECTOR_REJOIN_NOT_NOW;
	}

	stray = check_stray(rejoin, source);
	if (stray != ELECTOR_REJOIN_DONE)
		return stray;

	if (control->state != DB_SHUTDOWNED && control->state != DB_SHUTDOWNED_IN_RECOVERY)
	{
		/*
		 * A standby that died must not be recovered alone: that would end on
		 * the timeline it follows, with records that its leader never wrote.
		 */
		if (control->state == DB_IN_ARCHIVE_RECOVERY ||
			elector_disk_exists(psprintf("%s/backup_label", directory)))
		{
			snprintf(rejoin->problem, sizeof(rejoin->problem),
					 "the standby was not shut down before rewinding");
			return ELECTOR_REJOIN_NOT_NOW;
		}
		if (!elector_disk_remove(psprintf("%s/standby.signal", directory)) ||
			!elector_disk_remove(psprintf("%s/recovery.signal", directory)) ||
			!recover(rejoin, control))
		{
			snprintf(rejoin->problem, sizeof(rejoin->problem),
					 "crash recovery before rewinding failed");
			return elector_stop_requested() ? ELECTOR_REJOIN_STOPPED : ELECTOR_REJOIN_NOT_NOW;
		}
	}

	return ELECTOR_REJOIN_DONE;
}

/* Can it be rewound? */
static ElectorRejoinResult
check_rewind(ElectorRejoin *rejoin, const ElectorSource *source, const ControlFileData *control)
{
	/* pg_rewind would find nothing to do (I9 makes this impossible). */
	if (source->timeline == control_timeline(control))
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "both servers are on timeline %u, so there is nothing to rewind",
				 source->timeline);
		return ELECTOR_REJOIN_CANNOT;
	}
	return tablespaces_fit(rejoin) ? ELECTOR_REJOIN_DONE : ELECTOR_REJOIN_CANNOT;
}

static bool
run(ElectorRejoin *rejoin, const ElectorSource *source, Watch *watch)
{
	const ElectorProgram *program = rejoin->program;
	char	   *argv[10];
	int			argc = 0;
	ElectorChild child = {.name = "pg_rewind",.argv = argv,.password = source->password,
	.stoppable = true,.line = watch_line,.arg = watch};

	watch->child = &child;
	argv[argc++] = psprintf("%s/pg_rewind", program->bin_directory);
	argv[argc++] = psprintf("--target-pgdata=%s", program->data_directory);
	argv[argc++] = psprintf("--source-server=%s", source->conninfo);
	argv[argc++] = "--no-ensure-shutdown";
	argv[argc++] = "--progress";
	if (program->config_file)
		argv[argc++] = psprintf("--config-file=%s", program->config_file);
	argv[argc] = NULL;
	return elector_child_run(&child);
}

/*
 * It failed, or was cut off, before it changed anything: put back the control
 * file and the node's own files, and nothing has happened.
 */
bool
elector_rewind_undo(ElectorHold *hold)
{
	char	   *control = elector_hold_file(hold, "control");

	return (!elector_disk_exists(control) ||
			elector_control_restore(hold->data_directory, control)) &&
		elector_hold_unmark(hold, ELECTOR_HOLD_REWINDING) &&
		elector_hold_give_back(hold) && elector_hold_remove(hold);
}

/*
 * The lock file is away.  When done, the hold says so and has the rest.  Where the
 * data is older than what is to be undone, there is nothing to rewind.
 */
ElectorRejoinResult
elector_rewind(ElectorRejoin *rejoin)
{
	ElectorHold *hold = &rejoin->hold;
	ElectorSource source;
	ControlFileData after;
	Watch		watch = {.rejoin = rejoin};
	ElectorRejoinResult result = prepare(rejoin, &source, &watch.control);
	char		later[1024];
	bool		done;

	if (result != ELECTOR_REJOIN_DONE)
		return result;
	result = elector_discard(rejoin, &source, &watch.control);
	if (result != ELECTOR_REJOIN_CANNOT)
		return result;
	result = check_rewind(rejoin, &source, &watch.control);
	if (result != ELECTOR_REJOIN_DONE)
		return result;

	if (!elector_hold_create(hold, &rejoin->todo) || !elector_hold_take_slots(hold) ||
		!elector_hold_take_own(hold) || !show_timeline(hold, &watch.control))
	{
		snprintf(rejoin->problem, sizeof(rejoin->problem),
				 "could not save configuration before rewinding");
		return elector_rewind_undo(hold) ? ELECTOR_REJOIN_NOT_NOW : ELECTOR_REJOIN_TORN;
	}

	rejoin->problem[0] = '\0';
	done = run(rejoin, &source, &watch);
	if (rejoin->problem[0] == '\0')
		snprintf(rejoin->problem, sizeof(rejoin->problem), "pg_rewind did not succeed");

	/* if it was spoiled and still is, pg_rewind has not been where it says */
	if (done && elector_control_read(hold->data_directory, &after) &&
		!elector_control_spoiled(&after) && tablespaces_fit(rejoin))
		return elector_hold_mark(hold, ELECTOR_HOLD_DONE) ?
			ELECTOR_REJOIN_DONE : ELECTOR_REJOIN_TORN;
	if (watch.changes || done || !elector_rewind_undo(hold))
		return ELECTOR_REJOIN_TORN;
	if (elector_stop_requested())
		return ELECTOR_REJOIN_STOPPED;

	/* Is it the source, or is it something that will not pass? */
	return elector_source_prepare(&source, later, sizeof(later)) ?
		ELECTOR_REJOIN_CANNOT : ELECTOR_REJOIN_NOT_NOW;
}
