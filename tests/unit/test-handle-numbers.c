/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmds/file-table.h"
#include "handle-numbers.h"

static char directory[] = "/tmp/bellhop-numbers-XXXXXX";

static int setup(void **state)
{
    return mkdtemp(directory) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[256];
    snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    return system(command);
}

static void write_file(const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/bellhop/next-handle", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int64_t take(void)
{
    int64_t first = 0;
    assert_int_equal(handle_numbers_take(directory, &first), 0);
    return first;
}

static void test_each_agent_has_a_block(void **state)
{
    assert_int_equal(take(), FILE_TABLE_FIRST_HANDLE);
    assert_int_equal(take(), FILE_TABLE_FIRST_HANDLE + HANDLE_NUMBERS_BLOCK);
    assert_int_equal(take(), FILE_TABLE_FIRST_HANDLE + 2 * HANDLE_NUMBERS_BLOCK);
}

static void test_nonsense_begins_anew(void **state)
{
    static const char *const nonsense[] = {
        "", "x", "-5", "999", "99999999999999999999999", "9007199254740992"};
    for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
        write_file(nonsense[i]);
        assert_int_equal(take(), FILE_TABLE_FIRST_HANDLE);
    }
}

static void test_a_directory_that_cannot_be_used_is_said(void **state)
{
    int64_t first = 0;
    assert_int_equal(handle_numbers_take("/proc/none", &first), -ENOENT);
    assert_int_equal(first, FILE_TABLE_FIRST_HANDLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_agent_has_a_block),
        cmocka_unit_test(test_nonsense_begins_anew),
        cmocka_unit_test(test_a_directory_that_cannot_be_used_is_said),
    };
    return cmocka_run_group_tests_name("handle-numbers", tests, setup, teardown);
}
