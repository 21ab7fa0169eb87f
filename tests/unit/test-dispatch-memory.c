/* SPDX-License-Identifier: MIT */
/*
 * One conversation over and over: each time another allocation fails, or all from there on.
 * Whatever fails, every request is carried through once, and the host gets its replies in order or
 * loses the connection. (The linker puts the functions below in front of the allocator, see
 * meson.build.)
 */
#include "dispatch-harness.h"

#include <limits.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/channel.h"
#include "io/session.h"

/* --- the allocator --- */

static atomic_long left = LONG_MAX; /* allocations that still succeed */
static atomic_bool fails_once;

static bool is_to_fail(void)
{
    long before = atomic_fetch_sub(&left, 1);
    return before == 1 || (before < 1 && !atomic_load(&fails_once));
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size)
{
    return is_to_fail() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return is_to_fail() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *block, size_t size)
{
    return is_to_fail() ? NULL : __real_realloc(block, size);
}

char *__wrap_strdup(const char *text)
{
    return is_to_fail() ? NULL : __real_strdup(text);
}

/* --- the conversation --- */

static struct channel *channel;
static int end_error;

static void on_ended(void *context, struct channel *ended, int error)
{
    assert_ptr_equal(ended, channel);
    end_error = error;
    channel = channel_free(channel);
}

/* Without an id, so that the replies come in this order. */
static const char *const requests[] = {
    "{\"execute\":\"thawed\",\"arguments\":{\"name\":\"a\"}}",
    "{\"execute\":\"work\",\"arguments\":{\"name\":\"b\"}}",
    "{\"execute\":\"expires\",\"arguments\":{\"name\":\"c\"}}",
    "{\"execute\":\"work-apart\",\"arguments\":{\"name\":\"d\"}}",
    "{\"execute\":\"loop\",\"arguments\":{}}",
    "{\"execute\":\"delimited\",\"arguments\":{\"id\":1}}",
    "{\"execute\":\"rescue\",\"arguments\":{\"name\":\"e\"}}",
    "{bad}\n",
    "{\"execute\":\"thawed\",\"arguments\":{\"name\":\"f\"}}",
};

static void post_all(int host)
{
    static char padding[70 * 1000];
    memset(padding, ' ', sizeof(padding));
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        size_t length = strlen(requests[i]);
        assert_int_equal(write(host, requests[i], length - 1), (ssize_t)length - 1);
        if (i == 3) /* large: for a worker to read */
            assert_int_equal(write(host, padding, sizeof(padding)), sizeof(padding));
        assert_int_equal(write(host, requests[i] + length - 1, 1), 1);
    }
    shutdown(host, SHUT_WR);
}

static unsigned count_lines(int host)
{
    char bytes[8192];
    unsigned lines = 0;
    ssize_t length;
    while ((length = read(host, bytes, sizeof(bytes))) > 0)
        for (ssize_t i = 0; i < length; i++)
            lines += bytes[i] == '\n';
    return lines;
}

/* Returns whether an allocation failed. */
static bool converse(long fail_at, bool once)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    struct channel_options options = {
        .kind = CHANNEL_SOCKET,
        .endpoint = &endpoints[0],
        .handler = dispatcher_request_handler(),
        .handler_context = services.dispatcher,
        .ended = on_ended,
    };
    trace[0] = '\0';
    end_error = -1;
    int buffer_bytes = 1024 * 1024;
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
    post_all(fds[1]);
    assert_int_equal(channel_new(base, fds[0], &options, &channel), 0);

    uint64_t began_ms = clock_now_ms();
    atomic_store(&fails_once, once);
    atomic_store(&left, fail_at);
    loop_until(!channel && endpoints[0].pending_bytes == 0 && scheduler_is_idle(scheduler));
    bool has_failed = atomic_exchange(&left, LONG_MAX) < 1;

    /* Where the machine stood still for so long, the sync gave up what came before it. */
    bool is_late = clock_now_ms() - began_ms >= SESSION_GRACE_MS;
    unsigned lines = count_lines(fds[1]);
    if (end_error == 0 && !is_late)
        assert_int_equal(lines, ARRAY_SIZE(requests));
    else
        assert_in_range(lines, 0, ARRAY_SIZE(requests) - (end_error != 0));
    if (!has_failed)
        assert_int_equal(end_error, 0);
    assert_int_equal(endpoints[0].pending, 0);
    close(fds[1]);
    return has_failed;
}

static void converse_until_nothing_fails(bool once)
{
    for (int name = 0; name < NAMES; name++)
        let_go((char)name);
    long fail_at = 1;
    while (converse(fail_at, once))
        fail_at++;
    assert_true(fail_at > 100);
}

static void test_one_allocation_fails(void **state)
{
    converse_until_nothing_fails(true);
}

static void test_all_allocations_fail_from_there_on(void **state)
{
    converse_until_nothing_fails(false);
}

static void test_setting_up(void **state)
{
    struct pool_options options = {.workers = 2, .workers_max = 4, .origins = 1, .idle_ms = 1000};
    int error = -ENOMEM;
    atomic_store(&fails_once, true);
    for (long fail_at = 1; error; fail_at++) {
        struct event_base *other_base = event_base_new();
        struct pool *other_pool = NULL;
        struct scheduler *other = NULL;
        atomic_store(&left, fail_at);
        error = pool_new(other_base, &options, &other_pool);
        if (!error)
            error = scheduler_new(other_base, other_pool, &other);
        bool has_failed = atomic_exchange(&left, LONG_MAX) < 1;
        if (!has_failed) /* a worker may be missing: that is no failure */
            assert_int_equal(error, 0);
        else if (!error)
            error = -ENOMEM;
        scheduler_free(other);
        assert_true(pool_free(other_pool, 5000));
        event_base_free(other_base);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_setting_up),
        dispatch_test(test_one_allocation_fails),
        dispatch_test(test_all_allocations_fail_from_there_on),
    };
    event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
    return cmocka_run_group_tests_name("dispatch-memory", tests, NULL, NULL);
}
