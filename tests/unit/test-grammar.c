/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/grammar.h"

/* What the scanner and the parser make of the grammar is tested with them. */

static enum grammar_step last_step(struct grammar *grammar, const char *text)
{
    enum grammar_step step = STEP_TAKEN;

    grammar_reset(grammar);
    for (; *text && step == STEP_TAKEN; text++)
        step = grammar_step(grammar, *text);
    return step;
}

static void test_ends(void **state)
{
    struct grammar grammar;

    assert_int_equal(grammar_init(&grammar, 20), 0);
    assert_int_equal(last_step(&grammar, "{\"a\":[1,true,{}]"), STEP_TAKEN);
    assert_int_equal(grammar.depth, 1);
    assert_int_equal(last_step(&grammar, "{\"a\":[1,true,{}]}"), STEP_ENDS);
    assert_int_equal(last_step(&grammar, "\"x"), STEP_TAKEN);
    assert_int_equal(last_step(&grammar, "\"x\""), STEP_ENDS);
    assert_int_equal(last_step(&grammar, "12"), STEP_TAKEN);
    assert_int_equal(last_step(&grammar, "12 "), STEP_ENDED);
    assert_int_equal(last_step(&grammar, "true,"), STEP_ENDED);
    assert_int_equal(last_step(&grammar, "[1}"), STEP_FAULT);
    assert_string_equal(grammar.reason, "JSON parse error, expected separator in list");
    grammar_deinit(&grammar);
}

static void test_ends_before(void **state)
{
    struct grammar grammar;

    assert_int_equal(grammar_init(&grammar, 20), 0);
    assert_int_equal(last_step(&grammar, "12"), STEP_TAKEN);
    for (int byte = 1; byte < 256; byte++) {
        struct grammar copy = grammar;
        assert_int_equal(grammar_ends_before(&grammar, (char)byte),
                         grammar_step(&copy, (char)byte) == STEP_ENDED);
    }
    assert_int_equal(last_step(&grammar, "[12"), STEP_TAKEN);
    assert_false(grammar_ends_before(&grammar, ']'));
    assert_int_equal(last_step(&grammar, "\"12"), STEP_TAKEN);
    assert_false(grammar_ends_before(&grammar, '"'));
    grammar_deinit(&grammar);
}

static void test_pass_string(void **state)
{
    struct grammar grammar;

    assert_int_equal(grammar_init(&grammar, 20), 0);
    grammar_reset(&grammar);
    assert_int_equal(grammar_pass_string(&grammar, "abc", 3), 0);
    assert_false(grammar_is_in_string(&grammar));
    assert_int_equal(grammar_step(&grammar, '\''), STEP_TAKEN);
    assert_true(grammar_is_in_string(&grammar));
    assert_int_equal(grammar_pass_string(&grammar, "ab\"c'", 5), 4);
    assert_int_equal(grammar_pass_string(&grammar, "ab\"c", 4), 4);
    assert_int_equal(grammar_pass_string(&grammar, "a\n", 2), 1);
    assert_int_equal(grammar_pass_string(&grammar, "a\xff", 2), 1);
    assert_int_equal(grammar_pass_string(&grammar, "a\\'", 3), 1);
    assert_int_equal(grammar_step(&grammar, '\\'), STEP_TAKEN);
    assert_true(grammar_is_in_string(&grammar));
    assert_int_equal(grammar_pass_string(&grammar, "abc", 3), 0);
    assert_int_equal(grammar_step(&grammar, '\''), STEP_TAKEN);
    assert_int_equal(grammar_step(&grammar, '\''), STEP_ENDS);
    grammar_deinit(&grammar);
}

/* Which kind of bracket is open is remembered at every depth. */
static void test_kinds_of_brackets(void **state)
{
    const size_t depth_max = 20;
    struct grammar grammar;

    assert_int_equal(grammar_init(&grammar, depth_max), 0);
    for (unsigned kinds = 0; kinds < 1u << depth_max; kinds += kinds % 7 ? 1 : 211) {
        enum grammar_step step = STEP_TAKEN;
        grammar_reset(&grammar);
        for (size_t level = 0; level < depth_max; level++) {
            const char *opening = kinds >> level & 1 ? "{\"a\":" : "[";
            for (; *opening; opening++)
                assert_int_equal(grammar_step(&grammar, *opening), STEP_TAKEN);
        }
        struct grammar too_deep = grammar;
        assert_int_equal(grammar_step(&too_deep, '['), STEP_FAULT);
        assert_int_equal(grammar_step(&grammar, '"'), STEP_TAKEN);
        assert_int_equal(grammar_step(&grammar, '"'), STEP_TAKEN);
        for (size_t level = depth_max; level-- > 0;) {
            struct grammar wrong = grammar;
            assert_int_equal(step, STEP_TAKEN);
            assert_int_equal(grammar_step(&wrong, kinds >> level & 1 ? ']' : '}'), STEP_FAULT);
            step = grammar_step(&grammar, kinds >> level & 1 ? '}' : ']');
        }
        assert_int_equal(step, STEP_ENDS);
    }
    grammar_deinit(&grammar);
}

static void test_skip(void **state)
{
    const char *const texts[] = {"]", "[]", "{[\"]\\\"]\"]}", "{[}}", "{']\"]'\"'\"}"};
    struct grammar grammar;

    assert_int_equal(grammar_init(&grammar, 1), 0);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        grammar_reset(&grammar);
        for (const char *at = texts[i]; *at; at++)
            assert_int_equal(grammar_skip_byte(&grammar, *at), at[1] == '\0');
    }
    grammar_deinit(&grammar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),        cmocka_unit_test(test_ends_before),
        cmocka_unit_test(test_pass_string), cmocka_unit_test(test_kinds_of_brackets),
        cmocka_unit_test(test_skip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
