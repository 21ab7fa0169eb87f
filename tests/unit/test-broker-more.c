/* SPDX-License-Identifier: MIT */
/*
 * The broker as a process: time limits, users, directories, input that is added while the program
 * runs, whose a program is. How the rest of it works is for test-broker.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pwd.h>

#include "broker-harness.h"
#include "base/log.h"
#include "jobs/broker-job.h"
#include "jobs/broker-policy.h"
#include "security/capabilities.h"
#include "security/profile.h"
#include "security/program-rule.h"

static struct broker_process broker;

static int setup(void **state)
{
    return harness_setup(state);
}

static void begin(void)
{
    broker = start_broker();
    say_hello(broker.fd);
}

static int teardown(void **state)
{
    broker.fd = close_fd(broker.fd);
    if (broker.pid > 0) {
        int status = wait_for_end(broker.pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    broker_process_deinit(&broker);
    return harness_teardown(state);
}

static void spawn(uint64_t job, const char *script, struct spawn_request request)
{
    const char *const words[] = {"/bin/sh", "-c", script};
    request.program = words[0];
    request.arguments = words;
    request.argument_count = ARRAY_SIZE(words);
    send_spawn(broker.fd, job, &request);
}

/* --- time limits --- */

static void test_time_that_is_up(void **state)
{
    begin();
    uint64_t before_ms = clock_now_ms();
    spawn(1, "echo begun; exec sleep 1000",
          (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT, .timeout_ms = 1000});
    struct story story = expect_story(broker.fd, 1);
    assert_true(clock_now_ms() - before_ms >= 1000);
    assert_int_equal(story.exited.facts.wait_status, SIGTERM);
    assert_int_equal(story.exited.facts.flags, BROKER_HAS_TIMED_OUT);
    check_story_output(&story, 0, "begun\n");
    end_story(&story);
    tell(broker.fd, BROKER_RELEASE, 1);
}

static void test_time_that_is_not_up(void **state)
{
    begin();
    spawn(1, "exit 3", (struct spawn_request){.timeout_ms = SPAWN_TIMEOUT_MAX_MS});
    struct story story = expect_story(broker.fd, 1);
    assert_int_equal(story.exited.facts.wait_status, W_EXITCODE(3, 0));
    assert_int_equal(story.exited.facts.flags, 0);
    tell(broker.fd, BROKER_RELEASE, 1);
    /* It is not waited for. */
    broker.fd = close_fd(broker.fd);
    assert_int_equal(wait_for_end(broker.pid), 0);
    broker.pid = 0;
}

static void test_who_ignores_sigterm_is_killed_with_its_group(void **state)
{
    begin();
    spawn(1, "trap '' TERM; sleep 1000 & echo $!; while :; do sleep 1; done",
          (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT, .timeout_ms = 500});
    uint64_t before_ms = clock_now_ms();
    struct story story = expect_story(broker.fd, 1);
    assert_true(clock_now_ms() - before_ms >= BROKER_GRACE_MS);
    assert_int_equal(story.exited.facts.wait_status, SIGKILL);
    assert_int_equal(story.exited.facts.flags, BROKER_HAS_TIMED_OUT);
    char pid[32] = "";
    assert_int_equal(
        broker_memory_read(story.outputs[0], pid, story.exited.facts.streams[0].size_bytes, 0), 0);
    wait_for_end(atoi(pid));
    end_story(&story);
    tell(broker.fd, BROKER_RELEASE, 1);
}

static void test_what_is_left_of_a_group_is_killed_after_its_leader(void **state)
{
    begin();
    /* The leader ends by SIGTERM and is reported; its child does not, and is ended all the same. */
    spawn(1, "(trap '' TERM; while :; do sleep 1; done) & echo $!; sleep 1000 & wait",
          (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT, .timeout_ms = 500});
    struct story story = expect_story(broker.fd, 1);
    assert_int_equal(story.exited.facts.wait_status, SIGTERM);
    assert_int_equal(story.exited.facts.flags, BROKER_HAS_TIMED_OUT);
    char pid[32] = "";
    assert_int_equal(
        broker_memory_read(story.outputs[0], pid, story.exited.facts.streams[0].size_bytes, 0), 0);
    end_story(&story);
    tell(broker.fd, BROKER_RELEASE, 1);
    /* Also when nobody asks any more: the broker stays for it, and then ends. */
    broker.fd = close_fd(broker.fd);
    wait_for_end(atoi(pid));
    assert_int_equal(wait_for_end(broker.pid), 0);
    broker.pid = 0;
}

static void test_a_stopped_program_has_its_time_too(void **state)
{
    begin();
    spawn(1, "kill -STOP $$", (struct spawn_request){.timeout_ms = 500});
    struct story story = expect_story(broker.fd, 1);
    assert_int_equal(story.exited.facts.wait_status, SIGTERM);
    tell(broker.fd, BROKER_RELEASE, 1);
}

/* --- directories and users --- */

static void test_the_working_directory(void **state)
{
    begin();
    spawn(1, "pwd", (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT, .directory = "/usr"});
    struct story story = expect_story(broker.fd, 1);
    check_story_output(&story, 0, "/usr\n");
    end_story(&story);
    tell(broker.fd, BROKER_RELEASE, 1);

    spawn(2, "true", (struct spawn_request){.directory = "/no/where"});
    struct broker_message failed = expect(broker.fd, BROKER_SPAWN_FAILED, 2);
    assert_int_equal(failed.failed.stage, BROKER_STAGE_DIRECTORY);
    assert_int_equal(failed.failed.error, ENOENT);
}

static void test_a_user_that_there_is_none_of(void **state)
{
    static const char *const users[] = {"no-such-user-here", "4294967294", "99999999999999999999",
                                        "0x0", "-1"};
    begin();
    for (size_t i = 0; i < ARRAY_SIZE(users); i++) {
        spawn(1 + i, "true", (struct spawn_request){.user = users[i]});
        struct broker_message failed = expect(broker.fd, BROKER_SPAWN_FAILED, 1 + i);
        assert_int_equal(failed.failed.stage, BROKER_STAGE_USER);
        assert_int_equal(failed.failed.error, ENOENT);
    }
}

static void test_the_agents_own_user_needs_no_rights(void **state)
{
    const struct passwd *account = getpwuid(geteuid());
    if (!account)
        skip();
    char expected[256], uid[16];
    snprintf(expected, sizeof(expected), "%ld %s %s %s\n", (long)geteuid(), account->pw_dir,
             account->pw_name, "set");
    snprintf(uid, sizeof(uid), "%ld", (long)geteuid());
    begin();
    const char *const environment[] = {"LOGNAME=set"};
    spawn(1, "echo $(id -u) $HOME $USER $LOGNAME",
          (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT,
                                 .user = uid,
                                 .has_environment = true,
                                 .environment = environment,
                                 .environment_count = 1});
    struct story story = expect_story(broker.fd, 1);
    check_story_output(&story, 0, expected);
    end_story(&story);
    tell(broker.fd, BROKER_RELEASE, 1);
}

static void test_what_is_the_managers_is_not_inherited(void **state)
{
    setenv("NOTIFY_SOCKET", "/run/x", 1);
    setenv("LISTEN_FDS", "3", 1);
    setenv("LISTEN_PID", "1", 1);
    setenv("LISTEN_FDNAMES", "a", 1);
    setenv("WATCHDOG_USEC", "1", 1);
    setenv("WATCHDOG_PID", "1", 1);
    setenv("BROKER_TEST", "kept", 1);
    begin();
    assert_string_equal(getenv("NOTIFY_SOCKET"), "/run/x"); /* the agent needs it */
    unsetenv("NOTIFY_SOCKET");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDNAMES");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    unsetenv("BROKER_TEST");
    spawn(1, "env | grep -E '^(NOTIFY|LISTEN|WATCHDOG|BROKER_TEST)'",
          (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT});
    struct story story = expect_story(broker.fd, 1);
    check_story_output(&story, 0, "BROKER_TEST=kept\n");
    end_story(&story);
    tell(broker.fd, BROKER_RELEASE, 1);
}

/* --- input that is added --- */

static void add_input(int fd, uint64_t job, const char *bytes, size_t length, bool is_last)
{
    struct broker_message message = {.type = BROKER_INPUT, .job = job};
    message.input.length = length;
    message.input.is_last = is_last;
    int memory_fd = -1;
    if (length > 0) {
        memory_fd = broker_memory_new("input");
        assert_int_equal(broker_memory_write(memory_fd, bytes, length, 0), 0);
        assert_int_equal(broker_memory_seal(memory_fd), 0);
    }
    send_with_fd(fd, &message, sizeof(message), memory_fd);
    close_fd(memory_fd);
}

static void expect_taken(int fd, uint64_t job, uint64_t total_bytes)
{
    uint64_t taken = 0;
    while (taken < total_bytes)
        taken = expect(fd, BROKER_INPUT_TAKEN, job).input_taken.total_bytes;
    assert_int_equal(taken, total_bytes);
}

static void test_a_conversation(void **state)
{
    begin();
    spawn(1, "while read line; do echo \"<$line>\"; done; echo end",
          (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT,
                                 .has_input = true,
                                 .input = "first\n",
                                 .input_bytes = 6,
                                 .stays_open = true});
    struct broker_message spawned = expect(broker.fd, BROKER_SPAWNED, 1);
    assert_int_equal(spawned.facts.flags, BROKER_TAKES_INPUT);
    int fds[BROKER_FDS_MAX];
    bool has_output = false;
    uint64_t taken = 0;
    while (!has_output || taken < 6) { /* in whichever order */
        struct broker_message message = receive(broker.fd, fds);
        if (message.type == BROKER_INPUT_TAKEN)
            taken = message.input_taken.total_bytes;
        else
            has_output = message.type == BROKER_OUTPUT;
        close_fd(fds[0]);
    }
    add_input(broker.fd, 1, "second\n", 7, false);
    expect_taken(broker.fd, 1, 13);
    add_input(broker.fd, 1, "third\n", 6, true);
    expect(broker.fd, BROKER_INPUT_DONE, 1);
    struct broker_message exited = expect(broker.fd, BROKER_EXITED, 1);
    assert_int_equal(exited.facts.streams[0].size_bytes, 8 + 9 + 8 + 4);
    assert_int_equal(exited.facts.input_taken_bytes, 19);
    assert_int_equal(exited.facts.flags, 0);
    tell(broker.fd, BROKER_RELEASE, 1);
}

static void test_a_later_agent_goes_on_with_it(void **state)
{
    begin();
    spawn(1, "cat", (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT, .stays_open = true});
    expect(broker.fd, BROKER_SPAWNED, 1);
    add_input(broker.fd, 1, "one ", 4, false);
    expect_taken(broker.fd, 1, 4);
    expect(broker.fd, BROKER_OUTPUT, 1);
    broker.fd = close_fd(broker.fd);

    int fd = connect_to_broker();
    say_hello(fd);
    tell(fd, BROKER_LIST, 0);
    struct broker_message job = expect(fd, BROKER_JOB, 1);
    assert_int_equal(job.facts.flags, BROKER_TAKES_INPUT);
    assert_int_equal(job.facts.input_taken_bytes, 4);
    expect(fd, BROKER_LIST_END, 0);
    add_input(fd, 1, "two", 3, false);
    expect_taken(fd, 1, 7);
    add_input(fd, 1, NULL, 0, true);
    expect(fd, BROKER_INPUT_DONE, 1);
    assert_int_equal(expect(fd, BROKER_EXITED, 1).facts.streams[0].size_bytes, 7);
    tell(fd, BROKER_RELEASE, 1);
    assert_int_equal(wait_for_end(broker.pid), 0);
    broker.pid = 0;
    close(fd);
}

static void test_no_more_is_kept_than_the_limit(void **state)
{
    static char block[65536 + 8192];
    settings.exec_input_bytes = sizeof(block);
    const char *gate = make_fifo("gate");
    char script[256];
    snprintf(script, sizeof(script), "read x <%s; wc -c", gate);
    begin();
    spawn(1, script, (struct spawn_request){.capture = BROKER_CAPTURE_STDOUT, .stays_open = true});
    expect(broker.fd, BROKER_SPAWNED, 1);
    add_input(broker.fd, 1, block, sizeof(block), false);
    expect_taken(broker.fd, 1, 65536); /* what the pipe holds */
    add_input(broker.fd, 1, block, 65536, false);
    add_input(broker.fd, 1, block, 1, false); /* the agent should have known */
    assert_int_equal(expect(broker.fd, BROKER_LOG, 0).log.level, LOG_ERROR);
    open_gate(gate);
    expect_taken(broker.fd, 1, sizeof(block) + 65536);
    add_input(broker.fd, 1, "x", 1, true);
    expect(broker.fd, BROKER_INPUT_DONE, 1);
    expect(broker.fd, BROKER_OUTPUT, 1);
    struct broker_message exited = expect(broker.fd, BROKER_EXITED, 1);
    assert_int_equal(exited.facts.input_taken_bytes, sizeof(block) + 65537);
    tell(broker.fd, BROKER_RELEASE, 1);
}

static void test_a_program_that_closes_its_input(void **state)
{
    begin();
    spawn(1, "exec 0<&-; exec sleep 1000", (struct spawn_request){.stays_open = true});
    expect(broker.fd, BROKER_SPAWNED, 1);
    expect(broker.fd, BROKER_INPUT_DONE, 1);
    add_input(broker.fd, 1, "lost", 4, false); /* not worth a word: it was under way */
    struct broker_message message = {
        .type = BROKER_SIGNAL, .job = 1, .signal = {.number = SIGKILL}};
    send_packet(broker.fd, &message, sizeof(message));
    assert_int_equal(expect(broker.fd, BROKER_EXITED, 1).facts.flags, 0);
    tell(broker.fd, BROKER_RELEASE, 1);
}

static void test_who_kept_the_input_does_not_keep_the_broker(void **state)
{
    const char *gate = make_fifo("gate");
    char script[256];
    /* A background child has the pipe's other end and does not read. */
    snprintf(script, sizeof(script), "exec 3<&0; (read x <%s) & true", gate);
    begin();
    spawn(1, script, (struct spawn_request){.stays_open = true});
    expect(broker.fd, BROKER_SPAWNED, 1);
    expect(broker.fd, BROKER_EXITED, 1);
    tell(broker.fd, BROKER_RELEASE, 1);
    broker.fd = close_fd(broker.fd);
    assert_int_equal(wait_for_end(broker.pid), 0);
    broker.pid = 0;
    open_gate(gate);
}

/* --- whose it is --- */

static void test_whose_it_is_stays_known(void **state)
{
    static const char *const words[] = {"/bin/cat"};
    struct spawn_request request = {
        .program = words[0], .arguments = words, .argument_count = 1, .stays_open = true};
    struct broker_message message = {
        .type = BROKER_SPAWN, .job = 1, .spawn = {.flags = BROKER_IS_OWN, .profile = 2}};
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    begin();
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    send_with_fd(broker.fd, &message, sizeof(message), payload.fd);
    spawn_payload_deinit(&payload);
    expect(broker.fd, BROKER_SPAWNED, 1);
    broker.fd = close_fd(broker.fd);

    int fd = connect_to_broker();
    say_hello(fd);
    tell(fd, BROKER_LIST, 0);
    struct broker_message job = expect(fd, BROKER_JOB, 1);
    assert_int_equal(job.facts.flags, BROKER_IS_OWN | BROKER_TAKES_INPUT);
    assert_int_equal(job.facts.profile, 2);
    expect(fd, BROKER_LIST_END, 0);
    tell(fd, BROKER_RELEASE, 1); /* with it goes its input, and so cat ends */
    assert_int_equal(wait_for_end(broker.pid), 0);
    broker.pid = 0;
    close(fd);
}

/* --- rules: an agent that asks for more than it may --- */

static struct program_rule shell_rule = {
    .name = (char *)"shell",
    .profiles = PROFILE_BIT(PROFILE_FULL),
    .timeout_s = 1000,
    .at_once = 1,
    .output_bytes = 5,
};
static struct program_rules rules = {&shell_rule, 1};
static const char *const keys[] = {"/proc/self/exe", "--keys", NULL};
static const char *const *const own_programs[] = {keys};
static const char *const none[] = {NULL};
static const struct broker_policy policy = {
    .rules = &rules,
    .exec_profiles = PROFILE_BIT(PROFILE_FULL),
    .own_programs = own_programs,
    .own_program_count = 1,
    .own_folders = none,
    .own_environment = none,
};

static void begin_with_rules(void)
{
    static char shell[PATH_MAX];
    assert_non_null(realpath("/bin/sh", shell));
    shell_rule.path = shell;
    broker_policy = &policy;
    begin();
}

static void expect_refused(uint64_t job, const char *reason)
{
    struct broker_message failed = expect(broker.fd, BROKER_SPAWN_FAILED, job);
    assert_int_equal(failed.failed.stage, BROKER_STAGE_POLICY);
    assert_int_equal(failed.failed.error, EPERM);
    if (!strstr(failed.failed.reason, reason))
        fail_msg("'%s' is not about '%s'", failed.failed.reason, reason);
}

static void ask(uint64_t job, const char *program, unsigned profile, bool is_own)
{
    const char *const words[] = {program};
    struct spawn_request request = {.program = program, .arguments = words, .argument_count = 1};
    struct broker_message message = {
        .type = BROKER_SPAWN,
        .job = job,
        .spawn = {.flags = is_own ? BROKER_IS_OWN : 0, .profile = profile},
    };
    struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
    assert_int_equal(spawn_payload_build(&request, &payload), 0);
    send_with_fd(broker.fd, &message, sizeof(message), payload.fd);
    spawn_payload_deinit(&payload);
}

static void test_the_broker_has_its_own_copy_of_the_rules(void **state)
{
    begin_with_rules();
    ask(1, "/bin/true", PROFILE_FULL, false);
    expect_refused(1, "no [program] rule of the profile full allows");
    ask(2, "/bin/sh", PROFILE_BACKUP, false);
    expect_refused(2, "guest-exec is not enabled for the profile backup");
    ask(3, "/bin/sh", 77, false);
    expect_refused(3, "guest-exec is not enabled");
    /* To say that it is one's own is no way around. */
    ask(4, "/bin/sh", PROFILE_FULL, true);
    expect_refused(4, "no enabled command has such a program");
    ask(5, "/proc/self/exe", PROFILE_FULL, true);
    expect_refused(5, "no enabled command has such a program");
}

static void test_what_a_rule_limits_the_broker_keeps(void **state)
{
    struct capability_sets sets;
    if (capabilities_read(&sets) == -EOPNOTSUPP)
        skip(); /* no program is run by a rule */
    const char *gate = make_fifo("gate");
    char script[256];
    snprintf(script, sizeof(script), "echo 0123456789; read x <%s", gate);
    begin_with_rules();
    spawn_shell(broker.fd, 1, BROKER_CAPTURE_STDOUT, script);
    expect(broker.fd, BROKER_SPAWNED, 1);
    expect(broker.fd, BROKER_OUTPUT, 1);
    spawn_shell(broker.fd, 2, BROKER_CAPTURE_NONE, "true");
    struct broker_message failed = expect(broker.fd, BROKER_SPAWN_FAILED, 2);
    assert_int_equal(failed.failed.stage, BROKER_STAGE_POLICY);
    assert_string_equal(failed.failed.reason,
                        "1 programs are running, which the rule [program shell] allows at once");
    open_gate(gate);
    struct broker_message exited = expect(broker.fd, BROKER_EXITED, 1);
    assert_int_equal(exited.facts.streams[0].size_bytes, 5);
    assert_true(exited.facts.streams[0].is_truncated);
    /* Its place is free, and its time the shorter one. */
    shell_rule.timeout_s = 1000; /* (the broker's copy is its own) */
    spawn(3, "exec sleep 1000", (struct spawn_request){.timeout_ms = 500});
    struct story story = expect_story(broker.fd, 3);
    assert_int_equal(story.exited.facts.wait_status, SIGTERM);
    tell(broker.fd, BROKER_RELEASE, 1);
    tell(broker.fd, BROKER_RELEASE, 3);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_time_that_is_up),
        TEST(test_time_that_is_not_up),
        TEST(test_who_ignores_sigterm_is_killed_with_its_group),
        TEST(test_what_is_left_of_a_group_is_killed_after_its_leader),
        TEST(test_a_stopped_program_has_its_time_too),
        TEST(test_the_working_directory),
        TEST(test_a_user_that_there_is_none_of),
        TEST(test_the_agents_own_user_needs_no_rights),
        TEST(test_what_is_the_managers_is_not_inherited),
        TEST(test_a_conversation),
        TEST(test_a_later_agent_goes_on_with_it),
        TEST(test_no_more_is_kept_than_the_limit),
        TEST(test_a_program_that_closes_its_input),
        TEST(test_who_kept_the_input_does_not_keep_the_broker),
        TEST(test_whose_it_is_stays_known),
        TEST(test_the_broker_has_its_own_copy_of_the_rules),
        TEST(test_what_a_rule_limits_the_broker_keeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
