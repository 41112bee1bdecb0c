/*
 * check.c
 *	  pg_elector check: examine a node, and say what to change.
 *
 * One line for each finding: ok, warn (it works, and not as well as it might) or
 * FAIL, and under it what to do.  What can be seen without a server is looked at
 * here, in its configuration, its files, and etcd; what the members say of each
 * other in check_members.c.
 *
 * It changes nothing but one key of its own in etcd for a moment, which shows whether
 * the node may write there.
 */
#include "program.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../core/name.h"
#include "../etcd/tls.h"

#define MILLISECOND		1000

/* The library's own, and something for parallel queries and replication. */
#define WORKERS_LEAST	8

/* A lease that etcd does not give shorter is worth a word. */
#define TTL_DEFAULT		10

void
elector_verdict(ElectorCheck *check, ElectorVerdict verdict, const char *advice,
				const char *format,...)
{
	static const char *const words[] = {
		[ELECTOR_VERDICT_OK] = "ok",
		[ELECTOR_VERDICT_WARN] = "warn",
		[ELECTOR_VERDICT_FAIL] = "FAIL"
	};
	va_list		args;

	printf("%-5s ", words[verdict]);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	if (advice != NULL && verdict != ELECTOR_VERDICT_OK)
		printf("      %s\n", advice);
	fflush(stdout);
	check->nwarnings += verdict == ELECTOR_VERDICT_WARN;
	check->nfailures += verdict == ELECTOR_VERDICT_FAIL;
}

/* A setting in the configuration; "" if it is not there. */
static const char *
setting(ElectorCheck *check, const char *name)
{
	char	   *problem;
	char	   *value = elector_config_get(&check->options, name, &problem);

	return value != NULL ? value : "";
}

/* As the server reads it. */
static bool
is_on(const char *value)
{
	return pg_strcasecmp(value, "on") == 0 || pg_strcasecmp(value, "true") == 0 ||
		pg_strcasecmp(value, "yes") == 0 || strcmp(value, "1") == 0;
}

static void
expect_on(ElectorCheck *check, const char *name, const char *why)
{
	if (!is_on(setting(check, name)))
		elector_verdict(check, ELECTOR_VERDICT_FAIL, psprintf("Set %s = on.", name), "%s is off: %s",
						name, why);
}

static void
expect_least(ElectorCheck *check, const char *name, int least, const char *why)
{
	int			value = atoi(setting(check, name));

	if (value < least)
		elector_verdict(check, ELECTOR_VERDICT_WARN, psprintf("Set %s = %d, or more.", name, least),
						"%s is %d: %s", name, value, why);
}

/* What makes it a node. */
static bool
check_identity(ElectorCheck *check)
{
	ElectorOptions *options = &check->options;
	const char *fault = NULL;
	const char *libraries;
	int			failures = check->nfailures;

	if (options->node == NULL || options->node[0] == '\0' || options->conninfo == NULL ||
		options->conninfo[0] == '\0')
	{
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"A node needs pg_elector.cluster, node, etcd and conninfo.", "%s is not set",
						options->node == NULL || options->node[0] == '\0' ? "pg_elector.node" :
						"pg_elector.conninfo");
		return false;
	}
	if (!elector_name_valid(options->node))
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"Use letters, digits, \".\", \"_\" and \"-\".", "pg_elector.node \"%s\" is no name",
						options->node);
	fault = elector_conninfo_fault(options->conninfo);
	if (fault != NULL)
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"It is how the other nodes reach this one, for example \"host=10.0.0.1 port=5432 user=elector dbname=postgres\".",
						"pg_elector.conninfo %s", fault);
	libraries = setting(check, "shared_preload_libraries");
	if (strstr(libraries, "pg_elector") == NULL)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, "Set shared_preload_libraries = 'pg_elector', and restart.",
						"the library is not loaded: shared_preload_libraries is \"%s\"", libraries);
	if (failures == check->nfailures)
		elector_verdict(check, ELECTOR_VERDICT_OK, NULL, "node \"%s\" of cluster \"%s\"",
						options->node, options->cluster);
	return failures == check->nfailures;
}

/* Is the server where its conninfo says? */
static void
check_address(ElectorCheck *check)
{
	const char *addresses = setting(check, "listen_addresses");
	const char *port = setting(check, "port");
	char	   *wanted = elector_conninfo_value(check->options.conninfo, "port");
	char	   *host = elector_conninfo_value(check->options.conninfo, "host");

	if (wanted == NULL)
		wanted = DEF_PGPORT_STR;
	if (strcmp(wanted, port) != 0)
		elector_verdict(check, ELECTOR_VERDICT_WARN,
						"Right only if something between the nodes translates it.",
						"pg_elector.conninfo names port %s, and the server listens on %s", wanted, port);
	if (host == NULL || host[0] == '/' || strcmp(host, "localhost") == 0 ||
		strncmp(host, "127.", 4) == 0)
		elector_verdict(check, ELECTOR_VERDICT_WARN, "Right only if all nodes are on this machine.",
						"pg_elector.conninfo names host \"%s\"", host ? host : "");
	else if (addresses[0] == '\0' || strcmp(addresses, "localhost") == 0)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, "Set listen_addresses = '*', and restart.",
						"listen_addresses is \"%s\": no other node can connect", addresses);
}

static void
check_lease(ElectorCheck *check)
{
	double		ttl = TTL_DEFAULT;
	double		margin = 1;

	elector_config_seconds(setting(check, "pg_elector.lease_ttl"), 1, &ttl);
	elector_config_seconds(setting(check, "pg_elector.lease_margin"), 0.001, &margin);
	if (margin >= ttl)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, "Make it a small part of lease_ttl.",
						"pg_elector.lease_margin (%g s) is not less than lease_ttl (%g s)", margin, ttl);
}

/* Can it come back after it has led? */
static void
check_rewind(ElectorCheck *check)
{
	const char *rejoin = setting(check, "pg_elector.rejoin");
	ControlFileData control;
	bool		have = elector_control_read(".", &control);

	check->system = have ? control.system_identifier : 0;
	if (have && elector_control_spoiled(&control))
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"Start the server, which goes on with it; its log says what is missing.",
						"a rewind or clone of the data directory was cut off");
	if (strcmp(rejoin, "off") == 0)
		elector_verdict(check, ELECTOR_VERDICT_WARN, "Set it to rewind, or clone.",
						"pg_elector.rejoin is off: after a failover this node may need somebody");
	else if (have && control.data_checksum_version == 0 && !is_on(setting(check, "wal_log_hints")))
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"Set wal_log_hints = on, and restart, or enable checksums (pg_checksums).",
						"wal_log_hints is off and there are no data checksums: this node cannot be rewound");
	else if (have && is_on(setting(check, "full_page_writes")))
		elector_verdict(check, ELECTOR_VERDICT_OK, NULL, "can be rewound when it has led");
	expect_on(check, "full_page_writes", "a rewind needs it");
}

static void
check_server(ElectorCheck *check)
{
	int			nmembers = 1;
	char	   *version = elector_disk_read("PG_VERSION", 64, NULL);

	if (version != NULL)
	{
		version[strcspn(version, "\n")] = '\0';
		if (strcmp(version, PG_MAJORVERSION) != 0)
			elector_verdict(check, ELECTOR_VERDICT_FAIL, NULL,
							"the data directory is of PostgreSQL %s, and this program for %s", version,
							PG_MAJORVERSION);
	}
	if (check->known)
		nmembers = Max(check->talk.mirror->cluster.nnodes, 1);
	expect_on(check, "hot_standby", "this node cannot be asked anything while it follows");
	if (strcmp(setting(check, "wal_level"), "minimal") == 0)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, "Set wal_level = replica, and restart.",
						"wal_level is minimal: nobody can follow this node");
	if (strcmp(setting(check, "recovery_target_action"), "promote") == 0 &&
		(setting(check, "recovery_target")[0] != '\0' || setting(check, "recovery_target_time")[0] != '\0' ||
		 setting(check, "recovery_target_lsn")[0] != '\0' || setting(check, "recovery_target_xid")[0] != '\0' ||
		 setting(check, "recovery_target_name")[0] != '\0'))
		elector_verdict(check, ELECTOR_VERDICT_FAIL, "Only an election promotes a node.",
						"recovery_target_action is promote: the server does not start");
	expect_least(check, "max_wal_senders", nmembers + 2,
				 "the other members stream, and are cloned, by them");
	expect_least(check, "max_replication_slots", nmembers,
				 "a node keeps one for each other member");
	expect_least(check, "max_worker_processes", WORKERS_LEAST, "the library takes up to five");
}

static void
check_file(ElectorCheck *check, const char *name, const char *path,
		   bool (*valid) (const char *path, char *error, size_t size))
{
	char		error[256];

	if (path == NULL || path[0] == '\0')
		return;
	if (valid(path, error, sizeof(error)))
		elector_verdict(check, ELECTOR_VERDICT_OK, NULL, "%s is usable", name);
	else
		elector_verdict(check, ELECTOR_VERDICT_FAIL, psprintf("Correct the file, or %s.", name), "%s", error);
}

/* libpq passes over one that others may read, and says so where nobody looks. */
static void
check_password_file(ElectorCheck *check)
{
	const char *path = getenv("PGPASSFILE");
	const char *home = getenv("HOME");
	struct stat st;

	if (path == NULL || path[0] == '\0')
		path = home ? psprintf("%s/.pgpass", home) : NULL;
	if (path != NULL && stat(path, &st) == 0 && (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, psprintf("chmod 600 %s", path),
						"password file \"%s\" is open to others, so libpq does not use it", path);
}

static void
check_files(ElectorCheck *check)
{
	const ElectorEtcdSettings *etcd = &check->options.etcd;
	bool		cert = etcd->cert_file != NULL && etcd->cert_file[0] != '\0';
	bool		key = etcd->key_file != NULL && etcd->key_file[0] != '\0';
	bool		user = etcd->user != NULL && etcd->user[0] != '\0';
	char		error[256];

	check_file(check, "pg_elector.etcd_ca_file", etcd->ca_file, elector_tls_certificates_valid);
	check_file(check, "pg_elector.etcd_cert_file", etcd->cert_file, elector_tls_certificates_valid);
	check_file(check, "pg_elector.etcd_key_file", etcd->key_file, elector_tls_key_valid);
	check_file(check, "pg_elector.etcd_password_file", etcd->password_file, elector_auth_file_valid);
	if (cert != key)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, "A certificate needs its key: set both.",
						"only one of pg_elector.etcd_cert_file and pg_elector.etcd_key_file is set");
	else if (cert && elector_tls_certificates_valid(etcd->cert_file, error, sizeof(error)) &&
			 elector_tls_key_valid(etcd->key_file, error, sizeof(error)) &&
			 !elector_tls_pair_valid(etcd->cert_file, etcd->key_file, error, sizeof(error)))
		elector_verdict(check, ELECTOR_VERDICT_FAIL, NULL, "%s", error);
	if (user && strstr(etcd->endpoints, "http://") != NULL)
		elector_verdict(check, ELECTOR_VERDICT_WARN, "Let etcd use TLS, and begin all endpoints with \"https://\".",
						"the password of etcd's user \"%s\" travels in the clear", etcd->user);
	check_password_file(check);
}

/* Each endpoint alone; a cluster needs one of them. */
static void
check_endpoints(ElectorCheck *check)
{
	char	   *list = pg_strdup(check->options.etcd.endpoints);
	char	   *rest = NULL;
	int			answered = 0;
	int			silent = 0;

	for (char *one = strtok_r(list, ", ", &rest); one != NULL; one = strtok_r(NULL, ", ", &rest))
	{
		ElectorEtcdSettings alone = check->options.etcd;
		int64		before = elector_talk_now();
		ElectorTalk talk;

		alone.endpoints = one;
		if (!elector_talk_begin(&talk, &alone, check->options.cluster, "", check->options.bound))
			continue;
		if (elector_talk_load(&talk))
		{
			answered++;
			elector_verdict(check, ELECTOR_VERDICT_OK, NULL, "etcd at %s answers, in " INT64_FORMAT " ms",
							one, (elector_talk_now() - before) / MILLISECOND);
		}
		else
		{
			silent++;
			elector_verdict(check, ELECTOR_VERDICT_WARN, "One that answers is enough, while it does.",
							"etcd at %s cannot be used: %s", one, talk.error);
		}
		elector_talk_end(&talk);
	}
	if (answered == 0)
		elector_verdict(check, ELECTOR_VERDICT_FAIL, "See pg_elector.etcd, and whether etcd runs.",
						"etcd cannot be reached");
	else if (answered + silent == 1)
		elector_verdict(check, ELECTOR_VERDICT_WARN,
						"In production let etcd have three members, and name them all in pg_elector.etcd.",
						"etcd has one endpoint: while it is down, there is no change of the leader");
}

/* The shortest lease, and the right to write. */
static void
check_etcd_service(ElectorCheck *check)
{
	ElectorTalk *talk = &check->talk;
	char		key[ELECTOR_KEY_SIZE];
	double		ttl = TTL_DEFAULT;
	int64		lease;
	ElectorTxn *txn = elector_txn_create();

	elector_config_seconds(setting(check, "pg_elector.lease_ttl"), 1, &ttl);
	talk->deadline = elector_talk_now() + check->options.bound;
	if (!elector_talk_grant(talk, (int64) ttl))
	{
		elector_verdict(check, ELECTOR_VERDICT_FAIL, NULL, "etcd grants no lease: %s", talk->error);
		return;
	}
	lease = talk->lease;
	if (talk->ttl > (int64) ttl)
		elector_verdict(check, ELECTOR_VERDICT_WARN,
						"That is one and a half of its --election-timeout: make that shorter, or lease_ttl longer.",
						"etcd grants no lease of less than " INT64_FORMAT " s, and pg_elector.lease_ttl is %g s",
						talk->ttl, ttl);
	else
		elector_verdict(check, ELECTOR_VERDICT_OK, NULL, "etcd grants leases of %g s", ttl);

	snprintf(key, sizeof(key), "%scheck/%s", talk->mirror->keys.prefix, check->options.node);
	elector_txn_put(txn, key, "{}", lease);
	if (!elector_talk_commit(talk, txn))
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						psprintf("etcd's user needs a role with: readwrite, --prefix=true, %s",
								 talk->mirror->keys.prefix),
						"this node may not write to etcd: %s", talk->error);
	if (!elector_talk_revoke(talk, lease))
		elector_verdict(check, ELECTOR_VERDICT_WARN, NULL, "etcd does not revoke a lease: %s", talk->error);
}

/* The node in its cluster. */
static void
check_cluster(ElectorCheck *check)
{
	const ElectorCluster *cluster = &check->talk.mirror->cluster;
	const ElectorNode *self = elector_cluster_node(cluster, check->options.node);

	if (cluster->system == 0)
	{
		elector_verdict(check, ELECTOR_VERDICT_WARN, "Start its first node.", "etcd knows no cluster \"%s\" yet",
						check->options.cluster);
		return;
	}
	if (check->system != 0 && check->system != cluster->system)
		elector_verdict(check, ELECTOR_VERDICT_FAIL,
						"Is pg_elector.cluster right?  A new node is made with \"pg_elector join\".",
						"the data directory is of another system than cluster \"%s\"", check->options.cluster);
	if (self != NULL && self->member.present &&
		strcmp(self->member.conninfo, check->options.conninfo) != 0)
		elector_verdict(check, ELECTOR_VERDICT_WARN, "Restart the server.",
						"the other nodes reach this one by another pg_elector.conninfo: \"%s\"",
						self->member.conninfo);
	if (!cluster->leader.present)
		elector_verdict(check, ELECTOR_VERDICT_WARN, "\"pg_elector status\" shows who is there.",
						"nobody leads cluster \"%s\" now", check->options.cluster);
	if (cluster->settings.paused)
		elector_verdict(check, ELECTOR_VERDICT_WARN, "SELECT elector_resume() ends that.",
						"the cluster is paused: nobody takes the leader's place");
	for (int i = 0; self != NULL && self->member.present && i < cluster->nnodes; i++)
	{
		const ElectorMember *member = &cluster->nodes[i].member;

		if (member->present && strcmp(member->durability, self->member.durability) != 0)
			elector_verdict(check, ELECTOR_VERDICT_WARN,
							"Set it to the same on all nodes; until then the former one stays in force.",
							"pg_elector.durability of node \"%s\" is \"%s\", here \"%s\"", member->node,
							member->durability, self->member.durability);
	}
}

static bool
is_running(void)
{
	char	   *text = elector_disk_read("postmaster.pid", 4096, NULL);
	int			pid = text ? atoi(text) : 0;

	return pid > 1 && (kill(pid, 0) == 0 || errno == EPERM);
}

int
elector_check(int argc, char **argv)
{
	ElectorCheck check = {.options.bin_directory = elector_bin_directory(argv[0])};
	ElectorOptions *options = &check.options;

	elector_log_plainly();
	if (!elector_options_parse(options, argc - 1, argv + 1, "DfeACKUPut"))
		return 1;
	if (options->data_directory == NULL)
	{
		elector_log(ELECTOR_FATAL, "no data directory is given (-D)");
		return 1;
	}
	if (!elector_options_complete(options) || !elector_options_enter(options))
		return 1;
	if (!check_identity(&check))
		return 1;
	check.running = is_running();
	check_endpoints(&check);
	check.known = elector_talk_begin(&check.talk, &options->etcd, options->cluster, options->node,
									 options->bound) &&
		elector_talk_load(&check.talk);
	check_address(&check);
	check_lease(&check);
	check_server(&check);
	check_rewind(&check);
	check_files(&check);
	if (check.known)
	{
		check_etcd_service(&check);
		check_cluster(&check);
		elector_check_members(&check);
	}
	printf("\n%d to change, %d to think about\n", check.nfailures, check.nwarnings);
	return check.nfailures > 0 ? 1 : 0;
}
