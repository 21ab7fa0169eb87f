/* SPDX-License-Identifier: MIT */

/*
 * guest-exec, guest-exec-status: programs. The broker runs them and keeps their output; here a
 * request becomes a payload for it (on a worker if it is large), and a job a reply. A status is a
 * look in the job table, answered on the loop unless it has much output to encode.
 */

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/base64.h"
#include "base/utf8.h"
#include "cmds/command.h"
#include "cmds/services.h"
#include "cmds/wire-error.h"
#include "io/json.h"
#include "jobs/broker-client.h"
#include "jobs/broker-payload.h"
#include "jobs/exec-job.h"
#include "jobs/job-table.h"

/* More output than this is encoded by a worker. */
#define ENCODED_ON_LOOP_BYTES (256u * 1024)

/* A larger request is packed by a worker. */
#define PACKED_ON_LOOP_BYTES (64u * 1024)

/* Of a program's path, in an error that must have room for its cause too. */
#define SHOWN_PATH_BYTES 600

/* --- guest-exec --- */

/* The name of a user, or a number in its place. */
struct user_name {
    const char *text; /* NULL: not given */
    char digits[16];
};

struct exec_args {
    struct arg_text path;
    struct arg_list arguments;
    struct arg_list environment;
    struct arg_text input_data;
    enum broker_capture capture;
    int64_t timeout_s; /* 0: not given */
    struct arg_text directory;
    struct user_name user;
    bool stays_open;
};

/* A bool of old, or one of the names that came later. Both stand for "no" when not given. */
static bool decode_capture(const struct json_value *value, void *ret_member,
                           struct wire_error *error, const char *path)
{
    static const char *const names[BROKER_CAPTURE_COUNT] = {
        [BROKER_CAPTURE_NONE] = "none",     [BROKER_CAPTURE_STDOUT] = "stdout",
        [BROKER_CAPTURE_STDERR] = "stderr", [BROKER_CAPTURE_SEPARATED] = "separated",
        [BROKER_CAPTURE_MERGED] = "merged",
    };
    enum broker_capture *capture = ret_member;
    if (value->type == JSON_BOOL) {
        *capture = value->boolean ? BROKER_CAPTURE_SEPARATED : BROKER_CAPTURE_NONE;
        return true;
    }
    if (value->type != JSON_STRING)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        if (strlen(names[i]) == value->length && strcmp(names[i], value->text) == 0) {
            *capture = (enum broker_capture)i;
            return true;
        }
    }
    wire_error_set(error, WIRE_GENERIC_ERROR, "Parameter '%s' does not accept value '%s'", path,
                   value->text);
    return false;
}

static bool decode_timeout(const struct json_value *value, void *ret_member,
                           struct wire_error *error, const char *path)
{
    int64_t *seconds = ret_member;
    if (value->type != JSON_NUMBER || !json_get_int64(value, seconds))
        return false;
    if (*seconds >= 1 && *seconds <= (int64_t)(SPAWN_TIMEOUT_MAX_MS / 1000))
        return true;
    wire_error_set(error, WIRE_GENERIC_ERROR, "Parameter '%s' expects 1 to %lld seconds", path,
                   (long long)(SPAWN_TIMEOUT_MAX_MS / 1000));
    return false;
}

static bool decode_user(const struct json_value *value, void *ret_member, struct wire_error *error,
                        const char *path)
{
    struct user_name *user = ret_member;
    int64_t number;
    if (value->type == JSON_NUMBER && json_get_int64(value, &number) && number >= 0 &&
        number < UINT32_MAX) {
        snprintf(user->digits, sizeof(user->digits), "%lld", (long long)number);
        user->text = user->digits;
        return true;
    }
    if (value->type == JSON_STRING && value->length > 0 && strlen(value->text) == value->length) {
        user->text = value->text;
        return true;
    }
    if (value->type == JSON_STRING || value->type == JSON_NUMBER)
        wire_error_set(error, WIRE_GENERIC_ERROR,
                       "Parameter '%s' expects the name of a user or a uid", path);
    return false;
}

static const struct arg_spec text_element = {.name = "", .type = ARG_STRING};

/* What a program is given besides its arguments may be secret. */
static const struct arg_spec exec_specs[] = {
    {ARG(ARG_STRING, struct exec_args, path, "path")},
    {ARG(ARG_LIST, struct exec_args, arguments, "arg"), .flags = ARG_OPTIONAL,
     .element = &text_element, .element_size = sizeof(struct arg_text)},
    {ARG(ARG_LIST, struct exec_args, environment, "env"), .flags = ARG_OPTIONAL | ARG_SECRET,
     .element = &text_element, .element_size = sizeof(struct arg_text)},
    {ARG(ARG_STRING, struct exec_args, input_data, "input-data"),
     .flags = ARG_OPTIONAL | ARG_SECRET},
    {ARG(ARG_CUSTOM, struct exec_args, capture, "capture-output"), .flags = ARG_OPTIONAL,
     .decode = decode_capture, .expected = "GuestExecCaptureOutput"},
    {ARG(ARG_CUSTOM, struct exec_args, timeout_s, "timeout"), .flags = ARG_OPTIONAL,
     .decode = decode_timeout, .expected = "integer"},
    {ARG(ARG_STRING, struct exec_args, directory, "cwd"), .flags = ARG_OPTIONAL},
    {ARG(ARG_CUSTOM, struct exec_args, user, "user"), .flags = ARG_OPTIONAL, .decode = decode_user,
     .expected = "string or integer"},
    {ARG(ARG_BOOL, struct exec_args, stays_open, "stdin-open"), .flags = ARG_OPTIONAL},
    ARG_END,
};

/* What goes with the call from the worker to the loop. */
struct exec_state {
    struct spawn_payload payload;
};

/* "Failed to ... “NAME” (CAUSE)", as GLib has it. */
static enum call_next fail_named(struct call *call, const char *what, const char *name,
                                 const char *cause)
{
    size_t length = strlen(name);
    size_t shown = length;
    if (length > SHOWN_PATH_BYTES)
        shown = utf8_valid_prefix(name, SHOWN_PATH_BYTES);
    return call_fail(call, "Failed to %s \u201c%.*s%s\u201d (%s)", what, (int)shown, name,
                     shown < length ? "\u2026" : "", cause);
}

/* For the audit: by the rule that the reason names, else by the profile. */
static void decide_refused(struct call *call, const char *reason)
{
    char rule[JOB_REASON_MAX];
    const char *begin = reason ? strstr(reason, "[program ") : NULL;
    const char *end = begin ? strchr(begin, ']') : NULL;
    if (end)
        snprintf(rule, sizeof(rule), "%.*s", (int)(end + 1 - begin), begin);
    call_decided(call, false, end ? rule : NULL);
}

/* The job is NULL where it did not come to one. */
static enum call_next fail_start(struct call *call, const struct exec_job *exec, int error,
                                 enum broker_stage stage)
{
    const struct exec_args *args = call_args(call);
    char system[128];
    const char *cause = strerror_r(error, system, sizeof(system));
    switch (stage) {
    case BROKER_STAGE_FORK:
        return call_fail(call, "Failed to fork (%s)", cause);
    case BROKER_STAGE_ACCEPT:
        if (error == EPIPE)
            return call_fail(call, "guest-exec failed: the broker, which runs programs, is gone; "
                                   "whether the program was started is not known");
        return call_fail(call, "guest-exec failed: the broker did not take the program (%s)",
                         cause);
    case BROKER_STAGE_POLICY:
        decide_refused(call, exec ? exec->refusal : NULL);
        return call_fail(call, "guest-exec refused: the policy does not allow it: %s",
                         exec && exec->refusal ? exec->refusal : cause);
    case BROKER_STAGE_USER:
        return fail_named(call, "become user", args->user.text,
                          error == ENOENT ? "there is none of that name or number" : cause);
    case BROKER_STAGE_DIRECTORY:
        return fail_named(call, "change to directory", args->directory.data, cause);
    default:
        return fail_named(call, "execute child process", args->path.data, cause);
    }
}

/* The strings of a list, after `first` unless that is NULL. NULL: no memory. */
static const char **collect(const char *first, const struct arg_list *list)
{
    const struct arg_text *items = list->items;
    const char **strings = calloc(list->count + 1, sizeof(*strings));
    size_t count = 0;
    if (strings && first)
        strings[count++] = first;
    for (size_t i = 0; strings && i < list->count; i++)
        strings[count++] = items[i].data;
    return strings;
}

static enum call_next exec_run(struct call *call)
{
    struct exec_args *args = call_args(call);
    size_t input_bytes = 0;
    if (args->directory.data && args->directory.length == 0)
        return call_fail(call, "Parameter 'cwd' expects the path of a directory");
    if (args->input_data.data &&
        base64_decode_in_place(args->input_data.data, args->input_data.length, &input_bytes) < 0)
        return call_fail(call, "Base64 data contains invalid characters");

    _cleanup_free_ const char **arguments = collect(args->path.data, &args->arguments);
    _cleanup_free_ const char **environment = collect(NULL, &args->environment);
    _cleanup_free_ struct exec_state *state = calloc(1, sizeof(*state));
    if (!arguments || !environment || !state)
        return call_fail(call, "Out of memory");
    struct spawn_request request = {
        .program = args->path.data,
        .arguments = arguments,
        .argument_count = args->arguments.count + 1,
        .environment = environment,
        .environment_count = args->environment.count,
        .has_environment = args->environment.given,
        .input = args->input_data.data,
        .input_bytes = input_bytes,
        .has_input = args->input_data.data != NULL,
        .capture = args->capture,
        .timeout_ms = (uint64_t)args->timeout_s * 1000,
        .directory = args->directory.data,
        .user = args->user.text,
        .stays_open = args->stays_open,
    };
    state->payload.fd = -1;
    int error = spawn_payload_build(&request, &state->payload);
    if (error == -E2BIG)
        return fail_start(call, NULL, E2BIG, BROKER_STAGE_EXEC);
    if (error)
        return call_fail_errno(call, -error, "guest-exec failed");
    call_set_state(call, take_ptr(&state));
    return CALL_CONTINUE;
}

static void exec_started_or_not(struct exec_job *exec, int error, enum broker_stage stage,
                                void *context)
{
    struct call *call = context;
    if (error) {
        fail_start(call, exec, error, stage);
    } else {
        struct json_writer *reply = call_reply(call);
        json_begin_object(reply);
        json_member_int(reply, "pid", exec->job.pid);
        json_end_object(reply);
    }
    call_complete(call);
}

/* Without the reply nobody knows the pid, so nobody will ask for the result. */
static void exec_told(void *context, enum delivery what, uint64_t job_id)
{
    struct services *services = context;
    struct job *job = job_table_find(services->jobs, job_id);
    if (job && what == DELIVERY_DROPPED)
        job_table_abandon(services->jobs, job);
}

static enum call_next exec_finish(struct call *call)
{
    struct exec_state *state = call_state(call);
    const struct exec_args *args = call_args(call);
    struct exec_job *exec;
    char reason[JOB_REASON_MAX];

    state->payload.profile = call_profile(call);
    call_step(call, "starting '%s'", args->path.data);
    if (broker_client_spawn_take(call_services(call)->broker, &state->payload, exec_started_or_not,
                                 call, &exec, reason) < 0)
        return call_fail(call, "guest-exec refused: %s", reason);
    call_on_delivery(call, exec_told, exec->job.id);
    return CALL_PENDING;
}

static bool is_small(const struct exec_args *args)
{
    size_t length = args->path.length + args->input_data.length + args->directory.length;
    const struct arg_list *const lists[] = {&args->arguments, &args->environment};
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        const struct arg_text *items = lists[i]->items;
        for (size_t j = 0; j < lists[i]->count && length <= PACKED_ON_LOOP_BYTES; j++)
            length += items[j].length + 1;
    }
    return length <= PACKED_ON_LOOP_BYTES;
}

/* A small request needs no worker: it is quicker so, and works while all of them are stuck. */
static enum call_next exec_prepare(struct call *call)
{
    if (!is_small(call_args(call)))
        return CALL_CONTINUE;
    enum call_next next = exec_run(call);
    return next == CALL_CONTINUE ? exec_finish(call) : next;
}

static void exec_release(struct call *call)
{
    struct exec_state *state = call_state(call);
    if (!state)
        return;
    spawn_payload_deinit(&state->payload);
    free(state);
}

/* --- guest-exec-status --- */

struct status_args {
    int64_t pid;
};

static const struct arg_spec status_specs[] = {
    {ARG(ARG_INT64, struct status_args, pid, "pid")},
    ARG_END,
};

static void status_told(void *context, enum delivery what, uint64_t job_id)
{
    struct services *services = context;
    struct job *job = job_table_find(services->jobs, job_id);
    if (!job)
        return;
    if (what == DELIVERY_WRITTEN)
        job_table_answered(services->jobs, job);
    else if (what == DELIVERY_SEEN)
        job_table_seen(services->jobs, job);
}

/* Nothing was written, nothing is there: that is how the classic agent has it. What was lost is
 * never silent. */
static bool write_output(struct json_writer *reply, const struct exec_output *output,
                         const char *data_name, const char *truncated_name)
{
    if (output->size_bytes == 0 && !output->is_truncated)
        return true;
    const void *bytes;
    if (exec_output_map(output, &bytes) < 0)
        return false;
    json_member_base64(reply, data_name, bytes, output->size_bytes);
    exec_output_unmap(output, bytes);
    json_member_bool(reply, truncated_name, output->is_truncated);
    return true;
}

static enum call_next write_status(struct call *call, const struct exec_job *exec)
{
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_bool(reply, "exited", true);
    if (WIFSIGNALED(exec->wait_status))
        json_member_int(reply, "signal", WTERMSIG(exec->wait_status));
    else
        json_member_int(reply, "exitcode", WEXITSTATUS(exec->wait_status));
    if (exec->has_timed_out)
        json_member_bool(reply, "timed-out", true);
    if (!write_output(reply, &exec->outputs[0], "out-data", "out-truncated") ||
        !write_output(reply, &exec->outputs[1], "err-data", "err-truncated"))
        return call_fail(call, "Out of memory for the program's output");
    json_end_object(reply);
    return CALL_ANSWER;
}

static enum call_next status_prepare(struct call *call)
{
    const struct status_args *args = call_args(call);
    struct services *services = call_services(call);
    struct job *job = job_table_find_pid(services->jobs, args->pid);
    struct exec_job *exec = job ? exec_job_of(job) : NULL;
    if (!exec || exec->is_own || !job_belongs_to(job, call_profile(call)))
        return call_fail(call, "Invalid parameter 'pid'");
    if (!job_is_over(job)) {
        struct json_writer *reply = call_reply(call);
        json_begin_object(reply);
        json_member_bool(reply, "exited", false);
        json_end_object(reply);
        return CALL_ANSWER;
    }
    call_on_delivery(call, status_told, job->id);
    if (job->state != JOB_DONE)
        return call_fail(call,
                         "What became of the program with pid %lld is not known: the broker, which "
                         "ran it, is gone",
                         (long long)args->pid);
    if (job->result_bytes <= ENCODED_ON_LOOP_BYTES)
        return write_status(call, exec);
    call_set_state(call, job_ref(job));
    return CALL_CONTINUE;
}

static enum call_next status_run(struct call *call)
{
    struct job *job = call_state(call);
    return write_status(call, exec_job_of(job));
}

static void status_release(struct call *call)
{
    job_unref(call_state(call));
}

/* --- the rows --- */

static const struct command rows[] = {
    {
        .name = "guest-exec",
        .summary = "Run a program in the guest",
        .args = exec_specs,
        .args_size = sizeof(struct exec_args),
        .prepare = exec_prepare,
        .run = exec_run,
        .finish = exec_finish,
        .release = exec_release,
        .flags = CMD_CHANGES_GUEST | CMD_OWN_SYSTEM,
    },
    {
        .name = "guest-exec-status",
        .summary = "Tell whether a program has ended, with which status and output",
        .args = status_specs,
        .args_size = sizeof(struct status_args),
        .prepare = status_prepare,
        .run = status_run,
        .release = status_release,
        .flags = CMD_NO_JOB,
    },
};

const struct command_family exec_commands = COMMAND_FAMILY(rows);
