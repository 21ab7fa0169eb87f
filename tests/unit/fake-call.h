/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TESTS_UNIT_FAKE_CALL_H
#define BELLHOP_TESTS_UNIT_FAKE_CALL_H

/*
 * For tests of commands: calls without an engine. Stands in for what cmds/command.h and
 * cmds/services.h promise, in one thread, one hook at a time, so that a test can stop between two
 * hooks. To be included by one test program, after cmocka.h.
 */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/settings.h"
#include "cmds/command.h"
#include "cmds/services.h"
#include "cmds/wire-error.h"
#include "io/json.h"

struct call {
    const struct command *command;
    struct json_document *document;
    void *args;
    struct buffer reply;
    struct json_writer writer;
    struct wire_error error;
    void *state;
    bool is_interrupted;
    unsigned profile;
    char decision[128]; /* "allowed by [files x]" */
    bool is_cancelled;
    struct call_progress progress;
    char progress_item[CALL_PROGRESS_ITEM_MAX];
    char step[512];
    void (*told)(void *services, enum delivery what, uint64_t token);
    uint64_t told_token;
};

static struct settings fake_settings;
static struct services fake_services = {.settings = &fake_settings};

/* What services_run_detached() was given and fake_run_detached() has not yet run. */
static struct {
    void (*function)(void *argument);
    void *argument;
} fake_detached[64];
static size_t fake_detached_count;

/* --- what commands call --- */

void *call_args(struct call *call)
{
    return call->args;
}

struct json_writer *call_reply(struct call *call)
{
    return &call->writer;
}

enum call_next call_fail(struct call *call, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    wire_error_set_va(&call->error, WIRE_GENERIC_ERROR, format, arguments);
    va_end(arguments);
    return CALL_ANSWER;
}

enum call_next call_fail_errno(struct call *call, int error, const char *format, ...)
{
    char what[sizeof(call->error.desc)];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    return call_fail(call, "%s: %s", what, strerror(error));
}

void call_set_state(struct call *call, void *state)
{
    call->state = state;
}

void *call_state(struct call *call)
{
    return call->state;
}

struct services *call_services(struct call *call)
{
    return &fake_services;
}

unsigned call_profile(const struct call *call)
{
    return call->profile;
}

void call_decided(struct call *call, bool is_allowed, const char *rule)
{
    snprintf(call->decision, sizeof(call->decision), "%s by %s", is_allowed ? "allowed" : "refused",
             rule ? rule : "its profile");
}

void call_step(struct call *call, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(call->step, sizeof(call->step), format, arguments);
    va_end(arguments);
}

bool call_is_interrupted(struct call *call)
{
    return call->is_interrupted;
}

bool call_is_cancelled(struct call *call)
{
    return call->is_cancelled;
}

void call_set_progress(struct call *call, const struct call_progress *progress)
{
    call->progress = *progress;
    snprintf(call->progress_item, sizeof(call->progress_item), "%s",
             progress->item ? progress->item : "");
}

void call_on_delivery(struct call *call,
                      void (*told)(void *services, enum delivery what, uint64_t token),
                      uint64_t token)
{
    call->told = told;
    call->told_token = token;
}

void services_run_detached(struct services *services, void (*function)(void *argument),
                           void *argument)
{
    assert_ptr_equal(services, &fake_services);
    assert_true(fake_detached_count < ARRAY_SIZE(fake_detached));
    fake_detached[fake_detached_count].function = function;
    fake_detached[fake_detached_count].argument = argument;
    fake_detached_count++;
}

/* --- what tests call --- */

__attribute__((unused)) static void fake_run_detached(void)
{
    thread_set_role(THREAD_WORKER);
    for (size_t i = 0; i < fake_detached_count; i++)
        fake_detached[i].function(fake_detached[i].argument);
    fake_detached_count = 0;
    thread_set_role(THREAD_LOOP);
}

static const struct command *fake_find(const struct command_family *family, const char *name)
{
    for (size_t i = 0; i < family->count; i++)
        if (strcmp(family->commands[i].name, name) == 0)
            return &family->commands[i];
    fail_msg("there is no command %s", name);
    return NULL;
}

/* A call whose arguments are decoded (if they can be: else its error is set). */
static struct call *fake_call_new(const struct command_family *family, const char *name,
                                  const char *arguments)
{
    static const struct json_limits limits = {.depth_max = 100, .values_max = 1000};
    char reason[JSON_REASON_MAX];
    struct call *call = calloc(1, sizeof(*call));
    assert_non_null(call);
    call->command = fake_find(family, name);
    call->writer.out = &call->reply;
    char *text = strdup(arguments ? arguments : "{}");
    assert_non_null(text);
    assert_int_equal(json_document_parse_take(text, strlen(text), &limits, &call->document, reason),
                     0);
    call->args = calloc(1, call->command->args_size ? call->command->args_size : 1);
    assert_non_null(call->args);
    int r = args_decode(call->command->args, json_document_root(call->document), call->args,
                        &call->error);
    assert_int_equal(r < 0, call->error.is_set);
    return call;
}

static enum call_next fake_prepare(struct call *call)
{
    thread_set_role(THREAD_LOOP);
    return call->command->prepare ? call->command->prepare(call) : CALL_CONTINUE;
}

static enum call_next fake_run(struct call *call)
{
    thread_set_role(call->command->flags & CMD_ON_LOOP ? THREAD_LOOP : THREAD_WORKER);
    enum call_next next = call->command->run(call);
    thread_set_role(THREAD_LOOP);
    return next;
}

static enum call_next fake_finish(struct call *call)
{
    return call->command->finish ? call->command->finish(call) : CALL_CONTINUE;
}

/* Takes the call through all its hooks but `release`. */
static void fake_call_carry_out(struct call *call)
{
    if (call->error.is_set || fake_prepare(call) != CALL_CONTINUE)
        return;
    if (fake_run(call) == CALL_CONTINUE)
        fake_finish(call);
}

/* The value of "return", or the error's description. */
static const char *fake_call_answer(const struct call *call)
{
    if (call->error.is_set)
        return call->error.desc;
    return call->reply.length > 0 ? call->reply.data : "{}";
}

static void fake_call_free(struct call *call)
{
    if (call->command->release)
        call->command->release(call);
    args_deinit(call->command->args, call->args);
    free(call->args);
    json_document_free(call->document, false);
    buffer_deinit(&call->reply);
    free(call);
}

/* A whole call; its answer is to be `expected`. */
static void fake_expect(const struct command_family *family, const char *name,
                        const char *arguments, const char *expected)
{
    struct call *call = fake_call_new(family, name, arguments);
    fake_call_carry_out(call);
    assert_string_equal(fake_call_answer(call), expected);
    fake_call_free(call);
}

#endif
