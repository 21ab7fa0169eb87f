/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_BASE64_H
#define BELLHOP_BASE_BASE64_H

/*
 * Base64 with the standard alphabet and padding (RFC 4648 section 4), fast enough not to be what
 * a file copy waits for. Pure functions: any thread.
 */

#include <stddef.h>

#include "base/cleanup.h"

/* Characters that `length` bytes take when encoded. */
static inline size_t base64_encoded_length(size_t length)
{
    return (length + 2) / 3 * 4;
}

/* Encodes into `text`, which has room for base64_encoded_length(length); no NUL is added. */
void base64_encode(char *text, const void *bytes, size_t length);

/*
 * Decodes `text` in place: the bytes replace the text from its beginning. Newlines ('\n') are
 * passed over wherever they stand (Proxmox sends a line break every 76 characters); anything else
 * that is not in the alphabet, a missing or misplaced padding, or a wrong length is refused.
 * Returns 0 and the number of bytes, or -EINVAL with the text in an unspecified state.
 */
int base64_decode_in_place(char *text, size_t length, size_t *ret_length) MUST_CHECK;

#endif
