/* SPDX-License-Identifier: MIT */
#include "passed-sockets.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { FIRST_FD = 100 }; /* beyond what the test itself has open */

static char folder[64];
static int next_fd;

static void set_environment(const char *pid, const char *fds, const char *names)
{
    char own[16];

    snprintf(own, sizeof(own), "%d", (int)getpid());
    assert_int_equal(setenv("LISTEN_PID", pid ? pid : own, 1), 0);
    assert_int_equal(fds ? setenv("LISTEN_FDS", fds, 1) : unsetenv("LISTEN_FDS"), 0);
    assert_int_equal(names ? setenv("LISTEN_FDNAMES", names, 1) : unsetenv("LISTEN_FDNAMES"), 0);
}

static int set_up(void **state)
{
    strcpy(folder, "/tmp/test-passed-XXXXXX");
    next_fd = FIRST_FD;
    return mkdtemp(folder) ? 0 : -1;
}

static int tear_down(void **state)
{
    char path[128];

    while (next_fd > FIRST_FD)
        close(--next_fd);
    snprintf(path, sizeof(path), "%s/socket", folder);
    unlink(path);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return rmdir(folder);
}

/* Makes the next descriptor a socket, bound to a name (of `length` bytes; 0: to none). */
static void pass_socket(int type, const char *name, size_t length, bool listens)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, type, 0);

    assert_true(fd >= 0);
    memcpy(address.sun_path, name, length);
    if (length > 0)
        assert_int_equal(bind(fd, (const struct sockaddr *)&address,
                              (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)),
                         0);
    if (listens)
        assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(dup2(fd, next_fd), next_fd);
    close(fd);
    next_fd++;
}

static void check_environment_is_clean(void)
{
    assert_null(getenv("LISTEN_PID"));
    assert_null(getenv("LISTEN_FDS"));
    assert_null(getenv("LISTEN_FDNAMES"));
}

static void check_none(void)
{
    struct passed_sockets sockets = {.count = 77};
    char *reason = NULL;

    assert_int_equal(passed_sockets_take(FIRST_FD, &sockets, &reason), 0);
    assert_int_equal(sockets.count, 0);
    assert_null(reason);
    check_environment_is_clean();
}

static void check_refused(const char *expected)
{
    struct passed_sockets sockets = {.count = 77};
    char *reason = NULL;

    assert_int_equal(passed_sockets_take(FIRST_FD, &sockets, &reason), -EINVAL);
    assert_non_null(reason);
    if (!strstr(reason, expected))
        fail_msg("'%s' does not say '%s'", reason, expected);
    assert_int_equal(sockets.count, 77);
    free(reason);
}

static void test_sockets(void **state)
{
    struct passed_sockets sockets;
    char *reason = NULL, path[128], abstract[128], shown[128];

    snprintf(path, sizeof(path), "%s/socket", folder);
    int length = snprintf(abstract, sizeof(abstract), "%cbellhop-test-%d", '\0', (int)getpid());
    snprintf(shown, sizeof(shown), "@bellhop-test-%d", (int)getpid());
    pass_socket(SOCK_STREAM, path, strlen(path), true);
    pass_socket(SOCK_STREAM, abstract, (size_t)length, true);
    set_environment(NULL, "2", "one:two");
    assert_int_equal(passed_sockets_take(FIRST_FD, &sockets, &reason), 0);
    check_environment_is_clean();
    assert_int_equal(sockets.count, 2);
    assert_int_equal(sockets.items[0].fd, FIRST_FD);
    assert_string_equal(sockets.items[0].name, "one");
    assert_string_equal(sockets.items[0].method, "unix-listen");
    assert_string_equal(sockets.items[0].path, path);
    assert_int_equal(fcntl(FIRST_FD, F_GETFD), FD_CLOEXEC);
    assert_int_equal(sockets.items[1].fd, FIRST_FD + 1);
    assert_string_equal(sockets.items[1].name, "two");
    assert_string_equal(sockets.items[1].path, shown);
    passed_sockets_deinit(&sockets);
    assert_int_equal(fcntl(FIRST_FD, F_GETFD), FD_CLOEXEC); /* still open */
}

/* Names are not always there, and may be fewer. */
static void test_names_that_are_not_there(void **state)
{
    static const char *const names[] = {NULL, "", "one"};
    char abstract[64];
    int length = snprintf(abstract, sizeof(abstract), "%cbellhop-test-%d", '\0', (int)getpid());

    pass_socket(SOCK_STREAM, abstract, (size_t)length, true);
    assert_int_equal(dup2(FIRST_FD, next_fd++), FIRST_FD + 1);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        struct passed_sockets sockets;
        char *reason = NULL;

        set_environment(NULL, "2", names[i]);
        assert_int_equal(passed_sockets_take(FIRST_FD, &sockets, &reason), 0);
        assert_string_equal(sockets.items[0].name, i < 2 ? "" : "one");
        assert_string_equal(sockets.items[1].name, "");
        passed_sockets_deinit(&sockets);
    }
}

static void test_nothing_was_passed(void **state)
{
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    check_none();
    set_environment("1", "1", "of-another-process");
    check_none();
    set_environment("", "1", NULL);
    check_none();
    set_environment(NULL, NULL, NULL);
    check_none();
    set_environment(NULL, "0", "");
    check_none();
}

static void test_bad_numbers(void **state)
{
    static const char *const numbers[] = {"", "one", "-1", "1x", "65", "99999999999999999999"};

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        set_environment(NULL, numbers[i], NULL);
        check_refused("LISTEN_FDS=");
    }
}

static void test_what_is_no_socket_for_an_agent(void **state)
{
    char abstract[64];
    int length = snprintf(abstract, sizeof(abstract), "%cbellhop-test-%d", '\0', (int)getpid());
    int ends[2];

    set_environment(NULL, "1", "odd");
    check_refused("descriptor 100 (odd), which the service manager passed, is no listening");
    pass_socket(SOCK_STREAM, abstract, (size_t)length, false);
    set_environment(NULL, "1", NULL);
    check_refused("is no listening");
    close(--next_fd);
    pass_socket(SOCK_SEQPACKET, abstract, (size_t)length, true);
    set_environment(NULL, "1", NULL);
    check_refused("is no listening");
    close(--next_fd);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(dup2(ends[0], next_fd++), FIRST_FD);
    set_environment(NULL, "1", NULL);
    check_refused("is no listening");
    close(ends[0]);
    close(ends[1]);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_sockets),
        TEST(test_names_that_are_not_there),
        TEST(test_nothing_was_passed),
        TEST(test_bad_numbers),
        TEST(test_what_is_no_socket_for_an_agent),
    };
    return cmocka_run_group_tests_name("passed-sockets", tests, NULL, NULL);
}
