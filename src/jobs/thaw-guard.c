/* SPDX-License-Identifier: MIT */
#include "jobs/thaw-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/thaw-crew.h"
#include "jobs/broker-socket.h"
#include "jobs/freeze-record.h"
#include "jobs/guard-protocol.h"
#include "security/capabilities.h"

enum { CONNECTIONS_MAX = 16 };

/* How often it tries again what could not be thawed. */
enum { RETRY_MS = 500 };

/* What it waits for besides the connections. */
enum { SLOT_LISTENER = CONNECTIONS_MAX, SLOT_TIMER, SLOT_AGENT, SLOT_CREW, SLOTS };

struct connection {
    int fd;
    bool is_subscriber;
    bool has_claimed;
};

struct guard {
    struct connection connections[CONNECTIONS_MAX]; /* the first one to come is the agent's */
    int listener;
    int directory;
    int timer;
    int agent; /* its pidfd; -1: it is gone */
    uint64_t deadline_ms;

    struct thaw_target *targets; /* until the crew has them */
    size_t target_count;
    struct thaw_crew *crew; /* NULL: not armed yet */

    bool is_settled; /* every freeze has returned */
    bool is_claimed; /* a thaw came in time */
    bool has_fired;
    bool is_incomplete; /* the agent died before the freeze was complete */
    bool has_failed;    /* something could not be thawed */
    bool is_finished;   /* everything is thawed */
    bool is_over;
    bool is_unneeded; /* nothing was frozen */
};

/* --- thawing --- */

static void begin(struct guard *guard)
{
    if (guard->crew)
        thaw_crew_begin(guard->crew);
}

static void settle(struct guard *guard)
{
    guard->is_settled = true;
    if (guard->crew)
        thaw_crew_settle(guard->crew);
}

static uint32_t answer_flags(const struct guard *guard)
{
    return (guard->has_fired ? GUARD_HAS_FIRED : 0) | (guard->is_finished ? GUARD_IS_FINISHED : 0) |
           (guard->is_incomplete ? GUARD_IS_INCOMPLETE : 0);
}

/* One that does not take it finds out when it asks. */
static void tell(const struct guard *guard, const struct connection *connection)
{
    struct guard_message message = {.type = guard->is_finished ? GUARD_FINISHED : GUARD_FIRING,
                                    .flags = answer_flags(guard)};
    (void)!guard_message_send(connection->fd, &message, NULL, 0);
}

static void tell_subscribers(const struct guard *guard)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (guard->connections[i].fd >= 0 && guard->connections[i].is_subscriber)
            tell(guard, &guard->connections[i]);
}

/* The freeze ends here, and nobody asked for it. */
static void fire(struct guard *guard)
{
    if (!guard->is_claimed && !guard->has_fired) {
        guard->has_fired = true;
        tell_subscribers(guard);
    }
    begin(guard);
}

/* Nothing is frozen any more, so the disk may be written to. */
static void finish(struct guard *guard)
{
    const char *path;
    if (guard->has_failed)
        (void)thaw_crew_retry(guard->crew);
    guard->has_failed = thaw_crew_error(guard->crew, &path) != 0;
    if (guard->has_failed)
        return;
    guard->is_finished = true;
    struct freeze_record record = {
        .state = guard->is_incomplete ? FREEZE_RECORD_DIED : FREEZE_RECORD_EXPIRED,
        .deadline_ms = guard->deadline_ms,
    };
    if (guard->has_fired)
        (void)!freeze_record_write(guard->directory, &record);
    else
        (void)!freeze_record_remove(guard->directory); /* the thaw was asked for */
    tell_subscribers(guard);
}

/* --- getting ready --- */

static bool may_thaw(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    return syscall(SYS_capget, &header, data) == 0 && data[0].effective & (1u << CAP_SYS_ADMIN);
}

static int arm(struct guard *guard, const struct guard_message *message, int *fds, size_t count)
{
    if (count != 3 || guard->agent >= 0)
        return -EBADMSG;
    guard->agent = fds[0];
    guard->directory = fds[1];
    guard->listener = fds[2];
    guard->deadline_ms = message->deadline_ms;
    return 0;
}

static int add_mounts(struct guard *guard, const int *fds, size_t count)
{
    struct thaw_target *targets =
        reallocarray(guard->targets, guard->target_count + count + 1, sizeof(*targets));
    if (!targets || guard->crew)
        return -ENOMEM;
    guard->targets = targets;
    for (size_t i = 0; i < count; i++)
        targets[guard->target_count++] = (struct thaw_target){.fd = fds[i]};
    return 0;
}

static int set_timer(struct guard *guard)
{
    if (guard->deadline_ms == 0)
        return 0;
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(guard->deadline_ms / 1000),
                     .tv_nsec = (long)(guard->deadline_ms % 1000) * 1000000},
    };
    return timerfd_settime(guard->timer, TFD_TIMER_ABSTIME, &when, NULL) < 0 ? -errno : 0;
}

static int get_ready(struct guard *guard, int fd, const struct guard_message *message)
{
    if (guard->agent < 0 || guard->crew || message->count != guard->target_count)
        return -EBADMSG;
    int error = thaw_crew_new_take(guard->targets, guard->target_count, &guard->crew);
    if (!error)
        error = set_timer(guard);
    if (error) {
        guard->is_over = guard->is_unneeded = true; /* nobody freezes anything then */
        return error;
    }
    struct guard_message armed = {.type = GUARD_ARMED};
    if (mlockall(MCL_CURRENT | MCL_FUTURE) == 0)
        armed.flags |= GUARD_IS_LOCKED;
    if (!may_thaw())
        armed.flags |= GUARD_CANNOT_THAW;
    error = guard_message_send(fd, &armed, NULL, 0);
    /* Without having heard this nobody freezes anything. */
    guard->is_over = guard->is_unneeded = error != 0;
    return error;
}

/* --- connections --- */

static void close_connection(struct guard *guard, struct connection *connection)
{
    bool had_claimed = connection->has_claimed;
    connection->fd = close_fd(connection->fd);
    connection->is_subscriber = connection->has_claimed = false;
    if (!guard->crew)
        guard->is_over = true; /* it had not even begun */
    else if (had_claimed)
        begin(guard); /* it wanted a thaw, and cannot be trusted to have come to its end */
}

static void answer(struct guard *guard, int fd)
{
    struct guard_message message = {
        .type = GUARD_ANSWER, .flags = answer_flags(guard), .deadline_ms = guard->deadline_ms};
    (void)!guard_message_send(fd, &message, NULL, 0);
}

static int handle(struct guard *guard, struct connection *connection,
                  const struct guard_message *message, int *fds, size_t count)
{
    switch (message->type) {
    case GUARD_ARM:
        return arm(guard, message, fds, count);
    case GUARD_MOUNTS:
        return add_mounts(guard, fds, count);
    case GUARD_READY:
        return get_ready(guard, connection->fd, message);
    case GUARD_SETTLED:
        settle(guard);
        return 0;
    case GUARD_SUBSCRIBE:
        connection->is_subscriber = true;
        if (guard->has_fired || guard->is_finished)
            tell(guard, connection);
        return 0;
    case GUARD_ASK:
        answer(guard, connection->fd);
        return 0;
    case GUARD_CLAIM:
        connection->has_claimed = true;
        guard->is_claimed |= !guard->has_fired;
        answer(guard, connection->fd);
        return 0;
    case GUARD_DONE:
        connection->has_claimed = false;
        guard->is_over = true;
        guard->is_unneeded = message->flags & GUARD_LEAVE_ALONE;
        return 0;
    default: /* of a later version */
        return 0;
    }
}

/* All that there is: one that was late hears that a thaw is over before it acts on its deadline. */
static void read_connection(struct guard *guard, struct connection *connection)
{
    struct guard_message message;
    int fds[GUARD_FDS_MAX];
    size_t count;
    while (!guard->is_over) {
        int error = guard_message_receive(connection->fd, &message, fds, &count);
        if (error == -EAGAIN)
            return;
        if (!error)
            error = handle(guard, connection, &message, fds, count);
        if (error) {
            close_connection(guard, connection);
            return;
        }
    }
}

static void accept_connection(struct guard *guard)
{
    int fd = accept4(guard->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (size_t i = 0; i < CONNECTIONS_MAX && broker_socket_peer_is_trusted(fd); i++) {
        struct connection *connection = &guard->connections[i];
        if (connection->fd >= 0)
            continue;
        *connection = (struct connection){.fd = fd};
        return;
    }
    close_fd(fd);
}

/* --- its life --- */

/* No agent: every thread that could freeze is gone. */
static void agent_is_gone(struct guard *guard)
{
    guard->agent = close_fd(guard->agent);
    if (!guard->is_settled && !guard->is_claimed && !guard->is_over) {
        guard->is_incomplete = true;
        fire(guard);
    }
    settle(guard);
}

static void gather(const struct guard *guard, struct pollfd ret_polls[SLOTS])
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        ret_polls[i].fd = guard->connections[i].fd;
    ret_polls[SLOT_LISTENER].fd = guard->crew ? guard->listener : -1;
    ret_polls[SLOT_TIMER].fd = guard->timer;
    ret_polls[SLOT_AGENT].fd = guard->agent;
    ret_polls[SLOT_CREW].fd = guard->crew && !guard->has_failed && !guard->is_finished
                                  ? thaw_crew_ended_fd(guard->crew)
                                  : -1;
    for (size_t i = 0; i < SLOTS; i++) {
        ret_polls[i].events = POLLIN;
        ret_polls[i].revents = 0;
    }
}

static void step(struct guard *guard)
{
    struct pollfd polls[SLOTS];
    gather(guard, polls);
    if (poll(polls, SLOTS, guard->has_failed ? RETRY_MS : -1) < 0)
        return;
    /* First what agents say: a thaw that came before the deadline was in time. */
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (polls[i].revents)
            read_connection(guard, &guard->connections[i]);
    if (guard->is_over)
        return;
    if (polls[SLOT_LISTENER].revents)
        accept_connection(guard);
    if (polls[SLOT_TIMER].revents) {
        guard->timer = close_fd(guard->timer);
        fire(guard);
    }
    if (polls[SLOT_AGENT].revents)
        agent_is_gone(guard);
    if (polls[SLOT_CREW].revents || guard->has_failed)
        finish(guard);
}

/* True while there is something to guard, or somebody who may still ask what came of it. */
static bool has_to_stay(const struct guard *guard)
{
    if (guard->is_over)
        return false;
    if (!guard->is_finished)
        return true;
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        if (guard->connections[i].fd >= 0)
            return true;
    return false;
}

/* The folder's path may be too long for a socket's address. */
static int connect_to_agent(const char *folder)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = GUARD_SOCKET_NAME};
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || chdir(folder) < 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || chdir("/") < 0)
        return -errno;
    return broker_socket_peer_is_trusted(fd) ? take_fd(&fd) : -EPERM;
}

/*
 * Where the agent is another user than the broker, the guard becomes that user, too: each then
 * trusts the other, and nobody else. It keeps what it thaws and stays in memory by.
 */
static int become_agents_user(const char *folder)
{
    struct stat status;
    if (stat(folder, &status) < 0)
        return -errno;
    if (geteuid() != 0 || status.st_uid == 0)
        return 0;
    int error = capabilities_keep_as_user(status.st_uid, status.st_gid, NULL, 0);
    const uint64_t kept = CAPABILITY_BIT(CAP_SYS_ADMIN) | CAPABILITY_BIT(CAP_IPC_LOCK);
    struct capability_sets sets;
    if (!error)
        error = capabilities_read(&sets);
    if (error)
        return error;
    sets.permitted &= kept;
    sets.effective = sets.permitted;
    sets.inheritable = sets.ambient = 0;
    return capabilities_apply(&sets);
}

/* All of it as good as it can be had; none of it is needed. */
static void become_important(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    (void)prctl(PR_SET_NAME, "bellhop-guard");
    (void)setpriority(PRIO_PROCESS, 0, -10);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    _cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, "-1000", 5);
}

int thaw_guard_main(int argc, char **argv)
{
    struct guard guard = {.listener = -1, .directory = -1, .agent = -1};
    for (size_t i = 0; i < CONNECTIONS_MAX; i++)
        guard.connections[i].fd = -1;
    if (argc != 3)
        return EXIT_FAILURE;
    become_important();
    if (become_agents_user(argv[2]) < 0)
        return EXIT_FAILURE;
    guard.connections[0].fd = connect_to_agent(argv[2]);
    guard.timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    if (guard.connections[0].fd < 0 || guard.timer < 0)
        return EXIT_FAILURE;
    while (has_to_stay(&guard))
        step(&guard);
    if (!guard.crew)
        return EXIT_FAILURE;
    if (guard.is_unneeded)
        return EXIT_SUCCESS;
    /* Whoever said that the thaw is over has left nothing; to look again costs nothing. */
    begin(&guard);
    settle(&guard);
    while (!thaw_crew_wait(guard.crew, 60 * 1000))
        ;
    return EXIT_SUCCESS;
}
