// Keys: reading, writing, generating, signing, key agreement, and DH parameters.
#include "cgo_compat.h"
#include <string.h>
#include <openssl/err.h>
#include <openssl/pem.h>

struct pass {
	const char *text;
	size_t len;
};

// passphrase answers OpenSSL's question for a passphrase. It never prompts.
static int passphrase(char *buf, int size, int rwflag, void *arg)
{
	const struct pass *p = arg;

	(void)rwflag;
	if (p == NULL || p->text == NULL || p->len > (size_t)size)
		return -1;
	memcpy(buf, p->text, p->len);
	return (int)p->len;
}

static BIO *input(const unsigned char *data, size_t len)
{
	ERR_clear_error();
	return len <= INT_MAX ? BIO_new_mem_buf(len > 0 ? (const void *)data : "", (int)len) : NULL;
}

/* Ends the loading of a key from bio, and reports the error if it failed. */
static EVP_PKEY *loaded(BIO *bio, EVP_PKEY *key, compat_err *err)
{
	if (key == NULL)
		compat_fail(err);
	BIO_free(bio);
	return key;
}

EVP_PKEY *compat_key_private_pem(const unsigned char *pem, size_t len, const char *pass, size_t passlen, compat_err *err)
{
	struct pass p = {pass, passlen};
	BIO *bio = input(pem, len);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, passphrase, &p) : NULL;

	return loaded(bio, key, err);
}

EVP_PKEY *compat_key_private_der(const unsigned char *der, size_t len, compat_err *err)
{
	BIO *bio = input(der, len);
	EVP_PKEY *key = bio ? d2i_PrivateKey_bio(bio, NULL) : NULL;

	return loaded(bio, key, err);
}

EVP_PKEY *compat_key_public_pem(const unsigned char *pem, size_t len, compat_err *err)
{
	struct pass none = {NULL, 0};
	BIO *bio = input(pem, len);
	EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, passphrase, &none) : NULL;

	return loaded(bio, key, err);
}

EVP_PKEY *compat_key_public_der(const unsigned char *der, size_t len, compat_err *err)
{
	BIO *bio = input(der, len);
	EVP_PKEY *key = bio ? d2i_PUBKEY_bio(bio, NULL) : NULL;

	return loaded(bio, key, err);
}

static int set_exponent(EVP_PKEY_CTX *ctx, unsigned long exponent)
{
	BIGNUM *e = BN_new();
	int ok = e != NULL && BN_set_word(e, exponent);

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
	ok = ok && EVP_PKEY_CTX_set1_rsa_keygen_pubexp(ctx, e) > 0;
#else
	ok = ok && EVP_PKEY_CTX_set_rsa_keygen_pubexp(ctx, e) > 0;
	if (ok)
		e = NULL; // belongs to ctx
#endif
	BN_free(e);
	return ok;
}

EVP_PKEY *compat_key_rsa(int bits, unsigned long exponent, compat_err *err)
{
	EVP_PKEY *key = NULL;

	ERR_clear_error();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_RSA, NULL);
	if (ctx == NULL || EVP_PKEY_keygen_init(ctx) <= 0 || EVP_PKEY_CTX_set_rsa_keygen_bits(ctx, bits) <= 0 ||
	    !set_exponent(ctx, exponent) || EVP_PKEY_keygen(ctx, &key) <= 0)
		compat_fail(err);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

EVP_PKEY *compat_key_ec(int nid, compat_err *err)
{
	EVP_PKEY *key = NULL;

	ERR_clear_error();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	if (ctx == NULL || EVP_PKEY_keygen_init(ctx) <= 0 || EVP_PKEY_CTX_set_ec_paramgen_curve_nid(ctx, nid) <= 0 ||
	    EVP_PKEY_CTX_set_ec_param_enc(ctx, OPENSSL_EC_NAMED_CURVE) <= 0 || EVP_PKEY_keygen(ctx, &key) <= 0)
		compat_fail(err);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

EVP_PKEY *compat_key_ed25519(compat_err *err)
{
	EVP_PKEY *key = NULL;

	ERR_clear_error();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_ED25519, NULL);
	if (ctx == NULL || EVP_PKEY_keygen_init(ctx) <= 0 || EVP_PKEY_keygen(ctx, &key) <= 0)
		compat_fail(err);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

// write_private writes the form of the key's own type ("RSA PRIVATE KEY", "EC
// PRIVATE KEY"), or PKCS #8 if the type has no form of its own.
static int write_private(BIO *bio, EVP_PKEY *key)
{
	switch (EVP_PKEY_base_id(key)) {
	case EVP_PKEY_RSA:
	case EVP_PKEY_DSA:
	case EVP_PKEY_EC:
		return PEM_write_bio_PrivateKey_traditional(bio, key, NULL, NULL, 0, NULL, NULL);
	}
	return PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
}

int compat_key_write(EVP_PKEY *key, int form, compat_buf *out, compat_err *err)
{
	int ok = 0;

	ERR_clear_error();
	BIO *bio = BIO_new(BIO_s_mem());
	if (bio == NULL)
		return compat_fail(err);
	switch (form) {
	case COMPAT_PRIVATE_PEM: ok = write_private(bio, key); break;
	case COMPAT_PRIVATE_DER: ok = i2d_PrivateKey_bio(bio, key); break;
	case COMPAT_PUBLIC_PEM: ok = PEM_write_bio_PUBKEY(bio, key); break;
	case COMPAT_PUBLIC_DER: ok = i2d_PUBKEY_bio(bio, key); break;
	case COMPAT_PKCS8_PEM: ok = PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL); break;
	case COMPAT_PARAMETERS_PEM: ok = PEM_write_bio_Parameters(bio, key); break;
	}
	ok = compat_take(bio, out) && ok > 0;
	if (!ok) {
		compat_buf_free(out);
		compat_fail(err);
	}
	return ok;
}

int compat_key_id(const EVP_PKEY *key) { return EVP_PKEY_id(key); }

int compat_key_base_id(const EVP_PKEY *key) { return EVP_PKEY_base_id(key); }

int compat_sign(EVP_PKEY *key, const EVP_MD *md, const unsigned char *data, size_t len, compat_buf *sig, compat_err *err)
{
	size_t n = 0;

	ERR_clear_error();
	sig->data = NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, md, NULL, key) > 0 && EVP_DigestSign(ctx, NULL, &n, data, len) > 0 &&
		(sig->data = OPENSSL_malloc(n)) != NULL && EVP_DigestSign(ctx, sig->data, &n, data, len) > 0;
	sig->len = n;
	if (!ok) {
		OPENSSL_free(sig->data);
		sig->data = NULL;
		compat_fail(err);
	}
	EVP_MD_CTX_free(ctx);
	return ok;
}

int compat_verify(EVP_PKEY *key, const EVP_MD *md, const unsigned char *data, size_t len, const unsigned char *sig, size_t siglen, compat_err *err)
{
	ERR_clear_error();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) > 0 && EVP_DigestVerify(ctx, sig, siglen, data, len) == 1;
	if (!ok)
		compat_fail(err);
	EVP_MD_CTX_free(ctx);
	return ok;
}

int compat_derive(EVP_PKEY *key, EVP_PKEY *peer, compat_buf *secret, compat_err *err)
{
	size_t n = 0, size = 0;

	ERR_clear_error();
	secret->data = NULL;
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
	int ok = ctx != NULL && EVP_PKEY_derive_init(ctx) > 0 && EVP_PKEY_derive_set_peer(ctx, peer) > 0 &&
		EVP_PKEY_derive(ctx, NULL, &size) > 0 && (n = size, secret->data = OPENSSL_zalloc(size)) != NULL &&
		EVP_PKEY_derive(ctx, secret->data, &n) > 0;
	secret->len = n;
	if (!ok) {
		OPENSSL_clear_free(secret->data, size);
		secret->data = NULL;
		compat_fail(err);
	}
	EVP_PKEY_CTX_free(ctx);
	return ok;
}

// dh_block reads the next block of DH parameters, and skips others. It returns a BIO with
// that block, without headers: with them, PEM_read_bio_Parameters of 1.1.1 asks on the
// terminal for the password of parameters that are encrypted.
static BIO *dh_block(BIO *in)
{
	char *name = NULL, *header = NULL;
	unsigned char *data = NULL;
	long len;
	BIO *out = NULL;

	while (out == NULL && PEM_read_bio(in, &name, &header, &data, &len)) {
		int dh = strcmp(name, PEM_STRING_DHPARAMS) == 0 || strcmp(name, PEM_STRING_DHXPARAMS) == 0, ok = 1;
		if (dh) {
			struct pass none = {NULL, 0};
			EVP_CIPHER_INFO cipher;
			ok = PEM_get_EVP_CIPHER_INFO(header, &cipher) && PEM_do_header(&cipher, data, &len, passphrase, &none) &&
				(out = BIO_new(BIO_s_mem())) != NULL && PEM_write_bio(out, name, "", data, len) > 0;
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(data);
		if (!ok) {
			BIO_free(out);
			return NULL;
		}
	}
	return out;
}

EVP_PKEY *compat_dh_pem(const unsigned char *pem, size_t len, compat_err *err)
{
	BIO *bio = input(pem, len), *block = bio ? dh_block(bio) : NULL;
	EVP_PKEY *key = block ? PEM_read_bio_Parameters(block, NULL) : NULL;

	if (key == NULL)
		compat_fail(err);
	BIO_free(block);
	BIO_free(bio);
	return key;
}
