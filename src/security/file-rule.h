/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_FILE_RULE_H
#define BELLHOP_SECURITY_FILE_RULE_H

/*
 * The rules for files: what guest-file-open may do below which path. A rule is what a [files NAME]
 * group says (docs/policy.md has every key). Of the rules whose path leads to the object, the one
 * with the longest path decides, so a rule that allows nothing takes a folder out of another one's.
 *
 * Deny first: as soon as there is one rule, only what a rule allows is opened; in every profile but
 * `full` that is so without any, too.
 *
 * Filled at the start, then never changed: any thread. Matching does no I/O; what the object really
 * is finds security/object-gate.h.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

enum file_access {
    FILE_READ = 1 << 0,
    FILE_WRITE = 1 << 1,
    FILE_CREATE = 1 << 2,  /* a file that is not there yet */
    FILE_SPECIAL = 1 << 3, /* a device, FIFO or socket */
    FILE_LINKED = 1 << 4,  /* written, and it has more names than this one */
};

struct file_rule {
    char *name;    /* of [files NAME] */
    char *file;    /* where it stands, for messages */
    unsigned line; /* of its header */

    unsigned profiles; /* PROFILE_BIT()s; those that it is for */
    bool names_profiles; /* the key is there: these open files, then */
    char *path;        /* absolute, without symbolic links, without a '/' at its end */
    unsigned access;   /* FILE_...: what it allows; 0: nothing */
    bool has_access;   /* the key is there */
};

struct file_rules {
    struct file_rule *rules;
    size_t count;
};

#define FILE_REFUSAL_MAX 512

/* The profiles that open files because a rule names them, as PROFILE_BIT()s. */
unsigned file_rules_profiles(const struct file_rules *rules);

/* True if files of that profile are limited by rules at all. */
bool file_rules_apply(const struct file_rules *rules, unsigned profile);

/* True if the path is the folder (or file) itself, or lies below it. Both absolute. */
bool file_path_is_below(const char *path, const char *folder);

/*
 * Looks for the rule that decides on `access` to the object at `path`, which is its true one:
 * absolute, without symbolic links. Returns 0 with the rule, or with NULL where the profile opens
 * anything because there is no rule; or -EPERM and a text for the client that names the rule that refused,
 * which is returned, too, if there is one.
 */
int file_rules_match(const struct file_rules *rules, unsigned profile, const char *path,
                     unsigned access, const struct file_rule **ret_rule,
                     char ret_reason[FILE_REFUSAL_MAX]) MUST_CHECK;

/* The rule of that name, or NULL. */
const struct file_rule *file_rules_find(const struct file_rules *rules, const char *name);

/* Appends a zeroed rule. NULL: no memory. Valid until the next one is appended. */
struct file_rule *file_rules_append(struct file_rules *rules);
void file_rules_deinit(struct file_rules *rules);

#endif
