/*
 * files.c
 *	  The text of the small files a node keeps in <data directory>/pg_elector.
 *
 * One table per file names its fields; one writer and one reader go through the
 * tables.  Values are one line each: what is written here never holds a line
 * feed (settings are checked for it), and what would is refused.
 *
 * The trap is a torn or foreign file.  So every file must begin with its kind,
 * hold every field of the table in the table's order, and end in `end`.
 */
#include "files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum FieldKind
{
	FIELD_TEXT,
	FIELD_UINT64,
	FIELD_INT64,
	FIELD_UINT32,
	FIELD_BOOL,
	FIELD_TODO
} FieldKind;

typedef struct Field
{
	const char *name;
	FieldKind	kind;
	size_t		offset;
	size_t		size;
} Field;

#define FIELD(type, member, kind) \
	{#member, kind, offsetof(type, member), sizeof(((type *) 0)->member)}

static const Field state_fields[] = {
	FIELD(ElectorState, node, FIELD_TEXT),
	FIELD(ElectorState, former, FIELD_TEXT),
	FIELD(ElectorState, system, FIELD_UINT64),
	FIELD(ElectorState, term, FIELD_UINT64),
	FIELD(ElectorState, token, FIELD_INT64),
	FIELD(ElectorState, timeline, FIELD_UINT32),
	FIELD(ElectorState, allotted, FIELD_UINT32),
	FIELD(ElectorState, stray, FIELD_UINT32),
	FIELD(ElectorState, caught_up, FIELD_BOOL),
	FIELD(ElectorState, followed, FIELD_UINT64),
	FIELD(ElectorState, directory, FIELD_TEXT),
	FIELD(ElectorState, promised, FIELD_UINT64),
	FIELD(ElectorState, promised_ms, FIELD_INT64),
	FIELD(ElectorState, instance, FIELD_TEXT),
	FIELD(ElectorState, machine, FIELD_TEXT),
	FIELD(ElectorState, boot_id, FIELD_TEXT),
	FIELD(ElectorState, device, FIELD_UINT64),
	FIELD(ElectorState, inode, FIELD_UINT64),
	{NULL}
};

static const Field todo_fields[] = {
	FIELD(ElectorTodo, node, FIELD_TEXT),
	FIELD(ElectorTodo, kind, FIELD_TODO),
	FIELD(ElectorTodo, term, FIELD_UINT64),
	FIELD(ElectorTodo, leader, FIELD_TEXT),
	FIELD(ElectorTodo, source, FIELD_TEXT),
	{NULL}
};

static const Field leadership_fields[] = {
	FIELD(ElectorLeadership, node, FIELD_TEXT),
	FIELD(ElectorLeadership, instance, FIELD_TEXT),
	FIELD(ElectorLeadership, term, FIELD_UINT64),
	FIELD(ElectorLeadership, lease, FIELD_INT64),
	FIELD(ElectorLeadership, create_revision, FIELD_INT64),
	FIELD(ElectorLeadership, heir, FIELD_TEXT),
	FIELD(ElectorLeadership, stopped_at, FIELD_INT64),
	{NULL}
};

static const char *const todo_names[] = {
	[ELECTOR_TODO_NONE] = "none",
	[ELECTOR_TODO_STANDBY] = "standby",
	[ELECTOR_TODO_HANDOVER] = "handover",
	[ELECTOR_TODO_REWIND] = "rewind",
	[ELECTOR_TODO_CLONE] = "clone"
};

#define TODO_NAMES ((int) (sizeof(todo_names) / sizeof(todo_names[0])))

/* Write one value as text; false if it does not fit or is not one line. */
static bool
format_value(const Field *field, const char *base, char *value, size_t size)
{
	const void *place = base + field->offset;
	int			length = -1;

	switch (field->kind)
	{
		case FIELD_TEXT:
			if (strchr(place, '\n') != NULL)
				return false;
			length = snprintf(value, size, "%s", (const char *) place);
			break;
		case FIELD_UINT64:
			length = snprintf(value, size, "%" PRIu64, *(const uint64_t *) place);
			break;
		case FIELD_INT64:
			length = snprintf(value, size, "%" PRId64, *(const int64_t *) place);
			break;
		case FIELD_UINT32:
			length = snprintf(value, size, "%" PRIu32, *(const uint32_t *) place);
			break;
		case FIELD_BOOL:
			length = snprintf(value, size, "%s",
							  *(const bool *) place ? "true" : "false");
			break;
		case FIELD_TODO:
			length = snprintf(value, size, "%s",
							  todo_names[*(const ElectorTodoKind *) place]);
			break;
	}
	return length >= 0 && (size_t) length < size;
}

static bool
parse_number(const char *value, bool negative_allowed, int64_t *number,
			 uint64_t *unsigned_number)
{
	uint64_t	sum = 0;
	bool		negative = negative_allowed && *value == '-';

	if (negative)
		value++;
	if (*value == '\0')
		return false;
	for (; *value != '\0'; value++)
	{
		unsigned	digit;

		if (*value < '0' || *value > '9')
			return false;
		digit = (unsigned) (*value - '0');
		if (sum > (UINT64_MAX - digit) / 10)
			return false;
		sum = sum * 10 + digit;
	}
	if (number != NULL)
	{
		if (sum > INT64_MAX)
			return false;
		*number = negative ? -(int64_t) sum : (int64_t) sum;
	}
	*unsigned_number = sum;
	return true;
}

static bool
parse_value(const Field *field, const char *value, char *base)
{
	void	   *place = base + field->offset;
	uint64_t	number;

	switch (field->kind)
	{
		case FIELD_TEXT:
			if (strlen(value) >= field->size)
				return false;
			strcpy(place, value);
			return true;
		case FIELD_UINT64:
			return parse_number(value, false, NULL, (uint64_t *) place);
		case FIELD_INT64:
			return parse_number(value, true, (int64_t *) place, &number);
		case FIELD_UINT32:
			if (!parse_number(value, false, NULL, &number) || number > UINT32_MAX)
				return false;
			*(uint32_t *) place = (uint32_t) number;
			return true;
		case FIELD_BOOL:
			*(bool *) place = strcmp(value, "true") == 0;
			return *(bool *) place || strcmp(value, "false") == 0;
		case FIELD_TODO:
			for (int kind = 0; kind < TODO_NAMES; kind++)
			{
				if (strcmp(value, todo_names[kind]) == 0)
				{
					*(ElectorTodoKind *) place = (ElectorTodoKind) kind;
					return true;
				}
			}
			return false;
	}
	return false;
}

static int
format_file(const char *kind, const Field *fields, const void *record,
			char *text, size_t size)
{
	int			length = snprintf(text, size, "pg_elector %s 1\n", kind);

	for (const Field *field = fields; field->name != NULL; field++)
	{
		char		value[ELECTOR_CONNINFO_SIZE];

		if (length < 0 || (size_t) length >= size ||
			!format_value(field, record, value, sizeof(value)))
			return -1;
		length += snprintf(text + length, size - length, "%s = %s\n",
						   field->name, value);
	}
	if (length < 0 || (size_t) length >= size)
		return -1;
	length += snprintf(text + length, size - length, "end\n");
	return (size_t) length < size ? length : -1;
}

/* Copy the next line, without its end; NULL if there is none or it is long. */
static const char *
next_line(const char *text, char *line, size_t size)
{
	const char *end = strchr(text, '\n');

	if (end == NULL || (size_t) (end - text) >= size)
		return NULL;
	memcpy(line, text, end - text);
	line[end - text] = '\0';
	return end + 1;
}

static bool
parse_file(const char *kind, const Field *fields, const char *text, void *record)
{
	char		line[ELECTOR_CONNINFO_SIZE + ELECTOR_NAME_SIZE];
	char		expected[ELECTOR_NAME_SIZE];

	snprintf(expected, sizeof(expected), "pg_elector %s 1", kind);
	text = next_line(text, line, sizeof(line));
	if (text == NULL || strcmp(line, expected) != 0)
		return false;
	for (const Field *field = fields; field->name != NULL; field++)
	{
		size_t		length = strlen(field->name);

		text = next_line(text, line, sizeof(line));
		if (text == NULL || strncmp(line, field->name, length) != 0 ||
			strncmp(line + length, " = ", 3) != 0 ||
			!parse_value(field, line + length + 3, record))
			return false;
	}
	text = next_line(text, line, sizeof(line));
	return text != NULL && strcmp(line, "end") == 0 && *text == '\0';
}

int
elector_state_format(const ElectorState *state, char *text, size_t size)
{
	return format_file("state", state_fields, state, text, size);
}

int
elector_todo_format(const ElectorTodo *todo, char *text, size_t size)
{
	return format_file("todo", todo_fields, todo, text, size);
}

int
elector_leadership_format(const ElectorLeadership *leadership, char *text,
						  size_t size)
{
	return format_file("leadership", leadership_fields, leadership, text, size);
}

bool
elector_state_parse(const char *text, ElectorState *state)
{
	memset(state, 0, sizeof(*state));
	state->present = parse_file("state", state_fields, text, state);
	if (!state->present)
		memset(state, 0, sizeof(*state));
	return state->present;
}

bool
elector_todo_parse(const char *text, ElectorTodo *todo)
{
	memset(todo, 0, sizeof(*todo));
	if (parse_file("todo", todo_fields, text, todo))
		return true;
	memset(todo, 0, sizeof(*todo));
	return false;
}

bool
elector_leadership_parse(const char *text, ElectorLeadership *leadership)
{
	memset(leadership, 0, sizeof(*leadership));
	leadership->present = parse_file("leadership", leadership_fields, text,
									 leadership);
	if (!leadership->present)
		memset(leadership, 0, sizeof(*leadership));
	return leadership->present;
}
