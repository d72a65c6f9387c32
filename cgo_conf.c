/* Configuration commands of OpenSSL (SSL_CONF_cmd) and lists of signature algorithms. */
#include "cgo_internal.h"

/*
 * Runs one command in the form of a configuration file. SSL_CONF_FLAG_CERTIFICATE is not set, so that OpenSSL rejects
 * the commands that load keys and certificates as unknown. result is what SSL_CONF_cmd returned. A command may
 * change flags that this library depends on, so they are set again.
 */
int fssl_ctx_conf(SSL_CTX *ctx, int client, int *result, const char *name, const char *value, fssl_errors *errs)
{
    SSL_CONF_CTX *conf;
    int ok = 0;

    clear_errors();
    *result = 0;
    conf = SSL_CONF_CTX_new();
    if (conf != NULL) {
        SSL_CONF_CTX_set_flags(conf, SSL_CONF_FLAG_FILE | SSL_CONF_FLAG_SHOW_ERRORS | (client ? SSL_CONF_FLAG_CLIENT : SSL_CONF_FLAG_SERVER));
        SSL_CONF_CTX_set_ssl_ctx(conf, ctx);
        *result = SSL_CONF_cmd(conf, name, value);
        ok = *result > 0 && SSL_CONF_CTX_finish(conf) == 1;
        SSL_CONF_CTX_free(conf);
    }
    fssl_ctx_harden(ctx, client);
    fssl_ctx_data_of(ctx)->server_signs = !client;
    return done(ok, errs);
}

int fssl_ctx_set_sigalgs(SSL_CTX *ctx, int client, const char *list, fssl_errors *errs)
{
    clear_errors();
    fssl_ctx_data_of(ctx)->server_signs = !client;
    return done(SSL_CTX_set1_sigalgs_list(ctx, list) == 1, errs);
}
