/* SPDX-License-Identifier: MIT */
/*
 * Tasks and lanes on a real pool. Work blocks until the test lets it go; deadlines are a few
 * milliseconds, and the test waits for what follows from them, not for the time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "jobs/task.h"

enum kind {
    KIND_LOOP,    /* done at once, on the loop */
    KIND_WORKER,  /* waits on a worker until it is let go */
    KIND_PENDING, /* waits on the loop for task_finish() */
    KIND_POLITE,  /* waits on a worker until it is interrupted */
};

struct item {
    struct task task;
    enum kind kind;
    char name;
    bool is_dynamic; /* freed when it is released, so that nobody looks at it again unseen */
    bool ended, released;
    enum task_outcome outcome;
    void (*in_ended)(struct item *item); /* what its end leads to, there and then */
    void (*in_released)(struct item *item);
    struct item *other;
};

static struct event_base *base;
static struct event *ticker;
static struct pool *pool;
static struct scheduler *scheduler;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char let_go[256]; /* guarded by lock: indexed by name */
static unsigned working; /* guarded by lock */
static char trace[512];  /* loop only: S(tart), E(nd), R(elease) and the name */

static void note(char what, const struct item *item)
{
    size_t length = strlen(trace);
    if (length + 3 > sizeof(trace))
        return;
    trace[length] = what;
    trace[length + 1] = item->name;
    trace[length + 2] = '\0';
}

static enum task_next on_start(struct task *task)
{
    struct item *item = list_entry(task, struct item, task);
    note('S', item);
    switch (item->kind) {
    case KIND_LOOP:
        return TASK_FINISHED;
    case KIND_PENDING:
        return TASK_PENDING;
    default:
        return TASK_TO_WORKER;
    }
}

static void on_work(struct task *task)
{
    struct item *item = list_entry(task, struct item, task);
    pthread_mutex_lock(&lock);
    working++;
    pthread_cond_broadcast(&changed);
    while (!let_go[(unsigned char)item->name]) {
        if (item->kind == KIND_POLITE) {
            pthread_mutex_unlock(&lock);
            bool interrupted = task_is_interrupted(task);
            sched_yield();
            pthread_mutex_lock(&lock);
            if (interrupted)
                break;
        } else {
            pthread_cond_wait(&changed, &lock);
        }
    }
    working--;
    pthread_mutex_unlock(&lock);
}

static enum task_next on_worked(struct task *task)
{
    return TASK_FINISHED;
}

static void on_ended(struct task *task, enum task_outcome outcome)
{
    struct item *item = list_entry(task, struct item, task);
    assert_false(item->ended);
    item->ended = true;
    item->outcome = outcome;
    note('E', item);
    if (item->in_ended)
        item->in_ended(item);
}

static void on_released(struct task *task)
{
    struct item *item = list_entry(task, struct item, task);
    assert_true(item->ended);
    assert_false(item->released);
    item->released = true;
    note('R', item);
    if (item->in_released)
        item->in_released(item);
    if (item->is_dynamic)
        free(item);
}

static const struct task_ops ops = {on_start, on_work, on_worked, on_ended, on_released};

static void on_tick(evutil_socket_t fd, short events, void *argument)
{
}

static int setup(void **state)
{
    trace[0] = '\0';
    memset(let_go, 0, sizeof(let_go));
    base = event_base_new();
    struct timeval every = {.tv_usec = 2000};
    ticker = event_new(base, -1, EV_PERSIST, on_tick, NULL);
    event_add(ticker, &every);
    struct pool_options options = {
        .workers = 2, .workers_max = 4, .lost_max = 2, .origins = 1, .idle_ms = 1000};
    assert_int_equal(pool_new(base, &options, &pool), 0);
    assert_int_equal(scheduler_new(base, pool, &scheduler), 0);
    return 0;
}

static int teardown(void **state)
{
    assert_true(pool_free(pool, 5000));
    scheduler_free(scheduler);
    event_free(ticker);
    event_base_free(base);
    return 0;
}

static void submit(struct item *item, char name, enum kind kind, const char *lane,
                   uint64_t deadline_ms)
{
    *item = (struct item){.kind = kind, .name = name};
    item->task.ops = &ops;
    item->task.name = "the task";
    item->task.deadline_ms = deadline_ms;
    assert_int_equal(task_submit(scheduler, &item->task, lane), 0);
}

static void release_work(char name)
{
    pthread_mutex_lock(&lock);
    let_go[(unsigned char)name] = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static unsigned count_working(void)
{
    pthread_mutex_lock(&lock);
    unsigned count = working;
    pthread_mutex_unlock(&lock);
    return count;
}

#define loop_until(expression) \
    while (!(expression))      \
    event_base_loop(base, EVLOOP_ONCE)

static void test_waits_for_its_permission(void **state)
{
    struct item a;
    submit(&a, 'a', KIND_LOOP, NULL, 0);
    assert_string_equal(trace, "");
    task_permit(&a.task);
    assert_string_equal(trace, "SaEaRa");
}

static void test_a_lane_keeps_the_order_of_tickets(void **state)
{
    struct item a, b, c, other;
    submit(&a, 'a', KIND_PENDING, "lane", 0);
    submit(&b, 'b', KIND_LOOP, "lane", 0);
    submit(&c, 'c', KIND_LOOP, "lane", 0);
    submit(&other, 'o', KIND_LOOP, "other lane", 0);
    task_permit(&c.task);
    task_permit(&b.task);
    task_permit(&other.task);
    assert_string_equal(trace, "SoEoRo");
    task_permit(&a.task);
    task_finish(&a.task);
    assert_string_equal(trace, "SoEoRoSaEaRaSbEbRbScEcRc");
}

static void test_no_worker_is_taken_by_what_waits_for_a_lane(void **state)
{
    struct item first, waiting[8];
    submit(&first, 'a', KIND_WORKER, "lane", 0);
    task_permit(&first.task);
    for (int i = 0; i < 8; i++) {
        submit(&waiting[i], (char)('b' + i), KIND_WORKER, "lane", 0);
        task_permit(&waiting[i].task);
    }
    loop_until(count_working() == 1);
    assert_int_equal(pool_counts(pool).queued, 0);
    for (int i = 0; i < 9; i++)
        release_work((char)('a' + i));
    loop_until(waiting[7].released);
}

static void test_cancels_only_what_has_not_begun(void **state)
{
    struct item a, b, c;
    submit(&a, 'a', KIND_PENDING, "lane", 0);
    submit(&b, 'b', KIND_LOOP, "lane", 0);
    submit(&c, 'c', KIND_LOOP, "lane", 0);
    task_permit(&a.task);
    task_permit(&c.task);
    assert_false(task_cancel(&a.task));
    assert_true(task_cancel(&b.task));
    assert_int_equal(b.outcome, TASK_CANCELLED);
    assert_false(c.ended);
    task_finish(&a.task);
    assert_int_equal(c.outcome, TASK_DONE);
}

static void test_cancelling_the_first_of_a_lane_lets_the_next_start(void **state)
{
    struct item a, b;
    submit(&a, 'a', KIND_LOOP, "lane", 0);
    submit(&b, 'b', KIND_LOOP, "lane", 0);
    task_permit(&b.task);
    assert_true(task_cancel(&a.task));
    assert_string_equal(trace, "EaRaSbEbRb");
}

static void test_a_deadline_interrupts(void **state)
{
    struct item a;
    submit(&a, 'a', KIND_POLITE, NULL, 5);
    task_permit(&a.task);
    loop_until(a.released);
    assert_int_equal(a.outcome, TASK_DONE);
    assert_true(task_is_interrupted(&a.task));
    assert_int_equal(pool_counts(pool).lost, 0);
}

static void test_a_lost_task_closes_its_lane_until_it_comes_back(void **state)
{
    struct item lost, queued, later, after;
    submit(&lost, 'l', KIND_WORKER, "lane", 5);
    submit(&queued, 'q', KIND_LOOP, "lane", 0);
    task_permit(&lost.task);
    task_permit(&queued.task);
    loop_until(lost.ended);
    assert_int_equal(lost.outcome, TASK_OVERDUE);
    assert_false(lost.released);
    assert_int_equal(queued.outcome, TASK_REFUSED);
    assert_string_equal(task_lane_blocker(&queued.task), "the task");
    submit(&later, 't', KIND_LOOP, "lane", 0);
    task_permit(&later.task);
    assert_int_equal(later.outcome, TASK_REFUSED);

    release_work('l');
    loop_until(lost.released);
    submit(&after, 'a', KIND_LOOP, "lane", 0);
    task_permit(&after.task);
    assert_int_equal(after.outcome, TASK_DONE);
    loop_until(pool_counts(pool).lost == 0);
}

static void test_a_deadline_before_a_worker_was_free_takes_it_back(void **state)
{
    struct item busy[2], waits;
    for (int i = 0; i < 2; i++) { /* the origin's share: half of four */
        submit(&busy[i], (char)('0' + i), KIND_WORKER, NULL, 0);
        task_permit(&busy[i].task);
    }
    submit(&waits, 'w', KIND_WORKER, NULL, 5);
    task_permit(&waits.task);
    loop_until(waits.released);
    assert_int_equal(waits.outcome, TASK_NOT_BEGUN);
    release_work('0');
    release_work('1');
    loop_until(busy[0].released && busy[1].released);
}

static void test_a_pending_task_can_be_overdue_and_come_back(void **state)
{
    struct item a;
    submit(&a, 'a', KIND_PENDING, "lane", 5);
    task_permit(&a.task);
    loop_until(a.ended);
    assert_int_equal(a.outcome, TASK_OVERDUE);
    assert_false(a.released);
    task_finish(&a.task);
    assert_true(a.released);
}

static struct item *make(char name, enum kind kind, const char *lane, uint64_t deadline_ms)
{
    struct item *item = malloc(sizeof(*item));
    assert_non_null(item);
    submit(item, name, kind, lane, deadline_ms);
    item->is_dynamic = true;
    return item;
}

static void permit_other(struct item *item)
{
    task_permit(&item->other->task);
}

static void cancel_other(struct item *item)
{
    assert_true(task_cancel(&item->other->task));
}

static void finish_self(struct item *item)
{
    task_finish(&item->task);
}

/* An answer gives the next request its turn. In a closed lane that one is refused before the first
 * refusal is through. */
static void test_refusals_inside_each_other(void **state)
{
    struct item lost;
    submit(&lost, 'l', KIND_PENDING, "lane", 5);
    task_permit(&lost.task);
    loop_until(lost.ended);
    trace[0] = '\0';
    struct item *a = make('a', KIND_LOOP, "lane", 0);
    struct item *b = make('b', KIND_LOOP, "lane", 0);
    a->in_ended = permit_other;
    a->other = b;
    task_permit(&a->task);
    assert_string_equal(trace, "EaEbRbRa");
    task_finish(&lost.task);
}

static void test_an_answer_may_finish_what_is_overdue(void **state)
{
    struct item *lost = make('l', KIND_PENDING, "lane", 5);
    struct item next;
    lost->in_ended = finish_self;
    submit(&next, 'n', KIND_LOOP, "lane", 0);
    task_permit(&lost->task);
    task_permit(&next.task);
    loop_until(next.released);
    assert_string_equal(trace, "SlElRlSnEnRn");
    assert_int_equal(next.outcome, TASK_DONE);
}

static void test_a_release_may_empty_its_lane(void **state)
{
    struct item *a = make('a', KIND_PENDING, "lane", 0);
    struct item *b = make('b', KIND_LOOP, "lane", 0);
    a->in_released = cancel_other;
    a->other = b;
    task_permit(&a->task);
    task_finish(&a->task);
    assert_string_equal(trace, "SaEaRaEbRb");
    struct item c;
    submit(&c, 'c', KIND_LOOP, "lane", 0);
    task_permit(&c.task);
    assert_int_equal(c.outcome, TASK_DONE);
}

/* What was cancelled must not start because its answer moved the lane. */
static void test_cancelled_means_not_started(void **state)
{
    struct item first, *a, *b;
    submit(&first, 'f', KIND_PENDING, "lane", 0);
    a = make('a', KIND_LOOP, "lane", 0);
    b = make('b', KIND_LOOP, "lane", 0);
    task_permit(&first.task);
    task_permit(&a->task);
    task_permit(&b->task);
    a->in_ended = cancel_other;
    a->other = b;
    assert_true(task_cancel(&a->task));
    assert_string_equal(trace, "SfEaEbRbRa");
    task_finish(&first.task);
}

/* Thousands that wait for one do not stand on each other's shoulders. */
static void test_a_long_lane_needs_no_stack(void **state)
{
    enum { COUNT = 200000 };
    struct item first, *last = NULL;
    submit(&first, 'f', KIND_PENDING, "lane", 0);
    task_permit(&first.task);
    for (int i = 0; i < COUNT; i++) {
        last = make('x', KIND_LOOP, "lane", 0);
        task_permit(&last->task);
    }
    last->is_dynamic = false;
    task_finish(&first.task);
    assert_true(last->released);
    free(last);
}

static void wait_for_clock_ms(uint64_t at_ms)
{
    while (clock_now_ms() < at_ms)
        sched_yield();
}

static void wait_for_idle_workers(unsigned count)
{
    while (pool_counts(pool).idle < count)
        sched_yield();
}

/* The loop finds the deadline's timer and the completion in one turn. */
static void test_a_deadline_at_the_moment_of_completion(void **state)
{
    struct item a;
    submit(&a, 'a', KIND_WORKER, "lane", 5);
    uint64_t start_ms = clock_now_ms();
    task_permit(&a.task);
    release_work('a');
    wait_for_clock_ms(start_ms + 20);
    wait_for_idle_workers(2);
    loop_until(a.released);
    assert_int_equal(a.outcome, TASK_DONE);
    assert_int_equal(pool_counts(pool).lost, 0);
}

/* It comes back when it is given up, and whichever the loop sees first, both ends come once. */
static void test_giving_up_at_the_moment_of_return(void **state)
{
    struct item a, next;
    submit(&a, 'a', KIND_WORKER, "lane", 5);
    submit(&next, 'n', KIND_LOOP, "lane", 0);
    task_permit(&a.task);
    loop_until(task_is_interrupted(&a.task));
    uint64_t start_ms = clock_now_ms();
    release_work('a');
    wait_for_clock_ms(start_ms + 1100);
    wait_for_idle_workers(2);
    loop_until(a.released);
    assert_true(a.outcome == TASK_DONE || a.outcome == TASK_OVERDUE);
    assert_int_equal(pool_counts(pool).lost, 0);
    task_permit(&next.task);
    assert_int_equal(next.outcome, TASK_DONE);
}

#define task_test(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        task_test(test_waits_for_its_permission),
        task_test(test_a_lane_keeps_the_order_of_tickets),
        task_test(test_no_worker_is_taken_by_what_waits_for_a_lane),
        task_test(test_cancels_only_what_has_not_begun),
        task_test(test_cancelling_the_first_of_a_lane_lets_the_next_start),
        task_test(test_a_deadline_interrupts),
        task_test(test_a_lost_task_closes_its_lane_until_it_comes_back),
        task_test(test_a_deadline_before_a_worker_was_free_takes_it_back),
        task_test(test_a_pending_task_can_be_overdue_and_come_back),
        task_test(test_refusals_inside_each_other),
        task_test(test_an_answer_may_finish_what_is_overdue),
        task_test(test_a_release_may_empty_its_lane),
        task_test(test_cancelled_means_not_started),
        task_test(test_a_long_lane_needs_no_stack),
        task_test(test_a_deadline_at_the_moment_of_completion),
        task_test(test_giving_up_at_the_moment_of_return),
    };
    return cmocka_run_group_tests_name("task", tests, NULL, NULL);
}
