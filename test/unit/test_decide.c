/*
 * test_decide.c
 *	  What an elector decides: the cases in test/unit/decide, and the smaller
 *	  questions beside elector_decide().
 *
 * Every rule of the protocol that is a decision has its case there; the last
 * checks see to it that each action and each reason is in some case.  The
 * directory may be given as an argument.
 */
#include <dirent.h>

#include "cases.h"
#include "core/failsafe.h"
#include "tap.h"

static const char *theme = "";
static bool action_seen[CASE_ACTIONS];
static bool reason_seen[ELECTOR_REASON_COUNT];

static const char *
target_name(const ElectorView *view, int target)
{
	return target >= 0 && target < view->npeers ? view->peers[target].node : "nobody";
}

static void
check_case(const Case *one)
{
	ElectorPlan plan = elector_decide(&one->view);
	const char *target = target_name(&one->view, plan.target);
	bool		good = plan.action == one->action && plan.reason == one->reason &&
		(!one->has_term || plan.term == one->term) &&
		(!one->has_target || strcmp(target, one->target) == 0) &&
		(!one->has_again || plan.again == one->again);

	action_seen[one->action] = true;
	reason_seen[one->reason] = true;
	if (ok(good, "%s: %s", theme, one->name))
		return;
	printf("#   line %d and before; got %s %s term=%" PRIu64 " target=%s again=",
		   case_line, case_actions[plan.action],
		   case_reasons[plan.reason] + strlen("ELECTOR_BECAUSE_"), plan.term, target);
	if (plan.again == 0)
		printf("event\n");
	else
		printf("%+" PRId64 "us\n", plan.again - CASE_NOW);
}

static int
is_case_file(const struct dirent *entry)
{
	size_t		length = strlen(entry->d_name);

	return length > 5 && strcmp(entry->d_name + length - 5, ".case") == 0 &&
		strcmp(entry->d_name, "bases.case") != 0;
}

static void
check_files(const char *directory)
{
	struct dirent **entries;
	char		path[2048];
	int			count;

	snprintf(path, sizeof(path), "%s/bases.case", directory);
	cases_read(path, check_case);
	count = scandir(directory, &entries, is_case_file, alphasort);
	ok(count > 0, "there are cases in \"%s\"", directory);
	for (int i = 0; i < count; i++)
	{
		char		name[256];

		snprintf(name, sizeof(name), "%s", entries[i]->d_name);
		name[strlen(name) - 5] = '\0';
		theme = name;
		snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name);
		cases_read(path, check_case);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

static void
check_coverage(void)
{
	for (int i = 0; i < CASE_ACTIONS; i++)
		ok(action_seen[i], "a case expects the action %s", case_actions[i]);
	for (int i = 0; i < ELECTOR_REASON_COUNT; i++)
		ok(reason_seen[i], "a case expects %s", case_reasons[i]);
}

/* --- I3, S11: fences --- */

static void
is_verdict(const ElectorView *view, uint64_t term, int64_t token,
		   ElectorFenceVerdict expected, const char *what)
{
	ElectorFenceRequest request = {.term = term,.token = token};

	is_int(elector_judge_fence(view, &request), expected, "fence: %s", what);
}

static void
check_fences(void)
{
	ElectorView view;

	view = case_base("fresh")->view;
	is_verdict(&view, 1, 1, ELECTOR_FENCE_OBEY, "the first one is obeyed");

	view = case_base("electing")->view; /* has obeyed (6, 600), follows nobody */
	is_verdict(&view, 5, 700, ELECTOR_FENCE_OLD_TERM, "an older term is refused");
	is_verdict(&view, 6, 599, ELECTOR_FENCE_OLD_TERM, "an older lock's is refused");
	is_verdict(&view, 6, 600, ELECTOR_FENCE_OBEY, "the same once more is obeyed");
	is_verdict(&view, 6, 601, ELECTOR_FENCE_OBEY, "a younger lock's is obeyed");
	is_verdict(&view, 7, 100, ELECTOR_FENCE_OBEY, "a newer term's is, of any lock");

	view = case_base("follower")->view; /* follows term 5 */
	is_verdict(&view, 5, 900, ELECTOR_FENCE_TERM_IN_USE, "not for the term it follows");
	is_verdict(&view, 6, 100, ELECTOR_FENCE_OBEY, "above the term it follows");
	view.state.term = 3;
	is_verdict(&view, 4, 900, ELECTOR_FENCE_TERM_IN_USE, "not below the term it follows");

	view = case_base("leader")->view;	/* leads term 6 */
	is_verdict(&view, 6, 900, ELECTOR_FENCE_TERM_IN_USE, "not for the term it leads");
	is_verdict(&view, 7, 100, ELECTOR_FENCE_OBEY, "above the term it leads");
	view.known = false;
	is_verdict(&view, 6, 600, ELECTOR_FENCE_TERM_IN_USE,
			   "not for the term it leads while a transaction is under way");
	view.state.term = 3;
	is_verdict(&view, 5, 900, ELECTOR_FENCE_TERM_IN_USE, "not below the term it leads");
	strcpy(view.leader.instance, "i0");
	is_verdict(&view, 6, 900, ELECTOR_FENCE_OBEY, "what another instance led does not matter");
}

/* --- S8: promises --- */

static void
check_promising(void)
{
	ElectorView view = case_base("promiser")->view; /* follows n2 in term 5 */
	ElectorPromiseRequest request = {.term = 5,.instance = "i2",.lasts_ms = 10000};

	ok(elector_failsafe_may_promise(&view, &request), "promise: to the leader it follows");
	view.known = false;
	ok(elector_failsafe_may_promise(&view, &request), "promise: also without etcd");
	view.recovering = false;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not as a primary");
	view.recovering = true;
	view.may_promise = false;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not if that is off");
	view.may_promise = true;
	view.ordered = true;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not when it was chosen");
	view.ordered = false;
	view.fence_waits = true;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not when a fence waits");
	view.fence_waits = false;
	view.state.caught_up = false;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not from a copy");
	view.state.caught_up = true;
	view.state.term = 6;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not when a newer term was obeyed");
	view.fence_void = true;
	ok(elector_failsafe_may_promise(&view, &request), "promise: unless the key was taken again since");
	view.fence_void = false;
	view.state.term = 5;
	view.remembered = 6;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: nor heard of");
	view.remembered = 5;
	request.term = 4;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not for an older term");
	request.term = 6;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: nor for one that it has not followed");
	request.term = 5;
	request.lasts_ms = 86400000;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not for ever");
	request.lasts_ms = 10000;

	view.known = true;
	strcpy(view.leader.instance, "i0");
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not to another life of it");
	view.leader.present = false;
	ok(!elector_failsafe_may_promise(&view, &request), "promise: not when etcd says that the key is gone");
}

static void
is_held(const ElectorView *view, uint64_t term, uint64_t over, ElectorFenceVerdict expected,
		const char *what)
{
	ElectorFenceRequest request = {.term = term,.token = 900,.over = over};

	is_int(elector_judge_fence(view, &request), expected, "promised: %s", what);
}

static void
check_promised(void)
{
	ElectorView view = case_base("promised")->view; /* to n2, whose key is gone */

	is_held(&view, 6, 4, ELECTOR_FENCE_PROMISED, "a fence has to wait");
	is_held(&view, 9, 4, ELECTOR_FENCE_PROMISED, "whatever its term");
	is_held(&view, 6, 5, ELECTOR_FENCE_OBEY, "not if the leader said that it is over");
	view.known = false;
	is_held(&view, 6, 4, ELECTOR_FENCE_PROMISED, "also without etcd");
	view.known = true;
	view.term.released = true;
	is_held(&view, 6, 4, ELECTOR_FENCE_OBEY, "not if etcd has that word");
	view.term.released = false;
	view.term.term = 6;
	is_held(&view, 7, 4, ELECTOR_FENCE_OBEY, "not if another led since");
	view.term.term = 5;
	view.now = view.promised_until;
	is_held(&view, 6, 4, ELECTOR_FENCE_OBEY, "not when its time is over");
}

static void
set_rule(ElectorCommitRule *rule, const char *policy)
{
	memset(rule, 0, sizeof(*rule));
	snprintf(rule->policy, sizeof(rule->policy), "%s", policy);
	for (int i = 0; i < 3; i++)
		snprintf(rule->members[rule->nmembers++].node, ELECTOR_NAME_SIZE, "n%d", i + 1);
}

static void
check_leading_by_promises(void)
{
	ElectorView view = case_base("without etcd")->view; /* n2 until +7s, n3 until +6s */
	ElectorView changed;

	is_int(elector_failsafe_until(&view), CASE_NOW + 6 * 1000000, "promises: until the soonest ends");

	changed = view;
	changed.peers[1].promised_until = 0;
	is_int(elector_failsafe_until(&changed), 0, "promises: all have to");
	changed = view;
	strcpy(changed.peers[1].promised_by, "d9");
	is_int(elector_failsafe_until(&changed), 0, "promises: a copy's is none");
	changed = view;
	strcpy(changed.asked.members[changed.asked.nmembers].node, "n4");
	strcpy(changed.asked.members[changed.asked.nmembers++].directory, "d4");
	is_int(elector_failsafe_until(&changed), 0, "promises: of members that are gone, too");
	changed = view;
	changed.asked.nmembers = 1;
	is_int(elector_failsafe_until(&changed), 0, "promises: nobody to promise is not all of them");
	changed = view;
	changed.asked.present = false;
	is_int(elector_failsafe_until(&changed), 0, "promises: not without a record");
	changed = view;
	changed.may_promise = false;
	is_int(elector_failsafe_until(&changed), 0, "promises: not if that is off");
	changed = view;
	changed.state.term = 7;
	is_int(elector_failsafe_until(&changed), 0, "promises: not when it was fenced");
	changed = view;
	changed.gate_open = false;
	is_int(elector_failsafe_until(&changed), 0, "promises: they open nothing");
	changed = view;
	changed.lapsed = true;
	is_int(elector_failsafe_until(&changed), 0, "promises: they do not keep a leader whose disk is stuck");
	changed = view;
	changed.cut_off = true;
	is_int(elector_failsafe_until(&changed), 0, "promises: nor one that is cut off from its followers");

	/* Under a policy as many as make a commit durable. */
	changed = view;
	changed.durability.present = true;
	set_rule(&changed.durability.rule, "any 1");
	is_int(elector_failsafe_until(&changed), CASE_NOW + 7 * 1000000, "promises: under any 1, until the last ends");
	changed.peers[1].promised_until = 0;
	is_int(elector_failsafe_until(&changed), CASE_NOW + 6 * 1000000, "promises: under any 1 one will do");
	changed.peers[2].promised_until = 0;
	is_int(elector_failsafe_until(&changed), 0, "promises: but none will not");
	changed = view;
	changed.durability.present = true;
	set_rule(&changed.durability.rule, "any 2");
	is_int(elector_failsafe_until(&changed), CASE_NOW + 6 * 1000000, "promises: under any 2, while both do");
	changed.peers[1].promised_until = 0;
	is_int(elector_failsafe_until(&changed), 0, "promises: under any 2 one is too few");
	set_rule(&changed.durability.rule, "any 1");
	changed.durability.changing = true;
	set_rule(&changed.durability.next, "any 2");
	is_int(elector_failsafe_until(&changed), 0, "promises: by both rules, while it changes");
	set_rule(&changed.durability.next, "async");
	is_int(elector_failsafe_until(&changed), 0, "promises: under async all have to");
	changed = view;
	changed.durability.present = true;
	set_rule(&changed.durability.rule, "any 1");
	strcpy(changed.surely.members[1].node, "n1");
	is_int(elector_failsafe_until(&changed), CASE_NOW + 6 * 1000000, "promises: who may be taken off the record does not count");
	changed = view;
	strcpy(changed.state.directory, "d9");
	is_int(elector_failsafe_until(&changed), 0, "promises: who leads from another directory needs its own name's, too");
}

/* --- S10: orders, and who counts --- */

static void
check_orders(void)
{
	ElectorView view = case_base("electing")->view; /* (6, 600), at 3 0/5000 */
	ElectorPosition answered = view.position;
	ElectorPosition more = answered;

	more.lsn++;
	ok(elector_accept_order(&view, 6, 600, "i1", answered), "order: as it answered");
	ok(!elector_accept_order(&view, 5, 600, "i1", answered), "order: not of an older term");
	ok(!elector_accept_order(&view, 7, 600, "i1", answered), "order: not of a term it was not fenced for");
	ok(!elector_accept_order(&view, 6, 599, "i1", answered), "order: not of an older lock");
	ok(!elector_accept_order(&view, 6, 601, "i1", answered), "order: not of a younger lock");
	ok(!elector_accept_order(&view, 6, 600, "i0", answered), "order: not for another instance");
	ok(!elector_accept_order(&view, 6, 600, "i1", more), "order: not if it held more then");
	more = answered;
	more.timeline++;
	more.lsn = 1;
	ok(!elector_accept_order(&view, 6, 600, "i1", more), "order: nor if it held a newer timeline then");
	view.position.lsn++;
	ok(elector_accept_order(&view, 6, 600, "i1", answered), "order: it may hold more by now");
	view.frozen = false;
	ok(!elector_accept_order(&view, 6, 600, "i1", answered), "order: not once it follows again");
	view.recovering = false;
	ok(elector_accept_order(&view, 6, 600, "i1", answered), "order: a primary needs no freezing");
}

static void
check_counting(void)
{
	ElectorState state;

	memset(&state, 0, sizeof(state));
	ok(elector_state_counts(&state, 0), "counts: all do while nothing was acknowledged");
	ok(!elector_state_counts(&state, 5), "counts: not without a state file");
	state.present = true;
	state.term = 5;
	ok(!elector_state_counts(&state, 5), "counts: not before it caught up");
	state.caught_up = true;
	ok(elector_state_counts(&state, 5), "counts: in the term that opened last");
	state.term = 6;
	ok(elector_state_counts(&state, 5), "counts: above it");
	state.term = 4;
	ok(!elector_state_counts(&state, 5), "counts: not below it");
}

/* --- S1: positions --- */

static void
is_on_history(const ElectorTerm *term, const char *position, bool expected,
			  const char *what)
{
	is_int(elector_position_on_history(case_position(position), term), expected,
		   "history: %s", what);
}

static void
check_positions(void)
{
	ElectorTerm term = case_base("follower")->view.term;	/* 1:0/1000 2:0/2000, then 3 */

	is_on_history(&term, "3 0/9000", true, "on the leader's timeline");
	is_on_history(&term, "2 0/2000", true, "up to where it left an ancestor");
	is_on_history(&term, "2 0/2001", false, "not beyond that");
	is_on_history(&term, "1 0/1000", true, "an older ancestor");
	is_on_history(&term, "1 0/1001", false, "not beyond that either");
	is_on_history(&term, "4 0/100", false, "a timeline that is newer");
	is_on_history(&term, "3 0/0", false, "no position");
	term.ancestors[0].timeline = 7;
	is_on_history(&term, "1 0/100", false, "a timeline that is no ancestor");
	term.begun = false;
	is_on_history(&term, "3 0/9000", false, "a leadership that has not begun");
	term.begun = true;
	term.present = false;
	is_on_history(&term, "3 0/9000", false, "no record");

	ok(elector_position_compare(case_position("2 0/1"), case_position("1 9/0")) > 0,
	   "positions: the timeline comes first");
	ok(elector_position_compare(case_position("2 0/1"), case_position("2 0/2")) < 0,
	   "positions: then the LSN");
	is_int(elector_position_compare(case_position("2 1/2"), case_position("2 1/2")), 0,
		   "positions: equal");
	ok(elector_position_compare(case_position("2 1/0"), case_position("2 0/FFFFFFFF")) > 0,
	   "positions: the LSN has 64 bits");
}

/* --- I9, S15: timelines --- */

static void
check_timelines(void)
{
	ElectorView view = case_base("fresh")->view;

	view.position.timeline = 0;
	is_int(elector_next_timeline(&view), 1, "timeline: the first");
	view.position.timeline = 1;
	is_int(elector_next_timeline(&view), 2, "timeline: above the server's own");

	view = case_base("electing")->view;
	is_int(elector_next_timeline(&view), 4, "timeline: above the one on record");
	view.state.timeline = 6;
	is_int(elector_next_timeline(&view), 7, "timeline: above what this node heard of");
	view.peers[1].answer.kept_timeline = 8;
	is_int(elector_next_timeline(&view), 9, "timeline: above what another heard of");
	view.peers[2].answer.position.timeline = 9;
	is_int(elector_next_timeline(&view), 10, "timeline: above what another holds");
	view.term.timeline = 12;
	is_int(elector_next_timeline(&view), 13, "timeline: above one that was allotted and never used");
}

/* --- choosing --- */

static void
is_chosen(const ElectorView *view, bool unknown_lag, const char *expected,
		  ElectorReason why, const char *what)
{
	ElectorReason blocked = ELECTOR_REASON_COUNT;
	int			chosen = elector_choose(view, unknown_lag, &blocked);

	is_str(target_name(view, chosen), expected, "choose: %s", what);
	if (chosen < 0)
		is_str(case_reasons[blocked], case_reasons[why], "choose: %s: why", what);
}

static void
check_choice(void)
{
	ElectorView view = case_base("electing")->view;

	is_chosen(&view, false, "n1", 0, "who has answered");
	view.self = -1;
	is_chosen(&view, false, "n1", 0, "by an elector that is no member");
	view = case_base("electing")->view;
	view.peers[1].answer.kind = view.peers[2].answer.kind = ELECTOR_ANSWER_FENCED;
	view.self = 2;
	is_chosen(&view, false, "n2", 0, "the last leader among equals");
	view.term.node[0] = '\0';
	view.self = 1;
	is_chosen(&view, false, "n2", 0, "itself among equals");
	view.self = 2;
	is_chosen(&view, false, "n3", 0, "itself among equals, wherever it stands");
	for (int i = 0; i < 3; i++)
		view.peers[i].answer.lag_known = false;
	strcpy(view.term.node, "n9");
	is_chosen(&view, false, "nobody", ELECTOR_BECAUSE_LAG_UNKNOWN, "no lag is known");
	is_chosen(&view, true, "n3", 0, "no lag is known, and that will do");
	view.peers[0].answer.lag_known = true;
	view.peers[0].answer.lag = view.maximum_lag + 1;
	is_chosen(&view, false, "nobody", ELECTOR_BECAUSE_ALL_BEHIND, "known to be behind is said first");
	view.peers[1].answer.lag_known = true;
	view.peers[1].answer.lag = view.maximum_lag + 1;
	view.peers[0].answer.lag_known = false;
	is_chosen(&view, false, "nobody", ELECTOR_BECAUSE_ALL_BEHIND, "in any order");
	for (int i = 0; i < 3; i++)
		view.peers[i].answer.kind = ELECTOR_ANSWER_FAILED;
	is_chosen(&view, true, "nobody", ELECTOR_BECAUSE_NO_CANDIDATE, "nobody has answered");
}

static void
is_heir(const ElectorView *view, const char *expected, ElectorReason why,
		const char *what)
{
	ElectorReason blocked = ELECTOR_REASON_COUNT;
	int			heir = elector_choose_heir(view, view->request.target, &blocked);

	is_str(target_name(view, heir), expected, "heir: %s", what);
	if (heir < 0)
		is_str(case_reasons[blocked], case_reasons[why], "heir: %s: why", what);
}

static void
is_judged(const ElectorView *view, const char *target, const char *expected,
		  ElectorReason expected_why, const char *what)
{
	ElectorReason why = ELECTOR_REASON_COUNT;
	int			heir = elector_judge_switchover(view, target, &why);

	is_str(target_name(view, heir), expected, "switchover: %s", what);
	if (heir >= 0)
		return;
	reason_seen[why] = true;
	is_str(case_reasons[why], case_reasons[expected_why], "switchover: %s: why", what);
}

/* On any node, with what the members have said of themselves. */
static void
check_judge(void)
{
	const ElectorView asked = case_base("asked")->view;
	ElectorView view = asked;

	view.request.present = false;
	is_judged(&view, "", "n2", 0, "to the best");
	is_judged(&view, "n3", "n3", 0, "to a target");
	is_judged(&view, "n1", "nobody", ELECTOR_BECAUSE_TARGET_LEADS, "to the leader");
	is_judged(&asked, "n3", "nobody", ELECTOR_BECAUSE_CHANGING, "while another is under way");
	view.request.present = true;
	view.request.term--;
	is_judged(&view, "n3", "n3", 0, "after one of an older leadership");
	view.request.present = false;
	view.election.present = true;
	is_judged(&view, "n3", "nobody", ELECTOR_BECAUSE_CHANGING, "while the lock is held");
	view.election.present = false;
	view.paused = true;
	is_judged(&view, "n3", "nobody", ELECTOR_BECAUSE_PAUSED_SWITCHOVER, "while it is paused");
	view.paused = false;
	view.term.opened = false;
	is_judged(&view, "n3", "nobody", ELECTOR_BECAUSE_NO_LEADER, "before the leader has opened");
	view.leader.present = false;
	is_judged(&view, "n3", "nobody", ELECTOR_BECAUSE_NO_LEADER, "without a leader");
	view.known = false;
	is_judged(&view, "n3", "nobody", ELECTOR_BECAUSE_ETCD_UNKNOWN, "without etcd");

	/* A failover is for where there is no leader. */
	{
		ElectorReason why = ELECTOR_REASON_COUNT;

		ok(!elector_judge_failover(&asked, "", &why), "failover: not beside a leader");
		is_str(case_reasons[why], case_reasons[ELECTOR_BECAUSE_LEADER_LIVES], "failover: why");
		reason_seen[why] = true;
	}

	/* Lag is that behind the leader, whichever node is asked. */
	view = asked;
	view.request.present = false;
	strcpy(view.leader.node, "n2");
	view.peers[1].position.lsn = view.peers[2].position.lsn + view.maximum_lag + 1;
	is_judged(&view, "n3", "nobody", ELECTOR_BECAUSE_TARGET_BEHIND, "asked on a follower, behind");
	view.peers[1].position.lsn--;
	is_judged(&view, "n3", "n3", 0, "asked on a follower, near enough");
}

static void
is_removed(const ElectorView *view, const char *node, ElectorReason expected_why, const char *what)
{
	ElectorReason why = ELECTOR_REASON_COUNT;

	if (elector_judge_removal(view, node, &why))
		why = ELECTOR_REASON_COUNT;
	else
		reason_seen[why] = true;
	is_int(why, expected_why, "removal: %s", what);
}

static void
check_removal(void)
{
	ElectorView view = case_base("asked")->view;
	ElectorPeerView *n3 = &view.peers[2];
	ElectorReason why;

	is_removed(&view, "n9", ELECTOR_BECAUSE_REMOVED_UNKNOWN, "of who is no member");
	is_removed(&view, "n1", ELECTOR_BECAUSE_REMOVED_LEADS, "of the leader");
	is_removed(&view, "n3", ELECTOR_BECAUSE_REMOVED_ALIVE, "of one that is alive");
	n3->alive = false;
	is_removed(&view, "n3", ELECTOR_BECAUSE_REMOVED_ALIVE, "of one that answers");
	n3->alive = true;
	n3->silent_since = view.now;
	is_removed(&view, "n3", ELECTOR_BECAUSE_REMOVED_ALIVE, "of one that etcd knows to be alive");
	n3->alive = false;
	is_removed(&view, "n3", ELECTOR_REASON_COUNT, "of one that is gone");

	/* Its commits: a leader takes it out of the rule, an election may need it. */
	memset(&view.durability, 0, sizeof(view.durability));
	view.durability.present = true;
	strcpy(view.durability.rule.policy, "any 1");
	view.durability.rule.nmembers = 1;
	strcpy(view.durability.rule.members[0].node, "n3");
	is_removed(&view, "n3", ELECTOR_REASON_COUNT, "of one in the rule, beside a leader");
	view.leader.present = false;
	is_removed(&view, "n3", ELECTOR_BECAUSE_REMOVED_COUNTS, "of one in the rule, without a leader");
	view.forgot_since = view.now;
	is_removed(&view, "n3", ELECTOR_REASON_COUNT, "of one in the rule, in an etcd that was restored");
	view.forgot_since = 0;
	strcpy(view.durability.rule.members[0].node, "n2");
	is_removed(&view, "n3", ELECTOR_REASON_COUNT, "of one that is not in the rule, without a leader");
	view.durability.changing = true;
	strcpy(view.durability.next.policy, "any 1");
	view.durability.next.nmembers = 1;
	strcpy(view.durability.next.members[0].node, "n3");
	is_removed(&view, "n3", ELECTOR_BECAUSE_REMOVED_COUNTS, "of one in the next rule");
	strcpy(view.durability.next.policy, "async");
	is_removed(&view, "n3", ELECTOR_REASON_COUNT, "where the rule is to be async");

	/* That the old leader does not go on without etcd only an operator knows (S8). */
	view.durability.changing = false;
	view.durability.rule.nmembers = 2;
	strcpy(view.durability.rule.members[1].node, "n3");
	strcpy(view.term.node, "n3");
	is_removed(&view, "n3", ELECTOR_BECAUSE_REMOVED_COUNTS, "of the old leader, which nobody is to promise");
	view.failsafe.present = true;
	view.failsafe.nmembers = 1;
	strcpy(view.failsafe.members[0].node, "n2");
	strcpy(view.failsafe.members[0].directory, "d2");
	strcpy(view.peers[1].directory, "d2");
	is_removed(&view, "n3", ELECTOR_BECAUSE_REMOVED_COUNTS, "of the old leader, when who has to promise is there");
	view.peers[1].alive = false;
	is_removed(&view, "n3", ELECTOR_REASON_COUNT, "of the old leader, when who has to promise is not");
	is_int(elector_judge_failover(&view, "", &why), false, "failover: not while the old leader may be promised");
	is_int(why, ELECTOR_BECAUSE_MAY_BE_PROMISED, "failover: which it says");
	view.known = false;
	is_removed(&view, "n3", ELECTOR_BECAUSE_ETCD_UNKNOWN, "without etcd");
}

static void
check_heir(void)
{
	ElectorView view = case_base("asked")->view;

	is_heir(&view, "n2", 0, "the first of equals");
	view.peers[2].position.lsn++;
	is_heir(&view, "n3", 0, "the furthest");
	view.peers[2].position.timeline--;
	is_heir(&view, "n2", 0, "on the newest timeline");
	strcpy(view.request.target, "n3");
	is_heir(&view, "n3", 0, "who was asked for");
	view.peers[2].alive = false;
	is_heir(&view, "nobody", ELECTOR_BECAUSE_TARGET_NOT_ALIVE, "never another than who was asked for");
	view.request.target[0] = '\0';
	view.peers[1].alive = false;
	is_heir(&view, "nobody", ELECTOR_BECAUSE_NO_HEIR, "nobody is alive");
}

/* --- names of actions and reasons --- */

static void
check_names(void)
{
	bool		good = true;

	for (int i = 0; i < CASE_ACTIONS; i++)
		good = good && elector_action_name((ElectorAction) i)[0] != '\0';
	ok(good, "every action has a name");
	good = true;
	for (int i = 0; i < ELECTOR_REASON_COUNT; i++)
	{
		const char *sentence = elector_reason_sentence((ElectorReason) i);
		size_t		length = strlen(sentence);

		/* PostgreSQL's guide: lower case, no full stop. */
		good = good && length > 0 && sentence[length - 1] != '.' &&
			!(sentence[0] >= 'A' && sentence[0] <= 'Z') &&
			elector_reason_name((ElectorReason) i)[0] != '\0' &&
			strlen(elector_reason_name((ElectorReason) i)) < ELECTOR_NAME_SIZE &&
			length < ELECTOR_TEXT_SIZE;
	}
	ok(good, "every reason has a name, and a sentence that fits where it is shown");
}

int
main(int argc, char **argv)
{
	char		directory[1024] = __FILE__;

	/* Beside the source, as the compiler was told it: from the project's root. */
	strcpy(strrchr(directory, '/') + 1, "decide");
	check_files(argc > 1 ? argv[1] : directory);
	check_judge();
	check_removal();
	check_coverage();
	check_fences();
	check_promising();
	check_promised();
	check_leading_by_promises();
	check_orders();
	check_counting();
	check_positions();
	check_timelines();
	check_choice();
	check_heir();
	check_names();
	return done_testing();
}
