/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TESTS_FUZZ_H
#define BELLHOP_TESTS_FUZZ_H

/*
 * What fuzz targets have in common. A target is fuzz-<name>.c with this one function; it is built
 * with libFuzzer (option `fuzz`) and with standalone.c, which runs the files of its corpus.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Does something with the input; returns 0, or aborts if what came out is wrong. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                              \
    do {                                                                              \
        if (!(condition)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                  \
        }                                                                             \
    } while (0)

#endif
