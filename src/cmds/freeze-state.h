/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_FREEZE_STATE_H
#define BELLHOP_CMDS_FREEZE_STATE_H

/*
 * Whether the guest's file systems are frozen, or about to be, for whoever has to know: the
 * dispatcher, which refuses commands meanwhile, and workers that change file systems in slices (a
 * trim) and have to pause between two of them.
 *
 * The loop alone changes the phase. A freeze waits for a slice that runs, and for nothing else;
 * status and thaw do not wait for slices at all.
 */

#include <stdbool.h>

#include "base/thread.h"

struct freeze_state;

enum freeze_phase {
    FREEZE_THAWED,
    FREEZE_FREEZING, /* begun: hooks may run, some file systems may be frozen */
    FREEZE_FROZEN,
    FREEZE_THAWING,
};

/* Thawed. NULL: no memory. */
struct freeze_state *freeze_state_new(void);
/* Nobody may use it any more. Returns NULL. */
struct freeze_state *freeze_state_free(struct freeze_state *state);

void freeze_state_set(struct freeze_state *state, enum freeze_phase phase) ON_LOOP;
enum freeze_phase freeze_state_phase(const struct freeze_state *state) ANY_THREAD;

/* True in every phase but FREEZE_THAWED: what changes file systems is to pause. */
bool freeze_state_is_on(const struct freeze_state *state) ANY_THREAD;

/*
 * Begins a slice of work that a freeze has to wait for; while a freeze is on, waits until that is
 * over. `is_cancelled` is asked before and while it waits. Returns false if that said so: then no
 * slice has begun. True: freeze_slice_end() is to follow, soon.
 */
bool freeze_slice_begin(struct freeze_state *state, bool (*is_cancelled)(void *context),
                        void *context) ON_WORKER;
void freeze_slice_end(struct freeze_state *state) ON_WORKER;

/* What `is_cancelled` asks for has changed: it is asked again soon. */
void freeze_state_wake(struct freeze_state *state) ANY_THREAD;

/*
 * For the freeze, once the phase says so: waits until no slice runs. Returns false if
 * `is_cancelled` said so first.
 */
bool freeze_state_wait_for_slices(struct freeze_state *state, bool (*is_cancelled)(void *context),
                                  void *context) ON_WORKER;

#endif
