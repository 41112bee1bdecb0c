/*
 * act.c
 *	  From a plan to deeds.
 *
 * One function for each action; those of an elector are in election.c, those of
 * leadership in lead.c.  Whatever needs etcd is a transaction that compares what
 * the plan was made from; while it is under way `acting` keeps the next decision
 * waiting, and its outcome comes in by the mirror.
 *
 * The trap: a transaction whose outcome is unknown may have happened.  So such
 * an outcome changes nothing here but loads the mirror anew, and what we then
 * find there decides (our leader key is known by its instance, our lock by its
 * lease).
 */
#include "worker.h"

#include <signal.h>
#include <sys/time.h>

#include "access/xlog.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"

#include "act.h"
#include "etcd/json.h"
#include "standby.h"
#include "store.h"

/* A checkpoint ahead of a planned stop helps; it is not waited for longer. */
#define CHECKPOINT_BOUND 5000000

ElectorTime elector_lease_asked_at;	/* when the grant under way was sent */

int64
elector_wall_ms(void)
{
	struct timeval wall;

	gettimeofday(&wall, NULL);
	return (int64) wall.tv_sec * 1000 + wall.tv_usec / 1000;
}

/* Put a record and free its JSON. */
void
elector_txn_put_record(ElectorTxn *txn, const char *key, char *json, int64 lease)
{
	if (json == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	elector_txn_put(txn, key, json, lease);
	free(json);
}

void
elector_act_commit(ElectorTxn *txn, ElectorEtcdCallback callback, void *arg)
{
	elector_worker->acting = true;
	elector_etcd_commit(elector_worker->etcd, txn, ELECTOR_WRITE_BOUND, callback, arg);
}

void
elector_act_grant(int64 ttl, ElectorEtcdCallback callback)
{
	elector_worker->acting = true;
	elector_lease_asked_at = elector_now();
	elector_etcd_grant(elector_worker->etcd, ttl, ELECTOR_WRITE_BOUND, callback, NULL);
}

/* Every callback's first step: did it happen? */
bool
elector_act_happened(const ElectorEtcdReply *reply)
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

void
elector_act_outcome(void *arg, const ElectorEtcdReply *reply)
{
	elector_act_happened(reply);
}

/* For what is said without expecting to be heard. */
void
elector_act_unheard(void *arg, const ElectorEtcdReply *reply)
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
	elector_txn_put_record(txn, mirror->keys.member, elector_member_to_json(&member), 0);

	elector_txn_if_created(txn, mirror->keys.alive,
						   self != NULL && self->alive.present ?
						   self->alive.create_revision : 0);
	memset(&alive, 0, sizeof(alive));
	strlcpy(alive.instance, elector_shared->instance, sizeof(alive.instance));
	elector_txn_put_record(txn, mirror->keys.alive, elector_alive_to_json(&alive), worker->alive.id);
	elector_act_commit(txn, elector_act_outcome, NULL);
}

static void
alive_granted(void *arg, const ElectorEtcdReply *reply)
{
	elector_worker->acting = false;
	elector_session_note(reply);
	if (reply->status == ELECTOR_ETCD_OK && reply->lease != 0)
		elector_session_set_lease(&elector_worker->alive, reply, elector_lease_asked_at);
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
		elector_act_commit(txn, elector_act_outcome, NULL);
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
		elector_act_grant((int64) elector_lease_ttl * 3, alive_granted);
		return;
	}
	register_member();
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
						   elector_act_outcome, NULL);
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
	worker->leader_end = InvalidXLogRecPtr;
	worker->leader_told_at = 0;
	elector_store_remove(ELECTOR_PROBLEM_FILE);
	if (!elector_standby_follow(view->leader.conninfo, view->leader.term))
		elector_worker_poll(1000000);
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
	elector_act_commit(txn, elector_act_outcome, NULL);
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
			elector_act_close();
			break;
		case ELECTOR_RESIGN:
			elector_act_resign(view);
			break;
		case ELECTOR_RELEASE:
			elector_act_release(view);
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
			elector_act_lock(plan);
			break;
		case ELECTOR_UNLOCK:
			elector_act_unlock(view);
			break;
		case ELECTOR_CHECK_LEASE:
			elector_act_check_lease(view);
			break;
		case ELECTOR_EXPIRE:
			elector_act_expire(view);
			break;
		case ELECTOR_FENCE:
			elector_act_fence(view, plan);
			break;
		case ELECTOR_ESTABLISH:
			elector_act_establish(view, plan);
			break;
		case ELECTOR_DROP_ORDER:
			elector_worker->ordered = false;
			break;
		case ELECTOR_TAKE:
			elector_act_take(view);
			break;
		case ELECTOR_PROMOTE:
			elector_act_promote(view);
			break;
		case ELECTOR_OPEN:
			elector_act_open(view);
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
