/* SPDX-License-Identifier: MIT */
/* Calls as jobs, in every state, through the engine: bellhop-job-... and rows with CMD_JOB. */
#include "dispatch-harness.h"

extern const struct command_family job_commands;

static bool has_begun(char name)
{
    pthread_mutex_lock(&lock);
    bool result = begun[(unsigned char)name] > 0;
    pthread_mutex_unlock(&lock);
    return result;
}

static void post_text(unsigned number, const char *text)
{
    size_t length = strlen(text);
    for (size_t taken = 0; taken < length;)
        taken += session_input(sessions[number], text + taken, length - taken, now);
}

static void post(unsigned number, const char *command, const char *arguments)
{
    struct buffer text = BUFFER_INIT;
    buffer_append_format(&text, "{\"execute\":\"%s\",\"arguments\":%s}", command, arguments);
    post_text(number, text.data);
    buffer_deinit(&text);
}

/* Takes all output, as a kernel that takes everything, with spaces for the newlines. */
static const char *written(unsigned number)
{
    static char all[16384];
    struct iovec piece;
    all[0] = '\0';
    while (session_output(sessions[number], &piece, 1) > 0) {
        strncat(all, piece.iov_base, piece.iov_len);
        all[strlen(all) - 1] = ' ';
        session_written(sessions[number], piece.iov_len);
    }
    return all;
}

#define assert_written(number, text) assert_non_null(strstr(written(number), (text)))

/* Of channel 1, so that it waits for nothing. */
static const char *ask(const char *command, const char *arguments)
{
    post(1, command, arguments);
    return written(1);
}

#define assert_asked(command, arguments, text) \
    assert_non_null(strstr(ask(command, arguments), (text)))

static bool job_is(const char *id, const char *job_state)
{
    struct job *job = job_table_find(services.jobs, strtoull(id, NULL, 10));
    static const char *const names[] = {"queued", "running", "done", "cancelled", "lost"};
    return job && strcmp(names[job->state], job_state) == 0;
}

static void start(const char *command, const char *name, const char *expected_id)
{
    char arguments[200], reply[64];
    snprintf(arguments, sizeof(arguments), "{\"command\":\"%s\",\"arguments\":{\"name\":\"%s\"}}",
             command, name);
    snprintf(reply, sizeof(reply), "{\"return\": {\"id\": %s}} ", expected_id);
    assert_string_equal(ask("bellhop-job-start", arguments), reply);
}

static void test_from_its_start_to_its_result(void **state)
{
    start("work", "a", "1");
    loop_until(has_begun('a'));
    assert_true(job_is("1", "running"));
    assert_asked("bellhop-job-status", "{\"id\":1}",
                 "{\"return\": {\"id\": 1, \"kind\": \"command\", \"command\": \"work\", "
                 "\"state\": \"running\", \"lane\": \"lane\", \"started-ms\": ");
    let_go('a');
    loop_until(job_is("1", "done"));
    assert_string_equal(trace, "FaRa"); /* its reply has not been told to anybody */
    assert_asked("bellhop-job-status", "{\"id\":1}", ", \"return\": \"a\"}}");
    assert_string_equal(trace, "FaRaWa");
    /* Asked for once more it is there no longer: the host has seen it. */
    assert_asked("bellhop-job-status", "{\"id\":1}", "There is no job with id 1");
    assert_int_equal(job_table_counts(services.jobs).seen, 1);
}

static void test_its_result_is_never_asked_for(void **state)
{
    start("work", "a", "1");
    let_go('a');
    loop_until(job_is("1", "done"));
    job_table_forget(services.jobs, job_table_find(services.jobs, 1));
    assert_string_equal(trace, "FaRaDa");
}

/* Nobody was told the id: what comes of it is dropped. */
static void test_its_start_is_never_told(void **state)
{
    post(1, "bellhop-job-start", "{\"command\":\"work\",\"arguments\":{\"name\":\"a\"}}");
    sessions[1] = session_free(sessions[1]);
    start_session(1);
    assert_true(job_is("1", "queued") || job_is("1", "running"));
    let_go('a');
    loop_until(!job_table_find(services.jobs, 1));
    loop_until(strstr(trace, "Da") && strstr(trace, "Ra"));
}

static void test_lanes(void **state)
{
    start("work", "a", "1");
    start("work", "b", "2");
    start("work", "c", "3");
    start("work-apart", "d", "4");
    loop_until(has_begun('a') && has_begun('d'));
    assert_true(job_is("2", "queued") && job_is("3", "queued"));
    assert_string_equal(ask("bellhop-job-cancel", "{\"id\":2}"), "{\"return\": {}} ");
    assert_true(job_is("2", "cancelled"));
    assert_asked(
        "bellhop-job-status", "{\"id\":2}",
        "\"error\": {\"class\": \"GenericError\", \"desc\": \"work was cancelled before it "
        "began\"}}}");
    assert_asked("bellhop-job-cancel", "{\"id\":1}", "Job 1 cannot be cancelled: work has begun");
    assert_asked("bellhop-job-list", "{}",
                 "\"queued\": 1, \"running\": 2, \"kept\": 0, \"seen\": 1");
    let_go('a');
    loop_until(has_begun('c'));
    assert_false(has_begun('b'));
}

/* A channel has half of the workers: the others of its jobs wait for one, and have done nothing. */
static void test_cancelled_while_it_waits_for_a_worker(void **state)
{
    enum { STARTED = 40 };
    char id[8], arguments[32];
    for (char i = 0; i < STARTED; i++) {
        char name[2] = {(char)('0' + i)};
        snprintf(id, sizeof(id), "%d", i + 1);
        start("work-apart", name, id);
    }
    loop_until(has_begun('0'));
    assert_false(has_begun('0' + STARTED - 1));
    snprintf(arguments, sizeof(arguments), "{\"id\":%s}", id);
    assert_string_equal(ask("bellhop-job-cancel", arguments), "{\"return\": {}} ");
    assert_true(job_is(id, "cancelled"));
    assert_asked("bellhop-job-status", arguments, "was cancelled before it began");
    assert_asked("bellhop-job-cancel", "{\"id\":1}", "cannot be cancelled");
    for (char i = 0; i < STARTED; i++)
        let_go('0' + i);
    loop_until(job_table_counts(services.jobs).running == 0);
    assert_false(has_begun('0' + STARTED - 1));
}

static void test_cancelled_while_it_runs(void **state)
{
    start("watched", "a", "1");
    loop_until(has_begun('a'));
    assert_asked(
        "bellhop-job-status", "{\"id\":1}",
        "\"cancelling\": false, \"progress\": {\"done\": 1, \"total\": 2, \"item\": \"item\", "
        "\"item-done-bytes\": 0, \"bytes\": 3, \"paused\": false}}}");
    assert_string_equal(ask("bellhop-job-cancel", "{\"id\":1}"), "{\"return\": {}} ");
    loop_until(job_is("1", "cancelled"));
    assert_asked("bellhop-job-cancel", "{\"id\":1}", "Job 1 is over");
    assert_asked("bellhop-job-status", "{\"id\":1}", "\"desc\": \"cancelled\"");
}

/* Its client's reply is what it ever was; but who gave up on it finds it, and its result. */
static void test_a_plain_request_is_a_job(void **state)
{
    post(0, "watched", "{\"name\":\"a\"}");
    loop_until(has_begun('a'));
    assert_asked("bellhop-job-list", "{}",
                 "\"id\": 1, \"kind\": \"command\", \"command\": \"watched\"");
    let_go('a');
    loop_until(session_unsent_bytes(sessions[0]) > 0);
    assert_string_equal(written(0), "{\"return\": \"a\"} ");
    assert_true(job_is("1", "done"));

    post(0, "watched", "{\"name\":\"b\"}");
    loop_until(has_begun('b'));
    now += SESSION_GRACE_MS;
    post_text(0, "{\"execute\":\"sync\",\"arguments\":{\"id\":5}}");
    assert_string_equal(written(0), "{\"return\": 5} ");
    let_go('b');
    loop_until(job_is("2", "done"));
    assert_asked("bellhop-job-status", "{\"id\":2}", "\"return\": \"b\"");
    assert_string_equal(written(0), "");
}

/* It is cancelled at its turn, so that replies keep their order. */
static void test_a_request_behind_another_is_cancelled(void **state)
{
    post(0, "work", "{\"name\":\"w\"}");
    post(0, "watched", "{\"name\":\"a\"}");
    loop_until(has_begun('w'));
    assert_true(job_is("1", "queued"));
    assert_string_equal(ask("bellhop-job-cancel", "{\"id\":1}"), "{\"return\": {}} ");
    assert_true(job_is("1", "queued"));
    assert_asked("bellhop-job-status", "{\"id\":1}", "\"cancelling\": true");
    let_go('w');
    loop_until(job_is("1", "cancelled"));
    assert_string_equal(written(0),
                        "{\"return\": \"w\"} {\"error\": {\"class\": \"GenericError\", \"desc\": "
                        "\"watched was cancelled before it began\"}} ");
    assert_false(has_begun('a'));
}

static void test_what_expires_is_a_cancelled_job(void **state)
{
    post(0, "watched", "{\"name\":\"a\"}");
    post(0, "watched", "{\"name\":\"b\"}");
    loop_until(has_begun('a'));
    now += SESSION_GRACE_MS;
    post_text(0, "{\"execute\":\"sync\",\"arguments\":{\"id\":5}}");
    assert_true(job_is("1", "running") && job_is("2", "cancelled"));
}

/* A job is lost once what it ran comes back. Until then it runs, and says so. */
static void test_overdue(void **state)
{
    start("work", "a", "1");
    loop_until(has_begun('a'));
    start("work", "b", "2");
    loop_until(job_is("2", "done"));
    assert_asked("bellhop-job-status", "{\"id\":2}", "an earlier work on the same lane");
    assert_true(job_is("1", "running"));
    let_go('a');
    loop_until(job_is("1", "lost"));
    assert_asked("bellhop-job-status", "{\"id\":1}", "work did not finish within 1 s");
}

static void test_frozen(void **state)
{
    start("watched", "a", "1");
    loop_until(has_begun('a'));
    is_frozen = true;
    assert_asked("bellhop-job-start", "{\"command\":\"work\",\"arguments\":{\"name\":\"b\"}}",
                 "Command bellhop-job-start has been disabled: the agent is in frozen state");
    assert_asked("bellhop-job-list", "{}", "\"running\": 1");
    assert_asked("bellhop-job-status", "{\"id\":1}", "\"running\"");
    assert_string_equal(ask("bellhop-job-cancel", "{\"id\":1}"), "{\"return\": {}} ");
    loop_until(job_is("1", "cancelled"));
}

static void test_one_that_is_frozen_out(void **state)
{
    start("work", "a", "1");
    start("work", "b", "2");
    loop_until(has_begun('a'));
    is_frozen = true;
    let_go('a');
    loop_until(job_is("2", "done"));
    assert_asked("bellhop-job-status", "{\"id\":2}", "the agent is in frozen state");
}

static void test_refused(void **state)
{
    static const char *const cases[][2] = {
        {"{\"command\":\"sync\",\"arguments\":{\"id\":1}}", "sync cannot be a job: it belongs to"},
        {"{\"command\":\"loop\",\"arguments\":{\"name\":\"a\"}}",
         "loop cannot be a job: it is answered at once"},
        {"{\"command\":\"rescue\",\"arguments\":{\"name\":\"a\"}}", "rescue cannot be a job"},
        {"{\"command\":\"bellhop-job-start\",\"arguments\":{\"command\":\"work\"}}",
         "bellhop-job-start cannot be a job"},
        {"{\"command\":\"work\"}", "Parameter 'name' is missing"},
        {"{\"command\":\"work\",\"arguments\":{\"name\":\"a\",\"x\":1}}",
         "Parameter 'x' is unexpected"},
        {"{\"command\":\"none\"}",
         "\"CommandNotFound\", \"desc\": \"The command none has not been"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        assert_asked("bellhop-job-start", cases[i][0], cases[i][1]);
    assert_int_equal(job_table_counts(services.jobs).running, 0);
    assert_int_equal(job_table_counts(services.jobs).kept, 0);
}

static void test_limits(void **state)
{
    settings.exec_running = 2;
    start("work", "a", "1");
    start("work", "b", "2");
    assert_asked("bellhop-job-start", "{\"command\":\"work\",\"arguments\":{\"name\":\"c\"}}",
                 "bellhop-job-start refused: 2 programs and other jobs are running");
    /* What is asked for by itself is not refused, nor does its result take anybody's place. */
    settings.exec_kept = 1;
    post(0, "watched", "{\"name\":\"w\"}");
    let_go('w');
    loop_until(job_is("3", "done"));
    let_go('a');
    loop_until(job_is("1", "done"));
    let_go('b');
    loop_until(job_is("2", "done"));
    assert_asked("bellhop-job-start", "{\"command\":\"work\",\"arguments\":{\"name\":\"c\"}}",
                 "and nobody has asked for their status");
    assert_false(job_is("3", "done")); /* it had to go first */
}

static void test_too_large_a_result(void **state)
{
    settings.exec_stream_bytes = 5;
    start("work", "a", "1");
    let_go('a');
    loop_until(job_is("1", "done"));
    assert_asked("bellhop-job-status", "{\"id\":1}",
                 "more than is kept (setting exec.stream-bytes)");
    assert_string_equal(trace, "FaDaRa"); /* what it stands for is given up at once */
}

/* However slow the machine is. */
static int setup_jobs(void **state)
{
    real_commands = &job_commands;
    deadline_s = "0";
    return setup(state);
}

static int setup_with_deadline(void **state)
{
    real_commands = &job_commands;
    deadline_s = "1";
    return setup(state);
}

#define job_test(test) cmocka_unit_test_setup_teardown(test, setup_jobs, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        job_test(test_from_its_start_to_its_result),
        job_test(test_its_result_is_never_asked_for),
        job_test(test_its_start_is_never_told),
        job_test(test_lanes),
        job_test(test_cancelled_while_it_waits_for_a_worker),
        job_test(test_cancelled_while_it_runs),
        job_test(test_a_plain_request_is_a_job),
        job_test(test_a_request_behind_another_is_cancelled),
        job_test(test_what_expires_is_a_cancelled_job),
        cmocka_unit_test_setup_teardown(test_overdue, setup_with_deadline, teardown),
        job_test(test_frozen),
        job_test(test_one_that_is_frozen_out),
        job_test(test_refused),
        job_test(test_limits),
        job_test(test_too_large_a_result),
    };
    return cmocka_run_group_tests_name("job", tests, NULL, NULL);
}
