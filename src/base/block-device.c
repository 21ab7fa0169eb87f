/* SPDX-License-Identifier: MIT */
#include "base/block-device.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/buffer.h"
#include "base/sysroot.h"
#include "base/text-list.h"
#include "base/udev-library.h"

enum { UEVENT_MAX = 64 * 1024, UDEV_DATA_MAX = 1024 * 1024 };

static void set_path(struct block_device *device, const char *path)
{
    /* both have the same size */
    memmove(device->path, path, strlen(path) + 1);
    device->name = strrchr(device->path, '/') + 1;
}

void block_device_copy(struct block_device *ret_copy, const struct block_device *device)
{
    ret_copy->major = device->major;
    ret_copy->minor = device->minor;
    set_path(ret_copy, device->path);
}

/* --- finding one --- */

/* "../../devices/virtual/block/dm-0", as it stands in /sys/class/block and /sys/dev/block. */
static int set_path_from_link(struct block_device *device, const char *target)
{
    while (strncmp(target, "../", 3) == 0)
        target += 3;
    int length = snprintf(device->path, sizeof(device->path), "/sys/%s", target);
    if (length < 0 || (size_t)length >= sizeof(device->path))
        return -ENAMETOOLONG;
    device->name = strrchr(device->path, '/') + 1;
    return 0;
}

static int no_device(int error)
{
    return error == -ENOENT || error == -ENOTDIR ? -ENODEV : error;
}

int block_device_by_number(struct block_device *ret_device, unsigned major, unsigned minor)
{
    char target[BLOCK_DEVICE_PATH_MAX];
    int r = sysroot_readlink(target, sizeof(target), "/sys/dev/block/%u:%u", major, minor);
    if (r < 0)
        return no_device(r);
    ret_device->major = major;
    ret_device->minor = minor;
    return set_path_from_link(ret_device, target);
}

static int read_number(struct block_device *device)
{
    char line[64];
    int r = sysroot_read_line(line, sizeof(line), "%s/dev", device->path);
    if (r < 0)
        return no_device(r);
    return sscanf(line, "%u:%u", &device->major, &device->minor) == 2 ? 0 : -ENODEV;
}

int block_device_by_name(struct block_device *ret_device, const char *name)
{
    char target[BLOCK_DEVICE_PATH_MAX];
    int r = sysroot_readlink(target, sizeof(target), "/sys/class/block/%s", name);
    if (r == 0)
        r = set_path_from_link(ret_device, target);
    return r < 0 ? no_device(r) : read_number(ret_device);
}

/* What a link below /dev says, for when there are no nodes: "../dm-0". */
static int by_link(struct block_device *ret_device, const char *node)
{
    char target[PATH_MAX];
    int r = sysroot_readlink(target, sizeof(target), "%s", node);
    if (r < 0)
        return -ENODEV;
    const char *slash = strrchr(target, '/');
    return block_device_by_name(ret_device, slash ? slash + 1 : target);
}

int block_device_by_node(struct block_device *ret_device, const char *node)
{
    struct stat status;
    _cleanup_close_ int fd = sysroot_open(O_PATH, "%s", node);
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISBLK(status.st_mode))
        return block_device_by_number(ret_device, major(status.st_rdev), minor(status.st_rdev));

    /* A recorded tree, or a container without the host's /dev. */
    if (strncmp(node, "/dev/", 5) != 0)
        return -ENODEV;
    if (by_link(ret_device, node) == 0)
        return 0;
    char name[BLOCK_DEVICE_NAME_MAX];
    snprintf(name, sizeof(name), "%s", node + 5);
    for (char *at = name; *at; at++)
        if (*at == '/') /* as the kernel does, for a name cannot hold one */
            *at = '!';
    return block_device_by_name(ret_device, name);
}

int block_device_disk(struct block_device *ret_disk, const struct block_device *partition)
{
    if (!block_device_is_partition(partition))
        return -ENODEV;
    char path[BLOCK_DEVICE_PATH_MAX];
    snprintf(path, sizeof(path), "%.*s", (int)(partition->name - 1 - partition->path),
             partition->path);
    set_path(ret_disk, path);
    return read_number(ret_disk);
}

/* --- what it is --- */

bool block_device_is_partition(const struct block_device *device)
{
    return sysroot_exists("%s/partition", device->path);
}

bool block_device_is_virtual(const struct block_device *device)
{
    /* A multipath NVMe namespace belongs to its subsystem, whose controllers are real. */
    return strncmp(device->path, "/sys/devices/virtual/", 21) == 0 &&
           strncmp(device->path, "/sys/devices/virtual/nvme-", 26) != 0;
}

/* The rest of the line that begins with `key`. Returns 0, or -ENOENT. */
static int find_line(const struct buffer *text, const char *key, char *ret_value, size_t size)
{
    size_t key_length = strlen(key);
    for (const char *line = text->data; line && *line;) {
        const char *end = strchrnul(line, '\n');
        if (strncmp(line, key, key_length) == 0 && end > line + key_length) {
            size_t length = (size_t)(end - line) - key_length;
            if (length >= size)
                return -ENAMETOOLONG;
            memcpy(ret_value, line + key_length, length);
            ret_value[length] = '\0';
            return 0;
        }
        line = *end ? end + 1 : end;
    }
    return -ENOENT;
}

int block_device_node(const struct block_device *device, char *ret_node, size_t size)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    char name[BLOCK_DEVICE_NAME_MAX];
    int r = sysroot_read(&text, UEVENT_MAX, "%s/uevent", device->path);
    if (r == 0)
        r = find_line(&text, "DEVNAME=", name, sizeof(name));
    if (r < 0)
        return r;
    int length = snprintf(ret_node, size, "/dev/%s", name);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

static int udev_serial(const struct block_device *device, char *ret_serial, size_t size)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
#if HAVE_LIBUDEV
    if (!sysroot_prefix()[0]) { /* the library knows no prefix */
        int error =
            udev_library_property(device->major, device->minor, "ID_SERIAL", ret_serial, size);
        if (error != -ENOSYS)
            return error;
    }
#endif
    int r =
        sysroot_read(&text, UDEV_DATA_MAX, "/run/udev/data/b%u:%u", device->major, device->minor);
    return r < 0 ? r : find_line(&text, "E:ID_SERIAL=", ret_serial, size);
}

/* SCSI's page of vital product data 0x80 (SPC): a head of 4 bytes, then the number in ASCII. */
static int scsi_serial(const struct block_device *disk, char *ret_serial, size_t size)
{
    enum { HEAD = 4, PAGE_MAX = HEAD + 0xffff };
    _cleanup_buffer_ struct buffer page = BUFFER_INIT;
    int r = sysroot_read(&page, PAGE_MAX, "%s/device/vpd_pg80", disk->path);
    if (r < 0 || page.length <= HEAD || (unsigned char)page.data[1] != 0x80)
        return -ENOENT;
    const char *start = page.data + HEAD, *end = page.data + page.length;
    while (start < end && (*start == ' ' || *start == '\0'))
        start++;
    while (end > start && (end[-1] == ' ' || end[-1] == '\0'))
        end--;
    size_t length = (size_t)(end - start);
    if (length == 0 || length >= size || memchr(start, '\0', length))
        return -ENOENT;
    memcpy(ret_serial, start, length);
    ret_serial[length] = '\0';
    return 0;
}

int block_device_serial(const struct block_device *device, char *ret_serial, size_t size)
{
    struct block_device disk;
    if (udev_serial(device, ret_serial, size) == 0)
        return 0;
    if (block_device_disk(&disk, device) < 0)
        block_device_copy(&disk, device);
    else if (udev_serial(&disk, ret_serial, size) == 0)
        return 0;
    /* A virtio disk has it itself; of NVMe the controller has it, of MMC the card. */
    static const char *const places[] = {"serial", "device/serial"};
    for (size_t i = 0; i < ARRAY_SIZE(places); i++)
        if (sysroot_read_line(ret_serial, size, "%s/%s", disk.path, places[i]) == 0 &&
            ret_serial[0])
            return 0;
    return scsi_serial(&disk, ret_serial, size);
}

int block_device_alias(const struct block_device *device, char *ret_alias, size_t size)
{
    int r = sysroot_read_line(ret_alias, size, "%s/dm/name", device->path);
    return r == 0 && ret_alias[0] ? 0 : -ENOENT;
}

int block_device_backing_file(const struct block_device *device, struct buffer *out)
{
    enum { FILE_MAX = 64 * 1024 };
    size_t before = out->length;
    int r = sysroot_read(out, FILE_MAX, "%s/loop/backing_file", device->path);
    if (r < 0)
        return r == -ENOMEM ? r : -ENOENT;
    if (out->length > before && out->data[out->length - 1] == '\n')
        buffer_truncate(out, out->length - 1);
    return out->length > before ? 0 : -ENOENT;
}

static int compare_names(const void *left, const void *right)
{
    return strverscmp(*(char *const *)left, *(char *const *)right);
}

/* The directory has them in no order that anybody could rely on. */
static int read_slaves(const struct block_device *device, struct text_list *ret_names)
{
    _cleanup_closedir_ DIR *directory = sysroot_opendir("%s/slaves", device->path);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        if (entry->d_name[0] == '.')
            continue;
        int r = text_list_append(ret_names, entry->d_name, strlen(entry->d_name));
        if (r < 0)
            return r;
    }
    if (ret_names->count > 0)
        qsort(ret_names->items, ret_names->count, sizeof(char *), compare_names);
    return 0;
}

int block_device_for_each_slave(const struct block_device *device,
                                int (*each)(const struct block_device *slave, void *context),
                                void *context)
{
    _cleanup_(text_list_deinit) struct text_list names = {0};
    int r = read_slaves(device, &names);
    for (size_t i = 0; r == 0 && i < names.count; i++) {
        struct block_device slave;
        if (block_device_by_name(&slave, names.items[i]) == 0)
            r = each(&slave, context);
    }
    return r;
}
