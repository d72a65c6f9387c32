/*
 * Connections: making and freeing one, its settings, and operations that no record uses. cgo_helpers.c moves the data.
 */
#include "cgo_internal.h"

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
    c->policy.mode = mode;
    c->judging = &c->verdict;
    if (n_ignore > 0) {
        c->policy.ignore = OPENSSL_memdup(ignore, (size_t)n_ignore * sizeof(*ignore));
        if (c->policy.ignore == NULL)
            goto err;
        c->policy.n_ignore = n_ignore;
    }
    c->ssl = SSL_new(ctx); /* takes a reference to ctx */
    bio = fssl_wire_new(c);
    if (c->ssl == NULL || bio == NULL || !SSL_set_app_data(c->ssl, c)) {
        BIO_free(bio);
        goto err;
    }
    SSL_set_bio(c->ssl, bio, bio); /* takes ownership of bio */
    SSL_set_verify(c->ssl, verify_mode, verify_mode != SSL_VERIFY_NONE ? fssl_verify_cb : NULL);
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
    fssl_verdict_clear(&c->verdict);
    OPENSSL_free(c->policy.ignore);
    OPENSSL_free(c->wire.held);
    OPENSSL_free(c->errs);
    fssl_hello_free(c->hello);
    fssl_drop_sessions(c);
    fssl_conn_forget_stored(c);
    X509_free(c->server_sessions.leaf);
    if (c->keys.lines != NULL)
        fssl_forget_keys(c);
    OPENSSL_free(c);
    clear_errors();
}

int fssl_conn_set_alpn(fssl_conn *c, const unsigned char *protos, size_t len, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_set_alpn_protos(c->ssl, protos, (unsigned int)len) == 0, errs); /* 0 is success here */
}

/* Sets the name to send as SNI, and the host name or IP address to verify. Each may be NULL. */
int fssl_conn_set_name(fssl_conn *c, const char *sni, const char *host, const char *ip, fssl_errors *errs)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    int ok;

    clear_errors();
    /*
     * A common name is not a host name (RFC 9525 section 2): people often choose the common name of their client
     * certificate themselves.
     */
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    ok = SSL_set_tlsext_host_name(c->ssl, sni) == 1 && X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
         (ip != NULL ? X509_VERIFY_PARAM_set1_ip_asc(param, ip) : X509_VERIFY_PARAM_set1_ip(param, NULL, 0)) == 1;
    return done(ok, errs);
}

/* Queues our close_notify. Everything that OpenSSL would send after it is dropped. */
fssl_status fssl_shutdown(fssl_conn *c)
{
    int ret;

    clear_errors();
    if (SSL_in_init(c->ssl))
        return FSSL_AGAIN;
    ret = SSL_shutdown(c->ssl);
    if (ret < 0)
        return fssl_outcome(c, ret);
    c->wire.made = BIO_number_written(SSL_get_wbio(c->ssl));
    c->wire.discard = 1;
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
        return fssl_outcome(c, ret);
    clear_errors();
    return FSSL_OK;
}

/*
 * Returns what would be incomplete if the transport ended now. SSL_has_pending does not notice a record if exactly
 * its header has been read; OpenSSL's state is then "read body" (RB).
 */
int fssl_conn_truncated(const fssl_conn *c)
{
    int in_record = SSL_has_pending(c->ssl) || strcmp(SSL_rstate_string(c->ssl), "RB") == 0;

    return (in_record ? FSSL_IN_RECORD : 0) | (SSL_in_init(c->ssl) ? FSSL_IN_HANDSHAKE : 0);
}
