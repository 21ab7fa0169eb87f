/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CLIENT_AGENT_H
#define BELLHOP_CLIENT_AGENT_H

/*
 * An agent as a client sees it: a connection on which one request at a time is sent and its reply
 * awaited. The guest behind it is not trusted: what it sends is bounded in size, and nothing it
 * sends before the reply to our own sync is taken for an answer. One thread only.
 */

#include <stdint.h>

#include "client/report.h"

struct agent;
struct json_document;
struct json_value;
struct request;

struct agent_options {
    const char *address; /* borrowed; outlives the agent */
    unsigned limit_ms;   /* how long to wait for each answer; 0: as the caller of each thinks fit */
};

/*
 * Connects and syncs: sends 0xFF and a guest-sync-delimited with a random id, and skips everything
 * up to its reply, which an agent gives at once even when it is busy.
 */
enum outcome agent_open(const struct agent_options *options, struct agent **ret_agent) MUST_CHECK;

/* Closes the connection. Returns NULL. */
struct agent *agent_free(struct agent *agent);

static inline void cleanup_agent(struct agent **agent)
{
    agent_free(*agent);
}
#define _cleanup_agent_ _cleanup_(cleanup_agent)

/*
 * Gives up on whatever is still unanswered and syncs anew, for what must be tidied up after a
 * failure or a signal. From here on every wait is a short one.
 */
enum outcome agent_resync(struct agent *agent) MUST_CHECK;

/*
 * Sends the request and waits for its reply: for the time the user gave, else for
 * `usual_limit_ms`, 0 being without limit.
 * OUTCOME_OK: the value of "return" is in `ret_value`, borrowed from the document, which is the
 * caller's. Everything else has been reported.
 */
enum outcome agent_call(struct agent *agent, const struct request *request, unsigned usual_limit_ms,
                        struct json_document **ret_document,
                        const struct json_value **ret_value) MUST_CHECK;

/*
 * Gives the reply to a call that a signal interrupted a last, short chance: when it says what has
 * to be tidied up.
 */
enum outcome agent_await_late(struct agent *agent, const struct request *request,
                              struct json_document **ret_document,
                              const struct json_value **ret_value) MUST_CHECK;

/* agent_call() for a command whose reply says nothing. */
enum outcome agent_call_void(struct agent *agent, const struct request *request,
                             unsigned usual_limit_ms) MUST_CHECK;

#endif
