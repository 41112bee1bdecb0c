/*
 * restart.c
 *	  The postmaster's first act and its last: born a standby, and coming back.
 *
 * At every start, and at a restart in place after a crash, standby.signal is
 * put in place before recovery begins, and a promotion that was asked for is
 * forgotten; so a server never opens read-write because it was left alone (I5).
 *
 * When the postmaster has ended all its children and let go of shared memory,
 * an on_proc_exit callback may replace it by the program `pg_elector`, which
 * releases a leadership, rewinds, and becomes the postmaster again: the process
 * id never changes, and nobody outside is needed.  What is to be done stands in
 * a file, so that a power cut in between is picked up at the next start.
 *
 * The trap: the callback runs in a process that still has the postmaster's
 * signal handlers.  All signals are blocked first and stay blocked over both
 * execs; the new postmaster unblocks them itself, and a stop that came
 * meanwhile is then obeyed.
 */
#include "library.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "common/controldata_utils.h"
#include "common/file_perm.h"
#include "lib/stringinfo.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/pidfile.h"

#include "standby.h"
#include "core/hold.h"
#include "store.h"

/* As miscinit.c calls it. */
#define LOCK_FILE_NAME "postmaster.pid"

#define ARGUMENTS_MAX 256

static shmem_request_hook_type previous_shmem_request = NULL;
static shmem_startup_hook_type previous_shmem_startup = NULL;

/* Standard error as it was before the logging collector took it. */
static int	original_stderr = -1;

/*
 * This postmaster's instance, and the one before a restart in place, whose
 * leadership nobody may have given up yet.  Copies, since the last act comes when
 * shared memory is gone.
 */
static char own_instance[ELECTOR_INSTANCE_SIZE] = "";
static char previous_instance[ELECTOR_INSTANCE_SIZE] = "";

/* The worker's token for etcd, for the same reason. */
static char etcd_token[ELECTOR_TOKEN_SIZE] = "";

/* The postmaster's own command line, NUL-separated. */
static char *
read_command_line(int *length)
{
	static char text[65536];
	int			fd = open("/proc/self/cmdline", O_RDONLY);
	ssize_t		got;

	*length = 0;
	if (fd < 0)
		return text;
	while (*length < (int) sizeof(text) - 1 &&
		   (got = read(fd, text + *length, sizeof(text) - 1 - *length)) > 0)
		*length += got;
	close(fd);
	text[*length] = '\0';
	return text;
}

/* `postgres -C` loads the library like a server, and must change nothing. */
static bool
only_shows_a_setting(void)
{
	int			length;
	char	   *text = read_command_line(&length);

	for (char *argument = text; argument < text + length;
		 argument += strlen(argument) + 1)
	{
		if (strncmp(argument, "-C", 2) == 0)
			return true;
	}
	return false;
}

bool
elector_postmaster_stopping(void)
{
	FILE	   *file = fopen(LOCK_FILE_NAME, "r");
	char		line[MAXPGPATH];
	int			number = 0;
	bool		stopping = false;

	if (file == NULL)
		return false;
	while (fgets(line, sizeof(line), file) != NULL)
	{
		if (++number == LOCK_FILE_LINE_PM_STATUS)
			stopping = strncmp(line, PM_STATUS_STOPPING,
							   strlen(PM_STATUS_STOPPING)) == 0;
	}
	fclose(file);
	return stopping;
}

/* Is postmaster.pid ours?  It may have been taken from us. */
static bool
owns_lock_file(void)
{
	FILE	   *file = fopen(LOCK_FILE_NAME, "r");
	long		pid = 0;

	if (file == NULL)
		return false;
	if (fscanf(file, "%ld", &pid) != 1)
		pid = 0;
	fclose(file);
	return pid == (long) getpid();
}

/* Settings that the new postmaster gets with absolute paths. */
static bool
is_path_setting(const char *argument)
{
	const char *names[] = {"config_file=", "data_directory=", "hba_file=", "ident_file="};

	for (int i = 0; i < lengthof(names); i++)
	{
		if (strncmp(argument, names[i], strlen(names[i])) == 0)
			return true;
	}
	return false;
}

/*
 * The arguments to start postgres with again: the old ones, without the data
 * directory, which may be relative to where we once were, and with the four
 * paths in full.
 */
static int
postgres_arguments(char **arguments)
{
	int			length;
	char	   *text = read_command_line(&length);
	char	   *end = text + length;
	char	   *argument = text + strlen(text) + 1;
	int			count = 0;

	arguments[count++] = my_exec_path;
	while (argument < end && count < ARGUMENTS_MAX - 9)
	{
		char	   *next = argument + strlen(argument) + 1;

		if (strcmp(argument, "-D") == 0)
			next += next < end ? strlen(next) + 1 : 0;
		else if (strncmp(argument, "-D", 2) == 0)
			;
		else if (strcmp(argument, "-c") == 0 && next < end && is_path_setting(next))
			next += strlen(next) + 1;
		else
			arguments[count++] = argument;
		argument = next;
	}
	arguments[count++] = "-c";
	arguments[count++] = psprintf("config_file=%s", ConfigFileName);
	arguments[count++] = "-c";
	arguments[count++] = psprintf("data_directory=%s", DataDir);
	arguments[count++] = "-c";
	arguments[count++] = psprintf("hba_file=%s", HbaFileName);
	arguments[count++] = "-c";
	arguments[count++] = psprintf("ident_file=%s", IdentFileName);
	return count;
}

/*
 * Replace this process by the program, which gives up the leadership of that
 * instance, or none if it is NULL.  Returns only if it cannot.  Everybody on the
 * machine can read the arguments: no secret is among them.
 */
static void
exec_program(bool start_again, const char *instance)
{
	const struct
	{
		const char *name;
		const char *value;
	}			for_etcd[] =
	{
		{"etcd-ca-file", elector_etcd_ca_file},
		{"etcd-cert-file", elector_etcd_cert_file},
		{"etcd-key-file", elector_etcd_key_file},
		{"etcd-user", elector_etcd_user},
		{"etcd-password-file", elector_etcd_password_file}
	};
	char	   *arguments[ARGUMENTS_MAX + 24];
	char		program[MAXPGPATH];
	int			count = 0;
	sigset_t	all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);

	strlcpy(program, my_exec_path, sizeof(program));
	get_parent_directory(program);
	join_path_components(program, program, ELECTOR_LIBRARY);

	arguments[count++] = program;
	arguments[count++] = "postmaster";
	arguments[count++] = psprintf("--data-directory=%s", DataDir);
	arguments[count++] = psprintf("--etcd=%s", elector_etcd_endpoints);
	for (int i = 0; i < lengthof(for_etcd); i++)
	{
		if (for_etcd[i].value[0] != '\0')
			arguments[count++] = psprintf("--%s=%s", for_etcd[i].name, for_etcd[i].value);
	}
	arguments[count++] = psprintf("--cluster=%s", elector_cluster);
	arguments[count++] = psprintf("--node=%s", elector_node);
	if (instance != NULL)
		arguments[count++] = psprintf("--instance=%s", instance);
	arguments[count++] = psprintf("--rejoin=%s", elector_rejoin_name());
	arguments[count++] = start_again ? "--exec" : "--exit";
	arguments[count++] = "--";
	count += postgres_arguments(&arguments[count]);
	arguments[count] = NULL;
	unsetenv("PGDATA");

	/* Only this user can read the environment; the program takes it out. */
	if (etcd_token[0] != '\0')
		setenv(ELECTOR_TOKEN_VARIABLE, etcd_token, 1);

	for (int number = 1; number < NSIG; number++)
	{
		/* What the postmaster ignores, postgres ignores again by itself. */
		if (number != SIGKILL && number != SIGSTOP)
			pqsignal(number, SIG_DFL);
	}
	if (original_stderr >= 0)
	{
		dup2(original_stderr, 1);
		dup2(original_stderr, 2);
	}
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
	execv(program, arguments);
	write_stderr("could not execute \"%s\": %s\n", program, strerror(errno));
}

/*
 * The instance whose leadership this postmaster holds, or NULL.  What the data
 * directory remembers may be another server's: it came with an image of a leader
 * that lives on (S9).
 */
static const char *
led_instance(void)
{
	static ElectorLeadership leadership;

	if (!elector_store_read_leadership(&leadership) || leadership.instance[0] == '\0' ||
		(strcmp(leadership.instance, own_instance) != 0 &&
		 strcmp(leadership.instance, previous_instance) != 0))
		return NULL;
	return leadership.instance;
}

/* The postmaster's last act. */
static void
last_act(int code, Datum argument)
{
	const char *instance;
	ElectorTodo todo;

	if (IsUnderPostmaster || MyProcPid != PostmasterPid || !owns_lock_file())
		return;
	instance = led_instance();
	if (elector_store_read_todo(&todo) && todo.kind != ELECTOR_TODO_NONE)
	{
		/*
		 * A unit of type notify starts its server again by itself, told to by
		 * the exit status.
		 */
		exec_program(getenv("NOTIFY_SOCKET") == NULL, instance);
	}
	else if (instance != NULL)
		exec_program(false, instance);
}

/* Files that speak of another server's work. */
static void
forget_work(void)
{
	elector_store_remove(ELECTOR_TODO_FILE);
	elector_store_remove(ELECTOR_LEADERSHIP_FILE);
	elector_store_remove(ELECTOR_PROBLEM_FILE);
}

/*
 * Is it a backup that has not been started yet?  pg_rewind leaves a label, too, but
 * nobody misses what that takes away.
 */
static bool
is_restored(void)
{
	char		text[4 * ELECTOR_FILE_SIZE];
	int			fd = open(BACKUP_LABEL_FILE, O_RDONLY | PG_BINARY);
	ssize_t		length;

	if (fd < 0)
		return false;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[Max(length, 0)] = '\0';
	return strstr(text, "BACKUP METHOD: pg_rewind") == NULL;
}

/*
 * The directory was started under another name before.  What it acknowledged it did
 * under that one, so under the new one it counts when it has caught up (S10, S20).
 */
static void
rename_node(ElectorState *state)
{
	ereport(LOG,
			(errmsg("node \"%s\" is called \"%s\" from now on", state->node, elector_node)));
	strlcpy(state->former, state->node, sizeof(state->former));
	strlcpy(state->node, elector_node, sizeof(state->node));
	state->caught_up = false;
	elector_store_write_state(state);
	forget_work();
}

/*
 * Whose data directory is this?  A state file under another node's name means
 * that it was renamed, or copied; the latter is how a node is added, if the copy is a
 * backup that has not been started yet.
 */
static void
check_state(void)
{
	ElectorState state;
	ElectorState here;
	bool		known;
	bool		same;
	bool		elsewhere;
	bool		crc_ok;
	ControlFileData *control;

	memset(&here, 0, sizeof(here));
	elector_store_identity(&here);
	known = elector_store_read_state(&state);
	same = known && state.inode == here.inode &&
		(state.device == here.device || strcmp(state.boot_id, here.boot_id) != 0);
	elsewhere = known && state.machine[0] != '\0' && here.machine[0] != '\0' &&
		strcmp(state.machine, here.machine) != 0;
	if (known && strcmp(state.node, elector_node) == 0)
	{
		if (same && !is_restored() && !elsewhere)
			return;
		if (same && !is_restored())
		{
			/*
			 * A volume that was moved to another machine, or a copy of it block by
			 * block, beside which the original may go on promising (S8).
			 */
			state.directory[0] = '\0';
			elector_store_write_state(&state);
			return;
		}

		/*
		 * A copy under the same name, or a restored backup: what it led is
		 * not its own (S9), and what it may have acknowledged, or promised,
		 * since it does not know (S10, S8).
		 */
		state.caught_up = false;
		if (!same)
			state.instance[0] = '\0';
		state.directory[0] = '\0';
		elector_store_write_state(&state);
		forget_work();
		return;
	}
	if (same && !is_restored() && !elsewhere)
	{
		rename_node(&state);
		return;
	}
	if (state.present && access(BACKUP_LABEL_FILE, F_OK) != 0)
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("data directory \"%s\" is a copy of node \"%s\", and not \"%s\"",
						DataDir, state.node, elector_node),
				 errhint("To add a node, make a new data directory with \"pg_elector join\" or pg_basebackup.")));

	memset(&state, 0, sizeof(state));
	state.present = true;
	strlcpy(state.node, elector_node, sizeof(state.node));
	control = get_controlfile(DataDir, &crc_ok);
	if (crc_ok)
		state.system = control->system_identifier;
	elector_store_write_state(&state);
	forget_work();
}

/* Was a rejoin cut off?  Then the directory is not to be opened as it is. */
static bool
has_hold(void)
{
	char		path[MAXPGPATH];

	snprintf(path, sizeof(path), "%s" ELECTOR_HOLD_BESIDE, DataDir);
	if (access(path, F_OK) == 0)
		return true;
	snprintf(path, sizeof(path), "%s" ELECTOR_HOLD_WITHIN, DataDir);
	return access(path, F_OK) == 0;
}

static void
rejoin_now(void)
{
	exec_program(true, NULL);
	ereport(FATAL,
			(errmsg("could not rejoin the cluster: the program \"%s\" cannot be executed",
					ELECTOR_LIBRARY),
			 errhint("It belongs beside the program \"postgres\".")));
}

/* Work that a power cut, or systemd, left for this start. */
static void
pick_up_work(void)
{
	ElectorTodo todo;

	if (!elector_store_read_todo(&todo))
		return;
	switch (todo.kind)
	{
		case ELECTOR_TODO_REWIND:
		case ELECTOR_TODO_CLONE:
			rejoin_now();
			break;
		case ELECTOR_TODO_NONE:
		case ELECTOR_TODO_STANDBY:
		case ELECTOR_TODO_HANDOVER:
			elector_store_remove(ELECTOR_TODO_FILE);
			break;
	}
}

/*
 * How did the server end?  As a primary on a timeline that was not allotted to
 * it, it was promoted by hand, and nobody may have been there to see it (S18).
 * A base backup, a rewound directory and one that no elector has seen say
 * nothing about this node.
 */
static void
note_how_it_ended(void)
{
	ElectorState state;
	bool		crc_ok;
	ControlFileData *control;
	TimeLineID	timeline;

	if (!elector_store_read_state(&state) || state.instance[0] == '\0' ||
		access(BACKUP_LABEL_FILE, F_OK) == 0)
		return;
	control = get_controlfile(DataDir, &crc_ok);
	if (!crc_ok || (control->state != DB_IN_PRODUCTION &&
					control->state != DB_SHUTDOWNING && control->state != DB_SHUTDOWNED))
		return;

	/* Until the first checkpoint, the end of recovery is noted elsewhere. */
	timeline = Max(control->checkPointCopy.ThisTimeLineID, control->minRecoveryPointTLI);
	if (!elector_state_note_primary(&state, timeline))
		return;
	elector_store_write_state(&state);
	ereport(LOG,
			(errmsg("this server ended as a primary on timeline %u, to which no election had promoted it",
					timeline)));
}

static void
create_standby_signal(void)
{
	int			fd = open(STANDBY_SIGNAL_FILE, O_CREAT | O_RDWR | PG_BINARY,
						  pg_file_create_mode);

	if (fd < 0 || pg_fsync(fd) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", STANDBY_SIGNAL_FILE)));
	close(fd);
	fsync_fname(".", true);
}

/* What will not work as things are; the worker repeats it in elector_status. */
static void
warn_about_server(void)
{
	if (recoveryTargetAction == RECOVERY_TARGET_ACTION_PROMOTE &&
		recoveryTarget != RECOVERY_TARGET_UNSET)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"recovery_target_action\" must not be \"promote\" on a node of a cluster"),
				 errhint("Only an election promotes a node; recover to the target first, without pg_elector.cluster.")));
	if (!EnableHotStandby)
		ereport(WARNING,
				(errmsg("\"hot_standby\" is off: this node cannot be asked anything while it follows"),
				 errhint("Set hot_standby = on.")));
	if (elector_rejoin != ELECTOR_REJOIN_OFF && !wal_log_hints && !DataChecksumsEnabled())
		ereport(WARNING,
				(errmsg("\"wal_log_hints\" is off and there are no data checksums: this node cannot be rewound when it has to rejoin"),
				 errhint("Set wal_log_hints = on, or initialize the cluster with --data-checksums.")));
	if (elector_etcd_user[0] != '\0' && strstr(elector_etcd_endpoints, "http://") != NULL)
		ereport(WARNING,
				(errmsg("the password of etcd's user \"%s\" travels in the clear",
						elector_etcd_user),
				 errhint("Let etcd use TLS, and begin all endpoints in pg_elector.etcd with \"https://\".")));
}

/* Shared memory is about to go. */
static void
keep_token(int code, Datum argument)
{
	if (MyProcPid == PostmasterPid)
		strlcpy(etcd_token, elector_shared->etcd_token, sizeof(etcd_token));
}

static void
shmem_request(void)
{
	if (previous_shmem_request)
		previous_shmem_request();
	elector_shmem_request();
}

static void
shmem_startup(void)
{
	if (previous_shmem_startup)
		previous_shmem_startup();
	elector_shmem_startup();
	if (!IsUnderPostmaster && IsPostmasterEnvironment)
	{
		strlcpy(previous_instance, own_instance, sizeof(previous_instance));
		strlcpy(own_instance, elector_shared->instance, sizeof(own_instance));
		on_shmem_exit(keep_token, 0);
		warn_about_server();
		elector_settings_check_policy();
		note_how_it_ended();
		elector_standby_clean_placeholders();
		elector_standby_prepare_restore();

		/* the postmaster looks for it at every signal, not only at its own */
		RemovePromoteSignalFiles();
		create_standby_signal();
	}
}

void
elector_restart_install(void)
{
	if (IsUnderPostmaster || !IsPostmasterEnvironment || only_shows_a_setting())
		return;
	original_stderr = fcntl(2, F_DUPFD_CLOEXEC, 3);
	if (has_hold())
		rejoin_now();
	elector_store_init();
	check_state();
	pick_up_work();

	previous_shmem_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
	previous_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
	on_proc_exit(last_act, 0);
}
