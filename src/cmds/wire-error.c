/* SPDX-License-Identifier: MIT */
#include "cmds/wire-error.h"

#include <stdio.h>
#include <string.h>

void wire_error_set_va(struct wire_error *error, enum wire_class class, const char *format,
                       va_list arguments)
{
    if (error->is_set)
        return;
    error->is_set = true;
    error->class = class;
    int length = vsnprintf(error->desc, sizeof(error->desc), format, arguments);
    if (length < (int)sizeof(error->desc))
        return;
    /* Cut before a character that does not fit whole. */
    size_t end = sizeof(error->desc) - 1;
    while (end > 0 && ((unsigned char)error->desc[end - 1] & 0xc0) == 0x80)
        end--;
    if (end > 0 && ((unsigned char)error->desc[end - 1] & 0xc0) == 0xc0)
        end--;
    error->desc[end] = '\0';
}

void wire_error_set(struct wire_error *error, enum wire_class class, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    wire_error_set_va(error, class, format, arguments);
    va_end(arguments);
}

const char *wire_class_name(enum wire_class class)
{
    return class == WIRE_COMMAND_NOT_FOUND ? "CommandNotFound" : "GenericError";
}
