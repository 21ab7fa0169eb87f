/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_AUDIT_H
#define BELLHOP_CMDS_AUDIT_H

/*
 * The audit: one JSON line for every refusal, and two for every change to the guest: what was decided,
 * before there is any effect, and what came of it. docs/policy.md has the members. It goes to a file or, as
 * fields, to the journal, by a thread of its own; or into the log.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct audit;

/* A call as its records show it. Borrowed; NULL where there is none. */
struct audit_call {
    uint64_t number; /* the same in the records of one call; 0: none */
    const char *channel;
    const char *peer;
    unsigned profile;
    const char *command;
};

/*
 * `destination` is the policy's: an absolute path, POLICY_AUDIT_LOG or POLICY_AUDIT_JOURNAL (after that may
 * follow ":PATH", its socket, for tests). After the last fork. Returns 0 or -errno.
 */
int audit_new(const char *destination, struct audit **ret_audit) MUST_CHECK;

/* Writes what is queued, for at most `timeout_ms`; nobody may use it any more. Returns NULL. */
struct audit *audit_free(struct audit *audit, unsigned timeout_ms);

/* Waits at most that long until what is queued is written, and leaves the rest as it is: where somebody
 * may still use it. */
void audit_flush(struct audit *audit, unsigned timeout_ms);

/* A number for a call's records. */
uint64_t audit_next_number(struct audit *audit) ANY_THREAD;

/* `arguments` are those of args_describe(), or NULL: secrets are left out there. */
void audit_decision(struct audit *audit, const struct audit_call *call, bool is_allowed,
                    const char *rule, const char *arguments) ANY_THREAD;

/* `result` is "done", "failed" or "unknown"; `error` NULL or what the client was told. */
void audit_result(struct audit *audit, const struct audit_call *call, const char *result,
                  const char *error) ANY_THREAD;

void audit_reopen(struct audit *audit) ANY_THREAD;

#endif
