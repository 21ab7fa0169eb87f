/* SPDX-License-Identifier: MIT */
#include "security/policy.h"

#include <string.h>

#include "base/key-file.h"
#include "security/policy-key.h"
#include "security/policy-value.h"

static const char policy_group[] = "policy";

enum group_kind { GROUP_POLICY, GROUP_PROGRAM, GROUP_FILES, GROUP_NONE };

/* "program NAME" is the name's group; "files" alone is the settings'. */
static enum group_kind split_group(const char *group, const char **ret_name)
{
    static const struct {
        const char *word;
        enum group_kind kind;
    } words[] = {{"program", GROUP_PROGRAM}, {"files", GROUP_FILES}};
    *ret_name = NULL;
    if (strcmp(group, policy_group) == 0)
        return GROUP_POLICY;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
        size_t length = strlen(words[i].word);
        if (strncmp(group, words[i].word, length) != 0 ||
            (group[length] != ' ' && group[length] != '\t'))
            continue;
        *ret_name = group + length + strspn(group + length, " \t");
        return words[i].kind;
    }
    return strcmp(group, "program") == 0 ? GROUP_PROGRAM : GROUP_NONE;
}

bool policy_has_group(const char *group)
{
    const char *name;
    return split_group(group, &name) != GROUP_NONE;
}

static int check_name(const char *word, const char *name, char **ret_reason)
{
    static const char characters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    if (name && *name && !name[strspn(name, characters)] && strlen(name) <= 64)
        return 0;
    return policy_fail(ret_reason,
                       "'%s' is no name for a rule: expected [%s NAME] with a name of 1 to 64 "
                       "letters, digits, '-', '_' and '.'",
                       name ? name : "", word);
}

/* --- [policy] --- */

static int set_profile(void *owner, const char *value, char **ret_reason)
{
    struct policy *policy = owner;
    if (profile_from_name(value, &policy->profile) == 0)
        return 0;
    return policy_fail(ret_reason,
                       "there is no profile '%s': expected one of full, backup, provision, monitor",
                       value);
}

static int set_audit(void *owner, const char *value, char **ret_reason)
{
    struct policy *policy = owner;
    if (strcmp(value, "none") == 0) {
        free(take_ptr(&policy->audit));
        return 0;
    }
    if (strcmp(value, POLICY_AUDIT_LOG) == 0 || strcmp(value, POLICY_AUDIT_JOURNAL) == 0)
        return policy_set_text(&policy->audit, value);
    if (*value == '/')
        return policy_copy_path(value, &policy->audit, ret_reason);
    return policy_fail(ret_reason,
                       "'%s' does not fit 'audit': expected none, log, journal, or the absolute "
                       "path of a file",
                       value);
}

static int set_user(void *owner, const char *value, char **ret_reason)
{
    struct policy *policy = owner;
    if (!*value || strcmp(value, "root") == 0)
        return policy_fail(ret_reason, "'%s' does not fit 'user': expected a user's name, not root",
                           value);
    return policy_set_text(&policy->user, value);
}

static const struct policy_key policy_rows[] = {
    {"profile", POLICY_CUSTOM, 0, set_profile, false},
    {"strict", POLICY_BOOL, offsetof(struct policy, is_strict), NULL, false},
    {"user", POLICY_CUSTOM, 0, set_user, false},
    {"audit", POLICY_CUSTOM, 0, set_audit, false},
};

static const struct policy_keys policy_keys = {policy_group, policy_rows, ARRAY_SIZE(policy_rows)};

/* --- values --- */

static int set_paths(struct text_list *list, const char *value, char **ret_reason)
{
    _cleanup_(text_list_deinit) struct text_list words = {NULL, 0};
    int error = policy_split(value, &words);
    if (error == -EINVAL)
        return policy_fail(ret_reason, "a '\"' has no other one");
    for (size_t i = 0; i < words.count && error == 0; i++) {
        _cleanup_free_ char *path = NULL;
        error = policy_copy_path(words.items[i], &path, ret_reason);
        if (error == 0)
            error = text_list_append(list, path, strlen(path));
    }
    return error;
}

static int set_words(struct text_list *list, const char *value, char **ret_reason)
{
    int error = policy_split(value, list);
    return error == -EINVAL ? policy_fail(ret_reason, "a '\"' has no other one") : error;
}

static int set_number(uint64_t *number, const struct policy_key *key, const char *value,
                      char **ret_reason)
{
    bool is_size = key->kind == POLICY_SIZE;
    if (policy_parse_number(value, is_size, number))
        return 0;
    return policy_fail(ret_reason, "'%s' does not fit '%s': expected a number%s", value, key->name,
                       is_size ? " of bytes (K, M or G may follow it)" : "");
}

static int set_value(void *owner, const struct policy_key *key, const char *value,
                     char **ret_reason)
{
    void *member = (char *)owner + key->offset;
    switch (key->kind) {
    case POLICY_BOOL:
        if (key_file_decode_bool(value, member) < 0)
            return policy_fail(ret_reason, "'%s' does not fit '%s': expected true or false", value,
                               key->name);
        return 0;
    case POLICY_COUNT:
    case POLICY_SIZE:
        return set_number(member, key, value, ret_reason);
    case POLICY_PATH:
        return policy_copy_path(value, member, ret_reason);
    case POLICY_WORDS:
    case POLICY_PATHS:
        text_list_deinit(member);
        *(struct text_list *)member = (struct text_list){NULL, 0};
        return key->kind == POLICY_WORDS ? set_words(member, value, ret_reason)
                                         : set_paths(member, value, ret_reason);
    case POLICY_PROFILES:
        return policy_parse_profiles(value, member, ret_reason);
    case POLICY_CUSTOM:
        return key->set(owner, value, ret_reason);
    }
    return -EINVAL;
}

static int fail_unknown(const struct policy_keys *keys, const char *key, char **ret_reason)
{
    char list[512] = "";
    for (size_t i = 0; i < keys->count; i++) {
        size_t length = strlen(list);
        snprintf(list + length, sizeof(list) - length, "%s%s", i > 0 ? ", " : "",
                 keys->keys[i].name);
    }
    return policy_fail(ret_reason, "there is no key '%s' in [%s]: expected one of %s", key,
                       keys->group, list);
}

static int set_key(struct policy *policy, const struct policy_place *place, void *owner,
                   const struct policy_keys *keys, const char *key, const char *value,
                   char **ret_reason)
{
    for (size_t i = 0; i < keys->count; i++) {
        if (strcmp(keys->keys[i].name, key) != 0)
            continue;
        uint64_t bit = UINT64_C(1) << i;
        if (place->line > 0 && policy->keys_seen & bit && !keys->keys[i].may_repeat)
            return policy_fail(ret_reason, "'%s' comes twice in this group", key);
        policy->keys_seen |= bit;
        return set_value(owner, &keys->keys[i], value, ret_reason);
    }
    return fail_unknown(keys, key, ret_reason);
}

/* --- the rules' groups --- */

static int fail_again(const char *word, const char *name, const char *file, unsigned line,
                      char **ret_reason)
{
    return policy_fail(ret_reason, "there is a [%s %s] already, in %s:%u", word, name, file, line);
}

/* Finds the rule, or makes it: a header begins one, --set may add to one. */
static int find_program(struct policy *policy, const struct policy_place *place, const char *name,
                        bool is_header, struct program_rule **ret_rule, char **ret_reason)
{
    struct program_rule *rule = (struct program_rule *)program_rules_find(&policy->programs, name);
    if (rule && is_header)
        return fail_again("program", name, rule->file, rule->line, ret_reason);
    if (!rule) {
        rule = program_rules_append(&policy->programs);
        if (!rule)
            return -ENOMEM;
        rule->name = strdup(name);
        rule->file = strdup(place->file);
        rule->line = place->line;
        if (!rule->name || !rule->file)
            return -ENOMEM;
    }
    *ret_rule = rule;
    return 0;
}

static int find_files(struct policy *policy, const struct policy_place *place, const char *name,
                      bool is_header, struct file_rule **ret_rule, char **ret_reason)
{
    struct file_rule *rule = (struct file_rule *)file_rules_find(&policy->files, name);
    if (rule && is_header)
        return fail_again("files", name, rule->file, rule->line, ret_reason);
    if (!rule) {
        rule = file_rules_append(&policy->files);
        if (!rule)
            return -ENOMEM;
        rule->name = strdup(name);
        rule->file = strdup(place->file);
        rule->line = place->line;
        if (!rule->name || !rule->file)
            return -ENOMEM;
    }
    *ret_rule = rule;
    return 0;
}

static int set_in_program(struct policy *policy, const struct policy_place *place, const char *name,
                          const char *key, const char *value, char **ret_reason)
{
    struct program_rule *rule = NULL;
    int error = check_name("program", name, ret_reason);
    if (error == 0)
        error = find_program(policy, place, name, !key, &rule, ret_reason);
    if (error < 0 || !key)
        return error;
    error = policy_set_limit(rule, key, value, ret_reason);
    return error == -ENOENT
               ? set_key(policy, place, rule, &policy_program_keys, key, value, ret_reason)
               : error;
}

static int set_in_files(struct policy *policy, const struct policy_place *place, const char *name,
                        const char *key, const char *value, char **ret_reason)
{
    struct file_rule *rule = NULL;
    int error = check_name("files", name, ret_reason);
    if (error == 0)
        error = find_files(policy, place, name, !key, &rule, ret_reason);
    if (error < 0 || !key)
        return error;
    return set_key(policy, place, rule, &policy_file_keys, key, value, ret_reason);
}

int policy_set(struct policy *policy, const struct policy_place *place, const char *group,
               const char *key, const char *value, char **ret_reason)
{
    const char *name;
    enum group_kind kind = split_group(group, &name);
    _cleanup_free_ char *trimmed = value ? strdup(value) : NULL;
    if (value && !trimmed)
        return -ENOMEM;
    for (size_t length = value ? strlen(value) : 0; length > 0; length--) {
        if (!strchr(" \t\r", trimmed[length - 1]))
            break;
        trimmed[length - 1] = '\0';
    }
    if (!key)
        policy->keys_seen = 0;
    switch (kind) {
    case GROUP_POLICY:
        return key ? set_key(policy, place, policy, &policy_keys, key, trimmed, ret_reason) : 0;
    case GROUP_PROGRAM:
        return set_in_program(policy, place, name, key, trimmed, ret_reason);
    case GROUP_FILES:
        return set_in_files(policy, place, name, key, trimmed, ret_reason);
    case GROUP_NONE:
        break;
    }
    return policy_fail(ret_reason, "there is no group [%s]", group);
}

/* --- all together --- */

/* Puts the place before the reason. */
static int locate(int error, const char *word, const char *name, const char *file, unsigned line,
                  char **ret_reason)
{
    _cleanup_free_ char *reason = take_ptr(ret_reason);
    if (error == -ENOMEM || !reason)
        return -ENOMEM;
    if (line == 0)
        return policy_fail(ret_reason, "%s: [%s %s]: %s", file, word, name, reason);
    return policy_fail(ret_reason, "%s:%u: [%s %s]: %s", file, line, word, name, reason);
}

/* Two rules that say different things of the same folder to the same profile. */
static int check_overlap(const struct policy *policy, size_t index, char **ret_reason)
{
    const struct file_rule *rule = &policy->files.rules[index];
    for (size_t i = 0; i < index; i++) {
        const struct file_rule *other = &policy->files.rules[i];
        if (rule->profiles & other->profiles && strcmp(rule->path, other->path) == 0)
            return policy_fail(ret_reason,
                               "[files %s] has the same path, '%s', for the same profile",
                               other->name, rule->path);
    }
    return 0;
}

int policy_resolve(struct policy *policy, char **ret_reason)
{
    for (size_t i = 0; i < policy->programs.count; i++) {
        struct program_rule *rule = &policy->programs.rules[i];
        int error = policy_resolve_program(rule, ret_reason);
        if (error < 0)
            return locate(error, "program", rule->name, rule->file, rule->line, ret_reason);
    }
    for (size_t i = 0; i < policy->files.count; i++) {
        struct file_rule *rule = &policy->files.rules[i];
        int error = policy_resolve_file(rule, ret_reason);
        if (error == 0)
            error = check_overlap(policy, i, ret_reason);
        if (error < 0)
            return locate(error, "files", rule->name, rule->file, rule->line, ret_reason);
    }
    return 0;
}

void policy_deinit(struct policy *policy)
{
    free(take_ptr(&policy->user));
    free(take_ptr(&policy->audit));
    program_rules_deinit(&policy->programs);
    file_rules_deinit(&policy->files);
}
