/*
 * client.h
 *	  An asynchronous client of etcd's v3 JSON gateway, on libcurl's multi
 *	  interface.
 *
 * Nothing here blocks, sleeps, or knows PostgreSQL.  The caller starts
 * requests, waits on elector_etcd_fd() together with whatever else it waits
 * for, and calls elector_etcd_pump(), from which all callbacks are made.
 *
 * A request has one outcome within its bound.  There are no retries inside: a
 * request that an endpoint did not answer ends as ELECTOR_ETCD_UNKNOWN, later
 * requests go to the next endpoint, and the caller, which decides anew from
 * what it knows, asks again.  Only etcd's own answer is final.
 *
 * The one trap: after ELECTOR_ETCD_UNKNOWN a transaction may have happened.
 * Read before writing again.
 */
#ifndef ELECTOR_ETCD_CLIENT_H
#define ELECTOR_ETCD_CLIENT_H

#include "../core/errand.h"
#include "notice.h"

typedef struct ElectorEtcd ElectorEtcd;
typedef struct ElectorTxn ElectorTxn;

/* Bounds: what etcd sends is not trusted to be reasonable. */
#define ELECTOR_ETCD_ENDPOINTS_MAX	16
#define ELECTOR_ETCD_REPLY_MAX		(4 * 1024 * 1024)	/* bytes of one reply,
														 * or of one watch
														 * message */
#define ELECTOR_ETCD_KVS_MAX		4096	/* keys in one reply */

typedef struct ElectorEtcdKv
{
	const char *key;			/* NUL-terminated; keys with a NUL are dropped */
	const char *value;			/* NUL-terminated as well */
	size_t		value_length;
	int64_t		create_revision;
	int64_t		mod_revision;
	int64_t		lease;
	bool		deleted;		/* in a watch: the key was deleted */
} ElectorEtcdKv;

/* Valid only during the callback. */
typedef struct ElectorEtcdReply
{
	ElectorEtcdStatus status;
	const char *error;			/* one line for the log; "" when OK.  Never
								 * holds a secret */
	const char *endpoint;		/* who answered or did not */

	/* from the header */
	int64_t		revision;
	uint64_t	raft_term;
	uint64_t	cluster_id;

	bool		succeeded;		/* transaction: the comparisons held */
	const ElectorEtcdKv *kvs;	/* transaction: all ranges' keys, in order;
								 * watch: the events, in order */
	size_t		nkvs;

	int64_t		lease;			/* grant */
	int64_t		ttl;			/* grant, keep-alive, time-to-live: seconds;
								 * <= 0: no such lease */
	bool		last_second;	/* time-to-live: the lease is there, and less
								 * than a second of it is left, or nothing */
} ElectorEtcdReply;

typedef void (*ElectorEtcdCallback) (void *arg, const ElectorEtcdReply *reply);

/*
 * What is set.  Files are read when they are needed, and again when they have
 * changed; NULL or "" is none.
 */
typedef struct ElectorEtcdSettings
{
	const char *endpoints;		/* http:// or https:// URLs, separated by
								 * commas */
	const char *ca_file;		/* of etcd's certificates; none: the system's */
	const char *cert_file;		/* our own certificate, ... */
	const char *key_file;		/* ... and its key */
	const char *user;
	const char *password_file;
	const char *token;			/* to begin with: another client's of the same
								 * user */
} ElectorEtcdSettings;

/*
 * NULL if the endpoints are none; *error then says why (a static string).
 * curl_global_init() happens inside, once; the caller blocks signals around
 * elector_etcd_pump() and the calls that start a request if its signal handlers
 * must not run in libcurl's resolver thread.
 */
extern ElectorEtcd *elector_etcd_create(const ElectorEtcdSettings *settings,
										const char **error);
extern void elector_etcd_destroy(ElectorEtcd *etcd);

/* Other files, another user; the endpoints stay.  For requests from now on. */
extern void elector_etcd_configure(ElectorEtcd *etcd, const ElectorEtcdSettings *settings);

/* The token in use, for another client; "" if there is none.  It is a secret. */
extern const char *elector_etcd_token(const ElectorEtcd *etcd);

/* Who is told what an operator should know, from elector_etcd_pump(). */
extern void elector_etcd_listen(ElectorEtcd *etcd, ElectorEtcdNotice callback, void *arg);

/*
 * An endpoint that has not answered a request for this long is not given later
 * ones, though the request goes on until its bound; 0, the default: it is waited
 * for.  elector_etcd_patience() is how long the present endpoint is given, which
 * is longer if it has been slow: a bound that is shorter asks in vain.
 */
extern void elector_etcd_set_patience(ElectorEtcd *etcd, int64_t least);
extern int64_t elector_etcd_patience(const ElectorEtcd *etcd);

/* Is the list well-formed?  For checking a setting; static message otherwise. */
extern bool elector_etcd_endpoints_valid(const char *endpoints, const char **error);

/* Readable when elector_etcd_pump() has something to do. */
extern int	elector_etcd_fd(const ElectorEtcd *etcd);

/* Microseconds until elector_etcd_pump() must run although nothing is readable;
 * -1: no such time. */
extern int64_t elector_etcd_timeout(const ElectorEtcd *etcd);

/* Make progress without blocking; runs the callbacks of whatever has ended.
 * Callbacks may start new requests. */
extern void elector_etcd_pump(ElectorEtcd *etcd);

/* Is any request under way, the watch aside? */
extern bool elector_etcd_busy(const ElectorEtcd *etcd);

/* The endpoint that the next request goes to, for messages. */
extern const char *elector_etcd_endpoint(const ElectorEtcd *etcd);

/* Go to another endpoint: ends the watch, if any, as ELECTOR_ETCD_UNKNOWN. */
extern void elector_etcd_rotate(ElectorEtcd *etcd);

/*
 * Requests.  bound_us is how long the request may take in all.  The callback is
 * made exactly once, from elector_etcd_pump(), unless the client is destroyed
 * first.
 */
extern void elector_etcd_grant(ElectorEtcd *etcd, int64_t ttl, int64_t bound_us,
							   ElectorEtcdCallback callback, void *arg);
extern void elector_etcd_keepalive(ElectorEtcd *etcd, int64_t lease, int64_t bound_us,
								   ElectorEtcdCallback callback, void *arg);
extern void elector_etcd_revoke(ElectorEtcd *etcd, int64_t lease, int64_t bound_us,
								ElectorEtcdCallback callback, void *arg);
extern void elector_etcd_timetolive(ElectorEtcd *etcd, int64_t lease, int64_t bound_us,
									ElectorEtcdCallback callback, void *arg);

/* Transactions.  A transaction without comparisons always succeeds; reads are
 * linearizable.  elector_etcd_commit() frees txn. */
extern ElectorTxn *elector_txn_create(void);
extern void elector_txn_destroy(ElectorTxn *txn);
extern void elector_txn_if_created(ElectorTxn *txn, const char *key, int64_t create_revision);	/* 0: absent */
extern void elector_txn_if_modified(ElectorTxn *txn, const char *key, int64_t mod_revision);	/* 0: absent */
extern void elector_txn_put(ElectorTxn *txn, const char *key, const char *value, int64_t lease);
extern void elector_txn_delete(ElectorTxn *txn, const char *key);

/* Read whether the comparisons hold or not.  range_end NULL: just the key; limit
 * 0: all; newest_first sorts by key, last first */
extern void elector_txn_range(ElectorTxn *txn, const char *key, const char *range_end,
							  int64_t limit, bool newest_first);
extern void elector_etcd_commit(ElectorEtcd *etcd, ElectorTxn *txn, int64_t bound_us,
								ElectorEtcdCallback callback, void *arg);

/*
 * Watch [key, range_end) from start_revision on.  There is one watch at a time;
 * starting one ends the one before silently.  The callback comes once per
 * message with OK (nkvs may be 0: a sign of life or the confirmation that the
 * watch was created), and a last time with UNKNOWN (connection lost, endpoint
 * lost its quorum, endpoint rotated) or REFUSED (canceled, e.g. compacted):
 * then read everything and watch again.
 */
extern void elector_etcd_watch(ElectorEtcd *etcd, const char *key, const char *range_end,
							   int64_t start_revision, int64_t connect_bound_us,
							   ElectorEtcdCallback callback, void *arg);
extern bool elector_etcd_watching(const ElectorEtcd *etcd);

#endif							/* ELECTOR_ETCD_CLIENT_H */
