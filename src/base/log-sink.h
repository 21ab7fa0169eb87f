/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_LOG_SINK_H
#define BELLHOP_BASE_LOG_SINK_H

/*
 * Where the log's lines go: a file or stderr. Not thread safe; one thread has it at a time. Its
 * functions may block for as long as the destination does, except where they say otherwise.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct log_sink;

/*
 * Opens a file to append to (created with mode 0640), or stderr for NULL. A FIFO that nobody reads
 * is refused with -ENXIO. Returns 0 or -errno.
 */
int log_sink_open(const char *path, struct log_sink **ret_sink) MUST_CHECK;
struct log_sink *log_sink_free(struct log_sink *sink);

/* Opens the file of the same path again, for logrotate(8); on an error the old one stays. */
int log_sink_reopen(struct log_sink *sink) MUST_CHECK;

/* False if a write would block, as far as the kernel tells: it never does of a file on a disk. */
bool log_sink_is_ready(const struct log_sink *sink);

/* Writes one line whole. Returns 0 or -errno; what was cut off by an error gets a newline before
 * the next line. */
int log_sink_write(struct log_sink *sink, const char *line, size_t length) MUST_CHECK;

#endif
