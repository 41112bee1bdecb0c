/*
 * hold.h
 *	  Where a rejoin keeps what it must not lose.
 *
 * While the program rewinds or replaces a data directory, everything of the
 * node's own (configuration, pg_elector/, logs) and the markers of how far it
 * came are in the hold, a folder that pg_rewind does not touch: beside the data
 * directory if it can be renamed into there, else within it (a mount point, or
 * a parent that is not ours to write).
 *
 * A starting postmaster that finds either folder runs the program before
 * anything else, which finishes or undoes what was cut off.  A data directory
 * with a hold must never be opened.
 *
 * The names only; src/program/hold.c does the work.
 */
#ifndef ELECTOR_HOLD_H
#define ELECTOR_HOLD_H

#include "files.h"

/* Appended to the data directory's path. */
#define ELECTOR_HOLD_BESIDE		".pg_elector"

/*
 * The end of this name is what keeps pg_rewind (from 15.7, 16.3 and 17 on),
 * pg_basebackup and pg_checksums away from it: they pass over whatever has it
 * in its path.
 */
#define ELECTOR_HOLD_WITHIN		"/pg_elector.DS_Store"

/*
 * One line of why the last rejoin did not come about, for elector_status; its
 * modification time tells when.  Written and removed by the program.
 */
#define ELECTOR_PROBLEM_FILE	ELECTOR_DIRECTORY "/problem"

#endif							/* ELECTOR_HOLD_H */
