/* SPDX-License-Identifier: MIT */
#include "base/filesystem-usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/log.h"
#include "base/mount-table.h"
#include "base/probe.h"
#include "base/sysroot.h"

struct question {
    char *point;
    unsigned major, minor;
    struct filesystem_usage usage;
};

/*
 * True if the path led to the file system that was meant, and not to one mounted over it since. A
 * file system of several devices has another number for each of its subvolumes.
 */
static bool is_meant(int fd, const struct question *question)
{
    struct statx found;
    if (question->major == 0)
        return true;
    return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &found) == 0 &&
           found.stx_dev_major == question->major && found.stx_dev_minor == question->minor;
}

static void ask(void *argument)
{
    struct question *question = argument;
    struct statvfs found;
    _cleanup_close_ int fd = sysroot_open(O_PATH, "%s", question->point);
    if (fd < 0 || !is_meant(fd, question) || fstatvfs(fd, &found) < 0)
        return;
    uint64_t unit = found.f_frsize, used = found.f_blocks - found.f_bfree;
    question->usage = (struct filesystem_usage){
        .is_known = true,
        .used_bytes = used * unit,
        .total_bytes = (used + found.f_bavail) * unit,
        .total_bytes_privileged = found.f_blocks * unit,
    };
}

static void release(void *argument)
{
    struct question *question = argument;
    free(question->point);
}

static int fill_in(struct probe_set *set, const struct mount *const *mounts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct question *question = probe_set_question(set, i);
        *question = (struct question){
            .point = strdup(mounts[i]->point),
            .major = mounts[i]->major,
            .minor = mounts[i]->minor,
        };
        if (!question->point)
            return -ENOMEM;
        probe_set_key(set, i, (uint64_t)mounts[i]->major << 32 | mounts[i]->minor);
    }
    return 0;
}

int filesystem_usage_get(const struct mount *const *mounts, size_t count, unsigned timeout_ms,
                         struct filesystem_usage *ret_usages)
{
    struct probe_set *set = probe_set_new(count, sizeof(struct question), ask, release);
    int r = set ? fill_in(set, mounts, count) : -ENOMEM;
    if (r == 0)
        probe_set_run(set, timeout_ms);
    for (size_t i = 0; r == 0 && i < count; i++) {
        const struct question *answer = probe_set_answer(set, i);
        ret_usages[i] = answer ? answer->usage : (struct filesystem_usage){.is_known = false};
        if (probe_set_is_late(set, i))
            log_warning("the file system on '%s' does not answer: its sizes are left out until "
                        "it does",
                        mounts[i]->point);
    }
    probe_set_unref(set);
    return r;
}
