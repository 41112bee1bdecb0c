/*
 * keep.c
 *	  What WAL a node need not keep for the others.
 *
 * Every node keeps WAL for every member in a replication slot (server/slots.c),
 * since it may be the next leader.  What a member reports of itself tells how much
 * it has.
 *
 * The trap: an LSN says nothing without its history.  A member that went another
 * way reports WAL that this node's history does not have, and has to come back to
 * where the two part, which may be far before that.
 */
#include "keep.h"
#include "decide.h"

/* Is this node on the history of the newest term? */
static bool
on_newest_history(const ElectorView *view)
{
	if (!view->term.present || !view->term.begun)
		return false;
	return view->recovering ? view->upstream_term == view->term.term :
		view->gate_open && view->leader.present && view->leader.term == view->term.term;
}

ElectorLsn
elector_keep_from(const ElectorView *view, int i)
{
	const ElectorPeerView *peer = &view->peers[i];

	if (!on_newest_history(view) || peer->reported_at == 0 ||
		!elector_position_on_history(peer->position, &view->term))
		return 0;
	return peer->position.lsn;
}

bool
elector_keep_settled(const ElectorView *view)
{
	return view->known && view->registered && view->refusal == ELECTOR_REFUSAL_NONE &&
		view->leader.present && view->term.opened &&
		view->leader.term == view->term.term && on_newest_history(view);
}
