/* SPDX-License-Identifier: MIT */
#include "io/channel.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/session.h"

enum {
    READ_BYTES = 128 * 1024,
    READS_PER_TURN = 8, /* then the other channels get theirs */
    PIECES_PER_WRITE = 16,
};

struct channel {
    int fd;
    struct channel_options options;
    struct session *session;
    struct event *input_event; /* readable, or closed by the peer */
    struct event *write_event; /* only pending while the kernel took less than there was */
    struct event *wake_event;  /* activated by hand: something is to be done outside of input */
    struct event *tick_timer;
    bool is_paused;     /* input is there, but there is too much output */
    bool is_closing;    /* the peer has closed its side: an end of file is still to be read */
    bool has_eof;       /* it was read: nothing more will come */
    bool is_in_callback; /* on_input() is on the stack and will write */
    bool has_ended;      /* its owner is told when the event's callback is through */
    int end_error;
};

/* What was read is used up before anybody reads again, so all channels share it. */
static char read_buffer[READ_BYTES];

static void channel_end(struct channel *channel, int error)
{
    if (channel->has_ended)
        return;
    channel->has_ended = true;
    channel->end_error = error;
}

/* The last thing that any event's callback does: the owner may free the channel. */
static void channel_leave(struct channel *channel)
{
    if (channel->has_ended)
        channel->options.ended(channel->options.context, channel, channel->end_error);
}

static void channel_arm_tick(struct channel *channel)
{
    uint64_t at_ms = session_next_tick_ms(channel->session);
    if (at_ms == 0) {
        if (event_pending(channel->tick_timer, EV_TIMEOUT, NULL))
            event_del(channel->tick_timer);
        return;
    }
    uint64_t now_ms = clock_now_ms();
    uint64_t delay_ms = at_ms > now_ms ? at_ms - now_ms : 0;
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                            .tv_usec = (suseconds_t)(delay_ms % 1000) * 1000};
    event_add(channel->tick_timer, &delay);
}

/* Returns 0, or -errno if the connection is broken. */
static int channel_write(struct channel *channel)
{
    struct iovec pieces[PIECES_PER_WRITE];
    int count;
    while ((count = session_output(channel->session, pieces, PIECES_PER_WRITE)) > 0) {
        ssize_t written = writev(channel->fd, pieces, count);
        if (written > 0) {
            session_written(channel->session, (size_t)written);
            continue;
        }
        if (written < 0 && errno == EINTR)
            continue;
        if (written == 0 || errno == EAGAIN) {
            event_add(channel->write_event, NULL);
            return 0;
        }
        return -errno;
    }
    return 0;
}

/* True if the peer has closed both directions, so that nobody will read an answer. */
static bool channel_is_hung_up(const struct channel *channel)
{
    struct pollfd poll_fd = {.fd = channel->fd};
    return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLERR));
}

/* Writes, arms the timer, goes on reading, or ends: whatever follows from what just happened. */
static void channel_settle(struct channel *channel)
{
    int error = channel_write(channel);
    if (error) {
        /* A port's host that went away is noticed by reading. */
        if (channel->options.kind == CHANNEL_SOCKET || error == -ENODEV)
            channel_end(channel, -error);
        return;
    }
    channel_arm_tick(channel);
    if (channel->has_eof && session_is_idle(channel->session)) {
        channel_end(channel, 0);
        return;
    }
    if (channel->is_paused &&
        session_unsent_bytes(channel->session) <= channel->options.unsent_max) {
        channel->is_paused = false;
        event_active(channel->input_event, EV_READ, 0);
    }
}

static void channel_take_eof(struct channel *channel)
{
    if (channel->options.kind == CHANNEL_PORT) {
        session_reset(channel->session);
        return;
    }
    channel->has_eof = true;
    if (channel_is_hung_up(channel))
        channel_end(channel, 0);
}

/* The host went away while it was not read from, or after it had closed its side. */
static void channel_take_hang_up(struct channel *channel)
{
    if (channel->options.kind == CHANNEL_SOCKET) {
        channel_end(channel, 0);
        return;
    }
    /* Nobody will read what is queued; then what the host still sent has room. */
    session_drop_output(channel->session);
    channel->is_paused = false;
}

/* Reads until there is nothing more, or it is somebody else's turn. */
static void channel_read(struct channel *channel)
{
    for (int reads = 0; !channel->has_eof && !channel->has_ended; reads++) {
        if (session_unsent_bytes(channel->session) > channel->options.unsent_max) {
            /* Perhaps the kernel takes some of it. */
            if (channel_write(channel) < 0)
                return;
            if (session_unsent_bytes(channel->session) > channel->options.unsent_max) {
                channel->is_paused = true;
                return;
            }
        }
        if (reads == READS_PER_TURN) {
            event_active(channel->input_event, EV_READ, 0);
            return;
        }
        ssize_t length = read(channel->fd, read_buffer, sizeof(read_buffer));
        if (length > 0) {
            session_input(channel->session, read_buffer, (size_t)length, clock_now_ms());
            /* A stream gives less than was asked for only when it has no more (epoll(7)); a port
             * gives one of its buffers at a time. */
            if (channel->options.kind == CHANNEL_SOCKET && !channel->is_closing &&
                (size_t)length < sizeof(read_buffer))
                return;
        } else if (length == 0) {
            channel_take_eof(channel);
            return;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            channel_end(channel, errno);
        }
    }
}

static void on_input(evutil_socket_t fd, short events, void *argument)
{
    struct channel *channel = argument;
    if (events & EV_CLOSED)
        channel->is_closing = true;
    channel->is_in_callback = true;
    if ((channel->has_eof || channel->is_paused) && channel_is_hung_up(channel))
        channel_take_hang_up(channel);
    if (!channel->has_ended && !channel->is_paused)
        channel_read(channel);
    channel->is_in_callback = false;
    if (!channel->has_ended)
        channel_settle(channel);
    channel_leave(channel);
}

static void on_wake(evutil_socket_t fd, short events, void *argument)
{
    struct channel *channel = argument;
    channel_settle(channel);
    channel_leave(channel);
}

static void on_tick(evutil_socket_t fd, short events, void *argument)
{
    struct channel *channel = argument;
    session_tick(channel->session, clock_now_ms());
    channel_settle(channel);
    channel_leave(channel);
}

static void on_output_ready(void *argument)
{
    struct channel *channel = argument;
    if (!channel->is_in_callback)
        event_active(channel->wake_event, EV_TIMEOUT, 0);
}

int channel_new(struct event_base *base, int fd, const struct channel_options *options,
                struct channel **ret_channel)
{
    assert_on_loop();
    struct channel *channel = calloc(1, sizeof(*channel));
    if (!channel) {
        close_fd(fd);
        return -ENOMEM;
    }
    channel->fd = fd;
    channel->options = *options;
    channel->session = session_new(options->endpoint, options->handler, options->handler_context,
                                   on_output_ready, channel);
    channel->input_event =
        event_new(base, fd, EV_READ | EV_CLOSED | EV_ET | EV_PERSIST, on_input, channel);
    channel->write_event = event_new(base, fd, EV_WRITE | EV_ET, on_wake, channel);
    channel->wake_event = event_new(base, -1, 0, on_wake, channel);
    channel->tick_timer = evtimer_new(base, on_tick, channel);
    if (!channel->session || !channel->input_event || !channel->write_event ||
        !channel->wake_event || !channel->tick_timer || event_add(channel->input_event, NULL) < 0) {
        channel_free(channel);
        return -ENOMEM;
    }
    *ret_channel = channel;
    return 0;
}

static void event_release(struct event *event)
{
    if (event)
        event_free(event);
}

struct channel *channel_free(struct channel *channel)
{
    if (!channel)
        return NULL;
    channel->has_ended = true;
    channel->is_in_callback = true; /* no more wake-ups */
    session_free(channel->session);
    event_release(channel->input_event);
    event_release(channel->write_event);
    event_release(channel->wake_event);
    event_release(channel->tick_timer);
    close_fd(channel->fd);
    free(channel);
    return NULL;
}

void channel_flush(struct channel *channel)
{
    if (!channel->has_ended && channel_write(channel) < 0)
        log_debug("channel %s: the last replies could not be written",
                  channel->options.endpoint->name);
}
