/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_POOL_INTERNAL_H
#define BELLHOP_JOBS_POOL_INTERNAL_H

/*
 * The inside of the pool, for pool.c (the loop's side: who gets a worker, and how many there are)
 * and pool-worker.c (the threads).
 */

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "jobs/pool.h"

/* Not used for anything else; its handler does nothing, it only ends system calls. */
#define INTERRUPT_SIGNAL SIGUSR2

struct worker {
    /* immutable */
    struct pool *pool;
    bool is_rescue;
    pthread_t thread;

    /* loop only */
    bool is_lost;

    /* guarded by the pool's lock */
    struct list in_workers; /* among pool->workers, or pool->ended once its thread is ending */
    struct pool_work *work;
    pid_t tid;
    bool must_end;   /* as soon as it has no work: it was given up and replaced, or is surplus */
    bool is_surplus; /* counted in `ending` */
};

struct origin {
    unsigned in_flight; /* handed to the workers and not worked, without the given up */
    unsigned lost;      /* given up and not worked */
    struct list held;
};

struct pool {
    /* immutable */
    struct pool_options options;
    int done_fd; /* eventfd: `done` or `ended` is not empty */

    /* loop only */
    struct event *done_event;
    struct event *grow_timer;
    struct origin *origins;
    unsigned held_count;
    unsigned outstanding; /* work submitted and not given back */
    unsigned alive;       /* not given up, without the rescue worker */
    unsigned rescuers;    /* the same of rescue workers: one, but for moments and lack of memory */
    unsigned lost;
    bool cannot_grow; /* the last try failed, and was logged */

    /* guarded by lock */
    pthread_mutex_t lock;
    pthread_cond_t work_available;
    pthread_cond_t rescue_available;
    pthread_cond_t worker_ended;
    struct list queue;
    struct list rescue_queue;
    struct list done;    /* worked, for the loop to take */
    struct list workers; /* all with a thread that runs */
    struct list ended;   /* to be joined by the loop */
    unsigned queue_length;
    unsigned idle;
    unsigned ending;  /* surplus workers that have ended and are not joined yet */
    unsigned may_end; /* how many more are above the number that always stays */
    bool stopping;
};

/* Starts one more thread; it is in pool->workers then. Returns 0 or -errno. */
int pool_worker_start(struct pool *pool, bool is_rescue) MUST_CHECK ON_LOOP;

/* The time of CLOCK_MONOTONIC so many milliseconds from now, for pthread_cond_timedwait(). */
struct timespec pool_time_after(unsigned delay_ms) ANY_THREAD;

#endif
