/* SPDX-License-Identifier: MIT */
#include "client/address.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <linux/vm_sockets.h>

#include "base/clock.h"
#include "base/vsock-address.h"
#include "client/local.h"

#define BUSY_RETRY_MS 50

static const char vsock_prefix[] = "vsock:";

/*
 * Connects the non-blocking `fd`. A unix socket whose queue of waiting connections is full says
 * EAGAIN and cannot be waited for, so it is asked again.
 */
static int connect_until(int fd, const struct sockaddr *address, socklen_t length,
                         uint64_t deadline_ms)
{
    while (connect(fd, address, length) < 0) {
        uint64_t now_ms = clock_now_ms();
        int error;

        if (errno != EAGAIN)
            return -errno;
        if (now_ms >= deadline_ms)
            return -ETIMEDOUT;
        error = local_wait(-1, 0, now_ms + BUSY_RETRY_MS);
        if (error != -ETIMEDOUT)
            return error;
    }
    return 0;
}

static int connect_unix(const char *path, uint64_t deadline_ms, int *ret_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_close_ int fd = -1;
    int error;

    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    error = connect_until(fd, (const struct sockaddr *)&address, sizeof(address), deadline_ms);
    if (error < 0)
        return error;
    *ret_fd = take_fd(&fd);
    return 0;
}

static int connect_vsock(const char *text, uint64_t deadline_ms, int *ret_fd)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK};
    _cleanup_close_ int fd = -1;
    socklen_t length = sizeof(int);
    int error;

    if (vsock_address_parse(text, &address.svm_cid, &address.svm_port) < 0)
        return -EDESTADDRREQ;
    fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        if (errno != EINPROGRESS)
            return -errno;
        error = local_wait(fd, POLLOUT, deadline_ms);
        if (error < 0)
            return error;
        if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0 || error != 0)
            return error != 0 ? -error : -errno;
    }
    *ret_fd = take_fd(&fd);
    return 0;
}

enum outcome address_connect(const char *address, unsigned limit_ms, int *ret_fd)
{
    uint64_t deadline_ms = local_deadline(limit_ms);
    int error;

    if (strncmp(address, vsock_prefix, strlen(vsock_prefix)) == 0)
        error = connect_vsock(address + strlen(vsock_prefix), deadline_ms, ret_fd);
    else
        error = connect_unix(address, deadline_ms, ret_fd);

    if (error == 0)
        return OUTCOME_OK;
    if (error == -EINTR)
        return OUTCOME_INTERRUPTED;
    if (error == -EDESTADDRREQ)
        report("%s is no address: expected vsock:CID:PORT", address);
    else if (error == -ETIMEDOUT)
        report("cannot connect to %s: it is busy with another client", address);
    else
        report("cannot connect to %s: %s", address, strerror(-error));
    return OUTCOME_NO_ANSWER;
}
