/* SPDX-License-Identifier: MIT */
#include "base/processor.h"

#include <errno.h>
#include <inttypes.h>

#include "base/sysroot.h"

#define ENTRY PROCESSOR_DIRECTORY "/cpu%" PRId64

int processor_read(struct processor *ret_processor, int64_t number)
{
    int64_t is_online;
    int r = sysroot_read_int64(&is_online, ENTRY "/online", number);
    /* In this order, so that one which is unplugged meanwhile is not taken for one that stays. */
    if ((r == -ENOENT || r == -ENODEV) && !sysroot_exists(ENTRY, number))
        return -ENOENT;
    if (r < 0 && r != -ENOENT)
        return r;
    *ret_processor = (struct processor){
        .number = number,
        .is_online = r < 0 || is_online,
        .can_offline = r == 0,
    };
    return 0;
}

int processor_set_online(int64_t number, bool is_online)
{
    return sysroot_write(is_online ? "1" : "0", ENTRY "/online", number);
}
