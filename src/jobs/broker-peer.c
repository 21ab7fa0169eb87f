/* SPDX-License-Identifier: MIT */
#include "jobs/broker-peer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "jobs/broker-link.h"

/* --- its jobs --- */

static struct exec_job *find_job(const struct broker_peer *peer, uint64_t broker_id)
{
    /* Nearly always its number there is its number here. */
    struct job *job = job_table_find(peer->owner->jobs, broker_id);
    struct exec_job *exec = job ? exec_job_of(job) : NULL;
    if (exec && exec->peer == peer && exec->broker_id == broker_id)
        return exec;
    list_for_each (exec, &peer->jobs, struct exec_job, of_peer)
        if (exec->broker_id == broker_id)
            return exec;
    return NULL;
}

static void attach(struct broker_peer *peer, struct exec_job *exec, uint64_t broker_id)
{
    exec->peer = peer;
    exec->broker_id = broker_id;
    list_append(&peer->jobs, &exec->of_peer);
}

static void detach(struct exec_job *exec)
{
    struct broker_peer *peer = take_ptr(&exec->peer);
    list_remove(&exec->of_peer);
    if (peer && exec->job.pid > 0)
        peer->owner->pid_named(peer->owner, peer, exec->job.pid, false);
}

static void tell_started(struct exec_job *exec, int error, enum broker_stage stage)
{
    exec_started started = take_ptr(&exec->started);
    if (started)
        started(exec, error, stage, exec->started_context);
}

/* Of a program of the agent's own: nobody asks for its result later. */
static void tell_ended(struct exec_job *exec, int error, enum broker_stage stage)
{
    if (!exec->is_own)
        return;
    struct job *job = job_ref(&exec->job);
    exec_ended ended = take_ptr(&exec->ended);
    if (ended)
        ended(exec, error, stage, exec->ended_context);
    if (job->table)
        job_table_forget(job->table, job);
    job_unref(job);
}

/* It never ran, or nobody knows whether it did. */
static void fail_start(struct exec_job *exec, int error, enum broker_stage stage)
{
    struct job *job = job_ref(&exec->job);
    detach(exec);
    tell_started(exec, error, stage);
    tell_ended(exec, error, stage);
    if (job->table)
        job_table_forget(job->table, job);
    job_unref(job);
}

static void name_job(struct broker_peer *peer, struct exec_job *exec, pid_t pid)
{
    struct job_table *jobs = peer->owner->jobs;
    struct job *other = job_table_find_pid(jobs, pid);
    if (other) {
        /* Reserved pids are there to prevent this; it takes a broker that was found too late. */
        log_warning("pid %ld names a program that runs now: an older result under it is dropped",
                    (long)pid);
        job_table_forget(jobs, other);
    }
    if (job_table_set_pid(jobs, &exec->job, pid) < 0)
        log_error("no memory: the status of pid %ld cannot be asked for", (long)pid);
    else
        peer->owner->pid_named(peer->owner, peer, pid, true);
}

static void set_start(struct exec_job *exec, const struct broker_facts *facts)
{
    exec->job.started_ms = facts->started_ms;
    exec->job.started_unix_ms = facts->started_unix_ms;
}

static void finish_job(struct exec_job *exec, const struct broker_facts *facts)
{
    struct job *job = job_ref(&exec->job); /* an abandoned one is forgotten when it is over */
    exec_job_take_result(exec, facts);
    uint64_t result_bytes = 0;
    for (size_t i = 0; i < BROKER_STREAMS; i++)
        result_bytes += exec->outputs[i].size_bytes;
    uint64_t now_ms = clock_now_ms();
    uint64_t finished_ms = facts->finished_ms < now_ms ? facts->finished_ms : now_ms;
    job_table_finish(job->table, job, JOB_DONE, finished_ms, result_bytes);
    tell_ended(exec, 0, 0);
    job_unref(job);
}

/* --- what the broker says --- */

static void handle_spawned(struct broker_peer *peer, struct exec_job *exec,
                           const struct broker_facts *facts)
{
    if (exec->job.pid > 0)
        return;
    set_start(exec, facts);
    name_job(peer, exec, facts->pid);
    tell_started(exec, 0, 0);
}

static void handle_exited(struct exec_job *exec, const struct broker_facts *facts)
{
    if (!job_is_over(&exec->job) && !exec->started)
        finish_job(exec, facts);
}

static void handle_output(struct exec_job *exec, uint32_t index, int fds[BROKER_FDS_MAX])
{
    if (exec->outputs[index].fd < 0 && !job_is_over(&exec->job))
        exec->outputs[index].fd = take_fd(&fds[0]);
}

/* A helper or a hook that outlives the agent that waited for it: nobody asks for its result. */
static void release_own(struct broker_peer *peer, uint64_t broker_id,
                        const struct broker_facts *facts)
{
    if (facts->state != BROKER_JOB_DONE)
        log_warning("a program of an earlier agent's own (pid %ld) is still running",
                    (long)facts->pid);
    struct broker_message release = {.type = BROKER_RELEASE, .job = broker_id};
    if (broker_link_send_take(peer->link, &release, -1) < 0)
        log_debug("broker (pid %ld): could not be told of a release", (long)peer->pid);
}

/* A job of an earlier agent. */
static void handle_listed(struct broker_peer *peer, uint64_t broker_id,
                          const struct broker_facts *facts, int fds[BROKER_FDS_MAX])
{
    if (peer->state != BROKER_PEER_LISTING || find_job(peer, broker_id))
        return;
    if (facts->flags & BROKER_IS_OWN) {
        release_own(peer, broker_id, facts);
        return;
    }
    struct exec_job *exec = exec_job_new(facts->capture);
    if (!exec || job_table_add_take(peer->owner->jobs, &exec->job, broker_id) < 0) {
        log_error("no memory: a job of an earlier agent (pid %ld) is not known", (long)facts->pid);
        if (exec)
            job_unref(&exec->job);
        return;
    }
    attach(peer, exec, broker_id);
    peer->listed++;
    set_start(exec, facts);
    exec->job.waiting_bytes = facts->input_left_bytes;
    exec->input_taken_bytes = facts->input_taken_bytes;
    exec->input_sent_bytes = facts->input_taken_bytes + facts->input_left_bytes;
    exec->takes_input = facts->flags & BROKER_TAKES_INPUT;
    exec->job.profile = facts->profile;
    size_t next_fd = 0;
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        if (facts->streams[i].is_present)
            exec->outputs[i].fd = take_fd(&fds[next_fd++]);
    }
    if (facts->pid > 0)
        name_job(peer, exec, facts->pid);
    if (facts->state == BROKER_JOB_DONE)
        finish_job(exec, facts);
}

static void handle_list_end(struct broker_peer *peer)
{
    if (peer->state != BROKER_PEER_LISTING)
        return;
    peer->state = BROKER_PEER_READY;
    log_info("took over %zu programs of an earlier agent from its broker (pid %ld)", peer->listed,
             (long)peer->pid);
}

static void handle_input_taken(struct exec_job *exec, uint64_t total_bytes)
{
    if (total_bytes <= exec->input_taken_bytes || total_bytes > exec->input_sent_bytes)
        return;
    exec->input_taken_bytes = total_bytes;
    exec->job.waiting_bytes = exec->input_sent_bytes - total_bytes;
}

static void on_message(void *context, const struct broker_message *message, int fds[BROKER_FDS_MAX])
{
    struct broker_peer *peer = context;
    switch (message->type) {
    case BROKER_JOB:
        handle_listed(peer, message->job, &message->facts, fds);
        return;
    case BROKER_LIST_END:
        handle_list_end(peer);
        return;
    case BROKER_LOG:
        log_write(message->log.level, "broker (pid %ld): %s", (long)peer->pid, message->log.text);
        return;
    default:
        break;
    }
    struct exec_job *exec = find_job(peer, message->job);
    if (!exec)
        return; /* it was released while this was under way */
    switch (message->type) {
    case BROKER_SPAWNED:
        handle_spawned(peer, exec, &message->facts);
        break;
    case BROKER_SPAWN_FAILED:
        exec->refusal = message->failed.reason;
        if (exec->job.pid == 0)
            fail_start(exec, message->failed.error, message->failed.stage);
        break;
    case BROKER_OUTPUT:
        handle_output(exec, message->output.index, fds);
        break;
    case BROKER_INPUT_TAKEN:
        handle_input_taken(exec, message->input_taken.total_bytes);
        break;
    case BROKER_INPUT_DONE:
        exec->job.waiting_bytes = 0;
        exec->takes_input = false;
        break;
    case BROKER_EXITED:
        handle_exited(exec, &message->facts);
        break;
    default:
        break;
    }
}

static void on_met(void *context, const struct broker_hello *hello)
{
    struct broker_peer *peer = context;
    peer->pid = hello->pid;
    peer->state = BROKER_PEER_READY;
    if (peer->is_own)
        return;
    peer->state = BROKER_PEER_LISTING;
    struct broker_message list = {.type = BROKER_LIST};
    if (broker_link_send_take(peer->link, &list, -1) < 0)
        log_error("broker (pid %ld): could not be asked for its jobs", (long)peer->pid);
}

static void lose_job(struct exec_job *exec)
{
    if (job_is_over(&exec->job)) {
        detach(exec);
    } else if (exec->job.pid == 0) {
        fail_start(exec, EPIPE, BROKER_STAGE_ACCEPT);
    } else {
        log_error("the program with pid %ld is lost: its broker is gone", (long)exec->job.pid);
        struct job *job = job_ref(&exec->job);
        detach(exec);
        job_table_finish(job->table, job, JOB_LOST, clock_now_ms(), 0);
        tell_ended(exec, 0, 0);
        job_unref(job);
    }
}

static void on_lost(void *context, int error)
{
    struct broker_peer *peer = context;
    /* Whoever is told that a start failed may do anything with the other jobs. */
    while (!list_is_empty(&peer->jobs))
        lose_job(list_first(&peer->jobs, struct exec_job, of_peer));
    peer->owner->lost(peer->owner, peer, error);
}

/* --- what it is told --- */

static const struct broker_link_events link_events = {
    .met = on_met,
    .message = on_message,
    .lost = on_lost,
};

struct broker_peer *broker_peer_new_take(struct broker_peer_owner *owner, int fd, const char *name,
                                         bool is_own)
{
    assert_on_loop();
    struct broker_peer *peer = calloc(1, sizeof(*peer));
    if (!peer) {
        close_fd(fd);
        return NULL;
    }
    list_init(&peer->of_owner);
    list_init(&peer->jobs);
    peer->owner = owner;
    peer->is_own = is_own;
    peer->name = strdup(name);
    peer->link = broker_link_new_take(owner->base, fd, &link_events, peer);
    if (!peer->name || !peer->link)
        return broker_peer_free(peer);
    return peer;
}

struct broker_peer *broker_peer_free(struct broker_peer *peer)
{
    assert_on_loop();
    if (!peer)
        return NULL;
    struct exec_job *exec;
    list_for_each (exec, &peer->jobs, struct exec_job, of_peer) {
        exec->started = NULL;
        exec->ended = NULL;
        detach(exec);
    }
    list_remove(&peer->of_owner);
    broker_link_free(peer->link);
    free(peer->name);
    free(peer);
    return NULL;
}

int broker_peer_spawn_take(struct broker_peer *peer, struct exec_job *exec,
                           struct spawn_payload *payload)
{
    assert_on_loop();
    struct broker_message message = {
        .type = BROKER_SPAWN,
        .job = exec->job.id,
        .spawn = {.flags = exec->is_own ? BROKER_IS_OWN : 0, .profile = exec->job.profile},
    };
    exec->job.waiting_bytes = payload->input_bytes;
    exec->input_sent_bytes = payload->input_bytes;
    exec->takes_input = payload->stays_open;
    int error = broker_link_send_take(peer->link, &message, take_fd(&payload->fd));
    if (!error)
        attach(peer, exec, exec->job.id);
    return error;
}

void broker_peer_release(struct exec_job *exec)
{
    assert_on_loop();
    if (!exec->peer)
        return;
    struct broker_message message = {.type = BROKER_RELEASE, .job = exec->broker_id};
    int error = broker_link_send_take(exec->peer->link, &message, -1);
    if (error && error != -EPIPE)
        log_error("broker (pid %ld): pid %ld could not be released: %s", (long)exec->peer->pid,
                  (long)exec->job.pid, strerror(-error));
    detach(exec);
}

int broker_peer_signal(struct exec_job *exec, int number, bool to_group)
{
    assert_on_loop();
    if (!exec->peer)
        return -ESRCH;
    struct broker_message message = {
        .type = BROKER_SIGNAL,
        .job = exec->broker_id,
        .signal = {.number = number, .to_group = to_group},
    };
    return broker_link_send_take(exec->peer->link, &message, -1);
}

int broker_peer_input_take(struct exec_job *exec, int memory_fd, uint64_t length, bool is_last)
{
    assert_on_loop();
    int error = !exec->peer                                 ? -ESRCH
                : broker_link_version(exec->peer->link) < 2 ? -EPROTONOSUPPORT
                                                            : 0;
    if (error) {
        close_fd(memory_fd);
        return error;
    }
    struct broker_message message = {
        .type = BROKER_INPUT,
        .job = exec->broker_id,
        .input = {.length = length, .is_last = is_last},
    };
    error = broker_link_send_take(exec->peer->link, &message, memory_fd);
    if (error)
        return error;
    exec->input_sent_bytes += length;
    exec->job.waiting_bytes += length;
    if (is_last)
        exec->takes_input = false;
    return 0;
}

void broker_peer_reserve_pid(struct broker_peer *peer, pid_t pid, bool is_reserved)
{
    assert_on_loop();
    struct broker_message message = {
        .type = is_reserved ? BROKER_RESERVE_PID : BROKER_UNRESERVE_PID,
        .reserve = {.pid = pid},
    };
    if (broker_link_send_take(peer->link, &message, -1) < 0)
        log_warning("broker (pid %ld): pid %ld could not be reserved", (long)peer->pid, (long)pid);
}
