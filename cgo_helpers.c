#include "cgo_helpers.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * A small message needs more code than the processor's first cache of instructions has room for. What data in flow do
 * not need is kept away from what they need.
 */
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define SELDOM __attribute__((cold, noinline))

/* ------------------------------------------------------------------ errors */

/* An empty queue, as usual here, costs only the look; clearing walks all of its entries. */
static void clear_errors(void)
{
    if (unlikely(ERR_peek_error() != 0))
        ERR_clear_error();
}

static void copy_text(char *dst, size_t cap, const char *src)
{
    size_t n = src != NULL ? strlen(src) : 0;

    if (n >= cap)
        n = cap - 1;
    if (n > 0)
        memcpy(dst, src, n);
    dst[n] = 0;
}

/* Moves the thread's error queue into errs, oldest first. errs may be NULL. */
void fssl_take_errors(fssl_errors *errs)
{
    unsigned long code;
    const char *file, *func, *data;
    int line, flags;

    if (errs == NULL) {
        clear_errors();
        return;
    }
    errs->n = 0;
    while ((code = fssl_next_error(&file, &line, &func, &data, &flags)) != 0) {
        fssl_error *e;

        if (errs->n == FSSL_MAX_ERRORS)
            continue;
        e = &errs->e[errs->n++];
        e->code = code;
        e->line = line;
        copy_text(e->file, sizeof(e->file), file);
        copy_text(e->func, sizeof(e->func), func);
        copy_text(e->data, sizeof(e->data), (flags & ERR_TXT_STRING) != 0 ? data : NULL);
    }
}

int fssl_err_lib(unsigned long code)
{
    return ERR_GET_LIB(code);
}

int fssl_err_reason(unsigned long code)
{
    return ERR_GET_REASON(code);
}

/* EVP_default_properties_is_fips_enabled may load the configuration, so the queue is looked after. */
int fssl_fips_enabled(void)
{
    int on = fssl_fips();

    clear_errors();
    return on;
}

/* Ends a helper: the queue goes to errs where it failed, and is empty in any case. */
static int done(int ok, fssl_errors *errs)
{
    if (ok)
        clear_errors();
    else
        fssl_take_errors(errs);
    return ok;
}

/*
 * Whether it may be for want of memory that OpenSSL failed or answered "none": it
 * does not always say so. Ends a helper that failed, as done does. silent is what
 * an empty queue means. Where no allocation succeeds, there is no queue.
 */
static int starved(int silent, fssl_errors *errs)
{
    void *probe = OPENSSL_malloc(64);
    int i, short_of = probe == NULL;

    OPENSSL_free(probe);
    fssl_take_errors(errs);
    if (errs->n == 0 && silent)
        return 1;
    for (i = 0; i < errs->n; i++)
        if (ERR_GET_REASON(errs->e[i].code) == ERR_R_MALLOC_FAILURE || ERR_GET_REASON(errs->e[i].code) == ERR_R_INIT_FAIL)
            short_of = 1;
    return short_of;
}

/* --------------------------------------------------------------------- PEM */

/* A view of the caller's bytes for the time of one call; an empty slice has no address. For a negative length OpenSSL would ask strlen. */
static BIO *read_only(const unsigned char *pem, size_t len)
{
    return len <= INT_MAX ? BIO_new_mem_buf(pem != NULL ? (const char *)pem : "", (int)len) : NULL;
}

/* The next PEM block of any kind: 1, 0 at the end, -1 where one is broken. */
static int next_block(BIO *bio, char **name, unsigned char **data, long *len)
{
    char *header = NULL;

    if (PEM_read_bio(bio, name, &header, data, len)) {
        OPENSSL_free(header);
        return 1;
    }
    if (ERR_GET_LIB(ERR_peek_last_error()) != ERR_LIB_PEM || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return -1;
    clear_errors();
    return 0;
}

/*
 * extra is set where more follows. d2i_X509 also gives a certificate for whose key
 * or extensions there was no memory, and that one is invalid for good; where
 * something is missing, the second attempt tells whether it is the certificate's fault.
 */
static X509 *block_cert(int *extra, fssl_lib *lib, const char *name, const unsigned char *data, long len)
{
    X509 *cert = NULL;
    int i, whole = 0;

    for (i = 0; i < 2 && !whole; i++) {
        const unsigned char *p = data;
        X509 **into = NULL, *got;

        X509_free(cert);
        cert = NULL;
        if (lib != NULL) { /* not without: into an X509 that is given, d2i_X509 wants sound extensions too */
            cert = fssl_new_cert(lib);
            if (cert == NULL)
                return NULL;
            into = &cert;
        }
        got = strcmp(name, PEM_STRING_X509_TRUSTED) == 0 ? d2i_X509_AUX(into, &p, len) : d2i_X509(into, &p, len);
        if (got == NULL) {
            X509_free(cert); /* NULL where d2i_X509 freed it */
            return NULL;
        }
        cert = got;
        if (p != data + len) {
            *extra = 1;
            X509_free(cert);
            return NULL;
        }
        whole = X509_check_purpose(cert, -1, 0) == 1 && EVP_PKEY_security_bits(X509_get0_pubkey(cert)) > 0 && /* 0 for NULL too */
                (X509_get_extension_flags(cert) & (EXFLAG_SI | EXFLAG_SS)) != EXFLAG_SI;
    }
    return cert;
}

/* Takes one PEM block; 0 ends the walk as broken. extra is set where the block, and no want of memory, is to blame. */
typedef int (*take_block)(void *into, int *extra, const char *name, const unsigned char *data, long len);

/* Hands every block of pem to take, and counts them. 0 where one is broken. A combined file holds the key too, so what was read is overwritten. */
static int walk_pem(int *blocks, int *extra, const unsigned char *pem, size_t len, take_block take, void *into)
{
    BIO *bio = read_only(pem, len);
    int more = -1;

    while (bio != NULL) {
        char *name = NULL;
        unsigned char *data = NULL;
        long n = 0;

        more = next_block(bio, &name, &data, &n);
        if (more != 1)
            break;
        ++*blocks;
        if (!take(into, extra, name, data, n))
            more = -1;
        OPENSSL_free(name);
        OPENSSL_clear_free(data, (size_t)n);
        if (more != 1)
            break;
    }
    BIO_free(bio);
    return more == 0;
}

typedef struct certs_walk {
    fssl_lib *lib;
    STACK_OF(X509) *certs;
} certs_walk;

static int take_cert(void *into, int *extra, const char *name, const unsigned char *data, long len)
{
    certs_walk *w = into;
    X509 *cert;

    if (strcmp(name, PEM_STRING_X509) != 0 && strcmp(name, PEM_STRING_X509_OLD) != 0 && strcmp(name, PEM_STRING_X509_TRUSTED) != 0)
        return 1;
    cert = block_cert(extra, w->lib, name, data, len);
    if (cert != NULL && sk_X509_push(w->certs, cert))
        return 1;
    X509_free(cert);
    return 0;
}

/* Every certificate of pem in order; blocks of other kinds are passed over. blocks counts all of them, and is -1 for want of memory. */
STACK_OF(X509) *fssl_pem_certs(int *blocks, fssl_lib *lib, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    certs_walk w = {lib, sk_X509_new_null()};
    int extra = 0;

    clear_errors();
    *blocks = 0;
    if (w.certs == NULL || !walk_pem(blocks, &extra, pem, len, take_cert, &w)) {
        fssl_certs_free(w.certs);
        if (starved(!extra, errs))
            *blocks = -1;
        return NULL;
    }
    done(1, errs);
    return w.certs;
}

void fssl_certs_free(STACK_OF(X509) *certs)
{
    sk_X509_pop_free(certs, X509_free);
}

/* Moves the certificates of from behind those of to; 0 where there is no memory for all of them. */
int fssl_certs_move(STACK_OF(X509) *to, STACK_OF(X509) *from)
{
    X509 *cert;

    clear_errors();
    while ((cert = sk_X509_shift(from)) != NULL)
        if (!sk_X509_push(to, cert)) {
            X509_free(cert);
            return done(0, NULL);
        }
    return done(1, NULL);
}

int fssl_certs_num(STACK_OF(X509) *certs)
{
    return sk_X509_num(certs);
}

int fssl_certs_same_leaf(STACK_OF(X509) *a, STACK_OF(X509) *b)
{
    return X509_cmp(sk_X509_value(a, 0), sk_X509_value(b, 0)) == 0;
}

typedef struct passphrase {
    const unsigned char *text;
    size_t len;
    int asked;
} passphrase;

/* Answers from memory only: OpenSSL's default would prompt on the terminal. */
static int passphrase_cb(char *buf, int size, int writing, void *arg)
{
    passphrase *p = arg;

    (void)writing;
    p->asked = 1;
    if (p->text == NULL || size < 0 || p->len > (size_t)size)
        return -1;
    memcpy(buf, p->text, p->len);
    return (int)p->len;
}

/* The first private key of pem. asked tells that it is encrypted. */
EVP_PKEY *fssl_pem_key(int *asked, fssl_lib *lib, const unsigned char *pem, size_t len, const unsigned char *pass, size_t pass_len,
                       fssl_errors *errs)
{
    passphrase p = {pass, pass_len, 0};
    BIO *bio;
    EVP_PKEY *key = NULL;

    clear_errors();
    bio = read_only(pem, len);
    if (bio != NULL)
        key = fssl_read_key(lib, bio, passphrase_cb, &p);
    BIO_free(bio);
    *asked = p.asked;
    done(key != NULL, errs);
    return key;
}

/* ----------------------------------------------------------------- SSL_CTX */

SSL_CTX *fssl_ctx_new(fssl_lib *lib, int client, fssl_errors *errs)
{
    SSL_CTX *ctx;

    clear_errors();
    ctx = fssl_new_ctx(lib, client ? TLS_client_method() : TLS_server_method());
    if (ctx != NULL) {
        SSL_CTX_set_mode(ctx, SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
        SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | (client ? 0 : SSL_OP_NO_RENEGOTIATION));
        /* CVE-2009-3555. 3.x: off by default, but openssl.cnf may have set them. */
        SSL_CTX_clear_options(ctx, SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        if (client)
            SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp); /* ask for a stapled response, as crypto/tls does */
    }
    done(ctx != NULL, errs);
    return ctx;
}

int fssl_ctx_min_version(SSL_CTX *ctx)
{
    return (int)SSL_CTX_get_min_proto_version(ctx);
}

int fssl_ctx_max_version(SSL_CTX *ctx)
{
    return (int)SSL_CTX_get_max_proto_version(ctx);
}

int fssl_ctx_set_versions(SSL_CTX *ctx, int min, int max, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_CTX_set_min_proto_version(ctx, min) == 1 && SSL_CTX_set_max_proto_version(ctx, max) == 1, errs);
}

int fssl_ctx_set_ciphers(SSL_CTX *ctx, const char *list, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_CTX_set_cipher_list(ctx, list) == 1, errs);
}

int fssl_ctx_set_suites(SSL_CTX *ctx, const char *list, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_CTX_set_ciphersuites(ctx, list) == 1, errs);
}

int fssl_ctx_set_groups(SSL_CTX *ctx, const char *list, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_CTX_set1_groups_list(ctx, list) == 1, errs);
}

/* What a server may choose from, in the form of the extension; it belongs to the SSL_CTX. */
typedef struct alpn_list {
    size_t len;
    unsigned char protos[];
} alpn_list;

static int alpn_index = -1; /* set once, atomically; what failed for want of memory is tried again */

static void free_alpn(void *parent, void *list, CRYPTO_EX_DATA *data, int index, long argl, void *argp)
{
    (void)parent;
    (void)data;
    (void)index;
    (void)argl;
    (void)argp;
    OPENSSL_free(list);
}

static int get_alpn_index(void)
{
    int index = __atomic_load_n(&alpn_index, __ATOMIC_ACQUIRE), none = -1;

    if (index >= 0)
        return index;
    index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_alpn);
    if (index >= 0 && !__atomic_compare_exchange_n(&alpn_index, &none, index, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        index = none; /* another thread was faster */
    return index;
}

/* The server's order decides; nothing in common is a fatal alert (RFC 7301 section 3.2). */
static int alpn_cb(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned int in_len, void *arg)
{
    const alpn_list *own = arg;

    (void)ssl;
    if (SSL_select_next_proto((unsigned char **)out, out_len, own->protos, (unsigned int)own->len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

int fssl_ctx_set_alpn(SSL_CTX *ctx, int client, const unsigned char *protos, size_t len, fssl_errors *errs)
{
    alpn_list *own;
    int index;

    clear_errors();
    if (client)
        return done(SSL_CTX_set_alpn_protos(ctx, protos, (unsigned int)len) == 0, errs); /* 0 is success here */
    index = get_alpn_index();
    if (index < 0)
        return done(0, errs);
    own = OPENSSL_malloc(sizeof(*own) + len);
    if (own == NULL || !SSL_CTX_set_ex_data(ctx, index, own)) {
        OPENSSL_free(own);
        return done(0, errs);
    }
    own->len = len;
    memcpy(own->protos, protos, len);
    SSL_CTX_set_alpn_select_cb(ctx, alpn_cb, own);
    return done(1, errs);
}

void fssl_ctx_set_server_preference(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
}

/* How many tickets a handshake of TLS 1.3 hands out. With 0 there are none in TLS 1.2 either, and no session is resumed. */
void fssl_ctx_set_tickets(SSL_CTX *ctx, size_t n)
{
    if (n == 0)
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx, n);
}

void fssl_ctx_no_renegotiation(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
}

/* chain[0] is the leaf; all of it is sent. */
int fssl_ctx_use_chain(SSL_CTX *ctx, STACK_OF(X509) *chain, fssl_errors *errs)
{
    int i, ok;

    clear_errors();
    ok = SSL_CTX_use_certificate(ctx, sk_X509_value(chain, 0)) == 1; /* takes a reference of its own */
    for (i = 1; ok && i < sk_X509_num(chain); i++)
        ok = SSL_CTX_add1_chain_cert(ctx, sk_X509_value(chain, i)) == 1;
    return done(ok, errs);
}

int fssl_ctx_use_key(SSL_CTX *ctx, int *mismatch, EVP_PKEY *key, fssl_errors *errs)
{
    clear_errors();
    if (X509_check_private_key(SSL_CTX_get0_certificate(ctx), key) == 1)
        return done(SSL_CTX_use_PrivateKey(ctx, key) == 1, errs);
    *mismatch = ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_X509; /* and not a failure of something else */
    return done(0, errs);
}

/* What OpenSSL's automatic chain does in every handshake, done once: intermediates out of the trust store. */
int fssl_ctx_build_chain(SSL_CTX *ctx, fssl_errors *errs)
{
    STACK_OF(X509) *chain = NULL;
    int i, ret = 2;

    for (i = 0; i < 2 && ret == 2; i++) {
        clear_errors();
        ret = SSL_CTX_build_cert_chain(ctx, SSL_BUILD_CHAIN_FLAG_NO_ROOT | SSL_BUILD_CHAIN_FLAG_IGNORE_ERROR);
    }
    /* Without memory for its copy OpenSSL says that all is well, and leaves no chain; one that is built may have no element, but it is there. */
    if (ret > 0 && (SSL_CTX_get0_chain_certs(ctx, &chain) != 1 || chain == NULL))
        return done(0, errs);
    if (ret == 2) /* no whole chain, twice, which is no error, unless it is for want of memory */
        return !starved(0, errs);
    return done(ret > 0, errs);
}

/* What ssl_add_cert_chain sends without an automatic chain: the own certificate, and then those of its chain. NULL after the last one. */
X509 *fssl_ctx_sent_cert(SSL_CTX *ctx, int i)
{
    STACK_OF(X509) *chain = NULL;

    if (i == 0)
        return SSL_CTX_get0_certificate(ctx);
    if (SSL_CTX_get0_chain_certs(ctx, &chain) != 1 || chain == NULL || i > sk_X509_num(chain))
        return NULL;
    return sk_X509_value(chain, i - 1);
}

/* The certificates in the trust store, with references of their own; NULL if memory is short. */
STACK_OF(X509) *fssl_ctx_cas(SSL_CTX *ctx)
{
    STACK_OF(X509) *cas;

    clear_errors();
#ifdef FSSL_OPENSSL_111
    cas = sk_X509_new_null();
    for (int i = 0; cas != NULL && i < sk_X509_OBJECT_num(X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx))); i++) {
        X509 *ca = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx)), i));

        if (ca == NULL)
            continue; /* a CRL */
        if (!sk_X509_push(cas, ca)) {
            sk_X509_pop_free(cas, X509_free);
            cas = NULL;
        } else {
            X509_up_ref(ca);
        }
    }
#else
    cas = X509_STORE_get1_all_certs(SSL_CTX_get_cert_store(ctx));
#endif
    clear_errors();
    return cas;
}

static int announce_ca(SSL_CTX *ctx, X509 *ca)
{
    const STACK_OF(X509_NAME) *names = SSL_CTX_get_client_CA_list(ctx);
    int i;

    for (i = 0; names != NULL && i < sk_X509_NAME_num(names); i++)
        if (X509_NAME_cmp(sk_X509_NAME_value(names, i), X509_get_subject_name(ca)) == 0)
            return 1;
    return SSL_CTX_add_client_CA(ctx, ca) == 1;
}

/* Trusts cas and nothing else; announce sends their names in the CertificateRequest. */
int fssl_ctx_trust(SSL_CTX *ctx, STACK_OF(X509) *cas, int announce, fssl_errors *errs)
{
    X509_STORE *store;
    int i, ok;

    clear_errors();
    store = X509_STORE_new();
    ok = store != NULL;
    for (i = 0; ok && i < sk_X509_num(cas); i++) {
        X509 *ca = sk_X509_value(cas, i);

        ok = X509_STORE_add_cert(store, ca) == 1 && (!announce || announce_ca(ctx, ca));
    }
    if (ok)
        SSL_CTX_set_cert_store(ctx, store); /* owns it now */
    else
        X509_STORE_free(store);
    return done(ok, errs);
}

X509_STORE *fssl_system_store(fssl_errors *errs)
{
    X509_STORE *store;

    clear_errors();
    store = X509_STORE_new();
    if (store != NULL && X509_STORE_set_default_paths(store) != 1) {
        X509_STORE_free(store);
        store = NULL;
    }
    done(store != NULL, errs);
    return store;
}

void fssl_ctx_trust_store(SSL_CTX *ctx, X509_STORE *store)
{
    SSL_CTX_set1_cert_store(ctx, store);
}

/* The names of list with ':' between them; freed with OPENSSL_free. */
static char *join_names(const STACK_OF(SSL_CIPHER) *list)
{
    size_t len = 1;
    char *text, *p;
    int i;

    for (i = 0; i < sk_SSL_CIPHER_num(list); i++)
        len += strlen(SSL_CIPHER_get_name(sk_SSL_CIPHER_value(list, i))) + 1;
    p = text = OPENSSL_zalloc(len);
    for (i = 0; text != NULL && i < sk_SSL_CIPHER_num(list); i++) {
        const char *name = SSL_CIPHER_get_name(sk_SSL_CIPHER_value(list, i));

        if (i > 0)
            *p++ = ':';
        memcpy(p, name, strlen(name));
        p += strlen(name);
    }
    return text;
}

/* What a connection of ctx offers or accepts; anonymous tells that a suite without certificates is among it. */
char *fssl_ctx_ciphers(SSL_CTX *ctx, int *anonymous, fssl_errors *errs)
{
    STACK_OF(SSL_CIPHER) *list = NULL;
    SSL *ssl;
    char *text = NULL;
    int i;

    clear_errors();
    *anonymous = 0;
    ssl = SSL_new(ctx);
    if (ssl != NULL) {
        list = SSL_get1_supported_ciphers(ssl);
        if (list == NULL)
            list = SSL_get1_supported_ciphers(ssl);
        if (list == NULL && starved(0, errs)) { /* NULL is also "no cipher" */
            SSL_free(ssl);
            return NULL;
        }
        text = join_names(list);
        for (i = 0; i < sk_SSL_CIPHER_num(list); i++)
            if (SSL_CIPHER_get_auth_nid(sk_SSL_CIPHER_value(list, i)) == NID_auth_null)
                *anonymous = 1;
    }
    sk_SSL_CIPHER_free(list);
    SSL_free(ssl);
    done(text != NULL, errs);
    return text;
}

/* Whether a key signs in TLS 1.3: a curve needs a signature algorithm of its own there (RFC 8446 section 4.2.3). */
static int signs_in_13(EVP_PKEY *key, int type)
{
    char curve[64] = "";

    if (key == NULL || type == EVP_PKEY_DSA) /* a key that only a provider knows, such as ML-DSA, has no type */
        return 0;
    if (type != EVP_PKEY_EC)
        return 1;
#ifdef FSSL_OPENSSL_111
    copy_text(curve, sizeof(curve), OBJ_nid2sn(EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key)))));
#else
    EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL);
#endif
    return strcmp(curve, "secp256k1") != 0 && strstr(curve, "224") == NULL && strstr(curve, "192") == NULL &&
           (OPENSSL_VERSION_NUMBER >= 0x30200000L || strncmp(curve, "brainpool", 9) != 0);
}

/*
 * Whether a server with this key can choose a suite, as OpenSSL's ssl_set_masks decides it. signs tells that the
 * certificate is for signatures.
 */
static int usable(const SSL_CIPHER *cipher, EVP_PKEY *key, int type, int signs, int dhe, int ecdhe)
{
    int kx = SSL_CIPHER_get_kx_nid(cipher);

    if ((kx == NID_kx_dhe && !dhe) || (kx == NID_kx_ecdhe && !ecdhe))
        return 0;
    switch (SSL_CIPHER_get_auth_nid(cipher)) {
    case NID_auth_any: /* TLS 1.3 */
        return signs_in_13(key, type);
    case NID_auth_rsa:
        return type == EVP_PKEY_RSA || (type == EVP_PKEY_RSA_PSS && kx != NID_kx_rsa);
    case NID_auth_ecdsa:
        return (type == EVP_PKEY_EC && signs) || type == EVP_PKEY_ED25519 || type == EVP_PKEY_ED448;
    case NID_auth_dss:
        return type == EVP_PKEY_DSA;
    default:
        return 1;
    }
}

/*
 * Of what fssl_ctx_ciphers lists, what a server of ctx can really choose; key is the type of its key, or 0. dhe and
 * ecdhe tell that there are parameters and groups for them.
 */
char *fssl_ctx_usable(SSL_CTX *ctx, int *key, int dhe, int ecdhe, fssl_errors *errs)
{
    EVP_PKEY *own = SSL_CTX_get0_privatekey(ctx);
    X509 *cert = SSL_CTX_get0_certificate(ctx);
    STACK_OF(SSL_CIPHER) *list;
    int i, signs = cert != NULL && (X509_get_key_usage(cert) & KU_DIGITAL_SIGNATURE) != 0; /* all bits, if it does not say */
    char *text = NULL;
    SSL *ssl;

    clear_errors();
    *key = own != NULL ? EVP_PKEY_base_id(own) : NID_undef;
    if (own != NULL && *key == NID_undef) /* of a provider alone, as ML-DSA */
        *key = -1;
    ssl = SSL_new(ctx);
    if (ssl == NULL) {
        done(0, errs);
        return NULL;
    }
    list = SSL_get1_supported_ciphers(ssl);
    if (list == NULL) { /* the caller knows that there are some, so this is for want of memory */
        SSL_free(ssl);
        done(0, errs);
        return NULL;
    }
    for (i = sk_SSL_CIPHER_num(list) - 1; i >= 0; i--)
        if (!usable(sk_SSL_CIPHER_value(list, i), own, *key, signs, dhe, ecdhe))
            sk_SSL_CIPHER_delete(list, i);
    text = join_names(list);
    sk_SSL_CIPHER_free(list);
    SSL_free(ssl);
    done(text != NULL, errs);
    return text;
}

/* The bytes that the names of the CAs take in a CertificateRequest, and the certificates in a Certificate message of TLS 1.3. */
void fssl_ctx_sizes(SSL_CTX *ctx, size_t *names, size_t *chain)
{
    const STACK_OF(X509_NAME) *cas = SSL_CTX_get_client_CA_list(ctx);
    STACK_OF(X509) *rest = NULL;
    X509 *cert = SSL_CTX_get0_certificate(ctx);
    int i, n;

    clear_errors();
    *names = *chain = 0;
    for (i = 0; cas != NULL && i < sk_X509_NAME_num(cas); i++) {
        n = i2d_X509_NAME(sk_X509_NAME_value(cas, i), NULL);
        *names += 2 + (size_t)(n > 0 ? n : 0);
    }
    SSL_CTX_get0_chain_certs(ctx, &rest);
    for (i = -1; cert != NULL && i < sk_X509_num(rest); i++) {
        n = i2d_X509(i < 0 ? cert : sk_X509_value(rest, i), NULL);
        *chain += 5 + (size_t)(n > 0 ? n : 0); /* three bytes of length, two for extensions */
    }
    if (cert != NULL)
        *chain += 4;
    clear_errors();
}

/* ---------------------------------------------------------------------- DH */

/* One block again, without its headers: 1.1.1's PEM_read_bio_Parameters prompts for the passphrase of an encrypted one. */
static EVP_PKEY *block_dh(fssl_lib *lib, const char *name, const unsigned char *data, long len)
{
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *params = NULL;

    if (bio != NULL && PEM_write_bio(bio, name, "", data, len) > 0)
        params = fssl_read_params(lib, bio);
    BIO_free(bio);
    return params;
}

/* The first DH parameters of pem; blocks of other kinds are passed over. NULL without an error where there are none. */
EVP_PKEY *fssl_pem_dh(fssl_lib *lib, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    EVP_PKEY *params = NULL;
    BIO *bio;
    int found = 0;

    clear_errors();
    bio = read_only(pem, len);
    while (bio != NULL && !found) {
        char *name = NULL;
        unsigned char *data = NULL;
        long n = 0;

        if (next_block(bio, &name, &data, &n) != 1)
            break;
        found = strcmp(name, PEM_STRING_DHPARAMS) == 0 || strcmp(name, PEM_STRING_DHXPARAMS) == 0;
        if (found)
            params = block_dh(lib, name, data, n);
        OPENSSL_free(name);
        OPENSSL_clear_free(data, (size_t)n);
    }
    BIO_free(bio);
    done(params != NULL, errs);
    return params;
}

/* Broken parameters fail; a prime that is not a safe one (dhparam -dsaparam) passes: keys are used once. */
int fssl_dh_check(fssl_lib *lib, EVP_PKEY *params, fssl_errors *errs)
{
    EVP_PKEY_CTX *ctx;
    int i, ok;

    clear_errors();
    ctx = fssl_new_pkey_ctx(lib, params);
    ok = ctx != NULL && EVP_PKEY_param_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    if (done(ok, errs))
        return 1;
    for (i = 0; i < errs->n; i++)
        if (ERR_GET_LIB(errs->e[i].code) != ERR_LIB_DH || ERR_GET_REASON(errs->e[i].code) != DH_R_CHECK_P_NOT_SAFE_PRIME)
            return 0;
    return errs->n > 0;
}

int fssl_ctx_set_dh(SSL_CTX *ctx, EVP_PKEY *params, fssl_errors *errs)
{
    clear_errors();
    return done(fssl_set_tmp_dh(ctx, params), errs); /* checks the size against the security level */
}

/* --------------------------------------------------------------------- CRL */

static int key_len(const unsigned char *key)
{
    return key[0] << 8 | key[1];
}

static int compare_keys(const unsigned char *a, const unsigned char *b)
{
    int n = key_len(a), m = key_len(b);

    return n != m ? (n < m ? -1 : 1) : memcmp(a + 2, b + 2, (size_t)n + 1);
}

static int compare_entries(const void *a, const void *b)
{
    return compare_keys(*(unsigned char *const *)a, *(unsigned char *const *)b);
}

enum { MAX_SERIAL = 4096 };

/* Writes the key of serial to key (3 + MAX_SERIAL bytes), returns its size or 0. */
static size_t serial_key(unsigned char *key, const ASN1_INTEGER *serial)
{
    int n = ASN1_STRING_length(serial);

    if (n < 0 || n > MAX_SERIAL)
        return 0;
    key[0] = (unsigned char)(n >> 8);
    key[1] = (unsigned char)n;
    key[2] = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER;
    memcpy(key + 3, ASN1_STRING_get0_data(serial), (size_t)n);
    return (size_t)n + 3;
}

/* Adds the serials of one list to the blob. extra is set where one has too many bytes. */
static int add_list(int *extra, fssl_crl *crl, size_t *used, size_t *cap, X509_CRL *list)
{
    STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(list);
    int i;

    crl->lists++;
    for (i = 0; i < sk_X509_REVOKED_num(revoked); i++) {
        const ASN1_INTEGER *serial = X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i));
        size_t need = *used + 3 + (size_t)ASN1_STRING_length(serial), n;

        if (need > *cap) {
            size_t grown = need * 2 + 4096;
            unsigned char *blob = OPENSSL_realloc(crl->blob, grown);

            if (blob == NULL)
                return 0;
            crl->blob = blob;
            *cap = grown;
        }
        n = serial_key(crl->blob + *used, serial);
        if (n == 0) {
            *extra = 1;
            return 0;
        }
        *used += n;
        crl->n++;
    }
    return 1;
}

static int sort_keys(fssl_crl *crl)
{
    unsigned char *p = crl->blob;
    size_t i;

    if (crl->n == 0)
        return 1;
    crl->keys = OPENSSL_malloc(crl->n * sizeof(*crl->keys));
    if (crl->keys == NULL)
        return 0;
    for (i = 0; i < crl->n; i++) {
        crl->keys[i] = p;
        p += 3 + key_len(p);
    }
    qsort(crl->keys, crl->n, sizeof(*crl->keys), compare_entries);
    return 1;
}

typedef struct crl_walk {
    fssl_crl *crl;
    size_t used, cap;
} crl_walk;

static int take_serials(void *into, int *extra, const char *name, const unsigned char *data, long len)
{
    crl_walk *w = into;
    const unsigned char *p = data;
    X509_CRL *list;
    int ok;

    if (strcmp(name, PEM_STRING_X509_CRL) != 0)
        return 1;
    list = d2i_X509_CRL(NULL, &p, len);
    *extra = list != NULL && p != data + len;
    ok = list != NULL && !*extra && add_list(extra, w->crl, &w->used, &w->cap, list);
    X509_CRL_free(list);
    return ok;
}

/* The serials of every CRL in pem; blocks of other kinds are passed over. NULL where one block is broken; blocks is -1 for want of memory. */
fssl_crl *fssl_crl_parse(int *blocks, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    crl_walk w = {OPENSSL_zalloc(sizeof(*w.crl)), 0, 0};
    int extra = 0;

    clear_errors();
    *blocks = 0;
    if (w.crl == NULL || !walk_pem(blocks, &extra, pem, len, take_serials, &w) || !sort_keys(w.crl)) {
        fssl_crl_free(w.crl);
        if (starved(!extra, errs))
            *blocks = -1;
        return NULL;
    }
    done(1, errs);
    return w.crl;
}

void fssl_crl_free(fssl_crl *crl)
{
    if (crl == NULL)
        return;
    OPENSSL_free(crl->keys);
    OPENSSL_free(crl->blob);
    OPENSSL_free(crl);
}

/* Sign and all bytes count, the issuer does not: the original's rule. */
static int listed(const fssl_crl *crl, const X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    unsigned char key[3 + MAX_SERIAL];
    size_t low = 0, high = crl->n;

    if (serial_key(key, serial) == 0)
        return 1; /* no list can hold it, and nobody issues it: refuse */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_keys(key, crl->keys[middle]);

        if (order == 0)
            return 1;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return 0;
}

/* The first recorded certificate that is listed, or -1. */
int fssl_conn_on_crl(const fssl_conn *c, const fssl_crl *crl)
{
    int i;

    for (i = 0; i < c->n_rec; i++)
        if (c->rec[i].cert == NULL || listed(crl, c->rec[i].cert))
            return i;
    return -1;
}

/* ------------------------------------------------ CRLs that OpenSSL checks */

/*
 * Without extended CRL support OpenSSL passes indirect lists and lists of some
 * reasons over, and takes a delta list for a complete one: get_crl_score looks
 * for the delta CRL indicator with that support only.
 */
static int crl_unfit(X509_CRL *list)
{
    ISSUING_DIST_POINT *idp;
    int unfit = FSSL_CRL_COMPLETE;

    if (X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0)
        return FSSL_CRL_DELTA;
    idp = X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, NULL, NULL);
    if (idp != NULL && idp->indirectCRL > 0)
        unfit = FSSL_CRL_INDIRECT;
    else if (idp != NULL && idp->onlysomereasons != NULL)
        unfit = FSSL_CRL_REASONS;
    ISSUING_DIST_POINT_free(idp);
    return unfit;
}

/* OpenSSL sorts a list under a lock when it is first looked into; that belongs to loading it, and not into a handshake. */
static int sort_list(X509_CRL *list)
{
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    X509_REVOKED *entry;

    if (serial == NULL)
        return 0;
    X509_CRL_get0_by_serial(list, &entry, serial);
    ASN1_INTEGER_free(serial);
    return 1;
}

typedef struct crls_walk {
    STACK_OF(X509_CRL) *crls;
    int *lists, *unfit;
} crls_walk;

static int take_list(void *into, int *extra, const char *name, const unsigned char *data, long len)
{
    crls_walk *w = into;
    const unsigned char *p = data;
    X509_CRL *list;

    if (strcmp(name, PEM_STRING_X509_CRL) != 0)
        return 1;
    list = d2i_X509_CRL(NULL, &p, len);
    ++*w->lists;
    if (list != NULL)
        *w->unfit = crl_unfit(list);
    *extra = list != NULL && p != data + len;
    if (list != NULL && !*extra && *w->unfit == FSSL_CRL_COMPLETE && sort_list(list) && sk_X509_CRL_push(w->crls, list))
        return 1;
    X509_CRL_free(list);
    return 0;
}

/*
 * Every CRL in pem; blocks of other kinds are passed over. NULL where one block is broken, or unfit: lists counts to
 * it. blocks is -1 for want of memory.
 */
STACK_OF(X509_CRL) *fssl_crls_parse(int *blocks, int *lists, int *unfit, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    crls_walk w = {sk_X509_CRL_new_null(), lists, unfit};
    int extra = 0;

    clear_errors();
    *blocks = *lists = 0;
    *unfit = FSSL_CRL_COMPLETE;
    if (w.crls == NULL || !walk_pem(blocks, &extra, pem, len, take_list, &w)) {
        fssl_crls_free(w.crls);
        if (*unfit == FSSL_CRL_COMPLETE && starved(!extra, errs))
            *blocks = -1;
        return NULL;
    }
    done(1, errs);
    return w.crls;
}

/* A list for lib: itself, or a copy in the library context of lib, which then verifies its signature. */
static X509_CRL *list_for(fssl_lib *lib, X509_CRL *list)
{
    unsigned char *der = NULL;
    const unsigned char *p;
    X509_CRL *copy;
    int n;

    if (lib == NULL)
        return X509_CRL_up_ref(list) ? list : NULL;
    n = i2d_X509_CRL(list, &der);
    copy = n > 0 ? fssl_new_crl(lib) : NULL;
    p = der;
    if (copy != NULL && (d2i_X509_CRL(&copy, &p, n) == NULL || !sort_list(copy))) {
        X509_CRL_free(copy); /* NULL where d2i_X509_CRL freed it */
        copy = NULL;
    }
    OPENSSL_free(der);
    return copy;
}

/* One stack of the lists of n others, for lib. */
STACK_OF(X509_CRL) *fssl_crls_join(fssl_lib *lib, STACK_OF(X509_CRL) *const *from, int n, fssl_errors *errs)
{
    STACK_OF(X509_CRL) *all;
    int i, j, ok;

    clear_errors();
    all = sk_X509_CRL_new_null();
    ok = all != NULL;
    for (i = 0; ok && i < n; i++) {
        for (j = 0; ok && j < sk_X509_CRL_num(from[i]); j++) {
            X509_CRL *list = list_for(lib, sk_X509_CRL_value(from[i], j));

            ok = list != NULL && sk_X509_CRL_push(all, list);
            if (!ok)
                X509_CRL_free(list);
        }
    }
    if (!ok) {
        fssl_crls_free(all);
        all = NULL;
    }
    done(ok, errs);
    return all;
}

void fssl_crls_free(STACK_OF(X509_CRL) *crls)
{
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
}

/* X509_verify_cert with the connection's lists. They are no part of the trust store, which any number of connections share. */
static int verify_with_crls(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    fssl_conn *c = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    int ok = 0;

    (void)arg;
    if (c != NULL) {
        X509_STORE_CTX_set0_crls(store, c->crls); /* keeps the pointer only */
        ok = X509_verify_cert(store) > 0;
    }
    if (!ok && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    return ok;
}

int fssl_ctx_check_crls(SSL_CTX *ctx, int whole_chain, fssl_errors *errs)
{
    unsigned long flags = X509_V_FLAG_CRL_CHECK | (whole_chain ? X509_V_FLAG_CRL_CHECK_ALL : 0);

    clear_errors();
    SSL_CTX_set_cert_verify_callback(ctx, verify_with_crls, NULL);
    return done(X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), flags) == 1, errs);
}

/* -------------------------------------------------------- the memory BIO */

/* Keeps bytes for the network that found no room in the caller's slice. */
SELDOM static int hold(fssl_conn *c, const char *data, size_t len)
{
    size_t need = c->held_len + len;

    if (c->reading && c->handshaken)
        c->answers += len;
    if (need > FSSL_MAX_HELD || c->answers > FSSL_MAX_ANSWERS)
        return 0;
    if (c->held_off + need > c->held_cap) {
        size_t cap = c->held_cap;
        unsigned char *held;

        while (cap < need)
            cap = cap < 2048 ? 2048 : cap * 2;
        held = OPENSSL_malloc(cap);
        if (held == NULL) {
            c->starved = 1;
            return 0;
        }
        if (c->held_len > 0)
            memcpy(held, c->held + c->held_off, c->held_len);
        OPENSSL_free(c->held);
        c->held = held;
        c->held_cap = cap;
        c->held_off = 0;
    }
    memcpy(c->held + c->held_off + c->held_len, data, len);
    c->held_len = need;
    return 1;
}

/* The caller's slice for output is ours from lend to reclaim, within one call. */
static void lend(fssl_conn *c, unsigned char *wire, size_t cap)
{
    c->out = wire;
    c->out_cap = cap;
    c->out_len = 0;
}

static void reclaim(fssl_conn *c)
{
    c->wire_len = c->out_len;
    lend(c, NULL, 0);
}

/* Moves held bytes to the caller's slice, and gives the memory back when all are gone. */
static void fetch(fssl_conn *c)
{
    size_t n = c->out_cap - c->out_len;

    if (n > c->held_len)
        n = c->held_len;
    if (n > 0) {
        memcpy(c->out + c->out_len, c->held + c->held_off, n);
        c->out_len += n;
        c->held_off += n;
        c->held_len -= n;
    }
    if (c->held_len == 0 && c->held != NULL) {
        OPENSSL_free(c->held);
        c->held = NULL;
        c->held_off = c->held_cap = c->answers = 0;
    }
}

static int wire_write(BIO *bio, const char *data, size_t len, size_t *taken)
{
    fssl_conn *c = BIO_get_data(bio);
    size_t room;

    *taken = len;
    if (unlikely(c->discard))
        return 1;
    room = c->held_len > 0 ? 0 : c->out_cap - c->out_len;
    if (room > len)
        room = len;
    if (room > 0) {
        memcpy(c->out + c->out_len, data, room);
        c->out_len += room;
    }
    if (unlikely(room < len) && !hold(c, data + room, len - room)) {
        BIO_clear_retry_flags(bio); /* this is a failure, and not to be tried again */
        *taken = 0;
        c->full = 1;
        return -1;
    }
    return 1;
}

static int wire_read(BIO *bio, char *data, size_t len, size_t *got)
{
    fssl_conn *c = BIO_get_data(bio);
    size_t n = c->in_left;

    if (unlikely(n == 0)) { /* never end of file: that is ReceiveEOF's word */
        BIO_set_retry_read(bio);
        c->dry = 1;
        *got = 0;
        return -1;
    }
    if (unlikely(c->dry)) {
        BIO_clear_retry_flags(bio);
        c->dry = 0;
    }
    if (n > len)
        n = len;
    memcpy(data, c->in, n);
    c->in += n;
    c->in_left -= n;
    *got = n;
    return 1;
}

static long wire_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    switch (cmd) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_PENDING:
        return (long)((fssl_conn *)BIO_get_data(bio))->in_left;
    default:
        return 0;
    }
}

static BIO_METHOD *wire_method; /* made once, set atomically; what failed for want of memory is tried again */

static BIO_METHOD *get_wire_method(void)
{
    BIO_METHOD *m = __atomic_load_n(&wire_method, __ATOMIC_ACQUIRE), *none = NULL;

    if (m != NULL)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sslfilter wire");
    if (m == NULL || !BIO_meth_set_write_ex(m, wire_write) || !BIO_meth_set_read_ex(m, wire_read) || !BIO_meth_set_ctrl(m, wire_ctrl)) {
        BIO_meth_free(m);
        return NULL;
    }
    if (!__atomic_compare_exchange_n(&wire_method, &none, m, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        BIO_meth_free(m); /* another thread was faster */
        m = none;
    }
    return m;
}

static BIO *wire_new(fssl_conn *c)
{
    BIO_METHOD *method = get_wire_method();
    BIO *bio = method != NULL ? BIO_new(method) : NULL;

    if (bio != NULL) {
        BIO_set_data(bio, c);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* ------------------------------------------------------ the verify callback */

static void forget_records(fssl_conn *c)
{
    while (c->n_rec > 0)
        X509_free(c->rec[--c->n_rec].cert);
    c->refused = 0;
}

static int record(fssl_conn *c, X509 *cert, int code, int depth, int ignored)
{
    fssl_record *r;

    if (c->n_rec == FSSL_MAX_RECORDS)
        return 0;
    if (c->n_rec == c->cap_rec) {
        int cap = c->cap_rec == 0 ? 4 : c->cap_rec * 2;

        r = OPENSSL_realloc(c->rec, (size_t)cap * sizeof(*r));
        if (r == NULL)
            return 0;
        c->rec = r;
        c->cap_rec = cap;
    }
    if (cert != NULL && !X509_up_ref(cert))
        return 0;
    r = &c->rec[c->n_rec++];
    r->cert = cert;
    r->code = code;
    r->depth = depth;
    r->ignored = ignored;
    return 1;
}

static int refuse(fssl_conn *c, X509_STORE_CTX *store, int code, int depth)
{
    X509_STORE_CTX_set_error(store, code);
    c->refused = code;
    c->refused_depth = depth;
    c->refused_rec = c->n_rec - 1;
    return 0;
}

/*
 * Whether OpenSSL has looked at the root, whose turn is first. If it has no memory
 * to see that a certificate signs itself, it checks neither its signature nor its
 * dates, and goes on with the next.
 */
static int root_seen(const fssl_conn *c, X509_STORE_CTX *store)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    int i, top = sk_X509_num(chain) - 1;

    if (top < 0 || (X509_get_extension_flags(sk_X509_value(chain, top)) & EXFLAG_SS) == 0)
        return 1;
    for (i = 0; i < c->n_rec; i++)
        if (c->rec[i].depth == top)
            return 1;
    return 0;
}

/* Records what OpenSSL found, one entry a call as the original does, and refuses only where the mode says so. */
static int verify_cb(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    fssl_conn *c = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    int code = ok ? X509_V_OK : X509_STORE_CTX_get_error(store);
    int depth = X509_STORE_CTX_get_error_depth(store);
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    int i, ignored = 0;

    if (c == NULL)
        return 0;
    if (c->round != SSL_total_renegotiations(ssl)) { /* a new handshake, a new verdict */
        c->round = SSL_total_renegotiations(ssl);
        c->unproved = 1;
        forget_records(c);
    }
    for (i = 0; !ok && i < c->n_ignore; i++)
        if (c->ignore[i] == code)
            ignored = 1;
    if (c->crls_block && code == X509_V_ERR_UNABLE_TO_GET_CRL) /* a list that cannot be read is not one that is missing */
        ignored = 0;
    if (!record(c, cert, code, depth, ignored) || (ok && depth == 0 && !root_seen(c, store)))
        return refuse(c, store, X509_V_ERR_OUT_OF_MEM, depth);
    if (!ok && !ignored && c->mode == FSSL_ENFORCE)
        return refuse(c, store, code, depth);
    if (!ok) /* what led to an error that does not count (a bad signature's padding, say): SSL_get_error would take it for its own */
        clear_errors();
    if (c->mode != FSSL_ENFORCE)
        return 1;
    if (c->crls_block)
        return refuse(c, store, X509_V_ERR_UNABLE_TO_GET_CRL, depth);
    if (c->crl_mode == FSSL_CRL_BLOCK || (c->crl_mode == FSSL_CRL_CHECK && c->crl->n == 0))
        return refuse(c, store, X509_V_ERR_UNABLE_TO_GET_CRL, depth);
    if (c->crl_mode == FSSL_CRL_CHECK && (cert == NULL || listed(c->crl, cert)))
        return refuse(c, store, X509_V_ERR_CERT_REVOKED, depth);
    return 1;
}

/* -------------------------------------------------------------- connections */

fssl_conn *fssl_conn_new(SSL_CTX *ctx, const fssl_lib *lib, int client, int verify_mode, int mode, const int *ignore, int n_ignore,
                         fssl_errors *errs)
{
    fssl_conn *c;
    BIO *bio;

    clear_errors();
    c = OPENSSL_zalloc(sizeof(*c));
    if (c == NULL)
        goto err;
    c->lib = lib;
    c->client = client;
    c->mode = mode;
    if (n_ignore > 0) {
        c->ignore = OPENSSL_memdup(ignore, (size_t)n_ignore * sizeof(*ignore));
        if (c->ignore == NULL)
            goto err;
        c->n_ignore = n_ignore;
    }
    c->ssl = SSL_new(ctx); /* holds a reference to ctx */
    bio = wire_new(c);
    if (c->ssl == NULL || bio == NULL || !SSL_set_app_data(c->ssl, c)) {
        BIO_free(bio);
        goto err;
    }
    SSL_set_bio(c->ssl, bio, bio); /* owns it now */
    SSL_set_verify(c->ssl, verify_mode, verify_mode != SSL_VERIFY_NONE ? verify_cb : NULL);
    if (client)
        SSL_set_connect_state(c->ssl);
    else
        SSL_set_accept_state(c->ssl);
    done(1, errs);
    return c;
err:
    done(0, errs);
    fssl_conn_free(c);
    return NULL;
}

void fssl_conn_free(fssl_conn *c)
{
    if (c == NULL)
        return;
    SSL_free(c->ssl);
    forget_records(c);
    OPENSSL_free(c->rec);
    OPENSSL_free(c->ignore);
    OPENSSL_free(c->held);
    OPENSSL_free(c->errs);
    OPENSSL_free(c);
    clear_errors();
}

/* sni is sent, host or ip is verified; NULL where there is none. */
int fssl_conn_set_alpn(fssl_conn *c, const unsigned char *protos, size_t len, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_set_alpn_protos(c->ssl, protos, (unsigned int)len) == 0, errs); /* 0 is success here */
}

int fssl_conn_set_name(fssl_conn *c, const char *sni, const char *host, const char *ip, fssl_errors *errs)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    int ok;

    clear_errors();
    /* A common name is no host name (RFC 9525 section 2): who gets a client certificate often chooses it. */
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    ok = SSL_set_tlsext_host_name(c->ssl, sni) == 1 && X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
         (ip != NULL ? X509_VERIFY_PARAM_set1_ip_asc(param, ip) : X509_VERIFY_PARAM_set1_ip(param, NULL, 0)) == 1;
    return done(ok, errs);
}

/*
 * The two ends of a crossing that moves data. Before it the queue is always made empty: somebody else's error would be
 * taken for one of this connection. Records that OpenSSL reads and writes without a failure leave nothing in it; behind
 * all else, a handshake for instance, it is looked at again. Each look is 3 % of what a small message costs.
 */
static void cross(fssl_conn *c)
{
    clear_errors();
    c->stirred = !c->records_only;
}

static void crossed(fssl_conn *c, fssl_status status)
{
    if (unlikely(c->stirred))
        clear_errors();
    c->status = status;
}

/*
 * Whether a call that failed without an error did so because of the peer's close_notify. SSL_get_error looks at the last
 * warning alone: behind a user_canceled (RFC 8446 section 6.1), which Java sends in front of every close_notify, it says
 * SSL_ERROR_SYSCALL. A fatal alert sets SSL_RECEIVED_SHUTDOWN too, and for want of memory its error may be missing, but
 * then the state is "error".
 */
static int closed_by_peer(const fssl_conn *c)
{
    return ERR_peek_error() == 0 && (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0 && strcmp(SSL_state_string(c->ssl), "SSLERR") != 0;
}

/* Ends a failed call of OpenSSL: says what it means, and copies the queue where it is an error. */
SELDOM static fssl_status outcome(fssl_conn *c, int ret)
{
    c->stirred = 1;
    c->unread = 0;
    c->ssl_error = SSL_get_error(c->ssl, ret);
    if (c->full) {
        clear_errors();
        return c->starved ? FSSL_NO_MEMORY : FSSL_FULL;
    }
    if (c->ssl_error == SSL_ERROR_WANT_READ)
        return SSL_total_renegotiations(c->ssl) > FSSL_MAX_ROUNDS ? FSSL_ROUNDS : FSSL_OK;
    if (c->ssl_error == SSL_ERROR_SYSCALL && closed_by_peer(c))
        c->ssl_error = SSL_ERROR_ZERO_RETURN;
    if (c->ssl_error == SSL_ERROR_ZERO_RETURN && c->handshaken)
        return FSSL_CLOSED;
    if (c->errs == NULL)
        c->errs = OPENSSL_zalloc(sizeof(*c->errs));
    fssl_take_errors(c->errs);
    return c->errs != NULL ? FSSL_FATAL : FSSL_NO_MEMORY;
}

/* Before the first handshake: one step of it. */
SELDOM static fssl_status step_handshake(fssl_conn *c)
{
    int ret = SSL_do_handshake(c->ssl);
    X509 *cert;

    if (ret != 1)
        return outcome(c, ret);
    if (c->mode == FSSL_ENFORCE) { /* an anonymous suite passes OpenSSL's verification, a resumed session comes without */
        cert = fssl_peer_certificate(c->ssl);
        X509_free(cert);
        if (cert == NULL || c->n_rec == 0)
            return FSSL_NO_CERT;
    }
    c->handshaken = 1;
    /* TLS 1.2: the record of the Finished may hold a message of the next handshake, and no input need come any more. */
    c->unread = SSL_has_pending(c->ssl);
    c->records_only = SSL_version(c->ssl) == TLS1_3_VERSION;
    return FSSL_OK;
}

SELDOM static fssl_status send_key_update(fssl_conn *c)
{
    int ret;

    if ((SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) != 0 || !SSL_is_init_finished(c->ssl))
        return FSSL_OK;
    c->stirred = 1;
    ret = SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    if (ret == 1)
        ret = SSL_do_handshake(c->ssl);
    return ret == 1 ? FSSL_OK : outcome(c, ret);
}

/* OpenSSL answers a KeyUpdate with the next write; the peer should not have to wait for one. */
static fssl_status answer_key_update(fssl_conn *c)
{
    return unlikely(SSL_get_key_update_type(c->ssl) != SSL_KEY_UPDATE_NONE) ? send_key_update(c) : FSSL_OK;
}

/*
 * left: the last call may have left a part of a record behind. SSL_read_ex itself leaves one only where it fills plain, and
 * SSL_do_handshake one that is not data.
 */
static fssl_status read_records(fssl_conn *c, unsigned char *plain, size_t cap, int left)
{
    fssl_status status = FSSL_OK;

    /* without input SSL_read could only say so, at the price of a read buffer */
    while (status == FSSL_OK && c->plain_len < cap && (c->in_left > 0 || (left && (SSL_pending(c->ssl) > 0 || c->unread)))) {
        size_t n = 0, before = c->in_left;
        int ret = SSL_read_ex(c->ssl, plain + c->plain_len, cap - c->plain_len, &n);

        if (likely(ret == 1)) {
            c->plain_len += n;
        } else {
            status = outcome(c, ret);
            if (status == FSSL_OK && (c->in_left == 0 || c->in_left == before)) {
                status = answer_key_update(c);
                break;
            }
        }
        if (status == FSSL_OK)
            status = answer_key_update(c);
    }
    return status;
}

/* Takes wire, appends plaintext; in_rest tells what was not taken, more that there was no room for all of it. */
void fssl_receive(uintptr_t conn, unsigned char *plain, size_t cap, const unsigned char *wire, size_t len)
{
    fssl_conn *c = (fssl_conn *)conn;
    fssl_status status;
    int left = c->more;

    cross(c);
    c->in = wire;
    c->in_left = len;
    c->plain_len = 0;
    c->more = 0;
    c->reading = 1;
    status = FSSL_OK;
    if (unlikely(!c->handshaken)) {
        status = step_handshake(c);
        left = c->unread;
    }
    if (status == FSSL_OK && likely(c->handshaken)) {
        status = read_records(c, plain, cap, left);
        if (unlikely(c->unproved) && SSL_is_init_finished(c->ssl)) /* never after a fatal error */
            c->unproved = 0;
        c->more = status == FSSL_OK && c->plain_len == cap && (c->in_left > 0 || SSL_pending(c->ssl) > 0 || c->unread);
    }
    c->in_rest = c->in_left;
    c->in = NULL; /* a write reads too, in the middle of a handshake: it finds nothing */
    c->in_left = 0;
    c->reading = 0;
    crossed(c, status);
}

/* Appends to wire what is held and then the records of plain; plain_len tells how much of plain is in them. */
void fssl_send(uintptr_t conn, unsigned char *wire, size_t cap, const unsigned char *plain, size_t len)
{
    fssl_conn *c = (fssl_conn *)conn;
    fssl_status status = FSSL_OK;

    cross(c);
    c->plain_len = 0;
    lend(c, wire, cap);
    fetch(c);
    while (status == FSSL_OK && c->plain_len < len) {
        size_t n = 0;
        int ret = SSL_write_ex(c->ssl, plain + c->plain_len, len - c->plain_len, &n);

        if (likely(ret == 1)) {
            c->plain_len += n;
        } else {
            status = outcome(c, ret);
            break; /* FSSL_OK here: a renegotiation is under way, the rest waits for input */
        }
    }
    reclaim(c); /* a KeyUpdate that is still to be answered went in front of plain */
    crossed(c, status);
}

/* fssl_send for a connection that is past speaking: only what is held. Returns the count. */
size_t fssl_fetch(fssl_conn *c, unsigned char *wire, size_t cap)
{
    lend(c, wire, cap);
    fetch(c);
    reclaim(c);
    return c->wire_len;
}

/* Queues our close_notify; what OpenSSL would still say after it is dropped. */
fssl_status fssl_shutdown(fssl_conn *c)
{
    int ret;

    clear_errors();
    if (SSL_in_init(c->ssl))
        return FSSL_AGAIN;
    ret = SSL_shutdown(c->ssl);
    if (ret < 0)
        return outcome(c, ret);
    c->discard = 1;
    clear_errors();
    return FSSL_OK;
}

fssl_status fssl_key_update(fssl_conn *c, int request_peer)
{
    int ret;

    clear_errors();
    ret = SSL_key_update(c->ssl, request_peer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    if (ret == 1)
        ret = SSL_do_handshake(c->ssl);
    if (ret != 1)
        return outcome(c, ret);
    clear_errors();
    return FSSL_OK;
}

/* ---------------------------------------------------------------- questions */

/*
 * What an end of the transport would cut off here. SSL_has_pending misses the moment in which the header of a record has
 * come and nothing of its body; OpenSSL then waits to "read body".
 */
int fssl_conn_truncated(const fssl_conn *c)
{
    int in_record = SSL_has_pending(c->ssl) || strcmp(SSL_rstate_string(c->ssl), "RB") == 0;

    return (in_record ? FSSL_IN_RECORD : 0) | (SSL_in_init(c->ssl) ? FSSL_IN_HANDSHAKE : 0);
}

int fssl_conn_bits(const fssl_conn *c)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);

    return cipher != NULL ? SSL_CIPHER_get_bits(cipher, NULL) : 0;
}

/* The TLS number of the key exchange group, or 0. OpenSSL gives a NID where it has one, and else the number with a bit on top. */
int fssl_conn_group(const fssl_conn *c)
{
    long group = SSL_get0_session(c->ssl) != NULL ? fssl_negotiated_group(c->ssl) : 0; /* 3.0 follows the pointer unseen */

    switch (group) {
    case NID_X9_62_prime256v1:
        return 23;
    case NID_secp384r1:
        return 24;
    case NID_secp521r1:
        return 25;
    case NID_X25519:
        return 29;
    case NID_X448:
        return 30;
    default:
        return (group & 0x1000000) != 0 ? (int)(group & 0xffff) : 0; /* TLSEXT_nid_unknown */
    }
}

/* The stapled OCSP response that a client was sent; it belongs to the SSL. */
size_t fssl_conn_ocsp(const fssl_conn *c, const unsigned char **response)
{
    long n = SSL_get_tlsext_status_ocsp_resp(c->ssl, response);

    return n > 0 && *response != NULL ? (size_t)n : 0;
}

/* The Finished message of one side, for tls-unique (RFC 5929); the size that it has. */
size_t fssl_conn_finished(const fssl_conn *c, int of_peer, unsigned char *buf, size_t cap)
{
    return of_peer ? SSL_get_peer_finished(c->ssl, buf, cap) : SSL_get_finished(c->ssl, buf, cap);
}

/* Whether the master secret belongs to this handshake alone (RFC 7627); in TLS 1.3 it always does. */
int fssl_conn_extended_secret(const fssl_conn *c)
{
    return SSL_version(c->ssl) >= TLS1_3_VERSION || SSL_get_extms_support(c->ssl) == 1;
}

int fssl_conn_export(fssl_conn *c, unsigned char *out, size_t len, const char *label, size_t label_len, const unsigned char *context,
                     size_t context_len, int use_context, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_export_keying_material(c->ssl, out, len, label, label_len, context, context_len, use_context) == 1, errs);
}

/* The suites that the client of a server offered; freed with OPENSSL_free. */
char *fssl_conn_offered(fssl_conn *c)
{
    return join_names(SSL_get_client_ciphers(c->ssl));
}

/* The chain that OpenSSL built, leaf first; it belongs to the SSL. */
int fssl_conn_chain(const fssl_conn *c, STACK_OF(X509) **chain)
{
    *chain = SSL_get0_verified_chain(c->ssl);
    return *chain != NULL ? sk_X509_num(*chain) : 0;
}

/* What the peer sent. own is a reference to its certificate where that is not the first of chain, as on a server. */
int fssl_conn_sent(const fssl_conn *c, STACK_OF(X509) **chain, X509 **own)
{
    *chain = SSL_get_peer_cert_chain(c->ssl);
    *own = c->client ? NULL : fssl_peer_certificate(c->ssl);
    return *chain != NULL ? sk_X509_num(*chain) : 0;
}

X509 *fssl_chain_cert(STACK_OF(X509) *chain, int i)
{
    return sk_X509_value(chain, i);
}

/* X509_NAME_oneline of the subject or issuer; freed with OPENSSL_free. */
char *fssl_cert_name(const X509 *cert, int issuer)
{
    return X509_NAME_oneline(issuer ? X509_get_issuer_name(cert) : X509_get_subject_name(cert), NULL, 0);
}

/* The serial's magnitude, big endian, as the original hands it out; it belongs to cert. */
const unsigned char *fssl_cert_serial(const X509 *cert, int *len, int *negative)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);

    *len = ASN1_STRING_length(serial);
    *negative = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER;
    return ASN1_STRING_get0_data(serial);
}

static int to_seconds(int64_t *seconds, const ASN1_TIME *when)
{
    struct tm tm;

    if (when == NULL || ASN1_TIME_to_tm(when, &tm) != 1) /* without a time it would be now */
        return 0;
    *seconds = (int64_t)timegm(&tm);
    return 1;
}

/* The dates of cert in seconds since 1970; 0 if one cannot be read. */
int fssl_cert_dates(const X509 *cert, int64_t *not_before, int64_t *not_after)
{
    int ok;

    clear_errors();
    ok = to_seconds(not_before, X509_get0_notBefore(cert)) && to_seconds(not_after, X509_get0_notAfter(cert));
    clear_errors();
    return ok;
}

/*
 * The DNS names and IP addresses in the subjectAltName of cert, each behind its type (GEN_DNS or GEN_IPADD) and four
 * bytes of length, big endian. NULL for want of memory, and otherwise freed with OPENSSL_free.
 */
unsigned char *fssl_cert_hosts(const X509 *cert, size_t *len, int *found)
{
    GENERAL_NAMES *names;
    unsigned char *list = NULL;
    int i, round, critical = 0;

    clear_errors();
    names = X509_get_ext_d2i(cert, NID_subject_alt_name, &critical, NULL);
    *found = names != NULL ? FSSL_ALT_NAMES : critical == -1 ? FSSL_NO_ALT_NAMES : FSSL_BAD_ALT_NAMES;
    for (round = 0; round < 2; round++) { /* the first one counts */
        *len = 0;
        for (i = 0; i < sk_GENERAL_NAME_num(names); i++) {
            int type;
            const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
            size_t n;

            if (type != GEN_DNS && type != GEN_IPADD)
                continue;
            n = (size_t)ASN1_STRING_length(value);
            if (list != NULL) {
                unsigned char *p = list + *len;

                p[0] = (unsigned char)type;
                p[1] = (unsigned char)(n >> 24), p[2] = (unsigned char)(n >> 16), p[3] = (unsigned char)(n >> 8), p[4] = (unsigned char)n;
                memcpy(p + 5, ASN1_STRING_get0_data(value), n);
            }
            *len += 5 + n;
        }
        if (round == 0)
            list = OPENSSL_malloc(*len + 1);
        if (list == NULL)
            break;
    }
    GENERAL_NAMES_free(names);
    clear_errors();
    return list;
}
