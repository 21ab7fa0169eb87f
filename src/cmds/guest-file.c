/* SPDX-License-Identifier: MIT */
#include "cmds/guest-file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/sysroot.h"

/* What stdio reads at once on nearly every file system. */
enum { BLOCK_SIZE = 4096 };

struct guest_file {
    char *path; /* immutable */

    /* owned by the current runner */
    int fd;
    size_t ahead_start; /* bytes [ahead_start, ahead_end) were read from the file, */
    size_t ahead_end;   /* but not yet by the client */
    char ahead[BLOCK_SIZE];

    /* loop only */
    unsigned references;
};

int guest_file_mode_flags(const char *mode)
{
    static const struct {
        char letter;
        int flags, flags_plus;
    } kinds[] = {
        {'r', O_RDONLY, O_RDWR},
        {'w', O_WRONLY | O_CREAT | O_TRUNC, O_RDWR | O_CREAT | O_TRUNC},
        {'a', O_WRONLY | O_CREAT | O_APPEND, O_RDWR | O_CREAT | O_APPEND},
    };
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (mode[0] != kinds[i].letter)
            continue;
        const char *rest = mode + 1;
        if (strcmp(rest, "") == 0 || strcmp(rest, "b") == 0)
            return kinds[i].flags;
        if (strcmp(rest, "+") == 0 || strcmp(rest, "b+") == 0 || strcmp(rest, "+b") == 0)
            return kinds[i].flags_plus;
    }
    return -EINVAL;
}

static int open_below_root(const char *path, int flags, mode_t mode)
{
    int fd = sysroot_open_path(path, flags, mode);
    if (fd < 0)
        errno = -fd;
    return fd < 0 ? -1 : fd;
}

/*
 * Creating exclusively and opening what exists are two steps, because O_CREAT alone follows a
 * dangling link: whoever may place one could have files created where he cannot.
 */
static int open_or_create(const char *path, int flags)
{
    /* Without O_NOCTTY a terminal opened for a client would become the daemon's own. */
    flags |= O_CLOEXEC | O_NOCTTY;
    if (flags & O_CREAT) {
        int fd = open_below_root(path, flags | O_EXCL, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return open_below_root(path, flags & ~O_CREAT, 0);
}

static int open_anything(const struct object_question *question, const char *path, int flags,
                         char ret_reason[FILE_REFUSAL_MAX])
{
    int fd = open_or_create(path, flags);
    return fd < 0 ? -errno : fd;
}

static int open_by(int (*opener)(const struct object_question *question, const char *path,
                                 int flags, char ret_reason[FILE_REFUSAL_MAX]),
                   const struct object_question *question, const char *path, int flags,
                   struct guest_file **ret_file, char ret_reason[FILE_REFUSAL_MAX])
{
    assert_on_worker();
    /* Memory first, so that a lack of it leaves no new or emptied file behind. */
    _cleanup_free_ char *path_copy = strdup(path);
    _cleanup_free_ struct guest_file *file = malloc(sizeof(*file));
    if (!path_copy || !file)
        return -ENOMEM;

    _cleanup_close_ int fd = opener(question, path, flags, ret_reason);
    if (fd < 0)
        return fd;
    int status = fcntl(fd, F_GETFL);
    if (status < 0 || fcntl(fd, F_SETFL, status | O_NONBLOCK) < 0)
        return -errno;

    file->ahead_start = file->ahead_end = 0;
    file->references = 1;
    file->path = take_ptr(&path_copy);
    file->fd = take_fd(&fd);
    *ret_file = take_ptr(&file);
    return 0;
}

int guest_file_open(const char *path, int flags, struct guest_file **ret_file)
{
    return open_by(open_anything, NULL, path, flags, ret_file, NULL);
}

int guest_file_open_gated(const struct object_question *question, const char *path, int flags,
                          struct guest_file **ret_file, char ret_reason[FILE_REFUSAL_MAX])
{
    ret_reason[0] = '\0';
    return open_by(object_gate_open, question, path, flags, ret_file, ret_reason);
}

const char *guest_file_path(const struct guest_file *file)
{
    return file->path;
}

static size_t unread_bytes(const struct guest_file *file)
{
    return file->ahead_end - file->ahead_start;
}

static ssize_t read_some(struct guest_file *file, char *bytes, size_t length)
{
    if (unread_bytes(file) == 0) {
        if (length >= BLOCK_SIZE)
            return read(file->fd, bytes, length);
        file->ahead_start = file->ahead_end = 0;
        ssize_t got = read(file->fd, file->ahead, BLOCK_SIZE);
        if (got <= 0)
            return got;
        file->ahead_end = (size_t)got;
    }
    if (length > unread_bytes(file))
        length = unread_bytes(file);
    memcpy(bytes, file->ahead + file->ahead_start, length);
    file->ahead_start += length;
    return (ssize_t)length;
}

int guest_file_read(struct guest_file *file, void *bytes, size_t length, size_t *ret_length,
                    bool *ret_is_at_end)
{
    assert_on_worker();
    *ret_length = 0;
    *ret_is_at_end = false;
    while (*ret_length < length) {
        ssize_t got = read_some(file, (char *)bytes + *ret_length, length - *ret_length);
        if (got < 0)
            return -errno;
        if (got == 0) {
            *ret_is_at_end = true;
            break;
        }
        *ret_length += (size_t)got;
    }
    return 0;
}

/* Makes the descriptor's position the one that the client sees. */
static int drop_read_ahead(struct guest_file *file)
{
    size_t unread = unread_bytes(file);
    if (unread > 0) {
        if (lseek(file->fd, -(off_t)unread, SEEK_CUR) < 0)
            /* What has no position has nothing to go back in: the bytes wait for the next read. */
            return errno == ESPIPE ? 0 : -errno;
        file->ahead_start = file->ahead_end = 0;
    }
    return 0;
}

int guest_file_write(struct guest_file *file, const void *bytes, size_t length, size_t *ret_length)
{
    assert_on_worker();
    *ret_length = 0;
    int r = drop_read_ahead(file);
    if (r < 0)
        return r;
    while (*ret_length < length) {
        ssize_t written = write(file->fd, (const char *)bytes + *ret_length, length - *ret_length);
        if (written < 0)
            return -errno;
        if (written == 0)
            return -EIO; /* a driver that takes nothing and gives no reason */
        *ret_length += (size_t)written;
    }
    return 0;
}

int guest_file_seek(struct guest_file *file, int64_t offset, int whence, int64_t *ret_position)
{
    assert_on_worker();
    if (whence == SEEK_CUR && __builtin_sub_overflow(offset, (int64_t)unread_bytes(file), &offset))
        return -EINVAL;
    off_t position = lseek(file->fd, offset, whence);
    if (position < 0)
        return -errno;
    file->ahead_start = file->ahead_end = 0;
    *ret_position = position;
    return 0;
}

uint64_t guest_file_remaining_hint(const struct guest_file *file)
{
    assert_on_worker();
    struct stat status;
    if (fstat(file->fd, &status) < 0 || !S_ISREG(status.st_mode))
        return 0;
    off_t position = lseek(file->fd, 0, SEEK_CUR);
    if (position < 0 || position >= status.st_size)
        return unread_bytes(file);
    return (uint64_t)(status.st_size - position) + unread_bytes(file);
}

int guest_file_close(struct guest_file *file)
{
    assert_on_worker();
    if (close(take_fd(&file->fd)) == 0)
        return 0;
    /* Linux has closed it in any case; an interruption only cut a wait short. */
    return errno == EINTR ? 0 : -errno;
}

bool guest_file_is_closed(const struct guest_file *file)
{
    return file->fd < 0;
}

struct guest_file *guest_file_ref(struct guest_file *file)
{
    assert_on_loop();
    file->references++;
    return file;
}

bool guest_file_unref(struct guest_file *file)
{
    assert_on_loop();
    return --file->references == 0;
}

struct guest_file *guest_file_free(struct guest_file *file)
{
    if (file) {
        close_fd(file->fd);
        guest_file_abandon(file);
    }
    return NULL;
}

void guest_file_abandon(struct guest_file *file)
{
    free(file->path);
    free(file);
}
