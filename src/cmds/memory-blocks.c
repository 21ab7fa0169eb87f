/* SPDX-License-Identifier: MIT */

/* The blocks that memory can be switched on and off in. */

#include <errno.h>
#include <inttypes.h>

#include "base/memory-block.h"
#include "base/numbered-entries.h"
#include "base/sysroot.h"
#include "cmds/command.h"

/* --- guest-get-memory-blocks --- */

static void write_block(struct json_writer *reply, const struct memory_block *block)
{
    json_begin_object(reply);
    json_member_bool(reply, "online", block->is_online);
    json_member_bool(reply, "can-offline", block->can_offline);
    json_member_uint(reply, "phys-index", block->index);
    json_end_object(reply);
}

static enum call_next get_memory_blocks_run(struct call *call)
{
    _cleanup_(numbered_entries_deinit) struct numbered_entries entries = NUMBERED_ENTRIES_INIT;
    call_step(call, "reading " MEMORY_BLOCK_DIRECTORY);
    int r = numbered_entries_list(&entries, MEMORY_BLOCK_DIRECTORY, "memory");
    if (r < 0 && r != -ENOENT) /* which is a kernel that cannot switch memory: no blocks */
        return call_fail_errno(call, -r, "open(\"" MEMORY_BLOCK_DIRECTORY "/\")");

    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    for (size_t i = 0; i < entries.count; i++) {
        struct memory_block block;
        uint64_t index = (uint64_t)entries.numbers[i];
        r = memory_block_read(&block, index);
        if (r == 0)
            write_block(reply, &block);
        else if (r != -ENOENT) /* else it was unplugged just now */
            return call_fail_errno(
                call, -r, "read(\"" MEMORY_BLOCK_DIRECTORY "/memory%" PRIu64 "/state\")", index);
    }
    json_end_array(reply);
    return CALL_CONTINUE;
}

/* --- guest-set-memory-blocks --- */

struct block_arg {
    uint64_t phys_index;
    bool online;
    bool can_offline, has_can_offline; /* taken, and ignored */
};

struct set_memory_blocks_args {
    struct arg_list blocks;
};

static const struct arg_spec block_specs[] = {
    {ARG(ARG_UINT64, struct block_arg, phys_index, "phys-index")},
    {ARG(ARG_BOOL, struct block_arg, online, "online")},
    {ARG_OPT(ARG_BOOL, struct block_arg, can_offline, "can-offline")},
    ARG_END,
};
static const struct arg_spec block_element = {.type = ARG_STRUCT, .fields = block_specs};
static const struct arg_spec set_memory_blocks_specs[] = {
    {ARG(ARG_LIST, struct set_memory_blocks_args, blocks, "mem-blks"), .element = &block_element,
     .element_size = sizeof(struct block_arg)},
    ARG_END,
};

/* What became of one block, as GuestMemoryBlockResponse says it. */
struct outcome {
    const char *response;
    int error; /* an errno; 0 for success */
};

static struct outcome outcome_of(int r)
{
    if (r == 0)
        return (struct outcome){"success", 0};
    if (r == -ENOSYS || r == -EOPNOTSUPP)
        return (struct outcome){"operation-not-supported", -r};
    return (struct outcome){"operation-failed", -r};
}

static struct outcome set_block(struct call *call, const struct block_arg *arg)
{
    struct memory_block block;
    if (call_is_interrupted(call))
        return outcome_of(-EINTR);
    int r = memory_block_read(&block, arg->phys_index);
    if (r == -ENOENT && sysroot_exists(MEMORY_BLOCK_DIRECTORY))
        return (struct outcome){"not-found", ENOENT};
    if (r == -ENOENT || (r == 0 && !block.has_state))
        return (struct outcome){"operation-not-supported", ENOENT};
    if (r < 0 || block.is_online == arg->online)
        return outcome_of(r);
    call_step(call, "switching memory block %" PRIu64 " %s", arg->phys_index,
              arg->online ? "on" : "off");
    return outcome_of(memory_block_set_online(arg->phys_index, arg->online));
}

/* One response for each entry: those after one that failed are carried out, too. */
static enum call_next set_memory_blocks_run(struct call *call)
{
    const struct set_memory_blocks_args *args = call_args(call);
    const struct block_arg *blocks = args->blocks.items;
    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    for (size_t i = 0; i < args->blocks.count; i++) {
        struct outcome outcome = set_block(call, &blocks[i]);
        json_begin_object(reply);
        json_member_string(reply, "response", outcome.response);
        if (outcome.error)
            json_member_int(reply, "error-code", outcome.error);
        json_member_uint(reply, "phys-index", blocks[i].phys_index);
        json_end_object(reply);
    }
    json_end_array(reply);
    return CALL_CONTINUE;
}

/* --- guest-get-memory-block-info --- */

static enum call_next get_memory_block_info_run(struct call *call)
{
    uint64_t size_bytes;
    int r = memory_block_size(&size_bytes);
    if (r == -ENOENT && !sysroot_exists(MEMORY_BLOCK_DIRECTORY))
        return call_fail_errno(call, -r, "open(\"" MEMORY_BLOCK_DIRECTORY "/\")");
    if (r < 0)
        return call_fail_errno(call, -r, "open sysfs file \"block_size_bytes\"");

    struct json_writer *reply = call_reply(call);
    json_begin_object(reply);
    json_member_uint(reply, "size", size_bytes);
    json_end_object(reply);
    return CALL_CONTINUE;
}

/* --- the rows --- */

static const struct command commands[] = {
    {
        .name = "guest-get-memory-blocks",
        .summary = "The memory blocks and whether they are online",
        .run = get_memory_blocks_run,
    },
    {
        .name = "guest-set-memory-blocks",
        .summary = "Switches memory blocks on and off, and says of each whether it could",
        .args = set_memory_blocks_specs,
        .args_size = sizeof(struct set_memory_blocks_args),
        .run = set_memory_blocks_run,
        .lane = "memory-blocks",
        .flags = CMD_CHANGES_GUEST,
    },
    {
        .name = "guest-get-memory-block-info",
        .summary = "The size of the memory blocks",
        .run = get_memory_block_info_run,
    },
};

const struct command_family memory_blocks_commands = COMMAND_FAMILY(commands);
