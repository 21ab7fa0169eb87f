/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_FREEZE_SET_INTERNAL_H
#define BELLHOP_JOBS_FREEZE_SET_INTERNAL_H

/*
 * The inside of a freeze set, for freeze-set.c (its life, and the freeze) and freeze-set-thaw.c (the
 * thaw, and what the agent does with itself meanwhile).
 */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "jobs/freeze-set.h"

struct thaw_crew;

/* How often a wait asks whether it is to end. */
enum { FREEZE_LOOK_MS = 20 };

/* One file system to be frozen. */
struct member {
    char *point;
    unsigned major; /* of its superblock; 0: st_dev does not tell it (btrfs) */
    unsigned minor;
    int fd;
};

struct freeze_set {
    /* immutable */
    int directory;
    bool is_adopted;

    /* loop only */
    unsigned references;

    atomic_bool is_stopped;
    atomic_uint_least64_t deadline_ms; /* of guard_clock_ms(); 0: none */

    /* the freezing worker's, then the thawing one's: handed over by `has_returned` */
    struct member *members;
    size_t count;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* guarded by lock */
    struct guard_link *guard;
    bool is_armed;            /* the guard may be talked to */
    struct thaw_crew *crew;   /* for the members; NULL: nothing can be frozen yet */
    struct thaw_crew *others; /* for whatever else is mounted; NULL until a thaw */
    bool has_returned;        /* nobody freezes any more */
};

/* The guard, once it may be talked to, or NULL. */
struct guard_link *freeze_set_armed_guard(struct freeze_set *set);

/* Lets go of everything that was for the thaw: guard, record, memory, log. */
void freeze_set_let_go(struct freeze_set *set, bool was_frozen);

#endif
