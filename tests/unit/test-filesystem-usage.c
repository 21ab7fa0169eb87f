/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "base/filesystem-usage.h"
#include "base/mount-table.h"
#include "file-tree.h"

enum { LONG_MS = 60000 };

/* A mount of the root directory's file system, whatever that is. */
static struct mount root_mount(void)
{
    struct stat status;
    assert_int_equal(stat("/", &status), 0);
    return (struct mount){
        .point = "/", .major = major(status.st_dev), .minor = minor(status.st_dev)};
}

static void test_sizes(void **state)
{
    struct mount mount = root_mount();
    struct mount other = mount, none = mount;
    other.point = "/proc"; /* as if something had been mounted over it */
    other.major = 250;
    none.point = "/no/such/place";
    const struct mount *mounts[] = {&other, &mount, &none};
    struct filesystem_usage usages[3];
    struct statvfs status;
    assert_int_equal(filesystem_usage_get(mounts, 3, LONG_MS, usages), 0);
    assert_int_equal(statvfs("/", &status), 0);
    assert_false(usages[0].is_known);
    assert_true(usages[1].is_known);
    assert_false(usages[2].is_known);
    assert_int_equal(usages[1].total_bytes_privileged, status.f_blocks * status.f_frsize);
    assert_true(usages[1].total_bytes <= usages[1].total_bytes_privileged);
    assert_true(usages[1].used_bytes <= usages[1].total_bytes);
    /* both follow from what is free, which others change meanwhile */
    assert_true(usages[1].total_bytes - usages[1].used_bytes <=
                usages[1].total_bytes_privileged - usages[1].used_bytes);
    assert_int_equal(filesystem_usage_get(NULL, 0, LONG_MS, usages), 0);
}

static void test_below_a_prefix(void **state)
{
    char root[32];
    struct mount mount = root_mount();
    struct filesystem_usage usage;
    mount.point = "/here";
    const struct mount *mounts[] = {&mount};
    file_tree_use(root, "dir /here\n");
    struct stat status;
    assert_int_equal(stat(root, &status), 0);
    mount.major = major(status.st_dev);
    mount.minor = minor(status.st_dev);
    assert_int_equal(filesystem_usage_get(mounts, 1, LONG_MS, &usage), 0);
    assert_true(usage.is_known);
    mount.point = "/etc"; /* not the real one */
    assert_int_equal(filesystem_usage_get(mounts, 1, LONG_MS, &usage), 0);
    assert_false(usage.is_known);
    file_tree_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_below_a_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
