/* SPDX-License-Identifier: MIT */
/*
 * bellhop-job-input without an engine and without a broker: which program is meant, how much is
 * taken, and what is told to the broker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "fake-call.h"
#include "base/base64.h"
#include "base/clock.h"
#include "jobs/broker-client.h"
#include "jobs/broker-memory.h"
#include "jobs/broker-peer.h"

extern const struct command_family job_input_commands;

/* --- in the broker's place --- */

static struct {
    unsigned count;
    uint64_t length;
    bool is_last;
    char bytes[64];
} sent;
static int refusal;

int broker_client_input_take(struct broker_client *client, struct exec_job *exec, int memory_fd,
                             uint64_t length, bool is_last)
{
    uint64_t size_bytes = 0;
    if (refusal) {
        close_fd(memory_fd);
        return refusal;
    }
    sent.count++;
    sent.length = length;
    sent.is_last = is_last;
    if (length > 0) {
        assert_true(broker_memory_is_sealed(memory_fd, &size_bytes));
        assert_true(size_bytes >= length);
        memset(sent.bytes, 0, sizeof(sent.bytes));
        assert_int_equal(
            broker_memory_read(memory_fd, sent.bytes,
                               length < sizeof(sent.bytes) ? length : sizeof(sent.bytes) - 1, 0),
            0);
    } else {
        assert_int_equal(memory_fd, -1);
    }
    close_fd(memory_fd);
    exec->job.waiting_bytes += length;
    exec->takes_input = !is_last;
    return 0;
}

void broker_peer_release(struct exec_job *exec)
{
}

static struct exec_job *exec; /* id 1, pid 100 */

static int setup(void **state)
{
    settings_init(&fake_settings);
    fake_settings.exec_input_bytes = 10;
    fake_services.jobs = job_table_new(NULL, &fake_settings);
    exec = exec_job_new(BROKER_CAPTURE_NONE);
    assert_int_equal(job_table_add_take(fake_services.jobs, &exec->job, 0), 0);
    assert_int_equal(job_table_set_pid(fake_services.jobs, &exec->job, 100), 0);
    exec->takes_input = true;
    memset(&sent, 0, sizeof(sent));
    refusal = 0;
    return 0;
}

static int teardown(void **state)
{
    fake_services.jobs = job_table_free(fake_services.jobs);
    settings_deinit(&fake_settings);
    return 0;
}

static void expect_reply(const char *arguments, const char *expected)
{
    fake_expect(&job_input_commands, "bellhop-job-input", arguments, expected);
}

static void test_what_is_given_is_sent(void **state)
{
    expect_reply("{\"pid\": 100, \"data-b64\": \"aGVsbG8K\"}", "{\"count\": 6}");
    assert_int_equal(sent.length, 6);
    assert_string_equal(sent.bytes, "hello\n");
    assert_false(sent.is_last);
    expect_reply("{\"id\": 1, \"data-b64\": \"aGk=\", \"eof\": true}", "{\"count\": 2}");
    assert_string_equal(sent.bytes, "hi");
    assert_true(sent.is_last);
    assert_int_equal(sent.count, 2);
}

static void test_the_end_alone(void **state)
{
    expect_reply("{\"pid\": 100, \"eof\": true}", "{\"count\": 0}");
    assert_int_equal(sent.count, 1);
    assert_true(sent.is_last);
    exec->takes_input = true;
    expect_reply("{\"pid\": 100}", "{\"count\": 0}"); /* nothing at all */
    expect_reply("{\"pid\": 100, \"data-b64\": \"\"}", "{\"count\": 0}");
    assert_int_equal(sent.count, 1);
}

static void test_only_what_there_is_room_for_is_taken(void **state)
{
    exec->job.waiting_bytes = 7;
    expect_reply("{\"pid\": 100, \"data-b64\": \"aGVsbG8K\", \"eof\": true}", "{\"count\": 3}");
    assert_string_equal(sent.bytes, "hel");
    assert_false(sent.is_last); /* there is more to come before it */
    expect_reply("{\"pid\": 100, \"data-b64\": \"aGk=\"}",
                 "The program has 10 bytes of input still to read, which is the limit (setting "
                 "exec.input-bytes)");
    exec->job.waiting_bytes = 5000; /* of input-data */
    expect_reply("{\"pid\": 100, \"data-b64\": \"aGk=\"}",
                 "The program has 5000 bytes of input still to read, which is the limit (setting "
                 "exec.input-bytes)");
    expect_reply("{\"pid\": 100, \"eof\": true}", "{\"count\": 0}"); /* needs no room */
    assert_true(sent.is_last);
}

static void test_who_is_meant(void **state)
{
    expect_reply("{}", "Parameter 'id' is missing");
    expect_reply("{\"id\": 1, \"pid\": 100}",
                 "Parameter 'pid' is unexpected: the program is named by 'id'");
    expect_reply("{\"pid\": 101}", "Invalid parameter 'pid'");
    expect_reply("{\"pid\": -1}", "Invalid parameter 'pid'");
    expect_reply("{\"id\": 2}", "Invalid parameter 'id'");
    expect_reply("{\"id\": -1}", "Invalid parameter 'id'");
    expect_reply("{\"id\": 0}", "Invalid parameter 'id'");
    expect_reply("{\"id\": \"1\"}", "Invalid parameter type for 'id', expected: integer");
    expect_reply("{\"id\": 1, \"data\": \"\"}", "Parameter 'data' is unexpected");
    expect_reply("{\"id\": 1, \"data-b64\": \"@\"}", "Base64 data contains invalid characters");
    exec->is_own = true;
    expect_reply("{\"pid\": 100, \"eof\": true}", "Invalid parameter 'pid'");
    assert_int_equal(sent.count, 0);
}

static void test_who_takes_none(void **state)
{
    refusal = -EPROTONOSUPPORT;
    expect_reply("{\"pid\": 100, \"eof\": true}",
                 "The program was started by an older bellhop, which can give it no more input");
    exec->takes_input = false;
    expect_reply("{\"pid\": 100, \"eof\": true}",
                 "The program's standard input is closed: it was started without 'stdin-open', "
                 "its end was sent, or it was closed by the program");
    job_table_finish(fake_services.jobs, &exec->job, JOB_DONE, clock_now_ms(), 0);
    expect_reply("{\"pid\": 100, \"eof\": true}",
                 "The program has ended and reads nothing any more");
    struct exec_job *starting = exec_job_new(BROKER_CAPTURE_NONE);
    starting->takes_input = true;
    assert_int_equal(job_table_add_take(fake_services.jobs, &starting->job, 0), 0);
    expect_reply("{\"id\": 2, \"eof\": true}", "The program does not run yet");
}

static void test_much_is_decoded_by_a_worker(void **state)
{
    enum { BYTES = 100000 };
    fake_settings.exec_input_bytes = 2 * BYTES;
    char *arguments = malloc(2 * BYTES);
    int length = sprintf(arguments, "{\"pid\": 100, \"data-b64\": \"");
    for (size_t i = 0; i < BYTES / 3; i++)
        length += sprintf(arguments + length, "eHh4");
    sprintf(arguments + length, "\"}");
    struct call *call = fake_call_new(&job_input_commands, "bellhop-job-input", arguments);
    assert_int_equal(fake_prepare(call), CALL_CONTINUE);
    fake_call_free(call);
    char expected[64];
    snprintf(expected, sizeof(expected), "{\"count\": %d}", BYTES / 3 * 3);
    expect_reply(arguments, expected);
    assert_int_equal(sent.length, BYTES / 3 * 3);
    free(arguments);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_given_is_sent),
        TEST(test_the_end_alone),
        TEST(test_only_what_there_is_room_for_is_taken),
        TEST(test_who_is_meant),
        TEST(test_who_takes_none),
        TEST(test_much_is_decoded_by_a_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
