/* SPDX-License-Identifier: MIT */

/* The policy in words: what `bellhopd --check` shows of it. */

#include "security/policy.h"

#include <inttypes.h>

#include "base/buffer.h"
#include "security/policy-value.h"

/* Of the profiles those that have the command, also if only the `others` among them by a rule. */
static void describe_profiles(struct buffer *out, unsigned profiles, const char *command,
                              unsigned others)
{
    const char *separator = "    for the profiles ";
    for (unsigned i = 0; i < PROFILE_COUNT; i++) {
        if (!(profiles & PROFILE_BIT(i)) ||
            !(profile_has_command(i, command) || others & PROFILE_BIT(i)))
            continue;
        buffer_append_format(out, "%s%s", separator, profile_name(i));
        separator = ", ";
    }
    buffer_append_text(out, "\n");
}

static void describe_words(struct buffer *out, const char *what, const struct text_list *words)
{
    if (words->count == 0)
        return;
    buffer_append_format(out, "    %s", what);
    for (size_t i = 0; i < words->count; i++)
        buffer_append_format(out, " %s", words->items[i]);
    buffer_append_text(out, "\n");
}

static void describe_calls(struct buffer *out, const struct program_rule *rule)
{
    if (rule->call_count == 0)
        buffer_append_text(out, "    any arguments\n");
    for (size_t i = 0; i < rule->call_count; i++) {
        const struct program_call *call = &rule->calls[i];
        buffer_append_format(out, "    arguments:");
        for (size_t j = 0; j < call->patterns.count; j++)
            buffer_append_format(out, " \"%s\"", call->patterns.items[j]);
        if (call->patterns.count == 0 && !call->allows_more)
            buffer_append_text(out, " none");
        buffer_append_text(out, call->allows_more ? " and any after it\n" : "\n");
    }
}

static void describe_account(struct buffer *out, const struct program_rule *rule)
{
    if (rule->user_is_free)
        buffer_append_text(out, "    as the user that the client names\n");
    else if (rule->has_user)
        buffer_append_format(out, "    as %s (user %u, group %u)\n", rule->user,
                             (unsigned)rule->uid, (unsigned)rule->gid);
    for (size_t i = 0; i < rule->group_count; i++)
        buffer_append_format(out, "%s%u%s", i == 0 ? "    with the groups " : ", ",
                             (unsigned)rule->groups[i], i + 1 == rule->group_count ? "\n" : "");
    if (rule->cwd_is_free)
        buffer_append_text(out, "    in the folder that the client names\n");
    else if (rule->cwd)
        buffer_append_format(out, "    in %s\n", rule->cwd);
}

static void describe_capabilities(struct buffer *out, const struct program_rule *rule)
{
    buffer_append_text(out, "    capabilities:");
    if (rule->capabilities == UINT64_MAX)
        buffer_append_text(out, " all");
    else if (rule->capabilities == 0)
        buffer_append_text(out, " none");
    for (unsigned i = 0; i < 64 && rule->capabilities != UINT64_MAX; i++)
        if (rule->capabilities >> i & 1 && policy_capability_name(i))
            buffer_append_format(out, " %s", policy_capability_name(i));
    buffer_append_text(out, rule->may_gain_privileges ? "; may gain privileges\n" : "\n");
}

static void describe_number(struct buffer *out, const char *what, uint64_t number, const char *unit)
{
    if (number > 0)
        buffer_append_format(out, "    %s %" PRIu64 "%s\n", what, number, unit);
}

static void describe_program(struct buffer *out, const struct program_rule *rule)
{
    buffer_append_format(out, "[program %s] (%s:%u): %s\n", rule->name, rule->file, rule->line,
                         rule->path);
    describe_profiles(out, rule->profiles, "guest-exec", 0);
    describe_calls(out, rule);
    describe_words(out, "environment:", &rule->environment);
    describe_account(out, rule);
    describe_number(out, "for at most", rule->timeout_s, " s");
    describe_number(out, "output: at most", rule->output_bytes, " bytes");
    describe_number(out, "at once: at most", rule->at_once, "");
    describe_capabilities(out, rule);
    describe_words(out, "may read:", &rule->read_paths);
    describe_words(out, "may write:", &rule->write_paths);
    describe_words(out, "may execute:", &rule->execute_paths);
    describe_words(out, "system calls:", &rule->system_calls);
    for (size_t i = 0; i < rule->limit_count; i++)
        buffer_append_format(out, "    limit of %s: %" PRIu64 "\n",
                             policy_limit_name(rule->limits[i].resource), rule->limits[i].value);
}

static void describe_files(struct buffer *out, const struct file_rule *rule, unsigned opening)
{
    static const struct {
        unsigned access;
        const char *name;
    } names[] = {
        {FILE_READ, "read"},
        {FILE_WRITE, "write"},
        {FILE_CREATE, "create"},
        {FILE_SPECIAL, "devices, FIFOs and sockets, too"},
        {FILE_LINKED, "files with more than one link, too"},
    };
    buffer_append_format(out, "[files %s] (%s:%u): %s\n", rule->name, rule->file, rule->line,
                         rule->path);
    describe_profiles(out, rule->profiles, "guest-file-open", opening);
    const char *separator = "    ";
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (!(rule->access & names[i].access))
            continue;
        buffer_append_format(out, "%s%s", separator, names[i].name);
        separator = ", ";
    }
    buffer_append_text(out, rule->access ? "\n" : "    nothing\n");
}

void policy_describe(const struct policy *policy, struct buffer *out)
{
    buffer_append_format(out, "profile: %s%s\n", profile_name(policy->profile),
                         policy->is_strict ? " (strict)" : "");
    buffer_append_format(out, "audit: %s\n", policy->audit ? policy->audit : "none");
    for (size_t i = 0; i < policy->programs.count; i++)
        describe_program(out, &policy->programs.rules[i]);
    for (size_t i = 0; i < policy->files.count; i++)
        describe_files(out, &policy->files.rules[i], file_rules_profiles(&policy->files));
}
