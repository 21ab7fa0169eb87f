/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_SYSCALL_FILTER_H
#define BELLHOP_SECURITY_SYSCALL_FILTER_H

/*
 * seccomp filters (seccomp(2)), through libseccomp: which system calls a process and what it starts
 * may make. What is not allowed fails with EPERM and is logged by the kernel; nothing is killed.
 * (clone3(2) fails with ENOSYS, for which the C library has another way.)
 *
 * A filter is compiled beforehand; putting it in force is one system call, which a forked child may
 * make.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct syscall_filter;

/* A named set of system calls, "@network", for rules and for lists of ours. */
struct syscall_group {
    const char *name;
    const char *summary;         /* one line for people */
    const char *const *syscalls; /* NULL-terminated */
};

/* All groups, ended by one without a name. */
extern const struct syscall_group syscall_groups[];

/* Returns NULL if there is none of that name. */
const struct syscall_group *syscall_group_find(const char *name);

/*
 * What a list says: each item is a system call or a group; one of them after "!" is not allowed. A
 * list that begins with "!" is taken as everything but; otherwise only what is named is allowed.
 */
struct syscall_list {
    const char *const *items;
    size_t count;
};

/* False in a build without libseccomp. */
bool syscall_filter_is_built(void);

/* True if the running kernel can filter, too. */
bool syscall_filter_is_available(void);

/*
 * True if the item names a group or a system call that is known here (on whatever architecture);
 * always false in a build without libseccomp, but for the groups.
 */
bool syscall_item_is_known(const char *item);

/*
 * Compiles a list. Returns 0; -EINVAL with the item that is not known in `ret_item` (borrowed from
 * the list); -EOPNOTSUPP in a build without libseccomp; or another -errno.
 */
int syscall_filter_new(const struct syscall_list *list, struct syscall_filter **ret_filter,
                       const char **ret_item) MUST_CHECK;
struct syscall_filter *syscall_filter_free(struct syscall_filter *filter);

/*
 * Puts the filter in force for the calling thread and what it starts, for good. It has to have
 * no_new_privs or CAP_SYS_ADMIN. Async-signal-safe. Returns 0 or -errno.
 */
int syscall_filter_load(const struct syscall_filter *filter) MUST_CHECK;

#endif
