/*
 * records.h
 *	  What a cluster keeps in etcd, and what a node keeps on its own disk, as
 *	  plain C.
 *
 * These structs are the vocabulary of everything else: src/etcd/json.c turns
 * them into JSON and back, src/core/decide.c decides from them, the server and
 * the program fill them in.  All strings are bounded and NUL-terminated, an
 * absent record has present = false, and an unknown number is 0.
 *
 * Nothing here may depend on PostgreSQL, on I/O or on a clock.
 */
#ifndef ELECTOR_RECORDS_H
#define ELECTOR_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy.h"

/* Sizes include the terminating NUL. */
#define ELECTOR_CONNINFO_SIZE	1024
#define ELECTOR_INSTANCE_SIZE	33	/* 128 random bits in hexadecimal */
#define ELECTOR_VERSION_SIZE	32
#define ELECTOR_TEXT_SIZE		256 /* one sentence for people */

/*
 * How many ancestors of the leader's timeline `term` carries.  A node that is
 * further behind than this many leadership changes is treated as diverged.
 */
#define ELECTOR_ANCESTORS_MAX	64

/* How many leaderships a node shows in elector_history. */
#define ELECTOR_HISTORY_MAX		100

typedef int64_t ElectorTime;	/* microseconds; of which clock, its user says */
typedef uint64_t ElectorLsn;	/* as XLogRecPtr; 0 is unknown */

/* synchronous_standby_names: all members, quoted, and some words. */
#define ELECTOR_NAMES_SIZE		(ELECTOR_MEMBERS_MAX * (ELECTOR_NAME_SIZE + 4) + 32)

/* The last WAL record a node holds: its timeline, and where it ends. */
typedef struct ElectorPosition
{
	uint32_t	timeline;
	ElectorLsn	lsn;
} ElectorPosition;

/* members/<node> */
typedef struct ElectorMember
{
	bool		present;
	char		node[ELECTOR_NAME_SIZE];
	char		conninfo[ELECTOR_CONNINFO_SIZE];
	char		zone[ELECTOR_NAME_SIZE];
	int32_t		priority;
	bool		candidate;
	char		durability[ELECTOR_NAME_SIZE];	/* its pg_elector.durability */
	char		directory[ELECTOR_INSTANCE_SIZE];	/* as in ElectorState */
	char		version[ELECTOR_VERSION_SIZE];
} ElectorMember;

/* alive/<node>, under the node's lease */
typedef struct ElectorAlive
{
	bool		present;
	char		node[ELECTOR_NAME_SIZE];
	char		instance[ELECTOR_INSTANCE_SIZE];
	uint64_t	misses;			/* the leader of this term does not answer it; 0:
								 * none is missed */
	int64_t		lease;
	int64_t		create_revision;
} ElectorAlive;

/* leader, under the leader's short lease */
typedef struct ElectorLeader
{
	bool		present;
	char		node[ELECTOR_NAME_SIZE];
	char		instance[ELECTOR_INSTANCE_SIZE];
	uint64_t	term;
	int64_t		lease;
	int64_t		create_revision;
	char		conninfo[ELECTOR_CONNINFO_SIZE];
} ElectorLeader;

/* election: the lock, under the elector's short lease */
typedef struct ElectorElection
{
	bool		present;
	char		node[ELECTOR_NAME_SIZE];
	char		instance[ELECTOR_INSTANCE_SIZE];
	char		purpose[ELECTOR_NAME_SIZE]; /* "election" or "handover" */
	uint64_t	term;			/* the term it works for */
	int64_t		lease;
	int64_t		create_revision;	/* the token */
} ElectorElection;

/* One ancestor of a timeline: it was left at lsn. */
typedef struct ElectorAncestor
{
	uint32_t	timeline;
	ElectorLsn	lsn;
} ElectorAncestor;

/* term: the newest leadership */
typedef struct ElectorTerm
{
	bool		present;
	uint64_t	term;
	char		node[ELECTOR_NAME_SIZE];
	char		instance[ELECTOR_INSTANCE_SIZE];
	int64_t		lease;			/* what the leader key hung on (I4, S9) */
	uint64_t	etcd;			/* cluster id of the etcd that knows all of it:
								 * one restored from a backup has another
								 * (S15) */
	uint32_t	timeline;		/* allotted with the term (I9) */

	/*
	 * Known when promotion is complete (S1): where the timeline begins, and
	 * the ancestors it came through, oldest first.
	 */
	bool		begun;
	ElectorLsn	lsn;
	int			nancestors;

	bool		opened;			/* the gate was opened in this term */
	uint64_t	opened_term;	/* newest term in which a gate was opened ... */
	char		opened_node[ELECTOR_NAME_SIZE];	/* ... and by whom: only its
												 * commits were acknowledged
												 * (S7) */
	int64_t		opened_at;		/* milliseconds since 1970, of opened_term */

	/*
	 * Its timeline, and how much it took over of the one that was opened
	 * before it: who holds that lacks at most what was written since.  Before
	 * anything was opened, what the first leader began with.
	 */
	uint32_t	opened_timeline;
	ElectorPosition opened_from;
	bool		automatic;		/* nobody asked for this change (cooldown) */

	/* The leader's own word that it is over (I4, S9, S14, S19). */
	bool		released;
	ElectorPosition released_at;	/* shutdown checkpoint; lsn 0: not known */
	char		heir[ELECTOR_NAME_SIZE];	/* of a handover, or "" */
	int32_t		stopping_ms;	/* from the end of writes to this word, in
								 * milliseconds; -1: not known */

	int64_t		mod_revision;

	ElectorAncestor ancestors[ELECTOR_ANCESTORS_MAX];	/* mostly empty, and so
														 * at the end */
} ElectorTerm;

/* history/<term> */
typedef struct ElectorHistory
{
	bool		present;
	uint64_t	term;
	char		node[ELECTOR_NAME_SIZE];	/* leader */
	char		elector[ELECTOR_NAME_SIZE]; /* who ran the change */
	uint32_t	timeline;
	ElectorLsn	lsn;			/* where it began */
	char		reason[ELECTOR_TEXT_SIZE];	/* why there was a change */
	char		revoked[ELECTOR_NAME_SIZE]; /* "lease gone", "fenced", "handed
											 * over", "released", "none" */
	char		note[ELECTOR_TEXT_SIZE];	/* e.g. that rows may be missing */
	int64_t		began_at;		/* milliseconds since 1970 */
	int64_t		opened_at;		/* milliseconds since 1970; 0: never */

	/* When it was over, no election might begin: */
	char		blocked[ELECTOR_NAME_SIZE]; /* "cooldown", "paused", or "" */
	int64_t		blocked_at;		/* milliseconds since 1970 ... */
	int64_t		blocked_until;	/* ... 0: until somebody resumes the cluster */

	/* Time of each phase in milliseconds; -1: not known. */
	int32_t		notice_ms;		/* last sign of the old leader -> seen gone */
	int32_t		lock_ms;		/* -> lock ours */
	int32_t		revoke_ms;		/* -> proven over */
	int32_t		choose_ms;		/* -> candidate chosen */
	int32_t		establish_ms;	/* -> leader key ours */
	int32_t		promote_ms;		/* -> promotion complete */
	int32_t		open_ms;		/* -> gate open */
} ElectorHistory;

/*
 * request: a planned switchover.  One that came to nothing stays, with the reason,
 * for who waits for it; the next one replaces it.
 */
typedef struct ElectorRequest
{
	bool		present;
	char		target[ELECTOR_NAME_SIZE];	/* "" lets the leader choose */
	char		node[ELECTOR_NAME_SIZE];	/* who was asked, ... */
	int64_t		id;				/* ... and which of its requests this is */
	uint64_t	term;			/* under which leadership; void in a later one */
	int64_t		at;				/* not before, milliseconds since 1970; 0: now */
	bool		failover;		/* there is no leader, and an operator wants
								 * one, whatever is lost by it */
	bool		full;			/* the leader's own, whose WAL volume is full */
	char		refused[ELECTOR_TEXT_SIZE]; /* why it came to nothing; "": it
											 * has not */
	int64_t		mod_revision;
} ElectorRequest;

/* durability: the rule in force and, while it changes, the next one */
typedef struct ElectorDurability
{
	bool		present;		/* otherwise it is "async" */
	ElectorCommitRule rule;
	char		node[ELECTOR_NAME_SIZE];	/* leader that brought it into force ... */
	uint64_t	term;			/* ... and its term; it may not have opened yet */
	bool		changing;		/* both hold: an election satisfies both */
	ElectorCommitRule next;
	bool		degraded;		/* less than what the operator wants, because
								 * followers were missing */
	int64_t		mod_revision;
} ElectorDurability;

/*
 * failsafe: who has to promise the leader that nobody else is elected while it does
 * without etcd.  Absent: it never does without.
 */
typedef struct ElectorFailsafeMember
{
	char		node[ELECTOR_NAME_SIZE];
	char		directory[ELECTOR_INSTANCE_SIZE];
} ElectorFailsafeMember;

typedef struct ElectorFailsafe
{
	bool		present;
	int			nmembers;
	int64_t		mod_revision;
	ElectorFailsafeMember members[ELECTOR_MEMBERS_MAX];
} ElectorFailsafe;

/*
 * Somebody does not want the leader to be changed for a while, as planned.  It is good
 * under the leadership in which it was taken.
 */
#define ELECTOR_HOLDS_MAX		8

typedef struct ElectorLeaderHold
{
	int64_t		id;				/* 0: none */
	uint64_t	term;
	char		node[ELECTOR_NAME_SIZE];	/* that was asked */
	char		reason[ELECTOR_TEXT_SIZE];
	int64_t		until;			/* milliseconds since 1970 */
} ElectorLeaderHold;

/* settings: what the operator has set for the whole cluster */
typedef struct ElectorClusterSettings
{
	bool		present;
	bool		paused;			/* no automatic change */
	char		paused_by[ELECTOR_NAME_SIZE];	/* the node that was asked */
	char		pause_reason[ELECTOR_TEXT_SIZE];
	int64_t		paused_at;		/* milliseconds since 1970 */
	int			nholds;
	ElectorLeaderHold holds[ELECTOR_HOLDS_MAX];
	int64_t		mod_revision;
} ElectorClusterSettings;

/*
 * What a node durably remembers (I3), in pg_elector/state of its data
 * directory.  Neither pg_basebackup nor pg_rewind hand it on: it belongs to
 * (node, system).
 */
typedef struct ElectorState
{
	bool		present;
	char		node[ELECTOR_NAME_SIZE];
	char		former[ELECTOR_NAME_SIZE];	/* what it was called before it was
											 * renamed, until that is forgotten;
											 * "": nothing else */
	uint64_t	system;			/* system identifier */
	uint64_t	term;			/* highest term obeyed ... */
	int64_t		token;			/* ... and the election's token (S11) */
	uint64_t	followed;		/* newest leadership it has won or followed
								 * (S15) */
	uint32_t	timeline;		/* highest timeline heard of (I9, S15) */
	uint32_t	allotted;		/* timeline last allotted to this node ... */
	uint32_t	stray;			/* ... and one it was on that was not:
								 * promoted by hand (S18); 0: none */
	bool		caught_up;		/* has followed or led an open term: its
								 * answers count (S10) */

	/*
	 * Which data directory this is: the first instance that ran in it.  A copy
	 * is another one, and has promised nothing (S8).
	 */
	char		directory[ELECTOR_INSTANCE_SIZE];
	uint64_t	promised;		/* the leadership that was promised to elect
								 * nobody else; 0: none ... */
	int64_t		promised_ms;	/* ... and for how long, at most */

	/* Which postmaster wrote this, to know a dead predecessor (S9). */
	char		instance[ELECTOR_INSTANCE_SIZE];
	char		machine[ELECTOR_NAME_SIZE]; /* /etc/machine-id, or "" */
	char		boot_id[ELECTOR_NAME_SIZE];
	uint64_t	device;
	uint64_t	inode;
} ElectorState;

/*
 * Work that the postmaster's last act, or the next start, has to do:
 * pg_elector/todo of the data directory.  Written with fsync before the server
 * is stopped for it and removed when done.
 */
typedef enum ElectorTodoKind
{
	ELECTOR_TODO_NONE,
	ELECTOR_TODO_STANDBY,		/* come back as a standby */
	ELECTOR_TODO_HANDOVER,		/* release leadership with the proof, come
								 * back as a standby */
	ELECTOR_TODO_REWIND,		/* rewind from source, come back as a standby */
	ELECTOR_TODO_CLONE			/* clone from source, come back as a standby */
} ElectorTodoKind;

typedef struct ElectorTodo
{
	ElectorTodoKind kind;
	char		node[ELECTOR_NAME_SIZE];	/* whose work: a copied one is
											 * void */
	uint64_t	term;			/* of the leader to rejoin, or to hand over */
	char		leader[ELECTOR_NAME_SIZE];	/* leader to rejoin, or the heir */
	char		source[ELECTOR_CONNINFO_SIZE];	/* its connection string */
} ElectorTodo;

/*
 * A leadership this data directory holds: pg_elector/leadership, written when
 * the leader key was won and removed when it is given up.  With it the
 * postmaster's last act can release a leadership although shared memory is
 * gone.
 */
typedef struct ElectorLeadership
{
	bool		present;
	char		node[ELECTOR_NAME_SIZE];
	char		instance[ELECTOR_INSTANCE_SIZE];
	uint64_t	term;
	int64_t		lease;
	int64_t		create_revision;	/* of the leader key */

	/* of a planned stop */
	char		heir[ELECTOR_NAME_SIZE];	/* who is to lead next, or "" */
	ElectorTime stopped_at;		/* when writes ended; 0: not known */
} ElectorLeadership;

#endif							/* ELECTOR_RECORDS_H */
