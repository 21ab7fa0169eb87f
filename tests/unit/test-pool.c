/* SPDX-License-Identifier: MIT */
/*
 * The pool with real threads. Every wait is for a condition: work blocks on a gate that the test
 * opens, and the loop runs until what is expected has happened.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "jobs/pool.h"

struct fixture {
    struct event_base *base;
    struct pool *pool;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned begun;  /* guarded by lock */
    bool gate_open;  /* guarded by lock */
    unsigned worked; /* loop only */
};

struct item {
    struct pool_work work;
    struct fixture *fixture;
    int fd; /* >= 0: reads from it instead of waiting at the gate */
    int result;
};

static void begin(struct fixture *fixture)
{
    fixture->begun++;
    pthread_cond_broadcast(&fixture->changed);
}

static void wait_at_gate(struct pool_work *work)
{
    struct item *item = list_entry(work, struct item, work);
    struct fixture *fixture = item->fixture;
    pthread_mutex_lock(&fixture->lock);
    begin(fixture);
    while (!fixture->gate_open)
        pthread_cond_wait(&fixture->changed, &fixture->lock);
    pthread_mutex_unlock(&fixture->lock);
}

static void read_until_interrupted(struct pool_work *work)
{
    struct item *item = list_entry(work, struct item, work);
    pthread_mutex_lock(&item->fixture->lock);
    begin(item->fixture);
    pthread_mutex_unlock(&item->fixture->lock);
    char byte;
    item->result = 0;
    while (read(item->fd, &byte, 1) < 0) {
        item->result = -errno;
        if (pool_work_is_interrupted(work))
            return;
    }
}

static void on_worked(struct pool_work *work)
{
    list_entry(work, struct item, work)->fixture->worked++;
}

static void set_gate(struct fixture *fixture, bool open)
{
    pthread_mutex_lock(&fixture->lock);
    fixture->gate_open = open;
    pthread_cond_broadcast(&fixture->changed);
    pthread_mutex_unlock(&fixture->lock);
}

static void open_gate(struct fixture *fixture)
{
    set_gate(fixture, true);
}

static unsigned begun(struct fixture *fixture)
{
    pthread_mutex_lock(&fixture->lock);
    unsigned count = fixture->begun;
    pthread_mutex_unlock(&fixture->lock);
    return count;
}

/* Runs the loop until the expression holds; a hang is ended by the test's time limit. */
#define loop_until(fixture, expression) \
    while (!(expression))               \
    event_base_loop((fixture)->base, EVLOOP_ONCE)

/* A timer keeps loop_until() looking at what other threads change. */
static void on_tick(evutil_socket_t fd, short events, void *argument)
{
}

static struct event *ticker;

static void start(struct fixture *fixture, const struct pool_options *options)
{
    *fixture =
        (struct fixture){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    fixture->base = event_base_new();
    struct timeval every = {.tv_usec = 2000};
    ticker = event_new(fixture->base, -1, EV_PERSIST, on_tick, NULL);
    event_add(ticker, &every);
    assert_int_equal(pool_new(fixture->base, options, &fixture->pool), 0);
}

static void stop(struct fixture *fixture)
{
    open_gate(fixture);
    assert_true(pool_free(fixture->pool, 5000));
    event_free(ticker);
    event_base_free(fixture->base);
}

static void submit(struct fixture *fixture, struct item *item, unsigned origin, bool rescue)
{
    *item = (struct item){.fixture = fixture, .fd = -1};
    item->work.work = wait_at_gate;
    item->work.worked = on_worked;
    item->work.origin = origin;
    item->work.rescue = rescue;
    pool_submit(fixture->pool, &item->work);
}

static const struct pool_options small = {
    .workers = 2, .workers_max = 8, .lost_max = 4, .origins = 2, .idle_ms = 20};

static void test_work_comes_back_on_the_loop(void **state)
{
    struct fixture fixture;
    struct item items[100];
    start(&fixture, &small);
    open_gate(&fixture);
    for (size_t i = 0; i < 100; i++)
        submit(&fixture, &items[i], i % 2, false);
    loop_until(&fixture, fixture.worked == 100);
    assert_int_equal(begun(&fixture), 100);
    assert_int_equal(pool_counts(fixture.pool).queued, 0);
    stop(&fixture);
}

static void test_grows_when_work_waits_and_shrinks_again(void **state)
{
    struct fixture fixture;
    struct item items[8];
    start(&fixture, &small);
    for (size_t i = 0; i < 8; i++)
        submit(&fixture, &items[i], i % 2, false);
    loop_until(&fixture, begun(&fixture) == 8);
    assert_int_equal(pool_counts(fixture.pool).workers, 8);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 8 && pool_counts(fixture.pool).workers == 2);
    stop(&fixture);
}

static void test_one_origin_gets_half(void **state)
{
    struct fixture fixture;
    struct item hog[20], other;
    start(&fixture, &small);
    for (size_t i = 0; i < 20; i++)
        submit(&fixture, &hog[i], 0, false);
    loop_until(&fixture, begun(&fixture) == 4);
    submit(&fixture, &other, 1, false);
    loop_until(&fixture, begun(&fixture) == 5);
    assert_int_equal(pool_counts(fixture.pool).queued, 16);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 21);
    stop(&fixture);
}

static void test_rescue_worker_is_always_free_for_rescue(void **state)
{
    struct fixture fixture;
    struct item hogs[40], rescue;
    start(&fixture, &small);
    for (size_t i = 0; i < 40; i++)
        submit(&fixture, &hogs[i], i % 2, false);
    loop_until(&fixture, begun(&fixture) == 8);
    submit(&fixture, &rescue, 0, true);
    loop_until(&fixture, begun(&fixture) == 9);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 41);
    stop(&fixture);
}

static void test_withdraws_only_what_has_not_begun(void **state)
{
    struct fixture fixture;
    struct item items[10];
    start(&fixture, &small);
    for (size_t i = 0; i < 10; i++)
        submit(&fixture, &items[i], 0, false);
    loop_until(&fixture, begun(&fixture) == 4);
    assert_false(pool_withdraw(fixture.pool, &items[0].work));
    assert_true(pool_withdraw(fixture.pool, &items[9].work)); /* held: above the share */
    assert_int_equal(pool_counts(fixture.pool).queued, 5);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 9);
    assert_int_equal(begun(&fixture), 9);
    stop(&fixture);
}

static void test_interrupt_ends_a_system_call(void **state)
{
    struct fixture fixture;
    struct item item;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    start(&fixture, &small);
    item = (struct item){.fixture = &fixture, .fd = pipe_fds[0]};
    item.work.work = read_until_interrupted;
    item.work.worked = on_worked;
    pool_submit(fixture.pool, &item.work);
    loop_until(&fixture, begun(&fixture) == 1);
    while (fixture.worked == 0) { /* a signal before the read() is lost, so again */
        pool_interrupt(fixture.pool, &item.work);
        event_base_loop(fixture.base, EVLOOP_ONCE);
    }
    assert_int_equal(item.result, -EINTR);
    stop(&fixture);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void test_lost_workers_are_replaced_and_end_when_they_return(void **state)
{
    struct fixture fixture;
    struct item stuck[2], after;
    start(&fixture, &small);
    submit(&fixture, &stuck[0], 0, false);
    submit(&fixture, &stuck[1], 0, false);
    loop_until(&fixture, begun(&fixture) == 2);
    pool_give_up(fixture.pool, &stuck[0].work);
    pool_give_up(fixture.pool, &stuck[1].work);
    assert_int_equal(pool_counts(fixture.pool).lost, 2);
    assert_int_equal(pool_counts(fixture.pool).workers, 2);
    submit(&fixture, &after, 0, false);
    loop_until(&fixture, begun(&fixture) == 3);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 3 && pool_counts(fixture.pool).lost == 0);
    assert_int_equal(pool_counts(fixture.pool).workers, 2);
    stop(&fixture);
}

/* Three channels may have more at work than there are workers: what waits then has no idle worker
 * to hope for, only the room that a lost one leaves. */
static void test_a_lost_worker_leaves_room_for_what_waits(void **state)
{
    static const struct pool_options crowded = {
        .workers = 1, .workers_max = 2, .lost_max = 4, .origins = 3, .idle_ms = 1000};
    struct fixture fixture;
    struct item stuck[2], waiting;
    start(&fixture, &crowded);
    submit(&fixture, &stuck[0], 0, false);
    submit(&fixture, &stuck[1], 1, false);
    loop_until(&fixture, begun(&fixture) == 2);
    submit(&fixture, &waiting, 2, false);
    for (int i = 0; i < 100; i++) /* until the pool has seen that it cannot grow */
        event_base_loop(fixture.base, EVLOOP_ONCE);
    assert_int_equal(begun(&fixture), 2);
    pool_give_up(fixture.pool, &stuck[0].work);
    loop_until(&fixture, begun(&fixture) == 3);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 3 && pool_counts(fixture.pool).lost == 0);
    stop(&fixture);
}

/* A dead mount on one channel must not eat the workers of the others. */
static void test_one_origin_loses_at_most_half_of_what_is_replaced(void **state)
{
    static const struct pool_options options = {
        .workers = 1, .workers_max = 4, .lost_max = 4, .origins = 2, .idle_ms = 1000};
    struct fixture fixture;
    struct item stuck[10], other;
    start(&fixture, &options);
    for (unsigned i = 0; i < 10; i++)
        submit(&fixture, &stuck[i], 0, false);
    for (unsigned i = 0; i < 4; i++) { /* two are lost and replaced, two more have the share */
        loop_until(&fixture, begun(&fixture) > i);
        pool_give_up(fixture.pool, &stuck[i].work);
    }
    assert_int_equal(pool_counts(fixture.pool).lost, 2);
    assert_int_equal(pool_counts(fixture.pool).queued, 6);
    submit(&fixture, &other, 1, false);
    loop_until(&fixture, begun(&fixture) == 5);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 11 && pool_counts(fixture.pool).lost == 0);
    set_gate(&fixture, false); /* what came back can be lost again */
    for (unsigned i = 0; i < 3; i++)
        submit(&fixture, &stuck[i], 0, false);
    loop_until(&fixture, begun(&fixture) == 13);
    pool_give_up(fixture.pool, &stuck[0].work);
    pool_give_up(fixture.pool, &stuck[1].work);
    assert_int_equal(pool_counts(fixture.pool).lost, 2);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 14);
    stop(&fixture);
}

static void test_a_lost_rescue_worker_is_replaced(void **state)
{
    struct fixture fixture;
    struct item stuck, rescue;
    start(&fixture, &small);
    submit(&fixture, &stuck, 0, true);
    loop_until(&fixture, begun(&fixture) == 1);
    submit(&fixture, &rescue, 0, true);
    pool_give_up(fixture.pool, &stuck.work);
    loop_until(&fixture, begun(&fixture) == 2);
    assert_int_equal(pool_counts(fixture.pool).lost, 1);
    assert_int_equal(pool_counts(fixture.pool).workers, 2);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 2 && pool_counts(fixture.pool).lost == 0);
    submit(&fixture, &stuck, 0, true); /* one is left */
    loop_until(&fixture, fixture.worked == 3);
    stop(&fixture);
}

/* It is in the done queue when its deadline comes: not begun no more, not stuck, not lost. */
static void test_what_has_just_been_worked_is_neither_withdrawn_nor_lost(void **state)
{
    struct fixture fixture;
    struct item item;
    start(&fixture, &small);
    open_gate(&fixture);
    submit(&fixture, &item, 0, false);
    while (begun(&fixture) == 0 || pool_counts(fixture.pool).idle < 2)
        sched_yield(); /* the loop does not run, so it stays in the queue */
    assert_false(pool_withdraw(fixture.pool, &item.work));
    pool_interrupt(fixture.pool, &item.work);
    pool_give_up(fixture.pool, &item.work);
    char where[64];
    pool_describe_stuck(fixture.pool, &item.work, where, sizeof(where));
    assert_string_equal(where, "");
    assert_int_equal(pool_counts(fixture.pool).lost, 0);
    loop_until(&fixture, fixture.worked == 1);
    struct item hogs[5]; /* its place was given back, once */
    set_gate(&fixture, false);
    for (unsigned i = 0; i < 5; i++)
        submit(&fixture, &hogs[i], 0, false);
    loop_until(&fixture, begun(&fixture) == 5);
    assert_int_equal(pool_counts(fixture.pool).queued, 1);
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 6);
    stop(&fixture);
}

/* The first signal comes before the system call and is lost. */
static void read_after_the_signal(struct pool_work *work)
{
    struct item *item = list_entry(work, struct item, work);
    pthread_mutex_lock(&item->fixture->lock);
    begin(item->fixture);
    pthread_mutex_unlock(&item->fixture->lock);
    while (!pool_work_is_interrupted(work))
        sched_yield();
    for (int i = 0; i < 1000; i++)
        sched_yield();
    char byte;
    item->result = read(item->fd, &byte, 1) < 0 ? -errno : 0;
}

static void test_free_interrupts_until_it_helps(void **state)
{
    struct fixture fixture;
    struct item item;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    start(&fixture, &small);
    item = (struct item){.fixture = &fixture, .fd = pipe_fds[0]};
    item.work.work = read_after_the_signal;
    item.work.worked = on_worked;
    pool_submit(fixture.pool, &item.work);
    loop_until(&fixture, begun(&fixture) == 1);
    assert_false(pool_free(fixture.pool, 60 * 1000)); /* cut short, so it was not given back */
    assert_int_equal(item.result, -EINTR);
    loop_until(&fixture, fixture.worked == 1);
    stop(&fixture);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void test_free_reports_a_stuck_worker(void **state)
{
    struct fixture fixture;
    struct item item;
    start(&fixture, &small);
    submit(&fixture, &item, 0, false);
    loop_until(&fixture, begun(&fixture) == 1);
    assert_false(pool_free(fixture.pool, 10));
    open_gate(&fixture);
    loop_until(&fixture, fixture.worked == 1);
    stop(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_work_comes_back_on_the_loop),
        cmocka_unit_test(test_grows_when_work_waits_and_shrinks_again),
        cmocka_unit_test(test_one_origin_gets_half),
        cmocka_unit_test(test_rescue_worker_is_always_free_for_rescue),
        cmocka_unit_test(test_withdraws_only_what_has_not_begun),
        cmocka_unit_test(test_interrupt_ends_a_system_call),
        cmocka_unit_test(test_lost_workers_are_replaced_and_end_when_they_return),
        cmocka_unit_test(test_a_lost_worker_leaves_room_for_what_waits),
        cmocka_unit_test(test_one_origin_loses_at_most_half_of_what_is_replaced),
        cmocka_unit_test(test_a_lost_rescue_worker_is_replaced),
        cmocka_unit_test(test_what_has_just_been_worked_is_neither_withdrawn_nor_lost),
        cmocka_unit_test(test_free_interrupts_until_it_helps),
        cmocka_unit_test(test_free_reports_a_stuck_worker),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
