/*
 * name.h
 *	  What a node, a cluster, or a zone may be called, what a node's replication
 *	  slot is called, and how names and other short texts are copied.
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

/*
 * The replication slot of a node.  Slot names have lower case letters, digits and
 * "_" only, and are no longer than a node's: where a node's name does not fit, a
 * hash of it is appended, so that no two nodes share a slot.
 */
#define ELECTOR_SLOT_PREFIX		"pg_elector_"
#define ELECTOR_SLOT_NAME_SIZE	64

extern void elector_slot_name(const char *node, char *slot);

/* Copy a string that fits; what does not fit is cut off. */
extern void elector_copy(char *to, const char *from, size_t size);

#endif							/* ELECTOR_NAME_H */
