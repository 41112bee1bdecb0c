/*
 * drain.c
 *	  Before a planned stop: transactions under way may end, new ones wait.
 *
 * The worker sets a time until which a transaction that begins waits at its first
 * statement, and looks whether any other is under way.  Those that wait are ended
 * by the stop, and with a pooler in front of the server (pgbouncer.c) there are none
 * of them.
 *
 * The trap: nobody may be left waiting.  So it is a time, as with the gate, and not
 * a switch: if the worker dies here, they all go on.
 */
#include "library.h"

#include <signal.h>

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

/* How often those that wait look whether they may go on. */
#define LOOK_MS 20

/* A standby that lacks something confirms what it gets sooner than this. */
#define WALSENDER_SILENCE ((ElectorTime) 2 * 1000000)

/*
 * Shared memory.
 *
 * until is written by the worker and read by every backend, without a lock; 0 and
 * what is past means that nobody waits.  waiting[n] is written by the backend with
 * process number n alone.  Nothing but politeness depends on either: a
 * transaction that slips through is ended by the stop, like one that takes too long.
 */
typedef struct Drain
{
	pg_atomic_uint64 until;
	pg_atomic_uint32 waiting[FLEXIBLE_ARRAY_MEMBER];
} Drain;

static Drain *drain = NULL;

/* The worker's: how far each walsender's standby was at the last look. */
typedef struct Progress
{
	pid_t		pid;
	XLogRecPtr	flushed;
	bool		all;			/* there was */
	ElectorTime since;			/* it had all, or got further */
} Progress;

static Progress *progress = NULL;	/* max_wal_senders */
static ElectorTime looked_at = 0;

/* The transaction of this backend that has begun already. */
static LocalTransactionId begun = InvalidLocalTransactionId;

static bool is_waiting = false;

Size
elector_drain_size(void)
{
	return add_size(offsetof(Drain, waiting), mul_size(MaxBackends, sizeof(pg_atomic_uint32)));
}

void
elector_drain_startup(void)
{
	bool		found;

	drain = ShmemInitStruct(ELECTOR_LIBRARY " drain", elector_drain_size(), &found);
	if (found)
		return;
	pg_atomic_init_u64(&drain->until, 0);
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u32(&drain->waiting[i], 0);
}

static void
set_waiting(bool waiting)
{
	if (is_waiting == waiting)
		return;
	is_waiting = waiting;
	pg_atomic_write_u32(&drain->waiting[ElectorMyProcNumber()], waiting);
}

/* A statement that waited may have been canceled. */
static void
transaction_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		set_waiting(false);
}

void
elector_drain_install(void)
{
	RegisterXactCallback(transaction_callback, NULL);
}

void
elector_drain_pass(void)
{
	if (begun == MyProc->lxid)
		return;
	while (elector_now() < (ElectorTime) pg_atomic_read_u64(&drain->until))
	{
		set_waiting(true);
		elector_doze(LOOK_MS);
	}
	set_waiting(false);
	begun = MyProc->lxid;
}

/* Take note of who has all, or has got further since the last look. */
static void
look_at_walsender(WalSnd *walsender, Progress *seen, XLogRecPtr end, ElectorTime now)
{
	XLogRecPtr	flushed;
	pid_t		pid;

	SpinLockAcquire(&walsender->mutex);
	pid = walsender->pid;
	flushed = walsender->flush;
	SpinLockRelease(&walsender->mutex);
	if (pid != seen->pid || flushed != seen->flushed || flushed >= end)
		seen->since = now;
	seen->pid = pid;
	seen->flushed = flushed;
	seen->all = flushed >= end;
}

void
elector_drain_look(void)
{
	XLogRecPtr	end = GetFlushRecPtr(NULL);
	ElectorTime now = elector_now();

	if (progress == NULL)
		progress = MemoryContextAllocZero(TopMemoryContext, sizeof(Progress) * max_wal_senders);
	for (int i = 0; i < max_wal_senders; i++)
		look_at_walsender(&WalSndCtl->walsnds[i], &progress[i], end, now);
	looked_at = now;
}

/*
 * A walsender waits at a shutdown for its standby to confirm everything, for
 * wal_sender_timeout if that is gone.  End those whose standby gets no further.
 *
 * The trap: what has just been written nobody has confirmed yet, and a standby that
 * had nothing to confirm for a while is none that has fallen silent.
 */
void
elector_drain_walsenders(void)
{
	ElectorTime now = elector_now();
	bool		fresh = progress != NULL && now < looked_at + WALSENDER_SILENCE / 2;

	elector_drain_look();
	for (int i = 0; fresh && i < max_wal_senders; i++)
	{
		if (progress[i].pid != 0 && !progress[i].all &&
			now >= progress[i].since + WALSENDER_SILENCE)
			kill(progress[i].pid, SIGTERM);
	}
}

void
elector_drain_begin(ElectorTime until)
{
	pg_atomic_write_u64(&drain->until, (uint64) until);
	pg_memory_barrier();
}

bool
elector_drain_done(void)
{
	for (int i = 0; i < MaxBackends; i++)
	{
		const volatile PGPROC *proc = &ProcGlobal->allProcs[i];

		/* what the server does for itself may be interrupted */
		if (proc->lxid != InvalidLocalTransactionId && proc->databaseId != InvalidOid &&
			!proc->isBackgroundWorker && !(proc->statusFlags & PROC_IS_AUTOVACUUM) &&
			pg_atomic_read_u32(&drain->waiting[proc->pgprocno]) == 0)
			return false;
	}
	return true;
}
