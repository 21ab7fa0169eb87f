/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_FREEZE_PLAN_H
#define BELLHOP_BASE_FREEZE_PLAN_H

/*
 * Which file systems a freeze takes, and in which order: each once, however often it is mounted;
 * one that rests on another (on a loop device with a file there, or on devices that are made of such)
 * before that one, because to freeze means to write. Where nothing says otherwise, the newest mount
 * comes first, as with the classic agent. To be thawed the other way round.
 *
 * Network and pseudo file systems are left alone. Plain data: any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct mount;
struct mount_table;
struct storage;
struct text_list;

struct freeze_choice {
    bool all;
    /* Else the file systems that are mounted at one of these, byte by byte; others are ignored. */
    const char *const *points;
    size_t point_count;
    const struct text_list *exclude; /* file systems mounted at one of these are not taken; or NULL */
};

struct freeze_plan {
    const struct mount **mounts; /* the table's; by each its file system can be opened */
    size_t count;
    /* File systems on disks that were left out because no path leads to them. */
    size_t unreachable;
};

/* Returns 0 or -ENOMEM. The plan borrows the table. */
int freeze_plan_build(const struct mount_table *table, const struct storage *storage,
                      const struct freeze_choice *choice, struct freeze_plan *ret_plan) MUST_CHECK;
void freeze_plan_deinit(struct freeze_plan *plan);

#endif
