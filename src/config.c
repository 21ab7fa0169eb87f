/* SPDX-License-Identifier: MIT */
#include "config.h"

#include <string.h>

#include "base/buffer.h"
#include "base/key-file.h"
#include "config-entry.h"
#include "config-policy.h"
#include "base/vsock-address.h"
#include "options.h"
#include "passed-sockets.h"

#define BELLHOP_FILE "/etc/bellhop/bellhop.conf"

static const char default_statedir[] = "/var/run";
static const char default_method[] = "virtio-serial";

/* Red Hat's builds of the classic agent have a folder of their own. */
static const char *const classic_files[] = {"/etc/qemu/qemu-ga.conf", "/etc/qemu-ga/qemu-ga.conf"};
static const char *const hooks[] = {"/etc/qemu/fsfreeze-hook", "/etc/qemu-ga/fsfreeze-hook"};

/* What the classic agent has, which here is more than there are transports for: a configuration
 * is to be read and dumped for any of them. */
static const struct method {
    const char *name;
    const char *default_path;
} methods[] = {
    {"virtio-serial", "/dev/virtio-ports/org.qemu.guest_agent.0"},
    {"isa-serial", "/dev/ttyS0"},
    {"unix-listen", NULL},
    {"vsock-listen", NULL},
};

static const struct method *find_method(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(methods); i++)
        if (strcmp(methods[i].name, name) == 0)
            return &methods[i];
    return NULL;
}

/* --- where values come from --- */

/* As in every key file the last of two equal keys counts, also where keys of files add up. */
static bool is_repeated_later(const struct key_file *file, size_t index)
{
    const struct key_file_entry *entry = key_file_at(file, index);

    for (size_t i = index + 1; i < key_file_count(file); i++) {
        const struct key_file_entry *other = key_file_at(file, i);
        if (other->key && strcmp(other->key, entry->key) == 0 &&
            strcmp(other->group, entry->group) == 0)
            return true;
    }
    return false;
}

static int load_file_entry(struct config_loader *loader, const struct key_file *file, size_t index)
{
    const struct key_file_entry *entry = key_file_at(file, index);
    _cleanup_free_ char *value = NULL;

    loader->line = entry->line;
    if (!entry->key)
        return config_set_entry(loader, entry->group, NULL, NULL);
    if (strcmp(entry->group, "general") == 0) {
        /* Values that nobody asks for may be anything. */
        if (!config_has_general(entry->key))
            return config_warn(loader, "unknown key in [general] is ignored", entry->key);
        if (is_repeated_later(file, index))
            return 0;
    }

    if (loader->is_classic_file && !config_has_group(entry->group))
        return 0; /* its header was warned about */

    int error = key_file_decode(entry->value, &value);
    if (error == -EILSEQ)
        return config_fail(loader, "the value of '%s' is not UTF-8", entry->key);
    if (error == -EINVAL)
        return config_fail(loader,
                           "the value of '%s' has a '\\' that is none of \\s \\t \\n \\r \\\\",
                           entry->key);
    return error < 0 ? error : config_set_entry(loader, entry->group, entry->key, value);
}

static int load_entries(struct config_loader *loader, const struct key_file *file)
{
    int error = 0;
    for (size_t i = 0; i < key_file_count(file) && error == 0; i++)
        error = load_file_entry(loader, file, i);
    return error;
}

static int load_file(struct config_loader *loader, const char *path)
{
    struct key_file *file = NULL;
    int error = key_file_load(path, &file, loader->ret_reason);

    if (error < 0)
        return error;
    loader->file = path;
    loader->has_policy = loader->is_policy_file;
    error = load_entries(loader, file);
    if (error == 0 && loader->has_policy)
        error = config_check_trust(loader, path);
    if (error == 0)
        error = text_list_append(&loader->config->files, path, strlen(path));
    loader->file = NULL;
    loader->line = 0;
    key_file_free(file);
    return error;
}

/* Like load_file(), for a file that need not be there: then returns 0 and nothing has changed. */
static int load_optional_file(struct config_loader *loader, const char *path, bool *ret_found)
{
    int error = load_file(loader, path);

    *ret_found = error != -ENOENT;
    if (error == -ENOENT) {
        free(*loader->ret_reason);
        *loader->ret_reason = NULL;
        return 0;
    }
    return error;
}

static int load_bellhop_file(struct config_loader *loader, const struct options *options)
{
    const char *path = getenv("BELLHOP_CONF");
    bool found;

    if (options->checked_path)
        return load_file(loader, options->checked_path);
    return load_optional_file(loader, path ? path : BELLHOP_FILE, &found);
}

static int load_classic_file(struct config_loader *loader, const struct options *options)
{
    const char *path = getenv("QGA_CONF");
    bool found = false;
    int error = 0;

    loader->is_classic_file = true;
    if (options->config_path) {
        error = load_file(loader, options->config_path);
    } else if (path) {
        error = load_optional_file(loader, path, &found);
    } else {
        for (size_t i = 0; i < ARRAY_SIZE(classic_files) && error == 0 && !found; i++)
            error = load_optional_file(loader, classic_files[i], &found);
    }
    loader->is_classic_file = false;
    return error;
}

/* GROUP.KEY=VALUE; the value is taken as it is, a shell has escapes of its own. */
static int load_set(struct config_loader *loader, const char *text)
{
    const char *dot = strchr(text, '.');
    const char *equals = dot ? strchr(dot, '=') : NULL;

    loader->file = text;
    if (!equals || dot == text || equals == dot + 1)
        return config_fail(loader, "expected GROUP.KEY=VALUE");
    _cleanup_free_ char *group = strndup(text, (size_t)(dot - text));
    _cleanup_free_ char *key = strndup(dot + 1, (size_t)(equals - dot) - 1);
    if (!group || !key)
        return -ENOMEM;
    int error = config_set_entry(loader, group, key, equals + 1);
    loader->file = NULL;
    return error;
}

static int load_lists(struct config_loader *loader, const struct options *options)
{
    int error = 0;

    for (size_t i = 0; i < options->block_rpcs.count && error == 0; i++)
        error = config_add_names(&loader->config->block_rpcs, options->block_rpcs.items[i]);
    for (size_t i = 0; i < options->allow_rpcs.count && error == 0; i++)
        error = config_add_names(&loader->config->allow_rpcs, options->allow_rpcs.items[i]);
    for (size_t i = 0; i < options->ignored.count && error == 0; i++)
        error =
            config_warn(loader, "argument that is no option is ignored", options->ignored.items[i]);
    return error;
}

static const char *default_hook(void)
{
    for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
        if (access(hooks[i], F_OK) == 0)
            return hooks[i];
    return hooks[0];
}

static int load_options(struct config_loader *loader, const struct options *options)
{
    struct config *config = loader->config;
    const char *hook = options->fsfreeze_hook;
    const struct {
        const char *key;
        const char *value;
    } texts[] = {
        {"method", options->method},
        {"path", options->path},
        {"logfile", options->logfile},
        {"pidfile", options->pidfile},
        {"statedir", options->statedir},
        {"fsfreeze-hook", options->wants_fsfreeze_hook && !*hook ? default_hook() : hook},
    };
    int error = 0;

    for (size_t i = 0; i < ARRAY_SIZE(texts) && error == 0; i++)
        if (texts[i].value)
            error = config_set_entry(loader, "general", texts[i].key, texts[i].value);
    if (options->pidfile)
        config->has_pidfile = *options->pidfile;
    config->daemon |= options->daemonize;
    config->verbose |= options->verbose;
    config->retry_path |= options->retry_path;
    if (error == 0 && options->profile &&
        profile_from_name(options->profile, &config->policy.profile) < 0)
        return config_fail(loader,
                           "there is no profile '%s': expected one of full, backup, provision, "
                           "monitor",
                           options->profile);
    return error < 0 ? error : load_lists(loader, options);
}

/* --- sockets that were passed --- */

static struct config_channel *channel_named(struct config *config, const char *name)
{
    for (size_t i = 0; i < config->channel_count; i++)
        if (strcmp(config->channels[i].name, name) == 0)
            return &config->channels[i];
    return NULL;
}

/* Makes a channel for a socket that belongs to none, with a name that is not taken. */
static int add_channel_for_socket(struct config *config, struct config_channel **ret_channel)
{
    char name[32];

    for (unsigned number = 2;; number++) {
        snprintf(name, sizeof(name), "socket-%u", number);
        if (!channel_named(config, name))
            return config_add_channel(config, name, ret_channel);
    }
}

/* As the classic agent does it: whatever method and path it was configured with, it serves that. */
static int give_socket(struct config_loader *loader, struct config_channel *channel,
                       const struct passed_socket *passed)
{
    if (channel->passed_fd)
        return config_fail(loader, "two sockets were passed for channel '%s'", channel->name);
    if (channel != &loader->config->channels[0] && channel->method &&
        strcmp(channel->method, passed->method) != 0)
        return config_fail(loader, "the socket that was passed for channel '%s' is for %s, not %s",
                           channel->name, passed->method, channel->method);
    free(channel->method);
    free(channel->path);
    channel->method = strdup(passed->method);
    channel->path = strdup(passed->path);
    channel->passed_fd = passed->fd;
    return channel->method && channel->path ? 0 : -ENOMEM;
}

static int load_sockets(struct config_loader *loader, const struct passed_sockets *sockets)
{
    struct config *config = loader->config;
    int error = 0;

    /* Those with a name first: what they leave is for the others. */
    for (size_t i = 0; i < sockets->count && error == 0; i++) {
        struct config_channel *channel = channel_named(config, sockets->items[i].name);
        if (channel)
            error = give_socket(loader, channel, &sockets->items[i]);
    }
    size_t named_count = config->channel_count;
    for (size_t i = 0; i < sockets->count && error == 0; i++) {
        struct config_channel *channel = channel_named(config, sockets->items[i].name);
        if (channel && (size_t)(channel - config->channels) < named_count)
            continue;
        channel = &config->channels[0];
        if (channel->passed_fd)
            error = add_channel_for_socket(config, &channel);
        if (error == 0)
            error = give_socket(loader, channel, &sockets->items[i]);
    }
    return error;
}

/* --- all together --- */

static int check_names(struct config_loader *loader, const struct config_list *list,
                       const char *warning)
{
    int error = 0;

    for (size_t i = 0; i < list->names.count && error == 0; i++)
        if (!config_is_name_in(loader->commands, list->names.items[i]))
            error = config_warn(loader, warning, list->names.items[i]);
    return error;
}

static int set_defaults(struct config *config)
{
    settings_init(&config->settings);
    config->channels = calloc(1, sizeof(config->channels[0]));
    if (!config->channels)
        return -ENOMEM;
    config->channel_count = 1;
    config->channels[0].name = strdup(CONFIG_CLASSIC_CHANNEL);
    config->channels[0].method = strdup(default_method);
    config->pidfile = strdup(CONFIG_DEFAULT_PIDFILE);
    config->statedir = strdup(default_statedir);
    return config->channels[0].name && config->channels[0].method && config->pidfile &&
                   config->statedir
               ? 0
               : -ENOMEM;
}

static int check_vsock(struct config_loader *loader, const struct config_channel *channel)
{
    struct vsock_peers peers;
    uint32_t cid, port;

    if (vsock_address_parse(channel->path, &cid, &port) < 0)
        return config_fail(loader,
                           "'%s' is no address for channel '%s' (vsock-listen): expected CID:PORT, "
                           "for example any:1024",
                           channel->path, channel->name);
    if (vsock_peers_parse(channel->vsock_peers, &peers) < 0)
        return config_fail(loader,
                           "'%s' does not fit 'vsock-peers' of channel '%s': expected any, or CIDs "
                           "separated by ',' or ';'",
                           channel->vsock_peers, channel->name);
    return 0;
}

static int check_channel(struct config_loader *loader, size_t index)
{
    struct config_channel *channel = &loader->config->channels[index];
    const char *name = channel->name;

    if (!channel->method)
        return config_fail(loader, "channel '%s' needs a method", name);
    const struct method *method = find_method(channel->method);
    if (!method)
        return config_fail(loader,
                           "unknown method '%s' of channel '%s': expected one of virtio-serial, "
                           "isa-serial, unix-listen, vsock-listen",
                           channel->method, name);
    if (!channel->path && method->default_path) {
        channel->path = strdup(method->default_path);
        if (!channel->path)
            return -ENOMEM;
    }
    if (!channel->path || !*channel->path)
        return config_fail(loader, "channel '%s' (%s) needs a path", name, method->name);
    if (strcmp(channel->method, "vsock-listen") == 0) {
        int error = check_vsock(loader, channel);
        if (error < 0)
            return error;
    }
    if (!channel->has_profile)
        channel->profile = loader->config->policy.profile;
    if (peer_rule_is_given(&channel->peer) && strcmp(method->name, "unix-listen") != 0)
        return config_fail(loader,
                           "channel '%s': peer-uid and peer-gid are of unix-listen; a %s has no "
                           "peer with credentials",
                           name, method->name);
    for (size_t i = 0; i < index; i++) {
        const struct config_channel *other = &loader->config->channels[i];
        if (strcmp(other->path, channel->path) == 0 && strcmp(other->method, channel->method) == 0)
            return config_fail(loader,
                               "channels '%s' and '%s' have the same method and path (%s %s)",
                               other->name, name, channel->method, channel->path);
    }
    return 0;
}

static int check_all(struct config_loader *loader)
{
    const struct config *config = loader->config;
    int error = 0;

    for (size_t i = 0; i < config->channel_count && error == 0; i++)
        error = check_channel(loader, i);
    if (error < 0)
        return error;
    if (config->statedir[0] != '/')
        return config_fail(loader, "the state directory has to be an absolute path, not '%s'",
                           config->statedir);
    error = settings_check(&config->settings, loader->ret_reason);
    if (error == 0)
        error = policy_resolve(&loader->config->policy, loader->ret_reason);
    if (error == 0)
        error = check_names(loader, &config->block_rpcs, "unknown command in block-rpcs");
    if (error == 0)
        error = check_names(loader, &config->allow_rpcs, "unknown command in allow-rpcs");
    return error;
}

static int load_all(struct config_loader *loader, const struct options *options)
{
    int error = set_defaults(loader->config);

    if (error == 0)
        error = load_bellhop_file(loader, options);
    if (error == 0)
        error = load_classic_file(loader, options);
    if (error == 0)
        error = config_load_policy(loader, load_file);
    for (size_t i = 0; i < options->sets.count && error == 0; i++)
        error = load_set(loader, options->sets.items[i]);
    if (error == 0)
        error = load_options(loader, options);
    if (error == 0 && options->sockets)
        error = load_sockets(loader, options->sockets);
    return error < 0 ? error : check_all(loader);
}

int config_load(const struct options *options, const char *const *commands,
                struct config **ret_config, char **ret_reason)
{
    struct config_loader loader = {.commands = commands, .ret_reason = ret_reason};

    *ret_reason = NULL;
    loader.config = calloc(1, sizeof(*loader.config));
    if (!loader.config)
        return -ENOMEM;
    int error = load_all(&loader, options);
    if (error < 0) {
        config_free(loader.config);
        return error;
    }
    *ret_config = loader.config;
    return 0;
}

int config_check_policy(const char *name, const char *text, size_t length, char **ret_reason)
{
    static const char *const none[] = {NULL};
    struct config_loader loader = {
        .commands = none, .ret_reason = ret_reason, .is_policy_file = true, .file = name};
    struct key_file *file = NULL;
    *ret_reason = NULL;
    int error = key_file_parse(name, text, length, &file, ret_reason);
    if (error < 0)
        return error;
    loader.config = calloc(1, sizeof(*loader.config));
    error = loader.config ? set_defaults(loader.config) : -ENOMEM;
    if (error == 0)
        error = load_entries(&loader, file);
    config_free(loader.config);
    key_file_free(file);
    return error;
}

static void dump_text(struct buffer *out, const char *key, const char *text)
{
    if (!text)
        return;
    buffer_append_format(out, "%s=", key);
    key_file_encode(out, text);
    buffer_append_char(out, '\n');
}

static void dump_bool(struct buffer *out, const char *key, bool value)
{
    buffer_append_format(out, "%s=%s\n", key, value ? "true" : "false");
}

static void dump_list(struct buffer *out, const char *key, const struct config_list *list)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;

    for (size_t i = 0; i < list->names.count; i++)
        buffer_append_format(&text, "%s%s", i > 0 ? "," : "", list->names.items[i]);
    /* A list that allows nothing must not be read back as no list. */
    if (list->is_given && list->names.count == 0)
        buffer_append_char(&text, ',');
    dump_text(out, key, text.data ? text.data : "");
    out->failed |= text.failed;
}

static void dump_channel(struct buffer *out, const struct config_channel *channel, bool is_classic)
{
    bool has_policy = channel->has_profile || peer_rule_is_given(&channel->peer);
    if (is_classic && !has_policy)
        return;
    buffer_append_format(out, "\n[channel %s]\n", channel->name);
    if (!is_classic) {
        dump_text(out, "method", channel->method);
        dump_text(out, "path", channel->path);
        dump_text(out, "vsock-peers", channel->vsock_peers);
    }
    if (channel->has_profile)
        dump_text(out, "profile", profile_name(channel->profile));
    peer_rule_dump(&channel->peer, out);
}

static void dump_policy(struct buffer *out, const struct policy *policy)
{
    if (policy->profile == PROFILE_FULL && !policy->is_strict && !policy->user && !policy->audit)
        return;
    buffer_append_text(out, "\n[policy]\n");
    dump_text(out, "profile", profile_name(policy->profile));
    if (policy->is_strict)
        dump_bool(out, "strict", true);
    dump_text(out, "user", policy->user);
    dump_text(out, "audit", policy->audit);
}

void config_dump(const struct config *config, struct buffer *out)
{
    buffer_append_text(out, "[general]\n");
    dump_bool(out, "daemon", config->daemon);
    dump_text(out, "method", config->channels[0].method);
    dump_text(out, "path", config->channels[0].path);
    dump_text(out, "vsock-peers", config->channels[0].vsock_peers);
    dump_text(out, "logfile", config->logfile);
    dump_text(out, "pidfile", config->pidfile);
    dump_text(out, "fsfreeze-hook", config->fsfreeze_hook);
    dump_text(out, "statedir", config->statedir);
    dump_bool(out, "verbose", config->verbose);
    dump_bool(out, "retry-path", config->retry_path);
    dump_list(out, "block-rpcs", &config->block_rpcs);
    /* Older classic agents do not know this one, so it is shown only if there is something. */
    if (config->allow_rpcs.is_given)
        dump_list(out, "allow-rpcs", &config->allow_rpcs);

    for (size_t i = 0; i < config->channel_count; i++)
        dump_channel(out, &config->channels[i], i == 0);
    dump_policy(out, &config->policy);
    settings_dump(&config->settings, out);
}

struct config *config_free(struct config *config)
{
    if (config) {
        for (size_t i = 0; i < config->channel_count; i++) {
            free(config->channels[i].name);
            free(config->channels[i].method);
            free(config->channels[i].path);
            free(config->channels[i].vsock_peers);
            peer_rule_deinit(&config->channels[i].peer);
        }
        free(config->channels);
        free(config->logfile);
        free(config->pidfile);
        free(config->fsfreeze_hook);
        free(config->statedir);
        text_list_deinit(&config->block_rpcs.names);
        text_list_deinit(&config->allow_rpcs.names);
        text_list_deinit(&config->files);
        text_list_deinit(&config->warnings);
        settings_deinit(&config->settings);
        policy_deinit(&config->policy);
        free(config);
    }
    return NULL;
}
