/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_UTF8_H
#define BELLHOP_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/*
 * Decodes the character at the start of `text` (`length` > 0 bytes) as RFC 3629 has it: no
 * overlong forms, no surrogates, nothing above U+10FFFF. Returns its length in bytes and the code
 * point, or 0 if there is no valid character. Pure functions: any thread.
 */
size_t utf8_decode(const char *text, size_t length, uint32_t *ret_code_point);

/* Returns the number of leading bytes that are valid UTF-8: `length` if all are. */
size_t utf8_valid_prefix(const char *text, size_t length);

#endif
