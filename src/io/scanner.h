/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_SCANNER_H
#define BELLHOP_IO_SCANNER_H

/*
 * Cuts a byte stream into JSON messages, so that the parser only ever sees whole ones (yajl reads
 * a long string again from its start with every chunk).
 *
 * - A message ends at its closing brace or bracket, newline or not. A bare value (5, "s", true)
 *   ends at its closing quote or the next delimiter.
 * - 0xFF resets the scanner wherever it stands, also inside a string, and yields nothing.
 * - The order of braces, names, colons and commas is checked as the bytes arrive: a request that
 *   was cut off is noticed when the next one begins, instead of swallowing everything after it
 *   (libvirt never sends 0xFF). A control character inside a string is noticed at once, too.
 * - A fault or an exceeded limit is reported once, when it is met; then input is skipped, unstored,
 *   to the next newline, 0xFF or the message's balanced end, whichever comes first. If what is out
 *   of place is a '{', that end is the one of the message which seems to begin there.
 * - How the bytes are cut into calls makes no difference to what comes out.
 *
 * Numbers, escapes and UTF-8 are left to json.h. Not thread safe.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct scanner;

struct scanner_limits {
    size_t message_bytes_max;
    size_t depth_max;
};

enum scan_result {
    SCAN_MORE,    /* everything was consumed, no message is complete */
    SCAN_MESSAGE, /* a message is complete */
    SCAN_FAULT,   /* a fault was met; `reason` says which */
};

struct scan_outcome {
    size_t consumed; /* how many of the bytes are dealt with; call again with the rest */
    char *text;      /* SCAN_MESSAGE: malloc'ed, NUL-terminated, the caller's */
    size_t length;
    char reason[160];   /* SCAN_FAULT: for the client, e.g. "JSON parse error, expecting value" */
    bool out_of_memory; /* SCAN_FAULT: the message did not fit into memory */
};

/* Returns NULL if there is no memory. */
struct scanner *scanner_new(const struct scanner_limits *limits);
struct scanner *scanner_free(struct scanner *scanner);

enum scan_result scanner_feed(struct scanner *scanner, const char *bytes, size_t length,
                              struct scan_outcome *ret_outcome) MUST_CHECK;

/* Forgets an unfinished message and gives its memory back. */
void scanner_reset(struct scanner *scanner);

/* Bytes held of an unfinished message. */
size_t scanner_held_bytes(const struct scanner *scanner);

#endif
