/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "io/json-strings.h"
#include "io/json.h"

static struct json_document *parse(const char *text)
{
    const struct json_limits limits = {.depth_max = 16, .values_max = 100};
    struct json_document *document = NULL;
    char reason[JSON_REASON_MAX] = "", *copy = strdup(text);

    assert_non_null(copy);
    if (json_document_parse_take(copy, strlen(text), &limits, &document, reason) != 0)
        fail_msg("%s: %s", text, reason);
    return document;
}

struct refusal {
    const char *text;
    size_t length;
    const char *reason; /* without "JSON parse error, " */
};

#define REFUSAL(text, reason)          \
    {                                  \
        text, sizeof(text) - 1, reason \
    }

static void test_refused(void **state)
{
    const struct refusal refusals[] = {
        REFUSAL("\"", "unterminated string"),
        REFUSAL("\"a", "unterminated string"),
        REFUSAL("\"a\\", "unterminated string"),
        REFUSAL("\"a\\\"", "unterminated string"),
        REFUSAL("[\"a']", "unterminated string"),
        REFUSAL("['a\"]", "unterminated string"),
        REFUSAL("\"\\", "unterminated string"),
        REFUSAL("\"a\nb\"", "control character in string"),
        REFUSAL("\"a\tb\"", "control character in string"),
        REFUSAL("\"a\0b\"", "control character in string"),
        REFUSAL("'a\tb'", "control character in string"),
        REFUSAL("\"\\q\"", "invalid escape sequence in string"),
        REFUSAL("\"\\\0\"", "invalid escape sequence in string"),
        REFUSAL("\"\\x41\"", "invalid escape sequence in string"),
        REFUSAL("\"\\u12\"", "invalid escape sequence in string"),
        REFUSAL("\"\\u\"", "invalid escape sequence in string"),
        REFUSAL("\"\\u", "invalid escape sequence in string"),
        REFUSAL("\"\\u123", "invalid escape sequence in string"),
        REFUSAL("\"\\u123g\"", "invalid escape sequence in string"),
        REFUSAL("\"\\u 123\"", "invalid escape sequence in string"),
        REFUSAL("\"\\ud800\"", "\\ud800 is not a valid Unicode character"),
        REFUSAL("\"\\uDFFF\"", "\\uDFFF is not a valid Unicode character"),
        REFUSAL("\"\\ud800\\", "\\ud800 is not a valid Unicode character"),
        REFUSAL("\"\\ud800\\u", "\\ud800 is not a valid Unicode character"),
        REFUSAL("\"\\ud800\\udc0", "\\ud800 is not a valid Unicode character"),
        REFUSAL("\"\\ud800\\u\"", "\\ud800 is not a valid Unicode character"),
        REFUSAL("\"\\ud800\\ud800\"", "\\ud800 is not a valid Unicode character"),
        REFUSAL("\"\\ud800\\ue000\"", "\\ud800 is not a valid Unicode character"),
        REFUSAL("\"\\udc00\\udc00\"", "\\udc00 is not a valid Unicode character"),
        REFUSAL("\"\\ud800\\u0041\"", "\\ud800 is not a valid Unicode character"),
        REFUSAL("\"\\udc00\\ud800\"", "\\udc00 is not a valid Unicode character"),
        REFUSAL("\"\xc3\"", "invalid UTF-8 sequence in string"),
        REFUSAL("\"\xc3", "invalid UTF-8 sequence in string"),
        REFUSAL("\"\xc0\x80\"", "invalid UTF-8 sequence in string"),
        REFUSAL("\"\xed\xa0\x80\"", "invalid UTF-8 sequence in string"),
        REFUSAL("\"\xf5\"", "invalid UTF-8 sequence in string"),
        REFUSAL("\"\xfc\x81\"", "invalid UTF-8 sequence in string"),
        REFUSAL("{\"\xff\":1}", "invalid UTF-8 sequence in string"),
    };

    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        char reason[JSON_REASON_MAX] = "", expected[JSON_REASON_MAX];
        char *copy = malloc(refusals[i].length);
        bool rewritten;
        assert_non_null(copy);
        memcpy(copy, refusals[i].text, refusals[i].length);
        int r = json_strings_prepare(copy, refusals[i].length, &rewritten, reason);
        snprintf(expected, sizeof(expected), "JSON parse error, %s", refusals[i].reason);
        if (r != -EBADMSG || strcmp(reason, expected) != 0)
            fail_msg("%s: %d %s", refusals[i].text, r, reason);
        free(copy);
    }
}

/* What yajl gets to see, with ? for bytes that stand in for others. */
static void test_prepared(void **state)
{
    const struct {
        const char *text, *prepared;
        bool rewritten;
    } texts[] = {
        {"{\"a\" : [1, \"b\xc3\xa9\"]}", "{\"a\" : [1, \"b\xc3\xa9\"]}", false},
        {"['a']", "[\"a\"]", false},
        {"[\"\\/\\u0041\",1]", "[\"/A\"      ,1]", false},
        {"[\"\\'\\u00e9\"]", "[\"'\xc3\xa9\"     ]", false},
        {"[\"\\n\"]", "[\"?\" ]", true},
        {"['\"']", "[\"?\"]", true},
        {"\"\\u0001\\\\\\u000a\"", "\"????\"          ", true},
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        size_t length = strlen(texts[i].text);
        char *copy = strdup(texts[i].text), reason[JSON_REASON_MAX];
        bool rewritten;
        assert_non_null(copy);
        assert_int_equal(json_strings_prepare(copy, length, &rewritten, reason), 0);
        assert_int_equal(rewritten, texts[i].rewritten);
        for (size_t at = 0; at < length; at++)
            if (texts[i].prepared[at] == '?')
                copy[at] = (unsigned char)copy[at] < 0x80 ? copy[at] : '?';
        assert_string_equal(copy, texts[i].prepared);
        free(copy);
    }
}

/* UTF-8 of a code point, with a NUL; returns its length. */
static size_t encode(unsigned code_point, char text[5])
{
    static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    size_t length = code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;

    for (size_t i = length; i-- > 1; code_point >>= 6)
        text[i] = (char)(0x80 | (code_point & 0x3f));
    text[0] = (char)(leads[length] | code_point);
    text[length] = '\0';
    return length;
}

/* Every code point as one escape, or two. */
static void test_every_escape(void **state)
{
    for (unsigned code_point = 0; code_point < 0x110000;
         code_point += code_point < 0x10400 || code_point >= 0x10ffe0 ? 1 : 97) {
        char text[40], expected[5];
        if (code_point >= 0xd800 && code_point < 0xe000)
            continue;
        if (code_point < 0x10000)
            snprintf(text, sizeof(text), "[\"<\\u%04x>\",{\"\\u%04X\":1}]", code_point, code_point);
        else
            snprintf(text, sizeof(text), "[\"<\\u%04X\\u%04x>\"]",
                     0xd800 + ((code_point - 0x10000) >> 10), 0xdc00 + (code_point & 0x3ff));
        size_t length = encode(code_point, expected);
        struct json_document *document = parse(text);
        const struct json_value *value = json_document_root(document)->first;
        assert_int_equal(value->length, length + 2);
        assert_int_equal(value->text[0], '<');
        assert_memory_equal(value->text + 1, expected, length);
        assert_memory_equal(value->text + 1 + length, ">", 2);
        if (value->next) {
            assert_int_equal(value->next->first->name_length, length);
            assert_memory_equal(value->next->first->name, expected, length + 1);
        }
        json_document_free(document, false);
    }
}

/* Each form of a character in strings of every length, beside every other form. */
static void test_rewritten_strings(void **state)
{
    const char *const forms[][2] = {
        {"x", "x"},
        {"\\n", "\n"},
        {"\\u0001", "\1"},
        {"\\u0022", "\""},
        {"\\\"", "\""},
        {"\\u00e9", "\xc3\xa9"},
        {"\\/", "/"},
        {"\\\\", "\\"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\\ud83d\\ude00", "\xf0\x9f\x98\x80"},
        {"\\u005c", "\\"},
        {" ", " "},
        {"\\u0041", "A"},
    };
    const size_t count = ARRAY_SIZE(forms);

    for (size_t row = 0; row < count * count * count; row++) {
        const size_t picked[] = {row % count, row / count % count, row / count / count};
        _cleanup_buffer_ struct buffer text = BUFFER_INIT, expected = BUFFER_INIT;
        buffer_append_text(&text, "[\"");
        for (size_t i = 0; i < row % 40; i++) {
            buffer_append_char(&text, '-');
            buffer_append_char(&expected, '-');
        }
        for (size_t i = 0; i < 3; i++) {
            buffer_append_text(&text, forms[picked[i]][0]);
            buffer_append_text(&expected, forms[picked[i]][1]);
        }
        buffer_append_text(&text, row % 2 ? "\",12]" : "\" , 12 ]");
        struct json_document *document = parse(text.data);
        const struct json_value *value = json_document_root(document)->first;
        assert_int_equal(value->length, expected.length);
        assert_memory_equal(value->text, expected.data, expected.length + 1);
        assert_string_equal(value->next->text, "12");
        json_document_free(document, false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_prepared),
        cmocka_unit_test(test_every_escape),
        cmocka_unit_test(test_rewritten_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
