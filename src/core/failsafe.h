/*
 * failsafe.h
 *	  Leading without etcd, by promises of the members.
 *
 * See failsafe.c.
 */
#ifndef ELECTOR_FAILSAFE_H
#define ELECTOR_FAILSAFE_H

#include "decide.h"

extern void elector_failsafe_copy(ElectorFailsafe *to, const ElectorFailsafe *from);

/* Keep those that are in the other record, too. */
extern void elector_failsafe_common(ElectorFailsafe *to, const ElectorFailsafe *other);

/* Add those of the other record; false if there is no room. */
extern bool elector_failsafe_add(ElectorFailsafe *to, const ElectorFailsafe *more);

/* --- the leader --- */

/* Until when enough have promised; 0: too few have, or it does not matter. */
extern ElectorTime elector_failsafe_until(const ElectorView *view);

/* Who has not, for the operator: as many as fit, separated by commas. */
extern void elector_failsafe_missing(const ElectorView *view, char *missing, size_t size);

/* Its key is gone, and nobody else has led since: may it take the key again? */
extern bool elector_failsafe_may_retake(const ElectorView *view);

/*
 * What an open leader does about the record: nothing (WAIT, reason LEADING), or
 * SET_FAILSAFE to *record, which is filled only then; absent, it is to be deleted.
 */
extern ElectorPlan elector_failsafe_plan(const ElectorView *view, ElectorFailsafe *record);

/* --- who promises --- */

/* May this node give that promise? */
extern bool elector_failsafe_may_promise(const ElectorView *view,
										 const ElectorPromiseRequest *request);

/*
 * Is it bound by one?  over is the newest leadership that the asker knows to be over in
 * its leader's own words, or to have been followed by another.
 */
extern bool elector_failsafe_binds(const ElectorView *view, uint64_t over);

/* --- elections --- */

/* The old leader's lease is gone.  Does it not go on by promises, either (I4)? */
extern bool elector_failsafe_over(const ElectorView *view);

/* Would an election prove that, if all that are there answer it? */
extern bool elector_failsafe_to_end(const ElectorView *view);

/* A member whose answer might help; -1: there is none. */
extern int	elector_failsafe_doubted(const ElectorView *view);

#endif							/* ELECTOR_FAILSAFE_H */
