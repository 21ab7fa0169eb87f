/* SPDX-License-Identifier: MIT */
#include "cmds/freezer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cmds/freezer-internal.h"
#include "jobs/broker-socket.h"
#include "jobs/guard-link.h"

struct freeze_state *freezer_state(const struct freezer *freezer)
{
    return freezer->options.services->freeze;
}

const struct settings *freezer_settings(const struct freezer *freezer)
{
    return freezer->options.services->settings;
}

/* --- the hook --- */

/* Returns false if there is none, or it could not be started, which is then the failure. */
bool freezer_start_hook(struct freezer *freezer, const char *word, hook_run_ended ended,
                        const char **ret_failure)
{
    struct hook_run_options options = {
        .base = freezer->options.base,
        .broker = freezer->options.services->broker,
        .path = freezer->options.hook,
        .word = word,
        .timeout_ms = freezer_settings(freezer)->freeze_hook_timeout_s * 1000,
        .ended = ended,
        .context = freezer,
    };
    *ret_failure = NULL;
    if (!options.path)
        return false;
    if (hook_run_start(&options, &freezer->hook) == 0)
        return true;
    *ret_failure = "fsfreeze hook could not be started";
    log_error("%s: %s", word, *ret_failure);
    return false;
}

/* A freeze that is not past its hook has nothing frozen, and will not: the hook's end is its end.
 */
void freezer_stop_freeze_hook(struct freezer *freezer)
{
    const struct freeze_call *freeze = freezer->freezing;
    if (!freeze || freeze->stage != STAGE_LISTEN || !freezer->hook)
        return;
    freeze_set_abandon(freeze->set);
    if (!freeze->waits_for_hook) /* else that one says "thaw", and is to come to its end */
        hook_run_kill(freezer->hook);
}

/* Whoever waited for it goes on: the freeze that it belonged to, a later one, or a thaw. */
static void on_late_hook_ended(void *context, const char *failure)
{
    struct freezer *freezer = context;
    struct freeze_call *failing = take_ptr(&freezer->failing), *freeze = freezer->freezing;
    struct thaw_call *thaw = freezer->thawing;
    freezer->hook = NULL;
    if (failing) {
        struct call *call = failing->call;
        freezer_freeze_is_over(freezer);
        call_complete(call);
    } else if (freeze && freeze->waits_for_hook) {
        freezer_go_on_freezing(freeze);
    } else if (thaw && thaw->waits_for_hook) {
        thaw_call_hook_ended(thaw, failure);
    }
    if (!freezer->hook && !freezer->thawing)
        freezer_tell_end(freezer);
}

bool freezer_start_late_hook(struct freezer *freezer, struct freeze_call *failing)
{
    const char *failure;
    if (!freezer_start_hook(freezer, "thaw", on_late_hook_ended, &failure))
        return false;
    freezer->failing = failing;
    return true;
}

/* --- the end of a freeze --- */

void freezer_tell_end(struct freezer *freezer)
{
    void (*ended)(void *context) = freezer->ended;
    freezer->ended = NULL;
    if (ended)
        ended(freezer->ended_context);
}

void freezer_become_thawed(struct freezer *freezer)
{
    freezer->watch = freeze_watch_free(freezer->watch);
    freezer->set = freeze_set_unref(freezer->set);
    freeze_state_set(freezer_state(freezer), FREEZE_THAWED);
}

/* The freeze is over though nobody asked for it. */
static void on_freeze_event(void *context, enum freeze_event event)
{
    struct freezer *freezer = context;
    if (freezer->thawing)
        return; /* that will find out itself */
    enum freeze_record_state breach = event == FREEZE_EVENT_EXPIRED ? FREEZE_RECORD_EXPIRED
                                      : event == FREEZE_EVENT_DIED  ? FREEZE_RECORD_DIED
                                      : freezer->ended              ? FREEZE_RECORD_ENDED
                                                                    : FREEZE_RECORD_NONE;
    /* Else a thaw that hung may have found one; and of a freeze that failed its host knows. */
    if (breach != FREEZE_RECORD_NONE && freezer->has_succeeded)
        freezer->breach = breach;
    freeze_set_clear(freezer->set, freezer->breach);
    freezer_become_thawed(freezer);
    log_warning("the freeze has ended without a thaw");
    if (!freezer->hook && !freezer_start_late_hook(freezer, NULL))
        freezer_tell_end(freezer);
}

int freezer_watch(struct freezer *freezer, uint64_t deadline_ms)
{
    return freeze_watch_new(freezer->options.base, freezer->set, deadline_ms, on_freeze_event,
                            freezer, &freezer->watch);
}

void freezer_freeze_is_over(struct freezer *freezer)
{
    freezer->freezing = NULL;
    struct thaw_call *thaw = freezer->thawing;
    if (thaw && thaw->is_thawed && thaw_call_go_on(thaw) != CALL_PENDING)
        call_complete(thaw->call);
}

/* --- its life --- */

/* One that is over; the next thaw is to say how it ended. */
static void note_breach(struct freezer *freezer, enum freeze_record_state breach)
{
    if (breach == FREEZE_RECORD_NONE)
        return;
    log_warning("an earlier freeze had ended before its thaw");
    freezer->breach = breach;
}

/* Whether it is still on: its guard may be just thawing, and says so in the record before it ends.
 */
static struct freeze_record find_freeze(struct freezer *freezer, struct guard_link **ret_guard)
{
    struct freeze_record record = freeze_record_read(freezer->directory);
    if (record.state != FREEZE_RECORD_FROZEN)
        return record;
    if (guard_link_find(freezer->directory, ret_guard) == 0) {
        struct guard_news news = guard_link_ask(*ret_guard);
        if (!news.is_gone && !news.is_finished)
            return record;
        *ret_guard = guard_link_free(*ret_guard);
    }
    return freeze_record_read(freezer->directory);
}

static int adopt_freeze(struct freezer *freezer, uint64_t deadline_ms, struct guard_link *guard)
{
    log_warning("the guest was frozen by an earlier agent%s",
                guard ? "" : ", and the thaw guard is gone");
    freezer->set = freeze_set_new_adopted_take(freezer->directory, guard, deadline_ms);
    if (!freezer->set)
        return -ENOMEM;
    freeze_set_enter_frozen();
    freezer->has_succeeded =
        true; /* or its host never heard of it: either way the thaw is to tell */
    freeze_state_set(freezer_state(freezer), FREEZE_FROZEN);
    return freezer_watch(freezer, deadline_ms);
}

int freezer_new(const struct freezer_options *options, struct freezer **ret_freezer)
{
    assert_on_loop();
    struct freezer *freezer = calloc(1, sizeof(*freezer));
    if (!freezer)
        return -ENOMEM;
    freezer->options = *options;
    list_init(&freezer->waiting_thaws);
    freezer->directory = broker_directory_open(options->state_directory);
    *ret_freezer = freezer;
    if (freezer->directory < 0) {
        log_warning("%s: %s: file systems cannot be frozen", options->state_directory,
                    strerror(-freezer->directory));
        return 0;
    }
    struct guard_link *guard = NULL;
    struct freeze_record record = find_freeze(freezer, &guard);
    if (record.state == FREEZE_RECORD_FROZEN)
        return adopt_freeze(freezer, record.deadline_ms, guard);
    note_breach(freezer, record.state);
    return 0;
}

struct freezer *freezer_free(struct freezer *freezer)
{
    if (!freezer)
        return NULL;
    freeze_watch_free(freezer->watch);
    freeze_set_unref(freezer->set);
    close_fd(freezer->directory);
    free(freezer);
    return NULL;
}

bool freezer_end(struct freezer *freezer, void (*ended)(void *context), void *context)
{
    if (!freezer || (!freeze_state_is_on(freezer_state(freezer)) && !freezer->thawing))
        return true;
    if (freezer->ended)
        return false; /* asked again */
    freezer->ended = ended;
    freezer->ended_context = context;
    if (freezer->thawing)
        return false; /* its end is told */
    freeze_set_stop(freezer->set);
    freezer_stop_freeze_hook(freezer);
    if (!freezer->watch && freezer_watch(freezer, 0))
        return true;
    freeze_watch_thaw(freezer->watch);
    return false;
}
