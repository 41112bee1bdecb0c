/*
 * value.c
 *	  Strict reading of JSON values, for gateway.c and json.c.
 *
 * cJSON is lenient where it must not matter here: it accepts text after the
 * document, it hands out strings that a \u0000 has cut short, and every number
 * is a double.  These functions close that, and nothing else reads numbers.
 *
 * The one trap: a number beyond 2^53 is not what was written any more, so that
 * it counts as malformed; etcd and pg_elector write 64-bit numbers as strings.
 */
#include <string.h>

#include "value.h"

#define EXACT_DOUBLE_MAX	9007199254740992.0	/* 2^53 */

/*
 * Does a string in the text contain an escaped NUL?  A backslash occurs in
 * strings only, so there is no need to know where one begins.
 */
static bool
has_escaped_nul(const char *text)
{
	const char *p = text;

	while ((p = strchr(p, '\\')) != NULL)
	{
		if (strncmp(p + 1, "u0000", 5) == 0)
			return true;
		if (p[1] == '\0')
			return false;
		p += 2;
	}
	return false;
}

cJSON	   *
elector_value_parse(const char *text, size_t length)
{
	if (strlen(text) != length || has_escaped_nul(text))
		return NULL;

	/* the terminating NUL is part of what it wants to see */
	return cJSON_ParseWithLengthOpts(text, length + 1, NULL, true);
}

cJSON	   *
elector_value_get(const cJSON *object, const char *name)
{
	cJSON	   *value;

	if (!cJSON_IsObject(object))
		return NULL;
	value = cJSON_GetObjectItemCaseSensitive(object, name);
	return cJSON_IsNull(value) ? NULL : value;
}

/* Digits and nothing else, without overflow. */
static bool
parse_digits(const char *text, uint64_t *result)
{
	uint64_t	number = 0;

	if (*text == '\0')
		return false;
	for (; *text != '\0'; text++)
	{
		uint64_t	digit;

		if (*text < '0' || *text > '9')
			return false;
		digit = (uint64_t) (*text - '0');
		if (number > (UINT64_MAX - digit) / 10)
			return false;
		number = number * 10 + digit;
	}
	*result = number;
	return true;
}

bool
elector_value_uint64(const cJSON *value, uint64_t *result)
{
	if (cJSON_IsString(value))
		return parse_digits(value->valuestring, result);
	if (cJSON_IsNumber(value))
	{
		double		number = value->valuedouble;

		if (!(number >= 0 && number <= EXACT_DOUBLE_MAX))
			return false;
		*result = (uint64_t) number;
		return (double) *result == number;
	}
	return false;
}

bool
elector_value_int64(const cJSON *value, int64_t min, int64_t max, int64_t *result)
{
	int64_t		number;

	if (cJSON_IsString(value))
	{
		const char *text = value->valuestring;
		bool		negative = (*text == '-');
		uint64_t	magnitude;

		if (!parse_digits(text + (negative ? 1 : 0), &magnitude) ||
			magnitude > (uint64_t) INT64_MAX)
			return false;
		number = negative ? -(int64_t) magnitude : (int64_t) magnitude;
	}
	else if (cJSON_IsNumber(value))
	{
		double		exact = value->valuedouble;

		if (!(exact >= -EXACT_DOUBLE_MAX && exact <= EXACT_DOUBLE_MAX))
			return false;
		number = (int64_t) exact;
		if ((double) number != exact)
			return false;
	}
	else
		return false;

	if (number < min || number > max)
		return false;
	*result = number;
	return true;
}
