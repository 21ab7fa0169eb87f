/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_DISCARD_H
#define BELLHOP_BASE_DISCARD_H

/*
 * A file system tells its disk what it does not use: FITRIM (ioctl_fitrim; struct fstrim_range of
 * linux/fs.h). One FITRIM of a large file system takes minutes and cannot be interrupted, so it is
 * done in slices where slices come to the same as the whole:
 *
 * - ext4 works group by group: a free range never reaches into another group, so slices end where
 *   groups do. Which groups were trimmed it remembers together with one minimum for all, that of
 *   the last FITRIM: a group is passed over if it was trimmed and the minimum is not less than that.
 *   The first of several slices would thus have the next ones pass over groups that were
 *   trimmed with a larger minimum. What was remembered is therefore put back after every slice
 *   but the last (/sys/fs/ext4/DEVICE/last_trim_minblks, since Linux 5.17; without it: no slices).
 * - XFS before Linux 6.11 discards the whole of a free extent that lies only partly in the range, again
 *   for every slice. No extent leaves its allocation group, so slices end where these do.
 * - btrfs discards all that is not allocated to any block group with every FITRIM, whatever its range,
 *   and its ranges are of logical addresses: no slices. Others: no slices, their rules are not known.
 *
 * All of it blocks: any thread but the loop.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct fstrim_range;
struct mount;

/* Where slices may end. */
struct discard_geometry {
    uint64_t first_bytes; /* the first unit begins here; what is before belongs to its slice */
    uint64_t unit_bytes;  /* 0: no slices */
    uint64_t size_bytes;  /* of the file system; 0: not known */
    int memory_fd;        /* what ext4 remembers; -1: nothing needs to be put back */
};

#define DISCARD_GEOMETRY_WHOLE {.memory_fd = -1}

/* `fd` is of anything on the mount's file system. What cannot be found out means: no slices. */
void discard_geometry_get(struct discard_geometry *ret_geometry, int fd, const struct mount *mount);
void discard_geometry_deinit(struct discard_geometry *geometry);

/* From an ext2, ext3 or ext4 superblock; returns false if it is none (that could be sliced). */
enum { EXT_SUPERBLOCK_BYTES = 1024, EXT_SUPERBLOCK_OFFSET = 1024 };
bool discard_geometry_parse_ext(struct discard_geometry *ret_geometry,
                                const uint8_t superblock[EXT_SUPERBLOCK_BYTES]) MUST_CHECK;

struct discard_progress {
    uint64_t done_bytes; /* of the file system */
    uint64_t size_bytes; /* 0: not known */
    uint64_t trimmed_bytes;
};

struct discard_hooks {
    /* Before each slice; may wait. False: go no further. Then `end`, after it. */
    bool (*begin)(void *context, const struct discard_progress *progress);
    void (*end)(void *context);
    /* FITRIM itself, 0 or -errno; NULL: the kernel's */
    int (*trim)(void *context, int fd, struct fstrim_range *range);
    void *context;
};

struct discard_result {
    uint64_t minimum_bytes; /* that was used: not less than what the disk is able to */
    uint64_t trimmed_bytes; /* also when it failed */
};

/*
 * Trims what is at least `minimum_bytes` long. Returns 0; -ECANCELED: a hook said so; or -errno
 * (-ENOTTY, -EOPNOTSUPP: the file system or its disk cannot).
 */
int discard_run(int fd, const struct discard_geometry *geometry, uint64_t minimum_bytes,
                const struct discard_hooks *hooks, struct discard_result *ret_result) MUST_CHECK;

#endif
