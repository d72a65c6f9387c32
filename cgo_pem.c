/* Reading PEM: certificates and private keys. */
#include "cgo_internal.h"

/*
 * Returns a BIO that reads the caller's bytes in place, for the time of one call. An empty slice has a NULL
 * address. With a negative length, OpenSSL would call strlen.
 */
BIO *fssl_read_only(const unsigned char *pem, size_t len)
{
    return len <= INT_MAX ? BIO_new_mem_buf(pem != NULL ? (const char *)pem : "", (int)len) : NULL;
}

/* Reads the next PEM block of any kind. Returns 1, 0 at the end, or -1 if a block is broken. */
int fssl_next_block(BIO *bio, char **name, unsigned char **data, long *len)
{
    char *header = NULL;

    if (PEM_read_bio(bio, name, &header, data, len)) {
        OPENSSL_free(header);
        return 1;
    }
    if (ERR_GET_LIB(ERR_peek_last_error()) != ERR_LIB_PEM || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return -1;
    clear_errors();
    return 0;
}

/*
 * Parses one certificate. Sets extra if bytes follow it. If OpenSSL cannot allocate the key or the
 * extensions, d2i_X509 still returns a certificate, which then stays invalid. So if something is missing, a second
 * attempt shows whether the certificate itself is the reason.
 */
static X509 *block_cert(int *extra, fssl_lib *lib, const char *name, const unsigned char *data, long len)
{
    X509 *cert = NULL;
    int i, whole = 0;

    for (i = 0; i < 2 && !whole; i++) {
        const unsigned char *p = data;
        X509 **into = NULL, *got;

        X509_free(cert);
        cert = NULL;
        if (lib != NULL) { /* only then: if it is given an X509, d2i_X509 also rejects broken extensions */
            cert = fssl_new_cert(lib);
            if (cert == NULL)
                return NULL;
            into = &cert;
        }
        got = strcmp(name, PEM_STRING_X509_TRUSTED) == 0 ? d2i_X509_AUX(into, &p, len) : d2i_X509(into, &p, len);
        if (got == NULL) {
            X509_free(cert); /* NULL if d2i_X509 freed it */
            return NULL;
        }
        cert = got;
        if (p != data + len) {
            *extra = 1;
            X509_free(cert);
            return NULL;
        }
        whole = X509_check_purpose(cert, -1, 0) == 1 && EVP_PKEY_security_bits(X509_get0_pubkey(cert)) > 0 && /* also 0 for a missing key */
                (X509_get_extension_flags(cert) & (EXFLAG_SI | EXFLAG_SS)) != EXFLAG_SI;
    }
    return cert;
}

/*
 * Calls take for every block of pem, and counts them. Returns 0 if one is broken. A file can also contain the
 * private key, so the data is overwritten before it is freed.
 */
int fssl_walk_pem(int *blocks, int *extra, const unsigned char *pem, size_t len, fssl_take_block take, void *into)
{
    BIO *bio = fssl_read_only(pem, len);
    int more = -1;

    while (bio != NULL) {
        char *name = NULL;
        unsigned char *data = NULL;
        long n = 0;

        more = fssl_next_block(bio, &name, &data, &n);
        if (more != 1)
            break;
        ++*blocks;
        if (!take(into, extra, name, data, n))
            more = -1;
        OPENSSL_free(name);
        OPENSSL_clear_free(data, (size_t)n);
        if (more != 1)
            break;
    }
    BIO_free(bio);
    return more == 0;
}

typedef struct certs_walk {
    fssl_lib *lib;
    STACK_OF(X509) *certs;
} certs_walk;

static int take_cert(void *into, int *extra, const char *name, const unsigned char *data, long len)
{
    certs_walk *w = into;
    X509 *cert;

    if (strcmp(name, PEM_STRING_X509) != 0 && strcmp(name, PEM_STRING_X509_OLD) != 0 && strcmp(name, PEM_STRING_X509_TRUSTED) != 0)
        return 1;
    cert = block_cert(extra, w->lib, name, data, len);
    if (cert != NULL && sk_X509_push(w->certs, cert))
        return 1;
    X509_free(cert);
    return 0;
}

/*
 * Returns all certificates of pem in order, and ignores blocks of other kinds. blocks counts the blocks of any
 * kind, and is -1 if memory is short.
 */
STACK_OF(X509) *fssl_pem_certs(int *blocks, fssl_lib *lib, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    certs_walk w = {lib, sk_X509_new_null()};
    int extra = 0;

    clear_errors();
    *blocks = 0;
    if (w.certs == NULL || !fssl_walk_pem(blocks, &extra, pem, len, take_cert, &w)) {
        fssl_certs_free(w.certs);
        if (fssl_starved(!extra, errs))
            *blocks = -1;
        return NULL;
    }
    done(1, errs);
    return w.certs;
}

/* Appends the certificate whose DER form is der. */
int fssl_certs_add(STACK_OF(X509) *certs, fssl_lib *lib, const unsigned char *der, size_t len, fssl_errors *errs)
{
    X509 *cert = NULL;
    int extra = 0;

    clear_errors();
    if (len <= INT_MAX)
        cert = block_cert(&extra, lib, PEM_STRING_X509, der, (long)len);
    if (cert == NULL || !sk_X509_push(certs, cert)) {
        X509_free(cert);
        return done(0, errs);
    }
    return done(1, errs);
}

void fssl_certs_free(STACK_OF(X509) *certs)
{
    sk_X509_pop_free(certs, X509_free);
}

/* Moves the certificates of from to the end of to. Returns 0 if a lack of memory prevents it. */
int fssl_certs_move(STACK_OF(X509) *to, STACK_OF(X509) *from)
{
    X509 *cert;

    clear_errors();
    while ((cert = sk_X509_shift(from)) != NULL)
        if (!sk_X509_push(to, cert)) {
            X509_free(cert);
            return done(0, NULL);
        }
    return done(1, NULL);
}

int fssl_certs_num(STACK_OF(X509) *certs)
{
    return sk_X509_num(certs);
}

int fssl_certs_same_leaf(STACK_OF(X509) *a, STACK_OF(X509) *b)
{
    return X509_cmp(sk_X509_value(a, 0), sk_X509_value(b, 0)) == 0;
}

typedef struct passphrase {
    const unsigned char *text;
    size_t len;
    int asked;
} passphrase;

/* Returns the passphrase from memory: OpenSSL's default callback would prompt on the terminal. */
static int passphrase_cb(char *buf, int size, int writing, void *arg)
{
    passphrase *p = arg;

    (void)writing;
    p->asked = 1;
    if (p->text == NULL || size < 0 || p->len > (size_t)size)
        return -1;
    memcpy(buf, p->text, p->len);
    return (int)p->len;
}

/* Returns the first private key of pem. asked reports whether it is encrypted. */
EVP_PKEY *fssl_pem_key(int *asked, fssl_lib *lib, const unsigned char *pem, size_t len, const unsigned char *pass, size_t pass_len,
                       fssl_errors *errs)
{
    passphrase p = {pass, pass_len, 0};
    BIO *bio;
    EVP_PKEY *key = NULL;

    clear_errors();
    bio = fssl_read_only(pem, len);
    if (bio != NULL)
        key = fssl_read_key(lib, bio, passphrase_cb, &p);
    BIO_free(bio);
    *asked = p.asked;
    done(key != NULL, errs);
    return key;
}
