/* SPDX-License-Identifier: MIT */
/*
 * The broker as a process: what it does for its agent, for the agent after that, and with whatever
 * else comes over its socket. Each test has a broker of its own, which must end by itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "broker-harness.h"

static struct broker_process broker;

static int setup(void **state)
{
    return harness_setup(state);
}

static void begin(void)
{
    broker = start_broker();
    struct broker_hello hello = say_hello(broker.fd);
    assert_int_equal(hello.pid, broker.pid);
    assert_int_equal(hello.flags, 0);
}

/* The agent ends. */
static void leave(void)
{
    broker.fd = close_fd(broker.fd);
}

static int teardown(void **state)
{
    leave();
    if (broker.pid > 0) {
        int status = wait_for_end(broker.pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_int_equal(count_sockets(), 0);
    broker_process_deinit(&broker);
    return harness_teardown(state);
}

static void release(int fd, uint64_t job)
{
    tell(fd, BROKER_RELEASE, job);
}

/* Returns once the broker has handled everything that was sent before. */
static void round_trip(int fd)
{
    static uint64_t number = UINT64_C(1) << 40;
    struct spawn_request request = {
        .program = "", .arguments = (const char *const[]){""}, .argument_count = 1};
    send_spawn(fd, ++number, &request);
    assert_int_equal(expect(fd, BROKER_SPAWN_FAILED, number).failed.error, ENOENT);
}

/* --- programs --- */

static void test_a_program_and_its_output(void **state)
{
    begin();
    uint64_t before_ms = clock_now_ms();
    spawn_shell(broker.fd, 5, BROKER_CAPTURE_SEPARATED, "echo out; echo err >&2; exit 3");
    struct story story = expect_story(broker.fd, 5);
    assert_true(story.spawned.facts.pid > 0);
    assert_int_equal(story.exited.facts.pid, story.spawned.facts.pid);
    assert_int_equal(story.exited.facts.wait_status, W_EXITCODE(3, 0));
    assert_true(story.exited.facts.started_ms >= before_ms);
    assert_true(story.exited.facts.finished_ms >= story.exited.facts.started_ms);
    check_story_output(&story, 0, "out\n");
    check_story_output(&story, 1, "err\n");
    end_story(&story);
    release(broker.fd, 5);
}

static void test_capture_modes(void **state)
{
    static const struct {
        enum broker_capture capture;
        const char *output, *error;
    } cases[] = {
        {BROKER_CAPTURE_NONE, "", ""},
        {BROKER_CAPTURE_STDOUT, "1\n3\n", ""},
        {BROKER_CAPTURE_STDERR, "", "2\n"},
        {BROKER_CAPTURE_SEPARATED, "1\n3\n", "2\n"},
        {BROKER_CAPTURE_MERGED, "1\n2\n3\n", ""},
    };
    begin();
    for (uint64_t i = 0; i < ARRAY_SIZE(cases); i++) {
        spawn_shell(broker.fd, 1 + i, cases[i].capture, "echo 1; echo 2 >&2; echo 3");
        struct story story = expect_story(broker.fd, 1 + i);
        check_story_output(&story, 0, cases[i].output);
        check_story_output(&story, 1, cases[i].error);
        end_story(&story);
        release(broker.fd, 1 + i);
    }
}

static void test_input_is_fed_and_told_done(void **state)
{
    static const char *const words[] = {"/bin/sh", "-c", "wc -c; exec 0<&-"};
    size_t length = 3 << 20;
    char *input = calloc(1, length);
    struct spawn_request request = {.program = words[0],
                                    .arguments = words,
                                    .argument_count = 3,
                                    .input = input,
                                    .input_bytes = length,
                                    .has_input = true,
                                    .capture = BROKER_CAPTURE_STDOUT};
    begin();
    send_spawn(broker.fd, 1, &request);
    expect(broker.fd, BROKER_SPAWNED, 1);
    expect(broker.fd, BROKER_INPUT_DONE, 1);
    expect(broker.fd, BROKER_OUTPUT, 1);
    assert_int_equal(expect(broker.fd, BROKER_EXITED, 1).facts.streams[0].size_bytes, 8);
    release(broker.fd, 1);

    /* Who does not want it all need not take it. */
    static const char *const headless[] = {"/bin/true"};
    request.program = headless[0];
    request.arguments = headless;
    request.argument_count = 1;
    send_spawn(broker.fd, 2, &request);
    struct story story = expect_story(broker.fd, 2);
    assert_int_equal(story.exited.facts.wait_status, 0);
    if (!story.input_is_done)
        expect(broker.fd, BROKER_INPUT_DONE, 2);
    release(broker.fd, 2);

    /* None at all is the end of the file. */
    request.input_bytes = 0;
    static const char *const reader[] = {"/bin/cat"};
    request.program = reader[0];
    request.arguments = reader;
    send_spawn(broker.fd, 3, &request);
    story = expect_story(broker.fd, 3);
    assert_int_equal(story.exited.facts.wait_status, 0);
    release(broker.fd, 3);
    free(input);
}

static void test_a_start_that_fails_says_why(void **state)
{
    struct spawn_request request = {.program = "/no/such/program",
                                    .arguments = (const char *const[]){"x"},
                                    .argument_count = 1,
                                    .capture = BROKER_CAPTURE_SEPARATED};
    begin();
    send_spawn(broker.fd, 9, &request);
    struct broker_message failed = expect(broker.fd, BROKER_SPAWN_FAILED, 9);
    assert_int_equal(failed.failed.error, ENOENT);
    assert_int_equal(failed.failed.stage, BROKER_STAGE_EXEC);
    /* Its number is free again. */
    spawn_shell(broker.fd, 9, BROKER_CAPTURE_NONE, "true");
    struct story story = expect_story(broker.fd, 9);
    assert_int_equal(story.exited.facts.wait_status, 0);
    /* Now it is not. */
    spawn_shell(broker.fd, 9, BROKER_CAPTURE_NONE, "true");
    failed = expect(broker.fd, BROKER_SPAWN_FAILED, 9);
    assert_int_equal(failed.failed.error, EEXIST);
    release(broker.fd, 9);
}

static void test_output_beyond_a_limit_is_dropped(void **state)
{
    settings.exec_stream_bytes = 100000;
    settings.exec_output_bytes = 150000;
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_STDOUT, "head -c 300000 /dev/zero; exit 5");
    struct story first = expect_story(broker.fd, 1);
    assert_int_equal(first.exited.facts.wait_status, W_EXITCODE(5, 0)); /* it was not held up */
    assert_int_equal(first.exited.facts.streams[0].size_bytes, 100000);
    assert_true(first.exited.facts.streams[0].is_truncated);

    /* Exactly the limit is not too much. */
    spawn_shell(broker.fd, 2, BROKER_CAPTURE_STDOUT, "head -c 50000 /dev/zero");
    struct story second = expect_story(broker.fd, 2);
    assert_int_equal(second.exited.facts.streams[0].size_bytes, 50000);
    assert_false(second.exited.facts.streams[0].is_truncated);

    /* That was all there may be of all of them. */
    spawn_shell(broker.fd, 3, BROKER_CAPTURE_STDOUT, "echo");
    struct story third = expect_story(broker.fd, 3);
    assert_int_equal(third.exited.facts.streams[0].size_bytes, 0);
    assert_true(third.exited.facts.streams[0].is_truncated);
    assert_int_equal(third.outputs[0], -1);

    /* Room that was given back can be used again. */
    release(broker.fd, 2);
    spawn_shell(broker.fd, 4, BROKER_CAPTURE_STDOUT, "head -c 50000 /dev/zero");
    struct story fourth = expect_story(broker.fd, 4);
    assert_int_equal(fourth.exited.facts.streams[0].size_bytes, 50000);
    assert_false(fourth.exited.facts.streams[0].is_truncated);
    end_story(&first);
    end_story(&second);
    end_story(&fourth);
    release(broker.fd, 1);
    release(broker.fd, 3);
    release(broker.fd, 4);
}

static void test_a_background_child_does_not_hold_the_result(void **state)
{
    const char *gate = make_fifo("gate"), *after = make_fifo("after");
    char script[512];
    /* It writes once more, long after its parent's result is complete. */
    snprintf(script, sizeof(script), "(read x <%s; echo late && echo alive >%s) & echo early", gate,
             after);
    begin();
    uint64_t before_ms = clock_now_ms();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_STDOUT, script);
    struct story story = expect_story(broker.fd, 1);
    uint64_t took_ms = clock_now_ms() - before_ms;
    assert_true(took_ms >= 1000 && took_ms < 5000 + 2000);
    check_story_output(&story, 0, "early\n");
    end_story(&story);

    open_gate(gate);
    int fd = open(after, O_RDONLY | O_CLOEXEC);
    char word[8] = "";
    assert_int_equal(read(fd, word, sizeof(word)), 6); /* SIGPIPE would have ended it */
    assert_string_equal(word, "alive\n");
    close(fd);
    release(broker.fd, 1);
}

static void test_a_chatty_background_child_holds_the_result_for_5_s(void **state)
{
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_STDOUT,
                "(sh -c 'echo $PPID'; while echo x; do sleep 0.2; done) & true");
    expect(broker.fd, BROKER_SPAWNED, 1);
    uint64_t before_ms = clock_now_ms();
    int fds[BROKER_FDS_MAX];
    assert_int_equal(receive(broker.fd, fds).type, BROKER_OUTPUT);
    struct broker_message exited = expect(broker.fd, BROKER_EXITED, 1);
    uint64_t took_ms = clock_now_ms() - before_ms;
    assert_true(took_ms >= 4900 && took_ms < 8000);
    char first[32] = "";
    assert_int_equal(broker_memory_read(fds[0], first, sizeof(first) - 1, 0), 0);
    assert_int_equal(kill(atoi(first), SIGKILL), 0);
    uint64_t size_bytes;
    assert_true(broker_memory_is_sealed(fds[0], &size_bytes));
    assert_int_equal(size_bytes, exited.facts.streams[0].size_bytes);
    close(fds[0]);
    release(broker.fd, 1);
}

static void test_signals_reach_the_group(void **state)
{
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_STDOUT, "sleep 1000 & echo $!; wait");
    expect(broker.fd, BROKER_SPAWNED, 1);
    expect(broker.fd, BROKER_OUTPUT, 1);
    struct broker_message message = {
        .type = BROKER_SIGNAL, .job = 1, .signal = {.number = SIGTERM, .to_group = 1}};
    send_packet(broker.fd, &message, sizeof(message));
    /* Its end of the pipe closes too, or this would take a second. */
    struct broker_message exited = expect(broker.fd, BROKER_EXITED, 1);
    assert_int_equal(exited.facts.wait_status, SIGTERM);
    release(broker.fd, 1);
}

static void test_a_kept_pid_is_not_used_again(void **state)
{
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_NONE, "true");
    struct story story = expect_story(broker.fd, 1);
    /* Pids come in turn: of the next ones only every third may be used. */
    int32_t first = story.spawned.facts.pid;
    struct broker_message message = {.type = BROKER_RESERVE_PID};
    for (int32_t pid = first; pid < first + 3000; pid++) {
        message.reserve.pid = pid;
        if (pid % 3 != 0)
            send_packet(broker.fd, &message, sizeof(message));
        if (pid % 100 == 0)
            round_trip(broker.fd); /* the socket holds only so many */
    }
    round_trip(broker.fd);
    for (uint64_t job = 2; job < 30; job++) {
        spawn_shell(broker.fd, job, BROKER_CAPTURE_STDOUT, "cat; echo once");
        story = expect_story(broker.fd, job);
        check_story_output(&story, 0, "once\n");
        end_story(&story);
        int32_t pid = story.spawned.facts.pid;
        assert_true(pid % 3 == 0 || pid < first || pid >= first + 3000);
        release(broker.fd, job);
    }
    /* Given back, they can be used. */
    message.type = BROKER_UNRESERVE_PID;
    for (int32_t pid = first; pid < first + 3000; pid++) {
        message.reserve.pid = pid;
        send_packet(broker.fd, &message, sizeof(message));
        if (pid % 100 == 0)
            round_trip(broker.fd);
    }
    bool other = false;
    for (uint64_t job = 30; job < 40; job++) {
        spawn_shell(broker.fd, job, BROKER_CAPTURE_NONE, "true");
        story = expect_story(broker.fd, job);
        other |= story.spawned.facts.pid % 3 != 0;
        release(broker.fd, job);
    }
    assert_true(other);
    release(broker.fd, 1);
}

/* --- its life --- */

static void test_it_ends_with_an_agent_that_leaves_nothing(void **state)
{
    begin();
    assert_int_equal(count_sockets(), 1);
    leave();
    assert_int_equal(wait_for_end(broker.pid), 0);
    broker.pid = 0;
    assert_int_equal(count_sockets(), 0);
}

static void test_it_holds_nothing_of_the_agents(void **state)
{
    int lock_fd = open("/dev/null", O_RDONLY);
    begin();
    char path[64], target[256];
    snprintf(path, sizeof(path), "/proc/%ld/fd", (long)broker.pid);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    struct dirent *entry;
    size_t count = 0;
    while ((entry = readdir(directory))) {
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, target, sizeof(target) - 1);
        if (length < 0)
            continue;
        target[length] = '\0';
        count++;
        if (atoi(entry->d_name) < 3)
            assert_string_equal(target, "/dev/null");
    }
    closedir(directory);
    close(lock_fd);
    /* 0 to 2, the agent, the listener, the directory, epoll, signalfd */
    assert_int_equal(count, 8);
    assert_int_equal(getsid(broker.pid), broker.pid);
    assert_int_not_equal(getsid(0), broker.pid);
}

static void test_signals_do_not_end_it(void **state)
{
    static const int numbers[] = {SIGINT, SIGHUP, SIGPIPE, SIGQUIT, SIGUSR1, SIGALRM};
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_STDOUT, "cat; echo still");
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        kill(broker.pid, numbers[i]);
    struct story story = expect_story(broker.fd, 1);
    check_story_output(&story, 0, "still\n");
    end_story(&story);
    release(broker.fd, 1);
}

static void test_sigterm_ends_it_with_its_last_program(void **state)
{
    const char *gate = make_fifo("gate");
    char script[256];
    snprintf(script, sizeof(script), "read x <%s", gate);
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_NONE, script);
    expect(broker.fd, BROKER_SPAWNED, 1);
    kill(broker.pid, SIGTERM);
    expect(broker.fd, BROKER_LOG, 0);
    spawn_shell(broker.fd, 2, BROKER_CAPTURE_NONE, "true");
    assert_int_equal(expect(broker.fd, BROKER_SPAWN_FAILED, 2).failed.error, ESHUTDOWN);
    assert_true(process_is_alive(broker.pid));
    open_gate(gate);
    expect(broker.fd, BROKER_EXITED, 1);
    assert_int_equal(wait_for_end(broker.pid), 0);
    broker.pid = 0;
}

static void test_a_later_agent_takes_over(void **state)
{
    const char *gate = make_fifo("gate");
    char script[256];
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_SEPARATED, "echo done; exit 4");
    struct story story = expect_story(broker.fd, 1);
    end_story(&story);
    snprintf(script, sizeof(script), "echo one; read x <%s; echo two", gate);
    spawn_shell(broker.fd, 2, BROKER_CAPTURE_MERGED, script);
    expect(broker.fd, BROKER_SPAWNED, 2);
    expect(broker.fd, BROKER_OUTPUT, 2);
    spawn_shell(broker.fd, 3, BROKER_CAPTURE_NONE, "true");
    story = expect_story(broker.fd, 3);
    release(broker.fd, 3);
    leave();

    int fd = connect_to_broker();
    struct broker_hello hello = say_hello(fd);
    assert_int_equal(hello.flags, BROKER_IS_RETIRED);
    tell(fd, BROKER_LIST, 0);
    int fds[BROKER_FDS_MAX];
    struct broker_message message = receive(fd, fds);
    assert_int_equal(message.type, BROKER_JOB);
    assert_int_equal(message.job, 1);
    assert_int_equal(message.facts.state, BROKER_JOB_DONE);
    assert_int_equal(message.facts.wait_status, W_EXITCODE(4, 0));
    assert_int_equal(message.facts.streams[0].size_bytes, 5);
    char bytes[9];
    assert_int_equal(broker_memory_read(fds[0], bytes, 5, 0), 0);
    assert_memory_equal(bytes, "done\n", 5);
    close(fds[0]);

    message = receive(fd, fds);
    assert_int_equal(message.type, BROKER_JOB);
    assert_int_equal(message.job, 2);
    assert_int_equal(message.facts.state, BROKER_JOB_RUNNING);
    assert_int_equal(message.facts.capture, BROKER_CAPTURE_MERGED);
    expect(fd, BROKER_LIST_END, 0);
    spawn_shell(fd, 9, BROKER_CAPTURE_NONE, "true");
    assert_int_equal(expect(fd, BROKER_SPAWN_FAILED, 9).failed.error, ESHUTDOWN);

    /* The rest of it comes to the new agent, in the memory that it already has. */
    open_gate(gate);
    struct broker_message exited = expect(fd, BROKER_EXITED, 2);
    assert_int_equal(exited.facts.streams[0].size_bytes, 8);
    assert_int_equal(broker_memory_read(fds[0], bytes, 8, 0), 0);
    assert_memory_equal(bytes, "one\ntwo\n", 8);
    close(fds[0]);
    release(fd, 1);
    release(fd, 2);
    /* Nothing left: it ends, though it has an agent. */
    assert_int_equal(wait_for_end(broker.pid), 0);
    broker.pid = 0;
    close(fd);
}

static void test_results_nobody_comes_for_expire(void **state)
{
    settings.exec_retention_s = 1;
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_NONE, "true");
    struct story story = expect_story(broker.fd, 1);
    leave();
    assert_int_equal(wait_for_end(broker.pid), 0);
    assert_true(clock_now_ms() >= story.exited.facts.finished_ms + 1000);
    broker.pid = 0;
}

static void test_agents_are_served_one_after_the_other(void **state)
{
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_NONE, "true");
    struct story story = expect_story(broker.fd, 1);
    (void)story;
    int next = connect_to_broker();
    struct broker_hello hello = {.magic = BROKER_HELLO_MAGIC,
                                 .version_min = 1,
                                 .version_max = BROKER_PROTOCOL_VERSION,
                                 .pid = 1};
    send_packet(next, &hello, sizeof(hello));
    round_trip(broker.fd);
    struct pollfd waiting = {.fd = next, .events = POLLIN};
    assert_int_equal(poll(&waiting, 1, 0), 0);
    leave();
    wait_readable(next);
    int fds[BROKER_FDS_MAX];
    size_t fd_count;
    assert_int_equal(broker_receive(next, &hello, sizeof(hello), fds, &fd_count), sizeof(hello));
    assert_int_equal(hello.flags, BROKER_IS_RETIRED);
    tell(next, BROKER_LIST, 0);
    expect(next, BROKER_JOB, 1);
    expect(next, BROKER_LIST_END, 0);
    release(next, 1);
    wait_for_end(broker.pid);
    broker.pid = 0;
    close(next);
}

static void test_an_agent_that_reads_nothing_loses_nothing(void **state)
{
    begin();
    /* Far more packets than the socket holds. Who sends as much reads at last. */
    enum { JOBS = 400 };
    for (uint64_t job = 1; job <= JOBS; job++)
        spawn_shell(broker.fd, job, BROKER_CAPTURE_SEPARATED, "echo; echo >&2");
    static unsigned seen[JOBS + 1];
    unsigned exited = 0;
    while (exited < JOBS) {
        int fds[BROKER_FDS_MAX];
        struct broker_message message = receive(broker.fd, fds);
        assert_true(message.job >= 1 && message.job <= JOBS);
        unsigned bit = message.type == BROKER_SPAWNED  ? 1
                       : message.type == BROKER_EXITED ? 8
                                                       : 2u << message.output.index;
        assert_false(seen[message.job] & bit);
        seen[message.job] |= bit;
        exited += bit == 8;
        close_fd(fds[0]);
        if (bit == 8) {
            assert_int_equal(seen[message.job], 15);
            release(broker.fd, message.job);
        }
    }
}

/* --- what is no message --- */

static void test_nonsense_is_passed_over(void **state)
{
    begin();
    char junk[sizeof(struct broker_message) + 100];
    unsigned seed = 12345;
    for (size_t i = 0; i < 2000; i++) {
        size_t length =
            i % 3 == 0 ? sizeof(struct broker_message) : 1 + (size_t)rand_r(&seed) % sizeof(junk);
        for (size_t j = 0; j < length; j++)
            junk[j] = (char)rand_r(&seed);
        if (i % 3 == 0) { /* nearly one: a type that it knows, with the rest at random */
            struct broker_message *message = (struct broker_message *)(void *)junk;
            message->type = (uint32_t)rand_r(&seed) % 8;
            if (message->type == BROKER_LIST || message->type == BROKER_RESERVE_PID)
                message->job |= 1;
        }
        send_with_fd(broker.fd, junk, length, i % 5 == 0 ? broker.fd : -1);
    }
    /* It is still there, and its log said so; a payload that is none is a failed spawn. */
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_NONE, "true");
    for (;;) {
        int fds[BROKER_FDS_MAX];
        struct broker_message message = receive(broker.fd, fds);
        if (message.type == BROKER_EXITED)
            break;
        if (message.type == BROKER_SPAWN_FAILED)
            assert_int_equal(message.failed.stage, BROKER_STAGE_ACCEPT);
        else
            assert_true(message.type == BROKER_LOG || message.type == BROKER_SPAWNED);
    }
    release(broker.fd, 1);
}

static void test_a_wrong_hello_ends_the_connection_only(void **state)
{
    begin();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_NONE, "true");
    expect_story(broker.fd, 1);
    leave();
    for (int i = 0; i < 3; i++) {
        struct broker_hello hello = {
            .magic = BROKER_HELLO_MAGIC, .version_min = 77, .version_max = 78, .pid = 1};
        int fds[BROKER_FDS_MAX];
        size_t fd_count;
        int fd = connect_to_broker();
        send_packet(fd, &hello, i == 0 ? 3 : sizeof(hello));
        if (i > 0) { /* it says which one it speaks */
            wait_readable(fd);
            assert_int_equal(broker_receive(fd, &hello, sizeof(hello), fds, &fd_count),
                             sizeof(hello));
            assert_int_equal(hello.version_max, BROKER_PROTOCOL_VERSION);
        }
        wait_readable(fd);
        assert_int_equal(broker_receive(fd, &hello, sizeof(hello), fds, &fd_count), 0);
        close(fd);
    }
    int fd = connect_to_broker();
    say_hello(fd);
    tell(fd, BROKER_LIST, 0);
    expect(fd, BROKER_JOB, 1);
    expect(fd, BROKER_LIST_END, 0);
    release(fd, 1);
    wait_for_end(broker.pid);
    broker.pid = 0;
    close(fd);
}

static void test_it_works_without_a_state_directory(void **state)
{
    struct broker_options options = {.state_directory = "/proc/no/where", .settings = &settings};
    assert_int_equal(broker_start(&options, &broker), 0);
    assert_true(broker.listener_error < 0);
    assert_null(broker.socket_name);
    say_hello(broker.fd);
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_NONE, "true");
    expect_story(broker.fd, 1);
    release(broker.fd, 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_program_and_its_output),
        TEST(test_capture_modes),
        TEST(test_input_is_fed_and_told_done),
        TEST(test_a_start_that_fails_says_why),
        TEST(test_output_beyond_a_limit_is_dropped),
        TEST(test_a_background_child_does_not_hold_the_result),
        TEST(test_a_chatty_background_child_holds_the_result_for_5_s),
        TEST(test_signals_reach_the_group),
        TEST(test_a_kept_pid_is_not_used_again),
        TEST(test_it_ends_with_an_agent_that_leaves_nothing),
        TEST(test_it_holds_nothing_of_the_agents),
        TEST(test_signals_do_not_end_it),
        TEST(test_sigterm_ends_it_with_its_last_program),
        TEST(test_a_later_agent_takes_over),
        TEST(test_results_nobody_comes_for_expire),
        TEST(test_agents_are_served_one_after_the_other),
        TEST(test_an_agent_that_reads_nothing_loses_nothing),
        TEST(test_nonsense_is_passed_over),
        TEST(test_a_wrong_hello_ends_the_connection_only),
        TEST(test_it_works_without_a_state_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
