/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_OBJECT_GATE_H
#define BELLHOP_SECURITY_OBJECT_GATE_H

/*
 * The object gate: opens a file for a client as the rules for files allow it. What is checked is the
 * object that the path led to, not the path, and it is checked before anything happens to it: before
 * a truncation, a creation, or the open of a device.
 *
 * It is found first, without being opened (O_PATH); the kernel then says where it is. That name has
 * to lead to the same object again without following a link of any kind: so what has no name (any
 * more), or has one only in another mount namespace, is refused. What is opened at last is that
 * object, through its descriptor, whatever its path leads to meanwhile.
 */

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "security/file-rule.h"

struct object_question {
    const struct file_rules *rules;
    unsigned profile;

    /* Called once it is decided, before there is any effect. `rule` is NULL if none was concerned.
     * May be NULL. */
    void (*decided)(void *context, bool is_allowed, const struct file_rule *rule);
    void *context;
};

/*
 * Opens the path (below the agent's root, base/sysroot.h; the rules are for what is there by its path from
 * here) with open(2)'s flags; O_CREAT creates (mode 0666 less the umask), but never through
 * a dangling link. Returns the descriptor, or -errno: with `ret_reason` set it is -EPERM and a rule's
 * refusal, for the client, else the system's. Needs /proc.
 */
int object_gate_open(const struct object_question *question, const char *path, int flags,
                     char ret_reason[FILE_REFUSAL_MAX]) ON_WORKER MUST_CHECK;

#endif
