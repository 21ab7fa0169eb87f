/* SPDX-License-Identifier: MIT */
#include "jobs/freeze-watch.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "jobs/freeze-set.h"
#include "jobs/guard-link.h"
#include "jobs/guard-protocol.h"

/* How often it looks whether a thaw has come to its end. */
enum { LOOK_MS = 20 };

/* A timer's clock stands still while the guest sleeps, the deadline's does not. */
enum { LOOK_AT_CLOCK_MS = 1000 };

/* How long a guard may be late before the agent thaws, too. */
enum { GUARD_LATE_MS = 500 };

struct freeze_watch {
    struct freeze_set *set;
    bool has_guard;
    uint64_t deadline_ms;
    void (*told)(void *context, enum freeze_event event);
    void *context;
    struct event *timer;
    bool is_thawing;
    enum freeze_event thaw_event; /* why */
};

static void arm_timer(struct freeze_watch *watch, uint64_t delay_ms)
{
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                            .tv_usec = (suseconds_t)(delay_ms % 1000) * 1000};
    event_add(watch->timer, &delay);
}

static void look_for_end(struct freeze_watch *watch)
{
    if (freeze_set_has_thawed(watch->set)) {
        watch->told(watch->context, watch->thaw_event);
        return;
    }
    arm_timer(watch, LOOK_MS);
}

static void begin_thaw(struct freeze_watch *watch, enum freeze_event why)
{
    watch->is_thawing = true;
    watch->thaw_event = why;
    freeze_set_begin_thaw(watch->set);
    arm_timer(watch, 0);
}

static void stand_in(struct freeze_watch *watch)
{
    uint64_t now_ms = guard_clock_ms();
    if (watch->deadline_ms == 0)
        return;
    uint64_t until_ms = watch->deadline_ms + (watch->has_guard ? GUARD_LATE_MS : 0);
    if (now_ms >= until_ms) {
        log_error("the freeze timeout has passed, and the thaw guard %s: thawing",
                  watch->has_guard ? "is not done" : "is gone");
        begin_thaw(watch, FREEZE_EVENT_EXPIRED);
        return;
    }
    uint64_t left_ms = until_ms - now_ms;
    arm_timer(watch, left_ms < LOOK_AT_CLOCK_MS ? left_ms : LOOK_AT_CLOCK_MS);
}

static void on_timer(evutil_socket_t fd, short events, void *argument)
{
    struct freeze_watch *watch = argument;
    if (watch->is_thawing)
        look_for_end(watch);
    else
        stand_in(watch);
}

static void on_news(void *context, const struct guard_news *news)
{
    struct freeze_watch *watch = context;
    if (news->is_finished) {
        watch->told(watch->context, news->is_incomplete ? FREEZE_EVENT_DIED
                                    : news->has_fired   ? FREEZE_EVENT_EXPIRED
                                                        : FREEZE_EVENT_THAWED);
    } else if (news->is_gone && !watch->is_thawing) {
        log_error("the thaw guard is gone; the agent stands in for it");
        watch->has_guard = false;
        stand_in(watch);
    } else if (news->has_fired) {
        log_error("the freeze timeout has passed: the thaw guard thaws");
        freeze_set_stop(watch->set);
    }
}

void freeze_watch_thaw(struct freeze_watch *watch)
{
    assert_on_loop();
    begin_thaw(watch, FREEZE_EVENT_THAWED);
}

int freeze_watch_new(struct event_base *base, struct freeze_set *set, uint64_t deadline_ms,
                     void (*told)(void *context, enum freeze_event event), void *context,
                     struct freeze_watch **ret_watch)
{
    assert_on_loop();
    struct freeze_watch *watch = calloc(1, sizeof(*watch));
    if (!watch)
        return -ENOMEM;
    *watch = (struct freeze_watch){
        .set = set, .deadline_ms = deadline_ms, .told = told, .context = context};
    watch->timer = evtimer_new(base, on_timer, watch);
    struct guard_link *guard = freeze_set_guard(set);
    int error = watch->timer ? 0 : -ENOMEM;
    if (!error && guard)
        error = guard_link_watch(guard, base, on_news, watch);
    if (error) {
        freeze_watch_free(watch);
        return error;
    }
    watch->has_guard = guard != NULL;
    stand_in(watch);
    *ret_watch = watch;
    return 0;
}

struct freeze_watch *freeze_watch_free(struct freeze_watch *watch)
{
    if (!watch)
        return NULL;
    struct guard_link *guard = freeze_set_guard(watch->set);
    if (guard)
        guard_link_unwatch(guard);
    if (watch->timer)
        event_free(watch->timer);
    free(watch);
    return NULL;
}
