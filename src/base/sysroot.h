/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_SYSROOT_H
#define BELLHOP_BASE_SYSROOT_H

/*
 * The system's own files (/proc, /sys, /etc, /run), read below a prefix: tests read recorded trees,
 * and an agent in a container can report on its host. Paths are absolute and given as formats;
 * symlinks, absolute ones too, are followed inside the prefix.
 *
 * sysroot_set() belongs to start-up; everything else: any thread. All of it may block: not for
 * the loop. Returns are 0 or a count, or -errno; -ENAMETOOLONG if the formatted path is.
 */

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct buffer;

/* Has everything below `directory` from now on; NULL: the real root again. */
int sysroot_set(const char *directory) MUST_CHECK;

/* The prefix as it was given, or an empty string: for error texts and programs that need a path. */
const char *sysroot_prefix(void);

/*
 * True if what the kernel tells the agent of its network is the network of that root's system. Found
 * out by sysroot_set(): it takes privileges that the agent soon will not have any more.
 */
bool sysroot_has_own_network(void);

/* Opens with O_CLOEXEC added to `flags` (no O_CREAT). Returns the descriptor. */
int sysroot_open(int flags, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/*
 * The same for a path as it stands, which may be a relative one: then it begins in the working
 * directory, or with a prefix, there. `mode` is for O_CREAT, which may be among the flags.
 */
int sysroot_open_path(const char *path, int flags, mode_t mode) MUST_CHECK;

/* Returns NULL with errno set. */
DIR *sysroot_opendir(const char *format, ...) PRINTF_LIKE(1, 2) MUST_CHECK;

/* Appends a whole file, at most `bytes_max` of it (else -EFBIG). */
int sysroot_read(struct buffer *out, size_t bytes_max, const char *format, ...)
    PRINTF_LIKE(3, 4) MUST_CHECK;

/* The file's first line without white space at its ends, cut to fit. Empty files are fine. */
int sysroot_read_line(char *ret_line, size_t size, const char *format, ...)
    PRINTF_LIKE(3, 4) MUST_CHECK;

/* The file's first line as a number, decimal or 0x... hexadecimal; -EINVAL if it is none. */
int sysroot_read_int64(int64_t *ret_number, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;
int sysroot_read_uint64(uint64_t *ret_number, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* Writes a text in one write(), as sysfs wants it. */
int sysroot_write(const char *text, const char *format, ...) PRINTF_LIKE(2, 3) MUST_CHECK;

/* What a symlink says, as it stands; -ENAMETOOLONG if it does not fit. */
int sysroot_readlink(char *ret_target, size_t size, const char *format, ...)
    PRINTF_LIKE(3, 4) MUST_CHECK;

bool sysroot_exists(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
