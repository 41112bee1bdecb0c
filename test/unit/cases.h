/*
 * cases.h
 *	  Views written as text: "field = value", one line each.
 *
 *		base NAME					a view to start from, for the cases after it
 *		case NAME					a view and what is to be decided from it
 *		from NAME					the base that it differs from
 *		gate_open = yes				a field of ElectorView, by its name
 *		leader.term = 6				of a record in it
 *		leader = absent				all of a record
 *		position = 3 0/5000			timeline and LSN
 *		gone_since = -200ms			a time, counted from the view's present
 *		failsafe = n1/d1 n2/d2		the members on record, and their data directories
 *		peer n2: answer=fenced lsn=0/5000
 *		expect lock leader_gone		action and reason; then term=, target=, again=
 *
 * The view's own node is n1, its present is always the same.  A wait must say
 * until when: again=+50ms, or again=event.  A line that cannot be read ends the
 * program, so a misspelled field is no silent success.
 */
#ifndef ELECTOR_CASES_H
#define ELECTOR_CASES_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/decide.h"

#define CASE_NOW ((ElectorTime) 1000 * 1000000)
#define CASE_BASES_MAX 32

typedef struct Case
{
	char		name[128];
	ElectorView view;

	bool		expects;
	ElectorAction action;
	ElectorReason reason;
	bool		has_term;
	uint64_t	term;
	bool		has_target;
	char		target[ELECTOR_NAME_SIZE];
	bool		has_again;
	ElectorTime again;
} Case;

typedef void (*CaseFunction) (const Case *one);

static Case case_bases[CASE_BASES_MAX];
static int	case_nbases = 0;
static const char *case_file = "";
static int	case_line = 0;

static const char *const case_actions[] = {
	[ELECTOR_WAIT] = "wait",
	[ELECTOR_REGISTER] = "register",
	[ELECTOR_CLOSE] = "close",
	[ELECTOR_RESIGN] = "resign",
	[ELECTOR_NOTE_BLOCKED] = "note_blocked",
	[ELECTOR_LAPSE] = "lapse",
	[ELECTOR_ASK_CHANGE] = "ask_change",
	[ELECTOR_RELEASE] = "release",
	[ELECTOR_FREEZE] = "freeze",
	[ELECTOR_FOLLOW] = "follow",
	[ELECTOR_DEMOTE] = "demote",
	[ELECTOR_REJOIN] = "rejoin",
	[ELECTOR_CLONE] = "clone",
	[ELECTOR_EXPIRE] = "expire",
	[ELECTOR_LOCK] = "lock",
	[ELECTOR_UNLOCK] = "unlock",
	[ELECTOR_CHECK_LEASE] = "check_lease",
	[ELECTOR_FENCE] = "fence",
	[ELECTOR_ESTABLISH] = "establish",
	[ELECTOR_DROP_ORDER] = "drop_order",
	[ELECTOR_TAKE] = "take",
	[ELECTOR_PROMOTE] = "promote",
	[ELECTOR_OPEN] = "open",
	[ELECTOR_CHECKPOINT] = "checkpoint",
	[ELECTOR_PAUSE_CLIENTS] = "pause_clients",
	[ELECTOR_DRAIN] = "drain",
	[ELECTOR_SET_NAMES] = "set_names",
	[ELECTOR_BEGIN] = "begin",
	[ELECTOR_CHANGE_RULE] = "change_rule",
	[ELECTOR_SET_FAILSAFE] = "set_failsafe",
	[ELECTOR_RETAKE] = "retake",
	[ELECTOR_HANDOVER] = "handover",
	[ELECTOR_CANCEL] = "cancel"
};

#define CASE_ACTIONS ((int) (sizeof(case_actions) / sizeof(case_actions[0])))

/* ELECTOR_BECAUSE_LEADER_GONE is written leader_gone, or LEADER_GONE here. */
static const char *const case_reasons[] = {
#define ELECTOR_REASON(symbol, name, sentence) #symbol,
#include "core/reasons.h"
#undef ELECTOR_REASON
};

static const char *const case_answers[] = {
	[ELECTOR_ANSWER_NONE] = "none",
	[ELECTOR_ANSWER_FENCED] = "fenced",
	[ELECTOR_ANSWER_REFUSED] = "refused",
	[ELECTOR_ANSWER_FAILED] = "failed"
};

static const char *const case_refusals[] = {
	[ELECTOR_REFUSAL_NONE] = "none",
	[ELECTOR_REFUSAL_SYSTEM] = "system",
	[ELECTOR_REFUSAL_NODE] = "node",
	[ELECTOR_REFUSAL_FULL] = "full"
};

typedef enum CaseKind
{
	CASE_BOOL,
	CASE_INT,
	CASE_INT32,
	CASE_INT64,
	CASE_UINT32,
	CASE_UINT64,
	CASE_TEXT,
	CASE_LENGTH,				/* of time */
	CASE_TIME,					/* from the view's present */
	CASE_LSN,
	CASE_POSITION,
	CASE_ANCESTORS,				/* of an ElectorTerm */
	CASE_ANSWER,
	CASE_REFUSAL,
	CASE_RULE,					/* "any 1: n1 n2 n3" */
	CASE_FAILSAFE,				/* "n1/d1 n2/d2", or absent */
	CASE_RECORD					/* absent or present */
} CaseKind;

typedef struct CaseField
{
	const char *name;
	CaseKind	kind;
	size_t		offset;
	size_t		size;
} CaseField;

#define CASE_FIELD(name, member, kind) \
	{name, kind, offsetof(ElectorView, member), sizeof(((ElectorView *) 0)->member)}
#define CASE_PEER(name, member, kind) \
	{name, kind, offsetof(ElectorPeerView, member), sizeof(((ElectorPeerView *) 0)->member)}

static const CaseField case_fields[] = {
	CASE_FIELD("wall_ms", wall_ms, CASE_INT64),
	CASE_FIELD("lease_ttl", lease_ttl, CASE_LENGTH),
	CASE_FIELD("fence_timeout", fence_timeout, CASE_LENGTH),
	CASE_FIELD("cold_start_wait", cold_start_wait, CASE_LENGTH),
	CASE_FIELD("failover_cooldown", failover_cooldown, CASE_LENGTH),
	CASE_FIELD("maximum_lag", maximum_lag, CASE_INT64),
	CASE_FIELD("candidate", candidate, CASE_BOOL),
	CASE_FIELD("priority", priority, CASE_INT32),
	CASE_FIELD("may_rejoin", may_rejoin, CASE_BOOL),
	CASE_FIELD("may_clone", may_clone, CASE_BOOL),
	CASE_FIELD("last_second_since", last_second_since, CASE_TIME),
	CASE_FIELD("last_second_asked", last_second_asked, CASE_TIME),
	CASE_FIELD("known", known, CASE_BOOL),
	CASE_FIELD("registered", registered, CASE_BOOL),
	CASE_FIELD("refusal", refusal, CASE_REFUSAL),
	CASE_FIELD("leader", leader, CASE_RECORD),
	CASE_FIELD("leader.node", leader.node, CASE_TEXT),
	CASE_FIELD("leader.instance", leader.instance, CASE_TEXT),
	CASE_FIELD("leader.term", leader.term, CASE_UINT64),
	CASE_FIELD("leader.create_revision", leader.create_revision, CASE_INT64),
	CASE_FIELD("election", election, CASE_RECORD),
	CASE_FIELD("election.node", election.node, CASE_TEXT),
	CASE_FIELD("election.create_revision", election.create_revision, CASE_INT64),
	CASE_FIELD("term", term, CASE_RECORD),
	CASE_FIELD("term.term", term.term, CASE_UINT64),
	CASE_FIELD("term.node", term.node, CASE_TEXT),
	CASE_FIELD("term.instance", term.instance, CASE_TEXT),
	CASE_FIELD("term.timeline", term.timeline, CASE_UINT32),
	CASE_FIELD("term.begun", term.begun, CASE_BOOL),
	CASE_FIELD("term.lsn", term.lsn, CASE_LSN),
	CASE_FIELD("term.ancestors", term, CASE_ANCESTORS),
	CASE_FIELD("term.opened", term.opened, CASE_BOOL),
	CASE_FIELD("term.opened_term", term.opened_term, CASE_UINT64),
	CASE_FIELD("term.opened_node", term.opened_node, CASE_TEXT),
	CASE_FIELD("term.opened_at", term.opened_at, CASE_INT64),
	CASE_FIELD("term.opened_from", term.opened_from, CASE_POSITION),
	CASE_FIELD("term.automatic", term.automatic, CASE_BOOL),
	CASE_FIELD("term.released", term.released, CASE_BOOL),
	CASE_FIELD("term.released_at", term.released_at, CASE_POSITION),
	CASE_FIELD("term.heir", term.heir, CASE_TEXT),
	CASE_FIELD("request", request, CASE_RECORD),
	CASE_FIELD("request.target", request.target, CASE_TEXT),
	CASE_FIELD("request.term", request.term, CASE_UINT64),
	CASE_FIELD("request.at", request.at, CASE_INT64),
	CASE_FIELD("request.refused", request.refused, CASE_TEXT),
	CASE_FIELD("request.failover", request.failover, CASE_BOOL),
	CASE_FIELD("request.full", request.full, CASE_BOOL),
	CASE_FIELD("paused", paused, CASE_BOOL),
	CASE_FIELD("held", held, CASE_BOOL),
	CASE_FIELD("unblocked", unblocked, CASE_BOOL),
	CASE_FIELD("durability", durability, CASE_RECORD),
	CASE_FIELD("durability.rule", durability.rule, CASE_RULE),
	CASE_FIELD("durability.changing", durability.changing, CASE_BOOL),
	CASE_FIELD("durability.next", durability.next, CASE_RULE),
	CASE_FIELD("durability.degraded", durability.degraded, CASE_BOOL),
	CASE_FIELD("durability.node", durability.node, CASE_TEXT),
	CASE_FIELD("durability.term", durability.term, CASE_UINT64),
	CASE_FIELD("failsafe", failsafe, CASE_FAILSAFE),
	CASE_FIELD("asked", asked, CASE_FAILSAFE),
	CASE_FIELD("surely", surely, CASE_FAILSAFE),
	CASE_FIELD("asked_changing", asked_changing, CASE_BOOL),
	CASE_FIELD("may_promise", may_promise, CASE_BOOL),
	CASE_FIELD("lease_until", lease_until, CASE_TIME),
	CASE_FIELD("promises_until", promises_until, CASE_TIME),
	CASE_FIELD("gate_until", gate_until, CASE_TIME),
	CASE_FIELD("promised_until", promised_until, CASE_TIME),
	CASE_FIELD("fence_waits", fence_waits, CASE_BOOL),
	CASE_FIELD("policy", policy, CASE_TEXT),
	CASE_FIELD("policy_agreed", policy_agreed, CASE_BOOL),
	CASE_FIELD("names", names, CASE_TEXT),
	CASE_FIELD("names_barrier", names_barrier, CASE_LSN),
	CASE_FIELD("names_since", names_since, CASE_TIME),
	CASE_FIELD("barrier", barrier, CASE_LSN),
	CASE_FIELD("may_degrade", may_degrade, CASE_BOOL),
	CASE_FIELD("degrade_after", degrade_after, CASE_LENGTH),
	CASE_FIELD("unserved_since", unserved_since, CASE_TIME),
	CASE_FIELD("follower_timeout", follower_timeout, CASE_LENGTH),
	CASE_FIELD("drain_timeout", drain_timeout, CASE_LENGTH),
	CASE_FIELD("instance", instance, CASE_TEXT),
	CASE_FIELD("predecessor", predecessor, CASE_TEXT),
	CASE_FIELD("state", state, CASE_RECORD),
	CASE_FIELD("state.present", state.present, CASE_BOOL),
	CASE_FIELD("state.term", state.term, CASE_UINT64),
	CASE_FIELD("state.token", state.token, CASE_INT64),
	CASE_FIELD("state.timeline", state.timeline, CASE_UINT32),
	CASE_FIELD("state.caught_up", state.caught_up, CASE_BOOL),
	CASE_FIELD("state.stray", state.stray, CASE_UINT32),
	CASE_FIELD("state.allotted", state.allotted, CASE_UINT32),
	CASE_FIELD("started_at", started_at, CASE_TIME),
	CASE_FIELD("recovering", recovering, CASE_BOOL),
	CASE_FIELD("frozen", frozen, CASE_BOOL),
	CASE_FIELD("target_timeline", target_timeline, CASE_UINT32),
	CASE_FIELD("lease_margin", lease_margin, CASE_LENGTH),
	CASE_FIELD("promoting", promoting, CASE_BOOL),
	CASE_FIELD("linked_since", linked_since, CASE_TIME),
	CASE_FIELD("remembered", remembered, CASE_UINT64),
	CASE_FIELD("forgot_since", forgot_since, CASE_TIME),
	CASE_FIELD("state.followed", state.followed, CASE_UINT64),
	CASE_FIELD("state.directory", state.directory, CASE_TEXT),
	CASE_FIELD("state.promised", state.promised, CASE_UINT64),
	CASE_FIELD("promoting_term", promoting_term, CASE_UINT64),
	CASE_FIELD("position", position, CASE_POSITION),
	CASE_FIELD("upstream_term", upstream_term, CASE_UINT64),
	CASE_FIELD("gate_open", gate_open, CASE_BOOL),
	CASE_FIELD("stopping", stopping, CASE_BOOL),
	CASE_FIELD("disk_stuck", disk_stuck, CASE_BOOL),
	CASE_FIELD("wal_full", wal_full, CASE_BOOL),
	CASE_FIELD("wal_full_asked", wal_full_asked, CASE_TIME),
	CASE_FIELD("lapsed", lapsed, CASE_BOOL),
	CASE_FIELD("cut_off", cut_off, CASE_BOOL),
	CASE_FIELD("rejoin_after", rejoin_after, CASE_TIME),
	CASE_FIELD("deadline", deadline, CASE_TIME),
	CASE_FIELD("leading_since", leading_since, CASE_TIME),
	CASE_FIELD("ordered", ordered, CASE_BOOL),
	CASE_FIELD("order_term", order_term, CASE_UINT64),
	CASE_FIELD("order_token", order_token, CASE_INT64),
	CASE_FIELD("gone_since", gone_since, CASE_TIME),
	CASE_FIELD("warm", warm, CASE_BOOL),
	CASE_FIELD("lease_gone", lease_gone, CASE_BOOL),
	CASE_FIELD("lease_checked_at", lease_checked_at, CASE_TIME),
	CASE_FIELD("lock_since", lock_since, CASE_TIME),
	CASE_FIELD("fence_term", fence_term, CASE_UINT64),
	CASE_FIELD("fence_since", fence_since, CASE_TIME),
	CASE_FIELD("raises", raises, CASE_INT),
	CASE_FIELD("establish_since", establish_since, CASE_TIME),
	CASE_FIELD("backoff_until", backoff_until, CASE_TIME),
	CASE_FIELD("handover.since", handover.since, CASE_TIME),
	CASE_FIELD("handover.checkpointed", handover.checkpointed, CASE_BOOL),
	CASE_FIELD("handover.clients_paused", handover.clients_paused, CASE_BOOL),
	CASE_FIELD("handover.drained", handover.drained, CASE_BOOL),
	{NULL}
};

static const CaseField case_peer_fields[] = {
	CASE_PEER("alive", alive, CASE_BOOL),
	CASE_PEER("misses", misses, CASE_UINT64),
	CASE_PEER("silent_since", silent_since, CASE_TIME),
	CASE_PEER("passed_over", passed_over, CASE_BOOL),
	CASE_PEER("answer", answer.kind, CASE_ANSWER),
	CASE_PEER("instance", answer.instance, CASE_TEXT),
	CASE_PEER("answer.directory", answer.directory, CASE_TEXT),
	CASE_PEER("directory", directory, CASE_TEXT),
	CASE_PEER("promised_until", promised_until, CASE_TIME),
	CASE_PEER("promised_by", promised_by, CASE_TEXT),
	CASE_PEER("kept_term", answer.kept_term, CASE_UINT64),
	CASE_PEER("kept_timeline", answer.kept_timeline, CASE_UINT32),
	CASE_PEER("timeline", answer.position.timeline, CASE_UINT32),
	CASE_PEER("lsn", answer.position.lsn, CASE_LSN),
	CASE_PEER("primary", answer.primary, CASE_BOOL),
	CASE_PEER("counts", answer.counts, CASE_BOOL),
	CASE_PEER("candidate", answer.candidate, CASE_BOOL),
	CASE_PEER("priority", answer.priority, CASE_INT32),
	CASE_PEER("etcd", answer.etcd, CASE_BOOL),
	CASE_PEER("lag_known", answer.lag_known, CASE_BOOL),
	CASE_PEER("lag", answer.lag, CASE_INT64),
	CASE_PEER("flushed", flushed, CASE_LSN),
	CASE_PEER("absent_since", absent_since, CASE_TIME),
	CASE_PEER("report.at", reported_at, CASE_TIME),
	CASE_PEER("report.following", following, CASE_BOOL),
	CASE_PEER("report.candidate", candidate, CASE_BOOL),
	CASE_PEER("report.full", full, CASE_BOOL),
	CASE_PEER("report.priority", priority, CASE_INT32),
	CASE_PEER("report.timeline", position.timeline, CASE_UINT32),
	CASE_PEER("report.lsn", position.lsn, CASE_LSN),
	{NULL}
};

static void __attribute__((noreturn))
case_error(const char *what, const char *text)
{
	printf("Bail out! %s:%d: %s \"%s\"\n", case_file, case_line, what, text);
	exit(1);
}

static const CaseField *
case_find(const CaseField *fields, const char *name)
{
	for (; fields->name != NULL; fields++)
	{
		if (strcmp(fields->name, name) == 0)
			return fields;
	}
	case_error("there is no field", name);
}

static int
case_find_name(const char *const *names, int count, const char *prefix,
			   const char *name)
{
	size_t		length = strlen(prefix);

	for (int i = 0; i < count; i++)
	{
		if (strncmp(names[i], prefix, length) == 0 &&
			strcmp(names[i] + length, name) == 0)
			return i;
	}
	case_error("there is no value", name);
}

/* "10s", "200ms", "5us", with a sign or without. */
static ElectorTime
case_length(const char *text)
{
	char	   *unit;
	long long	number = strtoll(text, &unit, 10);

	if (unit == text)
		case_error("not a time:", text);
	if (strcmp(unit, "s") == 0)
		return number * 1000000;
	if (strcmp(unit, "ms") == 0)
		return number * 1000;
	if (strcmp(unit, "us") != 0)
		case_error("not a time:", text);
	return number;
}

static ElectorTime
case_time(const char *text)
{
	if (strcmp(text, "never") == 0)
		return 0;
	if (strcmp(text, "now") == 0)
		return CASE_NOW;
	if (text[0] != '+' && text[0] != '-')
		case_error("a time has a sign:", text);
	return CASE_NOW + case_length(text);
}

static long long
case_number(const char *text)
{
	char	   *end;
	long long	number = strtoll(text, &end, 10);

	if (end == text || *end != '\0')
		case_error("not a number:", text);
	return number;
}

static ElectorLsn
case_lsn(const char *text)
{
	unsigned	high;
	unsigned	low;
	char		rest;

	if (sscanf(text, "%X/%X%c", &high, &low, &rest) != 2)
		case_error("not an LSN:", text);
	return (ElectorLsn) high << 32 | low;
}

static ElectorPosition
case_position(const char *text)
{
	ElectorPosition position;
	char		lsn[32];

	if (sscanf(text, "%" SCNu32 " %31s", &position.timeline, lsn) != 2)
		case_error("not a position:", text);
	position.lsn = case_lsn(lsn);
	return position;
}

/* "1:0/1000 2:0/2000", oldest first */
static void
case_ancestors(ElectorTerm *term, char *text)
{
	term->nancestors = 0;
	for (char *rest, *word = strtok_r(text, " ", &rest); word != NULL;
		 word = strtok_r(NULL, " ", &rest))
	{
		ElectorAncestor *ancestor = &term->ancestors[term->nancestors++];
		char	   *colon = strchr(word, ':');

		if (colon == NULL)
			case_error("not an ancestor:", word);
		*colon = '\0';
		ancestor->timeline = (uint32_t) case_number(word);
		ancestor->lsn = case_lsn(colon + 1);
	}
}

/* "any 1: n1 n2 n3" */
static void
case_rule(ElectorCommitRule *rule, char *text)
{
	char	   *colon = strchr(text, ':');

	memset(rule, 0, sizeof(*rule));
	if (colon != NULL)
		*colon++ = '\0';
	snprintf(rule->policy, sizeof(rule->policy), "%s", text);
	for (char *rest, *word = colon == NULL ? NULL : strtok_r(colon, " ", &rest); word != NULL;
		 word = strtok_r(NULL, " ", &rest))
		snprintf(rule->members[rule->nmembers++].node, ELECTOR_NAME_SIZE, "%s", word);
}

/* "n1/d1 n2/d2" */
static void
case_failsafe(ElectorFailsafe *record, char *text)
{
	memset(record, 0, sizeof(*record));
	record->present = strcmp(text, "absent") != 0;
	for (char *rest, *word = record->present ? strtok_r(text, " ", &rest) : NULL;
		 word != NULL; word = strtok_r(NULL, " ", &rest))
	{
		ElectorFailsafeMember *member = &record->members[record->nmembers++];
		char	   *slash = strchr(word, '/');

		if (slash == NULL)
			case_error("no data directory:", word);
		*slash = '\0';
		snprintf(member->node, sizeof(member->node), "%s", word);
		snprintf(member->directory, sizeof(member->directory), "%s", slash + 1);
	}
}

static void
case_set(const CaseField *field, char *base, char *value)
{
	void	   *place = base + field->offset;

	switch (field->kind)
	{
		case CASE_BOOL:
			*(bool *) place = strcmp(value, "yes") == 0;
			if (!*(bool *) place && strcmp(value, "no") != 0)
				case_error("neither yes nor no:", value);
			return;
		case CASE_INT:
			*(int *) place = (int) case_number(value);
			return;
		case CASE_INT32:
			*(int32_t *) place = (int32_t) case_number(value);
			return;
		case CASE_INT64:
			*(int64_t *) place = case_number(value);
			return;
		case CASE_UINT32:
			*(uint32_t *) place = (uint32_t) case_number(value);
			return;
		case CASE_UINT64:
			*(uint64_t *) place = (uint64_t) case_number(value);
			return;
		case CASE_TEXT:
			if (strcmp(value, "none") == 0)
				value = (char *) "";
			if (strlen(value) >= field->size)
				case_error("too long:", value);
			strcpy(place, value);
			return;
		case CASE_LENGTH:
			*(ElectorTime *) place = case_length(value);
			return;
		case CASE_TIME:
			*(ElectorTime *) place = case_time(value);
			return;
		case CASE_LSN:
			*(ElectorLsn *) place = case_lsn(value);
			return;
		case CASE_POSITION:
			*(ElectorPosition *) place = case_position(value);
			return;
		case CASE_ANCESTORS:
			case_ancestors(place, value);
			return;
		case CASE_RULE:
			case_rule(place, value);
			return;
		case CASE_FAILSAFE:
			case_failsafe(place, value);
			return;
		case CASE_ANSWER:
			*(ElectorAnswerKind *) place = (ElectorAnswerKind)
				case_find_name(case_answers, 4, "", value);
			return;
		case CASE_REFUSAL:
			*(ElectorRefusal *) place = (ElectorRefusal)
				case_find_name(case_refusals, 4, "", value);
			return;
		case CASE_RECORD:

			/* Every record begins with whether it is present. */
			if (strcmp(value, "absent") == 0)
				memset(place, 0, field->size);
			else if (strcmp(value, "present") == 0)
				*(bool *) place = true;
			else
				case_error("neither present nor absent:", value);
			return;
	}
	abort();
}

static int
case_peer(ElectorView *view, const char *node)
{
	for (int i = 0; i < view->npeers; i++)
	{
		if (strcmp(view->peers[i].node, node) == 0)
			return i;
	}
	return -1;
}

/* The words after "peer n2:"; a peer that is not there yet comes into being. */
static void
case_read_peer(ElectorView *view, char *text)
{
	char	   *rest;
	char	   *node = strtok_r(text, ": ", &rest);
	int			i = node != NULL ? case_peer(view, node) : -1;

	if (node == NULL || strlen(node) >= ELECTOR_NAME_SIZE)
		case_error("no such peer", text);
	if (i < 0)
	{
		if (view->npeers == ELECTOR_MEMBERS_MAX)
			case_error("too many peers:", node);
		i = view->npeers++;
		strcpy(view->peers[i].node, node);
	}
	for (char *word = strtok_r(NULL, " ", &rest); word != NULL;
		 word = strtok_r(NULL, " ", &rest))
	{
		char	   *value = strchr(word, '=');

		if (value == NULL)
			case_error("not a field:", word);
		*value++ = '\0';
		case_set(case_find(case_peer_fields, word), (char *) &view->peers[i], value);
	}
}

static void
case_read_expected(Case *one, char *text)
{
	char	   *rest;
	char	   *action = strtok_r(text, " ", &rest);
	char	   *reason = strtok_r(NULL, " ", &rest);

	if (action == NULL || reason == NULL)
		case_error("expect needs", "action reason");
	for (char *c = reason; *c != '\0'; c++)
	{
		if (*c >= 'a' && *c <= 'z')
			*c -= 'a' - 'A';
	}
	one->expects = true;
	one->action = (ElectorAction)
		case_find_name(case_actions, CASE_ACTIONS, "", action);
	one->reason = (ElectorReason)
		case_find_name(case_reasons, ELECTOR_REASON_COUNT, "ELECTOR_BECAUSE_", reason);
	for (char *word = strtok_r(NULL, " ", &rest); word != NULL;
		 word = strtok_r(NULL, " ", &rest))
	{
		if (strncmp(word, "term=", 5) == 0)
		{
			one->has_term = true;
			one->term = (uint64_t) case_number(word + 5);
		}
		else if (strncmp(word, "target=", 7) == 0)
		{
			one->has_target = true;
			snprintf(one->target, sizeof(one->target), "%s", word + 7);
		}
		else if (strncmp(word, "again=", 6) == 0)
		{
			one->has_again = true;
			one->again = strcmp(word + 6, "event") == 0 ? 0 : case_time(word + 6);
		}
		else
			case_error("not expected:", word);
	}
	if (one->action == ELECTOR_WAIT && !one->has_again)
		case_error("a wait needs", "again=");
}

static const Case *
case_base(const char *name)
{
	for (int i = 0; i < case_nbases; i++)
	{
		if (strcmp(case_bases[i].name, name) == 0)
			return &case_bases[i];
	}
	case_error("there is no base", name);
}

static void
case_begin(Case *one, const char *name)
{
	memset(one, 0, sizeof(*one));
	snprintf(one->name, sizeof(one->name), "%s", name);
	one->view.now = CASE_NOW;
	strcpy(one->view.node, "n1");
	one->view.self = -1;
	one->view.establishing = -1;
}

/* One line of a base or a case. */
static void
case_read_line(Case *one, char *line)
{
	char	   *equals;

	if (strncmp(line, "from ", 5) == 0)
		one->view = case_base(line + 5)->view;
	else if (strncmp(line, "peer ", 5) == 0)
		case_read_peer(&one->view, line + 5);
	else if (strncmp(line, "forget ", 7) == 0)
	{
		/* The last peer of the view; no other needs to go. */
		if (case_peer(&one->view, line + 7) != one->view.npeers - 1)
			case_error("not the last peer:", line + 7);
		memset(&one->view.peers[--one->view.npeers], 0, sizeof(ElectorPeerView));
	}
	else if (strncmp(line, "expect ", 7) == 0)
		case_read_expected(one, line + 7);
	else if ((equals = strstr(line, " = ")) != NULL)
	{
		*equals = '\0';
		if (strcmp(line, "establishing") == 0)
		{
			one->view.establishing = case_peer(&one->view, equals + 3);
			if (one->view.establishing < 0)
				case_error("there is no peer", equals + 3);
		}
		else
			case_set(case_find(case_fields, line), (char *) &one->view, equals + 3);
	}
	else
		case_error("cannot be read:", line);
}

static void
case_end(Case *one, bool is_base, CaseFunction function)
{
	if (one->name[0] == '\0')
		return;
	one->view.self = case_peer(&one->view, one->view.node);
	if (is_base)
	{
		if (case_nbases == CASE_BASES_MAX)
			case_error("too many bases:", one->name);
		case_bases[case_nbases++] = *one;
	}
	else if (!one->expects)
		case_error("expects nothing:", one->name);
	else
		function(one);
}

/* Read a file; its bases are kept, its cases are handed to the function. */
static void
cases_read(const char *path, CaseFunction function)
{
	static Case one;
	bool		is_base = false;
	char		text[512];
	FILE	   *file = fopen(path, "r");

	case_file = path;
	case_line = 0;
	if (file == NULL)
		case_error("could not open", path);
	memset(&one, 0, sizeof(one));
	while (fgets(text, sizeof(text), file) != NULL)
	{
		char	   *line = text + strspn(text, " \t");

		case_line++;
		line[strcspn(line, "\n")] = '\0';
		for (size_t length = strlen(line); length > 0 && line[length - 1] == ' ';)
			line[--length] = '\0';
		if (line[0] == '\0' || line[0] == '#')
			continue;
		if (strncmp(line, "case ", 5) == 0 || strncmp(line, "base ", 5) == 0)
		{
			case_end(&one, is_base, function);
			is_base = line[0] == 'b';
			case_begin(&one, line + 5);
		}
		else if (one.name[0] == '\0')
			case_error("before any case:", line);
		else
			case_read_line(&one, line);
	}
	case_end(&one, is_base, function);
	fclose(file);
}

#endif							/* ELECTOR_CASES_H */
