/* SPDX-License-Identifier: MIT */
#include "client/agent.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "client/address.h"
#include "client/local.h"
#include "client/request.h"
#include "io/json.h"

/* An agent answers a sync at once; only a guest short of time needs longer. */
#define SYNC_LIMIT_MS    5000
#define TIDY_UP_LIMIT_MS 2000

/* The protocol's largest replies are 48 MiB of file as base64. */
#define REPLY_MAX_BYTES ((size_t)128 << 20)
#define RECEIVE_BYTES   ((size_t)64 << 10)

#define SYNC_MARK '\xff'

struct agent {
    const struct agent_options *options;
    int fd;
    struct buffer received; /* what was read and not yet taken */
    bool is_tidying_up;
};

struct agent *agent_free(struct agent *agent)
{
    if (!agent)
        return NULL;
    close_fd(agent->fd);
    buffer_deinit(&agent->received);
    free(agent);
    return NULL;
}

static enum outcome report_lost(struct agent *agent, const char *what, int error)
{
    if (error == -EINTR)
        return OUTCOME_INTERRUPTED;
    if (error == -ENOMEM)
        return report_no_memory();
    if (error == -ETIMEDOUT)
        report("%s: no answer to %s in time", agent->options->address, what);
    else if (error == -ECONNRESET || error == -EPIPE)
        report("%s: the connection ended before the answer to %s", agent->options->address, what);
    else if (error == -EMSGSIZE)
        report("%s: the answer to %s is too long", agent->options->address, what);
    else
        report("%s: %s", agent->options->address, strerror(-error));
    return OUTCOME_NO_ANSWER;
}

static int agent_send(struct agent *agent, const char *bytes, size_t length, uint64_t deadline_ms)
{
    while (length > 0) {
        ssize_t sent = send(agent->fd, bytes, length, MSG_NOSIGNAL);

        if (sent < 0) {
            int error = errno == EAGAIN ? local_wait(agent->fd, POLLOUT, deadline_ms) : -errno;

            if (error < 0)
                return error;
            continue;
        }
        bytes += sent;
        length -= (size_t)sent;
    }
    return 0;
}

/* Adds what has arrived, at least one byte, to what was received. */
static int agent_receive(struct agent *agent, uint64_t deadline_ms)
{
    for (;;) {
        char *room = buffer_reserve(&agent->received, RECEIVE_BYTES);
        ssize_t got;
        int error;

        if (!room)
            return -ENOMEM;
        error = local_wait(agent->fd, POLLIN, deadline_ms);
        if (error < 0)
            return error;
        got = recv(agent->fd, room, RECEIVE_BYTES, 0);
        if (got > 0) {
            buffer_commit(&agent->received, (size_t)got);
            return 0;
        }
        if (got == 0)
            return -ECONNRESET;
        if (errno != EAGAIN)
            return -errno;
    }
}

/*
 * Takes the next line out of what is received, without its newline. The caller frees it.
 */
static int agent_take_line(struct agent *agent, uint64_t deadline_ms, char **ret_line,
                           size_t *ret_length)
{
    struct buffer *received = &agent->received;
    size_t searched = 0;
    const char *end;
    size_t length;

    while (received->length == searched ||
           !(end = memchr(received->data + searched, '\n', received->length - searched))) {
        int error;

        searched = received->length;
        if (searched > REPLY_MAX_BYTES)
            return -EMSGSIZE;
        error = agent_receive(agent, deadline_ms);
        if (error < 0)
            return error;
    }
    length = (size_t)(end - received->data);
    *ret_line = strndup(received->data, length);
    if (!*ret_line)
        return -ENOMEM;
    *ret_length = strlen(*ret_line);
    buffer_consume(received, length + 1);
    return 0;
}

static struct json_document *parse_line_take(char *line, size_t length,
                                             char ret_reason[JSON_REASON_MAX])
{
    static const struct json_limits limits = {.depth_max = 128, .values_max = 4000000};
    struct json_document *document;

    strcpy(ret_reason, "out of memory");
    if (json_document_parse_take(line, length, &limits, &document, ret_reason) < 0)
        return NULL;
    return document;
}

static bool is_sync_reply(const char *text, size_t length, int64_t id)
{
    char reason[JSON_REASON_MAX];
    struct json_document *document;
    const struct json_value *value;
    int64_t answered;
    bool is_ours = false;
    char *copy = strndup(text, length);

    if (!copy)
        return false;
    document = parse_line_take(copy, strlen(copy), reason);
    if (!document)
        return false;
    value = json_document_root(document);
    value = value->type == JSON_OBJECT ? json_object_get(value, "return") : NULL;
    if (value && value->type == JSON_NUMBER)
        is_ours = json_get_int64(value, &answered) && answered == id;
    json_document_free(document, false);
    return is_ours;
}

/*
 * Skips what was meant for others: replies to requests of a client that gave up, the error some
 * agents send for the 0xFF itself, the beginning of a line that was cut off.
 */
static int skip_to_sync_reply(struct agent *agent, int64_t id, uint64_t deadline_ms)
{
    for (;;) {
        _cleanup_free_ char *line = NULL;
        size_t length;
        const char *mark;
        int error = agent_take_line(agent, deadline_ms, &line, &length);

        if (error == -EMSGSIZE) {
            buffer_truncate(&agent->received, 0);
            continue;
        }
        if (error < 0)
            return error;
        mark = memrchr(line, SYNC_MARK, length);
        if (mark && is_sync_reply(mark + 1, length - (size_t)(mark + 1 - line), id))
            return 0;
    }
}

static int64_t random_id(void)
{
    int64_t id = 0;

    if (getrandom(&id, sizeof(id), 0) != sizeof(id))
        id = (int64_t)(uintptr_t)&id ^ (int64_t)local_deadline(1);
    /* Some agents keep numbers as doubles; and 0 reads as "none" to some people. */
    return (id & ((INT64_C(1) << 53) - 1)) | 1;
}

static enum outcome agent_sync(struct agent *agent, unsigned limit_ms)
{
    static const char what[] = "guest-sync-delimited";
    _cleanup_request_ struct request request = REQUEST_INIT;
    static const char mark = SYNC_MARK;
    uint64_t deadline_ms = local_deadline(limit_ms);
    int64_t id = random_id();
    int error;

    json_member_int(request_begin(&request, what), "id", id);
    request_end(&request);
    if (request.text.failed)
        return report_no_memory();

    error = agent_send(agent, &mark, 1, deadline_ms);
    if (error == 0)
        error = agent_send(agent, request.text.data, request.text.length, deadline_ms);
    if (error == 0)
        error = skip_to_sync_reply(agent, id, deadline_ms);
    if (error == -ETIMEDOUT) {
        report("%s: no agent answered within %g s", agent->options->address, limit_ms / 1000.0);
        return OUTCOME_NO_ANSWER;
    }
    return error == 0 ? OUTCOME_OK : report_lost(agent, what, error);
}

enum outcome agent_open(const struct agent_options *options, struct agent **ret_agent)
{
    unsigned limit_ms = options->limit_ms > 0 ? options->limit_ms : SYNC_LIMIT_MS;
    _cleanup_agent_ struct agent *agent = calloc(1, sizeof(*agent));
    enum outcome outcome;

    if (!agent)
        return report_no_memory();
    agent->options = options;
    agent->fd = -1;
    outcome = address_connect(options->address, limit_ms, &agent->fd);
    if (outcome == OUTCOME_OK)
        outcome = agent_sync(agent, limit_ms);
    if (outcome != OUTCOME_OK)
        return outcome;
    *ret_agent = take_ptr(&agent);
    return OUTCOME_OK;
}

enum outcome agent_resync(struct agent *agent)
{
    agent->is_tidying_up = true;
    return agent_sync(agent, TIDY_UP_LIMIT_MS);
}

static uint64_t reply_deadline(const struct agent *agent, unsigned usual_limit_ms)
{
    if (agent->is_tidying_up)
        return local_deadline(TIDY_UP_LIMIT_MS);
    return local_deadline(agent->options->limit_ms > 0 ? agent->options->limit_ms : usual_limit_ms);
}

/* Finds "return" in a reply, or reports its "error". */
static enum outcome examine_reply(struct agent *agent, const struct request *request,
                                  const struct json_document *document,
                                  const struct json_value **ret_value)
{
    const struct json_value *root = json_document_root(document);
    const struct json_value *value, *error;

    value = root->type == JSON_OBJECT ? json_object_get(root, "return") : NULL;
    error = root->type == JSON_OBJECT ? json_object_get(root, "error") : NULL;
    if (value) {
        *ret_value = value;
        return OUTCOME_OK;
    }
    if (error && error->type == JSON_OBJECT) {
        const struct json_value *desc = json_object_get(error, "desc");

        if (!desc || desc->type != JSON_STRING)
            desc = json_object_get(error, "class");
        if (desc && desc->type == JSON_STRING)
            report("%s", desc->text);
        else
            report("%s failed, and the agent does not say why", request->command);
        return OUTCOME_REFUSED;
    }
    report("%s: the answer to %s is neither a result nor an error", agent->options->address,
           request->command);
    return OUTCOME_NO_ANSWER;
}

static enum outcome await_reply(struct agent *agent, const struct request *request,
                                uint64_t deadline_ms, struct json_document **ret_document,
                                const struct json_value **ret_value)
{
    char reason[JSON_REASON_MAX];
    struct json_document *document;
    enum outcome outcome;
    char *line;
    size_t length;
    int error = agent_take_line(agent, deadline_ms, &line, &length);

    if (error < 0)
        return report_lost(agent, request->command, error);
    document = parse_line_take(line, length, reason);
    if (!document) {
        report("%s: the answer to %s cannot be read: %s", agent->options->address, request->command,
               reason);
        return OUTCOME_NO_ANSWER;
    }
    outcome = examine_reply(agent, request, document, ret_value);
    if (outcome != OUTCOME_OK) {
        json_document_free(document, false);
        return outcome;
    }
    *ret_document = document;
    return OUTCOME_OK;
}

enum outcome agent_call(struct agent *agent, const struct request *request, unsigned usual_limit_ms,
                        struct json_document **ret_document, const struct json_value **ret_value)
{
    uint64_t deadline_ms = reply_deadline(agent, usual_limit_ms);
    int error;

    if (request->text.failed)
        return report_no_memory();
    error = agent_send(agent, request->text.data, request->text.length, deadline_ms);
    if (error < 0)
        return report_lost(agent, request->command, error);
    return await_reply(agent, request, deadline_ms, ret_document, ret_value);
}

enum outcome agent_await_late(struct agent *agent, const struct request *request,
                              struct json_document **ret_document,
                              const struct json_value **ret_value)
{
    return await_reply(agent, request, local_deadline(TIDY_UP_LIMIT_MS), ret_document, ret_value);
}

enum outcome agent_call_void(struct agent *agent, const struct request *request,
                             unsigned usual_limit_ms)
{
    struct json_document *document;
    const struct json_value *value;
    enum outcome outcome = agent_call(agent, request, usual_limit_ms, &document, &value);

    if (outcome == OUTCOME_OK)
        json_document_free(document, false);
    return outcome;
}
