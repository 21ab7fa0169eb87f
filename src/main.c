/* SPDX-License-Identifier: MIT */
/*
 * bellhopd: reads its configuration, starts the broker, and runs the agent. The order matters: the
 * broker is forked before there is any thread, lock file or log file that it could inherit.
 */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "base/buffer.h"
#include "base/log.h"
#include "cmds/audit.h"
#include "cmds/authorized-keys.h"
#include "cmds/command.h"
#include "cmds/table.h"
#include "check.h"
#include "config.h"
#include "jobs/broker.h"
#include "jobs/thaw-guard.h"
#include "options.h"
#include "other-root.h"
#include "own-programs.h"
#include "passed-sockets.h"
#include "pidfile.h"
#include "sandbox.h"
#include "security/gate.h"
#include "service.h"

/* How long the log may take to write its last lines. */
enum { LOG_STOP_MS = 1000 };

/* Says on stderr what is wrong with the command line or the configuration; `reason` may be NULL. */
static int refuse(const char *reason, int error)
{
    fprintf(stderr, "bellhopd: %s\n", reason ? reason : strerror(-error));
    return EXIT_FAILURE;
}

/* Says in the log why the agent cannot start. */
static int fail(const char *what, const char *reason, int error)
{
    log_error("%s: %s", what, reason ? reason : strerror(-error));
    return EXIT_FAILURE;
}

/* What is worked out before anything begins. */
struct setup {
    const struct config *config;
    const struct gate *gate;
    struct sandbox *sandbox;
};

static const char **command_names(void)
{
    size_t count = command_count();
    const char **names = calloc(count + 1, sizeof(*names));
    for (size_t i = 0; names && i < count; i++)
        names[i] = command_at(i)->name;
    return names;
}

static int print_config(const struct config *config)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    for (size_t i = 0; i < config->warnings.count; i++)
        fprintf(stderr, "bellhopd: %s\n", config->warnings.items[i]);
    config_dump(config, &text);
    if (text.failed || fwrite(text.data, 1, text.length, stdout) != text.length ||
        fflush(stdout) == EOF)
        return EXIT_FAILURE;
    return EXIT_SUCCESS;
}

/*
 * glibc keeps freed memory for later: large blocks stay in the heap once one was freed, and every
 * thread has a heap of its own. An agent that copied one file is to be small again.
 */
static void limit_malloc(void)
{
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    mallopt(M_TRIM_THRESHOLD, 128 * 1024);
    mallopt(M_ARENA_MAX, 2);
}

/* File handles and running programs take descriptors; the broker, which was forked before, passes
 * on the original limits. */
static void raise_limits(void)
{
    struct rlimit limit = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
    /* A freeze locks the memory. Without the right to do more, as much as there may be. */
    if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0 && getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_MEMLOCK, &limit);
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static struct gate *make_gate(const struct config *config)
{
    static const char *const none[] = {NULL};
    struct gate_rules rules = {
        .blocked = (const char *const *)config->block_rpcs.names.items,
        .blocked_count = config->block_rpcs.names.count,
        .file_profiles = file_rules_profiles(&config->policy.files),
    };
    if (config->allow_rpcs.is_given) {
        rules.allowed_count = config->allow_rpcs.names.count;
        rules.allowed =
            rules.allowed_count ? (const char *const *)config->allow_rpcs.names.items : none;
    }
    return gate_new(&rules);
}

static int fill_channels(const struct config *config, struct agent_channel_options **ret_channels)
{
    _cleanup_free_ struct agent_channel_options *channels =
        calloc(config->channel_count, sizeof(*channels));
    if (!channels)
        return -ENOMEM;
    for (size_t i = 0; i < config->channel_count; i++) {
        const struct config_channel *from = &config->channels[i];
        channels[i] = (struct agent_channel_options){
            .name = from->name,
            .path = from->path,
            .retry_path = config->retry_path,
            .vsock_peers = from->vsock_peers,
            .passed_fd = from->passed_fd,
            .profile = from->profile,
            .peer = &from->peer,
        };
        int error = transport_method_from_name(from->method, &channels[i].method);
        if (error)
            return error;
    }
    *ret_channels = take_ptr(&channels);
    return 0;
}

/* Returns the exit status. With `*ret_is_cut_short` the process must end without touching anything.
 */
static int run_agent(const struct setup *setup, struct broker_process *broker, struct audit *audit,
                     bool *ret_is_cut_short)
{
    _cleanup_free_ struct agent_channel_options *channels = NULL;
    _cleanup_free_ char *reason = NULL;
    struct agent *agent = NULL;
    const struct config *config = setup->config;
    int error = fill_channels(config, &channels);
    if (!error) {
        struct agent_options options = {
            .settings = &config->settings,
            .gate = setup->gate,
            .policy = &config->policy,
            .audit = audit,
            .channels = channels,
            .channel_count = config->channel_count,
            .statedir = setup->sandbox->state_directory,
            .fsfreeze_hook = config->fsfreeze_hook,
            .broker = broker,
            .is_managed = service_is_managed(),
        };
        error = agent_new(&options, &agent, &reason);
    }
    if (error)
        return fail("the agent could not be started", reason, error);
    log_info("bellhopd %s is ready", BELLHOP_VERSION);
    service_ready();
    error = agent_run(agent);
    service_stopping();
    *ret_is_cut_short = !agent_free(agent);
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* The same, with its audit. */
static int run_audited(const struct setup *setup, struct broker_process *broker,
                       bool *ret_is_cut_short)
{
    struct audit *audit = NULL;
    const char *destination = setup->config->policy.audit;
    int error = destination ? audit_new(destination, &audit) : 0;
    if (error)
        return fail(destination, NULL, error);
    int status = run_agent(setup, broker, audit, ret_is_cut_short);
    if (*ret_is_cut_short)
        audit_flush(audit, LOG_STOP_MS);
    else
        audit_free(audit, LOG_STOP_MS);
    return status;
}

static int open_log(const struct config *config)
{
    struct log_options options = {
        .path = config->logfile,
        .level = config->verbose ? LOG_DEBUG : LOG_INFO,
    };
    return log_open(&options);
}

/* The broker is forked with everything, and gives up what it does not need by itself. It has a copy
 * of what it is started with. */
static int start_broker(const struct setup *setup, struct broker_process *ret_broker)
{
    struct sandbox *sandbox = setup->sandbox;
    struct own_programs *programs = own_programs_new(setup->config, setup->gate);
    if (!programs)
        return -ENOMEM;
    const struct broker_owner owner = {sandbox->user.user, sandbox->user.group};
    const struct broker_options options = {
        .state_directory = sandbox->state_directory,
        .settings = &setup->config->settings,
        .policy = own_programs_policy(programs),
        .owner = sandbox->changes_user && geteuid() == 0 ? &owner : NULL,
        .confine = sandbox_confine_broker,
        .context = sandbox,
    };
    int error = broker_start(&options, ret_broker);
    own_programs_free(programs);
    return error;
}

static int serve(const struct setup *setup)
{
    const struct config *config = setup->config;
    struct sandbox *sandbox = setup->sandbox;
    _cleanup_free_ char *reason = NULL;
    struct pidfile *pidfile = NULL;
    bool is_cut_short = false;
    _cleanup_(broker_process_deinit) struct broker_process broker = BROKER_PROCESS_INIT;

    int error = config->daemon ? service_daemonize() : 0;
    if (error)
        return fail("running in the background", NULL, error);
    error = sandbox_make_room(sandbox, &reason);
    if (error)
        return fail(sandbox->state_directory, reason, error);
    error = start_broker(setup, &broker);
    if (error)
        return fail("the broker could not be started", NULL, error);
    error = open_log(config);
    if (error)
        return fail(config->logfile ? config->logfile : "stderr", NULL, error);
    if (broker.listener_error)
        log_warning("%s: %s: running programs will not be found by the next agent",
                    sandbox->state_directory, strerror(-broker.listener_error));
    for (size_t i = 0; i < config->warnings.count; i++)
        log_warning("%s", config->warnings.items[i]);
    if (config->has_pidfile || config->daemon) {
        error = pidfile_create(config->pidfile, &pidfile, &reason);
        if (error)
            return fail(config->pidfile, reason, error);
    }
    raise_limits();
    umask((mode_t)config->settings.file_umask);
    signal(SIGPIPE, SIG_IGN);
    error = sandbox_confine_agent(sandbox);
    if (error)
        return fail("the sandbox is not complete, and policy.strict is set", NULL, error);
    error = log_start();
    int status = error ? fail("the log writer could not be started", NULL, error)
                       : run_audited(setup, &broker, &is_cut_short);
    pidfile_remove(pidfile);
    log_stop(LOG_STOP_MS);
    if (is_cut_short)
        _exit(status);
    return status;
}

/* Serves, or tells (--check) how it would. */
static int run(const struct options *options, const struct config *config)
{
    struct gate *gate = make_gate(config);
    struct sandbox *sandbox = NULL;
    struct sandbox_options sandbox_options = {.config = config, .gate = gate};
    int error = gate ? sandbox_new(&sandbox_options, &sandbox) : -ENOMEM;
    int status = EXIT_FAILURE;
    if (error)
        refuse(NULL, error);
    else if (options->action == OPTIONS_CHECK)
        status = check_print(config, sandbox, stdout);
    else
        status = serve(&(struct setup){config, gate, sandbox});
    sandbox_free(sandbox);
    gate_free(gate);
    return status;
}

int main(int argc, char **argv)
{
    _cleanup_(options_deinit) struct options options = {0};
    _cleanup_(passed_sockets_deinit) struct passed_sockets sockets = {0};
    _cleanup_free_ char *reason = NULL;
    _cleanup_free_ const char **names = command_names();
    struct config *config = NULL;
    if (argc > 1 && strcmp(argv[1], AUTHORIZED_KEYS_ARGUMENT) == 0)
        return authorized_keys_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], THAW_GUARD_ARGUMENT) == 0)
        return thaw_guard_main(argc, argv);
    limit_malloc();

    int error = names ? options_parse(argc, argv, &options, &reason) : -ENOMEM;
    if (error)
        return refuse(reason, error);
    switch (options.action) {
    case OPTIONS_PRINT_HELP:
        options_print_help(stdout, argv[0]);
        return EXIT_SUCCESS;
    case OPTIONS_PRINT_VERSION:
        options_print_version(stdout);
        return EXIT_SUCCESS;
    case OPTIONS_LIST_COMMANDS:
        options_print_commands(stdout, names);
        return EXIT_SUCCESS;
    case OPTIONS_RUN:
    case OPTIONS_CHECK:
    case OPTIONS_DUMP_CONFIG:
        break;
    }
    options.sockets = &sockets;
    error = passed_sockets_take(PASSED_SOCKETS_FIRST, &sockets, &reason);
    if (!error)
        error = config_load(&options, names, &config, &reason);
    if (!error && options.root && options.action == OPTIONS_RUN)
        error = other_root_use(options.root, &reason);
    if (error)
        return refuse(reason, error);
    int status =
        options.action == OPTIONS_DUMP_CONFIG ? print_config(config) : run(&options, config);
    config_free(config);
    return status;
}
