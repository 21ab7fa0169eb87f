/* SPDX-License-Identifier: MIT */
#include "cmds/table.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cmds/command.h"

/* Each src/cmds/<family>.c exports one of these. */
extern const struct command_family info_commands;
extern const struct command_family system_commands;
extern const struct command_family file_commands;
extern const struct command_family exec_commands;
extern const struct command_family job_commands;
extern const struct command_family network_commands;
extern const struct command_family disks_commands;
extern const struct command_family load_commands;
extern const struct command_family cpus_commands;
extern const struct command_family memory_blocks_commands;
extern const struct command_family accounts_commands;
extern const struct command_family ssh_commands;
extern const struct command_family time_commands;
extern const struct command_family trim_commands;
extern const struct command_family users_commands;
extern const struct command_family power_commands;
extern const struct command_family job_input_commands;
extern const struct command_family freeze_commands;

static const struct command_family *const families[] = {
    &info_commands,          &system_commands,   &file_commands, &exec_commands,
    &network_commands,       &disks_commands,    &load_commands, &cpus_commands,
    &memory_blocks_commands, &accounts_commands, &ssh_commands,  &time_commands,
    &users_commands,         &power_commands,    &job_commands,  &trim_commands,
    &job_input_commands,     &freeze_commands,
};

/* Room for every row there is; the table is built once, before it is first read. */
enum { COMMANDS_MAX = 128 };
static const struct command *commands[COMMANDS_MAX];
static size_t count;
static pthread_once_t built = PTHREAD_ONCE_INIT;

static int compare_names(const void *a, const void *b)
{
    const struct command *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

static void build(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(families); i++)
        for (size_t j = 0; j < families[i]->count; j++)
            commands[count++] = &families[i]->commands[j];
    assert(count <= COMMANDS_MAX);
    qsort(commands, count, sizeof(commands[0]), compare_names);
}

size_t command_count(void)
{
    pthread_once(&built, build);
    return count;
}

const struct command *command_at(size_t index)
{
    pthread_once(&built, build);
    return commands[index];
}

int command_find(const char *name, size_t length)
{
    pthread_once(&built, build);
    if (strlen(name) != length) /* a NUL inside */
        return -1;
    const struct command key = {.name = name}, *pointer = &key;
    const struct command **found =
        bsearch(&pointer, commands, count, sizeof(commands[0]), compare_names);
    return found ? (int)(found - commands) : -1;
}
