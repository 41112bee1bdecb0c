/*
 * files.h
 *	  The text of the small files a node keeps in <data directory>/pg_elector.
 *
 * Each is a list of `key = value` lines that begins with the node's name.  This
 * is the text only; who reads and writes the file does the I/O (the server with
 * durable_rename(), the program likewise).
 */
#ifndef ELECTOR_FILES_H
#define ELECTOR_FILES_H

#include "records.h"

#define ELECTOR_DIRECTORY		"pg_elector"	/* within the data directory */
#define ELECTOR_STATE_FILE		ELECTOR_DIRECTORY "/state"
#define ELECTOR_TODO_FILE		ELECTOR_DIRECTORY "/todo"
#define ELECTOR_LEADERSHIP_FILE ELECTOR_DIRECTORY "/leadership"

/* Empty; held by the program while it runs role_change_command. */
#define ELECTOR_ROLE_CHANGE_LOCK ELECTOR_DIRECTORY "/role_change.lock"

/* No such file is larger; a larger one is not ours. */
#define ELECTOR_FILE_SIZE		4096

/* Write the text; returns its length, or -1 if it does not fit. */
extern int	elector_state_format(const ElectorState *state, char *text, size_t size);
extern int	elector_todo_format(const ElectorTodo *todo, char *text, size_t size);
extern int	elector_leadership_format(const ElectorLeadership *leadership,
									  char *text, size_t size);

/*
 * Read it back.  False if the text is not a whole, well-formed file of its kind
 * (every file ends in a line `end`, so that a torn one is told from a short
 * one); the result is then zeroed.
 */
extern bool elector_state_parse(const char *text, ElectorState *state);
extern bool elector_todo_parse(const char *text, ElectorTodo *todo);
extern bool elector_leadership_parse(const char *text, ElectorLeadership *leadership);

#endif							/* ELECTOR_FILES_H */
