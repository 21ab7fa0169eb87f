/* SPDX-License-Identifier: MIT */
#include "cmds/job-start.h"

#include <stdlib.h>

#include "cmds/call.h"
#include "cmds/command-job.h"
#include "cmds/dispatch.h"
#include "cmds/services.h"
#include "cmds/wire-error.h"
#include "io/json-writer.h"
#include "jobs/job-table.h"
#include "jobs/task.h"

/* A larger request is read by a worker. */
#define STARTED_ON_LOOP_BYTES (64u * 1024)

static bool decode_object(const struct json_value *value, void *ret_member,
                          struct wire_error *error, const char *path)
{
    const struct json_value **arguments = ret_member;
    *arguments = value;
    return value->type == JSON_OBJECT;
}

/* What stands in them is not known before the command is. */
const struct arg_spec job_start_specs[] = {
    {ARG(ARG_STRING, struct job_start_args, command, "command")},
    {ARG(ARG_CUSTOM, struct job_start_args, arguments, "arguments"),
     .flags = ARG_OPTIONAL | ARG_SECRET, .decode = decode_object, .expected = "object"},
    ARG_END,
};

static struct buffer write_request(const struct job_start_args *args)
{
    struct buffer text = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&text);
    json_begin_object(&writer);
    json_name(&writer, "execute");
    json_string_n(&writer, args->command.data, args->command.length);
    if (args->arguments) {
        json_name(&writer, "arguments");
        json_copy_value(&writer, args->arguments);
    }
    json_end_object(&writer);
    return text;
}

static bool may_be_job(struct call *call, const struct command *command)
{
    const char *name = command->name;
    if (command->flags & CMD_FENCE)
        call_fail(call, "%s cannot be a job: it belongs to its channel", name);
    else if (command->flags & CMD_RESCUE)
        call_fail(call, "%s cannot be a job: it is not to wait for one's turn", name);
    else if (command->flags & (CMD_ON_LOOP | CMD_NO_JOB))
        call_fail(call, "%s cannot be a job: it is answered at once", name);
    return !call->error.is_set;
}

enum call_next job_start_run(struct call *call)
{
    struct call *started = call_state(call);
    struct buffer text = write_request(call_args(call));
    if (text.failed) {
        buffer_deinit(&text);
        return call_fail(call, "Out of memory");
    }
    started->text_length = text.length;
    started->text = text.data;
    dispatcher_decode(call->dispatcher, started);
    if (!started->error.is_set)
        return may_be_job(call, started->command) ? CALL_CONTINUE : CALL_ANSWER;
    call->error = started->error;
    return CALL_ANSWER;
}

/* Without the reply nobody knows the id, so nobody will ask for the result. */
static void start_told(void *context, enum delivery what, uint64_t job_id)
{
    struct services *services = context;
    struct job *job = job_table_find(services->jobs, job_id);
    if (job && what == DELIVERY_DROPPED)
        job_table_abandon(services->jobs, job);
}

enum call_next job_start_finish(struct call *call)
{
    struct services *services = call_services(call);
    struct call *started = call_state(call);
    const struct command *command = started->command;
    struct job_demand demand = {.input_bytes = started->text_length};
    char reason[JOB_REASON_MAX];
    if (command->reply_bytes)
        demand.output_bytes = command->reply_bytes(started->args);
    if (job_table_admit(services->jobs, &demand, reason) < 0)
        return call_fail(call, "bellhop-job-start refused: %s", reason);

    char lane[CALL_LANE_MAX];
    if (command_job_enter(started, call_lane(started, lane), true) < 0)
        return call_fail(call, "Out of memory for a job");
    uint64_t id = command_job_id(started->job);
    if (!dispatcher_submit(call->dispatcher, started)) {
        call->error = started->error;
        job_table_abandon(services->jobs, job_table_find(services->jobs, id));
        return CALL_ANSWER;
    }
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_uint(reply, "id", id);
    json_end_object(reply);
    call_on_delivery(call, start_told, id);
    call_set_state(call, NULL);
    started->has_turn = true;
    task_permit(&started->task); /* it may be gone after this */
    return CALL_ANSWER;
}

/* A small one needs no worker: it works while all of them are stuck. */
enum call_next job_start_prepare(struct call *call)
{
    struct call *started = call_new(call->dispatcher, call->services, call->endpoint, NULL);
    if (!started)
        return call_fail(call, "Out of memory");
    call_inherit(started, call);
    call_set_state(call, started);
    if (call->text_length > STARTED_ON_LOOP_BYTES)
        return CALL_CONTINUE;
    enum call_next next = job_start_run(call);
    return next == CALL_CONTINUE ? job_start_finish(call) : next;
}

void job_start_release(struct call *call)
{
    struct call *started = call_state(call);
    if (started)
        dispatcher_discard(call->dispatcher, started);
}
