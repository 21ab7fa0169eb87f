/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_LOG_H
#define BELLHOP_BASE_LOG_H

/*
 * The log. A record is formatted by its caller and queued; one thread, the log writer, writes it.
 * So a log on a stuck disk holds nobody up: a full queue drops records and counts them, and the
 * count is written once there is room again.
 *
 * Whatever is not printable ASCII or valid UTF-8 in a record is written as \xNN (a newline too),
 * so no client can forge a line. A record is cut at about 4000 bytes.
 */

#include <stdarg.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "base/thread.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct log_options {
    const char *path; /* as log_sink_open() has it; NULL is stderr. Borrowed for the call. */
    enum log_level level;       /* records above it are not formatted at all */
    unsigned queue_max_records; /* 0 takes the default */
};

/*
 * Opens the log's destination, in place of stderr or an earlier one. Until log_start() records are
 * written by the caller itself (start-up, before there are threads; and small processes that have
 * none): one that a pipe, socket or terminal does not take at once is dropped and counted.
 * Returns 0; -errno, and nothing has changed; -EBUSY if the writer runs.
 */
int log_open(const struct log_options *options) MUST_CHECK;

/* Starts the log writer's thread; to be called after the last fork. Returns 0 or -errno. */
int log_start(void) MUST_CHECK;

/*
 * Writes what is queued, for at most `timeout_ms`, and ends the writer. A writer that is stuck then
 * is left behind, and from then on every record is dropped; otherwise they are written directly
 * again. Records that are held are not written.
 */
void log_stop(unsigned timeout_ms);

/* Opens the log file again before the next record is written (logrotate). Never blocks. */
void log_reopen(void) ANY_THREAD;

/*
 * Keeps the writer from writing, while filesystems are frozen: records wait in the queue, as many
 * as it holds. Waits at most `wait_ms` for a write that is under way; returns false if there still
 * is one (stuck, it may now wait for the thaw). log_release() ends it; neither is counted.
 */
bool log_hold(unsigned wait_ms) ANY_THREAD;
void log_release(void) ANY_THREAD;

/*
 * Something else that writes to disks, to be held and released with the log (there is one, or NULL).
 * Only while nobody holds it: at the start and the end.
 */
void log_set_companion(bool (*hold)(void *context, unsigned wait_ms), void (*release)(void *context),
                       void *context);

bool log_is_enabled(enum log_level level) ANY_THREAD;

/* Never blocks on the destination. Keeps errno. Debug records take at most three quarters of the
 * queue, so that a verbose log does not crowd out what matters. */
void log_write(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3) ANY_THREAD;
void log_write_va(enum log_level level, const char *format, va_list arguments)
    PRINTF_LIKE(2, 0) ANY_THREAD;

#define log_error(...)   log_write(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                         \
    do {                                       \
        if (log_is_enabled(LOG_DEBUG))         \
            log_write(LOG_DEBUG, __VA_ARGS__); \
    } while (0)

#endif
