/* Look-ups in a CRL. */
#include "cend.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

struct cend_crl {
    X509_CRL *crl;
};

cend_crl *cend_crl_load(const char *file)
{
    cend_crl *c = calloc(1, sizeof(*c));
    BIO *bio = BIO_new_file(file, "r");

    if (bio != NULL)
        c->crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (c->crl == NULL) {
        free(c);
        return NULL;
    }
    return c;
}

double cend_crl_lookups(cend_crl *c, const char *crt, int n)
{
    BIO *bio = BIO_new_file(crt, "r");
    X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    X509_REVOKED *entry;
    double start;
    int i, ok = cert != NULL;

    X509_CRL_get0_by_cert(c->crl, &entry, cert); /* sorts the CRL */
    start = cend_thread_time();
    for (i = 0; ok && i < n; i++)
        ok = X509_CRL_get0_by_cert(c->crl, &entry, cert) == 0;
    start = cend_thread_time() - start;
    X509_free(cert);
    BIO_free(bio);
    return ok ? start : -1;
}

void cend_crl_free(cend_crl *c)
{
    X509_CRL_free(c->crl);
    free(c);
}
