/* SPDX-License-Identifier: MIT */
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
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "io/transport.h"

#define CONNECTIONS_MAX 3

struct fixture {
    struct event_base *base;
    struct transport *transport;
    char directory[64];
    char path[96];
    int taken[16];
    unsigned taken_count;
};

static void on_connected(struct transport *transport, int fd, void *context)
{
    struct fixture *fixture = context;

    assert_ptr_equal(transport, fixture->transport);
    assert_true(fixture->taken_count < ARRAY_SIZE(fixture->taken));
    fixture->taken[fixture->taken_count++] = fd;
}

static const struct transport_ops ops = {.connected = on_connected};

static int open_transport(struct fixture *fixture, const char *path, char **ret_reason)
{
    const struct transport_options options = {
        .method = TRANSPORT_UNIX_LISTEN, .path = path, .connections_max = CONNECTIONS_MAX};

    return transport_open(fixture->base, &options, &ops, fixture, &fixture->transport, ret_reason);
}

static void start(struct fixture *fixture)
{
    char *reason = NULL;

    assert_int_equal(open_transport(fixture, fixture->path, &reason), 0);
    assert_null(reason);
    assert_string_equal(transport_path(fixture->transport), fixture->path);
    assert_false(transport_is_device(fixture->transport));
}

/* What a failing start says; the reason must contain `expected`. */
static void start_fails(struct fixture *fixture, const char *path, int error, const char *expected)
{
    char *reason = NULL;

    assert_int_equal(open_transport(fixture, path, &reason), error);
    assert_null(fixture->transport);
    assert_non_null(reason);
    if (!strstr(reason, expected))
        fail_msg("'%s' does not say '%s'", reason, expected);
    free(reason);
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-transport.XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    snprintf(fixture->path, sizeof(fixture->path), "%s/agent.sock", fixture->directory);
    fixture->base = event_base_new();
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];

    assert_null(transport_free(fixture->transport));
    for (unsigned i = 0; i < fixture->taken_count; i++)
        close(fixture->taken[i]);
    event_base_free(fixture->base);
    snprintf(command, sizeof(command), "rm -rf %s", fixture->directory);
    assert_int_equal(system(command), 0);
    free(fixture);
    return 0;
}

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    assert_true(strlen(path) < sizeof(address.sun_path));
    memcpy(address.sun_path, path, strlen(path));
    return address;
}

static int try_connect(const char *path)
{
    const struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        int error = errno;

        close(fd);
        return -error;
    }
    return fd;
}

static int connect_to(const struct fixture *fixture)
{
    int fd = try_connect(fixture->path);

    assert_true(fd >= 0);
    return fd;
}

/* A socket file as a program leaves it that was killed, or (kept open) one that is alive. */
static int bind_socket(const char *path, int type)
{
    const struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void run_pending(struct fixture *fixture)
{
    assert_true(event_base_loop(fixture->base, EVLOOP_NONBLOCK) >= 0);
}

/* Runs the loop until so many connections have been taken in all. */
static void run_until_taken(struct fixture *fixture, unsigned count)
{
    const uint64_t end_ms = clock_now_ms() + 5000;

    while (fixture->taken_count < count) {
        assert_true(clock_now_ms() < end_ms);
        assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
    }
}

static void end_connection(struct fixture *fixture, unsigned index)
{
    close(fixture->taken[index]);
    fixture->taken[index] = fixture->taken[--fixture->taken_count];
    transport_disconnected(fixture->transport);
}

static void test_connection_is_handed_out(void **state)
{
    struct fixture *fixture = *state;
    char byte = 0;
    int client;
    int flags;

    start(fixture);
    client = connect_to(fixture);
    run_until_taken(fixture, 1);
    flags = fcntl(fixture->taken[0], F_GETFL);
    assert_int_equal(flags & O_NONBLOCK, O_NONBLOCK);
    assert_int_equal(fcntl(fixture->taken[0], F_GETFD), FD_CLOEXEC);
    assert_int_equal(write(client, "x", 1), 1);
    assert_int_equal(read(fixture->taken[0], &byte, 1), 1);
    assert_int_equal(byte, 'x');
    close(client);
}

static void test_mode_is_0600_whatever_the_umask(void **state)
{
    struct fixture *fixture = *state;
    const mode_t before = umask(0);
    struct stat status;

    start(fixture);
    umask(before);
    assert_int_equal(lstat(fixture->path, &status), 0);
    assert_true(S_ISSOCK(status.st_mode));
    assert_int_equal(status.st_mode & 07777, 0600);
}

static void test_clients_beyond_the_limit_wait(void **state)
{
    struct fixture *fixture = *state;
    int clients[CONNECTIONS_MAX + 2];

    start(fixture);
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = connect_to(fixture);
    run_until_taken(fixture, CONNECTIONS_MAX);
    run_pending(fixture);
    assert_int_equal(fixture->taken_count, CONNECTIONS_MAX);

    /* no event is left that would keep the loop awake: it says so at once */
    assert_int_equal(event_base_loop(fixture->base, 0), 1);

    end_connection(fixture, 0);
    run_until_taken(fixture, CONNECTIONS_MAX);
    end_connection(fixture, 1);
    run_until_taken(fixture, CONNECTIONS_MAX);
    end_connection(fixture, 0);
    run_pending(fixture);
    assert_int_equal(fixture->taken_count, CONNECTIONS_MAX - 1);
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
        close(clients[i]);
}

static void test_slot_that_frees_up_later_is_used(void **state)
{
    struct fixture *fixture = *state;
    int clients[CONNECTIONS_MAX];
    int late;

    start(fixture);
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
        clients[i] = connect_to(fixture);
    run_until_taken(fixture, CONNECTIONS_MAX);
    end_connection(fixture, 0);
    run_pending(fixture);
    late = connect_to(fixture);
    run_until_taken(fixture, CONNECTIONS_MAX);
    close(late);
    for (unsigned i = 0; i < ARRAY_SIZE(clients); i++)
        close(clients[i]);
}

/* Lets no further descriptor be opened until the limit is put back. */
static struct rlimit exhaust_descriptors(void)
{
    struct rlimit before;
    struct rlimit limit;
    int highest = dup(0);

    assert_true(highest >= 0);
    close(highest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    limit = before;
    limit.rlim_cur = (rlim_t)highest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return before;
}

static void test_no_descriptors_left(void **state)
{
    struct fixture *fixture = *state;
    struct rlimit before;
    unsigned rounds = 0;
    uint64_t end_ms;
    int client;

    start(fixture);
    client = connect_to(fixture);
    before = exhaust_descriptors();
    end_ms = clock_now_ms() + 300;
    while (clock_now_ms() < end_ms) {
        assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
        rounds++;
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(fixture->taken_count, 0);
    assert_true(rounds <= 8); /* it paused, and did not spin */
    run_until_taken(fixture, 1);
    close(client);
}

static void test_stale_socket_is_taken_over(void **state)
{
    struct fixture *fixture = *state;
    int client;

    close(bind_socket(fixture->path, SOCK_STREAM));
    assert_int_equal(try_connect(fixture->path), -ECONNREFUSED);
    start(fixture);
    client = connect_to(fixture);
    run_until_taken(fixture, 1);
    close(client);
}

static void wait_for_close(int fd)
{
    char byte;

    (void)!read(fd, &byte, 1);
}

/* Starts when `go` is closed, says on `told` whether it could, and lives until `end` is closed. */
static void start_in_child(struct fixture *fixture, int go, int told, int end)
{
    char *reason = NULL;
    char answer;
    int result;

    wait_for_close(go);
    result = open_transport(fixture, fixture->path, &reason);
    free(reason);
    answer = result == 0 ? 'y' : result == -EADDRINUSE ? 'n' : '?';
    (void)!write(told, &answer, 1);
    wait_for_close(end);
    _exit(0);
}

static void start_two_together(struct fixture *fixture, char ret_answers[2], int *ret_end)
{
    int told[2];
    int go[2];
    int end[2];

    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(go), 0);
    assert_int_equal(pipe(end), 0);
    for (unsigned i = 0; i < 2; i++) {
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
            close(go[1]);
            close(end[1]);
            start_in_child(fixture, go[0], told[1], end[0]);
        }
    }
    close(go[1]);
    assert_int_equal(read(told[0], &ret_answers[0], 1), 1);
    assert_int_equal(read(told[0], &ret_answers[1], 1), 1);
    close(go[0]);
    close(told[0]);
    close(told[1]);
    close(end[0]);
    *ret_end = end[1];
}

static void test_one_of_two_that_start_together_has_the_socket(void **state)
{
    struct fixture *fixture = *state;

    for (unsigned round = 0; round < 30; round++) {
        char answers[3] = "";
        int end;

        close(bind_socket(fixture->path, SOCK_STREAM)); /* stale */
        start_two_together(fixture, answers, &end);
        if (strcmp(answers, "yn") != 0)
            assert_string_equal(answers, "ny");
        close(connect_to(fixture));
        close(end); /* both end without removing anything */
        assert_true(wait(NULL) > 0);
        assert_true(wait(NULL) > 0);
        assert_int_equal(unlink(fixture->path), 0);
    }
}

static void test_directory_locked_by_a_stranger(void **state)
{
    struct fixture *fixture = *state;
    int stranger = open(fixture->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(flock(stranger, LOCK_EX), 0);
    start(fixture);
    close(connect_to(fixture));
    close(stranger);
}

static void test_directory_is_not_left_locked(void **state)
{
    struct fixture *fixture = *state;
    int stranger = open(fixture->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    start(fixture);
    assert_int_equal(flock(stranger, LOCK_EX | LOCK_NB), 0);
    close(stranger);
}

static void test_live_socket_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct stat before;
    struct stat after;
    int other = bind_socket(fixture->path, SOCK_STREAM);
    int client;

    assert_int_equal(listen(other, 5), 0);
    assert_int_equal(lstat(fixture->path, &before), 0);
    start_fails(fixture, fixture->path, -EADDRINUSE, "another program listens on");
    assert_int_equal(lstat(fixture->path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    client = connect_to(fixture);
    close(client);
    close(other);
}

static void test_live_socket_with_a_full_backlog_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    int other = bind_socket(fixture->path, SOCK_STREAM);
    int client;

    assert_int_equal(listen(other, 0), 0);
    client = connect_to(fixture);
    start_fails(fixture, fixture->path, -EADDRINUSE, "another program listens on");
    assert_int_equal(access(fixture->path, F_OK), 0);
    close(client);
    close(other);
}

static void test_socket_of_another_type_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    int other = bind_socket(fixture->path, SOCK_DGRAM);

    start_fails(fixture, fixture->path, -EADDRINUSE, "another program listens on");
    assert_int_equal(access(fixture->path, F_OK), 0);
    close(other);
}

static void test_file_in_the_way_is_left_alone(void **state)
{
    struct fixture *fixture = *state;
    int file = open(fixture->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_int_equal(write(file, "data", 4), 4);
    close(file);
    start_fails(fixture, fixture->path, -EEXIST, "is not a socket");
    assert_int_equal(access(fixture->path, F_OK), 0);
}

static void test_dangling_link_in_the_way_is_left_alone(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(symlink("nowhere", fixture->path), 0);
    start_fails(fixture, fixture->path, -EEXIST, "is not a socket");
}

static void test_directory_is_missing(void **state)
{
    struct fixture *fixture = *state;
    char path[128];

    snprintf(path, sizeof(path), "%s/missing/agent.sock", fixture->directory);
    start_fails(fixture, path, -ENOENT, "No such file or directory");
}

static void test_path_is_too_long(void **state)
{
    struct fixture *fixture = *state;
    char path[256];
    int length = snprintf(path, sizeof(path), "%s/", fixture->directory);

    memset(path + length, 'x', 108 - (size_t)length);
    path[108] = '\0';
    start_fails(fixture, path, -ENAMETOOLONG, "at most 107 characters");
    path[107] = '\0';
    close(bind_socket(path, SOCK_STREAM)); /* stale */
    snprintf(fixture->path, sizeof(fixture->path), "%s/x", fixture->directory);
    assert_int_equal(open_transport(fixture, path, &(char *){NULL}), 0);
}

static void test_path_is_missing(void **state)
{
    struct fixture *fixture = *state;

    start_fails(fixture, NULL, -EINVAL, "unix-listen needs a path");
    start_fails(fixture, "", -EINVAL, "unix-listen needs a path");
}

static void test_free_removes_the_socket(void **state)
{
    struct fixture *fixture = *state;

    start(fixture);
    fixture->transport = transport_free(fixture->transport);
    assert_int_equal(access(fixture->path, F_OK), -1);
    assert_int_equal(errno, ENOENT);
}

static void test_free_leaves_a_successor_its_socket(void **state)
{
    struct fixture *fixture = *state;
    int successor;

    start(fixture);
    assert_int_equal(unlink(fixture->path), 0);
    successor = bind_socket(fixture->path, SOCK_STREAM);
    assert_int_equal(listen(successor, 5), 0);
    fixture->transport = transport_free(fixture->transport);
    close(connect_to(fixture));
    close(successor);
}

static void test_connections_outlive_the_transport(void **state)
{
    struct fixture *fixture = *state;
    char byte = 0;
    int client;

    start(fixture);
    client = connect_to(fixture);
    run_until_taken(fixture, 1);
    fixture->transport = transport_free(fixture->transport);
    assert_int_equal(write(fixture->taken[0], "y", 1), 1);
    assert_int_equal(read(client, &byte, 1), 1);
    close(client);
}

static void test_names(void **state)
{
    enum transport_method method;

    assert_int_equal(transport_method_from_name("unix-listen", &method), 0);
    assert_int_equal(method, TRANSPORT_UNIX_LISTEN);
    assert_int_equal(transport_method_from_name("virtio-serial", &method), 0);
    assert_int_equal(method, TRANSPORT_VIRTIO_SERIAL);
    assert_int_equal(transport_method_from_name("tcp", &method), -EINVAL);
    assert_string_equal(transport_method_name(TRANSPORT_UNIX_LISTEN), "unix-listen");
    assert_null(transport_default_path(TRANSPORT_UNIX_LISTEN));
    assert_string_equal(transport_default_path(TRANSPORT_VIRTIO_SERIAL),
                        "/dev/virtio-ports/org.qemu.guest_agent.0");
}

/* A socket that a service manager made: it is taken as it is, and its file is not the agent's. */
static void test_passed_socket(void **state)
{
    struct fixture *fixture = *state;
    const struct sockaddr_un address = address_of(fixture->path);
    struct stat status;
    char *reason = NULL;
    int passed = socket(AF_UNIX, SOCK_STREAM, 0);
    struct transport_options options = {.method = TRANSPORT_UNIX_LISTEN,
                                        .path = fixture->path,
                                        .connections_max = CONNECTIONS_MAX,
                                        .passed_fd = passed};

    assert_int_equal(bind(passed, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(
        transport_open(fixture->base, &options, &ops, fixture, &fixture->transport, &reason),
        -EINVAL); /* nobody listens on it */
    assert_non_null(strstr(reason, "is not listening"));
    free(reason);
    assert_int_equal(listen(passed, 5), 0);
    int client = try_connect(fixture->path); /* before the agent is there */
    assert_true(client >= 0);
    assert_int_equal(
        transport_open(fixture->base, &options, &ops, fixture, &fixture->transport, &reason), 0);
    assert_int_equal(fcntl(passed, F_GETFD), FD_CLOEXEC);
    while (fixture->taken_count < 1)
        assert_true(event_base_loop(fixture->base, EVLOOP_ONCE) >= 0);
    fixture->transport = transport_free(fixture->transport);
    assert_int_equal(fcntl(passed, F_GETFD), -1);
    assert_int_equal(lstat(fixture->path, &status), 0);
    close(client);
}

static void test_retry_until_the_path_is_free(void **state)
{
    struct fixture *fixture = *state;
    struct transport_options options = {.method = TRANSPORT_UNIX_LISTEN,
                                        .path = fixture->path,
                                        .connections_max = CONNECTIONS_MAX,
                                        .retry_path = true};
    char *reason = NULL;

    assert_int_equal(mkdir(fixture->path, 0700), 0);
    assert_int_equal(
        transport_open(fixture->base, &options, &ops, fixture, &fixture->transport, &reason), 0);
    assert_null(reason);
    assert_int_equal(event_base_loop(fixture->base, EVLOOP_ONCE), 0);
    assert_int_equal(rmdir(fixture->path), 0);
    int client = -1;
    while ((client = try_connect(fixture->path)) < 0)
        assert_int_equal(event_base_loop(fixture->base, EVLOOP_ONCE), 0);
    while (fixture->taken_count < 1)
        assert_int_equal(event_base_loop(fixture->base, EVLOOP_ONCE), 0);
    close(client);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_connection_is_handed_out),
        TEST(test_mode_is_0600_whatever_the_umask),
        TEST(test_clients_beyond_the_limit_wait),
        TEST(test_slot_that_frees_up_later_is_used),
        TEST(test_no_descriptors_left),
        TEST(test_stale_socket_is_taken_over),
        TEST(test_one_of_two_that_start_together_has_the_socket),
        TEST(test_directory_locked_by_a_stranger),
        TEST(test_directory_is_not_left_locked),
        TEST(test_live_socket_is_left_alone),
        TEST(test_live_socket_with_a_full_backlog_is_left_alone),
        TEST(test_socket_of_another_type_is_left_alone),
        TEST(test_file_in_the_way_is_left_alone),
        TEST(test_dangling_link_in_the_way_is_left_alone),
        TEST(test_directory_is_missing),
        TEST(test_path_is_too_long),
        TEST(test_path_is_missing),
        TEST(test_free_removes_the_socket),
        TEST(test_free_leaves_a_successor_its_socket),
        TEST(test_connections_outlive_the_transport),
        TEST(test_passed_socket),
        TEST(test_retry_until_the_path_is_free),
        cmocka_unit_test(test_names),
    };

    return cmocka_run_group_tests_name("transport-unix", tests, NULL, NULL);
}
