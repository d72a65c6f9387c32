/*
 * The hot path: connections, the wire BIO and the verify callback. They stay in one translation unit, so that the
 * compiler can inline across them: the cost of a small message is instruction-cache misses.
 */
#include "cgo_internal.h"

/* -------------------------------------------------------- the memory BIO */

/* Keeps bytes for the network that found no room in the caller's slice. */
SELDOM static int hold(fssl_conn *c, const char *data, size_t len)
{
    size_t need = c->held_len + len;

    if (c->reading && c->handshaken)
        c->answers += len;
    if (need > FSSL_MAX_HELD || c->answers > FSSL_MAX_ANSWERS)
        return 0;
    if (c->held_off + need > c->held_cap) {
        size_t cap = c->held_cap;
        unsigned char *held;

        while (cap < need)
            cap = cap < 2048 ? 2048 : cap * 2;
        held = OPENSSL_malloc(cap);
        if (held == NULL) {
            c->starved = 1;
            return 0;
        }
        if (c->held_len > 0)
            memcpy(held, c->held + c->held_off, c->held_len);
        OPENSSL_free(c->held);
        c->held = held;
        c->held_cap = cap;
        c->held_off = 0;
    }
    memcpy(c->held + c->held_off + c->held_len, data, len);
    c->held_len = need;
    return 1;
}

/* The caller's slice for output is ours from lend to reclaim, within one call. */
static void lend(fssl_conn *c, unsigned char *wire, size_t cap)
{
    c->out = wire;
    c->out_cap = cap;
    c->out_len = 0;
}

static void reclaim(fssl_conn *c)
{
    c->wire_len = c->out_len;
    lend(c, NULL, 0);
}

/* Moves held bytes to the caller's slice, and gives the memory back when all are gone. */
static void fetch(fssl_conn *c)
{
    size_t n = c->out_cap - c->out_len;

    if (n > c->held_len)
        n = c->held_len;
    if (n > 0) {
        memcpy(c->out + c->out_len, c->held + c->held_off, n);
        c->out_len += n;
        c->held_off += n;
        c->held_len -= n;
    }
    if (c->held_len == 0 && c->held != NULL) {
        OPENSSL_free(c->held);
        c->held = NULL;
        c->held_off = c->held_cap = c->answers = 0;
    }
}

static int wire_write(BIO *bio, const char *data, size_t len, size_t *taken)
{
    fssl_conn *c = BIO_get_data(bio);
    size_t room;

    *taken = len;
    if (unlikely(c->discard))
        return 1;
    room = c->held_len > 0 ? 0 : c->out_cap - c->out_len;
    if (room > len)
        room = len;
    if (room > 0) {
        memcpy(c->out + c->out_len, data, room);
        c->out_len += room;
    }
    if (unlikely(room < len) && !hold(c, data + room, len - room)) {
        BIO_clear_retry_flags(bio); /* this is a failure, and not to be tried again */
        *taken = 0;
        c->full = 1;
        return -1;
    }
    return 1;
}

static int wire_read(BIO *bio, char *data, size_t len, size_t *got)
{
    fssl_conn *c = BIO_get_data(bio);
    size_t n = c->in_left;

    if (unlikely(n == 0)) { /* never end of file: that is ReceiveEOF's word */
        BIO_set_retry_read(bio);
        c->dry = 1;
        *got = 0;
        return -1;
    }
    if (unlikely(c->dry)) {
        BIO_clear_retry_flags(bio);
        c->dry = 0;
    }
    if (n > len)
        n = len;
    memcpy(data, c->in, n);
    c->in += n;
    c->in_left -= n;
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
        return (long)((fssl_conn *)BIO_get_data(bio))->in_left;
    default:
        return 0;
    }
}

static BIO_METHOD *wire_method; /* made once, set atomically; what failed for want of memory is tried again */

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

static BIO *wire_new(fssl_conn *c)
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

static void forget_records(fssl_conn *c)
{
    while (c->n_rec > 0)
        X509_free(c->rec[--c->n_rec].cert);
    c->refused = 0;
}

static int record(fssl_conn *c, X509 *cert, int code, int depth, int ignored)
{
    fssl_record *r;

    if (c->n_rec == FSSL_MAX_RECORDS)
        return 0;
    if (c->n_rec == c->cap_rec) {
        int cap = c->cap_rec == 0 ? 4 : c->cap_rec * 2;

        r = OPENSSL_realloc(c->rec, (size_t)cap * sizeof(*r));
        if (r == NULL)
            return 0;
        c->rec = r;
        c->cap_rec = cap;
    }
    if (cert != NULL && !X509_up_ref(cert))
        return 0;
    r = &c->rec[c->n_rec++];
    r->cert = cert;
    r->code = code;
    r->depth = depth;
    r->ignored = ignored;
    return 1;
}

static int refuse(fssl_conn *c, X509_STORE_CTX *store, int code, int depth)
{
    X509_STORE_CTX_set_error(store, code);
    c->refused = code;
    c->refused_depth = depth;
    c->refused_rec = c->n_rec - 1;
    return 0;
}

/*
 * Whether OpenSSL has looked at the root, whose turn is first. If it has no memory
 * to see that a certificate signs itself, it checks neither its signature nor its
 * dates, and goes on with the next.
 */
static int root_seen(const fssl_conn *c, X509_STORE_CTX *store)
{
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    int i, top = sk_X509_num(chain) - 1;

    if (top < 0 || (X509_get_extension_flags(sk_X509_value(chain, top)) & EXFLAG_SS) == 0)
        return 1;
    for (i = 0; i < c->n_rec; i++)
        if (c->rec[i].depth == top)
            return 1;
    return 0;
}

/* Records what OpenSSL found, one entry a call as the original does, and refuses only where the mode says so. */
static int verify_cb(int ok, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    fssl_conn *c = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    int code = ok ? X509_V_OK : X509_STORE_CTX_get_error(store);
    int depth = X509_STORE_CTX_get_error_depth(store);
    X509 *cert = X509_STORE_CTX_get_current_cert(store);
    int i, ignored = 0;

    if (c == NULL)
        return 0;
    if (c->round != SSL_total_renegotiations(ssl)) { /* a new handshake, a new verdict */
        c->round = SSL_total_renegotiations(ssl);
        c->unproved = 1;
        forget_records(c);
    }
    for (i = 0; !ok && i < c->n_ignore; i++)
        if (c->ignore[i] == code)
            ignored = 1;
    if (c->crls_block && code == X509_V_ERR_UNABLE_TO_GET_CRL) /* a list that cannot be read is not one that is missing */
        ignored = 0;
    if (!record(c, cert, code, depth, ignored) || (ok && depth == 0 && !root_seen(c, store)))
        return refuse(c, store, X509_V_ERR_OUT_OF_MEM, depth);
    if (!ok && !ignored && c->mode == FSSL_ENFORCE)
        return refuse(c, store, code, depth);
    if (!ok) /* what led to an error that does not count (a bad signature's padding, say): SSL_get_error would take it for its own */
        clear_errors();
    if (c->mode != FSSL_ENFORCE)
        return 1;
    if (c->crls_block)
        return refuse(c, store, X509_V_ERR_UNABLE_TO_GET_CRL, depth);
    if (c->serials_mode == FSSL_CRL_BLOCK || (c->serials_mode == FSSL_CRL_CHECK && c->serials->n == 0))
        return refuse(c, store, X509_V_ERR_UNABLE_TO_GET_CRL, depth);
    if (c->serials_mode == FSSL_CRL_CHECK && (cert == NULL || fssl_listed(c->serials, cert)))
        return refuse(c, store, X509_V_ERR_CERT_REVOKED, depth);
    return 1;
}

/* -------------------------------------------------------------- connections */

fssl_conn *fssl_conn_new(SSL_CTX *ctx, const fssl_lib *lib, int client, int verify_mode, int mode, const int *ignore, int n_ignore,
                         fssl_errors *errs)
{
    fssl_conn *c;
    BIO *bio;

    clear_errors();
    c = OPENSSL_zalloc(sizeof(*c));
    if (c == NULL)
        goto err;
    c->lib = lib;
    c->client = client;
    c->mode = mode;
    if (n_ignore > 0) {
        c->ignore = OPENSSL_memdup(ignore, (size_t)n_ignore * sizeof(*ignore));
        if (c->ignore == NULL)
            goto err;
        c->n_ignore = n_ignore;
    }
    c->ssl = SSL_new(ctx); /* holds a reference to ctx */
    bio = wire_new(c);
    if (c->ssl == NULL || bio == NULL || !SSL_set_app_data(c->ssl, c)) {
        BIO_free(bio);
        goto err;
    }
    SSL_set_bio(c->ssl, bio, bio); /* owns it now */
    SSL_set_verify(c->ssl, verify_mode, verify_mode != SSL_VERIFY_NONE ? verify_cb : NULL);
    if (client)
        SSL_set_connect_state(c->ssl);
    else
        SSL_set_accept_state(c->ssl);
    done(1, errs);
    return c;
err:
    done(0, errs);
    fssl_conn_free(c);
    return NULL;
}

void fssl_conn_free(fssl_conn *c)
{
    if (c == NULL)
        return;
    SSL_free(c->ssl);
    forget_records(c);
    OPENSSL_free(c->rec);
    OPENSSL_free(c->ignore);
    OPENSSL_free(c->held);
    OPENSSL_free(c->errs);
    OPENSSL_free(c);
    clear_errors();
}

/* sni is sent, host or ip is verified; NULL where there is none. */
int fssl_conn_set_alpn(fssl_conn *c, const unsigned char *protos, size_t len, fssl_errors *errs)
{
    clear_errors();
    return done(SSL_set_alpn_protos(c->ssl, protos, (unsigned int)len) == 0, errs); /* 0 is success here */
}

int fssl_conn_set_name(fssl_conn *c, const char *sni, const char *host, const char *ip, fssl_errors *errs)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(c->ssl);
    int ok;

    clear_errors();
    /* A common name is no host name (RFC 9525 section 2): who gets a client certificate often chooses it. */
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    ok = SSL_set_tlsext_host_name(c->ssl, sni) == 1 && X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 &&
         (ip != NULL ? X509_VERIFY_PARAM_set1_ip_asc(param, ip) : X509_VERIFY_PARAM_set1_ip(param, NULL, 0)) == 1;
    return done(ok, errs);
}

/*
 * The two ends of a crossing that moves data. Before it the queue is always made empty: somebody else's error would be
 * taken for one of this connection. Records that OpenSSL reads and writes without a failure leave nothing in it; behind
 * all else, a handshake for instance, it is looked at again. Each look is 3 % of what a small message costs.
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
 * Whether a call that failed without an error did so because of the peer's close_notify. SSL_get_error looks at the last
 * warning alone: behind a user_canceled (RFC 8446 section 6.1), which Java sends in front of every close_notify, it says
 * SSL_ERROR_SYSCALL. A fatal alert sets SSL_RECEIVED_SHUTDOWN too, and for want of memory its error may be missing, but
 * then the state is "error".
 */
static int closed_by_peer(const fssl_conn *c)
{
    return ERR_peek_error() == 0 && (SSL_get_shutdown(c->ssl) & SSL_RECEIVED_SHUTDOWN) != 0 && strcmp(SSL_state_string(c->ssl), "SSLERR") != 0;
}

/* Ends a failed call of OpenSSL: says what it means, and copies the queue where it is an error. */
SELDOM static fssl_status outcome(fssl_conn *c, int ret)
{
    c->stirred = 1;
    c->unread = 0;
    c->ssl_error = SSL_get_error(c->ssl, ret);
    if (c->full) {
        clear_errors();
        return c->starved ? FSSL_NO_MEMORY : FSSL_FULL;
    }
    if (c->ssl_error == SSL_ERROR_WANT_READ)
        return SSL_total_renegotiations(c->ssl) > FSSL_MAX_ROUNDS ? FSSL_ROUNDS : FSSL_OK;
    if (c->ssl_error == SSL_ERROR_SYSCALL && closed_by_peer(c))
        c->ssl_error = SSL_ERROR_ZERO_RETURN;
    if (c->ssl_error == SSL_ERROR_ZERO_RETURN && c->handshaken)
        return FSSL_CLOSED;
    if (c->errs == NULL)
        c->errs = OPENSSL_zalloc(sizeof(*c->errs));
    fssl_take_errors(c->errs);
    return c->errs != NULL ? FSSL_FATAL : FSSL_NO_MEMORY;
}

/* Before the first handshake: one step of it. */
SELDOM static fssl_status step_handshake(fssl_conn *c)
{
    int ret = SSL_do_handshake(c->ssl);
    X509 *cert;

    if (ret != 1)
        return outcome(c, ret);
    if (c->mode == FSSL_ENFORCE) { /* an anonymous suite passes OpenSSL's verification, a resumed session comes without */
        cert = fssl_peer_certificate(c->ssl);
        X509_free(cert);
        if (cert == NULL || c->n_rec == 0)
            return FSSL_NO_CERT;
    }
    c->handshaken = 1;
    /* TLS 1.2: the record of the Finished may hold a message of the next handshake, and no input need come any more. */
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
    return ret == 1 ? FSSL_OK : outcome(c, ret);
}

/* OpenSSL answers a KeyUpdate with the next write; the peer should not have to wait for one. */
static fssl_status answer_key_update(fssl_conn *c)
{
    return unlikely(SSL_get_key_update_type(c->ssl) != SSL_KEY_UPDATE_NONE) ? send_key_update(c) : FSSL_OK;
}

/*
 * left: the last call may have left a part of a record behind. SSL_read_ex itself leaves one only where it fills plain, and
 * SSL_do_handshake one that is not data.
 */
static fssl_status read_records(fssl_conn *c, unsigned char *plain, size_t cap, int left)
{
    fssl_status status = FSSL_OK;

    /* without input SSL_read could only say so, at the price of a read buffer */
    while (status == FSSL_OK && c->plain_len < cap && (c->in_left > 0 || (left && (SSL_pending(c->ssl) > 0 || c->unread)))) {
        size_t n = 0, before = c->in_left;
        int ret = SSL_read_ex(c->ssl, plain + c->plain_len, cap - c->plain_len, &n);

        if (likely(ret == 1)) {
            c->plain_len += n;
        } else {
            status = outcome(c, ret);
            if (status == FSSL_OK && (c->in_left == 0 || c->in_left == before)) {
                status = answer_key_update(c);
                break;
            }
        }
        if (status == FSSL_OK)
            status = answer_key_update(c);
    }
    return status;
}

/* Takes wire, appends plaintext; in_rest tells what was not taken, more that there was no room for all of it. */
void fssl_receive(uintptr_t conn, unsigned char *plain, size_t cap, const unsigned char *wire, size_t len)
{
    fssl_conn *c = (fssl_conn *)conn;
    fssl_status status;
    int left = c->more;

    cross(c);
    c->in = wire;
    c->in_left = len;
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
        if (unlikely(c->unproved) && SSL_is_init_finished(c->ssl)) /* never after a fatal error */
            c->unproved = 0;
        c->more = status == FSSL_OK && c->plain_len == cap && (c->in_left > 0 || SSL_pending(c->ssl) > 0 || c->unread);
    }
    c->in_rest = c->in_left;
    c->in = NULL; /* a write reads too, in the middle of a handshake: it finds nothing */
    c->in_left = 0;
    c->reading = 0;
    crossed(c, status);
}

/* Appends to wire what is held and then the records of plain; plain_len tells how much of plain is in them. */
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
            status = outcome(c, ret);
            break; /* FSSL_OK here: a renegotiation is under way, the rest waits for input */
        }
    }
    reclaim(c); /* a KeyUpdate that is still to be answered went in front of plain */
    crossed(c, status);
}

/* fssl_send for a connection that is past speaking: only what is held. Returns the count. */
size_t fssl_fetch(fssl_conn *c, unsigned char *wire, size_t cap)
{
    lend(c, wire, cap);
    fetch(c);
    reclaim(c);
    return c->wire_len;
}

/* Queues our close_notify; what OpenSSL would still say after it is dropped. */
fssl_status fssl_shutdown(fssl_conn *c)
{
    int ret;

    clear_errors();
    if (SSL_in_init(c->ssl))
        return FSSL_AGAIN;
    ret = SSL_shutdown(c->ssl);
    if (ret < 0)
        return outcome(c, ret);
    c->discard = 1;
    clear_errors();
    return FSSL_OK;
}

fssl_status fssl_key_update(fssl_conn *c, int request_peer)
{
    int ret;

    clear_errors();
    ret = SSL_key_update(c->ssl, request_peer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    if (ret == 1)
        ret = SSL_do_handshake(c->ssl);
    if (ret != 1)
        return outcome(c, ret);
    clear_errors();
    return FSSL_OK;
}

/*
 * What an end of the transport would cut off here. SSL_has_pending misses the moment in which the header of a record has
 * come and nothing of its body; OpenSSL then waits to "read body".
 */
int fssl_conn_truncated(const fssl_conn *c)
{
    int in_record = SSL_has_pending(c->ssl) || strcmp(SSL_rstate_string(c->ssl), "RB") == 0;

    return (in_record ? FSSL_IN_RECORD : 0) | (SSL_in_init(c->ssl) ? FSSL_IN_HANDSHAKE : 0);
}
