// What Go sees of OpenSSL. Each function is one operation: it clears OpenSSL's
// error queue, does its work, and on failure puts the text of the queue into err.
// A function that returns int returns 1 on success and 0 on failure, unless its
// comment says otherwise. No function calls Go or keeps a pointer to Go memory.
#ifndef COMPAT_H
#define COMPAT_H

#include <stddef.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/dh.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#if OPENSSL_VERSION_NUMBER < 0x10101000L
#error "OpenSSL 1.1.1 or later is needed"
#endif

typedef struct compat_err {
	char text[512];
} compat_err;

// compat_buf is memory of OpenSSL's allocator. compat_buf_free overwrites it.
typedef struct compat_buf {
	unsigned char *data;
	size_t len;
} compat_buf;

// cgo_errors.c
int compat_fail(compat_err *err); // fills err from the queue; always returns 0
int compat_take(BIO *bio, compat_buf *out); // copies what a memory BIO holds, and frees the BIO
void compat_buf_free(compat_buf *buf);

// cgo_keys.c
EVP_PKEY *compat_key_private_pem(const unsigned char *pem, size_t len, const char *pass, size_t passlen, compat_err *err);
EVP_PKEY *compat_key_private_der(const unsigned char *der, size_t len, compat_err *err);
EVP_PKEY *compat_key_public_pem(const unsigned char *pem, size_t len, compat_err *err);
EVP_PKEY *compat_key_public_der(const unsigned char *der, size_t len, compat_err *err);
EVP_PKEY *compat_key_rsa(int bits, unsigned long exponent, compat_err *err);
EVP_PKEY *compat_key_ec(int nid, compat_err *err);
EVP_PKEY *compat_key_ed25519(compat_err *err);
enum { COMPAT_PRIVATE_PEM, COMPAT_PRIVATE_DER, COMPAT_PUBLIC_PEM, COMPAT_PUBLIC_DER, COMPAT_PKCS8_PEM, COMPAT_PARAMETERS_PEM };
int compat_key_write(EVP_PKEY *key, int form, compat_buf *out, compat_err *err);
int compat_key_id(const EVP_PKEY *key);
int compat_key_base_id(const EVP_PKEY *key);
int compat_sign(EVP_PKEY *key, const EVP_MD *md, const unsigned char *data, size_t len, compat_buf *sig, compat_err *err);
int compat_verify(EVP_PKEY *key, const EVP_MD *md, const unsigned char *data, size_t len, const unsigned char *sig, size_t siglen, compat_err *err);
int compat_derive(EVP_PKEY *key, EVP_PKEY *peer, compat_buf *secret, compat_err *err);
EVP_PKEY *compat_dh_pem(const unsigned char *pem, size_t len, compat_err *err);

// cgo_certs.c
X509 *compat_cert_new(compat_err *err);
X509 *compat_cert_pem(const unsigned char *pem, size_t len, compat_err *err);
X509 *compat_cert_der(const unsigned char *der, size_t len, compat_err *err);
int compat_cert_write_pem(X509 *cert, compat_buf *out, compat_err *err);
int compat_cert_set_serial(X509 *cert, const unsigned char *magnitude, size_t len, int negative, compat_err *err);
int compat_cert_serial_hex(X509 *cert, compat_buf *out, compat_err *err);
int compat_cert_set_time(X509 *cert, int not_after, long seconds, compat_err *err);
int compat_cert_set_key(X509 *cert, EVP_PKEY *key, compat_err *err);
int compat_cert_set_name(X509 *cert, int issuer, X509_NAME *name, compat_err *err);
X509_NAME *compat_cert_name(X509 *cert, int issuer, compat_err *err);
int compat_cert_set_version(X509 *cert, long version, compat_err *err);
int compat_cert_add_extension(X509 *cert, X509 *issuer, int nid, const char *value, compat_err *err);
int compat_cert_sign(X509 *cert, EVP_PKEY *key, const EVP_MD *md, compat_err *err);
int compat_cert_matches(X509 *cert, EVP_PKEY *key, compat_err *err);
EVP_PKEY *compat_cert_key(X509 *cert, compat_err *err);
enum { COMPAT_HOST, COMPAT_EMAIL, COMPAT_IP };
// compat_cert_check returns 1 if the certificate has the name, 0 if it has not,
// and -1 after an error.
int compat_cert_check(X509 *cert, int kind, const unsigned char *name, size_t len, unsigned flags, compat_err *err);
X509_NAME *compat_name_new(compat_err *err);
int compat_name_add(X509_NAME *name, const char *field, const unsigned char *value, int len, compat_err *err);
// compat_name_entry returns 1, or 0 if the name has no entry of this kind, or -1 after an error.
int compat_name_entry(X509_NAME *name, int nid, compat_buf *out, compat_err *err);

// cgo_digests.c. The numbers of digests are those of EVP_MD in digest.go.
const EVP_MD *compat_md(int number, compat_err *err); // lives as long as the process
void compat_md_forget(void);                          // the next compat_md asks OpenSSL again
int compat_md_nid(const EVP_MD *md);
int compat_digest(int number, const unsigned char *data, size_t len, unsigned char *out, compat_err *err);
EVP_MD_CTX *compat_digest_new(int number, void *engine, compat_err *err);
int compat_digest_reset(EVP_MD_CTX *ctx, int number, void *engine, compat_err *err);
int compat_digest_update(EVP_MD_CTX *ctx, const unsigned char *data, size_t len, compat_err *err);
int compat_digest_final(EVP_MD_CTX *ctx, unsigned char *out, int number, void *engine, compat_err *err); // ends with a reset
typedef struct compat_hmac {
	EVP_MD_CTX *keyed, *ctx; // keyed has the key and no data
	size_t size;
} compat_hmac;
compat_hmac *compat_hmac_new(int number, void *engine, const unsigned char *key, size_t len, compat_err *err);
int compat_hmac_reset(compat_hmac *h, compat_err *err);
int compat_hmac_update(compat_hmac *h, const unsigned char *data, size_t len, compat_err *err);
int compat_hmac_final(compat_hmac *h, unsigned char *out, compat_err *err); // ends with a reset
void compat_hmac_free(compat_hmac *h);

// cgo_ciphers.c
int compat_cipher_nid(const EVP_CIPHER *cipher);
int compat_cipher_block(const EVP_CIPHER *cipher);
int compat_cipher_key(const EVP_CIPHER *cipher);
int compat_cipher_iv(const EVP_CIPHER *cipher);
EVP_CIPHER_CTX *compat_cipher_new(const EVP_CIPHER *cipher, void *engine, int encrypt, const unsigned char *key, const unsigned char *iv,
	size_t ivlen, compat_err *err);
int compat_cipher_aad(EVP_CIPHER_CTX *ctx, const unsigned char *data, int len, compat_err *err);
int compat_cipher_update(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outlen, const unsigned char *data, int len, compat_err *err);
int compat_cipher_final(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outlen, compat_err *err);
int compat_cipher_get_tag(EVP_CIPHER_CTX *ctx, unsigned char *tag, int len, compat_err *err);
int compat_cipher_set_tag(EVP_CIPHER_CTX *ctx, const unsigned char *tag, int len, compat_err *err);

// cgo_engine.c
int compat_has_engines(void);
void *compat_engine(const char *id, compat_err *err);
void compat_engine_free(void *engine);
int compat_fips_set(int on, compat_err *err);

#endif
