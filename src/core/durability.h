/*
 * durability.h
 *	  What makes a commit durable, as a rule over sets of members.
 *
 * See durability.c.
 */
#ifndef ELECTOR_DURABILITY_H
#define ELECTOR_DURABILITY_H

#include "decide.h"

/*
 * The policy that the text begins with, and the words behind its name; NULL if there is
 * none of that name here.
 */
extern const ElectorPolicy *elector_policy_find(const char *text, const char **arguments);

/* Is it a policy, such as "any 1"?  If not, *message says why. */
extern bool elector_policy_valid(const char *text, const char **message);

extern bool elector_policy_is_async(const char *text);

/* --- the rule --- */

/* Do these members suffice?  leader may be no member of the rule. */
extern bool elector_rule_suffices(const ElectorCommitRule *rule, const char *leader,
								  const bool *acknowledged);

/* May they?  Of a policy that is not known here nobody can say. */
extern bool elector_rule_might_suffice(const ElectorCommitRule *rule, const char *leader,
									   const bool *acknowledged);

/* synchronous_standby_names for it; false if it does not fit, or nothing suffices. */
extern bool elector_rule_names(const ElectorCommitRule *rule, const char *leader,
							   char *names, size_t size);

extern void elector_rule_copy(ElectorCommitRule *to, const ElectorCommitRule *from);
extern bool elector_rule_equal(const ElectorCommitRule *a, const ElectorCommitRule *b);

/* --- what elections ask --- */

/*
 * With the candidate, is every commit there that was acknowledged under the leader that
 * opened last (S3, S7)?  If not, *missing is the member whose answer might help, or "".
 */
extern bool elector_durability_revoked(const ElectorView *view, int candidate,
									   const char **missing);

/* Is the member one by whom commits are acknowledged, now or in a change under way? */
extern bool elector_durability_counts(const ElectorView *view, const char *node);

/*
 * May a node lead that lacks, or may lack, what the last leader wrote, when
 * nobody better has come for long enough (I7)?
 */
extern bool elector_durability_may_lose(const ElectorView *view);

/*
 * Has an acknowledging set flushed past the beginning of the term, so that the
 * gate may open (S13)?
 */
extern bool elector_durability_may_open(const ElectorView *view);

/*
 * If the leader were lost now: could one of those that follow lead without losing an
 * acknowledged commit?  If not, *missing are the members that would be needed and do not
 * follow, as many as fit, separated by commas.
 */
extern bool elector_durability_safe(const ElectorView *view, char *missing, size_t size);

/*
 * Do this leader's commits wait, while members do not reach it that could do without it:
 * revoke it, and acknowledge each other's?
 */
extern bool elector_durability_cut_off(const ElectorView *view);

/* When to look again for what followers are waited for since then. */
extern ElectorTime elector_look_again(const ElectorView *view, ElectorTime since);

/* --- the leader brings the rule into force that is wanted --- */

/* synchronous_standby_names that this node needs as leader, for now. */
extern void elector_durability_names(const ElectorView *view, char *names, size_t size);

/*
 * What the leader does next for that: nothing (WAIT, reason LEADING), SET_NAMES, or
 * CHANGE_RULE to *record, which is filled only then and must be empty before.
 */
extern ElectorPlan elector_durability_plan(const ElectorView *view, ElectorDurability *record);

/* Is the rule on record in force, and has it all commits? */
extern bool elector_durability_settled(const ElectorView *view);

/* Do the members that follow now suffice for the policy that is wanted? */
extern bool elector_durability_served(const ElectorView *view);

#endif							/* ELECTOR_DURABILITY_H */
