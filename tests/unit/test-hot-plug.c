/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "file-tree.h"
#include "hot-plug.h"
#include "io/uevent.h"

static char root[32];

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

static void expect(const char *action, const char *subsystem, const char *path, bool is_memory,
                   int number)
{
    const struct uevent event = {.action = action, .path = path, .subsystem = subsystem};
    struct hot_plugged plugged = {0};
    assert_int_equal(hot_plugged_from(&plugged, &event), number >= 0);
    if (number < 0)
        return;
    assert_int_equal(plugged.number, number);
    assert_int_equal(plugged.is_memory, is_memory);
}

static void test_events(void **state)
{
    expect("add", "cpu", "/devices/system/cpu/cpu12", false, 12);
    expect("add", "memory", "/devices/system/memory/memory345", true, 345);
    /* Taken offline on purpose, or plugged out. */
    expect("offline", "cpu", "/devices/system/cpu/cpu1", false, -1);
    expect("remove", "memory", "/devices/system/memory/memory3", true, -1);
    /* Other devices. */
    expect("add", "cpu", "/devices/system/cpu/cpufreq", false, -1);
    expect("add", "cpu", "/devices/system/cpu/cpu1/cache", false, -1);
    expect("add", "cpu", "/devices/system/memory/memory3", false, -1);
    expect("add", "memory", "/devices/system/cpu/cpu1", true, -1);
    expect("add", "block", "/devices/system/cpu/cpu1", false, -1);
}

static void expect_file(const char *path, const char *expected)
{
    char line[32];
    assert_int_equal(sysroot_read_line(line, sizeof(line), "%s", path), 0);
    assert_string_equal(line, expected);
}

/* Made by hand. */
static void test_brings_online(void **state)
{
    file_tree_use(root, "file /sys/devices/system/cpu/cpu1/online\n|0\n"
                        "dir /sys/devices/system/cpu/cpu2\n"
                        "file /sys/devices/system/memory/memory3/state\n|offline\n"
                        "file /sys/devices/system/memory/memory4/state\n|online\n");
    const struct {
        struct hot_plugged plugged;
        int expected;
    } rows[] = {
        {{.number = 1}, 0},
        {{.number = 2}, 0}, /* always online */
        {{.number = 3}, -ENOENT},
        {{.is_memory = true, .number = 3}, 0},
        {{.is_memory = true, .number = 4}, 0}, /* by the kernel itself */
        {{.is_memory = true, .number = 5}, -ENOENT},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(hot_plugged_bring_online(&rows[i].plugged), rows[i].expected);
    expect_file("/sys/devices/system/cpu/cpu1/online", "1");
    expect_file("/sys/devices/system/memory/memory3/state", "onlinee"); /* keeps its old end */
    expect_file("/sys/devices/system/memory/memory4/state", "online");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),
        cmocka_unit_test_teardown(test_brings_online, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
