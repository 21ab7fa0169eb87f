/* SPDX-License-Identifier: MIT */
/*
 * What an agent that will not be root needs to find: a folder of its own, and devices that its
 * group may use. The packaged udev rule gives it the channel's device whenever that comes; where
 * there is no udev it is done here, at the start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cmds/command.h"
#include "cmds/table.h"
#include "config.h"
#include "sandbox.h"

enum { GROUP_MAY_USE = S_IRGRP | S_IWGRP, ALL_MAY_USE = S_IROTH | S_IWOTH };

static int make_folder(const struct sandbox *sandbox, char **ret_reason)
{
    const char *path = sandbox->state_directory;
    struct stat status;
    /* The rest of the path is for everybody, as far as the configuration leaves it to be made. */
    if (mkdir(sandbox->options.config->statedir, 0755) < 0 && errno != EEXIST)
        return -errno;
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    /* Without the capabilities of root: what is not root's any more can neither be read nor
     * changed. */
    _cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    if (status.st_uid == sandbox->user.user)
        return 0;
    if (status.st_uid != 0) {
        if (asprintf(ret_reason, "it belongs to another user than %s", sandbox->user_name) < 0)
            *ret_reason = NULL;
        return -EPERM;
    }
    if (fchownat(fd, "", sandbox->user.user, sandbox->user.group, AT_EMPTY_PATH) < 0)
        return -errno;
    return 0;
}

static bool has_group(const struct confinement_user *user, gid_t group)
{
    for (size_t i = 0; i < user->group_count; i++)
        if (user->groups[i] == group)
            return true;
    return user->group == group;
}

/* Takes part in a group that may use the device, such as dialout; else gives it to the own one. */
static void share_device(struct confinement_user *user, const char *path)
{
    struct stat status;
    /* Not to be opened: a port tells its host about that. */
    _cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0 || !S_ISCHR(status.st_mode))
        return;
    bool is_shared = (status.st_mode & GROUP_MAY_USE) == GROUP_MAY_USE;
    if ((status.st_mode & ALL_MAY_USE) == ALL_MAY_USE ||
        (is_shared && has_group(user, status.st_gid)))
        return;
    if (is_shared && status.st_gid != 0) {
        /* `groups` has room: see find_user(). */
        if (user->group_count < SANDBOX_GROUPS_MAX)
            user->groups[user->group_count++] = status.st_gid;
        return;
    }
    char by_number[64];
    snprintf(by_number, sizeof(by_number), "/proc/self/fd/%d", fd);
    if (chown(by_number, (uid_t)-1, user->group) < 0 ||
        chmod(by_number, (status.st_mode & 07777) | GROUP_MAY_USE) < 0)
        log_warning("%s cannot be given to the agent's group: %s", path, strerror(errno));
}

static void share_devices(struct sandbox *sandbox)
{
    const struct config *config = sandbox->options.config;
    for (size_t i = 0; i < config->channel_count; i++)
        share_device(&sandbox->user, config->channels[i].path);
    for (size_t i = 0; i < command_count(); i++) {
        const char *const *device = sandbox->is_enabled[i] ? command_at(i)->devices : NULL;
        for (; device && *device; device++)
            share_device(&sandbox->user, *device);
    }
}

/* What it appends to becomes its own, for a folder that is root's lets it make no files. */
static int give_file(const struct confinement_user *user, const char *path)
{
    struct stat status;
    if (!path || path[0] != '/')
        return 0;
    _cleanup_close_ int fd = open(
        path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || status.st_uid != 0)
        return 0;
    return fchown(fd, user->user, user->group) < 0 ? -errno : 0;
}

static int give_files(struct sandbox *sandbox, char **ret_reason)
{
    const struct config *config = sandbox->options.config;
    const char *const paths[] = {config->logfile, config->policy.audit};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        int error = give_file(&sandbox->user, paths[i]);
        if (!error)
            continue;
        if (asprintf(ret_reason, "%s: %s", paths[i], strerror(-error)) < 0)
            *ret_reason = NULL;
        return error;
    }
    return 0;
}

int sandbox_make_room(struct sandbox *sandbox, char **ret_reason)
{
    *ret_reason = NULL;
    if (!sandbox->changes_user || geteuid() != 0)
        return 0;
    int error = make_folder(sandbox, ret_reason);
    if (!error)
        error = give_files(sandbox, ret_reason);
    if (error)
        return error;
    share_devices(sandbox);
    return 0;
}
