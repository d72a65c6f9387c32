#include "membio.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct membio {
    SSL_CTX *server, *client;
};

typedef struct ends {
    SSL *server, *client;
} ends;

double membio_cpu_time(int whole_process)
{
    struct timespec t;

    clock_gettime(whole_process ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int accept_any(int ok, X509_STORE_CTX *store)
{
    (void)ok;
    (void)store;
    return 1;
}

membio *membio_new(const char *crt, const char *key, int version)
{
    membio *m = calloc(1, sizeof(*m));
    SSL_CTX *both[2];
    int i;

    both[0] = m->server = SSL_CTX_new(TLS_server_method());
    both[1] = m->client = SSL_CTX_new(TLS_client_method());
    for (i = 0; i < 2; i++) {
        SSL_CTX_set_mode(both[i], SSL_MODE_RELEASE_BUFFERS);
        SSL_CTX_set_session_cache_mode(both[i], SSL_SESS_CACHE_OFF);
        SSL_CTX_set_min_proto_version(both[i], version);
        SSL_CTX_set_max_proto_version(both[i], version);
    }
    SSL_CTX_set_verify(m->client, SSL_VERIFY_PEER, accept_any); /* as InsecureSkipVerify does: look, and go on */
    if (SSL_CTX_use_certificate_file(m->server, crt, SSL_FILETYPE_PEM) != 1 || SSL_CTX_use_PrivateKey_file(m->server, key, SSL_FILETYPE_PEM) != 1) {
        membio_free(m);
        return NULL;
    }
    return m;
}

void membio_free(membio *m)
{
    SSL_CTX_free(m->server);
    SSL_CTX_free(m->client);
    free(m);
}

static SSL *end_new(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);

    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    return ssl;
}

/* As Net::SSLeay programs do it: read the one memory BIO, write the other. */
static void carry(SSL *from, SSL *to, char *wire, size_t cap)
{
    int n;

    while ((n = BIO_read(SSL_get_wbio(from), wire, (int)cap)) > 0)
        BIO_write(SSL_get_rbio(to), wire, n);
}

static int shake(const membio *m, ends *e)
{
    char wire[65536];
    int i;

    e->server = end_new(m->server);
    e->client = end_new(m->client);
    SSL_set_accept_state(e->server);
    SSL_set_connect_state(e->client);
    for (i = 0; i < 10; i++) {
        SSL_do_handshake(e->client);
        carry(e->client, e->server, wire, sizeof(wire));
        SSL_do_handshake(e->server);
        carry(e->server, e->client, wire, sizeof(wire));
        if (SSL_is_init_finished(e->client) && SSL_is_init_finished(e->server))
            break;
    }
    SSL_read(e->client, wire, sizeof(wire)); /* the tickets */
    return SSL_is_init_finished(e->client) && SSL_is_init_finished(e->server);
}

static void drop(ends *e)
{
    SSL_free(e->server);
    SSL_free(e->client);
}

double membio_handshakes(membio *m, int n)
{
    double start = membio_cpu_time(0);
    int i;

    for (i = 0; i < n; i++) {
        ends e;
        int ok = shake(m, &e);

        drop(&e);
        if (!ok)
            return -1;
    }
    return membio_cpu_time(0) - start;
}

double membio_round_trips(membio *m, size_t len, int n)
{
    size_t cap = len * 2 + 4096;
    char *message = calloc(1, len), *wire = malloc(cap), *plain = malloc(cap);
    double start, seconds;
    ends e;
    int i, ok = shake(m, &e);

    start = membio_cpu_time(0);
    for (i = 0; ok && i < n; i++) {
        size_t got = 0;

        ok = SSL_write(e.client, message, (int)len) == (int)len;
        carry(e.client, e.server, wire, cap);
        while (ok && got < len) {
            int r = SSL_read(e.server, plain + got, (int)(cap - got));

            ok = r > 0;
            got += ok ? (size_t)r : 0;
        }
    }
    seconds = membio_cpu_time(0) - start;
    drop(&e);
    free(message);
    free(wire);
    free(plain);
    return ok ? seconds : -1;
}
