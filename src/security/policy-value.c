/* SPDX-License-Identifier: MIT */
#include "security/policy-value.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "base/buffer.h"
#include "security/profile.h"

int policy_fail(char **ret_reason, const char *format, ...)
{
    _cleanup_buffer_ struct buffer message = BUFFER_INIT;
    va_list arguments;
    va_start(arguments, format);
    buffer_append_va(&message, format, arguments);
    va_end(arguments);
    if (message.failed)
        return -ENOMEM;
    free(*ret_reason);
    *ret_reason = take_ptr(&message.data);
    return -EINVAL;
}

int policy_set_text(char **text, const char *value)
{
    char *copy = strdup(value);
    if (!copy)
        return -ENOMEM;
    free(*text);
    *text = copy;
    return 0;
}

/* --- words --- */

static int split(const char *value, const char *separators, struct text_list *list)
{
    _cleanup_free_ char *word = malloc(strlen(value) + 1);
    if (!word)
        return -ENOMEM;
    for (const char *at = value;;) {
        at += strspn(at, separators);
        if (!*at)
            return 0;
        size_t length = 0;
        bool is_quoted = false;
        for (; *at && (is_quoted || !strchr(separators, *at)); at++) {
            if (*at == '"')
                is_quoted = !is_quoted;
            else
                word[length++] = *at;
        }
        if (is_quoted)
            return -EINVAL;
        int error = text_list_append(list, word, length);
        if (error < 0)
            return error;
    }
}

int policy_split(const char *value, struct text_list *list)
{
    return split(value, " \t,", list);
}

int policy_split_arguments(const char *value, struct text_list *list)
{
    return split(value, " \t", list);
}

/* --- numbers --- */

static bool take_unit(const char **text, uint64_t *number)
{
    unsigned shift = **text == 'K' ? 10 : **text == 'M' ? 20 : **text == 'G' ? 30 : 0;
    if (shift == 0)
        return true;
    (*text)++;
    if (*number > UINT64_MAX >> shift)
        return false;
    *number <<= shift;
    return true;
}

bool policy_parse_number(const char *value, bool has_unit, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (!isdigit((unsigned char)*value))
        return false;
    for (; isdigit((unsigned char)*value); value++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (unsigned)(*value - '0'), &number))
            return false;
    if (has_unit && !take_unit(&value, &number))
        return false;
    value += strspn(value, " \t");
    if (*value)
        return false;
    *ret_number = number;
    return true;
}

/* --- names --- */

int policy_parse_profiles(const char *value, unsigned *ret_profiles, char **ret_reason)
{
    _cleanup_(text_list_deinit) struct text_list words = {NULL, 0};
    unsigned profiles = 0;
    int error = policy_split(value, &words);
    if (error == -ENOMEM)
        return error;
    for (size_t i = 0; i < words.count; i++) {
        enum profile profile;
        if (profile_from_name(words.items[i], &profile) < 0)
            return policy_fail(ret_reason,
                               "there is no profile '%s': expected some of full, backup, "
                               "provision, monitor",
                               words.items[i]);
        profiles |= PROFILE_BIT(profile);
    }
    if (error < 0 || profiles == 0)
        return policy_fail(ret_reason,
                           "'%s' names no profile: expected some of full, backup, provision, "
                           "monitor",
                           value);
    *ret_profiles = profiles;
    return 0;
}

/* By number: linux/capability.h, which older systems have an older one of. */
static const char *const capability_names[] = {
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
};

const char *policy_capability_name(unsigned number)
{
    return number < ARRAY_SIZE(capability_names) ? capability_names[number] : NULL;
}

static int add_capability(const char *name, uint64_t *set, char **ret_reason)
{
    const char *plain = strncasecmp(name, "cap_", 4) == 0 ? name + 4 : name;
    for (size_t i = 0; i < ARRAY_SIZE(capability_names); i++) {
        if (strcasecmp(plain, capability_names[i]) == 0) {
            *set |= UINT64_C(1) << i;
            return 0;
        }
    }
    return policy_fail(ret_reason,
                       "there is no capability '%s': expected names of capabilities(7), all, or "
                       "none",
                       name);
}

int policy_parse_capabilities(const char *value, uint64_t *ret_set, char **ret_reason)
{
    _cleanup_(text_list_deinit) struct text_list words = {NULL, 0};
    uint64_t set = 0;
    int error = policy_split(value, &words);
    if (error == -ENOMEM)
        return error;
    if (error < 0 || words.count == 0)
        return policy_fail(ret_reason, "expected names of capabilities(7), all, or none");
    if (words.count == 1 && strcmp(words.items[0], "none") == 0) {
        *ret_set = 0;
        return 0;
    }
    if (words.count == 1 && strcmp(words.items[0], "all") == 0) {
        *ret_set = UINT64_MAX;
        return 0;
    }
    for (size_t i = 0; i < words.count; i++) {
        error = add_capability(words.items[i], &set, ret_reason);
        if (error < 0)
            return error;
    }
    *ret_set = set;
    return 0;
}

static const struct {
    const char *name;
    int resource;
} limit_names[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nofile", RLIMIT_NOFILE},
    {"nproc", RLIMIT_NPROC},     {"rss", RLIMIT_RSS},           {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};

int policy_parse_limit_name(const char *name, int *ret_resource)
{
    for (size_t i = 0; i < ARRAY_SIZE(limit_names); i++) {
        if (strcmp(limit_names[i].name, name) == 0) {
            *ret_resource = limit_names[i].resource;
            return 0;
        }
    }
    return -EINVAL;
}

const char *policy_limit_name(int resource)
{
    for (size_t i = 0; i < ARRAY_SIZE(limit_names); i++)
        if (limit_names[i].resource == resource)
            return limit_names[i].name;
    return "?";
}

/* --- paths --- */

int policy_copy_path(const char *value, char **ret_path, char **ret_reason)
{
    if (*value != '/')
        return policy_fail(ret_reason, "'%s' is no absolute path", value);
    _cleanup_free_ char *path = malloc(strlen(value) + 2);
    if (!path)
        return -ENOMEM;
    size_t length = 0;
    for (const char *at = value; *at;) {
        at += strspn(at, "/");
        size_t part = strcspn(at, "/");
        if (part == 2 && at[0] == '.' && at[1] == '.')
            return policy_fail(ret_reason, "'%s': a path in a rule cannot have '..'", value);
        if (part > 0 && !(part == 1 && *at == '.')) {
            path[length++] = '/';
            memcpy(path + length, at, part);
            length += part;
        }
        at += part;
    }
    if (length == 0)
        path[length++] = '/';
    path[length] = '\0';
    free(*ret_path);
    *ret_path = take_ptr(&path);
    return 0;
}
