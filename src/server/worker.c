/*
 * worker.c
 *	  The elector: one loop that pumps, observes, decides, acts, publishes, and
 *	  waits.
 *
 * The loop is the only place that waits, and the only writer of shared memory.
 * What it waits for is in one WaitEventSet: its latch, the postmaster's death,
 * etcd's one descriptor and the peers' sockets; until when is the soonest of all
 * the times that the parts gave.
 *
 * The trap: the loop itself can be late, because the process or the machine was
 * stopped.  Then what it knows is old although nothing says so; it observes anew
 * before it acts on anything.  The gate needs no such care, it closes by the
 * clock.
 */
#include "worker.h"

#include <pthread.h>
#include <signal.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "standby.h"
#include "store.h"

/* No round changes more than this without looking at the sockets again. */
#define DECISIONS_MAX 8

/* A round that comes this much later than it should is late. */
#define LATE 500000

/* How often a standby that should stream and does not is woken. */
#define WAKE_INTERVAL 200000

/* A failed rejoin is tried again after this time. */
#define REJOIN_INTERVAL ((ElectorTime) 30 * 1000000)

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

/* Look again after this time, whatever else happens. */
void
elector_worker_poll(ElectorTime interval)
{
	ElectorTime at = elector_now() + interval;

	if (elector_worker->poll_at == 0 || at < elector_worker->poll_at)
		elector_worker->poll_at = at;
}

void
elector_worker_save_state(void)
{
	elector_store_write_state(&elector_worker->state);
}

void
elector_close_gate(void)
{
	ElectorWorker *worker = elector_worker;

	pg_atomic_write_u64(&elector_shared->gate_deadline, 0);
	pg_atomic_write_u64(&elector_shared->opened_term, 0);
	pg_memory_barrier();
	if (worker->gate_open)
		ereport(LOG,
				(errmsg("gate closed in term " UINT64_FORMAT, worker->mirror.leader.term)));
	worker->gate_open = false;
}

/*
 * Take up what was remembered.  The instance that the state file names is our
 * dead predecessor if the machine has not been booted since and the directory is
 * the same one; that the predecessor is dead is PostgreSQL's own interlock's
 * word (S9).
 */
static void
load_state(void)
{
	ElectorWorker *worker = elector_worker;
	ElectorState now;
	ElectorTime age;
	char		problem[ELECTOR_TEXT_SIZE];

	elector_store_read_state(&worker->state);
	memset(&now, 0, sizeof(now));
	elector_store_identity(&now);
	if (worker->state.present && now.boot_id[0] != '\0' &&
		strcmp(worker->state.boot_id, now.boot_id) == 0 &&
		worker->state.device == now.device && worker->state.inode == now.inode &&
		strcmp(worker->state.instance, elector_shared->instance) != 0)
		strlcpy(worker->predecessor, worker->state.instance, sizeof(worker->predecessor));

	worker->state.present = true;
	worker->state.system = GetSystemIdentifier();
	strlcpy(worker->state.node, elector_node, sizeof(worker->state.node));
	strlcpy(worker->state.instance, elector_shared->instance, sizeof(worker->state.instance));
	strlcpy(worker->state.boot_id, now.boot_id, sizeof(worker->state.boot_id));
	worker->state.device = now.device;
	worker->state.inode = now.inode;

	if (elector_store_read_problem(problem, sizeof(problem), &age) && age < REJOIN_INTERVAL)
		worker->rejoin_after = elector_now() + REJOIN_INTERVAL - age;
}

/*
 * A worker that was restarted within the life of its postmaster finds its
 * leadership in shared memory and in etcd, where the key still carries our
 * instance.
 */
static void
resume_leadership(void)
{
	ElectorWorker *worker = elector_worker;
	const ElectorLeader *leader = &worker->mirror.leader;
	uint64		opened = pg_atomic_read_u64(&elector_shared->opened_term);

	if (worker->leader_revision != 0 || !leader->present ||
		strcmp(leader->node, elector_node) != 0 ||
		strcmp(leader->instance, elector_shared->instance) != 0 ||
		opened != leader->term)
		return;
	worker->leader_revision = leader->create_revision;
	worker->leader.id = leader->lease;
	worker->leader.ttl = (ElectorTime) elector_lease_ttl * 1000000;
	worker->leading_since = elector_now();
	worker->gate_open = true;
}

/* A standby whose history is the leader's answers reads while its lease lasts. */
static void
move_read_deadline(const ElectorView *view)
{
	bool		verified = view->recovering && view->upstream_term != 0 &&
	view->term.present && view->term.term == view->upstream_term;

	pg_atomic_write_u64(&elector_shared->read_deadline,
						verified ? elector_worker->alive.deadline : 0);
}

/* What streaming teaches: how far the leader is, and that we caught up (S10). */
static void
watch_streaming(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;
	XLogRecPtr	latest;
	XLogRecPtr	flushed;
	TimestampTz told;
	ElectorTime told_at;

	if (!view->recovering || view->upstream_term == 0 || !WalRcvStreaming())
		return;
	flushed = GetWalRcvFlushRecPtr(NULL, NULL);
	SpinLockAcquire(&WalRcv->mutex);
	latest = WalRcv->latestWalEnd;
	told = WalRcv->lastMsgReceiptTime;
	SpinLockRelease(&WalRcv->mutex);
	if (latest == InvalidXLogRecPtr || told == 0)
		return;
	told_at = elector_now() - (GetCurrentTimestamp() - told);
	if (told_at > worker->leader_told_at)
	{
		worker->leader_told_at = told_at;
		worker->leader_end = Max(worker->leader_end, latest);
	}
	if (!worker->state.caught_up && flushed >= worker->leader_end &&
		view->term.opened && view->term.term == view->upstream_term)
	{
		worker->state.caught_up = true;
		elector_worker_save_state();
	}
}

/* A request begins and ends a handover's memory. */
static void
watch_request(const ElectorView *view)
{
	ElectorWorker *worker = elector_worker;
	bool		asked = view->request.present && worker->gate_open;

	if (asked && worker->handover.since == 0)
	{
		memset(&worker->handover, 0, sizeof(worker->handover));
		worker->handover.since = view->now;
		worker->checkpoint_since = 0;
		worker->ask_reports_at = 0;
	}
	else if (!asked)
		memset(&worker->handover, 0, sizeof(worker->handover));
	if (asked)
		elector_worker_poll(20000);
}

/* Once a round: what is done whether or not there is a decision to make. */
static void
keep_up(const ElectorView *view)
{
	move_read_deadline(view);
	watch_streaming(view);
	watch_request(view);

	/*
	 * What the old leader sent last may lie unreplayed on disk: a startup
	 * process that finds its walreceiver gone sleeps before it looks there.
	 */
	if (view->known && view->recovering && !view->leader.present && view->term.released)
		WakeupRecovery();

	/*
	 * A startup process that has lost its stream tries again only after
	 * wal_retrieve_retry_interval; when the leader is there it need not wait.
	 */
	if (view->recovering && view->upstream_term != 0 && !WalRcvStreaming() &&
		view->known && view->leader.present &&
		elector_peers_silent_since(view->leader.node) == 0)
	{
		if (view->now >= elector_worker->wake_at)
		{
			elector_worker->wake_at = view->now + WAKE_INTERVAL;
			WakeupRecovery();
		}
		elector_worker_poll(WAKE_INTERVAL);
	}

	if (view->known && elector_worker->lock_since != 0 &&
		(!view->election.present ||
		 view->election.create_revision != elector_worker->token))
	{
		/* The lock's work is done, or its lease has ended. */
		elector_worker->lock_since = 0;
		elector_worker->fence_term = 0;
		elector_worker->establishing[0] = '\0';
		elector_session_drop_lease(&elector_worker->election, true);
	}
}

static void
log_plan(const ElectorView *view, const ElectorPlan *plan)
{
	ElectorPlan *logged = &elector_worker->logged;

	bool		quiet = plan->action == ELECTOR_WAIT || plan->action == ELECTOR_CHECK_LEASE;

	if ((quiet || plan->action == logged->action) &&
		plan->reason == logged->reason && plan->term == logged->term)
		return;
	*logged = *plan;
	if (view->known && view->refusal != ELECTOR_REFUSAL_NONE)
	{
		ereport(WARNING,
				(errmsg("node \"%s\" is refused by cluster \"%s\": %s",
						elector_node, elector_cluster,
						elector_reason_sentence(plan->reason))));
		return;
	}
	ereport(LOG,
			(errmsg("%s: %s", elector_action_name(plan->action),
					elector_reason_sentence(plan->reason))));
}

/* Decide and act until there is nothing to do but wait. */
static ElectorTime
decide_and_act(ElectorView *view)
{
	ElectorTime again = 0;

	for (int i = 0; i < DECISIONS_MAX; i++)
	{
		ElectorTime now = elector_now();

		elector_observe(view, now);
		keep_up(view);
		elector_calls_serve(view);
		elector_observe(view, now);

		/* etcd is about to tell: what was decided last still holds. */
		if (!view->known && elector_worker->unreachable_since == 0)
			break;
		elector_worker->plan = elector_decide(view);
		again = elector_worker->plan.again;
		log_plan(view, &elector_worker->plan);
		if (elector_worker->plan.action == ELECTOR_WAIT)
			break;
		elector_act(view, &elector_worker->plan);
		if (elector_worker->acting || elector_worker->poll_at != 0)
			break;
	}
	return again;
}

static void
wait_until(ElectorTime at)
{
	ElectorTime now = elector_now();
	int64		etcd = elector_etcd_timeout(elector_worker->etcd);
	WaitEventSet *set = CreateWaitEventSet(CurrentMemoryContext,
										   3 + elector_peers_count());
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
	if (WaitEventSetWait(set, timeout, &event, 1, PG_WAIT_EXTENSION) == 1)
	{
		if (event.events & WL_POSTMASTER_DEATH)
			elector_last_will();
		if (event.events & WL_LATCH_SET)
			ResetLatch(MyLatch);
	}
	FreeWaitEventSet(set);

	/* Stopped meanwhile?  Then look before acting. */
	if (elector_now() > Max(at, now) + LATE)
	{
		ereport(LOG,
				(errmsg("the elector was stopped for %ld ms; it looks anew before it acts",
						(long) ((elector_now() - now) / 1000))));
		elector_session_reload();
	}
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

static void
detach(int code, Datum argument)
{
	pg_atomic_write_u32(&elector_shared->worker_proc, 0);
}

/*
 * The server stops, and nobody renews while it does (L10): one last time, as
 * well as it can be done without waiting for the answer.
 */
static void
finish(void)
{
	ElectorWorker *worker = elector_worker;
	ElectorTime until = elector_now() + 50000;

	/* alive/<node> says that a node is there. */
	elector_session_drop_lease(&worker->alive, true);
	if (worker->leader.id != 0 && !worker->leader.busy)
	{
		worker->leader.renew_at = 0;
		elector_session_step(elector_now());
	}
	do
	{
		wait_until(elector_now() + 10000);
		pump_etcd();
	} while (elector_etcd_busy(worker->etcd) && elector_now() < until);
	proc_exit(1);
}

static void
one_round(ElectorView *view)
{
	ElectorTime now;
	ElectorTime at;
	ElectorTime again;

	if (terminated)
		finish();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}

	pump_etcd();
	now = elector_now();
	elector_peers_pump(now);
	elector_session_step(now);
	resume_leadership();
	elector_peers_sync(&elector_worker->mirror);
	elector_worker->poll_at = 0;
	elector_worker->news = false;
	again = decide_and_act(view);
	elector_publish(view, &elector_worker->plan);

	/* Send what was decided; what comes in by that is for the next round. */
	at = elector_peers_pump(elector_now());
	pump_etcd();
	if (elector_worker->news)
		elector_worker_poll(0);

	at = Min(at, elector_session_next());
	if (again != 0)
		at = Min(at, again);
	if (elector_worker->poll_at != 0)
		at = Min(at, elector_worker->poll_at);
	wait_until(at);
}

void
elector_worker_main(Datum argument)
{
	static ElectorView view;
	MemoryContext round;

	pqsignal(SIGTERM, on_sigterm);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	elector_worker = MemoryContextAllocZero(TopMemoryContext, sizeof(ElectorWorker));
	elector_worker->started_at = elector_now();
	elector_worker->plan.reason = ELECTOR_BECAUSE_ETCD_UNKNOWN;
	on_shmem_exit(detach, 0);
	pg_atomic_write_u32(&elector_shared->worker_proc, ElectorMyProcNumber() + 1);

	load_state();
	elector_worker_save_state();
	elector_session_init();
	elector_peers_init(elector_peer_answered);
	elector_calls_reset();
	ereport(LOG,
			(errmsg("node \"%s\" of cluster \"%s\" started", elector_node, elector_cluster),
			 errdetail("It remembers term " UINT64_FORMAT " and timeline %u.",
					   elector_worker->state.term, elector_worker->state.timeline)));

	round = AllocSetContextCreate(TopMemoryContext, "pg_elector round",
								  ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		MemoryContextSwitchTo(round);
		one_round(&view);
		MemoryContextReset(round);
	}
}
