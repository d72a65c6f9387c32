/* OCSP: reading and verifying a response, and the check of a response that a client receives. cgo_staple.c is the server's side. */
#include "cgo_internal.h"

#include <time.h>

#ifdef OPENSSL_NO_OCSP

int fssl_ocsp_supported(void) { return 0; }
void fssl_ocsp_unparsed(fssl_conn *c) { (void)c; }
void fssl_ctx_check_ocsp(SSL_CTX *ctx, int require) { (void)ctx, (void)require; }
int fssl_judge_ocsp(const fssl_conn *c, fssl_ocsp *o, STACK_OF(X509) *chain, const unsigned char *der, size_t len)
{
    (void)c, (void)chain, (void)der, (void)len;
    memset(o, 0, sizeof(*o));
    return 1;
}

#else

#include <openssl/rsa.h>

int fssl_ocsp_supported(void)
{
    return 1;
}

void fssl_forget_reading(fssl_reading *r)
{
    OCSP_BASICRESP_free(r->basic);
    OCSP_RESPONSE_free(r->response);
}

/*
 * Reports whether a single response is about cert. Its own algorithm hashes the name and the key of the issuer; if
 * the issuer is not known, only the serial numbers are compared. Returns -1 if memory is short.
 */
static int is_about(OCSP_SINGLERESP *single, X509 *cert, X509 *issuer)
{
    OCSP_CERTID *id = (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(single), *own;
    ASN1_OBJECT *algorithm;
    ASN1_INTEGER *serial;
    const EVP_MD *md;
    int same;

    OCSP_id_get0_info(NULL, &algorithm, NULL, &serial, id);
    if (ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(cert)) != 0)
        return 0;
    if (issuer == NULL)
        return 1;
    md = EVP_get_digestbyobj(algorithm);
    if (md == NULL)
        return 0;
    own = OCSP_cert_to_id(md, cert, issuer);
    same = own == NULL ? -1 : OCSP_id_cmp(own, id) == 0;
    OCSP_CERTID_free(own);
    return same;
}

/* Parses a response and finds what it says about cert, or its first statement if cert is NULL. */
int fssl_read_response(fssl_reading *r, fssl_ocsp *out, const unsigned char *der, size_t len, X509 *cert, X509 *issuer)
{
    const unsigned char *p = der;
    int i;

    memset(r, 0, sizeof(*r));
    out->outcome = FSSL_OCSP_MALFORMED;
    r->response = len <= FSSL_MAX_OCSP ? d2i_OCSP_RESPONSE(NULL, &p, (long)len) : NULL;
    if (r->response == NULL || p != der + len)
        return 0;
    out->responder_status = OCSP_response_status(r->response);
    if (out->responder_status != OCSP_RESPONSE_STATUS_SUCCESSFUL) {
        out->outcome = FSSL_OCSP_UNSUCCESSFUL;
        return 0;
    }
    r->basic = OCSP_response_get1_basic(r->response);
    if (r->basic == NULL)
        return 0;
    out->outcome = FSSL_OCSP_OTHER_CERT;
    for (i = 0; i < OCSP_resp_count(r->basic); i++) {
        OCSP_SINGLERESP *single = OCSP_resp_get0(r->basic, i);
        int revoked = OCSP_single_get0_status(single, NULL, NULL, NULL, NULL) == V_OCSP_CERTSTATUS_REVOKED, about;

        if (r->single != NULL && !revoked) /* the first statement counts, unless a later one says "revoked" */
            continue;
        about = cert == NULL ? 1 : is_about(single, cert, issuer);
        if (about < 0) {
            out->outcome = FSSL_OCSP_NO_MEMORY;
            return 0;
        }
        if (about) {
            r->single = single;
            if (revoked || cert == NULL)
                break;
        }
    }
    return r->single != NULL;
}

/* Converts a date of the form YYYYMMDDHHMMSSZ, the only one in DER (RFC 5280 section 4.1.2.5.2). Returns 0 for another form. */
static int64_t seconds(const ASN1_GENERALIZEDTIME *when)
{
    struct tm tm;

    if (when == NULL || ASN1_STRING_length(when) != 15 || ASN1_STRING_get0_data(when)[14] != 'Z')
        return 0;
    return ASN1_TIME_to_tm(when, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/*
 * Compares the dates with the clock, without an allocation. OCSP_check_validity accepts a date that X509_cmp_time
 * cannot compare: one of another form, or any date if memory is short.
 */
static int check_dates(const fssl_ocsp *o, int has_next)
{
    int64_t now = (int64_t)time(NULL);

    if (o->this_update == 0 || (has_next && o->next_update < o->this_update))
        return FSSL_OCSP_MALFORMED;
    if (o->this_update > now + FSSL_OCSP_SKEW)
        return FSSL_OCSP_NOT_YET;
    if (has_next ? o->next_update < now - FSSL_OCSP_SKEW : o->this_update < now - FSSL_OCSP_MAX_AGE)
        return FSSL_OCSP_EXPIRED;
    return FSSL_OCSP_GOOD;
}

/* Sets the outcome by the status and the dates. */
void fssl_read_status(const fssl_reading *r, fssl_ocsp *out)
{
    ASN1_GENERALIZEDTIME *revoked = NULL, *this_update = NULL, *next_update = NULL;
    int reason = -1, dates, status = OCSP_single_get0_status(r->single, &reason, &revoked, &this_update, &next_update);

    out->this_update = seconds(this_update);
    out->next_update = seconds(next_update);
    dates = check_dates(out, next_update != NULL);
    if (dates != FSSL_OCSP_GOOD) {
        out->outcome = dates;
        return;
    }
    out->outcome = status == V_OCSP_CERTSTATUS_GOOD      ? FSSL_OCSP_GOOD
                   : status == V_OCSP_CERTSTATUS_REVOKED ? FSSL_OCSP_REVOKED
                                                         : FSSL_OCSP_UNKNOWN;
    if (status == V_OCSP_CERTSTATUS_REVOKED) {
        out->revoked_at = seconds(revoked);
        out->reason = reason;
    }
}

#ifdef FSSL_OPENSSL_111
int fssl_verified_in(const fssl_lib *lib, OCSP_BASICRESP *basic, STACK_OF(X509) *certs, X509 *issuer)
{
    return (void)lib, (void)basic, (void)certs, (void)issuer, 1;
}
#else
/*
 * OpenSSL verifies a response in its default library context. For a context of the FIPS provider, this verifies the
 * signatures again with that provider: of the response, and of the certificate of a delegated responder.
 */
int fssl_verified_in(const fssl_lib *lib, OCSP_BASICRESP *basic, STACK_OF(X509) *certs, X509 *issuer)
{
    X509 *signer = NULL, *copy;
    EVP_PKEY *issuer_key = X509_get0_pubkey(issuer);
    unsigned char *der = NULL;
    const unsigned char *p;
    int len, ok;

    if (lib == NULL)
        return 1;
    if (OCSP_resp_get0_signer(basic, &signer, certs) != 1)
        return 0;
    len = i2d_X509(signer, &der);
    copy = X509_new_ex(lib->ctx, FSSL_PROPQ);
    p = der;
    ok = len > 0 && copy != NULL && d2i_X509(&copy, &p, len) != NULL &&
         ASN1_item_verify_ex(ASN1_ITEM_rptr(OCSP_RESPDATA), OCSP_resp_get0_tbs_sigalg(basic), OCSP_resp_get0_signature(basic),
                             OCSP_resp_get0_respdata(basic), NULL, X509_get0_pubkey(copy), lib->ctx, FSSL_PROPQ) == 1 &&
         (X509_cmp(signer, issuer) == 0 || X509_verify(copy, issuer_key) == 1);
    OPENSSL_free(der);
    X509_free(copy);
    return ok;
}
#endif

/* Reports whether the certificate demands a stapled response (RFC 7633). */
static int must_staple(X509 *cert)
{
    int i, critical = -1, found;
    TLS_FEATURE *features = X509_get_ext_d2i(cert, NID_tlsfeature, &critical, NULL);

    found = features == NULL && critical != -1; /* damaged, present twice, or not read because memory is short */
    for (i = 0; i < sk_ASN1_INTEGER_num(features); i++)
        if (ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, i)) == TLSEXT_TYPE_status_request)
            found = 1;
    TLS_FEATURE_free(features);
    return found;
}

/* Returns the security bits of a digest in signatures, as X509_get_signature_info does. */
static int digest_bits(int nid)
{
    const EVP_MD *md = EVP_get_digestbynid(nid);

#ifndef FSSL_OPENSSL_111
    if (nid == NID_sha1)
        return 63;
#endif
    return md != NULL ? EVP_MD_size(md) * 4 : 0;
}

/* Returns the security bits of the digest of a signature, or INT_MAX if the algorithm has no digest of its own (EdDSA). */
static int signature_bits(const X509_ALGOR *algorithm)
{
    const ASN1_OBJECT *object;
    const void *value;
    int type, digest = NID_undef;

    X509_ALGOR_get0(&object, &type, &value, algorithm);
    if (OBJ_obj2nid(object) == NID_rsassaPss) {
        RSA_PSS_PARAMS *pss = type == V_ASN1_SEQUENCE ? ASN1_item_unpack(value, ASN1_ITEM_rptr(RSA_PSS_PARAMS)) : NULL;

        if (pss == NULL)
            return 0;
        digest = NID_sha1; /* the default of RFC 4055 section 3.1 */
        if (pss->hashAlgorithm != NULL) {
            X509_ALGOR_get0(&object, NULL, NULL, pss->hashAlgorithm);
            digest = OBJ_obj2nid(object);
        }
        RSA_PSS_PARAMS_free(pss);
    } else if (OBJ_find_sigid_algs(OBJ_obj2nid(object), &digest, NULL) != 1)
        return 0;
    return digest == NID_undef ? INT_MAX : digest_bits(digest);
}

/* Applies the security level to the key and the signature of the response, and to the certificate of a delegated responder. */
static int strong_enough(const SSL *ssl, OCSP_BASICRESP *basic, STACK_OF(X509) *chain, X509 *issuer)
{
    static const int bits[] = {80, 112, 128, 192, 256};
    int level = SSL_get_security_level(ssl), need, of_cert = -1;
    X509 *signer;

    if (level <= 0)
        return 1;
    need = bits[level > 5 ? 4 : level - 1];
    if (OCSP_resp_get0_signer(basic, &signer, chain) != 1 || signature_bits(OCSP_resp_get0_tbs_sigalg(basic)) < need)
        return 0;
    if (X509_cmp(signer, issuer) == 0) /* the security level has been applied to the chain */
        return 1;
    return EVP_PKEY_security_bits(X509_get0_pubkey(signer)) >= need && X509_get_signature_info(signer, NULL, NULL, &of_cert, NULL) == 1 &&
           of_cert >= need;
}

/* Ignores what the policy ignores, as fssl_verify_cb of cgo_helpers.c does. */
static int responder_cb(int ok, X509_STORE_CTX *store)
{
    const fssl_conn *c = SSL_get_app_data((SSL *)X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    int code = X509_STORE_CTX_get_error(store);

    return ok || (fssl_ignores(&c->policy, code) && !(c->policy.lists_unusable && code == X509_V_ERR_UNABLE_TO_GET_CRL));
}

/*
 * Checks the certificate of a delegated responder against the CRLs of the connection, unless its issuer has said that
 * this is not necessary (RFC 6960 section 4.2.2.2.1). OCSP_basic_verify has verified everything else.
 */
static int responder_allowed(const fssl_conn *c, OCSP_BASICRESP *basic, STACK_OF(X509) *chain, X509 *issuer)
{
    int lists = (X509_VERIFY_PARAM_get_flags(SSL_get0_param(c->ssl)) & X509_V_FLAG_CRL_CHECK) != 0;
    int serials = c->policy.serials_mode != FSSL_CRL_OFF, ok;
    X509_STORE_CTX *store;
    X509 *signer = NULL;

    if (!lists && !serials)
        return 1;
    if (OCSP_resp_get0_signer(basic, &signer, chain) != 1)
        return 0;
    if (X509_cmp(signer, issuer) == 0 || X509_get_ext_by_NID(signer, NID_id_pkix_OCSP_noCheck, -1) >= 0)
        return 1;
    if (serials && (c->policy.serials == NULL || fssl_listed(c->policy.serials, signer)))
        return 0;
    if (!lists)
        return 1;
    store = fssl_new_store_ctx(c->lib);
    ok = store != NULL && X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(SSL_get_SSL_CTX(c->ssl)), signer, chain) == 1 &&
         X509_STORE_CTX_set_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx(), c->ssl) == 1 &&
         X509_STORE_CTX_set_purpose(store, X509_PURPOSE_OCSP_HELPER) == 1;
    if (ok) {
        X509_STORE_CTX_set_flags(store, X509_V_FLAG_CRL_CHECK);
        X509_STORE_CTX_set_verify_cb(store, responder_cb);
        if (c->policy.lists != NULL)
            X509_STORE_CTX_set0_crls(store, c->policy.lists);
        ok = X509_verify_cert(store) == 1;
    }
    X509_STORE_CTX_free(store);
    return ok;
}

/* Verifies the response about the leaf of a verified chain. */
static void judge_response(const fssl_conn *c, fssl_ocsp *out, STACK_OF(X509) *chain, const unsigned char *der, size_t len)
{
    X509 *leaf = sk_X509_value(chain, 0), *issuer = sk_X509_num(chain) > 1 ? sk_X509_value(chain, 1) : NULL;
    fssl_reading r;

    if (issuer == NULL && X509_check_issued(leaf, leaf) == X509_V_OK)
        issuer = leaf;
    if (issuer == NULL) {
        out->outcome = FSSL_OCSP_NO_ISSUER;
        return;
    }
    if (fssl_read_response(&r, out, der, len, leaf, issuer)) {
        fssl_read_status(&r, out);
        if (OCSP_basic_verify(r.basic, chain, SSL_CTX_get_cert_store(SSL_get_SSL_CTX(c->ssl)), OCSP_NOEXPLICIT) != 1 ||
            !fssl_verified_in(c->lib, r.basic, chain, issuer) || !strong_enough(c->ssl, r.basic, chain, issuer))
            out->outcome = FSSL_OCSP_UNVERIFIED;
        else if (!responder_allowed(c, r.basic, chain, issuer))
            out->outcome = FSSL_OCSP_RESPONDER;
    }
    fssl_forget_reading(&r);
}

/* Returns the error of an outcome. */
static int error_of(const fssl_ocsp *o)
{
    switch (o->outcome) {
    case FSSL_OCSP_GOOD:
    case FSSL_OCSP_NONE:
        return X509_V_OK;
    case FSSL_OCSP_REVOKED:
        return X509_V_ERR_CERT_REVOKED;
    case FSSL_OCSP_UNKNOWN:
        return X509_V_ERR_OCSP_CERT_UNKNOWN;
    case FSSL_OCSP_MISSING:
        return o->required ? X509_V_ERR_OCSP_VERIFY_NEEDED : X509_V_OK;
    default:
        return X509_V_ERR_OCSP_VERIFY_FAILED;
    }
}

/*
 * Checks the stapled response of len bytes about the leaf of a verified chain, if the context asks for that. Returns 0
 * if the policy rejects the server because of it.
 */
int fssl_judge_ocsp(const fssl_conn *c, fssl_ocsp *o, STACK_OF(X509) *chain, const unsigned char *der, size_t len)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(SSL_get_SSL_CTX(c->ssl));

    memset(o, 0, sizeof(*o));
    if (!data->check_ocsp || sk_X509_num(chain) < 1) /* without a certificate the suite is anonymous */
        return 1;
    o->must_staple = must_staple(sk_X509_value(chain, 0));
    o->required = data->require_ocsp || o->must_staple;
    o->outcome = FSSL_OCSP_MISSING;
    if (len > 0 && der != NULL)
        judge_response(c, o, chain, der, len);
    o->error = error_of(o);
    o->ignored = o->error != X509_V_OK && fssl_ignores(&c->policy, o->error);
    clear_errors();
    return o->error == X509_V_OK || o->ignored || c->policy.mode == FSSL_RECORD;
}

/* OpenSSL could not parse the stapled response, and called no callback. */
void fssl_ocsp_unparsed(fssl_conn *c)
{
    memset(&c->ocsp, 0, sizeof(c->ocsp));
    c->ocsp.outcome = FSSL_OCSP_MALFORMED;
    c->ocsp.error = error_of(&c->ocsp);
}

/*
 * Checks the stapled response. OpenSSL calls it in every handshake that asked for one, after the server's certificates
 * are verified. If it returns 0, OpenSSL sends the alert bad_certificate_status_response.
 */
static int check_cb(SSL *ssl, void *arg)
{
    fssl_conn *c = SSL_get_app_data(ssl);
    const unsigned char *der = NULL;
    long len;

    (void)arg;
    if (c == NULL) /* a trial of fssl_ctx_try */
        return 1;
    if (SSL_session_reused(ssl)) { /* fssl_conn_offer has checked the response of the full handshake */
        memset(&c->ocsp, 0, sizeof(c->ocsp));
        return 1;
    }
    len = SSL_get_tlsext_status_ocsp_resp(ssl, &der);
    return fssl_judge_ocsp(c, &c->ocsp, SSL_get0_verified_chain(ssl), der, len > 0 ? (size_t)len : 0);
}

void fssl_ctx_check_ocsp(SSL_CTX *ctx, int require)
{
    fssl_ctx_data *data = fssl_ctx_data_of(ctx);

    data->check_ocsp = 1;
    data->require_ocsp = require;
    SSL_CTX_set_tlsext_status_cb(ctx, check_cb);
}

#endif
