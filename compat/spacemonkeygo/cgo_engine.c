// Engines and the FIPS mode of the process. OpenSSL 3 deprecates engines and 4.0
// does not have them, so this is the only file with deprecated calls.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "cgo_compat.h"
#include <stdio.h>
#include <openssl/err.h>
#if OPENSSL_VERSION_NUMBER < 0x40000000L && !defined(OPENSSL_NO_ENGINE)
#include <openssl/engine.h>
#define HAS_ENGINES 1
#else
#define HAS_ENGINES 0
#endif
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/provider.h>
#endif

int compat_has_engines(void) { return HAS_ENGINES; }

#if HAS_ENGINES
void *compat_engine(const char *id, compat_err *err)
{
	ERR_clear_error();
	ENGINE_load_builtin_engines();
	ENGINE *e = ENGINE_by_id(id);
	if (e != NULL && !ENGINE_init(e)) {
		ENGINE_free(e);
		e = NULL;
	}
	if (e == NULL)
		compat_fail(err);
	return e;
}

void compat_engine_free(void *engine)
{
	ENGINE_finish(engine);
	ENGINE_free(engine);
}
#else
void *compat_engine(const char *id, compat_err *err)
{
	(void)id;
	snprintf(err->text, sizeof err->text, "the linked OpenSSL has no engines");
	return NULL;
}

void compat_engine_free(void *engine) { (void)engine; }
#endif

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
// The provider stays loaded. If it was not active yet, loading it fails unless
// openssl.cnf has the section that "openssl fipsinstall" writes.
int compat_fips_set(int on, compat_err *err)
{
	ERR_clear_error();
	compat_md_forget();
	if (!on)
		return EVP_default_properties_enable_fips(NULL, 0) || compat_fail(err);
	if (!OSSL_PROVIDER_available(NULL, "fips") && OSSL_PROVIDER_try_load(NULL, "fips", 1) == NULL)
		return compat_fail(err);
	if (!EVP_default_properties_enable_fips(NULL, 1))
		return compat_fail(err);
	EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", NULL); // tells whether the provider works
	if (md == NULL) {
		compat_fail(err);
		EVP_default_properties_enable_fips(NULL, 0);
		return 0;
	}
	EVP_MD_free(md);
	compat_md_forget();
	return 1;
}
#else
int compat_fips_set(int on, compat_err *err)
{
	ERR_clear_error();
	return FIPS_mode_set(on) || compat_fail(err);
}
#endif
