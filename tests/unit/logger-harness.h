/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TEST_LOGGER_HARNESS_H
#define BELLHOP_TEST_LOGGER_HARNESS_H

/* A logger: a datagram socket in a folder of the test's own. After the includes of cmocka. */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

struct logger {
    char folder[32];
    char path[64];
    int fd;
};

/* Also again, for a logger that is started anew. */
static inline void logger_listen(struct logger *logger)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = 20};

    snprintf(address.sun_path, sizeof(address.sun_path), "%s", logger->path);
    unlink(logger->path);
    logger->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(logger->fd >= 0);
    assert_int_equal(bind(logger->fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(setsockopt(logger->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
}

static inline void logger_start(struct logger *logger)
{
    strcpy(logger->folder, "/tmp/test-logger-XXXXXX");
    assert_non_null(mkdtemp(logger->folder));
    snprintf(logger->path, sizeof(logger->path), "%s/socket", logger->folder);
    logger_listen(logger);
}

static inline void logger_stop(struct logger *logger)
{
    close_fd(logger->fd);
    unlink(logger->path);
    assert_int_equal(rmdir(logger->folder), 0);
}

/* Receives one datagram, with a NUL behind it. Returns its length; a descriptor that came along, or -1. */
static inline size_t logger_receive(struct logger *logger, char *bytes, size_t size, int *ret_passed)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control;
    struct iovec piece = {.iov_base = bytes, .iov_len = size - 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
    ssize_t length = recvmsg(logger->fd, &message, MSG_CMSG_CLOEXEC);

    assert_true(length >= 0);
    bytes[length] = '\0';
    *ret_passed = -1;
    if (CMSG_FIRSTHDR(&message))
        memcpy(ret_passed, CMSG_DATA(&control.header), sizeof(int));
    return (size_t)length;
}

static inline void logger_expect(struct logger *logger, const char *expected)
{
    char found[8192];
    int passed;

    logger_receive(logger, found, sizeof(found), &passed);
    assert_int_equal(passed, -1);
    assert_string_equal(found, expected);
}

#endif
