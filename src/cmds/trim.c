/* SPDX-License-Identifier: MIT */

/*
 * guest-fstrim: every file system on disks tells these what it does not use. A job that can be
 * watched and cancelled, and that pauses for a freeze between two slices (base/discard.h).
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/discard.h"
#include "base/log.h"
#include "base/mount-table.h"
#include "base/sysroot.h"
#include "cmds/command.h"
#include "cmds/freeze-state.h"
#include "cmds/services.h"

struct trim_args {
    int64_t minimum;
};

static const struct arg_spec trim_specs[] = {
    {ARG(ARG_INT64, struct trim_args, minimum, "minimum"), .flags = ARG_OPTIONAL},
    ARG_END,
};

struct trim {
    struct call *call;
    struct call_progress progress;
    uint64_t earlier_bytes; /* of the file systems before this one */
};

static bool is_cancelled(void *context)
{
    struct call *call = context;
    return call_is_cancelled(call) || call_is_interrupted(call);
}

static bool slice_begin(void *context, const struct discard_progress *slice)
{
    struct trim *trim = context;
    struct freeze_state *freeze = call_services(trim->call)->freeze;
    trim->progress.item_done_bytes = slice->done_bytes;
    trim->progress.item_total_bytes = slice->size_bytes;
    trim->progress.bytes = trim->earlier_bytes + slice->trimmed_bytes;
    trim->progress.is_paused = freeze_state_is_on(freeze);
    call_set_progress(trim->call, &trim->progress);
    if (!freeze_slice_begin(freeze, is_cancelled, trim->call))
        return false;
    if (trim->progress.is_paused) {
        trim->progress.is_paused = false;
        call_set_progress(trim->call, &trim->progress);
    }
    return true;
}

static void slice_end(void *context)
{
    struct trim *trim = context;
    freeze_slice_end(call_services(trim->call)->freeze);
}

/* Returns 0 or -errno; `ret_failed` names what that was. */
static int trim_mount(struct trim *trim, const struct mount *mount, uint64_t minimum_bytes,
                      struct discard_result *ret_result, const char **ret_failed)
{
    const struct discard_hooks hooks = {.begin = slice_begin, .end = slice_end, .context = trim};
    *ret_failed = "open";
    _cleanup_close_ int fd = sysroot_open(O_RDONLY | O_NONBLOCK, "%s", mount->point);
    if (fd < 0)
        return fd;
    *ret_failed = "trim";
    _cleanup_(discard_geometry_deinit) struct discard_geometry geometry = DISCARD_GEOMETRY_WHOLE;
    discard_geometry_get(&geometry, fd, mount);
    return discard_run(fd, &geometry, minimum_bytes, &hooks, ret_result);
}

/* Returns false if the call was cancelled. */
static bool trim_one(struct trim *trim, const struct mount *mount)
{
    const struct trim_args *args = call_args(trim->call);
    struct json_writer *reply = call_reply(trim->call);
    struct discard_result result = {0};
    const char *failed;
    char system[128];
    call_step(trim->call, "trimming '%s'", mount->point);
    trim->progress.item = mount->point;
    /* A negative one is what the kernel makes of it, as in the classic agent. */
    int error = trim_mount(trim, mount, (uint64_t)args->minimum, &result, &failed);
    trim->earlier_bytes += result.trimmed_bytes;
    if (error == -ECANCELED)
        return false;
    json_begin_object(reply);
    json_member_string(reply, "path", mount->point);
    if (error == -ENOTTY || error == -EOPNOTSUPP) {
        json_member_string(reply, "error", "trim not supported");
    } else if (error) {
        char text[256];
        snprintf(text, sizeof(text), "failed to %s: %s", failed,
                 strerror_r(-error, system, sizeof(system)));
        json_member_string(reply, "error", text);
    } else {
        json_member_uint(reply, "minimum", result.minimum_bytes);
        json_member_uint(reply, "trimmed", result.trimmed_bytes);
    }
    json_end_object(reply);
    return true;
}

/* A file system that no path leads to any more cannot be asked. */
static const struct mount *mount_to_trim(const struct mount_table *table, size_t superblock)
{
    const struct mount *mount = &table->mounts[table->superblocks[superblock].mount];
    return mount_is_on_disk(mount) && mount->is_reachable ? mount : NULL;
}

/* The newest first, as in the classic agent's reply. */
static enum call_next trim_all(struct trim *trim, const struct mount_table *table)
{
    struct json_writer *reply = call_reply(trim->call);
    for (size_t i = 0; i < table->superblock_count; i++)
        trim->progress.total += mount_to_trim(table, i) != NULL;
    json_begin_object(reply);
    json_name(reply, "paths");
    json_begin_array(reply);
    for (size_t i = table->superblock_count; i-- > 0;) {
        const struct mount *mount = mount_to_trim(table, i);
        if (!mount)
            continue;
        if (!trim_one(trim, mount))
            return call_fail(trim->call,
                             "guest-fstrim was cancelled: %llu of %llu file systems and %llu bytes "
                             "were trimmed",
                             (unsigned long long)trim->progress.done,
                             (unsigned long long)trim->progress.total,
                             (unsigned long long)trim->earlier_bytes);
        trim->progress.done++;
    }
    json_end_array(reply);
    json_end_object(reply);
    trim->progress = (struct call_progress){
        .done = trim->progress.done, .total = trim->progress.total, .bytes = trim->earlier_bytes};
    call_set_progress(trim->call, &trim->progress);
    return CALL_CONTINUE;
}

static enum call_next trim_run(struct call *call)
{
    _cleanup_(mount_table_deinit) struct mount_table table = {0};
    struct trim trim = {.call = call};
    int error = mount_table_load(&table);
    if (error)
        return call_fail_errno(call, -error, "The mount table could not be read");
    return trim_all(&trim, &table);
}

/* It may be waiting for a thaw. */
static void trim_cancel(struct call *call)
{
    freeze_state_wake(call_services(call)->freeze);
}

static const struct capability_need trim_needs[] = {
    {CAP_SYS_ADMIN, "have file systems discard what they do not use (FITRIM)"},
    {CAP_DAC_READ_SEARCH, "open mount points, whoever may look into them"},
    CAPABILITY_NEEDS_END,
};

static const struct command rows[] = {
    {
        .name = "guest-fstrim",
        .summary = "Tell the disks what the file systems do not use",
        .args = trim_specs,
        .args_size = sizeof(struct trim_args),
        .run = trim_run,
        .cancel = trim_cancel,
        .lane = "fstrim",
        /* A path below another root may lead to another file system than the table says. */
        .needs = trim_needs,
        .flags = CMD_JOB | CMD_NO_DEADLINE | CMD_EXPIRES | CMD_CHANGES_GUEST | CMD_OWN_SYSTEM,
    },
};

const struct command_family trim_commands = COMMAND_FAMILY(rows);
