/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/block-device.h"
#include "base/buffer.h"
#include "file-tree.h"

static char root[32];

/* Written by hand, after recorded ones. */
static const char tree[] =
    "link /sys/dev/block/8:0 ../../devices/pci0000:00/0000:00:04.0/host0/block/sda\n"
    "link /sys/dev/block/8:1 ../../devices/pci0000:00/0000:00:04.0/host0/block/sda/sda1\n"
    "link /sys/class/block/sda ../../devices/pci0000:00/0000:00:04.0/host0/block/sda\n"
    "link /sys/class/block/sda1 ../../devices/pci0000:00/0000:00:04.0/host0/block/sda/sda1\n"
    "link /sys/class/block/cciss!c0d0 ../../devices/pci0000:00/0000:00:05.0/block/cciss!c0d0\n"
    "link /sys/class/block/nvme0c0n1 ../../devices/pci0000:00/0000:00:06.0/nvme0c0n1\n"
    "link /sys/class/block/dm-2 ../../devices/virtual/block/dm-2\n"
    "link /sys/class/block/loop0 ../../devices/virtual/block/loop0\n"
    "file /sys/devices/pci0000:00/0000:00:04.0/host0/block/sda/dev\n|8:0\n"
    "file /sys/devices/pci0000:00/0000:00:04.0/host0/block/sda/uevent\n"
    "|MAJOR=8\n|XDEVNAME=no\n|DEVNAME=sda\n|DEVTYPE=disk\n"
    "file /sys/devices/pci0000:00/0000:00:04.0/host0/block/sda/sda1/dev\n|8:1\n"
    "file /sys/devices/pci0000:00/0000:00:04.0/host0/block/sda/sda1/partition\n|1\n"
    "file /sys/devices/pci0000:00/0000:00:05.0/block/cciss!c0d0/dev\n|104:0\n"
    "file /sys/devices/pci0000:00/0000:00:05.0/block/cciss!c0d0/uevent\n|DEVNAME=cciss/c0d0\n"
    "file /sys/devices/pci0000:00/0000:00:05.0/block/cciss!c0d0/serial\n| S123 \n"
    "dir /sys/devices/pci0000:00/0000:00:06.0/nvme0c0n1\n"
    "link /sys/class/block/nvme7n1 ../../devices/pci0000:00/0000:00:06.0/nvme/nvme7/nvme7n1\n"
    "link /sys/devices/pci0000:00/0000:00:06.0/nvme/nvme7/nvme7n1/device ../../nvme7\n"
    "file /sys/devices/pci0000:00/0000:00:06.0/nvme/nvme7/nvme7n1/dev\n|259:0\n"
    "file /sys/devices/pci0000:00/0000:00:06.0/nvme/nvme7/serial\n|NVMEA               \n"
    "link /sys/class/block/sdq ../../devices/pci0000:00/0000:00:04.0/host0/0:0:0:0/block/sdq\n"
    "link /sys/devices/pci0000:00/0000:00:04.0/host0/0:0:0:0/block/sdq/device ../../../0:0:0:0\n"
    "file /sys/devices/pci0000:00/0000:00:04.0/host0/0:0:0:0/block/sdq/dev\n|8:16\n"
    "file /sys/devices/pci0000:00/0000:00:04.0/host0/0:0:0:0/vpd_pg80\n"
    "file /sys/devices/virtual/block/dm-2/dev\n|252:2\n"
    "file /sys/devices/virtual/block/dm-2/dm/name\n|vg-data\n"
    "link /sys/devices/virtual/block/dm-2/slaves/sda1 ../x\n"
    "link /sys/devices/virtual/block/dm-2/slaves/gone ../x\n"
    "link /sys/devices/virtual/block/dm-2/slaves/loop0 ../x\n"
    "link /sys/devices/virtual/block/dm-2/slaves/cciss!c0d0 ../x\n"
    "file /sys/devices/virtual/block/loop0/dev\n|7:0\n"
    "file /sys/devices/virtual/block/loop0/loop/backing_file\n|/mnt/a b \n"
    "link /dev/mapper/vg-data ../dm-2\n"
    "file /run/udev/data/b8:0\n|S:disk/by-id/x\n|E:ID_SERIAL_SHORT=short\n|E:ID_SERIAL=a b\n";

static int use_tree(void **state)
{
    file_tree_use(root, tree);
    return 0;
}

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

static void test_finding(void **state)
{
    struct block_device device;
    assert_int_equal(block_device_by_number(&device, 8, 1), 0);
    assert_string_equal(device.name, "sda1");
    assert_string_equal(device.path, "/sys/devices/pci0000:00/0000:00:04.0/host0/block/sda/sda1");
    assert_int_equal(block_device_by_number(&device, 8, 2), -ENODEV);

    assert_int_equal(block_device_by_name(&device, "dm-2"), 0);
    assert_int_equal(device.major, 252);
    assert_int_equal(device.minor, 2);
    assert_int_equal(block_device_by_name(&device, "sdb"), -ENODEV);
    assert_int_equal(block_device_by_name(&device, "nvme0c0n1"), -ENODEV); /* has no node */

    assert_int_equal(block_device_by_node(&device, "/dev/sda1"), 0);
    assert_string_equal(device.name, "sda1");
    assert_int_equal(block_device_by_node(&device, "/dev/mapper/vg-data"), 0);
    assert_string_equal(device.name, "dm-2");
    assert_int_equal(block_device_by_node(&device, "/dev/cciss/c0d0"), 0);
    assert_string_equal(device.name, "cciss!c0d0");
    assert_int_equal(block_device_by_node(&device, "/dev/none"), -ENODEV);
    assert_int_equal(block_device_by_node(&device, "server:/x"), -ENODEV);
    assert_int_equal(block_device_by_node(&device, "sda"), -ENODEV);
    assert_int_equal(block_device_by_node(&device, ""), -ENODEV);
}

static void test_partitions(void **state)
{
    struct block_device disk, sda, sda1, copy;
    assert_int_equal(block_device_by_name(&sda, "sda"), 0);
    assert_int_equal(block_device_by_name(&sda1, "sda1"), 0);
    assert_false(block_device_is_partition(&sda));
    assert_true(block_device_is_partition(&sda1));
    assert_int_equal(block_device_disk(&disk, &sda), -ENODEV);
    assert_int_equal(block_device_disk(&disk, &sda1), 0);
    assert_string_equal(disk.name, "sda");
    assert_int_equal(disk.major, 8);
    assert_int_equal(disk.minor, 0);
    block_device_copy(&copy, &disk);
    assert_string_equal(copy.name, "sda");
    assert_true(copy.name > copy.path && copy.name < copy.path + sizeof(copy.path));
}

static void test_members(void **state)
{
    char text[64];
    struct block_device device;
    assert_int_equal(block_device_by_name(&device, "sda"), 0);
    assert_false(block_device_is_virtual(&device));
    assert_int_equal(block_device_node(&device, text, sizeof(text)), 0);
    assert_string_equal(text, "/dev/sda");
    assert_int_equal(block_device_node(&device, text, 8), -ENAMETOOLONG);
    assert_int_equal(block_device_serial(&device, text, sizeof(text)), 0);
    assert_string_equal(text, "a b");
    assert_int_equal(block_device_alias(&device, text, sizeof(text)), -ENOENT);

    assert_int_equal(block_device_by_name(&device, "sda1"), 0); /* has its disk's */
    assert_int_equal(block_device_serial(&device, text, sizeof(text)), 0);
    assert_string_equal(text, "a b");
    assert_int_equal(block_device_node(&device, text, sizeof(text)), -ENOENT);

    assert_int_equal(block_device_by_name(&device, "cciss!c0d0"), 0);
    assert_int_equal(block_device_serial(&device, text, sizeof(text)), 0);
    assert_string_equal(text, "S123");

    assert_int_equal(block_device_by_name(&device, "dm-2"), 0);
    assert_true(block_device_is_virtual(&device));
    assert_int_equal(block_device_alias(&device, text, sizeof(text)), 0);
    assert_string_equal(text, "vg-data");
    assert_int_equal(block_device_serial(&device, text, sizeof(text)), -ENOENT);
}

static void test_backing_file(void **state)
{
    struct buffer file = BUFFER_INIT;
    struct block_device device;
    assert_int_equal(block_device_by_name(&device, "sda"), 0);
    assert_int_equal(block_device_backing_file(&device, &file), -ENOENT);
    assert_int_equal(block_device_by_name(&device, "loop0"), 0);
    assert_int_equal(block_device_backing_file(&device, &file), 0);
    assert_string_equal(file.data, "/mnt/a b "); /* a name may well end so */
    buffer_deinit(&file);
}

static int note(const struct block_device *slave, void *context)
{
    buffer_append_format(context, "%s ", slave->name);
    return strcmp(slave->name, "loop0") == 0 ? 7 : 0;
}

static void test_slaves(void **state)
{
    struct buffer names = BUFFER_INIT;
    struct block_device device;
    assert_int_equal(block_device_by_name(&device, "dm-2"), 0);
    assert_int_equal(block_device_for_each_slave(&device, note, &names), 7);
    assert_string_equal(names.data, "cciss!c0d0 loop0 ");
    assert_int_equal(block_device_by_name(&device, "sda"), 0);
    assert_int_equal(block_device_for_each_slave(&device, note, &names), 0);
    buffer_deinit(&names);
}

/* Written as bytes, which the trees' lines cannot: they end with a newline. */
static void write_page(const char *bytes, size_t length)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/sys/devices/pci0000:00/0000:00:04.0/host0/0:0:0:0/vpd_pg80",
             root);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static void test_serials_without_udev(void **state)
{
    struct block_device device;
    char serial[16];
    assert_int_equal(block_device_by_name(&device, "nvme7n1"), 0);
    assert_int_equal(block_device_serial(&device, serial, sizeof(serial)), 0);
    assert_string_equal(serial, "NVMEA");

    assert_int_equal(block_device_by_name(&device, "sdq"), 0);
    write_page("\0\x80\0\x08   QM 01", 12);
    assert_int_equal(block_device_serial(&device, serial, sizeof(serial)), 0);
    assert_string_equal(serial, "QM 01");
    write_page("\0\x80\0\x14 12345678901234567890", 25);
    assert_int_equal(block_device_serial(&device, serial, sizeof(serial)), -ENOENT);
    write_page("\0\x83\0\x02QM", 6);
    assert_int_equal(block_device_serial(&device, serial, sizeof(serial)), -ENOENT);
    write_page("\0\x80\0\x04  \0\0", 8);
    assert_int_equal(block_device_serial(&device, serial, sizeof(serial)), -ENOENT);
    write_page("\0\x80", 2);
    assert_int_equal(block_device_serial(&device, serial, sizeof(serial)), -ENOENT);
}

/* Whether libudev is asked or its files are read is no difference: "/" is a prefix. */
static void test_this_machine_s_serials(void **state)
{
    _cleanup_closedir_ DIR *directory = opendir("/sys/class/block");
    const struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        struct block_device device;
        char serials[2][512] = {"", ""};
        int errors[2] = {0, 0};
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(sysroot_set(i == 0 ? NULL : "/"), 0);
            errors[i] = block_device_by_name(&device, entry->d_name);
            if (errors[i] == 0)
                errors[i] = block_device_serial(&device, serials[i], sizeof(serials[i]));
        }
        if (errors[0] == -ENODEV || errors[1] == -ENODEV) /* "..", or it has just gone */
            continue;
        assert_int_equal(errors[0], errors[1]);
        if (errors[0] == 0)
            assert_string_equal(serials[0], serials[1]);
    }
    assert_int_equal(sysroot_set(root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finding),
        cmocka_unit_test(test_partitions),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_backing_file),
        cmocka_unit_test(test_slaves),
        cmocka_unit_test(test_serials_without_udev),
        cmocka_unit_test(test_this_machine_s_serials),
    };
    return cmocka_run_group_tests(tests, use_tree, remove_tree);
}
