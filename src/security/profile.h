/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_PROFILE_H
#define BELLHOP_SECURITY_PROFILE_H

/*
 * The profiles: common choices of which commands a channel may use. docs/policy.md has them for
 * users. `full` has every command, as the classic agent has; each of the others has what its list
 * names and nothing else, so that a command nobody decided on is refused there.
 *
 * Constant data: any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

/* The numbers go over the wire to the broker and stand in its results: they never change. */
enum profile {
    PROFILE_FULL = 0,
    PROFILE_BACKUP = 1,    /* freeze, thaw, trim, information */
    PROFILE_PROVISION = 2, /* accounts, keys, time, network information, programs that have a rule */
    PROFILE_MONITOR = 3,   /* reads, needs no privilege */
    PROFILE_COUNT,
};

/* A set of profiles. */
#define PROFILE_BIT(profile) (1u << (profile))
#define PROFILE_ALL          (PROFILE_BIT(PROFILE_COUNT) - 1)

/* One command's place in the lists, which leave out `full`, which has them all. */
struct profile_row {
    const char *command;
    unsigned profiles;
    unsigned by_file_rule; /* those that have it where a [files NAME] rule names them */
};

/* Every command that was decided on, by name. Some may not be in this build's table. */
const struct profile_row *profile_rows(size_t *ret_count);

/* "full", "backup", "provision", "monitor"; of a number that is no profile: "?". */
const char *profile_name(unsigned profile);

/* Returns 0 or -EINVAL. */
int profile_from_name(const char *name, enum profile *ret_profile) MUST_CHECK;

/* True if the profile has the command. A number that is no profile has none. */
bool profile_has_command(unsigned profile, const char *command);

/* True if the profile has the command as soon as a [files NAME] rule names the profile. */
bool profile_has_by_file_rule(unsigned profile, const char *command);

/* True if the lists say something about the command. */
bool profile_is_decided(const char *command);

/* True if the profile runs programs and opens files only by a rule, also where there is none. */
bool profile_needs_rules(unsigned profile);

#endif
