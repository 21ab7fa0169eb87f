/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_SLEEP_MODE_H
#define BELLHOP_CMDS_SLEEP_MODE_H

/*
 * How a guest can sleep, as the kernel offers it in /sys/power (Linux:
 * Documentation/admin-guide/pm/sleep-states.rst). May block: not for the loop.
 */

#include <stdbool.h>

#include "base/cleanup.h"

enum sleep_mode {
    SLEEP_RAM,    /* suspend to RAM */
    SLEEP_DISK,   /* hibernate */
    SLEEP_HYBRID, /* an image on the disk, then suspend to RAM */
    SLEEP_MODE_COUNT,
};

/*
 * True if the kernel has the mode. For those that write an image there must be swap space, too:
 * without it the kernel only finds out after it has stopped everything.
 */
bool sleep_mode_is_supported(enum sleep_mode mode);

/*
 * Sends the guest to sleep through the kernel's own interface; returns when it has woken up again:
 * 0 or -errno.
 */
int sleep_mode_enter(enum sleep_mode mode) MUST_CHECK;

#endif
