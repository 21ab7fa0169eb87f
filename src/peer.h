/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_PEER_H
#define BELLHOP_PEER_H

/*
 * Who is at the other end of a unix socket, as the kernel tells it, and who may be. The names of
 * accounts are looked up when they are set: start-up only. Asking is for any thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct buffer;

/* With users and groups both have to fit. */
struct peer_rule {
    uid_t *users;
    size_t user_count; /* 0: any */
    gid_t *groups;     /* its own or one of its supplementary ones */
    size_t group_count;
};

/* A list of names and numbers. Returns 0, -EINVAL with the reason (malloc'ed), or -ENOMEM. */
int peer_rule_set_users(struct peer_rule *rule, const char *value, char **ret_reason) MUST_CHECK;
int peer_rule_set_groups(struct peer_rule *rule, const char *value, char **ret_reason) MUST_CHECK;

bool peer_rule_is_given(const struct peer_rule *rule);

/* Appends peer-uid= and peer-gid= as far as they are given, as numbers. */
void peer_rule_dump(const struct peer_rule *rule, struct buffer *out);

void peer_rule_deinit(struct peer_rule *rule);

#define PEER_TEXT_MAX 64

/* "pid 12, uid 0, gid 0" of a unix socket's peer; "" of any other descriptor. */
void peer_describe(int fd, char ret_text[PEER_TEXT_MAX]);

/* True if the socket's peer fits. What has no peer fits only where nothing is asked for. */
bool peer_is_allowed(const struct peer_rule *rule, int fd);

#endif
