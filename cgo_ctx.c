/* SSL_CTX: versions, ciphers, groups, ALPN, trust, DH parameters. */
#include "cgo_internal.h"

static int data_index = -1; /* set once, atomically; tried again after a failure for lack of memory */

static void free_data(void *parent, void *ptr, CRYPTO_EX_DATA *ex_data, int index, long argl, void *argp)
{
    fssl_ctx_data *data = ptr;

    (void)parent;
    (void)ex_data;
    (void)index;
    (void)argl;
    (void)argp;
    if (data == NULL)
        return;
    fssl_forget_identities(data);
    fssl_forget_sessions(data);
    OPENSSL_free(data->alpn);
    OPENSSL_free(data);
}

static int get_data_index(void)
{
    int index = __atomic_load_n(&data_index, __ATOMIC_ACQUIRE), none = -1;

    if (index >= 0)
        return index;
    index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_data);
    if (index >= 0 && !__atomic_compare_exchange_n(&data_index, &none, index, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        index = none; /* another thread was faster */
    return index;
}

fssl_ctx_data *fssl_ctx_data_of(SSL_CTX *ctx)
{
    return SSL_CTX_get_ex_data(ctx, get_data_index());
}

/* Gives ctx its data, which the SSL_CTX owns. */
static int add_data(SSL_CTX *ctx)
{
    int index = get_data_index();
    fssl_ctx_data *data = index >= 0 ? OPENSSL_zalloc(sizeof(*data)) : NULL;

    if (data == NULL || !SSL_CTX_set_ex_data(ctx, index, data)) {
        OPENSSL_free(data);
        return 0;
    }
    return 1;
}

/* Sets the flags that this library depends on, regardless of openssl.cnf and SSL_CONF_cmd. */
void fssl_ctx_harden(SSL_CTX *ctx, int client)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | (client ? 0 : SSL_OP_NO_RENEGOTIATION));
    /* CVE-2009-3555. OpenSSL 3.x has these off by default, but openssl.cnf may have set them. */
    SSL_CTX_clear_options(ctx, SSL_OP_LEGACY_SERVER_CONNECT | SSL_OP_ALLOW_UNSAFE_LEGACY_RENEGOTIATION);
}

SSL_CTX *fssl_ctx_new(fssl_lib *lib, int client, fssl_errors *errs)
{
    SSL_CTX *ctx;

    clear_errors();
    ctx = fssl_new_ctx(lib, client ? TLS_client_method() : TLS_server_method());
    if (ctx != NULL && !add_data(ctx)) {
        SSL_CTX_free(ctx);
        ctx = NULL;
    }
    if (ctx != NULL) {
        SSL_CTX_set_mode(ctx, SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
        fssl_ctx_harden(ctx, client);
        SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
        if (client) {
            SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp); /* ask for a stapled response, as crypto/tls does */
            SSL_CTX_set_cert_cb(ctx, fssl_choose_cb, fssl_ctx_data_of(ctx));
            SSL_CTX_set_cert_verify_callback(ctx, fssl_verify_chain, NULL);
            fssl_ctx_collect_sessions(ctx);
        } else {
            SSL_CTX_set_client_hello_cb(ctx, fssl_hello_same_cb, NULL);
        }
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

/* The server's order decides. If the lists have nothing in common, the handshake fails with an alert (RFC 7301 section 3.2). */
static int alpn_cb(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned int in_len, void *arg)
{
    const fssl_ctx_data *data = arg;

    (void)ssl;
    if (SSL_select_next_proto((unsigned char **)out, out_len, data->alpn, (unsigned int)data->alpn_len, in, in_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

int fssl_ctx_set_alpn(SSL_CTX *ctx, int client, const unsigned char *protos, size_t len, fssl_errors *errs)
{
    fssl_ctx_data *data = fssl_ctx_data_of(ctx);

    clear_errors();
    if (client)
        return done(SSL_CTX_set_alpn_protos(ctx, protos, (unsigned int)len) == 0, errs); /* 0 is success here */
    OPENSSL_free(data->alpn);
    data->alpn = OPENSSL_memdup(protos, len);
    data->alpn_len = data->alpn != NULL ? len : 0;
    if (data->alpn != NULL)
        SSL_CTX_set_alpn_select_cb(ctx, alpn_cb, data);
    return done(data->alpn != NULL, errs);
}

void fssl_ctx_set_server_preference(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
}

/*
 * Sets the number of tickets in a TLS 1.3 handshake. With 0 there are no tickets in TLS 1.2 either, and no session
 * is resumed.
 */
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

/* Returns the certificates in the trust store, each with a new reference, or NULL if memory is short. */
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

/* Makes cas the only trusted certificates; announce sends their names in the CertificateRequest. */
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
        SSL_CTX_set_cert_store(ctx, store); /* takes ownership of store */
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

/* Returns the names in list, separated by ':'. The caller frees them with OPENSSL_free. */
char *fssl_join_names(const STACK_OF(SSL_CIPHER) *list)
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

/*
 * Returns a connection for SSL_get1_supported_ciphers. On a server that call also applies the client signature
 * algorithms, which could hide suites, so this sets some for every kind of suite.
 */
static SSL *listing(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);

    if (ssl != NULL && fssl_ctx_data_of(ctx)->server_signs && SSL_set1_client_sigalgs_list(ssl, "RSA+SHA512:ECDSA+SHA512:DSA+SHA512") != 1 &&
        SSL_set1_client_sigalgs_list(ssl, "RSA+SHA512:ECDSA+SHA512") != 1) { /* a provider may not have DSA */
        SSL_free(ssl);
        ssl = NULL;
    }
    return ssl;
}

/*
 * Returns the names of the suites that a connection of ctx offers or accepts. anonymous reports whether one of them
 * needs no certificate.
 */
char *fssl_ctx_ciphers(SSL_CTX *ctx, int *anonymous, fssl_errors *errs)
{
    STACK_OF(SSL_CIPHER) *list = NULL;
    SSL *ssl;
    char *text = NULL;
    int i;

    clear_errors();
    *anonymous = 0;
    ssl = listing(ctx);
    if (ssl != NULL) {
        list = SSL_get1_supported_ciphers(ssl);
        if (list == NULL)
            list = SSL_get1_supported_ciphers(ssl);
        if (list == NULL && fssl_starved(0, errs)) { /* NULL is also the result for an empty list of suites */
            SSL_free(ssl);
            return NULL;
        }
        text = fssl_join_names(list);
        for (i = 0; i < sk_SSL_CIPHER_num(list); i++)
            if (SSL_CIPHER_get_auth_nid(sk_SSL_CIPHER_value(list, i)) == NID_auth_null)
                *anonymous = 1;
    }
    sk_SSL_CIPHER_free(list);
    SSL_free(ssl);
    done(text != NULL, errs);
    return text;
}

/*
 * Returns the kind of an EC key in TLS 1.3, where every curve has its own signature algorithm (RFC 8446 section 4.2.3),
 * or 0 if its curve has none. A key on an unknown curve matches every set.
 */
static int curve_kind(EVP_PKEY *key)
{
    char curve[64] = "";

#ifdef FSSL_OPENSSL_111
    fssl_copy_text(curve, sizeof(curve), OBJ_nid2sn(EC_GROUP_get_curve_name(EC_KEY_get0_group(EVP_PKEY_get0_EC_KEY(key)))));
#else
    EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL);
#endif
    if (strncmp(curve, "brainpool", 9) == 0)
        return OPENSSL_VERSION_NUMBER >= 0x30200000L ? FSSL_SIGNS_BRAINPOOL : 0;
    if (strcmp(curve, "secp256k1") == 0 || strstr(curve, "224") != NULL || strstr(curve, "192") != NULL)
        return 0;
    if (strstr(curve, "256") != NULL)
        return FSSL_SIGNS_P256;
    if (strstr(curve, "384") != NULL)
        return FSSL_SIGNS_P384;
    return strstr(curve, "521") != NULL ? FSSL_SIGNS_P521 : -1;
}

/*
 * Returns the kind of a key in a set of kinds; a key that only a provider knows is in every set. exact says that the
 * algorithm includes the curve, as in TLS 1.3 and Suite B.
 */
static int kind_of(EVP_PKEY *key, int type, int exact)
{
    switch (type) {
    case EVP_PKEY_RSA:
        return exact ? FSSL_SIGNS_RSA_13 : FSSL_SIGNS_RSA;
    case EVP_PKEY_RSA_PSS:
        return FSSL_SIGNS_PSS;
    case EVP_PKEY_EC:
        return exact ? curve_kind(key) : FSSL_SIGNS_EC;
    case EVP_PKEY_DSA:
        return FSSL_SIGNS_DSA;
    case EVP_PKEY_ED25519:
        return FSSL_SIGNS_ED25519;
    case EVP_PKEY_ED448:
        return FSSL_SIGNS_ED448;
    default:
        return -1;
    }
}

/*
 * Reports whether a server with this key can choose a suite, by the rules of OpenSSL's ssl_set_masks. signs says
 * whether the certificate allows signatures, and algorithms which keys have a signature algorithm in its version.
 */
static int usable(const SSL_CIPHER *cipher, EVP_PKEY *key, int type, int signs, int dhe, int ecdhe, int algorithms)
{
    int kx = SSL_CIPHER_get_kx_nid(cipher), auth = SSL_CIPHER_get_auth_nid(cipher);

    if (auth != NID_auth_null && (kind_of(key, type, auth == NID_auth_any || (algorithms & FSSL_SIGNS_SUITE_B) != 0) & algorithms) == 0)
        return 0; /* OpenSSL chooses a signature algorithm even if the key exchange is RSA, which needs none */

    if ((kx == NID_kx_dhe && !dhe) || (kx == NID_kx_ecdhe && !ecdhe))
        return 0;
    switch (auth) {
    case NID_auth_any: /* TLS 1.3 */
        return key != NULL && type != EVP_PKEY_DSA; /* a key that only a provider knows, such as ML-DSA, has no type */
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

/* Reports whether any identity of a server, or a suite without a certificate, makes a suite usable. */
static int usable_with_any(const fssl_ctx_data *data, const SSL_CIPHER *cipher, int dhe, int ecdhe, int algorithms)
{
    int i, any = data->n_identities == 0 && usable(cipher, NULL, NID_undef, 0, dhe, ecdhe, algorithms);

    for (i = 0; i < data->n_identities && !any; i++) {
        const fssl_identity *id = &data->identities[i];
        int signs = (X509_get_key_usage(id->cert) & KU_DIGITAL_SIGNATURE) != 0; /* all bits are set if the certificate has no such extension */

        any = usable(cipher, id->key, fssl_key_type(id->key), signs, dhe, ecdhe, algorithms);
    }
    return any;
}

/*
 * Returns the names of the suites of fssl_ctx_ciphers that a server of ctx can really choose. dhe and ecdhe say
 * whether there are parameters and groups for them, and algorithms and algorithms13 which keys have a signature
 * algorithm, up to TLS 1.2 and in TLS 1.3.
 */
char *fssl_ctx_usable(SSL_CTX *ctx, int dhe, int ecdhe, int algorithms, int algorithms13, fssl_errors *errs)
{
    STACK_OF(SSL_CIPHER) *list;
    int i;
    char *text = NULL;
    SSL *ssl;

    clear_errors();
    ssl = listing(ctx);
    if (ssl == NULL) {
        done(0, errs);
        return NULL;
    }
    list = SSL_get1_supported_ciphers(ssl);
    if (list == NULL) { /* the caller knows that there are suites, so memory is short */
        SSL_free(ssl);
        done(0, errs);
        return NULL;
    }
    for (i = sk_SSL_CIPHER_num(list) - 1; i >= 0; i--) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(list, i);

        if (!usable_with_any(fssl_ctx_data_of(ctx), cipher, dhe, ecdhe, SSL_CIPHER_get_auth_nid(cipher) == NID_auth_any ? algorithms13 : algorithms))
            sk_SSL_CIPHER_delete(list, i);
    }
    text = fssl_join_names(list);
    sk_SSL_CIPHER_free(list);
    SSL_free(ssl);
    done(text != NULL, errs);
    return text;
}

/* Returns the size in bytes of the CAs' names in a CertificateRequest. */
size_t fssl_ctx_names_size(SSL_CTX *ctx)
{
    const STACK_OF(X509_NAME) *cas = SSL_CTX_get_client_CA_list(ctx);
    size_t size = 0;
    int i;

    clear_errors();
    for (i = 0; cas != NULL && i < sk_X509_NAME_num(cas); i++) {
        int n = i2d_X509_NAME(sk_X509_NAME_value(cas, i), NULL);

        size += 2 + (size_t)(n > 0 ? n : 0);
    }
    clear_errors();
    return size;
}

/* ---------------------------------------------------------------------- DH */

/*
 * Reads the block again without its headers: with them, PEM_read_bio_Parameters of 1.1.1 prompts for the passphrase
 * of an encrypted block.
 */
static EVP_PKEY *block_dh(fssl_lib *lib, const char *name, const unsigned char *data, long len)
{
    BIO *bio = BIO_new(BIO_s_mem());
    EVP_PKEY *params = NULL;

    if (bio != NULL && PEM_write_bio(bio, name, "", data, len) > 0)
        params = fssl_read_params(lib, bio);
    BIO_free(bio);
    return params;
}

/*
 * Returns the first DH parameters in pem, and ignores blocks of other kinds. If pem has no DH parameters,
 * returns NULL without an error.
 */
EVP_PKEY *fssl_pem_dh(fssl_lib *lib, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    EVP_PKEY *params = NULL;
    BIO *bio;
    int found = 0;

    clear_errors();
    bio = fssl_read_only(pem, len);
    while (bio != NULL && !found) {
        char *name = NULL;
        unsigned char *data = NULL;
        long n = 0;

        if (fssl_next_block(bio, &name, &data, &n) != 1)
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

/*
 * Checks DH parameters. A prime that is not a safe prime (dhparam -dsaparam) is accepted, because each key is used
 * only once.
 */
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
    return done(fssl_set_tmp_dh(ctx, params), errs); /* also checks the size against the security level */
}
