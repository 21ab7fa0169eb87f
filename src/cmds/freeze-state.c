/* SPDX-License-Identifier: MIT */
#include "cmds/freeze-state.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"

/* How long a cancel may go unnoticed that nobody woke for: one by a deadline. */
enum { LOOK_AGAIN_MS = 100 };

struct freeze_state {
    atomic_int phase;

    pthread_mutex_t lock; /* held for moments only: the loop takes it, too */
    pthread_cond_t changed;
    unsigned slices; /* guarded by lock */
};

struct freeze_state *freeze_state_new(void)
{
    struct freeze_state *state = calloc(1, sizeof(*state));
    if (!state)
        return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&state->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&state->lock, NULL);
    atomic_init(&state->phase, FREEZE_THAWED);
    return state;
}

struct freeze_state *freeze_state_free(struct freeze_state *state)
{
    if (!state)
        return NULL;
    pthread_cond_destroy(&state->changed);
    pthread_mutex_destroy(&state->lock);
    free(state);
    return NULL;
}

void freeze_state_wake(struct freeze_state *state)
{
    pthread_mutex_lock(&state->lock);
    pthread_cond_broadcast(&state->changed);
    pthread_mutex_unlock(&state->lock);
}

/* Under the lock: a slice has either begun before, and is waited for, or sees the phase. */
void freeze_state_set(struct freeze_state *state, enum freeze_phase phase)
{
    assert_on_loop();
    pthread_mutex_lock(&state->lock);
    atomic_store(&state->phase, phase);
    pthread_cond_broadcast(&state->changed);
    pthread_mutex_unlock(&state->lock);
}

enum freeze_phase freeze_state_phase(const struct freeze_state *state)
{
    return (enum freeze_phase)atomic_load(&state->phase);
}

bool freeze_state_is_on(const struct freeze_state *state)
{
    return freeze_state_phase(state) != FREEZE_THAWED;
}

static void wait_locked(struct freeze_state *state)
{
    struct timespec until = clock_deadline(LOOK_AGAIN_MS);
    pthread_cond_timedwait(&state->changed, &state->lock, &until);
}

bool freeze_slice_begin(struct freeze_state *state, bool (*is_cancelled)(void *context),
                        void *context)
{
    bool is_over;
    pthread_mutex_lock(&state->lock);
    while (!(is_over = is_cancelled(context)) && freeze_state_is_on(state))
        wait_locked(state);
    if (!is_over)
        state->slices++;
    pthread_mutex_unlock(&state->lock);
    return !is_over;
}

void freeze_slice_end(struct freeze_state *state)
{
    pthread_mutex_lock(&state->lock);
    state->slices--;
    pthread_cond_broadcast(&state->changed);
    pthread_mutex_unlock(&state->lock);
}

bool freeze_state_wait_for_slices(struct freeze_state *state, bool (*is_cancelled)(void *context),
                                  void *context)
{
    bool is_over = false;
    pthread_mutex_lock(&state->lock);
    while (state->slices > 0 && !(is_over = is_cancelled(context)))
        wait_locked(state);
    pthread_mutex_unlock(&state->lock);
    return !is_over;
}
