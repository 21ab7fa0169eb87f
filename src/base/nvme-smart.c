/* SPDX-License-Identifier: MIT */
#include "base/nvme-smart.h"

#include <fcntl.h>
#include <linux/nvme_ioctl.h>
#include <sys/ioctl.h>

#include "base/sysroot.h"

/* Opcode and log page of the NVMe base specification. */
enum { ADMIN_GET_LOG_PAGE = 0x02, LOG_SMART = 0x02 };
static const uint32_t ALL_NAMESPACES = 0xffffffff;

static uint64_t little_endian(const uint8_t *bytes, unsigned count)
{
    uint64_t value = 0;
    while (count > 0)
        value = value << 8 | bytes[--count];
    return value;
}

static struct nvme_counter counter(const uint8_t *bytes)
{
    return (struct nvme_counter){
        .low = little_endian(bytes, 8),
        .high = little_endian(bytes + 8, 8),
    };
}

void nvme_smart_parse(struct nvme_smart *ret_smart, const uint8_t page[NVME_SMART_PAGE_BYTES])
{
    *ret_smart = (struct nvme_smart){
        .critical_warning = page[0],
        .temperature = (unsigned)little_endian(page + 1, 2),
        .available_spare = page[3],
        .available_spare_threshold = page[4],
        .percentage_used = page[5],
        .data_units_read = counter(page + 32),
        .data_units_written = counter(page + 48),
        .host_read_commands = counter(page + 64),
        .host_write_commands = counter(page + 80),
        .controller_busy_time = counter(page + 96),
        .power_cycles = counter(page + 112),
        .power_on_hours = counter(page + 128),
        .unsafe_shutdowns = counter(page + 144),
        .media_errors = counter(page + 160),
        .error_log_entries = counter(page + 176),
    };
}

int nvme_smart_read(struct nvme_smart *ret_smart, const char *node)
{
    uint8_t page[NVME_SMART_PAGE_BYTES] = {0};
    struct nvme_admin_cmd command = {
        .opcode = ADMIN_GET_LOG_PAGE,
        .nsid = ALL_NAMESPACES,
        .addr = (uintptr_t)page,
        .data_len = sizeof(page),
        /* the number of double words less one, and the page */
        .cdw10 = (sizeof(page) / 4 - 1) << 16 | LOG_SMART,
    };
    _cleanup_close_ int fd = sysroot_open(O_RDONLY | O_NONBLOCK, "%s", node);
    if (fd < 0)
        return fd;
    int r = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &command);
    if (r < 0)
        return -errno;
    if (r > 0) /* the disk's own status */
        return -EIO;
    nvme_smart_parse(ret_smart, page);
    return 0;
}
