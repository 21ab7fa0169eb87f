/* SPDX-License-Identifier: MIT */
#include "cmds/audit.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/line-writer.h"
#include "base/log.h"
#include "base/utf8.h"
#include "io/json-writer.h"
#include "security/policy.h"

/* What waits for a disk that does not take it. */
enum { QUEUED_BYTES = 1024 * 1024 };

/* Of the arguments; what is longer is cut. */
enum { ARGUMENTS_BYTES = 1024 };

struct audit {
    struct line_writer *writer; /* NULL: the log */
    _Atomic uint64_t last_number;
};

static void write_time(struct json_writer *writer)
{
    struct timespec now;
    struct tm parts;
    char text[32], whole[64];
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(whole, sizeof(whole), "%s.%06uZ", text, (unsigned)(now.tv_nsec / 1000));
    json_member_string(writer, "time", whole);
}

static void describe_lost(uint64_t count, struct buffer *out)
{
    struct json_writer writer = JSON_WRITER_INIT(out);
    json_begin_object(&writer);
    write_time(&writer);
    json_member_string(&writer, "event", "lost");
    json_member_uint(&writer, "records", count);
    json_end_object(&writer);
    buffer_append_char(out, '\n');
}

static bool hold(void *context, unsigned wait_ms)
{
    return line_writer_hold(context, wait_ms);
}

static void release(void *context)
{
    line_writer_release(context);
}

int audit_new(const char *destination, struct audit **ret_audit)
{
    struct audit *audit = calloc(1, sizeof(*audit));
    if (!audit)
        return -ENOMEM;
    if (*destination == '/') {
        struct line_writer_options options = {
            .path = destination, .queued_bytes = QUEUED_BYTES, .describe_lost = describe_lost};
        int error = line_writer_new(&options, &audit->writer);
        if (error < 0) {
            free(audit);
            return error;
        }
        /* Nothing is written to a disk while it is frozen. */
        log_set_companion(hold, release, audit->writer);
    }
    *ret_audit = audit;
    return 0;
}

struct audit *audit_free(struct audit *audit, unsigned timeout_ms)
{
    if (audit) {
        if (audit->writer)
            log_set_companion(NULL, NULL, NULL);
        line_writer_free(audit->writer, timeout_ms);
        free(audit);
    }
    return NULL;
}

void audit_flush(struct audit *audit, unsigned timeout_ms)
{
    if (audit && audit->writer)
        line_writer_flush(audit->writer, timeout_ms);
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

static void begin(struct json_writer *writer, const char *event, const struct audit_call *call)
{
    json_begin_object(writer);
    write_time(writer);
    json_member_string(writer, "event", event);
    if (call->number)
        json_member_uint(writer, "call", call->number);
    json_member_string(writer, "channel", call->channel);
    if (call->peer && *call->peer)
        json_member_string(writer, "peer", call->peer);
    json_member_string(writer, "profile", profile_name(call->profile));
    if (call->command)
        json_member_string(writer, "command", call->command);
}

static void end(struct audit *audit, struct json_writer *writer)
{
    struct buffer *line = writer->out;
    json_end_object(writer);
    if (!audit->writer) {
        log_info("audit %s", line->failed ? "record is lost: out of memory" : line->data);
        return;
    }
    buffer_append_char(line, '\n');
    if (line->failed)
        line_writer_write(audit->writer, "{\"event\": \"lost\"}\n", 18);
    else
        line_writer_write(audit->writer, line->data, line->length);
}

void audit_decision(struct audit *audit, const struct audit_call *call, bool is_allowed,
                    const char *rule, const char *arguments)
{
    _cleanup_buffer_ struct buffer line = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&line);
    begin(&writer, "decision", call);
    json_member_string(&writer, "decision", is_allowed ? "allowed" : "refused");
    json_member_string(&writer, "rule", rule);
    if (arguments && *arguments) {
        size_t length = strlen(arguments);
        bool is_long = length > ARGUMENTS_BYTES;
        json_name(&writer, "arguments");
        json_string_n(&writer, arguments,
                      is_long ? utf8_valid_prefix(arguments, ARGUMENTS_BYTES) : length);
        if (is_long)
            json_member_bool(&writer, "arguments-cut", true);
    }
    end(audit, &writer);
}

void audit_result(struct audit *audit, const struct audit_call *call, const char *result,
                  const char *error)
{
    _cleanup_buffer_ struct buffer line = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&line);
    begin(&writer, "result", call);
    json_member_string(&writer, "result", result);
    if (error)
        json_member_string(&writer, "error", error);
    end(audit, &writer);
}
