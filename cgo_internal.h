/* What the C files share and Go does not see. */
#ifndef SSLFILTER_CGO_INTERNAL_H
#define SSLFILTER_CGO_INTERNAL_H

#include "cgo_helpers.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Go links all C code of a program into one file, so shared functions have the prefix fssl_ here too. */
#pragma GCC visibility push(hidden)

/*
 * A small message needs more code than the processor's first-level instruction cache holds. These keep code that a
 * message does not need away from the code that it needs.
 */
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define SELDOM __attribute__((cold, noinline))

/* Empties the thread's error queue. Usually it is empty, and then this costs one look: ERR_clear_error walks all entries. */
static inline void clear_errors(void)
{
    if (unlikely(ERR_peek_error() != 0))
        ERR_clear_error();
}

/* Ends a helper: on failure moves the error queue to errs, and leaves the queue empty in any case. Returns ok. */
static inline int done(int ok, fssl_errors *errs)
{
    if (ok)
        clear_errors();
    else
        fssl_take_errors(errs);
    return ok;
}

/* cgo_errors.c */
int fssl_starved(int silent, fssl_errors *errs);
void fssl_copy_text(char *dst, size_t cap, const char *src);

/* cgo_pem.c */
BIO *fssl_read_only(const unsigned char *pem, size_t len);
int fssl_next_block(BIO *bio, char **name, unsigned char **data, long *len);
/* Takes one PEM block. Returns 0 to stop the walk as broken, and sets *extra if the block is to blame rather than a lack of memory. */
typedef int (*fssl_take_block)(void *into, int *extra, const char *name, const unsigned char *data, long len);
int fssl_walk_pem(int *blocks, int *extra, const unsigned char *pem, size_t len, fssl_take_block take, void *into);

/*
 * Our data of an SSL_CTX: one block, in one slot of its ex_data, freed with it. What a callback of a handshake needs
 * belongs here; what several contexts share is counted by reference.
 */
typedef struct fssl_ctx_data {
    unsigned char *alpn; /* the protocols of a server, in the form of the extension */
    size_t alpn_len;
} fssl_ctx_data;

/* cgo_ctx.c */
fssl_ctx_data *fssl_ctx_data_of(SSL_CTX *ctx);
char *fssl_join_names(const STACK_OF(SSL_CIPHER) *list);

/* cgo_crl.c */
int fssl_listed(const fssl_serials *crl, const X509 *cert);

#pragma GCC visibility pop

#endif
