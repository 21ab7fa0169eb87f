/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_INPUT_H
#define BELLHOP_JOBS_BROKER_INPUT_H

/*
 * The other direction: a program's standard input, fed as fast as the program takes it and no
 * faster. First from a file of memory that came with the program; then, if it stays open, from
 * what is added later, which is kept in a buffer of limited size.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "jobs/broker-poll.h"

struct broker_input {
    struct broker_source source; /* the pipe's end; fd -1 once all was written or nobody reads */
    int memory_fd;
    uint64_t offset;
    uint64_t left_bytes;  /* of the memory */
    bool stays_open;      /* more may be added */
    char *added;          /* what was, and is not written yet: */
    size_t added_offset;  /* from here, */
    size_t added_bytes;   /* so much */
    uint64_t taken_bytes; /* written since the start */
};

#define BROKER_INPUT_INIT                             \
    {                                                 \
        .source = BROKER_SOURCE_INIT, .memory_fd = -1 \
    }

/*
 * Makes the pipe. The memory (-1 when `length` is 0) is the input's on success; `ret_child_end` is
 * the program's end, the caller's. Nothing is written yet. Returns 0 or -errno.
 */
int broker_input_open_take(struct broker_input *input, int memory_fd, uint64_t offset,
                           uint64_t length, int *ret_child_end) MUST_CHECK;

/*
 * Begins to write, once it is sure that the program is there to read: what was written to a child
 * that never became the program would be lost. Events go to `ready`, which calls
 * broker_input_feed(). Returns 0 or -errno.
 */
int broker_input_start(struct broker_input *input, int poll_fd,
                       void (*ready)(struct broker_source *, uint32_t)) MUST_CHECK;

bool broker_input_is_open(const struct broker_input *input);

/* What the program has not taken yet. */
uint64_t broker_input_left_bytes(const struct broker_input *input);

/*
 * Adds the first `length` bytes of the memory to an input that was started and stays open. At most
 * `max_bytes` wait to be taken. Returns 0; -EPIPE: it is not open, or takes no more; -ENOBUFS: it
 * is too much, and none of it was added; or -errno.
 */
int broker_input_add(struct broker_input *input, int poll_fd, int memory_fd, uint64_t length,
                     uint64_t max_bytes) MUST_CHECK;

/* Nothing more will be added: the pipe is closed once all is written, at once if all is. */
void broker_input_end(struct broker_input *input, int poll_fd);

/* Writes some; closes the pipe at the end, or when nobody reads any more. */
void broker_input_feed(struct broker_input *input, int poll_fd, uint32_t events);

void broker_input_deinit(struct broker_input *input, int poll_fd);

#endif
