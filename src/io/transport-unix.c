/* SPDX-License-Identifier: MIT */
/*
 * unix-listen: a listening stream socket.
 *
 * Taking over the socket of an agent that was killed must not take one away from an agent that
 * lives, nor may two that start together both believe that they have it: a socket that is bound
 * but not yet listened on looks abandoned. So from the first look until it listens an agent holds
 * a lock on the directory.
 */
#include "io/transport-method.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"

/* How long nothing is accepted after the system was out of descriptors or memory. */
#define ACCEPT_PAUSE_MS 200

#define LOCK_WAIT_MS  1000
#define LOCK_RETRY_MS 5

struct transport_unix {
    struct transport common;
    unsigned connections;
    unsigned connections_max;
    bool is_short_of_resources; /* accepting pauses until accept_again fires */
    bool is_failure_logged;     /* since the last connection */
    int listener;
    struct event *readable;
    struct event *accept_again;
    dev_t device; /* which file at the path is ours */
    ino_t inode;
};

static int unix_address(const char *path, struct sockaddr_un *ret_address, char **ret_reason)
{
    size_t length = strlen(path);

    *ret_address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length >= sizeof(ret_address->sun_path)) {
        transport_set_reason(ret_reason, "the path of a unix socket has at most %zu characters: %s",
                             sizeof(ret_address->sun_path) - 1, path);
        return -ENAMETOOLONG;
    }
    memcpy(ret_address->sun_path, path, length);
    return 0;
}

/* Returns 1 if somebody listens there (or might), 0 if nobody does, or -errno. */
static int is_listened_on(const struct sockaddr_un *address)
{
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
        return 1;
    switch (errno) {
    case ECONNREFUSED:
    case ENOENT: /* it went away by itself */
        return 0;
    case EAGAIN: /* a full backlog */
    case EPROTOTYPE:
        return 1;
    default:
        return -errno;
    }
}

/* Removes the socket at the address if nobody listens on it any more. */
static int remove_stale_socket(const struct sockaddr_un *address, char **ret_reason)
{
    const char *path = address->sun_path;
    struct stat status;
    int result;

    if (lstat(path, &status) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode)) {
        transport_set_reason(ret_reason, "%s exists and is not a socket", path);
        return -EEXIST;
    }
    result = is_listened_on(address);
    if (result < 0)
        return result;
    if (result > 0) {
        transport_set_reason(ret_reason, "another program listens on %s", path);
        return -EADDRINUSE;
    }
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

/*
 * Locks the directory of the socket until the descriptor is closed. Everybody who can read the
 * directory can lock it: nobody waits for that for ever, and -1 only means to do without.
 */
static int lock_directory(const char *path)
{
    _cleanup_free_ char *copy = strdup(path);
    _cleanup_close_ int fd = -1;

    if (!copy)
        return -1;
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    for (unsigned waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += LOCK_RETRY_MS) {
        if (errno != EWOULDBLOCK || waited_ms >= LOCK_WAIT_MS)
            return -1;
        usleep(LOCK_RETRY_MS * 1000);
    }
    return take_fd(&fd);
}

static bool is_own_file(const struct transport_unix *unix_transport)
{
    struct stat status;

    return lstat(unix_transport->common.path, &status) == 0 &&
           status.st_dev == unix_transport->device && status.st_ino == unix_transport->inode;
}

static int bind_to_path(int fd, const char *path, char **ret_reason)
{
    struct sockaddr_un address;
    int result;

    result = unix_address(path, &address, ret_reason);
    if (result < 0)
        return result;
    /* Linux makes the file with the mode that the socket has when it is bound. */
    if (fchmod(fd, 0600) < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return 0;
    if (errno != EADDRINUSE)
        return -errno;
    result = remove_stale_socket(&address, ret_reason);
    if (result < 0)
        return result;
    return bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

static int listen_at_path(struct transport_unix *unix_transport, char **ret_reason)
{
    const char *path = unix_transport->common.path;
    _cleanup_close_ int lock = -1;
    struct stat status;
    int result;

    unix_transport->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (unix_transport->listener < 0)
        return -errno;
    lock = lock_directory(path);
    result = bind_to_path(unix_transport->listener, path, ret_reason);
    if (result < 0)
        return result;
    if (lstat(path, &status) < 0)
        return -errno;
    unix_transport->device = status.st_dev;
    unix_transport->inode = status.st_ino;
    return listen(unix_transport->listener, SOMAXCONN) < 0 ? -errno : 0;
}

static bool may_accept(const struct transport_unix *unix_transport)
{
    return unix_transport->connections < unix_transport->connections_max &&
           !unix_transport->is_short_of_resources;
}

/* Listens for further connections or, with every slot taken, leaves them to the backlog. */
static void update_accepting(struct transport_unix *unix_transport)
{
    const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};

    if (!may_accept(unix_transport)) {
        event_del(unix_transport->readable);
    } else if (event_add(unix_transport->readable, NULL) < 0) {
        unix_transport->is_short_of_resources = true;
        event_add(unix_transport->accept_again, &pause);
    }
}

static void on_accept_again(evutil_socket_t fd, short what, void *context)
{
    struct transport_unix *unix_transport = context;

    unix_transport->is_short_of_resources = false;
    update_accepting(unix_transport);
}

/* The waiting client keeps the listener readable, so without a pause this would be a busy loop. */
static void pause_accepting(struct transport_unix *unix_transport, int error)
{
    const struct timeval pause = {.tv_usec = ACCEPT_PAUSE_MS * 1000};

    if (!unix_transport->is_failure_logged)
        log_warning("cannot accept connections on %s for now: %s", unix_transport->common.path,
                    strerror(error));
    unix_transport->is_failure_logged = true;
    unix_transport->is_short_of_resources = true;
    event_add(unix_transport->accept_again, &pause);
    update_accepting(unix_transport);
}

static void on_readable(evutil_socket_t listener, short what, void *context)
{
    struct transport_unix *unix_transport = context;
    struct transport *transport = &unix_transport->common;
    int fd;

    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        /* the client has gone again, or an error of its own connection, accept(2) */
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            pause_accepting(unix_transport, errno);
        return;
    }
    unix_transport->is_failure_logged = false;
    unix_transport->connections++;
    update_accepting(unix_transport);
    transport->ops->connected(transport, fd, transport->context);
}

static void unix_free(struct transport *transport)
{
    struct transport_unix *unix_transport = (struct transport_unix *)transport;

    /* Looked at before the listener is closed: until then its inode cannot be another file's. */
    if (unix_transport->listener >= 0 && unix_transport->inode != 0 && is_own_file(unix_transport))
        unlink(transport->path);
    if (unix_transport->readable)
        event_free(unix_transport->readable);
    if (unix_transport->accept_again)
        event_free(unix_transport->accept_again);
    close_fd(unix_transport->listener);
    free(unix_transport);
}

static int unix_start(struct transport_unix *unix_transport, char **ret_reason)
{
    struct event_base *base = unix_transport->common.base;
    int result;

    result = listen_at_path(unix_transport, ret_reason);
    if (result < 0)
        return result;
    unix_transport->readable = event_new(base, unix_transport->listener, EV_READ | EV_PERSIST,
                                         on_readable, unix_transport);
    unix_transport->accept_again = evtimer_new(base, on_accept_again, unix_transport);
    if (!unix_transport->readable || !unix_transport->accept_again ||
        event_add(unix_transport->readable, NULL) < 0)
        return -ENOMEM;
    return 0;
}

static int unix_open(const struct transport *common, const struct transport_options *options,
                     struct transport **ret_transport, char **ret_reason)
{
    struct transport_unix *unix_transport = calloc(1, sizeof(*unix_transport));
    int result;

    if (!unix_transport)
        return -ENOMEM;
    unix_transport->common = *common;
    unix_transport->connections_max = options->connections_max > 0 ? options->connections_max : 1;
    unix_transport->listener = -1;
    result = unix_start(unix_transport, ret_reason);
    if (result < 0) {
        unix_free(&unix_transport->common);
        return result;
    }
    *ret_transport = &unix_transport->common;
    return 0;
}

static void unix_disconnected(struct transport *transport)
{
    struct transport_unix *unix_transport = (struct transport_unix *)transport;

    unix_transport->connections--;
    update_accepting(unix_transport);
}

const struct transport_class transport_unix_class = {
    .name = "unix-listen",
    .open = unix_open,
    .disconnected = unix_disconnected,
    .free = unix_free,
};
