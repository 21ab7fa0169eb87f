/* SPDX-License-Identifier: MIT */
/*
 * Slices: whatever the geometry, they cover everything once, end where they may, and add up; what
 * ext4 remembers is put back. FITRIM is the test's own: no file system is asked anything.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/discard.h"

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

enum { SLICES_MAX = 100000 };

static struct fstrim_range slices[SLICES_MAX];
static size_t begun, trimmed, ended;
static size_t stop_at; /* `begin` refuses that one */
static int fail_with;
static size_t fail_at;
static struct discard_progress last_progress;
static int memory_fd = -1;

static bool begin(void *context, const struct discard_progress *progress)
{
    assert_int_equal(begun, ended);
    last_progress = *progress;
    if (begun == stop_at)
        return false;
    begun++;
    return true;
}

static void end(void *context)
{
    ended++;
}

static void remember(uint64_t value)
{
    char text[32];
    int length = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)value);
    assert_int_equal(ftruncate(memory_fd, 0), 0);
    assert_int_equal(pwrite(memory_fd, text, (size_t)length, 0), length);
}

static uint64_t remembered(void)
{
    char text[32] = "";
    assert_true(pread(memory_fd, text, sizeof(text) - 1, 0) > 0);
    return strtoull(text, NULL, 10);
}

/* All of a slice is free; the disk's own least is 4096. */
static int trim(void *context, int fd, struct fstrim_range *range)
{
    assert_int_equal(fd, 77);
    assert_true(begun == ended + 1);
    assert_true(trimmed < SLICES_MAX);
    slices[trimmed++] = *range;
    if (fail_with && trimmed - 1 == fail_at)
        return -fail_with;
    if (memory_fd >= 0)
        remember(range->minlen);
    range->len = range->len > GIB * 1024 ? 1 : range->len; /* the last one's length is no number */
    if (range->minlen < 4096)
        range->minlen = 4096;
    return 0;
}

static const struct discard_hooks hooks = {.begin = begin, .end = end, .trim = trim};

static int setup(void **state)
{
    begun = trimmed = ended = 0;
    stop_at = SIZE_MAX;
    fail_with = 0;
    fail_at = 0;
    memory_fd = -1;
    return 0;
}

static int run(const struct discard_geometry *geometry, struct discard_result *ret_result)
{
    int error = discard_run(77, geometry, 512, &hooks, ret_result);
    assert_int_equal(begun, ended);
    return error;
}

static void check_slices(const struct discard_geometry *geometry)
{
    uint64_t start = 0;
    for (size_t i = 0; i < trimmed; i++) {
        assert_int_equal(slices[i].start, start);
        assert_int_equal(slices[i].minlen, 512);
        uint64_t until = start + slices[i].len;
        if (i + 1 == trimmed) {
            assert_int_equal(until, UINT64_MAX);
            break;
        }
        assert_true(until > start && until < geometry->size_bytes);
        assert_int_equal((until - geometry->first_bytes) % geometry->unit_bytes, 0);
        start = until;
    }
}

static void test_slices(void **state)
{
    static const struct discard_geometry geometries[] = {
        {.unit_bytes = 128 * MIB, .size_bytes = 1024 * GIB, .memory_fd = -1},
        {.first_bytes = 1024, .unit_bytes = 8 * MIB, .size_bytes = 10 * GIB + 5, .memory_fd = -1},
        {.first_bytes = 1024, .unit_bytes = 12345 * 1024, .size_bytes = 9 * GIB, .memory_fd = -1},
        {.unit_bytes = 3 * GIB, .size_bytes = 10 * GIB, .memory_fd = -1},
        {.unit_bytes = 1024 * GIB, .size_bytes = 4096 * GIB, .memory_fd = -1},
        {.unit_bytes = GIB, .size_bytes = GIB, .memory_fd = -1},
        {.unit_bytes = GIB, .size_bytes = GIB + 1, .memory_fd = -1},
        {.unit_bytes = GIB, .size_bytes = 5, .memory_fd = -1},
        {.unit_bytes = UINT64_MAX / 2, .size_bytes = UINT64_MAX, .memory_fd = -1},
    };
    for (size_t i = 0; i < sizeof(geometries) / sizeof(geometries[0]); i++) {
        struct discard_result result;
        setup(NULL);
        assert_int_equal(run(&geometries[i], &result), 0);
        check_slices(&geometries[i]);
        assert_int_equal(result.minimum_bytes, 4096);
        uint64_t sum = 0;
        for (size_t j = 0; j < trimmed; j++)
            sum += slices[j].len > GIB * 1024 ? 1 : slices[j].len;
        assert_int_equal(result.trimmed_bytes, sum);
    }
}

static void test_whole(void **state)
{
    const struct discard_geometry geometry = {.size_bytes = 4096 * GIB, .memory_fd = -1};
    struct discard_result result;
    assert_int_equal(run(&geometry, &result), 0);
    assert_int_equal(trimmed, 1);
    assert_int_equal(slices[0].start, 0);
    assert_int_equal(slices[0].len, UINT64_MAX);
    assert_int_equal(last_progress.size_bytes, 4096 * GIB);
}

static const struct discard_geometry groups = {
    .unit_bytes = 128 * MIB, .size_bytes = 10 * GIB, .memory_fd = -1};

static void test_cancelled(void **state)
{
    struct discard_result result;
    stop_at = 2;
    assert_int_equal(run(&groups, &result), -ECANCELED);
    assert_int_equal(trimmed, 2);
    assert_int_equal(result.trimmed_bytes, slices[0].len + slices[1].len);
    assert_int_equal(last_progress.done_bytes, slices[1].start + slices[1].len);
    assert_int_equal(last_progress.trimmed_bytes, result.trimmed_bytes);

    setup(NULL);
    stop_at = 0;
    assert_int_equal(run(&groups, &result), -ECANCELED);
    assert_int_equal(trimmed, 0);
}

static void test_errors(void **state)
{
    struct discard_result result;
    fail_with = EOPNOTSUPP;
    assert_int_equal(run(&groups, &result), -EOPNOTSUPP);
    assert_int_equal(result.trimmed_bytes, 0);

    setup(NULL);
    fail_with = EIO;
    fail_at = 1;
    assert_int_equal(run(&groups, &result), -EIO);
    assert_int_equal(result.trimmed_bytes, slices[0].len);

    setup(NULL);
    fail_with = EINVAL; /* the minimum is more than there can be */
    assert_int_equal(run(&groups, &result), -EINVAL);

    setup(NULL);
    fail_with = EINVAL; /* the file system ends before that */
    fail_at = 2;
    assert_int_equal(run(&groups, &result), 0);
    assert_true(result.trimmed_bytes > 0);
}

static void check_memory(uint64_t before, uint64_t expected_after, size_t stop)
{
    struct discard_geometry geometry = groups;
    struct discard_result result;
    char name[] = "/tmp/bellhop-test-discard-XXXXXX";
    setup(NULL);
    stop_at = stop;
    geometry.memory_fd = memory_fd = mkstemp(name);
    assert_true(memory_fd >= 0);
    unlink(name);
    remember(before);
    assert_int_equal(run(&geometry, &result), stop == SIZE_MAX ? 0 : -ECANCELED);
    assert_int_equal(remembered(), expected_after);
    assert_true(trimmed > 1);
    discard_geometry_deinit(&geometry);
    assert_int_equal(geometry.memory_fd, -1);
    memory_fd = -1;
}

/* As FITRIM of the whole leaves it; but one that did not come to its end has not forgotten. */
static void test_what_ext4_remembers(void **state)
{
    check_memory(0, 512, SIZE_MAX);
    check_memory(100, 512, SIZE_MAX);
    check_memory(4096, 512, SIZE_MAX);
    check_memory(4096, 4096, 2);
    check_memory(100, 512, 2);
}

static void put(uint8_t *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
}

static void test_ext_superblock(void **state)
{
    uint8_t superblock[EXT_SUPERBLOCK_BYTES] = {0};
    struct discard_geometry geometry;
    assert_false(discard_geometry_parse_ext(&geometry, superblock));
    put(superblock + 0x38, 0xef53);
    assert_false(discard_geometry_parse_ext(&geometry, superblock)); /* no groups */
    put(superblock + 0x4, 1000);
    put(superblock + 0x14, 1);
    put(superblock + 0x20, 8192);
    assert_true(discard_geometry_parse_ext(&geometry, superblock));
    assert_int_equal(geometry.first_bytes, 1024);
    assert_int_equal(geometry.unit_bytes, 8 * MIB);
    assert_int_equal(geometry.size_bytes, 1024000);
    assert_int_equal(geometry.memory_fd, -1);

    put(superblock + 0x14, 0);
    put(superblock + 0x18, 2);
    put(superblock + 0x20, 32768);
    put(superblock + 0x150, 1);
    assert_true(discard_geometry_parse_ext(&geometry, superblock));
    assert_int_equal(geometry.size_bytes, 4096000); /* not a file system of 64 bits */
    put(superblock + 0x60, 0x80);
    assert_true(discard_geometry_parse_ext(&geometry, superblock));
    assert_int_equal(geometry.unit_bytes, 128 * MIB);
    assert_int_equal(geometry.size_bytes, (1000 + (UINT64_C(1) << 32)) * 4096);

    put(superblock + 0x150, UINT32_MAX);
    assert_false(discard_geometry_parse_ext(&geometry, superblock));
    put(superblock + 0x18, 7);
    assert_false(discard_geometry_parse_ext(&geometry, superblock));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_slices, setup),
        cmocka_unit_test_setup(test_whole, setup),
        cmocka_unit_test_setup(test_cancelled, setup),
        cmocka_unit_test_setup(test_errors, setup),
        cmocka_unit_test_setup(test_what_ext4_remembers, setup),
        cmocka_unit_test_setup(test_ext_superblock, setup),
    };
    return cmocka_run_group_tests_name("discard", tests, NULL, NULL);
}
