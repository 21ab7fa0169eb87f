/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_DISK_ADDRESS_H
#define BELLHOP_BASE_DISK_ADDRESS_H

/*
 * Where a disk is plugged in: how the host finds the disk that the guest talks of. Taken from the
 * device's place in /sys/devices. Pure reading; any thread.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct block_device;

struct disk_address {
    bool has_pci; /* of the last PCI device on the way to the disk: its controller */
    unsigned pci_domain, pci_bus, pci_slot, pci_function;

    bool has_ccw; /* s390: channel subsystem */
    unsigned ccw_cssid, ccw_ssid, ccw_subchannel, ccw_device;

    const char *bus_type; /* the protocol's name: "virtio", "scsi", ..., "unknown" */

    /* As QEMU and libvirt number them; 0 where the bus has no such thing. */
    unsigned bus;    /* SCSI channel; IDE: 0 primary, 1 secondary */
    unsigned target; /* SCSI target */
    unsigned unit;   /* SCSI LUN; IDE: 0 master, 1 slave; SATA: port */
};

/*
 * The address of a disk, or of a partition's disk, that is not virtual (block_device_is_virtual()).
 * What is not known is left at 0 and "unknown".
 */
void disk_address_get(struct disk_address *ret_address, const struct block_device *device);

#endif
