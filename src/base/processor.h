/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_PROCESSOR_H
#define BELLHOP_BASE_PROCESSOR_H

/*
 * The guest's logical processors, /sys/devices/system/cpu/cpuN (the kernel's
 * Documentation/core-api/cpu_hotplug.rst). All of it may block: not for the loop.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

#define PROCESSOR_DIRECTORY "/sys/devices/system/cpu"

struct processor {
    int64_t number;
    bool is_online;
    bool can_offline; /* the kernel lets it be switched: it has a file "online" */
};

/* Returns 0; -ENOENT if there is no such processor; or -errno of reading its state. */
int processor_read(struct processor *ret_processor, int64_t number) MUST_CHECK;

/* Has the kernel switch it on or off; slow. Returns 0 or -errno as the kernel gave it. */
int processor_set_online(int64_t number, bool is_online) MUST_CHECK;

#endif
