/*
 * pgbouncer.h
 *	  The clients' PgBouncers: pause them, point them at this node.
 */
#ifndef ELECTOR_PGBOUNCER_H
#define ELECTOR_PGBOUNCER_H

#include "library.h"
#include "storage/latch.h"

/*
 * May pg_elector.pgbouncer be set to this?  If not, *error is a sentence that
 * holds no password.
 */
extern bool elector_pgbouncer_valid(const char *list, char *error, size_t size);

/* Take the setting as it is now. */
extern void elector_pgbouncer_configure(void);

/*
 * On the leader: begin to pause, or go on with it.  True when every PgBouncer is
 * paused, cannot be, or has had that long for it.
 */
extern bool elector_pgbouncer_pause(ElectorTime patience);

/* The leader stays: let clients go on. */
extern void elector_pgbouncer_resume(void);

/*
 * Make progress; never blocks.  While the gate is open that is to point them at
 * this node, and to let go on whom a leader has paused.  Returns when it must run
 * again at the latest.
 */
extern ElectorTime elector_pgbouncer_pump(ElectorTime now);

/* What is wrong with them, for people; false if nothing is. */
extern bool elector_pgbouncer_problem(char *text, size_t size);

extern int	elector_pgbouncer_count(void);
extern void elector_pgbouncer_add_events(WaitEventSet *set);

#endif							/* ELECTOR_PGBOUNCER_H */
