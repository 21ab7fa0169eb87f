/* SPDX-License-Identifier: MIT */
#include "base/log-sink.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

struct log_sink {
    int fd;
    char *path;    /* NULL: stderr, which is not ours to close */
    bool mid_line; /* an error cut a line off */
};

static int open_file(const char *path)
{
    /* O_NONBLOCK: opening a FIFO without a reader must fail instead of hanging the start. It stays
     * set, this open file description being nobody else's; log_sink_write() waits by poll(). */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    return fd < 0 ? -errno : fd;
}

int log_sink_open(const char *path, struct log_sink **ret_sink)
{
    struct log_sink *sink = calloc(1, sizeof(*sink));
    if (!sink)
        return -ENOMEM;
    sink->fd = STDERR_FILENO;
    if (path) {
        sink->path = strdup(path);
        sink->fd = sink->path ? open_file(path) : -ENOMEM;
        if (sink->fd < 0) {
            int error = sink->fd;
            log_sink_free(sink);
            return error;
        }
    }
    *ret_sink = sink;
    return 0;
}

struct log_sink *log_sink_free(struct log_sink *sink)
{
    if (sink) {
        if (sink->path)
            close_fd(sink->fd);
        free(sink->path);
        free(sink);
    }
    return NULL;
}

int log_sink_reopen(struct log_sink *sink)
{
    if (!sink->path)
        return 0;
    int fd = open_file(sink->path);
    if (fd < 0)
        return fd;
    close_fd(sink->fd);
    sink->fd = fd;
    sink->mid_line = false;
    return 0;
}

bool log_sink_is_ready(const struct log_sink *sink)
{
    struct pollfd poll_fd = {.fd = sink->fd, .events = POLLOUT};
    return poll(&poll_fd, 1, 0) != 0;
}

static int write_all(int fd, const char *bytes, size_t length, bool *ret_partly)
{
    size_t done = 0;

    while (done < length) {
        ssize_t written = write(fd, bytes + done, length - done);
        if (written >= 0) {
            done += (size_t)written;
        } else if (errno == EAGAIN) {
            struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
            if (poll(&poll_fd, 1, -1) < 0 && errno != EINTR)
                return -errno;
        } else if (errno != EINTR) {
            *ret_partly = done > 0;
            return -errno;
        }
    }
    *ret_partly = false;
    return 0;
}

int log_sink_write(struct log_sink *sink, const char *line, size_t length)
{
    bool partly = false;
    int error;

    if (sink->mid_line) {
        error = write_all(sink->fd, "\n", 1, &partly);
        if (error < 0)
            return error;
        sink->mid_line = false;
    }
    error = write_all(sink->fd, line, length, &partly);
    sink->mid_line = partly;
    return error;
}
