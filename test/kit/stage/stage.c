/*
 * stage.c
 *	  A library for the servers of a test: it brings about what otherwise takes
 *	  luck, a signal or a look at just the wrong moment, and runs a background
 *	  worker like those of other extensions.
 *
 * stage.signal			sent to itself by a backend that commits, after all that
 *						could still abort: the next thing is the commit record
 * stage.hold_before	a file: while it exists, a backend stands still at that point, and
 *						says so by another file, named .held
 * stage.hold_commit	a file: while it exists, a backend stands still when its
 *						commit has become visible
 * stage.hold_flush		a file: while it exists, a walreceiver that has written WAL
 *						and said so does not flush it
 * stage_run(sql, die)	a background worker executes sql and says so in the log;
 *						it handles SIGTERM as the manual wants it, or not at all
 *
 * Built and preloaded by ElectorCluster::preload_stage().
 *
 * The trap: the order of libraries is that of callbacks.  Preloaded before
 * pg_elector, the callback before a commit runs after pg_elector's, and the hold
 * after a commit likewise; loaded later (LOAD), both run before it.
 */
#include "postgres.h"

#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "port/pg_bswap.h"
#include "postmaster/bgworker.h"
#include "replication/walreceiver.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(stage_run);
extern PGDLLEXPORT void stage_worker(Datum argument);
extern void _PG_init(void);

static int	stage_signal = 0;
static char *hold_before = NULL;
static char *hold_commit = NULL;
static char *hold_flush = NULL;

static ProcessUtility_hook_type previous_process_utility = NULL;
static WalReceiverFunctionsType wrapped_functions;
static walrcv_send_fn original_send = NULL;

static void
hold(const char *path)
{
	while (path[0] != '\0' && access(path, F_OK) == 0)
		usleep(10000);
}

static void
say_held(const char *path)
{
	char		held[MAXPGPATH];
	FILE	   *file;

	snprintf(held, sizeof(held), "%s.held", path);
	file = fopen(held, "w");
	if (file != NULL)
		fclose(file);
}

static void
transaction_callback(XactEvent event, void *arg)
{
	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	if (event == XACT_EVENT_COMMIT)
		hold(hold_commit);
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		return;
	if (stage_signal != 0)
		kill(MyProcPid, stage_signal);
	if (hold_before[0] != '\0' && access(hold_before, F_OK) == 0)
	{
		say_held(hold_before);
		hold(hold_before);
	}
}

static void
process_utility(PlannedStmt *planned, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo parameters,
				QueryEnvironment *environment, DestReceiver *receiver,
				QueryCompletion *completion)
{
	Node	   *statement = planned->utilityStmt;

	if (stage_signal != 0 && IsA(statement, TransactionStmt) &&
		(((TransactionStmt *) statement)->kind == TRANS_STMT_COMMIT_PREPARED ||
		 ((TransactionStmt *) statement)->kind == TRANS_STMT_ROLLBACK_PREPARED))
		kill(MyProcPid, stage_signal);
	if (previous_process_utility)
		previous_process_utility(planned, query, read_only_tree, context, parameters,
								 environment, receiver, completion);
	else
		standard_ProcessUtility(planned, query, read_only_tree, context, parameters,
								environment, receiver, completion);
}

/* A reply that says "written, not flushed": 'r', then both positions. */
static void
send_and_hold(WalReceiverConn *conn, const char *buffer, int nbytes)
{
	uint64		written;
	uint64		flushed;

	original_send(conn, buffer, nbytes);
	if (MyBackendType != B_WAL_RECEIVER || nbytes < 17 || buffer[0] != 'r')
		return;
	memcpy(&written, buffer + 1, sizeof(written));
	memcpy(&flushed, buffer + 9, sizeof(flushed));
	if (pg_ntoh64(written) > pg_ntoh64(flushed))
		hold(hold_flush);
}

Datum
stage_run(PG_FUNCTION_ARGS)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	Dl_info		library;
	pid_t		pid;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid;
	worker.bgw_main_arg = BoolGetDatum(PG_GETARG_BOOL(1));
	if (dladdr((void *) stage_worker, &library) == 0)
		elog(ERROR, "could not find the library");
	strlcpy(worker.bgw_library_name, library.dli_fname, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "stage_worker", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "stage worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "stage worker", BGW_MAXLEN);
	text_to_cstring_buffer(PG_GETARG_TEXT_PP(0), worker.bgw_extra, BGW_EXTRALEN);
	if (!RegisterDynamicBackgroundWorker(&worker, &handle) ||
		WaitForBackgroundWorkerStartup(handle, &pid) != BGWH_STARTED)
		elog(ERROR, "could not start the worker");
	PG_RETURN_INT32(pid);
}

void
stage_worker(Datum argument)
{
	if (DatumGetBool(argument))
		pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection("postgres", NULL, 0);

	StartTransactionCommand();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, MyBgworkerEntry->bgw_extra);
	if (SPI_execute(MyBgworkerEntry->bgw_extra, false, 0) < 0)
		elog(ERROR, "could not execute");
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();

	CHECK_FOR_INTERRUPTS();
	elog(LOG, "stage worker: committed");
}

void
_PG_init(void)
{
	DefineCustomIntVariable("stage.signal", "Sent to itself by a backend that commits.", NULL,
							&stage_signal, 0, 0, 64, PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("stage.hold_before", "While this file exists, commits are not written.",
							   NULL, &hold_before, "", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("stage.hold_commit", "While this file exists, commits stand still.",
							   NULL, &hold_commit, "", PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("stage.hold_flush", "While this file exists, nothing received is flushed.",
							   NULL, &hold_flush, "", PGC_SIGHUP, 0, NULL, NULL, NULL);
	previous_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	RegisterXactCallback(transaction_callback, NULL);

	load_file("libpqwalreceiver", false);
	wrapped_functions = *WalReceiverFunctions;
	original_send = wrapped_functions.walrcv_send;
	wrapped_functions.walrcv_send = send_and_hold;
	WalReceiverFunctions = &wrapped_functions;
}
