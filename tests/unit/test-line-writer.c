/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/line-writer.h"

enum { QUEUED_BYTES = 4096, WAIT_MS = 20000 };

static char folder[64], path[128], other_path[128];

static int set_up(void **state)
{
    strcpy(folder, "/tmp/test-line-writer-XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/lines", folder);
    snprintf(other_path, sizeof(other_path), "%s/lines.1", folder);
    return 0;
}

static int tear_down(void **state)
{
    unlink(path);
    unlink(other_path);
    return rmdir(folder);
}

static void describe_lost(uint64_t count, struct buffer *out)
{
    buffer_append_format(out, "%" PRIu64 " lost\n", count);
}

static struct line_writer *open_writer(void)
{
    struct line_writer_options options = {
        .path = path, .queued_bytes = QUEUED_BYTES, .describe_lost = describe_lost};
    struct line_writer *writer = NULL;
    assert_int_equal(line_writer_new(&options, &writer), 0);
    return writer;
}

static void write_line(struct line_writer *writer, const char *line)
{
    line_writer_write(writer, line, strlen(line));
}

static void check_file(const char *name, const char *expected)
{
    char text[8192] = "";
    FILE *file = fopen(name, "re");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[length] = '\0';
    assert_string_equal(text, expected);
}

static void test_lines_are_written_in_order(void **state)
{
    struct line_writer *writer = open_writer();
    write_line(writer, "one\n");
    write_line(writer, "two\n");
    assert_true(line_writer_flush(writer, WAIT_MS));
    check_file(path, "one\ntwo\n");
    write_line(writer, "three\n");
    assert_null(line_writer_free(writer, WAIT_MS));
    check_file(path, "one\ntwo\nthree\n");
}

static void test_what_was_there_stays(void **state)
{
    struct line_writer *writer = open_writer();
    write_line(writer, "one\n");
    line_writer_free(writer, WAIT_MS);
    writer = open_writer();
    write_line(writer, "two\n");
    line_writer_free(writer, WAIT_MS);
    check_file(path, "one\ntwo\n");
}

static void test_held(void **state)
{
    struct line_writer *writer = open_writer();
    assert_true(line_writer_hold(writer, WAIT_MS));
    write_line(writer, "one\n");
    assert_false(line_writer_flush(writer, 20));
    check_file(path, "");
    line_writer_release(writer);
    assert_true(line_writer_flush(writer, WAIT_MS));
    check_file(path, "one\n");
    line_writer_free(writer, WAIT_MS);
}

static void test_what_does_not_fit_is_counted(void **state)
{
    struct line_writer *writer = open_writer();
    char line[1001];
    memset(line, 'x', 999);
    strcpy(line + 999, "\n");
    assert_true(line_writer_hold(writer, WAIT_MS));
    for (int i = 0; i < 7; i++)
        write_line(writer, line);
    line_writer_release(writer);
    line_writer_free(writer, WAIT_MS);

    struct buffer expected = BUFFER_INIT;
    buffer_append_text(&expected, "3 lost\n");
    for (int i = 0; i < 4; i++)
        buffer_append_text(&expected, line);
    check_file(path, expected.data);
    buffer_deinit(&expected);
}

static void test_reopened(void **state)
{
    struct line_writer *writer = open_writer();
    write_line(writer, "one\n");
    assert_true(line_writer_flush(writer, WAIT_MS));
    assert_int_equal(rename(path, other_path), 0);
    line_writer_reopen(writer);
    write_line(writer, "two\n");
    assert_true(line_writer_flush(writer, WAIT_MS));
    line_writer_free(writer, WAIT_MS);
    check_file(other_path, "one\n");
    check_file(path, "two\n");
}

static void test_a_stuck_one_is_left_behind(void **state)
{
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    struct line_writer *writer = open_writer();
    char line[2001];
    memset(line, 'x', 1999);
    strcpy(line + 1999, "\n");
    for (int i = 0; i < 1000; i++)
        write_line(writer, line); /* more than the pipe and the queue take */
    assert_null(line_writer_free(writer, 20));
    close(reader); /* which ends it */
}

static void test_no_such_folder(void **state)
{
    struct line_writer_options options = {
        .path = "/no/such/folder/lines", .queued_bytes = 1, .describe_lost = describe_lost};
    struct line_writer *writer = NULL;
    assert_int_equal(line_writer_new(&options, &writer), -ENOENT);
    assert_null(writer);
    assert_null(line_writer_free(NULL, 0));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_lines_are_written_in_order),
        TEST(test_what_was_there_stays),
        TEST(test_held),
        TEST(test_what_does_not_fit_is_counted),
        TEST(test_reopened),
        TEST(test_a_stuck_one_is_left_behind),
        TEST(test_no_such_folder),
    };
    return cmocka_run_group_tests_name("line-writer", tests, NULL, NULL);
}
