/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "cmds/command.h"
#include "cmds/table.h"
#include "security/profile.h"

static void test_names(void **state)
{
    for (unsigned i = 0; i < PROFILE_COUNT; i++) {
        enum profile profile;
        assert_int_equal(profile_from_name(profile_name(i), &profile), 0);
        assert_int_equal(profile, i);
    }
    enum profile untouched = PROFILE_BACKUP;
    assert_int_equal(profile_from_name("Full", &untouched), -EINVAL);
    assert_int_equal(profile_from_name("", &untouched), -EINVAL);
    assert_int_equal(untouched, PROFILE_BACKUP);
    assert_string_equal(profile_name(PROFILE_COUNT), "?");
}

static void test_every_command_is_decided(void **state)
{
    for (size_t i = 0; i < command_count(); i++)
        if (!profile_is_decided(command_at(i)->name))
            fail_msg("%s: the lists of src/security/profile.c do not say which profiles have it",
                     command_at(i)->name);
}

static void test_rows_are_sorted(void **state)
{
    size_t count;
    const struct profile_row *rows = profile_rows(&count);
    for (size_t i = 1; i < count; i++)
        if (strcmp(rows[i - 1].command, rows[i].command) >= 0)
            fail_msg("%s does not come after %s", rows[i].command, rows[i - 1].command);
}

static void test_full_has_everything(void **state)
{
    assert_true(profile_has_command(PROFILE_FULL, "guest-shutdown"));
    assert_true(profile_has_command(PROFILE_FULL, "a-command-that-came-later"));
    assert_false(profile_needs_rules(PROFILE_FULL));
}

static void test_the_others_have_what_is_listed(void **state)
{
    for (unsigned i = PROFILE_FULL + 1; i < PROFILE_COUNT; i++) {
        assert_false(profile_has_command(i, "a-command-that-came-later"));
        assert_false(profile_has_command(i, "guest-shutdown"));
        assert_false(profile_has_command(i, "guest-file-open"));
        assert_int_equal(profile_has_by_file_rule(i, "guest-file-open"), i != PROFILE_MONITOR);
        assert_false(profile_has_by_file_rule(i, "guest-shutdown"));
        assert_true(profile_has_command(i, "guest-ping"));
        assert_true(profile_has_command(i, "guest-info"));
        assert_true(profile_has_command(i, "guest-sync-delimited"));
        assert_true(profile_needs_rules(i));
    }
    assert_true(profile_has_command(PROFILE_PROVISION, "guest-exec"));
    assert_false(profile_has_command(PROFILE_BACKUP, "guest-exec"));
    assert_false(profile_has_command(PROFILE_MONITOR, "guest-exec"));
    assert_true(profile_has_command(PROFILE_BACKUP, "guest-fsfreeze-freeze"));
    assert_false(profile_has_command(PROFILE_COUNT, "guest-ping"));
}

/* docs/policy.md is what users read: it has the same lists. */
static void test_the_page_for_users_has_the_same(void **state)
{
    static char page[128 * 1024];
    FILE *file = fopen(SOURCE_ROOT "/docs/policy.md", "re");
    assert_non_null(file);
    size_t length = fread(page, 1, sizeof(page) - 1, file);
    fclose(file);
    page[length] = '\0';
    size_t count;
    const struct profile_row *rows = profile_rows(&count);
    for (size_t i = 0; i < count; i++) {
        char line[200];
        int end = snprintf(line, sizeof(line), "\n| %s |", rows[i].command);
        for (unsigned profile = PROFILE_FULL + 1; profile < PROFILE_COUNT; profile++)
            end += snprintf(line + end, sizeof(line) - (size_t)end, "%s |",
                            profile_has_command(profile, rows[i].command)        ? " yes"
                            : profile_has_by_file_rule(profile, rows[i].command) ? " rule"
                                                                                 : "");
        if (!strstr(page, line))
            fail_msg("docs/policy.md lacks the line '%s'", line + 1);
    }
}

/* What needs a privilege or changes something is not for monitors. */
static void test_monitor_only_reads(void **state)
{
    for (size_t i = 0; i < command_count(); i++)
        if ((command_at(i)->flags & CMD_CHANGES_GUEST) &&
            profile_has_command(PROFILE_MONITOR, command_at(i)->name))
            fail_msg("%s changes the guest", command_at(i)->name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_every_command_is_decided),
        cmocka_unit_test(test_rows_are_sorted),
        cmocka_unit_test(test_full_has_everything),
        cmocka_unit_test(test_the_others_have_what_is_listed),
        cmocka_unit_test(test_the_page_for_users_has_the_same),
        cmocka_unit_test(test_monitor_only_reads),
    };
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
