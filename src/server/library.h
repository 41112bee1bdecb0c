/*
 * library.h
 *	  Declarations shared by the files of the library.
 */
#ifndef ELECTOR_LIBRARY_H
#define ELECTOR_LIBRARY_H

#include "postgres.h"

#include "access/xlogdefs.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

#include "core/elector.h"
#include "core/durability.h"
#include "core/name.h"
#include "etcd/auth.h"

#include "compat.h"

#define ELECTOR_VERSION "1.0"

/*
 * The one string by which everything of the library is told from other
 * extensions: LWLock tranche, shared memory, worker's name.
 */
#define ELECTOR_LIBRARY "pg_elector"

/* --- settings (settings.c) --- */

extern char *elector_cluster;
extern char *elector_node;
extern char *elector_etcd_endpoints;
extern char *elector_etcd_ca_file;
extern char *elector_etcd_cert_file;
extern char *elector_etcd_key_file;
extern char *elector_etcd_user;
extern char *elector_etcd_password_file;
extern char *elector_conninfo;
extern int	elector_lease_ttl;	/* seconds */
extern int	elector_lease_margin;	/* milliseconds */
extern int	elector_fence_timeout;	/* milliseconds */
extern int	elector_cold_start_wait;	/* milliseconds */
extern int	elector_failover_cooldown;	/* milliseconds */
extern int	elector_drain_timeout;	/* milliseconds */
extern bool elector_candidate;
extern int	elector_priority;
extern char *elector_zone;
extern int	elector_maximum_lag;	/* kilobytes; -1: no limit */
extern char *elector_durability;
extern char *elector_admin_roles;
extern char *elector_standby_names;
extern int	elector_follower_timeout;	/* milliseconds */
extern int	elector_disk_timeout;	/* milliseconds; 0: the disk is not watched */
extern int	elector_lease_wait; /* milliseconds */
extern int	elector_max_staleness;	/* milliseconds; 0: no bound */
extern int	elector_standby_reads;
extern int	elector_degrade_after;	/* milliseconds */
extern int	elector_too_few_followers;
extern char *elector_pgbouncer;
extern char *elector_http_listen;
extern char *elector_http_cert_file;
extern char *elector_http_key_file;
#define ELECTOR_COMMAND_SIZE 1024
extern char *elector_role_change_command;
extern int	elector_role_change_timeout;	/* milliseconds */
extern int	elector_rejoin;
extern bool elector_slots;
extern bool elector_failsafe;
extern int	elector_generation;
extern char *elector_upstream_term;
extern char *elector_restore_command;
extern char *elector_primary_slot_name;

/* What a leader does whose policy cannot be met. */
typedef enum ElectorTooFew
{
	ELECTOR_COMMITS_WAIT,
	ELECTOR_DEGRADE
} ElectorTooFew;

/* When a standby answers reads. */
typedef enum ElectorStandbyReads
{
	ELECTOR_READS_VERIFIED,
	ELECTOR_READS_ALWAYS
} ElectorStandbyReads;

typedef enum ElectorRejoin
{
	ELECTOR_REJOIN_REWIND,
	ELECTOR_REJOIN_CLONE,
	ELECTOR_REJOIN_OFF
} ElectorRejoin;

extern const char *elector_rejoin_name(void);

extern void elector_settings_define(void);

/* Is there a cluster to take part in?  FATAL if it is named but not reachable. */
extern bool elector_settings_complete(void);

/* FATAL if pg_elector.durability is no policy. */
extern void elector_settings_check_policy(void);

/* May the role pass a closed gate? */
extern bool elector_role_exempt(const char *role);

/* The database of pg_elector.conninfo. */
extern const char *elector_peer_database(void);

/* --- shared memory (shmem.c) --- */

/* What a backend asks of the worker. */
typedef enum ElectorCallKind
{
	ELECTOR_CALL_FENCE,			/* argument and answer are JSON */
	ELECTOR_CALL_ESTABLISH,
	ELECTOR_CALL_PROMISE,
	ELECTOR_CALL_SWITCHOVER,	/* argument: when, whether to wait, target */
	ELECTOR_CALL_CHECK,			/* likewise, and nothing is done */
	ELECTOR_CALL_FAILOVER,		/* argument: whether loss is accepted, target */
	ELECTOR_CALL_CANCEL,		/* the switchover that was asked for */
	ELECTOR_CALL_HOLD,			/* argument: for how many ms, why */
	ELECTOR_CALL_RELEASE,		/* argument: which hold */
	ELECTOR_CALL_PAUSE,			/* argument: why */
	ELECTOR_CALL_RESUME,
	ELECTOR_CALL_REMOVE,		/* argument: which member */
	ELECTOR_CALL_REFRESH		/* ask the peers for fresh reports */
} ElectorCallKind;

typedef enum ElectorCallState
{
	ELECTOR_CALL_FREE,
	ELECTOR_CALL_ASKED,			/* by a backend; worker's to take */
	ELECTOR_CALL_TAKEN,			/* worker is at it */
	ELECTOR_CALL_ANSWERED,		/* backend's to read and free */
	ELECTOR_CALL_ABANDONED		/* backend is gone; worker's to free */
} ElectorCallState;

#define ELECTOR_CALLS_MAX	16
#define ELECTOR_CALL_SIZE	2048

typedef struct ElectorCall
{
	ElectorCallState state;
	ElectorCallKind kind;
	bool		failed;			/* answer is an error message */
	int64		request;		/* worker's: the switchover it waits for; 0: none ... */
	uint64		request_term;	/* ... and under which leadership that was */
	char		argument[ELECTOR_CALL_SIZE];
	char		answer[ELECTOR_CALL_SIZE];
} ElectorCall;

typedef struct ElectorStatusRow
{
	ElectorMember member;
	bool		alive;
	bool		leader;			/* etcd says so */
	uint64		leader_term;
	bool		reported;		/* report is an answer to the newest refresh */
	ElectorReport report;
} ElectorStatusRow;

typedef struct ElectorLeaseStatus
{
	int64		id;
	int64		ttl_ms;
	ElectorTime deadline;
	int64		renewals;
	int64		failures;
	int64		rtt_us;			/* of the last renewal */
} ElectorLeaseStatus;

/* A slot that this node is to have (slots.c). */
typedef struct ElectorSlot
{
	char		name[ELECTOR_SLOT_NAME_SIZE];
	XLogRecPtr	held;			/* its member needs no WAL before this; 0: not
								 * known */
} ElectorSlot;

/* All renewals since the server has started, of whichever lease. */
typedef struct ElectorRenewals
{
	int64		renewals;
	int64		failures;
	int64		rtt_us;			/* of all together */
} ElectorRenewals;

/* What a closed gate has refused. */
typedef enum ElectorRefused
{
	ELECTOR_REFUSED_COMMIT,
	ELECTOR_REFUSED_STATEMENT,
	ELECTOR_REFUSED_CONNECTION,
	ELECTOR_REFUSED_ANSWER,		/* of a commit that nobody can vouch for */
	ELECTOR_REFUSED_KINDS
} ElectorRefused;

/*
 * Shared memory.
 *
 * Only the worker writes, except where said; that is what makes the rest
 * simple.  It is reset when the postmaster restarts after a crash.
 *
 * gate_deadline and read_deadline are read by every backend without a lock,
 * before each commit and statement.  0 is closed.  They only ever hold a time
 * up to which etcd's promise reaches, so a worker that stops moving them closes
 * the gate by standing still (I6).  So is fresh_at, which only rises.
 *
 * marks[n], an ElectorMark, is written by the backend with process number n
 * alone: set, then a full barrier, then it looks at gate_deadline.  The worker
 * clears gate_deadline, then a full barrier, then looks at the marks.  So either
 * the backend sees the gate closed or the worker sees the mark; a commit cannot
 * slip between (I2).
 *
 * startup_generation is written by the startup process from the assign hook of
 * pg_elector.generation, and proves that it has loaded the settings that came
 * with it.
 *
 * upstream_term is written by the worker and read by the walreceiver, which
 * must not connect unless it is set and upstream_conninfo, under the lock, is
 * what it was told to connect to (S1, S2).  upstream_since is when it was set, so
 * that the walreceiver knows whether the leader has had time to make its slot.
 *
 * led_term is written by the worker, and read by a walsender before it lets a
 * standby in: a walreceiver reconnects by itself, to a server that may lead
 * another term by then, on another history (S1).
 *
 * slots[] is written by the worker and read by the process that makes and drops
 * slots, which takes a copy when it starts.
 *
 * durable is written by the worker, and read by backends after their mark, which
 * then tells what was found.  The worker sets it, then a full barrier, then waits
 * until no mark is left of a commit that may not have found it: that one would
 * be acknowledged by the leader alone (S6).
 *
 * breaking counts the backends whose commit may lose its wait for the followers.
 * A signal handler counts before that can happen, so before the commit's rows are
 * visible; the backend stops counting after it has raised barrier_lsn.  So who has
 * seen the rows finds one or the other (S13).  barrier_lsn is the end of the last
 * commit whose wait was broken, and only rises.
 *
 * Everything below `lock` is guarded by it.  calls[] is written by backends,
 * too; a call's state says whose it is.
 *
 * What is published, from `leader` to `missing`, can also be read without the lock
 * (facts.c), by who must neither wait for a worker that stands still with it nor
 * have the worker wait: publication is odd while the worker writes, and another
 * number afterwards.
 */
typedef enum ElectorMark
{
	ELECTOR_MARK_NONE,
	ELECTOR_MARK_COMMITS,		/* has not looked at the policy, or there is none */
	ELECTOR_MARK_WAITS			/* as the policy wants it */
} ElectorMark;

typedef struct ElectorShared
{
	pg_atomic_uint64 gate_deadline;
	pg_atomic_uint64 read_deadline;
	pg_atomic_uint64 fresh_at;	/* a standby had replayed all that had been
								 * committed then; 0: not known */
	pg_atomic_uint64 opened_term;	/* term for which the gate was opened; 0:
									 * not */
	pg_atomic_uint64 upstream_term;
	pg_atomic_uint64 upstream_since;
	pg_atomic_uint64 led_term;	/* followers of this term may connect; 0: none */
	pg_atomic_uint32 startup_generation;
	pg_atomic_uint32 worker_proc;	/* process number + 1; 0: no worker */
	pg_atomic_uint32 announcer_proc;	/* likewise, of the announcer */
	pg_atomic_uint32 publication;
	pg_atomic_uint64 published_at;	/* when the worker's last round ended */
	pg_atomic_uint32 durable;	/* 1: a policy other than async is in force,
								 * and its synchronous_standby_names loaded */
	pg_atomic_uint32 breaking;
	pg_atomic_uint64 barrier_lsn;
	pg_atomic_uint64 refused[ELECTOR_REFUSED_KINDS];	/* backends add to it */

	ConditionVariable answered; /* some call's state has changed */

	LWLock	   *lock;
	char		instance[ELECTOR_INSTANCE_SIZE];	/* of this start; written
													 * once, before there are
													 * processes */
	char		upstream_conninfo[ELECTOR_CONNINFO_SIZE];
	char		etcd_token[ELECTOR_TOKEN_SIZE]; /* for the postmaster's last act,
												 * which reads it without the
												 * lock: a torn one is refused */
	char		leader[ELECTOR_NAME_SIZE];	/* "" if there is none */
	ElectorReport self;
	ElectorLeaseStatus lease;
	ElectorRenewals renewals;
	uint64		term;			/* newest term known */
	ElectorLsn	leader_end;		/* end of WAL that the leader told last ... */
	ElectorTime leader_told_at; /* ... which was then; 0: not yet */
	int			nrows;
	ElectorStatusRow rows[ELECTOR_MEMBERS_MAX];
	int			nhistory;
	ElectorHistory history[ELECTOR_HISTORY_MAX];
	ElectorClusterSettings settings;
	bool		known;			/* what etcd says is current */
	uint64		leader_term;	/* of the leader key; 0: there is none */
	ElectorDurability durability;
	bool		safe;			/* a failover now would lose nothing */
	char		missing[ELECTOR_TEXT_SIZE]; /* who would be needed for that */
	ElectorCall calls[ELECTOR_CALLS_MAX];
	bool		slots_settled;	/* this node is on the leader's history */
	bool		drop_slots;		/* those that are not in the list */
	int			nslots;
	ElectorSlot slots[ELECTOR_MEMBERS_MAX];

	int			nmarks;
	pg_atomic_uint32 marks[FLEXIBLE_ARRAY_MEMBER];
} ElectorShared;

extern ElectorShared *elector_shared;

extern void elector_shmem_request(void);
extern void elector_shmem_startup(void);
extern void elector_wake_worker(void);

/* Microseconds on the clock that lease deadlines are in (CLOCK_BOOTTIME). */
extern ElectorTime elector_now(void);

/* A backend waits for so long, or for its latch, to look again; a cancel ends it. */
extern void elector_doze(long ms);


/* This node's own report, as of now; takes the lock in shared mode. */
extern void elector_report_self(ElectorReport *report);

/*
 * The same without the lock: what changes every moment is read anew, the rest is
 * given.  lease_deadline is a follower's.
 */
extern void elector_report_refresh(ElectorReport *report, ElectorTime lease_deadline);

/* In a standby: the end of WAL that its upstream told last, and when; 0: not yet. */
extern void elector_look_at_stream(XLogRecPtr *end, ElectorTime *at);

/*
 * Rows as they are shown, with this node's own report as of now.  Returns where the
 * leader's WAL ends; invalid: not known.
 */
extern XLogRecPtr elector_rows_complete(ElectorStatusRow *rows, int nrows,
										const ElectorReport *own);
extern const char *elector_row_state(const ElectorStatusRow *row);
extern int64 elector_row_lag(const ElectorStatusRow *row, XLogRecPtr leader_lsn);	/* -1: not known */

/* --- other workers --- */

extern PGDLLEXPORT void elector_announcer_main(Datum argument);	/* announce.c */
extern PGDLLEXPORT void elector_notify_main(Datum argument);	/* likewise */
extern PGDLLEXPORT void elector_http_main(Datum argument);	/* http.c */
extern void elector_wake_announcer(void);

/* --- the gate (gate.c) --- */

extern void elector_gate_install(void);
extern bool elector_gate_is_open(void);

/* Does this server answer reads now: a leader, or a standby that may? */
extern bool elector_gate_reads_open(void);

/*
 * For the worker, while the gate is closed: end the logical replication that does
 * not look at it.  True when no process of it can commit any more.
 */
extern bool elector_gate_end_replication(void);

/*
 * For the worker: has every commit that passed the gate ended?  Ends logical
 * replication, too.
 */
extern bool elector_gate_drained(void);

/* For the worker: does every commit under way know that a policy is in force? */
extern bool elector_gate_policy_known(void);

/* End the backends whose commits have not. */
extern void elector_gate_terminate(void);

/* --- commits under a durability policy (commit.c) --- */

typedef enum ElectorCommitKind
{
	ELECTOR_COMMIT_TRANSACTION,
	ELECTOR_COMMIT_PREPARE,		/* PREPARE TRANSACTION */
	ELECTOR_COMMIT_PREPARED,	/* COMMIT PREPARED */
	ELECTOR_COMMIT_ROLLBACK_PREPARED
} ElectorCommitKind;

/* For the worker: a policy is in force, and no commit may be acknowledged with less. */
extern void elector_commit_set_durable(bool durable);

/*
 * Before the commit record.  waits: it is known already that it will be waited
 * for.  ERROR if nobody could acknowledge it.  False if no policy is in force.
 */
extern bool elector_commit_begin(ElectorCommitKind kind, bool waits);

/* After the wait: may the client be told? */
extern bool elector_commit_end(void);

/* It came to nothing. */
extern void elector_commit_forget(void);

/* Before a statement: wait until all that it might see is durable, or ERROR. */
extern void elector_commit_await_barrier(void);

/* Before what was read is passed on otherwise: likewise, or the process ends. */
extern void elector_commit_hold_back(void);

/* --- before a planned stop (drain.c) --- */

extern Size elector_drain_size(void);
extern void elector_drain_startup(void);
extern void elector_drain_install(void);

/* In a backend, before a statement: if it begins a transaction, it may have to wait. */
extern void elector_drain_pass(void);

/* For the worker: transactions that begin wait until then; 0: they do not. */
extern void elector_drain_begin(ElectorTime until);

/* For the worker, before a shutdown: end the walsenders that would hold it up. */
extern void elector_drain_walsenders(void);

/* For the worker, in each round of a primary: by this those are known. */
extern void elector_drain_look(void);

/* For the worker: is no transaction under way but those that wait? */
extern bool elector_drain_done(void);

/* --- the standby side (standby.c) --- */

extern void elector_standby_install(void);

/* --- the postmaster's last act, and its first (restart.c) --- */

extern void elector_restart_install(void);
extern bool elector_postmaster_stopping(void);

/* --- files in the data directory (store.c) --- */

extern void elector_store_init(void);
extern bool elector_store_read_state(ElectorState *state);
extern void elector_store_write_state(const ElectorState *state);
extern bool elector_store_read_todo(ElectorTodo *todo);
extern void elector_store_write_todo(const ElectorTodo *todo);
extern bool elector_store_read_leadership(ElectorLeadership *leadership);
extern void elector_store_write_leadership(const ElectorLeadership *leadership);
extern void elector_store_remove(const char *path);

/* Who we are, for telling a dead predecessor from a stranger (S9). */
extern void elector_store_identity(ElectorState *state);

/* --- replication slots (slots.c) --- */

extern PGDLLEXPORT void elector_slots_main(Datum argument);

/* --- the worker (worker.c) --- */

extern PGDLLEXPORT void elector_worker_main(Datum argument);

#endif							/* ELECTOR_LIBRARY_H */
