/* SPDX-License-Identifier: MIT */
#include "other-root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/sysroot.h"

/*
 * The C library knows no prefix, and /etc/localtime is a link that leads out of it. A descriptor of
 * the file, which stays open as long as the agent runs, has a path that leads to the right one.
 */
static int use_time_zone(void)
{
    char zone[64] = "UTC0";
    int fd = sysroot_open(O_RDONLY, "/etc/localtime");
    if (fd >= 0)
        snprintf(zone, sizeof(zone), ":/proc/self/fd/%d", fd);
    else if (fd != -ENOENT)
        return fd;
    return setenv("TZ", zone, 1) < 0 ? -errno : 0;
}

static int fail(const char *directory, const char *what, int error, char **ret_reason)
{
    if (asprintf(ret_reason, "--root %s: %s%s", directory, what, strerror(-error)) < 0)
        *ret_reason = NULL;
    return error;
}

int other_root_use(const char *directory, char **ret_reason)
{
    int error = sysroot_set(directory);
    if (error)
        return fail(directory, "", error, ret_reason);
    if (!sysroot_exists("/proc/1") || !sysroot_exists("/sys/class"))
        return fail(directory, "no /proc/1 and /sys/class there: ", -ENOENT, ret_reason);
    error = use_time_zone();
    return error ? fail(directory, "its time zone: ", error, ret_reason) : 0;
}
