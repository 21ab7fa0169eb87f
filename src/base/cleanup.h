/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_CLEANUP_H
#define BELLHOP_BASE_CLEANUP_H

/*
 * Locals that clean up after themselves.
 *
 * Declare with one of the attributes below, initialise at once, keep one resource per variable,
 * and hand the resource over with take_ptr() or take_fd() on the function's last lines.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))
#define MUST_CHECK          __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a)   __attribute__((format(printf, f, a)))
#define ARRAY_SIZE(array)   (sizeof(array) / sizeof((array)[0]))

/* Closes the descriptor unless negative; keeps errno; always returns -1: fd = close_fd(fd). */
static inline int close_fd(int fd)
{
    if (fd >= 0) {
        int saved = errno;
        close(fd);
        errno = saved;
    }
    return -1;
}

static inline void cleanup_free(void *pointer)
{
    free(*(void **)pointer);
}

static inline void cleanup_close(int *fd)
{
    close_fd(*fd);
}

static inline void cleanup_fclose(FILE **file)
{
    if (*file)
        fclose(*file);
}

static inline void cleanup_closedir(DIR **directory)
{
    if (*directory)
        closedir(*directory);
}

#define _cleanup_free_     _cleanup_(cleanup_free)
#define _cleanup_close_    _cleanup_(cleanup_close)
#define _cleanup_fclose_   _cleanup_(cleanup_fclose)
#define _cleanup_closedir_ _cleanup_(cleanup_closedir)

/* Moves a pointer out of a variable, leaving NULL: return take_ptr(&local); */
#define take_ptr(variable)                                                                         \
    ({                                                                                             \
        __typeof__(*(variable)) taken_ = *(variable);                                              \
        *(variable) = NULL;                                                                        \
        taken_;                                                                                    \
    })

/* Moves a descriptor out of a variable, leaving -1. */
static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

#endif
