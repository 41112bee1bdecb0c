/*
 * synchronous.h
 *	  Who streams from this server, and whose acknowledgements commits wait for.
 *
 * See synchronous.c.
 */
#ifndef ELECTOR_SYNCHRONOUS_H
#define ELECTOR_SYNCHRONOUS_H

#include "library.h"

extern Size elector_synchronous_size(void);
extern void elector_synchronous_startup(void);

/* Assign hook of pg_elector.standby_names. */
extern void elector_synchronous_assign(const char *newval, void *extra);

/*
 * In a walsender, when its standby has logged in: a member's, whose earlier walsender is
 * ended first; and any other, which may not bear a member's name.  FATAL if that cannot
 * be.
 */
extern void elector_synchronous_enter(const char *node);
extern void elector_synchronous_enter_other(const char *application_name);

/* For the worker: the standbys of ours that stream from here. */
extern void elector_synchronous_look(ElectorServer *server);

/* For the worker: does synchronous_standby_names say what the library has put there? */
extern bool elector_synchronous_intact(void);

/*
 * For the worker: have commits wait for these names; "" for none.  One step; true when
 * every process that releases commits has loaded them.
 */
extern bool elector_synchronous_set(const char *names);

#endif							/* ELECTOR_SYNCHRONOUS_H */
