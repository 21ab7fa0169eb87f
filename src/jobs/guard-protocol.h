/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_GUARD_PROTOCOL_H
#define BELLHOP_JOBS_GUARD_PROTOCOL_H

/*
 * What an agent and a thaw guard tell each other: packets over a SOCK_SEQPACKET socket,
 * STATEDIR/bellhop/thaw-guard.sock. The agent listens there, the guard that it started connects, and
 * gets the listening socket with the first message: so later agents, also of other versions, find
 * the guard under the same name.
 *
 *     agent                                    guard
 *     ARM (pidfd, directory, listener)   ─▶
 *     MOUNTS (descriptors), any number   ─▶
 *     READY                              ─▶    is ready for everything
 *                                        ◀─    ARMED
 *     SETTLED: every FIFREEZE has returned ─▶
 *     CLAIM: a thaw begins               ─▶
 *                                        ◀─    ANSWER: whether it was too late
 *     DONE: the thaw is over             ─▶    thaws once more, and ends
 *
 * Any connection may SUBSCRIBE, to be told FIRING and FINISHED, and ASK. Who claimed and goes away
 * without DONE has the guard thaw at once. Any thread; nothing here allocates.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

#define GUARD_SOCKET_NAME "thaw-guard.sock"

/* So many descriptors go with one message; the kernel takes 253. */
enum { GUARD_FDS_MAX = 128 };

enum guard_message_type {
    GUARD_ARM = 1,
    GUARD_MOUNTS,
    GUARD_READY,
    GUARD_ARMED,
    GUARD_SETTLED,
    GUARD_CLAIM,
    GUARD_ASK,
    GUARD_ANSWER,
    GUARD_DONE,
    GUARD_SUBSCRIBE,
    GUARD_FIRING, /* the deadline has passed: it begins to thaw */
    GUARD_FINISHED, /* everything is thawed */
};

enum guard_flags {
    GUARD_HAS_FIRED = 1 << 0,    /* ANSWER: the deadline passed before the thaw */
    GUARD_IS_LOCKED = 1 << 1,    /* ARMED: its memory cannot be swapped out */
    GUARD_CANNOT_THAW = 1 << 2,  /* ARMED: it has not the rights */
    GUARD_IS_FINISHED = 1 << 3,  /* ANSWER: everything was thawed */
    GUARD_IS_INCOMPLETE = 1 << 4, /* ANSWER: the freeze was under way when its agent died */
    GUARD_LEAVE_ALONE = 1 << 5,   /* DONE: nothing was frozen, so nothing is to be thawed */
};

struct guard_message {
    uint32_t magic;
    uint32_t type;
    uint32_t flags;
    uint32_t count;       /* MOUNTS: its descriptors; READY: of all */
    uint64_t deadline_ms; /* ARM, ANSWER: of CLOCK_BOOTTIME; 0: none */
};

/* The clock of deadlines: it goes on while the guest sleeps, as the host's patience does. */
uint64_t guard_clock_ms(void);

/* Sends without waiting, with `count` descriptors. Returns 0 or -errno. */
int guard_message_send(int fd, const struct guard_message *message, const int *fds,
                       size_t count) MUST_CHECK;

/*
 * Takes one message without waiting. `ret_fds` has room for GUARD_FDS_MAX and is the caller's
 * afterwards. Returns 0; -EAGAIN: none is there; -EPIPE: the other side is gone; -EBADMSG; or -errno.
 */
int guard_message_receive(int fd, struct guard_message *ret_message, int *ret_fds,
                          size_t *ret_count) MUST_CHECK;

#endif
