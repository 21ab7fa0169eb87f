/* SPDX-License-Identifier: MIT */
#include "client/local.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

static const int held_signals[] = {SIGINT, SIGTERM, SIGHUP};

static volatile sig_atomic_t first_signal;
static volatile sig_atomic_t wait_is_over;
static sigset_t mask_while_waiting;

static void note_signal(int number)
{
    if (first_signal == 0)
        first_signal = number;
    wait_is_over = 1;
}

void local_init(void)
{
    struct sigaction note = {.sa_handler = note_signal};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t held;

    sigemptyset(&held);
    for (size_t i = 0; i < ARRAY_SIZE(held_signals); i++) {
        struct sigaction before;

        /* What nohup(1) or a shell's & had ignored stays ignored. */
        sigaction(held_signals[i], NULL, &before);
        if (before.sa_handler == SIG_IGN)
            continue;
        sigaction(held_signals[i], &note, NULL);
        sigaddset(&held, held_signals[i]);
    }
    sigaction(SIGPIPE, &ignore, NULL);
    sigprocmask(SIG_BLOCK, &held, &mask_while_waiting);
}

int local_signal(void)
{
    return first_signal;
}

uint64_t local_deadline(unsigned limit_ms)
{
    return limit_ms > 0 ? clock_now_ms() + limit_ms : NO_DEADLINE;
}

/* Lets in a signal that came since the last wait: ppoll() would not if the descriptor is ready. */
static bool signal_came(void)
{
    sigset_t held;

    wait_is_over = 0;
    sigprocmask(SIG_SETMASK, &mask_while_waiting, &held);
    sigprocmask(SIG_SETMASK, &held, NULL);
    return wait_is_over;
}

int local_wait(int fd, short events, uint64_t deadline_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = events};
    int ready;

    if (signal_came())
        return -EINTR;
    do {
        uint64_t now_ms = clock_now_ms();
        uint64_t left_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
        struct timespec left = {(time_t)(left_ms / 1000), (long)(left_ms % 1000) * 1000000};

        /* Also where something is ready: whoever keeps sending must not outwit the deadline. */
        if (left_ms == 0)
            return -ETIMEDOUT;
        ready = ppoll(&pollfd, 1, deadline_ms == NO_DEADLINE ? NULL : &left, &mask_while_waiting);
    } while (ready < 0 && errno == EINTR && !wait_is_over);

    if (ready > 0)
        return 0;
    return ready == 0 ? -ETIMEDOUT : -errno;
}

ssize_t local_read(int fd, void *bytes, size_t size)
{
    for (;;) {
        ssize_t got;
        int error = local_wait(fd, POLLIN, NO_DEADLINE);

        if (error < 0)
            return error;
        got = read(fd, bytes, size);
        if (got >= 0)
            return got;
        if (errno != EAGAIN)
            return -errno;
    }
}

int local_write(int fd, const void *bytes, size_t length)
{
    struct stat status;
    const char *at = bytes;
    /* A pipe that polls as writable takes PIPE_BUF bytes without blocking, so signals get through
     * although the descriptor, which others may share, is left blocking. */
    bool is_file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);

    while (length > 0) {
        size_t step = is_file || length < PIPE_BUF ? length : PIPE_BUF;
        ssize_t written;
        int error = local_wait(fd, POLLOUT, NO_DEADLINE);

        if (error < 0)
            return error;
        written = write(fd, at, step);
        if (written < 0) {
            if (errno == EAGAIN)
                continue;
            if (errno == EPIPE)
                note_signal(SIGPIPE);
            return -errno;
        }
        at += written;
        length -= (size_t)written;
    }
    return 0;
}
