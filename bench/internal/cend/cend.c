/* Contexts, connections, handshakes and messages. */
#include "ends.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

/* The same settings as in the library, so that the work is the same. */
static SSL_CTX *context(int client, int flags)
{
    SSL_CTX *ctx = SSL_CTX_new(client ? TLS_client_method() : TLS_server_method());
    long mode = SSL_MODE_AUTO_RETRY | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;

    if (!(flags & CEND_KEEP_BUFFERS))
        mode |= SSL_MODE_RELEASE_BUFFERS;
    if (!(flags & CEND_AUTO_CHAIN))
        mode |= SSL_MODE_NO_AUTO_CHAIN;
    SSL_CTX_set_mode(ctx, mode);
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | (client ? 0 : SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE));
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (client && !(flags & CEND_NO_OCSP))
        SSL_CTX_set_tlsext_status_type(ctx, TLSEXT_STATUSTYPE_ocsp);
    if (!client && (flags & CEND_CERT_TICKETS))
        SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"bench", 5);
    else if (!client && (flags & (CEND_NO_TICKETS | CEND_CLIENT_CERT))) {
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(ctx, 0);
    }
    return ctx;
}

static int use(SSL_CTX *ctx, const char *crt, const char *key)
{
    return SSL_CTX_use_certificate_file(ctx, crt, SSL_FILETYPE_PEM) == 1 && SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1;
}

cend *cend_new(const char *crt, const char *key, const char *ca, const char *client_crt, const char *client_key, int flags)
{
    cend *c = calloc(1, sizeof(*c));
    int ok;

    c->flags = flags;
    c->crt = strdup(crt);
    c->key = strdup(key);
    c->server = context(0, flags);
    c->client = context(1, flags);
    ok = use(c->server, crt, key);
    if (!(flags & CEND_NO_VERIFY)) {
        SSL_CTX_set_verify(c->client, SSL_VERIFY_PEER, NULL);
        ok = ok && SSL_CTX_load_verify_locations(c->client, ca, NULL) == 1;
    }
    if (flags & CEND_CLIENT_CERT) {
        SSL_CTX_set_verify(c->server, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        SSL_CTX_set_client_CA_list(c->server, SSL_load_client_CA_file(ca));
        ok = ok && SSL_CTX_load_verify_locations(c->server, ca, NULL) == 1 && use(c->client, client_crt, client_key);
    }
    if (!ok) {
        cend_free(c);
        return NULL;
    }
    return c;
}

void cend_free(cend *c)
{
    SSL_CTX_free(c->server);
    SSL_CTX_free(c->client);
    SSL_SESSION_free(c->session);
    free(c->crt);
    free(c->key);
    free(c->wire);
    free(c->plain);
    free(c->message);
    free(c);
}

double cend_contexts(cend *c, int n)
{
    double start = cend_thread_time();
    int i;

    for (i = 0; i < n; i++) {
        SSL_CTX *ctx = context(0, c->flags);

        if (!use(ctx, c->crt, c->key))
            return -1;
        SSL_CTX_free(ctx);
    }
    return cend_thread_time() - start;
}

/* --------------------------------------------------------------- connections */

SSL *cend_client_of(const cend *c)
{
    SSL *ssl = SSL_new(c->client);

    SSL_set_tlsext_host_name(ssl, "localhost");
    SSL_set1_host(ssl, "localhost");
    SSL_set_connect_state(ssl);
    return ssl;
}

void cend_mem_bios(SSL *ssl)
{
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}

SSL *cend_server_of(const cend *c)
{
    SSL *ssl = SSL_new(c->server);

    SSL_set_accept_state(ssl);
    return ssl;
}

static void open_ends(const cend *c, ends *e)
{
    e->server = cend_server_of(c);
    e->client = cend_client_of(c);
    e->up = e->down = NULL;
    if (c->flags & CEND_FLAT) {
        e->up = calloc(1, sizeof(flat));
        e->down = calloc(1, sizeof(flat));
        cend_set_flat(e->server, e->up, e->down);
        cend_set_flat(e->client, e->down, e->up);
    } else {
        cend_mem_bios(e->server);
        cend_mem_bios(e->client);
    }
}

/* Ends a connection in order: OpenSSL does not resume a session whose connection was only freed. */
void cend_end(SSL *ssl)
{
    if (ssl != NULL)
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
}

void cend_close_ends(ends *e)
{
    cend_end(e->server);
    cend_end(e->client);
    cend_flat_free(e->up);
    cend_flat_free(e->down);
}

double cend_ends(cend *c, int n)
{
    double start = cend_thread_time();
    flat up = {0}, down = {0};
    int i;

    for (i = 0; i < n; i++) {
        SSL *ssl = cend_server_of(c);

        if (c->flags & CEND_FLAT)
            cend_set_flat(ssl, &up, &down);
        else
            cend_mem_bios(ssl);
        SSL_free(ssl);
    }
    return cend_thread_time() - start;
}

/*
 * Moves bytes as programs with Net::SSLeay do: reads one memory BIO and writes the other. With plain buffers there
 * is nothing to do.
 */
static void carry(const cend *c, SSL *from, SSL *to, char *wire, size_t cap)
{
    int n;

    if (c->flags & CEND_FLAT)
        return;
    while ((n = BIO_read(SSL_get_wbio(from), wire, (int)cap)) > 0)
        BIO_write(SSL_get_rbio(to), wire, n);
}

/* SSL_get_error(3) requires an empty queue before each call whose failure it has to explain. */
static void clean(const cend *c)
{
    if (!(c->flags & CEND_NO_CLEAN) && ERR_peek_error() != 0)
        ERR_clear_error();
}

int cend_shake(const cend *c, ends *e, SSL_SESSION *session)
{
    char wire[16384];
    int i;

    open_ends(c, e);
    if (session != NULL)
        SSL_set_session(e->client, session);
    for (i = 0; i < 10; i++) {
        clean(c);
        SSL_do_handshake(e->client);
        carry(c, e->client, e->server, wire, sizeof(wire));
        clean(c);
        SSL_do_handshake(e->server);
        carry(c, e->server, e->client, wire, sizeof(wire));
        if (SSL_is_init_finished(e->client) && SSL_is_init_finished(e->server))
            break;
    }
    clean(c);
    SSL_read(e->client, wire, sizeof(wire)); /* the tickets */
    return SSL_is_init_finished(e->client) && SSL_is_init_finished(e->server) && SSL_get_verify_result(e->server) == X509_V_OK;
}

double cend_handshakes(cend *c, int n)
{
    double start = cend_thread_time();
    int i;

    for (i = 0; i < n; i++) {
        ends e;
        int ok = cend_shake(c, &e, NULL);

        cend_close_ends(&e);
        if (!ok)
            return -1;
    }
    return cend_thread_time() - start;
}

void cend_room(cend *c, size_t len)
{
    if (c->cap >= len * 2 + 4096)
        return;
    c->cap = len * 2 + 4096;
    c->wire = realloc(c->wire, c->cap);
    c->plain = realloc(c->plain, c->cap);
    free(c->message);
    c->message = calloc(1, c->cap);
}

/* Sends count messages of size bytes one after the other, and reads them. */
int cend_send_and_read(cend *c, SSL *from, SSL *to, size_t size, int count)
{
    size_t got = 0, total = size * (size_t)count;
    int i;

    for (i = 0; i < count; i++) {
        size_t done = 0, n;

        for (; done < size; done += n) {
            clean(c);
            if (SSL_write_ex(from, c->message + done, size - done, &n) != 1)
                return 0;
        }
    }
    carry(c, from, to, c->wire, c->cap);
    while (got < total) {
        size_t n;

        clean(c);
        if (SSL_read_ex(to, c->plain + got, c->cap - got, &n) != 1)
            return 0;
        got += n;
    }
    return 1;
}

double cend_messages(cend *c, size_t size, int burst, int n)
{
    double start;
    ends e;
    int i, ok;

    cend_room(c, size * (size_t)burst);
    ok = cend_shake(c, &e, NULL) && cend_send_and_read(c, e.client, e.server, size, burst); /* lets the buffers grow */
    start = cend_thread_time();
    for (i = 0; ok && i < n; i++)
        ok = cend_send_and_read(c, e.client, e.server, size, burst);
    start = cend_thread_time() - start;
    cend_close_ends(&e);
    return ok ? start : -1;
}
