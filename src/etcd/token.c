/*
 * token.c
 *	  Asking etcd for a token, and requests that it refused because of who asks.
 *
 * When to ask, and with which password, is auth.c's; here it becomes a request.
 * Requests wait parked for the first token, and again when it was refused.
 *
 * The one trap: being refused is not always final.  A token that has expired says
 * nothing about the request, which is sent again; a missing permission, or a user
 * that is wanted and not set, lasts, and the operator is told once.
 */
#include <stdio.h>
#include <string.h>

#include "request.h"

/* Checking a password costs etcd time, on purpose. */
#define AUTHENTICATE_BOUND	5000000

/* A request that is refused for its token is sent no more often than this. */
#define SENDINGS_MAX		3

bool
elector_token_is_asked(const ElectorEtcd *etcd)
{
	for (const ElectorEtcdRequest *request = etcd->requests; request != NULL; request = request->next)
	{
		if (elector_request_is_own(request) && !request->ended && request->endpoint == etcd->current)
			return true;
	}
	return false;
}

/* Are there requests that have to wait, and is there something to wait for? */
bool
elector_token_may_come(const ElectorEtcd *etcd)
{
	return elector_auth_waits(&etcd->auth) &&
		(etcd->auth.problem[0] == '\0' || elector_token_is_asked(etcd));
}

static void
authenticate(ElectorEtcd *etcd, int64_t now)
{
	ElectorCall call = {.kind = ELECTOR_CALL_AUTHENTICATE};
	bool		former;
	const char *password = elector_auth_password(&etcd->auth, now, &former);

	if (password != NULL)
		elector_request_start(etcd, &call,
							  elector_body_authenticate(etcd->auth.user, password),
							  former, AUTHENTICATE_BOUND, NULL, NULL);
}

/* Ask for a token when it is time, and send what has waited for one. */
void
elector_token_keep(ElectorEtcd *etcd)
{
	int64_t		now = elector_etcd_now();
	int64_t		next;

	elector_auth_refresh(&etcd->auth, now, &etcd->notices);
	next = elector_auth_next(&etcd->auth);
	if (next >= 0 && now >= next && !elector_token_is_asked(etcd))
		authenticate(etcd, now);
	for (ElectorEtcdRequest *request = etcd->requests; request != NULL; request = request->next)
	{
		if (!request->parked)
			continue;
		if (!elector_auth_waits(&etcd->auth))
			elector_request_send(request);
		else if (!elector_token_may_come(etcd))
			elector_request_end(request, etcd->auth.problem);
	}
}

void
elector_token_answered(ElectorEtcdRequest *request, const ElectorGatewayAnswer *answer)
{
	ElectorEtcd *etcd = request->etcd;
	const char *endpoint = etcd->endpoints.all[request->endpoint].url;

	if (answer->reply.status == ELECTOR_ETCD_OK)
		elector_auth_granted(&etcd->auth, elector_etcd_now(), answer->token, request->former,
							 &etcd->notices);
	else if (answer->denial == ELECTOR_DENIAL_PASSWORD)
		elector_auth_denied(&etcd->auth, elector_etcd_now(), request->former, endpoint,
							&etcd->notices);
	else if (answer->denial == ELECTOR_DENIAL_OFF)
		elector_auth_absent(&etcd->auth, &etcd->notices);
	else
		elector_auth_failed(&etcd->auth, elector_etcd_now(), answer->reply.error);
}

/*
 * Refused for its token, the request has not been executed; it is sent again if
 * somebody still waits for it.  A watch that was created cannot be: what it was
 * to begin with is past.
 */
bool
elector_token_send_again(ElectorEtcdRequest *request, ElectorGatewayAnswer *answer)
{
	ElectorEtcd *etcd = request->etcd;
	bool		watch = request->call.kind == ELECTOR_CALL_WATCH;

	if (answer->denial != ELECTOR_DENIAL_TOKEN || etcd->auth.user[0] == '\0')
		return false;
	elector_auth_refused(&etcd->auth, elector_etcd_now(), request->token, &etcd->notices);
	elector_answer_fail(answer, ELECTOR_ETCD_UNKNOWN, false, "%s",
						etcd->auth.problem[0] != '\0' ? etcd->auth.problem :
						"the token is not valid any more");
	if (request->sendings >= SENDINGS_MAX || request->callback == NULL ||
		elector_etcd_now() >= request->deadline || (watch && etcd->watch != NULL))
		return false;
	request->answered = false;
	elector_request_again(request);
	return true;
}

/* With users, etcd's gateway takes no client certificate that names one itself. */
void
elector_token_explain_name(ElectorEtcdRequest *request, ElectorGatewayAnswer *answer)
{
	ElectorEtcd *etcd = request->etcd;

	if (answer->denial != ELECTOR_DENIAL_COMMON_NAME)
		return;
	elector_answer_fail(answer, ELECTOR_ETCD_UNKNOWN, true,
						"etcd does not accept a client certificate with a common name, as that in file \"%s\"",
						etcd->tls.cert.path);
	elector_endpoint_tell(&etcd->endpoints.all[request->endpoint], elector_etcd_now(),
						  answer->error,
						  "Where etcd has users, the subject of a client certificate must not have a common name (CN).",
						  &etcd->notices);
}

/* Refused because nobody, or the wrong one, asks: once, in words. */
void
elector_token_explain(ElectorEtcdRequest *request, ElectorGatewayAnswer *answer)
{
	ElectorEtcd *etcd = request->etcd;
	const char *endpoint = etcd->endpoints.all[request->endpoint].url;

	if (answer->denial == ELECTOR_DENIAL_TOKEN)
	{
		elector_answer_fail(answer, ELECTOR_ETCD_REFUSED, false,
							"etcd wants a user and a password");
		if (!etcd->user_noted)
			elector_notice(&etcd->notices, true,
						   "Set pg_elector.etcd_user and pg_elector.etcd_password_file.",
						   "etcd at \"%s\" wants a user and a password", endpoint);
		etcd->user_noted = true;
	}
	else if (answer->denial == ELECTOR_DENIAL_PERMISSION)
	{
		elector_answer_fail(answer, ELECTOR_ETCD_REFUSED, false,
							"etcd gives user \"%s\" no permission for the keys of this cluster",
							etcd->auth.user);
		if (!etcd->permission_noted)
			elector_notice(&etcd->notices, true,
						   "Grant a role of the user readwrite on the prefix /pg_elector/<cluster>/.",
						   "etcd at \"%s\" gives user \"%s\" no permission for the keys of this cluster",
						   endpoint, etcd->auth.user);
		etcd->permission_noted = true;
	}
	else if (answer->reply.status == ELECTOR_ETCD_OK && request->call.kind == ELECTOR_CALL_TXN)
	{
		if (etcd->permission_noted)
			elector_notice(&etcd->notices, false, "",
						   "etcd gives user \"%s\" permission for the keys of this cluster",
						   etcd->auth.user);
		etcd->user_noted = false;
		etcd->permission_noted = false;
	}
}
