/* SPDX-License-Identifier: MIT */
#include "jobs/broker-pids.h"

#define CAPACITY_FIRST 64

int broker_pids_add(struct broker_pids *pids, int32_t pid)
{
    if (pids->count == pids->capacity) {
        size_t capacity = pids->capacity ? pids->capacity * 2 : CAPACITY_FIRST;
        int32_t *grown = realloc(pids->pids, capacity * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        pids->pids = grown;
        pids->capacity = capacity;
    }
    pids->pids[pids->count++] = pid;
    return 0;
}

void broker_pids_remove(struct broker_pids *pids, int32_t pid)
{
    for (size_t i = 0; i < pids->count; i++) {
        if (pids->pids[i] == pid) {
            pids->pids[i] = pids->pids[--pids->count];
            return;
        }
    }
}

void broker_pids_clear(struct broker_pids *pids)
{
    pids->count = 0;
}

bool broker_pids_have(const struct broker_pids *pids, int32_t pid)
{
    for (size_t i = 0; i < pids->count; i++) {
        if (pids->pids[i] == pid)
            return true;
    }
    return false;
}

void broker_pids_deinit(struct broker_pids *pids)
{
    free(pids->pids);
    *pids = (struct broker_pids)BROKER_PIDS_INIT;
}
