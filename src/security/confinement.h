/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_CONFINEMENT_H
#define BELLHOP_SECURITY_CONFINEMENT_H

/*
 * What a process gives up before it begins its work: its user, capabilities, the gaining of
 * privileges, files (Landlock) and system calls (seccomp). Made ready by a process that has
 * everything, put in force by the one that is to be confined while it has one thread.
 *
 * Each part that cannot be put in force is told, and the others are all the same: whether that is
 * good enough is its caller's to decide.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "security/landlock.h"
#include "security/syscall-filter.h"

struct confinement_user {
    uint32_t user;
    uint32_t group;
    uint32_t *groups; /* `group_count`; malloc'ed */
    size_t group_count;
};

struct confinement {
    struct confinement_user *user; /* to become; borrowed; NULL: stays who it is */

    bool limits_capabilities; /* else it keeps all */
    uint64_t capabilities;    /* the permitted and the bounding set; inheritable and ambient: empty */
    bool in_force;            /* they are in the effective set, too; else that is empty */
    bool locks_securebits;    /* user 0 has no capabilities by being that */

    bool no_new_privs;

    bool limits_files;
    struct landlock_scope files; /* borrowed */

    bool limits_calls;
    struct syscall_list calls; /* borrowed */

    /* filled by confinement_prepare() */
    int ruleset_fd;
    struct syscall_filter *filter;
};

#define CONFINEMENT_INIT {.ruleset_fd = -1}

/* Called for each part that is not in force, with a text for the operator; borrowed for the call. */
typedef void (*confinement_complaint)(void *context, const char *text);

/* Makes ready what needs memory and paths. May be followed by the next one in the same process. */
void confinement_prepare(struct confinement *confinement, confinement_complaint complain,
                         void *context);

/* Puts it in force for the calling process, which has one thread, for good. */
void confinement_apply(const struct confinement *confinement, confinement_complaint complain,
                       void *context);

/* Frees what was prepared. */
void confinement_deinit(struct confinement *confinement);

#endif
