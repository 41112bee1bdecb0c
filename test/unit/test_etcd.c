/*
 * test_etcd.c
 *	  The client of etcd's gateway, against the real one.
 *
 * It is started on free ports of the loopback, with a directory of its own;
 * where there is no etcd, its checks are skipped.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE				/* nftw() */
#endif

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "outcome.h"

#define ETCD_PROGRAM	"/usr/bin/etcd"

typedef struct Server
{
	pid_t		pid;
	int			port;
	char		url[64];
	char		directory[64];
} Server;

static bool
server_start(Server *server)
{
	char		peer_url[64];
	char		cluster[80];

	strcpy(server->directory, "/tmp/test_client.XXXXXX");
	if (access(ETCD_PROGRAM, X_OK) != 0 || mkdtemp(server->directory) == NULL)
		return false;
	server->port = free_port();
	snprintf(server->url, sizeof(server->url), "http://127.0.0.1:%d", server->port);
	snprintf(peer_url, sizeof(peer_url), "http://127.0.0.1:%d", free_port());
	snprintf(cluster, sizeof(cluster), "default=%s", peer_url);
	server->pid = fork();
	if (server->pid == 0)
	{
		int			null = open("/dev/null", O_RDWR);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(null, 1);
		dup2(null, 2);
		execl(ETCD_PROGRAM, ETCD_PROGRAM, "--data-dir", server->directory,
			  "--listen-client-urls", server->url, "--advertise-client-urls", server->url,
			  "--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url,
			  "--initial-cluster", cluster, (char *) NULL);
		_exit(127);
	}
	return true;
}

static int
remove_entry(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
	(void) status;
	(void) type;
	(void) ftw;
	return remove(path);
}

static void
server_stop(Server *server)
{
	kill(server->pid, SIGKILL);
	waitpid(server->pid, NULL, 0);
	nftw(server->directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Until it answers a linearizable read. */
static bool
server_wait(ElectorEtcd *etcd)
{
	int64_t		end = now_us() + 3 * ENOUGH;
	Outcome		outcome;

	do
	{
		ask(etcd, RANGE, SECOND, &outcome);
		wait_for(etcd, &outcome, 1);
		if (outcome.reply.status == OK)
			return true;
		poll(NULL, 0, 20);
	} while (now_us() < end);
	return false;
}

/* What the client has no function for. */
static void
raw_post(const Server *server, const char *path, const char *body)
{
	struct sockaddr_in address = {.sin_family = AF_INET,.sin_port = htons((uint16_t) server->port)};
	int			fd = socket(AF_INET, SOCK_STREAM, 0);
	char		text[1024];
	int			length;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	length = snprintf(text, sizeof(text), "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
					  "Content-Length: %zu\r\n\r\n%s", path, strlen(body), body);
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		send(fd, text, (size_t) length, MSG_NOSIGNAL) != length)
		ok(false, "%s: %s", path, strerror(errno));
	while (recv(fd, text, sizeof(text), 0) > 0)
		;
	close(fd);
}

static void
commit(ElectorEtcd *etcd, ElectorTxn *txn, Outcome *outcome)
{
	memset(outcome, 0, sizeof(*outcome));
	elector_etcd_commit(etcd, txn, ENOUGH, record, outcome);
	wait_for(etcd, outcome, 1);
}

static void
put(ElectorEtcd *etcd, const char *key, const char *value, int64_t lease, Outcome *outcome)
{
	ElectorTxn *txn = elector_txn_create();

	elector_txn_put(txn, key, value, lease);
	commit(etcd, txn, outcome);
}

static int64_t
real_grant(ElectorEtcd *etcd)
{
	Outcome		outcome;

	ask(etcd, GRANT, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	ok(outcome.reply.status == OK && outcome.reply.lease != 0 && outcome.reply.ttl >= 5,
	   "a lease: %" PRId64 " for %" PRId64 " s %s", outcome.reply.lease, outcome.reply.ttl,
	   outcome.error);
	return outcome.reply.lease;
}

static void
real_transactions(ElectorEtcd *etcd, const Server *server, int64_t lease)
{
	Outcome		outcome;
	ElectorTxn *txn;
	int64_t		created = 0;

	for (int i = 0; i < 2; i++)
	{
		txn = elector_txn_create();
		elector_txn_if_created(txn, "/t/leader", 0);
		elector_txn_put(txn, "/t/leader", "{\"node\":\"n1\"}", lease);
		elector_txn_range(txn, "/t/leader", NULL, 0, false);
		commit(etcd, txn, &outcome);
		ok(outcome.reply.status == OK && outcome.reply.succeeded == (i == 0),
		   "created once: %s", outcome.error);
		is_str(outcome.value, "{\"node\":\"n1\"}", "the range tells in either case");
		is_int(outcome.kv.lease, lease, "and the key's lease");
		ok(i == 0 || outcome.kv.create_revision == created, "and its revision");
		created = outcome.kv.create_revision;
	}

	txn = elector_txn_create();
	elector_txn_if_created(txn, "/t/leader", created);
	elector_txn_if_modified(txn, "/t/leader", created);
	elector_txn_if_modified(txn, "/t/none", 0);
	elector_txn_put(txn, "/t/a", "", 0);
	elector_txn_put(txn, "/t/b", "\xc3\xbc", 0);
	commit(etcd, txn, &outcome);
	ok(outcome.reply.status == OK && outcome.reply.succeeded, "three comparisons hold");

	raw_post(server, "/v3/kv/put", "{\"key\":\"L3QvYQBi\",\"value\":\"YQ==\"}");
	commit(etcd, range_txn("/t/", "/t0"), &outcome);
	is_int((long long) outcome.reply.nkvs, 3, "three keys, and one with a NUL is dropped");
	is_str(outcome.key, "/t/a", "in order");
	is_str(outcome.last_key, "/t/leader", "to the last");
	is_int((long long) outcome.kv.value_length, 0, "an empty value");

	txn = elector_txn_create();
	elector_txn_range(txn, "/t/", "/t0", 2, true);
	elector_txn_range(txn, "/t/b", NULL, 0, false);
	commit(etcd, txn, &outcome);
	is_int((long long) outcome.reply.nkvs, 3, "two ranges, one of them limited");
	is_str(outcome.key, "/t/leader", "last first");
	is_str(outcome.last_key, "/t/b", "then the other");

	txn = elector_txn_create();
	elector_txn_delete(txn, "/t/b");
	elector_txn_range(txn, "/t/b", NULL, 0, false);
	commit(etcd, txn, &outcome);
	ok(outcome.reply.succeeded && outcome.reply.nkvs == 0, "deleted");

	put(etcd, "/t/c", "x", 99, &outcome);
	ok(outcome.reply.status == REFUSED, "a put under no lease: %s", outcome.error);
	txn = elector_txn_create();
	elector_txn_put(txn, "/t/c", "x", 0);
	elector_txn_put(txn, "/t/c", "y", 0);
	commit(etcd, txn, &outcome);
	ok(outcome.reply.status == REFUSED, "a key put twice: %s", outcome.error);
	commit(etcd, NULL, &outcome);
	ok(outcome.reply.status == UNKNOWN, "a transaction that is none: %s", outcome.error);
}

static void
real_watch(ElectorEtcd *etcd, const Server *server, int64_t lease)
{
	Outcome		watch = {.calls = 0};
	Outcome		outcome;

	put(etcd, "/w/a", "1", 0, &outcome);
	elector_etcd_watch(etcd, "/w/", "/w0", outcome.reply.revision, ENOUGH, record, &watch);
	while (watch.total < 1 && wait_for(etcd, &watch, watch.calls + 1))
		;
	is_str(watch.key, "/w/a", "the watch begins at its revision");
	put(etcd, "/w/b", "2", lease, &outcome);
	while (watch.total < 2 && wait_for(etcd, &watch, watch.calls + 1))
		;
	ok(strcmp(watch.key, "/w/b") == 0 && strcmp(watch.value, "2") == 0 && !watch.kv.deleted &&
	   watch.kv.lease == lease, "a put is seen");
	is_int(watch.kv.mod_revision, outcome.reply.revision, "with its revision");

	elector_etcd_revoke(etcd, lease, ENOUGH, record, &outcome);
	while (watch.total < 3 && wait_for(etcd, &watch, watch.calls + 1))
		;
	ok(strcmp(watch.key, "/w/b") == 0 && watch.kv.deleted, "a revoked lease takes its keys along");
	ok(watch.reply.status == OK && elector_etcd_watching(etcd), "the watch goes on");

	for (int i = 0; i < 3; i++)
		put(etcd, "/w/a", "3", 0, &outcome);
	raw_post(server, "/v3/kv/compaction", "{\"revision\":\"5\"}");
	memset(&watch, 0, sizeof(watch));
	elector_etcd_watch(etcd, "/w/", "/w0", 1, ENOUGH, record, &watch);
	while (watch.reply.status == OK && wait_for(etcd, &watch, watch.calls + 1))
		;
	ok(watch.reply.status == REFUSED && !elector_etcd_watching(etcd), "compacted: %s", watch.error);
}

static void
real_lease(ElectorEtcd *etcd)
{
	int64_t		lease = real_grant(etcd);
	Outcome		outcomes[3];

	for (int dead = 0; dead < 2; dead++)
	{
		memset(outcomes, 0, sizeof(outcomes));
		elector_etcd_keepalive(etcd, lease, ENOUGH, record, &outcomes[0]);
		wait_for(etcd, &outcomes[0], 1);
		ok(outcomes[0].reply.status == OK && outcomes[0].reply.lease == lease &&
		   (outcomes[0].reply.ttl <= 0) == dead, "keep-alive: TTL %" PRId64, outcomes[0].reply.ttl);
		ok(outcomes[0].reply.raft_term > 0 && outcomes[0].reply.cluster_id > 0, "its header");
		elector_etcd_timetolive(etcd, lease, ENOUGH, record, &outcomes[1]);
		wait_for(etcd, &outcomes[1], 1);
		ok(outcomes[1].reply.status == OK && (outcomes[1].reply.ttl <= 0) == dead,
		   "time to live: TTL %" PRId64, outcomes[1].reply.ttl);
		elector_etcd_revoke(etcd, lease, ENOUGH, record, &outcomes[2]);
		wait_for(etcd, &outcomes[2], 1);
		is_int(outcomes[2].reply.status, dead ? REFUSED : OK, "revoke: %s", outcomes[2].error);
	}
}

static void
real_stall(ElectorEtcd *etcd, Server *server)
{
	Outcome		watch = {.calls = 0};
	Outcome		outcome;

	elector_etcd_watch(etcd, "/w/", "/w0", 0, ENOUGH, record, &watch);
	wait_for(etcd, &watch, 1);
	kill(server->pid, SIGSTOP);
	waitpid(server->pid, NULL, WUNTRACED);	/* until it has stopped */
	ask(etcd, RANGE, SECOND / 5, &outcome);
	wait_for(etcd, &outcome, 1);
	ok(outcome.reply.status == UNKNOWN, "stopped: %s", outcome.error);
	wait_for(etcd, &watch, 2);
	is_int(watch.reply.status, UNKNOWN, "and the watch ends");
	kill(server->pid, SIGCONT);
	ok(server_wait(etcd), "continued");
	memset(&watch, 0, sizeof(watch));
	elector_etcd_watch(etcd, "/w/", "/w0", 0, ENOUGH, record, &watch);
	wait_for(etcd, &watch, 1);
	kill(server->pid, SIGKILL);
	wait_for(etcd, &watch, 2);
	ok(watch.reply.status == UNKNOWN, "killed: %s", watch.error);
}

static void
test_real(void)
{
	Server		server;
	ElectorEtcd *etcd;
	int64_t		lease;

	if (!server_start(&server))
	{
		skip(1, "no etcd");
		return;
	}
	etcd = client_of(server.url);
	if (ok(server_wait(etcd), "etcd is there"))
	{
		lease = real_grant(etcd);
		real_transactions(etcd, &server, lease);
		real_watch(etcd, &server, lease);
		real_lease(etcd);
		real_stall(etcd, &server);
	}
	elector_etcd_destroy(etcd);
	server_stop(&server);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_real();
	return done_testing();
}
