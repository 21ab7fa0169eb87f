/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TESTS_LITTLE_MEMORY_H
#define BELLHOP_TESTS_LITTLE_MEMORY_H

/* Lets large allocations fail for a while, as they do on a guest that has little memory. */

#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* Under a sanitizer, whose own memory knows no limit, such tests are left out. */
#if defined(__has_feature)
#define HAS_FEATURE(feature) __has_feature(feature)
#else
#define HAS_FEATURE(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    HAS_FEATURE(address_sanitizer) || HAS_FEATURE(thread_sanitizer)
#define LITTLE_MEMORY_WORKS 0
#else
#define LITTLE_MEMORY_WORKS 1
#endif

/* Leaves the process `bytes` more than it has now. Returns false if that cannot be had. */
static inline bool little_memory_begin(rlim_t bytes, struct rlimit *ret_before)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (!file)
        return false;
    bool read = fscanf(file, "%lu", &pages) == 1;
    fclose(file);
    if (!read || getrlimit(RLIMIT_AS, ret_before) < 0)
        return false;
    struct rlimit little = *ret_before;
    little.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
    return setrlimit(RLIMIT_AS, &little) == 0;
}

static inline void little_memory_end(const struct rlimit *before)
{
    setrlimit(RLIMIT_AS, before);
}

#endif
