/*
 * store.c
 *	  The small files in <data directory>/pg_elector.
 *
 * They are written as a whole: a temporary file, fsync, durable_rename(), so a
 * file is the old one or the new one.  Their text is src/core/files.c's.
 *
 * The trap: the worker calls this from its loop, and a slow disk delays it.
 * That is allowed where nothing is lost by it: a node writes here when it is
 * fenced, when it promises, when it begins to follow, and before its gate opens; while
 * its gate is open only when it has taken its leader key again.
 */
#include "library.h"

#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "core/files.h"
#include "store.h"

void
elector_store_init(void)
{
	if (MakePGDirectory(ELECTOR_DIRECTORY) < 0 && errno != EEXIST)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", ELECTOR_DIRECTORY)));
	fsync_fname(".", true);
}

/* Read a whole small file; false if there is none. */
static bool
read_text(const char *path, char *text, size_t size)
{
	int			fd = open(path, O_RDONLY | PG_BINARY);
	ssize_t		length;

	if (fd < 0)
	{
		if (errno == ENOENT)
			return false;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}
	length = read(fd, text, size - 1);
	if (length < 0)
	{
		int			save_errno = errno;

		close(fd);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", path)));
	}
	close(fd);
	text[length] = '\0';
	return true;
}

static void
write_text(const char *path, const char *text)
{
	char		temporary[MAXPGPATH];
	int			length = strlen(text);
	int			fd;

	snprintf(temporary, sizeof(temporary), "%s.tmp", path);
	fd = open(temporary, O_CREAT | O_WRONLY | O_TRUNC | PG_BINARY, pg_file_create_mode);
	if (fd < 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", temporary)));
	errno = 0;
	if (write(fd, text, length) != length || pg_fsync(fd) != 0)
	{
		int			save_errno = errno ? errno : ENOSPC;

		close(fd);
		errno = save_errno;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", temporary)));
	}
	close(fd);
	durable_rename(temporary, path, ERROR);
}

void
elector_store_remove(const char *path)
{
	if (unlink(path) < 0)
	{
		if (errno == ENOENT)
			return;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not remove file \"%s\": %m", path)));
	}
	fsync_fname(ELECTOR_DIRECTORY, true);
}

bool
elector_store_read_state(ElectorState *state)
{
	char		text[ELECTOR_FILE_SIZE];

	memset(state, 0, sizeof(*state));
	if (!read_text(ELECTOR_STATE_FILE, text, sizeof(text)))
		return false;
	if (!elector_state_parse(text, state))
		ereport(FATAL,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" is damaged", ELECTOR_STATE_FILE),
				 errdetail("It holds the term this node has promised not to go behind."),
				 errhint("Clone this node from the leader.")));
	return true;
}

void
elector_store_write_state(const ElectorState *state)
{
	char		text[ELECTOR_FILE_SIZE];

	if (elector_state_format(state, text, sizeof(text)) < 0)
		elog(ERROR, "could not format state");
	write_text(ELECTOR_STATE_FILE, text);
}

bool
elector_store_read_todo(ElectorTodo *todo)
{
	char		text[ELECTOR_FILE_SIZE];

	memset(todo, 0, sizeof(*todo));
	return read_text(ELECTOR_TODO_FILE, text, sizeof(text)) &&
		elector_todo_parse(text, todo) &&
		strcmp(todo->node, elector_node) == 0;
}

void
elector_store_write_todo(const ElectorTodo *todo)
{
	char		text[ELECTOR_FILE_SIZE];

	if (elector_todo_format(todo, text, sizeof(text)) < 0)
		elog(ERROR, "could not format todo");
	write_text(ELECTOR_TODO_FILE, text);
}

bool
elector_store_read_leadership(ElectorLeadership *leadership)
{
	char		text[ELECTOR_FILE_SIZE];

	memset(leadership, 0, sizeof(*leadership));
	return read_text(ELECTOR_LEADERSHIP_FILE, text, sizeof(text)) &&
		elector_leadership_parse(text, leadership) &&
		strcmp(leadership->node, elector_node) == 0;
}

void
elector_store_write_leadership(const ElectorLeadership *leadership)
{
	char		text[ELECTOR_FILE_SIZE];

	if (elector_leadership_format(leadership, text, sizeof(text)) < 0)
		elog(ERROR, "could not format leadership");
	write_text(ELECTOR_LEADERSHIP_FILE, text);
}

bool
elector_store_read_problem(char *text, size_t size, ElectorTime *age)
{
	struct stat status;

	if (stat(ELECTOR_PROBLEM_FILE, &status) < 0 ||
		!read_text(ELECTOR_PROBLEM_FILE, text, size))
		return false;
	text[strcspn(text, "\n")] = '\0';
	*age = (ElectorTime) Max(time(NULL) - status.st_mtime, 0) * 1000000;
	return true;
}

static void
read_line(const char *path, char *line)
{
	char		text[ELECTOR_FILE_SIZE];

	line[0] = '\0';
	if (!read_text(path, text, sizeof(text)))
		return;
	text[strcspn(text, "\n")] = '\0';
	strlcpy(line, text, ELECTOR_NAME_SIZE);
}

/* The machine, its boot, and the data directory itself. */
void
elector_store_identity(ElectorState *state)
{
	struct stat status;

	read_line("/etc/machine-id", state->machine);
	read_line("/proc/sys/kernel/random/boot_id", state->boot_id);
	if (stat(DataDir, &status) < 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not stat directory \"%s\": %m", DataDir)));
	state->device = status.st_dev;
	state->inode = status.st_ino;
}
