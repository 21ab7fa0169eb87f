/* SPDX-License-Identifier: MIT */
#include "jobs/broker-payload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "jobs/broker-memory.h"

#define PAYLOAD_MAGIC 0x62687370u

/*
 * execve(2) takes at most three quarters of 8 MiB of strings and pointers together, whatever the
 * limit on the stack is. So nothing is refused here that could have run, and the broker never holds
 * more than this.
 */
#define TEXT_BYTES_MAX   (6u << 20)
#define STRING_COUNT_MAX (TEXT_BYTES_MAX / sizeof(char *))

enum payload_flags {
    PAYLOAD_HAS_ENVIRONMENT = 1 << 0,
    PAYLOAD_HAS_INPUT = 1 << 1,
    PAYLOAD_STAYS_OPEN = 1 << 2,
    PAYLOAD_FLAGS_ALL = (1 << 3) - 1,
};

struct header {
    uint32_t magic;
    uint32_t version;
    uint32_t flags;
    uint32_t capture;
    uint32_t argument_count;
    uint32_t environment_count;
    uint64_t text_bytes;
    uint64_t input_bytes;
    uint64_t stream_bytes_max;
    uint64_t timeout_ms;
};

/* Appends the strings, each with its NUL; false when they are more than any execve takes. */
static bool append_strings(struct buffer *text, const char *const *strings, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buffer_append(text, strings[i], strlen(strings[i]) + 1);
        if (text->length > TEXT_BYTES_MAX)
            return false;
    }
    return true;
}

static int write_payload(int fd, const struct spawn_request *request, const struct buffer *text)
{
    struct header header = {
        .magic = PAYLOAD_MAGIC,
        .version = BROKER_PROTOCOL_VERSION,
        .flags = (request->has_environment ? PAYLOAD_HAS_ENVIRONMENT : 0u) |
                 (request->has_input ? PAYLOAD_HAS_INPUT : 0u) |
                 (request->stays_open ? PAYLOAD_STAYS_OPEN : 0u),
        .capture = request->capture,
        .argument_count = (uint32_t)request->argument_count,
        .environment_count = (uint32_t)request->environment_count,
        .text_bytes = text->length,
        .input_bytes = request->input_bytes,
        .stream_bytes_max = request->stream_bytes_max,
        .timeout_ms = request->timeout_ms,
    };
    int error = broker_memory_write(fd, &header, sizeof(header), 0);
    if (!error)
        error = broker_memory_write(fd, text->data, text->length, sizeof(header));
    if (!error)
        error = broker_memory_write(fd, request->input, request->input_bytes,
                                    sizeof(header) + text->length);
    return error ? error : broker_memory_seal(fd);
}

int spawn_payload_build(const struct spawn_request *request, struct spawn_payload *ret_payload)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    if (request->argument_count > STRING_COUNT_MAX || request->environment_count > STRING_COUNT_MAX)
        return -E2BIG;
    if (!append_strings(&text, &request->program, 1) ||
        !append_strings(&text, request->arguments, request->argument_count) ||
        !append_strings(&text, request->environment, request->environment_count) ||
        !append_strings(&text, (const char *[]){request->directory ? request->directory : ""}, 1) ||
        !append_strings(&text, (const char *[]){request->user ? request->user : ""}, 1))
        return -E2BIG;
    if (text.failed)
        return -ENOMEM;

    _cleanup_close_ int fd = broker_memory_new("bellhop-spawn");
    if (fd < 0)
        return fd;
    int error = write_payload(fd, request, &text);
    if (error)
        return error;
    *ret_payload = (struct spawn_payload){
        .fd = take_fd(&fd),
        .capture = request->capture,
        .input_bytes = request->input_bytes,
        .stays_open = request->stays_open,
    };
    return 0;
}

void spawn_payload_deinit(struct spawn_payload *payload)
{
    payload->fd = close_fd(payload->fd);
}

static bool header_is_valid(const struct header *header, uint64_t size_bytes)
{
    if (header->magic != PAYLOAD_MAGIC || header->version != BROKER_PROTOCOL_VERSION ||
        (header->flags & ~(uint32_t)PAYLOAD_FLAGS_ALL) != 0 ||
        header->capture >= BROKER_CAPTURE_COUNT || header->argument_count < 1 ||
        header->timeout_ms > SPAWN_TIMEOUT_MAX_MS)
        return false;
    if (!(header->flags & PAYLOAD_HAS_ENVIRONMENT) && header->environment_count > 0)
        return false;
    if (!(header->flags & PAYLOAD_HAS_INPUT) && header->input_bytes > 0)
        return false;
    if (header->text_bytes > TEXT_BYTES_MAX || header->argument_count > STRING_COUNT_MAX ||
        header->environment_count > STRING_COUNT_MAX)
        return false;
    uint64_t before_input = sizeof(*header) + header->text_bytes;
    return size_bytes >= before_input && header->input_bytes == size_bytes - before_input;
}

/* Cuts the next `count` strings out of the text; NULL when there is no memory or no NUL. */
static char **cut_strings(char **at, const char *end, size_t count)
{
    char **strings = calloc(count + 1, sizeof(*strings));
    if (!strings)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        char *nul = memchr(*at, '\0', (size_t)(end - *at));
        if (!nul) {
            free(strings);
            errno = EBADMSG;
            return NULL;
        }
        strings[i] = *at;
        *at = nul + 1;
    }
    return strings;
}

/* One string; NULL when it is empty. */
static int cut_optional(char **at, const char *end, char **ret_string)
{
    char *nul = memchr(*at, '\0', (size_t)(end - *at));
    if (!nul)
        return -EBADMSG;
    *ret_string = **at ? *at : NULL;
    *at = nul + 1;
    return 0;
}

static int cut_text(struct spawn_plan *plan, const struct header *header)
{
    char *at = plan->text;
    const char *end = plan->text + header->text_bytes;

    plan->program = at;
    char *nul = memchr(at, '\0', header->text_bytes);
    if (!nul)
        return -EBADMSG;
    at = nul + 1;
    plan->arguments = cut_strings(&at, end, header->argument_count);
    if (!plan->arguments)
        return -errno;
    if (header->flags & PAYLOAD_HAS_ENVIRONMENT) {
        plan->environment = cut_strings(&at, end, header->environment_count);
        if (!plan->environment)
            return -errno;
    }
    int error = cut_optional(&at, end, &plan->directory);
    if (!error)
        error = cut_optional(&at, end, &plan->user);
    return error ? error : at == end ? 0 : -EBADMSG;
}

static int read_plan(int fd, struct spawn_plan *plan)
{
    struct header header;
    uint64_t size_bytes;
    if (!broker_memory_is_sealed(fd, &size_bytes) || size_bytes < sizeof(header))
        return -EBADMSG;
    int error = broker_memory_read(fd, &header, sizeof(header), 0);
    if (error)
        return error;
    if (!header_is_valid(&header, size_bytes))
        return -EBADMSG;

    plan->text = malloc(header.text_bytes + 1);
    if (!plan->text)
        return -ENOMEM;
    error = broker_memory_read(fd, plan->text, header.text_bytes, sizeof(header));
    if (error)
        return error;
    error = cut_text(plan, &header);
    if (error)
        return error;
    plan->stays_open = header.flags & PAYLOAD_STAYS_OPEN;
    plan->has_input = plan->stays_open || (header.flags & PAYLOAD_HAS_INPUT);
    plan->timeout_ms = header.timeout_ms;
    plan->input_offset = sizeof(header) + header.text_bytes;
    plan->input_bytes = header.input_bytes;
    plan->capture = header.capture;
    plan->stream_bytes_max = header.stream_bytes_max;
    return 0;
}

int spawn_plan_open_take(int fd, struct spawn_plan *ret_plan)
{
    struct spawn_plan plan = SPAWN_PLAN_INIT;
    int error = read_plan(fd, &plan);
    if (!error && plan.input_bytes > 0)
        plan.input_fd = take_fd(&fd);
    close_fd(fd);
    if (error)
        spawn_plan_deinit(&plan);
    else
        *ret_plan = plan;
    return error;
}

void spawn_plan_deinit(struct spawn_plan *plan)
{
    free(plan->text);
    free(plan->arguments);
    free(plan->environment);
    close_fd(plan->input_fd);
    *plan = (struct spawn_plan)SPAWN_PLAN_INIT;
}
