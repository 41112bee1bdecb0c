/*
 * commit.c
 *	  Under a durability policy: a commit waits for its followers, and nothing cuts
 *	  that wait short with an answer.
 *
 * Synchronous replication is PostgreSQL's; this closes what it leaves open.
 *
 * A session may ask for less (synchronous_commit).  Its level is raised from just
 * before the commit record is written until the wait is over.
 *
 * A wait that is canceled ends with a warning and success.  Here a cancel that
 * comes after the commit has begun is put off.  All else that ends a wait (a
 * terminated backend, a fast shutdown, a dead postmaster, synchronous_standby_names
 * that are gone) is seen afterwards by the position up to which the followers have
 * flushed, and then the client gets no answer.
 *
 * A wait that was broken makes its rows visible at once, though nobody vouches for
 * them.  So readers wait for a barrier, the end of the last such commit (S13).
 *
 * The trap: XACT_EVENT_COMMIT comes after the rows have become visible, so what is
 * found there comes too late for the reader in between.  Hence the signal handlers:
 * a signal that may break the wait counts in `breaking` before it can.
 *
 * gate.c calls this at the events of a transaction and around statements.
 */
#include "library.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "executor/instrument.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/logicalworker.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"

/*
 * A statement waits this long for the barrier.  A follower that was restarted is
 * back by then (wal_retrieve_retry_interval is five seconds); without one, an
 * answer is better than none.
 */
#define BARRIER_BOUND ((ElectorTime) 10 * 1000000)
#define BARRIER_LOOK_MS 10

/* The commit under way in this backend; signal handlers use the first four. */
static volatile sig_atomic_t under_way = false;
static pg_atomic_uint32 counted;	/* 1: in `breaking`; atomic, since one handler may
									 * interrupt the other */
static volatile sig_atomic_t canceled = false;	/* put off */
static ElectorCommitKind commit_kind;
static int	session_level = -1; /* its synchronous_commit; -1: not raised */
static bool had_written;		/* WAL, before it began to commit */
static WalUsage usage_before;

static pqsigfunc previous_cancel = NULL;
static pqsigfunc previous_terminate = NULL;
static bool handlers_installed = false;

static bool
policy_in_force(void)
{
	return pg_atomic_read_u32(&elector_shared->durable) != 0;
}

/* Up to where the followers that count have flushed, or applied. */
static XLogRecPtr
acknowledged(int mode)
{
	return ((volatile WalSndCtlData *) WalSndCtl)->lsn[mode];
}

/* Would a commit wait for anybody? */
static bool
standbys_defined(void)
{
	return max_wal_senders > 0 && ElectorCommitsWait();
}

/* --- signals --- */

/* Only the answer can be withheld now. */
static bool
past_undoing(void)
{
	switch (commit_kind)
	{
		case ELECTOR_COMMIT_TRANSACTION:
		case ELECTOR_COMMIT_PREPARE:
			return !IsTransactionState();
		case ELECTOR_COMMIT_PREPARED:
		case ELECTOR_COMMIT_ROLLBACK_PREPARED:
			return InterruptHoldoffCount > 0;
	}
	return false;
}

/* By a signal handler, while a commit is under way. */
static void
count_breaking(void)
{
	if (pg_atomic_exchange_u32(&counted, 1) == 0)
		pg_atomic_fetch_add_u32(&elector_shared->breaking, 1);
}

/* When none is under way any more, so that no handler counts. */
static void
uncount_breaking(void)
{
	if (pg_atomic_read_u32(&counted) == 0)
		return;
	pg_atomic_write_u32(&counted, 0);
	pg_atomic_fetch_sub_u32(&elector_shared->breaking, 1);
}

/*
 * A commit may wait for a lock before it is written, as that of NOTIFY; that wait
 * may be canceled.
 */
static void
on_cancel(SIGNAL_ARGS)
{
	if (under_way && MyProc->waitLock == NULL)
	{
		canceled = true;
		return;
	}
	if (under_way)
		count_breaking();		/* the lock may be granted just now */
	previous_cancel(postgres_signal_arg);
}

/*
 * Background workers may have a handler that ends them on the spot, which
 * within a commit is a PANIC, or one that does not end the wait.
 */
static void
on_terminate(SIGNAL_ARGS)
{
	if (under_way)
		count_breaking();
	if (under_way && past_undoing())
		die(postgres_signal_arg);
	else
		previous_terminate(postgres_signal_arg);
}

/* The signal may come as soon as the handler is there, so that what was there is kept first. */
static void
install_handler(int signal_number, pqsigfunc handler, pqsigfunc *previous)
{
	struct sigaction old;

	sigaction(signal_number, NULL, &old);
	*previous = old.sa_handler;

	/* ignored, or deadly: then so be it */
	if (*previous != SIG_IGN && *previous != SIG_DFL)
		pqsignal(signal_number, handler);
}

static void
at_exit(int code, Datum argument)
{
	under_way = false;
	uncount_breaking();
}

/* By the time it commits a process has set its own handlers. */
static void
install_handlers(void)
{
	if (handlers_installed)
		return;
	handlers_installed = true;
	pg_atomic_init_u32(&counted, 0);
	on_shmem_exit(at_exit, 0);
	install_handler(SIGINT, on_cancel, &previous_cancel);
	install_handler(SIGTERM, on_terminate, &previous_terminate);
}

/* --- a commit --- */

void
elector_commit_set_durable(bool durable)
{
	pg_atomic_write_u32(&elector_shared->durable, durable);
	pg_memory_barrier();
}

static void
set_level(int level)
{
	synchronous_commit = level;
	assign_synchronous_commit(level, NULL);
}

static void
raise_level(void)
{
	if (synchronous_commit >= SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		return;
	session_level = synchronous_commit;
	set_level(SYNCHRONOUS_COMMIT_REMOTE_FLUSH);
}

/*
 * Logical replication workers keep the level: they commit what was prepared without
 * any callback before it.
 */
static void
restore_level(void)
{
	if (session_level >= 0 && !IsLogicalWorker() &&
		synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_FLUSH)
		set_level(session_level);
	session_level = -1;
}

static void
raise_barrier(XLogRecPtr end)
{
	uint64		barrier = pg_atomic_read_u64(&elector_shared->barrier_lsn);

	while (barrier < end &&
		   !pg_atomic_compare_exchange_u64(&elector_shared->barrier_lsn, &barrier, end))
		;
}

/*
 * A logical replication worker commits what was prepared before any callback, if it
 * comes to that with a level that has just been set.  Let it wait before it tells
 * the publisher.
 */
static void
wait_afterwards(XLogRecPtr end)
{
	if (end <= acknowledged(SYNC_REP_WAIT_FLUSH))
		return;
	raise_barrier(end);
	XLogFlush(end);
	HOLD_INTERRUPTS();
	SyncRepWaitForLSN(end, false);
	RESUME_INTERRUPTS();
}

bool
elector_commit_begin(ElectorCommitKind kind, bool waits)
{
	if (!policy_in_force())
		return false;
	install_handlers();
	commit_kind = kind;
	had_written = XactLastRecEnd != InvalidXLogRecPtr;
	usage_before = pgWalUsage;
	canceled = false;
	under_way = true;
	if (waits)
	{
		/* What has come until now still undoes it. */
		CHECK_FOR_INTERRUPTS();
		if (!standbys_defined())
			ereport(ERROR,
					(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
					 errmsg("cannot commit: durability policy \"%s\" is in force, but no synchronous standby is configured",
							elector_durability),
					 errhint("Somebody has emptied \"synchronous_standby_names\"; the library will put it back.")));
	}
	raise_level();
	if (!waits && IsLogicalWorker())
		wait_afterwards(XactLastRecEnd);
	return true;
}

/* Was it to be waited for? */
static bool
had_to_wait(void)
{
	int64		records = pgWalUsage.wal_records - usage_before.wal_records;

	switch (commit_kind)
	{
		case ELECTOR_COMMIT_TRANSACTION:

			/*
			 * As RecordTransactionCommit() decides: an XID, and a record
			 * before the commit record.
			 */
			return TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
				(had_written || records > 1);
		case ELECTOR_COMMIT_PREPARE:
			return true;
		case ELECTOR_COMMIT_PREPARED:
		case ELECTOR_COMMIT_ROLLBACK_PREPARED:
			return records > 0; /* else it has failed */
	}
	return true;
}

/* Where a record ends that begins there: it goes on behind the pages' headers. */
static XLogRecPtr
record_end(XLogRecPtr start, uint64 length)
{
	XLogRecPtr	at = start;
	uint64		left = MAXALIGN(length);

	while (left > 0)
	{
		uint64		chunk;

		if (at % XLOG_BLCKSZ == 0)
			at += XLogSegmentOffset(at, wal_segment_size) == 0 ?
				SizeOfXLogLongPHD : SizeOfXLogShortPHD;
		chunk = Min(left, XLOG_BLCKSZ - at % XLOG_BLCKSZ);
		at += chunk;
		left -= chunk;
	}
	return at;
}

/*
 * PREPARE TRANSACTION forgets its end before it calls anybody.  Its record is the
 * last of this backend, and since the callback before it the only one, unless
 * another library's callback has written; then the end of all WAL must do.
 */
static XLogRecPtr
prepare_end(void)
{
	if (pgWalUsage.wal_records - usage_before.wal_records != 1)
		return GetXLogInsertRecPtr();
	return record_end(ProcLastRecPtr, pgWalUsage.wal_bytes - usage_before.wal_bytes);
}

static XLogRecPtr
commit_end(void)
{
	switch (commit_kind)
	{
		case ELECTOR_COMMIT_TRANSACTION:
			return XactLastCommitEnd;
		case ELECTOR_COMMIT_PREPARE:
			return prepare_end();
		case ELECTOR_COMMIT_PREPARED:
		case ELECTOR_COMMIT_ROLLBACK_PREPARED:
			return XactLastRecEnd;
	}
	return InvalidXLogRecPtr;
}

/* Only a commit is waited for until it is applied. */
static int
wait_mode(void)
{
	if (synchronous_commit >= SYNCHRONOUS_COMMIT_REMOTE_APPLY &&
		(commit_kind == ELECTOR_COMMIT_TRANSACTION || commit_kind == ELECTOR_COMMIT_PREPARED))
		return SYNC_REP_WAIT_APPLY;
	return SYNC_REP_WAIT_FLUSH;
}

bool
elector_commit_end(void)
{
	bool		vouched = true;

	if (under_way && policy_in_force() && had_to_wait())
	{
		XLogRecPtr	end = commit_end();

		pg_read_barrier();		/* pairs with the walsender that woke us */
		if (acknowledged(wait_mode()) < end)
		{
			raise_barrier(end);
			vouched = false;
		}
	}
	elector_commit_forget();
	return vouched;
}

void
elector_commit_forget(void)
{
	restore_level();
	if (!under_way)
		return;
	under_way = false;
	uncount_breaking();			/* after raise_barrier() */

	/*
	 * A cancel that was put off is for what the statement goes on with: a
	 * procedure, VACUUM.  After a plain COMMIT there is nothing left to cancel.
	 */
	if (canceled && ActivePortal != NULL && commit_kind == ELECTOR_COMMIT_TRANSACTION)
	{
		QueryCancelPending = true;
		InterruptPending = true;
	}
	canceled = false;
}

/* --- readers --- */

/*
 * Might a reader see what nobody vouches for?  `breaking` is read first: it goes
 * down after the barrier has been raised.
 */
static bool
barrier_stands(void)
{
	if (!policy_in_force() || RecoveryInProgress())
		return false;
	if (!standbys_defined() || pg_atomic_read_u32(&elector_shared->breaking) != 0)
		return true;
	pg_read_barrier();
	return acknowledged(SYNC_REP_WAIT_FLUSH) < pg_atomic_read_u64(&elector_shared->barrier_lsn);
}

/* True when it has gone, false when the bound has passed. */
static bool
outlast_barrier(void)
{
	ElectorTime bound = elector_now() + BARRIER_BOUND;

	while (barrier_stands())
	{
		if (elector_now() >= bound)
			return false;
		elector_doze(BARRIER_LOOK_MS);
	}
	return true;
}

void
elector_commit_await_barrier(void)
{
	if (!barrier_stands() || outlast_barrier())
		return;
	pg_atomic_fetch_add_u64(&elector_shared->refused[ELECTOR_REFUSED_STATEMENT], 1);
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot execute statement: it might see a commit that is not durable yet"),
			 errdetail("Durability policy \"%s\" is in force, and the followers have not acknowledged a commit that was interrupted.",
					   elector_durability),
			 errhint("See pg_stat_replication for the followers that are connected.")));
}

/*
 * What this process has read, it may pass on without a statement.  Notifications are
 * put into the client's buffer by a transaction of their own and sent after its
 * commit, but not if the session ends without a word.  A logical replication worker
 * tells the publisher that all is safe which it finds committed when it starts.
 */
void
elector_commit_hold_back(void)
{
	bool		listens = MyBackendType == B_BACKEND && IsNormalProcessingMode() &&
	debug_query_string == NULL;

	if ((!listens && !IsLogicalWorker()) || !barrier_stands())
		return;
	if (!outlast_barrier())
	{
		pg_atomic_fetch_add_u64(&elector_shared->refused[ELECTOR_REFUSED_ANSWER], 1);
		whereToSendOutput = DestNone;
		ereport(FATAL,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("connection ends without an answer: what it has read is not durable yet")));
	}
	SetLatch(MyLatch);			/* others may have wanted this process */
}
