/* SPDX-License-Identifier: MIT */
#include "cmds/freeze-state.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool is_set(void *flag)
{
    return atomic_load((atomic_bool *)flag);
}

/* One slice on a thread of its own. */
struct slicer {
    struct freeze_state *state;
    atomic_bool is_cancelled;
    atomic_bool has_begun;
    bool result;
    pthread_t thread;
};

static void *run_slice(void *argument)
{
    struct slicer *slicer = argument;
    thread_set_role(THREAD_WORKER);
    slicer->result = freeze_slice_begin(slicer->state, is_set, &slicer->is_cancelled);
    atomic_store(&slicer->has_begun, slicer->result);
    if (slicer->result)
        freeze_slice_end(slicer->state);
    return NULL;
}

static void slicer_start(struct slicer *slicer, struct freeze_state *state)
{
    *slicer = (struct slicer){.state = state};
    assert_int_equal(pthread_create(&slicer->thread, NULL, run_slice, slicer), 0);
}

static void test_phases(void **unused)
{
    struct freeze_state *state = freeze_state_new();
    assert_non_null(state);
    assert_int_equal(freeze_state_phase(state), FREEZE_THAWED);
    assert_false(freeze_state_is_on(state));
    const enum freeze_phase phases[] = {FREEZE_FREEZING, FREEZE_FROZEN, FREEZE_THAWING};
    for (size_t i = 0; i < 3; i++) {
        freeze_state_set(state, phases[i]);
        assert_int_equal(freeze_state_phase(state), phases[i]);
        assert_true(freeze_state_is_on(state));
    }
    freeze_state_set(state, FREEZE_THAWED);
    assert_false(freeze_state_is_on(state));
    assert_null(freeze_state_free(state));
    assert_null(freeze_state_free(NULL));
}

static void test_a_slice_waits_for_the_thaw(void **unused)
{
    struct freeze_state *state = freeze_state_new();
    struct slicer slicer;
    freeze_state_set(state, FREEZE_FROZEN);
    slicer_start(&slicer, state);
    freeze_state_set(state, FREEZE_THAWING);
    assert_false(atomic_load(&slicer.has_begun));
    freeze_state_set(state, FREEZE_THAWED);
    pthread_join(slicer.thread, NULL);
    assert_true(slicer.result);
    freeze_state_free(state);
}

static void test_a_paused_slice_is_cancelled(void **unused)
{
    struct freeze_state *state = freeze_state_new();
    struct slicer slicer;
    freeze_state_set(state, FREEZE_FROZEN);
    slicer_start(&slicer, state);
    atomic_store(&slicer.is_cancelled, true);
    freeze_state_wake(state);
    pthread_join(slicer.thread, NULL);
    assert_false(slicer.result);
    assert_int_equal(freeze_state_phase(state), FREEZE_FROZEN);
    freeze_state_free(state);
}

static void *end_slice(void *state)
{
    freeze_slice_end(state);
    return NULL;
}

static void test_a_freeze_waits_for_the_slice_that_runs(void **unused)
{
    struct freeze_state *state = freeze_state_new();
    atomic_bool never = false, at_once = true;
    pthread_t thread;
    assert_true(freeze_state_wait_for_slices(state, is_set, &never));
    assert_true(freeze_slice_begin(state, is_set, &never));
    freeze_state_set(state, FREEZE_FREEZING);
    assert_false(freeze_state_wait_for_slices(state, is_set, &at_once));
    assert_int_equal(pthread_create(&thread, NULL, end_slice, state), 0);
    assert_true(freeze_state_wait_for_slices(state, is_set, &never));
    pthread_join(thread, NULL);
    freeze_state_free(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_phases),
        cmocka_unit_test(test_a_slice_waits_for_the_thaw),
        cmocka_unit_test(test_a_paused_slice_is_cancelled),
        cmocka_unit_test(test_a_freeze_waits_for_the_slice_that_runs),
    };
    thread_set_role(THREAD_LOOP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
