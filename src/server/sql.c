/*
 * sql.c
 *	  The SQL functions.
 *
 * None of them talks to etcd or to another node: what needs that is left to the
 * worker as a call in shared memory and waited for, interruptibly and with a
 * bound.  What is only read comes from what the worker has published.
 *
 * The trap: a session may end while its call is under way.  The call's state
 * says whose it is, and an abandoned one is freed by the worker.
 */
#include "library.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "core/name.h"
#include "messages.h"

PG_FUNCTION_INFO_V1(elector_fence);
PG_FUNCTION_INFO_V1(elector_establish);
PG_FUNCTION_INFO_V1(elector_promise);
PG_FUNCTION_INFO_V1(elector_report);
PG_FUNCTION_INFO_V1(elector_switchover);
PG_FUNCTION_INFO_V1(elector_failover);
PG_FUNCTION_INFO_V1(elector_cancel_switchover);
PG_FUNCTION_INFO_V1(elector_pause);
PG_FUNCTION_INFO_V1(elector_resume);
PG_FUNCTION_INFO_V1(elector_hold_leader);
PG_FUNCTION_INFO_V1(elector_release_leader);
PG_FUNCTION_INFO_V1(elector_forget_member);
PG_FUNCTION_INFO_V1(elector_hold_valid);
PG_FUNCTION_INFO_V1(elector_term);
PG_FUNCTION_INFO_V1(elector_is_leader);
PG_FUNCTION_INFO_V1(elector_status_rows);
PG_FUNCTION_INFO_V1(elector_lease_rows);
PG_FUNCTION_INFO_V1(elector_history_rows);
PG_FUNCTION_INFO_V1(elector_durability_rows);

/* A switchover is waited for so long, unless it is said otherwise. */
#define SWITCHOVER_BOUND_MS 60000

/* So many calls are kept free for fences, orders and promises. */
#define URGENT_CALLS 4

static void
need_library(void)
{
	if (elector_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this server is no node of a cluster"),
				 errhint("Set shared_preload_libraries = 'pg_elector', pg_elector.cluster, pg_elector.node, pg_elector.etcd and pg_elector.conninfo, and restart.")));
}

/* --- calls --- */

static void
abandon_call(int code, Datum argument)
{
	ElectorCall *call = (ElectorCall *) DatumGetPointer(argument);

	LWLockAcquire(elector_shared->lock, LW_EXCLUSIVE);
	call->state = call->state == ELECTOR_CALL_TAKEN ?
		ELECTOR_CALL_ABANDONED : ELECTOR_CALL_FREE;
	LWLockRelease(elector_shared->lock);
}

/* Others must not keep an election waiting. */
static bool
is_urgent(ElectorCallKind kind)
{
	return kind == ELECTOR_CALL_FENCE || kind == ELECTOR_CALL_ESTABLISH ||
		kind == ELECTOR_CALL_PROMISE;
}

static ElectorCall *
place_call(ElectorCallKind kind, const char *argument)
{
	ElectorCall *call = NULL;
	int			room = ELECTOR_CALLS_MAX - (is_urgent(kind) ? 0 : URGENT_CALLS);

	LWLockAcquire(elector_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < room && call == NULL; i++)
	{
		if (elector_shared->calls[i].state == ELECTOR_CALL_FREE)
			call = &elector_shared->calls[i];
	}
	if (call != NULL)
	{
		call->kind = kind;
		strlcpy(call->argument, argument, sizeof(call->argument));
		call->state = ELECTOR_CALL_ASKED;
	}
	LWLockRelease(elector_shared->lock);
	if (call == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_TOO_MANY_CONNECTIONS),
				 errmsg("the elector has too many requests"),
				 errhint("Try again.")));
	elector_wake_worker();
	return call;
}

/* Wait for the answer; false if it does not come within the bound. */
static bool
wait_for_answer(ElectorCall *call, int bound_ms)
{
	ElectorTime until = elector_now() + (ElectorTime) bound_ms * 1000;
	bool		answered = false;

	ConditionVariablePrepareToSleep(&elector_shared->answered);
	while (!answered)
	{
		ElectorTime now = elector_now();

		LWLockAcquire(elector_shared->lock, LW_SHARED);
		answered = call->state == ELECTOR_CALL_ANSWERED;
		LWLockRelease(elector_shared->lock);
		if (answered || now >= until)
			break;
		ConditionVariableTimedSleep(&elector_shared->answered,
									(until - now + 999) / 1000, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
	return answered;
}

/*
 * Ask the worker.  Returns its answer, or NULL if there is none in time; an
 * answer that is a refusal is raised as an error.
 */
static char *
ask_worker(ElectorCallKind kind, const char *argument, int bound_ms, const char *what)
{
	ElectorCall *call;
	char	   *answer = NULL;
	bool		failed = false;

	if (strlen(argument) >= ELECTOR_CALL_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("argument is too long")));
	call = place_call(kind, argument);
	PG_ENSURE_ERROR_CLEANUP(abandon_call, PointerGetDatum(call));
	{
		if (wait_for_answer(call, bound_ms))
		{
			answer = pstrdup(call->answer);
			failed = call->failed;
		}
	}
	PG_END_ENSURE_ERROR_CLEANUP(abandon_call, PointerGetDatum(call));
	abandon_call(0, PointerGetDatum(call));
	if (failed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot %s: %s", what, answer)));
	return answer;
}

/*
 * elector_fence(request text) returns text: be fenced for a term.  Answers when
 * the fence is complete: no commit of an older term can be acknowledged any
 * more, and the position told is final.
 */
Datum
elector_fence(PG_FUNCTION_ARGS)
{
	char	   *answer;

	need_library();
	answer = ask_worker(ELECTOR_CALL_FENCE, text_to_cstring(PG_GETARG_TEXT_PP(0)),
						10 * elector_fence_timeout, "fence this node");
	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the fence was not complete in time")));
	PG_RETURN_TEXT_P(cstring_to_text(answer));
}

/* elector_establish(order text) returns text: become leader as an elector chose. */
Datum
elector_establish(PG_FUNCTION_ARGS)
{
	char	   *answer;

	need_library();
	answer = ask_worker(ELECTOR_CALL_ESTABLISH, text_to_cstring(PG_GETARG_TEXT_PP(0)),
						10 * elector_fence_timeout, "establish this node");
	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the elector of this node does not answer")));
	PG_RETURN_TEXT_P(cstring_to_text(answer));
}

/*
 * elector_promise(request text) returns text: promise the leader, which is without etcd,
 * to elect nobody else for a while.
 */
Datum
elector_promise(PG_FUNCTION_ARGS)
{
	char	   *answer;

	need_library();
	answer = ask_worker(ELECTOR_CALL_PROMISE, text_to_cstring(PG_GETARG_TEXT_PP(0)),
						elector_fence_timeout, "promise");
	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the elector of this node does not answer")));
	PG_RETURN_TEXT_P(cstring_to_text(answer));
}

/* elector_report() returns text: what this node says of itself. */
Datum
elector_report(PG_FUNCTION_ARGS)
{
	ElectorReport report;
	char		text[ELECTOR_CALL_SIZE];

	need_library();
	elector_report_self(&report);
	if (!elector_report_format(&report, text, sizeof(text)))
		elog(ERROR, "could not format report");
	PG_RETURN_TEXT_P(cstring_to_text(text));
}

/* When, in milliseconds since 1970; it must be still to come. */
static int64
scheduled_time(TimestampTz at)
{
	if (TIMESTAMP_NOT_FINITE(at) || at <= GetCurrentTimestamp())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the time of the switchover is not in the future"),
				 errhint("Leave it out to switch over at once.")));
	return at / 1000 + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;
}

/* In milliseconds. */
static int
bound_of(const Interval *interval)
{
	double		seconds = (interval->month * (double) DAYS_PER_MONTH + interval->day) * SECS_PER_DAY +
	interval->time / (double) USECS_PER_SEC;

	if (seconds <= 0 || seconds > SECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the timeout must be more than nothing, and one day at most")));
	return (int) (seconds * 1000);
}

/* (leader, term, pause_ms) of what the worker has answered. */
static Datum
leader_row(TupleDesc description, const char *target, const char *answer)
{
	Datum		values[3];
	bool		nulls[3] = {false, true, true};
	char		leader[ELECTOR_NAME_SIZE] = "";
	int64		term;
	int			pause;

	switch (sscanf(answer, "%63s " INT64_FORMAT " %d", leader, &term, &pause))
	{
		case 3:
			nulls[2] = pause < 0;
			values[2] = Int32GetDatum(pause);
			/* FALLTHROUGH */
		case 2:
			nulls[1] = false;
			values[1] = Int64GetDatum(term);
	}
	if (target[0] != '\0' && strcmp(target, leader) != 0)
		ereport(WARNING,
				(errmsg("node \"%s\" leads instead of \"%s\"", leader, target),
				 errhint("elector_history and the log of \"%s\" tell why.", target)));
	values[0] = CStringGetTextDatum(leader);
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(description), values, nulls));
}

/*
 * elector_switchover(target text, wait boolean, timeout interval, dry_run boolean,
 * at timestamptz) returns (leader text, term bigint, pause_ms integer): have the
 * leader hand over.  leader is who will lead, or does lead where that was waited for;
 * then the term and the pause are known.
 */
Datum
elector_switchover(PG_FUNCTION_ARGS)
{
	char	   *target = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		wait = PG_ARGISNULL(1) || PG_GETARG_BOOL(1);
	int			bound = PG_ARGISNULL(2) ? SWITCHOVER_BOUND_MS : bound_of(PG_GETARG_INTERVAL_P(2));
	bool		dry_run = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	int64		at = PG_ARGISNULL(4) ? 0 : scheduled_time(PG_GETARG_TIMESTAMPTZ(4));
	TupleDesc	description;
	char	   *answer;

	need_library();
	if (get_call_result_type(fcinfo, NULL, &description) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (target[0] != '\0' && !elector_name_valid(target))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not the name of a node", target),
				 errhint("See elector_status for the nodes.")));

	/*
	 * On a standby our snapshot would keep WAL from being replayed that removes what
	 * it may see, and perhaps this node from taking over.  Nothing is read by it.
	 */
	if (RecoveryInProgress() && !IsolationUsesXactSnapshot())
		MyProc->xmin = InvalidTransactionId;

	/* What is checked is what the members say now. */
	(void) ask_worker(ELECTOR_CALL_REFRESH, "", 1000, "ask the other nodes");
	answer = ask_worker(dry_run ? ELECTOR_CALL_CHECK : ELECTOR_CALL_SWITCHOVER,
						psprintf(INT64_FORMAT " %d %s", at, wait, target), bound,
						target[0] == '\0' ? "switch over" : psprintf("switch over to \"%s\"", target));
	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the switchover did not end in time"),
				 errhint("It may still take place: see elector_status, or cancel it with elector_cancel_switchover().")));
	PG_RETURN_DATUM(leader_row(description, target, answer));
}

/*
 * elector_failover(target text, accept_data_loss boolean, timeout interval) returns
 * (leader text, term bigint, pause_ms integer): have a leader elected although
 * acknowledged commits may be lost.
 */
Datum
elector_failover(PG_FUNCTION_ARGS)
{
	char	   *target = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		accepted = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	int			bound = PG_ARGISNULL(2) ? SWITCHOVER_BOUND_MS : bound_of(PG_GETARG_INTERVAL_P(2));
	TupleDesc	description;
	char	   *answer;

	need_library();
	if (get_call_result_type(fcinfo, NULL, &description) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (target[0] != '\0' && !elector_name_valid(target))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not the name of a node", target),
				 errhint("See elector_status for the nodes.")));
	(void) ask_worker(ELECTOR_CALL_REFRESH, "", 1000, "ask the other nodes");
	answer = ask_worker(ELECTOR_CALL_FAILOVER, psprintf("%d %s", accepted, target), bound,
						target[0] == '\0' ? "fail over" : psprintf("fail over to \"%s\"", target));
	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the failover did not end in time"),
				 errhint("It may still take place: see elector_status what it waits for.")));
	PG_RETURN_DATUM(leader_row(description, target, answer));
}

/* Ask for a change that is written to etcd.  True if anything has changed. */
static bool
change_cluster(ElectorCallKind kind, const char *argument, const char *what)
{
	char	   *answer;

	need_library();
	answer = ask_worker(kind, argument, 10000, what);
	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the elector of this node does not answer"),
				 errhint("See elector_status whether it has happened.")));
	return answer[0] != '\0';
}

/* elector_cancel_switchover() returns boolean: was there one to cancel? */
Datum
elector_cancel_switchover(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_cluster(ELECTOR_CALL_CANCEL, "", "cancel the switchover"));
}

/* elector_pause(reason text) returns boolean: false if it was paused already. */
Datum
elector_pause(PG_FUNCTION_ARGS)
{
	char	   *reason = PG_ARGISNULL(0) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(0));

	if (strlen(reason) >= ELECTOR_TEXT_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the reason is longer than %d bytes", ELECTOR_TEXT_SIZE - 1)));
	PG_RETURN_BOOL(change_cluster(ELECTOR_CALL_PAUSE, reason, "pause the cluster"));
}

/* elector_hold(reason text, duration interval) returns bigint: no planned change so long. */
Datum
elector_hold_leader(PG_FUNCTION_ARGS)
{
	char	   *reason = text_to_cstring(PG_GETARG_TEXT_PP(0));
	int			lasts = bound_of(PG_GETARG_INTERVAL_P(1));
	char	   *answer;

	need_library();
	if (strlen(reason) >= ELECTOR_TEXT_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the reason is longer than %d bytes", ELECTOR_TEXT_SIZE - 1)));
	answer = ask_worker(ELECTOR_CALL_HOLD, psprintf("%d %s", lasts, reason), 10000, "hold the leader");
	if (answer == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("the elector of this node does not answer"),
				 errhint("See elector_status whether it has happened.")));
	PG_RETURN_INT64(strtoll(answer, NULL, 10));
}

/* elector_release(id bigint) returns boolean: false if the hold is over already. */
Datum
elector_release_leader(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_cluster(ELECTOR_CALL_RELEASE, psprintf(INT64_FORMAT, PG_GETARG_INT64(0)),
								  "release the leader"));
}

/* elector_hold_valid(id bigint) returns boolean: is the leader still held by it? */
Datum
elector_hold_valid(PG_FUNCTION_ARGS)
{
	int64		now = (GetCurrentTimestamp() / 1000) +
	(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000;
	bool		known;
	bool		valid;

	need_library();
	LWLockAcquire(elector_shared->lock, LW_SHARED);
	known = elector_shared->known;
	valid = PG_GETARG_INT64(0) > 0 &&
		elector_find_hold(&elector_shared->settings, elector_shared->leader_term, now,
						  PG_GETARG_INT64(0)) >= 0;
	LWLockRelease(elector_shared->lock);
	if (!known)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot tell whether the leader is held: etcd does not answer")));
	PG_RETURN_BOOL(valid);
}

/* elector_resume() returns boolean: false if it was not paused. */
Datum
elector_resume(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(change_cluster(ELECTOR_CALL_RESUME, "", "resume the cluster"));
}

/* elector_remove_member(node text) returns void: forget a member that is gone for good. */
Datum
elector_forget_member(PG_FUNCTION_ARGS)
{
	char	   *node = text_to_cstring(PG_GETARG_TEXT_PP(0));

	need_library();
	if (!elector_name_valid(node))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is not the name of a node", node),
				 errhint("See elector_status for the nodes.")));

	/* One that is cut off from etcd only may answer. */
	(void) ask_worker(ELECTOR_CALL_REFRESH, "", 1000, "ask the other nodes");
	(void) change_cluster(ELECTOR_CALL_REMOVE, node, psprintf("remove \"%s\"", node));
	PG_RETURN_VOID();
}

/* elector_term() returns bigint: the term this node leads; NULL if it does not. */
Datum
elector_term(PG_FUNCTION_ARGS)
{
	uint64		term;

	need_library();
	term = pg_atomic_read_u64(&elector_shared->opened_term);
	if (term == 0 || !elector_gate_is_open())
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) term);
}

/* elector_is_leader() returns boolean: does this node take writes, now? */
Datum
elector_is_leader(PG_FUNCTION_ARGS)
{
	need_library();
	PG_RETURN_BOOL(!RecoveryInProgress() && elector_gate_is_open());
}

/* --- views --- */

static Datum
text_or_null(const char *text, bool *null)
{
	*null = text[0] == '\0';
	return *null ? (Datum) 0 : CStringGetTextDatum(text);
}

static Datum
time_or_null(int64 milliseconds, bool *null)
{
	*null = milliseconds <= 0;
	return *null ? (Datum) 0 :
		TimestampTzGetDatum((milliseconds - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
							 SECS_PER_DAY * 1000) * 1000);
}

Datum
elector_status_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ElectorStatusRow *rows;
	ElectorReport own;
	XLogRecPtr	leader_lsn;
	int			nrows;

	need_library();
	InitMaterializedSRF(fcinfo, 0);
	(void) ask_worker(ELECTOR_CALL_REFRESH, "", 1000, "ask the other nodes");

	rows = palloc(sizeof(ElectorStatusRow) * ELECTOR_MEMBERS_MAX);
	LWLockAcquire(elector_shared->lock, LW_SHARED);
	nrows = elector_shared->nrows;
	memcpy(rows, elector_shared->rows, sizeof(ElectorStatusRow) * nrows);
	LWLockRelease(elector_shared->lock);

	elector_report_self(&own);
	leader_lsn = elector_rows_complete(rows, nrows, &own);

	for (int i = 0; i < nrows; i++)
	{
		const ElectorStatusRow *row = &rows[i];
		const ElectorReport *report = &row->report;
		Datum		values[11];
		bool		nulls[11] = {false};

		values[0] = CStringGetTextDatum(row->member.node);
		values[1] = CStringGetTextDatum(row->leader ? "leader" : "follower");
		values[2] = CStringGetTextDatum(elector_row_state(row));
		values[3] = Int64GetDatum((int64) (row->leader ? row->leader_term : report->term));
		values[4] = Int32GetDatum((int32) report->timeline);
		values[5] = LSNGetDatum(report->lsn);
		values[6] = Int64GetDatum(elector_row_lag(row, leader_lsn));
		values[7] = Int64GetDatum(report->lease_ms_left);
		values[8] = Int32GetDatum(row->member.priority);
		values[9] = CStringGetTextDatum(row->member.zone);
		values[10] = text_or_null(report->detail, &nulls[10]);
		if (!row->reported)
			nulls[3] = !row->leader;
		nulls[4] = nulls[5] = nulls[7] = !row->reported;
		nulls[6] = elector_row_lag(row, leader_lsn) < 0;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
elector_lease_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ElectorLeaseStatus lease;
	ElectorTime now = elector_now();
	Datum		values[6];
	bool		nulls[6] = {false};
	char		id[32];

	need_library();
	InitMaterializedSRF(fcinfo, 0);
	LWLockAcquire(elector_shared->lock, LW_SHARED);
	lease = elector_shared->lease;
	LWLockRelease(elector_shared->lock);
	if (lease.id == 0)
		return (Datum) 0;

	snprintf(id, sizeof(id), "%llx", (unsigned long long) lease.id);
	values[0] = CStringGetTextDatum(id);
	values[1] = Int64GetDatum(lease.ttl_ms);
	values[2] = Int64GetDatum(lease.deadline > now ? (lease.deadline - now) / 1000 : 0);
	values[3] = Int64GetDatum(lease.renewals);
	values[4] = Int64GetDatum(lease.failures);
	values[5] = Float8GetDatum(lease.rtt_us / 1000.0);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	return (Datum) 0;
}

static bool
is_in_rule(const ElectorCommitRule *rule, const char *node)
{
	for (int i = 0; i < rule->nmembers; i++)
	{
		if (strcmp(rule->members[i].node, node) == 0)
			return true;
	}
	return false;
}

Datum
elector_durability_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ElectorDurability *record = palloc(sizeof(ElectorDurability));
	ElectorStatusRow *rows = palloc(sizeof(ElectorStatusRow) * ELECTOR_MEMBERS_MAX);
	char		missing[ELECTOR_TEXT_SIZE];
	ElectorReport own;
	XLogRecPtr	leader_lsn;
	bool		safe;
	int			nrows;

	need_library();
	InitMaterializedSRF(fcinfo, 0);
	(void) ask_worker(ELECTOR_CALL_REFRESH, "", 1000, "ask the other nodes");
	LWLockAcquire(elector_shared->lock, LW_SHARED);
	*record = elector_shared->durability;
	safe = elector_shared->safe;
	strlcpy(missing, elector_shared->missing, sizeof(missing));
	nrows = elector_shared->nrows;
	memcpy(rows, elector_shared->rows, sizeof(ElectorStatusRow) * nrows);
	LWLockRelease(elector_shared->lock);

	elector_report_self(&own);
	leader_lsn = elector_rows_complete(rows, nrows, &own);
	for (int i = 0; i < nrows; i++)
	{
		const ElectorStatusRow *row = &rows[i];
		Datum		values[9];
		bool		nulls[9] = {false};

		values[0] = CStringGetTextDatum(record->present ? record->rule.policy : "async");
		values[1] = text_or_null(record->changing ? record->next.policy : "", &nulls[1]);
		values[2] = BoolGetDatum(record->degraded);
		values[3] = BoolGetDatum(safe && !record->degraded);
		nulls[3] = !record->degraded &&
			(!record->present || (!record->changing && elector_policy_is_async(record->rule.policy)));
		values[4] = text_or_null(missing, &nulls[4]);
		values[5] = CStringGetTextDatum(row->member.node);
		values[6] = CStringGetTextDatum(row->member.durability);
		values[7] = BoolGetDatum(is_in_rule(&record->rule, row->member.node) ||
								 (record->changing && is_in_rule(&record->next, row->member.node)));
		values[8] = Int64GetDatum(elector_row_lag(row, leader_lsn));
		nulls[8] = elector_row_lag(row, leader_lsn) < 0;
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}

Datum
elector_history_rows(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	ElectorHistory *entries;
	int			count;

	need_library();
	InitMaterializedSRF(fcinfo, 0);
	entries = palloc(sizeof(ElectorHistory) * ELECTOR_HISTORY_MAX);
	LWLockAcquire(elector_shared->lock, LW_SHARED);
	count = elector_shared->nhistory;
	memcpy(entries, elector_shared->history, sizeof(ElectorHistory) * count);
	LWLockRelease(elector_shared->lock);

	for (int i = 0; i < count; i++)
	{
		const ElectorHistory *entry = &entries[i];
		const int32 phases[] = {elector_history_pause(entry), entry->notice_ms, entry->lock_ms,
			entry->revoke_ms, entry->choose_ms, entry->establish_ms, entry->promote_ms,
		entry->open_ms};
		Datum		values[13 + lengthof(phases)];
		bool		nulls[13 + lengthof(phases)] = {false};

		values[0] = Int64GetDatum((int64) entry->term);
		values[1] = CStringGetTextDatum(entry->node);
		values[2] = CStringGetTextDatum(entry->elector);
		values[3] = Int32GetDatum((int32) entry->timeline);
		values[4] = LSNGetDatum(entry->lsn);
		nulls[4] = entry->lsn == InvalidXLogRecPtr;
		values[5] = CStringGetTextDatum(entry->reason);
		values[6] = CStringGetTextDatum(entry->revoked);
		values[7] = text_or_null(entry->note, &nulls[7]);
		values[8] = time_or_null(entry->began_at, &nulls[8]);
		values[9] = time_or_null(entry->opened_at, &nulls[9]);
		values[10] = text_or_null(entry->blocked, &nulls[10]);
		values[11] = time_or_null(entry->blocked_at, &nulls[11]);
		values[12] = time_or_null(entry->blocked_until, &nulls[12]);
		for (int phase = 0; phase < lengthof(phases); phase++)
		{
			values[13 + phase] = Int32GetDatum(phases[phase]);
			nulls[13 + phase] = phases[phase] < 0;
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
