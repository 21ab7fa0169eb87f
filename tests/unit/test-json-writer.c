/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"
#include "io/json-writer.h"
#include "io/json.h"

static void test_commas_and_nesting(void **state)
{
    _cleanup_buffer_ struct buffer out = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&out);

    json_begin_object(&writer);
    json_name(&writer, "return");
    json_begin_array(&writer);
    json_begin_object(&writer);
    json_end_object(&writer);
    json_begin_array(&writer);
    json_end_array(&writer);
    json_null(&writer);
    json_bool(&writer, true);
    json_bool(&writer, false);
    json_begin_object(&writer);
    json_member_bool(&writer, "b", false);
    json_member_int(&writer, "i", -5);
    json_member_uint(&writer, "u", 5);
    json_member_double(&writer, "d", 0.5);
    json_member_string(&writer, "s", "x");
    json_member_base64(&writer, "x", "hello", 5);
    json_name(&writer, "o");
    json_begin_object(&writer);
    json_end_object(&writer);
    json_name(&writer, "z");
    json_null(&writer);
    json_end_object(&writer);
    json_int(&writer, 1);
    json_end_array(&writer);
    json_member_int(&writer, "id", 2);
    json_end_object(&writer);
    assert_string_equal(out.data,
                        "{\"return\": [{}, [], null, true, false, {\"b\": false, \"i\": -5, "
                        "\"u\": 5, \"d\": 0.5, \"s\": \"x\", \"x\": \"aGVsbG8=\", \"o\": {}, "
                        "\"z\": null}, 1], \"id\": 2}");
}

/* As the classic agent writes them. */
static void test_strings(void **state)
{
    const struct {
        const char *text;
        size_t length;
        const char *expected;
    } strings[] = {
        {"", 0, "\"\""},
        {"plain / 'text'", 14, "\"plain / 'text'\""},
        {"\"\\\b\f\n\r\t", 7, "\"\\\"\\\\\\b\\f\\n\\r\\t\""},
        {"\0\1\x1f\x7f", 4, "\"\\u0000\\u0001\\u001F\\u007F\""},
        {"\xc3\xa9\xe2\x82\xac", 5, "\"\\u00E9\\u20AC\""},
        {"\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf", 8, "\"\\uD83D\\uDE00\\uDBFF\\uDFFF\""},
        {"\xef\xbf\xbf\xf0\x90\x80\x80", 7, "\"\\uFFFF\\uD800\\uDC00\""},
        {"a\xff"
         "b\xc3",
         4, "\"a\\uFFFDb\\uFFFD\""},
        {"\xed\xa0\x80", 3, "\"\\uFFFD\\uFFFD\\uFFFD\""},
        {"\xc0\x80\xe2\x82", 4, "\"\\uFFFD\\uFFFD\\uFFFD\\uFFFD\""},
        {"\xc3\xa9x\n\xc3\xa9\"", 7, "\"\\u00E9x\\n\\u00E9\\\"\""},
    };

    for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
        _cleanup_buffer_ struct buffer out = BUFFER_INIT;
        struct json_writer writer = JSON_WRITER_INIT(&out);
        char *exact = malloc(strings[i].length ? strings[i].length : 1);
        assert_non_null(exact);
        memcpy(exact, strings[i].text, strings[i].length);
        json_string_n(&writer, exact, strings[i].length);
        free(exact);
        assert_string_equal(out.data, strings[i].expected);
    }
}

/* Any bytes at all: one line of ASCII that reads back, as what they were if they were UTF-8. */
static void test_any_bytes(void **state)
{
    const struct json_limits limits = {.depth_max = 1, .values_max = 1};

    srandom(3);
    for (int round = 0; round < 20000; round++) {
        struct buffer out = BUFFER_INIT;
        struct json_writer writer = JSON_WRITER_INIT(&out);
        struct json_document *document = NULL;
        char bytes[120], reason[JSON_REASON_MAX];
        size_t length = (size_t)random() % sizeof(bytes);
        bool ascii = round % 2;

        for (size_t i = 0; i < length; i++)
            bytes[i] = (char)(random() & (ascii ? 0x7f : 0xff));
        json_string_n(&writer, bytes, length);
        for (size_t i = 0; i < out.length; i++)
            assert_in_range(out.data[i], 0x20, 0x7e);
        int r = json_document_parse_take(out.data, out.length, &limits, &document, reason);
        assert_int_equal(r, 0);
        const struct json_value *value = json_document_root(document);
        assert_int_equal(value->type, JSON_STRING);
        if (ascii) {
            assert_int_equal(value->length, length);
            assert_memory_equal(value->text, bytes, length);
        }
        json_document_free(document, false);
    }
}

static void test_integers(void **state)
{
    const int64_t integers[] = {0, 1, -1, 9, -10, 123456789, INT64_MAX, INT64_MIN, INT64_MIN + 1};
    for (size_t i = 0; i < ARRAY_SIZE(integers); i++) {
        _cleanup_buffer_ struct buffer out = BUFFER_INIT;
        struct json_writer writer = JSON_WRITER_INIT(&out);
        char expected[64];
        json_int(&writer, integers[i]);
        json_uint(&writer, (uint64_t)integers[i]);
        snprintf(expected, sizeof(expected), "%lld, %llu", (long long)integers[i],
                 (unsigned long long)integers[i]);
        assert_string_equal(out.data, expected);
    }
}

static struct buffer write_double(double value)
{
    struct buffer out = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&out);
    json_double(&writer, value);
    return out;
}

static void test_doubles(void **state)
{
    const struct {
        double value;
        const char *expected;
    } doubles[] = {
        {0, "0"},
        {-0.0, "-0"},
        {5, "5"},
        {0.1, "0.1"},
        {0.5, "0.5"},
        {1e22, "1e+22"},
        {1.0 / 3, "0.3333333333333333"},
        {0.29, "0.29"},
        {100000, "100000"},
        {INFINITY, "0"},
        {-INFINITY, "0"},
        {NAN, "0"},
        {1e-7, "1e-07"},
        {DBL_MAX, "1.7976931348623157e+308"},
        {0.1 + 0.2, "0.30000000000000004"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(doubles); i++) {
        _cleanup_buffer_ struct buffer out = write_double(doubles[i].value);
        assert_string_equal(out.data, doubles[i].expected);
    }
    srandom(4);
    for (int round = 0; round < 100000; round++) {
        uint64_t bits = (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ (uint64_t)random();
        double value;
        memcpy(&value, &bits, sizeof(value));
        if (!isfinite(value))
            continue;
        _cleanup_buffer_ struct buffer out = write_double(value);
        assert_true(strtod(out.data, NULL) == value);
    }
}

static void test_base64(void **state)
{
    char bytes[100];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)(i * 37);
    for (size_t length = 0; length <= sizeof(bytes); length++) {
        _cleanup_buffer_ struct buffer out = BUFFER_INIT;
        struct json_writer writer = JSON_WRITER_INIT(&out);
        char expected[200];
        json_begin_array(&writer);
        json_base64(&writer, bytes, length);
        json_null(&writer);
        json_end_array(&writer);
        size_t encoded = base64_encoded_length(length);
        memcpy(expected, "[\"", 2);
        base64_encode(expected + 2, bytes, length);
        strcpy(expected + 2 + encoded, "\", null]");
        assert_string_equal(out.data, expected);
    }
}

/* A writer whose buffer could not grow says so there, and does no harm. */
static void test_failed_buffer(void **state)
{
    struct buffer out = {NULL, 0, 0, true};
    struct json_writer writer = JSON_WRITER_INIT(&out);

    json_begin_object(&writer);
    json_member_string(&writer, "a", "b\n");
    json_member_base64(&writer, "c", "d", 1);
    json_member_double(&writer, "e", 1.5);
    json_end_object(&writer);
    assert_true(out.failed);
    assert_null(out.data);
}

static void test_what_another_writer_wrote(void **state)
{
    struct buffer out = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&out);
    json_begin_object(&writer);
    json_raw(&writer, "\"a\": 1", 6);
    json_name(&writer, "b");
    json_raw(&writer, "[2]", 3);
    json_member_int(&writer, "c", 3);
    json_end_object(&writer);
    assert_string_equal(out.data, "{\"a\": 1, \"b\": [2], \"c\": 3}");
    buffer_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commas_and_nesting),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_failed_buffer),
        cmocka_unit_test(test_what_another_writer_wrote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
