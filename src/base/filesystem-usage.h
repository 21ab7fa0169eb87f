/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_FILESYSTEM_USAGE_H
#define BELLHOP_BASE_FILESYSTEM_USAGE_H

/* How full file systems are: statvfs(), without being held up by one that does not answer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct mount;

struct filesystem_usage {
    bool is_known;
    uint64_t used_bytes;
    uint64_t total_bytes;            /* what is used, and what an ordinary user may still use */
    uint64_t total_bytes_privileged; /* with what is reserved for root: the whole file system */
};

/*
 * Fills in the usage of `count` mounts, waiting at most `timeout_ms` for all of them together. What
 * does not answer in time, cannot be reached (covered by another mount), or fails, is left unknown;
 * what got stuck is logged. Returns 0 or -ENOMEM. Any thread that may wait.
 */
int filesystem_usage_get(const struct mount *const *mounts, size_t count, unsigned timeout_ms,
                         struct filesystem_usage *ret_usages) MUST_CHECK;

#endif
