/* SPDX-License-Identifier: MIT */
#include "jobs/broker-input.h"

#include <errno.h>
#include <fcntl.h>

#include "jobs/broker-memory.h"

#define CHUNK_BYTES 65536

int broker_input_open_take(struct broker_input *input, int memory_fd, uint64_t offset,
                           uint64_t length, int *ret_child_end)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    _cleanup_close_ int child_end = ends[0];
    _cleanup_close_ int our_end = ends[1];
    if (fcntl(our_end, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    *input = (struct broker_input){
        .source = {.fd = take_fd(&our_end)},
        .memory_fd = memory_fd,
        .offset = offset,
        .left_bytes = length,
    };
    *ret_child_end = take_fd(&child_end);
    return 0;
}

int broker_input_start(struct broker_input *input, int poll_fd,
                       void (*ready)(struct broker_source *, uint32_t))
{
    return broker_source_open_take(poll_fd, &input->source, input->source.fd, EPOLLOUT, ready);
}

bool broker_input_is_open(const struct broker_input *input)
{
    return input->source.fd >= 0;
}

void broker_input_feed(struct broker_input *input, int poll_fd)
{
    static char chunk[CHUNK_BYTES];
    size_t length = input->left_bytes < sizeof(chunk) ? (size_t)input->left_bytes : sizeof(chunk);
    ssize_t written = 0;
    if (length > 0) {
        if (broker_memory_read(input->memory_fd, chunk, length, input->offset) < 0)
            written = -1;
        else
            written = write(input->source.fd, chunk, length);
        if (written < 0 && (errno == EAGAIN || errno == EINTR))
            return;
    }
    if (written >= 0) {
        input->offset += (uint64_t)written;
        input->left_bytes -= (uint64_t)written;
    }
    /* EPIPE: nobody reads it any more, as is any program's right. */
    if (written < 0 || input->left_bytes == 0)
        broker_input_deinit(input, poll_fd);
}

void broker_input_deinit(struct broker_input *input, int poll_fd)
{
    broker_source_close(poll_fd, &input->source);
    input->memory_fd = close_fd(input->memory_fd);
    input->left_bytes = 0;
}
