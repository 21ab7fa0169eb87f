/* SPDX-License-Identifier: MIT */
#include "jobs/broker-input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

uint64_t broker_input_left_bytes(const struct broker_input *input)
{
    return input->left_bytes + input->added_bytes;
}

int broker_input_add(struct broker_input *input, int poll_fd, int memory_fd, uint64_t length,
                     uint64_t max_bytes)
{
    if (!broker_input_is_open(input) || !input->stays_open)
        return -EPIPE;
    uint64_t left_bytes = broker_input_left_bytes(input);
    if (left_bytes > max_bytes || length > max_bytes - left_bytes)
        return -ENOBUFS;
    if (length == 0)
        return 0;
    if (input->added_offset > 0) {
        memmove(input->added, input->added + input->added_offset, input->added_bytes);
        input->added_offset = 0;
    }
    char *added = realloc(input->added, input->added_bytes + (size_t)length);
    if (!added)
        return -ENOMEM;
    input->added = added;
    int error = broker_memory_read(memory_fd, added + input->added_bytes, (size_t)length, 0);
    if (error)
        return error;
    input->added_bytes += (size_t)length;
    broker_source_want(poll_fd, &input->source, EPOLLOUT);
    return 0;
}

void broker_input_end(struct broker_input *input, int poll_fd)
{
    input->stays_open = false;
    if (broker_input_left_bytes(input) == 0)
        broker_input_deinit(input, poll_fd);
}

/* Writes some of what came with the program. As write(2). */
static ssize_t feed_memory(struct broker_input *input)
{
    static char chunk[CHUNK_BYTES];
    size_t length = input->left_bytes < sizeof(chunk) ? (size_t)input->left_bytes : sizeof(chunk);
    if (broker_memory_read(input->memory_fd, chunk, length, input->offset) < 0) {
        errno = EIO;
        return -1;
    }
    ssize_t written = write(input->source.fd, chunk, length);
    if (written > 0) {
        input->offset += (uint64_t)written;
        input->left_bytes -= (uint64_t)written;
    }
    return written;
}

/* Writes some of what was added. As write(2). */
static ssize_t feed_added(struct broker_input *input)
{
    size_t length = input->added_bytes < CHUNK_BYTES ? input->added_bytes : CHUNK_BYTES;
    ssize_t written = write(input->source.fd, input->added + input->added_offset, length);
    if (written > 0) {
        input->added_offset += (size_t)written;
        input->added_bytes -= (size_t)written;
    }
    if (input->added_bytes == 0) {
        free(take_ptr(&input->added));
        input->added_offset = 0;
    }
    return written;
}

void broker_input_feed(struct broker_input *input, int poll_fd, uint32_t events)
{
    ssize_t written = 0;
    if (input->left_bytes > 0) {
        written = feed_memory(input);
    } else if (input->added_bytes > 0) {
        written = feed_added(input);
    } else if (events & (EPOLLERR | EPOLLHUP)) {
        written = -1;
        errno = EPIPE;
    }
    if (written < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (written > 0)
        input->taken_bytes += (uint64_t)written;
    /* EPIPE: nobody reads it any more, as is any program's right. */
    if (written < 0 || (broker_input_left_bytes(input) == 0 && !input->stays_open))
        broker_input_deinit(input, poll_fd);
    else if (broker_input_left_bytes(input) == 0)
        broker_source_want(poll_fd, &input->source, 0);
}

void broker_input_deinit(struct broker_input *input, int poll_fd)
{
    broker_source_close(poll_fd, &input->source);
    input->memory_fd = close_fd(input->memory_fd);
    input->left_bytes = 0;
    input->stays_open = false;
    free(take_ptr(&input->added));
    input->added_bytes = input->added_offset = 0;
}
