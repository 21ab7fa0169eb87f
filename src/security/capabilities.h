/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_CAPABILITIES_H
#define BELLHOP_SECURITY_CAPABILITIES_H

/*
 * Capabilities (capabilities(7)), through libcap. A set is a mask with one bit for each capability.
 * The kernel has them by thread: what is done here is done for the calling thread, and threads and
 * processes that it starts afterwards inherit it.
 *
 * In a build without libcap every function that asks the kernel returns -EOPNOTSUPP.
 */

#include <linux/capability.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct buffer;

#define CAPABILITY_BIT(number) (UINT64_C(1) << (number))
#define CAPABILITIES_ALL       UINT64_MAX

/* What something needs, and for what: an array of these is ended by one whose `why` is NULL. */
struct capability_need {
    unsigned capability; /* CAP_SYS_TIME, ... */
    const char *why;     /* for the operator, such as "clock_settime()" */
    bool is_extra;       /* it works without, only telling or reaching less */
};

#define CAPABILITY_NEEDS_END {.why = NULL}

/* The set of such an array; NULL: none. */
uint64_t capability_needs_set(const struct capability_need *needs, bool with_extras);

struct capability_sets {
    uint64_t effective;
    uint64_t permitted;
    uint64_t inheritable;
    uint64_t bounding;
    uint64_t ambient;
};

/* Every capability that the running kernel knows; 0 if that cannot be told. */
uint64_t capabilities_known(void);

/* The calling thread's sets. Returns 0 or -errno. */
int capabilities_read(struct capability_sets *ret_sets) MUST_CHECK;

/*
 * Gives the calling thread these sets: first bounding (what is not in it is dropped, for ever),
 * then effective, permitted and inheritable, then ambient (which has to be part of both). What the
 * kernel does not know is left out. Returns 0 or -errno (-EPERM: it has not got what is asked for,
 * or lacks CAP_SETPCAP to drop from bounding).
 */
int capabilities_apply(const struct capability_sets *sets) MUST_CHECK;

/* Gives the calling thread this effective set, and changes no other. Returns 0 or -errno. */
int capabilities_set_effective(uint64_t set) MUST_CHECK;

/*
 * From now on user 0 is no other than any (no capability comes with it, neither by execve(2) nor by
 * setuid(2)), no ambient capability can be raised, and none of this can be undone. To be called
 * before CAP_SETPCAP goes. Returns 0 or -errno.
 */
int capabilities_lock_securebits(void) MUST_CHECK;

/*
 * Becomes another user (real, effective, saved, file system) with its groups, and keeps the
 * permitted capabilities of the calling thread, which has to be the only one; effective is empty then.
 * Returns 0 or -errno.
 */
int capabilities_keep_as_user(uint32_t user, uint32_t group, const uint32_t *groups,
                              size_t group_count) MUST_CHECK;

/* "cap_sys_time"; of one that the library does not know, "cap_77". */
void capability_name(unsigned number, char ret_name[32]);

/* The other way round, of any case, also without "cap_". Returns 0 or -EINVAL. */
int capability_from_name(const char *name, unsigned *ret_number) MUST_CHECK;

/* Appends the names, separated by blanks; "none" of an empty set. */
void capabilities_describe(uint64_t set, struct buffer *out);

#endif
