/* Direct ciphers: sealed records, the format of "openssl enc", and keys from passphrases. */
#include "cgo_internal.h"

#include <openssl/kdf.h>
#include <openssl/rand.h>

/* The first bytes of the info parameter of HKDF. docs/direct-cipher.md has the whole format. */
static const char label[] = "sslfilter sealed v1";

/* Ends a call that failed. silent is 1 if OpenSSL reports a reason for every failure except a lack of memory. */
static SELDOM void cipher_failed(fssl_cipher *c, int silent)
{
    if (c->errs == NULL)
        c->errs = OPENSSL_zalloc(sizeof(*c->errs));
    if (c->errs == NULL) {
        clear_errors();
        c->status = FSSL_NO_MEMORY;
        return;
    }
    c->status = fssl_starved(silent, c->errs) ? FSSL_NO_MEMORY : FSSL_FATAL;
}

static void begin_call(fssl_cipher *c)
{
    clear_errors();
    c->status = FSSL_OK;
    c->type = 0;
    c->out_len = c->in_len = 0;
}

/* --------------------------------------------------------- making a cipher */

/* Returns one of FSSL_CIPHER_*: whether records can be sealed with this cipher. */
static int fit_for_records(const EVP_CIPHER *cipher, int *ccm)
{
    int mode = EVP_CIPHER_mode(cipher);

    *ccm = mode == EVP_CIPH_CCM_MODE;
    if ((EVP_CIPHER_flags(cipher) & EVP_CIPH_FLAG_AEAD_CIPHER) == 0)
        return FSSL_CIPHER_NOT_AEAD;
    switch (mode) {
    case EVP_CIPH_GCM_MODE:
    case EVP_CIPH_CCM_MODE:
    case EVP_CIPH_OCB_MODE:
    case EVP_CIPH_GCM_SIV_MODE:
        return FSSL_CIPHER_FITS;
    }
    if (mode == EVP_CIPH_STREAM_CIPHER && EVP_CIPHER_iv_length(cipher) == FSSL_SEALED_NONCE) /* ChaCha20-Poly1305 */
        return FSSL_CIPHER_FITS;
    return FSSL_CIPHER_OTHER_NONCE;
}

/* Returns one of FSSL_CIPHER_*: whether CipherEnc can use this cipher. "openssl enc" refuses the same kinds (apps/enc.c). */
static int fit_for_enc(const EVP_CIPHER *cipher)
{
    int mode = EVP_CIPHER_mode(cipher);

    if ((EVP_CIPHER_flags(cipher) & EVP_CIPH_FLAG_AEAD_CIPHER) != 0)
        return FSSL_CIPHER_IS_AEAD;
    if (mode == EVP_CIPH_XTS_MODE || mode == EVP_CIPH_WRAP_MODE || mode == EVP_CIPH_SIV_MODE)
        return FSSL_CIPHER_NO_STREAM;
    return FSSL_CIPHER_FITS;
}

/* Prepares a direction for records. */
static int prepare(const fssl_cipher *c, fssl_flow *f, int encrypt)
{
    f->encrypt = encrypt;
    f->ctx = EVP_CIPHER_CTX_new();
    if (f->ctx == NULL || !c->sealed)
        return f->ctx != NULL;
    return EVP_CipherInit_ex(f->ctx, c->cipher, NULL, NULL, NULL, encrypt) == 1 &&
           EVP_CIPHER_CTX_ctrl(f->ctx, EVP_CTRL_AEAD_SET_IVLEN, FSSL_SEALED_NONCE, NULL) == 1 &&
           EVP_CIPHER_CTX_iv_length(f->ctx) == FSSL_SEALED_NONCE &&
           (!c->ccm || EVP_CIPHER_CTX_ctrl(f->ctx, EVP_CTRL_AEAD_SET_TAG, FSSL_SEALED_TAG, NULL) == 1);
}

static int move_record(fssl_cipher *c, fssl_flow *f, const unsigned char *head, unsigned char *tag, unsigned char *to, const unsigned char *from, int n);

/* Seals and opens one record with a key of zeros, so that a cipher that cannot do this is refused at once. */
static int try_record(fssl_cipher *c)
{
    unsigned char head[FSSL_SEALED_HEAD] = {0, 0, 4}, tag[FSSL_SEALED_TAG], sealed[4], opened[4] = {0};
    int ok;

    c->out.sender = c->in.sender = 1;
    ok = move_record(c, &c->out, head, tag, sealed, (const unsigned char *)"abcd", 4) && move_record(c, &c->in, head, tag, opened, sealed, 4) &&
         memcmp(opened, "abcd", 4) == 0;
    c->out.n = c->in.n = 0;
    return ok;
}

/*
 * Makes a direct cipher that is not keyed yet. client is this side's role in sealed records. If it returns NULL,
 * *refusal is one of FSSL_CIPHER_*.
 */
fssl_cipher *fssl_cipher_new(int *refusal, const char *name, int sealed, int client, fssl_errors *errs)
{
    fssl_cipher *c;
    const char *canonical;
    size_t i;

    fssl_take_errors(NULL);
    *refusal = FSSL_CIPHER_BROKEN;
    if ((c = OPENSSL_zalloc(sizeof(*c))) == NULL) {
        done(0, errs);
        return NULL;
    }
    c->sealed = sealed;
    if ((c->cipher = fssl_fetch_cipher(name)) == NULL) {
        *refusal = FSSL_CIPHER_UNKNOWN;
        goto err;
    }
    canonical = fssl_cipher_canonical(c->cipher);
    fssl_copy_text(c->name, sizeof(c->name), canonical);
    for (i = 0; c->name[i] != 0; i++)
        if (c->name[i] >= 'a' && c->name[i] <= 'z')
            c->name[i] -= 'a' - 'A';
    c->key_len = EVP_CIPHER_key_length(c->cipher);
    c->iv_len = EVP_CIPHER_iv_length(c->cipher);
    c->block = EVP_CIPHER_block_size(c->cipher);
    *refusal = sealed ? fit_for_records(c->cipher, &c->ccm) : fit_for_enc(c->cipher);
    if (*refusal != FSSL_CIPHER_FITS)
        goto err;
    *refusal = FSSL_CIPHER_BROKEN;
    if (!prepare(c, &c->out, 1) || !prepare(c, &c->in, 0) || (sealed && !try_record(c)))
        goto err;
    c->out.sender = client ? FSSL_SEALED_CLIENT : FSSL_SEALED_SERVER;
    c->in.sender = client ? FSSL_SEALED_SERVER : FSSL_SEALED_CLIENT;
    done(1, errs);
    return c;
err:
    done(0, errs);
    fssl_cipher_free(c);
    return NULL;
}

void fssl_cipher_free(fssl_cipher *c)
{
    if (c == NULL)
        return;
    EVP_CIPHER_CTX_free(c->out.ctx); /* wipes the keys */
    EVP_CIPHER_CTX_free(c->in.ctx);
    fssl_drop_cipher(c->cipher);
    OPENSSL_free(c->errs);
    OPENSSL_clear_free(c, sizeof(*c));
}

void fssl_cipher_set_secret(fssl_cipher *c, const unsigned char *secret, size_t len)
{
    OPENSSL_cleanse(c->secret, sizeof(c->secret));
    if (len > 0)
        memcpy(c->secret, secret, len);
    c->secret_len = len;
}

int fssl_random(unsigned char *buf, size_t len, fssl_errors *errs)
{
    clear_errors();
    return done(RAND_bytes(buf, (int)len) == 1, errs);
}

/*
 * Derives len bytes from the passphrase. cost is log2(N) of scrypt, for which digest is NULL, or the iterations of
 * PBKDF2. *unknown reports that OpenSSL does not have the digest.
 */
int fssl_stretch(const fssl_cipher *c, unsigned char *key, size_t len, int *unknown, const char *digest, unsigned cost, const unsigned char *salt,
                 size_t salt_len, fssl_errors *errs)
{
    const char *pass = (const char *)c->secret;
    const EVP_MD *md;

    clear_errors();
    *unknown = 0;
    if (digest == NULL)
        return done(EVP_PBE_scrypt(pass, c->secret_len, salt, salt_len, (uint64_t)1 << cost, FSSL_SCRYPT_R, 1,
                                   (uint64_t)1 << 28, key, len) == 1, errs);
    if ((md = EVP_get_digestbyname(digest)) == NULL) {
        *unknown = 1;
        return done(0, errs);
    }
    return done(PKCS5_PBKDF2_HMAC(pass, (int)c->secret_len, salt, (int)salt_len, (int)cost, md, (int)len, key) == 1, errs);
}

/* ---------------------------------------------------------- sealed records */

/* HKDF-SHA256 (RFC 5869) of the static key. */
static int hkdf(unsigned char *out, size_t len, const fssl_cipher *c, const unsigned char *salt, int salt_len, const unsigned char *info, int info_len)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
    int ok = ctx != NULL && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_CTX_set_hkdf_md(ctx, EVP_sha256()) == 1 &&
             EVP_PKEY_CTX_set1_hkdf_salt(ctx, salt, salt_len) == 1 && EVP_PKEY_CTX_set1_hkdf_key(ctx, c->key, FSSL_SEALED_KEY) == 1 &&
             EVP_PKEY_CTX_add1_hkdf_info(ctx, info, info_len) == 1 && EVP_PKEY_derive(ctx, out, &len) == 1;

    EVP_PKEY_CTX_free(ctx);
    return ok;
}

/* Sets the key for the records from f->n on. */
static SELDOM int next_key(const fssl_cipher *c, fssl_flow *f)
{
    unsigned char info[sizeof(label) + 10 + FSSL_MAX_CIPHER_NAME], okm[EVP_MAX_KEY_LENGTH + FSSL_SEALED_NONCE], *p = info;
    uint64_t number = f->n / FSSL_SEALED_KEY_RECORDS;
    size_t name_len = strlen(c->name);
    int i, ok;

    memcpy(p, label, sizeof(label) - 1);
    p += sizeof(label) - 1;
    *p++ = (unsigned char)f->sender;
    *p++ = f->joined ? 2 : 1;
    for (i = 56; i >= 0; i -= 8)
        *p++ = (unsigned char)(number >> i);
    memcpy(p, c->name, name_len);
    p += name_len;
    ok = hkdf(okm, (size_t)c->key_len + FSSL_SEALED_NONCE, c, c->salts, f->joined ? 2 * FSSL_SEALED_SALT : FSSL_SEALED_SALT, info, (int)(p - info)) &&
         EVP_CipherInit_ex(f->ctx, NULL, NULL, okm, NULL, f->encrypt) == 1;
    memcpy(f->iv, okm + c->key_len, FSSL_SEALED_NONCE);
    OPENSSL_cleanse(okm, sizeof(okm));
    f->keyed = ok;
    return ok;
}

/* Seals or opens the next record of a direction. n is at least 1: an empty plaintext is a special case of CCM. */
static int move_record(fssl_cipher *c, fssl_flow *f, const unsigned char *head, unsigned char *tag, unsigned char *to, const unsigned char *from, int n)
{
    unsigned char nonce[FSSL_SEALED_NONCE], first[FSSL_MAX_SEALED_HEADER + FSSL_SEALED_HEAD];
    const unsigned char *extra = head;
    int i, len, last, extra_len = FSSL_SEALED_HEAD;

    if (unlikely(!f->keyed || f->n % FSSL_SEALED_KEY_RECORDS == 0) && !next_key(c, f))
        return 0;
    if (unlikely(f->n == 0)) { /* the first record authenticates the header too */
        memcpy(first, f->header, f->header_len);
        memcpy(first + f->header_len, head, FSSL_SEALED_HEAD);
        extra = first;
        extra_len += (int)f->header_len;
    }
    memcpy(nonce, f->iv, sizeof(nonce));
    for (i = 0; i < 8; i++)
        nonce[4 + i] ^= (unsigned char)(f->n >> (56 - 8 * i));
    if (EVP_CipherInit_ex(f->ctx, NULL, NULL, NULL, nonce, -1) != 1)
        return 0;
    if (!f->encrypt && EVP_CIPHER_CTX_ctrl(f->ctx, EVP_CTRL_AEAD_SET_TAG, FSSL_SEALED_TAG, tag) != 1)
        return 0;
    if (c->ccm && EVP_CipherUpdate(f->ctx, NULL, &len, NULL, n) != 1)
        return 0;
    if (EVP_CipherUpdate(f->ctx, NULL, &len, extra, extra_len) != 1 || EVP_CipherUpdate(f->ctx, to, &len, from, n) != 1 || len > n ||
        EVP_CipherFinal_ex(f->ctx, to + len, &last) != 1 || len + last != n) /* OCB gives its last block at the end */
        return 0;
    if (f->encrypt && EVP_CIPHER_CTX_ctrl(f->ctx, EVP_CTRL_AEAD_GET_TAG, FSSL_SEALED_TAG, tag) != 1)
        return 0;
    f->n++;
    return 1;
}

/*
 * Sets the header of a direction, and with it the salt that its sender has chosen. The client's is set first. As soon
 * as both salts are known, the server's records use both.
 */
void fssl_cipher_header(fssl_cipher *c, int outgoing, const unsigned char *header, size_t len, const unsigned char *salt)
{
    fssl_flow *f = outgoing ? &c->out : &c->in;

    memcpy(f->header, header, len);
    f->header_len = len;
    f->keyed = 0;
    memcpy(c->salts + (f->sender == FSSL_SEALED_SERVER ? FSSL_SEALED_SALT : 0), salt, FSSL_SEALED_SALT);
    f->joined = f->sender == FSSL_SEALED_SERVER;
}

/* Seals records of type with plain, as many as there is room for. out_len and in_len count bytes of wire and plain. */
void fssl_seal(uintptr_t cipher, unsigned char *wire, size_t cap, const unsigned char *plain, size_t len, int type)
{
    fssl_cipher *c = (fssl_cipher *)cipher;

    begin_call(c);
    if (type == FSSL_SEALED_JOIN) {
        c->out.joined = 1;
        c->out.keyed = 0;
    }
    while (c->in_len < len) {
        size_t n = len - c->in_len < FSSL_SEALED_RECORD ? len - c->in_len : FSSL_SEALED_RECORD;
        unsigned char *head = wire + c->out_len, *body = head + FSSL_SEALED_HEAD;

        if (cap - c->out_len < n + FSSL_SEALED_OVERHEAD)
            break;
        head[0] = (unsigned char)type;
        head[1] = (unsigned char)(n >> 8);
        head[2] = (unsigned char)n;
        if (unlikely(!move_record(c, &c->out, head, body + n, body, plain + c->in_len, (int)n))) {
            cipher_failed(c, 1);
            return;
        }
        c->in_len += n;
        c->out_len += n + FSSL_SEALED_OVERHEAD;
    }
}

/* Reports whether a record of this type and length may come next. */
static int expected(const fssl_cipher *c, int type, size_t n)
{
    const fssl_flow *f = &c->in;

    if ((f->n == 0) != (type == FSSL_SEALED_BEGIN))
        return 0;
    switch (type) {
    case FSSL_SEALED_DATA:
        return n >= 1 && n <= FSSL_SEALED_RECORD;
    case FSSL_SEALED_JOIN:
        return n == 1 && f->sender == FSSL_SEALED_CLIENT && !f->joined;
    case FSSL_SEALED_BEGIN:
    case FSSL_SEALED_END:
        return n == 1;
    }
    return 0;
}

/*
 * Opens the whole records in wire. out_len and in_len count bytes of plain and wire. The status is FSSL_AGAIN if plain
 * is full, FSSL_CLOSED after the record that ends the stream, FSSL_UNFORMED if the format does not allow a record, and
 * FSSL_FATAL if a record is not authentic. No byte of a record that is not authentic stays in plain.
 */
void fssl_open(uintptr_t cipher, unsigned char *plain, size_t cap, const unsigned char *wire, size_t len)
{
    fssl_cipher *c = (fssl_cipher *)cipher;

    begin_call(c);
    while (len - c->in_len >= FSSL_SEALED_HEAD) {
        const unsigned char *head = wire + c->in_len, *body = head + FSSL_SEALED_HEAD;
        unsigned char tag[FSSL_SEALED_TAG], control, *to = plain + c->out_len;
        size_t n = (size_t)head[1] << 8 | head[2];
        int type = head[0];

        if (unlikely(!expected(c, type, n))) {
            c->type = type;
            c->status = FSSL_UNFORMED;
            return;
        }
        if (len - c->in_len < n + FSSL_SEALED_OVERHEAD)
            return;
        if (type != FSSL_SEALED_DATA)
            to = &control;
        else if (cap - c->out_len < n) {
            c->status = FSSL_AGAIN;
            return;
        }
        if (type == FSSL_SEALED_JOIN) {
            c->in.joined = 1;
            c->in.keyed = 0;
        }
        memcpy(tag, body + n, sizeof(tag));
        if (unlikely(!move_record(c, &c->in, head, tag, to, body, (int)n))) {
            OPENSSL_cleanse(to, n);
            if (type == FSSL_SEALED_JOIN)
                c->in.joined = 0;
            cipher_failed(c, 0);
            return;
        }
        c->in_len += n + FSSL_SEALED_OVERHEAD;
        if (type == FSSL_SEALED_DATA)
            c->out_len += n;
        else if (control != 0) {
            c->type = type;
            c->status = FSSL_UNFORMED;
            return;
        } else if (type == FSSL_SEALED_END) {
            c->status = FSSL_CLOSED;
            return;
        }
    }
}

/* ------------------------------------------------------------- openssl enc */

/* Sets key and iv of a direction. iv may be NULL. */
void fssl_enc_start(fssl_cipher *c, int encrypt, const unsigned char *key, const unsigned char *iv)
{
    begin_call(c);
    if (EVP_CipherInit_ex((encrypt ? &c->out : &c->in)->ctx, c->cipher, NULL, key, iv, encrypt) != 1)
        cipher_failed(c, 1);
}

/* Encrypts or decrypts. out has room for len bytes and a block. */
void fssl_enc_update(uintptr_t cipher, int encrypt, unsigned char *out, const unsigned char *in, size_t len)
{
    fssl_cipher *c = (fssl_cipher *)cipher;
    fssl_flow *f = encrypt ? &c->out : &c->in;
    int n = 0;

    begin_call(c);
    if (EVP_CipherUpdate(f->ctx, out, &n, in, (int)len) != 1) {
        cipher_failed(c, 1);
        return;
    }
    c->out_len = (size_t)n;
    c->in_len = len;
}

/* Ends a direction. out has room for a block. */
void fssl_enc_final(fssl_cipher *c, int encrypt, unsigned char *out)
{
    int n = 0;

    begin_call(c);
    if (EVP_CipherFinal_ex((encrypt ? &c->out : &c->in)->ctx, out, &n) != 1) {
        cipher_failed(c, 0);
        return;
    }
    c->out_len = (size_t)n;
}
