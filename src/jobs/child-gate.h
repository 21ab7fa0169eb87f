/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_CHILD_GATE_H
#define BELLHOP_JOBS_CHILD_GATE_H

/*
 * The rules for programs (security/program-rule.h) where they count: in the child that would become
 * the program. It opens the file, asks the kernel what it has opened, and looks for a rule for
 * that; then it gives up what the rule does not leave it, and executes that very file.
 *
 *     child_gate_pass()      which file, which rule; as which user, where, with which environment
 *     child_gate_confine()   from here on it has what the rule says
 *     child_gate_exec()
 *
 * Nothing of this is undone when it fails, and memory is not given back: a child that does not get
 * through ends. It may hang (files, name services), and nobody waits for it.
 */

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "jobs/broker-protocol.h"
#include "jobs/child-user.h"

struct program_rule;
struct program_rules;
struct syscall_filter;

#define CHILD_REASON_MAX BROKER_REASON_MAX

/* What holds for a child; borrowed. */
struct child_gate {
    const struct program_rules *rules;
    struct syscall_filter *const *filters; /* one for each rule; NULL where it could not be made */
    unsigned profile;                      /* whose rules */
};

/* What is asked for. */
struct child_request {
    const char *program;
    char *const *arguments;   /* NULL-terminated, with argv[0] */
    char *const *environment; /* NULL-terminated; NULL: none is given */
    const char *search_path;  /* for a program without a slash: the agent's PATH, or NULL */
    const char *directory;    /* NULL: not asked for; so the next */
    const char *user;
};

/* With what it goes through. */
struct child_permit {
    const struct program_rule *rule;
    size_t rule_index;
    int program_fd; /* O_PATH, close-on-exec */
    char path[PATH_MAX];
    struct child_user user;
    bool has_user;
    char *const *arguments;
    char *const *environment;
    const char *directory;
};

/*
 * Returns 0; -EPERM with the reason, for the client: no rule allows it; or -errno, and the reason
 * says what failed.
 */
int child_gate_pass(const struct child_gate *gate, const struct child_request *request,
                    struct child_permit *ret_permit, char ret_reason[CHILD_REASON_MAX]) MUST_CHECK;

/*
 * Puts the rule in force. No descriptor may be needed any more that an exec would not leave open
 * anyway, but for the permit's. Returns 0, or -errno with the reason: then the program must not be
 * run.
 */
int child_gate_confine(const struct child_gate *gate, const struct child_permit *permit,
                       char ret_reason[CHILD_REASON_MAX]) MUST_CHECK;

/* Returns only when it failed: -errno. */
int child_gate_exec(const struct child_permit *permit);

/*
 * Compiles the filters of system calls, one for each rule; to be done beforehand, as it takes its
 * time. One that cannot be made is NULL, and its rule lets nothing run. NULL: no memory.
 */
struct syscall_filter **child_gate_make_filters(const struct program_rules *rules) MUST_CHECK;

#endif
