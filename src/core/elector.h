/*
 * elector.h
 *	  One elector: its memory, what happens to it, and what it asks of the world.
 *
 * The elector is a machine without a clock or I/O.  Its world, which is the
 * worker of a server or a simulated one, tells it what happens and is asked
 * for what it wants done:
 *
 *	  elector_step()		once a round: keep up, decide, act
 *	  elector_heard()		etcd's answer to an errand
 *	  elector_watched()		the watch has spoken, or has ended
 *	  elector_told()		a peer's answer to a question
 *	  elector_take_fence() ...what others ask of this node
 *
 * The files: elector.c is the round, session.c the leases and the mirror,
 * observe.c makes the view, act.c, election.c and lead.c carry plans out,
 * obey.c is what this node does when it is fenced or chosen.
 *
 * The trap: no port may call back into the elector.  Answers come later, from
 * the world's loop.
 */
#ifndef ELECTOR_ELECTOR_H
#define ELECTOR_ELECTOR_H

#include "change.h"
#include "decide.h"
#include "errand.h"

/* A lease of ours in etcd. */
typedef struct ElectorLease
{
	int64_t		id;				/* 0: none */
	ElectorTime ttl;
	ElectorTime deadline;		/* sent_at + ttl - margin; 0: not confirmed */
	ElectorTime renew_at;
	int			under_way;		/* renewals that have no outcome yet */

	/* for elector_lease */
	int64_t		renewals;
	int64_t		failures;
	int64_t		rtt_us;			/* of the last renewal */
} ElectorLease;

/* What has become of being fenced. */
typedef enum ElectorFenceStage
{
	ELECTOR_FENCE_IDLE,
	ELECTOR_FENCE_FREEZING,		/* a standby finds its position */
	ELECTOR_FENCE_DRAINING,		/* a primary's last commits end */
	ELECTOR_FENCE_DONE
} ElectorFenceStage;

/* Settings; the world keeps them current. */
typedef struct ElectorSettings
{
	char		node[ELECTOR_NAME_SIZE];
	char		conninfo[ELECTOR_CONNINFO_SIZE];
	char		zone[ELECTOR_NAME_SIZE];
	char		version[ELECTOR_VERSION_SIZE];
	uint64_t	system;			/* system identifier */
	int32_t		priority;
	bool		candidate;
	ElectorTime lease_ttl;
	ElectorTime lease_margin;
	ElectorTime fence_timeout;
	ElectorTime cold_start_wait;
	ElectorTime failover_cooldown;
	ElectorTime drain_timeout;
	ElectorTime follower_timeout;
	ElectorTime degrade_after;
	bool		may_degrade;
	char		durability[ELECTOR_NAME_SIZE];
	int64_t		maximum_lag;	/* bytes; -1: no limit */
	bool		may_rejoin;
	bool		may_clone;
	bool		failsafe;
} ElectorSettings;

/* A standby that streams from this server. */
typedef struct ElectorFollower
{
	char		node[ELECTOR_NAME_SIZE];
	ElectorLsn	flushed;		/* it has this on disk */
} ElectorFollower;

/* The server this elector lives in, at one instant. */
typedef struct ElectorServer
{
	bool		recovering;
	bool		frozen;			/* as freeze() said last */
	bool		promoting;		/* recovering, and told to be promoted */
	ElectorPosition position;	/* recovering: replayed, or held while frozen;
								 * else flushed */
	uint32_t	target_timeline;	/* frozen: the newest that it has a history
									 * of, if that is none of the position's */
	uint64_t	upstream_term;	/* leadership whose stream is allowed; 0: none */
	uint64_t	opened_term;	/* the gate was opened for it; 0: not.  Outlives
								 * the elector, not the postmaster */
	bool		disk_stuck;		/* a write has been under way for too long, or has
								 * failed */
	bool		wal_full;		/* there is no room for another WAL segment */

	/* a standby that streams */
	bool		streaming;
	ElectorLsn	flushed;		/* received and on disk */
	ElectorLsn	told_end;		/* end of WAL that the upstream told last; 0:
								 * nothing yet */
	ElectorTime told_at;

	/* those that stream from it, also from a standby */
	int			nfollowers;
	ElectorFollower followers[ELECTOR_MEMBERS_MAX];
} ElectorServer;

/* How the server is stopped for what the postmaster's last act has to do. */
typedef enum ElectorStop
{
	ELECTOR_STOP_FAST,
	ELECTOR_STOP_IMMEDIATE
} ElectorStop;

/* What is worth a line in the log. */
typedef enum ElectorNoteKind
{
	ELECTOR_NOTE_PLAN,			/* the elector's plan has changed */
	ELECTOR_NOTE_LATE,			/* the elector was stopped; text: for how long */
	ELECTOR_NOTE_ETCD_SILENT,	/* text: why */
	ELECTOR_NOTE_ETCD_BACK,		/* text: endpoint */
	ELECTOR_NOTE_ETCD_REFUSED,	/* text: why */
	ELECTOR_NOTE_LEASE_ENDED,	/* the leader's, in etcd */
	ELECTOR_NOTE_FAILSAFE_BEGINS,	/* term; the members' promises hold the gate
									 * open */
	ELECTOR_NOTE_FAILSAFE_ENDS,	/* text: why, and after how long */
	ELECTOR_NOTE_KEY_REPAIRED,	/* the leader key was overwritten */
	ELECTOR_NOTE_FENCED,		/* term */
	ELECTOR_NOTE_GATE_CLOSED,	/* term */
	ELECTOR_NOTE_GATE_OPENED,	/* term */
	ELECTOR_NOTE_NOT_ESTABLISHED,	/* node, text: why */
	ELECTOR_NOTE_DEGRADED,		/* the durability rule */
	ELECTOR_NOTE_RESTORED,
	ELECTOR_NOTE_CANCELED,		/* the requested switchover; text: why */
	ELECTOR_NOTE_CANNOT_FOLLOW,
	ELECTOR_NOTE_MISLED			/* node; text: which one answers in its place */
} ElectorNoteKind;

typedef struct ElectorNote
{
	ElectorNoteKind kind;
	uint64_t	term;
	const char *node;
	const char *text;
} ElectorNote;

/*
 * The world.  Every port gets the `world` that elector_init() was given.  A port
 * that cannot do its work ends the elector (an ERROR ends the worker); nothing
 * here catches that.
 */
typedef struct ElectorPorts
{
	ElectorTime (*now) (void *world);
	int64_t		(*wall_ms) (void *world);	/* since 1970 */
	double		(*lot) (void *world);	/* from 0 to 1 */
	void		(*note) (void *world, const ElectorNote *note);

	/* Asks etcd; the answer comes by elector_heard() unless kind is WATCH. */
	void		(*run) (void *world, const ElectorErrand *errand);

	/*
	 * Ask a peer; the answer comes by elector_told().  A question of the same
	 * kind not yet sent is replaced.
	 */
	void		(*ask) (void *world, const char *node, ElectorQuestion question,
						const void *argument);
	void		(*forget) (void *world, ElectorQuestion question);
	void		(*disconnect) (void *world, const char *node);

	/* Since when has the peer not answered; 0: it has answered. */
	ElectorTime (*silent_since) (void *world, const char *node);

	/* the server */
	void		(*look) (void *world, ElectorServer *server);

	/*
	 * Follow nobody, and find the last record held.  One step; true when done.
	 */
	bool		(*freeze) (void *world, ElectorPosition *position);
	bool		(*follow) (void *world, const char *conninfo, uint64_t term);	/* false: conninfo
																				 * is unusable */
	void		(*promote) (void *world, uint32_t timeline);	/* may be repeated */
	void		(*read_history) (void *world, ElectorTerm *term);	/* of term->timeline, to
																	 * its lsn and
																	 * ancestors */
	uint32_t	(*newest_timeline) (void *world, uint32_t own); /* known to the disk,
																 * or own */
	void		(*forget_timeline) (void *world, uint32_t timeline);	/* its history */
	void		(*wake) (void *world);	/* the startup process */
	bool		(*checkpoint) (void *world, bool begin);	/* true when done */

	/*
	 * Transactions that begin wait, until that time at the latest; true when
	 * none is under way.  0: they go on.
	 */
	bool		(*drain) (void *world, ElectorTime until);
	void		(*restart) (void *world, const ElectorTodo *todo, ElectorStop how);

	/*
	 * Have all processes load these synchronous_standby_names.  One step; true when
	 * they have, and then commits wait for them; "": commits wait for nobody.
	 */
	bool		(*set_names) (void *world, const char *names);

	/*
	 * Poolers that clients come by.  pause_clients() has them hold clients back
	 * between two transactions, and is called until it is true: all of them
	 * do, cannot, or have had that long.  It is for who leads next to let them
	 * go on, unless the leader stays.
	 */
	bool		(*pause_clients) (void *world, ElectorTime patience);
	void		(*resume_clients) (void *world);

	/*
	 * The gate, as backends see it.  drained() is true when every commit that
	 * had passed has ended; terminate() ends those that have not.
	 */
	void		(*set_gate) (void *world, ElectorTime deadline);
	void		(*set_opened) (void *world, uint64_t term);
	void		(*set_led) (void *world, uint64_t term);	/* whose followers may
														 * connect; 0: none */
	void		(*set_reads) (void *world, ElectorTime deadline);
	bool		(*drained) (void *world);
	void		(*terminate) (void *world);

	/* the disk; durable on return */
	void		(*save_state) (void *world, const ElectorState *state);
	void		(*save_leadership) (void *world, const ElectorLeadership *leadership);	/* NULL: none */
	void		(*forget_problem) (void *world);
} ElectorPorts;

/* What a member has said. */
typedef struct ElectorSaid
{
	char		node[ELECTOR_NAME_SIZE];
	ElectorAnswer answer;
	bool		passed_over;
	ElectorReport report;
	ElectorTime reported_at;
	ElectorTime misled_since;	/* another node answers where it is said to be;
								 * 0: none does */
	char		misled_to[ELECTOR_NAME_SIZE];
	ElectorTime absent_since;	/* it does not stream from us; 0: it does */

	/* its newest promise */
	uint64_t	promised_term;
	ElectorTime promised_until; /* less the margin, by our clock */
	char		promised_by[ELECTOR_INSTANCE_SIZE];
} ElectorSaid;

typedef struct Elector
{
	const ElectorPorts *ports;
	void	   *world;
	const ElectorCluster *cluster;	/* the mirror; the world keeps it current */
	ElectorSettings settings;
	ElectorState state;
	char		instance[ELECTOR_INSTANCE_SIZE];
	char		predecessor[ELECTOR_INSTANCE_SIZE];
	ElectorTime started_at;

	/* etcd */
	ElectorLease leases[ELECTOR_LEASES];
	ElectorTime granted_at;		/* when the grant under way was sent */
	bool		watching;		/* the mirror is current */
	bool		loading;
	bool		load_again;		/* what is being read may be too old */
	uint64_t	raft_term;		/* newest that etcd has answered in */
	ElectorTime load_at;		/* not before this */
	int64_t		written;		/* revision of our own newest write */
	bool		acting;			/* a transaction is under way */
	bool		reachable;
	ElectorTime silence_noted_at;	/* 0: never */
	ElectorTime unreachable_since;
	ElectorTime linked_since;	/* 0: it has always answered */
	char		error[ELECTOR_TEXT_SIZE];

	/* leadership that is ours or is becoming ours */
	bool		ordered;
	ElectorOrder order;
	int64_t		take_after;		/* modification revision of `term` when it was
								 * decided to win the leader key */
	int64_t		leader_revision;	/* create revision of our leader key; 0:
									 * none */
	uint64_t	leader_term;	/* the term of that key */
	ElectorHistory history;		/* its entry, as written last */
	int64_t		released_lease; /* of a predecessor that is being released */
	ElectorTime leading_since;
	uint64_t	promoting_term; /* the server was told to be promoted for it */
	ElectorTime promoted_at;
	bool		gate_open;
	bool		lapsed;			/* the lease is not renewed any more */
	bool		cut_off;		/* it is given up because of that */
	ElectorTime wal_full_asked;	/* somebody else was asked for, then */
	ElectorTime gate_until;		/* what it was set to last; 0: closed */
	ElectorLsn	barrier;		/* end of WAL when the term began on this server;
								 * 0: it has not */
	char		names[ELECTOR_NAMES_SIZE];	/* synchronous_standby_names that are
											 * known to be loaded */
	ElectorLsn	names_barrier;	/* end of WAL when that was known ... */
	ElectorTime names_since;	/* ... which was then */
	ElectorTime unserved_since;
	ElectorTime unfollowed_since;	/* before it opens, somebody who is there does
									 * not follow */

	/* leading without etcd, by promises (promise.c) */
	ElectorFailsafe asked;		/* who has to promise */
	ElectorFailsafe surely;		/* who is on record whatever comes about */
	ElectorFailsafe changing;	/* what is being made of that ... */
	ElectorFailsafe unchanged;	/* ... and who is in all that may be made ... */
	int64_t		changing_from;	/* ... and from which revision of the record; -1:
								 * nothing */
	ElectorTime ask_promises_at;
	ElectorTime failsafe_since; /* 0: etcd has confirmed the lease */
	int64_t		failsafe_since_ms;	/* likewise, since 1970 */
	ElectorTime failsafe_noted_at;
	bool		failsafe_noted; /* that it began; then its end is, too */
	bool		retaking;		/* the grant under way is for our own key */
	int64_t		retaken_lease;	/* that it is put under */
	ElectorTime retaken_ttl;

	/* what this node has promised */
	ElectorTime promised_until; /* to state.promised; 0: nothing */
	ElectorTime reads_until;	/* the leader, open, has asked for it */
	bool		fence_waits;	/* until it may be obeyed: */
	ElectorFenceRequest waiting;
	ElectorTime waiting_since;
	bool		fence_void;		/* as in the view */

	/* memory for the view */
	ElectorTime gone_since;
	uint64_t	remembered;		/* newest leadership anybody remembers */
	ElectorTime forgot_since;
	int64_t		loaded_revision;	/* of etcd's store, as it was read last */
	int64_t		restored_revision;	/* and when that was less than before; or 0 */
	uint64_t	seen_term;		/* newest leadership seen alive */
	int64_t		gone_lease;		/* lease that etcd says is no more */
	ElectorTime lease_checked_at;
	int64_t		checked_lease;	/* which one was asked about */
	int64_t		last_second_lease;	/* less than a second of it is left, ... */
	ElectorTime last_second_since;	/* ... which was heard first at */
	ElectorTime last_second_seen;	/* ... and last at, ... */
	ElectorTime last_second_asked;	/* ... when asked at, ... */
	uint64_t	last_second_raft_term;	/* ... in this one */
	ElectorTime rejoin_after;
	bool		stopping;
	uint64_t	misses;			/* the leader of this term does not answer; 0: none
								 * is missed */

	/* the election this node runs */
	ElectorTime lock_since;
	int64_t		token;
	ElectorReason lock_reason;
	uint64_t	fence_term;
	ElectorTime fence_since;
	uint64_t	raise_checked;	/* term for whose raise a load was made */
	int			raises;
	char		establishing[ELECTOR_NAME_SIZE];
	ElectorTime revoked_at;
	ElectorTime establish_since;
	ElectorTime backoff_until;

	ElectorSaid said[ELECTOR_MEMBERS_MAX];
	int			nsaid;

	/* being fenced */
	ElectorFenceStage fence_stage;
	ElectorFenceRequest fenced;
	ElectorTime fenced_since;
	bool		fence_counts;
	bool		fence_self;		/* by our own election, besides who asked */

	/* how far behind the leader this node knows itself to be */
	ElectorLsn	leader_end;		/* end of WAL that the leader told last */
	ElectorTime leader_told_at;

	ElectorHandover handover;
	ElectorTime checkpoint_since;
	ElectorTime stopped_at;		/* when writes ended for a planned stop; 0: not */
	ElectorTime ask_reports_at;
	ElectorTime ask_self_at;
	ElectorTime wake_at;		/* the startup process, when it does not stream */

	ElectorServer server;		/* as seen last */
	ElectorPosition position;	/* valid while frozen */
	ElectorView view;			/* what was last decided from */
	ElectorPlan plan;
	ElectorPlan noted;
	ElectorTime unsure_noted_at;	/* that etcd was missed; 0: never */
	ElectorTime poll_at;		/* something is being waited for by looking */
	ElectorTime due;			/* when the next round is due at the latest */
	bool		news;			/* etcd or a peer has said something */
} Elector;

/*
 * Begin.  state is what the disk remembers, predecessor the instance that is
 * proven dead, or "" (S9).  settings, cluster and ports must be set already.
 */
extern void elector_init(Elector *elector, const ElectorState *state,
						 const char *instance, const char *predecessor);

/* One round; returns when the next is due at the latest. */
extern ElectorTime elector_step(Elector *elector);

extern void elector_heard(Elector *elector, const ElectorErrand *errand,
						  const ElectorErrandResult *result);
extern void elector_watched(Elector *elector, bool ended);

/* A peer's answer: ElectorAnswer, ElectorPromise, ElectorReport; NULL if there is none. */
extern void elector_told(Elector *elector, const char *node,
						 ElectorQuestion question, const void *answer,
						 const char *error);

/*
 * A fence arrives.  elector_fence_answer() tells, now and after every round,
 * whether there is an answer to it.
 */
extern void elector_take_fence(Elector *elector, const ElectorFenceRequest *request);
extern bool elector_fence_answer(Elector *elector, const ElectorFenceRequest *request,
								 ElectorAnswer *answer);

/* The leader asks for a promise.  What it is told is on disk then (S8). */
extern void elector_take_promise(Elector *elector, const ElectorPromiseRequest *request,
								 ElectorPromise *promise);

/* An order to establish itself arrives.  False: not as fenced. */
extern bool elector_take_order(Elector *elector, const ElectorOrder *order);

/*
 * Request a switchover under the present leadership, at a time in milliseconds
 * since 1970 or, with 0, at once.  The answer to the errand COMMIT of
 * ELECTOR_DEED_REQUEST tells whether it is written.  Returns its id.
 */
extern int64_t elector_request_switchover(Elector *elector, const char *target, int64_t at);

/* Request a failover at any price, where there is no leader; likewise. */
extern int64_t elector_request_failover(Elector *elector, const char *target);

/* Have the request that there is come to nothing; likewise. */
extern void elector_refuse_request(Elector *elector, const char *why);

/*
 * No planned change under the present leadership for so long; by ELECTOR_DEED_SETTINGS.
 * Returns its number; 0: there are too many.  And give it back; false: it is over.
 */
extern int64_t elector_hold(Elector *elector, const char *reason, int64_t lasts_ms);
extern bool elector_release_hold(Elector *elector, int64_t id);

/* Forget a member, which elector_judge_removal() has found to be gone; by ELECTOR_DEED_REMOVE. */
extern void elector_remove_member(Elector *elector, const char *node);

/* Pause or resume the cluster; by ELECTOR_DEED_SETTINGS. */
extern void elector_set_paused(Elector *elector, bool paused, const char *reason);

/* The server begins to stop: nobody will renew (L10), nor say that we are here. */
extern void elector_finish(Elector *elector);

/*
 * The postmaster is dead and the gate closed: the word that our leadership is
 * over.  False if there is none to give up.
 */
extern bool elector_last_word(Elector *elector, ElectorChange *change);

/* --- for the files of the elector, and for what the world shows --- */

/* observe.c */
extern void elector_observe(Elector *elector);
extern ElectorSaid *elector_said(Elector *elector, const char *node);

/* elector.c */
extern void elector_poll(Elector *elector, ElectorTime interval);
extern void elector_close_gate(Elector *elector);

/* Open until then at least. */
extern void elector_move_gate(Elector *elector, ElectorTime deadline);
extern void elector_save_state(Elector *elector);
extern void elector_note(Elector *elector, ElectorNoteKind kind, const char *text);
extern bool elector_note_apart(ElectorTime *noted_at, ElectorTime now);
extern void elector_note_term(Elector *elector, ElectorNoteKind kind, uint64_t term);

/* session.c */
extern void elector_session_step(Elector *elector, ElectorTime now);
extern ElectorTime elector_session_next(const Elector *elector, ElectorTime now);
extern ElectorTime elector_session_bound(const Elector *elector);
extern void elector_session_renew(Elector *elector, ElectorLeaseKind kind,
								  ElectorTime now);
extern void elector_session_reload(Elector *elector);
extern void elector_session_set_lease(Elector *elector, ElectorLeaseKind kind,
									  const ElectorErrandResult *result);
extern void elector_session_drop_lease(Elector *elector, ElectorLeaseKind kind,
									   bool revoke);
extern void elector_session_heard(Elector *elector, const ElectorErrand *errand,
								  const ElectorErrandResult *result);
extern void elector_session_note(Elector *elector, const ElectorErrandResult *result);

/* act.c, election.c, lead.c */
extern void elector_act(Elector *elector, const ElectorPlan *plan);
extern void elector_act_heard(Elector *elector, const ElectorErrand *errand,
							  const ElectorErrandResult *result);

/* lead.c */
extern void elector_name_heir(Elector *elector);
extern void elector_forget_names(Elector *elector);

extern void elector_save_leadership(Elector *elector);

/* For how long nobody took writes, in milliseconds; -1: not known. */
extern int32_t elector_history_pause(const ElectorHistory *history);

/* promise.c */
extern void elector_promise_init(Elector *elector);
extern void elector_promise_resume(Elector *elector);
extern void elector_promise_step(Elector *elector);
extern ElectorTime elector_promise_next(const Elector *elector);
extern void elector_promise_told(Elector *elector, ElectorSaid *said,
								 const ElectorPromise *promise);

/*
 * The lease of our leader key is no more.  True if the members' promises hold the gate
 * open, so that the key may be taken again.
 */
extern bool elector_promise_outlives(Elector *elector);

/* obey.c */
extern void elector_obey_step(Elector *elector);
extern void elector_fence_self(Elector *elector, const ElectorFenceRequest *request);

#endif							/* ELECTOR_ELECTOR_H */
