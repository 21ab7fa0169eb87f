/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { ARGUMENTS_MAX = 16 };

/* getopt_long() reorders argv, so it gets an array of its own. */
struct command_line {
    char *argv[ARGUMENTS_MAX + 2];
    int argc;
};

#define COMMAND_LINE(...) command_line((const char *const[]){"bellhopd", __VA_ARGS__, NULL})

static struct command_line command_line(const char *const *arguments)
{
    struct command_line line = {.argc = 0};

    for (; arguments[line.argc]; line.argc++)
        line.argv[line.argc] = (char *)(uintptr_t)arguments[line.argc];
    return line;
}

static void parse(struct command_line line, struct options *ret_options)
{
    char *reason = NULL;
    int error = options_parse(line.argc, line.argv, ret_options, &reason);

    if (reason)
        print_error("%s\n", reason);
    assert_null(reason);
    assert_int_equal(error, 0);
}

static void check_refused(struct command_line line, const char *expected)
{
    struct options options;
    char *reason = NULL;

    assert_int_equal(options_parse(line.argc, line.argv, &options, &reason), -EINVAL);
    assert_string_equal(reason, expected);
    free(reason);
    options_deinit(&options);
}

static void test_nothing(void **state)
{
    (void)state;
    struct options options;
    struct command_line line = {.argv = {(char *)(uintptr_t) "bellhopd"}, .argc = 1};

    parse(line, &options);
    assert_int_equal(options.action, OPTIONS_RUN);
    assert_null(options.method);
    assert_null(options.fsfreeze_hook);
    assert_false(options.wants_fsfreeze_hook);
    assert_int_equal(options.block_rpcs.count, 0);
    assert_int_equal(options.ignored.count, 0);
    options_deinit(&options);
}

static void check_all(struct command_line line)
{
    struct options options;

    parse(line, &options);
    assert_string_equal(options.method, "unix-listen");
    assert_string_equal(options.path, "/p");
    assert_string_equal(options.logfile, "/l");
    assert_string_equal(options.pidfile, "/f");
    assert_string_equal(options.statedir, "/t");
    assert_string_equal(options.config_path, "/c");
    assert_true(options.wants_fsfreeze_hook);
    assert_string_equal(options.fsfreeze_hook, "/F");
    assert_true(options.verbose);
    assert_true(options.daemonize);
    assert_true(options.retry_path);
    assert_int_equal(options.action, OPTIONS_DUMP_CONFIG);
    options_deinit(&options);
}

static void test_every_option(void **state)
{
    (void)state;
    check_all(
        COMMAND_LINE("-munix-listen", "-p", "/p", "-l/l", "-f/f", "-t/t", "-c/c", "-F/F", "-vdrD"));
    check_all(COMMAND_LINE("--method=unix-listen", "--path", "/p", "--logfile=/l", "--pidfile=/f",
                           "--statedir=/t", "--config=/c", "--fsfreeze-hook=/F", "--verbose",
                           "--daemonize", "--retry-path", "--dump-conf"));
    check_all(COMMAND_LINE("--meth=unix-listen", "--pa", "/p", "--log=/l", "--pid=/f", "--state=/t",
                           "--conf=/c", "--fs=/F", "--verb", "--daemon", "--retry", "--dump"));
}

static void test_last_one_wins(void **state)
{
    (void)state;
    struct options options;

    parse(COMMAND_LINE("-m", "a", "-p", "b", "-m", "c", "-Fx", "-F"), &options);
    assert_string_equal(options.method, "c");
    assert_string_equal(options.path, "b");
    assert_true(options.wants_fsfreeze_hook);
    assert_string_equal(options.fsfreeze_hook, "");
    options_deinit(&options);
}

static void test_lists(void **state)
{
    (void)state;
    struct options options;

    parse(COMMAND_LINE("-b", "a,b", "--block-rpcs=c", "--blacklist=d", "--black", "e", "-a", "f",
                       "--allow-rpcs=", "--set", "pool.workers=3", "--set=exec.kept=4",
                       "--root=/host"),
          &options);
    assert_int_equal(options.block_rpcs.count, 4);
    assert_string_equal(options.block_rpcs.items[0], "a,b");
    assert_string_equal(options.block_rpcs.items[1], "c");
    assert_string_equal(options.block_rpcs.items[2], "d");
    assert_string_equal(options.block_rpcs.items[3], "e");
    assert_int_equal(options.allow_rpcs.count, 2);
    assert_string_equal(options.allow_rpcs.items[0], "f");
    assert_string_equal(options.allow_rpcs.items[1], "");
    assert_int_equal(options.sets.count, 2);
    assert_string_equal(options.sets.items[1], "exec.kept=4");
    assert_string_equal(options.root, "/host");
    options_deinit(&options);
}

static void test_other_arguments(void **state)
{
    (void)state;
    struct options options;

    parse(COMMAND_LINE("x", "-F", "/hook", "-v", "--", "-d"), &options);
    assert_string_equal(options.fsfreeze_hook, "");
    assert_true(options.verbose);
    assert_false(options.daemonize);
    assert_int_equal(options.ignored.count, 3);
    assert_string_equal(options.ignored.items[0], "x");
    assert_string_equal(options.ignored.items[1], "/hook");
    assert_string_equal(options.ignored.items[2], "-d");
    options_deinit(&options);
}

static void check_action(struct command_line line, enum options_action action)
{
    struct options options;

    parse(line, &options);
    assert_int_equal(options.action, action);
    options_deinit(&options);
}

static void test_answers(void **state)
{
    (void)state;
    check_action(COMMAND_LINE("-h"), OPTIONS_PRINT_HELP);
    check_action(COMMAND_LINE("--help", "-x"), OPTIONS_PRINT_HELP);
    check_action(COMMAND_LINE("-V", "--nonsense"), OPTIONS_PRINT_VERSION);
    check_action(COMMAND_LINE("-D", "-b", "help", "-x"), OPTIONS_LIST_COMMANDS);
    check_action(COMMAND_LINE("-b?"), OPTIONS_LIST_COMMANDS);
    check_action(COMMAND_LINE("-a", "help"), OPTIONS_LIST_COMMANDS);
    check_action(COMMAND_LINE("--blacklist=help"), OPTIONS_LIST_COMMANDS);
    check_action(COMMAND_LINE("-b", "help,guest-ping"), OPTIONS_RUN);
}

static void test_refusals(void **state)
{
    (void)state;
    check_refused(COMMAND_LINE("-x"), "unknown option '-x'; see --help");
    check_refused(COMMAND_LINE("-x", "-h"), "unknown option '-x'; see --help");
    check_refused(COMMAND_LINE("--verbose", "-dx"), "unknown option '-x'; see --help");
    check_refused(COMMAND_LINE("--verbose", "-xd"), "unknown option '-x'; see --help");
    check_refused(COMMAND_LINE("-v=1"), "unknown option '-='; see --help");
    check_refused(COMMAND_LINE("--foo"), "unknown or ambiguous option '--foo'; see --help");
    check_refused(COMMAND_LINE("--foo=1", "-v"),
                  "unknown or ambiguous option '--foo=1'; see --help");
    check_refused(COMMAND_LINE("--ver"), "unknown or ambiguous option '--ver'; see --help");
    check_refused(COMMAND_LINE("--verbose=1"),
                  "option '--verbose=1' takes no argument; see --help");
    check_refused(COMMAND_LINE("-v", "-m"), "option '-m' needs an argument; see --help");
    check_refused(COMMAND_LINE("-v", "--method"),
                  "option '--method' needs an argument; see --help");
    check_refused(COMMAND_LINE("-b", "a", "--set"), "option '--set' needs an argument; see --help");
    check_refused(COMMAND_LINE("-:"), "unknown option '-:'; see --help");
}

static void test_printed(void **state)
{
    (void)state;
    static const char *const commands[] = {"guest-ping", "guest-sync", NULL};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    options_print_commands(out, commands);
    options_print_version(out);
    options_print_help(out, "/usr/sbin/qemu-ga");
    fclose(out);
    assert_ptr_equal(strstr(text, "guest-ping\nguest-sync\nbellhop " BELLHOP_VERSION "\n"
                                  "Usage: /usr/sbin/qemu-ga "),
                     text);
    assert_non_null(strstr(text, "\n  -b, --block-rpcs=LIST "));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),         cmocka_unit_test(test_every_option),
        cmocka_unit_test(test_last_one_wins),   cmocka_unit_test(test_lists),
        cmocka_unit_test(test_other_arguments), cmocka_unit_test(test_answers),
        cmocka_unit_test(test_refusals),        cmocka_unit_test(test_printed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
