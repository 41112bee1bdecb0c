/*
 * promise.c
 *	  Asking for promises, giving them, and taking the leader key again.
 *
 * The deeds of failsafe.c.  A leader asks when a renewal of its lease is overdue, so that
 * enough have promised before the lease is over; and goes on asking until etcd has
 * confirmed a lease of its own.
 *
 * The trap: a lease that was granted for the leader key is no lease of ours before the
 * key is under it, and moves no deadline.
 */
#include "act.h"
#include "failsafe.h"
#include "name.h"
#include "rules.h"

#include <stdio.h>
#include <string.h>

/* How often it is looked whether a fence may be obeyed by now. */
#define WAITING_INTERVAL 10000

/* --- the leader asks --- */

/*
 * From when on promises are asked for, if no renewal is confirmed by then: the next one was
 * sent long ago, an etcd that is merely slow needs no promises, and before the lease ends
 * there is time to ask twice.
 */
static ElectorTime
overdue_at(const Elector *elector)
{
	const ElectorLease *lease = &elector->leases[ELECTOR_LEASE_LEADER];

	return lease->id == 0 ? 0 :
		lease->deadline - (lease->ttl - elector->settings.lease_margin) / 2;
}

static void
ask_all(Elector *elector, ElectorTime now)
{
	ElectorPromiseRequest request;

	memset(&request, 0, sizeof(request));
	request.term = elector->leader_term;
	elector_copy(request.instance, elector->instance, sizeof(request.instance));
	request.asked_at = now;
	request.lasts_ms = elector->settings.lease_ttl / 1000;
	request.open = now < elector->gate_until;
	for (int i = 0; i < elector->asked.nmembers; i++)
	{
		const ElectorFailsafeMember *member = &elector->asked.members[i];

		if (strcmp(member->node, elector->settings.node) != 0)
			elector->ports->ask(elector->world, member->node, ELECTOR_ASK_PROMISE, &request);
	}
}

static void
ask_if_overdue(Elector *elector)
{
	ElectorTime now = elector->view.now;

	if (!elector->gate_open || !elector->settings.failsafe || !elector->asked.present ||
		elector->stopping || elector->state.term > elector->leader_term ||
		elector->lapsed || elector->cut_off || now < overdue_at(elector))
	{
		elector->ask_promises_at = 0;
		return;
	}
	if (now >= elector->ask_promises_at)
	{
		/* Several times in the time that a promise lasts. */
		elector->ask_promises_at = now + elector->settings.lease_ttl / 8;
		ask_all(elector, now);
	}
}

void
elector_promise_told(Elector *elector, ElectorSaid *said, const ElectorPromise *promise)
{
	ElectorTime from = promise->asked_at;
	ElectorTime until;

	/* It says again what it was asked, maybe long ago. */
	if (!promise->given || promise->term != elector->leader_term ||
		promise->asked_at > elector->ports->now(elector->world) ||
		promise->lasts_ms > elector->settings.lease_ttl / 1000)
		return;
	if (!ELECTOR_RULE(PROMISE_FROM_ASKING))
		from = elector->ports->now(elector->world);
	until = from + promise->lasts_ms * 1000;
	if (ELECTOR_RULE(PROMISE_MARGIN))
		until -= elector->settings.lease_margin;
	if (said->promised_term == promise->term && said->promised_until >= until &&
		strcmp(said->promised_by, promise->directory) == 0)
		return;
	said->promised_term = promise->term;
	said->promised_until = until;
	elector_copy(said->promised_by, promise->directory, sizeof(said->promised_by));
	elector_observe(elector);
	elector_move_gate(elector, elector->view.deadline);
}

/* One word when it begins, and one when it ends. */
static void
watch_failsafe(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorTime confirmed = elector->leases[ELECTOR_LEASE_LEADER].deadline;
	bool		leads = elector->gate_open && view->now >= confirmed &&
	view->now < view->promises_until;
	char		missing[ELECTOR_TEXT_SIZE / 2];
	char		text[ELECTOR_TEXT_SIZE];
	long long	seconds = (view->now - elector->failsafe_since) / 1000000;

	if (leads == (elector->failsafe_since != 0))
		return;
	if (leads)
	{
		elector->failsafe_since = view->now;
		elector->failsafe_since_ms = view->wall_ms;
		elector->failsafe_noted = elector_note_apart(&elector->failsafe_noted_at, view->now);
		if (elector->failsafe_noted)
			elector_note_term(elector, ELECTOR_NOTE_FAILSAFE_BEGINS, elector->leader_term);
		return;
	}
	elector->failsafe_since = 0;
	if (!elector->failsafe_noted)
		return;
	if (elector->gate_open && view->now < confirmed)
		snprintf(text, sizeof(text), "etcd has confirmed the lease after %lld s", seconds);
	else if (elector->gate_open)
	{
		elector_failsafe_missing(view, missing, sizeof(missing));
		snprintf(text, sizeof(text), "after %lld s there is no promise of %s", seconds, missing);
	}
	else
		snprintf(text, sizeof(text), "the leadership is over after %lld s", seconds);
	elector_note(elector, ELECTOR_NOTE_FAILSAFE_ENDS, text);
}

/* --- the record --- */

/* Is there anybody to promise?  If not, an election asks for nobody, either. */
static bool
has_others(const Elector *elector, const ElectorFailsafe *record)
{
	for (int i = 0; i < record->nmembers; i++)
	{
		if (strcmp(record->members[i].node, elector->settings.node) != 0)
			return record->present;
	}
	return false;
}

/*
 * Who has to be asked: those on record, and, while changes of it may still come about,
 * those of the changes.  When one has, the others will not.
 */
static void
keep_asked(Elector *elector)
{
	const ElectorFailsafe *record = &elector->cluster->failsafe;
	const ElectorLeader *leader = &elector->cluster->leader;

	if (elector->leader_revision == 0)
	{
		elector->asked.present = false;
		elector->changing_from = -1;
		return;
	}

	/* Only while the key is ours nobody else writes it. */
	if (!elector->view.known || !leader->present ||
		leader->create_revision != elector->leader_revision)
		return;
	if (elector->changing_from != -1 && record->mod_revision != elector->changing_from)
		elector->changing_from = -1;
	elector_failsafe_copy(&elector->asked, record);
	elector_failsafe_copy(&elector->surely, record);
	elector->asked.present = has_others(elector, record);
	if (elector->changing_from == -1 || !ELECTOR_RULE(ASK_BOTH))
		return;
	elector_failsafe_common(&elector->surely, &elector->unchanged);
	if (!elector->changing.present ||
		!elector_failsafe_add(&elector->asked, &elector->changing))
		elector->asked.present = false;
}

/* Any of those that were asked for may come about, as long as none has. */
static void
add_change(Elector *elector, const ElectorFailsafe *change, int64_t from)
{
	ElectorFailsafe *changing = &elector->changing;

	if (elector->changing_from != from)
	{
		elector_failsafe_copy(changing, change);
		elector_failsafe_copy(&elector->unchanged, change);
	}
	else
	{
		elector_failsafe_common(&elector->unchanged, change);
		if (!elector_failsafe_add(changing, change))
			changing->present = false;
	}
	if (!has_others(elector, change))
		changing->present = false;
	elector->changing_from = from;
}

/* What the elector before this one has asked etcd for may still come about. */
void
elector_promise_resume(Elector *elector)
{
	const ElectorFailsafe *record = &elector->cluster->failsafe;

	if (!record->present && !elector->settings.failsafe)
		return;
	elector->changing.present = false;
	elector->changing.nmembers = 0;
	elector->unchanged.nmembers = 0;
	elector->changing_from = record->mod_revision;
}

void
elector_act_set_failsafe(Elector *elector)
{
	const ElectorView *view = &elector->view;
	ElectorChange change;

	elector_change_init(&change);
	(void) elector_failsafe_plan(view, &change.failsafe);
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, view->leader.create_revision);
	elector_change_if_modified(&change, ELECTOR_KEY_FAILSAFE, view->failsafe.mod_revision);
	if (change.failsafe.present)
		elector_change_put(&change, ELECTOR_KEY_FAILSAFE, 0);
	else
		elector_change_delete(&change, ELECTOR_KEY_FAILSAFE);
	add_change(elector, &change.failsafe, view->failsafe.mod_revision);
	keep_asked(elector);
	elector_act_commit(elector, ELECTOR_DEED_FAILSAFE, &change);
}

/* --- the key again --- */

static void
revoke(Elector *elector, int64_t lease)
{
	ElectorErrand errand = {ELECTOR_ERRAND_REVOKE};

	errand.lease = lease;
	errand.bound = elector_session_bound(elector);
	elector->ports->run(elector->world, &errand);
}

bool
elector_promise_outlives(Elector *elector)
{
	ElectorLease *lease = &elector->leases[ELECTOR_LEASE_LEADER];

	elector_observe(elector);
	if (!elector->gate_open || elector->view.now >= elector->view.promises_until)
		return false;
	if (lease->id != 0)
		revoke(elector, lease->id);
	memset(lease, 0, sizeof(*lease));
	return true;
}

void
elector_act_retake(Elector *elector)
{
	elector->retaking = true;
	elector_act_grant(elector, ELECTOR_LEASE_LEADER, elector->settings.lease_ttl);
}

void
elector_retake_granted(Elector *elector, const ElectorErrandResult *result)
{
	ElectorChange change;

	elector->retaking = false;
	elector->retaken_lease = result->lease;
	elector->retaken_ttl = result->ttl;
	elector_observe(elector);
	if (elector->leader_revision == 0 || !elector_failsafe_may_retake(&elector->view))
	{
		revoke(elector, result->lease);
		return;
	}
	elector_change_init(&change);
	elector_copy(change.leader.node, elector->settings.node, ELECTOR_NAME_SIZE);
	elector_copy(change.leader.instance, elector->instance, ELECTOR_INSTANCE_SIZE);
	elector_copy(change.leader.conninfo, elector->settings.conninfo, ELECTOR_CONNINFO_SIZE);
	change.leader.term = elector->leader_term;
	change.term = elector->cluster->term;
	change.term.lease = result->lease;
	if (ELECTOR_RULE(RETAKEN_ALONE))
	{
		elector_change_if_created(&change, ELECTOR_KEY_LEADER, 0);
		elector_change_if_created(&change, ELECTOR_KEY_ELECTION, 0);
		elector_change_if_modified(&change, ELECTOR_KEY_TERM,
								   elector->cluster->term.mod_revision);
	}
	elector_change_put(&change, ELECTOR_KEY_LEADER, result->lease);
	elector_change_put(&change, ELECTOR_KEY_TERM, 0);
	elector_act_commit(elector, ELECTOR_DEED_RETAKE, &change);
}

void
elector_retaken(Elector *elector, bool happened, int64_t revision)
{
	ElectorErrandResult granted;

	/* Fenced meanwhile, or the key is lost: then it is not to stay. */
	if (!happened || elector->leader_revision == 0 || !elector->gate_open ||
		elector->state.term > elector->leader_term)
	{
		revoke(elector, elector->retaken_lease);
		return;
	}
	memset(&granted, 0, sizeof(granted));
	granted.lease = elector->retaken_lease;
	granted.ttl = elector->retaken_ttl;
	elector->leader_revision = revision;
	elector_session_set_lease(elector, ELECTOR_LEASE_LEADER, &granted);
	elector_save_leadership(elector);
}

/* --- giving one --- */

/* What the disk knows of one holds from now on, for as long as it may last. */
void
elector_promise_init(Elector *elector)
{
	elector->changing_from = -1;
	if (elector->state.promised != 0 && ELECTOR_RULE(PROMISE_SURVIVES))
		elector->promised_until = elector->ports->now(elector->world) +
			elector->state.promised_ms * 1000;
}

void
elector_take_promise(Elector *elector, const ElectorPromiseRequest *request,
					 ElectorPromise *promise)
{
	ElectorState *state = &elector->state;
	ElectorTime lasts = request->lasts_ms * 1000 + elector->settings.lease_margin;
	ElectorTime until;

	elector_observe(elector);
	memset(promise, 0, sizeof(*promise));
	elector_copy(promise->directory, state->directory, sizeof(promise->directory));
	promise->term = request->term;
	promise->asked_at = request->asked_at;
	promise->lasts_ms = request->lasts_ms;
	promise->given = elector_failsafe_may_promise(&elector->view, request);
	if (!promise->given)
		return;
	if (request->open)
		elector->reads_until = elector->view.now + request->lasts_ms * 1000;
	until = elector->view.now + lasts;
	if (until > elector->promised_until || state->promised != request->term)
		elector->promised_until = until;
	if (state->promised != request->term || state->promised_ms < lasts / 1000 + 1)
	{
		state->promised = request->term;
		state->promised_ms = lasts / 1000 + 1;
		elector_save_state(elector);
	}
}

/* Revisions can be compared only while etcd is the one that the fence was about. */
static void
watch_fence(Elector *elector)
{
	const ElectorView *view = &elector->view;

	if (view->known && view->forgot_since == 0 && view->leader.present &&
		view->leader.term == view->state.followed && view->state.term > view->leader.term &&
		view->leader.create_revision > view->state.token)
		elector->fence_void = true;
}

/* It is over, and etcd is there: the disk may forget it, and what waited for it goes on. */
static void
watch_promise(Elector *elector)
{
	const ElectorView *view = &elector->view;

	if (elector->fence_waits && view->now >= elector->waiting_since + view->fence_timeout)
		elector->fence_waits = false;	/* who asked has given it up */
	if (elector->fence_waits && !elector_failsafe_binds(view, elector->waiting.over))
	{
		elector->fence_waits = false;
		elector_take_fence(elector, &elector->waiting);
	}
	else if (elector->fence_waits)
		elector_poll(elector, WAITING_INTERVAL);
	if (elector->state.promised != 0 && view->now >= elector->promised_until && view->known &&
		elector->unreachable_since == 0 && !elector->gate_open)
	{
		elector->state.promised = 0;
		elector->state.promised_ms = 0;
		elector->promised_until = 0;
		elector_save_state(elector);
	}
}

/* --- both --- */

void
elector_promise_step(Elector *elector)
{
	keep_asked(elector);
	watch_fence(elector);
	watch_promise(elector);
	ask_if_overdue(elector);
	watch_failsafe(elector);
}

static ElectorTime
sooner(ElectorTime at, ElectorTime than, ElectorTime now)
{
	return at > now && (than == 0 || at < than) ? at : than;
}

/* When it has something to do at the latest; 0: on events only. */
ElectorTime
elector_promise_next(const Elector *elector)
{
	const ElectorView *view = &elector->view;
	const ElectorLease *lease = &elector->leases[ELECTOR_LEASE_LEADER];
	ElectorTime next = 0;

	if (!elector->gate_open || !elector->asked.present)
		return 0;
	next = sooner(elector->ask_promises_at, next, view->now);
	next = sooner(overdue_at(elector), next, view->now);

	/* It begins and ends. */
	next = sooner(lease->deadline, next, view->now);
	return sooner(view->promises_until, next, view->now);
}
