/* SPDX-License-Identifier: MIT */
#include "jobs/guard-protocol.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define MAGIC 0x74677264u

uint64_t guard_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

union control {
    char bytes[CMSG_SPACE(GUARD_FDS_MAX * sizeof(int))];
    struct cmsghdr align;
};

int guard_message_send(int fd, const struct guard_message *message, const int *fds, size_t count)
{
    struct guard_message copy = *message;
    union control control;
    copy.magic = MAGIC;
    struct iovec data = {.iov_base = &copy, .iov_len = sizeof(copy)};
    struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};
    if (count > GUARD_FDS_MAX)
        return -E2BIG;
    if (count > 0) {
        memset(&control, 0, sizeof(control));
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(part), fds, count * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

static size_t take_fds(struct msghdr *header, int *ret_fds)
{
    size_t count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t here = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < here && count < GUARD_FDS_MAX; i++)
            memcpy(&ret_fds[count++], CMSG_DATA(part) + i * sizeof(int), sizeof(int));
    }
    return count;
}

int guard_message_receive(int fd, struct guard_message *ret_message, int *ret_fds,
                          size_t *ret_count)
{
    union control control;
    struct iovec data = {.iov_base = ret_message, .iov_len = sizeof(*ret_message)};
    struct msghdr header = {
        .msg_iov = &data,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t length;
    *ret_count = 0;
    do
        length = recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;
    if (length == 0)
        return -EPIPE;
    *ret_count = take_fds(&header, ret_fds);
    if (length == sizeof(*ret_message) && ret_message->magic == MAGIC &&
        !(header.msg_flags & (MSG_CTRUNC | MSG_TRUNC)))
        return 0;
    for (size_t i = 0; i < *ret_count; i++)
        close_fd(ret_fds[i]);
    *ret_count = 0;
    return -EBADMSG;
}
