/* SPDX-License-Identifier: MIT */
#include "security/program-rule.h"

#include <stdio.h>
#include <string.h>

#include "security/profile.h"

/* Of a path or name in a refusal. */
enum { SHOWN_BYTES = 200, SHOWN_REASON_BYTES = 400 };

/* --- one argument --- */

static bool is_wild(char character)
{
    return character == '*' || character == '?';
}

/* True if ".." is one of the text's parts between slashes. */
static bool has_dot_dot(const char *text)
{
    for (const char *at = text; (at = strstr(at, "..")); at++) {
        bool begins = at == text || at[-1] == '/' || at[-1] == '=';
        if (begins && (at[2] == '\0' || at[2] == '/'))
            return true;
    }
    return false;
}

/* Where to go on from if what follows a wildcard does not fit: with one more character in it. */
struct retreat {
    const char *pattern; /* NULL: there was no such wildcard */
    const char *text;
};

/* Takes the last "*" one character further, or else the last "**". False: neither can be. */
static bool step_back(struct retreat *narrow, struct retreat *wide, const char **pattern,
                      const char **text)
{
    struct retreat *to = narrow->pattern && *narrow->text && *narrow->text != '/' ? narrow : wide;
    if (!to->pattern || !*to->text)
        return false;
    if (to == wide)
        narrow->pattern = NULL;
    *pattern = to->pattern;
    *text = ++to->text;
    return true;
}

/* The last wildcard of each width is all that has to be tried again: an earlier one of its kind
 * that took more would only leave less for the later. */
static bool matches(const char *pattern, const char *text)
{
    struct retreat narrow = {NULL, NULL}, wide = {NULL, NULL};
    for (;;) {
        if (*pattern == '*') {
            bool is_wide = pattern[1] == '*';
            pattern += is_wide ? 2 : 1;
            if (is_wide)
                narrow.pattern = NULL;
            *(is_wide ? &wide : &narrow) = (struct retreat){pattern, text};
            continue;
        }
        if (!*pattern && !*text)
            return true;
        bool is_any = *pattern == '?';
        const char *literal = *pattern == '\\' && pattern[1] ? pattern + 1 : pattern;
        if (*pattern && *text && (is_any ? *text != '/' : *literal == *text)) {
            pattern = literal + 1;
            text++;
        } else if (!step_back(&narrow, &wide, &pattern, &text)) {
            return false;
        }
    }
}

bool program_pattern_matches(const char *pattern, const char *argument)
{
    if (is_wild(*pattern) && *argument == '-')
        return false;
    if (strcmp(pattern, "**") == 0)
        return true;
    if (strnlen(argument, PROGRAM_ARGUMENT_MAX + 1) > PROGRAM_ARGUMENT_MAX)
        return false;
    if (has_dot_dot(argument) && !strstr(pattern, ".."))
        return false;
    return matches(pattern, argument);
}

/* --- all of them --- */

static bool call_matches(const struct program_call *call, const struct program_request *request)
{
    size_t count = call->patterns.count;
    if (request->argument_count < count || (request->argument_count > count && !call->allows_more))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!program_pattern_matches(call->patterns.items[i], request->arguments[i]))
            return false;
    return true;
}

static bool arguments_match(const struct program_rule *rule, const struct program_request *request)
{
    for (size_t i = 0; i < rule->call_count; i++)
        if (call_matches(&rule->calls[i], request))
            return true;
    return rule->call_count == 0;
}

/* The first member that may not be given, or NULL. */
static const char *refused_member(const struct program_rule *rule,
                                  const struct program_request *request)
{
    for (size_t i = 0; i < request->environment_count; i++) {
        const char *member = request->environment[i];
        size_t length = strcspn(member, "=");
        bool is_allowed = false;
        for (size_t j = 0; j < rule->environment.count && !is_allowed; j++)
            is_allowed = strncmp(rule->environment.items[j], member, length) == 0 &&
                         rule->environment.items[j][length] == '\0';
        if (!is_allowed)
            return member;
    }
    return NULL;
}

/* Returns true, or false with what the rule does not allow. */
static bool rule_allows(const struct program_rule *rule, const struct program_request *request,
                        char ret_reason[PROGRAM_REFUSAL_MAX])
{
    const char *member = refused_member(rule, request);
    if (!arguments_match(rule, request))
        snprintf(ret_reason, PROGRAM_REFUSAL_MAX,
                 "the rule [program %.*s] does not allow these arguments", SHOWN_BYTES, rule->name);
    else if (member)
        snprintf(ret_reason, PROGRAM_REFUSAL_MAX,
                 "the rule [program %.*s] does not allow '%.*s' in 'env'", SHOWN_BYTES, rule->name,
                 (int)strnlen(member, strcspn(member, "=") < 64 ? strcspn(member, "=") : 64),
                 member);
    else if (request->user && !rule->user_is_free &&
             !(rule->user && strcmp(rule->user, request->user) == 0))
        snprintf(ret_reason, PROGRAM_REFUSAL_MAX,
                 "the rule [program %.*s] does not allow the user '%.64s'", SHOWN_BYTES, rule->name,
                 request->user);
    else if (request->cwd && !rule->cwd_is_free &&
             !(rule->cwd && strcmp(rule->cwd, request->cwd) == 0))
        snprintf(ret_reason, PROGRAM_REFUSAL_MAX,
                 "the rule [program %.*s] does not allow the working directory '%.*s'", SHOWN_BYTES,
                 rule->name, SHOWN_BYTES, request->cwd);
    else
        return true;
    return false;
}

bool program_rules_apply(const struct program_rules *rules, unsigned profile)
{
    return rules->count > 0 || profile_needs_rules(profile);
}

int program_rules_match(const struct program_rules *rules, const struct program_request *request,
                        const struct program_rule **ret_rule, char ret_reason[PROGRAM_REFUSAL_MAX])
{
    bool has_reason = false;
    *ret_rule = NULL;
    if (!program_rules_apply(rules, request->profile))
        return 0;
    for (size_t i = 0; i < rules->count; i++) {
        const struct program_rule *rule = &rules->rules[i];
        if (request->profile >= PROFILE_COUNT || strcmp(rule->path, request->path) != 0 ||
            !(rule->profiles & PROFILE_BIT(request->profile)))
            continue;
        char reason[PROGRAM_REFUSAL_MAX];
        if (rule_allows(rule, request, reason)) {
            *ret_rule = rule;
            return 0;
        }
        /* Of several rules for one program the first one's reason is as good as any. */
        if (!has_reason && rule->file)
            snprintf(ret_reason, PROGRAM_REFUSAL_MAX, "%.*s (%.*s:%u)", SHOWN_REASON_BYTES, reason,
                     SHOWN_BYTES / 2, rule->file, rule->line);
        else if (!has_reason)
            memcpy(ret_reason, reason, sizeof(reason));
        has_reason = true;
    }
    if (!has_reason)
        snprintf(ret_reason, PROGRAM_REFUSAL_MAX,
                 "no [program] rule of the profile %s allows '%.*s'",
                 profile_name(request->profile), SHOWN_BYTES, request->path);
    return -EPERM;
}

const struct program_rule *program_rules_find(const struct program_rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->count; i++)
        if (strcmp(rules->rules[i].name, name) == 0)
            return &rules->rules[i];
    return NULL;
}

/* --- their life --- */

struct program_rule *program_rules_append(struct program_rules *rules)
{
    struct program_rule *array = reallocarray(rules->rules, rules->count + 1, sizeof(*array));
    if (!array)
        return NULL;
    rules->rules = array;
    array[rules->count] = (struct program_rule){.name = NULL};
    return &array[rules->count++];
}

static void rule_deinit(struct program_rule *rule)
{
    for (size_t i = 0; i < rule->call_count; i++)
        text_list_deinit(&rule->calls[i].patterns);
    free(rule->calls);
    free(rule->name);
    free(rule->file);
    free(rule->path);
    free(rule->user);
    free(rule->home);
    text_list_deinit(&rule->group_names);
    free(rule->groups);
    free(rule->cwd);
    text_list_deinit(&rule->environment);
    text_list_deinit(&rule->read_paths);
    text_list_deinit(&rule->write_paths);
    text_list_deinit(&rule->execute_paths);
    text_list_deinit(&rule->system_calls);
    free(rule->limits);
}

void program_rules_deinit(struct program_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        rule_deinit(&rules->rules[i]);
    free(rules->rules);
    *rules = (struct program_rules){NULL, 0};
}
