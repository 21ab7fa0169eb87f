/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SECURITY_PRIVILEGES_H
#define BELLHOP_SECURITY_PRIVILEGES_H

/*
 * The agent's threads run without any capability in force. Who does a command's work raises those
 * that its row names, for as long as it takes:
 *
 *     privileges_enter(command->needs);
 *     ...
 *     privileges_leave();
 *
 * Threads that are started in between inherit what is raised. This keeps mistakes from having
 * effects; code that an attacker controls could raise whatever is permitted, too.
 */

#include <stdint.h>

#include "base/thread.h"
#include "security/capabilities.h"

/*
 * Says what the process has kept: only that is raised. Called once, before the first thread; without
 * it the pair does nothing, and whatever is in force stays so.
 */
void privileges_settle(uint64_t permitted);

/* Not to be nested. */
void privileges_enter(const struct capability_need *needs) ANY_THREAD;
void privileges_leave(void) ANY_THREAD;

#endif
