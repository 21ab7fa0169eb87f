/* SPDX-License-Identifier: MIT */
#include "base/sysroot.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buffer.h"

static int root_fd = -1; /* -1: the real root */
static char *root_prefix;
static bool has_own_network = true;

static bool find_network(void)
{
    char own[64] = "", other[64];
    if (root_fd < 0)
        return true;
    /* Such a link says which network the process has: "net:[4026531840]". */
    return readlink("/proc/self/ns/net", own, sizeof(own) - 1) >= 0 &&
           sysroot_readlink(other, sizeof(other), "/proc/1/ns/net") >= 0 && strcmp(own, other) == 0;
}

int sysroot_set(const char *directory)
{
    _cleanup_close_ int fd = -1;
    _cleanup_free_ char *prefix = NULL;
    if (directory) {
        fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        prefix = strdup(directory);
        if (!prefix)
            return -ENOMEM;
    }
    close_fd(root_fd);
    free(root_prefix);
    root_fd = take_fd(&fd);
    root_prefix = take_ptr(&prefix);
    has_own_network = find_network();
    return 0;
}

const char *sysroot_prefix(void)
{
    return root_prefix ? root_prefix : "";
}

bool sysroot_has_own_network(void)
{
    return has_own_network;
}

int sysroot_open_path(const char *path, int flags, mode_t mode)
{
    flags |= O_CLOEXEC;
    int fd;
    if (root_fd < 0) {
        fd = open(path, flags, mode);
    } else {
        struct open_how how = {
            .flags = (uint64_t)flags,
            .mode = flags & O_CREAT ? mode : 0, /* openat2() insists */
            .resolve = RESOLVE_IN_ROOT,
        };
        fd = (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    }
    return fd < 0 ? -errno : fd;
}

static int open_va(int flags, const char *format, va_list arguments) PRINTF_LIKE(2, 0);

static int open_va(int flags, const char *format, va_list arguments)
{
    char path[PATH_MAX];
    int length = vsnprintf(path, sizeof(path), format, arguments);
    if (length < 0 || (size_t)length >= sizeof(path))
        return -ENAMETOOLONG;
    return sysroot_open_path(path, flags, 0);
}

/* Opens what the caller's format names. */
#define OPEN_FORMAT(flags, format)                    \
    ({                                                \
        va_list arguments_;                           \
        va_start(arguments_, format);                 \
        int fd_ = open_va(flags, format, arguments_); \
        va_end(arguments_);                           \
        fd_;                                          \
    })

int sysroot_open(int flags, const char *format, ...)
{
    return OPEN_FORMAT(flags, format);
}

DIR *sysroot_opendir(const char *format, ...)
{
    int fd = OPEN_FORMAT(O_RDONLY | O_DIRECTORY, format);
    if (fd < 0) {
        errno = -fd;
        return NULL;
    }
    DIR *directory = fdopendir(fd);
    if (!directory)
        close_fd(fd);
    return directory;
}

int sysroot_read(struct buffer *out, size_t bytes_max, const char *format, ...)
{
    enum { CHUNK = 16 * 1024 };
    _cleanup_close_ int fd = OPEN_FORMAT(O_RDONLY, format);
    if (fd < 0)
        return fd;
    size_t before = out->length;
    for (;;) {
        char *room = buffer_reserve(out, CHUNK);
        if (!room)
            return -ENOMEM;
        ssize_t length = read(fd, room, CHUNK);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return -errno;
        if (length == 0)
            return 0;
        buffer_commit(out, (size_t)length);
        if (out->length - before > bytes_max)
            return -EFBIG;
    }
}

static int read_line_fd(int fd, char *ret_line, size_t size)
{
    ssize_t length;
    do
        length = read(fd, ret_line, size - 1);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return -errno;
    ret_line[length] = '\0';
    ret_line[strcspn(ret_line, "\n")] = '\0';

    size_t end = strlen(ret_line), start = 0;
    while (end > 0 && isspace((unsigned char)ret_line[end - 1]))
        end--;
    while (start < end && isspace((unsigned char)ret_line[start]))
        start++;
    memmove(ret_line, ret_line + start, end - start);
    ret_line[end - start] = '\0';
    return 0;
}

int sysroot_read_line(char *ret_line, size_t size, const char *format, ...)
{
    _cleanup_close_ int fd = OPEN_FORMAT(O_RDONLY, format);
    return fd < 0 ? fd : read_line_fd(fd, ret_line, size);
}

/* Octal is not among the bases: sysfs pads decimal numbers with zeros here and there. */
static int number_base(const char *text)
{
    if (*text == '-' || *text == '+')
        text++;
    return text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
}

int sysroot_read_int64(int64_t *ret_number, const char *format, ...)
{
    _cleanup_close_ int fd = OPEN_FORMAT(O_RDONLY, format);
    char line[64], *end;
    int error = fd < 0 ? fd : read_line_fd(fd, line, sizeof(line));
    if (error)
        return error;
    errno = 0;
    long long number = strtoll(line, &end, number_base(line));
    if (errno || end == line || *end)
        return -EINVAL;
    *ret_number = number;
    return 0;
}

int sysroot_read_uint64(uint64_t *ret_number, const char *format, ...)
{
    _cleanup_close_ int fd = OPEN_FORMAT(O_RDONLY, format);
    char line[64], *end;
    int error = fd < 0 ? fd : read_line_fd(fd, line, sizeof(line));
    if (error)
        return error;
    errno = 0;
    unsigned long long number = strtoull(line, &end, number_base(line));
    if (errno || end == line || *end || line[0] == '-')
        return -EINVAL;
    *ret_number = number;
    return 0;
}

int sysroot_write(const char *text, const char *format, ...)
{
    _cleanup_close_ int fd = OPEN_FORMAT(O_WRONLY, format);
    if (fd < 0)
        return fd;
    size_t length = strlen(text);
    ssize_t written = write(fd, text, length);
    if (written < 0)
        return -errno;
    return (size_t)written == length ? 0 : -EIO;
}

int sysroot_readlink(char *ret_target, size_t size, const char *format, ...)
{
    _cleanup_close_ int fd = OPEN_FORMAT(O_PATH | O_NOFOLLOW, format);
    if (fd < 0)
        return fd;
    ssize_t length = readlinkat(fd, "", ret_target, size);
    if (length < 0)
        return errno == ENOENT ? -EINVAL : -errno; /* readlinkat's word for "no symlink" here */
    if ((size_t)length == size)
        return -ENAMETOOLONG;
    ret_target[length] = '\0';
    return 0;
}

bool sysroot_exists(const char *format, ...)
{
    _cleanup_close_ int fd = OPEN_FORMAT(O_PATH, format);
    return fd >= 0;
}
