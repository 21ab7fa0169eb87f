/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_TEXT_LIST_H
#define BELLHOP_BASE_TEXT_LIST_H

/* A growable list of texts that it owns. Not thread safe; once filled it may be read anywhere. */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct text_list {
    char **items; /* array of `count`, NULL while empty */
    size_t count;
};

void text_list_deinit(struct text_list *list);

/* Appends a copy of the text's first `length` bytes. Returns 0 or -ENOMEM. */
int text_list_append(struct text_list *list, const char *text, size_t length) MUST_CHECK;

/* The same of a formatted text. */
int text_list_append_format(struct text_list *list, const char *format, ...)
    PRINTF_LIKE(2, 3) MUST_CHECK;

bool text_list_contains(const struct text_list *list, const char *text);

#endif
