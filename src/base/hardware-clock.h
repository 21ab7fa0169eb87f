/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_HARDWARE_CLOCK_H
#define BELLHOP_BASE_HARDWARE_CLOCK_H

/*
 * The clock that goes on while the machine is off (rtc(4)). It counts whole seconds, in UTC or,
 * where /etc/adjtime says so (hwclock(8)), in the guest's local time. All of it may block for about
 * a second: not for the loop. Returns are 0 or -errno.
 */

#include <linux/rtc.h>
#include <stdbool.h>
#include <time.h>

#include "base/cleanup.h"

/*
 * Opens it; who else has it open is given a second to close it. Returns the descriptor; -ENOENT:
 * there is none; -EBUSY; or -errno.
 */
int hardware_clock_open(void) MUST_CHECK;

/* Its time, just when one of its seconds begins. -EIO: it stands still. */
int hardware_clock_read(int fd, struct timespec *ret_time) MUST_CHECK;

/* Sets it to the nearest second. -EINVAL or -ENOTTY: it cannot be set, or not to that time. */
int hardware_clock_write(int fd, const struct timespec *time) MUST_CHECK;

/* True if it counts in local time. */
bool hardware_clock_is_local(void);

/* What it shows at a time, and the other way round; -ERANGE if that is no time. Pure but for the
 * time zone. */
int hardware_clock_from_time(time_t time, bool is_local, struct rtc_time *ret_shown) MUST_CHECK;
int hardware_clock_to_time(const struct rtc_time *shown, bool is_local,
                           time_t *ret_time) MUST_CHECK;

#endif
