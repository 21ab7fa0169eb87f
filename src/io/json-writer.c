/* SPDX-License-Identifier: MIT */
#include "io/json-writer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/byte-set.h"
#include "base/utf8.h"
#include "io/json.h"

/* What does not stand for itself in a string: DEL neither, nor anything beyond ASCII. */
static const struct byte_set escaped = {{'"', '\\'}, 0x20, 0x7f};

#define REPLACEMENT_CHARACTER 0xfffd

static void begin_value(struct json_writer *writer)
{
    if (writer->need_comma)
        buffer_append(writer->out, ", ", 2);
}

static void literal(struct json_writer *writer, const char *text, size_t length)
{
    begin_value(writer);
    buffer_append(writer->out, text, length);
    writer->need_comma = true;
}

void json_raw(struct json_writer *writer, const char *text, size_t length)
{
    literal(writer, text, length);
}

static void begin_container(struct json_writer *writer, char bracket)
{
    begin_value(writer);
    buffer_append_char(writer->out, bracket);
    writer->need_comma = false;
}

static void end_container(struct json_writer *writer, char bracket)
{
    buffer_append_char(writer->out, bracket);
    writer->need_comma = true;
}

void json_begin_object(struct json_writer *writer)
{
    begin_container(writer, '{');
}

void json_end_object(struct json_writer *writer)
{
    end_container(writer, '}');
}

void json_begin_array(struct json_writer *writer)
{
    begin_container(writer, '[');
}

void json_end_array(struct json_writer *writer)
{
    end_container(writer, ']');
}

/* One UTF-16 unit; the capitals are the classic agent's. */
static void append_unit(struct buffer *out, uint32_t unit)
{
    static const char digits[] = "0123456789ABCDEF";
    const char text[] = {'\\',
                         'u',
                         digits[unit >> 12 & 0xf],
                         digits[unit >> 8 & 0xf],
                         digits[unit >> 4 & 0xf],
                         digits[unit & 0xf]};
    buffer_append(out, text, sizeof(text));
}

static void append_escaped(struct buffer *out, uint32_t code_point)
{
    static const char special[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found =
        code_point > 0 && code_point < 0x80 ? strchr(special, (int)code_point) : NULL;

    if (found) {
        const char text[] = {'\\', letters[found - special]};
        buffer_append(out, text, sizeof(text));
    } else if (code_point >= 0x10000) {
        append_unit(out, 0xd800 + ((code_point - 0x10000) >> 10));
        append_unit(out, 0xdc00 + (code_point & 0x3ff));
    } else {
        append_unit(out, code_point);
    }
}

static void append_string(struct buffer *out, const char *text, size_t length)
{
    buffer_append_char(out, '"');
    for (size_t at = 0; at < length;) {
        size_t plain = byte_set_find(&escaped, text + at, length - at);
        buffer_append(out, text + at, plain);
        at += plain;
        /* In most scripts the characters beyond ASCII come in rows. */
        for (bool more = at < length; more; more = at < length && (unsigned char)text[at] >= 0x80) {
            uint32_t code_point;
            size_t character = utf8_decode(text + at, length - at, &code_point);
            append_escaped(out, character > 0 ? code_point : REPLACEMENT_CHARACTER);
            at += character > 0 ? character : 1;
        }
    }
    buffer_append_char(out, '"');
}

static void name_n(struct json_writer *writer, const char *name, size_t length)
{
    begin_value(writer);
    append_string(writer->out, name, length);
    buffer_append(writer->out, ": ", 2);
    writer->need_comma = false;
}

void json_name(struct json_writer *writer, const char *name)
{
    name_n(writer, name, strlen(name));
}

void json_null(struct json_writer *writer)
{
    literal(writer, "null", 4);
}

void json_bool(struct json_writer *writer, bool value)
{
    if (value)
        literal(writer, "true", 4);
    else
        literal(writer, "false", 5);
}

static void integer(struct json_writer *writer, bool negative, uint64_t magnitude)
{
    char digits[24];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude > 0);
    if (negative)
        digits[--at] = '-';
    literal(writer, digits + at, sizeof(digits) - at);
}

void json_int(struct json_writer *writer, int64_t value)
{
    integer(writer, value < 0, value < 0 ? -(uint64_t)value : (uint64_t)value);
}

void json_uint(struct json_writer *writer, uint64_t value)
{
    integer(writer, false, value);
}

void json_double(struct json_writer *writer, double value)
{
    char text[40];
    int length = 0;

    if (!isfinite(value))
        value = 0;
    /* 15 digits always survive the way from decimal and back, 17 the way from binary. */
    for (int digits = 15; digits <= 17; digits++) {
        length = snprintf(text, sizeof(text), "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    /* A locale may have another decimal point. JSON has not. */
    char *comma = strchr(text, ',');
    if (comma)
        *comma = '.';
    literal(writer, text, (size_t)length);
}

void json_string_n(struct json_writer *writer, const char *text, size_t length)
{
    begin_value(writer);
    append_string(writer->out, text, length);
    writer->need_comma = true;
}

void json_string(struct json_writer *writer, const char *text)
{
    json_string_n(writer, text, strlen(text));
}

void json_base64(struct json_writer *writer, const void *bytes, size_t length)
{
    size_t encoded = base64_encoded_length(length);

    begin_value(writer);
    buffer_append_char(writer->out, '"');
    char *room = buffer_reserve(writer->out, encoded);
    if (room) {
        base64_encode(room, bytes, length);
        buffer_commit(writer->out, encoded);
    }
    buffer_append_char(writer->out, '"');
    writer->need_comma = true;
}

/* As deep as the parser let it become. */
static void copy_members(struct json_writer *writer, const struct json_value *container)
{
    for (const struct json_value *value = container->first; value; value = value->next) {
        if (container->type == JSON_OBJECT)
            name_n(writer, value->name, value->name_length);
        json_copy_value(writer, value);
    }
}

void json_copy_value(struct json_writer *writer, const struct json_value *value)
{
    switch (value->type) {
    case JSON_NULL:
        json_null(writer);
        break;
    case JSON_BOOL:
        json_bool(writer, value->boolean);
        break;
    case JSON_NUMBER:
        literal(writer, value->text, value->length);
        break;
    case JSON_STRING:
        json_string_n(writer, value->text, value->length);
        break;
    case JSON_ARRAY:
        json_begin_array(writer);
        copy_members(writer, value);
        json_end_array(writer);
        break;
    case JSON_OBJECT:
        json_begin_object(writer);
        copy_members(writer, value);
        json_end_object(writer);
        break;
    }
}

void json_member_bool(struct json_writer *writer, const char *name, bool value)
{
    json_name(writer, name);
    json_bool(writer, value);
}

void json_member_int(struct json_writer *writer, const char *name, int64_t value)
{
    json_name(writer, name);
    json_int(writer, value);
}

void json_member_uint(struct json_writer *writer, const char *name, uint64_t value)
{
    json_name(writer, name);
    json_uint(writer, value);
}

void json_member_double(struct json_writer *writer, const char *name, double value)
{
    json_name(writer, name);
    json_double(writer, value);
}

void json_member_string(struct json_writer *writer, const char *name, const char *text)
{
    json_name(writer, name);
    json_string(writer, text);
}

void json_member_base64(struct json_writer *writer, const char *name, const void *bytes,
                        size_t length)
{
    json_name(writer, name);
    json_base64(writer, bytes, length);
}
