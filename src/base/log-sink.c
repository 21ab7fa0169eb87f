/* SPDX-License-Identifier: MIT */
#include "base/log-sink.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/journal.h"
#include "base/log-line.h"
#include "base/logger-socket.h"

#define SYSLOG_SOCKET "/dev/log"

enum { SYSLOG_FACILITY_DAEMON = 3 };

struct log_sink {
    /* Where to: the one that is not NULL, else `fd`. */
    struct journal *journal;
    struct logger_socket *syslog;
    int fd;

    char *path;      /* of a file; NULL: stderr, which is not ours to close */
    bool has_levels; /* stderr leads to the journal */
    bool mid_line;   /* an error cut a line off */
};

/* As syslog(3) numbers them. */
static int priority_of(enum log_level level)
{
    static const int priorities[] = {
        [LOG_ERROR] = 3, [LOG_WARNING] = 4, [LOG_INFO] = 6, [LOG_DEBUG] = 7};

    return priorities[level];
}

/* --- opening --- */

static int open_file(const char *path)
{
    /* O_NONBLOCK: opening a FIFO without a reader must fail instead of hanging the start. It stays
     * set, this open file description being nobody else's; log_sink_write() waits by poll(). */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    return fd < 0 ? -errno : fd;
}

/* True if systemd has connected that descriptor with the journal, systemd.exec(5). */
static bool is_journal_stream(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    uint64_t device, inode;

    return stream && sscanf(stream, "%" SCNu64 ":%" SCNu64, &device, &inode) == 2 &&
           fstat(fd, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

/* What follows the prefix, "" included; NULL if there is none. */
static const char *after_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0 ? text + strlen(prefix) : NULL;
}

static int open_destination(struct log_sink *sink, const char *destination)
{
    const char *journal = destination ? after_prefix(destination, "journal:") : NULL;
    const char *syslog = destination ? after_prefix(destination, "syslog:") : NULL;

    if (!destination) {
        sink->fd = STDERR_FILENO;
        sink->has_levels = is_journal_stream(sink->fd);
        return 0;
    }
    if (journal) {
        int error = journal_open(*journal ? journal : NULL, &sink->journal);
        return error < 0 && !*journal ? logger_socket_open(SYSLOG_SOCKET, &sink->syslog) : error;
    }
    if (syslog)
        return logger_socket_open(*syslog ? syslog : SYSLOG_SOCKET, &sink->syslog);
    sink->path = strdup(destination);
    sink->fd = sink->path ? open_file(destination) : -ENOMEM;
    return sink->fd < 0 ? sink->fd : 0;
}

int log_sink_open(const char *destination, struct log_sink **ret_sink)
{
    struct log_sink *sink = calloc(1, sizeof(*sink));
    if (!sink)
        return -ENOMEM;
    sink->fd = -1;
    int error = open_destination(sink, destination);
    if (error < 0) {
        log_sink_free(sink);
        return error;
    }
    *ret_sink = sink;
    return 0;
}

struct log_sink *log_sink_free(struct log_sink *sink)
{
    if (sink) {
        journal_free(sink->journal);
        logger_socket_free(sink->syslog);
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

/* --- writing --- */

bool log_sink_is_ready(const struct log_sink *sink)
{
    if (sink->journal)
        return journal_is_ready(sink->journal);
    if (sink->syslog)
        return logger_socket_is_ready(sink->syslog);
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

static int write_line(struct log_sink *sink, const char *line, size_t length)
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

static int write_to_journal(struct log_sink *sink, enum log_level level, const char *text,
                            size_t length)
{
    char priority[] = {(char)('0' + priority_of(level)), '\0'};
    const struct journal_field fields[] = {
        {.name = "MESSAGE", .value = text, .length = length},
        JOURNAL_TEXT("PRIORITY", priority),
        JOURNAL_TEXT("SYSLOG_FACILITY", "3"),
        JOURNAL_TEXT("SYSLOG_IDENTIFIER", program_invocation_short_name),
    };

    return journal_send(sink->journal, fields, ARRAY_SIZE(fields));
}

/* Without a time: syslog's has no zone, and what receives a line without one adds its own. */
static int write_to_syslog(struct log_sink *sink, enum log_level level, const char *text,
                           size_t length)
{
    char line[LOG_LINE_MAX + 64];
    int used = snprintf(line, sizeof(line), "<%d>%.32s[%d]: %.*s",
                        SYSLOG_FACILITY_DAEMON * 8 + priority_of(level),
                        program_invocation_short_name, (int)getpid(), (int)length, text);

    return logger_socket_send(sink->syslog, line, (size_t)used, -1);
}

int log_sink_write(struct log_sink *sink, const struct timespec *time, enum log_level level,
                   const char *text, size_t length)
{
    char line[LOG_LINE_MAX];
    size_t line_length;

    if (sink->journal)
        return write_to_journal(sink, level, text, length);
    if (sink->syslog)
        return write_to_syslog(sink, level, text, length);
    if (sink->has_levels)
        line_length = (size_t)snprintf(line, sizeof(line), "<%d>%.*s\n", priority_of(level),
                                       (int)length, text);
    else
        line_length = log_line_format(line, time, level, text, length);
    return write_line(sink, line, line_length);
}
