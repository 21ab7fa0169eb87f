/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/block-device.h"
#include "base/buffer.h"
#include "base/mount-table.h"
#include "base/storage.h"
#include "file-tree.h"

static char root[32];
static struct mount_table table;
static struct storage storage;

static int remove_tree(void **state)
{
    storage_deinit(&storage);
    mount_table_deinit(&table);
    file_tree_remove(root);
    return 0;
}

static void load(void)
{
    assert_int_equal(mount_table_load(&table), 0);
    assert_int_equal(storage_init(&storage, &table), 0);
}

static int note_disk(const struct block_device *device, void *context)
{
    buffer_append_format(context, "%s ", device->name);
    return strcmp(device->name, "stop") == 0 ? 5 : 0;
}

static int note_mount(const struct mount *mount, void *context)
{
    buffer_append_format(context, "(%s) ", mount->point);
    return 0;
}

/* What is below the mount at `point`: "disk " and "(mount point of a backing file's) ". */
static void expect(const char *point, const char *expected)
{
    struct buffer found = BUFFER_INIT;
    const struct storage_visitor visitor = {
        .disk = note_disk, .mount = note_mount, .context = &found};
    buffer_append_text(&found, "");
    assert_int_equal(storage_walk(&storage, mount_table_find_path(&table, point), &visitor), 0);
    assert_string_equal(found.data, expected);
    buffer_deinit(&found);
}

static void test_recorded(void **state)
{
    struct block_device device;
    file_tree_use_recorded(root, "lvm-on-raid.tree");
    load();
    expect("/mnt/lv", "vda vdb ");
    expect("/mnt/loop", "(/mnt/lv) vda vdb ");
    expect("/mnt/btrfs", "sda sdb ");
    expect("/mnt/sub", "sda sdb ");
    expect("/proc", "");
    expect("/", "");
    assert_int_equal(storage_device(mount_table_find_path(&table, "/mnt/lv"), &device), 0);
    assert_string_equal(device.name, "dm-0");
    assert_int_equal(storage_device(mount_table_find_path(&table, "/mnt/sub"), &device), 0);
    assert_string_equal(device.name, "sda");
    assert_int_equal(storage_device(mount_table_find_path(&table, "/proc"), &device), -ENODEV);
}

/* Lines of a tree: a device with hardware, a virtual one. */
#define REAL(number, name)                                                                  \
    "link /sys/dev/block/" number " ../../devices/pci0000:00/0000:00:01.0/block/" name "\n" \
    "link /sys/class/block/" name " ../../devices/pci0000:00/0000:00:01.0/block/" name "\n" \
    "file /sys/devices/pci0000:00/0000:00:01.0/block/" name "/dev\n|" number "\n"
#define VIRTUAL(number, name)                                               \
    "link /sys/dev/block/" number " ../../devices/virtual/block/" name "\n" \
    "link /sys/class/block/" name " ../../devices/virtual/block/" name "\n" \
    "file /sys/devices/virtual/block/" name "/dev\n|" number "\n"
#define SLAVE(name, slave) "link /sys/devices/virtual/block/" name "/slaves/" slave " ../x\n"
#define LOOP(number, name, path) \
    VIRTUAL(number, name) "file /sys/devices/virtual/block/" name "/loop/backing_file\n|" path "\n"

/* Written by hand: stacks that there is no room for in a recorded machine. */
static void test_stacks(void **state)
{
    file_tree_use(
        root, "file /proc/1/mountinfo\n"
              "|1 0 8:0 / / rw - ext4 /dev/root rw\n"
              "|2 1 252:2 / /top rw - xfs /dev/mapper/top rw\n"
              "|3 1 9:1 / /part rw - ext4 /dev/md0p1 rw\n"
              "|4 1 7:0 / /onto-device rw - ext4 /dev/loop0 rw\n"
              "|5 1 7:1 / /onto-file rw - ext4 /dev/loop1 rw\n"
              "|6 5 7:2 / /onto-file/deep rw - ext4 /dev/loop2 rw\n"
              "|7 1 0:40 / /tmp rw - tmpfs tmpfs rw\n"
              "|8 1 7:3 / /onto-tmp rw - ext4 /dev/loop3 rw\n"
              "|9 1 251:0 / /zram rw - ext4 /dev/zram0 rw\n"
              "|10 1 7:4 / /onto-itself rw - ext4 /dev/loop4 rw\n"
              "|11 1 8:99 / /vanished rw - ext4 /dev/sdx rw\n"
              "|12 1 0:41 / /cachefs rw - bcachefs /dev/sda:/dev/sdb rw\n" REAL("8:0", "sda")
                  REAL("8:16", "sdb") REAL("8:32", "sdc")
        /* top is made of two halves that share a disk, and of itself, which no kernel allows */
        VIRTUAL("252:2", "dm-2") SLAVE("dm-2", "dm-0") SLAVE("dm-2", "dm-1") SLAVE("dm-2", "dm-2")
            VIRTUAL("252:0", "dm-0") SLAVE("dm-0", "sdb") SLAVE("dm-0", "sda")
                VIRTUAL("252:1", "dm-1") SLAVE("dm-1", "sdb") SLAVE("dm-1", "sdc")
        /* a partition of a RAID */
        VIRTUAL("9:0", "md0") SLAVE("md0", "sdb") SLAVE(
            "md0",
            "sdc") "link /sys/dev/block/9:1 ../../devices/virtual/block/md0/md0p1\n"
                   "file /sys/devices/virtual/block/md0/md0p1/partition\n|1\n" LOOP(
                       "7:0", "loop0", "/dev/sdc") LOOP("7:1", "loop1", "/top/images/a b.img")
                       LOOP("7:2", "loop2", "/onto-file/x (deleted)") LOOP("7:3", "loop3", "/tmp/x")
                           LOOP("7:4", "loop4", "/onto-itself/x") VIRTUAL("251:0", "zram0"));
    load();
    expect("/", "sda ");
    expect("/top", "sda sdb sdc ");
    expect("/part", "sdb sdc ");
    expect("/onto-device", "sdc ");
    expect("/onto-file", "(/top) sda sdb sdc ");
    expect("/onto-file/deep", "(/onto-file) (/top) sda sdb sdc ");
    expect("/onto-tmp", "(/tmp) ");
    expect("/zram", "");
    expect("/onto-itself", "");
    expect("/vanished", "");
    expect("/cachefs", "sda ");
}

static void test_encryption_on_multipath(void **state)
{
    struct block_device device;
    char alias[32];
    file_tree_use_recorded(root, "crypt-on-multipath.tree");
    load();
    expect("/mnt/secret", "sda sdb ");
    assert_int_equal(storage_device(mount_table_find_path(&table, "/mnt/secret"), &device), 0);
    assert_string_equal(device.name, "dm-1");
    assert_int_equal(block_device_alias(&device, alias, sizeof(alias)), 0);
    assert_string_equal(alias, "secret");
}

/*
 * Written by hand, after Documentation/admin-guide/bcache.rst and drivers/md/bcache: the device
 * holds its backing device and, once attached, the cache. One that is not attached has the former
 * alone.
 */
static void test_bcache(void **state)
{
    file_tree_use(
        root,
        "file /proc/1/mountinfo\n"
        "|1 0 8:0 / / rw - ext4 /dev/sda rw\n"
        "|2 1 251:0 / /cached rw - xfs /dev/bcache0 rw\n"
        "|3 1 251:129 / /part rw - ext4 /dev/bcache1p1 rw\n" REAL("8:0", "sda") REAL("8:16", "sdb")
            REAL("8:32", "sdc") VIRTUAL("251:0", "bcache0") SLAVE("bcache0", "sdb")
                SLAVE("bcache0", "sdc") VIRTUAL("251:128", "bcache1") SLAVE(
                    "bcache1",
                    "sda") "link /sys/dev/block/251:129 "
                           "../../devices/virtual/block/bcache1/bcache1p1\n"
                           "file /sys/devices/virtual/block/bcache1/bcache1p1/partition\n|1\n");
    load();
    expect("/cached", "sdb sdc ");
    expect("/part", "sda ");
}

static void test_btrfs(void **state)
{
    /* Written by hand: two of them, one with a device that is gone. */
    file_tree_use(root, "file /proc/1/mountinfo\n"
                        "|1 0 0:40 / / rw - btrfs /dev/sdc rw\n"
                        "|2 1 0:41 / /b rw - btrfs /dev/sda rw\n"
                        "|3 1 0:42 / /c rw - btrfs /dev/stop rw\n"
                        "link /sys/fs/btrfs/aaaa/devices/sdb x\n"
                        "link /sys/fs/btrfs/aaaa/devices/sdc x\n"
                        "link /sys/fs/btrfs/aaaa/devices/sdz x\n"
                        "link /sys/fs/btrfs/bbbb/devices/sda x\n"
                        "dir /sys/fs/btrfs/features\n" REAL("8:0", "sda") REAL("8:16", "sdb")
                            REAL("8:32", "sdc") REAL("8:48", "stop"));
    load();
    expect("/", "sdc sdb ");
    expect("/b", "sda ");

    /* A visitor may end the walk, or look at nothing. */
    struct buffer found = BUFFER_INIT;
    const struct mount *mount = mount_table_find_path(&table, "/c");
    struct storage_visitor visitor = {.disk = note_disk, .context = &found};
    assert_int_equal(storage_walk(&storage, mount, &visitor), 5);
    visitor.disk = NULL;
    assert_int_equal(storage_walk(&storage, mount, &visitor), 0);
    buffer_deinit(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_recorded, remove_tree),
        cmocka_unit_test_teardown(test_stacks, remove_tree),
        cmocka_unit_test_teardown(test_encryption_on_multipath, remove_tree),
        cmocka_unit_test_teardown(test_bcache, remove_tree),
        cmocka_unit_test_teardown(test_btrfs, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
