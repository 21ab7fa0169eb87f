/* SPDX-License-Identifier: MIT */

/* What a [program NAME] group says. */

#include "security/policy-key.h"

#include <ctype.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "security/policy-value.h"
#include "security/trusted-file.h"

/* --- keys that are more than a value --- */

static int set_arguments(void *owner, const char *value, char **ret_reason)
{
    struct program_rule *rule = owner;
    struct program_call *calls =
        reallocarray(rule->calls, rule->call_count + 1, sizeof(*rule->calls));
    if (!calls)
        return -ENOMEM;
    rule->calls = calls;
    struct program_call *call = &calls[rule->call_count++];
    *call = (struct program_call){.allows_more = false};
    struct text_list *patterns = &call->patterns;
    int error = policy_split_arguments(value, patterns);
    if (error == -EINVAL)
        return policy_fail(ret_reason, "a '\"' has no other one");
    for (size_t i = 0; i < patterns->count; i++)
        if (strlen(patterns->items[i]) > PROGRAM_ARGUMENT_MAX)
            return policy_fail(ret_reason, "a pattern has more than %d bytes",
                               PROGRAM_ARGUMENT_MAX);
    if (error == 0 && patterns->count > 0 &&
        strcmp(patterns->items[patterns->count - 1], "...") == 0) {
        free(patterns->items[--patterns->count]);
        call->allows_more = true;
    }
    return error;
}

static int set_user(void *owner, const char *value, char **ret_reason)
{
    struct program_rule *rule = owner;
    if (!*value)
        return policy_fail(ret_reason, "expected a user's name or number, or '*'");
    rule->user_is_free = strcmp(value, "*") == 0;
    rule->has_user = !rule->user_is_free;
    free(take_ptr(&rule->user));
    return rule->has_user ? policy_set_text(&rule->user, value) : 0;
}

static int set_groups(void *owner, const char *value, char **ret_reason)
{
    struct program_rule *rule = owner;
    text_list_deinit(&rule->group_names);
    rule->group_names = (struct text_list){NULL, 0};
    rule->has_groups = true;
    if (policy_split(value, &rule->group_names) < 0)
        return policy_fail(ret_reason, "expected names or numbers of groups");
    return 0;
}

static int set_cwd(void *owner, const char *value, char **ret_reason)
{
    struct program_rule *rule = owner;
    rule->cwd_is_free = strcmp(value, "*") == 0;
    return rule->cwd_is_free ? 0 : policy_copy_path(value, &rule->cwd, ret_reason);
}

static int set_environment(void *owner, const char *value, char **ret_reason)
{
    struct program_rule *rule = owner;
    text_list_deinit(&rule->environment);
    rule->environment = (struct text_list){NULL, 0};
    int error = policy_split(value, &rule->environment);
    if (error == -ENOMEM)
        return error;
    for (size_t i = 0; i < rule->environment.count; i++) {
        const char *name = rule->environment.items[i];
        if (!*name || strpbrk(name, "=*?"))
            return policy_fail(ret_reason, "'%s' is no name of a member of the environment", name);
    }
    return error < 0 ? policy_fail(ret_reason, "a '\"' has no other one") : 0;
}

static int set_capabilities(void *owner, const char *value, char **ret_reason)
{
    struct program_rule *rule = owner;
    rule->has_capabilities = true;
    return policy_parse_capabilities(value, &rule->capabilities, ret_reason);
}

/* Which there are is known to whoever makes the filter: here it is only that they can be names. */
static int set_system_calls(void *owner, const char *value, char **ret_reason)
{
    struct program_rule *rule = owner;
    text_list_deinit(&rule->system_calls);
    rule->system_calls = (struct text_list){NULL, 0};
    int error = policy_split(value, &rule->system_calls);
    if (error == -ENOMEM)
        return error;
    bool is_good = error == 0 && rule->system_calls.count > 0;
    for (size_t i = 0; i < rule->system_calls.count && is_good; i++) {
        const char *name = rule->system_calls.items[i];
        name += *name == '!';
        name += *name == '@';
        is_good = islower((unsigned char)*name) || *name == '_';
        for (; *name && is_good; name++)
            is_good = islower((unsigned char)*name) || isdigit((unsigned char)*name) ||
                      *name == '_' || *name == '-';
    }
    if (!is_good)
        return policy_fail(ret_reason,
                           "'%s' does not fit 'system-calls': expected names of system calls or "
                           "@groups of them, each perhaps after a '!'",
                           value);
    return 0;
}

int policy_set_limit(struct program_rule *rule, const char *key, const char *value,
                     char **ret_reason)
{
    static const char word[] = "limit-";
    int resource;
    uint64_t number;
    if (strncmp(key, word, strlen(word)) != 0)
        return -ENOENT;
    if (policy_parse_limit_name(key + strlen(word), &resource) < 0)
        return policy_fail(ret_reason,
                           "there is no limit '%s': expected one of setrlimit(2), such as "
                           "limit-nofile, limit-nproc, limit-as, limit-cpu, limit-fsize",
                           key);
    if (!policy_parse_number(value, true, &number))
        return policy_fail(ret_reason,
                           "'%s' does not fit '%s': expected a number (K, M or G may follow it)",
                           value, key);
    for (size_t i = 0; i < rule->limit_count; i++)
        if (rule->limits[i].resource == resource)
            return policy_fail(ret_reason, "'%s' comes twice in this group", key);
    struct program_limit *limits =
        reallocarray(rule->limits, rule->limit_count + 1, sizeof(*limits));
    if (!limits)
        return -ENOMEM;
    rule->limits = limits;
    limits[rule->limit_count++] = (struct program_limit){resource, number};
    return 0;
}

#define MEMBER(name) offsetof(struct program_rule, name)

static const struct policy_key rows[] = {
    {"path", POLICY_PATH, MEMBER(path), NULL, false},
    {"profiles", POLICY_PROFILES, MEMBER(profiles), NULL, false},
    {"arguments", POLICY_CUSTOM, 0, set_arguments, true},
    {"environment", POLICY_CUSTOM, 0, set_environment, false},
    {"user", POLICY_CUSTOM, 0, set_user, false},
    {"groups", POLICY_CUSTOM, 0, set_groups, false},
    {"cwd", POLICY_CUSTOM, 0, set_cwd, false},
    {"timeout", POLICY_COUNT, MEMBER(timeout_s), NULL, false},
    {"output-bytes", POLICY_SIZE, MEMBER(output_bytes), NULL, false},
    {"at-once", POLICY_COUNT, MEMBER(at_once), NULL, false},
    {"capabilities", POLICY_CUSTOM, 0, set_capabilities, false},
    {"new-privileges", POLICY_BOOL, MEMBER(may_gain_privileges), NULL, false},
    {"read-paths", POLICY_PATHS, MEMBER(read_paths), NULL, false},
    {"write-paths", POLICY_PATHS, MEMBER(write_paths), NULL, false},
    {"execute-paths", POLICY_PATHS, MEMBER(execute_paths), NULL, false},
    {"system-calls", POLICY_CUSTOM, 0, set_system_calls, false},
};

const struct policy_keys policy_program_keys = {"program NAME", rows, ARRAY_SIZE(rows)};

/* --- looking things up --- */

static int resolve_program_path(struct program_rule *rule, char **ret_reason)
{
    char true_path[PATH_MAX];
    struct stat status;
    if (!realpath(rule->path, true_path) || stat(true_path, &status) < 0)
        return policy_fail(ret_reason, "%s: %s", rule->path, strerror(errno));
    if (!S_ISREG(status.st_mode) || !(status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)))
        return policy_fail(ret_reason, "%s is no program", rule->path);
    _cleanup_free_ char *reason = NULL;
    int error = trusted_file_check(true_path, &reason);
    if (error < 0)
        return policy_fail(ret_reason, "%s: %s", rule->path, reason ? reason : strerror(-error));
    return policy_set_text(&rule->path, true_path);
}

static int resolve_user(struct program_rule *rule, char **ret_reason)
{
    uint64_t number;
    struct passwd *account = NULL;
    errno = 0;
    if (!policy_parse_number(rule->user, false, &number))
        account = getpwnam(rule->user);
    else if (number < UINT32_MAX)
        account = getpwuid((uid_t)number);
    if (!account)
        return policy_fail(ret_reason, "there is no user '%s'%s%s", rule->user, errno ? ": " : "",
                           errno ? strerror(errno) : "");
    rule->uid = account->pw_uid;
    rule->gid = account->pw_gid;
    return policy_set_text(&rule->home, account->pw_dir);
}

static int resolve_groups(struct program_rule *rule, char **ret_reason)
{
    free(rule->groups);
    rule->group_count = 0;
    rule->groups = calloc(rule->group_names.count + 1, sizeof(*rule->groups));
    if (!rule->groups)
        return -ENOMEM;
    for (size_t i = 0; i < rule->group_names.count; i++) {
        const char *name = rule->group_names.items[i];
        uint64_t number;
        if (policy_parse_number(name, false, &number) && number < UINT32_MAX) {
            rule->groups[rule->group_count++] = (gid_t)number;
            continue;
        }
        const struct group *group = getgrnam(name);
        if (!group)
            return policy_fail(ret_reason, "there is no group '%s'", name);
        rule->groups[rule->group_count++] = group->gr_gid;
    }
    return 0;
}

/* The kernel's rules are about true paths; what is not there yet stays as it is written. */
static int resolve_scope(struct text_list *paths)
{
    for (size_t i = 0; i < paths->count; i++) {
        char true_path[PATH_MAX];
        if (!realpath(paths->items[i], true_path))
            continue;
        int error = policy_set_text(&paths->items[i], true_path);
        if (error < 0)
            return error;
    }
    return 0;
}

/* What the program cannot be left with when it is begun, whoever begins it. */
static int check_filter(const struct program_rule *rule, char **ret_reason)
{
    bool may_filter = rule->capabilities & UINT64_C(1) << CAP_SYS_ADMIN;
    if (rule->system_calls.count > 0 && rule->may_gain_privileges && !may_filter)
        return policy_fail(ret_reason,
                           "'system-calls' and 'new-privileges = true' do not go together unless "
                           "'capabilities' has sys_admin: without it the kernel takes a list of "
                           "system calls only from what cannot gain privileges");
    return 0;
}

int policy_resolve_program(struct program_rule *rule, char **ret_reason)
{
    if (!rule->path)
        return policy_fail(ret_reason, "needs a path");
    for (unsigned i = 0; i < PROFILE_COUNT; i++)
        if (rule->profiles & PROFILE_BIT(i) && !profile_has_command(i, "guest-exec"))
            return policy_fail(ret_reason, "the profile %s has no guest-exec", profile_name(i));
    if (rule->profiles == 0)
        rule->profiles = PROFILE_ALL;
    if (rule->has_groups && !rule->has_user)
        return policy_fail(ret_reason, "groups need a user");
    int error = check_filter(rule, ret_reason);
    if (error == 0)
        error = resolve_program_path(rule, ret_reason);
    if (error == 0 && rule->has_user)
        error = resolve_user(rule, ret_reason);
    if (error == 0 && rule->has_groups)
        error = resolve_groups(rule, ret_reason);
    if (error == 0)
        error = resolve_scope(&rule->read_paths);
    if (error == 0)
        error = resolve_scope(&rule->write_paths);
    if (error == 0)
        error = resolve_scope(&rule->execute_paths);
    rule->has_scope =
        rule->read_paths.count + rule->write_paths.count + rule->execute_paths.count > 0;
    return error;
}
