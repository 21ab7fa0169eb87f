/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_THAW_CREW_H
#define BELLHOP_BASE_THAW_CREW_H

/*
 * Threads that thaw file systems (FITHAW, ioctl_fsfreeze in the kernel's fs/ioctl.c), one for each,
 * so that one that hangs holds up no other. They are started before anything is frozen, and wait:
 * to thaw takes no memory, no new thread and no descriptor.
 *
 * A thaw that comes while a freeze is under way finds nothing to do, and the freeze completes after
 * it. So the crew goes over its file systems again and again, until it is told that every freeze
 * has returned, and then once more.
 *
 * Any thread, but where it says otherwise.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct thaw_crew;

/* What a crew thaws: a file system that is open, or the path of one that is to be opened. */
struct thaw_target {
    int fd;     /* taken; or -1 */
    char *path; /* malloc'ed, taken; for what has no descriptor, and for messages; may be NULL */
};

/*
 * Starts a crew for `count` targets, whose contents are taken on success. Returns 0; -EAGAIN or
 * -ENOMEM if the threads could not be started.
 */
int thaw_crew_new_take(struct thaw_target *targets, size_t count,
                       struct thaw_crew **ret_crew) MUST_CHECK;

/* Has it begin. Again: nothing. Neither allocates nor waits. */
void thaw_crew_begin(struct thaw_crew *crew);

/* No freeze of any of them is under way any more: one more pass ends it. */
void thaw_crew_settle(struct thaw_crew *crew);

bool thaw_crew_has_begun(const struct thaw_crew *crew);

/* Waits until it has ended, at most so long. Returns whether it has. */
bool thaw_crew_wait(struct thaw_crew *crew, unsigned timeout_ms);

/* An eventfd, the crew's own, that is readable once it has ended. */
int thaw_crew_ended_fd(const struct thaw_crew *crew);

/* How many file systems it found frozen, and are not any more. */
size_t thaw_crew_thawed(const struct thaw_crew *crew);

/* The path (may be NULL) of the first that is not done with, NULL and false if there is none. */
bool thaw_crew_find_stuck(struct thaw_crew *crew, const char **ret_path);

/*
 * Once it has ended: tries again, in this thread, what could not be thawed. Returns how many of these
 * were frozen and are not any more. Allocates nothing. May hang.
 */
size_t thaw_crew_retry(struct thaw_crew *crew);

/* The first that could not be thawed: a positive errno and its path; or 0. */
int thaw_crew_error(struct thaw_crew *crew, const char **ret_path);

/*
 * Gives up the caller's hold; threads that hang keep what they need. A crew that never began ends
 * without thawing anything. Returns NULL.
 */
struct thaw_crew *thaw_crew_free(struct thaw_crew *crew);

/*
 * Thaws one file system as often as it was frozen. Returns 1 if it was frozen; 0 if not, or if its
 * kind cannot be frozen; or -errno. May hang.
 */
int thaw_filesystem(int fd);

#endif
