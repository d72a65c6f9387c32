/* Clocks, memory and processors. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "cend.h"

#include <malloc.h>
#include <sched.h>
#include <time.h>

static double clock_of(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

double cend_thread_time(void)
{
    return clock_of(CLOCK_THREAD_CPUTIME_ID);
}

double cend_process_time(void)
{
    return clock_of(CLOCK_PROCESS_CPUTIME_ID);
}

size_t cend_heap(void)
{
#if __GLIBC_PREREQ(2, 33)
    struct mallinfo2 m = mallinfo2();
#else
    struct mallinfo m = mallinfo();
#endif

    return (size_t)m.uordblks + (size_t)m.hblkhd;
}

void cend_trim(void)
{
    malloc_trim(0);
}

int cend_pin(int cpu)
{
    cpu_set_t set;
    int i;

    CPU_ZERO(&set);
    for (i = 0; i < CPU_SETSIZE; i++)
        if (cpu < 0 || i == cpu)
            CPU_SET(i, &set);
    return sched_setaffinity(0, sizeof(set), &set);
}
