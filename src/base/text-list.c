/* SPDX-License-Identifier: MIT */
#include "base/text-list.h"

#include <stdarg.h>
#include <string.h>

void text_list_deinit(struct text_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct text_list){NULL, 0};
}

/* Takes the text, also when it fails. */
static int append_take(struct text_list *list, char *text)
{
    char **items = text ? reallocarray(list->items, list->count + 1, sizeof(list->items[0])) : NULL;

    if (!items) {
        free(text);
        return -ENOMEM;
    }
    items[list->count++] = text;
    list->items = items;
    return 0;
}

int text_list_append(struct text_list *list, const char *text, size_t length)
{
    return append_take(list, strndup(text, length));
}

int text_list_append_format(struct text_list *list, const char *format, ...)
{
    char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return append_take(list, length < 0 ? NULL : text);
}

bool text_list_contains(const struct text_list *list, const char *text)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}
