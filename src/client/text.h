/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_TEXT_H
#define BELLHOP_CLIENT_TEXT_H

/* JSON for people's eyes and for pipes. Pure functions: any thread. */

#include <stdbool.h>

struct buffer;
struct json_value;

/*
 * Appends the value as one line, or `indented`: each member on a line of its own. ASCII with \u
 * escapes in both cases; ends with a newline.
 */
void text_append_value(struct buffer *out, const struct json_value *value, bool indented);

#endif
