/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_LINK_H
#define BELLHOP_JOBS_BROKER_LINK_H

/*
 * The agent's end of a connection to a broker: the hellos, packets in and out, and nothing of what
 * they mean. Sending never waits: what the socket does not take is queued. The I/O thread's alone.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "jobs/broker-protocol.h"

struct broker_link;
struct event_base;

/* What a link tells its owner. None of them is called from within a function of the link but
 * broker_link_read(). */
struct broker_link_events {
    /* The broker's hello came, and it can be talked to. */
    void (*met)(void *owner, const struct broker_hello *hello);
    /* A valid message. The owner takes the descriptors that it wants, by setting them to -1. */
    void (*message)(void *owner, const struct broker_message *message, int fds[BROKER_FDS_MAX]);
    /* The connection is at its end; `error` is 0 or what went wrong (-errno). The link does nothing
     * any more and may be freed here. */
    void (*lost)(void *owner, int error);
};

/* Takes the descriptor, also on failure, and sends the hello. NULL: no memory. */
struct broker_link *broker_link_new_take(struct event_base *base, int fd,
                                         const struct broker_link_events *events,
                                         void *owner) ON_LOOP;
struct broker_link *broker_link_free(struct broker_link *link) ON_LOOP;

/*
 * Sends a message, with a descriptor unless that is -1, which is closed afterwards in any case.
 * Returns 0 (also when it is queued); -EPIPE: the link is lost; -ENOBUFS or -ENOMEM: it was not
 * taken.
 */
int broker_link_send_take(struct broker_link *link, const struct broker_message *message,
                          int fd) ON_LOOP MUST_CHECK;

/* What the broker speaks, once it was met. */
uint32_t broker_link_version(const struct broker_link *link) ON_LOOP;

/* The descriptor, to wait for it without the loop (at the agent's start); -1 once it is lost. */
int broker_link_fd(const struct broker_link *link) ON_LOOP;

/* Handles what has arrived. The loop does this by itself. */
void broker_link_read(struct broker_link *link) ON_LOOP;

#endif
