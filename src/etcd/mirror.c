/*
 * mirror.c
 *	  A copy of a cluster's keys in etcd, kept current from a watch.
 *
 * One transaction reads everything at one revision, one watch brings every
 * later change, so the mirror is always some past state of etcd, never a mix.
 *
 * What is in etcd is not trusted to be ours.  A value that cannot be read leaves
 * what was there before in place and is reported in `unreadable`; for `leader`
 * and `election` the key's being there is itself the message, so an unreadable
 * one still counts as present, with nobody's name.
 *
 * The trap: absence must be learnt from a load, too.  So a load marks what it
 * has seen and then forgets the rest.
 */
#include "mirror.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/name.h"
#include "json.h"

/* Which single keys a load has seen. */
typedef struct Seen
{
	bool		system;
	bool		leader;
	bool		election;
	bool		term;
	bool		request;
	bool		settings;
	bool		durability;
	bool		failsafe;
} Seen;

void
elector_keys_init(ElectorKeys *keys, const char *cluster, const char *node)
{
	const char *format = "/pg_elector/%s/%s%s";

#define KEY(member, name, suffix) \
	snprintf(keys->member, sizeof(keys->member), format, cluster, name, suffix)

	KEY(prefix, "", "");
	snprintf(keys->end, sizeof(keys->end), "/pg_elector/%s0", cluster); /* '0' is '/' + 1 */
	KEY(system, "system", "");
	KEY(member, "members/", node);
	KEY(alive, "alive/", node);
	KEY(leader, "leader", "");
	KEY(election, "election", "");
	KEY(term, "term", "");
	KEY(request, "request", "");
	KEY(settings, "settings", "");
	KEY(durability, "durability", "");
	KEY(failsafe, "failsafe", "");
	KEY(history, "history/", "");
	KEY(history_end, "history0", "");
#undef KEY
}

void
elector_keys_history(const ElectorKeys *keys, uint64_t term, char *key, size_t size)
{
	/* Padded, so that etcd's order is the order of terms. */
	snprintf(key, size, "%s%020" PRIu64, keys->history, term);
}

void
elector_mirror_init(ElectorMirror *mirror, const char *cluster, const char *node)
{
	memset(mirror, 0, sizeof(*mirror));
	elector_keys_init(&mirror->keys, cluster, node);
}

ElectorTxn *
elector_mirror_read(const ElectorMirror *mirror)
{
	ElectorTxn *txn = elector_txn_create();

	if (txn == NULL)
		return NULL;
	elector_txn_range(txn, mirror->keys.prefix, mirror->keys.history, 0, false);
	elector_txn_range(txn, mirror->keys.history_end, mirror->keys.end, 0, false);
	elector_txn_range(txn, mirror->keys.history, mirror->keys.history_end,
					  ELECTOR_HISTORY_MAX, true);
	return txn;
}

/* The node's entry, made if need be; NULL if there are too many. */
static ElectorNode *
need_node(ElectorMirror *mirror, const char *name)
{
	ElectorNode *node = elector_cluster_node(&mirror->cluster, name);

	if (node == NULL && mirror->cluster.nnodes < ELECTOR_MEMBERS_MAX)
	{
		node = &mirror->cluster.nodes[mirror->cluster.nnodes++];
		memset(node, 0, sizeof(*node));
		snprintf(node->member.node, sizeof(node->member.node), "%s", name);
		snprintf(node->alive.node, sizeof(node->alive.node), "%s", name);
	}
	return node;
}

static bool
apply_member(ElectorMirror *mirror, const char *name, const ElectorEtcdKv *kv)
{
	ElectorNode *node;
	ElectorMember member;

	if (!elector_name_valid(name))
		return false;
	if (kv->deleted)
	{
		node = elector_cluster_node(&mirror->cluster, name);
		if (node != NULL)
			node->member.present = false;
		return true;
	}
	if (!elector_member_from_json(kv->value, &member) ||
		(node = need_node(mirror, name)) == NULL)
		return false;
	node->member = member;
	node->member.present = true;
	snprintf(node->member.node, sizeof(node->member.node), "%s", name);
	return true;
}

static bool
apply_alive(ElectorMirror *mirror, const char *name, const ElectorEtcdKv *kv)
{
	ElectorNode *node;
	ElectorAlive alive;

	if (!elector_name_valid(name))
		return false;
	if (kv->deleted)
	{
		node = elector_cluster_node(&mirror->cluster, name);
		if (node != NULL)
			node->alive.present = false;
		return true;
	}
	if (!elector_alive_from_json(kv->value, &alive) ||
		(node = need_node(mirror, name)) == NULL)
		return false;
	node->alive = alive;
	node->alive.present = true;
	node->alive.lease = kv->lease;
	node->alive.create_revision = kv->create_revision;
	snprintf(node->alive.node, sizeof(node->alive.node), "%s", name);
	return true;
}

static bool
apply_leader(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	ElectorLeader leader;
	bool		readable = true;

	memset(&leader, 0, sizeof(leader));
	if (!kv->deleted)
	{
		readable = elector_leader_from_json(kv->value, &leader);

		/* Overwritten by a stranger, it is still the key its owner created. */
		if (!readable && mirror->cluster.leader.create_revision == kv->create_revision)
			leader = mirror->cluster.leader;
		leader.present = true;
		leader.lease = kv->lease;
		leader.create_revision = kv->create_revision;
	}
	mirror->cluster.leader = leader;
	return readable;
}

static bool
apply_election(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	ElectorElection election;
	bool		readable = true;

	memset(&election, 0, sizeof(election));
	if (!kv->deleted)
	{
		readable = elector_election_from_json(kv->value, &election);
		if (!readable && mirror->cluster.election.create_revision == kv->create_revision)
			election = mirror->cluster.election;
		election.present = true;
		election.lease = kv->lease;
		election.create_revision = kv->create_revision;
	}
	mirror->cluster.election = election;
	return readable;
}

static bool
apply_term(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	ElectorTerm term;

	memset(&term, 0, sizeof(term));
	if (!kv->deleted)
	{
		if (!elector_term_from_json(kv->value, &term))
			return false;
		term.present = true;
		term.mod_revision = kv->mod_revision;
	}
	mirror->cluster.term = term;
	return true;
}

static bool
apply_request(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	ElectorRequest request;

	memset(&request, 0, sizeof(request));
	if (!kv->deleted)
	{
		if (!elector_request_from_json(kv->value, &request))
			return false;
		request.present = true;
		request.mod_revision = kv->mod_revision;
	}
	mirror->cluster.request = request;
	return true;
}

static bool
apply_settings(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	ElectorClusterSettings settings;

	memset(&settings, 0, sizeof(settings));
	if (!kv->deleted)
	{
		if (!elector_settings_from_json(kv->value, &settings))
			return false;
		settings.mod_revision = kv->mod_revision;
	}
	mirror->cluster.settings = settings;
	return true;
}

static bool
apply_durability(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	ElectorDurability durability;

	memset(&durability, 0, sizeof(durability));
	if (!kv->deleted)
	{
		if (!elector_durability_from_json(kv->value, &durability))
			return false;
		durability.mod_revision = kv->mod_revision;
	}
	mirror->cluster.durability = durability;
	return true;
}

static bool
apply_failsafe(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	ElectorFailsafe failsafe;

	memset(&failsafe, 0, sizeof(failsafe));
	if (!kv->deleted)
	{
		if (!elector_failsafe_from_json(kv->value, &failsafe))
			return false;
		failsafe.mod_revision = kv->mod_revision;
	}
	mirror->cluster.failsafe = failsafe;
	return true;
}

static bool
apply_system(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	uint64_t	system = 0;
	char		behind;

	if (!kv->deleted &&
		(kv->value_length == 0 || kv->value_length > 20 ||
		 strspn(kv->value, "0123456789") != kv->value_length ||
		 sscanf(kv->value, "%" SCNu64 "%c", &system, &behind) != 1 ||
		 system == 0))
		return false;
	mirror->cluster.system = system;
	return true;
}

/* Entries are kept sorted by term, the newest last, the oldest dropped. */
static bool
enter_history(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	ElectorHistory *all = mirror->history;
	ElectorHistory entry;
	int			i;

	if (kv->deleted)
		return true;			/* what has happened has happened */
	if (!elector_history_from_json(kv->value, &entry))
		return false;
	entry.present = true;
	for (i = mirror->nhistory; i > 0 && all[i - 1].term > entry.term; i--)
		;
	if (i > 0 && all[i - 1].term == entry.term)
	{
		all[i - 1] = entry;
		return true;
	}
	if (mirror->nhistory == ELECTOR_HISTORY_MAX)
	{
		if (i == 0)
			return true;
		memmove(&all[0], &all[1], (size_t) (i - 1) * sizeof(*all));
		all[i - 1] = entry;
		return true;
	}
	memmove(&all[i + 1], &all[i], (size_t) (mirror->nhistory - i) * sizeof(*all));
	all[i] = entry;
	mirror->nhistory++;
	return true;
}

static bool
apply_history(ElectorMirror *mirror, const ElectorEtcdKv *kv)
{
	bool		readable = enter_history(mirror, kv);

	if (mirror->nhistory > 0)
		mirror->cluster.history = mirror->history[mirror->nhistory - 1];
	return readable;
}

/* Take one key in; false if its value is none of ours. */
static bool
apply_kv(ElectorMirror *mirror, const ElectorEtcdKv *kv, Seen *seen)
{
	const ElectorKeys *keys = &mirror->keys;
	size_t		prefix_length = strlen(keys->prefix);
	const char *name;

	if (strncmp(kv->key, keys->prefix, prefix_length) != 0)
		return true;
	name = kv->key + prefix_length;
	if (strcmp(name, "system") == 0)
	{
		seen->system = true;
		return apply_system(mirror, kv);
	}
	if (strcmp(name, "leader") == 0)
	{
		seen->leader = true;
		return apply_leader(mirror, kv);
	}
	if (strcmp(name, "election") == 0)
	{
		seen->election = true;
		return apply_election(mirror, kv);
	}
	if (strcmp(name, "term") == 0)
	{
		seen->term = true;
		return apply_term(mirror, kv);
	}
	if (strcmp(name, "request") == 0)
	{
		seen->request = true;
		return apply_request(mirror, kv);
	}
	if (strcmp(name, "durability") == 0)
	{
		seen->durability = true;
		return apply_durability(mirror, kv);
	}
	if (strcmp(name, "failsafe") == 0)
	{
		seen->failsafe = true;
		return apply_failsafe(mirror, kv);
	}
	if (strcmp(name, "settings") == 0)
	{
		seen->settings = true;
		return apply_settings(mirror, kv);
	}
	if (strncmp(name, "history/", 8) == 0)
		return apply_history(mirror, kv);
	if (strncmp(name, "members/", 8) == 0)
		return apply_member(mirror, name + 8, kv);
	if (strncmp(name, "alive/", 6) == 0)
		return apply_alive(mirror, name + 6, kv);
	return true;				/* of a newer version, or a stranger's */
}

static void
apply_all(ElectorMirror *mirror, const ElectorEtcdReply *reply, Seen *seen)
{
	for (size_t i = 0; i < reply->nkvs; i++)
	{
		if (!apply_kv(mirror, &reply->kvs[i], seen))
			snprintf(mirror->unreadable, sizeof(mirror->unreadable), "%s",
					 reply->kvs[i].key);
	}
	mirror->changes++;
}

/* Drop the entries of nodes of which nothing is left. */
static void
forget_nodes(ElectorMirror *mirror)
{
	int			kept = 0;

	for (int i = 0; i < mirror->cluster.nnodes; i++)
	{
		if (mirror->cluster.nodes[i].member.present || mirror->cluster.nodes[i].alive.present)
		{
			if (kept != i)
				mirror->cluster.nodes[kept] = mirror->cluster.nodes[i];
			kept++;
		}
	}
	mirror->cluster.nnodes = kept;
}

/* Does the reply hold this key?  Its value may be unreadable. */
static bool
reply_has(const ElectorEtcdReply *reply, const char *prefix, const char *kind,
		  const char *node)
{
	char		key[ELECTOR_KEY_SIZE];

	snprintf(key, sizeof(key), "%s%s%s", prefix, kind, node);
	for (size_t i = 0; i < reply->nkvs; i++)
	{
		if (strcmp(reply->kvs[i].key, key) == 0)
			return true;
	}
	return false;
}

void
elector_mirror_load(ElectorMirror *mirror, const ElectorEtcdReply *reply)
{
	Seen		seen;

	memset(&seen, 0, sizeof(seen));
	apply_all(mirror, reply, &seen);
	if (!seen.system)
		mirror->cluster.system = 0;
	if (!seen.leader)
		memset(&mirror->cluster.leader, 0, sizeof(mirror->cluster.leader));
	if (!seen.election)
		memset(&mirror->cluster.election, 0, sizeof(mirror->cluster.election));
	if (!seen.term)
		memset(&mirror->cluster.term, 0, sizeof(mirror->cluster.term));
	if (!seen.request)
		memset(&mirror->cluster.request, 0, sizeof(mirror->cluster.request));
	if (!seen.durability)
		memset(&mirror->cluster.durability, 0, sizeof(mirror->cluster.durability));
	if (!seen.failsafe)
		memset(&mirror->cluster.failsafe, 0, sizeof(mirror->cluster.failsafe));
	if (!seen.settings)
		memset(&mirror->cluster.settings, 0, sizeof(mirror->cluster.settings));
	for (int i = 0; i < mirror->cluster.nnodes; i++)
	{
		ElectorNode *node = &mirror->cluster.nodes[i];

		if (!reply_has(reply, mirror->keys.prefix, "members/", node->member.node))
			node->member.present = false;
		if (!reply_has(reply, mirror->keys.prefix, "alive/", node->member.node))
			node->alive.present = false;
	}
	forget_nodes(mirror);
	mirror->cluster.revision = reply->revision;
	mirror->cluster.etcd = reply->cluster_id;

	/* An unreadable record that we never knew: better no view than a wrong one. */
	mirror->cluster.complete = !(seen.term && !mirror->cluster.term.present) &&
		!(seen.durability && !mirror->cluster.durability.present) &&
		!(seen.failsafe && !mirror->cluster.failsafe.present) &&
		!(seen.system && mirror->cluster.system == 0);
}

void
elector_mirror_apply(ElectorMirror *mirror, const ElectorEtcdReply *reply)
{
	Seen		seen;

	memset(&seen, 0, sizeof(seen));
	if (reply->nkvs > 0)
	{
		apply_all(mirror, reply, &seen);
		forget_nodes(mirror);
	}

	/* The header may be ahead of the events that are still to come. */
	for (size_t i = 0; i < reply->nkvs; i++)
	{
		if (reply->kvs[i].mod_revision > mirror->cluster.revision)
			mirror->cluster.revision = reply->kvs[i].mod_revision;
	}
}

/* --- changes --- */

static const char *
key_name(const ElectorKeys *keys, ElectorKey key, const ElectorChange *change,
		 char *buffer)
{
	switch (key)
	{
		case ELECTOR_KEY_SYSTEM:
			return keys->system;
		case ELECTOR_KEY_MEMBER:
			return keys->member;
		case ELECTOR_KEY_ALIVE:
			return keys->alive;
		case ELECTOR_KEY_LEADER:
			return keys->leader;
		case ELECTOR_KEY_ELECTION:
			return keys->election;
		case ELECTOR_KEY_TERM:
			return keys->term;
		case ELECTOR_KEY_REQUEST:
			return keys->request;
		case ELECTOR_KEY_SETTINGS:
			return keys->settings;
		case ELECTOR_KEY_DURABILITY:
			return keys->durability;
		case ELECTOR_KEY_FAILSAFE:
			return keys->failsafe;
		case ELECTOR_KEY_HISTORY:
			elector_keys_history(keys, change->history.term, buffer, ELECTOR_KEY_SIZE);
			return buffer;
		case ELECTOR_KEY_OTHER_MEMBER:
			snprintf(buffer, ELECTOR_KEY_SIZE, "%smembers/%s", keys->prefix, change->other);
			return buffer;
		case ELECTOR_KEY_OTHER_ALIVE:
			snprintf(buffer, ELECTOR_KEY_SIZE, "%salive/%s", keys->prefix, change->other);
			return buffer;
		case ELECTOR_KEYS:
			break;
	}
	return NULL;
}

static char *
value_json(ElectorKey key, const ElectorChange *change)
{
	char	   *text;

	switch (key)
	{
		case ELECTOR_KEY_SYSTEM:
			text = malloc(ELECTOR_NAME_SIZE);
			if (text != NULL)
				snprintf(text, ELECTOR_NAME_SIZE, "%" PRIu64, change->system);
			return text;
		case ELECTOR_KEY_MEMBER:
			return elector_member_to_json(&change->member);
		case ELECTOR_KEY_ALIVE:
			return elector_alive_to_json(&change->alive);
		case ELECTOR_KEY_LEADER:
			return elector_leader_to_json(&change->leader);
		case ELECTOR_KEY_ELECTION:
			return elector_election_to_json(&change->election);
		case ELECTOR_KEY_TERM:
			return elector_term_to_json(&change->term);
		case ELECTOR_KEY_REQUEST:
			return elector_request_to_json(&change->request);
		case ELECTOR_KEY_SETTINGS:
			return elector_settings_to_json(&change->settings);
		case ELECTOR_KEY_DURABILITY:
			return elector_durability_to_json(&change->durability);
		case ELECTOR_KEY_FAILSAFE:
			return elector_failsafe_to_json(&change->failsafe);
		case ELECTOR_KEY_HISTORY:
			return elector_history_to_json(&change->history);
		case ELECTOR_KEY_OTHER_MEMBER:
		case ELECTOR_KEY_OTHER_ALIVE:
			break;				/* deleted, and never put */
		case ELECTOR_KEYS:
			break;
	}
	return NULL;
}

ElectorTxn *
elector_mirror_txn(const ElectorMirror *mirror, const ElectorChange *change)
{
	ElectorTxn *txn = elector_txn_create();

	if (txn == NULL)
		return NULL;
	for (ElectorKey key = 0; key < ELECTOR_KEYS; key++)
	{
		const ElectorKeyChange *one = &change->keys[key];
		char		buffer[ELECTOR_KEY_SIZE];
		const char *name = key_name(&mirror->keys, key, change, buffer);
		char	   *json;

		if (one->if_created)
			elector_txn_if_created(txn, name, one->revision);
		if (one->if_modified)
			elector_txn_if_modified(txn, name, one->revision);
		switch (one->write)
		{
			case ELECTOR_WRITE_NONE:
				break;
			case ELECTOR_WRITE_DELETE:
				elector_txn_delete(txn, name);
				break;
			case ELECTOR_WRITE_PUT:
				json = value_json(key, change);
				if (json == NULL)
				{
					elector_txn_destroy(txn);
					return NULL;
				}
				elector_txn_put(txn, name, json, one->lease);
				free(json);
				break;
		}
	}
	return txn;
}
