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
    X509 *issuer;          /* likewise: of cert, between fssl_ctx_check_staple and fssl_ctx_use_staple */
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
    int check_ocsp;   /* a client checks the stapled response */
    int require_ocsp; /* a client rejects a server that staples no response */
    unsigned char session_context[SSL_MAX_SID_CTX_LENGTH];
    unsigned int session_context_len;
    int resume_clients;            /* sessions of clients with certificates are resumed */
    fssl_certs_cache *certs;       /* with resume_clients: certificates of clients */
    fssl_ticket_keys *ticket_keys; /* a reference; NULL if OpenSSL makes the keys of the tickets */
#ifndef FSSL_OPENSSL_111
    EVP_CIPHER *ticket_cipher; /* for ticket_keys */
#endif
    const fssl_lib *lib; /* likewise */
} fssl_ctx_data;

/* cgo_ctx.c */
fssl_ctx_data *fssl_ctx_data_of(SSL_CTX *ctx);
void fssl_ctx_harden(SSL_CTX *ctx, int client);
char *fssl_join_names(const STACK_OF(SSL_CIPHER) *list);

/* cgo_identity.c */
void fssl_forget_identities(fssl_ctx_data *data);
int fssl_use_identity(SSL *ssl, const fssl_identity *id);
int fssl_shown(const fssl_conn *c);
int fssl_choose_cb(SSL *ssl, void *arg);
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
int fssl_judge_ocsp(const fssl_conn *c, fssl_ocsp *o, STACK_OF(X509) *chain, const unsigned char *der, size_t len);

/* cgo_helpers.c */
BIO *fssl_wire_new(fssl_conn *c);
int fssl_verify_cb(int ok, X509_STORE_CTX *store);
void fssl_verdict_clear(fssl_verdict *v);
fssl_status fssl_outcome(fssl_conn *c, int ret);

/* cgo_hello.c */
void fssl_hello_free(fssl_hello *h);
int fssl_hello_same_cb(SSL *ssl, int *alert, void *arg);

/* cgo_keylog.c */
void fssl_forget_keys(fssl_conn *c);

/* The data that fssl_session_pack has stored in a session, without the certificates. The bytes belong to the session. */
typedef struct fssl_packed {
    const unsigned char *binding, *ocsp;
    size_t binding_len, ocsp_len;
    int parsed; /* certificates that were not in the cache */
} fssl_packed;

/* A time in a session: seconds since 1970, big endian. */
enum { FSSL_TIME = 8 };

static inline void fssl_put_time(unsigned char *p, int64_t seconds)
{
    int i;

    for (i = 0; i < FSSL_TIME; i++)
        p[i] = (unsigned char)((uint64_t)seconds >> (8 * (FSSL_TIME - 1 - i)));
}

static inline int64_t fssl_get_time(const unsigned char *p)
{
    uint64_t seconds = 0;
    int i;

    for (i = 0; i < FSSL_TIME; i++)
        seconds = seconds << 8 | p[i];
    return (int64_t)seconds;
}

/* cgo_session.c */
int fssl_session_pack(SSL_SESSION *s, fssl_certs_cache *cache, const unsigned char *binding, size_t binding_len, const STACK_OF(X509) *chain, int skip,
                      const unsigned char *ocsp, size_t ocsp_len, size_t max);
STACK_OF(X509) *fssl_session_chain(const fssl_lib *lib, fssl_certs_cache *cache, SSL_SESSION *s, fssl_packed *packed);
int fssl_session_drop_peer(SSL_SESSION *s);
void fssl_resumed(fssl_conn *c);
void fssl_drop_sessions(fssl_conn *c);
void fssl_forget_resume(fssl_conn *c);

/* Returns the session that the last handshake resumed, with its verdict, or NULL. A renegotiation can have brought other certificates. */
static inline const fssl_resume *fssl_resumption(const fssl_conn *c)
{
    return c->handshaken && c->verdict.round == 0 ? c->resume : NULL;
}

/* Reports whether list has the cipher suite of the session. */
static inline int fssl_has_suite(const STACK_OF(SSL_CIPHER) *list, const SSL_SESSION *session)
{
    const SSL_CIPHER *suite = SSL_SESSION_get0_cipher(session);
    int i;

    for (i = 0; suite != NULL && i < sk_SSL_CIPHER_num(list); i++)
        if (SSL_CIPHER_get_id(sk_SSL_CIPHER_value(list, i)) == SSL_CIPHER_get_id(suite))
            return 1;
    return 0;
}

/* Returns a new reference to the certificate with which the peer has proved its key in this connection, or NULL. */
static inline X509 *fssl_own_certificate(const fssl_conn *c)
{
    X509 *leaf = c->server_sessions.leaf;

    return leaf != NULL && X509_up_ref(leaf) ? leaf : fssl_peer_certificate(c->ssl);
}

/* cgo_certs.c */
fssl_certs_cache *fssl_certs_cache_new(void);
void fssl_certs_cache_free(fssl_certs_cache *cache);
X509 *fssl_certs_cache_get(fssl_certs_cache *cache, const unsigned char *der, size_t len);
void fssl_certs_cache_put(fssl_certs_cache *cache, const unsigned char *der, size_t len, X509 *cert);
void fssl_certs_cache_keep(fssl_certs_cache *cache, const STACK_OF(X509) *chain);

/* cgo_ticket.c */
void fssl_forget_sessions(fssl_ctx_data *data);
int fssl_pack_client(fssl_conn *c, SSL_SESSION *session);
int fssl_acceptable(const fssl_policy *p, const fssl_verdict *v);
int fssl_may_resume(SSL *ssl, SSL_SESSION *session);
void fssl_note_refusal(SSL *ssl, fssl_not_resumed why);

/* cgo_ticketkeys.c */
int fssl_encrypt_tickets(SSL_CTX *ctx, fssl_ticket_keys *k, const fssl_lib *lib);
unsigned char *fssl_seal_session(const fssl_ctx_data *data, size_t *len, const unsigned char *id, size_t id_len, const unsigned char *der, size_t der_len);
SSL_SESSION *fssl_unseal_session(const fssl_ctx_data *data, const fssl_stored *s);

/* cgo_peer.c */
int fssl_seconds(int64_t *seconds, const ASN1_TIME *when);
int fssl_print_name(BIO *text, const X509_NAME *name);

/* cgo_crl.c */
int fssl_verify_chain(X509_STORE_CTX *store, void *arg);
int fssl_listed(const fssl_serials *crl, const X509 *cert);

#pragma GCC visibility pop

#endif
