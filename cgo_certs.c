/* The certificates of clients that a server has parsed, for the sessions that it resumes. */
#include "cgo_internal.h"

/*
 * Since 3.0, parsing a certificate with its key takes OpenSSL several times as long as verifying its signature. A client
 * that resumes shows the same certificates each time, so a context keeps parsed ones. It keeps no verdict: the chain is
 * verified in every handshake. OpenSSL does not change a parsed certificate, so threads can share it, as they share the
 * CAs of a context.
 */
enum { WAYS = 4, SETS = FSSL_MAX_CACHED_CERTS / WAYS };

typedef struct cached {
    unsigned char *der;
    size_t len;
    X509 *cert; /* a reference */
} cached;

struct fssl_certs_cache {
    CRYPTO_RWLOCK *lock;
    cached set[SETS][WAYS]; /* the newest first; a new one replaces the last */
};

fssl_certs_cache *fssl_certs_cache_new(void)
{
    fssl_certs_cache *cache = OPENSSL_zalloc(sizeof(*cache));

    if (cache != NULL && (cache->lock = CRYPTO_THREAD_lock_new()) == NULL) {
        OPENSSL_free(cache);
        cache = NULL;
    }
    return cache;
}

static void drop(cached *e)
{
    OPENSSL_free(e->der);
    X509_free(e->cert);
}

void fssl_certs_cache_free(fssl_certs_cache *cache)
{
    int i, j;

    if (cache == NULL)
        return;
    for (i = 0; i < SETS; i++)
        for (j = 0; j < WAYS; j++)
            drop(&cache->set[i][j]);
    CRYPTO_THREAD_lock_free(cache->lock);
    OPENSSL_free(cache);
}

/* Returns the set of a certificate. A certificate ends with its signature, whose last bytes are different in each one. */
static cached *set_of(fssl_certs_cache *cache, const unsigned char *der, size_t len)
{
    unsigned int n = len >= 2 ? (unsigned int)der[len - 2] << 8 | der[len - 1] : 0;

    return cache->set[n % SETS];
}

/* Returns a new reference to the certificate with these bytes, or NULL. The caller holds the lock. */
static X509 *find(cached *set, const unsigned char *der, size_t len)
{
    int i;

    for (i = 0; i < WAYS; i++)
        if (set[i].len == len && set[i].cert != NULL && memcmp(set[i].der, der, len) == 0 && X509_up_ref(set[i].cert))
            return set[i].cert;
    return NULL;
}

X509 *fssl_certs_cache_get(fssl_certs_cache *cache, const unsigned char *der, size_t len)
{
    X509 *cert;

    if (cache == NULL || len > FSSL_MAX_CACHED_CERT)
        return NULL;
    CRYPTO_THREAD_read_lock(cache->lock);
    cert = find(set_of(cache, der, len), der, len);
    CRYPTO_THREAD_unlock(cache->lock);
    return cert;
}

/* Keeps a certificate, whose DER form is der. Does nothing if memory is short. */
void fssl_certs_cache_put(fssl_certs_cache *cache, const unsigned char *der, size_t len, X509 *cert)
{
    cached *set, fresh = {NULL, len, cert}, old = {NULL, 0, NULL};
    X509 *known;

    if (cache == NULL || len > FSSL_MAX_CACHED_CERT)
        return;
    known = fssl_certs_cache_get(cache, der, len);
    if (known == NULL && (fresh.der = OPENSSL_memdup(der, len)) != NULL && X509_up_ref(cert)) {
        set = set_of(cache, der, len);
        CRYPTO_THREAD_write_lock(cache->lock);
        known = find(set, der, len); /* another thread can have been faster */
        if (known != NULL) {
            old = fresh;
        } else {
            old = set[WAYS - 1];
            memmove(set + 1, set, (WAYS - 1) * sizeof(*set));
            set[0] = fresh;
        }
        CRYPTO_THREAD_unlock(cache->lock);
        drop(&old);
    }
    X509_free(known);
    clear_errors();
}

/* Keeps the certificates of a chain that was verified. */
void fssl_certs_cache_keep(fssl_certs_cache *cache, const STACK_OF(X509) *chain)
{
    int i;

    for (i = 0; i < sk_X509_num(chain); i++) {
        unsigned char *der = NULL;
        int n = i2d_X509(sk_X509_value(chain, i), &der);

        if (n > 0)
            fssl_certs_cache_put(cache, der, (size_t)n, sk_X509_value(chain, i));
        OPENSSL_free(der);
    }
    clear_errors();
}

/* For tests: returns the number of certificates that the context keeps. */
int fssl_ctx_cached_certs(SSL_CTX *ctx)
{
    fssl_certs_cache *cache = fssl_ctx_data_of(ctx)->certs;
    int i, j, n = 0;

    if (cache == NULL)
        return 0;
    CRYPTO_THREAD_read_lock(cache->lock);
    for (i = 0; i < SETS; i++)
        for (j = 0; j < WAYS; j++)
            n += cache->set[i][j].cert != NULL;
    CRYPTO_THREAD_unlock(cache->lock);
    return n;
}
