/* SPDX-License-Identifier: MIT */
#include "base/key-file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/buffer.h"

/* Parses a text and returns its entries as "line group key value|". */
static char *parsed(const char *text, size_t length)
{
    struct key_file *file = NULL;
    char *reason = NULL;
    struct buffer out = BUFFER_INIT;

    int error = key_file_parse("f", text, length, &file, &reason);
    if (error < 0) {
        assert_int_equal(error, -EINVAL);
        assert_non_null(reason);
        return reason;
    }
    assert_null(reason);
    buffer_append_text(&out, "");
    for (size_t i = 0; i < key_file_count(file); i++) {
        const struct key_file_entry *entry = key_file_at(file, i);
        if (entry->key)
            buffer_append_format(&out, "%u %s %s=%s|", entry->line, entry->group, entry->key,
                                 entry->value);
        else
            buffer_append_format(&out, "%u [%s]|", entry->line, entry->group);
    }
    key_file_free(file);
    return out.data;
}

#define check_parsed(text, expected)                      \
    do {                                                  \
        char *result_ = parsed((text), sizeof(text) - 1); \
        assert_string_equal(result_, (expected));         \
        free(result_);                                    \
    } while (0)

static void test_entries(void **state)
{
    (void)state;
    check_parsed("", "");
    check_parsed("\n\n", "");
    check_parsed("[a]", "1 [a]|");
    check_parsed("[a]\nb=c", "1 [a]|2 a b=c|");
    check_parsed("# x\n\n [a] \t\n  b  =  c d  \n#b=e\n  # b=f\n[g]\nh=\n",
                 "3 [a]|4 a b=c d  |7 [g]|8 g h=|");
    check_parsed("[a]\r\nb=c\r\n", "1 [a]|2 a b=c|");
    check_parsed("[a]\nb==c=d\n", "1 [a]|2 a b==c=d|");
    check_parsed("[a]\nb=c # d ; e\n;f=g\n", "1 [a]|2 a b=c # d ; e|3 a ;f=g|");
    check_parsed("[a]\nb=1\nb=2\n[a]\nb=3\n", "1 [a]|2 a b=1|3 a b=2|4 [a]|5 a b=3|");
    check_parsed("[channel x]\npath=/y\n", "1 [channel x]|2 channel x path=/y|");
    check_parsed("[ a ]\n", "1 [ a ]|");
    check_parsed("# caf\xe9\n[a]\nb=\xe9\n", "2 [a]|3 a b=\xe9|");
}

static void test_malformed(void **state)
{
    (void)state;
    check_parsed("b=c\n", "f:1: 'b' stands before the first [GROUP]");
    check_parsed("[a]\n\nnonsense\n",
                 "f:3: expected '[GROUP]', 'KEY = VALUE' or a line starting with '#'");
    check_parsed("[a\nb=c\n", "f:1: ']' is missing after the group's name");
    check_parsed("[a] # x\n", "f:1: there is something after the ']' of the group's name");
    check_parsed("[]\n", "f:1: the group's name is empty");
    check_parsed("[a[b]\n", "f:1: a group's name cannot have '[' or control characters");
    check_parsed("[a]\n = c\n", "f:2: there is no key before the '='");
    check_parsed("[a]\nb=c\0d\n", "f:2: there is a NUL byte");
}

static void test_long_lines(void **state)
{
    (void)state;
    char *text = malloc(100010);
    struct key_file *file = NULL;
    char *reason = NULL;

    memcpy(text, "[a]\nb=", 6);
    memset(text + 6, 'x', 100000);
    assert_int_equal(key_file_parse("f", text, 100006, &file, &reason), 0);
    assert_int_equal(strlen(key_file_at(file, 1)->value), 100000);
    key_file_free(file);
    free(text);
}

static void check_decode(const char *value, const char *expected)
{
    char *text = NULL;

    assert_int_equal(key_file_decode(value, &text), 0);
    assert_string_equal(text, expected);
    free(text);
}

static void test_decode(void **state)
{
    (void)state;
    char *text = (char *)"untouched";

    check_decode("", "");
    check_decode("/a b;c,d", "/a b;c,d");
    check_decode("\\s\\t\\n\\r\\\\ \\\\n", " \t\n\r\\ \\n");
    check_decode("\xc3\xa9", "\xc3\xa9");
    assert_int_equal(key_file_decode("a\\q", &text), -EINVAL);
    assert_int_equal(key_file_decode("a\\", &text), -EINVAL);
    assert_int_equal(key_file_decode("a\\;b", &text), -EINVAL);
    assert_int_equal(key_file_decode("\xe9", &text), -EILSEQ);
    assert_string_equal(text, "untouched");
}

static void test_decode_bool(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",  "TRUE",  "True",   "yes", "on",
                                        "2", "truex", "true x", "01",  "t"};
    bool value = false;

    assert_int_equal(key_file_decode_bool("true", &value), 0);
    assert_true(value);
    assert_int_equal(key_file_decode_bool("false \t", &value), 0);
    assert_false(value);
    assert_int_equal(key_file_decode_bool("1 ", &value), 0);
    assert_true(value);
    assert_int_equal(key_file_decode_bool("0", &value), 0);
    assert_false(value);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(key_file_decode_bool(wrong[i], &value), -EINVAL);
    assert_false(value);
}

static void check_encode(const char *text, const char *expected)
{
    struct buffer out = BUFFER_INIT;

    key_file_encode(&out, text);
    assert_string_equal(out.data ? out.data : "", expected);
    if (out.data)
        check_decode(out.data, text);
    buffer_deinit(&out);
}

static void test_encode(void **state)
{
    (void)state;
    check_encode("", "");
    check_encode("/a b", "/a b");
    check_encode(" \t a \tb\\\n\r", "\\s\\t\\sa \tb\\\\\\n\\r");
}

static void test_load(void **state)
{
    (void)state;
    struct key_file *file = NULL;
    char *reason = NULL;
    char path[] = "/tmp/test-key-file-XXXXXX";

    assert_int_equal(key_file_load("/nonexistent/x.conf", &file, &reason), -ENOENT);
    assert_string_equal(reason, "/nonexistent/x.conf: No such file or directory");
    free(reason);
    assert_int_equal(key_file_load("/", &file, &reason), -EISDIR);
    assert_string_equal(reason, "/: Is a directory");
    free(reason);
    assert_int_equal(key_file_load("/dev/zero", &file, &reason), -EFBIG);
    free(reason);
    assert_int_equal(key_file_load("/dev/null", &file, &reason), 0);
    assert_int_equal(key_file_count(file), 0);
    key_file_free(file);

    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "[a]\nb=c\n", 8), 8);
    close(fd);
    assert_int_equal(key_file_load(path, &file, &reason), 0);
    assert_int_equal(key_file_count(file), 2);
    assert_string_equal(key_file_at(file, 1)->value, "c");
    key_file_free(file);
    unlink(path);
    assert_null(key_file_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),     cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_long_lines),  cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decode_bool), cmocka_unit_test(test_encode),
        cmocka_unit_test(test_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
