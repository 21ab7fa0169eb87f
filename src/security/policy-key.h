/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_POLICY_KEY_H
#define BELLHOP_SECURITY_POLICY_KEY_H

/* The inside of the policy's parser: which keys a group has. For policy.c and its tests. */

#include "security/policy.h"

enum policy_kind {
    POLICY_BOOL,     /* bool: true or false */
    POLICY_COUNT,    /* uint64_t */
    POLICY_SIZE,     /* uint64_t: bytes; K, M or G may follow */
    POLICY_PATH,     /* char *: one absolute path */
    POLICY_WORDS,    /* struct text_list */
    POLICY_PATHS,    /* struct text_list of absolute paths */
    POLICY_PROFILES, /* unsigned: PROFILE_BIT()s */
    POLICY_CUSTOM,   /* `set` does it */
};

struct policy_key {
    const char *name;
    enum policy_kind kind;
    size_t offset; /* in the owner */
    int (*set)(void *owner, const char *value, char **ret_reason);
    bool may_repeat; /* each one adds something */
};

/* Keys of one kind of group; at most 64. */
struct policy_keys {
    const char *group; /* for messages */
    const struct policy_key *keys;
    size_t count;
};

extern const struct policy_keys policy_program_keys; /* owner: struct program_rule */
extern const struct policy_keys policy_file_keys;    /* owner: struct file_rule */

/* A key that stands for many, "limit-nofile". Returns -ENOENT if it is none of them. */
int policy_set_limit(struct program_rule *rule, const char *key, const char *value,
                     char **ret_reason) MUST_CHECK;

/* The second half, see policy_resolve(). The reasons have no place. */
int policy_resolve_program(struct program_rule *rule, char **ret_reason) MUST_CHECK;
int policy_resolve_file(struct file_rule *rule, char **ret_reason) MUST_CHECK;

#endif
