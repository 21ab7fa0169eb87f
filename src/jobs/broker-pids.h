/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_PIDS_H
#define BELLHOP_JOBS_BROKER_PIDS_H

/*
 * Pids that name results which the agent has from other brokers: no new program may get one of
 * them. The broker's one thread, and a child on its copy of the memory.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct broker_pids {
    int32_t *pids;
    size_t count;
    size_t capacity;
};

#define BROKER_PIDS_INIT \
    {                    \
        .pids = NULL     \
    }

/* Returns 0 or -ENOMEM. */
int broker_pids_add(struct broker_pids *pids, int32_t pid) MUST_CHECK;
void broker_pids_remove(struct broker_pids *pids, int32_t pid);
void broker_pids_clear(struct broker_pids *pids);
bool broker_pids_have(const struct broker_pids *pids, int32_t pid);
void broker_pids_deinit(struct broker_pids *pids);

#endif
