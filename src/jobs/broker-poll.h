/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_POLL_H
#define BELLHOP_JOBS_BROKER_POLL_H

/*
 * What the broker waits for: a thin layer over epoll. The broker is one thread and small, and does
 * without libevent.
 */

#include <stdint.h>
#include <sys/epoll.h>

#include "base/cleanup.h"

/* A descriptor that is waited for; embedded in its owner. */
struct broker_source {
    int fd;          /* -1: none. Owned by the source. */
    uint32_t events; /* EPOLLIN, EPOLLOUT; 0: hang-ups and errors only */
    void (*ready)(struct broker_source *source, uint32_t events);
};

#define BROKER_SOURCE_INIT \
    {                      \
        .fd = -1           \
    }

/* Returns the epoll descriptor, or -errno. */
int broker_poll_new(void) MUST_CHECK;

/* Begins to wait for a descriptor, which the source takes on success. Returns 0 or -errno. */
int broker_source_open_take(int poll_fd, struct broker_source *source, int fd, uint32_t events,
                            void (*ready)(struct broker_source *, uint32_t)) MUST_CHECK;

/* Waits for other events of it. */
void broker_source_want(int poll_fd, struct broker_source *source, uint32_t events);

/* Ends the waiting and closes the descriptor; a source that is not open is fine. */
void broker_source_close(int poll_fd, struct broker_source *source);

/* Waits for one event for at most `timeout_ms` (-1: for ever) and has it handled. 0 or -errno. */
int broker_poll_once(int poll_fd, int timeout_ms) MUST_CHECK;

#endif
