/*
 * status.c
 *	  pg_elector status: the cluster as etcd knows it, also when no server runs.
 *
 * It reads all keys at one moment, and then how long the leases live.  Positions and
 * lags are not in etcd; elector_status of any server has them.
 *
 * The exit status tells scripts: 0, there is a leader that takes writes; 2, there is
 * none; 1, that could not be found out.
 */
#include "program.h"

#include <cjson/cJSON.h>
#include <time.h>

#define STATUS_LED		0
#define STATUS_UNKNOWN	1
#define STATUS_NOT_LED	2

#define CELL_SIZE		128
#define COLUMNS			8

typedef struct Row
{
	char		cell[COLUMNS][CELL_SIZE];
} Row;

static const char *const titles[COLUMNS] = {
	"node", "role", "alive", "lease", "candidate", "priority", "zone", "address"
};

static const char *
time_text(int64 milliseconds)
{
	time_t		seconds = milliseconds / 1000;
	struct tm	local;
	char	   *text = pg_malloc(64);

	localtime_r(&seconds, &local);
	strftime(text, 64, "%Y-%m-%d %H:%M:%S %Z", &local);
	return text;
}

static void
describe_lease(ElectorTalk *talk, int64 lease, char *text)
{
	int64		left = lease != 0 ? elector_talk_time_left(talk, lease) : -1;

	if (left >= 0)
		snprintf(text, CELL_SIZE, INT64_FORMAT " s", left);
	else
		strlcpy(text, "", CELL_SIZE);
}

static bool
leads(const ElectorCluster *cluster, const ElectorMember *member)
{
	return cluster->leader.present && strcmp(cluster->leader.node, member->node) == 0;
}

/* Does the leader take writes? */
static bool
is_open(const ElectorCluster *cluster)
{
	return cluster->leader.present && cluster->term.opened &&
		cluster->term.term == cluster->leader.term;
}

static int
compare_rows(const void *a, const void *b)
{
	return strcmp(((const Row *) a)->cell[0], ((const Row *) b)->cell[0]);
}

static int
make_rows(ElectorTalk *talk, Row *rows)
{
	const ElectorCluster *cluster = &talk->mirror->cluster;
	int			nrows = 0;

	for (int i = 0; i < cluster->nnodes; i++)
	{
		const ElectorMember *member = &cluster->nodes[i].member;
		const ElectorAlive *alive = &cluster->nodes[i].alive;
		bool		leader = leads(cluster, member);
		Row		   *row = &rows[nrows++];

		strlcpy(row->cell[0], member->node, CELL_SIZE);
		strlcpy(row->cell[1], leader ? "leader" : alive->present ? "follower" : "", CELL_SIZE);
		strlcpy(row->cell[2], alive->present || leader ? "yes" : "no", CELL_SIZE);
		describe_lease(talk, leader ? cluster->leader.lease : alive->present ? alive->lease : 0,
					   row->cell[3]);
		strlcpy(row->cell[4], !member->present ? "" : member->candidate ? "yes" : "no", CELL_SIZE);
		snprintf(row->cell[5], CELL_SIZE, "%d", member->priority);
		strlcpy(row->cell[6], member->zone, CELL_SIZE);
		if (member->present)
			strlcpy(row->cell[7], elector_conninfo_address(member->conninfo), CELL_SIZE);
		else
			strlcpy(row->cell[7], "not registered yet", CELL_SIZE);
	}
	qsort(rows, nrows, sizeof(Row), compare_rows);
	return nrows;
}

static void
print_rows(const Row *rows, int nrows)
{
	int			width[COLUMNS];

	for (int column = 0; column < COLUMNS; column++)
	{
		width[column] = strlen(titles[column]);
		for (int i = 0; i < nrows; i++)
			width[column] = Max(width[column], (int) strlen(rows[i].cell[column]));
	}
	for (int column = 0; column < COLUMNS; column++)
		printf(" %-*s %s", width[column], titles[column], column < COLUMNS - 1 ? "|" : "\n");
	for (int column = 0; column < COLUMNS; column++)
	{
		for (int i = 0; i < width[column] + 2; i++)
			putchar('-');
		putchar(column < COLUMNS - 1 ? '+' : '\n');
	}
	for (int i = 0; i < nrows; i++)
	{
		for (int column = 0; column < COLUMNS; column++)
			printf(" %-*s %s", column < COLUMNS - 1 ? width[column] : 0, rows[i].cell[column],
				   column < COLUMNS - 1 ? "|" : "\n");
	}
}

/* "any 1 of n1, n2" */
static char *
rule_text(const ElectorCommitRule *rule)
{
	char	   *text = pg_strdup(rule->policy);

	for (int i = 0; i < rule->nmembers; i++)
		text = psprintf("%s%s%s", text, i == 0 ? " of " : ", ", rule->members[i].node);
	return text;
}

static char *
durability_text(const ElectorDurability *durability)
{
	char	   *text;

	if (!durability->present)
		return "async";
	text = rule_text(&durability->rule);
	if (durability->changing)
		text = psprintf("%s, changing to %s", text, rule_text(&durability->next));
	if (durability->degraded)
		text = psprintf("%s, degraded: too few followers", text);
	return text;
}

static void
print_leader(ElectorTalk *talk)
{
	const ElectorCluster *cluster = &talk->mirror->cluster;
	const ElectorTerm *term = &cluster->term;

	if (is_open(cluster))
		printf("leader:      %s, in term " UINT64_FORMAT " on timeline %u, since %s\n",
			   cluster->leader.node, cluster->leader.term, term->timeline,
			   time_text(term->opened_at));
	else if (cluster->leader.present)
		printf("leader:      %s, in term " UINT64_FORMAT ", takes no writes yet\n",
			   cluster->leader.node, cluster->leader.term);
	else if (!term->present)
		printf("leader:      nobody, and nobody has led yet\n");
	else
		printf("leader:      nobody; the last one was %s in term " UINT64_FORMAT ", %s\n",
			   term->node, term->term,
			   term->released ? "which gave leadership up" : "whose lease is over");
	if (cluster->election.present)
		printf("election:    run by %s, for term " UINT64_FORMAT "\n", cluster->election.node,
			   cluster->election.term);
}

static void
print_settings(const ElectorCluster *cluster)
{
	const ElectorClusterSettings *settings = &cluster->settings;
	const ElectorRequest *request = &cluster->request;
	int64		now = time(NULL) * INT64CONST(1000);

	if (settings->paused)
		printf("paused:      since %s, on %s%s%s; elector_resume() ends it\n",
			   time_text(settings->paused_at), settings->paused_by,
			   settings->pause_reason[0] != '\0' ? ": " : "", settings->pause_reason);
	for (int i = 0; i < settings->nholds; i++)
	{
		const ElectorLeaderHold *hold = &settings->holds[i];

		if (hold->id != 0 && hold->until > now && cluster->leader.present &&
			hold->term == cluster->leader.term)
			printf("hold:        " INT64_FORMAT " of %s until %s: %s\n", hold->id, hold->node,
				   time_text(hold->until), hold->reason);
	}
	if (request->present && request->refused[0] == '\0' && cluster->leader.present &&
		request->term == cluster->leader.term)
		printf("switchover:  to %s, %s\n",
			   request->target[0] != '\0' ? request->target : "the best follower",
			   request->at > now ? psprintf("at %s", time_text(request->at)) : "now");
}

/* What the operator may want to do. */
static void
print_hints(const ElectorCluster *cluster)
{
	int			alive = 0;

	for (int i = 0; i < cluster->nnodes; i++)
		alive += cluster->nodes[i].alive.present;
	if (cluster->leader.present)
		return;
	fflush(stdout);
	if (cluster->settings.paused)
		elector_log_hint("The cluster is paused: only %s may lead again, unless elector_resume() is called.",
						 cluster->term.present ? cluster->term.node : "nobody");
	else if (alive == 0)
		elector_log_hint("No member is alive: start the servers.");
	else
		elector_log_hint("elector_status on a member that is alive, and its log, say what the election waits for.");
}

static void
add_rows(cJSON *members, const Row *rows, int nrows)
{
	for (int i = 0; i < nrows; i++)
	{
		cJSON	   *member = cJSON_CreateObject();

		for (int column = 0; column < COLUMNS; column++)
		{
			const char *cell = rows[i].cell[column];

			switch (column)
			{
				case 2:
				case 4:
					cJSON_AddBoolToObject(member, titles[column], strcmp(cell, "yes") == 0);
					break;
				case 3:
					if (cell[0] == '\0')
						cJSON_AddNullToObject(member, "lease_seconds");
					else
						cJSON_AddNumberToObject(member, "lease_seconds", atoi(cell));
					break;
				case 5:
					cJSON_AddNumberToObject(member, titles[column], atoi(cell));
					break;
				default:
					if (cell[0] == '\0')
						cJSON_AddNullToObject(member, titles[column]);
					else
						cJSON_AddStringToObject(member, titles[column], cell);
					break;
			}
		}
		cJSON_AddItemToArray(members, member);
	}
}

static void
print_json(const ElectorOptions *options, const ElectorTalk *talk, const Row *rows, int nrows)
{
	const ElectorCluster *cluster = &talk->mirror->cluster;
	const ElectorTerm *term = &cluster->term;
	cJSON	   *object = cJSON_CreateObject();
	char	   *text;

	cJSON_AddStringToObject(object, "cluster", options->cluster);
	cJSON_AddStringToObject(object, "etcd", talk->endpoint);
	cJSON_AddNumberToObject(object, "term", (double) term->term);
	if (cluster->leader.present)
		cJSON_AddStringToObject(object, "leader", cluster->leader.node);
	else
		cJSON_AddNullToObject(object, "leader");
	cJSON_AddBoolToObject(object, "open", is_open(cluster));
	cJSON_AddStringToObject(object, "durability", durability_text(&cluster->durability));
	cJSON_AddBoolToObject(object, "paused", cluster->settings.paused);
	add_rows(cJSON_AddArrayToObject(object, "members"), rows, nrows);
	text = cJSON_Print(object);
	printf("%s\n", text);
	free(text);
	cJSON_Delete(object);
}

static bool
load(ElectorTalk *talk, const ElectorOptions *options)
{
	const ElectorCluster *cluster = &talk->mirror->cluster;

	if (!elector_talk_load(talk))
	{
		elector_log(ELECTOR_FATAL, "could not read cluster \"%s\" from etcd at %s: %s",
					options->cluster, talk->endpoint[0] != '\0' ? talk->endpoint : options->etcd.endpoints,
					talk->error);
		elector_log_hint("Without etcd, elector_status on a server still shows what it last knew.");
		return false;
	}
	if (cluster->system == 0 && cluster->nnodes == 0 && !cluster->term.present)
	{
		elector_log(ELECTOR_FATAL, "etcd at %s knows no cluster \"%s\"", talk->endpoint,
					options->cluster);
		elector_log_hint("Compare pg_elector.cluster and pg_elector.etcd with those of a node."
						 "  A cluster is there once its first node has been started.");
		return false;
	}
	return true;
}

int
elector_status(int argc, char **argv)
{
	ElectorOptions options = {.bin_directory = elector_bin_directory(argv[0])};
	ElectorTalk talk;
	Row		   *rows;
	int			nrows;
	int			result;

	elector_log_plainly();
	if (!elector_options_parse(&options, argc - 1, argv + 1, "DfeACKUPutj") ||
		!elector_options_complete(&options) || !elector_options_enter(&options) ||
		!elector_talk_begin(&talk, &options.etcd, options.cluster, "", options.bound))
		return STATUS_UNKNOWN;
	if (!load(&talk, &options))
	{
		elector_talk_end(&talk);
		return STATUS_UNKNOWN;
	}
	rows = pg_malloc0(sizeof(Row) * ELECTOR_MEMBERS_MAX);
	nrows = make_rows(&talk, rows);
	if (options.json)
		print_json(&options, &talk, rows, nrows);
	else
	{
		printf("cluster:     %s, in etcd at %s\n", options.cluster, talk.endpoint);
		print_leader(&talk);
		printf("durability:  %s\n", durability_text(&talk.mirror->cluster.durability));
		print_settings(&talk.mirror->cluster);
		printf("\n");
		print_rows(rows, nrows);
		print_hints(&talk.mirror->cluster);
	}
	result = is_open(&talk.mirror->cluster) ? STATUS_LED : STATUS_NOT_LED;
	elector_talk_end(&talk);
	return result;
}
