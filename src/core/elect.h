/*
 * elect.h
 *	  Shared by the files of the decision; nobody else includes it.
 */
#ifndef ELECTOR_ELECT_H
#define ELECTOR_ELECT_H

#include "decide.h"

extern ElectorPlan elector_plan(const ElectorView *view, ElectorAction action,
								ElectorReason reason);
extern ElectorPlan elector_plan_wait(const ElectorView *view,
									 ElectorReason reason, ElectorTime again);

/* Any two numbers may come from etcd, so no difference is taken. */
extern int	elector_priority_compare(int32_t a, int32_t b);

/* Is this very server the newest leader on record? */
extern bool elector_led_last(const ElectorView *view);

/* There is no leader: wait for one, or run an election. */
extern ElectorPlan elector_decide_election(const ElectorView *view);

/* Is there a request for a planned change that has not come to nothing? */
extern bool elector_is_requested(const ElectorView *view);

/* Has an operator asked for another leader than the last one, at any price? */
extern bool elector_is_overridden(const ElectorView *view);

/* This node leads and was asked to hand over. */
extern ElectorPlan elector_decide_handover(const ElectorView *view);

#endif							/* ELECTOR_ELECT_H */
