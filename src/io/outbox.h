/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_OUTBOX_H
#define BELLHOP_IO_OUTBOX_H

/*
 * The replies of a session on their way out: in order, whole lines, each knowing whom to tell what
 * became of it. All functions: ON_LOOP. Who is told must not use the outbox there and then.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"
#include "base/thread.h"
#include "io/delivery.h"

struct outbox {
    struct list unsent;     /* not written whole */
    struct list written;    /* written, and somebody wants to know whether they were seen */
    size_t unsent_bytes;    /* still to be written */
    uint64_t written_count; /* how many ever were, and that somebody wants to know of */
};

void outbox_init(struct outbox *outbox) ON_LOOP;

/*
 * Queues a reply to a request that arrived at `arrived_ms`; its line is taken. Returns 0, or
 * -ENOMEM: it was dropped, and told so.
 */
int outbox_add_take(struct outbox *outbox, struct reply *reply,
                    uint64_t arrived_ms) ON_LOOP MUST_CHECK;

/* What is to be written next, at most `count` pieces. Returns how many were filled. */
int outbox_pieces(const struct outbox *outbox, struct iovec *ret_pieces, int count) ON_LOOP;

/* So many bytes of it were written. */
void outbox_written(struct outbox *outbox, size_t length) ON_LOOP;

/*
 * A request arrived when `written_count` was what is given here: what had been written by then has
 * been seen or, after a sync, will never be known to have been.
 */
void outbox_settle(struct outbox *outbox, uint64_t written_count, bool is_seen) ON_LOOP;

/*
 * Drops what a fence that arrived at `fence_ms` supersedes: replies to requests that were at least
 * `grace_ms` old then. If a request was given up, delimited syncs go too, whatever their age: a
 * client must never see two of them without the reply between. A line that was begun is finished.
 */
void outbox_supersede(struct outbox *outbox, uint64_t fence_ms, unsigned grace_ms,
                      bool gave_up) ON_LOOP;

/* Drops everything that was not written whole, and forgets the rest. */
void outbox_clear(struct outbox *outbox) ON_LOOP;

#endif
