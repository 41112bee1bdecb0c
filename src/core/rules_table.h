/*
 * rules_table.h
 *	  The rules that can be broken on purpose: symbol, and what is then done.
 *
 * Included with ELECTOR_RULE_ROW defined as what is wanted of each row.
 */

/* the lease and the gate */
ELECTOR_RULE_ROW(MARGIN, "the gate stays open until etcd's own expiry, by a clock that drifts")
ELECTOR_RULE_ROW(DEADLINE_FROM_SENDING, "the deadline counts from etcd's answer")
ELECTOR_RULE_ROW(CONFIRM_RENEWAL, "a renewal counts without a linearizable read")
ELECTOR_RULE_ROW(DRAIN, "a fence does not wait for commits under way")

/* failsafe (S8) */
ELECTOR_RULE_ROW(ALL_PROMISE, "one promise is enough to lead without etcd")
ELECTOR_RULE_ROW(PROMISERS_INTERSECT, "under a policy, too, one who is fenced proves that the old leader is over")
ELECTOR_RULE_ROW(PROMISE_BOTH_RULES, "promises suffice by one of two rules, of which the other may be in force")
ELECTOR_RULE_ROW(PROMISE_FROM_ASKING, "a promise counts from when it is heard")
ELECTOR_RULE_ROW(PROMISE_MARGIN, "the leader counts on a promise to its last moment, by a clock that drifts")
ELECTOR_RULE_ROW(PROMISE_KEPT, "who has promised obeys a fence all the same")
ELECTOR_RULE_ROW(PROMISE_SURVIVES, "a promise is forgotten at a restart")
ELECTOR_RULE_ROW(PROMISE_OF_THIS_TERM, "who has obeyed a newer term promises an older leader")
ELECTOR_RULE_ROW(PROMISERS_FENCED, "a leader's lease being gone proves that it is over, whoever may have promised")
ELECTOR_RULE_ROW(ON_RECORD, "anybody who can be fenced proves it, whether it would have had to promise or not")
ELECTOR_RULE_ROW(SAME_PROMISER, "a copy of a member proves it")
ELECTOR_RULE_ROW(RETAKEN_ALONE, "the leader key is taken again whatever happened meanwhile")
ELECTOR_RULE_ROW(ASK_BOTH, "a change of the record that may still come about is not reckoned with")

/* elections */
ELECTOR_RULE_ROW(NO_ELECTION_BESIDE_LEADER, "an election begins while there is a leader")
ELECTOR_RULE_ROW(REVOKE_FIRST, "nobody proves that the old leadership is over (I4)")
ELECTOR_RULE_ROW(LAST_SECOND_TWICE, "a silent leader's lease is revoked after one look")
ELECTOR_RULE_ROW(MOST_ADVANCED, "the candidate is not the most advanced")
ELECTOR_RULE_ROW(ANSWERS_COUNT, "a node that may have forgotten commits is chosen (S10)")
ELECTOR_RULE_ROW(GIVE_UP_LOCK, "an elector that cannot go on keeps the lock (L1)")
ELECTOR_RULE_ROW(WHOLE_WORD, "who lacks some of what the last leader has said it wrote leads at once (S19)")
ELECTOR_RULE_ROW(PAST_LAST_RECORD, "an heir that has the beginning of the last record has it all (S19)")

/* durability */
ELECTOR_RULE_ROW(COMMITS_FOUND, "whether acknowledged commits are with the candidate is not looked at")
ELECTOR_RULE_ROW(AHEAD_IS_ABSENT, "a member that is ahead of the candidate counts as found (S3)")
ELECTOR_RULE_ROW(BOTH_RULES, "an election that finds a rule half changed satisfies one of the two")
ELECTOR_RULE_ROW(OPENED_LAST, "a leadership that never opened hides the one before (S7)")
ELECTOR_RULE_ROW(TWO_PHASES, "the rule is changed in one step")
ELECTOR_RULE_ROW(FLUSHED_BEFORE_DROPPING, "the old rule is dropped before the next one has all commits (S6)")
ELECTOR_RULE_ROW(FLUSHED_BEFORE_OPENING, "the gate opens before an acknowledging set has the beginning of the term (S13)")
ELECTOR_RULE_ROW(NAMES_BEFORE_PROMOTING, "a server is promoted before its synchronous_standby_names is loaded")

ELECTOR_RULE_ROW(ETCD_RESTORED, "an etcd restored from a backup is believed about who led last (S15)")

/* being fenced and chosen */
ELECTOR_RULE_ROW(FENCE_TERM, "a fence of an older term is obeyed (I3)")
ELECTOR_RULE_ROW(FENCE_TOKEN, "a fence of an older lock is obeyed (S11)")
ELECTOR_RULE_ROW(DURABLE_FENCE, "a fence is answered before the disk knows of it")
ELECTOR_RULE_ROW(OPEN_UNFENCED, "an opening that was under way when a fence came opens the gate")
ELECTOR_RULE_ROW(ORDER_OF_THIS_ELECTION, "an order outlives its election")

/* becoming leader */
ELECTOR_RULE_ROW(TAKE_UNDER_LOCK, "the leader key is won without comparing the lock")
ELECTOR_RULE_ROW(PROMOTION_OF_THIS_TERM, "a promotion goes on when its leadership is over (S12)")
ELECTOR_RULE_ROW(PROMOTED_FROM_OWN, "a server is promoted whose recovery is bound for a timeline of which it has no WAL (S1)")
ELECTOR_RULE_ROW(PROMOTED_BEFORE_OPENING, "the gate opens before promotion has ended")
ELECTOR_RULE_ROW(PAUSE_HOLDS, "the leader key is won without comparing whether the cluster is paused")
ELECTOR_RULE_ROW(NEW_TIMELINE, "a timeline is allotted without regard to what the members have heard of (I9)")
ELECTOR_RULE_ROW(LAST_LEADER_IN_PLACE, "a primary leads that did not lead last, or on a timeline that was not allotted (S4, S18)")
ELECTOR_RULE_ROW(OPEN_IN_TIME, "a leader that does not open, or is fenced above its term, keeps its key (L0, L2)")
ELECTOR_RULE_ROW(HELD_STAYS, "a switchover is made although somebody holds the leader")
ELECTOR_RULE_ROW(RELEASE_OWN_KEY, "a late release deletes whatever leader there is (S14)")
ELECTOR_RULE_ROW(SAME_DIRECTORY, "a copied data directory ends its original's leadership (S9)")

/* following */
ELECTOR_RULE_ROW(ON_HISTORY, "a leader is followed on another history (S1)")
ELECTOR_RULE_ROW(BOUND_FOR_LEADER, "a leader is followed by a server whose recovery is bound for another timeline than the leader's")
ELECTOR_RULE_ROW(FROZEN_BEFORE_FOLLOWING, "a leader is followed from a position that is not the end of WAL (S5)")
ELECTOR_RULE_ROW(READS_VERIFIED, "a standby answers reads before its history is known (I8)")
ELECTOR_RULE_ROW(STRAY_KNOWN, "a timeline taken by hand is not remembered (S18)")
ELECTOR_RULE_ROW(ALLOTTED_WHEN_WON, "a timeline counts as allotted before the transaction that allots it (S18)")
ELECTOR_RULE_ROW(STRAY_IS_PRIMARY, "a standby whose promotion is stuck counts as promoted by hand")
ELECTOR_RULE_ROW(CLONE_IS_NO_STRAY, "a clone is still taken for what was promoted by hand")
ELECTOR_RULE_ROW(STRAY_REWOUND, "a node on a timeline taken by hand follows as it is (S18)")
ELECTOR_RULE_ROW(STRAY_CLONED, "it is rewound where the leader's history has its number, too (S18)")

/* what is known */
ELECTOR_RULE_ROW(KNOWN, "decisions are made from a mirror that is not current")
ELECTOR_RULE_ROW(SEE_OWN_WRITES, "and before its own last write is seen in it")
