/*
 * name.c
 *	  What a node, a cluster, or a zone may be called.
 */
#include "name.h"

#include <string.h>

bool
elector_name_valid(const char *name)
{
	size_t		length = strspn(name, "abcdefghijklmnopqrstuvwxyz"
								"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return length > 0 && length < ELECTOR_NAME_SIZE && name[length] == '\0' &&
		name[0] != '.' && name[0] != '-';
}
