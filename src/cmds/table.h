/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_TABLE_H
#define BELLHOP_CMDS_TABLE_H

/*
 * All commands: the families' rows, sorted by name. A new family is added to `families` in table.c.
 * Immutable: any thread.
 */

#include <stddef.h>

struct command;

size_t command_count(void);

/* The commands in the order of their names. */
const struct command *command_at(size_t index);

/* Returns -1 if there is none of that name. */
int command_find(const char *name, size_t length);

#endif
