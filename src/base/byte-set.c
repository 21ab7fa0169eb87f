/* SPDX-License-Identifier: MIT */
#include "base/byte-set.h"

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/*
 * The compilers' own vectors instead of one processor's intrinsics: SSE2, NEON and the rest come
 * out of the same lines, and where there is none of them the compiler makes scalar code of it.
 */
typedef unsigned char byte_vector __attribute__((vector_size(16)));

/* Some vectors at a step, so that one branch does for all of them. */
#define STEP_BYTES (4 * sizeof(byte_vector))

static bool set_has(const struct byte_set *set, unsigned char byte)
{
    return byte == set->equal[0] || byte == set->equal[1] || byte < set->below || byte >= set->from;
}

static byte_vector spread(unsigned char byte)
{
    return (byte_vector){} + byte;
}

/* The set, each of its bytes all over a vector. */
struct vector_set {
    byte_vector equal[2];
    byte_vector below;
    byte_vector from;
};

/* All bits where a byte is in the set, none elsewhere. */
static inline byte_vector find_in(const struct vector_set *set, const char *text)
{
    byte_vector bytes;

    memcpy(&bytes, text, sizeof(bytes));
    return (byte_vector)(bytes == set->equal[0]) | (byte_vector)(bytes == set->equal[1]) |
           (byte_vector)(bytes < set->below) | (byte_vector)(bytes >= set->from);
}

/* Which byte of the vector is the first that has bits; their number if none has. */
static inline size_t first_of(byte_vector found)
{
    uint64_t halves[2];

    memcpy(halves, &found, sizeof(halves));
    if (halves[0])
        return (size_t)__builtin_ctzll(le64toh(halves[0])) / 8;
    if (halves[1])
        return 8 + (size_t)__builtin_ctzll(le64toh(halves[1])) / 8;
    return sizeof(found);
}

/* Looks in whole vectors only; `length` rounded down to them if there is nothing in these. */
static size_t find_by_vectors(const struct byte_set *bytes, const char *text, size_t length)
{
    const struct vector_set set = {{spread(bytes->equal[0]), spread(bytes->equal[1])},
                                   spread(bytes->below),
                                   spread(bytes->from)};
    size_t at = 0;

    for (; length - at >= STEP_BYTES; at += STEP_BYTES) {
        byte_vector found = {};
        for (size_t i = 0; i < STEP_BYTES; i += sizeof(found))
            found |= find_in(&set, text + at + i);
        if (first_of(found) < sizeof(found))
            break;
    }
    for (; length - at >= sizeof(byte_vector); at += sizeof(byte_vector)) {
        size_t first = first_of(find_in(&set, text + at));
        if (first < sizeof(byte_vector))
            return at + first;
    }
    return at;
}

size_t byte_set_find(const struct byte_set *set, const char *text, size_t length)
{
    size_t at = 0;

    if (length >= sizeof(byte_vector))
        at = find_by_vectors(set, text, length);
    while (at < length && !set_has(set, (unsigned char)text[at]))
        at++;
    return at;
}
