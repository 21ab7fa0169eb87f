/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_SERVICES_H
#define BELLHOP_CMDS_SERVICES_H

/*
 * What commands may use of the agent. Built once by agent.c, never changed; what it points to has
 * its own thread rules, stated in its own header.
 */

#include <stdbool.h>

#include "base/thread.h"

struct audit;
struct broker_client;
struct command;
struct dispatcher;
struct file_table;
struct freeze_state;
struct freezer;
struct job_table;
struct policy;
struct settings;

struct services {
    const struct settings *settings; /* any thread */
    const struct policy *policy;     /* any thread; NULL: there is none */
    struct audit *audit;             /* any thread; NULL: nothing is audited */
    struct broker_client *broker;    /* loop only */
    struct job_table *jobs;          /* loop only */
    struct file_table *files;        /* loop only */
    struct dispatcher *dispatcher;   /* loop only */
    struct freeze_state *freeze;     /* its header says who */
    struct freezer *freezer;         /* loop only */

    /* Has what was answered so far written to the hosts and waits for them to take it, though not for
     * long: before the guest goes down. Loop only. */
    void (*flush)(void *context);
    void *flush_context;
};

/* Calls `each` for every command in the table's order; enabled or not under that profile. ON_LOOP. */
void services_for_each_command(struct services *services, unsigned profile,
                               void (*each)(const struct command *command, bool is_enabled,
                                            void *context),
                               void *context) ON_LOOP;

/*
 * Runs `function` on a worker some time later, answering nobody: for what may block and that no
 * request waits for, such as closing a file. ON_LOOP. If there is no memory left it is run at once.
 */
void services_run_detached(struct services *services, void (*function)(void *argument),
                           void *argument) ON_LOOP;

#endif
