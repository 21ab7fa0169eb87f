/* SPDX-License-Identifier: MIT */

/*
 * guest-shutdown, guest-suspend-*: through the programs that the system has for it, the one that
 * knows most about the system first; through the kernel only where there are none at all. Where a
 * program has failed it may have had a reason.
 *
 * What was answered before has reached the host when the guest begins to go down. Success has no
 * reply: nobody could rely on it.
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sysroot.h"
#include "cmds/command.h"
#include "cmds/helper-program.h"
#include "cmds/services.h"
#include "cmds/sleep-mode.h"

#define WORDS_MAX 8
#define WAYS_MAX  3

/* How long programs have to end after SIGTERM, where nobody else ends them. */
#define TERM_S 2

/* One program that does it. */
struct power_way {
    const char *words[WORDS_MAX]; /* its name, then its arguments; NULL-terminated */
    bool needs_systemd;           /* it can only talk to systemd */
};

/* What is to happen, and the ways to it in the order in which they are tried. */
struct power_action {
    const char *failure; /* the beginning of the error when all ways have failed */
    struct power_way ways[WAYS_MAX];
    /* The last resort. Returns 0 or -errno, or not at all. */
    int (*by_kernel)(const struct power_action *action);
    int number; /* for that: reboot(2)'s, or an enum sleep_mode */
};

/* A call on its way. */
struct power_state {
    const struct power_action *action;
    struct spawn_payload payloads[WAYS_MAX]; /* of the ways that this guest has */
    size_t payload_count;
    size_t next;
};

static int shut_down_by_kernel(const struct power_action *action);
static int sleep_by_kernel(const struct power_action *action);

#define BY_SYSTEMD(...)                                                                   \
    {                                                                                     \
        .words = {"systemctl", "--ignore-inhibitors", __VA_ARGS__}, .needs_systemd = true \
    }
#define BY_PROGRAM(...)          \
    {                            \
        .words = { __VA_ARGS__ } \
    }
#define SHUTDOWN_MESSAGE "hypervisor initiated shutdown"

/* The host's word counts more than what a user of the guest may have inhibited. */
static const char *const shutdown_modes[] = {"powerdown", "halt", "reboot"};
static const struct power_action shutdowns[] = {
    {"child process has failed to shutdown",
     {BY_SYSTEMD("--no-wall", "--no-block", "poweroff"),
      BY_PROGRAM("shutdown", "-h", "-P", "+0", SHUTDOWN_MESSAGE), BY_PROGRAM("poweroff")},
     shut_down_by_kernel,
     RB_POWER_OFF},
    {"child process has failed to shutdown",
     {BY_SYSTEMD("--no-wall", "--no-block", "halt"),
      BY_PROGRAM("shutdown", "-h", "-H", "+0", SHUTDOWN_MESSAGE), BY_PROGRAM("halt")},
     shut_down_by_kernel,
     RB_HALT_SYSTEM},
    {"child process has failed to shutdown",
     {BY_SYSTEMD("--no-wall", "--no-block", "reboot"),
      BY_PROGRAM("shutdown", "-r", "+0", SHUTDOWN_MESSAGE), BY_PROGRAM("reboot")},
     shut_down_by_kernel,
     RB_AUTOBOOT},
};

static const struct power_action sleeps[SLEEP_MODE_COUNT] = {
    [SLEEP_RAM] = {"child process has failed to suspend",
                   {BY_SYSTEMD("suspend"), BY_PROGRAM("pm-suspend")},
                   sleep_by_kernel,
                   SLEEP_RAM},
    [SLEEP_DISK] = {"child process has failed to suspend",
                    {BY_SYSTEMD("hibernate"), BY_PROGRAM("pm-hibernate")},
                    sleep_by_kernel,
                    SLEEP_DISK},
    [SLEEP_HYBRID] = {"child process has failed to suspend",
                      {BY_SYSTEMD("hybrid-sleep"), BY_PROGRAM("pm-suspend-hybrid")},
                      sleep_by_kernel,
                      SLEEP_HYBRID},
};

/* --- the kernel, as the last resort --- */

static int shut_down_by_kernel(const struct power_action *action)
{
    log_warning("no program to shut down with: asking the kernel");
    struct timespec grace = {.tv_sec = TERM_S};
    (void)kill(-1, SIGTERM); /* all but this process and the first one */
    (void)nanosleep(&grace, NULL);
    sync();
    /* Remounts everything read-only, which writes the journals; not every kernel has it. */
    int error = sysroot_write("u", "/proc/sysrq-trigger");
    if (error)
        log_debug("file systems are not remounted read-only: %s", strerror(-error));
    sync();
    return reboot(action->number) < 0 ? -errno : 0;
}

static int sleep_by_kernel(const struct power_action *action)
{
    return sleep_mode_enter((enum sleep_mode)action->number);
}

/* --- the way there --- */

static bool has_systemd(void)
{
    return sysroot_exists("/run/systemd/system");
}

static void power_flush(struct call *call)
{
    const struct services *services = call_services(call);
    services->flush(services->flush_context);
}

/* On a worker: finds out what there is. */
static enum call_next power_run(struct call *call, const struct power_action *action)
{
    struct power_state *state = calloc(1, sizeof(*state));
    if (!state)
        return call_fail(call, "Out of memory");
    state->action = action;
    call_set_state(call, state);
    for (size_t i = 0; i < WAYS_MAX && action->ways[i].words[0]; i++) {
        const struct power_way *way = &action->ways[i];
        if (way->needs_systemd && !has_systemd())
            continue;
        const struct helper_program program = {.name = way->words[0], .arguments = way->words + 1};
        struct spawn_payload payload = SPAWN_PAYLOAD_INIT;
        int error = helper_program_prepare(&program, &payload);
        if (error == -ENOENT)
            continue;
        if (error)
            return call_fail_errno(call, -error, "%s", action->failure);
        state->payloads[state->payload_count++] = payload;
    }
    if (state->payload_count > 0)
        return CALL_CONTINUE;
    call_step(call, "waiting for the kernel");
    int error = action->by_kernel(action);
    if (error)
        return call_fail_errno(call, -error, "%s", action->failure);
    return CALL_ANSWER;
}

/* Tries the next way. */
static enum call_next power_try(struct call *call);

static enum call_next power_was_tried(struct call *call, const struct helper_result *result)
{
    const struct power_state *state = call_state(call);
    if (result->succeeded)
        return CALL_ANSWER;
    if (state->next < state->payload_count && !call_is_interrupted(call)) {
        log_warning("%s: %s; trying another way", state->action->failure, result->said);
        return power_try(call);
    }
    return call_fail(call, "%s: %s", state->action->failure, result->said);
}

static enum call_next power_try(struct call *call)
{
    struct power_state *state = call_state(call);
    struct spawn_payload *payload = &state->payloads[state->next++];
    return helper_program_start_take(call, payload, power_was_tried);
}

static enum call_next power_finish(struct call *call)
{
    call_step(call, "waiting for the system's own program");
    return power_try(call);
}

static void power_release(struct call *call)
{
    struct power_state *state = call_state(call);
    if (!state)
        return;
    for (size_t i = state->next; i < state->payload_count; i++)
        spawn_payload_deinit(&state->payloads[i]);
    free(state);
}

/* --- guest-shutdown --- */

struct shutdown_args {
    struct arg_text mode;
    bool has_mode;
};

static const struct arg_spec shutdown_specs[] = {
    {ARG_OPT(ARG_STRING, struct shutdown_args, mode, "mode")},
    ARG_END,
};

static const struct power_action *find_shutdown(const struct shutdown_args *args)
{
    if (!args->has_mode)
        return &shutdowns[0];
    for (size_t i = 0; i < ARRAY_SIZE(shutdowns); i++)
        if (strcmp(args->mode.data, shutdown_modes[i]) == 0)
            return &shutdowns[i];
    return NULL;
}

static enum call_next shutdown_prepare(struct call *call)
{
    if (!find_shutdown(call_args(call)))
        /* The classic agent's words, which have no second bracket. */
        return call_fail(call, "mode is invalid (valid values are: halt|powerdown|reboot");
    power_flush(call);
    return CALL_CONTINUE;
}

static enum call_next shutdown_run(struct call *call)
{
    return power_run(call, find_shutdown(call_args(call)));
}

/* --- guest-suspend-ram, guest-suspend-disk, guest-suspend-hybrid --- */

static enum call_next suspend_prepare(struct call *call)
{
    power_flush(call);
    return CALL_CONTINUE;
}

static enum call_next suspend(struct call *call, enum sleep_mode mode)
{
    call_step(call, "looking how the guest can sleep");
    if (!sleep_mode_is_supported(mode))
        return call_fail(call, "the requested suspend mode is not supported by the guest");
    return power_run(call, &sleeps[mode]);
}

static enum call_next suspend_ram_run(struct call *call)
{
    return suspend(call, SLEEP_RAM);
}

static enum call_next suspend_disk_run(struct call *call)
{
    return suspend(call, SLEEP_DISK);
}

static enum call_next suspend_hybrid_run(struct call *call)
{
    return suspend(call, SLEEP_HYBRID);
}

/* --- their programs --- */

static void tell_ways(const struct power_action *actions, size_t count,
                      void (*tell)(void *context, const char *const *words), void *context)
{
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < WAYS_MAX && actions[i].ways[j].words[0]; j++)
            tell(context, actions[i].ways[j].words);
}

static void shutdown_programs(void (*tell)(void *context, const char *const *words), void *context)
{
    tell_ways(shutdowns, ARRAY_SIZE(shutdowns), tell, context);
}

static void suspend_programs(void (*tell)(void *context, const char *const *words), void *context)
{
    tell_ways(sleeps, ARRAY_SIZE(sleeps), tell, context);
}

/* --- the rows --- */

/* Where there is no program that does it. */
static const struct capability_need shutdown_needs[] = {
    {CAP_KILL, "end every process before the guest goes down"},
    {CAP_SYS_BOOT, "reboot(2)"},
    CAPABILITY_NEEDS_END,
};
static const char *const shutdown_calls[] = {"reboot", "kill", NULL};

#define POWER_FLAGS (CMD_CHANGES_GUEST | CMD_EXPIRES | CMD_NO_SUCCESS_REPLY | CMD_OWN_SYSTEM)

/* The guest may sleep for months: an error for that afterwards would be one too many. */
#define SUSPEND(wire_name, text, run_hook)                                                     \
    {                                                                                          \
        .name = (wire_name), .summary = (text), .prepare = suspend_prepare, .run = (run_hook), \
        .finish = power_finish, .release = power_release, .lane = "power",                     \
        .programs = suspend_programs, .flags = POWER_FLAGS | CMD_NO_DEADLINE                   \
    }

static const struct command rows[] = {
    {
        .name = "guest-shutdown",
        .summary = "Power the guest down, halt or reboot it",
        .args = shutdown_specs,
        .args_size = sizeof(struct shutdown_args),
        .prepare = shutdown_prepare,
        .run = shutdown_run,
        .finish = power_finish,
        .release = power_release,
        .programs = shutdown_programs,
        .lane = "power",
        .flags = POWER_FLAGS,
        .needs = shutdown_needs,
        .calls = shutdown_calls,
    },
    SUSPEND("guest-suspend-ram", "Suspend the guest to RAM", suspend_ram_run),
    SUSPEND("guest-suspend-disk", "Suspend the guest to disk", suspend_disk_run),
    SUSPEND("guest-suspend-hybrid", "Write the guest to disk, then suspend it to RAM",
            suspend_hybrid_run),
};

const struct command_family power_commands = COMMAND_FAMILY(rows);
