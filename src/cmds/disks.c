/* SPDX-License-Identifier: MIT */

/* What the guest keeps its data on: file systems, disks and their counters. Read only. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/block-device.h"
#include "base/disk-address.h"
#include "base/filesystem-usage.h"
#include "base/mount-table.h"
#include "base/nvme-smart.h"
#include "base/probe.h"
#include "base/storage.h"
#include "base/sysroot.h"
#include "cmds/command.h"

enum {
    /* Well below the second that the least patient host waits for any reply. */
    USAGE_TIMEOUT_MS = 750,
    /* A disk may take its time over its own health. */
    SMART_TIMEOUT_MS = 2000,
    NODE_MAX = BLOCK_DEVICE_NAME_MAX + 8,
    SERIAL_MAX = 512,
};

/* --- GuestDiskAddress --- */

static void write_pci(struct json_writer *reply, const struct disk_address *address)
{
    json_name(reply, "pci-controller");
    json_begin_object(reply);
    json_member_int(reply, "bus", address->has_pci ? (int64_t)address->pci_bus : -1);
    json_member_int(reply, "slot", address->has_pci ? (int64_t)address->pci_slot : -1);
    json_member_int(reply, "domain", address->has_pci ? (int64_t)address->pci_domain : -1);
    json_member_int(reply, "function", address->has_pci ? (int64_t)address->pci_function : -1);
    json_end_object(reply);
}

static void write_ccw(struct json_writer *reply, const struct disk_address *address)
{
    if (!address->has_ccw)
        return;
    json_name(reply, "ccw-address");
    json_begin_object(reply);
    json_member_uint(reply, "cssid", address->ccw_cssid);
    json_member_uint(reply, "ssid", address->ccw_ssid);
    json_member_uint(reply, "subchno", address->ccw_subchannel);
    json_member_uint(reply, "devno", address->ccw_device);
    json_end_object(reply);
}

static void write_address(struct json_writer *reply, const struct block_device *device,
                          const struct disk_address *address)
{
    char serial[SERIAL_MAX], node[NODE_MAX];
    json_begin_object(reply);
    if (block_device_serial(device, serial, sizeof(serial)) == 0)
        json_member_string(reply, "serial", serial);
    json_member_string(reply, "bus-type", address->bus_type);
    json_member_uint(reply, "bus", address->bus);
    json_member_uint(reply, "unit", address->unit);
    write_pci(reply, address);
    write_ccw(reply, address);
    if (block_device_node(device, node, sizeof(node)) == 0)
        json_member_string(reply, "dev", node);
    json_member_uint(reply, "target", address->target);
    json_end_object(reply);
}

/* --- guest-get-fsinfo --- */

static int write_disk(const struct block_device *device, void *context)
{
    struct disk_address address;
    disk_address_get(&address, device);
    write_address(context, device, &address);
    return 0;
}

static const char *filesystem_name(const struct mount *mount, struct block_device *device)
{
    if (storage_device(mount, device) == 0)
        return device->name;
    const char *slash = strrchr(mount->source, '/');
    return slash ? slash + 1 : mount->source;
}

static int write_filesystem(struct json_writer *reply, const struct storage *storage,
                            const struct mount *mount, const struct filesystem_usage *usage)
{
    struct block_device device;
    const struct storage_visitor visitor = {.disk = write_disk, .context = reply};
    json_begin_object(reply);
    json_member_string(reply, "name", filesystem_name(mount, &device));
    if (usage->is_known) {
        json_member_uint(reply, "total-bytes", usage->total_bytes);
        json_member_uint(reply, "total-bytes-privileged", usage->total_bytes_privileged);
    }
    json_member_string(reply, "mountpoint", mount->point);
    json_name(reply, "disk");
    json_begin_array(reply);
    int r = storage_walk(storage, mount, &visitor);
    json_end_array(reply);
    if (usage->is_known)
        json_member_uint(reply, "used-bytes", usage->used_bytes);
    json_member_string(reply, "type", mount->type);
    json_end_object(reply);
    return r;
}

/* One mount for each file system on a disk, the newest first, as the classic agent has them. */
static size_t choose_mounts(const struct mount_table *table, const struct mount **ret_mounts)
{
    size_t count = 0;
    for (size_t i = table->superblock_count; i > 0; i--) {
        const struct mount *mount = &table->mounts[table->superblocks[i - 1].mount];
        if (mount_is_on_disk(mount))
            ret_mounts[count++] = mount;
    }
    return count;
}

static int write_filesystems(struct call *call, const struct mount_table *table,
                             const struct storage *storage)
{
    size_t count = table->superblock_count;
    _cleanup_free_ const struct mount **mounts = calloc(count + 1, sizeof(struct mount *));
    _cleanup_free_ struct filesystem_usage *usages = calloc(count + 1, sizeof(*usages));
    if (!mounts || !usages)
        return -ENOMEM;
    count = choose_mounts(table, mounts);
    call_step(call, "asking %zu file systems for their sizes", count);
    int r = filesystem_usage_get(mounts, count, USAGE_TIMEOUT_MS, usages);

    call_step(call, "looking for the disks of %zu file systems", count);
    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    for (size_t i = 0; r == 0 && i < count; i++)
        r = write_filesystem(reply, storage, mounts[i], &usages[i]);
    json_end_array(reply);
    return r;
}

static enum call_next get_fsinfo_run(struct call *call)
{
    _cleanup_(mount_table_deinit) struct mount_table table = {0};
    _cleanup_(storage_deinit) struct storage storage = {0};
    call_step(call, "reading the mount table");
    int r = mount_table_load(&table);
    if (r < 0)
        return call_fail_errno(call, -r, "failed to read the mount table");
    r = storage_init(&storage, &table);
    if (r == 0)
        r = write_filesystems(call, &table, &storage);
    return r < 0 ? call_fail_errno(call, -r, "failed to list the file systems") : CALL_CONTINUE;
}

/* --- guest-get-disks --- */

struct disk {
    struct block_device device;
    bool is_partition;
    bool has_address;
    struct disk_address address;
};

struct disk_list {
    struct disk *items;
    size_t count;
    size_t capacity;
};

static void disk_list_deinit(struct disk_list *list)
{
    free(list->items);
}

static struct disk *add_disk(struct disk_list *list)
{
    if (list->count == list->capacity) {
        size_t more = list->capacity ? list->capacity * 2 : 16;
        struct disk *items = reallocarray(list->items, more, sizeof(*items));
        if (!items)
            return NULL;
        for (size_t i = 0; i < list->count; i++) /* their names point into themselves */
            block_device_copy(&items[i].device, &items[i].device);
        list->items = items;
        list->capacity = more;
    }
    return &list->items[list->count++];
}

static int compare_disks(const void *left, const void *right)
{
    const struct disk *const *a = left, *const *b = right;
    return strverscmp((*a)->device.name, (*b)->device.name);
}

/* False for what is no disk now: a loop device without a file, a drive without a medium. */
static bool is_there(const struct block_device *device)
{
    uint64_t sectors;
    return sysroot_read_uint64(&sectors, "%s/size", device->path) == 0 && sectors > 0;
}

static int read_disks(struct disk_list *list)
{
    _cleanup_closedir_ DIR *directory = sysroot_opendir("/sys/class/block");
    const struct dirent *entry;
    if (!directory)
        return -errno;
    while ((entry = readdir(directory))) {
        struct block_device device;
        if (entry->d_name[0] == '.' || block_device_by_name(&device, entry->d_name) < 0 ||
            !is_there(&device))
            continue;
        struct disk *disk = add_disk(list);
        if (!disk)
            return -ENOMEM;
        block_device_copy(&disk->device, &device);
        disk->is_partition = block_device_is_partition(&device);
        disk->has_address = !disk->is_partition && !block_device_is_virtual(&device);
        if (disk->has_address)
            disk_address_get(&disk->address, &device);
    }
    return 0;
}

static void write_node(struct json_writer *reply, const struct block_device *device)
{
    char node[NODE_MAX];
    if (block_device_node(device, node, sizeof(node)) < 0)
        snprintf(node, sizeof(node), "/dev/%.*s", NODE_MAX - 8, device->name);
    json_string(reply, node);
}

static int write_slave(const struct block_device *slave, void *context)
{
    write_node(context, slave);
    return 0;
}

static int write_dependencies(struct json_writer *reply, const struct disk *disk)
{
    struct block_device whole;
    int r = 0;
    json_name(reply, "dependencies");
    json_begin_array(reply);
    if (block_device_disk(&whole, &disk->device) == 0)
        write_node(reply, &whole);
    else
        r = block_device_for_each_slave(&disk->device, write_slave, reply);
    json_end_array(reply);
    return r;
}

static void write_counter(struct json_writer *reply, const char *name,
                          const struct nvme_counter *counter)
{
    char full[64];
    snprintf(full, sizeof(full), "%s-lo", name);
    json_member_uint(reply, full, counter->low);
    snprintf(full, sizeof(full), "%s-hi", name);
    json_member_uint(reply, full, counter->high);
}

static void write_smart(struct json_writer *reply, const struct nvme_smart *smart)
{
    json_name(reply, "smart");
    json_begin_object(reply);
    json_member_string(reply, "type", "nvme");
    json_member_uint(reply, "critical-warning", smart->critical_warning);
    json_member_uint(reply, "temperature", smart->temperature);
    json_member_uint(reply, "available-spare", smart->available_spare);
    json_member_uint(reply, "available-spare-threshold", smart->available_spare_threshold);
    json_member_uint(reply, "percentage-used", smart->percentage_used);
    write_counter(reply, "data-units-read", &smart->data_units_read);
    write_counter(reply, "data-units-written", &smart->data_units_written);
    write_counter(reply, "host-read-commands", &smart->host_read_commands);
    write_counter(reply, "host-write-commands", &smart->host_write_commands);
    write_counter(reply, "controller-busy-time", &smart->controller_busy_time);
    write_counter(reply, "power-cycles", &smart->power_cycles);
    write_counter(reply, "power-on-hours", &smart->power_on_hours);
    write_counter(reply, "unsafe-shutdowns", &smart->unsafe_shutdowns);
    write_counter(reply, "media-errors", &smart->media_errors);
    write_counter(reply, "number-of-error-log-entries", &smart->error_log_entries);
    json_end_object(reply);
}

struct smart_question {
    char node[NODE_MAX];
    bool is_known;
    struct nvme_smart smart;
};

static void ask_smart(void *argument)
{
    struct smart_question *question = argument;
    question->is_known =
        question->node[0] && nvme_smart_read(&question->smart, question->node) == 0;
}

/* Asks all NVMe disks; the others' questions stay empty. Returns NULL if there is no memory. */
static struct probe_set *ask_all_smart(struct disk *const *disks, size_t count)
{
    struct probe_set *set = probe_set_new(count, sizeof(struct smart_question), ask_smart, NULL);
    bool is_needed = false;
    for (size_t i = 0; set && i < count; i++) {
        const struct disk *disk = disks[i];
        struct smart_question *question = probe_set_question(set, i);
        /* the key: not one of the file systems' */
        probe_set_key(set, i,
                      (uint64_t)1 << 63 | (uint64_t)disk->device.major << 32 | disk->device.minor);
        if (disk->has_address && strcmp(disk->address.bus_type, "nvme") == 0)
            is_needed |=
                block_device_node(&disk->device, question->node, sizeof(question->node)) == 0;
    }
    if (is_needed)
        probe_set_run(set, SMART_TIMEOUT_MS);
    return set;
}

static int write_disk_info(struct json_writer *reply, const struct disk *disk,
                           const struct smart_question *answer)
{
    char alias[BLOCK_DEVICE_NAME_MAX];
    json_begin_object(reply);
    json_name(reply, "name");
    write_node(reply, &disk->device);
    int r = write_dependencies(reply, disk);
    json_member_bool(reply, "partition", disk->is_partition);
    if (disk->has_address) {
        json_name(reply, "address");
        write_address(reply, &disk->device, &disk->address);
    }
    if (block_device_alias(&disk->device, alias, sizeof(alias)) == 0)
        json_member_string(reply, "alias", alias);
    if (answer && answer->is_known)
        write_smart(reply, &answer->smart);
    json_end_object(reply);
    return r;
}

static int write_disks(struct call *call, struct disk_list *list)
{
    _cleanup_free_ struct disk **sorted = calloc(list->count + 1, sizeof(struct disk *));
    if (!sorted)
        return -ENOMEM;
    for (size_t i = 0; i < list->count; i++)
        sorted[i] = &list->items[i];
    qsort(sorted, list->count, sizeof(*sorted), compare_disks);

    call_step(call, "asking disks for their health");
    struct probe_set *smart = ask_all_smart(sorted, list->count);
    if (!smart)
        return -ENOMEM;
    /* From the end, so that partitions come before their disk, as in the classic agent's reply. */
    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    int r = 0;
    for (size_t i = list->count; r == 0 && i > 0; i--)
        r = write_disk_info(reply, sorted[i - 1], probe_set_answer(smart, i - 1));
    json_end_array(reply);
    probe_set_unref(smart);
    return r;
}

static enum call_next get_disks_run(struct call *call)
{
    _cleanup_(disk_list_deinit) struct disk_list list = {0};
    call_step(call, "reading /sys/class/block");
    int r = read_disks(&list);
    if (r == 0)
        r = write_disks(call, &list);
    return r < 0 ? call_fail_errno(call, -r, "failed to list the disks") : CALL_CONTINUE;
}

/* --- guest-get-diskstats --- */

/* The fields after the name, in the kernel's order (Documentation/admin-guide/iostats.rst). */
static const char *const stat_names[] = {
    "read-ios",     "read-merges",   "read-sectors",   "read-ticks",      "write-ios",
    "write-merges", "write-sectors", "write-ticks",    "ios-pgr",         "total-ticks",
    "weight-ticks", "discard-ios",   "discard-merges", "discard-sectors", "discard-ticks",
    "flush-ios",    "flush-ticks",
};

static void write_stats(struct json_writer *reply, char *fields)
{
    json_name(reply, "stats");
    json_begin_object(reply);
    for (size_t i = 0; i < ARRAY_SIZE(stat_names); i++) {
        char *end;
        uint64_t value = strtoull(fields, &end, 10);
        if (end == fields) /* older kernels have fewer */
            break;
        json_member_uint(reply, stat_names[i], value);
        fields = end;
    }
    json_end_object(reply);
}

/* "   8       0 sda 94 0 2181 25 2 0 4096 1 0 44 26 0 0 0 0 0 0" */
static void write_stats_line(struct json_writer *reply, char *line)
{
    unsigned major, minor;
    int name_at = 0, name_end = 0;
    if (sscanf(line, "%u %u %n%*s%n", &major, &minor, &name_at, &name_end) != 2 || name_end == 0)
        return;
    json_begin_object(reply);
    json_name(reply, "name");
    json_string_n(reply, line + name_at, (size_t)(name_end - name_at));
    write_stats(reply, line + name_end);
    json_member_uint(reply, "minor", minor);
    json_member_uint(reply, "major", major);
    json_end_object(reply);
}

static enum call_next get_diskstats_run(struct call *call)
{
    enum { DISKSTATS_MAX = 64 * 1024 * 1024 };
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    int r = sysroot_read(&text, DISKSTATS_MAX, "/proc/diskstats");
    if (r < 0)
        return call_fail_errno(call, -r, "failed to read /proc/diskstats");
    struct json_writer *reply = call_reply(call);
    json_begin_array(reply);
    for (char *rest = text.data, *line; (line = strsep(&rest, "\n"));)
        write_stats_line(reply, line);
    json_end_array(reply);
    return CALL_CONTINUE;
}

/* --- the rows --- */

static const struct capability_need fsinfo_needs[] = {
    {CAP_DAC_READ_SEARCH, "tell how full is what is mounted below private folders",
     .is_extra = true},
    CAPABILITY_NEEDS_END,
};

static const struct capability_need disks_needs[] = {
    {CAP_SYS_ADMIN, "ask NVMe disks for their SMART data", .is_extra = true},
    CAPABILITY_NEEDS_END,
};

static const struct command commands[] = {
    {
        .name = "guest-get-fsinfo",
        .summary = "The mounted file systems that lie on disks, and which disks these are",
        .run = get_fsinfo_run,
        .needs = fsinfo_needs,
    },
    {
        .name = "guest-get-disks",
        .summary = "The disks and partitions, where they are plugged in and what they consist of",
        .run = get_disks_run,
        .needs = disks_needs,
    },
    {
        .name = "guest-get-diskstats",
        .summary = "The disks' counters of reads, writes, discards and flushes",
        .run = get_diskstats_run,
    },
};

const struct command_family disks_commands = COMMAND_FAMILY(commands);
