/*
 * auth.h
 *	  The user that etcd knows us as, and the token that proves it; see auth.c.
 */
#ifndef ELECTOR_ETCD_AUTH_H
#define ELECTOR_ETCD_AUTH_H

#include "file.h"
#include "notice.h"

#define ELECTOR_USER_SIZE		256
#define ELECTOR_PASSWORD_SIZE	1024
/* By which environment variable the server hands its token to the program. */
#define ELECTOR_TOKEN_VARIABLE	"PG_ELECTOR_ETCD_TOKEN"

#define ELECTOR_TOKEN_SIZE		8192	/* a JWT of etcd's has some 600 bytes */

typedef struct ElectorAuth
{
	char		user[ELECTOR_USER_SIZE];	/* "": none */
	char		path[ELECTOR_PATH_SIZE];	/* of the password file */

	bool		looked;
	ElectorFileStamp stamp;		/* of the file, when it was looked at last */
	char		password[ELECTOR_PASSWORD_SIZE];	/* "": none could be read */
	bool		accepted;		/* etcd has taken it */
	char		former[ELECTOR_PASSWORD_SIZE];	/* taken before the file
												 * changed */
	bool		use_former;		/* the one in the file was refused */

	char		token[ELECTOR_TOKEN_SIZE];	/* "": none */
	uint64_t	number;			/* of the token; 0: there has been none */
	bool		off;			/* etcd has no authentication */
	int64_t		granted_at;
	int64_t		renew_at;
	int64_t		retry_at;		/* no attempt before this */
	int			failures;		/* in a row */
	int64_t		spent_until;	/* the tokens that were refused, at their rate */
	bool		distrusted;		/* what it grants it refuses */

	bool		noted;			/* the operator knows of a problem, ... */
	bool		file_noted;		/* ... one with the file, ... */
	bool		former_noted;	/* ... or that the former password is used */
	char		problem[ELECTOR_PROBLEM_SIZE];	/* why there is no token */
} ElectorAuth;

/* Is it a file that holds a password?  If not, error is a sentence. */
extern bool elector_auth_file_valid(const char *path, char *error, size_t size);

/* user and path may be NULL or "".  Reads nothing yet. */
extern void elector_auth_init(ElectorAuth *auth, const char *user, const char *path);
extern void elector_auth_forget(ElectorAuth *auth);

/* The same user's password is in another file now. */
extern void elector_auth_move(ElectorAuth *auth, const char *path);

/* A token that somebody else was granted, if there is none yet. */
extern void elector_auth_inherit(ElectorAuth *auth, const char *token);

/* Have requests to wait for a token? */
extern bool elector_auth_waits(const ElectorAuth *auth);

/* When to ask for one; -1: not by the clock. */
extern int64_t elector_auth_next(const ElectorAuth *auth);

/* Look at the file, which may be another by now. */
extern void elector_auth_refresh(ElectorAuth *auth, int64_t now, const ElectorNotices *notices);

/* The password to ask with, and whether it is the former one; NULL: none. */
extern const char *elector_auth_password(ElectorAuth *auth, int64_t now, bool *former);

/*
 * What came of asking: a token; the password was refused; etcd has no
 * authentication; there was no answer.
 */
extern void elector_auth_granted(ElectorAuth *auth, int64_t now, const char *token,
								 bool former, const ElectorNotices *notices);
extern void elector_auth_denied(ElectorAuth *auth, int64_t now, bool former,
								const char *endpoint, const ElectorNotices *notices);
extern void elector_auth_absent(ElectorAuth *auth, const ElectorNotices *notices);
extern void elector_auth_failed(ElectorAuth *auth, int64_t now, const char *error);

/* A request was refused for the sake of its token, or for having none (0). */
extern void elector_auth_refused(ElectorAuth *auth, int64_t now, uint64_t number,
								 const ElectorNotices *notices);

#endif							/* ELECTOR_ETCD_AUTH_H */
