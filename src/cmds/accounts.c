/* SPDX-License-Identifier: MIT */

/*
 * guest-set-user-password: through the system's chpasswd, which knows PAM, the shadow files and
 * their locks. It reads "user:password" lines, so whatever could make another line or field of
 * that is refused before.
 */

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "cmds/command.h"
#include "cmds/helper-program.h"

/* --- guest-set-user-password --- */

struct password_args {
    struct arg_text username;
    struct arg_text password;
    bool crypted;
};

static const struct arg_spec password_specs[] = {
    {ARG(ARG_STRING, struct password_args, username, "username")},
    {ARG(ARG_STRING, struct password_args, password, "password"), .flags = ARG_SECRET},
    {ARG(ARG_BOOL, struct password_args, crypted, "crypted"), .other_name = "cryptd"},
    ARG_END,
};

/* Also NUL, where chpasswd would see the end of the line; and in what goes to the shadow file as it
 * is, the separator of its fields. */
static const char *find_forbidden(const struct password_args *args, size_t password_length)
{
    const char *password = args->password.data;
    if (memchr(password, '\n', password_length) || memchr(password, '\0', password_length))
        return "forbidden characters in raw password";
    if (strpbrk(args->username.data, ":\n"))
        return "forbidden characters in username";
    if (args->crypted && memchr(password, ':', password_length))
        return "forbidden characters in new password";
    return NULL;
}

static int prepare_chpasswd(const struct password_args *args, size_t password_length,
                            struct spawn_payload *ret_payload)
{
    const char *const arguments[] = {args->crypted ? "-e" : NULL, NULL};
    size_t username_length = strlen(args->username.data);
    size_t line_length = username_length + 1 + password_length + 1;
    char *line = malloc(line_length);
    if (!line)
        return -ENOMEM;
    memcpy(line, args->username.data, username_length);
    line[username_length] = ':';
    memcpy(line + username_length + 1, args->password.data, password_length);
    line[line_length - 1] = '\n';

    const struct helper_program chpasswd = {
        .name = "chpasswd",
        .arguments = arguments,
        .input = line,
        .input_bytes = line_length,
    };
    int error = helper_program_prepare(&chpasswd, ret_payload);
    explicit_bzero(line, line_length);
    free(line);
    return error;
}

static enum call_next set_password_run(struct call *call)
{
    struct password_args *args = call_args(call);
    size_t length;
    if (base64_decode_in_place(args->password.data, args->password.length, &length) < 0)
        return call_fail(call, "Base64 data contains invalid characters");
    const char *forbidden = find_forbidden(args, length);
    if (forbidden)
        return call_fail(call, "%s", forbidden);

    struct spawn_payload *payload = malloc(sizeof(*payload));
    if (!payload)
        return call_fail(call, "Out of memory");
    *payload = (struct spawn_payload)SPAWN_PAYLOAD_INIT;
    call_set_state(call, payload);
    int error = prepare_chpasswd(args, length, payload);
    if (error == -ENOENT)
        return call_fail(call, "the guest has no chpasswd program, which sets passwords");
    if (error)
        return call_fail_errno(call, -error, "chpasswd cannot be started");
    return CALL_CONTINUE;
}

static enum call_next password_was_set(struct call *call, const struct helper_result *result)
{
    if (!result->succeeded)
        return call_fail(call, "child process has failed to set user password: %s", result->said);
    return CALL_ANSWER;
}

static enum call_next set_password_finish(struct call *call)
{
    call_step(call, "waiting for chpasswd");
    return helper_program_start_take(call, call_state(call), password_was_set);
}

static void set_password_release(struct call *call)
{
    struct spawn_payload *payload = call_state(call);
    if (!payload)
        return;
    spawn_payload_deinit(payload);
    free(payload);
}

static void password_programs(void (*tell)(void *context, const char *const *words), void *context)
{
    static const char *const chpasswd[] = {"chpasswd", "...", NULL};
    tell(context, chpasswd);
}

/* --- the rows --- */

/* Of chpasswd and what it uses; the files are root's, as whom it runs. */
static const struct capability_need password_needs[] = {
    {CAP_CHOWN, "leave /etc/shadow the group that it has"},
    {CAP_DAC_OVERRIDE, "write /etc/shadow where not even root is permitted to (mode 0)"},
    {CAP_AUDIT_WRITE, "have the change in the system's audit log"},
    CAPABILITY_NEEDS_END,
};

static const struct command rows[] = {
    {
        .name = "guest-set-user-password",
        .summary = "Set the password of an account",
        .args = password_specs,
        .args_size = sizeof(struct password_args),
        .run = set_password_run,
        .finish = set_password_finish,
        .release = set_password_release,
        .programs = password_programs,
        .lane = "account",
        .lane_arg = "username",
        .flags = CMD_CHANGES_GUEST | CMD_OWN_SYSTEM,
        .helper_needs = password_needs,
    },
};

const struct command_family accounts_commands = COMMAND_FAMILY(rows);
