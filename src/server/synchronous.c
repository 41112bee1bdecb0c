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
 * to have loaded it; one that starts later has it from the postmaster, and notes that
 * when it has logged in.
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
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "autoconf.h"

/* What has been written and is not loaded after this time is announced once more. */
#define RELOAD_INTERVAL 1000000

/* How long a walsender waits for the end of an earlier one of the same node. */
#define SUCCESSION_BOUND ((ElectorTime) 10 * 1000000)
#define SUCCESSION_LOOK_MS 10

typedef struct Follower
{
	int			pid;			/* of its walsender; 0: none */
	char		node[ELECTOR_NAME_SIZE];
} Follower;

/*
 * Shared memory.
 *
 * followers[] is guarded by mutex, one entry a node: a walsender enters itself when a
 * standby of ours has logged in, and strikes itself out when it has let go of everything
 * else; the worker reads.  PostgreSQL counts walsenders, not nodes, so that two of one
 * node would be two acknowledgements.  loaded[n] is written by the process with number n
 * alone, and read by the worker: a hash of the names it has loaded.
 */
typedef struct Synchronous
{
	slock_t		mutex;
	Follower	followers[ELECTOR_MEMBERS_MAX];
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

static void
leave(int code, Datum argument)
{
	SpinLockAcquire(&synchronous->mutex);
	for (int i = 0; i < ELECTOR_MEMBERS_MAX; i++)
	{
		if (synchronous->followers[i].pid == MyProcPid)
			synchronous->followers[i].pid = 0;
	}
	SpinLockRelease(&synchronous->mutex);
}

/* Be the node's walsender; or the process id of the one that is, -1 without room. */
static int
enter_or_find(const char *node)
{
	Follower   *room = NULL;
	int			other = 0;

	SpinLockAcquire(&synchronous->mutex);
	for (int i = 0; i < ELECTOR_MEMBERS_MAX; i++)
	{
		Follower   *follower = &synchronous->followers[i];

		if (follower->pid == 0)
			room = follower;
		else if (strcmp(follower->node, node) == 0)
			other = follower->pid;
	}
	if (other == 0 && room != NULL)
	{
		room->pid = MyProcPid;
		strlcpy(room->node, node, ELECTOR_NAME_SIZE);
	}
	SpinLockRelease(&synchronous->mutex);
	return other == 0 && room == NULL ? -1 : other;
}

void
elector_synchronous_enter(const char *node)
{
	ElectorTime until = elector_now() + SUCCESSION_BOUND;
	int			other;

	note_loaded(elector_standby_names);

	/* Runs after the walsender's own, which gives its slot back. */
	on_shmem_exit(leave, 0);
	while ((other = enter_or_find(node)) != 0)
	{
		if (other < 0 || elector_now() >= until)
			ereport(FATAL,
					(errcode(ERRCODE_CANNOT_CONNECT_NOW),
					 errmsg("node \"%s\" of cluster \"%s\" cannot be followed by \"%s\" now",
							elector_node, elector_cluster, node),
					 other < 0 ? errdetail("Too many members follow it.") :
					 errdetail("Its earlier walsender, process %d, does not end.", other)));
		kill(other, SIGTERM);
		WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
				  SUCCESSION_LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* By its name alone PostgreSQL would take its acknowledgements for the member's. */
void
elector_synchronous_enter_other(const char *application_name)
{
	bool		found = false;

	note_loaded(elector_standby_names);
	if (application_name == NULL)
		return;
	LWLockAcquire(elector_shared->lock, LW_SHARED);
	for (int i = 0; i < elector_shared->nrows; i++)
		found = found || pg_strcasecmp(elector_shared->rows[i].member.node, application_name) == 0;
	LWLockRelease(elector_shared->lock);
	if (found)
		ereport(FATAL,
				(errcode(ERRCODE_CANNOT_CONNECT_NOW),
				 errmsg("\"%s\" is the name of a node of cluster \"%s\"", application_name,
						elector_cluster),
				 errhint("Replicate with another application_name.")));
}

/* The node whose walsender that is; false if it is none of ours. */
static bool
find_follower(int pid, char *node)
{
	bool		found = false;

	SpinLockAcquire(&synchronous->mutex);
	for (int i = 0; i < ELECTOR_MEMBERS_MAX && !found; i++)
	{
		const Follower *follower = &synchronous->followers[i];

		found = follower->pid == pid;
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

/*
 * Has every walsender loaded them?  One that does not stream, as in a base backup, loads
 * nothing before it has ended that, and before it streams.
 */
static bool
walsenders_loaded(const char *names)
{
	uint32		hash = hash_names(names);

	for (int i = 0; i < max_wal_senders; i++)
	{
		WalSnd	   *walsender = &WalSndCtl->walsnds[i];
		PGPROC	   *proc;
		WalSndState state;
		int			pid;

		SpinLockAcquire(&walsender->mutex);
		pid = walsender->pid;
		state = walsender->state;
		SpinLockRelease(&walsender->mutex);
		if (pid == 0 || state == WALSNDSTATE_STARTUP || state == WALSNDSTATE_BACKUP)
			continue;
		proc = BackendPidGetProc(pid);
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
