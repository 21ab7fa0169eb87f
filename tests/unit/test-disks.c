/* SPDX-License-Identifier: MIT */

/*
 * The replies on machines whose files were recorded (tests/unit/trees), and on some that were
 * written by hand from the kernel's documentation, because there is none here to record.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "fake-call.h"
#include "file-tree.h"

extern const struct command_family disks_commands;

static char root[32];

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

/* The parts of a reply. A PCI address is given as the text of its members. */
#define PCI(bus, slot, function) \
    "{\"bus\": " #bus ", \"slot\": " #slot ", \"domain\": 0, \"function\": " #function "}"
#define NO_PCI         "{\"bus\": -1, \"slot\": -1, \"domain\": -1, \"function\": -1}"
#define SERIAL(serial) "\"serial\": \"" serial "\", "
#define ADDRESS(serial, type, bus, target, unit, pci, dev)                       \
    "{" serial "\"bus-type\": \"" type "\", \"bus\": " #bus ", \"unit\": " #unit \
    ", \"pci-controller\": " pci ", \"dev\": \"" dev "\", \"target\": " #target "}"
#define FILESYSTEM(name, point, type, disks)                                    \
    "{\"name\": \"" name "\", \"mountpoint\": \"" point "\", \"disk\": [" disks \
    "], \"type\": \"" type "\"}"
#define DISK(name, dependencies, rest) \
    "{\"name\": \"" name "\", \"dependencies\": [" dependencies "], \"partition\": " rest "}"

#define RAID_A ADDRESS(SERIAL("RAIDA"), "virtio", 0, 0, 0, PCI(0, 5, 0), "/dev/vda")
#define RAID_B ADDRESS(SERIAL("RAIDB"), "virtio", 0, 0, 0, PCI(0, 6, 0), "/dev/vdb")
#define BTRFS_A \
    ADDRESS(SERIAL("0QEMU_QEMU_HARDDISK_BTRFSA"), "scsi", 0, 1, 2, PCI(0, 4, 0), "/dev/sda")
#define BTRFS_B \
    ADDRESS(SERIAL("0QEMU_QEMU_HARDDISK_BTRFSB"), "scsi", 0, 3, 0, PCI(0, 4, 0), "/dev/sdb")

static void test_lvm_on_raid(void **state)
{
    file_tree_use_recorded(root, "lvm-on-raid.tree");
    fake_expect(
        &disks_commands, "guest-get-fsinfo", NULL,
        "[" FILESYSTEM("sda", "/mnt/btrfs", "btrfs", BTRFS_A ", " BTRFS_B) ", " FILESYSTEM(
            "loop0", "/mnt/loop", "ext4",
            RAID_A ", " RAID_B) ", " FILESYSTEM("dm-0", "/mnt/lv", "ext4", RAID_A ", " RAID_B) "]");
    fake_expect(
        &disks_commands, "guest-get-disks", NULL,
        "[" DISK("/dev/vdb", "", "false, \"address\": " RAID_B) ", " DISK("/dev/vda", "", "false, \"address\": " RAID_A) ", " DISK("/dev/sdb", "", "false, \"address\": " BTRFS_B) ", " DISK(
            "/dev/sda", "",
            "false, \"address\": " BTRFS_A) ", " DISK("/dev/md0", "\"/dev/vda\", \"/dev/vdb\"",
                                                      "false") ", " DISK("/dev/loop0", "",
                                                                         "false") ", " DISK("/dev/"
                                                                                            "dm-0",
                                                                                            "\"/"
                                                                                            "dev/"
                                                                                            "md0\"",
                                                                                            "false,"
                                                                                            " \"ali"
                                                                                            "as\": "
                                                                                            "\"vg-"
                                                                                            "data"
                                                                                            "\"") "]");
}

#define NVME_A(dev) ADDRESS(SERIAL("QEMU_NVMe_Ctrl_NVMEA_1"), "nvme", 0, 0, 0, PCI(0, 4, 0), dev)
#define NVME_B \
    ADDRESS(SERIAL("QEMU_NVMe_Ctrl_NVMEB_1"), "nvme", 0, 0, 0, PCI(0, 5, 0), "/dev/nvme2n1")
#define IDE_A ADDRESS(SERIAL("QEMU_HARDDISK_IDEA"), "ide", 1, 0, 1, PCI(0, 1, 1), "/dev/sda")

static void test_nvme(void **state)
{
    file_tree_use_recorded(root, "nvme.tree");
    fake_expect(
        &disks_commands, "guest-get-fsinfo", NULL,
        "[" FILESYSTEM("nvme2n1", "/mnt/two", "ext4", NVME_B) ", " FILESYSTEM(
            "nvme0n1p1", "/mnt/nvme", "ext4",
            NVME_A("/dev/nvme0n1p1")) ", " FILESYSTEM("sda", "/mnt/ide", "ext4", IDE_A) "]");
    /* The paths of the multipath namespace, nvme2c1n1 and nvme2c2n1, are no disks of their own. */
    fake_expect(
        &disks_commands, "guest-get-disks", NULL,
        "[" DISK("/dev/sda", "", "false, \"address\": " IDE_A) ", " DISK(
            "/dev/nvme2n1", "",
            "false, \"address\": " NVME_B) ", " DISK("/dev/nvme0n1p1", "\"/dev/nvme0n1\"",
                                                     "true") ", " DISK("/dev/nvme0n1", "",
                                                                       "false, "
                                                                       "\"address\": " NVME_A(
                                                                           "/dev/nvme0n1")) "]");
}

#define HARDDISK(name) SERIAL("0QEMU_QEMU_HARDDISK_" name)

static void test_controllers(void **state)
{
    file_tree_use_recorded(root, "controllers.tree");
    fake_expect(
        &disks_commands, "guest-get-fsinfo", NULL,
        "[" FILESYSTEM("sdg", "/mnt/sdg", "ext4",
                       ADDRESS(SERIAL("QEMU_QEMU_HARDDISK_USB-0:0"), "usb", 0, 0, 0, PCI(0, 9, 0),
                               "/dev/sdg")) ", " FILESYSTEM("sdf", "/mnt/sdf", "ext4",
                                                            ADDRESS(HARDDISK("VS"), "scsi",
                                                                    0, 7, 9, PCI(1, 3, 0), "/dev/sdf")) ", " FILESYSTEM("sde",
                                                                                                                        "/mnt/"
                                                                                                                        "sde",
                                                                                                                        "ext4", ADDRESS(HARDDISK("PV"), "scsi", 0, 6, 0, PCI(0, 8, 0), "/dev/sde")) ", " FILESYSTEM("sdd",
                                                                                                                                                                                                                    "/mnt/sdd", "ext4", ADDRESS(HARDDISK("MEGA"), "scsi", 0, 3, 0, PCI(0, 6, 0), "/dev/sdd")) ", " FILESYSTEM("sdc",
                                                                                                                                                                                                                                                                                                                              "/mnt/sdc", "ext4", ADDRESS(HARDDISK("LSI"), "scsi", 0, 0, 4, PCI(0, 5, 0), "/dev/sdc")) ", " FILESYSTEM("sdb",
                                                                                                                                                                                                                                                                                                                                                                                                                                       "/mnt/sdb",
                                                                                                                                                                                                                                                                                                                                                                                                                                       "ext4",
                                                                                                                                                                                                                                                                                                                                                                                                                                       ADDRESS(SERIAL("QEMU_HARDDISK_IDE"), "ide", 1, 0, 0, PCI(0, 1, 1), "/dev/sdb")) ", " FILESYSTEM("sda",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "/mnt/sda",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "ext4",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       ADDRESS(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           SERIAL(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "QEMU_HARDDISK_SATA"),
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "sata",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           2,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           PCI(0,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               4,
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               0),
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           "/dev/sda")) "]");

    struct call *call = fake_call_new(&disks_commands, "guest-get-disks", NULL);
    fake_call_carry_out(call);
    assert_non_null(strstr(fake_call_answer(call), ADDRESS(SERIAL("0xdeadbeef"), "sd", 0, 0, 0,
                                                           PCI(0, 11, 0), "/dev/mmcblk0")));
    assert_null(strstr(fake_call_answer(call), "loop")); /* none has a file */
    fake_call_free(call);
}

/* Written by hand: https://docs.kernel.org/arch/s390/driver-model.html, proc_pid_mountinfo(5). */
static const char s390[] =
    "file /proc/1/mountinfo\n"
    "|1 0 94:1 / / rw - ext4 /dev/dasda1 rw\n"
    "|2 1 252:0 / /virtio rw - ext4 /dev/vda rw\n"
    "link /sys/dev/block/94:1 ../../devices/css0/0.0.0003/0.0.0190/block/dasda/dasda1\n"
    "file /sys/devices/css0/0.0.0003/0.0.0190/block/dasda/dasda1/uevent\n|DEVNAME=dasda1\n"
    "file /sys/devices/css0/0.0.0003/0.0.0190/block/dasda/dasda1/partition\n|1\n"
    "file /sys/devices/css0/0.0.0003/0.0.0190/block/dasda/dev\n|94:0\n"
    "link /sys/dev/block/252:0 ../../devices/css0/0.1.001a/0.1.fe01/virtio1/block/vda\n"
    "file /sys/devices/css0/0.1.001a/0.1.fe01/virtio1/block/vda/uevent\n|DEVNAME=vda\n"
    "file /sys/devices/css0/0.1.001a/0.1.fe01/virtio1/block/vda/serial\n|DATA\n";

static void test_s390(void **state)
{
    file_tree_use(root, s390);
    fake_expect(
        &disks_commands, "guest-get-fsinfo", NULL,
        "[" FILESYSTEM(
            "vda", "/virtio", "ext4",
            ADDRESS(SERIAL("DATA"), "virtio", 0, 0, 0,
                    NO_PCI ", \"ccw-address\": {\"cssid\": 0, \"ssid\": 1, \"subchno\": 26, "
                           "\"devno\": 65025}",
                    "/dev/vda")) ", " FILESYSTEM("dasda1", "/", "ext4",
                                                 ADDRESS("", "unknown", 0, 0, 0,
                                                         NO_PCI ", \"ccw-address\": {\"cssid\": 0, "
                                                                "\"ssid\": 0, \"subchno\": 3, "
                                                                "\"devno\": 400}",
                                                         "/dev/dasda1")) "]");
}

/* Written by hand: a mount point that is not UTF-8, one with white space, and what is not listed.
 */
static const char odd_mounts[] = "file /proc/1/mountinfo\n"
                                 "|1 0 8:1 / / rw - ext4 /dev/root rw\n"
                                 "|2 1 0:5 / /proc rw - proc proc rw\n"
                                 "|3 1 0:6 / /nfs rw - nfs4 server:/x rw\n"
                                 "|4 1 0:7 / /tmp rw - tmpfs tmpfs rw\n"
                                 "|5 1 8:2 / /caf\\xe9\\040x rw - xfs /dev/sda2 rw\n"
                                 "|6 1 8:2 /sub /bind rw - xfs /dev/sda2 rw\n"
                                 "|7 1 0:8 / /pool rw - btrfs /dev/sdz rw\n";

static void test_without_sysfs(void **state)
{
    file_tree_use(root, odd_mounts);
    fake_expect(
        &disks_commands, "guest-get-fsinfo", NULL,
        "[" FILESYSTEM("sdz", "/pool", "btrfs", "") ", " FILESYSTEM(
            "sda2", "/caf\\uFFFD x", "xfs", "") ", " FILESYSTEM("root", "/", "ext4", "") "]");
    fake_expect(&disks_commands, "guest-get-disks", NULL,
                "failed to list the disks: No such file or directory");
    fake_expect(&disks_commands, "guest-get-diskstats", NULL,
                "failed to read /proc/diskstats: No such file or directory");
}

/* Written by hand from Documentation/admin-guide/iostats.rst: 4.18 has 11 numbers, 5.5 has 17. */
static void test_diskstats(void **state)
{
    file_tree_use(root, "file /proc/diskstats\n"
                        "|   8       0 sda 1 2 3 4 5 6 7 8 9 10 18446744073709551615\n"
                        "|\n"
                        "|nonsense\n"
                        "| 254      16 vdb 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19\n"
                        "| 253       0 none\n");
    fake_expect(&disks_commands, "guest-get-diskstats", NULL,
                "[{\"name\": \"sda\", \"stats\": {\"read-ios\": 1, \"read-merges\": 2, "
                "\"read-sectors\": 3, \"read-ticks\": 4, \"write-ios\": 5, \"write-merges\": 6, "
                "\"write-sectors\": 7, \"write-ticks\": 8, \"ios-pgr\": 9, \"total-ticks\": 10, "
                "\"weight-ticks\": 18446744073709551615}, \"minor\": 0, \"major\": 8}, "
                "{\"name\": \"vdb\", \"stats\": {\"read-ios\": 1, \"read-merges\": 2, "
                "\"read-sectors\": 3, \"read-ticks\": 4, \"write-ios\": 5, \"write-merges\": 6, "
                "\"write-sectors\": 7, \"write-ticks\": 8, \"ios-pgr\": 9, \"total-ticks\": 10, "
                "\"weight-ticks\": 11, \"discard-ios\": 12, \"discard-merges\": 13, "
                "\"discard-sectors\": 14, \"discard-ticks\": 15, \"flush-ios\": 16, "
                "\"flush-ticks\": 17}, \"minor\": 16, \"major\": 254}, "
                "{\"name\": \"none\", \"stats\": {}, \"minor\": 0, \"major\": 253}]");
}

static void test_none_takes_arguments(void **state)
{
    file_tree_use(root, "dir /sys/class/block\n");
    fake_expect(&disks_commands, "guest-get-disks", "{\"foo\": 1}",
                "Parameter 'foo' is unexpected");
    fake_expect(&disks_commands, "guest-get-disks", "{}", "[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_lvm_on_raid, remove_tree),
        cmocka_unit_test_teardown(test_nvme, remove_tree),
        cmocka_unit_test_teardown(test_controllers, remove_tree),
        cmocka_unit_test_teardown(test_s390, remove_tree),
        cmocka_unit_test_teardown(test_without_sysfs, remove_tree),
        cmocka_unit_test_teardown(test_diskstats, remove_tree),
        cmocka_unit_test_teardown(test_none_takes_arguments, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
