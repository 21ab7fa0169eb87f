/* SPDX-License-Identifier: MIT */
#include "agent.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/settings.h"
#include "base/thread.h"
#include "cmds/audit.h"
#include "cmds/dispatch.h"
#include "cmds/file-table.h"
#include "cmds/freeze-state.h"
#include "cmds/freezer.h"
#include "cmds/services.h"
#include "handle-numbers.h"
#include "hot-plug.h"
#include "io/channel.h"
#include "io/session.h"
#include "jobs/broker-client.h"
#include "jobs/job-table.h"
#include "jobs/pool.h"
#include "jobs/task.h"
#include "peer.h"

/* So many requests more than the limit get through when they are reserved; fences twice that. */
enum { RESERVED_REQUESTS = 64 };

/* A worker beyond those that always stay ends after so long without work. */
enum { WORKER_IDLE_MS = 10 * 1000 };

/* How long brokers of earlier agents may take to tell what they have. */
enum { ADOPT_MS = 2000 };

/* How long hosts may take to read the last replies before the guest goes down. */
enum { FLUSH_MS = 500 };

/* How long a thaw at the agent's end, with its hook, may take before the agent ends without it. */
enum { THAW_AT_END_S = 10 };

/* How long a worker may take to come back when the agent ends. */
enum { WORKER_STOP_MS = 1000 };

struct agent_channel {
    struct agent *agent;
    char *name;
    const struct peer_rule *peer;
    struct endpoint endpoint;
    struct transport *transport;
    struct list connections;
};

struct connection {
    struct list in_channel;
    struct agent_channel *owner;
    struct channel *channel;
};

struct agent {
    const struct settings *settings;
    struct event_base *base;
    struct event *signals[3];
    struct pool *pool;
    struct scheduler *scheduler;
    struct services services;
    struct hot_plug *hot_plug;
    struct agent_channel *channels;
    size_t channel_count;
    struct event *end_timer;
    int failure; /* why the loop was left, -errno; 0: it was told to */
};

/* --- connections --- */

static void connection_end(struct connection *connection)
{
    struct agent_channel *owner = connection->owner;
    list_remove(&connection->in_channel);
    channel_free(connection->channel);
    free(connection);
    transport_disconnected(owner->transport);
}

static void on_channel_ended(void *context, struct channel *channel, int error)
{
    struct connection *connection = context;
    const char *name = connection->owner->name;
    if (error)
        log_info("channel %s: the connection ended: %s", name, strerror(error));
    else
        log_debug("channel %s: the connection ended", name);
    connection_end(connection);
}

/* Says who is refused: to the log, and to the audit. */
static void refuse_peer(struct agent_channel *owner, const char *peer)
{
    struct audit *audit = owner->agent->services.audit;
    log_warning("channel %s: %s may not connect (peer-uid, peer-gid)", owner->name, peer);
    struct audit_call call = {
        .channel = owner->name, .peer = peer, .profile = owner->endpoint.profile};
    if (audit)
        audit_decision(audit, &call, false, "peer-uid, peer-gid", NULL);
}

static void on_connected(struct transport *transport, int fd, void *context)
{
    struct agent_channel *owner = context;
    char peer[PEER_TEXT_MAX];
    peer_describe(fd, peer);
    if (!peer_is_allowed(owner->peer, fd)) {
        refuse_peer(owner, peer);
        close_fd(fd);
        transport_disconnected(transport);
        return;
    }
    struct connection *connection = calloc(1, sizeof(*connection));
    struct channel_options options = {
        .kind = transport_is_device(transport) ? CHANNEL_PORT : CHANNEL_SOCKET,
        .peer = peer,
        .endpoint = &owner->endpoint,
        .handler = dispatcher_request_handler(),
        .handler_context = owner->agent->services.dispatcher,
        .ended = on_channel_ended,
        .context = connection,
    };
    int error = -ENOMEM;
    if (connection) {
        list_init(&connection->in_channel);
        connection->owner = owner;
        error = channel_new(owner->agent->base, fd, &options, &connection->channel);
    } else {
        close_fd(fd);
    }
    if (error) {
        log_error("channel %s: a connection could not be served: %s", owner->name,
                  strerror(-error));
        free(connection);
        transport_disconnected(transport);
        return;
    }
    log_debug("channel %s: connected", owner->name);
    list_append(&owner->connections, &connection->in_channel);
}

static void on_transport_failed(struct transport *transport, int error, void *context)
{
    struct agent_channel *channel = context;
    struct agent *agent = channel->agent;
    log_error("channel %s: %s is gone: %s", channel->name, transport_path(transport),
              strerror(-error));
    /* With one channel there is nothing left to do; the service manager may start it again. */
    if (agent->channel_count == 1) {
        agent->failure = error;
        event_base_loopbreak(agent->base);
    }
}

static const struct transport_ops transport_ops = {
    .connected = on_connected,
    .failed = on_transport_failed,
};

static int agent_open_channel(struct agent *agent, struct agent_channel *channel, unsigned number,
                              const struct agent_channel_options *options, char **ret_reason)
{
    const struct settings *settings = agent->settings;
    channel->agent = agent;
    channel->peer = options->peer;
    list_init(&channel->connections);
    channel->name = strdup(options->name);
    if (!channel->name)
        return -ENOMEM;
    channel->endpoint = (struct endpoint){
        .name = channel->name,
        .number = number,
        .profile = options->profile,
        .pending_max = (unsigned)settings->pending_requests,
        .reserve = RESERVED_REQUESTS,
        .unsent_max = settings->unsent_bytes,
        .pending_bytes_max = settings->pending_bytes,
        .scanner_limits = {.message_bytes_max = settings->message_bytes,
                           .depth_max = settings->message_depth},
    };
    struct transport_options transport = {
        .method = options->method,
        .path = options->path,
        .retry_path = options->retry_path,
        .connections_max = (unsigned)settings->connections,
        .passed_fd = options->passed_fd,
        .vsock_peers = options->vsock_peers,
        .is_open_to_all = peer_rule_is_given(options->peer),
    };
    return transport_open(agent->base, &transport, &transport_ops, channel, &channel->transport,
                          ret_reason);
}

static void agent_close_channel(struct agent_channel *channel)
{
    struct connection *connection;
    list_for_each (connection, &channel->connections, struct connection, in_channel) {
        channel_flush(connection->channel);
        list_remove(&connection->in_channel);
        channel_free(connection->channel);
        free(connection);
    }
    transport_free(channel->transport);
}

/* --- the agent --- */

/* All wait for the slowest host, but a host that does not read holds nobody up twice as long. */
static void agent_flush(void *context)
{
    struct agent *agent = context;
    uint64_t until_ms = clock_now_ms() + FLUSH_MS;
    for (size_t i = 0; i < agent->channel_count; i++) {
        struct connection *connection;
        list_for_each (connection, &agent->channels[i].connections, struct connection, in_channel)
            channel_drain(connection->channel, until_ms);
    }
}

static void on_may_end(void *argument)
{
    struct agent *agent = argument;
    event_base_loopbreak(agent->base);
}

/* Nobody would be left to thaw what is frozen. */
static void on_signal(evutil_socket_t number, short events, void *argument)
{
    struct agent *agent = argument;
    log_info("ending: signal %d", (int)number);
    if (freezer_end(agent->services.freezer, on_may_end, agent))
        event_base_loopbreak(agent->base);
    else
        event_base_loopexit(agent->base, &(struct timeval){.tv_sec = THAW_AT_END_S});
}

/* So that its replies are written, and what follows from the same loss is told. */
static void on_end_timer(evutil_socket_t fd, short events, void *argument)
{
    struct agent *agent = argument;
    if (freeze_state_is_on(agent->services.freeze)) {
        evtimer_add(agent->end_timer, &(struct timeval){.tv_sec = 1});
        return;
    }
    log_error("ending, so that the service manager starts bellhopd and its broker again");
    agent->failure = -EPIPE;
    event_base_loopbreak(agent->base);
}

/*
 * An agent without its broker runs no programs, and may not fork another one. Its service manager
 * can. While the guest is frozen it stays: it knows best how to thaw.
 */
static void on_broker_lost(void *context)
{
    struct agent *agent = context;
    evtimer_add(agent->end_timer, &(struct timeval){.tv_usec = 250 * 1000});
}

static void on_log_rotated(evutil_socket_t number, short events, void *argument)
{
    struct agent *agent = argument;
    log_reopen();
    if (agent->services.audit)
        audit_reopen(agent->services.audit);
}

static int agent_catch_signals(struct agent *agent)
{
    const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        event_callback_fn callback = numbers[i] == SIGHUP ? on_log_rotated : on_signal;
        agent->signals[i] = evsignal_new(agent->base, numbers[i], callback, agent);
        if (!agent->signals[i] || event_add(agent->signals[i], NULL) < 0)
            return -ENOMEM;
    }
    return 0;
}

/*
 * Ids do not come again after a restart, and are exact in every host's JSON (below 2^53): no agent
 * starts 256 jobs in each millisecond of its life. Where the clock was set back, those of programs
 * that still run are known from their brokers.
 */
static uint64_t first_job_id(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t unix_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    return (unix_ms & ((UINT64_C(1) << 44) - 1)) * 256 + 1;
}

/* Programs that earlier agents left running are known before the first request is answered. */
static int agent_start_broker(struct agent *agent, const struct agent_options *options)
{
    struct services *services = &agent->services;
    services->jobs = job_table_new(agent->base, options->settings);
    if (!services->jobs)
        return -ENOMEM;
    job_table_start_ids(services->jobs, first_job_id());
    services->broker =
        broker_client_new_take(agent->base, services->jobs, options->statedir, options->broker);
    if (!services->broker)
        return -ENOMEM;
    if (options->is_managed) {
        agent->end_timer = evtimer_new(agent->base, on_end_timer, agent);
        if (!agent->end_timer)
            return -ENOMEM;
        broker_client_on_lost(services->broker, on_broker_lost, agent);
    }
    broker_client_adopt(services->broker, ADOPT_MS);
    struct freezer_options freezer = {
        .base = agent->base,
        .services = services,
        .state_directory = options->statedir,
        .hook = options->fsfreeze_hook,
    };
    return freezer_new(&freezer, &services->freezer);
}

static bool is_frozen(void *context)
{
    return freeze_state_is_on(context);
}

static int agent_start_engine(struct agent *agent, const struct agent_options *options)
{
    const struct settings *settings = options->settings;
    struct pool_options pool = {
        .workers = (unsigned)settings->workers,
        .workers_max = (unsigned)settings->workers_max,
        .lost_max = (unsigned)settings->workers_lost_max,
        .origins = (unsigned)options->channel_count + 1,
        .idle_ms = WORKER_IDLE_MS,
    };
    int error = pool_new(agent->base, &pool, &agent->pool);
    if (!error)
        error = scheduler_new(agent->base, agent->pool, &agent->scheduler);
    if (error)
        return error;
    int64_t first_handle;
    error = handle_numbers_take(options->statedir, &first_handle);
    if (error)
        log_warning("%s: %s: file handles may be used again by the next agent", options->statedir,
                    strerror(-error));
    agent->services.files = file_table_new(first_handle, settings->handles);
    agent->services.freeze = freeze_state_new();
    if (!agent->services.files || !agent->services.freeze)
        return -ENOMEM;
    struct dispatcher_options dispatcher = {
        .services = &agent->services,
        .pool = agent->pool,
        .scheduler = agent->scheduler,
        .gate = options->gate,
        .own_origin = (unsigned)options->channel_count,
        .is_frozen = is_frozen,
        .context = agent->services.freeze,
    };
    return dispatcher_new(&dispatcher, &agent->services.dispatcher);
}

/* An agent that cannot hear of hardware is still an agent. */
static void agent_start_hot_plug(struct agent *agent)
{
    int error = hot_plug_new(agent->base, &agent->services, &agent->hot_plug);
    if (error)
        log_warning("what is plugged in will not be brought online: %s", strerror(-error));
}

int agent_new(const struct agent_options *options, struct agent **ret_agent, char **ret_reason)
{
    thread_set_role(THREAD_LOOP);
    *ret_reason = NULL;
    struct agent *agent = calloc(1, sizeof(*agent));
    if (!agent)
        return -ENOMEM;
    agent->settings = options->settings;
    agent->services.settings = options->settings;
    agent->services.policy = options->policy;
    agent->services.audit = options->audit;
    agent->services.flush = agent_flush;
    agent->services.flush_context = agent;
    agent->base = event_base_new();
    agent->channels = calloc(options->channel_count, sizeof(*agent->channels));
    int error = agent->base && agent->channels ? agent_catch_signals(agent) : -ENOMEM;
    if (!error)
        error = agent_start_engine(agent, options);
    if (!error)
        error = agent_start_broker(agent, options);
    for (size_t i = 0; !error && i < options->channel_count; i++) {
        agent->channel_count++;
        error = agent_open_channel(agent, &agent->channels[i], (unsigned)i, &options->channels[i],
                                   ret_reason);
    }
    if (error) {
        agent_free(agent);
        return error;
    }
    agent_start_hot_plug(agent);
    *ret_agent = agent;
    return 0;
}

int agent_run(struct agent *agent)
{
    if (event_base_dispatch(agent->base) < 0)
        return -EIO;
    if (freeze_state_is_on(agent->services.freeze))
        log_error("the thaw hangs: it is left to the guard");
    return agent->failure;
}

bool agent_free(struct agent *agent)
{
    if (!agent)
        return true;
    for (size_t i = 0; i < agent->channel_count; i++)
        agent_close_channel(&agent->channels[i]);
    agent->hot_plug = hot_plug_free(agent->hot_plug);
    /* What is cut short keeps its memory: nobody is left who could carry it through its end. */
    bool is_idle = !agent->scheduler || scheduler_is_idle(agent->scheduler);
    if (!pool_free(agent->pool, WORKER_STOP_MS) || !is_idle)
        return false;
    for (size_t i = 0; i < agent->channel_count; i++)
        free(agent->channels[i].name);
    free(agent->channels);
    agent->services.dispatcher = dispatcher_free(agent->services.dispatcher);
    file_table_free(agent->services.files);
    freeze_state_free(agent->services.freeze);
    freezer_free(agent->services.freezer);
    broker_client_free(agent->services.broker);
    job_table_free(agent->services.jobs);
    scheduler_free(agent->scheduler);
    for (size_t i = 0; i < ARRAY_SIZE(agent->signals); i++)
        if (agent->signals[i])
            event_free(agent->signals[i]);
    if (agent->end_timer)
        event_free(agent->end_timer);
    if (agent->base)
        event_base_free(agent->base);
    free(agent);
    return true;
}
