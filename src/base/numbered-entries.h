/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_NUMBERED_ENTRIES_H
#define BELLHOP_BASE_NUMBERED_ENTRIES_H

/* The numbers in a directory of sysfs that holds cpu0, cpu1, ... or memory0, memory1, ... */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct numbered_entries {
    int64_t *numbers; /* ascending; NULL while there are none */
    size_t count;
};

#define NUMBERED_ENTRIES_INIT {NULL, 0}

/*
 * Lists the entries of `directory` (below the sysroot) that are called `prefix` and a decimal
 * number. Returns 0 or -errno. May block: not for the loop.
 */
int numbered_entries_list(struct numbered_entries *entries, const char *directory,
                          const char *prefix) MUST_CHECK;

void numbered_entries_deinit(struct numbered_entries *entries);

#endif
