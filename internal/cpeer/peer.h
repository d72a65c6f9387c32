/* Ends of connections in C over OpenSSL's own memory BIOs: a TLS 1.2 server that asks for renegotiations, and plain ends. */
#ifndef SSLFILTER_CPEER_H
#define SSLFILTER_CPEER_H

#include <stddef.h>
#include <openssl/ssl.h>

typedef struct cpeer {
    SSL_CTX *ctx;
    SSL *ssl;
    long lifetime; /* of the tickets of cpeer_ticket_server, in seconds */
} cpeer;

cpeer *cpeer_new(const char *crt, const char *key, int ask_client);
cpeer *cpeer_ticket_server(const char *crt, const char *key, long lifetime);
void cpeer_free(cpeer *p);
int cpeer_receive(cpeer *p, unsigned char *plain, int cap, const unsigned char *wire, int len);
int cpeer_send(cpeer *p, const unsigned char *plain, int len);
int cpeer_renegotiate(cpeer *p);
int cpeer_outgoing(cpeer *p, unsigned char *wire, int cap);
long cpeer_rounds(cpeer *p);

/* How the last SSL_read ended. */
typedef struct cpeer_outcome {
    int why;      /* SSL_get_error */
    int shutdown; /* SSL_get_shutdown */
    char reasons[512]; /* of the whole error queue, oldest first, one on each line */
} cpeer_outcome;

cpeer *cpeer_end_new(int client, int version, const char *crt, const char *key, const char *ciphers, const char *suites);
int cpeer_handshake(cpeer *p);
int cpeer_feed(cpeer *p, cpeer_outcome *outcome, unsigned char *plain, int cap, const unsigned char *wire, int len);

#endif
