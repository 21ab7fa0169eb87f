/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_AGENT_H
#define BELLHOP_AGENT_H

/*
 * The agent put together: loop, pool, scheduler, broker, commands and channels. main() makes one and
 * runs it. All functions: the thread that becomes the loop.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "io/transport.h"

struct agent;
struct audit;
struct broker_process;
struct gate;
struct peer_rule;
struct policy;
struct settings;

struct agent_channel_options {
    const char *name;
    enum transport_method method;
    const char *path; /* NULL: the method's default */
    bool retry_path;
    const char *vsock_peers; /* or NULL */
    int passed_fd;           /* a listening socket that is taken; or 0 */
    unsigned profile;            /* that its requests are made under */
    const struct peer_rule *peer; /* who may connect; outlives the agent */
};

struct agent_options {
    const struct settings *settings; /* outlives the agent */
    const struct gate *gate;         /* the same, like the next two */
    const struct policy *policy;
    struct audit *audit; /* NULL: nothing is audited */
    const struct agent_channel_options *channels;
    size_t channel_count;
    const char *statedir;
    const char *fsfreeze_hook; /* outlives the agent; NULL: none */
    struct broker_process *broker; /* that was started; its connection is taken */
    bool is_managed;               /* a service manager starts it again when it has failed */
};

/*
 * Opens everything, jobs of earlier brokers first, channels last. Returns 0 or -errno with a message for
 * the operator in `ret_reason` (malloc'ed).
 */
int agent_new(const struct agent_options *options, struct agent **ret_agent,
              char **ret_reason) MUST_CHECK;

/* Serves until SIGTERM or SIGINT. Returns 0, or -errno if it cannot go on. */
int agent_run(struct agent *agent);

/*
 * Closes everything. Returns false if calls were cut short, perhaps with a worker that is stuck: the
 * process must _exit() then without touching more.
 */
bool agent_free(struct agent *agent);

#endif
