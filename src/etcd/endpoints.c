/*
 * endpoints.c
 *	  The list of etcd's endpoints, as it is written in a setting, and which of
 *	  them to use.
 *
 * Endpoints are tried in turn, but for a while without those that have failed.
 * How long one may take to answer before the next is tried is learnt: an etcd that
 * is slow as a whole is not to be left at every answer.
 *
 * The one trap: endpoints appear in messages and views.  A user and a password
 * in a URL are therefore refused, not hidden.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "endpoints.h"

/* One that has failed is avoided for so long, twice as long at every failure. */
#define AVOID_LEAST		INT64_C(1000000)
#define AVOID_MOST		INT64_C(16000000)

/* What is wrong with one is not told more often. */
#define TELL_INTERVAL	INT64_C(10000000)

/* An answer may take this many times longer than the least patience. */
#define PATIENCE_MOST	5

/*
 * One URL: a scheme, a host, perhaps a port and a path.  No user and no query,
 * because endpoints are shown in messages.
 */
static const char *
endpoint_problem(const char *endpoint)
{
	CURLU	   *url = curl_url();
	char	   *part = NULL;
	const char *problem = NULL;

	if (url == NULL)
		return "out of memory";
	if (strncmp(endpoint, "http://", 7) != 0 &&
		strncmp(endpoint, "https://", 8) != 0)
		problem = "an endpoint must begin with \"http://\" or \"https://\"";
	else if (curl_url_set(url, CURLUPART_URL, endpoint, 0) != CURLUE_OK)
		problem = "an endpoint is not a well-formed URL";
	else if (strpbrk(endpoint, "@?#") != NULL)
		problem = "an endpoint must not contain a user, a query or a fragment";
	else if (curl_url_get(url, CURLUPART_HOST, &part, 0) != CURLUE_OK ||
			 *part == '\0')
		problem = "an endpoint must contain a host name or address";
	curl_free(part);
	curl_url_cleanup(url);
	return problem;
}

/* Split the list; spaces around a comma and slashes at an end don't matter. */
const char *
elector_endpoints_parse(const char *list, ElectorEndpoints *endpoints)
{
	const char *p = list;

	memset(endpoints, 0, sizeof(*endpoints));
	for (;;)
	{
		size_t		length;
		size_t		whole;
		const char *problem;
		char	   *endpoint;

		p += strspn(p, " \t");
		whole = length = strcspn(p, ",");
		while (length > 0 && strchr(" \t/", p[length - 1]) != NULL)
			length--;
		if (length == 0)
			return "an endpoint is empty";
		if (length >= ELECTOR_ENDPOINT_SIZE)
			return "an endpoint is too long";
		if (endpoints->count == ELECTOR_ETCD_ENDPOINTS_MAX)
			return "there are too many endpoints";
		for (size_t i = 0; i < length; i++)
		{
			if ((unsigned char) p[i] <= ' ' || (unsigned char) p[i] >= 0x7f)
				return "an endpoint contains a space or a character that is not ASCII";
		}
		endpoint = endpoints->all[endpoints->count++].url;
		memcpy(endpoint, p, length);
		endpoint[length] = '\0';
		problem = endpoint_problem(endpoint);
		if (problem != NULL)
			return problem;
		p += whole;
		if (*p == '\0')
			return NULL;
		p++;
	}
}

bool
elector_etcd_endpoints_valid(const char *endpoints, const char **error)
{
	ElectorEndpoints parsed;
	const char *problem = elector_endpoints_parse(endpoints, &parsed);

	if (error != NULL)
		*error = problem;
	return problem == NULL;
}

bool
elector_endpoint_is_tls(const ElectorEndpoint *endpoint)
{
	return strncmp(endpoint->url, "https://", 8) == 0;
}

/* What was slow once is forgotten within some ten answers. */
void
elector_endpoint_answered(ElectorEndpoint *endpoint, int64_t now, int64_t took,
						  const ElectorNotices *notices)
{
	endpoint->answered_at = now;
	if (endpoint->trouble[0] != '\0')
		elector_notice(notices, false, "", "etcd at \"%s\" can be used", endpoint->url);
	endpoint->trouble[0] = '\0';
	endpoint->unclear = false;
	endpoint->avoided_for = 0;
	endpoint->avoid_until = 0;
	endpoint->slow -= endpoint->slow / 4;
	if (took > endpoint->slow)
		endpoint->slow = took;
}

void
elector_endpoint_failed(ElectorEndpoint *endpoint, int64_t now, int64_t silent)
{
	if (2 * silent > endpoint->slow)
		endpoint->slow = 2 * silent;
	endpoint->avoided_for *= 2;
	if (endpoint->avoided_for < AVOID_LEAST)
		endpoint->avoided_for = AVOID_LEAST;
	if (endpoint->avoided_for > AVOID_MOST)
		endpoint->avoided_for = AVOID_MOST;
	endpoint->avoid_until = now + endpoint->avoided_for;
}

/* Once while it lasts; not more often than that where it comes and goes. */
void
elector_endpoint_tell(ElectorEndpoint *endpoint, int64_t now, const char *trouble,
					  const char *hint, const ElectorNotices *notices)
{
	if (strcmp(trouble, endpoint->trouble) == 0 ||
		(endpoint->told_at != 0 && now < endpoint->told_at + TELL_INTERVAL))
		return;
	endpoint->told_at = now;
	snprintf(endpoint->trouble, sizeof(endpoint->trouble), "%s", trouble);
	elector_notice(notices, true, hint, "etcd at \"%s\" cannot be used: %s",
				   endpoint->url, trouble);
}

int64_t
elector_endpoint_patience(const ElectorEndpoint *endpoint, int64_t least)
{
	int64_t		patience = endpoint->slow + endpoint->slow / 4;

	if (patience < least)
		return least;
	return patience < least * PATIENCE_MOST ? patience : least * PATIENCE_MOST;
}

int
elector_endpoints_next(const ElectorEndpoints *endpoints, int than, int64_t now)
{
	int			best = than;

	for (int i = 1; i < endpoints->count; i++)
	{
		int			candidate = (than + i) % endpoints->count;

		if (endpoints->all[candidate].avoid_until <= now)
			return candidate;
		if (best == than ||
			endpoints->all[candidate].avoid_until < endpoints->all[best].avoid_until)
			best = candidate;
	}
	return best;
}
