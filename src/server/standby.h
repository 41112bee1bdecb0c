/*
 * standby.h
 *	  What the worker does with a server in recovery.
 */
#ifndef ELECTOR_STANDBY_H
#define ELECTOR_STANDBY_H

#include "library.h"

/* In the options of a follower's connection; the term follows. */
#define ELECTOR_UPSTREAM_OPTION "-cpg_elector.upstream_term="

/*
 * Takes one step and says whether it is done; the worker calls again in its next
 * round.
 */
extern bool elector_standby_freeze(ElectorPosition *position);

/* Do the configuration files keep what was written from being loaded? */
extern bool elector_standby_unloadable(void);

/* Have the startup process look for WAL, not too often if it has old settings. */
extern void elector_standby_wake(void);

/* Let the frozen server stream; false if the connection string is unusable. */
extern bool elector_standby_follow(const char *conninfo, uint64 term);

/* The settings were loaded anew; the walreceiver may have to use another slot. */
extern void elector_standby_reload(void);

/* Is the server frozen since the last elector_standby_freeze() said so? */
extern bool elector_standby_frozen(void);

/*
 * The last record held, replayed or not; false if that is not known yet
 * (received.c).
 */
extern bool elector_standby_received(ElectorPosition *position);

/* What is held, while frozen; else what is replayed. */
extern ElectorPosition elector_standby_position(void);

/* Begin anew: the next freeze does not trust an earlier one. */
extern void elector_standby_thaw(void);

/* Promote to the timeline; repeated, it keeps the startup process awake. */
extern void elector_standby_promote(uint32 timeline);

/* Was it told to be promoted, by us or by hand? */
extern bool elector_standby_promoting(void);

/* Highest timeline of which pg_wal has a history file, or the own one. */
extern uint32 elector_standby_newest_timeline(uint32 own);

/*
 * The timeline that recovery may be bound for: the newest of which there is a history,
 * when the server is frozen and holds no WAL of it; 0: none.  Forgetting it takes effect
 * at the next start.
 */
extern uint32 elector_standby_target(void);
extern void elector_standby_forget_timeline(uint32 timeline);

/* The timeline's ancestors, oldest first; returns where it begins. */
extern XLogRecPtr elector_standby_ancestors(uint32 timeline,
											ElectorAncestor *ancestors, int *count);

/*
 * In the postmaster, before recovery begins: off with restore_command, unless the
 * data directory is not whole without it.
 */
extern void elector_standby_prepare_restore(void);

/* Remove placeholders with no real history file above them. */
extern void elector_standby_clean_placeholders(void);

#endif							/* ELECTOR_STANDBY_H */
