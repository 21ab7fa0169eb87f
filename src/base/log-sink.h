/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_LOG_SINK_H
#define BELLHOP_BASE_LOG_SINK_H

/*
 * Where the log's records go: a file, stderr, syslog or the journal. Not thread safe; one thread has
 * it at a time. Its functions may block for as long as the destination does, except where they say
 * otherwise.
 */

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"

struct log_sink;

/*
 * Opens what `destination` names:
 *   NULL           stderr. If that leads to the journal (JOURNAL_STREAM, systemd.exec(5)), lines begin
 *                  with their level as sd-daemon(3) has it, in place of time and level.
 *   journal:PATH   the journal, with level and identifier as fields; without PATH the usual socket, or
 *                  where there is none the one of syslog
 *   syslog:PATH    syslog(3)'s protocol; without PATH the usual socket, /dev/log
 *   other          a file to append to (created with mode 0640). A FIFO that nobody reads is refused
 *                  with -ENXIO.
 * Returns 0 or -errno.
 */
int log_sink_open(const char *destination, struct log_sink **ret_sink) MUST_CHECK;
struct log_sink *log_sink_free(struct log_sink *sink);

/* Opens the file of the same path again, for logrotate(8); on an error the old one stays. */
int log_sink_reopen(struct log_sink *sink) MUST_CHECK;

/* False if a write would block, as far as the kernel tells: it never does of a file on a disk. */
bool log_sink_is_ready(const struct log_sink *sink);

/*
 * Writes one record, whose text is from log_line_text(). Returns 0 or -errno; where an error cut a
 * line off, a newline comes before the next one.
 */
int log_sink_write(struct log_sink *sink, const struct timespec *time, enum log_level level,
                   const char *text, size_t length) MUST_CHECK;

#endif
