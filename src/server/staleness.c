/*
 * staleness.c
 *	  How old may what a standby shows be (pg_elector.max_staleness)?
 *
 * Where there is a bound, the worker of a follower asks the leader again and again
 * where its WAL ends.  Once that is replayed here, nothing is missing that was
 * committed when the question was sent; that time is what backends compare with.
 * One clock is enough for it, and an idle leader looks no older than a busy one.
 *
 * The trap: the answer must come from who leads the term that is followed here, with
 * its gate open when it answered.  Another's WAL proves nothing.
 */
#include "library.h"

#include "access/xlogrecovery.h"

#include "peers.h"
#include "standby.h"
#include "worker.h"

/* So many answers wait to be replayed; a lag of that many questions is told exactly. */
#define ANSWERS_MAX 16

/* How often the leader is asked, and replay is looked at, within the bound. */
#define QUESTIONS_PER_BOUND 8
#define INTERVAL_MIN ((ElectorTime) 20000)
#define INTERVAL_MAX ((ElectorTime) 1000000)

typedef struct FreshAnswer
{
	ElectorTime asked_at;
	XLogRecPtr	end;
} FreshAnswer;

static FreshAnswer answers[ANSWERS_MAX];
static int	nanswers = 0;
static uint64 asked_term = 0;	/* they are of its leader */
static ElectorTime ask_at = 0;

/* The oldest come first, and end first. */
static void
drop_answers(int count)
{
	nanswers -= count;
	memmove(answers, answers + count, nanswers * sizeof(answers[0]));
}

/* What has been replayed meanwhile. */
static void
look_at_replay(void)
{
	XLogRecPtr	replayed = GetXLogReplayRecPtr(NULL);
	int			reached = 0;

	while (reached < nanswers && answers[reached].end <= replayed)
		reached++;
	if (reached == 0)
		return;
	pg_atomic_write_u64(&elector_shared->fresh_at, answers[reached - 1].asked_at);
	drop_answers(reached);
}

void
elector_staleness_told(const char *node, const ElectorReport *report)
{
	const ElectorLeader *leader = &elector_worker->mirror.cluster.leader;
	uint64		followed = pg_atomic_read_u64(&elector_shared->upstream_term);

	if (elector_max_staleness == 0 || !report->leads || followed == 0 ||
		report->term != followed || asked_term != followed ||
		!leader->present || strcmp(leader->node, node) != 0 ||
		strcmp(leader->instance, report->instance) != 0 || nanswers == ANSWERS_MAX)
		return;
	answers[nanswers].asked_at = elector_peers_asked_at(node);
	answers[nanswers].end = report->lsn;
	nanswers++;
	look_at_replay();
}

ElectorTime
elector_staleness_step(ElectorTime now)
{
	const ElectorLeader *leader = &elector_worker->mirror.cluster.leader;
	uint64		followed = pg_atomic_read_u64(&elector_shared->upstream_term);
	ElectorTime interval = (ElectorTime) elector_max_staleness * 1000 / QUESTIONS_PER_BOUND;

	interval = Min(Max(interval, INTERVAL_MIN), INTERVAL_MAX);
	if (followed != asked_term)
	{
		asked_term = followed;
		nanswers = 0;
		ask_at = 0;
	}
	if (elector_max_staleness == 0 || followed == 0 || !RecoveryInProgress())
		return now + 3600 * (ElectorTime) 1000000;
	look_at_replay();
	if (now >= ask_at)
	{
		if (leader->present && leader->term == followed)
			elector_peers_ask(leader->node, ELECTOR_ASK_REPORT, "");
		ask_at = now + interval;
	}
	return nanswers > 0 ? Min(ask_at, now + interval / 4) : ask_at;
}
