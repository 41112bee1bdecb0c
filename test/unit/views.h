/*
 * views.h
 *	  Small views, made of digits: one for each thing that matters.
 *
 * Whose the leader key is, what the term record says, what each member answered.
 * A view is built from its digits alone, and prepare() sets what no digit does.
 */
#ifndef ELECTOR_VIEWS_H
#define ELECTOR_VIEWS_H

#include <stdio.h>
#include <string.h>

#include "core/decide.h"

#define NOW ((ElectorTime) 1000 * 1000000)
#define SECOND ((ElectorTime) 1000000)
#define LENGTH(array) ((int) (sizeof(array) / sizeof((array)[0])))

/* More than a promotion may take, and more than any bound of an election. */
#define LONG_AGO (NOW - 20 * SECOND)

typedef enum Digit
{
	LEADER,						/* absent, ours, our predecessor's, n2's */
	LEADER_TERM,				/* that of the record, one more */
	TERM,						/* see terms[] */
	ELECTION,					/* absent, ours, ours without our knowing it,
								 * n3's */
	RECOVERING,
	FROZEN,
	GATE,
	ORDERED,					/* no, for the election under way, for another */
	DEADLINE,					/* passed, ahead */
	LEADING,					/* lately, for long */
	STATE,						/* term obeyed: 5, 6, 7 */
	CAUGHT_UP,
	POSITION,					/* see positions[] */
	UPSTREAM,					/* none, term 5 */
	FENCE,						/* not begun, term 6, term 7 */
	AGE,						/* of lock and fence: lately, long ago */
	ANSWER1,					/* see answers[] */
	ANSWER2,
	ANSWER3,
	PASSED,						/* n3 is passed over */
	SILENT,						/* n2 has been silent for long */
	ESTABLISHING,				/* nobody, n1, n3 */
	LEASE,						/* asked just now, to be asked, gone */
	WARM,
	GONE,						/* leader key found gone: lately, long ago */
	BACKOFF,
	RAISES,						/* none, as many as there may be */
	REQUEST,					/* none, for this leadership, for another */
	HANDOVER,					/* not begun, begun, prepared, clients paused,
								 * drained, late */
	REPORTS,					/* n3 follows, nobody does */
	REJOIN,						/* off, now, later */
	KNOWN,
	STOPPING,
	REGISTERED,
	REFUSAL,					/* none, another system, name taken */
	PREDECESSOR,				/* proven dead or not */
	DIGITS
} Digit;

static const int counts[DIGITS] = {
	[LEADER] = 4,[LEADER_TERM] = 2,[TERM] = 8,[ELECTION] = 4,[RECOVERING] = 2,
	[FROZEN] = 2,[GATE] = 2,[ORDERED] = 3,[DEADLINE] = 2,[LEADING] = 2,[STATE] = 3,
	[CAUGHT_UP] = 2,[POSITION] = 5,[UPSTREAM] = 2,[FENCE] = 3,[AGE] = 2,
	[ANSWER1] = 9,[ANSWER2] = 9,[ANSWER3] = 9,[PASSED] = 2,[SILENT] = 2,
	[ESTABLISHING] = 3,[LEASE] = 3,[WARM] = 2,[GONE] = 2,[BACKOFF] = 2,
	[RAISES] = 2,[REQUEST] = 3,[HANDOVER] = 6,[REPORTS] = 2,[REJOIN] = 3,
	[KNOWN] = 2,[STOPPING] = 2,[REGISTERED] = 2,[REFUSAL] = 3,[PREDECESSOR] = 2
};

/* What a digit is in a group that does not vary it. */
static const int defaults[DIGITS] = {
	[RECOVERING] = 1,[FROZEN] = 1,[DEADLINE] = 1,[CAUGHT_UP] = 1,[WARM] = 1,
	[REJOIN] = 1,[KNOWN] = 1,[REGISTERED] = 1
};

/* The term record: who, in which state. */
static const struct
{
	bool		present;
	const char *node;
	const char *instance;
	bool		opened;
	bool		released;
	bool		last_word;		/* with the LSN, and n1 as the heir */
}			terms[] = {
	{false, "", "", false, false, false},
	{true, "n2", "i2", true, false, false},
	{true, "n1", "i1", true, false, false},
	{true, "n2", "i2", false, false, false},
	{true, "n1", "i1", false, false, false},
	{true, "n2", "i2", true, true, true},
	{true, "n1", "i1", false, true, false},
	{true, "n1", "i0", true, false, false}
};

/*
 * The record's timeline is 3; it left 2 at 0/2000.  The old leader's last record,
 * if it told, began at 0/5000.
 */
static const ElectorPosition positions[] = {
	{3, 0x5000}, {3, 0x5078}, {2, 0x2000}, {2, 0x2001}, {4, 0x100}
};

/* What a member may have answered. */
static const struct
{
	ElectorAnswerKind kind;
	bool		other_instance;
	bool		primary;
	uint64_t	kept_term;
	ElectorLsn	lsn;
	bool		unfit;			/* no candidate, or without etcd, or not counting */
	bool		lag_known;
	int64_t		lag;
}			answers[] = {
	{ELECTOR_ANSWER_NONE, false, false, 0, 0, false, false, 0},
	{ELECTOR_ANSWER_FENCED, false, false, 6, 0x5000, false, true, 0},
	{ELECTOR_ANSWER_REFUSED, false, false, 9, 0x5000, false, true, 0},
	{ELECTOR_ANSWER_FAILED, false, false, 0, 0, false, false, 0},
	{ELECTOR_ANSWER_FENCED, true, false, 6, 0x5078, false, false, 0},
	{ELECTOR_ANSWER_FENCED, false, true, 6, 0x5078, false, true, 0},
	{ELECTOR_ANSWER_FENCED, false, false, 6, 0x6000, true, true, 0},
	{ELECTOR_ANSWER_FENCED, false, false, 6, 0x4000, false, true, 0x1001},
	{ELECTOR_ANSWER_REFUSED, false, false, 5, 0x5000, false, true, 0}
};

static void
build_records(ElectorView *view, const int *digit)
{
	ElectorTerm *term = &view->term;
	int			kind = digit[TERM];

	term->present = terms[kind].present;
	term->term = terms[kind].present ? 5 : 0;
	strcpy(term->node, terms[kind].node);
	strcpy(term->instance, terms[kind].instance);
	term->timeline = terms[kind].present ? 3 : 0;
	term->begun = term->opened = terms[kind].opened;
	term->opened_term = terms[kind].present ? (terms[kind].opened ? 5 : 4) : 0;
	strcpy(term->opened_node, terms[kind].opened ? terms[kind].node : "n3");
	term->released = terms[kind].released;
	term->released_at.timeline = terms[kind].last_word ? 3 : 0;
	term->released_at.lsn = terms[kind].last_word ? 0x5000 : 0;
	strcpy(term->heir, terms[kind].last_word ? "n1" : "");
	term->nancestors = 2;
	term->ancestors[0].timeline = 1;
	term->ancestors[0].lsn = 0x1000;
	term->ancestors[1].timeline = 2;
	term->ancestors[1].lsn = 0x2000;

	view->leader.present = digit[LEADER] != 0;
	strcpy(view->leader.node, digit[LEADER] == 3 ? "n2" : "n1");
	strcpy(view->leader.instance,
		   digit[LEADER] == 3 ? "i2" : digit[LEADER] == 2 ? "i0" : "i1");
	view->leader.term = term->term + digit[LEADER_TERM];
	view->leader.create_revision = 550;

	view->election.present = digit[ELECTION] != 0;
	strcpy(view->election.node, digit[ELECTION] == 3 ? "n3" : "n1");
	view->election.create_revision = 600;

	view->request.present = digit[REQUEST] != 0;
	view->request.term = view->leader.term - (digit[REQUEST] == 2 ? 1 : 0);
}

static void
build_peers(ElectorView *view, const int *digit)
{
	static const char *const instances[] = {"i1", "i2", "i3"};

	for (int i = 0; i < view->npeers; i++)
	{
		ElectorPeerView *peer = &view->peers[i];
		ElectorAnswer *answer = &peer->answer;
		int			kind = digit[ANSWER1 + i];

		answer->kind = answers[kind].kind;
		strcpy(answer->instance, answers[kind].other_instance ? "ix" : instances[i]);
		answer->kept_term = answers[kind].kept_term;
		answer->kept_timeline = 3;
		answer->position.timeline = 3;
		answer->position.lsn = answers[kind].lsn;
		answer->primary = answers[kind].primary;

		/* Each member is unfit in a way of its own. */
		answer->candidate = !(answers[kind].unfit && i == 0);
		answer->etcd = !(answers[kind].unfit && i == 1);
		answer->counts = !(answers[kind].unfit && i == 2);
		answer->lag_known = answers[kind].lag_known;
		answer->lag = answers[kind].lag;
	}
	view->peers[2].passed_over = digit[PASSED] == 1;
	view->peers[1].silent_since = digit[SILENT] == 1 ? LONG_AGO : 0;
	view->peers[2].following = digit[REPORTS] == 0;
	view->establishing = digit[ESTABLISHING] == 2 ? 2 : digit[ESTABLISHING] - 1;
}

static void
build(ElectorView *view, const int *digit)
{
	ElectorTime age = digit[AGE] == 0 ? NOW - 100000 : LONG_AGO;
	bool		locked = digit[ELECTION] == 1;

	build_records(view, digit);
	build_peers(view, digit);

	view->known = digit[KNOWN] == 1;
	view->registered = digit[REGISTERED] == 1;
	view->refusal = digit[REFUSAL] == 1 ? ELECTOR_REFUSAL_SYSTEM :
		digit[REFUSAL] == 2 ? ELECTOR_REFUSAL_NODE : ELECTOR_REFUSAL_NONE;
	strcpy(view->predecessor, digit[PREDECESSOR] == 1 ? "i0" : "");
	view->stopping = digit[STOPPING] == 1;
	view->may_rejoin = digit[REJOIN] != 0;
	view->rejoin_after = digit[REJOIN] == 2 ? NOW + SECOND : 0;

	view->state.term = 5 + digit[STATE];
	view->state.token = 600;
	view->state.caught_up = digit[CAUGHT_UP] == 1;
	view->recovering = digit[RECOVERING] == 1;
	view->frozen = digit[FROZEN] == 1;
	view->position = positions[digit[POSITION]];
	view->upstream_term = digit[UPSTREAM] == 1 ? 5 : 0;
	view->gate_open = digit[GATE] == 1;
	view->deadline = digit[DEADLINE] == 1 ? NOW + SECOND : NOW;
	view->leading_since = digit[LEADING] == 0 ? NOW - SECOND : LONG_AGO;
	view->ordered = digit[ORDERED] != 0;
	view->order_term = view->leader.present ? view->leader.term : 6;
	view->order_token = 600;
	if (digit[ORDERED] == 2)
		view->order_term++;

	view->gone_since = view->leader.present ? 0 :
		digit[GONE] == 0 ? NOW - SECOND : NOW - 60 * SECOND;
	view->warm = digit[WARM] == 1;
	view->lease_gone = digit[LEASE] == 2;
	view->lease_checked_at = digit[LEASE] == 0 ? NOW - 1000 : LONG_AGO;
	view->lock_since = locked ? age - 1000 : 0;
	view->fence_term = locked && digit[FENCE] != 0 ? 5 + digit[FENCE] : 0;
	view->fence_since = view->fence_term != 0 ? age : 0;
	view->raises = digit[RAISES] == 0 ? 0 : 5;
	view->establish_since = age + 50000;
	view->backoff_until = digit[BACKOFF] == 0 ? 0 : NOW + SECOND;
	view->handover.since = digit[HANDOVER] == 0 ? 0 :
		digit[HANDOVER] == 5 ? NOW - 30 * SECOND : NOW - 100000;
	view->handover.checkpointed = digit[HANDOVER] >= 2;
	view->handover.clients_paused = digit[HANDOVER] >= 3;
	view->handover.drained = digit[HANDOVER] >= 4;
}

/* What no digit changes. */
static void
prepare(ElectorView *view)
{
	memset(view, 0, sizeof(*view));
	view->now = NOW;
	view->wall_ms = 1700000000000;
	strcpy(view->node, "n1");
	strcpy(view->instance, "i1");
	view->lease_ttl = 10 * SECOND;
	view->fence_timeout = SECOND;
	view->cold_start_wait = 30 * SECOND;
	view->failover_cooldown = 30 * SECOND;
	view->maximum_lag = 0x1000;
	view->candidate = true;
	view->started_at = NOW - 100 * SECOND;
	view->state.present = true;
	view->npeers = 3;
	view->self = 0;
	for (int i = 0; i < view->npeers; i++)
	{
		snprintf(view->peers[i].node, ELECTOR_NAME_SIZE, "n%d", i + 1);
		view->peers[i].alive = true;
		view->peers[i].reported_at = NOW - 1000;
		view->peers[i].candidate = true;
		view->peers[i].position.timeline = 3;
		view->peers[i].position.lsn = 0x5000;
	}
}

#endif							/* ELECTOR_VIEWS_H */
