/* SPDX-License-Identifier: MIT */
#include "base/memory-block.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysroot.h"

#define ENTRY MEMORY_BLOCK_DIRECTORY "/memory%" PRIu64

/*
 * `removable` is 0 where the kernel cannot take memory offline at all, and in kernels before 5.8
 * where what lies in the block cannot be moved. `valid_zones` is "none" for an online block that
 * spans zones or nodes, which "cannot be offlined". An offline block is offline already.
 */
static bool can_offline(uint64_t index, bool is_online)
{
    int64_t is_removable;
    char zones[64];
    if (!is_online)
        return true;
    if (sysroot_read_int64(&is_removable, ENTRY "/removable", index) < 0 || !is_removable)
        return false;
    return sysroot_read_line(zones, sizeof(zones), ENTRY "/valid_zones", index) < 0 ||
           strcmp(zones, "none") != 0;
}

int memory_block_read(struct memory_block *ret_block, uint64_t index)
{
    char state[32];
    int r = sysroot_read_line(state, sizeof(state), ENTRY "/state", index);
    /* In this order, so that one which is unplugged meanwhile is not taken for one that stays. */
    if ((r == -ENOENT || r == -ENODEV) && !sysroot_exists(ENTRY, index))
        return -ENOENT;
    if (r < 0 && r != -ENOENT)
        return r;
    bool has_state = r == 0;
    bool is_online = !has_state || strcmp(state, "online") == 0;
    *ret_block = (struct memory_block){
        .index = index,
        .is_online = is_online,
        .can_offline = has_state && can_offline(index, is_online),
        .has_state = has_state,
    };
    return 0;
}

int memory_block_set_online(uint64_t index, bool is_online)
{
    return sysroot_write(is_online ? "online" : "offline", ENTRY "/state", index);
}

int memory_block_size(uint64_t *ret_size_bytes)
{
    char line[32], *end;
    int r = sysroot_read_line(line, sizeof(line), MEMORY_BLOCK_DIRECTORY "/block_size_bytes");
    if (r < 0)
        return r;
    errno = 0;
    unsigned long long size = strtoull(line, &end, 16); /* without 0x */
    if (errno || *end || !isxdigit((unsigned char)line[0]))
        return -EINVAL;
    *ret_size_bytes = size;
    return 0;
}
