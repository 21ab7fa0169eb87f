/* SPDX-License-Identifier: MIT */
#include "client/text.h"

#include <stddef.h>

#include "base/buffer.h"
#include "io/json-writer.h"
#include "io/json.h"

#define INDENT_WIDTH 4

static void append_compact(struct buffer *out, const struct json_value *value)
{
    struct json_writer writer = JSON_WRITER_INIT(out);

    json_copy_value(&writer, value);
}

static void append_name(struct buffer *out, const struct json_value *value)
{
    struct json_writer writer = JSON_WRITER_INIT(out);

    json_string_n(&writer, value->name, value->name_length);
    buffer_append_text(out, ": ");
}

static void append_line_start(struct buffer *out, unsigned depth)
{
    buffer_append_format(out, "\n%*s", (int)(depth * INDENT_WIDTH), "");
}

/* Recursion is bounded by the depth that the parser let through. */
static void append_indented(struct buffer *out, const struct json_value *value, unsigned depth)
{
    bool is_object = value->type == JSON_OBJECT;

    if ((!is_object && value->type != JSON_ARRAY) || value->count == 0) {
        append_compact(out, value);
        return;
    }
    buffer_append_char(out, is_object ? '{' : '[');
    for (const struct json_value *item = value->first; item; item = item->next) {
        append_line_start(out, depth + 1);
        if (is_object)
            append_name(out, item);
        append_indented(out, item, depth + 1);
        if (item->next)
            buffer_append_char(out, ',');
    }
    append_line_start(out, depth);
    buffer_append_char(out, is_object ? '}' : ']');
}

void text_append_value(struct buffer *out, const struct json_value *value, bool indented)
{
    if (indented)
        append_indented(out, value, 0);
    else
        append_compact(out, value);
    buffer_append_char(out, '\n');
}
