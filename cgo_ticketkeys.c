/* The keys that encrypt session tickets and seal the sessions that a program stores. Contexts share them. */
#include "cgo_internal.h"

#include <time.h>

#include <openssl/rand.h>

#ifdef FSSL_OPENSSL_111
#include <openssl/hmac.h>
#else
#include <openssl/core_names.h>
#include <openssl/params.h>
#endif

/* A key in the format of nginx: its name, a key for HMAC-SHA256 and one for AES-256-CBC. */
typedef struct ticket_key {
    unsigned char name[16], mac[32], aes[32];
} ticket_key;

/* The keys that contexts share. refs counts their owners; lock protects the fields after it. */
struct fssl_ticket_keys {
    int refs;
    CRYPTO_RWLOCK *lock;
    const fssl_lib *lib; /* the FIPS provider, which generates the random keys once a FIPS context uses them; NULL before that */
    int given;           /* the keys are the caller's, and do not change with time */
    int n;
    ticket_key key[FSSL_MAX_TICKET_KEYS]; /* the first encrypts */
    int64_t made[FSSL_MAX_TICKET_KEYS];   /* when a random key was made */
    int by_lib[FSSL_MAX_TICKET_KEYS];     /* 1 if lib generated the key; 0 if it was made before a FIPS context used the keys */
};

fssl_ticket_keys *fssl_ticket_keys_new(fssl_errors *errs)
{
    fssl_ticket_keys *k;

    clear_errors();
    k = OPENSSL_zalloc(sizeof(*k));
    if (k != NULL)
        k->lock = CRYPTO_THREAD_lock_new();
    if (k != NULL && k->lock == NULL) {
        OPENSSL_free(k);
        k = NULL;
    }
    if (k != NULL)
        k->refs = 1;
    done(k != NULL, errs);
    return k;
}

void fssl_ticket_keys_free(fssl_ticket_keys *k)
{
    if (k == NULL || __atomic_sub_fetch(&k->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    CRYPTO_THREAD_lock_free(k->lock);
    OPENSSL_clear_free(k, sizeof(*k));
}

/* Replaces all keys by n keys of 80 bytes each, at most FSSL_MAX_TICKET_KEYS. */
void fssl_ticket_keys_set(fssl_ticket_keys *k, const unsigned char *keys, size_t n)
{
    CRYPTO_THREAD_write_lock(k->lock);
    OPENSSL_cleanse(k->key, sizeof(k->key));
    memcpy(k->key, keys, n * sizeof(*k->key));
    k->n = (int)n;
    k->given = 1;
    CRYPTO_THREAD_unlock(k->lock);
}

/* For tests: makes the random keys older. */
void fssl_ticket_keys_age(fssl_ticket_keys *k, int64_t seconds)
{
    int i;

    CRYPTO_THREAD_write_lock(k->lock);
    for (i = 0; i < k->n; i++)
        k->made[i] -= seconds;
    CRYPTO_THREAD_unlock(k->lock);
}

/* For tests: returns the number of keys, or -1 if something is left of the keys that were removed. */
int fssl_ticket_keys_count(fssl_ticket_keys *k)
{
    const unsigned char *p = (const unsigned char *)k->key;
    size_t i;
    int n;

    CRYPTO_THREAD_read_lock(k->lock);
    n = k->n;
    for (i = (size_t)n * sizeof(*k->key); i < sizeof(k->key); i++)
        if (p[i] != 0)
            n = -1;
    CRYPTO_THREAD_unlock(k->lock);
    return n;
}

static int random_bytes(const fssl_lib *lib, unsigned char *buf, size_t len, int private)
{
#ifdef FSSL_OPENSSL_111
    (void)lib;
    return (private ? RAND_priv_bytes(buf, (int)len) : RAND_bytes(buf, (int)len)) == 1;
#else
    return (private ? RAND_priv_bytes_ex(fssl_lib_ctx(lib), buf, len, 0) : RAND_bytes_ex(fssl_lib_ctx(lib), buf, len, 0)) == 1;
#endif
}

/* Reports whether key i is in the period in which it encrypts, or in the longer one in which it decrypts. */
static int in_use(const fssl_ticket_keys *k, int i, int64_t now, int64_t period)
{
    return k->given || (now >= k->made[i] && now - k->made[i] < period);
}

/* Puts a new random key before the others, and drops those that are too old. The caller holds the lock for writing. */
static int rotate(fssl_ticket_keys *k, int64_t now)
{
    ticket_key fresh;

    if (!random_bytes(k->lib, (unsigned char *)&fresh, sizeof(fresh), 1)) {
        OPENSSL_cleanse(&fresh, sizeof(fresh));
        return 0;
    }
    while (k->n > 0 && (k->n == FSSL_MAX_TICKET_KEYS || !in_use(k, k->n - 1, now, 2 * FSSL_SESSION_LIFE)))
        OPENSSL_cleanse(&k->key[--k->n], sizeof(*k->key));
    memmove(k->key + 1, k->key, (size_t)k->n * sizeof(*k->key));
    memmove(k->made + 1, k->made, (size_t)k->n * sizeof(*k->made));
    memmove(k->by_lib + 1, k->by_lib, (size_t)k->n * sizeof(*k->by_lib));
    k->key[0] = fresh;
    k->made[0] = now;
    k->by_lib[0] = k->lib != NULL;
    k->n++;
    OPENSSL_cleanse(&fresh, sizeof(fresh));
    return 1;
}

/* Makes sure that the first key may encrypt. */
static int freshen(fssl_ticket_keys *k)
{
    int64_t now = (int64_t)time(NULL);
    int ok;

    CRYPTO_THREAD_read_lock(k->lock);
    ok = k->n > 0 && in_use(k, 0, now, FSSL_SESSION_LIFE);
    CRYPTO_THREAD_unlock(k->lock);
    if (ok)
        return 1;
    CRYPTO_THREAD_write_lock(k->lock);
    ok = (k->n > 0 && in_use(k, 0, now, FSSL_SESSION_LIFE)) || rotate(k, now);
    CRYPTO_THREAD_unlock(k->lock);
    return ok;
}

/*
 * Returns the index of the key with this name, or -1. A context of the FIPS provider, which is lib, uses no random key
 * that another provider has made. The caller holds the lock.
 */
static int find(const fssl_ticket_keys *k, const fssl_lib *lib, const unsigned char *name)
{
    int64_t now = (int64_t)time(NULL);
    int i;

    for (i = 0; i < k->n; i++)
        if (memcmp(k->key[i].name, name, sizeof(k->key[i].name)) == 0)
            return in_use(k, i, now, 2 * FSSL_SESSION_LIFE) && (lib == NULL || k->given || k->by_lib[i]) ? i : -1;
    return -1;
}

#ifdef FSSL_OPENSSL_111
typedef HMAC_CTX mac_ctx;
#define ticket_cipher(data) ((void)(data), EVP_aes_256_cbc())
static int init_mac(mac_ctx *mac, const ticket_key *key) { return HMAC_Init_ex(mac, key->mac, sizeof(key->mac), EVP_sha256(), NULL) == 1; }
#else
typedef EVP_MAC_CTX mac_ctx;
#define ticket_cipher(data) ((data)->ticket_cipher)
static int init_mac(mac_ctx *mac, const ticket_key *key)
{
    OSSL_PARAM params[] = {OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac, sizeof(key->mac)),
                           OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0), OSSL_PARAM_construct_end()};

    return EVP_MAC_CTX_set_params(mac, params) == 1;
}
#endif

/*
 * Gives OpenSSL the key of a ticket: the first key to encrypt, or the key with the ticket's name to decrypt. Returns 0
 * if the key is not known, which leads to a full handshake, and 2 if the client should get a new ticket. In TLS 1.3 a
 * client uses a ticket only once.
 */
static int key_cb(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, mac_ctx *mac, int encrypt)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(SSL_get_SSL_CTX(ssl));
    fssl_ticket_keys *k = data->ticket_keys;
    const fssl_conn *c = SSL_get_app_data(ssl);
    int i = 0, ok, renew;

    if (encrypt && c != NULL && c->server_sessions.no_ticket) /* in TLS 1.2 the client gets an empty ticket */
        return 0;
    if (encrypt && (!freshen(k) || !random_bytes(data->lib, iv, 16, 0)))
        return -1;
    CRYPTO_THREAD_read_lock(k->lock);
    if (!encrypt)
        i = find(k, data->lib, name);
    ok = i >= 0 && i < k->n && EVP_CipherInit_ex(cipher, ticket_cipher(data), NULL, k->key[i].aes, iv, encrypt) == 1 && init_mac(mac, &k->key[i]);
    if (ok && encrypt)
        memcpy(name, k->key[i].name, sizeof(k->key[i].name));
    renew = i != 0 || !in_use(k, 0, (int64_t)time(NULL), FSSL_SESSION_LIFE);
    CRYPTO_THREAD_unlock(k->lock);
    if (i < 0)
        return 0;
    if (!ok)
        return -1;
    return !encrypt && (renew || SSL_version(ssl) == TLS1_3_VERSION) ? 2 : 1;
}

/*
 * The keys are used by a context of the FIPS provider, which therefore makes all random keys from now on. Other contexts
 * may be using the keys at the same time: they still decrypt with the keys that they have, since this context may never
 * serve a connection.
 */
static int adopt(fssl_ticket_keys *k, const fssl_lib *lib)
{
    int ok = 1;

    if (lib == NULL)
        return 1;
    CRYPTO_THREAD_write_lock(k->lock);
    if (k->lib == NULL) {
        k->lib = lib;
        ok = k->given || rotate(k, (int64_t)time(NULL));
        if (!ok)
            k->lib = NULL;
    }
    CRYPTO_THREAD_unlock(k->lock);
    return ok;
}

/*
 * Makes ctx encrypt its tickets with the keys of k, to which ctx then has a reference. fssl_forget_sessions releases what
 * data has, even after a failure.
 */
int fssl_encrypt_tickets(SSL_CTX *ctx, fssl_ticket_keys *k, const fssl_lib *lib)
{
    fssl_ctx_data *data = fssl_ctx_data_of(ctx);
    int ok;

#ifdef FSSL_OPENSSL_111
    ok = SSL_CTX_set_tlsext_ticket_key_cb(ctx, key_cb) == 1;
#else
    data->ticket_cipher = EVP_CIPHER_fetch(fssl_lib_ctx(lib), "AES-256-CBC", fssl_lib_propq(lib));
    ok = data->ticket_cipher != NULL && SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, key_cb) == 1;
#endif
    data->lib = lib;
    if (!ok || !adopt(k, lib) || !freshen(k))
        return 0;
    __atomic_add_fetch(&k->refs, 1, __ATOMIC_RELAXED);
    data->ticket_keys = k;
    return 1;
}

/* ----------------------------------------------------------- sealed sessions */

enum { HEAD = 16 + 16, MAC = 32 }; /* before and after the encrypted part of a sealed session: the key's name and the IV, and the MAC */

static int hmac(const fssl_ctx_data *data, const unsigned char *key, unsigned char *out, const unsigned char *text, size_t len)
{
#ifdef FSSL_OPENSSL_111
    unsigned int n = 0;

    (void)data;
    return HMAC(EVP_sha256(), key, MAC, text, len, out, &n) != NULL && n == MAC;
#else
    size_t n = 0;

    return EVP_Q_mac(fssl_lib_ctx(data->lib), "HMAC", fssl_lib_propq(data->lib), "SHA256", NULL, key, MAC, text, len, out, MAC, &n) != NULL && n == MAC;
#endif
}

/*
 * The MAC of a sealed session has a key of its own, which is derived from that of tickets. So nobody can turn a sealed
 * session into a ticket or the other way round. The key is the MAC of the label, which is shorter than any ticket, so it
 * is never the MAC of a ticket.
 */
static int mac_of(const fssl_ctx_data *data, const ticket_key *key, unsigned char *out, const unsigned char *text, size_t len)
{
    static const char label[] = "sslfilter: stored session, 1";
    unsigned char own[MAC];
    int ok = hmac(data, key->mac, own, (const unsigned char *)label, sizeof(label) - 1) && hmac(data, own, out, text, len);

    OPENSSL_cleanse(own, sizeof(own));
    return ok;
}

static int crypt(const fssl_ctx_data *data, const ticket_key *key, unsigned char *out, int *len, const unsigned char *iv, const unsigned char *in, size_t in_len,
                 int encrypt)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n = 0, last = 0, ok;

    (void)data;
    ok = ctx != NULL && EVP_CipherInit_ex(ctx, ticket_cipher(data), NULL, key->aes, iv, encrypt) == 1 &&
         EVP_CipherUpdate(ctx, out, &n, in, (int)in_len) == 1 && EVP_CipherFinal_ex(ctx, out + n, &last) == 1;
    EVP_CIPHER_CTX_free(ctx);
    *len = n + last;
    return ok;
}

/*
 * Encrypts a session for a store, as a ticket is encrypted. The MAC includes the id, so that a store cannot swap two
 * sessions. Returns NULL if the session is too large, or memory is short.
 */
unsigned char *fssl_seal_session(const fssl_ctx_data *data, size_t *len, const unsigned char *id, size_t id_len, const unsigned char *der, size_t der_len)
{
    fssl_ticket_keys *k = data->ticket_keys;
    unsigned char *out = der_len <= FSSL_MAX_SESSION - HEAD - 16 - MAC ? OPENSSL_malloc(HEAD + der_len + 16 + MAC) : NULL, mac[MAC];
    int n = 0, ok = out != NULL && freshen(k) && random_bytes(data->lib, out + 16, 16, 0);

    if (ok) {
        CRYPTO_THREAD_read_lock(k->lock);
        memcpy(out, k->key[0].name, 16);
        ok = k->n > 0 && crypt(data, &k->key[0], out + HEAD, &n, out + 16, der, der_len, 1);
        memcpy(out + HEAD + n, id, id_len);
        ok = ok && mac_of(data, &k->key[0], mac, out, HEAD + (size_t)n + id_len);
        CRYPTO_THREAD_unlock(k->lock);
        memcpy(out + HEAD + n, mac, MAC);
        *len = HEAD + (size_t)n + MAC;
    }
    if (!ok) {
        OPENSSL_free(out);
        out = NULL;
    }
    return out;
}

/* Decrypts what fssl_seal_session has made. Returns NULL for anything else. */
SSL_SESSION *fssl_unseal_session(const fssl_ctx_data *data, const fssl_stored *s)
{
    fssl_ticket_keys *k = data->ticket_keys;
    unsigned char *text, mac[MAC];
    const unsigned char *p;
    SSL_SESSION *session = NULL;
    size_t len;
    int i, n = 0;

    if (s->len < HEAD + 16 + MAC || s->len > FSSL_MAX_SESSION)
        return NULL;
    len = s->len - MAC;
    text = OPENSSL_malloc(s->len + sizeof(s->id));
    if (text == NULL)
        return NULL;
    memcpy(text, s->data, len);
    memcpy(text + len, s->id, s->id_len);
    CRYPTO_THREAD_read_lock(k->lock);
    i = find(k, data->lib, text);
    if (i >= 0 && mac_of(data, &k->key[i], mac, text, len + s->id_len) && CRYPTO_memcmp(mac, s->data + len, MAC) == 0 &&
        crypt(data, &k->key[i], text + HEAD, &n, text + 16, s->data + HEAD, len - HEAD, 0))
        i = FSSL_MAX_TICKET_KEYS; /* it is authentic */
    CRYPTO_THREAD_unlock(k->lock);
    p = text + HEAD;
    if (i == FSSL_MAX_TICKET_KEYS)
        session = d2i_SSL_SESSION(NULL, &p, n);
    OPENSSL_clear_free(text, s->len + sizeof(s->id));
    return session;
}
