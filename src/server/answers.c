/*
 * answers.c
 *	  What the HTTP endpoint says.
 *
 * Whether this node leads or may be read from is asked of the gate and the clock, at
 * this moment, and needs no elector.  All else is what the elector has published
 * (facts.c), with the node's own positions read anew; if it stands still, its last
 * word is told, and that it is old.
 *
 * Names are those of elector_status, elector_lease, elector_durability and
 * elector_history.  Nothing is told that those views would not tell everybody:
 * no connection strings.
 *
 * The trap: other nodes write some of these texts.  They are escaped where they are
 * written, in JSON here and in the page there, and never trusted to be UTF-8.
 */
#include "http.h"

#include <time.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "replication/walreceiver.h"
#include "utils/json.h"
#include "utils/pg_lsn.h"

#include "facts.h"
#include "http_page.inc"

#define TYPE_JSON "application/json; charset=utf-8"
#define TYPE_METRICS "text/plain; version=0.0.4; charset=utf-8"
#define TYPE_PAGE "text/html; charset=utf-8"
#define TYPE_TEXT "text/plain; charset=utf-8"

/* This node, at this moment. */
typedef struct Present
{
	ElectorTime now;
	ElectorRole role;
	bool		serves;			/* takes connections at all */
	bool		reads;			/* and a follower answers reads */
	bool		at_work;		/* the elector is */
	int64		silent_ms;		/* since its last word */
	int64		lag;			/* of what can be read here; -1: not known */
	uint64		term;
	const ElectorFacts *facts;
	ElectorReport own;
	ElectorStatusRow *rows;
	XLogRecPtr	leader_lsn;
} Present;

/* --- looking --- */

/* How far behind the leader is what is read here? */
static int64
look_at_lag(const Present *present)
{
	const ElectorFacts *facts = present->facts;
	XLogRecPtr	end;
	ElectorTime told_at;
	XLogRecPtr	replayed;

	if (present->role == ELECTOR_ROLE_LEADER)
		return 0;
	if (present->role != ELECTOR_ROLE_FOLLOWER)
		return -1;
	elector_look_at_stream(&end, &told_at);
	if (!WalRcvStreaming())
		told_at = 0;
	end = Max(end, facts->leader_end);
	told_at = Max(told_at, facts->leader_told_at);
	if (told_at == 0 || present->now > told_at + (ElectorTime) elector_lease_ttl * 1000000)
		return -1;
	replayed = GetXLogReplayRecPtr(NULL);
	return end > replayed ? (int64) (end - replayed) : 0;
}

static int
by_node(const void *a, const void *b)
{
	return strcmp(((const ElectorStatusRow *) a)->member.node,
				  ((const ElectorStatusRow *) b)->member.node);
}

static Present *
look(void)
{
	static ElectorFacts facts;
	Present    *present = palloc0(sizeof(Present));
	ElectorTime published;

	(void) elector_facts_read(&facts);	/* or those of before */
	present->facts = &facts;
	present->now = elector_now();
	present->role = elector_role();
	present->serves = present->role != ELECTOR_ROLE_FOLLOWER || HotStandbyActive();
	present->reads = present->role == ELECTOR_ROLE_FOLLOWER && present->serves &&
		elector_gate_reads_open();
	published = (ElectorTime) pg_atomic_read_u64(&elector_shared->published_at);
	present->silent_ms = published != 0 ? Max(present->now - published, 0) / 1000 : -1;
	present->at_work = published != 0 && present->silent_ms < (int64) elector_lease_ttl * 1000;
	present->lag = look_at_lag(present);

	present->own = facts.self;
	elector_report_refresh(&present->own, facts.lease.deadline);
	present->term = present->role == ELECTOR_ROLE_LEADER ?
		pg_atomic_read_u64(&elector_shared->opened_term) : facts.self.term;
	if (!present->at_work)
	{
		strlcpy(present->own.state, "elector silent", sizeof(present->own.state));
		strlcpy(present->own.detail, "the elector of this node does not work; see its log",
				sizeof(present->own.detail));
	}
	present->rows = palloc(sizeof(ElectorStatusRow) * Max(facts.nrows, 1));
	memcpy(present->rows, facts.rows, sizeof(ElectorStatusRow) * facts.nrows);
	qsort(present->rows, facts.nrows, sizeof(ElectorStatusRow), by_node);
	present->leader_lsn = elector_rows_complete(present->rows, facts.nrows, &present->own);
	return present;
}

/* --- JSON --- */

static void
begin_field(StringInfo json, const char *name)
{
	char		last = json->len > 0 ? json->data[json->len - 1] : '{';

	if (last != '{' && last != '[')
		appendStringInfoChar(json, ',');
	if (name != NULL)
		appendStringInfo(json, "\"%s\":", name);
}

/* A text that somebody else may have cut in the middle of a character. */
static char *
legal_text(const char *text)
{
	char	   *copy = pstrdup(text);
	unsigned char *at = (unsigned char *) copy;

	while (*at != '\0')
	{
		int			length = pg_utf_mblen(at);

		if ((int) strlen((char *) at) < length || !pg_utf8_islegal(at, length))
		{
			*at = '?';
			length = 1;
		}
		at += length;
	}
	return copy;
}

static void
add_text(StringInfo json, const char *name, const char *text)
{
	begin_field(json, name);
	escape_json(json, legal_text(text));
}

static void
add_text_or_null(StringInfo json, const char *name, const char *text)
{
	if (text[0] != '\0')
		add_text(json, name, text);
	else
	{
		begin_field(json, name);
		appendStringInfoString(json, "null");
	}
}

static void
add_number(StringInfo json, const char *name, int64 number)
{
	begin_field(json, name);
	appendStringInfo(json, INT64_FORMAT, number);
}

/* If it is known, or else null. */
static void
add_number_if(StringInfo json, const char *name, bool known, int64 number)
{
	if (known)
		add_number(json, name, number);
	else
	{
		begin_field(json, name);
		appendStringInfoString(json, "null");
	}
}

static void
add_boolean(StringInfo json, const char *name, bool value)
{
	begin_field(json, name);
	appendStringInfoString(json, value ? "true" : "false");
}

static void
add_lsn(StringInfo json, const char *name, XLogRecPtr lsn)
{
	char		text[32];

	snprintf(text, sizeof(text), "%X/%X", LSN_FORMAT_ARGS(lsn));
	add_text_or_null(json, name, lsn != InvalidXLogRecPtr ? text : "");
}

/* Milliseconds since 1970; 0: not known. */
static void
add_time(StringInfo json, const char *name, int64 milliseconds)
{
	char		text[64] = "";
	time_t		seconds = (time_t) (milliseconds / 1000);
	struct tm	utc;

	if (milliseconds > 0 && gmtime_r(&seconds, &utc) != NULL)
	{
		size_t		length = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);

		snprintf(text + length, sizeof(text) - length, ".%03dZ", (int) (milliseconds % 1000));
	}
	add_text_or_null(json, name, text);
}

static int64
wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What every answer in JSON begins with. */
static void
add_self(StringInfo json, const Present *present)
{
	add_text(json, "cluster", elector_cluster);
	add_text(json, "node", elector_node);
	add_text(json, "role", elector_role_name(present->role));
	add_text(json, "state", present->own.state);
	add_number_if(json, "term", present->term != 0, (int64) present->term);
	add_text_or_null(json, "leader", present->role == ELECTOR_ROLE_LEADER ? elector_node :
					 strcmp(present->facts->leader, elector_node) != 0 ? present->facts->leader : "");
	add_number_if(json, "lag_bytes", present->lag >= 0, present->lag);
	add_number(json, "lease_ms_left", present->own.lease_ms_left);
	add_text_or_null(json, "detail", present->own.detail);
}

static void
add_member(StringInfo json, const ElectorStatusRow *row, XLogRecPtr leader_lsn)
{
	const ElectorReport *report = &row->report;
	int64		lag = elector_row_lag(row, leader_lsn);

	begin_field(json, NULL);
	appendStringInfoChar(json, '{');
	add_text(json, "node", row->member.node);
	add_text(json, "role", row->leader ? "leader" : "follower");
	add_text(json, "state", elector_row_state(row));
	add_number_if(json, "term", row->leader || row->reported,
				  (int64) (row->leader ? row->leader_term : report->term));
	add_number_if(json, "timeline", row->reported, report->timeline);
	add_lsn(json, "lsn", row->reported ? report->lsn : InvalidXLogRecPtr);
	add_number_if(json, "lag_bytes", lag >= 0, lag);
	add_number_if(json, "lease_ms_left", row->reported, report->lease_ms_left);
	add_number(json, "priority", row->member.priority);
	add_text_or_null(json, "zone", row->member.zone);
	add_text_or_null(json, "detail", report->detail);
	appendStringInfoChar(json, '}');
}

static void
add_lease(StringInfo json, const Present *present)
{
	const ElectorLeaseStatus *lease = &present->facts->lease;

	begin_field(json, "lease");
	if (lease->id == 0)
	{
		appendStringInfoString(json, "null");
		return;
	}
	appendStringInfoChar(json, '{');
	add_number(json, "ttl_ms", lease->ttl_ms);
	add_number(json, "left_ms", Max(lease->deadline - present->now, 0) / 1000);
	add_number(json, "renewals", lease->renewals);
	add_number(json, "failures", lease->failures);
	begin_field(json, "round_trip_ms");
	appendStringInfo(json, "%.3f", lease->rtt_us / 1000.0);
	appendStringInfoChar(json, '}');
}

static void
add_durability(StringInfo json, const ElectorFacts *facts)
{
	const ElectorDurability *record = &facts->durability;

	begin_field(json, "durability");
	appendStringInfoChar(json, '{');
	add_text(json, "rule", record->present ? record->rule.policy : "async");
	add_text_or_null(json, "next", record->changing ? record->next.policy : "");
	add_boolean(json, "degraded", record->degraded);
	add_boolean(json, "safe", facts->safe);
	add_text_or_null(json, "missing", facts->missing);
	appendStringInfoChar(json, '}');
}

/* The phases of a change, as elector_history calls them. */
static const struct
{
	const char *name;
	size_t		offset;
}			phases[] =
{
	{"notice", offsetof(ElectorHistory, notice_ms)},
	{"lock", offsetof(ElectorHistory, lock_ms)},
	{"revoke", offsetof(ElectorHistory, revoke_ms)},
	{"choose", offsetof(ElectorHistory, choose_ms)},
	{"establish", offsetof(ElectorHistory, establish_ms)},
	{"promote", offsetof(ElectorHistory, promote_ms)},
	{"open", offsetof(ElectorHistory, open_ms)}
};

/* In milliseconds; -1: not known. */
static int32
phase_of(const ElectorHistory *entry, int phase)
{
	return *(const int32_t *) ((const char *) entry + phases[phase].offset);
}

static void
add_leadership(StringInfo json, const ElectorHistory *entry)
{
	int32		pause = elector_history_pause(entry);

	begin_field(json, NULL);
	appendStringInfoChar(json, '{');
	add_number(json, "term", (int64) entry->term);
	add_text(json, "leader", entry->node);
	add_text(json, "elector", entry->elector);
	add_number(json, "timeline", entry->timeline);
	add_lsn(json, "lsn", entry->lsn);
	add_text(json, "reason", entry->reason);
	add_text(json, "revoked", entry->revoked);
	add_text_or_null(json, "note", entry->note);
	add_time(json, "began_at", entry->began_at);
	add_time(json, "opened_at", entry->opened_at);
	add_text_or_null(json, "blocked", entry->blocked);
	add_time(json, "blocked_at", entry->blocked_at);
	add_time(json, "blocked_until", entry->blocked_until);
	add_number_if(json, "pause_ms", pause >= 0, pause);
	for (int phase = 0; phase < lengthof(phases); phase++)
	{
		char		name[32];

		snprintf(name, sizeof(name), "%s_ms", phases[phase].name);
		add_number_if(json, name, phase_of(entry, phase) >= 0, phase_of(entry, phase));
	}
	appendStringInfoChar(json, '}');
}

static void
say_status(StringInfo json, const Present *present)
{
	const ElectorFacts *facts = present->facts;

	appendStringInfoChar(json, '{');
	add_self(json, present);
	add_time(json, "now", wall_ms());
	add_number_if(json, "silent_ms", present->silent_ms >= 0, present->silent_ms);
	add_boolean(json, "at_work", present->at_work);
	add_boolean(json, "paused", facts->paused);
	begin_field(json, "members");
	appendStringInfoChar(json, '[');
	for (int i = 0; i < facts->nrows; i++)
		add_member(json, &present->rows[i], present->leader_lsn);
	appendStringInfoChar(json, ']');
	add_lease(json, present);
	add_durability(json, facts);
	begin_field(json, "history");
	appendStringInfoChar(json, '[');
	for (int i = 0; i < facts->nhistory; i++)
		add_leadership(json, &facts->history[i]);
	appendStringInfoString(json, "]}\n");
}

/* --- metrics --- */

static void
describe_metric(StringInfo text, const char *name, const char *type, const char *help)
{
	appendStringInfo(text, "# HELP pg_elector_%s %s\n# TYPE pg_elector_%s %s\n",
					 name, help, name, type);
}

/* label is one more, or NULL; names need no escaping (elector_name_valid). */
static void
add_sample(StringInfo text, const char *name, const char *label, const char *label_value,
		   double value)
{
	appendStringInfo(text, "pg_elector_%s{cluster=\"%s\",node=\"%s\"", name,
					 elector_cluster, elector_node);
	if (label != NULL)
		appendStringInfo(text, ",%s=\"%s\"", label, label_value);

	/* whole numbers without an exponent, positions in WAL among them */
	if (value == (double) (int64) value)
		appendStringInfo(text, "} " INT64_FORMAT "\n", (int64) value);
	else
		appendStringInfo(text, "} %.6f\n", value);
}

static void
add_metric(StringInfo text, const char *name, const char *type, const char *help, double value)
{
	describe_metric(text, name, type, help);
	add_sample(text, name, NULL, NULL, value);
}

static void
add_role_metrics(StringInfo text, const Present *present)
{
	const ElectorRole roles[] = {ELECTOR_ROLE_LEADER, ELECTOR_ROLE_FOLLOWER, ELECTOR_ROLE_NONE};

	describe_metric(text, "role", "gauge", "1 for the role that this node has now: it takes writes, is a standby, or is a primary that takes none.");
	for (int i = 0; i < lengthof(roles); i++)
		add_sample(text, "role", "role", elector_role_name(roles[i]), present->role == roles[i]);
	add_metric(text, "reads", "gauge", "Whether this node answers reads as a follower.", present->reads);
	add_metric(text, "elector_at_work", "gauge", "Whether the elector of this node has given a sign within lease_ttl.", present->at_work);
	add_metric(text, "term", "gauge", "Newest term that this node knows.", Max(present->term, present->facts->term));
	add_metric(text, "timeline", "gauge", "Timeline that this node is on.", present->own.timeline);
	add_metric(text, "wal_received_bytes", "gauge", "Position in WAL that this node has written or received.", present->own.lsn);
	add_metric(text, "wal_replayed_bytes", "gauge", "Position in WAL up to which this node has replayed.", present->own.replayed);
	if (present->lag >= 0)
		add_metric(text, "lag_bytes", "gauge", "How far what is read on this node is behind the leader; absent where that is not known.", present->lag);
	add_metric(text, "paused", "gauge", "Whether the cluster is paused.", present->facts->paused);
}

static void
add_lease_metrics(StringInfo text, const Present *present)
{
	const ElectorFacts *facts = present->facts;
	const ElectorRenewals *renewals = &facts->renewals;

	add_metric(text, "lease_left_seconds", "gauge", "Time left of the lease, the margin taken off.", present->own.lease_ms_left / 1000.0);
	add_metric(text, "lease_ttl_seconds", "gauge", "How long etcd keeps the lease unrenewed.", facts->lease.ttl_ms / 1000.0);
	describe_metric(text, "renewal_seconds", "summary", "Renewals of leases that etcd confirmed, and how long they took.");
	add_sample(text, "renewal_seconds_sum", NULL, NULL, renewals->rtt_us / 1000000.0);
	add_sample(text, "renewal_seconds_count", NULL, NULL, renewals->renewals);
	add_metric(text, "renewal_last_seconds", "gauge", "How long the last renewal took.", facts->lease.rtt_us / 1000000.0);
	add_metric(text, "renewal_failures_total", "counter", "Renewals of leases that etcd did not answer in time.", renewals->failures);
}

static void
add_member_metrics(StringInfo text, const Present *present)
{
	const ElectorFacts *facts = present->facts;

	add_metric(text, "members", "gauge", "Members of the cluster.", facts->nrows);
	describe_metric(text, "member_answers", "gauge", "Whether a member answers this node.");
	for (int i = 0; i < facts->nrows; i++)
		add_sample(text, "member_answers", "member", present->rows[i].member.node, present->rows[i].reported);
	describe_metric(text, "member_leads", "gauge", "Whether a member holds the leader key.");
	for (int i = 0; i < facts->nrows; i++)
		add_sample(text, "member_leads", "member", present->rows[i].member.node, present->rows[i].leader);
	describe_metric(text, "member_lag_bytes", "gauge", "How far what a member has received is behind the leader.");
	for (int i = 0; i < facts->nrows; i++)
	{
		int64		lag = elector_row_lag(&present->rows[i], present->leader_lsn);

		if (lag >= 0)
			add_sample(text, "member_lag_bytes", "member", present->rows[i].member.node, lag);
	}
	add_metric(text, "durability_degraded", "gauge", "Whether commits are acknowledged with less than the durability policy wants.", facts->durability.degraded);
	add_metric(text, "failover_safe", "gauge", "Whether the loss of the leader, now, would lose no acknowledged commit.", facts->safe);
}

/*
 * Changes are counted from the history, which keeps the last hundred: as many as are
 * there when this process sees it first, and all that come.
 */
static void
add_change_metrics(StringInfo text, const Present *present)
{
	static uint64 counted_term = 0;
	static int64 changes = 0;
	static int64 pauses = 0;
	static double pause_seconds = 0;
	const ElectorFacts *facts = present->facts;
	const ElectorHistory *newest = NULL;

	for (int i = 0; i < facts->nhistory; i++)
	{
		const ElectorHistory *entry = &facts->history[i];
		int32		pause = elector_history_pause(entry);

		if (entry->opened_at == 0)
			continue;
		newest = entry;
		if (entry->term <= counted_term)
			continue;
		counted_term = entry->term;
		changes++;
		if (pause >= 0)
		{
			pauses++;
			pause_seconds += pause / 1000.0;
		}
	}
	if (newest == NULL)
		return;
	add_metric(text, "changes_total", "counter", "Leaderships that took writes, those of before this node started included, a hundred at most.", changes);
	describe_metric(text, "change_pause_seconds", "summary", "For how long nobody took writes at a change, where that is known.");
	add_sample(text, "change_pause_seconds_sum", NULL, NULL, pause_seconds);
	add_sample(text, "change_pause_seconds_count", NULL, NULL, pauses);
	add_metric(text, "last_change_timestamp_seconds", "gauge", "When the newest leadership took writes, since 1970.", newest->opened_at / 1000.0);
	describe_metric(text, "last_change_phase_seconds", "gauge", "How long the phases of the last change took; see elector_history.");
	for (int phase = 0; phase < lengthof(phases); phase++)
	{
		if (phase_of(newest, phase) >= 0)
			add_sample(text, "last_change_phase_seconds", "phase", phases[phase].name, phase_of(newest, phase) / 1000.0);
	}
}

static void
add_refused_metrics(StringInfo text)
{
	static const char *const names[] = {
		[ELECTOR_REFUSED_COMMIT] = "commit",
		[ELECTOR_REFUSED_STATEMENT] = "statement",
		[ELECTOR_REFUSED_CONNECTION] = "connection",
		[ELECTOR_REFUSED_ANSWER] = "answer"
	};

	describe_metric(text, "refused_total", "counter", "What this node has refused because its gate was closed or a commit was not durable yet; answer: of a commit that nobody can vouch for.");
	for (int kind = 0; kind < ELECTOR_REFUSED_KINDS; kind++)
		add_sample(text, "refused_total", "what", names[kind], pg_atomic_read_u64(&elector_shared->refused[kind]));
}

static void
say_metrics(StringInfo text, const Present *present)
{
	add_role_metrics(text, present);
	add_lease_metrics(text, present);
	add_member_metrics(text, present);
	add_change_metrics(text, present);
	add_refused_metrics(text);
}

/* --- paths --- */

typedef enum Question
{
	ASKS_LEADER,
	ASKS_FOLLOWER,
	ASKS_READS,					/* leader or follower */
	ASKS_HEALTH,
	ASKS_STATUS,
	ASKS_METRICS,
	ASKS_PAGE
} Question;

static const struct
{
	const char *path;
	Question	question;
}			paths[] =
{
	{"/leader", ASKS_LEADER},
	{"/primary", ASKS_LEADER},
	{"/read-write", ASKS_LEADER},
	{"/follower", ASKS_FOLLOWER},
	{"/replica", ASKS_FOLLOWER},
	{"/read-only", ASKS_READS},
	{"/health", ASKS_HEALTH},
	{"/status", ASKS_STATUS},
	{"/metrics", ASKS_METRICS},
	{"/", ASKS_PAGE}
};

/* "1048576", "1MB", "16 kB"; -1: none of these. */
static int64
parse_lag(const char *text)
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
	char	   *end;
	int64		lag;

	if (text[0] < '0' || text[0] > '9')
		return -1;
	errno = 0;
	lag = strtoi64(text, &end, 10);
	if (errno != 0)
		return -1;
	end += strspn(end, " ");
	if (*end == '\0')
		return lag;
	for (int i = 0; i < lengthof(units); i++)
	{
		if (pg_strcasecmp(end, units[i]) == 0)
			return lag <= PG_INT64_MAX >> (10 * i) ? lag << (10 * i) : -1;
	}
	return -1;
}

/* maximum_lag is -1 where the question does not name one. */
static bool
is_so(const Present *present, Question question, int64 maximum_lag)
{
	bool		near = maximum_lag < 0 || (present->lag >= 0 && present->lag <= maximum_lag);

	switch (question)
	{
		case ASKS_LEADER:
			return present->role == ELECTOR_ROLE_LEADER;
		case ASKS_FOLLOWER:
			return present->reads && near;
		case ASKS_READS:
			return (present->role == ELECTOR_ROLE_LEADER || present->reads) && near;
		case ASKS_HEALTH:
			return present->serves && present->at_work;
		case ASKS_STATUS:
		case ASKS_METRICS:
		case ASKS_PAGE:
			return true;
	}
	pg_unreachable();
}

static void
say_nothing(ElectorHttpAnswer *answer, int status, const char *text)
{
	answer->status = status;
	answer->type = TYPE_TEXT;
	answer->body = text;
	answer->length = strlen(text);
}

static void
say(ElectorHttpAnswer *answer, Question question, int64 maximum_lag)
{
	StringInfoData body;
	Present    *present;

	if (question == ASKS_PAGE)
	{
		answer->status = 200;
		answer->type = TYPE_PAGE;
		answer->policy = PAGE_POLICY;
		answer->body = page_text;
		answer->length = sizeof(page_text) - 1;
		return;
	}
	initStringInfo(&body);
	present = look();
	answer->type = TYPE_JSON;
	if (question == ASKS_METRICS)
	{
		answer->type = TYPE_METRICS;
		say_metrics(&body, present);
	}
	else if (question == ASKS_STATUS)
		say_status(&body, present);
	else
	{
		appendStringInfoChar(&body, '{');
		add_self(&body, present);
		appendStringInfoString(&body, "}\n");
	}
	answer->status = is_so(present, question, maximum_lag) ? 200 : 503;
	answer->body = body.data;
	answer->length = body.len;
}

void
elector_http_answer(const char *path, const char *lag, ElectorHttpAnswer *answer)
{
	int64		maximum_lag = -1;

	for (int i = 0; i < lengthof(paths); i++)
	{
		if (strcmp(path, paths[i].path) != 0)
			continue;
		if (lag != NULL && (maximum_lag = parse_lag(lag)) < 0)
			say_nothing(answer, 400, "lag is a number of bytes, or of kB, MB, GB or TB\n");
		else
			say(answer, paths[i].question, maximum_lag);
		return;
	}
	say_nothing(answer, 404, "not found\n");
}
