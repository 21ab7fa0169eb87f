/* SPDX-License-Identifier: MIT */
/*
 * unix-listen: a listening stream socket.
 *
 * Taking over the socket of an agent that was killed must not take one away from an agent that
 * lives, nor may two that start together both believe that they have it: a socket that is bound
 * but not yet listened on looks abandoned. So from the first look until it listens an agent holds
 * a lock on the directory.
 */
#include "io/transport-listen.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_WAIT_MS  1000
#define LOCK_RETRY_MS 5

struct transport_unix {
    struct transport_listen listen;
    mode_t mode;  /* of the socket's file */
    dev_t device; /* which file at the path is ours; none with `inode` 0 */
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
static int lock_directory(const char *path, unsigned wait_ms)
{
    _cleanup_free_ char *copy = strdup(path);
    _cleanup_close_ int fd = -1;

    if (!copy)
        return -1;
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    for (unsigned waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += LOCK_RETRY_MS) {
        if (errno != EWOULDBLOCK || waited_ms >= wait_ms)
            return -1;
        usleep(LOCK_RETRY_MS * 1000);
    }
    return take_fd(&fd);
}

static bool is_own_file(const struct transport_unix *unix_transport)
{
    struct stat status;

    return lstat(unix_transport->listen.common.path, &status) == 0 &&
           status.st_dev == unix_transport->device && status.st_ino == unix_transport->inode;
}

static int bind_to_path(int fd, const char *path, mode_t mode, char **ret_reason)
{
    struct sockaddr_un address;
    int result;

    result = unix_address(path, &address, ret_reason);
    if (result < 0)
        return result;
    /* Linux makes the file with the mode that the socket has when it is bound. */
    if (fchmod(fd, mode) < 0)
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

static int unix_make_socket(struct transport_listen *transport, bool may_wait, char **ret_reason)
{
    struct transport_unix *unix_transport = (struct transport_unix *)transport;
    const char *path = transport->common.path;
    _cleanup_close_ int lock = -1;
    _cleanup_close_ int fd = -1;
    struct stat status;
    int result;

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    lock = lock_directory(path, may_wait ? LOCK_WAIT_MS : 0);
    result = bind_to_path(fd, path, unix_transport->mode, ret_reason);
    if (result < 0)
        return result;
    /* Binding leaves out what the process's mask has. */
    if (unix_transport->mode != 0600 && chmod(path, unix_transport->mode) < 0)
        return -errno;
    if (lstat(path, &status) < 0 || listen(fd, SOMAXCONN) < 0)
        return -errno;
    unix_transport->device = status.st_dev;
    unix_transport->inode = status.st_ino;
    return take_fd(&fd);
}

static void unix_free(struct transport *transport)
{
    struct transport_unix *unix_transport = (struct transport_unix *)transport;

    /* Looked at before the listener is closed: until then its inode cannot be another file's. */
    if (unix_transport->inode != 0 && is_own_file(unix_transport))
        unlink(transport->path);
    transport_listen_deinit(&unix_transport->listen);
    free(unix_transport);
}

static int unix_open(const struct transport *common, const struct transport_options *options,
                     struct transport **ret_transport, char **ret_reason)
{
    struct transport_unix *unix_transport = calloc(1, sizeof(*unix_transport));
    int result;

    if (!unix_transport)
        return -ENOMEM;
    unix_transport->listen.domain = AF_UNIX;
    unix_transport->listen.make_socket = unix_make_socket;
    unix_transport->mode = options->is_open_to_all ? 0666 : 0600;
    result = transport_listen_start(&unix_transport->listen, common, options, ret_reason);
    if (result < 0) {
        unix_free(&unix_transport->listen.common);
        return result;
    }
    *ret_transport = &unix_transport->listen.common;
    return 0;
}

const struct transport_class transport_unix_class = {
    .name = "unix-listen",
    .open = unix_open,
    .disconnected = transport_listen_disconnected,
    .free = unix_free,
};
