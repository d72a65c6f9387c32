/*
 * The same work in C: both ends of a connection in one process, joined by
 * BIO_s_mem as in most programs, or by a pair of plain buffers. The latter is the
 * lower limit, because nothing is copied except by OpenSSL itself.
 *
 * Each function that does something n times returns the processor time of its
 * thread in seconds, or -1.
 */
#ifndef BENCH_CEND_H
#define BENCH_CEND_H
#include <stddef.h>

enum {
    CEND_FLAT = 1,       /* plain buffers instead of BIO_s_mem */
    CEND_CLIENT_CERT = 2, /* the server asks for a certificate and verifies it */
    /* The library's settings, each inverted. */
    CEND_KEEP_BUFFERS = 4, /* no SSL_MODE_RELEASE_BUFFERS */
    CEND_AUTO_CHAIN = 8,   /* no SSL_MODE_NO_AUTO_CHAIN */
    CEND_NO_TICKETS = 16,
    CEND_NO_OCSP = 32,     /* the client does not ask for a stapled response */
    CEND_NO_VERIFY = 64,   /* the client does not verify */
    CEND_NO_CLEAN = 128,   /* the error queue is not checked before a call */
    CEND_CERT_TICKETS = 256 /* tickets also with CEND_CLIENT_CERT */
};

typedef struct cend cend;
typedef struct cend_pairs cend_pairs;
typedef struct cend_peer cend_peer;
typedef struct cend_crl cend_crl;

double cend_thread_time(void);  /* seconds of processor time of the thread */
double cend_process_time(void); /* of all threads */
size_t cend_heap(void);         /* bytes that are allocated with malloc */
void cend_trim(void);           /* returns free memory to the system */
int cend_pin(int cpu);          /* binds the calling thread to a processor, or unbinds it if cpu is -1 */

cend *cend_new(const char *crt, const char *key, const char *ca, const char *client_crt, const char *client_key, int flags);
void cend_free(cend *c);

double cend_handshakes(cend *c, int n);
double cend_resumed(cend *c, int n);
double cend_messages(cend *c, size_t size, int burst, int n);
double cend_contexts(cend *c, int n);
double cend_ends(cend *c, int n);

/* Makes n connections; moved bytes went both ways on each. */
cend_pairs *cend_pairs_new(cend *c, int n, size_t moved, int keep_clients);
double cend_pairs_messages(cend_pairs *p, size_t size, int n);
void cend_pairs_free(cend_pairs *p);

/* A client for the servers of other subjects; resume offers the session of cend_peer_keep. */
cend_peer *cend_peer_new(cend *c, int resume);
cend_peer *cend_peer_accept(const cend *c); /* a server, driven in the same way */
size_t cend_peer_step(cend_peer *p, unsigned char *out, size_t cap, const unsigned char *in, size_t len);
int cend_peer_done(const cend_peer *p);
int cend_peer_resumed(const cend_peer *p);
int cend_peer_keep(cend *c, cend_peer *p); /* returns 1 if p has a session */
void cend_peer_free(cend_peer *p);

cend_crl *cend_crl_load(const char *file);
double cend_crl_lookups(cend_crl *c, const char *crt, int n);
void cend_crl_free(cend_crl *c);
#endif
