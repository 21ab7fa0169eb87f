/* SPDX-License-Identifier: MIT */
#include "hot-plug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory-block.h"
#include "base/processor.h"
#include "base/settings.h"
#include "cmds/services.h"
#include "io/uevent.h"
#include "security/capabilities.h"
#include "security/privileges.h"

struct hot_plug {
    struct services *services;
    struct uevent_listener *listener;
};

bool hot_plugged_from(struct hot_plugged *ret_plugged, const struct uevent *event)
{
    int end = 0;
    if (strcmp(event->action, "add") != 0)
        return false;
    ret_plugged->is_memory = strcmp(event->subsystem, "memory") == 0;
    if (ret_plugged->is_memory)
        sscanf(event->path, "/devices/system/memory/memory%u%n", &ret_plugged->number, &end);
    else if (strcmp(event->subsystem, "cpu") == 0)
        sscanf(event->path, "/devices/system/cpu/cpu%u%n", &ret_plugged->number, &end);
    return end > 0 && event->path[end] == '\0';
}

int hot_plugged_bring_online(const struct hot_plugged *plugged)
{
    struct processor processor;
    struct memory_block block;
    if (plugged->is_memory) {
        int r = memory_block_read(&block, plugged->number);
        return r < 0 || block.is_online ? r : memory_block_set_online(plugged->number, true);
    }
    int r = processor_read(&processor, plugged->number);
    return r < 0 || processor.is_online ? r : processor_set_online(plugged->number, true);
}

static void bring_online(void *argument)
{
    _cleanup_free_ struct hot_plugged *plugged = argument;
    const char *what = plugged->is_memory ? "memory block" : "processor";
    int r = hot_plugged_bring_online(plugged);
    if (r < 0)
        log_warning("%s %u was plugged in, but cannot be brought online: %s", what, plugged->number,
                    strerror(-r));
    else
        log_info("%s %u was plugged in and is online", what, plugged->number);
}

static void on_uevent(const struct uevent *event, void *context)
{
    struct hot_plug *hot_plug = context;
    const struct settings *settings = hot_plug->services->settings;
    struct hot_plugged plugged;
    if (!hot_plugged_from(&plugged, event) ||
        !(plugged.is_memory ? settings->hotplug_memory : settings->hotplug_processors))
        return;
    struct hot_plugged *copy = malloc(sizeof(*copy));
    if (!copy) {
        log_warning("%s: plugged in, but there is no memory left to bring it online", event->path);
        return;
    }
    *copy = plugged;
    services_run_detached(hot_plug->services, bring_online, copy);
}

const struct capability_need hot_plug_needs[] = {
    {CAP_NET_ADMIN, "a buffer for as many events as a memory module makes at once"},
    CAPABILITY_NEEDS_END,
};

bool hot_plug_is_wanted(const struct settings *settings)
{
    return settings->hotplug_processors || settings->hotplug_memory;
}

int hot_plug_new(struct event_base *base, struct services *services, struct hot_plug **ret_hot_plug)
{
    assert_on_loop();
    *ret_hot_plug = NULL;
    if (!hot_plug_is_wanted(services->settings))
        return 0;
    struct hot_plug *hot_plug = calloc(1, sizeof(*hot_plug));
    if (!hot_plug)
        return -ENOMEM;
    hot_plug->services = services;
    privileges_enter(hot_plug_needs);
    int error = uevent_listener_new(base, on_uevent, hot_plug, &hot_plug->listener);
    privileges_leave();
    if (error) {
        free(hot_plug);
        return error;
    }
    *ret_hot_plug = hot_plug;
    return 0;
}

struct hot_plug *hot_plug_free(struct hot_plug *hot_plug)
{
    if (!hot_plug)
        return NULL;
    uevent_listener_free(hot_plug->listener);
    free(hot_plug);
    return NULL;
}
