#ifndef BENCH_MEMBIO_H
#define BENCH_MEMBIO_H
#include <stddef.h>

/* The limit: the same work in C over BIO_s_mem, both ends in one process. */
typedef struct membio membio;
membio *membio_new(const char *crt, const char *key, int version);
void membio_free(membio *m);
double membio_cpu_time(int whole_process);             /* seconds of processor time that the thread or the process has used */
double membio_handshakes(membio *m, int n);            /* seconds for n full handshakes, or -1 */
double membio_round_trips(membio *m, size_t len, int n); /* seconds for n sends and receives, or -1 */
#endif
