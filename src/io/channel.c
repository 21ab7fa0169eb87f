/* SPDX-License-Identifier: MIT */
#include "io/channel.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/session.h"

/* How much is read at once: many requests, or a good piece of a large one. */
enum { READ_BYTES = 128 * 1024 };

/* How long a channel may go on before the others get their turn. */
enum { TURN_MS = 1 };

/* When writing is tried again that failed for want of memory. */
enum { RETRY_MS = 100 };

/* In which time the news that hosts have left and come follow what the last one sent. */
enum { ARRIVAL_MS = 250 };

enum { PIECES_PER_WRITE = 16 };

struct channel {
    int fd;
    struct channel_options options;
    struct session *session;
    struct event *input_event; /* readable, or closed by the peer */
    struct event *write_event; /* only pending while the kernel took less than there was */
    struct event *wake_event;  /* activated by hand: something is to be done outside of input */
    struct event *turn_timer;  /* to go on reading, once the others had their turn */
    struct event *tick_timer;
    struct event *away_timer; /* to see whether a host that seemed to arrive is there */

    uint64_t last_input_ms;

    /* What was read and the session has not taken: the rest of one read. */
    char *held;
    size_t held_length;
    size_t held_taken;

    bool is_paused;      /* there is too much output to go on reading */
    bool has_eof;        /* it was read: nothing more will come */
    bool is_in_callback; /* channel_settle() will come */
    bool has_ended;      /* its owner is told when the event's callback is through */
    int end_error;
};

/* A session takes it at once or it is held, so all channels share it. */
static char read_buffer[READ_BYTES];

static void channel_end(struct channel *channel, int error)
{
    if (channel->has_ended)
        return;
    channel->has_ended = true;
    channel->end_error = error;
}

static void add_timer(struct event *timer, uint64_t delay_ms)
{
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                            .tv_usec = (suseconds_t)(delay_ms % 1000) * 1000};
    event_add(timer, &delay);
}

static void channel_arm_tick(struct channel *channel)
{
    uint64_t at_ms = session_next_tick_ms(channel->session);
    uint64_t now_ms = clock_now_ms();
    if (at_ms > 0)
        add_timer(channel->tick_timer, at_ms > now_ms ? at_ms - now_ms : 0);
    else if (event_pending(channel->tick_timer, EV_TIMEOUT, NULL))
        event_del(channel->tick_timer);
}

/* Goes on reading after the other events. event_active() would come before them, again and again.
 */
static void channel_go_on_later(struct channel *channel)
{
    add_timer(channel->turn_timer, 0);
}

/* --- output --- */

/* Returns 0, or -errno if the connection is broken. */
static int channel_write(struct channel *channel)
{
    if (session_has_failed(channel->session)) {
        channel_end(channel, ENOMEM);
        return 0;
    }
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
            /* A port is always watched: to ask again would only tell again that nobody is there. */
            if (channel->options.kind == CHANNEL_SOCKET)
                event_add(channel->write_event, NULL);
            return 0;
        }
        return -errno;
    }
    return 0;
}

/*
 * True if the peer has closed both directions, so that nobody will read an answer.
 *
 * Not for a port that is being read: to answer poll(), its driver takes what has arrived out of its
 * queue, and the interrupt that was to tell of it then finds nothing new. It would be read when the
 * next thing happens, which may be the host's giving up.
 */
static bool channel_is_hung_up(const struct channel *channel)
{
    struct pollfd poll_fd = {.fd = channel->fd};
    return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLHUP | POLLERR));
}

static bool channel_has_room(const struct channel *channel)
{
    return session_unsent_bytes(channel->session) <= channel->options.endpoint->unsent_max;
}

static void channel_write_failed(struct channel *channel, int error)
{
    if (error == -ENOMEM || error == -ENOBUFS) {
        add_timer(channel->turn_timer, RETRY_MS);
    } else if (error == -ENODEV || channel->has_eof) {
        channel_end(channel, -error);
    } else {
        /* Nobody reads any more; but what was sent before that is still to have its effect. The end
         * of it is found by reading. */
        session_drop_output(channel->session);
    }
}

/* Writes, arms the timer, goes on reading, or ends: whatever follows from what just happened. */
static void channel_settle(struct channel *channel)
{
    int error = channel_write(channel);
    if (error)
        channel_write_failed(channel, error);
    channel_arm_tick(channel);
    if (channel->has_eof && session_is_idle(channel->session))
        channel_end(channel, 0);
    if (channel->is_paused && channel_has_room(channel)) {
        channel->is_paused = false;
        channel_go_on_later(channel);
    }
}

/* The last thing that any event's callback does: the owner may free the channel. */
static void channel_leave(struct channel *channel)
{
    if (!channel->has_ended)
        channel_settle(channel);
    channel->is_in_callback = false;
    if (channel->has_ended)
        channel->options.ended(channel->options.context, channel, channel->end_error);
}

/* --- input --- */

/* There is too much output. Returns whether that is so no more, or not to be minded. */
static bool channel_make_room(struct channel *channel)
{
    int error = channel_write(channel); /* perhaps the kernel takes some of it */
    if (error)
        channel_write_failed(channel, error);
    if (channel_has_room(channel))
        return true;
    if (!channel_is_hung_up(channel))
        return false;
    /* What the host sent before it went away has room: nobody will read what is queued. */
    session_drop_output(channel->session);
    return true;
}

/* Whether more may be read or taken now; if not, it is seen to that it will. */
static bool channel_may_go_on(struct channel *channel, uint64_t until_ms)
{
    channel->is_paused = !channel_has_room(channel) && !channel_make_room(channel);
    if (channel->is_paused || channel->has_ended)
        return false;
    if (clock_now_ms() >= until_ms) {
        channel_go_on_later(channel);
        return false;
    }
    return true;
}

/*
 * A port's end of file says that no host is there. But bytes and the news of hosts coming and going
 * come through different queues: what a host sends as soon as it is there (Proxmox does, with a new
 * connection for every command) may be read before it counts as there, even before its predecessor
 * counts as gone. It is to get its answers; so if input has just come, whether the host has
 * really gone is looked at a moment later.
 */
static void channel_take_away(struct channel *channel)
{
    uint64_t quiet_ms = clock_now_ms() - channel->last_input_ms;
    if (quiet_ms < ARRIVAL_MS) {
        add_timer(channel->away_timer, ARRIVAL_MS - quiet_ms);
        return;
    }
    log_debug("channel %s: the host is away", channel->options.endpoint->name);
    session_reset(channel->session);
}

static void channel_take_eof(struct channel *channel)
{
    if (channel->options.kind == CHANNEL_PORT) {
        channel_take_away(channel);
        return;
    }
    channel->has_eof = true;
    if (channel_is_hung_up(channel))
        channel_end(channel, 0);
}

/* Gives the session bytes, as long as it may. Returns how many it has taken. */
static size_t channel_feed(struct channel *channel, const char *bytes, size_t length,
                           uint64_t until_ms)
{
    size_t taken = 0;
    while (taken < length && channel_may_go_on(channel, until_ms))
        taken += session_input(channel->session, bytes + taken, length - taken, clock_now_ms());
    return taken;
}

/* Keeps what the session may not take yet. Without memory it takes it all the same. */
static void channel_hold(struct channel *channel, const char *bytes, size_t length)
{
    channel->held = malloc(length);
    channel->held_length = length;
    channel->held_taken = 0;
    if (channel->held)
        memcpy(channel->held, bytes, length);
    else
        while (length > 0) {
            size_t taken = session_input(channel->session, bytes, length, clock_now_ms());
            bytes += taken;
            length -= taken;
        }
}

/* Returns true if nothing is held any more. */
static bool channel_feed_held(struct channel *channel, uint64_t until_ms)
{
    if (!channel->held)
        return true;
    channel->held_taken += channel_feed(channel, channel->held + channel->held_taken,
                                        channel->held_length - channel->held_taken, until_ms);
    if (channel->held_taken < channel->held_length)
        return false;
    free(take_ptr(&channel->held));
    return true;
}

/*
 * Reads until there is nothing more, there is too much output, or it is somebody else's turn. Only
 * EAGAIN says for sure that there is nothing more: a port gives one of its buffers at a time, a
 * unix socket stops where descriptors were sent along.
 */
static void channel_read(struct channel *channel)
{
    uint64_t until_ms = clock_now_ms() + TURN_MS;
    if (!channel_feed_held(channel, until_ms))
        return;
    while (channel_may_go_on(channel, until_ms)) {
        ssize_t length = read(channel->fd, read_buffer, sizeof(read_buffer));
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0) {
            if (errno != EAGAIN)
                channel_end(channel, errno);
            return;
        }
        if (length == 0) {
            channel_take_eof(channel);
            return;
        }
        channel->last_input_ms = clock_now_ms();
        size_t taken = channel_feed(channel, read_buffer, (size_t)length, until_ms);
        if (taken < (size_t)length) {
            channel_hold(channel, read_buffer + taken, (size_t)length - taken);
            return;
        }
    }
}

/* --- events --- */

static void on_input(evutil_socket_t fd, short events, void *argument)
{
    struct channel *channel = argument;
    channel->is_in_callback = true;
    if (!channel->has_eof)
        channel_read(channel);
    else if (channel_is_hung_up(channel))
        channel_end(channel, 0);
    channel_leave(channel);
}

static void on_wake(evutil_socket_t fd, short events, void *argument)
{
    channel_leave(argument);
}

static void on_tick(evutil_socket_t fd, short events, void *argument)
{
    struct channel *channel = argument;
    channel->is_in_callback = true;
    session_tick(channel->session, clock_now_ms());
    channel_leave(channel);
}

static void on_output_ready(void *argument)
{
    struct channel *channel = argument;
    if (!channel->is_in_callback)
        event_active(channel->wake_event, EV_TIMEOUT, 0);
}

/* --- its life --- */

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
    if (channel->session && options->peer)
        session_set_peer(channel->session, options->peer);
    channel->options.peer = NULL;
    short watched = EV_READ | EV_ET | EV_PERSIST;
    if (options->kind == CHANNEL_PORT)
        watched |= EV_WRITE;
    channel->input_event = event_new(base, fd, watched, on_input, channel);
    channel->write_event = event_new(base, fd, EV_WRITE | EV_ET, on_wake, channel);
    channel->wake_event = event_new(base, -1, 0, on_wake, channel);
    channel->turn_timer = evtimer_new(base, on_input, channel);
    channel->tick_timer = evtimer_new(base, on_tick, channel);
    channel->away_timer = evtimer_new(base, on_input, channel); /* another end of file will tell */
    if (!channel->session || !channel->input_event || !channel->write_event ||
        !channel->wake_event || !channel->turn_timer || !channel->tick_timer ||
        !channel->away_timer || event_add(channel->input_event, NULL) < 0) {
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
    event_release(channel->turn_timer);
    event_release(channel->tick_timer);
    event_release(channel->away_timer);
    close_fd(channel->fd);
    free(channel->held);
    free(channel);
    return NULL;
}

void channel_flush(struct channel *channel)
{
    if (!channel->has_ended && channel_write(channel) < 0)
        log_debug("channel %s: the last replies could not be written",
                  channel->options.endpoint->name);
}

void channel_drain(struct channel *channel, uint64_t until_ms)
{
    struct iovec piece;
    if (!channel->has_ended)
        channel_go_on_later(channel); /* a port's poll() below may take the news of input */
    channel_flush(channel);
    while (!channel->has_ended && session_output(channel->session, &piece, 1) > 0) {
        uint64_t now_ms = clock_now_ms();
        struct pollfd writable = {.fd = channel->fd, .events = POLLOUT};
        if (now_ms >= until_ms || poll(&writable, 1, (int)(until_ms - now_ms)) < 0 ||
            !(writable.revents & POLLOUT)) {
            log_warning("channel %s: the host does not take the last replies",
                        channel->options.endpoint->name);
            return;
        }
        if (channel_write(channel) < 0)
            return; /* met again, and dealt with, when the loop goes on */
    }
}
