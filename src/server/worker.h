/*
 * worker.h
 *	  The elector's memory, shared by the files it is made of.
 *
 * worker.c	the loop: pump, observe, decide, act, publish, wait
 * session.c	leases, the mirror and its watch: everything periodic with etcd
 * observe.c	from all this to an ElectorView, and to elector_status
 * act.c		from an ElectorPlan to deeds; election.c and lead.c are parts of it
 * calls.c	what other processes ask: fences, orders, requests
 */
#ifndef ELECTOR_WORKER_H
#define ELECTOR_WORKER_H

#include "elector.h"

#include "etcd/client.h"
#include "etcd/mirror.h"

#include "messages.h"
#include "peers.h"

/* A lease of ours in etcd. */
typedef struct ElectorLease
{
	int64		id;				/* 0: none */
	ElectorTime ttl;
	ElectorTime deadline;		/* sent_at + ttl - margin; 0: not confirmed */
	ElectorTime renew_at;
	ElectorTime sent_at;		/* of the renewal under way */
	uint64		raft_term;		/* in which that renewal was answered */
	bool		busy;			/* a renewal is under way */
	ElectorLeaseStatus status;
} ElectorLease;

/* What has become of being fenced. */
typedef enum ElectorFenceStage
{
	ELECTOR_FENCE_IDLE,
	ELECTOR_FENCE_FREEZING,		/* a standby finds its position */
	ELECTOR_FENCE_DRAINING,		/* a primary's last commits end */
	ELECTOR_FENCE_DONE
} ElectorFenceStage;

typedef struct ElectorWorker
{
	ElectorEtcd *etcd;
	ElectorMirror mirror;
	ElectorState state;
	char		predecessor[ELECTOR_INSTANCE_SIZE];
	ElectorTime started_at;

	/* etcd */
	ElectorLease alive;
	ElectorLease leader;
	ElectorLease election;
	bool		watching;		/* mirror is current */
	bool		loading;
	ElectorTime load_at;		/* not before this */
	int64		written;		/* revision of our own newest write */
	bool		acting;			/* a transaction is under way */
	bool		reachable;
	ElectorTime unreachable_since;
	char		error[ELECTOR_TEXT_SIZE];

	/* why our own conninfo does not work, or "" */
	char		access_error[ELECTOR_TEXT_SIZE];

	/* leadership that is ours or is becoming ours */
	bool		ordered;
	ElectorOrder order;
	int64		leader_revision;	/* create revision of our leader key; 0:
									 * none */
	ElectorTime leading_since;
	ElectorTime promoted_at;
	bool		gate_open;

	/* memory for the view */
	ElectorTime gone_since;
	uint64		seen_term;		/* newest leadership seen alive */
	int64		gone_lease;		/* lease that etcd says is no more */
	ElectorTime lease_checked_at;
	int64		checked_lease;	/* which one was asked about */
	int64		last_second_lease;	/* less than a second of it is left, ... */
	ElectorTime last_second_since;	/* ... which was heard first at */
	ElectorTime rejoin_after;
	bool		stopping;

	/* the election this node runs */
	ElectorTime lock_since;
	int64		token;
	ElectorReason lock_reason;
	uint64		fence_term;
	ElectorTime fence_since;
	ElectorTime revoked_at;
	uint64		raise_checked;	/* term for whose raise a load was made */
	int			raises;
	char		establishing[ELECTOR_NAME_SIZE];
	ElectorTime establish_since;
	ElectorTime backoff_until;

	/* what each member has said; by the mirror's order of nodes */
	struct
	{
		char		node[ELECTOR_NAME_SIZE];
		ElectorAnswer answer;
		bool		passed_over;
		ElectorReport report;
		ElectorTime reported_at;
	}			said[ELECTOR_MEMBERS_MAX];
	int			nsaid;

	/* being fenced */
	ElectorFenceStage fence_stage;
	ElectorFenceRequest fenced;
	ElectorTime fenced_since;
	bool		fence_counts;
	bool		fence_self;		/* by our own election, besides who asked */
	bool		terminated;

	/* how far behind the leader this node knows itself to be */
	XLogRecPtr	leader_end;		/* end of WAL that the leader told last */
	ElectorTime leader_told_at;

	ElectorHandover handover;
	XLogRecPtr	checkpoint_before;
	ElectorTime checkpoint_since;
	ElectorTime ask_reports_at;
	ElectorTime ask_self_at;
	ElectorTime wake_at;		/* the startup process, when it does not stream */

	ElectorPosition position;	/* valid while frozen */
	bool		frozen;
	ElectorPlan plan;
	ElectorPlan logged;
	ElectorTime poll_at;		/* something is being waited for by looking */
	bool		news;			/* etcd or a peer has said something */
} ElectorWorker;

extern ElectorWorker *elector_worker;

/* worker.c */
extern void elector_worker_poll(ElectorTime interval);
extern void elector_worker_save_state(void);
extern void elector_close_gate(void);

/* session.c */
extern void elector_session_init(void);
extern void elector_session_step(ElectorTime now);
extern ElectorTime elector_session_next(void);
extern int64_t elector_session_bound(void);
extern void elector_session_reload(void);
extern void elector_session_set_lease(ElectorLease *lease, const ElectorEtcdReply *reply,
									  ElectorTime sent_at);
extern void elector_session_drop_lease(ElectorLease *lease, bool revoke);
extern void elector_session_note(const ElectorEtcdReply *reply);

/* observe.c */
extern void elector_observe(ElectorView *view, ElectorTime now);
extern void elector_publish(const ElectorView *view, const ElectorPlan *plan);
extern int	elector_said_index(const char *node);
extern void elector_forget_answers(void);

/* act.c, lead.c */
extern void elector_act(const ElectorView *view, const ElectorPlan *plan);
extern void elector_last_will(void);

/* calls.c */
extern void elector_calls_reset(void);
extern void elector_calls_serve(const ElectorView *view);
extern void elector_fence_begin(const ElectorView *view, const ElectorFenceRequest *request);
extern void elector_fence_step(const ElectorView *view);
extern void elector_peer_answered(const char *node, ElectorQuestion question,
								  const char *answer, const char *error);

#endif							/* ELECTOR_WORKER_H */
