/*
 * Sessions: their bounds, the parts of a connection that are about them, and the functions that session.go calls. Only
 * cgo_helpers.h includes this file, after the types that it uses.
 */
#ifndef SSLFILTER_CGO_SESSION_H
#define SSLFILTER_CGO_SESSION_H

enum {
    FSSL_MAX_SESSION = 384 << 10,      /* bytes of a session in DER form: FSSL_MAX_SESSION_DATA, the certificate and the ticket */
    FSSL_MAX_SESSION_DATA = 256 << 10, /* bytes of our own data in a session: an OCSP response, and a certificate message of OpenSSL's bound */
    FSSL_MAX_SESSION_CERTS = 100,      /* certificates that a session carries, as OpenSSL's default depth of a chain */
    FSSL_SESSION_SKEW = 300,           /* seconds that the clocks of servers that share keys may differ */

    /* clients */
    FSSL_MAX_SESSIONS = 4,      /* sessions of a connection that wait for Go; servers give one or two after a handshake */
    FSSL_MAX_TICKET = 16 << 10, /* bytes of a ticket that a client keeps: OpenSSL 1.1.1 accepts no longer message (SSL3_RT_MAX_PLAIN_LENGTH) */
    FSSL_SESSION_DAYS = 7,      /* a client offers a session for at most a week (RFC 8446 section 4.6.1), and its chain of resumptions ends a week after the full handshake */
    FSSL_BINDING = 96,          /* bytes of a client's binding: three digests of 32 bytes, as in sessions.go */

    /* servers */
    FSSL_SESSION_LIFE = 7200,        /* seconds in which a session can be resumed, as OpenSSL's default */
    FSSL_MAX_PROOF_AGE = 86400,      /* seconds after which a client has to prove its key again */
    FSSL_MAX_TICKET_KEYS = 16,       /* keys of session tickets: one encrypts, and the others decrypt older tickets */
    FSSL_MAX_TICKET_CERTS = 8 << 10, /* bytes of a client's certificates in a ticket: OpenSSL 3.0 accepts a ticket of at most 16 KiB (SSL3_RT_MAX_PLAIN_LENGTH) */
    FSSL_MAX_OFFERED = 4,            /* stored sessions that are offered to a handshake, and sessions whose client certificates are verified again in it; clients send one or two */
    FSSL_MAX_GIVEN = 16,             /* stored sessions that a client is given in a handshake, as NumTickets allows */
    FSSL_MAX_CACHED_CERTS = 512,     /* parsed certificates of clients that a context with ResumeClientCert keeps, some KB each */
    FSSL_MAX_CACHED_CERT = 8 << 10   /* bytes of such a certificate in DER form, so that it fits into a ticket */
};

typedef struct fssl_ticket_keys fssl_ticket_keys;
typedef struct fssl_certs_cache fssl_certs_cache;

/* The results of fssl_conn_offer. */
typedef enum fssl_offer {
    FSSL_OFFERED,
    FSSL_SESSION_MALFORMED,  /* not a session of fssl_conn_take_session, or memory is short */
    FSSL_SESSION_CIPHER,     /* the connection does not offer the cipher suite */
    FSSL_SESSION_REFUSED,    /* the policy rejects the certificates: see the verdict */
    FSSL_SESSION_OCSP,       /* the policy rejects the OCSP response */
    FSSL_SESSION_NOT_TAKEN   /* OpenSSL rejects the session, or memory is short */
} fssl_offer;

/* cgo_session.c: a session that is to be resumed, and the verdict on its certificates. */
typedef struct fssl_resume {
    SSL_SESSION *session;
    STACK_OF(X509) *sent;        /* the certificates that the peer sent in the full handshake */
    STACK_OF(X509) *built;       /* the chain that OpenSSL built from them; may be NULL */
    const unsigned char *ocsp;   /* the stapled response of the full handshake; it belongs to session */
    size_t ocsp_len;
    int64_t proved;              /* client: the time of the full handshake, in seconds since 1970 */
    fssl_verdict verdict;
    fssl_ocsp checked;           /* the check of ocsp */
} fssl_resume;

/* The properties of a session. */
typedef struct fssl_session_facts {
    int version;
    int64_t proved, made, expires; /* seconds since 1970; proved is the time of the full handshake, in which the server has proved its key */
    unsigned char binding[FSSL_BINDING];
} fssl_session_facts;

/* A session that is stored outside of OpenSSL, sealed with the ticket keys. */
typedef struct fssl_stored {
    unsigned char id[SSL_MAX_SSL_SESSION_ID_LENGTH];
    size_t id_len;
    unsigned char *data;
    size_t len;
    int64_t expires; /* seconds since 1970; only of sessions that are given */
} fssl_stored;

/* cgo_stored.c: the stored sessions of a server's connection. */
typedef struct fssl_store {
    fssl_stored offered[FSSL_MAX_OFFERED]; /* what the client may resume */
    fssl_stored given[FSSL_MAX_GIVEN];     /* what the client has been given and Go has not taken */
    int n_offered, n_given;
} fssl_store;

/* Why a server has not resumed a session: the constants of NotResumed in Go, in the same order. */
typedef enum fssl_not_resumed {
    FSSL_RESUMABLE,      /* nothing is known */
    FSSL_UNKNOWN_KEY,    /* nothing could be decrypted */
    FSSL_NOT_STORED,     /* the stored session was not offered */
    FSSL_EXPIRED,
    FSSL_OTHER_CONTEXT,  /* of a context with other certificates or other rules about clients */
    FSSL_SUITE_DISABLED, /* the context does not allow the cipher suite */
    FSSL_PROOF_OLD,      /* the client has to prove its key again */
    FSSL_CLIENT_INVALID, /* the policy does not accept the client's certificates now */
    FSSL_OTHER_REASON
} fssl_not_resumed;

/* cgo_session.c: the sessions of a client. */
typedef struct fssl_client_sessions {
    SSL_SESSION *list[FSSL_MAX_SESSIONS]; /* what the server has given and Go has not taken, oldest first */
    int n;
    int64_t proved; /* the time of the full handshake that they come from, in seconds since 1970 */
} fssl_client_sessions;

/* cgo_ticket.c: what a server knows about the sessions of its client. */
typedef struct fssl_server_sessions {
    X509 *leaf;    /* a reference to the client's own certificate, if fssl_pack_client has taken it out of the session; otherwise NULL */
    int n_judged;  /* sessions of this ClientHello whose client certificates have been verified again */
    int no_ticket; /* the certificates of the client do not fit into a ticket */
    fssl_not_resumed not_resumed; /* the reason, if the last session that the client asked for is not resumed */
} fssl_server_sessions;

/* cgo_ticketkeys.c */
fssl_ticket_keys *fssl_ticket_keys_new(fssl_errors *errs);
void fssl_ticket_keys_free(fssl_ticket_keys *k);
void fssl_ticket_keys_set(fssl_ticket_keys *k, const unsigned char *keys, size_t n);
void fssl_ticket_keys_age(fssl_ticket_keys *k, int64_t seconds);
int fssl_ticket_keys_count(fssl_ticket_keys *k);

/* cgo_ticket.c */
int fssl_ctx_use_ticket_keys(SSL_CTX *ctx, fssl_ticket_keys *k, const fssl_lib *lib, int clients, fssl_errors *errs);
int fssl_ctx_bind_sessions(SSL_CTX *ctx, const unsigned char *context, size_t len, fssl_errors *errs);

/* cgo_certs.c */
int fssl_ctx_cached_certs(SSL_CTX *ctx);

/* cgo_stored.c */
void fssl_ctx_store_sessions(SSL_CTX *ctx);
int fssl_conn_offer_stored(fssl_conn *c, const unsigned char *id, size_t id_len, const unsigned char *data, size_t len);
void fssl_conn_forget_stored(fssl_conn *c);

/* cgo_session.c */
void fssl_ctx_collect_sessions(SSL_CTX *ctx);
int fssl_conn_take_session(fssl_conn *c, unsigned char **der, int *len, fssl_session_facts *facts, const unsigned char *binding);
int fssl_session_read(fssl_session_facts *facts, const unsigned char *der, size_t len);
fssl_offer fssl_conn_offer(fssl_conn *c, const unsigned char *der, size_t len, fssl_errors *errs);

#endif
