/*
 * options.c
 *	  What a person says on the command line of status, join and check.
 *
 * Where etcd is and what the cluster is called is taken from the first of: the
 * option; the environment; the configuration of the server whose data directory is
 * given (-D, or PGDATA), which need not be running.
 *
 * The trap: files are named from the data directory where their names are relative,
 * as the server names them.  So the command goes there before it uses them, and
 * what the command line names relative to somewhere else is made absolute first.
 */
#include "program.h"

#include <getopt.h>
#include <unistd.h>

#include "libpq-fe.h"

#define BOUND_DEFAULT	(5 * INT64CONST(1000000))
#define BOUND_MAX		3600	/* seconds */

/* Options that stand for a setting, by the letter that getopt_long() gives. */
static const struct
{
	char		letter;
	const char *setting;
	const char *variable;		/* of the environment */
	size_t		offset;
	bool		is_file;
}			known[] = {
	{'e', "pg_elector.etcd", "PG_ELECTOR_ETCD", offsetof(ElectorOptions, etcd.endpoints), false},
	{'A', "pg_elector.etcd_ca_file", "PG_ELECTOR_ETCD_CA_FILE", offsetof(ElectorOptions, etcd.ca_file), true},
	{'C', "pg_elector.etcd_cert_file", "PG_ELECTOR_ETCD_CERT_FILE", offsetof(ElectorOptions, etcd.cert_file), true},
	{'K', "pg_elector.etcd_key_file", "PG_ELECTOR_ETCD_KEY_FILE", offsetof(ElectorOptions, etcd.key_file), true},
	{'U', "pg_elector.etcd_user", "PG_ELECTOR_ETCD_USER", offsetof(ElectorOptions, etcd.user), false},
	{'P', "pg_elector.etcd_password_file", "PG_ELECTOR_ETCD_PASSWORD_FILE", offsetof(ElectorOptions, etcd.password_file), true},
	{'u', "pg_elector.cluster", "PG_ELECTOR_CLUSTER", offsetof(ElectorOptions, cluster), false},
	{'n', "pg_elector.node", NULL, offsetof(ElectorOptions, node), false},
	{'d', "pg_elector.conninfo", NULL, offsetof(ElectorOptions, conninfo), false},
	{'z', "pg_elector.zone", NULL, offsetof(ElectorOptions, zone), false},
};

static const struct option long_options[] = {
	{"pgdata", required_argument, NULL, 'D'},
	{"config-file", required_argument, NULL, 'f'},
	{"etcd", required_argument, NULL, 'e'},
	{"etcd-ca-file", required_argument, NULL, 'A'},
	{"etcd-cert-file", required_argument, NULL, 'C'},
	{"etcd-key-file", required_argument, NULL, 'K'},
	{"etcd-user", required_argument, NULL, 'U'},
	{"etcd-password-file", required_argument, NULL, 'P'},
	{"cluster", required_argument, NULL, 'u'},
	{"node", required_argument, NULL, 'n'},
	{"conninfo", required_argument, NULL, 'd'},
	{"zone", required_argument, NULL, 'z'},
	{"set", required_argument, NULL, 'c'},
	{"timeout", required_argument, NULL, 't'},
	{"json", no_argument, NULL, 'j'},
	{"start", no_argument, NULL, 's'},
	{"log", required_argument, NULL, 'l'},
	{NULL, 0, NULL, 0}
};

/* Where this program lies, and with it the server's programs. */
const char *
elector_bin_directory(const char *argv0)
{
	char		path[MAXPGPATH];

	if (find_my_exec(argv0, path) < 0)
		strlcpy(path, argv0, sizeof(path));
	get_parent_directory(path);
	return pg_strdup(path);
}

/* What a connection string says for a keyword; NULL: nothing. */
char	   *
elector_conninfo_value(const char *conninfo, const char *keyword)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
	char	   *value = NULL;

	for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
	{
		if (strcmp(option->keyword, keyword) == 0 && option->val != NULL && option->val[0] != '\0')
			value = pg_strdup(option->val);
	}
	PQconninfoFree(options);
	return value;
}

char	   *
elector_conninfo_address(const char *conninfo)
{
	char	   *host = elector_conninfo_value(conninfo, "hostaddr");
	char	   *port = elector_conninfo_value(conninfo, "port");

	if (host == NULL)
		host = elector_conninfo_value(conninfo, "host");
	return psprintf("%s:%s", host ? host : "?", port ? port : DEF_PGPORT_STR);
}

/* What the server would refuse, too (check_conninfo, server/settings.c). */
const char *
elector_conninfo_fault(const char *conninfo)
{
	PQconninfoOption *options = PQconninfoParse(conninfo, NULL);

	if (options == NULL)
		return "is no connection string";
	PQconninfoFree(options);
	if (elector_conninfo_value(conninfo, "password") != NULL ||
		elector_conninfo_value(conninfo, "sslpassword") != NULL)
		return "holds a password, which belongs into the password file (~/.pgpass) of every node";
	if (elector_conninfo_value(conninfo, "host") == NULL &&
		elector_conninfo_value(conninfo, "hostaddr") == NULL)
		return "names no host";
	if (elector_conninfo_value(conninfo, "dbname") == NULL)
		return "names no dbname";
	return NULL;
}

static const char **
place_of(ElectorOptions *options, size_t i)
{
	return (const char **) ((char *) options + known[i].offset);
}

static const char *
absolute(const char *path)
{
	char	   *full = make_absolute_path(path);

	return full != NULL ? full : path;
}

static bool
complain(const char *format, const char *what)
{
	elector_log(ELECTOR_FATAL, format, what);
	fprintf(stderr, "Try \"pg_elector --help\" for more information.\n");
	return false;
}

/* NAME=VALUE */
static bool
take_setting(ElectorOptions *options, char *text)
{
	char	   *value = strchr(text, '=');

	if (value == NULL || value == text || strpbrk(text, "\r\n") != NULL)
		return complain("\"%s\" is not of the form NAME=VALUE", text);
	if (options->nsettings == ELECTOR_OPTION_SETTINGS_MAX)
		return complain("too many settings, from \"%s\" on", text);
	*value = '\0';
	options->settings[options->nsettings].name = text;
	options->settings[options->nsettings++].value = value + 1;
	return true;
}

static bool
take_known(ElectorOptions *options, int letter, const char *value)
{
	for (size_t i = 0; i < lengthof(known); i++)
	{
		if (known[i].letter == letter)
		{
			*place_of(options, i) = known[i].is_file && value[0] != '\0' ?
				absolute(value) : value;
			return true;
		}
	}
	return false;
}

/* False, with a message, if something is wrong.  letters: the options it has. */
bool
elector_options_parse(ElectorOptions *options, int argc, char **argv, const char *letters)
{
	char	   *end;
	double		seconds;
	int			c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "D:c:l:", long_options, NULL)) != -1)
	{
		if (c == '?' || strchr(letters, c) == NULL)
			return complain("option \"%s\" is unknown here, or lacks its value", argv[optind - 1]);
		switch (c)
		{
			case 'D':
				options->data_directory = absolute(optarg);
				break;
			case 'f':
				options->config_file = absolute(optarg);
				break;
			case 'c':
				if (!take_setting(options, optarg))
					return false;
				break;
			case 't':
				seconds = strtod(optarg, &end);
				if (*end != '\0' || end == optarg || seconds < 0.1 || seconds > BOUND_MAX)
					return complain("\"%s\" is not a number of seconds", optarg);
				options->bound = (int64) (seconds * 1000000);
				break;
			case 'j':
				options->json = true;
				break;
			case 's':
				options->start = true;
				break;
			case 'l':
				options->log = absolute(optarg);
				break;
			default:
				if (!take_known(options, c, optarg))
					return complain("option \"%s\" is unknown here", argv[optind - 1]);
				break;
		}
	}
	if (optind < argc)
		return complain("argument \"%s\" is too many", argv[optind]);
	if (options->bound == 0)
		options->bound = BOUND_DEFAULT;
	if (options->data_directory == NULL && getenv("PGDATA") != NULL && getenv("PGDATA")[0] != '\0')
		options->data_directory = absolute(getenv("PGDATA"));
	for (size_t i = 0; i < lengthof(known); i++)
	{
		const char *value = known[i].variable ? getenv(known[i].variable) : NULL;

		if (*place_of(options, i) == NULL && value != NULL && value[0] != '\0')
			*place_of(options, i) = known[i].is_file ? absolute(value) : value;
	}
	return true;
}

/*
 * What is still missing is in the configuration.  False, with a message, if it is
 * not there either.
 */
bool
elector_options_complete(ElectorOptions *options)
{
	char	   *problem = NULL;

	for (size_t i = 0; i < lengthof(known) && options->data_directory != NULL; i++)
	{
		if (*place_of(options, i) == NULL)
			*place_of(options, i) = elector_config_get(options, known[i].setting, &problem);
		if (problem != NULL)
		{
			elector_log(ELECTOR_FATAL, "could not read the configuration of \"%s\": %s",
						options->data_directory, problem);
			return false;
		}
	}
	if (options->etcd.endpoints == NULL || options->etcd.endpoints[0] == '\0' ||
		options->cluster == NULL || options->cluster[0] == '\0')
	{
		elector_log(ELECTOR_FATAL, "it is not known %s",
					options->etcd.endpoints == NULL || options->etcd.endpoints[0] == '\0' ?
					"where etcd is" : "what the cluster is called");
		if (options->data_directory != NULL)
			elector_log_detail("pg_elector.cluster or pg_elector.etcd is not set in the configuration of \"%s\".",
							   options->data_directory);
		elector_log_hint("Name a node's data directory (-D), or give --etcd and --cluster"
						 " (or PG_ELECTOR_ETCD and PG_ELECTOR_CLUSTER in the environment).");
		return false;
	}
	return true;
}

/* Be where files are named from. */
bool
elector_options_enter(const ElectorOptions *options)
{
	char	   *problem;
	char	   *directory;

	if (options->data_directory == NULL)
		return true;
	directory = elector_config_get(options, "data_directory", &problem);
	if (chdir(directory != NULL ? directory : options->data_directory) == 0)
		return true;

	/* Without relative names it does not matter. */
	for (size_t i = 0; i < lengthof(known); i++)
	{
		const char *value = *place_of((ElectorOptions *) options, i);

		if (known[i].is_file && value != NULL && value[0] != '\0' && value[0] != '/')
		{
			elector_log(ELECTOR_FATAL, "could not enter data directory \"%s\": %s",
						directory != NULL ? directory : options->data_directory, strerror(errno));
			return false;
		}
	}
	return true;
}
