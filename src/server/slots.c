/*
 * slots.c
 *	  Replication slots: every node keeps one for each other member.
 *
 * On the leader a member's walreceiver uses its slot (standby.c); on a follower
 * the slots lie ready, so that whoever leads next has the WAL that the others
 * lack, whether they were away before or after the change.  A slot that nobody
 * uses is moved to what its member is known to hold (core/keep.c), but not past
 * the redo pointer of this server's last checkpoint: from there on WAL is kept
 * anyway, and whoever has to be rewound to this server begins with a checkpoint
 * that is not older.  So there is no difference between a leader's slots and a
 * follower's, and nothing to do when one becomes the other.
 *
 * A slot that somebody has made for a node that is to become a member (by
 * pg_basebackup) is taken over when it is one.  Those that were ours are dropped
 * when their nodes are no members any more; one that max_slot_wal_keep_size has
 * invalidated is dropped and made anew; one that is in use, or logical, is left
 * alone; and so is every other slot.
 *
 * Moving a slot is a matter of shared memory, and is done by the worker.  Making
 * and dropping one writes to disk, under a lock that a checkpoint holds while it
 * writes, too; and a checkpoint that invalidates a slot ends the process that
 * holds it.  So the worker never holds one: a process is started that does what
 * there is to do, and ends.
 *
 * The trap: that process has no database, and so no place in the array of
 * processes that ReplicationSlotRelease() marks: it would mark somebody else's.
 */
#include "worker.h"

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "replication/slot.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "core/keep.h"

/* How often the slots are looked at, besides when etcd has told something. */
#define LOOK_INTERVAL 1000000

/* What could not be done is tried again after this time, and later and later. */
#define RETRY_INTERVAL ((ElectorTime) 2 * 1000000)
#define RETRY_INTERVAL_MAX ((ElectorTime) 60 * 1000000)

/*
 * What tells our slots from others, in a field of theirs that is on disk and means
 * nothing for a physical slot: the plugin.
 */
#define SLOT_MARK ELECTOR_LIBRARY

/* A member that is gone for as many lease_ttl has been removed on purpose. */
#define SETTLED_TTLS 3

/* What is to be done about a slot. */
typedef enum SlotDeed
{
	SLOT_KEEP,
	SLOT_MOVE,
	SLOT_DROP,
	SLOT_RENEW,					/* it is invalid, or wrong */
	SLOT_LEAVE					/* it should be dropped or made anew, and
								 * cannot be */
} SlotDeed;

/* What the worker remembers. */
static ElectorTime look_at = 0;
static uint64 seen_changes = 0; /* of the mirror, when it was last looked */
static ElectorTime settled_since = 0;
static BackgroundWorkerHandle *process = NULL;
static ElectorTime retry_at = 0;
static ElectorTime retry_interval = RETRY_INTERVAL;
static bool cannot_start = false;
static const char *problem = "";
static const char *noted_problem = "";
static char left_alone[NAMEDATALEN] = "";

/* The slots there should be; the worker's are in shared memory, too. */
static bool settled;			/* who leads, and that this node follows */
static bool drop_others;
static int	nwanted;
static ElectorSlot wanted[ELECTOR_MEMBERS_MAX];

static ElectorSlot *
find_wanted(const char *name)
{
	for (int i = 0; i < nwanted; i++)
	{
		if (strcmp(wanted[i].name, name) == 0)
			return &wanted[i];
	}
	return NULL;
}

static bool
is_marked(const ReplicationSlot *slot)
{
	return SlotIsPhysical(slot) && strcmp(NameStr(slot->data.plugin), SLOT_MARK) == 0;
}

static bool
is_ours(const ReplicationSlot *slot)
{
	return slot->in_use && (is_marked(slot) || find_wanted(NameStr(slot->data.name)) != NULL);
}

/*
 * What this node holds of the leader's history.  A slot that is past that is from
 * before this node was rewound.
 */
static XLogRecPtr
own_wal(void)
{
	return RecoveryInProgress() ? GetXLogReplayRecPtr(NULL) : GetXLogWriteRecPtr();
}

/* Up to where the slot may be moved; its caller knows that it is wanted. */
static XLogRecPtr
limit(const ElectorSlot *slot)
{
	return Min(slot->held, GetRedoRecPtr());
}

/*
 * What is to be done about one of ours?  The caller holds
 * ReplicationSlotControlLock.
 */
static SlotDeed
judge(ReplicationSlot *slot)
{
	const ElectorSlot *of = find_wanted(NameStr(slot->data.name));
	bool		used;
	bool		holds_rows;
	XLogRecPtr	restart;

	SpinLockAcquire(&slot->mutex);
	used = slot->active_pid != 0;
	restart = slot->data.restart_lsn;
	holds_rows = TransactionIdIsValid(slot->data.xmin) ||
		TransactionIdIsValid(slot->data.catalog_xmin);
	SpinLockRelease(&slot->mutex);

	if (of == NULL && !drop_others)
		return SLOT_KEEP;
	if (of == NULL)
		return used ? SLOT_LEAVE : SLOT_DROP;
	if (SlotIsLogical(slot))
		return SLOT_LEAVE;
	if (!is_marked(slot))
		return SLOT_MOVE;
	if (used)
		return SLOT_KEEP;
	if (restart == InvalidXLogRecPtr || (settled && restart > own_wal()))
		return SLOT_RENEW;
	return holds_rows || limit(of) > restart ? SLOT_MOVE : SLOT_KEEP;
}

/*
 * Mark it as ours, and move it unless it is used.  What a standby said it needs of
 * old rows is over when it is gone: no slot of a node that is away, or a follower's,
 * holds back vacuum.
 */
static void
move(ReplicationSlot *slot)
{
	XLogRecPtr	to = limit(find_wanted(NameStr(slot->data.name)));

	SpinLockAcquire(&slot->mutex);
	namestrcpy(&slot->data.plugin, SLOT_MARK);
	if (slot->active_pid == 0)
	{
		if (slot->data.restart_lsn != InvalidXLogRecPtr && slot->data.restart_lsn < to)
			slot->data.restart_lsn = to;
		slot->data.xmin = slot->effective_xmin = InvalidTransactionId;
		slot->data.catalog_xmin = slot->effective_catalog_xmin = InvalidTransactionId;
	}
	slot->just_dirtied = true;
	slot->dirty = true;
	SpinLockRelease(&slot->mutex);
}

/* --- the worker --- */

/* Say once that a slot cannot be what it should be. */
static void
note_left_alone(const char *name, bool logical)
{
	if (strcmp(left_alone, name) == 0)
		return;
	strlcpy(left_alone, name, sizeof(left_alone));
	if (name[0] != '\0')
		ereport(LOG,
				(errmsg("replication slot \"%s\" is left alone, since it is %s",
						name, logical ? "logical" : "in use")));
}

/*
 * Move what is to be moved.  Returns whether something else is to be done, and
 * whether there is room for what is to be made.
 */
static bool
look_at_slots(bool *room)
{
	bool		found[ELECTOR_MEMBERS_MAX] = {false};
	bool		due = false;
	bool		moved = false;
	int			missing = nwanted;
	int			unused = 0;
	char		left[NAMEDATALEN] = "";
	bool		logical = false;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots; i++)
	{
		ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
		ElectorSlot *of;

		if (!slot->in_use)
			unused++;
		if (!is_ours(slot))
			continue;
		of = find_wanted(NameStr(slot->data.name));
		if (of != NULL && !found[of - wanted])
		{
			found[of - wanted] = true;
			missing--;
		}
		switch (judge(slot))
		{
			case SLOT_KEEP:
				break;
			case SLOT_MOVE:
				move(slot);
				moved = true;
				break;
			case SLOT_DROP:
				due = true;
				unused++;
				break;
			case SLOT_RENEW:
				due = true;
				break;
			case SLOT_LEAVE:
				strlcpy(left, NameStr(slot->data.name), sizeof(left));
				logical = SlotIsLogical(slot);
				break;
		}
	}
	LWLockRelease(ReplicationSlotControlLock);

	note_left_alone(left, logical);
	if (moved)
	{
		ReplicationSlotsComputeRequiredXmin(false);
		ReplicationSlotsComputeRequiredLSN();
	}
	*room = unused >= missing;
	return due || (missing > 0 && unused > 0);
}

/* etcd is silent: the members are those that it told of last, and go on. */
static void
renew_list(const ElectorView *view)
{
	for (int i = 0; i < view->npeers; i++)
	{
		char		name[ELECTOR_SLOT_NAME_SIZE];
		ElectorSlot *slot;

		elector_slot_name(view->peers[i].node, name);
		slot = find_wanted(name);
		if (slot != NULL)
			slot->held = elector_keep_from(view, i);
	}
}

/* The slots that there should be, as the worker knows it now. */
static void
make_list(const ElectorView *view, ElectorTime now)
{
	ElectorSlot list[ELECTOR_MEMBERS_MAX];
	int			count = 0;
	bool		changed;

	memset(list, 0, sizeof(list));
	for (int i = 0; i < view->npeers && elector_slots; i++)
	{
		if (i == view->self)
			continue;
		elector_slot_name(view->peers[i].node, list[count].name);
		list[count].held = elector_keep_from(view, i);
		count++;
	}

	changed = count != nwanted;
	for (int i = 0; i < count && !changed; i++)
		changed = strcmp(list[i].name, wanted[i].name) != 0;
	if (changed)
	{
		retry_at = 0;
		retry_interval = RETRY_INTERVAL;
	}
	settled = elector_keep_settled(view);
	if (changed || !settled)
		settled_since = now;
	memcpy(wanted, list, sizeof(wanted));
	nwanted = count;
	drop_others = !elector_slots || now >= settled_since + SETTLED_TTLS * view->lease_ttl;

	LWLockAcquire(elector_shared->lock, LW_EXCLUSIVE);
	memcpy(elector_shared->slots, wanted, sizeof(wanted));
	elector_shared->nslots = nwanted;
	elector_shared->slots_settled = settled;
	elector_shared->drop_slots = drop_others;
	LWLockRelease(elector_shared->lock);
}

static bool
process_runs(void)
{
	pid_t		pid;

	if (process == NULL)
		return false;
	if (GetBackgroundWorkerPid(process, &pid) != BGWH_STOPPED)
		return true;
	pfree(process);
	process = NULL;
	return false;
}

static bool
start_process(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	BackgroundWorker worker;
	bool		registered;

	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, BGW_MAXLEN, ELECTOR_LIBRARY " slots");
	snprintf(worker.bgw_type, BGW_MAXLEN, ELECTOR_LIBRARY " slots");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, ELECTOR_LIBRARY);
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "elector_slots_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	registered = RegisterDynamicBackgroundWorker(&worker, &process);
	MemoryContextSwitchTo(old);
	return registered;
}

static void
note_problem(void)
{
	if (problem == noted_problem)
		return;
	noted_problem = problem;
	if (problem[0] != '\0')
		ereport(WARNING,
				(errmsg("not every member has a replication slot on this node: %s", problem),
				 errdetail("A member without a slot may not find its WAL after it was away.")));
}

static void
see_to_slots(ElectorTime now)
{
	bool		room;
	bool		due = look_at_slots(&room);

	problem = "";
	if (!due)
	{
		retry_at = 0;
		retry_interval = RETRY_INTERVAL;
		cannot_start = false;
	}
	else if (elector_worker->elector.view.known && !process_runs() && now >= retry_at)
	{
		cannot_start = !start_process();
		retry_at = now + retry_interval;
		retry_interval = Min(2 * retry_interval, RETRY_INTERVAL_MAX);
	}

	if (!room)
		problem = "max_replication_slots is too small";
	else if (cannot_start)
		problem = "max_worker_processes is too small for the process that makes them";
	else if (retry_interval > 4 * RETRY_INTERVAL)
		problem = "one cannot be made or dropped, see this node's log";
}

/* Slots are not read from disk yet while a server has just begun to recover. */
static bool
slots_are_loaded(void)
{
	return !RecoveryInProgress() || GetXLogReplayRecPtr(NULL) != InvalidXLogRecPtr;
}

void
elector_slots_keep(void)
{
	const ElectorView *view = &elector_worker->elector.view;
	uint64		changes = elector_worker->mirror.changes;
	ElectorTime now = elector_now();

	if ((now < look_at && changes == seen_changes) || view->stopping ||
		view->refusal != ELECTOR_REFUSAL_NONE || !slots_are_loaded())
		return;
	look_at = now + LOOK_INTERVAL;
	if (view->known)
	{
		seen_changes = changes;
		make_list(view, now);
	}
	else
		renew_list(view);
	see_to_slots(now);
	note_problem();
}

const char *
elector_slots_problem(void)
{
	return problem;
}

/* --- the process --- */

/*
 * ReplicationSlotRelease(), without its mark.  If the slot could not be written, the
 * next checkpoint will.
 */
static void
let_go(ReplicationSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	slot->active_pid = 0;
	slot->data.persistency = RS_PERSISTENT;
	SpinLockRelease(&slot->mutex);
	MyReplicationSlot = NULL;
	ConditionVariableBroadcast(&slot->active_cv);
}

static void
create(const char *name)
{
	ReplicationSlot *slot;

	ReplicationSlotCreate(name, false, RS_EPHEMERAL, false);
	slot = MyReplicationSlot;
	PG_TRY();
	{
		namestrcpy(&slot->data.plugin, SLOT_MARK);
		ReplicationSlotReserveWal();
		ReplicationSlotPersist();
	}
	PG_FINALLY();
	{
		let_go(slot);
	}
	PG_END_TRY();
	ereport(LOG,
			(errmsg("created replication slot \"%s\"", name),
			 errdetail("It keeps WAL from %X/%X on.",
					   LSN_FORMAT_ARGS(slot->data.restart_lsn))));
}

static void
drop(const char *name)
{
	ReplicationSlotDrop(name, true);
	ereport(LOG,
			(errmsg("dropped replication slot \"%s\"", name)));
}

static SlotDeed
judge_by_number(int number, char *name)
{
	ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[number];
	SlotDeed	deed = SLOT_KEEP;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	if (is_ours(slot))
	{
		deed = judge(slot);
		strlcpy(name, NameStr(slot->data.name), NAMEDATALEN);
	}
	LWLockRelease(ReplicationSlotControlLock);
	return deed;
}

static void
end_slots(void)
{
	char		name[NAMEDATALEN];

	for (int i = 0; i < max_replication_slots; i++)
	{
		CHECK_FOR_INTERRUPTS();
		switch (judge_by_number(i, name))
		{
			case SLOT_KEEP:
			case SLOT_MOVE:
			case SLOT_LEAVE:
				break;
			case SLOT_DROP:
				drop(name);
				break;
			case SLOT_RENEW:
				drop(name);
				create(name);
				break;
		}
	}
}

static bool
has_unused_slot(void)
{
	bool		found = false;

	LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
	for (int i = 0; i < max_replication_slots && !found; i++)
		found = !ReplicationSlotCtl->replication_slots[i].in_use;
	LWLockRelease(ReplicationSlotControlLock);
	return found;
}

void
elector_slots_main(Datum argument)
{
	/* Not the handler of background workers, which ends them anywhere. */
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();

	LWLockAcquire(elector_shared->lock, LW_SHARED);
	memcpy(wanted, elector_shared->slots, sizeof(wanted));
	nwanted = elector_shared->nslots;
	settled = elector_shared->slots_settled;
	drop_others = elector_shared->drop_slots;
	LWLockRelease(elector_shared->lock);

	end_slots();
	for (int i = 0; i < nwanted; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (SearchNamedReplicationSlot(wanted[i].name, true) == NULL && has_unused_slot())
			create(wanted[i].name);
	}
	proc_exit(0);
}
