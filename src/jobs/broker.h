/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_BROKER_H
#define BELLHOP_JOBS_BROKER_H

/*
 * The broker: a small process that owns every child and keeps its output, so that neither depends
 * on the agent living on. This is how the agent starts it; broker-client.h is how it talks to it,
 * broker-server.h what it does.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "jobs/child.h"

struct broker_policy;
struct settings;

struct broker_owner {
    uid_t user;
    gid_t group;
};

struct broker_options {
    const char *state_directory; /* where later agents find it */
    const struct settings *settings;
    const struct broker_policy *policy; /* what it may run; NULL: anything */
    const struct child_origin *origin; /* what children get; NULL: what the caller has now */

    /* Where the agent will be another user than the caller: whose the folder and the socket are, and
     * who is trusted besides. */
    const struct broker_owner *owner;

    /* Called in the broker, before its work: gives up what it does not need. NULL: nothing. */
    void (*confine)(void *context);
    void *context;
};

/* The agent's hold on the broker that it started. */
struct broker_process {
    int fd;             /* the connection */
    pid_t pid;          /* a child of the agent */
    int listener_error; /* 0; or -errno: no later agent will find it, jobs end with this one's life
                         */
    char *socket_name;  /* malloc'ed; NULL if it has none */
};

#define BROKER_PROCESS_INIT \
    {                       \
        .fd = -1            \
    }

/*
 * Forks the broker. To be called by a process that has one thread, after whatever the agent shares
 * with its children (working directory, environment) is settled and before it opens what it does
 * not (the broker closes every descriptor it does not need all the same). Returns 0 or -errno. A
 * state directory that cannot be used is no failure: see `listener_error`.
 */
int broker_start(const struct broker_options *options,
                 struct broker_process *ret_process) MUST_CHECK;

/* Closes the connection: a broker that has nothing left to do ends. Does not wait for it. */
void broker_process_deinit(struct broker_process *process);

#endif
