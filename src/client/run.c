/* SPDX-License-Identifier: MIT */
#include "client/run.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "client/agent.h"
#include "client/command-line.h"
#include "client/local.h"
#include "client/request.h"
#include "io/json.h"

/* Most programs people run this way are over at once; the rest should not be polled to death. */
#define POLL_FIRST_MS 5
#define POLL_MAX_MS   200

/*
 * A status is answered at once, so silence means that the agent or its guest is gone. (A guest may
 * well be paused for a while, to be saved or moved.)
 */
#define STATUS_LIMIT_MS 60000

/* As base64 it would not fit into any request: what is larger was not meant. */
#define INPUT_MAX_BYTES ((size_t)64 << 20)
#define READ_BYTES      ((size_t)64 << 10)

static enum outcome read_input(const char *path, struct buffer *input)
{
    _cleanup_close_ int file = -1;
    bool is_stdin = strcmp(path, "-") == 0;
    ssize_t got;

    if (!is_stdin) {
        file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0) {
            report("cannot open %s: %s", path, strerror(errno));
            return OUTCOME_LOCAL;
        }
    }
    do {
        char *room = buffer_reserve(input, READ_BYTES);

        if (!room)
            return report_no_memory();
        got = local_read(is_stdin ? STDIN_FILENO : file, room, READ_BYTES);
        if (got == -EINTR)
            return OUTCOME_INTERRUPTED;
        if (got < 0) {
            report("cannot read %s: %s", is_stdin ? "standard input" : path, strerror((int)-got));
            return OUTCOME_LOCAL;
        }
        buffer_commit(input, (size_t)got);
        if (input->length > INPUT_MAX_BYTES) {
            report("the input is too large for one request; use 'write' and a file");
            return OUTCOME_LOCAL;
        }
    } while (got > 0);
    return OUTCOME_OK;
}

static void write_strings(struct json_writer *arguments, const char *name, const char *const *items,
                          size_t count)
{
    json_name(arguments, name);
    json_begin_array(arguments);
    for (size_t i = 0; i < count; i++)
        json_string(arguments, items[i]);
    json_end_array(arguments);
}

static enum outcome start(struct agent *agent, const struct command_line *line, int64_t *ret_pid)
{
    _cleanup_request_ struct request request = REQUEST_INIT;
    struct json_writer *arguments = request_begin(&request, "guest-exec");
    struct json_document *document;
    const struct json_value *value, *pid;
    enum outcome outcome;

    json_member_string(arguments, "path", line->words[0]);
    write_strings(arguments, "arg", (const char *const *)line->words + 1, line->word_count - 1);
    if (line->env_count > 0)
        write_strings(arguments, "env", line->env, line->env_count);
    if (line->input) {
        _cleanup_buffer_ struct buffer input = BUFFER_INIT;

        outcome = read_input(line->input, &input);
        if (outcome != OUTCOME_OK)
            return outcome;
        json_member_base64(arguments, "input-data", input.data, input.length);
    }
    json_member_bool(arguments, "capture-output", true);
    if (line->directory)
        json_member_string(arguments, "cwd", line->directory);
    if (line->user)
        json_member_string(arguments, "user", line->user);
    if (line->time_limit_s > 0)
        json_member_int(arguments, "timeout", line->time_limit_s);
    request_end(&request);

    outcome = agent_call(agent, &request, 0, &document, &value);
    if (outcome != OUTCOME_OK)
        return outcome;
    pid = value->type == JSON_OBJECT ? json_object_get(value, "pid") : NULL;
    if (!pid || pid->type != JSON_NUMBER || !json_get_int64(pid, ret_pid)) {
        report("the agent does not say which process it started");
        outcome = OUTCOME_NO_ANSWER;
    }
    json_document_free(document, false);
    return outcome;
}

static bool has_ended(const struct json_value *status)
{
    const struct json_value *exited = json_object_get(status, "exited");

    return exited && exited->type == JSON_BOOL && exited->boolean;
}

/* Asks until the program has ended; the document with its last status is the caller's. */
static enum outcome wait_for_end(struct agent *agent, int64_t pid,
                                 struct json_document **ret_document,
                                 const struct json_value **ret_status)
{
    _cleanup_request_ struct request request = REQUEST_INIT;
    unsigned pause_ms = POLL_FIRST_MS;

    json_member_int(request_begin(&request, "guest-exec-status"), "pid", pid);
    request_end(&request);
    for (;;) {
        enum outcome outcome =
            agent_call(agent, &request, STATUS_LIMIT_MS, ret_document, ret_status);

        if (outcome != OUTCOME_OK)
            return outcome;
        if ((*ret_status)->type != JSON_OBJECT) {
            report("the agent does not say whether process %" PRId64 " has ended", pid);
            json_document_free(*ret_document, false);
            return OUTCOME_NO_ANSWER;
        }
        if (has_ended(*ret_status))
            return OUTCOME_OK;
        json_document_free(*ret_document, false);
        if (local_wait(-1, 0, local_deadline(pause_ms)) == -EINTR)
            return OUTCOME_INTERRUPTED;
        pause_ms = pause_ms + pause_ms / 2 < POLL_MAX_MS ? pause_ms + pause_ms / 2 : POLL_MAX_MS;
    }
}

static bool is_true(const struct json_value *status, const char *member)
{
    const struct json_value *value = json_object_get(status, member);

    return value && value->type == JSON_BOOL && value->boolean;
}

static enum outcome write_stream(const struct json_value *status, const char *member,
                                 const char *truncated_member, int fd, const char *fd_name)
{
    const struct json_value *data = json_object_get(status, member);
    size_t length = 0;
    int error;

    if (data && data->type == JSON_STRING) {
        if (base64_decode_in_place(data->text, data->length, &length) < 0) {
            report("the agent's '%s' is not base64", member);
            return OUTCOME_NO_ANSWER;
        }
        error = local_write(fd, data->text, length);
        if (error < 0 && local_signal() != 0)
            return OUTCOME_INTERRUPTED;
        if (error < 0) {
            report("cannot write to %s: %s", fd_name, strerror(-error));
            return OUTCOME_LOCAL;
        }
    }
    if (is_true(status, truncated_member))
        report("the agent kept only the first %zu bytes of the program's %s", length, fd_name);
    return OUTCOME_OK;
}

static enum outcome read_exit_status(const struct json_value *status, int *ret_status)
{
    const struct json_value *code = json_object_get(status, "exitcode");
    const struct json_value *signal = json_object_get(status, "signal");
    int64_t number;

    if (is_true(status, "timed-out"))
        report("the program's time was up: the guest ended it");
    if (signal && signal->type == JSON_NUMBER && json_get_int64(signal, &number) && number > 0 &&
        number < 128) {
        *ret_status = 128 + (int)number;
        return OUTCOME_OK;
    }
    if (code && code->type == JSON_NUMBER && json_get_int64(code, &number)) {
        if (number < 0 || number > 255) { /* Windows has them; 256 must not become success */
            report("the program ended with code %" PRId64, number);
            number = 255;
        }
        *ret_status = (int)number;
        return OUTCOME_OK;
    }
    report("the agent does not say how the program ended");
    return OUTCOME_NO_ANSWER;
}

enum outcome run_program(struct agent *agent, const struct command_line *line, int *ret_status)
{
    struct json_document *document;
    const struct json_value *status;
    enum outcome outcome, on_stderr;
    int64_t pid;

    outcome = start(agent, line, &pid);
    if (outcome != OUTCOME_OK)
        return outcome;
    outcome = wait_for_end(agent, pid, &document, &status);
    if (outcome != OUTCOME_OK) {
        report("the program may still be running in the guest, as process %" PRId64, pid);
        return outcome;
    }
    /* Both are tried: that nobody reads stdout any more is no reason to lose the errors. */
    outcome = write_stream(status, "out-data", "out-truncated", STDOUT_FILENO, "standard output");
    on_stderr = write_stream(status, "err-data", "err-truncated", STDERR_FILENO, "standard error");
    if (outcome == OUTCOME_OK)
        outcome = on_stderr;
    if (outcome == OUTCOME_OK)
        outcome = read_exit_status(status, ret_status);
    json_document_free(document, false);
    return outcome;
}
