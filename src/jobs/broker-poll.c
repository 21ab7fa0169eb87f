/* SPDX-License-Identifier: MIT */
#include "jobs/broker-poll.h"

#include <errno.h>

int broker_poll_new(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int broker_source_open_take(int poll_fd, struct broker_source *source, int fd, uint32_t events,
                            void (*ready)(struct broker_source *, uint32_t))
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    *source = (struct broker_source){.fd = fd, .events = events, .ready = ready};
    return 0;
}

void broker_source_want(int poll_fd, struct broker_source *source, uint32_t events)
{
    if (source->fd < 0 || source->events == events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(poll_fd, EPOLL_CTL_MOD, source->fd, &event) == 0)
        source->events = events;
}

void broker_source_close(int poll_fd, struct broker_source *source)
{
    if (source->fd < 0)
        return;
    /* Explicitly: a duplicate of the descriptor elsewhere would keep it in the set. */
    (void)epoll_ctl(poll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->fd = close_fd(source->fd);
}

int broker_poll_once(int poll_fd, int timeout_ms)
{
    /*
     * One event at a time: a handler may then close any source and free its owner, as no event of
     * it can be waiting in an array. The kernel keeps the ready ones in turn, so none is starved.
     */
    struct epoll_event event;
    int count = epoll_wait(poll_fd, &event, 1, timeout_ms);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    if (count > 0) {
        struct broker_source *source = event.data.ptr;
        source->ready(source, event.events);
    }
    return 0;
}
