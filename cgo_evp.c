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
static int fit_for_records(const EVP_CIPHER *cipher)
{
    int mode = EVP_CIPHER_mode(cipher);

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

/* Returns one of FSSL_CIPHER_*: whether CipherEnc can use this cipher. "openssl enc" refuses the same kinds (apps/enc.c), or fails. */
static int fit_for_enc(const EVP_CIPHER *cipher)
{
    int mode = EVP_CIPHER_mode(cipher);

    if ((EVP_CIPHER_flags(cipher) & EVP_CIPH_FLAG_AEAD_CIPHER) != 0)
        return FSSL_CIPHER_IS_AEAD;
#ifdef EVP_CIPH_FLAG_CTS /* since OpenSSL 3.0 */
    if ((EVP_CIPHER_flags(cipher) & EVP_CIPH_FLAG_CTS) != 0) /* OpenSSL accepts only one call, with all of the text */
        return FSSL_CIPHER_CTS;
#endif
    if (mode == EVP_CIPH_XTS_MODE || mode == EVP_CIPH_WRAP_MODE || mode == EVP_CIPH_SIV_MODE)
        return FSSL_CIPHER_NO_STREAM;
    return FSSL_CIPHER_FITS;
}

/*
 * Makes ctx a new context for records, with key or without one. OpenSSL 1.1.1 leaks memory if a context of OCB mode
 * gets a second key, so the old content is freed first.
 */
static int start_context(const fssl_cipher *c, EVP_CIPHER_CTX *ctx, const unsigned char *key, int encrypt)
{
    return EVP_CIPHER_CTX_reset(ctx) == 1 && EVP_CipherInit_ex(ctx, c->cipher, NULL, NULL, NULL, encrypt) == 1 &&
           EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, FSSL_SEALED_NONCE, NULL) == 1 && EVP_CIPHER_CTX_iv_length(ctx) == FSSL_SEALED_NONCE &&
           (c->mode != EVP_CIPH_CCM_MODE || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, FSSL_SEALED_TAG, NULL) == 1) &&
           (key == NULL || EVP_CipherInit_ex(ctx, NULL, NULL, key, NULL, encrypt) == 1);
}

/*
 * Prepares a direction. In GCM-SIV mode, OpenSSL adds the additional data of a record to those of all records before
 * it in the same context. Each record then uses a copy of a context that has only the key.
 */
static int prepare(const fssl_cipher *c, fssl_flow *f, int encrypt)
{
    f->encrypt = encrypt;
    f->ctx = EVP_CIPHER_CTX_new();
    if (c->sealed && c->mode == EVP_CIPH_GCM_SIV_MODE && (f->keyed_ctx = EVP_CIPHER_CTX_new()) == NULL)
        return 0;
    return f->ctx != NULL && (!c->sealed || start_context(c, f->ctx, NULL, encrypt));
}

static int next_key(const fssl_cipher *c, fssl_flow *f);
static int move_record(fssl_cipher *c, fssl_flow *f, const unsigned char *head, unsigned char *tag, unsigned char *to, const unsigned char *from, int n);

/* A record of the trial: two blocks of AES, the second one incomplete. All of it is authenticated. */
enum { TRIAL_TEXT = 20, TRIAL_TAG = TRIAL_TEXT + FSSL_SEALED_HEAD, TRIAL_RECORD = TRIAL_TAG + FSSL_SEALED_TAG };
static const unsigned char trial_text[TRIAL_TEXT + 1] = "plaintext of a trial";

static int trial_seal(fssl_cipher *c, unsigned char *record, uint64_t number)
{
    memset(record, 0, TRIAL_RECORD);
    record[TRIAL_TEXT] = FSSL_SEALED_DATA;
    record[TRIAL_TEXT + 2] = TRIAL_TEXT;
    c->out.n = number;
    return move_record(c, &c->out, record + TRIAL_TEXT, record + TRIAL_TAG, record, trial_text, TRIAL_TEXT);
}

/* Opens a record, and returns its text, right or wrong. */
static int trial_open(fssl_cipher *c, unsigned char *text, const unsigned char *record, uint64_t number)
{
    unsigned char copy[TRIAL_RECORD];

    memcpy(copy, record, sizeof(copy));
    memset(text, 0, TRIAL_TEXT);
    c->in.n = number;
    return move_record(c, &c->in, copy + TRIAL_TEXT, copy + TRIAL_TAG, text, copy, TRIAL_TEXT);
}

static int trial_accept(fssl_cipher *c, const unsigned char *record, uint64_t number)
{
    unsigned char text[TRIAL_TEXT];

    return trial_open(c, text, record, number) && memcmp(text, trial_text, TRIAL_TEXT) == 0;
}

/* Returns FSSL_CIPHER_FITS if a record is refused, as it should be. A lack of memory proves nothing. */
static int trial_refuse(fssl_cipher *c, const unsigned char *record, uint64_t number, fssl_errors *errs)
{
    unsigned char text[TRIAL_TEXT];

    if (trial_open(c, text, record, number))
        return FSSL_CIPHER_FORGED;
    return fssl_starved(0, errs) ? FSSL_CIPHER_NO_MEMORY : FSSL_CIPHER_FITS;
}

/* Alters a bit in each byte of a record and of its nonce, and then the key. */
static int trial_alterations(fssl_cipher *c, unsigned char *record, fssl_errors *errs)
{
    unsigned char other[TRIAL_RECORD];
    int i, result;

    for (i = 0; i < TRIAL_RECORD; i++) {
        record[i] ^= (unsigned char)(1 << i % 8);
        result = trial_refuse(c, record, 1, errs);
        record[i] ^= (unsigned char)(1 << i % 8);
        if (result != FSSL_CIPHER_FITS)
            return result;
    }
    for (i = 0; i < FSSL_SEALED_NONCE; i++) {
        c->in.iv[i] ^= 1;
        c->out.iv[i] ^= 1;
        result = trial_refuse(c, record, 1, errs);
        if (result == FSSL_CIPHER_FITS && !trial_seal(c, other, 1))
            result = FSSL_CIPHER_BROKEN;
        else if (result == FSSL_CIPHER_FITS && memcmp(other, record, TRIAL_TEXT) == 0)
            result = FSSL_CIPHER_FORGED;
        c->in.iv[i] ^= 1;
        c->out.iv[i] ^= 1;
        if (result != FSSL_CIPHER_FITS)
            return result;
    }
    c->key[0] ^= 1;
    if (next_key(c, &c->in)) {
        memcpy(c->in.iv, c->out.iv, FSSL_SEALED_NONCE); /* only the key of the cipher differs */
        result = trial_refuse(c, record, 1, errs);
    } else
        result = FSSL_CIPHER_BROKEN;
    c->key[0] ^= 1;
    c->in.keyed = 0;
    return result;
}

/*
 * Seals and opens records with a key of zeros, so that a cipher that cannot do this, or that does not authenticate all
 * that the format relies on, is refused at once. A record must not depend on those before it. Returns one of
 * FSSL_CIPHER_*.
 */
static int try_records(fssl_cipher *c, fssl_errors *errs)
{
    unsigned char first[TRIAL_RECORD], second[TRIAL_RECORD], alone[TRIAL_RECORD];
    int result;

    c->out.sender = c->in.sender = FSSL_SEALED_CLIENT;
    c->out.keyed = c->in.keyed = 0;
    if (!trial_seal(c, first, 1) || !trial_seal(c, second, 2) || !trial_accept(c, first, 1) || !trial_accept(c, second, 2))
        return FSSL_CIPHER_BROKEN;
    c->out.keyed = c->in.keyed = 0; /* both get a new context */
    if (!trial_seal(c, alone, 2))
        return FSSL_CIPHER_BROKEN;
    if (memcmp(alone, second, TRIAL_RECORD) != 0 || memcmp(first, second, TRIAL_TEXT) == 0 || memcmp(first, trial_text, TRIAL_TEXT) == 0)
        return FSSL_CIPHER_FORGED;
    if (!trial_accept(c, second, 2))
        return FSSL_CIPHER_BROKEN;
    result = trial_alterations(c, first, errs);
    if (result == FSSL_CIPHER_FITS && !trial_accept(c, first, 1))
        result = FSSL_CIPHER_BROKEN;
    c->out.n = c->in.n = 0;
    c->out.keyed = c->in.keyed = 0;
    return result;
}

/* Finds the cipher and prepares both directions. Returns one of FSSL_CIPHER_*. */
static int make_cipher(fssl_cipher *c, const char *name, fssl_errors *errs)
{
    int i, fit;

    /* A second attempt, since OpenSSL may fail without a reason if memory is short for a moment. */
    for (i = 0; i < 2 && c->cipher == NULL; i++)
        c->cipher = fssl_fetch_cipher(name);
    if (c->cipher == NULL)
        return FSSL_CIPHER_UNKNOWN;
    fssl_copy_text(c->name, sizeof(c->name), fssl_cipher_canonical(c->cipher));
    for (i = 0; c->name[i] != 0; i++)
        if (c->name[i] >= 'a' && c->name[i] <= 'z')
            c->name[i] -= 'a' - 'A';
    c->mode = EVP_CIPHER_mode(c->cipher);
    c->key_len = EVP_CIPHER_key_length(c->cipher);
    c->iv_len = EVP_CIPHER_iv_length(c->cipher);
    c->block = EVP_CIPHER_block_size(c->cipher);
    fit = c->sealed ? fit_for_records(c->cipher) : fit_for_enc(c->cipher);
    if (fit != FSSL_CIPHER_FITS)
        return fit;
    if (c->key_len < 1 || c->key_len > EVP_MAX_KEY_LENGTH || c->iv_len < 0 || c->iv_len > EVP_MAX_IV_LENGTH)
        return FSSL_CIPHER_BROKEN; /* of a provider: OpenSSL's own ciphers keep to these bounds */
    if (!prepare(c, &c->out, 1) || !prepare(c, &c->in, 0))
        return FSSL_CIPHER_BROKEN;
    if (!c->sealed)
        return FSSL_CIPHER_FITS;
    fit = try_records(c, errs);
    return fit == FSSL_CIPHER_BROKEN ? try_records(c, errs) : fit;
}

/*
 * Makes a direct cipher that is not keyed yet. client is this side's role in sealed records. If it returns NULL,
 * *refusal is one of FSSL_CIPHER_*.
 */
fssl_cipher *fssl_cipher_new(int *refusal, const char *name, int sealed, int client, fssl_errors *errs)
{
    fssl_cipher *c;

    clear_errors();
    *refusal = FSSL_CIPHER_NO_MEMORY;
    if ((c = OPENSSL_zalloc(sizeof(*c))) == NULL) {
        done(0, errs);
        return NULL;
    }
    c->sealed = sealed;
    *refusal = make_cipher(c, name, errs);
    if (*refusal == FSSL_CIPHER_FITS) {
        c->out.sender = client ? FSSL_SEALED_CLIENT : FSSL_SEALED_SERVER;
        c->in.sender = client ? FSSL_SEALED_SERVER : FSSL_SEALED_CLIENT;
        done(1, errs);
        return c;
    }
    if (fssl_starved(0, errs) && (*refusal == FSSL_CIPHER_UNKNOWN || *refusal == FSSL_CIPHER_BROKEN))
        *refusal = FSSL_CIPHER_NO_MEMORY;
    fssl_cipher_free(c);
    return NULL;
}

void fssl_cipher_free(fssl_cipher *c)
{
    if (c == NULL)
        return;
    EVP_CIPHER_CTX_free(c->out.ctx); /* wipes the keys */
    EVP_CIPHER_CTX_free(c->out.keyed_ctx);
    EVP_CIPHER_CTX_free(c->in.ctx);
    EVP_CIPHER_CTX_free(c->in.keyed_ctx);
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
 * PBKDF2. Returns FSSL_OK, FSSL_NO_MEMORY or FSSL_FATAL. If OpenSSL does not have the digest, it returns FSSL_UNFORMED.
 */
int fssl_stretch(const fssl_cipher *c, unsigned char *key, size_t len, const char *digest, unsigned cost, const unsigned char *salt, size_t salt_len,
                 fssl_errors *errs)
{
    const char *pass = (const char *)c->secret;
    const EVP_MD *md = digest != NULL ? EVP_get_digestbyname(digest) : NULL;
    int i, ok = 0;

    clear_errors();
    if (digest != NULL && md == NULL) {
        errs->n = 0;
        return FSSL_UNFORMED;
    }
    /* A second attempt, since OpenSSL may fail without a reason if memory is short for a moment. */
    for (i = 0; i < 2 && !ok; i++)
        ok = md != NULL ? PKCS5_PBKDF2_HMAC(pass, (int)c->secret_len, salt, (int)salt_len, (int)cost, md, (int)len, key) == 1 :
                          EVP_PBE_scrypt(pass, c->secret_len, salt, salt_len, (uint64_t)1 << cost, FSSL_SCRYPT_R, 1, (uint64_t)1 << 28, key, len) == 1;
    if (!ok)
        return fssl_starved(0, errs) ? FSSL_NO_MEMORY : FSSL_FATAL;
    done(1, errs);
    return FSSL_OK;
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
         start_context(c, f->keyed_ctx != NULL ? f->keyed_ctx : f->ctx, okm, f->encrypt);
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
    if (unlikely(f->keyed_ctx != NULL) && EVP_CIPHER_CTX_copy(f->ctx, f->keyed_ctx) != 1)
        return 0;
    if (EVP_CipherInit_ex(f->ctx, NULL, NULL, NULL, nonce, -1) != 1)
        return 0;
    if (!f->encrypt && EVP_CIPHER_CTX_ctrl(f->ctx, EVP_CTRL_AEAD_SET_TAG, FSSL_SEALED_TAG, tag) != 1)
        return 0;
    if (c->mode == EVP_CIPH_CCM_MODE && EVP_CipherUpdate(f->ctx, NULL, &len, NULL, n) != 1)
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
