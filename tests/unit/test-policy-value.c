/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <linux/capability.h>
#include <string.h>
#include <sys/resource.h>

#include "security/policy-value.h"
#include "security/profile.h"

static void check_words(int (*split)(const char *value, struct text_list *list), const char *value,
                        const char *const *expected)
{
    struct text_list list = {NULL, 0};
    size_t count = 0;
    assert_int_equal(split(value, &list), 0);
    for (; expected[count]; count++) {
        assert_true(count < list.count);
        assert_string_equal(list.items[count], expected[count]);
    }
    assert_int_equal(list.count, count);
    text_list_deinit(&list);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_words(void **state)
{
    check_words(policy_split, "", ((const char *const[]){NULL}));
    check_words(policy_split, " , \t", ((const char *const[]){NULL}));
    check_words(policy_split, "a b,c , d", WORDS("a", "b", "c", "d"));
    check_words(policy_split, "\"a b\",c\" \"d", WORDS("a b", "c d"));
    check_words(policy_split, "\"\"", WORDS(""));
    check_words(policy_split_arguments, "a,b \"c d\" \\\\*", WORDS("a,b", "c d", "\\\\*"));
    struct text_list list = {NULL, 0};
    assert_int_equal(policy_split("a \"b", &list), -EINVAL);
    text_list_deinit(&list);
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        bool has_unit;
        bool is_good;
        uint64_t number;
    } rows[] = {
        {"0", false, true, 0},
        {"18446744073709551615", false, true, UINT64_MAX},
        {"18446744073709551616", false, false, 0},
        {"7 ", false, true, 7},
        {"7K", false, false, 0},
        {"7K", true, true, 7168},
        {"16777216G", true, true, UINT64_C(1) << 54},
        {"99999999999G", true, false, 0},
        {"1T", true, false, 0},
        {"-1", false, false, 0},
        {" 1", false, false, 0},
        {"0x10", false, false, 0},
        {"", true, false, 0},
        {"K", true, false, 0},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        uint64_t number = 0;
        if (policy_parse_number(rows[i].text, rows[i].has_unit, &number) != rows[i].is_good ||
            number != rows[i].number)
            fail_msg("'%s'", rows[i].text);
    }
}

static void test_paths(void **state)
{
    static const char *const good[][2] = {
        {"/", "/"},
        {"//", "/"},
        {"/a/b/", "/a/b"},
        {"//a/./b//.", "/a/b"},
        {"/..a/b..", "/..a/b.."},
    };
    static const char *const bad[] = {"", "a", "./a", "/..", "/a/../b", "/a/.."};
    char *path = NULL, *reason = NULL;
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(policy_copy_path(good[i][0], &path, &reason), 0);
        assert_string_equal(path, good[i][1]);
    }
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (policy_copy_path(bad[i], &path, &reason) != -EINVAL || !reason)
            fail_msg("'%s'", bad[i]);
    assert_string_equal(path, "/..a/b.."); /* is left alone */
    free(path);
    free(reason);
}

static void test_capabilities(void **state)
{
    uint64_t set = 1;
    char *reason = NULL;
    assert_int_equal(policy_parse_capabilities("none", &set, &reason), 0);
    assert_int_equal(set, 0);
    assert_int_equal(policy_parse_capabilities("all", &set, &reason), 0);
    assert_true(set == UINT64_MAX);
    assert_int_equal(policy_parse_capabilities("CAP_KILL,cap_sys_admin bpf", &set, &reason), 0);
    assert_true(set ==
                (UINT64_C(1) << CAP_KILL | UINT64_C(1) << CAP_SYS_ADMIN | UINT64_C(1) << 39));
    assert_string_equal(policy_capability_name(CAP_AUDIT_READ), "audit_read");
    assert_string_equal(policy_capability_name(40), "checkpoint_restore");
    assert_null(policy_capability_name(41));
    assert_int_equal(policy_parse_capabilities("kill none", &set, &reason), -EINVAL);
    free(reason);
}

static void test_profiles(void **state)
{
    unsigned profiles = 0;
    char *reason = NULL;
    assert_int_equal(policy_parse_profiles("monitor, full", &profiles, &reason), 0);
    assert_int_equal(profiles, PROFILE_BIT(PROFILE_MONITOR) | PROFILE_BIT(PROFILE_FULL));
    assert_int_equal(policy_parse_profiles(" ", &profiles, &reason), -EINVAL);
    free(reason);
}

static void test_limits(void **state)
{
    int resource = -1;
    assert_int_equal(policy_parse_limit_name("nofile", &resource), 0);
    assert_int_equal(resource, RLIMIT_NOFILE);
    assert_string_equal(policy_limit_name(RLIMIT_AS), "as");
    assert_int_equal(policy_parse_limit_name("NOFILE", &resource), -EINVAL);
    assert_string_equal(policy_limit_name(9999), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),    cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_paths),    cmocka_unit_test(test_capabilities),
        cmocka_unit_test(test_profiles), cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests_name("policy-value", tests, NULL, NULL);
}
