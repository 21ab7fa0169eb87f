/* SPDX-License-Identifier: MIT */
/*
 * The agent's end and a real guard in a process of its own; only that there is nothing to thaw: its
 * file systems are a pipe's ends, which cannot be frozen. What it does to real ones is tested in
 * tests/wire.
 */
#include "jobs/guard-link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jobs/freeze-record.h"
#include "jobs/guard-protocol.h"
#include "jobs/thaw-guard.h"

enum { WAIT_MS = 60 * 1000, FAR_MS = 600 * 1000 };

static char path[] = "/tmp/bellhop-guard-XXXXXX";
static int directory = -1;
static struct guard_link *links;
static pid_t guard;
static int ends[2];

static int make_directory(void **state)
{
    strcpy(path, "/tmp/bellhop-guard-XXXXXX");
    assert_non_null(mkdtemp(path));
    directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(pipe(ends), 0);
    guard = 0;
    return 0;
}

static int remove_directory(void **state)
{
    links = guard_link_free(links);
    (void)unlinkat(directory, GUARD_SOCKET_NAME, 0);
    (void)unlinkat(directory, "freeze", 0);
    close(directory);
    close(ends[0]);
    close(ends[1]);
    return rmdir(path);
}

static void start_guard(void)
{
    fflush(NULL);
    guard = fork();
    if (guard > 0)
        return;
    char name[] = "bellhopd", word[] = THAW_GUARD_ARGUMENT;
    char *arguments[] = {name, word, path, NULL};
    close(directory);
    guard_link_free(links);           /* what an exec would close */
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it hears no other signal */
    _exit(thaw_guard_main(3, arguments));
}

static int wait_for_guard(void)
{
    int status;
    assert_int_equal(waitpid(guard, &status, 0), guard);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool never(void *context)
{
    return false;
}

static bool always(void *context)
{
    return true;
}

static int arm(uint64_t deadline_ms)
{
    bool is_locked;
    struct guard_orders orders = {
        .fds = ends,
        .count = 2,
        .deadline_ms = deadline_ms,
        .timeout_ms = WAIT_MS,
        .is_cancelled = never,
    };
    return guard_link_arm(links, &orders, &is_locked);
}

static void start_armed(uint64_t deadline_ms)
{
    assert_int_equal(guard_link_listen(directory, &links), 0);
    start_guard();
    int error = arm(deadline_ms);
    if (error == -EPERM) /* not root: it may not thaw, and says so */
        skip();
    assert_int_equal(error, 0);
}

static void test_a_thaw_in_time(void **state)
{
    struct stat status;
    uint64_t deadline_ms = guard_clock_ms() + FAR_MS;
    start_armed(deadline_ms);
    assert_int_equal(fstatat(directory, GUARD_SOCKET_NAME, &status, 0), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    guard_link_settled(links);
    assert_false(guard_link_has_fired(links));
    struct guard_news news = guard_link_ask(links);
    assert_false(news.is_gone || news.has_fired || news.is_finished);
    assert_int_equal(news.deadline_ms, deadline_ms);
    news = guard_link_claim(links);
    assert_false(news.is_gone || news.has_fired || news.is_finished);
    guard_link_done(links, true);
    assert_int_equal(wait_for_guard(), 0);
    assert_true(guard_link_ask(links).is_gone);
    assert_int_equal(freeze_record_read(directory).state, FREEZE_RECORD_NONE);
}

static void test_nothing_was_frozen(void **state)
{
    start_armed(guard_clock_ms() + FAR_MS);
    guard_link_done(links, false);
    assert_int_equal(wait_for_guard(), 0);
}

/* More than go with one message, and more than a guard has threads. */
static void test_many_file_systems(void **state)
{
    bool is_locked;
    int fds[600];
    for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = ends[0];
    struct guard_orders orders = {.fds = fds,
                                  .count = ARRAY_SIZE(fds),
                                  .deadline_ms = guard_clock_ms() + FAR_MS,
                                  .timeout_ms = WAIT_MS,
                                  .is_cancelled = never};
    assert_int_equal(guard_link_listen(directory, &links), 0);
    start_guard();
    int error = guard_link_arm(links, &orders, &is_locked);
    if (error == -EPERM)
        skip();
    assert_int_equal(error, 0);
    guard_link_settled(links);
    guard_link_claim(links);
    guard_link_done(links, true);
    assert_int_equal(wait_for_guard(), 0);
}

static struct guard_news told_news;
static unsigned told_count;

static void on_news(void *context, const struct guard_news *news)
{
    told_news = *news;
    told_count++;
}

static void test_the_deadline(void **state)
{
    struct event_base *base = event_base_new();
    told_count = 0;
    start_armed(guard_clock_ms() + 50);
    guard_link_settled(links);
    assert_int_equal(guard_link_watch(links, base, on_news, NULL), 0);
    while (told_count == 0 || !told_news.is_finished)
        event_base_loop(base, EVLOOP_ONCE);
    assert_true(told_news.has_fired);
    assert_false(told_news.is_incomplete);
    struct freeze_record record = freeze_record_read(directory);
    assert_int_equal(record.state, FREEZE_RECORD_EXPIRED);
    struct guard_news news = guard_link_claim(links);
    assert_true(news.has_fired && news.is_finished);
    guard_link_done(links, true);
    assert_int_equal(wait_for_guard(), 0);
    while (!told_news.is_gone)
        event_base_loop(base, EVLOOP_ONCE);
    guard_link_unwatch(links);
    event_base_free(base);
}

/* While the freeze has not returned it does not come to its end. */
static void test_the_deadline_in_the_midst_of_a_freeze(void **state)
{
    start_armed(guard_clock_ms() + 1);
    while (!guard_link_has_fired(links))
        ;
    struct guard_news news = guard_link_ask(links);
    assert_true(news.has_fired);
    assert_false(news.is_finished);
    guard_link_settled(links);
    while (!guard_link_ask(links).is_finished)
        ;
    guard_link_done(links, true);
    assert_int_equal(wait_for_guard(), 0);
}

/* Claimed, and then the agent's end is gone: it thaws, and nothing was wrong with the freeze. */
static void test_who_claims_and_goes_away(void **state)
{
    struct freeze_record record = {.state = FREEZE_RECORD_FROZEN};
    start_armed(guard_clock_ms() + FAR_MS);
    guard_link_settled(links);
    assert_int_equal(freeze_record_write(directory, &record), 0);
    guard_link_claim(links);
    links = guard_link_free(links);
    assert_int_equal(wait_for_guard(), 0);
    assert_int_equal(freeze_record_read(directory).state, FREEZE_RECORD_NONE);
}

/* Who goes away without that leaves it to the deadline, or to who comes next. */
static void test_found_again(void **state)
{
    uint64_t deadline_ms = guard_clock_ms() + FAR_MS;
    start_armed(deadline_ms);
    guard_link_settled(links);
    links = guard_link_free(links);
    assert_int_equal(guard_link_find(directory, &links), 0);
    assert_int_equal(guard_link_ask(links).deadline_ms, deadline_ms);
    guard_link_claim(links);
    guard_link_done(links, true);
    assert_int_equal(wait_for_guard(), 0);
    struct guard_link *none;
    assert_int_equal(guard_link_find(directory, &none), -ECONNREFUSED);
}

static void test_no_guard_to_be_found(void **state)
{
    assert_int_equal(guard_link_find(directory, &links), -ECONNREFUSED);
}

static void test_one_that_does_not_come(void **state)
{
    bool is_locked;
    struct guard_orders orders = {.fds = ends, .count = 2, .timeout_ms = 30, .is_cancelled = never};
    assert_int_equal(guard_link_listen(directory, &links), 0);
    assert_int_equal(guard_link_arm(links, &orders, &is_locked), -ETIMEDOUT);
    orders.timeout_ms = WAIT_MS;
    orders.is_cancelled = always;
    assert_int_equal(guard_link_arm(links, &orders, &is_locked), -ECANCELED);
}

static void test_one_that_is_not_wanted_any_more(void **state)
{
    assert_int_equal(guard_link_listen(directory, &links), 0);
    start_guard();
    links = guard_link_free(links); /* perhaps before it has come */
    assert_int_equal(wait_for_guard(), EXIT_FAILURE);
}

/* True once it sleeps under its own name: so it has connected, and waits for orders. */
static bool waits_for_orders(void)
{
    char name[64], line[256] = "";
    snprintf(name, sizeof(name), "/proc/%d/stat", (int)guard);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, line, sizeof(line) - 1) > 0);
    close(fd);
    return strstr(line, "(bellhop-guard) S") != NULL;
}

/* It gets ready after the agent's patience is over: it would thaw what a later freeze has taken. */
static void test_one_that_is_ready_too_late(void **state)
{
    bool is_locked;
    struct guard_orders orders = {.fds = ends,
                                  .count = 2,
                                  .deadline_ms = guard_clock_ms() + FAR_MS,
                                  .timeout_ms = 30,
                                  .is_cancelled = never};
    assert_int_equal(guard_link_listen(directory, &links), 0);
    start_guard();
    while (!waits_for_orders())
        usleep(1000);
    kill(guard, SIGSTOP);
    assert_int_equal(guard_link_arm(links, &orders, &is_locked), -ETIMEDOUT);
    links = guard_link_free(links);
    kill(guard, SIGCONT);
    wait_for_guard();
    assert_int_equal(freeze_record_read(directory).state, FREEZE_RECORD_NONE);
}

#define guard_test(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        guard_test(test_a_thaw_in_time),
        guard_test(test_nothing_was_frozen),
        guard_test(test_many_file_systems),
        guard_test(test_the_deadline),
        guard_test(test_the_deadline_in_the_midst_of_a_freeze),
        guard_test(test_who_claims_and_goes_away),
        guard_test(test_found_again),
        guard_test(test_no_guard_to_be_found),
        guard_test(test_one_that_does_not_come),
        guard_test(test_one_that_is_not_wanted_any_more),
        guard_test(test_one_that_is_ready_too_late),
    };
    return cmocka_run_group_tests_name("guard-link", tests, NULL, NULL);
}
