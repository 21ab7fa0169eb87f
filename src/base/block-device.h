/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_BLOCK_DEVICE_H
#define BELLHOP_BASE_BLOCK_DEVICE_H

/*
 * A block device as the kernel shows it in /sys (Documentation/ABI: sysfs-block, sysfs-devices), and
 * udev's database (/run/udev/data) where there is one. Plain values; any thread. Nothing here
 * opens a device, so nothing waits for one.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct buffer;

enum { BLOCK_DEVICE_PATH_MAX = 1024, BLOCK_DEVICE_NAME_MAX = 256 };

struct block_device {
    unsigned major;
    unsigned minor;
    const char *name;                 /* "vda1", "cciss!c0d0": the end of `path` */
    char path[BLOCK_DEVICE_PATH_MAX]; /* "/sys/devices/pci0000:00/.../block/vda/vda1" */
};

/* `device.name` points into `device`: copies are made with this. */
void block_device_copy(struct block_device *ret_copy, const struct block_device *device);

/* Each returns 0, -ENODEV if there is no such device, or another -errno. */
int block_device_by_number(struct block_device *ret_device, unsigned major,
                           unsigned minor) MUST_CHECK;
int block_device_by_name(struct block_device *ret_device, const char *name) MUST_CHECK;
/* By its node or a link to that: "/dev/vda1", "/dev/mapper/vg-root". */
int block_device_by_node(struct block_device *ret_device, const char *node) MUST_CHECK;

/* The disk that a partition is part of; -ENODEV if it is none. */
int block_device_disk(struct block_device *ret_disk, const struct block_device *partition)
    MUST_CHECK;
bool block_device_is_partition(const struct block_device *device);

/*
 * True if the device is made of others (dm, md, loop, bcache), or of nothing at all (zram). Such
 * a device has no hardware; a partition of it has none either.
 */
bool block_device_is_virtual(const struct block_device *device);

/* The device's node: "/dev/vda1". Returns 0 or -errno. */
int block_device_node(const struct block_device *device, char *ret_node, size_t size) MUST_CHECK;

/*
 * The serial number that udev found out (ID_SERIAL), else the one that the kernel shows: it is the
 * same for virtio; for NVMe, MMC and SCSI (SATA, USB) it is the bare one, where udev puts the model
 * before it. Returns 0, or -ENOENT if none is known.
 */
int block_device_serial(const struct block_device *device, char *ret_serial, size_t size)
    MUST_CHECK;

/* The device mapper's name: "vg-root". Returns 0, or -ENOENT for other devices. */
int block_device_alias(const struct block_device *device, char *ret_alias, size_t size) MUST_CHECK;

/*
 * The file that a loop device shows, as an absolute path, appended to `out`. Returns 0, -ENOENT
 * for other devices, or -ENOMEM.
 */
int block_device_backing_file(const struct block_device *device, struct buffer *out) MUST_CHECK;

/*
 * Calls `each` with the devices that this one directly consists of: the slaves of dm and md,
 * sorted by name. Stops with what `each` returned if that is not 0. A device that has vanished
 * meanwhile is left out. Returns that, 0, or -ENOMEM.
 */
int block_device_for_each_slave(const struct block_device *device,
                                int (*each)(const struct block_device *slave, void *context),
                                void *context) MUST_CHECK;

#endif
