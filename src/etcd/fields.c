/*
 * fields.c
 *	  Structs as JSON objects, by a table of their fields.
 *
 * Writing writes every field, so that a value can be read by people.  64-bit
 * numbers are strings, since JSON's numbers are doubles; LSNs look as PostgreSQL
 * prints them.
 */
#include "fields.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "value.h"

static bool
write_field(cJSON *object, const ElectorField *field, const void *place)
{
	char		text[32];

	switch (field->type)
	{
		case ELECTOR_FIELD_STRING:
			return cJSON_AddStringToObject(object, field->name, place) != NULL;
		case ELECTOR_FIELD_BOOL:
			return cJSON_AddBoolToObject(object, field->name,
										 *(const bool *) place) != NULL;
		case ELECTOR_FIELD_INT32:
		case ELECTOR_FIELD_MILLISECONDS:
			return cJSON_AddNumberToObject(object, field->name,
										   *(const int32_t *) place) != NULL;
		case ELECTOR_FIELD_UINT32:
			return cJSON_AddNumberToObject(object, field->name,
										   *(const uint32_t *) place) != NULL;
		case ELECTOR_FIELD_INT64:
			snprintf(text, sizeof(text), "%" PRId64, *(const int64_t *) place);
			return cJSON_AddStringToObject(object, field->name, text) != NULL;
		case ELECTOR_FIELD_UINT64:
			snprintf(text, sizeof(text), "%" PRIu64, *(const uint64_t *) place);
			return cJSON_AddStringToObject(object, field->name, text) != NULL;
		case ELECTOR_FIELD_LSN:
			snprintf(text, sizeof(text), "%X/%X",
					 (unsigned int) (*(const ElectorLsn *) place >> 32),
					 (unsigned int) (*(const ElectorLsn *) place & UINT32_MAX));
			return cJSON_AddStringToObject(object, field->name, text) != NULL;
	}
	return false;
}

cJSON	   *
elector_fields_write(const ElectorField *fields, const void *record)
{
	cJSON	   *object = cJSON_CreateObject();

	if (object == NULL)
		return NULL;
	for (const ElectorField *field = fields; field->name != NULL; field++)
	{
		if (!write_field(object, field, (const char *) record + field->offset))
		{
			cJSON_Delete(object);
			return NULL;
		}
	}
	return object;
}

/* cJSON allocates with malloc() unless told otherwise, and nobody tells it. */
char	   *
elector_fields_print(cJSON *object)
{
	char	   *text = object == NULL ? NULL : cJSON_PrintUnformatted(object);

	cJSON_Delete(object);
	return text;
}

/* One to eight hexadecimal digits; the end is where they end. */
static bool
parse_lsn_half(const char *text, uint32_t *half, const char **end)
{
	size_t		length = strspn(text, "0123456789ABCDEFabcdef");

	if (length < 1 || length > 8 ||
		sscanf(text, "%" SCNx32, half) != 1)
		return false;
	*end = text + length;
	return true;
}

static bool
parse_lsn(const char *text, ElectorLsn *lsn)
{
	uint32_t	high;
	uint32_t	low;

	if (!parse_lsn_half(text, &high, &text) || *text != '/' ||
		!parse_lsn_half(text + 1, &low, &text) || *text != '\0')
		return false;
	*lsn = (ElectorLsn) high << 32 | low;
	return true;
}

bool
elector_fields_string(const cJSON *value, char *place, size_t size)
{
	size_t		length;

	if (!cJSON_IsString(value))
		return false;
	length = strlen(value->valuestring);
	if (length >= size)
		return false;
	memcpy(place, value->valuestring, length + 1);
	return true;
}

static bool
read_value(const cJSON *value, const ElectorField *field, void *place)
{
	int64_t		number;

	switch (field->type)
	{
		case ELECTOR_FIELD_STRING:
			return elector_fields_string(value, place, field->size);
		case ELECTOR_FIELD_BOOL:
			*(bool *) place = cJSON_IsTrue(value);
			return cJSON_IsBool(value);
		case ELECTOR_FIELD_INT32:
			if (!elector_value_int64(value, INT32_MIN, INT32_MAX, &number))
				return false;
			*(int32_t *) place = (int32_t) number;
			return true;
		case ELECTOR_FIELD_MILLISECONDS:
			if (!elector_value_int64(value, -1, INT32_MAX, &number))
				return false;
			*(int32_t *) place = (int32_t) number;
			return true;
		case ELECTOR_FIELD_UINT32:
			if (!elector_value_int64(value, 0, UINT32_MAX, &number))
				return false;
			*(uint32_t *) place = (uint32_t) number;
			return true;
		case ELECTOR_FIELD_INT64:
			return elector_value_int64(value, 0, INT64_MAX, place);
		case ELECTOR_FIELD_UINT64:
			return elector_value_uint64(value, place);
		case ELECTOR_FIELD_LSN:
			return cJSON_IsString(value) && parse_lsn(value->valuestring, place);
	}
	return false;
}

static bool
is_zero(const ElectorField *field, const char *place)
{
	size_t		size = field->type == ELECTOR_FIELD_STRING ? 1 : field->size;

	for (size_t i = 0; i < size; i++)
	{
		if (place[i] != 0)
			return false;
	}
	return true;
}

bool
elector_fields_read(const cJSON *object, const ElectorField *fields, void *record)
{
	if (!cJSON_IsObject(object))
		return false;
	for (const ElectorField *field = fields; field->name != NULL; field++)
	{
		const cJSON *value = elector_value_get(object, field->name);
		char	   *place = (char *) record + field->offset;

		if (value != NULL && !read_value(value, field, place))
			return false;
		if (value == NULL && field->rule != ELECTOR_FIELD_OPTIONAL)
			return false;
		if (field->rule == ELECTOR_FIELD_NONZERO && is_zero(field, place))
			return false;
	}
	return true;
}

bool
elector_fields_parse(const char *json, const ElectorField *fields, void *record, size_t size)
{
	cJSON	   *object = elector_value_parse(json, strlen(json));
	bool		valid;

	memset(record, 0, size);
	valid = elector_fields_read(object, fields, record);
	cJSON_Delete(object);
	if (!valid)
		memset(record, 0, size);
	return valid;
}
