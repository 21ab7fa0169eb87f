/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_UEVENT_H
#define BELLHOP_IO_UEVENT_H

/*
 * What the kernel tells of devices that come and go: kobject_uevent's netlink messages, the ones
 * that udev gets, too. Needs no privilege, but the initial network namespace.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct event_base;
struct uevent_listener;

/* The texts lie in the message. */
struct uevent {
    const char *action;    /* "add", "remove", "change", ... */
    const char *path;      /* below /sys: "/devices/system/cpu/cpu1" */
    const char *subsystem; /* "cpu" */
};

/* Called from the loop for each event; must not free the listener. */
typedef void (*uevent_callback)(const struct uevent *event, void *context);

/* Returns 0 or -errno. */
int uevent_listener_new(struct event_base *base, uevent_callback callback, void *context,
                        struct uevent_listener **ret_listener) MUST_CHECK ON_LOOP;
struct uevent_listener *uevent_listener_free(struct uevent_listener *listener) ON_LOOP;

/*
 * Takes one message apart: a header and NAME=VALUE texts, each followed by a NUL. Returns false if
 * it is none of the kernel's or says too little. Pure: any thread.
 */
bool uevent_parse(const char *bytes, size_t length, struct uevent *ret_event);

#endif
