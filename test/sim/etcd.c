/*
 * etcd.c
 *	  A simulated etcd: three members, one linearizable store, leases, watches.
 *
 * What was read or measured of etcd 3.4 and is imitated here: a lease is looked
 * at only every half second, but one that has run out cannot be renewed; when etcd changes its leader every lease begins
 * anew; a leader that is cut off from the others goes on acknowledging
 * keep-alives, and telling how long leases will live, for up to two election
 * timeouts; a request that waits for a leader may be carried out after the
 * client has given it up; a watch on a member without quorum is silent for a
 * while before it ends.
 *
 * The trap: a record in the store is never changed, since watchers and backups
 * point to it.
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define ELECTION_TIMEOUT SEC
#define LEASE_CHECK (500 * MS)
#define SHORTEST_TTL (2 * SEC)

/* etcd lets a request wait for so long for a leader. */
#define PATIENCE (5 * SEC)

typedef struct Request
{
	ElectorErrand errand;
	ElectorChange change;
	int64_t		token;			/* of the order that it carries out */
	bool		program;
	int			server;
	uint32_t	life;
	uint32_t	term;
	uint64_t	number;
	int			member;
	ElectorTime sent_at;
	int64_t		watch_revision;
} Request;

typedef struct Answer
{
	EtcdReply	reply;
	uint64_t	number;
	int			member;
} Answer;

/* Requests that have not had their outcome, by server. */
typedef struct Open
{
	uint64_t	number;			/* 0: none */
	int			member;
	ElectorTime sent_at;
} Open;

#define OPEN_MAX 64
static Open open_requests[SIM_SERVERS_MAX][OPEN_MAX];

/* When a member has last answered a server. */
static ElectorTime answered_at[SIM_SERVERS_MAX][SIM_ETCD_MEMBERS];

/* As errands.c and client.c have it. */
#define PATIENCE_PART 10
#define SILENCE 6

static void start_election(World *world);

/* --- the store --- */

static int
member_key(int node)
{
	return ELECTOR_KEY_HISTORY + node;
}

static int
alive_key(int node)
{
	return ELECTOR_KEY_HISTORY + SIM_NODES_MAX + node;
}

static int
store_key(ElectorKey key, int node)
{
	if (key == ELECTOR_KEY_MEMBER)
		return member_key(node);
	return key == ELECTOR_KEY_ALIVE ? alive_key(node) : (int) key;
}

const ElectorDurability *
etcd_durability(const World *world)
{
	const Kv   *kv = &world->etcd.kvs[ELECTOR_KEY_DURABILITY];

	return kv->present ? kv->value : NULL;
}

bool
etcd_paused(const World *world)
{
	const Kv   *kv = &world->etcd.kvs[ELECTOR_KEY_SETTINGS];

	return kv->present && ((const ElectorClusterSettings *) kv->value)->paused;
}

const ElectorTerm *
etcd_term(const World *world)
{
	const Kv   *kv = &world->etcd.kvs[ELECTOR_KEY_TERM];

	return kv->present ? kv->value : NULL;
}

const ElectorLeader *
etcd_leader(const World *world)
{
	const Kv   *kv = &world->etcd.kvs[ELECTOR_KEY_LEADER];

	return kv->present ? kv->value : NULL;
}

static SimLease *
find_lease(SimEtcd *etcd, int64_t id)
{
	for (int i = 0; i < SIM_LEASES_MAX; i++)
	{
		if (etcd->leases[i].id == id && id != 0)
			return &etcd->leases[i];
	}
	return NULL;
}

bool
etcd_has_lease(const World *world, int64_t lease)
{
	return find_lease((SimEtcd *) &world->etcd, lease) != NULL;
}

/* --- the mirror of a client --- */

static ElectorNode *
need_node(ElectorCluster *cluster, const char *name)
{
	ElectorNode *node = elector_cluster_node(cluster, name);

	if (node == NULL)
	{
		node = &cluster->nodes[cluster->nnodes++];
		memset(node, 0, sizeof(*node));
		strcpy(node->member.node, name);
		strcpy(node->alive.node, name);
	}
	return node;
}

static void
apply_node(World *world, ElectorCluster *cluster, int key, const Kv *kv)
{
	bool		alive = key >= alive_key(0);
	int			number = key - (alive ? alive_key(0) : member_key(0));
	ElectorNode *node;

	if (!kv->present && elector_cluster_node(cluster, world->names[number]) == NULL)
		return;
	node = need_node(cluster, world->names[number]);
	if (alive)
	{
		if (kv->present)
			node->alive = *(const ElectorAlive *) kv->value;
		node->alive.present = kv->present;
		node->alive.lease = kv->lease;
		node->alive.create_revision = kv->create;
	}
	else
	{
		if (kv->present)
			node->member = *(const ElectorMember *) kv->value;
		node->member.present = kv->present;
	}
}

static void
apply(World *world, ElectorCluster *cluster, int key, const Kv *kv)
{
	switch (key)
	{
		case ELECTOR_KEY_SYSTEM:
			cluster->system = kv->present ? *(const uint64_t *) kv->value : 0;
			break;
		case ELECTOR_KEY_LEADER:
			cluster->leader.present = false;
			if (kv->present)
			{
				cluster->leader = *(const ElectorLeader *) kv->value;
				cluster->leader.present = true;
				cluster->leader.lease = kv->lease;
				cluster->leader.create_revision = kv->create;
			}
			break;
		case ELECTOR_KEY_ELECTION:
			cluster->election.present = false;
			if (kv->present)
			{
				cluster->election = *(const ElectorElection *) kv->value;
				cluster->election.present = true;
				cluster->election.lease = kv->lease;
				cluster->election.create_revision = kv->create;
			}
			break;
		case ELECTOR_KEY_TERM:
			memset(&cluster->term, 0, sizeof(cluster->term));
			if (kv->present)
			{
				cluster->term = *(const ElectorTerm *) kv->value;
				cluster->term.present = true;
				cluster->term.mod_revision = kv->mod;
			}
			break;
		case ELECTOR_KEY_REQUEST:
			cluster->request.present = false;
			if (kv->present)
			{
				cluster->request = *(const ElectorRequest *) kv->value;
				cluster->request.present = true;
				cluster->request.mod_revision = kv->mod;
			}
			break;
		case ELECTOR_KEY_DURABILITY:
			memset(&cluster->durability, 0, sizeof(cluster->durability));
			if (kv->present)
			{
				cluster->durability = *(const ElectorDurability *) kv->value;
				cluster->durability.present = true;
				cluster->durability.mod_revision = kv->mod;
			}
			break;
		case ELECTOR_KEY_FAILSAFE:
			memset(&cluster->failsafe, 0, sizeof(cluster->failsafe));
			if (kv->present)
			{
				cluster->failsafe = *(const ElectorFailsafe *) kv->value;
				cluster->failsafe.present = true;
				cluster->failsafe.mod_revision = kv->mod;
			}
			break;
		case ELECTOR_KEY_SETTINGS:
			memset(&cluster->settings, 0, sizeof(cluster->settings));
			if (kv->present)
			{
				cluster->settings = *(const ElectorClusterSettings *) kv->value;
				cluster->settings.present = true;
				cluster->settings.mod_revision = kv->mod;
			}
			break;
		case ELECTOR_KEY_MEMBER:
		case ELECTOR_KEY_ALIVE:
			break;				/* no such keys; they have a node's name */
		default:
			apply_node(world, cluster, key, kv);
			break;
	}
}

void
etcd_fill_cluster(World *world, ElectorCluster *cluster, const Kv *kvs, int64_t revision)
{
	for (int key = 0; key < SIM_KEYS; key++)
		apply(world, cluster, key, &kvs[key]);
	cluster->revision = revision;
	cluster->etcd = world->etcd.incarnation;
	cluster->complete = true;
}

/* --- watches --- */

/* Is the member of use to anybody? */
static bool
serves(const SimEtcd *etcd, int member)
{
	return etcd->up[member] && !etcd->isolated[member];
}

static void
end_watch(Server *server)
{
	if (!server->watching)
		return;
	server->watching = false;
	if (server->running)
	{
		elector_watched(&server->elector, true);
		server_round_soon(server);
	}
}

static void
watch_ends(World *world, Server *server, void *payload, int64_t number)
{
	if ((uint64_t) number == server->watch)
		end_watch(server);
}

static void
watch_delivers(World *world, Server *server, void *payload, int64_t number)
{
	SimEtcd    *etcd = &world->etcd;
	int64_t		upto = *(int64_t *) payload;
	int			i = etcd->nlog;

	if ((uint64_t) number != server->watch || !server->watching)
		return;
	if (world->cut_from_etcd[server->index][server->watch_member] > 0)
	{
		/* TCP sends it again. */
		int64_t    *copy = malloc(sizeof(int64_t));

		*copy = upto;
		world_elector_later(server, world->now + 100 * MS, watch_delivers, copy, number);
		return;
	}
	if (server->watch_incarnation != etcd->incarnation)
	{
		end_watch(server);
		return;
	}
	while (i > 0 && etcd->log[i - 1].revision > server->cluster.revision)
		i--;
	for (; i < etcd->nlog && etcd->log[i].revision <= upto; i++)
	{
		apply(world, &server->cluster, etcd->log[i].key, &etcd->log[i].kv);
		server->cluster.revision = etcd->log[i].revision;
	}
	elector_watched(&server->elector, false);
	server_round_soon(server);
}

/* Tell a watcher of everything up to the present revision. */
static void
tell_watcher(World *world, Server *server)
{
	ElectorTime at = world->now + world_transit(world);
	int64_t    *upto;

	if (!server->watching || !serves(&world->etcd, server->watch_member))
		return;
	upto = malloc(sizeof(int64_t));
	*upto = world->etcd.revision;
	if (at <= server->watch_last)
		at = server->watch_last;
	server->watch_last = at;
	world_elector_later(server, at, watch_delivers, upto, (int64_t) server->watch);
}

void
etcd_watch(Server *server)
{
	World	   *world = server->world;

	server->watching = true;
	server->watch = ++world->next_number;
	server->watch_member = server->endpoint;
	server->watch_incarnation = world->etcd.incarnation;
	server->watch_last = world->now + 2 * world_transit(world);
	if (server->cluster.revision < world->etcd.compacted ||
		server->cluster.revision > world->etcd.revision ||
		!serves(&world->etcd, server->endpoint))
		world_elector_later(server, server->watch_last, watch_ends, NULL,
							(int64_t) server->watch);
	else
		tell_watcher(world, server);
}

/* --- writing --- */

static void
put_in_store(World *world, int key, Kv kv)
{
	SimEtcd    *etcd = &world->etcd;

	if (etcd->nlog == etcd->log_room)
	{
		etcd->log_room = etcd->log_room == 0 ? 256 : 2 * etcd->log_room;
		etcd->log = realloc(etcd->log, (size_t) etcd->log_room * sizeof(LogEntry));
	}
	etcd->kvs[key] = kv;
	etcd->log[etcd->nlog++] = (LogEntry) {etcd->revision, key, kv};
}

static void
tell_watchers(World *world)
{
	for (int i = 0; i < world->nservers; i++)
	{
		if (world->servers[i].running)
			tell_watcher(world, &world->servers[i]);
	}
}

static void
delete_key(World *world, int key)
{
	Kv			kv;

	memset(&kv, 0, sizeof(kv));
	kv.mod = world->etcd.revision;
	put_in_store(world, key, kv);
}

/* A lease ends, and its keys with it, at one revision. */
static void
end_lease(World *world, SimLease *lease)
{
	SimEtcd    *etcd = &world->etcd;
	int64_t		id = lease->id;
	bool		any = false;

	lease->id = 0;
	for (int key = 0; key < SIM_KEYS; key++)
	{
		if (!etcd->kvs[key].present || etcd->kvs[key].lease != id)
			continue;
		if (!any)
			etcd->revision++;
		any = true;
		delete_key(world, key);
	}
	if (any)
		tell_watchers(world);
}

static void
check_leases(World *world, Server *server, void *payload, int64_t number)
{
	SimEtcd    *etcd = &world->etcd;
	ElectorTime next = world->now + SHORTEST_TTL;	/* of one not granted yet */

	for (int i = 0; i < SIM_LEASES_MAX; i++)
	{
		SimLease   *lease = &etcd->leases[i];

		if (lease->id == 0)
			continue;
		if (lease->expires <= world->now && etcd->leader >= 0)
		{
			TRACE(world, NULL, "lease %lld has run out", (long long) lease->id);
			end_lease(world, lease);
		}
		else if (lease->expires < next)
			next = lease->expires;
	}

	/* On the next beat after the soonest end. */
	if (next < world->now + LEASE_CHECK)
		next = world->now + LEASE_CHECK;
	world_later(world, NULL, world->now + (next - world->now + LEASE_CHECK - 1) /
				LEASE_CHECK * LEASE_CHECK, check_leases, NULL, 0);
}

/* --- requests --- */

static const void *
change_value(World *world, const ElectorChange *change, ElectorKey key)
{
	const void *values[ELECTOR_KEYS] = {
		&change->system, &change->member, &change->alive, &change->leader,
		&change->election, &change->term, &change->request, &change->settings,
		&change->durability, &change->failsafe, &change->history
	};
	const size_t sizes[ELECTOR_KEYS] = {
		sizeof(change->system), sizeof(change->member), sizeof(change->alive),
		sizeof(change->leader), sizeof(change->election), sizeof(change->term),
		sizeof(change->request), sizeof(change->settings),
		sizeof(change->durability), sizeof(change->failsafe), sizeof(change->history)
	};
	void	   *copy = world_alloc(world, sizes[key]);

	memcpy(copy, values[key], sizes[key]);
	return copy;
}

static bool
holds(const SimEtcd *etcd, const ElectorChange *change, int node)
{
	for (int key = 0; key < ELECTOR_KEY_HISTORY; key++)
	{
		const ElectorKeyChange *one = &change->keys[key];
		const Kv   *kv = &etcd->kvs[store_key((ElectorKey) key, node)];

		if (one->if_created && (kv->present ? kv->create : 0) != one->revision)
			return false;
		if (one->if_modified && (kv->present ? kv->mod : 0) != one->revision)
			return false;
	}
	return true;
}

static void
commit(World *world, const Server *server, const Request *request,
	   ElectorErrandResult *result)
{
	SimEtcd    *etcd = &world->etcd;
	const ElectorChange *change = &request->change;
	const ElectorTerm *before = etcd_term(world);
	bool		any = false;

	result->succeeded = holds(etcd, change, server->node);
	if (!result->succeeded)
		return;
	for (int key = 0; key < ELECTOR_KEY_HISTORY; key++)
	{
		/* As etcd does: the whole transaction is refused. */
		if (change->keys[key].write == ELECTOR_WRITE_PUT && change->keys[key].lease != 0 &&
			find_lease(etcd, change->keys[key].lease) == NULL)
		{
			result->status = ELECTOR_ETCD_REFUSED;
			result->error = "requested lease not found";
			result->succeeded = false;
			return;
		}
	}
	if (request->errand.deed == ELECTOR_DEED_TAKE && !request->program)
		check_take(world, server, request->token, before, &change->term);
	if (request->errand.deed == ELECTOR_DEED_LOCK && !request->program)
	{
		world->counters.elections++;
		faults_moment(world, (Server *) server, MOMENT_LOCKED);
	}
	if (change->keys[ELECTOR_KEY_TERM].write == ELECTOR_WRITE_PUT && change->term.released)
		check_release(world, server, request->program, &change->term);
	if (change->keys[ELECTOR_KEY_LEADER].write == ELECTOR_WRITE_DELETE && request->program)
		check_key_deleted(world, server);
	if (request->errand.deed == ELECTOR_DEED_RULE)
		promises_rule(world, server, etcd_durability(world), &change->durability);
	if (request->errand.deed == ELECTOR_DEED_OPEN || request->errand.deed == ELECTOR_DEED_BEGIN)
		check_begun(world, server, &change->term);
	for (int key = 0; key < ELECTOR_KEY_HISTORY; key++)
	{
		const ElectorKeyChange *one = &change->keys[key];
		int			stored = store_key((ElectorKey) key, server->node);
		Kv			kv = etcd->kvs[stored];

		if (one->write == ELECTOR_WRITE_NONE ||
			(one->write == ELECTOR_WRITE_DELETE && !kv.present))
			continue;
		if (!any)
			etcd->revision++;
		any = true;
		if (one->write == ELECTOR_WRITE_DELETE)
		{
			delete_key(world, stored);
			continue;
		}
		kv.create = kv.present ? kv.create : etcd->revision;
		kv.present = true;
		kv.mod = etcd->revision;
		kv.lease = one->lease;
		kv.value = change_value(world, change, (ElectorKey) key);
		put_in_store(world, stored, kv);
	}
	if (any)
		tell_watchers(world);
}

static void
grant(World *world, const Request *request, ElectorErrandResult *result)
{
	SimEtcd    *etcd = &world->etcd;

	for (int i = 0; i < SIM_LEASES_MAX; i++)
	{
		SimLease   *lease = &etcd->leases[i];

		if (lease->id != 0)
			continue;
		lease->id = ++etcd->next_lease;
		lease->ttl = request->errand.ttl * SEC;
		lease->expires = world->now + lease->ttl;
		result->lease = lease->id;
		result->ttl = request->errand.ttl;
		return;
	}
	world_violation(world, "I7", "etcd is flooded with leases");
}

static void
tell_time_left(const SimLease *lease, ElectorTime left, ElectorErrandResult *result)
{
	if (lease == NULL)
		result->ttl = -1;
	else
	{
		result->ttl = left / SEC;
		if (left < SEC)
		{
			result->ttl = 1;
			result->last_second = true;
		}
	}
}

/* What the store as a whole does. */
static void
carry_out(World *world, Server *server, const Request *request, EtcdReply *reply)
{
	SimEtcd    *etcd = &world->etcd;
	ElectorErrandResult *result = &reply->result;
	SimLease   *lease = find_lease(etcd, request->errand.lease);
	const Kv   *kv = &etcd->kvs[ELECTOR_KEY_LEADER];

	switch (request->errand.kind)
	{
		case ELECTOR_ERRAND_LOAD:
			memcpy(reply->kvs, etcd->kvs, sizeof(reply->kvs));
			reply->incarnation = etcd->incarnation;
			break;
		case ELECTOR_ERRAND_WATCH:
			break;
		case ELECTOR_ERRAND_GRANT:
			grant(world, request, result);
			break;
		case ELECTOR_ERRAND_RENEW:
			result->ttl = lease != NULL ? lease->ttl / SEC : 0;
			if (lease != NULL)
				lease->expires = world->now + lease->ttl;
			break;
		case ELECTOR_ERRAND_CONFIRM:
		case ELECTOR_ERRAND_VERIFY:
			result->present = kv->present;
			result->create_revision = kv->create;
			result->key_lease = kv->lease;
			break;
		case ELECTOR_ERRAND_LOOK:
			tell_time_left(lease, lease != NULL ? lease->expires - world->now : 0, result);
			break;
		case ELECTOR_ERRAND_REVOKE:
			if (lease != NULL)
				end_lease(world, lease);
			break;
		case ELECTOR_ERRAND_COMMIT:
			commit(world, server, request, result);
			break;
	}
	result->revision = etcd->revision;
	result->raft_term = etcd->raft_term;
}

/* What a leader does that the others have already left. */
static bool
believe(World *world, const Request *request, EtcdReply *reply)
{
	SimEtcd    *etcd = &world->etcd;
	SimLease   *lease = NULL;

	for (int i = 0; i < SIM_LEASES_MAX; i++)
	{
		if (etcd->believed[i].id == request->errand.lease && request->errand.lease != 0)
			lease = &etcd->believed[i];
	}
	if (etcd->believer != request->member || world->now >= etcd->believes_until)
		return false;
	reply->result.raft_term = etcd->believer_term;
	switch (request->errand.kind)
	{
		case ELECTOR_ERRAND_RENEW:
			reply->result.ttl = lease != NULL ? lease->ttl / SEC : 0;
			if (lease != NULL)
				lease->expires = world->now + lease->ttl;
			return true;
		case ELECTOR_ERRAND_LOOK:
			tell_time_left(lease, lease != NULL ? lease->expires - world->now : 0,
						   &reply->result);
			return true;
		case ELECTOR_ERRAND_LOAD:
		case ELECTOR_ERRAND_WATCH:
		case ELECTOR_ERRAND_GRANT:
		case ELECTOR_ERRAND_CONFIRM:
		case ELECTOR_ERRAND_VERIFY:
		case ELECTOR_ERRAND_REVOKE:
		case ELECTOR_ERRAND_COMMIT:
			break;
	}
	return false;
}

/* --- requests: the way there and back --- */

static Open *
find_open(const Server *server, uint64_t number)
{
	for (int i = 0; i < OPEN_MAX; i++)
	{
		if (open_requests[server->index][i].number == number)
			return &open_requests[server->index][i];
	}
	return NULL;
}

static void
open_request(const Server *server, const Request *request)
{
	Open	   *open = find_open(server, 0);

	if (open == NULL)
		world_violation(server->world, "I7", "%s floods etcd", world_name(server));
	else
		*open = (Open)
		{
			request->number, request->member, request->sent_at
		};
}

/* Nobody is there any more to hear of any. */
void
etcd_forget(const Server *server)
{
	memset(open_requests[server->index], 0, sizeof(open_requests[server->index]));
	memset(answered_at[server->index], 0, sizeof(answered_at[server->index]));
}

/* --- which member a server asks: what the client does, without what it learns --- */

static ElectorTime
patience(const Server *server)
{
	return server->elector.settings.lease_ttl / PATIENCE_PART;
}

static void
leave_member(Server *server, int member)
{
	if (server->endpoint == member)
		server->endpoint = (server->endpoint + 1) % SIM_ETCD_MEMBERS;
}

/* Later requests go elsewhere. */
static void
patience_ends(World *world, Server *server, void *payload, int64_t number)
{
	Open	   *open = find_open(server, (uint64_t) number);

	if (open != NULL)
		leave_member(server, open->member);
}

/* Not a word since it was sent: so does the watch. */
static void
is_given_up(World *world, Server *server, void *payload, int64_t number)
{
	Open	   *open = find_open(server, (uint64_t) number);

	if (open == NULL || answered_at[server->index][open->member] >= open->sent_at)
		return;
	leave_member(server, open->member);
	if (server->watching && server->watch_member == open->member)
		end_watch(server);
}

/* The watch goes to where answers come from, and requests to where it is. */
static void
heard_from(World *world, Server *server, int member)
{
	answered_at[server->index][member] = world->now;
	if (!server->watching)
		return;
	if (server->watch_member == member)
	{
		server->endpoint = member;
		return;
	}
	for (int i = 0; i < OPEN_MAX; i++)
	{
		const Open *open = &open_requests[server->index][i];

		if (open->number != 0 && open->member == server->watch_member &&
			world->now >= open->sent_at + patience(server))
		{
			end_watch(server);
			return;
		}
	}
}

/* The outcome reaches who asked. */
static void
deliver(World *world, Server *server, Answer *answer)
{
	EtcdReply  *reply = &answer->reply;

	find_open(server, answer->number)->number = 0;
	if (reply->result.status == ELECTOR_ETCD_UNKNOWN)
	{
		/* Later requests go elsewhere, and the watch ends. */
		leave_member(server, answer->member);
		if (!reply->program && server->watching && server->watch_member == answer->member)
			end_watch(server);
	}
	else if (!reply->program)
		heard_from(world, server, answer->member);
	if (reply->program)
	{
		server_program_answered(server, reply);
		return;
	}
	if (reply->errand.kind == ELECTOR_ERRAND_LOAD &&
		reply->result.status == ELECTOR_ETCD_OK)
	{
		memset(&server->cluster, 0, offsetof(ElectorCluster, nodes));
		etcd_fill_cluster(world, &server->cluster, reply->kvs, reply->result.revision);
	}
	elector_heard(&server->elector, &reply->errand, &reply->result);
	server_settle(server);
	server_round_soon(server);
}

static void
answer_arrives(World *world, Server *server, void *payload, int64_t number)
{
	Answer	   *answer = payload;

	if (find_open(server, answer->number) != NULL)
		deliver(world, server, answer);
}

/* Nobody has answered in time, or nobody was there. */
static void
request_fails(World *world, Server *server, void *payload, int64_t number)
{
	Answer	   *answer = payload;

	if (find_open(server, answer->number) == NULL)
		return;
	answer->reply.result.status = ELECTOR_ETCD_UNKNOWN;
	answer->reply.result.error = "no answer";
	deliver(world, server, answer);
}

static void
send_answer(World *world, Server *server, const Request *request, const EtcdReply *reply)
{
	Answer	   *answer;
	ElectorTime at;

	if (world->cut_from_etcd[server->index][request->member] > 0 || world_lost(world) ||
		server->life != request->life)
		return;
	answer = malloc(sizeof(Answer));
	answer->reply = *reply;
	answer->number = request->number;
	answer->member = request->member;
	at = world->now + world_transit(world);
	if (world->now < world->etcd_slow_until)
		at += chance_between(&world->chance, 0, server->elector.settings.lease_ttl / 2);
	if (request->program)
		world_later(world, server, at, answer_arrives, answer, 0);
	else if (server->elector_life == request->term)
		world_elector_later(server, at, answer_arrives, answer, 0);
	else
		free(answer);
}

static bool
is_write(const ElectorErrand *errand)
{
	return errand->kind == ELECTOR_ERRAND_GRANT || errand->kind == ELECTOR_ERRAND_REVOKE ||
		errand->kind == ELECTOR_ERRAND_COMMIT;
}

static void request_arrives(World *world, Server *none, void *payload, int64_t number);

/* The store gets to it. */
static void
request_executes(World *world, Server *none, void *payload, int64_t number)
{
	Request    *request = payload;
	Server	   *server = &world->servers[request->server];
	EtcdReply	reply;

	memset(&reply, 0, offsetof(EtcdReply, kvs));
	reply.errand = request->errand;
	reply.program = request->program;
	reply.result.error = "";
	reply.result.endpoint = "";
	if (serves(&world->etcd, request->member) && world->etcd.leader >= 0 &&
		request->errand.kind == ELECTOR_ERRAND_RENEW &&
		find_lease(&world->etcd, request->errand.lease) != NULL &&
		find_lease(&world->etcd, request->errand.lease)->expires <= world->now)
	{
		/* What has run out is not renewed; the answer comes when it is gone. */
		Request    *copy = malloc(sizeof(Request));

		*copy = *request;
		world_later(world, NULL, world->now + 50 * MS, request_executes, copy, 0);
		return;
	}
	if (!serves(&world->etcd, request->member) || world->etcd.leader < 0)
	{
		if (!world->etcd.up[request->member])
			return;
		if (!believe(world, request, &reply))
		{
			/* It may wait for a leader, longer than its client waits. */
			if (world->now < request->sent_at + PATIENCE && !world->etcd.isolated[request->member])
			{
				Request    *copy = malloc(sizeof(Request));

				*copy = *request;
				world_later(world, NULL, world->now + chance_between(&world->chance, 100, 600) * MS,
							request_executes, copy, 0);
			}
			return;
		}
	}
	else
		carry_out(world, server, request, &reply);
	send_answer(world, server, request, &reply);
}

static void
request_arrives(World *world, Server *none, void *payload, int64_t number)
{
	Request    *request = payload;
	Request    *copy;

	if (!world->etcd.up[request->member])
		return;
	if (!is_write(&request->errand))
	{
		request_executes(world, NULL, payload, 0);
		return;
	}
	copy = malloc(sizeof(Request));
	*copy = *request;
	world_later(world, NULL, world->now + chance_between(&world->chance, 500, 4000),
				request_executes, copy, 0);
}

void
etcd_run(Server *server, const ElectorErrand *errand, bool program)
{
	World	   *world = server->world;
	ElectorTime now = world->now + server->stall;
	Request    *request;
	Answer	   *failure;
	ElectorTime fails_at = now + errand->bound;
	int			member = server->endpoint;

	if (errand->kind == ELECTOR_ERRAND_WATCH)
	{
		etcd_watch(server);
		return;
	}
	request = malloc(sizeof(Request));
	memset(request, 0, offsetof(Request, change));
	request->errand = *errand;
	if (errand->change != NULL)
		request->change = *errand->change;
	request->errand.change = NULL;
	request->token = server->elector.order.token;
	request->program = program;
	request->server = server->index;
	request->life = server->life;
	request->term = server->elector_life;
	request->number = ++world->next_number;
	request->member = member;
	request->sent_at = now;
	open_request(server, request);

	failure = malloc(sizeof(Answer));
	memset(failure, 0, sizeof(Answer));
	failure->reply.errand = request->errand;
	failure->reply.program = program;
	failure->reply.result.endpoint = "";
	failure->number = request->number;
	failure->member = member;
	if (!world->etcd.up[member] && world->cut_to_etcd[server->index][member] == 0)
		fails_at = now + world_transit(world);	/* refused */
	if (errand->kind == ELECTOR_ERRAND_COMMIT &&
		(errand->deed == ELECTOR_DEED_FAILSAFE || errand->deed == ELECTOR_DEED_RULE))
		faults_moment(world, server, MOMENT_RECORDING);
	if (program)
		world_later(world, server, fails_at, request_fails, failure, 0);
	else
	{
		world_elector_later(server, now + patience(server), patience_ends, NULL,
							(int64_t) request->number);
		world_elector_later(server, now + SILENCE * patience(server), is_given_up, NULL,
							(int64_t) request->number);
		world_elector_later(server, fails_at, request_fails, failure, 0);
	}

	if (world->cut_to_etcd[server->index][member] > 0 || world_lost(world))
		free(request);
	else
		world_later(world, NULL, now + world_transit(world), request_arrives, request, 0);
}

/* --- its own life --- */

void
etcd_begin(World *world)
{
	SimEtcd    *etcd = &world->etcd;

	memset(open_requests, 0, sizeof(open_requests));
	memset(answered_at, 0, sizeof(answered_at));
	etcd->revision = 1;
	etcd->raft_term = 1;
	etcd->incarnation = 1;
	etcd->leader = (int) chance_between(&world->chance, 0, SIM_ETCD_MEMBERS - 1);
	etcd->believer = -1;
	for (int i = 0; i < SIM_ETCD_MEMBERS; i++)
		etcd->up[i] = true;
	world_later(world, NULL, chance_between(&world->chance, 0, 500) * MS, check_leases, NULL, 0);
}

static int
healthy(const SimEtcd *etcd)
{
	int			count = 0;

	for (int i = 0; i < SIM_ETCD_MEMBERS; i++)
		count += serves(etcd, i);
	return count;
}

static void
win_election(World *world, Server *server, void *payload, int64_t number)
{
	SimEtcd    *etcd = &world->etcd;

	if ((uint64_t) number != etcd->election || etcd->leader >= 0)
		return;
	if (healthy(etcd) < 2)
		return;					/* start_election() when there are enough */
	do
		etcd->leader = (int) chance_between(&world->chance, 0, SIM_ETCD_MEMBERS - 1);
	while (!serves(etcd, etcd->leader));
	etcd->raft_term++;
	for (int i = 0; i < SIM_LEASES_MAX; i++)
		etcd->leases[i].expires = world->now + etcd->leases[i].ttl;
	TRACE(world, NULL, "etcd: e%d is its leader, raft term %llu", etcd->leader + 1,
		  (unsigned long long) etcd->raft_term);
}

static void
start_election(World *world)
{
	SimEtcd    *etcd = &world->etcd;

	etcd->leader = -1;
	etcd->election = ++world->next_number;
	world_later(world, NULL, world->now +
				chance_between(&world->chance, ELECTION_TIMEOUT, 2 * ELECTION_TIMEOUT),
				win_election, NULL, (int64_t) etcd->election);
}

/* The members have changed: is there still, or again, a quorum? */
static void
reconsider(World *world)
{
	SimEtcd    *etcd = &world->etcd;

	if (etcd->leader >= 0 && (!serves(etcd, etcd->leader) || healthy(etcd) < 2))
		start_election(world);
	else if (etcd->leader < 0 && healthy(etcd) >= 2)
		start_election(world);
}

/* Watches on the member end, now or when it has noticed. */
static void
break_watches(World *world, int member, ElectorTime low, ElectorTime high)
{
	for (int i = 0; i < world->nservers; i++)
	{
		Server	   *server = &world->servers[i];

		if (server->running && server->watching && server->watch_member == member)
			world_elector_later(server, world->now + chance_between(&world->chance, low, high),
								watch_ends, NULL, (int64_t) server->watch);
	}
}

void
etcd_stop_member(World *world, int member)
{
	world->etcd.up[member] = false;
	if (world->etcd.believer == member)
		world->etcd.believer = -1;
	break_watches(world, member, MS, 5 * MS);
	reconsider(world);
}

void
etcd_start_member(World *world, int member)
{
	world->etcd.up[member] = true;
	reconsider(world);
}

/* Its leader hands over to this member, as etcdctl move-leader does. */
void
etcd_move_leader(World *world, int member)
{
	SimEtcd    *etcd = &world->etcd;

	if (etcd->leader < 0 || etcd->leader == member || !serves(etcd, member))
		return;
	etcd->leader = member;
	etcd->raft_term++;
	for (int i = 0; i < SIM_LEASES_MAX; i++)
		etcd->leases[i].expires = world->now + etcd->leases[i].ttl;
}

void
etcd_isolate(World *world, int member)
{
	SimEtcd    *etcd = &world->etcd;

	etcd->isolated[member] = true;
	if (etcd->leader == member)
	{
		etcd->believer = member;
		etcd->believer_term = etcd->raft_term;
		etcd->believes_until = world->now +
			chance_between(&world->chance, ELECTION_TIMEOUT, 2 * ELECTION_TIMEOUT);
		memcpy(etcd->believed, etcd->leases, sizeof(etcd->believed));
	}
	break_watches(world, member, SEC, 3 * SEC);
	reconsider(world);
}

void
etcd_rejoin(World *world, int member)
{
	world->etcd.isolated[member] = false;
	if (world->etcd.believer == member)
		world->etcd.believer = -1;
	reconsider(world);
}

void
etcd_back_up(World *world)
{
	Backup	   *backup = &world->etcd.backup;

	backup->present = true;
	backup->revision = world->etcd.revision;
	memcpy(backup->kvs, world->etcd.kvs, sizeof(backup->kvs));
	memcpy(backup->leases, world->etcd.leases, sizeof(backup->leases));
}

/*
 * Everything since the backup is forgotten; leases begin anew.  An etcd that
 * knows of no leadership at all is left to the operator (S15).
 */
void
etcd_restore(World *world)
{
	SimEtcd    *etcd = &world->etcd;

	if (!etcd->backup.present || !etcd->backup.kvs[ELECTOR_KEY_TERM].present)
		return;
	etcd->revision = etcd->backup.revision;
	memcpy(etcd->kvs, etcd->backup.kvs, sizeof(etcd->kvs));
	memcpy(etcd->leases, etcd->backup.leases, sizeof(etcd->leases));
	for (int i = 0; i < SIM_LEASES_MAX; i++)
		etcd->leases[i].expires = world->now + etcd->leases[i].ttl;
	etcd->nlog = 0;
	etcd->compacted = etcd->revision;
	etcd->incarnation++;
	etcd->raft_term++;
	world->restored = true;
	for (int i = 0; i < SIM_ETCD_MEMBERS; i++)
		break_watches(world, i, MS, 5 * MS);
}

void
etcd_compact(World *world)
{
	SimEtcd    *etcd = &world->etcd;

	etcd->compacted = etcd->revision;
}

/* An operator's etcdctl del (S9). */
void
etcd_delete_leader(World *world)
{
	if (!world->etcd.kvs[ELECTOR_KEY_LEADER].present)
		return;
	world->etcd.revision++;
	delete_key(world, ELECTOR_KEY_LEADER);
	tell_watchers(world);
}
