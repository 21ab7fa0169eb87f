/* SPDX-License-Identifier: MIT */
/*
 * What the broker may be asked to run, without a broker: who asks, and for the agent's own programs
 * each word that makes of one something else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "jobs/broker-policy.h"
#include "security/profile.h"
#include "security/program-rule.h"

static const char *const folders[] = {"/usr/sbin", "/bin", NULL};
static const char *const environment[] = {"PATH=/bin", "HOME=/", NULL};
static const char *const chpasswd[] = {"chpasswd", "...", NULL};
static const char *const poweroff[] = {"poweroff", NULL};
static const char *const reboot[] = {"shutdown", "-r", "+0", NULL};
static const char *const itself[] = {"/proc/self/exe", "--keys", "*", "*", NULL};
static const char *const *const programs[] = {chpasswd, poweroff, reboot, itself};

static struct program_rule one_rule = {.name = (char *)"one", .path = (char *)"/bin/one"};
static struct program_rules no_rules, some_rules = {&one_rule, 1};

static struct broker_policy policy_of(const struct program_rules *rules, unsigned exec_profiles)
{
    return (struct broker_policy){
        .rules = rules,
        .exec_profiles = exec_profiles,
        .own_programs = programs,
        .own_program_count = ARRAY_SIZE(programs),
        .own_folders = folders,
        .own_environment = environment,
    };
}

static int check(const struct broker_policy *policy, unsigned profile, bool is_own,
                 const struct spawn_plan *plan)
{
    char reason[CHILD_REASON_MAX] = "";
    struct broker_asker asker = {.profile = profile, .is_own = is_own};
    int error = broker_policy_check(policy, &asker, plan, reason);
    assert_true((error != 0) == (reason[0] != '\0'));
    return error;
}

static int check_own(const char *program, const char *const *words)
{
    struct broker_policy policy = policy_of(&some_rules, PROFILE_BIT(PROFILE_FULL));
    struct spawn_plan plan = {.program = (char *)program, .arguments = (char **)words};
    return check(&policy, PROFILE_FULL, true, &plan);
}

#define OWN(program, ...) check_own((program), (const char *const[]){__VA_ARGS__, NULL})

static void test_who_may_ask(void **state)
{
    char *words[] = {(char *)"x", NULL};
    struct spawn_plan plan = {.program = words[0], .arguments = words};
    struct broker_policy policy = policy_of(&some_rules, PROFILE_BIT(PROFILE_PROVISION));
    assert_int_equal(check(&policy, PROFILE_PROVISION, false, &plan), 0);
    assert_int_equal(check(&policy, PROFILE_FULL, false, &plan), -EPERM);
    assert_int_equal(check(&policy, PROFILE_MONITOR, false, &plan), -EPERM);
    assert_int_equal(check(&policy, PROFILE_COUNT, false, &plan), -EPERM);
    assert_int_equal(check(&policy, UINT32_MAX, false, &plan), -EPERM);
    /* guest-exec is blocked: nobody may. */
    policy = policy_of(&no_rules, 0);
    assert_int_equal(check(&policy, PROFILE_FULL, false, &plan), -EPERM);
    assert_int_equal(check(&policy, PROFILE_FULL, true, &plan), -EPERM);
}

static void test_where_anything_goes_nothing_is_asked(void **state)
{
    char *words[] = {(char *)"x", NULL};
    struct spawn_plan plan = {.program = words[0], .arguments = words, .user = words[0]};
    struct broker_policy policy = policy_of(&no_rules, PROFILE_BIT(PROFILE_FULL));
    struct broker_asker full = {.profile = PROFILE_FULL}, own = {.is_own = true};
    assert_int_equal(check(&policy, PROFILE_FULL, false, &plan), 0);
    assert_int_equal(check(&policy, PROFILE_FULL, true, &plan), 0);
    assert_false(broker_policy_has_gate(&policy, &full));
    assert_int_equal(check(NULL, PROFILE_FULL, true, &plan), 0);
    assert_false(broker_policy_has_gate(NULL, &full));

    /* One channel of that kind is enough, but the others' programs still have their gate. */
    policy = policy_of(&no_rules, PROFILE_BIT(PROFILE_FULL) | PROFILE_BIT(PROFILE_PROVISION));
    struct broker_asker provision = {.profile = PROFILE_PROVISION};
    assert_true(broker_policy_has_gate(&policy, &provision));
    policy = policy_of(&some_rules, PROFILE_BIT(PROFILE_FULL));
    assert_true(broker_policy_has_gate(&policy, &full));
    assert_false(broker_policy_has_gate(&policy, &own));
}

static void test_own_programs_by_their_words(void **state)
{
    assert_int_equal(OWN("/usr/sbin/chpasswd", "chpasswd"), 0);
    assert_int_equal(OWN("/bin/chpasswd", "chpasswd", "-e"), 0);
    assert_int_equal(OWN("/bin/poweroff", "poweroff"), 0);
    assert_int_equal(OWN("/usr/sbin/shutdown", "shutdown", "-r", "+0"), 0);
    assert_int_equal(OWN("/proc/self/exe", "anything", "--keys", "get", "root"), 0);

    /* Another folder, another file. */
    assert_int_equal(OWN("/tmp/chpasswd", "chpasswd"), -EPERM);
    assert_int_equal(OWN("/bin/../tmp/chpasswd", "chpasswd"), -EPERM);
    assert_int_equal(OWN("//bin/chpasswd", "chpasswd"), -EPERM);
    assert_int_equal(OWN("/bin/x/chpasswd", "chpasswd"), -EPERM);
    assert_int_equal(OWN("/bi/chpasswd", "chpasswd"), -EPERM);
    assert_int_equal(OWN("chpasswd", "chpasswd"), -EPERM);
    assert_int_equal(OWN("/bin/sh", "sh"), -EPERM);
    assert_int_equal(OWN("", ""), -EPERM);
    assert_int_equal(OWN("/proc/self/exe/", "x", "--keys", "a", "b"), -EPERM);
    /* Another name for one that is many. */
    assert_int_equal(OWN("/bin/poweroff", "sh"), -EPERM);
    /* Other arguments, more, fewer. */
    assert_int_equal(OWN("/bin/poweroff", "poweroff", "-f"), -EPERM);
    assert_int_equal(OWN("/usr/sbin/shutdown", "shutdown", "-r"), -EPERM);
    assert_int_equal(OWN("/usr/sbin/shutdown", "shutdown", "-r", "+0", "x"), -EPERM);
    assert_int_equal(OWN("/usr/sbin/shutdown", "shutdown", "-h", "+0"), -EPERM);
    assert_int_equal(OWN("/usr/sbin/shutdown", "shutdown"), -EPERM);
    assert_int_equal(OWN("/proc/self/exe", "x", "--config", "/tmp/x", "y"), -EPERM);
    assert_int_equal(OWN("/proc/self/exe", "x"), -EPERM);
}

static void test_own_programs_get_only_their_environment(void **state)
{
    struct broker_policy policy = policy_of(&some_rules, 0);
    char *words[] = {(char *)"poweroff", NULL};
    char *members[] = {(char *)"HOME=/", NULL, NULL};
    struct spawn_plan plan = {
        .program = (char *)"/bin/poweroff", .arguments = words, .environment = members};
    assert_int_equal(check(&policy, 0, true, &plan), 0);
    static const char *const others[] = {"LD_PRELOAD=/tmp/x", "PATH=/tmp", "HOME=/root", "HOME"};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        members[1] = (char *)others[i];
        assert_int_equal(check(&policy, 0, true, &plan), -EPERM);
    }
    plan.environment = NULL;
    assert_int_equal(check(&policy, 0, true, &plan), 0);
    plan.user = words[0];
    assert_int_equal(check(&policy, 0, true, &plan), -EPERM);
    plan.user = NULL;
    plan.directory = words[0];
    assert_int_equal(check(&policy, 0, true, &plan), -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_may_ask),
        cmocka_unit_test(test_where_anything_goes_nothing_is_asked),
        cmocka_unit_test(test_own_programs_by_their_words),
        cmocka_unit_test(test_own_programs_get_only_their_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
