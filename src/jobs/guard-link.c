/* SPDX-License-Identifier: MIT */
#include "jobs/guard-link.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/clock.h"
#include "jobs/broker-socket.h"
#include "jobs/guard-protocol.h"

/* How often a wait asks whether it is cancelled. */
enum { LOOK_MS = 20 };

/* A guard that lives answers at once, whatever the guest is doing. */
enum { ANSWER_MS = 2000 };

/* How long the loop may wait for it. */
enum { LOOP_ANSWER_MS = 200 };

struct guard_link {
    int directory;
    int listener; /* until the guard has it */
    int talk;     /* questions and answers */
    int news;     /* what it says unasked */
    struct event *event;
    void (*told)(void *context, const struct guard_news *news);
    void *context;
};

/* As in broker-socket.c: the directory is named by its descriptor. */
static int socket_address(int directory, struct sockaddr_un *ret_address)
{
    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/%s", directory,
             GUARD_SOCKET_NAME);
    return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static struct guard_link *link_new(int directory)
{
    struct guard_link *link = calloc(1, sizeof(*link));
    if (link)
        *link = (struct guard_link){.directory = directory, .listener = -1, .talk = -1, .news = -1};
    return link;
}

struct guard_link *guard_link_free(struct guard_link *link)
{
    if (!link)
        return NULL;
    if (link->event)
        event_free(link->event);
    close_fd(link->listener);
    close_fd(link->talk);
    close_fd(link->news);
    free(link);
    return NULL;
}

int guard_link_listen(int directory, struct guard_link **ret_link)
{
    struct sockaddr_un address;
    _cleanup_close_ int fd = socket_address(directory, &address);
    if (fd < 0)
        return -errno;
    (void)unlinkat(directory, GUARD_SOCKET_NAME, 0);
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        fchmodat(directory, GUARD_SOCKET_NAME, 0600, 0) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    struct guard_link *link = link_new(directory);
    if (!link)
        return -ENOMEM;
    link->listener = take_fd(&fd);
    *ret_link = link;
    return 0;
}

static int connect_to_guard(int directory)
{
    struct sockaddr_un address;
    _cleanup_close_ int fd = socket_address(directory, &address);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return broker_socket_peer_is_trusted(fd) ? take_fd(&fd) : -EPERM;
}

static int subscribe(struct guard_link *link)
{
    int fd = connect_to_guard(link->directory);
    if (fd < 0)
        return fd;
    link->news = fd;
    return guard_message_send(fd, &(struct guard_message){.type = GUARD_SUBSCRIBE}, NULL, 0);
}

int guard_link_find(int directory, struct guard_link **ret_link)
{
    struct guard_link *link = link_new(directory);
    if (!link)
        return -ENOMEM;
    link->talk = connect_to_guard(directory);
    int error = link->talk < 0 ? link->talk : subscribe(link);
    if (error) {
        guard_link_free(link);
        return error == -ENOENT ? -ECONNREFUSED : error;
    }
    *ret_link = link;
    return 0;
}

/* --- starting one --- */

static int wait_for(int fd, const struct guard_orders *orders, uint64_t until_ms)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    for (;;) {
        int ready = poll(&wanted, 1, LOOK_MS);
        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return -errno;
        if (orders->is_cancelled && orders->is_cancelled(orders->context))
            return -ECANCELED;
        if (clock_now_ms() >= until_ms)
            return -ETIMEDOUT;
    }
}

static int accept_guard(struct guard_link *link, const struct guard_orders *orders,
                        uint64_t until_ms)
{
    int error = wait_for(link->listener, orders, until_ms);
    if (error)
        return error;
    link->talk = accept4(link->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (link->talk < 0)
        return -errno;
    return broker_socket_peer_is_trusted(link->talk) ? 0 : -EPERM;
}

static int give_orders(struct guard_link *link, const struct guard_orders *orders)
{
    struct guard_message message = {.type = GUARD_ARM, .deadline_ms = orders->deadline_ms};
    _cleanup_close_ int self = (int)syscall(SYS_pidfd_open, getpid(), 0);
    if (self < 0)
        return -errno;
    const int fds[] = {self, link->directory, link->listener};
    int error = guard_message_send(link->talk, &message, fds, ARRAY_SIZE(fds));
    for (size_t at = 0; at < orders->count && !error; at += message.count) {
        size_t left = orders->count - at;
        message = (struct guard_message){
            .type = GUARD_MOUNTS, .count = (uint32_t)(left < GUARD_FDS_MAX ? left : GUARD_FDS_MAX)};
        error = guard_message_send(link->talk, &message, orders->fds + at, message.count);
    }
    message = (struct guard_message){.type = GUARD_READY, .count = (uint32_t)orders->count};
    return error ? error : guard_message_send(link->talk, &message, NULL, 0);
}

static int receive(int fd, struct guard_message *ret_message)
{
    int fds[GUARD_FDS_MAX];
    size_t count;
    int error = guard_message_receive(fd, ret_message, fds, &count);
    for (size_t i = 0; i < count; i++)
        close_fd(fds[i]);
    return error;
}

static void say(struct guard_link *link, enum guard_message_type type, uint32_t flags)
{
    struct guard_message message = {.type = type, .flags = flags};
    /* One that does not hear it is gone, or thaws once more than it had to. */
    if (link->talk >= 0)
        (void)!guard_message_send(link->talk, &message, NULL, 0);
}

int guard_link_arm(struct guard_link *link, const struct guard_orders *orders, bool *ret_is_locked)
{
    uint64_t until_ms = clock_now_ms() + orders->timeout_ms;
    struct guard_message armed;
    int error = accept_guard(link, orders, until_ms);
    if (!error)
        error = give_orders(link, orders);
    if (!error)
        error = wait_for(link->talk, orders, until_ms);
    if (!error)
        error = receive(link->talk, &armed);
    if (!error && armed.type != GUARD_ARMED)
        error = -EBADMSG;
    if (!error && armed.flags & GUARD_CANNOT_THAW)
        error = -EPERM;
    if (!error)
        error = subscribe(link);
    if (error) {
        /* It may be ready all the same: it must not thaw what a later freeze has taken. */
        say(link, GUARD_DONE, GUARD_LEAVE_ALONE);
        return error;
    }
    *ret_is_locked = armed.flags & GUARD_IS_LOCKED;
    link->listener = close_fd(link->listener);
    return 0;
}

/* --- talking to it --- */

static struct guard_news news_of(const struct guard_message *message)
{
    return (struct guard_news){
        .has_fired = message->flags & GUARD_HAS_FIRED,
        .is_finished = message->flags & GUARD_IS_FINISHED,
        .is_incomplete = message->flags & GUARD_IS_INCOMPLETE,
        .deadline_ms = message->deadline_ms,
    };
}

static struct guard_news ask(struct guard_link *link, enum guard_message_type type)
{
    const struct guard_orders nothing = {.count = 0};
    uint64_t until_ms = clock_now_ms() + ANSWER_MS;
    struct guard_message message = {.type = type};
    int error = link->talk < 0 ? -EPIPE : guard_message_send(link->talk, &message, NULL, 0);
    do {
        if (!error)
            error = wait_for(link->talk, &nothing, until_ms);
        if (!error)
            error = receive(link->talk, &message);
    } while (!error && message.type != GUARD_ANSWER);
    return error ? (struct guard_news){.is_gone = true} : news_of(&message);
}

struct guard_news guard_link_claim(struct guard_link *link)
{
    return ask(link, GUARD_CLAIM);
}

struct guard_news guard_link_ask(struct guard_link *link)
{
    return ask(link, GUARD_ASK);
}

void guard_link_settled(struct guard_link *link)
{
    say(link, GUARD_SETTLED, 0);
}

static void wait_for_end(struct guard_link *link, unsigned timeout_ms)
{
    const struct guard_orders nothing = {.count = 0};
    uint64_t until_ms = clock_now_ms() + timeout_ms;
    struct guard_message message;
    while (link->talk >= 0 && wait_for(link->talk, &nothing, until_ms) == 0)
        if (receive(link->talk, &message) != 0)
            break;
}

void guard_link_done(struct guard_link *link, bool was_frozen)
{
    say(link, GUARD_DONE, was_frozen ? 0 : GUARD_LEAVE_ALONE);
    wait_for_end(link, ANSWER_MS);
}

void guard_link_done_on_loop(struct guard_link *link, bool was_frozen)
{
    assert_on_loop();
    say(link, GUARD_DONE, was_frozen ? 0 : GUARD_LEAVE_ALONE);
    if (was_frozen)
        wait_for_end(link, LOOP_ANSWER_MS);
}

bool guard_link_has_fired(struct guard_link *link)
{
    /* What it says is left for the loop. */
    struct pollfd wanted = {.fd = link->news, .events = POLLIN};
    return poll(&wanted, 1, 0) > 0;
}

static void on_news(evutil_socket_t fd, short events, void *argument)
{
    struct guard_link *link = argument;
    struct guard_message message;
    int error = receive(fd, &message);
    if (error == -EAGAIN)
        return;
    if (error)
        event_del(link->event);
    struct guard_news news = error ? (struct guard_news){.is_gone = true} : news_of(&message);
    link->told(link->context, &news);
}

int guard_link_watch(struct guard_link *link, struct event_base *base,
                     void (*told)(void *context, const struct guard_news *news), void *context)
{
    assert_on_loop();
    link->told = told;
    link->context = context;
    link->event = event_new(base, link->news, EV_READ | EV_PERSIST, on_news, link);
    return link->event && event_add(link->event, NULL) == 0 ? 0 : -ENOMEM;
}

void guard_link_unwatch(struct guard_link *link)
{
    assert_on_loop();
    if (link->event)
        event_free(link->event);
    link->event = NULL;
}
