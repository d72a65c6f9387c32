/* Resumed sessions: both ends in C, and ends whose steps another program calls. */
#include "ends.h"

#include <stdlib.h>

struct cend_peer {
    SSL *ssl;
};

double cend_resumed(cend *c, int n)
{
    double start;
    ends e;
    int i, ok = cend_shake(c, &e, NULL);
    SSL_SESSION *session = SSL_get1_session(e.client);

    cend_close_ends(&e);
    start = cend_thread_time();
    for (i = 0; ok && i < n; i++) {
        ok = cend_shake(c, &e, session) && SSL_session_reused(e.server);
        cend_close_ends(&e);
    }
    SSL_SESSION_free(session);
    return ok ? cend_thread_time() - start : -1;
}

cend_peer *cend_peer_new(cend *c, int resume)
{
    cend_peer *p = calloc(1, sizeof(*p));

    p->ssl = cend_client_of(c);
    cend_mem_bios(p->ssl);
    if (resume && c->session != NULL)
        SSL_set_session(p->ssl, c->session);
    return p;
}

cend_peer *cend_peer_accept(const cend *c)
{
    cend_peer *p = calloc(1, sizeof(*p));

    p->ssl = cend_server_of(c);
    cend_mem_bios(p->ssl);
    return p;
}

/* Reads the other end's output and returns that of this end. */
size_t cend_peer_step(cend_peer *p, unsigned char *out, size_t cap, const unsigned char *in, size_t len)
{
    char c;
    int n;

    if (len > 0)
        BIO_write(SSL_get_rbio(p->ssl), in, (int)len);
    if (!SSL_is_init_finished(p->ssl))
        SSL_do_handshake(p->ssl);
    else
        SSL_read(p->ssl, &c, 1); /* a client reads the tickets */
    n = BIO_read(SSL_get_wbio(p->ssl), out, (int)cap);
    return n > 0 ? (size_t)n : 0;
}

int cend_peer_done(const cend_peer *p)
{
    return SSL_is_init_finished(p->ssl);
}

int cend_peer_resumed(const cend_peer *p)
{
    return SSL_session_reused(p->ssl);
}

int cend_peer_keep(cend *c, cend_peer *p)
{
    char byte;

    SSL_read(p->ssl, &byte, 1);
    SSL_SESSION_free(c->session);
    c->session = SSL_get1_session(p->ssl);
    return c->session != NULL && SSL_SESSION_is_resumable(c->session);
}

void cend_peer_free(cend_peer *p)
{
    cend_end(p->ssl);
    free(p);
}
