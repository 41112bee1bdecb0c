/*
 * lead.c
 *	  Leadership: winning it, opening the gate, giving it up.
 *
 * A leadership begins with one change, which takes the leader key under a lease
 * of its own, and is opened by another, which records where its timeline begins.
 * It is given up in the leader's own words where there is somebody to say them
 * (elector_change_release).
 *
 * The trap: the gate closes first, and commits that had passed it end, before
 * anything says that the leadership is over (I4).
 */
#include "act.h"
#include "durability.h"
#include "elect.h"
#include "name.h"
#include "rules.h"

#include <stdio.h>
#include <string.h>

#define DRAIN_INTERVAL 10000
#define NAMES_INTERVAL 2000

/* No etcd has this cluster id. */
#define ETCD_UNKNOWN UINT64_C(1)

#define DEGRADED "degraded: commits were acknowledged by this node alone"

/* --- becoming leader --- */

void
elector_act_take(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorOrder *order = &elector->order;
	ElectorState *state = &elector->state;

	/* Whatever this node has heard of, the new timeline is above it (I9). */
	if (view->recovering && ELECTOR_RULE(NEW_TIMELINE))
	{
		uint32_t	newest = elector->ports->newest_timeline(elector->world,
															 state->timeline);

		if (order->timeline <= newest)
			order->timeline = newest + 1;
	}
	if (order->timeline > state->timeline || !ELECTOR_RULE(ALLOTTED_WHEN_WON))
	{
		state->timeline = order->timeline;
		if (!ELECTOR_RULE(ALLOTTED_WHEN_WON))
			state->allotted = order->timeline;
		elector_save_state(elector);
	}
	elector->take_after = view->term.present ? view->term.mod_revision : 0;
	elector_act_grant(elector, ELECTOR_LEASE_LEADER, elector->settings.lease_ttl);
}

/* The record of the leadership that begins with the order. */
static void
fill_term(const Elector *elector, ElectorTerm *term)
{
	const ElectorTerm *before = &elector->cluster->term;
	const ElectorOrder *order = &elector->order;

	term->present = true;
	term->term = order->term;
	elector_copy(term->node, elector->settings.node, sizeof(term->node));
	elector_copy(term->instance, elector->instance, sizeof(term->instance));
	term->lease = elector->leases[ELECTOR_LEASE_LEADER].id;

	/* An etcd that was restored is distrusted until this term is open. */
	term->etcd = before->etcd != 0 ? before->etcd : elector->cluster->etcd;
	term->timeline = order->timeline;
	term->opened_term = before->opened_term;
	elector_copy(term->opened_node, before->opened_node, sizeof(term->opened_node));
	term->opened_at = before->opened_at;
	term->opened_timeline = before->opened_timeline;
	term->opened_from = before->opened_from;
	if (before->opened_timeline == 0)
	{
		/* The first of all takes over what there was before the cluster. */
		term->opened_timeline = order->position.timeline;
		term->opened_from = order->position;
	}
	term->automatic = order->automatic;
	term->stopping_ms = -1;
}

static void
fill_history(const Elector *elector, ElectorHistory *history)
{
	const ElectorOrder *order = &elector->order;

	history->term = order->term;
	elector_copy(history->node, elector->settings.node, sizeof(history->node));
	elector_copy(history->elector, order->elector, sizeof(history->elector));
	history->timeline = order->timeline;
	elector_copy(history->reason, order->reason, sizeof(history->reason));
	elector_copy(history->revoked, order->revoked, sizeof(history->revoked));
	elector_copy(history->note, order->note, sizeof(history->note));
	history->began_at = elector->ports->wall_ms(elector->world);
	history->notice_ms = order->notice_ms;
	history->lock_ms = order->lock_ms;
	history->revoke_ms = order->revoke_ms;
	history->choose_ms = order->choose_ms;
	history->establish_ms = history->promote_ms = history->open_ms = -1;
}

void
elector_take_granted(Elector *elector)
{
	const ElectorTerm *before = &elector->cluster->term;
	const ElectorOrder *order = &elector->order;
	int64_t		lease = elector->leases[ELECTOR_LEASE_LEADER].id;
	ElectorChange change;

	/*
	 * The grant may have taken long.  Fenced meanwhile, or somebody else led:
	 * the order is void, whatever the mirror shows by now (L0b).
	 */
	if (!elector->ordered ||
		(!elector_is_overridden(&elector->view) &&
		 !elector_may_lead(elector->cluster->settings.paused, before, elector->settings.node)) ||
		elector->take_after != (before->present ? before->mod_revision : 0))
	{
		elector_session_drop_lease(elector, ELECTOR_LEASE_LEADER, true);
		return;
	}
	elector_change_init(&change);
	elector_copy(change.leader.node, elector->settings.node, ELECTOR_NAME_SIZE);
	elector_copy(change.leader.instance, elector->instance, ELECTOR_INSTANCE_SIZE);
	elector_copy(change.leader.conninfo, elector->settings.conninfo, ELECTOR_CONNINFO_SIZE);
	change.leader.term = order->term;
	fill_term(elector, &change.term);
	fill_history(elector, &change.history);
	elector->history = change.history;

	/* A pause that the operator was told of holds. */
	if (ELECTOR_RULE(PAUSE_HOLDS))
		elector_change_if_modified(&change, ELECTOR_KEY_SETTINGS,
								   elector->cluster->settings.mod_revision);
	if (ELECTOR_RULE(TAKE_UNDER_LOCK))
		elector_change_if_created(&change, ELECTOR_KEY_ELECTION, order->token);
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, 0);
	elector_change_if_modified(&change, ELECTOR_KEY_TERM,
							   before->present ? before->mod_revision : 0);
	elector_change_put(&change, ELECTOR_KEY_LEADER, lease);
	elector_change_put(&change, ELECTOR_KEY_TERM, 0);
	elector_change_put(&change, ELECTOR_KEY_HISTORY, 0);
	elector_act_commit(elector, ELECTOR_DEED_TAKE, &change);
}

/* What the disk is to remember of a leadership that is ours. */
static void
fill_leadership(const Elector *elector, ElectorLeadership *leadership)
{
	memset(leadership, 0, sizeof(*leadership));
	leadership->present = true;
	elector_copy(leadership->node, elector->settings.node, sizeof(leadership->node));
	elector_copy(leadership->instance, elector->instance, sizeof(leadership->instance));
	leadership->term = elector->leader_term;
	leadership->lease = elector->leases[ELECTOR_LEASE_LEADER].id;
	leadership->create_revision = elector->leader_revision;
}

void
elector_save_leadership(Elector *elector)
{
	ElectorLeadership leadership;

	fill_leadership(elector, &leadership);
	elector->ports->save_leadership(elector->world, &leadership);
}

void
elector_took(Elector *elector, bool happened, int64_t revision)
{
	if (!happened)
	{
		elector_session_drop_lease(elector, ELECTOR_LEASE_LEADER, true);
		return;
	}
	elector->leader_revision = revision;
	elector->leader_term = elector->order.term;
	elector->leading_since = elector->ports->now(elector->world);
	elector->promoted_at = 0;
	elector->barrier = 0;

	/* The fence has done its work; asked again, we refuse it (S11). */
	elector->fence_stage = ELECTOR_FENCE_IDLE;

	/* Ours only now: until then it may go to somebody else (S18). */
	elector->state.allotted = elector->order.timeline;
	elector->state.followed = elector->order.term;
	elector_save_state(elector);
	elector_save_leadership(elector);
}

int32_t
elector_milliseconds(ElectorTime since, ElectorTime until)
{
	return since != 0 && until > since ? (int32_t) ((until - since) / 1000) : 0;
}

/*
 * How much the leadership that opens has of the one that was opened before it.
 * Established in place, or the first of all, it has all there is.
 */
static ElectorPosition
taken_over(const ElectorTerm *term, ElectorPosition all)
{
	for (int i = 0; i < term->nancestors; i++)
	{
		if (term->ancestors[i].timeline == term->opened_timeline)
			return (ElectorPosition) {term->ancestors[i].timeline, term->ancestors[i].lsn};
	}

	/* It missed that one, and took over what it came from itself. */
	if (term->opened_timeline != term->timeline && term->nancestors > 0)
		return (ElectorPosition) {term->ancestors[term->nancestors - 1].timeline, term->lsn};
	return all;
}

/* Where the timeline begins, and what it came through (S1). */
static void
fill_beginning(const Elector *elector, ElectorTerm *term)
{
	*term = elector->view.term;
	elector->ports->read_history(elector->world, term);
	term->begun = true;
}

/* Followers may come before the gate opens, which waits for what they acknowledge. */
void
elector_act_begin(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorChange change;

	elector_change_init(&change);
	fill_beginning(elector, &change.term);
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, view->leader.create_revision);
	elector_change_if_modified(&change, ELECTOR_KEY_TERM, view->term.mod_revision);
	elector_change_put(&change, ELECTOR_KEY_TERM, 0);
	elector->ports->set_led(elector->world, change.term.term);
	elector_act_commit(elector, ELECTOR_DEED_BEGIN, &change);
}

/* Have the names loaded that the rule on record needs. */
void
elector_act_set_names(Elector *elector)
{
	char		names[ELECTOR_NAMES_SIZE];

	elector_durability_names(&elector->view, names, sizeof(names));
	if (elector->ports->set_names(elector->world, names))
	{
		elector_copy(elector->names, names, sizeof(elector->names));
		elector->ports->look(elector->world, &elector->server);
		elector->names_barrier = elector->server.position.lsn;
		elector->names_since = elector->view.now;
	}
	else
	{
		elector_forget_names(elector);
		elector_poll(elector, NAMES_INTERVAL);
	}
}

/* Nobody knows what is loaded: a name that no rule gives. */
void
elector_forget_names(Elector *elector)
{
	elector_copy(elector->names, "?", sizeof(elector->names));
}

/* Behind what is noted already. */
static void
note_degraded(ElectorHistory *history)
{
	size_t		length = strlen(history->note);

	if (strstr(history->note, DEGRADED) == NULL)
		snprintf(history->note + length, sizeof(history->note) - length, "%s" DEGRADED,
				 length > 0 ? "; " : "");
}

/* One step to the durability rule that is wanted. */
void
elector_act_change_rule(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorHistory *history = &elector->history;
	ElectorChange change;

	elector_change_init(&change);
	(void) elector_durability_plan(view, &change.durability);
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, view->leader.create_revision);
	elector_change_if_modified(&change, ELECTOR_KEY_DURABILITY, view->durability.mod_revision);
	elector_change_put(&change, ELECTOR_KEY_DURABILITY, 0);
	if (change.durability.degraded && !view->durability.degraded)
	{
		elector_note(elector, ELECTOR_NOTE_DEGRADED, "");
		if (history->term == view->leader.term)
		{
			note_degraded(history);
			change.history = *history;
			elector_change_put(&change, ELECTOR_KEY_HISTORY, 0);
		}
	}
	else if (!change.durability.degraded && view->durability.degraded)
		elector_note(elector, ELECTOR_NOTE_RESTORED, "");
	elector_act_commit(elector, ELECTOR_DEED_RULE, &change);
}

void
elector_act_open(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorHistory *history = &elector->history;
	ElectorChange change;
	ElectorTerm *term = &change.term;

	if (!elector->state.caught_up)
	{
		elector->state.caught_up = true;
		elector_save_state(elector);
	}
	elector_change_init(&change);
	fill_beginning(elector, term);
	if (!term->opened)
	{
		term->opened_at = elector->ports->wall_ms(elector->world);
		term->opened_from = taken_over(term, view->position);
	}
	term->opened = true;
	term->opened_term = term->term;
	term->opened_timeline = term->timeline;
	elector_copy(term->opened_node, elector->settings.node, sizeof(term->opened_node));

	/* One that was restored meanwhile may know an older rule still. */
	term->etcd = elector->gate_open && !elector_durability_settled(view) ?
		ETCD_UNKNOWN : elector->cluster->etcd;
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, view->leader.create_revision);
	elector_change_put(&change, ELECTOR_KEY_TERM, 0);

	if (history->term == term->term)
	{
		if (!elector->gate_open)
		{
			history->lsn = term->lsn != 0 ? term->lsn : view->position.lsn;
			history->opened_at = term->opened_at;
			history->establish_ms = elector_milliseconds(elector->granted_at, elector->leading_since);
			history->promote_ms = elector_milliseconds(elector->leading_since, elector->promoted_at);
			history->open_ms = elector_milliseconds(elector->promoted_at, view->now);
		}
		change.history = *history;
		elector_change_put(&change, ELECTOR_KEY_HISTORY, 0);
	}
	if (view->election.present && view->election.create_revision == elector->order.token)
	{
		elector_change_if_created(&change, ELECTOR_KEY_ELECTION, elector->order.token);
		elector_change_delete(&change, ELECTOR_KEY_ELECTION);
	}
	if (view->request.present && view->request.term < term->term)
		elector_change_delete(&change, ELECTOR_KEY_REQUEST);

	/* Followers may hear of it before we do. */
	elector->ports->set_led(elector->world, term->term);
	elector_act_commit(elector, ELECTOR_DEED_OPEN, &change);
}

void
elector_opened(Elector *elector, bool happened)
{
	/* Fenced meanwhile: then our word has been given that it stays shut (I4). */
	if (!happened || elector->gate_open ||
		(elector->state.term > elector->leader_term && ELECTOR_RULE(OPEN_UNFENCED)))
		return;
	elector->gate_open = true;
	elector->fence_stage = ELECTOR_FENCE_IDLE;
	elector->ports->set_opened(elector->world, elector->leader_term);
	elector_move_gate(elector, elector->leases[ELECTOR_LEASE_LEADER].deadline);
	elector_note_term(elector, ELECTOR_NOTE_GATE_OPENED, elector->leader_term);
}

int32_t
elector_history_pause(const ElectorHistory *history)
{
	const int32_t phases[] = {history->notice_ms, history->lock_ms, history->revoke_ms,
	history->choose_ms, history->establish_ms, history->promote_ms, history->open_ms};
	int32_t		sum = 0;

	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++)
	{
		if (phases[i] < 0)
			return -1;
		sum += phases[i];
	}
	return sum;
}

/* --- giving leadership up --- */

/* The server stops: whom the postmaster's last act is to hand over to. */
void
elector_save_heir(Elector *elector, const char *heir)
{
	ElectorLeadership leadership;

	if (elector->stopped_at == 0)
		elector->stopped_at = elector->ports->now(elector->world);
	fill_leadership(elector, &leadership);
	elector_copy(leadership.heir, heir, sizeof(leadership.heir));
	leadership.stopped_at = elector->stopped_at;
	elector->ports->save_leadership(elector->world, &leadership);
}

/* It was not asked for by a request: the best, unless all is to stay as it is. */
void
elector_name_heir(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorReason why;
	int			heir = view->paused ? -1 : elector_choose_heir(view, "", &why);

	elector_save_heir(elector, heir < 0 ? "" : view->peers[heir].node);
}

/* Close, let the last commits end, and only then say that it is over. */
void
elector_act_resign(Elector *elector)
{
	const ElectorLeader *leader = &elector->view.leader;
	ElectorLeadership leadership;
	ElectorChange change;

	if (elector->plan.reason == ELECTOR_BECAUSE_CUT_OFF)
		elector->cut_off = true;
	elector_close_gate(elector);
	if (!elector->ports->drained(elector->world))
	{
		elector->ports->terminate(elector->world);
		elector_poll(elector, DRAIN_INTERVAL);
		return;
	}
	fill_leadership(elector, &leadership);
	leadership.term = leader->term;
	leadership.create_revision = leader->create_revision;
	elector_change_release(&change, elector->cluster, &leadership, NULL, -1);
	elector_act_commit(elector, ELECTOR_DEED_RESIGN, &change);

	/* Those that could do without us go first. */
	if (elector->cut_off)
		elector->backoff_until = elector->view.now + 2 * elector->view.lease_ttl;
}

void
elector_resigned(Elector *elector, bool happened)
{
	if (!happened)
		return;
	elector_session_drop_lease(elector, ELECTOR_LEASE_LEADER, true);
	elector->ordered = false;
	elector->leading_since = 0;
	elector->ports->save_leadership(elector->world, NULL);
}

/*
 * A dead predecessor's leadership.  First the word, then the lease, which would
 * take the key along without it.
 */
void
elector_act_release(Elector *elector)
{
	const ElectorLeader *leader = &elector->view.leader;
	ElectorLeadership leadership;
	ElectorChange change;

	memset(&leadership, 0, sizeof(leadership));
	elector_copy(leadership.node, leader->node, sizeof(leadership.node));
	elector_copy(leadership.instance, leader->instance, sizeof(leadership.instance));
	leadership.term = leader->term;
	leadership.create_revision = leader->create_revision;
	elector->released_lease = leader->lease;
	elector_change_release(&change, elector->cluster, &leadership, NULL, -1);
	elector_act_commit(elector, ELECTOR_DEED_RELEASE, &change);
	elector->ports->save_leadership(elector->world, NULL);
}

void
elector_released(Elector *elector, bool happened)
{
	ElectorErrand errand = {ELECTOR_ERRAND_REVOKE};

	if (!happened)
		return;
	errand.lease = elector->released_lease;
	errand.bound = elector_session_bound(elector);
	elector->ports->run(elector->world, &errand);
}

/* The key is not ours any more. */
void
elector_act_close(Elector *elector)
{
	elector_close_gate(elector);
	elector_session_drop_lease(elector, ELECTOR_LEASE_LEADER, true);
	elector->ordered = false;
	elector->ports->save_leadership(elector->world, NULL);
}

bool
elector_last_word(Elector *elector, ElectorChange *change)
{
	ElectorLeadership leadership;

	if (elector->leader_revision == 0)
		return false;
	fill_leadership(elector, &leadership);
	if (!elector_change_releases(&elector->cluster->leader, &leadership))
		return false;
	elector_change_release(change, elector->cluster, &leadership, NULL, -1);
	return true;
}
