/* The certificates of this side, their chains and keys, and the choice between them. */
#include "cgo_internal.h"

/* Sets the certificate chain. chain[0] is the leaf, and all certificates are sent. */
int fssl_ctx_use_chain(SSL_CTX *ctx, STACK_OF(X509) *chain, fssl_errors *errs)
{
    int i, ok;

    clear_errors();
    ok = SSL_CTX_use_certificate(ctx, sk_X509_value(chain, 0)) == 1 && /* takes its own reference */
         SSL_CTX_clear_chain_certs(ctx) == 1;                          /* those of another identity with the same type of key */
    for (i = 1; ok && i < sk_X509_num(chain); i++)
        ok = SSL_CTX_add1_chain_cert(ctx, sk_X509_value(chain, i)) == 1;
    return done(ok, errs);
}

int fssl_ctx_use_key(SSL_CTX *ctx, int *mismatch, EVP_PKEY *key, fssl_errors *errs)
{
    clear_errors();
    if (X509_check_private_key(SSL_CTX_get0_certificate(ctx), key) == 1)
        return done(SSL_CTX_use_PrivateKey(ctx, key) == 1, errs);
    *mismatch = ERR_GET_LIB(ERR_peek_last_error()) == ERR_LIB_X509; /* other errors are not a mismatch */
    return done(0, errs);
}

/*
 * Does once what OpenSSL's automatic chain would do in every handshake: takes the intermediates from the trust
 * store.
 */
int fssl_ctx_build_chain(SSL_CTX *ctx, fssl_errors *errs)
{
    STACK_OF(X509) *chain = NULL;
    int i, ret = 2;

    for (i = 0; i < 2 && ret == 2; i++) {
        clear_errors();
        ret = SSL_CTX_build_cert_chain(ctx, SSL_BUILD_CHAIN_FLAG_NO_ROOT | SSL_BUILD_CHAIN_FLAG_IGNORE_ERROR);
    }
    /*
     * If OpenSSL has no memory to copy the chain, it reports success but sets no chain. Otherwise there always is
     * a chain, although it may be empty.
     */
    if (ret > 0 && (SSL_CTX_get0_chain_certs(ctx, &chain) != 1 || chain == NULL))
        return done(0, errs);
    if (ret == 2) /* incomplete both times: not an error, unless memory is short */
        return !fssl_starved(0, errs);
    return done(ret > 0, errs);
}

void fssl_forget_identities(fssl_ctx_data *data)
{
    while (data->n_identities > 0) {
        fssl_identity *id = &data->identities[--data->n_identities];

        X509_free(id->cert);
        EVP_PKEY_free(id->key);
        sk_X509_pop_free(id->chain, X509_free);
        fssl_staple_free(id->staple);
        X509_free(id->issuer);
    }
}

/* Reports whether a certificate is one of those in ctx. This changes the current certificate. */
static int has_slot(SSL_CTX *ctx, const X509 *cert)
{
    int more;

    for (more = SSL_CTX_set_current_cert(ctx, SSL_CERT_SET_FIRST); more == 1; more = SSL_CTX_set_current_cert(ctx, SSL_CERT_SET_NEXT))
        if (SSL_CTX_get0_certificate(ctx) == cert)
            return 1;
    return 0;
}

/*
 * Adds the certificate, chain and key that were set last to the identities of ctx. OpenSSL keeps one certificate for
 * each type of key. On a server, clash is the index of the identity whose certificate this one has replaced, or -1.
 */
int fssl_ctx_add_identity(SSL_CTX *ctx, int *clash, int client, fssl_errors *errs)
{
    fssl_ctx_data *data = fssl_ctx_data_of(ctx);
    fssl_identity *id = &data->identities[data->n_identities];
    STACK_OF(X509) *chain = NULL;
    X509 *cert = SSL_CTX_get0_certificate(ctx);
    int i, ok;

    clear_errors();
    *clash = -1;
    if (data->n_identities == FSSL_MAX_IDENTITIES)
        return done(0, errs);
    SSL_CTX_get0_chain_certs(ctx, &chain);
    id->chain = chain != NULL ? X509_chain_up_ref(chain) : NULL;
    ok = chain == NULL || id->chain != NULL;
    id->cert = cert;
    X509_up_ref(cert);
    id->key = SSL_CTX_get0_privatekey(ctx);
    EVP_PKEY_up_ref(id->key);
    data->n_identities++;
    for (i = 0; !client && *clash < 0 && i < data->n_identities; i++)
        if (!has_slot(ctx, data->identities[i].cert))
            *clash = i;
    return done(ok && *clash < 0 && SSL_CTX_select_current_cert(ctx, cert) == 1, errs);
}

/*
 * Chooses the certificate of a client when the server asks for one: the first whose issuer is one of the CAs that
 * the server lists (if it lists any) and whose key can make a signature that the server accepts. An identity whose
 * certificates are signed with algorithms that the server lists is preferred. A client with a single identity always
 * shows it, if the server accepts its type of key. For a client without an identity, this callback only notes the request.
 */
int fssl_choose_cb(SSL *ssl, void *arg)
{
    const fssl_ctx_data *data = arg;
    fssl_conn *c = SSL_get_app_data(ssl);
    int i = 0, found = data->n_identities == 1, loose;
    /* In TLS 1.3 a signature algorithm has a curve, and SSL_check_chain reports with EE_SIGNATURE whether the key fits one. */
    int want = CERT_PKEY_SIGN | CERT_PKEY_ISSUER_NAME | (SSL_version(ssl) < TLS1_3_VERSION ? CERT_PKEY_CERT_TYPE : CERT_PKEY_EE_SIGNATURE);
    int want_all = want | CERT_PKEY_EE_SIGNATURE | CERT_PKEY_EE_PARAM | CERT_PKEY_CA_SIGNATURE | CERT_PKEY_CA_PARAM;

    if (c == NULL) /* a trial of fssl_ctx_try */
        return 1;
    for (loose = 0; loose < 2 && !found; loose++)
        for (i = 0; i < data->n_identities; i++) {
            const fssl_identity *id = &data->identities[i];
            int flags = loose ? want : want_all;

            found = (SSL_check_chain(ssl, id->cert, id->key, id->chain) & flags) == flags;
            if (found)
                break;
        }
    clear_errors();
    if (data->n_identities > 1) { /* only the chosen one remains: OpenSSL would choose by the type of key alone */
        SSL_certs_clear(ssl);
        if (found && SSL_use_cert_and_key(ssl, data->identities[i].cert, data->identities[i].key, data->identities[i].chain, 1) != 1)
            return 0;
    }
    c->request.asked = 1;
    c->request.shown = found ? i + 1 : 0;
    c->request.round = SSL_total_renegotiations(ssl);
    return 1;
}

/* Ends the series of fssl_ctx_add_identity. The first identity is the current certificate of ctx. */
int fssl_ctx_set_identities(SSL_CTX *ctx, int client, fssl_errors *errs)
{
    fssl_ctx_data *data = fssl_ctx_data_of(ctx);
    const fssl_identity *first = data->identities;
    int ok;

    clear_errors();
    ok = client ? SSL_CTX_use_cert_and_key(ctx, first->cert, first->key, first->chain, 1) : SSL_CTX_select_current_cert(ctx, first->cert);
    return done(ok == 1, errs);
}

/* Gives a connection one of the identities of its context, and no other. */
int fssl_use_identity(SSL *ssl, const fssl_identity *id)
{
    SSL_certs_clear(ssl);
    SSL_set_cert_cb(ssl, NULL, NULL);
    return SSL_use_cert_and_key(ssl, id->cert, id->key, id->chain, 1) == 1;
}

/*
 * Returns the index of the identity whose certificate this side showed in the last handshake, or -1 if it showed
 * none. In a resumed session neither side shows one.
 */
int fssl_shown(const fssl_conn *c)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(SSL_get_SSL_CTX(c->ssl));
    const SSL_CIPHER *cipher = SSL_get_current_cipher(c->ssl);
    const X509 *cert;
    int i, type;

    if (!c->handshaken || cipher == NULL || SSL_session_reused(c->ssl))
        return -1;
    if (c->client) /* without a signature algorithm, OpenSSL has sent an empty list of certificates */
        return c->request.round == SSL_total_renegotiations(c->ssl) && SSL_get_signature_type_nid(c->ssl, &type) == 1 ? c->request.shown - 1 : -1;
    if (SSL_CIPHER_get_auth_nid(cipher) == NID_auth_null)
        return -1;
    cert = SSL_get_certificate(c->ssl);
    for (i = 0; i < data->n_identities; i++)
        if (data->identities[i].cert == cert)
            return i;
    return -1;
}

int fssl_key_type(EVP_PKEY *key)
{
    int type = EVP_PKEY_base_id(key);

    return type == NID_undef ? -1 : type; /* only a provider knows the type, as for ML-DSA */
}

/* Returns the type of the key of identity i, as a NID, or -1 if OpenSSL has no number for it. */
int fssl_ctx_key_type(SSL_CTX *ctx, int i)
{
    return fssl_key_type(fssl_ctx_data_of(ctx)->identities[i].key);
}

/*
 * Returns certificate i of those that this side sends with an identity, without an automatic chain (ssl_add_cert_chain in
 * OpenSSL): its own certificate, and then its chain. Returns NULL after the last one.
 */
X509 *fssl_ctx_sent_cert(SSL_CTX *ctx, int identity, int i)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(ctx);

    if (identity >= data->n_identities)
        return NULL;
    if (i == 0)
        return data->identities[identity].cert;
    return i <= sk_X509_num(data->identities[identity].chain) ? sk_X509_value(data->identities[identity].chain, i - 1) : NULL;
}

/* Returns the size in bytes of a Certificate message of TLS 1.3 with the certificates of one identity. */
size_t fssl_ctx_chain_size(SSL_CTX *ctx, int identity)
{
    size_t size = 4;
    X509 *cert;
    int i;

    clear_errors();
    for (i = 0; (cert = fssl_ctx_sent_cert(ctx, identity, i)) != NULL; i++) {
        int n = i2d_X509(cert, NULL);

        size += 5 + (size_t)(n > 0 ? n : 0); /* three bytes of length, two for extensions */
    }
    clear_errors();
    return size;
}
