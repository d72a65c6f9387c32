#include "cipher.h"

#include "cend.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>

/* Two directions with one key, as the two ends of a direct cipher have. */
struct cend_pair {
    EVP_CIPHER_CTX *seal, *open;
    unsigned char *plain, *sealed;
    unsigned char tag[16];
};

typedef struct cend_pair pair;

enum { NONCE = 12, TAG = 16, HEAD = 3, BLOCK = 32 };

static void pair_free(pair *p)
{
    EVP_CIPHER_CTX_free(p->seal);
    EVP_CIPHER_CTX_free(p->open);
    free(p->plain);
    free(p->sealed);
}

static int pair_new(pair *p, const char *name, size_t size, int aead)
{
    static const unsigned char key[EVP_MAX_KEY_LENGTH], iv[EVP_MAX_IV_LENGTH];
    const EVP_CIPHER *cipher = EVP_get_cipherbyname(name);

    p->seal = EVP_CIPHER_CTX_new();
    p->open = EVP_CIPHER_CTX_new();
    p->plain = calloc(1, size + BLOCK);
    p->sealed = calloc(1, size + BLOCK);
    return cipher != NULL && p->seal != NULL && p->open != NULL && p->plain != NULL && p->sealed != NULL &&
           EVP_EncryptInit_ex(p->seal, cipher, NULL, key, aead ? NULL : iv) == 1 && EVP_DecryptInit_ex(p->open, cipher, NULL, key, aead ? NULL : iv) == 1;
}

static void number_to_nonce(unsigned char *nonce, uint64_t number)
{
    int i;

    for (i = 0; i < 8; i++)
        nonce[4 + i] = (unsigned char)(number >> (56 - 8 * i));
}

/* Seals a record: nonce, additional data, text and tag. */
int cend_pair_seal(pair *p, size_t size, uint64_t number)
{
    unsigned char nonce[NONCE] = {0}, head[HEAD] = {0, (unsigned char)(size >> 8), (unsigned char)size};
    int len, last;

    number_to_nonce(nonce, number);
    return EVP_EncryptInit_ex(p->seal, NULL, NULL, NULL, nonce) == 1 && EVP_EncryptUpdate(p->seal, NULL, &len, head, HEAD) == 1 &&
           EVP_EncryptUpdate(p->seal, p->sealed, &len, p->plain, (int)size) == 1 && EVP_EncryptFinal_ex(p->seal, p->sealed + len, &last) == 1 &&
           EVP_CIPHER_CTX_ctrl(p->seal, EVP_CTRL_AEAD_GET_TAG, TAG, p->tag) == 1;
}

/* Opens the record that was sealed last. */
int cend_pair_open(pair *p, size_t size, uint64_t number)
{
    unsigned char nonce[NONCE] = {0}, head[HEAD] = {0, (unsigned char)(size >> 8), (unsigned char)size};
    int len, last;

    number_to_nonce(nonce, number);
    return EVP_DecryptInit_ex(p->open, NULL, NULL, NULL, nonce) == 1 && EVP_CIPHER_CTX_ctrl(p->open, EVP_CTRL_AEAD_SET_TAG, TAG, p->tag) == 1 &&
           EVP_DecryptUpdate(p->open, NULL, &len, head, HEAD) == 1 && EVP_DecryptUpdate(p->open, p->plain, &len, p->sealed, (int)size) == 1 &&
           EVP_DecryptFinal_ex(p->open, p->plain + len, &last) == 1;
}

static int record(pair *p, size_t size, uint64_t number)
{
    return cend_pair_seal(p, size, number) && cend_pair_open(p, size, number);
}

pair *cend_pair_new(const char *cipher, size_t size)
{
    pair *p = calloc(1, sizeof(*p));

    if (p != NULL && !pair_new(p, cipher, size, 1)) {
        cend_pair_free(p);
        p = NULL;
    }
    return p;
}

void cend_pair_free(pair *p)
{
    pair_free(p);
    free(p);
}

double cend_sealed(const char *cipher, size_t size, int n)
{
    pair p = {0};
    double start = 0;
    int ok = pair_new(&p, cipher, size, 1), i;

    start = cend_thread_time();
    for (i = 0; ok && i < n; i++)
        ok = record(&p, size, (uint64_t)i);
    start = cend_thread_time() - start;
    pair_free(&p);
    return ok ? start : -1;
}

double cend_enc(const char *cipher, size_t size, int n)
{
    pair p = {0};
    double start = 0;
    int ok = pair_new(&p, cipher, size, 0), i, len;

    start = cend_thread_time();
    for (i = 0; ok && i < n; i++)
        ok = EVP_EncryptUpdate(p.seal, p.sealed, &len, p.plain, (int)size) == 1 && EVP_DecryptUpdate(p.open, p.plain, &len, p.sealed, len) == 1;
    start = cend_thread_time() - start;
    pair_free(&p);
    return ok ? start : -1;
}
