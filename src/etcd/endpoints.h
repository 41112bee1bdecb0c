/*
 * endpoints.h
 *	  The list of etcd's endpoints, as it is written in a setting, and which of
 *	  them to use.
 */
#ifndef ELECTOR_ETCD_ENDPOINTS_H
#define ELECTOR_ETCD_ENDPOINTS_H

#include "client.h"

#define ELECTOR_ENDPOINT_SIZE	256

typedef struct ElectorEndpoint
{
	char		url[ELECTOR_ENDPOINT_SIZE];
	int64_t		answered_at;	/* last */
	int64_t		slow;			/* how long it has lately taken to answer */
	int64_t		avoided_for;	/* 0: the last request was answered */
	int64_t		avoid_until;

	bool		unclear;		/* why TLS failed there */
	char		trouble[ELECTOR_PROBLEM_SIZE];	/* told and not yet over; or
												 * "" */
	int64_t		told_at;
} ElectorEndpoint;

typedef struct ElectorEndpoints
{
	int			count;
	ElectorEndpoint all[ELECTOR_ETCD_ENDPOINTS_MAX];
} ElectorEndpoints;

/* Returns what is wrong with the list, or NULL. */
extern const char *elector_endpoints_parse(const char *list,
										   ElectorEndpoints *endpoints);

extern bool elector_endpoint_is_tls(const ElectorEndpoint *endpoint);

/*
 * It answered after that time; it did not, and was silent for that time, or broke
 * off (0).
 */
extern void elector_endpoint_answered(ElectorEndpoint *endpoint, int64_t now, int64_t took,
									  const ElectorNotices *notices);
extern void elector_endpoint_failed(ElectorEndpoint *endpoint, int64_t now, int64_t silent);

/* What is wrong with it, and lasts until somebody mends it. */
extern void elector_endpoint_tell(ElectorEndpoint *endpoint, int64_t now, const char *trouble,
								  const char *hint, const ElectorNotices *notices);

/* How long an answer of this endpoint may take before another is preferred. */
extern int64_t elector_endpoint_patience(const ElectorEndpoint *endpoint, int64_t least);

/* The one to use instead of that one; itself if there is no other. */
extern int	elector_endpoints_next(const ElectorEndpoints *endpoints, int than, int64_t now);

#endif							/* ELECTOR_ETCD_ENDPOINTS_H */
