/*
 * child.c
 *	  Run pg_rewind, pg_basebackup or a single-user server, and log what it says.
 *
 * All signals are blocked in this process and stay so: a request to stop the
 * server that comes meanwhile must wait for the postmaster that we become.
 * Children get no mask and default handlers.
 *
 * A child is given up when it has said nothing for SILENCE: all of them report
 * their progress when asked to, so a total time, which would depend on the
 * amount of data, is not needed (I7).  It dies with us (PR_SET_PDEATHSIG), and
 * is in a process group of its own so that its children die with it.  pg_basebackup
 * has one that receives WAL, and would hold the source's slot for ever; a guard in
 * that group ends what is left of it when we are gone.
 */
#include "program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SILENCE			(10 * 60)	/* seconds */
#define LINE_SIZE		2048

typedef struct Lines
{
	char		text[LINE_SIZE];
	size_t		length;
} Lines;

static time_t
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return now.tv_sec;
}

/* Has somebody asked the server to stop? */
bool
elector_stop_requested(void)
{
	sigset_t	pending;

	sigpending(&pending);
	return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1 ||
		sigismember(&pending, SIGQUIT) == 1;
}

/* In the child: become the program. */
static void
become(const ElectorChild *child, int out)
{
	sigset_t	none;
	int			null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);

	dup2(null, 0);
	dup2(null, 1);
	dup2(out, 2);

	/* what it says is looked at */
	setenv("LC_MESSAGES", "C", 1);
	unsetenv("LC_ALL");
	unsetenv("LANGUAGE");
	if (child->password)
		setenv("PGPASSWORD", child->password, 1);

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(child->argv[0], child->argv);
	dprintf(2, "could not execute \"%s\": %s\n", child->argv[0], strerror(errno));
	_exit(127);
}

/* A process that ends the group of the child when nobody has the pipe's other end. */
static pid_t
start_guard(pid_t child, int fds[2])
{
	pid_t		pid = fork();
	char		nothing;

	if (pid == 0)
	{
		close(fds[1]);
		setpgid(0, child);
		while (read(fds[0], &nothing, 1) < 0 && errno == EINTR)
			 /* again */ ;
		kill(-child, SIGKILL);
		_exit(0);
	}
	close(fds[0]);
	return pid;
}

static void
end_guard(pid_t guard, int fd)
{
	close(fd);
	if (guard > 0)
	{
		kill(guard, SIGKILL);
		waitpid(guard, NULL, 0);
	}
}

static void
take_line(const ElectorChild *child, pid_t pid, Lines *lines)
{
	lines->text[lines->length] = '\0';
	if (lines->length > 0 && !(child->line && child->line(child->arg, pid, lines->text)))
		elector_log(ELECTOR_LOG, "%s", lines->text);
	lines->length = 0;
}

/* True if it said something. */
static bool
take_output(const ElectorChild *child, pid_t pid, int fd, Lines *lines)
{
	char		buffer[4096];
	ssize_t		got = read(fd, buffer, sizeof(buffer));

	for (ssize_t i = 0; i < got; i++)
	{
		if (buffer[i] == '\n' || buffer[i] == '\r' || lines->length == LINE_SIZE - 1)
			take_line(child, pid, lines);
		if (buffer[i] != '\n' && buffer[i] != '\r')
			lines->text[lines->length++] = buffer[i];
	}
	return got > 0;
}

/* Run it to its end.  True if it said that it succeeded. */
bool
elector_child_run(ElectorChild *child)
{
	Lines		lines = {.length = 0};
	time_t		heard = seconds();
	const char *killed = NULL;
	int			status;
	int			fds[2];
	int			guarded[2];
	pid_t		pid;
	pid_t		guard;

	if (pipe2(fds, O_CLOEXEC) != 0 || pipe2(guarded, O_CLOEXEC) != 0 || (pid = fork()) < 0)
	{
		elector_log(ELECTOR_WARNING, "could not start %s: %s", child->name, strerror(errno));
		return false;
	}
	if (pid == 0)
		become(child, fds[1]);
	close(fds[1]);
	setpgid(pid, pid);			/* whoever comes first, it or the guard */
	guard = start_guard(pid, guarded);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);

	while (waitpid(pid, &status, WNOHANG) != pid)
	{
		struct pollfd readable = {.fd = fds[0],.events = POLLIN};

		/* the bound only matters when it closes its output before it ends */
		if (poll(&readable, 1, 100) > 0)
		{
			if (take_output(child, pid, fds[0], &lines))
				heard = seconds();
			else
				pg_usleep(1000L);
		}
		if (killed == NULL && child->stoppable && elector_stop_requested())
			killed = "the server was asked to stop";
		else if (killed == NULL && seconds() - heard > SILENCE)
			killed = "it has shown no progress for too long";
		else
			continue;
		elector_log(ELECTOR_WARNING, "ending %s: %s", child->name, killed);
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	while (take_output(child, pid, fds[0], &lines))
		 /* what is left */ ;
	take_line(child, pid, &lines);
	close(fds[0]);
	end_guard(guard, guarded[1]);

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	if (WIFEXITED(status))
		elector_log(ELECTOR_WARNING, "%s failed with exit code %d", child->name,
					WEXITSTATUS(status));
	else if (killed == NULL)
		elector_log(ELECTOR_WARNING, "%s was ended by signal %d", child->name,
					WTERMSIG(status));
	return false;
}

/*
 * Halt a child, from its line callback, until SIGCONT.  False if it has ended
 * already.
 */
bool
elector_child_pause(pid_t pid)
{
	siginfo_t	info = {0};

	if (kill(pid, SIGSTOP) != 0)
		return false;
	if (waitid(P_PID, pid, &info, WSTOPPED | WEXITED | WNOWAIT) != 0)
		return false;
	return info.si_code == CLD_STOPPED;
}

/*
 * Leave no child behind: a postmaster takes one that it does not know for a
 * crashed backend.
 */
void
elector_child_reap(void)
{
	struct timespec none = {0};
	sigset_t	child;

	while (waitpid(-1, NULL, WNOHANG) > 0)
		 /* another one */ ;

	/* nor their signals */
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	while (sigtimedwait(&child, NULL, &none) > 0)
		 /* another one */ ;
}
