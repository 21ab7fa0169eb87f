/* SPDX-License-Identifier: MIT */
/*
 * What the agent packs is what the broker unpacks; and nothing else is ever taken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "jobs/broker-memory.h"
#include "jobs/broker-payload.h"

static const char *const arguments[] = {"prog", "", "two words", "\xff\xfe \n"};
static const char *const environment[] = {"A=1", "no equals sign", "=", ""};

static struct spawn_request full_request(void)
{
    return (struct spawn_request){
        .program = "/bin/prog",
        .arguments = arguments,
        .argument_count = ARRAY_SIZE(arguments),
        .environment = environment,
        .environment_count = ARRAY_SIZE(environment),
        .has_environment = true,
        .input = "in\0put",
        .input_bytes = 6,
        .has_input = true,
        .capture = BROKER_CAPTURE_STDERR,
        .stream_bytes_max = 12345,
        .timeout_ms = 2500,
        .directory = "/srv/\xc3\xa4",
        .user = "nobody",
        .stays_open = true,
    };
}

static void check_strings(char *const *strings, const char *const *expected, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_string_equal(strings[i], expected[i]);
    assert_null(strings[count]);
}

static void test_everything_arrives(void **state)
{
    struct spawn_request request = full_request();
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    assert_int_equal(payload.capture, BROKER_CAPTURE_STDERR);
    assert_int_equal(payload.input_bytes, 6);

    struct spawn_plan plan = SPAWN_PLAN_INIT;
    assert_int_equal(spawn_plan_open_take(payload.fd, &plan), 0);
    assert_string_equal(plan.program, "/bin/prog");
    check_strings(plan.arguments, arguments, ARRAY_SIZE(arguments));
    check_strings(plan.environment, environment, ARRAY_SIZE(environment));
    assert_int_equal(plan.capture, BROKER_CAPTURE_STDERR);
    assert_int_equal(plan.stream_bytes_max, 12345);
    assert_int_equal(plan.timeout_ms, 2500);
    assert_string_equal(plan.directory, "/srv/\xc3\xa4");
    assert_string_equal(plan.user, "nobody");
    assert_true(plan.stays_open);
    assert_true(payload.stays_open);
    assert_true(plan.has_input);
    char input[6];
    assert_int_equal(broker_memory_read(plan.input_fd, input, 6, plan.input_offset), 0);
    assert_memory_equal(input, "in\0put", 6);
    spawn_plan_deinit(&plan);
}

static void test_what_is_not_given_is_not_there(void **state)
{
    struct spawn_request request = {
        .program = "p", .arguments = arguments, .argument_count = 1, .input = ""};
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    struct spawn_plan plan = SPAWN_PLAN_INIT;
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    assert_int_equal(spawn_plan_open_take(payload.fd, &plan), 0);
    assert_null(plan.environment);
    assert_false(plan.has_input);
    assert_int_equal(plan.input_fd, -1);
    assert_int_equal(plan.capture, BROKER_CAPTURE_NONE);
    assert_int_equal(plan.timeout_ms, 0);
    assert_null(plan.directory);
    assert_null(plan.user);
    assert_false(plan.stays_open);
    spawn_plan_deinit(&plan);

    /* An empty environment and an empty input are not the same as none. */
    request.has_environment = request.has_input = true;
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    assert_int_equal(spawn_plan_open_take(payload.fd, &plan), 0);
    assert_non_null(plan.environment);
    assert_null(plan.environment[0]);
    assert_true(plan.has_input);
    assert_int_equal(plan.input_bytes, 0);
    spawn_plan_deinit(&plan);

    /* Input that is still to come is input, too. */
    request.has_input = false;
    request.stays_open = true;
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    assert_int_equal(spawn_plan_open_take(payload.fd, &plan), 0);
    assert_true(plan.has_input);
    assert_true(plan.stays_open);
    spawn_plan_deinit(&plan);
}

static void test_too_much_is_refused_before_it_is_sent(void **state)
{
    size_t length = 7u << 20;
    char *long_text = malloc(length + 1);
    memset(long_text, 'x', length);
    long_text[length] = '\0';
    const char *const long_arguments[] = {"p", long_text};
    struct spawn_request request = {
        .program = "p", .arguments = long_arguments, .argument_count = 2};
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    assert_int_equal(spawn_payload_build(&request, &payload), -E2BIG);
    assert_int_equal(payload.fd, -1);
    request.arguments = arguments;
    request.argument_count = SIZE_MAX / 2;
    assert_int_equal(spawn_payload_build(&request, &payload), -E2BIG);
    free(long_text);
}

/* The bytes of a good payload, in memory that nobody has sealed yet. */
static int copy_of_payload(size_t *ret_length)
{
    struct spawn_request request = full_request();
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    uint64_t length;
    assert_true(broker_memory_is_sealed(payload.fd, &length));
    char bytes[1024];
    assert_true(length < sizeof(bytes));
    assert_int_equal(broker_memory_read(payload.fd, bytes, length, 0), 0);
    spawn_payload_deinit(&payload);
    int fd = broker_memory_new("copy");
    assert_true(fd >= 0);
    assert_int_equal(broker_memory_write(fd, bytes, length, 0), 0);
    *ret_length = length;
    return fd;
}

static void test_only_sealed_memory_is_read(void **state)
{
    size_t length;
    struct spawn_plan plan;
    assert_int_equal(spawn_plan_open_take(copy_of_payload(&length), &plan), -EBADMSG);

    /* Whatever may block or change: refused without being touched. */
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    assert_int_equal(spawn_plan_open_take(pipe_ends[0], &plan), -EBADMSG);
    assert_int_equal(fcntl(pipe_ends[0], F_GETFD), -1); /* and closed */
    close(pipe_ends[1]);
    assert_int_equal(spawn_plan_open_take(open("/etc/passwd", O_RDONLY), &plan), -EBADMSG);
    assert_int_equal(spawn_plan_open_take(open("/dev/null", O_RDWR), &plan), -EBADMSG);
    assert_int_equal(spawn_plan_open_take(-1, &plan), -EBADMSG);

    /* Sealed against writing, but it could still shrink under the reader. */
    int fd = copy_of_payload(&length);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(spawn_plan_open_take(fd, &plan), -EBADMSG);
}

static void test_a_short_payload_is_refused(void **state)
{
    size_t whole;
    close(copy_of_payload(&whole));
    for (size_t length = 0; length < whole; length++) {
        size_t ignored;
        struct spawn_plan plan;
        int fd = copy_of_payload(&ignored);
        assert_int_equal(ftruncate(fd, (off_t)length), 0);
        assert_int_equal(broker_memory_seal(fd), 0);
        assert_int_equal(spawn_plan_open_take(fd, &plan), -EBADMSG);
    }
}

/* Any byte of it may be anything: the plan is refused, or all of it can be read. */
static void test_no_changed_byte_does_harm(void **state)
{
    static const unsigned char values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    size_t whole, taken = 0;
    close(copy_of_payload(&whole));
    for (size_t at = 0; at < whole * ARRAY_SIZE(values); at++) {
        size_t ignored;
        int fd = copy_of_payload(&ignored);
        assert_int_equal(
            broker_memory_write(fd, &values[at % ARRAY_SIZE(values)], 1, at / ARRAY_SIZE(values)),
            0);
        assert_int_equal(broker_memory_seal(fd), 0);
        struct spawn_plan plan = SPAWN_PLAN_INIT;
        int error = spawn_plan_open_take(fd, &plan);
        if (error) {
            assert_true(error == -EBADMSG || error == -ENOMEM);
            continue;
        }
        taken++;
        size_t length = strlen(plan.program);
        for (char **text = plan.arguments; *text; text++)
            length += strlen(*text);
        for (char **text = plan.environment; text && *text; text++)
            length += strlen(*text);
        length += plan.directory ? strlen(plan.directory) : 0;
        length += plan.user ? strlen(plan.user) : 0;
        assert_true(length < whole);
        assert_true(plan.timeout_ms <= SPAWN_TIMEOUT_MAX_MS);
        assert_true(plan.input_offset + plan.input_bytes <= whole);
        assert_true(plan.capture < BROKER_CAPTURE_COUNT);
        spawn_plan_deinit(&plan);
    }
    assert_true(taken > 0 && taken < whole * ARRAY_SIZE(values));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_arrives),
        cmocka_unit_test(test_what_is_not_given_is_not_there),
        cmocka_unit_test(test_too_much_is_refused_before_it_is_sent),
        cmocka_unit_test(test_only_sealed_memory_is_read),
        cmocka_unit_test(test_a_short_payload_is_refused),
        cmocka_unit_test(test_no_changed_byte_does_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
