/* SPDX-License-Identifier: MIT */
#include "config-policy.h"

#include <dirent.h>
#include <string.h>

#include "config-entry.h"
#include "security/trusted-file.h"

#define POLICY_FOLDER "/etc/bellhop/policy.d"

/* Whoever can write a policy can lift it. */
int config_check_trust(struct config_loader *loader, const char *path)
{
    _cleanup_free_ char *reason = NULL;
    int error = trusted_file_check(path, &reason);
    if (error == 0)
        return 0;
    loader->file = NULL;
    return config_fail(loader, "%s: a policy is not taken from here: %s", path,
                       reason ? reason : strerror(-error));
}

static int is_policy_name(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 5 &&
           strcmp(entry->d_name + length - 5, ".conf") == 0;
}

static int load_policy_files(struct config_loader *loader, const char *folder,
                             struct dirent **entries, int count, config_file_loader load_file)
{
    int error = 0;
    loader->is_policy_file = true;
    for (int i = 0; i < count && error == 0; i++) {
        _cleanup_free_ char *path = NULL;
        if (asprintf(&path, "%s/%s", folder, entries[i]->d_name) < 0)
            path = NULL;
        error = path ? load_file(loader, path) : -ENOMEM;
    }
    loader->is_policy_file = false;
    return error;
}

int config_load_policy(struct config_loader *loader, config_file_loader load_file)
{
    const char *variable = getenv("BELLHOP_POLICY");
    const char *folder = variable ? variable : POLICY_FOLDER;
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_policy_name, alphasort);
    if (count < 0)
        return errno == ENOENT ? 0 : config_fail(loader, "%s: %s", folder, strerror(errno));
    int error = config_check_trust(loader, folder);
    if (error == 0)
        error = load_policy_files(loader, folder, entries, count, load_file);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return error;
}
