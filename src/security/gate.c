/* SPDX-License-Identifier: MIT */
#include "security/gate.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "security/profile.h"

struct names {
    char **names;
    size_t count;
};

struct gate {
    bool has_allowed;
    struct names allowed;
    struct names blocked;
    unsigned file_profiles;
};

static void names_deinit(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i]);
    free(names->names);
}

static bool names_copy(struct names *names, const char *const *from, size_t count)
{
    names->names = calloc(count ? count : 1, sizeof(*names->names));
    if (!names->names)
        return false;
    for (; names->count < count; names->count++) {
        names->names[names->count] = strdup(from[names->count]);
        if (!names->names[names->count])
            return false;
    }
    return true;
}

static bool names_have(const struct names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->names[i], name) == 0)
            return true;
    return false;
}

struct gate *gate_new(const struct gate_rules *rules)
{
    struct gate *gate = calloc(1, sizeof(*gate));
    if (!gate)
        return NULL;
    gate->has_allowed = rules->allowed != NULL;
    gate->file_profiles = rules->file_profiles;
    if (!names_copy(&gate->allowed, rules->allowed, rules->allowed_count) ||
        !names_copy(&gate->blocked, rules->blocked, rules->blocked_count))
        return gate_free(gate);
    return gate;
}

struct gate *gate_free(struct gate *gate)
{
    if (!gate)
        return NULL;
    names_deinit(&gate->allowed);
    names_deinit(&gate->blocked);
    free(gate);
    return NULL;
}

bool gate_allows(const struct gate *gate, const char *command)
{
    if (gate->has_allowed && !names_have(&gate->allowed, command))
        return false;
    return !names_have(&gate->blocked, command);
}

bool gate_allows_profile(const struct gate *gate, unsigned profile, const char *command)
{
    if (!gate_allows(gate, command))
        return false;
    return profile_has_command(profile, command) || (gate->file_profiles & PROFILE_BIT(profile) &&
                                                     profile_has_by_file_rule(profile, command));
}
