/* SPDX-License-Identifier: MIT */
#include "cmds/call.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysroot.h"
#include "cmds/command-job.h"
#include "cmds/dispatch.h"
#include "cmds/services.h"
#include "cmds/table.h"
#include "security/profile.h"

/* --- for the hooks --- */

void *call_args(struct call *call)
{
    return call->args;
}

struct json_writer *call_reply(struct call *call)
{
    if (call->reply.length == 0 && call->command->flags & CMD_DELIMITED)
        buffer_append_char(&call->reply, '\xff');
    if (call->reply.length <= 1)
        buffer_append_text(&call->reply, "{\"return\": ");
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
    char system[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    return call_fail(call, "%s: %s", what, strerror_r(error, system, sizeof(system)));
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
    return call->services;
}

unsigned call_profile(const struct call *call)
{
    return call->profile;
}

/* Earlier texts stay until the call is freed: the loop may be reading one. */
void call_step(struct call *call, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    struct call_step_text *step = length < 0 ? NULL : malloc(sizeof(*step) + (size_t)length + 1);
    if (step) {
        vsnprintf(step->text, (size_t)length + 1, format, arguments);
        step->previous = atomic_load(&call->step);
        atomic_store(&call->step, step);
    }
    va_end(arguments);
}

bool call_is_interrupted(struct call *call)
{
    return task_is_interrupted(&call->task);
}

void call_on_overdue(struct call *call, void (*overdue)(void *context), void *context)
{
    assert_on_loop();
    call->overdue = overdue;
    call->overdue_context = context;
}

void call_set_progress(struct call *call, const struct call_progress *progress)
{
    if (call->job)
        command_job_set_progress(call->job, progress);
}

bool call_is_cancelled(struct call *call)
{
    return call->job && command_job_is_cancelled(call->job);
}

void call_complete(struct call *call)
{
    task_finish(&call->task);
}

void call_go_on(struct call *call)
{
    task_go_on(&call->task);
}

static bool may_expire(struct task *task)
{
    return list_entry(task, struct call, task)->command->flags & CMD_EXPIRES;
}

void call_cancel_earlier(struct call *call)
{
    task_cancel_earlier(&call->task, may_expire);
}

void call_on_delivery(struct call *call,
                      void (*told)(void *services, enum delivery what, uint64_t token),
                      uint64_t token)
{
    assert_on_loop();
    call->told = told;
    call->told_token = token;
}

/* --- audit --- */

static struct audit_call call_for_audit(const struct call *call)
{
    return (struct audit_call){
        .number = atomic_load(&call->audit_number),
        .channel = call->channel,
        .peer = call->peer,
        .profile = call->profile,
        .command = call->command ? call->command->name : NULL,
    };
}

void call_decided(struct call *call, bool is_allowed, const char *rule)
{
    struct audit *audit = call->services ? call->services->audit : NULL;
    enum call_decision decision = is_allowed ? DECISION_ALLOWED : DECISION_REFUSED;
    if (atomic_exchange(&call->decision, decision) == decision || !audit)
        return;
    if (!atomic_load(&call->audit_number))
        atomic_store(&call->audit_number, audit_next_number(audit));
    char by_profile[40];
    snprintf(by_profile, sizeof(by_profile), "profile %s", profile_name(call->profile));
    _cleanup_buffer_ struct buffer arguments = BUFFER_INIT;
    if (call->args)
        args_describe(call->command->args, call->args, &arguments);
    struct audit_call shown = call_for_audit(call);
    audit_decision(audit, &shown, is_allowed, rule ? rule : by_profile,
                   arguments.failed ? NULL : arguments.data);
}

void call_audit_result(struct call *call, const char *result, const struct wire_error *error)
{
    assert_on_loop();
    struct audit *audit = call->services ? call->services->audit : NULL;
    if (!audit || atomic_load(&call->decision) != DECISION_ALLOWED)
        return;
    struct audit_call shown = call_for_audit(call);
    audit_result(audit, &shown, result, error && error->is_set ? error->desc : NULL);
}

const char *call_last_step(const struct call *call)
{
    const struct call_step_text *step = atomic_load(&call->step);
    return step ? step->text : NULL;
}

/* --- its life --- */

struct call *call_new(struct dispatcher *dispatcher, struct services *services,
                      const struct endpoint *endpoint, struct request *request)
{
    struct call *call = calloc(1, sizeof(*call));
    if (!call)
        return NULL;
    call->dispatcher = dispatcher;
    call->services = services;
    call->endpoint = endpoint;
    call->request = request;
    call->profile = PROFILE_COUNT;
    call->channel = "";
    call->writer.out = &call->reply;
    return call;
}

void call_inherit(struct call *call, const struct call *asker)
{
    call->profile = asker->profile;
    call->channel = asker->channel;
    memcpy(call->peer, asker->peer, sizeof(call->peer));
}

static bool call_has_secret(const struct call *call)
{
    /* What was not understood may be a password in the wrong place. */
    return !call->command || args_have_secret(call->command->args);
}

static void call_drop_arguments_only(struct call *call)
{
    if (call->args)
        args_deinit(call->command->args, call->args);
    free(take_ptr(&call->args));
}

void call_drop_arguments(struct call *call)
{
    call_drop_arguments_only(call);
    json_document_free(take_ptr(&call->document), call_has_secret(call));
    free(take_ptr(&call->text));
}

struct call *call_free(struct call *call)
{
    if (!call)
        return NULL;
    call_drop_arguments(call);
    buffer_deinit(&call->id);
    buffer_deinit(&call->reply);
    struct call_step_text *step = atomic_load(&call->step);
    while (step) {
        struct call_step_text *previous = step->previous;
        free(step);
        step = previous;
    }
    free(call);
    return NULL;
}

/* --- reading a request --- */

static bool value_is_name(const struct json_value *value, const char *name)
{
    return strlen(name) == value->name_length && strcmp(value->name, name) == 0;
}

/* Checks the envelope; returns false with the error set. */
static bool decode_envelope(struct call *call, const struct json_value *root,
                            const struct json_value **ret_execute,
                            const struct json_value **ret_arguments)
{
    struct wire_error *error = &call->error;
    if (root->type != JSON_OBJECT) {
        wire_error_set(error, WIRE_GENERIC_ERROR, "QMP input must be a JSON object");
        return false;
    }
    for (const struct json_value *member = root->first; member; member = member->next) {
        if (value_is_name(member, "id")) {
            struct json_writer writer = JSON_WRITER_INIT(&call->id);
            json_copy_value(&writer, member);
        } else if (value_is_name(member, "execute")) {
            *ret_execute = member;
            if (member->type != JSON_STRING)
                wire_error_set(error, WIRE_GENERIC_ERROR,
                               "QMP input member 'execute' must be a string");
        } else if (value_is_name(member, "arguments")) {
            *ret_arguments = member;
            if (member->type != JSON_OBJECT)
                wire_error_set(error, WIRE_GENERIC_ERROR,
                               "QMP input member 'arguments' must be an object");
        } else {
            wire_error_set(error, WIRE_GENERIC_ERROR, "QMP input member '%s' is unexpected",
                           member->name);
        }
    }
    if (!*ret_execute)
        wire_error_set(error, WIRE_GENERIC_ERROR, "QMP input lacks member 'execute'");
    return !error->is_set;
}

static void decode_arguments(struct call *call, const struct json_value *arguments,
                             struct wire_error *ret_error)
{
    const struct command *command = call->command;
    call->args = calloc(1, command->args_size ? command->args_size : 1);
    int error = call->args ? args_decode(command->args, arguments, call->args, ret_error) : 1;
    if (error && !ret_error->is_set)
        wire_error_set(ret_error, WIRE_GENERIC_ERROR, "Out of memory for the arguments of %s",
                       command->name);
}

static int find_command(struct call *call, const struct json_value *execute)
{
    int index = command_find(execute->text, execute->length);
    if (index < 0) {
        wire_error_set(&call->error, WIRE_COMMAND_NOT_FOUND, "The command %s has not been found",
                       execute->text);
        return -1;
    }
    call->command = command_at((size_t)index);
    call->command_index = (size_t)index;
    return 0;
}

/* What hosts look for, and what the classic agent says, is the beginning. */
static void refuse_command(struct call *call, const struct json_value *arguments)
{
    const char *name = call->command->name;
    bool is_listed = dispatcher_is_listed(call->dispatcher, call->command_index);
    bool is_elsewhere = call->command->flags & CMD_OWN_SYSTEM && sysroot_prefix()[0];
    const char *rule = is_elsewhere ? "--root" : is_listed ? NULL : "block-rpcs, allow-rpcs";
    if (call->services && call->services->audit) {
        /* Only what can be shown: whether they fit is nobody's concern any more. */
        struct wire_error ignored = {0};
        decode_arguments(call, arguments, &ignored);
        if (ignored.is_set)
            call_drop_arguments_only(call);
        call_decided(call, false, rule);
    }
    if (is_elsewhere)
        wire_error_set(&call->error, WIRE_COMMAND_NOT_FOUND,
                       "Command %s has been disabled: the agent only looks at the guest (--root)",
                       name);
    else if (!is_listed)
        wire_error_set(&call->error, WIRE_COMMAND_NOT_FOUND, "Command %s has been disabled", name);
    else
        wire_error_set(&call->error, WIRE_COMMAND_NOT_FOUND,
                       "Command %s has been disabled: the profile %s does not have it", name,
                       profile_name(call->profile));
}

void call_decode(struct call *call, const struct json_limits *limits)
{
    char reason[JSON_REASON_MAX] = "";
    int error = json_document_parse_take(take_ptr(&call->text), call->text_length, limits,
                                         &call->document, reason);
    if (error) {
        wire_error_set(&call->error, WIRE_GENERIC_ERROR, "%s",
                       reason[0] ? reason : "Out of memory for the request");
        return;
    }
    const struct json_value *execute = NULL, *arguments = NULL;
    if (!decode_envelope(call, json_document_root(call->document), &execute, &arguments))
        return;
    if (find_command(call, execute) < 0)
        return;
    if (!dispatcher_is_enabled(call->dispatcher, call->profile, call->command_index)) {
        refuse_command(call, arguments);
        return;
    }
    decode_arguments(call, arguments, &call->error);
}

const char *call_lane(const struct call *call, char buffer[CALL_LANE_MAX])
{
    const struct command *command = call->command;
    if (!command->lane || !command->lane_arg)
        return command->lane;
    for (const struct arg_spec *spec = command->args; spec->name; spec++) {
        if (strcmp(spec->name, command->lane_arg) != 0)
            continue;
        const void *member = (const char *)call->args + spec->offset;
        if (spec->type == ARG_INT64)
            snprintf(buffer, CALL_LANE_MAX, "%s:%" PRId64, command->lane, *(const int64_t *)member);
        else
            snprintf(buffer, CALL_LANE_MAX, "%s:%s", command->lane,
                     ((const struct arg_text *)member)->data);
    }
    return buffer;
}

/* --- answering --- */

static void compose_end(const struct call *call, struct buffer *line)
{
    if (call->id.length > 0) {
        buffer_append_text(line, ", \"id\": ");
        buffer_append(line, call->id.data, call->id.length);
    }
    buffer_append_text(line, "}\n");
    if (line->failed || call->id.failed) {
        buffer_deinit(line);
        line->failed = true;
    }
}

struct buffer call_compose_error(const struct call *call, const struct wire_error *error)
{
    struct buffer line = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&line);
    buffer_append_text(&line, "{\"error\": ");
    json_begin_object(&writer);
    json_member_string(&writer, "class", wire_class_name(error->class));
    json_member_string(&writer, "desc", error->desc);
    json_end_object(&writer);
    compose_end(call, &line);
    return line;
}

struct buffer call_compose(struct call *call)
{
    if (call->reply.failed)
        wire_error_set(&call->error, WIRE_GENERIC_ERROR, "Out of memory for the reply");
    if (call->error.is_set)
        return call_compose_error(call, &call->error);

    struct buffer line = buffer_take(&call->reply);
    if (line.length == 0)
        buffer_append_text(&line, "{\"return\": {}");
    compose_end(call, &line);
    if (line.failed) {
        wire_error_set(&call->error, WIRE_GENERIC_ERROR, "Out of memory for the reply");
        return call_compose_error(call, &call->error);
    }
    return line;
}
