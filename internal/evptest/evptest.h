/* Ciphers of OpenSSL for tests: one call with a context of its own, a list, and ciphers that are wrong. */
#ifndef SSLFILTER_EVPTEST_H
#define SSLFILTER_EVPTEST_H

#include <stddef.h>

int evptest_open(unsigned char *plain, const char *name, const unsigned char *key, size_t key_len, const unsigned char *nonce, const unsigned char *extra,
                 size_t extra_len, const unsigned char *text, size_t len, const unsigned char *tag);
char *evptest_names(void);
int evptest_load(void);
int evptest_unload(void);

#endif
