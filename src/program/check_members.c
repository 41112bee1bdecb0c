/*
 * check_members.c
 *	  pg_elector check: do the members reach each other, as who, and what may they do?
 *
 * Everything is asked in the way the library asks it: by the pg_elector.conninfo that
 * stands in etcd.  What the others see of this node they tell in their elector_status.
 *
 * Clocks are compared only because people compare times; no election depends on them.
 */
#include "program.h"

#include <math.h>
#include <sys/time.h>

/* Difference of two clocks that is worth a word, in seconds. */
#define CLOCK_DIFFERENCE	1.0

/* All of SQL that is asked is qualified, as the library's own (server/peers.c). */
#define FACTS_QUERY \
	"SELECT pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()), " \
	"pg_catalog.current_setting('server_version_num')"

#define RIGHTS_QUERY \
	"SELECT (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles" \
	" WHERE rolname OPERATOR(pg_catalog.=) CURRENT_USER), " \
	"pg_catalog.pg_has_role('pg_checkpoint', 'MEMBER'), " \
	"pg_catalog.has_function_privilege('pg_catalog.pg_ls_dir(text, boolean, boolean)', 'EXECUTE') AND " \
	"pg_catalog.has_function_privilege('pg_catalog.pg_stat_file(text, boolean)', 'EXECUTE') AND " \
	"pg_catalog.has_function_privilege('pg_catalog.pg_read_binary_file(text)', 'EXECUTE') AND " \
	"pg_catalog.has_function_privilege('pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE'), " \
	"CURRENT_USER"

static double
wall_clock(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return now.tv_sec + now.tv_usec / 1000000.0;
}

static int
bound_of(const ElectorCheck *check)
{
	return Max((int) (check->options.bound / 1000000), 1);
}

static bool
is_self(const ElectorCheck *check, const ElectorMember *member)
{
	return strcmp(member->node, check->options.node) == 0;
}

/* Version, and clock. */
static bool
check_facts(ElectorCheck *check, const ElectorMember *member, PGconn *conn)
{
	double		before = wall_clock();
	PGresult   *result = elector_source_query(conn, FACTS_QUERY, bound_of(check));
	double		after = wall_clock();
	double		difference;
	int			version;

	if (result == NULL)
	{
		elector_verdict(check, ELECTOR_VERDICT_FAIL, NULL, "node \"%s\" does not answer: %s",
						member->node, elector_source_problem(conn));
		return false;
	}
	difference = fabs(atof(PQgetvalue(result, 0, 0)) - (before + after) / 2);
	version = atoi(PQgetvalue(result, 0, 1)) / 10000;
	PQclear(result);
	if (version != PG_VERSION_NUM / 10000)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, "All nodes of a cluster are of one major version.",
						"node \"%s\" is PostgreSQL %d, this one %d", member->node, version,
						PG_VERSION_NUM / 10000);
	if (!is_self(check, member) && difference > CLOCK_DIFFERENCE + (after - before))
		elector_verdict(check, ELECTOR_VERDICT_WARN,
						"Elections do not depend on it, but times in elector_history and of scheduled"
						" switchovers do: see to NTP.",
						"the clock of node \"%s\" differs from this one's by %.1f s", member->node,
						difference);
	return true;
}

/* What the peers' role may do there. */
static void
check_rights(ElectorCheck *check, const ElectorMember *member, PGconn *conn)
{
	PGresult   *result = elector_source_query(conn, "SELECT public.elector_report()", bound_of(check));

	if (result == NULL)
	{
		const char *problem = elector_source_problem(conn);

		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						strstr(problem, "does not exist") != NULL ?
						"Run CREATE EXTENSION pg_elector in the database of pg_elector.conninfo, on the leader." :
						"Run SELECT elector_grant_peer(role) as a superuser, on the leader.",
						"node \"%s\" cannot be asked, nor fenced: %s", member->node, problem);
		return;
	}
	PQclear(result);

	result = elector_source_query(conn, RIGHTS_QUERY, bound_of(check));
	if (result == NULL)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, NULL, "node \"%s\" does not answer: %s",
						member->node, elector_source_problem(conn));
	else if (strcmp(PQgetvalue(result, 0, 0), "t") != 0 ||
			 strcmp(PQgetvalue(result, 0, 1), "t") != 0 ||
			 strcmp(PQgetvalue(result, 0, 2), "t") != 0)
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"Run SELECT elector_grant_peer(role) as a superuser, on the leader.",
						"role \"%s\" may not %s on node \"%s\"", PQgetvalue(result, 0, 3),
						strcmp(PQgetvalue(result, 0, 0), "t") != 0 ? "replicate" : "be used to rewind",
						member->node);
	PQclear(result);
}

/* pg_hba.conf has lines of its own for replication. */
static void
check_replication(ElectorCheck *check, const ElectorMember *member, const ElectorSource *source)
{
	PGconn	   *conn = elector_source_open(source, bound_of(check), true);
	PGresult   *result = NULL;

	if (PQstatus(conn) == CONNECTION_OK)
		result = elector_source_query(conn, "IDENTIFY_SYSTEM", bound_of(check));
	if (result == NULL)
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"Its pg_hba.conf needs a line for database \"replication\", too.",
						"node \"%s\" does not let this one replicate: %s", member->node,
						elector_source_problem(conn));
	else if (check->system != 0 && strtoull(PQgetvalue(result, 0, 0), NULL, 10) != check->system)
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"Its conninfo leads elsewhere, or one of the two is no copy of the other.",
						"node \"%s\" has another system identifier", member->node);
	PQclear(result);
	PQfinish(conn);
}

/* This node as that one sees it. */
static void
check_back(ElectorCheck *check, const ElectorMember *member, PGconn *conn)
{
	char	   *node = PQescapeLiteral(conn, check->options.node, strlen(check->options.node));
	PGresult   *result = elector_source_query(conn,
											  psprintf("SELECT s.state, s.detail FROM (SELECT 1) AS one LEFT JOIN public.elector_status AS s"
													   " ON s.node OPERATOR(pg_catalog.=) %s", node), bound_of(check));

	if (result == NULL)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, NULL, "node \"%s\" does not answer: %s",
						member->node, elector_source_problem(conn));
	else if (PQgetisnull(result, 0, 0))
		elector_verdict(check, check->running ? ELECTOR_VERDICT_FAIL : ELECTOR_VERDICT_WARN,
						"Its log, and this one's, say why, if it lasts.",
						"node \"%s\" does not know this one", member->node);
	else if (strcmp(PQgetvalue(result, 0, 0), "unreachable") == 0 ||
			 strcmp(PQgetvalue(result, 0, 0), "down") == 0)
	{
		if (check->running)
			elector_verdict(check, ELECTOR_VERDICT_FAIL,
							"It connects by this node's pg_elector.conninfo: see the address, listen_addresses,"
							" pg_hba.conf, firewalls, and its password file.",
							"node \"%s\" cannot reach this one: %s", member->node,
							PQgetvalue(result, 0, 1)[0] != '\0' ? PQgetvalue(result, 0, 1) :
							PQgetvalue(result, 0, 0));
	}
	else
		elector_verdict(check, ELECTOR_VERDICT_OK, NULL, "node \"%s\" reaches this one", member->node);
	PQclear(result);
	PQfreemem(node);
}

static void
check_member(ElectorCheck *check, const ElectorMember *member, bool alive)
{
	bool		self = is_self(check, member);
	int			failures = check->nfailures;
	ElectorSource source;
	PGconn	   *conn;

	if (!alive && !self)
	{
		elector_verdict(check, ELECTOR_VERDICT_WARN,
						psprintf("Start it; or if it is gone for good: SELECT elector_remove_member('%s').",
								 member->node),
						"node \"%s\" is not alive", member->node);
		return;
	}
	if (self && !check->running)
		return;
	if (!elector_source_parse(member->conninfo, &source))
		return;
	conn = elector_source_open(&source, bound_of(check), false);
	if (PQstatus(conn) != CONNECTION_OK)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, self ?
						"The other nodes come this way: see pg_elector.conninfo, listen_addresses, pg_hba.conf." :
						"See its address, listen_addresses, pg_hba.conf, firewalls, and the password file (~/.pgpass) here.",
						"%s cannot be reached at %s: %s",
						self ? "this node" : psprintf("node \"%s\"", member->node),
						elector_conninfo_address(member->conninfo), elector_source_problem(conn));
	else if (check_facts(check, member, conn))
	{
		check_rights(check, member, conn);
		check_replication(check, member, &source);
		if (failures == check->nfailures)
			elector_verdict(check, ELECTOR_VERDICT_OK, NULL, "%s is reached at %s%s",
							self ? "this node" : psprintf("node \"%s\"", member->node),
							elector_conninfo_address(member->conninfo),
							self ? ", as the others do" : "");
		if (!self)
			check_back(check, member, conn);
	}
	PQfinish(conn);
}

/* What the server says of itself, once it can be asked. */
static void
check_self(ElectorCheck *check, const ElectorMember *member)
{
	ElectorSource source;
	PGconn	   *conn;
	PGresult   *result = NULL;

	if (!check->running || !elector_source_parse(member->conninfo, &source))
		return;
	conn = elector_source_open(&source, bound_of(check), false);
	if (PQstatus(conn) == CONNECTION_OK)
		result = elector_source_query(conn,
									  psprintf("SELECT role, state, detail,"
											   " (SELECT pg_catalog.string_agg(name, ', ') FROM pg_catalog.pg_settings WHERE pending_restart)"
											   " FROM public.elector_status WHERE node OPERATOR(pg_catalog.=) '%s'",
											   check->options.node), bound_of(check));
	if (result != NULL)
	{
		const char *detail = PQgetvalue(result, 0, 2);

		elector_verdict(check, detail[0] == '\0' ? ELECTOR_VERDICT_OK : ELECTOR_VERDICT_WARN, NULL,
						"this node is %s, %s%s%s", PQgetvalue(result, 0, 0),
						PQgetvalue(result, 0, 1), detail[0] != '\0' ? ": " : "", detail);
		if (!PQgetisnull(result, 0, 3))
			elector_verdict(check, ELECTOR_VERDICT_WARN, "Restart the server.",
							"settings that have been changed wait for a restart: %s",
							PQgetvalue(result, 0, 3));
	}
	PQclear(result);
	PQfinish(conn);
}

void
elector_check_members(ElectorCheck *check)
{
	const ElectorCluster *cluster = &check->talk.mirror->cluster;
	const ElectorNode *self = elector_cluster_node(cluster, check->options.node);

	if (!check->running)
		elector_verdict(check, ELECTOR_VERDICT_WARN, "Start it, and check again.",
						"the server is not running: whether the others reach it is not known");
	else if (self == NULL || !self->member.present)
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"Its log, and elector_status on it, say why.",
						"the server is running, and is no member of the cluster");
	else
		check_self(check, &self->member);
	for (int i = 0; i < cluster->nnodes; i++)
	{
		const ElectorMember *member = &cluster->nodes[i].member;

		if (member->present)
			check_member(check, member, cluster->nodes[i].alive.present ||
						 (cluster->leader.present && strcmp(cluster->leader.node, member->node) == 0));
	}
}
