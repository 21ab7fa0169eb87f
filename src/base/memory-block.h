/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_MEMORY_BLOCK_H
#define BELLHOP_BASE_MEMORY_BLOCK_H

/*
 * The blocks that memory is switched on and off in, /sys/devices/system/memory/memoryN (the
 * kernel's Documentation/admin-guide/mm/memory-hotplug.rst). All of it may block: not for the loop.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

#define MEMORY_BLOCK_DIRECTORY "/sys/devices/system/memory"

struct memory_block {
    uint64_t index;
    bool is_online;
    bool can_offline; /* as far as the kernel can tell without trying */
    bool has_state;   /* false: a kernel that cannot switch memory */
};

/* Returns 0; -ENOENT if there is no such block; or -errno of reading its state. */
int memory_block_read(struct memory_block *ret_block, uint64_t index) MUST_CHECK;

/*
 * Has the kernel switch it on or off. Off is slow, since what lies there has to be moved, and a
 * signal ends it with -EINTR. Returns 0 or -errno as the kernel gave it.
 */
int memory_block_set_online(uint64_t index, bool is_online) MUST_CHECK;

/* The size of every block. Returns 0 or -errno; -EINVAL for what is no size. */
int memory_block_size(uint64_t *ret_size_bytes) MUST_CHECK;

#endif
