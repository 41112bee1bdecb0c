/*
 * test_endpoints.c
 *	  Which endpoint is used: one that failed, one that is silent, one that is
 *	  slow.
 *
 * First the choice by itself, then the client against servers that take as long
 * to answer as the test wants.
 */
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "../../src/etcd/endpoints.h"
#include "mock.h"
#include "outcome.h"

static const ElectorNotices nobody = {NULL, NULL};

static void
test_choice(void)
{
	ElectorEndpoints endpoints;

	elector_endpoints_parse("http://a,http://b,http://c", &endpoints);
	is_int(elector_endpoints_next(&endpoints, 0, 0), 1, "in turn");
	is_int(elector_endpoints_next(&endpoints, 2, 0), 0, "and around");
	elector_endpoint_failed(&endpoints.all[1], 0, 0);
	is_int(elector_endpoints_next(&endpoints, 0, SECOND / 2), 2, "not to one that has just failed");
	is_int(elector_endpoints_next(&endpoints, 0, SECOND), 1, "for a second");
	elector_endpoint_failed(&endpoints.all[1], SECOND, 0);
	is_int(elector_endpoints_next(&endpoints, 0, 2 * SECOND), 2, "then for longer");
	elector_endpoint_failed(&endpoints.all[2], 3 * SECOND / 2, 0);
	is_int(elector_endpoints_next(&endpoints, 0, 2 * SECOND), 2, "where all have failed, to whose time is over first");
	for (int i = 0; i < 20; i++)
		elector_endpoint_failed(&endpoints.all[1], 0, 0);
	ok(endpoints.all[1].avoid_until < 20 * SECOND, "no endpoint is avoided for long");
	elector_endpoint_answered(&endpoints.all[1], 0, 0, &nobody);
	is_int(elector_endpoints_next(&endpoints, 0, 0), 1, "one that has answered is as good as any");

	elector_endpoints_parse("http://a", &endpoints);
	elector_endpoint_failed(&endpoints.all[0], 0, 0);
	is_int(elector_endpoints_next(&endpoints, 0, 0), 0, "where there is one, it is that");
}

static void
test_patience(void)
{
	ElectorEndpoint endpoint = {.slow = 0};

	is_int(elector_endpoint_patience(&endpoint, SECOND), SECOND, "the least patience");
	elector_endpoint_answered(&endpoint, 0, 2 * SECOND, &nobody);
	ok(elector_endpoint_patience(&endpoint, SECOND) > 2 * SECOND, "more with one that is slow");
	elector_endpoint_answered(&endpoint, 0, 100 * SECOND, &nobody);
	is_int(elector_endpoint_patience(&endpoint, SECOND), 5 * SECOND, "not without end");
	for (int i = 0; i < 20; i++)
		elector_endpoint_answered(&endpoint, 0, 1000, &nobody);
	is_int(elector_endpoint_patience(&endpoint, SECOND), SECOND, "what was slow is forgotten");
	elector_endpoint_failed(&endpoint, 0, SECOND);
	ok(elector_endpoint_patience(&endpoint, SECOND) > SECOND, "one that was silent is given more time when it is tried again");
}

/* ----------
 * Servers that take their time
 * ----------
 */

typedef struct Manner
{
	int			delay_ms;		/* before each answer; -1: none comes */
	int			requests;
} Manner;

typedef struct Server
{
	pid_t		pid;
	char		url[64];
	Manner	   *manner;
} Server;

static void
serve(int fd, Manner *manner)
{
	static const char watch[] = "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n";
	char		request[65536];
	char		text[512];

	while (mock_receive(fd, request, sizeof(request)))
	{
		bool		is_watch = strncmp(request, "POST /v3/watch ", 15) == 0;
		const char *body = is_watch ? "{\"result\":{" HEADER ",\"created\":true}}\n" :
			"{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}";

		__sync_fetch_and_add(&manner->requests, 1);
		if (manner->delay_ms < 0)
			pause();
		usleep((useconds_t) manner->delay_ms * 1000);
		if (is_watch)
			snprintf(text, sizeof(text), "%s%zx\r\n%s\r\n", watch, strlen(body), body);
		else
			snprintf(text, sizeof(text), "HTTP/1.1 200 X\r\nContent-Length: %zu\r\n\r\n%s",
					 strlen(body), body);
		mock_send(fd, text);
	}
}

static Server
server_start(int delay_ms)
{
	Server		server;
	int			port;
	int			fd = listen_on_loopback(&port);

	snprintf(server.url, sizeof(server.url), "http://127.0.0.1:%d", port);
	server.manner = mmap(NULL, sizeof(Manner), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	server.manner->delay_ms = delay_ms;
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
				serve(connection, server.manner);
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
	munmap(server->manner, sizeof(Manner));
}

/* A client of both, whose watch is at the first. */
static ElectorEtcd *
client_of_both(const Server *first, const Server *second, Outcome *watch)
{
	char		list[160];
	ElectorEtcd *etcd;

	snprintf(list, sizeof(list), "%s,%s", first->url, second->url);
	etcd = client_of(list);
	elector_etcd_set_patience(etcd, SECOND / 5);
	ask(etcd, WATCH, ENOUGH, watch);
	wait_for(etcd, watch, 1);
	is_str(watch->endpoint, first->url, "a watch at the first");
	return etcd;
}

/* The first falls silent: what comes later goes to the second, the watch as well. */
static void
test_silent(void)
{
	Server		first = server_start(0);
	Server		second = server_start(0);
	Outcome		watch;
	Outcome		lost;
	Outcome		next;
	ElectorEtcd *etcd = client_of_both(&first, &second, &watch);

	first.manner->delay_ms = -1;
	ask(etcd, GRANT, ENOUGH, &lost);
	pump_for(etcd, SECOND / 4);
	is_str(elector_etcd_endpoint(etcd), second.url, "it is not waited for long");
	ok(lost.calls == 0 && elector_etcd_watching(etcd), "but neither the request nor the watch has ended");
	ask(etcd, GRANT, ENOUGH, &next);
	wait_for(etcd, &next, 1);
	ok(next.reply.status == OK && strcmp(next.endpoint, second.url) == 0, "the second answers");
	ok(!elector_etcd_watching(etcd), "so that the watch ends");
	wait_for(etcd, &watch, 2);
	is_int(watch.reply.status, UNKNOWN, "and is told so: %s", watch.error);
	elector_etcd_destroy(etcd);
	server_stop(&first);
	server_stop(&second);
}

/* The first is slow, and so is the second: the watch stays, and so do requests. */
static void
test_slow(void)
{
	Server		first = server_start(0);
	Server		second = server_start(400);
	Outcome		watch;
	Outcome		outcomes[8];
	ElectorEtcd *etcd = client_of_both(&first, &second, &watch);

	first.manner->delay_ms = 400;
	for (int i = 0; i < 8; i++)
	{
		ask(etcd, GRANT, ENOUGH, &outcomes[i]);
		wait_for(etcd, &outcomes[i], 1);
		is_int(outcomes[i].reply.status, OK, "a slow answer is an answer: %s", outcomes[i].error);
		is_str(elector_etcd_endpoint(etcd), first.url, "requests go where the watch is");
	}
	is_int(watch.calls, 1, "the watch goes on");
	ok(elector_etcd_patience(etcd) > 2 * SECOND / 5, "with as much patience as that takes");
	ok(second.manner->requests <= 2, "the other was tried: %d requests", second.manner->requests);
	elector_etcd_destroy(etcd);
	server_stop(&first);
	server_stop(&second);
}

/* There is only one: its watch ends when it has been silent for long. */
static void
test_single(void)
{
	Server		server = server_start(0);
	ElectorEtcd *etcd = client_of(server.url);
	Outcome		watch;
	Outcome		outcome;
	int64_t		began;

	elector_etcd_set_patience(etcd, SECOND / 10);
	ask(etcd, WATCH, ENOUGH, &watch);
	wait_for(etcd, &watch, 1);
	server.manner->delay_ms = 300;
	ask(etcd, GRANT, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	ok(outcome.reply.status == OK && elector_etcd_watching(etcd), "slow: the watch goes on");
	server.manner->delay_ms = -1;
	began = now_us();
	ask(etcd, GRANT, ENOUGH, &outcome);
	wait_for(etcd, &watch, 2);
	ok(now_us() - began >= SECOND / 2 && outcome.calls == 0, "silent: the watch ends after %" PRId64 " ms",
	   (now_us() - began) / 1000);
	elector_etcd_destroy(etcd);
	server_stop(&server);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_choice();
	test_patience();
	test_silent();
	test_slow();
	test_single();
	return done_testing();
}
