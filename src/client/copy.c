/* SPDX-License-Identifier: MIT */
#include "client/copy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "client/agent.h"
#include "client/local.h"
#include "client/request.h"
#include "io/json.h"

/* Large enough that the round trip does not count, small enough for every agent and host. */
#define CHUNK_BYTES ((size_t)1 << 20)

/* A file that has nothing to give just now, such as a terminal. */
#define NOTHING_YET_MS 50

struct copy {
    struct agent *agent;
    const char *path; /* borrowed */
    int64_t handle;
    struct request request; /* its memory is used again for each chunk */
};

/* With OUTCOME_INTERRUPTED the file may be open all the same: `ret_is_open` says it. */
static enum outcome open_file(struct copy *copy, const char *mode, bool *ret_is_open)
{
    struct json_writer *arguments = request_begin(&copy->request, "guest-file-open");
    struct json_document *document;
    const struct json_value *value;
    enum outcome outcome, late;

    json_member_string(arguments, "path", copy->path);
    json_member_string(arguments, "mode", mode);
    request_end(&copy->request);
    *ret_is_open = false;
    outcome = late = agent_call(copy->agent, &copy->request, 0, &document, &value);
    if (outcome == OUTCOME_INTERRUPTED)
        late = agent_await_late(copy->agent, &copy->request, &document, &value);
    if (late != OUTCOME_OK)
        return outcome;

    *ret_is_open = value->type == JSON_NUMBER && json_get_int64(value, &copy->handle);
    if (!*ret_is_open) {
        report("the agent does not say how it calls the open file");
        outcome = OUTCOME_NO_ANSWER;
    }
    json_document_free(document, false);
    return outcome;
}

static enum outcome call_with_handle(struct copy *copy, const char *command)
{
    json_member_int(request_begin(&copy->request, command), "handle", copy->handle);
    request_end(&copy->request);
    return agent_call_void(copy->agent, &copy->request, 0);
}

/* After a failure: gets the connection in step again, where that is needed, to close the file. */
static void abandon_file(struct copy *copy, enum outcome why)
{
    bool in_step = why == OUTCOME_REFUSED || agent_resync(copy->agent) == OUTCOME_OK;

    if (!in_step || call_with_handle(copy, "guest-file-close") != OUTCOME_OK)
        report("%s may still be open in the guest, as handle %" PRId64, copy->path, copy->handle);
}

static bool member_size(const struct json_value *object, const char *name, size_t *ret_size)
{
    const struct json_value *value =
        object->type == JSON_OBJECT ? json_object_get(object, name) : NULL;
    uint64_t size;

    if (!value || value->type != JSON_NUMBER || !json_get_uint64(value, &size) || size > SIZE_MAX)
        return false;
    *ret_size = (size_t)size;
    return true;
}

static enum outcome emit_chunk(const struct json_value *chunk, size_t *ret_length, bool *ret_eof)
{
    bool is_object = chunk->type == JSON_OBJECT;
    const struct json_value *data = is_object ? json_object_get(chunk, "buf-b64") : NULL;
    const struct json_value *eof = is_object ? json_object_get(chunk, "eof") : NULL;
    int error;

    if (!data || data->type != JSON_STRING || !eof || eof->type != JSON_BOOL ||
        base64_decode_in_place(data->text, data->length, ret_length) < 0) {
        report("the agent's answer to guest-file-read makes no sense");
        return OUTCOME_NO_ANSWER;
    }
    *ret_eof = eof->boolean;
    error = local_write(STDOUT_FILENO, data->text, *ret_length);
    if (error == 0)
        return OUTCOME_OK;
    if (local_signal() != 0)
        return OUTCOME_INTERRUPTED;
    report("cannot write to standard output: %s", strerror(-error));
    return OUTCOME_LOCAL;
}

static enum outcome read_file(struct copy *copy)
{
    bool eof = false;

    while (!eof) {
        struct json_writer *arguments = request_begin(&copy->request, "guest-file-read");
        struct json_document *document;
        const struct json_value *value;
        enum outcome outcome;
        size_t length;

        json_member_int(arguments, "handle", copy->handle);
        json_member_uint(arguments, "count", CHUNK_BYTES);
        request_end(&copy->request);
        outcome = agent_call(copy->agent, &copy->request, 0, &document, &value);
        if (outcome != OUTCOME_OK)
            return outcome;
        outcome = emit_chunk(value, &length, &eof);
        json_document_free(document, false);
        if (outcome != OUTCOME_OK)
            return outcome;
        if (length == 0 && !eof && local_wait(-1, 0, local_deadline(NOTHING_YET_MS)) == -EINTR)
            return OUTCOME_INTERRUPTED;
    }
    return OUTCOME_OK;
}

/* Sends the bytes, in as many steps as the agent wants to take them. */
static enum outcome write_chunk(struct copy *copy, const char *bytes, size_t length)
{
    while (length > 0) {
        struct json_writer *arguments = request_begin(&copy->request, "guest-file-write");
        struct json_document *document;
        const struct json_value *value;
        enum outcome outcome;
        size_t written;

        json_member_int(arguments, "handle", copy->handle);
        json_member_base64(arguments, "buf-b64", bytes, length);
        request_end(&copy->request);
        outcome = agent_call(copy->agent, &copy->request, 0, &document, &value);
        if (outcome != OUTCOME_OK)
            return outcome;
        if (!member_size(value, "count", &written) || written == 0 || written > length) {
            report("the agent's answer to guest-file-write makes no sense");
            outcome = OUTCOME_NO_ANSWER;
        }
        json_document_free(document, false);
        if (outcome != OUTCOME_OK)
            return outcome;
        bytes += written;
        length -= written;
    }
    return OUTCOME_OK;
}

/* Reads until the chunk is full or stdin ends. */
static enum outcome fill_chunk(struct buffer *chunk)
{
    buffer_truncate(chunk, 0);
    while (chunk->length < CHUNK_BYTES) {
        char *room = buffer_reserve(chunk, CHUNK_BYTES - chunk->length);
        ssize_t got;

        if (!room)
            return report_no_memory();
        got = local_read(STDIN_FILENO, room, CHUNK_BYTES - chunk->length);
        if (got == -EINTR)
            return OUTCOME_INTERRUPTED;
        if (got < 0) {
            report("cannot read standard input: %s", strerror((int)-got));
            return OUTCOME_LOCAL;
        }
        if (got == 0)
            break;
        buffer_commit(chunk, (size_t)got);
    }
    return OUTCOME_OK;
}

static enum outcome write_file(struct copy *copy)
{
    _cleanup_buffer_ struct buffer chunk = BUFFER_INIT;
    enum outcome outcome;

    do {
        outcome = fill_chunk(&chunk);
        if (outcome == OUTCOME_OK)
            outcome = write_chunk(copy, chunk.data, chunk.length);
    } while (outcome == OUTCOME_OK && chunk.length == CHUNK_BYTES);
    if (outcome != OUTCOME_OK)
        return outcome;
    /* What the agent still holds may be what the guest's disk has no room for. */
    return call_with_handle(copy, "guest-file-flush");
}

static enum outcome copy_file(struct agent *agent, const char *path, const char *mode,
                              enum outcome (*transfer)(struct copy *copy))
{
    struct copy copy = {.agent = agent, .path = path, .request = REQUEST_INIT};
    bool is_open;
    enum outcome outcome = open_file(&copy, mode, &is_open);

    if (outcome == OUTCOME_OK)
        outcome = transfer(&copy);
    if (outcome == OUTCOME_OK)
        outcome = call_with_handle(&copy, "guest-file-close");
    else if (is_open)
        abandon_file(&copy, outcome);
    request_deinit(&copy.request);
    return outcome;
}

enum outcome copy_from_guest(struct agent *agent, const char *path)
{
    return copy_file(agent, path, "r", read_file);
}

enum outcome copy_to_guest(struct agent *agent, const char *path)
{
    return copy_file(agent, path, "w", write_file);
}
