#include "memfault.h"

#include <execinfo.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

enum { DEPTH = 24 }; /* number of return addresses that are recorded for an allocation */

/* The header before each block. The list of all live blocks shows leaks, and where they were allocated. */
typedef struct header {
    struct header *next, *prev;
    size_t size;
    long number;
    const char *file; /* a string literal of OpenSSL */
    int line, depth;
    void **trace;
} header;

enum { FRONT = (sizeof(header) + 15) / 16 * 16 }; /* the block is aligned as by malloc */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static header list = {.next = &list, .prev = &list};
static long live, made, number, fail_at, fail_times, failed;
static size_t bytes;
static int installed, armed, tracing;
static __thread int paused; /* above 0: allocations of this thread are not counted and do not fail */

/* Counts one allocation, and returns whether it fails. The caller holds the lock. */
static int fails(void)
{
    if (!armed || paused)
        return 0;
    made++;
    if (made < fail_at || (fail_times >= 0 && made >= fail_at + fail_times))
        return 0;
    failed++;
    return 1;
}

static void *give(size_t size, const char *file, int line)
{
    header *h;
    int no;

    pthread_mutex_lock(&lock);
    no = fails();
    pthread_mutex_unlock(&lock);
    if (no || size > SIZE_MAX - FRONT)
        return NULL;
    h = malloc(FRONT + size);
    if (h == NULL)
        return NULL;
    h->size = size;
    h->file = file;
    h->line = line;
    h->depth = 0;
    h->trace = NULL;
    if (tracing && (h->trace = malloc(DEPTH * sizeof(*h->trace))) != NULL)
        h->depth = backtrace(h->trace, DEPTH);
    pthread_mutex_lock(&lock);
    h->number = ++number;
    h->next = &list;
    h->prev = list.prev;
    list.prev->next = h;
    list.prev = h;
    live++;
    bytes += size;
    pthread_mutex_unlock(&lock);
    return (char *)h + FRONT;
}

static void *fault_malloc(size_t size, const char *file, int line)
{
    return size > 0 ? give(size, file, line) : NULL;
}

static void fault_free(void *p, const char *file, int line)
{
    header *h;

    (void)file;
    (void)line;
    if (p == NULL)
        return;
    h = (header *)((char *)p - FRONT);
    pthread_mutex_lock(&lock);
    h->prev->next = h->next;
    h->next->prev = h->prev;
    live--;
    bytes -= h->size;
    pthread_mutex_unlock(&lock);
    free(h->trace);
    free(h);
}

/* Always moves the block, so that the address sanitizer detects uses of the old address. */
static void *fault_realloc(void *p, size_t size, const char *file, int line)
{
    size_t old;
    void *q;

    if (size == 0) {
        fault_free(p, file, line);
        return NULL;
    }
    q = give(size, file, line);
    if (q == NULL || p == NULL)
        return q;
    old = ((header *)((char *)p - FRONT))->size;
    memcpy(q, p, old < size ? old : size);
    fault_free(p, file, line);
    return q;
}

/* OpenSSL accepts other functions only before its first allocation, so this runs before Go starts. */
__attribute__((constructor)) static void install(void)
{
    installed = CRYPTO_set_mem_functions(fault_malloc, fault_realloc, fault_free);
}

int memfault_installed(void)
{
    return installed;
}

/*
 * From 3.6 on, OpenSSL cannot survive a failure of the first allocation for a thread's error queue: the failure is
 * reported with ERR_new, which needs the queue and tries the same allocation again, until the stack overflows. A program
 * that calls only ERR_peek_error in a new thread crashes in the same way. So the queue is made before anything fails.
 */
void memfault_arm(long at, long times)
{
#if OPENSSL_VERSION_NUMBER >= 0x30600000L
    ERR_peek_error();
#endif
    pthread_mutex_lock(&lock);
    armed = 1;
    made = failed = 0;
    fail_at = at;
    fail_times = times;
    pthread_mutex_unlock(&lock);
}

long memfault_disarm(long *f)
{
    long n;

    pthread_mutex_lock(&lock);
    armed = 0;
    n = made;
    *f = failed;
    pthread_mutex_unlock(&lock);
    return n;
}

void memfault_pause(int delta)
{
    paused += delta;
}

long memfault_live(size_t *b)
{
    long n;

    pthread_mutex_lock(&lock);
    n = live;
    *b = bytes;
    pthread_mutex_unlock(&lock);
    return n;
}

long memfault_mark(void)
{
    long n;

    pthread_mutex_lock(&lock);
    n = number;
    pthread_mutex_unlock(&lock);
    return n;
}

int memfault_end_thread(void)
{
    OPENSSL_thread_stop();
    return 1; /* because the code that cgo generates for a void function causes a warning */
}

void memfault_trace(int on)
{
    tracing = on;
}

/* The live blocks that were allocated after mark, one on each line: size, place, and the exported functions in the call stack. */
char *memfault_left(long mark)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    const header *h;
    int i;

    if (out == NULL)
        return NULL;
    pthread_mutex_lock(&lock);
    for (h = list.next; h != &list; h = h->next) {
        char **names;

        if (h->number <= mark)
            continue;
        fprintf(out, "%zu bytes, %s:%d", h->size, h->file != NULL ? h->file : "?", h->line);
        names = h->depth > 0 ? backtrace_symbols(h->trace, h->depth) : NULL;
        for (i = 0; names != NULL && i < h->depth; i++) {
            const char *name = strchr(names[i], '('), *end = name != NULL ? strpbrk(name, "+)") : NULL;

            if (end != NULL && end > name + 1)
                fprintf(out, " < %.*s", (int)(end - name - 1), name + 1);
        }
        free(names);
        fputc('\n', out);
    }
    pthread_mutex_unlock(&lock);
    fclose(out);
    return text;
}

void memfault_free_text(char *text)
{
    free(text);
}
