/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "cmds/args.h"
#include "cmds/wire-error.h"
#include "io/json.h"

struct cpu {
    int64_t logical_id;
    bool online, can_offline, has_can_offline;
};

static const struct arg_spec cpu_specs[] = {
    {ARG(ARG_INT64, struct cpu, logical_id, "logical-id")},
    {ARG(ARG_BOOL, struct cpu, online, "online")},
    {ARG_OPT(ARG_BOOL, struct cpu, can_offline, "can-offline")},
    ARG_END,
};

static const struct arg_spec cpu_element = {.type = ARG_STRUCT, .fields = cpu_specs};
static const struct arg_spec text_element = {.type = ARG_STRING};
static const char *const modes[] = {"halt", "powerdown", NULL};

struct args {
    struct arg_text path, secret;
    int64_t count;
    uint64_t size;
    bool has_count, has_size, flag, has_flag, has_mode;
    int mode, even;
    struct arg_list words, cpus;
};

static bool decode_even(const struct json_value *value, void *ret_member, struct wire_error *error,
                        const char *path)
{
    int64_t number;
    if (!json_get_int64(value, &number))
        return false;
    if (number % 2) {
        wire_error_set(error, WIRE_GENERIC_ERROR, "%s is odd", path);
        return false;
    }
    *(int *)ret_member = (int)number;
    return true;
}

static const struct arg_spec specs[] = {
    {ARG(ARG_STRING, struct args, path, "path"), .other_name = "file"},
    {ARG_OPT(ARG_INT64, struct args, count, "count")},
    {ARG_OPT(ARG_UINT64, struct args, size, "size")},
    {ARG_OPT(ARG_BOOL, struct args, flag, "flag")},
    {ARG_OPT(ARG_ENUM, struct args, mode, "mode"), .names = modes},
    {ARG(ARG_STRING, struct args, secret, "secret"), .flags = ARG_OPTIONAL | ARG_SECRET},
    {ARG(ARG_LIST, struct args, words, "words"), .flags = ARG_OPTIONAL, .element = &text_element,
     .element_size = sizeof(struct arg_text)},
    {ARG(ARG_LIST, struct args, cpus, "vcpus"), .flags = ARG_OPTIONAL, .element = &cpu_element,
     .element_size = sizeof(struct cpu)},
    {ARG(ARG_CUSTOM, struct args, even, "even"), .flags = ARG_OPTIONAL, .decode = decode_even,
     .expected = "EvenNumber"},
    ARG_END,
};

static struct json_document *document;
static struct args args;
static struct wire_error error;

static int decode(const char *text)
{
    struct json_limits limits = {.depth_max = 20, .values_max = 1000};
    char reason[JSON_REASON_MAX];
    memset(&args, 0, sizeof(args));
    error = (struct wire_error){0};
    assert_int_equal(
        json_document_parse_take(strdup(text), strlen(text), &limits, &document, reason), 0);
    return args_decode(specs, json_document_root(document), &args, &error);
}

static void done(void)
{
    args_deinit(specs, &args);
    document = json_document_free(document, false);
}

static void expect_error(const char *text, const char *desc)
{
    assert_int_equal(decode(text), -EINVAL);
    assert_true(error.is_set);
    assert_string_equal(error.desc, desc);
    done();
}

static void test_decodes_every_kind(void **state)
{
    assert_int_equal(decode("{\"path\":\"/x\",\"count\":-9223372036854775808,"
                            "\"size\":18446744073709551615,\"flag\":true,\"mode\":\"powerdown\","
                            "\"words\":[\"a\",\"b\"],\"even\":4,"
                            "\"vcpus\":[{\"logical-id\":1,\"online\":false}]}"),
                     0);
    assert_string_equal(args.path.data, "/x");
    assert_true(args.has_count && args.count == INT64_MIN);
    assert_true(args.has_size && args.size == UINT64_MAX);
    assert_true(args.has_flag && args.flag);
    assert_true(args.has_mode && args.mode == 1);
    assert_int_equal(args.even, 4);
    assert_int_equal(args.words.count, 2);
    assert_string_equal(((struct arg_text *)args.words.items)[1].data, "b");
    assert_int_equal(args.cpus.count, 1);
    assert_int_equal(((struct cpu *)args.cpus.items)->logical_id, 1);
    assert_null(args.secret.data);
    done();
}

static void test_an_empty_list_is_given(void **state)
{
    assert_int_equal(decode("{\"path\":\"\",\"words\":[]}"), 0);
    assert_true(args.words.given);
    assert_false(args.cpus.given);
    assert_int_equal(args.words.count, 0);
    done();
}

static void test_errors_name_the_member(void **state)
{
    expect_error("{}", "Parameter 'path' is missing");
    expect_error("{\"path\":5}", "Invalid parameter type for 'path', expected: string");
    expect_error("{\"path\":\"a\",\"foo\":42}", "Parameter 'foo' is unexpected");
    expect_error("{\"foo\":42}", "Parameter 'path' is missing");
    expect_error("{\"path\":\"a\",\"flag\":1}",
                 "Invalid parameter type for 'flag', expected: boolean");
    expect_error("{\"path\":\"a\",\"mode\":\"sleep\"}",
                 "Parameter 'mode' does not accept value 'sleep'");
    expect_error("{\"path\":\"a\",\"vcpus\":[5]}",
                 "Invalid parameter type for 'vcpus[0]', expected: object");
    expect_error("{\"path\":\"a\",\"vcpus\":[{\"online\":true}]}",
                 "Parameter 'vcpus[0].logical-id' is missing");
    expect_error("{\"path\":\"a\",\"vcpus\":[{\"logical-id\":1,\"online\":true},"
                 "{\"logical-id\":1,\"online\":2}]}",
                 "Invalid parameter type for 'vcpus[1].online', expected: boolean");
    expect_error("{\"path\":\"a\",\"vcpus\":[{\"logical-id\":1,\"online\":true,\"x\":1}]}",
                 "Parameter 'vcpus[0].x' is unexpected");
    expect_error("{\"path\":\"a\",\"words\":\"b\"}",
                 "Invalid parameter type for 'words', expected: array");
    expect_error("{\"path\":\"a\",\"even\":\"b\"}",
                 "Invalid parameter type for 'even', expected: EvenNumber");
    expect_error("{\"path\":\"a\",\"even\":3}", "even is odd");
}

static void test_only_integers_are_integers(void **state)
{
    static const char *const wrong[] = {
        "1.0", "1e3", "true", "\"1\"", "null", "9223372036854775808", "-9223372036854775809", "[1]",
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        char text[128];
        snprintf(text, sizeof(text), "{\"path\":\"a\",\"count\":%s}", wrong[i]);
        expect_error(text, "Invalid parameter type for 'count', expected: integer");
    }
}

static void test_unsigned_numbers(void **state)
{
    static const char *const wrong[] = {
        "1.0", "null", "\"1\"", "18446744073709551616", "-9223372036854775809", "{}",
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        char text[128];
        snprintf(text, sizeof(text), "{\"path\":\"a\",\"size\":%s}", wrong[i]);
        expect_error(text, "Parameter 'size' expects uint64");
    }
    assert_int_equal(decode("{\"path\":\"a\",\"size\":-1}"), 0);
    assert_true(args.size == UINT64_MAX);
    done();
}

static void test_a_nul_is_refused(void **state)
{
    expect_error("{\"path\":\"/etc/passwd\\u0000.txt\"}",
                 "Invalid parameter 'path': a string without NUL characters is expected");
}

static void test_an_older_spelling_is_taken_once(void **state)
{
    assert_int_equal(decode("{\"file\":\"a\"}"), 0);
    assert_string_equal(args.path.data, "a");
    done();
    expect_error("{\"file\":\"a\",\"path\":\"b\"}", "Parameter 'file' is unexpected");
}

static void test_description_leaves_secrets_out(void **state)
{
    struct buffer out = BUFFER_INIT;
    assert_int_equal(decode("{\"path\":\"a\\\"b\",\"secret\":\"hunter2\",\"count\":3,"
                            "\"words\":[\"x\",\"y\"]}"),
                     0);
    args_describe(specs, &args, &out);
    assert_string_equal(out.data, "path=\"a\\\"b\" count=3 secret=(secret) words=[\"x\" \"y\"]");
    assert_true(args_have_secret(specs));
    assert_false(args_have_secret(cpu_specs));
    buffer_deinit(&out);
    done();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decodes_every_kind),
        cmocka_unit_test(test_an_empty_list_is_given),
        cmocka_unit_test(test_errors_name_the_member),
        cmocka_unit_test(test_only_integers_are_integers),
        cmocka_unit_test(test_unsigned_numbers),
        cmocka_unit_test(test_a_nul_is_refused),
        cmocka_unit_test(test_an_older_spelling_is_taken_once),
        cmocka_unit_test(test_description_leaves_secrets_out),
    };
    return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}
