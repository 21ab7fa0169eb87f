/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_TASK_H
#define BELLHOP_JOBS_TASK_H

/*
 * Tasks and lanes: the scheduler.
 *
 * A task is one thing to be done for a request. It starts when it has been permitted (its turn in
 * its channel's line has come) and is the first of its lane; so no worker ever waits for another.
 * Tickets of a lane are taken with task_submit(), in the order that requests came. An urgent task
 * starts as soon as it is permitted, whatever its lane does.
 *
 *     start (loop) ─▶ work (worker) ─▶ worked (loop) ─▶ ended (loop) ─▶ released (loop)
 *
 * `ended` is called exactly once, as soon as the request can be answered; `released` exactly once,
 * after it, when nothing runs any more. The two are apart when a deadline passed:
 *
 * At the deadline a task that no worker has begun is taken back (TASK_NOT_BEGUN). One that a worker
 * has is interrupted. If that does not end it within a second, its worker is given up, the
 * task has ended (TASK_OVERDUE) but still runs, and its lane is closed: tasks of that lane
 * end as TASK_REFUSED until it comes back. What a lost task returns is thrown away.
 *
 * Everything here is called on the loop, except `work` and task_is_interrupted().
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/thread.h"
#include "jobs/pool.h"

struct event_base;
struct lane;
struct scheduler;
struct task;

enum task_outcome {
    TASK_DONE,      /* it came to its end (task_is_interrupted() tells whether after its deadline) */
    TASK_CANCELLED, /* withdrawn before it began */
    TASK_NOT_BEGUN, /* its deadline passed and no worker was free: nothing was done */
    TASK_REFUSED,   /* its lane is closed: nothing was done; task_lane_blocker() names why */
    TASK_OVERDUE,   /* its deadline passed and it still runs: whoever waits must not touch what
                       its worker has */
};

enum task_next {
    TASK_TO_WORKER, /* from `start`: have `work` called */
    TASK_FINISHED,  /* it is done */
    TASK_PENDING,   /* task_finish() will say when it is done */
};

struct task_ops {
    enum task_next (*start)(struct task *task);                     /* ON_LOOP */
    void (*work)(struct task *task);                                /* ON_WORKER */
    enum task_next (*worked)(struct task *task);                    /* ON_LOOP */
    void (*ended)(struct task *task, enum task_outcome outcome);    /* ON_LOOP */
    void (*released)(struct task *task);                            /* ON_LOOP; may free the task */
};

/* Embedded in whatever is to be done. Zeroed before its first use. */
struct task {
    /* set by the owner before task_submit() */
    const struct task_ops *ops;
    const char *name;     /* for the log; must outlive the task */
    uint64_t deadline_ms; /* from its start; 0 is never */
    unsigned origin;      /* the channel's number, as in jobs/pool.h */
    bool rescue;          /* on the rescue worker */
    bool is_urgent;       /* does not wait for its lane; those behind it wait for it */

    /* loop only, the scheduler's */
    struct scheduler *scheduler;
    struct lane *lane;
    struct list in_lane;
    int state;
    bool is_permitted;
    bool has_ended;
    bool has_gone_on; /* task_go_on() */
    struct event *timer;
    uint64_t give_up_at_ms;
    const char *blocker;

    struct pool_work work; /* moved to the pool and back */
};

/* `pool` must outlive the scheduler. Returns 0 or -ENOMEM. */
int scheduler_new(struct event_base *base, struct pool *pool, struct scheduler **ret_scheduler);
/* All tasks must have been released. Returns NULL. */
struct scheduler *scheduler_free(struct scheduler *scheduler);

/* True if all tasks that were submitted have been released. */
bool scheduler_is_idle(const struct scheduler *scheduler);

/*
 * Takes the task's ticket. `lane` is copied; NULL: none. Returns 0 or -ENOMEM (then the task is
 * still the caller's and no callback will come).
 */
int task_submit(struct scheduler *scheduler, struct task *task, const char *lane);

/* Its turn has come: it may start now, or whenever its lane is free. May call back at once. */
void task_permit(struct task *task);

/* Cancels a task that has not begun: TASK_CANCELLED. Returns false if it has. */
bool task_cancel(struct task *task);

/*
 * Cancels the tasks of this one's lane that came before it, have not begun, and that `is_meant`
 * says yes to.
 */
void task_cancel_earlier(struct task *task, bool (*is_meant)(struct task *earlier));

/* Has `work` called for a task whose `start` or `worked` returned TASK_PENDING. */
void task_go_on(struct task *task);

/* The same of one whose `start` was called, but of which no worker has done anything yet. */
bool task_withdraw(struct task *task);

/* Ends a task whose `start` or `worked` returned TASK_PENDING. Not from within these. */
void task_finish(struct task *task);

/* True once its deadline has passed. */
bool task_is_interrupted(struct task *task) ANY_THREAD;

/* In `ended` with TASK_REFUSED: the name of the task that closed the lane. */
const char *task_lane_blocker(const struct task *task);

/* In `ended` with TASK_OVERDUE: where its worker hangs in the kernel, or an empty string. */
void task_describe_stuck(struct task *task, char *ret_text, size_t size);

#endif
