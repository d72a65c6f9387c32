/* A TLS 1.2 server in C over OpenSSL's own memory BIOs, which asks for renegotiations. */
#ifndef SSLFILTER_CPEER_H
#define SSLFILTER_CPEER_H

#include <stddef.h>
#include <openssl/ssl.h>

typedef struct cpeer {
    SSL_CTX *ctx;
    SSL *ssl;
} cpeer;

cpeer *cpeer_new(const char *crt, const char *key, int ask_client);
void cpeer_free(cpeer *p);
int cpeer_receive(cpeer *p, unsigned char *plain, int cap, const unsigned char *wire, int len);
int cpeer_send(cpeer *p, const unsigned char *plain, int len);
int cpeer_renegotiate(cpeer *p);
int cpeer_outgoing(cpeer *p, unsigned char *wire, int cap);
long cpeer_rounds(cpeer *p);

#endif
