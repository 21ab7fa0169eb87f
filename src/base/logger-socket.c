/* SPDX-License-Identifier: MIT */
#include "base/logger-socket.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

struct logger_socket {
    int fd; /* connected, or -1 */
    char *path;
};

/* Returns a connected socket or -errno. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = -1;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    return take_fd(&fd);
}

int logger_socket_open(const char *path, struct logger_socket **ret_socket)
{
    struct logger_socket *socket = calloc(1, sizeof(*socket));
    if (!socket)
        return -ENOMEM;
    socket->path = strdup(path);
    socket->fd = socket->path ? connect_to(path) : -ENOMEM;
    if (socket->fd < 0) {
        int error = socket->fd;
        logger_socket_free(socket);
        return error;
    }
    *ret_socket = socket;
    return 0;
}

struct logger_socket *logger_socket_free(struct logger_socket *socket)
{
    if (socket) {
        close_fd(socket->fd);
        free(socket->path);
        free(socket);
    }
    return NULL;
}

bool logger_socket_is_ready(const struct logger_socket *socket)
{
    struct pollfd poll_fd = {.fd = socket->fd, .events = POLLOUT};
    return socket->fd < 0 || poll(&poll_fd, 1, 0) != 0;
}

static int send_once(int fd, const void *bytes, size_t length, int passed_fd)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = {.bytes = {0}};
    struct iovec piece = {.iov_base = (void *)bytes, .iov_len = length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};

    if (passed_fd >= 0) {
        message.msg_iovlen = 0;
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof(control.bytes);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &passed_fd, sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Whether the error says that the logger at the other end has gone. */
static bool is_lost(int error)
{
    return error == -ECONNREFUSED || error == -ENOTCONN || error == -ECONNRESET || error == -EPIPE;
}

int logger_socket_send(struct logger_socket *socket, const void *bytes, size_t length,
                       int passed_fd)
{
    int error = socket->fd < 0 ? -ENOTCONN : send_once(socket->fd, bytes, length, passed_fd);

    if (!is_lost(error))
        return error;
    close_fd(socket->fd);
    socket->fd = connect_to(socket->path);
    if (socket->fd < 0) {
        error = socket->fd;
        socket->fd = -1;
        return error;
    }
    return send_once(socket->fd, bytes, length, passed_fd);
}
