/* OpenSSL's error queue: copying it, and distinguishing a lack of memory from other failures. */
#include "cgo_internal.h"

void fssl_copy_text(char *dst, size_t cap, const char *src)
{
    size_t n = src != NULL ? strlen(src) : 0;

    if (n >= cap)
        n = cap - 1;
    if (n > 0)
        memcpy(dst, src, n);
    dst[n] = 0;
}

/* Moves the thread's error queue into errs, oldest first. errs may be NULL. */
void fssl_take_errors(fssl_errors *errs)
{
    unsigned long code;
    const char *file, *func, *data;
    int line, flags;

    if (errs == NULL) {
        clear_errors();
        return;
    }
    errs->n = 0;
    while ((code = fssl_next_error(&file, &line, &func, &data, &flags)) != 0) {
        fssl_error *e;

        if (errs->n == FSSL_MAX_ERRORS)
            continue;
        e = &errs->e[errs->n++];
        e->code = code;
        e->line = line;
        fssl_copy_text(e->file, sizeof(e->file), file);
        fssl_copy_text(e->func, sizeof(e->func), func);
        fssl_copy_text(e->data, sizeof(e->data), (flags & ERR_TXT_STRING) != 0 ? data : NULL);
    }
}

int fssl_err_lib(unsigned long code)
{
    return ERR_GET_LIB(code);
}

int fssl_err_reason(unsigned long code)
{
    return ERR_GET_REASON(code);
}

/* EVP_default_properties_is_fips_enabled may load the configuration and leave errors in the queue. */
int fssl_fips_enabled(void)
{
    int on = fssl_fips();

    clear_errors();
    return on;
}

/*
 * Ends a helper that failed, as done does. Reports whether a lack of memory may be the reason for the failure.
 * OpenSSL cannot queue an error if no allocation succeeds. If silent is 1, an empty queue therefore counts as a lack
 * of memory.
 */
int fssl_starved(int silent, fssl_errors *errs)
{
    void *probe = OPENSSL_malloc(64);
    int i, short_of = probe == NULL;

    OPENSSL_free(probe);
    fssl_take_errors(errs);
    if (errs->n == 0 && silent)
        return 1;
    for (i = 0; i < errs->n; i++)
        if (ERR_GET_REASON(errs->e[i].code) == ERR_R_MALLOC_FAILURE || ERR_GET_REASON(errs->e[i].code) == ERR_R_INIT_FAIL)
            short_of = 1;
    return short_of;
}
