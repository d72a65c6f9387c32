#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cend.h"

#include <malloc.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct cend {
    SSL_CTX *server, *client;
    SSL_SESSION *session;
    char *crt, *key;
    int flags;
    char *wire, *plain, *message; /* as large as the last work needed */
    size_t cap;
};

/* One direction of a connection: OpenSSL's own BIO, or bytes that one end appends and the other end reads in place. */
typedef struct flat {
    unsigned char *p;
    size_t off, len, cap;
} flat;

typedef struct ends {
    SSL *server, *client;
    flat *up, *down; /* with CEND_FLAT */
} ends;

struct cend_pairs {
    cend *c;
    ends *e;
    int n;
};

struct cend_peer {
    SSL *ssl;
};

struct cend_crl {
    X509_CRL *crl;
};

/* ------------------------------------------------------------------ system */

static double clock_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double cend_thread_time(void)
{
    return clock_of(CLOCK_THREAD_CPUTIME_ID);
}

double cend_process_time(void)
{
    return clock_of(CLOCK_PROCESS_CPUTIME_ID);
}

size_t cend_heap(void)
{
#if __GLIBC_PREREQ(2, 33)
    struct mallinfo2 m = mallinfo2();
#else
    struct mallinfo m = mallinfo();
#endif

    return (size_t)m.uordblks + (size_t)m.hblkhd;
}

void cend_trim(void)
{
    malloc_trim(0);
}

int cend_pin(int cpu)
{
    cpu_set_t set;
    int i;

    CPU_ZERO(&set);
    for (i = 0; i < CPU_SETSIZE; i++)
        if (cpu < 0 || i == cpu)
            CPU_SET(i, &set);
    return sched_setaffinity(0, sizeof(set), &set);
}

/* --------------------------------------------------------- the plain buffers */

static int flat_read(BIO *bio, char *buf, int len)
{
    flat *f = ((flat **)BIO_get_data(bio))[0];
    size_t n = f->len - f->off;

    BIO_clear_retry_flags(bio);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (n > (size_t)len)
        n = (size_t)len;
    memcpy(buf, f->p + f->off, n);
    f->off += n;
    if (f->off == f->len)
        f->off = f->len = 0;
    return (int)n;
}

static int flat_write(BIO *bio, const char *buf, int len)
{
    flat *f = ((flat **)BIO_get_data(bio))[1];

    if (f->len + (size_t)len > f->cap) {
        f->cap = (f->len + (size_t)len) * 2;
        f->p = realloc(f->p, f->cap);
    }
    memcpy(f->p + f->len, buf, (size_t)len);
    f->len += (size_t)len;
    return len;
}

static long flat_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

static int flat_destroy(BIO *bio)
{
    free(BIO_get_data(bio));
    return 1;
}

static BIO_METHOD *flat_method(void)
{
    static BIO_METHOD *method;

    if (method == NULL) {
        method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "flat");
        BIO_meth_set_read(method, flat_read);
        BIO_meth_set_write(method, flat_write);
        BIO_meth_set_ctrl(method, flat_ctrl);
        BIO_meth_set_destroy(method, flat_destroy);
    }
    return method;
}

static void set_flat(SSL *ssl, flat *in, flat *out)
{
    BIO *bio = BIO_new(flat_method());
    flat **both = malloc(2 * sizeof(*both));

    both[0] = in;
    both[1] = out;
    BIO_set_data(bio, both);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
}

static void flat_free(flat *f)
{
    if (f != NULL)
        free(f->p);
    free(f);
}

/* ------------------------------------------------------------------ contexts */

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
    if (!client && (flags & (CEND_NO_TICKETS | CEND_CLIENT_CERT))) {
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

static SSL *client_of(const cend *c)
{
    SSL *ssl = SSL_new(c->client);

    SSL_set_tlsext_host_name(ssl, "localhost");
    SSL_set1_host(ssl, "localhost");
    SSL_set_connect_state(ssl);
    return ssl;
}

static void mem_bios(SSL *ssl)
{
    SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}

static SSL *server_of(const cend *c)
{
    SSL *ssl = SSL_new(c->server);

    SSL_set_accept_state(ssl);
    return ssl;
}

static void open_ends(const cend *c, ends *e)
{
    e->server = server_of(c);
    e->client = client_of(c);
    e->up = e->down = NULL;
    if (c->flags & CEND_FLAT) {
        e->up = calloc(1, sizeof(flat));
        e->down = calloc(1, sizeof(flat));
        set_flat(e->server, e->up, e->down);
        set_flat(e->client, e->down, e->up);
    } else {
        mem_bios(e->server);
        mem_bios(e->client);
    }
}

/* Ends a connection in order: OpenSSL does not resume a session whose connection was only freed. */
static void end(SSL *ssl)
{
    if (ssl != NULL)
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
}

static void close_ends(ends *e)
{
    end(e->server);
    end(e->client);
    flat_free(e->up);
    flat_free(e->down);
}

double cend_ends(cend *c, int n)
{
    double start = cend_thread_time();
    flat up = {0}, down = {0};
    int i;

    for (i = 0; i < n; i++) {
        SSL *ssl = server_of(c);

        if (c->flags & CEND_FLAT)
            set_flat(ssl, &up, &down);
        else
            mem_bios(ssl);
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

static int shake(const cend *c, ends *e, SSL_SESSION *session)
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
        int ok = shake(c, &e, NULL);

        close_ends(&e);
        if (!ok)
            return -1;
    }
    return cend_thread_time() - start;
}

double cend_resumed(cend *c, int n)
{
    double start;
    ends e;
    int i, ok = shake(c, &e, NULL);
    SSL_SESSION *session = SSL_get1_session(e.client);

    close_ends(&e);
    start = cend_thread_time();
    for (i = 0; ok && i < n; i++) {
        ok = shake(c, &e, session) && SSL_session_reused(e.server);
        close_ends(&e);
    }
    SSL_SESSION_free(session);
    return ok ? cend_thread_time() - start : -1;
}

static void room(cend *c, size_t len)
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
static int send_and_read(cend *c, SSL *from, SSL *to, size_t size, int count)
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

    room(c, size * (size_t)burst);
    ok = shake(c, &e, NULL) && send_and_read(c, e.client, e.server, size, burst); /* lets the buffers grow */
    start = cend_thread_time();
    for (i = 0; ok && i < n; i++)
        ok = send_and_read(c, e.client, e.server, size, burst);
    start = cend_thread_time() - start;
    close_ends(&e);
    return ok ? start : -1;
}

/* ------------------------------------------------------- many at the same time */

cend_pairs *cend_pairs_new(cend *c, int n, size_t moved, int keep_clients)
{
    cend_pairs *p = calloc(1, sizeof(*p));
    const size_t piece = 65536;
    int i, ok = 1;

    p->c = c;
    p->e = calloc((size_t)n, sizeof(*p->e));
    room(c, piece);
    for (i = 0; ok && i < n; i++) {
        ends *e = &p->e[i];
        size_t done;

        p->n = i + 1;
        ok = shake(c, e, NULL);
        for (done = 0; ok && done < moved; done += piece)
            ok = send_and_read(c, e->client, e->server, piece, 1) && send_and_read(c, e->server, e->client, piece, 1);
        if (!keep_clients) {
            end(e->client);
            e->client = NULL;
            if (e->up != NULL) { /* between calls the buffers belong to the caller */
                free(e->up->p);
                free(e->down->p);
                memset(e->up, 0, sizeof(flat));
                memset(e->down, 0, sizeof(flat));
            }
        }
    }
    if (!ok) {
        cend_pairs_free(p);
        return NULL;
    }
    return p;
}

double cend_pairs_messages(cend_pairs *p, size_t size, int n)
{
    double start;
    int i, ok = 1;

    room(p->c, size);
    start = cend_thread_time();
    for (i = 0; ok && i < n; i++) {
        ends *e = &p->e[i % p->n];

        ok = send_and_read(p->c, e->client, e->server, size, 1);
    }
    return ok ? cend_thread_time() - start : -1;
}

void cend_pairs_free(cend_pairs *p)
{
    int i;

    for (i = 0; i < p->n; i++)
        close_ends(&p->e[i]);
    free(p->e);
    free(p);
}

/* ------------------------------------------------- a client for other servers */

cend_peer *cend_peer_new(cend *c, int resume)
{
    cend_peer *p = calloc(1, sizeof(*p));

    p->ssl = client_of(c);
    mem_bios(p->ssl);
    if (resume && c->session != NULL)
        SSL_set_session(p->ssl, c->session);
    return p;
}

/* Reads the server's output and returns the client's. */
size_t cend_peer_step(cend_peer *p, unsigned char *out, size_t cap, const unsigned char *in, size_t len)
{
    char c;
    int n;

    if (len > 0)
        BIO_write(SSL_get_rbio(p->ssl), in, (int)len);
    if (!SSL_is_init_finished(p->ssl))
        SSL_do_handshake(p->ssl);
    else
        SSL_read(p->ssl, &c, 1); /* tickets */
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
    end(p->ssl);
    free(p);
}

/* --------------------------------------------------------------------- CRL */

cend_crl *cend_crl_load(const char *file)
{
    cend_crl *c = calloc(1, sizeof(*c));
    BIO *bio = BIO_new_file(file, "r");

    if (bio != NULL)
        c->crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (c->crl == NULL) {
        free(c);
        return NULL;
    }
    return c;
}

double cend_crl_lookups(cend_crl *c, const char *crt, int n)
{
    BIO *bio = BIO_new_file(crt, "r");
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    X509_REVOKED *entry;
    double start;
    int i, ok = cert != NULL;

    X509_CRL_get0_by_cert(c->crl, &entry, cert); /* sorts the CRL */
    start = cend_thread_time();
    for (i = 0; ok && i < n; i++)
        ok = X509_CRL_get0_by_cert(c->crl, &entry, cert) == 0;
    start = cend_thread_time() - start;
    X509_free(cert);
    BIO_free(bio);
    return ok ? start : -1;
}

void cend_crl_free(cend_crl *c)
{
    X509_CRL_free(c->crl);
    free(c);
}
