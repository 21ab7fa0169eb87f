/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_STORAGE_H
#define BELLHOP_BASE_STORAGE_H

/*
 * What rests on what: from a file system down through partitions, device mapper, RAID and loop devices,
 * whose files lie on other file systems, to the disks. Borrows the mount table. Once built it is
 * not changed, so any thread may read it.
 */

#include <stddef.h>

#include "base/cleanup.h"

struct block_device;
struct mount;
struct mount_table;

struct storage {
    const struct mount_table *mounts;
    struct storage_member *members; /* the devices of all btrfs, file system by file system */
    size_t member_count;
    struct storage_member **by_name; /* the same, sorted by the device's name */
};

/* Returns 0 or -ENOMEM. What the system does not tell (no /sys) is left out. */
int storage_init(struct storage *ret_storage, const struct mount_table *mounts) MUST_CHECK;
void storage_deinit(struct storage *storage);

/* What a walk comes across; either may be NULL. A walk ends with what they return, if not 0. */
struct storage_visitor {
    /* A disk, or a partition of one: a device with hardware (not block_device_is_virtual()). */
    int (*disk)(const struct block_device *device, void *context);
    /* A mount of another file system, on which the backing file of a loop device lies. */
    int (*mount)(const struct mount *mount, void *context);
    void *context;
};

/*
 * Tells the visitor what the mount's file system rests on, each device and file system once,
 * however many ways lead there. Returns 0, -ENOMEM, or what the visitor returned.
 */
int storage_walk(const struct storage *storage, const struct mount *mount,
                 const struct storage_visitor *visitor) MUST_CHECK;

/*
 * The block device that carries the mount's file system; of several, the one the kernel names.
 * Returns 0, or -ENODEV if there is none.
 */
int storage_device(const struct mount *mount, struct block_device *ret_device) MUST_CHECK;

#endif
