/*
 * name.c
 *	  What a node, a cluster, or a zone may be called, and how short texts are
 *	  copied.
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

void
elector_copy(char *to, const char *from, size_t size)
{
	size_t		length = strnlen(from, size - 1);

	memcpy(to, from, length);
	to[length] = '\0';
}
