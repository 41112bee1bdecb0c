/*
 * store.h
 *	  What of store.c is not everybody's business.
 */
#ifndef ELECTOR_STORE_H
#define ELECTOR_STORE_H

#include "core/files.h"
#include "core/hold.h"

/*
 * Why the last rejoin failed, as the program wrote it, and how many
 * microseconds ago; false if none did.
 */
extern bool elector_store_read_problem(char *text, size_t size, ElectorTime *age);

#endif							/* ELECTOR_STORE_H */
