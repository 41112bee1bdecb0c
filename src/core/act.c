/*
 * act.c
 *	  From a plan to deeds.
 *
 * One function for each action; those of an election are in election.c, those of
 * leadership in lead.c.  Whatever needs etcd is a change that compares what the
 * plan was made from (change.h); while it is under way `acting` keeps the next
 * decision waiting, and its result comes in by the mirror.
 *
 * The trap: a change whose result is unknown may have happened.  So such an
 * result changes nothing here but loads the mirror anew, and what we then find
 * there decides (our leader key is known by its instance, our lock by its
 * lease).
 */
#include "act.h"
#include "name.h"
#include "rules.h"

#include <assert.h>
#include <string.h>

/*
 * A write waits for etcd's disk, so it may take longer than a renewal; nothing
 * that is held up by it is open.
 */
#define WRITE_BOUND 1000000

/* From the last transaction's end to the stop of the server it takes less. */
#define STOP_BOUND 1000000

#define DRAIN_INTERVAL 3000

/*
 * What holds clients back waits for their transactions; so long at least, since it
 * costs those that wait nothing but time.  It answers in less than the bound.
 */
#define PAUSE_PATIENCE 1000000
#define PAUSE_BOUND 1000000

/* How soon what has failed, or is not done, is looked at again. */
#define FAILED_INTERVAL 100000
#define SHORT_INTERVAL 10000
#define LONG_INTERVAL 1000000

static void
act_on(Elector *elector, ElectorErrand *errand)
{
	elector->acting = true;
	errand->bound = WRITE_BOUND;
	elector->ports->run(elector->world, errand);
}

void
elector_act_commit(Elector *elector, ElectorDeed deed, const ElectorChange *change)
{
	ElectorErrand errand = {ELECTOR_ERRAND_COMMIT};

	errand.deed = deed;
	errand.change = change;
	act_on(elector, &errand);
}

void
elector_act_grant(Elector *elector, ElectorLeaseKind which, ElectorTime ttl)
{
	ElectorErrand errand = {ELECTOR_ERRAND_GRANT, which};

	/* Its deadline counts from before it was sent. */
	elector->granted_at = elector->ports->now(elector->world);
	errand.ttl = ttl / 1000000;
	act_on(elector, &errand);
}

/* --- membership --- */

static void
register_member(Elector *elector)
{
	const ElectorSettings *settings = &elector->settings;
	const ElectorCluster *cluster = elector->cluster;
	const ElectorNode *self = elector_cluster_node(cluster, settings->node);
	ElectorChange change;

	elector_change_init(&change);
	if (cluster->system == 0)
	{
		change.system = settings->system;
		elector_change_if_created(&change, ELECTOR_KEY_SYSTEM, 0);
		elector_change_put(&change, ELECTOR_KEY_SYSTEM, 0);
	}

	elector_copy(change.member.node, settings->node, ELECTOR_NAME_SIZE);
	elector_copy(change.member.conninfo, settings->conninfo, ELECTOR_CONNINFO_SIZE);
	elector_copy(change.member.zone, settings->zone, ELECTOR_NAME_SIZE);
	elector_copy(change.member.durability, settings->durability, ELECTOR_NAME_SIZE);
	elector_copy(change.member.directory, elector->state.directory, ELECTOR_INSTANCE_SIZE);
	elector_copy(change.member.version, settings->version, ELECTOR_VERSION_SIZE);
	change.member.priority = settings->priority;
	change.member.candidate = settings->candidate;
	elector_change_put(&change, ELECTOR_KEY_MEMBER, 0);

	elector_copy(change.alive.node, settings->node, ELECTOR_NAME_SIZE);
	elector_copy(change.alive.instance, elector->instance, ELECTOR_INSTANCE_SIZE);
	change.alive.misses = elector->misses;
	elector_change_if_created(&change, ELECTOR_KEY_ALIVE,
							  self != NULL && self->alive.present ?
							  self->alive.create_revision : 0);
	elector_change_put(&change, ELECTOR_KEY_ALIVE,
					   elector->leases[ELECTOR_LEASE_ALIVE].id);
	elector_act_commit(elector, ELECTOR_DEED_REGISTER, &change);
}

static void
act_register(Elector *elector)
{
	const ElectorNode *self = elector_cluster_node(elector->cluster, elector->settings.node);
	const ElectorAlive *alive = self != NULL && self->alive.present ? &self->alive : NULL;
	ElectorLease *lease = &elector->leases[ELECTOR_LEASE_ALIVE];

	if (alive != NULL && elector->predecessor[0] != '\0' &&
		strcmp(alive->instance, elector->predecessor) == 0)
	{
		/* Our dead predecessor's (S9); its lease takes its key along. */
		ElectorChange change;

		elector_change_init(&change);
		elector_change_if_created(&change, ELECTOR_KEY_ALIVE, alive->create_revision);
		elector_change_delete(&change, ELECTOR_KEY_ALIVE);
		elector_act_commit(elector, ELECTOR_DEED_REGISTER, &change);
		return;
	}
	if (alive != NULL && strcmp(alive->instance, elector->instance) == 0 && lease->id == 0)
	{
		/* This postmaster's earlier elector was granted it. */
		lease->id = alive->lease;
		lease->ttl = elector->settings.lease_ttl * 3;
	}
	if (lease->id == 0)
	{
		/* It only says that a node is there, so it may live longer. */
		elector_act_grant(elector, ELECTOR_LEASE_ALIVE, elector->settings.lease_ttl * 3);
		return;
	}
	register_member(elector);
}

/* --- restarting --- */

static void
restart_server(Elector *elector, ElectorTodoKind kind, const char *leader,
			   const char *source, uint64_t term, ElectorStop how)
{
	ElectorTodo todo;

	memset(&todo, 0, sizeof(todo));
	todo.kind = kind;
	elector_copy(todo.node, elector->settings.node, sizeof(todo.node));
	elector_copy(todo.leader, leader, sizeof(todo.leader));
	elector_copy(todo.source, source, sizeof(todo.source));
	todo.term = term;
	elector->stopping = true;
	elector->ports->restart(elector->world, &todo, how);
}

/*
 * An old primary stops at once: a shutdown checkpoint would be one more record
 * that the new leader does not have.
 */
static void
act_demote(Elector *elector, const ElectorPlan *plan)
{
	const ElectorView *view = &elector->view;
	bool		forget = plan->reason == ELECTOR_BECAUSE_DEAD_TIMELINE;

	elector_close_gate(elector);
	if (forget)
		elector->ports->forget_timeline(elector->world, view->target_timeline);
	restart_server(elector, ELECTOR_TODO_STANDBY, view->leader.node, "",
				   view->leader.term, forget ? ELECTOR_STOP_FAST : ELECTOR_STOP_IMMEDIATE);
}

static void
act_rejoin(Elector *elector, ElectorTodoKind kind)
{
	const ElectorLeader *leader = &elector->view.leader;

	restart_server(elector, kind, leader->node, leader->conninfo, leader->term,
				   ELECTOR_STOP_FAST);
}

static void
act_handover(Elector *elector, const ElectorPlan *plan)
{
	const ElectorView *view = &elector->view;

	elector_save_heir(elector, view->peers[plan->target].node);

	/* Nobody renews while the server stops (L10). */
	elector_session_renew(elector, ELECTOR_LEASE_LEADER, view->now);
	restart_server(elector, ELECTOR_TODO_HANDOVER, view->peers[plan->target].node, "",
				   view->leader.term, ELECTOR_STOP_FAST);
}

/* --- following --- */

static void
act_follow(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorState *state = &elector->state;

	if (view->leader.term >= state->term &&
		(view->leader.term > state->term ||
		 state->token != view->leader.create_revision))
	{
		/* A term that is led is closed to fences (S11). */
		if (!elector_state_counts(state, view->term.opened_term))
			state->caught_up = false;
		state->term = view->leader.term;
		state->token = view->leader.create_revision;
		elector_save_state(elector);
	}
	if (state->stray != 0 || view->leader.term > state->followed)
	{
		state->stray = 0;
		if (view->leader.term > state->followed)
			state->followed = view->leader.term;
		elector_save_state(elector);
	}
	elector->fence_stage = ELECTOR_FENCE_IDLE;
	elector->leader_end = 0;
	elector->leader_told_at = 0;
	elector->ask_reports_at = 0;	/* how far it is, before it can die */
	elector->ports->forget_problem(elector->world);
	if (!elector->ports->follow(elector->world, view->leader.conninfo, view->leader.term))
	{
		elector_note(elector, ELECTOR_NOTE_CANNOT_FOLLOW, "");
		elector_poll(elector, LONG_INTERVAL);
	}
}

/* --- a planned change --- */

static void
act_checkpoint(Elector *elector)
{
	bool		begin = elector->checkpoint_since == 0;

	if (begin)
		elector->checkpoint_since = elector->view.now;
	if (elector->ports->checkpoint(elector->world, begin))
	{
		elector->handover.checkpointed = true;
		elector->handover.checkpointed_at = elector->view.now;
	}
	else
		elector_poll(elector, SHORT_INTERVAL);
}

static void
act_pause_clients(Elector *elector)
{
	ElectorHandover *handover = &elector->handover;
	ElectorTime now = elector->view.now;
	ElectorTime patience = elector->settings.drain_timeout;

	if (patience < PAUSE_PATIENCE)
		patience = PAUSE_PATIENCE;
	if (handover->pause_since == 0)
		handover->pause_since = now;
	handover->clients_paused = elector->ports->pause_clients(elector->world, patience) ||
		now >= handover->pause_since + patience + PAUSE_BOUND;
	elector_poll(elector, handover->clients_paused ? 0 : SHORT_INTERVAL);
}

/* Those that are under way may end; those that begin wait. */
static void
act_drain(Elector *elector)
{
	ElectorHandover *handover = &elector->handover;
	ElectorTime now = elector->view.now;
	ElectorTime until;

	if (handover->drain_since == 0)
		handover->drain_since = elector->stopped_at = now;
	until = handover->drain_since + elector->settings.drain_timeout;
	if (elector->ports->drain(elector->world, until + STOP_BOUND) || now >= until)
		handover->drained = true;
	else
		elector_poll(elector, DRAIN_INTERVAL);
}

static void
act_cancel(Elector *elector, const ElectorPlan *plan)
{
	elector_note(elector, ELECTOR_NOTE_CANCELED, elector_reason_sentence(plan->reason));
	elector_refuse_request(elector, elector_reason_sentence(plan->reason));
}

static int64_t
request_switchover(Elector *elector, const char *target, int64_t at, bool full)
{
	const ElectorView *view = &elector->view;
	ElectorChange change;

	elector_change_init(&change);
	elector_copy(change.request.target, target, sizeof(change.request.target));
	elector_copy(change.request.node, elector->settings.node, sizeof(change.request.node));
	change.request.id = view->now;
	change.request.term = view->leader.term;
	change.request.at = at;
	change.request.full = full;
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, view->leader.create_revision);
	elector_change_if_modified(&change, ELECTOR_KEY_REQUEST, view->request.mod_revision);
	elector_change_put(&change, ELECTOR_KEY_REQUEST, 0);
	elector_act_commit(elector, ELECTOR_DEED_REQUEST, &change);
	return change.request.id;
}

int64_t
elector_request_switchover(Elector *elector, const char *target, int64_t at)
{
	return request_switchover(elector, target, at, false);
}

/* Whether there is somebody who is better off shows when it is prepared. */
static void
act_ask_change(Elector *elector)
{
	elector->wal_full_asked = elector->view.now;
	request_switchover(elector, "", 0, true);
}

/* In the entry of the last leadership, which nobody else writes to any more. */
static void
act_note_blocked(Elector *elector, const ElectorPlan *plan)
{
	const ElectorView *view = &elector->view;
	ElectorChange change;

	elector_change_init(&change);
	change.history = elector->cluster->history;
	elector_copy(change.history.blocked, elector_reason_name(plan->reason),
				 sizeof(change.history.blocked));
	change.history.blocked_at = view->wall_ms;
	change.history.blocked_until = plan->reason == ELECTOR_BECAUSE_COOLDOWN ?
		view->term.opened_at + view->failover_cooldown / 1000 : 0;
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, 0);
	elector_change_if_modified(&change, ELECTOR_KEY_TERM, view->term.mod_revision);
	elector_change_put(&change, ELECTOR_KEY_HISTORY, 0);
	elector_act_commit(elector, ELECTOR_DEED_HISTORY, &change);
}

int64_t
elector_request_failover(Elector *elector, const char *target)
{
	const ElectorView *view = &elector->view;
	ElectorChange change;

	elector_change_init(&change);
	elector_copy(change.request.target, target, sizeof(change.request.target));
	elector_copy(change.request.node, elector->settings.node, sizeof(change.request.node));
	change.request.id = view->now;
	change.request.term = view->term.term;
	change.request.failover = true;
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, 0);
	elector_change_if_modified(&change, ELECTOR_KEY_TERM, view->term.mod_revision);
	elector_change_if_modified(&change, ELECTOR_KEY_REQUEST, view->request.mod_revision);
	elector_change_put(&change, ELECTOR_KEY_REQUEST, 0);
	elector_act_commit(elector, ELECTOR_DEED_REQUEST, &change);
	return change.request.id;
}

void
elector_refuse_request(Elector *elector, const char *why)
{
	const ElectorView *view = &elector->view;
	ElectorChange change;

	elector_change_init(&change);
	change.request = view->request;
	elector_copy(change.request.refused, why, sizeof(change.request.refused));
	elector_change_if_modified(&change, ELECTOR_KEY_REQUEST, view->request.mod_revision);
	elector_change_put(&change, ELECTOR_KEY_REQUEST, 0);
	elector_act_commit(elector, ELECTOR_DEED_REFUSE, &change);
}

static void
commit_settings(Elector *elector, ElectorChange *change)
{
	elector_change_if_modified(change, ELECTOR_KEY_SETTINGS,
							   elector->cluster->settings.mod_revision);
	elector_change_put(change, ELECTOR_KEY_SETTINGS, 0);
	elector_act_commit(elector, ELECTOR_DEED_SETTINGS, change);
}

void
elector_set_paused(Elector *elector, bool paused, const char *reason)
{
	ElectorChange change;

	elector_change_init(&change);
	change.settings = elector->cluster->settings;
	change.settings.paused = paused;
	elector_copy(change.settings.paused_by, paused ? elector->settings.node : "",
				 sizeof(change.settings.paused_by));
	elector_copy(change.settings.pause_reason, paused ? reason : "",
				 sizeof(change.settings.pause_reason));
	change.settings.paused_at = paused ? elector->ports->wall_ms(elector->world) : 0;
	commit_settings(elector, &change);
}

/* Those that are over make room. */
static void
drop_old_holds(ElectorClusterSettings *settings, uint64_t term, int64_t at, int64_t id)
{
	int			kept = 0;

	for (int i = 0; i < settings->nholds; i++)
	{
		const ElectorLeaderHold *hold = &settings->holds[i];

		if (hold->term == term && hold->until > at && hold->id != id)
			settings->holds[kept++] = *hold;
	}
	settings->nholds = kept;
}

int64_t
elector_hold(Elector *elector, const char *reason, int64_t lasts_ms)
{
	const ElectorView *view = &elector->view;
	ElectorLeaderHold *hold;
	ElectorChange change;

	elector_change_init(&change);
	change.settings = elector->cluster->settings;
	drop_old_holds(&change.settings, view->leader.term, view->wall_ms, 0);
	if (change.settings.nholds == ELECTOR_HOLDS_MAX)
		return 0;
	hold = &change.settings.holds[change.settings.nholds++];
	memset(hold, 0, sizeof(*hold));
	hold->id = view->wall_ms;
	hold->term = view->leader.term;
	elector_copy(hold->node, elector->settings.node, sizeof(hold->node));
	elector_copy(hold->reason, reason, sizeof(hold->reason));
	hold->until = view->wall_ms + lasts_ms;
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, view->leader.create_revision);

	/* Who asks for a change after this is seen by the leader after it, too. */
	elector_change_if_modified(&change, ELECTOR_KEY_REQUEST, view->request.mod_revision);
	commit_settings(elector, &change);
	return hold->id;
}

bool
elector_release_hold(Elector *elector, int64_t id)
{
	const ElectorView *view = &elector->view;
	ElectorChange change;

	if (elector_find_hold(&elector->cluster->settings, view->leader.term, view->wall_ms, id) < 0)
		return false;
	elector_change_init(&change);
	change.settings = elector->cluster->settings;
	drop_old_holds(&change.settings, view->leader.term, view->wall_ms, id);
	commit_settings(elector, &change);
	return true;
}

/* Unless it has come back, or the leader is another one, meanwhile. */
void
elector_remove_member(Elector *elector, const char *node)
{
	const ElectorLeader *leader = &elector->view.leader;
	ElectorChange change;

	elector_change_init(&change);
	elector_copy(change.other, node, sizeof(change.other));
	elector_change_if_created(&change, ELECTOR_KEY_LEADER,
							  leader->present ? leader->create_revision : 0);
	elector_change_if_created(&change, ELECTOR_KEY_OTHER_ALIVE, 0);
	elector_change_delete(&change, ELECTOR_KEY_OTHER_MEMBER);
	elector_act_commit(elector, ELECTOR_DEED_REMOVE, &change);
}

/* --- outcomes --- */

static void
granted(Elector *elector, ElectorLeaseKind which, const ElectorErrandResult *result)
{
	elector->acting = false;
	elector_session_note(elector, result);
	if (result->status != ELECTOR_ETCD_OK || result->lease == 0)
	{
		elector->retaking = false;
		elector_poll(elector, FAILED_INTERVAL);
		return;
	}
	if (elector->retaking)
	{
		elector_retake_granted(elector, result);
		return;
	}
	elector_session_set_lease(elector, which, result);
	switch (which)
	{
		case ELECTOR_LEASE_LEADER:
			elector_take_granted(elector);
			break;
		case ELECTOR_LEASE_ELECTION:
			elector_lock_granted(elector);
			break;
		case ELECTOR_LEASE_ALIVE:
		case ELECTOR_LEASES:
			break;
	}
}

static void
committed(Elector *elector, ElectorDeed deed, const ElectorErrandResult *result)
{
	bool		happened = result->status == ELECTOR_ETCD_OK && result->succeeded;

	elector_session_note(elector, result);
	if (deed == ELECTOR_DEED_REPAIR)
		return;
	elector->acting = false;
	if (happened)
	{
		if (result->revision > elector->written)
			elector->written = result->revision;
	}
	else
	{
		elector_session_reload(elector);
		elector_poll(elector, FAILED_INTERVAL);
	}
	switch (deed)
	{
		case ELECTOR_DEED_REGISTER:
			/* Whatever etcd does not like about it, begin with a new lease. */
			if (result->status == ELECTOR_ETCD_REFUSED)
				elector_session_drop_lease(elector, ELECTOR_LEASE_ALIVE, false);
			break;
		case ELECTOR_DEED_LOCK:
			elector_locked(elector, happened, result->revision);
			break;
		case ELECTOR_DEED_TAKE:
			elector_took(elector, happened, result->revision);
			break;
		case ELECTOR_DEED_OPEN:
			elector_opened(elector, happened);
			break;
		case ELECTOR_DEED_RESIGN:
			elector_resigned(elector, happened);
			break;
		case ELECTOR_DEED_RELEASE:
			elector_released(elector, happened);
			break;
		case ELECTOR_DEED_RETAKE:
			elector_retaken(elector, happened, result->revision);
			break;
		case ELECTOR_DEED_FAILSAFE:
		case ELECTOR_DEED_UNLOCK:
		case ELECTOR_DEED_REPAIR:
		case ELECTOR_DEED_REQUEST:
		case ELECTOR_DEED_REFUSE:
		case ELECTOR_DEED_SETTINGS:
		case ELECTOR_DEED_REMOVE:
		case ELECTOR_DEED_BEGIN:
		case ELECTOR_DEED_RULE:
		case ELECTOR_DEED_HISTORY:
			break;
	}
}

void
elector_act_heard(Elector *elector, const ElectorErrand *errand,
				  const ElectorErrandResult *result)
{
	switch (errand->kind)
	{
		case ELECTOR_ERRAND_GRANT:
			granted(elector, errand->which, result);
			break;
		case ELECTOR_ERRAND_LOOK:
			elector->acting = false;
			elector_session_note(elector, result);
			elector_lease_looked_at(elector, result);
			break;
		case ELECTOR_ERRAND_VERIFY:
			elector->acting = false;
			elector_session_note(elector, result);
			elector_lease_verified(elector, errand->lease, result);
			break;
		case ELECTOR_ERRAND_COMMIT:
			committed(elector, errand->deed, result);
			break;
		case ELECTOR_ERRAND_LOAD:
		case ELECTOR_ERRAND_WATCH:
		case ELECTOR_ERRAND_RENEW:
		case ELECTOR_ERRAND_CONFIRM:
		case ELECTOR_ERRAND_REVOKE:
			break;				/* elector_session_heard() */
	}
}

void
elector_act(Elector *elector, const ElectorPlan *plan)
{
	switch (plan->action)
	{
		case ELECTOR_WAIT:
			break;
		case ELECTOR_REGISTER:
			act_register(elector);
			break;
		case ELECTOR_CLOSE:
			elector_act_close(elector);
			break;
		case ELECTOR_RESIGN:
			elector_act_resign(elector);
			break;
		case ELECTOR_LAPSE:
			elector_close_gate(elector);
			elector->lapsed = true;
			break;
		case ELECTOR_ASK_CHANGE:
			act_ask_change(elector);
			break;
		case ELECTOR_RELEASE:
			elector_act_release(elector);
			break;
		case ELECTOR_FREEZE:
			if (!elector->ports->freeze(elector->world, &elector->position))
				elector_poll(elector, SHORT_INTERVAL);
			break;
		case ELECTOR_FOLLOW:
			act_follow(elector);
			break;
		case ELECTOR_DEMOTE:
			act_demote(elector, plan);
			break;
		case ELECTOR_REJOIN:
			act_rejoin(elector, ELECTOR_TODO_REWIND);
			break;
		case ELECTOR_CLONE:
			act_rejoin(elector, ELECTOR_TODO_CLONE);
			break;
		case ELECTOR_LOCK:
			elector_act_lock(elector, plan);
			break;
		case ELECTOR_UNLOCK:
			elector_act_unlock(elector);
			break;
		case ELECTOR_CHECK_LEASE:
			elector_act_check_lease(elector);
			break;
		case ELECTOR_EXPIRE:
			elector_act_expire(elector);
			break;
		case ELECTOR_NOTE_BLOCKED:
			act_note_blocked(elector, plan);
			break;
		case ELECTOR_FENCE:
			elector_act_fence(elector, plan);
			break;
		case ELECTOR_ESTABLISH:
			elector_act_establish(elector, plan);
			break;
		case ELECTOR_DROP_ORDER:
			elector->ordered = false;
			break;
		case ELECTOR_TAKE:
			elector_act_take(elector);
			break;
		case ELECTOR_PROMOTE:
			elector->promoting_term = elector->view.leader.term;
			elector->ports->promote(elector->world, elector->view.term.timeline);
			elector_poll(elector, SHORT_INTERVAL);
			break;
		case ELECTOR_SET_NAMES:
			elector_act_set_names(elector);
			break;
		case ELECTOR_BEGIN:
			elector_act_begin(elector);
			break;
		case ELECTOR_CHANGE_RULE:
			elector_act_change_rule(elector);
			break;
		case ELECTOR_SET_FAILSAFE:
			elector_act_set_failsafe(elector);
			break;
		case ELECTOR_RETAKE:
			elector_act_retake(elector);
			break;
		case ELECTOR_OPEN:
			elector_act_open(elector);
			break;
		case ELECTOR_CHECKPOINT:
			act_checkpoint(elector);
			break;
		case ELECTOR_PAUSE_CLIENTS:
			act_pause_clients(elector);
			break;
		case ELECTOR_DRAIN:
			act_drain(elector);
			break;
		case ELECTOR_HANDOVER:
			act_handover(elector, plan);
			break;
		case ELECTOR_CANCEL:
			act_cancel(elector, plan);
			break;
	}
}
