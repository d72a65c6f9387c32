/* Declarations that the C files share and that Go does not see. */
#ifndef SSLFILTER_CGO_INTERNAL_H
#define SSLFILTER_CGO_INTERNAL_H

#include "cgo_helpers.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#ifndef OPENSSL_NO_OCSP
#include <openssl/ocsp.h>
#endif

/* Go links all C code of a program into one file, so shared functions have the prefix fssl_ here too. */
#pragma GCC visibility push(hidden)

/*
 * The code for a small message does not fit into the processor's first-level instruction cache. These macros move
 * rarely used code away from the code that every message needs.
 */
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define SELDOM __attribute__((cold, noinline))

/*
 * Empties the thread's error queue. Usually it is empty, and a single check is enough; ERR_clear_error would walk
 * all entries.
 */
static inline void clear_errors(void)
{
    if (unlikely(ERR_peek_error() != 0))
        ERR_clear_error();
}

/* Ends a helper: on failure it moves the error queue to errs. It leaves the queue empty in any case. Returns ok. */
static inline int done(int ok, fssl_errors *errs)
{
    if (ok)
        clear_errors();
    else
        fssl_take_errors(errs);
    return ok;
}

/* Reports whether the policy ignores a verification error. */
static inline int fssl_ignores(const fssl_policy *p, int code)
{
    int i;

    for (i = 0; i < p->n_ignore; i++)
        if (p->ignore[i] == code)
            return 1;
    return 0;
}

/* cgo_errors.c */
int fssl_starved(int silent, fssl_errors *errs);
void fssl_copy_text(char *dst, size_t cap, const char *src);

/* cgo_pem.c */
BIO *fssl_read_only(const unsigned char *pem, size_t len);
int fssl_next_block(BIO *bio, char **name, unsigned char **data, long *len);
/*
 * Processes one PEM block. Returns 0 to end the walk with an error. Sets *extra if the reason is the content of
 * the block, and not a lack of memory.
 */
typedef int (*fssl_take_block)(void *into, int *extra, const char *name, const unsigned char *data, long len);
int fssl_walk_pem(int *blocks, int *extra, const unsigned char *pem, size_t len, fssl_take_block take, void *into);

/* A certificate of this side. Each member is a reference that the identity owns. */
typedef struct fssl_identity {
    X509 *cert;
    EVP_PKEY *key;
    STACK_OF(X509) *chain; /* may be NULL */
    fssl_staple *staple;   /* likewise */
} fssl_identity;

/*
 * The data that sslfilter adds to an SSL_CTX. It is stored in the ex_data of the SSL_CTX and freed with it. Data that
 * a handshake callback needs belongs here. Data that several contexts share has a reference count.
 */
typedef struct fssl_ctx_data {
    unsigned char *alpn; /* a server's protocols, in the form of the extension */
    size_t alpn_len;
    fssl_identity identities[FSSL_MAX_IDENTITIES]; /* in the order of the options */
    int n_identities;
    int server_signs; /* a server's signature algorithms are not OpenSSL's */
    int require_ocsp; /* a client rejects a server that staples no response */
} fssl_ctx_data;

/* cgo_ctx.c */
fssl_ctx_data *fssl_ctx_data_of(SSL_CTX *ctx);
void fssl_ctx_harden(SSL_CTX *ctx, int client);
char *fssl_join_names(const STACK_OF(SSL_CIPHER) *list);

/* cgo_identity.c */
void fssl_forget_identities(fssl_ctx_data *data);
int fssl_use_identity(SSL *ssl, const fssl_identity *id);
int fssl_shown(const fssl_conn *c);
int fssl_key_type(EVP_PKEY *key);

#ifndef OPENSSL_NO_OCSP
/* The results of reading one response. */
typedef struct fssl_reading {
    OCSP_RESPONSE *response;
    OCSP_BASICRESP *basic;
    OCSP_SINGLERESP *single; /* belongs to basic */
} fssl_reading;

/* cgo_ocsp.c */
int fssl_read_response(fssl_reading *r, fssl_ocsp *out, const unsigned char *der, size_t len, X509 *cert, X509 *issuer);
void fssl_read_status(const fssl_reading *r, fssl_ocsp *out);
int fssl_verified_in(const fssl_lib *lib, OCSP_BASICRESP *basic, STACK_OF(X509) *certs, X509 *issuer);
void fssl_forget_reading(fssl_reading *r);
#endif

/* cgo_hello.c */
void fssl_hello_free(fssl_hello *h);
int fssl_hello_same_cb(SSL *ssl, int *alert, void *arg);

/* cgo_keylog.c */
void fssl_forget_keys(fssl_conn *c);

/* cgo_crl.c */
int fssl_listed(const fssl_serials *crl, const X509 *cert);

#pragma GCC visibility pop

#endif
