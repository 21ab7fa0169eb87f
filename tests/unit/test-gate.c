/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "security/gate.h"
#include "security/profile.h"

static const char *const two[] = {"guest-ping", "guest-info"};
static const char *const one[] = {"guest-info"};

static void test_without_rules_everything_is_allowed(void **state)
{
    struct gate *gate = gate_new(&(struct gate_rules){0});
    assert_true(gate_allows(gate, "guest-exec"));
    gate_free(gate);
}

static void test_blocked(void **state)
{
    struct gate *gate = gate_new(&(struct gate_rules){.blocked = two, .blocked_count = 2});
    assert_false(gate_allows(gate, "guest-ping"));
    assert_true(gate_allows(gate, "guest-pin"));
    assert_true(gate_allows(gate, "guest-pingg"));
    gate_free(gate);
}

static void test_only_the_allowed(void **state)
{
    struct gate *gate = gate_new(&(struct gate_rules){.allowed = two, .allowed_count = 2});
    assert_true(gate_allows(gate, "guest-ping"));
    assert_false(gate_allows(gate, "guest-exec"));
    gate_free(gate);
}

static void test_an_empty_list_of_allowed_allows_nothing(void **state)
{
    struct gate *gate = gate_new(&(struct gate_rules){.allowed = two, .allowed_count = 0});
    assert_false(gate_allows(gate, "guest-ping"));
    gate_free(gate);
}

static void test_blocked_wins(void **state)
{
    struct gate *gate = gate_new(&(struct gate_rules){
        .allowed = two, .allowed_count = 2, .blocked = one, .blocked_count = 1});
    assert_true(gate_allows(gate, "guest-ping"));
    assert_false(gate_allows(gate, "guest-info"));
    gate_free(gate);
}

static void test_profiles_come_on_top(void **state)
{
    struct gate *gate = gate_new(&(struct gate_rules){.blocked = one, .blocked_count = 1});
    assert_true(gate_allows_profile(gate, PROFILE_FULL, "guest-exec"));
    assert_true(gate_allows_profile(gate, PROFILE_MONITOR, "guest-ping"));
    assert_false(gate_allows_profile(gate, PROFILE_MONITOR, "guest-exec"));
    assert_false(gate_allows_profile(gate, PROFILE_MONITOR, "guest-info"));
    assert_false(gate_allows_profile(gate, PROFILE_FULL, "guest-info"));
    assert_false(gate_allows_profile(gate, PROFILE_PROVISION, "guest-file-open"));
    gate_free(gate);
}

static void test_rules_for_files_add_commands(void **state)
{
    struct gate *gate = gate_new(&(struct gate_rules){
        .blocked = one, .blocked_count = 1, .file_profiles = PROFILE_BIT(PROFILE_PROVISION)});
    assert_true(gate_allows_profile(gate, PROFILE_PROVISION, "guest-file-open"));
    assert_true(gate_allows_profile(gate, PROFILE_PROVISION, "guest-file-close"));
    assert_false(gate_allows_profile(gate, PROFILE_PROVISION, "guest-shutdown"));
    assert_false(gate_allows_profile(gate, PROFILE_PROVISION, "guest-info"));
    assert_false(gate_allows_profile(gate, PROFILE_BACKUP, "guest-file-open"));
    assert_true(gate_allows_profile(gate, PROFILE_FULL, "guest-file-open"));
    assert_false(gate_allows_profile(gate, PROFILE_COUNT, "guest-file-open"));
    gate_free(gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_rules_everything_is_allowed),
        cmocka_unit_test(test_blocked),
        cmocka_unit_test(test_only_the_allowed),
        cmocka_unit_test(test_an_empty_list_of_allowed_allows_nothing),
        cmocka_unit_test(test_blocked_wins),
        cmocka_unit_test(test_profiles_come_on_top),
        cmocka_unit_test(test_rules_for_files_add_commands),
    };
    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
