/*
 * endpoints.c
 *	  The list of etcd's endpoints, as it is written in a setting.
 *
 * The one trap: endpoints appear in messages and views.  A user and a password
 * in a URL are therefore refused, not hidden.
 */
#include <curl/curl.h>
#include <string.h>

#include "endpoints.h"

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

	endpoints->count = 0;
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
		endpoint = endpoints->url[endpoints->count++];
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
