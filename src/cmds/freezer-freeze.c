/* SPDX-License-Identifier: MIT */
#include "cmds/freezer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cmds/freezer-internal.h"
#include "jobs/broker-client.h"
#include "jobs/thaw-guard.h"

/* What a request and its answer need is touched, so that it is there when the memory is locked. */
enum { RESERVE_BLOCKS = 32, RESERVE_BLOCK_BYTES = 2048 };

/* --- freeze: the loop's part --- */

static void touch_reserve(void)
{
    void *blocks[RESERVE_BLOCKS];
    for (size_t i = 0; i < RESERVE_BLOCKS; i++) {
        blocks[i] = malloc(RESERVE_BLOCK_BYTES);
        if (blocks[i])
            explicit_bzero(blocks[i], RESERVE_BLOCK_BYTES);
    }
    for (size_t i = 0; i < RESERVE_BLOCKS; i++)
        free(blocks[i]);
}

/* Until a thaw, or the guard, succeeds with what is frozen. */
static void stay_frozen(struct freeze_call *freeze)
{
    struct freezer *freezer = freeze->freezer;
    freeze_state_set(freezer_state(freezer), FREEZE_FROZEN);
    if (freezer_watch(freezer, freeze->result.deadline_ms))
        log_error("no memory to watch the freeze; the guard does");
}

/* Answers with what is in the result. The set may be somebody else's to clear: a thaw stopped it.
 */
static enum call_next fail_freeze(struct freeze_call *freeze)
{
    struct freezer *freezer = freeze->freezer;
    freeze->stage = STAGE_SETTLED;
    call_fail(freeze->call, "%s", freeze->result.reason);
    bool is_ours = freezer->set == freeze->set && !freeze_set_is_stopped(freeze->set);
    freeze_set_abandon(freeze->set);
    if (is_ours && freeze->result.is_stuck) {
        stay_frozen(freeze);
    } else if (is_ours) {
        freezer_become_thawed(freezer);
        if (!freeze->waits_for_hook && freezer_start_late_hook(freezer, freeze))
            return CALL_PENDING;
    }
    freezer_freeze_is_over(freeze->freezer);
    return CALL_ANSWER;
}

static enum call_next fail_freeze_for(struct freeze_call *freeze, const char *reason)
{
    snprintf(freeze->result.reason, FREEZE_REASON_MAX, "%s", reason);
    freeze->result.error = -ECANCELED;
    return fail_freeze(freeze);
}

/* Why it is not to go on, or NULL. */
static const char *why_over(const struct freeze_call *freeze)
{
    if (freeze_set_is_stopped(freeze->set))
        return "the freeze was stopped by a thaw";
    if (call_is_cancelled(freeze->call))
        return "the freeze was cancelled";
    if (call_is_interrupted(freeze->call))
        return "the freeze was stopped: its time was over";
    return NULL;
}

static void on_freeze_hook_ended(void *context, const char *failure)
{
    struct freezer *freezer = context;
    freezer->hook = NULL;
    struct freeze_call *freeze = freezer->freezing;
    struct call *call = freeze->call;
    bool is_stopped = freeze_set_is_stopped(freeze->set);
    if (is_stopped || call_is_cancelled(call) || !failure)
        failure = why_over(freeze);
    if (!failure) {
        call_go_on(call);
        return;
    }
    if (fail_freeze_for(freeze, failure) != CALL_PENDING)
        call_complete(call);
    /* Not a thaw has stopped it then, but the agent's end. */
    if (is_stopped && !freezer->thawing && !freezer->hook &&
        !freezer_start_late_hook(freezer, NULL))
        freezer_tell_end(freezer);
}

static enum call_next begin_with_hook(struct freeze_call *freeze)
{
    const char *failure;
    if (freezer_start_hook(freeze->freezer, "freeze", on_freeze_hook_ended, &failure))
        return CALL_PENDING;
    return failure ? fail_freeze_for(freeze, failure) : CALL_CONTINUE;
}

void freezer_go_on_freezing(struct freeze_call *freeze)
{
    struct call *call = freeze->call;
    const char *reason = why_over(freeze);
    enum call_next next;
    if (reason) {
        next = fail_freeze_for(freeze, reason);
    } else {
        freeze->waits_for_hook = false;
        next = begin_with_hook(freeze);
    }
    if (next == CALL_CONTINUE)
        call_go_on(call);
    else if (next != CALL_PENDING)
        call_complete(call);
}

enum call_next freezer_prepare_freeze(struct call *call)
{
    struct freezer *freezer = call_services(call)->freezer;
    const struct freeze_args *args = call_args(call);
    struct freeze_call *freeze = calloc(1, sizeof(*freeze));
    if (!freeze)
        return call_fail(call, "Out of memory for a freeze");
    call_set_state(call, freeze);
    freeze->call = call;
    freeze->freezer = freezer;
    freeze->points = calloc(args->mountpoints.count + 1, sizeof(char *));
    freeze->set = freeze->points ? freeze_set_new(freezer->directory) : NULL;
    if (!freeze->set)
        return call_fail(call, "Out of memory for a freeze");
    for (size_t i = 0; i < args->mountpoints.count; i++)
        freeze->points[i] = ((const struct arg_text *)args->mountpoints.items)[i].data;

    freezer->set = freeze_set_ref(freeze->set);
    freezer->freezing = freeze;
    freezer->has_succeeded = false;
    freeze_state_set(freezer_state(freezer), FREEZE_FREEZING);
    touch_reserve();
    /* The "thaw" of an earlier freeze: what it says now is not to be heard after this one's. */
    freeze->waits_for_hook = freezer->hook != NULL;
    return freeze->waits_for_hook ? CALL_PENDING : begin_with_hook(freeze);
}

/* --- the guard --- */

static void on_guard_ended(struct exec_job *job, int error, enum broker_stage stage, void *context)
{
    if (error)
        log_error("the thaw guard could not be started: %s", strerror(error));
}

/* It has the agent's environment, as everything that the agent starts for its own use. */
static int start_guard(struct freezer *freezer, char ret_reason[JOB_REASON_MAX])
{
    _cleanup_free_ char *folder = NULL;
    if (asprintf(&folder, "%s/bellhop", freezer->options.state_directory) < 0) {
        folder = NULL;
        snprintf(ret_reason, JOB_REASON_MAX, "out of memory");
        return -ENOMEM;
    }
    const char *const arguments[] = {"bellhopd", THAW_GUARD_ARGUMENT, folder};
    const struct spawn_request request = {
        .program = "/proc/self/exe",
        .arguments = arguments,
        .argument_count = ARRAY_SIZE(arguments),
        .capture = BROKER_CAPTURE_NONE,
    };
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    int error = spawn_payload_build(&request, &payload);
    if (error) {
        snprintf(ret_reason, JOB_REASON_MAX, "%s", strerror(-error));
        return error;
    }
    return broker_client_run_take(freezer->options.services->broker, &payload, on_guard_ended,
                                  freezer, ret_reason);
}

/* --- freeze: the worker's part --- */

static bool is_interrupted(void *context)
{
    const struct freeze_call *freeze = context;
    return call_is_interrupted(freeze->call) || call_is_cancelled(freeze->call);
}

static bool is_cancelled(void *context)
{
    const struct freeze_call *freeze = context;
    return freeze_set_is_stopped(freeze->set) || is_interrupted(context);
}

static void say_step(void *context, const char *what, const char *point)
{
    const struct freeze_call *freeze = context;
    call_step(freeze->call, "%s %s", what, point);
}

enum call_next freezer_run_freeze(struct call *call)
{
    struct freeze_call *freeze = call_state(call);
    const struct freezer *freezer = freeze->freezer;
    const struct settings *settings = freezer_settings(freezer);
    const struct freeze_args *args = call_args(call);
    if (freeze->stage == STAGE_LISTEN) {
        if (settings->freeze_timeout_s > 0)
            freeze->listen_error = freeze_set_expect_guard(freeze->set);
        return CALL_CONTINUE;
    }
    /* If this is cancelled, so is what follows. */
    call_step(call, "waiting for a trim to pause");
    (void)freeze_state_wait_for_slices(freezer_state(freezer), is_cancelled, freeze);
    const struct freeze_request request = {
        .choice = {.all = !args->has_mountpoints,
                   .points = freeze->points,
                   .point_count = args->mountpoints.count,
                   .exclude = &settings->freeze_exclude},
        .timeout_ms = settings->freeze_timeout_s * 1000,
        .is_interrupted = is_interrupted,
        .step = say_step,
        .context = freeze,
    };
    freeze_set_freeze(freeze->set, &request, &freeze->result);
    return CALL_CONTINUE;
}

/* --- freeze: the loop again --- */

static enum call_next go_on_with_guard(struct freeze_call *freeze)
{
    char reason[JOB_REASON_MAX] = "", text[FREEZE_REASON_MAX];
    int error = freeze->listen_error;
    if (error)
        snprintf(reason, sizeof(reason), "the state directory: %s", strerror(-error));
    if (!error && freezer_settings(freeze->freezer)->freeze_timeout_s > 0)
        error = start_guard(freeze->freezer, reason);
    if (!error) {
        freeze->stage = STAGE_FREEZE;
        return CALL_RUN_AGAIN;
    }
    snprintf(text, sizeof(text), "nothing was frozen: the thaw guard could not be started: %s",
             reason);
    return fail_freeze_for(freeze, text);
}

/* What the worker brought back, whether or not somebody still waits for the answer. */
static enum call_next settle_freeze(struct freeze_call *freeze)
{
    struct freezer *freezer = freeze->freezer;
    freeze->stage = STAGE_SETTLED;
    if (freezer->set != freeze->set || freeze_set_is_stopped(freeze->set)) {
        if (!freeze->result.error)
            snprintf(freeze->result.reason, FREEZE_REASON_MAX, "the freeze was stopped by a thaw");
        return fail_freeze(freeze);
    }
    if (freeze->result.error)
        return fail_freeze(freeze);
    if (freeze->result.is_cleared) {
        freezer_become_thawed(freezer);
    } else {
        freezer->breach = FREEZE_RECORD_NONE; /* from now on a thaw is this one's */
        freezer->has_succeeded = true;
        stay_frozen(freeze);
    }
    log_info("%zu file systems are frozen", freeze->result.count);
    freezer_freeze_is_over(freeze->freezer);
    return CALL_CONTINUE;
}

enum call_next freezer_finish_freeze(struct call *call)
{
    struct freeze_call *freeze = call_state(call);
    if (freeze->stage == STAGE_LISTEN)
        return go_on_with_guard(freeze);
    enum call_next next = settle_freeze(freeze);
    if (next == CALL_CONTINUE)
        json_uint(call_reply(call), freeze->result.count);
    return next;
}

/* Its hook, or else its worker, is at its end soon; what was frozen is thawed then. */
void freezer_cancel_freeze(struct call *call)
{
    struct freeze_call *freeze = call_state(call);
    if (!freeze)
        return;
    if (freeze->freezer->freezing == freeze && freeze->stage == STAGE_LISTEN &&
        freeze->freezer->hook && !freeze->waits_for_hook)
        hook_run_kill(freeze->freezer->hook);
    freeze_state_wake(freezer_state(freeze->freezer));
}

/* One whose deadline passed comes here without its `finish`. */
void freezer_release_freeze(struct call *call)
{
    struct freeze_call *freeze = call_state(call);
    if (!freeze)
        return;
    if (freeze->freezer->freezing == freeze) {
        if (freeze->stage == STAGE_LISTEN)
            freeze->result.error = -ETIMEDOUT;
        if (freeze->stage != STAGE_SETTLED && settle_freeze(freeze) == CALL_PENDING) {
            freeze->freezer->failing = NULL; /* the hook goes on without it */
            freezer_freeze_is_over(freeze->freezer);
        }
    }
    freeze_set_unref(freeze->set);
    free(freeze->points);
    free(freeze);
}
