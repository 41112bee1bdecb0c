/*
 * pg_elector.c
 *	  The library's beginning: what is installed, and when.
 *
 * Without pg_elector.cluster, in a single-user server, under `postgres -C`, and
 * for pg_upgrade only the settings are defined and nothing else changes.  Loaded
 * into a single session, the library has its SQL functions and no more.
 */
#include "library.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

static void
register_worker(const char *name, const char *function)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, name, BGW_MAXLEN);
	snprintf(worker.bgw_library_name, BGW_MAXLEN, ELECTOR_LIBRARY);
	strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

void
_PG_init(void)
{
	/* too late for settings; the functions tell what is missing */
	if (!process_shared_preload_libraries_in_progress)
		return;

	elector_settings_define();
	if (!IsPostmasterEnvironment || !elector_settings_complete())
		return;

	/* pg_upgrade writes to a server that nobody leads */
	if (IsBinaryUpgrade)
		return;

	elector_standby_install();
	elector_gate_install();
	elector_drain_install();
	elector_restart_install();
	if (elector_http_listen[0] != '\0')
		register_worker(ELECTOR_LIBRARY " http", "elector_http_main");
	register_worker(ELECTOR_LIBRARY " announcer", "elector_announcer_main");

	/* The postmaster starts the last one first. */
	register_worker(ELECTOR_LIBRARY, "elector_worker_main");
}
