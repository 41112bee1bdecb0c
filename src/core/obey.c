/*
 * obey.c
 *	  What this node does when it is fenced or chosen, and what it answers.
 *
 * Being fenced takes several rounds: remember the term durably, close the gate
 * or drop the upstream, wait for the last commits or for the walreceiver, find
 * the position.
 *
 * The trap: a fence is answered only when it is complete.  A node that cannot
 * complete it does not answer, and then counts as not fenced (S2, S5).
 */
#include "elector.h"
#include "name.h"
#include "rules.h"

#include <string.h>

/* How often an unfinished fence is looked at. */
#define FENCE_INTERVAL 5000

static void
fill_answer(Elector *elector, ElectorAnswerKind kind, ElectorAnswer *answer)
{
	ElectorTime reference = elector->gone_since != 0 ? elector->gone_since :
	elector->ports->now(elector->world);
	bool		primary = !elector->server.recovering;

	memset(answer, 0, sizeof(*answer));
	answer->kind = kind;
	elector_copy(answer->instance, elector->instance, sizeof(answer->instance));
	elector_copy(answer->directory, elector->state.directory, sizeof(answer->directory));
	answer->kept_term = elector->state.term;
	answer->remembered = elector->remembered;
	answer->kept_timeline = elector->ports->newest_timeline(elector->world,
															elector->state.timeline);
	answer->position = elector->position;
	answer->primary = primary;
	answer->counts = elector->fence_counts; /* S10 */
	answer->candidate = elector->settings.candidate && elector->state.stray == 0;	/* S18 */
	answer->priority = elector->settings.priority;
	answer->etcd = elector->unreachable_since == 0 &&
		elector->view.refusal == ELECTOR_REFUSAL_NONE;

	/*
	 * The leader's key outlives it by up to a TTL, and it was last asked up
	 * to a third of one before that.
	 */
	answer->lag_known = primary ||
		(elector->leader_told_at != 0 &&
		 elector->leader_told_at + 2 * elector->settings.lease_ttl >= reference);
	answer->lag = primary || elector->leader_end <= elector->position.lsn ? 0 :
		(int64_t) (elector->leader_end - elector->position.lsn);
}

/* Our own election asked us, too. */
static void
answer_self(Elector *elector, ElectorAnswerKind kind)
{
	ElectorSaid *said = elector_said(elector, elector->settings.node);

	if (!elector->fence_self || said == NULL)
		return;
	elector->fence_self = false;
	fill_answer(elector, kind, &said->answer);
}

static bool
is_fenced_for(const Elector *elector, const ElectorFenceRequest *request)
{
	return elector->fence_stage != ELECTOR_FENCE_IDLE &&
		elector->fenced.term == request->term &&
		elector->fenced.token == request->token;
}

/* It cannot be obeyed before a promise is over (S8). */
static bool
waits(const Elector *elector, const ElectorFenceRequest *request)
{
	return elector->fence_waits && elector->waiting.term == request->term &&
		elector->waiting.token == request->token;
}

bool
elector_fence_answer(Elector *elector, const ElectorFenceRequest *request,
					 ElectorAnswer *answer)
{
	if (is_fenced_for(elector, request))
	{
		if (elector->fence_stage != ELECTOR_FENCE_DONE)
			return false;
		fill_answer(elector, ELECTOR_ANSWER_FENCED, answer);
	}
	else if (waits(elector, request))
		return false;
	else
	{
		/* Not obeyed, or overtaken by something newer. */
		fill_answer(elector, ELECTOR_ANSWER_REFUSED, answer);
	}
	return true;
}

void
elector_take_fence(Elector *elector, const ElectorFenceRequest *request)
{
	ElectorState *state = &elector->state;

	elector_observe(elector);
	switch (elector_judge_fence(&elector->view, request))
	{
		case ELECTOR_FENCE_OBEY:
			break;
		case ELECTOR_FENCE_PROMISED:
			elector->fence_waits = true;
			elector->waiting = *request;
			elector->waiting_since = elector->view.now;
			elector_poll(elector, 0);
			return;
		case ELECTOR_FENCE_OLD_TERM:
		case ELECTOR_FENCE_TERM_IN_USE:
			return;
	}
	if (is_fenced_for(elector, request))
		return;					/* asked again; elector_obey_step() goes on */

	elector->fence_counts = elector_state_counts(state, request->opened_term);
	if (!elector->fence_counts)
		state->caught_up = false;
	state->term = request->term;
	state->token = request->token;
	elector->fence_void = false;
	elector_close_gate(elector);
	elector->ordered = false;
	if (ELECTOR_RULE(DURABLE_FENCE))
		elector_save_state(elector);

	elector->fenced = *request;
	elector->fenced_since = elector->view.now;
	elector->fence_stage = elector->view.recovering ? ELECTOR_FENCE_FREEZING :
		ELECTOR_FENCE_DRAINING;
	elector_poll(elector, 0);
	elector_note_term(elector, ELECTOR_NOTE_FENCED, request->term);
}

void
elector_fence_self(Elector *elector, const ElectorFenceRequest *request)
{
	elector->fence_self = true;
	elector_take_fence(elector, request);
	if (!is_fenced_for(elector, request) && !waits(elector, request))
		answer_self(elector, ELECTOR_ANSWER_REFUSED);
}

/* Close the gate, wait for the commits that passed it, end the rest. */
static bool
drain(Elector *elector)
{
	const ElectorView *view = &elector->view;

	elector_close_gate(elector);
	if (elector->ports->drained(elector->world) || !ELECTOR_RULE(DRAIN))
	{
		/* The commits that have just ended are in the position. */
		elector->ports->look(elector->world, &elector->server);
		elector->position = elector->server.position;
		return true;
	}
	if (view->now >= elector->fenced_since + view->fence_timeout / 4)
		elector->ports->terminate(elector->world);
	return false;
}

void
elector_obey_step(Elector *elector)
{
	switch (elector->fence_stage)
	{
		case ELECTOR_FENCE_IDLE:
			return;
		case ELECTOR_FENCE_FREEZING:
			if (!elector->view.recovering)
			{
				elector->fence_stage = ELECTOR_FENCE_DRAINING;
				elector_poll(elector, 0);
				return;
			}
			/* A promotion under way ends by a restart, and so does this (S12). */
			if ((elector->view.promoting && ELECTOR_RULE(PROMOTION_OF_THIS_TERM)) ||
				!elector->ports->freeze(elector->world, &elector->position))
			{
				elector_poll(elector, FENCE_INTERVAL);
				return;
			}
			break;
		case ELECTOR_FENCE_DRAINING:
			if (!drain(elector))
			{
				elector_poll(elector, FENCE_INTERVAL);
				return;
			}
			break;
		case ELECTOR_FENCE_DONE:
			break;
	}
	elector->fence_stage = ELECTOR_FENCE_DONE;
	answer_self(elector, ELECTOR_ANSWER_FENCED);
}

bool
elector_take_order(Elector *elector, const ElectorOrder *order)
{
	elector_observe(elector);
	if (elector->fence_stage != ELECTOR_FENCE_DONE ||
		!elector_accept_order(&elector->view, order->term, order->token,
							  order->instance, order->position))
		return false;
	elector->order = *order;
	elector->ordered = true;
	elector_poll(elector, 0);
	return true;
}
