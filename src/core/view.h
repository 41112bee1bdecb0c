/*
 * view.h
 *	  Everything that is known to one elector at one instant.
 *
 * The worker fills a view from its mirror of etcd, from the server it lives in,
 * from its peers' answers and from its own memory, and hands it to
 * elector_decide().  Nothing in it points anywhere: a view can be copied,
 * printed, and written down as a test case.
 *
 * Times are microseconds of one clock that does not stop while the machine
 * sleeps (CLOCK_BOOTTIME); 0 is "never".
 */
#ifndef ELECTOR_VIEW_H
#define ELECTOR_VIEW_H

#include "messages.h"

/* One member, as this elector sees it. */
typedef struct ElectorPeerView
{
	char		node[ELECTOR_NAME_SIZE];
	bool		alive;			/* alive/<node> is there */
	uint64_t	misses;			/* ... and says that this term's leader does not
								 * answer it */
	ElectorTime silent_since;	/* 0: it answered what it was asked last */
	ElectorAnswer answer;		/* to the fence of this election */
	bool		passed_over;	/* did not establish itself in time */

	/* What it said of itself last, for the choice of an heir. */
	ElectorTime reported_at;
	bool		following;		/* streams from the leader in its term */
	bool		candidate;
	bool		full;			/* has no room for WAL */
	int32_t		priority;
	ElectorPosition position;

	/* What the leader, if that is us, knows of it as a follower. */
	char		zone[ELECTOR_NAME_SIZE];
	char		directory[ELECTOR_INSTANCE_SIZE];	/* as registered */
	ElectorLsn	flushed;		/* has it on disk; 0: does not stream */
	ElectorTime absent_since;	/* does not stream; 0: it does */
	ElectorTime promised_until; /* to this leadership, by our clock; 0: not */
	char		promised_by[ELECTOR_INSTANCE_SIZE]; /* which data directory of it */
} ElectorPeerView;

/* Why this node takes no part. */
typedef enum ElectorRefusal
{
	ELECTOR_REFUSAL_NONE,
	ELECTOR_REFUSAL_SYSTEM,		/* another system identifier */
	ELECTOR_REFUSAL_NODE,		/* another server has this node's name */
	ELECTOR_REFUSAL_FULL		/* too many members */
} ElectorRefusal;

/* How far a planned change has come on the old leader. */
typedef struct ElectorHandover
{
	ElectorTime since;			/* the request is due; 0: none under way */
	bool		checkpointed;
	ElectorTime checkpointed_at;
	ElectorTime pause_since;	/* clients are to be held back; 0: they are
								 * not */
	bool		clients_paused; /* they are, or had their time, or cannot be */
	ElectorTime drain_since;	/* new transactions wait; 0: they do not */
	bool		drained;		/* none is under way, or had its time */
} ElectorHandover;

typedef struct ElectorView
{
	ElectorTime now;
	int64_t		wall_ms;		/* milliseconds since 1970, for the cooldown
								 * and for what is scheduled */

	/* settings */
	char		node[ELECTOR_NAME_SIZE];
	ElectorTime lease_ttl;
	ElectorTime lease_margin;
	ElectorTime fence_timeout;
	ElectorTime cold_start_wait;
	ElectorTime failover_cooldown;
	ElectorTime drain_timeout;
	int64_t		maximum_lag;	/* bytes; -1: no limit */
	bool		candidate;
	int32_t		priority;
	ElectorTime follower_timeout;	/* a follower away for longer is done without */
	ElectorTime degrade_after;	/* the policy cannot be met for so long ... */
	bool		may_degrade;	/* ... and then less will do */
	char		policy[ELECTOR_NAME_SIZE];	/* our pg_elector.durability ... */
	bool		policy_agreed;	/* ... which is that of all who are there */
	bool		may_rejoin;		/* pg_elector.rejoin is not off ... */
	bool		may_clone;		/* ... and is clone */
	bool		may_promise;	/* pg_elector.failsafe */

	/*
	 * etcd, as mirrored.  known is false while the mirror is not complete,
	 * not watched, or older than what this node wrote last.
	 */
	bool		known;
	bool		registered;		/* alive/<node> is ours */
	ElectorRefusal refusal;
	ElectorElection election;
	bool		paused;			/* no automatic change */
	bool		held;			/* no planned change */
	bool		unblocked;		/* the history does not say that after the last
								 * leadership an election was blocked */

	/* this node */
	char		instance[ELECTOR_INSTANCE_SIZE];	/* of this postmaster
													 * start */
	char		predecessor[ELECTOR_INSTANCE_SIZE]; /* the one before it in
													 * this data directory, on
													 * this machine; "" if
													 * that is not proven (S9) */
	ElectorState state;
	ElectorTime started_at;

	/* the server */
	bool		recovering;
	bool		frozen;			/* no upstream, all WAL held is replayed */
	ElectorPosition position;	/* recovering and frozen, or primary: last
								 * record held; else what is replayed so far */
	uint32_t	target_timeline;	/* frozen, and recovery may be bound for
									 * this one, of which no WAL has come; 0:
									 * none */
	uint64_t	upstream_term;	/* leadership whose stream is allowed; 0: none */
	bool		promoting;		/* recovering, and told to be promoted ... */
	uint64_t	promoting_term; /* ... by us for this term; 0: not by us */
	bool		gate_open;		/* opened in the term we lead, deadline or not */
	bool		stopping;		/* the postmaster was told to stop */
	bool		disk_stuck;		/* its disk takes no write */
	bool		wal_full;		/* its WAL volume takes no more */
	ElectorTime rejoin_after;	/* a rejoin failed; not before this */

	/* Leadership that is ours or is becoming ours. */
	bool		lapsed;			/* its lease is not renewed any more */
	bool		cut_off;		/* we give it up because of that */
	ElectorTime wal_full_asked; /* somebody else was asked for, then */
	ElectorTime deadline;		/* of the lease under our leader key, or of
								 * what the members have promised; 0: none */
	ElectorTime lease_until;	/* the former alone ... */
	ElectorTime promises_until; /* ... and the latter */
	ElectorTime gate_until;		/* what the gate was last set to */
	ElectorTime unfollowed_since;	/* somebody who is there does not follow us, who
									 * have not opened */
	ElectorTime leading_since;	/* our leader key was won */
	ElectorLsn	barrier;		/* end of WAL when the term began on this node;
								 * 0: not yet */
	ElectorLsn	names_barrier;	/* end of WAL when that was known ... */
	ElectorTime names_since;	/* ... which was then */
	ElectorTime unserved_since; /* too few follow for the policy; 0: enough do */
	bool		ordered;		/* an elector chose this node */
	uint64_t	order_term;
	int64_t		order_token;

	/* What this node has promised, to the leader of state.promised. */
	ElectorTime promised_until; /* 0: nothing */
	bool		fence_waits;	/* for that to be over */
	bool		fence_void;		/* since the last fence that was obeyed the leader
								 * that is followed has taken its key again, so
								 * that election's lock is gone */

	/* memory */
	ElectorTime gone_since;		/* the leader key was found absent; 0: present */
	bool		warm;			/* has seen the leadership of `term` since it
								 * started */
	ElectorTime linked_since;	/* etcd was silent before; 0: it never was */
	uint64_t	remembered;		/* newest leadership anybody remembers */
	ElectorTime forgot_since;	/* etcd was found to know less than somebody
								 * remembers; 0: it does not */
	bool		lease_gone;		/* etcd says that term.lease is no more */
	ElectorTime lease_checked_at;
	ElectorTime last_second_since;	/* etcd says that less than a second is
									 * left of the leader's lease; 0: it does
									 * not */
	ElectorTime last_second_asked;	/* when the newest look that it said so to
									 * was sent */

	/* the election this node runs */
	ElectorTime lock_since;		/* 0: the lock is not ours */
	uint64_t	fence_term;		/* 0: nobody fenced yet under this lock */
	ElectorTime fence_since;
	int			raises;			/* how often the term was raised */
	int			establishing;	/* index of the peer told to; -1: none */
	ElectorTime establish_since;
	ElectorTime backoff_until;

	ElectorHandover handover;

	/* All members, this node among them. */
	int			npeers;
	int			self;			/* index; -1: not registered */
	ElectorPeerView peers[ELECTOR_MEMBERS_MAX];

	/* etcd's longer records */
	ElectorLeader leader;
	ElectorTerm term;
	ElectorRequest request;
	ElectorDurability durability;	/* the rule in force */
	ElectorFailsafe failsafe;	/* who has to promise, by etcd ... */
	ElectorFailsafe asked;		/* ... and whom we ask as leader: them, and
								 * those of a change that may come about */
	ElectorFailsafe surely;		/* who is on record whatever comes about */
	bool		asked_changing; /* there is such a change */
	char		names[ELECTOR_NAMES_SIZE];	/* synchronous_standby_names that
											 * all processes have loaded */
} ElectorView;

#endif							/* ELECTOR_VIEW_H */
