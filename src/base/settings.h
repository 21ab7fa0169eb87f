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
#include "base/text-list.h"

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
    uint64_t handles;    /* handles: open at once, 1024 */
    uint64_t file_umask; /* umask: octal, 0022 */

    /* [exec]: jobs of other kinds have the same limits */
    uint64_t exec_running;      /* running: programs at once, 256 */
    uint64_t exec_stream_bytes; /* stream-bytes: output kept per stream, 16 MiB */
    uint64_t exec_output_bytes; /* output-bytes: of all programs together, 256 MiB */
    uint64_t exec_input_bytes;  /* input-bytes: given to one program and not read by it, 1 MiB */
    uint64_t exec_kept;         /* kept: finished programs whose result was not seen, 1024 */
    uint64_t exec_retention_s;  /* retention: seconds that such a result is kept, 3600 */

    /* [freeze] */
    uint64_t freeze_timeout_s;       /* timeout: the guest is thawed after it, 600; 0 is never */
    uint64_t freeze_hook_timeout_s;  /* hook-timeout: of the hook, each time, 60; 0 is never */

    /* [hotplug] */
    uint64_t hotplug_processors; /* processors: bring those online that are plugged in, false */
    uint64_t hotplug_memory;     /* memory: the same of memory, false */

    /* [deadline]: seconds, 0 is never; `default`, and any command's name */
    uint64_t deadline_default_s;        /* 60 */
    struct deadline_setting *deadlines; /* array of `deadline_count` */
    size_t deadline_count;

    /* [freeze] exclude: mount points, with ";" between them */
    struct text_list freeze_exclude;
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

/*
 * Checks what one setting alone cannot tell: limits that contradict each other. Returns 0, -EINVAL
 * with a message for the operator in `ret_reason` (malloc'ed), or -ENOMEM.
 */
int settings_check(const struct settings *settings, char **ret_reason) MUST_CHECK;

/* --- the rows --- */

enum setting_kind { SETTING_COUNT, SETTING_BYTES, SETTING_OCTAL, SETTING_SECONDS, SETTING_BOOL };

struct setting {
    const char *group;
    const char *key;
    enum setting_kind kind;
    size_t offset; /* of its uint64_t in struct settings */
    uint64_t default_value;
    uint64_t min;
    uint64_t max;
    const char *help; /* one line; no full stop */
};

/* All rows, group by group, in the order of the manual page. The deadlines of single commands and
 * freeze.exclude are no rows. */
const struct setting *settings_rows(size_t *ret_count);

uint64_t settings_value(const struct settings *settings, const struct setting *setting);

/* Appends a value as it would be written in the file: "64M", "0022", "60", "true". */
struct buffer;
void setting_format(const struct setting *setting, uint64_t value, struct buffer *out);

/* Appends the groups and keys that differ from the defaults, each group after a blank line. */
void settings_dump(const struct settings *settings, struct buffer *out);

/* Appends every setting with its default, range and meaning as text, for `--help` and the like. */
void settings_document(struct buffer *out);

/* The deadline of a command in milliseconds, 0 for never; `fallback_s` where none is set for it. */
uint64_t settings_deadline_ms(const struct settings *settings, const char *command,
                              uint64_t fallback_s);

#endif
