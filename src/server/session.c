/*
 * session.c
 *	  What the worker keeps up with etcd: leases, and the mirror with its watch.
 *
 * The deadline of a lease is counted from the moment before its renewal was
 * sent, less the margin, so that it falls before etcd's own expiry.  A renewal
 * of the leader's lease counts only when a linearizable read of the leader key,
 * sent after it, succeeds in the same raft term and finds our key: a leader that
 * etcd has isolated still acknowledges keep-alives.
 *
 * Every request is bounded far below a third of the TTL.  One that etcd does not
 * answer goes to the next endpoint; only "no such lease" and "not our key" are
 * final.
 *
 * The trap: etcd's answer may arrive when the lease it speaks of is no longer
 * ours.  So each callback compares the lease's id with the one it asked about.
 */
#include "worker.h"

#include "etcd/json.h"

/* How soon what etcd did not answer is asked again. */
#define RETRY_INTERVAL 100000

/* A renewal under way: which lease it was sent for. */
typedef struct Renewal
{
	ElectorLease *lease;
	int64		id;
} Renewal;

static Renewal alive_renewal;
static Renewal leader_renewal;
static Renewal election_renewal;

static void confirm_leader(Renewal *renewal);
static void watch_event(void *arg, const ElectorEtcdReply *reply);

int64_t
elector_session_bound(void)
{
	int64_t		bound = (int64_t) elector_lease_ttl * 1000000 / 8;

	return Min(bound, 1000000);
}

void
elector_session_init(void)
{
	const char *error;

	elector_worker->etcd = elector_etcd_create(elector_etcd_endpoints, &error);
	if (elector_worker->etcd == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("could not use \"pg_elector.etcd\": %s", error)));
	elector_mirror_init(&elector_worker->mirror, elector_cluster, elector_node);
	alive_renewal.lease = &elector_worker->alive;
	leader_renewal.lease = &elector_worker->leader;
	election_renewal.lease = &elector_worker->election;
	elector_worker->reachable = true;
}

/* One line in the log when etcd goes, one when it comes back. */
void
elector_session_note(const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;

	worker->news = true;
	if (reply->status == ELECTOR_ETCD_UNKNOWN)
	{
		if (worker->unreachable_since == 0)
			worker->unreachable_since = elector_now();
		strlcpy(worker->error, reply->error, sizeof(worker->error));
		if (worker->reachable &&
			elector_now() >= worker->unreachable_since + 1000000)
		{
			worker->reachable = false;
			ereport(LOG,
					(errmsg("etcd does not answer: %s", reply->error)));
		}
		return;
	}
	worker->unreachable_since = 0;
	worker->error[0] = '\0';
	if (!worker->reachable)
	{
		worker->reachable = true;
		ereport(LOG,
				(errmsg("etcd answers again at \"%s\"", reply->endpoint)));
	}
	if (reply->status == ELECTOR_ETCD_REFUSED)
	{
		strlcpy(worker->error, reply->error, sizeof(worker->error));
		ereport(DEBUG1,
				(errmsg_internal("etcd refused: %s", reply->error)));
	}
}

/* --- leases --- */

static ElectorTime
margin(const ElectorLease *lease)
{
	return lease == &elector_worker->leader ?
		(ElectorTime) elector_lease_margin * 1000 : lease->ttl / 10;
}

static void
extend(ElectorLease *lease, ElectorTime sent_at)
{
	ElectorTime deadline = sent_at + lease->ttl - margin(lease);

	if (deadline > lease->deadline)
		lease->deadline = deadline;
	lease->renew_at = sent_at + lease->ttl / 3;
	lease->status.deadline = lease->deadline;
	if (lease == &elector_worker->leader && elector_worker->gate_open)
		pg_atomic_write_u64(&elector_shared->gate_deadline, lease->deadline);
}

/* A lease was granted. */
void
elector_session_set_lease(ElectorLease *lease, const ElectorEtcdReply *reply,
						  ElectorTime sent_at)
{
	memset(lease, 0, sizeof(*lease));
	lease->id = reply->lease;
	lease->ttl = reply->ttl * 1000000;
	lease->status.id = lease->id;
	lease->status.ttl_ms = reply->ttl * 1000;
	extend(lease, sent_at);
}

static void
ignore_reply(void *arg, const ElectorEtcdReply *reply)
{
	elector_session_note(reply);
}

void
elector_session_drop_lease(ElectorLease *lease, bool revoke)
{
	if (lease->id != 0 && revoke)
		elector_etcd_revoke(elector_worker->etcd, lease->id,
							elector_session_bound(), ignore_reply, NULL);
	memset(lease, 0, sizeof(*lease));
	if (lease == &elector_worker->leader)
	{
		elector_close_gate();
		elector_worker->leader_revision = 0;
	}
}

/* The lease is gone for good, whoever ended it. */
static void
lost_lease(ElectorLease *lease)
{
	if (lease == &elector_worker->leader)
		ereport(LOG,
				(errmsg("the leader's lease has ended in etcd")));
	elector_session_drop_lease(lease, false);
	elector_session_reload();
}

static void
renewal_failed(ElectorLease *lease)
{
	lease->busy = false;
	lease->status.failures++;
	lease->renew_at = elector_now() + RETRY_INTERVAL;
}

static void
renewal_done(ElectorLease *lease)
{
	lease->busy = false;
	lease->status.renewals++;
	lease->status.rtt_us = elector_now() - lease->sent_at;
	extend(lease, lease->sent_at);
}

static void
renewed(void *arg, const ElectorEtcdReply *reply)
{
	Renewal    *renewal = arg;
	ElectorLease *lease = renewal->lease;

	elector_session_note(reply);
	if (lease->id != renewal->id)
		return;
	if (reply->status != ELECTOR_ETCD_OK)
	{
		renewal_failed(lease);
		return;
	}
	if (reply->ttl <= 0)
	{
		lost_lease(lease);
		return;
	}
	lease->raft_term = reply->raft_term;
	if (lease == &elector_worker->leader)
		confirm_leader(renewal);
	else
		renewal_done(lease);
}

/*
 * Our key with a value that is not ours: somebody overwrote it, which also took
 * it off our lease.  It is still the key that we created, so put it right.
 */
static void
repair_leader(const ElectorEtcdKv *kv)
{
	ElectorWorker *worker = elector_worker;
	ElectorTxn *txn = elector_txn_create();
	ElectorLeader leader;
	char	   *json;

	memset(&leader, 0, sizeof(leader));
	strlcpy(leader.node, elector_node, sizeof(leader.node));
	strlcpy(leader.instance, elector_shared->instance, sizeof(leader.instance));
	strlcpy(leader.conninfo, elector_conninfo, sizeof(leader.conninfo));
	leader.term = worker->mirror.leader.term;
	json = elector_leader_to_json(&leader);
	elector_txn_if_created(txn, worker->mirror.keys.leader, kv->create_revision);
	elector_txn_put(txn, worker->mirror.keys.leader, json, worker->leader.id);
	free(json);
	elector_etcd_commit(worker->etcd, txn, elector_session_bound(), ignore_reply, NULL);
	ereport(LOG,
			(errmsg("the leader key in etcd was overwritten; it is put right")));
}

static void
confirmed(void *arg, const ElectorEtcdReply *reply)
{
	Renewal    *renewal = arg;
	ElectorLease *lease = renewal->lease;
	const ElectorEtcdKv *kv = reply->nkvs == 1 ? &reply->kvs[0] : NULL;

	elector_session_note(reply);
	if (lease->id != renewal->id)
		return;
	if (reply->status != ELECTOR_ETCD_OK)
	{
		renewal_failed(lease);
		return;
	}
	if (kv == NULL || kv->create_revision != elector_worker->leader_revision)
	{
		/* A leader that sees its key gone closes at once (S9). */
		lost_lease(lease);
		return;
	}
	if (kv->lease != lease->id)
	{
		repair_leader(kv);
		renewal_failed(lease);
		return;
	}
	if (reply->raft_term != lease->raft_term)
	{
		/* etcd changed its leader in between: renew again. */
		renewal_failed(lease);
		lease->renew_at = elector_now();
		return;
	}
	renewal_done(lease);
}

static void
confirm_leader(Renewal *renewal)
{
	ElectorTxn *txn = elector_txn_create();

	elector_txn_range(txn, elector_worker->mirror.keys.leader, NULL, 0, false);
	elector_etcd_commit(elector_worker->etcd, txn, elector_session_bound(),
						confirmed, renewal);
}

static void
renew(Renewal *renewal, ElectorTime now)
{
	ElectorLease *lease = renewal->lease;

	if (lease->id == 0 || lease->busy || now < lease->renew_at)
		return;

	/* The leader's lease is renewed for a key that we know to be ours. */
	if (lease == &elector_worker->leader && elector_worker->leader_revision == 0)
		return;
	lease->busy = true;
	lease->sent_at = now;
	renewal->id = lease->id;
	elector_etcd_keepalive(elector_worker->etcd, lease->id,
						   elector_session_bound(), renewed, renewal);
}

/* --- the mirror --- */

void
elector_session_reload(void)
{
	elector_worker->watching = false;
	elector_worker->load_at = 0;
}

static void
retry_load(void)
{
	elector_worker->watching = false;
	elector_worker->load_at = elector_now() + RETRY_INTERVAL;
}

static void
report_unreadable(void)
{
	ElectorMirror *mirror = &elector_worker->mirror;

	if (mirror->unreadable[0] != '\0')
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the value of key \"%s\" in etcd cannot be read and is ignored",
						mirror->unreadable),
				 errhint("Somebody other than pg_elector has written it.")));
	mirror->unreadable[0] = '\0';
}

static void
loaded(void *arg, const ElectorEtcdReply *reply)
{
	ElectorWorker *worker = elector_worker;

	worker->loading = false;
	elector_session_note(reply);
	if (reply->status != ELECTOR_ETCD_OK)
	{
		retry_load();
		return;
	}
	elector_mirror_load(&worker->mirror, reply);
	report_unreadable();
	if (!worker->mirror.complete)
	{
		retry_load();
		return;
	}

	/* A write of ours whose outcome was unknown is in here, or never was. */
	if (worker->written > worker->mirror.revision)
		worker->written = worker->mirror.revision;
	worker->watching = true;
	worker->raise_checked = worker->fence_term;
	elector_etcd_watch(worker->etcd, worker->mirror.keys.prefix,
					   worker->mirror.keys.end, reply->revision + 1,
					   elector_session_bound(), watch_event, NULL);
}

static void
load(ElectorTime now)
{
	ElectorWorker *worker = elector_worker;

	if (worker->watching || worker->loading || now < worker->load_at)
		return;
	worker->loading = true;
	elector_etcd_commit(worker->etcd, elector_mirror_read(&worker->mirror),
						elector_session_bound(), loaded, NULL);
}

static void
watch_event(void *arg, const ElectorEtcdReply *reply)
{
	elector_worker->news = true;
	if (reply->status != ELECTOR_ETCD_OK)
	{
		if (elector_worker->watching)
			elector_session_reload();
		return;
	}
	elector_mirror_apply(&elector_worker->mirror, reply);
	report_unreadable();
}

/* --- both --- */

void
elector_session_step(ElectorTime now)
{
	renew(&leader_renewal, now);
	renew(&election_renewal, now);
	renew(&alive_renewal, now);
	load(now);
}

static ElectorTime
sooner(ElectorTime at, const ElectorLease *lease)
{
	if (lease->id == 0 || lease->busy ||
		(lease == &elector_worker->leader && elector_worker->leader_revision == 0))
		return at;
	return Min(at, lease->renew_at);
}

/* When elector_session_step() has something to do at the latest. */
ElectorTime
elector_session_next(void)
{
	ElectorTime at = elector_now() + 60 * (ElectorTime) 1000000;

	at = sooner(at, &elector_worker->leader);
	at = sooner(at, &elector_worker->election);
	at = sooner(at, &elector_worker->alive);
	if (!elector_worker->watching && !elector_worker->loading)
		at = Min(at, elector_worker->load_at);
	return at;
}
