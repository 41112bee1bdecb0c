/*
 * test_tls.c
 *	  Certificates in files: what is no certificate, what does not belong together,
 *	  and what is replaced while it is in use.
 *
 * The files are made by the program openssl.  How a failed handshake is worded is
 * tested with real servers (test/t).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* nftw() */
#endif

#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../src/etcd/tls.h"
#include "tap.h"

#define SECOND INT64_C(1000000)

static char directory[] = "/tmp/test_tls.XXXXXX";
static char notices[4096];
static int	nnotices;

static void
note(void *arg, bool trouble, const char *message, const char *hint)
{
	(void) arg;
	(void) hint;
	snprintf(notices, sizeof(notices), "%s %s", trouble ? "WARNING" : "LOG", message);
	nnotices++;
}

static const ElectorNotices listeners = {note, NULL};

/* A shell command within the directory. */
static void
run(const char *command)
{
	char		text[1024];

	snprintf(text, sizeof(text), "cd %s && { %s; } >>log 2>&1", directory, command);
	if (system(text) != 0)
	{
		printf("Bail out! failed: %s\n", command);
		exit(1);
	}
}

static void
make(const char *name)
{
	char		command[512];

	snprintf(command, sizeof(command), "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
			 " -keyout %s.key -out %s.crt -subj /O=test -days 1 && chmod 0600 %s.key", name, name, name);
	run(command);
}

static const char *
path(const char *name)
{
	static char paths[8][128];
	static int	next;
	char	   *result = paths[next++ % 8];

	snprintf(result, sizeof(paths[0]), "%s/%s", directory, name);
	return result;
}

static void
test_files(void)
{
	static const struct
	{
		bool		key;
		const char *file;
		const char *error;		/* a part of it; NULL: fine */
	}			files[] = {
		{false, "a.crt", NULL},
		{false, "bundle.crt", NULL},
		{false, "a.key", "no PEM certificate"},
		{false, "empty", "no PEM certificate"},
		{false, "a.der", "no PEM certificate"},
		{false, "torn.crt", "malformed"},
		{false, "none.crt", "No such file"},
		{true, "a.key", NULL},
		{true, "a.crt", "others may read"},
		{true, "empty.key", "no PEM private key"},
		{true, "locked.key", "passphrase"},
		{true, "open.key", "0600"},
		{true, "none.key", "No such file"},
	};
	char		error[ELECTOR_PROBLEM_SIZE];

	run("cat a.crt b.crt > bundle.crt; : > empty; : > empty.key; chmod 0600 empty.key;"
		" openssl x509 -in a.crt -outform der -out a.der;"
		" { cat a.crt; sed 4d b.crt; } > torn.crt;"
		" openssl ec -in a.key -aes256 -passout pass:x -out locked.key; chmod 0600 locked.key;"
		" cp a.key open.key; chmod 0644 open.key");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
	{
		bool		valid;

		error[0] = '\0';
		if (files[i].key)
			valid = elector_tls_key_valid(path(files[i].file), error, sizeof(error));
		else
			valid = elector_tls_certificates_valid(path(files[i].file), error, sizeof(error));
		ok(valid == (files[i].error == NULL) && (valid || strstr(error, files[i].error) != NULL),
		   "%s: %s", files[i].file, valid ? "fine" : error);
	}
	ok(elector_tls_pair_valid(path("a.crt"), path("a.key"), error, sizeof(error)), "a pair");
	ok(!elector_tls_pair_valid(path("a.crt"), path("b.key"), error, sizeof(error)) &&
	   strstr(error, "do not belong together") != NULL, "no pair: %s", error);
}

static void
test_replacing(void)
{
	ElectorTls	tls;
	int64_t		now = 0;
	char	   *before;

	run("cp -p a.crt c.crt; cp -p a.key c.key; cp -p a.crt ca.crt");
	elector_tls_init(&tls, path("ca.crt"), path("c.crt"), path("c.key"));
	ok(elector_tls_refresh(&tls, now += 10 * SECOND, &listeners) && nnotices == 0, "read");
	before = strdup(tls.cert.text);

	run("cp -p b.crt fresh; mv fresh c.crt");
	ok(elector_tls_refresh(&tls, now + SECOND / 10, &listeners) && strcmp(tls.cert.text, before) == 0,
	   "not looked at all the time");
	ok(elector_tls_refresh(&tls, now += 2 * SECOND, &listeners) && strcmp(tls.cert.text, before) == 0,
	   "a certificate without its key is not used");
	is_int(nnotices, 0, "and not told at once");
	run("cp -p b.key fresh; mv fresh c.key");
	ok(elector_tls_refresh(&tls, now += 2 * SECOND, &listeners) && strcmp(tls.cert.text, before) != 0,
	   "both are");
	ok(nnotices == 1 && strncmp(notices, "LOG", 3) == 0, "%s", notices);

	run("rm c.key");
	for (int i = 0; i < 10; i++)
		ok(elector_tls_refresh(&tls, now += 2 * SECOND, &listeners), "what was read stays in use");
	ok(nnotices == 2 && strstr(notices, "No such file") != NULL, "told once: %s", notices);
	run("cp -p b.key c.key");
	ok(elector_tls_refresh(&tls, now += 2 * SECOND, &listeners), "there again");
	run("echo >> ca.crt");
	ok(elector_tls_refresh(&tls, now += 2 * SECOND, &listeners), "the CA's file was changed");
	elector_tls_forget(&tls);
	free(before);

	/* nothing was ever good */
	nnotices = 0;
	elector_tls_init(&tls, path("empty"), NULL, NULL);
	for (int i = 0; i < 3; i++)
		ok(!elector_tls_refresh(&tls, now += 2 * SECOND, &listeners), "nothing to use: %s", tls.problem);
	is_int(nnotices, 1, "told once: %s", notices);
	run("cp -p a.crt empty");
	ok(elector_tls_refresh(&tls, now += 2 * SECOND, &listeners) && nnotices == 2, "until there is: %s", notices);
	elector_tls_forget(&tls);
}

static int
remove_entry(const char *name, const struct stat *status, int type, struct FTW *ftw)
{
	(void) status;
	(void) type;
	(void) ftw;
	return remove(name);
}

int
main(void)
{
	if (access("/usr/bin/openssl", X_OK) != 0)
		skip(1, "no openssl");
	else if (mkdtemp(directory) != NULL)
	{
		make("a");
		make("b");
		test_files();
		test_replacing();
		nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	}
	return done_testing();
}
