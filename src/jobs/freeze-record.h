/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_FREEZE_RECORD_H
#define BELLHOP_JOBS_FREEZE_RECORD_H

/*
 * STATEDIR/bellhop/freeze: by this an agent that starts knows that an earlier one froze the guest, or
 * that its freeze did not last until the thaw. Written before the first file system is frozen and
 * removed when everything is thawed. A record of an earlier boot says nothing: a boot thaws.
 *
 * `directory` is what broker_directory_open() returns. Any thread that may wait for a disk; nothing
 * here allocates.
 */

#include <stdint.h>

#include "base/cleanup.h"

enum freeze_record_state {
    FREEZE_RECORD_NONE,
    FREEZE_RECORD_FROZEN, /* or about to be */
    /* Thawed, and not by a thaw; whoever had it frozen does not know that yet. */
    FREEZE_RECORD_EXPIRED, /* its timeout passed */
    FREEZE_RECORD_DIED,    /* the agent died while it froze */
    FREEZE_RECORD_ENDED,   /* the agent was ended */
};

struct freeze_record {
    enum freeze_record_state state;
    uint64_t deadline_ms; /* of CLOCK_BOOTTIME; 0: none */
};

/* Written beside and renamed; if that fails, over the one that is there. Returns 0 or -errno. */
int freeze_record_write(int directory, const struct freeze_record *record) MUST_CHECK;

/* What cannot be read or understood is none. */
struct freeze_record freeze_record_read(int directory);

/* Returns 0, also if there is none, or -errno. */
int freeze_record_remove(int directory) MUST_CHECK;

#endif
