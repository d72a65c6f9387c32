#include "cgo_internal.h"

/*
 * Library contexts with the FIPS provider, and the providers of the algorithms that a connection uses. All of this
 * needs OpenSSL 3.0; cgo_helpers.h has the replacements for 1.1.1.
 */
#ifndef FSSL_OPENSSL_111

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <strings.h>

/* ------------------------------------------------------- library contexts */

/* Returns a BIO with a copy of text, to which more can be written. */
static BIO *copy_of(const unsigned char *text, size_t len)
{
    BIO *bio = BIO_new(BIO_s_mem());
    size_t n;

    if (bio == NULL)
        return NULL;
    BIO_set_mem_eof_return(bio, 0);
    if (len > 0 && (BIO_write_ex(bio, text, len, &n) != 1 || n != len)) {
        BIO_free(bio);
        return NULL;
    }
    return bio;
}

static CONF *parse_conf(OSSL_LIB_CTX *ctx, BIO *text)
{
    CONF *conf = NCONF_new_ex(ctx, NULL);

    if (conf != NULL && NCONF_load_bio(conf, text, NULL) <= 0) {
        NCONF_free(conf);
        conf = NULL;
    }
    return conf;
}

/*
 * Reports whether a module of a configuration belongs to a library context. The others (ssl_conf, oid_section,
 * engines) belong to the process.
 */
static int is_local(const char *name)
{
    static const char *const local[] = {"providers", "alg_section", "random"};
    size_t i, n = strcspn(name, ".");

    for (i = 0; i < sizeof(local) / sizeof(local[0]); i++)
        if (strlen(local[i]) == n && strncmp(local[i], name, n) == 0)
            return 1;
    return 0;
}

/* Appends to text a section that selects the local modules of conf and no others. */
static int select_local(BIO *text, const CONF *conf)
{
    const char *section = NCONF_get_string(conf, NULL, "openssl_conf");
    STACK_OF(CONF_VALUE) *modules = section != NULL ? NCONF_get_section(conf, section) : NULL;
    int i, ok;

    ok = BIO_puts(text, "\n\n[default]\nsslfilter_conf = sslfilter_modules\n[sslfilter_modules]\n") > 0;
    for (i = 0; ok && i < sk_CONF_VALUE_num(modules); i++) {
        const CONF_VALUE *module = sk_CONF_VALUE_value(modules, i);

        if (is_local(module->name))
            ok = strpbrk(module->value, "\"'`\\$#\r\n") == NULL && BIO_printf(text, "%s = %s\n", module->name, module->value) > 0;
    }
    return ok;
}

/*
 * Loads the local modules of conf. OSSL_LIB_CTX_load_config would load the whole file, and its ssl_conf section
 * would replace the section of the process while other goroutines make contexts.
 */
static int load_conf(OSSL_LIB_CTX *ctx, const unsigned char *conf, size_t len)
{
    BIO *text = copy_of(conf, len), *again = copy_of(conf, len);
    CONF *all = NULL, *local = NULL;
    int ok = 0;

    if (text != NULL && again != NULL)
        all = parse_conf(ctx, text);
    if (all != NULL && select_local(again, all))
        local = parse_conf(ctx, again);
    if (local != NULL)
        ok = CONF_modules_load(local, "sslfilter_conf", 0) > 0;
    NCONF_free(local);
    NCONF_free(all);
    BIO_free(text);
    BIO_free(again);
    return ok;
}

/*
 * Makes a library context from conf, the text of a configuration. It exists until the process ends, because
 * OSSL_LIB_CTX_free is safe only if every thread that has used it has called OPENSSL_thread_stop_ex, and goroutines
 * move between threads. providers lists the active providers.
 *
 * Returns 1 or 0. With 0, unserved reports that no provider has fips=yes, which OpenSSL does not treat as an error;
 * a lack of memory is one.
 * Only this thread has then used the context, and it is freed.
 */
int fssl_lib_new(fssl_lib **lib, char **providers, int *unserved, const unsigned char *conf, size_t len, fssl_errors *errs)
{
    OSSL_LIB_CTX *ctx;
    EVP_MD *served;
    int ret;

    fssl_take_errors(NULL);
    *unserved = 0;
    *lib = OPENSSL_zalloc(sizeof(**lib));
    ctx = OSSL_LIB_CTX_new();
    if (*lib != NULL)
        (*lib)->lock = CRYPTO_THREAD_lock_new();
    ret = done(ctx != NULL && *lib != NULL && (*lib)->lock != NULL && load_conf(ctx, conf, len) && EVP_default_properties_enable_fips(ctx, 1) == 1, errs);
    *providers = ctx != NULL ? fssl_providers(ctx) : NULL;
    if (ret == 1) {
        served = EVP_MD_fetch(ctx, "SHA2-256", FSSL_PROPQ);
        if (served == NULL) { /* a lack of memory is not always reported */
            fssl_take_errors(NULL);
            served = EVP_MD_fetch(ctx, "SHA2-256", FSSL_PROPQ);
        }
        (*lib)->ctx = ctx;
        *unserved = served == NULL && !fssl_starved(0, errs);
        ret = served != NULL && *providers != NULL;
        EVP_MD_free(served);
    }
    if (ret != 1) {
        if (*lib != NULL)
            CRYPTO_THREAD_lock_free((*lib)->lock);
        OPENSSL_free(*lib);
        *lib = NULL;
        OSSL_LIB_CTX_free(ctx);
    }
    fssl_take_errors(NULL);
    return ret;
}

static int add_provider(OSSL_PROVIDER *provider, void *arg)
{
    char *version = NULL;
    OSSL_PARAM params[] = {OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, &version, 0), OSSL_PARAM_END};
    BIO *list = arg;

    if (!OSSL_PROVIDER_get_params(provider, params) || version == NULL)
        version = "";
    return BIO_printf(list, "%s%s%s%s", BIO_pending(list) > 0 ? ", " : "", OSSL_PROVIDER_get0_name(provider), *version != 0 ? " " : "", version) > 0;
}

/* Returns the active providers of ctx with their versions. The caller frees the text with OPENSSL_free. */
char *fssl_providers(OSSL_LIB_CTX *ctx)
{
    BIO *list = copy_of(NULL, 0);
    char *text = NULL, *data;
    long len;

    if (list != NULL && OSSL_PROVIDER_do_all(ctx, add_provider, list)) {
        len = BIO_get_mem_data(list, &data);
        text = OPENSSL_strndup(data != NULL ? data : "", (size_t)len);
    }
    BIO_free(list);
    fssl_take_errors(NULL);
    return text;
}

/* Returns the system's trust store in lib. It is read once and belongs to lib. */
X509_STORE *fssl_lib_system_store(fssl_lib *lib, fssl_errors *errs)
{
    X509_STORE *store;

    fssl_take_errors(NULL);
    if (!CRYPTO_THREAD_write_lock(lib->lock))
        return NULL;
    if (lib->system == NULL) {
        lib->system = X509_STORE_new();
        if (lib->system != NULL && X509_STORE_set_default_paths_ex(lib->system, lib->ctx, FSSL_PROPQ) != 1) {
            X509_STORE_free(lib->system);
            lib->system = NULL;
        }
    }
    store = lib->system;
    CRYPTO_THREAD_unlock(lib->lock);
    done(store != NULL, errs);
    return store;
}

/* ----------------------------------------------------- a handshake, to try */

/* Makes a self-signed certificate for the other side. */
static X509 *sign_self(fssl_lib *lib, EVP_PKEY *key)
{
    X509 *cert = X509_new_ex(lib->ctx, FSSL_PROPQ);
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    X509_NAME *name = X509_NAME_new();
    int ok;

    ok = cert != NULL && md != NULL && name != NULL && X509_set_version(cert, X509_VERSION_3) &&
         ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) && X509_gmtime_adj(X509_getm_notBefore(cert), -3600) != NULL &&
         X509_gmtime_adj(X509_getm_notAfter(cert), 3600) != NULL &&
         X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"sslfilter", -1, -1, 0) &&
         X509_set_subject_name(cert, name) && X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) &&
         EVP_DigestSignInit_ex(md, NULL, "SHA256", lib->ctx, FSSL_PROPQ, key, NULL) == 1 && X509_sign_ctx(cert, md) > 0;
    EVP_MD_CTX_free(md);
    X509_NAME_free(name);
    if (!ok) {
        X509_free(cert);
        cert = NULL;
    }
    return cert;
}

static EVP_PKEY *make_key(fssl_lib *lib, int i)
{
    switch (i) {
    case 0:
        return EVP_PKEY_Q_keygen(lib->ctx, FSSL_PROPQ, "EC", "P-256");
    case 1:
        return EVP_PKEY_Q_keygen(lib->ctx, FSSL_PROPQ, "EC", "P-384");
    default:
        return EVP_PKEY_Q_keygen(lib->ctx, FSSL_PROPQ, "RSA", (size_t)2048);
    }
}

/* Gives ctx one of the certificates of the other side, which are made when they are first needed. */
static int use_own(SSL_CTX *ctx, fssl_lib *lib, int i)
{
    int ok;

    if (!CRYPTO_THREAD_write_lock(lib->lock))
        return 0;
    if (lib->cert[i] == NULL) {
        EVP_PKEY *key = make_key(lib, i);
        X509 *cert = key != NULL ? sign_self(lib, key) : NULL;

        if (cert != NULL) {
            lib->cert[i] = cert;
            lib->key[i] = key;
        } else {
            EVP_PKEY_free(key);
        }
    }
    ok = lib->cert[i] != NULL && SSL_CTX_use_certificate(ctx, lib->cert[i]) == 1 && SSL_CTX_use_PrivateKey(ctx, lib->key[i]) == 1;
    CRYPTO_THREAD_unlock(lib->lock);
    return ok;
}

static int accept_any(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

/*
 * Makes the other side, which accepts everything that the provider implements. own selects the certificates of a
 * server.
 */
static SSL_CTX *other_side(fssl_lib *lib, int server, int own, const char *suites, const char *groups)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(lib->ctx, FSSL_PROPQ, server ? TLS_server_method() : TLS_client_method());
    int ok;

    if (ctx == NULL)
        return NULL;
    SSL_CTX_set_security_level(ctx, 0);
    ok = SSL_CTX_set_min_proto_version(ctx, 0) == 1 && SSL_CTX_set_max_proto_version(ctx, 0) == 1 &&
         SSL_CTX_set_cipher_list(ctx, "ALL:COMPLEMENTOFALL:@SECLEVEL=0") == 1 &&
         (suites == NULL || SSL_CTX_set_ciphersuites(ctx, suites) == 1) && (groups == NULL || SSL_CTX_set1_groups_list(ctx, groups) == 1);
    if (ok && server)
        ok = own == 0 ? use_own(ctx, lib, 0) : use_own(ctx, lib, 1) && use_own(ctx, lib, 2);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (!ok) {
        SSL_CTX_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

/* Does one step. Returns 1 if the handshake is complete, 0 if it needs input, and -1 if it failed. */
static int step(SSL *ssl)
{
    int ret = SSL_do_handshake(ssl);

    if (ret == 1)
        return 1;
    ret = SSL_get_error(ssl, ret);
    return ret == SSL_ERROR_WANT_READ || ret == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

enum { MAX_STEPS = 1000 }; /* of a handshake in memory: a chain of 100 KB needs 7 */

/*
 * Makes a handshake in memory between a connection of ctx and one of other. If own is not NULL, it is the identity of
 * ctx, and other asks a client for its certificate.
 */
static int shake_hands(SSL_CTX *ctx, int client, SSL_CTX *other, const fssl_identity *own)
{
    SSL *us = SSL_new(ctx), *them = SSL_new(other);
    BIO *ours = NULL, *theirs = NULL;
    int i, a = 0, b = 0;

    if (us == NULL || them == NULL || BIO_new_bio_pair(&ours, 0, &theirs, 0) != 1)
        goto end;
    SSL_set_security_level(us, 0); /* the security level is not what is tested here */
    SSL_set_bio(us, ours, ours); /* takes ownership */
    SSL_set_bio(them, theirs, theirs);
    if (own != NULL && !fssl_use_identity(us, own))
        goto end;
    SSL_set_verify(us, SSL_VERIFY_NONE, NULL);
    if (client && own != NULL)
        SSL_set_verify(them, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
    if (client) {
        SSL_set_connect_state(us);
        SSL_set_accept_state(them);
    } else {
        SSL_set_accept_state(us);
        SSL_set_connect_state(them);
    }
    for (i = 0; i < MAX_STEPS && a >= 0 && b >= 0 && !(a == 1 && b == 1); i++) {
        a = step(us);
        if (a >= 0)
            b = step(them);
    }
end:
    SSL_free(us);
    SSL_free(them);
    return a == 1 && b == 1;
}

/*
 * Reports whether a connection of ctx with one of its identities can complete a handshake with lib, at the highest
 * version that ctx allows, with a peer that accepts everything that lib implements. Asking for each algorithm would
 * not be enough: a provider decides only when it uses a key whether it accepts its size, curve or padding.
 */
int fssl_ctx_try(SSL_CTX *ctx, fssl_lib *lib, int client, int identity, const char *suites, const char *groups, fssl_errors *errs)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(ctx);
    int own, ok = 0;

    for (own = 0; !ok && own < (client ? 2 : 1); own++) {
        SSL_CTX *other;

        fssl_take_errors(NULL);
        other = other_side(lib, client, own, suites, groups);
        ok = other != NULL && shake_hands(ctx, client, other, identity < data->n_identities ? &data->identities[identity] : NULL);
        done(ok, errs);
        SSL_CTX_free(other);
    }
    fssl_take_errors(NULL);
    return ok;
}

/* Returns OpenSSL's name of the signature algorithm of a key type. */
static const char *signature_name(int key)
{
    switch (key) {
    case NID_rsaEncryption:
    case NID_rsassaPss:
        return "RSA";
    case NID_X9_62_id_ecPublicKey:
        return "ECDSA";
    case NID_ED25519:
        return "ED25519";
    case NID_ED448:
        return "ED448";
    case NID_dsa:
        return "DSA";
    default:
        return OBJ_nid2sn(key);
    }
}

/* Reports whether the providers of lib can verify the signature of a certificate. */
static int signature_served(const X509 *cert, const fssl_lib *lib)
{
    int digest = NID_undef, key = NID_undef, ok;
    EVP_MD *md = NULL;
    EVP_SIGNATURE *signature;

    if (!OBJ_find_sigid_algs(X509_get_signature_nid(cert), &digest, &key))
        digest = NID_undef, key = X509_get_signature_nid(cert);
    if (key == NID_rsassaPss) /* the digest is in the parameters */
        X509_get_signature_info((X509 *)cert, &digest, NULL, NULL, NULL);
    if (digest != NID_undef)
        md = EVP_MD_fetch(lib->ctx, OBJ_nid2sn(digest), FSSL_PROPQ);
    signature = EVP_SIGNATURE_fetch(lib->ctx, signature_name(key), FSSL_PROPQ);
    ok = signature != NULL && (digest == NID_undef || md != NULL);
    EVP_MD_free(md);
    EVP_SIGNATURE_free(signature);
    return ok;
}

/* Describes a certificate and its signature. Returns NULL if memory is short. */
static char *describe_signature(const X509 *cert)
{
    BIO *text = copy_of(NULL, 0);
    char *name = fssl_cert_name(cert, 0), *data, *copy = NULL;

    if (text != NULL && name != NULL && BIO_printf(text, "%s is signed with %s", name, OBJ_nid2ln(X509_get_signature_nid(cert))) > 0) {
        long len = BIO_get_mem_data(text, &data);

        copy = OPENSSL_strndup(data, (size_t)len);
    }
    OPENSSL_free(name);
    BIO_free(text);
    return copy;
}

/*
 * Sets text to a description of the first certificate of an identity of ctx whose signature no provider of lib can
 * verify, or to NULL. Returns 0 if memory is short. OpenSSL does not always report that, so each check that fails is
 * repeated. The caller frees the text with OPENSSL_free.
 */
int fssl_ctx_unserved_cert(SSL_CTX *ctx, char **text, fssl_lib *lib, int identity, fssl_errors *errs)
{
    X509 *cert;
    int i, j, served;

    fssl_take_errors(NULL);
    *text = NULL;
    for (i = 0; (cert = fssl_ctx_sent_cert(ctx, identity, i)) != NULL; i++) {
        if (X509_NAME_cmp(X509_get_subject_name(cert), X509_get_issuer_name(cert)) == 0)
            continue; /* a root: its signature is not verified */
        for (j = 0, served = 0; j < 2 && !served; j++) {
            fssl_take_errors(NULL);
            served = signature_served(cert, lib);
        }
        if (served)
            continue;
        if (fssl_starved(0, errs))
            return 0;
        *text = describe_signature(cert);
        return done(*text != NULL, errs);
    }
    return done(1, errs);
}

/* -------------------------------------------------- providers of algorithms */

typedef struct serving {
    OSSL_LIB_CTX *ctx;
    const char *propq;
    fssl_served *list;
    int n;
} serving;

static void copy_name(char *dst, size_t cap, const char *src)
{
    OPENSSL_strlcpy(dst, src != NULL ? src : "", cap);
}

/* Adds an entry. provider is NULL if no provider implements the algorithm. */
static void add(serving *s, int use, const char *algorithm, const OSSL_PROVIDER *provider)
{
    fssl_served *line;

    if (s->n == FSSL_MAX_SERVED)
        return;
    line = &s->list[s->n++];
    line->use = use;
    copy_name(line->algorithm, sizeof(line->algorithm), algorithm);
    copy_name(line->provider, sizeof(line->provider), provider != NULL ? OSSL_PROVIDER_get0_name(provider) : NULL);
}

static void add_cipher(serving *s, const SSL_CIPHER *cipher)
{
    int nid = SSL_CIPHER_get_cipher_nid(cipher);
    EVP_CIPHER *c = EVP_CIPHER_fetch(s->ctx, nid != NID_undef ? OBJ_nid2sn(nid) : "NULL", s->propq);

    add(s, FSSL_USE_CIPHER, c != NULL ? EVP_CIPHER_get0_name(c) : OBJ_nid2sn(nid), c != NULL ? EVP_CIPHER_get0_provider(c) : NULL);
    EVP_CIPHER_free(c);
}

static void add_mac(serving *s, const SSL_CIPHER *cipher)
{
    int nid = SSL_CIPHER_get_digest_nid(cipher);
    char name[64];
    EVP_MAC *mac;

    if (nid == NID_undef) /* the cipher authenticates the records itself */
        return;
    mac = EVP_MAC_fetch(s->ctx, "HMAC", s->propq);
    BIO_snprintf(name, sizeof(name), "HMAC-%s", OBJ_nid2sn(nid));
    add(s, FSSL_USE_MAC, name, mac != NULL ? EVP_MAC_get0_provider(mac) : NULL);
    EVP_MAC_free(mac);
}

static void add_kdf(serving *s, const SSL *ssl, const SSL_CIPHER *cipher)
{
    const char *name = SSL_version(ssl) >= TLS1_3_VERSION ? "TLS13-KDF" : "TLS1-PRF";
    const EVP_MD *legacy = SSL_CIPHER_get_handshake_digest(cipher);
    EVP_KDF *kdf = EVP_KDF_fetch(s->ctx, name, s->propq);
    const char *digest;
    EVP_MD *md;

    if (SSL_version(ssl) < TLS1_2_VERSION)
        digest = "MD5-SHA1";
    else if (legacy == NULL || EVP_MD_get_type(legacy) == NID_md5_sha1) /* a suite from before TLS 1.2 (RFC 5246 section 5) */
        digest = "SHA256";
    else
        digest = EVP_MD_get0_name(legacy);
    md = EVP_MD_fetch(s->ctx, digest, s->propq);

    add(s, FSSL_USE_KDF, name, kdf != NULL ? EVP_KDF_get0_provider(kdf) : NULL);
    add(s, FSSL_USE_DIGEST, digest, md != NULL ? EVP_MD_get0_provider(md) : NULL);
    EVP_KDF_free(kdf);
    EVP_MD_free(md);
}

typedef struct group {
    const char *name;
    char algorithm[64];
} group;

static int match_group(const OSSL_PARAM params[], void *arg)
{
    group *g = arg;
    const OSSL_PARAM *name = OSSL_PARAM_locate_const(params, OSSL_CAPABILITY_TLS_GROUP_NAME);
    const OSSL_PARAM *algorithm = OSSL_PARAM_locate_const(params, OSSL_CAPABILITY_TLS_GROUP_ALG);

    if (name != NULL && algorithm != NULL && name->data_type == OSSL_PARAM_UTF8_STRING && algorithm->data_type == OSSL_PARAM_UTF8_STRING &&
        strcasecmp(name->data, g->name) == 0)
        copy_name(g->algorithm, sizeof(g->algorithm), algorithm->data);
    return 1;
}

static int ask_groups(OSSL_PROVIDER *provider, void *arg)
{
    OSSL_PROVIDER_get_capabilities(provider, "TLS-GROUP", match_group, arg);
    return 1;
}

/* Adds the group. TLS knows only its name; the provider knows the algorithm. */
static void add_key_exchange(serving *s, SSL *ssl, const SSL_CIPHER *cipher)
{
    long id = SSL_get0_session(ssl) != NULL ? fssl_negotiated_group(ssl) : 0;
    group g = {id != 0 ? SSL_group_to_name(ssl, (int)id) : NULL, ""};
    EVP_KEYMGMT *key;

    if (SSL_CIPHER_get_kx_nid(cipher) == NID_kx_rsa) {
        EVP_ASYM_CIPHER *rsa = EVP_ASYM_CIPHER_fetch(s->ctx, "RSA", s->propq);

        add(s, FSSL_USE_KEY_EXCHANGE, "RSA", rsa != NULL ? EVP_ASYM_CIPHER_get0_provider(rsa) : NULL);
        EVP_ASYM_CIPHER_free(rsa);
        return;
    }
    if (g.name != NULL) {
        OSSL_PROVIDER_do_all(s->ctx, ask_groups, &g);
    } else if (SSL_CIPHER_get_kx_nid(cipher) == NID_kx_dhe) {
        g.name = "DH"; /* the server's own parameters */
        copy_name(g.algorithm, sizeof(g.algorithm), g.name);
    }
    if (g.name == NULL) /* a resumed session without a key exchange, or a pre-shared key */
        return;
    key = g.algorithm[0] != 0 ? EVP_KEYMGMT_fetch(s->ctx, g.algorithm, s->propq) : NULL;
    add(s, FSSL_USE_KEY_EXCHANGE, g.name, key != NULL ? EVP_KEYMGMT_get0_provider(key) : NULL);
    EVP_KEYMGMT_free(key);
}

static void add_signature(serving *s, int use, int key, int digest)
{
    EVP_SIGNATURE *signature = EVP_SIGNATURE_fetch(s->ctx, signature_name(key), s->propq);
    char name[64];

    BIO_snprintf(name, sizeof(name), "%s%s%s", key == NID_rsassaPss ? "RSA-PSS" : signature_name(key), digest != NID_undef ? "+" : "",
                 digest != NID_undef ? OBJ_nid2sn(digest) : "");
    add(s, use, name, signature != NULL ? EVP_SIGNATURE_get0_provider(signature) : NULL);
    EVP_SIGNATURE_free(signature);
}

/*
 * Lists the algorithms that a connection uses, and the providers that implement them in its library context and
 * with its properties. OpenSSL fetches with the same arguments, but does not report what it got. list has room for
 * FSSL_MAX_SERVED entries. Returns their number.
 */
int fssl_conn_served(const fssl_conn *c, fssl_served *list)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
    serving s = {c->lib != NULL ? c->lib->ctx : NULL, c->lib != NULL ? FSSL_PROPQ : NULL, list, 0};
    int own, key, digest;

    fssl_take_errors(NULL);
    if (cipher == NULL)
        return 0;
    add_cipher(&s, cipher);
    add_mac(&s, cipher);
    add_kdf(&s, c->ssl, cipher);
    add_key_exchange(&s, c->ssl, cipher);
    for (own = 1; own >= 0 && !SSL_session_reused(c->ssl); own--) {
        if (own == !c->client && (SSL_CIPHER_get_kx_nid(cipher) == NID_kx_rsa || SSL_CIPHER_get_auth_nid(cipher) == NID_auth_null))
            continue; /* a server that signs nothing */
        key = digest = NID_undef;
        if ((own ? SSL_get_signature_type_nid(c->ssl, &key) : SSL_get_peer_signature_type_nid(c->ssl, &key)) != 1 || key == NID_undef)
            continue;
        if ((own ? SSL_get_signature_nid(c->ssl, &digest) : SSL_get_peer_signature_nid(c->ssl, &digest)) != 1)
            digest = NID_undef;
        add_signature(&s, own ? FSSL_USE_SIGNATURE : FSSL_USE_PEER_SIGNATURE, key, digest);
    }
    fssl_take_errors(NULL);
    return s.n;
}

#else
typedef int fssl_nothing; /* C does not allow an empty file */
#endif
