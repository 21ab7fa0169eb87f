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

extern const struct command_family load_commands;

static char root[32];

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

/* Lines of a Linux 6.1 guest with two processors; cpu10 made by hand, with as many ticks as fit. */
static void test_cpustats(void **state)
{
    if (sysconf(_SC_CLK_TCK) != 100)
        skip();
    file_tree_use(root, "file /proc/stat\n"
                        "|cpu  275121 5587 108018 696473 4288 0 566 883 0 0\n"
                        "|cpu0 131654 2773 50342 359320 794 1 56 432 3 4\n"
                        "|cpu10 143467 2814 57676 1844674407370955161 3493 0 509 451 0 0\n"
                        "|intr 2801505 0 0 0\n"
                        "|ctxt 8801169\n"
                        "|cpufoo 1 2 3\n");
    fake_expect(&load_commands, "guest-get-cpustats", NULL,
                "[{\"type\": \"linux\", \"cpu\": 0, \"user\": 1316540, \"nice\": 27730, "
                "\"system\": 503420, \"idle\": 3593200, \"iowait\": 7940, \"irq\": 10, "
                "\"softirq\": 560, \"steal\": 4320, \"guest\": 30, \"guestnice\": 40}, "
                "{\"type\": \"linux\", \"cpu\": 10, \"user\": 1434670, \"nice\": 28140, "
                "\"system\": 576760, \"idle\": 18446744073709551610, \"iowait\": 34930, "
                "\"irq\": 0, \"softirq\": 5090, \"steal\": 4510, \"guest\": 0, \"guestnice\": 0}]");
}

/* Made by hand: the fields that Linux 2.4 had. */
static void test_cpustats_of_an_old_kernel(void **state)
{
    file_tree_use(root, "file /proc/stat\n|cpu  1 2 3 4\n|cpu0 0 0 0 0\n");
    fake_expect(&load_commands, "guest-get-cpustats", NULL,
                "[{\"type\": \"linux\", \"cpu\": 0, \"user\": 0, \"nice\": 0, \"system\": 0, "
                "\"idle\": 0}]");
}

static void test_cpustats_without_a_file(void **state)
{
    file_tree_use(root, "dir /proc");
    fake_expect(&load_commands, "guest-get-cpustats", NULL,
                "failed to read /proc/stat: No such file or directory");
}

static void test_load(void **state)
{
    file_tree_use(root, "file /proc/loadavg\n|0.17 10.50 271.00 3/432 12345\n");
    fake_expect(&load_commands, "guest-get-load", NULL,
                "{\"load1m\": 0.17, \"load5m\": 10.5, \"load15m\": 271}");
}

static void test_load_that_is_none(void **state)
{
    file_tree_use(root, "file /proc/loadavg\n|0.17 0.50\n");
    fake_expect(&load_commands, "guest-get-load", NULL,
                "failed to read /proc/loadavg: Invalid argument");
    file_tree_remove(root);
    file_tree_use(root, "dir /proc");
    fake_expect(&load_commands, "guest-get-load", NULL,
                "failed to read /proc/loadavg: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_cpustats, remove_tree),
        cmocka_unit_test_teardown(test_cpustats_of_an_old_kernel, remove_tree),
        cmocka_unit_test_teardown(test_cpustats_without_a_file, remove_tree),
        cmocka_unit_test_teardown(test_load, remove_tree),
        cmocka_unit_test_teardown(test_load_that_is_none, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
