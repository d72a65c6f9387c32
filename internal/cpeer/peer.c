#include "peer.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>

static int any_client(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

static int add_ssl(cpeer *p)
{
    BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

    p->ssl = SSL_new(p->ctx);
    if (p->ssl == NULL || in == NULL || out == NULL) {
        BIO_free(in);
        BIO_free(out);
        return 0;
    }
    BIO_set_mem_eof_return(in, -1);
    SSL_set_bio(p->ssl, in, out); /* now owns both BIOs */
    return 1;
}

static cpeer *discard(cpeer *p)
{
    ERR_clear_error();
    cpeer_free(p);
    return NULL;
}

/* Adds the connection to a peer whose context is complete. */
static cpeer *finish(cpeer *p, int client)
{
    if (!add_ssl(p))
        return discard(p);
    if (client)
        SSL_set_connect_state(p->ssl);
    else
        SSL_set_accept_state(p->ssl);
    return p;
}

cpeer *cpeer_new(const char *crt, const char *key, int ask_client)
{
    cpeer *p = OPENSSL_zalloc(sizeof(*p));

    if (p == NULL)
        return NULL;
    p->ctx = SSL_CTX_new(TLS_server_method());
    if (p->ctx == NULL || SSL_CTX_set_max_proto_version(p->ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(p->ctx, crt) != 1 || SSL_CTX_use_PrivateKey_file(p->ctx, key, SSL_FILETYPE_PEM) != 1)
        return discard(p);
    SSL_CTX_set_session_cache_mode(p->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(p->ctx, SSL_OP_NO_TICKET); /* a resumed session shows no certificate */
    if (ask_client)
        SSL_CTX_set_verify(p->ctx, SSL_VERIFY_PEER, any_client);
    return finish(p, 0);
}

/* Called when a ticket is about to be made. */
static int shorten(SSL *ssl, void *arg)
{
    return SSL_SESSION_set_timeout(SSL_get_session(ssl), ((cpeer *)arg)->lifetime) == 1;
}

/*
 * A TLS 1.3 server whose tickets say that they are valid for lifetime seconds. The tickets are ids of sessions, because
 * OpenSSL cannot encrypt a session whose lifetime is 0.
 */
cpeer *cpeer_ticket_server(const char *crt, const char *key, long lifetime)
{
    cpeer *p = OPENSSL_zalloc(sizeof(*p));

    if (p == NULL)
        return NULL;
    p->lifetime = lifetime;
    p->ctx = SSL_CTX_new(TLS_server_method());
    if (p->ctx == NULL || SSL_CTX_set_min_proto_version(p->ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(p->ctx, crt) != 1 || SSL_CTX_use_PrivateKey_file(p->ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_session_ticket_cb(p->ctx, shorten, NULL, p) != 1)
        return discard(p);
    SSL_CTX_set_options(p->ctx, SSL_OP_NO_TICKET);
    return finish(p, 0);
}

/* An end that supports one version and one suite, accepts any certificate of the other end and does not resume sessions. */
cpeer *cpeer_end_new(int client, int version, const char *crt, const char *key, const char *ciphers, const char *suites)
{
    cpeer *p = OPENSSL_zalloc(sizeof(*p));

    if (p == NULL)
        return NULL;
    p->ctx = SSL_CTX_new(client ? TLS_client_method() : TLS_server_method());
    if (p->ctx == NULL || SSL_CTX_set_min_proto_version(p->ctx, version) != 1 || SSL_CTX_set_max_proto_version(p->ctx, version) != 1 ||
        SSL_CTX_set_cipher_list(p->ctx, ciphers) != 1 || SSL_CTX_set_ciphersuites(p->ctx, suites) != 1 ||
        SSL_CTX_use_certificate_chain_file(p->ctx, crt) != 1 || SSL_CTX_use_PrivateKey_file(p->ctx, key, SSL_FILETYPE_PEM) != 1)
        return discard(p);
    SSL_CTX_set_session_cache_mode(p->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(p->ctx, 0);
    SSL_CTX_set_mode(p->ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(p->ctx, SSL_OP_NO_TICKET | (client ? 0 : SSL_OP_NO_RENEGOTIATION));
    SSL_CTX_set_verify(p->ctx, SSL_VERIFY_PEER, any_client);
    return finish(p, client);
}

/* Starts the handshake, so that a client sends its ClientHello. */
int cpeer_handshake(cpeer *p)
{
    int ok;

    ERR_clear_error();
    ok = SSL_get_error(p->ssl, SSL_do_handshake(p->ssl)) == SSL_ERROR_WANT_READ;
    ERR_clear_error();
    return ok;
}

/* Reads until SSL_read has no more data. Returns the number of bytes of plaintext. */
int cpeer_feed(cpeer *p, cpeer_outcome *outcome, unsigned char *plain, int cap, const unsigned char *wire, int len)
{
    unsigned long code;
    int got = 0, n = 0;

    ERR_clear_error();
    memset(outcome, 0, sizeof(*outcome));
    if (len > 0)
        BIO_write(SSL_get_rbio(p->ssl), wire, len);
    while (got < cap && (n = SSL_read(p->ssl, plain + got, cap - got)) > 0)
        got += n;
    outcome->why = SSL_get_error(p->ssl, n);
    outcome->shutdown = SSL_get_shutdown(p->ssl);
    while ((code = ERR_get_error()) != 0) {
        const char *reason = ERR_reason_error_string(code);
        size_t used = strlen(outcome->reasons), room = sizeof(outcome->reasons) - used;

        BIO_snprintf(outcome->reasons + used, room, "%s\n", reason != NULL ? reason : "");
    }
    return got;
}

void cpeer_free(cpeer *p)
{
    if (p == NULL)
        return;
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    OPENSSL_free(p);
    ERR_clear_error();
}

/* Returns the number of bytes of plaintext, possibly 0, or -1. */
int cpeer_receive(cpeer *p, unsigned char *plain, int cap, const unsigned char *wire, int len)
{
    int got = 0, n = 0, why;

    ERR_clear_error();
    if (len > 0 && BIO_write(SSL_get_rbio(p->ssl), wire, len) != len)
        return -1;
    while (got < cap && (n = SSL_read(p->ssl, plain + got, cap - got)) > 0)
        got += n;
    if (got == cap)
        return got;
    why = SSL_get_error(p->ssl, n);
    ERR_clear_error();
    return got > 0 || why == SSL_ERROR_WANT_READ || why == SSL_ERROR_ZERO_RETURN ? got : -1;
}

int cpeer_send(cpeer *p, const unsigned char *plain, int len)
{
    int ok;

    ERR_clear_error();
    ok = SSL_write(p->ssl, plain, len) == len;
    ERR_clear_error();
    return ok;
}

/* Queues a HelloRequest. */
int cpeer_renegotiate(cpeer *p)
{
    int ok;

    ERR_clear_error();
    ok = SSL_renegotiate(p->ssl) == 1 && SSL_do_handshake(p->ssl) == 1;
    ERR_clear_error();
    return ok;
}

int cpeer_outgoing(cpeer *p, unsigned char *wire, int cap)
{
    int n = BIO_read(SSL_get_wbio(p->ssl), wire, cap);

    ERR_clear_error();
    return n > 0 ? n : 0;
}

long cpeer_rounds(cpeer *p)
{
    return SSL_total_renegotiations(p->ssl);
}
