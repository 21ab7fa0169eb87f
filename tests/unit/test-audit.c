/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cmds/audit.h"
#include "logger-harness.h"
#include "security/profile.h"

enum { WAIT_MS = 20000 };

static char path[] = "/tmp/test-audit-XXXXXX";

static int set_up(void **state)
{
    strcpy(path, "/tmp/test-audit-XXXXXX");
    int fd = mkstemp(path);
    close(fd);
    return fd < 0;
}

static int tear_down(void **state)
{
    return unlink(path);
}

static const char *content(void)
{
    static char text[16384];
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[length] = '\0';
    return text;
}

static struct audit *open_audit(void)
{
    struct audit *audit = NULL;
    assert_int_equal(audit_new(path, &audit), 0);
    return audit;
}

static void test_records(void **state)
{
    struct audit *audit = open_audit();
    struct audit_call call = {
        .number = audit_next_number(audit),
        .channel = "general",
        .peer = "pid 1, uid 2, gid 3",
        .profile = PROFILE_BACKUP,
        .command = "guest-fstrim",
    };
    audit_decision(audit, &call, true, "profile backup", "a=\"b\nc\"");
    audit_result(audit, &call, "failed", "no \"luck\"");
    audit_free(audit, WAIT_MS);

    const char *text = content();
    assert_non_null(strstr(text, "\"event\": \"decision\", \"call\": 1, \"channel\": \"general\", "
                                 "\"peer\": \"pid 1, uid 2, gid 3\", \"profile\": \"backup\", "
                                 "\"command\": \"guest-fstrim\", \"decision\": \"allowed\", "
                                 "\"rule\": \"profile backup\", \"arguments\": "
                                 "\"a=\\\"b\\nc\\\"\"}\n{\"time\": "));
    assert_non_null(strstr(text, "\"result\": \"failed\", \"error\": \"no \\\"luck\\\"\"}\n"));
}

static void test_what_is_not_known_is_left_out(void **state)
{
    struct audit *audit = open_audit();
    struct audit_call call = {.channel = "x", .peer = "", .profile = 99};
    audit_decision(audit, &call, false, "peer-uid, peer-gid", NULL);
    audit_free(audit, WAIT_MS);
    assert_non_null(strstr(content(), "\"event\": \"decision\", \"channel\": \"x\", \"profile\": "
                                      "\"?\", \"decision\": \"refused\", \"rule\": \"peer-uid, "
                                      "peer-gid\"}\n"));
}

static void test_long_arguments_are_cut(void **state)
{
    char arguments[3000];
    memset(arguments, 'x', sizeof(arguments));
    arguments[sizeof(arguments) - 1] = '\0';
    struct audit *audit = open_audit();
    struct audit_call call = {.channel = "x", .command = "guest-exec"};
    audit_decision(audit, &call, true, "r", arguments);
    audit_free(audit, WAIT_MS);
    const char *text = content();
    assert_true(strlen(text) < 1400);
    assert_non_null(strstr(text, "xxxx\", \"arguments-cut\": \"true\"}\n"));
}

static void test_it_is_held_with_the_log(void **state)
{
    struct audit *audit = open_audit();
    struct audit_call call = {.channel = "x"};
    assert_true(log_hold(WAIT_MS));
    audit_decision(audit, &call, true, "r", NULL);
    audit_flush(audit, 20);
    assert_string_equal(content(), "");
    log_release();
    audit_flush(audit, WAIT_MS);
    assert_string_not_equal(content(), "");
    audit_free(audit, WAIT_MS);
}

static void test_into_the_journal(void **state)
{
    struct logger logger;
    struct audit *audit = NULL;
    char destination[200], text[4096];
    int passed;
    logger_start(&logger);
    snprintf(destination, sizeof(destination), "journal:%s", logger.path);
    assert_int_equal(audit_new(destination, &audit), 0);
    struct audit_call call = {
        .number = 7, .channel = "x", .profile = PROFILE_MONITOR, .command = "guest-exec"};
    audit_decision(audit, &call, false, "profile monitor", "path=\"a\nPRIORITY=0\x1f\"");
    audit_free(audit, WAIT_MS);
    size_t length = logger_receive(&logger, text, sizeof(text) - 1, &passed);
    text[length] = '\0';
    static const char *const parts[] = {
        "BELLHOP_EVENT=decision\nBELLHOP_CALL=7\nBELLHOP_CHANNEL=x\nBELLHOP_PROFILE=monitor\n",
        "BELLHOP_COMMAND=guest-exec\nBELLHOP_DECISION=refused\nBELLHOP_RULE=profile monitor\n",
        "BELLHOP_ARGUMENTS=path=\"a PRIORITY=0 \"\n",
        "MESSAGE=audit: guest-exec: refused by profile monitor\n",
        "PRIORITY=5\nSYSLOG_IDENTIFIER=bellhopd\n",
    };
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
        if (!strstr(text, parts[i]))
            fail_msg("'%s' is not in\n%s", parts[i], text);
    logger_stop(&logger);
}

static void test_what_the_journal_did_not_take_is_counted(void **state)
{
    struct logger logger;
    struct audit *audit = NULL;
    char destination[200], text[4096];
    int passed;
    logger_start(&logger);
    snprintf(destination, sizeof(destination), "journal:%s", logger.path);
    assert_int_equal(audit_new(destination, &audit), 0);
    struct audit_call call = {.profile = PROFILE_FULL, .command = "guest-exec"};
    close_fd(logger.fd);
    audit_decision(audit, &call, true, "profile full", NULL);
    audit_flush(audit, WAIT_MS);
    logger_listen(&logger);
    audit_result(audit, &call, "done", NULL);
    audit_free(audit, WAIT_MS);
    logger_receive(&logger, text, sizeof(text) - 1, &passed);
    assert_non_null(strstr(text, "BELLHOP_EVENT=lost\nBELLHOP_RECORDS=1\n"
                                 "MESSAGE=audit: records lost: 1\n"));
    logger_receive(&logger, text, sizeof(text) - 1, &passed);
    assert_non_null(strstr(text, "MESSAGE=audit: guest-exec: done\n"));
    logger_stop(&logger);
}

static void test_without_a_journal(void **state)
{
    struct audit *audit = NULL;
    assert_int_equal(audit_new("journal:/no/such/socket", &audit), -ENOENT);
    assert_null(audit);
}

static void test_into_the_log(void **state)
{
    struct audit *audit = NULL;
    struct log_options options = {.path = path, .level = LOG_INFO};
    assert_int_equal(log_open(&options), 0);
    assert_int_equal(audit_new("log", &audit), 0);
    struct audit_call call = {.channel = "x"};
    audit_decision(audit, &call, false, "r", NULL);
    audit_reopen(audit);
    audit_free(audit, WAIT_MS);
    assert_non_null(strstr(content(), " info: audit {\"time\": "));
    options.path = NULL;
    assert_int_equal(log_open(&options), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_records),
        TEST(test_what_is_not_known_is_left_out),
        TEST(test_long_arguments_are_cut),
        TEST(test_it_is_held_with_the_log),
        TEST(test_into_the_journal),
        TEST(test_what_the_journal_did_not_take_is_counted),
        TEST(test_without_a_journal),
        TEST(test_into_the_log),
    };
    return cmocka_run_group_tests_name("audit", tests, NULL, NULL);
}
