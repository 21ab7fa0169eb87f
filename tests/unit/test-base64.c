/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Bit by bit, to have something to compare with that shares no idea with the real one. */
static void encode_slowly(char *text, const unsigned char *bytes, size_t length)
{
    for (size_t i = 0; i < base64_encoded_length(length); i++) {
        unsigned value = 0;
        for (size_t bit = i * 6; bit < i * 6 + 6; bit++)
            value = value << 1 | (bit / 8 < length ? bytes[bit / 8] >> (7 - bit % 8) & 1u : 0);
        text[i] = i * 6 < length * 8 ? alphabet[value] : '=';
    }
}

/* Decodes a copy of exactly the text's size. Returns the number of bytes, or -EINVAL. */
static long decode(const char *text, size_t length, unsigned char *ret_bytes)
{
    size_t decoded = SIZE_MAX;
    char *copy = malloc(length ? length : 1);
    assert_non_null(copy);
    memcpy(copy, text, length);
    int r = base64_decode_in_place(copy, length, &decoded);
    if (r == 0 && ret_bytes)
        memcpy(ret_bytes, copy, decoded);
    free(copy);
    return r < 0 ? r : (long)decoded;
}

static long decode_text(const char *text)
{
    return decode(text, strlen(text), NULL);
}

static void test_rfc_vectors(void **state)
{
    const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };

    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        size_t length = strlen(vectors[i][0]);
        unsigned char bytes[8];
        char text[16];
        base64_encode(text, vectors[i][0], length);
        assert_int_equal(base64_encoded_length(length), strlen(vectors[i][1]));
        assert_memory_equal(text, vectors[i][1], base64_encoded_length(length));
        assert_int_equal(decode(text, base64_encoded_length(length), bytes), length);
        assert_memory_equal(bytes, vectors[i][0], length);
    }
}

static void test_every_length(void **state)
{
    unsigned char bytes[300], decoded[300];
    char text[500], expected[500];

    srandom(1);
    for (size_t length = 0; length <= sizeof(bytes); length++) {
        for (int round = 0; round < 20; round++) {
            size_t encoded = base64_encoded_length(length);
            for (size_t i = 0; i < length; i++)
                bytes[i] = (unsigned char)random();
            unsigned char *exact = malloc(length ? length : 1);
            assert_non_null(exact);
            memcpy(exact, bytes, length);
            text[encoded] = '#';
            base64_encode(text, exact, length);
            free(exact);
            encode_slowly(expected, bytes, length);
            assert_memory_equal(text, expected, encoded);
            assert_int_equal(text[encoded], '#');
            assert_int_equal(decode(text, encoded, decoded), length);
            assert_memory_equal(decoded, bytes, length);
        }
    }
}

/* Every three bytes: every group of four characters there is. */
static void test_every_group(void **state)
{
    for (uint32_t bits = 0; bits < 1u << 24; bits++) {
        const unsigned char bytes[3] = {(unsigned char)(bits >> 16), (unsigned char)(bits >> 8),
                                        (unsigned char)bits};
        size_t length;
        char text[4];
        base64_encode(text, bytes, 3);
        if (text[0] != alphabet[bits >> 18] || text[1] != alphabet[bits >> 12 & 63] ||
            text[2] != alphabet[bits >> 6 & 63] || text[3] != alphabet[bits & 63] ||
            base64_decode_in_place(text, 4, &length) != 0 || length != 3 ||
            memcmp(text, bytes, 3) != 0)
            fail_msg("group %06x", bits);
    }
}

static void test_foreign_characters(void **state)
{
    unsigned char bytes[30];
    char text[41];

    memset(bytes, 0xa5, sizeof(bytes));
    for (size_t at = 0; at < 40; at++) {
        base64_encode(text, bytes, sizeof(bytes));
        for (int byte = 0; byte < 256; byte++) {
            text[at] = (char)byte;
            if (byte != 0 && strchr(alphabet, byte))
                assert_int_equal(decode(text, 40, NULL), 30);
            else if (byte == '=' && at == 39)
                assert_int_equal(decode(text, 40, NULL), 29);
            else /* a newline, too: then a character is missing */
                assert_int_equal(decode(text, 40, NULL), -EINVAL);
        }
    }
}

static void test_padding_and_length(void **state)
{
    const char *const refused[] = {
        "Z",         "Zg",       "Zg=",        "Zm8",        "=",        "==",       "===",
        "====",      "Z===",     "Zg=g",       "Z=g=",       "=g==",     "Zg==Zg==", "Zg==Zm9v",
        "Zm9vZ",     "Zm9v=",    "Zm9v====",   "Zg===",      "Zm9vYg=",  "Zm9vYg",   "Zm9vYmFyZg",
        "Zm9v Zg==", "Zm9v\r\n", "Zg==\nZg==", "Zm9v\tZg==", "Zm9vYm-_", "Zg==\n=",  "Zm9v\n\nYg",
    };

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (decode_text(refused[i]) != -EINVAL)
            fail_msg("taken: %s", refused[i]);
    assert_int_equal(decode("Zm9v\0Zm9", 8, NULL), -EINVAL);
}

/* Bits of the last character that no byte has are not looked at, as by other decoders. */
static void test_unused_bits(void **state)
{
    unsigned char bytes[3];
    assert_int_equal(decode("Zh==", 4, bytes), 1);
    assert_int_equal(bytes[0], 'f');
    assert_int_equal(decode("Zm9=", 4, bytes), 2);
    assert_memory_equal(bytes, "fo", 2);
}

static void test_newlines_anywhere(void **state)
{
    const char *const texts[] = {"Zm9vYmFyZm9vYmFyZm9vYmFy",
                                 "Zm9vYmFyZm9vYmE=", "Zm9vYmFyZm9vYg=="};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        size_t length = strlen(texts[i]);
        unsigned char expected[30], bytes[30];
        long decoded = decode(texts[i], length, expected);
        assert_true(decoded > 0);
        for (size_t first = 0; first <= length; first++) {
            for (size_t second = first; second <= length; second++) {
                char text[40];
                snprintf(text, sizeof(text), "%.*s\n%.*s\n\n%s", (int)first, texts[i],
                         (int)(second - first), texts[i] + first, texts[i] + second);
                assert_int_equal(decode(text, strlen(text), bytes), decoded);
                assert_memory_equal(bytes, expected, decoded);
            }
        }
    }
    assert_int_equal(decode_text("\n\n\n\n\n\n\n\n\n"), 0);
}

/* As Proxmox sends it: 76 characters to the line, also a line break at the end. */
static void test_lines(void **state)
{
    static unsigned char bytes[5000], decoded[5000];
    static char text[7000], lines[7000];
    size_t out = 0, length = base64_encoded_length(sizeof(bytes));

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(i * 7 ^ i >> 5);
    base64_encode(text, bytes, sizeof(bytes));
    for (size_t at = 0; at < length; at += 76) {
        size_t line = length - at < 76 ? length - at : 76;
        memcpy(lines + out, text + at, line);
        out += line;
        lines[out++] = '\n';
    }
    assert_int_equal(decode(lines, out, decoded), sizeof(bytes));
    assert_memory_equal(decoded, bytes, sizeof(bytes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_vectors),        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_every_group),        cmocka_unit_test(test_foreign_characters),
        cmocka_unit_test(test_padding_and_length), cmocka_unit_test(test_unused_bits),
        cmocka_unit_test(test_newlines_anywhere),  cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
