/* SPDX-License-Identifier: MIT */

/* How busy the guest is: its processors' times and its load averages. Read only. */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/sysroot.h"
#include "cmds/command.h"

/* --- guest-get-cpustats --- */

/* The fields of a processor's line in the kernel's order (proc_stat(5)); older kernels have fewer.
 */
static const char *const time_names[] = {
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guestnice",
};

static uint64_t milliseconds(uint64_t ticks, uint64_t ticks_per_second)
{
    return ticks / ticks_per_second * 1000 + ticks % ticks_per_second * 1000 / ticks_per_second;
}

/* "cpu3 1393280 32966 572056 13343292 6130 0 17875 0 0 0"; the line "cpu" is the sum of them. */
static void write_processor(struct json_writer *reply, const char *line, uint64_t ticks_per_second)
{
    unsigned number;
    int at = 0;
    if (sscanf(line, "cpu%u%n", &number, &at) != 1)
        return;

    json_begin_object(reply);
    json_member_string(reply, "type", "linux");
    json_member_uint(reply, "cpu", number);
    const char *fields = line + at;
    for (size_t i = 0; i < ARRAY_SIZE(time_names); i++) {
        char *end;
        uint64_t ticks = strtoull(fields, &end, 10);
        if (end == fields)
            break;
        json_member_uint(reply, time_names[i], milliseconds(ticks, ticks_per_second));
        fields = end;
    }
    json_end_object(reply);
}

static enum call_next get_cpustats_run(struct call *call)
{
    enum { STAT_MAX = 64 * 1024 * 1024 };
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    call_step(call, "reading /proc/stat");
    int r = sysroot_read(&text, STAT_MAX, "/proc/stat");
    if (r < 0)
        return call_fail_errno(call, -r, "failed to read /proc/stat");

    long ticks_per_second = sysconf(_SC_CLK_TCK);
    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    for (char *rest = text.data, *line; (line = strsep(&rest, "\n"));)
        if (strncmp(line, "cpu", 3) == 0 && isdigit((unsigned char)line[3]))
            write_processor(reply, line, (uint64_t)ticks_per_second);
    json_end_array(reply);
    return CALL_CONTINUE;
}

/* --- guest-get-load --- */

static enum call_next get_load_run(struct call *call)
{
    char line[128];
    double loads[3];
    call_step(call, "reading /proc/loadavg");
    int r = sysroot_read_line(line, sizeof(line), "/proc/loadavg");
    if (r == 0 && sscanf(line, "%lf %lf %lf", &loads[0], &loads[1], &loads[2]) != 3)
        r = -EINVAL;
    if (r < 0)
        return call_fail_errno(call, -r, "failed to read /proc/loadavg");

    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_double(reply, "load1m", loads[0]);
    json_member_double(reply, "load5m", loads[1]);
    json_member_double(reply, "load15m", loads[2]);
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- the rows --- */

static const struct command commands[] = {
    {
        .name = "guest-get-cpustats",
        .summary = "What the processors spent their time on, in milliseconds",
        .run = get_cpustats_run,
    },
    {
        .name = "guest-get-load",
        .summary = "The load averages of the last 1, 5 and 15 minutes",
        .run = get_load_run,
    },
};

const struct command_family load_commands = COMMAND_FAMILY(commands);
