/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake-call.h"
#include "file-tree.h"

extern const struct command_family cpus_commands;

static char root[32];

/* Made by hand, as a guest has them that cannot switch its first processor. */
static int make_tree(void **state)
{
    file_tree_use(root, "dir /sys/devices/system/cpu/cpu0/topology\n"
                        "dir /sys/devices/system/cpu/cpufreq\n"
                        "file /sys/devices/system/cpu/cpu1/online\n|1\n"
                        "file /sys/devices/system/cpu/cpu2/online\n|0\n"
                        "file /sys/devices/system/cpu/cpu10/online\n|1\n"
                        "file /sys/devices/system/cpu/online\n|0-1,10\n");
    return 0;
}

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

static void expect_online(int number, const char *expected)
{
    char line[16];
    assert_int_equal(
        sysroot_read_line(line, sizeof(line), "/sys/devices/system/cpu/cpu%d/online", number), 0);
    assert_string_equal(line, expected);
}

static void expect_set(const char *vcpus, const char *expected)
{
    char arguments[512];
    snprintf(arguments, sizeof(arguments), "{\"vcpus\": [%s]}", vcpus);
    fake_expect(&cpus_commands, "guest-set-vcpus", arguments, expected);
}

static void test_get(void **state)
{
    fake_expect(&cpus_commands, "guest-get-vcpus", NULL,
                "[{\"online\": true, \"can-offline\": false, \"logical-id\": 0}, "
                "{\"online\": true, \"can-offline\": true, \"logical-id\": 1}, "
                "{\"online\": false, \"can-offline\": true, \"logical-id\": 2}, "
                "{\"online\": true, \"can-offline\": true, \"logical-id\": 10}]");
}

static void test_get_what_cannot_be_read(void **state)
{
    file_tree_remove(root);
    file_tree_use(root, "file /sys/devices/system/cpu/cpu0/online\n|maybe\n");
    fake_expect(&cpus_commands, "guest-get-vcpus", NULL,
                "read(\"/sys/devices/system/cpu/cpu0/online\"): Invalid argument");
    file_tree_remove(root);
    file_tree_use(root, "dir /sys/devices/system");
    fake_expect(&cpus_commands, "guest-get-vcpus", NULL,
                "open(\"/sys/devices/system/cpu/\"): No such file or directory");
}

static void test_set(void **state)
{
    expect_set("{\"logical-id\": 1, \"online\": false}, "
               "{\"logical-id\": 2, \"online\": true, \"can-offline\": false}",
               "2");
    expect_online(1, "0");
    expect_online(2, "1");
    /* The same one again and again. */
    expect_set("{\"logical-id\": 1, \"online\": true}, {\"logical-id\": 1, \"online\": false}, "
               "{\"logical-id\": 1, \"online\": true}",
               "3");
    expect_online(1, "1");
    expect_set("", "0");
}

static void test_set_stops_at_the_first_that_fails(void **state)
{
    expect_set("{\"logical-id\": 1, \"online\": false}, {\"logical-id\": 77, \"online\": true}, "
               "{\"logical-id\": 2, \"online\": true}",
               "1");
    expect_online(1, "0");
    expect_online(2, "0");
}

static void test_set_says_why_the_first_failed(void **state)
{
    expect_set("{\"logical-id\": 77, \"online\": true}, {\"logical-id\": 1, \"online\": false}",
               "open(\"/sys/devices/system/cpu/cpu77/\"): No such file or directory");
    expect_set("{\"logical-id\": -1, \"online\": true}",
               "open(\"/sys/devices/system/cpu/cpu-1/\"): No such file or directory");
    expect_set("{\"logical-id\": 0, \"online\": false}, {\"logical-id\": 1, \"online\": false}",
               "logical processor #0 can't be offlined");
    expect_online(1, "1");
}

/* What is so already is not written: that works where sysfs is read only, too. */
static void test_set_what_is_so_already(void **state)
{
    char path[128];
    expect_set("{\"logical-id\": 0, \"online\": true}", "1");
    if (getuid() == 0)
        return;
    snprintf(path, sizeof(path), "%s/sys/devices/system/cpu/cpu1/online", root);
    assert_int_equal(chmod(path, 0444), 0);
    expect_set("{\"logical-id\": 1, \"online\": true}", "1");
    expect_set("{\"logical-id\": 1, \"online\": false}",
               "write(\"/sys/devices/system/cpu/cpu1/online\"): Permission denied");
}

static void test_set_what_cannot_be_read(void **state)
{
    file_tree_remove(root);
    file_tree_use(root, "file /sys/devices/system/cpu/cpu1/online\n|1\n"
                        "dir /sys/devices/system/cpu/cpu2/online\n");
    expect_set("{\"logical-id\": 2, \"online\": false}",
               "read(\"/sys/devices/system/cpu/cpu2/online\"): Is a directory");
    expect_set("{\"logical-id\": 1, \"online\": false}, {\"logical-id\": 2, \"online\": false}",
               "1");
}

static void test_arguments(void **state)
{
    expect_set("{\"online\": true}", "Parameter 'vcpus[0].logical-id' is missing");
    expect_set("{\"logical-id\": 1}", "Parameter 'vcpus[0].online' is missing");
    expect_set("5", "Invalid parameter type for 'vcpus[0]', expected: object");
    expect_set("{\"logical-id\": 1, \"online\": true, \"can-offline\": 1}",
               "Invalid parameter type for 'vcpus[0].can-offline', expected: boolean");
    fake_expect(&cpus_commands, "guest-set-vcpus", NULL, "Parameter 'vcpus' is missing");
    expect_online(1, "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_get_what_cannot_be_read, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_set, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_set_stops_at_the_first_that_fails, make_tree,
                                        remove_tree),
        cmocka_unit_test_setup_teardown(test_set_says_why_the_first_failed, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_set_what_is_so_already, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_set_what_cannot_be_read, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_arguments, make_tree, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
