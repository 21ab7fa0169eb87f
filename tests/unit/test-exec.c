/* SPDX-License-Identifier: MIT */
/*
 * guest-exec and guest-exec-status without an engine and without a broker: what is asked of the
 * broker, what becomes of its answers, and what a job is as a reply.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "fake-call.h"
#include "base/clock.h"
#include "jobs/broker-client.h"
#include "jobs/broker-memory.h"
#include "jobs/broker-peer.h"

extern const struct command_family exec_commands;

/* --- in the broker's place --- */

static struct spawn_plan plan; /* what the broker would have read */
static struct exec_job *started_job;
static exec_started started;
static void *started_context;
static const char *refusal; /* NULL: every start is taken */
static unsigned completed;

int broker_client_spawn_take(struct broker_client *client, struct spawn_payload *payload,
                             exec_started on_started, void *context, struct exec_job **ret_job,
                             char ret_reason[JOB_REASON_MAX])
{
    if (refusal) {
        snprintf(ret_reason, JOB_REASON_MAX, "%s", refusal);
        spawn_payload_deinit(payload);
        return -EBUSY;
    }
    spawn_plan_deinit(&plan);
    assert_int_equal(spawn_plan_open_take(payload->fd, &plan), 0);
    payload->fd = -1;
    started_job = exec_job_new(payload->capture);
    assert_int_equal(job_table_add_take(fake_services.jobs, &started_job->job, 0), 0);
    started = on_started;
    started_context = context;
    *ret_job = started_job;
    return 0;
}

void broker_peer_release(struct exec_job *exec)
{
}

void call_complete(struct call *call)
{
    completed++;
}

static int setup(void **state)
{
    settings_init(&fake_settings);
    fake_services.jobs = job_table_new(NULL, &fake_settings);
    refusal = NULL;
    completed = 0;
    plan = (struct spawn_plan)SPAWN_PLAN_INIT;
    return 0;
}

static int teardown(void **state)
{
    spawn_plan_deinit(&plan);
    fake_services.jobs = job_table_free(fake_services.jobs);
    settings_deinit(&fake_settings);
    return 0;
}

/* A guest-exec that the broker has taken. */
static struct call *begin(const char *arguments)
{
    struct call *call = fake_call_new(&exec_commands, "guest-exec", arguments);
    assert_false(call->error.is_set);
    assert_int_equal(fake_prepare(call), CALL_PENDING);
    return call;
}

static void expect_error(const char *arguments, const char *expected)
{
    fake_expect(&exec_commands, "guest-exec", arguments, expected);
}

/* --- guest-exec --- */

static void test_what_is_asked_of_the_broker(void **state)
{
    struct call *call = begin("{\"path\": \"/bin/x\", \"arg\": [\"a\", \"\"], \"env\": [\"B=1\"],"
                              " \"input-data\": \"aG\\nk=\", \"capture-output\": true}");
    assert_string_equal(plan.program, "/bin/x");
    assert_string_equal(plan.arguments[0], "/bin/x");
    assert_string_equal(plan.arguments[1], "a");
    assert_string_equal(plan.arguments[2], "");
    assert_null(plan.arguments[3]);
    assert_string_equal(plan.environment[0], "B=1");
    assert_null(plan.environment[1]);
    assert_int_equal(plan.capture, BROKER_CAPTURE_SEPARATED);
    char input[2];
    assert_int_equal(plan.input_bytes, 2);
    assert_int_equal(broker_memory_read(plan.input_fd, input, 2, plan.input_offset), 0);
    assert_memory_equal(input, "hi", 2);
    assert_string_equal(call->step, "starting '/bin/x'");
    fake_call_free(call);

    call = begin("{\"path\": \"x\"}");
    assert_string_equal(plan.arguments[0], "x");
    assert_null(plan.arguments[1]);
    assert_null(plan.environment);
    assert_false(plan.has_input);
    assert_int_equal(plan.capture, BROKER_CAPTURE_NONE);
    fake_call_free(call);

    call = begin("{\"path\": \"x\", \"env\": [], \"input-data\": \"\"}");
    assert_non_null(plan.environment);
    assert_null(plan.environment[0]);
    assert_true(plan.has_input);
    fake_call_free(call);
}

static void test_further_members(void **state)
{
    struct call *call = begin("{\"path\": \"x\", \"timeout\": 5, \"cwd\": \"/srv\", "
                              "\"user\": \"nobody\", \"stdin-open\": true}");
    assert_int_equal(plan.timeout_ms, 5000);
    assert_string_equal(plan.directory, "/srv");
    assert_string_equal(plan.user, "nobody");
    assert_true(plan.stays_open);
    fake_call_free(call);

    call = begin("{\"path\": \"x\", \"user\": 65534, \"stdin-open\": false}");
    assert_string_equal(plan.user, "65534");
    assert_int_equal(plan.timeout_ms, 0);
    assert_null(plan.directory);
    assert_false(plan.stays_open);
    fake_call_free(call);

    static const struct {
        const char *member, *error;
    } cases[] = {
        {"\"timeout\": 0", "Parameter 'timeout' expects 1 to 31536000 seconds"},
        {"\"timeout\": -1", "Parameter 'timeout' expects 1 to 31536000 seconds"},
        {"\"timeout\": 31536001", "Parameter 'timeout' expects 1 to 31536000 seconds"},
        {"\"timeout\": 1.5", "Invalid parameter type for 'timeout', expected: integer"},
        {"\"timeout\": \"1\"", "Invalid parameter type for 'timeout', expected: integer"},
        {"\"cwd\": \"\"", "Parameter 'cwd' expects the path of a directory"},
        {"\"cwd\": 1", "Invalid parameter type for 'cwd', expected: string"},
        {"\"user\": \"\"", "Parameter 'user' expects the name of a user or a uid"},
        {"\"user\": \"a\\u0000b\"", "Parameter 'user' expects the name of a user or a uid"},
        {"\"user\": -1", "Parameter 'user' expects the name of a user or a uid"},
        {"\"user\": 4294967295", "Parameter 'user' expects the name of a user or a uid"},
        {"\"user\": 1.5", "Parameter 'user' expects the name of a user or a uid"},
        {"\"user\": true", "Invalid parameter type for 'user', expected: string or integer"},
        {"\"stdin-open\": 1", "Invalid parameter type for 'stdin-open', expected: boolean"},
        {"\"group\": \"x\"", "Parameter 'group' is unexpected"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char arguments[128];
        snprintf(arguments, sizeof(arguments), "{\"path\": \"x\", %s}", cases[i].member);
        expect_error(arguments, cases[i].error);
    }
}

static void test_capture_modes(void **state)
{
    static const struct {
        const char *text;
        enum broker_capture capture;
    } cases[] = {
        {"true", BROKER_CAPTURE_SEPARATED},          {"false", BROKER_CAPTURE_NONE},
        {"\"none\"", BROKER_CAPTURE_NONE},           {"\"stdout\"", BROKER_CAPTURE_STDOUT},
        {"\"stderr\"", BROKER_CAPTURE_STDERR},       {"\"merged\"", BROKER_CAPTURE_MERGED},
        {"\"separated\"", BROKER_CAPTURE_SEPARATED},
    };
    char arguments[128];
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        snprintf(arguments, sizeof(arguments), "{\"path\": \"x\", \"capture-output\": %s}",
                 cases[i].text);
        struct call *call = begin(arguments);
        assert_int_equal(plan.capture, cases[i].capture);
        fake_call_free(call);
    }
    expect_error("{\"path\": \"x\", \"capture-output\": \"loud\"}",
                 "Parameter 'capture-output' does not accept value 'loud'");
    expect_error("{\"path\": \"x\", \"capture-output\": 3}",
                 "Invalid parameter type for 'capture-output', expected: GuestExecCaptureOutput");
}

static void test_a_large_request_is_packed_by_a_worker(void **state)
{
    size_t length = 100000;
    _cleanup_buffer_ struct buffer arguments = BUFFER_INIT;
    buffer_append_text(&arguments, "{\"path\": \"x\", \"arg\": [\"");
    for (size_t i = 0; i < length; i++)
        buffer_append_char(&arguments, 'y');
    buffer_append_text(&arguments, "\"]}");
    struct call *call = fake_call_new(&exec_commands, "guest-exec", arguments.data);
    assert_int_equal(fake_prepare(call), CALL_CONTINUE);
    assert_int_equal(fake_run(call), CALL_CONTINUE);
    assert_int_equal(fake_finish(call), CALL_PENDING);
    assert_int_equal(strlen(plan.arguments[1]), length);
    fake_call_free(call);
}

static void test_a_program_that_started(void **state)
{
    struct call *call = begin("{\"path\": \"x\"}");
    assert_int_equal(completed, 0);
    assert_int_equal(job_table_set_pid(fake_services.jobs, &started_job->job, 4711), 0);
    started(started_job, 0, 0, started_context);
    assert_int_equal(completed, 1);
    assert_string_equal(fake_call_answer(call), "{\"pid\": 4711}");
    fake_call_free(call);
}

static void expect_failure(int error, enum broker_stage stage, const char *expected)
{
    struct call *call = begin("{\"path\": \"/a/b\"}");
    started(started_job, error, stage, started_context);
    assert_string_equal(fake_call_answer(call), expected);
    fake_call_free(call);
}

static void test_a_program_that_did_not(void **state)
{
    expect_failure(ENOENT, BROKER_STAGE_EXEC,
                   "Failed to execute child process \u201c/a/b\u201d (No such file or directory)");
    expect_failure(EPERM, BROKER_STAGE_SETUP,
                   "Failed to execute child process \u201c/a/b\u201d (Operation not permitted)");
    expect_failure(EAGAIN, BROKER_STAGE_FORK, "Failed to fork (Resource temporarily unavailable)");
    expect_failure(EMFILE, BROKER_STAGE_ACCEPT,
                   "guest-exec failed: the broker did not take the program (Too many open files)");
    expect_failure(EPIPE, BROKER_STAGE_ACCEPT,
                   "guest-exec failed: the broker, which runs programs, is gone; whether the "
                   "program was started is not known");
    assert_int_equal(completed, 5);

    struct call *call = begin("{\"path\": \"x\", \"cwd\": \"/c\", \"user\": 77}");
    started(started_job, ENOTDIR, BROKER_STAGE_DIRECTORY, started_context);
    assert_string_equal(fake_call_answer(call),
                        "Failed to change to directory \u201c/c\u201d (Not a directory)");
    fake_call_free(call);
    call = begin("{\"path\": \"x\", \"cwd\": \"/c\", \"user\": 77}");
    started(started_job, ENOENT, BROKER_STAGE_USER, started_context);
    assert_string_equal(fake_call_answer(call), "Failed to become user \u201c77\u201d (there is "
                                                "none of that name or number)");
    fake_call_free(call);
    call = begin("{\"path\": \"x\", \"user\": \"root\"}");
    started(started_job, EPERM, BROKER_STAGE_USER, started_context);
    assert_string_equal(fake_call_answer(call),
                        "Failed to become user \u201croot\u201d (Operation not permitted)");
    fake_call_free(call);
    refusal = "no more today";
    expect_error("{\"path\": \"x\"}", "guest-exec refused: no more today");
    expect_error("{\"path\": \"x\", \"input-data\": \"a\"}",
                 "Base64 data contains invalid characters");
}

static void test_a_pid_that_nobody_was_told(void **state)
{
    struct call *call = begin("{\"path\": \"x\"}");
    uint64_t id = started_job->job.id;
    assert_int_equal(call->told_token, id);
    call->told(&fake_services, DELIVERY_WRITTEN, id);
    assert_false(started_job->job.is_abandoned);
    call->told(&fake_services, DELIVERY_DROPPED, id);
    assert_true(started_job->job.is_abandoned);
    job_table_finish(fake_services.jobs, &started_job->job, JOB_DONE, clock_now_ms(), 0);
    assert_null(job_table_find(fake_services.jobs, id));
    call->told(&fake_services, DELIVERY_DROPPED, id); /* of one that is gone */
    fake_call_free(call);
}

/* --- guest-exec-status --- */

/* A job with that pid, that runs. */
static struct exec_job *add_job(pid_t pid)
{
    struct exec_job *exec = exec_job_new(BROKER_CAPTURE_SEPARATED);
    assert_int_equal(job_table_add_take(fake_services.jobs, &exec->job, 0), 0);
    assert_int_equal(job_table_set_pid(fake_services.jobs, &exec->job, pid), 0);
    return exec;
}

static void finish_job(struct exec_job *exec, int wait_status, enum job_state state)
{
    exec->wait_status = wait_status;
    job_table_finish(fake_services.jobs, &exec->job, state, clock_now_ms(),
                     exec->outputs[0].size_bytes + exec->outputs[1].size_bytes);
}

static void set_output(struct exec_output *output, const void *bytes, size_t length)
{
    output->fd = broker_memory_new("test");
    assert_int_equal(broker_memory_write(output->fd, bytes, length, 0), 0);
    assert_int_equal(broker_memory_seal(output->fd), 0);
    output->size_bytes = length;
}

static void expect_status(const char *arguments, const char *expected)
{
    fake_expect(&exec_commands, "guest-exec-status", arguments, expected);
}

static void test_status_as_a_reply(void **state)
{
    expect_status("{\"pid\": 1}", "Invalid parameter 'pid'");
    struct exec_job *exec = add_job(100);
    expect_status("{\"pid\": 100}", "{\"exited\": false}");
    finish_job(exec, W_EXITCODE(7, 0), JOB_DONE);
    expect_status("{\"pid\": 100}", "{\"exited\": true, \"exitcode\": 7}");

    finish_job(add_job(101), SIGKILL, JOB_DONE);
    expect_status("{\"pid\": 101}", "{\"exited\": true, \"signal\": 9}");

    exec = add_job(102);
    set_output(&exec->outputs[0], "hi\n", 3);
    set_output(&exec->outputs[1], "", 0);
    exec->outputs[1].is_truncated = true; /* nothing of it could be kept */
    finish_job(exec, 0, JOB_DONE);
    expect_status("{\"pid\": 102}",
                  "{\"exited\": true, \"exitcode\": 0, \"out-data\": \"aGkK\", "
                  "\"out-truncated\": false, \"err-data\": \"\", \"err-truncated\": true}");

    finish_job(add_job(103), 0, JOB_LOST);
    expect_status("{\"pid\": 103}",
                  "What became of the program with pid 103 is not known: the broker, which ran it, "
                  "is gone");
}

static void test_much_output_is_encoded_by_a_worker(void **state)
{
    static char bytes[300000];
    struct exec_job *exec = add_job(100);
    set_output(&exec->outputs[0], bytes, sizeof(bytes));
    finish_job(exec, 0, JOB_DONE);
    struct call *call = fake_call_new(&exec_commands, "guest-exec-status", "{\"pid\": 100}");
    assert_int_equal(fake_prepare(call), CALL_CONTINUE);
    /* The job may go meanwhile; what the worker reads stays. */
    job_table_forget(fake_services.jobs, &exec->job);
    assert_int_equal(fake_run(call), CALL_ANSWER);
    assert_true(call->reply.length > sizeof(bytes) / 3 * 4);
    fake_call_free(call);
}

static void test_a_result_goes_when_it_was_seen(void **state)
{
    struct exec_job *exec = add_job(100);
    struct call *call = fake_call_new(&exec_commands, "guest-exec-status", "{\"pid\": 100}");
    fake_call_carry_out(call);
    assert_null(call->told); /* that it runs may be dropped and seen */
    fake_call_free(call);

    finish_job(exec, 0, JOB_DONE);
    call = fake_call_new(&exec_commands, "guest-exec-status", "{\"pid\": 100}");
    fake_call_carry_out(call);
    call->told(&fake_services, DELIVERY_DROPPED, call->told_token);
    assert_non_null(job_table_find_pid(fake_services.jobs, 100));
    call->told(&fake_services, DELIVERY_WRITTEN, call->told_token);
    assert_non_null(job_table_find_pid(fake_services.jobs, 100));
    call->told(&fake_services, DELIVERY_SEEN, call->told_token);
    assert_null(job_table_find_pid(fake_services.jobs, 100));
    call->told(&fake_services, DELIVERY_SEEN, call->told_token);
    fake_call_free(call);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_asked_of_the_broker),
        TEST(test_further_members),
        TEST(test_capture_modes),
        TEST(test_a_large_request_is_packed_by_a_worker),
        TEST(test_a_program_that_started),
        TEST(test_a_program_that_did_not),
        TEST(test_a_pid_that_nobody_was_told),
        TEST(test_status_as_a_reply),
        TEST(test_much_output_is_encoded_by_a_worker),
        TEST(test_a_result_goes_when_it_was_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
