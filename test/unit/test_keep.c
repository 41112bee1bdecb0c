/*
 * test_keep.c
 *	  What WAL is not kept for whom, and what slots are called.
 */
#include "core/keep.h"
#include "core/name.h"
#include "tap.h"

/* n1 leads, n2 and n3 follow in term 5, timeline 3, which left 2 at 200. */
static void
make_view(ElectorView *view)
{
	memset(view, 0, sizeof(*view));
	view->known = true;
	view->registered = true;
	view->leader.present = true;
	view->leader.term = 5;
	view->term.present = true;
	view->term.begun = true;
	view->term.opened = true;
	view->term.term = 5;
	view->term.timeline = 3;
	view->term.lsn = 200;
	view->term.nancestors = 2;
	view->term.ancestors[0].timeline = 1;
	view->term.ancestors[0].lsn = 100;
	view->term.ancestors[1].timeline = 2;
	view->term.ancestors[1].lsn = 200;
	view->recovering = true;
	view->upstream_term = 5;
	view->npeers = 1;
	view->peers[0].reported_at = 1;
	view->peers[0].position.timeline = 3;
	view->peers[0].position.lsn = 300;
}

static void
check_keep_from(void)
{
	ElectorView view;

	make_view(&view);
	is_int(elector_keep_from(&view, 0), 300, "on a follower: what a member holds");
	view.recovering = false;
	view.upstream_term = 0;
	is_int(elector_keep_from(&view, 0), 0, "a primary that does not lead: nothing is known");
	view.gate_open = true;
	is_int(elector_keep_from(&view, 0), 300, "on the leader: what a member holds");

	make_view(&view);
	view.upstream_term = 4;
	is_int(elector_keep_from(&view, 0), 0, "this node follows an older leader");
	make_view(&view);
	view.upstream_term = 0;
	is_int(elector_keep_from(&view, 0), 0, "this node follows nobody");
	make_view(&view);
	view.term.begun = false;
	is_int(elector_keep_from(&view, 0), 0, "where the timeline begins is not known");
	make_view(&view);
	view.peers[0].reported_at = 0;
	is_int(elector_keep_from(&view, 0), 0, "the member has not reported");

	make_view(&view);
	view.peers[0].position.timeline = 2;
	view.peers[0].position.lsn = 200;
	is_int(elector_keep_from(&view, 0), 200, "the member holds all of the timeline before");
	view.peers[0].position.lsn = 201;
	is_int(elector_keep_from(&view, 0), 0, "the member went another way");
	view.peers[0].position.timeline = 4;
	is_int(elector_keep_from(&view, 0), 0, "the member is on a timeline that nobody knows");
}

static void
check_settled(void)
{
	ElectorView view;

	make_view(&view);
	ok(elector_keep_settled(&view), "settled");
	view.known = false;
	ok(!elector_keep_settled(&view), "etcd is silent");
	make_view(&view);
	view.leader.present = false;
	ok(!elector_keep_settled(&view), "nobody leads");
	make_view(&view);
	view.leader.term = 6;
	ok(!elector_keep_settled(&view), "the leader has just won");
	make_view(&view);
	view.term.opened = false;
	ok(!elector_keep_settled(&view), "the leader has not opened");
	make_view(&view);
	view.upstream_term = 0;
	ok(!elector_keep_settled(&view), "this node does not follow yet");
	make_view(&view);
	view.registered = false;
	ok(!elector_keep_settled(&view), "this node is no member");
	make_view(&view);
	view.refusal = ELECTOR_REFUSAL_NODE;
	ok(!elector_keep_settled(&view), "this node is refused");
}

static void
is_slot(const char *node, const char *expected)
{
	char		slot[ELECTOR_SLOT_NAME_SIZE];

	elector_slot_name(node, slot);
	is_str(slot, expected, "slot of \"%s\"", node);
}

/* All that PostgreSQL allows, and no more. */
static bool
is_slot_name(const char *slot)
{
	return strlen(slot) < 64 &&
		strspn(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(slot);
}

static void
check_slot_names(void)
{
	static const char *const alike[] = {
		"n-2", "n.2", "n_2", "N_2", "N-2", "n--2",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	};
	int			count = (int) (sizeof(alike) / sizeof(alike[0]));
	char		slots[sizeof(alike) / sizeof(alike[0])][ELECTOR_SLOT_NAME_SIZE];
	char		slot[ELECTOR_SLOT_NAME_SIZE];

	is_slot("n2", "pg_elector_n2");
	is_slot("_", "pg_elector__");
	is_slot("N2", "pg_elector_n2_86e6f859");
	is_slot("db-1.example", "pg_elector_db_1_example_397b9919");

	/* One that looks like another's with its hash gets one of its own. */
	elector_slot_name("n-2", slot);
	elector_slot_name(slot + strlen(ELECTOR_SLOT_PREFIX), slots[0]);
	ok(strcmp(slot, slots[0]) != 0, "a node that is called like another's slot");

	for (int i = 0; i < count; i++)
	{
		bool		differs = true;

		elector_slot_name(alike[i], slots[i]);
		for (int j = 0; j < i; j++)
			differs = differs && strcmp(slots[i], slots[j]) != 0;
		ok(differs && is_slot_name(slots[i]), "\"%s\" is of \"%s\" only", slots[i], alike[i]);
	}
}

int
main(void)
{
	check_keep_from();
	check_settled();
	check_slot_names();
	return done_testing();
}
