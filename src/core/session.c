/*
 * session.c
 *	  What an elector keeps up with etcd: its leases, and the mirror with its
 *	  watch.
 *
 * The deadline of a lease is counted from the moment before its renewal was
 * sent, less the margin, so that it falls before etcd's own expiry.  A renewal
 * of the leader's lease counts only when a linearizable read of the leader key,
 * sent after it, succeeds in the same raft term and finds our key: a leader that
 * etcd has isolated still acknowledges keep-alives.
 *
 * Every errand but a renewal is bounded far below a third of the TTL.  One that
 * etcd does not answer goes to the next endpoint; only "no such lease" and "not our
 * key" are final.
 *
 * A renewal may be answered late and still count, since its deadline is its own.
 * So it is not given up as long as it would, but sent again when it should have
 * been answered: an endpoint that is silent costs no more than that, and an etcd
 * that is slow as a whole keeps the gate open as well as it can.
 *
 * The trap: etcd's answer may arrive when the lease it speaks of is no longer
 * ours.  So each one is compared with the lease that was asked about.
 */
#include "elector.h"
#include "name.h"
#include "rules.h"

#include <stdio.h>
#include <string.h>

/* How soon what etcd did not answer is asked again. */
#define RETRY_INTERVAL 100000

/* For so long etcd may be silent before it is worth a word. */
#define SILENCE 1000000

#define BOUND_MAX 1000000

/* Of one lease, at one time; more than are sent within its life. */
#define RENEWALS_MAX 16

ElectorTime
elector_session_bound(const Elector *elector)
{
	ElectorTime bound = elector->settings.lease_ttl / 8;

	return bound < BOUND_MAX ? bound : BOUND_MAX;
}

/* One word when etcd goes, one when it comes back. */
void
elector_session_note(Elector *elector, const ElectorErrandResult *result)
{
	ElectorTime now = elector->ports->now(elector->world);

	elector->news = true;
	if (result->status == ELECTOR_ETCD_UNKNOWN)
	{
		if (elector->unreachable_since == 0)
			elector->unreachable_since = now;
		snprintf(elector->error, sizeof(elector->error), "%s: %s", result->endpoint,
				 result->error);
		if (elector->reachable && now >= elector->unreachable_since + SILENCE &&
			elector_note_apart(&elector->silence_noted_at, now))
		{
			elector->reachable = false;
			elector_note(elector, ELECTOR_NOTE_ETCD_SILENT, elector->error);
		}
		return;
	}
	if (elector->unreachable_since != 0)
		elector->linked_since = now;
	elector->unreachable_since = 0;
	elector->error[0] = '\0';
	if (!elector->reachable)
	{
		elector->reachable = true;
		elector_note(elector, ELECTOR_NOTE_ETCD_BACK, result->endpoint);
	}
	if (result->status == ELECTOR_ETCD_REFUSED)
	{
		elector_copy(elector->error, result->error, sizeof(elector->error));
		elector_note(elector, ELECTOR_NOTE_ETCD_REFUSED, result->error);
	}
}

/* --- leases --- */

static ElectorTime
margin(const Elector *elector, ElectorLeaseKind kind)
{
	if (!ELECTOR_RULE(MARGIN))
		return 0;
	return kind == ELECTOR_LEASE_LEADER ? elector->settings.lease_margin :
		elector->leases[kind].ttl / 10;
}

/* Three tries before the deadline; a margin may leave little of the TTL. */
static ElectorTime
renewal_interval(const Elector *elector, ElectorLeaseKind kind)
{
	ElectorTime ttl = elector->leases[kind].ttl;
	ElectorTime interval = (ttl - margin(elector, kind)) / 3;

	return interval > ttl / 20 ? interval : ttl / 20;
}

static void
extend(Elector *elector, ElectorLeaseKind kind, ElectorTime sent_at)
{
	ElectorLease *lease = &elector->leases[kind];
	ElectorTime deadline;

	if (!ELECTOR_RULE(DEADLINE_FROM_SENDING))
		sent_at = elector->ports->now(elector->world);
	deadline = sent_at + lease->ttl - margin(elector, kind);
	if (deadline > lease->deadline)
		lease->deadline = deadline;
	if (lease->under_way == 0 ||
		lease->renew_at < sent_at + renewal_interval(elector, kind))
		lease->renew_at = sent_at + renewal_interval(elector, kind);
	if (kind == ELECTOR_LEASE_LEADER)
		elector_move_gate(elector, lease->deadline);
}

/* A lease was granted. */
void
elector_session_set_lease(Elector *elector, ElectorLeaseKind kind,
						  const ElectorErrandResult *result)
{
	ElectorLease *lease = &elector->leases[kind];

	memset(lease, 0, sizeof(*lease));
	lease->id = result->lease;
	lease->ttl = result->ttl * 1000000;
	extend(elector, kind, elector->granted_at);
}

void
elector_session_drop_lease(Elector *elector, ElectorLeaseKind kind, bool revoke)
{
	ElectorLease *lease = &elector->leases[kind];

	if (lease->id != 0 && revoke)
	{
		ElectorErrand errand = {ELECTOR_ERRAND_REVOKE};

		errand.lease = lease->id;
		errand.bound = elector_session_bound(elector);
		elector->ports->run(elector->world, &errand);
	}
	memset(lease, 0, sizeof(*lease));
	if (kind == ELECTOR_LEASE_LEADER)
	{
		elector_close_gate(elector);
		elector->leader_revision = 0;
		elector->lapsed = false;
		elector->cut_off = false;
	}
}

/* The lease is gone for good, whoever ended it. */
static void
lost_lease(Elector *elector, ElectorLeaseKind kind)
{
	if (kind == ELECTOR_LEASE_LEADER)
		elector_note(elector, ELECTOR_NOTE_LEASE_ENDED, "");
	if (kind != ELECTOR_LEASE_LEADER || !elector_promise_outlives(elector))
		elector_session_drop_lease(elector, kind, false);
	elector_session_reload(elector);
}

static void
renewal_failed(Elector *elector, ElectorLease *lease)
{
	ElectorTime again = elector->ports->now(elector->world) + RETRY_INTERVAL;

	lease->under_way--;
	lease->failures++;
	if (lease->renew_at > again)
		lease->renew_at = again;
}

static void
renewal_done(Elector *elector, ElectorLeaseKind kind, ElectorTime renewed_at)
{
	ElectorLease *lease = &elector->leases[kind];

	lease->under_way--;
	lease->renewals++;
	lease->rtt_us = elector->ports->now(elector->world) - renewed_at;
	extend(elector, kind, renewed_at);
}

/* Until when an answer to a renewal is of use. */
static ElectorTime
renewal_bound(const Elector *elector, ElectorTime renewed_at)
{
	ElectorTime end = renewed_at + elector->settings.lease_ttl -
		elector->settings.lease_margin;
	ElectorTime left = end - elector->ports->now(elector->world);
	ElectorTime least = elector_session_bound(elector);

	return left > least ? left : least;
}

static void
confirm_leader(Elector *elector, const ElectorErrand *renewal, uint64_t raft_term)
{
	ElectorErrand errand = {ELECTOR_ERRAND_CONFIRM, ELECTOR_LEASE_LEADER};

	errand.lease = renewal->lease;
	errand.renewed_at = renewal->renewed_at;
	errand.raft_term = raft_term;
	errand.bound = renewal_bound(elector, renewal->renewed_at);
	elector->ports->run(elector->world, &errand);
}

static void
renewed(Elector *elector, const ElectorErrand *errand, const ElectorErrandResult *result)
{
	ElectorLeaseKind kind = errand->which;
	ElectorLease *lease = &elector->leases[kind];

	if (result->status != ELECTOR_ETCD_OK)
	{
		renewal_failed(elector, lease);
		return;
	}
	if (result->ttl <= 0)
	{
		lost_lease(elector, kind);
		return;
	}
	if (kind == ELECTOR_LEASE_LEADER && ELECTOR_RULE(CONFIRM_RENEWAL))
		confirm_leader(elector, errand, result->raft_term);
	else
		renewal_done(elector, kind, errand->renewed_at);
}

/*
 * Our key with a value that is not ours: somebody overwrote it, which also took
 * it off our lease.  It is still the key that we created, so put it right.
 */
static void
repair_leader(Elector *elector, int64_t create_revision)
{
	ElectorErrand errand = {ELECTOR_ERRAND_COMMIT};
	ElectorChange change;

	elector_change_init(&change);
	elector_copy(change.leader.node, elector->settings.node, ELECTOR_NAME_SIZE);
	elector_copy(change.leader.instance, elector->instance, ELECTOR_INSTANCE_SIZE);
	elector_copy(change.leader.conninfo, elector->settings.conninfo, ELECTOR_CONNINFO_SIZE);
	change.leader.term = elector->leader_term;
	elector_change_if_created(&change, ELECTOR_KEY_LEADER, create_revision);
	elector_change_put(&change, ELECTOR_KEY_LEADER,
					   elector->leases[ELECTOR_LEASE_LEADER].id);
	errand.deed = ELECTOR_DEED_REPAIR;
	errand.bound = elector_session_bound(elector);
	errand.change = &change;
	elector->ports->run(elector->world, &errand);
	elector_note(elector, ELECTOR_NOTE_KEY_REPAIRED, "");
}

static void
confirmed(Elector *elector, const ElectorErrand *errand, const ElectorErrandResult *result)
{
	ElectorLease *lease = &elector->leases[ELECTOR_LEASE_LEADER];

	if (result->status != ELECTOR_ETCD_OK)
	{
		renewal_failed(elector, lease);
		return;
	}
	if (!result->present || result->create_revision != elector->leader_revision)
	{
		/* A leader that sees its key gone closes at once (S9), but for promises. */
		lost_lease(elector, ELECTOR_LEASE_LEADER);
		return;
	}
	if (result->key_lease != lease->id)
	{
		repair_leader(elector, result->create_revision);
		renewal_failed(elector, lease);
		return;
	}
	if (result->raft_term != errand->raft_term)
	{
		/* etcd changed its leader in between: renew again. */
		renewal_failed(elector, lease);
		lease->renew_at = elector->ports->now(elector->world);
		return;
	}
	renewal_done(elector, ELECTOR_LEASE_LEADER, errand->renewed_at);
}

/* The leader's lease is renewed for a key that we know to be ours. */
static bool
to_be_renewed(const Elector *elector, ElectorLeaseKind kind)
{
	const ElectorLease *lease = &elector->leases[kind];

	return lease->id != 0 && lease->under_way < RENEWALS_MAX &&
		(kind != ELECTOR_LEASE_LEADER ||
		 (elector->leader_revision != 0 && !elector->lapsed));
}

/*
 * Unless it is confirmed by then, another is sent: the first soon, since the
 * endpoint may be silent and the next one not, the others as an etcd that is slow
 * can bear.
 */
void
elector_session_renew(Elector *elector, ElectorLeaseKind kind, ElectorTime now)
{
	ElectorLease *lease = &elector->leases[kind];
	ElectorErrand errand = {ELECTOR_ERRAND_RENEW, kind};
	ElectorTime again = elector_session_bound(elector);

	if (!to_be_renewed(elector, kind))
		return;
	if (lease->under_way > 0 && again < elector->settings.lease_ttl / 8)
		again = elector->settings.lease_ttl / 8;
	lease->under_way++;
	lease->renew_at = now + again;
	errand.lease = lease->id;
	errand.renewed_at = now;
	errand.bound = renewal_bound(elector, now);
	elector->ports->run(elector->world, &errand);
}

/* --- the mirror --- */

void
elector_session_reload(Elector *elector)
{
	elector->watching = false;
	elector->load_at = 0;
	elector->load_again = elector->loading;
}

static void
loaded(Elector *elector, const ElectorErrandResult *result)
{
	const ElectorCluster *cluster = elector->cluster;
	ElectorErrand errand = {ELECTOR_ERRAND_WATCH};

	elector->loading = false;
	if (elector->load_again)
	{
		/* It was sent before that was asked for. */
		elector->load_again = false;
		return;
	}
	if (result->status != ELECTOR_ETCD_OK || !cluster->complete)
	{
		elector->watching = false;
		elector->load_at = elector->ports->now(elector->world) + RETRY_INTERVAL;
		return;
	}

	/* A write of ours whose result was unknown is in here, or never was. */
	if (elector->written > cluster->revision)
		elector->written = cluster->revision;

	/* Revisions only grow, but for a restore from a backup. */
	if (cluster->revision < elector->loaded_revision)
		elector->restored_revision = cluster->revision;
	elector->loaded_revision = cluster->revision;
	elector->watching = true;
	elector->raise_checked = elector->fence_term;
	errand.bound = elector_session_bound(elector);
	elector->ports->run(elector->world, &errand);
}

static void
load(Elector *elector, ElectorTime now)
{
	ElectorErrand errand = {ELECTOR_ERRAND_LOAD};

	if (elector->watching || elector->loading || now < elector->load_at)
		return;
	elector->loading = true;
	errand.bound = elector_session_bound(elector);
	elector->ports->run(elector->world, &errand);
}

void
elector_watched(Elector *elector, bool ended)
{
	elector->news = true;
	if (ended && elector->watching)
		elector_session_reload(elector);
}

/* --- both --- */

void
elector_session_heard(Elector *elector, const ElectorErrand *errand,
					  const ElectorErrandResult *result)
{
	bool		ours = elector->leases[errand->which].id == errand->lease;

	switch (errand->kind)
	{
		case ELECTOR_ERRAND_LOAD:
			elector_session_note(elector, result);
			loaded(elector, result);
			break;
		case ELECTOR_ERRAND_RENEW:
			elector_session_note(elector, result);
			if (ours)
				renewed(elector, errand, result);
			break;
		case ELECTOR_ERRAND_CONFIRM:
			elector_session_note(elector, result);
			if (ours)
				confirmed(elector, errand, result);
			break;
		case ELECTOR_ERRAND_REVOKE:
			break;				/* said without expecting to be heard */
		case ELECTOR_ERRAND_WATCH:
		case ELECTOR_ERRAND_GRANT:
		case ELECTOR_ERRAND_LOOK:
		case ELECTOR_ERRAND_VERIFY:
		case ELECTOR_ERRAND_COMMIT:
			break;				/* elector_act_heard() */
	}
}

void
elector_session_step(Elector *elector, ElectorTime now)
{
	for (int kind = 0; kind < ELECTOR_LEASES; kind++)
	{
		if (now >= elector->leases[kind].renew_at)
			elector_session_renew(elector, kind, now);
	}
	load(elector, now);
}

/* When elector_session_step() has something to do at the latest. */
ElectorTime
elector_session_next(const Elector *elector, ElectorTime now)
{
	ElectorTime at = now + 60 * (ElectorTime) 1000000;

	for (int kind = 0; kind < ELECTOR_LEASES; kind++)
	{
		if (to_be_renewed(elector, kind) && elector->leases[kind].renew_at < at)
			at = elector->leases[kind].renew_at;
	}
	if (!elector->watching && !elector->loading && elector->load_at < at)
		at = elector->load_at;
	return at;
}
