/* Sessions: the data that a session carries, and the verdict on a session that is resumed. */
#include "cgo_internal.h"

/*
 * The application data of a session: the format's version, the binding, the stapled OCSP response, and certificates
 * that the peer sent, in DER form. Each item follows its length in three bytes, big endian. On a client, the peer's own
 * certificate is a field of the session, and the others are here. On a server all of them are here: OpenSSL would parse
 * the field whenever it makes or decrypts a ticket.
 */
enum { FORMAT = 1 };

static unsigned char *put(unsigned char *p, const unsigned char *item, size_t len)
{
    p[0] = (unsigned char)(len >> 16), p[1] = (unsigned char)(len >> 8), p[2] = (unsigned char)len;
    if (len > 0)
        memcpy(p + 3, item, len);
    return p + 3 + len;
}

/* Takes the next item off the data. Returns 0 if it is cut. */
static int take(const unsigned char **p, size_t *left, const unsigned char **item, size_t *len)
{
    if (*left < 3)
        return 0;
    *len = (size_t)(*p)[0] << 16 | (size_t)(*p)[1] << 8 | (*p)[2];
    if (*len > *left - 3)
        return 0;
    *item = *p + 3;
    *p += 3 + *len;
    *left -= 3 + *len;
    return 1;
}

/*
 * Stores in the session: binding, the OCSP response, and the certificates of chain from the index skip on, which it
 * also adds to cache, if that is not NULL. A client skips the first, which is the server's own. If they take more than
 * max bytes, or memory is short, it returns 0, and the session must not be used. It leaves errors in the queue.
 */
int fssl_session_pack(SSL_SESSION *s, fssl_certs_cache *cache, const unsigned char *binding, size_t binding_len, const STACK_OF(X509) *chain, int skip,
                      const unsigned char *ocsp, size_t ocsp_len, size_t max)
{
    size_t size = 1 + 3 + binding_len + 3 + ocsp_len;
    unsigned char *data, *p;
    int i, ok;

    if (binding_len > FSSL_MAX_SESSION_DATA || ocsp_len > FSSL_MAX_SESSION_DATA || max > FSSL_MAX_SESSION_DATA)
        return 0;
    for (i = skip; i < sk_X509_num(chain); i++) {
        int n = i2d_X509(sk_X509_value(chain, i), NULL);

        if (n <= 0 || (size += 3 + (size_t)n) > max)
            return 0;
    }
    data = size <= max ? OPENSSL_malloc(size) : NULL;
    if (data == NULL)
        return 0;
    data[0] = FORMAT;
    p = put(data + 1, binding, binding_len);
    p = put(p, ocsp, ocsp_len);
    for (i = skip, ok = 1; ok && i < sk_X509_num(chain); i++) {
        unsigned char *der = NULL;
        int n = i2d_X509(sk_X509_value(chain, i), &der);

        ok = n > 0 && size - (size_t)(p - data) >= 3 + (size_t)n;
        if (ok) {
            p = put(p, der, (size_t)n);
            fssl_certs_cache_put(cache, der, (size_t)n, sk_X509_value(chain, i));
        }
        OPENSSL_free(der);
    }
    ok = ok && p == data + size && SSL_SESSION_set1_ticket_appdata(s, data, size) == 1;
    OPENSSL_free(data);
    return ok;
}

/*
 * Finds the binding and the OCSP response in the data of a session. They belong to the session. certs is the rest of
 * the data, which fssl_session_chain parses. Returns 0 if fssl_session_pack did not make the data.
 */
static int unpack(SSL_SESSION *s, fssl_packed *packed, const unsigned char **certs, size_t *left)
{
    void *data = NULL;

    memset(packed, 0, sizeof(*packed));
    if (SSL_SESSION_get0_ticket_appdata(s, &data, left) != 1 || data == NULL || *left < 1 || *left > FSSL_MAX_SESSION_DATA ||
        *(unsigned char *)data != FORMAT)
        return 0;
    *certs = (unsigned char *)data + 1;
    --*left;
    return take(certs, left, &packed->binding, &packed->binding_len) && take(certs, left, &packed->ocsp, &packed->ocsp_len);
}

/* Appends a certificate, from the cache or parsed in the library context of lib, which it counts. */
static int add_cert(STACK_OF(X509) *chain, const fssl_lib *lib, fssl_certs_cache *cache, const unsigned char *der, size_t len, int *parsed)
{
    const unsigned char *p = der;
    X509 *cert = fssl_certs_cache_get(cache, der, len);

    if (cert == NULL && (cert = fssl_new_cert(lib)) != NULL && d2i_X509(&cert, &p, (long)len) != NULL) {
        if (p != der + len) {
            X509_free(cert);
            return 0;
        }
        ++*parsed;
    }
    if (cert != NULL && sk_X509_push(chain, cert))
        return 1;
    X509_free(cert);
    return 0;
}

/*
 * Takes the peer's certificate out of a session, which has it in fssl_session_pack's data: d2i_SSL_SESSION replaces all
 * fields of the session that are in the DER form. Returns 0 if memory is short; it leaves errors in the queue.
 */
int fssl_session_drop_peer(SSL_SESSION *s)
{
    unsigned char *der = NULL, *head;
    const unsigned char *p, *start, *item;
    int n = i2d_SSL_SESSION(s, &der), tag, class, ok = 0;
    long len = 0;

    if (n <= 0)
        return 0;
    p = der;
    if ((ASN1_get_object(&p, &len, &tag, &class, n) & 0x80) != 0 || tag != V_ASN1_SEQUENCE)
        goto end;
    start = p;
    while (p < start + len) {
        long at = p - der, size = 0;

        if ((ASN1_get_object(&p, &size, &tag, &class, start + len - p) & 0x80) != 0)
            goto end;
        p += size;
        if (class == V_ASN1_CONTEXT_SPECIFIC && tag == 3) { /* peer, as in SSL_SESSION_ASN1 of OpenSSL */
            memmove(der + at, p, (size_t)(start + len - p));
            len -= p - (der + at);
            p = der + at;
        }
    }
    head = der + (start - der) - (ASN1_object_size(1, (int)len, V_ASN1_SEQUENCE) - (int)len);
    item = head;
    ASN1_put_object(&head, 1, (int)len, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
    ok = d2i_SSL_SESSION(&s, &item, start + len - item) != NULL && SSL_SESSION_get0_peer(s) == NULL;
end:
    OPENSSL_clear_free(der, (size_t)n);
    return ok;
}

/*
 * Returns the certificates that the peer sent, its own first, with new references, and the rest of the session's data
 * in packed. It only reads the cache: the caller adds the certificates when it has verified them. It returns NULL if the
 * session has no certificate, if fssl_session_pack did not make its data, or if memory is short. It leaves errors in the
 * queue.
 */
STACK_OF(X509) *fssl_session_chain(const fssl_lib *lib, fssl_certs_cache *cache, SSL_SESSION *s, fssl_packed *packed)
{
    X509 *leaf = SSL_SESSION_get0_peer(s);
    STACK_OF(X509) *chain = NULL;
    const unsigned char *p, *item;
    unsigned char *der = NULL;
    size_t left, len;
    int n, ok;

    if (!unpack(s, packed, &p, &left) || (leaf == NULL && left == 0) || (chain = sk_X509_new_null()) == NULL)
        return NULL;
    ok = 1;
    if (leaf == NULL) { /* of a server: the first of the list is the client's own */
    } else if (lib == NULL) { /* parsing it again would cost more than the signature in a handshake */
        ok = sk_X509_push(chain, leaf);
        if (ok)
            X509_up_ref(leaf);
    } else { /* OpenSSL has parsed it in its default library context */
        n = i2d_X509(leaf, &der);
        ok = n > 0 && add_cert(chain, lib, NULL, der, (size_t)n, &packed->parsed);
        OPENSSL_free(der);
    }
    while (ok && left > 0)
        ok = sk_X509_num(chain) < FSSL_MAX_SESSION_CERTS && take(&p, &left, &item, &len) && add_cert(chain, lib, cache, item, len, &packed->parsed);
    if (ok)
        return chain;
    sk_X509_pop_free(chain, X509_free);
    return NULL;
}

/* ------------------------------------------------------------------ clients */

/*
 * OpenSSL calls it for every session that the server gives: in TLS 1.3 for every ticket, in TLS 1.2 at the end of a full
 * handshake. It keeps a reference; fssl_conn_take_session does the rest, since most programs never ask for sessions.
 */
static int new_session_cb(SSL *ssl, SSL_SESSION *session)
{
    fssl_conn *c = SSL_get_app_data(ssl);
    fssl_client_sessions *s;
    const unsigned char *ticket;
    size_t len = 0;

    SSL_SESSION_get0_ticket(session, &ticket, &len);
    if (c == NULL || len > FSSL_MAX_TICKET) /* without a connection it is a trial of fssl_ctx_try */
        return 0;
    if (SSL_version(ssl) >= TLS1_3_VERSION && SSL_SESSION_get_ticket_lifetime_hint(session) == 0) /* RFC 8446 section 4.6.1: discard it */
        return 0;
    s = &c->client_sessions;
    if (s->n == FSSL_MAX_SESSIONS) { /* the oldest goes */
        SSL_SESSION_free(s->list[0]);
        memmove(s->list, s->list + 1, (FSSL_MAX_SESSIONS - 1) * sizeof(s->list[0]));
        s->n--;
    }
    s->list[s->n++] = session;
    return 1;
}

/* Makes the connections of a client keep what the server gives. OpenSSL itself stores nothing. */
void fssl_ctx_collect_sessions(SSL_CTX *ctx)
{
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL | SSL_SESS_CACHE_NO_AUTO_CLEAR);
    SSL_CTX_sess_set_new_cb(ctx, new_session_cb);
}

void fssl_forget_resume(fssl_conn *c)
{
    fssl_resume *r = c->resume;

    c->resume = NULL;
    if (r == NULL)
        return;
    SSL_SESSION_free(r->session);
    sk_X509_pop_free(r->sent, X509_free);
    sk_X509_pop_free(r->built, X509_free);
    fssl_verdict_clear(&r->verdict);
    OPENSSL_free(r);
}

void fssl_drop_sessions(fssl_conn *c)
{
    fssl_client_sessions *s = &c->client_sessions;

    while (s->n > 0)
        SSL_SESSION_free(s->list[--s->n]);
    fssl_forget_resume(c);
}

/* Reads the properties of a session. Returns 0 if no client of this library made it. */
static int read_facts(SSL_SESSION *s, fssl_session_facts *facts)
{
    int64_t life = SSL_SESSION_get_timeout(s), hint = (int64_t)SSL_SESSION_get_ticket_lifetime_hint(s), most = FSSL_SESSION_DAYS * 86400;
    const unsigned char *certs;
    fssl_packed packed;
    size_t left;

    if (!unpack(s, &packed, &certs, &left) || packed.binding_len != FSSL_BINDING + FSSL_TIME)
        return 0;
    facts->made = fssl_session_time(s);
    facts->proved = fssl_get_time(packed.binding + FSSL_BINDING);
    if (life < 0 || facts->made < 0 || facts->made > INT64_MAX - most || facts->proved < 0 || facts->proved > facts->made + FSSL_SESSION_SKEW)
        return 0;
    if (hint > 0 && hint < life) /* in TLS 1.2, 1.1.1 and 3.0 do not apply it */
        life = hint;
    facts->version = SSL_SESSION_get_protocol_version(s);
    facts->expires = facts->made + (life < most ? life : most);
    if (facts->expires > facts->proved + most) /* otherwise each new ticket would extend the chain without end */
        facts->expires = facts->proved + most;
    memcpy(facts->binding, packed.binding, FSSL_BINDING);
    return 1;
}

/*
 * Takes the oldest session off the list. der is the session with the certificates and the OCSP response that the
 * server sent; the caller wipes and frees it. Returns 0 if this session cannot be kept: the server has no
 * certificate, its certificates are too long, the session has been replaced in a renegotiation or may not be resumed,
 * or memory is short.
 */
int fssl_conn_take_session(fssl_conn *c, unsigned char **der, int *len, fssl_session_facts *facts, const unsigned char *binding)
{
    unsigned char bound[FSSL_BINDING + FSSL_TIME];
    fssl_client_sessions *s = &c->client_sessions;
    SSL_SESSION *copy = NULL;
    STACK_OF(X509) *sent;
    X509 *own, *leaf;
    const unsigned char *ocsp = NULL;
    size_t ocsp_len;
    int ok = 0;

    *der = NULL;
    if (s->n == 0)
        return 0;
    clear_errors();
    fssl_conn_sent(c, &sent, &own);
    ocsp_len = fssl_conn_ocsp(c, &ocsp);
    memcpy(bound, binding, FSSL_BINDING);
    fssl_put_time(bound + FSSL_BINDING, s->proved);
    leaf = SSL_SESSION_get0_peer(s->list[0]);
    if (SSL_SESSION_is_resumable(s->list[0]) && leaf != NULL && sk_X509_num(sent) > 0 && X509_cmp(leaf, sk_X509_value(sent, 0)) == 0)
        copy = SSL_SESSION_dup(s->list[0]); /* the original belongs to the connection */
    if (copy != NULL && fssl_session_pack(copy, NULL, bound, sizeof(bound), sent, 1, ocsp, ocsp_len, FSSL_MAX_SESSION_DATA) && read_facts(copy, facts)) {
        *len = i2d_SSL_SESSION(copy, der);
        ok = *len > 0 && *der != NULL;
    }
    SSL_SESSION_free(copy);
    SSL_SESSION_free(s->list[0]);
    memmove(s->list, s->list + 1, (size_t)--s->n * sizeof(s->list[0]));
    clear_errors();
    return ok;
}

/* Parses the form of fssl_conn_take_session. */
static SSL_SESSION *parse(const unsigned char *der, size_t len)
{
    const unsigned char *p = der, *ticket;
    size_t ticket_len = 0;
    SSL_SESSION *s = len <= FSSL_MAX_SESSION ? d2i_SSL_SESSION(NULL, &p, (long)len) : NULL;

    if (s != NULL)
        SSL_SESSION_get0_ticket(s, &ticket, &ticket_len);
    if (s != NULL && (p != der + len || ticket_len > FSSL_MAX_TICKET || SSL_SESSION_get0_peer(s) == NULL || SSL_SESSION_get0_cipher(s) == NULL || !SSL_SESSION_is_resumable(s))) {
        SSL_SESSION_free(s);
        s = NULL;
    }
    return s;
}

int fssl_session_read(fssl_session_facts *facts, const unsigned char *der, size_t len)
{
    SSL_SESSION *s;
    fssl_packed packed;
    STACK_OF(X509) *chain = NULL;
    int ok;

    clear_errors();
    s = parse(der, len);
    ok = s != NULL && read_facts(s, facts) && (chain = fssl_session_chain(NULL, NULL, s, &packed)) != NULL;
    sk_X509_pop_free(chain, X509_free);
    SSL_SESSION_free(s);
    clear_errors();
    return ok;
}

/* Reports whether the connection offers the cipher suite of a session. */
static int offers(SSL *ssl, const SSL_SESSION *s)
{
    STACK_OF(SSL_CIPHER) *list = SSL_get1_supported_ciphers(ssl);
    int found = fssl_has_suite(list, s);

    sk_SSL_CIPHER_free(list);
    return found;
}

/*
 * Offers a session to the server, if the policy accepts its certificates and its OCSP response now. The caller has set
 * the name, the policy and the CRLs. If the policy does not accept them, c->resume has the reason until the handshake
 * is complete.
 */
fssl_offer fssl_conn_offer(fssl_conn *c, const unsigned char *der, size_t len, fssl_errors *errs)
{
    fssl_resume *r;
    fssl_packed packed;
    fssl_session_facts facts;
    fssl_offer result = FSSL_SESSION_MALFORMED;

    clear_errors();
    fssl_forget_resume(c);
    r = c->resume = OPENSSL_zalloc(sizeof(*r));
    if (r == NULL || (r->session = parse(der, len)) == NULL || !read_facts(r->session, &facts) || (r->sent = fssl_session_chain(c->lib, NULL, r->session, &packed)) == NULL)
        goto end;
    r->ocsp = packed.ocsp;
    r->ocsp_len = packed.ocsp_len;
    r->proved = facts.proved;
    result = FSSL_SESSION_CIPHER;
    if (!offers(c->ssl, r->session))
        goto end;
    result = FSSL_SESSION_REFUSED;
    if (!fssl_judge(c, &r->verdict, &r->built, r->sent, errs))
        return result; /* errs has the errors already */
    if (r->built == NULL || r->verdict.refused != 0 || r->verdict.n_rec == 0)
        goto end;
    result = FSSL_SESSION_OCSP;
    if (!fssl_judge_ocsp(c, &r->checked, r->built, r->ocsp, r->ocsp_len))
        goto end;
    result = SSL_set_session(c->ssl, r->session) == 1 ? FSSL_OFFERED : FSSL_SESSION_NOT_TAKEN;
end:
    done(result == FSSL_OFFERED, errs);
    return result;
}

/* Reports whether the session that the handshake has resumed is the one that was judged. */
static int resumed_it(fssl_conn *c)
{
    void *judged = NULL, *now = NULL;
    size_t judged_len, now_len;

    if (!SSL_session_reused(c->ssl) || c->client)
        return SSL_session_reused(c->ssl);
    return SSL_SESSION_get0_ticket_appdata(c->resume->session, &judged, &judged_len) == 1 &&
           SSL_SESSION_get0_ticket_appdata(SSL_get_session(c->ssl), &now, &now_len) == 1 && judged != NULL && now != NULL &&
           judged_len == now_len && memcmp(judged, now, now_len) == 0; /* it has the certificates */
}

/* Called when the first handshake is complete: if it has resumed the session, the verdict on it becomes that of the connection. */
void fssl_resumed(fssl_conn *c)
{
    fssl_resume *r = c->resume;
    fssl_verdict none = c->verdict;
    SSL_SESSION *now = SSL_get_session(c->ssl);

    if (!resumed_it(c)) {
        fssl_forget_resume(c);
        return;
    }
    c->verdict = r->verdict;
    r->verdict = none;
    c->ocsp = r->checked;
    c->client_sessions.proved = r->proved;
    if (c->client && SSL_version(c->ssl) < TLS1_3_VERSION && now != NULL && now != r->session && SSL_SESSION_up_ref(now) && !new_session_cb(c->ssl, now))
        SSL_SESSION_free(now); /* in TLS 1.2, OpenSSL does not report a new ticket in a resumed session */
}
