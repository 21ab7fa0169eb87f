/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_FREEZE_SET_H
#define BELLHOP_JOBS_FREEZE_SET_H

/*
 * One freeze, from its beginning to its thaw: the file systems that it took, the threads that will
 * thaw them, and the guard that will do it if the agent cannot. A worker freezes; meanwhile another
 * one may thaw: that stops the freeze, and waits for the FIFREEZE under way.
 *
 * The loop makes sets and holds references; workers use a set while a reference is held for them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/freeze-plan.h"
#include "base/thread.h"
#include "jobs/freeze-record.h"

struct freeze_set;
struct guard_link;

enum { FREEZE_REASON_MAX = 512 };

/* `directory` is what broker_directory_open() returned, perhaps its -errno. Borrowed. */
struct freeze_set *freeze_set_new(int directory) ON_LOOP;

/*
 * One that an earlier agent froze: `guard` is taken (NULL: there is none), `deadline_ms` its (0: none).
 * NULL: no memory.
 */
struct freeze_set *freeze_set_new_adopted_take(int directory, struct guard_link *guard,
                                               uint64_t deadline_ms) ON_LOOP;

struct freeze_set *freeze_set_ref(struct freeze_set *set) ON_LOOP;
struct freeze_set *freeze_set_unref(struct freeze_set *set) ON_LOOP; /* returns NULL */

/* It takes no further file system, gives up its waits, and comes to its end. */
void freeze_set_stop(struct freeze_set *set) ANY_THREAD;
bool freeze_set_is_stopped(const struct freeze_set *set) ANY_THREAD;

/* NULL while there is none. ON_LOOP once the freeze has returned. */
struct guard_link *freeze_set_guard(struct freeze_set *set);

/* Has the set listen for the guard, which is then to be started. Returns 0 or -errno. */
int freeze_set_expect_guard(struct freeze_set *set) ON_WORKER MUST_CHECK;

/* Nobody will call freeze_set_freeze(), or not again. */
void freeze_set_abandon(struct freeze_set *set) ON_LOOP;

struct freeze_request {
    struct freeze_choice choice;
    uint64_t timeout_ms;                         /* 0: none, and no guard */
    bool (*is_interrupted)(void *context);       /* the freeze's deadline has passed */
    void (*step)(void *context, const char *what, const char *point); /* what may hang now */
    void *context;
};

struct freeze_result {
    int error;    /* 0 or -errno; then nothing is frozen any more, as far as that can be had */
    size_t count; /* frozen file systems */
    bool is_cleared; /* nothing is frozen, and nothing is left to be thawed */
    bool is_stuck;   /* with an error: something could not be thawed, and is left to a thaw */
    uint64_t deadline_ms; /* of guard_clock_ms(); 0: none */
    char reason[FREEZE_REASON_MAX];
};

/* Freezes. Blocks for as long as that takes. */
void freeze_set_freeze(struct freeze_set *set, const struct freeze_request *request,
                       struct freeze_result *ret_result) ON_WORKER;

struct thaw_request {
    unsigned timeout_ms;
    bool is_required; /* something is frozen: not to be able to thaw is an error */
    bool (*is_interrupted)(void *context);
    void *context;
};

struct thaw_result {
    int error;    /* -errno: something may still be frozen; the crews go on */
    size_t count; /* file systems that were thawed, also what others had frozen */
    bool has_fired; /* the guard had thawed before */
    bool is_incomplete;
    char reason[FREEZE_REASON_MAX];
};

/*
 * Stops the freeze and thaws: what the set froze, and whatever else is frozen. `set` may be one that
 * never froze. May run while freeze_set_freeze() does; not twice at once.
 */
void freeze_set_thaw(struct freeze_set *set, const struct thaw_request *request,
                     struct thaw_result *ret_result) ANY_THREAD;

/*
 * The same without waiting, for the loop: begins, and tells later whether it has ended.
 * freeze_set_begin_thaw() again does nothing.
 */
void freeze_set_begin_thaw(struct freeze_set *set) ON_LOOP;
bool freeze_set_has_thawed(struct freeze_set *set) ON_LOOP;

/*
 * Everything is thawed: lets go of the guard, the memory and the log. `breach` says how the freeze
 * ended without a thaw, for the record; FREEZE_RECORD_NONE: it did not.
 */
void freeze_set_clear(struct freeze_set *set, enum freeze_record_state breach) ON_LOOP;

/* What freeze_set_freeze() does to the agent; for an adopted set. */
void freeze_set_enter_frozen(void) ON_LOOP;

#endif
