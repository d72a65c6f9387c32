/* CRLs: comparison of serial numbers, as in the original, and CRLs for OpenSSL's own check. */
#include "cgo_internal.h"

static int key_len(const unsigned char *key)
{
    return key[0] << 8 | key[1];
}

static int compare_keys(const unsigned char *a, const unsigned char *b)
{
    int n = key_len(a), m = key_len(b);

    return n != m ? (n < m ? -1 : 1) : memcmp(a + 2, b + 2, (size_t)n + 1);
}

static int compare_entries(const void *a, const void *b)
{
    return compare_keys(*(unsigned char *const *)a, *(unsigned char *const *)b);
}

enum { MAX_SERIAL = 4096 /* bytes of a serial number */ };

/* Writes the key of serial to key (3 + MAX_SERIAL bytes). Returns its size, or 0 if the serial is too long. */
static size_t serial_key(unsigned char *key, const ASN1_INTEGER *serial)
{
    int n = ASN1_STRING_length(serial);

    if (n < 0 || n > MAX_SERIAL)
        return 0;
    key[0] = (unsigned char)(n >> 8);
    key[1] = (unsigned char)n;
    key[2] = ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER;
    memcpy(key + 3, ASN1_STRING_get0_data(serial), (size_t)n);
    return (size_t)n + 3;
}

/* Adds the serials of one CRL to the blob. Sets extra if a serial is too long. */
static int add_list(int *extra, fssl_serials *crl, size_t *used, size_t *cap, X509_CRL *list)
{
    STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(list);
    int i;

    crl->lists++;
    for (i = 0; i < sk_X509_REVOKED_num(revoked); i++) {
        const ASN1_INTEGER *serial = X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i));
        size_t need = *used + 3 + (size_t)ASN1_STRING_length(serial), n;

        if (need > *cap) {
            size_t grown = need * 2 + 4096;
            unsigned char *blob = OPENSSL_realloc(crl->blob, grown);

            if (blob == NULL)
                return 0;
            crl->blob = blob;
            *cap = grown;
        }
        n = serial_key(crl->blob + *used, serial);
        if (n == 0) {
            *extra = 1;
            return 0;
        }
        *used += n;
        crl->n++;
    }
    return 1;
}

static int sort_keys(fssl_serials *crl)
{
    unsigned char *p = crl->blob;
    size_t i;

    if (crl->n == 0)
        return 1;
    crl->keys = OPENSSL_malloc(crl->n * sizeof(*crl->keys));
    if (crl->keys == NULL)
        return 0;
    for (i = 0; i < crl->n; i++) {
        crl->keys[i] = p;
        p += 3 + key_len(p);
    }
    qsort(crl->keys, crl->n, sizeof(*crl->keys), compare_entries);
    return 1;
}

typedef struct crl_walk {
    fssl_serials *crl;
    size_t used, cap;
} crl_walk;

static int take_serials(void *into, int *extra, const char *name, const unsigned char *data, long len)
{
    crl_walk *w = into;
    const unsigned char *p = data;
    X509_CRL *list;
    int ok;

    if (strcmp(name, PEM_STRING_X509_CRL) != 0)
        return 1;
    list = d2i_X509_CRL(NULL, &p, len);
    *extra = list != NULL && p != data + len;
    ok = list != NULL && !*extra && add_list(extra, w->crl, &w->used, &w->cap, list);
    X509_CRL_free(list);
    return ok;
}

/*
 * Returns the serials of all CRLs in pem, and ignores blocks of other kinds. Returns NULL if a block is broken, and
 * sets blocks to -1 if memory is short.
 */
fssl_serials *fssl_serials_parse(int *blocks, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    crl_walk w = {OPENSSL_zalloc(sizeof(*w.crl)), 0, 0};
    int extra = 0;

    clear_errors();
    *blocks = 0;
    if (w.crl == NULL || !fssl_walk_pem(blocks, &extra, pem, len, take_serials, &w) || !sort_keys(w.crl)) {
        fssl_serials_free(w.crl);
        if (fssl_starved(!extra, errs))
            *blocks = -1;
        return NULL;
    }
    done(1, errs);
    return w.crl;
}

void fssl_serials_free(fssl_serials *crl)
{
    if (crl == NULL)
        return;
    OPENSSL_free(crl->keys);
    OPENSSL_free(crl->blob);
    OPENSSL_free(crl);
}

/*
 * Reports whether the serial of cert is listed. As in the original, the sign and all bytes are compared, and the
 * issuer is not.
 */
int fssl_listed(const fssl_serials *crl, const X509 *cert)
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
    unsigned char key[3 + MAX_SERIAL];
    size_t low = 0, high = crl->n;

    if (serial_key(key, serial) == 0)
        return 1; /* longer than any that a CA issues: reject it */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_keys(key, crl->keys[middle]);

        if (order == 0)
            return 1;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return 0;
}

/* Returns the index of the first recorded certificate that is listed, or -1. */
int fssl_verdict_listed(const fssl_verdict *v, const fssl_serials *serials)
{
    int i;

    for (i = 0; i < v->n_rec; i++)
        if (v->rec[i].cert == NULL || fssl_listed(serials, v->rec[i].cert))
            return i;
    return -1;
}

/* Sets text to the name in the form of RFC 2253, or to NULL if it cannot be printed. Fails if memory is short. */
static int name_text(char **text, const X509_NAME *name)
{
    BIO *bio = BIO_new(BIO_s_mem());
    int printed = bio != NULL ? fssl_print_name(bio, name) : -1;
    char *p = NULL;

    *text = NULL;
    if (printed > 0) {
        long n = BIO_get_mem_data(bio, &p);

        *text = OPENSSL_strndup(n > 0 ? p : "", n > 0 ? (size_t)n : 0);
        printed = *text != NULL ? 1 : -1;
    }
    BIO_free(bio);
    return printed >= 0;
}

static int take_info(void *into, int *extra, const char *name, const unsigned char *data, long len)
{
    fssl_crl_infos *infos = into;
    fssl_crl_info *info;
    const unsigned char *p = data;
    X509_CRL *list;
    int ok;

    if (strcmp(name, PEM_STRING_X509_CRL) != 0)
        return 1;
    info = OPENSSL_realloc(infos->list, (infos->n + 1) * sizeof(*info));
    if (info == NULL)
        return 0;
    infos->list = info;
    info += infos->n;
    memset(info, 0, sizeof(*info));
    list = d2i_X509_CRL(NULL, &p, len);
    *extra = list != NULL && p != data + len;
    ok = list != NULL && !*extra && name_text(&info->issuer, X509_CRL_get_issuer(list));
    if (ok) {
        info->has_this_update = fssl_seconds(&info->this_update, X509_CRL_get0_lastUpdate(list));
        info->has_next_update = fssl_seconds(&info->next_update, X509_CRL_get0_nextUpdate(list));
        info->serials = (size_t)(X509_CRL_get_REVOKED(list) != NULL ? sk_X509_REVOKED_num(X509_CRL_get_REVOKED(list)) : 0);
        infos->n++;
    }
    X509_CRL_free(list);
    return ok;
}

/*
 * Describes all CRLs in pem, and ignores blocks of other kinds. Fails if a block is broken, and sets blocks to -1 if
 * memory is short. The caller frees infos in any case.
 */
int fssl_crls_describe(fssl_crl_infos *infos, int *blocks, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    int extra = 0;

    clear_errors();
    *blocks = 0;
    if (!fssl_walk_pem(blocks, &extra, pem, len, take_info, infos)) {
        if (fssl_starved(!extra, errs))
            *blocks = -1;
        return 0;
    }
    return done(1, errs);
}

void fssl_crl_infos_free(fssl_crl_infos *infos)
{
    size_t i;

    for (i = 0; i < infos->n; i++)
        OPENSSL_free(infos->list[i].issuer);
    OPENSSL_free(infos->list);
}

/* ------------------------------------------------ CRLs that OpenSSL checks */

/*
 * Parses a CRL. If OpenSSL has no memory for an extension, d2i_X509_CRL still returns a CRL, which 1.1.1 takes for one
 * without that extension, and later versions for one that is never valid. That is a failure here.
 */
static X509_CRL *parse_list(X509_CRL **into, const unsigned char **p, long len)
{
    X509_CRL *list;
    fssl_errors errs;

    clear_errors();
    list = d2i_X509_CRL(into, p, len);
    if (list != NULL && ERR_peek_error() != 0 && fssl_starved(0, &errs)) {
        X509_CRL_free(list);
        list = NULL;
        if (into != NULL)
            *into = NULL;
    }
    return list;
}

/*
 * Returns the kind of a CRL, or -1 if memory is short. Without extended CRL support, OpenSSL ignores indirect CRLs
 * and CRLs for some reasons only, and takes a delta CRL for a complete one, because get_crl_score then does not look
 * for the delta CRL indicator.
 */
static int crl_unfit(X509_CRL *list)
{
    ISSUING_DIST_POINT *idp;
    fssl_errors errs;
    int unfit = FSSL_CRL_COMPLETE, critical = -1;

    if (X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0)
        return FSSL_CRL_DELTA;
    idp = X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, &critical, NULL);
    if (idp == NULL && critical != -1 && fssl_starved(0, &errs))
        return -1;
    if (idp != NULL && idp->indirectCRL > 0)
        unfit = FSSL_CRL_INDIRECT;
    else if (idp != NULL && idp->onlysomereasons != NULL)
        unfit = FSSL_CRL_REASONS;
    ISSUING_DIST_POINT_free(idp);
    return unfit;
}

/* Sorts the CRL, which OpenSSL would otherwise do under a lock at the first lookup in a handshake. */
static int sort_list(X509_CRL *list)
{
    ASN1_INTEGER *serial = ASN1_INTEGER_new();
    X509_REVOKED *entry;

    if (serial == NULL)
        return 0;
    X509_CRL_get0_by_serial(list, &entry, serial);
    ASN1_INTEGER_free(serial);
    return 1;
}

typedef struct crls_walk {
    STACK_OF(X509_CRL) *crls;
    int *lists, *unfit;
} crls_walk;

static int take_list(void *into, int *extra, const char *name, const unsigned char *data, long len)
{
    crls_walk *w = into;
    const unsigned char *p = data;
    X509_CRL *list;
    int unfit;

    if (strcmp(name, PEM_STRING_X509_CRL) != 0)
        return 1;
    list = parse_list(NULL, &p, len);
    ++*w->lists;
    unfit = list != NULL ? crl_unfit(list) : FSSL_CRL_COMPLETE;
    if (unfit < 0) {
        X509_CRL_free(list);
        return 0;
    }
    *w->unfit = unfit;
    *extra = list != NULL && p != data + len;
    if (list != NULL && !*extra && *w->unfit == FSSL_CRL_COMPLETE && sort_list(list) && sk_X509_CRL_push(w->crls, list))
        return 1;
    X509_CRL_free(list);
    return 0;
}

/*
 * Returns all CRLs in pem, and ignores blocks of other kinds. If a CRL is broken or unfit, returns NULL and sets
 * lists to the number of that CRL in pem, counted from 1. Sets blocks to -1 if memory is short.
 */
STACK_OF(X509_CRL) *fssl_crls_parse(int *blocks, int *lists, int *unfit, const unsigned char *pem, size_t len, fssl_errors *errs)
{
    crls_walk w = {sk_X509_CRL_new_null(), lists, unfit};
    int extra = 0;

    clear_errors();
    *blocks = *lists = 0;
    *unfit = FSSL_CRL_COMPLETE;
    if (w.crls == NULL || !fssl_walk_pem(blocks, &extra, pem, len, take_list, &w)) {
        fssl_crls_free(w.crls);
        if (*unfit == FSSL_CRL_COMPLETE && fssl_starved(!extra, errs))
            *blocks = -1;
        return NULL;
    }
    done(1, errs);
    return w.crls;
}

/*
 * Returns the CRL for use with lib: itself, or a copy in the library context of lib, which then verifies its
 * signature.
 */
static X509_CRL *list_for(fssl_lib *lib, X509_CRL *list)
{
    unsigned char *der = NULL;
    const unsigned char *p;
    X509_CRL *copy;
    int n;

    if (lib == NULL)
        return X509_CRL_up_ref(list) ? list : NULL;
    n = i2d_X509_CRL(list, &der);
    copy = n > 0 ? fssl_new_crl(lib) : NULL;
    p = der;
    if (copy != NULL && (parse_list(&copy, &p, n) == NULL || !sort_list(copy))) {
        X509_CRL_free(copy); /* NULL if parse_list freed it */
        copy = NULL;
    }
    OPENSSL_free(der);
    return copy;
}

/* Joins the CRLs of n stacks into one, for lib. */
STACK_OF(X509_CRL) *fssl_crls_join(fssl_lib *lib, STACK_OF(X509_CRL) *const *from, int n, fssl_errors *errs)
{
    STACK_OF(X509_CRL) *all;
    int i, j, ok;

    clear_errors();
    all = sk_X509_CRL_new_null();
    ok = all != NULL;
    for (i = 0; ok && i < n; i++) {
        for (j = 0; ok && j < sk_X509_CRL_num(from[i]); j++) {
            X509_CRL *list = list_for(lib, sk_X509_CRL_value(from[i], j));

            ok = list != NULL && sk_X509_CRL_push(all, list);
            if (!ok)
                X509_CRL_free(list);
        }
    }
    if (!ok) {
        fssl_crls_free(all);
        all = NULL;
    }
    done(ok, errs);
    return all;
}

void fssl_crls_free(STACK_OF(X509_CRL) *crls)
{
    sk_X509_CRL_pop_free(crls, X509_CRL_free);
}

/*
 * Calls X509_verify_cert with the settings of the connection. OpenSSL has applied them already, but ignores a failure:
 * if it has no memory for the name that a client verifies, it verifies no name. The CRLs of the connection are not in
 * the trust store, because connections share the trust store.
 */
int fssl_verify_chain(X509_STORE_CTX *store, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    fssl_conn *c = ssl != NULL ? SSL_get_app_data(ssl) : NULL;
    int ok = 0;

    (void)arg;
    if (c != NULL && X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(store), SSL_get0_param(ssl)) != 1) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
        return 0;
    }
    if (c != NULL) {
        if (c->policy.lists != NULL)
            X509_STORE_CTX_set0_crls(store, c->policy.lists); /* stores only the pointer */
        ok = X509_verify_cert(store) > 0;
    }
    if (!ok && X509_STORE_CTX_get_error(store) == X509_V_OK)
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
    return ok;
}

int fssl_ctx_check_crls(SSL_CTX *ctx, int whole_chain, fssl_errors *errs)
{
    unsigned long flags = X509_V_FLAG_CRL_CHECK | (whole_chain ? X509_V_FLAG_CRL_CHECK_ALL : 0);

    clear_errors();
    SSL_CTX_set_cert_verify_callback(ctx, fssl_verify_chain, NULL);
    return done(X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), flags) == 1, errs);
}
