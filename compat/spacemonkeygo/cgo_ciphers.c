// Symmetric ciphers, with and without authentication.
#include "cgo_compat.h"
#include <openssl/err.h>

int compat_cipher_nid(const EVP_CIPHER *cipher) { return EVP_CIPHER_nid(cipher); }

int compat_cipher_block(const EVP_CIPHER *cipher) { return EVP_CIPHER_block_size(cipher); }

int compat_cipher_key(const EVP_CIPHER *cipher) { return EVP_CIPHER_key_length(cipher); }

int compat_cipher_iv(const EVP_CIPHER *cipher) { return EVP_CIPHER_iv_length(cipher); }

// The length of the IV is set first if it is not that of the cipher, which only
// some modes allow (GCM).
EVP_CIPHER_CTX *compat_cipher_new(const EVP_CIPHER *cipher, void *engine, int encrypt, const unsigned char *key, const unsigned char *iv,
	size_t ivlen, compat_err *err)
{
	ERR_clear_error();
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int ok = ctx != NULL && EVP_CipherInit_ex(ctx, cipher, engine, NULL, NULL, encrypt) > 0;
	if (ok && ivlen != (size_t)EVP_CIPHER_iv_length(cipher))
		ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, (int)ivlen, NULL) > 0;
	ok = ok && EVP_CipherInit_ex(ctx, NULL, NULL, key, ivlen > 0 ? iv : NULL, encrypt) > 0;
	if (ok)
		return ctx;
	compat_fail(err);
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

int compat_cipher_aad(EVP_CIPHER_CTX *ctx, const unsigned char *data, int len, compat_err *err)
{
	int n;

	ERR_clear_error();
	return EVP_CipherUpdate(ctx, NULL, &n, data, len) > 0 || compat_fail(err);
}

int compat_cipher_update(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outlen, const unsigned char *data, int len, compat_err *err)
{
	ERR_clear_error();
	return EVP_CipherUpdate(ctx, out, outlen, data, len) > 0 || compat_fail(err);
}

int compat_cipher_final(EVP_CIPHER_CTX *ctx, unsigned char *out, int *outlen, compat_err *err)
{
	ERR_clear_error();
	return EVP_CipherFinal_ex(ctx, out, outlen) > 0 || compat_fail(err);
}

int compat_cipher_get_tag(EVP_CIPHER_CTX *ctx, unsigned char *tag, int len, compat_err *err)
{
	ERR_clear_error();
	return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, len, tag) > 0 || compat_fail(err);
}

int compat_cipher_set_tag(EVP_CIPHER_CTX *ctx, const unsigned char *tag, int len, compat_err *err)
{
	ERR_clear_error();
	return EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, len, (void *)tag) > 0 || compat_fail(err);
}
