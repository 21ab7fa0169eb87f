/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/buffer.h"
#include "base/freeze-plan.h"
#include "base/mount-table.h"
#include "base/storage.h"
#include "base/text-list.h"
#include "file-tree.h"

static char root[32];
static struct mount_table table;
static struct storage storage;

static int remove_tree(void **state)
{
    storage_deinit(&storage);
    mount_table_deinit(&table);
    file_tree_remove(root);
    return 0;
}

static void load(const char *text)
{
    file_tree_use(root, text);
    assert_int_equal(mount_table_load(&table), 0);
    assert_int_equal(storage_init(&storage, &table), 0);
}

/* The mount points in the plan's order, separated by spaces. */
static void expect_choice(const struct freeze_choice *choice, const char *expected)
{
    struct freeze_plan plan;
    struct buffer found = BUFFER_INIT;
    buffer_append_text(&found, "");
    assert_int_equal(freeze_plan_build(&table, &storage, choice, &plan), 0);
    for (size_t i = 0; i < plan.count; i++)
        buffer_append_format(&found, "%s%s", i > 0 ? " " : "", plan.mounts[i]->point);
    assert_string_equal(found.data, expected);
    buffer_deinit(&found);
    freeze_plan_deinit(&plan);
}

static void expect_all(const char *expected)
{
    expect_choice(&(struct freeze_choice){.all = true}, expected);
}

static void expect_list(const char *one, const char *two, const char *expected)
{
    const char *points[] = {one, two};
    expect_choice(&(struct freeze_choice){.points = points, .point_count = two ? 2 : 1}, expected);
}

#define VIRTUAL(number, name)                                               \
    "link /sys/dev/block/" number " ../../devices/virtual/block/" name "\n" \
    "link /sys/class/block/" name " ../../devices/virtual/block/" name "\n" \
    "file /sys/devices/virtual/block/" name "/dev\n|" number "\n"
#define SLAVE(name, slave) "link /sys/devices/virtual/block/" name "/slaves/" slave " ../x\n"
#define LOOP(number, name, path) \
    VIRTUAL(number, name) "file /sys/devices/virtual/block/" name "/loop/backing_file\n|" path "\n"

static void test_the_newest_first(void **state)
{
    load("file /proc/1/mountinfo\n"
         "|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
         "|2 1 0:5 / /proc rw - proc proc rw\n"
         "|3 1 8:2 / /a rw - xfs /dev/sda2 rw\n"
         "|4 1 0:40 / /nfs rw - nfs server:/x rw\n"
         "|5 1 0:41 / /tmp rw - tmpfs tmpfs rw\n"
         "|6 1 0:42 / /btrfs rw - btrfs /dev/sdb rw\n"
         "|7 1 8:3 / /b rw - ext4 /dev/sda3 rw\n");
    expect_all("/b /btrfs /a /");
}

static void test_each_once(void **state)
{
    load("file /proc/1/mountinfo\n"
         "|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
         "|2 1 8:2 / /a rw - xfs /dev/sda2 rw\n"
         "|3 1 8:1 /sub /bind rw - ext4 /dev/sda1 rw\n"
         "|4 1 8:2 / /again rw - xfs /dev/sda2 rw\n");
    expect_all("/a /");
    expect_list("/bind", "/", "/"); /* by the oldest one that is named */
    expect_list("/bind", "/again", "/again /bind");
    expect_list("/again", NULL, "/again");
}

static void test_names_that_are_none(void **state)
{
    load("file /proc/1/mountinfo\n"
         "|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
         "|2 1 8:2 / /a rw - xfs /dev/sda2 rw\n"
         "|3 1 0:5 / /proc rw - proc proc rw\n");
    expect_list("/a/", "/none", "");
    expect_list("/proc", "", "");
    expect_list("a", "/a", "/a");
    expect_choice(&(struct freeze_choice){.all = false}, "");
}

/* A loop device's file system is frozen before the one of its file, whichever is newer. */
static void test_loop_devices(void **state)
{
    load("file /proc/1/mountinfo\n"
         "|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
         "|2 1 7:0 / /inner rw - ext4 /dev/loop0 rw\n"
         "|3 1 7:1 / /outer rw - ext4 /dev/loop1 rw\n"
         "|4 1 8:2 / /data rw - ext4 /dev/sda2 rw\n"
         "|5 1 8:3 / /other rw - ext4 /dev/sda3 rw\n" LOOP("7:0", "loop0", "/outer/file")
             LOOP("7:1", "loop1", "/data/file"));
    expect_all("/other /inner /outer /data /");
    expect_list("/data", "/inner", "/inner /data"); /* what is between them is not frozen */
}

/* Written by hand: LVM on a loop device, and a RAID of such. */
static void test_devices_made_of_loop_devices(void **state)
{
    load("file /proc/1/mountinfo\n"
         "|1 0 252:1 / / rw - ext4 /dev/mapper/vg-root rw\n"
         "|2 1 9:0 / /raid rw - ext4 /dev/md0 rw\n"
         "|3 1 8:2 / /data rw - ext4 /dev/sda2 rw\n" VIRTUAL("252:1", "dm-1") SLAVE("dm-1", "loop0")
             VIRTUAL("9:0", "md0") SLAVE("md0", "loop1") SLAVE("md0", "loop2")
                 LOOP("7:0", "loop0", "/raid/root.img") LOOP("7:1", "loop1", "/data/1")
                     LOOP("7:2", "loop2", "/data/2"));
    expect_all("/ /raid /data");
}

/* No machine is like this, but every file system is to be in the plan all the same. */
static void test_what_rests_on_each_other(void **state)
{
    load("file /proc/1/mountinfo\n"
         "|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
         "|2 1 7:0 / /a rw - ext4 /dev/loop0 rw\n"
         "|3 1 7:1 / /b rw - ext4 /dev/loop1 rw\n"
         "|4 1 7:2 / /c rw - ext4 /dev/loop2 rw\n" LOOP("7:0", "loop0", "/b/file")
             LOOP("7:1", "loop1", "/a/file") LOOP("7:2", "loop2", "/c/file"));
    expect_all("/c / /b /a");
}

static void test_excluded(void **state)
{
    struct text_list exclude = {0};
    load("file /proc/1/mountinfo\n"
         "|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
         "|2 1 8:2 / /a rw - xfs /dev/sda2 rw\n"
         "|3 1 8:2 / /again rw - xfs /dev/sda2 rw\n"
         "|4 1 8:3 / /b rw - xfs /dev/sda3 rw\n");
    assert_int_equal(text_list_append_format(&exclude, "/again"), 0);
    assert_int_equal(text_list_append_format(&exclude, "/none"), 0);
    struct freeze_choice choice = {.all = true, .exclude = &exclude};
    expect_choice(&choice, "/b /");
    const char *points[] = {"/a", "/b"};
    choice = (struct freeze_choice){.points = points, .point_count = 2, .exclude = &exclude};
    expect_choice(&choice, "/b");
    text_list_deinit(&exclude);
}

/* The path of a covered mount leads to another file system. */
static void test_covered(void **state)
{
    struct freeze_plan plan;
    load("file /proc/1/mountinfo\n"
         "|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
         "|2 1 8:2 / /a rw - ext4 /dev/sda2 rw\n"
         "|3 2 8:3 / /a rw - ext4 /dev/sda3 rw\n"
         "|4 1 8:4 / /b rw - ext4 /dev/sda4 rw\n"
         "|5 4 0:40 / /b rw - tmpfs tmpfs rw\n"
         "|6 1 8:4 / /elsewhere rw - ext4 /dev/sda4 rw\n");
    expect_all("/elsewhere /a /");
    expect_list("/a", "/b", "/a");
    assert_int_equal(
        freeze_plan_build(&table, &storage, &(struct freeze_choice){.all = true}, &plan), 0);
    assert_int_equal(plan.unreachable, 1);
    assert_int_equal(plan.mounts[1]->minor, 3);
    freeze_plan_deinit(&plan);
}

#define tree_test(test) cmocka_unit_test_teardown(test, remove_tree)

int main(void)
{
    const struct CMUnitTest tests[] = {
        tree_test(test_the_newest_first),
        tree_test(test_each_once),
        tree_test(test_names_that_are_none),
        tree_test(test_loop_devices),
        tree_test(test_devices_made_of_loop_devices),
        tree_test(test_what_rests_on_each_other),
        tree_test(test_excluded),
        tree_test(test_covered),
    };
    return cmocka_run_group_tests_name("freeze-plan", tests, NULL, NULL);
}
