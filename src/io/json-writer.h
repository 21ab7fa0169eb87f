/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_JSON_WRITER_H
#define BELLHOP_IO_JSON_WRITER_H

/*
 * Writes JSON into a buffer: ASCII only, \u escapes for the rest, never a newline, `: ` and `, ` as
 * separators (what clients that match replies with sed and regular expressions are used to).
 * Bytes that are not UTF-8 become \uFFFD. Commas are the writer's work. Not thread safe.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

struct json_value;

struct json_writer {
    struct buffer *out; /* borrowed; its `failed` says whether memory ran out */
    bool need_comma;    /* something stands before in the same array or object */
};

#define JSON_WRITER_INIT(buffer) \
    {                            \
        (buffer), false          \
    }

void json_begin_object(struct json_writer *writer);
void json_end_object(struct json_writer *writer);
void json_begin_array(struct json_writer *writer);
void json_end_array(struct json_writer *writer);

/* The name of the value that is written next. */
void json_name(struct json_writer *writer, const char *name);

void json_null(struct json_writer *writer);
void json_bool(struct json_writer *writer, bool value);
void json_int(struct json_writer *writer, int64_t value);
void json_uint(struct json_writer *writer, uint64_t value);
/* The shortest form that reads back as the same double; not finite is written as 0. */
void json_double(struct json_writer *writer, double value);
void json_string(struct json_writer *writer, const char *text);
void json_string_n(struct json_writer *writer, const char *text, size_t length);
void json_base64(struct json_writer *writer, const void *bytes, size_t length);
/* A parsed value once more: numbers digit for digit as they came, members in their order. */
void json_copy_value(struct json_writer *writer, const struct json_value *value);

/* What another writer wrote: a value, or an object's members. */
void json_raw(struct json_writer *writer, const char *text, size_t length);

/* One member of an object: json_name() and the value. */
void json_member_bool(struct json_writer *writer, const char *name, bool value);
void json_member_int(struct json_writer *writer, const char *name, int64_t value);
void json_member_uint(struct json_writer *writer, const char *name, uint64_t value);
void json_member_double(struct json_writer *writer, const char *name, double value);
void json_member_string(struct json_writer *writer, const char *name, const char *text);
void json_member_base64(struct json_writer *writer, const char *name, const void *bytes,
                        size_t length);

#endif
