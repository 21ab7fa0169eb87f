/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake-call.h"

extern const struct command_family info_commands;

void services_for_each_command(struct services *services, unsigned profile,
                               void (*each)(const struct command *command, bool is_enabled,
                                            void *context),
                               void *context)
{
    static const struct command commands[] = {
        {.name = "guest-one"},
        {.name = "guest-two", .flags = CMD_NO_SUCCESS_REPLY},
        {.name = "guest-three"},
    };
    assert_ptr_equal(services, &fake_services);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        each(&commands[i], i != 2, context);
}

static void expect(const char *name, const char *arguments, const char *expected)
{
    fake_expect(&info_commands, name, arguments, expected);
}

static void test_sync(void **state)
{
    static const char *const names[] = {"guest-sync", "guest-sync-delimited"};
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        expect(names[i], "{\"id\": 0}", "0");
        expect(names[i], "{\"id\": -9223372036854775808}", "-9223372036854775808");
        expect(names[i], "{\"id\": 9223372036854775807}", "9223372036854775807");
        expect(names[i], "{\"id\": 9223372036854775808}",
               "Invalid parameter type for 'id', expected: integer");
        expect(names[i], "{\"id\": 1.0}", "Invalid parameter type for 'id', expected: integer");
        expect(names[i], "{\"id\": \"x\"}", "Invalid parameter type for 'id', expected: integer");
        expect(names[i], NULL, "Parameter 'id' is missing");
    }
}

static void test_ping(void **state)
{
    expect("guest-ping", NULL, "{}");
    expect("guest-ping", "{\"foo\": 1}", "Parameter 'foo' is unexpected");
}

static void test_info(void **state)
{
    expect("guest-info", NULL,
           "{\"version\": \"" BELLHOP_VERSION "\", \"supported_commands\": ["
           "{\"enabled\": true, \"name\": \"guest-one\", \"success-response\": true}, "
           "{\"enabled\": true, \"name\": \"guest-two\", \"success-response\": false}, "
           "{\"enabled\": false, \"name\": \"guest-three\", \"success-response\": true}]}");
}

/* What a client asks to find out whether the agent lives must be answered while nothing else is. */
static void test_all_are_always_answered(void **state)
{
    const unsigned always = CMD_ON_LOOP | CMD_ALLOWED_WHEN_FROZEN;
    for (size_t i = 0; i < info_commands.count; i++) {
        const struct command *command = &info_commands.commands[i];
        assert_int_equal(command->flags & always, always);
        assert_null(command->lane);
        bool is_sync = strncmp(command->name, "guest-sync", 10) == 0;
        assert_int_equal((command->flags & CMD_FENCE) != 0, is_sync);
        assert_int_equal((command->flags & CMD_DELIMITED) != 0,
                         strcmp(command->name, "guest-sync-delimited") == 0);
        assert_int_equal((command->flags & CMD_RESERVED) != 0,
                         strcmp(command->name, "guest-info") != 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sync),
        cmocka_unit_test(test_ping),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_all_are_always_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
