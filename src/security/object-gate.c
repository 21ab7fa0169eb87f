/* SPDX-License-Identifier: MIT */
#include "security/object-gate.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/sysroot.h"

/* How often it is looked again when the file came or went meanwhile. */
enum { TRIES = 8 };

enum { OPEN_ALWAYS = O_CLOEXEC | O_NOCTTY };

static int refuse(const struct object_question *question, const struct file_rule *rule)
{
    if (question->decided)
        question->decided(question->context, false, rule);
    return -EPERM;
}

/* Text of "/proc/self/fd/N". */
#define FD_PATH_MAX 32

static void fd_path(int fd, char ret_path[FD_PATH_MAX])
{
    snprintf(ret_path, FD_PATH_MAX, "/proc/self/fd/%d", fd);
}

/* Opens what is at an absolute path that has no links in it; a link in it is an error. */
static int open_without_links(const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
        .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
    /* An older kernel (or a filter of system calls that does not know this one) follows links on
     * the way; that it is the same object is asked all the same. */
    if (fd < 0 && (errno == ENOSYS || errno == EPERM))
        fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/*
 * The true path of what the descriptor stands for. Returns 0, or -errno: -ESTALE if it has none by
 * which it could be found from here.
 */
static int object_path(int fd, char ret_path[PATH_MAX])
{
    char link[FD_PATH_MAX];
    fd_path(fd, link);
    ssize_t length = readlink(link, ret_path, PATH_MAX);
    if (length < 0)
        return -errno;
    if (length == PATH_MAX)
        return -ENAMETOOLONG;
    ret_path[length] = '\0';
    if (ret_path[0] != '/')
        return -ESTALE;

    _cleanup_close_ int again = open_without_links(ret_path);
    struct stat here, there;
    if (again < 0 || fstat(fd, &here) < 0 || fstat(again, &there) < 0 ||
        here.st_dev != there.st_dev || here.st_ino != there.st_ino)
        return -ESTALE;
    return 0;
}

static unsigned access_of_flags(int flags)
{
    switch (flags & O_ACCMODE) {
    case O_RDONLY:
        return flags & O_TRUNC ? FILE_READ | FILE_WRITE : FILE_READ;
    case O_WRONLY:
        return FILE_WRITE;
    default:
        return FILE_READ | FILE_WRITE;
    }
}

static unsigned access_of_object(const struct stat *status, int flags)
{
    unsigned access = access_of_flags(flags);
    if (!S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode))
        access |= FILE_SPECIAL;
    if (access & FILE_WRITE && !S_ISDIR(status->st_mode) && status->st_nlink > 1)
        access |= FILE_LINKED;
    return access;
}

static int ask(const struct object_question *question, const char *path, unsigned access,
               const struct file_rule **ret_rule, char ret_reason[FILE_REFUSAL_MAX])
{
    int error =
        file_rules_match(question->rules, question->profile, path, access, ret_rule, ret_reason);
    return error < 0 ? refuse(question, *ret_rule) : 0;
}

static int refuse_nameless(const struct object_question *question, int error,
                           char ret_reason[FILE_REFUSAL_MAX])
{
    if (error != -ESTALE)
        return error;
    snprintf(ret_reason, FILE_REFUSAL_MAX,
             "the [files] rules allow nothing that has no path of its own here");
    return refuse(question, NULL);
}

/* Whether it got another name between the question and the open. */
static int check_links(const struct object_question *question, const struct file_rule *rule, int fd,
                       int flags, char ret_reason[FILE_REFUSAL_MAX])
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!rule || !(access_of_object(&status, flags) & ~rule->access))
        return 0;
    snprintf(ret_reason, FILE_REFUSAL_MAX,
             "the rule [files %.64s] does not allow writing to a file that has more than one link",
             rule->name);
    return refuse(question, rule);
}

/* Opens the object that was found. It is truncated last, when all is known of it. */
static int open_found(const struct object_question *question, int found, int flags,
                      char ret_reason[FILE_REFUSAL_MAX])
{
    char path[PATH_MAX], link[FD_PATH_MAX];
    const struct file_rule *rule = NULL;
    struct stat status;
    if (fstat(found, &status) < 0)
        return -errno;
    int error = object_path(found, path);
    if (error < 0)
        return refuse_nameless(question, error, ret_reason);
    error = ask(question, path, access_of_object(&status, flags), &rule, ret_reason);
    if (error < 0)
        return error;
    if (question->decided)
        question->decided(question->context, true, rule);

    fd_path(found, link);
    _cleanup_close_ int fd = open(link, (flags & ~(O_CREAT | O_TRUNC)) | OPEN_ALWAYS);
    if (fd < 0)
        return -errno;
    error = check_links(question, rule, fd, flags, ret_reason);
    if (error < 0)
        return error;
    if (flags & O_TRUNC && S_ISREG(status.st_mode) && ftruncate(fd, 0) < 0)
        return -errno;
    return take_fd(&fd);
}

/* Splits off the last name. Returns false if there is none that a file could be made under. */
static bool split_path(char *path, const char **ret_folder, const char **ret_name)
{
    char *slash = strrchr(path, '/');
    *ret_name = slash ? slash + 1 : path;
    if (!**ret_name || strcmp(*ret_name, ".") == 0 || strcmp(*ret_name, "..") == 0)
        return false;
    *ret_folder = !slash ? "." : slash == path ? "/" : path;
    if (slash && slash != path)
        *slash = '\0';
    return true;
}

/* Returns -EEXIST if something is there (by now), which may be a dangling link. */
static int create(const struct object_question *question, const char *path, int flags,
                  char ret_reason[FILE_REFUSAL_MAX])
{
    _cleanup_free_ char *copy = strdup(path);
    const char *folder_path, *name;
    if (!copy)
        return -ENOMEM;
    if (!split_path(copy, &folder_path, &name))
        return -EISDIR;
    _cleanup_close_ int folder = sysroot_open_path(folder_path, O_PATH | O_DIRECTORY, 0);
    if (folder < 0)
        return folder;

    char full[PATH_MAX];
    const struct file_rule *rule = NULL;
    int error = object_path(folder, full);
    if (error < 0)
        return refuse_nameless(question, error, ret_reason);
    size_t length = strcmp(full, "/") == 0 ? 0 : strlen(full);
    if (length + 1 + strlen(name) >= sizeof(full))
        return -ENAMETOOLONG;
    full[length] = '/';
    strcpy(full + length + 1, name);
    error = ask(question, full, access_of_flags(flags) | FILE_CREATE, &rule, ret_reason);
    if (error < 0)
        return error;
    if (question->decided)
        question->decided(question->context, true, rule);
    int fd = openat(folder, name, flags | OPEN_ALWAYS | O_EXCL | O_NOFOLLOW, 0666);
    return fd < 0 ? -errno : fd;
}

int object_gate_open(const struct object_question *question, const char *path, int flags,
                     char ret_reason[FILE_REFUSAL_MAX])
{
    assert_on_worker();
    ret_reason[0] = '\0';
    for (unsigned i = 0; i < TRIES; i++) {
        _cleanup_close_ int found = sysroot_open_path(path, O_PATH, 0);
        if (found >= 0)
            return open_found(question, found, flags, ret_reason);
        if (found != -ENOENT || !(flags & O_CREAT))
            return found;
        int fd = create(question, path, flags, ret_reason);
        if (fd != -EEXIST)
            return fd;
    }
    /* There is a name and nothing behind it: a dangling link, which nothing is made through. */
    return -ENOENT;
}
