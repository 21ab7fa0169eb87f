/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_FREEZER_INTERNAL_H
#define BELLHOP_CMDS_FREEZER_INTERNAL_H

/*
 * The inside of the freezer, for freezer.c (its life, and freezes that end by themselves),
 * freezer-freeze.c and freezer-thaw.c (the two commands). All of it: ON_LOOP, but for the hooks that
 * run on a worker, which look at their own call and at what never changes.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "base/settings.h"
#include "cmds/freeze-state.h"
#include "cmds/freezer.h"
#include "cmds/services.h"
#include "jobs/freeze-record.h"
#include "jobs/freeze-set.h"
#include "jobs/freeze-watch.h"
#include "jobs/hook-run.h"

struct freezer {
    struct freezer_options options;
    int directory; /* of the state, -1: none */

    struct freeze_set *set;     /* the freeze that is on */
    struct freeze_watch *watch; /* once it is frozen */
    struct freeze_call *freezing;
    struct thaw_call *thawing;
    struct list waiting_thaws; /* behind `thawing` */
    struct hook_run *hook; /* the one that runs: there is never another beside it */
    struct freeze_call *failing; /* a failed freeze, which is answered once `hook` has ended */
    bool has_succeeded; /* the last freeze: its host may rely on it */
    enum freeze_record_state breach; /* such a one ended without a thaw: the next thaw is to say so */

    void (*ended)(void *context); /* the agent waits for the end of the freeze */
    void *ended_context;
};

enum freeze_stage { STAGE_LISTEN, STAGE_FREEZE, STAGE_SETTLED };

struct freeze_call {
    struct freezer *freezer;
    struct call *call;
    struct freeze_set *set;
    enum freeze_stage stage;
    bool waits_for_hook; /* somebody else's, before its own */
    int listen_error;
    const char **points;
    struct freeze_result result;
};

struct thaw_call {
    struct freezer *freezer;
    struct call *call;
    struct list waiting;
    struct freeze_set *set; /* NULL until it has begun */
    bool was_on;
    bool has_run;
    bool is_settled; /* what it has done, or not, is entered into the freezer */
    bool is_thawed;
    bool waits_for_hook; /* it answers with what that one, "thaw" already, says */
    struct thaw_result result;
};

/* The phase, and the settings. */
struct freeze_state *freezer_state(const struct freezer *freezer);
const struct settings *freezer_settings(const struct freezer *freezer);

/*
 * Runs the hook, while none runs; `ended` gets the freezer. Returns false if there is none, or if it
 * could not be started, which is then the failure.
 */
bool freezer_start_hook(struct freezer *freezer, const char *word, hook_run_ended ended,
                        const char **ret_failure);

/*
 * The same with "thaw" for a freeze that ended without a thaw. `failing` is answered when the hook has
 * ended; NULL: nobody waits for it.
 */
bool freezer_start_late_hook(struct freezer *freezer, struct freeze_call *failing);

/* A freeze that waited for another's hook to end begins with its own. */
void freezer_go_on_freezing(struct freeze_call *freeze);

/* Ends the hook of a freeze that has not come further than that: it will not freeze anything. */
void freezer_stop_freeze_hook(struct freezer *freezer);

/* Watches over the freezer's set. Returns 0 or -ENOMEM. */
int freezer_watch(struct freezer *freezer, uint64_t deadline_ms);

/* Nothing is frozen any more, and what was kept for that goes. */
void freezer_become_thawed(struct freezer *freezer);

/* Whoever waits in freezer_end() need not any longer. */
void freezer_tell_end(struct freezer *freezer);

/* The freeze's call is over: a thaw that waits for that goes on. */
void freezer_freeze_is_over(struct freezer *freezer);

/* A thaw has thawed: it goes on with its hook and its answer, once no freeze is on its way. */
enum call_next thaw_call_go_on(struct thaw_call *thaw);

/* The hook that it waited for has ended: it answers. */
void thaw_call_hook_ended(struct thaw_call *thaw, const char *failure);

#endif
