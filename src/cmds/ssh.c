/* SPDX-License-Identifier: MIT */

/*
 * guest-ssh-*: the keys that may log in to an account. The work is done by bellhopd as a program
 * of its own, with the account's credentials (authorized-keys.h).
 */

#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "cmds/authorized-keys.h"
#include "cmds/command.h"
#include "cmds/helper-program.h"

/* The first member of all of them, in the same place. */
struct account_args {
    struct arg_text username;
};

struct keys_args {
    struct arg_text username;
    struct arg_list keys;
    bool reset;
    bool has_reset;
};

static const struct arg_spec account_specs[] = {
    {ARG(ARG_STRING, struct account_args, username, "username")},
    ARG_END,
};

static const struct arg_spec key_element = {.type = ARG_STRING};

static const struct arg_spec add_specs[] = {
    {ARG(ARG_STRING, struct keys_args, username, "username")},
    {ARG(ARG_LIST, struct keys_args, keys, "keys"), .element = &key_element,
     .element_size = sizeof(struct arg_text)},
    {ARG_OPT(ARG_BOOL, struct keys_args, reset, "reset")},
    ARG_END,
};

static const struct arg_spec remove_specs[] = {
    {ARG(ARG_STRING, struct keys_args, username, "username")},
    {ARG(ARG_LIST, struct keys_args, keys, "keys"), .element = &key_element,
     .element_size = sizeof(struct arg_text)},
    ARG_END,
};

/* --- what they have in common --- */

/* Of keys that are listed: more is no list that anybody keeps. */
enum { KEYS_BYTES_MAX = 1024 * 1024 };

static enum call_next prepare_action(struct call *call, const char *action,
                                     const struct buffer *input)
{
    const struct account_args *args = call_args(call);
    const char *const arguments[] = {AUTHORIZED_KEYS_ARGUMENT, action, args->username.data, NULL};
    const struct helper_program program = {
        .name = HELPER_BELLHOPD,
        .arguments = arguments,
        .input = input ? input->data : NULL,
        .input_bytes = input ? input->length : 0,
        .output_bytes_max = KEYS_BYTES_MAX,
    };
    _cleanup_free_ struct spawn_payload *payload = calloc(1, sizeof(*payload));
    int error = payload ? helper_program_prepare(&program, payload) : -ENOMEM;
    if (error)
        return call_fail_errno(call, -error, "failed to handle the keys of '%s'",
                               args->username.data);
    call_set_state(call, take_ptr(&payload));
    return CALL_CONTINUE;
}

static void keys_release(struct call *call)
{
    struct spawn_payload *payload = call_state(call);
    if (!payload)
        return;
    spawn_payload_deinit(payload);
    free(payload);
}

/* --- guest-ssh-get-authorized-keys --- */

static enum call_next get_run(struct call *call)
{
    return prepare_action(call, "get", NULL);
}

static enum call_next get_ended(struct call *call, const struct helper_result *result)
{
    if (!result->succeeded)
        return call_fail(call, "%s", result->said);
    if (result->is_truncated)
        return call_fail(call, "the account has more keys than can be listed");
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_name(reply, "keys");
    json_begin_array(reply);
    const char *line = result->output, *end = line + result->output_bytes;
    while (line < end) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline)
            newline = end;
        json_string_n(reply, line, (size_t)(newline - line));
        line = newline + 1;
    }
    json_end_array(reply);
    json_end_object(reply);
    return CALL_ANSWER;
}

static enum call_next get_finish(struct call *call)
{
    const struct account_args *args = call_args(call);
    call_step(call, "reading the keys of '%s'", args->username.data);
    return helper_program_start_take(call, call_state(call), get_ended);
}

/* --- guest-ssh-add-authorized-keys, guest-ssh-remove-authorized-keys --- */

static enum call_next changed(struct call *call, const struct helper_result *result)
{
    return result->succeeded ? CALL_ANSWER : call_fail(call, "%s", result->said);
}

static enum call_next change_finish(struct call *call)
{
    const struct account_args *args = call_args(call);
    call_step(call, "changing the keys of '%s'", args->username.data);
    return helper_program_start_take(call, call_state(call), changed);
}

static enum call_next change_run(struct call *call, const char *action)
{
    const struct keys_args *args = call_args(call);
    const struct arg_text *keys = args->keys.items;
    _cleanup_buffer_ struct buffer input = BUFFER_INIT;
    for (size_t i = 0; i < args->keys.count; i++) {
        if (!authorized_key_is_valid(keys[i].data))
            return call_fail(call, "invalid OpenSSH public key: '%s'", keys[i].data);
        buffer_append(&input, keys[i].data, keys[i].length);
        buffer_append_char(&input, '\n');
    }
    if (input.failed)
        return call_fail_errno(call, ENOMEM, "failed to take the keys");
    return prepare_action(call, action, &input);
}

static enum call_next add_run(struct call *call)
{
    const struct keys_args *args = call_args(call);
    return change_run(call, args->reset ? "reset" : "add");
}

static enum call_next remove_run(struct call *call)
{
    return change_run(call, "remove");
}

static void keys_programs(void (*tell)(void *context, const char *const *words), void *context)
{
    static const char *const words[] = {HELPER_BELLHOPD, AUTHORIZED_KEYS_ARGUMENT, "*", "*", NULL};
    tell(context, words);
}

/* --- the rows --- */

static const struct capability_need account_needs[] = {
    {CAP_SETUID, "become the account whose keys they are"},
    {CAP_SETGID, "have the groups of that account"},
    CAPABILITY_NEEDS_END,
};

static const struct command commands[] = {
    {
        .name = "guest-ssh-get-authorized-keys",
        .summary = "List the keys that may log in to an account",
        .args = account_specs,
        .args_size = sizeof(struct account_args),
        .run = get_run,
        .finish = get_finish,
        .release = keys_release,
        .programs = keys_programs,
        .lane = "account",
        .lane_arg = "username",
        .flags = CMD_OWN_SYSTEM,
        .helper_needs = account_needs,
    },
    {
        .name = "guest-ssh-add-authorized-keys",
        .summary = "Let keys log in to an account",
        .args = add_specs,
        .args_size = sizeof(struct keys_args),
        .run = add_run,
        .finish = change_finish,
        .release = keys_release,
        .programs = keys_programs,
        .lane = "account",
        .lane_arg = "username",
        .flags = CMD_CHANGES_GUEST | CMD_OWN_SYSTEM,
        .helper_needs = account_needs,
    },
    {
        .name = "guest-ssh-remove-authorized-keys",
        .summary = "Let keys no longer log in to an account",
        .args = remove_specs,
        .args_size = sizeof(struct keys_args),
        .run = remove_run,
        .finish = change_finish,
        .release = keys_release,
        .programs = keys_programs,
        .lane = "account",
        .lane_arg = "username",
        .flags = CMD_CHANGES_GUEST | CMD_OWN_SYSTEM,
        .helper_needs = account_needs,
    },
};

const struct command_family ssh_commands = COMMAND_FAMILY(commands);
