/*
 * lead.c
 *	  Leadership: winning it, opening the gate, giving it up.
 *
 * A leadership begins with one transaction, which takes the leader key under a
 * lease of its own, and is opened by another, which records where its timeline
 * begins.  It is given up in the leader's own words where there is somebody to
 * say them: the same transaction deletes the key and writes `released` (S9).
 *
 * The trap: the gate closes first, and commits that had passed it end, before
 * anything says that the leadership is over (I4).
 */
#include "worker.h"

#include <poll.h>
#include <sys/time.h>
#include <unistd.h>

#include "access/xlog.h"
#include "storage/dsm.h"
#include "storage/pg_shmem.h"

#include "act.h"
#include "etcd/json.h"
#include "standby.h"
#include "store.h"

/* A dying server has this long for its last word. */
#define LAST_WILL_BOUND 2000000
#define LAST_WILL_DRAIN 50000

/* --- becoming leader --- */

static void
took(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;
	ElectorLeadership leadership;

	if (!elector_act_happened(reply))
	{
		elector_session_drop_lease(&worker->leader, true);
		return;
	}
	worker->leader_revision = reply->revision;
	worker->leading_since = elector_now();
	worker->promoted_at = 0;

	memset(&leadership, 0, sizeof(leadership));
	strlcpy(leadership.node, elector_node, sizeof(leadership.node));
	strlcpy(leadership.instance, elector_shared->instance, sizeof(leadership.instance));
	leadership.term = worker->order.term;
	leadership.lease = worker->leader.id;
	leadership.create_revision = reply->revision;
	elector_store_write_leadership(&leadership);
}

/* The record of the leadership that begins with the order. */
static void
fill_term(ElectorTerm *term, const ElectorTerm *before, const ElectorOrder *order)
{
	memset(term, 0, sizeof(*term));
	term->present = true;
	term->term = order->term;
	strlcpy(term->node, elector_node, sizeof(term->node));
	strlcpy(term->instance, elector_shared->instance, sizeof(term->instance));
	term->lease = elector_worker->leader.id;
	term->timeline = order->timeline;
	term->opened_term = before->opened_term;
	term->opened_at = before->opened_at;
	term->automatic = order->automatic;

	/* Those since the last one that opened, and this one (S7). */
	for (int i = 0; i < before->nleaders && term->nleaders < ELECTOR_MEMBERS_MAX - 1; i++)
		strlcpy(term->leaders[term->nleaders++], before->leaders[i], ELECTOR_NAME_SIZE);
	strlcpy(term->leaders[term->nleaders++], elector_node, ELECTOR_NAME_SIZE);
}

static void
take_granted(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;
	const ElectorKeys *keys = &worker->mirror.keys;
	const ElectorOrder *order = &worker->order;
	const ElectorTerm *before = &worker->mirror.term;
	ElectorTxn *txn;
	ElectorLeader leader;
	ElectorTerm term;
	ElectorHistory history;
	char		history_key[ELECTOR_KEY_SIZE];

	worker->acting = false;
	elector_session_note(reply);
	if (reply->status != ELECTOR_ETCD_OK || reply->lease == 0)
	{
		elector_worker_poll(50000);
		return;
	}
	elector_session_set_lease(&worker->leader, reply, elector_lease_asked_at);

	memset(&leader, 0, sizeof(leader));
	strlcpy(leader.node, elector_node, sizeof(leader.node));
	strlcpy(leader.instance, elector_shared->instance, sizeof(leader.instance));
	strlcpy(leader.conninfo, elector_conninfo, sizeof(leader.conninfo));
	leader.term = order->term;
	fill_term(&term, before, order);

	memset(&history, 0, sizeof(history));
	history.term = order->term;
	strlcpy(history.node, elector_node, sizeof(history.node));
	strlcpy(history.elector, order->elector, sizeof(history.elector));
	history.timeline = order->timeline;
	strlcpy(history.reason, order->reason, sizeof(history.reason));
	strlcpy(history.revoked, order->revoked, sizeof(history.revoked));
	strlcpy(history.note, order->note, sizeof(history.note));
	history.began_at = elector_wall_ms();
	history.lock_ms = order->lock_ms;
	history.revoke_ms = order->revoke_ms;
	history.establish_ms = history.promote_ms = history.open_ms = -1;

	txn = elector_txn_create();
	elector_txn_if_created(txn, keys->election, order->token);
	elector_txn_if_created(txn, keys->leader, 0);
	elector_txn_if_modified(txn, keys->term, before->present ? before->mod_revision : 0);
	elector_txn_put_record(txn, keys->leader, elector_leader_to_json(&leader), worker->leader.id);
	elector_txn_put_record(txn, keys->term, elector_term_to_json(&term), 0);
	elector_keys_history(keys, order->term, history_key, sizeof(history_key));
	elector_txn_put_record(txn, history_key, elector_history_to_json(&history), 0);
	elector_act_commit(txn, took, NULL);
}

void
elector_act_take(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;
	ElectorOrder *order = &worker->order;

	/* Whatever this node has heard of, the new timeline is above it (I9). */
	if (view->recovering)
		order->timeline = Max(order->timeline,
							  elector_standby_newest_timeline(worker->state.timeline) + 1);
	if (order->timeline > worker->state.timeline ||
		order->timeline != worker->state.allotted)
	{
		worker->state.timeline = Max(order->timeline, worker->state.timeline);
		worker->state.allotted = order->timeline;
		elector_worker_save_state();
	}
	elector_act_grant(elector_lease_ttl, take_granted);
}

void
elector_act_promote(const ElectorView *view)
{
	elector_standby_promote(view->term.timeline);
	elector_worker_poll(10000);
}

static void
opened(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;

	if (!elector_act_happened(reply))
		return;
	worker->gate_open = true;
	worker->fence_stage = ELECTOR_FENCE_IDLE;
	pg_atomic_write_u64(&elector_shared->opened_term, worker->order.term);
	pg_atomic_write_u64(&elector_shared->gate_deadline, worker->leader.deadline);
	ereport(LOG,
			(errmsg("leadership of term " UINT64_FORMAT " is open", worker->order.term),
			 errdetail("This node is the primary of cluster \"%s\" on timeline %u.",
					   elector_cluster, worker->order.timeline)));
}

void
elector_act_open(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;
	const ElectorKeys *keys = &worker->mirror.keys;
	const ElectorMirror *mirror = &worker->mirror;
	ElectorTxn *txn = elector_txn_create();
	ElectorTerm term = view->term;
	ElectorTime now = elector_now();
	char		history_key[ELECTOR_KEY_SIZE];

	if (!worker->state.caught_up)
	{
		worker->state.caught_up = true;
		elector_worker_save_state();
	}
	term.lsn = elector_standby_ancestors(term.timeline, term.ancestors, &term.nancestors);
	term.begun = true;
	term.opened = true;
	term.opened_term = term.term;
	term.opened_at = elector_wall_ms();
	term.nleaders = 1;
	strlcpy(term.leaders[0], elector_node, ELECTOR_NAME_SIZE);

	elector_txn_if_created(txn, keys->leader, view->leader.create_revision);
	elector_txn_put_record(txn, keys->term, elector_term_to_json(&term), 0);
	for (int i = 0; i < mirror->nhistory; i++)
	{
		ElectorHistory history = mirror->history[i];

		if (history.term != term.term)
			continue;
		history.lsn = term.lsn != 0 ? term.lsn : view->position.lsn;
		history.opened_at = term.opened_at;
		history.establish_ms = Max(0, (int32) ((worker->leading_since -
												elector_lease_asked_at) / 1000));
		history.promote_ms = Max(0, (int32) ((worker->promoted_at -
											  worker->leading_since) / 1000));
		history.open_ms = Max(0, (int32) ((now - worker->promoted_at) / 1000));
		elector_keys_history(keys, term.term, history_key, sizeof(history_key));
		elector_txn_put_record(txn, history_key, elector_history_to_json(&history), 0);
	}
	if (view->election.present && view->election.create_revision == worker->order.token)
	{
		elector_txn_if_created(txn, keys->election, worker->order.token);
		elector_txn_delete(txn, keys->election);
	}
	if (view->request.present && view->request.term < term.term)
		elector_txn_delete(txn, keys->request);
	elector_act_commit(txn, opened, NULL);
}

/* --- giving leadership up --- */

/* Fill in the term record that says the leader's own word (S9, S14). */
static bool
released_term(ElectorTerm *term, uint64 led)
{
	*term = elector_worker->mirror.term;
	if (!term->present || term->term != led || term->released)
		return false;
	term->released = true;
	memset(&term->released_at, 0, sizeof(term->released_at));
	term->heir[0] = '\0';
	return true;
}

static ElectorTxn *
release_txn(int64 create_revision, uint64 led)
{
	const ElectorKeys *keys = &elector_worker->mirror.keys;
	ElectorTxn *txn = elector_txn_create();
	ElectorTerm term;

	elector_txn_if_created(txn, keys->leader, create_revision);
	elector_txn_delete(txn, keys->leader);
	if (released_term(&term, led))
	{
		elector_txn_if_modified(txn, keys->term, term.mod_revision);
		elector_txn_put_record(txn, keys->term, elector_term_to_json(&term), 0);
	}
	return txn;
}

static void
resigned(void *arg, const ElectorEtcdReply *reply)
{
	if (!elector_act_happened(reply))
		return;
	elector_session_drop_lease(&elector_worker->leader, true);
	elector_worker->ordered = false;
	elector_worker->leading_since = 0;
	elector_store_remove(ELECTOR_LEADERSHIP_FILE);
}

/* Close, let the last commits end, and only then say that it is over. */
void
elector_act_resign(const ElectorView *view)
{
	elector_close_gate();
	if (!elector_gate_drained())
	{
		elector_gate_terminate();
		elector_worker_poll(10000);
		return;
	}
	elector_act_commit(release_txn(view->leader.create_revision, view->leader.term),
		   resigned, NULL);
}

static void
released(void *arg, const ElectorEtcdReply *reply)
{
	if (elector_act_happened(reply))
		elector_etcd_revoke(elector_worker->etcd, *(int64 *) arg,
							elector_session_bound(), elector_act_unheard, NULL);
}

/* First the word, then the lease, which would take the key along without it. */
void
elector_act_release(const ElectorView *view)
{
	static int64 lease;

	lease = view->leader.lease;
	elector_act_commit(release_txn(view->leader.create_revision, view->leader.term),
		   released, &lease);
	elector_store_remove(ELECTOR_LEADERSHIP_FILE);
}

void
elector_act_close(void)
{
	elector_close_gate();
	elector_session_drop_lease(&elector_worker->leader, true);
	elector_worker->ordered = false;
	elector_store_remove(ELECTOR_LEADERSHIP_FILE);
}

/* --- the end --- */

/* Say it to etcd, and be heard or not, within the bound. */
static void
speak(ElectorTime until)
{
	while (elector_etcd_busy(elector_worker->etcd) && elector_now() < until)
	{
		struct pollfd wait = {elector_etcd_fd(elector_worker->etcd), POLLIN, 0};

		poll(&wait, 1, 10);
		elector_etcd_pump(elector_worker->etcd);
	}
}

/*
 * The postmaster is dead.  Close the gate, so that orphaned backends see it;
 * let go of shared memory, so that a new postmaster can start; give up
 * leadership and leases; and end.  After the detach nothing of PostgreSQL may
 * be used but this process's own memory.
 */
void
elector_last_will(void)
{
	ElectorWorker *worker = elector_worker;
	ElectorTime began = elector_now();
	int64		leases[] = {worker->leader.id, worker->election.id, worker->alive.id};
	int64		revision = worker->leader_revision;

	pg_atomic_write_u64(&elector_shared->gate_deadline, 0);
	pg_atomic_write_u64(&elector_shared->read_deadline, 0);
	while (!elector_gate_drained() && elector_now() < began + LAST_WILL_DRAIN)
		poll(NULL, 0, 1);
	dsm_detach_all();
	PGSharedMemoryDetach();

	if (revision != 0)
		elector_etcd_commit(worker->etcd,
							release_txn(revision, worker->mirror.leader.term),
							elector_session_bound(), elector_act_unheard, NULL);
	speak(began + LAST_WILL_BOUND);
	for (int i = 0; i < lengthof(leases); i++)
	{
		if (leases[i] != 0)
			elector_etcd_revoke(worker->etcd, leases[i], elector_session_bound(),
								elector_act_unheard, NULL);
	}
	speak(began + LAST_WILL_BOUND);
	_exit(1);
}
