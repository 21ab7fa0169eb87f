/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_JSON_STRINGS_H
#define BELLHOP_IO_JSON_STRINGS_H

/*
 * The strings of a JSON text, on both sides of yajl.
 *
 * yajl 2.1.0 decodes escapes in a buffer of its own: it does not check the growth of that buffer,
 * and runs off the end of some broken \u escapes. So escapes are checked and decoded here, before
 * it sees the text; what may not stand raw in a string (quotes, backslashes, control characters)
 * waits as bytes that UTF-8 does not have. The strings never grow, so all of it happens in place,
 * and yajl hands out pointers into the text without ever copying a string.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

/*
 * Checks all strings of the text (UTF-8, escapes, surrogate pairs, no raw control characters) and
 * rewrites those with escapes, and those in single quotes as "double-quoted". What a string became
 * shorter is filled up with spaces after its closing quote. Between strings it only sees that
 * there are no control characters but whitespace (yajl takes \v and \f for whitespace).
 * Returns 0 and whether strings have to be restored; or -EBADMSG and the reason, which has room
 * for JSON_REASON_MAX characters.
 */
int json_strings_prepare(char *text, size_t length, bool *ret_rewritten,
                         char *ret_reason) MUST_CHECK;

/* Gives one rewritten string its real content, in place. Returns its length. */
size_t json_strings_restore(char *text, size_t length);

#endif
