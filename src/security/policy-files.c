/* SPDX-License-Identifier: MIT */

/* What a [files NAME] group says. */

#include "security/policy-key.h"

#include <limits.h>
#include <string.h>

#include "base/key-file.h"
#include "security/policy-value.h"

static int set_flag(struct file_rule *rule, const char *name, unsigned flag, const char *value,
                    char **ret_reason)
{
    bool is_allowed;
    if (key_file_decode_bool(value, &is_allowed) < 0)
        return policy_fail(ret_reason, "'%s' does not fit '%s': expected true or false", value,
                           name);
    rule->access = is_allowed ? rule->access | flag : rule->access & ~flag;
    return 0;
}

static int set_special(void *owner, const char *value, char **ret_reason)
{
    return set_flag(owner, "special", FILE_SPECIAL, value, ret_reason);
}

static int set_hard_links(void *owner, const char *value, char **ret_reason)
{
    return set_flag(owner, "hard-links", FILE_LINKED, value, ret_reason);
}

/* "read, write, create", or "none", which takes something out of another rule's folder. */
static int set_access(void *owner, const char *value, char **ret_reason)
{
    static const struct {
        const char *name;
        unsigned access;
    } names[] = {{"none", 0}, {"read", FILE_READ}, {"write", FILE_WRITE}, {"create", FILE_CREATE}};
    _cleanup_(text_list_deinit) struct text_list words = {NULL, 0};
    struct file_rule *rule = owner;
    unsigned access = 0;
    int error = policy_split(value, &words);
    if (error == -ENOMEM)
        return error;
    bool is_good = error == 0 && words.count > 0;
    for (size_t i = 0; i < words.count && is_good; i++) {
        size_t at = 0;
        while (at < ARRAY_SIZE(names) && strcmp(names[at].name, words.items[i]) != 0)
            at++;
        is_good = at < ARRAY_SIZE(names) && (at > 0 || words.count == 1);
        access |= is_good ? names[at].access : 0;
    }
    if (!is_good || (access & (FILE_CREATE | FILE_WRITE)) == FILE_CREATE)
        return policy_fail(ret_reason,
                           "'%s' does not fit 'access': expected none, or some of read, write, "
                           "create (which needs write)",
                           value);
    rule->access = (rule->access & (FILE_SPECIAL | FILE_LINKED)) | access;
    rule->has_access = true;
    return 0;
}

static const struct policy_key rows[] = {
    {"path", POLICY_PATH, offsetof(struct file_rule, path), NULL, false},
    {"access", POLICY_CUSTOM, 0, set_access, false},
    {"special", POLICY_CUSTOM, 0, set_special, false},
    {"hard-links", POLICY_CUSTOM, 0, set_hard_links, false},
    {"profiles", POLICY_PROFILES, offsetof(struct file_rule, profiles), NULL, false},
};

const struct policy_keys policy_file_keys = {"files NAME", rows, ARRAY_SIZE(rows)};

/*
 * The true path of what is there, and behind it what is not there yet. If that is made as a link
 * one day, what is behind the link has another path, and no rule.
 */
static int resolve_path(char **path)
{
    char true_path[PATH_MAX];
    _cleanup_free_ char *copy = strdup(*path);
    if (!copy)
        return -ENOMEM;
    size_t end = strlen(copy);
    while (!realpath(end > 0 ? copy : "/", true_path)) {
        if ((errno != ENOENT && errno != ENOTDIR) || end == 0)
            return -errno;
        while (end > 0 && copy[--end] != '/')
            ;
        copy[end] = '\0';
    }
    char *full = NULL;
    const char *rest = *path + end;
    if (strcmp(true_path, "/") == 0 && *rest == '/')
        true_path[0] = '\0';
    if (asprintf(&full, "%s%s", true_path, strcmp(*path, "/") == 0 ? "" : rest) < 0)
        return -ENOMEM;
    free(*path);
    *path = full;
    return 0;
}

int policy_resolve_file(struct file_rule *rule, char **ret_reason)
{
    if (!rule->path)
        return policy_fail(ret_reason, "needs a path");
    if (!rule->has_access)
        return policy_fail(ret_reason, "needs access: none, or some of read, write, create");
    for (unsigned i = 0; i < PROFILE_COUNT; i++)
        if (rule->profiles & PROFILE_BIT(i) && !profile_has_command(i, "guest-file-open") &&
            !profile_has_by_file_rule(i, "guest-file-open"))
            return policy_fail(ret_reason, "the profile %s has no guest-file-open",
                               profile_name(i));
    rule->names_profiles = rule->profiles != 0;
    if (!rule->names_profiles)
        rule->profiles = PROFILE_ALL;
    int error = resolve_path(&rule->path);
    if (error < 0 && error != -ENOMEM)
        return policy_fail(ret_reason, "%s: %s", rule->path, strerror(-error));
    return error;
}
