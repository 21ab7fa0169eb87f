/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/nvme-smart.h"

/* Written by hand from the NVMe base specification: every field has a value of its own. */
static void test_parse(void **state)
{
    uint8_t page[NVME_SMART_PAGE_BYTES] = {0x81, 0x43, 0x01, 99, 10, 255};
    for (unsigned i = 0; i < 10; i++) {
        page[32 + 16 * i] = (uint8_t)(i + 1);
        page[32 + 16 * i + 7] = 0xff;
        page[32 + 16 * i + 8] = (uint8_t)(i + 101);
        page[32 + 16 * i + 9] = 1;
    }
    struct nvme_smart smart;
    nvme_smart_parse(&smart, page);
    assert_int_equal(smart.critical_warning, 0x81);
    assert_int_equal(smart.temperature, 323);
    assert_int_equal(smart.available_spare, 99);
    assert_int_equal(smart.available_spare_threshold, 10);
    assert_int_equal(smart.percentage_used, 255);
    const struct nvme_counter *const counters[] = {
        &smart.data_units_read,     &smart.data_units_written,   &smart.host_read_commands,
        &smart.host_write_commands, &smart.controller_busy_time, &smart.power_cycles,
        &smart.power_on_hours,      &smart.unsafe_shutdowns,     &smart.media_errors,
        &smart.error_log_entries,
    };
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(counters[i]->low, (0xffULL << 56) + i + 1);
        assert_int_equal(counters[i]->high, 256 + i + 101);
    }
}

static void test_what_is_no_nvme(void **state)
{
    struct nvme_smart smart;
    assert_int_equal(nvme_smart_read(&smart, "/dev/null"), -ENOTTY);
    assert_int_equal(nvme_smart_read(&smart, "/dev/none"), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_what_is_no_nvme),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
