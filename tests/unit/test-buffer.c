/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"

/* Has the allocator give out memory again that is full of something else. */
static void dirty_memory(size_t size)
{
    void *blocks[8];
    for (size_t i = 0; i < ARRAY_SIZE(blocks); i++) {
        blocks[i] = malloc(size);
        assert_non_null(blocks[i]);
        memset(blocks[i], 'x', size);
    }
    for (size_t i = 0; i < ARRAY_SIZE(blocks); i++)
        free(blocks[i]);
}

static void test_contents_are_always_followed_by_a_nul(void **state)
{
    static const size_t sizes[] = {1, 63, 64, 65, 1000, 16 * 1024};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct buffer buffer = BUFFER_INIT;
        for (size_t capacity = 64; capacity <= 32 * 1024; capacity *= 2)
            dirty_memory(capacity);
        /* What a file that is empty leaves behind. */
        assert_non_null(buffer_reserve(&buffer, sizes[i]));
        assert_string_equal(buffer.data, "");
        buffer_append(&buffer, "", 0);
        assert_string_equal(buffer.data, "");
        buffer_append_text(&buffer, "text");
        assert_string_equal(buffer.data, "text");
        assert_non_null(buffer_reserve(&buffer, 3 * sizes[i]));
        assert_string_equal(buffer.data, "text");
        buffer_deinit(&buffer);
    }
}

static void test_appending(void **state)
{
    struct buffer buffer = BUFFER_INIT;
    buffer_append_char(&buffer, 'a');
    buffer_append(&buffer, "b\0c", 3);
    buffer_append_format(&buffer, "%d", 42);
    assert_int_equal(buffer.length, 6);
    assert_memory_equal(buffer.data, "ab\0c42", 7);
    buffer_truncate(&buffer, 4);
    assert_memory_equal(buffer.data, "ab\0c", 5);
    buffer_consume(&buffer, 3);
    assert_string_equal(buffer.data, "c");
    struct buffer taken = buffer_take(&buffer);
    assert_null(buffer.data);
    assert_string_equal(taken.data, "c");
    buffer_deinit(&taken);
}

static void test_what_does_not_fit_into_memory(void **state)
{
    struct buffer buffer = BUFFER_INIT;
    buffer_append_text(&buffer, "kept");
    assert_null(buffer_reserve(&buffer, SIZE_MAX));
    assert_true(buffer.failed);
    buffer_append_text(&buffer, " not");
    assert_string_equal(buffer.data, "kept");
    buffer_deinit(&buffer);
    assert_false(buffer.failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents_are_always_followed_by_a_nul),
        cmocka_unit_test(test_appending),
        cmocka_unit_test(test_what_does_not_fit_into_memory),
    };
    return cmocka_run_group_tests_name("buffer", tests, NULL, NULL);
}
