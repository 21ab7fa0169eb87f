/* SPDX-License-Identifier: MIT */
#include "jobs/broker-server.h"

#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "jobs/broker-job.h"
#include "jobs/broker-memory.h"
#include "jobs/broker-pids.h"
#include "jobs/broker-poll.h"
#include "jobs/broker-protocol.h"
#include "jobs/broker-socket.h"

struct broker_server {
    struct broker_context context; /* of its jobs */
    struct broker_source agent;    /* fd -1: there is none */
    struct broker_source listener;
    struct broker_source signals;
    uint64_t retention_ms;

    bool is_retired;    /* accepts no spawn any more */
    bool is_ending;     /* asked to end: stays for running programs only */
    bool agent_is_met;  /* its hello came */
    bool agent_is_told; /* it gets the notes of jobs */
    bool agent_is_full; /* its socket takes nothing for now */
    bool list_is_due;   /* LIST_END follows the jobs that are listed */

    struct list jobs;
    struct list noted;
    struct list lingering;
    struct list finished; /* results that are kept, oldest first */
    struct list timed;    /* have a time limit */

    struct broker_pids reserved; /* of results that the agent has from other brokers */
};

static struct broker_server *server_of(struct broker_context *context)
{
    return list_entry(context, struct broker_server, context);
}

/* --- the agent's side --- */

static void lose_agent(struct broker_server *server)
{
    broker_source_close(server->context.poll_fd, &server->agent);
    server->is_retired = true;
    server->agent_is_met = server->agent_is_told = server->agent_is_full = false;
    server->list_is_due = false;
    broker_pids_clear(&server->reserved);

    /* Whoever comes next asks for the list, and notes that are dropped make failed jobs idle. */
    struct broker_job *job;
    list_for_each (job, &server->jobs, struct broker_job, all) {
        list_remove(&job->noted);
        list_append(&server->noted, &job->noted);
    }
    broker_source_want(server->context.poll_fd, &server->listener, EPOLLIN);
}

/* Returns 0, or -EAGAIN when the rest has to wait. An agent that is gone is noticed by its event.
 */
static int send_to_agent(struct broker_server *server, const void *packet, size_t length,
                         const int *fds, size_t fd_count)
{
    if (server->agent_is_full)
        return -EAGAIN;
    int error = broker_send(server->agent.fd, packet, length, fds, fd_count);
    if (error == 0)
        return 0;
    if (error == -EAGAIN) {
        server->agent_is_full = true;
        broker_source_want(server->context.poll_fd, &server->agent, EPOLLIN | EPOLLOUT);
    } else {
        /* The end of the connection becomes readable, and that is where it is dealt with. */
        (void)shutdown(server->agent.fd, SHUT_RDWR);
        server->agent_is_full = true;
    }
    return -EAGAIN;
}

/* For the agent's log. Dropped when there is no agent, or no room. */
static void tell(struct broker_server *server, enum log_level level, const char *format, ...)
    PRINTF_LIKE(3, 4);

static void tell(struct broker_server *server, enum log_level level, const char *format, ...)
{
    if (!server->agent_is_met)
        return;
    struct broker_message message = {.type = BROKER_LOG, .log = {.level = level}};
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message.log.text, sizeof(message.log.text), format, arguments);
    va_end(arguments);
    (void)!send_to_agent(server, &message, sizeof(message), NULL, 0);
}

static int send_job(struct broker_server *server, const struct broker_job *job)
{
    struct broker_message message = {.type = BROKER_JOB, .job = job->id};
    int fds[BROKER_STREAMS];
    size_t fd_count = 0;
    broker_job_facts(job, &message.facts);
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        if (message.facts.streams[i].is_present)
            fds[fd_count++] = job->streams[i].memory_fd;
    }
    return send_to_agent(server, &message, sizeof(message), fds, fd_count);
}

static int send_output(struct broker_server *server, const struct broker_job *job, uint32_t index)
{
    if (job->streams[index].memory_fd < 0)
        return 0; /* released meanwhile */
    struct broker_message message = {
        .type = BROKER_OUTPUT, .job = job->id, .output = {.index = index}};
    return send_to_agent(server, &message, sizeof(message), &job->streams[index].memory_fd, 1);
}

static int send_note(struct broker_server *server, const struct broker_job *job,
                     enum broker_note note)
{
    struct broker_message message = {.job = job->id};
    switch (note) {
    case BROKER_NOTE_LISTED:
        return send_job(server, job);
    case BROKER_NOTE_OUTPUT:
    case BROKER_NOTE_OUTPUT_SECOND:
        return send_output(server, job, note == BROKER_NOTE_OUTPUT ? 0 : 1);
    case BROKER_NOTE_SPAWNED:
        message.type = BROKER_SPAWNED;
        broker_job_facts(job, &message.facts);
        message.facts.state = BROKER_JOB_RUNNING; /* it may have ended since; EXITED follows */
        break;
    case BROKER_NOTE_SPAWN_FAILED:
        message.type = BROKER_SPAWN_FAILED;
        message.failed.error = job->failed_error;
        message.failed.stage = job->failed_stage;
        snprintf(message.failed.reason, sizeof(message.failed.reason), "%s",
                 job->failed_reason ? job->failed_reason : "");
        break;
    case BROKER_NOTE_INPUT_TAKEN:
        message.type = BROKER_INPUT_TAKEN;
        message.input_taken.total_bytes = job->input.taken_bytes;
        break;
    case BROKER_NOTE_INPUT_DONE:
        message.type = BROKER_INPUT_DONE;
        break;
    case BROKER_NOTE_EXITED:
        message.type = BROKER_EXITED;
        broker_job_facts(job, &message.facts);
        break;
    }
    return send_to_agent(server, &message, sizeof(message), NULL, 0);
}

/* Tells the agent what is due, as far as there is room. False: the rest waits for room. */
static bool send_notes(struct broker_server *server, struct broker_job *job)
{
    if (!server->agent_is_told)
        job->notes = 0;
    while (job->notes) {
        unsigned note = job->notes & -job->notes;
        if (send_note(server, job, note) < 0)
            return false;
        job->notes &= ~note;
    }
    return true;
}

/* Looks at every job that changed: tells of it, and lets go of what is idle. */
static void settle(struct broker_server *server)
{
    struct broker_job *job;
    list_for_each (job, &server->noted, struct broker_job, noted) {
        if (!send_notes(server, job))
            return;
        list_remove(&job->noted);
        if (broker_job_is_idle(job))
            broker_job_free(job);
    }
    if (server->list_is_due) {
        struct broker_message message = {.type = BROKER_LIST_END};
        if (send_to_agent(server, &message, sizeof(message), NULL, 0) == 0)
            server->list_is_due = false;
    }
}

/* A job calls this from within itself: nothing is sent and nothing freed before settle(). */
static void job_has_changed(struct broker_job *job)
{
    struct broker_server *server = server_of(job->context);
    list_remove(&job->noted);
    list_append(&server->noted, &job->noted);

    list_remove(&job->lingers);
    if (broker_job_lingers(job))
        list_append(&server->lingering, &job->lingers);
    list_remove(&job->timed);
    if (job->due_ms > 0)
        list_append(&server->timed, &job->timed);
    if (job->state == BROKER_JOB_DONE && !job->is_released && list_is_empty(&job->finished))
        list_append(&server->finished, &job->finished);
}

/* --- what the agent asks for --- */

static struct broker_job *find_job(struct broker_server *server, uint64_t id)
{
    struct broker_job *job;
    list_for_each (job, &server->jobs, struct broker_job, all) {
        if (job->id == id)
            return job;
    }
    return NULL;
}

/* The reason is a text for the client if it is the policy that refuses it, else NULL. */
static void refuse_spawn(struct broker_server *server, uint64_t id, int error, const char *reason)
{
    struct broker_job *job = broker_job_new_refused(&server->context, id, error, reason);
    if (job)
        list_append(&server->jobs, &job->all);
    else /* the agent must not wait for an answer that never comes */
        (void)shutdown(server->agent.fd, SHUT_RDWR);
}

static void handle_spawn(struct broker_server *server, const struct broker_message *message,
                         int payload_fd)
{
    uint64_t id = message->job;
    const struct broker_asker asker = {
        .profile = message->spawn.profile,
        .is_own = message->spawn.flags & BROKER_IS_OWN,
    };
    char reason[CHILD_REASON_MAX] = "";
    struct spawn_plan plan = SPAWN_PLAN_INIT;
    int error = spawn_plan_open_take(payload_fd, &plan);
    if (!error && server->is_retired)
        error = -ESHUTDOWN;
    if (!error && find_job(server, id))
        error = -EEXIST;
    if (!error)
        error = broker_policy_check(server->context.policy, &asker, &plan, reason);
    if (error) {
        spawn_plan_deinit(&plan);
        refuse_spawn(server, id, -error, reason[0] ? reason : NULL);
        return;
    }
    struct broker_job *job = broker_job_new_take(&server->context, id, &asker, &plan);
    if (!job) {
        refuse_spawn(server, id, ENOMEM, NULL);
        return;
    }
    list_append(&server->jobs, &job->all);
    if (job->due_ms > 0)
        list_append(&server->timed, &job->timed);
}

static void add_input(struct broker_server *server, struct broker_job *job,
                      const struct broker_message *message, int memory_fd)
{
    uint64_t size_bytes = 0;
    uint64_t length = message->input.length;
    int error = 0;
    if (length > 0 && (!broker_memory_is_sealed(memory_fd, &size_bytes) || size_bytes < length))
        error = -EBADMSG;
    if (!error)
        error = broker_job_add_input(job, memory_fd, length, message->input.is_last);
    /* It takes no more just now; the agent is told that anyway. */
    if (error && error != -EPIPE)
        tell(server, LOG_ERROR, "%llu bytes of input for pid %ld are lost: %s",
             (unsigned long long)length, (long)job->pid, strerror(-error));
}

static void release_job(struct broker_server *server, struct broker_job *job)
{
    broker_job_release(job);
    list_remove(&job->finished);
    job->notes = 0;
    job_has_changed(job);
}

/* Called in a child, on its copy of all this. */
static bool pid_is_taken(const void *context, pid_t pid)
{
    const struct broker_server *server = context;
    const struct broker_job *job;
    list_for_each (job, &server->jobs, const struct broker_job, all) {
        if (job->pid == pid && job->has_ended && !job->has_failed && !job->is_released)
            return true;
    }
    return broker_pids_have(&server->reserved, pid);
}

static uint64_t count_under(struct broker_context *context, size_t rule)
{
    const struct broker_server *server = server_of(context);
    const struct broker_job *job;
    uint64_t count = 0;
    list_for_each (job, &server->jobs, const struct broker_job, all)
        count += job->has_rule && job->rule == rule && !job->has_ended;
    return count;
}

static void list_jobs(struct broker_server *server)
{
    struct broker_job *job;
    list_for_each (job, &server->jobs, struct broker_job, all) {
        /* What was not told so far is in the listing. What nobody can ask for is not listed. */
        job->notes = job->has_failed || job->is_released ? 0 : BROKER_NOTE_LISTED;
        job_has_changed(job);
    }
    server->agent_is_told = true;
    server->list_is_due = true;
}

static void handle_message(struct broker_server *server, const struct broker_message *message,
                           int fds[BROKER_FDS_MAX])
{
    struct broker_job *job;
    switch (message->type) {
    case BROKER_SPAWN:
        handle_spawn(server, message, take_fd(&fds[0]));
        return;
    case BROKER_RESERVE_PID:
        if (broker_pids_add(&server->reserved, message->reserve.pid) < 0)
            tell(server, LOG_WARNING, "no memory to reserve pid %ld", (long)message->reserve.pid);
        return;
    case BROKER_UNRESERVE_PID:
        broker_pids_remove(&server->reserved, message->reserve.pid);
        return;
    case BROKER_LIST:
        list_jobs(server);
        return;
    default:
        break;
    }
    job = find_job(server, message->job);
    if (!job || job->is_released)
        return; /* it ended, or failed, while this was under way */
    if (message->type == BROKER_RELEASE)
        release_job(server, job);
    else if (message->type == BROKER_INPUT)
        add_input(server, job, message, fds[0]);
    else if (broker_job_signal(job, message->signal.number, message->signal.to_group) < 0)
        tell(server, LOG_DEBUG, "job %llu has ended, signal %d reaches nobody",
             (unsigned long long)job->id, message->signal.number);
}

/* Returns false if there is no going on with this agent. */
static bool meet_agent(struct broker_server *server, const struct broker_hello *hello,
                       size_t length, size_t fd_count)
{
    if (!broker_hello_is_valid(hello, length, fd_count))
        return false;
    struct broker_hello reply = {
        .magic = BROKER_HELLO_MAGIC,
        .version_min = BROKER_PROTOCOL_VERSION,
        .version_max = BROKER_PROTOCOL_VERSION,
        .flags = server->is_retired ? BROKER_IS_RETIRED : 0,
        .pid = getpid(),
    };
    if (send_to_agent(server, &reply, sizeof(reply), NULL, 0) < 0)
        return false;
    server->agent_is_met = true;
    server->agent_is_told = !server->is_retired; /* a later agent asks for the list first */
    return hello->version_min <= BROKER_PROTOCOL_VERSION &&
           hello->version_max >= BROKER_PROTOCOL_VERSION;
}

/* Reads one packet. Returns false when the agent is to be lost. */
static bool read_agent(struct broker_server *server)
{
    union {
        struct broker_hello hello;
        struct broker_message message;
    } packet;
    int fds[BROKER_FDS_MAX];
    size_t fd_count;
    int length = broker_receive(server->agent.fd, &packet, sizeof(packet), fds, &fd_count);
    if (length == -EAGAIN)
        return true;
    if (length == 0 || (length < 0 && length != -EBADMSG))
        return false;

    bool goes_on = true;
    if (!server->agent_is_met)
        goes_on = length > 0 && meet_agent(server, &packet.hello, (size_t)length, fd_count);
    else if (length > 0 &&
             broker_message_is_valid(&packet.message, (size_t)length, fd_count, false))
        handle_message(server, &packet.message, fds);
    else if (length == sizeof(packet.message) && packet.message.type == BROKER_SPAWN &&
             fd_count == BROKER_FDS_LOST)
        refuse_spawn(server, packet.message.job, EMFILE, NULL);
    else
        tell(server, LOG_ERROR, "a message was not understood and passed over");
    for (size_t i = 0; i < BROKER_FDS_MAX; i++)
        close_fd(fds[i]);
    return goes_on;
}

static void agent_is_ready(struct broker_source *source, uint32_t events)
{
    struct broker_server *server = list_entry(source, struct broker_server, agent);
    if (events & EPOLLOUT) {
        server->agent_is_full = false;
        broker_source_want(server->context.poll_fd, source, EPOLLIN);
    }
    /* What was sent before the other side ended is still read, one packet a time. */
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !read_agent(server))
        lose_agent(server);
}

static void listener_is_ready(struct broker_source *source, uint32_t events)
{
    struct broker_server *server = list_entry(source, struct broker_server, listener);
    _cleanup_close_ int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 || !broker_socket_peer_is_trusted(fd))
        return;
    if (broker_source_open_take(server->context.poll_fd, &server->agent, fd, EPOLLIN,
                                agent_is_ready) < 0)
        return;
    take_fd(&fd);
    /* One agent at a time. Another waits in the backlog until this one is gone. */
    broker_source_want(server->context.poll_fd, source, 0);
}

/*
 * SIGTERM: somebody wants every process of this agent to end, programs too (systemd stopping a
 * whole control group, a shutdown). The broker waits for the programs and for nothing else, so it
 * holds nobody up longer than they do.
 */
static void signal_has_come(struct broker_source *source, uint32_t events)
{
    struct broker_server *server = list_entry(source, struct broker_server, signals);
    struct signalfd_siginfo info;
    if (read(source->fd, &info, sizeof(info)) != sizeof(info))
        return;
    tell(server, LOG_WARNING, "got SIGTERM: takes no programs any more, ends with the last one");
    server->is_ending = server->is_retired = true;
}

/* --- time --- */

static int next_timeout_ms(const struct broker_server *server)
{
    uint64_t next_ms = UINT64_MAX;
    const struct broker_job *job;
    list_for_each (job, &server->lingering, const struct broker_job, lingers) {
        uint64_t until_ms = broker_job_linger_until(job);
        if (until_ms < next_ms)
            next_ms = until_ms;
    }
    list_for_each (job, &server->timed, const struct broker_job, timed) {
        if (job->due_ms < next_ms)
            next_ms = job->due_ms;
    }
    job = list_first(&server->finished, const struct broker_job, finished);
    if (job && server->agent.fd < 0 && job->finished_ms + server->retention_ms < next_ms)
        next_ms = job->finished_ms + server->retention_ms;
    if (next_ms == UINT64_MAX)
        return -1;
    uint64_t now_ms = clock_now_ms();
    uint64_t wait_ms = next_ms > now_ms ? next_ms - now_ms : 0;
    return wait_ms > 60000 ? 60000 : (int)wait_ms;
}

static void check_times(struct broker_server *server)
{
    uint64_t now_ms = clock_now_ms();
    struct broker_job *job;
    list_for_each (job, &server->lingering, struct broker_job, lingers)
        broker_job_check(job, now_ms);
    list_for_each (job, &server->timed, struct broker_job, timed)
        broker_job_check_due(job, now_ms);
    /* While there is an agent, it is the agent that knows what has been seen and what is too old.
     */
    if (server->agent.fd >= 0)
        return;
    list_for_each (job, &server->finished, struct broker_job, finished) {
        if (job->finished_ms + server->retention_ms > now_ms)
            break;
        release_job(server, job);
    }
}

static bool programs_have_ended(const struct broker_server *server)
{
    const struct broker_job *job;
    list_for_each (job, &server->jobs, const struct broker_job, all) {
        if (!job->has_ended || job->is_unreaped)
            return false;
    }
    return true;
}

static bool is_finished(const struct broker_server *server)
{
    if (server->is_ending)
        return programs_have_ended(server) && list_is_empty(&server->lingering);
    if (!list_is_empty(&server->jobs))
        return false;
    /* One that spawns no more and has nothing more has no use for a later agent either. */
    return server->agent.fd < 0 ||
           (server->is_retired && server->agent_is_told && !server->list_is_due);
}

/* --- the process --- */

static int watch_signals(struct broker_server *server)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    _cleanup_close_ int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    int error = broker_source_open_take(server->context.poll_fd, &server->signals, fd, EPOLLIN,
                                        signal_has_come);
    if (!error)
        take_fd(&fd);
    return error;
}

static int open_sources(struct broker_server *server, const struct broker_server_options *options)
{
    int poll_fd = server->context.poll_fd;
    int error = broker_source_open_take(poll_fd, &server->agent, options->agent_fd, EPOLLIN,
                                        agent_is_ready);
    if (!error && options->listener_fd >= 0)
        error = broker_source_open_take(poll_fd, &server->listener, options->listener_fd, 0,
                                        listener_is_ready);
    return error ? error : watch_signals(server);
}

static void deinit(struct broker_server *server)
{
    struct broker_job *job;
    list_for_each (job, &server->jobs, struct broker_job, all)
        broker_job_free(job);
    broker_source_close(server->context.poll_fd, &server->agent);
    broker_source_close(server->context.poll_fd, &server->listener);
    broker_source_close(server->context.poll_fd, &server->signals);
    close_fd(server->context.poll_fd);
    broker_pids_deinit(&server->reserved);
}

int broker_server_run(const struct broker_server_options *options)
{
    struct broker_server server = {
        .context =
            {
                .poll_fd = broker_poll_new(),
                .budget = {.max_bytes = options->output_bytes_max},
                .stream_bytes_max = options->stream_bytes_max,
                .input_bytes_max = options->input_bytes_max,
                .origin = options->origin,
                .search_path = getenv("PATH"),
                .pid_is_taken = pid_is_taken,
                .pid_context = &server,
                .changed = job_has_changed,
                .policy = options->policy,
                .filters = options->filters,
                .count_under = count_under,
            },
        .agent = BROKER_SOURCE_INIT,
        .listener = BROKER_SOURCE_INIT,
        .signals = BROKER_SOURCE_INIT,
        .retention_ms = options->retention_ms,
    };
    list_init(&server.jobs);
    list_init(&server.noted);
    list_init(&server.lingering);
    list_init(&server.finished);
    list_init(&server.timed);

    int error =
        server.context.poll_fd < 0 ? server.context.poll_fd : open_sources(&server, options);
    while (!error && !is_finished(&server)) {
        error = broker_poll_once(server.context.poll_fd, next_timeout_ms(&server));
        check_times(&server);
        settle(&server);
    }
    deinit(&server);
    return error;
}
