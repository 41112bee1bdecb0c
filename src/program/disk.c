/*
 * disk.c
 *	  Small operations on files, each one durable when it returns.
 *
 * What is done here is done with the server down, by one process, so there is
 * no locking.  The trap is the order of things: a caller relies on each step
 * being on disk before the next one begins.
 */
#include "program.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/file_utils.h"

static bool
failed(const char *what, const char *path)
{
	elector_log(ELECTOR_WARNING, "could not %s \"%s\": %s", what, path, strerror(errno));
	return false;
}

/* Is there anything of that name?  A dangling link counts. */
bool
elector_disk_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/*
 * The content of a file that has no more than limit bytes, with a NUL behind
 * it; NULL if there is none such.  Absence is not worth a message.
 */
char	   *
elector_disk_read(const char *path, size_t limit, size_t *length)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC);
	char	   *data;
	size_t		have = 0;
	ssize_t		got;

	if (fd < 0)
	{
		if (errno != ENOENT)
			failed("open", path);
		return NULL;
	}
	data = pg_malloc(limit + 2);
	while (have <= limit && (got = read(fd, data + have, limit + 1 - have)) > 0)
		have += got;
	close(fd);
	if (have > limit)
	{
		elector_log(ELECTOR_WARNING, "file \"%s\" is larger than %zu bytes", path, limit);
		pg_free(data);
		return NULL;
	}
	data[have] = '\0';
	if (length)
		*length = have;
	return data;
}

static bool
write_and_sync(int fd, const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		written = write(fd, data, length);

		if (written <= 0)
		{
			if (written == 0)
				errno = ENOSPC;
			return false;
		}
		data += written;
		length -= written;
	}
	return fsync(fd) == 0;
}

/* Replace a file, wholly or not at all. */
bool
elector_disk_write(const char *path, const void *data, size_t length)
{
	char	   *temporary = psprintf("%s.tmp", path);
	int			fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
						  pg_file_create_mode);
	bool		ok;

	if (fd < 0)
		return failed("create", temporary);
	ok = write_and_sync(fd, data, length);
	if (!ok)
		failed("write", temporary);
	close(fd);
	if (!ok)
		unlink(temporary);
	else
		ok = elector_disk_rename(temporary, path);
	pg_free(temporary);
	return ok;
}

/* Fill a part of a file with zeros. */
bool
elector_disk_clear(const char *path, uint64 from, uint64 upto)
{
	static const char zeros[64 * 1024];
	int			fd = open(path, O_WRONLY | O_CLOEXEC);
	bool		ok;

	if (fd < 0)
		return failed("open", path);
	ok = lseek(fd, (off_t) from, SEEK_SET) == (off_t) from;
	while (ok && from < upto)
	{
		size_t		length = Min(upto - from, sizeof(zeros));

		ok = write(fd, zeros, length) == (ssize_t) length;
		from += length;
	}
	ok = ok && fsync(fd) == 0;
	if (!ok)
		failed("write", path);
	close(fd);
	return ok;
}

/* Make a directory; one that is there is as good. */
bool
elector_disk_make(const char *path)
{
	if (mkdir(path, pg_dir_create_mode) != 0 && errno != EEXIST)
		return failed("create directory", path);
	return fsync_parent_path(path) == 0;
}

/* Remove a file, if it is there. */
bool
elector_disk_remove(const char *path)
{
	if (unlink(path) != 0)
		return errno == ENOENT ? true : failed("remove", path);
	return fsync_parent_path(path) == 0;
}

/* Remove a file or a directory with all it holds, if it is there. */
bool
elector_disk_remove_tree(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? true : failed("read", path);
	if (!S_ISDIR(st.st_mode))
		return elector_disk_remove(path);
	if (!rmtree(path, true))
		return failed("remove", path);
	return fsync_parent_path(path) == 0;
}

bool
elector_disk_rename(const char *from, const char *to)
{
	if (rename(from, to) != 0)
	{
		elector_log(ELECTOR_WARNING, "could not rename \"%s\" to \"%s\": %s",
					from, to, strerror(errno));
		return false;
	}
	return fsync_parent_path(to) == 0 && fsync_parent_path(from) == 0;
}

static bool
copy_file(const char *from, const char *to, mode_t mode)
{
	static char buffer[64 * 1024];
	int			in = open(from, O_RDONLY | O_CLOEXEC);
	int			out;
	ssize_t		got;
	bool		ok = true;

	if (in < 0)
		return failed("open", from);
	out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (mode & 0777) | 0600);
	if (out < 0)
	{
		close(in);
		return failed("create", to);
	}
	while (ok && (got = read(in, buffer, sizeof(buffer))) != 0)
		ok = got > 0 && write_and_sync(out, buffer, got);
	if (!ok)
		failed("copy", from);
	close(in);
	close(out);
	return ok;
}

/*
 * Copy a file, link or directory.  The copy is ours to write.
 *
 * With a budget it is a convenience for the time of a rewind: files that go
 * beyond it and what cannot be read are left out without a word.  There must be
 * no link in it, which pg_rewind takes offence at where the source has a file:
 * of one to a file there is a copy of the file.
 */
bool
elector_disk_copy(const char *from, const char *to, int64 *budget)
{
	struct stat st;
	bool		ok = true;

	if (lstat(from, &st) != 0)
		return failed("read", from);
	if (budget && S_ISLNK(st.st_mode) && (stat(from, &st) != 0 || !S_ISREG(st.st_mode)))
		return true;
	if (S_ISREG(st.st_mode))
	{
		if (budget && (st.st_size > *budget || access(from, R_OK) != 0))
			return true;
		if (budget)
			*budget -= st.st_size;
		ok = copy_file(from, to, st.st_mode);
	}
	else if (S_ISLNK(st.st_mode))
	{
		char		target[MAXPGPATH];
		ssize_t		length = readlink(from, target, sizeof(target) - 1);

		if (length < 0)
			return failed("read link", from);
		target[length] = '\0';
		if (symlink(target, to) != 0)
			return failed("create link", to);
	}
	else if (S_ISDIR(st.st_mode))
	{
		char	  **names;

		if (budget && access(from, R_OK | X_OK) != 0)
			return true;
		names = elector_disk_names(from);
		if (names == NULL || !elector_disk_make(to))
			return false;
		for (int i = 0; ok && names[i] != NULL; i++)
		{
			char	   *source = psprintf("%s/%s", from, names[i]);
			char	   *target = psprintf("%s/%s", to, names[i]);

			ok = elector_disk_copy(source, target, budget);
			pg_free(source);
			pg_free(target);
		}
		pgfnames_cleanup(names);
		fsync_fname(to, true);
	}
	/* sockets and the like are nobody's data */
	return ok && fsync_parent_path(to) == 0;
}

/* The names in a directory, without "." and "..", NULL-terminated. */
char	  **
elector_disk_names(const char *path)
{
	char	  **names = pgfnames(path);

	if (names == NULL)
		failed("open directory", path);
	return names;
}
