/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_JOBS_CHILD_USER_H
#define BELLHOP_JOBS_CHILD_USER_H

/*
 * Becoming another user, for a child between its fork and its exec. Looking a user up may ask a
 * server and hang (nss(5)): that is why it is done there, where nobody waits for it.
 */

#include <sys/types.h>

#include "base/cleanup.h"

/* An account, found; malloc'ed, and never given back: the child ends or becomes the program. */
struct child_user {
    uid_t uid;
    gid_t gid;
    gid_t *groups;
    int group_count;
    char *name, *home, *shell;
};

/*
 * Finds an account by its name; one of only digits that no account has is a uid. Returns 0; -ENOENT:
 * there is none; or -errno.
 */
int child_user_find(const char *user, struct child_user *ret_user) MUST_CHECK;

/*
 * The environment of a program of that user, NULL-terminated: HOME, USER, LOGNAME, SHELL and PATH as
 * a login sets them (login(1)), and `given` (NULL: nothing), whose variables win. NULL: no memory.
 */
char **child_user_environment(const struct child_user *user, char *const *given) MUST_CHECK;

/*
 * Takes on the groups and the ids, for good. A process that is that user already and may not change
 * groups keeps the groups that it has. Returns 0 or -errno.
 */
int child_user_become(const struct child_user *user) MUST_CHECK;

#endif
