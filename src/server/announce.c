/*
 * announce.c
 *	  Tell others of a change of role: role_change_command and NOTIFY elector.
 *
 * The announcer is a worker of its own, since the elector's must not wait for
 * anybody's script.  It is woken when the elector has published a change, and looks
 * at the clock itself: when the gate of a leader closes because its elector is
 * stopped, that is a change of role like any other.
 *
 * The command runs in the program `pg_elector` (program/role_change.c), one at a time;
 * what has changed meanwhile is told afterwards, the latest state only.  Its output
 * comes through a pipe into the log.
 *
 * A server that stops, or whose postmaster is killed, has a last word, role "none":
 * somebody's virtual address has to go.  Nobody waits for it: the program goes on when
 * the server has ended, and the command of the next start waits for it.
 *
 * Listeners are notified by a short-lived worker, which has the connection to a
 * database that this one has not.
 *
 * The trap: a promotion passes through a moment in which the server is a primary
 * whose gate is not open yet.  That is no change for those outside: "none" is told
 * only after "leader" or at the end.
 */
#include "facts.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "access/xact.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "postmaster/syslogger.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

/* A command's output beyond this is not logged. */
#define LINE_SIZE 1024
#define LINES_MAX 200

/* The program bounds the command, and waits for another one as long; this bounds it. */
#define PROGRAM_SLACK 10000

#define NOTIFY_CHANNEL "elector"

/* Who comes to a new leader may listen a moment later: it is said again after that. */
#define NOTIFY_AGAIN ((ElectorTime) 2 * 1000000)

/*
 * The commit waits for a lock that another's may hold while that waits for its
 * followers.  After so long it is given up; itself it waits for none.
 */
#define NOTIFY_BOUND 10000		/* milliseconds */

/* While there is no room for another worker: how often it is tried, and for how long. */
#define NOTIFY_RETRY ((ElectorTime) 1000000)
#define NOTIFY_TRIES 5

typedef struct Announcement
{
	bool		made;
	ElectorRole role;
	uint64		term;
	char		leader[ELECTOR_NAME_SIZE];	/* "" if there is none */
} Announcement;

/* The program's arguments. */
typedef struct Command
{
	MemoryContext context;
	char	   *argv[24];
} Command;

static Announcement told;
static char told_command[ELECTOR_COMMAND_SIZE] = "";	/* by which of them */

/* What runs now. */
static pid_t running = 0;		/* 0: nothing */
static int	output = -1;
static ElectorTime running_since = 0;
static char line[LINE_SIZE];
static size_t line_length = 0;
static int	lines = 0;

static Command current;
static Command last_word;		/* ready, as a signal handler may need it */

static uint64 notified_term = 0;
static ElectorTime notify_at = 0;
static int	notify_tries = 0;

static volatile sig_atomic_t terminated = false;

/* --- the command --- */

static void
prepare(Command *command, const Announcement *announcement, bool last)
{
	char		program[MAXPGPATH];
	MemoryContext old;
	int			count = 1;

	if (command->context == NULL)
		command->context = AllocSetContextCreate(TopMemoryContext, "pg_elector command",
												 ALLOCSET_SMALL_SIZES);
	MemoryContextReset(command->context);
	old = MemoryContextSwitchTo(command->context);
	strlcpy(program, my_exec_path, sizeof(program));
	get_parent_directory(program);
	join_path_components(program, program, ELECTOR_LIBRARY);
	command->argv[count++] = "role-change";
	command->argv[count++] = psprintf("--data-directory=%s", DataDir);
	command->argv[count++] = psprintf("--command=%s", elector_role_change_command);
	command->argv[count++] = psprintf("--timeout=%d", elector_role_change_timeout);
	command->argv[count++] = psprintf("--cluster=%s", elector_cluster);
	command->argv[count++] = psprintf("--node=%s", elector_node);
	command->argv[count++] = psprintf("--role=%s", elector_role_name(announcement->role));
	command->argv[count++] = psprintf("--term=" UINT64_FORMAT, announcement->term);
	command->argv[count++] = psprintf("--leader=%s", announcement->leader);
	if (last)
		command->argv[count++] = "--last-word";
	command->argv[count] = NULL;
	pg_compiler_barrier();		/* it is complete now */
	command->argv[0] = pstrdup(program);
	MemoryContextSwitchTo(old);
}

/* What is to be said should the server end now. */
static void
prepare_last_word(void)
{
	Announcement none = told;

	last_word.argv[0] = NULL;
	if (elector_role_change_command[0] == '\0' || !told.made || told.role == ELECTOR_ROLE_NONE)
		return;
	none.role = ELECTOR_ROLE_NONE;
	none.leader[0] = '\0';
	prepare(&last_word, &none, true);
}

/* In a child, and perhaps of a signal handler: become the program. */
static void
become_program(const Command *command, int out)
{
	int			null = open("/dev/null", O_RDWR);
	sigset_t	none;

	setsid();
	dup2(null, 0);
	dup2(out >= 0 ? out : null, 1);
	dup2(out >= 0 ? out : null, 2);
	close_range(3, ~0U, 0);
	for (int number = 1; number < NSIG; number++)
	{
		if (number != SIGKILL && number != SIGSTOP)
			pqsignal(number, SIG_DFL);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(command->argv[0], command->argv);
	_exit(1);
}

/*
 * The server ends.  The logging collector's pipe must not be held open by who outlives
 * it; any other log takes the output.
 */
static void
speak_last_word(void)
{
	if (last_word.argv[0] == NULL)
		return;
	if (running != 0)
		kill(running, SIGTERM);
	if (_Fork() == 0)			/* perhaps by a signal handler */
		become_program(&last_word, Logging_collector ? -1 : 2);
	last_word.argv[0] = NULL;
}

static bool
start_command(const Announcement *announcement)
{
	int			fds[2];

	prepare(&current, announcement, false);
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
	{
		ereport(WARNING,
				(errmsg("could not create a pipe: %m")));
		return false;
	}
	ereport(LOG,
			(errmsg("role_change_command runs for role \"%s\", term " UINT64_FORMAT ", leader \"%s\"",
					elector_role_name(announcement->role), announcement->term,
					announcement->leader)));
	running = fork();
	if (running == 0)
	{
		/* the program's end of it waits when it is full */
		fcntl(fds[1], F_SETFL, 0);
		become_program(&current, fds[1]);
	}
	close(fds[1]);
	if (running < 0)
	{
		ereport(WARNING,
				(errmsg("could not run role_change_command: %m")));
		close(fds[0]);
		running = 0;
		return false;
	}
	output = fds[0];
	running_since = elector_now();
	line_length = 0;
	lines = 0;
	return true;
}

static void
log_line(void)
{
	line[line_length] = '\0';
	if (line_length == 0)
		return;
	if (++lines <= LINES_MAX)
		ereport(LOG,
				(errmsg("role_change_command: %s", line)));
	else if (lines == LINES_MAX + 1)
		ereport(LOG,
				(errmsg("role_change_command says more than %d lines; the others are not logged",
						LINES_MAX)));
	line_length = 0;
}

/* True until there is no more for now. */
static bool
read_output(void)
{
	char		buffer[4096];
	ssize_t		got = output >= 0 ? read(output, buffer, sizeof(buffer)) : -1;

	for (ssize_t i = 0; i < got; i++)
	{
		unsigned char c = (unsigned char) buffer[i];

		if (c == '\n' || line_length == LINE_SIZE - 1)
			log_line();
		if (c >= ' ' || c == '\t')
			line[line_length++] = c;
	}
	if (got == 0)
	{
		/* closed; that it ends is told by its end */
		close(output);
		output = -1;
	}
	return got > 0;
}

/* Has it ended? */
static void
watch_command(void)
{
	int			status;

	if (running == 0)
		return;
	(void) read_output();
	if (elector_now() > running_since +
		(2 * (ElectorTime) elector_role_change_timeout + PROGRAM_SLACK) * 1000)
		kill(running, SIGKILL);
	if (waitpid(running, &status, WNOHANG) != running)
		return;
	running = 0;
	while (read_output())
		 /* what is left */ ;
	log_line();
	if (output >= 0)
		close(output);
	output = -1;
	if (status != 0)
		ereport(WARNING,
				(errmsg("role_change_command failed for role \"%s\", term " UINT64_FORMAT,
						elector_role_name(told.role), told.term)));
}

/* --- what there is to tell --- */

static void
look(Announcement *now)
{
	static char leader[ELECTOR_NAME_SIZE] = "";
	static uint64 term = 0;

	memset(now, 0, sizeof(*now));
	now->made = true;
	now->role = elector_role();
	(void) elector_facts_read_leader(leader, &term);	/* or as it was */
	now->term = term;
	switch (now->role)
	{
		case ELECTOR_ROLE_LEADER:
			now->term = pg_atomic_read_u64(&elector_shared->opened_term);
			strlcpy(now->leader, elector_node, sizeof(now->leader));
			break;
		case ELECTOR_ROLE_FOLLOWER:
		case ELECTOR_ROLE_NONE:
			if (strcmp(leader, elector_node) != 0)
				strlcpy(now->leader, leader, sizeof(now->leader));
			break;
	}
}

static bool
is_news(const Announcement *now)
{
	if (!told.made || strcmp(told_command, elector_role_change_command) != 0)
		return true;
	if (now->role == ELECTOR_ROLE_NONE && told.role == ELECTOR_ROLE_FOLLOWER)
		return false;
	if (now->role != told.role)
		return true;

	/* that nobody leads for a moment is no news */
	return now->leader[0] != '\0' &&
		(now->term != told.term || strcmp(now->leader, told.leader) != 0);
}

static void
announce(const Announcement *now)
{
	if (running != 0 || elector_role_change_command[0] == '\0' || !is_news(now))
		return;
	told = *now;
	strlcpy(told_command, elector_role_change_command, sizeof(told_command));
	prepare_last_word();
	if (!start_command(now))
		told.made = false;		/* once more, soon */
}

/* --- NOTIFY --- */

static void
notify_listeners(const Announcement *now)
{
	BackgroundWorker worker;

	if (now->role != ELECTOR_ROLE_LEADER || now->term == notified_term ||
		elector_now() < notify_at)
		return;
	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, BGW_MAXLEN, ELECTOR_LIBRARY " notify");
	snprintf(worker.bgw_type, BGW_MAXLEN, ELECTOR_LIBRARY " notify");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, ELECTOR_LIBRARY);
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "elector_notify_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	if (RegisterDynamicBackgroundWorker(&worker, NULL))
		notify_tries = 0;
	else if (++notify_tries < NOTIFY_TRIES)
	{
		notify_at = elector_now() + NOTIFY_RETRY;
		return;
	}
	else
	{
		notify_tries = 0;
		ereport(WARNING,
				(errmsg("those who LISTEN to \"%s\" are not notified: there is no free worker process", NOTIFY_CHANNEL),
				 errhint("Increase max_worker_processes.")));
	}
	notify_at = 0;
	notified_term = now->term;
}

static void
give_up(void)
{
	InterruptPending = true;
	ProcDiePending = true;
	SetLatch(MyLatch);
}

/* Unless that leadership is over. */
static void
notify(uint64 term)
{
	StringInfoData payload;

	if (!elector_gate_is_open() || term != pg_atomic_read_u64(&elector_shared->opened_term))
		return;
	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"leader\":");
	escape_json(&payload, elector_node);
	appendStringInfo(&payload, ",\"term\":" UINT64_FORMAT "}", term);

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	Async_Notify(NOTIFY_CHANNEL, payload.data);
	CommitTransactionCommand();
}

/* The short-lived worker. */
void
elector_notify_main(Datum argument)
{
	uint64		term = pg_atomic_read_u64(&elector_shared->opened_term);
	ElectorTime again;
	ElectorTime left;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(elector_peer_database(), NULL, 0);
	enable_timeout_after(RegisterTimeout(USER_TIMEOUT, give_up), NOTIFY_BOUND);
	pgstat_report_appname(ELECTOR_LIBRARY);

	notify(term);
	again = elector_now() + NOTIFY_AGAIN;
	while ((left = again - elector_now()) > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 left / 1000 + 1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	notify(term);
	proc_exit(0);
}

/* --- the loop --- */

static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	terminated = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

static void
on_sigchld(SIGNAL_ARGS)
{
	int			save_errno = errno;

	SetLatch(MyLatch);
	errno = save_errno;
}

/* An immediate shutdown, or a crash of another process: there is no time for more. */
static void
on_sigquit(SIGNAL_ARGS)
{
	speak_last_word();
	_exit(2);
}

/* When a leader's gate closes by the clock, or something is to be looked at again. */
static long
next_timeout(const Announcement *now)
{
	ElectorTime at = 0;
	ElectorTime present = elector_now();

	if (now->role == ELECTOR_ROLE_LEADER)
		at = (ElectorTime) pg_atomic_read_u64(&elector_shared->gate_deadline);
	if (notify_at != 0 && (at == 0 || notify_at < at))
		at = notify_at;

	/* A gate that has closed by the clock may open again without a word. */
	if ((running != 0 || (elector_role_change_command[0] != '\0' &&
						  (!told.made || now->role == ELECTOR_ROLE_NONE))) &&
		(at == 0 || present + 1000000 < at))
		at = present + 1000000;
	if (at == 0)
		return -1;
	return at > present ? (long) ((at - present) / 1000 + 1) : 0;
}

static void
wait_for_news(const Announcement *now)
{
	WaitEventSet *set = CreateWaitEventSet(CurrentMemoryContext, 3);
	WaitEvent	event;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_POSTMASTER_DEATH, PGINVALID_SOCKET, NULL, NULL);
	if (output >= 0)
		AddWaitEventToSet(set, WL_SOCKET_READABLE, output, NULL, NULL);
	if (WaitEventSetWait(set, next_timeout(now), &event, 1, PG_WAIT_EXTENSION) == 1)
	{
		if (event.events & WL_POSTMASTER_DEATH)
		{
			speak_last_word();
			_exit(1);
		}
		if (event.events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	FreeWaitEventSet(set);
}

static void
detach(int code, Datum argument)
{
	pg_atomic_write_u32(&elector_shared->announcer_proc, 0);
}

void
elector_announcer_main(Datum argument)
{
	pqsignal(SIGTERM, on_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGCHLD, on_sigchld);
	pqsignal(SIGQUIT, on_sigquit);
	BackgroundWorkerUnblockSignals();
	on_shmem_exit(detach, 0);
	pg_atomic_write_u32(&elector_shared->announcer_proc, ElectorMyProcNumber() + 1);

	while (!terminated)
	{
		Announcement now;

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			prepare_last_word();
		}
		watch_command();
		look(&now);
		announce(&now);
		notify_listeners(&now);
		wait_for_news(&now);
	}
	speak_last_word();
	proc_exit(1);
}
