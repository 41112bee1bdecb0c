/*
 * endpoints.h
 *	  The list of etcd's endpoints, as it is written in a setting.
 */
#ifndef ELECTOR_ETCD_ENDPOINTS_H
#define ELECTOR_ETCD_ENDPOINTS_H

#include "client.h"

#define ELECTOR_ENDPOINT_SIZE	256

typedef struct ElectorEndpoints
{
	int			count;
	char		url[ELECTOR_ETCD_ENDPOINTS_MAX][ELECTOR_ENDPOINT_SIZE];
} ElectorEndpoints;

/* Returns what is wrong with the list, or NULL. */
extern const char *elector_endpoints_parse(const char *list,
										   ElectorEndpoints *endpoints);

#endif							/* ELECTOR_ETCD_ENDPOINTS_H */
