/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_PIDFILE_H
#define BELLHOP_PIDFILE_H

/*
 * A pidfile: the process's number in a file that it keeps locked, so that a second agent with the
 * same pidfile does not start and a file left by one that died is no hindrance. The lock excludes
 * the classic agent, too.
 *
 * The lock belongs to the open file (F_OFD_SETLK in fcntl(2)) and so is shared with every process
 * forked later: to be made after the last fork whose child outlives the agent (the broker).
 * Start-up and shut-down only.
 */

#include "base/cleanup.h"

struct pidfile;

/*
 * Locks the file, made with mode 0600 if need be, and writes the calling process's number into it.
 * Returns 0; -EAGAIN if another process holds it; or another -errno. On an error `ret_reason` is a
 * message for the operator (malloc'ed; NULL without memory).
 */
int pidfile_create(const char *path, struct pidfile **ret_pidfile, char **ret_reason) MUST_CHECK;

/*
 * Removes the file, if it is still this one, and lets go of the lock. If it may not be removed (any
 * more) it stays there, empty. Returns NULL.
 */
struct pidfile *pidfile_remove(struct pidfile *pidfile);

#endif
