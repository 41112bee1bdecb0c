/*
 * main.c
 *	  The program pg_elector: the postmaster's last act, and an operator's commands.
 *
 * When a postmaster with the library ends, and when one starts and finds work
 * left over, it executes this program in its place, with the same process id,
 * after all its children are gone and shared memory is released.  In this order
 * it
 *
 *	 - gives up leadership in etcd, with the proof of the last WAL position
 *	   (release.c),
 *	 - rewinds or clones the data directory where that was asked for (rejoin.c),
 *	 - executes the server again with the command line it was given, or, after a
 *	   plain stop, removes the lock files and exits.
 *
 * Supervisors and pg_ctl see a server that never left.
 *
 * Apart from that it runs role_change_command (role_change.c), and what a person types:
 * status, join, check (status.c, join.c, check.c).
 *
 * The trap is signals: they arrive blocked and stay so, in here and across the
 * exec, because a server that is asked to stop meanwhile must find the request
 * pending when it has its handlers.
 */
#include "program.h"

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "common/logging.h"

#define ELECTOR_PROGRAM_VERSION	"1.0"

/*
 * The server ends for work that its next start does, and whoever supervises it
 * has to start it (EX_TEMPFAIL: "try again").
 */
#define STATUS_START_AGAIN	75

static void
usage(void)
{
	printf("pg_elector shows, extends and examines a group of PostgreSQL servers that elect\n"
		   "their own primary.\n\n"
		   "Usage:\n"
		   "  pg_elector status [OPTION]...     who leads, and who is there, by what etcd knows\n"
		   "  pg_elector join [OPTION]...       make a new node from the leader\n"
		   "  pg_elector check [OPTION]...      examine a node, and how it and the others reach\n"
		   "                                    each other\n\n"
		   "Options:\n"
		   "  -D, --pgdata=DIR           data directory of the node, whose configuration says what\n"
		   "                             is not said here (default: PGDATA)\n"
		   "      --config-file=FILE     its configuration file, if that is not in DIR\n"
		   "      --cluster=NAME         pg_elector.cluster (default: PG_ELECTOR_CLUSTER)\n"
		   "      --etcd=ENDPOINTS       pg_elector.etcd (default: PG_ELECTOR_ETCD)\n"
		   "      --etcd-ca-file=FILE    pg_elector.etcd_ca_file, and so on, where set\n"
		   "      --etcd-cert-file=FILE\n"
		   "      --etcd-key-file=FILE\n"
		   "      --etcd-user=NAME\n"
		   "      --etcd-password-file=FILE\n"
		   "      --timeout=SECONDS      give etcd, and each member, so long (default: 5)\n"
		   "  -V, --version              output version information, then exit\n"
		   "  -?, --help                 show this help, then exit\n\n"
		   "Options of status:\n"
		   "      --json                 for programs\n\n"
		   "Options of join:\n"
		   "      --node=NAME            pg_elector.node of the new node\n"
		   "      --conninfo=CONNINFO    pg_elector.conninfo: how the others will reach it\n"
		   "      --zone=NAME            pg_elector.zone\n"
		   "  -c, --set=NAME=VALUE       another setting for it, as often as needed\n"
		   "      --start                start it\n"
		   "  -l, --log=FILE             where its server writes then (default: DIR.log)\n\n"
		   "status exits with 0 if there is a leader that takes writes, 2 if there is none, 1 if\n"
		   "that could not be found out; check with 0 if nothing has to be changed, else 1.\n\n"
		   "While a server is not running, it runs \"pg_elector postmaster\" by itself, and\n"
		   "\"pg_elector role-change\" for pg_elector.role_change_command.\n");
}

static bool
set_rejoin(ElectorProgram *program, const char *mode)
{
	if (strcmp(mode, "off") == 0)
		program->rejoin = ELECTOR_REJOIN_OFF;
	else if (strcmp(mode, "rewind") == 0)
		program->rejoin = ELECTOR_REJOIN_REWIND;
	else if (strcmp(mode, "clone") == 0)
		program->rejoin = ELECTOR_REJOIN_CLONE;
	else
		return false;
	return true;
}

/* What of the server's command line concerns us. */
static void
read_server_arguments(ElectorProgram *program)
{
	char	   *directory = pg_strdup(program->server[0]);

	get_parent_directory(directory);
	program->bin_directory = directory;

	for (char **arg = &program->server[1]; *arg != NULL; arg++)
	{
		const char *setting = *arg;

		if (strncmp(setting, "--", 2) == 0 || strncmp(setting, "-c", 2) == 0)
			setting += 2;
		if (strncmp(setting, "config_file=", 12) == 0 || strncmp(setting, "config-file=", 12) == 0)
			program->config_file = setting + 12;
	}
}

/* Everything that was asked for, or no return. */
static void
read_arguments(ElectorProgram *program, int argc, char **argv)
{
	static const struct option options[] = {
		{"data-directory", required_argument, NULL, 'D'},
		{"etcd", required_argument, NULL, 'e'},
		{"etcd-ca-file", required_argument, NULL, 'A'},
		{"etcd-cert-file", required_argument, NULL, 'C'},
		{"etcd-key-file", required_argument, NULL, 'K'},
		{"etcd-user", required_argument, NULL, 'U'},
		{"etcd-password-file", required_argument, NULL, 'P'},
		{"cluster", required_argument, NULL, 'c'},
		{"node", required_argument, NULL, 'n'},
		{"instance", required_argument, NULL, 'i'},
		{"rejoin", required_argument, NULL, 'r'},
		{"exec", no_argument, NULL, 'x'},
		{"exit", no_argument, NULL, 'q'},
		{NULL, 0, NULL, 0}
	};
	bool		chosen = false;
	bool		ok = true;
	int			c;

	memset(program, 0, sizeof(*program));
	program->rejoin = ELECTOR_REJOIN_REWIND;

	/* the first argument is the word "postmaster" */
	argc--;
	argv++;
	while (ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (c)
		{
			case 'D':
				program->data_directory = optarg;
				break;
			case 'e':
				program->etcd.endpoints = optarg[0] ? optarg : NULL;
				break;
			case 'A':
				program->etcd.ca_file = optarg;
				break;
			case 'C':
				program->etcd.cert_file = optarg;
				break;
			case 'K':
				program->etcd.key_file = optarg;
				break;
			case 'U':
				program->etcd.user = optarg;
				break;
			case 'P':
				program->etcd.password_file = optarg;
				break;
			case 'c':
				program->cluster = optarg;
				break;
			case 'n':
				program->node = optarg;
				break;
			case 'i':
				program->instance = optarg;
				break;
			case 'r':
				ok = set_rejoin(program, optarg);
				break;
			case 'x':
			case 'q':
				ok = !chosen;
				chosen = true;
				program->exec = c == 'x';
				break;
			default:
				ok = false;
				break;
		}
	}
	program->server = &argv[optind];
	if (!ok || !chosen || !program->data_directory || !program->cluster || !program->node ||
		program->data_directory[0] != '/' ||
		(program->exec && (optind >= argc || program->server[0][0] != '/')))
	{
		fprintf(stderr, "pg_elector: arguments are missing or wrong\n"
				"Try \"pg_elector --help\" for more information.\n");
		exit(1);
	}
	if (program->exec)
		read_server_arguments(program);
}

/* Nobody whom we start shall have it. */
static void
take_token(ElectorProgram *program)
{
	char	   *token = getenv(ELECTOR_TOKEN_VARIABLE);

	if (token == NULL)
		return;
	program->etcd.token = pg_strdup(token);
	explicit_bzero(token, strlen(token));	/* /proc shows it */
	unsetenv(ELECTOR_TOKEN_VARIABLE);
}

/* The descriptors 0, 1 and 2 exist, and no signal gets through. */
static void
settle(void)
{
	sigset_t	all;
	int			fd;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	signal(SIGPIPE, SIG_IGN);

	/* inherited as ignored, children could not be waited for */
	signal(SIGCHLD, SIG_DFL);

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 3);
	if (fd >= 3)
		close(fd);
}

/* What was left to be done; nothing if it is none of ours. */
static void
read_todo(const ElectorProgram *program, ElectorTodo *todo)
{
	char	   *text = elector_disk_read(psprintf("%s/%s", program->data_directory, ELECTOR_TODO_FILE),
										 ELECTOR_FILE_SIZE, NULL);

	if (text == NULL || !elector_todo_parse(text, todo) ||
		strcmp(todo->node, program->node) != 0)
		memset(todo, 0, sizeof(*todo));
}

/*
 * The leadership that the postmaster has won in its life is over: tell etcd, then
 * strike it out.  Any other that this directory speaks of is not ours to end: it
 * may have come with a copy of a server that leads (S9).
 */
static bool
release(const ElectorProgram *program)
{
	char	   *path = psprintf("%s/%s", program->data_directory, ELECTOR_LEADERSHIP_FILE);
	char	   *text = elector_disk_read(path, ELECTOR_FILE_SIZE, NULL);
	ElectorLeadership leadership;

	if (text == NULL)
		return true;

	if (program->instance != NULL &&
		elector_leadership_parse(text, &leadership) &&
		strcmp(leadership.instance, program->instance) == 0 &&
		strcmp(leadership.node, program->node) == 0)
		elector_release(program, &leadership);
	return elector_disk_remove(path);
}

/*
 * A rejoin was cut off: what the data directory says of leadership and of the
 * node may be the source's now, and so is the configuration that our arguments
 * were made from.  The hold knows who we are.
 */
static void
trust_hold(ElectorProgram *program, const ElectorHold *hold)
{
	ElectorTodo todo;

	program->instance = NULL;
	if (elector_hold_todo(hold, &todo))
		program->node = pg_strdup(todo.node);
}

static void
become_server(const ElectorProgram *program)
{
	elector_child_reap();
#ifdef SYS_close_range
	syscall(SYS_close_range, 3, ~0U, 0);
#else
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
#endif
	execv(program->server[0], program->server);
	elector_log(ELECTOR_FATAL, "could not execute \"%s\": %s", program->server[0],
				strerror(errno));
}

int
main(int argc, char **argv)
{
	ElectorProgram program;
	ElectorOutcome outcome = ELECTOR_FAIL;
	ElectorHold hold;
	ElectorTodo todo;

	pg_logging_init(argv[0]);
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0))
	{
		usage();
		return 0;
	}
	if (argc > 1 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0))
	{
		printf("pg_elector " ELECTOR_PROGRAM_VERSION " (PostgreSQL " PG_VERSION ")\n");
		return 0;
	}
	if (argc > 1 && strcmp(argv[1], "role-change") == 0)
		return elector_role_change(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "status") == 0)
		return elector_status(argc, argv);
	if (argc > 1 && strcmp(argv[1], "join") == 0)
		return elector_join(argc, argv);
	if (argc > 1 && strcmp(argv[1], "check") == 0)
		return elector_check(argc, argv);
	if (argc < 2 || strcmp(argv[1], "postmaster") != 0)
	{
		usage();
		return 1;
	}
	read_arguments(&program, argc, argv);
	take_token(&program);
	if (geteuid() == 0)
	{
		fprintf(stderr, "pg_elector: cannot be executed by \"root\"\n");
		return 1;
	}
	settle();

	/* files are made as the server makes them */
	if (!GetDataDirectoryCreatePerm(program.data_directory) ||
		chdir(program.data_directory) != 0)
	{
		elector_log(ELECTOR_FATAL, "could not enter data directory \"%s\": %s",
					program.data_directory, strerror(errno));
		return 1;
	}
	umask(pg_mode_mask);

	if (!elector_pidfile_check(program.data_directory))
		return 1;
	elector_hold_find(&hold, program.data_directory);
	if (hold.path != NULL)
		trust_hold(&program, &hold);
	if (hold.path != NULL || release(&program))
		outcome = program.exec ? elector_rejoin(&program) : ELECTOR_STOP;
	if (outcome == ELECTOR_GO_ON)
	{
		become_server(&program);
		outcome = ELECTOR_FAIL;
	}
	elector_pidfile_end(program.data_directory);
	if (outcome != ELECTOR_STOP)
		return 1;
	read_todo(&program, &todo);
	return !program.exec && todo.kind != ELECTOR_TODO_NONE ? STATUS_START_AGAIN : 0;
}
