/* SPDX-License-Identifier: MIT */
#include "base/log-line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static char text[LOG_TEXT_MAX + 1];

static size_t format_text(const char *format, ...) PRINTF_LIKE(1, 2);
static size_t format_text(const char *format, ...)
{
    va_list arguments;

    memset(text, '#', sizeof(text));
    va_start(arguments, format);
    size_t length = log_line_text(text, format, arguments);
    va_end(arguments);
    assert_int_equal(strlen(text), length);
    return length;
}

static void check_text(const char *argument, const char *expected)
{
    format_text("%s", argument);
    assert_string_equal(text, expected);
}

static void test_text(void **state)
{
    (void)state;
    check_text("", "");
    check_text("plain \\ text ~", "plain \\ text ~");
    check_text("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xa9",
               "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8e\xa9");
    format_text("%d of %s", 3, "x");
    assert_string_equal(text, "3 of x");
}

static void test_nothing_forges_a_line(void **state)
{
    (void)state;
    check_text("a\nb\r\tc", "a\\x0ab\\x0d\\x09c");
    check_text("\x1b[31m\x7f", "\\x1b[31m\\x7f");
    check_text("\xc2\x9b"
               "31m \xc2\x85",
               "\\xc2\\x9b31m \\xc2\\x85");
    check_text("\xe2\x80\xa8|\xe2\x80\xa9", "\\xe2\\x80\\xa8|\\xe2\\x80\\xa9");
    check_text("\xe2\x80\xae|\xe2\x81\xa6", "\\xe2\\x80\\xae|\\xe2\\x81\\xa6");
    check_text("\xff|\xc3|\xe2\x82|\xc0\x80|\xed\xa0\x80", "\\xff|\\xc3|\\xe2\\x82|\\xc0\\x80|"
                                                           "\\xed\\xa0\\x80");
}

/* A text of `count` times `piece` keeps `kept` of them, as `shown`, and the mark of a cut. */
static void check_cut(const char *piece, size_t count, const char *shown)
{
    size_t size = strlen(piece), shown_size = strlen(shown);
    char *long_text = malloc(size * count + 1);

    assert_non_null(long_text);
    for (size_t i = 0; i < count; i++)
        memcpy(long_text + i * size, piece, size);
    long_text[size * count] = '\0';
    size_t length = format_text("%s", long_text);

    assert_true(length <= LOG_TEXT_MAX);
    assert_true(length > LOG_TEXT_MAX - shown_size - strlen("[...]") - 4);
    assert_string_equal(text + length - 5, "[...]");
    assert_int_equal((length - 5) % shown_size, 0);
    for (size_t at = 0; at < length - 5; at += shown_size)
        assert_memory_equal(text + at, shown, shown_size);
    free(long_text);
}

static void test_cut(void **state)
{
    (void)state;
    check_cut("a", LOG_TEXT_MAX + 1, "a");
    check_cut("a", 100000, "a");
    check_cut("\xc3\xa9", 4000, "\xc3\xa9");
    check_cut("\xe2\x82\xac", 4000, "\xe2\x82\xac");
    check_cut("\n", 4000, "\\x0a");
    check_cut("\n", LOG_TEXT_MAX / 4 + 1, "\\x0a");

    /* What just fits is not cut. */
    char exact[LOG_TEXT_MAX + 1];
    memset(exact, 'a', LOG_TEXT_MAX);
    exact[LOG_TEXT_MAX] = '\0';
    check_text(exact, exact);
}

static void test_line(void **state)
{
    (void)state;
    char line[LOG_LINE_MAX + 1];
    struct timespec time = {.tv_sec = 1700000000, .tv_nsec = 7999999};

    line[log_line_format(line, &time, LOG_WARNING, "hello there", 5)] = '\0';
    assert_string_equal(line, "2023-11-14T22:13:20.007Z warning: hello\n");
    time = (struct timespec){.tv_sec = 951782400, .tv_nsec = 0};
    line[log_line_format(line, &time, LOG_DEBUG, "", 0)] = '\0';
    assert_string_equal(line, "2000-02-29T00:00:00.000Z debug: \n");
}

static void test_longest_line(void **state)
{
    (void)state;
    char line[LOG_LINE_MAX];
    struct timespec time = {.tv_sec = 1700000000, .tv_nsec = 0};

    memset(text, 'a', LOG_TEXT_MAX);
    size_t length = log_line_format(line, &time, LOG_WARNING, text, LOG_TEXT_MAX);
    assert_int_equal(length, strlen("2023-11-14T22:13:20.000Z warning: ") + LOG_TEXT_MAX + 1);
    assert_true(line[length - 1] == '\n' && line[length - 2] == 'a');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),         cmocka_unit_test(test_nothing_forges_a_line),
        cmocka_unit_test(test_cut),          cmocka_unit_test(test_line),
        cmocka_unit_test(test_longest_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
