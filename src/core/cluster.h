/*
 * cluster.h
 *	  A cluster's keys in etcd, as one elector last saw them.
 *
 * It is always some past state of etcd, that of `revision`, never a mix.
 * etcd/mirror.c keeps it current; who decides only reads it.
 */
#ifndef ELECTOR_CLUSTER_H
#define ELECTOR_CLUSTER_H

#include "records.h"

typedef struct ElectorNode
{
	ElectorMember member;
	ElectorAlive alive;
} ElectorNode;

typedef struct ElectorCluster
{
	bool		complete;		/* loaded once, and nothing unreadable that
								 * counts */
	int64_t		revision;		/* of etcd's store */
	uint64_t	etcd;			/* its cluster id */
	uint64_t	system;			/* 0: not there */
	ElectorLeader leader;
	ElectorElection election;
	ElectorTerm term;
	ElectorRequest request;
	ElectorClusterSettings settings;
	ElectorDurability durability;
	ElectorHistory history;		/* the newest entry */
	ElectorFailsafe failsafe;
	int			nnodes;
	ElectorNode nodes[ELECTOR_MEMBERS_MAX];
} ElectorCluster;

/* The node's entry, or NULL. */
extern ElectorNode *elector_cluster_node(const ElectorCluster *cluster,
										 const char *node);

#endif							/* ELECTOR_CLUSTER_H */
