#include "evptest.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#else
#define EVP_CIPHER_fetch(lib, name, query) ((EVP_CIPHER *)EVP_get_cipherbyname(name))
#define EVP_CIPHER_free(cipher) ((void)(cipher))
#endif

#if OPENSSL_VERSION_NUMBER >= 0x30000000L
#define cipher_mode(c) EVP_CIPHER_get_mode(c)
#define cipher_key(c) EVP_CIPHER_get_key_length(c)
#else
#define cipher_mode(c) EVP_CIPHER_mode(c)
#define cipher_key(c) EVP_CIPHER_key_length(c)
#endif

enum { NONCE = 12, TAG = 16, KEY = 32 };

/* Opens what an AEAD has sealed. Nothing is left from one call to the next. */
int evptest_open(unsigned char *plain, const char *name, const unsigned char *key, size_t key_len, const unsigned char *nonce, const unsigned char *extra,
                 size_t extra_len, const unsigned char *text, size_t len, const unsigned char *tag)
{
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, name, NULL);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int n, last, ok;

    ok = cipher != NULL && ctx != NULL && (size_t)cipher_key(cipher) == key_len && EVP_DecryptInit_ex(ctx, cipher, NULL, NULL, NULL) == 1 &&
         EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, NONCE, NULL) == 1 && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG, (void *)tag) == 1 &&
         EVP_DecryptInit_ex(ctx, NULL, NULL, key, nonce) == 1 &&
         (cipher_mode(cipher) != EVP_CIPH_CCM_MODE || EVP_DecryptUpdate(ctx, NULL, &n, NULL, (int)len) == 1) &&
         EVP_DecryptUpdate(ctx, NULL, &n, extra, (int)extra_len) == 1 && EVP_DecryptUpdate(ctx, plain, &n, text, (int)len) == 1 &&
         EVP_DecryptFinal_ex(ctx, plain + n, &last) == 1 && (size_t)(n + last) == len;
    EVP_CIPHER_CTX_free(ctx);
    EVP_CIPHER_free(cipher);
    return ok;
}

/* The names of all ciphers, one a line. */
struct names {
    char *text;
    size_t len;
};

static void add_name(struct names *list, const char *name)
{
    size_t n = name != NULL ? strlen(name) : 0;
    char *text = n > 0 ? realloc(list->text, list->len + n + 2) : NULL;

    if (text == NULL)
        return;
    memcpy(text + list->len, name, n);
    text[list->len + n] = '\n';
    text[list->len + n + 1] = 0;
    list->text = text;
    list->len += n + 1;
}

#if OPENSSL_VERSION_NUMBER < 0x30000000L
static void add_cipher(const EVP_CIPHER *cipher, const char *from, const char *to, void *list)
{
    (void)to;
    if (cipher != NULL)
        add_name(list, from);
}

char *evptest_names(void)
{
    struct names list = {0};

    EVP_CIPHER_do_all(add_cipher, &list);
    return list.text;
}

int evptest_load(void) { return 0; }
int evptest_unload(void) { return 1; }
#else
static void add_cipher(EVP_CIPHER *cipher, void *list)
{
    add_name(list, EVP_CIPHER_get0_name(cipher));
}

char *evptest_names(void)
{
    struct names list = {0};

    EVP_CIPHER_do_all_provided(NULL, add_cipher, &list);
    return list.text;
}

/*
 * A provider of AEADs. They are toys, of which all but the first have a defect, so that a caller who relies on them
 * can be tested.
 */
enum defect { NONE, NO_TAG, SHORT_TAG, TAG_START, NO_EXTRA, EXTRA_START, NO_NONCE, TEXT_NONCE, NONCE_START, NO_KEY, NO_TEXT, KEEPS, CLEAR, FAILS, LONG_KEY };

typedef struct toy {
    enum defect defect;
    int encrypt, extra;
    unsigned char key[KEY], nonce[NONCE], tag[TAG];
    uint64_t stream, sum;
    size_t at;
} toy;

static uint64_t absorb(uint64_t sum, const unsigned char *b, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++)
        sum = ((sum ^ b[i]) + 1) * 0x100000001b3ULL;
    return sum;
}

static void toy_tag(const toy *t, unsigned char *tag)
{
    static const unsigned char end[16];
    uint64_t first = absorb(t->sum, end, 8), second = absorb(t->sum, end, 16);

    memcpy(tag, &first, 8);
    memcpy(tag + 8, &second, 8);
}

static void *toy_new(enum defect defect)
{
    toy *t = calloc(1, sizeof(*t));

    if (t != NULL)
        t->defect = defect;
    return t;
}

static void toy_free(void *ctx) { free(ctx); }

static void *toy_dup(void *ctx)
{
    toy *t = malloc(sizeof(*t));

    if (t != NULL)
        memcpy(t, ctx, sizeof(*t));
    return t;
}

static int toy_set(void *ctx, const OSSL_PARAM params[])
{
    toy *t = ctx;
    const OSSL_PARAM *p;
    size_t n;

    if (params == NULL)
        return 1;
    p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_TAG);
    if (p != NULL) {
        if (p->data == NULL || p->data_size != TAG)
            return 0;
        memcpy(t->tag, p->data, TAG);
    }
    p = OSSL_PARAM_locate_const(params, OSSL_CIPHER_PARAM_AEAD_IVLEN);
    return p == NULL || (OSSL_PARAM_get_size_t(p, &n) && n == NONCE);
}

static int toy_init(toy *t, const unsigned char *key, size_t key_len, const unsigned char *nonce, size_t nonce_len, const OSSL_PARAM params[])
{
    if (key != NULL) {
        if (key_len != KEY)
            return 0;
        memcpy(t->key, key, KEY);
        t->sum = 0;
    }
    if (nonce != NULL) {
        if (nonce_len != NONCE || t->defect == FAILS)
            return 0;
        memcpy(t->nonce, nonce, NONCE);
        if (t->defect == NONCE_START)
            memset(t->nonce + 8, 0, 4);
        if (t->defect == NO_NONCE)
            memset(t->nonce, 0, NONCE);
        if (t->defect == NO_KEY)
            memset(t->key, 0, KEY);
        t->stream = absorb(absorb(1, t->key, KEY), t->nonce, t->defect == TEXT_NONCE ? 0 : NONCE);
        t->sum = absorb(absorb(t->defect == KEEPS ? t->sum : 2, t->key, KEY), t->nonce, NONCE);
        t->at = 0;
        t->extra = 0;
    }
    return toy_set(t, params);
}

static int toy_encrypt(void *ctx, const unsigned char *key, size_t key_len, const unsigned char *nonce, size_t nonce_len, const OSSL_PARAM params[])
{
    ((toy *)ctx)->encrypt = 1;
    return toy_init(ctx, key, key_len, nonce, nonce_len, params);
}

static int toy_decrypt(void *ctx, const unsigned char *key, size_t key_len, const unsigned char *nonce, size_t nonce_len, const OSSL_PARAM params[])
{
    ((toy *)ctx)->encrypt = 0;
    return toy_init(ctx, key, key_len, nonce, nonce_len, params);
}

static int toy_update(void *ctx, unsigned char *out, size_t *out_len, size_t cap, const unsigned char *in, size_t n)
{
    toy *t = ctx;
    size_t i;

    *out_len = n;
    if (out == NULL) {
        if (t->defect != NO_EXTRA)
            t->sum = absorb(t->sum, in, t->defect == EXTRA_START && n > 1 ? n - 1 : n);
        return 1;
    }
    if (cap < n)
        return 0;
    for (i = 0; i < n; i++, t->at++) {
        unsigned char pad = (unsigned char)(absorb(t->stream, (const unsigned char *)&t->at, sizeof(t->at)) >> 32), b = in[i];

        out[i] = t->defect == CLEAR ? b : (unsigned char)(b ^ pad);
        if (t->defect != NO_TEXT)
            t->sum = absorb(t->sum, t->encrypt ? out + i : &b, 1);
    }
    return 1;
}

static int toy_final(void *ctx, unsigned char *out, size_t *out_len, size_t cap)
{
    toy *t = ctx;
    unsigned char tag[TAG];

    (void)out, (void)cap;
    *out_len = 0;
    toy_tag(t, tag);
    if (t->encrypt) {
        memcpy(t->tag, tag, TAG);
        return 1;
    }
    switch (t->defect) {
    case NO_TAG:
        return 1;
    case SHORT_TAG:
        return memcmp(t->tag, tag, TAG - 1) == 0;
    case TAG_START:
        return t->tag[0] == tag[0];
    default:
        return memcmp(t->tag, tag, TAG) == 0;
    }
}

static int toy_get(void *ctx, OSSL_PARAM params[])
{
    toy *t = ctx;
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD_TAG);

    if (p != NULL && !OSSL_PARAM_set_octet_string(p, t->tag, TAG))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_KEYLEN);
    if (p != NULL && !OSSL_PARAM_set_size_t(p, KEY))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD_TAGLEN);
    if (p != NULL && !OSSL_PARAM_set_size_t(p, TAG))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_IVLEN);
    return p == NULL || OSSL_PARAM_set_size_t(p, NONCE);
}

static int toy_facts(OSSL_PARAM params[])
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_MODE);

    if (p != NULL && !OSSL_PARAM_set_uint(p, EVP_CIPH_GCM_MODE))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_KEYLEN);
    if (p != NULL && !OSSL_PARAM_set_size_t(p, KEY))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_IVLEN);
    if (p != NULL && !OSSL_PARAM_set_size_t(p, NONCE))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_BLOCK_SIZE);
    if (p != NULL && !OSSL_PARAM_set_size_t(p, 1))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_AEAD);
    if (p != NULL && !OSSL_PARAM_set_int(p, 1))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_CUSTOM_IV);
    return p == NULL || OSSL_PARAM_set_int(p, 1);
}

/* A key that is longer than OpenSSL's bound, EVP_MAX_KEY_LENGTH. */
static int toy_long_facts(OSSL_PARAM params[])
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_KEYLEN);

    return toy_facts(params) && (p == NULL || OSSL_PARAM_set_size_t(p, 2 * EVP_MAX_KEY_LENGTH));
}

#define CALL(id, f) {id, (void (*)(void))(f)}
#define TOY(defect, facts)                                                                                                                             \
    static void *new_##defect(void *provider) { return (void)provider, toy_new(defect); }                                                              \
    static const OSSL_DISPATCH calls_##defect[] = {CALL(OSSL_FUNC_CIPHER_NEWCTX, new_##defect), CALL(OSSL_FUNC_CIPHER_FREECTX, toy_free),              \
                                                   CALL(OSSL_FUNC_CIPHER_DUPCTX, toy_dup), CALL(OSSL_FUNC_CIPHER_ENCRYPT_INIT, toy_encrypt),           \
                                                   CALL(OSSL_FUNC_CIPHER_DECRYPT_INIT, toy_decrypt), CALL(OSSL_FUNC_CIPHER_UPDATE, toy_update),        \
                                                   CALL(OSSL_FUNC_CIPHER_FINAL, toy_final), CALL(OSSL_FUNC_CIPHER_GET_PARAMS, facts),                  \
                                                   CALL(OSSL_FUNC_CIPHER_GET_CTX_PARAMS, toy_get), CALL(OSSL_FUNC_CIPHER_SET_CTX_PARAMS, toy_set), {0, NULL}};

TOY(NONE, toy_facts)
TOY(NO_TAG, toy_facts)
TOY(SHORT_TAG, toy_facts)
TOY(TAG_START, toy_facts)
TOY(NO_EXTRA, toy_facts)
TOY(EXTRA_START, toy_facts)
TOY(NO_NONCE, toy_facts)
TOY(TEXT_NONCE, toy_facts)
TOY(NONCE_START, toy_facts)
TOY(NO_KEY, toy_facts)
TOY(NO_TEXT, toy_facts)
TOY(KEEPS, toy_facts)
TOY(CLEAR, toy_facts)
TOY(FAILS, toy_facts)
TOY(LONG_KEY, toy_long_facts)

/* The property lets them be fetched in FIPS mode too. */
#define OFFER(name, defect) {name, "provider=toys,fips=yes", calls_##defect, NULL}
static const OSSL_ALGORITHM offers[] = {
    OFFER("TOY", NONE),
    OFFER("TOY-WITHOUT-TAG", NO_TAG),
    OFFER("TOY-WITH-15-BYTES-OF-TAG", SHORT_TAG),
    OFFER("TOY-WITH-1-BYTE-OF-TAG", TAG_START),
    OFFER("TOY-WITHOUT-DATA", NO_EXTRA),
    OFFER("TOY-WITHOUT-END-OF-DATA", EXTRA_START),
    OFFER("TOY-WITHOUT-NONCE", NO_NONCE),
    OFFER("TOY-WITH-NONCE-IN-TAG-ONLY", TEXT_NONCE),
    OFFER("TOY-WITH-SHORT-NONCE", NONCE_START),
    OFFER("TOY-WITHOUT-KEY", NO_KEY),
    OFFER("TOY-WITHOUT-TEXT-IN-TAG", NO_TEXT),
    OFFER("TOY-THAT-KEEPS-DATA", KEEPS),
    OFFER("TOY-IN-CLEAR", CLEAR),
    OFFER("TOY-THAT-FAILS", FAILS),
    OFFER("TOY-WITH-LONG-KEY", LONG_KEY),
    {NULL, NULL, NULL, NULL},
};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache)
{
    (void)provider;
    *no_cache = 0;
    return operation == OSSL_OP_CIPHER ? offers : NULL;
}

static const OSSL_DISPATCH provider_calls[] = {CALL(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), {0, NULL}};

static int start(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out, void **provider)
{
    (void)in;
    *provider = (void *)handle;
    *out = provider_calls;
    return 1;
}

static OSSL_PROVIDER *toys;

int evptest_load(void)
{
    static int added;

    if (!added && !(added = OSSL_PROVIDER_add_builtin(NULL, "toys", start)))
        return 0;
    toys = OSSL_PROVIDER_try_load(NULL, "toys", 1); /* 1 keeps the default provider */
    return toys != NULL;
}

int evptest_unload(void)
{
    int ok = OSSL_PROVIDER_unload(toys);

    toys = NULL;
    return ok;
}
#endif
