/* SPDX-License-Identifier: MIT */
#include "base/storage.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/block-device.h"
#include "base/buffer.h"
#include "base/mount-table.h"
#include "base/sysroot.h"

/* One device of a btrfs. Other file systems of several devices do not tell which they are. */
struct storage_member {
    char *device;      /* "vda1" */
    size_t filesystem; /* a number of our own */
};

/* Makes room for one more element of an array that grows. */
static int make_room(void *array, size_t count, size_t *capacity, size_t element_size)
{
    void **pointer = array;
    if (count < *capacity)
        return 0;
    size_t more = *capacity ? *capacity * 2 : 16;
    void *grown = reallocarray(*pointer, more, element_size);
    if (!grown)
        return -ENOMEM;
    *pointer = grown;
    *capacity = more;
    return 0;
}

/* --- btrfs: /sys/fs/btrfs/UUID/devices/NAME --- */

static int add_member(struct storage *storage, size_t *capacity, const char *device,
                      size_t filesystem)
{
    int r =
        make_room(&storage->members, storage->member_count, capacity, sizeof(*storage->members));
    if (r < 0)
        return r;
    char *name = strdup(device);
    if (!name)
        return -ENOMEM;
    storage->members[storage->member_count++] =
        (struct storage_member){.device = name, .filesystem = filesystem};
    return 0;
}

static int compare_members(const void *left, const void *right)
{
    const struct storage_member *a = left, *b = right;
    if (a->filesystem != b->filesystem)
        return a->filesystem < b->filesystem ? -1 : 1;
    return strverscmp(a->device, b->device);
}

static int compare_names(const void *left, const void *right)
{
    const struct storage_member *const *a = left, *const *b = right;
    return strcmp((*a)->device, (*b)->device);
}

static int read_members(struct storage *storage)
{
    size_t capacity = 0, filesystem = 0;
    _cleanup_closedir_ DIR *all = sysroot_opendir("/sys/fs/btrfs");
    const struct dirent *one, *device;
    for (; all && (one = readdir(all)); filesystem++) {
        if (one->d_name[0] == '.')
            continue;
        _cleanup_closedir_ DIR *devices = sysroot_opendir("/sys/fs/btrfs/%s/devices", one->d_name);
        while (devices && (device = readdir(devices))) {
            if (device->d_name[0] == '.')
                continue;
            int r = add_member(storage, &capacity, device->d_name, filesystem);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int sort_members(struct storage *storage)
{
    storage->by_name = calloc(storage->member_count + 1, sizeof(struct storage_member *));
    if (!storage->by_name)
        return -ENOMEM;
    if (storage->member_count > 0)
        qsort(storage->members, storage->member_count, sizeof(*storage->members), compare_members);
    for (size_t i = 0; i < storage->member_count; i++)
        storage->by_name[i] = &storage->members[i];
    qsort(storage->by_name, storage->member_count, sizeof(struct storage_member *), compare_names);
    return 0;
}

int storage_init(struct storage *ret_storage, const struct mount_table *mounts)
{
    *ret_storage = (struct storage){.mounts = mounts};
    int r = read_members(ret_storage);
    if (r == 0)
        r = sort_members(ret_storage);
    if (r < 0)
        storage_deinit(ret_storage);
    return r;
}

void storage_deinit(struct storage *storage)
{
    for (size_t i = 0; i < storage->member_count; i++)
        free(storage->members[i].device);
    free(storage->members);
    free(storage->by_name);
    *storage = (struct storage){0};
}

/* --- the walk --- */

struct number {
    unsigned major, minor;
};

/* What was found so far; what comes after `next` is still to be looked at. */
struct walk {
    const struct storage *storage;
    const struct storage_visitor *visitor;
    struct number *devices;
    size_t device_count, device_capacity, next;
    size_t *superblocks;
    size_t superblock_count, superblock_capacity;
};

static int add_device(const struct block_device *device, void *context)
{
    struct walk *walk = context;
    for (size_t i = 0; i < walk->device_count; i++)
        if (walk->devices[i].major == device->major && walk->devices[i].minor == device->minor)
            return 0;
    int r = make_room(&walk->devices, walk->device_count, &walk->device_capacity,
                      sizeof(*walk->devices));
    if (r == 0)
        walk->devices[walk->device_count++] =
            (struct number){.major = device->major, .minor = device->minor};
    return r;
}

/* The other devices of the btrfs that this one belongs to. */
static int add_siblings(struct walk *walk, const struct block_device *device)
{
    const struct storage *storage = walk->storage;
    char name[BLOCK_DEVICE_NAME_MAX];
    snprintf(name, sizeof(name), "%s", device->name);
    struct storage_member key = {.device = name}, *pointer = &key;
    struct storage_member **found = bsearch(&pointer, storage->by_name, storage->member_count,
                                            sizeof(*storage->by_name), compare_names);
    if (!found)
        return 0;
    struct storage_member *at = *found, *end = storage->members + storage->member_count;
    size_t filesystem = at->filesystem;
    while (at > storage->members && at[-1].filesystem == filesystem)
        at--;
    for (; at < end && at->filesystem == filesystem; at++) {
        struct block_device sibling;
        if (block_device_by_name(&sibling, at->device) < 0)
            continue;
        int r = add_device(&sibling, walk);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What a file system lies on directly. */
static int add_devices_of(struct walk *walk, const struct mount *mount)
{
    struct block_device device;
    if (storage_device(mount, &device) < 0)
        return 0;
    int r = add_device(&device, walk);
    return r == 0 && strcmp(mount->type, "btrfs") == 0 ? add_siblings(walk, &device) : r;
}

/* True if the file system was not known yet; -ENOMEM. */
static int note_superblock(struct walk *walk, size_t superblock)
{
    for (size_t i = 0; i < walk->superblock_count; i++)
        if (walk->superblocks[i] == superblock)
            return 0;
    int r = make_room(&walk->superblocks, walk->superblock_count, &walk->superblock_capacity,
                      sizeof(*walk->superblocks));
    if (r < 0)
        return r;
    walk->superblocks[walk->superblock_count++] = superblock;
    return 1;
}

/* A loop device lies on a file, or on another block device. */
static int add_backing(struct walk *walk, const char *path)
{
    struct block_device device;
    if (strncmp(path, "/dev/", 5) == 0 && block_device_by_node(&device, path) == 0)
        return add_device(&device, walk);
    const struct mount *mount = mount_table_find_path(walk->storage->mounts, path);
    int r = mount ? note_superblock(walk, mount->superblock) : 0;
    if (r <= 0)
        return r;
    r = walk->visitor->mount ? walk->visitor->mount(mount, walk->visitor->context) : 0;
    return r == 0 ? add_devices_of(walk, mount) : r;
}

static int look_below(struct walk *walk, const struct block_device *device)
{
    struct block_device disk;
    if (!block_device_is_virtual(device))
        return walk->visitor->disk ? walk->visitor->disk(device, walk->visitor->context) : 0;
    if (block_device_disk(&disk, device) == 0)
        return add_device(&disk, walk);

    _cleanup_buffer_ struct buffer file = BUFFER_INIT;
    int r = block_device_backing_file(device, &file);
    if (r == 0)
        return add_backing(walk, file.data);
    return r == -ENOMEM ? r : block_device_for_each_slave(device, add_device, walk);
}

int storage_walk(const struct storage *storage, const struct mount *mount,
                 const struct storage_visitor *visitor)
{
    struct walk walk = {.storage = storage, .visitor = visitor};
    int r = note_superblock(&walk, mount->superblock);
    if (r >= 0)
        r = add_devices_of(&walk, mount);
    while (r == 0 && walk.next < walk.device_count) {
        struct number number = walk.devices[walk.next++];
        struct block_device device;
        if (block_device_by_number(&device, number.major, number.minor) == 0)
            r = look_below(&walk, &device);
    }
    free(walk.devices);
    free(walk.superblocks);
    return r;
}

int storage_device(const struct mount *mount, struct block_device *ret_device)
{
    if (mount->major != 0)
        return block_device_by_number(ret_device, mount->major, mount->minor);
    if (!mount_is_on_disk(mount))
        return -ENODEV;
    /* bcachefs names all of its devices: /dev/sda:/dev/sdb */
    char node[PATH_MAX];
    const char *next = strstr(mount->source, ":/");
    size_t length = next ? (size_t)(next - mount->source) : strlen(mount->source);
    if (length >= sizeof(node))
        return -ENODEV;
    memcpy(node, mount->source, length);
    node[length] = '\0';
    return block_device_by_node(ret_device, node);
}
