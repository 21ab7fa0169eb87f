/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_FREEZER_H
#define BELLHOP_CMDS_FREEZER_H

/*
 * Freeze and thaw as the loop sees them: one at a time, with the hook before and after, the guard, and
 * what an earlier agent left. The commands are in freeze.c.
 *
 *     freeze:  hook "freeze" ─▶ guard ─▶ the worker freezes ─▶ frozen
 *     thaw:    stops the freeze ─▶ the rescue worker thaws ─▶ thawed ─▶ hook "thaw"
 *
 * A freeze that fails, that the guard ends, or that ends with the agent, has the hook "thaw" run, too.
 * All of it: ON_LOOP.
 */

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "cmds/command.h"

struct event_base;
struct freezer;
struct services;

struct freezer_options {
    struct event_base *base;
    struct services *services; /* `settings`, `broker` and `freeze` are used */
    const char *state_directory;
    const char *hook; /* NULL: none */
};

/* Takes over what an earlier agent froze. Nothing in `options` is copied. Returns 0 or -ENOMEM. */
int freezer_new(const struct freezer_options *options, struct freezer **ret_freezer) MUST_CHECK;

/* What is frozen stays so, and the guard with it. Returns NULL. */
struct freezer *freezer_free(struct freezer *freezer);

/*
 * The agent is to end. Returns true if it may at once. False: something is frozen; it is being
 * thawed, and `ended` will be called when that is done and the hook has ended. Who cannot wait so long
 * leaves what hangs to the guard, and the hook to itself.
 */
bool freezer_end(struct freezer *freezer, void (*ended)(void *context), void *context);

/* The hooks of the commands. */
enum call_next freezer_prepare_freeze(struct call *call);
enum call_next freezer_run_freeze(struct call *call);
enum call_next freezer_finish_freeze(struct call *call);
void freezer_release_freeze(struct call *call);
void freezer_cancel_freeze(struct call *call);
enum call_next freezer_prepare_thaw(struct call *call);
enum call_next freezer_run_thaw(struct call *call);
enum call_next freezer_finish_thaw(struct call *call);
void freezer_release_thaw(struct call *call);

/* guest-fsfreeze-freeze-list's arguments; guest-fsfreeze-freeze has them, too, and fills in none. */
struct freeze_args {
    struct arg_list mountpoints; /* of struct arg_text */
    bool has_mountpoints;
};

#endif
