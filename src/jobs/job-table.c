/* SPDX-License-Identifier: MIT */
#include "jobs/job-table.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/settings.h"

#undef uthash_nonfatal_oom
#define uthash_nonfatal_oom(element) ((element)->table = NULL)

struct job_table {
    const struct settings *settings;
    struct event_base *base;
    struct event *timer; /* NULL: somebody else looks at the time */
    struct job *by_id;
    struct job *by_pid;
    struct list running;
    struct list over;     /* in the order in which they ended */
    struct list answered; /* some of those, in the order of their answers */
    uint64_t last_id;
    uint64_t over_bytes;
    struct job_counts counts;
};

static uint64_t retention_ms(const struct job_table *table)
{
    return table->settings->exec_retention_s * 1000;
}

static struct timeval to_timeval(uint64_t ms)
{
    return (struct timeval){.tv_sec = (time_t)(ms / 1000),
                            .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
}

static void arm_timer(struct job_table *table, uint64_t when_ms, uint64_t now_ms)
{
    if (!table->timer || when_ms == UINT64_MAX)
        return;
    uint64_t wait_ms = when_ms > now_ms ? when_ms - now_ms : 0;
    struct timeval wait = to_timeval(wait_ms);
    event_add(table->timer, &wait);
}

static void time_has_come(evutil_socket_t fd, short what, void *context)
{
    struct job_table *table = context;
    uint64_t now_ms = clock_now_ms();
    arm_timer(table, job_table_expire(table, now_ms), now_ms);
}

struct job_table *job_table_new(struct event_base *base, const struct settings *settings)
{
    struct job_table *table = calloc(1, sizeof(*table));
    if (!table)
        return NULL;
    table->settings = settings;
    list_init(&table->running);
    list_init(&table->over);
    list_init(&table->answered);
    table->base = base;
    if (base) {
        table->timer = evtimer_new(base, time_has_come, table);
        if (!table->timer)
            return job_table_free(table);
    }
    return table;
}

struct job_table *job_table_free(struct job_table *table)
{
    if (!table)
        return NULL;
    struct job *job;
    /* To forget one may mean to forget others, too. */
    while ((job = list_first(&table->running, struct job, by_age)))
        job_table_forget(table, job);
    while ((job = list_first(&table->over, struct job, by_age)))
        job_table_forget(table, job);
    if (table->timer)
        event_free(table->timer);
    free(table);
    return NULL;
}

struct job *job_ref(struct job *job)
{
    assert_on_loop();
    job->references++;
    return job;
}

struct job *job_unref(struct job *job)
{
    assert_on_loop();
    if (job && --job->references == 0)
        job->kind->free(job);
    return NULL;
}

bool job_is_over(const struct job *job)
{
    return job->state != JOB_QUEUED && job->state != JOB_RUNNING;
}

bool job_belongs_to(const struct job *job, unsigned profile)
{
    return job->profile == profile;
}

/* Forgets the result that was answered longest ago; false if there is none. */
static bool evict(struct job_table *table)
{
    struct job *job = list_first(&table->answered, struct job, by_answer);
    if (!job)
        return false;
    table->counts.evicted++;
    job_table_forget(table, job);
    return true;
}

static void sum_running(const struct job_table *table, uint64_t *ret_output_bytes,
                        uint64_t *ret_input_bytes)
{
    const struct job *job;
    *ret_output_bytes = *ret_input_bytes = 0;
    list_for_each (job, &table->running, const struct job, by_age) {
        if (job->kind->held_bytes)
            *ret_output_bytes += job->kind->held_bytes(job);
        *ret_input_bytes += job->waiting_bytes;
    }
}

int job_table_admit(struct job_table *table, const struct job_demand *demand,
                    char ret_reason[JOB_REASON_MAX])
{
    assert_on_loop();
    const struct settings *settings = table->settings;
    if (table->counts.running >= settings->exec_running) {
        snprintf(ret_reason, JOB_REASON_MAX,
                 "%zu programs and other jobs are running, which is the limit (setting "
                 "exec.running)",
                 table->counts.running);
        return -EBUSY;
    }
    while (table->counts.kept >= settings->exec_kept) {
        if (evict(table))
            continue;
        snprintf(ret_reason, JOB_REASON_MAX,
                 "%zu programs and other jobs have ended and nobody has asked for their status "
                 "yet, which is the limit (setting exec.kept)",
                 table->counts.kept);
        return -EBUSY;
    }

    uint64_t output_bytes, input_bytes;
    sum_running(table, &output_bytes, &input_bytes);
    uint64_t max_bytes = settings->exec_output_bytes;
    if (demand->input_bytes > max_bytes || input_bytes > max_bytes - demand->input_bytes) {
        snprintf(ret_reason, JOB_REASON_MAX,
                 "running programs have %" PRIu64 " bytes of input-data still to read (setting "
                 "exec.output-bytes is the limit)",
                 input_bytes);
        return -EBUSY;
    }
    while (demand->output_bytes > 0 &&
           table->over_bytes + output_bytes + demand->output_bytes > max_bytes) {
        if (evict(table))
            continue;
        if (table->over_bytes + output_bytes < max_bytes)
            break; /* there is some room, and what does not fit is truncated */
        snprintf(ret_reason, JOB_REASON_MAX,
                 "%" PRIu64 " bytes of program output are kept, which is the limit (setting "
                 "exec.output-bytes)",
                 table->over_bytes + output_bytes);
        return -EBUSY;
    }
    return 0;
}

void job_table_start_ids(struct job_table *table, uint64_t first)
{
    assert_on_loop();
    if (first > 0 && first - 1 > table->last_id)
        table->last_id = first - 1;
}

int job_table_add_take(struct job_table *table, struct job *job, uint64_t id)
{
    assert_on_loop();
    if (id == 0 || job_table_find(table, id))
        id = table->last_id + 1;
    job->id = id;
    job->table = table;
    HASH_ADD(by_id, table->by_id, id, sizeof(job->id), job);
    if (!job->table)
        return -ENOMEM;
    if (id > table->last_id)
        table->last_id = id;
    job->state = JOB_RUNNING;
    list_init(&job->by_answer);
    list_append(&table->running, &job->by_age);
    table->counts.running++;
    return 0;
}

int job_table_queue_take(struct job_table *table, struct job *job, uint64_t id)
{
    int error = job_table_add_take(table, job, id);
    if (!error)
        job->state = JOB_QUEUED;
    return error;
}

void job_table_begin(struct job_table *table, struct job *job)
{
    assert_on_loop();
    if (job->table && job->state == JOB_QUEUED)
        job->state = JOB_RUNNING;
}

static void stop_timer(struct job *job)
{
    if (job->timer)
        event_free(job->timer);
    job->timer = NULL;
}

static void time_is_up(evutil_socket_t fd, short what, void *context)
{
    struct job *job = context;
    void (*time_up)(struct job *) = take_ptr(&job->time_up);
    stop_timer(job);
    time_up(job);
}

int job_table_set_timer(struct job_table *table, struct job *job, uint64_t wait_ms,
                        void (*time_up)(struct job *job))
{
    assert_on_loop();
    if (!job->table || job_is_over(job))
        return 0;
    if (!job->timer)
        job->timer = evtimer_new(table->base, time_is_up, job);
    struct timeval wait = to_timeval(wait_ms);
    if (!job->timer || event_add(job->timer, &wait) < 0)
        return -ENOMEM;
    job->time_up = time_up;
    return 0;
}

bool job_table_make_room(struct job_table *table, uint64_t result_bytes)
{
    assert_on_loop();
    uint64_t max_bytes = table->settings->exec_output_bytes;
    if (result_bytes > max_bytes)
        return false;
    while (table->over_bytes > max_bytes - result_bytes)
        if (!evict(table))
            return false;
    return true;
}

int job_table_set_pid(struct job_table *table, struct job *job, pid_t pid)
{
    assert_on_loop();
    if (pid <= 0 || job->pid > 0 || job_table_find_pid(table, pid))
        return -EEXIST;
    job->pid = pid;
    HASH_ADD(by_pid, table->by_pid, pid, sizeof(job->pid), job);
    if (job->table)
        return 0;
    job->table = table; /* it is still there under its id */
    job->pid = 0;
    return -ENOMEM;
}

/* At the end, but for what was found finished in a broker of an earlier agent. */
static void insert_by_end(struct job_table *table, struct job *job)
{
    struct list *after = table->over.previous;
    while (after != &table->over &&
           list_entry(after, struct job, by_age)->finished_ms > job->finished_ms)
        after = after->previous;
    list_prepend(after, &job->by_age);
}

void job_table_finish(struct job_table *table, struct job *job, enum job_state state,
                      uint64_t finished_ms, uint64_t result_bytes)
{
    assert_on_loop();
    if (!job->table || job_is_over(job))
        return;
    job->state = state;
    job->finished_ms = finished_ms;
    job->result_bytes = result_bytes;
    job->waiting_bytes = 0;
    stop_timer(job);
    list_remove(&job->by_age);
    insert_by_end(table, job);
    table->counts.running--;
    table->counts.kept++;
    table->over_bytes += result_bytes;
    if (job->is_abandoned) {
        job_table_forget(table, job);
        return;
    }
    const struct job *oldest = list_first(&table->over, const struct job, by_age);
    arm_timer(table, oldest->finished_ms + retention_ms(table), clock_now_ms());
}

void job_table_abandon(struct job_table *table, struct job *job)
{
    assert_on_loop();
    job->is_abandoned = true;
    if (job->table && job_is_over(job))
        job_table_forget(table, job);
}

void job_table_answered(struct job_table *table, struct job *job)
{
    assert_on_loop();
    if (!job->table || !job_is_over(job))
        return;
    list_remove(&job->by_answer);
    list_append(&table->answered, &job->by_answer);
    /* Not every job asked for a place before it began: a request that is one is never refused. */
    const struct settings *settings = table->settings;
    while ((table->counts.kept > settings->exec_kept ||
            table->over_bytes > settings->exec_output_bytes) &&
           list_first(&table->answered, struct job, by_answer) != job)
        (void)evict(table);
}

void job_table_seen(struct job_table *table, struct job *job)
{
    assert_on_loop();
    if (!job->table || !job_is_over(job))
        return;
    table->counts.seen++;
    job_table_forget(table, job);
}

void job_table_forget(struct job_table *table, struct job *job)
{
    assert_on_loop();
    if (!job->table)
        return;
    if (job_is_over(job)) {
        table->counts.kept--;
        table->over_bytes -= job->result_bytes;
    } else {
        table->counts.running--;
    }
    stop_timer(job);
    list_remove(&job->by_age);
    list_remove(&job->by_answer);
    HASH_DELETE(by_id, table->by_id, job);
    if (job->pid > 0)
        HASH_DELETE(by_pid, table->by_pid, job);
    job->table = NULL;
    if (job->kind->forgotten)
        job->kind->forgotten(job);
    job_unref(job);
}

struct job *job_table_find(const struct job_table *table, uint64_t id)
{
    struct job *job;
    assert_on_loop();
    HASH_FIND(by_id, table->by_id, &id, sizeof(id), job);
    return job;
}

struct job *job_table_find_pid(const struct job_table *table, int64_t pid)
{
    struct job *job = NULL;
    pid_t key = (pid_t)pid;
    assert_on_loop();
    if (pid > 0 && key == pid)
        HASH_FIND(by_pid, table->by_pid, &key, sizeof(key), job);
    return job;
}

uint64_t job_table_expire(struct job_table *table, uint64_t now_ms)
{
    assert_on_loop();
    struct job *job;
    /* To forget one may mean to forget others, the next one too: nobody knows them but by it. */
    while ((job = list_first(&table->over, struct job, by_age))) {
        if (job->finished_ms + retention_ms(table) > now_ms)
            return job->finished_ms + retention_ms(table);
        table->counts.expired++;
        job_table_forget(table, job);
    }
    return UINT64_MAX;
}

const struct settings *job_table_settings(const struct job_table *table)
{
    return table->settings;
}

void job_table_for_each(const struct job_table *table, void (*each)(struct job *job, void *context),
                        void *context)
{
    assert_on_loop();
    struct job *job;
    list_for_each (job, &table->running, struct job, by_age)
        each(job, context);
    list_for_each (job, &table->over, struct job, by_age)
        each(job, context);
}

struct job_counts job_table_counts(const struct job_table *table)
{
    assert_on_loop();
    return table->counts;
}
