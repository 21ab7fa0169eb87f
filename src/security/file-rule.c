/* SPDX-License-Identifier: MIT */
#include "security/file-rule.h"

#include <stdio.h>
#include <string.h>

#include "security/profile.h"

/* Of a path in a refusal. */
enum { SHOWN_BYTES = 200 };

bool file_rules_apply(const struct file_rules *rules, unsigned profile)
{
    return rules->count > 0 || profile_needs_rules(profile);
}

unsigned file_rules_profiles(const struct file_rules *rules)
{
    unsigned profiles = 0;
    for (size_t i = 0; i < rules->count; i++)
        if (rules->rules[i].names_profiles)
            profiles |= rules->rules[i].profiles;
    return profiles;
}

bool file_path_is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    if (length == 1) /* "/" */
        return true;
    return strncmp(path, folder, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static const struct file_rule *find_deciding(const struct file_rules *rules, unsigned profile,
                                             const char *path)
{
    const struct file_rule *best = NULL;
    size_t best_length = 0;
    for (size_t i = 0; i < rules->count; i++) {
        const struct file_rule *rule = &rules->rules[i];
        if (!(rule->profiles & PROFILE_BIT(profile)) || !file_path_is_below(path, rule->path))
            continue;
        size_t length = strlen(rule->path);
        if (!best || length > best_length) {
            best = rule;
            best_length = length;
        }
    }
    return best;
}

/* What is wanted and not allowed, the most telling first. */
static const char *describe_missing(unsigned missing)
{
    if (missing & FILE_SPECIAL)
        return "devices, FIFOs and sockets";
    if (missing & FILE_CREATE)
        return "creating a file";
    if (missing & FILE_WRITE)
        return "writing";
    if (missing & FILE_LINKED)
        return "writing to a file that has more than one link";
    return "reading";
}

int file_rules_match(const struct file_rules *rules, unsigned profile, const char *path,
                     unsigned access, const struct file_rule **ret_rule,
                     char ret_reason[FILE_REFUSAL_MAX])
{
    *ret_rule = NULL;
    if (!file_rules_apply(rules, profile))
        return 0;
    const struct file_rule *rule =
        profile < PROFILE_COUNT ? find_deciding(rules, profile, path) : NULL;
    *ret_rule = rule;
    if (!rule) {
        snprintf(ret_reason, FILE_REFUSAL_MAX, "no [files] rule of the profile %s has '%.*s'",
                 profile_name(profile), SHOWN_BYTES, path);
        return -EPERM;
    }
    if (access & ~rule->access) {
        snprintf(ret_reason, FILE_REFUSAL_MAX, "the rule [files %.64s] does not allow %s",
                 rule->name, describe_missing(access & ~rule->access));
        return -EPERM;
    }
    return 0;
}

const struct file_rule *file_rules_find(const struct file_rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->count; i++)
        if (strcmp(rules->rules[i].name, name) == 0)
            return &rules->rules[i];
    return NULL;
}

struct file_rule *file_rules_append(struct file_rules *rules)
{
    struct file_rule *array = reallocarray(rules->rules, rules->count + 1, sizeof(*array));
    if (!array)
        return NULL;
    rules->rules = array;
    array[rules->count] = (struct file_rule){.name = NULL};
    return &array[rules->count++];
}

void file_rules_deinit(struct file_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        free(rules->rules[i].name);
        free(rules->rules[i].file);
        free(rules->rules[i].path);
    }
    free(rules->rules);
    *rules = (struct file_rules){NULL, 0};
}
