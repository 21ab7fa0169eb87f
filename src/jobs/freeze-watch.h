/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_FREEZE_WATCH_H
#define BELLHOP_JOBS_FREEZE_WATCH_H

/*
 * Watches over a freeze from the loop: hears what the guard says, stands in for one that is gone or late, and
 * can end the freeze without anybody having asked for a thaw. The I/O thread's alone.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct event_base;
struct freeze_set;
struct freeze_watch;

enum freeze_event {
    FREEZE_EVENT_THAWED,   /* everything is thawed, as somebody wanted */
    FREEZE_EVENT_EXPIRED,  /* everything is thawed, because the timeout has passed */
    FREEZE_EVENT_DIED,     /* everything is thawed, because an agent died while it froze */
};

/*
 * `told` may free the watch. `deadline_ms` is of guard_clock_ms(), 0: none. The set must outlive the
 * watch. Returns 0 or -ENOMEM.
 */
int freeze_watch_new(struct event_base *base, struct freeze_set *set, uint64_t deadline_ms,
                     void (*told)(void *context, enum freeze_event event), void *context,
                     struct freeze_watch **ret_watch) ON_LOOP MUST_CHECK;
struct freeze_watch *freeze_watch_free(struct freeze_watch *watch) ON_LOOP;

/* Thaws, and tells when that is done. Does not wait. */
void freeze_watch_thaw(struct freeze_watch *watch) ON_LOOP;

#endif
