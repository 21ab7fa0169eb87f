/* SPDX-License-Identifier: MIT */
/*
 * The agent's side: programs as jobs, a broker that dies, brokers of earlier agents. The brokers
 * are real ones, but for those whose behaviour no real one has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>

#include "broker-harness.h"
#include "jobs/broker-client.h"
#include "jobs/job-table.h"

/* One agent; `end_agent()` is its death. */
static struct event_base *base;
static struct job_table *table;
static struct broker_client *client;
static pid_t broker_pid;

/* What became of the starts of this test. */
static unsigned started_count, failed_count;
static int last_error;
static enum broker_stage last_stage;

static void start_agent(void)
{
    struct broker_process process = start_broker();
    broker_pid = process.pid;
    base = event_base_new();
    table = job_table_new(base, &settings);
    client = broker_client_new_take(base, table, state_directory, &process);
    assert_non_null(client);
}

static void end_agent(void)
{
    client = broker_client_free(client);
    table = job_table_free(table);
    if (base)
        event_base_free(base);
    base = NULL;
}

static int setup(void **state)
{
    started_count = failed_count = 0;
    last_error = 0;
    return harness_setup(state);
}

static int teardown(void **state)
{
    end_agent();
    return harness_teardown(state);
}

static void on_tick(evutil_socket_t fd, short what, void *context)
{
}

/* One turn of the loop, of at most 50 ms. */
static void turn(void)
{
    struct event *tick = evtimer_new(base, on_tick, NULL);
    struct timeval wait = {.tv_usec = 50000};
    event_add(tick, &wait);
    event_base_loop(base, EVLOOP_ONCE);
    event_free(tick);
}

#define WAIT_UNTIL(condition)                         \
    do {                                              \
        uint64_t end_ms_ = clock_now_ms() + LIMIT_MS; \
        while (!(condition)) {                        \
            assert_true(clock_now_ms() < end_ms_);    \
            turn();                                   \
        }                                             \
    } while (0)

static void on_started(struct exec_job *job, int error, enum broker_stage stage, void *context)
{
    assert_ptr_equal(context, &started_count);
    last_error = error;
    last_stage = stage;
    if (error)
        failed_count++;
    else
        started_count++;
    assert_true((error == 0) == (job->job.pid > 0));
}

static int try_spawn(const char *script, enum broker_capture capture, struct exec_job **ret_job,
                     char reason[JOB_REASON_MAX])
{
    const char *const words[] = {"/bin/sh", "-c", script};
    struct spawn_request request = {
        .program = words[0], .arguments = words, .argument_count = 3, .capture = capture};
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    int error =
        broker_client_spawn_take(client, &payload, on_started, &started_count, ret_job, reason);
    assert_int_equal(payload.fd, -1);
    return error;
}

/* The id of the job, which may be gone when the loop has turned. */
static uint64_t spawn(const char *script, enum broker_capture capture)
{
    struct exec_job *exec;
    char reason[JOB_REASON_MAX];
    assert_int_equal(try_spawn(script, capture, &exec, reason), 0);
    return exec->job.id;
}

static struct exec_job *find(uint64_t id)
{
    struct job *job = job_table_find(table, id);
    return job ? exec_job_of(job) : NULL;
}

static struct exec_job *wait_done(uint64_t id)
{
    WAIT_UNTIL(!find(id) || job_is_over(&find(id)->job));
    return find(id);
}

static void check_output(const struct exec_job *exec, size_t index, const char *expected)
{
    const void *bytes;
    assert_int_equal(exec->outputs[index].size_bytes, strlen(expected));
    assert_int_equal(exec_output_map(&exec->outputs[index], &bytes), 0);
    assert_memory_equal(bytes, expected, strlen(expected));
    exec_output_unmap(&exec->outputs[index], bytes);
}

static void test_a_program_is_a_job(void **state)
{
    start_agent();
    uint64_t id = spawn("echo out; echo err >&2; exit 6", BROKER_CAPTURE_SEPARATED);
    assert_non_null(find(id));
    assert_int_equal(find(id)->job.pid, 0);
    assert_int_equal(job_table_counts(table).running, 1);
    WAIT_UNTIL(started_count == 1);
    pid_t pid = find(id)->job.pid;
    assert_ptr_equal(job_table_find_pid(table, pid), &find(id)->job);

    struct exec_job *exec = wait_done(id);
    assert_int_equal(exec->job.state, JOB_DONE);
    assert_int_equal(exec->wait_status, W_EXITCODE(6, 0));
    assert_int_equal(exec->job.result_bytes, 8);
    check_output(exec, 0, "out\n");
    check_output(exec, 1, "err\n");

    /* A reader keeps what it reads, also after the job was seen, and after the broker ended. */
    job_ref(&exec->job);
    job_table_seen(table, &exec->job);
    assert_null(find(id));
    assert_null(exec->peer);
    check_output(exec, 0, "out\n");
    job_unref(&exec->job);
    end_agent();
    assert_int_equal(wait_for_end(broker_pid), 0);
}

static void test_a_start_that_fails_leaves_nothing(void **state)
{
    const char *const words[] = {"/no/such"};
    struct spawn_request request = {.program = words[0], .arguments = words, .argument_count = 1};
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    struct exec_job *exec;
    char reason[JOB_REASON_MAX];
    start_agent();
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    assert_int_equal(
        broker_client_spawn_take(client, &payload, on_started, &started_count, &exec, reason), 0);
    uint64_t id = exec->job.id;
    WAIT_UNTIL(failed_count == 1);
    assert_int_equal(last_error, ENOENT);
    assert_int_equal(last_stage, BROKER_STAGE_EXEC);
    assert_null(find(id));
    assert_int_equal(job_table_counts(table).running, 0);
    assert_int_equal(job_table_counts(table).kept, 0);
    end_agent();
    assert_int_equal(wait_for_end(broker_pid), 0);
}

static void test_limits_refuse_with_a_reason(void **state)
{
    struct exec_job *exec;
    char reason[JOB_REASON_MAX] = "";
    const char *gate = make_fifo("gate");
    char script[256];
    snprintf(script, sizeof(script), "read x <%s", gate);
    settings.exec_running = 1;
    start_agent();
    uint64_t id = spawn(script, BROKER_CAPTURE_NONE);
    assert_int_equal(try_spawn("true", BROKER_CAPTURE_NONE, &exec, reason), -EBUSY);
    assert_non_null(strstr(reason, "exec.running"));
    WAIT_UNTIL(started_count == 1);
    open_gate(gate);
    wait_done(id);
    assert_int_equal(try_spawn("true", BROKER_CAPTURE_NONE, &exec, reason), 0);
    id = exec->job.id;
    wait_done(id);
}

static void test_an_abandoned_job_leaves_the_broker(void **state)
{
    start_agent();
    uint64_t id = spawn("echo x", BROKER_CAPTURE_STDOUT);
    job_table_abandon(table, &find(id)->job);
    WAIT_UNTIL(!find(id));
    assert_int_equal(started_count, 1);
    end_agent();
    assert_int_equal(wait_for_end(broker_pid), 0);
}

static void test_an_abandoned_job_of_a_dead_broker(void **state)
{
    start_agent();
    uint64_t id = spawn("sleep 1000", BROKER_CAPTURE_NONE);
    WAIT_UNTIL(started_count == 1);
    pid_t pid = find(id)->job.pid;
    job_table_abandon(table, &find(id)->job);
    kill(broker_pid, SIGKILL);
    WAIT_UNTIL(!find(id));
    assert_int_equal(job_table_counts(table).kept, 0);
    assert_int_equal(job_table_counts(table).running, 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
}

static void test_a_signal_reaches_the_program(void **state)
{
    start_agent();
    uint64_t id = spawn("sleep 1000", BROKER_CAPTURE_NONE);
    WAIT_UNTIL(started_count == 1);
    assert_int_equal(broker_client_signal(client, find(id), SIGKILL, true), 0);
    struct exec_job *exec = wait_done(id);
    assert_int_equal(exec->wait_status, SIGKILL);
    job_table_seen(table, &exec->job);
}

static void test_a_broker_that_dies_is_no_disaster(void **state)
{
    const char *gate = make_fifo("gate");
    char script[256], reason[JOB_REASON_MAX];
    struct exec_job *exec;
    start_agent();
    uint64_t done = spawn("echo kept", BROKER_CAPTURE_STDOUT);
    wait_done(done);
    snprintf(script, sizeof(script), "read x <%s", gate);
    uint64_t running = spawn(script, BROKER_CAPTURE_NONE);
    WAIT_UNTIL(started_count == 2);
    pid_t pid = find(running)->job.pid;

    kill(broker_pid, SIGSTOP);
    uint64_t pending = spawn("true", BROKER_CAPTURE_NONE);
    kill(broker_pid, SIGKILL);
    WAIT_UNTIL(failed_count == 1);
    assert_int_equal(last_error, EPIPE);
    assert_int_equal(last_stage, BROKER_STAGE_ACCEPT);
    assert_null(find(pending));
    /* What it told before stays; of what ran nobody knows. */
    check_output(find(done), 0, "kept\n");
    assert_int_equal(find(done)->job.state, JOB_DONE);
    assert_int_equal(find(running)->job.state, JOB_LOST);
    assert_ptr_equal(job_table_find_pid(table, pid), &find(running)->job);
    assert_int_equal(try_spawn("true", BROKER_CAPTURE_NONE, &exec, reason), -EPIPE);
    assert_non_null(strstr(reason, "broker"));
    assert_int_equal(broker_client_signal(client, find(running), SIGTERM, true), -ESRCH);
    job_table_seen(table, &find(running)->job);
    job_table_seen(table, &find(done)->job);
    /* It was the agent's child, and is reaped. */
    WAIT_UNTIL(!process_is_alive(broker_pid) && kill(broker_pid, 0) < 0);
    open_gate(gate);
}

static void test_the_next_agent_takes_over(void **state)
{
    const char *gate = make_fifo("gate");
    char script[256];
    start_agent();
    pid_t first_broker = broker_pid;
    uint64_t done = spawn("echo done; exit 2", BROKER_CAPTURE_MERGED);
    wait_done(done);
    snprintf(script, sizeof(script), "echo early; read x <%s; echo late", gate);
    uint64_t running = spawn(script, BROKER_CAPTURE_STDOUT);
    WAIT_UNTIL(started_count == 2);
    pid_t done_pid = find(done)->job.pid, running_pid = find(running)->job.pid;
    uint64_t started_ms = find(running)->job.started_ms;
    end_agent();

    start_agent();
    broker_client_adopt(client, LIMIT_MS);
    assert_int_equal(job_table_counts(table).running, 1);
    assert_int_equal(job_table_counts(table).kept, 1);
    struct exec_job *exec = find(done);
    assert_ptr_equal(job_table_find_pid(table, done_pid), &exec->job);
    assert_int_equal(exec->wait_status, W_EXITCODE(2, 0));
    check_output(exec, 0, "done\n");
    exec = find(running);
    assert_ptr_equal(job_table_find_pid(table, running_pid), &exec->job);
    assert_int_equal(exec->job.started_ms, started_ms);
    assert_false(job_is_over(&exec->job));

    /* New ones run beside them, under numbers of their own. */
    uint64_t fresh = spawn("echo fresh", BROKER_CAPTURE_STDOUT);
    assert_true(fresh > running);
    check_output(wait_done(fresh), 0, "fresh\n");
    job_table_seen(table, &find(fresh)->job);

    open_gate(gate);
    check_output(wait_done(running), 0, "early\nlate\n");
    job_table_seen(table, &find(running)->job);
    job_table_seen(table, &find(done)->job);
    /* With the last of its results the old broker goes, and with it its socket. */
    wait_for_end(first_broker);
    turn();
    assert_int_equal(count_sockets(), 1);
}

static void test_a_pid_taken_over_names_no_new_program(void **state)
{
    start_agent();
    uint64_t done = spawn("true", BROKER_CAPTURE_NONE);
    pid_t pid = wait_done(done)->job.pid;
    end_agent();
    start_agent();
    broker_client_adopt(client, LIMIT_MS);
    /* The new broker was told: it would fork again. That it does is for its own test. */
    assert_non_null(job_table_find_pid(table, pid));
    for (int i = 0; i < 20; i++) {
        uint64_t id = spawn("true", BROKER_CAPTURE_NONE);
        assert_int_not_equal(wait_done(id)->job.pid, pid);
        job_table_seen(table, &find(id)->job);
    }
    job_table_seen(table, job_table_find_pid(table, pid));
}

static void test_three_agents_in_a_row(void **state)
{
    uint64_t ids[3];
    pid_t brokers[3];
    for (int i = 0; i < 3; i++) {
        start_agent();
        broker_client_adopt(client, LIMIT_MS);
        brokers[i] = broker_pid;
        ids[i] = spawn("echo result", BROKER_CAPTURE_STDOUT);
        wait_done(ids[i]);
        end_agent();
    }
    start_agent();
    broker_client_adopt(client, LIMIT_MS);
    assert_int_equal(job_table_counts(table).kept, 3);
    for (int i = 0; i < 3; i++) {
        check_output(find(ids[i]), 0, "result\n");
        job_table_seen(table, &find(ids[i])->job);
        wait_for_end(brokers[i]);
    }
    assert_int_equal(count_sockets(), 1);
}

static void test_a_broker_that_hangs_is_waited_for_only_so_long(void **state)
{
    start_agent();
    uint64_t done = spawn("echo late", BROKER_CAPTURE_STDOUT);
    wait_done(done);
    pid_t first_broker = broker_pid;
    kill(first_broker, SIGSTOP);
    end_agent();

    start_agent();
    uint64_t before_ms = clock_now_ms();
    broker_client_adopt(client, 200);
    uint64_t took_ms = clock_now_ms() - before_ms;
    assert_true(took_ms >= 200 && took_ms < 5000);
    assert_null(find(done));
    /* It is taken over when it answers. */
    kill(first_broker, SIGCONT);
    WAIT_UNTIL(find(done) != NULL);
    check_output(find(done), 0, "late\n");
    job_table_seen(table, &find(done)->job);
    wait_for_end(first_broker);
}

static void test_a_socket_without_a_broker_is_removed(void **state)
{
    start_agent();
    uint64_t done = spawn("true", BROKER_CAPTURE_NONE);
    wait_done(done);
    end_agent(); /* its broker stays, for the result */
    kill(broker_pid, SIGKILL);
    wait_for_end(broker_pid);
    assert_int_equal(count_sockets(), 1);
    start_agent();
    assert_int_equal(count_sockets(), 2);
    broker_client_adopt(client, LIMIT_MS);
    assert_int_equal(count_sockets(), 1);
    assert_int_equal(job_table_counts(table).kept, 0);
}

/* --- a broker that says what none should --- */

static int false_broker; /* its end of the connection */

static void start_agent_of_false_broker(uint32_t version)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    struct broker_process process = {.fd = ends[0], .pid = getpid()};
    false_broker = ends[1];
    base = event_base_new();
    table = job_table_new(base, &settings);
    client = broker_client_new_take(base, table, state_directory, &process);
    assert_non_null(client);
    struct broker_hello hello;
    int fds[BROKER_FDS_MAX];
    size_t fd_count;
    assert_int_equal(broker_receive(false_broker, &hello, sizeof(hello), fds, &fd_count),
                     sizeof(hello));
    assert_true(broker_hello_is_valid(&hello, sizeof(hello), fd_count));
    assert_int_equal(hello.version_min, BROKER_PROTOCOL_VERSION_MIN);
    assert_int_equal(hello.version_max, BROKER_PROTOCOL_VERSION);
    hello.version_min = hello.version_max = version;
    hello.pid = getpid();
    send_packet(false_broker, &hello, sizeof(hello));
}

static void test_nonsense_from_a_broker_is_passed_over(void **state)
{
    start_agent_of_false_broker(BROKER_PROTOCOL_VERSION);
    uint64_t id = spawn("true", BROKER_CAPTURE_STDOUT);
    struct broker_message message = {0};
    unsigned seed = 4711;
    for (size_t i = 0; i < 3000; i++) {
        char junk[sizeof(message) + 50];
        size_t length =
            i % 2 == 0 ? sizeof(message) : 1 + (size_t)rand_r(&seed) % (sizeof(junk) - 1);
        for (size_t j = 0; j < length; j++)
            junk[j] = (char)rand_r(&seed);
        struct broker_message *nearly = (struct broker_message *)(void *)junk;
        if (i % 2 == 0) {
            nearly->type = BROKER_SPAWNED + (uint32_t)rand_r(&seed) % 9;
            nearly->job = (uint64_t)rand_r(&seed) % 2 ? id : (uint64_t)rand_r(&seed) % 4;
        }
        send_with_fd(false_broker, junk, length, i % 7 == 0 ? 0 : -1);
        if (i % 50 == 0)
            turn();
    }
    turn();
    assert_non_null(client);
    close(false_broker);
    WAIT_UNTIL(!find(id) || job_is_over(&find(id)->job));
}

static void test_what_a_broker_says_out_of_order(void **state)
{
    start_agent_of_false_broker(BROKER_PROTOCOL_VERSION);
    uint64_t id = spawn("true", BROKER_CAPTURE_STDOUT);
    struct broker_message exited = {.type = BROKER_EXITED, .job = id};
    exited.facts.pid = 4000000;
    exited.facts.state = BROKER_JOB_DONE;
    exited.facts.finished_ms = UINT64_MAX;
    exited.facts.streams[0].is_present = 1;
    exited.facts.streams[0].size_bytes = 1000;
    send_packet(false_broker, &exited, sizeof(exited)); /* it has not even begun */
    struct broker_message spawned = exited;
    spawned.type = BROKER_SPAWNED;
    spawned.facts.state = BROKER_JOB_RUNNING;
    send_packet(false_broker, &spawned, sizeof(spawned));
    WAIT_UNTIL(started_count == 1);
    assert_false(job_is_over(&find(id)->job));
    spawned.facts.pid++;
    send_packet(false_broker, &spawned, sizeof(spawned)); /* once more */
    struct broker_message job = exited;
    job.type = BROKER_JOB;
    job.job = 77;
    send_with_fd(false_broker, &job, sizeof(job), 0); /* nobody asked for a list */
    /* The output is said to be there, and is not; or is a file that anybody can shorten. */
    struct broker_message output = {.type = BROKER_OUTPUT, .job = id};
    int fd = broker_memory_new("unsealed");
    send_with_fd(false_broker, &output, sizeof(output), fd);
    close(fd);
    send_packet(false_broker, &exited, sizeof(exited));
    struct exec_job *exec = wait_done(id);
    assert_int_equal(exec->job.pid, 4000000);
    assert_int_equal(exec->outputs[0].size_bytes, 0);
    assert_true(exec->outputs[0].is_truncated);
    assert_int_equal(started_count, 1);
    assert_null(find(77));
    exited.facts.wait_status = 9;
    send_packet(false_broker, &exited, sizeof(exited)); /* and once more */
    turn();
    assert_int_equal(find(id)->wait_status, 0);
    close(false_broker);
}

static void test_a_broker_that_takes_nothing_is_waited_for(void **state)
{
    settings.exec_running = 10000;
    start_agent_of_false_broker(BROKER_PROTOCOL_VERSION);
    enum { COUNT = 2000 };
    uint64_t last = 0;
    for (size_t i = 0; i < COUNT; i++)
        last = spawn("true", BROKER_CAPTURE_NONE);
    assert_int_equal(started_count + failed_count, 0);
    /* They were queued, and come in their order once somebody reads. */
    for (uint64_t i = 0; i < COUNT; i++) {
        struct broker_message message;
        int fds[BROKER_FDS_MAX], length;
        size_t fd_count;
        while ((length = broker_receive(false_broker, &message, sizeof(message), fds, &fd_count)) ==
               -EAGAIN)
            turn();
        assert_int_equal(length, sizeof(message));
        assert_int_equal(message.type, BROKER_SPAWN);
        assert_int_equal(message.job, last - COUNT + 1 + i);
        assert_int_equal(fd_count, 1);
        close(fds[0]);
    }
    close(false_broker);
    WAIT_UNTIL(failed_count == COUNT);
    assert_int_equal(job_table_counts(table).running, 0);
}

/* --- a broker that an older bellhop left behind: of version 1, which is spoken by hand --- */

/* Waits on the socket that earlier brokers are found by, in a thread's place: the client is turned
 * by adopt, which does not return before the broker has listed. So it is a child. */
static pid_t start_old_broker(uint32_t version)
{
    char *name;
    int directory_fd = broker_directory_open(state_directory);
    assert_true(directory_fd >= 0);
    int listener = broker_socket_listen(directory_fd, &name);
    assert_true(listener >= 0);
    pid_t pid = fork();
    if (pid > 0) {
        close(listener);
        close(directory_fd);
        free(name);
        return pid;
    }
    wait_readable(listener);
    int fds[BROKER_FDS_MAX];
    size_t fd_count;
    struct broker_hello hello;
    struct broker_message message;
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    wait_readable(fd);
    bool is_right =
        broker_receive(fd, &hello, sizeof(hello), fds, &fd_count) == (int)sizeof(hello) &&
        hello.version_min == 1;
    hello.version_min = hello.version_max = version;
    hello.flags = BROKER_IS_RETIRED;
    hello.pid = getpid();
    send_packet(fd, &hello, sizeof(hello));
    wait_readable(fd);
    is_right &=
        broker_receive(fd, &message, sizeof(message), fds, &fd_count) == (int)sizeof(message) &&
        message.type == BROKER_LIST;

    /* What is behind the members of its version is whatever was there. */
    memset(&message, 0xff, sizeof(message));
    message.type = BROKER_JOB;
    message.reserved = 0;
    message.job = 31;
    memset(&message.facts, 0, offsetof(struct broker_facts, input_taken_bytes));
    message.facts.pid = 4000000;
    message.facts.state = BROKER_JOB_DONE;
    message.facts.capture = BROKER_CAPTURE_STDOUT;
    message.facts.wait_status = W_EXITCODE(5, 0);
    message.facts.streams[0].is_present = 1;
    message.facts.streams[0].size_bytes = 4;
    int memory_fd = broker_memory_new("output");
    is_right &= broker_memory_write(memory_fd, "old\n", 4, 0) == 0;
    is_right &= broker_memory_seal(memory_fd) == 0;
    send_with_fd(fd, &message, sizeof(message), memory_fd);
    message.job = 32;
    message.facts.pid = 4000001;
    message.facts.state = BROKER_JOB_RUNNING;
    message.facts.streams[0].is_present = 0;
    message.facts.streams[0].size_bytes = 0;
    send_packet(fd, &message, sizeof(message));
    tell(fd, BROKER_LIST_END, 0);
    wait_readable(fd);
    int length = broker_receive(fd, &message, sizeof(message), fds, &fd_count);
    is_right &= length == (int)sizeof(message) && message.type == BROKER_RELEASE;
    _exit(is_right ? 0 : 1);
}

static void test_an_older_broker_is_taken_over(void **state)
{
    pid_t old_broker = start_old_broker(1);
    start_agent();
    broker_client_adopt(client, LIMIT_MS);
    assert_int_equal(job_table_counts(table).kept, 1);
    assert_int_equal(job_table_counts(table).running, 1);
    struct job *job = job_table_find_pid(table, 4000000);
    assert_non_null(job);
    struct exec_job *exec = exec_job_of(job);
    assert_int_equal(exec->wait_status, W_EXITCODE(5, 0));
    assert_false(exec->has_timed_out);
    assert_int_equal(exec->job.profile, 0);
    check_output(exec, 0, "old\n");

    struct exec_job *running = exec_job_of(job_table_find_pid(table, 4000001));
    assert_false(running->takes_input);
    assert_int_equal(running->job.waiting_bytes, 0);
    /* What it does not know is not said to it. */
    assert_int_equal(broker_client_input_take(client, running, -1, 0, true), -EPROTONOSUPPORT);
    job_table_seen(table, job);
    assert_int_equal(wait_for_end(old_broker), 0);
}

static void test_a_broker_of_the_future_is_left_alone(void **state)
{
    pid_t broker = start_old_broker(BROKER_PROTOCOL_VERSION + 1);
    start_agent();
    broker_client_adopt(client, LIMIT_MS);
    assert_int_equal(job_table_counts(table).kept + job_table_counts(table).running, 0);
    kill(broker, SIGKILL);
    wait_for_end(broker);
}

/* What became of the agent's own programs of this test. */
struct own_end {
    unsigned count;
    int error;
    enum broker_stage stage;
    enum job_state job_state;
    int wait_status;
    uint64_t id;
    char output[16];
};

static void on_ended(struct exec_job *job, int error, enum broker_stage stage, void *context)
{
    struct own_end *end = context;
    end->count++;
    end->error = error;
    end->stage = stage;
    end->job_state = job->job.state;
    end->wait_status = job->wait_status;
    end->id = job->job.id;
    const void *bytes;
    assert_true(job->outputs[0].size_bytes < sizeof(end->output));
    assert_int_equal(exec_output_map(&job->outputs[0], &bytes), 0);
    memcpy(end->output, bytes, job->outputs[0].size_bytes);
    exec_output_unmap(&job->outputs[0], bytes);
}

static void run_own(const char *program, const char *script, const char *input,
                    struct own_end *ret_end)
{
    const char *const words[] = {program, "-c", script};
    struct spawn_request request = {.program = program,
                                    .arguments = words,
                                    .argument_count = 3,
                                    .input = input,
                                    .input_bytes = strlen(input),
                                    .has_input = true,
                                    .capture = BROKER_CAPTURE_MERGED};
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    char reason[JOB_REASON_MAX];
    *ret_end = (struct own_end){.count = 0};
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    assert_int_equal(broker_client_run_take(client, &payload, on_ended, ret_end, reason), 0);
    assert_int_equal(payload.fd, -1);
}

static void test_the_agents_own_program_is_told_to_end(void **state)
{
    struct own_end end;
    start_agent();
    run_own("/bin/sh", "cat; echo err >&2; exit 6", "in\n", &end);
    assert_int_equal(end.count, 0);
    WAIT_UNTIL(end.count == 1);
    assert_int_equal(end.error, 0);
    assert_int_equal(end.job_state, JOB_DONE);
    assert_int_equal(end.wait_status, W_EXITCODE(6, 0));
    assert_string_equal(end.output, "in\nerr\n");
    /* It does not linger, neither here nor in the broker. */
    assert_null(find(end.id));
    assert_int_equal(job_table_counts(table).kept, 0);
    end_agent();
    assert_int_equal(wait_for_end(broker_pid), 0);

    start_agent();
    run_own("/no/such", "", "", &end);
    WAIT_UNTIL(end.count == 1);
    assert_int_equal(end.error, ENOENT);
    assert_int_equal(end.stage, BROKER_STAGE_EXEC);
    assert_int_equal(job_table_counts(table).running, 0);
}

static void test_nobody_is_told_of_an_own_program_of_an_earlier_agent(void **state)
{
    const char *gate = make_fifo("gate");
    char script[256];
    struct own_end end;
    snprintf(script, sizeof(script), "echo on; read x <%s", gate);
    start_agent();
    pid_t first_broker = broker_pid;
    run_own("/bin/sh", script, "", &end);
    WAIT_UNTIL(find(1) && find(1)->job.pid > 0);
    pid_t pid = find(1)->job.pid;
    end_agent();

    start_agent();
    broker_client_adopt(client, LIMIT_MS);
    assert_int_equal(job_table_counts(table).running, 0);
    assert_null(job_table_find_pid(table, pid));
    open_gate(gate);
    /* Its result is kept for nobody. */
    assert_int_equal(wait_for_end(first_broker), 0);
    assert_int_equal(job_table_counts(table).kept, 0);
}

static void test_limits_are_not_for_the_agents_own_programs(void **state)
{
    struct own_end end;
    settings.exec_running = 0;
    start_agent();
    run_own("/bin/sh", "true", "", &end);
    WAIT_UNTIL(end.count == 1);
    assert_int_equal(end.wait_status, 0);
}

static void test_the_agents_own_program_can_be_killed(void **state)
{
    struct own_end end, other;
    start_agent();
    /* What it started would keep the output open. */
    run_own("/bin/sh", "sleep 1000 & echo on; wait", "", &end);
    run_own("/bin/sh", "cat", "x", &other);
    WAIT_UNTIL(other.count == 1);
    assert_int_equal(broker_client_kill(client, &other), -ESRCH);
    assert_int_equal(broker_client_kill(client, &end), 0);
    WAIT_UNTIL(end.count == 1);
    assert_int_equal(end.job_state, JOB_DONE);
    assert_int_equal(end.wait_status, W_EXITCODE(0, SIGKILL));
    assert_int_equal(broker_client_kill(client, &end), -ESRCH);
}

static void test_the_end_of_a_lost_program_is_told(void **state)
{
    const char *gate = make_fifo("gate");
    char script[256];
    struct own_end end;
    snprintf(script, sizeof(script), "echo on; read x <%s", gate);
    start_agent();
    run_own("/bin/sh", script, "", &end);
    WAIT_UNTIL(job_table_counts(table).running == 1 && find(1) && find(1)->outputs[0].fd >= 0);
    kill(broker_pid, SIGKILL);
    WAIT_UNTIL(end.count == 1);
    assert_int_equal(end.error, 0);
    assert_int_equal(end.job_state, JOB_LOST);
    assert_null(find(end.id));
    open_gate(gate);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_program_is_a_job),
        TEST(test_a_start_that_fails_leaves_nothing),
        TEST(test_limits_refuse_with_a_reason),
        TEST(test_an_abandoned_job_leaves_the_broker),
        TEST(test_an_abandoned_job_of_a_dead_broker),
        TEST(test_a_signal_reaches_the_program),
        TEST(test_a_broker_that_dies_is_no_disaster),
        TEST(test_the_next_agent_takes_over),
        TEST(test_a_pid_taken_over_names_no_new_program),
        TEST(test_three_agents_in_a_row),
        TEST(test_a_broker_that_hangs_is_waited_for_only_so_long),
        TEST(test_a_socket_without_a_broker_is_removed),
        TEST(test_nonsense_from_a_broker_is_passed_over),
        TEST(test_what_a_broker_says_out_of_order),
        TEST(test_a_broker_that_takes_nothing_is_waited_for),
        TEST(test_an_older_broker_is_taken_over),
        TEST(test_a_broker_of_the_future_is_left_alone),
        TEST(test_the_agents_own_program_is_told_to_end),
        TEST(test_nobody_is_told_of_an_own_program_of_an_earlier_agent),
        TEST(test_limits_are_not_for_the_agents_own_programs),
        TEST(test_the_agents_own_program_can_be_killed),
        TEST(test_the_end_of_a_lost_program_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
