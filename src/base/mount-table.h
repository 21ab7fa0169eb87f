/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_MOUNT_TABLE_H
#define BELLHOP_BASE_MOUNT_TABLE_H

/*
 * What is mounted: /proc/self/mountinfo (proc_pid_mountinfo(5)), or /proc/1/mountinfo below a
 * sysroot prefix, for "self" is then none of the host's processes.
 *
 * A file system can be mounted many times: what identifies it is its superblock, that is the device
 * number the kernel gives it. The table is read once and never changed, so any thread may read it.
 * Building it costs O(n log n) in the number of mounts.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct buffer;

/* One line. The texts are the table's; escapes (\040) are resolved, so they may hold any byte. */
struct mount {
    int id;
    int parent_id;
    unsigned major; /* of the superblock; 0: no block device of its own (tmpfs, NFS, btrfs) */
    unsigned minor;
    const char *root;          /* what of the file system is mounted: "/", or a bind mount's part */
    const char *point;         /* where */
    const char *options;       /* of this mount: "rw,relatime" */
    const char *type;          /* "ext4" */
    const char *source;        /* "/dev/sda1"; whatever mount(2) was told */
    const char *super_options; /* of the superblock: "rw,errors=continue" */
    size_t superblock;         /* index into the table's superblocks */
    /* False if another mount covers the mount point: its path then leads elsewhere. */
    bool is_reachable;
};

/* A mounted file system. */
struct superblock {
    unsigned major;
    unsigned minor;
    /* The mount that stands for it, an index: the oldest that can be reached, else the oldest. */
    size_t mount;
};

struct mount_table {
    struct mount *mounts; /* in the kernel's order: oldest first */
    size_t count;
    struct superblock *superblocks; /* in the order of their oldest mounts */
    size_t superblock_count;
    const struct mount **by_point; /* the `point_count` reachable ones, sorted by mount point */
    size_t point_count;
    char *text; /* what the mounts' texts point into */
};

/* Reads the table. Returns 0 or -errno; lines that cannot be understood are left out. */
int mount_table_load(struct mount_table *ret_table) MUST_CHECK;

/* The same from a text in mountinfo's format, which is taken. Returns 0 or -ENOMEM. */
int mount_table_parse_take(struct mount_table *ret_table, struct buffer *text) MUST_CHECK;

void mount_table_deinit(struct mount_table *table);

/*
 * True if the mount's file system lies on block devices of this machine: network and pseudo file
 * systems do not. (A file system of several devices has device number 0:x, like those.)
 */
bool mount_is_on_disk(const struct mount *mount);

/*
 * The mount that an absolute path without symlinks and ".." leads into, or NULL.
 * O(length of the path * log n).
 */
const struct mount *mount_table_find_path(const struct mount_table *table, const char *path);

#endif
