/*
 * name.c
 *	  What a node, a cluster, or a zone may be called, what a node's replication
 *	  slot is called, and how short texts are copied.
 */
#include "name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SLOT_CHARACTERS "abcdefghijklmnopqrstuvwxyz0123456789_"

/* "_" and eight hexadecimal digits */
#define HASH_LENGTH 9

bool
elector_name_valid(const char *name)
{
	size_t		length = strspn(name, "abcdefghijklmnopqrstuvwxyz"
								"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return length > 0 && length < ELECTOR_NAME_SIZE && name[length] == '\0' &&
		name[0] != '.' && name[0] != '-';
}

/* Could the name be one to which a hash was appended? */
static bool
ends_like_hash(const char *name, size_t length)
{
	const char *end = name + length - HASH_LENGTH;

	return length >= HASH_LENGTH && end[0] == '_' &&
		strspn(end + 1, "0123456789abcdef") == HASH_LENGTH - 1;
}

/* FNV-1a */
static uint32_t
hash(const char *text)
{
	uint32_t	value = 2166136261U;

	for (; *text != '\0'; text++)
		value = (value ^ (unsigned char) *text) * 16777619U;
	return value;
}

void
elector_slot_name(const char *node, char *slot)
{
	size_t		room = ELECTOR_SLOT_NAME_SIZE - sizeof(ELECTOR_SLOT_PREFIX);
	size_t		length = strlen(node);
	bool		fits = length <= room && strspn(node, SLOT_CHARACTERS) == length &&
	!ends_like_hash(node, length);
	char	   *name = slot + strlen(ELECTOR_SLOT_PREFIX);

	elector_copy(slot, ELECTOR_SLOT_PREFIX, ELECTOR_SLOT_NAME_SIZE);
	elector_copy(name, node, (fits ? room : room - HASH_LENGTH) + 1);
	if (fits)
		return;
	for (; *name != '\0'; name++)
	{
		if (*name >= 'A' && *name <= 'Z')
			*name = (char) (*name - 'A' + 'a');
		else if (strchr(SLOT_CHARACTERS, *name) == NULL)
			*name = '_';
	}
	snprintf(name, HASH_LENGTH + 1, "_%08" PRIx32, hash(node));
}

void
elector_copy(char *to, const char *from, size_t size)
{
	size_t		length = strnlen(from, size - 1);

	memcpy(to, from, length);
	to[length] = '\0';
}
