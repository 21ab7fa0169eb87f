/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"

/* Encodes as RFC 3629 section 3 describes it, with nothing left out of it. */
static size_t encode(uint32_t code_point, size_t length, char *text)
{
    static const unsigned char leads[] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = length; i-- > 1; code_point >>= 6)
        text[i] = (char)(0x80 | (code_point & 0x3f));
    text[0] = (char)(leads[length] | code_point);
    return length;
}

static size_t shortest(uint32_t code_point)
{
    return code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
}

/* The decoder must not read past `length`: the text stands at the end of its block. */
static size_t decode_exactly(const char *text, size_t length, uint32_t *ret_code_point)
{
    char *copy = malloc(length);
    assert_non_null(copy);
    memcpy(copy, text, length);
    size_t decoded = utf8_decode(copy, length, ret_code_point);
    size_t valid = utf8_valid_prefix(copy, length);
    free(copy);
    assert_true(decoded == 0 ? valid == 0 : valid >= decoded);
    return decoded;
}

static void test_every_code_point(void **state)
{
    for (uint32_t code_point = 0; code_point < 0x110000; code_point++) {
        uint32_t decoded = UINT32_MAX;
        char text[4];
        size_t length = encode(code_point, shortest(code_point), text);

        if (code_point >= 0xd800 && code_point < 0xe000) {
            assert_int_equal(utf8_decode(text, length, &decoded), 0);
        } else {
            assert_int_equal(utf8_decode(text, length, &decoded), length);
            assert_int_equal(decoded, code_point);
            assert_int_equal(utf8_valid_prefix(text, length), length);
        }
    }
}

static void test_truncated(void **state)
{
    const uint32_t code_points[] = {0x80, 0x7ff, 0x800, 0xffff, 0x10000, 0x10ffff};

    for (size_t i = 0; i < sizeof(code_points) / sizeof(code_points[0]); i++) {
        uint32_t decoded;
        char text[4];
        size_t length = encode(code_points[i], shortest(code_points[i]), text);
        for (size_t cut = 1; cut < length; cut++)
            assert_int_equal(decode_exactly(text, cut, &decoded), 0);
        assert_int_equal(decode_exactly(text, length, &decoded), length);
    }
}

static void test_overlong_forms(void **state)
{
    for (size_t length = 2; length <= 4; length++) {
        const uint32_t first_of_length[] = {0, 0, 0x80, 0x800, 0x10000};
        for (uint32_t code_point = 0; code_point < first_of_length[length];
             code_point += code_point < 0x900 ? 1 : 61) {
            uint32_t decoded;
            char text[4];
            encode(code_point, length, text);
            assert_int_equal(decode_exactly(text, length, &decoded), 0);
        }
    }
}

static void test_beyond_unicode(void **state)
{
    for (uint32_t code_point = 0x110000; code_point < 0x200000; code_point += 0x3ff) {
        uint32_t decoded;
        char text[4];
        encode(code_point, 4, text);
        assert_int_equal(decode_exactly(text, 4, &decoded), 0);
    }
}

/* Every pair of bytes, alone and before two that would continue them. */
static void test_every_pair_of_bytes(void **state)
{
    for (int first = 0; first < 256; first++) {
        for (int second = 0; second < 256; second++) {
            const char text[4] = {(char)first, (char)second, (char)0x80, (char)0x80};
            uint32_t code_point;
            size_t length = utf8_decode(text, 4, &code_point);
            char again[4];
            if (length == 0)
                continue;
            assert_int_equal(length, shortest(code_point));
            encode(code_point, length, again);
            assert_memory_equal(again, text, length);
        }
    }
}

static void test_valid_prefix(void **state)
{
    char text[300];

    memset(text, 'a', sizeof(text));
    memcpy(text + 50, "\xc3\xa9", 2);
    memcpy(text + 150, "\xf0\x9f\x98\x80\xe2\x82\xac", 7);
    assert_int_equal(utf8_valid_prefix(text, sizeof(text)), sizeof(text));
    assert_int_equal(utf8_valid_prefix(text, 51), 50);
    assert_int_equal(utf8_valid_prefix(text, 0), 0);
    for (size_t at = sizeof(text); at-- > 157;) {
        text[at] = (char)0x80;
        assert_int_equal(utf8_valid_prefix(text, sizeof(text)), at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point),    cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_overlong_forms),      cmocka_unit_test(test_beyond_unicode),
        cmocka_unit_test(test_every_pair_of_bytes), cmocka_unit_test(test_valid_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
