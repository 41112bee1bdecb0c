/*
 * join.c
 *	  pg_elector join: a new node, from an empty directory.
 *
 * Etcd says who leads; the leader's data are cloned as they are for a node that has
 * to rejoin (clone.c); the copy of the leader's configuration is made the new node's.
 * All that is done beside the data directory, in the hold (hold.c), and takes its
 * place at the end, with a control file that no server accepts until then.  So a join
 * that was cut off leaves a directory that is empty or cannot be started, and the
 * next one says what to delete.
 *
 * A replication slot on the leader, by the name under which the library will use it,
 * keeps the WAL that comes after the copy.  It is made before the backup begins:
 * pg_basebackup would make it a moment later, when a checkpoint, of another backup for
 * instance, may have removed the WAL that this one begins with.  The trap is the slot of a join that
 * fails: it would keep WAL for nobody.  It is dropped, unless this process is killed,
 * and then a later join takes it over.
 */
#include "program.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/file_utils.h"
#include "fe_utils/string_utils.h"
#include "pqexpbuffer.h"

#include "../core/name.h"

/* How long a server that was started has to become a member. */
#define MEMBER_BOUND	(30 * INT64CONST(1000000))
#define PAUSE			(100 * 1000L)

#define START_SECONDS	"600"

typedef struct Join
{
	ElectorOptions options;
	ElectorLeader leader;
	ElectorSource source;
	char		slot[ELECTOR_SLOT_NAME_SIZE];
	bool		make_slot;
	bool		made_directory;
} Join;

/* Is what was asked for a node at all? */
static bool
check_options(const ElectorOptions *options)
{
	const char *fault;

	if (options->data_directory == NULL)
		elector_log(ELECTOR_FATAL, "no data directory is given (-D)");
	else if (options->node == NULL || options->conninfo == NULL)
		elector_log(ELECTOR_FATAL, "the new node's %s is not given",
					options->node == NULL ? "name (--node)" : "connection string (--conninfo)");
	else if (!elector_name_valid(options->node))
		elector_log(ELECTOR_FATAL, "\"%s\" is not a name: use at most %d letters, digits, \".\", \"_\" and \"-\"",
					options->node, ELECTOR_NAME_SIZE - 1);
	else if (options->zone != NULL && options->zone[0] != '\0' && !elector_name_valid(options->zone))
		elector_log(ELECTOR_FATAL, "zone \"%s\" is not a name", options->zone);
	else if ((fault = elector_conninfo_fault(options->conninfo)) != NULL)
	{
		elector_log(ELECTOR_FATAL, "the value of --conninfo %s", fault);
		elector_log_hint("It is how the other nodes will reach this one, for example"
						 " \"host=10.0.0.2 port=5432 user=elector dbname=postgres\".");
	}
	else
		return true;
	return false;
}

/* An empty directory, which is made if it is not there. */
static bool
check_directory(Join *join)
{
	const char *directory = join->options.data_directory;
	ElectorHold hold;
	char	  **names;
	bool		empty = true;

	elector_hold_find(&hold, directory);
	if (hold.path != NULL)
	{
		elector_log(ELECTOR_FATAL, "an earlier join or rewind of \"%s\" was cut off", directory);
		elector_log_hint("If a join was: delete \"%s\", and what is in \"%s\", and join again.",
						 hold.path, directory);
		return false;
	}
	if (!elector_disk_exists(directory))
	{
		if (pg_mkdir_p(pg_strdup(directory), pg_dir_create_mode) != 0)
		{
			elector_log(ELECTOR_FATAL, "could not create directory \"%s\": %s", directory,
						strerror(errno));
			return false;
		}
		join->made_directory = true;
		return true;
	}
	names = elector_disk_names(directory);
	for (int i = 0; names != NULL && names[i] != NULL; i++)
		empty &= strcmp(names[i], "lost+found") == 0;
	if (names == NULL || !empty)
	{
		elector_log(ELECTOR_FATAL, "directory \"%s\" is not empty", directory);
		elector_log_hint("A new node is made in an empty directory.  If a server's data that nobody"
						 " needs are in it, delete them.");
		return false;
	}
	if (chmod(directory, pg_dir_create_mode) == 0)
		return true;
	elector_log(ELECTOR_FATAL, "could not change permissions of \"%s\": %s", directory, strerror(errno));
	return false;
}

/* Is somebody there by that name or address? */
static bool
check_name(const ElectorOptions *options, ElectorTalk *talk)
{
	const ElectorCluster *cluster = &talk->mirror->cluster;
	const ElectorNode *node = elector_cluster_node(cluster, options->node);
	char	   *address = elector_conninfo_address(options->conninfo);

	if (strcmp(cluster->leader.node, options->node) == 0)
	{
		elector_log(ELECTOR_FATAL, "node \"%s\" leads the cluster", options->node);
		elector_log_hint("Choose another name for the new node.");
		return false;
	}
	if (node != NULL && node->alive.present)
	{
		int64		left = elector_talk_time_left(talk, node->alive.lease);

		elector_log(ELECTOR_FATAL, "node \"%s\" is alive", options->node);
		elector_log_hint("Choose another name for the new node, or stop that one."
						 "  If it has just died, etcd will know in " INT64_FORMAT " seconds.",
						 Max(left, 1));
		return false;
	}
	for (int i = 0; i < cluster->nnodes; i++)
	{
		const ElectorMember *member = &cluster->nodes[i].member;

		if (member->present && strcmp(member->node, options->node) != 0 &&
			strcmp(elector_conninfo_address(member->conninfo), address) == 0)
		{
			elector_log(ELECTOR_FATAL, "%s is the address of node \"%s\"", address, member->node);
			elector_log_hint("Give this node's own in --conninfo.  If \"%s\" is gone for good,"
							 " remove it: SELECT elector_remove_member('%s').",
							 member->node, member->node);
			return false;
		}
	}
	if (node != NULL)
		elector_log(ELECTOR_LOG, "node \"%s\" is a member that is not alive: its place is taken",
					options->node);
	return true;
}

/* Who leads, by etcd? */
static bool
find_leader(Join *join)
{
	ElectorOptions *options = &join->options;
	ElectorTalk talk;
	bool		ok = false;

	if (!elector_talk_begin(&talk, &options->etcd, options->cluster, options->node, options->bound))
		return false;
	if (!elector_talk_load(&talk))
	{
		elector_log(ELECTOR_FATAL, "could not read cluster \"%s\" from etcd at %s: %s",
					options->cluster, options->etcd.endpoints, talk.error);
		elector_log_hint("See --etcd and the options for its certificates and user.");
	}
	else if (talk.mirror->cluster.system == 0)
	{
		elector_log(ELECTOR_FATAL, "etcd at %s knows no cluster \"%s\"", talk.endpoint,
					options->cluster);
		elector_log_hint("The first node of a cluster is made with initdb, and started.");
	}
	else if (!talk.mirror->cluster.leader.present || !talk.mirror->cluster.term.opened)
	{
		elector_log(ELECTOR_FATAL, "nobody leads cluster \"%s\" now", options->cluster);
		elector_log_hint("\"pg_elector status\" shows who is there.");
	}
	else if (check_name(options, &talk))
	{
		join->leader = talk.mirror->cluster.leader;
		ok = elector_source_parse(join->leader.conninfo, &join->source);
		join->source.system = talk.mirror->cluster.system;
	}
	elector_talk_end(&talk);
	return ok;
}

static bool
is_ours(const char *system, uint64 expected)
{
	return strtoull(system, NULL, 10) == expected;
}

/* Can the leader be cloned?  Whether there is a slot already is asked on the way. */
static bool
check_leader(Join *join)
{
	char		problem[256];
	char	   *system = elector_source_ask(&join->source,
											"SELECT system_identifier FROM pg_catalog.pg_control_system()",
											problem, sizeof(problem));
	char	   *version = NULL;
	char	   *slots = NULL;

	if (system != NULL)
		version = elector_source_ask(&join->source,
									 "SELECT pg_catalog.current_setting('server_version_num')",
									 problem, sizeof(problem));
	elector_slot_name(join->options.node, join->slot);
	if (version != NULL)
		slots = elector_source_ask(&join->source,
								   psprintf("SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots"
											" WHERE slot_name OPERATOR(pg_catalog.=) '%s'", join->slot),
								   problem, sizeof(problem));
	if (slots == NULL)
	{
		elector_log(ELECTOR_FATAL, "could not ask the leader, \"%s\": %s", join->leader.node, problem);
		elector_log_hint("This machine has to reach it by \"%s\", and its pg_hba.conf has to let it in;"
						 " a password belongs into the password file (~/.pgpass).",
						 join->source.conninfo);
		return false;
	}
	if (!is_ours(system, join->source.system))
	{
		elector_log(ELECTOR_FATAL, "the server at %s is not of cluster \"%s\": its system identifier is another",
					elector_conninfo_address(join->leader.conninfo), join->options.cluster);
		return false;
	}
	if (atoi(version) / 10000 != PG_VERSION_NUM / 10000)
	{
		elector_log(ELECTOR_FATAL, "the leader is PostgreSQL %d, and this program is for PostgreSQL %d",
					atoi(version) / 10000, PG_VERSION_NUM / 10000);
		return false;
	}
	join->make_slot = strcmp(slots, "0") == 0;
	return true;
}

static bool
make_slot(const Join *join)
{
	char		problem[256];

	if (!join->make_slot ||
		elector_source_ask(&join->source,
						   psprintf("SELECT slot_name FROM"
									" pg_catalog.pg_create_physical_replication_slot('%s', true)",
									join->slot), problem, sizeof(problem)) != NULL)
		return true;
	elector_log(ELECTOR_FATAL, "could not make replication slot \"%s\" on node \"%s\": %s",
				join->slot, join->leader.node, problem);
	elector_log_hint("max_replication_slots has to have room, and the role of its conninfo needs REPLICATION.");
	return false;
}

static void
drop_slot(const Join *join)
{
	char		problem[256];

	if (join->make_slot &&
		elector_source_ask(&join->source,
						   psprintf("SELECT pg_catalog.count(pg_catalog.pg_drop_replication_slot(slot_name))"
									" FROM pg_catalog.pg_replication_slots"
									" WHERE slot_name OPERATOR(pg_catalog.=) '%s'", join->slot),
						   problem, sizeof(problem)) == NULL)
	{
		elector_log(ELECTOR_WARNING, "could not drop replication slot \"%s\" on node \"%s\": %s",
					join->slot, join->leader.node, problem);
		elector_log_hint("If there is one, it keeps WAL until it is used or dropped.");
	}
}

/* The settings that make a copy of the leader's configuration this node's. */
static int
make_settings(const Join *join, ElectorSetting *settings)
{
	const ElectorOptions *options = &join->options;
	char	   *port = elector_conninfo_value(options->conninfo, "port");
	const ElectorSetting all[] = {
		{"pg_elector.cluster", options->cluster},
		{"pg_elector.node", options->node},
		{"pg_elector.etcd", options->etcd.endpoints},
		{"pg_elector.conninfo", options->conninfo},
		{"pg_elector.zone", options->zone},
		{"port", port ? port : DEF_PGPORT_STR},

		/* what is another machine's, if it was set */
		{"data_directory", NULL},
		{"external_pid_file", NULL}
	};
	const ElectorSetting files[] = {
		{"pg_elector.etcd_ca_file", options->etcd.ca_file},
		{"pg_elector.etcd_cert_file", options->etcd.cert_file},
		{"pg_elector.etcd_key_file", options->etcd.key_file},
		{"pg_elector.etcd_user", options->etcd.user},
		{"pg_elector.etcd_password_file", options->etcd.password_file}
	};
	int			count = 0;

	for (size_t i = 0; i < lengthof(all); i++)
	{
		/* a file that was written for this server says where its data are */
		if (all[i].value != NULL || options->config_file == NULL)
			settings[count++] = all[i];
	}
	for (size_t i = 0; i < lengthof(files); i++)
	{
		if (files[i].value != NULL)
			settings[count++] = files[i];
	}
	for (int i = 0; i < options->nsettings; i++)
		settings[count++] = options->settings[i];
	return count;
}

static bool
names_library(const char *libraries)
{
	const char *found = libraries ? strstr(libraries, "pg_elector") : NULL;
	char		behind = found ? found[strlen("pg_elector")] : 'x';

	return found != NULL && (behind == '\0' || strchr(", '\".", behind) != NULL);
}

/* Make the clone's configuration this node's; it is not in its place yet. */
static bool
configure(void *arg, const char *clone)
{
	Join	   *join = arg;
	ElectorOptions options = join->options;
	ElectorSetting settings[16 + ELECTOR_OPTION_SETTINGS_MAX];
	int			count = make_settings(join, settings);
	char	   *file = options.config_file ? pg_strdup(options.config_file) :
	psprintf("%s/postgresql.conf", clone);
	char	   *comment = psprintf("Set by \"pg_elector join\" for node \"%s\":", options.node);
	char	   *libraries;
	char	   *problem;

	if (!elector_disk_exists(file))
	{
		elector_log(ELECTOR_WARNING, "the leader keeps its configuration outside of its data directory");
		elector_log_hint("\"%s/postgresql.conf\" has only what makes this server a node: put the rest,"
						 " and pg_hba.conf, in place.", options.data_directory);
	}
	if (!elector_config_write(file, settings, count, comment) ||
		!elector_config_drop(psprintf("%s/postgresql.auto.conf", clone), settings, count))
		return false;

	/* Nobody starts it under the leader's name by what was cloned of its configuration. */
	if (options.config_file != NULL &&
		strncmp(options.config_file, options.data_directory, strlen(options.data_directory)) != 0)
		unlink(psprintf("%s/postgresql.conf", clone));

	options.data_directory = clone;
	libraries = elector_config_get(&options, "shared_preload_libraries", &problem);
	if (problem != NULL)
		elector_log(ELECTOR_WARNING, "the configuration has an error: %s", problem);
	if (!names_library(libraries))
	{
		settings[count].name = "shared_preload_libraries";
		settings[count++].value = libraries && libraries[0] ?
			psprintf("%s, pg_elector", libraries) : "pg_elector";
		if (!elector_config_write(file, &settings[count - 1], 1, comment))
			return false;
	}

	/* Without the library it must be no primary, either (I5). */
	return elector_disk_write(psprintf("%s/standby.signal", clone), "", 0);
}

/* Everything at its place, or nothing left but what is named. */
static bool
clone_leader(Join *join)
{
	ElectorProgram program = {
		.data_directory = join->options.data_directory,
		.cluster = join->options.cluster,
		.node = join->options.node,
		.etcd = join->options.etcd,
		.bin_directory = join->options.bin_directory
	};
	ElectorRejoin rejoin = {
		.program = &program,
		.new_node = true,
		.slot = join->slot,
		.configure = configure,
		.arg = join
	};
	ElectorRejoinResult result;

	rejoin.todo.kind = ELECTOR_TODO_CLONE;
	rejoin.todo.term = join->leader.term;
	elector_copy(rejoin.todo.node, join->options.node, sizeof(rejoin.todo.node));
	elector_copy(rejoin.todo.leader, join->leader.node, sizeof(rejoin.todo.leader));
	elector_copy(rejoin.todo.source, join->leader.conninfo, sizeof(rejoin.todo.source));
	elector_hold_find(&rejoin.hold, program.data_directory);

	result = elector_clone(&rejoin);
	if (result == ELECTOR_REJOIN_DONE && elector_hold_remove(&rejoin.hold))
		return true;
	if (result == ELECTOR_REJOIN_STOPPED)
		elector_log(ELECTOR_FATAL, "ended by a signal");
	else
		elector_log(ELECTOR_FATAL, "could not clone node \"%s\": %s", join->leader.node,
					result == ELECTOR_REJOIN_DONE ? "could not clear away" : rejoin.problem);
	if (rejoin.hold.path != NULL)
		elector_log_hint("Delete \"%s\", and what is in \"%s\", before you join again.",
						 rejoin.hold.path, program.data_directory);
	else if (join->made_directory)
		rmdir(program.data_directory);
	drop_slot(join);
	return false;
}

/* What pg_ctl hands to a shell; NULL if the data directory says it all. */
static char *
server_options(const ElectorOptions *options)
{
	PQExpBufferData text;

	if (options->config_file == NULL)
		return NULL;
	initPQExpBuffer(&text);
	appendPQExpBufferStr(&text, "-c config_file=");
	if (!appendShellStringNoError(&text, options->config_file))
		elector_log(ELECTOR_WARNING, "the name of the configuration file has several lines");
	return text.data;
}

/* True if pg_ctl says so. */
static bool
start_server(const ElectorOptions *options, const char *log)
{
	char	   *argv[] = {
		psprintf("%s/pg_ctl", options->bin_directory), "-D", pg_strdup(options->data_directory),
		"-l", pg_strdup(log), "-w", "-t", START_SECONDS, "-s", "start",
		options->config_file ? "-o" : NULL, server_options(options), NULL};
	int			status;
	pid_t		pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
	{
		sigset_t	none;

		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	elector_log(ELECTOR_FATAL, "could not start the server");
	elector_log_hint("Its log is \"%s\".", log);
	return false;
}

/* Does etcd know it as a member that is alive? */
static bool
wait_for_member(const ElectorOptions *options)
{
	int64		deadline = elector_talk_now() + MEMBER_BOUND;
	bool		member = false;
	ElectorTalk talk;

	if (!elector_talk_begin(&talk, &options->etcd, options->cluster, options->node, MEMBER_BOUND))
		return false;
	while (!member && elector_talk_now() < deadline)
	{
		if (elector_talk_read(&talk))
		{
			const ElectorNode *node = elector_cluster_node(&talk.mirror->cluster, options->node);

			member = node != NULL && node->member.present && node->alive.present;
		}
		if (!member)
			pg_usleep(PAUSE);
	}
	elector_talk_end(&talk);
	return member;
}

static bool
start_node(const Join *join)
{
	const ElectorOptions *options = &join->options;
	char	   *log = options->log ? pg_strdup(options->log) :
	psprintf("%s.log", options->data_directory);

	if (!options->start)
	{
		PQExpBufferData command;

		initPQExpBuffer(&command);
		appendPQExpBuffer(&command, "%s/pg_ctl -D ", options->bin_directory);
		appendShellStringNoError(&command, options->data_directory);
		appendPQExpBufferStr(&command, " -l ");
		appendShellStringNoError(&command, log);
		if (options->config_file != NULL)
		{
			appendPQExpBufferStr(&command, " -o ");
			appendShellStringNoError(&command, server_options(options));
		}
		printf("Node \"%s\" is ready.  Look through its configuration (pg_elector check), and start it:\n\n"
			   "    %s start\n\n", options->node, command.data);
		return true;
	}
	if (!start_server(options, log))
		return false;
	if (!wait_for_member(options))
	{
		elector_log(ELECTOR_FATAL, "node \"%s\" has been started, and is no member yet", options->node);
		elector_log_hint("Its log, \"%s\", says why.", log);
		return false;
	}
	printf("Node \"%s\" is a member of cluster \"%s\".\n", options->node, options->cluster);
	return true;
}

int
elector_join(int argc, char **argv)
{
	Join		join = {.options.bin_directory = elector_bin_directory(argv[0])};
	sigset_t	all;

	elector_log_plainly();
	if (geteuid() == 0)
	{
		elector_log(ELECTOR_FATAL, "cannot be executed by \"root\": the files would be root's");
		elector_log_hint("Log in (using, e.g., \"su\") as the user that is to own the server.");
		return 1;
	}
	umask(PG_MODE_MASK_OWNER);
	if (!elector_options_parse(&join.options, argc - 1, argv + 1, "DfeACKUPundzctsl") ||
		!check_options(&join.options))
		return 1;

	/* The directory is to be empty: its configuration says nothing. */
	{
		const char *directory = join.options.data_directory;

		join.options.data_directory = NULL;
		if (!elector_options_complete(&join.options))
			return 1;
		join.options.data_directory = directory;
	}
	if (!find_leader(&join) || !check_leader(&join) || !check_directory(&join))
		return 1;

	/* A signal ends pg_basebackup, and is seen to afterwards (child.c). */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGCHLD, SIG_DFL);
	elector_log(ELECTOR_LOG, "node \"%s\" leads in term " UINT64_FORMAT, join.leader.node,
				join.leader.term);
	if (!make_slot(&join))
	{
		if (join.made_directory)
			rmdir(join.options.data_directory);
		return 1;
	}
	if (!clone_leader(&join))
		return 1;
	return start_node(&join) ? 0 : 1;
}
