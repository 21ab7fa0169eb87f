/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_WIRE_ERROR_H
#define BELLHOP_CMDS_WIRE_ERROR_H

/* An error as the client sees it. Filled in by value: nothing to free, nothing to allocate. */

#include <stdarg.h>
#include <stdbool.h>

#include "base/cleanup.h"

/*
 * The classes in use. Clients with closed lists of classes exist, so there are no others.
 * (spec: upstream additions, "Envelope")
 */
enum wire_class { WIRE_GENERIC_ERROR, WIRE_COMMAND_NOT_FOUND };

struct wire_error {
    bool is_set;
    enum wire_class class;
    char desc[1024]; /* a longer description is cut at a character's edge */
};

/* Sets the error; setting it a second time keeps the first. */
void wire_error_set(struct wire_error *error, enum wire_class class, const char *format, ...)
    PRINTF_LIKE(3, 4);
void wire_error_set_va(struct wire_error *error, enum wire_class class, const char *format,
                       va_list arguments) PRINTF_LIKE(3, 0);

/* "GenericError", "CommandNotFound" */
const char *wire_class_name(enum wire_class class);

#endif
