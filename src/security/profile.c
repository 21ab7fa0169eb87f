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
    {"bellhop-job-cancel", B | P, 0},
    {"bellhop-job-input", P, 0},
    {"bellhop-job-list", B | P | M, 0},
    {"bellhop-job-output", P, 0},
    {"bellhop-job-start", B | P, 0},
    {"bellhop-job-status", B | P | M, 0},
    {"guest-exec", P, 0},
    {"guest-exec-status", P, 0},
    {"guest-file-close", FULL_ONLY, B | P},
    {"guest-file-flush", FULL_ONLY, B | P},
    {"guest-file-open", FULL_ONLY, B | P},
    {"guest-file-read", FULL_ONLY, B | P},
    {"guest-file-seek", FULL_ONLY, B | P},
    {"guest-file-write", FULL_ONLY, B | P},
    {"guest-fsfreeze-freeze", B, 0},
    {"guest-fsfreeze-freeze-list", B, 0},
    {"guest-fsfreeze-status", B | M, 0},
    {"guest-fsfreeze-thaw", B, 0},
    {"guest-fstrim", B, 0},
    {"guest-get-cpustats", B | M, 0},
    {"guest-get-devices", FULL_ONLY, 0},
    {"guest-get-disks", B | M, 0},
    {"guest-get-diskstats", B | M, 0},
    {"guest-get-fsinfo", B | M, 0},
    {"guest-get-host-name", B | P | M, 0},
    {"guest-get-load", B | M, 0},
    {"guest-get-memory-block-info", B | M, 0},
    {"guest-get-memory-blocks", B | M, 0},
    {"guest-get-osinfo", B | P | M, 0},
    {"guest-get-time", B | P | M, 0},
    {"guest-get-timezone", B | P | M, 0},
    {"guest-get-users", B | P | M, 0},
    {"guest-get-vcpus", B | M, 0},
    {"guest-info", B | P | M, 0},
    {"guest-network-get-interfaces", B | P | M, 0},
    {"guest-network-get-route", B | P | M, 0},
    {"guest-ping", B | P | M, 0},
    {"guest-set-memory-blocks", FULL_ONLY, 0},
    {"guest-set-time", P, 0},
    {"guest-set-user-password", P, 0},
    {"guest-set-vcpus", FULL_ONLY, 0},
    {"guest-shutdown", FULL_ONLY, 0},
    {"guest-ssh-add-authorized-keys", P, 0},
    {"guest-ssh-get-authorized-keys", P, 0},
    {"guest-ssh-remove-authorized-keys", P, 0},
    {"guest-suspend-disk", FULL_ONLY, 0},
    {"guest-suspend-hybrid", FULL_ONLY, 0},
    {"guest-suspend-ram", FULL_ONLY, 0},
    {"guest-sync", B | P | M, 0},
    {"guest-sync-delimited", B | P | M, 0},
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

bool profile_has_by_file_rule(unsigned profile, const char *command)
{
    const struct profile_row *row = profile < PROFILE_COUNT ? find_row(command) : NULL;
    return row && row->by_file_rule & PROFILE_BIT(profile);
}

bool profile_is_decided(const char *command)
{
    return find_row(command);
}

bool profile_needs_rules(unsigned profile)
{
    return profile != PROFILE_FULL;
}
