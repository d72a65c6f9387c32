/*
 * Whether a server resumes a session, and which certificates of the client a session has. cgo_ticketkeys.c has the keys
 * of tickets, and cgo_stored.c the sessions that a program stores.
 */
#include "cgo_internal.h"

#include <time.h>

/*
 * In TLS 1.2, OpenSSL resumes a session with the cipher suite of the session, even if the context does not allow this
 * suite, or if its security level excludes it. So a session of another context could bring back a suite that this context
 * has disabled.
 */
static int suite_allowed(SSL *ssl, const SSL_SESSION *session)
{
    const SSL_CIPHER *suite = SSL_SESSION_get0_cipher(session);
    int (*secure)(const SSL *, const SSL_CTX *, int, int, int, void *, void *) = SSL_get_security_callback(ssl);

    return fssl_has_suite(SSL_get_ciphers(ssl), session) &&
           (secure == NULL || secure(ssl, NULL, SSL_SECOP_CIPHER_SHARED, SSL_CIPHER_get_bits(suite, NULL), 0, (void *)suite, SSL_get0_security_ex_data(ssl)) == 1);
}

/*
 * In TLS 1.3, OpenSSL has chosen the suite of the connection before it asks for the session, and does not resume a session
 * whose suite has another hash (RFC 8446 section 4.6.1). It finds that out only after this library has judged the session.
 */
static int hash_fits(SSL *ssl, const SSL_SESSION *session)
{
    const SSL_CIPHER *chosen = SSL_get_pending_cipher(ssl), *suite = SSL_SESSION_get0_cipher(session);
    const EVP_MD *ours, *theirs;

    if (SSL_version(ssl) != TLS1_3_VERSION || chosen == NULL || suite == NULL)
        return 1;
    ours = SSL_CIPHER_get_handshake_digest(chosen);
    theirs = SSL_CIPHER_get_handshake_digest(suite);
    return ours != NULL && theirs != NULL && EVP_MD_type(ours) == EVP_MD_type(theirs);
}

/* ------------------------------------------------------ client certificates */

/*
 * Reports whether a proof of the key is recent enough. The clocks of servers that share keys may differ a little. The
 * binding of a session in fssl_session_pack is the time of the full handshake, in which the client has proved its key.
 */
static int recent(const fssl_packed *packed)
{
    int64_t age;

    if (packed->binding_len != FSSL_TIME)
        return 0;
    age = (int64_t)((uint64_t)time(NULL) - (uint64_t)fssl_get_time(packed->binding));
    return age >= -FSSL_SESSION_SKEW && age < FSSL_MAX_PROOF_AGE;
}

/* Reports whether the policy accepts a chain, also on a side that records the errors and accepts everybody. */
int fssl_acceptable(const fssl_policy *p, const fssl_verdict *v)
{
    int i;

    if (v->refused != 0 || v->n_rec == 0 || p->lists_unusable || p->serials_mode == FSSL_CRL_BLOCK)
        return 0;
    for (i = 0; i < v->n_rec; i++)
        if (v->rec[i].code != X509_V_OK && !v->rec[i].ignored)
            return 0;
    return p->serials_mode != FSSL_CRL_CHECK || (p->serials->n > 0 && fssl_verdict_listed(v, p->serials) < 0);
}

/* Stores why the session is not resumed, for fssl_conn_facts. */
void fssl_note_refusal(SSL *ssl, fssl_not_resumed why)
{
    fssl_conn *c = SSL_get_app_data(ssl);

    if (c != NULL)
        c->server_sessions.not_resumed = why;
}

/* Reports whether the session id context of the session is that of the context (see fssl_ctx_bind_sessions). */
static int of_context(const fssl_ctx_data *data, const SSL_SESSION *session)
{
    unsigned int len;
    const unsigned char *context = SSL_SESSION_get0_id_context(session, &len);

    return len == data->session_context_len && memcmp(context, data->session_context, len) == 0;
}

/* Moves the client's own certificate from the session to the connection. */
static int take_leaf(fssl_conn *c, SSL_SESSION *session)
{
    X509 *leaf = SSL_SESSION_get0_peer(session);

    if (leaf == NULL)
        return 1;
    if (!X509_up_ref(leaf))
        return 0;
    X509_free(c->server_sessions.leaf);
    c->server_sessions.leaf = leaf;
    return fssl_session_drop_peer(session);
}

/*
 * Stores in the session which certificates the client has sent, and takes the client's own out of the session, so that
 * OpenSSL does not parse it again for each ticket. A session that was resumed has them already.
 */
int fssl_pack_client(fssl_conn *c, SSL_SESSION *session)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(SSL_get_SSL_CTX(c->ssl));
    X509 *leaf = SSL_SESSION_get0_peer(session);
    STACK_OF(X509) *sent, *others = SSL_get_peer_cert_chain(c->ssl);
    unsigned char now[FSSL_TIME];
    int ok;

    if (SSL_session_reused(c->ssl) || leaf == NULL)
        return 1;
    sent = others != NULL ? sk_X509_dup(others) : sk_X509_new_null(); /* without references of its own */
    ok = sent != NULL && sk_X509_unshift(sent, leaf);
    fssl_put_time(now, (int64_t)time(NULL));
    ok = ok && fssl_session_pack(session, fssl_acceptable(&c->policy, &c->verdict) ? data->certs : NULL, now, sizeof(now), sent, 0, NULL, 0,
                                 FSSL_MAX_SESSION_DATA);
    sk_X509_free(sent);
    return ok && take_leaf(c, session);
}

/*
 * Verifies the client certificates of a session again, as a handshake would now. If they are not valid now, the session is
 * not resumed, and the client can show another certificate in the full handshake. The verdict becomes that of the
 * connection when the handshake is complete and has resumed the session (fssl_resumed): until then nothing is proved.
 */
static int judged(SSL *ssl, SSL_SESSION *session)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(SSL_get_SSL_CTX(ssl));
    fssl_conn *c = SSL_get_app_data(ssl);
    fssl_server_sessions *s;
    fssl_packed packed;
    fssl_errors errs;
    fssl_resume *r;

    if (c == NULL)
        return 0;
    s = &c->server_sessions;
    fssl_forget_resume(c); /* of an earlier ticket of this handshake */
    if (!of_context(data, session))
        return 0;
    if (s->n_judged == FSSL_MAX_OFFERED) /* a ClientHello of TLS 1.3 has room for a hundred tickets */
        return 0;
    s->n_judged++;
    r = c->resume = OPENSSL_zalloc(sizeof(*r));
    if (r != NULL && (r->sent = fssl_session_chain(c->lib, data->certs, session, &packed)) != NULL) {
        s->not_resumed = recent(&packed) ? FSSL_CLIENT_INVALID : FSSL_PROOF_OLD;
        if (s->not_resumed == FSSL_CLIENT_INVALID && fssl_judge(c, &r->verdict, &r->built, r->sent, &errs) && r->built != NULL &&
            fssl_acceptable(&c->policy, &r->verdict) && SSL_SESSION_up_ref(session)) {
            r->session = session;
            if (packed.parsed > 0)
                fssl_certs_cache_keep(data->certs, r->sent);
            return 1;
        }
    }
    fssl_forget_resume(c);
    clear_errors();
    return 0;
}

/* Verifies the certificates of a client. If they do not fit into a ticket, the client gets no ticket. */
static int verify_clients(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    fssl_conn *c = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    const STACK_OF(X509) *sent = X509_STORE_CTX_get0_untrusted(store);
    size_t size = 0;
    int i;

    for (i = 0; i < sk_X509_num(sent); i++) {
        int n = i2d_X509(sk_X509_value(sent, i), NULL);

        size += n > 0 ? (size_t)n : FSSL_MAX_TICKET_CERTS + 1;
    }
    if (c != NULL && size > FSSL_MAX_TICKET_CERTS && (SSL_get_options(ssl) & SSL_OP_NO_TICKET) == 0) {
        c->server_sessions.no_ticket = 1;
        SSL_set_num_tickets(ssl, 0);
    }
    return fssl_verify_chain(store, arg);
}

/* Reports whether the session may be resumed on this connection. If not, a full handshake follows. */
int fssl_may_resume(SSL *ssl, SSL_SESSION *session)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(SSL_get_SSL_CTX(ssl));
    fssl_not_resumed why = FSSL_OTHER_REASON; /* if OpenSSL refuses it after this call */
    int ok;

    if (!suite_allowed(ssl, session) || !hash_fits(ssl, session)) {
        fssl_note_refusal(ssl, FSSL_SUITE_DISABLED);
        return 0;
    }
    if (!of_context(data, session))
        why = FSSL_OTHER_CONTEXT;
    else if (fssl_session_time(session) + SSL_SESSION_get_timeout(session) < (int64_t)time(NULL))
        why = FSSL_EXPIRED;
    fssl_note_refusal(ssl, why);
    ok = !data->resume_clients || judged(ssl, session);
    if (ok || why == FSSL_EXPIRED)
        fssl_note_refusal(ssl, why);
    return ok;
}

/*
 * Called before OpenSSL makes a ticket. If this callback fails, so does the handshake. In TLS 1.2 OpenSSL encodes the
 * session even if the ticket will be empty, and fails if the session is larger than a ticket can be. So a large
 * certificate is taken out of the session even then.
 */
static int ticket_cb(SSL *ssl, void *arg)
{
    fssl_conn *c = SSL_get_app_data(ssl);

    (void)arg;
    if (c == NULL || (c->server_sessions.no_ticket ? take_leaf(c, SSL_get_session(ssl)) : fssl_pack_client(c, SSL_get_session(ssl))))
        return 1;
    c->wire.full = c->wire.starved = 1; /* so that the error is a lack of memory */
    return 0;
}

/* Called after OpenSSL has tried to decrypt a ticket. */
static SSL_TICKET_RETURN decrypted_cb(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t len, SSL_TICKET_STATUS status, void *arg)
{
    (void)name, (void)len, (void)arg;
    switch (status) {
    case SSL_TICKET_SUCCESS:
        return fssl_may_resume(ssl, session) ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_IGNORE_RENEW;
    case SSL_TICKET_SUCCESS_RENEW:
        return fssl_may_resume(ssl, session) ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_IGNORE_RENEW;
    case SSL_TICKET_NO_DECRYPT:
        fssl_note_refusal(ssl, FSSL_UNKNOWN_KEY);
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    default:
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    }
}

/*
 * Makes ctx encrypt its tickets with the keys of k, to which it takes a reference. If clients is not 0, a ticket also
 * contains the certificates of the client.
 */
int fssl_ctx_use_ticket_keys(SSL_CTX *ctx, fssl_ticket_keys *k, const fssl_lib *lib, int clients, fssl_errors *errs)
{
    fssl_ctx_data *data = fssl_ctx_data_of(ctx);
    int ok;

    clear_errors();
    ok = fssl_encrypt_tickets(ctx, k, lib) && SSL_CTX_set_session_ticket_cb(ctx, clients ? ticket_cb : NULL, decrypted_cb, NULL) == 1;
    data->resume_clients = clients;
    if (clients && data->certs == NULL)
        ok = ok && (data->certs = fssl_certs_cache_new()) != NULL;
    if (clients)
        SSL_CTX_set_cert_verify_callback(ctx, verify_clients, NULL);
    return done(ok, errs);
}

/*
 * Binds the sessions of a server to the bytes of context: a session that is bound to other bytes is not resumed. If len is
 * 0, it binds them to the certificates, as nginx does for HTTP if it asks for no client certificate.
 */
int fssl_ctx_bind_sessions(SSL_CTX *ctx, const unsigned char *context, size_t len, fssl_errors *errs)
{
    fssl_ctx_data *data = fssl_ctx_data_of(ctx);
    unsigned char digest[EVP_MAX_MD_SIZE], text[4 + FSSL_MAX_IDENTITIES * 20] = "HTTP";
    unsigned int n = 0;
    size_t size = 4;
    int i, ok = 1;

    clear_errors();
    for (i = data->n_identities - 1; ok && len == 0 && i >= 0; i--) {
        ok = X509_digest(data->identities[i].cert, EVP_sha1(), digest, &n) == 1 && n == 20;
        memcpy(text + size, digest, n);
        size += n;
    }
    if (ok && len == 0) {
        ok = EVP_Digest(text, size, digest, &n, EVP_sha1(), NULL) == 1;
        context = digest;
        len = n;
    }
    SSL_CTX_set_timeout(ctx, FSSL_SESSION_LIFE);
    ok = ok && len <= sizeof(data->session_context) && SSL_CTX_set_session_id_context(ctx, context, (unsigned int)len) == 1;
    if (ok) {
        memcpy(data->session_context, context, len);
        data->session_context_len = (unsigned int)len;
    }
    return done(ok, errs);
}

void fssl_forget_sessions(fssl_ctx_data *data)
{
    fssl_ticket_keys_free(data->ticket_keys);
    fssl_certs_cache_free(data->certs);
#ifndef FSSL_OPENSSL_111
    EVP_CIPHER_free(data->ticket_cipher);
#endif
}
