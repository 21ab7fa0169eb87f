/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_SANDBOX_H
#define BELLHOP_SANDBOX_H

/*
 * What the agent and its broker give up before they begin: worked out from the profiles of the
 * channels, the commands that are enabled (their rows say what they need) and the rules for
 * programs. docs/security.md has the tables for users.
 *
 * Start-up only, while there is one thread:
 *
 *     sandbox_new()  ─▶  broker_start() with sandbox_confine_broker()  ─▶  sandbox_confine_agent()
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/text-list.h"
#include "security/confinement.h"

struct command;
struct config;
struct gate;

/* Of a user's groups, so many count. */
enum { SANDBOX_GROUPS_MAX = 256 };

struct sandbox_options {
    const struct config *config; /* outlives the sandbox, as do the others */
    const struct gate *gate;
};

/* To be read only. */
struct sandbox {
    struct sandbox_options options;
    unsigned profiles; /* PROFILE_BIT()s: of all channels */
    bool is_full;      /* one of them is `full`, and so is the process */
    bool *is_enabled;  /* by index in the table of commands */

    const char *user_name;        /* that the configuration names, borrowed */
    struct confinement_user user; /* that the agent becomes, where `changes_user` */
    bool changes_user;
    char *state_directory; /* where the agent keeps its state */

    struct confinement agent;
    struct confinement broker;

    /* "agent: Landlock: ...": what cannot be, or was not, put in force. */
    struct text_list complaints;

    struct text_list read_paths;
    struct text_list write_paths;
    struct text_list list_paths;
    struct text_list calls;
};

/* Works it out. Returns 0 or -ENOMEM. */
int sandbox_new(const struct sandbox_options *options, struct sandbox **ret_sandbox) MUST_CHECK;
struct sandbox *sandbox_free(struct sandbox *sandbox);

/*
 * As root, for an agent that will not be: makes its folder for state and the files that it
 * writes to, and gives its group the devices of its channels and commands, where the system has not done that. Returns 0 or -errno with a reason.
 */
int sandbox_make_room(struct sandbox *sandbox, char **ret_reason) MUST_CHECK;

/* In the broker; `context` is the sandbox. Ends the process where that is strict and fails. */
void sandbox_confine_broker(void *context);

/*
 * In the agent, right before its first thread: complaints are logged. Returns 0, or -EPERM if there
 * are any and the configuration is strict.
 */
int sandbox_confine_agent(struct sandbox *sandbox) MUST_CHECK;

/* Finds out what could not be put in force here, in children that try it: adds the complaints. */
int sandbox_try(struct sandbox *sandbox) MUST_CHECK;

#endif
