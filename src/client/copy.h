/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_COPY_H
#define BELLHOP_CLIENT_COPY_H

#include "client/report.h"

struct agent;

/*
 * `bellhop SOCKET read` and `write`: copy a whole file out of the guest to stdout, and stdin to a
 * file of the guest. However they end, the file in the guest is closed if the agent can still be
 * reached.
 */
enum outcome copy_from_guest(struct agent *agent, const char *path) MUST_CHECK;
enum outcome copy_to_guest(struct agent *agent, const char *path) MUST_CHECK;

#endif
