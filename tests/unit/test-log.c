/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/clock.h"

enum { LONG_MS = 60000 }; /* for waits that end long before unless something is broken */

static char folder[64];
static char path[128];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test-log-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/log", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void open_log(enum log_level level, unsigned queue_max)
{
    struct log_options options = {.path = path, .level = level, .queue_max_records = queue_max};
    assert_int_equal(log_open(&options), 0);
}

static void append_line(struct buffer *out, const char *line, size_t length)
{
    static const char pattern[] = "dddd-dd-ddTdd:dd:dd.dddZ ";

    assert_true(length > strlen(pattern));
    for (size_t i = 0; i < strlen(pattern); i++) {
        if (pattern[i] == 'd')
            assert_in_range(line[i], '0', '9');
        else
            assert_int_equal(line[i], pattern[i]);
    }
    buffer_append(out, line + strlen(pattern), length - strlen(pattern));
    buffer_append_char(out, '|');
}

/* The lines of a text without their times (whose form is checked), each followed by '|'. */
static char *without_times(const char *text, size_t length)
{
    struct buffer out = BUFFER_INIT;

    buffer_append_text(&out, "");
    while (length > 0) {
        const char *newline = memchr(text, '\n', length);
        assert_non_null(newline);
        append_line(&out, text, (size_t)(newline - text));
        length -= (size_t)(newline + 1 - text);
        text = newline + 1;
    }
    assert_false(out.failed);
    return out.data;
}

static struct buffer read_all(int fd)
{
    struct buffer text = BUFFER_INIT;
    char *room;
    ssize_t count;

    assert_true(fd >= 0);
    while ((room = buffer_reserve(&text, 4096)) && (count = read(fd, room, 4096)) > 0)
        buffer_commit(&text, (size_t)count);
    return text;
}

static char *logged_at(const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    struct buffer text = read_all(fd);
    char *lines = without_times(text.data, text.length);

    close(fd);
    buffer_deinit(&text);
    return lines;
}

static void check_logged(const char *expected)
{
    char *lines = logged_at(path);
    assert_string_equal(lines, expected);
    free(lines);
}

static void test_direct(void **state)
{
    (void)state;
    struct stat status;

    open_log(LOG_INFO, 0);
    errno = EXDEV;
    log_error("one %d: %m", 1);
    assert_int_equal(errno, EXDEV);
    log_warning("two\nlines");
    log_info("three");
    log_debug("four");
    assert_false(log_is_enabled(LOG_DEBUG));
    assert_true(log_is_enabled(LOG_INFO));
    check_logged("error: one 1: Invalid cross-device link|warning: two\\x0alines|info: three|");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777 & ~0640, 0);
}

static void test_open_appends(void **state)
{
    (void)state;
    struct log_options options = {.path = "/nonexistent/log", .level = LOG_ERROR};

    open_log(LOG_INFO, 0);
    log_info("one");
    open_log(LOG_INFO, 0);
    log_info("two");
    /* What cannot be opened changes nothing. */
    assert_int_equal(log_open(&options), -ENOENT);
    log_info("three");
    check_logged("info: one|info: two|info: three|");
}

static void test_writer_writes_all(void **state)
{
    (void)state;
    struct buffer expected = BUFFER_INIT;

    open_log(LOG_INFO, 1000);
    assert_int_equal(log_start(), 0);
    assert_int_equal(log_start(), -EBUSY);
    struct log_options options = {.path = path, .level = LOG_ERROR};
    assert_int_equal(log_open(&options), -EBUSY);
    for (int i = 0; i < 500; i++) {
        log_info("record %d", i);
        buffer_append_format(&expected, "info: record %d|", i);
    }
    log_stop(LONG_MS);
    log_info("after the end");
    buffer_append_text(&expected, "info: after the end|");
    check_logged(expected.data);
    buffer_deinit(&expected);
    log_stop(LONG_MS);
}

static void test_full_queue(void **state)
{
    (void)state;
    open_log(LOG_DEBUG, 4);
    assert_int_equal(log_start(), 0);
    assert_true(log_hold(LONG_MS));
    for (int i = 0; i < 3; i++)
        log_debug("debug %d", i);
    log_debug("no room for debug, the last quarter is not for it");
    log_info("info");
    log_error("no room at all");
    log_error("nor for this");
    check_logged("");
    log_release();
    log_stop(LONG_MS);
    check_logged("debug: debug 0|debug: debug 1|debug: debug 2|warning: 1 log record was lost|"
                 "info: info|warning: 2 log records were lost|");
}

static void test_held_at_the_end(void **state)
{
    (void)state;
    open_log(LOG_INFO, 0);
    assert_int_equal(log_start(), 0);
    assert_true(log_hold(LONG_MS));
    log_info("one");
    log_info("two");
    log_stop(LONG_MS);
    check_logged("");
    log_info("three");
    check_logged("warning: 2 log records were lost|info: three|");
}

static void test_reopen(void **state)
{
    (void)state;
    char rotated[160];

    snprintf(rotated, sizeof(rotated), "%s.1", path);
    open_log(LOG_INFO, 0);
    log_info("one");
    assert_int_equal(log_start(), 0);
    assert_int_equal(rename(path, rotated), 0);
    log_reopen();
    log_info("two");
    log_stop(LONG_MS);
    check_logged("info: two|");
    char *lines = logged_at(rotated);
    assert_string_equal(lines, "info: one|");
    free(lines);

    /* The same without a writer. */
    assert_int_equal(rename(path, rotated), 0);
    log_reopen();
    log_info("three");
    check_logged("info: three|");

    /* Where the file cannot be opened again, the old one stays. */
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    log_reopen();
    log_info("four");
    lines = logged_at(rotated);
    assert_string_equal(lines, "info: three|warning: the log file cannot be opened again: "
                               "Is a directory|info: four|");
    free(lines);
    assert_int_equal(rmdir(path), 0);
    unlink(rotated);
}

enum { THREADS = 4, RECORDS = 500 };

static void *write_records(void *argument)
{
    for (int i = 0; i < RECORDS; i++)
        log_info("%d %d", (int)(intptr_t)argument, i);
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int next[THREADS] = {0};
    int seen = 0;

    open_log(LOG_INFO, 64);
    assert_int_equal(log_start(), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_records, (void *)(intptr_t)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_stop(LONG_MS);

    /* Each record is there once and in its thread's order, or it is counted as lost. */
    char *lines = logged_at(path);
    for (char *line = strtok(lines, "|"); line; line = strtok(NULL, "|")) {
        int thread, number;
        if (sscanf(line, "info: %d %d", &thread, &number) == 2) {
            assert_in_range(thread, 0, THREADS - 1);
            assert_true(number >= next[thread]);
            next[thread] = number + 1;
            seen++;
        } else {
            assert_int_equal(sscanf(line, "warning: %d log record", &number), 1);
            seen += number;
        }
    }
    assert_int_equal(seen, THREADS * RECORDS);
    free(lines);
}

/* Makes `path` a FIFO that is full and that the test has open for reading. */
static int open_stuck_fifo(void)
{
    char block[4096] = {0};

    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    int writer = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0 && writer >= 0);
    while (write(writer, block, sizeof(block)) > 0)
        ;
    assert_int_equal(errno, EAGAIN);
    open_log(LOG_INFO, 16);
    close(writer);
    return reader;
}

/* Reads what the log wrote behind the zeros that filled the FIFO, until the log has closed it. */
static char *drain(int reader)
{
    assert_int_equal(fcntl(reader, F_SETFL, 0), 0);
    struct buffer text = read_all(reader);
    size_t zeros = 0;

    while (zeros < text.length && text.data[zeros] == '\0')
        zeros++;
    char *lines = without_times(text.data + zeros, text.length - zeros);
    buffer_deinit(&text);
    close(reader);
    return lines;
}

/* Closes the log's file by giving it another one, which also takes what was lost. */
static void leave_log(void)
{
    struct log_options options = {.path = "/dev/null", .level = LOG_INFO};
    assert_int_equal(log_open(&options), 0);
    log_info("nothing is to be told any more");
}

static void test_stuck_direct(void **state)
{
    (void)state;
    int reader = open_stuck_fifo();
    char block[8192];

    log_info("one");
    log_info("two");
    assert_int_equal(read(reader, block, sizeof(block)), sizeof(block));
    log_info("three");
    leave_log();
    char *lines = drain(reader);
    assert_string_equal(lines, "warning: 2 log records were lost|info: three|");
    free(lines);
}

static void test_stuck_writer(void **state)
{
    (void)state;
    int reader = open_stuck_fifo();

    assert_int_equal(log_start(), 0);
    for (int i = 0; i < 100; i++)
        log_info("record %d", i);
    log_reopen();

    uint64_t start_ms = clock_now_ms();
    log_stop(20);
    assert_true(clock_now_ms() - start_ms < LONG_MS / 2);
    log_info("nobody writes this");

    /* The writer that was left behind still has its one record, and then lets go of the file. */
    char *lines = drain(reader);
    assert_true(strcmp(lines, "info: record 0|") == 0 || strcmp(lines, "") == 0);
    free(lines);

    /* A new log works, and tells of the others. */
    assert_int_equal(unlink(path), 0);
    open_log(LOG_INFO, 0);
    assert_int_equal(log_start(), 0);
    log_info("new");
    log_stop(LONG_MS);
    lines = logged_at(path);
    assert_non_null(strstr(lines, " log records were lost|info: new|"));
    free(lines);
}

static void test_stuck_and_released(void **state)
{
    (void)state;
    int reader = open_stuck_fifo();
    int lost = 0, written = 0;

    assert_int_equal(log_start(), 0);
    for (int i = 0; i < 100; i++)
        log_info("record %d", i);
    char block[65536];
    assert_true(read(reader, block, sizeof(block)) > 0);
    log_stop(LONG_MS);
    leave_log();

    char *lines = drain(reader);
    for (char *line = strtok(lines, "|"); line; line = strtok(NULL, "|")) {
        int count;
        if (sscanf(line, "warning: %d log record", &count) == 1)
            lost += count;
        else
            written++;
    }
    /* The queue, and one that the writer may have been stuck with. */
    assert_in_range(written, 16, 17);
    assert_int_equal(written + lost, 100);
    free(lines);
}

static void test_hold_with_a_stuck_write(void **state)
{
    (void)state;
    int reader = open_stuck_fifo();
    char block[65536];

    assert_int_equal(log_start(), 0);
    log_info("one");
    /* Until the writer is in its write. */
    while (log_hold(0))
        log_release();
    assert_false(log_hold(5));
    log_info("two");
    assert_true(read(reader, block, sizeof(block)) > 0);
    assert_true(log_hold(LONG_MS));
    log_stop(LONG_MS);
    leave_log();
    char *lines = drain(reader);
    assert_string_equal(lines, "info: one|");
    free(lines);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct log_options options = {.path = "/dev/full", .level = LOG_INFO};

    assert_int_equal(log_open(&options), 0);
    assert_int_equal(log_start(), 0);
    log_info("one");
    log_info("two");
    log_stop(LONG_MS);
    open_log(LOG_INFO, 0);
    log_info("three");
    check_logged("warning: 2 log records were lost|info: three|");
}

static void test_fifo_without_reader(void **state)
{
    (void)state;
    struct log_options options = {.path = path, .level = LOG_INFO};

    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(log_open(&options), -ENXIO);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_direct),
        TEST(test_open_appends),
        TEST(test_writer_writes_all),
        TEST(test_full_queue),
        TEST(test_held_at_the_end),
        TEST(test_reopen),
        TEST(test_many_threads),
        TEST(test_stuck_direct),
        TEST(test_stuck_writer),
        TEST(test_stuck_and_released),
        TEST(test_hold_with_a_stuck_write),
        TEST(test_full_disk),
        TEST(test_fifo_without_reader),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
