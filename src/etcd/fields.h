/*
 * fields.h
 *	  Structs as JSON objects, by a table of their fields.
 *
 * Used for the records in etcd (json.c) and for what nodes say to each other
 * (server/messages.c).
 */
#ifndef ELECTOR_ETCD_FIELDS_H
#define ELECTOR_ETCD_FIELDS_H

#include <cjson/cJSON.h>

#include "../core/records.h"

typedef enum ElectorFieldType
{
	ELECTOR_FIELD_STRING,		/* char[size] */
	ELECTOR_FIELD_BOOL,			/* bool */
	ELECTOR_FIELD_INT32,		/* int32_t, any */
	ELECTOR_FIELD_MILLISECONDS, /* int32_t, -1 or more */
	ELECTOR_FIELD_UINT32,		/* uint32_t */
	ELECTOR_FIELD_INT64,		/* int64_t, not negative; as string */
	ELECTOR_FIELD_UINT64,		/* uint64_t; as string */
	ELECTOR_FIELD_LSN			/* ElectorLsn; as string 'X/X' */
} ElectorFieldType;

typedef enum ElectorFieldRule
{
	ELECTOR_FIELD_OPTIONAL,		/* zero if it is not there */
	ELECTOR_FIELD_REQUIRED,		/* must be there */
	ELECTOR_FIELD_NONZERO		/* must be there, and not be zero or empty */
} ElectorFieldRule;

typedef struct ElectorField
{
	const char *name;
	ElectorFieldType type;
	size_t		offset;
	size_t		size;
	ElectorFieldRule rule;
} ElectorField;

#define ELECTOR_FIELD(record, member, type, rule) \
	{#member, type, offsetof(record, member), sizeof(((record *) NULL)->member), rule}
#define ELECTOR_RENAMED_FIELD(record, member, name, type, rule) \
	{name, type, offsetof(record, member), sizeof(((record *) NULL)->member), rule}
#define ELECTOR_END_OF_FIELDS	{NULL, ELECTOR_FIELD_BOOL, 0, 0, ELECTOR_FIELD_OPTIONAL}

/* A new object with every field, or NULL if memory is out. */
extern cJSON *elector_fields_write(const ElectorField *fields, const void *record);

/* The object as text to free(), or NULL; the object is gone then. */
extern char *elector_fields_print(cJSON *object);

/*
 * Fill the zeroed record in.  False if a field is missing that must not be, or
 * is not of its type, too long, or out of range; the record is then half filled.
 * Members that the table does not name are ignored.
 */
extern bool elector_fields_read(const cJSON *object, const ElectorField *fields,
								void *record);

/* The same from text; the record is zeroed if it cannot be read. */
extern bool elector_fields_parse(const char *json, const ElectorField *fields,
								 void *record, size_t size);

/* One string, into size bytes; false if it is none or does not fit. */
extern bool elector_fields_string(const cJSON *value, char *place, size_t size);

#endif							/* ELECTOR_ETCD_FIELDS_H */
