/* SPDX-License-Identifier: MIT */

/* The protocol's own commands: is somebody there, where are we in the stream, what can be asked. */

#include "cmds/command.h"
#include "cmds/services.h"

/* Answered at once, also when the guest is frozen and when the channel's line is full: a client
 * finds out with these whether the agent is alive. */
enum {
    ALWAYS = CMD_ON_LOOP | CMD_ALLOWED_WHEN_FROZEN,
    SYNC = ALWAYS | CMD_FENCE | CMD_RESERVED,
};

/* --- guest-sync, guest-sync-delimited: the fence is the engine's matter --- */

struct sync_args {
    int64_t id;
};

static const struct arg_spec sync_specs[] = {
    {ARG(ARG_INT64, struct sync_args, id, "id")},
    ARG_END,
};

static enum call_next sync_run(struct call *call)
{
    const struct sync_args *args = call_args(call);
    json_int(call_reply(call), args->id);
    return CALL_CONTINUE;
}

/* --- guest-ping --- */

static enum call_next ping_run(struct call *call)
{
    return CALL_CONTINUE;
}

/* --- guest-info --- */

/* These three members and no others: there are clients that compare them as a whole. */
static void describe_command(const struct command *command, bool is_enabled, void *context)
{
    struct json_writer *reply = context;
    json_begin_object(reply);
    json_member_bool(reply, "enabled", is_enabled);
    json_member_string(reply, "name", command->name);
    json_member_bool(reply, "success-response", !(command->flags & CMD_NO_SUCCESS_REPLY));
    json_end_object(reply);
}

static enum call_next info_run(struct call *call)
{
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_string(reply, "version", BELLHOP_VERSION);
    json_name(reply, "supported_commands");
    json_begin_array(reply);
    services_for_each_command(call_services(call), call_profile(call), describe_command, reply);
    json_end_array(reply);
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- the rows --- */

static const struct command commands[] = {
    {
        .name = "guest-sync",
        .summary = "Return the number given, after dropping the replies owed for what came before",
        .args = sync_specs,
        .args_size = sizeof(struct sync_args),
        .run = sync_run,
        .flags = SYNC,
    },
    {
        .name = "guest-sync-delimited",
        .summary = "The same, with a byte 0xFF before the reply",
        .args = sync_specs,
        .args_size = sizeof(struct sync_args),
        .run = sync_run,
        .flags = SYNC | CMD_DELIMITED,
    },
    {
        .name = "guest-ping",
        .summary = "Do nothing, successfully",
        .run = ping_run,
        .flags = ALWAYS | CMD_RESERVED,
    },
    {
        .name = "guest-info",
        .summary = "The agent's version, and the commands that it knows",
        .run = info_run,
        .flags = ALWAYS,
    },
};

const struct command_family info_commands = COMMAND_FAMILY(commands);
