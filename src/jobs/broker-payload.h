/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_PAYLOAD_H
#define BELLHOP_JOBS_BROKER_PAYLOAD_H

/*
 * What goes with a SPAWN: a sealed memfd that says which program is to run and how. The agent
 * writes it on a worker (it may hold 48 MiB of input), the broker checks it and reads from it.
 *
 *     struct header │ program, arguments…, environment…, working directory, user, each with its
 *     NUL │ input
 *
 * An agent spawns only through the broker that it started itself, so both are of one version.
 * Any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "jobs/broker-protocol.h"

/* What the agent wants. Everything is borrowed. */
struct spawn_request {
    const char *program;
    const char *const *arguments; /* argv[0] among them */
    size_t argument_count;        /* 1 at least */
    const char *const *environment;
    size_t environment_count;
    bool has_environment; /* false: the program gets the agent's own */
    const void *input;
    size_t input_bytes;
    bool has_input;   /* false: the program reads from /dev/null, unless: */
    bool stays_open;  /* more input will come, until it is said to be the last */
    enum broker_capture capture;
    uint64_t stream_bytes_max; /* lowers the broker's own limit for a stream; 0 does not */
    uint64_t timeout_ms;       /* after which the broker ends it; 0: never */
    const char *directory;     /* to work in; NULL or "": the agent's */
    const char *user;          /* to run as, a name or a uid; NULL or "": the agent's */
};

/* The longest time limit, in milliseconds: one year. */
#define SPAWN_TIMEOUT_MAX_MS (UINT64_C(365) * 24 * 3600 * 1000)

/* A payload that is ready to be sent. */
struct spawn_payload {
    int fd;
    enum broker_capture capture;
    uint64_t input_bytes;
    bool stays_open;
    unsigned profile; /* who asks for it; to be set by whoever has it started for a client */
};

#define SPAWN_PAYLOAD_INIT \
    {                      \
        .fd = -1           \
    }

/*
 * Returns 0; -E2BIG when no kernel would take so many or so long arguments; or -errno. On failure
 * the payload is untouched.
 */
int spawn_payload_build(const struct spawn_request *request,
                        struct spawn_payload *ret_payload) MUST_CHECK;
void spawn_payload_deinit(struct spawn_payload *payload);

/* What the broker read and found right. */
struct spawn_plan {
    char *text; /* the strings that the others point to */
    char *program;
    char **arguments;   /* NULL-terminated */
    char **environment; /* NULL-terminated; NULL: the agent's own */
    char *directory;    /* NULL: the agent's */
    char *user;         /* NULL: the agent's */
    uint64_t timeout_ms;
    bool has_input;
    bool stays_open;
    int input_fd; /* the payload itself, -1 without input */
    uint64_t input_offset;
    uint64_t input_bytes;
    enum broker_capture capture;
    uint64_t stream_bytes_max;
};

#define SPAWN_PLAN_INIT \
    {                   \
        .input_fd = -1  \
    }

/*
 * Reads and checks a payload; takes the descriptor, also on failure. Never blocks.
 * Returns 0; -EBADMSG when it is not what spawn_payload_build() makes; -E2BIG; or -errno.
 */
int spawn_plan_open_take(int fd, struct spawn_plan *ret_plan) MUST_CHECK;
void spawn_plan_deinit(struct spawn_plan *plan);

#endif
