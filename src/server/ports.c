/*
 * ports.c
 *	  The elector's ports to the server it lives in: recovery, the gate, the
 *	  disk, the log.
 *
 * Nothing is decided here.  The freezing, following and promoting of a standby
 * is in standby.c, the gate as backends see it in gate.c, the files in store.c.
 */
#include "worker.h"

#include <signal.h>
#include <sys/time.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/controldata_utils.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "postmaster/bgwriter.h"
#include "replication/walreceiver.h"
#include "utils/timestamp.h"

#include "core/files.h"
#include "standby.h"
#include "store.h"
#include "synchronous.h"

static ElectorTime
port_now(void *world)
{
	return elector_now();
}

static int64_t
port_wall_ms(void *world)
{
	struct timeval wall;

	gettimeofday(&wall, NULL);
	return (int64) wall.tv_sec * 1000 + wall.tv_usec / 1000;
}

static double
port_lot(void *world)
{
	return pg_prng_double(&pg_global_prng_state);
}

/* --- the log --- */

static void
note_plan(const ElectorPlan *plan)
{
	const ElectorView *view = &elector_worker->elector.view;

	if (view->known && view->refusal != ELECTOR_REFUSAL_NONE)
		ereport(WARNING,
				(errmsg("node \"%s\" is refused by cluster \"%s\": %s",
						elector_node, elector_cluster,
						elector_reason_sentence(plan->reason))));
	else
		ereport(LOG,
				(errmsg("%s: %s", elector_action_name(plan->action),
						elector_reason_sentence(plan->reason))));
}

static void
port_note(void *world, const ElectorNote *note)
{
	switch (note->kind)
	{
		case ELECTOR_NOTE_PLAN:
			note_plan(&elector_worker->elector.plan);
			break;
		case ELECTOR_NOTE_LATE:
			ereport(LOG,
					(errmsg("the elector was stopped for %s; it looks anew before it acts",
							note->text)));
			break;
		case ELECTOR_NOTE_ETCD_SILENT:
			ereport(LOG,
					(errmsg("cannot use etcd: %s", note->text)));
			break;
		case ELECTOR_NOTE_ETCD_BACK:
			ereport(LOG,
					(errmsg("etcd can be used again, at \"%s\"", note->text)));
			break;
		case ELECTOR_NOTE_ETCD_REFUSED:
			ereport(DEBUG1,
					(errmsg_internal("etcd refused: %s", note->text)));
			break;
		case ELECTOR_NOTE_LEASE_ENDED:
			ereport(LOG,
					(errmsg("the leader's lease has ended in etcd")));
			break;
		case ELECTOR_NOTE_FAILSAFE_BEGINS:
			ereport(LOG,
					(errmsg("failsafe: etcd has not confirmed the lease of term " UINT64_FORMAT ", and the members' promises take its place",
							note->term)));
			break;
		case ELECTOR_NOTE_FAILSAFE_ENDS:
			ereport(LOG,
					(errmsg("failsafe ends: %s", note->text)));
			break;
		case ELECTOR_NOTE_KEY_REPAIRED:
			ereport(LOG,
					(errmsg("the leader key in etcd was overwritten; it is put right")));
			break;
		case ELECTOR_NOTE_FENCED:
			ereport(LOG,
					(errmsg("fenced for term " UINT64_FORMAT, note->term)));
			break;
		case ELECTOR_NOTE_GATE_CLOSED:
			ereport(LOG,
					(errmsg("gate closed in term " UINT64_FORMAT, note->term)));
			break;
		case ELECTOR_NOTE_GATE_OPENED:
			ereport(LOG,
					(errmsg("leadership of term " UINT64_FORMAT " is open", note->term),
					 errdetail("This node is the primary of cluster \"%s\" on timeline %u.",
							   elector_cluster,
							   elector_worker->elector.order.timeline)));
			break;
		case ELECTOR_NOTE_NOT_ESTABLISHED:
			ereport(LOG,
					(errmsg("node \"%s\" could not be established: %s",
							note->node, note->text)));
			break;
		case ELECTOR_NOTE_DEGRADED:
			ereport(WARNING,
					(errmsg("too few followers for durability \"%s\": commits are acknowledged by this node alone",
							elector_durability),
					 errhint("It ends by itself when they are back; elector_durability shows who is missing.")));
			break;
		case ELECTOR_NOTE_RESTORED:
			ereport(LOG,
					(errmsg("durability \"%s\" is being restored", elector_durability)));
			break;
		case ELECTOR_NOTE_CANCELED:
			ereport(LOG,
					(errmsg("the requested switchover does not take place: %s",
							note->text)));
			break;
		case ELECTOR_NOTE_CANNOT_FOLLOW:
			ereport(LOG,
					(errmsg("cannot follow the leader: its connection string cannot be used")));
			break;
		case ELECTOR_NOTE_MISLED:
			ereport(WARNING,
					(errmsg("\"pg_elector.conninfo\" of node \"%s\" leads to node \"%s\"",
							note->node, note->text),
					 errdetail("The node counts as one that does not answer.")));
			break;
	}
}

/* --- the peers --- */

static void
port_ask(void *world, const char *node, ElectorQuestion question, const void *argument)
{
	char		text[ELECTOR_CALL_SIZE] = "";
	bool		fits = true;

	switch (question)
	{
		case ELECTOR_ASK_FENCE:
			fits = elector_fence_format(argument, text, sizeof(text));
			break;
		case ELECTOR_ASK_ESTABLISH:
			fits = elector_order_format(argument, text, sizeof(text));
			break;
		case ELECTOR_ASK_PROMISE:
			fits = elector_promise_request_format(argument, text, sizeof(text));
			break;
		case ELECTOR_ASK_REPORT:
		case ELECTOR_QUESTIONS:
			break;
	}
	if (fits)
		elector_peers_ask(node, question, text);
}

static void
port_forget(void *world, ElectorQuestion question)
{
	elector_peers_forget(question);
}

static void
port_disconnect(void *world, const char *node)
{
	elector_peers_disconnect(node);
}

static ElectorTime
port_silent_since(void *world, const char *node)
{
	return elector_peers_silent_since(node);
}

/* --- the server --- */

static void
port_look(void *world, ElectorServer *server)
{
	memset(server, 0, offsetof(ElectorServer, followers));
	server->recovering = RecoveryInProgress();
	server->opened_term = pg_atomic_read_u64(&elector_shared->opened_term);
	if (server->recovering)
	{
		server->frozen = elector_standby_frozen();
		server->target_timeline = elector_standby_target();
		server->promoting = elector_standby_promoting();
		server->position = elector_standby_position();
		server->upstream_term = pg_atomic_read_u64(&elector_shared->upstream_term);
		server->streaming = WalRcvStreaming();
		if (server->streaming)
		{
			/*
			 * A walreceiver counts what it flushes from where a segment begins, and
			 * nothing that was there already before there is more.  So what is replayed
			 * is on disk, too.
			 */
			server->flushed = Max(GetWalRcvFlushRecPtr(NULL, NULL), GetXLogReplayRecPtr(NULL));
			elector_look_at_stream(&server->told_end, &server->told_at);
		}
	}
	else
	{
		server->position.timeline = GetWALInsertionTimeLine();
		server->position.lsn = GetFlushRecPtr(NULL);
		elector_drain_look();
	}
	elector_synchronous_look(server);
	elector_disk_look(server);

	/* Nobody is to choose it meanwhile. */
	elector_worker->elector.settings.candidate =
		elector_candidate && !server->disk_stuck;
}

static bool
port_freeze(void *world, ElectorPosition *position)
{
	return elector_standby_freeze(position);
}

static bool
port_follow(void *world, const char *conninfo, uint64_t term)
{
	return elector_standby_follow(conninfo, term);
}

static void
port_promote(void *world, uint32_t timeline)
{
	elector_standby_promote(timeline);
}

static void
port_read_history(void *world, ElectorTerm *term)
{
	term->lsn = elector_standby_ancestors(term->timeline, term->ancestors, &term->nancestors);
}

static uint32_t
port_newest_timeline(void *world, uint32_t own)
{
	return elector_standby_newest_timeline(own);
}

static void
port_forget_timeline(void *world, uint32_t timeline)
{
	elector_standby_forget_timeline(timeline);
}

static void
port_wake(void *world)
{
	elector_standby_wake();
}

/* Where the last checkpoint is, by the control file. */
static XLogRecPtr
last_checkpoint(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	XLogRecPtr	checkpoint = crc_ok ? control->checkPoint : InvalidXLogRecPtr;

	pfree(control);
	return checkpoint;
}

static bool
port_checkpoint(void *world, bool begin)
{
	static XLogRecPtr before;

	if (begin)
	{
		before = last_checkpoint();
		RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE);
	}
	return last_checkpoint() != before;
}

static bool
port_drain(void *world, ElectorTime until)
{
	elector_drain_begin(until);
	return elector_drain_done();
}

static void
port_restart(void *world, const ElectorTodo *todo, ElectorStop how)
{
	elector_store_write_todo(todo);
	if (how == ELECTOR_STOP_FAST && !RecoveryInProgress())
		elector_drain_walsenders();
	kill(PostmasterPid, how == ELECTOR_STOP_IMMEDIATE ? SIGQUIT : SIGINT);
}

static bool
port_set_names(void *world, const char *names)
{
	return elector_synchronous_set(names);
}

/* --- the clients that come by PgBouncer --- */

static bool
port_pause_clients(void *world, ElectorTime patience)
{
	return elector_pgbouncer_pause(patience);
}

static void
port_resume_clients(void *world)
{
	elector_pgbouncer_resume();
}

/* --- the gate --- */

static void
port_set_gate(void *world, ElectorTime deadline)
{
	pg_atomic_write_u64(&elector_shared->gate_deadline, deadline);
	if (deadline == 0)
	{
		pg_memory_barrier();
		elector_gate_end_replication();
	}
}

static void
port_set_opened(void *world, uint64_t term)
{
	pg_atomic_write_u64(&elector_shared->opened_term, term);
}

static void
port_set_led(void *world, uint64_t term)
{
	pg_atomic_write_u64(&elector_shared->led_term, term);
}

static void
port_set_reads(void *world, ElectorTime deadline)
{
	pg_atomic_write_u64(&elector_shared->read_deadline, deadline);
}

static bool
port_drained(void *world)
{
	return elector_gate_drained();
}

static void
port_terminate(void *world)
{
	elector_gate_terminate();
}

/* --- the disk --- */

static void
port_save_state(void *world, const ElectorState *state)
{
	elector_store_write_state(state);
}

static void
port_save_leadership(void *world, const ElectorLeadership *leadership)
{
	if (leadership != NULL)
		elector_store_write_leadership(leadership);
	else
		elector_store_remove(ELECTOR_LEADERSHIP_FILE);
}

static void
port_forget_problem(void *world)
{
	elector_store_remove(ELECTOR_PROBLEM_FILE);
}

static const ElectorPorts ports = {
	.now = port_now,
	.wall_ms = port_wall_ms,
	.lot = port_lot,
	.note = port_note,
	.run = elector_errands_run,
	.ask = port_ask,
	.forget = port_forget,
	.disconnect = port_disconnect,
	.silent_since = port_silent_since,
	.look = port_look,
	.freeze = port_freeze,
	.follow = port_follow,
	.promote = port_promote,
	.read_history = port_read_history,
	.newest_timeline = port_newest_timeline,
	.forget_timeline = port_forget_timeline,
	.wake = port_wake,
	.checkpoint = port_checkpoint,
	.drain = port_drain,
	.restart = port_restart,
	.set_names = port_set_names,
	.pause_clients = port_pause_clients,
	.resume_clients = port_resume_clients,
	.set_gate = port_set_gate,
	.set_opened = port_set_opened,
	.set_led = port_set_led,
	.set_reads = port_set_reads,
	.drained = port_drained,
	.terminate = port_terminate,
	.save_state = port_save_state,
	.save_leadership = port_save_leadership,
	.forget_problem = port_forget_problem
};

/* The settings, as they are now. */
void
elector_ports_settings(Elector *elector)
{
	ElectorSettings *settings = &elector->settings;

	strlcpy(settings->node, elector_node, sizeof(settings->node));
	strlcpy(settings->conninfo, elector_conninfo, sizeof(settings->conninfo));
	strlcpy(settings->zone, elector_zone, sizeof(settings->zone));
	strlcpy(settings->version, ELECTOR_VERSION, sizeof(settings->version));
	settings->system = GetSystemIdentifier();
	settings->priority = elector_priority;
	settings->candidate = elector_candidate;
	settings->lease_ttl = (ElectorTime) elector_lease_ttl * 1000000;
	settings->lease_margin = (ElectorTime) elector_lease_margin * 1000;
	settings->fence_timeout = (ElectorTime) elector_fence_timeout * 1000;
	settings->cold_start_wait = (ElectorTime) elector_cold_start_wait * 1000;
	settings->failover_cooldown = (ElectorTime) elector_failover_cooldown * 1000;
	strlcpy(settings->durability, elector_durability, sizeof(settings->durability));
	settings->follower_timeout = (ElectorTime) elector_follower_timeout * 1000;
	settings->degrade_after = (ElectorTime) elector_degrade_after * 1000;
	settings->may_degrade = elector_too_few_followers == ELECTOR_DEGRADE;
	settings->drain_timeout = (ElectorTime) elector_drain_timeout * 1000;
	settings->maximum_lag = elector_maximum_lag < 0 ? -1 :
		(int64_t) elector_maximum_lag * 1024;
	settings->may_rejoin = elector_rejoin != ELECTOR_REJOIN_OFF;
	settings->may_clone = elector_rejoin == ELECTOR_REJOIN_CLONE;
	settings->failsafe = elector_failsafe;
}

void
elector_ports_init(Elector *elector)
{
	elector->ports = &ports;
	elector->world = NULL;
	elector_ports_settings(elector);
}
