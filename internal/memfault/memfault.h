/* Functions of the allocator that OpenSSL and the C files of the root package use in a test binary that links this package. */
#ifndef SSLFILTER_MEMFAULT_H
#define SSLFILTER_MEMFAULT_H

#include <stddef.h>

int memfault_installed(void);
void memfault_arm(long at, long times);
long memfault_disarm(long *failed);
void memfault_pause(int delta);
long memfault_live(size_t *bytes);
long memfault_mark(void);
int memfault_end_thread(void);
void memfault_trace(int on);
char *memfault_left(long mark);
void memfault_free_text(char *text);

#endif
