/*
 * certificate.c
 *	  The certificate and the key of the HTTP endpoint: read, and found to be such.
 *
 * libmicrohttpd takes both as text and says little when they do not fit, so they are
 * looked at here, with the library that it uses itself.
 *
 * The trap: a file that was good when it was set may be gone at the next start.  That
 * must not keep a server from starting; its endpoint does not listen then, and never
 * without TLS (http.c).
 */
#include "http.h"

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sys/stat.h>
#include <unistd.h>

/* A chain of certificates has some kilobytes. */
#define FILE_MAX (1024 * 1024)

#define CHAIN_MAX 16

/* NULL, and why in errno, if it cannot be read. */
static char *
read_text(const char *path, struct stat *about)
{
	int			fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char	   *text = NULL;
	ssize_t		got;

	if (fd < 0)
		return NULL;
	if (fstat(fd, about) == 0)
	{
		if (!S_ISREG(about->st_mode) || about->st_size > FILE_MAX)
			errno = EINVAL;
		else
		{
			text = palloc(about->st_size + 1);
			got = read(fd, text, about->st_size);
			text[Max(got, 0)] = '\0';
		}
	}
	close(fd);
	return text;
}

/* Without its full stop. */
static const char *
explain(int result)
{
	char	   *text = pstrdup(gnutls_strerror(result));
	size_t		length = strlen(text);

	if (length > 0 && text[length - 1] == '.')
		text[length - 1] = '\0';
	return text;
}

static gnutls_datum_t
datum(char *text)
{
	gnutls_datum_t result = {(unsigned char *) text, (unsigned int) strlen(text)};

	return result;
}

static bool
check_certificate(char *text, char *error, size_t size)
{
	gnutls_x509_crt_t chain[CHAIN_MAX];
	unsigned int count = CHAIN_MAX;
	gnutls_datum_t data = datum(text);
	int			result = gnutls_x509_crt_list_import(chain, &count, &data, GNUTLS_X509_FMT_PEM, 0);

	if (result < 0)
	{
		snprintf(error, size, "it holds no certificate in PEM format: %s", explain(result));
		return false;
	}
	for (int i = 0; i < result; i++)
		gnutls_x509_crt_deinit(chain[i]);
	return true;
}

static bool
check_key(char *text, char *error, size_t size)
{
	gnutls_x509_privkey_t key;
	gnutls_datum_t data = datum(text);
	int			result = gnutls_x509_privkey_init(&key);

	if (result >= 0)
	{
		result = gnutls_x509_privkey_import2(key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
		gnutls_x509_privkey_deinit(key);
	}
	if (result < 0)
		snprintf(error, size, "it holds no private key in PEM format without a passphrase: %s",
				 explain(result));
	return result >= 0;
}

/* The same rule as for ssl_key_file. */
static bool
check_permissions(const struct stat *about, char *error, size_t size)
{
	if ((about->st_uid == geteuid() && (about->st_mode & (S_IRWXG | S_IRWXO)) == 0) ||
		(about->st_uid == 0 && (about->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) == 0))
		return true;
	snprintf(error, size, "others may read it; it must have permissions 0600 if the server's user owns it, or 0640 if root does");
	return false;
}

static char *
load_certificate(const char *path, char *error, size_t size)
{
	struct stat about;
	char	   *text = read_text(path, &about);

	if (text == NULL)
		snprintf(error, size, "could not read file \"%s\": %s", path, strerror(errno));
	return text != NULL && check_certificate(text, error, size) ? text : NULL;
}

static char *
load_key(const char *path, char *error, size_t size)
{
	struct stat about;
	char	   *text = read_text(path, &about);

	if (text == NULL)
		snprintf(error, size, "could not read file \"%s\": %s", path, strerror(errno));
	return text != NULL && check_permissions(&about, error, size) &&
		check_key(text, error, size) ? text : NULL;
}

bool
elector_http_certificate_valid(const char *path, char *error, size_t size)
{
	return path[0] == '\0' || load_certificate(path, error, size) != NULL;
}

bool
elector_http_key_valid(const char *path, char *error, size_t size)
{
	return path[0] == '\0' || load_key(path, error, size) != NULL;
}

/* Does the key belong to the certificate? */
static bool
check_pair(const ElectorHttpTls *tls, char *error, size_t size)
{
	gnutls_certificate_credentials_t credentials;
	gnutls_datum_t certificate = datum(tls->certificate);
	gnutls_datum_t key = datum(tls->key);
	int			result = gnutls_certificate_allocate_credentials(&credentials);

	if (result >= 0)
	{
		result = gnutls_certificate_set_x509_key_mem(credentials, &certificate, &key,
													 GNUTLS_X509_FMT_PEM);
		gnutls_certificate_free_credentials(credentials);
	}
	if (result < 0)
		snprintf(error, size, "certificate and key do not belong together: %s",
				 explain(result));
	return result >= 0;
}

bool
elector_http_load_tls(ElectorHttpTls *tls, char *error, size_t size)
{
	memset(tls, 0, sizeof(*tls));
	tls->wanted = elector_http_cert_file[0] != '\0' || elector_http_key_file[0] != '\0';
	if (!tls->wanted)
		return true;
	if (elector_http_cert_file[0] == '\0' || elector_http_key_file[0] == '\0')
	{
		snprintf(error, size, "only one of pg_elector.http_cert_file and pg_elector.http_key_file is set");
		return false;
	}
	tls->certificate = load_certificate(elector_http_cert_file, error, size);
	if (tls->certificate == NULL)
		return false;
	tls->key = load_key(elector_http_key_file, error, size);
	return tls->key != NULL && check_pair(tls, error, size);
}
