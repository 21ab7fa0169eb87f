/* SPDX-License-Identifier: MIT */
#include "peer.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "security/policy-value.h"

static bool find_user(const char *name, uint32_t *ret_id)
{
    const struct passwd *account = getpwnam(name);
    *ret_id = account ? account->pw_uid : 0;
    return account;
}

static bool find_group(const char *name, uint32_t *ret_id)
{
    const struct group *group = getgrnam(name);
    *ret_id = group ? group->gr_gid : 0;
    return group;
}

static int set_ids(uint32_t **ids, size_t *count, const char *value, const char *what,
                   bool (*find)(const char *name, uint32_t *ret_id), char **ret_reason)
{
    _cleanup_(text_list_deinit) struct text_list words = {NULL, 0};
    int error = policy_split(value, &words);
    if (error == -ENOMEM)
        return error;
    if (error < 0 || words.count == 0)
        return policy_fail(ret_reason, "expected names or numbers of %ss", what);
    _cleanup_free_ uint32_t *found = calloc(words.count, sizeof(*found));
    if (!found)
        return -ENOMEM;
    for (size_t i = 0; i < words.count; i++) {
        uint64_t number;
        if (policy_parse_number(words.items[i], false, &number) && number < UINT32_MAX)
            found[i] = (uint32_t)number;
        else if (!find(words.items[i], &found[i]))
            return policy_fail(ret_reason, "there is no %s '%s'", what, words.items[i]);
    }
    free(*ids);
    *ids = take_ptr(&found);
    *count = words.count;
    return 0;
}

int peer_rule_set_users(struct peer_rule *rule, const char *value, char **ret_reason)
{
    return set_ids(&rule->users, &rule->user_count, value, "user", find_user, ret_reason);
}

int peer_rule_set_groups(struct peer_rule *rule, const char *value, char **ret_reason)
{
    return set_ids(&rule->groups, &rule->group_count, value, "group", find_group, ret_reason);
}

bool peer_rule_is_given(const struct peer_rule *rule)
{
    return rule->user_count > 0 || rule->group_count > 0;
}

static void dump_ids(const char *key, const uint32_t *ids, size_t count, struct buffer *out)
{
    for (size_t i = 0; i < count; i++)
        buffer_append_format(out, "%s%s%" PRIu32 "%s", i == 0 ? key : "", i == 0 ? "=" : ",",
                             ids[i], i + 1 == count ? "\n" : "");
}

void peer_rule_dump(const struct peer_rule *rule, struct buffer *out)
{
    dump_ids("peer-uid", rule->users, rule->user_count, out);
    dump_ids("peer-gid", rule->groups, rule->group_count, out);
}

void peer_rule_deinit(struct peer_rule *rule)
{
    free(rule->users);
    free(rule->groups);
    *rule = (struct peer_rule){.users = NULL};
}

static bool peer_of(int fd, struct ucred *ret_peer)
{
    int domain;
    socklen_t length = sizeof(domain);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || domain != AF_UNIX)
        return false;
    length = sizeof(*ret_peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_peer, &length) == 0;
}

void peer_describe(int fd, char ret_text[PEER_TEXT_MAX])
{
    struct ucred peer;
    ret_text[0] = '\0';
    if (peer_of(fd, &peer))
        snprintf(ret_text, PEER_TEXT_MAX, "pid %ld, uid %lu, gid %lu", (long)peer.pid,
                 (unsigned long)peer.uid, (unsigned long)peer.gid);
}

static bool has_id(const uint32_t *ids, size_t count, uint32_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static bool has_group(const struct peer_rule *rule, int fd, gid_t own)
{
    gid_t groups[1024];
    socklen_t length = sizeof(groups);
    if (rule->group_count == 0 || has_id(rule->groups, rule->group_count, own))
        return true;
#ifdef SO_PEERGROUPS
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &length) == 0)
        for (size_t i = 0; i < length / sizeof(groups[0]); i++)
            if (has_id(rule->groups, rule->group_count, groups[i]))
                return true;
#endif
    return false;
}

bool peer_is_allowed(const struct peer_rule *rule, int fd)
{
    struct ucred peer;
    if (!peer_rule_is_given(rule))
        return true;
    if (!peer_of(fd, &peer))
        return false;
    return (rule->user_count == 0 || has_id(rule->users, rule->user_count, peer.uid)) &&
           has_group(rule, fd, peer.gid);
}
