/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_LOG_LINE_H
#define BELLHOP_BASE_LOG_LINE_H

/*
 * What a line of the log looks like:
 *
 *     2026-11-23T01:02:03.456Z warning: the text
 *
 * Pure functions: any thread.
 */

#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include "base/log.h"

/* A line with its newline is never longer, so that a write of it to a pipe is atomic
 * (PIPE_BUF, pipe(7)): lines of several processes do not mix, and one that fits never blocks. */
#define LOG_LINE_MAX 4096

/* The longest text, escaped; what is longer is cut and ends in "[...]". */
#define LOG_TEXT_MAX (LOG_LINE_MAX - 64)

/*
 * Formats a record's text and escapes it: control characters, invalid UTF-8, line separators and
 * characters that reorder what follows become \xNN. Returns its length; a NUL follows.
 */
size_t log_line_text(char ret_text[LOG_TEXT_MAX + 1], const char *format, va_list arguments)
    PRINTF_LIKE(2, 0);

/* Builds a whole line of a text from log_line_text(). Returns its length, newline included. */
size_t log_line_format(char ret_line[LOG_LINE_MAX], const struct timespec *time,
                       enum log_level level, const char *text, size_t length);

#endif
