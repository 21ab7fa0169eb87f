/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/probe.h"

/* A question is stuck in this gate until the test opens it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool is_open;
static unsigned waiting, released;
static unsigned made; /* the test's own: how many are to be released */

enum { LONG_MS = 60000, SHORT_MS = 100 };

struct question {
    bool gets_stuck;
    int number;
    int answer;
    char *owned;
};

static void ask(void *argument)
{
    struct question *question = argument;
    pthread_mutex_lock(&lock);
    if (question->gets_stuck) {
        waiting++;
        pthread_cond_broadcast(&changed);
        while (!is_open)
            pthread_cond_wait(&changed, &lock);
        waiting--;
    }
    question->answer = question->number * 2;
    pthread_mutex_unlock(&lock);
}

static void release(void *argument)
{
    struct question *question = argument;
    free(question->owned);
    pthread_mutex_lock(&lock);
    released++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void open_gate(bool open)
{
    pthread_mutex_lock(&lock);
    is_open = open;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static unsigned get(const unsigned *value)
{
    pthread_mutex_lock(&lock);
    unsigned now = *value;
    pthread_mutex_unlock(&lock);
    return now;
}

static void wait_for(unsigned *value, unsigned expected)
{
    pthread_mutex_lock(&lock);
    while (*value != expected)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static int close_gate(void **state)
{
    open_gate(false);
    return 0;
}

/* Nothing is left of a test: every question is freed, every thread is done with it. */
static int wait_for_all(void **state)
{
    open_gate(true);
    wait_for(&released, made);
    return 0;
}

/* Questions 0 ... count - 1, whose keys begin at `key`; those in `stuck`, a bit mask, get stuck. */
static struct probe_set *make(size_t count, unsigned stuck, uint64_t key)
{
    struct probe_set *set = probe_set_new(count, sizeof(struct question), ask, release);
    assert_non_null(set);
    made += (unsigned)count;
    for (size_t i = 0; i < count; i++) {
        struct question *question = probe_set_question(set, i);
        *question = (struct question){
            .gets_stuck = i < 32 && (stuck >> i & 1),
            .number = (int)i + 1,
            .owned = malloc(10),
        };
        probe_set_key(set, i, key + i);
    }
    return set;
}

/* Bits of the questions that were answered; the answers must be right. */
static unsigned answered(struct probe_set *set, size_t count)
{
    unsigned bits = 0;
    for (size_t i = 0; i < count; i++) {
        const struct question *question = probe_set_answer(set, i);
        if (question) {
            assert_int_equal(question->answer, (i + 1) * 2);
            bits |= 1U << i;
        }
    }
    return bits;
}

static void test_all_answer(void **state)
{
    struct probe_set *set = make(10, 0, 100);
    probe_set_run(set, LONG_MS);
    assert_int_equal(answered(set, 10), 0x3ff);
    assert_false(probe_set_is_late(set, 0));
    assert_null(probe_set_unref(set));

    set = make(0, 0, 100);
    probe_set_run(set, LONG_MS);
    probe_set_unref(set);
    probe_set_unref(NULL);
}

static void test_one_does_not_hold_up_the_others(void **state)
{
    struct probe_set *set = make(10, 1 << 0 | 1 << 4, 200);
    uint64_t begin = clock_now_ms();
    probe_set_run(set, 1000);
    assert_true(clock_now_ms() - begin < 10000);
    assert_int_equal(answered(set, 10), 0x3ff & ~(1 << 0 | 1 << 4));
    assert_true(probe_set_is_late(set, 0));
    assert_true(probe_set_is_late(set, 4));
    assert_false(probe_set_is_late(set, 1));
    probe_set_unref(set);
    assert_true(get(&released) < made); /* the questions are still needed */

    /* They are not asked again while they are stuck: nothing to wait for. */
    set = make(10, 1 << 0, 200);
    probe_set_run(set, LONG_MS);
    assert_int_equal(answered(set, 10), 0x3ff & ~(1 << 0 | 1 << 4));
    assert_false(probe_set_is_late(set, 0));
    probe_set_unref(set);
    wait_for(&waiting, 2);

    /* Once they have come back they are. */
    wait_for_all(state);
    set = make(10, 0, 200);
    probe_set_run(set, LONG_MS);
    assert_int_equal(answered(set, 10), 0x3ff);
    probe_set_unref(set);
}

/* Opens the gate when the question has come there. */
static void *open_later(void *unused)
{
    wait_for(&waiting, 1);
    open_gate(true);
    return unused;
}

static void test_one_that_comes_back_in_time_is_answered(void **state)
{
    struct probe_set *set = make(3, 1 << 0, 300);
    pthread_t opener;
    assert_int_equal(pthread_create(&opener, NULL, open_later, NULL), 0);
    probe_set_run(set, LONG_MS);
    assert_int_equal(answered(set, 3), 7);
    pthread_join(opener, NULL);
    probe_set_unref(set);
}

static void test_stuck_threads_are_limited(void **state)
{
    unsigned sets = 0;
    for (uint64_t key = 1000; get(&waiting) < PROBE_STUCK_MAX; key += 8, sets++) {
        struct probe_set *set = make(8, 0xff, key);
        probe_set_run(set, 8 * SHORT_MS);
        probe_set_unref(set);
        assert_true(sets < PROBE_STUCK_MAX);
    }
    /* Now nothing is asked any more, what nobody is stuck with included. */
    struct probe_set *set = make(4, 0, 5000);
    probe_set_run(set, LONG_MS);
    assert_int_equal(answered(set, 4), 0);
    probe_set_unref(set);
    wait_for_all(state);
    set = make(4, 0, 5000);
    probe_set_run(set, LONG_MS);
    assert_int_equal(answered(set, 4), 0xf);
    probe_set_unref(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_answer, close_gate, wait_for_all),
        cmocka_unit_test_setup_teardown(test_one_does_not_hold_up_the_others, close_gate,
                                        wait_for_all),
        cmocka_unit_test_setup_teardown(test_one_that_comes_back_in_time_is_answered, close_gate,
                                        wait_for_all),
        cmocka_unit_test_setup_teardown(test_stuck_threads_are_limited, close_gate, wait_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
