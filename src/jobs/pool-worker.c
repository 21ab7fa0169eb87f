/* SPDX-License-Identifier: MIT */
#include "jobs/pool-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

/* Handlers are shallow, but getpwnam() and friends want room. */
#define WORKER_STACK_BYTES (512 * 1024)

struct timespec pool_time_after(unsigned delay_ms)
{
    uint64_t at_ms = clock_now_ms() + delay_ms;
    return (struct timespec){.tv_sec = (time_t)(at_ms / 1000),
                             .tv_nsec = (long)(at_ms % 1000) * 1000000};
}

static void pool_wake_loop(struct pool *pool)
{
    uint64_t one = 1;
    ssize_t written = write(pool->done_fd, &one, sizeof(one));
    (void)written; /* the counter is full: the loop is woken anyway */
}

static struct pool_work *queue_pop(struct list *queue)
{
    struct pool_work *work = list_first(queue, struct pool_work, in_queue);
    if (work)
        list_remove(&work->in_queue);
    return work;
}

/* Waits for work; NULL tells the worker to end. Called and returns with the lock held. */
static struct pool_work *worker_next_locked(struct pool *pool, struct worker *worker)
{
    if (worker->is_rescue) {
        while (list_is_empty(&pool->rescue_queue) && !pool->stopping && !worker->must_end)
            pthread_cond_wait(&pool->rescue_available, &pool->lock);
        return pool->stopping || worker->must_end ? NULL : queue_pop(&pool->rescue_queue);
    }

    struct timespec until = pool_time_after(pool->options.idle_ms);
    pool->idle++;
    int waited = 0;
    while (list_is_empty(&pool->queue) && !pool->stopping && !worker->must_end) {
        if (pool->may_end == 0)
            waited = pthread_cond_wait(&pool->work_available, &pool->lock);
        else
            waited = pthread_cond_timedwait(&pool->work_available, &pool->lock, &until);
        if (waited == ETIMEDOUT && pool->may_end > 0 && list_is_empty(&pool->queue)) {
            pool->may_end--;
            pool->ending++;
            worker->must_end = true;
            worker->is_surplus = true;
        }
    }
    pool->idle--;
    if (pool->stopping || worker->must_end)
        return NULL;
    pool->queue_length--;
    return queue_pop(&pool->queue);
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    thread_set_role(THREAD_WORKER);

    pthread_mutex_lock(&pool->lock);
    worker->tid = (pid_t)syscall(SYS_gettid);
    for (;;) {
        struct pool_work *work = worker_next_locked(pool, worker);
        if (!work)
            break;
        worker->work = work;
        work->worker = worker;
        pthread_mutex_unlock(&pool->lock);

        work->work(work);

        pthread_mutex_lock(&pool->lock);
        worker->work = NULL;
        work->worker = NULL;
        bool wake = list_is_empty(&pool->done);
        list_append(&pool->done, &work->in_queue);
        if (wake)
            pool_wake_loop(pool);
    }
    list_remove(&worker->in_workers);
    list_append(&pool->ended, &worker->in_workers);
    pool_wake_loop(pool);
    pthread_cond_signal(&pool->worker_ended);
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

int pool_worker_start(struct pool *pool, bool is_rescue)
{
    assert_on_loop();
    _cleanup_free_ struct worker *worker = calloc(1, sizeof(*worker));
    if (!worker)
        return -ENOMEM;
    worker->pool = pool;
    worker->is_rescue = is_rescue;

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);

    /* A worker takes no signal but the one that interrupts it. */
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, INTERRUPT_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&pool->lock);
    int error = pthread_create(&worker->thread, &attributes, worker_main, worker);
    if (!error) {
        list_append(&pool->workers, &worker->in_workers);
        worker = NULL;
    }
    pthread_mutex_unlock(&pool->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -error;
}
