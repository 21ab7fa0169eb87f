/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_PROGRAM_RULE_H
#define BELLHOP_SECURITY_PROGRAM_RULE_H

/*
 * The rules for programs: which may be run, with which arguments, and as what. A rule is what a
 * [program NAME] group says (docs/policy.md has every key), made ready at the start: files and
 * accounts are looked up there, so that matching is pure.
 *
 * Deny first: as soon as there is one rule, only what a rule allows is run; in every profile but
 * `full` that is so without any, too.
 *
 * Filled before the broker is forked and before there is any thread, then never changed: the agent
 * and the broker's copy of it mean the same.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/text-list.h"

/*
 * One way in which the program may be called: a pattern for each of its arguments.
 *
 * In a pattern '?' is one character and '*' any number of them, neither of them '/'; "**" is any
 * number of any; '\' takes the next character's meaning away. One that begins with a wildcard does
 * not match an argument that begins with '-': what stands for a value is not to become an option.
 * An argument with ".." between slashes is only matched by a pattern that has a ".." itself, one of
 * more than PROGRAM_ARGUMENT_MAX bytes only by a plain "**" (which matches any that is no option).
 */
struct program_call {
    struct text_list patterns;
    bool allows_more; /* it ended with "...": any further arguments */
};

enum { PROGRAM_ARGUMENT_MAX = 4096 };

/* Of setrlimit(2): soft and hard. */
struct program_limit {
    int resource;
    uint64_t value;
};

struct program_rule {
    char *name;    /* of [program NAME] */
    char *file;    /* where it stands, for messages */
    unsigned line; /* of its header */

    unsigned profiles; /* PROFILE_BIT()s; those that it is for */

    char *path;                 /* the program: absolute, without symbolic links */
    struct program_call *calls; /* any of these; none: any arguments */
    size_t call_count;

    /* The account. Without one: the broker's own. With `user_is_free` the client names it. */
    char *user;
    bool has_user;
    bool user_is_free;
    uid_t uid;
    gid_t gid;
    char *home;
    struct text_list group_names; /* as they stand there */
    gid_t *groups; /* `group_count` supplementary ones; without `has_groups`: the account's own */
    size_t group_count;
    bool has_groups;

    char *cwd;        /* absolute; NULL: "/" */
    bool cwd_is_free; /* the client may name another */

    struct text_list environment; /* names of members that the client may give; none: none at all */

    uint64_t timeout_s;    /* the longest it may run; 0: no limit */
    uint64_t output_bytes; /* kept of each stream; 0: the settings' limit */
    uint64_t at_once;      /* running under this rule; 0: no limit */

    uint64_t capabilities;   /* those that it keeps, as 1 << CAP_...; else it has none */
    bool has_capabilities;   /* false: the key is not there, which is none */
    bool may_gain_privileges; /* else no_new_privs */

    /* What it may do with files (Landlock), each absolute; without `has_scope`: no such limit. */
    struct text_list read_paths;
    struct text_list write_paths;
    struct text_list execute_paths;
    bool has_scope;

    struct text_list system_calls; /* names, "@set"s, each perhaps after '!'; none: no such limit */

    struct program_limit *limits;
    size_t limit_count;
};

struct program_rules {
    struct program_rule *rules;
    size_t count;
};

/* What somebody wants to run. Borrowed, plain. */
struct program_request {
    unsigned profile;
    const char *path; /* resolved: absolute, without symbolic links */
    const char *const *arguments; /* without the program's own name */
    size_t argument_count;
    const char *const *environment; /* NAME=VALUE */
    size_t environment_count;
    const char *user; /* NULL: none was asked for; the same of the next */
    const char *cwd;
};

#define PROGRAM_REFUSAL_MAX 512

/*
 * Looks for the rule that allows it: the first one, in the order of the files. Returns 0 with the rule,
 * or with NULL where the profile runs anything because there is no rule; or -EPERM and a text for the
 * client that names the rule that refused. No I/O, no allocation: for any thread, and the broker.
 */
int program_rules_match(const struct program_rules *rules, const struct program_request *request,
                        const struct program_rule **ret_rule,
                        char ret_reason[PROGRAM_REFUSAL_MAX]) MUST_CHECK;

/* True if the pattern matches that argument. */
bool program_pattern_matches(const char *pattern, const char *argument);

/* True if programs of that profile are limited by rules at all. */
bool program_rules_apply(const struct program_rules *rules, unsigned profile);

/* The rule of that name, or NULL. */
const struct program_rule *program_rules_find(const struct program_rules *rules, const char *name);

/* Appends a zeroed rule. NULL: no memory. Valid until the next one is appended. */
struct program_rule *program_rules_append(struct program_rules *rules);
void program_rules_deinit(struct program_rules *rules);

#endif
