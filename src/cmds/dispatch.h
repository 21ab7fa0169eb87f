/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_DISPATCH_H
#define BELLHOP_CMDS_DISPATCH_H

/*
 * The dispatcher stands between sessions and the scheduler: it reads requests, asks the gates,
 * makes a task of each, takes it through its command's hooks, and composes the reply. It is the
 * only place that knows both a request and a command.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct call;
struct dispatcher;
struct gate;
struct pool;
struct request_handler;
struct scheduler;
struct services;

struct dispatcher_options {
    struct services *services; /* its `settings` are read here; the others are for the commands */
    struct pool *pool;
    struct scheduler *scheduler;
    const struct gate *gate;
    unsigned own_origin; /* in the pool, of work that no channel is to pay for */
    bool (*is_frozen)(void *context); /* ON_LOOP; NULL: never */
    void *context;
};

/* What the options point to must outlive the dispatcher. Returns 0 or -ENOMEM. */
int dispatcher_new(const struct dispatcher_options *options,
                   struct dispatcher **ret_dispatcher) MUST_CHECK ON_LOOP;
struct dispatcher *dispatcher_free(struct dispatcher *dispatcher) ON_LOOP;

/* What sessions are to be given as handler, with the dispatcher as its context. */
const struct request_handler *dispatcher_request_handler(void);

/* True if the command at that index of the table may be called under that profile. */
bool dispatcher_is_enabled(const struct dispatcher *dispatcher, unsigned profile,
                           size_t command_index) ANY_THREAD;

/* The lists of commands alone: if they allow it, then it is the profile that does not have it. */
bool dispatcher_is_listed(const struct dispatcher *dispatcher, size_t command_index) ANY_THREAD;

/* Reads the call's text within the configured limits: call_decode(). */
void dispatcher_decode(struct dispatcher *dispatcher, struct call *call) ANY_THREAD;

/*
 * Hands a call to the scheduler: it runs once it is permitted and its lane is free. On failure its
 * error is set, and it is still the caller's.
 */
bool dispatcher_submit(struct dispatcher *dispatcher, struct call *call) ON_LOOP MUST_CHECK;

/* Frees a call that was not submitted. */
void dispatcher_discard(struct dispatcher *dispatcher, struct call *call) ON_LOOP;


#endif
