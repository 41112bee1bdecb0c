/*
 * cluster.c
 *	  A cluster's keys in etcd, as one elector last saw them.
 */
#include "cluster.h"

#include <string.h>

ElectorNode *
elector_cluster_node(const ElectorCluster *cluster, const char *node)
{
	for (int i = 0; i < cluster->nnodes; i++)
	{
		if (strcmp(cluster->nodes[i].member.node, node) == 0)
			return (ElectorNode *) &cluster->nodes[i];
	}
	return NULL;
}
