/*
 * publish.c
 *	  From what the elector knows to what elector_status shows.
 */
#include "worker.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "utils/timestamp.h"

#include "core/failsafe.h"
#include "facts.h"
#include "standby.h"
#include "store.h"

/* Followers come back within this time after a short interruption. */
#define TOO_FEW_GRACE ((ElectorTime) 3 * 1000000)

static const char *
time_text(int64 milliseconds)
{
	return pstrdup(timestamptz_to_str((milliseconds - (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) *
									   SECS_PER_DAY * 1000) * 1000));
}

/* What the operator has set, and may have forgotten. */
static void
describe_operator(const ElectorCluster *cluster, const ElectorView *view, char *detail)
{
	const ElectorClusterSettings *settings = &cluster->settings;
	const ElectorRequest *request = &cluster->request;
	int			hold = view->gate_open ?
	elector_find_hold(settings, view->leader.term, view->wall_ms, 0) : -1;

	if (settings->paused)
		snprintf(detail, ELECTOR_TEXT_SIZE, "the cluster is paused until elector_resume(), by \"%s\" at %s%s%.100s",
				 settings->paused_by, time_text(settings->paused_at),
				 settings->pause_reason[0] != '\0' ? ": " : "", settings->pause_reason);
	else if (hold >= 0)
		snprintf(detail, ELECTOR_TEXT_SIZE, "hold " INT64_FORMAT " of %s until %s: %.100s",
				 settings->holds[hold].id, settings->holds[hold].node,
				 time_text(settings->holds[hold].until), settings->holds[hold].reason);
	else if (view->gate_open && request->present && request->refused[0] == '\0' &&
			 request->at > view->wall_ms)
		snprintf(detail, ELECTOR_TEXT_SIZE, "a switchover%s%s is scheduled for %s",
				 request->target[0] != '\0' ? " to " : "", request->target,
				 time_text(request->at));
	else if (view->gate_open && request->present && request->refused[0] != '\0' &&
			 request->at != 0 && request->term == view->leader.term)
		snprintf(detail, ELECTOR_TEXT_SIZE, "the switchover scheduled for %s came to nothing: %.140s",
				 time_text(request->at), request->refused);
}

/* Since when commits wait for followers that are not there; 0: they do not. */
static ElectorTime
too_few_since(void)
{
	const Elector *elector = &elector_worker->elector;
	ElectorTime since = elector->unserved_since;

	return elector->gate_open && since != 0 && elector->view.now >= since + TOO_FEW_GRACE &&
		elector->view.durability.present &&
		!elector_policy_is_async(elector->view.durability.rule.policy) ? since : 0;
}

/* One line in the log when what everybody feels begins and ends. */
static void
note_service(const ElectorView *view)
{
	static bool closed = false;
	static bool waiting = false;
	bool		is_closed = view->gate_open && view->now >= view->deadline;
	bool		is_waiting = too_few_since() != 0;

	if (is_closed != closed && view->gate_open)
		ereport(is_closed ? WARNING : LOG,
				(is_closed ?
				 errmsg("writes are refused until etcd has confirmed the lease of term " UINT64_FORMAT " again",
						view->leader.term) :
				 errmsg("writes are taken again")));
	if (is_waiting != waiting && view->gate_open)
	{
		if (is_waiting)
			ereport(WARNING,
					(errmsg("commits wait: too few followers for durability policy \"%s\"",
							view->durability.rule.policy),
					 errhint("Start one of those that are missing; elector_durability shows which. To go on with less, see pg_elector.durability and pg_elector.too_few_followers.")));
		else
			ereport(LOG,
					(errmsg("commits wait no longer: enough followers for durability policy \"%s\"",
							view->durability.rule.policy)));
	}
	closed = is_closed;
	waiting = is_waiting;
}

/* What is in force is not what this node has set. */
static void
describe_durability(const ElectorView *view, char *detail)
{
	const ElectorDurability *record = &view->durability;
	const char *in_force = record->present ? record->rule.policy : "async";

	if (!view->known)
		return;
	if (too_few_since() != 0)
		snprintf(detail, ELECTOR_TEXT_SIZE,
				 "commits wait for followers, of which \"%s\" needs more: start one, or see pg_elector.durability and pg_elector.too_few_followers",
				 in_force);
	else if (record->degraded)
		snprintf(detail, ELECTOR_TEXT_SIZE,
				 "too few followers: commits are acknowledged by the leader alone, not as \"%s\" wants",
				 view->policy);
	else if (strcmp(in_force, view->policy) != 0 && !record->changing)
		snprintf(detail, ELECTOR_TEXT_SIZE,
				 view->policy_agreed ?
				 "durability \"%s\" is in force, \"%s\" when enough members follow" :
				 "durability \"%s\" is in force, \"%s\" when all members that are there have it",
				 in_force, view->policy);
}

/* The lease has ended, and somebody has promised nothing. */
static void
describe_closed(const ElectorView *view, char *detail)
{
	const char *error = elector_worker->elector.error;
	char		missing[ELECTOR_NAME_SIZE];
	bool		promise;

	elector_failsafe_missing(view, missing, sizeof(missing));
	promise = view->asked.present && missing[0] != '\0';
	snprintf(detail, ELECTOR_TEXT_SIZE,
			 "takes no writes until etcd has confirmed its lease again%s%s%s%s%.100s",
			 promise ? ", or enough members promise to elect nobody else (not yet: " : "",
			 promise ? missing : "", promise ? ")" : "", error[0] != '\0' ? ": " : "", error);
}

/* What this node waits for, or what is wrong with it. */
static void
describe(const ElectorPlan *plan, const ElectorView *view, char *detail)
{
	char		problem[ELECTOR_TEXT_SIZE];
	ElectorTime age;

	detail[0] = '\0';
	if (view->gate_open && view->now >= view->deadline)
		describe_closed(view, detail);
	else if (elector_worker->elector.failsafe_since != 0)
		snprintf(detail, ELECTOR_TEXT_SIZE,
				 "leads by the members' promises since %s, when etcd did not confirm its lease%s%.120s",
				 time_text(elector_worker->elector.failsafe_since_ms),
				 elector_worker->elector.error[0] != '\0' ? ": " : "", elector_worker->elector.error);
	else if (!view->known && elector_worker->elector.error[0] != '\0')
		strlcpy(detail, elector_worker->elector.error, ELECTOR_TEXT_SIZE);
	else if (elector_standby_unloadable())
		strlcpy(detail, "the configuration cannot be loaded; see this node's log",
				ELECTOR_TEXT_SIZE);
	else if (view->recovering && view->upstream_term != 0 &&
			 plan->reason == ELECTOR_BECAUSE_FOLLOWING)
	{
		if (!WalRcvStreaming() && recovery_min_apply_delay > 0)
			snprintf(detail, ELECTOR_TEXT_SIZE,
					 "replays what it has before it streams from \"%s\" (recovery_min_apply_delay)",
					 view->leader.node);
		else if (!WalRcvStreaming())
			snprintf(detail, ELECTOR_TEXT_SIZE,
					 "cannot stream from \"%s\" yet; see this node's log if it lasts",
					 view->leader.node);
	}
	else if (plan->reason == ELECTOR_BECAUSE_REJOIN_FAILED &&
			 elector_store_read_problem(problem, sizeof(problem), &age))
		snprintf(detail, ELECTOR_TEXT_SIZE, "could not rejoin: %.200s", problem);
	else if (plan->reason == ELECTOR_BECAUSE_COMMITS_MISSING && plan->target >= 0)
		snprintf(detail, ELECTOR_TEXT_SIZE,
				 "acknowledged commits may be on \"%s\", which does not answer; if it is gone for good, see elector_failover()",
				 view->peers[plan->target].node);
	else if (plan->reason == ELECTOR_BECAUSE_MAY_BE_PROMISED && plan->target >= 0)
		snprintf(detail, ELECTOR_TEXT_SIZE,
				 "\"%s\" may go on without etcd, by a promise of \"%s\", which does not answer; if \"%s\" is gone for good, see elector_remove_member()",
				 view->term.node, view->peers[plan->target].node, view->term.node);
	else if (plan->reason != ELECTOR_BECAUSE_LEADING &&
			 plan->reason != ELECTOR_BECAUSE_DURABILITY &&
			 plan->reason != ELECTOR_BECAUSE_SCHEDULED &&
			 plan->reason != ELECTOR_BECAUSE_PAUSED &&
			 plan->reason != ELECTOR_BECAUSE_FOLLOWING)
		strlcpy(detail, elector_reason_sentence(plan->reason), ELECTOR_TEXT_SIZE);

	if (detail[0] != '\0')
		return;
	if (elector_worker->elector.server.disk_stuck)
		strlcpy(detail, "the disk of this node does not take a write, so that it is no candidate; see its log",
				ELECTOR_TEXT_SIZE);
	else if (elector_worker->elector.server.wal_full)
		strlcpy(detail, "there is no room for WAL on this node",
				ELECTOR_TEXT_SIZE);
	else if (recovery_min_apply_delay > 0 && elector_candidate)
		strlcpy(detail, "recovery_min_apply_delay is set on a candidate: elections wait for it; set pg_elector.candidate = off",
				ELECTOR_TEXT_SIZE);
	else if (elector_worker->access_error[0] != '\0')
		strlcpy(detail, elector_worker->access_error, ELECTOR_TEXT_SIZE);
	else if (elector_pgbouncer_problem(detail, ELECTOR_TEXT_SIZE))
		return;
	else if (!DataChecksumsEnabled() && !wal_log_hints &&
			 elector_rejoin != ELECTOR_REJOIN_OFF)
		strlcpy(detail, "wal_log_hints is off and there are no data checksums: cannot be rewound when it has to rejoin",
				ELECTOR_TEXT_SIZE);
	else if (!EnableHotStandby)
		strlcpy(detail, "hot_standby is off: cannot be asked anything while it follows",
				ELECTOR_TEXT_SIZE);
	else
		describe_operator(elector_worker->elector.cluster, view, detail);
	if (detail[0] == '\0')
		describe_durability(view, detail);
	if (detail[0] == '\0' && elector_slots_problem()[0] != '\0')
		snprintf(detail, ELECTOR_TEXT_SIZE, "not every member has a replication slot on this node: %s",
				 elector_slots_problem());
}

static void
describe_lease(ElectorLeaseStatus *status, const ElectorLease *lease)
{
	status->id = lease->id;
	status->ttl_ms = lease->ttl / 1000;
	status->deadline = lease->deadline;
	status->renewals = lease->renewals;
	status->failures = lease->failures;
	status->rtt_us = lease->rtt_us;
}

/* A node that has never reached etcd is not among the members that it knows. */
static void
describe_own_row(ElectorShared *shared, const ElectorSettings *settings)
{
	ElectorStatusRow *row = &shared->rows[shared->nrows];

	for (int i = 0; i < shared->nrows; i++)
	{
		if (strcmp(shared->rows[i].member.node, settings->node) == 0)
			return;
	}
	if (shared->nrows == ELECTOR_MEMBERS_MAX)
		return;
	memset(row, 0, sizeof(*row));
	strlcpy(row->member.node, settings->node, sizeof(row->member.node));
	strlcpy(row->member.zone, settings->zone, sizeof(row->member.zone));
	row->member.priority = settings->priority;
	shared->nrows++;
}

static void
describe_rows(ElectorShared *shared)
{
	Elector    *elector = &elector_worker->elector;
	const ElectorCluster *cluster = elector->cluster;

	shared->nrows = 0;
	for (int i = 0; i < cluster->nnodes; i++)
	{
		ElectorStatusRow *row = &shared->rows[shared->nrows];
		ElectorSaid *said;

		if (!cluster->nodes[i].member.present)
			continue;
		memset(row, 0, sizeof(*row));
		row->member = cluster->nodes[i].member;
		row->alive = cluster->nodes[i].alive.present;
		row->leader = cluster->leader.present &&
			strcmp(cluster->leader.node, row->member.node) == 0;
		row->leader_term = cluster->leader.term;
		said = elector_said(elector, row->member.node);
		if (said != NULL)
		{
			ElectorTime silent_since = elector_peers_silent_since(row->member.node);

			/* A question that has just been asked is no silence yet. */
			row->report = said->report;
			row->reported = row->report.present &&
				(silent_since == 0 ||
				 (elector_peers_error(row->member.node)[0] == '\0' &&
				  elector_now() < silent_since + (ElectorTime) elector_fence_timeout * 1000));
		}
		if (said != NULL && said->misled_since != 0)
			snprintf(row->report.detail, sizeof(row->report.detail),
					 "pg_elector.conninfo of \"%s\" leads to \"%s\"",
					 row->member.node, said->misled_to);
		else if (!row->reported)
			strlcpy(row->report.detail, elector_peers_error(row->member.node),
					sizeof(row->report.detail));
		shared->nrows++;
	}
	describe_own_row(shared, &elector->settings);
}

/* Of whichever lease, and over the loss of one. */
static void
count_renewals(ElectorRenewals *all)
{
	static ElectorLease seen[ELECTOR_LEASES];

	for (int kind = 0; kind < ELECTOR_LEASES; kind++)
	{
		const ElectorLease *lease = &elector_worker->elector.leases[kind];
		int64		renewals = lease->renewals;
		int64		failures = lease->failures;

		if (lease->id == seen[kind].id)
		{
			renewals -= seen[kind].renewals;
			failures -= seen[kind].failures;
		}
		all->renewals += renewals;
		all->failures += failures;
		all->rtt_us += renewals * lease->rtt_us;
		seen[kind] = *lease;
	}
}

/* The announcer sees by itself when a gate closes by the clock. */
static void
tell_announcer(const char *leader, uint64 term)
{
	static char told_leader[ELECTOR_NAME_SIZE] = "";
	static uint64 told_term = 0;
	static bool told_open = false;
	bool		open = elector_gate_is_open();

	if (open == told_open && term == told_term && strcmp(leader, told_leader) == 0)
		return;
	told_open = open;
	told_term = term;
	strlcpy(told_leader, leader, sizeof(told_leader));
	elector_wake_announcer();
}

void
elector_publish(void)
{
	ElectorWorker *worker = elector_worker;
	Elector    *elector = &worker->elector;
	const ElectorView *view = &elector->view;
	const ElectorPlan *plan = &elector->plan;
	ElectorShared *shared = elector_shared;
	ElectorReport *self = &shared->self;
	char		detail[ELECTOR_TEXT_SIZE];
	static uint64 published_changes = 0;
	const char *state = elector_reason_name(plan->reason);

	note_service(view);
	describe(plan, view, detail);
	detail[pg_encoding_mbcliplen(PG_UTF8, detail, strlen(detail), strlen(detail))] = '\0';
	if (view->gate_open && view->now >= view->deadline)
		state = "closed";
	else if (plan->reason == ELECTOR_BECAUSE_FOLLOWING)
		state = WalRcvStreaming() ? "streaming" : "connecting";

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	elector_facts_begin();
	strlcpy(self->state, state, sizeof(self->state));
	strlcpy(self->detail, detail, sizeof(self->detail));
	self->term = view->gate_open ? view->leader.term :
		view->upstream_term != 0 ? view->upstream_term : view->state.term;
	self->remembered = elector->remembered;
	self->candidate = elector->settings.candidate;
	self->full = elector->server.wal_full;
	shared->term = view->term.term;
	shared->leader_end = elector->leader_end;
	shared->leader_told_at = elector->leader_told_at;
	count_renewals(&shared->renewals);
	strlcpy(shared->leader, view->leader.present ? view->leader.node : "",
			sizeof(shared->leader));
	describe_lease(&shared->lease,
				   &elector->leases[elector->leases[ELECTOR_LEASE_LEADER].id != 0 || view->gate_open ?
									ELECTOR_LEASE_LEADER : ELECTOR_LEASE_ALIVE]);
	describe_rows(shared);
	strlcpy(shared->etcd_token, elector_etcd_token(worker->etcd), sizeof(shared->etcd_token));
	shared->durability = view->durability;
	shared->settings = elector->cluster->settings;
	shared->known = elector->watching && elector->unreachable_since == 0;
	shared->leader_term = view->leader.present ? view->leader.term : 0;
	shared->safe = elector_durability_safe(view, shared->missing, sizeof(shared->missing));
	if (published_changes != worker->mirror.changes)
	{
		shared->nhistory = worker->mirror.nhistory;
		memcpy(shared->history, worker->mirror.history,
			   sizeof(ElectorHistory) * worker->mirror.nhistory);
		published_changes = worker->mirror.changes;
	}
	elector_facts_end();
	LWLockRelease(shared->lock);
	tell_announcer(shared->leader, shared->term);
}
