/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_POOL_H
#define BELLHOP_JOBS_POOL_H

/*
 * The worker pool: threads that do what may block.
 *
 * The two hand-over points of the agent are in here: the task queue (loop → workers) and the
 * completion queue (workers → loop, woken through an eventfd). Work is moved: between
 * pool_submit() and its `worked` callback it belongs to the pool and then to its worker.
 *
 * - The pool grows when work has waited 50 ms with no idle worker, up to `workers_max`, and shrinks
 *   back to `workers` once the others have been idle for a while.
 * - One origin (channel) holds at most half of `workers_max`; more of its work waits.
 * - One more worker is reserved for work marked `rescue`.
 * - A worker that is stuck is given up: it no longer counts, so another one may take its place, up to
 *   `lost_max` of them. It ends when it comes back. One origin can lose half of these; when it has,
 *   its stuck workers keep their places in its share, and the other origins have theirs.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/thread.h"

struct event_base;
struct pool;
struct worker;

enum { POOL_GROW_AFTER_MS = 50 };

/* Embedded in whatever is to be worked on. */
struct pool_work {
    /* immutable while the pool has it */
    void (*work)(struct pool_work *work);   /* ON_WORKER */
    void (*worked)(struct pool_work *work); /* ON_LOOP; the work is the submitter's again */
    unsigned origin;                        /* below pool_options.origins */
    bool rescue;

    /* the pool's */
    struct list in_queue;
    uint64_t queued_ms;
    bool is_held;          /* loop only: waits because its origin holds its share */
    bool is_given_up;      /* loop only */
    struct worker *worker; /* guarded by the pool's lock; NULL: not begun, or worked */
    atomic_bool interrupted;
};

struct pool_options {
    unsigned workers;     /* always there; at least 1 */
    unsigned workers_max; /* not counting the given up and the rescue worker */
    unsigned lost_max;
    unsigned origins; /* how many there are */
    unsigned idle_ms; /* how long a worker beyond `workers` idles before it ends */
};

struct pool_counts {
    unsigned workers; /* alive, not given up, without the rescue worker */
    unsigned idle;
    unsigned lost;   /* given up and not back yet */
    unsigned queued; /* work that no worker has begun, held work included */
};

/* Starts the first workers. Returns 0 or -errno. */
int pool_new(struct event_base *base, const struct pool_options *options,
             struct pool **ret_pool) ON_LOOP;

/*
 * Ends the workers: waits up to `timeout_ms` for those at work, which are interrupted. Returns true if
 * all are gone, all work was given back before, and everything was freed. False if a worker is stuck
 * or work was cut short: then nothing that workers could touch was freed, submitters still think that
 * their work is under way, and the process is to _exit. No callbacks are called.
 */
bool pool_free(struct pool *pool, unsigned timeout_ms) ON_LOOP;

void pool_submit(struct pool *pool, struct pool_work *work) ON_LOOP;

/* Takes work back that no worker has begun. Returns false if one has. */
bool pool_withdraw(struct pool *pool, struct pool_work *work) ON_LOOP;

/*
 * Sends the worker a signal, which ends most blocking system calls with EINTR, and marks the work
 * so that pool_work_is_interrupted() is true. May be repeated: a signal that came just
 * before the system call began is lost.
 */
void pool_interrupt(struct pool *pool, struct pool_work *work) ON_LOOP;

/*
 * Counts the work's worker as lost, unless the origin has lost too many already. `worked` will still
 * be called if it ever comes back.
 */
void pool_give_up(struct pool *pool, struct pool_work *work) ON_LOOP;

bool pool_work_is_interrupted(struct pool_work *work) ANY_THREAD;

/*
 * Where in the kernel the work's worker is ("fuse_request_wait", from /proc), for the log; an
 * empty string if that is not to be known.
 */
void pool_describe_stuck(struct pool *pool, struct pool_work *work, char *ret_text,
                         size_t size) ON_LOOP;

struct pool_counts pool_counts(struct pool *pool) ON_LOOP;

#endif
