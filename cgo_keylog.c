/* The key log: the lines that OpenSSL produces, kept until Go takes them. */
#include "cgo_internal.h"

/* Keeps a line and a line feed. OpenSSL calls it during a handshake, in which Go cannot be called. */
static void keylog_cb(const SSL *ssl, const char *line)
{
    fssl_conn *c = SSL_get_app_data(ssl);
    size_t len = strlen(line);

    if (c == NULL) /* a handshake that fssl_ctx_try tries */
        return;
    if (c->keys.lines == NULL)
        c->keys.lines = OPENSSL_malloc(FSSL_MAX_KEYS);
    if (c->keys.lines == NULL || len >= FSSL_MAX_KEYS - c->keys.len) {
        c->keys.lost = 1;
        return;
    }
    memcpy(c->keys.lines + c->keys.len, line, len);
    c->keys.lines[c->keys.len + len] = '\n';
    c->keys.len += len + 1;
}

void fssl_ctx_log_keys(SSL_CTX *ctx)
{
    SSL_CTX_set_keylog_callback(ctx, keylog_cb);
}

/*
 * Moves the lines to buf, which has room for FSSL_MAX_KEYS bytes or for keys.len, and wipes and frees their memory.
 * Returns the number of bytes.
 */
size_t fssl_conn_take_keys(fssl_conn *c, unsigned char *buf, size_t cap)
{
    size_t n = c->keys.len < cap ? c->keys.len : cap;

    if (n > 0)
        memcpy(buf, c->keys.lines, n);
    fssl_forget_keys(c);
    return n;
}

/* Wipes and frees the lines of a connection. */
void fssl_forget_keys(fssl_conn *c)
{
    OPENSSL_clear_free(c->keys.lines, FSSL_MAX_KEYS);
    c->keys.lines = NULL;
    c->keys.len = 0;
    c->keys.lost = 0;
}
