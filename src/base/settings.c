/* SPDX-License-Identifier: MIT */
#include "base/settings.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define DAY 86400

#define ROW(group_name, key_name, member, unit, value, least, most, text)                      \
    {                                                                                          \
        .group = (group_name), .key = (key_name), .kind = (unit),                              \
        .offset = offsetof(struct settings, member), .default_value = (value), .min = (least), \
        .max = (most), .help = (text)                                                          \
    }

/*
 * Least values keep an agent usable by every known client: a sync and a guest-file-write of the
 * largest chunk that clients send must fit, and one worker must be left beside a stuck one.
 */
/* clang-format off */
static const struct setting rows[] = {
    ROW("limits", "message-bytes", message_bytes, SETTING_BYTES, 64 * MIB, 64 * KIB, GIB,
        "size of one request"),
    ROW("limits", "message-depth", message_depth, SETTING_COUNT, 128, 8, 1024,
        "nesting of the JSON of one request"),
    ROW("limits", "message-values", message_values, SETTING_COUNT, 100000, 100, 10000000,
        "JSON values in one request"),
    ROW("limits", "pending-requests", pending_requests, SETTING_COUNT, 256, 8, 65536,
        "requests of one channel that are not answered yet; more are refused"),
    ROW("limits", "pending-bytes", pending_bytes, SETTING_BYTES, 192 * MIB, 64 * KIB, 4 * GIB,
        "size of those requests together; more are refused"),
    ROW("limits", "unsent-bytes", unsent_bytes, SETTING_BYTES, MIB, 4 * KIB, GIB,
        "replies waiting for the host; above it the channel is not read"),
    ROW("limits", "connections", connections, SETTING_COUNT, 32, 1, 1024,
        "connections at once on one listening channel"),

    ROW("pool", "workers", workers, SETTING_COUNT, 4, 2, 256,
        "workers that are always there"),
    ROW("pool", "workers-max", workers_max, SETTING_COUNT, 32, 2, 1024,
        "workers there may be when all are busy"),
    ROW("pool", "workers-lost-max", workers_lost_max, SETTING_COUNT, 32, 0, 1024,
        "workers stuck past their deadline that are replaced"),

    ROW("files", "handles", handles, SETTING_COUNT, 1024, 1, 65536,
        "file handles open at once"),
    ROW("files", "umask", file_umask, SETTING_OCTAL, 0022, 0, 0777,
        "permissions that a file created by guest-file-open does not get"),

    ROW("exec", "running", exec_running, SETTING_COUNT, 256, 1, 4096,
        "programs and jobs running at once"),
    ROW("exec", "stream-bytes", exec_stream_bytes, SETTING_BYTES, 16 * MIB, 4 * KIB, GIB,
        "captured output of one program, per stream, more is cut off; result of one job"),
    ROW("exec", "output-bytes", exec_output_bytes, SETTING_BYTES, 256 * MIB, 4 * KIB, 16 * GIB,
        "captured output of all programs and results of jobs together"),
    ROW("exec", "input-bytes", exec_input_bytes, SETTING_BYTES, MIB, 4 * KIB, GIB,
        "bellhop-job-input that one program has not read yet; more is not taken"),
    ROW("exec", "kept", exec_kept, SETTING_COUNT, 1024, 1, 65536,
        "finished programs and jobs whose result was not fetched yet"),
    ROW("exec", "retention", exec_retention_s, SETTING_SECONDS, 3600, 1, 365 * DAY,
        "how long such a result is kept"),

    ROW("freeze", "timeout", freeze_timeout_s, SETTING_SECONDS, 600, 0, 365 * DAY,
        "how long file systems may stay frozen before they are thawed; 0 is for ever"),
    ROW("freeze", "hook-timeout", freeze_hook_timeout_s, SETTING_SECONDS, 60, 0, 365 * DAY,
        "how long the freeze hook may take, each time; 0 is for ever"),

    ROW("hotplug", "processors", hotplug_processors, SETTING_BOOL, 0, 0, 1,
        "bring processors online that are plugged in"),
    ROW("hotplug", "memory", hotplug_memory, SETTING_BOOL, 0, 0, 1,
        "bring memory online that is plugged in"),

    ROW("deadline", "default", deadline_default_s, SETTING_SECONDS, 60, 0, 365 * DAY,
        "how long a command may take, where nothing else is said; 0 is for ever"),
};
/* clang-format on */

static const char deadline_group[] = "deadline";
static const char freeze_group[] = "freeze";
static const char exclude_key[] = "exclude";

const struct setting *settings_rows(size_t *ret_count)
{
    *ret_count = ARRAY_SIZE(rows);
    return rows;
}

static uint64_t *value_of(struct settings *settings, const struct setting *setting)
{
    return (uint64_t *)(void *)((char *)settings + setting->offset);
}

uint64_t settings_value(const struct settings *settings, const struct setting *setting)
{
    return *(const uint64_t *)(const void *)((const char *)settings + setting->offset);
}

void settings_init(struct settings *settings)
{
    *settings = (struct settings){0};
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        *value_of(settings, &rows[i]) = rows[i].default_value;
}

void settings_deinit(struct settings *settings)
{
    for (size_t i = 0; i < settings->deadline_count; i++)
        free(settings->deadlines[i].command);
    free(settings->deadlines);
    settings->deadlines = NULL;
    settings->deadline_count = 0;
    text_list_deinit(&settings->freeze_exclude);
}

bool settings_has_group(const char *group)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (strcmp(rows[i].group, group) == 0)
            return true;
    return false;
}

/* --- values as text --- */

static bool parse_digits(const char **text, unsigned base, uint64_t *ret_value)
{
    const char *at = *text;
    uint64_t value = 0;

    for (; *at >= '0' && *at < (char)('0' + base); at++)
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
    if (at == *text)
        return false;
    *text = at;
    *ret_value = value;
    return true;
}

static bool parse_unit(const char **text, uint64_t *value)
{
    static const char units[] = "KMG";
    const char *unit = **text ? strchr(units, **text) : NULL;

    if (!unit)
        return true;
    ++*text;
    return !__builtin_mul_overflow(*value, UINT64_C(1) << 10 * (unit - units + 1), value);
}

/* Spelled as in the classic agent's file. */
static bool parse_bool(const char *text, uint64_t *ret_value)
{
    bool is_true = strcmp(text, "true") == 0 || strcmp(text, "1") == 0;

    *ret_value = is_true;
    return is_true || strcmp(text, "false") == 0 || strcmp(text, "0") == 0;
}

static bool parse_value(const struct setting *setting, const char *text, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (setting->kind == SETTING_BOOL)
        return parse_bool(text, ret_value);
    if (!parse_digits(&text, setting->kind == SETTING_OCTAL ? 8 : 10, &value))
        return false;
    if (setting->kind == SETTING_BYTES && !parse_unit(&text, &value))
        return false;
    if (*text || value < setting->min || value > setting->max)
        return false;
    *ret_value = value;
    return true;
}

void setting_format(const struct setting *setting, uint64_t value, struct buffer *out)
{
    if (setting->kind == SETTING_BOOL)
        buffer_append_text(out, value ? "true" : "false");
    else if (setting->kind == SETTING_OCTAL)
        buffer_append_format(out, "%04" PRIo64, value);
    else if (setting->kind != SETTING_BYTES || value == 0 || value % KIB != 0)
        buffer_append_format(out, "%" PRIu64, value);
    else if (value % GIB == 0)
        buffer_append_format(out, "%" PRIu64 "G", value / GIB);
    else if (value % MIB == 0)
        buffer_append_format(out, "%" PRIu64 "M", value / MIB);
    else
        buffer_append_format(out, "%" PRIu64 "K", value / KIB);
}

/* --- setting --- */

static int give_reason(struct buffer *message, int error, char **ret_reason)
{
    if (message->failed)
        return -ENOMEM;
    *ret_reason = take_ptr(&message->data);
    return error;
}

static int fail_unknown(const char *group, const char *key, char **ret_reason)
{
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;

    if (settings_has_group(group)) {
        const char *separator = "expected one of ";
        buffer_append_format(&message, "there is no key '%s' in [%s]: ", key, group);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
            if (strcmp(rows[i].group, group) != 0)
                continue;
            buffer_append_format(&message, "%s%s", separator, rows[i].key);
            separator = ", ";
        }
        if (strcmp(group, deadline_group) == 0)
            buffer_append_text(&message, ", or a command's name");
        if (strcmp(group, freeze_group) == 0)
            buffer_append_format(&message, ", %s", exclude_key);
    } else {
        buffer_append_format(&message, "there is no group [%s]", group);
    }
    return give_reason(&message, -ENOENT, ret_reason);
}

static int fail_value(const struct setting *setting, const char *key, const char *value,
                      char **ret_reason)
{
    static const char *const expected[] = {
        [SETTING_COUNT] = "a number",
        [SETTING_BYTES] = "a number of bytes (K, M or G may follow it)",
        [SETTING_OCTAL] = "an octal number",
        [SETTING_SECONDS] = "a number of seconds",
        [SETTING_BOOL] = "true or false",
    };
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;

    buffer_append_format(&message, "'%s' does not fit '%s' in [%s]: expected %s", value, key,
                         setting->group, expected[setting->kind]);
    if (setting->kind != SETTING_BOOL) {
        buffer_append_text(&message, " from ");
        setting_format(setting, setting->min, &message);
        buffer_append_text(&message, " to ");
        setting_format(setting, setting->max, &message);
    }
    return give_reason(&message, -EINVAL, ret_reason);
}

static const struct setting *find_row(const char *group, const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (strcmp(rows[i].group, group) == 0 && strcmp(rows[i].key, key) == 0)
            return &rows[i];
    return NULL;
}

static int set_deadline(struct settings *settings, const char *command, uint64_t seconds)
{
    for (size_t i = 0; i < settings->deadline_count; i++) {
        if (strcmp(settings->deadlines[i].command, command) == 0) {
            settings->deadlines[i].seconds = seconds;
            return 0;
        }
    }
    _cleanup_free_ char *copy = strdup(command);
    struct deadline_setting *deadlines = reallocarray(
        settings->deadlines, settings->deadline_count + 1, sizeof(settings->deadlines[0]));
    if (deadlines)
        settings->deadlines = deadlines;
    if (!deadlines || !copy)
        return -ENOMEM;
    deadlines[settings->deadline_count++] =
        (struct deadline_setting){.command = take_ptr(&copy), .seconds = seconds};
    return 0;
}

/* Commands are not known here: that `key` is one is the caller's to check, its form is ours. */
static bool looks_like_command(const char *key)
{
    return *key && key[strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-_")] == '\0';
}

/* Takes the place of what was listed before. */
static int set_exclude(struct settings *settings, const char *value, char **ret_reason)
{
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;
    struct text_list list = {0};
    int error = 0;

    for (const char *at = value; *at && !error;) {
        size_t length = strcspn(at, ";");
        if (length > 0 && *at != '/') {
            buffer_append_format(&message,
                                 "'%s' does not fit '%s' in [%s]: expected absolute paths with ';' "
                                 "between them",
                                 value, exclude_key, freeze_group);
            error = give_reason(&message, -EINVAL, ret_reason);
        } else if (length > 0) {
            error = text_list_append(&list, at, length);
        }
        at += length + (at[length] == ';');
    }
    if (error) {
        text_list_deinit(&list);
        return error;
    }
    text_list_deinit(&settings->freeze_exclude);
    settings->freeze_exclude = list;
    return 0;
}

int settings_set(struct settings *settings, const char *group, const char *key, const char *value,
                 char **ret_reason)
{
    const struct setting *row = find_row(group, key);
    bool is_deadline = !row && strcmp(group, deadline_group) == 0 && looks_like_command(key);
    uint64_t number = 0;

    *ret_reason = NULL;
    if (strcmp(group, freeze_group) == 0 && strcmp(key, exclude_key) == 0)
        return set_exclude(settings, value, ret_reason);
    if (!row && !is_deadline)
        return fail_unknown(group, key, ret_reason);
    if (!row)
        row = find_row(deadline_group, "default");
    if (!parse_value(row, value, &number))
        return fail_value(row, key, value, ret_reason);
    if (is_deadline)
        return set_deadline(settings, key, number);
    *value_of(settings, row) = number;
    return 0;
}

static int check_order(const char *group, const char *small, uint64_t small_value,
                       const char *large, uint64_t large_value, char **ret_reason)
{
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;

    if (small_value <= large_value)
        return 0;
    buffer_append_format(&message, "[%s]: %s (", group, small);
    setting_format(find_row(group, small), small_value, &message);
    buffer_append_format(&message, ") is more than %s (", large);
    setting_format(find_row(group, large), large_value, &message);
    buffer_append_text(&message, ")");
    return give_reason(&message, -EINVAL, ret_reason);
}

int settings_check(const struct settings *settings, char **ret_reason)
{
    *ret_reason = NULL;
    int error = check_order("pool", "workers", settings->workers, "workers-max",
                            settings->workers_max, ret_reason);
    if (error == 0)
        error = check_order("limits", "message-bytes", settings->message_bytes, "pending-bytes",
                            settings->pending_bytes, ret_reason);
    if (error == 0)
        error = check_order("exec", "stream-bytes", settings->exec_stream_bytes, "output-bytes",
                            settings->exec_output_bytes, ret_reason);
    return error;
}

/* --- telling --- */

static void start_group(struct buffer *out, const char **last_group, const char *group)
{
    if (!*last_group || strcmp(*last_group, group) != 0)
        buffer_append_format(out, "\n[%s]\n", group);
    *last_group = group;
}

static void dump_exclude(const struct settings *settings, struct buffer *out,
                         const char **last_group)
{
    const struct text_list *list = &settings->freeze_exclude;

    for (size_t i = 0; i < list->count; i++) {
        if (i == 0) {
            start_group(out, last_group, freeze_group);
            buffer_append_format(out, "%s=", exclude_key);
        }
        buffer_append_format(out, "%s%c", list->items[i], i + 1 < list->count ? ';' : '\n');
    }
}

void settings_dump(const struct settings *settings, struct buffer *out)
{
    const char *last_group = NULL;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        /* Before the group's first row. */
        if (strcmp(rows[i].group, freeze_group) == 0 &&
            strcmp(rows[i - 1].group, freeze_group) != 0)
            dump_exclude(settings, out, &last_group);
        uint64_t value = settings_value(settings, &rows[i]);
        if (value == rows[i].default_value)
            continue;
        start_group(out, &last_group, rows[i].group);
        buffer_append_format(out, "%s=", rows[i].key);
        setting_format(&rows[i], value, out);
        buffer_append_char(out, '\n');
    }
    /* The last row's group, so what precedes is of the same group or another one. */
    for (size_t i = 0; i < settings->deadline_count; i++) {
        start_group(out, &last_group, deadline_group);
        buffer_append_format(out, "%s=%" PRIu64 "\n", settings->deadlines[i].command,
                             settings->deadlines[i].seconds);
    }
}

void settings_document(struct buffer *out)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        buffer_append_format(out, "%s.%s=", rows[i].group, rows[i].key);
        setting_format(&rows[i], rows[i].default_value, out);
        buffer_append_text(out, " (");
        setting_format(&rows[i], rows[i].min, out);
        buffer_append_text(out, " to ");
        setting_format(&rows[i], rows[i].max, out);
        buffer_append_format(out, "): %s\n", rows[i].help);
    }
}

uint64_t settings_deadline_ms(const struct settings *settings, const char *command,
                              uint64_t fallback_s)
{
    for (size_t i = 0; i < settings->deadline_count; i++)
        if (strcmp(settings->deadlines[i].command, command) == 0)
            return settings->deadlines[i].seconds * 1000;
    return fallback_s * 1000;
}
