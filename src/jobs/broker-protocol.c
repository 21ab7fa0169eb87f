/* SPDX-License-Identifier: MIT */
#include "jobs/broker-protocol.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"

_Static_assert(sizeof(struct broker_message) == 280, "the size in every version so far");
_Static_assert(offsetof(struct broker_facts, input_taken_bytes) == 80, "as version 1 has it");

static bool facts_are_valid(const struct broker_facts *facts)
{
    if (facts->state >= BROKER_JOB_STATE_COUNT || facts->capture >= BROKER_CAPTURE_COUNT)
        return false;
    if (facts->flags & ~(uint32_t)BROKER_JOB_FLAGS_ALL)
        return false;
    /* A job that has no pid yet is starting, and only that. */
    if (facts->pid < 0 || (facts->pid == 0) != (facts->state == BROKER_JOB_STARTING))
        return false;
    for (size_t i = 0; i < BROKER_STREAMS; i++) {
        const struct broker_stream_facts *stream = &facts->streams[i];
        if (stream->is_present > 1 || stream->is_truncated > 1 ||
            stream->size_bytes > (uint64_t)INT64_MAX)
            return false;
        if (!stream->is_present && stream->size_bytes > 0)
            return false;
    }
    return true;
}

static size_t facts_stream_count(const struct broker_facts *facts)
{
    size_t count = 0;
    for (size_t i = 0; i < BROKER_STREAMS; i++)
        count += facts->streams[i].is_present;
    return count;
}

static bool message_for_broker_is_valid(const struct broker_message *message, size_t fd_count)
{
    switch (message->type) {
    case BROKER_SPAWN:
        return message->job != 0 && fd_count == 1 && message->spawn.flags <= BROKER_IS_OWN;
    case BROKER_INPUT:
        return message->job != 0 && message->input.is_last <= 1 &&
               fd_count == (message->input.length > 0 ? 1 : 0) &&
               (message->input.length > 0 || message->input.is_last);
    case BROKER_RELEASE:
        return message->job != 0 && fd_count == 0;
    case BROKER_SIGNAL:
        return message->job != 0 && fd_count == 0 &&
               (message->signal.number == SIGTERM || message->signal.number == SIGKILL) &&
               message->signal.to_group <= 1;
    case BROKER_RESERVE_PID:
    case BROKER_UNRESERVE_PID:
        return message->job == 0 && fd_count == 0 && message->reserve.pid > 0;
    case BROKER_LIST:
        return message->job == 0 && fd_count == 0;
    default:
        return false;
    }
}

static bool message_for_agent_is_valid(const struct broker_message *message, size_t fd_count)
{
    switch (message->type) {
    case BROKER_SPAWNED:
        return message->job != 0 && fd_count == 0 && facts_are_valid(&message->facts) &&
               message->facts.state == BROKER_JOB_RUNNING;
    case BROKER_SPAWN_FAILED:
        return message->job != 0 && fd_count == 0 && message->failed.error > 0 &&
               message->failed.error < 4096 && message->failed.stage < BROKER_STAGE_COUNT &&
               memchr(message->failed.reason, '\0', sizeof(message->failed.reason)) != NULL;
    case BROKER_OUTPUT:
        return message->job != 0 && fd_count == 1 && message->output.index < BROKER_STREAMS;
    case BROKER_INPUT_TAKEN:
    case BROKER_INPUT_DONE:
        return message->job != 0 && fd_count == 0;
    case BROKER_EXITED:
        return message->job != 0 && fd_count == 0 && facts_are_valid(&message->facts) &&
               message->facts.state == BROKER_JOB_DONE;
    case BROKER_JOB:
        return message->job != 0 && facts_are_valid(&message->facts) &&
               fd_count == facts_stream_count(&message->facts);
    case BROKER_LIST_END:
        return message->job == 0 && fd_count == 0;
    case BROKER_LOG:
        return fd_count == 0 && message->log.level <= LOG_DEBUG &&
               memchr(message->log.text, '\0', sizeof(message->log.text)) != NULL;
    default:
        return false;
    }
}

void broker_message_upgrade(struct broker_message *message, size_t length, uint32_t version)
{
    if (version >= 2 || length != sizeof(*message))
        return;
    bool has_facts = message->type == BROKER_SPAWNED || message->type == BROKER_EXITED ||
                     message->type == BROKER_JOB;
    if (has_facts)
        memset(&message->facts.input_taken_bytes, 0,
               sizeof(message->facts) - offsetof(struct broker_facts, input_taken_bytes));
    else if (message->type == BROKER_SPAWN_FAILED)
        message->failed.reason[0] = '\0';
    else if (message->type == BROKER_INPUT_TAKEN)
        message->type = 0; /* it has no such message */
}

bool broker_message_is_valid(const struct broker_message *message, size_t length, size_t fd_count,
                             bool for_agent)
{
    if (length != sizeof(*message))
        return false;
    return for_agent ? message_for_agent_is_valid(message, fd_count)
                     : message_for_broker_is_valid(message, fd_count);
}

bool broker_hello_is_valid(const struct broker_hello *hello, size_t length, size_t fd_count)
{
    return length == sizeof(*hello) && fd_count == 0 && hello->magic == BROKER_HELLO_MAGIC &&
           hello->version_min > 0 && hello->version_min <= hello->version_max && hello->pid > 0;
}

/* Room for the control message, aligned as one. */
union control_room {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(BROKER_FDS_MAX * sizeof(int))];
};

int broker_send(int fd, const void *packet, size_t length, const int *fds, size_t fd_count)
{
    struct iovec piece = {.iov_base = (void *)packet, .iov_len = length};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    union control_room control;

    if (fd_count > BROKER_FDS_MAX)
        return -EINVAL;
    if (fd_count > 0) {
        memset(&control, 0, sizeof(control));
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
    }
    for (;;) {
        if (sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

/* Takes over whatever descriptors came along, wanted or not: those not taken would leak. */
static size_t take_received_fds(struct msghdr *message, int fds[BROKER_FDS_MAX])
{
    size_t count = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
         header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
            if (count < BROKER_FDS_MAX)
                fds[count++] = fd;
            else
                close_fd(fd);
        }
    }
    return count;
}

int broker_receive(int fd, void *packet, size_t size, int fds[BROKER_FDS_MAX], size_t *ret_fd_count)
{
    for (size_t i = 0; i < BROKER_FDS_MAX; i++)
        fds[i] = -1;
    *ret_fd_count = 0;
    union control_room control;
    struct iovec piece = {.iov_base = packet, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &piece,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t length;
    do
        length = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;

    size_t count = take_received_fds(&message, fds);
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        while (count > 0) {
            count--;
            fds[count] = close_fd(fds[count]);
        }
        count = BROKER_FDS_LOST;
    }
    *ret_fd_count = count;
    return message.msg_flags & MSG_TRUNC ? -EBADMSG : (int)length;
}
