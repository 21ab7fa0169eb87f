/* SPDX-License-Identifier: MIT */
/*
 * The isa-serial transport on pseudo terminals, which are terminals as serial ports are. What only
 * a real port does is tested in the guest suite.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "io/transport.h"

struct fixture {
    struct event_base *base;
    struct transport *transport;
    char directory[64];
    char path[96];
    char *reason;
    int fd; /* handed out, or -1 */
    unsigned connected_count;
    int error; /* given to failed() */
};

static unsigned watches;

int __real_inotify_init1(int flags);
int __wrap_inotify_init1(int flags);
int __wrap_inotify_init1(int flags)
{
    watches++;
    return __real_inotify_init1(flags);
}

static void on_connected(struct transport *transport, int fd, void *context)
{
    struct fixture *fixture = context;

    assert_int_equal(fixture->fd, -1);
    fixture->fd = fd;
    fixture->connected_count++;
}

static void on_failed(struct transport *transport, int error, void *context)
{
    struct fixture *fixture = context;

    fixture->error = error;
}

static const struct transport_ops ops = {.connected = on_connected, .failed = on_failed};

static int open_transport(struct fixture *fixture, bool retry_path)
{
    const struct transport_options options = {
        .method = TRANSPORT_ISA_SERIAL, .path = fixture->path, .retry_path = retry_path};

    return transport_open(fixture->base, &options, &ops, fixture, &fixture->transport,
                          &fixture->reason);
}

static void disconnect(struct fixture *fixture)
{
    fixture->fd = close_fd(fixture->fd);
    transport_disconnected(fixture->transport);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-transport.XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    snprintf(fixture->path, sizeof(fixture->path), "%s/line", fixture->directory);
    fixture->base = event_base_new();
    fixture->fd = -1;
    watches = 0;
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];

    assert_null(transport_free(fixture->transport));
    close_fd(fixture->fd);
    free(fixture->reason);
    event_base_free(fixture->base);
    snprintf(command, sizeof(command), "rm -rf %s", fixture->directory);
    assert_int_equal(system(command), 0);
    free(fixture);
    return 0;
}

/* Makes a line, as it comes: in canonical mode, with echo. Returns the host's end of it. */
static int plug(const struct fixture *fixture)
{
    int host = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    assert_true(host >= 0);
    assert_int_equal(grantpt(host), 0);
    assert_int_equal(unlockpt(host), 0);
    assert_int_equal(symlink(ptsname(host), fixture->path), 0);
    return host;
}

static void unplug(const struct fixture *fixture, int host)
{
    assert_int_equal(unlink(fixture->path), 0);
    close(host);
}

static void run_until_connected(struct fixture *fixture, unsigned count)
{
    const uint64_t end_ms = clock_now_ms() + 20000;

    while (fixture->connected_count < count) {
        assert_true(clock_now_ms() < end_ms);
        assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
    }
}

static void write_all(int fd, const char *bytes, size_t length)
{
    assert_int_equal(write(fd, bytes, length), (ssize_t)length);
}

static void assert_comes(int fd, const char *bytes, size_t length)
{
    char found[512];
    size_t count = 0;

    while (count < length) {
        struct pollfd readable = {.fd = fd, .events = POLLIN};

        assert_int_equal(poll(&readable, 1, 20000), 1);
        ssize_t got = read(fd, found + count, sizeof(found) - count);
        assert_true(got > 0);
        count += (size_t)got;
    }
    assert_int_equal(count, length);
    assert_memory_equal(found, bytes, length);
}

static void assert_silent(int fd)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&readable, 1, 0), 0);
}

static void test_every_byte_goes_both_ways(void **state)
{
    struct fixture *fixture = *state;
    int host = plug(fixture);
    char all[256];

    for (size_t i = 0; i < sizeof(all); i++)
        all[i] = (char)i;
    assert_int_equal(open_transport(fixture, false), 0);
    assert_false(transport_is_device(fixture->transport));
    assert_int_equal(fixture->connected_count, 0); /* from the loop only */
    run_until_connected(fixture, 1);
    assert_int_equal(fcntl(fixture->fd, F_GETFL) & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDWR);
    assert_int_equal(fcntl(fixture->fd, F_GETFD), FD_CLOEXEC);
    write_all(host, all, sizeof(all));
    assert_comes(fixture->fd, all, sizeof(all));
    assert_silent(host); /* no echo */
    write_all(fixture->fd, all, sizeof(all));
    assert_comes(host, all, sizeof(all));
    assert_int_equal(read(fixture->fd, all, 1), -1);
    assert_int_equal(errno, EAGAIN);
    close(host);
}

static void test_modes(void **state)
{
    struct fixture *fixture = *state;
    int host = plug(fixture);
    struct termios line;

    assert_int_equal(open_transport(fixture, false), 0);
    run_until_connected(fixture, 1);
    assert_int_equal(tcgetattr(fixture->fd, &line), 0);
    assert_int_equal(line.c_lflag & (ICANON | ECHO | ISIG | IEXTEN), 0);
    assert_int_equal(line.c_iflag & (ICRNL | IXON | IXOFF | ISTRIP | PARMRK), 0);
    assert_int_equal(line.c_oflag & OPOST, 0);
    assert_int_equal(line.c_cflag & (CSIZE | CLOCAL | CREAD | PARENB), CS8 | CLOCAL | CREAD);
    assert_int_equal(line.c_cc[VMIN], 1);
    assert_int_equal(line.c_cc[VTIME], 0);
    close(host);
}

/* The host does not know when the agent opens the line, nor that it sets it up after that. */
static void test_what_came_before_the_set_up_is_kept(void **state)
{
    struct fixture *fixture = *state;
    int host = plug(fixture);
    int earlier = open(fixture->path, O_RDWR | O_NOCTTY | O_CLOEXEC); /* else nothing is kept */
    struct termios line;

    assert_true(earlier >= 0);
    assert_int_equal(tcgetattr(earlier, &line), 0);
    line.c_lflag &= ~(tcflag_t)ECHO;
    assert_int_equal(tcsetattr(earlier, TCSANOW, &line), 0);
    write_all(host, "{\"a\"}\n{\"b\"", 10); /* the second one is no line yet */
    assert_int_equal(open_transport(fixture, false), 0);
    run_until_connected(fixture, 1);
    assert_comes(fixture->fd, "{\"a\"}\n{\"b\"", 10);
    close(earlier);
    close(host);
}

static void test_no_line(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(open_transport(fixture, false), -ENOENT);
    assert_non_null(strstr(fixture->reason, "/line"));
    free(take_ptr(&fixture->reason));
    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    assert_int_equal(open_transport(fixture, false), -ENOTTY);
    assert_non_null(strstr(fixture->reason, "is no serial line"));
    assert_null(fixture->transport);
}

static void test_two_agents_on_one_line(void **state)
{
    struct fixture *fixture = *state;
    struct transport *second = NULL;
    const struct transport_options options = {.method = TRANSPORT_ISA_SERIAL,
                                              .path = fixture->path};
    int host = plug(fixture);

    assert_int_equal(open_transport(fixture, false), 0);
    run_until_connected(fixture, 1);
    assert_int_equal(
        transport_open(fixture->base, &options, &ops, fixture, &second, &fixture->reason), -EBUSY);
    assert_non_null(strstr(fixture->reason, "another program has it open"));
    close(host);
}

static void test_hung_up_and_opened_again(void **state)
{
    struct fixture *fixture = *state;
    int host = plug(fixture);
    char byte;

    assert_int_equal(open_transport(fixture, true), 0);
    for (unsigned round = 1; round < 4; round++) {
        run_until_connected(fixture, round);
        write_all(host, "x", 1);
        assert_comes(fixture->fd, "x", 1);
        unplug(fixture, host);
        assert_true(read(fixture->fd, &byte, 1) <= 0);
        disconnect(fixture);
        host = plug(fixture);
    }
    close(host);
}

static void test_hung_up_without_retry(void **state)
{
    struct fixture *fixture = *state;
    int host = plug(fixture);

    assert_int_equal(open_transport(fixture, false), 0);
    run_until_connected(fixture, 1);
    unplug(fixture, host);
    disconnect(fixture);
    assert_int_equal(event_base_loop(fixture->base, 0), 1); /* until nothing is left to do */
    assert_int_equal(fixture->error, -ENOENT);
}

/* Runs the loop for so long. Returns how often it woke up. */
static unsigned run_for(struct fixture *fixture, unsigned ms)
{
    const uint64_t end_ms = clock_now_ms() + ms;
    unsigned rounds = 0;

    while (clock_now_ms() < end_ms) {
        assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
        rounds++;
    }
    return rounds;
}

/* What is tried again by the clock keeps its watch: a new one costs as much as /tmp has entries. */
static void test_retries_keep_their_watch(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(mkdir(fixture->path, 0700), 0); /* EISDIR, which no event may ever end */
    assert_int_equal(open_transport(fixture, true), 0);
    run_for(fixture, 2500);
    assert_in_range(watches, 1, 3);
    assert_int_equal(fixture->connected_count, 0);
}

/* That the agent itself closed what it had opened is no news that it has to look at. */
static void test_what_is_no_line_is_tried_by_the_clock(void **state)
{
    struct fixture *fixture = *state;
    int host;

    assert_int_equal(mkfifo(fixture->path, 0600), 0);
    assert_int_equal(open_transport(fixture, true), 0);
    assert_in_range(run_for(fixture, 2500), 2, 500);
    assert_in_range(watches, 1, 30);
    assert_int_equal(unlink(fixture->path), 0);
    host = plug(fixture);
    run_until_connected(fixture, 1);
    close(host);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_byte_goes_both_ways),
        TEST(test_modes),
        TEST(test_what_came_before_the_set_up_is_kept),
        TEST(test_no_line),
        TEST(test_two_agents_on_one_line),
        TEST(test_hung_up_and_opened_again),
        TEST(test_hung_up_without_retry),
        TEST(test_retries_keep_their_watch),
        TEST(test_what_is_no_line_is_tried_by_the_clock),
    };

    return cmocka_run_group_tests_name("transport-serial", tests, NULL, NULL);
}
