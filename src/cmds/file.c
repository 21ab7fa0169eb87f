/* SPDX-License-Identifier: MIT */

/*
 * guest-file-*: files by handle. What touches a file runs on a worker, the table of handles is
 * the loop's: `prepare` looks the handle up and gives the call a reference to the file, `release`
 * gives it back. The lane "handle" keeps calls on one handle apart, so `run` has the file for
 * itself.
 */

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base64.h"
#include "base/settings.h"
#include "base/utf8.h"
#include "cmds/command.h"
#include "cmds/file-table.h"
#include "cmds/guest-file.h"
#include "cmds/services.h"
#include "cmds/wire-error.h"
#include "io/json.h"
#include "security/policy.h"

/* --- files on their way out --- */

static void close_detached(void *file)
{
    guest_file_free(file);
}

/* Gives a reference back. Closing may block, which is nothing for the loop. */
static void let_go(struct services *services, struct guest_file *file)
{
    if (!guest_file_unref(file))
        return;
    if (guest_file_is_closed(file))
        guest_file_free(file);
    else
        services_run_detached(services, close_detached, file);
}

static void remove_handle(struct services *services, int64_t handle)
{
    struct guest_file *file = file_table_remove(services->files, handle);
    if (file)
        let_go(services, file);
}

/* --- guest-file-open --- */

struct open_args {
    struct arg_text path;
    struct arg_text mode;
    bool has_mode;
};

static const struct arg_spec open_specs[] = {
    {ARG(ARG_STRING, struct open_args, path, "path")},
    {ARG_OPT(ARG_STRING, struct open_args, mode, "mode")},
    ARG_END,
};

struct opening {
    int flags;
    bool has_place;          /* in the table, kept for it */
    struct guest_file *file; /* opened, and not yet in the table */
};

static const char *open_mode(const struct open_args *args)
{
    return args->has_mode ? args->mode.data : "r";
}

static enum call_next open_prepare(struct call *call)
{
    const struct open_args *args = call_args(call);
    struct services *services = call_services(call);
    int flags = guest_file_mode_flags(open_mode(args));
    if (flags < 0)
        return call_fail(call, "invalid file open mode '%s'", open_mode(args));

    struct opening *opening = calloc(1, sizeof(*opening));
    if (!opening)
        return call_fail_errno(call, ENOMEM, "failed to open file");
    call_set_state(call, opening);
    opening->flags = flags;
    opening->has_place = file_table_reserve(services->files);
    if (!opening->has_place)
        return call_fail(call,
                         "failed to open file: the limit of %" PRIu64
                         " open handles is reached (setting files.handles)",
                         services->settings->handles);
    return CALL_CONTINUE;
}

/* Bytes of a path that leave room in an error for its reason. */
enum { SHOWN_PATH_MAX = 700 };

static enum call_next fail_open(struct call *call, int error)
{
    const struct open_args *args = call_args(call);
    bool is_long = args->path.length > SHOWN_PATH_MAX;
    size_t shown = is_long ? utf8_valid_prefix(args->path.data, SHOWN_PATH_MAX) : args->path.length;
    return call_fail_errno(call, error, "failed to open file '%.*s%s' (mode: '%s')", (int)shown,
                           args->path.data, is_long ? "..." : "", open_mode(args));
}

static void open_decided(void *context, bool is_allowed, const struct file_rule *rule)
{
    char name[96] = "[files]";
    if (rule)
        snprintf(name, sizeof(name), "[files %s]", rule->name);
    call_decided(context, is_allowed, name);
}

/* Without rules there is nothing to ask, and the path is opened as it is. */
static int open_by_rules(struct call *call, const char *path, struct opening *opening,
                         char ret_reason[FILE_REFUSAL_MAX])
{
    const struct policy *policy = call_services(call)->policy;
    struct object_question question = {
        .rules = policy ? &policy->files : NULL,
        .profile = call_profile(call),
        .decided = open_decided,
        .context = call,
    };
    if (policy && file_rules_apply(question.rules, question.profile))
        return guest_file_open_gated(&question, path, opening->flags, &opening->file, ret_reason);
    call_decided(call, true, NULL);
    return guest_file_open(path, opening->flags, &opening->file);
}

static enum call_next open_run(struct call *call)
{
    const struct open_args *args = call_args(call);
    struct opening *opening = call_state(call);
    char reason[FILE_REFUSAL_MAX] = "";
    call_step(call, "opening '%s'", args->path.data);
    int r;
    do
        r = open_by_rules(call, args->path.data, opening, reason);
    while (r == -EINTR && !call_is_interrupted(call));
    if (r == -EPERM && reason[0])
        return call_fail(call, "failed to open file (mode: '%s'): %s", open_mode(args), reason);
    return r < 0 ? fail_open(call, -r) : CALL_CONTINUE;
}

static void open_told(void *services, enum delivery what, uint64_t token)
{
    /* Nobody knows the number, so nobody would ever close it. */
    if (what == DELIVERY_DROPPED)
        remove_handle(services, (int64_t)token);
}

static enum call_next open_finish(struct call *call)
{
    struct services *services = call_services(call);
    struct opening *opening = call_state(call);
    int64_t handle;
    int r = file_table_add_take(services->files, call_profile(call), opening->file, &handle);
    if (r < 0)
        return fail_open(call, -r);
    opening->file = NULL;
    opening->has_place = false;
    call_on_delivery(call, open_told, (uint64_t)handle);
    json_int(call_reply(call), handle);
    return CALL_CONTINUE;
}

/* An open that succeeded too late, or for nobody, ends here without open_finish(). */
static void open_release(struct call *call)
{
    struct services *services = call_services(call);
    struct opening *opening = call_state(call);
    if (!opening)
        return;
    if (opening->file)
        let_go(services, opening->file);
    if (opening->has_place)
        file_table_unreserve(services->files);
    free(opening);
}

/* --- what the others have in common --- */

/* The first argument of all of them, in the same place. */
struct handle_args {
    int64_t handle;
};

static enum call_next handle_prepare(struct call *call)
{
    const struct handle_args *args = call_args(call);
    struct guest_file *file =
        file_table_get(call_services(call)->files, call_profile(call), args->handle);
    if (!file)
        return call_fail(call, "handle '%" PRId64 "' has not been found", args->handle);
    call_set_state(call, guest_file_ref(file));
    return CALL_CONTINUE;
}

static void handle_release(struct call *call)
{
    if (call_state(call))
        let_go(call_services(call), call_state(call));
}

static enum call_next fail_count(struct call *call, int64_t count)
{
    return call_fail(call, "value '%" PRId64 "' is invalid for argument count", count);
}

/* --- guest-file-close --- */

static const struct arg_spec handle_specs[] = {
    {ARG(ARG_INT64, struct handle_args, handle, "handle")},
    ARG_END,
};

static enum call_next close_run(struct call *call)
{
    struct guest_file *file = call_state(call);
    call_step(call, "closing '%s'", guest_file_path(file));
    int r = guest_file_close(file);
    return r < 0 ? call_fail_errno(call, -r, "failed to close handle") : CALL_CONTINUE;
}

static enum call_next close_finish(struct call *call)
{
    const struct handle_args *args = call_args(call);
    remove_handle(call_services(call), args->handle);
    return CALL_CONTINUE;
}

/* A close that failed, or took too long for close_finish(), is one all the same. */
static void close_release(struct call *call)
{
    const struct handle_args *args = call_args(call);
    if (call_state(call) && guest_file_is_closed(call_state(call)))
        remove_handle(call_services(call), args->handle);
    handle_release(call);
}

/* --- guest-file-read --- */

enum {
    READ_DEFAULT = 4096,
    READ_MAX = 48 * 1024 * 1024,
    /* What is read at once: small enough for the processor's cache, and a multiple of three, so
     * that the pieces' base64 can stand side by side. */
    READ_SLICE = 96 * 1024,
};

struct read_args {
    int64_t handle;
    int64_t count;
    bool has_count;
};

static const struct arg_spec read_specs[] = {
    {ARG(ARG_INT64, struct read_args, handle, "handle")},
    {ARG_OPT(ARG_INT64, struct read_args, count, "count")},
    ARG_END,
};

/* guest_file_read(), gone on with after interruptions that are none of ours. */
static int read_slice(struct call *call, char *bytes, size_t length, size_t *ret_length,
                      bool *ret_is_at_end)
{
    size_t part;
    int r;
    *ret_length = 0;
    do {
        r = guest_file_read(call_state(call), bytes + *ret_length, length - *ret_length, &part,
                            ret_is_at_end);
        *ret_length += part;
    } while (r == -EINTR && !call_is_interrupted(call));
    return r;
}

/*
 * Appends up to `count` bytes to the buffer as base64, slice by slice, so that only the encoded
 * form is ever there as a whole. Returns 0 or -errno; what was read before an error is there too.
 */
static int read_encoded(struct call *call, struct buffer *out, size_t count, size_t *ret_total,
                        bool *ret_is_at_end)
{
    size_t total = 0, length, slice_max = count < READ_SLICE ? count : READ_SLICE;
    _cleanup_free_ char *slice = malloc(slice_max ? slice_max : 1);
    *ret_total = 0;
    *ret_is_at_end = false;
    if (!slice)
        return -ENOMEM;
    while (total < count) {
        size_t wanted = count - total < slice_max ? count - total : slice_max;
        int r = call_is_interrupted(call) ? -EINTR
                                          : read_slice(call, slice, wanted, &length, ret_is_at_end);
        if (r == -EINTR)
            return r;
        char *text = buffer_reserve(out, base64_encoded_length(length));
        if (!text)
            return -ENOMEM;
        base64_encode(text, slice, length);
        buffer_commit(out, base64_encoded_length(length));
        *ret_total = total += length;
        if (r < 0 || length < wanted)
            return r;
    }
    return 0;
}

/* Puts a number where a longer (or equally long) one stands. */
static void replace_number(struct buffer *out, size_t at, size_t old_length, uint64_t number)
{
    char digits[24];
    size_t length = (size_t)snprintf(digits, sizeof(digits), "%" PRIu64, number);
    memcpy(out->data + at, digits, length);
    if (length < old_length) {
        memmove(out->data + at + length, out->data + at + old_length,
                out->length - at - old_length);
        buffer_truncate(out, out->length - (old_length - length));
    }
}

static size_t read_reply_bytes(const void *arguments)
{
    const struct read_args *args = arguments;
    int64_t count = args->has_count ? args->count : READ_DEFAULT;
    return count > 0 && count <= READ_MAX ? base64_encoded_length((size_t)count) : 0;
}

static enum call_next read_run(struct call *call)
{
    const struct read_args *args = call_args(call);
    const struct guest_file *file = call_state(call);
    int64_t count = args->has_count ? args->count : READ_DEFAULT;
    if (count < 0 || count > READ_MAX)
        return fail_count(call, count);
    call_step(call, "reading '%s'", guest_file_path(file));

    /* The count comes before the data that it counts: first the one that was asked for, at the
     * end the true one, which is no longer. */
    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_name(reply, "count");
    size_t count_at = reply->out->length;
    json_int(reply, count);
    size_t count_length = reply->out->length - count_at;
    json_member_base64(reply, "buf-b64", "", 0);
    if (reply->out->failed)
        return call_fail_errno(call, ENOMEM, "failed to read file");
    buffer_truncate(reply->out, reply->out->length - 1); /* the string is continued */

    uint64_t hint = guest_file_remaining_hint(file);
    if (hint > (uint64_t)count)
        hint = (uint64_t)count;
    size_t total;
    bool is_at_end;
    int r = buffer_reserve(reply->out, base64_encoded_length(hint) + 64)
                ? read_encoded(call, reply->out, (size_t)count, &total, &is_at_end)
                : -ENOMEM;
    /* What a pipe or device gave before it ran dry is gone from there: it must not get lost. */
    if (r < 0 && !(r == -EAGAIN && total > 0))
        return call_fail_errno(call, -r, "failed to read file");
    buffer_append_char(reply->out, '"');
    replace_number(reply->out, count_at, count_length, total);
    json_member_bool(reply, "eof", is_at_end);
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- guest-file-write --- */

struct write_args {
    int64_t handle;
    struct arg_text buffer;
    int64_t count;
    bool has_count;
};

static const struct arg_spec write_specs[] = {
    {ARG(ARG_INT64, struct write_args, handle, "handle")},
    {ARG(ARG_STRING, struct write_args, buffer, "buf-b64"), .flags = ARG_SECRET},
    {ARG_OPT(ARG_INT64, struct write_args, count, "count")},
    ARG_END,
};

/* Between two slices the deadline is looked at: a slow device is not to be filled to the end. */
enum { WRITE_SLICE = 1024 * 1024 };

static int write_sliced(struct call *call, const char *bytes, size_t length, size_t *ret_written)
{
    *ret_written = 0;
    do {
        size_t part, wanted = length - *ret_written;
        if (wanted > WRITE_SLICE)
            wanted = WRITE_SLICE;
        int r = guest_file_write(call_state(call), bytes + *ret_written, wanted, &part);
        *ret_written += part;
        if (r < 0 && (r != -EINTR || call_is_interrupted(call)))
            return r;
    } while (*ret_written < length && !call_is_interrupted(call));
    return *ret_written < length ? -EINTR : 0;
}

static enum call_next fail_write(struct call *call, int error, size_t written, size_t length)
{
    if (written == 0)
        return call_fail_errno(call, error, "failed to write to file");
    char reason[128];
    return call_fail(call, "failed to write to file: %s (%zu of %zu bytes were written)",
                     strerror_r(error, reason, sizeof(reason)), written, length);
}

static enum call_next write_run(struct call *call)
{
    struct write_args *args = call_args(call);
    const struct guest_file *file = call_state(call);
    size_t length;
    if (base64_decode_in_place(args->buffer.data, args->buffer.length, &length) < 0)
        return call_fail(call, "Base64 data contains invalid characters");
    if (args->has_count && (args->count < 0 || (uint64_t)args->count > length))
        return fail_count(call, args->count);
    if (args->has_count)
        length = (size_t)args->count;
    call_step(call, "writing '%s'", guest_file_path(file));

    size_t written;
    int r = write_sliced(call, args->buffer.data, length, &written);
    if (r < 0)
        return fail_write(call, -r, written, length);

    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_uint(reply, "count", written);
    json_member_bool(reply, "eof", false); /* writing never meets the end */
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- guest-file-seek --- */

struct seek_args {
    int64_t handle;
    int64_t offset;
    int64_t whence;
};

/* GuestFileWhence: by the protocol's names, or by its numbers, which are the system's. */
static const char *const whence_names[] = {
    [SEEK_SET] = "set",
    [SEEK_CUR] = "cur",
    [SEEK_END] = "end",
};
_Static_assert(SEEK_SET == 0 && SEEK_CUR == 1 && SEEK_END == 2, "the protocol's numbers");

static bool decode_whence(const struct json_value *value, void *ret_member,
                          struct wire_error *error, const char *path)
{
    int64_t *whence = ret_member;
    if (value->type == JSON_NUMBER) {
        if (json_get_int64(value, whence))
            return true; /* in range or not: that is asked after the handle */
        wire_error_set(error, WIRE_GENERIC_ERROR,
                       "Invalid parameter type for '%s', expected: integer", path);
        return false;
    }
    if (value->type != JSON_STRING)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(whence_names); i++) {
        if (strcmp(whence_names[i], value->text) == 0) {
            *whence = (int64_t)i;
            return true;
        }
    }
    wire_error_set(error, WIRE_GENERIC_ERROR, "Parameter '%s' does not accept value '%s'", path,
                   value->text);
    return false;
}

static const struct arg_spec seek_specs[] = {
    {ARG(ARG_INT64, struct seek_args, handle, "handle")},
    {ARG(ARG_INT64, struct seek_args, offset, "offset")},
    {ARG(ARG_CUSTOM, struct seek_args, whence, "whence"), .decode = decode_whence,
     .expected = "GuestFileWhence"},
    ARG_END,
};

static enum call_next seek_run(struct call *call)
{
    const struct seek_args *args = call_args(call);
    struct guest_file *file = call_state(call);
    if (args->whence < 0 || args->whence >= (int64_t)ARRAY_SIZE(whence_names))
        return call_fail(call, "invalid whence code %" PRId64, args->whence);
    call_step(call, "seeking in '%s'", guest_file_path(file));
    int64_t position;
    int r = guest_file_seek(file, args->offset, (int)args->whence, &position);
    if (r < 0)
        return call_fail_errno(call, -r, "failed to seek file");

    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_bool(reply, "eof", false); /* a seek clears it, wherever it goes */
    json_member_int(reply, "position", position);
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- guest-file-flush --- */

/* Writes are never held back, so there is nothing to flush. */
static enum call_next flush_run(struct call *call)
{
    return CALL_CONTINUE;
}

/* --- the rows; elsewhere than in `full` files are opened as the agent's user may --- */

static const struct capability_need open_needs[] = {
    {CAP_DAC_OVERRIDE, "open files whatever their permissions are", .is_extra = true},
    {CAP_SYS_PTRACE, "open what /proc has of other processes (environ, mem)", .is_extra = true},
    {CAP_SYS_RAWIO, "open /dev/mem and /proc/kcore", .is_extra = true},
    {CAP_SYSLOG, "open /proc/kmsg", .is_extra = true},
    CAPABILITY_NEEDS_END,
};
static const struct capability_need write_needs[] = {
    {CAP_FSETID, "leave a program that is written to its set-user-ID bit", .is_extra = true},
    {CAP_SYS_ADMIN, "write the settings below /proc/sys that ask for it", .is_extra = true},
    CAPABILITY_NEEDS_END,
};

#define ON_HANDLE \
    .prepare = handle_prepare, .release = handle_release, .lane = "handle", .lane_arg = "handle"

static const struct command commands[] = {
    {
        .name = "guest-file-open",
        .summary = "Open a file; the reply is its handle",
        .args = open_specs,
        .args_size = sizeof(struct open_args),
        .prepare = open_prepare,
        .run = open_run,
        .finish = open_finish,
        .release = open_release,
        .flags = CMD_CHANGES_GUEST | CMD_DECIDES,
        .needs = open_needs,
    },
    {
        .name = "guest-file-close",
        .summary = "Close a handle",
        .args = handle_specs,
        .args_size = sizeof(struct handle_args),
        .prepare = handle_prepare,
        .run = close_run,
        .finish = close_finish,
        .release = close_release,
        .lane = "handle",
        .lane_arg = "handle",
    },
    {
        .name = "guest-file-read",
        .summary = "Read from a handle, 4096 bytes unless told otherwise, 48 MiB at most",
        .args = read_specs,
        .args_size = sizeof(struct read_args),
        .run = read_run,
        .reply_bytes = read_reply_bytes,
        ON_HANDLE,
    },
    {
        .name = "guest-file-write",
        .summary = "Write base64-encoded data to a handle",
        .args = write_specs,
        .args_size = sizeof(struct write_args),
        .run = write_run,
        .needs = write_needs,
        /* No CMD_CHANGES_GUEST: the open was logged, and a copy is thousands of these. */
        ON_HANDLE,
    },
    {
        .name = "guest-file-seek",
        .summary = "Move a handle's position, or ask for it",
        .args = seek_specs,
        .args_size = sizeof(struct seek_args),
        .run = seek_run,
        ON_HANDLE,
    },
    {
        .name = "guest-file-flush",
        .summary = "Have what was written leave the agent, which it always has",
        .args = handle_specs,
        .args_size = sizeof(struct handle_args),
        .run = flush_run,
        .flags = CMD_ON_LOOP,
        ON_HANDLE,
    },
};

const struct command_family file_commands = COMMAND_FAMILY(commands);
