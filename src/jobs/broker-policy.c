/* SPDX-License-Identifier: MIT */
#include "jobs/broker-policy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "security/profile.h"
#include "security/program-rule.h"

/* True if some channel may have anything run: then nothing is gained by limiting the rest. */
static bool is_open(const struct broker_policy *policy)
{
    for (unsigned profile = 0; profile < PROFILE_COUNT; profile++) {
        if (policy->exec_profiles & PROFILE_BIT(profile) &&
            !program_rules_apply(policy->rules, profile))
            return true;
    }
    return false;
}

static bool is_among(const char *text, const char *const *texts)
{
    for (; texts && *texts; texts++) {
        if (strcmp(*texts, text) == 0)
            return true;
    }
    return false;
}

/* A path as it stands there, or a name in one of the folders. */
static bool is_program(const struct broker_policy *policy, const char *path, const char *name)
{
    if (strchr(name, '/'))
        return strcmp(path, name) == 0;
    const char *slash = strrchr(path, '/');
    if (!slash || strcmp(slash + 1, name) != 0)
        return false;
    size_t length = (size_t)(slash - path);
    for (size_t i = 0; policy->own_folders[i]; i++) {
        if (strncmp(policy->own_folders[i], path, length) == 0 &&
            policy->own_folders[i][length] == '\0')
            return true;
    }
    return false;
}

/*
 * The name that it is called by is its own (programs that are many decide by it what they are);
 * that of a path may be any, as this program itself looks at none.
 */
static bool are_words(const char *const *words, char *const *arguments)
{
    if (!strchr(words[0], '/') && strcmp(words[0], arguments[0]) != 0)
        return false;
    size_t i = 1;
    for (; words[i]; i++) {
        if (strcmp(words[i], "...") == 0)
            return true;
        if (!arguments[i] || (strcmp(words[i], "*") != 0 && strcmp(words[i], arguments[i]) != 0))
            return false;
    }
    return !arguments[i];
}

/* Its environment decides as much as its name what a program does: LD_PRELOAD, PATH of a script. */
static bool is_own_program(const struct broker_policy *policy, const struct spawn_plan *plan)
{
    if (plan->user || plan->directory)
        return false;
    for (char **member = plan->environment; member && *member; member++) {
        if (!is_among(*member, policy->own_environment))
            return false;
    }
    for (size_t i = 0; i < policy->own_program_count; i++) {
        const char *const *words = policy->own_programs[i];
        if (is_program(policy, plan->program, words[0]) && are_words(words, plan->arguments))
            return true;
    }
    return false;
}

int broker_policy_check(const struct broker_policy *policy, const struct broker_asker *asker,
                        const struct spawn_plan *plan, char ret_reason[CHILD_REASON_MAX])
{
    if (!policy || is_open(policy))
        return 0;
    if (asker->is_own) {
        if (is_own_program(policy, plan))
            return 0;
        snprintf(ret_reason, CHILD_REASON_MAX, "no enabled command has such a program");
        return -EPERM;
    }
    if (asker->profile < PROFILE_COUNT && policy->exec_profiles & PROFILE_BIT(asker->profile))
        return 0;
    snprintf(ret_reason, CHILD_REASON_MAX, "guest-exec is not enabled for the profile %s",
             profile_name(asker->profile));
    return -EPERM;
}

bool broker_policy_has_gate(const struct broker_policy *policy, const struct broker_asker *asker)
{
    return policy && !asker->is_own && program_rules_apply(policy->rules, asker->profile);
}
