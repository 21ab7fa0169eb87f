/* SPDX-License-Identifier: MIT */

/* Who is logged in. */

#include "base/logins.h"
#include "cmds/command.h"

static enum call_next get_users_run(struct call *call)
{
    _cleanup_(logins_deinit) struct logins logins = LOGINS_INIT;
    call_step(call, "reading who is logged in");
    int r = logins_load(&logins);
    if (r < 0)
        return call_fail_errno(call, -r, "failed to read who is logged in");

    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    for (size_t i = 0; i < logins.count; i++) {
        json_begin_object(reply);
        json_member_double(reply, "login-time", (double)logins.items[i].since_us / 1e6);
        json_member_string(reply, "user", logins.items[i].user);
        json_end_object(reply);
    }
    json_end_array(reply);
    return CALL_CONTINUE;
}

static const struct command commands[] = {
    {
        .name = "guest-get-users",
        .summary = "The users that are logged in, each with the earliest login",
        .run = get_users_run,
    },
};

const struct command_family users_commands = COMMAND_FAMILY(commands);
