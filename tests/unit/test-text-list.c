/* SPDX-License-Identifier: MIT */
#include "base/text-list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_list(void **state)
{
    (void)state;
    struct text_list list = {NULL, 0};

    assert_false(text_list_contains(&list, "a"));
    assert_int_equal(text_list_append(&list, "abc", 1), 0);
    assert_int_equal(text_list_append_format(&list, "%s-%d", "b", 7), 0);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[0], "a");
    assert_string_equal(list.items[1], "b-7");
    assert_true(text_list_contains(&list, "a"));
    assert_false(text_list_contains(&list, "abc"));
    text_list_deinit(&list);
    assert_int_equal(list.count, 0);
    assert_null(list.items);
    text_list_deinit(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_list)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
