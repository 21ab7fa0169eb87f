/* SPDX-License-Identifier: MIT */

/*
 * bellhop-job-input: more standard input for a program that was started with `stdin-open`. Nobody
 * waits for the program: what it has not read yet is kept by the broker, and no more is taken than
 * exec.input-bytes of that. The reply says how much was.
 */

#include <inttypes.h>

#include "base/base64.h"
#include "base/settings.h"
#include "cmds/command.h"
#include "cmds/services.h"
#include "jobs/broker-client.h"
#include "jobs/broker-memory.h"
#include "jobs/exec-job.h"
#include "jobs/job-table.h"

/* More is decoded by a worker. */
#define DECODED_ON_LOOP_BYTES (64u * 1024)

struct input_args {
    int64_t id;
    bool has_id;
    int64_t pid;
    bool has_pid;
    struct arg_text data;
    bool is_last;
};

static const struct arg_spec input_specs[] = {
    {ARG_OPT(ARG_INT64, struct input_args, id, "id")},
    {ARG_OPT(ARG_INT64, struct input_args, pid, "pid")},
    {ARG(ARG_STRING, struct input_args, data, "data-b64"), .flags = ARG_OPTIONAL | ARG_SECRET},
    {ARG(ARG_BOOL, struct input_args, is_last, "eof"), .flags = ARG_OPTIONAL},
    ARG_END,
};

/* What goes with the call from the worker to the loop. */
struct input_state {
    int memory_fd;
    uint64_t length;
};

/* Nothing at all is no memory. */
static int make_memory(const char *bytes, size_t length, int *ret_fd)
{
    if (length == 0)
        return 0;
    _cleanup_close_ int fd = broker_memory_new("bellhop-input");
    if (fd < 0)
        return fd;
    int error = broker_memory_write(fd, bytes, length, 0);
    if (!error)
        error = broker_memory_seal(fd);
    if (!error)
        *ret_fd = take_fd(&fd);
    return error;
}

static enum call_next input_run(struct call *call)
{
    struct input_args *args = call_args(call);
    size_t length = 0;
    if (args->data.data && base64_decode_in_place(args->data.data, args->data.length, &length) < 0)
        return call_fail(call, "Base64 data contains invalid characters");
    struct input_state *state = calloc(1, sizeof(*state));
    if (!state)
        return call_fail(call, "Out of memory");
    state->memory_fd = -1;
    state->length = length;
    call_set_state(call, state);
    int error = make_memory(args->data.data, length, &state->memory_fd);
    if (error)
        return call_fail_errno(call, -error, "bellhop-job-input failed");
    return CALL_CONTINUE;
}

/* The program that is meant; NULL: there is none, and the error is set. */
static struct exec_job *find_program(struct call *call)
{
    const struct input_args *args = call_args(call);
    const struct job_table *jobs = call_services(call)->jobs;
    struct job *job = NULL;
    if (args->has_id)
        job = args->id > 0 ? job_table_find(jobs, (uint64_t)args->id) : NULL;
    else
        job = job_table_find_pid(jobs, args->pid);
    struct exec_job *exec = job ? exec_job_of(job) : NULL;
    if (exec && !exec->is_own && job_belongs_to(job, call_profile(call)))
        return exec;
    call_fail(call, "Invalid parameter '%s'", args->has_id ? "id" : "pid");
    return NULL;
}

/* True if it takes input now; else the error is set. */
static bool takes_input(struct call *call, const struct exec_job *exec)
{
    if (job_is_over(&exec->job))
        call_fail(call, "The program has ended and reads nothing any more");
    else if (exec->job.pid == 0)
        call_fail(call, "The program does not run yet");
    else if (!exec->takes_input)
        call_fail(call, "The program's standard input is closed: it was started without "
                        "'stdin-open', its end was sent, or it was closed by the program");
    else
        return true;
    return false;
}

static enum call_next input_finish(struct call *call)
{
    struct input_state *state = call_state(call);
    const struct input_args *args = call_args(call);
    struct services *services = call_services(call);
    struct exec_job *exec = find_program(call);
    if (!exec || !takes_input(call, exec))
        return CALL_ANSWER;

    uint64_t waiting = exec->job.waiting_bytes;
    uint64_t limit = services->settings->exec_input_bytes;
    uint64_t room = waiting < limit ? limit - waiting : 0;
    uint64_t taken = state->length < room ? state->length : room;
    if (state->length > 0 && room == 0)
        return call_fail(call,
                         "The program has %" PRIu64 " bytes of input still to read, which is the "
                         "limit (setting exec.input-bytes)",
                         waiting);
    bool is_last = args->is_last && taken == state->length;
    if (taken > 0 || is_last) {
        int error = broker_client_input_take(services->broker, exec, take_fd(&state->memory_fd),
                                             taken, is_last);
        if (error == -EPROTONOSUPPORT)
            return call_fail(call, "The program was started by an older bellhop, which can give it "
                                   "no more input");
        if (error)
            return call_fail_errno(call, -error, "bellhop-job-input failed");
    }
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_uint(reply, "count", taken);
    json_end_object(reply);
    return CALL_ANSWER;
}

static enum call_next input_prepare(struct call *call)
{
    const struct input_args *args = call_args(call);
    if (!args->has_id && !args->has_pid)
        return call_fail(call, "Parameter 'id' is missing");
    if (args->has_id && args->has_pid)
        return call_fail(call, "Parameter 'pid' is unexpected: the program is named by 'id'");
    if (args->data.length > DECODED_ON_LOOP_BYTES)
        return CALL_CONTINUE;
    enum call_next next = input_run(call);
    return next == CALL_CONTINUE ? input_finish(call) : next;
}

static void input_release(struct call *call)
{
    struct input_state *state = call_state(call);
    if (!state)
        return;
    close_fd(state->memory_fd);
    free(state);
}

/* One lane for all of them: two that are meant for one program may name it in two ways. */
static const struct command rows[] = {
    {
        .name = "bellhop-job-input",
        .summary = "Write to the standard input of a running program",
        .args = input_specs,
        .args_size = sizeof(struct input_args),
        .prepare = input_prepare,
        .run = input_run,
        .finish = input_finish,
        .release = input_release,
        .lane = "job-input",
        .flags = CMD_CHANGES_GUEST | CMD_NO_JOB,
    },
};

const struct command_family job_input_commands = COMMAND_FAMILY(rows);
