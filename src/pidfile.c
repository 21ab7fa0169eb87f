/* SPDX-License-Identifier: MIT */
#include "pidfile.h"

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

struct pidfile {
    int fd;
    char *path;
};

static int lock_file(int fd)
{
    /* The classic agent locks the whole file by F_SETLK, which this kind of lock conflicts with. */
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EACCES ? -EAGAIN : -errno;
}

static bool is_file_at(int fd, const char *path)
{
    struct stat ours, there;

    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

/* Returns the descriptor of the locked file, or -errno; with -EAGAIN `ret_holder` is what it says.
 */
static int open_locked(const char *path, char ret_holder[32])
{
    for (int tries = 0; tries < 100; tries++) {
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
        if (fd < 0)
            return -errno;
        int error = lock_file(fd);
        if (error < 0) {
            ssize_t length = pread(fd, ret_holder, 31, 0);
            ret_holder[length > 0 ? length : 0] = '\0';
            ret_holder[strspn(ret_holder, "0123456789")] = '\0';
            return error;
        }
        /* Its holder may have removed it between the open and the lock: then another one is at
         * the path, or will be. */
        if (is_file_at(fd, path))
            return take_fd(&fd);
    }
    return -EBUSY;
}

static int write_number(int fd)
{
    char text[32];
    int length = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    if (ftruncate(fd, 0) < 0)
        return -errno;
    ssize_t written = pwrite(fd, text, (size_t)length, 0);
    if (written < 0)
        return -errno;
    return written == length ? 0 : -ENOSPC;
}

static int fail(int error, const char *path, const char *holder, char **ret_reason)
{
    int length;

    if (error == -EAGAIN)
        length = asprintf(ret_reason, "already running%s%s (it holds the pidfile %s)",
                          *holder ? " as process " : "", holder, path);
    else
        length = asprintf(ret_reason, "cannot make the pidfile %s: %s", path, strerror(-error));
    if (length < 0)
        *ret_reason = NULL;
    return error;
}

int pidfile_create(const char *path, struct pidfile **ret_pidfile, char **ret_reason)
{
    char holder[32] = "";
    _cleanup_free_ struct pidfile *pidfile = calloc(1, sizeof(*pidfile));
    _cleanup_free_ char *path_copy = strdup(path);

    *ret_reason = NULL;
    if (!pidfile || !path_copy)
        return -ENOMEM;
    _cleanup_close_ int fd = open_locked(path, holder);
    if (fd < 0)
        return fail(fd, path, holder, ret_reason);
    int error = write_number(fd);
    if (error < 0) {
        unlink(path);
        return fail(error, path, holder, ret_reason);
    }
    pidfile->fd = take_fd(&fd);
    pidfile->path = take_ptr(&path_copy);
    *ret_pidfile = take_ptr(&pidfile);
    return 0;
}

struct pidfile *pidfile_remove(struct pidfile *pidfile)
{
    if (pidfile) {
        /* Before the lock goes: nobody else can have made it theirs until then. */
        bool is_removed = is_file_at(pidfile->fd, pidfile->path) && unlink(pidfile->path) == 0;
        /* Who has become another user may not: the number will be another process's. */
        if (!is_removed)
            (void)!ftruncate(pidfile->fd, 0);
        close_fd(pidfile->fd);
        free(pidfile->path);
        free(pidfile);
    }
    return NULL;
}
