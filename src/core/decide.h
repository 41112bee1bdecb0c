/*
 * decide.h
 *	  What to do: the one signature between knowing and acting.
 *
 * See decide.c.
 */
#ifndef ELECTOR_DECIDE_H
#define ELECTOR_DECIDE_H

#include "view.h"

/* Every action may be carried out twice without harm. */
typedef enum ElectorAction
{
	ELECTOR_WAIT,				/* nothing until plan.again or an event */
	ELECTOR_REGISTER,			/* enter system, members/, alive/ */
	ELECTOR_CLOSE,				/* close the gate */
	ELECTOR_RESIGN,				/* give up our leader key, in our own words */
	ELECTOR_LAPSE,				/* close the gate, and let the lease end */
	ELECTOR_ASK_CHANGE,			/* request a switchover ourselves */
	ELECTOR_RELEASE,			/* give up a dead predecessor's leader key */
	ELECTOR_FREEZE,				/* follow nobody; find our own position */
	ELECTOR_FOLLOW,				/* stream from the leader */
	ELECTOR_DEMOTE,				/* restart as a standby */
	ELECTOR_REJOIN,				/* rewind, or else clone, from the leader */
	ELECTOR_CLONE,				/* clone from the leader */
	ELECTOR_LOCK,				/* take the election lock */
	ELECTOR_UNLOCK,				/* give it back */
	ELECTOR_CHECK_LEASE,		/* ask etcd how the leader's lease, or that of
								 * the last one, lives */
	ELECTOR_EXPIRE,				/* revoke the leader's lease, whose time is
								 * over */
	ELECTOR_NOTE_BLOCKED,		/* record that no election may begin, and why */
	ELECTOR_FENCE,				/* fence all members for plan.term */
	ELECTOR_ESTABLISH,			/* tell plan.target to establish itself */
	ELECTOR_DROP_ORDER,			/* forget that an elector chose us */
	ELECTOR_TAKE,				/* win the leader key as we were told */
	ELECTOR_PROMOTE,			/* promote the server to term.timeline */
	ELECTOR_SET_NAMES,			/* have synchronous_standby_names loaded */
	ELECTOR_BEGIN,				/* record where the term begins, so that
								 * others may follow */
	ELECTOR_CHANGE_RULE,		/* record another durability rule */
	ELECTOR_SET_FAILSAFE,		/* record who has to promise */
	ELECTOR_RETAKE,				/* take our leader key again, in the same term */
	ELECTOR_OPEN,				/* record that the term is open, open the gate */
	ELECTOR_CHECKPOINT,			/* ahead of a planned stop */
	ELECTOR_PAUSE_CLIENTS,		/* hold those back that come by a pooler */
	ELECTOR_DRAIN,				/* let running transactions end, new ones wait */
	ELECTOR_HANDOVER,			/* stop in favour of plan.target */
	ELECTOR_CANCEL				/* drop the request for a planned change */
} ElectorAction;

/* Reasons are one table, in reasons.c: enum, name, sentence for the log. */
typedef enum ElectorReason
{
#define ELECTOR_REASON(symbol, name, sentence) symbol,
#include "reasons.h"
#undef ELECTOR_REASON
	ELECTOR_REASON_COUNT
} ElectorReason;

typedef struct ElectorPlan
{
	ElectorAction action;
	ElectorReason reason;
	uint64_t	term;			/* the term this plan is valid for */
	int			target;			/* index of a peer, or -1 */
	ElectorTime again;			/* decide again at this time; 0: on events
								 * only */
} ElectorPlan;

extern ElectorPlan elector_decide(const ElectorView *view);

extern const char *elector_action_name(ElectorAction action);
extern const char *elector_reason_name(ElectorReason reason);
extern const char *elector_reason_sentence(ElectorReason reason);

/*
 * Is the position on the history that the term record describes?  If not, the
 * node that holds it has WAL the leader does not have (S1).
 */
extern bool elector_position_on_history(ElectorPosition position,
										const ElectorTerm *term);

/*
 * A fence arrives.  May this node obey it (I3, S11)?  after_term is the newest
 * term that opened, as the elector knows it.
 */
typedef enum ElectorFenceVerdict
{
	ELECTOR_FENCE_OBEY,
	ELECTOR_FENCE_OLD_TERM,		/* below what was obeyed before */
	ELECTOR_FENCE_PROMISED,		/* not before a promise is over (S8) */
	ELECTOR_FENCE_TERM_IN_USE	/* not above a term this node leads or
								 * follows, or once did */
} ElectorFenceVerdict;

extern ElectorFenceVerdict elector_judge_fence(const ElectorView *view,
											   const ElectorFenceRequest *request);

/*
 * Do a node's answers count, or has it (or may it have) forgotten what it once
 * acknowledged (S10)?
 */
extern bool elector_state_counts(const ElectorState *state, uint64_t opened_term);

/*
 * The server is, or was when it ended, a primary on this timeline.  One that was
 * not allotted to it was taken by hand (S18).  True if that is news.
 */
extern bool elector_state_note_primary(ElectorState *state, uint32_t timeline);

/*
 * The data directory was replaced by a clone.  It holds less than the node may
 * have acknowledged before, so its answers do not count until it has caught up
 * (S10); and it is on no timeline of its own any more (S18).
 */
extern void elector_state_clone(ElectorState *state);

/*
 * Is the server that wrote this state our dead predecessor?  So it is if the
 * machine has not been booted since and the data directory is the same one; that
 * the predecessor is dead is PostgreSQL's own interlock's word (S9).  now is what
 * this server would write.
 */
extern bool elector_is_predecessor(const ElectorState *state, const ElectorState *now);

/*
 * An order to establish itself arrives.  position is what this node answered
 * to the fence (S10).
 */
extern bool elector_accept_order(const ElectorView *view, uint64_t term,
								 int64_t token, const char *instance,
								 ElectorPosition position);

/* <0, 0, >0: by timeline, then by LSN. */
extern int	elector_position_compare(ElectorPosition a, ElectorPosition b);

/*
 * The member to establish, from the answers; -1 if there is none.  unknown_lag
 * admits members whose lag is not known.  *blocked then says what is in the
 * way.
 */
extern int	elector_choose(const ElectorView *view, bool unknown_lag,
						   ElectorReason *blocked);

/*
 * The member to hand over to, from the reports; -1 if there is none, and *blocked
 * says why.  target is "" or the member that it is to be.
 */
extern int	elector_choose_heir(const ElectorView *view, const char *target,
								ElectorReason *blocked);

/*
 * May a switchover to target ("": the best) be asked for now, of the leader that
 * the view shows?  The member it would go to, or -1 and why not.
 */
extern int	elector_judge_switchover(const ElectorView *view, const char *target,
									 ElectorReason *why);

/*
 * The hold of that number, or with 0 any, that is good in this term and at this time (in
 * milliseconds since 1970); its index, or -1.
 */
extern int	elector_find_hold(const ElectorClusterSettings *settings, uint64_t term,
							  int64_t at, int64_t id);

/* Is a planned change of the leader under way, and not only scheduled? */
extern bool elector_is_changing(const ElectorView *view);

/* Likewise for a failover that an operator asks for. */
extern bool elector_judge_failover(const ElectorView *view, const char *target,
								   ElectorReason *why);

/* May a member be forgotten?  Not one that is there, nor one whose commits may be needed. */
extern bool elector_judge_removal(const ElectorView *view, const char *node,
								  ElectorReason *why);

/* While the cluster is paused, only the last leader leads again (L8). */
extern bool elector_may_lead(bool paused, const ElectorTerm *term, const char *node);

/*
 * Is the last leadership proven over (I4)?  Under failsafe its lease is no proof alone
 * (failsafe.h).
 */
extern bool elector_is_over(const ElectorView *view);

/* The member's index, or -1. */
extern int	elector_find_peer(const ElectorView *view, const char *node);

/* Has the last leader said that it wrote more than this? */
extern bool elector_lacks_rows(const ElectorTerm *term, ElectorPosition position);

/* The timeline to allot to a new leadership (I9, S15). */
extern uint32_t elector_next_timeline(const ElectorView *view);

#endif							/* ELECTOR_DECIDE_H */
