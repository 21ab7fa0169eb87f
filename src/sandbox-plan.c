/* SPDX-License-Identifier: MIT */
#include "sandbox-plan.h"

#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysroot.h"
#include "cmds/command.h"
#include "cmds/table.h"
#include "config.h"
#include "hot-plug.h"
#include "security/capabilities.h"
#include "security/program-rule.h"

/* --- capabilities --- */

/* The commands that run what a rule allows. */
static const char *const program_commands[] = {"guest-exec", "bellhop-job-start"};

/* What the broker needs to do what a rule says, before it becomes the program. */
static const struct capability_need rule_needs[] = {
    {CAP_SETPCAP, "leave a program only the capabilities of its rule"},
    {CAP_SETUID, "run a program as the user of its rule"},
    {CAP_SETGID, "run a program with the groups of its rule"},
    {CAP_KILL, "end a program of another user"},
    CAPABILITY_NEEDS_END,
};

static const struct capability_need account_needs[] = {
    {CAP_KILL, "end what has become another user and does not come back"},
    CAPABILITY_NEEDS_END,
};

typedef void (*need_callback)(void *context, const char *who, unsigned capability, const char *why);

static void each_need(const char *who, const struct capability_need *needs, bool with_extras,
                      need_callback each, void *context)
{
    for (; needs && needs->why; needs++)
        if (with_extras || !needs->is_extra)
            each(context, who, needs->capability, needs->why);
}

static const struct program_rules *rules_of(const struct sandbox *sandbox)
{
    return &sandbox->options.config->policy.programs;
}

static bool runs_programs(const struct sandbox *sandbox)
{
    if (rules_of(sandbox)->count == 0)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(program_commands); i++) {
        int index = command_find(program_commands[i], strlen(program_commands[i]));
        if (index >= 0 && sandbox->is_enabled[index])
            return true;
    }
    return false;
}

static void each_rule_need(const struct sandbox *sandbox, need_callback each, void *context)
{
    uint64_t known = capabilities_known();
    each_need("programs", rule_needs, true, each, context);
    for (size_t i = 0; i < rules_of(sandbox)->count; i++) {
        const struct program_rule *rule = &rules_of(sandbox)->rules[i];
        for (unsigned capability = 0; capability < 64; capability++)
            if (rule->capabilities & known & CAPABILITY_BIT(capability))
                each(context, rule->name, capability, "kept by the program of this rule");
        if (rule->has_scope && rule->may_gain_privileges)
            each(context, rule->name, CAP_SYS_ADMIN,
                 "limit the files of a program that may gain privileges");
    }
}

void sandbox_for_each_need(const struct sandbox *sandbox, bool of_broker, need_callback each,
                           void *context)
{
    bool becomes_account = false;
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        if (!sandbox->is_enabled[i])
            continue;
        const struct capability_need *needs = of_broker ? command->helper_needs : command->needs;
        each_need(command->name, needs, sandbox->is_full, each, context);
        if (capability_needs_set(needs, true) & CAPABILITY_BIT(CAP_SETUID))
            becomes_account = true;
    }
    if (!of_broker && hot_plug_is_wanted(&sandbox->options.config->settings))
        each_need("[hotplug]", hot_plug_needs, sandbox->is_full, each, context);
    if (of_broker && becomes_account)
        each_need("helpers", account_needs, true, each, context);
    if (of_broker && runs_programs(sandbox))
        each_rule_need(sandbox, each, context);
}

static void add_to_set(void *context, const char *who, unsigned capability, const char *why)
{
    *(uint64_t *)context |= CAPABILITY_BIT(capability);
}

static uint64_t needed_set(const struct sandbox *sandbox, bool of_broker)
{
    uint64_t set = 0;
    sandbox_for_each_need(sandbox, of_broker, add_to_set, &set);
    return set;
}

/* --- files --- */

/* What the commands of every profile but `full` read. */
static const char *const system_paths[] = {
    "/proc",  "/sys",      "/dev",         "/usr",      "/lib",
    "/lib64", "/run/udev", "/run/systemd", "/run/utmp", "/run/mount",
};

/* Configuration and accounts, which programs replace by new files, so that a folder is named; but
 * not to who may read what others may not. */
static const char *const etc_path = "/etc";
static const char *const etc_paths[] = {
    "/etc/os-release", "/etc/localtime", "/etc/nsswitch.conf",
    "/etc/passwd",     "/etc/group",     "/etc/ld.so.cache",
};

/* The channels' devices, which may come back, and the hardware clock. */
static const char *const device_path = "/dev";

static int add(struct text_list *list, const char *text)
{
    return text_list_append(list, text, strlen(text));
}

/* A socket is made, and removed, in its folder. */
static int add_socket_folders(struct sandbox *sandbox)
{
    const struct config *config = sandbox->options.config;
    int error = 0;
    for (size_t i = 0; i < config->channel_count && !error; i++) {
        if (strcmp(config->channels[i].method, "unix-listen") != 0)
            continue;
        _cleanup_free_ char *path = strdup(config->channels[i].path);
        const char *folder = path ? dirname(path) : NULL;
        error = folder ? add(&sandbox->write_paths, folder) : -ENOMEM;
        if (!error)
            error = add(&sandbox->read_paths, folder);
    }
    return error;
}

static int add_etc(struct sandbox *sandbox, bool reads_all)
{
    int error = 0;
    if (!reads_all)
        return add(&sandbox->read_paths, etc_path);
    for (size_t i = 0; i < ARRAY_SIZE(etc_paths) && !error; i++)
        error = add(&sandbox->read_paths, etc_paths[i]);
    return error;
}

/* With --root the same of that root, too. */
static int add_system(struct sandbox *sandbox, bool reads_all)
{
    const char *root = sysroot_prefix();
    int error = add_etc(sandbox, reads_all);
    for (size_t i = 0; i < ARRAY_SIZE(system_paths) && !error; i++)
        error = add(&sandbox->read_paths, system_paths[i]);
    for (size_t i = 0; root[0] && i < ARRAY_SIZE(system_paths) && !error; i++)
        error = text_list_append_format(&sandbox->read_paths, "%s%s", root, system_paths[i]);
    if (!error && root[0])
        error = text_list_append_format(&sandbox->read_paths, "%s%s", root, etc_path);
    return error;
}

/* Where a rule lets the client open files: a rule within another one may still take some out. */
static int add_rules(struct sandbox *sandbox)
{
    const struct file_rules *rules = &sandbox->options.config->policy.files;
    int index = command_find("guest-file-open", strlen("guest-file-open"));
    int error = 0;
    if (index < 0 || !sandbox->is_enabled[index])
        return 0;
    for (size_t i = 0; i < rules->count && !error; i++) {
        const struct file_rule *rule = &rules->rules[i];
        if (!(rule->profiles & sandbox->profiles))
            continue;
        if (rule->access & FILE_READ)
            error = add(&sandbox->read_paths, rule->path);
        if (!error && rule->access & FILE_WRITE)
            error = add(&sandbox->write_paths, rule->path);
    }
    return error;
}

static int plan_files(struct sandbox *sandbox)
{
    bool reads_all = sandbox->agent.capabilities & CAPABILITY_BIT(CAP_DAC_READ_SEARCH);
    const struct config *config = sandbox->options.config;
    const char *log = config->logfile, *audit = config->policy.audit;
    int error = add_system(sandbox, reads_all);
    if (!error)
        error = add(&sandbox->read_paths, sandbox->state_directory);
    if (!error)
        error = add(&sandbox->write_paths, sandbox->state_directory);
    if (!error)
        error = add(&sandbox->write_paths, device_path);
    if (!error && log && log[0] == '/')
        error = add(&sandbox->write_paths, log);
    if (!error && audit && audit[0] == '/')
        error = add(&sandbox->write_paths, audit);
    if (!error)
        error = add_socket_folders(sandbox);
    if (!error)
        error = add_rules(sandbox);
    /* Who may open any folder does it: mount points. */
    if (!error && reads_all)
        error = add(&sandbox->list_paths, "/");
    return error;
}

static struct landlock_paths paths_of(const struct text_list *list)
{
    return (struct landlock_paths){(const char *const *)list->items, list->count};
}

/* --- system calls --- */

/* The classic agent's commands reach far, so here is named what none of them does. */
static const char *const full_calls[] = {
    "!execve", "!execveat", "!@mount", "!@debug", "!@kernel", "!@clock", "!@credentials", "capset",
};

static const char *const agent_calls[] = {
    "@basic",
    "@io",
    "@file",
    "@network",
    "@threads",
    "capget",
    "capset",
    "kill",
    "tkill",
    "pidfd_open",
    "pidfd_send_signal",
    "wait4",
    "waitid",
    "waitpid",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "chmod",
    "fchmod",
    "fchmodat",
    "setpriority",
    "sched_setaffinity",
};

/* Its children inherit it: what no helper program does. */
static const char *const broker_calls[] = {"!@debug", "!@kernel", "!@mount", "!@clock"};

static int add_calls(struct text_list *list, const char *const *calls, size_t count)
{
    int error = 0;
    for (size_t i = 0; i < count && !error; i++)
        error = add(list, calls[i]);
    return error;
}

static int plan_calls(struct sandbox *sandbox)
{
    struct text_list *calls = &sandbox->calls;
    int error = sandbox->is_full ? add_calls(calls, full_calls, ARRAY_SIZE(full_calls))
                                 : add_calls(calls, agent_calls, ARRAY_SIZE(agent_calls));
    for (size_t i = 0; i < command_count() && !error; i++) {
        const char *const *call = sandbox->is_enabled[i] ? command_at(i)->calls : NULL;
        for (; call && *call && !error; call++)
            error = add(calls, *call);
    }
    return error;
}

/* --- the two processes --- */

static int plan_agent(struct sandbox *sandbox)
{
    struct confinement *agent = &sandbox->agent;
    agent->user = sandbox->changes_user ? &sandbox->user : NULL;
    agent->limits_capabilities = true;
    agent->capabilities = needed_set(sandbox, false);
    agent->locks_securebits = !sandbox->is_full;
    agent->no_new_privs = true;
    int error = sandbox->is_full ? 0 : plan_files(sandbox);
    if (!error)
        error = plan_calls(sandbox);
    if (error)
        return error;
    agent->limits_files = !sandbox->is_full;
    agent->files = (struct landlock_scope){
        .read = paths_of(&sandbox->read_paths),
        .write = paths_of(&sandbox->write_paths),
        .list = paths_of(&sandbox->list_paths),
    };
    agent->limits_calls = true;
    agent->calls =
        (struct syscall_list){(const char *const *)sandbox->calls.items, sandbox->calls.count};
    return 0;
}

static bool some_rule_gains_privileges(const struct sandbox *sandbox)
{
    for (size_t i = 0; i < rules_of(sandbox)->count; i++)
        if (rules_of(sandbox)->rules[i].may_gain_privileges)
            return true;
    return false;
}

/* In `full` it keeps everything: programs are to be as powerful as under the classic agent. */
static void plan_broker(struct sandbox *sandbox)
{
    struct confinement *broker = &sandbox->broker;
    if (sandbox->is_full)
        return;
    bool has_programs = runs_programs(sandbox);
    broker->limits_capabilities = true;
    broker->capabilities = needed_set(sandbox, true);
    broker->in_force = true;
    broker->no_new_privs = !has_programs || !some_rule_gains_privileges(sandbox);
    /* A rule has its own list of calls, and may mean what a filter here would take away. */
    broker->limits_calls = !has_programs;
    broker->calls = (struct syscall_list){broker_calls, ARRAY_SIZE(broker_calls)};
    /* Without anything to do that takes root it is as the agent is. */
    if (broker->capabilities == 0 && !has_programs) {
        broker->user = sandbox->changes_user ? &sandbox->user : NULL;
        broker->locks_securebits = true;
    }
}

int sandbox_plan(struct sandbox *sandbox)
{
    int error = plan_agent(sandbox);
    if (!error)
        plan_broker(sandbox);
    return error;
}
