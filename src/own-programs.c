/* SPDX-License-Identifier: MIT */
#include "own-programs.h"

#include <stdlib.h>

#include "cmds/command.h"
#include "cmds/helper-program.h"
#include "cmds/table.h"
#include "config.h"
#include "security/gate.h"

struct own_programs {
    struct broker_policy policy;
    const char *const **words; /* what policy.own_programs points to */
    const char *hook[3];       /* of them, the one that the configuration names */
    bool has_failed;
};

static void add_program(void *context, const char *const *words)
{
    struct own_programs *programs = context;
    size_t count = programs->policy.own_program_count;
    const char *const **grown = reallocarray(programs->words, count + 1, sizeof(*grown));
    if (!grown) {
        programs->has_failed = true;
        return;
    }
    grown[count] = words;
    programs->words = grown;
    programs->policy.own_programs = grown;
    programs->policy.own_program_count = count + 1;
}

/* The profiles of all channels, as a set. */
static unsigned profiles_in_use(const struct config *config)
{
    unsigned profiles = 0;
    for (size_t i = 0; i < config->channel_count; i++)
        profiles |= PROFILE_BIT(config->channels[i].profile);
    return profiles;
}

static bool is_enabled(const struct gate *gate, unsigned profiles, const char *command)
{
    for (unsigned i = 0; i < PROFILE_COUNT; i++)
        if (profiles & PROFILE_BIT(i) && gate_allows_profile(gate, i, command))
            return true;
    return false;
}

/* A freeze has the operator's hook run, and this program itself as the guard that thaws. */
static void add_freeze_programs(struct own_programs *programs, const struct config *config)
{
    static const char *const guard[] = {HELPER_BELLHOPD, "--thaw-guard", "*", NULL};
    add_program(programs, guard);
    if (!config->fsfreeze_hook)
        return;
    programs->hook[0] = config->fsfreeze_hook;
    programs->hook[1] = "*";
    add_program(programs, programs->hook);
}

struct own_programs *own_programs_new(const struct config *config, const struct gate *gate)
{
    struct own_programs *programs = calloc(1, sizeof(*programs));
    if (!programs)
        return NULL;
    unsigned profiles = profiles_in_use(config);
    programs->policy = (struct broker_policy){
        .rules = &config->policy.programs,
        .own_folders = helper_program_folders,
        .own_environment = helper_program_environment,
    };
    for (unsigned i = 0; i < PROFILE_COUNT; i++)
        if (profiles & PROFILE_BIT(i) && gate_allows_profile(gate, i, "guest-exec"))
            programs->policy.exec_profiles |= PROFILE_BIT(i);
    for (size_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        if (command->programs && is_enabled(gate, profiles, command->name))
            command->programs(add_program, programs);
    }
    if (is_enabled(gate, profiles, "guest-fsfreeze-freeze"))
        add_freeze_programs(programs, config);
    return programs->has_failed ? own_programs_free(programs) : programs;
}

struct own_programs *own_programs_free(struct own_programs *programs)
{
    if (programs)
        free(programs->words);
    free(programs);
    return NULL;
}

const struct broker_policy *own_programs_policy(const struct own_programs *programs)
{
    return &programs->policy;
}
