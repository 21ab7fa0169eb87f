/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_LOCAL_H
#define BELLHOP_CLIENT_LOCAL_H

/*
 * This side's descriptors and signals. SIGINT, SIGTERM and SIGHUP are held back except while
 * something is waited for, and then end the wait, so that whoever waited can still tidy up in the
 * guest (close a file there) before the client ends. One thread only.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/cleanup.h"

#define NO_DEADLINE UINT64_MAX

/* Takes over the signals; SIGPIPE becomes EPIPE. Once, at the start. */
void local_init(void);

/* The first signal that ended a wait (SIGPIPE: a stream's reader went away), or 0. */
int local_signal(void);

/* clock_now_ms() + limit_ms; NO_DEADLINE for a limit of 0. */
uint64_t local_deadline(unsigned limit_ms);

/*
 * Waits until `fd` (or -1: just the time) is ready for `events` of poll(2).
 * Returns 0, -ETIMEDOUT, or -EINTR when one of the signals came.
 */
int local_wait(int fd, short events, uint64_t deadline_ms) MUST_CHECK;

/* Reads once, waiting as long as it takes. Returns the bytes read, 0 at the end, or -errno. */
ssize_t local_read(int fd, void *bytes, size_t size) MUST_CHECK;

/* Writes everything. Returns 0 or -errno. */
int local_write(int fd, const void *bytes, size_t length) MUST_CHECK;

#endif
