/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_POLICY_H
#define BELLHOP_SECURITY_POLICY_H

/*
 * The policy: the profile, the rules for programs and files, and what is audited. It is what the
 * groups [policy], [program NAME] and [files NAME] say, in bellhop.conf and in the files of
 * policy.d; docs/policy.md has every key. config.c reads the files and gives entry by entry to
 * policy_set(); policy_resolve() then looks up what the names stand for (files, accounts).
 *
 * Deny first: what is not understood is an error, and nothing of it is in force then.
 *
 * Start-up only, until it is resolved; then never changed: any thread, and the broker's copy.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "security/file-rule.h"
#include "security/profile.h"
#include "security/program-rule.h"

struct buffer;

/* audit= that is no file's path. */
#define POLICY_AUDIT_LOG     "log"
#define POLICY_AUDIT_JOURNAL "journal"

#define POLICY_DEFAULT_USER "bellhop"

struct policy {
    enum profile profile; /* of channels that name none */
    bool is_strict;       /* a sandbox that cannot be had is fatal */
    char *user;           /* of the agent in every profile but `full`; NULL: POLICY_DEFAULT_USER */
    char *audit;          /* POLICY_AUDIT_..., or an absolute path; NULL: nowhere */
    struct program_rules programs;
    struct file_rules files;

    /* of the group that is being read: its rule's keys that came already */
    uint64_t keys_seen;
};

/* Where an entry stands; `line` 0: not in a file, so that it may replace an earlier one. */
struct policy_place {
    const char *file;
    unsigned line;
};

/* True if a group of that name is the policy's. */
bool policy_has_group(const char *group);

/*
 * Enters a value, with its escapes resolved, or a group's header, for which `key` and `value` are
 * NULL. Does no I/O. Returns 0; -EINVAL with what is wrong in `ret_reason` (malloc'ed, without the
 * place); or -ENOMEM.
 */
int policy_set(struct policy *policy, const struct policy_place *place, const char *group,
               const char *key, const char *value, char **ret_reason) MUST_CHECK;

/*
 * Looks up programs, folders and accounts, and checks what one entry alone cannot tell. Returns 0;
 * -EINVAL with what is wrong, and where, in `ret_reason` (malloc'ed); or -ENOMEM.
 */
int policy_resolve(struct policy *policy, char **ret_reason) MUST_CHECK;

/* Appends the rules in words, one line each and more below it, for `bellhopd --check`. */
void policy_describe(const struct policy *policy, struct buffer *out);

void policy_deinit(struct policy *policy);

#endif
