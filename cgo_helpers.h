/*
 * C helpers of sslfilter: macros that cgo cannot call, operations that must happen in a single call from Go, and
 * the verify callback. All differences between OpenSSL versions are in this file.
 *
 * Conventions: a helper returns 1 or 0, a count, or one of the fssl_status values. Its parameters are the object,
 * then outputs, then inputs. OpenSSL's error queue belongs to the thread, and a goroutine moves between threads: a
 * helper that can fail copies the queue before it returns and leaves it empty.
 */
#ifndef SSLFILTER_CGO_HELPERS_H
#define SSLFILTER_CGO_HELPERS_H

#include <stddef.h>
#include <stdint.h>
#include <openssl/bio.h>
#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/dh.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#if OPENSSL_VERSION_NUMBER < 0x10101000L
#error "sslfilter needs OpenSSL 1.1.1 or later (Debian: apt-get install libssl-dev)"
#endif

/* Modes of ciphers that older headers do not have. */
#ifndef EVP_CIPH_SIV_MODE
#define EVP_CIPH_SIV_MODE 0x10004
#endif
#ifndef EVP_CIPH_GCM_SIV_MODE
#define EVP_CIPH_GCM_SIV_MODE 0x10005
#endif

/* Functions that OpenSSL 3.0 introduced or renamed. */
#if OPENSSL_VERSION_NUMBER < 0x30000000L
#define FSSL_OPENSSL_111 1
#define fssl_next_error(file, line, func, data, flags) (*(func) = "", ERR_get_error_line_data(file, line, data, flags))
#define fssl_peer_certificate(ssl) SSL_get_peer_certificate(ssl)
#define fssl_set_tmp_dh(ctx, params) (SSL_CTX_set_tmp_dh(ctx, EVP_PKEY_get0_DH(params)) == 1)
#define fssl_fips() FIPS_mode()
#define fssl_negotiated_group(ssl) ((void)(ssl), 0L) /* 1.1.1 does not report it */
#define fssl_group_name(ssl, id) ((void)(ssl), (void)(id), (const char *)NULL)
/* 1.1.1 has no library contexts: fssl_lib_new (below) always fails, so that lib is always NULL. */
typedef struct fssl_lib fssl_lib;
#define fssl_new_ctx(lib, method) ((void)(lib), SSL_CTX_new(method))
#define fssl_new_cert(lib) ((void)(lib), X509_new())
#define fssl_new_crl(lib) ((void)(lib), X509_CRL_new())
#define fssl_read_key(lib, bio, cb, arg) ((void)(lib), PEM_read_bio_PrivateKey(bio, NULL, cb, arg))
#define fssl_read_params(lib, bio) ((void)(lib), PEM_read_bio_Parameters(bio, NULL))
#define fssl_new_pkey_ctx(lib, key) ((void)(lib), EVP_PKEY_CTX_new(key, NULL))
#define fssl_new_store_ctx(lib) ((void)(lib), X509_STORE_CTX_new())
#define fssl_fetch_cipher(name) EVP_get_cipherbyname(name)
#define fssl_drop_cipher(cipher) ((void)(cipher))
#define fssl_cipher_canonical(cipher) OBJ_nid2ln(EVP_CIPHER_nid(cipher))
#else
#include <openssl/provider.h>
/* A library context with the FIPS provider. It is never freed. A NULL pointer stands for OpenSSL's default context. */
typedef struct fssl_lib {
    OSSL_LIB_CTX *ctx;
    CRYPTO_RWLOCK *lock; /* protects the following fields, which are made when they are first needed */
    X509_STORE *system;
    X509 *cert[3]; /* used by the peer when fssl_ctx_try tries a handshake */
    EVP_PKEY *key[3];
} fssl_lib;
#define FSSL_PROPQ "fips=yes"
#define fssl_lib_ctx(lib) ((lib) != NULL ? (lib)->ctx : NULL)
#define fssl_lib_propq(lib) ((lib) != NULL ? FSSL_PROPQ : NULL)
#define fssl_new_ctx(lib, method) SSL_CTX_new_ex(fssl_lib_ctx(lib), fssl_lib_propq(lib), method)
#define fssl_new_cert(lib) X509_new_ex(fssl_lib_ctx(lib), fssl_lib_propq(lib))
#define fssl_new_crl(lib) X509_CRL_new_ex(fssl_lib_ctx(lib), fssl_lib_propq(lib))
#define fssl_read_key(lib, bio, cb, arg) PEM_read_bio_PrivateKey_ex(bio, NULL, cb, arg, fssl_lib_ctx(lib), fssl_lib_propq(lib))
#define fssl_read_params(lib, bio) PEM_read_bio_Parameters_ex(bio, NULL, fssl_lib_ctx(lib), fssl_lib_propq(lib))
#define fssl_new_pkey_ctx(lib, key) EVP_PKEY_CTX_new_from_pkey(fssl_lib_ctx(lib), key, fssl_lib_propq(lib))
#define fssl_new_store_ctx(lib) X509_STORE_CTX_new_ex(fssl_lib_ctx(lib), fssl_lib_propq(lib))
#define fssl_fetch_cipher(name) EVP_CIPHER_fetch(NULL, name, NULL)
#define fssl_drop_cipher(cipher) EVP_CIPHER_free((EVP_CIPHER *)(cipher))
#define fssl_cipher_canonical(cipher) EVP_CIPHER_get0_name(cipher)
#define fssl_next_error(file, line, func, data, flags) ERR_get_error_all(file, line, func, data, flags)
#define fssl_peer_certificate(ssl) SSL_get1_peer_certificate(ssl)
#define fssl_set_tmp_dh(ctx, params) \
    (EVP_PKEY_up_ref(params) && (SSL_CTX_set0_tmp_dh_pkey(ctx, params) == 1 || (EVP_PKEY_free(params), 0)))
#define fssl_negotiated_group(ssl) SSL_get_negotiated_group(ssl)
#define fssl_group_name(ssl, id) SSL_group_to_name(ssl, id)
#define fssl_fips() (EVP_default_properties_is_fips_enabled(NULL) && OSSL_PROVIDER_available(NULL, "fips"))
#endif

/* Since 3.5, OpenSSL returns the name of the algorithm that signed the handshake. In earlier versions, it is found by its parts. */
#if OPENSSL_VERSION_NUMBER < 0x30500000L
#define fssl_signature_name(ssl, own, name) ((void)(ssl), (void)(own), (void)(name), 0)
#else
#define fssl_signature_name(ssl, own, name) ((own) ? SSL_get0_signature_name(ssl, name) : SSL_get0_peer_signature_name(ssl, name))
#endif

#if OPENSSL_VERSION_NUMBER < 0x30300000L
#define fssl_session_time(s) ((int64_t)SSL_SESSION_get_time(s))
#else
#define fssl_session_time(s) ((int64_t)SSL_SESSION_get_time_ex(s))
#endif

enum {
    FSSL_MAX_ERRORS = 16,         /* OpenSSL's own queue holds 16 (ERR_NUM_ERRORS) */
    FSSL_MAX_RECORDS = 512,       /* calls of the verify callback for one handshake; a chain has at most 100 certificates */
    FSSL_MAX_HELD = 17 << 20,     /* bytes that wait for the network: MaxPlaintext and its record overhead */
    FSSL_MAX_SERVED = 16,         /* entries of fssl_conn_served: at most one for each use */
    FSSL_MAX_OCSP = 100 << 10,    /* bytes of an OCSP response: OpenSSL accepts no longer certificate message (SSL_MAX_CERT_LIST_DEFAULT) */
    FSSL_OCSP_SKEW = 300,         /* seconds that the clock of an OCSP responder may differ */
    FSSL_OCSP_MAX_AGE = 86400,    /* seconds that an OCSP response without nextUpdate is accepted */
    FSSL_MAX_IDENTITIES = 16,     /* certificates of one context */
    FSSL_MAX_KEYS = 4096,         /* bytes of the key log that wait for Go, which takes them after each read; a handshake produces up to 1,000 */
    FSSL_MAX_ROUNDS = 16,         /* renegotiations that a server may request from a client: each costs as much as a handshake */
    FSSL_MAX_ANSWERS = 256 << 10  /* held bytes that answer the peer after the handshake: key updates, rejected renegotiations */
};

/* A copy of an entry of OpenSSL's error queue, whose own strings are valid only until the next error. */
typedef struct fssl_error {
    unsigned long code; /* packed library and reason */
    int line;
    char file[64], func[64], data[200];
} fssl_error;

typedef struct fssl_errors {
    int n;
    fssl_error e[FSSL_MAX_ERRORS];
} fssl_errors;

/* One call of the verify callback. */
typedef struct fssl_record {
    X509 *cert; /* a reference that this record owns, or NULL */
    int code;   /* X509_V_OK, or the error reported by this call */
    int depth;
    int ignored;
} fssl_record;

/* The serials of all CRLs in a file, sorted. */
typedef struct fssl_serials {
    size_t n, lists;
    unsigned char **keys; /* each key: two bytes of length, the sign, the magnitude; all point into blob */
    unsigned char *blob;
} fssl_serials;

/* One CRL, for people. */
typedef struct fssl_crl_info {
    char *issuer; /* in the form of RFC 2253; NULL if OpenSSL cannot print it */
    int64_t this_update, next_update;
    int has_this_update, has_next_update; /* 0: absent, or not readable */
    size_t serials;
} fssl_crl_info;

typedef struct fssl_crl_infos {
    fssl_crl_info *list;
    size_t n;
} fssl_crl_infos;

/* The uses of an algorithm. */
enum {
    FSSL_USE_CIPHER,
    FSSL_USE_MAC,
    FSSL_USE_KDF,
    FSSL_USE_DIGEST,
    FSSL_USE_KEY_EXCHANGE,
    FSSL_USE_SIGNATURE,
    FSSL_USE_PEER_SIGNATURE
};

/* The kinds of keys that a list of signature algorithms has an algorithm for, as in signs of sigalgs.go. */
enum {
    FSSL_SIGNS_RSA = 1,
    FSSL_SIGNS_RSA_13 = 2,
    FSSL_SIGNS_PSS = 4,
    FSSL_SIGNS_EC = 8,
    FSSL_SIGNS_DSA = 16,
    FSSL_SIGNS_ED25519 = 32,
    FSSL_SIGNS_ED448 = 64,
    FSSL_SIGNS_P256 = 128,
    FSSL_SIGNS_P384 = 256,
    FSSL_SIGNS_P521 = 512,
    FSSL_SIGNS_BRAINPOOL = 1024,
    FSSL_SIGNS_SUITE_B = 2048
};

typedef struct fssl_served {
    int use;
    char algorithm[64], provider[64]; /* provider is empty if no provider implements the algorithm */
} fssl_served;

typedef enum fssl_status {
    FSSL_OK = 0,       /* done, or more input is needed */
    FSSL_CLOSED = 1,   /* the peer's close_notify was read */
    FSSL_AGAIN = 2,    /* not possible now: a handshake is in progress */
    FSSL_HELLO = 3,    /* the ClientHello has been read, and the handshake is paused */
    FSSL_UNFORMED = 4, /* direct cipher: a record that the format does not allow */
    FSSL_FATAL = -1,   /* OpenSSL failed: see ssl_error and errs */
    FSSL_NO_CERT = -2, /* the peer must be verified, but sent no certificate */
    FSSL_FULL = -3,    /* FSSL_MAX_HELD or FSSL_MAX_ANSWERS exceeded */
    FSSL_ROUNDS = -4,  /* more than FSSL_MAX_ROUNDS renegotiations */
    FSSL_NO_MEMORY = -5 /* no memory for the held bytes, or for the error */
} fssl_status;

/* Flags of fssl_conn_truncated: what is incomplete if the transport ends now. */
enum { FSSL_IN_RECORD = 1, FSSL_IN_HANDSHAKE = 2 };

/* Modes of the verify callback. */
enum {
    FSSL_RECORD = 0,       /* records results, and rejects nothing */
    FSSL_ENFORCE = 1,      /* rejects a certificate that is not valid, and a peer without a certificate */
    FSSL_ENFORCE_SHOWN = 2 /* rejects a certificate that is not valid */
};
enum { FSSL_CRL_OFF = 0, FSSL_CRL_CHECK = 1, FSSL_CRL_BLOCK = 2 };

/* The types of names that are not types of GENERAL_NAME. */
enum { FSSL_SUBJECT = 0x80, FSSL_ISSUER = 0x81, FSSL_COMMON_NAME = 0x82 };

/* Results of fssl_cert_names. */
enum { FSSL_NO_ALT_NAMES = 0, FSSL_ALT_NAMES = 1, FSSL_BAD_ALT_NAMES = -1 };

/*
 * Kinds of CRLs. Without extended CRL support, OpenSSL skips indirect CRLs and CRLs for some reasons only, and
 * treats a delta CRL as a complete one.
 */
enum { FSSL_CRL_COMPLETE = 0, FSSL_CRL_DELTA = 1, FSSL_CRL_INDIRECT = 2, FSSL_CRL_REASONS = 3 };

/*
 * cgo_helpers.c: the bytes between the SSL and the network. in and out are the caller's memory, and are set only during
 * one call.
 */
typedef struct fssl_wire {
    const unsigned char *in;
    size_t in_left;
    unsigned char *out;
    size_t out_cap, out_len;
    unsigned char *held; /* output that did not fit into out: our memory, freed when all of it has been fetched */
    size_t held_off, held_len, held_cap;
    size_t answers; /* bytes of held that OpenSSL produced while it read */
    int dry;        /* the BIO has reported that it has no input */
    int discard;    /* our close_notify is made; further output is dropped */
    int full;       /* output was lost: held would exceed its bound, or cannot be allocated */
    int starved;    /* the reason for full is a lack of memory */
    uint64_t made;  /* number of bytes that OpenSSL had made when discard was set */
} fssl_wire;

/* cgo_helpers.c: the policy of the verify callback. It is set before the handshake. The Go side keeps serials and lists alive. */
typedef struct fssl_policy {
    int mode; /* FSSL_RECORD, FSSL_ENFORCE or FSSL_ENFORCE_SHOWN */
    int *ignore;
    int n_ignore;
    int serials_mode;
    const fssl_serials *serials;
    STACK_OF(X509_CRL) *lists; /* the CRLs that OpenSSL checks */
    int lists_unusable;        /* lists cannot be used, so that no certificate is acceptable */
} fssl_policy;

/* cgo_helpers.c: the results of the verify callback for one chain. */
typedef struct fssl_verdict {
    fssl_record *rec;
    int n_rec, cap_rec;
    int unproved;       /* rec is from a renegotiation that is not complete: the peer has not proved that it has the key */
    int refused;        /* the error for which the callback rejected the chain, or 0 */
    int refused_depth, refused_rec;
    STACK_OF(X509) *shown; /* if the chain was rejected: references to the certificates that the peer sent, its own first */
    long round;         /* number of renegotiations when rec was started */
} fssl_verdict;

/* The parts of a ClientHello: the message, and the bodies of fields and extensions. */
enum {
    FSSL_HELLO_MESSAGE,
    FSSL_HELLO_SESSION,
    FSSL_HELLO_CIPHERS,
    FSSL_HELLO_NAME,
    FSSL_HELLO_ALPN,
    FSSL_HELLO_VERSIONS,
    FSSL_HELLO_GROUPS,
    FSSL_HELLO_POINTS,
    FSSL_HELLO_SIGNATURES,
    FSSL_HELLO_TICKET,
    FSSL_HELLO_PSK,
    FSSL_HELLO_PARTS
};

typedef struct fssl_part {
    unsigned char *data;
    size_t len;
} fssl_part;

typedef struct fssl_hello {
    int version; /* legacy_version */
    int v2;      /* the message is in the format of SSL 2.0 */
    int alert;   /* the ClientHello is refused with this alert, or was; otherwise 0 */
    fssl_part part[FSSL_HELLO_PARTS];
} fssl_hello;

/* The status in a response, or the reason why no status is accepted. */
enum {
    FSSL_OCSP_NONE,         /* no response was asked for */
    FSSL_OCSP_GOOD,
    FSSL_OCSP_REVOKED,
    FSSL_OCSP_UNKNOWN,      /* the responder does not know the certificate */
    FSSL_OCSP_MISSING,      /* the server stapled no response */
    FSSL_OCSP_MALFORMED,
    FSSL_OCSP_UNSUCCESSFUL, /* the responder reports an error: responder_status */
    FSSL_OCSP_UNVERIFIED,   /* the signature is wrong, or the signer may not sign for this issuer */
    FSSL_OCSP_OTHER_CERT,
    FSSL_OCSP_EXPIRED,
    FSSL_OCSP_NOT_YET,
    FSSL_OCSP_NO_ISSUER,    /* the issuer of the certificate is not known */
    FSSL_OCSP_RESPONDER,    /* the certificate of a delegated responder is revoked, or no CRL says that it is not */
    FSSL_OCSP_BOUND,        /* the staple belongs to another certificate */
    FSSL_OCSP_OLDER,        /* the staple has a later response */
    FSSL_OCSP_NO_MEMORY
};

typedef struct fssl_ocsp {
    int outcome;              /* FSSL_OCSP_* */
    int responder_status;     /* OCSP_RESPONSE_STATUS_* */
    int reason;               /* of a revocation: CRLReason, or -1 */
    int required, must_staple;
    int error, ignored;       /* the X509_V_ERR that makes the peer invalid, and whether the policy ignores it */
    int64_t this_update, next_update, revoked_at; /* seconds since 1970, or 0 */
} fssl_ocsp;

typedef struct fssl_staple fssl_staple;
typedef struct fssl_conn fssl_conn;

#include "cgo_session.h"

/* cgo_identity.c: the server's request for a certificate, and the answer. A client sets it. */
typedef struct fssl_cert_request {
    int asked;  /* a server has asked for a certificate */
    int shown;  /* 1 + the index of the identity that the server was shown, or 0 */
    long round; /* number of renegotiations when the other fields were set */
} fssl_cert_request;

/* cgo_keylog.c: the lines of the key log that Go has not taken. */
typedef struct fssl_keys {
    char *lines; /* at most FSSL_MAX_KEYS bytes; wiped before they are freed */
    size_t len;
    int lost;    /* a line did not fit, or there was no memory */
} fssl_keys;

/*
 * A connection. The fields that are used for each record come first, so that they share few cache lines: those up to
 * wire, and verdict.unproved. The parts after them are used only in a handshake, or by a question about the connection.
 */
struct fssl_conn {
    SSL *ssl;
    int handshaken, reading, more;
    int records_only; /* TLS 1.3 after the handshake: there will be no further handshake */
    int unread;       /* after the handshake, OpenSSL may have the rest of a record that it has not processed */
    int stirred;      /* the current call did more than move records, and may leave an error in the queue */
    fssl_status status;                  /* results of fssl_receive and fssl_send */
    size_t plain_len, wire_len, in_rest; /* likewise */
    fssl_wire wire;
    fssl_verdict verdict;

    fssl_verdict *judging; /* where the verify callback records: verdict, except during fssl_judge */
    fssl_policy policy;
    const fssl_lib *lib;
    int client;
    int ssl_error; /* SSL_get_error(3) of the failed call */
    fssl_errors *errs;
    fssl_cert_request request;
    fssl_keys keys;
    fssl_hello *hello;   /* cgo_hello.c: of a connection of fssl_hello_ctx, and then of the connection whose context was chosen; otherwise NULL */
    fssl_ocsp ocsp;      /* cgo_ocsp.c: a client's check of the stapled response in the last handshake */
    fssl_resume *resume; /* cgo_session.c: the session that a client offers, or whose client certificates a server has verified again; after the handshake only if it is resumed */
    fssl_store *store;   /* cgo_stored.c: the stored sessions of a server, or NULL */
    fssl_client_sessions client_sessions;
    fssl_server_sessions server_sessions;
};

/* The properties of a connection, as far as they are known. The strings belong to the SSL. */
typedef struct fssl_facts {
    int version;        /* SSL_version(3) */
    const char *cipher; /* NULL until a cipher suite is negotiated */
    int suite, bits, group;
    const unsigned char *alpn;
    unsigned int alpn_len;
    const char *server_name;
    int resumed, extended_secret;
    fssl_not_resumed not_resumed;
    int shown; /* index of the identity whose certificate this side showed in the last handshake, or -1 */
    const char *group_name;
    int dh_bits;
    struct {
        const char *name; /* NULL if this side has signed nothing */
        int scheme;
    } signature[2]; /* of this side and of the peer */
    int requested; /* the server has asked the client for a certificate */
    long renegotiations;
    int secure_renegotiation;
    int ticket;
    unsigned long ticket_lifetime; /* seconds */
    int64_t session_timeout;       /* likewise */
    uint64_t received, sent;
} fssl_facts;

void fssl_take_errors(fssl_errors *errs);
int fssl_err_lib(unsigned long code);
int fssl_err_reason(unsigned long code);
int fssl_fips_enabled(void);

/* ctx.go */
SSL_CTX *fssl_ctx_new(fssl_lib *lib, int client, fssl_errors *errs);
int fssl_ctx_min_version(SSL_CTX *ctx);
int fssl_ctx_max_version(SSL_CTX *ctx);
int fssl_ctx_set_versions(SSL_CTX *ctx, int min, int max, fssl_errors *errs);
int fssl_ctx_set_ciphers(SSL_CTX *ctx, const char *list, fssl_errors *errs);
int fssl_ctx_set_suites(SSL_CTX *ctx, const char *list, fssl_errors *errs);
int fssl_ctx_set_groups(SSL_CTX *ctx, const char *list, fssl_errors *errs);
int fssl_ctx_set_sigalgs(SSL_CTX *ctx, int client, const char *list, fssl_errors *errs);
int fssl_ctx_conf(SSL_CTX *ctx, int client, int *result, const char *name, const char *value, fssl_errors *errs);
int fssl_ctx_set_alpn(SSL_CTX *ctx, int client, const unsigned char *protos, size_t len, fssl_errors *errs);
void fssl_ctx_set_server_preference(SSL_CTX *ctx);
void fssl_ctx_set_tickets(SSL_CTX *ctx, size_t n);
void fssl_ctx_no_renegotiation(SSL_CTX *ctx);
EVP_PKEY *fssl_pem_key(int *asked, fssl_lib *lib, const unsigned char *pem, size_t len, const unsigned char *pass, size_t pass_len, fssl_errors *errs);
STACK_OF(X509) *fssl_ctx_cas(SSL_CTX *ctx);
int fssl_ctx_trust(SSL_CTX *ctx, STACK_OF(X509) *cas, int announce, fssl_errors *errs);
X509_STORE *fssl_system_store(fssl_errors *errs);
void fssl_ctx_trust_store(SSL_CTX *ctx, X509_STORE *store);
char *fssl_ctx_usable(SSL_CTX *ctx, int dhe, int ecdhe, int algorithms, int algorithms13, fssl_errors *errs);
size_t fssl_ctx_names_size(SSL_CTX *ctx);
char *fssl_ctx_ciphers(SSL_CTX *ctx, int *anonymous, fssl_errors *errs);

/* identity.go */
int fssl_ctx_use_chain(SSL_CTX *ctx, STACK_OF(X509) *chain, fssl_errors *errs);
int fssl_ctx_use_key(SSL_CTX *ctx, int *mismatch, EVP_PKEY *key, fssl_errors *errs);
int fssl_ctx_build_chain(SSL_CTX *ctx, fssl_errors *errs);
int fssl_ctx_add_identity(SSL_CTX *ctx, int *clash, int client, fssl_errors *errs);
int fssl_ctx_set_identities(SSL_CTX *ctx, int client, fssl_errors *errs);
int fssl_ctx_key_type(SSL_CTX *ctx, int i);
X509 *fssl_ctx_sent_cert(SSL_CTX *ctx, int identity, int i);
size_t fssl_ctx_chain_size(SSL_CTX *ctx, int identity);

/* ocsp.go */
int fssl_ocsp_supported(void);
void fssl_ocsp_unparsed(fssl_conn *c);
fssl_staple *fssl_staple_new(fssl_errors *errs);
void fssl_staple_free(fssl_staple *s);
int fssl_staple_set(fssl_staple *s, fssl_ocsp *out, const unsigned char *der, size_t len);
void fssl_staple_state(fssl_staple *s, fssl_ocsp *out);
int fssl_ctx_check_staple(SSL_CTX *ctx, fssl_ocsp *out, int i, fssl_staple *s, const fssl_lib *lib);
void fssl_ctx_use_staple(SSL_CTX *ctx, int i, fssl_staple *s, const fssl_lib *lib);
unsigned char *fssl_staple_request(fssl_staple *s, size_t *len, int *unknown, fssl_errors *errs);
const char *fssl_staple_responders(fssl_staple *s);
void fssl_ctx_check_ocsp(SSL_CTX *ctx, int require);

/* keylog.go */
void fssl_ctx_log_keys(SSL_CTX *ctx);
size_t fssl_conn_take_keys(fssl_conn *c, unsigned char *buf, size_t cap);

/* PEM */
int fssl_certs_add(STACK_OF(X509) *certs, fssl_lib *lib, const unsigned char *der, size_t len, fssl_errors *errs);
STACK_OF(X509) *fssl_pem_certs(int *blocks, fssl_lib *lib, const unsigned char *pem, size_t len, fssl_errors *errs);
void fssl_certs_free(STACK_OF(X509) *certs);
int fssl_certs_move(STACK_OF(X509) *to, STACK_OF(X509) *from);
int fssl_certs_num(STACK_OF(X509) *certs);
int fssl_certs_same_leaf(STACK_OF(X509) *a, STACK_OF(X509) *b);

/* dh.go */
EVP_PKEY *fssl_pem_dh(fssl_lib *lib, const unsigned char *pem, size_t len, fssl_errors *errs);
int fssl_dh_check(fssl_lib *lib, EVP_PKEY *params, fssl_errors *errs);
int fssl_ctx_set_dh(SSL_CTX *ctx, EVP_PKEY *params, fssl_errors *errs);

/* crl.go */
fssl_serials *fssl_serials_parse(int *blocks, const unsigned char *pem, size_t len, fssl_errors *errs);
void fssl_serials_free(fssl_serials *crl);
int fssl_crls_describe(fssl_crl_infos *infos, int *blocks, const unsigned char *pem, size_t len, fssl_errors *errs);
void fssl_crl_infos_free(fssl_crl_infos *infos);
STACK_OF(X509_CRL) *fssl_crls_parse(int *blocks, int *lists, int *unfit, const unsigned char *pem, size_t len, fssl_errors *errs);
STACK_OF(X509_CRL) *fssl_crls_join(fssl_lib *lib, STACK_OF(X509_CRL) *const *from, int n, fssl_errors *errs);
void fssl_crls_free(STACK_OF(X509_CRL) *crls);
int fssl_ctx_check_crls(SSL_CTX *ctx, int whole_chain, fssl_errors *errs);

/* ssl.go, bio.go, verify.go */
fssl_conn *fssl_conn_new(SSL_CTX *ctx, const fssl_lib *lib, int client, int verify_mode, int mode, const int *ignore, int n_ignore, fssl_errors *errs);
void fssl_conn_free(fssl_conn *c);
int fssl_conn_set_alpn(fssl_conn *c, const unsigned char *protos, size_t len, fssl_errors *errs);
int fssl_conn_set_name(fssl_conn *c, const char *sni, const char *host, const char *ip, fssl_errors *errs);
/*
 * The two calls of the data path. conn is a fssl_conn * in the form of a number, because cgo looks up the owner of
 * every pointer argument. They return nothing and store their status in the connection, because cgo has to find its
 * stack again to return a value.
 */
void fssl_receive(uintptr_t conn, unsigned char *plain, size_t cap, const unsigned char *wire, size_t len);
void fssl_send(uintptr_t conn, unsigned char *wire, size_t cap, const unsigned char *plain, size_t len);
size_t fssl_fetch(fssl_conn *c, unsigned char *wire, size_t cap);
fssl_status fssl_shutdown(fssl_conn *c);
fssl_status fssl_key_update(fssl_conn *c, int request_peer);
int fssl_conn_truncated(const fssl_conn *c);
fssl_verdict *fssl_verdict_new(void);
void fssl_verdict_free(fssl_verdict *v);
int fssl_judge(fssl_conn *c, fssl_verdict *v, STACK_OF(X509) **built, STACK_OF(X509) *chain, fssl_errors *errs);
int fssl_verdict_listed(const fssl_verdict *v, const fssl_serials *serials);
void fssl_conn_facts(const fssl_conn *c, fssl_facts *facts);
size_t fssl_conn_ocsp(const fssl_conn *c, const unsigned char **response);
size_t fssl_conn_finished(const fssl_conn *c, int of_peer, unsigned char *buf, size_t cap);
int fssl_conn_export(fssl_conn *c, unsigned char *out, size_t len, const char *label, size_t label_len, const unsigned char *context,
                     size_t context_len, int use_context, fssl_errors *errs);
char *fssl_conn_offered(fssl_conn *c);
int fssl_conn_chain(const fssl_conn *c, STACK_OF(X509) **chain);
int fssl_conn_sent(const fssl_conn *c, STACK_OF(X509) **chain, X509 **own);
X509 *fssl_chain_cert(STACK_OF(X509) *chain, int i);
char *fssl_cert_name(const X509 *cert, int issuer);
int fssl_cert_dates(const X509 *cert, int64_t *not_before, int64_t *not_after);
unsigned char *fssl_cert_names(const X509 *cert, size_t *len, int *found);
const unsigned char *fssl_cert_serial(const X509 *cert, int *len, int *negative);

/* cgo_hello.c */
SSL_CTX *fssl_hello_ctx(fssl_errors *errs);
void fssl_hello_refuse(fssl_conn *c, int alert);
void fssl_hello_give(fssl_conn *to, fssl_conn *from);
void fssl_hello_too_long(fssl_conn *c);

/* cgo_provider.c, which needs OpenSSL 3.0; with 1.1.1 these functions report failure or nothing. */
#ifdef FSSL_OPENSSL_111
static inline int fssl_lib_new(fssl_lib **lib, char **providers, int *unserved, const unsigned char *conf, size_t len, fssl_errors *errs)
{
    (void)conf, (void)len, (void)errs;
    *lib = NULL, *providers = NULL, *unserved = 0;
    return 0;
}
static inline X509_STORE *fssl_lib_system_store(fssl_lib *lib, fssl_errors *errs) { return (void)lib, (void)errs, NULL; }
static inline int fssl_ctx_try(SSL_CTX *ctx, fssl_lib *lib, int client, int identity, const char *suites, const char *groups, fssl_errors *errs)
{
    return (void)ctx, (void)lib, (void)client, (void)identity, (void)suites, (void)groups, (void)errs, 0;
}
static inline int fssl_ctx_unserved_cert(SSL_CTX *ctx, char **text, fssl_lib *lib, int identity, fssl_errors *errs)
{
    return (void)ctx, (void)lib, (void)identity, (void)errs, *text = NULL, 1;
}
static inline int fssl_conn_served(const fssl_conn *c, fssl_served *list) { return (void)c, (void)list, 0; }
#else
int fssl_lib_new(fssl_lib **lib, char **providers, int *unserved, const unsigned char *conf, size_t len, fssl_errors *errs);
char *fssl_providers(OSSL_LIB_CTX *ctx);
X509_STORE *fssl_lib_system_store(fssl_lib *lib, fssl_errors *errs);
int fssl_ctx_try(SSL_CTX *ctx, fssl_lib *lib, int client, int identity, const char *suites, const char *groups, fssl_errors *errs);
int fssl_ctx_unserved_cert(SSL_CTX *ctx, char **text, fssl_lib *lib, int identity, fssl_errors *errs);
int fssl_conn_served(const fssl_conn *c, fssl_served *list);
#endif

#include "cgo_evp.h"

#endif
