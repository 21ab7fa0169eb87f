/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_LINE_WRITER_H
#define BELLHOP_BASE_LINE_WRITER_H

/*
 * Appends lines to a file, or gives them to somebody else who may block, by a thread of its own, so that a
 * stuck disk holds nobody up. The queue is bounded: what does not fit into it, or could not be written, is
 * dropped and counted, and the count is written as soon as there is room again.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct buffer;
struct line_writer;

struct line_writer_options {
    /* The file, created with mode 0640. Borrowed for the call. NULL: `take` is called instead, with one
     * line, without its newline, at a time. It returns 0 or -errno. The writer's thread. */
    const char *path;
    int (*take)(void *context, const char *line, size_t length);
    void *context;

    size_t queued_bytes; /* the most that waits */
    /* Appends a line, with its newline, that says that so many were lost. The writer's thread. */
    void (*describe_lost)(uint64_t count, struct buffer *out);
};

/* Opens the file and starts the thread: after the last fork. A FIFO that nobody reads is refused with
 * -ENXIO. Returns 0 or -errno. */
int line_writer_new(const struct line_writer_options *options,
                    struct line_writer **ret_writer) MUST_CHECK;

/*
 * Writes what is queued, for at most `timeout_ms`, and ends the thread. One that is stuck is left
 * behind with all that it needs. Nobody may use the writer any more. Returns NULL.
 */
struct line_writer *line_writer_free(struct line_writer *writer, unsigned timeout_ms);

/* Waits until all that was queued is written, for at most `timeout_ms`. Returns whether it is. */
bool line_writer_flush(struct line_writer *writer, unsigned timeout_ms);

/* Queues a line, which ends with its newline. Never blocks on the file. */
void line_writer_write(struct line_writer *writer, const char *line, size_t length) ANY_THREAD;

/* Opens the file again before the next line is written (logrotate). Never blocks on the file. */
void line_writer_reopen(struct line_writer *writer) ANY_THREAD;

/*
 * Keeps the thread from writing, while filesystems are frozen; waits at most `wait_ms` for a write that
 * is under way, and returns false if there still is one.
 */
bool line_writer_hold(struct line_writer *writer, unsigned wait_ms) ANY_THREAD;
void line_writer_release(struct line_writer *writer) ANY_THREAD;

#endif
