/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_NVME_SMART_H
#define BELLHOP_BASE_NVME_SMART_H

/* The health of an NVMe disk: the SMART / health information log page (NVMe base specification). */

#include <stdint.h>

#include "base/cleanup.h"

/* A counter of 128 bits. */
struct nvme_counter {
    uint64_t low, high;
};

struct nvme_smart {
    unsigned critical_warning;
    unsigned temperature; /* kelvin */
    unsigned available_spare;
    unsigned available_spare_threshold;
    unsigned percentage_used;
    struct nvme_counter data_units_read;
    struct nvme_counter data_units_written;
    struct nvme_counter host_read_commands;
    struct nvme_counter host_write_commands;
    struct nvme_counter controller_busy_time;
    struct nvme_counter power_cycles;
    struct nvme_counter power_on_hours;
    struct nvme_counter unsafe_shutdowns;
    struct nvme_counter media_errors;
    struct nvme_counter error_log_entries;
};

enum { NVME_SMART_PAGE_BYTES = 512 };

/* Takes the log page apart. */
void nvme_smart_parse(struct nvme_smart *ret_smart, const uint8_t page[NVME_SMART_PAGE_BYTES]);

/*
 * Asks the disk with that node. Needs CAP_SYS_ADMIN. Waits for the disk, which may hang. Returns 0 or
 * -errno; -EIO if the disk refuses.
 */
int nvme_smart_read(struct nvme_smart *ret_smart, const char *node) MUST_CHECK;

#endif
