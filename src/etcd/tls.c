/*
 * tls.c
 *	  Certificates for the way to etcd: reading them, using them, and saying what
 *	  is wrong with one.
 *
 * The files are read and checked here and handed to libcurl as they were read,
 * so that a file that is being replaced is never used half: a certificate and a
 * key that do not belong together, or are no longer readable, leave those in use
 * that were read before.  New ones are for new connections; what is connected
 * stays so, as etcd looks at a certificate only once.
 *
 * A failed handshake is explained from what libcurl and its TLS library say.
 * Where that is not understood it is shown as it is.  In TLS 1.3 a server looks at
 * the client's certificate when the client believes the handshake over; then the
 * server's reason is lost if the request is sent before it comes.  Such a failure
 * is unclear, and the next try uses TLS 1.2, where the reason comes first.
 *
 * The one trap: OpenSSL asks on the terminal for the passphrase of a key, and
 * waits.  A key that needs one is refused before libcurl sees it.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

/* How often the files are looked at, while requests are made. */
#define LOOK_INTERVAL		1000000

/* Two files are not replaced at one instant: for so long they may not match. */
#define REPLACING			3000000

/* ----------
 * What is in a file
 * ----------
 */

/* Asked for a passphrase: there is none. */
static int
no_passphrase(char *buffer, int size, int writing, void *asked)
{
	(void) buffer;
	(void) size;
	(void) writing;
	*(bool *) asked = true;
	return -1;
}

/* Certificates in the text; -1: one of them is malformed. */
static int
count_certificates(const char *text, size_t length)
{
	BIO		   *bio = BIO_new_mem_buf(text, (int) length);
	X509	   *certificate;
	int			count = 0;

	if (bio == NULL)
		return -1;
	while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
	{
		X509_free(certificate);
		count++;
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		count = -1;
	ERR_clear_error();
	BIO_free(bio);
	return count;
}

static X509 *
first_certificate(const char *text, size_t length)
{
	BIO		   *bio = BIO_new_mem_buf(text, (int) length);
	X509	   *certificate = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);

	ERR_clear_error();
	BIO_free(bio);
	return certificate;
}

static EVP_PKEY *
read_key(const char *text, size_t length, bool *protected)
{
	BIO		   *bio = BIO_new_mem_buf(text, (int) length);
	EVP_PKEY   *key;

	*protected = false;
	key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, protected);
	ERR_clear_error();
	BIO_free(bio);
	return key;
}

static bool
check_certificates(const ElectorTlsFile *file, char *error, size_t size)
{
	int			count = count_certificates(file->text, file->length);

	if (count > 0)
		return true;
	snprintf(error, size, count == 0 ? "there is no PEM certificate in file \"%s\"" :
			 "a certificate in file \"%s\" is malformed", file->path);
	return false;
}

static bool
check_key(const ElectorTlsFile *file, char *error, size_t size)
{
	bool		protected;
	EVP_PKEY   *key = read_key(file->text, file->length, &protected);

	EVP_PKEY_free(key);
	if (key != NULL)
		return true;
	snprintf(error, size, protected ?
			 "the key in file \"%s\" is protected by a passphrase, which nobody is there to enter" :
			 "there is no PEM private key in file \"%s\"", file->path);
	return false;
}

static bool
check_pair(const ElectorTlsFile *cert, const ElectorTlsFile *key, char *error, size_t size)
{
	bool		protected;
	X509	   *x509 = first_certificate(cert->text, cert->length);
	EVP_PKEY   *pkey = read_key(key->text, key->length, &protected);
	bool		match = x509 != NULL && pkey != NULL && X509_check_private_key(x509, pkey) == 1;

	ERR_clear_error();
	X509_free(x509);
	EVP_PKEY_free(pkey);
	if (!match)
		snprintf(error, size, "the certificate in file \"%s\" and the key in file \"%s\" do not belong together",
				 cert->path, key->path);
	return match;
}

/* ----------
 * Files
 * ----------
 */

static void
forget_file(ElectorTlsFile *file)
{
	elector_file_forget(file->text);
	file->text = NULL;
	file->length = 0;
}

/* Read and check one file; none is fine. */
static bool
read_file(ElectorTlsFile *file, bool key, char *error, size_t size)
{
	if (file->path[0] == '\0')
		return true;
	file->stamp = elector_file_stamp(file->path);
	file->text = elector_file_read(file->path, key, &file->length, error, size);
	if (file->text == NULL)
		return false;
	return key ? check_key(file, error, size) : check_certificates(file, error, size);
}

static bool
file_valid(const char *path, bool key, char *error, size_t size)
{
	ElectorTlsFile file = {.text = NULL};
	bool		valid;

	snprintf(file.path, sizeof(file.path), "%s", path);
	valid = read_file(&file, key, error, size);
	forget_file(&file);
	return valid;
}

bool
elector_tls_certificates_valid(const char *path, char *error, size_t size)
{
	return file_valid(path, false, error, size);
}

bool
elector_tls_key_valid(const char *path, char *error, size_t size)
{
	return file_valid(path, true, error, size);
}

/* Everything anew, or nothing. */
static bool
load(ElectorTls *tls, char *error, size_t size)
{
	if (!read_file(&tls->ca, false, error, size) ||
		!read_file(&tls->cert, false, error, size) ||
		!read_file(&tls->key, true, error, size))
		return false;
	if ((tls->cert.text == NULL) != (tls->key.text == NULL))
	{
		snprintf(error, size, tls->cert.text == NULL ? "there is a key, but no certificate for it" :
				 "there is a certificate, but no key for it");
		return false;
	}
	return tls->cert.text == NULL || check_pair(&tls->cert, &tls->key, error, size);
}

bool
elector_tls_pair_valid(const char *cert, const char *key, char *error, size_t size)
{
	ElectorTls	tls;
	bool		valid;

	elector_tls_init(&tls, NULL, cert, key);
	valid = load(&tls, error, size);
	elector_tls_forget(&tls);
	return valid;
}

void
elector_tls_init(ElectorTls *tls, const char *ca, const char *cert, const char *key)
{
	memset(tls, 0, sizeof(*tls));
	snprintf(tls->ca.path, sizeof(tls->ca.path), "%s", ca != NULL ? ca : "");
	snprintf(tls->cert.path, sizeof(tls->cert.path), "%s", cert != NULL ? cert : "");
	snprintf(tls->key.path, sizeof(tls->key.path), "%s", key != NULL ? key : "");
}

void
elector_tls_forget(ElectorTls *tls)
{
	forget_file(&tls->ca);
	forget_file(&tls->cert);
	forget_file(&tls->key);
	tls->loaded = false;
}

static void
move_file(ElectorTlsFile *file, const char *path)
{
	snprintf(file->path, sizeof(file->path), "%s", path != NULL ? path : "");
	memset(&file->stamp, 0, sizeof(file->stamp));
}

void
elector_tls_move(ElectorTls *tls, const char *ca, const char *cert, const char *key)
{
	move_file(&tls->ca, ca);
	move_file(&tls->cert, cert);
	move_file(&tls->key, key);
	tls->look_at = 0;
}

static bool
has_changed(const ElectorTlsFile *file)
{
	ElectorFileStamp stamp;

	if (file->path[0] == '\0')
		return file->text != NULL;
	stamp = elector_file_stamp(file->path);
	return !elector_file_same(&stamp, &file->stamp);
}

static void
note_expiry(const ElectorTls *tls, const ElectorNotices *notices)
{
	X509	   *certificate;

	if (tls->cert.text == NULL)
		return;
	certificate = first_certificate(tls->cert.text, tls->cert.length);
	if (certificate != NULL && X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
		elector_notice(notices, true, "Replace it; it is read anew without a restart.",
					   "the certificate in file \"%s\" has expired", tls->cert.path);
	X509_free(certificate);
}

/* The files cannot be used as they are. */
static void
note_problem(ElectorTls *tls, int64_t now, const ElectorNotices *notices)
{
	if (tls->bad_since == 0)
		tls->bad_since = now;
	if (tls->noticed || (tls->loaded && now < tls->bad_since + REPLACING))
		return;
	tls->noticed = true;
	elector_notice(notices, true, tls->loaded ?
				   "What was read before stays in use." :
				   "Correct the file or the setting; it is read anew without a restart.",
				   "%s", tls->problem);
}

bool
elector_tls_refresh(ElectorTls *tls, int64_t now, const ElectorNotices *notices)
{
	ElectorTls	fresh;

	if (now < tls->look_at)
		return tls->loaded;
	tls->look_at = now + LOOK_INTERVAL;
	if (tls->loaded && !has_changed(&tls->ca) && !has_changed(&tls->cert) &&
		!has_changed(&tls->key))
	{
		tls->bad_since = 0;
		tls->noticed = false;
		tls->problem[0] = '\0';
		return true;
	}

	elector_tls_init(&fresh, tls->ca.path, tls->cert.path, tls->key.path);
	if (!load(&fresh, tls->problem, sizeof(tls->problem)))
	{
		elector_tls_forget(&fresh);
		note_problem(tls, now, notices);
		return tls->loaded;
	}
	if (tls->loaded || tls->noticed)
		elector_notice(notices, false, "", "the certificates for etcd were read anew");
	elector_tls_forget(tls);
	fresh.loaded = true;
	fresh.look_at = tls->look_at;
	*tls = fresh;
	note_expiry(tls, notices);
	return true;
}

/* ----------
 * Transfers
 * ----------
 */

static CURLcode
set_blob(CURL *easy, CURLoption option, const ElectorTlsFile *file)
{
	struct curl_blob blob = {.data = file->text,.len = file->length,.flags = CURL_BLOB_COPY};

	return curl_easy_setopt(easy, option, &blob);
}

/* Without a CA file it is libcurl's, that is, the system's; with one it is alone. */
bool
elector_tls_apply(const ElectorTls *tls, CURL *easy, bool early)
{
	long		versions = CURL_SSLVERSION_TLSv1_2;

	if (early)
		versions |= CURL_SSLVERSION_MAX_TLSv1_2;
	if (curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L) != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L) != CURLE_OK ||
		curl_easy_setopt(easy, CURLOPT_SSLVERSION, versions) != CURLE_OK)
		return false;
	if (tls->ca.text != NULL)
	{
		if (curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) != CURLE_OK)
			return false;
#if LIBCURL_VERSION_NUM >= 0x074d00
		if (set_blob(easy, CURLOPT_CAINFO_BLOB, &tls->ca) != CURLE_OK)
			return false;
#else
		if (curl_easy_setopt(easy, CURLOPT_CAINFO, tls->ca.path) != CURLE_OK)
			return false;
#endif
	}
	return tls->cert.text == NULL ||
		(set_blob(easy, CURLOPT_SSLCERT_BLOB, &tls->cert) == CURLE_OK &&
		 set_blob(easy, CURLOPT_SSLKEY_BLOB, &tls->key) == CURLE_OK);
}

/* What the server tells in an alert about our certificate. */
static const struct
{
	const char *said;
	const char *verb;
	const char *behind;
}			alerts[] = {
	{"alert certificate expired", "finds", " expired"},
	{"alert certificate revoked", "finds", " revoked"},
	{"alert unknown ca", "does not know the CA of", ""},
	{"alert bad certificate", "does not accept", ""},
	{"alert certificate required", "does not accept", ""},
	{"alert certificate unknown", "does not accept", ""},
	{"alert unsupported certificate", "does not accept", ""},
	{"alert access denied", "does not accept", ""},
	{"alert handshake failure", "does not accept", ""}
};

static bool
explain_alert(const ElectorTls *tls, const char *said, char *text, size_t size, const char **hint)
{
	for (size_t i = 0; i < sizeof(alerts) / sizeof(alerts[0]); i++)
	{
		if (strstr(said, alerts[i].said) == NULL)
			continue;
		if (tls->cert.text == NULL)
		{
			snprintf(text, size, "the server wants a client certificate");
			*hint = "Set pg_elector.etcd_cert_file and pg_elector.etcd_key_file.";
		}
		else
		{
			snprintf(text, size, "the server %s the client certificate in file \"%s\"%s",
					 alerts[i].verb, tls->cert.path, alerts[i].behind);
			*hint = "It must be signed by a CA in etcd's --trusted-ca-file, be valid now, and be meant for clients.";
		}
		return true;
	}
	return false;
}

static void
explain_peer(const ElectorTls *tls, const char *said, char *text, size_t size, const char **hint)
{
	*hint = "";
	if (strstr(said, "has expired") != NULL)
	{
		snprintf(text, size, "the server's certificate has expired");
		*hint = "Replace etcd's certificate, or set the clock right.";
	}
	else if (strstr(said, "not yet valid") != NULL)
	{
		snprintf(text, size, "the server's certificate is not valid yet");
		*hint = "Set the clocks right.";
	}
	else if (strstr(said, "name") != NULL && strstr(said, "match") != NULL)
	{
		snprintf(text, size, "the server's certificate is for another name");
		*hint = "The host name or address in pg_elector.etcd must be among the certificate's subject alternative names.";
	}
	else if (tls->ca.text != NULL)
	{
		snprintf(text, size, "the server's certificate is not signed by a CA in file \"%s\"",
				 tls->ca.path);
		*hint = "Put the CA that signs etcd's certificates into the file that pg_elector.etcd_ca_file names.";
	}
	else
	{
		snprintf(text, size, "the server's certificate is not signed by a CA that this system trusts");
		*hint = "Set pg_elector.etcd_ca_file.";
	}
}

/* A server that dies does so, too. */
static bool
was_cut(const char *said)
{
	return strstr(said, "SSL_ERROR_SYSCALL") != NULL || strstr(said, "eof") != NULL ||
		strstr(said, "reset") != NULL;
}

/* Ended by the other side before a byte came back on a new connection? */
static bool
was_turned_away(CURL *easy, CURLcode code)
{
	long		connects = 0;
	long		header_bytes = 0;

	curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects);
	curl_easy_getinfo(easy, CURLINFO_HEADER_SIZE, &header_bytes);
	return connects > 0 && header_bytes == 0 &&
		(code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING);
}

bool
elector_tls_explain(const ElectorTls *tls, CURL *easy, CURLcode code, const char *said,
					char *text, size_t size, const char **hint, bool *unclear)
{
	*hint = "";
	*unclear = false;
	text[0] = '\0';
	if (explain_alert(tls, said, text, size, hint))
		return true;
	if (code == CURLE_PEER_FAILED_VERIFICATION)
	{
		explain_peer(tls, said, text, size, hint);
		return true;
	}
	if (code == CURLE_SSL_CONNECT_ERROR && was_cut(said))
	{
		snprintf(text, size, "the server ended the TLS handshake; if it does not use TLS, its endpoint begins with \"http://\"");
		return false;
	}
	if (code == CURLE_SSL_CONNECT_ERROR && strstr(said, "protocol") != NULL)
		return false;			/* it does not speak TLS 1.2 */
	if (code == CURLE_SSL_CONNECT_ERROR)
	{
		snprintf(text, size, "no TLS connection: %s", said);
		*hint = "If that etcd does not use TLS, its endpoint begins with \"http://\".";
		return true;
	}
	if (code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_CACERT_BADFILE)
	{
		snprintf(text, size, "the certificates cannot be used: %s", said);
		return true;
	}
	if (was_turned_away(easy, code))
	{
		snprintf(text, size, "the server ended the connection after the TLS handshake: %s",
				 said);
		*unclear = true;
	}
	return false;
}
