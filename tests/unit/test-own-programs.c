/* SPDX-License-Identifier: MIT */
/*
 * What the broker is told that it may run for commands themselves: what the enabled ones have, as
 * they call it, and nothing that a disabled one had.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "cmds/authorized-keys.h"
#include "cmds/helper-program.h"
#include "config.h"
#include "own-programs.h"
#include "security/gate.h"

/* Whether its channel may have that run, with the command blocked (NULL: none). */
static bool may_run(enum profile profile, const char *blocked, const char *program,
                    const char *const *words)
{
    struct config_channel channel = {.profile = profile};
    struct config config = {
        .channels = &channel, .channel_count = 1, .fsfreeze_hook = (char *)"/etc/hook"};
    /* guest-exec as well: where it runs anything, nothing is asked. */
    const char *const blocks[] = {"guest-exec", blocked};
    const struct gate_rules lists = {.blocked = blocks, .blocked_count = blocked ? 2 : 1};
    struct gate *gate = gate_new(&lists);
    struct own_programs *programs = own_programs_new(&config, gate);
    assert_non_null(programs);
    struct spawn_plan plan = {
        .program = (char *)program,
        .arguments = (char **)words,
        .environment = (char **)helper_program_environment,
    };
    struct broker_asker asker = {.is_own = true};
    char reason[CHILD_REASON_MAX];
    int error = broker_policy_check(own_programs_policy(programs), &asker, &plan, reason);
    own_programs_free(programs);
    gate_free(gate);
    return error == 0;
}

#define MAY_RUN(profile, blocked, program, ...) \
    may_run((profile), (blocked), (program), (const char *const[]){__VA_ARGS__, NULL})

static void test_as_the_commands_call_them(void **state)
{
    assert_true(MAY_RUN(PROFILE_FULL, NULL, "/usr/sbin/chpasswd", "chpasswd"));
    assert_true(MAY_RUN(PROFILE_FULL, NULL, "/usr/sbin/chpasswd", "chpasswd", "-e"));
    assert_true(MAY_RUN(PROFILE_FULL, NULL, "/usr/bin/systemctl", "systemctl",
                        "--ignore-inhibitors", "--no-wall", "--no-block", "reboot"));
    assert_true(MAY_RUN(PROFILE_FULL, NULL, "/usr/bin/systemctl", "systemctl",
                        "--ignore-inhibitors", "suspend"));
    assert_true(MAY_RUN(PROFILE_FULL, NULL, "/sbin/shutdown", "shutdown", "-h", "-P", "+0",
                        "hypervisor initiated shutdown"));
    assert_true(MAY_RUN(PROFILE_FULL, NULL, "/sbin/poweroff", "poweroff"));
    assert_true(MAY_RUN(PROFILE_FULL, NULL, "/proc/self/exe", "/proc/self/exe",
                        AUTHORIZED_KEYS_ARGUMENT, "get", "root"));
    assert_true(MAY_RUN(PROFILE_FULL, NULL, "/etc/hook", "/etc/hook", "freeze"));
}

static void test_nothing_that_is_not_theirs(void **state)
{
    assert_false(MAY_RUN(PROFILE_FULL, NULL, "/bin/sh", "sh"));
    assert_false(MAY_RUN(PROFILE_FULL, NULL, "/usr/bin/systemctl", "systemctl",
                         "--ignore-inhibitors", "start", "x"));
    assert_false(MAY_RUN(PROFILE_FULL, NULL, "/usr/bin/systemctl", "systemctl"));
    assert_false(MAY_RUN(PROFILE_FULL, NULL, "/proc/self/exe", "bellhopd", "--config", "x", "y"));
    assert_false(MAY_RUN(PROFILE_FULL, NULL, "/etc/hook", "/etc/hook"));
}

static void test_nothing_of_commands_that_are_disabled(void **state)
{
    assert_false(
        MAY_RUN(PROFILE_FULL, "guest-set-user-password", "/usr/sbin/chpasswd", "chpasswd"));
    assert_false(MAY_RUN(PROFILE_FULL, "guest-fsfreeze-freeze", "/etc/hook", "/etc/hook", "thaw"));
    assert_false(MAY_RUN(PROFILE_FULL, "guest-shutdown", "/sbin/poweroff", "poweroff"));
    assert_true(MAY_RUN(PROFILE_PROVISION, NULL, "/usr/sbin/chpasswd", "chpasswd"));
    assert_false(MAY_RUN(PROFILE_PROVISION, NULL, "/sbin/poweroff", "poweroff"));
    assert_false(MAY_RUN(PROFILE_BACKUP, NULL, "/usr/sbin/chpasswd", "chpasswd"));
    assert_true(MAY_RUN(PROFILE_BACKUP, NULL, "/etc/hook", "/etc/hook", "freeze"));
    assert_false(MAY_RUN(PROFILE_MONITOR, NULL, "/usr/sbin/chpasswd", "chpasswd"));
    assert_false(MAY_RUN(PROFILE_MONITOR, NULL, "/etc/hook", "/etc/hook", "freeze"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_the_commands_call_them),
        cmocka_unit_test(test_nothing_that_is_not_theirs),
        cmocka_unit_test(test_nothing_of_commands_that_are_disabled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
