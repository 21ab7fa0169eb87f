/* SPDX-License-Identifier: MIT */
#include "client/report.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/utf8.h"

static bool is_printable(uint32_t code_point)
{
    /* C0, DEL and C1 steer terminals; the rest at worst looks odd. */
    return code_point >= 0x20 && code_point != 0x7f && !(code_point >= 0x80 && code_point < 0xa0);
}

static void append_printable(struct buffer *out, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        uint32_t code_point;
        size_t step = utf8_decode(text + at, length - at, &code_point);

        if (step > 0 && is_printable(code_point)) {
            buffer_append(out, text + at, step);
        } else {
            step = step > 0 ? step : 1;
            for (size_t i = 0; i < step; i++)
                buffer_append_format(out, "\\x%02x", (unsigned char)text[at + i]);
        }
        at += step;
    }
}

void report(const char *format, ...)
{
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;
    _cleanup_buffer_ struct buffer line = BUFFER_INIT;
    va_list arguments;

    va_start(arguments, format);
    buffer_append_va(&message, format, arguments);
    va_end(arguments);

    buffer_append_text(&line, "bellhop: ");
    append_printable(&line, message.data, message.length);
    buffer_append_char(&line, '\n');
    if (message.failed || line.failed)
        fputs("bellhop: out of memory\n", stderr);
    else
        fwrite(line.data, 1, line.length, stderr);
}

enum outcome report_no_memory(void)
{
    fputs("bellhop: out of memory\n", stderr);
    return OUTCOME_LOCAL;
}
