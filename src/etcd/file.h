/*
 * file.h
 *	  Certificates, keys and passwords in files, which may be replaced at any time.
 */
#ifndef ELECTOR_ETCD_FILE_H
#define ELECTOR_ETCD_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELECTOR_PATH_SIZE		1024

/* Larger than any bundle of certificates. */
#define ELECTOR_ETCD_FILE_MAX	(1024 * 1024)

/* Which file it was; all zero: none. */
typedef struct ElectorFileStamp
{
	uint64_t	device;
	uint64_t	inode;
	int64_t		size;
	int64_t		modified_ns;
	int64_t		changed_ns;
} ElectorFileStamp;

/* All zero if there is no such file. */
extern ElectorFileStamp elector_file_stamp(const char *path);
extern bool elector_file_same(const ElectorFileStamp *a, const ElectorFileStamp *b);

/*
 * The file as a string to elector_file_forget(); NULL, and a sentence in error,
 * if it cannot be read.  One that is secret must not be readable by others.
 */
extern char *elector_file_read(const char *path, bool secret, size_t *length,
							   char *error, size_t size);

/* Overwrites the text before it is freed. */
extern void elector_file_forget(char *text);

#endif							/* ELECTOR_ETCD_FILE_H */
