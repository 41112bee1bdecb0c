/*
 * act.h
 *	  What the files of deeds share: act.c, election.c, lead.c.
 */
#ifndef ELECTOR_ACT_H
#define ELECTOR_ACT_H

#include "elector.h"

/* Start a change, or a grant; nothing is decided until it has ended. */
extern void elector_act_commit(Elector *elector, ElectorDeed deed,
							   const ElectorChange *change);
extern void elector_act_grant(Elector *elector, ElectorLeaseKind which, ElectorTime ttl);

/* election.c: deeds, and what comes of them */
extern void elector_act_lock(Elector *elector, const ElectorPlan *plan);
extern void elector_act_unlock(Elector *elector);
extern void elector_act_check_lease(Elector *elector);
extern void elector_act_expire(Elector *elector);
extern void elector_act_fence(Elector *elector, const ElectorPlan *plan);
extern void elector_act_establish(Elector *elector, const ElectorPlan *plan);
extern void elector_lock_granted(Elector *elector);
extern void elector_locked(Elector *elector, bool happened, int64_t revision);
extern void elector_lease_verified(Elector *elector, int64_t lease,
								   const ElectorErrandResult *result);
extern void elector_lease_looked_at(Elector *elector, const ElectorErrandResult *result);

/* For the history; 0 if one of them is not known. */
extern int32_t elector_milliseconds(ElectorTime since, ElectorTime until);

/* lead.c: likewise */
extern void elector_act_take(Elector *elector);
extern void elector_act_set_names(Elector *elector);
extern void elector_act_begin(Elector *elector);
extern void elector_act_change_rule(Elector *elector);
extern void elector_act_open(Elector *elector);
extern void elector_act_resign(Elector *elector);
extern void elector_act_release(Elector *elector);
extern void elector_act_close(Elector *elector);
extern void elector_save_heir(Elector *elector, const char *heir);
extern void elector_take_granted(Elector *elector);
extern void elector_took(Elector *elector, bool happened, int64_t revision);
extern void elector_opened(Elector *elector, bool happened);
extern void elector_resigned(Elector *elector, bool happened);
extern void elector_released(Elector *elector, bool happened);

/* promise.c: likewise */
extern void elector_act_set_failsafe(Elector *elector);
extern void elector_act_retake(Elector *elector);
extern void elector_retake_granted(Elector *elector, const ElectorErrandResult *result);
extern void elector_retaken(Elector *elector, bool happened, int64_t revision);

#endif							/* ELECTOR_ACT_H */
