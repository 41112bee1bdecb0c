/*
 * pidfile.c
 *	  The postmaster's lock file, which we have inherited from it.
 *
 * It holds our process id, and should, so that nobody starts a second server
 * meanwhile.  But pg_rewind and single-user mode refuse to work while it is
 * there: for them it goes away, and a lock on the directory itself stands in,
 * which a starting postmaster with the library looks at.  The children inherit
 * that lock: one that outlives us goes on holding it.
 */
#include "program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/file_perm.h"

/* It has eight short lines. */
#define PIDFILE_SIZE	8192

static int	lock_fd = -1;
static char *pidfile;			/* path, while the file is away */
static char *content;

/*
 * Does the data directory belong to us?  Yes if the file holds our process id,
 * or is not there (run by hand).
 */
bool
elector_pidfile_check(const char *data_directory)
{
	char	   *path = psprintf("%s/postmaster.pid", data_directory);
	char	   *text = elector_disk_read(path, PIDFILE_SIZE, NULL);
	long		pid = text ? labs(atol(text)) : 0;
	bool		ours = !elector_disk_exists(path) || pid == (long) getpid() ||
	(pid > 0 && kill((pid_t) pid, 0) != 0 && errno == ESRCH);

	if (!ours)
	{
		elector_log(ELECTOR_FATAL, "lock file \"%s\" belongs to another process", path);
		elector_log_hint("Is a server with PID %ld running in data directory \"%s\"?",
						 pid, data_directory);
	}
	pg_free(text);
	pg_free(path);
	return ours;
}

/* Take the lock, and the file away. */
bool
elector_pidfile_away(const char *data_directory)
{
	if (lock_fd < 0)
		lock_fd = open(data_directory, O_RDONLY | O_DIRECTORY);
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX | LOCK_NB) != 0)
	{
		elector_log(ELECTOR_FATAL, "could not lock data directory \"%s\": %s",
					data_directory, strerror(errno));
		elector_log_hint("A rewind or clone of this directory may still be under way.");
		return false;
	}
	if (pidfile == NULL)
	{
		pidfile = psprintf("%s/postmaster.pid", data_directory);
		content = elector_disk_read(pidfile, PIDFILE_SIZE, NULL);
	}
	return elector_disk_remove(pidfile);
}

/*
 * Put it back, as it was.  A server that was started meanwhile has made its
 * own, and is about to give up because of the lock: wait for that, not long.
 */
bool
elector_pidfile_back(void)
{
	if (content != NULL)
	{
		int			tries = 50;

		while (tries-- > 0)
		{
			int			fd = open(pidfile, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
								  pg_file_create_mode);
			bool		ok;

			if (fd < 0 && errno == EEXIST)
			{
				pg_usleep(100 * 1000L);
				continue;
			}
			ok = fd >= 0 && write(fd, content, strlen(content)) == (ssize_t) strlen(content);
			if (fd >= 0)
				close(fd);
			if (ok)
				break;
			elector_log(ELECTOR_FATAL, "could not write lock file \"%s\": %s", pidfile,
						strerror(errno));
			return false;
		}
		if (tries < 0)
		{
			elector_log(ELECTOR_FATAL, "lock file \"%s\" was taken by another server", pidfile);
			return false;
		}
		pg_free(content);
		content = NULL;
	}
	pg_free(pidfile);
	pidfile = NULL;
	return true;
}

/*
 * The process ends, with no server: do what the postmaster would have done with
 * its lock files.  postmaster.pid goes last, since pg_ctl waits for that.
 */
void
elector_pidfile_end(const char *data_directory)
{
	char	   *path = psprintf("%s/postmaster.pid", data_directory);
	char	   *text = elector_disk_read(path, PIDFILE_SIZE, NULL);
	char	   *lines[8] = {NULL};
	int			nlines = 0;

	if (text == NULL || atol(text) != (long) getpid())
		return;
	while (nlines < 8 && text != NULL)
		lines[nlines++] = strsep(&text, "\n");

	/* pid, data directory, start, port, socket directory */
	if (nlines > 4 && lines[4][0] == '/')
	{
		char	   *lock = psprintf("%s/.s.PGSQL.%d.lock", lines[4], atoi(lines[3]));
		char	   *owner = elector_disk_read(lock, PIDFILE_SIZE, NULL);

		if (owner && atol(owner) == (long) getpid())
			unlink(lock);
	}
	unlink(path);
}
