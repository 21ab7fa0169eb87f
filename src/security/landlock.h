/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_LANDLOCK_H
#define BELLHOP_SECURITY_LANDLOCK_H

/*
 * Landlock (landlock(7)): which files a process and its children can reach, by the kernel's own
 * paths. By raw system calls, and with the constants written down here: neither the C library nor
 * the kernel's headers of the systems that this is built on know all of it.
 *
 * A ruleset is made beforehand, when there is memory and time for errors; putting it in force is
 * one system call, which a forked child may make.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

/* The newest interface that this knows what to do with. */
#define LANDLOCK_ABI_MAX 6

struct landlock_paths {
    const char *const *items;
    size_t count;
};

/*
 * What stays possible. A path stands for itself and all below it. What is not there is left out: it
 * stays out of reach when it comes.
 *
 *   read     open for reading, list
 *   write    open for writing, truncate, create (no devices), remove, rename
 *   execute  execute, and read
 *   list     list folders only
 *
 * Device files below `read` or `write` take ioctls. stat(2), chmod(2), access(2) and the like, unix
 * sockets with a path, and descriptors that are open already are not touched by Landlock.
 */
struct landlock_scope {
    struct landlock_paths read;
    struct landlock_paths write;
    struct landlock_paths execute;
    struct landlock_paths list;
    /* No abstract unix sockets of processes outside, no signals to them (ABI 6). */
    bool is_isolated;
};

/* The running kernel's interface, at most LANDLOCK_ABI_MAX; 0: it has none, or does not enable it. */
int landlock_abi(void);

/*
 * Makes a ruleset for the kernel's interface. Returns 0 with its descriptor (close-on-exec);
 * -EOPNOTSUPP without Landlock; or -errno with the path that it is about, borrowed from the scope
 * (or NULL), in `ret_path`.
 */
int landlock_ruleset_new(const struct landlock_scope *scope, int *ret_fd,
                         const char **ret_path) MUST_CHECK;

/*
 * Puts a ruleset in force for the calling thread and what it starts, for good. It has to have
 * no_new_privs or CAP_SYS_ADMIN. Async-signal-safe. Returns 0 or -errno.
 */
int landlock_restrict_self(int ruleset_fd) MUST_CHECK;

/* In words, for the operator, what the kernel's interface `abi` does not cover; NULL: nothing. */
const char *landlock_lacks(int abi);

#endif
