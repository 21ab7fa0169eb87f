/* SPDX-License-Identifier: MIT */
#include "jobs/child-gate.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <paths.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "security/capabilities.h"
#include "security/landlock.h"
#include "security/program-rule.h"
#include "security/syscall-filter.h"

/* Where a program without a slash is looked for when the agent has no PATH. */
#define SEARCH_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static int refuse(char ret_reason[CHILD_REASON_MAX], int error, const char *format, ...)
    PRINTF_LIKE(3, 4);

static int refuse(char ret_reason[CHILD_REASON_MAX], int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(ret_reason, CHILD_REASON_MAX, format, arguments);
    va_end(arguments);
    return error;
}

/* --- which file --- */

/* What the kernel says has been opened. */
static int path_of(int fd, char ret_path[PATH_MAX])
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, ret_path, PATH_MAX - 1);
    if (length < 0)
        return -errno;
    ret_path[length] = '\0';
    return ret_path[0] == '/' ? 0 : -ENOENT;
}

/* Opens a path that must not lead over any link. */
static int open_without_links(const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC | O_NOFOLLOW,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* a kernel before 5.6, or a filter */
        fd = open(path, O_PATH | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? -errno : fd;
}

/*
 * Opens what a name leads to, in such a way that it is known which file of this system that is: the
 * name is followed to its end, and the path that the kernel then tells is opened once more. So a
 * link that is exchanged meanwhile changes nothing, and neither does a file of the same path in
 * another mount namespace (/proc/PID/root) or one that was deleted.
 */
static int open_program(const char *name, char ret_path[PATH_MAX])
{
    char again[PATH_MAX];
    struct stat first, second;
    _cleanup_close_ int found_fd = open(name, O_PATH | O_CLOEXEC);
    if (found_fd < 0)
        return -errno;
    int error = path_of(found_fd, ret_path);
    if (error)
        return error;
    _cleanup_close_ int fd = open_without_links(ret_path);
    if (fd < 0)
        return fd;
    error = path_of(fd, again);
    if (error)
        return error;
    if (fstat(found_fd, &first) < 0 || fstat(fd, &second) < 0)
        return -errno;
    if (strcmp(ret_path, again) != 0 || first.st_dev != second.st_dev ||
        first.st_ino != second.st_ino)
        return -ENOENT;
    if (!S_ISREG(second.st_mode))
        return -EACCES;
    return take_fd(&fd);
}

static bool is_program(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && (status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0;
}

/* Never in a PATH that the client has given, and never in the working directory. */
static int search_program(const char *name, const char *search_path, char ret_path[PATH_MAX])
{
    char candidate[PATH_MAX];
    int error = -ENOENT;
    for (const char *at = search_path ? search_path : SEARCH_PATH; *at;) {
        size_t length = strcspn(at, ":");
        if (*at == '/' && (size_t)snprintf(candidate, sizeof(candidate), "%.*s/%s", (int)length, at,
                                           name) < sizeof(candidate)) {
            int fd = open_program(candidate, ret_path);
            if (fd >= 0 && is_program(fd))
                return fd;
            error = fd >= 0 || fd == -EACCES ? -EACCES : error;
            close_fd(fd);
        }
        at += length + (at[length] == ':');
    }
    return error;
}

static int find_program(const struct child_request *request, char ret_path[PATH_MAX])
{
    if (!request->program[0])
        return -ENOENT;
    if (strchr(request->program, '/'))
        return open_program(request->program, ret_path);
    return search_program(request->program, request->search_path, ret_path);
}

/* --- which rule --- */

static size_t count_of(char *const *strings)
{
    size_t count = 0;
    while (strings && strings[count])
        count++;
    return count;
}

static int match(const struct child_gate *gate, const struct child_request *request,
                 const char *path, struct child_permit *permit, char ret_reason[CHILD_REASON_MAX])
{
    char reason[PROGRAM_REFUSAL_MAX];
    const struct program_request wanted = {
        .profile = gate->profile,
        .path = path,
        .arguments = (const char *const *)request->arguments + 1,
        .argument_count = count_of(request->arguments + 1),
        .environment = (const char *const *)request->environment,
        .environment_count = count_of(request->environment),
        .user = request->user,
        .cwd = request->directory,
    };
    int error = program_rules_match(gate->rules, &wanted, &permit->rule, reason);
    if (error)
        return refuse(ret_reason, error, "%s", reason);
    /* Who asks at a gate has rules; without one there is nothing to hold the program to. */
    if (!permit->rule)
        return refuse(ret_reason, -EPERM, "there is no rule for it");
    permit->rule_index = (size_t)(permit->rule - gate->rules->rules);
    return 0;
}

/* --- as what it runs --- */

/* The rule's account, which was looked up at the start and must still be the one it was. */
static int find_rules_user(const struct program_rule *rule, struct child_permit *permit)
{
    struct child_user *user = &permit->user;
    int error = child_user_find(rule->user, user);
    if (error)
        return error;
    if (user->uid != rule->uid || user->gid != rule->gid)
        return -ESTALE;
    if (rule->has_groups) {
        user->groups = rule->groups;
        user->group_count = (int)rule->group_count;
    }
    return 0;
}

static int settle_user(const struct child_request *request, struct child_permit *permit,
                       char ret_reason[CHILD_REASON_MAX])
{
    const struct program_rule *rule = permit->rule;
    const char *name = rule->has_user ? rule->user : rule->user_is_free ? request->user : NULL;
    permit->environment = request->environment ? request->environment : environ;
    if (!name)
        return 0;
    int error =
        rule->has_user ? find_rules_user(rule, permit) : child_user_find(name, &permit->user);
    if (error)
        return refuse(ret_reason, error, "the user '%s' of the rule [program %s]: %s", name,
                      rule->name,
                      error == -ENOENT ? "there is none of that name or number" : strerror(-error));
    permit->has_user = true;
    permit->environment = child_user_environment(&permit->user, request->environment);
    return permit->environment ? 0 : refuse(ret_reason, -ENOMEM, "out of memory");
}

/* Not called by the name that the client has for it: some programs do what they are called. */
static int settle_arguments(const struct child_request *request, struct child_permit *permit,
                            char ret_reason[CHILD_REASON_MAX])
{
    size_t count = count_of(request->arguments);
    char **arguments = calloc(count + 2, sizeof(*arguments));
    if (!arguments)
        return refuse(ret_reason, -ENOMEM, "out of memory");
    arguments[0] = permit->path;
    for (size_t i = 1; i < count; i++)
        arguments[i] = request->arguments[i];
    permit->arguments = arguments;
    return 0;
}

int child_gate_pass(const struct child_gate *gate, const struct child_request *request,
                    struct child_permit *ret_permit, char ret_reason[CHILD_REASON_MAX])
{
    struct child_permit *permit = ret_permit;
    *permit = (struct child_permit){.program_fd = -1};
    int found = find_program(request, permit->path);
    /* What is not there is refused as any other: who may not run it is not told whether it is. */
    int error =
        match(gate, request, found < 0 ? request->program : permit->path, permit, ret_reason);
    if (!error && found < 0)
        error = refuse(ret_reason, found, "%s", strerror(-found));
    if (error) {
        close_fd(found);
        return error;
    }
    permit->program_fd = found;
    const struct program_rule *rule = permit->rule;
    permit->directory = request->directory ? request->directory : rule->cwd ? rule->cwd : "/";
    error = settle_arguments(request, permit, ret_reason);
    return error ? error : settle_user(request, permit, ret_reason);
}

/* --- putting it in force --- */

static int set_limits(const struct program_rule *rule)
{
    for (size_t i = 0; i < rule->limit_count; i++) {
        struct rlimit limit = {
            .rlim_cur = (rlim_t)rule->limits[i].value,
            .rlim_max = (rlim_t)rule->limits[i].value,
        };
        if (setrlimit((__rlimit_resource_t)rule->limits[i].resource, &limit) < 0)
            return -errno;
    }
    return 0;
}

static struct landlock_paths paths_of(const struct text_list *list)
{
    return (struct landlock_paths){(const char *const *)list->items, list->count};
}

/* The program itself may be executed, whatever else. */
static int restrict_files(const struct program_rule *rule, const char *program)
{
    const char **execute = calloc(rule->execute_paths.count + 1, sizeof(*execute));
    const char *failed;
    int fd;
    if (!execute)
        return -ENOMEM;
    for (size_t i = 0; i < rule->execute_paths.count; i++)
        execute[i] = rule->execute_paths.items[i];
    execute[rule->execute_paths.count] = program;
    const struct landlock_scope scope = {
        .read = paths_of(&rule->read_paths),
        .write = paths_of(&rule->write_paths),
        .execute = {execute, rule->execute_paths.count + 1},
    };
    int error = landlock_ruleset_new(&scope, &fd, &failed);
    if (!error) {
        error = landlock_restrict_self(fd);
        close(fd);
    }
    return error;
}

/*
 * The bounding set goes first, while it still may: an exec by user 0, or of a file that has
 * capabilities, gives whatever is in it. One that may gain privileges, and whose rule says nothing
 * of capabilities, may gain any.
 */
static int drop_bounding(const struct program_rule *rule, const struct capability_sets *before)
{
    struct capability_sets sets = *before;
    if (rule->may_gain_privileges && !rule->has_capabilities)
        return 0;
    sets.bounding &= rule->capabilities;
    sets.inheritable &= rule->capabilities;
    sets.ambient = 0;
    int error = capabilities_apply(&sets);
    /* Who has no capability cannot do that, and with no_new_privs need not. */
    bool has_none = before->permitted == 0 && before->inheritable == 0;
    return error == -EPERM && has_none && !rule->may_gain_privileges ? 0 : error;
}

static int become_user(const struct child_permit *permit)
{
    const struct child_user *user = &permit->user;
    if (!permit->has_user)
        return 0;
    if (permit->rule->capabilities == 0)
        return child_user_become(user);
    return capabilities_keep_as_user(user->uid, user->gid, user->groups, (size_t)user->group_count);
}

/* What the program has from its first instruction on: an ambient capability survives the exec of
 * whoever is not user 0. */
static int keep_capabilities(const struct program_rule *rule, const struct capability_sets *before)
{
    /* "all" is all that there is here, which in a container is not every one. */
    uint64_t kept = rule->capabilities == CAPABILITIES_ALL
                        ? before->permitted
                        : rule->capabilities & capabilities_known();
    struct capability_sets sets = {
        .effective = kept,
        .permitted = kept,
        .inheritable = geteuid() != 0 ? kept : 0,
        .ambient = geteuid() != 0 ? kept : 0,
    };
    if (kept & ~before->permitted)
        return -EPERM;
    /* As it is now: it was made smaller before. */
    struct capability_sets now;
    int error = capabilities_read(&now);
    if (error)
        return error;
    sets.bounding = now.bounding;
    return capabilities_apply(&sets);
}

int child_gate_confine(const struct child_gate *gate, const struct child_permit *permit,
                       char ret_reason[CHILD_REASON_MAX])
{
    const struct program_rule *rule = permit->rule;
    const struct syscall_filter *filter = gate->filters[permit->rule_index];
    struct capability_sets before = {0};
    const char *what = "its limits";
    int error = set_limits(rule);
    if (!error) {
        what = "capabilities";
        error = capabilities_read(&before);
    }
    if (!error)
        error = drop_bounding(rule, &before);
    if (!error && !rule->may_gain_privileges) {
        what = "no new privileges";
        error = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
    }
    if (!error && rule->has_scope) {
        what = "Landlock";
        error = restrict_files(rule, permit->path);
    }
    if (!error) {
        what = "its user";
        error = become_user(permit);
    }
    if (!error) {
        what = permit->directory;
        error = chdir(permit->directory) < 0 ? -errno : 0;
    }
    if (!error) {
        what = "capabilities";
        error = keep_capabilities(rule, &before);
    }
    if (!error && rule->system_calls.count > 0) {
        what = "seccomp";
        error = filter ? syscall_filter_load(filter) : -EOPNOTSUPP;
    }
    return error ? refuse(ret_reason, error, "the rule [program %s] cannot be put in force: %s: %s",
                          rule->name, what, strerror(-error))
                 : 0;
}

int child_gate_exec(const struct child_permit *permit)
{
    (void)syscall(SYS_execveat, permit->program_fd, "", permit->arguments, permit->environment,
                  AT_EMPTY_PATH);
    /*
     * A script's interpreter opens it by its name, for which the kernel has only the descriptor
     * that closes: it says ENOENT (execveat(2)). Its path has no links in it, and who can exchange
     * what is there can change the script as well.
     */
    if (errno == ENOENT)
        execve(permit->path, permit->arguments, permit->environment);
    return -errno;
}

/* --- filters --- */

/* A list of what is allowed has to allow the way to the program, too. */
static struct syscall_filter *make_filter(const struct program_rule *rule)
{
    static const char *const own[] = {"execve", "execveat", "write", "exit_group"};
    const struct text_list *calls = &rule->system_calls;
    const char **items = calloc(calls->count + ARRAY_SIZE(own), sizeof(*items));
    struct syscall_filter *filter = NULL;
    const char *unknown;
    if (!items)
        return NULL;
    size_t count = 0;
    for (size_t i = 0; i < calls->count; i++)
        items[count++] = calls->items[i];
    for (size_t i = 0; i < ARRAY_SIZE(own) && calls->items[0][0] != '!'; i++)
        items[count++] = own[i];
    const struct syscall_list list = {items, count};
    if (syscall_filter_new(&list, &filter, &unknown) < 0)
        filter = NULL;
    free(items);
    return filter;
}

struct syscall_filter **child_gate_make_filters(const struct program_rules *rules)
{
    struct syscall_filter **filters = calloc(rules->count + 1, sizeof(struct syscall_filter *));
    for (size_t i = 0; filters && i < rules->count; i++) {
        if (rules->rules[i].system_calls.count > 0)
            filters[i] = make_filter(&rules->rules[i]);
    }
    return filters;
}
