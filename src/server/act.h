/*
 * act.h
 *	  What the files of deeds share: act.c, election.c, lead.c.
 */
#ifndef ELECTOR_ACT_H
#define ELECTOR_ACT_H

#include "worker.h"

/*
 * A write waits for etcd's disk, so it may take longer than a renewal; nothing
 * that is held up by it is open.
 */
#define ELECTOR_WRITE_BOUND 1000000

/* When the grant under way was sent: deadlines count from before that. */
extern ElectorTime elector_lease_asked_at;

extern int64 elector_wall_ms(void);

/* Put a record and free its JSON. */
extern void elector_txn_put_record(ElectorTxn *txn, const char *key, char *json,
								   int64 lease);

/* Start a transaction, or a grant; nothing is decided until it has ended. */
extern void elector_act_commit(ElectorTxn *txn, ElectorEtcdCallback callback,
							   void *arg);
extern void elector_act_grant(int64 ttl, ElectorEtcdCallback callback);

/* Every callback's first step: did it happen? */
extern bool elector_act_happened(const ElectorEtcdReply *reply);

/* Callbacks for what has no more to do: with, and without, looking. */
extern void elector_act_outcome(void *arg, const ElectorEtcdReply *reply);
extern void elector_act_unheard(void *arg, const ElectorEtcdReply *reply);

/* election.c */
extern void elector_act_lock(const ElectorPlan *plan);
extern void elector_act_unlock(const ElectorView *view);
extern void elector_act_check_lease(const ElectorView *view);
extern void elector_act_expire(const ElectorView *view);
extern void elector_act_fence(const ElectorView *view, const ElectorPlan *plan);
extern void elector_act_establish(const ElectorView *view, const ElectorPlan *plan);

/* lead.c */
extern void elector_act_take(const ElectorView *view);
extern void elector_act_promote(const ElectorView *view);
extern void elector_act_open(const ElectorView *view);
extern void elector_act_resign(const ElectorView *view);
extern void elector_act_release(const ElectorView *view);
extern void elector_act_close(void);

#endif							/* ELECTOR_ACT_H */
