/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_PEER_H
#define BELLHOP_JOBS_BROKER_PEER_H

/*
 * One broker as the agent sees it: what it says becomes jobs in the table. There is the agent's
 * own, which spawns, and those that earlier agents left behind, whose jobs are listed first. For
 * broker-client.c; commands use broker-client.h. The I/O thread's alone.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/list.h"
#include "base/thread.h"
#include "jobs/broker-payload.h"
#include "jobs/exec-job.h"

struct broker_link;
struct broker_peer;
struct event_base;
struct job_table;

enum broker_peer_state {
    BROKER_PEER_MEETING, /* its hello has not come */
    BROKER_PEER_LISTING, /* it lists its jobs */
    BROKER_PEER_READY,
};

/* What a peer tells the one who has it. */
struct broker_peer_owner {
    struct event_base *base;
    struct job_table *jobs;
    /* A pid became the name of a job that this broker has, or is none any more. */
    void (*pid_named)(struct broker_peer_owner *owner, struct broker_peer *peer, pid_t pid,
                      bool is_named);
    /* The broker is gone, its jobs are dealt with; the peer is to be freed here. */
    void (*lost)(struct broker_peer_owner *owner, struct broker_peer *peer, int error);
};

struct broker_peer {
    struct list of_owner; /* the owner's */
    struct broker_peer_owner *owner;
    struct broker_link *link;
    char *name;  /* of its socket, for the log */
    bool is_own; /* this agent started it */
    enum broker_peer_state state;
    pid_t pid;
    struct list jobs;
    size_t listed;
};

/* Takes the descriptor, also on failure. NULL: no memory. */
struct broker_peer *broker_peer_new_take(struct broker_peer_owner *owner, int fd, const char *name,
                                         bool is_own) ON_LOOP;

/* Its jobs stay as they are, here and there. Returns NULL. */
struct broker_peer *broker_peer_free(struct broker_peer *peer) ON_LOOP;

/* Has it spawn a job that is in the table. The payload is taken. Returns 0 or -errno. */
int broker_peer_spawn_take(struct broker_peer *peer, struct exec_job *exec,
                           struct spawn_payload *payload) ON_LOOP MUST_CHECK;

/* Tells the job's broker, if it still has one, that nobody will ask for its result. */
void broker_peer_release(struct exec_job *exec) ON_LOOP;

/* Returns 0; -ESRCH: no broker has it; or -errno. That it has ended meanwhile is no error. */
int broker_peer_signal(struct exec_job *exec, int number, bool to_group) ON_LOOP MUST_CHECK;

/*
 * Sends the first `length` bytes of the sealed memory (-1 if `length` is 0) to the program's
 * standard input, which ends after that if it is the last. The descriptor is taken. Returns 0;
 * -ESRCH: no broker has it; -EPROTONOSUPPORT: its broker is too old for it; or -errno.
 */
int broker_peer_input_take(struct exec_job *exec, int memory_fd, uint64_t length,
                           bool is_last) ON_LOOP MUST_CHECK;

/* Keeps a pid from being the name of a new job, or not any more. */
void broker_peer_reserve_pid(struct broker_peer *peer, pid_t pid, bool is_reserved) ON_LOOP;

#endif
