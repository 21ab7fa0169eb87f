/* SPDX-License-Identifier: MIT */
#include "jobs/child-user.h"

#include <grp.h>
#include <paths.h>
#include <pwd.h>
#include <stdbool.h>
#include <string.h>

#define GROUPS_FIRST 64
#define GROUPS_MAX   65536 /* the kernel's NGROUPS_MAX */

/* login(1) and su(1) have these when nothing else is configured (login.defs(5)). */
#define PATH_OF_ROOT  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define PATH_OF_USERS "PATH=/usr/local/bin:/usr/bin:/bin"

static bool is_number(const char *text, uid_t *ret_number)
{
    char *end;
    if (text[strspn(text, "0123456789")] != '\0')
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    /* (uid_t)-1 means "none" wherever it stands. */
    if (errno || end == text || number >= (uid_t)-1)
        return false;
    *ret_number = (uid_t)number;
    return true;
}

static const struct passwd *look_up(const char *user)
{
    uid_t uid;
    errno = 0;
    const struct passwd *account = getpwnam(user);
    int error = errno;
    bool is_uid = is_number(user, &uid);
    errno = error;
    if (account || !is_uid)
        return account;
    errno = 0;
    return getpwuid(uid);
}

static int find_groups(struct child_user *user)
{
    for (int size = GROUPS_FIRST; size <= GROUPS_MAX; size *= 4) {
        user->group_count = size;
        user->groups = calloc((size_t)size, sizeof(*user->groups));
        if (!user->groups)
            return -ENOMEM;
        if (getgrouplist(user->name, user->gid, user->groups, &user->group_count) >= 0)
            return 0;
        free(take_ptr(&user->groups));
    }
    return -E2BIG;
}

int child_user_find(const char *name, struct child_user *ret_user)
{
    const struct passwd *account = look_up(name);
    if (!account) {
        /* getpwnam(3): these, too, are said where there is none. */
        bool is_missing = errno == 0 || errno == ENOENT || errno == ESRCH || errno == EBADF ||
                          errno == EPERM || errno == EWOULDBLOCK;
        return is_missing ? -ENOENT : -errno;
    }
    struct child_user user = {
        .uid = account->pw_uid,
        .gid = account->pw_gid,
        .name = strdup(account->pw_name),
        .home = strdup(account->pw_dir),
        .shell =
            strdup(account->pw_shell && account->pw_shell[0] ? account->pw_shell : _PATH_BSHELL),
    };
    if (!user.name || !user.home || !user.shell)
        return -ENOMEM;
    int error = find_groups(&user);
    if (!error)
        *ret_user = user;
    return error;
}

static bool sets_the_same(const char *variable, const char *other)
{
    size_t length = strcspn(variable, "=");
    return strncmp(variable, other, length + 1) == 0;
}

static bool is_given(const char *variable, char *const *given)
{
    for (; given && *given; given++) {
        if (sets_the_same(variable, *given))
            return true;
    }
    return false;
}

static char *make_variable(const char *name, const char *value)
{
    char *text;
    return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

char **child_user_environment(const struct child_user *user, char *const *given)
{
    char *const login[] = {
        make_variable("HOME", user->home),
        make_variable("USER", user->name),
        make_variable("LOGNAME", user->name),
        make_variable("SHELL", user->shell),
        strdup(user->uid == 0 ? PATH_OF_ROOT : PATH_OF_USERS),
    };
    size_t given_count = 0;
    while (given && given[given_count])
        given_count++;
    char **environment = calloc(ARRAY_SIZE(login) + given_count + 1, sizeof(*environment));
    if (!environment)
        return NULL;
    size_t count = 0;
    for (size_t i = 0; i < ARRAY_SIZE(login); i++) {
        if (!login[i])
            return NULL;
        if (!is_given(login[i], given))
            environment[count++] = login[i];
    }
    for (size_t i = 0; i < given_count; i++)
        environment[count++] = given[i];
    return environment;
}

int child_user_become(const struct child_user *user)
{
    bool is_already = geteuid() == user->uid && getuid() == user->uid;
    if (setgroups((size_t)user->group_count, user->groups) < 0 && !(is_already && errno == EPERM))
        return -errno;
    if (is_already && getegid() == user->gid && getgid() == user->gid)
        return 0;
    /* All three of each: nothing is left to go back to. */
    if (setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0)
        return -errno;
    return 0;
}
