/* SPDX-License-Identifier: MIT */

/*
 * bellhop-job-list, -status, -cancel, -output, -start: what outlasts its request, watched and
 * steered. All but the start are looks into the job table, answered on the loop: they are right
 * while every worker is stuck, and their cost does not grow with the number of jobs (but for the
 * list's).
 */

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "cmds/command-job.h"
#include "cmds/command.h"
#include "cmds/job-start.h"
#include "cmds/services.h"
#include "jobs/broker-memory.h"
#include "jobs/exec-cancel.h"
#include "jobs/exec-job.h"
#include "jobs/job-table.h"

/* More than this is copied or encoded by a worker. */
#define ANSWERED_ON_LOOP_BYTES (256u * 1024)

enum {
    LIST_DEFAULT = 1000,
    LIST_MAX = 10000, /* some milliseconds */
    OUTPUT_DEFAULT_BYTES = 64 * 1024,
    OUTPUT_MAX_BYTES = 16 * 1024 * 1024,
    GRACE_DEFAULT_S = 5,
    GRACE_MAX_S = 3600,
};

/* --- which job --- */

/* By its id; or, a program, by its pid. */
struct job_name {
    int64_t id;
    bool has_id;
    int64_t pid;
    bool has_pid;
};

#define JOB_NAME_SPEC(structure, member, wire)                    \
    {                                                             \
        .name = (wire), .type = ARG_INT64, .flags = ARG_OPTIONAL, \
        .offset = offsetof(structure, name.member),               \
        .has_offset = offsetof(structure, name.has_##member)      \
    }
#define JOB_NAME_SPECS(structure) \
    JOB_NAME_SPEC(structure, id, "id"), JOB_NAME_SPEC(structure, pid, "pid")

/* Programs of the agent's own are nobody's business, nor is what another profile has. */
static bool is_listed(struct job *job, unsigned profile)
{
    const struct exec_job *exec = exec_job_of(job);
    return job_belongs_to(job, profile) && (!exec || !exec->is_own);
}

/* NULL: there is none, and the call has failed. */
static struct job *find_job(struct call *call, const struct job_name *name)
{
    struct job_table *jobs = call_services(call)->jobs;
    struct job *job = NULL;
    if (name->has_id == name->has_pid) {
        call_fail(call, "Either parameter 'id' or parameter 'pid' is expected");
        return NULL;
    }
    if (name->has_pid)
        job = job_table_find_pid(jobs, name->pid);
    else if (name->id > 0)
        job = job_table_find(jobs, (uint64_t)name->id);
    if (job && is_listed(job, call_profile(call)))
        return job;
    call_fail(call, "There is no job with %s %lld", name->has_pid ? "pid" : "id",
              (long long)(name->has_pid ? name->pid : name->id));
    return NULL;
}

/* --- what is told of a job --- */

static const char *state_name(struct job *job)
{
    static const char *const names[] = {
        [JOB_QUEUED] = "queued",       [JOB_RUNNING] = "running", [JOB_DONE] = "done",
        [JOB_CANCELLED] = "cancelled", [JOB_LOST] = "lost",
    };
    /* A program that was cancelled is done for those who ask for its exit status. */
    bool was_cancelled = job->state == JOB_DONE && job->is_cancelled && exec_job_of(job);
    return names[was_cancelled ? JOB_CANCELLED : job->state];
}

static void write_progress(struct json_writer *reply, struct command_job *job)
{
    struct call_progress progress;
    char item[CALL_PROGRESS_ITEM_MAX];
    if (!command_job_progress(job, &progress, item))
        return;
    json_name(reply, "progress");
    json_begin_object(reply);
    json_member_uint(reply, "done", progress.done);
    if (progress.total > 0)
        json_member_uint(reply, "total", progress.total);
    if (item[0] != '\0') {
        json_member_string(reply, "item", item);
        json_member_uint(reply, "item-done-bytes", progress.item_done_bytes);
        if (progress.item_total_bytes > 0)
            json_member_uint(reply, "item-total-bytes", progress.item_total_bytes);
    }
    json_member_uint(reply, "bytes", progress.bytes);
    json_member_bool(reply, "paused", progress.is_paused);
    json_end_object(reply);
}

/* The members that every job has; the object is the caller's. */
static void write_job(struct json_writer *reply, struct job *job)
{
    struct command_job *command = command_job_of(job);
    uint64_t until_ms = job_is_over(job) ? job->finished_ms : clock_now_ms();
    json_member_uint(reply, "id", job->id);
    json_member_string(reply, "kind", job->kind->name);
    json_member_string(reply, "command", command ? command_job_name(command) : "guest-exec");
    json_member_string(reply, "state", state_name(job));
    if (job->pid > 0)
        json_member_int(reply, "pid", job->pid);
    if (command && command_job_lane(command))
        json_member_string(reply, "lane", command_job_lane(command));
    json_member_int(reply, "started-ms", job->started_unix_ms);
    json_member_uint(reply, "elapsed-ms",
                     until_ms > job->started_ms ? until_ms - job->started_ms : 0);
    if (!job_is_over(job))
        json_member_bool(reply, "cancelling", job->is_cancelled);
    if (command)
        write_progress(reply, command);
}

/* --- programs' output --- */

static bool is_captured(const struct exec_job *exec, size_t stream)
{
    switch (exec->capture) {
    case BROKER_CAPTURE_STDERR:
        return stream == 1;
    case BROKER_CAPTURE_SEPARATED:
        return true;
    case BROKER_CAPTURE_STDOUT:
    case BROKER_CAPTURE_MERGED:
        return stream == 0;
    default:
        return false;
    }
}

/* While the program runs its broker goes on writing: what is there now. */
static uint64_t output_bytes(const struct exec_job *exec, size_t stream)
{
    const struct exec_output *output = &exec->outputs[stream];
    struct stat status;
    if (exec->job.state == JOB_DONE)
        return output->size_bytes;
    if (output->fd < 0 || fstat(output->fd, &status) < 0)
        return 0;
    return (uint64_t)status.st_size;
}

static void write_exec(struct json_writer *reply, struct exec_job *exec)
{
    static const char *const names[BROKER_STREAMS] = {"out-bytes", "err-bytes"};
    if (exec->job.state == JOB_DONE && WIFSIGNALED(exec->wait_status))
        json_member_int(reply, "signal", WTERMSIG(exec->wait_status));
    else if (exec->job.state == JOB_DONE)
        json_member_int(reply, "exitcode", WEXITSTATUS(exec->wait_status));
    if (exec->job.state == JOB_DONE && exec->has_timed_out)
        json_member_bool(reply, "timed-out", true);
    for (size_t i = 0; i < BROKER_STREAMS; i++)
        if (is_captured(exec, i))
            json_member_uint(reply, names[i], output_bytes(exec, i));
}

/* --- bellhop-job-list --- */

struct list_args {
    int64_t limit;
    bool has_limit;
};

static const struct arg_spec list_specs[] = {
    {ARG_OPT(ARG_INT64, struct list_args, limit, "limit")},
    ARG_END,
};

struct listing {
    struct json_writer *reply;
    unsigned profile;
    int64_t left;
    uint64_t queued, running, more;
};

static void list_job(struct job *job, void *context)
{
    struct listing *listing = context;
    if (!is_listed(job, listing->profile))
        return;
    if (job->state == JOB_QUEUED)
        listing->queued++;
    if (job->state == JOB_RUNNING)
        listing->running++;
    if (listing->left-- <= 0) {
        listing->more++;
        return;
    }
    json_begin_object(listing->reply);
    write_job(listing->reply, job);
    json_end_object(listing->reply);
}

static enum call_next list_run(struct call *call)
{
    const struct list_args *args = call_args(call);
    struct job_table *jobs = call_services(call)->jobs;
    struct listing listing = {.left = args->has_limit ? args->limit : LIST_DEFAULT,
                              .profile = call_profile(call)};
    if (listing.left < 0 || listing.left > LIST_MAX)
        return call_fail(call, "Parameter 'limit' expects a number from 0 to %d", LIST_MAX);
    struct json_writer *reply = listing.reply = call_reply(call);
    struct job_counts counts = job_table_counts(jobs);
    json_begin_object(reply);
    json_name(reply, "jobs");
    json_begin_array(reply);
    job_table_for_each(jobs, list_job, &listing);
    json_end_array(reply);
    json_member_uint(reply, "more", listing.more);
    json_name(reply, "counts");
    json_begin_object(reply);
    json_member_uint(reply, "queued", listing.queued);
    json_member_uint(reply, "running", listing.running);
    json_member_uint(reply, "kept", counts.kept);
    json_member_uint(reply, "seen", counts.seen);
    json_member_uint(reply, "expired", counts.expired);
    json_member_uint(reply, "evicted", counts.evicted);
    json_end_object(reply);
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- bellhop-job-status --- */

struct status_args {
    struct job_name name;
};

static const struct arg_spec status_specs[] = {
    JOB_NAME_SPECS(struct status_args),
    ARG_END,
};

/* What a program's job has to say is said whole by guest-exec-status; it may go now if there is no
 * room, and not before. */
static void exec_told(void *context, enum delivery what, uint64_t job_id)
{
    struct services *services = context;
    struct job *job = job_table_find(services->jobs, job_id);
    if (job && what == DELIVERY_WRITTEN)
        job_table_answered(services->jobs, job);
}

static void write_result(struct json_writer *reply, const struct command_job *command)
{
    const char *text;
    size_t length;
    command_job_result(command, &text, &length);
    if (length > 0)
        json_raw(reply, text, length);
}

static enum call_next status_prepare(struct call *call)
{
    const struct status_args *args = call_args(call);
    struct job *job = find_job(call, &args->name);
    if (!job)
        return CALL_ANSWER;
    struct command_job *command = command_job_of(job);
    struct exec_job *exec = exec_job_of(job);
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    write_job(reply, job);
    if (exec)
        write_exec(reply, exec);
    if (job_is_over(job))
        call_on_delivery(call, exec ? exec_told : command_job_told, job->id);
    if (command && job->result_bytes > ANSWERED_ON_LOOP_BYTES) {
        call_set_state(call, job_ref(job));
        return CALL_CONTINUE;
    }
    if (command)
        write_result(reply, command);
    json_end_object(reply);
    return CALL_ANSWER;
}

static enum call_next status_run(struct call *call)
{
    struct json_writer *reply = call_reply(call);
    write_result(reply, command_job_of(call_state(call)));
    json_end_object(reply);
    return CALL_CONTINUE;
}

static void status_release(struct call *call)
{
    job_unref(call_state(call));
}

/* --- bellhop-job-cancel --- */

struct cancel_args {
    struct job_name name;
    int64_t grace_s;
    bool has_grace_s;
};

static const struct arg_spec cancel_specs[] = {
    JOB_NAME_SPECS(struct cancel_args),
    {ARG_OPT(ARG_INT64, struct cancel_args, grace_s, "grace")},
    ARG_END,
};

static enum call_next cancel_run(struct call *call)
{
    const struct cancel_args *args = call_args(call);
    int64_t grace_s = args->has_grace_s ? args->grace_s : GRACE_DEFAULT_S;
    if (grace_s < 0 || grace_s > GRACE_MAX_S)
        return call_fail(call, "Parameter 'grace' expects seconds from 0 to %d", GRACE_MAX_S);
    struct job *job = find_job(call, &args->name);
    if (!job)
        return CALL_ANSWER;
    struct command_job *command = command_job_of(job);
    uint64_t id = job->id;
    int error = command ? command_job_cancel(command)
                        : exec_job_cancel(exec_job_of(job), (uint64_t)grace_s * 1000);
    if (error == -ESRCH)
        return call_fail(call, "Job %llu is over", (unsigned long long)id);
    if (error == -EBUSY)
        return call_fail(call, "Job %llu cannot be cancelled: %s has begun", (unsigned long long)id,
                         command_job_name(command));
    if (error)
        return call_fail_errno(call, -error, "Job %llu could not be cancelled",
                               (unsigned long long)id);
    return CALL_CONTINUE;
}

/* --- bellhop-job-output --- */

struct output_args {
    struct job_name name;
    int stream;
    int64_t offset;
    int64_t count;
    bool has_count;
};

static const char *const stream_names[] = {"stdout", "stderr", NULL};

static const struct arg_spec output_specs[] = {
    JOB_NAME_SPECS(struct output_args),
    {ARG(ARG_ENUM, struct output_args, stream, "stream"), .flags = ARG_OPTIONAL,
     .names = stream_names},
    {ARG(ARG_INT64, struct output_args, offset, "offset"), .flags = ARG_OPTIONAL},
    {ARG_OPT(ARG_INT64, struct output_args, count, "count")},
    ARG_END,
};

/* A part of an output that is there already, so it does not change. */
struct output_part {
    struct job *job;
    int fd; /* the job's */
    uint64_t offset;
    size_t length;
    bool is_last;
    bool is_truncated;
};

static size_t wanted_bytes(const struct output_args *args)
{
    int64_t count = args->has_count ? args->count : OUTPUT_DEFAULT_BYTES;
    return count < 0 || count > OUTPUT_MAX_BYTES ? 0 : (size_t)count;
}

static size_t output_reply_bytes(const void *args)
{
    return wanted_bytes(args) / 3 * 4;
}

static enum call_next output_run(struct call *call)
{
    const struct output_part *part = call_state(call);
    _cleanup_free_ void *bytes = malloc(part->length + 1);
    if (!bytes)
        return call_fail(call, "Out of memory for the program's output");
    int error = 0;
    if (part->length > 0)
        error = broker_memory_read(part->fd, bytes, part->length, part->offset);
    if (error)
        return call_fail_errno(call, -error, "The output of job %llu could not be read",
                               (unsigned long long)part->job->id);
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_uint(reply, "offset", part->offset);
    json_member_uint(reply, "count", part->length);
    json_member_base64(reply, "buf-b64", bytes, part->length);
    json_member_bool(reply, "eof", part->is_last);
    if (part->is_last)
        json_member_bool(reply, "truncated", part->is_truncated);
    json_end_object(reply);
    return CALL_CONTINUE;
}

static void choose_part(struct exec_job *exec, size_t stream, uint64_t offset, size_t length,
                        struct output_part *ret_part)
{
    uint64_t size_bytes = output_bytes(exec, stream);
    uint64_t left = size_bytes > offset ? size_bytes - offset : 0;
    *ret_part = (struct output_part){
        .job = job_ref(&exec->job),
        .fd = exec->outputs[stream].fd,
        .offset = offset,
        .length = left < length ? (size_t)left : length,
        .is_last = job_is_over(&exec->job) && left <= length,
        .is_truncated = exec->outputs[stream].is_truncated || exec->job.state == JOB_LOST,
    };
}

static enum call_next output_prepare(struct call *call)
{
    const struct output_args *args = call_args(call);
    size_t length = wanted_bytes(args);
    if (args->offset < 0)
        return call_fail(call, "Parameter 'offset' expects a number that is not negative");
    if (length == 0)
        return call_fail(call, "Parameter 'count' expects a number from 1 to %d", OUTPUT_MAX_BYTES);
    struct job *job = find_job(call, &args->name);
    if (!job)
        return CALL_ANSWER;
    struct exec_job *exec = exec_job_of(job);
    if (!exec)
        return call_fail(call, "Job %llu is no program: it has no output",
                         (unsigned long long)job->id);
    if (!is_captured(exec, (size_t)args->stream))
        return call_fail(call, "The %s of job %llu is not captured", stream_names[args->stream],
                         (unsigned long long)job->id);
    struct output_part *part = calloc(1, sizeof(*part));
    if (!part)
        return call_fail(call, "Out of memory");
    choose_part(exec, (size_t)args->stream, (uint64_t)args->offset, length, part);
    call_set_state(call, part);
    if (part->is_last)
        call_on_delivery(call, exec_told, job->id);
    if (part->length > ANSWERED_ON_LOOP_BYTES)
        return CALL_CONTINUE;
    enum call_next next = output_run(call);
    return next == CALL_CONTINUE ? CALL_ANSWER : next;
}

static void output_release(struct call *call)
{
    struct output_part *part = call_state(call);
    if (part)
        job_unref(part->job);
    free(part);
}

/* --- the rows --- */

static const struct command rows[] = {
    {
        .name = "bellhop-job-list",
        .summary = "List what outlasts its request: programs, and commands that take long",
        .args = list_specs,
        .args_size = sizeof(struct list_args),
        .run = list_run,
        .flags = CMD_ON_LOOP | CMD_ALLOWED_WHEN_FROZEN,
    },
    {
        .name = "bellhop-job-status",
        .summary = "Tell how far a job is, and what came of it",
        .args = status_specs,
        .args_size = sizeof(struct status_args),
        .prepare = status_prepare,
        .run = status_run,
        .release = status_release,
        .flags = CMD_ALLOWED_WHEN_FROZEN | CMD_NO_JOB,
    },
    {
        .name = "bellhop-job-cancel",
        .summary = "End a job before its time",
        .args = cancel_specs,
        .args_size = sizeof(struct cancel_args),
        .run = cancel_run,
        .flags = CMD_ON_LOOP | CMD_ALLOWED_WHEN_FROZEN | CMD_RESERVED | CMD_CHANGES_GUEST,
    },
    {
        .name = "bellhop-job-output",
        .summary = "Read what a program has written so far",
        .args = output_specs,
        .args_size = sizeof(struct output_args),
        .prepare = output_prepare,
        .run = output_run,
        .release = output_release,
        .reply_bytes = output_reply_bytes,
        .flags = CMD_ALLOWED_WHEN_FROZEN | CMD_NO_JOB,
    },
    {
        .name = "bellhop-job-start",
        .summary = "Carry out a command as a job",
        .args = job_start_specs,
        .args_size = sizeof(struct job_start_args),
        .prepare = job_start_prepare,
        .run = job_start_run,
        .finish = job_start_finish,
        .release = job_start_release,
        .flags = CMD_NO_JOB,
    },
};

const struct command_family job_commands = COMMAND_FAMILY(rows);
