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
#include "io/json-writer.h"
#include "io/json.h"
#include "little-memory.h"

static const struct json_limits limits = {.depth_max = 128, .values_max = 1000};

/* Parses a copy in a block of its own size. */
static int parse_with(const char *text, size_t length, const struct json_limits *with,
                      struct json_document **ret_document, char reason[JSON_REASON_MAX])
{
    char *copy = malloc(length + 1);
    assert_non_null(copy);
    memcpy(copy, text, length);
    copy[length] = '\0';
    return json_document_parse_take(copy, length, with, ret_document, reason);
}

static struct json_document *parse(const char *text)
{
    struct json_document *document = NULL;
    char reason[JSON_REASON_MAX] = "";

    if (parse_with(text, strlen(text), &limits, &document, reason) != 0)
        fail_msg("%s: %s", text, reason);
    return document;
}

static struct buffer copy_of(const struct json_document *document)
{
    struct buffer out = BUFFER_INIT;
    struct json_writer writer = JSON_WRITER_INIT(&out);
    json_copy_value(&writer, json_document_root(document));
    return out;
}

static void test_taken(void **state)
{
    const char *const texts[][2] = {
        {"{}", "{}"},
        {" \t\r\n{ } \t\r\n", "{}"},
        {"[]", "[]"},
        {"null", "null"},
        {"true", "true"},
        {" false ", "false"},
        {"5", "5"},
        {"-0", "-0"},
        {"[0,-0,10,1.50,1e400,-1E+7,2e-0,123456789012345678901234567890]",
         "[0, -0, 10, 1.50, 1e400, -1E+7, 2e-0, 123456789012345678901234567890]"},
        {"\"\"", "\"\""},
        {"\"s\"", "\"s\""},
        {"{\"b\":1,\"a\":{\"b\":[2,[],{}]}}", "{\"b\": 1, \"a\": {\"b\": [2, [], {}]}}"},
        {"{\"\":1,\"\\u0000\":2,\"a\\u0000\":3,\"a\":4}",
         "{\"\": 1, \"\\u0000\": 2, \"a\\u0000\": 3, \"a\": 4}"},
        {"[\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\"]",
         "[\"\\\"\\\\/\\b\\f\\n\\r\\tA\\u00E9\\u20AC\"]"},
        {"\"\\ud83d\\ude00\"", "\"\\uD83D\\uDE00\""},
        {"\"\xf0\x9f\x98\x80\xc3\xa9\x7f\"", "\"\\uD83D\\uDE00\\u00E9\\u007F\""},
        {"{'a':'b'}", "{\"a\": \"b\"}"},
        {"'a\"b\"\"\\'\\\"c d!'", "\"a\\\"b\\\"\\\"'\\\"c d!\""},
        {"{\"a'b\":\"'\\''\"}", "{\"a'b\": \"'''\"}"},
        {"{\"a\\n\":1,'a\\t':2}", "{\"a\\n\": 1, \"a\\t\": 2}"},
        {"[1,[2,[3]],{\"a\":[]}]", "[1, [2, [3]], {\"a\": []}]"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        struct json_document *document = parse(texts[i][0]);
        _cleanup_buffer_ struct buffer copy = copy_of(document);
        assert_string_equal(copy.data, texts[i][1]);
        json_document_free(document, i % 2);
    }
    assert_null(json_document_free(NULL, true));
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

static const struct refusal refusals[] = {
    REFUSAL("", "unexpected end of input"),
    REFUSAL(" ", "unexpected end of input"),
    REFUSAL("[", "unexpected end of input"),
    REFUSAL("{\"a\":", "unexpected end of input"),
    REFUSAL("[1,[2]", "unexpected end of input"),
    REFUSAL("{,}", "expecting value"),
    REFUSAL("[1,]", "expecting value"),
    REFUSAL("]", "expecting value"),
    REFUSAL("{\"a\":1,}", "expecting value"),
    REFUSAL("{\"a\"}", "missing : in object pair"),
    REFUSAL("{\"a\":1 \"b\":2}", "expected separator in dict"),
    REFUSAL("[1 2]", "expected separator in list"),
    REFUSAL("[1}", "expected separator in list"),
    REFUSAL("{1:2}", "key is not a string in object"),
    REFUSAL("[tru]", "invalid keyword 'tru'"),
    REFUSAL("tru", "invalid keyword 'tru'"),
    REFUSAL("[nullx]", "invalid keyword 'nullx'"),
    REFUSAL("[truefalse]", "invalid keyword 'truefalse'"),
    REFUSAL("[@]", "stray '@'"),
    REFUSAL("[\xc3\xa9]", "stray '\xef\xbf\xbd'"),
    REFUSAL("[\xff]", "stray '\xef\xbf\xbd'"),
    REFUSAL("[/*c*/1]", "stray '/'"),
    REFUSAL("[+1]", "stray '+'"),
    REFUSAL("[.5]", "stray '.'"),
    REFUSAL("[01]", "stray '01'"),
    REFUSAL("[-01]", "stray '-01'"),
    REFUSAL("[1.]", "stray '1.'"),
    REFUSAL("[1.e5]", "stray '1.e5'"),
    REFUSAL("[1e]", "stray '1e'"),
    REFUSAL("[1e+]", "stray '1e+'"),
    REFUSAL("[-]", "stray '-'"),
    REFUSAL("-", "stray '-'"),
    REFUSAL("12abc", "stray '12abc'"),
    REFUSAL("[0x10]", "stray '0x10'"),
    REFUSAL("[1a234567890123456789012345678901234567890123456789]",
            "stray '1a23456789012345678901234567890123456789'"),
    REFUSAL("{} {}", "expecting one value"),
    REFUSAL("{}]", "expecting one value"),
    REFUSAL("\"a\" \"b\"", "expecting one value"),
    REFUSAL("[1,\v2]", "stray control character"),
    REFUSAL("[1]\f", "stray control character"),
    REFUSAL("[1]\0", "stray control character"),
    REFUSAL("[\0]", "stray control character"),

    REFUSAL("{\"a\":1,\"a\":2}", "duplicate key"),
    REFUSAL("{\"a\":1,\"b\":2,\"\\u0061\":3}", "duplicate key"),
    REFUSAL("{\"x\":{\"\":1,\"\":2}}", "duplicate key"),
    REFUSAL("{'\\\"':1,\"\\u0022\":2}", "duplicate key"),
    REFUSAL("{'\"':1,\"\\\"\":2}", "duplicate key"),
    REFUSAL("{\"\\u0001\":1,\"\\u0001\":2}", "duplicate key"),
};

static void test_refused(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct json_document *document = NULL;
        char reason[JSON_REASON_MAX] = "", expected[JSON_REASON_MAX];
        int r = parse_with(refusals[i].text, refusals[i].length, &limits, &document, reason);
        snprintf(expected, sizeof(expected), "JSON parse error, %s", refusals[i].reason);
        if (r != -EBADMSG || strcmp(reason, expected) != 0)
            fail_msg("%s: %d %s", refusals[i].text, r, reason);
        assert_null(document);
    }
}

/*
 * Another reading of RFC 8259, to compare with: each function takes what it is named after from the
 * beginning of the text and returns the rest, or NULL.
 */
static const char *take_value(const char *text);

static const char *take_space(const char *text)
{
    return text + strspn(text, " \t\r\n");
}

static const char *take_digits(const char *text)
{
    size_t count = strspn(text, "0123456789");
    return count > 0 ? text + count : NULL;
}

static const char *take_number(const char *text)
{
    text += *text == '-';
    text = *text == '0' ? text + 1 : take_digits(text);
    if (text && *text == '.')
        text = take_digits(text + 1);
    if (text && (*text == 'e' || *text == 'E')) {
        text++;
        text = take_digits(text + (*text == '+' || *text == '-'));
    }
    return text;
}

/* No escapes: they have tests of their own. */
static const char *take_string(const char *text)
{
    const char *end = *text == '"' ? strchr(text + 1, '"') : NULL;
    return end ? end + 1 : NULL;
}

static const char *take_members(const char *text, char closing)
{
    const char *rest = take_space(text);

    if (*rest == closing)
        return rest + 1;
    for (;;) {
        if (closing == '}') {
            rest = take_string(take_space(rest));
            if (!rest || *take_space(rest) != ':')
                return NULL;
            rest = take_space(rest) + 1;
        }
        rest = take_value(rest);
        if (!rest)
            return NULL;
        if (*rest == closing)
            return rest + 1;
        if (*rest++ != ',')
            return NULL;
    }
}

static const char *take_value(const char *text)
{
    static const char *const literals[] = {"true", "false", "null"};
    const char *rest = NULL;

    text = take_space(text);
    if (*text == '{' || *text == '[')
        rest = take_members(text + 1, *text == '{' ? '}' : ']');
    else if (*text == '"')
        rest = take_string(text);
    else
        rest = take_number(text);
    for (size_t i = 0; i < ARRAY_SIZE(literals); i++)
        if (strncmp(text, literals[i], strlen(literals[i])) == 0)
            rest = text + strlen(literals[i]);
    return rest ? take_space(rest) : NULL;
}

static bool is_json(const char *text)
{
    const char *rest = take_value(text);
    return rest && *rest == '\0';
}

/* Compares the two readings on every row of `count` tokens. */
static void compare_readings(const char *const *tokens, size_t token_count, size_t count)
{
    size_t rows = 1;

    for (size_t i = 0; i < count; i++)
        rows *= token_count;
    for (size_t row = 0; row < rows; row++) {
        struct json_document *document = NULL;
        char reason[JSON_REASON_MAX], text[64];
        size_t left = row, length = 0;
        for (size_t i = 0; i < count; i++, left /= token_count)
            length = (size_t)(stpcpy(text + length, tokens[left % token_count]) - text);
        int r = parse_with(text, length, &limits, &document, reason);
        if (r != (is_json(text) ? 0 : -EBADMSG))
            fail_msg("%s: %d", text, r);
        json_document_free(document, false);
    }
}

static void test_every_row_of_tokens(void **state)
{
    /* One name only where no two members fit. */
    const char *const tokens[] = {"{", "}", "[", "]", ",", ":", "\"a\"", "1", "true", " ", "\n"};
    for (size_t count = 0; count <= 6; count++)
        compare_readings(tokens, count < 6 ? ARRAY_SIZE(tokens) : ARRAY_SIZE(tokens) - 2, count);
}

static void test_every_row_of_number_characters(void **state)
{
    const char *const tokens[] = {"0", "1", "-", "+", ".", "e", "E"};
    for (size_t count = 1; count <= 6; count++)
        compare_readings(tokens, ARRAY_SIZE(tokens), count);
}

static void test_every_row_of_letters(void **state)
{
    const char *const tokens[] = {"t", "r", "u", "e", "n", "l", "tru", "nul", "fals", "[", "]"};
    for (size_t count = 1; count <= 5; count++)
        compare_readings(tokens, ARRAY_SIZE(tokens), count);
}

static void test_tree(void **state)
{
    struct json_document *document = parse(
        "{\"s\":\"text\",\"n\":-12,\"b\":true,\"z\":null,\"a\":[1,\"x\",{}],\"o\":{\"k\":1}}");
    const struct json_value *root = json_document_root(document), *value;

    assert_int_equal(root->type, JSON_OBJECT);
    assert_int_equal(root->count, 6);
    assert_null(root->name);
    assert_null(root->next);
    value = json_object_get(root, "s");
    assert_int_equal(value->type, JSON_STRING);
    assert_string_equal(value->text, "text");
    assert_string_equal(value->name, "s");
    value = json_object_get(root, "n");
    assert_int_equal(value->type, JSON_NUMBER);
    assert_string_equal(value->text, "-12");
    assert_int_equal(value->length, 3);
    value = json_object_get(root, "b");
    assert_int_equal(value->type, JSON_BOOL);
    assert_true(value->boolean);
    assert_int_equal(json_object_get(root, "z")->type, JSON_NULL);
    value = json_object_get(root, "a");
    assert_int_equal(value->type, JSON_ARRAY);
    assert_int_equal(value->count, 3);
    assert_string_equal(value->first->text, "1");
    assert_null(value->first->name);
    assert_string_equal(value->first->next->text, "x");
    assert_int_equal(value->first->next->next->type, JSON_OBJECT);
    assert_int_equal(value->first->next->next->count, 0);
    assert_null(value->first->next->next->first);
    assert_null(value->first->next->next->next);
    value = json_object_get(root, "o");
    assert_string_equal(value->first->name, "k");
    assert_null(value->next);
    assert_null(json_object_get(root, "k"));
    assert_null(json_object_get(root, ""));
    assert_null(json_object_get(root, "ss"));
    json_document_free(document, true);
}

/* A name with a NUL in it is not the name before the NUL. */
static void test_names_with_nul(void **state)
{
    struct json_document *document = parse("{\"execute\\u0000x\":1}");
    assert_null(json_object_get(json_document_root(document), "execute"));
    json_document_free(document, false);
}

static void test_numbers(void **state)
{
    const struct {
        const char *text;
        bool is_int64, is_uint64;
        uint64_t value;
    } numbers[] = {
        {"0", true, true, 0},
        {"-0", true, true, 0},
        {"7", true, true, 7},
        {"-1", true, false, (uint64_t)-1},
        {"9223372036854775807", true, true, INT64_MAX},
        {"9223372036854775808", false, true, (uint64_t)INT64_MAX + 1},
        {"18446744073709551615", false, true, UINT64_MAX},
        {"18446744073709551616", false, false, 0},
        {"99999999999999999999", false, false, 0},
        {"184467440737095516150", false, false, 0},
        {"-9223372036854775808", true, false, (uint64_t)INT64_MIN},
        {"-9223372036854775809", false, false, 0},
        {"-18446744073709551616", false, false, 0},
        {"1.0", false, false, 0},
        {"1e3", false, false, 0},
        {"0e0", false, false, 0},
        {"1E0", false, false, 0},
        {"true", false, false, 0},
        {"\"1\"", false, false, 0},
        {"null", false, false, 0},
        {"[1]", false, false, 0},
    };

    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
        struct json_document *document = parse(numbers[i].text);
        const struct json_value *value = json_document_root(document);
        uint64_t as_uint64 = 42;
        int64_t as_int64 = 42;
        assert_int_equal(json_get_int64(value, &as_int64), numbers[i].is_int64);
        assert_int_equal(json_get_uint64(value, &as_uint64), numbers[i].is_uint64);
        assert_true(as_int64 == (numbers[i].is_int64 ? (int64_t)numbers[i].value : 42));
        assert_true(as_uint64 == (numbers[i].is_uint64 ? numbers[i].value : 42));
        json_document_free(document, false);
    }
}

/* `count` times `part`, between `before` and `after`, parsed with the limits. */
static int parse_repeated(const char *before, const char *part, size_t count, const char *after,
                          const struct json_limits *with, char reason[JSON_REASON_MAX])
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    struct json_document *document = NULL;

    buffer_append_text(&text, before);
    for (size_t i = 0; i < count; i++)
        buffer_append_text(&text, part);
    buffer_append_text(&text, after);
    int r = parse_with(text.data, text.length, with, &document, reason);
    json_document_free(document, false);
    return r;
}

static void test_limits(void **state)
{
    const struct json_limits small = {.depth_max = 3, .values_max = 5};
    char reason[JSON_REASON_MAX];

    assert_int_equal(parse_repeated("[", "[", 2, "]]]", &small, reason), 0);
    assert_int_equal(parse_repeated("[", "[", 3, "]]]]", &small, reason), -E2BIG);
    assert_string_equal(reason, "JSON nesting depth limit exceeded");
    assert_int_equal(parse_repeated("{\"a\":{\"a\":{\"a\":", "{", 1, "}}}}", &small, reason),
                     -E2BIG);
    assert_int_equal(parse_repeated("[0", ",1", 3, "]", &small, reason), 0);
    assert_int_equal(parse_repeated("[0", ",1", 4, "]", &small, reason), -E2BIG);
    assert_string_equal(reason, "JSON value count limit exceeded");
    assert_int_equal(parse_repeated("", "[", 200000, "", &limits, reason), -E2BIG);
    assert_int_equal(parse_repeated("", "{\"a\":", 200000, "", &limits, reason), -E2BIG);
    assert_int_equal(parse_repeated("[1", ",1", 200000, "", &limits, reason), -E2BIG);
}

/* Beyond what the parser's scratch memory was made for. */
static void test_deep(void **state)
{
    for (size_t depth = 1; depth < 100000; depth = depth < 3000 ? depth + 97 : depth * 3) {
        const struct json_limits deep = {.depth_max = depth, .values_max = depth};
        _cleanup_buffer_ struct buffer text = BUFFER_INIT;
        char reason[JSON_REASON_MAX];
        for (size_t i = 0; i < depth; i++)
            buffer_append_char(&text, ']');
        assert_int_equal(parse_repeated("", "[", depth, text.data, &deep, reason), 0);
    }
}

/* Comparing each with each would take minutes here. */
static void test_many_members(void **state)
{
    const struct json_limits many = {.depth_max = 2, .values_max = 300002};
    struct json_document *document = NULL;
    char reason[JSON_REASON_MAX];

    for (int duplicate = 0; duplicate < 2; duplicate++) {
        _cleanup_buffer_ struct buffer text = BUFFER_INIT;
        buffer_append_text(&text, "{\"a\":0");
        for (unsigned i = 0; i < 300000 - 1; i++)
            buffer_append_format(&text, ",\"a%u\":0", i * 7919 % 300000);
        buffer_append_text(&text, duplicate ? ",\"a7\":0}" : ",\"b\":0}");
        int r = parse_with(text.data, text.length, &many, &document, reason);
        assert_int_equal(r, duplicate ? -EBADMSG : 0);
    }
    assert_int_equal(json_document_root(document)->count, 300001);
    json_document_free(document, false);
}

static void test_duplicates_at_every_count(void **state)
{
    for (unsigned count = 2; count < 40; count++) {
        for (unsigned first = 0; first < count; first++) {
            for (unsigned second = first; second < count; second++) {
                _cleanup_buffer_ struct buffer text = BUFFER_INIT;
                struct json_document *document = NULL;
                char reason[JSON_REASON_MAX];
                for (unsigned i = 0; i < count; i++)
                    buffer_append_format(&text, "%c\"%u\":[]", i == 0 ? '{' : ',',
                                         i == second ? first : i);
                buffer_append_char(&text, '}');
                int r = parse_with(text.data, text.length, &limits, &document, reason);
                assert_int_equal(r, first == second ? 0 : -EBADMSG);
                json_document_free(document, false);
            }
        }
    }
}

/* A string is where it arrived: nothing of that size was allocated for it. */
static void test_large_string(void **state)
{
    const size_t length = 8 << 20;
    struct json_document *document = NULL;
    char *text = malloc(length + 1), reason[JSON_REASON_MAX];

    assert_non_null(text);
    memset(text, 'A', length);
    memcpy(text, "[\"", 2);
    memcpy(text + length / 2, "\\n\\u0000", 8);
    memcpy(text + length - 2, "\"]", 3);
    assert_int_equal(json_document_parse_take(text, length, &limits, &document, reason), 0);
    const struct json_value *value = json_document_root(document)->first;
    assert_ptr_equal(value->text, text + 2);
    assert_int_equal(value->length, length - 4 - 6);
    assert_memory_equal(value->text + length / 2 - 3, "A\n\0A", 4);
    assert_int_equal(value->text[value->length], '\0');
    json_document_free(document, true);
}

#if LITTLE_MEMORY_WORKS
/* A tree that does not fit is refused, and nothing of it stays. */
static void test_little_memory(void **state)
{
    const struct json_limits many = {.depth_max = 2, .values_max = 2000000};
    const size_t length = 1 << 20;
    char *text = malloc(length + 1), reason[JSON_REASON_MAX] = "";
    struct json_document *document = NULL;
    struct rlimit before;

    assert_non_null(text);
    for (size_t i = 0; i < length; i++)
        text[i] = i % 2 ? '0' : ',';
    text[0] = '[';
    memcpy(text + length - 2, " ]", 3);
    assert_true(little_memory_begin(8 << 20, &before));
    int r = json_document_parse_take(text, length, &many, &document, reason);
    little_memory_end(&before);
    assert_int_equal(r, -ENOMEM);
    assert_null(document);
    assert_string_equal(reason, "JSON text does not fit into memory");
}
#endif

static void test_type_names(void **state)
{
    assert_string_equal(json_type_name(JSON_NULL), "null");
    assert_string_equal(json_type_name(JSON_BOOL), "boolean");
    assert_string_equal(json_type_name(JSON_NUMBER), "number");
    assert_string_equal(json_type_name(JSON_STRING), "string");
    assert_string_equal(json_type_name(JSON_ARRAY), "array");
    assert_string_equal(json_type_name(JSON_OBJECT), "object");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_row_of_tokens),
        cmocka_unit_test(test_every_row_of_number_characters),
        cmocka_unit_test(test_every_row_of_letters),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_names_with_nul),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_deep),
        cmocka_unit_test(test_many_members),
        cmocka_unit_test(test_duplicates_at_every_count),
        cmocka_unit_test(test_large_string),
#if LITTLE_MEMORY_WORKS
        cmocka_unit_test(test_little_memory),
#endif
        cmocka_unit_test(test_type_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
