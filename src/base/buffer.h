/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_BUFFER_H
#define BELLHOP_BASE_BUFFER_H

/*
 * A growable byte buffer whose contents are always followed by a NUL (not counted).
 *
 * An allocation that fails sets `failed` and makes every later append do nothing, so a writer
 * checks once, at its end. Not thread safe: whoever owns the buffer uses it.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct buffer {
    char *data; /* NULL until something was appended */
    size_t length;
    size_t capacity;
    bool failed;
};

#define BUFFER_INIT {NULL, 0, 0, false}

void buffer_deinit(struct buffer *buffer);
#define _cleanup_buffer_ _cleanup_(buffer_deinit)

void buffer_append(struct buffer *buffer, const void *bytes, size_t length);
void buffer_append_text(struct buffer *buffer, const char *text);
void buffer_append_format(struct buffer *buffer, const char *format, ...) PRINTF_LIKE(2, 3);
void buffer_append_va(struct buffer *buffer, const char *format, va_list arguments)
    PRINTF_LIKE(2, 0);

static inline void buffer_append_char(struct buffer *buffer, char character)
{
    if (buffer->length + 1 < buffer->capacity) {
        buffer->data[buffer->length++] = character;
        buffer->data[buffer->length] = '\0';
    } else {
        buffer_append(buffer, &character, 1);
    }
}

/*
 * Makes room for `length` more bytes and returns where they go, or NULL (and `failed`).
 * The caller writes at most `length` bytes there and then calls buffer_commit().
 */
char *buffer_reserve(struct buffer *buffer, size_t length);
void buffer_commit(struct buffer *buffer, size_t length);

/* Shortens the contents to `length` bytes, which is not more than there are. */
void buffer_truncate(struct buffer *buffer, size_t length);

/* Drops the first `length` bytes. */
void buffer_consume(struct buffer *buffer, size_t length);

/* Moves the contents out; the source is empty afterwards. */
struct buffer buffer_take(struct buffer *buffer);

#endif
