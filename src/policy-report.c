/* SPDX-License-Identifier: MIT */
#include "policy-report.h"

#include "base/buffer.h"
#include "base/sysroot.h"
#include "cmds/command.h"
#include "cmds/table.h"
#include "config.h"
#include "security/gate.h"

static void report_channel(const struct config_channel *channel, struct buffer *out)
{
    buffer_append_format(out, "[channel %s]: %s %s, profile %s\n", channel->name, channel->method,
                         channel->path, profile_name(channel->profile));
    peer_rule_dump(&channel->peer, out);
}

static bool is_enabled(const struct gate *gate, unsigned profile, const struct command *command)
{
    bool is_elsewhere = command->flags & CMD_OWN_SYSTEM && sysroot_prefix()[0];
    return !(command->flags & CMD_UNSUPPORTED) && !is_elsewhere &&
           gate_allows_profile(gate, profile, command->name);
}

static void report_profile(const struct gate *gate, unsigned profile, struct buffer *out)
{
    buffer_append_format(out, "profile %s has the commands\n", profile_name(profile));
    for (size_t i = 0; i < command_count(); i++)
        if (is_enabled(gate, profile, command_at(i)))
            buffer_append_format(out, "    %s\n", command_at(i)->name);
}

/* What a profile's commands can never come to, because there is no rule. */
static void report_lacks(const struct config *config, const struct gate *gate, unsigned profile,
                         struct buffer *out)
{
    const struct policy *policy = &config->policy;
    if (profile_needs_rules(profile) && gate_allows_profile(gate, profile, "guest-exec") &&
        policy->programs.count == 0)
        buffer_append_format(out, "profile %s runs no program: there is no [program] rule\n",
                             profile_name(profile));
}

void policy_report(const struct config *config, const struct gate *gate, struct buffer *out)
{
    unsigned used = 0;
    for (size_t i = 0; i < config->channel_count; i++) {
        report_channel(&config->channels[i], out);
        used |= PROFILE_BIT(config->channels[i].profile);
    }
    for (unsigned profile = 0; profile < PROFILE_COUNT; profile++) {
        if (!(used & PROFILE_BIT(profile)))
            continue;
        report_profile(gate, profile, out);
        report_lacks(config, gate, profile, out);
    }
    policy_describe(&config->policy, out);
}
