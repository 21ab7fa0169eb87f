/* SPDX-License-Identifier: MIT */
#include "jobs/broker-client.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "jobs/broker-link.h"
#include "jobs/broker-peer.h"
#include "jobs/broker-socket.h"
#include "jobs/broker.h"

/* One connection each; far more than restarts can have left behind. */
#define ADOPTED_MAX 64

struct broker_client {
    struct broker_peer_owner owner;
    char *state_directory;
    char *own_socket_name;   /* NULL: it has none */
    struct broker_peer *own; /* NULL: gone */
    struct list peers;
    size_t peer_count;
    pid_t pid; /* of the own broker, until it was reaped */
    int pidfd;
    struct event *process;
    void (*lost)(void *context); /* NULL: nobody wants to know */
    void *lost_context;
};

static struct broker_client *client_of(struct broker_peer_owner *owner)
{
    return list_entry(owner, struct broker_client, owner);
}

/* --- what peers tell --- */

static void pid_named(struct broker_peer_owner *owner, struct broker_peer *peer, pid_t pid,
                      bool is_named)
{
    struct broker_client *client = client_of(owner);
    if (client->own && peer != client->own)
        broker_peer_reserve_pid(client->own, pid, is_named);
}

static void peer_lost(struct broker_peer_owner *owner, struct broker_peer *peer, int error)
{
    struct broker_client *client = client_of(owner);
    bool is_own = peer == client->own;
    if (is_own) {
        client->own = NULL;
        log_error("the broker is gone%s%s: no programs can be run until bellhopd is started again",
                  error ? ": " : "", error ? strerror(-error) : "");
    } else if (error == -EPROTONOSUPPORT) {
        log_warning("the broker at %s is of another version: its programs go on, their results "
                    "cannot be had",
                    peer->name);
    } else if (error) {
        log_warning("the broker at %s: %s", peer->name, strerror(-error));
    } else {
        log_debug("the broker at %s of an earlier agent has ended", peer->name);
    }
    client->peer_count--;
    broker_peer_free(peer);
    if (is_own && client->lost)
        client->lost(client->lost_context);
}

/* The own broker is a child of the agent's, and it alone must reap it. */
static void process_has_ended(evutil_socket_t fd, short what, void *context)
{
    struct broker_client *client = context;
    int status;
    if (waitpid(client->pid, &status, WNOHANG) != client->pid)
        return;
    event_del(client->process);
    if (WIFSIGNALED(status))
        log_error("the broker (pid %ld) was killed by signal %d", (long)client->pid,
                  WTERMSIG(status));
    else
        log_warning("the broker (pid %ld) ended with status %d", (long)client->pid,
                    WEXITSTATUS(status));
    client->pid = 0;
}

/* --- its life --- */

static void watch_process(struct broker_client *client)
{
    client->pidfd = (int)syscall(SYS_pidfd_open, client->pid, 0);
    if (client->pidfd >= 0)
        client->process = event_new(client->owner.base, client->pidfd, EV_READ | EV_PERSIST,
                                    process_has_ended, client);
    /* Without it the broker's end is noticed all the same, only not its cause. */
    if (!client->process || event_add(client->process, NULL) < 0)
        log_warning("the broker (pid %ld) cannot be watched", (long)client->pid);
}

static struct broker_peer *add_peer(struct broker_client *client, int fd, const char *name,
                                    bool is_own)
{
    struct broker_peer *peer = broker_peer_new_take(&client->owner, fd, name, is_own);
    if (peer) {
        list_append(&client->peers, &peer->of_owner);
        client->peer_count++;
    }
    return peer;
}

struct broker_client *broker_client_new_take(struct event_base *base, struct job_table *jobs,
                                             const char *state_directory,
                                             struct broker_process *process)
{
    assert_on_loop();
    struct broker_client *client = calloc(1, sizeof(*client));
    if (!client) {
        broker_process_deinit(process);
        return NULL;
    }
    client->owner = (struct broker_peer_owner){
        .base = base, .jobs = jobs, .pid_named = pid_named, .lost = peer_lost};
    list_init(&client->peers);
    client->pid = process->pid;
    client->pidfd = -1;
    client->own_socket_name = take_ptr(&process->socket_name);
    client->state_directory = strdup(state_directory);
    client->own = add_peer(client, take_fd(&process->fd), "its own socket", true);
    broker_process_deinit(process);
    if (!client->own || !client->state_directory)
        return broker_client_free(client);
    watch_process(client);
    return client;
}

void broker_client_on_lost(struct broker_client *client, void (*lost)(void *context), void *context)
{
    client->lost = lost;
    client->lost_context = context;
}

struct broker_client *broker_client_free(struct broker_client *client)
{
    assert_on_loop();
    if (!client)
        return NULL;
    /* First, so that no pid is reserved or given back any more. */
    client->own = NULL;
    while (!list_is_empty(&client->peers))
        broker_peer_free(list_first(&client->peers, struct broker_peer, of_owner));
    if (client->process)
        event_free(client->process);
    close_fd(client->pidfd);
    free(client->own_socket_name);
    free(client->state_directory);
    free(client);
    return NULL;
}

/* --- earlier brokers --- */

static void connect_to(struct broker_client *client, int directory_fd, const char *name)
{
    int fd = broker_socket_connect(directory_fd, name);
    if (fd == -ECONNREFUSED) {
        log_debug("removing %s, a socket that no broker listens on any more", name);
        (void)unlinkat(directory_fd, name, 0);
        return;
    }
    if (fd == -ENOENT)
        return; /* it ended just now */
    if (fd < 0) {
        log_warning("the broker at %s cannot be reached: %s", name, strerror(-fd));
        return;
    }
    if (!add_peer(client, fd, name, false))
        log_error("no memory for the broker at %s", name);
}

static void connect_to_all(struct broker_client *client)
{
    _cleanup_close_ int directory_fd = broker_directory_open(client->state_directory);
    if (directory_fd < 0)
        return; /* broker_start() met the same, and it was reported */
    int listing_fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (listing_fd < 0)
        return;
    _cleanup_closedir_ DIR *listing = fdopendir(listing_fd);
    if (!listing) {
        close_fd(listing_fd);
        return;
    }
    struct dirent *entry;
    while ((entry = readdir(listing)) && client->peer_count <= ADOPTED_MAX) {
        if (!broker_socket_is_name(entry->d_name))
            continue;
        if (client->own_socket_name && strcmp(entry->d_name, client->own_socket_name) == 0)
            continue;
        connect_to(client, directory_fd, entry->d_name);
    }
}

/* Fills in those that have not listed their jobs yet. */
static size_t collect_waiting(const struct broker_client *client,
                              struct broker_peer *ret_peers[ADOPTED_MAX],
                              struct pollfd ret_fds[ADOPTED_MAX])
{
    size_t count = 0;
    struct broker_peer *peer;
    list_for_each (peer, &client->peers, struct broker_peer, of_owner) {
        if (peer == client->own || peer->state == BROKER_PEER_READY || count == ADOPTED_MAX)
            continue;
        ret_peers[count] = peer;
        ret_fds[count++] = (struct pollfd){.fd = broker_link_fd(peer->link), .events = POLLIN};
    }
    return count;
}

void broker_client_adopt(struct broker_client *client, unsigned timeout_ms)
{
    assert_on_loop();
    struct broker_peer *peers[ADOPTED_MAX];
    struct pollfd fds[ADOPTED_MAX];
    uint64_t end_ms = clock_now_ms() + timeout_ms;
    size_t count;

    connect_to_all(client);
    while ((count = collect_waiting(client, peers, fds)) > 0) {
        uint64_t now_ms = clock_now_ms();
        if (now_ms >= end_ms || (poll(fds, count, (int)(end_ms - now_ms)) < 0 && errno != EINTR))
            break;
        /* A peer that is lost in this is freed, but it is no other than the one that was read. */
        for (size_t i = 0; i < count; i++)
            if (fds[i].revents)
                broker_link_read(peers[i]->link);
    }
    for (size_t i = 0; i < count; i++)
        log_warning("the broker at %s does not answer: the results it has may appear later",
                    peers[i]->name);
}

/* --- programs --- */

static struct job_demand demand_of(const struct broker_client *client,
                                   const struct spawn_payload *payload)
{
    uint64_t streams = payload->capture == BROKER_CAPTURE_NONE        ? 0
                       : payload->capture == BROKER_CAPTURE_SEPARATED ? 2
                                                                      : 1;
    return (struct job_demand){
        .output_bytes = streams * job_table_settings(client->owner.jobs)->exec_stream_bytes,
        .input_bytes = payload->input_bytes,
    };
}

/* The job's one reference is taken. */
static int start_take(struct broker_client *client, struct spawn_payload *payload,
                      struct exec_job *exec, char ret_reason[JOB_REASON_MAX])
{
    struct job_table *jobs = client->owner.jobs;
    int error = job_table_add_take(jobs, &exec->job, 0);
    if (error) {
        job_unref(&exec->job);
        snprintf(ret_reason, JOB_REASON_MAX, "out of memory");
        return error;
    }
    error = broker_peer_spawn_take(client->own, exec, payload);
    if (error) {
        snprintf(ret_reason, JOB_REASON_MAX, "the broker takes nothing: %s", strerror(-error));
        job_table_forget(jobs, &exec->job);
    }
    return error;
}

static int spawn(struct broker_client *client, struct spawn_payload *payload, bool is_own,
                 struct exec_job **ret_job, char ret_reason[JOB_REASON_MAX])
{
    if (!client->own) {
        snprintf(ret_reason, JOB_REASON_MAX,
                 "the broker, which runs programs, is gone; bellhopd has to be started again");
        return -EPIPE;
    }
    struct job_demand demand = demand_of(client, payload);
    int error = is_own ? 0 : job_table_admit(client->owner.jobs, &demand, ret_reason);
    if (error)
        return error;
    struct exec_job *exec = exec_job_new(payload->capture);
    if (!exec) {
        snprintf(ret_reason, JOB_REASON_MAX, "out of memory");
        return -ENOMEM;
    }
    exec->is_own = is_own;
    exec->job.profile = payload->profile;
    error = start_take(client, payload, exec, ret_reason);
    if (!error)
        *ret_job = exec;
    return error;
}

int broker_client_spawn_take(struct broker_client *client, struct spawn_payload *payload,
                             exec_started started, void *context, struct exec_job **ret_job,
                             char ret_reason[JOB_REASON_MAX])
{
    assert_on_loop();
    struct exec_job *exec;
    int error = spawn(client, payload, false, &exec, ret_reason);
    spawn_payload_deinit(payload);
    if (error)
        return error;
    /* Nothing is told before the loop runs again. */
    exec->started = started;
    exec->started_context = context;
    *ret_job = exec;
    return 0;
}

int broker_client_run_take(struct broker_client *client, struct spawn_payload *payload,
                           exec_ended ended, void *context, char ret_reason[JOB_REASON_MAX])
{
    struct exec_job *exec;
    return broker_client_run_job_take(client, payload, ended, context, &exec, ret_reason);
}

int broker_client_run_job_take(struct broker_client *client, struct spawn_payload *payload,
                               exec_ended ended, void *context, struct exec_job **ret_job,
                               char ret_reason[JOB_REASON_MAX])
{
    assert_on_loop();
    struct exec_job *exec;
    int error = spawn(client, payload, true, &exec, ret_reason);
    spawn_payload_deinit(payload);
    if (error)
        return error;
    exec->ended = ended;
    exec->ended_context = context;
    *ret_job = exec;
    return 0;
}

int broker_client_kill(struct broker_client *client, const void *context)
{
    assert_on_loop();
    struct exec_job *exec;
    if (!client->own)
        return -ESRCH;
    list_for_each (exec, &client->own->jobs, struct exec_job, of_peer)
        if (exec->is_own && exec->ended_context == context)
            return broker_peer_signal(exec, SIGKILL, true);
    return -ESRCH;
}

int broker_client_input_take(struct broker_client *client, struct exec_job *exec, int memory_fd,
                             uint64_t length, bool is_last)
{
    assert_on_loop();
    return broker_peer_input_take(exec, memory_fd, length, is_last);
}

int broker_client_signal(struct broker_client *client, struct exec_job *exec, int number,
                         bool to_group)
{
    assert_on_loop();
    return broker_peer_signal(exec, number, to_group);
}
