/* SPDX-License-Identifier: MIT */
/*
 * Children: what a program finds when it begins, and how its beginning is told. Each program writes
 * what it found into a pipe that the test reads to its end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jobs/child.h"

#define LIMIT_MS 20000

static struct child_origin origin;
static char directory[] = "/tmp/test-child-XXXXXX";

/* How one start went. */
struct run {
    enum child_outcome outcome;
    enum broker_stage stage;
    int error;
    size_t rule; /* that it was matched by */
    unsigned matched;
    char reason[CHILD_REASON_MAX];
    pid_t pid;
    int status;
    char output[8192];
};

static void wait_readable(int fd)
{
    struct pollfd waiting = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&waiting, 1, LIMIT_MS), 1);
}

static void read_to_end(int fd, struct run *run)
{
    size_t length = 0;
    for (;;) {
        wait_readable(fd);
        ssize_t got = read(fd, run->output + length, sizeof(run->output) - 1 - length);
        assert_true(got >= 0);
        if (got == 0)
            break;
        length += (size_t)got;
    }
    run->output[length] = '\0';
}

static struct run run_child(struct child_spec *spec)
{
    struct run run = {0};
    struct child child = CHILD_INIT;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    spec->fds[0] = null_fd;
    spec->fds[1] = spec->fds[2] = ends[1];
    spec->origin = &origin;
    assert_int_equal(child_fork(spec, &child), 0);
    close(ends[1]);
    close(null_fd);

    read_to_end(ends[0], &run);
    struct child_note note = {.outcome = CHILD_UNDECIDED};
    do {
        wait_readable(child.note_fd);
        child_read_note(child.note_fd, &note);
        if (note.outcome == CHILD_MATCHED) {
            run.matched++;
            run.rule = note.rule;
        }
    } while (note.outcome == CHILD_MATCHED);
    run.outcome = note.outcome;
    run.stage = note.stage;
    run.error = note.error;
    memcpy(run.reason, note.reason, sizeof(run.reason));
    wait_readable(child.pidfd);
    assert_int_equal(waitpid(child.pid, &run.status, WNOHANG), child.pid);
    run.pid = child.pid;
    close(ends[0]);
    close(child.note_fd);
    close(child.pidfd);
    return run;
}

static struct run run_words(char *const words[], char *const environment[])
{
    struct child_spec spec = {.program = words[0], .arguments = words, .environment = environment};
    return run_child(&spec);
}

static struct run run_shell(const char *script)
{
    char *words[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    return run_words(words, environ);
}

static const char *write_file(const char *name, const char *content, mode_t mode)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, content, strlen(content)), strlen(content));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
    return path;
}

static void test_a_program_runs(void **state)
{
    struct run run = run_shell("echo out; echo err >&2; exit 7");
    assert_int_equal(run.outcome, CHILD_RUNS);
    assert_string_equal(run.output, "out\nerr\n");
    assert_true(WIFEXITED(run.status));
    assert_int_equal(WEXITSTATUS(run.status), 7);
}

static void test_it_has_three_descriptors(void **state)
{
    /* The test's own are there to be inherited, some of them without close-on-exec. */
    int kept[20];
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        kept[i] = dup(0);
    struct run run = run_shell("ls /proc/$$/fd; true");
    for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
        close(kept[i]);
    assert_string_equal(run.output, "0\n1\n2\n");
}

static void test_signals_are_at_their_default(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigset_t some, before;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    sigaddset(&some, SIGUSR1);
    sigprocmask(SIG_BLOCK, &some, &before);
    struct run run = run_shell("cat /proc/self/status");
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    assert_non_null(strstr(run.output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
                                       "SigCgt:\t0000000000000000\n"));
}

static void test_it_leads_a_session(void **state)
{
    struct run run = run_shell("cut -d' ' -f1,5,6 /proc/$$/stat");
    char expected[64];
    snprintf(expected, sizeof(expected), "%ld %ld %ld\n", (long)run.pid, (long)run.pid,
             (long)run.pid);
    assert_string_equal(run.output, expected);
}

static void test_it_gets_what_the_agent_was_started_with(void **state)
{
    struct rlimit before = origin.open_files;
    origin.umask = 0137;
    origin.open_files.rlim_cur = 77;
    mode_t mask = umask(0);
    struct run run = run_shell("umask; ulimit -S -n; cat /proc/self/oom_score_adj");
    umask(mask);
    char expected[64];
    snprintf(expected, sizeof(expected), "0137\n77\n%s\n", origin.oom_score_adj);
    assert_string_equal(run.output, expected);
    origin.open_files = before;
    origin.umask = 022;
}

static void test_its_environment_is_the_one_given(void **state)
{
    char *words[] = {(char *)"/usr/bin/env", NULL};
    char *environment[] = {(char *)"B=2", (char *)"none", (char *)"B=3", NULL};
    assert_string_equal(run_words(words, environment).output, "B=2\nnone\nB=3\n");
    environment[0] = NULL;
    assert_string_equal(run_words(words, environment).output, "");
}

static void test_failures_have_their_cause(void **state)
{
    char *words[] = {(char *)"/no/such/program", NULL};
    struct run run = run_words(words, environ);
    assert_int_equal(run.outcome, CHILD_FAILED);
    assert_int_equal(run.stage, BROKER_STAGE_EXEC);
    assert_int_equal(run.error, ENOENT);
    assert_string_equal(run.output, "");

    words[0] = (char *)"";
    run = run_words(words, environ);
    assert_int_equal(run.outcome, CHILD_FAILED);
    assert_int_equal(run.error, ENOENT);
    words[0] = directory;
    run = run_words(words, environ);
    assert_int_equal(run.error, EACCES);
    words[0] = (char *)write_file("unexecutable", "x", 0644);
    run = run_words(words, environ);
    assert_int_equal(run.error, EACCES);
    words[0] = (char *)"no-such-program-in-path";
    run = run_words(words, environ);
    assert_int_equal(run.error, ENOENT);
}

static void test_a_script_without_an_interpreter_is_the_shells(void **state)
{
    char *words[] = {(char *)write_file("script", "echo $0 $1 $2\n", 0755), (char *)"a",
                     (char *)"b", NULL};
    char expected[256];
    snprintf(expected, sizeof(expected), "%s a b\n", words[0]);
    assert_string_equal(run_words(words, environ).output, expected);
}

static void test_path_is_searched(void **state)
{
    char path[300];
    char *words[] = {(char *)"found-in-path", NULL};
    char *environment[] = {path, NULL};
    write_file("found-in-path", "#!/bin/sh\necho found\n", 0755);

    /* The one that the program will have ... */
    snprintf(path, sizeof(path), "PATH=/nowhere:/etc/passwd:%s", directory);
    struct run run = run_words(words, environment);
    assert_int_equal(run.outcome, CHILD_RUNS);
    assert_string_equal(run.output, "found\n");

    /* ... else the agent's ... */
    struct child_spec spec = {.program = words[0],
                              .arguments = words,
                              .environment = environment,
                              .search_path = directory};
    snprintf(path, sizeof(path), "NOPATH=1");
    assert_string_equal(run_child(&spec).output, "found\n");

    /* ... and nothing else. */
    snprintf(path, sizeof(path), "PATH=/nowhere");
    run = run_child(&spec);
    assert_int_equal(run.outcome, CHILD_FAILED);
    assert_int_equal(run.error, ENOENT);

    /* One that may not be run is passed over, and named as the reason if there is no other. */
    write_file("found-in-path", "#!/bin/sh\necho found\n", 0644);
    snprintf(path, sizeof(path), "PATH=%s:/nowhere", directory);
    run = run_words(words, environment);
    assert_int_equal(run.outcome, CHILD_FAILED);
    assert_int_equal(run.error, EACCES);

    /* An empty entry is the working directory. */
    write_file("found-in-path", "#!/bin/sh\necho found\n", 0755);
    assert_int_equal(chdir(directory), 0);
    snprintf(path, sizeof(path), "PATH=/nowhere:");
    assert_string_equal(run_words(words, environment).output, "found\n");
    assert_int_equal(chdir("/"), 0);
}

static bool pid_is_odd(const void *context, pid_t pid)
{
    return pid % 2 != 0;
}

static void test_a_child_whose_pid_is_taken_does_nothing(void **state)
{
    char *words[] = {(char *)"/bin/echo", (char *)"ran", NULL};
    struct child_spec spec = {.program = words[0],
                              .arguments = words,
                              .environment = environ,
                              .pid_is_taken = pid_is_odd};
    int taken = 0, ran = 0;
    /* Pids come in turn, so both kinds come soon. */
    for (int i = 0; i < 1000 && (!taken || !ran); i++) {
        struct run run = run_child(&spec);
        if (run.pid % 2 != 0) {
            taken++;
            assert_int_equal(run.outcome, CHILD_PID_TAKEN);
            assert_string_equal(run.output, "");
        } else {
            ran++;
            assert_int_equal(run.outcome, CHILD_RUNS);
            assert_string_equal(run.output, "ran\n");
        }
    }
    assert_true(taken && ran);
}

static void test_a_note_is_read_without_waiting(void **state)
{
    /* (A program on a filesystem that does not answer is for the wire tests.) */
    int ends[2];
    struct child child = CHILD_INIT;
    char *words[] = {(char *)"/bin/true", NULL};
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct child_spec spec = {.program = words[0],
                              .arguments = words,
                              .environment = environ,
                              .fds = {ends[0], ends[1], ends[1]},
                              .origin = &origin};
    assert_int_equal(child_fork(&spec, &child), 0);
    kill(child.pid, SIGSTOP);
    struct child_note note;
    /* Stopped before or after its exec: the note can be read without waiting either way. */
    child_read_note(child.note_fd, &note);
    assert_true(note.outcome == CHILD_UNDECIDED || note.outcome == CHILD_RUNS);
    kill(child.pid, SIGKILL);
    wait_readable(child.pidfd);
    assert_int_equal(waitpid(child.pid, NULL, WNOHANG), child.pid);
    /* One that was killed before its exec is over, too. */
    child_read_note(child.note_fd, &note);
    assert_int_equal(note.outcome, CHILD_RUNS);
    close(child.pidfd);
    close(child.note_fd);
    close(ends[0]);
    close(ends[1]);
}

static int setup(void **state)
{
    child_origin_read(&origin);
    origin.umask = 022;
    return mkdtemp(directory) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[300];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_program_runs),
        cmocka_unit_test(test_it_has_three_descriptors),
        cmocka_unit_test(test_signals_are_at_their_default),
        cmocka_unit_test(test_it_leads_a_session),
        cmocka_unit_test(test_it_gets_what_the_agent_was_started_with),
        cmocka_unit_test(test_its_environment_is_the_one_given),
        cmocka_unit_test(test_failures_have_their_cause),
        cmocka_unit_test(test_a_script_without_an_interpreter_is_the_shells),
        cmocka_unit_test(test_path_is_searched),
        cmocka_unit_test(test_a_child_whose_pid_is_taken_does_nothing),
        cmocka_unit_test(test_a_note_is_read_without_waiting),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
