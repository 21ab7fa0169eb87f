/* SPDX-License-Identifier: MIT */
#include "jobs/broker-link.h"

#include <event2/event.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"

#define READS_AT_ONCE 64   /* then others have their turn */
#define QUEUE_MAX     8192 /* a broker that takes nothing at all is not to fill the memory */

struct queued {
    struct list list;
    struct broker_message message;
    int fd;
};

struct broker_link {
    int fd; /* -1: lost */
    const struct broker_link_events *events;
    void *owner;
    struct event *readable;
    struct event *writable;
    bool is_met;
    uint32_t version; /* once it is met */
    bool is_odd;      /* it was said that it is, and so on */
    bool has_lacked_descriptors;
    struct list queue;
    size_t queue_length;
};

static void socket_is_readable(evutil_socket_t fd, short what, void *context)
{
    broker_link_read(context);
}

static void drop_first(struct broker_link *link)
{
    struct queued *first = list_first(&link->queue, struct queued, list);
    list_remove(&first->list);
    link->queue_length--;
    close_fd(first->fd);
    free(first);
}

static int send_now(struct broker_link *link, const struct broker_message *message, int fd)
{
    return broker_send(link->fd, message, sizeof(*message), &fd, fd < 0 ? 0 : 1);
}

static void socket_is_writable(evutil_socket_t fd, short what, void *context)
{
    struct broker_link *link = context;
    while (!list_is_empty(&link->queue)) {
        struct queued *first = list_first(&link->queue, struct queued, list);
        int error = send_now(link, &first->message, first->fd);
        if (error == -EAGAIN)
            return;
        /* Any other failure means that the connection is over, which reading will find. */
        drop_first(link);
    }
    event_del(link->writable);
}

static bool send_hello(struct broker_link *link)
{
    struct broker_hello hello = {
        .magic = BROKER_HELLO_MAGIC,
        .version_min = BROKER_PROTOCOL_VERSION_MIN,
        .version_max = BROKER_PROTOCOL_VERSION,
        .pid = getpid(),
    };
    /* It is the first packet, so there is room; a connection that is over is found by reading. */
    int error = broker_send(link->fd, &hello, sizeof(hello), NULL, 0);
    return error != -EAGAIN;
}

struct broker_link *broker_link_new_take(struct event_base *base, int fd,
                                         const struct broker_link_events *events, void *owner)
{
    assert_on_loop();
    struct broker_link *link = calloc(1, sizeof(*link));
    if (!link) {
        close_fd(fd);
        return NULL;
    }
    link->fd = fd;
    link->events = events;
    link->owner = owner;
    list_init(&link->queue);
    link->readable = event_new(base, fd, EV_READ | EV_PERSIST, socket_is_readable, link);
    link->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, socket_is_writable, link);
    if (!link->readable || !link->writable || event_add(link->readable, NULL) < 0 ||
        !send_hello(link))
        return broker_link_free(link);
    return link;
}

static void close_link(struct broker_link *link)
{
    if (link->readable)
        event_free(link->readable);
    if (link->writable)
        event_free(link->writable);
    link->readable = link->writable = NULL;
    while (!list_is_empty(&link->queue))
        drop_first(link);
    link->fd = close_fd(link->fd);
}

struct broker_link *broker_link_free(struct broker_link *link)
{
    assert_on_loop();
    if (!link)
        return NULL;
    close_link(link);
    free(link);
    return NULL;
}

static int enqueue_take(struct broker_link *link, const struct broker_message *message, int fd)
{
    struct queued *queued = link->queue_length < QUEUE_MAX ? malloc(sizeof(*queued)) : NULL;
    if (!queued) {
        close_fd(fd);
        return link->queue_length < QUEUE_MAX ? -ENOMEM : -ENOBUFS;
    }
    queued->message = *message;
    queued->fd = fd;
    list_append(&link->queue, &queued->list);
    link->queue_length++;
    event_add(link->writable, NULL);
    return 0;
}

int broker_link_send_take(struct broker_link *link, const struct broker_message *message, int fd)
{
    assert_on_loop();
    if (link->fd < 0) {
        close_fd(fd);
        return -EPIPE;
    }
    if (!list_is_empty(&link->queue))
        return enqueue_take(link, message, fd);
    int error = send_now(link, message, fd);
    if (error == -EAGAIN)
        return enqueue_take(link, message, fd);
    close_fd(fd);
    return error;
}

uint32_t broker_link_version(const struct broker_link *link)
{
    assert_on_loop();
    return link->version;
}

int broker_link_fd(const struct broker_link *link)
{
    assert_on_loop();
    return link->fd;
}

static int handle_hello(struct broker_link *link, const struct broker_hello *hello, size_t length,
                        size_t fd_count)
{
    if (!broker_hello_is_valid(hello, length, fd_count))
        return -EBADMSG;
    if (hello->version_min < BROKER_PROTOCOL_VERSION_MIN ||
        hello->version_min > BROKER_PROTOCOL_VERSION)
        return -EPROTONOSUPPORT;
    link->version = hello->version_min;
    link->is_met = true;
    link->events->met(link->owner, hello);
    return 0;
}

/* Said once for each reason: what goes wrong on one connection goes wrong often. */
static void complain(struct broker_link *link, bool lacks_descriptors)
{
    bool *has_complained = lacks_descriptors ? &link->has_lacked_descriptors : &link->is_odd;
    if (!*has_complained)
        log_error("a broker's message was passed over: %s",
                  lacks_descriptors ? "no file descriptors are left for what came with it"
                                    : "it was not understood");
    *has_complained = true;
}

/* Returns 1 when a packet was handled, 0 when there is none, -errno when the link is to be lost. */
static int read_one(struct broker_link *link)
{
    union {
        struct broker_hello hello;
        struct broker_message message;
    } packet;
    int fds[BROKER_FDS_MAX];
    size_t fd_count;
    int length = broker_receive(link->fd, &packet, sizeof(packet), fds, &fd_count);
    if (length == -EAGAIN)
        return 0;
    if (length == 0 || length == -ECONNRESET)
        return -EPIPE; /* the other side is gone, also when it had not read everything */
    if (length < 0 && length != -EBADMSG)
        return length;

    int result = 1;
    if (link->is_met && length > 0)
        broker_message_upgrade(&packet.message, (size_t)length, link->version);
    if (!link->is_met) {
        int error =
            length < 0 ? length : handle_hello(link, &packet.hello, (size_t)length, fd_count);
        if (error)
            result = error;
    } else if (length > 0 &&
               broker_message_is_valid(&packet.message, (size_t)length, fd_count, true)) {
        link->events->message(link->owner, &packet.message, fds);
    } else {
        complain(link, length > 0 && fd_count == BROKER_FDS_LOST);
    }
    for (size_t i = 0; i < BROKER_FDS_MAX; i++)
        close_fd(fds[i]);
    return result;
}

void broker_link_read(struct broker_link *link)
{
    assert_on_loop();
    int result = 1;
    for (int i = 0; i < READS_AT_ONCE && result > 0 && link->fd >= 0; i++)
        result = read_one(link);
    if (result < 0) {
        close_link(link);
        link->events->lost(link->owner, result == -EPIPE ? 0 : result);
    }
}
