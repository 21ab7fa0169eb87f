/* SPDX-License-Identifier: MIT */
#include "base/buffer.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buffer_deinit(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer)BUFFER_INIT;
}

char *buffer_reserve(struct buffer *buffer, size_t length)
{
    if (buffer->failed)
        return NULL;
    if (length < buffer->capacity - buffer->length)
        return buffer->data + buffer->length;

    size_t needed;
    if (__builtin_add_overflow(buffer->length, length, &needed) || needed > SIZE_MAX / 2 - 1) {
        buffer->failed = true;
        return NULL;
    }
    /* Doubling keeps appending linear; large blocks are moved by the kernel, not copied. */
    size_t capacity = buffer->capacity ? buffer->capacity : 64;
    while (capacity < needed + 1)
        capacity *= 2;
    char *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return NULL;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    data[buffer->length] = '\0'; /* also of a buffer that nothing was put into */
    return data + buffer->length;
}

void buffer_commit(struct buffer *buffer, size_t length)
{
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length)
{
    char *room = buffer_reserve(buffer, length);
    if (!room)
        return;
    if (length > 0)
        memcpy(room, bytes, length);
    buffer_commit(buffer, length);
}

void buffer_append_text(struct buffer *buffer, const char *text)
{
    buffer_append(buffer, text, strlen(text));
}

void buffer_append_va(struct buffer *buffer, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *room = length < 0 ? NULL : buffer_reserve(buffer, (size_t)length);
    if (!room)
        return;
    vsnprintf(room, (size_t)length + 1, format, arguments);
    buffer_commit(buffer, (size_t)length);
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    buffer_append_va(buffer, format, arguments);
    va_end(arguments);
}

void buffer_truncate(struct buffer *buffer, size_t length)
{
    if (buffer->data) {
        buffer->length = length;
        buffer->data[length] = '\0';
    }
}

void buffer_consume(struct buffer *buffer, size_t length)
{
    if (length == 0)
        return;
    memmove(buffer->data, buffer->data + length, buffer->length - length);
    buffer_truncate(buffer, buffer->length - length);
}

struct buffer buffer_take(struct buffer *buffer)
{
    struct buffer taken = *buffer;
    *buffer = (struct buffer)BUFFER_INIT;
    return taken;
}
