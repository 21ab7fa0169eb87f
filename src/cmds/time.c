/* SPDX-License-Identifier: MIT */

/*
 * guest-set-time: after the guest was paused or restored its clock is wrong by more than NTP may
 * be willing to mend.
 */

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/hardware-clock.h"
#include "base/log.h"
#include "cmds/command.h"

#define NS_PER_S INT64_C(1000000000)

/* --- guest-set-time --- */

struct set_time_args {
    int64_t time; /* ns since 1970 */
    bool has_time;
};

static const struct arg_spec set_time_specs[] = {
    {ARG_OPT(ARG_INT64, struct set_time_args, time, "time")},
    ARG_END,
};

static enum call_next set_from_hardware_clock(struct call *call)
{
    struct timespec time;
    call_step(call, "reading the hardware clock");
    _cleanup_close_ int fd = hardware_clock_open();
    if (fd == -ENOENT)
        return call_fail(call, "the guest has no hardware clock (RTC): 'time' has to be given");
    int error = fd < 0 ? fd : hardware_clock_read(fd, &time);
    if (error)
        return call_fail_errno(call, -error, "failed to read the hardware clock (RTC)");
    if (clock_settime(CLOCK_REALTIME, &time) < 0)
        return call_fail_errno(call, errno, "Failed to set time to guest");
    return CALL_CONTINUE;
}

/* The other clock follows. A guest without one, or with one that is the host's business, has all
 * that it can have. */
static enum call_next set_hardware_clock(struct call *call)
{
    struct timespec now;
    call_step(call, "setting the hardware clock");
    _cleanup_close_ int fd = hardware_clock_open();
    if (fd == -ENOENT)
        return CALL_CONTINUE;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    int error = fd < 0 ? fd : hardware_clock_write(fd, &now);
    if (error == -EINVAL || error == -ENOTTY) {
        log_warning("the hardware clock cannot be set: %s", strerror(-error));
        return CALL_CONTINUE;
    }
    if (error)
        return call_fail_errno(call, -error,
                               "the time was set, but the hardware clock (RTC) could not be");
    return CALL_CONTINUE;
}

static enum call_next set_time_run(struct call *call)
{
    const struct set_time_args *args = call_args(call);
    if (!args->has_time)
        return set_from_hardware_clock(call);
    if (args->time < 0)
        return call_fail_errno(call, EINVAL, "Failed to set time to guest");
    const struct timespec time = {
        .tv_sec = (time_t)(args->time / NS_PER_S),
        .tv_nsec = (long)(args->time % NS_PER_S),
    };
    if (clock_settime(CLOCK_REALTIME, &time) < 0)
        return call_fail_errno(call, errno, "Failed to set time to guest");
    return set_hardware_clock(call);
}

/* --- the rows --- */

static const struct capability_need set_time_needs[] = {
    {CAP_SYS_TIME, "set the system's clock and the hardware clock"},
    CAPABILITY_NEEDS_END,
};
static const char *const set_time_calls[] = {"clock_settime", "clock_settime64", NULL};
static const char *const set_time_devices[] = {"/dev/rtc", "/dev/rtc0", "/dev/misc/rtc", NULL};

static const struct command rows[] = {
    {
        .name = "guest-set-time",
        .summary = "Set the guest's time and its hardware clock, or the time from that clock",
        .args = set_time_specs,
        .args_size = sizeof(struct set_time_args),
        .run = set_time_run,
        .lane = "time",
        .flags = CMD_CHANGES_GUEST | CMD_EXPIRES | CMD_OWN_SYSTEM,
        .needs = set_time_needs,
        .calls = set_time_calls,
        .devices = set_time_devices,
    },
};

const struct command_family time_commands = COMMAND_FAMILY(rows);
