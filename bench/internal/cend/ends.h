/* The types and functions that the C files of this folder share. */
#ifndef BENCH_ENDS_H
#define BENCH_ENDS_H
#include "cend.h"

#include <openssl/ssl.h>

struct cend {
    SSL_CTX *server, *client;
    SSL_SESSION *session;
    char *crt, *key;
    int flags;
    char *wire, *plain, *message; /* as large as the last work needed */
    size_t cap;
};

/* One direction of a connection with CEND_FLAT: bytes that one end appends and the other end reads in place. */
typedef struct flat {
    unsigned char *p;
    size_t off, len, cap;
} flat;

typedef struct ends {
    SSL *server, *client;
    flat *up, *down; /* with CEND_FLAT */
} ends;

/* flat.c */
void cend_set_flat(SSL *ssl, flat *in, flat *out);
void cend_flat_free(flat *f);

/* cend.c */
SSL *cend_client_of(const cend *c);
SSL *cend_server_of(const cend *c);
void cend_mem_bios(SSL *ssl);
int cend_shake(const cend *c, ends *e, SSL_SESSION *session);
void cend_end(SSL *ssl);
void cend_close_ends(ends *e);
void cend_room(cend *c, size_t len);
int cend_send_and_read(cend *c, SSL *from, SSL *to, size_t size, int count);
#endif
