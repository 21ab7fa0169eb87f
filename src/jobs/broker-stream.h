/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_STREAM_H
#define BELLHOP_JOBS_BROKER_STREAM_H

/*
 * One stream of a program's output: a pipe that is drained into a memfd, which comes to be with the
 * first byte. The program is never held up: what is beyond a limit is read and dropped, and as long
 * as anybody has the pipe open it is read, so that no background child dies of SIGPIPE.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "jobs/broker-poll.h"

/* What all streams together may keep. */
struct broker_budget {
    uint64_t used_bytes;
    uint64_t max_bytes;
};

struct broker_stream {
    struct broker_source source; /* the pipe's end; fd -1 at its end */
    int memory_fd;               /* -1 while nothing was kept */
    uint64_t size_bytes;
    uint64_t size_bytes_max;
    uint64_t last_byte_ms;
    bool is_truncated;
    bool is_closed; /* nothing is kept any more, only read */
};

#define BROKER_STREAM_INIT                            \
    {                                                 \
        .source = BROKER_SOURCE_INIT, .memory_fd = -1 \
    }

/*
 * Makes the pipe. `ret_child_end` is the program's end of it, the caller's. Its events go to
 * `ready`, which calls broker_stream_drain(). Returns 0 or -errno.
 */
int broker_stream_open(struct broker_stream *stream, int poll_fd, uint64_t size_bytes_max,
                       void (*ready)(struct broker_source *, uint32_t),
                       int *ret_child_end) MUST_CHECK;

/* Reads some of what is there. Returns true if the first byte that is kept was among it. */
bool broker_stream_drain(struct broker_stream *stream, int poll_fd, struct broker_budget *budget);

bool broker_stream_is_at_end(const struct broker_stream *stream);

/* Its result is complete: keeps nothing of what is still to come, seals what there is. */
void broker_stream_finish(struct broker_stream *stream);

/* Gives the memory back; the pipe is drained on. */
void broker_stream_drop(struct broker_stream *stream, struct broker_budget *budget);

/* Closes the pipe too. */
void broker_stream_deinit(struct broker_stream *stream, int poll_fd, struct broker_budget *budget);

#endif
