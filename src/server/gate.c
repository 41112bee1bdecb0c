/*
 * gate.c
 *	  The gate: what a backend checks before it commits, reads, or lets a client
 *	  in.
 *
 * The gate is a deadline in shared memory.  It is open while the clock is
 * before it, and only the worker moves it, each time etcd has confirmed the
 * lease; so it closes by itself when the worker, etcd or the postmaster is gone
 * (I6).  On a standby there is a second deadline, up to which its history is
 * known to be the leader's (I8).
 *
 * Commits are refused in XACT_EVENT_PRE_COMMIT, where an ERROR still aborts.  A
 * gate that closes while the commit record is flushed or waits for its
 * acknowledgement is noticed in XACT_EVENT_COMMIT, where there is no way back:
 * the client must not be told that it succeeded, so the connection ends without
 * an answer.
 *
 * Under a durability policy a commit waits for followers, too; that is commit.c.
 *
 * The trap: some writes do damage when refused only at commit (DROP DATABASE),
 * and some get their transaction id only after PRE_COMMIT (NOTIFY).  So
 * utilities that write are refused when they begin.
 *
 * Two kinds of processes pass none of this: logical replication workers, which
 * commit prepared transactions without a callback, and walsenders that decode
 * what is committed here.  The worker ends them when it finds the gate closed, so
 * for them it does not close by the clock alone.
 */
#include "library.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "executor/executor.h"
#include "libpq/auth.h"
#include "miscadmin.h"
#include "postmaster/autovacuum.h"
#include "postmaster/bgworker.h"
#include "replication/logicalworker.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"

#include "standby.h"
#include "synchronous.h"

static ClientAuthentication_hook_type previous_client_authentication = NULL;
static ExecutorRun_hook_type previous_executor_run = NULL;
static ProcessUtility_hook_type previous_process_utility = NULL;
static object_access_hook_type previous_object_access = NULL;

/* This session's role may read through a closed gate. */
static bool session_exempt = false;

/* How often those that wait look whether the gate is open again. */
#define LOOK_MS 10

/* This backend's commit has passed the gate. */
static bool marked = false;

static bool
before(pg_atomic_uint64 *deadline)
{
	return elector_now() < (ElectorTime) pg_atomic_read_u64(deadline);
}

bool
elector_gate_is_open(void)
{
	return before(&elector_shared->gate_deadline);
}

/* Is what a standby shows new enough for its clients? */
static bool
fresh_enough(void)
{
	ElectorTime fresh_at;

	if (elector_max_staleness == 0)
		return true;
	fresh_at = (ElectorTime) pg_atomic_read_u64(&elector_shared->fresh_at);
	return fresh_at != 0 &&
		elector_now() <= fresh_at + (ElectorTime) elector_max_staleness * 1000;
}

bool
elector_gate_reads_open(void)
{
	if (!RecoveryInProgress())
		return elector_gate_is_open();
	return fresh_enough() && (elector_standby_reads == ELECTOR_READS_ALWAYS ||
							  before(&elector_shared->read_deadline));
}

/*
 * A leader's gate that has closed by the clock alone opens again when etcd confirms
 * the lease after all: wait for that for a while.  One that was closed on purpose
 * stays closed.
 */
static void
outlast_doubt(void)
{
	ElectorTime until;

	if (elector_lease_wait == 0)
		return;
	until = elector_now() + (ElectorTime) elector_lease_wait * 1000;
	while (!RecoveryInProgress() && !elector_gate_is_open() &&
		   pg_atomic_read_u64(&elector_shared->opened_term) != 0 && elector_now() < until)
		elector_doze(LOOK_MS);
}

static void
copy_leader(char *leader)
{
	LWLockAcquire(elector_shared->lock, LW_SHARED);
	strlcpy(leader, elector_shared->leader, ELECTOR_NAME_SIZE);
	LWLockRelease(elector_shared->lock);
	if (strcmp(leader, elector_node) == 0)
		leader[0] = '\0';
}

/* Refuse a write or a read in a session that is already there. */
static void
refuse(ElectorRefused kind)
{
	const char *what = kind == ELECTOR_REFUSED_COMMIT ? "commit" : "execute statement";
	char		leader[ELECTOR_NAME_SIZE];

	pg_atomic_fetch_add_u64(&elector_shared->refused[kind], 1);
	copy_leader(leader);
	if (RecoveryInProgress() && !fresh_enough())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot %s: this node may lack what was committed more than %d ms ago",
						what, elector_max_staleness),
				 errhint("See pg_elector.max_staleness; the leader and other followers may have it.")));
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot %s: this node's history is not known to be the leader's",
						what),
				 leader[0] != '\0' ?
				 errhint("The leader is \"%s\"; see elector_status for what this node waits for.", leader) :
				 errhint("See elector_status for what this node waits for.")));
	ereport(ERROR,
			(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
			 errmsg("cannot %s: this node does not hold the leadership of cluster \"%s\"",
					what, elector_cluster),
			 leader[0] != '\0' ?
			 errhint("The leader is \"%s\".", leader) :
			 errhint("There is no leader at the moment; connect with all hosts and target_session_attrs=read-write, and try again.")));
}

static void
clear_mark(void)
{
	if (marked)
	{
		marked = false;
		pg_atomic_write_u32(&elector_shared->marks[ElectorMyProcNumber()], ELECTOR_MARK_NONE);
	}
}

static void
clear_mark_at_exit(int code, Datum argument)
{
	clear_mark();
}

/* Whoever has a mark is alive: it is cleared before the process lets go of its number. */
static void
set_mark(void)
{
	static bool registered = false;

	if (!registered)
	{
		on_shmem_exit(clear_mark_at_exit, 0);
		registered = true;
	}
	pg_atomic_write_u32(&elector_shared->marks[ElectorMyProcNumber()], ELECTOR_MARK_COMMITS);
	marked = true;
	pg_memory_barrier();		/* pairs with those that look at the marks */
}

/* Under a policy it will wait; the mark says that it knows. */
static void
begin_commit(ElectorCommitKind kind)
{
	if (elector_commit_begin(kind, marked) && marked)
		pg_atomic_write_u32(&elector_shared->marks[ElectorMyProcNumber()], ELECTOR_MARK_WAITS);
}

/* Set the mark, then look. */
static void
pass_gate(void)
{
	set_mark();
	if (elector_gate_is_open())
		return;
	clear_mark();				/* so that nobody waits for this one */
	outlast_doubt();
	set_mark();
	if (!elector_gate_is_open())
	{
		clear_mark();
		refuse(ELECTOR_REFUSED_COMMIT);
	}
}

/*
 * The commit is done and can not be undone.  If it can not be vouched for either,
 * end the connection before the client is told.
 */
static void
answer_or_end(bool acknowledged)
{
	bool		open = elector_gate_is_open();

	if (open && acknowledged)
		return;
	pg_atomic_fetch_add_u64(&elector_shared->refused[ELECTOR_REFUSED_ANSWER], 1);
	whereToSendOutput = DestNone;
	ProcDiePending = true;
	InterruptPending = true;
	ereport(LOG,
			(open ?
			 errmsg("connection ends without an answer: a commit is not acknowledged as durability policy \"%s\" wants it",
					elector_durability) :
			 errmsg("connection ends without an answer: the gate closed while a transaction committed")));
}

/* True if there is any, until it has ended. */
static bool
end_logical_workers(void)
{
	bool		found = false;

	for (int i = 0; i < MaxBackends; i++)
	{
		PGPROC	   *proc = &ProcGlobal->allProcs[i];
		int			pid = proc->pid;
		const char *type = NULL;

		/* what is left of a process that has ended may look like one */
		if (pid != 0 && proc->isBackgroundWorker)
			type = GetBackgroundWorkerTypeByPid(pid);
		if (type != NULL && strcmp(type, ELECTOR_LOGICAL_WORKER) == 0)
		{
			found = true;
			kill(pid, SIGTERM);
		}
	}
	return found;
}

/* Those of standbys have no database. */
static void
end_database_walsenders(void)
{
	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsender = &WalSndCtl->walsnds[i];
		PGPROC	   *proc;
		pid_t		pid;

		SpinLockAcquire(&walsender->mutex);
		pid = walsender->pid;
		SpinLockRelease(&walsender->mutex);
		proc = pid != 0 ? BackendPidGetProc(pid) : NULL;
		if (proc != NULL && proc->databaseId != InvalidOid)
			kill(pid, SIGTERM);
	}
}

bool
elector_gate_end_replication(void)
{
	if (RecoveryInProgress())
		return true;
	end_database_walsenders();
	return !end_logical_workers();
}

bool
elector_gate_drained(void)
{
	pg_memory_barrier();		/* pairs with set_mark() */
	for (int i = 0; i < elector_shared->nmarks; i++)
	{
		if (pg_atomic_read_u32(&elector_shared->marks[i]) != ELECTOR_MARK_NONE)
			return false;
	}
	return elector_gate_end_replication();
}

bool
elector_gate_policy_known(void)
{
	pg_memory_barrier();		/* pairs with set_mark() */
	for (int i = 0; i < elector_shared->nmarks; i++)
	{
		if (pg_atomic_read_u32(&elector_shared->marks[i]) == ELECTOR_MARK_COMMITS)
			return false;
	}
	return true;
}

void
elector_gate_terminate(void)
{
	for (int i = 0; i < elector_shared->nmarks; i++)
	{
		/* In this order: whoever is marked has been that process since before. */
		int			pid = ProcGlobal->allProcs[i].pid;

		pg_read_barrier();
		if (pid != 0 && pg_atomic_read_u32(&elector_shared->marks[i]) != ELECTOR_MARK_NONE)
			kill(pid, SIGTERM);
	}
}

/*
 * A logical replication worker that has started with the gate closed ends with
 * its first transaction, which only reads.  Not by an ERROR, for which a
 * subscription may be disabled.
 */
static void
check_logical_worker(void)
{
	if (IsLogicalWorker() && !elector_gate_is_open())
		ereport(FATAL,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot apply changes: this node does not hold the leadership of cluster \"%s\"",
						elector_cluster)));
}

static void
transaction_callback(XactEvent event, void *arg)
{
	bool		writes = TransactionIdIsValid(GetTopTransactionIdIfAny());
	bool		acknowledged;

	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			check_logical_worker();
			if (IsAutoVacuumWorkerProcess())
				break;			/* it tells nobody that it has committed */
			if (writes)
				pass_gate();
			else if (!session_exempt)
				elector_commit_hold_back();
			begin_commit(event == XACT_EVENT_PRE_PREPARE ? ELECTOR_COMMIT_PREPARE :
						 ELECTOR_COMMIT_TRANSACTION);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			acknowledged = elector_commit_end();
			if (writes && !IsAutoVacuumWorkerProcess())
				answer_or_end(acknowledged);
			clear_mark();
			break;
		case XACT_EVENT_ABORT:
			elector_commit_forget();
			clear_mark();
			break;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
		case XACT_EVENT_PARALLEL_COMMIT:
		case XACT_EVENT_PARALLEL_ABORT:
			break;				/* the leader of the group commits */
	}
}

/* Does what it reads reach anybody, and must it be right? */
static bool
gated(void)
{
	return !session_exempt && !IsParallelWorker() && !IsAutoVacuumWorkerProcess();
}

/* The statement gate, for everything that reads. */
static void
check_statement(void)
{
	if (!gated())
		return;
	elector_drain_pass();
	elector_commit_await_barrier();
	if (elector_gate_reads_open())
		return;
	outlast_doubt();
	if (!elector_gate_reads_open())
		refuse(ELECTOR_REFUSED_STATEMENT);
}

static void
executor_run(QueryDesc *query, ScanDirection direction, uint64 count,
			 bool execute_once)
{
	check_statement();
	if (previous_executor_run)
		previous_executor_run(query, direction, count, execute_once);
	else
		standard_ExecutorRun(query, direction, count, execute_once);

	/* It may have waited for a row, and seen what another commit made of it. */
	if (gated())
		elector_commit_await_barrier();
}

/* A function called by the fast path passes neither the executor nor a portal. */
static void
object_access(ObjectAccessType access, Oid class, Oid object, int subobject,
			  void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class, object, subobject, arg);
	if (access == OAT_FUNCTION_EXECUTE && ActivePortal == NULL)
		check_statement();
}

/* Does the utility write something that no transaction's abort undoes? */
static bool
utility_writes(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_AlterSystemStmt:
			return false;		/* an operator's way out */
		case T_NotifyStmt:
		case T_VacuumStmt:
		case T_ReindexStmt:
			return true;
		case T_TransactionStmt:
			switch (((TransactionStmt *) statement)->kind)
			{
				case TRANS_STMT_PREPARE:
				case TRANS_STMT_COMMIT_PREPARED:
				case TRANS_STMT_ROLLBACK_PREPARED:
					return true;
				case TRANS_STMT_BEGIN:
				case TRANS_STMT_START:
				case TRANS_STMT_COMMIT:
				case TRANS_STMT_ROLLBACK:
				case TRANS_STMT_SAVEPOINT:
				case TRANS_STMT_RELEASE:
				case TRANS_STMT_ROLLBACK_TO:
					return false;
			}
			return false;
		default:
			return GetCommandLogLevel(statement) <= LOGSTMT_MOD;
	}
}

/* Decides a prepared transaction, without a transaction of its own. */
static bool
utility_decides(Node *statement)
{
	TransactionStmtKind kind;

	if (!IsA(statement, TransactionStmt))
		return false;
	kind = ((TransactionStmt *) statement)->kind;
	return kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED;
}

static ElectorCommitKind
decision_kind(Node *statement)
{
	return ((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED ?
		ELECTOR_COMMIT_PREPARED : ELECTOR_COMMIT_ROLLBACK_PREPARED;
}

static void
process_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo parameters,
				QueryEnvironment *environment, DestReceiver *receiver,
				QueryCompletion *completion)
{
	Node	   *statement = planned->utilityStmt;
	bool		decides = false;
	volatile bool acknowledged = true;

	if (!IsAutoVacuumWorkerProcess())
	{
		if (!session_exempt && !IsA(statement, TransactionStmt))
			elector_drain_pass();
		if (!RecoveryInProgress() && utility_writes(statement))
		{
			if (!elector_gate_is_open())
				outlast_doubt();
			if (!elector_gate_is_open())
				refuse(ELECTOR_REFUSED_STATEMENT);
			decides = utility_decides(statement);
		}
		else if (IsA(statement, CopyStmt))
			check_statement();
	}

	if (decides)
		pass_gate();
	PG_TRY();
	{
		if (decides)
			begin_commit(decision_kind(statement));
		if (previous_process_utility)
			previous_process_utility(planned, query, read_only_tree, context,
									 parameters, environment, receiver, completion);
		else
			standard_ProcessUtility(planned, query, read_only_tree, context,
									parameters, environment, receiver, completion);
	}
	PG_FINALLY();
	{
		if (decides)
		{
			acknowledged = elector_commit_end();
			clear_mark();
		}
	}
	PG_END_TRY();
	if (decides)
		answer_or_end(acknowledged);
}

/*
 * A standby says which leadership it means to stream from, in its connection's
 * options, which are not settings yet.  Is it this server's?
 */
static void
check_follower(const Port *port)
{
	const char *option = port->cmdline_options == NULL ? NULL :
	strstr(port->cmdline_options, ELECTOR_UPSTREAM_OPTION);
	uint64		led = pg_atomic_read_u64(&elector_shared->led_term);

	if (!am_walsender)
		return;
	if (am_db_walsender || option == NULL)
	{
		elector_synchronous_enter_other(port->application_name);
		return;
	}
	if (strtou64(option + strlen(ELECTOR_UPSTREAM_OPTION), NULL, 10) == led)
	{
		elector_synchronous_enter(port->application_name != NULL ? port->application_name : "");
		return;
	}
	ereport(FATAL,
			(errcode(ERRCODE_CANNOT_CONNECT_NOW),
			 errmsg("node \"%s\" of cluster \"%s\" does not lead the term that is to be followed",
					elector_node, elector_cluster)));
}

/* Runs before catalogs can be read, so it knows names only. */
static void
client_authentication(Port *port, int status)
{
	char		leader[ELECTOR_NAME_SIZE];

	if (previous_client_authentication)
		previous_client_authentication(port, status);
	if (status != STATUS_OK)
		return;
	check_follower(port);
	session_exempt = elector_role_exempt(port->user_name);
	if (elector_gate_reads_open() || (am_walsender && !am_db_walsender))
		return;

	/* nobody may decode what is not known to stay */
	if (session_exempt && (!am_db_walsender || RecoveryInProgress()))
		return;

	pg_atomic_fetch_add_u64(&elector_shared->refused[ELECTOR_REFUSED_CONNECTION], 1);
	copy_leader(leader);
	ereport(FATAL,
			(errcode(ERRCODE_CANNOT_CONNECT_NOW),
			 errmsg("node \"%s\" of cluster \"%s\" does not accept connections now",
					elector_node, elector_cluster),
			 leader[0] != '\0' ?
			 errhint("The leader is \"%s\"; connect with all hosts and target_session_attrs=read-write.", leader) :
			 errhint("There is no leader at the moment; try again, or ask elector_status as one of pg_elector.admin_roles.")));
}

void
elector_gate_install(void)
{
	previous_client_authentication = ClientAuthentication_hook;
	ClientAuthentication_hook = client_authentication;
	previous_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	previous_object_access = object_access_hook;
	object_access_hook = object_access;
	RegisterXactCallback(transaction_callback, NULL);
}
