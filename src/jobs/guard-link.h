/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_GUARD_LINK_H
#define BELLHOP_JOBS_GUARD_LINK_H

/*
 * The agent's end of a thaw guard (jobs/thaw-guard.h): the one that it starts with a freeze, or one
 * that an earlier agent left. Used by one thread at a time, but for what guard_link_watch() reads.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct event_base;
struct guard_link;

/* What the guard says, or what can be said of it. */
struct guard_news {
    bool is_gone;       /* it does not answer any more */
    bool has_fired;     /* its time was over before a thaw came: it thaws, or has thawed */
    bool is_finished;   /* nothing is frozen any more */
    bool is_incomplete; /* it fired because the agent had died in the midst of the freeze */
    uint64_t deadline_ms;
};

/*
 * Listens for the guard that is to be started with the returned folder as its argument. `directory`
 * is as broker_directory_open() returns it; borrowed while the link lives. Returns 0 or -errno.
 */
int guard_link_listen(int directory, struct guard_link **ret_link) MUST_CHECK;

/* Looks for a guard that an earlier agent left. Returns 0; -ECONNREFUSED: there is none; -errno. */
int guard_link_find(int directory, struct guard_link **ret_link) MUST_CHECK;

/* A guard that still has something to guard goes on. Returns NULL. */
struct guard_link *guard_link_free(struct guard_link *link);

struct guard_orders {
    const int *fds; /* every file system that is to be frozen; borrowed */
    size_t count;
    uint64_t deadline_ms; /* of guard_clock_ms() */
    unsigned timeout_ms;  /* for all of it */
    bool (*is_cancelled)(void *context); /* asked now and then */
    void *context;
};

/*
 * Waits for the guard, and until it is ready for everything. Returns 0; -ECANCELED; -ETIMEDOUT: it
 * did not come, or did not become ready; -EPERM: it may not thaw; or -errno. `ret_is_locked`:
 * whether its memory is.
 */
int guard_link_arm(struct guard_link *link, const struct guard_orders *orders,
                   bool *ret_is_locked) ON_WORKER MUST_CHECK;

/* Every FIFREEZE has returned. */
void guard_link_settled(struct guard_link *link);

/* A thaw begins: was it in time? After this it does not fire, but thaws if the agent dies. */
struct guard_news guard_link_claim(struct guard_link *link);

/* The same without doing anything. */
struct guard_news guard_link_ask(struct guard_link *link);

/*
 * The thaw is over: the guard thaws once more and ends, or just ends if it is not needed for that.
 * Waits for that, but not for one that hangs itself.
 */
void guard_link_done(struct guard_link *link, bool was_frozen);

/*
 * The same for the loop: waits only for what is to come before the next freeze, that the guard has
 * thawed once more; and not long.
 */
void guard_link_done_on_loop(struct guard_link *link, bool was_frozen) ON_LOOP;

/* What the guard has said unasked, without waiting: true if it has fired, or is gone. */
bool guard_link_has_fired(struct guard_link *link);

/* Has `told` called with news. Returns 0 or -ENOMEM. */
int guard_link_watch(struct guard_link *link, struct event_base *base,
                     void (*told)(void *context, const struct guard_news *news),
                     void *context) ON_LOOP MUST_CHECK;
void guard_link_unwatch(struct guard_link *link) ON_LOOP;

#endif
