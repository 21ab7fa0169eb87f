/* SPDX-License-Identifier: MIT */

/*
 * Addresses from paths. Those of the disks that QEMU can plug in were recorded and are tested by
 * test-disks.c; these here are written by hand from the kernel's sources and from reports of real
 * machines.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/block-device.h"
#include "base/disk-address.h"
#include "file-tree.h"

static char root[32];

static int remove_tree(void **state)
{
    file_tree_remove(root);
    return 0;
}

/* "type bus:target:unit PCI address": what is known of the disk at that place below /sys/devices.
 */
static void expect(const char *place, const char *expected)
{
    struct block_device device;
    struct disk_address address;
    char text[256], pci[64] = "-";
    snprintf(device.path, sizeof(device.path), "/sys/devices/%s", place);
    device.name = strrchr(device.path, '/') + 1;
    disk_address_get(&address, &device);
    if (address.has_pci)
        snprintf(pci, sizeof(pci), "%x:%x:%x.%x", address.pci_domain, address.pci_bus,
                 address.pci_slot, address.pci_function);
    snprintf(text, sizeof(text), "%s %u:%u:%u %s", address.bus_type, address.bus, address.target,
             address.unit, pci);
    assert_string_equal(text, expected);
}

static void test_places(void **state)
{
    static const char *const rows[][2] = {
        {"pci0000:00/0000:00:02.0/virtio1/block/vda", "virtio 0:0:0 0:0:2.0"},
        {"pci0000:00/0000:00:02.0/virtio1/block/vda/vda1", "virtio 0:0:0 0:0:2.0"},
        {"pci0000:00/0000:00:1c.5/0000:3b:00.7/virtio12/block/vdb", "virtio 0:0:0 0:3b:0.7"},
        {"platform/40000000.pcie/pciabcd:00/abcd:00:01.0/virtio0/block/vda",
         "virtio 0:0:0 abcd:0:1.0"},
        {"pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:1d.0/10000:e1:00.0/nvme/nvme0/nvme0n1",
         "nvme 0:0:0 10000:e1:0.0"},
        {"platform/a003e00.virtio_mmio/virtio3/block/vda", "virtio 0:0:0 -"},
        {"platform/a003e00.virtio_mmio/virtio3/host0/target0:0:2/0:0:2:5/block/sda",
         "scsi 0:2:5 -"},
        {"platform/host7/session3/target7:0:0/7:0:0:4/block/sdc", "iscsi 0:0:4 -"},
        {"pci0000:00/0000:00:05.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sda",
         "sas 0:0:0 0:0:5.0"},
        {"pci0000:00/0000:00:05.0/host1/rport-1:0-2/target1:0:2/1:0:2:16/block/sdb",
         "fibre 0:2:16 0:0:5.0"},
        {"pci0000:00/0000:00:14.0/usb2/2-3/2-3:1.0/host6/target6:0:0/6:0:0:3/block/sdd",
         "usb 0:0:3 0:0:14.0"},
        {"pci0000:00/0000:00:09.0/fw1/fw1.0/host2/target2:0:0/2:0:0:0/block/sda",
         "ieee1394 0:0:0 0:0:9.0"},
        {"LNXSYSTM:00/LNXSYBUS:00/PNP0A03:00/VMBUS:00/vmbus_1/host0/target0:0:0/0:0:0:1/block/sda",
         "scsi 0:0:1 -"},
        {"vbd-51712/block/xvda", "xen 0:0:0 -"},
        {"vbd-51712/block/xvda/xvda2", "xen 0:0:0 -"},
        {"platform/floppy.0/block/fd0", "fdc 0:0:0 -"},
        {"platform/uml-blkdev.0/block/ubda", "uml 0:0:0 -"},
        {"platform/soc/3f202000.mmc/mmc_host/mmc0/mmc0:aaaa/block/mmcblk0/mmcblk0p1",
         "mmc 0:0:0 -"},
        {"platform/soc/3f202000.mmc/mmc_host/mmc1/mmc1:0001/block/mmcblk1", "sd 0:0:0 -"},
        {"platform/f100.sata/ata3/host2/target2:0:0/2:0:0:0/block/sda", "sata 0:0:1 -"},
        {"pci0000:00/0000:00:01.1/ata2/host1/target1:0:1/1:0:1:0/block/sdb", "ide 1:0:1 0:0:1.1"},
        {"pseudo_0/adapter0/host0/target0:0:0/0:0:0:0/block/sda", "scsi 0:0:0 -"},
        {"rbd/0/block/rbd0", "unknown 0:0:0 -"},
        {"platform/x/block/y", "unknown 0:0:0 -"},
        /* what only looks like one of the above */
        {"virtiox/usb/ata/nvmefoo/1:2:3/1:2:3:4x/0000:00:1.0.0/css0/block/sda", "unknown 0:0:0 -"},
    };
    file_tree_use(
        root, "file /sys/devices/platform/soc/3f202000.mmc/mmc_host/mmc0/mmc0:aaaa/type\n|MMC\n"
              "file /sys/devices/platform/soc/3f202000.mmc/mmc_host/mmc1/mmc1:0001/type\n|SD\n"
              "link /sys/devices/platform/f100.sata/driver ../../../bus/platform/drivers/x\n"
              "dir /sys/devices/platform/f100.sata/ata2\n"
              "dir /sys/devices/platform/f100.sata/ata3\n"
              "dir /sys/devices/platform/f100.sata/ata10\n"
              "link /sys/devices/pci0000:00/0000:00:01.1/driver ../../../bus/pci/drivers/pata_x\n"
              "dir /sys/devices/pci0000:00/0000:00:01.1/ata1\n"
              "dir /sys/devices/pci0000:00/0000:00:01.1/ata2\n");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        expect(rows[i][0], rows[i][1]);
}

/* Of a namespace with several controllers, one that works is shown, the lowest of these. */
static void test_multipath(void **state)
{
    static const char subsystem[] = "/sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    char text[4096];
    snprintf(text, sizeof(text),
             "link %s/nvme2 ../../../pci0000:00/0000:00:07.0/nvme/nvme2\n"
             "link %s/nvme1 ../../../pci0000:00/0000:00:06.0/nvme/nvme1\n"
             "link %s/nvme0 ../../../pci0000:00/0000:00:05.0/nvme/nvme0\n"
             "file /sys/devices/pci0000:00/0000:00:05.0/nvme/nvme0/state\n|connecting\n"
             "file /sys/devices/pci0000:00/0000:00:06.0/nvme/nvme1/state\n|live\n"
             "file /sys/devices/pci0000:00/0000:00:07.0/nvme/nvme2/state\n|live\n"
             "link %s9/nvme7 ../../nvme-fabrics/ctl/nvme7\n"
             "dir %s8\n",
             subsystem, subsystem, subsystem, subsystem, subsystem);
    file_tree_use(root, text);
    expect("virtual/nvme-subsystem/nvme-subsys0/nvme0n1", "nvme 0:0:0 0:0:6.0");
    expect("virtual/nvme-subsystem/nvme-subsys0/nvme0n1/nvme0n1p3", "nvme 0:0:0 0:0:6.0");
    /* over the network, and one whose controllers are gone */
    expect("virtual/nvme-subsystem/nvme-subsys09/nvme0n1", "nvme 0:0:0 -");
    expect("virtual/nvme-subsystem/nvme-subsys08/nvme0n1", "unknown 0:0:0 -");
}

static void test_ccw(void **state)
{
    struct block_device device = {.name = "dasda"};
    struct disk_address address;
    file_tree_use(root, "dir /sys\n");
    strcpy(device.path, "/sys/devices/css1/1.2.0a03/1.3.0190/block/dasda");
    disk_address_get(&address, &device);
    assert_true(address.has_ccw);
    assert_int_equal(address.ccw_cssid, 1);
    assert_int_equal(address.ccw_ssid, 2);
    assert_int_equal(address.ccw_subchannel, 0xa03);
    assert_int_equal(address.ccw_device, 0x190);
    assert_false(address.has_pci);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_places, remove_tree),
        cmocka_unit_test_teardown(test_multipath, remove_tree),
        cmocka_unit_test_teardown(test_ccw, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
