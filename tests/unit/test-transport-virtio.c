/* SPDX-License-Identifier: MIT */
/*
 * The virtio-serial transport on pseudo terminals in a directory that plays /dev, with another
 * one that plays /sys/class/virtio-ports. What only a real port does is tested in the guest suite.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "io/transport.h"

#define PORT "dev/virtio-ports/org.example.agent"

struct fixture {
    struct event_base *base;
    struct transport *transport;
    char directory[64];
    char *reason;
    int fd; /* handed out, or -1 */
    unsigned connected_count;
    int error; /* given to failed() */
    bool closes_at_once;
};

static void disconnect(struct fixture *fixture)
{
    fixture->fd = close_fd(fixture->fd);
    transport_disconnected(fixture->transport);
}

static void on_connected(struct transport *transport, int fd, void *context)
{
    struct fixture *fixture = context;

    assert_ptr_equal(transport, fixture->transport);
    assert_int_equal(fixture->fd, -1);
    fixture->fd = fd;
    fixture->connected_count++;
    if (fixture->closes_at_once)
        disconnect(fixture);
}

static void on_failed(struct transport *transport, int error, void *context)
{
    struct fixture *fixture = context;

    fixture->error = error;
}

static const struct transport_ops ops = {.connected = on_connected, .failed = on_failed};

static const char *in(const struct fixture *fixture, const char *name)
{
    static char paths[4][256];
    static unsigned at;
    char *path = paths[at++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", fixture->directory, name);
    return path;
}

static int open_transport(struct fixture *fixture, const char *name, bool retry_path)
{
    char path[256];
    char devices[256];
    char ports[256];
    const struct transport_options options = {.method = TRANSPORT_VIRTIO_SERIAL,
                                              .path = path,
                                              .retry_path = retry_path,
                                              .devices_directory = devices,
                                              .ports_directory = ports};

    snprintf(path, sizeof(path), "%s", in(fixture, name));
    snprintf(devices, sizeof(devices), "%s", in(fixture, "dev"));
    snprintf(ports, sizeof(ports), "%s", in(fixture, "ports"));
    return transport_open(fixture->base, &options, &ops, fixture, &fixture->transport,
                          &fixture->reason);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-transport.XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    fixture->base = event_base_new();
    fixture->fd = -1;
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

static void make_directory(const struct fixture *fixture, const char *name)
{
    assert_int_equal(mkdir(in(fixture, name), 0755), 0);
}

/* Makes a terminal and a link to it, which is the device. Returns the other end of the terminal. */
static int plug(const struct fixture *fixture, const char *name)
{
    int host = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

    assert_true(host >= 0);
    assert_int_equal(grantpt(host), 0);
    assert_int_equal(unlockpt(host), 0);
    assert_int_equal(symlink(ptsname(host), in(fixture, name)), 0);
    return host;
}

static void unplug(const struct fixture *fixture, const char *name, int host)
{
    assert_int_equal(unlink(in(fixture, name)), 0);
    close(host);
}

static void set_port_name(const struct fixture *fixture, const char *port, const char *name)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "ports/%s/name", port);
    file = fopen(in(fixture, path), "we");
    assert_non_null(file);
    fprintf(file, "%s\n", name);
    fclose(file);
}

static void run_for(struct fixture *fixture, unsigned ms)
{
    const struct timeval time = {.tv_usec = ms * 1000};

    assert_int_equal(event_base_loopexit(fixture->base, &time), 0);
    assert_int_equal(event_base_loop(fixture->base, 0), 0);
}

static void run_until_connected(struct fixture *fixture, unsigned count)
{
    const uint64_t end_ms = clock_now_ms() + 5000;

    while (fixture->connected_count < count) {
        assert_true(clock_now_ms() < end_ms);
        assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
    }
}

static void assert_talks_with(const struct fixture *fixture, int host)
{
    char byte = 0;

    assert_int_equal(write(fixture->fd, "x", 1), 1);
    assert_int_equal(read(host, &byte, 1), 1);
    assert_int_equal(byte, 'x');
}

static void test_device_is_handed_out(void **state)
{
    struct fixture *fixture = *state;
    int host;
    int flags;

    make_directory(fixture, "dev");
    host = plug(fixture, "dev/port");
    assert_int_equal(open_transport(fixture, "dev/port", false), 0);
    assert_true(transport_is_device(fixture->transport));
    assert_int_equal(fixture->connected_count, 0); /* from the loop only */
    run_until_connected(fixture, 1);
    flags = fcntl(fixture->fd, F_GETFL);
    assert_int_equal(flags & (O_NONBLOCK | O_ACCMODE), O_NONBLOCK | O_RDWR);
    assert_int_equal(fcntl(fixture->fd, F_GETFD), FD_CLOEXEC);
    assert_talks_with(fixture, host);
    close(host);
}

static void test_port_without_link_is_found_by_name(void **state)
{
    struct fixture *fixture = *state;
    int host;

    make_directory(fixture, "dev");
    make_directory(fixture, "ports");
    make_directory(fixture, "ports/vport0p0"); /* a console port has no name */
    make_directory(fixture, "ports/vport0p1");
    make_directory(fixture, "ports/vport0p2");
    set_port_name(fixture, "vport0p1", "org.example.agent2");
    set_port_name(fixture, "vport0p2", "org.example.agent");
    host = plug(fixture, "dev/vport0p2");
    assert_int_equal(open_transport(fixture, PORT, false), 0);
    run_until_connected(fixture, 1);
    assert_talks_with(fixture, host);
    close(host);
}

static void test_other_paths_are_not_looked_up(void **state)
{
    struct fixture *fixture = *state;
    int host;

    make_directory(fixture, "dev");
    make_directory(fixture, "ports");
    make_directory(fixture, "ports/vport0p1");
    set_port_name(fixture, "vport0p1", "org.example.agent");
    host = plug(fixture, "dev/vport0p1");
    assert_int_equal(open_transport(fixture, "run/org.example.agent", false), -ENOENT);
    close(host);
}

static void test_missing_device_without_retry(void **state)
{
    struct fixture *fixture = *state;

    make_directory(fixture, "dev");
    assert_int_equal(open_transport(fixture, PORT, false), -ENOENT);
    assert_null(fixture->transport);
    assert_non_null(strstr(fixture->reason, "no channel of that name"));
}

static void test_regular_file_is_refused(void **state)
{
    struct fixture *fixture = *state;
    FILE *file;

    make_directory(fixture, "dev");
    file = fopen(in(fixture, "dev/port"), "we");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(open_transport(fixture, "dev/port", false), -ENODEV);
    assert_non_null(strstr(fixture->reason, "dev/port"));
}

static void test_device_is_waited_for(void **state)
{
    struct fixture *fixture = *state;
    int host;

    assert_int_equal(open_transport(fixture, PORT, true), 0);
    run_for(fixture, 1);
    make_directory(fixture, "dev");
    run_for(fixture, 1);
    make_directory(fixture, "dev/virtio-ports");
    run_for(fixture, 1);
    host = plug(fixture, "dev/vport0p1");
    run_for(fixture, 1);
    assert_int_equal(fixture->connected_count, 0);
    assert_int_equal(symlink("../vport0p1", in(fixture, PORT)), 0);
    run_until_connected(fixture, 1);
    assert_talks_with(fixture, host);
    close(host);
}

static void test_link_before_its_target(void **state)
{
    struct fixture *fixture = *state;
    int host;

    make_directory(fixture, "dev");
    make_directory(fixture, "dev/virtio-ports");
    assert_int_equal(symlink("../vport0p1", in(fixture, PORT)), 0);
    assert_int_equal(open_transport(fixture, PORT, true), 0);
    run_for(fixture, 1);
    host = plug(fixture, "dev/vport0p1");
    run_until_connected(fixture, 1);
    close(host);
}

static void test_name_that_comes_after_the_node(void **state)
{
    struct fixture *fixture = *state;
    int host;

    make_directory(fixture, "dev");
    make_directory(fixture, "ports");
    assert_int_equal(open_transport(fixture, PORT, true), 0);
    run_for(fixture, 1);
    host = plug(fixture, "dev/vport0p1");
    run_for(fixture, 1);
    /* nothing tells of this one: ports is sysfs, which is not watched */
    make_directory(fixture, "ports/vport0p1");
    set_port_name(fixture, "vport0p1", "org.example.agent");
    run_until_connected(fixture, 1);
    close(host);
}

/* Runs the attempts that follow an event out: then no timer is left, only the watch. */
static void run_until_only_watching(struct fixture *fixture)
{
    unsigned rounds = 0;

    while (event_base_get_num_events(fixture->base, EVENT_BASE_COUNT_ADDED) > 1) {
        assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
        assert_true(++rounds < 500);
    }
    assert_int_equal(fixture->connected_count, 0);
}

static void test_waiting_is_sleeping(void **state)
{
    struct fixture *fixture = *state;
    int host;

    assert_int_equal(open_transport(fixture, PORT, true), 0);
    run_until_only_watching(fixture);
    make_directory(fixture, "dev");
    assert_int_equal(event_base_loop(fixture->base, EVLOOP_ONCE), 0);
    assert_int_equal(event_base_get_num_events(fixture->base, EVENT_BASE_COUNT_ADDED), 2);
    run_until_only_watching(fixture);
    host = plug(fixture, "dev/vport0p1");
    make_directory(fixture, "dev/virtio-ports");
    run_until_only_watching(fixture);
    assert_int_equal(symlink("../vport0p1", in(fixture, PORT)), 0);
    run_until_connected(fixture, 1);
    assert_talks_with(fixture, host);
    close(host);
}

static void test_error_that_no_event_ends_is_tried_again(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t begin_ms = clock_now_ms();
    unsigned rounds = 0;

    make_directory(fixture, "dev");
    make_directory(fixture, "dev/port"); /* EISDIR */
    assert_int_equal(open_transport(fixture, "dev/port", true), 0);
    while (clock_now_ms() < begin_ms + 2500) {
        assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
        assert_true(event_base_get_num_events(fixture->base, EVENT_BASE_COUNT_ADDED) > 1);
        rounds++;
    }
    /* some ten attempts; what other programs do in /tmp wakes it up, too */
    assert_in_range(rounds, 2, 500);
}

static void test_device_comes_back(void **state)
{
    struct fixture *fixture = *state;
    int host;

    make_directory(fixture, "dev");
    host = plug(fixture, "dev/port");
    assert_int_equal(open_transport(fixture, "dev/port", true), 0);
    run_until_connected(fixture, 1);
    for (unsigned round = 2; round < 5; round++) {
        unplug(fixture, "dev/port", host);
        disconnect(fixture);
        run_for(fixture, 1);
        host = plug(fixture, "dev/port");
        run_until_connected(fixture, round);
        assert_talks_with(fixture, host);
    }
    close(host);
}

static void test_device_that_stays_is_opened_again(void **state)
{
    struct fixture *fixture = *state;
    int host;

    make_directory(fixture, "dev");
    host = plug(fixture, "dev/port");
    assert_int_equal(open_transport(fixture, "dev/port", false), 0);
    run_until_connected(fixture, 1);
    disconnect(fixture);
    run_until_connected(fixture, 2);
    assert_talks_with(fixture, host);
    close(host);
}

static void test_device_that_vanishes_without_retry(void **state)
{
    struct fixture *fixture = *state;
    int host;

    make_directory(fixture, "dev");
    host = plug(fixture, "dev/port");
    assert_int_equal(open_transport(fixture, "dev/port", false), 0);
    run_until_connected(fixture, 1);
    unplug(fixture, "dev/port", host);
    disconnect(fixture);
    assert_int_equal(fixture->error, 0);                    /* from the loop only */
    assert_int_equal(event_base_loop(fixture->base, 0), 1); /* until nothing is left to do */
    assert_int_equal(fixture->error, -ENOENT);
    assert_int_equal(fixture->connected_count, 1);
}

static void test_device_that_ends_at_once_is_opened_slowly(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t begin_ms = clock_now_ms();
    int host;

    make_directory(fixture, "dev");
    host = plug(fixture, "dev/port");
    fixture->closes_at_once = true;
    assert_int_equal(open_transport(fixture, "dev/port", true), 0);
    run_until_connected(fixture, 4);
    assert_true(clock_now_ms() - begin_ms >= 3 * 200);
    close(host);
}

static void test_free_before_the_device_is_handed_out(void **state)
{
    struct fixture *fixture = *state;
    int host;

    make_directory(fixture, "dev");
    host = plug(fixture, "dev/port");
    assert_int_equal(open_transport(fixture, "dev/port", false), 0);
    fixture->transport = transport_free(fixture->transport);
    run_for(fixture, 1);
    assert_int_equal(fixture->connected_count, 0);
    assert_int_equal(fcntl(host, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(read(host, &(char){0}, 1), -1);
    assert_int_equal(errno, EIO); /* nobody has the terminal open any more */
    close(host);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_device_is_handed_out),
        TEST(test_port_without_link_is_found_by_name),
        TEST(test_other_paths_are_not_looked_up),
        TEST(test_missing_device_without_retry),
        TEST(test_regular_file_is_refused),
        TEST(test_device_is_waited_for),
        TEST(test_link_before_its_target),
        TEST(test_name_that_comes_after_the_node),
        TEST(test_waiting_is_sleeping),
        TEST(test_error_that_no_event_ends_is_tried_again),
        TEST(test_device_comes_back),
        TEST(test_device_that_stays_is_opened_again),
        TEST(test_device_that_vanishes_without_retry),
        TEST(test_device_that_ends_at_once_is_opened_slowly),
        TEST(test_free_before_the_device_is_handed_out),
    };

    return cmocka_run_group_tests_name("transport-virtio", tests, NULL, NULL);
}
