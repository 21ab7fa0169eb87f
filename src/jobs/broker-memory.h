/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_MEMORY_H
#define BELLHOP_JOBS_BROKER_MEMORY_H

/*
 * Memory that the agent and the broker hand each other: memfds, sealed before the other side reads
 * them, so that what was checked stays what it was. Any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

/* Makes an empty memfd that can be sealed and never executed. Returns the descriptor or -errno. */
int broker_memory_new(const char *name) MUST_CHECK;

/* Forbids every later change of contents and size. Returns 0 or -errno. */
int broker_memory_seal(int fd) MUST_CHECK;

/*
 * True if the descriptor is a memfd that nobody can change or shorten any more; then its size is
 * set. Never blocks, whatever the descriptor is.
 */
bool broker_memory_is_sealed(int fd, uint64_t *ret_size_bytes);

/* Writes or reads the whole of it, at an offset. Return 0 or -errno (-ENODATA: too short). */
int broker_memory_write(int fd, const void *bytes, size_t length, uint64_t offset) MUST_CHECK;
int broker_memory_read(int fd, void *bytes, size_t length, uint64_t offset) MUST_CHECK;

#endif
