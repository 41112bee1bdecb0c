/*
 * test_client.c
 *	  The client of etcd's gateway, against a server that misbehaves.
 *
 * That server is a child process that answers every request with what the test
 * wants, a process to each connection.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "mock.h"
#include "outcome.h"

/* ----------
 * The misbehaving server
 * ----------
 */

typedef enum Manner
{
	REPLY,						/* answer, keep the connection */
	SILENT,						/* read, say nothing */
	DEAF,						/* do not even accept */
	HANG_UP_SECOND,				/* answer once, hang up at the second request */
	CHUNKED_BYTES,				/* answer byte by byte, then hang up */
	CHUNKED_STAY,				/* answer in one chunk and stay silent */
	ENDLESS,					/* an endless body */
	ENDLESS_HEADER
} Manner;

typedef struct Behaviour
{
	Manner		manner;
	int			status;
	const char *body;
} Behaviour;

typedef struct Mock
{
	pid_t		pid;
	int			port;
	char		url[64];
	volatile int *requests;		/* how many it got; shared */
} Mock;

/* Is it a watch, and does it look as it should? */
static bool
read_request(int fd, bool *watch)
{
	char		request[65536];

	if (!mock_receive(fd, request, sizeof(request)))
		return false;
	*watch = strncmp(request, "POST /v3/watch ", 15) == 0;
	return !*watch || strstr(request, "Grpc-Metadata-hasleader: true\r\n") != NULL;
}

static void
send_endless(int fd, bool header)
{
	char		block[8192];

	memset(block, 'x', sizeof(block));
	if (header)
		memcpy(block + sizeof(block) - 2, "\r\n", 2);
	mock_send(fd, "HTTP/1.1 200 OK\r\n");
	if (!header)
		mock_send(fd, "Content-Type: application/json\r\n\r\n{\"result\":\"");
	for (;;)
	{
		if (header)
			memcpy(block, "X-A: ", 5);
		mock_send_all(fd, block, sizeof(block));
	}
}

static void
send_chunks(int fd, int status, const char *body, size_t size)
{
	char		line[64];

	snprintf(line, sizeof(line), "HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n", status);
	mock_send(fd, line);
	for (size_t length = strlen(body); length > 0;)
	{
		size_t		now = length < size ? length : size;

		snprintf(line, sizeof(line), "%zx\r\n", now);
		mock_send(fd, line);
		mock_send_all(fd, body, now);
		mock_send(fd, "\r\n");
		body += now;
		length -= now;
		if (size == 1)
			usleep(100);		/* so that it arrives in pieces */
	}
}

static void
serve_connection(int fd, const Behaviour *other, const Behaviour *watch, volatile int *requests)
{
	int			one = 1;
	bool		is_watch;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (int n = 1; read_request(fd, &is_watch); n++)
	{
		const Behaviour *behaviour = is_watch ? watch : other;
		char		head[256];

		__sync_fetch_and_add(requests, 1);
		switch (behaviour->manner)
		{
			case REPLY:
			case HANG_UP_SECOND:
				if (behaviour->manner == HANG_UP_SECOND && n == 2)
					return;
				snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n",
						 behaviour->status, strlen(behaviour->body));
				mock_send(fd, head);
				mock_send(fd, behaviour->body);
				break;
			case CHUNKED_BYTES:
				send_chunks(fd, behaviour->status, behaviour->body, 1);
				mock_send(fd, "0\r\n\r\n");
				return;
			case CHUNKED_STAY:
				send_chunks(fd, behaviour->status, behaviour->body, SIZE_MAX);
				break;
			case ENDLESS:
			case ENDLESS_HEADER:
				send_endless(fd, behaviour->manner == ENDLESS_HEADER);
				break;
			case SILENT:
			case DEAF:
				break;
		}
	}
}

/* Answers watches in one way and other requests in another. */
static Mock
mock_start(Behaviour other, Behaviour watch)
{
	Mock		mock;
	int			fd = listen_on_loopback(&mock.port);

	snprintf(mock.url, sizeof(mock.url), "http://127.0.0.1:%d", mock.port);
	mock.requests = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE,
						 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mock.pid = fork();
	if (mock.pid == 0)
	{
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGCHLD, SIG_IGN);
		for (;;)
		{
			int			connection;

			if (other.manner == DEAF)
				pause();
			connection = accept(fd, NULL, NULL);
			if (connection >= 0 && fork() == 0)
			{
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				serve_connection(connection, &other, &watch, mock.requests);
				_exit(0);
			}
			close(connection);
		}
	}
	setpgid(mock.pid, mock.pid);
	close(fd);
	return mock;
}

static Mock
mock_reply(int status, const char *body)
{
	Behaviour	behaviour = {REPLY, status, body};

	return mock_start(behaviour, behaviour);
}

static Mock
mock_manner(Manner manner)
{
	Behaviour	behaviour = {manner, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}"};

	return mock_start(behaviour, behaviour);
}

/* Its process group is its own, so that this ends its connections as well. */
static void
mock_stop(Mock *mock)
{
	kill(-mock->pid, SIGKILL);
	waitpid(mock->pid, NULL, 0);
	munmap((void *) mock->requests, sizeof(int));
}

/* ----------
 * Answers
 * ----------
 */

#define RANGE_OF(kv) "{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_range\":" \
	"{\"header\":{\"revision\":\"5\"},\"kvs\":[" kv "],\"count\":\"1\"}}]}"
#define EVENT_OF(event) "{\"result\":{" HEADER ",\"events\":[" event "]}}\n"

static const struct
{
	Question	question;
	int			http_status;
	const char *body;
	ElectorEtcdStatus status;
	const char *error;			/* a part of it */
}			answers[] = {
	{GRANT, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}", OK, ""},
	{GRANT, 200, "{" HEADER ",\"ID\":77,\"TTL\":5}", OK, ""},
	{GRANT, 200, "{" HEADER ",\"ID\":\"77\"}", UNKNOWN, "granted"},
	{GRANT, 200, "{" HEADER ",\"TTL\":\"5\"}", UNKNOWN, "granted"},
	{GRANT, 200, "{" HEADER ",\"ID\":\"9223372036854775808\",\"TTL\":\"5\"}", UNKNOWN, "ID"},
	{GRANT, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"9000000001\"}", UNKNOWN, "granted"},
	{GRANT, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"-5\"}", UNKNOWN, "granted"},
	{GRANT, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":1e400}", UNKNOWN, "granted"},
	{GRANT, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":[5]}", UNKNOWN, "granted"},
	{GRANT, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"", UNKNOWN, "malformed"},
	{GRANT, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}x", UNKNOWN, "malformed"},
	{GRANT, 200, "", UNKNOWN, "malformed"},
	{GRANT, 200, "[]", UNKNOWN, "malformed"},
	{GRANT, 200, "<html>hello</html>", UNKNOWN, "malformed"},
	{GRANT, 302, "", UNKNOWN, "HTTP status 302"},
	{GRANT, 404, "Not Found", UNKNOWN, "HTTP status 404"},
	{GRANT, 502, "<html>Bad Gateway</html>", UNKNOWN, "HTTP status 502"},
	{GRANT, 500, "{\"status\":\"down\"}", UNKNOWN, "not an error of etcd"},

	{KEEPALIVE, 200, "{\"result\":{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}}\n", OK, ""},
	{KEEPALIVE, 200, "{\"result\":{" HEADER ",\"ID\":\"78\",\"TTL\":\"5\"}}", UNKNOWN, "another lease"},
	{KEEPALIVE, 200, "{\"result\":{" HEADER "}}", UNKNOWN, "another lease"},
	{KEEPALIVE, 200, "{\"result\":{\"ID\":\"77\"}}", UNKNOWN, "header"},
	{KEEPALIVE, 200, "{\"result\":{\"header\":{},\"ID\":\"77\"}}", UNKNOWN, "header"},
	{KEEPALIVE, 200, "{\"result\":{\"header\":{\"cluster_id\":\"18446744073709551616\"},\"ID\":\"77\"}}",
	UNKNOWN, "header"},
	{KEEPALIVE, 200, "{\"result\":7}", UNKNOWN, "header"},
	{KEEPALIVE, 200, "{}", UNKNOWN, "header"},
	{KEEPALIVE, 200, "{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"etcdserver: no leader\","
	"\"http_status\":\"Service Unavailable\"}}", UNKNOWN, "no leader"},
	{KEEPALIVE, 200, "{\"error\":{\"code\":5,\"message\":\"etcdserver: requested lease not found\"}}",
	REFUSED, "lease not found"},

	{TIMETOLIVE, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"4\",\"grantedTTL\":\"5\"}", OK, ""},
	{TIMETOLIVE, 200, "{" HEADER ",\"ID\":\"77\"}", UNKNOWN, "time to live"},
	{TIMETOLIVE, 200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"-2\"}", UNKNOWN, "time to live"},
	{TIMETOLIVE, 200, "{" HEADER ",\"TTL\":\"-1\"}", UNKNOWN, "another lease"},

	{REVOKE, 200, "{" HEADER "}", OK, ""},
	{REVOKE, 200, "{}", UNKNOWN, "header"},
	{REVOKE, 404, "{\"error\":\"etcdserver: requested lease not found\",\"code\":5,"
	"\"message\":\"etcdserver: requested lease not found\"}", REFUSED, "lease not found"},
	{REVOKE, 404, "{\"code\":5,\"message\":\"etcdserver: requested lease not found\",\"details\":[]}",
	REFUSED, "lease not found"},
	{REVOKE, 400, "{\"error\":\"two\\nlines\"}", REFUSED, "two?lines"},
	{REVOKE, 401, "{\"error\":\"invalid auth token\",\"code\":16}", REFUSED, "wants a user"},
	{REVOKE, 503, "{\"error\":\"etcdserver: leader changed\",\"code\":14}", UNKNOWN, "leader changed"},
	{REVOKE, 503, "{\"error\":\"away\"}", UNKNOWN, "away"},
	{REVOKE, 504, "{\"error\":\"context deadline exceeded\",\"code\":4}", UNKNOWN, "deadline"},
	{REVOKE, 400, "{\"error\":\"etcdserver: request timed out\",\"code\":3}", UNKNOWN, "timed out"},
	{REVOKE, 429, "{\"error\":\"etcdserver: mvcc: database space exceeded\",\"code\":8}", UNKNOWN, "space"},
	{REVOKE, 500, "{\"error\":\"boom\",\"code\":2}", UNKNOWN, "boom"},
	{REVOKE, 400, "{\"error\":\"x\",\"code\":\"y\"}", UNKNOWN, "not an error of etcd"},
	{REVOKE, 400, "{\"error\":[]}", UNKNOWN, "not an error of etcd"},

	{RANGE, 200, RANGE_OF("{\"key\":\"YQ==\",\"value\":\"Yg==\",\"mod_revision\":\"5\"}"), OK, ""},
	{RANGE, 200, RANGE_OF(""), OK, ""},
	{RANGE, 200, RANGE_OF("{\"key\":\"YQ=\"}"), UNKNOWN, "bad key"},
	{RANGE, 200, RANGE_OF("{\"key\":\"Y===\"}"), UNKNOWN, "bad key"},
	{RANGE, 200, RANGE_OF("{\"key\":\"YQ==YQ==\"}"), UNKNOWN, "bad key"},
	{RANGE, 200, RANGE_OF("{\"key\":\"Y*==\"}"), UNKNOWN, "bad key"},
	{RANGE, 200, RANGE_OF("{\"key\":\"YQ==\\u0000\"}"), UNKNOWN, "malformed"},
	{RANGE, 200, RANGE_OF("{\"value\":\"Yg==\"}"), UNKNOWN, "bad key"},
	{RANGE, 200, RANGE_OF("{\"key\":\"YQ==\",\"value\":{}}"), UNKNOWN, "bad key"},
	{RANGE, 200, RANGE_OF("{\"key\":\"YQ==\",\"mod_revision\":\"-1\"}"), UNKNOWN, "bad key"},
	{RANGE, 200, RANGE_OF("{\"key\":\"YQ==\",\"lease\":1.5}"), UNKNOWN, "bad key"},
	{RANGE, 200, RANGE_OF("7"), UNKNOWN, "bad key"},
	{RANGE, 200, "{" HEADER ",\"succeeded\":true}", UNKNOWN, "number of responses"},
	{RANGE, 200, "{" HEADER "}", UNKNOWN, "number of responses"},
	{RANGE, 200, "{" HEADER ",\"succeeded\":\"yes\"}", UNKNOWN, "transaction"},
	{RANGE, 200, "{" HEADER ",\"succeeded\":true,\"responses\":{}}", UNKNOWN, "transaction"},
	{RANGE, 200, "{" HEADER ",\"succeeded\":true,\"responses\":[1]}", UNKNOWN, "response"},
	{RANGE, 200, "{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_range\":{\"kvs\":{}}}]}",
	UNKNOWN, "response"},

	{WATCH, 200, "{\"result\":{" HEADER ",\"created\":true,\"canceled\":true,\"compact_revision\":\"9\"}}\n",
	REFUSED, "compacted up to revision 9"},
	{WATCH, 200, "{\"result\":{" HEADER ",\"canceled\":true,\"cancel_reason\":\"not allowed\"}}",
	REFUSED, "not allowed"},
	{WATCH, 200, "{\"result\":{" HEADER ",\"canceled\":true,\"cancel_reason\":\"etcdserver: no leader\"}}\n",
	UNKNOWN, "no leader"},
	{WATCH, 200, "{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"etcdserver: no leader\"}}\n",
	UNKNOWN, "no leader"},
	{WATCH, 401, "{\"error\":\"permission denied\",\"code\":7}", REFUSED, "no permission"},
	{WATCH, 503, "later", UNKNOWN, "HTTP status 503"},
	{WATCH, 200, "", UNKNOWN, "ended"},
	{WATCH, 200, "{}\n", UNKNOWN, "not a watch message"},
	{WATCH, 200, "{\"result\":{\"created\":true}}\n", UNKNOWN, "not a watch message"},
	{WATCH, 200, "garbage\n", UNKNOWN, "malformed"},
	{WATCH, 200, EVENT_OF("{}"), UNKNOWN, "bad event"},
	{WATCH, 200, EVENT_OF("{\"type\":\"MAYBE\",\"kv\":{\"key\":\"YQ==\"}}"), UNKNOWN, "bad event"},
	{WATCH, 200, EVENT_OF("{\"type\":1,\"kv\":{\"key\":\"YQ==\"}}"), UNKNOWN, "bad event"},
	{WATCH, 200, EVENT_OF("{\"kv\":[]}"), UNKNOWN, "bad event"},
};

static void
test_answers(void)
{
	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++)
	{
		Mock		mock = mock_reply(answers[i].http_status, answers[i].body);
		ElectorEtcd *etcd = client_of(mock.url);
		Outcome		outcome;

		ask(etcd, answers[i].question, ENOUGH, &outcome);
		wait_for(etcd, &outcome, 1);
		if (!ok(outcome.calls == 1 && outcome.reply.status == answers[i].status &&
				strstr(outcome.error, answers[i].error) != NULL &&
				(answers[i].status == OK) == (outcome.error[0] == '\0'),
				"answer %zu: status %d, \"%s\"", i, answers[i].status, answers[i].error))
			printf("#   %d calls, status %d, \"%s\" of %s\n", outcome.calls,
				   outcome.reply.status, outcome.error, answers[i].body);
		if (answers[i].status != OK)
			ok(outcome.reply.ttl == 0 && outcome.reply.lease == 0 && outcome.reply.nkvs == 0 &&
			   outcome.reply.revision == 0 && !outcome.reply.succeeded, "and tells nothing else");
		elector_etcd_destroy(etcd);
		mock_stop(&mock);
	}
}

static void
test_values(void)
{
	Outcome		outcome;
	Mock		mock = mock_reply(200, RANGE_OF("{\"key\":\"YWI=\",\"value\":\"YgBj\",\"lease\":\"77\","
												"\"create_revision\":\"3\",\"mod_revision\":\"9223372036854775807\"},"
												"{\"key\":\"AGE=\"},{\"key\":\"YWJj\"}"));
	ElectorEtcd *etcd = client_of(mock.url);

	ask(etcd, RANGE, ENOUGH, &outcome);
	is_int(outcome.calls, 0, "starting makes no callback");
	is_int(elector_etcd_timeout(etcd), 0, "and wants to be pumped");
	wait_for(etcd, &outcome, 1);
	ok(outcome.reply.succeeded, "a transaction without comparisons succeeds");
	is_int((long long) outcome.reply.nkvs, 2, "a key with a NUL in it is dropped");
	is_str(outcome.key, "ab", "the first key");
	is_str(outcome.last_key, "abc", "the last key");
	is_int((long long) outcome.kv.value_length, 3, "a value with a NUL in it has its length");
	is_int(outcome.kv.mod_revision, INT64_MAX, "mod_revision");
	is_int(outcome.kv.create_revision, 3, "create_revision");
	is_int(outcome.kv.lease, 77, "lease");
	is_int(outcome.reply.revision, 5, "revision");
	is_int((long long) outcome.reply.raft_term, 2, "raft_term");
	ok(outcome.reply.cluster_id == UINT64_C(14655024145418835072), "cluster_id");
	is_str(outcome.endpoint, mock.url, "endpoint");
	elector_etcd_destroy(etcd);
	mock_stop(&mock);

	mock = mock_reply(200, "{\"result\":{" HEADER ",\"ID\":\"77\"}}\n");
	etcd = client_of(mock.url);
	ask(etcd, KEEPALIVE, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	ok(outcome.reply.status == OK && outcome.reply.ttl == 0, "keep-alive of a dead lease");
	elector_etcd_destroy(etcd);
	mock_stop(&mock);

	mock = mock_reply(200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"-1\",\"grantedTTL\":\"5\"}");
	etcd = client_of(mock.url);
	ask(etcd, TIMETOLIVE, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	ok(outcome.reply.status == OK && outcome.reply.ttl == 1 && outcome.reply.last_second,
	   "an expired lease that is not yet revoked is alive, for the last second");
	elector_etcd_destroy(etcd);
	mock_stop(&mock);
}

/* A range of n keys, and one value of the given size. */
static char *
large_reply(int nkeys, size_t value)
{
	char	   *text = malloc(1024 + (size_t) nkeys * 32 + value);
	char	   *p = text;

	p += sprintf(p, "{" HEADER ",\"succeeded\":true,\"responses\":[{\"response_range\":{\"kvs\":["
				 "{\"key\":\"YQ==\",\"value\":\"");
	memset(p, 'A', value);
	p += value;
	p += sprintf(p, "\"}");
	for (int i = 1; i < nkeys; i++)
		p += sprintf(p, ",{\"key\":\"YQ==\"}");
	sprintf(p, "]}}]}");
	return text;
}

static void
test_bounds(void)
{
	static const struct
	{
		int			nkeys;
		size_t		value;
		ElectorEtcdStatus status;
	}			replies[] = {
		{ELECTOR_ETCD_KVS_MAX, 4, OK},
		{ELECTOR_ETCD_KVS_MAX + 1, 4, UNKNOWN},
		{1, ELECTOR_ETCD_REPLY_MAX - 1024, OK},
		{1, ELECTOR_ETCD_REPLY_MAX, UNKNOWN}
	};
	static const Manner manners[] = {ENDLESS, ENDLESS_HEADER};

	for (size_t i = 0; i < sizeof(replies) / sizeof(replies[0]); i++)
	{
		char	   *reply = large_reply(replies[i].nkeys, replies[i].value);
		Mock		mock = mock_reply(200, reply);
		ElectorEtcd *etcd = client_of(mock.url);
		Outcome		outcome;

		ask(etcd, RANGE, ENOUGH, &outcome);
		wait_for(etcd, &outcome, 1);
		is_int(outcome.reply.status, replies[i].status, "%d keys, a value of %zu bytes: %s",
			   replies[i].nkeys, replies[i].value, outcome.error);
		if (replies[i].status == OK)
			is_int((long long) outcome.kv.value_length, (long long) replies[i].value / 4 * 3,
				   "the value's length");
		elector_etcd_destroy(etcd);
		mock_stop(&mock);
		free(reply);
	}

	for (int i = 0; i < 4; i++)
	{
		Mock		mock = mock_manner(manners[i % 2]);
		ElectorEtcd *etcd = client_of(mock.url);
		Outcome		outcome;

		ask(etcd, i < 2 ? GRANT : WATCH, ENOUGH, &outcome);
		wait_for(etcd, &outcome, 1);
		ok(outcome.reply.status == UNKNOWN && strstr(outcome.error, "too large"),
		   "an endless %s is cut off: %s", i % 2 ? "header" : "body", outcome.error);
		elector_etcd_destroy(etcd);
		mock_stop(&mock);
	}
}

/* ----------
 * Endpoints
 * ----------
 */

static void
test_endpoint_lists(void)
{
	static const struct
	{
		const char *list;
		bool		valid;
	}			lists[] = {
		{"http://127.0.0.1:2379", true},
		{"https://a.example", true},
		{" http://a:1 , http://b:2/ ,\thttps://[::1]:3/prefix", true},
		{"", false},
		{",", false},
		{"http://a,", false},
		{"127.0.0.1:2379", false},
		{"ftp://a", false},
		{"file:///etc/passwd", false},
		{"http://", false},
		{"http://a:99999", false},
		{"http://a:b", false},
		{"http://user:secret@a", false},
		{"http://a?x", false},
		{"http://a#x", false},
		{"http://a b", false},
		{"http://a\nb", false},
		{"http://a\xc3\xbc", false},
	};
	ElectorEtcdSettings settings = {.endpoints = NULL};
	const char *error;
	char		many[ELECTOR_ETCD_ENDPOINTS_MAX * 16 + 16] = "http://a";
	char		long_name[400] = "http://";

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
	{
		bool		valid = elector_etcd_endpoints_valid(lists[i].list, &error);

		ok(valid == lists[i].valid && valid == (error == NULL), "endpoints %zu: %s", i,
		   valid ? "valid" : error);
	}
	for (int i = 1; i < ELECTOR_ETCD_ENDPOINTS_MAX; i++)
		strcat(many, ",http://a");
	ok(elector_etcd_endpoints_valid(many, &error), "as many endpoints as possible");
	strcat(many, ",http://a");
	ok(!elector_etcd_endpoints_valid(many, &error), "one more");
	memset(long_name + 7, 'a', 300);
	ok(!elector_etcd_endpoints_valid(long_name, NULL), "one that is too long");
	settings.endpoints = "x";
	ok(elector_etcd_create(&settings, &error) == NULL && error != NULL, "no client of a bad list");
}

static void
test_silence(void)
{
	static const Manner manners[] = {SILENT, DEAF};

	for (int i = 0; i < 4; i++)
	{
		Mock		mock = mock_manner(manners[i / 2]);
		ElectorEtcd *etcd = client_of(mock.url);
		Outcome		outcome;
		int64_t		start = now_us();
		int64_t		took;

		ask(etcd, i % 2 ? WATCH : KEEPALIVE, SECOND / 5, &outcome);
		ok(elector_etcd_timeout(etcd) <= SECOND / 5, "the bound shows in the timeout");
		wait_for(etcd, &outcome, 1);
		took = now_us() - start;
		ok(outcome.reply.status == UNKNOWN && strstr(outcome.error, "in time"),
		   "silence is unknown: %s", outcome.error);
		ok(took >= SECOND / 5 && took < SECOND, "within its bound: %" PRId64 " us", took);
		is_int(elector_etcd_timeout(etcd), -1, "nothing is left to wait for");
		elector_etcd_destroy(etcd);
		mock_stop(&mock);
	}
}

static void
test_failover(void)
{
	Mock		good = mock_reply(200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}");
	Mock		bad = mock_reply(503, "{\"error\":\"etcdserver: no leader\",\"code\":14}");
	char		list[256];
	char		refusing[64];
	ElectorEtcd *etcd;
	Outcome		outcomes[4];

	snprintf(refusing, sizeof(refusing), "http://127.0.0.1:%d", free_port());
	snprintf(list, sizeof(list), "%s, %s, %s", refusing, good.url, bad.url);
	etcd = client_of(list);
	is_str(elector_etcd_endpoint(etcd), refusing, "the first endpoint is first");
	for (int i = 0; i < 4; i++)
		ask(etcd, GRANT, ENOUGH, &outcomes[i]);
	for (int i = 0; i < 4; i++)
	{
		wait_for(etcd, &outcomes[i], 1);
		ok(outcomes[i].reply.status == UNKNOWN && strcmp(outcomes[i].endpoint, refusing) == 0,
		   "refused: %s", outcomes[i].error);
	}
	is_str(elector_etcd_endpoint(etcd), good.url, "four failures are one step on");
	ask(etcd, GRANT, ENOUGH, &outcomes[0]);
	wait_for(etcd, &outcomes[0], 1);
	is_int(outcomes[0].reply.status, OK, "the second endpoint answers");
	is_str(outcomes[0].endpoint, good.url, "and is named");
	elector_etcd_rotate(etcd);
	ask(etcd, REVOKE, ENOUGH, &outcomes[0]);
	wait_for(etcd, &outcomes[0], 1);
	is_int(outcomes[0].reply.status, UNKNOWN, "the third has no leader");
	is_str(elector_etcd_endpoint(etcd), good.url, "so that it goes on with one that has not failed lately");
	elector_etcd_destroy(etcd);
	mock_stop(&bad);
	mock_stop(&good);
}

/* Which answers speak against the endpoint that gave them. */
static void
test_rotation(void)
{
	static const struct
	{
		int			status;
		const char *body;
		bool		rotates;
	}			cases[] = {
		{200, "{" HEADER "}", false},
		{404, "{\"error\":\"lease not found\",\"code\":5}", false},
		{429, "{\"error\":\"database space exceeded\",\"code\":8}", false},
		{503, "{\"error\":\"leader changed\",\"code\":14}", true},
		{404, "Not Found", true},
		{200, "{}", true}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Mock		mock = mock_reply(cases[i].status, cases[i].body);
		char		list[128];
		ElectorEtcd *etcd;
		Outcome		outcome;

		snprintf(list, sizeof(list), "%s,http://127.0.0.1:1", mock.url);
		etcd = client_of(list);
		ask(etcd, REVOKE, ENOUGH, &outcome);
		wait_for(etcd, &outcome, 1);
		is_int(strcmp(elector_etcd_endpoint(etcd), mock.url) != 0, cases[i].rotates,
			   "%d %s %s", cases[i].status, cases[i].body, cases[i].rotates ? "rotates" : "stays");
		elector_etcd_destroy(etcd);
		mock_stop(&mock);
	}
}

/* What libcurl would do on its own. */
static void
test_no_repetition(void)
{
	Mock		mock = mock_manner(HANG_UP_SECOND);
	ElectorEtcd *etcd = client_of(mock.url);
	Outcome		outcome;

	ask(etcd, GRANT, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	is_int(outcome.reply.status, OK, "a first request");
	ask(etcd, GRANT, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	ok(outcome.reply.status == UNKNOWN, "a connection that breaks is unknown: %s", outcome.error);
	is_int(*mock.requests, 2, "and the request is not sent again");
	ask(etcd, GRANT, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	is_int(outcome.reply.status, OK, "the next one is fine");
	elector_etcd_destroy(etcd);
	mock_stop(&mock);
}

static void
test_connection_reuse(void)
{
	Mock		mock = mock_reply(200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}");
	ElectorEtcd *etcd = client_of(mock.url);
	int64_t		fds = 0;
	Outcome		outcome;

	for (int i = 0; i < 200; i++)
	{
		ask(etcd, GRANT, ENOUGH, &outcome);
		wait_for(etcd, &outcome, 1);
	}
	is_int(*mock.requests, 200, "200 requests");
	for (int fd = 3; fd < 256; fd++)
		fds += fcntl(fd, F_GETFD) >= 0;
	ok(fds < 16, "over a connection or two: %d descriptors", (int) fds);
	elector_etcd_destroy(etcd);
	mock_stop(&mock);
}

/* ----------
 * Watches
 * ----------
 */

#define CREATED "{\"result\":{" HEADER ",\"created\":true}}\n"
#define PUT_EVENT EVENT_OF("{\"kv\":{\"key\":\"YQ==\",\"value\":\"Yg==\",\"mod_revision\":\"5\"}}," \
	"{\"type\":\"DELETE\",\"kv\":{\"key\":\"YWI=\",\"mod_revision\":\"6\"}}")

static const Behaviour watch_stays = {CHUNKED_STAY, 200, CREATED};
static const Behaviour is_silent = {SILENT, 0, NULL};

static void
test_watch_pieces(void)
{
	Behaviour	pieces = {CHUNKED_BYTES, 200, CREATED "\n" PUT_EVENT PUT_EVENT};
	Mock		mock = mock_start(pieces, pieces);
	ElectorEtcd *etcd = client_of(mock.url);
	Outcome		outcome;

	ask(etcd, WATCH, ENOUGH, &outcome);
	ok(elector_etcd_watching(etcd), "watching");
	wait_for(etcd, &outcome, 1);
	ok(outcome.reply.status == OK && outcome.reply.nkvs == 0, "the watch is created");
	wait_for(etcd, &outcome, 2);
	is_int((long long) outcome.reply.nkvs, 2, "two events");
	ok(strcmp(outcome.key, "a") == 0 && strcmp(outcome.value, "b") == 0 && !outcome.kv.deleted,
	   "a put");
	is_str(outcome.last_key, "ab", "a deletion");
	wait_for(etcd, &outcome, 4);
	is_int(outcome.calls, 4, "a message, another, and the end");
	is_int((long long) outcome.total, 4, "four events in all");
	ok(outcome.reply.status == UNKNOWN, "the end is unknown: %s", outcome.error);
	ok(!elector_etcd_watching(etcd), "not watching");
	elector_etcd_destroy(etcd);
	mock_stop(&mock);
}

/* The bound is for its beginning. */
static void
test_watch_lasts(void)
{
	Mock		mock = mock_start(watch_stays, watch_stays);
	ElectorEtcd *etcd = client_of(mock.url);
	Outcome		outcome;

	ask(etcd, WATCH, SECOND / 5, &outcome);
	wait_for(etcd, &outcome, 1);
	pump_for(etcd, SECOND / 4);
	ok(elector_etcd_watching(etcd) && outcome.calls == 1, "a watch outlives its bound");
	is_int(elector_etcd_timeout(etcd), -1, "and nothing is left to time");
	elector_etcd_destroy(etcd);
	mock_stop(&mock);
}

static ElectorEtcd *replacing_etcd;
static Outcome replacing_outcome;

static void
replace_watch(void *arg, const ElectorEtcdReply *reply)
{
	record(arg, reply);
	ask(replacing_etcd, WATCH, ENOUGH, &replacing_outcome);
}

static void
test_watch_replaced(void)
{
	Behaviour	two = {CHUNKED_STAY, 200, CREATED PUT_EVENT};
	Mock		mock = mock_start(two, two);
	ElectorEtcd *etcd = client_of(mock.url);
	Outcome		first = {.calls = 0};
	Outcome		second;

	replacing_etcd = etcd;
	elector_etcd_watch(etcd, "a", NULL, 0, ENOUGH, replace_watch, &first);
	wait_for(etcd, &replacing_outcome, 2);
	is_int(first.calls, 1, "a watch replaced in its own callback is silent");
	is_int(replacing_outcome.calls, 2, "the one that replaced it goes on");

	elector_etcd_rotate(etcd);
	ok(!elector_etcd_watching(etcd), "rotating ends the watch");
	is_int(replacing_outcome.calls, 2, "outside of the pump nothing is called back");
	is_int(elector_etcd_timeout(etcd), 0, "but it wants to be pumped");
	ask(etcd, WATCH, ENOUGH, &second);
	wait_for(etcd, &second, 2);
	is_int(replacing_outcome.calls, 2, "a watch that ended and was replaced is silent, too");
	elector_etcd_rotate(etcd);
	wait_for(etcd, &second, 3);
	ok(second.reply.status == UNKNOWN, "otherwise the end is told: %s", second.error);
	elector_etcd_destroy(etcd);
	mock_stop(&mock);
}

/* One endpoint: "unavailable" leaves the watch alone, silence does not. */
static void
test_watch_single(void)
{
	static const struct
	{
		Behaviour	other;
		bool		survives;
	}			cases[] = {
		{{REPLY, 503, "{\"error\":\"etcdserver: no leader\",\"code\":14}"}, true},
		{{REPLY, 404, "{\"error\":\"lease not found\",\"code\":5}"}, true},
		{{SILENT, 0, NULL}, false},
		{{HANG_UP_SECOND, 200, ""}, true}
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Mock		mock = mock_start(cases[i].other, watch_stays);
		ElectorEtcd *etcd = client_of(mock.url);
		Outcome		watch;
		Outcome		other;

		ask(etcd, WATCH, ENOUGH, &watch);
		wait_for(etcd, &watch, 1);
		ask(etcd, REVOKE, SECOND / 5, &other);
		wait_for(etcd, &other, 1);
		pump_for(etcd, SECOND / 20);
		is_int(elector_etcd_watching(etcd), cases[i].survives, "case %zu: the watch %s", i,
			   cases[i].survives ? "survives" : "ends");
		is_int(watch.calls, cases[i].survives ? 1 : 2, "and its callback knows");
		elector_etcd_destroy(etcd);
		mock_stop(&mock);
	}
}

static void
test_watch_failover(void)
{
	Mock		first = mock_start(is_silent, watch_stays);
	Mock		second = mock_start(is_silent, watch_stays);
	char		list[256];
	ElectorEtcd *etcd;
	Outcome		watch;
	Outcome		early;
	Outcome		late;

	snprintf(list, sizeof(list), "%s,%s", first.url, second.url);
	etcd = client_of(list);
	ask(etcd, WATCH, ENOUGH, &watch);
	ask(etcd, GRANT, SECOND / 2, &late);
	ask(etcd, GRANT, SECOND / 10, &early);
	wait_for(etcd, &early, 1);
	wait_for(etcd, &watch, 2);
	is_int(watch.reply.status, UNKNOWN, "a watch ends with its endpoint");
	ask(etcd, WATCH, ENOUGH, &watch);
	wait_for(etcd, &watch, 1);
	is_str(watch.endpoint, second.url, "and begins at the next");
	wait_for(etcd, &late, 1);
	pump_for(etcd, SECOND / 20);
	ok(late.calls == 1 && elector_etcd_watching(etcd),
	   "a late failure of the endpoint before does not end it");
	is_str(elector_etcd_endpoint(etcd), second.url, "nor does it rotate");
	elector_etcd_destroy(etcd);
	mock_stop(&first);
	mock_stop(&second);
}

static void
test_destroy(void)
{
	Mock		mock = mock_start(is_silent, watch_stays);
	ElectorEtcd *etcd;
	Outcome		outcomes[3];

	for (int pumps = 0; pumps < 4; pumps++)
	{
		etcd = client_of(mock.url);
		ask(etcd, WATCH, ENOUGH, &outcomes[0]);
		ask(etcd, GRANT, ENOUGH, &outcomes[1]);
		ask(etcd, RANGE, ENOUGH, &outcomes[2]);
		for (int i = 0; i < pumps; i++)
			elector_etcd_pump(etcd);
		if (pumps == 3)
			elector_etcd_rotate(etcd);
		elector_etcd_destroy(etcd);
		ok(outcomes[1].calls == 0 && outcomes[2].calls == 0,
		   "destroyed after %d pumps, no callback", pumps);
	}
	elector_etcd_destroy(NULL);
	mock_stop(&mock);
}

static void
test_fork(void)
{
	Mock		mock = mock_reply(200, "{" HEADER ",\"ID\":\"77\",\"TTL\":\"5\"}");
	ElectorEtcd *etcd = client_of(mock.url);
	Outcome		outcome;
	int			status = -1;
	pid_t		pid;

	ask(etcd, GRANT, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	pid = fork();
	if (pid == 0)
	{
		ElectorEtcd *own = client_of(mock.url);

		ask(own, GRANT, ENOUGH, &outcome);
		wait_for(own, &outcome, 1);
		elector_etcd_destroy(own);
		_exit(outcome.reply.status == OK ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	is_int(status, 0, "a child process has a client of its own");
	ask(etcd, GRANT, ENOUGH, &outcome);
	wait_for(etcd, &outcome, 1);
	is_int(outcome.reply.status, OK, "its parent's goes on");
	elector_etcd_destroy(etcd);
	mock_stop(&mock);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	test_endpoint_lists();
	test_answers();
	test_values();
	test_bounds();
	test_silence();
	test_failover();
	test_rotation();
	test_no_repetition();
	test_connection_reuse();
	test_watch_pieces();
	test_watch_lasts();
	test_watch_replaced();
	test_watch_single();
	test_watch_failover();
	test_destroy();
	test_fork();
	return done_testing();
}
