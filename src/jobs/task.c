/* SPDX-License-Identifier: MIT */
#include "jobs/task.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

/* How often an overdue worker is signalled again, and when it is given up. */
enum { INTERRUPT_EVERY_MS = 100, GIVE_UP_AFTER_MS = 1000 };

enum task_state {
    STATE_WAITING, /* for its permission or its lane */
    STATE_WORKING, /* the pool has it */
    STATE_PENDING, /* task_finish() is awaited */
    STATE_OVER,    /* ended or ending, and nothing runs any more */
};

/* The tasks that must run one after another. It exists as long as it has any, or is held. */
struct lane {
    char *name;
    struct list tasks;
    struct task *lost; /* overdue: the lane is closed */
    bool is_held;      /* somebody on the stack has it, and will look again what can start */
    UT_hash_handle hh;
};

struct scheduler {
    struct event_base *base;
    struct pool *pool;
    struct lane *lanes;
    size_t task_count; /* submitted and not released */
};

static void lane_put(struct scheduler *scheduler, struct lane *lane)
{
    if (!list_is_empty(&lane->tasks))
        return;
    HASH_DEL(scheduler->lanes, lane);
    free(lane->name);
    free(lane);
}

static struct lane *lane_get(struct scheduler *scheduler, const char *name)
{
    struct lane *lane = NULL;
    HASH_FIND_STR(scheduler->lanes, name, lane);
    if (lane)
        return lane;
    lane = calloc(1, sizeof(*lane));
    if (!lane)
        return NULL;
    lane->name = strdup(name);
    list_init(&lane->tasks);
    if (lane->name)
        HASH_ADD_KEYPTR(hh, scheduler->lanes, lane->name, strlen(lane->name), lane);
    if (!lane->name || !lane->hh.tbl) { /* uthash leaves it out when there is no memory */
        free(lane->name);
        free(lane);
        return NULL;
    }
    return lane;
}

static void task_try_start(struct task *task);

/* Starts what can start in the lane, or refuses it while the lane is closed. May free the lane. */
static void lane_pump(struct scheduler *scheduler, struct lane *lane)
{
    if (lane->is_held)
        return;
    lane->is_held = true;
    for (;;) {
        struct task *next = NULL, *task;
        list_for_each (task, &lane->tasks, struct task, in_lane) {
            if (task->state == STATE_WAITING && task->is_permitted) {
                next = task;
                break;
            }
            if (!lane->lost)
                break; /* only the first one may start */
        }
        if (!next)
            break;
        task_try_start(next);
    }
    lane->is_held = false;
    lane_put(scheduler, lane);
}

static void task_stop_timer(struct task *task)
{
    if (task->timer)
        event_free(task->timer);
    task->timer = NULL;
}

/* Nothing runs any more: the owner gets the task back, then the lane goes on. */
static void task_release(struct task *task)
{
    struct scheduler *scheduler = task->scheduler;
    struct lane *lane = take_ptr(&task->lane);
    task->state = STATE_OVER;
    task_stop_timer(task);
    scheduler->task_count--;
    if (!lane) {
        task->ops->released(task);
        return;
    }
    list_remove(&task->in_lane);
    if (lane->lost == task)
        lane->lost = NULL;
    bool was_held = lane->is_held;
    lane->is_held = true;
    task->ops->released(task);
    lane->is_held = was_held;
    lane_pump(scheduler, lane);
}

static void task_end(struct task *task, enum task_outcome outcome)
{
    if (task->has_ended)
        return;
    task->has_ended = true;
    task->ops->ended(task, outcome);
}

/* The answer may move anything, this task's lane too: so first of all it is over. */
static void task_end_and_release(struct task *task, enum task_outcome outcome)
{
    task->state = STATE_OVER;
    task_end(task, outcome);
    task_release(task);
}

/* The client's wait is over, the work is not; unless the answer ends it, and frees the task. */
static void task_abandon(struct task *task)
{
    struct scheduler *scheduler = task->scheduler;
    struct lane *lane = task->lane;
    log_error("%s passed its deadline of %llu ms and does not come back", task->name,
              (unsigned long long)task->deadline_ms);
    if (!lane) {
        task_end(task, TASK_OVERDUE);
        return;
    }
    lane->lost = task;
    lane->is_held = true; /* by nobody else: this comes from the loop */
    task_end(task, TASK_OVERDUE);
    lane->is_held = false;
    lane_pump(scheduler, lane);
}

static void task_arm_timer(struct task *task, uint64_t delay_ms)
{
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                            .tv_usec = (suseconds_t)(delay_ms % 1000) * 1000};
    event_add(task->timer, &delay);
}

static void on_deadline(evutil_socket_t fd, short events, void *argument)
{
    struct task *task = argument;
    struct pool *pool = task->scheduler->pool;
    if (task->state == STATE_PENDING) {
        atomic_store(&task->work.interrupted, true);
        task_abandon(task);
        return;
    }
    if (task->give_up_at_ms == 0) {
        if (pool_withdraw(pool, &task->work)) {
            task_end_and_release(task, TASK_NOT_BEGUN);
            return;
        }
        task->give_up_at_ms = clock_now_ms() + GIVE_UP_AFTER_MS;
    }
    if (clock_now_ms() < task->give_up_at_ms) {
        pool_interrupt(pool, &task->work);
        task_arm_timer(task, INTERRUPT_EVERY_MS);
        return;
    }
    pool_give_up(pool, &task->work);
    task_abandon(task);
}

static void task_proceed(struct task *task, enum task_next next)
{
    switch (next) {
    case TASK_TO_WORKER:
        task->state = STATE_WORKING;
        break;
    case TASK_PENDING:
        task->state = STATE_PENDING;
        break;
    case TASK_FINISHED:
        task_end_and_release(task, TASK_DONE);
        return;
    }
    if (!task->timer && task->deadline_ms > 0) {
        task->timer = evtimer_new(task->scheduler->base, on_deadline, task);
        if (task->timer)
            task_arm_timer(task, task->deadline_ms);
    }
    if (next == TASK_TO_WORKER)
        pool_submit(task->scheduler->pool, &task->work);
}

static void on_work(struct pool_work *work)
{
    struct task *task = list_entry(work, struct task, work);
    task->ops->work(task);
}

static void on_worked(struct pool_work *work)
{
    struct task *task = list_entry(work, struct task, work);
    if (task->has_ended) {
        log_warning("%s came back after it was given up; its result is thrown away", task->name);
        task_release(task);
        return;
    }
    task_proceed(task, task->ops->worked(task));
}

/* Starts the task if it may; or refuses it, if its lane is closed. */
static void task_try_start(struct task *task)
{
    struct lane *lane = task->lane;
    if (task->state != STATE_WAITING || !task->is_permitted)
        return;
    if (lane && lane->lost && !task->is_urgent) {
        task->blocker = lane->lost->name;
        task_end_and_release(task, TASK_REFUSED);
        return;
    }
    if (lane && list_first(&lane->tasks, struct task, in_lane) != task && !task->is_urgent)
        return;
    /* `start` may end up here again through what it completes; it is not to start twice. */
    task->state = STATE_PENDING;
    task_proceed(task, task->ops->start(task));
}

int scheduler_new(struct event_base *base, struct pool *pool, struct scheduler **ret_scheduler)
{
    assert_on_loop();
    struct scheduler *scheduler = calloc(1, sizeof(*scheduler));
    if (!scheduler)
        return -ENOMEM;
    scheduler->base = base;
    scheduler->pool = pool;
    *ret_scheduler = scheduler;
    return 0;
}

struct scheduler *scheduler_free(struct scheduler *scheduler)
{
    free(scheduler); /* lanes live as long as they have tasks */
    return NULL;
}

bool scheduler_is_idle(const struct scheduler *scheduler)
{
    return scheduler->task_count == 0;
}

int task_submit(struct scheduler *scheduler, struct task *task, const char *lane)
{
    assert_on_loop();
    task->scheduler = scheduler;
    task->state = STATE_WAITING;
    task->work.work = on_work;
    task->work.worked = on_worked;
    task->work.origin = task->origin;
    task->work.rescue = task->rescue;
    list_init(&task->in_lane);
    if (lane) {
        task->lane = lane_get(scheduler, lane);
        if (!task->lane)
            return -ENOMEM;
        list_append(&task->lane->tasks, &task->in_lane);
    }
    scheduler->task_count++;
    return 0;
}

void task_permit(struct task *task)
{
    assert_on_loop();
    task->is_permitted = true;
    task_try_start(task);
}

bool task_cancel(struct task *task)
{
    assert_on_loop();
    if (task->state != STATE_WAITING)
        return false;
    task_end_and_release(task, TASK_CANCELLED);
    return true;
}

/* One that is cancelled may have others cancelled: so the next is looked for from the beginning. */
void task_cancel_earlier(struct task *task, bool (*is_meant)(struct task *earlier))
{
    assert_on_loop();
    struct lane *lane = task->lane;
    struct task *earlier, *meant;
    if (!lane)
        return;
    do {
        meant = NULL;
        list_for_each (earlier, &lane->tasks, struct task, in_lane) {
            if (earlier == task)
                break;
            if (earlier->state == STATE_WAITING && is_meant(earlier)) {
                meant = earlier;
                break;
            }
        }
    } while (meant && task_cancel(meant));
}

void task_go_on(struct task *task)
{
    assert_on_loop();
    task->has_gone_on = true;
    if (task->has_ended)
        task_release(task);
    else
        task_proceed(task, TASK_TO_WORKER);
}

bool task_withdraw(struct task *task)
{
    assert_on_loop();
    if (task->state != STATE_WORKING || task->has_ended || task->has_gone_on ||
        !pool_withdraw(task->scheduler->pool, &task->work))
        return false;
    task_end_and_release(task, TASK_CANCELLED);
    return true;
}

void task_finish(struct task *task)
{
    assert_on_loop();
    if (task->has_ended)
        task_release(task);
    else
        task_end_and_release(task, TASK_DONE);
}

bool task_is_interrupted(struct task *task)
{
    return pool_work_is_interrupted(&task->work);
}

const char *task_lane_blocker(const struct task *task)
{
    return task->blocker;
}

void task_describe_stuck(struct task *task, char *ret_text, size_t size)
{
    assert_on_loop();
    ret_text[0] = '\0';
    if (task->state == STATE_WORKING)
        pool_describe_stuck(task->scheduler->pool, &task->work, ret_text, size);
}
