/*
 * name.h
 *	  What a node, a cluster, or a zone may be called, and how names and other
 *	  short texts are copied.
 */
#ifndef ELECTOR_NAME_H
#define ELECTOR_NAME_H

#include "records.h"

/*
 * Names appear in etcd's keys, in application_name, in the log, and on command
 * lines, so only letters, digits, '.', '_' and '-' are allowed, the first not
 * being '.' or '-', and fewer than ELECTOR_NAME_SIZE of them.
 */
extern bool elector_name_valid(const char *name);

/* Copy a string that fits; what does not fit is cut off. */
extern void elector_copy(char *to, const char *from, size_t size);

#endif							/* ELECTOR_NAME_H */
