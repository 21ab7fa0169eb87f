/* SPDX-License-Identifier: MIT */
/* What must hold of every row, and that the page for users has all of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmds/command.h"
#include "cmds/table.h"

static void test_commands_are_found_by_name(void **state)
{
    assert_true(command_count() > 0);
    for (size_t i = 0; i < command_count(); i++) {
        const char *name = command_at(i)->name;
        assert_int_equal(command_find(name, strlen(name)), i);
        if (i > 0)
            assert_true(strcmp(command_at(i - 1)->name, name) < 0);
    }
    assert_int_equal(command_find("guest-none", strlen("guest-none")), -1);
    assert_int_equal(command_find("", 0), -1);
    assert_int_equal(command_find("guest-ping\0x", strlen("guest-ping") + 2), -1);
}

static const struct arg_spec *find_spec(const struct command *command, const char *name)
{
    for (const struct arg_spec *spec = command->args; spec && spec->name; spec++)
        if (strcmp(spec->name, name) == 0)
            return spec;
    return NULL;
}

static void test_rows_are_complete(void **state)
{
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        bool is_unsupported = command->flags & CMD_UNSUPPORTED;
        if (!command->summary || !command->summary[0])
            fail_msg("%s has no summary", command->name);
        if (!command->run != is_unsupported)
            fail_msg("%s: a command has a hook, or is unsupported", command->name);
        if ((command->args != NULL) != (command->args_size > 0))
            fail_msg("%s: arguments come with the size of their struct", command->name);
        if (command->cancel && !(command->flags & CMD_JOB))
            fail_msg("%s: only jobs are cancelled", command->name);
    }
}

static void test_lanes_are_of_an_argument_that_there_is(void **state)
{
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        if (!command->lane_arg)
            continue;
        const struct arg_spec *spec = find_spec(command, command->lane_arg);
        if (!command->lane || !spec || (spec->flags & ARG_OPTIONAL) ||
            (spec->type != ARG_INT64 && spec->type != ARG_STRING))
            fail_msg("%s: the lane's argument must be a number or a string, and required",
                     command->name);
    }
}

static void test_syncs_and_pings_always_get_through(void **state)
{
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        const unsigned wanted = CMD_RESERVED | CMD_ALLOWED_WHEN_FROZEN | CMD_ON_LOOP;
        if ((command->flags & CMD_FENCE) && (command->flags & wanted) != wanted)
            fail_msg("%s is a fence, so nothing may hold it up", command->name);
    }
}

static void test_the_page_for_users_has_every_command(void **state)
{
    static char page[256 * 1024];
    FILE *file = fopen(SOURCE_ROOT "/docs/commands.md", "r");
    assert_non_null(file);
    size_t length = fread(page, 1, sizeof(page) - 1, file);
    fclose(file);
    page[length] = '\0';
    for (size_t i = 0; i < command_count(); i++) {
        char with_bar[128], with_comma[128];
        snprintf(with_bar, sizeof(with_bar), "%s |", command_at(i)->name);
        snprintf(with_comma, sizeof(with_comma), "%s, ", command_at(i)->name);
        if (!strstr(page, with_bar) && !strstr(page, with_comma))
            fail_msg("docs/commands.md has no row for %s", command_at(i)->name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_are_found_by_name),
        cmocka_unit_test(test_rows_are_complete),
        cmocka_unit_test(test_lanes_are_of_an_argument_that_there_is),
        cmocka_unit_test(test_syncs_and_pings_always_get_through),
        cmocka_unit_test(test_the_page_for_users_has_every_command),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
