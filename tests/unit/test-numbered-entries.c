/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/numbered-entries.h"
#include "file-tree.h"

static char root[32];

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

static void test_numbers_in_order(void **state)
{
    struct numbered_entries entries;
    file_tree_use(root, "dir /sys/cpu10\ndir /sys/cpu9\ndir /sys/cpu0\ndir /sys/cpu\n"
                        "dir /sys/cpufreq\ndir /sys/cpu1x\ndir /sys/cpu-1\ndir /sys/cpu+2\n"
                        "dir /sys/1\ndir /sys/node3\ndir /sys/cpu9223372036854775807\n"
                        "dir /sys/cpu9223372036854775808\n");
    assert_int_equal(numbered_entries_list(&entries, "/sys", "cpu"), 0);
    assert_int_equal(entries.count, 4);
    assert_int_equal(entries.numbers[0], 0);
    assert_int_equal(entries.numbers[1], 9);
    assert_int_equal(entries.numbers[2], 10);
    assert_int_equal(entries.numbers[3], INT64_MAX);
    numbered_entries_deinit(&entries);
}

static void test_more_than_at_first(void **state)
{
    enum { COUNT = 1000 };
    struct numbered_entries entries;
    char path[64];
    file_tree_use(root, "dir /sys");
    for (int i = 0; i < COUNT; i++) {
        snprintf(path, sizeof(path), "%s/sys/memory%d", root, i);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    assert_int_equal(numbered_entries_list(&entries, "/sys", "memory"), 0);
    assert_int_equal(entries.count, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(entries.numbers[i], i);
    numbered_entries_deinit(&entries);
}

static void test_none(void **state)
{
    struct numbered_entries entries;
    file_tree_use(root, "dir /sys/cpufreq");
    assert_int_equal(numbered_entries_list(&entries, "/sys", "cpu"), 0);
    assert_int_equal(entries.count, 0);
    numbered_entries_deinit(&entries);
    assert_int_equal(numbered_entries_list(&entries, "/none", "cpu"), -ENOENT);
    numbered_entries_deinit(&entries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_numbers_in_order, remove_tree),
        cmocka_unit_test_teardown(test_more_than_at_first, remove_tree),
        cmocka_unit_test_teardown(test_none, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
