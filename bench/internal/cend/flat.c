/* A BIO over plain buffers. */
#include "ends.h"

#include <stdlib.h>
#include <string.h>

static int flat_read(BIO *bio, char *buf, int len)
{
    flat *f = ((flat **)BIO_get_data(bio))[0];
    size_t n = f->len - f->off;

    BIO_clear_retry_flags(bio);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (n > (size_t)len)
        n = (size_t)len;
    memcpy(buf, f->p + f->off, n);
    f->off += n;
    if (f->off == f->len)
        f->off = f->len = 0;
    return (int)n;
}

static int flat_write(BIO *bio, const char *buf, int len)
{
    flat *f = ((flat **)BIO_get_data(bio))[1];

    if (f->len + (size_t)len > f->cap) {
        f->cap = (f->len + (size_t)len) * 2;
        f->p = realloc(f->p, f->cap);
    }
    memcpy(f->p + f->len, buf, (size_t)len);
    f->len += (size_t)len;
    return len;
}

static long flat_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

static int flat_destroy(BIO *bio)
{
    free(BIO_get_data(bio));
    return 1;
}

static BIO_METHOD *flat_method(void)
{
    static BIO_METHOD *method;

    if (method == NULL) {
        method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_get_new_index(), "flat");
        BIO_meth_set_read(method, flat_read);
        BIO_meth_set_write(method, flat_write);
        BIO_meth_set_ctrl(method, flat_ctrl);
        BIO_meth_set_destroy(method, flat_destroy);
    }
    return method;
}

void cend_set_flat(SSL *ssl, flat *in, flat *out)
{
    BIO *bio = BIO_new(flat_method());
    flat **both = malloc(2 * sizeof(*both));

    both[0] = in;
    both[1] = out;
    BIO_set_data(bio, both);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
}

void cend_flat_free(flat *f)
{
    if (f != NULL)
        free(f->p);
    free(f);
}
