/* SPDX-License-Identifier: MIT */
#include "jobs/pool.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "jobs/pool-internal.h"

/* How often pool_free() sends it; and looks at the time, so it is also how exact that is. */
enum { INTERRUPT_EVERY_MS = 20 };

static void ignore_signal(int number)
{
}

static void pool_update_may_end(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    unsigned staying = pool->options.workers + pool->ending;
    pool->may_end = pool->alive > staying ? pool->alive - staying : 0;
    pthread_cond_broadcast(&pool->work_available);
    pthread_mutex_unlock(&pool->lock);
}

/* Lost workers beyond those that are replaced take up room for others. */
static unsigned pool_room(const struct pool *pool)
{
    const struct pool_options *options = &pool->options;
    unsigned taken = pool->alive;
    if (pool->lost > options->lost_max)
        taken += pool->lost - options->lost_max;
    return taken < options->workers_max ? options->workers_max - taken : 0;
}

/* Adds up to `wanted` workers, as far as the limits and the system let it. */
static void pool_grow(struct pool *pool, unsigned wanted)
{
    for (; wanted > 0 && pool_room(pool) > 0; wanted--) {
        int error = pool_worker_start(pool, false);
        if (error && !pool->cannot_grow)
            log_warning("no further worker could be started: %s", strerror(-error));
        pool->cannot_grow = error != 0;
        if (error)
            break;
        pool->alive++;
    }
    pool_update_may_end(pool);
}

static void pool_arm_grow_timer(struct pool *pool)
{
    if (event_pending(pool->grow_timer, EV_TIMEOUT, NULL))
        return;
    struct timeval delay = {.tv_usec = POOL_GROW_AFTER_MS * 1000};
    event_add(pool->grow_timer, &delay);
}

/*
 * Makes up for workers that are missing among those that are always there. Where there was no room
 * to grow there may be some now, so what is queued is looked at again.
 */
static void pool_keep_up(struct pool *pool)
{
    unsigned always = pool->options.workers;
    pool_grow(pool, pool->alive < always ? always - pool->alive : 0);
    if (pool->rescuers == 0 && pool->lost <= pool->options.lost_max &&
        pool_worker_start(pool, true) == 0)
        pool->rescuers++;
    pool_arm_grow_timer(pool);
}

static void on_grow_timer(evutil_socket_t fd, short events, void *argument)
{
    struct pool *pool = argument;
    uint64_t now = clock_now_ms();
    unsigned waiting = 0;
    bool any = false;

    pthread_mutex_lock(&pool->lock);
    struct pool_work *work;
    list_for_each (work, &pool->queue, struct pool_work, in_queue) {
        any = true;
        /* The timer may be a little early against this clock. */
        if (now - work->queued_ms + 5 >= POOL_GROW_AFTER_MS)
            waiting++;
    }
    unsigned idle = pool->idle;
    pthread_mutex_unlock(&pool->lock);

    if (waiting > idle)
        pool_grow(pool, waiting - idle);
    if (any && pool_room(pool) > 0)
        pool_arm_grow_timer(pool);
}

static unsigned pool_share(const struct pool *pool)
{
    unsigned half = pool->options.workers_max / 2;
    return half > 0 ? half : 1;
}

static void pool_enqueue(struct pool *pool, struct pool_work *work)
{
    pthread_mutex_lock(&pool->lock);
    list_append(&pool->queue, &work->in_queue);
    pool->queue_length++;
    bool all_busy = pool->queue_length > pool->idle;
    pthread_cond_signal(&pool->work_available);
    pthread_mutex_unlock(&pool->lock);
    if (all_busy)
        pool_arm_grow_timer(pool);
}

void pool_submit(struct pool *pool, struct pool_work *work)
{
    assert_on_loop();
    work->queued_ms = clock_now_ms();
    work->is_held = false;
    work->is_given_up = false;
    work->worker = NULL;
    atomic_store(&work->interrupted, false);
    pool->outstanding++;

    if (work->rescue) {
        if (pool->rescuers == 0)
            pool_keep_up(pool);
        pthread_mutex_lock(&pool->lock);
        list_append(&pool->rescue_queue, &work->in_queue);
        pthread_cond_signal(&pool->rescue_available);
        pthread_mutex_unlock(&pool->lock);
        return;
    }
    struct origin *origin = &pool->origins[work->origin];
    if (origin->in_flight >= pool_share(pool)) {
        work->is_held = true;
        list_append(&origin->held, &work->in_queue);
        pool->held_count++;
        return;
    }
    origin->in_flight++;
    pool_enqueue(pool, work);
}

/* One of the origin's places became free. */
static void origin_leave(struct pool *pool, struct origin *origin)
{
    origin->in_flight--;
    struct pool_work *next = list_first(&origin->held, struct pool_work, in_queue);
    if (!next)
        return;
    list_remove(&next->in_queue);
    next->is_held = false;
    next->queued_ms = clock_now_ms();
    pool->held_count--;
    origin->in_flight++;
    pool_enqueue(pool, next);
}

bool pool_withdraw(struct pool *pool, struct pool_work *work)
{
    assert_on_loop();
    if (work->is_held) {
        list_remove(&work->in_queue);
        work->is_held = false;
        pool->held_count--;
        pool->outstanding--;
        return true;
    }
    bool withdrawn = false;
    pthread_mutex_lock(&pool->lock);
    struct pool_work *queued;
    list_for_each (queued, work->rescue ? &pool->rescue_queue : &pool->queue, struct pool_work,
                   in_queue) {
        if (queued != work)
            continue;
        list_remove(&work->in_queue);
        if (!work->rescue)
            pool->queue_length--;
        withdrawn = true;
        break;
    }
    pthread_mutex_unlock(&pool->lock);
    if (withdrawn)
        pool->outstanding--;
    if (withdrawn && !work->rescue)
        origin_leave(pool, &pool->origins[work->origin]);
    return withdrawn;
}

void pool_interrupt(struct pool *pool, struct pool_work *work)
{
    assert_on_loop();
    atomic_store(&work->interrupted, true);
    /* Under the lock the worker cannot go on to other work, which the signal would hit. */
    pthread_mutex_lock(&pool->lock);
    if (work->worker)
        pthread_kill(work->worker->thread, INTERRUPT_SIGNAL);
    pthread_mutex_unlock(&pool->lock);
}

bool pool_work_is_interrupted(struct pool_work *work)
{
    return atomic_load(&work->interrupted);
}

/* What one channel may lose; more of its stuck workers keep their places in its share. */
static unsigned pool_lost_share(const struct pool *pool)
{
    return (pool->options.lost_max + 1) / 2;
}

/* Marks the work's worker, which ends when it comes back. False if that has just happened. */
static bool pool_mark_lost(struct pool *pool, const struct pool_work *work)
{
    pthread_mutex_lock(&pool->lock);
    struct worker *worker = work->worker;
    if (worker)
        worker->is_lost = worker->must_end = true;
    pthread_mutex_unlock(&pool->lock);
    return worker;
}

void pool_give_up(struct pool *pool, struct pool_work *work)
{
    assert_on_loop();
    struct origin *origin = work->rescue ? NULL : &pool->origins[work->origin];
    if (work->is_given_up)
        return;
    if (origin && origin->lost >= pool_lost_share(pool)) {
        log_error("a worker is stuck and not replaced: its channel has lost %u already",
                  origin->lost);
        return;
    }
    if (!pool_mark_lost(pool, work))
        return;
    work->is_given_up = true;
    pool->lost++;
    log_error("a worker is stuck and counted lost (%u of at most %u that are replaced)", pool->lost,
              pool->options.lost_max);
    if (!origin) {
        pool->rescuers--;
        pool_keep_up(pool);
        return;
    }
    pool->alive--;
    origin->lost++;
    pool_keep_up(pool);
    origin_leave(pool, origin);
}

void pool_describe_stuck(struct pool *pool, struct pool_work *work, char *ret_text, size_t size)
{
    assert_on_loop();
    ret_text[0] = '\0';
    pthread_mutex_lock(&pool->lock);
    pid_t tid = work->worker ? work->worker->tid : 0;
    pthread_mutex_unlock(&pool->lock);
    if (tid == 0)
        return;
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", (int)tid);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, ret_text, size - 1);
    ret_text[length > 0 ? length : 0] = '\0';
    if (strcmp(ret_text, "0") == 0)
        ret_text[0] = '\0';
}

struct pool_counts pool_counts(struct pool *pool)
{
    assert_on_loop();
    pthread_mutex_lock(&pool->lock);
    struct pool_counts counts = {
        .workers = pool->alive,
        .idle = pool->idle,
        .lost = pool->lost,
        .queued = pool->queue_length + pool->held_count,
    };
    pthread_mutex_unlock(&pool->lock);
    return counts;
}

static void pool_join_ended(struct pool *pool, struct list *ended)
{
    struct worker *worker;
    list_for_each (worker, ended, struct worker, in_workers) {
        list_remove(&worker->in_workers);
        pthread_join(worker->thread, NULL);
        if (worker->is_surplus) {
            pthread_mutex_lock(&pool->lock);
            pool->ending--;
            pthread_mutex_unlock(&pool->lock);
        }
        if (worker->is_lost) {
            pool->lost--;
            log_info("a worker that was counted lost came back (%u still lost)", pool->lost);
        } else if (!worker->is_rescue) {
            pool->alive--;
        }
        free(worker);
    }
}

/* Everything is taken out under the lock, and looked at without it: callbacks may submit. */
static void on_done(evutil_socket_t fd, short events, void *argument)
{
    struct pool *pool = argument;
    uint64_t count;
    ssize_t length = read(pool->done_fd, &count, sizeof(count));
    (void)length;

    struct list done = LIST_INIT(done), ended = LIST_INIT(ended);
    pthread_mutex_lock(&pool->lock);
    list_move_all(&done, &pool->done);
    list_move_all(&ended, &pool->ended);
    pthread_mutex_unlock(&pool->lock);

    struct pool_work *work;
    while ((work = list_first(&done, struct pool_work, in_queue))) {
        list_remove(&work->in_queue);
        pool->outstanding--;
        struct origin *origin = &pool->origins[work->origin];
        if (!work->rescue && work->is_given_up)
            origin->lost--;
        else if (!work->rescue)
            origin_leave(pool, origin);
        work->worked(work);
    }
    if (!list_is_empty(&ended)) {
        pool_join_ended(pool, &ended);
        pool_keep_up(pool);
    }
}

static void pool_release(struct pool *pool)
{
    if (pool->done_event)
        event_free(pool->done_event);
    if (pool->grow_timer)
        event_free(pool->grow_timer);
    close_fd(pool->done_fd);
    pthread_cond_destroy(&pool->work_available);
    pthread_cond_destroy(&pool->rescue_available);
    pthread_cond_destroy(&pool->worker_ended);
    pthread_mutex_destroy(&pool->lock);
    free(pool->origins);
    free(pool);
}

static void pool_init_sync(struct pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->work_available, &monotonic);
    pthread_cond_init(&pool->rescue_available, &monotonic);
    pthread_cond_init(&pool->worker_ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    list_init(&pool->queue);
    list_init(&pool->rescue_queue);
    list_init(&pool->done);
    list_init(&pool->workers);
    list_init(&pool->ended);
}

int pool_new(struct event_base *base, const struct pool_options *options, struct pool **ret_pool)
{
    assert_on_loop();
    struct pool *pool = calloc(1, sizeof(*pool));
    if (!pool)
        return -ENOMEM;
    pool->options = *options;
    pool_init_sync(pool);
    pool->origins = calloc(options->origins, sizeof(*pool->origins));
    pool->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (pool->done_fd >= 0)
        pool->done_event = event_new(base, pool->done_fd, EV_READ | EV_PERSIST, on_done, pool);
    pool->grow_timer = evtimer_new(base, on_grow_timer, pool);
    if (!pool->origins || pool->done_fd < 0 || !pool->done_event || !pool->grow_timer) {
        pool_release(pool);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < options->origins; i++)
        list_init(&pool->origins[i].held);

    /* No SA_RESTART: the point is that the system call ends. */
    struct sigaction action = {.sa_handler = ignore_signal};
    sigaction(INTERRUPT_SIGNAL, &action, NULL);

    int error = event_add(pool->done_event, NULL) < 0 ? -ENOMEM : pool_worker_start(pool, true);
    if (!error) {
        pool->rescuers++;
        pool_grow(pool, options->workers);
    }
    if (error || pool->alive == 0) {
        pool_free(pool, 1000);
        return error ? error : -EAGAIN;
    }
    *ret_pool = pool;
    return 0;
}

/* A signal that came just before a system call is lost, so they are sent until they help. */
static void pool_interrupt_all_locked(struct pool *pool)
{
    struct worker *worker;
    list_for_each (worker, &pool->workers, struct worker, in_workers) {
        if (worker->work) {
            atomic_store(&worker->work->interrupted, true);
            pthread_kill(worker->thread, INTERRUPT_SIGNAL);
        }
    }
}

bool pool_free(struct pool *pool, unsigned timeout_ms)
{
    assert_on_loop();
    if (!pool)
        return true;
    uint64_t until_ms = clock_now_ms() + timeout_ms;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work_available);
    pthread_cond_broadcast(&pool->rescue_available);
    while (!list_is_empty(&pool->workers) && clock_now_ms() < until_ms) {
        pool_interrupt_all_locked(pool);
        struct timespec again = pool_time_after(INTERRUPT_EVERY_MS);
        pthread_cond_timedwait(&pool->worker_ended, &pool->lock, &again);
    }
    bool all_ended = list_is_empty(&pool->workers);
    struct list ended = LIST_INIT(ended);
    list_move_all(&ended, &pool->ended);
    pthread_mutex_unlock(&pool->lock);

    pool_join_ended(pool, &ended);
    bool is_done = all_ended && pool->outstanding == 0;
    if (is_done)
        pool_release(pool);
    return is_done;
}
