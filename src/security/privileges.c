/* SPDX-License-Identifier: MIT */
#include "security/privileges.h"

#include <string.h>

#include "base/log.h"

/* Written before there are threads. */
static uint64_t permitted_set;

/* Most commands need nothing, and then nothing is asked of the kernel. */
static _Thread_local bool is_raised;

void privileges_settle(uint64_t permitted)
{
    permitted_set = permitted;
}

void privileges_enter(const struct capability_need *needs)
{
    uint64_t set = capability_needs_set(needs, true) & permitted_set;
    if (set == 0)
        return;
    int error = capabilities_set_effective(set);
    is_raised = error == 0;
    /* The work says itself what it could not do. */
    if (error)
        log_error("capabilities could not be raised: %s", strerror(-error));
}

void privileges_leave(void)
{
    if (!is_raised)
        return;
    is_raised = false;
    int error = capabilities_set_effective(0);
    if (error)
        log_error("capabilities could not be lowered: %s", strerror(-error));
}
