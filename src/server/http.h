/*
 * http.h
 *	  The HTTP endpoint: http.c has the connections, answers.c what is said,
 *	  certificate.c the files of TLS.
 */
#ifndef ELECTOR_HTTP_H
#define ELECTOR_HTTP_H

#include "library.h"

/* http.c */
extern bool elector_http_listen_valid(const char *value, char *error, size_t size);

/* answers.c */
typedef struct ElectorHttpAnswer
{
	int			status;
	const char *type;			/* NULL: no body */
	const char *policy;			/* content security policy, or NULL */
	const char *body;			/* lives until the next answer */
	size_t		length;
} ElectorHttpAnswer;

/* lag is the query's parameter of that name, or NULL. */
extern void elector_http_answer(const char *path, const char *lag, ElectorHttpAnswer *answer);

/* certificate.c */
typedef struct ElectorHttpTls
{
	bool		wanted;
	char	   *certificate;	/* both PEM; palloc'd */
	char	   *key;
} ElectorHttpTls;

extern bool elector_http_certificate_valid(const char *path, char *error, size_t size);
extern bool elector_http_key_valid(const char *path, char *error, size_t size);

/* What the two settings name, if it belongs together; else false. */
extern bool elector_http_load_tls(ElectorHttpTls *tls, char *error, size_t size);

#endif							/* ELECTOR_HTTP_H */
