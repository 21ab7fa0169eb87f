/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_POLICY_H
#define BELLHOP_JOBS_BROKER_POLICY_H

/*
 * What the broker may be asked to run. It holds a copy of the policy that it was forked with, so
 * what an attacker makes of the agent cannot have anything run that the policy does not allow. What
 * the broker has to believe the agent is the channel, and so the profile, that asks.
 *
 * Nothing here blocks: what needs a look at files is decided in the child (child-gate.h).
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "jobs/broker-payload.h"
#include "jobs/child-gate.h"

struct program_rules;

/* Plain; what it points to must outlive the broker. */
struct broker_policy {
    const struct program_rules *rules;
    unsigned exec_profiles; /* PROFILE_BIT()s of those that have a channel with guest-exec */

    /* Programs that the agent has for its own commands: words as struct command tells them. */
    const char *const *const *own_programs;
    size_t own_program_count;
    const char *const *own_folders;     /* where those without a slash are; NULL-terminated */
    const char *const *own_environment; /* members that they may be given; NULL-terminated */
};

/* Who has a program started. */
struct broker_asker {
    unsigned profile;
    bool is_own; /* the agent itself, for a command of its own */
};

/*
 * May it be tried at all? NULL in place of the policy: anything. Returns 0, or -EPERM with the reason
 * for the client.
 */
int broker_policy_check(const struct broker_policy *policy, const struct broker_asker *asker,
                        const struct spawn_plan *plan,
                        char ret_reason[CHILD_REASON_MAX]) MUST_CHECK;

/* True if a child of that asker has to pass the rules. */
bool broker_policy_has_gate(const struct broker_policy *policy, const struct broker_asker *asker);

#endif
