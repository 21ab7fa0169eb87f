/* SPDX-License-Identifier: MIT */
#include "base/line-writer.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/clock.h"

struct line_writer {
    /* immutable */
    size_t queued_bytes_max;
    void (*describe_lost)(uint64_t count, struct buffer *out);
    int (*take)(void *context, const char *line, size_t length);
    void *context;
    char *path; /* NULL: `take` it is */
    pthread_t thread;

    /* the thread's */
    int fd;
    bool is_mid_line; /* an error cut a line off */

    pthread_mutex_t lock;
    pthread_cond_t work;    /* to the thread */
    pthread_cond_t settled; /* from the thread: a write is over, or it ends */

    /* guarded by lock */
    struct buffer queue; /* whole lines */
    uint64_t lines;      /* so many of them */
    uint64_t lost;
    bool is_broken; /* the last write failed: what was lost is told with the next lines */
    bool is_held;
    bool is_writing;
    bool wants_reopen;
    bool is_stopping;
    bool has_ended;
    bool is_left_behind; /* the thread frees it all */
};

static void free_all(struct line_writer *writer)
{
    close_fd(writer->fd);
    free(writer->path);
    buffer_deinit(&writer->queue);
    pthread_mutex_destroy(&writer->lock);
    pthread_cond_destroy(&writer->work);
    pthread_cond_destroy(&writer->settled);
    free(writer);
}

static bool has_work_locked(const struct line_writer *writer)
{
    return !writer->is_held && (writer->queue.length > 0 || writer->wants_reopen ||
                                (writer->lost > 0 && !writer->is_broken));
}

/* --- the file --- */

static int open_file(const char *path)
{
    /* O_NONBLOCK: a FIFO without a reader must fail instead of hanging the start. */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
    return fd < 0 ? -errno : fd;
}

/* Where the new one cannot be had, the old one goes on. */
static void reopen_file(struct line_writer *writer)
{
    int fd = writer->path ? open_file(writer->path) : -1;
    if (fd < 0)
        return;
    close_fd(writer->fd);
    writer->fd = fd;
    writer->is_mid_line = false;
}

static int write_bytes(struct line_writer *writer, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(writer->fd, bytes, length);
        if (written >= 0) {
            bytes += written;
            length -= (size_t)written;
            writer->is_mid_line = length > 0;
        } else if (errno == EAGAIN) {
            struct pollfd poll_fd = {.fd = writer->fd, .events = POLLOUT};
            if (poll(&poll_fd, 1, -1) < 0 && errno != EINTR)
                return -errno;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* --- the thread --- */

/* Returns how many of the lines are lost. */
static uint64_t give_lines(struct line_writer *writer, const struct buffer *lines)
{
    uint64_t lost = 0;
    const char *end = lines->data + lines->length;
    for (const char *line = lines->data; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline ? newline : end) - line);
        lost += writer->take(writer->context, line, length) < 0;
        line += length + 1;
    }
    return lost;
}

/* The same, which are `count`. Of a file nobody can say how many were written before an error. */
static uint64_t put_lines(struct line_writer *writer, const struct buffer *lines, uint64_t count)
{
    if (lines->length == 0)
        return 0;
    if (!writer->path)
        return give_lines(writer, lines);
    if (writer->is_mid_line && write_bytes(writer, "\n", 1) < 0)
        return count;
    return write_bytes(writer, lines->data, lines->length) < 0 ? count : 0;
}

/* Returns how many lines are lost, of these and of earlier ones. */
static uint64_t write_lines(struct line_writer *writer, const struct buffer *lines, uint64_t count,
                            uint64_t lost)
{
    if (lost > 0) {
        _cleanup_buffer_ struct buffer text = BUFFER_INIT;
        writer->describe_lost(lost, &text);
        if (text.failed || put_lines(writer, &text, 1) > 0)
            return lost + count;
    }
    return put_lines(writer, lines, count);
}

/* Writes all there is, unlocked meanwhile. */
static void step_locked(struct line_writer *writer)
{
    _cleanup_buffer_ struct buffer lines = buffer_take(&writer->queue);
    uint64_t count = writer->lines, lost = writer->lost;
    bool reopens = writer->wants_reopen;
    writer->lines = writer->lost = 0;
    writer->wants_reopen = false;
    writer->is_writing = true;
    pthread_mutex_unlock(&writer->lock);

    if (reopens)
        reopen_file(writer);
    lost = write_lines(writer, &lines, count, lost);

    pthread_mutex_lock(&writer->lock);
    writer->is_writing = false;
    writer->lost += lost;
    writer->is_broken = lost > 0;
    pthread_cond_broadcast(&writer->settled);
}

static void *run(void *argument)
{
    struct line_writer *writer = argument;
    thread_set_role(THREAD_LOG);
    pthread_mutex_lock(&writer->lock);
    while (!writer->is_left_behind) {
        if (has_work_locked(writer))
            step_locked(writer);
        else if (writer->is_stopping)
            break;
        else
            pthread_cond_wait(&writer->work, &writer->lock);
    }
    bool is_left_behind = writer->is_left_behind;
    writer->has_ended = true;
    pthread_cond_broadcast(&writer->settled);
    pthread_mutex_unlock(&writer->lock);
    if (is_left_behind)
        free_all(writer);
    return NULL;
}

/* Signals are for the loop; and a SIGPIPE of a write must not end the agent. */
static int start_thread(struct line_writer *writer)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = pthread_create(&writer->thread, NULL, run, writer);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error == 0)
        pthread_setname_np(writer->thread, "line-writer");
    return -error;
}

int line_writer_new(const struct line_writer_options *options, struct line_writer **ret_writer)
{
    struct line_writer *writer = calloc(1, sizeof(*writer));
    pthread_condattr_t attributes;
    if (!writer)
        return -ENOMEM;
    writer->queued_bytes_max = options->queued_bytes;
    writer->describe_lost = options->describe_lost;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->work, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&writer->settled, &attributes);
    pthread_condattr_destroy(&attributes);
    writer->take = options->take;
    writer->context = options->context;
    writer->path = options->path ? strdup(options->path) : NULL;
    writer->fd = writer->path ? open_file(writer->path) : -1;
    int error = options->path && !writer->path ? -ENOMEM : 0;
    if (error == 0 && writer->path && writer->fd < 0)
        error = writer->fd;
    if (error == 0)
        error = start_thread(writer);
    if (error < 0) {
        free_all(writer);
        return error;
    }
    *ret_writer = writer;
    return 0;
}

struct line_writer *line_writer_free(struct line_writer *writer, unsigned timeout_ms)
{
    if (!writer)
        return NULL;
    struct timespec deadline = clock_deadline(timeout_ms);
    pthread_t thread = writer->thread;
    pthread_mutex_lock(&writer->lock);
    writer->is_stopping = true;
    pthread_cond_broadcast(&writer->work);
    int waited = 0;
    while (!writer->has_ended && waited == 0)
        waited = pthread_cond_timedwait(&writer->settled, &writer->lock, &deadline);
    bool has_ended = writer->has_ended;
    writer->is_left_behind = !has_ended;
    pthread_cond_broadcast(&writer->work);
    if (!has_ended)
        pthread_detach(thread);
    pthread_mutex_unlock(&writer->lock);
    if (has_ended) {
        pthread_join(thread, NULL);
        free_all(writer);
    }
    return NULL;
}

bool line_writer_flush(struct line_writer *writer, unsigned timeout_ms)
{
    struct timespec deadline = clock_deadline(timeout_ms);
    int waited = 0;
    pthread_mutex_lock(&writer->lock);
    while ((writer->is_writing || writer->queue.length > 0) && waited == 0)
        waited = pthread_cond_timedwait(&writer->settled, &writer->lock, &deadline);
    bool is_written = !writer->is_writing && writer->queue.length == 0;
    pthread_mutex_unlock(&writer->lock);
    return is_written;
}

void line_writer_write(struct line_writer *writer, const char *line, size_t length)
{
    pthread_mutex_lock(&writer->lock);
    bool fits = writer->queue.length + length <= writer->queued_bytes_max;
    size_t before = writer->queue.length;
    if (fits)
        buffer_append(&writer->queue, line, length);
    if (!fits || writer->queue.failed) {
        /* What was queued is still whole. */
        writer->queue.failed = false;
        if (writer->queue.length > before)
            buffer_truncate(&writer->queue, before);
        writer->lost++;
    } else {
        writer->lines++;
    }
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
}

void line_writer_reopen(struct line_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->wants_reopen = true;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
}

bool line_writer_hold(struct line_writer *writer, unsigned wait_ms)
{
    struct timespec deadline = clock_deadline(wait_ms);
    int waited = 0;
    pthread_mutex_lock(&writer->lock);
    writer->is_held = true;
    while (writer->is_writing && waited == 0)
        waited = pthread_cond_timedwait(&writer->settled, &writer->lock, &deadline);
    bool is_quiet = !writer->is_writing;
    pthread_mutex_unlock(&writer->lock);
    return is_quiet;
}

void line_writer_release(struct line_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    writer->is_held = false;
    pthread_cond_signal(&writer->work);
    pthread_mutex_unlock(&writer->lock);
}
