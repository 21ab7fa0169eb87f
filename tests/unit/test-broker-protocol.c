/* SPDX-License-Identifier: MIT */
/*
 * What the agent and the broker take for a message of theirs, and packets with descriptors in them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "jobs/broker-protocol.h"

static bool is_valid(const struct broker_message *message, size_t fd_count, bool for_agent)
{
    return broker_message_is_valid(message, sizeof(*message), fd_count, for_agent);
}

static struct broker_message running_job(uint32_t type)
{
    struct broker_message message = {.type = type, .job = 7};
    message.facts.pid = 1234;
    message.facts.state = type == BROKER_EXITED ? BROKER_JOB_DONE : BROKER_JOB_RUNNING;
    message.facts.capture = BROKER_CAPTURE_MERGED;
    return message;
}

static void test_only_the_exact_size_is_taken(void **state)
{
    struct broker_message message = {.type = BROKER_RELEASE, .job = 1};
    assert_true(broker_message_is_valid(&message, sizeof(message), 0, false));
    for (size_t length = 0; length < sizeof(message); length++)
        assert_false(broker_message_is_valid(&message, length, 0, false));
    assert_false(broker_message_is_valid(&message, sizeof(message) + 1, 0, false));
}

static void test_each_side_takes_only_its_own_types(void **state)
{
    for (uint32_t type = 0; type < 300; type++) {
        struct broker_message message = running_job(type);
        bool valid_for_broker = false, valid_for_agent = false;
        for (size_t fds = 0; fds <= BROKER_FDS_MAX; fds++) {
            valid_for_broker |= is_valid(&message, fds, false);
            valid_for_agent |= is_valid(&message, fds, true);
        }
        assert_false(valid_for_broker && valid_for_agent);
        if (type == 0 || (type > BROKER_INPUT && type < BROKER_SPAWNED) ||
            type > BROKER_INPUT_TAKEN) {
            assert_false(valid_for_broker);
            assert_false(valid_for_agent);
        }
    }
}

static void test_descriptors_are_counted(void **state)
{
    struct broker_message spawn = {.type = BROKER_SPAWN, .job = 1};
    assert_true(is_valid(&spawn, 1, false));
    assert_false(is_valid(&spawn, 0, false));
    assert_false(is_valid(&spawn, 2, false));
    assert_false(is_valid(&spawn, BROKER_FDS_LOST, false));
    spawn.type = BROKER_RELEASE;
    assert_true(is_valid(&spawn, 0, false));
    assert_false(is_valid(&spawn, 1, false));

    /* As many as there are streams with something in them. */
    struct broker_message job = running_job(BROKER_JOB);
    assert_true(is_valid(&job, 0, true));
    assert_false(is_valid(&job, 1, true));
    job.facts.streams[1].is_present = 1;
    assert_true(is_valid(&job, 1, true));
    assert_false(is_valid(&job, 0, true));
    assert_false(is_valid(&job, 2, true));
}

static void test_numbers_have_their_range(void **state)
{
    struct broker_message message = {.type = BROKER_SIGNAL, .job = 1, .signal = {.number = 15}};
    assert_true(is_valid(&message, 0, false));
    message.signal.number = 0;
    assert_false(is_valid(&message, 0, false));
    message.signal.number = 1000;
    assert_false(is_valid(&message, 0, false));
    message.signal.number = 15;
    message.signal.to_group = 2;
    assert_false(is_valid(&message, 0, false));

    message = (struct broker_message){.type = BROKER_RESERVE_PID, .reserve = {.pid = 1}};
    assert_true(is_valid(&message, 0, false));
    message.reserve.pid = 0;
    assert_false(is_valid(&message, 0, false));
    message.reserve.pid = -1; /* kill(-1) is everybody: never a pid */
    assert_false(is_valid(&message, 0, false));

    message = (struct broker_message){.type = BROKER_SPAWN_FAILED, .job = 1};
    message.failed.error = ENOENT;
    message.failed.stage = BROKER_STAGE_EXEC;
    assert_true(is_valid(&message, 0, true));
    message.failed.error = 0;
    assert_false(is_valid(&message, 0, true));
    message.failed.error = ENOENT;
    message.failed.stage = BROKER_STAGE_COUNT;
    assert_false(is_valid(&message, 0, true));

    message = (struct broker_message){.type = BROKER_OUTPUT, .job = 1, .output = {.index = 1}};
    assert_true(is_valid(&message, 1, true));
    message.output.index = BROKER_STREAMS;
    assert_false(is_valid(&message, 1, true));
}

static void test_input_comes_with_its_memory(void **state)
{
    struct broker_message message = {.type = BROKER_INPUT, .job = 1};
    assert_false(is_valid(&message, 0, false)); /* neither input nor its end */
    message.input.is_last = 1;
    assert_true(is_valid(&message, 0, false));
    assert_false(is_valid(&message, 1, false));
    message.input.length = 5;
    assert_true(is_valid(&message, 1, false));
    assert_false(is_valid(&message, 0, false));
    message.input.is_last = 2;
    assert_false(is_valid(&message, 1, false));
}

/* What version 1 had not is there as it would be said of its programs. */
static void test_an_older_version_is_understood(void **state)
{
    struct broker_message message, expected = running_job(BROKER_JOB);
    expected.facts.streams[0].is_present = 1;
    memset(&message, 0xff, sizeof(message)); /* what it left there */
    memcpy(&message, &expected, offsetof(struct broker_message, facts.input_taken_bytes));
    assert_false(is_valid(&message, 1, true));
    broker_message_upgrade(&message, sizeof(message), 1);
    assert_true(is_valid(&message, 1, true));
    assert_memory_equal(&message.facts, &expected.facts, sizeof(message.facts));

    expected.facts.flags = BROKER_IS_OWN;
    message = expected;
    broker_message_upgrade(&message, sizeof(message), BROKER_PROTOCOL_VERSION);
    assert_int_equal(message.facts.flags, BROKER_IS_OWN);

    message = (struct broker_message){.type = BROKER_INPUT_TAKEN, .job = 1};
    assert_true(is_valid(&message, 0, true));
    broker_message_upgrade(&message, sizeof(message), 1);
    assert_false(is_valid(&message, 0, true));
}

static void test_facts_fit_together(void **state)
{
    struct broker_message message = running_job(BROKER_JOB);
    assert_true(is_valid(&message, 0, true));
    message.facts.pid = 0; /* runs, and has no pid */
    assert_false(is_valid(&message, 0, true));
    message.facts.state = BROKER_JOB_STARTING;
    assert_true(is_valid(&message, 0, true));
    message.facts.pid = 9; /* has one before it runs */
    assert_false(is_valid(&message, 0, true));
    message.facts.pid = -1;
    assert_false(is_valid(&message, 0, true));

    message = running_job(BROKER_JOB);
    message.facts.state = BROKER_JOB_STATE_COUNT;
    assert_false(is_valid(&message, 0, true));
    message = running_job(BROKER_JOB);
    message.facts.capture = BROKER_CAPTURE_COUNT;
    assert_false(is_valid(&message, 0, true));
    message = running_job(BROKER_JOB);
    message.facts.streams[0].size_bytes = 5; /* of nothing */
    assert_false(is_valid(&message, 0, true));
    message.facts.streams[0].is_present = 1;
    assert_true(is_valid(&message, 1, true));
    message.facts.streams[0].size_bytes = UINT64_MAX;
    assert_false(is_valid(&message, 1, true));

    message = running_job(BROKER_JOB);
    message.facts.flags = BROKER_JOB_FLAGS_ALL;
    assert_true(is_valid(&message, 0, true));
    message.facts.flags++;
    assert_false(is_valid(&message, 0, true));

    message = running_job(BROKER_EXITED);
    assert_true(is_valid(&message, 0, true));
    message.facts.state = BROKER_JOB_RUNNING;
    assert_false(is_valid(&message, 0, true));
    message.type = BROKER_SPAWNED;
    assert_true(is_valid(&message, 0, true));
}

static void test_log_text_ends(void **state)
{
    struct broker_message message = {.type = BROKER_LOG, .log = {.level = LOG_DEBUG}};
    assert_true(is_valid(&message, 0, true));
    message.log.level = LOG_DEBUG + 1;
    assert_false(is_valid(&message, 0, true));
    message.log.level = LOG_INFO;
    memset(message.log.text, 'x', sizeof(message.log.text));
    assert_false(is_valid(&message, 0, true));
    message.log.text[BROKER_LOG_TEXT - 1] = '\0';
    assert_true(is_valid(&message, 0, true));
}

static void test_hello(void **state)
{
    struct broker_hello hello = {
        .magic = BROKER_HELLO_MAGIC, .version_min = 1, .version_max = 3, .pid = 1};
    assert_true(broker_hello_is_valid(&hello, sizeof(hello), 0));
    assert_false(broker_hello_is_valid(&hello, sizeof(hello) - 1, 0));
    assert_false(broker_hello_is_valid(&hello, sizeof(hello), 1));
    hello.version_min = 4;
    assert_false(broker_hello_is_valid(&hello, sizeof(hello), 0));
    hello.version_min = 0;
    assert_false(broker_hello_is_valid(&hello, sizeof(hello), 0));
    hello.version_min = 1;
    hello.magic++;
    assert_false(broker_hello_is_valid(&hello, sizeof(hello), 0));
    /* Older and newer ones must be able to read it. */
    assert_int_equal(sizeof(hello), 32);
}

/* --- packets --- */

static int ends[2];

static int setup(void **state)
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends);
}

static int teardown(void **state)
{
    close_fd(ends[0]);
    close_fd(ends[1]);
    return 0;
}

static void test_a_packet_comes_whole_with_its_descriptors(void **state)
{
    struct broker_message message = running_job(BROKER_JOB), received;
    int pipe_ends[2], fds[BROKER_FDS_MAX];
    size_t fd_count = 77;
    assert_int_equal(pipe(pipe_ends), 0);

    assert_int_equal(broker_receive(ends[1], &received, sizeof(received), fds, &fd_count), -EAGAIN);
    assert_int_equal(broker_send(ends[0], &message, sizeof(message), pipe_ends, 2), 0);
    assert_int_equal(broker_receive(ends[1], &received, sizeof(received), fds, &fd_count),
                     sizeof(received));
    assert_memory_equal(&message, &received, sizeof(message));
    assert_int_equal(fd_count, 2);
    for (int i = 0; i < 2; i++)
        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
    assert_int_equal(write(fds[1], "x", 1), 1);
    char byte;
    assert_int_equal(read(pipe_ends[0], &byte, 1), 1);
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        close(pipe_ends[i]);
    }
    ends[0] = close_fd(ends[0]);
    assert_int_equal(broker_receive(ends[1], &received, sizeof(received), fds, &fd_count), 0);
}

static void test_a_long_packet_is_dropped(void **state)
{
    char big[sizeof(struct broker_message) + 1] = {0};
    struct broker_message received;
    int fds[BROKER_FDS_MAX];
    size_t fd_count;
    assert_int_equal(broker_send(ends[0], big, sizeof(big), &ends[0], 1), 0);
    assert_int_equal(broker_send(ends[0], big, 3, NULL, 0), 0);
    int next_fd = dup(0);
    assert_int_equal(broker_receive(ends[1], &received, sizeof(received), fds, &fd_count),
                     -EBADMSG);
    close(next_fd);
    assert_int_equal(fds[0], -1);
    assert_int_equal(broker_receive(ends[1], &received, sizeof(received), fds, &fd_count), 3);
    assert_int_equal(fd_count, 0);
    /* What came with the long one was closed. */
    assert_int_equal(dup(0), next_fd);
    close(next_fd);
}

static void test_descriptors_beyond_the_limit_are_noticed(void **state)
{
    struct broker_message message = {.type = BROKER_SPAWN, .job = 3}, received;
    int fds[BROKER_FDS_MAX];
    size_t fd_count;
    struct rlimit before, none;
    assert_int_equal(broker_send(ends[0], &message, sizeof(message), &ends[0], 1), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int length = broker_receive(ends[1], &received, sizeof(received), fds, &fd_count);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(length, sizeof(received));
    assert_true(fd_count == BROKER_FDS_LOST);
    assert_int_equal(received.job, 3);
}

static void test_sending_never_waits(void **state)
{
    struct broker_message message = {.type = BROKER_LIST};
    int error = 0, sent = 0;
    while (!error && sent < 1000000) {
        error = broker_send(ends[0], &message, sizeof(message), NULL, 0);
        sent++;
    }
    assert_int_equal(error, -EAGAIN);
    ends[1] = close_fd(ends[1]);
    error = broker_send(ends[0], &message, sizeof(message), NULL, 0);
    assert_true(error == -ECONNRESET || error == -EPIPE); /* with and without unread packets */
    assert_int_equal(broker_send(ends[0], &message, sizeof(message), NULL, 0), -EPIPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_exact_size_is_taken),
        cmocka_unit_test(test_each_side_takes_only_its_own_types),
        cmocka_unit_test(test_descriptors_are_counted),
        cmocka_unit_test(test_numbers_have_their_range),
        cmocka_unit_test(test_input_comes_with_its_memory),
        cmocka_unit_test(test_an_older_version_is_understood),
        cmocka_unit_test(test_facts_fit_together),
        cmocka_unit_test(test_log_text_ends),
        cmocka_unit_test(test_hello),
        cmocka_unit_test_setup_teardown(test_a_packet_comes_whole_with_its_descriptors, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_long_packet_is_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptors_beyond_the_limit_are_noticed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_sending_never_waits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
