// Digests and HMAC.
#include "cgo_compat.h"
#include <stdio.h>
#include <string.h>
#include <openssl/err.h>
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/provider.h>
#endif

// The names in the order of EVP_MD in digest.go. EVP_SHA is SHA-0, which OpenSSL
// has not had since 1.1.0; DSS and DSS1 were other names of SHA-1.
static const char *const names[] = {NULL, "MD5", "MD4", NULL, "SHA1", "SHA1", "SHA1", "MDC2", "RIPEMD160",
	"SHA224", "SHA256", "SHA384", "SHA512"};
enum { NUMBERS = sizeof names / sizeof names[0], NUMBER_MD4 = 2 };

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
// A digest that was fetched is kept, since a fetch costs more than a short digest.
static EVP_MD *_Atomic fetched[NUMBERS];

// fetch_md4 takes MD4 out of the legacy provider, in a library context of its own,
// so that nothing else in the process can use that provider. Under FIPS there is
// no MD4.
static EVP_MD *fetch_md4(void)
{
	static OSSL_LIB_CTX *_Atomic legacy;
	OSSL_LIB_CTX *lib = legacy, *none = NULL;

	if (EVP_default_properties_is_fips_enabled(NULL))
		return EVP_MD_fetch(NULL, "MD4", NULL);
	if (lib == NULL) {
		lib = OSSL_LIB_CTX_new();
		if (lib == NULL || OSSL_PROVIDER_load(lib, "legacy") == NULL) {
			OSSL_LIB_CTX_free(lib);
			return NULL;
		}
		if (!__atomic_compare_exchange_n((OSSL_LIB_CTX **)&legacy, &none, lib, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
			OSSL_LIB_CTX_free(lib);
			lib = none;
		}
	}
	return EVP_MD_fetch(lib, "MD4", NULL);
}

static const EVP_MD *find(int number)
{
	EVP_MD *md = fetched[number], *none = NULL;

	if (md != NULL)
		return md;
	md = EVP_MD_fetch(NULL, names[number], NULL);
	if (md == NULL && number == NUMBER_MD4) {
		ERR_clear_error();
		md = fetch_md4();
	}
	if (md != NULL && !__atomic_compare_exchange_n((EVP_MD **)&fetched[number], &none, md, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		EVP_MD_free(md);
		md = none;
	}
	return md;
}

// A digest that is forgotten is not freed, since another thread may be using it.
void compat_md_forget(void)
{
	for (int i = 0; i < NUMBERS; i++)
		fetched[i] = NULL;
}
#else
static const EVP_MD *find(int number) { return EVP_get_digestbyname(names[number]); }

void compat_md_forget(void) {}
#endif

const EVP_MD *compat_md(int number, compat_err *err)
{
	const EVP_MD *md;

	ERR_clear_error();
	if (number == 0)
		return EVP_md_null();
	if (number < 0 || number >= NUMBERS || names[number] == NULL) {
		snprintf(err->text, sizeof err->text, "digest number %d does not exist in OpenSSL", number);
		return NULL;
	}
	if ((md = find(number)) == NULL) {
		compat_fail(err);
		if (err->text[0] == 0)
			snprintf(err->text, sizeof err->text, "this OpenSSL has no %s", names[number]);
	}
	return md;
}

int compat_md_nid(const EVP_MD *md) { return EVP_MD_type(md); }

int compat_digest(int number, const unsigned char *data, size_t len, unsigned char *out, compat_err *err)
{
	const EVP_MD *md = compat_md(number, err);

	return md != NULL && (EVP_Digest(data, len, out, NULL, md, NULL) || compat_fail(err));
}

EVP_MD_CTX *compat_digest_new(int number, void *engine, compat_err *err)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	if (ctx == NULL)
		compat_fail(err);
	else if (!compat_digest_reset(ctx, number, engine, err)) {
		EVP_MD_CTX_free(ctx);
		ctx = NULL;
	}
	return ctx;
}

int compat_digest_reset(EVP_MD_CTX *ctx, int number, void *engine, compat_err *err)
{
	const EVP_MD *md = compat_md(number, err);

	return md != NULL && (EVP_DigestInit_ex(ctx, md, engine) || compat_fail(err));
}

int compat_digest_update(EVP_MD_CTX *ctx, const unsigned char *data, size_t len, compat_err *err)
{
	ERR_clear_error();
	return EVP_DigestUpdate(ctx, data, len) || compat_fail(err);
}

int compat_digest_final(EVP_MD_CTX *ctx, unsigned char *out, int number, void *engine, compat_err *err)
{
	ERR_clear_error();
	if (!EVP_DigestFinal_ex(ctx, out, NULL))
		return compat_fail(err);
	return compat_digest_reset(ctx, number, engine, err);
}

compat_hmac *compat_hmac_new(int number, void *engine, const unsigned char *key, size_t len, compat_err *err)
{
	const EVP_MD *md = compat_md(number, err);
	if (md == NULL)
		return NULL;
	compat_hmac *h = OPENSSL_zalloc(sizeof *h);
	EVP_PKEY *pkey = EVP_PKEY_new_raw_private_key(EVP_PKEY_HMAC, NULL, len > 0 ? key : (const unsigned char *)"", len);
	int ok = h != NULL && pkey != NULL && (h->keyed = EVP_MD_CTX_new()) != NULL && (h->ctx = EVP_MD_CTX_new()) != NULL &&
		EVP_DigestSignInit(h->keyed, NULL, md, engine, pkey) > 0 && EVP_MD_CTX_copy_ex(h->ctx, h->keyed) > 0;
	EVP_PKEY_free(pkey);
	if (!ok) {
		compat_fail(err);
		compat_hmac_free(h);
		return NULL;
	}
	h->size = (size_t)EVP_MD_size(md);
	return h;
}

int compat_hmac_reset(compat_hmac *h, compat_err *err)
{
	ERR_clear_error();
	return EVP_MD_CTX_copy_ex(h->ctx, h->keyed) > 0 || compat_fail(err);
}

int compat_hmac_update(compat_hmac *h, const unsigned char *data, size_t len, compat_err *err)
{
	ERR_clear_error();
	return EVP_DigestSignUpdate(h->ctx, data, len) > 0 || compat_fail(err);
}

int compat_hmac_final(compat_hmac *h, unsigned char *out, compat_err *err)
{
	size_t n = h->size;

	ERR_clear_error();
	return (EVP_DigestSignFinal(h->ctx, out, &n) > 0 && EVP_MD_CTX_copy_ex(h->ctx, h->keyed) > 0) || compat_fail(err);
}

void compat_hmac_free(compat_hmac *h)
{
	if (h == NULL)
		return;
	EVP_MD_CTX_free(h->keyed);
	EVP_MD_CTX_free(h->ctx);
	OPENSSL_free(h);
}
