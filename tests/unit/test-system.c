/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake-call.h"

extern const struct command_family system_commands;

static char release_path[] = "/tmp/test-system-XXXXXX";

static int make_release_file(void **state)
{
    int fd = mkstemp(release_path);
    close_fd(fd);
    return fd < 0 ? -1 : setenv("QGA_OS_RELEASE", release_path, 1);
}

static int remove_release_file(void **state)
{
    unsetenv("TZ");
    return unlink(release_path);
}

static void set_release(const char *text)
{
    FILE *file = fopen(release_path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void expect_osinfo(const char *before, const char *middle, const char *variant,
                          const char *after)
{
    struct utsname system;
    char expected[2048];
    assert_int_equal(uname(&system), 0);
    snprintf(
        expected, sizeof(expected),
        "{%s\"kernel-release\": \"%s\"%s%s, \"kernel-version\": \"%s\", \"machine\": \"%s\"%s}",
        before, system.release, middle, variant, system.version, system.machine, after);
    fake_expect(&system_commands, "guest-get-osinfo", NULL, expected);
}

static void test_osinfo(void **state)
{
    set_release("ID=debian\nNAME=\"Debian GNU/Linux\"\nVERSION='12 (bookworm)'\nVERSION_ID=\"12\"\n"
                "PRETTY_NAME=\"Debian \\\"12\\\"\"\nVARIANT=Server\nVARIANT_ID=server\n");
    expect_osinfo("\"name\": \"Debian GNU/Linux\", ",
                  ", \"version\": \"12 (bookworm)\", \"variant\": \"Server\", "
                  "\"pretty-name\": \"Debian \\\"12\\\"\", \"version-id\": \"12\"",
                  ", \"variant-id\": \"server\"", ", \"id\": \"debian\"");

    /* What the file does not say is left out, not guessed. */
    set_release("ID=x\n");
    expect_osinfo("", "", "", ", \"id\": \"x\"");
    set_release("NAME=\n");
    expect_osinfo("\"name\": \"\", ", "", "", "");
    assert_int_equal(setenv("QGA_OS_RELEASE", "/nonexistent", 1), 0);
    expect_osinfo("", "", "", "");
    assert_int_equal(setenv("QGA_OS_RELEASE", release_path, 1), 0);
}

static void test_host_name(void **state)
{
    struct utsname system;
    char expected[256];
    assert_int_equal(uname(&system), 0);
    snprintf(expected, sizeof(expected), "{\"host-name\": \"%s\"}", system.nodename);
    fake_expect(&system_commands, "guest-get-host-name", NULL, expected);
}

static void test_time(void **state)
{
    struct call *call = fake_call_new(&system_commands, "guest-get-time", NULL);
    struct timespec before, after;
    clock_gettime(CLOCK_REALTIME, &before);
    fake_call_carry_out(call);
    clock_gettime(CLOCK_REALTIME, &after);
    int64_t answer = strtoll(fake_call_answer(call), NULL, 10);
    assert_true(answer >= (int64_t)before.tv_sec * 1000000000 + before.tv_nsec);
    assert_true(answer <= (int64_t)after.tv_sec * 1000000000 + after.tv_nsec);
    fake_call_free(call);
}

static void test_timezone(void **state)
{
    static const struct {
        const char *zone, *expected;
    } rows[] = {
        {"UTC0", "{\"zone\": \"UTC\", \"offset\": 0}"},
        {"EST5", "{\"zone\": \"EST\", \"offset\": -18000}"},
        {"<+0530>-5:30", "{\"zone\": \"+0530\", \"offset\": 19800}"},
        /* Summer time all year long: the offset is the one that holds now. */
        {"AAA-1BBB-2,0/0,J365/25", "{\"zone\": \"BBB\", \"offset\": 7200}"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(setenv("TZ", rows[i].zone, 1), 0);
        fake_expect(&system_commands, "guest-get-timezone", NULL, rows[i].expected);
    }
}

static void test_none_takes_arguments(void **state)
{
    for (size_t i = 0; i < system_commands.count; i++)
        fake_expect(&system_commands, system_commands.commands[i].name, "{\"foo\": 1}",
                    "Parameter 'foo' is unexpected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_osinfo),
        cmocka_unit_test(test_host_name),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_timezone),
        cmocka_unit_test(test_none_takes_arguments),
    };
    return cmocka_run_group_tests(tests, make_release_file, remove_release_file);
}
