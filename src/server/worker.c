/*
 * worker.c
 *	  The worker: one loop that pumps, steps the elector, publishes, and waits.
 *
 * The loop is the only place that waits, and the only writer of shared memory.
 * What it waits for is in one WaitEventSet: its latch, the postmaster's death,
 * etcd's one descriptor, the peers' sockets and the PgBouncers'; until when is the soonest of all
 * the times that the parts gave.
 *
 * What is done is the elector's (core/elector.c); this is where it lives.
 *
 * The trap: nothing in the loop may block.  A round that does renews no lease,
 * and the gate closes by the clock.
 */
#include "worker.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "access/xlog.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pg_shmem.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "standby.h"
#include "store.h"
#include "synchronous.h"

/* A failed rejoin is tried again after this time. */
#define REJOIN_INTERVAL ((ElectorTime) 30 * 1000000)

/* A dying server has this long for its last word. */
#define LAST_WILL_BOUND 2000000
#define LAST_WILL_DRAIN 50000

ElectorWorker *elector_worker = NULL;

static volatile sig_atomic_t terminated = false;

static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	terminated = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/* Take up what was remembered. */
static void
begin(void)
{
	Elector    *elector = &elector_worker->elector;
	ElectorState state;
	ElectorState now;
	ElectorTime age;
	char		problem[ELECTOR_TEXT_SIZE];
	char		predecessor[ELECTOR_INSTANCE_SIZE] = "";

	elector_store_read_state(&state);
	memset(&now, 0, sizeof(now));
	elector_store_identity(&now);
	strlcpy(now.instance, elector_shared->instance, sizeof(now.instance));
	if (elector_is_predecessor(&state, &now))
		strlcpy(predecessor, state.instance, sizeof(predecessor));

	state.present = true;
	state.system = GetSystemIdentifier();
	strlcpy(state.node, elector_node, sizeof(state.node));
	strlcpy(state.instance, now.instance, sizeof(state.instance));
	strlcpy(state.machine, now.machine, sizeof(state.machine));
	strlcpy(state.boot_id, now.boot_id, sizeof(state.boot_id));
	state.device = now.device;
	state.inode = now.inode;

	elector_ports_init(elector);
	elector_errands_init();
	elector_peers_init(elector_calls_peer_answered);
	elector_pgbouncer_configure();
	elector_calls_reset();
	elector_init(elector, &state, now.instance, predecessor);
	if (elector_store_read_problem(problem, sizeof(problem), &age) && age < REJOIN_INTERVAL)
		elector->rejoin_after = elector_now() + REJOIN_INTERVAL - age;
	ereport(LOG,
			(errmsg("node \"%s\" of cluster \"%s\" started", elector_node, elector_cluster),
			 errdetail("It remembers term " UINT64_FORMAT " and timeline %u.",
					   state.term, state.timeline)));
}

/* Say it to etcd, and be heard or not, within the bound. */
static void
speak(ElectorTime until)
{
	while (elector_etcd_busy(elector_worker->etcd) && elector_now() < until)
	{
		struct pollfd wait = {elector_etcd_fd(elector_worker->etcd), POLLIN, 0};

		poll(&wait, 1, 10);
		elector_etcd_pump(elector_worker->etcd);
	}
}

static void
unheard(void *arg, const ElectorEtcdReply *reply)
{
}

/*
 * The postmaster is dead.  Close the gate, so that orphaned backends see it;
 * let go of shared memory, so that a new postmaster can start; give up
 * leadership and leases; and end.  After the detach nothing of PostgreSQL may
 * be used but this process's own memory.
 */
static void
last_will(void)
{
	static ElectorChange change;
	Elector    *elector = &elector_worker->elector;
	ElectorEtcd *etcd = elector_worker->etcd;
	ElectorTime bound = elector_session_bound(elector);
	ElectorTime began = elector_now();
	ElectorTxn *txn;

	pg_atomic_write_u64(&elector_shared->gate_deadline, 0);
	pg_atomic_write_u64(&elector_shared->read_deadline, 0);
	while (!elector_gate_drained() && elector_now() < began + LAST_WILL_DRAIN)
		poll(NULL, 0, 1);
	dsm_detach_all();
	PGSharedMemoryDetach();

	if (elector_last_word(elector, &change) &&
		(txn = elector_mirror_txn(&elector_worker->mirror, &change)) != NULL)
		elector_etcd_commit(etcd, txn, bound, unheard, NULL);
	speak(began + LAST_WILL_BOUND);
	for (int kind = 0; kind < ELECTOR_LEASES; kind++)
	{
		if (elector->leases[kind].id != 0)
			elector_etcd_revoke(etcd, elector->leases[kind].id, bound, unheard, NULL);
	}
	speak(began + LAST_WILL_BOUND);
	_exit(1);
}

static void
wait_until(ElectorTime at)
{
	ElectorTime now = elector_now();
	int64		etcd = elector_etcd_timeout(elector_worker->etcd);
	WaitEventSet *set = CreateWaitEventSet(CurrentMemoryContext,
										   3 + elector_peers_count() +
										   elector_pgbouncer_count());
	WaitEvent	event;
	long		timeout;

	if (etcd >= 0)
		at = Min(at, now + etcd);
	timeout = at > now ? (long) ((at - now + 999) / 1000) : 0;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_POSTMASTER_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, elector_etcd_fd(elector_worker->etcd),
					  NULL, NULL);
	elector_peers_add_events(set);
	elector_pgbouncer_add_events(set);
	if (WaitEventSetWait(set, timeout, &event, 1, PG_WAIT_EXTENSION) == 1)
	{
		if (event.events & WL_POSTMASTER_DEATH)
			last_will();
		if (event.events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	FreeWaitEventSet(set);
}

/* libcurl may start a thread to resolve a name: no signal is for it. */
static void
pump_etcd(void)
{
	sigset_t	all;
	sigset_t	old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	elector_etcd_pump(elector_worker->etcd);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/*
 * The server stops, and nobody renews while it does (L10): one last time, as
 * well as it can be done without waiting for the answer.
 */
static void
finish(void)
{
	ElectorTime until = elector_now() + 50000;

	elector_finish(&elector_worker->elector);
	if (!RecoveryInProgress())
		elector_drain_walsenders();
	do
	{
		wait_until(elector_now() + 10000);
		pump_etcd();
	} while (elector_etcd_busy(elector_worker->etcd) && elector_now() < until);
	proc_exit(1);
}

static void
detach(int code, Datum argument)
{
	pg_atomic_write_u32(&elector_shared->worker_proc, 0);
}

/*
 * What does not look at the gate has to be ended when it has closed, by the clock
 * as well.  Returns when to look again.
 */
static ElectorTime
watch_gate(ElectorTime at)
{
	ElectorTime deadline = (ElectorTime) pg_atomic_read_u64(&elector_shared->gate_deadline);

	if (elector_gate_is_open())
		return Min(at, deadline);
	elector_gate_end_replication();
	return at;
}

static void
one_round(void)
{
	Elector    *elector = &elector_worker->elector;
	ElectorTime at;

	if (terminated)
		finish();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		elector_ports_settings(elector);
		elector_pgbouncer_configure();
		elector_standby_reload();
		elector_errands_settings();
		if (!elector_synchronous_intact())
			elector_forget_names(elector);
	}

	pump_etcd();
	elector_peers_pump(elector_now());
	elector_pgbouncer_pump(elector_now());
	elector_peers_sync(&elector_worker->mirror);
	elector_calls_serve();
	at = elector_step(elector);
	at = Min(at, elector_staleness_step(elector_now()));
	at = Min(at, elector_disk_next(elector_now()));
	elector_calls_answer();
	elector_slots_keep();
	elector_publish();

	/* Send what was decided; what comes in by that is for the next round. */
	at = Min(at, elector_peers_pump(elector_now()));
	at = Min(at, elector_pgbouncer_pump(elector_now()));
	pump_etcd();
	if (elector->news)
		at = 0;
	if (elector->poll_at != 0)
		at = Min(at, elector->poll_at);
	wait_until(watch_gate(at));
}

void
elector_worker_main(Datum argument)
{
	MemoryContext round;

	pqsignal(SIGTERM, on_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	elector_worker = MemoryContextAllocZero(TopMemoryContext, sizeof(ElectorWorker));
	on_shmem_exit(detach, 0);
	pg_atomic_write_u32(&elector_shared->worker_proc, ElectorMyProcNumber() + 1);
	begin();

	round = AllocSetContextCreate(TopMemoryContext, "pg_elector round",
								  ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContextSwitchTo(round);
		one_round();
		MemoryContextReset(round);
	}
}
