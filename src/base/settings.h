/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_SETTINGS_H
#define BELLHOP_BASE_SETTINGS_H

/*
 * bellhop's own settings, by value. settings.c has one row per setting (group, key, default, range,
 * unit, one line of explanation); parsing, `--set GROUP.KEY=VALUE`, the dump and the manual page
 * come from the rows. Filled before the first thread starts and never changed afterwards, so any
 * thread may read them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct settings {
    /* [limits] */
    uint64_t message_bytes;    /* message-bytes: size of one request, 64 MiB */
    uint64_t message_depth;    /* message-depth: nesting of one request, 128 */
    uint64_t message_values;   /* message-values: JSON values in one request, 100000 */
    uint64_t pending_requests; /* pending-requests: per channel, 256 */
    uint64_t pending_bytes;    /* pending-bytes: of pending requests, per channel, 192 MiB */
    uint64_t unsent_bytes;     /* unsent-bytes: replies waiting for the host; above it the channel
                                  is not read, 1 MiB */
    uint64_t connections;      /* connections: at once on one listening channel, 32 */

    /* [pool] */
    uint64_t workers;          /* workers: always there, 4 */
    uint64_t workers_max;      /* workers-max: 32 */
    uint64_t workers_lost_max; /* workers-lost-max: stuck ones that are replaced, 32 */

    /* [files] */
    uint64_t handles;       /* handles: open at once, 1024 */
    uint64_t file_umask;    /* umask: octal, 0022 */

    /* [exec] */
    uint64_t exec_running;       /* running: programs at once, 256 */
    uint64_t exec_stream_bytes;  /* stream-bytes: output kept per stream, 16 MiB */
    uint64_t exec_output_bytes;  /* output-bytes: of all programs together, 256 MiB */
    uint64_t exec_kept;          /* kept: finished programs whose result was not seen, 1024 */
    uint64_t exec_retention_s;   /* retention: seconds that such a result is kept, 3600 */

    /* [deadline]: seconds, 0 is never; `default`, and any command's name */
    uint64_t deadline_default_s; /* 60 */
    struct deadline_setting *deadlines; /* array of `deadline_count` */
    size_t deadline_count;
};

struct deadline_setting {
    char *command;
    uint64_t seconds;
};

/* Fills in the defaults. */
void settings_init(struct settings *settings);
void settings_deinit(struct settings *settings);

/*
 * Sets one setting from its text. Returns 0; -ENOENT (no such group or key) or -EINVAL (the value
 * does not fit) with a message for the operator in `ret_reason` (malloc'ed); or -ENOMEM.
 * Numbers may carry K, M or G (binary) where the unit is bytes.
 */
int settings_set(struct settings *settings, const char *group, const char *key, const char *value,
                 char **ret_reason) MUST_CHECK;

/* True if bellhop has a group of that name (without "general" and "channel ..."). */
bool settings_has_group(const char *group);

/* The deadline of a command in milliseconds, 0 for never; `fallback_s` where none is set for it. */
uint64_t settings_deadline_ms(const struct settings *settings, const char *command,
                              uint64_t fallback_s);

#endif
