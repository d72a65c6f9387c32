/* Many connections at the same time. */
#include "ends.h"

#include <stdlib.h>
#include <string.h>

struct cend_pairs {
    cend *c;
    ends *e;
    int n;
};

cend_pairs *cend_pairs_new(cend *c, int n, size_t moved, int keep_clients)
{
    cend_pairs *p = calloc(1, sizeof(*p));
    const size_t piece = 65536;
    int i, ok = 1;

    p->c = c;
    p->e = calloc((size_t)n, sizeof(*p->e));
    cend_room(c, piece);
    for (i = 0; ok && i < n; i++) {
        ends *e = &p->e[i];
        size_t done;

        p->n = i + 1;
        ok = cend_shake(c, e, NULL);
        for (done = 0; ok && done < moved; done += piece)
            ok = cend_send_and_read(c, e->client, e->server, piece, 1) && cend_send_and_read(c, e->server, e->client, piece, 1);
        if (!keep_clients) {
            cend_end(e->client);
            e->client = NULL;
            if (e->up != NULL) { /* between calls the buffers belong to the caller */
                free(e->up->p);
                free(e->down->p);
                memset(e->up, 0, sizeof(flat));
                memset(e->down, 0, sizeof(flat));
            }
        }
    }
    if (!ok) {
        cend_pairs_free(p);
        return NULL;
    }
    return p;
}

double cend_pairs_messages(cend_pairs *p, size_t size, int n)
{
    double start;
    int i, ok = 1;

    cend_room(p->c, size);
    start = cend_thread_time();
    for (i = 0; ok && i < n; i++) {
        ends *e = &p->e[i % p->n];

        ok = cend_send_and_read(p->c, e->client, e->server, size, 1);
    }
    return ok ? cend_thread_time() - start : -1;
}

void cend_pairs_free(cend_pairs *p)
{
    int i;

    for (i = 0; i < p->n; i++)
        cend_close_ends(&p->e[i]);
    free(p->e);
    free(p);
}
