/* SPDX-License-Identifier: MIT */
#include "base/discard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/block-device.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mount-table.h"
#include "base/sysroot.h"

/* Slices begin with so much, and grow or shrink until they take about this long. */
#define FIRST_SLICE_BYTES (UINT64_C(1) << 30)
enum { SHORT_SLICE_MS = 100, LONG_SLICE_MS = 400 };

/* --- ext2, ext3, ext4: Documentation/filesystems/ext4/super.rst --- */

enum {
    EXT_BLOCKS_LOW = 0x4,
    EXT_FIRST_DATA_BLOCK = 0x14,
    EXT_LOG_BLOCK_SIZE = 0x18,
    EXT_BLOCKS_PER_GROUP = 0x20,
    EXT_MAGIC = 0x38,
    EXT_FEATURE_INCOMPAT = 0x60,
    EXT_BLOCKS_HIGH = 0x150,

    EXT_MAGIC_VALUE = 0xef53,
    EXT_INCOMPAT_64BIT = 0x80,
    EXT_LOG_BLOCK_SIZE_MAX = 6,
};

static uint32_t little_endian(const uint8_t *bytes, unsigned count)
{
    uint32_t value = 0;
    while (count > 0)
        value = value << 8 | bytes[--count];
    return value;
}

bool discard_geometry_parse_ext(struct discard_geometry *ret_geometry,
                                const uint8_t superblock[EXT_SUPERBLOCK_BYTES])
{
    uint32_t log_block_size = little_endian(superblock + EXT_LOG_BLOCK_SIZE, 4);
    uint64_t group_blocks = little_endian(superblock + EXT_BLOCKS_PER_GROUP, 4);
    uint64_t blocks = little_endian(superblock + EXT_BLOCKS_LOW, 4);
    if (little_endian(superblock + EXT_MAGIC, 2) != EXT_MAGIC_VALUE ||
        log_block_size > EXT_LOG_BLOCK_SIZE_MAX || group_blocks == 0)
        return false;
    if (little_endian(superblock + EXT_FEATURE_INCOMPAT, 4) & EXT_INCOMPAT_64BIT)
        blocks |= (uint64_t)little_endian(superblock + EXT_BLOCKS_HIGH, 4) << 32;
    uint64_t block_bytes = UINT64_C(1024) << log_block_size;
    if (blocks > UINT64_MAX / block_bytes)
        return false;
    *ret_geometry = (struct discard_geometry){
        .first_bytes = little_endian(superblock + EXT_FIRST_DATA_BLOCK, 4) * block_bytes,
        .unit_bytes = group_blocks * block_bytes,
        .size_bytes = blocks * block_bytes,
        .memory_fd = -1,
    };
    return true;
}

/* The kernel keeps it up to date in the same memory. */
static bool read_superblock(const struct block_device *device, const struct mount *mount,
                            uint8_t ret_superblock[EXT_SUPERBLOCK_BYTES])
{
    char node[BLOCK_DEVICE_NAME_MAX + 8];
    struct stat status;
    if (block_device_node(device, node, sizeof(node)) < 0)
        return false;
    _cleanup_close_ int fd = sysroot_open(O_RDONLY | O_NONBLOCK, "%s", node);
    return fd >= 0 && fstat(fd, &status) == 0 && S_ISBLK(status.st_mode) &&
           status.st_rdev == makedev(mount->major, mount->minor) &&
           pread(fd, ret_superblock, EXT_SUPERBLOCK_BYTES, EXT_SUPERBLOCK_OFFSET) ==
               EXT_SUPERBLOCK_BYTES;
}

static void get_ext(struct discard_geometry *geometry, const struct mount *mount)
{
    struct block_device device;
    uint8_t superblock[EXT_SUPERBLOCK_BYTES];
    struct discard_geometry found;
    if (block_device_by_number(&device, mount->major, mount->minor) < 0 ||
        !read_superblock(&device, mount, superblock) ||
        !discard_geometry_parse_ext(&found, superblock))
        return;
    found.memory_fd = sysroot_open(O_RDWR, "/sys/fs/ext4/%s/last_trim_minblks", device.name);
    if (found.memory_fd >= 0)
        *geometry = found;
    else
        geometry->size_bytes = found.size_bytes;
}

/* --- XFS --- */

/* struct xfs_fsop_geom_v1 of the kernel's interface, which no header of the C library has. */
struct xfs_geometry {
    uint32_t block_bytes;
    uint32_t realtime_extent_blocks;
    uint32_t group_blocks;
    uint32_t groups;
    uint32_t others_32[4];
    uint64_t data_blocks;
    uint64_t others_64[3];
    uint8_t uuid[16];
    uint32_t rest[7];
};

#define XFS_GEOMETRY _IOR('X', 100, struct xfs_geometry)

_Static_assert(sizeof(struct xfs_geometry) == 112, "as the kernel has it");

static void get_xfs(struct discard_geometry *geometry, int fd)
{
    struct xfs_geometry xfs = {0};
    if (ioctl(fd, XFS_GEOMETRY, &xfs) < 0 || xfs.block_bytes == 0)
        return;
    geometry->unit_bytes = (uint64_t)xfs.group_blocks * xfs.block_bytes;
    geometry->size_bytes = xfs.data_blocks * xfs.block_bytes;
}

/* --- any --- */

void discard_geometry_get(struct discard_geometry *ret_geometry, int fd, const struct mount *mount)
{
    *ret_geometry = (struct discard_geometry)DISCARD_GEOMETRY_WHOLE;
    if (strcmp(mount->type, "ext4") == 0 || strcmp(mount->type, "ext3") == 0 ||
        strcmp(mount->type, "ext2") == 0)
        get_ext(ret_geometry, mount);
    else if (strcmp(mount->type, "xfs") == 0)
        get_xfs(ret_geometry, fd);
    struct statvfs usage;
    if (ret_geometry->size_bytes == 0 && fstatvfs(fd, &usage) == 0)
        ret_geometry->size_bytes = (uint64_t)usage.f_blocks * usage.f_frsize;
}

void discard_geometry_deinit(struct discard_geometry *geometry)
{
    geometry->memory_fd = close_fd(geometry->memory_fd);
}

/* --- what ext4 remembers --- */

static int read_memory(int fd, uint64_t *ret_value)
{
    char text[32];
    ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
    if (length <= 0)
        return length < 0 ? -errno : -EIO;
    text[length] = '\0';
    *ret_value = strtoull(text, NULL, 10);
    return 0;
}

/* Back to `before` if it is less now. */
static int restore_memory(int fd, uint64_t before)
{
    uint64_t now = 0;
    int error = read_memory(fd, &now);
    if (error || now >= before)
        return error;
    char text[32];
    int length = snprintf(text, sizeof(text), "%" PRIu64 "\n", before);
    return pwrite(fd, text, (size_t)length, 0) < 0 ? -errno : 0;
}

/* --- slices --- */

static int trim(int fd, const struct discard_hooks *hooks, struct fstrim_range *range)
{
    if (hooks->trim)
        return hooks->trim(hooks->context, fd, range);
    return ioctl(fd, FITRIM, range) < 0 ? -errno : 0;
}

/* Where a slice of about `bytes` from `start` on ends; 0: with the file system. */
static uint64_t slice_end(const struct discard_geometry *geometry, uint64_t start, uint64_t bytes)
{
    uint64_t unit = geometry->unit_bytes;
    if (unit == 0)
        return 0;
    uint64_t units = bytes > unit ? bytes / unit : 1;
    uint64_t passed = start > geometry->first_bytes ? (start - geometry->first_bytes) / unit : 0;
    uint64_t end;
    if (__builtin_mul_overflow(passed + units, unit, &end) ||
        __builtin_add_overflow(end, geometry->first_bytes, &end) || end >= geometry->size_bytes)
        return 0;
    return end;
}

static void adapt(uint64_t *bytes, uint64_t elapsed_ms)
{
    if (elapsed_ms < SHORT_SLICE_MS && *bytes <= UINT64_MAX / 4)
        *bytes *= 2;
    else if (elapsed_ms > LONG_SLICE_MS)
        *bytes /= 2;
}

/* One slice; adds to the result. */
static int run_slice(int fd, const struct discard_hooks *hooks, uint64_t start, uint64_t end,
                     uint64_t minimum_bytes, struct discard_result *result)
{
    struct fstrim_range range = {
        .start = start,
        .len = (end > 0 ? end : UINT64_MAX) - start,
        .minlen = minimum_bytes,
    };
    int error = trim(fd, hooks, &range);
    hooks->end(hooks->context);
    /* It has become smaller meanwhile: there is nothing there. */
    if (error == -EINVAL && start > 0)
        return 0;
    if (error)
        return error;
    result->trimmed_bytes += range.len;
    if (start == 0)
        result->minimum_bytes = range.minlen;
    return 0;
}

int discard_run(int fd, const struct discard_geometry *geometry, uint64_t minimum_bytes,
                const struct discard_hooks *hooks, struct discard_result *ret_result)
{
    uint64_t start = 0, bytes = FIRST_SLICE_BYTES, remembered = 0;
    *ret_result = (struct discard_result){0};
    if (geometry->memory_fd >= 0) {
        int error = read_memory(geometry->memory_fd, &remembered);
        if (error)
            return error;
    }
    for (;;) {
        struct discard_progress progress = {.done_bytes = start,
                                            .size_bytes = geometry->size_bytes,
                                            .trimmed_bytes = ret_result->trimmed_bytes};
        if (!hooks->begin(hooks->context, &progress))
            return -ECANCELED;
        uint64_t end = slice_end(geometry, start, bytes);
        uint64_t begun_ms = clock_now_ms();
        int error = run_slice(fd, hooks, start, end, minimum_bytes, ret_result);
        if (error || end == 0)
            return error;
        adapt(&bytes, clock_now_ms() - begun_ms);
        if (geometry->memory_fd >= 0) {
            error = restore_memory(geometry->memory_fd, remembered);
            if (error)
                return error;
        }
        start = end;
    }
}
