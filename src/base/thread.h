/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_THREAD_H
#define BELLHOP_BASE_THREAD_H

/*
 * Thread roles. Every prototype of the agent says who may call it, and the function asserts it
 * in debug builds (no NDEBUG). ARCHITECTURE.md has the table of who owns what.
 *
 *   ON_LOOP     only the I/O thread (the libevent loop)
 *   ON_WORKER   only a pool worker, for the task it was handed
 *   ANY_THREAD  safe everywhere
 */

#include <assert.h>

#define ON_LOOP
#define ON_WORKER
#define ANY_THREAD

enum thread_role {
    THREAD_UNKNOWN, /* not yet said: tests, start-up; passes every assertion */
    THREAD_LOOP,
    THREAD_WORKER,
    THREAD_LOG,
};

/* Says once, at its start, what the calling thread is. */
void thread_set_role(enum thread_role role);
enum thread_role thread_role(void);

#define assert_on_loop()   assert(thread_role() == THREAD_LOOP || thread_role() == THREAD_UNKNOWN)
#define assert_on_worker() assert(thread_role() == THREAD_WORKER || thread_role() == THREAD_UNKNOWN)

#endif
