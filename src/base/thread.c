/* SPDX-License-Identifier: MIT */
#include "base/thread.h"

static _Thread_local enum thread_role this_thread = THREAD_UNKNOWN;

void thread_set_role(enum thread_role role)
{
    this_thread = role;
}

enum thread_role thread_role(void)
{
    return this_thread;
}
