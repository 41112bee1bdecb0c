/*
 * errand.h
 *	  What an elector asks of etcd, and what it hears back.
 */
#ifndef ELECTOR_ERRAND_H
#define ELECTOR_ERRAND_H

#include "change.h"

/* Our leases: short-lived keys hang on them (L5). */
typedef enum ElectorLeaseKind
{
	ELECTOR_LEASE_LEADER,
	ELECTOR_LEASE_ELECTION,
	ELECTOR_LEASE_ALIVE,
	ELECTOR_LEASES
} ElectorLeaseKind;

typedef enum ElectorErrandKind
{
	ELECTOR_ERRAND_LOAD,		/* read all keys; done when the mirror has them */
	ELECTOR_ERRAND_WATCH,		/* from the mirror's revision on, until told
								 * otherwise */
	ELECTOR_ERRAND_GRANT,		/* a lease of ttl, to be ours as which */
	ELECTOR_ERRAND_RENEW,		/* lease, ours as which */
	ELECTOR_ERRAND_CONFIRM,		/* read the leader key, after a renewal */
	ELECTOR_ERRAND_VERIFY,		/* read it, before lease is revoked */
	ELECTOR_ERRAND_LOOK,		/* how long lease will live */
	ELECTOR_ERRAND_REVOKE,		/* lease */
	ELECTOR_ERRAND_COMMIT		/* change */
} ElectorErrandKind;

/* What a change is made for. */
typedef enum ElectorDeed
{
	ELECTOR_DEED_REGISTER,
	ELECTOR_DEED_LOCK,
	ELECTOR_DEED_UNLOCK,
	ELECTOR_DEED_TAKE,
	ELECTOR_DEED_OPEN,
	ELECTOR_DEED_RESIGN,
	ELECTOR_DEED_RELEASE,
	ELECTOR_DEED_REPAIR,
	ELECTOR_DEED_REQUEST,
	ELECTOR_DEED_REFUSE,		/* a request for a planned change */
	ELECTOR_DEED_SETTINGS,
	ELECTOR_DEED_REMOVE,
	ELECTOR_DEED_BEGIN,
	ELECTOR_DEED_RULE,
	ELECTOR_DEED_HISTORY,
	ELECTOR_DEED_FAILSAFE,
	ELECTOR_DEED_RETAKE
} ElectorDeed;

typedef struct ElectorErrand
{
	ElectorErrandKind kind;
	ElectorLeaseKind which;
	ElectorDeed deed;
	int64_t		lease;
	int64_t		ttl;			/* seconds */
	ElectorTime bound;			/* how long it may take in all */
	ElectorTime renewed_at;		/* RENEW, CONFIRM: when the renewal was sent, ... */
	uint64_t	raft_term;		/* ... and in which it was answered */
	const ElectorChange *change;	/* valid while the errand is handed over */
} ElectorErrand;

typedef enum ElectorEtcdStatus
{
	ELECTOR_ETCD_OK,
	ELECTOR_ETCD_UNKNOWN,		/* no usable answer: may or may not have
								 * happened */
	ELECTOR_ETCD_REFUSED		/* etcd answered with an error: did not happen */
} ElectorEtcdStatus;

/* An errand's result. */
typedef struct ElectorErrandResult
{
	ElectorEtcdStatus status;
	const char *error;			/* "" when OK */
	const char *endpoint;
	int64_t		revision;
	uint64_t	raft_term;
	bool		succeeded;		/* COMMIT: the comparisons held */
	int64_t		lease;			/* GRANT */
	int64_t		ttl;			/* GRANT, RENEW, LOOK: seconds; <= 0: no such
								 * lease */
	bool		last_second;	/* LOOK: it is there, and less than a second of
								 * it is left */

	/* CONFIRM, VERIFY: the leader key */
	bool		present;
	int64_t		create_revision;
	int64_t		key_lease;
} ElectorErrandResult;

#endif							/* ELECTOR_ERRAND_H */
