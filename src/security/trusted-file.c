/* SPDX-License-Identifier: MIT */
#include "security/trusted-file.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static int complain(const char *path, const char *what, char **ret_reason)
{
    if (asprintf(ret_reason, "'%s' %s", path, what) < 0)
        *ret_reason = NULL;
    return -EPERM;
}

static int check_one(const char *path, char **ret_reason)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return -errno;
    if (status.st_uid != 0 && status.st_uid != geteuid())
        return complain(path,
                        geteuid() == 0 ? "belongs to somebody else than root"
                                       : "belongs to neither root nor the agent's user",
                        ret_reason);
    bool is_shared_folder = S_ISDIR(status.st_mode) && status.st_mode & S_ISVTX;
    if (status.st_mode & (S_IWGRP | S_IWOTH) && !is_shared_folder)
        return complain(path, "can be written by others than its owner", ret_reason);
    return 0;
}

int trusted_file_check(const char *path, char **ret_reason)
{
    char true_path[PATH_MAX];
    *ret_reason = NULL;
    if (!realpath(path, true_path))
        return -errno;
    for (;;) {
        int error = check_one(true_path, ret_reason);
        if (error < 0 || strcmp(true_path, "/") == 0)
            return error;
        char *slash = strrchr(true_path, '/');
        slash[slash == true_path ? 1 : 0] = '\0';
    }
}
