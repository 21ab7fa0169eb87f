/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_GATE_H
#define BELLHOP_SECURITY_GATE_H

/*
 * The request gate: which commands may be called at all. Built once at start from the classic
 * agent's lists, never changed, so any thread may ask. What the lists refuse is refused everywhere;
 * beyond them each channel has a profile's commands, with those
 * for files where a rule names the profile.
 */

#include <stdbool.h>
#include <stddef.h>

struct gate;

struct gate_rules {
    /* Only these are allowed; NULL: all. Borrowed for the call. */
    const char *const *allowed;
    size_t allowed_count;
    /* These are not. */
    const char *const *blocked;
    size_t blocked_count;
    /* PROFILE_BIT()s: those that open files because a rule names them. */
    unsigned file_profiles;
};

/* Returns NULL if there is no memory. */
struct gate *gate_new(const struct gate_rules *rules);
struct gate *gate_free(struct gate *gate);

/* By the lists alone. */
bool gate_allows(const struct gate *gate, const char *command);

/* By the lists, and on a channel of that profile (security/profile.h). */
bool gate_allows_profile(const struct gate *gate, unsigned profile, const char *command);

#endif
