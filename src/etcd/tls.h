/*
 * tls.h
 *	  Certificates for the way to etcd; see tls.c.
 */
#ifndef ELECTOR_ETCD_TLS_H
#define ELECTOR_ETCD_TLS_H

#include <curl/curl.h>

#include "file.h"
#include "notice.h"

typedef struct ElectorTlsFile
{
	char		path[ELECTOR_PATH_SIZE];	/* "": none */
	ElectorFileStamp stamp;		/* of what is in use */
	char	   *text;			/* NULL: nothing */
	size_t		length;
} ElectorTlsFile;

typedef struct ElectorTls
{
	ElectorTlsFile ca;
	ElectorTlsFile cert;
	ElectorTlsFile key;
	bool		loaded;
	int64_t		look_at;		/* not looked at the files before this */
	int64_t		bad_since;		/* 0: they are as they should be */
	bool		noticed;		/* and it was told */
	char		problem[ELECTOR_PROBLEM_SIZE];	/* with the files; "" if none */
} ElectorTls;

/*
 * Is it a file of CA certificates; of a certificate; of a key; do those two
 * belong together?  For checking settings.  If not, error is a sentence.
 */
extern bool elector_tls_certificates_valid(const char *path, char *error, size_t size);
extern bool elector_tls_key_valid(const char *path, char *error, size_t size);
extern bool elector_tls_pair_valid(const char *cert, const char *key, char *error, size_t size);

/* Paths may be NULL or "".  Reads nothing yet. */
extern void elector_tls_init(ElectorTls *tls, const char *ca, const char *cert,
							 const char *key);

/* Other paths; what was read from the former ones serves until these are usable. */
extern void elector_tls_move(ElectorTls *tls, const char *ca, const char *cert,
							 const char *key);
extern void elector_tls_forget(ElectorTls *tls);

/* Read anew what has changed.  False if there is nothing to use; see problem. */
extern bool elector_tls_refresh(ElectorTls *tls, int64_t now, const ElectorNotices *notices);

/* For a new transfer.  early: such that a certificate is refused before the request. */
extern bool elector_tls_apply(const ElectorTls *tls, CURL *easy, bool early);

/*
 * Why a transfer to an https:// endpoint failed: text is a sentence, or "" where
 * what libcurl said is all.  True if TLS itself failed, which lasts until somebody
 * changes something.  *unclear: the reason may have been lost.
 */
extern bool elector_tls_explain(const ElectorTls *tls, CURL *easy, CURLcode code,
								const char *said, char *text, size_t size,
								const char **hint, bool *unclear);

#endif							/* ELECTOR_ETCD_TLS_H */
