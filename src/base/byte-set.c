/* SPDX-License-Identifier: MIT */
#include "base/byte-set.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/*
 * The compilers' own vectors instead of one processor's intrinsics: SSE2, NEON and the rest come
 * out of the same lines, and where there is none of them the compiler makes scalar code of it.
 */
typedef unsigned char byte_vector __attribute__((vector_size(16)));

/* Some vectors at a step, so that one branch does for all of them. */
#define STEP_VECTORS 4
#define STEP_BYTES   (STEP_VECTORS * sizeof(byte_vector))

static bool set_has(const struct byte_set *set, unsigned char byte)
{
    return byte == set->equal[0] || byte == set->equal[1] || byte < set->below || byte >= set->from;
}

static byte_vector spread(unsigned char byte)
{
    return (byte_vector){} + byte;
}

/* Passes over whole steps without a byte of the set; returns how many bytes that are. */
static size_t skip_steps(const struct byte_set *set, const char *text, size_t length)
{
    const byte_vector first = spread(set->equal[0]), second = spread(set->equal[1]);
    const byte_vector below = spread(set->below), from = spread(set->from);
    size_t at = 0;

    for (; length - at >= STEP_BYTES; at += STEP_BYTES) {
        byte_vector found = {};
        uint64_t halves[2];

        for (size_t i = 0; i < STEP_VECTORS; i++) {
            byte_vector bytes;
            memcpy(&bytes, text + at + i * sizeof(bytes), sizeof(bytes));
            found |= (byte_vector)(bytes == first) | (byte_vector)(bytes == second) |
                     (byte_vector)(bytes < below) | (byte_vector)(bytes >= from);
        }
        memcpy(halves, &found, sizeof(halves));
        if (halves[0] | halves[1])
            break;
    }
    return at;
}

size_t byte_set_find(const struct byte_set *set, const char *text, size_t length)
{
    size_t at = 0;

    /* Most strings are short: look a little way before setting up for a long one. */
    for (; at < length && at < sizeof(byte_vector); at++)
        if (set_has(set, (unsigned char)text[at]))
            return at;

    at += skip_steps(set, text + at, length - at);
    while (at < length && !set_has(set, (unsigned char)text[at]))
        at++;
    return at;
}
