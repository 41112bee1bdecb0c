/*
 * test_json.c
 *	  The records as JSON: there and back, and everything that is refused.
 */
#include <stdlib.h>

#include "../../src/etcd/json.h"
#include "tap.h"

typedef char *(*ToJson) (const void *record);
typedef bool (*FromJson) (const char *json, void *record);

typedef struct Kind
{
	const char *name;
	size_t		size;
	size_t		present;		/* offset of it */
	const void *example;
	ToJson		to_json;
	FromJson	from_json;
} Kind;

/* A record with every field set, extremes included. */
static ElectorMember member = {
	.present = true,
	.conninfo = "host=10.0.0.1 port=5432 password='a\\u0000\"b\\\\' dbname=p",
	.zone = "z\xc3\xbcrich",
	.priority = INT32_MIN,
	.candidate = true,
	.directory = "0123456789abcdef0123456789abcdef",
	.version = "1.0.0"
};
static ElectorAlive alive = {
	.present = true,
	.instance = "0123456789abcdef0123456789abcdef",
	.misses = UINT64_MAX
};
static ElectorLeader leader = {
	.present = true,
	.node = "n1",
	.instance = "0123456789abcdef0123456789abcdef",
	.term = UINT64_MAX,
	.conninfo = "host=10.0.0.1"
};
static ElectorElection election = {
	.present = true,
	.node = "n2",
	.instance = "ff",
	.purpose = "election",
	.term = 9007199254740993
};
static ElectorTerm term = {
	.present = true,
	.term = 7,
	.node = "n3",
	.instance = "ff",
	.lease = INT64_MAX,
	.etcd = UINT64_MAX,
	.timeline = UINT32_MAX,
	.begun = true,
	.lsn = UINT64_MAX,
	.opened = true,
	.opened_term = 7,
	.opened_node = "n3",
	.opened_at = 1700000000123,
	.opened_timeline = 8,
	.opened_from = {.timeline = 7,.lsn = 0x16B374D800},
	.automatic = true,
	.released = true,
	.released_at = {.timeline = 8,.lsn = 0x16B374D848},
	.heir = "n1"
};
static ElectorHistory history = {
	.present = true,
	.term = 7,
	.node = "n3",
	.elector = "n1",
	.timeline = 8,
	.lsn = 0x3000060,
	.reason = "leader gone",
	.revoked = "fenced",
	.note = "tab\tand \x01",
	.began_at = 1700000000000,
	.opened_at = 1700000000123,
	.lock_ms = -1,
	.revoke_ms = 0,
	.establish_ms = 12,
	.promote_ms = INT32_MAX,
	.open_ms = 3
};
static ElectorRequest request = {
	.present = true,
	.target = "",
	.node = "n1",
	.term = 7,
	.full = true
};

static ElectorFailsafe failsafe = {
	.present = true,
	.nmembers = 2,
	.members = {{.node = "n1",.directory = "0123456789abcdef0123456789abcdef"},
	{.node = "n2",.directory = "f"}}
};

#define KIND(name, Type) \
	{#name, sizeof(Type), offsetof(Type, present), &name, \
	(ToJson) elector_##name##_to_json, (FromJson) elector_##name##_from_json}

static const Kind kinds[] = {
	KIND(member, ElectorMember),
	KIND(alive, ElectorAlive),
	KIND(leader, ElectorLeader),
	KIND(election, ElectorElection),
	KIND(term, ElectorTerm),
	KIND(history, ElectorHistory),
	KIND(request, ElectorRequest),
	KIND(failsafe, ElectorFailsafe)
};

#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

static bool
is_zeroed(const void *record, size_t size)
{
	for (size_t i = 0; i < size; i++)
	{
		if (((const char *) record)[i] != 0)
			return false;
	}
	return true;
}

/* Refused, and nothing left of it. */
static bool
refused(const Kind *kind, const char *json)
{
	char	   *record = malloc(kind->size);
	bool		good;

	memset(record, 0x55, kind->size);
	good = !kind->from_json(json, record) && is_zeroed(record, kind->size);
	free(record);
	return good;
}

static void
check_round_trip(const Kind *kind)
{
	void	   *record = malloc(kind->size);
	char	   *json = kind->to_json(kind->example);
	char	   *again;

	memset(record, 0x55, kind->size);
	ok(kind->from_json(json, record), "%s is read back", kind->name);
	ok(*((bool *) record + kind->present), "%s is present", kind->name);
	again = kind->to_json(record);
	is_str(again, json, "%s is the same again", kind->name);
	free(again);
	free(json);
	free(record);
}

static void
check_truncated(const Kind *kind)
{
	char	   *json = kind->to_json(kind->example);
	int			accepted = 0;

	for (size_t length = strlen(json); length > 0; length--)
	{
		json[length - 1] = '\0';
		if (!refused(kind, json))
			accepted++;
	}
	is_int(accepted, 0, "%s cut off anywhere is refused", kind->name);
	free(json);
}

/* Every byte replaced by some others, and pairs of bytes by chance. */
static void
check_flipped(const Kind *kind)
{
	static const char interesting[] = "\"\\{}[],:0-9eEnf/\x01\x80\xff ";
	char	   *json = kind->to_json(kind->example);
	void	   *record = malloc(kind->size);
	size_t		length = strlen(json);
	uint64_t	seed = 42;
	int			inconsistent = 0;

	for (size_t i = 0; i < length; i++)
	{
		char		kept = json[i];

		for (size_t j = 0; j < sizeof(interesting) - 1 + 8; j++)
		{
			json[i] = j < 8 ? (char) (kept ^ (1 << j)) : interesting[j - 8];
			if (kind->from_json(json, record) != *((bool *) record + kind->present))
				inconsistent++;
		}
		json[i] = kept;
	}
	for (int i = 0; i < 20000; i++)
	{
		size_t		place[2];
		char		kept[2];

		for (int j = 0; j < 2; j++)
		{
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			place[j] = (seed >> 33) % length;
			kept[j] = json[place[j]];
			json[place[j]] = (char) (seed >> 24);
		}
		if (kind->from_json(json, record) != *((bool *) record + kind->present))
			inconsistent++;
		json[place[1]] = kept[1];
		json[place[0]] = kept[0];
	}
	is_int(inconsistent, 0, "%s with flipped bytes is read or refused", kind->name);
	free(record);
	free(json);
}

static void
check_foreign(const Kind *kind)
{
	static const char *const documents[] = {
		"", " ", "null", "true", "0", "\"\"", "[]", "{}", "[{}]", "x", "{\"a\":1}",
		"{\"node\":null}", "{\"node\":{}}", "\xff\xfe", "{\"health\":\"true\"}"
	};
	char	   *json = kind->to_json(kind->example);
	char	   *longer = malloc(strlen(json) + 32);
	char	   *deep = malloc(100001);
	void	   *record = malloc(kind->size);

	for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++)
		ok(refused(kind, documents[i]), "%s is not '%s'", kind->name, documents[i]);

	memset(deep, '[', 100000);
	deep[100000] = '\0';
	ok(refused(kind, deep), "%s is not 100000 brackets", kind->name);
	sprintf(longer, "%s{}", json);
	ok(refused(kind, longer), "%s with something after it is refused", kind->name);
	sprintf(longer, "%s \n", json);
	ok(kind->from_json(longer, record), "%s with space after it is read", kind->name);
	sprintf(longer, "{\"unknown\":[1,{}],%s", json + 1);
	ok(kind->from_json(longer, record), "%s with an unknown field is read", kind->name);
	free(record);
	free(deep);
	free(longer);
	free(json);
}

#define LEADER(term, more) \
	"{\"node\":\"n\",\"instance\":\"i\",\"conninfo\":\"c\",\"term\":" term more "}"
#define MEMBER(priority, candidate) \
	"{\"conninfo\":\"c\",\"priority\":" priority ",\"candidate\":" candidate "}"
#define TERM(more) \
	"{\"term\":\"3\",\"node\":\"n\",\"instance\":\"i\",\"lease\":\"5\",\"timeline\":2," \
	"\"opened\":false,\"automatic\":false,\"released\":false" more "}"

static void
check_numbers(void)
{
	static const char *const bad_terms[] = {
		"\"\"", "\"0\"", "0", "\"-1\"", "-1", "\"+1\"", "\" 1\"", "\"1 \"", "\"0x1\"",
		"1.5", "1e300", "1e999", "9007199254740994", "\"18446744073709551616\"",
		"\"99999999999999999999999999999999\"", "\"1e3\"", "null", "true", "[]", "{}",
		"[\"1\"]", "\"1\\u0000\""
	};
	ElectorLeader result;
	char		json[256];

	for (size_t i = 0; i < sizeof(bad_terms) / sizeof(bad_terms[0]); i++)
	{
		snprintf(json, sizeof(json), LEADER("%s", ""), bad_terms[i]);
		ok(!elector_leader_from_json(json, &result), "%s is no term", bad_terms[i]);
	}
	ok(elector_leader_from_json(LEADER("\"18446744073709551615\"", ""), &result) &&
	   result.term == UINT64_MAX, "the greatest term");
	ok(elector_leader_from_json(LEADER("12", ""), &result) && result.term == 12,
	   "a term as a number");
	ok(elector_leader_from_json(LEADER("1", ",\"term\":\"9\""), &result) &&
	   result.term == 1, "of two terms the first counts");
}

static void
check_member_values(void)
{
	ElectorMember result;

	ok(elector_member_from_json(MEMBER("-5", "false"), &result) &&
	   result.priority == -5 && !result.candidate, "a member with what is required");
	ok(!elector_member_from_json(MEMBER("2147483648", "true"), &result),
	   "a priority beyond 32 bits");
	ok(!elector_member_from_json(MEMBER("1", "1"), &result), "a number for a boolean");
	ok(!elector_member_from_json(MEMBER("1", "\"true\""), &result),
	   "a string for a boolean");
	ok(!elector_member_from_json(MEMBER("1", "null"), &result), "null for a boolean");
}

static void
check_strings(void)
{
	ElectorAlive result;
	char		json[256];

	for (int length = 0; length < 100; length++)
	{
		bool		fits = length > 0 && length < ELECTOR_INSTANCE_SIZE;
		char		text[101] = "";

		memset(text, 'x', length);
		snprintf(json, sizeof(json), "{\"instance\":\"%s\"}", text);
		if (elector_alive_from_json(json, &result) != fits ||
			(fits && strcmp(result.instance, text) != 0))
		{
			ok(false, "a string of %d bytes", length);
			return;
		}
	}
	ok(true, "a string fits with its NUL or is refused");
	ok(!elector_alive_from_json("{\"instance\":\"a\\u0000b\"}", &result),
	   "a string with a NUL in it");
	ok(elector_alive_from_json("{\"instance\":\"a\\\\u0000b\"}", &result),
	   "a backslash before u0000 is not a NUL");
	is_str(result.instance, "a\\u0000b", "and stays what it is");
}

static void
check_lsn(void)
{
	static const struct
	{
		const char *text;
		bool		valid;
		uint64_t	lsn;
	}			cases[] = {
		{"0/1", true, 1},
		{"16/B374D848", true, 0x16B374D848},
		{"16/b374d848", true, 0x16B374D848},
		{"FFFFFFFF/FFFFFFFF", true, UINT64_MAX},
		{"0/0", false, 0},		/* valid, but a begun term has one */
		{"", false, 0},
		{"1", false, 0},
		{"/", false, 0},
		{"1/", false, 0},
		{"/1", false, 0},
		{"1/1/1", false, 0},
		{"1/ 1", false, 0},
		{" 1/1", false, 0},
		{"0x1/1", false, 0},
		{"-1/1", false, 0},
		{"000000001/1", false, 0},
		{"1/100000000", false, 0},
		{"1/G", false, 0},
	};
	ElectorTerm result;
	char		json[512];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		snprintf(json, sizeof(json),
				 TERM(",\"begun\":true,\"lsn\":\"%s\""), cases[i].text);
		ok(elector_term_from_json(json, &result) == cases[i].valid &&
		   result.lsn == cases[i].lsn, "LSN \"%s\"", cases[i].text);
	}
	ok(!elector_term_from_json(TERM(",\"begun\":true"), &result),
	   "a begun term without LSN");
	ok(!elector_term_from_json(TERM(",\"begun\":true,\"lsn\":1"), &result),
	   "an LSN as a number");
	ok(elector_term_from_json(TERM(",\"begun\":false"), &result) &&
	   result.lsn == 0 && result.timeline == 2, "a term not begun has none");
}

/* n copies of item, comma-separated, in a term. */
static bool
term_with_ancestors(int n, ElectorTerm *result)
{
	char	   *json = malloc(16384);
	char	   *p = json;
	bool		valid;

	p += sprintf(p, "%s,\"begun\":false,\"ancestors\":[", "{\"term\":\"3\",\"node\":\"n\","
				 "\"instance\":\"i\",\"lease\":\"5\",\"timeline\":2,\"opened\":false,"
				 "\"automatic\":false,\"released\":false");
	for (int i = 0; i < n; i++)
		p += sprintf(p, "%s{\"timeline\":%d,\"lsn\":\"0/%X\"}", i ? "," : "", i + 1, i + 16);
	sprintf(p, "]}");
	valid = elector_term_from_json(json, result);
	free(json);
	return valid;
}

static void
check_lists(void)
{
	static const char *const bad[] = {
		",\"ancestors\":{}", ",\"ancestors\":[1]", ",\"ancestors\":[{}]",
		",\"ancestors\":[{\"timeline\":1}]",
		",\"ancestors\":[{\"timeline\":0,\"lsn\":\"0/1\"}]",
		",\"opened_term\":\"2\"", ",\"opened_term\":\"2\",\"opened_node\":\"\"",
		",\"opened_term\":\"2\",\"opened_node\":[\"n1\"]",
		",\"opened_node\":\"0123456789012345678901234567890123456789012345678901234567890123\""
	};
	ElectorTerm result;
	char	   *json;
	char	   *again;

	ok(term_with_ancestors(ELECTOR_ANCESTORS_MAX, &result), "a full list");
	is_int(result.nancestors, ELECTOR_ANCESTORS_MAX, "all ancestors");
	is_int(result.ancestors[63].timeline, 64, "the last ancestor's timeline");
	is_int((long long) result.ancestors[63].lsn, 79, "the last ancestor's LSN");
	json = elector_term_to_json(&result);
	elector_term_from_json(json, &result);
	again = elector_term_to_json(&result);
	is_str(again, json, "a full list is the same again");
	free(again);
	free(json);

	ok(!term_with_ancestors(ELECTOR_ANCESTORS_MAX + 1, &result), "too many ancestors");
	is_int(result.nancestors, 0, "nothing is left of them");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		char		text[512];

		snprintf(text, sizeof(text), TERM(",\"begun\":false%s"), bad[i]);
		ok(!elector_term_from_json(text, &result), "a term with '%s'", bad[i]);
	}
}

static void
check_written_form(void)
{
	char	   *json = elector_leader_to_json(&leader);

	is_str(json, "{\"node\":\"n1\",\"instance\":\"0123456789abcdef0123456789abcdef\","
		   "\"term\":\"18446744073709551615\",\"conninfo\":\"host=10.0.0.1\"}",
		   "a leader as it stands in etcd");
	free(json);
}

int
main(void)
{
	term.nancestors = 2;
	term.ancestors[0].timeline = 1;
	term.ancestors[0].lsn = 0x3000000;
	term.ancestors[1].timeline = 2;
	term.ancestors[1].lsn = UINT64_MAX;

	for (size_t i = 0; i < NKINDS; i++)
	{
		check_round_trip(&kinds[i]);
		check_truncated(&kinds[i]);
		check_flipped(&kinds[i]);
		check_foreign(&kinds[i]);
	}
	check_numbers();
	check_member_values();
	check_strings();
	check_lsn();
	check_lists();
	check_written_form();
	return done_testing();
}
