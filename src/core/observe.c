/*
 * observe.c
 *	  From what an elector knows to the view that it decides from.
 *
 * This reads and remembers, and does nothing else: nothing is asked, written or
 * signaled from here.
 */
#include "elector.h"
#include "durability.h"
#include "failsafe.h"
#include "name.h"
#include "rules.h"

#include <stddef.h>
#include <string.h>

/* What a member said, with an entry made if need be; NULL if there is no room. */
ElectorSaid *
elector_said(Elector *elector, const char *node)
{
	ElectorSaid *said;

	for (int i = 0; i < elector->nsaid; i++)
	{
		if (strcmp(elector->said[i].node, node) == 0)
			return &elector->said[i];
	}
	if (elector->nsaid == ELECTOR_MEMBERS_MAX)
	{
		/* Members came and went; those that are gone make room. */
		for (int i = elector->nsaid - 1; i >= 0; i--)
		{
			if (elector_cluster_node(elector->cluster, elector->said[i].node) == NULL)
				elector->said[i] = elector->said[--elector->nsaid];
		}
		if (elector->nsaid == ELECTOR_MEMBERS_MAX)
			return NULL;
	}
	said = &elector->said[elector->nsaid++];
	memset(said, 0, sizeof(*said));
	elector_copy(said->node, node, sizeof(said->node));
	return said;
}

/* What a standby of this server has on disk; 0: it does not stream from here. */
static ElectorLsn
follower_flushed(const ElectorServer *server, const char *node)
{
	for (int i = 0; i < server->nfollowers; i++)
	{
		if (strcmp(server->followers[i].node, node) == 0)
			return server->followers[i].flushed;
	}
	return 0;
}

static void
observe_settings(const Elector *elector, ElectorView *view)
{
	const ElectorSettings *settings = &elector->settings;

	elector_copy(view->node, settings->node, sizeof(view->node));
	view->lease_ttl = settings->lease_ttl;
	view->lease_margin = settings->lease_margin;
	view->fence_timeout = settings->fence_timeout;
	view->cold_start_wait = settings->cold_start_wait;
	view->failover_cooldown = settings->failover_cooldown;
	view->drain_timeout = settings->drain_timeout;
	view->maximum_lag = settings->maximum_lag;
	view->candidate = settings->candidate;
	view->priority = settings->priority;
	view->follower_timeout = settings->follower_timeout;
	view->degrade_after = settings->degrade_after;
	view->may_degrade = settings->may_degrade;
	elector_copy(view->policy, settings->durability, sizeof(view->policy));
	view->may_rejoin = settings->may_rejoin;
	view->may_clone = settings->may_clone;
	view->may_promise = settings->failsafe;
}

static void
observe_server(Elector *elector, ElectorView *view)
{
	const ElectorServer *server = &elector->server;

	elector->ports->look(elector->world, &elector->server);
	view->recovering = server->recovering;
	view->position = server->position;
	if (server->recovering)
	{
		view->frozen = server->frozen;
		view->target_timeline = server->target_timeline;
		view->promoting = server->promoting;
		view->promoting_term = elector->promoting_term;
		view->upstream_term = server->upstream_term;
	}
	else if (elector->leader_revision != 0)
	{
		if (elector->promoted_at == 0)
			elector->promoted_at = view->now;

		/* S13: all that is there when the term begins on this server. */
		if (elector->barrier == 0)
			elector->barrier = server->position.lsn;
	}
	view->gate_open = elector->gate_open;
	view->stopping = elector->stopping;
	view->disk_stuck = server->disk_stuck;
	view->wal_full = server->wal_full;
	view->rejoin_after = elector->rejoin_after;
}

static ElectorRefusal
find_refusal(const Elector *elector, const ElectorNode *self)
{
	const ElectorCluster *cluster = elector->cluster;

	if (cluster->system != 0 && cluster->system != elector->settings.system)
		return ELECTOR_REFUSAL_SYSTEM;
	if (self != NULL && self->alive.present &&
		strcmp(self->alive.instance, elector->instance) != 0 &&
		(elector->predecessor[0] == '\0' ||
		 strcmp(self->alive.instance, elector->predecessor) != 0))
		return ELECTOR_REFUSAL_NODE;
	if (self == NULL && cluster->nnodes == ELECTOR_MEMBERS_MAX)
		return ELECTOR_REFUSAL_FULL;
	return ELECTOR_REFUSAL_NONE;
}

/*
 * Who does not hear of the leader says so, for the leader to know that it is cut off
 * (elector_durability_cut_off).
 */
static uint64_t
find_missed(const Elector *elector)
{
	const ElectorCluster *cluster = elector->cluster;
	const ElectorLeader *leader = &cluster->leader;
	const ElectorNode *self = elector_cluster_node(cluster, elector->settings.node);
	ElectorTime silent;

	/* It names its term; a write for it would only hold an election up. */
	if (!leader->present)
		return self != NULL ? self->alive.misses : 0;
	if (strcmp(leader->node, elector->settings.node) == 0)
		return 0;
	silent = elector->ports->silent_since(elector->world, leader->node);
	if (silent == 0)
		return 0;
	if (self != NULL && self->alive.misses == leader->term)
		return leader->term;
	return elector->ports->now(elector->world) >= silent + elector->settings.lease_ttl / 2 ?
		leader->term : 0;
}

/* Is what etcd has of this node what it would write now? */
static bool
is_registered(const Elector *elector, const ElectorNode *self)
{
	const ElectorSettings *settings = &elector->settings;
	int64_t		lease = elector->leases[ELECTOR_LEASE_ALIVE].id;

	return self != NULL && self->alive.present && lease != 0 &&
		self->alive.lease == lease &&
		strcmp(self->alive.instance, elector->instance) == 0 &&
		self->alive.misses == elector->misses &&
		self->member.present &&
		strcmp(self->member.conninfo, settings->conninfo) == 0 &&
		strcmp(self->member.zone, settings->zone) == 0 &&
		strcmp(self->member.durability, settings->durability) == 0 &&
		strcmp(self->member.directory, elector->state.directory) == 0 &&
		self->member.candidate == settings->candidate &&
		self->member.priority == settings->priority;
}

/*
 * Long records are copied as far as they are filled, since a view is made anew in every
 * round.
 */
static void
copy_leader(ElectorLeader *to, const ElectorLeader *from)
{
	memcpy(to, from, offsetof(ElectorLeader, conninfo));
	elector_copy(to->conninfo, from->conninfo, sizeof(to->conninfo));
}

static void
copy_term(ElectorTerm *to, const ElectorTerm *from)
{
	memcpy(to, from, offsetof(ElectorTerm, ancestors));
	memcpy(to->ancestors, from->ancestors,
		   (size_t) from->nancestors * sizeof(from->ancestors[0]));
}

/* The rule in force, and what the members want. */
static void
observe_durability(const Elector *elector, ElectorView *view)
{
	const ElectorCluster *cluster = elector->cluster;
	const ElectorDurability *record = &cluster->durability;

	view->durability.present = record->present;
	view->durability.changing = record->changing;
	view->durability.degraded = record->degraded;
	view->durability.mod_revision = record->mod_revision;
	view->durability.term = record->term;
	elector_copy(view->durability.node, record->node, sizeof(view->durability.node));
	elector_rule_copy(&view->durability.rule, &record->rule);
	elector_rule_copy(&view->durability.next, &record->next);

	view->policy_agreed = true;
	for (int i = 0; i < cluster->nnodes; i++)
	{
		const ElectorNode *node = &cluster->nodes[i];

		if (node->member.present && node->alive.present &&
			strcmp(node->member.durability, elector->settings.durability) != 0)
			view->policy_agreed = false;
	}
	elector_copy(view->names, elector->names, sizeof(view->names));
	view->names_barrier = elector->names_barrier;
	view->names_since = elector->names_since;
	view->barrier = elector->barrier;
	view->unserved_since = elector->unserved_since;
}

static void
observe_etcd(Elector *elector, ElectorView *view)
{
	const ElectorCluster *cluster = elector->cluster;
	const ElectorNode *self = elector_cluster_node(cluster, elector->settings.node);

	/* What we wrote last must be in what we decide from. */
	view->known = elector->watching && cluster->complete && !elector->acting &&
		(elector->written <= cluster->revision || !ELECTOR_RULE(SEE_OWN_WRITES));
	copy_leader(&view->leader, &cluster->leader);
	copy_term(&view->term, &cluster->term);
	view->election = cluster->election;
	view->request = cluster->request;
	view->paused = cluster->settings.paused;
	view->held = elector_find_hold(&cluster->settings, view->leader.term, view->wall_ms, 0) >= 0;
	observe_durability(elector, view);
	view->unblocked = cluster->history.present && cluster->history.blocked[0] == '\0' &&
		cluster->history.term == cluster->term.term;
	elector_failsafe_copy(&view->failsafe, &cluster->failsafe);
	elector_failsafe_copy(&view->asked, &elector->asked);
	elector_failsafe_copy(&view->surely, &elector->surely);
	view->asked_changing = elector->changing_from != -1;
	view->refusal = find_refusal(elector, self);
	elector->misses = find_missed(elector);
	view->registered = is_registered(elector, self);

	if (!view->known)
		return;
	if (elector->state.followed > elector->remembered)
		elector->remembered = elector->state.followed;
	if (cluster->term.term > elector->remembered)
		elector->remembered = cluster->term.term;
	if ((elector->remembered <= cluster->term.term &&
		 (cluster->term.etcd == 0 || cluster->term.etcd == cluster->etcd) &&
		 (elector->restored_revision == 0 ||
		  (cluster->term.opened && cluster->term.mod_revision > elector->restored_revision))) ||
		!ELECTOR_RULE(ETCD_RESTORED))
		elector->forgot_since = 0;
	else if (elector->forgot_since == 0)
		elector->forgot_since = view->now;
	if (cluster->leader.present)
	{
		elector->gone_since = 0;
		elector->seen_term = cluster->leader.term;
	}
	else if (elector->gone_since == 0)
		elector->gone_since = view->now;
}

/* What others would hear from us, without asking. */
static void
observe_self(const Elector *elector, const ElectorView *view, ElectorPeerView *peer)
{
	const ElectorServer *server = &elector->server;

	peer->silent_since = 0;
	peer->reported_at = view->now;
	peer->following = server->recovering && server->streaming &&
		server->upstream_term == view->leader.term;
	peer->candidate = elector->settings.candidate;
	peer->full = server->wal_full;
	peer->priority = elector->settings.priority;
	peer->position = server->position;
	if (peer->following && server->flushed > peer->position.lsn)
		peer->position.lsn = server->flushed;
}

static void
observe_peers(Elector *elector, ElectorView *view)
{
	const ElectorCluster *cluster = elector->cluster;

	view->self = -1;
	view->establishing = -1;
	for (int i = 0; i < cluster->nnodes; i++)
	{
		const ElectorNode *node = &cluster->nodes[i];
		ElectorPeerView *peer = &view->peers[view->npeers];
		ElectorSaid *said;

		if (!node->member.present ||
			(said = elector_said(elector, node->member.node)) == NULL)
			continue;
		memset(peer, 0, sizeof(*peer));
		elector_copy(peer->node, node->member.node, sizeof(peer->node));
		peer->alive = node->alive.present;
		peer->misses = node->alive.misses;
		elector_copy(peer->zone, node->member.zone, sizeof(peer->zone));
		elector_copy(peer->directory, node->member.directory, sizeof(peer->directory));
		if (elector->leader_revision != 0 && said->promised_term == elector->leader_term)
		{
			peer->promised_until = said->promised_until;
			elector_copy(peer->promised_by, said->promised_by, sizeof(peer->promised_by));
		}
		peer->absent_since = said->absent_since;
		peer->flushed = follower_flushed(&elector->server, peer->node);
		peer->silent_since = said->misled_since != 0 ? said->misled_since :
			elector->ports->silent_since(elector->world, peer->node);
		peer->answer = said->answer;
		peer->passed_over = said->passed_over;
		peer->reported_at = said->reported_at;
		peer->following = said->report.streaming &&
			said->report.term == view->leader.term;
		peer->candidate = said->report.candidate;
		peer->full = said->report.full;
		peer->priority = said->report.priority;
		peer->position.timeline = said->report.timeline;
		peer->position.lsn = said->report.lsn;
		if (strcmp(peer->node, elector->settings.node) == 0)
		{
			observe_self(elector, view, peer);
			view->self = view->npeers;
		}
		if (strcmp(peer->node, elector->establishing) == 0)
			view->establishing = view->npeers;
		view->npeers++;
	}
}

/* Who comes back has its time to follow, however long we have waited for it. */
static void
observe_unfollowed(Elector *elector, ElectorView *view)
{
	bool		any = false;

	for (int i = 0; i < view->npeers; i++)
		any = any || (i != view->self && view->peers[i].alive && view->peers[i].flushed == 0);
	if (elector->leader_revision == 0 || elector->gate_open || !any)
		elector->unfollowed_since = 0;
	else if (elector->unfollowed_since == 0)
		elector->unfollowed_since = view->now;
	view->unfollowed_since = elector->unfollowed_since;
}

void
elector_observe(Elector *elector)
{
	ElectorView *view = &elector->view;

	/* Peers are cleared one by one, as many as there are; what follows is copied. */
	memset(view, 0, offsetof(ElectorView, peers));
	view->now = elector->ports->now(elector->world);
	view->wall_ms = elector->ports->wall_ms(elector->world);

	observe_settings(elector, view);
	elector_copy(view->instance, elector->instance, sizeof(view->instance));
	elector_copy(view->predecessor, elector->predecessor, sizeof(view->predecessor));
	view->state = elector->state;
	view->started_at = elector->started_at;

	observe_server(elector, view);
	observe_etcd(elector, view);

	view->lapsed = elector->lapsed;
	view->cut_off = elector->cut_off;
	view->wal_full_asked = elector->wal_full_asked;
	view->leading_since = elector->leading_since;
	view->ordered = elector->ordered;
	view->order_term = elector->order.term;
	view->order_token = elector->order.token;

	view->promised_until = elector->promised_until;
	view->fence_waits = elector->fence_waits;
	view->fence_void = elector->fence_void;

	view->gone_since = elector->gone_since;
	view->linked_since = elector->linked_since;
	view->remembered = elector->remembered;
	view->forgot_since = elector->forgot_since;
	view->warm = view->term.present && elector->seen_term == view->term.term;
	view->lease_gone = view->term.present &&
		elector->gone_lease == view->term.lease && view->term.lease != 0;
	view->lease_checked_at = elector->lease_checked_at;
	view->last_second_since = view->leader.present &&
		elector->last_second_lease == view->leader.lease ?
		elector->last_second_since : 0;
	view->last_second_asked = elector->last_second_asked;

	view->lock_since = elector->lock_since;
	view->fence_term = elector->fence_term;
	view->fence_since = elector->fence_since;
	view->raises = elector->raises;
	view->establish_since = elector->establish_since;
	view->backoff_until = elector->backoff_until;
	view->handover = elector->handover;

	observe_peers(elector, view);
	observe_unfollowed(elector, view);

	view->promises_until = elector_failsafe_until(view);
	view->lease_until = elector->leases[ELECTOR_LEASE_LEADER].deadline;
	view->gate_until = elector->gate_until;
	view->deadline = view->lease_until;
	if (view->promises_until > view->deadline)
		view->deadline = view->promises_until;
}
