/* SPDX-License-Identifier: MIT */

/* What the guest is and what time it has there: read only, needs no privilege. */

#include <inttypes.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/log.h"
#include "base/os-release.h"
#include "base/sysroot.h"
#include "cmds/command.h"

/* --- guest-get-time --- */

static enum call_next get_time_run(struct call *call)
{
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) < 0)
        return call_fail_errno(call, errno, "Failed to get time");
    json_int(call_reply(call), (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    return CALL_CONTINUE;
}

/* --- guest-get-host-name --- */

static void write_host_name(struct json_writer *reply, const char *name)
{
    json_begin_object(reply);
    json_member_string(reply, "host-name", name);
    json_end_object(reply);
}

/* Needs no worker, but in an agent that looks at another system: the kernel tells only its own. */
static enum call_next get_host_name_prepare(struct call *call)
{
    struct utsname system;
    if (sysroot_prefix()[0])
        return CALL_CONTINUE;
    if (uname(&system) < 0)
        return call_fail_errno(call, errno, "failed to get the host name");
    write_host_name(call_reply(call), system.nodename);
    return CALL_ANSWER;
}

static enum call_next get_host_name_run(struct call *call)
{
    char name[256];
    call_step(call, "reading /etc/hostname");
    int error = sysroot_read_line(name, sizeof(name), "/etc/hostname");
    if (error)
        return call_fail_errno(call, -error, "failed to read /etc/hostname");
    write_host_name(call_reply(call), name);
    return CALL_CONTINUE;
}

/* --- guest-get-timezone --- */

static enum call_next get_timezone_run(struct call *call)
{
    struct tm local;
    time_t now = time(NULL);
    call_step(call, "reading the time zone");
    /* Unlike localtime_r(), tzset() looks whether /etc/localtime is still the same file. */
    tzset();
    if (!localtime_r(&now, &local))
        return call_fail_errno(call, errno, "failed to get the local time");

    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    if (local.tm_zone && local.tm_zone[0])
        json_member_string(reply, "zone", local.tm_zone);
    json_member_int(reply, "offset", local.tm_gmtoff);
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- guest-get-osinfo --- */

static void load_os_release(struct os_release *release)
{
    /* The classic agent's variable, for tests and for guests that keep the file elsewhere. */
    const char *other_path = getenv("QGA_OS_RELEASE");
    const char *const other_paths[] = {other_path, NULL};
    int r = os_release_load(release, other_path ? other_paths : os_release_paths);
    if (r < 0)
        log_debug("os-release cannot be read: %s", strerror(-r));
}

static void member_if_known(struct json_writer *writer, const char *name, const char *text)
{
    if (text)
        json_member_string(writer, name, text);
}

static enum call_next get_osinfo_run(struct call *call)
{
    struct utsname system;
    if (uname(&system) < 0)
        return call_fail_errno(call, errno, "uname() failed");
    _cleanup_(os_release_deinit) struct os_release release = OS_RELEASE_INIT;
    call_step(call, "reading os-release");
    load_os_release(&release);

    /* The classic agent's order. */
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    member_if_known(reply, "name", release.name);
    json_member_string(reply, "kernel-release", system.release);
    member_if_known(reply, "version", release.version);
    member_if_known(reply, "variant", release.variant);
    member_if_known(reply, "pretty-name", release.pretty_name);
    member_if_known(reply, "version-id", release.version_id);
    member_if_known(reply, "variant-id", release.variant_id);
    json_member_string(reply, "kernel-version", system.version);
    json_member_string(reply, "machine", system.machine);
    member_if_known(reply, "id", release.id);
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- the rows --- */

static const struct command commands[] = {
    {
        .name = "guest-get-time",
        .summary = "The guest's time in nanoseconds since 1970",
        .run = get_time_run,
        .flags = CMD_ON_LOOP,
    },
    {
        .name = "guest-get-host-name",
        .summary = "The guest's host name",
        .prepare = get_host_name_prepare,
        .run = get_host_name_run,
    },
    {
        .name = "guest-get-timezone",
        .summary = "The guest's time zone and its present offset from UTC in seconds",
        .run = get_timezone_run,
    },
    {
        .name = "guest-get-osinfo",
        .summary = "What operating system and kernel the guest runs",
        .run = get_osinfo_run,
    },
    {
        .name = "guest-get-devices",
        .summary = "Drivers of devices: of Windows guests only",
        .flags = CMD_UNSUPPORTED,
    },
};

const struct command_family system_commands = COMMAND_FAMILY(commands);
