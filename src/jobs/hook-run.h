/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_HOOK_RUN_H
#define BELLHOP_JOBS_HOOK_RUN_H

/*
 * A program of the operator's that runs for the agent: the freeze hook. It is the broker's child, has
 * the agent's environment, one argument, and a limit of time; when that is over its process group
 * gets SIGTERM, then SIGKILL. What it prints goes to the log. The I/O thread's alone.
 */

#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct broker_client;
struct event_base;
struct hook_run;

/*
 * It has ended: `failure` is NULL, or says what was wrong, for the client. The run is gone when this
 * returns, even if its program could not be killed.
 */
typedef void (*hook_run_ended)(void *context, const char *failure);

struct hook_run_options {
    struct event_base *base;
    struct broker_client *broker;
    const char *path;
    const char *word;    /* its argument: "freeze"; must outlive the run */
    uint64_t timeout_ms; /* 0: none */
    hook_run_ended ended;
    void *context;
};

/* Returns 0, and `ended` will be called, not before this returns; or -errno. */
int hook_run_start(const struct hook_run_options *options,
                   struct hook_run **ret_run) ON_LOOP MUST_CHECK;

/* Ends it before its time. `ended` is still to come. */
void hook_run_kill(struct hook_run *run) ON_LOOP;

#endif
