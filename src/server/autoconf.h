/*
 * autoconf.h
 *	  Rewrite postgresql.auto.conf from the worker, and from the postmaster.
 */
#ifndef ELECTOR_AUTOCONF_H
#define ELECTOR_AUTOCONF_H

#include "postgres.h"

typedef struct ElectorAutoConf
{
	const char *name;
	const char *value;			/* NULL removes the setting */

	/*
	 * If not NULL, the setting under which the value that stands there is
	 * kept meanwhile; it is put back instead of being removed.  The library's
	 * own values are not kept: the empty one, and those that begin with
	 * `own`.
	 */
	const char *kept_as;
	const char *own;			/* NULL: none but the empty one */
} ElectorAutoConf;

/* Durable when it returns; ERROR if the file cannot be read or written. */
extern void elector_autoconf_write(const ElectorAutoConf *settings, int count);

#endif							/* ELECTOR_AUTOCONF_H */
