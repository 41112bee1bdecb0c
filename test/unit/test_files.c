/*
 * test_files.c
 *	  The small files of a node, what things may be called, and the durability
 *	  setting.
 *
 * A file that is torn anywhere, or that is somebody else's, must not be taken
 * for a whole one: so every prefix of a good one is tried.
 */
#include <stdlib.h>

#include "core/durability.h"
#include "core/files.h"
#include "core/name.h"
#include "tap.h"

static void
make_state(ElectorState *state)
{
	memset(state, 0, sizeof(*state));
	state->present = true;
	strcpy(state->node, "n1");
	state->system = UINT64_MAX;
	state->term = 7;
	state->token = INT64_MAX;
	state->timeline = UINT32_MAX;
	state->caught_up = true;
	strcpy(state->instance, "0123456789abcdef0123456789abcdef");
	strcpy(state->machine, "m");
	strcpy(state->boot_id, "b");
	strcpy(state->directory, "fedcba9876543210fedcba9876543210");
	state->promised = 7;
	state->promised_ms = INT64_MAX;
	state->device = 2049;
}

static void
make_todo(ElectorTodo *todo, ElectorTodoKind kind)
{
	memset(todo, 0, sizeof(*todo));
	todo->kind = kind;
	strcpy(todo->node, "n1");
	todo->term = 7;
	strcpy(todo->leader, "n2");
	strcpy(todo->source, "host=10.0.0.2 password='a = b \\' end'");
}

static void
make_leadership(ElectorLeadership *leadership)
{
	memset(leadership, 0, sizeof(*leadership));
	leadership->present = true;
	strcpy(leadership->node, "n1");
	strcpy(leadership->instance, "i1");
	leadership->term = 7;
	leadership->lease = -5;
	leadership->create_revision = 610;
}

static void
check_round_trips(void)
{
	char		text[ELECTOR_FILE_SIZE];
	ElectorState state;
	ElectorState state_back;
	ElectorTodo todo;
	ElectorTodo todo_back;
	ElectorLeadership leadership;
	ElectorLeadership leadership_back;

	make_state(&state);
	ok(elector_state_format(&state, text, sizeof(text)) == (int) strlen(text) &&
	   elector_state_parse(text, &state_back) &&
	   memcmp(&state, &state_back, sizeof(state)) == 0, "state: there and back");
	make_leadership(&leadership);
	ok(elector_leadership_format(&leadership, text, sizeof(text)) == (int) strlen(text) &&
	   elector_leadership_parse(text, &leadership_back) &&
	   memcmp(&leadership, &leadership_back, sizeof(leadership)) == 0,
	   "leadership: there and back");
	for (int kind = ELECTOR_TODO_NONE; kind <= ELECTOR_TODO_CLONE; kind++)
	{
		make_todo(&todo, (ElectorTodoKind) kind);
		ok(elector_todo_format(&todo, text, sizeof(text)) == (int) strlen(text) &&
		   elector_todo_parse(text, &todo_back) &&
		   memcmp(&todo, &todo_back, sizeof(todo)) == 0, "todo %d: there and back", kind);
	}

	make_todo(&todo, ELECTOR_TODO_CLONE);
	memset(todo.source, 'x', sizeof(todo.source) - 1);
	memset(todo.leader, 'y', sizeof(todo.leader) - 1);
	ok(elector_todo_format(&todo, text, sizeof(text)) > 0 &&
	   elector_todo_parse(text, &todo_back) &&
	   memcmp(&todo, &todo_back, sizeof(todo)) == 0, "the longest values");
}

static void
check_torn(void)
{
	char		text[ELECTOR_FILE_SIZE];
	char		torn[ELECTOR_FILE_SIZE];
	ElectorState state;
	ElectorState zero;
	int			length;
	int			taken = 0;
	int			left = 0;

	memset(&zero, 0, sizeof(zero));
	make_state(&state);
	length = elector_state_format(&state, text, sizeof(text));
	for (int i = 0; i < length; i++)
	{
		memcpy(torn, text, i);
		torn[i] = '\0';
		if (elector_state_parse(torn, &state))
			taken++;
		if (memcmp(&state, &zero, sizeof(zero)) != 0)
			left++;
	}
	is_int(taken, 0, "no part of a file is taken for a file");
	is_int(left, 0, "nor leaves anything behind");

	strcpy(torn, text);
	strcpy(torn + strlen(torn), "\n");
	ok(!elector_state_parse(torn, &state), "something after the end");

	make_state(&state);
	taken = 0;
	for (int i = 0; i <= length; i++)
	{
		/* On the heap, so that a byte too many is seen. */
		char	   *small = malloc(i + 1);

		if (elector_state_format(&state, small, i) >= 0)
			taken++;
		free(small);
	}
	is_int(taken, 0, "what does not fit is not written");
	is_int(elector_state_format(&state, torn, length + 1), length, "what just fits is");
}

static void
check_foreign(void)
{
	char		text[ELECTOR_FILE_SIZE];
	ElectorState state;
	ElectorTodo todo;
	ElectorLeadership leadership;

	make_state(&state);
	elector_state_format(&state, text, sizeof(text));
	ok(!elector_todo_parse(text, &todo), "a file of another kind");
	memcpy(strstr(text, " 1\n"), " 2\n", 3);
	ok(!elector_state_parse(text, &state), "a file of another version");
	ok(!elector_state_parse("", &state), "an empty file");
	ok(!elector_leadership_parse("port = 5432\n", &leadership), "somebody else's file");

	make_state(&state);
	strcpy(state.boot_id, "a\nterm = 9");
	is_int(elector_state_format(&state, text, sizeof(text)), -1, "a value of two lines is not written");
	make_todo(&todo, ELECTOR_TODO_REWIND);
	strcpy(todo.source, "host=a\nend\n");
	is_int(elector_todo_format(&todo, text, sizeof(text)), -1,
		   "a connection string of two lines is not, either");
}

/* A state file with one value replaced. */
static void
is_taken(const char *field, const char *value, bool expected, const char *what)
{
	char		text[ELECTOR_FILE_SIZE];
	char		changed[2 * ELECTOR_FILE_SIZE];
	char		start[ELECTOR_NAME_SIZE];
	ElectorState state;
	char	   *place;

	make_state(&state);
	elector_state_format(&state, text, sizeof(text));
	snprintf(start, sizeof(start), "\n%s = ", field);
	place = strstr(text, start) + strlen(start);
	snprintf(changed, sizeof(changed), "%.*s%s%s", (int) (place - text), text, value,
			 strchr(place, '\n'));
	is_int(elector_state_parse(changed, &state), expected, "%s", what);
}

static void
check_values(void)
{
	is_taken("term", "0", true, "zero");
	is_taken("term", "18446744073709551615", true, "the largest number");
	is_taken("term", "18446744073709551616", false, "a number that is too large");
	is_taken("term", "", false, "no number");
	is_taken("term", "-1", false, "a negative term");
	is_taken("term", "0x7", false, "a number in another notation");
	is_taken("term", "7 ", false, "a number with something after it");
	is_taken("token", "-7", true, "a negative token");
	is_taken("token", "-", false, "a sign and no number");
	is_taken("token", "9223372036854775808", false, "a token that is too large");
	is_taken("timeline", "4294967295", true, "the last timeline");
	is_taken("timeline", "4294967296", false, "a timeline that is too large");
	is_taken("caught_up", "false", true, "false");
	is_taken("caught_up", "yes", false, "neither true nor false");
	is_taken("instance", "0123456789abcdef0123456789abcde", true, "a shorter text");
	is_taken("instance", "0123456789abcdef0123456789abcdef0", false, "a text that is too long");
	is_taken("boot_id", "", true, "an empty text");
}

static void
check_names(void)
{
	static const char *const good[] = {"n1", "a", "_", "7", "Node.2-b_c", "a..b"};
	static const char *const bad[] = {
		"", ".", "..", ".a", "-a", "a b", "a/b", "a\n", "a'b", "a=b", "n\xc3\xa4", "a,b", "a*"
	};
	char		name[ELECTOR_NAME_SIZE + 1];

	for (int i = 0; i < (int) (sizeof(good) / sizeof(good[0])); i++)
		ok(elector_name_valid(good[i]), "a name: \"%s\"", good[i]);
	for (int i = 0; i < (int) (sizeof(bad) / sizeof(bad[0])); i++)
		ok(!elector_name_valid(bad[i]), "no name: %d", i);
	memset(name, 'a', sizeof(name));
	name[ELECTOR_NAME_SIZE - 1] = '\0';
	ok(elector_name_valid(name), "the longest name");
	name[ELECTOR_NAME_SIZE - 1] = 'a';
	name[ELECTOR_NAME_SIZE] = '\0';
	ok(!elector_name_valid(name), "one that is longer");
}

int
main(void)
{
	check_round_trips();
	check_torn();
	check_foreign();
	check_values();
	check_names();
	return done_testing();
}
