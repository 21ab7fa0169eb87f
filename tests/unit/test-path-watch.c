/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/cleanup.h"
#include "io/path-watch.h"

struct fixture {
    struct event_base *base;
    struct path_watch *watch;
    char directory[64];
    unsigned calls;
};

static void on_change(void *context)
{
    struct fixture *fixture = context;

    fixture->calls++;
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof(*fixture));

    assert_non_null(fixture);
    snprintf(fixture->directory, sizeof(fixture->directory), "/tmp/test-path-watch.XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    fixture->base = event_base_new();
    fixture->watch = path_watch_new(fixture->base, on_change, fixture);
    assert_non_null(fixture->watch);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    char command[128];

    assert_null(path_watch_free(fixture->watch));
    event_base_free(fixture->base);
    snprintf(command, sizeof(command), "rm -rf %s", fixture->directory);
    assert_int_equal(system(command), 0);
    free(fixture);
    return 0;
}

static const char *in(const struct fixture *fixture, const char *name)
{
    static char paths[4][256];
    static unsigned at;
    char *path = paths[at++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", fixture->directory, name);
    return path;
}

static void make_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    close(fd);
}

/* inotify queues an event before the call that caused it returns, so nothing is to be waited for */
static unsigned calls_so_far(struct fixture *fixture)
{
    unsigned calls;

    assert_true(event_base_loop(fixture->base, EVLOOP_NONBLOCK) >= 0);
    calls = fixture->calls;
    fixture->calls = 0;
    return calls;
}

static void test_file_appears(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "port"), NULL), 0);
    assert_int_equal(calls_so_far(fixture), 0);
    make_file(in(fixture, "port"));
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_other_names_do_not_count(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "port"), NULL), 0);
    make_file(in(fixture, "other"));
    make_file(in(fixture, "port2"));
    make_file(in(fixture, "por"));
    assert_int_equal(calls_so_far(fixture), 0);
    assert_int_equal(rename(in(fixture, "other"), in(fixture, "port")), 0);
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_one_shot(void **state)
{
    struct fixture *fixture = *state;

    assert_false(path_watch_is_armed(fixture->watch));
    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "port"), NULL), 0);
    assert_true(path_watch_is_armed(fixture->watch));
    make_file(in(fixture, "port"));
    assert_int_equal(calls_so_far(fixture), 1);
    assert_false(path_watch_is_armed(fixture->watch));
    assert_int_equal(unlink(in(fixture, "port")), 0);
    make_file(in(fixture, "port"));
    assert_int_equal(calls_so_far(fixture), 0);
}

static void test_directories_appear_one_after_the_other(void **state)
{
    struct fixture *fixture = *state;
    const char *path = in(fixture, "a//b/port");

    assert_int_equal(path_watch_arm(fixture->watch, path, NULL), 0);
    assert_int_equal(mkdir(in(fixture, "a"), 0700), 0);
    assert_int_equal(calls_so_far(fixture), 1);
    assert_int_equal(path_watch_arm(fixture->watch, path, NULL), 0);
    assert_int_equal(mkdir(in(fixture, "a/b"), 0700), 0);
    assert_int_equal(calls_so_far(fixture), 1);
    assert_int_equal(path_watch_arm(fixture->watch, path, NULL), 0);
    make_file(in(fixture, "a/b/other"));
    assert_int_equal(calls_so_far(fixture), 0);
    make_file(in(fixture, "a/b/port"));
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_parent_is_replaced(void **state)
{
    struct fixture *fixture = *state;
    const char *path = in(fixture, "a/port");

    assert_int_equal(mkdir(in(fixture, "a"), 0700), 0);
    assert_int_equal(path_watch_arm(fixture->watch, path, NULL), 0);
    assert_int_equal(rmdir(in(fixture, "a")), 0);
    assert_int_equal(calls_so_far(fixture), 1);

    assert_int_equal(mkdir(in(fixture, "a"), 0700), 0);
    assert_int_equal(mkdir(in(fixture, "b"), 0700), 0);
    make_file(in(fixture, "b/port"));
    assert_int_equal(path_watch_arm(fixture->watch, path, NULL), 0);
    assert_int_equal(rename(in(fixture, "b"), in(fixture, "a")), 0);
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_target_of_a_dangling_link_appears(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(mkdir(in(fixture, "links"), 0700), 0);
    assert_int_equal(symlink("../node", in(fixture, "links/port")), 0);
    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "links/port"), NULL), 0);
    make_file(in(fixture, "node"));
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_link_loop_ends(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(symlink("two", in(fixture, "one")), 0);
    assert_int_equal(symlink("one", in(fixture, "two")), 0);
    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "one"), NULL), 0);
    assert_int_equal(unlink(in(fixture, "two")), 0);
    make_file(in(fixture, "two"));
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_file_is_closed_by_its_user(void **state)
{
    struct fixture *fixture = *state;
    int user;

    make_file(in(fixture, "port"));
    user = open(in(fixture, "port"), O_RDWR | O_CLOEXEC);
    assert_true(user >= 0);
    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "port"), NULL), 0);
    assert_int_equal(calls_so_far(fixture), 0);
    close(user);
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_permissions_change(void **state)
{
    struct fixture *fixture = *state;

    make_file(in(fixture, "port"));
    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "port"), NULL), 0);
    assert_int_equal(chmod(in(fixture, "port"), 0660), 0);
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_every_entry_of_the_directory_counts(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(mkdir(in(fixture, "dev"), 0700), 0);
    assert_int_equal(
        path_watch_arm(fixture->watch, in(fixture, "dev/virtio-ports/port"), in(fixture, "dev")),
        0);
    make_file(in(fixture, "unrelated"));
    assert_int_equal(calls_so_far(fixture), 0);
    make_file(in(fixture, "dev/vport1p1"));
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_use_of_the_directory_does_not_count(void **state)
{
    struct fixture *fixture = *state;
    int user;

    assert_int_equal(mkdir(in(fixture, "dev"), 0700), 0);
    make_file(in(fixture, "dev/null"));
    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "dev"), in(fixture, "dev")), 0);
    user = open(in(fixture, "dev/null"), O_RDWR | O_CLOEXEC);
    assert_true(user >= 0);
    assert_int_equal(write(user, "x", 1), 1);
    close(user);
    assert_int_equal(unlink(in(fixture, "dev/null")), 0);
    assert_int_equal(calls_so_far(fixture), 0);
}

static void test_the_directory_itself_appears(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(
        path_watch_arm(fixture->watch, in(fixture, "elsewhere/port"), in(fixture, "dev")), 0);
    assert_int_equal(mkdir(in(fixture, "dev"), 0700), 0);
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_disarmed_watch_is_silent(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "port"), NULL), 0);
    path_watch_disarm(fixture->watch);
    assert_false(path_watch_is_armed(fixture->watch));
    make_file(in(fixture, "port"));
    assert_int_equal(calls_so_far(fixture), 0);
}

static void test_arming_again_forgets_the_former_path(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "one"), NULL), 0);
    make_file(in(fixture, "one"));
    assert_int_equal(path_watch_arm(fixture->watch, in(fixture, "two"), NULL), 0);
    assert_int_equal(calls_so_far(fixture), 0);
    make_file(in(fixture, "two"));
    assert_int_equal(calls_so_far(fixture), 1);
}

static void test_relative_path_is_refused(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(path_watch_arm(fixture->watch, "port", NULL), -EINVAL);
    assert_false(path_watch_is_armed(fixture->watch));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_file_appears),
        TEST(test_other_names_do_not_count),
        TEST(test_one_shot),
        TEST(test_directories_appear_one_after_the_other),
        TEST(test_parent_is_replaced),
        TEST(test_target_of_a_dangling_link_appears),
        TEST(test_link_loop_ends),
        TEST(test_file_is_closed_by_its_user),
        TEST(test_permissions_change),
        TEST(test_every_entry_of_the_directory_counts),
        TEST(test_use_of_the_directory_does_not_count),
        TEST(test_the_directory_itself_appears),
        TEST(test_disarmed_watch_is_silent),
        TEST(test_arming_again_forgets_the_former_path),
        TEST(test_relative_path_is_refused),
    };

    return cmocka_run_group_tests_name("path-watch", tests, NULL, NULL);
}
