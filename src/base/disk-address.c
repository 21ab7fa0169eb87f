/* SPDX-License-Identifier: MIT */
#include "base/disk-address.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/block-device.h"
#include "base/sysroot.h"

/*
 * What the way to the disk says, from the root of the device tree to the disk. A step is one
 * directory: /sys/devices/pci0000:00/0000:00:05.0/virtio2/host0/target0:0:1/0:0:1:3/block/sda
 */
struct way {
    struct disk_address *address;
    char controller[BLOCK_DEVICE_PATH_MAX]; /* the PCI device, or what has the ATA ports; or "" */
    char mmc_card[BLOCK_DEVICE_PATH_MAX];
    unsigned ata_port; /* N of ataN */
    bool has_virtio, has_ata, has_scsi, has_usb, has_iscsi, has_sas, has_fibre, has_nvme;
    bool has_firewire, has_xen, has_floppy, has_uml;
};

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* "virtio2": a word and a number, nothing else. */
static bool is_numbered(const char *step, const char *word, unsigned *ret_number)
{
    int end = 0;
    size_t length = strlen(word);
    return starts_with(step, word) && isdigit((unsigned char)step[length]) &&
           sscanf(step + length, "%u%n", ret_number, &end) == 1 &&
           step[length + (size_t)end] == '\0';
}

/* --- one step --- */

static void look_for_pci(struct way *way, const char *step, const char *path, size_t length)
{
    unsigned domain, bus, slot, function;
    int end = 0;
    if (sscanf(step, "%x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &end) != 4 || step[end])
        return;
    struct disk_address *address = way->address;
    address->has_pci = true;
    address->pci_domain = domain;
    address->pci_bus = bus;
    address->pci_slot = slot;
    address->pci_function = function;
    snprintf(way->controller, sizeof(way->controller), "%.*s", (int)length, path);
}

static void look_for_ata(struct way *way, const char *step, const char *path, size_t length)
{
    if (!is_numbered(step, "ata", &way->ata_port))
        return;
    way->has_ata = true;
    snprintf(way->controller, sizeof(way->controller), "%.*s", (int)(length - strlen(step) - 1),
             path);
}

/* css0/0.0.0002/0.0.1234: the subchannel and the device on it (s390: Documentation/arch/s390). */
static void look_for_ccw(struct way *way, const char *step, const char *rest)
{
    struct disk_address *address = way->address;
    if (starts_with(step, "css") &&
        sscanf(rest, "/%x.%x.%x/%*x.%*x.%x", &address->ccw_cssid, &address->ccw_ssid,
               &address->ccw_subchannel, &address->ccw_device) == 4)
        address->has_ccw = true;
}

/* host:channel:target:lun */
static void look_for_scsi(struct way *way, const char *step)
{
    unsigned channel, target, lun;
    int end = 0;
    if (sscanf(step, "%*u:%u:%u:%u%n", &channel, &target, &lun, &end) != 3 || step[end])
        return;
    way->has_scsi = true;
    way->address->bus = channel;
    way->address->target = target;
    way->address->unit = lun;
}

static void look_for_mmc(struct way *way, const char *step, const char *path, size_t length)
{
    int end = 0;
    if (sscanf(step, "mmc%*u:%*x%n", &end) == 0 && end > 0 && !step[end])
        snprintf(way->mmc_card, sizeof(way->mmc_card), "%.*s", (int)length, path);
}

/* `path` up to `length` is the way up to this step; `rest` is what follows it. */
static void take_step(struct way *way, const char *step, const char *path, size_t length,
                      const char *rest)
{
    unsigned number;
    look_for_pci(way, step, path, length);
    look_for_ccw(way, step, rest);
    look_for_ata(way, step, path, length);
    look_for_scsi(way, step);
    look_for_mmc(way, step, path, length);
    way->has_virtio |= is_numbered(step, "virtio", &number);
    way->has_usb |= is_numbered(step, "usb", &number);
    way->has_iscsi |= is_numbered(step, "session", &number);
    way->has_firewire |= is_numbered(step, "fw", &number);
    way->has_nvme |= is_numbered(step, "nvme", &number);
    way->has_sas |= starts_with(step, "end_device-");
    way->has_fibre |= starts_with(step, "rport-");
    way->has_xen |= starts_with(step, "vbd-");
    way->has_floppy |= is_numbered(step, "floppy.", &number);
    way->has_uml |= starts_with(step, "uml-blkdev.");
}

static void walk(struct way *way, const char *path)
{
    const char *at = path;
    while (*at) {
        const char *step = at + 1, *end = strchrnul(step, '/');
        char name[BLOCK_DEVICE_NAME_MAX];
        snprintf(name, sizeof(name), "%.*s", (int)(end - step), step);
        take_step(way, name, path, (size_t)(end - path), end);
        at = end;
    }
}

/* --- what that makes --- */

/* The name of the controller's driver, "" if it has none. */
static void read_driver(const struct way *way, char *ret_driver, size_t size)
{
    char target[BLOCK_DEVICE_PATH_MAX] = "";
    if (!way->controller[0] ||
        sysroot_readlink(target, sizeof(target), "%s/driver", way->controller) < 0)
        target[0] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(ret_driver, size, "%.*s", (int)size - 1, slash ? slash + 1 : target);
}

/* Which of its controller's ports, from 0: ports are numbered through all controllers. */
static unsigned ata_port_index(const struct way *way)
{
    _cleanup_closedir_ DIR *directory = sysroot_opendir("%s", way->controller);
    const struct dirent *entry;
    unsigned index = 0, number;
    while (directory && (entry = readdir(directory)))
        if (is_numbered(entry->d_name, "ata", &number) && number < way->ata_port)
            index++;
    return index;
}

static void conclude_ata(const struct way *way, const char *driver)
{
    struct disk_address *address = way->address;
    unsigned port = ata_port_index(way);
    bool is_ide = starts_with(driver, "ata_") || starts_with(driver, "pata_");
    address->bus_type = is_ide ? "ide" : "sata";
    address->bus = is_ide ? port : 0;
    address->unit = is_ide ? address->target /* master or slave */ : port;
    address->target = 0;
}

static const char *scsi_bus_type(const struct way *way)
{
    if (way->has_usb)
        return "usb";
    if (way->has_firewire)
        return "ieee1394";
    if (way->has_iscsi)
        return "iscsi";
    if (way->has_sas)
        return "sas";
    return way->has_fibre ? "fibre" : "scsi";
}

static void conclude_scsi(const struct way *way, const char *driver)
{
    struct disk_address *address = way->address;
    address->bus_type = scsi_bus_type(way);
    if (way->has_usb) {
        address->bus = address->target = 0; /* every disk has a host adapter of its own */
    } else if (strcmp(driver, "sym53c8xx") == 0 || strcmp(driver, "am53c974") == 0) {
        /* Parallel SCSI: to the host, its targets are the units of the one bus. */
        address->unit = address->target;
        address->target = 0;
    } else if (strcmp(driver, "megaraid_sas") == 0 && address->bus >= 2) {
        address->bus -= 2; /* the driver has two channels of its own for physical disks */
    }
}

static const char *mmc_type(const struct way *way)
{
    char type[16];
    if (sysroot_read_line(type, sizeof(type), "%s/type", way->mmc_card) < 0)
        return "mmc";
    return starts_with(type, "SD") ? "sd" : "mmc";
}

static const char *other_bus_type(const struct way *way)
{
    if (way->has_nvme)
        return "nvme";
    if (way->has_virtio)
        return "virtio";
    if (way->mmc_card[0])
        return mmc_type(way);
    if (way->has_xen)
        return "xen";
    if (way->has_floppy)
        return "fdc";
    return way->has_uml ? "uml" : "unknown";
}

static void conclude(const struct way *way)
{
    char driver[64];
    read_driver(way, driver, sizeof(driver));
    if (way->has_scsi && way->has_ata)
        conclude_ata(way, driver);
    else if (way->has_scsi)
        conclude_scsi(way, driver);
    else
        way->address->bus_type = other_bus_type(way);
}

/* --- multipath NVMe --- */

/*
 * A namespace that several controllers may have lies below their subsystem, where links lead to
 * them. The first one that works stands for all.
 */
struct controller_choice {
    char target[BLOCK_DEVICE_PATH_MAX]; /* "../../../pci0000:00/0000:00:04.0/nvme/nvme0" */
    unsigned number;
    bool is_live;
};

static bool is_better(const struct controller_choice *one, const struct controller_choice *other)
{
    if (!other->target[0] || one->is_live != other->is_live)
        return !other->target[0] || one->is_live;
    return one->number < other->number;
}

/* Looks at what the subsystem's directory holds. */
static void choose_controller(const char *subsystem, struct controller_choice *ret_best)
{
    _cleanup_closedir_ DIR *directory = sysroot_opendir("%s", subsystem);
    const struct dirent *entry;
    ret_best->target[0] = '\0';
    while (directory && (entry = readdir(directory))) {
        struct controller_choice one;
        char state[16] = "";
        if (!is_numbered(entry->d_name, "nvme", &one.number) ||
            sysroot_readlink(one.target, sizeof(one.target), "%s/%s", subsystem, entry->d_name) < 0)
            continue;
        one.is_live =
            sysroot_read_line(state, sizeof(state), "%s/%s/state", subsystem, entry->d_name) == 0 &&
            strcmp(state, "live") == 0;
        if (is_better(&one, ret_best))
            *ret_best = one;
    }
}

static bool find_nvme_controller(const struct block_device *device, char *ret_path, size_t size)
{
    static const char start[] = "/sys/devices/virtual/nvme-subsystem/";
    if (!starts_with(device->path, start))
        return false;
    char subsystem[BLOCK_DEVICE_PATH_MAX];
    const char *end = strchrnul(device->path + strlen(start), '/');
    snprintf(subsystem, sizeof(subsystem), "%.*s", (int)(end - device->path), device->path);

    struct controller_choice best;
    choose_controller(subsystem, &best);
    const char *target = best.target;
    while (starts_with(target, "../"))
        target += 3;
    int length = snprintf(ret_path, size, "/sys/devices/%s", target);
    return best.target[0] && length > 0 && (size_t)length < size;
}

void disk_address_get(struct disk_address *ret_address, const struct block_device *device)
{
    *ret_address = (struct disk_address){.bus_type = "unknown"};
    struct way way = {.address = ret_address};
    char path[BLOCK_DEVICE_PATH_MAX];
    walk(&way, find_nvme_controller(device, path, sizeof(path)) ? path : device->path);
    conclude(&way);
}
