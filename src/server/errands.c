/*
 * errands.c
 *	  The elector's errands to etcd, by the JSON gateway's client.
 *
 * An errand is copied, sent, and handed back with its result.  What etcd has
 * read or watched goes into the mirror first, so that the elector finds it
 * there.
 */
#include "worker.h"

#include "utils/memutils.h"

/* A request that takes longer than this part of the TTL tries another endpoint. */
#define PATIENCE_PART 10

static ElectorEtcdSettings
etcd_settings(void)
{
	ElectorEtcdSettings settings = {
		.endpoints = elector_etcd_endpoints,
		.ca_file = elector_etcd_ca_file,
		.cert_file = elector_etcd_cert_file,
		.key_file = elector_etcd_key_file,
		.user = elector_etcd_user,
		.password_file = elector_etcd_password_file
	};

	return settings;
}

/* What the operator should know of the way to etcd. */
static void
notice(void *arg, bool trouble, const char *message, const char *hint)
{
	ereport(trouble ? WARNING : LOG,
			(errmsg("%s", message),
			 hint[0] != '\0' ? errhint("%s", hint) : 0));
}

void
elector_errands_init(void)
{
	ElectorEtcdSettings settings = etcd_settings();
	const char *error;

	elector_worker->etcd = elector_etcd_create(&settings, &error);
	if (elector_worker->etcd == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("could not use \"pg_elector.etcd\": %s", error)));
	elector_etcd_listen(elector_worker->etcd, notice, NULL);
	elector_etcd_set_patience(elector_worker->etcd,
							  (ElectorTime) elector_lease_ttl * 1000000 / PATIENCE_PART);
	elector_mirror_init(&elector_worker->mirror, elector_cluster, elector_node);
	elector_worker->elector.cluster = &elector_worker->mirror.cluster;
}

/* The configuration was loaded anew. */
void
elector_errands_settings(void)
{
	ElectorEtcdSettings settings = etcd_settings();

	elector_etcd_configure(elector_worker->etcd, &settings);
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
answered(void *arg, const ElectorEtcdReply *reply)
{
	ElectorErrand *errand = arg;
	ElectorErrandResult result;

	memset(&result, 0, sizeof(result));
	result.status = reply->status;
	result.error = reply->error;
	result.endpoint = reply->endpoint;
	result.revision = reply->revision;
	result.raft_term = reply->raft_term;
	result.succeeded = reply->succeeded;
	result.lease = reply->lease;
	result.ttl = reply->ttl;
	result.last_second = reply->last_second;
	if ((errand->kind == ELECTOR_ERRAND_CONFIRM || errand->kind == ELECTOR_ERRAND_VERIFY) &&
		reply->nkvs == 1)
	{
		result.present = true;
		result.create_revision = reply->kvs[0].create_revision;
		result.key_lease = reply->kvs[0].lease;
	}
	if (errand->kind == ELECTOR_ERRAND_LOAD && reply->status == ELECTOR_ETCD_OK)
	{
		elector_mirror_load(&elector_worker->mirror, reply);
		report_unreadable();
	}

	elector_heard(&elector_worker->elector, errand, &result);
	if (errand->kind == ELECTOR_ERRAND_COMMIT)
		elector_calls_written(errand->deed, &result);
	pfree(errand);
}

static void
watched(void *arg, const ElectorEtcdReply *reply)
{
	if (reply->status == ELECTOR_ETCD_OK)
	{
		elector_mirror_apply(&elector_worker->mirror, reply);
		report_unreadable();
	}
	elector_watched(&elector_worker->elector, reply->status != ELECTOR_ETCD_OK);
}

static ElectorTxn *
need_memory(ElectorTxn *txn)
{
	if (txn == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
	return txn;
}

/* An etcd that is slow is not to be asked in vain. */
static int64
bound_of(const ElectorErrand *errand)
{
	return Max(errand->bound, elector_etcd_patience(elector_worker->etcd));
}

void
elector_errands_run(void *world, const ElectorErrand *errand)
{
	ElectorEtcd *etcd = elector_worker->etcd;
	int64		bound = bound_of(errand);
	const ElectorMirror *mirror = &elector_worker->mirror;
	ElectorErrand *copy = MemoryContextAlloc(TopMemoryContext, sizeof(ElectorErrand));
	ElectorTxn *txn;

	*copy = *errand;
	copy->change = NULL;
	switch (errand->kind)
	{
		case ELECTOR_ERRAND_LOAD:
			elector_etcd_commit(etcd, need_memory(elector_mirror_read(mirror)),
								bound, answered, copy);
			break;
		case ELECTOR_ERRAND_WATCH:
			elector_etcd_watch(etcd, mirror->keys.prefix, mirror->keys.end,
							   mirror->cluster.revision + 1, bound, watched, NULL);
			pfree(copy);
			break;
		case ELECTOR_ERRAND_GRANT:
			elector_etcd_grant(etcd, errand->ttl, bound, answered, copy);
			break;
		case ELECTOR_ERRAND_RENEW:
			elector_etcd_keepalive(etcd, errand->lease, bound, answered, copy);
			break;
		case ELECTOR_ERRAND_CONFIRM:
		case ELECTOR_ERRAND_VERIFY:
			txn = need_memory(elector_txn_create());
			elector_txn_range(txn, mirror->keys.leader, NULL, 0, false);
			elector_etcd_commit(etcd, txn, bound, answered, copy);
			break;
		case ELECTOR_ERRAND_LOOK:
			elector_etcd_timetolive(etcd, errand->lease, bound, answered, copy);
			break;
		case ELECTOR_ERRAND_REVOKE:
			elector_etcd_revoke(etcd, errand->lease, bound, answered, copy);
			break;
		case ELECTOR_ERRAND_COMMIT:
			elector_etcd_commit(etcd, need_memory(elector_mirror_txn(mirror, errand->change)),
								bound, answered, copy);
			break;
	}
}
