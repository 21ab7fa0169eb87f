/* SPDX-License-Identifier: MIT */
#include "cmds/freezer.h"

#include <stdlib.h>

#include "base/log.h"
#include "cmds/freezer-internal.h"

/* How long a thaw may take before it says what hangs. */
enum { THAW_MS = 60 * 1000 };

enum call_next freezer_prepare_thaw(struct call *call)
{
    struct freezer *freezer = call_services(call)->freezer;
    struct thaw_call *thaw = calloc(1, sizeof(*thaw));
    if (!thaw)
        return call_fail(call, "Out of memory for a thaw");
    list_init(&thaw->waiting);
    thaw->freezer = freezer;
    thaw->call = call;
    call_set_state(call, thaw);
    call_cancel_earlier(call);
    if (freezer->thawing) {
        list_append(&freezer->waiting_thaws, &thaw->waiting);
        return CALL_PENDING;
    }
    freezer->thawing = thaw;
    thaw->was_on = freeze_state_is_on(freezer_state(freezer));
    if (freezer->set) {
        thaw->set = freeze_set_ref(freezer->set);
        freeze_set_stop(thaw->set);
    } else {
        thaw->set = freeze_set_new(freezer->directory);
        if (!thaw->set)
            return call_fail(call, "Out of memory for a thaw");
        freeze_set_abandon(thaw->set);
    }
    freezer_stop_freeze_hook(freezer);
    freezer->watch = freeze_watch_free(freezer->watch);
    if (thaw->was_on)
        freeze_state_set(freezer_state(freezer), FREEZE_THAWING);
    return CALL_CONTINUE;
}

static bool is_thaw_interrupted(void *context)
{
    return call_is_interrupted(context);
}

enum call_next freezer_run_thaw(struct call *call)
{
    struct thaw_call *thaw = call_state(call);
    const struct thaw_request request = {
        .timeout_ms = THAW_MS,
        .is_required = thaw->was_on,
        .is_interrupted = is_thaw_interrupted,
        .context = call,
    };
    call_step(call, "thawing");
    freeze_set_thaw(thaw->set, &request, &thaw->result);
    thaw->has_run = true;
    return CALL_CONTINUE;
}

/* The next one that waits finds everything thawed, or tries again. */
static void thaw_is_over(struct thaw_call *thaw)
{
    struct freezer *freezer = thaw->freezer;
    if (freezer->thawing != thaw)
        return;
    freezer->thawing = NULL;
    struct thaw_call *next = list_first(&freezer->waiting_thaws, struct thaw_call, waiting);
    if (!next)
        return;
    list_remove(&next->waiting);
    struct call *call = next->call;
    /* It begins anew. */
    free(next);
    call_set_state(call, NULL);
    if (freezer_prepare_thaw(call) == CALL_CONTINUE)
        call_go_on(call);
    else
        call_complete(call);
}

static enum call_next answer_thaw(struct thaw_call *thaw, const char *failure)
{
    static const char *const breaches[] = {
        [FREEZE_RECORD_EXPIRED] =
            "the freeze had ended before this thaw: its timeout had passed; what was "
            "copied meanwhile is not consistent",
        [FREEZE_RECORD_DIED] =
            "the freeze had ended before this thaw: the agent died while it froze; "
            "what was copied meanwhile is not consistent",
        [FREEZE_RECORD_ENDED] =
            "the freeze had ended before this thaw: the agent was ended; what was "
            "copied meanwhile is not consistent",
    };
    struct freezer *freezer = thaw->freezer;
    struct call *call = thaw->call;
    enum freeze_record_state breach = freezer->breach;
    freezer->breach = FREEZE_RECORD_NONE;
    if (breach != FREEZE_RECORD_NONE)
        call_fail(call, "%s", breaches[breach]);
    else if (failure)
        call_fail(call, "%s", failure);
    else
        json_uint(call_reply(call), thaw->result.count);
    thaw_is_over(thaw);
    freezer_tell_end(freezer);
    return CALL_ANSWER;
}

void thaw_call_hook_ended(struct thaw_call *thaw, const char *failure)
{
    struct call *call = thaw->call;
    answer_thaw(thaw, failure);
    call_complete(call);
}

static void on_thaw_hook_ended(void *context, const char *failure)
{
    struct freezer *freezer = context;
    freezer->hook = NULL;
    thaw_call_hook_ended(freezer->thawing, failure);
}

/* The freeze that it stopped is to be answered before, and to have let go of its hook. */
enum call_next thaw_call_go_on(struct thaw_call *thaw)
{
    struct freezer *freezer = thaw->freezer;
    const char *failure;
    if (freezer->freezing)
        return CALL_PENDING;
    thaw->waits_for_hook = freezer->hook != NULL;
    if (thaw->waits_for_hook)
        return CALL_PENDING;
    if (freezer_start_hook(freezer, "thaw", on_thaw_hook_ended, &failure))
        return CALL_PENDING;
    return answer_thaw(thaw, failure);
}

static void note_breach(struct thaw_call *thaw)
{
    if (thaw->result.has_fired && thaw->freezer->has_succeeded)
        thaw->freezer->breach =
            thaw->result.is_incomplete ? FREEZE_RECORD_DIED : FREEZE_RECORD_EXPIRED;
}

/* Something may still be frozen, and the crews go on: the freeze ends when they have come through.
 */
static void go_on_thawing(struct thaw_call *thaw)
{
    struct freezer *freezer = thaw->freezer;
    note_breach(thaw); /* for the thaw that comes through */
    if (thaw->was_on)
        freeze_state_set(freezer_state(freezer), FREEZE_FROZEN);
    if (freezer->set && !freezer->watch && freezer_watch(freezer, 0))
        log_error("no memory to watch the thaw");
    if (freezer->watch)
        freeze_watch_thaw(freezer->watch);
}

static void note_thawed(struct thaw_call *thaw)
{
    struct freezer *freezer = thaw->freezer;
    note_breach(thaw);
    thaw->is_thawed = true;
    if (freezer->set == thaw->set || !freezer->set)
        freezer_become_thawed(freezer);
    log_info("%zu file systems were thawed", thaw->result.count);
}

/* Nobody hears its answer any more, so the next thaw is to tell of the breach. */
static void settle_given_up(struct thaw_call *thaw)
{
    struct freezer *freezer = thaw->freezer;
    if (!thaw->has_run || thaw->result.error) {
        go_on_thawing(thaw);
        return;
    }
    note_thawed(thaw);
    if (!freezer->hook && !freezer->freezing)
        (void)!freezer_start_late_hook(freezer, NULL);
}

static enum call_next fail_thaw(struct thaw_call *thaw)
{
    struct freezer *freezer = thaw->freezer;
    call_fail(thaw->call, "%s", thaw->result.reason);
    go_on_thawing(thaw);
    thaw_is_over(thaw);
    freezer_tell_end(freezer);
    return CALL_ANSWER;
}

enum call_next freezer_finish_thaw(struct call *call)
{
    struct thaw_call *thaw = call_state(call);
    thaw->is_settled = true;
    if (thaw->result.error)
        return fail_thaw(thaw);
    note_thawed(thaw);
    return thaw_call_go_on(thaw);
}

/* One whose deadline passed comes here without its `finish`. */
void freezer_release_thaw(struct call *call)
{
    struct thaw_call *thaw = call_state(call);
    if (!thaw)
        return;
    struct freezer *freezer = thaw->freezer;
    list_remove(&thaw->waiting);
    if (freezer->thawing == thaw && thaw->set && !thaw->is_settled)
        settle_given_up(thaw);
    thaw_is_over(thaw);
    if (!freezer->hook && !freezer->thawing)
        freezer_tell_end(freezer);
    freeze_set_unref(thaw->set);
    free(thaw);
}
