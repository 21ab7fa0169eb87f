/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_BYTE_SET_H
#define BELLHOP_BASE_BYTE_SET_H

/*
 * Finds the next byte that matters in a long text, many bytes at a step: what stands between two
 * such bytes (base64 of a file, mostly) is passed over at memory speed. Pure functions: any thread.
 */

#include <stddef.h>

/* The bytes that are equal to one of `equal`, below `below`, or at or above `from`. */
struct byte_set {
    unsigned char equal[2];
    unsigned char below;
    unsigned char from;
};

/* Returns the offset of the first byte of the set, or `length`. */
size_t byte_set_find(const struct byte_set *set, const char *text, size_t length);

#endif
