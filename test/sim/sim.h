/*
 * sim.h
 *	  A world to run electors in: etcd, servers, a network, clocks, faults.
 *
 * Everything follows from a seed.  There is one queue of events in true time;
 * nothing else makes time pass, and nothing reads a real clock.  See README.
 */
#ifndef SIM_H
#define SIM_H

#include "core/elector.h"
#include "core/rules.h"

#define SIM_NODES_MAX	5
#define SIM_SERVERS_MAX (SIM_NODES_MAX + 1)	/* a copy of one of them, too (S9) */
#define SIM_ETCD_MEMBERS 3
#define SIM_PENDING_MAX 40
#define SIM_FAULTS_MAX	64
#define SIM_BRANCHES_MAX 512
#define SIM_KEYS		(ELECTOR_KEY_HISTORY + 2 * SIM_NODES_MAX)
#define SIM_TRACE_LINES 400

#define MS ((ElectorTime) 1000)
#define SEC ((ElectorTime) 1000000)
#define NEVER INT64_MAX

typedef struct World World;
typedef struct Server Server;

/* --- chance (chance.c) --- */

typedef struct Chance
{
	uint64_t	state;
} Chance;

extern uint64_t chance_bits(Chance *chance);
extern int64_t chance_between(Chance *chance, int64_t low, int64_t high);
extern bool chance_one_in(Chance *chance, int n);

/* --- events (queue.c) --- */

typedef void (*EventFunction) (World *world, Server *server, void *payload, int64_t number);

typedef struct Event
{
	ElectorTime at;
	uint64_t	sequence;		/* ties are served in the order they were made */
	EventFunction function;
	Server	   *server;			/* whose, or NULL */
	uint32_t	life;			/* of the server that it was meant for */
	uint32_t	term;			/* of its elector; 0: any */
	void	   *payload;		/* freed after the event */
	int64_t		number;
} Event;

typedef struct Queue
{
	Event	   *events;
	int			count;
	int			room;
	uint64_t	sequence;
} Queue;

/* --- etcd (etcd.c) --- */

typedef struct Kv
{
	bool		present;
	int64_t		create;
	int64_t		mod;
	int64_t		lease;
	const void *value;			/* a record of records.h; never changes */
} Kv;

typedef struct LogEntry
{
	int64_t		revision;
	int			key;
	Kv			kv;
} LogEntry;

typedef struct SimLease
{
	int64_t		id;				/* 0: free */
	ElectorTime ttl;
	ElectorTime expires;
} SimLease;

#define SIM_LEASES_MAX 256

/* A state of the store, to restore from. */
typedef struct Backup
{
	bool		present;
	int64_t		revision;
	Kv			kvs[SIM_KEYS];
	SimLease	leases[SIM_LEASES_MAX];
} Backup;

typedef struct SimEtcd
{
	int64_t		revision;
	int64_t		compacted;
	uint64_t	raft_term;
	uint64_t	incarnation;	/* changes with a restore: watches break */
	int			leader;			/* -1: none */
	uint64_t	election;		/* number of the election under way */
	bool		up[SIM_ETCD_MEMBERS];
	bool		isolated[SIM_ETCD_MEMBERS];
	int			believer;		/* an isolated member that still acts as leader */
	uint64_t	believer_term;
	ElectorTime believes_until;
	SimLease	believed[SIM_LEASES_MAX];	/* what it knows of leases */
	Kv			kvs[SIM_KEYS];
	SimLease	leases[SIM_LEASES_MAX];
	int64_t		next_lease;
	LogEntry   *log;
	int			nlog;
	int			log_room;
	Backup		backup;
} SimEtcd;

/* --- PostgreSQL (server.c, ports.c) --- */

/* A history: forked from its parent at lsn.  Its number is a fact, not a claim. */
/* synchronous_standby_names: so many of these nodes; 0: commits wait for nobody */
typedef struct SyncNames
{
	int			quorum;
	uint32_t	mask;
} SyncNames;

typedef struct Branch
{
	uint32_t	timeline;
	int			parent;			/* -1: none */
	ElectorLsn	lsn;
	uint64_t	term;			/* for which it was promoted; 0: by hand */
	uint64_t	newest_term;	/* that was led on it */
	ElectorLsn	written;		/* newest commit on a disk ... */
	ElectorLsn	told;			/* ... and newest one acknowledged on it ... */
	ElectorLsn	promised;		/* ... and under a policy: never to be lost */
} Branch;

typedef enum Phase
{
	PHASE_DOWN,
	PHASE_STARTING,
	PHASE_STANDBY,
	PHASE_PRIMARY,
	PHASE_STOPPING,				/* shutting down, sessions are gone */
	PHASE_ORPHANED,				/* the postmaster is dead, its children are not */
	PHASE_PROGRAM				/* the postmaster has become the program */
} Phase;

typedef enum Freeze
{
	FREEZE_NONE,
	FREEZE_GOING,				/* until freeze_until */
	FREEZE_DONE
} Freeze;

/* A question to a peer, of one of the kinds. */
typedef struct Asked
{
	bool		wanted;
	union
	{
		ElectorFenceRequest fence;
		ElectorOrder order;
		ElectorPromiseRequest promise;
	}			argument;
} Asked;

typedef struct Peer
{
	Asked		asked[ELECTOR_QUESTIONS];
	bool		busy;
	ElectorQuestion question;	/* under way */
	uint64_t	number;
	ElectorTime since;			/* local */
	ElectorTime silent_since;	/* local */
	ElectorTime retry_at;		/* true */
} Peer;

/* A fence that a backend has handed to the elector. */
typedef struct Call
{
	int			from;
	uint64_t	number;
	ElectorFenceRequest request;
} Call;

#define SIM_CALLS_MAX 16

struct Server
{
	World	   *world;
	int			index;
	bool		exists;
	int			node;			/* which name it has */

	/* machine */
	ElectorTime offset;			/* local = offset + true + true * drift / 10^6 */
	int64_t		drift;			/* parts per million */
	uint32_t	life;			/* counts the starts of its processes */
	ElectorTime paused_until;	/* the machine, clients and all */
	ElectorTime elector_paused_until;
	ElectorTime answers_late;	/* what peers answer comes so much later */
	int			left_alone;		/* faults that have cut it off, at last */
	uint64_t	boot;
	uint64_t	directory;

	/* disk */
	ElectorState state;
	ElectorState state_before;	/* until saved_at */
	ElectorTime saved_at;
	ElectorState backup_state;	/* to restore from */
	int			backup_branch;
	ElectorLsn	backup_lsn;
	ElectorTodo todo;
	ElectorLeadership leadership;
	int			branch;
	ElectorLsn	lsn;			/* end of WAL on disk */
	ElectorLsn	checkpoint;		/* where the shutdown checkpoint begins; 0: not
								 * shut down */
	bool		was_primary;	/* when it ended last */
	uint32_t	newest_timeline;	/* of which there is a history file */
	int			history;		/* the branch that the newest tells of */
	ElectorTime problem_at;		/* local; 0: none */

	/* processes */
	Phase		phase;
	char		instance[ELECTOR_INSTANCE_SIZE];
	ElectorLsn	replayed;
	bool		stay_down;		/* after stopping */
	bool		start_wanted;	/* somebody starts it when it can be */
	Freeze		freeze;
	ElectorTime freeze_until;
	bool		promoting;
	int			bound_for;		/* the branch that recovery aims at */
	int			upstream;		/* whom its settings name; -1: nobody */
	bool		streaming;
	uint64_t	stream;			/* number of the connection */
	uint32_t	upstream_life;	/* to which life of the upstream */
	ElectorLsn	told_end;
	ElectorTime told_at;		/* local */
	ElectorTime wal_delay;		/* what it streams comes so much later ... */
	ElectorTime lags_until;		/* ... and not at all before */
	ElectorTime disk_stuck_until;
	ElectorTime wal_full_until;
	ElectorTime checkpoint_done;	/* of a requested checkpoint; true */

	/* shared memory */
	ElectorTime gate;
	ElectorTime reads;
	uint64_t	opened_term;
	uint64_t	upstream_term;
	uint64_t	led_term;
	ElectorTime drain_until;
	int			marks;			/* commits under way */
	ElectorLsn	pending[SIM_PENDING_MAX];	/* those that wait for standbys */
	int			npending;
	ElectorLsn	known[SIM_SERVERS_MAX]; /* what standbys have said that they have */
	SyncNames	names;			/* that walsenders go by ... */
	SyncNames	names_loading;	/* ... and from then on */
	ElectorTime names_loaded_at;
	char		names_text[ELECTOR_NAMES_SIZE]; /* on disk */

	/* elector */
	bool		running;
	uint32_t	elector_life;
	Elector		elector;
	ElectorCluster cluster;
	ElectorTime round_at;		/* true; NEVER: none is due */
	uint64_t	round;			/* number of that round's event */
	ElectorTime stall;			/* how long this round has been held up so far */
	int			steps;			/* ports called in this life */
	int			crash_in;		/* crash when so many more were called; 0: no */
	bool		doomed;
	int			endpoint;
	bool		watching;
	int			watch_member;
	uint64_t	watch;			/* number of the watch */
	uint64_t	watch_incarnation;
	ElectorTime watch_last;		/* nothing overtakes on one connection */
	uint64_t	question;
	Peer		peers[SIM_NODES_MAX];
	Call		calls[SIM_CALLS_MAX];
	int			ncalls;

	/* the program */
	ElectorCluster program_cluster;
	ElectorTime program_until;

	/* what it has promised, for the checks */
	ElectorPosition answered;
	uint64_t	answered_term;
	uint64_t	seen_term;		/* highest term saved */
	int64_t		seen_token;
	uint64_t	checked_term;	/* last one whose opening was looked at */
};

/* --- synchronous commits (commits.c) --- */

extern void server_commit_released(Server *server, ElectorLsn lsn);
extern void commits_wait(Server *server, ElectorLsn lsn);
extern void commits_release(Server *server);
extern void commits_terminate(Server *server);
extern void commits_forget(Server *server);
extern bool commits_set_names(Server *server, const char *text);
extern void commits_flushed(Server *follower);
extern void commits_look(const Server *server, ElectorServer *facts);

/* --- faults (faults.c) --- */

/* What a fault can wait for, to hit the moments that matter. */
typedef enum Moment
{
	MOMENT_ANY,
	MOMENT_LOCKED,
	MOMENT_FENCED,
	MOMENT_TAKEN,
	MOMENT_PROMOTED,
	MOMENT_BEGUN,
	MOMENT_OPENED,
	MOMENT_RULE,				/* another durability rule is in etcd */
	MOMENT_NAMES,				/* and loaded */
	MOMENT_RECORDING,			/* who has to promise is about to be recorded, or
								 * by which rule */
	MOMENT_RELEASING,
	MOMENTS
} Moment;

/* What kind of trouble a world is about. */
typedef enum Theme
{
	THEME_ANY,
	THEME_LEASE,
	THEME_ELECTION,
	THEME_MEDDLING,
	THEME_HANDOVER,
	THEME_DURABILITY,
	THEME_FAILSAFE,
	THEMES
} Theme;

typedef struct Fault
{
	ElectorTime at;
	Moment		moment;			/* the first such one after `at` ... */
	ElectorTime after;			/* ... and so long later */
	ElectorTime lasts;
	int			kind;
	int			a;				/* a server; -1: the one of the moment */
	int			b;
	int64_t		amount;
	bool		waiting;
	uint32_t	servers;		/* that have the newest commit when it begins */
} Fault;

/* --- the world --- */

typedef struct Violation
{
	bool		found;
	ElectorTime at;
	char		invariant[8];
	char		text[400];
} Violation;

typedef struct Counters
{
	ElectorTime time;
	int64_t		events;
	int64_t		elections;		/* locks taken */
	int64_t		leaderships;	/* gates opened */
	int64_t		faults;
	int64_t		commits;		/* acknowledged ... */
	int64_t		promised;		/* ... and by a leader without etcd */
} Counters;

struct World
{
	uint64_t	seed;
	Chance		chance;			/* what happens anyhow: delays, durations */
	ElectorTime now;
	Queue		queue;
	int			nnodes;
	int			nservers;
	Server		servers[SIM_SERVERS_MAX];
	SimEtcd		etcd;
	Branch		branches[SIM_BRANCHES_MAX];
	int			nbranches;
	uint64_t	next_number;	/* of instances, connections, questions */
	ElectorSettings settings[SIM_NODES_MAX];
	char		names[SIM_NODES_MAX][ELECTOR_NAME_SIZE];

	/* the network: links between servers, and from server to etcd member */
	int			cut[SIM_SERVERS_MAX][SIM_SERVERS_MAX];	/* from, to; counts */
	int			cut_to_etcd[SIM_SERVERS_MAX][SIM_ETCD_MEMBERS];
	int			cut_from_etcd[SIM_SERVERS_MAX][SIM_ETCD_MEMBERS];
	int64_t		drift;			/* of clocks, at most; parts per million */
	ElectorTime delay;			/* typical, one way */
	ElectorTime etcd_slow_until;
	ElectorTime slow_until;
	ElectorTime slow_delay;
	ElectorTime client_gap;		/* between two commits, at most ... */
	ElectorTime busy_until;		/* ... until then; later they are rare */
	int			loss;			/* one message in so many; 0: none */
	ElectorTime disk_slow_until;
	ElectorTime disk_stall;

	Theme		theme;
	bool		synchronous;	/* some policy other than async is used */
	int			nfaults;
	Fault		faults[SIM_FAULTS_MAX];
	int			corpse;			/* a node that stays down in the end; -1: none */
	ElectorTime horizon;		/* no fault begins later */
	ElectorTime calm_at;		/* the last fault is over */
	ElectorTime bound;			/* and so long later all must be well */
	bool		stopped;
	ElectorTime open_bound;		/* and sooner a gate must be open */

	/* for the checks */
	uint64_t	opened_term;	/* newest term that was opened ... */
	const Server *opened_by;	/* ... and by whom */
	uint64_t	taken_term;
	ElectorTime acknowledged_at;	/* the newest commit */
	ElectorTime well_since;		/* 0: it is not */
	bool		restored;		/* a disk or etcd is not what it was */
	bool		forsaken;		/* the last leader is gone for good */
	uint64_t	released_term;	/* by the last leader's own word ... */
	int			released_branch;	/* ... with all this */
	ElectorLsn	released_lsn;
	Violation	violation;
	Counters	counters;

	/* memory that lives as long as the world */
	char	  **chunks;
	int			nchunks;
	size_t		chunk_used;

	bool		tracing;
	bool		telling;		/* at once, and all of it */
	char	  **trace;			/* the last lines */
	int64_t		ntrace;
};

typedef enum Tracing
{
	TRACING_OFF,
	TRACING_LAST,
	TRACING_ALL
} Tracing;

/* world.c */
extern void world_run(World *world, uint64_t seed, const Fault *faults, int nfaults,
					  Tracing tracing);
extern const char *world_policy(Chance *chance, int nnodes);
extern void world_free(World *world);
extern void *world_alloc(World *world, size_t size);
extern void world_trace(World *world, const Server *server, const char *format,...)
			__attribute__((format(printf, 3, 4)));
extern void world_violation(World *world, const char *invariant, const char *format,...)
			__attribute__((format(printf, 3, 4)));
extern void world_loss(World *world, const char *format,...)
			__attribute__((format(printf, 2, 3)));
extern void world_later(World *world, Server *server, ElectorTime at, EventFunction function,
						void *payload, int64_t number);
extern void world_elector_later(Server *server, ElectorTime at, EventFunction function,
								void *payload, int64_t number);
extern const char *world_name(const Server *server);
extern ElectorTime world_transit(World *world);
extern bool world_lost(World *world);
extern bool world_linked(const World *world, const Server *from, const Server *to);

#define TRACE(world, server, ...) \
	do { if ((world)->tracing) world_trace(world, server, __VA_ARGS__); } while (0)

extern void queue_add(Queue *queue, Event event);
extern Event queue_take(Queue *queue);

/* etcd.c */
typedef struct EtcdReply
{
	ElectorErrand errand;
	ElectorErrandResult result;
	Kv			kvs[SIM_KEYS];	/* LOAD */
	uint64_t	incarnation;
	bool		program;		/* asked by the program, not by the elector */
} EtcdReply;

extern void etcd_begin(World *world);
extern void etcd_forget(const Server *server);
extern void etcd_run(Server *server, const ElectorErrand *errand, bool program);
extern void etcd_fill_cluster(World *world, ElectorCluster *cluster, const Kv *kvs,
							  int64_t revision);
extern void etcd_watch(Server *server);
extern void etcd_stop_member(World *world, int member);
extern void etcd_start_member(World *world, int member);
extern void etcd_isolate(World *world, int member);
extern void etcd_move_leader(World *world, int member);
extern void etcd_rejoin(World *world, int member);
extern void etcd_restore(World *world);
extern void etcd_back_up(World *world);
extern void etcd_compact(World *world);
extern void etcd_delete_leader(World *world);
extern bool etcd_has_lease(const World *world, int64_t lease);
extern const ElectorDurability *etcd_durability(const World *world);
extern bool etcd_paused(const World *world);
extern const ElectorTerm *etcd_term(const World *world);
extern const ElectorLeader *etcd_leader(const World *world);

/* server.c */
extern ElectorTime server_local(const Server *server, ElectorTime at);
extern ElectorTime server_true(const Server *server, ElectorTime local);
extern void server_create(World *world, int index, int node);
extern void server_start(Server *server);
extern void server_kill(Server *server);	/* all its processes; the disk stays */
extern void server_kill_postmaster(Server *server);
extern void server_crash_in_place(Server *server);
extern void server_kill_elector(Server *server);
extern void server_stop(Server *server, ElectorStop how, bool stay_down);
extern void server_promote_by_hand(Server *server);
extern void server_round_soon(Server *server);
extern void server_settle(Server *server);
extern void server_connect(Server *server);
extern void server_disconnect(Server *server);
extern void server_wal_flushed(Server *server);
extern void server_wal_flushed_by_all(World *world);
extern void server_begin_clients(World *world);
extern bool server_on_history(const World *world, int branch, ElectorLsn lsn, int of);
extern uint32_t server_timeline(const Server *server);
extern void server_program_answered(Server *server, const EtcdReply *reply);
extern void server_take_state(Server *server);
extern bool server_accepts(const Server *server);
extern const Server *server_by_instance(const World *world, const char *instance);

/* ports.c */
extern const ElectorPorts sim_ports;
extern void ports_begin_elector(Server *server);
extern void ports_round(Server *server);
extern void ports_answer(World *world, Server *server, void *payload, int64_t number);

/* faults.c */
extern int	faults_plan(World *world, Fault *faults);
extern void faults_begin(World *world);
extern void faults_moment(World *world, Server *server, Moment moment);
extern void fault_describe(const World *world, const Fault *fault, char *text, size_t size);

/* check.c */
extern void check_always(World *world);
extern void check_take(World *world, const Server *server, int64_t token,
					   const ElectorTerm *before, const ElectorTerm *after);
extern void check_choice(Server *server);
extern void check_release(World *world, const Server *server, bool program,
						  const ElectorTerm *term);
extern void check_begun(World *world, const Server *server, const ElectorTerm *term);
extern void check_open(World *world, const Server *server);
extern void check_promotion(World *world, const Server *server, int branch);
extern void check_state(Server *server, const ElectorState *after);
extern void check_stream(World *world, const Server *server);
extern void check_flushed(const Server *server);
extern void check_commit(World *world, const Server *server, ElectorLsn lsn);
extern void check_answer(Server *server, const ElectorFenceRequest *request,
						 const ElectorAnswer *answer);
extern void check_received(Server *server, const Server *upstream);
extern void check_handover(const Server *server);
extern void check_key_deleted(World *world, const Server *server);
extern void check_led(World *world);
extern bool check_is_well(const World *world, const Server **who);
extern void check_calm(World *world);

/* promises.c */
extern void promises_register(void);
extern void promises_commit(World *world, const Server *server, ElectorLsn lsn);
extern void promises_rule(World *world, const Server *server, const ElectorDurability *before,
						  const ElectorDurability *after);
extern void promises_take(World *world, const Server *server);
extern void promises_open(World *world, const Server *server);

/*
 * Rules of the world's own, broken on purpose like those of core/rules_table.h:
 * what the files of src/server do that is not in core.
 */
typedef enum WorldRule
{
	WORLD_RULE_WALRECEIVER_GONE,	/* a fence waits for it (standby.c) */
	WORLD_RULE_ALL_REPLAYED,	/* and for replay */
	WORLD_RULE_GUARDED_CONNECT, /* a walreceiver asks for permission */
	WORLD_RULE_TERM_AT_UPSTREAM,	/* a walsender asks for which term (gate.c) */
	WORLD_RULE_STRAY_AT_START,	/* restart.c looks at how the server ended */
	WORLD_RULE_BORN_STANDBY,	/* restart.c */
	WORLD_RULE_STATE_SURVIVES,	/* the state file is kept over restarts */
	WORLD_RULE_FSYNC,			/* store.c */
	WORLD_RULE_DRIFT,			/* clocks drift within the margin */
	WORLD_RULE_CLOCK_RUNS,		/* while a machine is paused (S16) */
	WORLD_RULE_GATE_CHECKED_TWICE,	/* after the flush, too */
	WORLD_RULES
} WorldRule;

extern int	world_broken_rule;	/* WORLD_RULES: none */
extern bool world_only_loss;	/* nothing but commits that are lost counts */
extern int	world_theme;		/* that all worlds have; THEMES: their own */

#define WORLD_RULE(symbol) (world_broken_rule != WORLD_RULE_##symbol)

#endif							/* SIM_H */
