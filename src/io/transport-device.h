/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_TRANSPORT_DEVICE_H
#define BELLHOP_IO_TRANSPORT_DEVICE_H

/*
 * What transports of one device share: it is opened, handed out, and when it was lost, opened again
 * or waited for. For the transport-<method>.c files only. ON_LOOP.
 */

#include <stdint.h>

#include "io/transport-method.h"

struct path_watch;

/* First member of the structure of such a method. What is not said to be the method's is private. */
struct transport_device {
    struct transport common;

    /*
     * Opens the device, non-blocking. Returns its descriptor or -errno. `*ret_closed_again` (false
     * before) is set where one was opened that did not do: its closing would look like a change.
     */
    int (*open_device)(struct transport_device *device, bool *ret_closed_again);

    /* Explains why the first opening failed; may leave the reason alone. */
    void (*explain)(const struct transport_device *device, int error, char **ret_reason);

    const char *watched_directory; /* each entry that comes here is a reason to try; or NULL */

    bool retry_path;
    int fd;              /* opened, not yet handed out; or -1 */
    int waiting_error;   /* the last error that was logged while waiting */
    unsigned settle_ms;  /* wait before the next attempt; above the last step none are left */
    uint64_t opened_ms;  /* when the device was last opened */
    struct event *timer; /* the next attempt, or handing out `fd` */
    struct path_watch *watch;
};

/* Opens `path`; a regular file, which cannot be waited on, is refused with -ENODEV. */
int transport_device_open(const char *path, bool *ret_closed_again) MUST_CHECK;

/* What the method's open() comes to, its own members filled. Returns 0 or -errno as that one. */
int transport_device_start(struct transport_device *device, const struct transport *common,
                           const struct transport_options *options, char **ret_reason) MUST_CHECK;

/* The method's disconnected(). */
void transport_device_disconnected(struct transport *transport);

/* Releases the members above; also of a device that was not started, if `fd` is -1. */
void transport_device_deinit(struct transport_device *device);

#endif
