/* SPDX-License-Identifier: MIT */
#include "handle-numbers.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmds/file-table.h"

/* A number beyond this no longer fits into a double, which some clients read it into. */
enum { DIGITS_MAX = 24 };
static const int64_t number_max = (INT64_C(1) << 53) - HANDLE_NUMBERS_BLOCK;

static int64_t read_number(int directory)
{
    char text[DIGITS_MAX + 1];
    _cleanup_close_ int fd = openat(directory, "next-handle", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t length = fd < 0 ? -1 : read(fd, text, DIGITS_MAX);
    if (length <= 0)
        return FILE_TABLE_FIRST_HANDLE;
    text[length] = '\0';
    int64_t number = strtoll(text, NULL, 10);
    if (number < FILE_TABLE_FIRST_HANDLE || number > number_max)
        return FILE_TABLE_FIRST_HANDLE;
    return number;
}

/* Written beside and renamed: a crash leaves the old number or the new one. */
static int write_number(int directory, int64_t number)
{
    char text[DIGITS_MAX + 1];
    int length = snprintf(text, sizeof(text), "%" PRId64 "\n", number);
    _cleanup_close_ int fd = openat(directory, "next-handle.new",
                                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    ssize_t written = write(fd, text, (size_t)length);
    if (written != length)
        return written < 0 ? -errno : -ENOSPC;
    return renameat(directory, "next-handle.new", directory, "next-handle") < 0 ? -errno : 0;
}

int handle_numbers_take(const char *state_directory, int64_t *ret_first)
{
    *ret_first = FILE_TABLE_FIRST_HANDLE;
    char path[PATH_MAX];
    snprintf(path, sizeof(path), "%s/bellhop", state_directory);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return -errno;
    _cleanup_close_ int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (directory < 0)
        return -errno;
    *ret_first = read_number(directory);
    return write_number(directory, *ret_first + HANDLE_NUMBERS_BLOCK);
}
