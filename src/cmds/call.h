/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_CALL_H
#define BELLHOP_CMDS_CALL_H

/*
 * The inside of a call, for the dispatcher (and tests). Commands use command.h only.
 *
 * A call is moved: dispatcher (loop) → perhaps a worker, for decoding → loop → worker → loop.
 * The fields say who may touch them when a deadline has passed and the loop goes on while the
 * worker still has the call.
 */

#include <stdatomic.h>

#include "base/buffer.h"
#include "cmds/audit.h"
#include "cmds/command.h"
#include "cmds/wire-error.h"
#include "io/json.h"
#include "jobs/pool.h"
#include "jobs/task.h"

struct command_job;
struct dispatcher;
struct endpoint;
struct request;

/* What the call was about to do; the last one said is the one that counts. */
struct call_step_text {
    struct call_step_text *previous;
    char text[];
};

enum { CALL_PEER_MAX = 64 };

enum call_decision { DECISION_NONE, DECISION_ALLOWED, DECISION_REFUSED };

struct call {
    /* immutable once the request was understood */
    struct dispatcher *dispatcher;
    struct services *services;
    const struct command *command; /* NULL: there is none of that name, or no name */
    size_t command_index;
    unsigned profile;        /* PROFILE_COUNT: nobody has said */
    const char *channel;    /* its name; outlives the call */
    char peer[CALL_PEER_MAX]; /* who asks, for the audit; "" where nobody knows */
    struct buffer id; /* the request's id as JSON; empty: it has none */
    const struct endpoint *endpoint;

    /* loop only */
    struct request *request; /* NULL once it was answered, or if its answer goes to a job alone */
    bool is_submitted;       /* the scheduler has the task; released() will be called */
    bool has_turn;           /* its answer keeps nobody's place any more */
    bool is_given_up;
    void (*told)(void *services, enum delivery what, uint64_t token);
    uint64_t told_token;
    void (*overdue)(void *context); /* NULL: nothing can be ended */
    void *overdue_context;

    /* set before anybody else has the call; loop only but for its progress and whether it was
     * cancelled. NULL: it is no job */
    struct command_job *job;

    /* owned by whoever has the call */
    char *text; /* the message, until it is decoded */
    size_t text_length;
    struct json_document *document;
    void *args;
    struct buffer reply;
    struct json_writer writer;
    struct wire_error error;
    void *state;
    enum call_next next;

    /* written by whoever has the call, read by the loop */
    _Atomic(struct call_step_text *) step;
    _Atomic(enum call_decision) decision;
    _Atomic uint64_t audit_number;

    struct pool_work decoding; /* of a big message */
    struct task task;
};

/* `request`: NULL if its answer is to go to a job alone. */
struct call *call_new(struct dispatcher *dispatcher, struct services *services,
                      const struct endpoint *endpoint, struct request *request) ON_LOOP;

/*
 * A call that another one makes is made under its profile, and for its peer. Until somebody has said
 * whom it is for, a call is under no profile, which has no command.
 */
void call_inherit(struct call *call, const struct call *asker) ON_LOOP;

/* Returns NULL. */
struct call *call_free(struct call *call);

/*
 * Reads call->text (which is taken): fills in id, command and args, or the error. Pure: any
 * thread that has the call.
 */
void call_decode(struct call *call, const struct json_limits *limits);

/* "handle:1000": the command's lane and the argument that it is about; NULL: it has none. */
enum { CALL_LANE_MAX = 512 };
const char *call_lane(const struct call *call, char buffer[CALL_LANE_MAX]);

/* What only carrying it out needed: its arguments and what they stand in. What is echoed stays. */
void call_drop_arguments(struct call *call);

/*
 * The reply's line, from what was written or the error; an error is set if the reply did not fit
 * into memory. Marked as failed if that did not, either.
 */
struct buffer call_compose(struct call *call);

/* The line of an error reply, from an error and the call's id: touches nothing a worker may have. */
struct buffer call_compose_error(const struct call *call, const struct wire_error *error);

/* What came of a call that was allowed, for the audit: "done", "failed" or "unknown". ON_LOOP. */
void call_audit_result(struct call *call, const char *result, const struct wire_error *error)
    ON_LOOP;

/* The last step that was said, or NULL. */
const char *call_last_step(const struct call *call);

#endif
