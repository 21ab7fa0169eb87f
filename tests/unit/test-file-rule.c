/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "security/file-rule.h"
#include "security/profile.h"

static void add(struct file_rules *rules, const char *name, const char *path, unsigned access)
{
    struct file_rule *rule = file_rules_append(rules);
    assert_non_null(rule);
    rule->name = strdup(name);
    rule->path = strdup(path);
    rule->access = access;
    rule->profiles = PROFILE_ALL;
}

static int match(const struct file_rules *rules, const char *path, unsigned access,
                 const char *expected)
{
    const struct file_rule *rule = NULL;
    char reason[FILE_REFUSAL_MAX] = "";
    int error = file_rules_match(rules, PROFILE_FULL, path, access, &rule, reason);
    if (error == 0)
        assert_string_equal(rule ? rule->name : "", expected);
    else if (!strstr(reason, expected))
        fail_msg("'%s' does not say '%s'", reason, expected);
    return error;
}

static void test_without_rules(void **state)
{
    struct file_rules rules = {NULL, 0};
    const struct file_rule *rule = NULL;
    char reason[FILE_REFUSAL_MAX];
    assert_int_equal(match(&rules, "/etc/shadow", FILE_READ, ""), 0);
    assert_int_equal(
        file_rules_match(&rules, PROFILE_PROVISION, "/etc/motd", FILE_READ, &rule, reason), -EPERM);
    assert_int_equal(file_rules_match(&rules, 99, "/etc/motd", FILE_READ, &rule, reason), -EPERM);
}

static void test_whole_names(void **state)
{
    struct file_rules rules = {NULL, 0};
    add(&rules, "srv", "/srv/data", FILE_READ);
    assert_int_equal(match(&rules, "/srv/data", FILE_READ, "srv"), 0);
    assert_int_equal(match(&rules, "/srv/data/a/b", FILE_READ, "srv"), 0);
    assert_int_equal(match(&rules, "/srv/database", FILE_READ, "no [files] rule"), -EPERM);
    assert_int_equal(match(&rules, "/srv", FILE_READ, "no [files] rule"), -EPERM);
    assert_int_equal(match(&rules, "/", FILE_READ, "no [files] rule"), -EPERM);
    file_rules_deinit(&rules);
}

static void test_the_longest_path_decides(void **state)
{
    struct file_rules rules = {NULL, 0};
    add(&rules, "all", "/", FILE_READ);
    add(&rules, "key", "/srv/secret/key", FILE_READ | FILE_WRITE);
    add(&rules, "secret", "/srv/secret", 0);
    assert_int_equal(match(&rules, "/srv/x", FILE_READ, "all"), 0);
    assert_int_equal(
        match(&rules, "/srv/secret/x", FILE_READ, "the rule [files secret] does not allow reading"),
        -EPERM);
    assert_int_equal(match(&rules, "/srv/secret/key", FILE_READ | FILE_WRITE, "key"), 0);
    file_rules_deinit(&rules);
}

static void test_what_is_missing_is_named(void **state)
{
    struct file_rules rules = {NULL, 0};
    add(&rules, "srv", "/srv", 0);
    const struct {
        unsigned access;
        const char *text;
    } rows[] = {
        {FILE_READ, "does not allow reading"},
        {FILE_READ | FILE_WRITE, "does not allow writing"},
        {FILE_WRITE | FILE_CREATE, "does not allow creating a file"},
        {FILE_READ | FILE_SPECIAL, "does not allow devices, FIFOs and sockets"},
        {FILE_LINKED, "more than one link"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        assert_int_equal(match(&rules, "/srv/x", rows[i].access, rows[i].text), -EPERM);
    file_rules_deinit(&rules);
}

static void test_rules_are_for_profiles(void **state)
{
    struct file_rules rules = {NULL, 0};
    const struct file_rule *rule = NULL;
    char reason[FILE_REFUSAL_MAX];
    add(&rules, "srv", "/srv", FILE_READ);
    rules.rules[0].profiles = PROFILE_BIT(PROFILE_BACKUP);
    assert_int_equal(match(&rules, "/srv/x", FILE_READ, "of the profile full"), -EPERM);
    assert_int_equal(file_rules_match(&rules, PROFILE_BACKUP, "/srv/x", FILE_READ, &rule, reason),
                     0);
    assert_ptr_equal(file_rules_find(&rules, "srv"), rule);
    file_rules_deinit(&rules);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_rules),
        cmocka_unit_test(test_whole_names),
        cmocka_unit_test(test_the_longest_path_decides),
        cmocka_unit_test(test_what_is_missing_is_named),
        cmocka_unit_test(test_rules_are_for_profiles),
    };
    return cmocka_run_group_tests_name("file-rule", tests, NULL, NULL);
}
