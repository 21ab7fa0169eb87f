/* SPDX-License-Identifier: MIT */
/*
 * Where a broker is found: a directory that is nobody else's, sockets that listen as soon as they
 * can be seen.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jobs/broker-socket.h"

static char state_directory[400];

static int setup(void **state)
{
    strcpy(state_directory, "/tmp/test-broker-socket-XXXXXX");
    return mkdtemp(state_directory) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[500];
    state_directory[strlen("/tmp/test-broker-socket-XXXXXX")] = '\0';
    snprintf(command, sizeof(command), "rm -rf %s", state_directory);
    return system(command);
}

static const char *in_state(const char *name)
{
    static char path[500];
    snprintf(path, sizeof(path), "%s/%s", state_directory, name);
    return path;
}

static void expect_refused(int error)
{
    int fd = broker_directory_open(state_directory);
    assert_int_equal(fd, error);
}

static void test_the_directory_is_made(void **state)
{
    struct stat status;
    strcat(state_directory, "/new");
    int fd = broker_directory_open(state_directory);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(stat(in_state("bellhop"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    /* Once more, now that it is there. */
    fd = broker_directory_open(state_directory);
    assert_true(fd >= 0);
    close(fd);
}

static void test_a_directory_that_others_can_enter_is_refused(void **state)
{
    assert_int_equal(mkdir(in_state("bellhop"), 0700), 0);
    assert_int_equal(chmod(in_state("bellhop"), 0710), 0);
    expect_refused(-EPERM);
    assert_int_equal(chmod(in_state("bellhop"), 0701), 0);
    expect_refused(-EPERM);
    assert_int_equal(chmod(in_state("bellhop"), 0700), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(in_state("bellhop"), 12345, (gid_t)-1), 0);
        expect_refused(-EPERM);
    }
}

static void test_what_is_no_directory_is_refused(void **state)
{
    assert_int_equal(symlink("/tmp", in_state("bellhop")), 0);
    expect_refused(-ENOTDIR);
    assert_int_equal(unlink(in_state("bellhop")), 0);
    close(open(in_state("bellhop"), O_CREAT | O_WRONLY, 0600));
    expect_refused(-ENOTDIR);
}

static void check_listener(int directory_fd)
{
    char *name = NULL, *other = NULL;
    int listener = broker_socket_listen(directory_fd, &name);
    int second = broker_socket_listen(directory_fd, &other);
    assert_true(listener >= 0 && second >= 0);
    assert_true(broker_socket_is_name(name));
    assert_string_not_equal(name, other);

    int fd = broker_socket_connect(directory_fd, name);
    assert_true(fd >= 0);
    int accepted = accept(listener, NULL, NULL);
    assert_true(accepted >= 0);
    assert_true(broker_socket_peer_is_trusted(accepted));
    close(accepted);
    close(fd);

    close(listener);
    assert_int_equal(broker_socket_connect(directory_fd, name), -ECONNREFUSED);
    assert_int_equal(unlinkat(directory_fd, name, 0), 0);
    assert_int_equal(broker_socket_connect(directory_fd, name), -ENOENT);
    close(second);
    free(name);
    free(other);
}

static void test_a_socket_is_found_by_its_name(void **state)
{
    int directory_fd = broker_directory_open(state_directory);
    assert_true(directory_fd >= 0);
    check_listener(directory_fd);
    close(directory_fd);
}

static void test_a_long_path_is_no_obstacle(void **state)
{
    /* The address of a unix socket has room for 107 characters. */
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(state_directory);
        memset(state_directory + length, 'x', 100);
        state_directory[length] = '/';
        state_directory[length + 100] = '\0';
        assert_int_equal(mkdir(state_directory, 0700), 0);
    }
    int directory_fd = broker_directory_open(state_directory);
    assert_true(directory_fd >= 0);
    check_listener(directory_fd);
    close(directory_fd);
}

static void test_names(void **state)
{
    assert_true(broker_socket_is_name("broker-1-0.sock"));
    /* Not listening yet; not a broker's at all. */
    assert_false(broker_socket_is_name(".broker-1-0.sock"));
    assert_false(broker_socket_is_name("broker-.sock"));
    assert_false(broker_socket_is_name("broker-1-0.sock~"));
    assert_false(broker_socket_is_name("next-handle"));
    assert_false(broker_socket_is_name(""));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_directory_is_made),
        TEST(test_a_directory_that_others_can_enter_is_refused),
        TEST(test_what_is_no_directory_is_refused),
        TEST(test_a_socket_is_found_by_its_name),
        TEST(test_a_long_path_is_no_obstacle),
        TEST(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
