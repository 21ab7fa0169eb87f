/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake-call.h"
#include "file-tree.h"

extern const struct command_family memory_blocks_commands;

#define DIRECTORY "/sys/devices/system/memory"

static char root[32];

/*
 * Blocks 0 and 3 as Linux 6.1 shows them, block 1 offline; by hand: 4 as before Linux 5.8 where it
 * holds what cannot be moved, 5 without valid_zones, 6 on its way, 7 of a kernel that cannot
 * switch.
 */
static int make_tree(void **state)
{
    file_tree_use(root, "file " DIRECTORY "/block_size_bytes\n|8000000\n"
                        "file " DIRECTORY "/auto_online_blocks\n|offline\n"
                        "file " DIRECTORY "/memory0/state\n|online\n"
                        "file " DIRECTORY "/memory0/removable\n|1\n"
                        "file " DIRECTORY "/memory0/valid_zones\n|none\n"
                        "file " DIRECTORY "/memory1/state\n|offline\n"
                        "file " DIRECTORY "/memory1/removable\n|1\n"
                        "file " DIRECTORY "/memory1/valid_zones\n|Normal Movable\n"
                        "file " DIRECTORY "/memory3/state\n|online\n"
                        "file " DIRECTORY "/memory3/removable\n|1\n"
                        "file " DIRECTORY "/memory3/valid_zones\n|Normal\n"
                        "file " DIRECTORY "/memory4/state\n|online\n"
                        "file " DIRECTORY "/memory4/removable\n|0\n"
                        "file " DIRECTORY "/memory5/state\n|online\n"
                        "file " DIRECTORY "/memory5/removable\n|1\n"
                        "file " DIRECTORY "/memory6/state\n|going-offline\n"
                        "dir " DIRECTORY "/memory7\n");
    return 0;
}

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

static void expect_state(int number, const char *expected)
{
    char line[32];
    assert_int_equal(sysroot_read_line(line, sizeof(line), DIRECTORY "/memory%d/state", number), 0);
    assert_string_equal(line, expected);
}

static void expect_set(const char *blocks, const char *expected)
{
    char arguments[512];
    snprintf(arguments, sizeof(arguments), "{\"mem-blks\": [%s]}", blocks);
    fake_expect(&memory_blocks_commands, "guest-set-memory-blocks", arguments, expected);
}

static void test_get(void **state)
{
    fake_expect(&memory_blocks_commands, "guest-get-memory-blocks", NULL,
                "[{\"online\": true, \"can-offline\": false, \"phys-index\": 0}, "
                "{\"online\": false, \"can-offline\": true, \"phys-index\": 1}, "
                "{\"online\": true, \"can-offline\": true, \"phys-index\": 3}, "
                "{\"online\": true, \"can-offline\": false, \"phys-index\": 4}, "
                "{\"online\": true, \"can-offline\": true, \"phys-index\": 5}, "
                "{\"online\": false, \"can-offline\": true, \"phys-index\": 6}, "
                "{\"online\": true, \"can-offline\": false, \"phys-index\": 7}]");
}

static void test_set(void **state)
{
    expect_set("", "[]");
    expect_set("{\"phys-index\": 3, \"online\": false}",
               "[{\"response\": \"success\", \"phys-index\": 3}]");
    expect_state(3, "offline");
    expect_set("{\"phys-index\": 3, \"online\": false, \"can-offline\": true}",
               "[{\"response\": \"success\", \"phys-index\": 3}]");
    expect_state(3, "offline");
    expect_set("{\"phys-index\": 1, \"online\": true}",
               "[{\"response\": \"success\", \"phys-index\": 1}]");
    expect_state(1, "onlinee"); /* unlike sysfs, this file keeps its old end */
}

static void test_set_goes_on_after_a_failure(void **state)
{
    expect_set("{\"phys-index\": 99, \"online\": true}, {\"phys-index\": 7, \"online\": false}, "
               "{\"phys-index\": 3, \"online\": false}, "
               "{\"phys-index\": 18446744073709551615, \"online\": false}",
               "[{\"response\": \"not-found\", \"error-code\": 2, \"phys-index\": 99}, "
               "{\"response\": \"operation-not-supported\", \"error-code\": 2, \"phys-index\": 7}, "
               "{\"response\": \"success\", \"phys-index\": 3}, "
               "{\"response\": \"not-found\", \"error-code\": 2, "
               "\"phys-index\": 18446744073709551615}]");
    expect_state(3, "offline");
}

static void test_set_what_cannot_be_read(void **state)
{
    file_tree_remove(root);
    file_tree_use(root, "dir " DIRECTORY "/memory0/state\n");
    expect_set("{\"phys-index\": 0, \"online\": false}",
               "[{\"response\": \"operation-failed\", \"error-code\": 21, \"phys-index\": 0}]");
    fake_expect(&memory_blocks_commands, "guest-get-memory-blocks", NULL,
                "read(\"" DIRECTORY "/memory0/state\"): Is a directory");
}

static void test_interrupted(void **state)
{
    struct call *call = fake_call_new(&memory_blocks_commands, "guest-set-memory-blocks",
                                      "{\"mem-blks\": [{\"phys-index\": 3, \"online\": false}]}");
    call->is_interrupted = true;
    fake_call_carry_out(call);
    assert_string_equal(
        fake_call_answer(call),
        "[{\"response\": \"operation-failed\", \"error-code\": 4, \"phys-index\": 3}]");
    fake_call_free(call);
    expect_state(3, "online");
}

static void test_info(void **state)
{
    fake_expect(&memory_blocks_commands, "guest-get-memory-block-info", NULL,
                "{\"size\": 134217728}");
    file_tree_remove(root);
    file_tree_use(root, "file " DIRECTORY "/block_size_bytes\n|no number\n");
    fake_expect(&memory_blocks_commands, "guest-get-memory-block-info", NULL,
                "open sysfs file \"block_size_bytes\": Invalid argument");
}

static void test_kernel_without_memory_blocks(void **state)
{
    file_tree_remove(root);
    file_tree_use(root, "dir /sys/devices/system");
    fake_expect(&memory_blocks_commands, "guest-get-memory-blocks", NULL, "[]");
    expect_set("{\"phys-index\": 0, \"online\": false}",
               "[{\"response\": \"operation-not-supported\", \"error-code\": 2, "
               "\"phys-index\": 0}]");
    fake_expect(&memory_blocks_commands, "guest-get-memory-block-info", NULL,
                "open(\"" DIRECTORY "/\"): No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_get, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_set, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_set_goes_on_after_a_failure, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_set_what_cannot_be_read, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_interrupted, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_info, make_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_kernel_without_memory_blocks, make_tree, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
