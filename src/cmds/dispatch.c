/* SPDX-License-Identifier: MIT */
#include "cmds/dispatch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sysroot.h"
#include "base/settings.h"
#include "cmds/call.h"
#include "cmds/command-job.h"
#include "cmds/services.h"
#include "cmds/table.h"
#include "io/session.h"
#include "security/gate.h"
#include "security/privileges.h"
#include "security/profile.h"

/* Longer messages are decoded on a worker: the loop has other clients. */
enum { DECODE_ON_LOOP_BYTES = 64 * 1024 };

struct dispatcher {
    struct dispatcher_options options;
    struct json_limits limits;
    unsigned *enabled_for; /* PROFILE_BIT()s by index in the table; immutable, like the next */
    uint64_t *deadline_ms;
};

static struct call *call_of_task(struct task *task)
{
    return list_entry(task, struct call, task);
}

/* --- answering --- */

/* The reply does not hold what somebody waits to be told of. */
static void call_tell_dropped(struct call *call)
{
    if (call->told)
        call->told(call->services, DELIVERY_DROPPED, call->told_token);
    call->told = NULL;
}

static void call_answer(struct call *call)
{
    if (call->job)
        command_job_answered(call);
    if (!call->request)
        return;
    bool had_succeeded = !call->error.is_set;
    struct reply reply = {.line = call_compose(call)};
    bool succeeded = !call->error.is_set;
    if (had_succeeded && !succeeded)
        call_tell_dropped(call);
    reply.told = call->told;
    reply.context = call->services;
    reply.token = call->told_token;
    if (call->job && !reply.told) {
        reply.told = command_job_told;
        reply.token = command_job_id(call->job);
    }
    reply.is_delimited = succeeded && (call->command->flags & CMD_DELIMITED);
    if (succeeded && (call->command->flags & CMD_NO_SUCCESS_REPLY))
        buffer_deinit(&reply.line);
    request_answer_take(take_ptr(&call->request), &reply);
}

static unsigned long long deadline_s(const struct call *call)
{
    return (unsigned long long)((call->task.deadline_ms + 999) / 1000);
}

/* Answers with an error of the engine's, while a worker may still have the call. */
static void call_answer_overdue(struct call *call)
{
    const char *step = call_last_step(call);
    char stuck[64];
    task_describe_stuck(&call->task, stuck, sizeof(stuck));
    log_error("%s hangs%s%s%s%s", call->command->name, step ? " " : "", step ? step : "",
              stuck[0] ? ", in the kernel's " : "", stuck);

    if (call->overdue)
        call->overdue(call->overdue_context);
    struct wire_error error = {0};
    wire_error_set(&error, WIRE_GENERIC_ERROR,
                   "%s did not finish within %llu s%s%s%s; it may still be running, and its effect "
                   "is unknown",
                   call->command->name, deadline_s(call), step ? " (" : "", step ? step : "",
                   step ? ")" : "");
    /* What the call says when it comes back goes to nobody, and so will never be written. Told
     * before it is answered: that may bring it back, and then it is gone. */
    call_tell_dropped(call);
    if (call->job)
        command_job_overdue(call, &error);
    if (!call->request)
        return;
    struct reply reply = {.line = call_compose_error(call, &error)};
    request_answer_take(take_ptr(&call->request), &reply);
}

static void on_ended(struct task *task, enum task_outcome outcome)
{
    struct call *call = call_of_task(task);
    const char *name = call->command->name;
    struct wire_error *error = &call->error;
    switch (outcome) {
    case TASK_OVERDUE:
        call_audit_result(call, "unknown", NULL);
        call_answer_overdue(call);
        return;
    case TASK_DONE:
        if (error->is_set && task_is_interrupted(task)) {
            const char *step = call_last_step(call);
            *error = (struct wire_error){0};
            wire_error_set(error, WIRE_GENERIC_ERROR,
                           "%s did not finish within %llu s%s%s%s and was interrupted", name,
                           deadline_s(call), step ? " (" : "", step ? step : "", step ? ")" : "");
        }
        break;
    case TASK_CANCELLED:
        if (call->job)
            command_job_withdrawn(call->job);
        wire_error_set(error, WIRE_GENERIC_ERROR, "%s was cancelled before it began", name);
        break;
    case TASK_NOT_BEGUN:
        wire_error_set(error, WIRE_GENERIC_ERROR,
                       "%s could not begin within %llu s: no worker was free; nothing was done",
                       name, deadline_s(call));
        break;
    case TASK_REFUSED:
        wire_error_set(error, WIRE_GENERIC_ERROR,
                       "%s was refused: an earlier %s on the same %s has not come back", name,
                       task_lane_blocker(task), call->command->lane);
        break;
    }
    call_audit_result(call, error->is_set ? "failed" : "done", error);
    call_answer(call);
}

/* --- through the hooks --- */

static void log_call(const struct call *call)
{
    bool changes = call->command->flags & CMD_CHANGES_GUEST;
    if (!log_is_enabled(changes ? LOG_INFO : LOG_DEBUG))
        return;
    _cleanup_buffer_ struct buffer args = BUFFER_INIT;
    buffer_append_char(&args, ' ');
    args_describe(call->command->args, call->args, &args);
    log_write(changes ? LOG_INFO : LOG_DEBUG, "%s: %s%s", call->endpoint->name, call->command->name,
              args.length > 1 ? args.data : "");
}

static enum task_next call_finish(struct call *call)
{
    enum call_next next = CALL_ANSWER;
    if (call->command->finish && !call->error.is_set)
        next = call->command->finish(call);
    if (next == CALL_RUN_AGAIN)
        return TASK_TO_WORKER;
    return next == CALL_PENDING ? TASK_PENDING : TASK_FINISHED;
}

static bool is_frozen(const struct dispatcher *dispatcher)
{
    return dispatcher->options.is_frozen &&
           dispatcher->options.is_frozen(dispatcher->options.context);
}

/* Sets the error of a call that may not begin now, also in place of another one. */
static void check_begin(struct call *call)
{
    const struct command *command = call->command;
    if (!command || command->flags & CMD_ALLOWED_WHEN_FROZEN || !is_frozen(call->dispatcher))
        return;
    call->error = (struct wire_error){0};
    wire_error_set(&call->error, WIRE_COMMAND_NOT_FOUND,
                   "Command %s has been disabled: the agent is in frozen state", command->name);
}

/* The only place where anything is done with a command's privileges. */
static enum call_next call_run(struct call *call)
{
    privileges_enter(call->command->needs);
    enum call_next next = call->command->run(call);
    privileges_leave();
    return next;
}

/* Its lane may have kept it waiting since its turn, so what may begin is asked here. */
static enum task_next on_start(struct task *task)
{
    struct call *call = call_of_task(task);
    const struct command *command = call->command;
    check_begin(call);
    if (call->error.is_set)
        return TASK_FINISHED;
    if (call->request)
        request_promise(call->request);
    if (call->job)
        command_job_begin(call);
    log_call(call);
    if ((command->flags & (CMD_CHANGES_GUEST | CMD_DECIDES)) == CMD_CHANGES_GUEST)
        call_decided(call, true, NULL);
    enum call_next next = CALL_CONTINUE;
    if (command->prepare)
        next = command->prepare(call);
    if (next == CALL_CONTINUE && !(command->flags & CMD_ON_LOOP))
        return TASK_TO_WORKER;
    if (next == CALL_CONTINUE)
        next = call_run(call);
    if (next == CALL_CONTINUE)
        return call_finish(call);
    return next == CALL_PENDING ? TASK_PENDING : TASK_FINISHED;
}

static void on_work(struct task *task)
{
    struct call *call = call_of_task(task);
    call->next = call_run(call);
}

static enum task_next on_worked(struct task *task)
{
    struct call *call = call_of_task(task);
    return call->next == CALL_CONTINUE ? call_finish(call) : TASK_FINISHED;
}

static void free_call(void *call)
{
    call_free(call);
}

/* Wiping and unmapping many megabytes takes longer than others may be kept waiting. */
static void call_discard(struct call *call)
{
    if (call->job)
        command_job_leave(call);
    if (call->text_length > DECODE_ON_LOOP_BYTES)
        services_run_detached(call->services, free_call, call);
    else
        call_free(call);
}

static void on_released(struct task *task)
{
    struct call *call = call_of_task(task);
    if (call->command->release)
        call->command->release(call);
    call_discard(call);
}

static const struct task_ops call_task_ops = {
    .start = on_start,
    .work = on_work,
    .worked = on_worked,
    .ended = on_ended,
    .released = on_released,
};

/* --- as the sessions' handler --- */

static void call_tell_understood(struct call *call)
{
    unsigned flags = call->command && !call->error.is_set ? call->command->flags : 0;
    struct request_traits traits = {
        .is_fence = flags & CMD_FENCE,
        .is_reserved = flags & CMD_RESERVED,
        .is_urgent = flags & CMD_URGENT,
        .has_id = call->id.length > 0,
    };
    if (call->command && !call->error.is_set && call->command->reply_bytes)
        traits.reply_bytes = call->command->reply_bytes(call->args);
    request_understood(call->request, &traits);
}

static void decode_on_worker(struct pool_work *work)
{
    struct call *call = list_entry(work, struct call, decoding);
    call_decode(call, &call->dispatcher->limits);
}

static void decoded(struct pool_work *work)
{
    call_tell_understood(list_entry(work, struct call, decoding));
}

/* Makes the request's call, if it has none yet. */
static struct call *request_call(struct dispatcher *dispatcher, struct request *request)
{
    struct call *call = request_data(request);
    if (!call) {
        call =
            call_new(dispatcher, dispatcher->options.services, request_endpoint(request), request);
        if (call) {
            call->profile = request_endpoint(request)->profile;
            call->channel = request_endpoint(request)->name;
            snprintf(call->peer, sizeof(call->peer), "%s", request_peer(request));
        }
        request_set_data(request, call);
    }
    return call;
}

static void on_arrived(void *context, struct request *request, char *text, size_t length)
{
    struct dispatcher *dispatcher = context;
    struct call *call = request_call(dispatcher, request);
    if (!call) {
        free(text);
        request_understood(request, &(struct request_traits){0});
        return;
    }
    call->text = text;
    call->text_length = length;
    if (length <= DECODE_ON_LOOP_BYTES) {
        call_decode(call, &dispatcher->limits);
        call_tell_understood(call);
        return;
    }
    call->decoding.work = decode_on_worker;
    call->decoding.worked = decoded;
    /* Not the channel's: what it has that hangs must not keep it from understanding more. */
    call->decoding.origin = dispatcher->options.own_origin;
    pool_submit(dispatcher->options.pool, &call->decoding);
}

static void on_faulted(void *context, struct request *request, enum request_fault fault,
                       const char *reason)
{
    struct call *call = request_call(context, request);
    if (!call)
        return;
    /* A refusal is more to the point than what else may be wrong with the request. It may wait
     * long for its turn, and it needs no memory for that. */
    if (fault == FAULT_REFUSED) {
        call->error = (struct wire_error){0};
        call_drop_arguments(call);
    }
    wire_error_set(&call->error, WIRE_GENERIC_ERROR, "%s", reason);
}

bool dispatcher_submit(struct dispatcher *dispatcher, struct call *call)
{
    assert_on_loop();
    char buffer[CALL_LANE_MAX];
    const char *lane = call_lane(call, buffer);
    /* A request is carried out all the same if it cannot be watched. */
    if (call->command->flags & CMD_JOB && call->request && command_job_enter(call, lane, false) < 0)
        log_warning("no memory: %s is not listed as a job", call->command->name);
    call->task.ops = &call_task_ops;
    call->task.name = call->command->name;
    call->task.deadline_ms = dispatcher->deadline_ms[call->command_index];
    call->task.origin = call->endpoint->number;
    call->task.rescue = call->command->flags & CMD_RESCUE;
    call->task.is_urgent = call->command->flags & CMD_URGENT;
    if (task_submit(dispatcher->options.scheduler, &call->task, lane) == 0)
        call->is_submitted = true;
    else
        wire_error_set(&call->error, WIRE_GENERIC_ERROR, "Out of memory for %s",
                       call->command->name);
    return call->is_submitted;
}

static void on_admitted(void *context, struct request *request)
{
    struct call *call = request_data(request);
    if (!call || call->error.is_set)
        return;
    /* What came later and could not wait has had its effect: this one's time is over. */
    if (request_is_overtaken(request) && call->command->flags & CMD_EXPIRES) {
        wire_error_set(&call->error, WIRE_GENERIC_ERROR, "%s was cancelled before it began",
                       call->command->name);
        return;
    }
    bool is_submitted = dispatcher_submit(context, call);
    (void)is_submitted; /* else its error is the answer */
}

static void on_turn(void *context, struct request *request)
{
    struct call *call = request_data(request);
    if (call)
        call->has_turn = true;
    if (!call) {
        request_answer_take(request, &(struct reply){.line = {.failed = true}});
    } else if (!call->is_submitted) {
        check_begin(call);
        call_answer(call);
        call_discard(call);
    } else if (call_is_cancelled(call) ||
               (call->is_given_up && (call->command->flags & CMD_EXPIRES))) {
        task_cancel(&call->task);
    } else {
        task_permit(&call->task);
    }
}

static void on_given_up(void *context, struct request *request)
{
    struct call *call = request_data(request);
    if (!call)
        return;
    call->is_given_up = true;
    if (call->is_submitted && (call->command->flags & CMD_EXPIRES))
        task_cancel(&call->task);
}

const struct request_handler *dispatcher_request_handler(void)
{
    static const struct request_handler handler = {
        .arrived = on_arrived,
        .faulted = on_faulted,
        .admitted = on_admitted,
        .turn = on_turn,
        .given_up = on_given_up,
    };
    return &handler;
}

/* --- services --- */

void dispatcher_decode(struct dispatcher *dispatcher, struct call *call)
{
    call_decode(call, &dispatcher->limits);
}

void dispatcher_discard(struct dispatcher *dispatcher, struct call *call)
{
    call_discard(call);
}

bool dispatcher_is_enabled(const struct dispatcher *dispatcher, unsigned profile,
                           size_t command_index)
{
    return profile < PROFILE_COUNT && dispatcher->enabled_for[command_index] & PROFILE_BIT(profile);
}

/* `full` has whatever the lists allow. */
bool dispatcher_is_listed(const struct dispatcher *dispatcher, size_t command_index)
{
    return dispatcher_is_enabled(dispatcher, PROFILE_FULL, command_index);
}

void services_for_each_command(struct services *services, unsigned profile,
                               void (*each)(const struct command *command, bool is_enabled,
                                            void *context),
                               void *context)
{
    for (size_t i = 0; i < command_count(); i++)
        each(command_at(i), dispatcher_is_enabled(services->dispatcher, profile, i), context);
}

/* A task, so that it is given up like any other when it hangs. */
struct detached {
    struct task task;
    struct dispatcher *dispatcher;
    void (*function)(void *argument);
    void *argument;
    bool has_run;
};

enum { DETACHED_DEADLINE_MS = 60 * 1000 };

static void detached_submit(struct detached *detached);

static struct detached *detached_of_task(struct task *task)
{
    return list_entry(task, struct detached, task);
}

static enum task_next detached_start(struct task *task)
{
    return TASK_TO_WORKER;
}

static void detached_work(struct task *task)
{
    struct detached *detached = detached_of_task(task);
    detached->has_run = true;
    detached->function(detached->argument);
}

static enum task_next detached_worked(struct task *task)
{
    return TASK_FINISHED;
}

static void detached_ended(struct task *task, enum task_outcome outcome)
{
}

/* One that no worker began in time is not to be forgotten. */
static void detached_released(struct task *task)
{
    struct detached *detached = detached_of_task(task);
    if (detached->has_run)
        free(detached);
    else
        detached_submit(detached);
}

static const struct task_ops detached_ops = {
    .start = detached_start,
    .work = detached_work,
    .worked = detached_worked,
    .ended = detached_ended,
    .released = detached_released,
};

static void detached_submit(struct detached *detached)
{
    const struct dispatcher_options *options = &detached->dispatcher->options;
    detached->task = (struct task){
        .ops = &detached_ops,
        .name = "what is left of an earlier call",
        .deadline_ms = DETACHED_DEADLINE_MS,
        .origin = options->own_origin,
    };
    int error = task_submit(options->scheduler, &detached->task, NULL);
    (void)error; /* without a lane there is nothing to allocate */
    task_permit(&detached->task);
}

void services_run_detached(struct services *services, void (*function)(void *argument),
                           void *argument)
{
    assert_on_loop();
    struct detached *detached = calloc(1, sizeof(*detached));
    if (!detached) {
        function(argument);
        return;
    }
    detached->dispatcher = services->dispatcher;
    detached->function = function;
    detached->argument = argument;
    detached_submit(detached);
}

/* --- its life --- */

int dispatcher_new(const struct dispatcher_options *options, struct dispatcher **ret_dispatcher)
{
    assert_on_loop();
    const struct settings *settings = options->services->settings;
    struct dispatcher *dispatcher = calloc(1, sizeof(*dispatcher));
    if (!dispatcher)
        return -ENOMEM;
    dispatcher->options = *options;
    dispatcher->limits = (struct json_limits){
        .depth_max = settings->message_depth,
        .values_max = settings->message_values,
    };
    dispatcher->enabled_for = calloc(command_count(), sizeof(*dispatcher->enabled_for));
    dispatcher->deadline_ms = calloc(command_count(), sizeof(*dispatcher->deadline_ms));
    if (!dispatcher->enabled_for || !dispatcher->deadline_ms) {
        dispatcher_free(dispatcher);
        return -ENOMEM;
    }
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        bool is_possible = !(command->flags & CMD_UNSUPPORTED) &&
                           !(command->flags & CMD_OWN_SYSTEM && sysroot_prefix()[0]);
        for (unsigned profile = 0; profile < PROFILE_COUNT; profile++)
            if (is_possible && gate_allows_profile(options->gate, profile, command->name))
                dispatcher->enabled_for[i] |= PROFILE_BIT(profile);
        uint64_t fallback_s = command->flags & CMD_NO_DEADLINE ? 0 : settings->deadline_default_s;
        dispatcher->deadline_ms[i] = settings_deadline_ms(settings, command->name, fallback_s);
    }
    *ret_dispatcher = dispatcher;
    return 0;
}

struct dispatcher *dispatcher_free(struct dispatcher *dispatcher)
{
    if (!dispatcher)
        return NULL;
    free(dispatcher->enabled_for);
    free(dispatcher->deadline_ms);
    free(dispatcher);
    return NULL;
}
