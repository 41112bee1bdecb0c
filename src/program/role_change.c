/*
 * role_change.c
 *	  Run pg_elector.role_change_command, one at a time and not for ever.
 *
 * The announcer of a server (server/announce.c) runs this program for each change of
 * role, and reads what comes out of it.  It is a process of its own because it may
 * outlive the server: the last word of a server that stops, or whose postmaster was
 * killed, is spoken when nobody of it is left.  So it has nothing of the server's,
 * and its bound in itself.
 *
 * The command is the operator's text for a shell.  What it is told are arguments and
 * environment variables of that shell, never part of the text.
 *
 * A lock on a file keeps commands apart, over restarts of the server, too.  Whoever
 * cannot get it in the time that the other may take goes on without.
 *
 * Its own exit code is 0 or 1: in a container the postmaster may inherit it, and takes
 * any other for the crash of a process of its own.
 *
 * The trap: the last word ("none") must not be spoken after the first word of the
 * server's next start.  So it does not wait long for the lock: who holds it can only
 * be another last word, since the announcer has ended the command that was running.
 */
#include "program.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How often the lock is tried. */
#define LOCK_INTERVAL_US 10000

/* The last word waits so long for it. */
#define LAST_WORD_WAIT_MS 1000

/* From being asked to end until it is killed. */
#define GRACE_MS 1000

typedef struct RoleChange
{
	const char *data_directory;
	const char *command;
	int			timeout_ms;
	bool		last_word;
	const char *cluster;
	const char *node;
	const char *role;
	const char *term;
	const char *leader;
} RoleChange;

static int64
milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static bool
read_arguments(RoleChange *change, int argc, char **argv)
{
	static const struct option options[] = {
		{"data-directory", required_argument, NULL, 'D'},
		{"command", required_argument, NULL, 'x'},
		{"timeout", required_argument, NULL, 't'},
		{"last-word", no_argument, NULL, 'w'},
		{"cluster", required_argument, NULL, 'c'},
		{"node", required_argument, NULL, 'n'},
		{"role", required_argument, NULL, 'r'},
		{"term", required_argument, NULL, 'm'},
		{"leader", required_argument, NULL, 'l'},
		{NULL, 0, NULL, 0}
	};
	int			c;

	memset(change, 0, sizeof(*change));
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (c)
		{
			case 'D':
				change->data_directory = optarg;
				break;
			case 'x':
				change->command = optarg;
				break;
			case 't':
				change->timeout_ms = atoi(optarg);
				break;
			case 'w':
				change->last_word = true;
				break;
			case 'c':
				change->cluster = optarg;
				break;
			case 'n':
				change->node = optarg;
				break;
			case 'r':
				change->role = optarg;
				break;
			case 'm':
				change->term = optarg;
				break;
			case 'l':
				change->leader = optarg;
				break;
			default:
				return false;
		}
	}
	return change->data_directory && change->command && change->timeout_ms > 0 &&
		change->cluster && change->node && change->role && change->term && change->leader;
}

/* False: another last word is being spoken. */
static bool
lock(const RoleChange *change)
{
	int64		wait = change->last_word ? LAST_WORD_WAIT_MS : change->timeout_ms + GRACE_MS;
	int64		until = milliseconds() + wait;
	int			fd = open(ELECTOR_ROLE_CHANGE_LOCK, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
	{
		fprintf(stderr, "could not open file \"%s\": %s\n", ELECTOR_ROLE_CHANGE_LOCK, strerror(errno));
		return true;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) != 0)
	{
		if (milliseconds() >= until)
			return !change->last_word;
		pg_usleep(LOCK_INTERVAL_US);
	}
	return true;				/* and the lock ends with this process */
}

/* In the child: become the shell. */
static void
become_shell(const RoleChange *change)
{
	/* the arguments go behind whatever the command has of its own */
	char	   *text = psprintf("%s \"$@\"", change->command);
	char	   *argv[] = {"sh", "-c", text, "pg_elector", (char *) change->node, (char *) change->role,
	(char *) change->term, (char *) change->leader, NULL};
	sigset_t	none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);

	setenv("PG_ELECTOR_CLUSTER", change->cluster, 1);
	setenv("PG_ELECTOR_NODE", change->node, 1);
	setenv("PG_ELECTOR_ROLE", change->role, 1);
	setenv("PG_ELECTOR_TERM", change->term, 1);
	setenv("PG_ELECTOR_LEADER", change->leader, 1);
	execv("/bin/sh", argv);
	fprintf(stderr, "could not execute \"/bin/sh\": %s\n", strerror(errno));
	_exit(127);
}

/* Until it has ended, is to be ended, or that time has come; true if it has ended. */
static bool
wait_for_end(pid_t pid, int64 until, const sigset_t *signals, bool *canceled)
{
	for (;;)
	{
		int64		left = until - milliseconds();
		struct timespec timeout = {left / 1000, left % 1000 * 1000000};
		siginfo_t	info = {0};
		int			signo;

		/* It stays a zombie, so that its process group keeps its number. */
		if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == pid)
			return true;
		if (left <= 0 || *canceled)
			return false;
		signo = sigtimedwait(signals, NULL, &timeout);
		if (signo > 0 && signo != SIGCHLD)
			*canceled = true;
	}
}

/*
 * End what the command has left behind in its process group, and reap it: nobody else
 * shall inherit it.  Returns the shell's status.
 */
static int
end_group(pid_t group)
{
	int64		until = milliseconds() + GRACE_MS;
	int			result = 0;
	int			status;
	pid_t		pid;

	kill(-group, SIGKILL);
	do
	{
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		{
			if (pid == group)
				result = status;
		}
		if (kill(-group, 0) != 0)
			break;
		pg_usleep(1000);
	} while (milliseconds() < until);
	return result;
}

static bool
run(const RoleChange *change)
{
	sigset_t	signals;
	bool		canceled = false;
	int			status;
	pid_t		pid;

	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGQUIT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = fork();
	if (pid < 0)
	{
		fprintf(stderr, "could not start the command: %s\n", strerror(errno));
		return false;
	}
	if (pid == 0)
		become_shell(change);
	setpgid(pid, pid);			/* whoever comes first */

	if (!wait_for_end(pid, milliseconds() + change->timeout_ms, &signals, &canceled) && !canceled)
	{
		fprintf(stderr, "\nthe command is ended: it has run for longer than pg_elector.role_change_timeout (%d ms)\n",
				change->timeout_ms);
		kill(-pid, SIGTERM);
		wait_for_end(pid, milliseconds() + GRACE_MS, &signals, &canceled);
	}

	/* it may have left a line without an end */
	status = end_group(pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		fprintf(stderr, "\nthe command failed with exit code %d\n", WEXITSTATUS(status));
	else if (WIFSIGNALED(status) && !canceled)
		fprintf(stderr, "\nthe command was ended by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int
elector_role_change(int argc, char **argv)
{
	RoleChange	change;

	if (!read_arguments(&change, argc, argv))
	{
		fprintf(stderr, "pg_elector: arguments are missing or wrong\n");
		return 1;
	}
	if (chdir(change.data_directory) != 0)
	{
		fprintf(stderr, "could not enter data directory \"%s\": %s\n", change.data_directory,
				strerror(errno));
		return 1;
	}
	return !lock(&change) || run(&change) ? 0 : 1;
}
