/*
 * act.c
 *	  From a plan to deeds.
 *
 * One function for each action.  Whatever needs etcd is a transaction that
 * compares what the plan was made from; while it is under way `acting` keeps
 * the next decision waiting, and its outcome comes in by the mirror.
 *
 * The trap: a transaction whose outcome is unknown may have happened.  So such
 * an outcome changes nothing here but loads the mirror anew, and what we then
 * find there decides (our leader key is known by its instance, our lock by its
 * lease).
 */
#include "worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>

#include "access/xlog.h"
#include "common/controldata_utils.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "storage/dsm.h"
#include "storage/pg_shmem.h"

#include "etcd/json.h"
#include "standby.h"
#include "store.h"

/* A checkpoint ahead of a planned stop helps; it is not waited for longer. */
#define CHECKPOINT_BOUND 5000000

/* A dying server has this long for its last word. */
#define LAST_WILL_BOUND 2000000
#define LAST_WILL_DRAIN 50000

/*
 * A write waits for etcd's disk, so it may take longer than a renewal; nothing
 * that is held up by it is open.
 */
#define WRITE_BOUND 1000000

static ElectorTime lease_asked_at;	/* when the grant under way was sent */

static int64
wall_ms(void)
{
	struct timeval wall;

	gettimeofday(&wall, NULL);
	return (int64) wall.tv_sec * 1000 + wall.tv_usec / 1000;
}

/* Put a record and free its JSON. */
static void
put(ElectorTxn *txn, const char *key, char *json, int64 lease)
{
	if (json == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	elector_txn_put(txn, key, json, lease);
	free(json);
}

static void
commit(ElectorTxn *txn, ElectorEtcdCallback callback, void *arg)
{
	elector_worker->acting = true;
	elector_etcd_commit(elector_worker->etcd, txn, WRITE_BOUND, callback, arg);
}

static void
grant(int64 ttl, ElectorEtcdCallback callback)
{
	elector_worker->acting = true;
	lease_asked_at = elector_now();
	elector_etcd_grant(elector_worker->etcd, ttl, WRITE_BOUND, callback, NULL);
}

/* Every callback's first step: did it happen? */
static bool
happened(const ElectorEtcdReply *reply)
{
	elector_worker->acting = false;
	elector_session_note(reply);
	if (reply->status == ELECTOR_ETCD_OK && reply->succeeded)
	{
		if (reply->revision > elector_worker->written)
			elector_worker->written = reply->revision;
		return true;
	}
	elector_session_reload();
	elector_worker_poll(100000);
	return false;
}

static void
simple_outcome(void *arg, const ElectorEtcdReply *reply)
{
	happened(reply);
}

/* For what is said without expecting to be heard. */
static void
last_word(void *arg, const ElectorEtcdReply *reply)
{
}

/* --- membership --- */

static void
register_member(void)
{
	ElectorWorker *worker = elector_worker;
	ElectorMirror *mirror = &worker->mirror;
	ElectorNode *self = elector_mirror_node(mirror, elector_node);
	ElectorTxn *txn = elector_txn_create();
	ElectorMember member;
	ElectorAlive alive;

	if (mirror->system == 0)
	{
		char		system[32];

		snprintf(system, sizeof(system), UINT64_FORMAT, GetSystemIdentifier());
		elector_txn_if_created(txn, mirror->keys.system, 0);
		elector_txn_put(txn, mirror->keys.system, system, 0);
	}

	memset(&member, 0, sizeof(member));
	strlcpy(member.node, elector_node, sizeof(member.node));
	strlcpy(member.conninfo, elector_conninfo, sizeof(member.conninfo));
	strlcpy(member.zone, elector_zone, sizeof(member.zone));
	strlcpy(member.version, ELECTOR_VERSION, sizeof(member.version));
	member.priority = elector_priority;
	member.candidate = elector_candidate;
	put(txn, mirror->keys.member, elector_member_to_json(&member), 0);

	elector_txn_if_created(txn, mirror->keys.alive,
						   self != NULL && self->alive.present ?
						   self->alive.create_revision : 0);
	memset(&alive, 0, sizeof(alive));
	strlcpy(alive.instance, elector_shared->instance, sizeof(alive.instance));
	put(txn, mirror->keys.alive, elector_alive_to_json(&alive), worker->alive.id);
	commit(txn, simple_outcome, NULL);
}

static void
alive_granted(void *arg, const ElectorEtcdReply *reply)
{
	elector_worker->acting = false;
	elector_session_note(reply);
	if (reply->status == ELECTOR_ETCD_OK && reply->lease != 0)
		elector_session_set_lease(&elector_worker->alive, reply, lease_asked_at);
	else
		elector_worker_poll(200000);
}

static void
act_register(void)
{
	ElectorWorker *worker = elector_worker;
	ElectorNode *self = elector_mirror_node(&worker->mirror, elector_node);
	ElectorAlive *alive = self != NULL && self->alive.present ? &self->alive : NULL;

	if (alive != NULL && worker->predecessor[0] != '\0' &&
		strcmp(alive->instance, worker->predecessor) == 0)
	{
		/* Our dead predecessor's (S9); its lease takes its key along. */
		ElectorTxn *txn = elector_txn_create();

		elector_txn_if_created(txn, worker->mirror.keys.alive, alive->create_revision);
		elector_txn_delete(txn, worker->mirror.keys.alive);
		commit(txn, simple_outcome, NULL);
		return;
	}
	if (alive != NULL && strcmp(alive->instance, elector_shared->instance) == 0 &&
		worker->alive.id == 0)
	{
		/* This postmaster's earlier worker granted it. */
		worker->alive.id = alive->lease;
		worker->alive.ttl = (ElectorTime) elector_lease_ttl * 3 * 1000000;
	}
	if (worker->alive.id == 0)
	{
		/* It only says that a node is there, so it may live longer. */
		grant((int64) elector_lease_ttl * 3, alive_granted);
		return;
	}
	register_member();
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
		put(txn, keys->term, elector_term_to_json(&term), 0);
	}
	return txn;
}

static void
resigned(void *arg, const ElectorEtcdReply *reply)
{
	if (!happened(reply))
		return;
	elector_session_drop_lease(&elector_worker->leader, true);
	elector_worker->ordered = false;
	elector_worker->leading_since = 0;
	elector_store_remove(ELECTOR_LEADERSHIP_FILE);
}

/* Close, let the last commits end, and only then say that it is over. */
static void
act_resign(const ElectorView *view)
{
	elector_close_gate();
	if (!elector_gate_drained())
	{
		elector_gate_terminate();
		elector_worker_poll(10000);
		return;
	}
	commit(release_txn(view->leader.create_revision, view->leader.term),
		   resigned, NULL);
}

static void
released(void *arg, const ElectorEtcdReply *reply)
{
	if (happened(reply))
		elector_etcd_revoke(elector_worker->etcd, *(int64 *) arg,
							elector_session_bound(), last_word, NULL);
}

/* First the word, then the lease, which would take the key along without it. */
static void
act_release(const ElectorView *view)
{
	static int64 lease;

	lease = view->leader.lease;
	commit(release_txn(view->leader.create_revision, view->leader.term),
		   released, &lease);
	elector_store_remove(ELECTOR_LEADERSHIP_FILE);
}

static void
act_close(void)
{
	elector_close_gate();
	elector_session_drop_lease(&elector_worker->leader, true);
	elector_worker->ordered = false;
	elector_store_remove(ELECTOR_LEADERSHIP_FILE);
}

/* --- restarting --- */

static void
restart_server(ElectorTodoKind kind, const char *leader, const char *source,
			   uint64 term, int signal)
{
	ElectorTodo todo;

	memset(&todo, 0, sizeof(todo));
	todo.kind = kind;
	strlcpy(todo.node, elector_node, sizeof(todo.node));
	strlcpy(todo.leader, leader, sizeof(todo.leader));
	strlcpy(todo.source, source, sizeof(todo.source));
	todo.term = term;
	elector_store_write_todo(&todo);
	elector_worker->stopping = true;
	kill(PostmasterPid, signal);
}

/*
 * An old primary stops at once: a shutdown checkpoint would be one more record
 * that the new leader does not have.
 */
static void
act_demote(const ElectorView *view)
{
	ElectorState *state = &elector_worker->state;

	elector_close_gate();
	if (view->position.timeline != state->allotted)
	{
		/* Not promoted by an election (S18). */
		state->stray = view->position.timeline;
		state->timeline = Max(state->timeline, state->stray);
		elector_worker_save_state();
	}
	restart_server(ELECTOR_TODO_STANDBY, view->leader.node, "", view->leader.term,
				   SIGQUIT);
}

static void
act_rejoin(const ElectorView *view, ElectorTodoKind kind)
{
	restart_server(kind, view->leader.node, view->leader.conninfo,
				   view->leader.term, SIGINT);
}

static void
act_handover(const ElectorView *view, const ElectorPlan *plan)
{
	ElectorLease *lease = &elector_worker->leader;

	/* Nobody renews while the server stops (L10). */
	elector_etcd_keepalive(elector_worker->etcd, lease->id, elector_session_bound(),
						   simple_outcome, NULL);
	restart_server(ELECTOR_TODO_HANDOVER, view->peers[plan->target].node, "",
				   view->leader.term, SIGINT);
}

/* --- following --- */

static void
act_follow(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	if (view->leader.term >= worker->state.term &&
		(view->leader.term > worker->state.term ||
		 worker->state.token != view->leader.create_revision))
	{
		/* A term that is led is closed to fences (S11). */
		if (!elector_state_counts(&worker->state, view->term.opened_term))
			worker->state.caught_up = false;
		worker->state.term = view->leader.term;
		worker->state.token = view->leader.create_revision;
		elector_worker_save_state();
	}
	if (worker->state.stray != 0)
	{
		worker->state.stray = 0;
		elector_worker_save_state();
	}
	worker->fence_stage = ELECTOR_FENCE_IDLE;
	if (!elector_standby_follow(view->leader.conninfo, view->leader.term))
	{
		elector_worker_poll(10000);
		return;
	}
	worker->leader_end = InvalidXLogRecPtr;
	worker->leader_told_at = 0;
	elector_store_remove(ELECTOR_PROBLEM_FILE);
}

/* --- elections --- */

static void
locked(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;

	if (!happened(reply))
	{
		elector_session_drop_lease(&worker->election, true);
		return;
	}
	worker->lock_since = elector_now();
	worker->token = reply->revision;
	worker->fence_term = 0;
	worker->raises = 0;
	worker->revoked_at = 0;
	worker->establishing[0] = '\0';
	elector_forget_answers();
}

static void
lock_granted(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;
	const ElectorKeys *keys = &worker->mirror.keys;
	ElectorElection election;
	ElectorTxn *txn;
	bool		handover = worker->leader_revision != 0;

	worker->acting = false;
	elector_session_note(reply);
	if (reply->status != ELECTOR_ETCD_OK || reply->lease == 0)
	{
		elector_worker_poll(100000);
		return;
	}
	elector_session_set_lease(&worker->election, reply, lease_asked_at);

	memset(&election, 0, sizeof(election));
	strlcpy(election.node, elector_node, sizeof(election.node));
	strlcpy(election.instance, elector_shared->instance, sizeof(election.instance));
	strlcpy(election.purpose, handover ? "handover" : "election",
			sizeof(election.purpose));
	election.term = worker->mirror.term.term + 1;

	txn = elector_txn_create();
	elector_txn_if_created(txn, keys->election, 0);
	elector_txn_if_created(txn, keys->leader, worker->leader_revision);
	put(txn, keys->election, elector_election_to_json(&election), worker->election.id);
	commit(txn, locked, NULL);
}

static void
act_lock(const ElectorPlan *plan)
{
	elector_worker->lock_reason = plan->reason;
	if (elector_worker->election.id != 0)
		elector_session_drop_lease(&elector_worker->election, true);
	grant(elector_lease_ttl, lock_granted);
}

static void
act_unlock(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;
	ElectorTxn *txn = elector_txn_create();

	/* Back off longer than the others, who saw the same (L1). */
	if (!view->leader.present)
		worker->backoff_until = view->now +
			(ElectorTime) ((1 + 2 * pg_prng_double(&pg_global_prng_state)) *
						   view->fence_timeout);
	elector_txn_if_created(txn, worker->mirror.keys.election, worker->token);
	elector_txn_delete(txn, worker->mirror.keys.election);
	worker->lock_since = 0;
	worker->fence_term = 0;
	worker->establishing[0] = '\0';
	elector_peers_forget(ELECTOR_ASK_FENCE);
	elector_peers_forget(ELECTOR_ASK_ESTABLISH);
	commit(txn, simple_outcome, NULL);
	elector_session_drop_lease(&worker->election, true);
}

static void
lease_checked(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;

	worker->acting = false;
	elector_session_note(reply);
	if (reply->status != ELECTOR_ETCD_OK)
		return;
	if (reply->ttl <= 0)
		worker->gone_lease = worker->checked_lease;
	if (!reply->last_second)
		worker->last_second_lease = 0;
	else if (worker->last_second_lease != worker->checked_lease)
	{
		worker->last_second_lease = worker->checked_lease;
		worker->last_second_since = elector_now();
	}
}

static void
act_check_lease(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	worker->checked_lease = view->leader.present ? view->leader.lease : view->term.lease;
	worker->lease_checked_at = view->now;
	worker->acting = true;
	elector_etcd_timetolive(worker->etcd, worker->checked_lease,
							elector_session_bound(), lease_checked, NULL);
}

/* Its keys go with it, and the watch says so. */
static void
act_expire(const ElectorView *view)
{
	elector_worker->last_second_lease = 0;
	elector_etcd_revoke(elector_worker->etcd, view->leader.lease, WRITE_BOUND,
						last_word, NULL);
}

static void
act_fence(const ElectorView *view, const ElectorPlan *plan)
{
	ElectorWorker *worker = elector_worker;
	ElectorFenceRequest request;
	char		argument[ELECTOR_CALL_SIZE];

	/*
	 * A term above the next one is asked for only while the lock is seen to
	 * be ours and `leader` absent by a read after the answers came (L0).
	 */
	if (worker->fence_term != 0 && worker->raise_checked != worker->fence_term)
	{
		elector_session_reload();
		return;
	}
	if (worker->fence_term != 0)
		worker->raises++;
	worker->raise_checked = 0;
	worker->fence_term = plan->term;
	worker->fence_since = view->now;
	worker->establishing[0] = '\0';
	elector_forget_answers();

	memset(&request, 0, sizeof(request));
	request.term = plan->term;
	request.token = worker->token;
	request.opened_term = view->term.opened_term;
	elector_fence_format(&request, argument, sizeof(argument));
	for (int i = 0; i < view->npeers; i++)
	{
		if (i != view->self)
			elector_peers_ask(view->peers[i].node, ELECTOR_ASK_FENCE, argument);
	}
	worker->fence_self = true;
	elector_fence_begin(view, &request);
}

static const char *
how_revoked(const ElectorView *view)
{
	if (!view->term.present || view->term.opened_term == 0)
		return "none";
	if (view->term.released)
		return view->term.heir[0] != '\0' ? "handed over" : "released";
	for (int i = 0; i < view->npeers; i++)
	{
		if (strcmp(view->peers[i].node, view->term.node) == 0 &&
			view->peers[i].answer.kind == ELECTOR_ANSWER_FENCED &&
			strcmp(view->peers[i].answer.instance, view->term.instance) == 0)
			return "fenced";
	}
	return "lease gone";
}

static void
act_establish(const ElectorView *view, const ElectorPlan *plan)
{
	ElectorWorker *worker = elector_worker;
	const ElectorPeerView *peer = &view->peers[plan->target];
	const ElectorAnswer *answer = &peer->answer;
	ElectorOrder order;
	char		argument[ELECTOR_CALL_SIZE];

	if (worker->establishing[0] != '\0')
		worker->said[elector_said_index(worker->establishing)].passed_over = true;
	strlcpy(worker->establishing, peer->node, sizeof(worker->establishing));
	worker->establish_since = view->now;

	memset(&order, 0, sizeof(order));
	order.term = plan->term;
	order.token = worker->token;
	order.timeline = answer->primary ? view->term.timeline : elector_next_timeline(view);
	strlcpy(order.instance, answer->instance, sizeof(order.instance));
	order.position = answer->position;
	strlcpy(order.elector, elector_node, sizeof(order.elector));
	strlcpy(order.reason, elector_reason_name(worker->lock_reason), sizeof(order.reason));
	strlcpy(order.revoked, how_revoked(view), sizeof(order.revoked));
	if (worker->lock_reason == ELECTOR_BECAUSE_LAST_LEADER_AWAY ||
		(!answer->lag_known && strcmp(peer->node, view->term.node) != 0 &&
		 view->term.opened_term != 0 && !view->term.released))
		snprintf(order.note, sizeof(order.note),
				 "rows may be missing: how far this node was behind the last leader, \"%s\", is not known",
				 view->term.node);
	order.automatic = worker->lock_reason != ELECTOR_BECAUSE_HANDED_OVER &&
		worker->lock_reason != ELECTOR_BECAUSE_FIRST_LEADER;
	order.lock_ms = (worker->lock_since - worker->gone_since) / 1000;
	order.revoke_ms = (view->now - worker->lock_since) / 1000;

	if (plan->target == view->self)
	{
		worker->order = order;
		worker->ordered = true;
		return;
	}
	if (elector_order_format(&order, argument, sizeof(argument)))
		elector_peers_ask(peer->node, ELECTOR_ASK_ESTABLISH, argument);
}

/* --- becoming leader --- */

static void
took(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;
	ElectorLeadership leadership;

	if (!happened(reply))
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
	elector_session_set_lease(&worker->leader, reply, lease_asked_at);

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
	history.began_at = wall_ms();
	history.lock_ms = order->lock_ms;
	history.revoke_ms = order->revoke_ms;
	history.establish_ms = history.promote_ms = history.open_ms = -1;

	txn = elector_txn_create();
	elector_txn_if_created(txn, keys->election, order->token);
	elector_txn_if_created(txn, keys->leader, 0);
	elector_txn_if_modified(txn, keys->term, before->present ? before->mod_revision : 0);
	put(txn, keys->leader, elector_leader_to_json(&leader), worker->leader.id);
	put(txn, keys->term, elector_term_to_json(&term), 0);
	elector_keys_history(keys, order->term, history_key, sizeof(history_key));
	put(txn, history_key, elector_history_to_json(&history), 0);
	commit(txn, took, NULL);
}

static void
act_take(const ElectorView *view)
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
	grant(elector_lease_ttl, take_granted);
}

static void
act_promote(const ElectorView *view)
{
	elector_standby_promote(view->term.timeline);
	elector_worker_poll(10000);
}

static void
opened(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;

	if (!happened(reply))
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

static void
act_open(const ElectorView *view)
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
	term.opened_at = wall_ms();
	term.nleaders = 1;
	strlcpy(term.leaders[0], elector_node, ELECTOR_NAME_SIZE);

	elector_txn_if_created(txn, keys->leader, view->leader.create_revision);
	put(txn, keys->term, elector_term_to_json(&term), 0);
	for (int i = 0; i < mirror->nhistory; i++)
	{
		ElectorHistory history = mirror->history[i];

		if (history.term != term.term)
			continue;
		history.lsn = term.lsn != 0 ? term.lsn : view->position.lsn;
		history.opened_at = term.opened_at;
		history.establish_ms = Max(0, (int32) ((worker->leading_since -
												lease_asked_at) / 1000));
		history.promote_ms = Max(0, (int32) ((worker->promoted_at -
											  worker->leading_since) / 1000));
		history.open_ms = Max(0, (int32) ((now - worker->promoted_at) / 1000));
		elector_keys_history(keys, term.term, history_key, sizeof(history_key));
		put(txn, history_key, elector_history_to_json(&history), 0);
	}
	if (view->election.present && view->election.create_revision == worker->order.token)
	{
		elector_txn_if_created(txn, keys->election, worker->order.token);
		elector_txn_delete(txn, keys->election);
	}
	if (view->request.present && view->request.term < term.term)
		elector_txn_delete(txn, keys->request);
	commit(txn, opened, NULL);
}

/* --- a planned change --- */

/* Where the last checkpoint is, by the control file. */
static XLogRecPtr
last_checkpoint(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	XLogRecPtr	checkpoint = crc_ok ? control->checkPoint : InvalidXLogRecPtr;

	pfree(control);
	return checkpoint;
}

static void
act_checkpoint(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;

	if (worker->checkpoint_since == 0)
	{
		worker->checkpoint_since = view->now;
		worker->checkpoint_before = last_checkpoint();
		RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE);
	}
	if (last_checkpoint() != worker->checkpoint_before ||
		view->now >= worker->checkpoint_since + CHECKPOINT_BOUND)
		worker->handover.checkpointed = true;
	else
		elector_worker_poll(10000);
}

static void
act_cancel(const ElectorView *view, const ElectorPlan *plan)
{
	ElectorTxn *txn = elector_txn_create();

	ereport(LOG,
			(errmsg("the requested switchover does not take place: %s",
					elector_reason_sentence(plan->reason))));
	elector_txn_if_created(txn, elector_worker->mirror.keys.request,
						   view->request.create_revision);
	elector_txn_delete(txn, elector_worker->mirror.keys.request);
	commit(txn, simple_outcome, NULL);
}

void
elector_act(const ElectorView *view, const ElectorPlan *plan)
{
	switch (plan->action)
	{
		case ELECTOR_WAIT:
			break;
		case ELECTOR_REGISTER:
			act_register();
			break;
		case ELECTOR_CLOSE:
			act_close();
			break;
		case ELECTOR_RESIGN:
			act_resign(view);
			break;
		case ELECTOR_RELEASE:
			act_release(view);
			break;
		case ELECTOR_FREEZE:
			if (!elector_standby_freeze(&elector_worker->position))
				elector_worker_poll(10000);
			break;
		case ELECTOR_FOLLOW:
			act_follow(view);
			break;
		case ELECTOR_DEMOTE:
			act_demote(view);
			break;
		case ELECTOR_REJOIN:
			act_rejoin(view, ELECTOR_TODO_REWIND);
			break;
		case ELECTOR_CLONE:
			act_rejoin(view, ELECTOR_TODO_CLONE);
			break;
		case ELECTOR_LOCK:
			act_lock(plan);
			break;
		case ELECTOR_UNLOCK:
			act_unlock(view);
			break;
		case ELECTOR_CHECK_LEASE:
			act_check_lease(view);
			break;
		case ELECTOR_EXPIRE:
			act_expire(view);
			break;
		case ELECTOR_FENCE:
			act_fence(view, plan);
			break;
		case ELECTOR_ESTABLISH:
			act_establish(view, plan);
			break;
		case ELECTOR_DROP_ORDER:
			elector_worker->ordered = false;
			break;
		case ELECTOR_TAKE:
			act_take(view);
			break;
		case ELECTOR_PROMOTE:
			act_promote(view);
			break;
		case ELECTOR_OPEN:
			act_open(view);
			break;
		case ELECTOR_CHECKPOINT:
			act_checkpoint(view);
			break;
		case ELECTOR_HANDOVER:
			act_handover(view, plan);
			break;
		case ELECTOR_CANCEL:
			act_cancel(view, plan);
			break;
	}
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
							elector_session_bound(), last_word, NULL);
	speak(began + LAST_WILL_BOUND);
	for (int i = 0; i < lengthof(leases); i++)
	{
		if (leases[i] != 0)
			elector_etcd_revoke(worker->etcd, leases[i], elector_session_bound(),
								last_word, NULL);
	}
	speak(began + LAST_WILL_BOUND);
	_exit(1);
}
