/* SPDX-License-Identifier: MIT */
#include "cmds/audit.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/journal.h"
#include "base/line-writer.h"
#include "base/log.h"
#include "base/utf8.h"
#include "io/json-writer.h"
#include "security/policy.h"

/* What waits for a disk that does not take it. */
enum { QUEUED_BYTES = 1024 * 1024 };

/* Of the arguments; what is longer is cut. */
enum { ARGUMENTS_BYTES = 1024 };

/* Between the fields of a record on its way to the journal; no value has it. */
enum { FIELD_SEPARATOR = 0x1f };

enum { FIELDS_MAX = 16 };

struct audit {
    struct line_writer *writer; /* NULL: the log */
    struct journal *journal;    /* the writer's thread's; NULL: lines of JSON */
    _Atomic uint64_t last_number;
};

struct field {
    const char *name;
    const char *text; /* NULL: it is a number */
    uint64_t number;
};

struct record {
    struct field fields[FIELDS_MAX];
    size_t count;
    char time[40];
};

/* --- records --- */

static void add_text(struct record *record, const char *name, const char *text)
{
    record->fields[record->count++] = (struct field){name, text, 0};
}

static void add_number(struct record *record, const char *name, uint64_t number)
{
    record->fields[record->count++] = (struct field){name, NULL, number};
}

static void begin(struct record *record, const char *event)
{
    struct timespec now;
    struct tm parts;
    char text[32];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(record->time, sizeof(record->time), "%.27s.%06uZ", text,
             (unsigned)(now.tv_nsec / 1000));
    record->count = 0;
    add_text(record, "time", record->time);
    add_text(record, "event", event);
}

static void begin_call(struct record *record, const char *event, const struct audit_call *call)
{
    begin(record, event);
    if (call->number)
        add_number(record, "call", call->number);
    if (call->channel && *call->channel)
        add_text(record, "channel", call->channel);
    if (call->peer && *call->peer)
        add_text(record, "peer", call->peer);
    add_text(record, "profile", profile_name(call->profile));
    if (call->command)
        add_text(record, "command", call->command);
}

static void write_json(const struct record *record, struct buffer *out)
{
    struct json_writer writer = JSON_WRITER_INIT(out);
    json_begin_object(&writer);
    for (size_t i = 0; i < record->count; i++) {
        const struct field *field = &record->fields[i];
        if (field->text)
            json_member_string(&writer, field->name, field->text);
        else
            json_member_uint(&writer, field->name, field->number);
    }
    json_end_object(&writer);
}

/* BELLHOP_COMMAND=guest-exec, and so on. */
static void write_fields(const struct record *record, struct buffer *out)
{
    for (size_t i = 0; i < record->count; i++) {
        const struct field *field = &record->fields[i];
        buffer_append_text(out, "BELLHOP_");
        for (const char *at = field->name; *at; at++)
            buffer_append_char(out, *at == '-' ? '_' : (char)toupper((unsigned char)*at));
        buffer_append_char(out, '=');
        if (!field->text)
            buffer_append_format(out, "%" PRIu64, field->number);
        for (const char *at = field->text ? field->text : ""; *at; at++)
            buffer_append_char(out, (unsigned char)*at < ' ' ? ' ' : *at);
        buffer_append_char(out, FIELD_SEPARATOR);
    }
}

/* --- where they go --- */

static const char *value_of(const struct journal_field *fields, size_t count, const char *name,
                            size_t *ret_length)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            *ret_length = fields[i].length;
            return fields[i].value;
        }
    }
    *ret_length = 0;
    return "";
}

/* "guest-exec: refused", for who reads the journal without looking at fields. */
static void write_message(const struct journal_field *fields, size_t count, struct buffer *out)
{
    static const char *const names[] = {"BELLHOP_DECISION", "BELLHOP_RESULT", "BELLHOP_RULE",
                                        "BELLHOP_ERROR"};
    size_t length;
    const char *value = value_of(fields, count, "BELLHOP_RECORDS", &length);
    buffer_append_text(out, "audit: ");
    if (length > 0) {
        buffer_append_text(out, "records lost: ");
        buffer_append(out, value, length);
        return;
    }
    value = value_of(fields, count, "BELLHOP_COMMAND", &length);
    buffer_append(out, length ? value : "connection", length ? length : strlen("connection"));
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        value = value_of(fields, count, names[i], &length);
        if (length == 0)
            continue;
        buffer_append_text(out, i < 2 ? ": " : i == 2 ? " by " : ", ");
        buffer_append(out, value, length);
    }
}

/* On the writer's thread: a record of write_fields() becomes an entry of the journal. */
static int send_to_journal(void *context, const char *line, size_t length)
{
    struct audit *audit = context;
    struct journal_field fields[FIELDS_MAX + 3];
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;
    _cleanup_free_ char *copy = strndup(line, length);
    size_t count = 0;
    if (!copy)
        return -ENOMEM;
    for (char *at = copy, *end; (end = strchr(at, FIELD_SEPARATOR)) && count < FIELDS_MAX;
         at = end + 1) {
        char *equals = strchr(at, '=');
        *end = *equals = '\0';
        fields[count++] = JOURNAL_TEXT(at, equals + 1);
    }
    write_message(fields, count, &message);
    if (message.failed)
        return -ENOMEM;
    fields[count++] = JOURNAL_TEXT("MESSAGE", message.data);
    fields[count++] = JOURNAL_TEXT("PRIORITY", "5");
    fields[count++] = JOURNAL_TEXT("SYSLOG_IDENTIFIER", "bellhopd");
    return journal_send(audit->journal, fields, count);
}

static void write_record(const struct audit *audit, const struct record *record, struct buffer *out)
{
    if (audit->journal)
        write_fields(record, out);
    else
        write_json(record, out);
}

static void put(struct audit *audit, const struct record *record)
{
    _cleanup_buffer_ struct buffer line = BUFFER_INIT;
    write_record(audit, record, &line);
    if (audit->writer)
        buffer_append_char(&line, '\n');
    if (line.failed)
        log_warning("a record of the audit is lost: out of memory");
    else if (audit->writer)
        line_writer_write(audit->writer, line.data, line.length);
    else
        log_info("audit %s", line.data);
}

static void lost_as_json(uint64_t count, struct buffer *out)
{
    struct record record;
    begin(&record, "lost");
    add_number(&record, "records", count);
    write_json(&record, out);
    buffer_append_char(out, '\n');
}

static void lost_as_fields(uint64_t count, struct buffer *out)
{
    struct record record;
    begin(&record, "lost");
    add_number(&record, "records", count);
    write_fields(&record, out);
    buffer_append_char(out, '\n');
}

/* --- its life --- */

static bool hold(void *context, unsigned wait_ms)
{
    return line_writer_hold(context, wait_ms);
}

static void release(void *context)
{
    line_writer_release(context);
}

static int open_writer(struct audit *audit, const char *destination)
{
    struct line_writer_options options = {
        .path = destination, .queued_bytes = QUEUED_BYTES, .describe_lost = lost_as_json};
    size_t length = strlen(POLICY_AUDIT_JOURNAL);
    if (*destination != '/') {
        const char *socket = destination[length] == ':' ? destination + length + 1 : NULL;
        int error = journal_open(socket, &audit->journal);
        if (error < 0)
            return error;
        options.path = NULL;
        options.take = send_to_journal;
        options.context = audit;
        options.describe_lost = lost_as_fields;
    }
    int error = line_writer_new(&options, &audit->writer);
    /* Nothing is written to a disk while it is frozen. */
    if (error == 0)
        log_set_companion(hold, release, audit->writer);
    return error;
}

int audit_new(const char *destination, struct audit **ret_audit)
{
    struct audit *audit = calloc(1, sizeof(*audit));
    if (!audit)
        return -ENOMEM;
    int error = strcmp(destination, POLICY_AUDIT_LOG) == 0 ? 0 : open_writer(audit, destination);
    if (error < 0) {
        journal_free(audit->journal);
        free(audit);
        return error;
    }
    *ret_audit = audit;
    return 0;
}

struct audit *audit_free(struct audit *audit, unsigned timeout_ms)
{
    if (!audit)
        return NULL;
    if (audit->writer)
        log_set_companion(NULL, NULL, NULL);
    /* A thread that is stuck in the journal keeps what it has. */
    if (audit->journal && !line_writer_flush(audit->writer, timeout_ms))
        return NULL;
    line_writer_free(audit->writer, timeout_ms);
    journal_free(audit->journal);
    free(audit);
    return NULL;
}

void audit_flush(struct audit *audit, unsigned timeout_ms)
{
    if (audit && audit->writer)
        (void)line_writer_flush(audit->writer, timeout_ms);
}

uint64_t audit_next_number(struct audit *audit)
{
    return atomic_fetch_add(&audit->last_number, 1) + 1;
}

void audit_reopen(struct audit *audit)
{
    if (audit->writer)
        line_writer_reopen(audit->writer);
}

void audit_decision(struct audit *audit, const struct audit_call *call, bool is_allowed,
                    const char *rule, const char *arguments)
{
    struct record record;
    _cleanup_free_ char *cut = NULL;
    begin_call(&record, "decision", call);
    add_text(&record, "decision", is_allowed ? "allowed" : "refused");
    add_text(&record, "rule", rule);
    if (arguments && strlen(arguments) > ARGUMENTS_BYTES) {
        cut = strndup(arguments, utf8_valid_prefix(arguments, ARGUMENTS_BYTES));
        add_text(&record, "arguments", cut ? cut : "");
        add_text(&record, "arguments-cut", "true");
    } else if (arguments && *arguments) {
        add_text(&record, "arguments", arguments);
    }
    put(audit, &record);
}

void audit_result(struct audit *audit, const struct audit_call *call, const char *result,
                  const char *error)
{
    struct record record;
    begin_call(&record, "result", call);
    add_text(&record, "result", result);
    if (error)
        add_text(&record, "error", error);
    put(audit, &record);
}
