/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_COMMAND_H
#define BELLHOP_CMDS_COMMAND_H

/*
 * What a command is, and what its code may use. One table row says everything about a command;
 * one file per family exports its rows; table.c lists the families. ARCHITECTURE.md tells how to add
 * one.
 *
 * A call is one command being carried out. It goes through up to three hooks:
 *
 *     prepare (I/O thread) ─▶ run (worker) ─▶ finish (I/O thread)
 *
 * Most commands have only `run`. With CMD_ON_LOOP, `run` is called on the I/O thread at the
 * request's turn, and must not block: no file, no lock, no name service.
 * `prepare` looks up what the loop owns (a file handle, a job) and may already answer; `finish`
 * enters a result into what the loop owns (a new handle), or starts what completes later
 * (CALL_PENDING). Between the hooks the call is moved, so each has it for itself.
 *
 * A hook fails by call_fail() and returns CALL_ANSWER. A reply is what was written to
 * call_reply(); nothing written means {}.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "cmds/args.h"
#include "io/json-writer.h"
#include "io/delivery.h"
#include "security/capabilities.h"

struct call;
struct services; /* what commands may use of the agent: cmds/services.h */

enum call_next {
    CALL_CONTINUE, /* go on to the next hook; after the last one, answer */
    CALL_ANSWER,   /* answer now: with the error if one was set, else with what was written */
    CALL_PENDING,  /* call_complete() will be called later, on the loop (not from `run` on a worker) */
    CALL_RUN_AGAIN, /* from `finish`: go back to `run`, on a worker */
};

typedef enum call_next (*call_hook)(struct call *call);

enum command_flags {
    CMD_ON_LOOP = 1 << 0,             /* `run` is evaluated on the I/O thread */
    CMD_ALLOWED_WHEN_FROZEN = 1 << 1, /* refusal is the default */
    CMD_NO_SUCCESS_REPLY = 1 << 2,    /* guest-info: success-response false */
    CMD_FENCE = 1 << 3,               /* a sync: supersedes what came before it on its channel */
    CMD_RESERVED = 1 << 4,            /* gets through when the pending limit is reached */
    CMD_EXPIRES = 1 << 5,             /* cancelled by a fence if it has not begun */
    CMD_CHANGES_GUEST = 1 << 6,       /* logged at info: it changes the guest */
    CMD_RESCUE = 1 << 7,              /* runs on the rescue worker */
    CMD_NO_DEADLINE = 1 << 8,         /* none unless one is configured for it */
    CMD_UNSUPPORTED = 1 << 9,         /* listed as disabled, never runs */
    CMD_DELIMITED = 1 << 10,          /* the reply is preceded by 0xFF */
    /* acts on the system that the agent is part of: not for an agent that looks at another one */
    CMD_OWN_SYSTEM = 1 << 24,
    CMD_DECIDES = 1 << 20,            /* a hook asks the rules, and says call_decided() itself */
    CMD_JOB = 1 << 16,    /* its calls are jobs, from their admission on: cmds/command-job.h */
    CMD_NO_JOB = 1 << 17, /* bellhop-job-start refuses it */
    CMD_URGENT = 1 << 11,             /* waits neither for its turn (io/session.h) nor for its lane */
};

struct command {
    const char *name;
    const char *summary;         /* one line for people */
    const struct arg_spec *args; /* ended by ARG_END; NULL: takes none */
    size_t args_size;            /* sizeof the struct that they fill */
    call_hook prepare;           /* ON_LOOP, may be NULL */
    call_hook run;               /* ON_WORKER, or ON_LOOP with CMD_ON_LOOP */
    call_hook finish;            /* ON_LOOP, may be NULL */
    /* ON_LOOP: frees call_state(); called exactly once, when nothing of the call runs any more,
     * also when its answer was given up on long before. */
    void (*release)(struct call *call);

    /* ON_LOOP: the call is a job that has begun and was cancelled; call_is_cancelled() is true now.
     * A worker has the call, so this may only wake it. NULL: it cannot be cancelled once it has
     * begun. */
    void (*cancel)(struct call *call);

    /* About how many bytes the reply to these arguments may have, where that can be a lot; NULL: it
     * cannot. Any thread. Of one channel, replies that are large together are made one by one. */
    size_t (*reply_bytes)(const void *args);

    /* Calls with the same lane run one after another in the order they came, across channels.
     * With `lane_arg`, the value of that argument (an ARG_INT64 or ARG_STRING) is part of the lane:
     * {"handle", "handle"} makes one lane per file handle. NULL: no lane. */
    const char *lane;
    const char *lane_arg;

    /* Tells which programs of the system it has run, and how (helper-program.h): what is not told
     * here, the broker may refuse. Each is an array that is never freed: a name or a path, the
     * arguments ("*" stands for any one, "..." at the end for any more), NULL. NULL: none. */
    void (*programs)(void (*tell)(void *context, const char *const *words), void *context);

    unsigned flags;

    /* What it takes, and all that it takes; without: nothing (docs/security.md). */
    const struct capability_need *needs;        /* of the agent: raised around `run` */
    const struct capability_need *helper_needs; /* of the broker, for programs that it has run */
    const char *const *calls;   /* system calls, besides those that are everybody's; NULL-terminated */
    const char *const *devices; /* that it opens; NULL-terminated */
};

/* One family of commands: what a src/cmds/<family>.c exports. */
struct command_family {
    const struct command *commands;
    size_t count;
};

#define COMMAND_FAMILY(rows)                                                                       \
    {                                                                                              \
        .commands = (rows), .count = ARRAY_SIZE(rows)                                              \
    }

/* --- for the hooks; any of them unless it says otherwise --- */

/* The struct that the argument rows filled. */
void *call_args(struct call *call);

/* Where the value of "return" is written. Not after call_fail(). */
struct json_writer *call_reply(struct call *call);

/* Sets the error (GenericError). The first one wins. Returns CALL_ANSWER. */
enum call_next call_fail(struct call *call, const char *format, ...) PRINTF_LIKE(2, 3);
/* The same with ": " and the system's text for `error` (an errno, positive) at its end. */
enum call_next call_fail_errno(struct call *call, int error, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Memory of the command's own that goes with the call from hook to hook; freed by `release`. */
void call_set_state(struct call *call, void *state);
void *call_state(struct call *call);

struct services *call_services(struct call *call);

/* The profile (security/profile.h) of the channel that the request came by. Handles and jobs
 * belong to the one that they were made under. */
unsigned call_profile(const struct call *call);

/*
 * Says what the call is about to do that may take long ("opening '/mnt/nfs/x'"): named in the
 * error and the log if it never comes back. Cheap; to be called before each step that may hang.
 */
void call_step(struct call *call, const char *format, ...) PRINTF_LIKE(2, 3);

/*
 * Says what was decided on the call, and by which rule ("[files data]"; NULL: by its profile), before
 * there is any effect: for the audit. What only has CMD_CHANGES_GUEST is allowed by its profile and
 * need not say so. A refusal counts also after that; the caller fails, too.
 */
void call_decided(struct call *call, bool is_allowed, const char *rule);

/*
 * True once the deadline has passed: a system call that returned EINTR is then not to be tried
 * again. The caller fails with any error; the client gets the deadline's own.
 */
bool call_is_interrupted(struct call *call);

/*
 * ON_LOOP: has `overdue` called on the loop if the deadline passes while the call is pending, to end
 * what it waits for; call_complete() is due all the same. NULL: nothing waits any more.
 */
void call_on_overdue(struct call *call, void (*overdue)(void *context), void *context) ON_LOOP;
/* How far a job has come. What is not known is 0. */
enum { CALL_PROGRESS_ITEM_MAX = 256 };
struct call_progress {
    uint64_t done; /* so many of */
    uint64_t total;
    const char *item; /* what it is at: a mount point; NULL: nothing. Copied, cut to fit */
    uint64_t item_done_bytes; /* so much of that */
    uint64_t item_total_bytes;
    uint64_t bytes; /* that were dealt with altogether */
    bool is_paused; /* it waits for a thaw */
};

/* Says so, for bellhop-job-status; nothing happens if the call is no job. Cheap. */
void call_set_progress(struct call *call, const struct call_progress *progress);

/* True once the job that the call is was cancelled: it is to fail soon, with any error. */
bool call_is_cancelled(struct call *call);

/* ON_LOOP: ends a call whose hook returned CALL_PENDING. */
void call_complete(struct call *call) ON_LOOP;

/*
 * ON_LOOP: has such a call go on with `run`, on a worker. If its client has been given an error
 * meanwhile, because of a deadline, it is released instead.
 */
void call_go_on(struct call *call) ON_LOOP;

/*
 * ON_LOOP: cancels the calls of this one's lane that came before it on any channel, have not begun, and
 * may expire (CMD_EXPIRES). Their clients get an error.
 */
void call_cancel_earlier(struct call *call) ON_LOOP;

/*
 * ON_LOOP (`prepare`, `finish`, or `run` with CMD_ON_LOOP): has `told` called on the loop, with
 * the agent's struct services and `token`, when something becomes known of the fate of this call's
 * reply: either DELIVERY_DROPPED, or DELIVERY_WRITTEN and then perhaps DELIVERY_SEEN
 * (io/delivery.h says what each means).
 */
void call_on_delivery(struct call *call,
                      void (*told)(void *services, enum delivery what, uint64_t token),
                      uint64_t token) ON_LOOP;

#endif
