/*
 * shmem.c
 *	  Shared memory: its allocation, its first state, and the node's report on
 *	  itself.
 *
 * The protocol of the fields stands above ElectorShared in library.h.
 */
#include "synchronous.h"

#include <time.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

ElectorShared *elector_shared = NULL;

static Size
shared_size(void)
{
	return add_size(offsetof(ElectorShared, marks),
					mul_size(MaxBackends, sizeof(pg_atomic_uint32)));
}

void
elector_shmem_request(void)
{
	RequestAddinShmemSpace(shared_size());
	RequestAddinShmemSpace(elector_drain_size());
	RequestAddinShmemSpace(elector_synchronous_size());
	RequestNamedLWLockTranche(ELECTOR_LIBRARY, 1);
}

/*
 * Runs in the postmaster, at a start and at a restart after a crash: everything
 * begins closed, under a new instance.
 */
void
elector_shmem_startup(void)
{
	bool		found;
	uint8		random[(ELECTOR_INSTANCE_SIZE - 1) / 2];

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	elector_shared = ShmemInitStruct(ELECTOR_LIBRARY, shared_size(), &found);
	if (!found)
	{
		memset(elector_shared, 0, offsetof(ElectorShared, marks));
		pg_atomic_init_u64(&elector_shared->gate_deadline, 0);
		pg_atomic_init_u64(&elector_shared->read_deadline, 0);
		pg_atomic_init_u64(&elector_shared->fresh_at, 0);
		pg_atomic_init_u64(&elector_shared->opened_term, 0);
		pg_atomic_init_u64(&elector_shared->upstream_term, 0);
		pg_atomic_init_u64(&elector_shared->upstream_since, 0);
		pg_atomic_init_u64(&elector_shared->led_term, 0);
		/* The startup process is forked with what has been loaded here. */
		pg_atomic_init_u32(&elector_shared->startup_generation, (uint32) elector_generation);
		pg_atomic_init_u32(&elector_shared->worker_proc, 0);
		pg_atomic_init_u32(&elector_shared->announcer_proc, 0);
		pg_atomic_init_u32(&elector_shared->publication, 0);
		pg_atomic_init_u64(&elector_shared->published_at, 0);
		pg_atomic_init_u32(&elector_shared->durable, 0);
		pg_atomic_init_u32(&elector_shared->breaking, 0);
		pg_atomic_init_u64(&elector_shared->barrier_lsn, 0);
		for (int kind = 0; kind < ELECTOR_REFUSED_KINDS; kind++)
			pg_atomic_init_u64(&elector_shared->refused[kind], 0);
		ConditionVariableInit(&elector_shared->answered);
		elector_shared->lock = &(GetNamedLWLockTranche(ELECTOR_LIBRARY))->lock;
		if (!pg_strong_random(random, sizeof(random)))
			ereport(FATAL,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate a random instance id")));
		for (int i = 0; i < lengthof(random); i++)
			snprintf(elector_shared->instance + 2 * i, 3, "%02x", random[i]);
		elector_shared->nmarks = MaxBackends;
		for (int i = 0; i < MaxBackends; i++)
			pg_atomic_init_u32(&elector_shared->marks[i], ELECTOR_MARK_NONE);
	}
	elector_drain_startup();
	elector_synchronous_startup();
	LWLockRelease(AddinShmemInitLock);
}

static void
wake(pg_atomic_uint32 *process)
{
	uint32		proc = pg_atomic_read_u32(process);

	if (proc != 0)
		SetLatch(&ProcGlobal->allProcs[proc - 1].procLatch);
}

void
elector_wake_worker(void)
{
	wake(&elector_shared->worker_proc);
}

void
elector_wake_announcer(void)
{
	wake(&elector_shared->announcer_proc);
}

ElectorTime
elector_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (ElectorTime) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void
elector_doze(long ms)
{
	WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms,
			  PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * The worker's last word about itself, with what changes every moment read
 * anew; so it can be given while the worker is busy, stopped or gone.
 */
void
elector_report_self(ElectorReport *report)
{
	ElectorTime lease;

	LWLockAcquire(elector_shared->lock, LW_SHARED);
	*report = elector_shared->self;
	lease = elector_shared->lease.deadline;
	LWLockRelease(elector_shared->lock);
	elector_report_refresh(report, lease);
}

void
elector_report_refresh(ElectorReport *report, ElectorTime lease_deadline)
{
	ElectorTime now = elector_now();
	ElectorTime gate = (ElectorTime) pg_atomic_read_u64(&elector_shared->gate_deadline);
	ElectorTime lease = lease_deadline;

	report->present = true;
	strlcpy(report->node, elector_node, sizeof(report->node));
	strlcpy(report->instance, elector_shared->instance, sizeof(report->instance));
	report->priority = elector_priority;
	report->stopping = elector_postmaster_stopping();
	report->streaming = false;
	report->leads = false;
	if (RecoveryInProgress())
	{
		TimeLineID	timeline;
		XLogRecPtr	received;

		report->replayed = GetXLogReplayRecPtr(&timeline);
		report->timeline = timeline;
		report->streaming = WalRcvStreaming() &&
			pg_atomic_read_u64(&elector_shared->upstream_term) != 0;
		received = report->streaming ?
			GetWalRcvFlushRecPtr(NULL, &timeline) : InvalidXLogRecPtr;
		report->lsn = Max(received, report->replayed);
		if (received >= report->replayed && received != InvalidXLogRecPtr)
			report->timeline = timeline;
	}
	else
	{
		report->timeline = GetWALInsertionTimeLine();
		report->lsn = GetXLogWriteRecPtr();
		report->replayed = report->lsn;
		report->leads = now < gate;
		lease = gate;
	}
	report->lease_ms_left = lease > now ? (lease - now) / 1000 : 0;
}

void
elector_look_at_stream(XLogRecPtr *end, ElectorTime *at)
{
	TimestampTz told;

	SpinLockAcquire(&WalRcv->mutex);
	*end = WalRcv->latestWalEnd;
	told = WalRcv->lastMsgReceiptTime;
	SpinLockRelease(&WalRcv->mutex);
	*at = elector_now() - (GetCurrentTimestamp() - told);
	if (told == 0)
		*end = *at = 0;
}

XLogRecPtr
elector_rows_complete(ElectorStatusRow *rows, int nrows, const ElectorReport *own)
{
	XLogRecPtr	leader_lsn = InvalidXLogRecPtr;

	for (int i = 0; i < nrows; i++)
	{
		if (strcmp(rows[i].member.node, elector_node) == 0)
		{
			rows[i].report = *own;
			rows[i].reported = true;
		}
		if (rows[i].leader && rows[i].reported)
			leader_lsn = rows[i].report.lsn;
	}
	return leader_lsn;
}

/* In a word or two; also of a member that does not answer. */
const char *
elector_row_state(const ElectorStatusRow *row)
{
	if (row->reported)
		return row->report.state;
	return row->alive ? "unreachable" : "down";
}

int64
elector_row_lag(const ElectorStatusRow *row, XLogRecPtr leader_lsn)
{
	if (!row->reported || leader_lsn == InvalidXLogRecPtr)
		return -1;
	return leader_lsn > row->report.lsn ? (int64) (leader_lsn - row->report.lsn) : 0;
}
