/*
 * console.h
 *	  The admin console of one PgBouncer.
 */
#ifndef ELECTOR_CONSOLE_H
#define ELECTOR_CONSOLE_H

#include "library.h"
#include "libpq-fe.h"
#include "storage/latch.h"

/*
 * What a console is doing.  From SHOW_CONFIG on it is a statement, from SET_FILE
 * on one that only a leader may make.
 */
typedef enum ElectorConsoleStep
{
	ELECTOR_CONSOLE_DOWN,		/* no connection; see next_at */
	ELECTOR_CONSOLE_CONNECT,
	ELECTOR_CONSOLE_IDLE,
	ELECTOR_CONSOLE_SHOW_CONFIG,	/* where the files are */
	ELECTOR_CONSOLE_SHOW_DATABASES, /* what is loaded, and whether it is
									 * marked */
	ELECTOR_CONSOLE_SHOW_POOLS, /* are server connections being opened? */
	ELECTOR_CONSOLE_SET_FILE,
	ELECTOR_CONSOLE_RELOAD,
	ELECTOR_CONSOLE_RESUME,
	ELECTOR_CONSOLE_UNMARK,
	ELECTOR_CONSOLE_MARK,
	ELECTOR_CONSOLE_HOLD,		/* open no more server connections */
	ELECTOR_CONSOLE_PAUSE
} ElectorConsoleStep;

/* What has been learned over a connection, and what is to be done over it. */
typedef struct ElectorConsoleTalk
{
	char		directory[MAXPGPATH];	/* of the files; "": not known yet */
	bool		marked;			/* a leader has paused it */

	/* the check under way */
	bool		checked;		/* none is; see next_at */
	bool		named;			/* our file was named */
	bool		looked;			/* loaded and marked are as they are there */
	bool		stale;			/* what is being answered was asked before */
	bool		loaded;			/* our file is what it has loaded */
	bool		reloaded;		/* it was told to load its file */
	bool		resumed;
	char		error[ELECTOR_TEXT_SIZE];

	/* the handover under way */
	bool		ready;			/* we have marked it */
	bool		refused;		/* it answered that it cannot be paused */
	bool		held;			/* it opens no more server connections */
	bool		calm;			/* none was being opened */
	bool		paused;
} ElectorConsoleTalk;

typedef struct ElectorConsole
{
	char		conninfo[ELECTOR_CONNINFO_SIZE];
	char		name[ELECTOR_NAME_SIZE * 2];	/* host:port, for people */
	char		problem[ELECTOR_TEXT_SIZE]; /* that was logged, or "" */

	PGconn	   *connection;
	ElectorConsoleStep step;
	PostgresPollingStatusType polling;
	ElectorTime since;			/* of the connection attempt, or the statement */
	ElectorTime next_at;		/* nothing is done before */
	ElectorConsoleTalk talk;
} ElectorConsole;

/* What is wanted of all of them. */
typedef struct ElectorConsoleWish
{
	bool		leading;		/* the gate is open */
	bool		pausing;		/* mark it ... */
	bool		all_marked;		/* ... and pause it, if it is calm ... */
	bool		calm_or_not;	/* ... or although it is not */
} ElectorConsoleWish;

/*
 * From a connection string, the number-th of the setting; false with a sentence
 * that holds no password in error.
 */
extern bool elector_console_init(ElectorConsole *console, const char *conninfo,
								 int number, char *error, size_t size);

/* Make progress; never blocks.  Returns when it must run again at the latest. */
extern ElectorTime elector_console_pump(ElectorConsole *console,
										const ElectorConsoleWish *wish,
										ElectorTime now);

/* What is wanted has changed: look at everything anew. */
extern void elector_console_begin_anew(ElectorConsole *console, bool leading);
extern void elector_console_begin_pausing(ElectorConsole *console);

/* Can nothing be said to it now, nor soon? */
extern bool elector_console_unreachable(const ElectorConsole *console);

/* End the connection; what could not be sent so far is not sent any more. */
extern void elector_console_finish(ElectorConsole *console);

extern void elector_console_add_events(const ElectorConsole *console, WaitEventSet *set);

#endif							/* ELECTOR_CONSOLE_H */
