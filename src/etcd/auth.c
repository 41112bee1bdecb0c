/*
 * auth.c
 *	  The user that etcd knows us as, and the token that proves it.
 *
 * etcd gives a token for a user's name and password, and wants it with every
 * request.  A simple token is known to all of its members, but a member forgets
 * the tokens when it restarts, and those that were not shown to it for five
 * minutes (--auth-token-ttl).  Checking a password costs etcd tens of
 * milliseconds, on purpose.  So the token is renewed well before the members that
 * have not seen it forget it; then going to another endpoint needs no new one, and
 * no renewal of a lease waits for a password to be checked, save after the
 * restart of a member or a change of the password.
 *
 * Here is only what to do and when; client.c does it.  Time comes in from there,
 * so that this can be tested without waiting.
 *
 * The password's file may be replaced at any time, before or after the password
 * is changed in etcd.  Before: the new one is tried at once, and while etcd does
 * not take it, the former one goes on.  After: the tokens are void, and the file
 * is looked at before every attempt.
 *
 * The one trap: whatever etcd answers, it must not be asked without pause.  A
 * password that is refused is tried again after a second, then two, up to half a
 * minute.  A token that is refused is replaced at once, as long as that does not
 * happen more often than tokens expire or an administrator changes users.
 */
#include <stdio.h>
#include <string.h>

#include "auth.h"

#define SECOND				INT64_C(1000000)

/* Less than half of the time after which etcd forgets an unused token. */
#define RENEW_INTERVAL		(120 * SECOND)

/* Tokens may be refused as often as this, and so many sooner than that. */
#define REFUSAL_INTERVAL	(2 * SECOND)
#define REFUSALS_MAX		8

/* One that lived longer was good. */
#define TOKEN_LIFE_MIN		SECOND

/* After an attempt without an answer; the next goes to another endpoint. */
#define UNANSWERED_INTERVAL	(SECOND / 10)

#define RETRY_MAX			(30 * SECOND)

static void
copy_secret(char *to, const char *from, size_t size)
{
	explicit_bzero(to, size);
	snprintf(to, size, "%s", from);
}

/* The first line of the file; false: error says why not. */
static bool
read_password(const char *path, char *password, size_t password_size,
			  char *error, size_t size)
{
	size_t		length = 0;
	char	   *text = elector_file_read(path, true, &length, error, size);
	const char *problem = NULL;

	if (text == NULL)
		return false;
	text[strcspn(text, "\r\n")] = '\0';
	if (text[0] == '\0')
		problem = "there is no password in its first line";
	else if (strlen(text) >= password_size)
		problem = "its first line is too long for a password";
	else
		copy_secret(password, text, password_size);
	explicit_bzero(text, length);
	elector_file_forget(text);
	if (problem != NULL)
		snprintf(error, size, "cannot use file \"%s\": %s", path, problem);
	return problem == NULL;
}

bool
elector_auth_file_valid(const char *path, char *error, size_t size)
{
	char		password[ELECTOR_PASSWORD_SIZE];
	bool		valid = read_password(path, password, sizeof(password), error, size);

	explicit_bzero(password, sizeof(password));
	return valid;
}

void
elector_auth_init(ElectorAuth *auth, const char *user, const char *path)
{
	memset(auth, 0, sizeof(*auth));
	snprintf(auth->user, sizeof(auth->user), "%s", user != NULL ? user : "");
	snprintf(auth->path, sizeof(auth->path), "%s", path != NULL ? path : "");
}

void
elector_auth_forget(ElectorAuth *auth)
{
	explicit_bzero(auth, sizeof(*auth));
}

void
elector_auth_move(ElectorAuth *auth, const char *path)
{
	if (strcmp(auth->path, path != NULL ? path : "") == 0)
		return;
	snprintf(auth->path, sizeof(auth->path), "%s", path != NULL ? path : "");
	auth->looked = false;
	auth->file_noted = false;
}

void
elector_auth_inherit(ElectorAuth *auth, const char *token)
{
	if (auth->user[0] == '\0' || auth->number != 0 || token == NULL ||
		token[0] == '\0' || strlen(token) >= sizeof(auth->token))
		return;
	copy_secret(auth->token, token, sizeof(auth->token));
	auth->number = 1;
	auth->renew_at = INT64_MAX; /* how old it is nobody says */
}

bool
elector_auth_waits(const ElectorAuth *auth)
{
	return auth->user[0] != '\0' && auth->token[0] == '\0' && !auth->off;
}

int64_t
elector_auth_next(const ElectorAuth *auth)
{
	if (auth->user[0] == '\0' || auth->off)
		return -1;
	if (auth->token[0] == '\0' || auth->retry_at > auth->renew_at)
		return auth->retry_at;
	return auth->renew_at;
}

/* ----------
 * The file
 * ----------
 */

static void
take_password(ElectorAuth *auth, int64_t now, const char *password)
{
	if (strcmp(password, auth->password) == 0)
		return;
	if (auth->accepted)
		copy_secret(auth->former, auth->password, sizeof(auth->former));
	copy_secret(auth->password, password, sizeof(auth->password));
	auth->accepted = false;
	auth->use_former = false;
	auth->renew_at = now;
}

void
elector_auth_refresh(ElectorAuth *auth, int64_t now, const ElectorNotices *notices)
{
	ElectorFileStamp stamp;
	char		password[ELECTOR_PASSWORD_SIZE];
	char		error[ELECTOR_PROBLEM_SIZE];

	if (auth->user[0] == '\0')
		return;
	stamp = elector_file_stamp(auth->path);
	if (auth->looked && elector_file_same(&stamp, &auth->stamp))
		return;
	auth->looked = true;
	auth->stamp = stamp;
	if (read_password(auth->path, password, sizeof(password), error, sizeof(error)))
	{
		auth->file_noted = false;
		auth->failures = 0;
		auth->retry_at = now;
		take_password(auth, now, password);
	}
	else
	{
		if (auth->password[0] == '\0')
			memcpy(auth->problem, error, sizeof(error));
		if (!auth->file_noted)
			elector_notice(notices, true, auth->password[0] != '\0' ?
						   "The password that was read before stays in use." :
						   "Correct the file that pg_elector.etcd_password_file names; it is read anew without a restart.",
						   "%s", error);
		auth->file_noted = true;
	}
	explicit_bzero(password, sizeof(password));
}

const char *
elector_auth_password(ElectorAuth *auth, int64_t now, bool *former)
{
	*former = auth->use_former && auth->former[0] != '\0';
	if (*former)
		return auth->former;
	if (auth->password[0] != '\0')
		return auth->password;
	auth->retry_at = now + SECOND;
	return NULL;
}

/* ----------
 * Tokens
 * ----------
 */

static int64_t
delay(int64_t first, int failures)
{
	int64_t		result = first;

	for (int i = 1; i < failures && result < RETRY_MAX; i++)
		result *= 2;
	return result < RETRY_MAX ? result : RETRY_MAX;
}

void
elector_auth_granted(ElectorAuth *auth, int64_t now, const char *token, bool former,
					 const ElectorNotices *notices)
{
	if (auth->token[0] != '\0')
		auth->distrusted = false;	/* the last one is good to this day */
	copy_secret(auth->token, token, sizeof(auth->token));
	auth->number++;
	auth->granted_at = now;
	auth->renew_at = now + (former ? RETRY_MAX : RENEW_INTERVAL);
	auth->retry_at = now;
	auth->use_former = false;
	auth->problem[0] = '\0';
	if (former)
	{
		if (!auth->former_noted)
			elector_notice(notices, true,
						   "Change the password in etcd (etcdctl user passwd), or put the former one back into the file.",
						   "etcd does not accept the password in file \"%s\" for user \"%s\", but still the former one",
						   auth->path, auth->user);
		auth->former_noted = true;
		auth->noted = false;
		return;
	}
	auth->accepted = true;
	if (auth->distrusted)
		return;
	if (auth->noted || auth->former_noted)
		elector_notice(notices, false, "", "etcd accepts the password of user \"%s\"", auth->user);
	auth->noted = false;
	auth->former_noted = false;
	explicit_bzero(auth->former, sizeof(auth->former));
}

void
elector_auth_denied(ElectorAuth *auth, int64_t now, bool former, const char *endpoint,
					const ElectorNotices *notices)
{
	if (!former && auth->former[0] != '\0')
	{
		auth->use_former = true;
		auth->retry_at = now;
		return;
	}
	auth->use_former = false;
	auth->failures++;
	auth->retry_at = now + delay(SECOND, auth->failures);
	snprintf(auth->problem, sizeof(auth->problem),
			 "the password of user \"%s\" is not accepted", auth->user);
	if (!auth->noted)
		elector_notice(notices, true,
					   "Check that etcd has this user, and the password in the file that pg_elector.etcd_password_file names.",
					   "etcd at \"%s\" does not accept the password of user \"%s\"",
					   endpoint, auth->user);
	auth->noted = true;
}

void
elector_auth_absent(ElectorAuth *auth, const ElectorNotices *notices)
{
	explicit_bzero(auth->token, sizeof(auth->token));
	auth->off = true;
	auth->failures = 0;
	auth->problem[0] = '\0';
	auth->noted = false;
	elector_notice(notices, false,
				   "Everybody who reaches etcd may change everything; enable authentication there.",
				   "etcd has no authentication enabled: user \"%s\" is not asked for", auth->user);
}

void
elector_auth_failed(ElectorAuth *auth, int64_t now, const char *error)
{
	if (!auth->noted)
		snprintf(auth->problem, sizeof(auth->problem), "no token: %s", error);
	if (auth->retry_at < now + UNANSWERED_INTERVAL)
		auth->retry_at = now + UNANSWERED_INTERVAL;
}

void
elector_auth_refused(ElectorAuth *auth, int64_t now, uint64_t number,
					 const ElectorNotices *notices)
{
	if (auth->user[0] == '\0')
		return;
	if (auth->off)
	{
		/* it was enabled meanwhile */
		auth->off = false;
		auth->retry_at = now;
		return;
	}
	if (number != auth->number || auth->token[0] == '\0')
		return;					/* an older one, or known already */
	explicit_bzero(auth->token, sizeof(auth->token));
	auth->retry_at = now;
	if (now >= auth->granted_at + TOKEN_LIFE_MIN)
		auth->failures = 0;
	if (auth->spent_until < now)
		auth->spent_until = now;
	auth->spent_until += REFUSAL_INTERVAL;
	if (auth->failures == 0 && auth->spent_until <= now + REFUSALS_MAX * REFUSAL_INTERVAL)
		return;
	auth->failures++;
	auth->distrusted = true;
	auth->retry_at = now + delay(SECOND, auth->failures);
	snprintf(auth->problem, sizeof(auth->problem),
			 "the tokens granted to user \"%s\" are refused", auth->user);
	if (!auth->noted)
		elector_notice(notices, true,
					   "Are all endpoints in pg_elector.etcd members of one etcd?",
					   "etcd refuses the tokens that it grants to user \"%s\"", auth->user);
	auth->noted = true;
}
