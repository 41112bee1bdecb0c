/*
 * change.h
 *	  A transaction in etcd, as data: what must still hold, and what is then
 *	  written.
 *
 * Here stands what each deed compares, which is what keeps two nodes from doing
 * it at once.  etcd/mirror.c turns a change into a request.
 */
#ifndef ELECTOR_CHANGE_H
#define ELECTOR_CHANGE_H

#include "cluster.h"
#include "messages.h"

typedef enum ElectorKey
{
	ELECTOR_KEY_SYSTEM,
	ELECTOR_KEY_MEMBER,			/* of the node that writes */
	ELECTOR_KEY_ALIVE,			/* likewise */
	ELECTOR_KEY_LEADER,
	ELECTOR_KEY_ELECTION,
	ELECTOR_KEY_TERM,
	ELECTOR_KEY_REQUEST,
	ELECTOR_KEY_SETTINGS,
	ELECTOR_KEY_DURABILITY,
	ELECTOR_KEY_FAILSAFE,
	ELECTOR_KEY_HISTORY,		/* of change.history.term */
	ELECTOR_KEY_OTHER_MEMBER,	/* of change.other */
	ELECTOR_KEY_OTHER_ALIVE,	/* likewise */
	ELECTOR_KEYS
} ElectorKey;

typedef enum ElectorWrite
{
	ELECTOR_WRITE_NONE,
	ELECTOR_WRITE_PUT,
	ELECTOR_WRITE_DELETE
} ElectorWrite;

typedef struct ElectorKeyChange
{
	bool		if_created;		/* only if this is its create revision ... */
	bool		if_modified;	/* ... or modification revision; 0: absent */
	int64_t		revision;
	ElectorWrite write;
	int64_t		lease;			/* that it is put under; 0: none */
} ElectorKeyChange;

typedef struct ElectorChange
{
	ElectorKeyChange keys[ELECTOR_KEYS];

	char		other[ELECTOR_NAME_SIZE];	/* the node that is removed */

	/* the values of the keys that are put */
	uint64_t	system;
	ElectorMember member;
	ElectorAlive alive;
	ElectorLeader leader;
	ElectorElection election;
	ElectorTerm term;
	ElectorRequest request;
	ElectorClusterSettings settings;
	ElectorDurability durability;
	ElectorFailsafe failsafe;
	ElectorHistory history;
} ElectorChange;

extern void elector_change_init(ElectorChange *change);
extern void elector_change_if_created(ElectorChange *change, ElectorKey key,
									  int64_t revision);
extern void elector_change_if_modified(ElectorChange *change, ElectorKey key,
									   int64_t revision);
extern void elector_change_put(ElectorChange *change, ElectorKey key, int64_t lease);
extern void elector_change_delete(ElectorChange *change, ElectorKey key);

/*
 * A leadership's end in the leader's own words (I4, S9, S14): the leader key is
 * deleted and `term` says "released".  position is that of the shutdown
 * checkpoint, or NULL; only with it the leadership's heir leads next.
 *
 * The leader key's create revision tells whose leadership it is, once
 * elector_change_releases() has found it so; a `term` record that is another's is
 * left alone.
 */
extern bool elector_change_releases(const ElectorLeader *leader,
									const ElectorLeadership *leadership);
extern void elector_change_release(ElectorChange *change,
								   const ElectorCluster *cluster,
								   const ElectorLeadership *leadership,
								   const ElectorPosition *position,
								   int32_t stopping_ms);

#endif							/* ELECTOR_CHANGE_H */
