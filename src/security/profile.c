/* SPDX-License-Identifier: MIT */
#include "security/profile.h"

#include <string.h>

enum {
    B = PROFILE_BIT(PROFILE_BACKUP),
    P = PROFILE_BIT(PROFILE_PROVISION),
    M = PROFILE_BIT(PROFILE_MONITOR),
    FULL_ONLY = 0,
};

/* By name. docs/policy.md shows the same table, and a unit test compares them. */
static const struct profile_row rows[] = {
    {"bellhop-job-cancel", B | P},
    {"bellhop-job-input", P},
    {"bellhop-job-list", B | P | M},
    {"bellhop-job-output", P},
    {"bellhop-job-start", B | P},
    {"bellhop-job-status", B | P | M},
    {"guest-exec", P},
    {"guest-exec-status", P},
    {"guest-file-close", FULL_ONLY},
    {"guest-file-flush", FULL_ONLY},
    {"guest-file-open", FULL_ONLY},
    {"guest-file-read", FULL_ONLY},
    {"guest-file-seek", FULL_ONLY},
    {"guest-file-write", FULL_ONLY},
    {"guest-fsfreeze-freeze", B},
    {"guest-fsfreeze-freeze-list", B},
    {"guest-fsfreeze-status", B | M},
    {"guest-fsfreeze-thaw", B},
    {"guest-fstrim", B},
    {"guest-get-cpustats", B | M},
    {"guest-get-devices", FULL_ONLY},
    {"guest-get-disks", B | M},
    {"guest-get-diskstats", B | M},
    {"guest-get-fsinfo", B | M},
    {"guest-get-host-name", B | P | M},
    {"guest-get-load", B | M},
    {"guest-get-memory-block-info", B | M},
    {"guest-get-memory-blocks", B | M},
    {"guest-get-osinfo", B | P | M},
    {"guest-get-time", B | P | M},
    {"guest-get-timezone", B | P | M},
    {"guest-get-users", B | P | M},
    {"guest-get-vcpus", B | M},
    {"guest-info", B | P | M},
    {"guest-network-get-interfaces", B | P | M},
    {"guest-network-get-route", B | P | M},
    {"guest-ping", B | P | M},
    {"guest-set-memory-blocks", FULL_ONLY},
    {"guest-set-time", P},
    {"guest-set-user-password", P},
    {"guest-set-vcpus", FULL_ONLY},
    {"guest-shutdown", FULL_ONLY},
    {"guest-ssh-add-authorized-keys", P},
    {"guest-ssh-get-authorized-keys", P},
    {"guest-ssh-remove-authorized-keys", P},
    {"guest-suspend-disk", FULL_ONLY},
    {"guest-suspend-hybrid", FULL_ONLY},
    {"guest-suspend-ram", FULL_ONLY},
    {"guest-sync", B | P | M},
    {"guest-sync-delimited", B | P | M},
};

static const char *const names[PROFILE_COUNT] = {
    [PROFILE_FULL] = "full",
    [PROFILE_BACKUP] = "backup",
    [PROFILE_PROVISION] = "provision",
    [PROFILE_MONITOR] = "monitor",
};

const struct profile_row *profile_rows(size_t *ret_count)
{
    *ret_count = ARRAY_SIZE(rows);
    return rows;
}

const char *profile_name(unsigned profile)
{
    return profile < PROFILE_COUNT ? names[profile] : "?";
}

int profile_from_name(const char *name, enum profile *ret_profile)
{
    for (size_t i = 0; i < PROFILE_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret_profile = (enum profile)i;
            return 0;
        }
    }
    return -EINVAL;
}

static const struct profile_row *find_row(const char *command)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (strcmp(rows[i].command, command) == 0)
            return &rows[i];
    return NULL;
}

bool profile_has_command(unsigned profile, const char *command)
{
    if (profile == PROFILE_FULL)
        return true;
    const struct profile_row *row = profile < PROFILE_COUNT ? find_row(command) : NULL;
    return row && row->profiles & PROFILE_BIT(profile);
}

bool profile_is_decided(const char *command)
{
    return find_row(command);
}

bool profile_needs_rules(unsigned profile)
{
    return profile != PROFILE_FULL;
}
