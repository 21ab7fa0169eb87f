/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_HOT_PLUG_H
#define BELLHOP_HOT_PLUG_H

/*
 * Brings processors and memory online that are plugged in while the agent runs ([hotplug] of the
 * configuration), as udev rules do on some distributions. What was plugged in before, or was taken
 * offline since, is left as it is.
 */

#include <stdbool.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "security/capabilities.h"

struct event_base;
struct hot_plug;
struct services;
struct settings;
struct uevent;

/*
 * Begins to listen if the settings want it; if not, `ret_hot_plug` becomes NULL. Returns 0 or
 * -errno. `services` outlives it.
 */
int hot_plug_new(struct event_base *base, struct services *services,
                 struct hot_plug **ret_hot_plug) MUST_CHECK ON_LOOP;
struct hot_plug *hot_plug_free(struct hot_plug *hot_plug) ON_LOOP;

/* True if the settings want it. */
bool hot_plug_is_wanted(const struct settings *settings);

/* What it takes of the agent. */
extern const struct capability_need hot_plug_needs[];

/* What was plugged in. */
struct hot_plugged {
    bool is_memory; /* else it is a processor */
    unsigned number;
};

/* Whether an event tells of a processor or memory block that was plugged in. Any thread. */
bool hot_plugged_from(struct hot_plugged *ret_plugged, const struct uevent *event);

/* Brings it online if it is not. Returns 0 or -errno; may block: not for the loop. */
int hot_plugged_bring_online(const struct hot_plugged *plugged) MUST_CHECK;

#endif
