/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_PROBE_H
#define BELLHOP_BASE_PROBE_H

/*
 * Questions that may never be answered: statvfs() of a file system whose server is dead, a request to
 * a disk that hangs. They are asked in threads of their own, and waited for only so long; a thread
 * that got stuck is left behind until the kernel lets it go.
 *
 * Who was asked is named by a key. A key that somebody is still stuck with is not asked again, so
 * there is at most one thread (or one per simultaneous caller) left behind for each, and never more
 * than PROBE_STUCK_MAX.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

enum { PROBE_STUCK_MAX = 32 };

struct probe_set;

/*
 * Fills in the answer to one question, in place. Runs in another thread, perhaps long after the
 * caller has gone: a question owns everything that it needs.
 */
typedef void (*probe_function)(void *question);

/*
 * A set of `count` questions of `question_size` bytes, all zero. `release` (may be NULL) frees what
 * a question owns, when nothing runs any more. Returns NULL if there is no memory.
 */
struct probe_set *probe_set_new(size_t count, size_t question_size, probe_function ask,
                                void (*release)(void *question));

/* The caller fills in the questions, before probe_set_run(). */
void *probe_set_question(struct probe_set *set, size_t index);
void probe_set_key(struct probe_set *set, size_t index, uint64_t key);

/*
 * Asks, in the set's order, and waits until all is answered, but no longer than `timeout_ms`
 * altogether. One that does not answer holds up the others only briefly. Once. Any thread that may
 * wait.
 */
void probe_set_run(struct probe_set *set, unsigned timeout_ms);

/* After probe_set_run(): the question with its answer, or NULL if it was not answered in time. */
const void *probe_set_answer(struct probe_set *set, size_t index);

/* True if it was asked just now and not answered, not if an earlier one is stuck already. */
bool probe_set_is_late(struct probe_set *set, size_t index);

/* Gives up the caller's hold; NULL is fine. Returns NULL. */
struct probe_set *probe_set_unref(struct probe_set *set);

#endif
