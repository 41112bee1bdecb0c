/*
 * file.c
 *	  Certificates, keys and passwords in files, which may be replaced at any time.
 *
 * Who reads a file remembers its stamp, and reads it anew when that has changed.
 * A stamp follows symbolic links, by which whole directories of certificates are
 * often replaced at once.
 *
 * The one trap: a name may be anything.  A pipe would be waited for, so that
 * only regular files are read, and the descriptor, not the name, is asked what
 * it is and who may read it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

ElectorFileStamp
elector_file_stamp(const char *path)
{
	ElectorFileStamp stamp = {0};
	struct stat status;

	if (stat(path, &status) == 0)
	{
		stamp.device = (uint64_t) status.st_dev;
		stamp.inode = (uint64_t) status.st_ino;
		stamp.size = (int64_t) status.st_size;
		stamp.modified_ns = (int64_t) status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
		stamp.changed_ns = (int64_t) status.st_ctim.tv_sec * 1000000000 + status.st_ctim.tv_nsec;
	}
	return stamp;
}

bool
elector_file_same(const ElectorFileStamp *a, const ElectorFileStamp *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
		a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

/* What speaks against reading it, or NULL; the rule for secrets is libpq's. */
static const char *
file_problem(const struct stat *status, bool secret)
{
	if (!S_ISREG(status->st_mode))
		return "it is not a regular file";
	if (status->st_size > ELECTOR_ETCD_FILE_MAX)
		return "it is too large";
	if (!secret)
		return NULL;
	if (status->st_uid != geteuid() && status->st_uid != 0)
		return "it belongs neither to the servers' user nor to root";
	if (status->st_uid == 0 ? (status->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0 :
		(status->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return "group or others may read it; its mode must be 0600, or 0640 if root owns it";
	return NULL;
}

static char *
read_descriptor(int fd, size_t *length)
{
	char	   *text = malloc(ELECTOR_ETCD_FILE_MAX + 1);
	char	   *fitting;
	ssize_t		got = 1;

	*length = 0;
	while (text != NULL && got > 0)
	{
		got = read(fd, text + *length, ELECTOR_ETCD_FILE_MAX - *length);
		if (got > 0)
			*length += (size_t) got;
	}
	if (text == NULL || got < 0)
	{
		free(text);
		return NULL;
	}
	text[*length] = '\0';
	fitting = realloc(text, *length + 1);
	return fitting != NULL ? fitting : text;
}

char *
elector_file_read(const char *path, bool secret, size_t *length, char *error, size_t size)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const char *problem = NULL;
	char	   *text = NULL;
	struct stat status;

	if (fd < 0 || fstat(fd, &status) != 0)
		problem = strerror(errno);
	else if ((problem = file_problem(&status, secret)) == NULL)
	{
		text = read_descriptor(fd, length);
		if (text == NULL)
			problem = strerror(errno);
	}
	if (fd >= 0)
		close(fd);
	if (problem != NULL)
		snprintf(error, size, "cannot use file \"%s\": %s", path, problem);
	return text;
}

void
elector_file_forget(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}
