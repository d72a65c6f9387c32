/* The calls of EVP that a direct cipher cannot do without, in C. */
#ifndef BENCH_CIPHER_H
#define BENCH_CIPHER_H
#include <stddef.h>
#include <stdint.h>

/* Seals n records of size bytes with an AEAD, and opens each. Returns the processor time of the thread in seconds, or -1. */
double cend_sealed(const char *cipher, size_t size, int n);

/* The same, with a call for each half of it. */
typedef struct cend_pair cend_pair;
cend_pair *cend_pair_new(const char *cipher, size_t size);
int cend_pair_seal(cend_pair *p, size_t size, uint64_t number);
int cend_pair_open(cend_pair *p, size_t size, uint64_t number);
void cend_pair_free(cend_pair *p);

/* Encrypts n pieces of one stream, and decrypts each, as "openssl enc" does. */
double cend_enc(const char *cipher, size_t size, int n);
#endif
