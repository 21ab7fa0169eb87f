/* SPDX-License-Identifier: MIT */
#include "jobs/broker-stream.h"

#include <errno.h>
#include <fcntl.h>

#include "base/clock.h"
#include "jobs/broker-memory.h"

#define CHUNK_BYTES 65536 /* what a pipe holds unless told otherwise */

int broker_stream_open(struct broker_stream *stream, int poll_fd, uint64_t size_bytes_max,
                       void (*ready)(struct broker_source *, uint32_t), int *ret_child_end)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    _cleanup_close_ int our_end = ends[0];
    _cleanup_close_ int child_end = ends[1];
    /* Only ours: the program's end is a description of its own and stays blocking. */
    if (fcntl(our_end, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    int error = broker_source_open_take(poll_fd, &stream->source, our_end, EPOLLIN, ready);
    if (error)
        return error;
    take_fd(&our_end);
    stream->size_bytes_max = size_bytes_max;
    *ret_child_end = take_fd(&child_end);
    return 0;
}

/* Keeps what the limits allow; the rest is dropped, and the stream says so. */
static void keep(struct broker_stream *stream, const char *bytes, size_t length,
                 struct broker_budget *budget)
{
    uint64_t room = stream->size_bytes_max - stream->size_bytes;
    uint64_t left =
        budget->max_bytes > budget->used_bytes ? budget->max_bytes - budget->used_bytes : 0;
    size_t kept = length;
    if (kept > room)
        kept = room;
    if (kept > left)
        kept = left;
    /* Once something is missing, what comes later would stand in the wrong place. */
    if (stream->is_truncated)
        kept = 0;

    if (kept > 0 && stream->memory_fd < 0) {
        int fd = broker_memory_new("bellhop-output");
        if (fd < 0)
            kept = 0;
        else
            stream->memory_fd = fd;
    }
    if (kept > 0 && broker_memory_write(stream->memory_fd, bytes, kept, stream->size_bytes) < 0)
        kept = 0;
    stream->size_bytes += kept;
    budget->used_bytes += kept;
    if (kept < length)
        stream->is_truncated = true;
}

bool broker_stream_drain(struct broker_stream *stream, int poll_fd, struct broker_budget *budget)
{
    static char chunk[CHUNK_BYTES];
    bool had_memory = stream->memory_fd >= 0;
    ssize_t got = read(stream->source.fd, chunk, sizeof(chunk));
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0) {
        broker_source_close(poll_fd, &stream->source);
        return false;
    }
    stream->last_byte_ms = clock_now_ms();
    if (!stream->is_closed)
        keep(stream, chunk, (size_t)got, budget);
    return !had_memory && stream->memory_fd >= 0;
}

bool broker_stream_is_at_end(const struct broker_stream *stream)
{
    return stream->source.fd < 0;
}

void broker_stream_finish(struct broker_stream *stream)
{
    stream->is_closed = true;
    /* A write that failed half way may have left bytes behind the size. */
    if (stream->memory_fd >= 0 && (ftruncate(stream->memory_fd, (off_t)stream->size_bytes) < 0 ||
                                   broker_memory_seal(stream->memory_fd) < 0))
        stream->is_truncated = true;
}

void broker_stream_drop(struct broker_stream *stream, struct broker_budget *budget)
{
    stream->is_closed = true;
    if (stream->memory_fd >= 0)
        budget->used_bytes -= stream->size_bytes;
    stream->memory_fd = close_fd(stream->memory_fd);
    stream->size_bytes = 0;
}

void broker_stream_deinit(struct broker_stream *stream, int poll_fd, struct broker_budget *budget)
{
    broker_stream_drop(stream, budget);
    broker_source_close(poll_fd, &stream->source);
}
