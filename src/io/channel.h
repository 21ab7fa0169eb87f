/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_CHANNEL_H
#define BELLHOP_IO_CHANNEL_H

/*
 * One connection: moves bytes between a descriptor and its session. All functions: ON_LOOP.
 *
 * Everything is edge-triggered, so that a virtio port whose host is away, or a socket that is closed
 * on one side, does not make the loop spin.
 *
 * A stream socket that is closed by its peer ends the channel; one that is only half closed is
 * answered first. On a port, end of file means that the host went away and may come back: the
 * session is reset and the port stays open.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct channel;
struct endpoint;
struct event_base;
struct request_handler;

enum channel_kind {
    CHANNEL_SOCKET, /* end of file ends it */
    CHANNEL_PORT,   /* end of file: the host is away */
};

struct channel_options {
    enum channel_kind kind;
    const char *peer;          /* who is at the other end, in words; NULL: not known. Borrowed for the
                                  call */
    struct endpoint *endpoint; /* outlives the channel */
    const struct request_handler *handler;
    void *handler_context;

    /* The connection has ended: `error` is 0 for an orderly end, else an errno. The callee calls
     * channel_free() there and then. Comes from the loop only. */
    void (*ended)(void *context, struct channel *channel, int error);
    void *context;
};

/* `fd` is taken, also on failure; it must be non-blocking. Returns 0 or -errno. */
int channel_new(struct event_base *base, int fd, const struct channel_options *options,
                struct channel **ret_channel) MUST_CHECK;

/* Closes the descriptor. What runs goes on, its replies are dropped. Returns NULL. */
struct channel *channel_free(struct channel *channel);

/* Writes what can be written without waiting: before the agent exits. */
void channel_flush(struct channel *channel);

/*
 * The same, and waits for the peer to take it, until then (CLOCK_MONOTONIC, ms) at most. For when the
 * guest is about to stop: nothing else is served meanwhile.
 */
void channel_drain(struct channel *channel, uint64_t until_ms);

#endif
