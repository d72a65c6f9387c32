/*
 * The hot path: handshakes and records, the wire BIO and the verify callback. They are in one translation unit, so that
 * the compiler can inline across them: small messages are bound by instruction-cache misses. cgo_conn.c has the
 * operations of a connection that are not on the data path.
 */
#include "cgo_internal.h"

#include <time.h>

_Static_assert(offsetof(fssl_conn, verdict.unproved) < 3 * 64, "a record uses more cache lines of a connection than it has to");

/* -------------------------------------------------------- the memory BIO */

/* Keeps output that does not fit into the caller's slice. */
SELDOM static int hold(fssl_conn *c, const char *data, size_t len)
{
    size_t need = c->wire.held_len + len;

    if (c->reading && c->handshaken)
        c->wire.answers += len;
    if (need > FSSL_MAX_HELD || c->wire.answers > FSSL_MAX_ANSWERS)
        return 0;
    if (c->wire.held_off + need > c->wire.held_cap) {
        size_t cap = c->wire.held_cap;
        unsigned char *held;

        while (cap < need)
            cap = cap < 2048 ? 2048 : cap * 2;
        held = OPENSSL_malloc(cap);
        if (held == NULL) {
            c->wire.starved = 1;
            return 0;
        }
        if (c->wire.held_len > 0)
            memcpy(held, c->wire.held + c->wire.held_off, c->wire.held_len);
        OPENSSL_free(c->wire.held);
        c->wire.held = held;
        c->wire.held_cap = cap;
        c->wire.held_off = 0;
    }
    memcpy(c->wire.held + c->wire.held_off + c->wire.held_len, data, len);
    c->wire.held_len = need;
    return 1;
}

/* Between lend and reclaim, within one call, output goes to the caller's slice. */
static void lend(fssl_conn *c, unsigned char *wire, size_t cap)
{
    c->wire.out = wire;
    c->wire.out_cap = cap;
    c->wire.out_len = 0;
}

static void reclaim(fssl_conn *c)
{
    c->wire_len = c->wire.out_len;
    lend(c, NULL, 0);
}

/* Moves held bytes to the caller's slice, and frees their memory when none are left. */
static void fetch(fssl_conn *c)
{
    size_t n = c->wire.out_cap - c->wire.out_len;

    if (n > c->wire.held_len)
        n = c->wire.held_len;
    if (n > 0) {
        memcpy(c->wire.out + c->wire.out_len, c->wire.held + c->wire.held_off, n);
        c->wire.out_len += n;
        c->wire.held_off += n;
        c->wire.held_len -= n;
    }
    if (c->wire.held_len == 0 && c->wire.held != NULL) {
        OPENSSL_free(c->wire.held);
        c->wire.held = NULL;
        c->wire.held_off = c->wire.held_cap = c->wire.answers = 0;
    }
}

static int wire_write(BIO *bio, const char *data, size_t len, size_t *taken)
{
    fssl_conn *c = BIO_get_data(bio);
    size_t room;

    *taken = len;
    if (unlikely(c->wire.discard))
        return 1;
    room = c->wire.held_len > 0 ? 0 : c->wire.out_cap - c->wire.out_len;
    if (room > len)
        room = len;
    if (room > 0) {
        memcpy(c->wire.out + c->wire.out_len, data, room);
        c->wire.out_len += room;
    }
    if (unlikely(room < len) && !hold(c, data + room, len - room)) {
        BIO_clear_retry_flags(bio); /* an error: OpenSSL must not retry */
        *taken = 0;
        c->wire.full = 1;
        return -1;
    }
    return 1;
}

static int wire_read(BIO *bio, char *data, size_t len, size_t *got)
{
    fssl_conn *c = BIO_get_data(bio);
    size_t n = c->wire.in_left;

    if (unlikely(n == 0)) { /* never reports end of file: ReceiveEOF does that */
        BIO_set_retry_read(bio);
        c->wire.dry = 1;
        *got = 0;
        return -1;
    }
    if (unlikely(c->wire.dry)) {
        BIO_clear_retry_flags(bio);
        c->wire.dry = 0;
    }
    if (n > len)
        n = len;
    memcpy(data, c->wire.in, n);
    c->wire.in += n;
    c->wire.in_left -= n;
    *got = n;
    return 1;
}

static long wire_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)num;
    (void)ptr;
    switch (cmd) {
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_DUP:
        return 1;
    case BIO_CTRL_PENDING:
        return (long)((fssl_conn *)BIO_get_data(bio))->wire.in_left;
    default:
        return 0;
    }
}

static BIO_METHOD *wire_method; /* made once and set atomically; after a failure for lack of memory it is tried again */

static BIO_METHOD *get_wire_method(void)
{
    BIO_METHOD *m = __atomic_load_n(&wire_method, __ATOMIC_ACQUIRE), *none = NULL;

    if (m != NULL)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sslfilter wire");
    if (m == NULL || !BIO_meth_set_write_ex(m, wire_write) || !BIO_meth_set_read_ex(m, wire_read) || !BIO_meth_set_ctrl(m, wire_ctrl)) {
        BIO_meth_free(m);
        return NULL;
    }
    if (!__atomic_compare_exchange_n(&wire_method, &none, m, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        BIO_meth_free(m); /* another thread was faster */
        m = none;
    }
    return m;
}

BIO *fssl_wire_new(fssl_conn *c)
{
    BIO_METHOD *method = get_wire_method();
    BIO *bio = method != NULL ? BIO_new(method) : NULL;

    if (bio != NULL) {
        BIO_set_data(bio, c);
        BIO_set_init(bio, 1);
    }
    return bio;
}

/* ------------------------------------------------------ the verify callback */

static void forget_records(fssl_verdict *v)
{
    while (v->n_rec > 0)
        X509_free(v->rec[--v->n_rec].cert);
    v->refused = 0;
    if (unlikely(v->shown != NULL)) {
        fssl_certs_free(v->shown);
        v->shown = NULL;
    }
}

static int record(fssl_verdict *v, X509 *cert, int code, int depth, int ignored)
{
    fssl_record *r;

    if (v->n_rec == FSSL_MAX_RECORDS)
        return 0;
    if (v->n_rec == v->cap_rec) {
        int cap = v->cap_rec == 0 ? 4 : v->cap_rec * 2;

        r = OPENSSL_realloc(v->rec, (size_t)cap * sizeof(*r));
        if (r == NULL)
            return 0;
        v->rec = r;
        v->cap_rec = cap;
    }
    if (cert != NULL && !X509_up_ref(cert))
        return 0;
    r = &v->rec[v->n_rec++];
    r->cert = cert;
    r->code = code;
    r->depth = depth;
    r->ignored = ignored;
    return 1;
}

/* Rejects the chain. It keeps the certificates that the peer sent, because OpenSSL keeps only those that it accepts. */
SELDOM static int refuse(fssl_verdict *v, X509_STORE_CTX *store, int code, int depth)
{
    X509_STORE_CTX_set_error(store, code);
    v->refused = code;
    v->refused_depth = depth;
    v->refused_rec = v->n_rec - 1;
    if (v->shown == NULL)
        v->shown = X509_chain_up_ref(X509_STORE_CTX_get0_untrusted(store)); /* NULL if memory is short */
    return 0;
}

/*
 * Reports whether OpenSSL has checked the root, which it checks first. If it has no memory to find out that a
 * certificate is self-signed, it checks neither the signature nor the dates of that certificate, and continues with
 * the next one.
 */
static int root_seen(const fssl_verdict *v, X509_STORE_CTX *store)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    int i, top = sk_X509_num(chain) - 1;

    if (top < 0 || (X509_get_extension_flags(sk_X509_value(chain, top)) & EXFLAG_SS) == 0)
        return 1;
    for (i = 0; i < v->n_rec; i++)
        if (v->rec[i].depth == top)
            return 1;
    return 0;
}

/* Records each call, as the original does. With FSSL_RECORD it rejects nothing, except for a lack of memory. */
int fssl_verify_cb(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    fssl_conn *c = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    int code = ok ? X509_V_OK : X509_STORE_CTX_get_error(store);
    int depth = X509_STORE_CTX_get_error_depth(store);
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    const fssl_policy *p;
    fssl_verdict *v;
    int ignored;

    if (c == NULL)
        return 0;
    p = &c->policy;
    v = c->judging;
    if (v == &c->verdict && v->round != SSL_total_renegotiations(ssl)) { /* a new handshake gets a new verdict */
        v->round = SSL_total_renegotiations(ssl);
        v->unproved = 1;
        forget_records(v);
    }
    ignored = !ok && fssl_ignores(p, code);
    if (p->lists_unusable && code == X509_V_ERR_UNABLE_TO_GET_CRL) /* a CRL that cannot be read does not count as a missing CRL */
        ignored = 0;
    if (!record(v, cert, code, depth, ignored) || (ok && depth == 0 && !root_seen(v, store)))
        return refuse(v, store, X509_V_ERR_OUT_OF_MEM, depth);
    if (!ok && !ignored && p->mode != FSSL_RECORD)
        return refuse(v, store, code, depth);
    if (!ok) /* SSL_get_error would take the queued reason of an ignored error for a failure of the handshake */
        clear_errors();
    if (p->mode == FSSL_RECORD)
        return 1;
    if (p->lists_unusable)
        return refuse(v, store, X509_V_ERR_UNABLE_TO_GET_CRL, depth);
    if (p->serials_mode == FSSL_CRL_BLOCK || (p->serials_mode == FSSL_CRL_CHECK && p->serials->n == 0))
        return refuse(v, store, X509_V_ERR_UNABLE_TO_GET_CRL, depth);
    if (p->serials_mode == FSSL_CRL_CHECK && (cert == NULL || fssl_listed(p->serials, cert)))
        return refuse(v, store, X509_V_ERR_CERT_REVOKED, depth);
    return 1;
}

fssl_verdict *fssl_verdict_new(void)
{
    return OPENSSL_zalloc(sizeof(fssl_verdict));
}

void fssl_verdict_clear(fssl_verdict *v)
{
    forget_records(v);
    OPENSSL_free(v->rec);
}

void fssl_verdict_free(fssl_verdict *v)
{
    if (v == NULL)
        return;
    fssl_verdict_clear(v);
    OPENSSL_free(v);
}

/*
 * Verifies chain, leaf first, outside of a handshake. It uses the trust store, policy, name and callback of the
 * connection c, as OpenSSL's ssl_verify_cert_chain does, but stores the result in v. built, which may be NULL, receives
 * the chain that OpenSSL built. If OpenSSL cannot verify the chain, it returns 0 and stores the reason in errs.
 */
int fssl_judge(fssl_conn *c, fssl_verdict *v, STACK_OF(X509) **built, STACK_OF(X509) *chain, fssl_errors *errs)
{
    X509_STORE_CTX *store;
    int ok = 0;

    clear_errors();
    store = fssl_new_store_ctx(c->lib);
    if (store == NULL || X509_STORE_CTX_init(store, SSL_CTX_get_cert_store(SSL_get_SSL_CTX(c->ssl)), sk_X509_value(chain, 0), chain) != 1)
        goto err;
    X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(store), SSL_get_security_level(c->ssl));
    if (X509_STORE_CTX_set_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx(), c->ssl) != 1 ||
        X509_STORE_CTX_set_default(store, c->client ? "ssl_server" : "ssl_client") != 1 ||
        X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(store), SSL_get0_param(c->ssl)) != 1)
        goto err;
    X509_STORE_CTX_set_flags(store, (unsigned long)SSL_set_cert_flags(c->ssl, 0) & X509_V_FLAG_SUITEB_128_LOS); /* adds no flag */
    X509_STORE_CTX_set_verify_cb(store, fssl_verify_cb);
    if (c->policy.lists != NULL)
        X509_STORE_CTX_set0_crls(store, c->policy.lists);
    c->judging = v;
    ok = X509_verify_cert(store) > 0 || v->refused != 0;
    c->judging = &c->verdict;
    if (built != NULL)
        *built = X509_STORE_CTX_get1_chain(store);
err:
    X509_STORE_CTX_free(store);
    return done(ok, errs);
}

/* --------------------------------------------------- handshakes and records */

/*
 * cross and crossed begin and end a call that moves data. cross always empties the error queue, because OpenSSL
 * would take an older error of the thread for an error of this connection. Reading and writing records without a
 * failure leaves nothing in the queue, so crossed empties it only if the call did anything else, for example a
 * handshake. Checking the queue once is 3 % of the cost of a small message.
 */
static void cross(fssl_conn *c)
{
    clear_errors();
    c->stirred = !c->records_only;
}

static void crossed(fssl_conn *c, fssl_status status)
{
    if (unlikely(c->stirred))
        clear_errors();
    c->status = status;
}

/*
 * Reports whether a call that failed without an error failed because of the peer's close_notify. SSL_get_error
 * considers only the first warning alert: Java sends user_canceled (RFC 8446 section 6.1) before every
 * close_notify, and then SSL_get_error returns SSL_ERROR_SYSCALL. A fatal alert also sets SSL_RECEIVED_SHUTDOWN,
 * and its error can be missing for lack of memory, but then the state is "error".
 */
static int closed_by_peer(const fssl_conn *c)
{
    return ERR_peek_error() == 0 && (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0 && strcmp(SSL_state_string(c->ssl), "SSLERR") != 0;
}

/* Handles a failed call of OpenSSL: returns its status, and copies the error queue if it is an error. */
SELDOM fssl_status fssl_outcome(fssl_conn *c, int ret)
{
    c->stirred = 1;
    c->unread = 0;
    c->ssl_error = SSL_get_error(c->ssl, ret);
    if (c->wire.full) {
        clear_errors();
        return c->wire.starved ? FSSL_NO_MEMORY : FSSL_FULL;
    }
    if (c->ssl_error == SSL_ERROR_WANT_READ)
        return SSL_total_renegotiations(c->ssl) > FSSL_MAX_ROUNDS ? FSSL_ROUNDS : FSSL_OK;
    if (c->ssl_error == SSL_ERROR_WANT_CLIENT_HELLO_CB)
        return FSSL_HELLO;
    if (c->ssl_error == SSL_ERROR_SYSCALL && closed_by_peer(c))
        c->ssl_error = SSL_ERROR_ZERO_RETURN;
    if (c->ssl_error == SSL_ERROR_ZERO_RETURN && c->handshaken)
        return FSSL_CLOSED;
    if (c->errs == NULL)
        c->errs = OPENSSL_zalloc(sizeof(*c->errs));
    fssl_take_errors(c->errs);
    return c->errs != NULL ? FSSL_FATAL : FSSL_NO_MEMORY;
}

/* One step of the first handshake. */
SELDOM static fssl_status step_handshake(fssl_conn *c)
{
    int ret = SSL_do_handshake(c->ssl);
    X509 *cert;

    if (ret != 1)
        return fssl_outcome(c, ret);
    if (c->client)
        c->client_sessions.proved = (int64_t)time(NULL);
    if (c->resume != NULL)
        fssl_resumed(c);
    if (c->policy.mode != FSSL_RECORD) {
        cert = fssl_own_certificate(c);
        X509_free(cert);
        /* A peer with an anonymous suite sends no certificate. OpenSSL verifies nothing in a resumed session; fssl_conn_offer has done it. */
        if (cert == NULL && c->resume == NULL ? c->policy.mode == FSSL_ENFORCE : c->verdict.n_rec == 0)
            return FSSL_NO_CERT;
    }
    c->handshaken = 1;
    fssl_hello_free(c->hello); /* it is compared only with a second ClientHello of the same handshake */
    c->hello = NULL;
    /*
     * In TLS 1.2, the record with the Finished message may also hold a message of the next handshake. It must be
     * read even if no further input arrives.
     */
    c->unread = SSL_has_pending(c->ssl);
    c->records_only = SSL_version(c->ssl) == TLS1_3_VERSION;
    return FSSL_OK;
}

SELDOM static fssl_status send_key_update(fssl_conn *c)
{
    int ret;

    if ((SSL_get_shutdown(c->ssl) & SSL_SENT_SHUTDOWN) != 0 || !SSL_is_init_finished(c->ssl))
        return FSSL_OK;
    c->stirred = 1;
    ret = SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    if (ret == 1)
        ret = SSL_do_handshake(c->ssl);
    return ret == 1 ? FSSL_OK : fssl_outcome(c, ret);
}

/* OpenSSL would answer a KeyUpdate only with the next write. This answers it at once. */
static fssl_status answer_key_update(fssl_conn *c)
{
    return unlikely(SSL_get_key_update_type(c->ssl) != SSL_KEY_UPDATE_NONE) ? send_key_update(c) : FSSL_OK;
}

/*
 * left is true if the last call may have left a part of a record in OpenSSL. SSL_read_ex leaves a part only if it
 * fills plain. The part that SSL_do_handshake leaves is not data.
 */
static fssl_status read_records(fssl_conn *c, unsigned char *plain, size_t cap, int left)
{
    fssl_status status = FSSL_OK;

    /* without input SSL_read would report that it needs some, and allocate a read buffer */
    while (status == FSSL_OK && c->plain_len < cap && (c->wire.in_left > 0 || (left && (SSL_pending(c->ssl) > 0 || c->unread)))) {
        size_t n = 0, before = c->wire.in_left;
        int ret = SSL_read_ex(c->ssl, plain + c->plain_len, cap - c->plain_len, &n);

        if (likely(ret == 1)) {
            c->plain_len += n;
        } else {
            status = fssl_outcome(c, ret);
            if (status == FSSL_OK && (c->wire.in_left == 0 || c->wire.in_left == before)) {
                status = answer_key_update(c);
                break;
            }
        }
        if (status == FSSL_OK)
            status = answer_key_update(c);
    }
    return status;
}

/*
 * Reads wire and writes plaintext to plain. in_rest counts the bytes of wire that were not used; more reports that
 * plain was too small.
 */
void fssl_receive(uintptr_t conn, unsigned char *plain, size_t cap, const unsigned char *wire, size_t len)
{
    fssl_conn *c = (fssl_conn *)conn;
    fssl_status status;
    int left = c->more;

    cross(c);
    c->wire.in = wire;
    c->wire.in_left = len;
    c->plain_len = 0;
    c->more = 0;
    c->reading = 1;
    status = FSSL_OK;
    if (unlikely(!c->handshaken)) {
        status = step_handshake(c);
        left = c->unread;
    }
    if (status == FSSL_OK && likely(c->handshaken)) {
        status = read_records(c, plain, cap, left);
        if (unlikely(c->verdict.unproved) && SSL_is_init_finished(c->ssl)) /* SSL_is_init_finished is never true after a fatal error */
            c->verdict.unproved = 0;
        c->more = status == FSSL_OK && c->plain_len == cap && (c->wire.in_left > 0 || SSL_pending(c->ssl) > 0 || c->unread);
    }
    c->in_rest = c->wire.in_left;
    c->wire.in = NULL; /* during a handshake a write also reads, and must find no input */
    c->wire.in_left = 0;
    c->reading = 0;
    crossed(c, status);
}

/*
 * Writes to wire the held bytes and then the records of plain. plain_len counts the bytes of plain that were
 * encrypted.
 */
void fssl_send(uintptr_t conn, unsigned char *wire, size_t cap, const unsigned char *plain, size_t len)
{
    fssl_conn *c = (fssl_conn *)conn;
    fssl_status status = FSSL_OK;

    cross(c);
    c->plain_len = 0;
    lend(c, wire, cap);
    fetch(c);
    while (status == FSSL_OK && c->plain_len < len) {
        size_t n = 0;
        int ret = SSL_write_ex(c->ssl, plain + c->plain_len, len - c->plain_len, &n);

        if (likely(ret == 1)) {
            c->plain_len += n;
        } else {
            status = fssl_outcome(c, ret);
            break; /* with FSSL_OK, a renegotiation is in progress, and the rest waits for input */
        }
    }
    reclaim(c); /* OpenSSL has sent a pending answer to a KeyUpdate before plain */
    crossed(c, status);
}

/* Like fssl_send for a connection that has nothing new to send: writes only held bytes, and returns their number. */
size_t fssl_fetch(fssl_conn *c, unsigned char *wire, size_t cap)
{
    lend(c, wire, cap);
    fetch(c);
    reclaim(c);
    return c->wire_len;
}
