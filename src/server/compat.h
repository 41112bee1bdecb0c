/*
 * compat.h
 *	  What differs between the versions of PostgreSQL.
 *
 * Only this header looks at PG_VERSION_NUM.
 */
#ifndef ELECTOR_COMPAT_H
#define ELECTOR_COMPAT_H

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "pg_elector has been built and tested with PostgreSQL 15 only"
#endif

/* A process's number, by which its in-flight mark is found. */
#define ElectorMyProcNumber() (MyProc->pgprocno)

/* What kind of background worker those of logical replication are. */
#define ELECTOR_LOGICAL_WORKER "logical replication worker"

#include "replication/walsender_private.h"

/* Do commits wait for anybody?  The flag became two within minor versions. */
#ifdef SYNC_STANDBY_DEFINED
#define ElectorCommitsWait() ((WalSndCtl->sync_standbys_status & SYNC_STANDBY_DEFINED) != 0)
#else
#define ElectorCommitsWait() (WalSndCtl->sync_standbys_defined)
#endif

#endif							/* ELECTOR_COMPAT_H */
