// Certificates and the names in them.
#include "cgo_compat.h"
#include <string.h>
#include <openssl/err.h>
#include <openssl/pem.h>

static int never(char *buf, int size, int rwflag, void *arg)
{
	(void)buf, (void)size, (void)rwflag, (void)arg;
	return -1;
}

X509 *compat_cert_new(compat_err *err)
{
	ERR_clear_error();
	X509 *cert = X509_new();
	if (cert == NULL)
		compat_fail(err);
	return cert;
}

X509 *compat_cert_pem(const unsigned char *pem, size_t len, compat_err *err)
{
	ERR_clear_error();
	BIO *bio = len <= INT_MAX ? BIO_new_mem_buf(len > 0 ? (const void *)pem : "", (int)len) : NULL;
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, never, NULL) : NULL;
	if (cert == NULL)
		compat_fail(err);
	BIO_free(bio);
	return cert;
}

X509 *compat_cert_der(const unsigned char *der, size_t len, compat_err *err)
{
	const unsigned char *p = der;

	ERR_clear_error();
	X509 *cert = len <= INT_MAX ? d2i_X509(NULL, &p, (long)len) : NULL;
	if (cert == NULL)
		compat_fail(err);
	return cert;
}

int compat_cert_write_pem(X509 *cert, compat_buf *out, compat_err *err)
{
	ERR_clear_error();
	BIO *bio = BIO_new(BIO_s_mem());
	if (bio == NULL)
		return compat_fail(err);
	int ok = PEM_write_bio_X509(bio, cert);
	ok = compat_take(bio, out) && ok > 0;
	if (!ok) {
		compat_buf_free(out);
		compat_fail(err);
	}
	return ok;
}

int compat_cert_set_serial(X509 *cert, const unsigned char *magnitude, size_t len, int negative, compat_err *err)
{
	ERR_clear_error();
	BIGNUM *n = BN_bin2bn(magnitude, (int)len, NULL);
	if (n != NULL)
		BN_set_negative(n, negative);
	ASN1_INTEGER *serial = n != NULL ? BN_to_ASN1_INTEGER(n, NULL) : NULL;
	int ok = serial != NULL && X509_set_serialNumber(cert, serial);
	if (!ok)
		compat_fail(err);
	ASN1_INTEGER_free(serial);
	BN_free(n);
	return ok;
}

int compat_cert_serial_hex(X509 *cert, compat_buf *out, compat_err *err)
{
	ERR_clear_error();
	BIGNUM *n = ASN1_INTEGER_to_BN(X509_get0_serialNumber(cert), NULL);
	char *hex = n != NULL ? BN_bn2hex(n) : NULL;
	BN_free(n);
	if (hex == NULL)
		return compat_fail(err);
	out->data = (unsigned char *)hex;
	out->len = strlen(hex);
	return 1;
}

int compat_cert_set_time(X509 *cert, int not_after, long seconds, compat_err *err)
{
	ERR_clear_error();
	return X509_gmtime_adj(not_after ? X509_getm_notAfter(cert) : X509_getm_notBefore(cert), seconds) != NULL || compat_fail(err);
}

int compat_cert_set_key(X509 *cert, EVP_PKEY *key, compat_err *err)
{
	ERR_clear_error();
	return X509_set_pubkey(cert, key) || compat_fail(err);
}

int compat_cert_set_name(X509 *cert, int issuer, X509_NAME *name, compat_err *err)
{
	ERR_clear_error();
	return (issuer ? X509_set_issuer_name(cert, name) : X509_set_subject_name(cert, name)) || compat_fail(err);
}

X509_NAME *compat_cert_name(X509 *cert, int issuer, compat_err *err)
{
	ERR_clear_error();
	X509_NAME *name = X509_NAME_dup((X509_NAME *)(issuer ? X509_get_issuer_name(cert) : X509_get_subject_name(cert)));
	if (name == NULL)
		compat_fail(err);
	return name;
}

int compat_cert_set_version(X509 *cert, long version, compat_err *err)
{
	ERR_clear_error();
	return X509_set_version(cert, version) || compat_fail(err);
}

int compat_cert_add_extension(X509 *cert, X509 *issuer, int nid, const char *value, compat_err *err)
{
	X509V3_CTX ctx;

	ERR_clear_error();
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509V3_set_ctx_nodb(&ctx);
	X509_EXTENSION *ext = X509V3_EXT_nconf_nid(NULL, &ctx, nid, value);
	int ok = ext != NULL && X509_add_ext(cert, ext, -1);
	if (!ok)
		compat_fail(err);
	X509_EXTENSION_free(ext);
	return ok;
}

int compat_cert_sign(X509 *cert, EVP_PKEY *key, const EVP_MD *md, compat_err *err)
{
	ERR_clear_error();
	return X509_sign(cert, key, md) > 0 || compat_fail(err);
}

int compat_cert_matches(X509 *cert, EVP_PKEY *key, compat_err *err)
{
	ERR_clear_error();
	return X509_check_private_key(cert, key) || compat_fail(err);
}

EVP_PKEY *compat_cert_key(X509 *cert, compat_err *err)
{
	ERR_clear_error();
	EVP_PKEY *key = X509_get_pubkey(cert);
	if (key == NULL)
		compat_fail(err);
	return key;
}

int compat_cert_check(X509 *cert, int kind, const unsigned char *name, size_t len, unsigned flags, compat_err *err)
{
	int found;

	ERR_clear_error();
	switch (kind) {
	case COMPAT_HOST: found = X509_check_host(cert, (const char *)name, len, flags, NULL); break;
	case COMPAT_EMAIL: found = X509_check_email(cert, (const char *)name, len, flags); break;
	default: found = X509_check_ip(cert, name, len, flags); break;
	}
	if (found < 0)
		compat_fail(err);
	return found > 0 ? 1 : found < 0 ? -1 : 0;
}

X509_NAME *compat_name_new(compat_err *err)
{
	ERR_clear_error();
	X509_NAME *name = X509_NAME_new();
	if (name == NULL)
		compat_fail(err);
	return name;
}

int compat_name_add(X509_NAME *name, const char *field, const unsigned char *value, int len, compat_err *err)
{
	ERR_clear_error();
	return X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, value, len, -1, 0) || compat_fail(err);
}

int compat_name_entry(X509_NAME *name, int nid, compat_buf *out, compat_err *err)
{
	ERR_clear_error();
	int i = X509_NAME_get_index_by_NID(name, nid, -1);
	if (i < 0)
		return 0;
	int n = ASN1_STRING_to_UTF8(&out->data, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, i)));
	if (n < 0) {
		compat_fail(err);
		return -1;
	}
	out->len = (size_t)n;
	return 1;
}
