/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/byte-set.h"

/* Long enough for several steps and every rest after them. */
#define LENGTH_MAX 200

static bool is_in(const struct byte_set *set, int byte)
{
    return byte == set->equal[0] || byte == set->equal[1] || byte < set->below || byte >= set->from;
}

/* A byte that is in none of the sets below. */
#define PLAIN 'x'

static const struct byte_set sets[] = {
    {{'"', '\\'}, 0x20, 0xff}, {{'\'', '\\'}, 0x23, 0x80}, {{0x80, 0x80}, 0, 0x80},
    {{'"', '\\'}, 0x20, 0x7f}, {{0xf5, 0xf5}, 0, 0xf5},    {{'"', '"'}, 0, 0xff},
};

static void test_every_byte_at_every_place(void **state)
{
    for (size_t s = 0; s < sizeof(sets) / sizeof(sets[0]); s++) {
        for (size_t length = 0; length < LENGTH_MAX; length += length < 70 ? 1 : 13) {
            /* Of exactly that size, so that a sanitizer sees a read past the end. */
            char *text = malloc(length ? length : 1);
            assert_non_null(text);
            memset(text, PLAIN, length);
            assert_int_equal(byte_set_find(&sets[s], text, length), length);
            for (size_t at = 0; at < length; at++) {
                for (int byte = 0; byte < 256; byte += length < 70 ? 1 : 5) {
                    text[at] = (char)byte;
                    assert_int_equal(byte_set_find(&sets[s], text, length),
                                     is_in(&sets[s], byte) ? at : length);
                }
                text[at] = PLAIN;
            }
            free(text);
        }
    }
}

static void test_the_first_of_several(void **state)
{
    char text[LENGTH_MAX];

    memset(text, PLAIN, sizeof(text));
    for (size_t first = sizeof(text); first-- > 0;) {
        text[first] = '"';
        assert_int_equal(byte_set_find(&sets[0], text, sizeof(text)), first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_at_every_place),
        cmocka_unit_test(test_the_first_of_several),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
