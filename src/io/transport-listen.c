/* SPDX-License-Identifier: MIT */
#include "io/transport-listen.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <event2/event.h>

#include "base/log.h"

/* How long nothing is accepted after the system was out of descriptors or memory. */
#define ACCEPT_PAUSE_MS 200

/* When it is tried again to listen, with retry_path. */
#define LISTEN_RETRY_S 1

static bool may_accept(const struct transport_listen *listen)
{
    return listen->connections < listen->connections_max && !listen->is_short_of_resources;
}

/* Listens for further connections or, with every slot taken, leaves them to the backlog. */
static void update_accepting(struct transport_listen *listen)
{
    const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};

    if (!may_accept(listen)) {
        event_del(listen->readable);
    } else if (event_add(listen->readable, NULL) < 0) {
        listen->is_short_of_resources = true;
        event_add(listen->accept_again, &pause);
    }
}

static void on_accept_again(evutil_socket_t fd, short what, void *context)
{
    struct transport_listen *listen = context;

    listen->is_short_of_resources = false;
    update_accepting(listen);
}

/* The waiting client keeps the listener readable, so without a pause this would be a busy loop. */
static void pause_accepting(struct transport_listen *listen, int error)
{
    const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};

    if (!listen->is_failure_logged)
        log_warning("cannot accept connections on %s for now: %s", listen->common.path,
                    strerror(error));
    listen->is_failure_logged = true;
    listen->is_short_of_resources = true;
    event_add(listen->accept_again, &pause);
    update_accepting(listen);
}

static void on_readable(evutil_socket_t listener, short what, void *context)
{
    struct transport_listen *listen = context;
    struct transport *transport = &listen->common;
    int fd;

    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        /* the client has gone again, or an error of its own connection, accept(2) */
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            pause_accepting(listen, errno);
        return;
    }
    if (listen->is_welcome && !listen->is_welcome(listen, fd)) {
        close_fd(fd);
        return;
    }
    listen->is_failure_logged = false;
    listen->connections++;
    update_accepting(listen);
    transport->ops->connected(transport, fd, transport->context);
}

/* Takes a socket that was passed: it has to be one that can be listened on as our own ones are. */
static int take_passed(struct transport_listen *listen, int fd, char **ret_reason)
{
    int domain = 0;
    int is_listening = 0;
    int type = 0;
    int flags = fcntl(fd, F_GETFL);
    socklen_t length = sizeof(int);

    if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &length) < 0)
        return -errno;
    if (domain != listen->domain || type != SOCK_STREAM || !is_listening) {
        transport_set_reason(ret_reason,
                             "descriptor %d, which was passed for %s, is not listening "
                             "for %s",
                             fd, listen->common.path, listen->common.class->name);
        return -EINVAL;
    }
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return fd;
}

/* Returns 0 when it listens. */
static int begin(struct transport_listen *listen, int fd)
{
    listen->fd = fd;
    listen->readable =
        event_new(listen->common.base, fd, EV_READ | EV_PERSIST, on_readable, listen);
    return listen->readable && event_add(listen->readable, NULL) == 0 ? 0 : -ENOMEM;
}

static void try_later(struct transport_listen *listen)
{
    const struct timeval delay = {.tv_sec = LISTEN_RETRY_S};

    if (event_add(listen->listen_again, &delay) < 0)
        log_error("no memory to wait for %s", listen->common.path);
}

static void on_listen_again(evutil_socket_t fd, short what, void *context)
{
    struct transport_listen *listen = context;
    _cleanup_free_ char *reason = NULL;
    int result = listen->make_socket(listen, false, &reason);

    if (result < 0) {
        try_later(listen);
        return;
    }
    if (begin(listen, result) < 0)
        log_error("no memory to listen on %s", listen->common.path);
    else
        log_info("listening on %s", listen->common.path);
}

int transport_listen_start(struct transport_listen *listen, const struct transport *common,
                           const struct transport_options *options, char **ret_reason)
{
    int result;

    listen->common = *common;
    listen->connections_max = options->connections_max > 0 ? options->connections_max : 1;
    listen->fd = -1;
    listen->accept_again = evtimer_new(common->base, on_accept_again, listen);
    listen->listen_again = evtimer_new(common->base, on_listen_again, listen);
    if (!listen->accept_again || !listen->listen_again)
        return -ENOMEM;
    if (options->passed_fd > 0)
        result = take_passed(listen, options->passed_fd, ret_reason);
    else
        result = listen->make_socket(listen, true, ret_reason);
    if (result >= 0)
        return begin(listen, result);
    if (!options->retry_path || options->passed_fd > 0)
        return result;
    log_info("waiting for %s: %s", common->path, *ret_reason ? *ret_reason : strerror(-result));
    free(*ret_reason);
    *ret_reason = NULL;
    try_later(listen);
    return 0;
}

void transport_listen_disconnected(struct transport *transport)
{
    struct transport_listen *listen = (struct transport_listen *)transport;

    listen->connections--;
    update_accepting(listen);
}

void transport_listen_deinit(struct transport_listen *listen)
{
    struct event *events[] = {listen->readable, listen->accept_again, listen->listen_again};

    for (size_t i = 0; i < ARRAY_SIZE(events); i++)
        if (events[i])
            event_free(events[i]);
    close_fd(listen->fd);
}
