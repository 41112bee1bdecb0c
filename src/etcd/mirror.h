/*
 * mirror.h
 *	  A copy of a cluster's keys in etcd, kept current from a watch.
 *
 * See mirror.c.
 */
#ifndef ELECTOR_ETCD_MIRROR_H
#define ELECTOR_ETCD_MIRROR_H

#include "../core/change.h"
#include "client.h"

#define ELECTOR_KEY_SIZE	256

/* The keys of a cluster, complete with the prefix. */
typedef struct ElectorKeys
{
	char		prefix[ELECTOR_KEY_SIZE];	/* "/pg_elector/<cluster>/" */
	char		end[ELECTOR_KEY_SIZE];	/* first key behind the prefix */
	char		system[ELECTOR_KEY_SIZE];
	char		member[ELECTOR_KEY_SIZE];	/* members/<this node> */
	char		alive[ELECTOR_KEY_SIZE];	/* alive/<this node> */
	char		leader[ELECTOR_KEY_SIZE];
	char		election[ELECTOR_KEY_SIZE];
	char		term[ELECTOR_KEY_SIZE];
	char		request[ELECTOR_KEY_SIZE];
	char		settings[ELECTOR_KEY_SIZE];
	char		durability[ELECTOR_KEY_SIZE];
	char		failsafe[ELECTOR_KEY_SIZE];
	char		history[ELECTOR_KEY_SIZE];	/* "…/history/" */
	char		history_end[ELECTOR_KEY_SIZE];
} ElectorKeys;

typedef struct ElectorMirror
{
	ElectorKeys keys;
	ElectorCluster cluster;
	int			nhistory;		/* newest last */
	ElectorHistory history[ELECTOR_HISTORY_MAX];

	/* The last key whose value could not be read, for the log; "" if none. */
	char		unreadable[ELECTOR_KEY_SIZE];
	uint64_t	changes;		/* grows with every change */
} ElectorMirror;

extern void elector_keys_init(ElectorKeys *keys, const char *cluster,
							  const char *node);
extern void elector_keys_history(const ElectorKeys *keys, uint64_t term,
								 char *key, size_t size);

extern void elector_mirror_init(ElectorMirror *mirror, const char *cluster,
								const char *node);

/* The transaction that reads all keys at one revision. */
extern ElectorTxn *elector_mirror_read(const ElectorMirror *mirror);

/* Take its reply in. */
extern void elector_mirror_load(ElectorMirror *mirror, const ElectorEtcdReply *reply);

/* Take a message of the watch in. */
extern void elector_mirror_apply(ElectorMirror *mirror, const ElectorEtcdReply *reply);

/* The change as a request, which elector_etcd_commit() frees; NULL: no memory. */
extern ElectorTxn *elector_mirror_txn(const ElectorMirror *mirror,
									  const ElectorChange *change);

#endif							/* ELECTOR_ETCD_MIRROR_H */
