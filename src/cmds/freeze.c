/* SPDX-License-Identifier: MIT */

/* guest-fsfreeze-*: the rows. What they do is in freezer.c. */

#include "cmds/command.h"
#include "cmds/freeze-state.h"
#include "cmds/freezer.h"
#include "cmds/services.h"

/* --- guest-fsfreeze-status --- */

/* In the freeze's lane: asked while a freeze or a thaw is under way it is answered after that, for
 * hosts that wait with it. */
static enum call_next status_run(struct call *call)
{
    bool is_on = freeze_state_is_on(call_services(call)->freeze);
    json_string(call_reply(call), is_on ? "frozen" : "thawed");
    return CALL_CONTINUE;
}

/* --- the rows --- */

static const struct arg_spec mountpoint_spec = {
    .type = ARG_STRING,
    .has_offset = ARG_NO_HAS,
};

static const struct arg_spec freeze_list_specs[] = {
    {ARG_OPT(ARG_LIST, struct freeze_args, mountpoints, "mountpoints"), .element = &mountpoint_spec,
     .element_size = sizeof(struct arg_text)},
    ARG_END,
};

static const struct arg_spec freeze_specs[] = {ARG_END};

#define FREEZE_LANE "freeze"

/* The agent freezes and thaws; the guard, which the broker runs, thaws where the agent cannot. */
static const struct capability_need freeze_needs[] = {
    {CAP_SYS_ADMIN, "freeze and thaw file systems (FIFREEZE, FITHAW)"},
    {CAP_DAC_READ_SEARCH, "open mount points, whoever may look into them"},
    CAPABILITY_NEEDS_END,
};
static const struct capability_need guard_needs[] = {
    {CAP_SYS_ADMIN, "thaw what an agent that died, or a deadline, left frozen"},
    {CAP_IPC_LOCK, "keep the guard in memory: what it would be read from may be frozen"},
    {CAP_DAC_READ_SEARCH, "find the folder of the agent, which is another user's"},
    {CAP_SETUID, "be that user, so that only it talks to the guard"},
    {CAP_SETGID, "be in that user's group"},
    CAPABILITY_NEEDS_END,
};

/* What is in memory stays there while everything is frozen: as much as the limit, which is raised
 * at the start, allows. */
static const char *const freeze_calls[] = {"mlockall", "munlockall", NULL};

#define FREEZE(wire_name, text, specs)                                                           \
    {                                                                                            \
        .name = (wire_name), .summary = (text), .args = (specs),                                 \
        .args_size = sizeof(struct freeze_args), .prepare = freezer_prepare_freeze,              \
        .run = freezer_run_freeze, .finish = freezer_finish_freeze,                              \
        .release = freezer_release_freeze, .cancel = freezer_cancel_freeze, .lane = FREEZE_LANE, \
        .flags = CMD_CHANGES_GUEST | CMD_EXPIRES | CMD_NO_DEADLINE | CMD_JOB | CMD_OWN_SYSTEM,   \
        .needs = freeze_needs, .helper_needs = guard_needs, .calls = freeze_calls                \
    }

static const struct command rows[] = {
    {
        .name = "guest-fsfreeze-status",
        .summary = "Whether file systems are frozen",
        .run = status_run,
        .lane = FREEZE_LANE,
        .flags = CMD_ON_LOOP | CMD_ALLOWED_WHEN_FROZEN | CMD_RESERVED | CMD_OWN_SYSTEM,
    },
    FREEZE("guest-fsfreeze-freeze", "Freeze all file systems on disks", freeze_specs),
    FREEZE("guest-fsfreeze-freeze-list", "Freeze the file systems mounted at the given places",
           freeze_list_specs),
    {
        .name = "guest-fsfreeze-thaw",
        .summary = "Thaw everything that is frozen, and stop a freeze that is under way",
        .prepare = freezer_prepare_thaw,
        .run = freezer_run_thaw,
        .finish = freezer_finish_thaw,
        .release = freezer_release_thaw,
        .lane = FREEZE_LANE,
        .flags = CMD_CHANGES_GUEST | CMD_ALLOWED_WHEN_FROZEN | CMD_RESERVED | CMD_RESCUE |
                 CMD_URGENT | CMD_NO_DEADLINE | CMD_OWN_SYSTEM,
        .needs = freeze_needs,
        .calls = freeze_calls,
    },
};

const struct command_family freeze_commands = COMMAND_FAMILY(rows);
