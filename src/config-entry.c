/* SPDX-License-Identifier: MIT */
#include "config-entry.h"

#include <stdarg.h>
#include <string.h>

#include "base/buffer.h"
#include "base/key-file.h"

static void fail_va(struct config_loader *loader, const char *format, va_list arguments)
    PRINTF_LIKE(2, 0);
static void fail_va(struct config_loader *loader, const char *format, va_list arguments)
{
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;

    if (loader->file && loader->line > 0)
        buffer_append_format(&message, "%s:%u: ", loader->file, loader->line);
    else if (loader->file)
        buffer_append_format(&message, "--set %s: ", loader->file);
    buffer_append_va(&message, format, arguments);
    free(*loader->ret_reason);
    *loader->ret_reason = message.failed ? NULL : take_ptr(&message.data);
}

int config_fail(struct config_loader *loader, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fail_va(loader, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

int config_warn(struct config_loader *loader, const char *text, const char *name)
{
    struct text_list *warnings = &loader->config->warnings;

    if (!loader->file)
        return text_list_append_format(warnings, "%s: '%s'", text, name);
    return text_list_append_format(warnings, "%s:%u: %s: '%s'", loader->file, loader->line, text,
                                   name);
}

bool config_is_name_in(const char *const *names, const char *name)
{
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

static int set_text(char **text, const char *value)
{
    char *copy = strdup(value);

    if (!copy)
        return -ENOMEM;
    free(*text);
    *text = copy;
    return 0;
}

/* For what can be unset again by an empty value. */
static int set_text_or_none(char **text, const char *value)
{
    if (*value)
        return set_text(text, value);
    free(*text);
    *text = NULL;
    return 0;
}

/* --- lists of commands --- */

int config_add_names(struct config_list *list, const char *text)
{
    static const char separators[] = ",;";
    static const char blanks[] = " \t";

    if (text[strspn(text, blanks)] == '\0')
        return 0; /* an option that a unit file fills from an unset variable is no list */
    list->is_given = true;

    /* From its end: this is the order of the classic agent's dump. */
    size_t end = strlen(text);
    for (;;) {
        size_t start = end;
        while (start > 0 && !strchr(separators, text[start - 1]))
            start--;
        const char *name = text + start;
        size_t length = end - start;
        while (length > 0 && strchr(blanks, *name)) {
            name++;
            length--;
        }
        while (length > 0 && strchr(blanks, name[length - 1]))
            length--;
        int error = length > 0 ? text_list_append(&list->names, name, length) : 0;
        if (error < 0 || start == 0)
            return error;
        end = start - 1;
    }
}

/* --- [general] --- */

static const char general_group[] = "general";

enum general_kind { GENERAL_BOOL, GENERAL_TEXT, GENERAL_OPTIONAL_TEXT, GENERAL_LIST };

static const struct general_key {
    const char *name;
    enum general_kind kind;
    size_t offset; /* in struct config, or else in the classic channel */
    bool in_channel;
} general_keys[] = {
    {"daemon", GENERAL_BOOL, offsetof(struct config, daemon), false},
    {"method", GENERAL_TEXT, offsetof(struct config_channel, method), true},
    {"path", GENERAL_TEXT, offsetof(struct config_channel, path), true},
    {"vsock-peers", GENERAL_OPTIONAL_TEXT, offsetof(struct config_channel, vsock_peers), true},
    {"logfile", GENERAL_OPTIONAL_TEXT, offsetof(struct config, logfile), false},
    {"pidfile", GENERAL_OPTIONAL_TEXT, offsetof(struct config, pidfile), false},
    {"fsfreeze-hook", GENERAL_OPTIONAL_TEXT, offsetof(struct config, fsfreeze_hook), false},
    {"statedir", GENERAL_TEXT, offsetof(struct config, statedir), false},
    {"verbose", GENERAL_BOOL, offsetof(struct config, verbose), false},
    {"retry-path", GENERAL_BOOL, offsetof(struct config, retry_path), false},
    {"block-rpcs", GENERAL_LIST, offsetof(struct config, block_rpcs), false},
    {"blacklist", GENERAL_LIST, offsetof(struct config, block_rpcs), false},
    {"allow-rpcs", GENERAL_LIST, offsetof(struct config, allow_rpcs), false},
};

static const struct general_key *find_general_key(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(general_keys); i++)
        if (strcmp(general_keys[i].name, name) == 0)
            return &general_keys[i];
    return NULL;
}

static int set_general(struct config_loader *loader, const struct general_key *key,
                       const char *value)
{
    struct config *config = loader->config;
    void *owner = key->in_channel ? (void *)&config->channels[0] : (void *)config;
    void *member = (char *)owner + key->offset;

    if (member == &config->pidfile)
        config->has_pidfile = *value && strcmp(value, CONFIG_DEFAULT_PIDFILE) != 0;
    switch (key->kind) {
    case GENERAL_BOOL:
        if (key_file_decode_bool(value, member) < 0)
            return config_fail(loader, "'%s' does not fit '%s': expected true or false", value,
                               key->name);
        return 0;
    case GENERAL_TEXT:
        return set_text(member, value);
    case GENERAL_OPTIONAL_TEXT:
        return set_text_or_none(member, value);
    case GENERAL_LIST:
        return config_add_names(member, value);
    }
    return -EINVAL;
}

bool config_has_general(const char *key)
{
    return find_general_key(key);
}

static int set_in_general(struct config_loader *loader, const char *name, const char *value)
{
    const struct general_key *key = find_general_key(name);

    if (!key)
        return config_fail(loader, "there is no key '%s' in [general]", name);
    if (strcmp(name, "blacklist") == 0) {
        int error = config_warn(loader, "older name of block-rpcs, which should replace it", name);
        if (error < 0)
            return error;
    }
    return set_general(loader, key, value);
}

/* --- [channel NAME] --- */

static const char *channel_name(const char *group)
{
    static const char word[] = "channel";
    const char *name = group + strlen(word);

    if (strncmp(group, word, strlen(word)) != 0 || (*name && *name != ' ' && *name != '\t'))
        return NULL;
    return name + strspn(name, " \t");
}

int config_add_channel(struct config *config, const char *name, struct config_channel **ret_channel)
{
    struct config_channel *channels =
        reallocarray(config->channels, config->channel_count + 1, sizeof(channels[0]));
    if (!channels)
        return -ENOMEM;
    config->channels = channels;
    *ret_channel = &channels[config->channel_count];
    **ret_channel = (struct config_channel){.name = strdup(name)};
    if (!(*ret_channel)->name)
        return -ENOMEM;
    config->channel_count++;
    return 0;
}

static int find_channel(struct config_loader *loader, const char *name,
                        struct config_channel **ret_channel)
{
    static const char characters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    struct config *config = loader->config;

    if (!*name || name[strspn(name, characters)] || strlen(name) > 64)
        return config_fail(loader,
                           "'%s' is no name for a channel: expected [channel NAME] with a name of "
                           "1 to 64 letters, digits, '-' and '_'",
                           name);
    for (size_t i = 0; i < config->channel_count; i++) {
        if (strcmp(config->channels[i].name, name) == 0) {
            *ret_channel = &config->channels[i];
            return 0;
        }
    }
    return config_add_channel(config, name, ret_channel);
}

static bool is_policy_of_channel(const char *key)
{
    return strcmp(key, "profile") == 0 || strcmp(key, "peer-uid") == 0 ||
           strcmp(key, "peer-gid") == 0;
}

static int set_policy_of_channel(struct config_loader *loader, struct config_channel *channel,
                                 const char *key, const char *value)
{
    _cleanup_free_ char *reason = NULL;
    int error;
    loader->has_policy = true;
    if (strcmp(key, "profile") == 0) {
        channel->has_profile = true;
        error = profile_from_name(value, &channel->profile);
        if (error < 0)
            return config_fail(loader,
                               "there is no profile '%s': expected one of full, backup, "
                               "provision, monitor",
                               value);
        return 0;
    }
    error = strcmp(key, "peer-uid") == 0 ? peer_rule_set_users(&channel->peer, value, &reason)
                                         : peer_rule_set_groups(&channel->peer, value, &reason);
    return error < 0 && reason ? config_fail(loader, "%s", reason) : error;
}

/* `key` is NULL for the group's header. */
static int set_in_channel(struct config_loader *loader, const char *name, const char *key,
                          const char *value)
{
    struct config_channel *channel = NULL;
    int error = find_channel(loader, name, &channel);

    if (error < 0 || !key)
        return error;
    if (is_policy_of_channel(key))
        return set_policy_of_channel(loader, channel, key, value);
    bool is_transport = strcmp(key, "method") == 0 || strcmp(key, "path") == 0;
    if (is_transport && strcmp(name, CONFIG_CLASSIC_CHANNEL) == 0)
        return config_fail(loader, "the channel '%s' has its method and path in [general]", name);
    if (is_transport && loader->is_policy_file)
        return config_fail(loader, "'%s' of a channel is nothing for a policy's file", key);
    if (strcmp(key, "method") == 0)
        return set_text(&channel->method, value);
    if (strcmp(key, "path") == 0)
        return set_text(&channel->path, value);
    if (strcmp(key, "vsock-peers") == 0)
        return set_text_or_none(&channel->vsock_peers, value);
    return config_fail(loader,
                       "there is no key '%s' in [channel %s]: expected one of method, path, "
                       "vsock-peers, profile, peer-uid, peer-gid",
                       key, name);
}

/* --- bellhop's own settings --- */

static int set_setting(struct config_loader *loader, const char *group, const char *key,
                       const char *value)
{
    if (strcmp(group, "deadline") == 0 && strcmp(key, "default") != 0 &&
        !config_is_name_in(loader->commands, key))
        return config_fail(loader,
                           "there is no key '%s' in [deadline]: expected default or a command's "
                           "name",
                           key);

    size_t length = strlen(value);
    while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t'))
        length--;
    _cleanup_free_ char *trimmed = strndup(value, length);
    _cleanup_free_ char *reason = NULL;
    if (!trimmed)
        return -ENOMEM;
    int error = settings_set(&loader->config->settings, group, key, trimmed, &reason);
    if (error < 0 && reason)
        return config_fail(loader, "%s", reason);
    return error;
}

bool config_has_group(const char *group)
{
    return strcmp(group, general_group) == 0 || channel_name(group) || settings_has_group(group) ||
           policy_has_group(group);
}

static int set_policy(struct config_loader *loader, const char *group, const char *key,
                      const char *value)
{
    struct policy_place place = {loader->file ? loader->file : "--set", loader->line};
    _cleanup_free_ char *reason = NULL;
    loader->has_policy = true;
    int error = policy_set(&loader->config->policy, &place, group, key, value, &reason);
    return error < 0 && reason ? config_fail(loader, "%s", reason) : error;
}

static int refuse_group(struct config_loader *loader, const char *group)
{
    if (!loader->is_classic_file)
        return config_fail(loader, "there is no group [%s]", group);
    return config_warn(loader, "unknown group is ignored", group);
}

int config_set_entry(struct config_loader *loader, const char *group, const char *key,
                     const char *value)
{
    const char *channel = channel_name(group);

    if (channel)
        return set_in_channel(loader, channel, key, value);
    if (policy_has_group(group))
        return set_policy(loader, group, key, value);
    if (loader->is_policy_file)
        return config_fail(loader,
                           "there is no group [%s] in a policy's file: expected [policy], "
                           "[program NAME], [files NAME] or [channel NAME]",
                           group);
    if (strcmp(group, general_group) == 0)
        return key ? set_in_general(loader, key, value) : 0;
    if (settings_has_group(group))
        return key ? set_setting(loader, group, key, value) : 0;
    return refuse_group(loader, group);
}
