/* Direct ciphers: the constants of both formats, and the functions that evp.go calls. Only cgo_helpers.h includes this file. */
#ifndef SSLFILTER_CGO_EVP_H
#define SSLFILTER_CGO_EVP_H

/* docs/direct-cipher.md describes the format of sealed records. */
enum {
    FSSL_SEALED_KEY = 32,
    FSSL_SEALED_SALT = 32,
    FSSL_SEALED_NONCE = 12,
    FSSL_SEALED_TAG = 16,
    FSSL_SEALED_HEAD = 3,            /* type and length of a record */
    FSSL_SEALED_OVERHEAD = 3 + 16,
    FSSL_SEALED_RECORD = 16384,      /* plaintext of the longest record */
    FSSL_SEALED_KEY_RECORDS = 1 << 20, /* records for which one key is used */
    FSSL_MAX_CIPHER_NAME = 32,       /* bytes of the name of a cipher, with the final zero */
    FSSL_MAX_SEALED_HEADER = 48 + 31, /* bytes of the header of a sealed stream: its fields, and the name of the cipher */
    FSSL_MAX_PASSPHRASE = 1024,      /* bytes */
    FSSL_SCRYPT_R = 8
};

/* The types of sealed records, and the roles of their senders. */
enum { FSSL_SEALED_DATA = 0, FSSL_SEALED_BEGIN = 1, FSSL_SEALED_JOIN = 2, FSSL_SEALED_END = 3 };
enum { FSSL_SEALED_CLIENT = 1, FSSL_SEALED_SERVER = 2 };

/* The reasons why a cipher is refused. */
enum {
    FSSL_CIPHER_FITS,
    FSSL_CIPHER_UNKNOWN,
    FSSL_CIPHER_NOT_AEAD,    /* CipherSealed needs an AEAD */
    FSSL_CIPHER_OTHER_NONCE, /* an AEAD, but not with a nonce of 12 bytes and a tag of 16 */
    FSSL_CIPHER_IS_AEAD,     /* CipherEnc cannot use an AEAD */
    FSSL_CIPHER_NO_STREAM,   /* CipherEnc cannot use XTS, SIV and key wrap */
    FSSL_CIPHER_CTS,         /* CipherEnc cannot use ciphertext stealing */
    FSSL_CIPHER_FORGED,      /* it does not authenticate everything, or its records are not independent */
    FSSL_CIPHER_NO_MEMORY,
    FSSL_CIPHER_BROKEN       /* it does not work */
};

/* One direction of a direct cipher. */
typedef struct fssl_flow {
    EVP_CIPHER_CTX *ctx;
    EVP_CIPHER_CTX *keyed_ctx; /* GCM-SIV: each record uses a copy of it; otherwise NULL */
    uint64_t n; /* records so far */
    int encrypt, keyed;
    int sender; /* FSSL_SEALED_CLIENT or FSSL_SEALED_SERVER */
    int joined; /* the keys depend on the salts of both sides */
    unsigned char iv[FSSL_SEALED_NONCE];
    size_t header_len;
    unsigned char header[FSSL_MAX_SEALED_HEADER];
} fssl_flow;

/* A direct cipher. It is wiped before it is freed. */
typedef struct fssl_cipher {
    fssl_status status;     /* results of the last call */
    int type;               /* FSSL_UNFORMED: of the record */
    size_t out_len, in_len;
    fssl_flow out, in;
    const EVP_CIPHER *cipher; /* our reference */
    int sealed, mode, key_len, iv_len, block; /* mode is one of EVP_CIPH_*_MODE */
    char name[FSSL_MAX_CIPHER_NAME];
    unsigned char key[FSSL_SEALED_KEY];        /* CipherSealed: the static key */
    unsigned char secret[FSSL_MAX_PASSPHRASE]; /* the passphrase; CipherEnc without one: key and IV */
    size_t secret_len;
    unsigned char salts[2 * FSSL_SEALED_SALT]; /* the client's, the server's */
    fssl_errors *errs;                         /* of the call that failed, or NULL */
} fssl_cipher;

fssl_cipher *fssl_cipher_new(int *refusal, const char *name, int sealed, int client, fssl_errors *errs);
void fssl_cipher_free(fssl_cipher *c);
int fssl_random(unsigned char *buf, size_t len, fssl_errors *errs);
void fssl_cipher_set_secret(fssl_cipher *c, const unsigned char *secret, size_t len);
int fssl_stretch(const fssl_cipher *c, unsigned char *key, size_t len, const char *digest, unsigned cost, const unsigned char *salt, size_t salt_len,
                 fssl_errors *errs);
void fssl_cipher_header(fssl_cipher *c, int outgoing, const unsigned char *header, size_t len, const unsigned char *salt);
void fssl_seal(uintptr_t cipher, unsigned char *wire, size_t cap, const unsigned char *plain, size_t len, int type);
void fssl_open(uintptr_t cipher, unsigned char *plain, size_t cap, const unsigned char *wire, size_t len);
void fssl_enc_start(fssl_cipher *c, int encrypt, const unsigned char *key, const unsigned char *iv);
void fssl_enc_update(uintptr_t cipher, int encrypt, unsigned char *out, const unsigned char *in, size_t len);
void fssl_enc_final(fssl_cipher *c, int encrypt, unsigned char *out);

#endif
