/* SPDX-License-Identifier: MIT */
/* The destinations of the log that are no files; those are tested with the log itself. */
#include "base/log-sink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "logger-harness.h"

static struct logger logger;

static int set_up(void **state)
{
    logger_start(&logger);
    return 0;
}

static int tear_down(void **state)
{
    logger_stop(&logger);
    return 0;
}

static struct log_sink *open_sink(const char *prefix)
{
    char destination[128];
    struct log_sink *sink = NULL;

    snprintf(destination, sizeof(destination), "%s%s", prefix, logger.path);
    assert_int_equal(log_sink_open(destination, &sink), 0);
    assert_true(log_sink_is_ready(sink));
    return sink;
}

static int write_one(struct log_sink *sink, enum log_level level)
{
    const struct timespec time = {.tv_sec = 1000000000, .tv_nsec = 987000000};

    return log_sink_write(sink, &time, level, "the text and more", 8);
}

static const struct {
    enum log_level level;
    int priority;
} levels[] = {{LOG_ERROR, 3}, {LOG_WARNING, 4}, {LOG_INFO, 6}, {LOG_DEBUG, 7}};

static void test_journal(void **state)
{
    struct log_sink *sink = open_sink("journal:");
    char expected[256];

    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        assert_int_equal(write_one(sink, levels[i].level), 0);
        snprintf(expected, sizeof(expected),
                 "MESSAGE=the text\nPRIORITY=%d\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=%s\n",
                 levels[i].priority, program_invocation_short_name);
        logger_expect(&logger, expected);
    }
    assert_int_equal(log_sink_reopen(sink), 0);
    log_sink_free(sink);
}

static void test_syslog(void **state)
{
    struct log_sink *sink = open_sink("syslog:");
    char expected[256];

    for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
        assert_int_equal(write_one(sink, levels[i].level), 0);
        snprintf(expected, sizeof(expected), "<%d>%s[%d]: the text", 24 + levels[i].priority,
                 program_invocation_short_name, (int)getpid());
        logger_expect(&logger, expected);
    }
    assert_int_equal(log_sink_reopen(sink), 0);
    log_sink_free(sink);
}

/* A logger that is away costs what is written meanwhile, and nothing else. */
static void test_logger_comes_back(void **state)
{
    struct log_sink *sink = open_sink("syslog:");

    logger.fd = close_fd(logger.fd);
    assert_int_equal(write_one(sink, LOG_INFO), -ECONNREFUSED);
    logger_listen(&logger);
    assert_int_equal(write_one(sink, LOG_INFO), 0);
    log_sink_free(sink);
}

static void test_no_logger(void **state)
{
    struct log_sink *sink = NULL;

    assert_int_equal(log_sink_open("journal:/no/such/socket", &sink), -ENOENT);
    assert_int_equal(log_sink_open("syslog:/no/such/socket", &sink), -ENOENT);
    assert_null(sink);
}

/* What stderr gets, with JOURNAL_STREAM naming another file than stderr is, or that one. */
static void check_stderr(bool is_journal, const char *expected)
{
    char stream[64], found[256];
    struct log_sink *sink = NULL;
    struct stat status;
    int ends[2];
    int saved = dup(STDERR_FILENO);

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fstat(ends[1], &status), 0);
    snprintf(stream, sizeof(stream), "%" PRIuMAX ":%" PRIuMAX, (uintmax_t)status.st_dev,
             (uintmax_t)status.st_ino + !is_journal);
    assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
    dup2(ends[1], STDERR_FILENO);
    int error = log_sink_open(NULL, &sink);
    if (!error)
        error = write_one(sink, LOG_WARNING);
    dup2(saved, STDERR_FILENO);
    assert_int_equal(error, 0);
    assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
    ssize_t length = read(ends[0], found, sizeof(found) - 1);
    assert_true(length > 0);
    found[length] = '\0';
    assert_string_equal(found, expected);
    log_sink_free(sink);
    close(ends[0]);
    close(ends[1]);
    close(saved);
}

static void test_stderr_that_leads_to_the_journal(void **state)
{
    check_stderr(true, "<4>the text\n");
    check_stderr(false, "2001-09-09T01:46:40.987Z warning: the text\n");
}

#define sink_test(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        sink_test(test_journal),
        sink_test(test_syslog),
        sink_test(test_no_logger),
        sink_test(test_logger_comes_back),
        sink_test(test_stderr_that_leads_to_the_journal),
    };

    return cmocka_run_group_tests_name("log-sink", tests, NULL, NULL);
}
