/*
 * config.c
 *	  Read the configuration of a server that may not be running, and write that of
 *	  a new one.
 *
 * Reading is left to the server program (postgres -C), which knows of includes, of
 * ALTER SYSTEM and of configuration that lies elsewhere; it does so without loading
 * libraries.
 *
 * Writing changes one file: lines that set what is to be set become comments, and
 * the new lines come at the end, where they prevail over what is included before.
 */
#include "program.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONFIG_SIZE_MAX	(4 * 1024 * 1024)
#define VALUE_SIZE		8192
#define UNKNOWN			"unrecognized configuration parameter"

/* What a program says in both its outputs; false if it did not succeed. */
static bool
run_program(char **argv, char *out, char *err, size_t size)
{
	int			outs[2];
	int			errs[2];
	int			status;
	pid_t		pid;
	size_t		length = 0;
	ssize_t		got;

	out[0] = err[0] = '\0';
	if (pipe2(outs, O_CLOEXEC) != 0 || pipe2(errs, O_CLOEXEC) != 0 || (pid = fork()) < 0)
	{
		snprintf(err, size, "could not start \"%s\": %s", argv[0], strerror(errno));
		return false;
	}
	if (pid == 0)
	{
		dup2(outs[1], 1);
		dup2(errs[1], 2);
		setenv("LC_ALL", "C", 1);
		execv(argv[0], argv);
		dprintf(2, "could not execute \"%s\": %s", argv[0], strerror(errno));
		_exit(127);
	}
	close(outs[1]);
	close(errs[1]);

	/* Neither is more than a pipe holds. */
	while (length < size - 1 && (got = read(outs[0], out + length, size - 1 - length)) > 0)
		length += got;
	out[length] = '\0';
	length = 0;
	while (length < size - 1 && (got = read(errs[0], err + length, size - 1 - length)) > 0)
		length += got;
	err[length] = '\0';
	close(outs[0]);
	close(errs[0]);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The first line that says more than when, without what stands before the message. */
static char *
first_message(char *text)
{
	static const char *const levels[] = {"FATAL:  ", "ERROR:  ", "LOG:  "};

	for (size_t i = 0; i < lengthof(levels); i++)
	{
		char	   *found = strstr(text, levels[i]);

		if (found != NULL)
		{
			text = found + strlen(levels[i]);
			break;
		}
	}
	text[strcspn(text, "\n")] = '\0';
	return text;
}

char	   *
elector_config_get(const ElectorOptions *options, const char *name, char **problem)
{
	char		out[VALUE_SIZE];
	char		err[VALUE_SIZE];
	char	   *argv[10];
	int			argc = 0;

	argv[argc++] = psprintf("%s/postgres", options->bin_directory);
	argv[argc++] = "-C";
	argv[argc++] = pg_strdup(name);
	argv[argc++] = "-D";
	argv[argc++] = pg_strdup(options->data_directory);
	if (options->config_file != NULL)
	{
		argv[argc++] = "-c";
		argv[argc++] = psprintf("config_file=%s", options->config_file);
	}
	argv[argc] = NULL;

	*problem = NULL;
	if (run_program(argv, out, err, sizeof(out)))
	{
		out[strcspn(out, "\n")] = '\0';
		return pg_strdup(out);
	}
	if (strstr(err, UNKNOWN) == NULL)
		*problem = pg_strdup(first_message(err));
	return NULL;
}

/* Does the line set one of them? */
static bool
sets(const char *line, const ElectorSetting *settings, int nsettings)
{
	while (isspace((unsigned char) *line))
		line++;
	for (int i = 0; i < nsettings; i++)
	{
		size_t		length = strlen(settings[i].name);

		if (pg_strncasecmp(line, settings[i].name, length) == 0 &&
			(line[length] == '=' || isspace((unsigned char) line[length])))
			return true;
	}
	return false;
}

/* The lines of a file, those that set something with a prefix, or left out. */
static char *
rewrite(const char *text, const ElectorSetting *settings, int nsettings, const char *prefix,
		size_t room)
{
	size_t		lines = 1;
	char	   *result;
	char	   *to;

	for (const char *at = text; *at; at++)
		lines += *at == '\n';
	result = to = pg_malloc(strlen(text) + lines * (prefix ? strlen(prefix) : 0) + room + 2);
	while (*text)
	{
		size_t		length = strcspn(text, "\n") + 1;
		bool		set = sets(text, settings, nsettings);

		if (text[length - 1] == '\0')
			length--;
		if (set && prefix != NULL)
			to = stpcpy(to, prefix);
		if (!set || prefix != NULL)
		{
			memcpy(to, text, length);
			to += length;
		}
		text += length;
	}
	if (to > result && to[-1] != '\n')
		*to++ = '\n';
	*to = '\0';
	return result;
}

/* A file that may not be there yet, or NULL. */
static char *
read_config(const char *file)
{
	return elector_disk_exists(file) ? elector_disk_read(file, CONFIG_SIZE_MAX, NULL) : pg_strdup("");
}

/* Where a link leads, and with the permissions that it has. */
static bool
replace_config(const char *file, const char *text)
{
	char	   *path = realpath(file, NULL);
	struct stat status;
	bool		written;

	if (path == NULL || stat(path, &status) != 0)
	{
		free(path);
		return elector_disk_write(file, text, strlen(text));
	}
	written = elector_disk_write(path, text, strlen(text)) &&
		chmod(path, status.st_mode & 07777) == 0;
	free(path);
	return written;
}

/* Let the file set these, and nothing else of that name; with a value NULL, nothing. */
bool
elector_config_write(const char *file, const ElectorSetting *settings, int nsettings,
					 const char *comment)
{
	char	   *text = read_config(file);
	size_t		room = strlen(comment) + 8;
	char	   *result;
	char	   *to;

	if (text == NULL)
		return false;
	for (int i = 0; i < nsettings; i++)
		room += strlen(settings[i].name) + 2 * strlen(settings[i].value ? settings[i].value : "") + 8;
	result = rewrite(text, settings, nsettings, "#", room);
	to = result + strlen(result);
	to += sprintf(to, "\n# %s\n", comment);
	for (int i = 0; i < nsettings; i++)
	{
		if (settings[i].value == NULL)
			continue;
		to += sprintf(to, "%s = '", settings[i].name);
		for (const char *value = settings[i].value; *value; value++)
		{
			if (*value == '\'' || *value == '\\')
				*to++ = *value;
			*to++ = *value;
		}
		to = stpcpy(to, "'\n");
	}
	return replace_config(file, result);
}

/* Take their lines out. */
bool
elector_config_drop(const char *file, const ElectorSetting *settings, int nsettings)
{
	char	   *text = read_config(file);
	char	   *result = text ? rewrite(text, settings, nsettings, NULL, 0) : NULL;

	return result != NULL && replace_config(file, result);
}

/* A length of time as it stands in a configuration file; unit: of a bare number. */
bool
elector_config_seconds(const char *value, double unit, double *seconds)
{
	static const struct
	{
		const char *name;
		double		seconds;
	}			units[] = {
		{"us", 0.000001}, {"ms", 0.001}, {"s", 1}, {"min", 60}, {"h", 3600}, {"d", 86400}
	};
	char	   *end;
	double		number = strtod(value, &end);

	if (end == value)
		return false;
	while (isspace((unsigned char) *end))
		end++;
	*seconds = number * unit;
	if (*end == '\0')
		return true;
	for (size_t i = 0; i < lengthof(units); i++)
	{
		if (strcmp(end, units[i].name) == 0)
		{
			*seconds = number * units[i].seconds;
			return true;
		}
	}
	return false;
}
