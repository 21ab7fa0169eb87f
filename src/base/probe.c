/* SPDX-License-Identifier: MIT */
#include "base/probe.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

/* A thread that has not come back after this time is taken for stuck, and another one goes on. */
enum { PATIENCE_MS = 50, STACK_BYTES = 256 * 1024 };

enum state { WAITING, ASKED, ANSWERED, LATE, SKIPPED };

struct probe {
    uint64_t key;
    enum state state;
};

struct probe_set {
    /* immutable once it runs */
    size_t count;
    size_t question_size;
    probe_function ask;
    void (*release)(void *question);

    pthread_mutex_t lock;
    /* guarded by it */
    pthread_cond_t all_finished;
    size_t references;
    size_t next;     /* the first that nobody has asked yet */
    size_t finished; /* answered or skipped, and not late */
    bool is_over;    /* nobody waits any more */
    struct probe *probes;

    /* A question is its asker's from ASKED on, and the caller's again once it is ANSWERED. */
    char *questions;
};

/* --- who is stuck, for all sets --- */

static pthread_mutex_t stuck_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t stuck_keys[PROBE_STUCK_MAX]; /* a key may stand there more than once */
static size_t stuck_count;

static bool is_stuck(uint64_t key)
{
    pthread_mutex_lock(&stuck_lock);
    bool found = stuck_count == PROBE_STUCK_MAX;
    for (size_t i = 0; i < stuck_count; i++)
        found |= stuck_keys[i] == key;
    pthread_mutex_unlock(&stuck_lock);
    return found;
}

static void note_stuck(uint64_t key)
{
    pthread_mutex_lock(&stuck_lock);
    if (stuck_count < PROBE_STUCK_MAX)
        stuck_keys[stuck_count++] = key;
    pthread_mutex_unlock(&stuck_lock);
}

static void forget_stuck(uint64_t key)
{
    pthread_mutex_lock(&stuck_lock);
    for (size_t i = 0; i < stuck_count; i++) {
        if (stuck_keys[i] == key) {
            stuck_keys[i] = stuck_keys[--stuck_count];
            break;
        }
    }
    pthread_mutex_unlock(&stuck_lock);
}

/* --- sets --- */

struct probe_set *probe_set_new(size_t count, size_t question_size, probe_function ask,
                                void (*release)(void *question))
{
    struct probe_set *set = calloc(1, sizeof(*set));
    if (!set)
        return NULL;
    set->count = count;
    set->question_size = question_size;
    set->ask = ask;
    set->references = 1;
    set->probes = calloc(count + 1, sizeof(*set->probes));
    set->questions = calloc(count + 1, question_size);
    pthread_mutex_init(&set->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&set->all_finished, &attributes);
    pthread_condattr_destroy(&attributes);
    if (!set->probes || !set->questions)
        return probe_set_unref(set);
    set->release = release;
    return set;
}

void *probe_set_question(struct probe_set *set, size_t index)
{
    return set->questions + index * set->question_size;
}

void probe_set_key(struct probe_set *set, size_t index, uint64_t key)
{
    set->probes[index].key = key;
}

struct probe_set *probe_set_unref(struct probe_set *set)
{
    if (!set)
        return NULL;
    pthread_mutex_lock(&set->lock);
    size_t left = --set->references;
    pthread_mutex_unlock(&set->lock);
    if (left > 0)
        return NULL;
    for (size_t i = 0; set->release && i < set->count; i++)
        set->release(probe_set_question(set, i));
    pthread_cond_destroy(&set->all_finished);
    pthread_mutex_destroy(&set->lock);
    free(set->probes);
    free(set->questions);
    free(set);
    return NULL;
}

/* --- the threads that ask --- */

static void finish_one(struct probe_set *set)
{
    if (++set->finished == set->count)
        pthread_cond_signal(&set->all_finished);
}

static void settle(struct probe_set *set, struct probe *probe)
{
    if (probe->state == LATE) {
        forget_stuck(probe->key);
    } else {
        probe->state = ANSWERED;
        finish_one(set);
    }
}

static void *ask_all(void *argument)
{
    struct probe_set *set = argument;
    pthread_mutex_lock(&set->lock);
    while (!set->is_over && set->next < set->count) {
        size_t index = set->next++;
        struct probe *probe = &set->probes[index];
        if (is_stuck(probe->key)) {
            probe->state = SKIPPED;
            finish_one(set);
            continue;
        }
        probe->state = ASKED;
        pthread_mutex_unlock(&set->lock);
        set->ask(probe_set_question(set, index));
        pthread_mutex_lock(&set->lock);
        settle(set, probe);
    }
    pthread_mutex_unlock(&set->lock);
    probe_set_unref(set);
    return NULL;
}

/* Called with the lock held. */
static bool start_thread(struct probe_set *set)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the loop's */
    set->references++;
    bool is_started = pthread_create(&thread, &attributes, ask_all, set) == 0;
    if (!is_started)
        set->references--;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return is_started;
}

/* --- the caller --- */

/* Waits until all is finished or the time has come. */
static void wait_until(struct probe_set *set, uint64_t time_ms)
{
    struct timespec until = {
        .tv_sec = (time_t)(time_ms / 1000),
        .tv_nsec = (long)(time_ms % 1000) * 1000000,
    };
    pthread_cond_timedwait(&set->all_finished, &set->lock, &until);
}

void probe_set_run(struct probe_set *set, unsigned timeout_ms)
{
    uint64_t now = clock_now_ms(), end = now + timeout_ms, patience_end = now;
    size_t finished = 0;
    pthread_mutex_lock(&set->lock);
    while (set->finished < set->count && now < end) {
        if (now >= patience_end && set->next < set->count) {
            bool is_going_on = set->finished > finished;
            if (!is_going_on && !start_thread(set) && set->references == 1)
                break; /* nobody is there to ask */
            finished = set->finished;
            patience_end = now + PATIENCE_MS;
        }
        wait_until(set, set->next < set->count && patience_end < end ? patience_end : end);
        now = clock_now_ms();
    }
    set->is_over = true;
    for (size_t i = 0; i < set->count; i++) {
        if (set->probes[i].state == ASKED) {
            set->probes[i].state = LATE;
            note_stuck(set->probes[i].key);
        }
    }
    pthread_mutex_unlock(&set->lock);
}

static enum state state_of(struct probe_set *set, size_t index)
{
    pthread_mutex_lock(&set->lock);
    enum state state = set->probes[index].state;
    pthread_mutex_unlock(&set->lock);
    return state;
}

const void *probe_set_answer(struct probe_set *set, size_t index)
{
    return state_of(set, index) == ANSWERED ? probe_set_question(set, index) : NULL;
}

bool probe_set_is_late(struct probe_set *set, size_t index)
{
    return state_of(set, index) == LATE;
}
