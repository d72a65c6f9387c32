/* The OCSP responses that a server staples. cgo_ocsp.c reads and verifies them. */
#include "cgo_internal.h"

#include <time.h>

/* A response that contexts share. refs counts its owners; lock protects the response. */
struct fssl_staple {
    int refs;
    CRYPTO_RWLOCK *lock;
    unsigned char *der; /* NULL until a response is set */
    size_t len;
    int64_t since;       /* thisUpdate of the response */
    int64_t until;       /* when the response expires */
    X509 *cert, *issuer; /* the certificate that the staple is bound to, and its issuer; each may be NULL */
    const fssl_lib *lib; /* of issuer */
    char *responders;    /* that cert names, one on each line; NULL without cert */
    struct {             /* set by fssl_ctx_check_staple for fssl_ctx_use_staple */
        int64_t since, until;
        char *responders;
    } next;
};

fssl_staple *fssl_staple_new(fssl_errors *errs)
{
    fssl_staple *s;

    clear_errors();
    s = OPENSSL_zalloc(sizeof(*s));
    if (s != NULL)
        s->lock = CRYPTO_THREAD_lock_new();
    if (s != NULL && s->lock == NULL) {
        OPENSSL_free(s);
        s = NULL;
    }
    if (s != NULL)
        s->refs = 1;
    done(s != NULL, errs);
    return s;
}

void fssl_staple_free(fssl_staple *s)
{
    if (s == NULL || __atomic_sub_fetch(&s->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    OPENSSL_free(s->der);
    X509_free(s->cert);
    X509_free(s->issuer);
    OPENSSL_free(s->responders);
    OPENSSL_free(s->next.responders);
    CRYPTO_THREAD_lock_free(s->lock);
    OPENSSL_free(s);
}

#ifdef OPENSSL_NO_OCSP

int fssl_staple_set(fssl_staple *s, fssl_ocsp *out, const unsigned char *der, size_t len) { return (void)s, (void)out, (void)der, (void)len, 0; }
void fssl_staple_state(fssl_staple *s, fssl_ocsp *out) { (void)s, memset(out, 0, sizeof(*out)); }
int fssl_ctx_check_staple(SSL_CTX *ctx, fssl_ocsp *out, int i, fssl_staple *s, const fssl_lib *lib)
{
    return (void)ctx, (void)i, (void)s, (void)lib, memset(out, 0, sizeof(*out)), 0;
}
void fssl_ctx_use_staple(SSL_CTX *ctx, int i, fssl_staple *s, const fssl_lib *lib) { (void)ctx, (void)i, (void)s, (void)lib; }
unsigned char *fssl_staple_request(fssl_staple *s, size_t *len, int *unknown, fssl_errors *errs)
{
    return (void)s, (void)len, (void)errs, *unknown = 1, NULL;
}
const char *fssl_staple_responders(fssl_staple *s) { return (void)s, NULL; }

#else

/* Verifies a response as the issuer's: it is signed by the issuer or by a responder that the issuer has named. */
static int signed_for(const fssl_staple *s, OCSP_BASICRESP *basic)
{
    X509_STORE *store = X509_STORE_new();
    STACK_OF(X509) *certs = sk_X509_new_null();
    int ok = store != NULL && certs != NULL && X509_STORE_add_cert(store, s->issuer) == 1 &&
             X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1 && sk_X509_push(certs, s->issuer) > 0 &&
             OCSP_basic_verify(basic, certs, store, OCSP_NOEXPLICIT) == 1 && fssl_verified_in(s->lib, basic, certs, s->issuer);

    sk_X509_free(certs);
    X509_STORE_free(store);
    return ok;
}

/* A response without nextUpdate expires when clients of this library stop accepting it. */
static int64_t expiry(const fssl_ocsp *o)
{
    return o->next_update != 0 ? o->next_update : o->this_update + FSSL_OCSP_MAX_AGE;
}

/* Checks a response as far as the certificate of s is known. Whether it has expired is checked without tolerance. */
static int check_once(const fssl_staple *s, fssl_ocsp *out, const unsigned char *der, size_t len)
{
    fssl_reading r;

    memset(out, 0, sizeof(*out));
    if (fssl_read_response(&r, out, der, len, s->cert, s->issuer)) {
        fssl_read_status(&r, out);
        if (s->issuer != NULL && !signed_for(s, r.basic))
            out->outcome = FSSL_OCSP_UNVERIFIED;
        else if (out->outcome != FSSL_OCSP_MALFORMED && expiry(out) < (int64_t)time(NULL))
            out->outcome = FSSL_OCSP_EXPIRED;
    }
    fssl_forget_reading(&r);
    return out->outcome == FSSL_OCSP_GOOD || out->outcome == FSSL_OCSP_REVOKED;
}

/* Checks a response. OpenSSL does not always report a lack of memory, so a response that seems to be bad is checked twice. */
static int check_response(const fssl_staple *s, fssl_ocsp *out, const unsigned char *der, size_t len)
{
    fssl_errors errs;

    if (check_once(s, out, der, len))
        return done(1, NULL);
    clear_errors();
    if (check_once(s, out, der, len))
        return done(1, NULL);
    if (fssl_starved(0, &errs)) /* a lack of memory says nothing about the response */
        out->outcome = FSSL_OCSP_NO_MEMORY;
    return 0;
}

/*
 * Replaces the response, if the new one can be stapled and is not older. With len 0 the response is removed. An older
 * response could be a replay, with which an attacker hides a revocation.
 */
int fssl_staple_set(fssl_staple *s, fssl_ocsp *out, const unsigned char *der, size_t len)
{
    unsigned char *copy = NULL, *old;

    clear_errors();
    memset(out, 0, sizeof(*out));
    if (len > 0) {
        if (!check_response(s, out, der, len))
            return 0;
        if (s->len > 0 && out->this_update < s->since) {
            out->outcome = FSSL_OCSP_OLDER;
            return 0;
        }
        copy = OPENSSL_memdup(der, len);
        if (copy == NULL) {
            out->outcome = FSSL_OCSP_NO_MEMORY;
            clear_errors();
            return 0;
        }
    }
    CRYPTO_THREAD_write_lock(s->lock);
    old = s->der;
    s->der = copy;
    s->len = len;
    s->since = len > 0 ? out->this_update : 0;
    s->until = len > 0 ? expiry(out) : 0;
    CRYPTO_THREAD_unlock(s->lock);
    OPENSSL_free(old);
    clear_errors();
    return 1;
}

/* Checks the current response again. The caller allows no concurrent fssl_staple_set. */
void fssl_staple_state(fssl_staple *s, fssl_ocsp *out)
{
    clear_errors();
    memset(out, 0, sizeof(*out));
    out->outcome = FSSL_OCSP_MISSING;
    if (s->len > 0)
        check_response(s, out, s->der, s->len);
}

static unsigned char *copy_staple(fssl_staple *s, size_t *len, int *starved)
{
    unsigned char *copy = NULL;

    *starved = 0;
    CRYPTO_THREAD_read_lock(s->lock);
    if (s->len > 0 && (int64_t)time(NULL) <= s->until) {
        copy = OPENSSL_memdup(s->der, s->len);
        *len = s->len;
        *starved = copy == NULL;
    }
    CRYPTO_THREAD_unlock(s->lock);
    return copy;
}

/* Staples the response of the certificate that OpenSSL has chosen. An expired response is not sent. */
static int staple_cb(SSL *ssl, void *arg)
{
    const fssl_ctx_data *data = arg;
    const X509 *cert = SSL_get_certificate(ssl);
    int i, starved;

    for (i = 0; i < data->n_identities; i++) {
        unsigned char *copy;
        size_t len = 0;

        if (data->identities[i].cert != cert || data->identities[i].staple == NULL)
            continue;
        copy = copy_staple(data->identities[i].staple, &len, &starved);
        if (copy == NULL)
            return starved ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_NOACK;
        if (SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)len) == 1) /* takes ownership of copy */
            return SSL_TLSEXT_ERR_OK;
        OPENSSL_free(copy);
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    return SSL_TLSEXT_ERR_NOACK;
}

/* Reports whether a CA has issued cert. CAs that have renewed their key can have the same name, so the signature decides. */
static int has_issued(X509 *ca, X509 *cert)
{
    EVP_PKEY *key = X509_get0_pubkey(ca);

    return X509_check_issued(ca, cert) == X509_V_OK && key != NULL && X509_verify(cert, key) == 1;
}

/* Returns a reference to the issuer of an identity's certificate, from its chain or the trusted CAs, or NULL. */
static X509 *search_issuer(SSL_CTX *ctx, const fssl_identity *id, const fssl_lib *lib)
{
    STACK_OF(X509) *named = NULL;
    X509_STORE_CTX *store;
    X509 *issuer = NULL;
    int i;

    if (has_issued(id->cert, id->cert))
        issuer = id->cert;
    for (i = 0; issuer == NULL && i < sk_X509_num(id->chain); i++)
        if (has_issued(sk_X509_value(id->chain, i), id->cert))
            issuer = sk_X509_value(id->chain, i);
    if (issuer != NULL) {
        X509_up_ref(issuer);
        return issuer;
    }
    store = fssl_new_store_ctx(lib);
    if (store != NULL && X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(ctx), id->cert, NULL) == 1)
        named = X509_STORE_CTX_get1_certs(store, X509_get_issuer_name(id->cert));
    for (i = 0; issuer == NULL && i < sk_X509_num(named); i++)
        if (has_issued(sk_X509_value(named, i), id->cert)) {
            issuer = sk_X509_value(named, i);
            X509_up_ref(issuer);
        }
    sk_X509_pop_free(named, X509_free);
    X509_STORE_CTX_free(store);
    return issuer;
}

/*
 * Sets issuer as search_issuer returns it. Fails if memory is short: an issuer that is not found would mean that
 * nobody verifies the signature of a response. OpenSSL does not always report a lack of memory, so an issuer that was
 * not found is searched for a second time.
 */
static int find_issuer(X509 **issuer, SSL_CTX *ctx, const fssl_identity *id, const fssl_lib *lib)
{
    fssl_errors errs;
    int i;

    *issuer = NULL;
    for (i = 0; i < 2 && *issuer == NULL; i++) {
        clear_errors();
        *issuer = search_issuer(ctx, id, lib);
    }
    return *issuer != NULL ? done(1, NULL) : !fssl_starved(0, &errs);
}

/*
 * Sets text to the responders that cert names, one on each line. Fails if memory is short, which X509_get1_ocsp does
 * not report: a certificate that seems to name no responder is read a second time.
 */
static int list_responders(char **text, X509 *cert)
{
    STACK_OF(OPENSSL_STRING) *list = NULL;
    fssl_errors errs;
    size_t len = 1;
    int i, ok = 1;

    *text = NULL;
    clear_errors();
    if (X509_get_ext_by_NID(cert, NID_info_access, -1) >= 0) {
        for (i = 0; i < 2 && list == NULL; i++) {
            clear_errors();
            list = X509_get1_ocsp(cert);
        }
        ok = list != NULL || !fssl_starved(0, &errs);
    }
    for (i = 0; i < sk_OPENSSL_STRING_num(list); i++)
        len += strlen(sk_OPENSSL_STRING_value(list, i)) + 1;
    if (ok)
        *text = OPENSSL_zalloc(len);
    for (i = 0; *text != NULL && i < sk_OPENSSL_STRING_num(list); i++) {
        strcat(*text, sk_OPENSSL_STRING_value(list, i));
        strcat(*text, "\n");
    }
    X509_email_free(list);
    clear_errors();
    return *text != NULL;
}

/*
 * Checks whether s can be the staple of identity i of ctx, and changes nothing in s but next. Fails if s is bound to
 * another certificate, if its response is not for this one, or if memory is short. A response that has expired
 * meanwhile is kept, but not sent.
 */
int fssl_ctx_check_staple(SSL_CTX *ctx, fssl_ocsp *out, int i, fssl_staple *s, const fssl_lib *lib)
{
    fssl_identity *id = &fssl_ctx_data_of(ctx)->identities[i];
    fssl_staple trial = *s;

    clear_errors();
    memset(out, 0, sizeof(*out));
    if (s->cert != NULL && X509_cmp(s->cert, id->cert) != 0) {
        out->outcome = FSSL_OCSP_BOUND;
        clear_errors();
        return 0;
    }
    s->next.since = s->since;
    s->next.until = s->until;
    if (s->cert != NULL && s->issuer != NULL)
        return 1;
    X509_free(id->issuer);
    OPENSSL_free(s->next.responders);
    s->next.responders = NULL;
    out->outcome = FSSL_OCSP_NO_MEMORY;
    if (!find_issuer(&id->issuer, ctx, id, lib) || !list_responders(&s->next.responders, id->cert))
        return 0;
    trial.cert = id->cert;
    trial.issuer = id->issuer;
    trial.lib = lib;
    if (s->len == 0)
        return 1;
    if (!check_response(&trial, out, s->der, s->len) && out->outcome != FSSL_OCSP_EXPIRED)
        return 0;
    s->next.since = out->this_update; /* of the statement about this certificate; another one may have set s->since */
    s->next.until = expiry(out);
    return 1;
}

/* Gives identity i of ctx its staple, which fssl_ctx_check_staple has accepted, and binds the staple to the certificate. */
void fssl_ctx_use_staple(SSL_CTX *ctx, int i, fssl_staple *s, const fssl_lib *lib)
{
    fssl_ctx_data *data = fssl_ctx_data_of(ctx);
    fssl_identity *id = &data->identities[i];

    CRYPTO_THREAD_write_lock(s->lock);
    s->since = s->next.since;
    s->until = s->next.until;
    CRYPTO_THREAD_unlock(s->lock);
    if (s->cert == NULL) {
        X509_up_ref(id->cert);
        s->cert = id->cert;
        s->responders = s->next.responders;
        s->next.responders = NULL;
    }
    if (s->issuer == NULL) {
        s->lib = lib;
        s->issuer = id->issuer;
        id->issuer = NULL;
    }
    __atomic_add_fetch(&s->refs, 1, __ATOMIC_RELAXED);
    id->staple = s;
    SSL_CTX_set_tlsext_status_cb(ctx, staple_cb);
    SSL_CTX_set_tlsext_status_arg(ctx, data);
}

/*
 * Returns a request for the status of the certificate that s is bound to, in DER form, or NULL. unknown reports that the
 * certificate or its issuer is not known. The caller frees the request with OPENSSL_free.
 */
unsigned char *fssl_staple_request(fssl_staple *s, size_t *len, int *unknown, fssl_errors *errs)
{
    OCSP_REQUEST *request = NULL;
    OCSP_CERTID *id = NULL;
    unsigned char *der = NULL;
    int n = 0;

    clear_errors();
    errs->n = 0;
    *unknown = s->cert == NULL || s->issuer == NULL;
    if (*unknown)
        return NULL;
    request = OCSP_REQUEST_new();
    id = OCSP_cert_to_id(NULL, s->cert, s->issuer); /* SHA-1, which RFC 5019 section 2.1.1 requires */
    if (request != NULL && id != NULL && OCSP_request_add0_id(request, id) != NULL) {
        id = NULL;
        n = i2d_OCSP_REQUEST(request, &der);
    }
    OCSP_CERTID_free(id);
    OCSP_REQUEST_free(request);
    *len = n > 0 ? (size_t)n : 0;
    done(n > 0, errs);
    return n > 0 ? der : NULL;
}

/* Returns the responders that the certificate names, one on each line, or NULL. The text belongs to s. */
const char *fssl_staple_responders(fssl_staple *s)
{
    return s->responders;
}

#endif
