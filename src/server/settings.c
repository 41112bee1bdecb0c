/*
 * settings.c
 *	  The settings, and their checks.
 *
 * A setting is checked when it is set, so that ALTER SYSTEM refuses what the
 * next start would stumble over.  Where two settings must agree, the check of
 * each looks at the other, once both are known.
 *
 * With pg_elector.cluster empty the library does nothing at all.
 */
#include "library.h"

#include <limits.h>

#include "catalog/pg_authid.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
#include "utils/varlena.h"

#include "core/name.h"
#include "etcd/auth.h"
#include "etcd/client.h"
#include "etcd/tls.h"
#include "http.h"
#include "pgbouncer.h"
#include "synchronous.h"

char	   *elector_cluster = NULL;
char	   *elector_node = NULL;
char	   *elector_etcd_endpoints = NULL;
char	   *elector_etcd_ca_file = NULL;
char	   *elector_etcd_cert_file = NULL;
char	   *elector_etcd_key_file = NULL;
char	   *elector_etcd_user = NULL;
char	   *elector_etcd_password_file = NULL;
char	   *elector_conninfo = NULL;
int			elector_lease_ttl = 10;
int			elector_lease_margin = 1000;
int			elector_fence_timeout = 1000;
int			elector_cold_start_wait = 30000;
int			elector_failover_cooldown = 30000;
int			elector_drain_timeout = 200;
bool		elector_candidate = true;
int			elector_priority = 100;
char	   *elector_zone = NULL;
int			elector_maximum_lag = 1024;
char	   *elector_durability = NULL;
char	   *elector_admin_roles = NULL;
char	   *elector_pgbouncer = NULL;
char	   *elector_http_listen = NULL;
char	   *elector_http_cert_file = NULL;
char	   *elector_http_key_file = NULL;
char	   *elector_role_change_command = NULL;
int			elector_role_change_timeout = 10000;
int			elector_rejoin = ELECTOR_REJOIN_REWIND;
bool		elector_slots = true;
bool		elector_failsafe = true;
int			elector_generation = 0;
char	   *elector_upstream_term = NULL;
char	   *elector_restore_command = NULL;
char	   *elector_standby_names = NULL;
int			elector_follower_timeout = 60000;
int			elector_degrade_after = 10000;
int			elector_disk_timeout = 30000;
int			elector_lease_wait = 1000;
int			elector_max_staleness = 0;
int			elector_standby_reads = ELECTOR_READS_VERIFIED;
int			elector_too_few_followers = ELECTOR_COMMITS_WAIT;
char	   *elector_primary_slot_name = NULL;

/* The user of pg_elector.conninfo, which the other nodes come as, and its database. */
static char *peer_role = NULL;
static char *peer_database = NULL;

/* All settings are defined, so one can be checked against another. */
static bool defined = false;

#define MAX_STALENESS_MIN 100	/* milliseconds */

static const struct config_enum_entry too_few_options[] = {
	{"wait", ELECTOR_COMMITS_WAIT, false},
	{"degrade", ELECTOR_DEGRADE, false},
	{NULL, 0, false}
};

static const struct config_enum_entry standby_reads_options[] = {
	{"verified", ELECTOR_READS_VERIFIED, false},
	{"always", ELECTOR_READS_ALWAYS, false},
	{NULL, 0, false}
};

static const struct config_enum_entry rejoin_options[] = {
	{"rewind", ELECTOR_REJOIN_REWIND, false},
	{"clone", ELECTOR_REJOIN_CLONE, false},
	{"off", ELECTOR_REJOIN_OFF, false},
	{NULL, 0, false}
};

const char *
elector_rejoin_name(void)
{
	for (const struct config_enum_entry *entry = rejoin_options; entry->name; entry++)
	{
		if (entry->val == elector_rejoin)
			return entry->name;
	}
	pg_unreachable();
}

static bool
check_name(char **newval, void **extra, GucSource source)
{
	if ((*newval)[0] == '\0' || elector_name_valid(*newval))
		return true;
	GUC_check_errdetail("\"%s\" is not a name: use at most %d letters, digits, \".\", \"_\" and \"-\", beginning with a letter, a digit or \"_\".",
						*newval, ELECTOR_NAME_SIZE - 1);
	return false;
}

static bool
check_etcd(char **newval, void **extra, GucSource source)
{
	const char *error;

	if ((*newval)[0] == '\0' || elector_etcd_endpoints_valid(*newval, &error))
		return true;
	GUC_check_errdetail("%s.", error);
	GUC_check_errhint("Give the URLs of etcd's members, separated by commas, for example \"http://10.0.0.5:2379,http://10.0.0.6:2379\".");
	return false;
}

/* The leader must have been asked, and what it said replayed, within this time. */
static bool
check_max_staleness(int *newval, void **extra, GucSource source)
{
	if (*newval == 0 || *newval >= MAX_STALENESS_MIN)
		return true;
	GUC_check_errdetail("It must be 0 or at least %d ms.", MAX_STALENESS_MIN);
	return false;
}

static bool
check_etcd_user(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) >= ELECTOR_USER_SIZE || strpbrk(*newval, "\r\n") != NULL)
	{
		GUC_check_errdetail("The name is longer than %d bytes or has several lines.",
							ELECTOR_USER_SIZE - 1);
		return false;
	}
	return true;
}

/*
 * What the file holds is looked at when the setting gets another value; that the
 * file changes later is the elector's business.
 */
static bool
check_file(const char *newval, const char *present,
		   bool (*valid) (const char *path, char *error, size_t size))
{
	char		error[ELECTOR_PROBLEM_SIZE];

	if (newval[0] == '\0' || (present != NULL && strcmp(newval, present) == 0))
		return true;
	if (strlen(newval) >= ELECTOR_PATH_SIZE)
	{
		GUC_check_errdetail("The path is longer than %d bytes.", ELECTOR_PATH_SIZE - 1);
		return false;
	}
	if (valid(newval, error, sizeof(error)))
		return true;

	/* A server that restarts by itself may meet it half written. */
	for (int i = 0; i < 10 && process_shared_preload_libraries_in_progress; i++)
	{
		pg_usleep(100 * 1000);
		if (valid(newval, error, sizeof(error)))
			return true;
	}
	error[0] = pg_toupper((unsigned char) error[0]);
	GUC_check_errdetail("%s.", error);
	return false;
}

static bool
check_etcd_ca_file(char **newval, void **extra, GucSource source)
{
	return check_file(*newval, elector_etcd_ca_file, elector_tls_certificates_valid);
}

static bool
check_etcd_cert_file(char **newval, void **extra, GucSource source)
{
	return check_file(*newval, elector_etcd_cert_file, elector_tls_certificates_valid);
}

static bool
check_etcd_key_file(char **newval, void **extra, GucSource source)
{
	return check_file(*newval, elector_etcd_key_file, elector_tls_key_valid);
}

static bool
check_etcd_password_file(char **newval, void **extra, GucSource source)
{
	return check_file(*newval, elector_etcd_password_file, elector_auth_file_valid);
}

static bool
check_conninfo(char **newval, void **extra, GucSource source)
{
	PQconninfoOption *options;
	char	   *error = NULL;
	bool		has_host = false;
	bool		has_dbname = false;
	bool		has_password = false;

	if ((*newval)[0] == '\0')
		return true;
	if (strlen(*newval) >= ELECTOR_CONNINFO_SIZE - 128 || strchr(*newval, '\n'))
	{
		GUC_check_errmsg("invalid value for parameter \"pg_elector.conninfo\"");
		GUC_check_errdetail("The connection string is longer than %d bytes or has several lines.",
							ELECTOR_CONNINFO_SIZE - 129);
		return false;
	}
	options = PQconninfoParse(*newval, &error);
	if (options == NULL)
	{
		/* The value may hold a password. */
		GUC_check_errmsg("invalid value for parameter \"pg_elector.conninfo\"");
		if (error != NULL)
			error[strcspn(error, "\n")] = '\0';
		GUC_check_errdetail("libpq says: %s",
							error ? pstrdup(error) : "out of memory");
		PQfreemem(error);
		GUC_check_errhint("Give a connection string by which the other nodes reach this one, for example \"host=10.0.0.1 port=5432 user=elector dbname=postgres\".");
		return false;
	}
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (option->val == NULL || option->val[0] == '\0')
			continue;
		if (strcmp(option->keyword, "host") == 0 ||
			strcmp(option->keyword, "hostaddr") == 0)
			has_host = true;
		if (strcmp(option->keyword, "dbname") == 0)
			has_dbname = true;
		if (strcmp(option->keyword, "password") == 0 ||
			strcmp(option->keyword, "sslpassword") == 0)
			has_password = true;
	}
	PQconninfoFree(options);
	if (has_password)
	{
		GUC_check_errmsg("invalid value for parameter \"pg_elector.conninfo\"");
		GUC_check_errdetail("It holds a password, which everybody who may read etcd or the server's log would see.");
		GUC_check_errhint("Put the password into the password file (~/.pgpass) of every node.");
		return false;
	}
	if (!has_host || !has_dbname)
	{
		GUC_check_errmsg("invalid value for parameter \"pg_elector.conninfo\"");
		GUC_check_errdetail("It names no %s.", has_host ? "dbname" : "host");
		GUC_check_errhint("Give host, port, user and dbname by which the other nodes reach this one.");
		return false;
	}
	return true;
}

/* Remember which role the peers come as: the gate lets it in. */
static void
assign_conninfo(const char *newval, void *extra)
{
	PQconninfoOption *options = PQconninfoParse(newval, NULL);

	free(peer_role);
	free(peer_database);
	peer_role = peer_database = NULL;
	if (options == NULL)
		return;
	for (PQconninfoOption *option = options; option->keyword != NULL; option++)
	{
		if (strcmp(option->keyword, "user") == 0 && option->val != NULL)
			peer_role = strdup(option->val);
		if (strcmp(option->keyword, "dbname") == 0 && option->val != NULL)
			peer_database = strdup(option->val);
	}
	PQconninfoFree(options);
}

const char *
elector_peer_database(void)
{
	return peer_database != NULL ? peer_database : "postgres";
}

static bool
check_lease_ttl(int *newval, void **extra, GucSource source)
{
	if (defined && elector_lease_margin >= *newval * 1000)
	{
		GUC_check_errdetail("\"pg_elector.lease_margin\" (%d ms) must be less than \"pg_elector.lease_ttl\" (%d s).",
							elector_lease_margin, *newval);
		return false;
	}
	return true;
}

static bool
check_lease_margin(int *newval, void **extra, GucSource source)
{
	if (*newval >= elector_lease_ttl * 1000)
	{
		GUC_check_errdetail("\"pg_elector.lease_margin\" (%d ms) must be less than \"pg_elector.lease_ttl\" (%d s).",
							*newval, elector_lease_ttl);
		return false;
	}
	return true;
}

/*
 * A policy of another library may not be registered yet while libraries are loaded;
 * then elector_settings_check_policy() looks again.
 */
static bool
check_durability(char **newval, void **extra, GucSource source)
{
	const char *message;

	if (process_shared_preload_libraries_in_progress || elector_policy_valid(*newval, &message))
		return true;
	GUC_check_errdetail("\"%s\" is no durability policy: %s.", *newval, message);
	return false;
}

static bool
check_admin_roles(char **newval, void **extra, GucSource source)
{
	char	   *copy = pstrdup(*newval);
	List	   *names;
	bool		valid = SplitIdentifierString(copy, ',', &names);

	if (!valid)
		GUC_check_errdetail("List syntax is invalid: give role names separated by commas.");
	pfree(copy);
	return valid;
}

static bool
check_pgbouncer(char **newval, void **extra, GucSource source)
{
	char		error[ELECTOR_TEXT_SIZE];

	if (elector_pgbouncer_valid(*newval, error, sizeof(error)))
		return true;

	/* The value may hold a password. */
	GUC_check_errmsg("invalid value for parameter \"pg_elector.pgbouncer\"");
	GUC_check_errdetail("%s", error);
	GUC_check_errhint("Give the connection strings of the PgBouncers' admin consoles, separated by semicolons, for example \"host=10.0.0.9 port=6432 user=elector\"; passwords belong into the password file (~/.pgpass) of every node.");
	return false;
}

static bool
check_http_listen(char **newval, void **extra, GucSource source)
{
	char		error[ELECTOR_TEXT_SIZE];

	if (elector_http_listen_valid(*newval, error, sizeof(error)))
		return true;
	GUC_check_errdetail("%s", error);
	GUC_check_errhint("Give addresses of this machine, or \"*\", with a port, separated by commas, for example \"10.0.0.1:8008\" or \"[fd00::1]:8008\".");
	return false;
}

/*
 * A server starts without the files, too; then its endpoint does not serve
 * (certificate.c).
 */
static bool
check_http_file(const char *path, const char *present,
				bool (*valid) (const char *path, char *error, size_t size))
{
	char		error[ELECTOR_TEXT_SIZE];

	if (process_shared_preload_libraries_in_progress ||
		(present != NULL && strcmp(path, present) == 0) || valid(path, error, sizeof(error)))
		return true;
	GUC_check_errdetail("\"%s\" cannot be used: %s.", path, error);
	return false;
}

static bool
check_http_cert_file(char **newval, void **extra, GucSource source)
{
	return check_http_file(*newval, elector_http_cert_file, elector_http_certificate_valid);
}

static bool
check_http_key_file(char **newval, void **extra, GucSource source)
{
	return check_http_file(*newval, elector_http_key_file, elector_http_key_valid);
}

static bool
check_role_change_command(char **newval, void **extra, GucSource source)
{
	if (strlen(*newval) < ELECTOR_COMMAND_SIZE && strpbrk(*newval, "\n\r") == NULL)
		return true;
	GUC_check_errdetail("The command is longer than %d bytes or has several lines.",
						ELECTOR_COMMAND_SIZE - 1);
	GUC_check_errhint("Write it into a file, and name that.");
	return false;
}

/*
 * In the startup process this runs when it has loaded the file that the number
 * came in; nothing else proves that it did.
 */
static void
assign_generation(int newval, void *extra)
{
	if (MyBackendType == B_STARTUP && elector_shared != NULL)
	{
		pg_atomic_write_u32(&elector_shared->startup_generation, (uint32) newval);
		elector_wake_worker();
	}
}

static void
define_identity_settings(void)
{
	DefineCustomStringVariable("pg_elector.cluster",
							   "Name of the group of servers that elect a primary; empty turns the library off.",
							   "The same on all nodes; etcd keys begin with /pg_elector/<cluster>/.",
							   &elector_cluster, "", PGC_POSTMASTER, 0,
							   check_name, NULL, NULL);
	DefineCustomStringVariable("pg_elector.node",
							   "Name of this server within the cluster.",
							   "Different on every node, and kept by its data directory.",
							   &elector_node, "", PGC_POSTMASTER, 0,
							   check_name, NULL, NULL);
	DefineCustomStringVariable("pg_elector.conninfo",
							   "How the other nodes reach this one, for replication and for control.",
							   "A libpq connection string with host, port, user and dbname.",
							   &elector_conninfo, "", PGC_POSTMASTER,
							   GUC_SUPERUSER_ONLY,
							   check_conninfo, assign_conninfo, NULL);
	DefineCustomStringVariable("pg_elector.zone",
							   "Failure domain of this node.",
							   NULL,
							   &elector_zone, "", PGC_POSTMASTER, 0,
							   check_name, NULL, NULL);
	DefineCustomBoolVariable("pg_elector.candidate",
							 "Whether this node may become leader.",
							 NULL,
							 &elector_candidate, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("pg_elector.priority",
							"Among equally advanced nodes the one with the higher priority becomes leader.",
							NULL,
							&elector_priority, 100, 0, 1000000, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
}

static void
define_etcd_settings(void)
{
	DefineCustomStringVariable("pg_elector.etcd",
							   "URLs of etcd's members, separated by commas.",
							   NULL,
							   &elector_etcd_endpoints, "", PGC_POSTMASTER, 0,
							   check_etcd, NULL, NULL);
	DefineCustomStringVariable("pg_elector.etcd_ca_file",
							   "File with the certificates of the CAs that sign etcd's certificates.",
							   "Empty means those that the system trusts.",
							   &elector_etcd_ca_file, "", PGC_SIGHUP, 0,
							   check_etcd_ca_file, NULL, NULL);
	DefineCustomStringVariable("pg_elector.etcd_cert_file",
							   "File with this node's certificate for etcd.",
							   "Read anew when it has changed.",
							   &elector_etcd_cert_file, "", PGC_SIGHUP, 0,
							   check_etcd_cert_file, NULL, NULL);
	DefineCustomStringVariable("pg_elector.etcd_key_file",
							   "File with the key of pg_elector.etcd_cert_file.",
							   "Others must not be able to read it; read anew when it has changed.",
							   &elector_etcd_key_file, "", PGC_SIGHUP, 0,
							   check_etcd_key_file, NULL, NULL);
	DefineCustomStringVariable("pg_elector.etcd_user",
							   "User of etcd.",
							   NULL,
							   &elector_etcd_user, "", PGC_SIGHUP, 0,
							   check_etcd_user, NULL, NULL);
	DefineCustomStringVariable("pg_elector.etcd_password_file",
							   "File whose first line is the password of pg_elector.etcd_user.",
							   "Others must not be able to read it; read anew when it has changed.",
							   &elector_etcd_password_file, "", PGC_SIGHUP, 0,
							   check_etcd_password_file, NULL, NULL);
}

static void
define_time_settings(void)
{
	DefineCustomIntVariable("pg_elector.lease_ttl",
							"How long etcd keeps a leadership that is not renewed.",
							"A dead leader is replaced after this time; at least 2 seconds, and at least etcd's own floor of one and a half election timeouts.",
							&elector_lease_ttl, 10, 2, 3600, PGC_POSTMASTER,
							GUC_UNIT_S,
							check_lease_ttl, NULL, NULL);
	DefineCustomIntVariable("pg_elector.lease_margin",
							"How much earlier than etcd the gate closes.",
							"Covers the drift of clocks within one lease; less than pg_elector.lease_ttl.",
							&elector_lease_margin, 1000, 1, 3600000, PGC_POSTMASTER,
							GUC_UNIT_MS,
							check_lease_margin, NULL, NULL);
	DefineCustomIntVariable("pg_elector.fence_timeout",
							"How long an election waits for a member that may be dead.",
							NULL,
							&elector_fence_timeout, 1000, 100, 60000, PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pg_elector.cold_start_wait",
							"How long a cluster that starts waits for its last leader.",
							"After this time another node is elected, and rows of the last leader may be missing.",
							&elector_cold_start_wait, 30000, 0, INT_MAX / 2, PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pg_elector.failover_cooldown",
							"Least time between two automatic changes of the leader.",
							NULL,
							&elector_failover_cooldown, 30000, 0, INT_MAX / 2, PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pg_elector.drain_timeout",
							"How long a switchover waits for transactions under way to end.",
							"New ones wait meanwhile.",
							&elector_drain_timeout, 200, 0, 60000, PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/* Settings with a check that a configuration file can fail. */
static const char *const checked_settings[] = {
	"pg_elector.cluster", "pg_elector.node", "pg_elector.etcd",
	"pg_elector.etcd_ca_file", "pg_elector.etcd_cert_file",
	"pg_elector.etcd_key_file", "pg_elector.etcd_user",
	"pg_elector.etcd_password_file",
	"pg_elector.conninfo", "pg_elector.zone", "pg_elector.candidate",
	"pg_elector.priority", "pg_elector.lease_ttl", "pg_elector.lease_margin",
	"pg_elector.fence_timeout", "pg_elector.cold_start_wait",
	"pg_elector.failover_cooldown", "pg_elector.drain_timeout", "pg_elector.maximum_lag",
	"pg_elector.durability", "pg_elector.too_few_followers", "pg_elector.degrade_after",
	"pg_elector.follower_timeout", "pg_elector.admin_roles", "pg_elector.rejoin",
	"pg_elector.pgbouncer", "pg_elector.slots", "pg_elector.failsafe", "pg_elector.http_listen",
	"pg_elector.role_change_command", "pg_elector.role_change_timeout"
};

static bool
is_default(const char *name)
{
	struct config_generic **variables = get_guc_variables();

	for (int i = 0; i < GetNumConfigOptions(); i++)
	{
		if (strcmp(variables[i]->name, name) == 0)
			return variables[i]->source == PGC_S_DEFAULT;
	}
	return false;
}

/*
 * PostgreSQL only warns when the value that a library's setting has in a
 * configuration file is invalid, and goes on with the default.  A cluster must
 * not be run with a value that nobody chose.
 */
static void
refuse_rejected(const bool *was_set)
{
	for (int i = 0; i < lengthof(checked_settings); i++)
	{
		if (was_set[i] && is_default(checked_settings[i]))
			ereport(FATAL,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("invalid value for parameter \"%s\"", checked_settings[i]),
					 errhint("The warning before this message tells what is wrong.")));
	}
}

/* How others hear of the leader. */
static void
define_outward_settings(void)
{
	DefineCustomStringVariable("pg_elector.pgbouncer",
							   "Admin consoles of the PgBouncers that the leader points at itself.",
							   "libpq connection strings separated by semicolons, the same on all nodes.",
							   &elector_pgbouncer, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
							   check_pgbouncer, NULL, NULL);
	DefineCustomStringVariable("pg_elector.http_listen",
							   "Addresses and ports of the HTTP endpoint, separated by commas; empty turns it off.",
							   "For load balancers and monitoring; it asks nobody who he is.",
							   &elector_http_listen, "", PGC_POSTMASTER, 0,
							   check_http_listen, NULL, NULL);
	DefineCustomStringVariable("pg_elector.http_cert_file",
							   "Certificate of the HTTP endpoint, with those between it and the root, in PEM format.",
							   "With pg_elector.http_key_file the endpoint speaks TLS; without both it does not. Read again at a reload.",
							   &elector_http_cert_file, "", PGC_SIGHUP, 0,
							   check_http_cert_file, NULL, NULL);
	DefineCustomStringVariable("pg_elector.http_key_file",
							   "Private key of the HTTP endpoint's certificate, in PEM format.",
							   NULL,
							   &elector_http_key_file, "", PGC_SIGHUP, 0,
							   check_http_key_file, NULL, NULL);
	DefineCustomStringVariable("pg_elector.role_change_command",
							   "Shell command that is run when this node's role or leader has changed, and at the start.",
							   "Its arguments are the node, its role (leader, follower, none), the term, and the leader.",
							   &elector_role_change_command, "", PGC_SIGHUP,
							   GUC_SUPERUSER_ONLY,
							   check_role_change_command, NULL, NULL);
	DefineCustomIntVariable("pg_elector.role_change_timeout",
							"A role_change_command that runs for longer is ended.",
							NULL,
							&elector_role_change_timeout, 10000, 100, 3600000, PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
}

void
elector_settings_define(void)
{
	bool		was_set[lengthof(checked_settings)];

	for (int i = 0; i < lengthof(checked_settings); i++)
		was_set[i] = GetConfigOption(checked_settings[i], true, false) != NULL;

	define_identity_settings();
	define_etcd_settings();
	define_time_settings();
	DefineCustomIntVariable("pg_elector.maximum_lag",
							"A node further behind the leader than this is not elected.",
							"-1 means no limit.",
							&elector_maximum_lag, 1024, -1, INT_MAX, PGC_SIGHUP,
							GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomStringVariable("pg_elector.durability",
							   "What makes a commit durable.",
							   "\"async\": the leader alone; \"any N\": N followers, too; \"zones N\": followers in N zones other than the leader's.  In force when all members that are there have it.",
							   &elector_durability, "async", PGC_SIGHUP, 0,
							   check_durability, NULL, NULL);
	DefineCustomEnumVariable("pg_elector.too_few_followers",
							 "What a leader does when too few follow for the durability policy.",
							 "\"wait\": commits wait; \"degrade\": after degrade_after they are acknowledged by the leader alone, until enough follow again.",
							 &elector_too_few_followers, ELECTOR_COMMITS_WAIT, too_few_options,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomEnumVariable("pg_elector.standby_reads",
							 "When a standby answers reads.",
							 "\"verified\": while its history is known to be the leader's; \"always\": also while it may hold rows that will be discarded.",
							 &elector_standby_reads, ELECTOR_READS_VERIFIED, standby_reads_options,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("pg_elector.max_staleness",
							"A standby that may lack what was committed longer ago than this refuses reads.",
							"It asks the leader several times within this time.  Commits that wait for nothing (synchronous_commit = off) count from when they are written.  0: no bound.",
							&elector_max_staleness, 0, 0, INT_MAX / 2, PGC_SIGHUP,
							GUC_UNIT_MS,
							check_max_staleness, NULL, NULL);
	DefineCustomIntVariable("pg_elector.disk_timeout",
							"A leader whose disk does not take a write for so long gives leadership up.",
							"So it does where there is no room for WAL and another node has some.  0: neither is looked at.",
							&elector_disk_timeout, 30000, 0, INT_MAX / 2, PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pg_elector.lease_wait",
							"How long a statement or commit waits on a leader whose lease etcd has not confirmed in time.",
							"Then it fails.  0: it fails at once.",
							&elector_lease_wait, 1000, 0, 600000, PGC_USERSET,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pg_elector.degrade_after",
							"How long too few must follow before durability is degraded.",
							NULL,
							&elector_degrade_after, 10000, 0, INT_MAX / 2, PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("pg_elector.follower_timeout",
							"A follower that is away for longer is done without, where the policy allows.",
							"A failover then need not wait for it.",
							&elector_follower_timeout, 60000, 1000, INT_MAX / 2, PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("pg_elector.admin_roles",
							   "Roles that may connect and read while the gate is closed.",
							   "Names separated by commas.",
							   &elector_admin_roles, "postgres", PGC_SIGHUP,
							   GUC_LIST_INPUT,
							   check_admin_roles, NULL, NULL);
	DefineCustomEnumVariable("pg_elector.rejoin",
							 "What a node does that holds WAL which the leader does not have.",
							 "\"rewind\", \"clone\" (rewind, or else clone), or \"off\".",
							 &elector_rejoin, ELECTOR_REJOIN_REWIND, rejoin_options,
							 PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("pg_elector.slots",
							 "Whether this node keeps a replication slot for every other member, and follows by its own.",
							 "Named \"" ELECTOR_SLOT_PREFIX "<node>\"; off drops them.",
							 &elector_slots, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("pg_elector.failsafe",
							 "Whether a leader that is without etcd goes on while enough members promise to elect nobody else.",
							 "Off on a leader, it stops when its lease ends; off on another member, that one promises nothing.",
							 &elector_failsafe, true, PGC_SIGHUP, 0,
							 NULL, NULL, NULL);
	define_outward_settings();
	DefineCustomIntVariable("pg_elector.generation",
							"Counts the changes of primary_conninfo by the library.",
							"Set by the library; do not change it.",
							&elector_generation, 0, 0, INT_MAX, PGC_SIGHUP,
							GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							NULL, assign_generation, NULL);
	DefineCustomStringVariable("pg_elector.restore_command",
							   "What restore_command was set to, while the library keeps it off.",
							   "Set by the library; do not change it.",
							   &elector_restore_command, "", PGC_SIGHUP,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("pg_elector.standby_names",
							   "What the library has set synchronous_standby_names to.",
							   "Set by the library; do not change it.",
							   &elector_standby_names, "", PGC_SIGHUP,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   NULL, elector_synchronous_assign, NULL);
	DefineCustomStringVariable("pg_elector.primary_slot_name",
							   "What primary_slot_name was set to, while the library uses its own.",
							   "Set by the library; do not change it.",
							   &elector_primary_slot_name, "", PGC_SIGHUP,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("pg_elector.upstream_term",
							   "The leadership that a standby means to stream from.",
							   "Set by the library when a standby connects; do not set it.",
							   &elector_upstream_term, "", PGC_BACKEND,
							   GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
							   NULL, NULL, NULL);
	defined = true;
	refuse_rejected(was_set);
	MarkGUCPrefixReserved("pg_elector");
}

/* Settings of etcd that are good one by one, but not together. */
static void
check_etcd_together(void)
{
	char		error[ELECTOR_PROBLEM_SIZE];

	if ((elector_etcd_cert_file[0] == '\0') != (elector_etcd_key_file[0] == '\0'))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" is not set", elector_etcd_key_file[0] == '\0' ?
						"pg_elector.etcd_key_file" : "pg_elector.etcd_cert_file"),
				 errhint("A certificate needs its key: set both pg_elector.etcd_cert_file and pg_elector.etcd_key_file, or neither.")));
	if (elector_etcd_cert_file[0] != '\0' &&
		!elector_tls_pair_valid(elector_etcd_cert_file, elector_etcd_key_file,
								error, sizeof(error)))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("%s", error),
				 errhint("Correct pg_elector.etcd_cert_file or pg_elector.etcd_key_file.")));
	if ((elector_etcd_user[0] == '\0') != (elector_etcd_password_file[0] == '\0'))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"%s\" is not set", elector_etcd_user[0] == '\0' ?
						"pg_elector.etcd_user" : "pg_elector.etcd_password_file"),
				 errhint("A user of etcd needs a password: set both pg_elector.etcd_user and pg_elector.etcd_password_file, or neither.")));
}

bool
elector_settings_complete(void)
{
	const struct
	{
		const char *name;
		const char *value;
	}			needed[] =
	{
		{"pg_elector.node", elector_node},
		{"pg_elector.etcd", elector_etcd_endpoints},
		{"pg_elector.conninfo", elector_conninfo}
	};

	if (elector_cluster[0] == '\0')
		return false;
	for (int i = 0; i < lengthof(needed); i++)
	{
		if (needed[i].value[0] == '\0')
			ereport(FATAL,
					(errcode(ERRCODE_CONFIG_FILE_ERROR),
					 errmsg("\"%s\" is not set", needed[i].name),
					 errhint("\"pg_elector.cluster\" is \"%s\"; a node of a cluster also needs \"pg_elector.node\", \"pg_elector.etcd\" and \"pg_elector.conninfo\".",
							 elector_cluster)));
	}
	if (elector_lease_margin >= elector_lease_ttl * 1000)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("\"pg_elector.lease_margin\" (%d ms) must be less than \"pg_elector.lease_ttl\" (%d s)",
						elector_lease_margin, elector_lease_ttl)));
	check_etcd_together();
	return true;
}

/* All libraries are loaded, and with them all policies registered. */
void
elector_settings_check_policy(void)
{
	const char *message;

	if (!elector_policy_valid(elector_durability, &message))
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("invalid value for parameter \"%s\": \"%s\"", "pg_elector.durability",
						elector_durability),
				 errdetail("It is no durability policy: %s.", message),
				 errhint("A library that brings a policy of its own comes behind pg_elector in shared_preload_libraries.")));
}

bool
elector_role_exempt(const char *role)
{
	char	   *copy;
	List	   *names;
	ListCell   *cell;
	bool		found = false;

	if (role == NULL)
		return false;
	if (peer_role != NULL && strcmp(role, peer_role) == 0)
		return true;
	copy = pstrdup(elector_admin_roles);
	if (SplitIdentifierString(copy, ',', &names))
	{
		foreach(cell, names)
		{
			if (strcmp(role, (char *) lfirst(cell)) == 0)
				found = true;
		}
		list_free(names);
	}
	pfree(copy);
	return found;
}
