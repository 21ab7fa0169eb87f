/* SPDX-License-Identifier: MIT */
#include "sandbox.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sysroot.h"
#include "cmds/command.h"
#include "cmds/table.h"
#include "config.h"
#include "sandbox-plan.h"
#include "security/gate.h"
#include "security/privileges.h"
#include "security/profile.h"

static void complain(struct sandbox *sandbox, const char *who, const char *text)
{
    if (text_list_append_format(&sandbox->complaints, "%s: %s", who, text) < 0)
        log_error("%s: %s", who, text);
}

static void agent_complains(void *context, const char *text)
{
    complain(context, "agent", text);
}

static void broker_complains(void *context, const char *text)
{
    complain(context, "broker", text);
}

/* --- who it becomes --- */

static int find_user(struct sandbox *sandbox)
{
    const struct passwd *account = getpwnam(sandbox->user_name);
    if (!account) {
        char text[256];
        snprintf(text, sizeof(text), "user: there is no user '%s' (setting policy.user)",
                 sandbox->user_name);
        complain(sandbox, "agent", text);
        return 0;
    }
    struct confinement_user *user = &sandbox->user;
    gid_t groups[SANDBOX_GROUPS_MAX];
    int count = SANDBOX_GROUPS_MAX;
    if (getgrouplist(account->pw_name, account->pw_gid, groups, &count) < 0)
        count = 0;
    *user = (struct confinement_user){.user = account->pw_uid, .group = account->pw_gid};
    user->groups = calloc(SANDBOX_GROUPS_MAX, sizeof(*user->groups));
    if (!user->groups)
        return -ENOMEM;
    for (int i = 0; i < count; i++)
        user->groups[user->group_count++] = groups[i];
    sandbox->changes_user = true;
    return 0;
}

/* --- the plan --- */

static int find_enabled(struct sandbox *sandbox)
{
    sandbox->is_enabled = calloc(command_count(), sizeof(*sandbox->is_enabled));
    if (!sandbox->is_enabled)
        return -ENOMEM;
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        bool is_in_profile = false;
        for (unsigned profile = 0; profile < PROFILE_COUNT; profile++)
            if (sandbox->profiles & PROFILE_BIT(profile))
                is_in_profile |= gate_allows_profile(sandbox->options.gate, profile, command->name);
        bool is_elsewhere = command->flags & CMD_OWN_SYSTEM && sysroot_prefix()[0];
        sandbox->is_enabled[i] =
            is_in_profile && !is_elsewhere && !(command->flags & CMD_UNSUPPORTED);
    }
    return 0;
}

static int choose_state_directory(struct sandbox *sandbox)
{
    const char *configured = sandbox->options.config->statedir;
    bool is_own = sandbox->changes_user && geteuid() == 0;
    if (!is_own)
        sandbox->state_directory = strdup(configured);
    else if (asprintf(&sandbox->state_directory, "%s/bellhop-%s", configured, sandbox->user_name) <
             0)
        sandbox->state_directory = NULL;
    return sandbox->state_directory ? 0 : -ENOMEM;
}

static int work_out(struct sandbox *sandbox)
{
    int error = find_enabled(sandbox);
    if (error)
        return error;
    sandbox->is_full = sandbox->profiles & PROFILE_BIT(PROFILE_FULL);
    const char *user = sandbox->options.config->policy.user;
    sandbox->user_name = user ? user : POLICY_DEFAULT_USER;
    if (!sandbox->is_full)
        error = find_user(sandbox);
    if (!error)
        error = choose_state_directory(sandbox);
    if (!error)
        error = sandbox_plan(sandbox);
    return error;
}

static unsigned profiles_of(const struct config *config)
{
    unsigned profiles = 0;
    for (size_t i = 0; i < config->channel_count; i++)
        profiles |= PROFILE_BIT(config->channels[i].profile);
    return profiles;
}

int sandbox_new(const struct sandbox_options *options, struct sandbox **ret_sandbox)
{
    struct sandbox *sandbox = calloc(1, sizeof(*sandbox));
    if (!sandbox)
        return -ENOMEM;
    *sandbox = (struct sandbox){
        .options = *options,
        .profiles = profiles_of(options->config),
        .agent = CONFINEMENT_INIT,
        .broker = CONFINEMENT_INIT,
    };
    int error = work_out(sandbox);
    if (error) {
        sandbox_free(sandbox);
        return error;
    }
    *ret_sandbox = sandbox;
    return 0;
}

struct sandbox *sandbox_free(struct sandbox *sandbox)
{
    if (!sandbox)
        return NULL;
    confinement_deinit(&sandbox->agent);
    confinement_deinit(&sandbox->broker);
    free(sandbox->is_enabled);
    free(sandbox->user.groups);
    free(sandbox->state_directory);
    struct text_list *lists[] = {&sandbox->complaints, &sandbox->read_paths, &sandbox->write_paths,
                                 &sandbox->list_paths, &sandbox->calls};
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
        text_list_deinit(lists[i]);
    free(sandbox);
    return NULL;
}

/* --- in force --- */

/* The broker has no log; what it cannot have the agent mostly cannot have either, and tells. */
void sandbox_confine_broker(void *context)
{
    struct sandbox *sandbox = context;
    confinement_prepare(&sandbox->broker, broker_complains, sandbox);
    confinement_apply(&sandbox->broker, broker_complains, sandbox);
    if (sandbox->options.config->policy.is_strict && sandbox->complaints.count > 0)
        _exit(EXIT_FAILURE);
}

static void confine_agent(struct sandbox *sandbox)
{
    confinement_prepare(&sandbox->agent, agent_complains, sandbox);
    confinement_apply(&sandbox->agent, agent_complains, sandbox);
}

int sandbox_confine_agent(struct sandbox *sandbox)
{
    confine_agent(sandbox);
    struct capability_sets sets;
    if (capabilities_read(&sets) == 0 && sets.effective == 0)
        privileges_settle(sets.permitted);
    bool is_strict = sandbox->options.config->policy.is_strict;
    for (size_t i = 0; i < sandbox->complaints.count; i++)
        log_write(is_strict ? LOG_ERROR : LOG_WARNING, "not in force: %s",
                  sandbox->complaints.items[i]);
    return is_strict && sandbox->complaints.count > 0 ? -EPERM : 0;
}

/* --- tried --- */

/* In a child: confines itself and prints what is complained of, one a line. */
static _Noreturn void try_in_child(struct sandbox *sandbox, struct confinement *confinement,
                                   confinement_complaint complaint, int out)
{
    size_t before = sandbox->complaints.count;
    confinement_prepare(confinement, complaint, sandbox);
    confinement_apply(confinement, complaint, sandbox);
    for (size_t i = before; i < sandbox->complaints.count; i++)
        (void)!dprintf(out, "%s\n", sandbox->complaints.items[i]);
    _exit(EXIT_SUCCESS);
}

static int read_complaints(struct sandbox *sandbox, int fd)
{
    _cleanup_fclose_ FILE *lines = fdopen(fd, "r");
    _cleanup_free_ char *line = NULL;
    size_t room = 0;
    ssize_t length;
    if (!lines) {
        close_fd(fd);
        return -ENOMEM;
    }
    while ((length = getline(&line, &room, lines)) > 1)
        if (text_list_append(&sandbox->complaints, line, (size_t)length - 1) < 0)
            return -ENOMEM;
    return 0;
}

static int try_one(struct sandbox *sandbox, struct confinement *confinement,
                   confinement_complaint complaint)
{
    int ends[2], status;
    if (pipe(ends) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        try_in_child(sandbox, confinement, complaint, ends[1]);
    close_fd(ends[1]);
    if (pid < 0) {
        close_fd(ends[0]);
        return -EAGAIN;
    }
    int error = read_complaints(sandbox, ends[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        complaint(sandbox, "the attempt to confine a process failed");
    return error;
}

int sandbox_try(struct sandbox *sandbox)
{
    int error = try_one(sandbox, &sandbox->broker, broker_complains);
    return error ? error : try_one(sandbox, &sandbox->agent, agent_complains);
}
