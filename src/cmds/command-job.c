/* SPDX-License-Identifier: MIT */
#include "cmds/command-job.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "base/utf8.h"
#include "cmds/call.h"
#include "cmds/services.h"
#include "io/json-writer.h"
#include "jobs/task.h"

struct command_job {
    struct job job;

    /* immutable */
    const struct command *command;
    struct services *services;
    char *lane;
    bool is_requested;       /* by bellhop-job-start */
    uint64_t expected_bytes; /* of its answer, where that can be a lot */

    /* loop only */
    struct call *call;    /* NULL once nothing of it runs */
    struct buffer result; /* an object without its closing brace; empty: not over */
    void (*told)(void *services, enum delivery what, uint64_t token); /* of a requested one */
    uint64_t told_token;
    bool was_written;

    atomic_bool is_cancelled;

    pthread_mutex_t lock;          /* held for moments only */
    struct call_progress progress; /* guarded by lock, as all below; its `item` is not used */
    bool has_progress;
    char item[CALL_PROGRESS_ITEM_MAX];
};

struct command_job *command_job_of(struct job *job)
{
    return job->kind == &command_job_kind ? list_entry(job, struct command_job, job) : NULL;
}

/* Nobody saw what it had to say. When the agent ends there is nobody who would want to know. */
static void forgotten(struct job *job)
{
    struct command_job *own = command_job_of(job);
    if (own->told && !own->was_written && own->services->dispatcher)
        own->told(own->services, DELIVERY_DROPPED, own->told_token);
    own->told = NULL;
}

static void free_job(struct job *job)
{
    struct command_job *own = command_job_of(job);
    pthread_mutex_destroy(&own->lock);
    buffer_deinit(&own->result);
    free(own->lane);
    free(own);
}

static uint64_t held_bytes(const struct job *job)
{
    return list_entry(job, const struct command_job, job)->expected_bytes;
}

const struct job_kind command_job_kind = {
    .name = "command",
    .forgotten = forgotten,
    .free = free_job,
    .held_bytes = held_bytes,
};

/* --- its life --- */

static void set_start(struct job *job)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    job->started_ms = clock_now_ms();
    job->started_unix_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int command_job_enter(struct call *call, const char *lane, bool is_requested)
{
    assert_on_loop();
    struct command_job *own = calloc(1, sizeof(*own));
    if (!own)
        return -ENOMEM;
    pthread_mutex_init(&own->lock, NULL);
    own->job.kind = &command_job_kind;
    own->job.profile = call->profile;
    own->command = call->command;
    own->services = call->services;
    own->is_requested = is_requested;
    if (call->command->reply_bytes && is_requested)
        own->expected_bytes = call->command->reply_bytes(call->args);
    own->job.waiting_bytes = is_requested ? call->text_length : 0;
    set_start(&own->job);
    if (lane)
        own->lane = strdup(lane);
    job_ref(&own->job); /* the table's, */
    job_ref(&own->job); /* and the call's */
    if ((lane && !own->lane) || job_table_queue_take(call->services->jobs, &own->job, 0) < 0) {
        free_job(&own->job);
        return -ENOMEM;
    }
    own->call = call;
    call->job = own;
    return 0;
}

void command_job_begin(struct call *call)
{
    struct command_job *own = call->job;
    set_start(&own->job);
    if (own->job.table)
        job_table_begin(own->job.table, &own->job);
}

static void write_error(struct command_job *own, const struct wire_error *error)
{
    buffer_deinit(&own->result);
    struct json_writer writer = JSON_WRITER_INIT(&own->result);
    json_begin_object(&writer);
    json_name(&writer, "error");
    json_begin_object(&writer);
    json_member_string(&writer, "class", wire_class_name(error->class));
    json_member_string(&writer, "desc", error->desc);
    json_end_object(&writer);
}

/* Kept is what a client would have got, unless that is more than may be kept. */
static void keep_reply(struct command_job *own, struct call *call)
{
    struct buffer *reply = &call->reply;
    if (!own->is_requested) {
        buffer_append(&own->result, reply->data, reply->length);
        return;
    }
    uint64_t limit = own->services->settings->exec_stream_bytes;
    own->expected_bytes = 0;
    if (reply->failed)
        wire_error_set(&call->error, WIRE_GENERIC_ERROR, "Out of memory for the reply");
    else if (reply->length > limit)
        wire_error_set(&call->error, WIRE_GENERIC_ERROR,
                       "The result of %s has %zu bytes, more than is kept (setting "
                       "exec.stream-bytes)",
                       call->command->name, reply->length);
    else if (own->job.table && !job_table_make_room(own->job.table, reply->length))
        wire_error_set(&call->error, WIRE_GENERIC_ERROR,
                       "There is no room to keep the result of %s (setting exec.output-bytes)",
                       call->command->name);
    else
        own->result = buffer_take(reply);
}

static void finish(struct command_job *own, enum job_state state)
{
    struct job_table *table = own->job.table;
    if (!table)
        return;
    /* What its client is told by its own reply is not to keep others from beginning. */
    struct job *job = job_ref(&own->job);
    job_table_finish(table, job, state, clock_now_ms(), own->result.length);
    if (!own->is_requested)
        job_table_answered(table, job);
    job_unref(job);
}

void command_job_withdrawn(struct command_job *own)
{
    own->job.is_cancelled = true;
    atomic_store(&own->is_cancelled, true);
}

void command_job_answered(struct call *call)
{
    assert_on_loop();
    struct command_job *own = call->job;
    bool had_failed = call->error.is_set;
    if (!had_failed)
        keep_reply(own, call);
    if (call->error.is_set)
        write_error(own, &call->error);
    else if (own->result.length == 0)
        buffer_append_text(&own->result, "{\"return\": {}");
    /* A reply that is missing for want of memory is an answer, too: there is just none. */
    if (own->result.failed)
        buffer_deinit(&own->result);
    if (own->is_requested) {
        if (had_failed == call->error.is_set)
            own->told = call->told;
        else if (call->told)
            call->told(call->services, DELIVERY_DROPPED, call->told_token);
        own->told_token = call->told_token;
        call->told = NULL;
    }
    bool was_cancelled = command_job_is_cancelled(own) && call->error.is_set;
    finish(own, was_cancelled ? JOB_CANCELLED : JOB_DONE);
}

void command_job_overdue(struct call *call, const struct wire_error *error)
{
    write_error(call->job, error);
}

void command_job_leave(struct call *call)
{
    assert_on_loop();
    struct command_job *own = take_ptr(&call->job);
    own->call = NULL;
    finish(own, JOB_LOST); /* unless it is over */
    job_unref(&own->job);
}

void command_job_told(void *context, enum delivery what, uint64_t job_id)
{
    struct services *services = context;
    struct job *job = job_table_find(services->jobs, job_id);
    struct command_job *own = job ? command_job_of(job) : NULL;
    if (!own || !job_is_over(job) || what == DELIVERY_DROPPED)
        return;
    if (own->told)
        own->told(services, what, own->told_token);
    own->was_written = true;
    if (what == DELIVERY_WRITTEN)
        job_table_answered(services->jobs, job);
    else
        job_table_seen(services->jobs, job);
}

/* --- cancelling --- */

bool command_job_is_cancelled(struct command_job *own)
{
    return atomic_load(&own->is_cancelled);
}

int command_job_cancel(struct command_job *own)
{
    assert_on_loop();
    struct call *call = own->call;
    if (job_is_over(&own->job) || !call)
        return -ESRCH;
    if (own->job.state == JOB_RUNNING && !own->command->cancel)
        return task_withdraw(&call->task) ? 0 : -EBUSY; /* it may be waiting for a worker */
    own->job.is_cancelled = true;
    atomic_store(&own->is_cancelled, true);
    if (own->job.state == JOB_RUNNING)
        own->command->cancel(call);
    else if (call->has_turn)
        task_cancel(&call->task); /* else at its turn: replies keep their order */
    return 0;
}

/* --- progress --- */

void command_job_set_progress(struct command_job *own, const struct call_progress *progress)
{
    const char *item = progress->item ? progress->item : "";
    size_t length = strlen(item);
    if (length >= sizeof(own->item))
        length = utf8_valid_prefix(item, sizeof(own->item) - 1);
    pthread_mutex_lock(&own->lock);
    own->progress = *progress;
    own->has_progress = true;
    memcpy(own->item, item, length);
    own->item[length] = '\0';
    pthread_mutex_unlock(&own->lock);
}

bool command_job_progress(struct command_job *own, struct call_progress *ret_progress,
                          char ret_item[CALL_PROGRESS_ITEM_MAX])
{
    pthread_mutex_lock(&own->lock);
    bool has_progress = own->has_progress;
    *ret_progress = own->progress;
    memcpy(ret_item, own->item, sizeof(own->item));
    pthread_mutex_unlock(&own->lock);
    ret_progress->item = ret_item;
    return has_progress;
}

/* --- what is shown of it --- */

uint64_t command_job_id(const struct command_job *own)
{
    return own->job.id;
}

const char *command_job_name(const struct command_job *own)
{
    return own->command->name;
}

const char *command_job_lane(const struct command_job *own)
{
    return own->lane;
}

void command_job_result(const struct command_job *own, const char **ret_text, size_t *ret_length)
{
    bool is_there = own->result.length > 0 && job_is_over(&own->job);
    *ret_text = is_there ? own->result.data + 1 : "";
    *ret_length = is_there ? own->result.length - 1 : 0;
}
