/*
 * synchronous.c
 *	  Who streams from this server, and whose acknowledgements commits wait for.
 *
 * Under a durability policy synchronous_standby_names belongs to the library.  It is
 * written into postgresql.auto.conf together with pg_elector.standby_names, which has
 * the same value and whose assign hook tells, in each process, that both are loaded.
 * Commits are released by walsenders, so it is their being loaded that counts; whether
 * commits wait at all is a flag of the checkpointer's.
 *
 * Under "async" the library leaves synchronous_standby_names alone, except for taking
 * away what it has put there itself.
 *
 * The trap: a reload is not instantaneous, and one process with the old names is enough
 * to release a commit by them.  So a change counts when every walsender has been seen
 * to have loaded it; one that starts later has it from the postmaster.
 */
#include "synchronous.h"

#include <signal.h>

#include "access/xlog.h"
#include "common/hashfn.h"
#include "libpq/libpq-be.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"

#include "autoconf.h"

/* What has been written and is not loaded after this time is announced once more. */
#define RELOAD_INTERVAL 1000000

/* Standbys come back under new process ids; the oldest entry makes room. */
#define FOLLOWERS_MAX (2 * ELECTOR_MEMBERS_MAX)

typedef struct Follower
{
	int			pid;			/* of its walsender; may be gone */
	char		node[ELECTOR_NAME_SIZE];
} Follower;

/*
 * Shared memory.
 *
 * followers[] is guarded by mutex: a walsender enters itself when a standby of ours has
 * logged in, the worker reads.  loaded[n] is written by the process with number n
 * alone, and read by the worker: a hash of the names it has loaded.
 */
typedef struct Synchronous
{
	slock_t		mutex;
	int			next;			/* the oldest entry */
	Follower	followers[FOLLOWERS_MAX];
	pg_atomic_uint32 loaded[FLEXIBLE_ARRAY_MEMBER];
} Synchronous;

static Synchronous *synchronous = NULL;

/* The worker's: which names were written last, and when. */
static char written[ELECTOR_NAMES_SIZE] = "";
static ElectorTime written_at = 0;

Size
elector_synchronous_size(void)
{
	return add_size(offsetof(Synchronous, loaded),
					mul_size(MaxBackends, sizeof(pg_atomic_uint32)));
}

void
elector_synchronous_startup(void)
{
	bool		found;

	synchronous = ShmemInitStruct(ELECTOR_LIBRARY " synchronous",
								  elector_synchronous_size(), &found);
	if (found)
		return;
	memset(synchronous, 0, offsetof(Synchronous, loaded));
	SpinLockInit(&synchronous->mutex);
	for (int i = 0; i < MaxBackends; i++)
		pg_atomic_init_u32(&synchronous->loaded[i], 0);
}

static uint32
hash_names(const char *names)
{
	return hash_bytes((const unsigned char *) names, (int) strlen(names));
}

/* This process has loaded these names. */
static void
note_loaded(const char *names)
{
	if (synchronous != NULL && MyProc != NULL && ElectorMyProcNumber() < MaxBackends)
		pg_atomic_write_u32(&synchronous->loaded[ElectorMyProcNumber()], hash_names(names));
}

void
elector_synchronous_assign(const char *newval, void *extra)
{
	if (!am_walsender || MyProc == NULL)
		return;
	note_loaded(newval);
	elector_wake_worker();
}

/* In a walsender, when its standby has logged in; node is "" if it is none of ours. */
void
elector_synchronous_enter(const char *node)
{
	note_loaded(elector_standby_names);
	if (node[0] == '\0')
		return;
	SpinLockAcquire(&synchronous->mutex);
	synchronous->followers[synchronous->next].pid = MyProcPid;
	strlcpy(synchronous->followers[synchronous->next].node, node, ELECTOR_NAME_SIZE);
	synchronous->next = (synchronous->next + 1) % FOLLOWERS_MAX;
	SpinLockRelease(&synchronous->mutex);
}

/* The node whose walsender that is; false if it is none of ours. */
static bool
find_follower(int pid, char *node)
{
	bool		found = false;

	SpinLockAcquire(&synchronous->mutex);

	/* the newest first: process ids come again */
	for (int i = 1; i <= FOLLOWERS_MAX && !found; i++)
	{
		const Follower *follower =
		&synchronous->followers[(synchronous->next + FOLLOWERS_MAX - i) % FOLLOWERS_MAX];

		found = follower->pid == pid && follower->node[0] != '\0';
		if (found)
			strlcpy(node, follower->node, ELECTOR_NAME_SIZE);
	}
	SpinLockRelease(&synchronous->mutex);
	return found;
}

void
elector_synchronous_look(ElectorServer *server)
{
	for (int i = 0; i < max_wal_senders && server->nfollowers < ELECTOR_MEMBERS_MAX; i++)
	{
		WalSnd	   *walsender = &WalSndCtl->walsnds[i];
		ElectorFollower *follower = &server->followers[server->nfollowers];
		XLogRecPtr	flushed;
		int			pid;

		SpinLockAcquire(&walsender->mutex);
		pid = walsender->pid;
		flushed = walsender->flush;
		SpinLockRelease(&walsender->mutex);
		if (pid == 0 || flushed == InvalidXLogRecPtr || !find_follower(pid, follower->node))
			continue;
		follower->flushed = flushed;
		server->nfollowers++;
	}
}

/* Has every walsender loaded them? */
static bool
walsenders_loaded(const char *names)
{
	uint32		hash = hash_names(names);

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsender = &WalSndCtl->walsnds[i];
		PGPROC	   *proc;
		int			pid;

		SpinLockAcquire(&walsender->mutex);
		pid = walsender->pid;
		SpinLockRelease(&walsender->mutex);
		proc = pid != 0 ? BackendPidGetProc(pid) : NULL;
		if (proc != NULL && proc->pgprocno < MaxBackends &&
			pg_atomic_read_u32(&synchronous->loaded[proc->pgprocno]) != hash)
			return false;
	}
	return true;
}

static void
write_names(const char *names)
{
	const char *value = names[0] != '\0' ? names : NULL;

	/* The hook of the second speaks for the first. */
	ElectorAutoConf settings[] = {
		{"synchronous_standby_names", value},
		{"pg_elector.standby_names", value}
	};

	elector_autoconf_write(settings, lengthof(settings));
	kill(PostmasterPid, SIGHUP);
	strlcpy(written, names, sizeof(written));
	written_at = elector_now();
}

bool
elector_synchronous_intact(void)
{
	return elector_standby_names[0] == '\0' ||
		strcmp(SyncRepStandbyNames, elector_standby_names) == 0;
}

bool
elector_synchronous_set(const char *names)
{
	bool		here = strcmp(elector_standby_names, names) == 0 &&
	(names[0] == '\0' || strcmp(SyncRepStandbyNames, names) == 0);

	/* Commits must not be vouched for by names that are going. */
	if (names[0] == '\0')
		elector_commit_set_durable(false);
	if (!here)
	{
		if (strcmp(written, names) != 0 || elector_now() >= written_at + RELOAD_INTERVAL)
			write_names(names);
		return false;
	}
	if (names[0] != '\0' && !ElectorCommitsWait())
		return false;
	if (!walsenders_loaded(names))
		return false;
	if (names[0] == '\0')
		return true;
	elector_commit_set_durable(true);
	return elector_gate_policy_known();
}
