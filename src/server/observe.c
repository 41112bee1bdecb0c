/*
 * observe.c
 *	  From what the worker knows to the view that is decided from, and to what
 *	  elector_status shows.
 *
 * elector_observe() reads and remembers, and does nothing else: no request is
 * sent and no process is signaled from here.
 */
#include "worker.h"

#include <sys/time.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"

#include "standby.h"
#include "store.h"

/* The entry for what a member said, made if need be. */
int
elector_said_index(const char *node)
{
	ElectorWorker *worker = elector_worker;

	for (int i = 0; i < worker->nsaid; i++)
	{
		if (strcmp(worker->said[i].node, node) == 0)
			return i;
	}
	if (worker->nsaid == ELECTOR_MEMBERS_MAX)
	{
		/* Members came and went; those that are gone make room. */
		for (int i = worker->nsaid - 1; i >= 0; i--)
		{
			if (elector_mirror_node(&worker->mirror, worker->said[i].node) == NULL)
				worker->said[i] = worker->said[--worker->nsaid];
		}
		if (worker->nsaid == ELECTOR_MEMBERS_MAX)
			return -1;
	}
	memset(&worker->said[worker->nsaid], 0, sizeof(worker->said[0]));
	strlcpy(worker->said[worker->nsaid].node, node, ELECTOR_NAME_SIZE);
	return worker->nsaid++;
}

void
elector_forget_answers(void)
{
	for (int i = 0; i < elector_worker->nsaid; i++)
	{
		memset(&elector_worker->said[i].answer, 0, sizeof(ElectorAnswer));
		elector_worker->said[i].passed_over = false;
	}
}

static void
observe_server(ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	view->recovering = RecoveryInProgress();
	if (view->recovering)
	{
		TimeLineID	timeline = 0;

		view->frozen = elector_standby_frozen();
		view->position.lsn = GetXLogReplayRecPtr(&timeline);
		view->position.timeline = timeline;
		view->upstream_term = pg_atomic_read_u64(&elector_shared->upstream_term);
	}
	else
	{
		if (worker->promoted_at == 0 && worker->leader_revision != 0)
			worker->promoted_at = view->now;
		view->position.timeline = GetWALInsertionTimeLine();
		view->position.lsn = GetFlushRecPtr(NULL);
	}
	view->gate_open = worker->gate_open;
	view->stopping = worker->stopping;
	view->rejoin_after = worker->rejoin_after;
}

static void
observe_etcd(ElectorView *view)
{
	ElectorWorker *worker = elector_worker;
	ElectorMirror *mirror = &worker->mirror;
	ElectorNode *self = elector_mirror_node(mirror, elector_node);
	ElectorAlive *alive = self != NULL && self->alive.present ? &self->alive : NULL;

	view->known = worker->watching && mirror->complete && !worker->acting &&
		worker->written <= mirror->revision;
	view->leader = mirror->leader;
	view->election = mirror->election;
	view->term = mirror->term;
	view->request = mirror->request;

	view->refusal = ELECTOR_REFUSAL_NONE;
	if (mirror->system != 0 && mirror->system != GetSystemIdentifier())
		view->refusal = ELECTOR_REFUSAL_SYSTEM;
	else if (alive != NULL && strcmp(alive->instance, view->instance) != 0 &&
			 (worker->predecessor[0] == '\0' ||
			  strcmp(alive->instance, worker->predecessor) != 0))
		view->refusal = ELECTOR_REFUSAL_NODE;
	else if (self == NULL && mirror->nnodes == ELECTOR_MEMBERS_MAX)
		view->refusal = ELECTOR_REFUSAL_FULL;

	view->registered = alive != NULL && worker->alive.id != 0 &&
		alive->lease == worker->alive.id &&
		strcmp(alive->instance, view->instance) == 0 &&
		self->member.present &&
		strcmp(self->member.conninfo, elector_conninfo) == 0 &&
		strcmp(self->member.zone, elector_zone) == 0 &&
		self->member.candidate == elector_candidate &&
		self->member.priority == elector_priority;

	if (!view->known)
		return;
	if (mirror->leader.present)
	{
		worker->gone_since = 0;
		worker->seen_term = mirror->leader.term;
	}
	else if (worker->gone_since == 0)
		worker->gone_since = view->now;
}

static void
observe_peers(ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	view->self = -1;
	view->establishing = -1;
	for (int i = 0; i < worker->mirror.nnodes; i++)
	{
		ElectorNode *node = &worker->mirror.nodes[i];
		ElectorPeerView *peer = &view->peers[view->npeers];
		int			said = elector_said_index(node->member.node);

		if (!node->member.present || said < 0)
			continue;
		strlcpy(peer->node, node->member.node, sizeof(peer->node));
		peer->alive = node->alive.present;
		peer->silent_since = elector_peers_silent_since(peer->node);
		peer->answer = worker->said[said].answer;
		peer->passed_over = worker->said[said].passed_over;
		peer->reported_at = worker->said[said].reported_at;
		peer->following = worker->said[said].report.streaming &&
			worker->said[said].report.term == view->leader.term;
		peer->candidate = worker->said[said].report.candidate;
		peer->priority = worker->said[said].report.priority;
		peer->position.timeline = worker->said[said].report.timeline;
		peer->position.lsn = worker->said[said].report.lsn;
		if (strcmp(peer->node, elector_node) == 0)
			view->self = view->npeers;
		if (strcmp(peer->node, worker->establishing) == 0)
			view->establishing = view->npeers;
		view->npeers++;
	}
}

void
elector_observe(ElectorView *view, ElectorTime now)
{
	ElectorWorker *worker = elector_worker;
	struct timeval wall;

	memset(view, 0, sizeof(*view));
	gettimeofday(&wall, NULL);
	view->now = now;
	view->wall_ms = (int64) wall.tv_sec * 1000 + wall.tv_usec / 1000;

	strlcpy(view->node, elector_node, sizeof(view->node));
	view->lease_ttl = (ElectorTime) elector_lease_ttl * 1000000;
	view->fence_timeout = (ElectorTime) elector_fence_timeout * 1000;
	view->cold_start_wait = (ElectorTime) elector_cold_start_wait * 1000;
	view->failover_cooldown = (ElectorTime) elector_failover_cooldown * 1000;
	view->maximum_lag = elector_maximum_lag < 0 ? -1 :
		(int64) elector_maximum_lag * 1024;
	view->candidate = elector_candidate;
	view->priority = elector_priority;
	view->may_rejoin = elector_rejoin != ELECTOR_REJOIN_OFF;
	view->may_clone = elector_rejoin == ELECTOR_REJOIN_CLONE;

	strlcpy(view->instance, elector_shared->instance, sizeof(view->instance));
	strlcpy(view->predecessor, worker->predecessor, sizeof(view->predecessor));
	view->state = worker->state;
	view->started_at = worker->started_at;

	observe_server(view);
	observe_etcd(view);

	view->deadline = worker->leader.deadline;
	view->leading_since = worker->leading_since;
	view->ordered = worker->ordered;
	view->order_term = worker->order.term;
	view->order_token = worker->order.token;

	view->gone_since = worker->gone_since;
	view->warm = view->term.present && worker->seen_term == view->term.term;
	view->lease_gone = view->term.present &&
		worker->gone_lease == view->term.lease && view->term.lease != 0;
	view->lease_checked_at = worker->lease_checked_at;
	view->last_second_since = view->leader.present &&
		worker->last_second_lease == view->leader.lease ?
		worker->last_second_since : 0;

	view->lock_since = worker->lock_since;
	view->fence_term = worker->fence_term;
	view->fence_since = worker->fence_since;
	view->raises = worker->raises;
	view->establish_since = worker->establish_since;
	view->backoff_until = worker->backoff_until;
	view->handover = worker->handover;

	observe_peers(view);
}

/* --- what people see --- */

/* What this node waits for, or what is wrong with it. */
static void
describe(const ElectorPlan *plan, const ElectorView *view, char *detail)
{
	char		problem[ELECTOR_TEXT_SIZE];
	ElectorTime age;

	detail[0] = '\0';
	if (view->gate_open && view->now >= view->deadline)
		snprintf(detail, ELECTOR_TEXT_SIZE,
				 "takes no writes until etcd has confirmed its lease again%s%.150s",
				 elector_worker->error[0] != '\0' ? ": " : "", elector_worker->error);
	else if (!view->known && elector_worker->error[0] != '\0')
		strlcpy(detail, elector_worker->error, ELECTOR_TEXT_SIZE);
	else if (view->recovering && view->upstream_term != 0 &&
			 plan->reason == ELECTOR_BECAUSE_FOLLOWING)
	{
		if (!WalRcvStreaming())
			snprintf(detail, ELECTOR_TEXT_SIZE,
					 "cannot stream from \"%s\" yet; see this node's log if it lasts",
					 view->leader.node);
	}
	else if (plan->reason == ELECTOR_BECAUSE_REJOIN_FAILED &&
			 elector_store_read_problem(problem, sizeof(problem), &age))
		snprintf(detail, ELECTOR_TEXT_SIZE, "could not rejoin: %.200s", problem);
	else if (plan->reason != ELECTOR_BECAUSE_LEADING &&
			 plan->reason != ELECTOR_BECAUSE_FOLLOWING)
		strlcpy(detail, elector_reason_sentence(plan->reason), ELECTOR_TEXT_SIZE);

	if (detail[0] != '\0')
		return;
	if (elector_worker->access_error[0] != '\0')
		strlcpy(detail, elector_worker->access_error, ELECTOR_TEXT_SIZE);
	else if (!DataChecksumsEnabled() && !wal_log_hints &&
			 elector_rejoin != ELECTOR_REJOIN_OFF)
		strlcpy(detail, "wal_log_hints is off and there are no data checksums: cannot be rewound when it has to rejoin",
				ELECTOR_TEXT_SIZE);
	else if (!EnableHotStandby)
		strlcpy(detail, "hot_standby is off: cannot be asked anything while it follows",
				ELECTOR_TEXT_SIZE);
}

static void
describe_rows(ElectorShared *shared)
{
	ElectorWorker *worker = elector_worker;
	ElectorMirror *mirror = &worker->mirror;

	shared->nrows = 0;
	for (int i = 0; i < mirror->nnodes; i++)
	{
		ElectorStatusRow *row = &shared->rows[shared->nrows];
		int			said;

		if (!mirror->nodes[i].member.present)
			continue;
		memset(row, 0, sizeof(*row));
		row->member = mirror->nodes[i].member;
		row->alive = mirror->nodes[i].alive.present;
		row->leader = mirror->leader.present &&
			strcmp(mirror->leader.node, row->member.node) == 0;
		row->leader_term = mirror->leader.term;
		said = elector_said_index(row->member.node);
		if (said >= 0)
		{
			ElectorTime silent_since = elector_peers_silent_since(row->member.node);

			/* A question that has just been asked is no silence yet. */
			row->report = worker->said[said].report;
			row->reported = row->report.present &&
				(silent_since == 0 ||
				 (elector_peers_error(row->member.node)[0] == '\0' &&
				  elector_now() < silent_since + (ElectorTime) elector_fence_timeout * 1000));
		}
		if (!row->reported)
			strlcpy(row->report.detail, elector_peers_error(row->member.node),
					sizeof(row->report.detail));
		shared->nrows++;
	}
}

void
elector_publish(const ElectorView *view, const ElectorPlan *plan)
{
	ElectorWorker *worker = elector_worker;
	ElectorShared *shared = elector_shared;
	ElectorReport *self = &shared->self;
	char		detail[ELECTOR_TEXT_SIZE];
	static uint64 published_changes = 0;
	const char *state = elector_reason_name(plan->reason);

	describe(plan, view, detail);
	if (view->gate_open && view->now >= view->deadline)
		state = "closed";
	else if (plan->reason == ELECTOR_BECAUSE_FOLLOWING)
		state = WalRcvStreaming() ? "streaming" : "connecting";

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	strlcpy(self->state, state, sizeof(self->state));
	strlcpy(self->detail, detail, sizeof(self->detail));
	self->term = view->gate_open ? view->leader.term :
		view->upstream_term != 0 ? view->upstream_term : view->state.term;
	shared->term = view->term.term;
	strlcpy(shared->leader, view->leader.present ? view->leader.node : "",
			sizeof(shared->leader));
	shared->lease = worker->leader.id != 0 ? worker->leader.status : worker->alive.status;
	describe_rows(shared);
	if (published_changes != worker->mirror.changes)
	{
		shared->nhistory = worker->mirror.nhistory;
		memcpy(shared->history, worker->mirror.history,
			   sizeof(ElectorHistory) * worker->mirror.nhistory);
		published_changes = worker->mirror.changes;
	}
	LWLockRelease(shared->lock);
}
