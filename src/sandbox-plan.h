/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SANDBOX_PLAN_H
#define BELLHOP_SANDBOX_PLAN_H

/* The inside of sandbox.h: what follows from the profiles, the commands and the rules. */

#include "sandbox.h"

/* Fills in the confinements, with what they are made of. Returns 0 or -ENOMEM. */
int sandbox_plan(struct sandbox *sandbox) MUST_CHECK;

/*
 * Calls `each` for every need of the agent's, or of the broker's, that its capabilities are kept
 * for; `who` is a command's name or what else there is.
 */
void sandbox_for_each_need(const struct sandbox *sandbox, bool of_broker,
                           void (*each)(void *context, const char *who, unsigned capability,
                                        const char *why),
                           void *context);

#endif
