/* SPDX-License-Identifier: MIT */

/* The guest's logical processors: which there are, and switching them on and off. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/numbered-entries.h"
#include "base/processor.h"
#include "cmds/command.h"
#include "cmds/wire-error.h"

/* --- guest-get-vcpus --- */

static void write_processor(struct json_writer *reply, const struct processor *processor)
{
    json_begin_object(reply);
    json_member_bool(reply, "online", processor->is_online);
    json_member_bool(reply, "can-offline", processor->can_offline);
    json_member_int(reply, "logical-id", processor->number);
    json_end_object(reply);
}

static enum call_next get_vcpus_run(struct call *call)
{
    _cleanup_(numbered_entries_deinit) struct numbered_entries entries = NUMBERED_ENTRIES_INIT;
    call_step(call, "listing " PROCESSOR_DIRECTORY);
    int r = numbered_entries_list(&entries, PROCESSOR_DIRECTORY, "cpu");
    if (r < 0)
        return call_fail_errno(call, -r, "open(\"" PROCESSOR_DIRECTORY "/\")");

    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    for (size_t i = 0; i < entries.count; i++) {
        struct processor processor;
        r = processor_read(&processor, entries.numbers[i]);
        if (r == 0)
            write_processor(reply, &processor);
        else if (r != -ENOENT) /* else it was unplugged just now */
            return call_fail_errno(call, -r,
                                   "read(\"" PROCESSOR_DIRECTORY "/cpu%" PRId64 "/online\")",
                                   entries.numbers[i]);
    }
    json_end_array(reply);
    return CALL_CONTINUE;
}

/* --- guest-set-vcpus --- */

struct vcpu_arg {
    int64_t logical_id;
    bool online;
    bool can_offline, has_can_offline; /* taken, and ignored */
};

struct set_vcpus_args {
    struct arg_list vcpus;
};

static const struct arg_spec vcpu_specs[] = {
    {ARG(ARG_INT64, struct vcpu_arg, logical_id, "logical-id")},
    {ARG(ARG_BOOL, struct vcpu_arg, online, "online")},
    {ARG_OPT(ARG_BOOL, struct vcpu_arg, can_offline, "can-offline")},
    ARG_END,
};
static const struct arg_spec vcpu_element = {.type = ARG_STRUCT, .fields = vcpu_specs};
static const struct arg_spec set_vcpus_specs[] = {
    {ARG(ARG_LIST, struct set_vcpus_args, vcpus, "vcpus"), .element = &vcpu_element,
     .element_size = sizeof(struct vcpu_arg)},
    ARG_END,
};

static void set_reason(struct wire_error *reason, int error, const char *operation, int64_t number,
                       const char *file)
{
    wire_error_set(reason, WIRE_GENERIC_ERROR,
                   "%s(\"" PROCESSOR_DIRECTORY "/cpu%" PRId64 "/%s\"): %s", operation, number, file,
                   strerror(-error));
}

/* Returns false and why not. */
static bool set_vcpu(struct call *call, const struct vcpu_arg *vcpu, struct wire_error *reason)
{
    int64_t number = vcpu->logical_id;
    struct processor processor;
    int r = processor_read(&processor, number);
    if (r == -ENOENT)
        set_reason(reason, r, "open", number, "");
    else if (r < 0)
        set_reason(reason, r, "read", number, "online");
    if (r < 0)
        return false;
    if (processor.is_online == vcpu->online)
        return true;
    if (!processor.can_offline) {
        wire_error_set(reason, WIRE_GENERIC_ERROR,
                       "logical processor #%" PRId64 " can't be offlined", number);
        return false;
    }
    call_step(call, "switching processor %" PRId64 " %s", number, vcpu->online ? "on" : "off");
    r = processor_set_online(number, vcpu->online);
    if (r < 0)
        set_reason(reason, r, "write", number, "online");
    return r == 0;
}

static enum call_next set_vcpus_run(struct call *call)
{
    const struct set_vcpus_args *args = call_args(call);
    const struct vcpu_arg *vcpus = args->vcpus.items;
    struct wire_error reason = {0};
    size_t done = 0;
    while (done < args->vcpus.count && !call_is_interrupted(call) &&
           set_vcpu(call, &vcpus[done], &reason))
        done++;
    if (reason.is_set && done == 0)
        return call_fail(call, "%s", reason.desc);
    if (reason.is_set) /* the reply has only the count */
        log_info("guest-set-vcpus: done with %zu of %zu, then: %s", done, args->vcpus.count,
                 reason.desc);
    json_uint(call_reply(call), done);
    return CALL_CONTINUE;
}

/* --- the rows --- */

static const struct command commands[] = {
    {
        .name = "guest-get-vcpus",
        .summary = "The logical processors and whether they are online",
        .run = get_vcpus_run,
    },
    {
        .name = "guest-set-vcpus",
        .summary = "Switches logical processors on and off; stops at the first that fails",
        .args = set_vcpus_specs,
        .args_size = sizeof(struct set_vcpus_args),
        .run = set_vcpus_run,
        .lane = "vcpus",
        .flags = CMD_CHANGES_GUEST,
    },
};

const struct command_family cpus_commands = COMMAND_FAMILY(commands);
