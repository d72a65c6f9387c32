/* The sessions of a server that a program stores: what the handshake has given, and what is offered to it. */
#include "cgo_internal.h"

static void stored_free(fssl_stored *s)
{
    OPENSSL_free(s->data);
    memset(s, 0, sizeof(*s));
}

/* OpenSSL has made a session. If it cannot be kept, the client has to make a full handshake the next time. */
static int given_cb(SSL *ssl, SSL_SESSION *session)
{
    const fssl_ctx_data *data = fssl_ctx_data_of(SSL_get_SSL_CTX(ssl));
    fssl_conn *c = SSL_get_app_data(ssl);
    const unsigned char *id;
    unsigned char *der = NULL;
    unsigned int id_len;
    fssl_stored *s;
    int n;

    if (c == NULL)
        return 0;
    if (data->resume_clients && !SSL_session_reused(ssl) && !fssl_acceptable(&c->policy, &c->verdict))
        return 0; /* it would not be resumed, and must not fill the store */
    if (data->resume_clients && !fssl_pack_client(c, session))
        return 0;
    if (c->store == NULL)
        c->store = OPENSSL_zalloc(sizeof(*c->store));
    id = SSL_SESSION_get_id(session, &id_len);
    n = i2d_SSL_SESSION(session, &der);
    if (c->store != NULL && c->store->n_given < FSSL_MAX_GIVEN && n > 0 && id_len <= sizeof(s->id)) {
        s = &c->store->given[c->store->n_given];
        s->data = fssl_seal_session(data, &s->len, id, id_len, der, (size_t)n);
        if (s->data != NULL) {
            memcpy(s->id, id, id_len);
            s->id_len = id_len;
            s->expires = fssl_session_time(session) + SSL_SESSION_get_timeout(session);
            c->store->n_given++;
        }
    }
    if (n > 0)
        OPENSSL_clear_free(der, (size_t)n);
    clear_errors();
    return 0; /* it keeps no reference */
}

/* OpenSSL looks for a session. It knows only those that were offered. */
static SSL_SESSION *wanted_cb(SSL *ssl, const unsigned char *id, int len, int *copy)
{
    fssl_conn *c = SSL_get_app_data(ssl);
    SSL_SESSION *session;
    const unsigned char *own;
    unsigned int own_len;
    int i;

    *copy = 0;
    fssl_note_refusal(ssl, FSSL_NOT_STORED);
    for (i = 0; c != NULL && c->store != NULL && i < c->store->n_offered; i++) {
        const fssl_stored *s = &c->store->offered[i];

        if ((size_t)len != s->id_len || memcmp(s->id, id, s->id_len) != 0)
            continue;
        session = fssl_unseal_session(fssl_ctx_data_of(SSL_get_SSL_CTX(ssl)), s);
        clear_errors();
        if (session == NULL) {
            fssl_note_refusal(ssl, FSSL_UNKNOWN_KEY);
            continue;
        }
        own = SSL_SESSION_get_id(session, &own_len);
        fssl_note_refusal(ssl, FSSL_OTHER_REASON);
        if (own_len == s->id_len && memcmp(own, id, own_len) == 0 && fssl_may_resume(ssl, session))
            return session;
        SSL_SESSION_free(session);
    }
    return NULL;
}

/* Makes a server give its sessions to the program, with tickets that are only ids. OpenSSL itself stores nothing. */
void fssl_ctx_store_sessions(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL | SSL_SESS_CACHE_NO_AUTO_CLEAR);
    SSL_CTX_sess_set_new_cb(ctx, given_cb);
    SSL_CTX_sess_set_get_cb(ctx, wanted_cb);
}

/* Offers a stored session to the handshake. id has at most 32 bytes. Returns 0 if memory is short. */
int fssl_conn_offer_stored(fssl_conn *c, const unsigned char *id, size_t id_len, const unsigned char *data, size_t len)
{
    fssl_stored *s;

    if (c->store == NULL)
        c->store = OPENSSL_zalloc(sizeof(*c->store));
    s = c->store != NULL && c->store->n_offered < FSSL_MAX_OFFERED ? &c->store->offered[c->store->n_offered] : NULL;
    if (s != NULL)
        s->data = OPENSSL_memdup(data, len);
    if (s == NULL || s->data == NULL) {
        clear_errors();
        return 0;
    }
    s->len = len;
    memcpy(s->id, id, id_len);
    s->id_len = id_len;
    c->store->n_offered++;
    return 1;
}

/* Forgets the sessions that Go has taken, or all. */
void fssl_conn_forget_stored(fssl_conn *c)
{
    if (c->store == NULL)
        return;
    while (c->store->n_given > 0)
        stored_free(&c->store->given[--c->store->n_given]);
    while (c->store->n_offered > 0)
        stored_free(&c->store->offered[--c->store->n_offered]);
    OPENSSL_free(c->store);
    c->store = NULL;
}
