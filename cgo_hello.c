/* The ClientHello: a server connection that reads it and pauses, so that Go can choose the context by it. */
#include "cgo_internal.h"

/* Copies n bytes. An empty part has no memory. */
static int keep(fssl_part *part, const unsigned char *data, size_t n)
{
    OPENSSL_free(part->data);
    part->data = NULL;
    part->len = 0;
    if (n == 0)
        return 1;
    part->data = OPENSSL_memdup(data, n);
    if (part->data == NULL)
        return 0;
    part->len = n;
    return 1;
}

/* Returns the parts of the ClientHello that the connection keeps, or NULL if memory is short. */
static fssl_hello *hello_of(SSL *ssl)
{
    fssl_conn *c = SSL_get_app_data(ssl);

    if (c->hello == NULL)
        c->hello = OPENSSL_zalloc(sizeof(*c->hello));
    return c->hello;
}

void fssl_hello_free(fssl_hello *h)
{
    int i;

    if (h == NULL)
        return;
    for (i = 0; i < FSSL_HELLO_PARTS; i++)
        OPENSSL_free(h->part[i].data);
    OPENSSL_free(h);
}

/*
 * Keeps the message as OpenSSL has assembled it from records. OpenSSL calls this before it parses the message. A
 * message in the format of SSL 2.0 is not a handshake message, and has the content type 0.
 */
static void message_cb(int write, int version, int content_type, const void *data, size_t len, SSL *ssl, void *arg)
{
    fssl_hello *h;

    (void)version;
    (void)arg;
    if (write || (content_type != SSL3_RT_HANDSHAKE && content_type != 0))
        return;
    h = hello_of(ssl);
    if (h != NULL)
        keep(&h->part[FSSL_HELLO_MESSAGE], data, len); /* hello_cb detects a failed allocation */
}

/* The extensions whose bodies are kept. */
static const struct {
    int part;
    unsigned int type;
} extensions[] = {
    {FSSL_HELLO_NAME, TLSEXT_TYPE_server_name},
    {FSSL_HELLO_ALPN, TLSEXT_TYPE_application_layer_protocol_negotiation},
    {FSSL_HELLO_VERSIONS, TLSEXT_TYPE_supported_versions},
    {FSSL_HELLO_GROUPS, TLSEXT_TYPE_supported_groups},
    {FSSL_HELLO_POINTS, TLSEXT_TYPE_ec_point_formats},
    {FSSL_HELLO_SIGNATURES, TLSEXT_TYPE_signature_algorithms},
    {FSSL_HELLO_TICKET, TLSEXT_TYPE_session_ticket},
    {FSSL_HELLO_PSK, TLSEXT_TYPE_psk},
};

static int take(fssl_hello *h, SSL *ssl)
{
    const unsigned char *data;
    size_t i, n;

    if (h == NULL || h->part[FSSL_HELLO_MESSAGE].data == NULL)
        return 0;
    h->version = (int)SSL_client_hello_get0_legacy_version(ssl);
    h->v2 = SSL_client_hello_isv2(ssl);
    n = SSL_client_hello_get0_session_id(ssl, &data);
    if (!keep(&h->part[FSSL_HELLO_SESSION], data, n))
        return 0;
    n = SSL_client_hello_get0_ciphers(ssl, &data);
    if (!keep(&h->part[FSSL_HELLO_CIPHERS], data, n))
        return 0;
    for (i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++)
        if (SSL_client_hello_get0_ext(ssl, extensions[i].type, &data, &n) && !keep(&h->part[extensions[i].part], data, n))
            return 0;
    return 1;
}

/*
 * OpenSSL has parsed the ClientHello and found no error. The handshake pauses, and the next call refuses the client
 * if an alert is set.
 */
static int hello_cb(SSL *ssl, int *alert, void *arg)
{
    fssl_conn *c = SSL_get_app_data(ssl);

    (void)arg;
    if (c->hello != NULL && c->hello->alert != 0) {
        *alert = c->hello->alert;
        return SSL_CLIENT_HELLO_ERROR;
    }
    if (!take(c->hello, ssl)) {
        c->wire.full = c->wire.starved = 1; /* so that the error is a lack of memory */
        *alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    return SSL_CLIENT_HELLO_RETRY;
}

static SSL_CTX *hello_ctx; /* made once and set atomically; after a failure for lack of memory it is tried again */

/* Returns the context of the connections that read a ClientHello. It has no certificate, and is never freed. */
SSL_CTX *fssl_hello_ctx(fssl_errors *errs)
{
    SSL_CTX *ctx = __atomic_load_n(&hello_ctx, __ATOMIC_ACQUIRE), *none = NULL;

    if (ctx != NULL)
        return ctx;
    ctx = fssl_ctx_new(NULL, 0, errs);
    if (ctx == NULL)
        return NULL;
    /*
     * OpenSSL refuses to start a handshake if no version or no suite is possible. openssl.cnf must not cause that here,
     * because the chosen context may have other versions and suites.
     */
    SSL_CTX_clear_options(ctx, SSL_OP_NO_SSL_MASK);
    if (!fssl_ctx_set_versions(ctx, 0, 0, errs) || !fssl_ctx_set_suites(ctx, "TLS_AES_256_GCM_SHA384", errs)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_client_hello_cb(ctx, hello_cb, NULL);
    SSL_CTX_set_msg_callback(ctx, message_cb);
    if (!__atomic_compare_exchange_n(&hello_ctx, &none, ctx, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        SSL_CTX_free(ctx); /* another thread was faster */
        ctx = none;
    }
    return ctx;
}

/* Refuses the ClientHello: OpenSSL continues the paused handshake, and makes the alert. */
void fssl_hello_refuse(fssl_conn *c, int alert)
{
    clear_errors();
    c->hello->alert = alert;
    SSL_do_handshake(c->ssl);
    clear_errors();
}

/* Makes an alert for a ClientHello that is too long to wait for its end. OpenSSL has no call for it. */
void fssl_hello_too_long(fssl_conn *c)
{
    static const unsigned char record[] = {SSL3_RT_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL, SSL_AD_ILLEGAL_PARAMETER};

    clear_errors();
    BIO_write(SSL_get_wbio(c->ssl), record, sizeof(record));
    clear_errors();
}

/*
 * Passes the server name and the protocols to the connection of the chosen context, which compares them with those of a
 * second ClientHello, and frees the other parts.
 */
void fssl_hello_give(fssl_conn *to, fssl_conn *from)
{
    fssl_hello *h = from->hello;
    int i;

    from->hello = NULL;
    to->hello = h;
    for (i = 0; i < FSSL_HELLO_PARTS; i++)
        if (i != FSSL_HELLO_NAME && i != FSSL_HELLO_ALPN)
            keep(&h->part[i], NULL, 0);
}

/* Reports whether the ClientHello that OpenSSL has now parsed has the same extension as h or, like h, none. */
static int same(const fssl_hello *h, int part, SSL *ssl, unsigned int type)
{
    const fssl_part *was = &h->part[part];
    const unsigned char *data;
    size_t n;

    if (!SSL_client_hello_get0_ext(ssl, type, &data, &n))
        n = 0;
    return n == was->len && (n == 0 || memcmp(data, was->data, n) == 0);
}

/*
 * On a server: after a HelloRetryRequest, the second ClientHello must have the server name and the protocols of the
 * first (RFC 8446 section 4.1.2), by which the context was chosen. OpenSSL does not compare them. OpenSSL asks for the
 * sessions of the second one again, so their number is counted again.
 */
int fssl_hello_same_cb(SSL *ssl, int *alert, void *arg)
{
    fssl_conn *c = SSL_get_app_data(ssl); /* NULL in fssl_ctx_try */

    (void)arg;
    if (c != NULL)
        c->server_sessions.n_judged = 0;
    if (c == NULL || c->hello == NULL || (same(c->hello, FSSL_HELLO_NAME, ssl, TLSEXT_TYPE_server_name) &&
                                          same(c->hello, FSSL_HELLO_ALPN, ssl, TLSEXT_TYPE_application_layer_protocol_negotiation)))
        return SSL_CLIENT_HELLO_SUCCESS;
    *alert = c->hello->alert = SSL_AD_ILLEGAL_PARAMETER;
    return SSL_CLIENT_HELLO_ERROR;
}
