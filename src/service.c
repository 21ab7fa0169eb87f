/* SPDX-License-Identifier: MIT */
#include "service.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Where a daemon's parent waits; -1: no daemon, or it was told already. */
static int parent_fd = -1;

/* The parent: ends as soon as it is known how the child fares. */
static void wait_for_child(int ready_fd)
{
    char byte;
    ssize_t length;
    do
        length = read(ready_fd, &byte, 1);
    while (length < 0 && errno == EINTR);
    _exit(length == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

int service_daemonize(void)
{
    int ready[2];
    if (pipe2(ready, O_CLOEXEC) < 0)
        return -errno;
    pid_t child = fork();
    if (child < 0) {
        int error = -errno;
        close(ready[0]);
        close(ready[1]);
        return error;
    }
    if (child > 0) {
        close(ready[1]);
        wait_for_child(ready[0]);
    }
    close(ready[0]);
    parent_fd = ready[1];
    return setsid() < 0 || chdir("/") < 0 ? -errno : 0;
}

static void let_go_of_terminal(void)
{
    _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    if (null <= STDERR_FILENO)
        take_fd(&null);
}

/* The protocol of sd_notify(3) is a datagram; "@" stands for an abstract name. */
static void notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(address.sun_path))
        return;
    memcpy(address.sun_path, path, strlen(path));
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
    /* Never to wait for it: a service manager that does not listen is no reason not to serve. */
    _cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0)
        (void)!sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, length);
}

void service_ready(void)
{
    notify("READY=1");
    if (parent_fd < 0)
        return;
    let_go_of_terminal();
    (void)!write(parent_fd, "", 1);
    parent_fd = close_fd(parent_fd);
}

bool service_is_managed(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

void service_stopping(void)
{
    notify("STOPPING=1");
}
