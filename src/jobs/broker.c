/* SPDX-License-Identifier: MIT */
#include "jobs/broker.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/settings.h"
#include "jobs/broker-policy.h"
#include "jobs/broker-server.h"
#include "jobs/broker-socket.h"

#define OPEN_FILES_MAX 65536 /* far more than the limits on jobs can need */
#define OOM_SCORE_ADJ  (-900)

/*
 * Signals: nothing of what is sent to the agent, its terminal or its process group ends the broker.
 * SIGTERM is read from a descriptor; SIGCHLD must not be ignored, or the kernel would reap.
 */
static void settle_signals(void)
{
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        /* A sanitizer has handlers for these. */
        if (number != SIGSEGV && number != SIGBUS && number != SIGFPE && number != SIGILL)
            (void)sigaction(number, &by_default, NULL);
    }
    sigset_t set;
    sigfillset(&set);
    sigdelset(&set, SIGSEGV);
    sigdelset(&set, SIGBUS);
    sigdelset(&set, SIGFPE);
    sigdelset(&set, SIGILL);
    sigdelset(&set, SIGABRT);
    sigdelset(&set, SIGTRAP);
    sigprocmask(SIG_SETMASK, &set, NULL);
}

/*
 * What the service manager told the agent and nobody else: a program that found these would speak
 * to the manager in the agent's name, or take descriptors for its own that are not there.
 */
static void settle_environment(void)
{
    static const char *const names[] = {
        "NOTIFY_SOCKET",  "LISTEN_PID",   "LISTEN_PIDFDID", "LISTEN_FDS",
        "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC",
    };
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        (void)unsetenv(names[i]);
}

/* Each job has up to six descriptors, and a kept result up to two. The children get the old limit.
 */
static void raise_open_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    rlim_t wanted = limit.rlim_max < OPEN_FILES_MAX ? limit.rlim_max : OPEN_FILES_MAX;
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = wanted;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Its loss is the loss of every result, so it is not to be the first to go. Needs privilege. */
static void lower_oom_score(const char *score)
{
    if (!score[0] || atoi(score) <= OOM_SCORE_ADJ)
        return;
    _cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!dprintf(fd, "%d", OOM_SCORE_ADJ);
}

/*
 * Keeps some descriptors (-1: none), moved to 3 and up, and puts /dev/null where the agent's
 * terminal or log was. Everything else of the agent (its sockets, its log, a lock on its pidfile)
 * is closed: a broker that outlives it must hold none of it.
 */
static int settle_fds(int *fds[], size_t count)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return -errno;
    for (int fd = 0; fd < 3; fd++) {
        if (dup2(null_fd, fd) < 0)
            return -errno;
    }
    /* First above where they go, so that none is overwritten by another. */
    unsigned next = 3;
    for (size_t i = 0; i < count; i++) {
        if (*fds[i] >= 0 && (*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, 3 + (int)count)) < 0)
            return -errno;
    }
    for (size_t i = 0; i < count; i++) {
        if (*fds[i] >= 0 && (*fds[i] = dup3(*fds[i], (int)next++, O_CLOEXEC)) < 0)
            return -errno;
    }
    child_close_from(next);
    return 0;
}

/* What the forked broker needs, and nothing else of the agent. */
struct inheritance {
    struct child_origin origin;
    int agent_fd;
    int listener_fd;
    int directory_fd;
    char *socket_name;
};

static _Noreturn void run_broker(const struct broker_options *start,
                                 struct inheritance *inheritance)
{
    const struct settings *settings = start->settings;
    /* A session of its own: the agent's terminal, if it has one, is not the broker's. */
    (void)setsid();
    (void)prctl(PR_SET_NAME, "bellhop-broker");
    settle_signals();
    settle_environment();
    raise_open_files();
    lower_oom_score(inheritance->origin.oom_score_adj);
    if (start->confine)
        start->confine(start->context);

    int *fds[] = {&inheritance->agent_fd, &inheritance->listener_fd, &inheritance->directory_fd};
    int error = settle_fds(fds, ARRAY_SIZE(fds));
    struct syscall_filter **filters = NULL; /* for as long as the process lives */
    if (!error && start->policy) {
        filters = child_gate_make_filters(start->policy->rules);
        error = filters ? 0 : -ENOMEM;
    }
    if (!error) {
        struct broker_server_options options = {
            .agent_fd = inheritance->agent_fd,
            .listener_fd = inheritance->listener_fd,
            .stream_bytes_max = settings->exec_stream_bytes,
            .output_bytes_max = settings->exec_output_bytes,
            .input_bytes_max = settings->exec_input_bytes,
            .retention_ms = settings->exec_retention_s * 1000,
            .origin = inheritance->origin,
            .policy = start->policy,
            .filters = filters,
        };
        error = broker_server_run(&options);
    }
    if (inheritance->socket_name)
        (void)unlinkat(inheritance->directory_fd, inheritance->socket_name, 0);
    /* Not exit(): what the agent registered to be done at its end is not the broker's to do. */
    _exit(error ? 1 : 0);
}

static int open_listener(const char *state_directory, struct inheritance *inheritance)
{
    inheritance->directory_fd = broker_directory_open(state_directory);
    if (inheritance->directory_fd < 0)
        return inheritance->directory_fd;
    inheritance->listener_fd =
        broker_socket_listen(inheritance->directory_fd, &inheritance->socket_name);
    return inheritance->listener_fd < 0 ? inheritance->listener_fd : 0;
}

/* As the agent's user, whose it is to be: files and sockets belong to who makes them. */
static int open_listener_as(const struct broker_owner *owner, const char *state_directory,
                            struct inheritance *inheritance)
{
    if (!owner)
        return open_listener(state_directory, inheritance);
    broker_socket_trust(owner->user);
    if (setegid(owner->group) < 0 || seteuid(owner->user) < 0)
        return -errno;
    int error = open_listener(state_directory, inheritance);
    if (seteuid(0) < 0 || setegid(0) < 0)
        abort(); /* nothing that follows would be as it is meant */
    return error;
}

int broker_start(const struct broker_options *options, struct broker_process *ret_process)
{
    struct inheritance inheritance = {.listener_fd = -1, .directory_fd = -1};
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        return -errno;
    _cleanup_close_ int our_end = ends[0];
    inheritance.agent_fd = ends[1];
    if (options->origin)
        inheritance.origin = *options->origin;
    else
        child_origin_read(&inheritance.origin);
    int listener_error = open_listener_as(options->owner, options->state_directory, &inheritance);

    int error = 0;
    pid_t pid = fork();
    if (pid == 0)
        run_broker(options, &inheritance);
    if (pid < 0) {
        error = -errno;
        if (inheritance.socket_name)
            (void)unlinkat(inheritance.directory_fd, inheritance.socket_name, 0);
    }
    close_fd(inheritance.agent_fd);
    close_fd(inheritance.listener_fd);
    close_fd(inheritance.directory_fd);
    if (error) {
        free(inheritance.socket_name);
        return error;
    }
    *ret_process = (struct broker_process){
        .fd = take_fd(&our_end),
        .pid = pid,
        .listener_error = listener_error,
        .socket_name = inheritance.socket_name,
    };
    return 0;
}

void broker_process_deinit(struct broker_process *process)
{
    close_fd(process->fd);
    free(process->socket_name);
    *process = (struct broker_process)BROKER_PROCESS_INIT;
}
