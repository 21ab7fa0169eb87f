/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_IO_PATH_WATCH_H
#define BELLHOP_IO_PATH_WATCH_H

/*
 * Tells when something may have changed about paths that could not be opened: that they, or
 * a directory that leads to them, appeared, got other permissions, or were closed by
 * somebody else. By inotify(7), so nothing runs while nothing happens. ON_LOOP.
 *
 * One shot: after the callback it is to be armed again. Arm first, then try to open: what happens
 * in between is then not missed.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct event_base;
struct path_watch;

/* Called from the loop, the watch disarmed; may arm it again, not free it. */
typedef void (*path_watch_callback)(void *context);

/* Returns NULL if there is no memory. */
struct path_watch *path_watch_new(struct event_base *base, path_watch_callback callback,
                                  void *context) ON_LOOP;
struct path_watch *path_watch_free(struct path_watch *watch) ON_LOOP;

/*
 * Watches `path` (absolute): the path itself, what it points to where it is a symbolic link, and
 * every directory on the way to them for the next component of the path. With `directory` (may be
 * NULL) every new entry of that directory counts too. What was watched before no longer is.
 * Returns 0; or -errno if it cannot be watched, and then nothing is.
 */
int path_watch_arm(struct path_watch *watch, const char *path,
                   const char *directory) MUST_CHECK ON_LOOP;

/* True from an arming that succeeded until the callback: what was armed for is still watched. */
bool path_watch_is_armed(const struct path_watch *watch) ON_LOOP;

/* Watches nothing any more. */
void path_watch_disarm(struct path_watch *watch) ON_LOOP;

#endif
