/*
 * test_auth.c
 *	  Users of etcd: tokens, passwords in files, and what comes of a wrong one.
 *
 * First what is decided, with a clock of its own, then all of the client against
 * a server that grants and refuses tokens as the test wants.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../src/etcd/auth.h"
#include "mock.h"
#include "outcome.h"

static char password_file[64];
static char notices[4096];		/* all that were told, one a line */
static int	nnotices;

static void
note(void *arg, bool trouble, const char *message, const char *hint)
{
	size_t		length = strlen(notices);

	(void) arg;
	snprintf(notices + length, sizeof(notices) - length, "%s %s (%s); ",
			 trouble ? "WARNING" : "LOG", message, hint);
	nnotices++;
}

static void
forget_notices(void)
{
	notices[0] = '\0';
	nnotices = 0;
}

/* As a rotation does it: another file takes the name. */
static void
write_password(const char *password, mode_t mode)
{
	char		fresh[80];
	int			fd;

	snprintf(fresh, sizeof(fresh), "%s.new", password_file);
	fd = open(fresh, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	if (fd < 0 || write(fd, password, strlen(password)) < 0 || fchmod(fd, mode) != 0 ||
		close(fd) != 0 || rename(fresh, password_file) != 0)
	{
		printf("Bail out! cannot write %s\n", fresh);
		exit(1);
	}
}

/* ----------
 * What is decided
 * ----------
 */

static const ElectorNotices listeners = {note, NULL};

static void
test_files(void)
{
	static const struct
	{
		const char *content;
		mode_t		mode;
		const char *error;		/* a part of it; NULL: fine */
	}			files[] = {
		{"secret\n", 0600, NULL},
		{"secret", 0400, NULL},
		{"secret\r\nsecond line\n", 0600, NULL},
		{"secret\n", 0604, "group or others"},
		{"secret\n", 0660, "group or others"},
		{"secret\n", 0644, "group or others"},
		{"", 0600, "no password"},
		{"\nsecret\n", 0600, "no password"},
	};
	char		error[ELECTOR_PROBLEM_SIZE];
	char		large[ELECTOR_PASSWORD_SIZE + 1];

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
	{
		bool		valid;

		write_password(files[i].content, files[i].mode);
		error[0] = '\0';
		valid = elector_auth_file_valid(password_file, error, sizeof(error));
		ok(valid == (files[i].error == NULL) &&
		   (valid || (strstr(error, files[i].error) != NULL && strstr(error, password_file) != NULL)),
		   "password file %zu, mode %o: %s", i, (unsigned) files[i].mode, valid ? "fine" : error);
		ok(strstr(error, "secret") == NULL, "and no password is told");
	}
	if (geteuid() == 0)
	{
		write_password("secret\n", 0640);
		ok(elector_auth_file_valid(password_file, error, sizeof(error)), "mode 0640, of root");
		ok(chown(password_file, 1, (gid_t) -1) == 0 &&
		   !elector_auth_file_valid(password_file, error, sizeof(error)), "of somebody else: %s", error);
		unlink(password_file);
	}
	memset(large, 'x', sizeof(large) - 1);
	large[sizeof(large) - 1] = '\0';
	write_password(large, 0600);
	ok(!elector_auth_file_valid(password_file, error, sizeof(error)), "too long: %s", error);
	ok(!elector_auth_file_valid("/nowhere/at/all", error, sizeof(error)), "none: %s", error);
	ok(!elector_auth_file_valid("/tmp", error, sizeof(error)), "a directory: %s", error);
	unlink(password_file);
	ok(mkfifo(password_file, 0600) == 0 &&
	   !elector_auth_file_valid(password_file, error, sizeof(error)), "a pipe is not waited for: %s", error);
	unlink(password_file);
}

static void
begin(ElectorAuth *auth, const char *password)
{
	write_password(password, 0600);
	forget_notices();
	elector_auth_init(auth, "elector", password_file);
	elector_auth_refresh(auth, 0, &listeners);
}

static void
test_renewal(void)
{
	ElectorAuth auth;
	bool		former;
	int64_t		at;

	elector_auth_init(&auth, "", NULL);
	ok(!elector_auth_waits(&auth) && elector_auth_next(&auth) == -1, "without a user there is nothing to do");

	begin(&auth, "secret\n");
	ok(elector_auth_waits(&auth) && elector_auth_next(&auth) <= 0, "a token is wanted at once");
	is_str(elector_auth_password(&auth, 0, &former), "secret", "for the first line of the file");
	elector_auth_granted(&auth, SECOND, "token.1", false, &listeners);
	at = elector_auth_next(&auth);
	ok(!elector_auth_waits(&auth), "then requests need not wait");
	ok(at > 60 * SECOND && at < 150 * SECOND, "and it is renewed before etcd forgets it: at %" PRId64 " s", at / SECOND);
	elector_auth_failed(&auth, at, "no reply");
	ok(!elector_auth_waits(&auth) && elector_auth_next(&auth) > at, "a renewal that is not answered changes nothing, and is tried again");
	elector_auth_granted(&auth, at, "token.2", false, &listeners);
	elector_auth_refused(&auth, at, 1, &listeners);
	is_str(auth.token, "token.2", "what is said of the token before does not concern the present one");
	elector_auth_refused(&auth, at + 10 * SECOND, 2, &listeners);
	ok(elector_auth_waits(&auth) && elector_auth_next(&auth) == at + 10 * SECOND, "one that is refused is replaced at once");
	is_int(nnotices, 0, "and nobody needs to know");
	elector_auth_forget(&auth);

	begin(&auth, "secret\n");
	elector_auth_inherit(&auth, "token.7");
	ok(!elector_auth_waits(&auth), "a token that another was granted will do");
	elector_auth_refused(&auth, SECOND, 1, &listeners);
	ok(elector_auth_waits(&auth) && elector_auth_next(&auth) <= SECOND, "until it is refused");
	elector_auth_forget(&auth);
}

/* How often etcd is asked within a time, if it always answers in one way. */
static int
count_attempts(ElectorAuth *auth, int64_t seconds, bool grant)
{
	int64_t		now = 0;
	int			attempts = 0;
	bool		former;

	while (now < seconds * SECOND)
	{
		elector_auth_refresh(auth, now, &listeners);
		if (elector_auth_next(auth) <= now && elector_auth_password(auth, now, &former) != NULL)
		{
			attempts++;
			if (grant)
			{
				elector_auth_granted(auth, now, "token", former, &listeners);
				elector_auth_refused(auth, now, auth->number, &listeners);
			}
			else
				elector_auth_denied(auth, now, former, "http://e1", &listeners);
		}
		now += SECOND / 100;
	}
	return attempts;
}

static void
test_flood(void)
{
	ElectorAuth auth;
	int			attempts;

	begin(&auth, "wrong\n");
	attempts = count_attempts(&auth, 3600, false);
	ok(attempts > 60 && attempts < 130, "a password that is refused: %d attempts in an hour", attempts);
	is_int(nnotices, 1, "one line in the log");
	ok(strstr(notices, "etcd at \"http://e1\" does not accept the password of user \"elector\"") != NULL,
	   "which says it: %s", notices);
	ok(strstr(auth.problem, "password") != NULL && strstr(auth.problem, "wrong") == NULL, "%s", auth.problem);

	write_password("secret\n", 0600);
	elector_auth_refresh(&auth, 3600 * SECOND, &listeners);
	ok(elector_auth_next(&auth) <= 3600 * SECOND, "a new file is a new chance, at once");
	elector_auth_granted(&auth, 3600 * SECOND, "token", false, &listeners);
	is_int(nnotices, 2, "it worked: %s", strchr(notices, ';') + 1);
	elector_auth_forget(&auth);

	begin(&auth, "secret\n");
	attempts = count_attempts(&auth, 3600, true);
	ok(attempts > 60 && attempts < 140, "tokens that are refused as soon as they are granted: %d attempts in an hour", attempts);
	ok(strstr(notices, "etcd refuses the tokens") != NULL, "%s", notices);
	is_int(nnotices, 1, "one line");
	elector_auth_forget(&auth);
}

/* The file first, then etcd: the former password goes on. */
static void
test_former(void)
{
	ElectorAuth auth;
	bool		former;

	begin(&auth, "first\n");
	elector_auth_password(&auth, 0, &former);
	elector_auth_granted(&auth, 0, "token.1", former, &listeners);

	write_password("second\n", 0600);
	elector_auth_refresh(&auth, SECOND, &listeners);
	ok(!elector_auth_waits(&auth), "the token outlives the file");
	ok(elector_auth_next(&auth) <= SECOND, "the new password is tried at once");
	is_str(elector_auth_password(&auth, SECOND, &former), "second", "it");
	elector_auth_denied(&auth, SECOND, former, "http://e1", &listeners);
	is_str(elector_auth_password(&auth, SECOND, &former), "first", "then the former one");
	ok(former, "known as that");
	elector_auth_granted(&auth, SECOND, "token.2", former, &listeners);
	ok(nnotices == 1 && strstr(notices, "still the former one") != NULL, "the operator is told: %s", notices);

	/* every half minute */
	for (int i = 1; i <= 3; i++)
	{
		int64_t		now = elector_auth_next(&auth);

		ok(now > i * 29 * SECOND, "not before it is time");
		is_str(elector_auth_password(&auth, now, &former), "second", "the new one is tried");
		elector_auth_denied(&auth, now, former, "http://e1", &listeners);
		elector_auth_password(&auth, now, &former);
		elector_auth_granted(&auth, now, "token.3", former, &listeners);
	}
	is_int(nnotices, 1, "and nothing is told again");

	/* the password is changed in etcd */
	elector_auth_refused(&auth, 1000 * SECOND, auth.number, &listeners);
	is_str(elector_auth_password(&auth, 1000 * SECOND, &former), "second", "changed in etcd: the new one");
	elector_auth_granted(&auth, 1000 * SECOND, "token.4", former, &listeners);
	ok(nnotices == 2 && strstr(notices, "etcd accepts the password") != NULL, "the operator is told");

	unlink(password_file);
	elector_auth_refresh(&auth, 1001 * SECOND, &listeners);
	elector_auth_refresh(&auth, 1002 * SECOND, &listeners);
	ok(nnotices == 3 && strstr(notices, "No such file") != NULL, "a file that is gone is told once");
	is_str(elector_auth_password(&auth, 1002 * SECOND, &former), "second", "and what was in it goes on");
	elector_auth_forget(&auth);
}

/* ----------
 * A server with users
 * ----------
 */

/* Shared with the server's processes. */
typedef struct Users
{
	char		password[64];
	int			token;			/* the only valid one */
	bool		off;			/* no authentication */
	bool		refuse_all;		/* tokens are never valid */
	bool		silent;			/* says nothing to who wants a token */
	int			slow_ms;		/* checking a password takes that long */
	int			asked;			/* for tokens */
	int			served;
	int			refused;
} Users;

static const char *
answer_to(Users *users, const char *request, int *status)
{
	static char text[512];
	char		authorization[64];
	bool		watch = strncmp(request, "POST /v3/watch ", 15) == 0;
	const char *error = NULL;

	snprintf(authorization, sizeof(authorization), "\r\nAuthorization: tok.%d\r\n", users->token);
	if (strncmp(request, "POST /v3/auth/authenticate ", 27) == 0)
	{
		char		expected[128];

		__sync_fetch_and_add(&users->asked, 1);
		snprintf(expected, sizeof(expected), "{\"name\":\"elector\",\"password\":\"%s\"}", users->password);
		usleep((useconds_t) users->slow_ms * 1000);
		if (users->off)
			error = "etcdserver: authentication is not enabled\",\"code\":9";
		else if (strcmp(strstr(request, "\r\n\r\n") + 4, expected) != 0)
			error = "etcdserver: authentication failed, invalid user ID or password\",\"code\":3";
		else
			snprintf(text, sizeof(text), "{" HEADER ",\"token\":\"tok.%d\"}",
					 __sync_add_and_fetch(&users->token, 1));
	}
	else if (!users->off && (users->refuse_all || strstr(request, authorization) == NULL))
	{
		__sync_fetch_and_add(&users->refused, 1);
		error = strstr(request, "\r\nAuthorization:") == NULL ?
			"etcdserver: user name is empty\",\"code\":3" : "etcdserver: invalid auth token\",\"code\":16";
	}
	else
	{
		__sync_fetch_and_add(&users->served, 1);
		snprintf(text, sizeof(text), watch ? "{\"result\":{" HEADER ",\"created\":true}}\n" :
				 "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}");
	}
	*status = error == NULL ? 200 : strstr(error, "invalid auth token") ? 401 : 400;
	if (error == NULL)
		return text;
	if (watch)
	{
		*status = 200;
		snprintf(text, sizeof(text), "{\"result\":{" HEADER ",\"created\":true,\"canceled\":true,"
				 "\"cancel_reason\":\"rpc error: %.*s\"}}\n", (int) strcspn(error, "\""), error);
	}
	else
		snprintf(text, sizeof(text), "{\"message\":\"%s}", error);
	return text;
}

static void
serve(int fd, Users *users)
{
	char		request[65536];
	char		head[128];
	int			status;

	while (mock_receive(fd, request, sizeof(request)))
	{
		const char *answer;

		if (users->silent && strncmp(request, "POST /v3/auth/", 14) == 0)
			pause();
		answer = answer_to(users, request, &status);
		if (strncmp(request, "POST /v3/watch ", 15) == 0 && strstr(answer, "canceled") == NULL)
		{
			/* it stays */
			snprintf(head, sizeof(head), "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n",
					 strlen(answer));
			mock_send(fd, head);
			mock_send(fd, answer);
			mock_send(fd, "\r\n");
			continue;
		}
		snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n", status, strlen(answer));
		mock_send(fd, head);
		mock_send(fd, answer);
	}
}

typedef struct Server
{
	pid_t		pid;
	char		url[64];
	Users	   *users;
} Server;

static Server
server_start(const char *password)
{
	Server		server;
	int			port;
	int			fd = listen_on_loopback(&port);

	snprintf(server.url, sizeof(server.url), "http://127.0.0.1:%d", port);
	server.users = mmap(NULL, sizeof(Users), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	snprintf(server.users->password, sizeof(server.users->password), "%s", password);
	server.pid = fork();
	if (server.pid == 0)
	{
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGCHLD, SIG_IGN);
		for (;;)
		{
			int			connection = accept(fd, NULL, NULL);

			if (connection >= 0 && fork() == 0)
			{
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				serve(connection, server.users);
				_exit(0);
			}
			close(connection);
		}
	}
	setpgid(server.pid, server.pid);
	close(fd);
	return server;
}

static void
server_stop(Server *server)
{
	kill(-server->pid, SIGKILL);
	waitpid(server->pid, NULL, 0);
	munmap(server->users, sizeof(Users));
}

static ElectorEtcd *
client_with(const char *endpoints)
{
	ElectorEtcdSettings settings = {.endpoints = endpoints,.user = "elector",.password_file = password_file};
	const char *error;
	ElectorEtcd *etcd = elector_etcd_create(&settings, &error);

	if (etcd == NULL)
	{
		printf("Bail out! %s\n", error);
		exit(1);
	}
	forget_notices();
	elector_etcd_listen(etcd, note, NULL);
	return etcd;
}

static void
grant_one(ElectorEtcd *etcd, int64_t bound, Outcome *outcome)
{
	ask(etcd, GRANT, bound, outcome);
	wait_for(etcd, outcome, 1);
}

/* The first token, and one after another. */
static void
test_tokens(void)
{
	Server		server = server_start("secret");
	ElectorEtcd *etcd;
	Outcome		outcomes[4];
	Outcome		watch;

	write_password("secret\n", 0600);
	etcd = client_with(server.url);
	for (int i = 0; i < 4; i++)
		ask(etcd, GRANT, ENOUGH, &outcomes[i]);
	ok(elector_etcd_busy(etcd), "requests that wait for a token are under way");
	for (int i = 0; i < 4; i++)
	{
		wait_for(etcd, &outcomes[i], 1);
		is_int(outcomes[i].reply.status, OK, "served: %s", outcomes[i].error);
	}
	is_int(server.users->asked, 1, "four requests, one token");
	is_int(server.users->refused, 0, "none was sent without");

	/* as when a member restarts */
	server.users->token++;
	for (int i = 0; i < 4; i++)
		ask(etcd, GRANT, ENOUGH, &outcomes[i]);
	for (int i = 0; i < 4; i++)
	{
		wait_for(etcd, &outcomes[i], 1);
		is_int(outcomes[i].reply.status, OK, "served again: %s", outcomes[i].error);
	}
	is_int(server.users->asked, 2, "with one new token");
	ok(server.users->served == 8, "each once");

	server.users->token++;
	ask(etcd, WATCH, ENOUGH, &watch);
	wait_for(etcd, &watch, 1);
	ok(watch.reply.status == OK && elector_etcd_watching(etcd), "a watch begins with a new token: %s", watch.error);
	is_int(server.users->asked, 3, "one more token");
	is_int(nnotices, 0, "nobody needs to know");
	elector_etcd_destroy(etcd);
	server_stop(&server);
}

static void
test_wrong_password(void)
{
	Server		server = server_start("secret");
	ElectorEtcd *etcd;
	Outcome		outcome;
	int64_t		until;
	int			failures = 0;

	write_password("wrong\n", 0600);
	etcd = client_with(server.url);
	until = now_us() + 5 * SECOND / 2;
	while (now_us() < until)
	{
		grant_one(etcd, SECOND / 4, &outcome);
		failures += outcome.reply.status == UNKNOWN &&
			strstr(outcome.error, "password of user \"elector\" is not accepted") != NULL;
		pump_for(etcd, SECOND / 20);
	}
	ok(failures > 20, "%d requests in a row fail, and say why", failures);
	is_int(server.users->served + server.users->refused, 0, "none of them was sent");
	is_int(server.users->asked, 2, "etcd was asked twice in 2.5 s");
	is_int(nnotices, 1, "one line: %s", notices);

	write_password("secret\n", 0600);
	grant_one(etcd, SECOND, &outcome);
	is_int(outcome.reply.status, OK, "corrected, it works at once: %s", outcome.error);
	ok(nnotices == 2 && strstr(notices, "LOG etcd accepts the password of user \"elector\"") != NULL, "and is told");
	ok(strstr(notices, "wrong") == NULL && strstr(notices, "secret") == NULL, "no password in what is told");
	elector_etcd_destroy(etcd);
	server_stop(&server);
}

static void
test_rotation(void)
{
	Server		server = server_start("first");
	ElectorEtcd *etcd;
	Outcome		outcome;

	write_password("first\n", 0600);
	etcd = client_with(server.url);
	grant_one(etcd, SECOND, &outcome);

	/* The file first. */
	write_password("second\n", 0600);
	for (int i = 0; i < 10; i++)
	{
		grant_one(etcd, SECOND, &outcome);
		is_int(outcome.reply.status, OK, "file changed: %s", outcome.error);
		pump_for(etcd, SECOND / 50);
	}
	server.users->token++;		/* even if a member restarts */
	grant_one(etcd, SECOND, &outcome);
	is_int(outcome.reply.status, OK, "the former password still serves: %s", outcome.error);
	strcpy(server.users->password, "second");
	server.users->token++;
	grant_one(etcd, SECOND, &outcome);
	is_int(outcome.reply.status, OK, "changed in etcd, too: %s", outcome.error);
	is_int(nnotices, 2, "two lines: %s", notices);

	/* etcd first. */
	strcpy(server.users->password, "third");
	server.users->token++;
	grant_one(etcd, SECOND, &outcome);
	is_int(outcome.reply.status, UNKNOWN, "changed in etcd only: %s", outcome.error);
	write_password("third\n", 0600);
	grant_one(etcd, SECOND, &outcome);
	is_int(outcome.reply.status, OK, "and in the file: %s", outcome.error);

	/* The file is spoilt. */
	forget_notices();
	write_password("third\n", 0644);
	grant_one(etcd, SECOND, &outcome);
	ok(outcome.reply.status == OK && nnotices == 1 && strstr(notices, "group or others") != NULL,
	   "others may read the file: %s", notices);
	elector_etcd_destroy(etcd);
	server_stop(&server);
}

static void
test_bounds(void)
{
	Server		server = server_start("secret");
	ElectorEtcd *etcd;
	Outcome		outcome;
	int64_t		began;

	/* Checking takes longer than the request may. */
	write_password("secret\n", 0600);
	server.users->slow_ms = 300;
	etcd = client_with(server.url);
	began = now_us();
	grant_one(etcd, SECOND / 10, &outcome);
	ok(outcome.reply.status == UNKNOWN && now_us() - began < SECOND / 4, "the bound holds: %s", outcome.error);
	grant_one(etcd, SECOND, &outcome);
	ok(outcome.reply.status == OK && server.users->asked == 1, "the token was asked for once: %s", outcome.error);
	server.users->slow_ms = 0;

	/* No token is ever valid. */
	server.users->refuse_all = true;
	server.users->asked = server.users->refused = 0;
	forget_notices();
	began = now_us();
	while (now_us() < began + 2 * SECOND)
	{
		grant_one(etcd, SECOND / 4, &outcome);
		if (outcome.reply.status != UNKNOWN)
			ok(false, "served with a token that is not valid");
		pump_for(etcd, SECOND / 50);
	}
	ok(server.users->asked <= 12 && server.users->refused <= 16, "bounded: %d tokens, %d refusals in 2 s",
	   server.users->asked, server.users->refused);
	is_int(nnotices, 1, "one line: %s", notices);
	elector_etcd_destroy(etcd);
	server_stop(&server);
}

/* Tokens that do not live long. */
static void
test_short_lived(void)
{
	Server		server = server_start("secret");
	ElectorEtcd *etcd;
	Outcome		outcome;

	write_password("secret\n", 0600);
	etcd = client_with(server.url);
	for (int i = 0; i < 6; i++)
	{
		server.users->token++;	/* somebody changes users, again and again */
		grant_one(etcd, SECOND, &outcome);
		is_int(outcome.reply.status, OK, "a token that is void at once is replaced: %s", outcome.error);
	}
	is_int(nnotices, 0, "nobody needs to know");
	elector_etcd_destroy(etcd);
	server_stop(&server);
}

/* etcd without authentication, which is then enabled. */
static void
test_off(void)
{
	Server		server = server_start("secret");
	ElectorEtcd *etcd;
	Outcome		outcome;

	write_password("secret\n", 0600);
	server.users->off = true;
	etcd = client_with(server.url);
	grant_one(etcd, SECOND, &outcome);
	ok(outcome.reply.status == OK && nnotices == 1, "it works without: %s", notices);
	pump_for(etcd, SECOND / 5);
	is_int(server.users->asked, 1, "and is not asked again");
	server.users->off = false;
	grant_one(etcd, SECOND, &outcome);
	is_int(outcome.reply.status, OK, "enabled, with a token: %s", outcome.error);
	elector_etcd_destroy(etcd);

	/* nobody is set */
	etcd = client_of(server.url);
	forget_notices();
	elector_etcd_listen(etcd, note, NULL);
	for (int i = 0; i < 3; i++)
		grant_one(etcd, SECOND, &outcome);
	ok(outcome.reply.status == REFUSED && strstr(outcome.error, "wants a user") != NULL &&
	   nnotices == 1 && strstr(notices, "pg_elector.etcd_user") != NULL, "without a user: %s", notices);
	elector_etcd_destroy(etcd);
	server_stop(&server);
}

/* The endpoint that is asked first says nothing. */
static void
test_failover(void)
{
	Server		silent = server_start("secret");
	Server		good = server_start("secret");
	ElectorEtcd *etcd;
	Outcome		outcome;
	char		list[160];
	int64_t		took;

	silent.users->silent = true;
	write_password("secret\n", 0600);
	snprintf(list, sizeof(list), "%s,%s", silent.url, good.url);
	etcd = client_with(list);
	elector_etcd_set_patience(etcd, SECOND / 10);
	took = now_us();
	grant_one(etcd, 2 * SECOND, &outcome);
	took = now_us() - took;
	ok(outcome.reply.status == OK && strcmp(outcome.endpoint, good.url) == 0, "served by the other: %s", outcome.error);
	ok(took < SECOND, "soon: %" PRId64 " ms", took / 1000);
	elector_etcd_destroy(etcd);
	server_stop(&silent);
	server_stop(&good);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	snprintf(password_file, sizeof(password_file), "/tmp/test_auth.%d", (int) getpid());
	test_files();
	test_renewal();
	test_flood();
	test_former();
	test_tokens();
	test_wrong_password();
	test_rotation();
	test_bounds();
	test_short_lived();
	test_off();
	test_failover();
	unlink(password_file);
	return done_testing();
}
