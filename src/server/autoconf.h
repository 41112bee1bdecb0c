/*
 * autoconf.h
 *	  Rewrite postgresql.auto.conf from the worker.
 */
#ifndef ELECTOR_AUTOCONF_H
#define ELECTOR_AUTOCONF_H

#include "postgres.h"

typedef struct ElectorAutoConf
{
	const char *name;
	const char *value;			/* NULL removes the setting */
} ElectorAutoConf;

/* Durable when it returns; ERROR if the file cannot be read or written. */
extern void elector_autoconf_write(const ElectorAutoConf *settings, int count);

#endif							/* ELECTOR_AUTOCONF_H */
