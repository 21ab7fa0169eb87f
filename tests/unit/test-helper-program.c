/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "cmds/helper-program.h"

static void assert_said(const char *output, size_t length, const char *expected)
{
    char said[HELPER_SAID_MAX];
    helper_said_compose(said, output, length);
    assert_string_equal(said, expected);
}

#define ASSERT_SAID(output, expected) assert_said(output, sizeof(output) - 1, expected)

static void test_what_was_printed_becomes_one_line(void **state)
{
    ASSERT_SAID("", "");
    ASSERT_SAID("\n \t\n", "");
    ASSERT_SAID("no\n", "no");
    ASSERT_SAID("\n first:\r\n\tsecond\n\n", "first: second");
    ASSERT_SAID("a\0b\x1b[31mc", "a b [31mc");
    ASSERT_SAID("na\xc3\xafve \xff\xc3", "na\xc3\xafve ??");
}

static void test_what_is_too_long_is_cut_between_characters(void **state)
{
    char output[2 * HELPER_SAID_MAX], said[HELPER_SAID_MAX];
    memset(output, 'x', sizeof(output));
    helper_said_compose(said, output, sizeof(output));
    assert_int_equal(strlen(said), HELPER_SAID_MAX - 1);

    memcpy(output + HELPER_SAID_MAX - 2, "\xc3\xaf", 2);
    helper_said_compose(said, output, sizeof(output));
    assert_int_equal(strlen(said), HELPER_SAID_MAX - 2);
    assert_true(said[HELPER_SAID_MAX - 3] == 'x');
}

static void test_programs_are_found(void **state)
{
    const char *const none[] = {NULL};
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    struct helper_program program = {.name = "bellhop-no-such-program", .arguments = none};
    assert_false(helper_program_exists(program.name));
    assert_int_equal(helper_program_prepare(&program, &payload), -ENOENT);
    assert_int_equal(payload.fd, -1);

    program.name = "true";
    assert_true(helper_program_exists(program.name));
    assert_int_equal(helper_program_prepare(&program, &payload), 0);
    assert_true(payload.fd >= 0);
    spawn_payload_deinit(&payload);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_printed_becomes_one_line),
        cmocka_unit_test(test_what_is_too_long_is_cut_between_characters),
        cmocka_unit_test(test_programs_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
