/* SPDX-License-Identifier: MIT */
#include "cmds/authorized-keys.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/text-list.h"

/* A larger file is none that somebody wrote keys into. */
enum { FILE_BYTES_MAX = 4 * 1024 * 1024 };

#define DIRECTORY ".ssh"
#define FILE_NAME "authorized_keys"

static int fail(const char **ret_what, const char *what, int error)
{
    *ret_what = what;
    return error;
}

/* --- the file --- */

/* Returns the directory's descriptor; with `make` it is made if it is not there. */
static int open_directory(int home, bool make, const char **ret_what)
{
    if (make && mkdirat(home, DIRECTORY, 0700) < 0 && errno != EEXIST)
        return fail(ret_what, "making " DIRECTORY, -errno);
    int fd = openat(home, DIRECTORY, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd < 0 ? fail(ret_what, "opening " DIRECTORY, -errno) : fd;
}

/* Appends the whole file. -ENOENT if there is none. */
static int read_file(int directory, struct buffer *text, const char **ret_what)
{
    const char *what = "opening " DIRECTORY "/" FILE_NAME;
    struct stat status;
    /* Not to wait for the other end of a FIFO. */
    _cleanup_close_ int fd =
        openat(directory, FILE_NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        return fail(ret_what, what, -errno);
    if (!S_ISREG(status.st_mode))
        return fail(ret_what, what, -EINVAL);
    for (;;) {
        char *room = buffer_reserve(text, 16 * 1024);
        ssize_t length = room ? read(fd, room, 16 * 1024) : -1;
        if (length < 0)
            return fail(ret_what, "reading " DIRECTORY "/" FILE_NAME, room ? -errno : -ENOMEM);
        if (length == 0)
            return 0;
        buffer_commit(text, (size_t)length);
        if (text->length > FILE_BYTES_MAX)
            return fail(ret_what, "reading " DIRECTORY "/" FILE_NAME, -EFBIG);
    }
}

static int write_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return -errno;
        bytes += written;
        length -= (size_t)written;
    }
    return 0;
}

/* What is on the disk is the old file or the new one, whole, whatever happens. */
static int replace_file(int directory, const struct buffer *text, const char **ret_what)
{
    char name[64];
    snprintf(name, sizeof(name), "." FILE_NAME ".bellhop-%ld", (long)getpid());
    unlinkat(directory, name, 0);
    _cleanup_close_ int fd =
        openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(ret_what, "making a new file in " DIRECTORY, -errno);
    int error = fchmod(fd, 0600) < 0 ? -errno : write_all(fd, text->data, text->length);
    if (!error && fsync(fd) < 0)
        error = -errno;
    if (!error && renameat(directory, name, directory, FILE_NAME) < 0)
        error = -errno;
    if (error) {
        unlinkat(directory, name, 0);
        return fail(ret_what, "writing " DIRECTORY "/" FILE_NAME, error);
    }
    fsync(directory); /* the rename has happened: what is left can only make it safer */
    return 0;
}

/* --- its lines --- */

bool authorized_key_is_valid(const char *key)
{
    return key[0] != '\0' && key[0] != '#' && !strpbrk(key, "\n\r");
}

/* Takes the next line out of `*rest`, without its newline; NULL: there is none. */
static char *next_line(char **rest)
{
    char *line = strsep(rest, "\n");
    return line && (*rest || line[0]) ? line : NULL;
}

static int collect_keys(char *text, struct text_list *keys)
{
    char *rest = text, *line;
    while (rest && (line = next_line(&rest)))
        if (authorized_key_is_valid(line) && text_list_append(keys, line, strlen(line)) < 0)
            return -ENOMEM;
    return 0;
}

int authorized_keys_read(int home, struct text_list *keys, const char **ret_what)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    _cleanup_close_ int directory = open_directory(home, false, ret_what);
    int error = directory < 0 ? directory : read_file(directory, &text, ret_what);
    if (error)
        return error;
    return text.data && collect_keys(text.data, keys) ? fail(ret_what, "memory", -ENOMEM) : 0;
}

static void append_line(struct buffer *out, const char *line)
{
    buffer_append_text(out, line);
    buffer_append_char(out, '\n');
}

int authorized_keys_add(int home, const struct text_list *keys, bool reset, const char **ret_what)
{
    _cleanup_buffer_ struct buffer old = BUFFER_INIT;
    _cleanup_buffer_ struct buffer new = BUFFER_INIT;
    _cleanup_(text_list_deinit) struct text_list known = {0};
    _cleanup_close_ int directory = open_directory(home, true, ret_what);
    int error = directory < 0 ? directory : 0;
    if (!error && !reset)
        error = read_file(directory, &old, ret_what);
    if (error && error != -ENOENT)
        return error;
    if (old.length > 0) {
        buffer_append(&new, old.data, old.length);
        if (old.data[old.length - 1] != '\n')
            buffer_append_char(&new, '\n');
        if (collect_keys(old.data, &known))
            return fail(ret_what, "memory", -ENOMEM);
    }
    for (size_t i = 0; i < keys->count; i++) {
        const char *key = keys->items[i];
        if (text_list_contains(&known, key))
            continue;
        append_line(&new, key);
        if (text_list_append(&known, key, strlen(key)) < 0)
            return fail(ret_what, "memory", -ENOMEM);
    }
    return new.failed ? fail(ret_what, "memory", -ENOMEM) : replace_file(directory, &new, ret_what);
}

int authorized_keys_remove(int home, const struct text_list *keys, const char **ret_what)
{
    _cleanup_buffer_ struct buffer old = BUFFER_INIT;
    _cleanup_buffer_ struct buffer new = BUFFER_INIT;
    _cleanup_close_ int directory = open_directory(home, false, ret_what);
    int error = directory < 0 ? directory : read_file(directory, &old, ret_what);
    if (error)
        return error == -ENOENT ? 0 : error;
    bool any = false;
    char *rest = old.data, *line;
    while (rest && (line = next_line(&rest))) {
        if (text_list_contains(keys, line))
            any = true;
        else
            append_line(&new, line);
    }
    if (new.failed)
        return fail(ret_what, "memory", -ENOMEM);
    return any ? replace_file(directory, &new, ret_what) : 0;
}

/* --- as a program --- */

/* Becomes the account, for good. Nothing to do for an agent that has no privileges itself. */
static int become(const struct passwd *account)
{
    if (geteuid() != 0)
        return account->pw_uid == geteuid() ? 0 : -EPERM;
    if (initgroups(account->pw_name, account->pw_gid) < 0 || setgid(account->pw_gid) < 0 ||
        setuid(account->pw_uid) < 0)
        return -errno;
    return 0;
}

static int read_keys(struct text_list *keys)
{
    _cleanup_free_ char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) > 0) {
        if (line[length - 1] == '\n')
            length--;
        if (text_list_append(keys, line, (size_t)length) < 0)
            return -ENOMEM;
    }
    return ferror(stdin) ? -EIO : 0;
}

static int act(const char *action, int home, struct text_list *keys, const char **ret_what)
{
    if (strcmp(action, "get") == 0) {
        int error = authorized_keys_read(home, keys, ret_what);
        for (size_t i = 0; !error && i < keys->count; i++)
            puts(keys->items[i]);
        return !error && fflush(stdout) == EOF ? fail(ret_what, "answering", -errno) : error;
    }
    int error = read_keys(keys);
    if (error)
        return fail(ret_what, "reading the keys", error);
    if (strcmp(action, "remove") == 0)
        return authorized_keys_remove(home, keys, ret_what);
    return authorized_keys_add(home, keys, strcmp(action, "reset") == 0, ret_what);
}

int authorized_keys_main(int argc, char **argv)
{
    if (argc != 4)
        return EXIT_FAILURE;
    _cleanup_(text_list_deinit) struct text_list keys = {0};
    const char *action = argv[2], *what = "";
    errno = 0;
    const struct passwd *account = getpwnam(argv[3]);
    if (!account) {
        fprintf(stderr, "failed to lookup user '%s': %s\n", argv[3],
                errno ? strerror(errno) : "there is no such user");
        return EXIT_FAILURE;
    }
    umask(077);
    int error = become(account);
    if (error) {
        fprintf(stderr, "failed to become user '%s': %s\n", argv[3], strerror(-error));
        return EXIT_FAILURE;
    }
    _cleanup_close_ int home = open(account->pw_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* A home that is not there has no keys; but none can be put there either. */
    if (home < 0)
        error = errno == ENOENT && strcmp(action, "remove") == 0
                    ? 0
                    : fail(&what, "opening the home directory", -errno);
    else
        error = act(action, home, &keys, &what);
    if (error)
        fprintf(stderr, "failed to %s '%s/" DIRECTORY "/" FILE_NAME "': %s: %s\n",
                strcmp(action, "get") == 0 ? "read" : "change", account->pw_dir, what,
                strerror(-error));
    return error ? EXIT_FAILURE : EXIT_SUCCESS;
}
