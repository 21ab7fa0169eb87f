/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_SERVER_H
#define BELLHOP_JOBS_BROKER_SERVER_H

/*
 * The broker process at work: it serves one agent after the other. The first one, which started it,
 * may spawn. Once that one is gone the broker is retired: it finishes what it has and hands the
 * results to the agents that come after, found through its socket; results that nobody comes for
 * are kept for their retention. It ends when it has no agent and nothing left to keep or to drain.
 *
 * Runs alone in its process, on one thread, and never waits for anything but its epoll.
 */

#include <stdint.h>

#include "base/cleanup.h"
#include "jobs/child.h"

struct broker_policy;
struct syscall_filter;

struct broker_server_options {
    int agent_fd;    /* of the agent that started it; taken */
    int listener_fd; /* where later agents connect; -1: none. Taken. */
    uint64_t stream_bytes_max;
    uint64_t output_bytes_max;
    uint64_t input_bytes_max;
    uint64_t retention_ms;
    struct child_origin origin;
    const struct broker_policy *policy; /* borrowed; NULL: anything may be run */
    struct syscall_filter *const *filters; /* child_gate_make_filters() of its rules */
};

/* Serves until there is nothing left to do. Returns 0, or -errno if it could not begin. */
int broker_server_run(const struct broker_server_options *options) MUST_CHECK;

#endif
