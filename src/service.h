/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SERVICE_H
#define BELLHOP_SERVICE_H

/* How whoever started the agent is told that it is ready: a shell by -d, systemd by a socket. */

#include <stdbool.h>

#include "base/cleanup.h"

/*
 * Goes on in a child process, in the background: a session of its own, in /. The calling process
 * waits until service_ready() and exits with status 0; or, if the child ends before that, with
 * status 1. What goes wrong until then still reaches its stderr. Start-up only, before there are
 * threads and other processes. Returns 0 in the child, or -errno.
 */
int service_daemonize(void) MUST_CHECK;

/*
 * The agent serves. A daemon lets go of its terminal (what it inherited as stdin, stdout and
 * stderr becomes /dev/null) and its parent exits; systemd is told (sd_notify(3)). Once.
 */
void service_ready(void);

/* True if a service manager that wants to be told (sd_notify(3)) started the agent. */
bool service_is_managed(void);

/* The agent is about to end: tells systemd. */
void service_stopping(void);

#endif
