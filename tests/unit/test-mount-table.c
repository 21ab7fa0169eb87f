/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "base/buffer.h"
#include "base/mount-table.h"
#include "file-tree.h"

static struct mount_table parse(const char *text)
{
    struct buffer buffer = BUFFER_INIT;
    struct mount_table table;
    buffer_append_text(&buffer, text);
    assert_int_equal(mount_table_parse_take(&table, &buffer), 0);
    assert_null(buffer.data);
    return table;
}

static void test_one_line(void **state)
{
    /* proc_pid_mountinfo(5)'s own example, and one without optional fields. */
    struct mount_table table =
        parse("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:2 - ext3 /dev/root "
              "rw,errors=continue\n"
              "40 35 0:44 / /a rw - tmpfs none rw\n");
    assert_int_equal(table.count, 2);
    const struct mount *mount = &table.mounts[0];
    assert_int_equal(mount->id, 36);
    assert_int_equal(mount->parent_id, 35);
    assert_int_equal(mount->major, 98);
    assert_int_equal(mount->minor, 0);
    assert_string_equal(mount->root, "/mnt1");
    assert_string_equal(mount->point, "/mnt2");
    assert_string_equal(mount->options, "rw,noatime");
    assert_string_equal(mount->type, "ext3");
    assert_string_equal(mount->source, "/dev/root");
    assert_string_equal(mount->super_options, "rw,errors=continue");
    assert_string_equal(table.mounts[1].type, "tmpfs");
    mount_table_deinit(&table);
}

static void test_escapes(void **state)
{
    struct mount_table table =
        parse("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
              "2 1 8:2 / /a\\040b\\011c\\012d\\134040\\043 rw - ext4 /dev/disk/by\\040x rw\n"
              "3 1 8:3 / /\xff\\303\\244\\777\\04 rw - fuse.\\040x  rw\n");
    assert_int_equal(table.count, 3);
    assert_string_equal(table.mounts[1].point, "/a b\tc\nd\\040#");
    assert_string_equal(table.mounts[1].source, "/dev/disk/by x");
    /* What the kernel never writes is left as it is; bytes are bytes; a source may be empty. */
    assert_string_equal(table.mounts[2].point, "/\xff\xc3\xa4\\777\\04");
    assert_string_equal(table.mounts[2].type, "fuse. x");
    assert_string_equal(table.mounts[2].source, "");
    mount_table_deinit(&table);
}

static void test_broken_lines_are_left_out(void **state)
{
    struct mount_table table = parse("\nnonsense\n1 0 8:1 / / rw - ext4 /dev/sda1\n"
                                     "1 0 8:1 / / rw shared:1 ext4 /dev/sda1 rw\n"
                                     "1 0 8:1\n"
                                     "1 0 8-1 / / rw - ext4 /dev/sda1 rw\n"
                                     "1 0 8:1 / point rw - ext4 /dev/sda1 rw\n"
                                     "7 0 8:1 / / rw - ext4 /dev/sda1 rw");
    assert_int_equal(table.count, 1);
    assert_int_equal(table.mounts[0].id, 7);
    mount_table_deinit(&table);
    table = parse("");
    assert_int_equal(table.count, 0);
    assert_null(mount_table_find_path(&table, "/"));
    mount_table_deinit(&table);
}

static void test_superblocks(void **state)
{
    struct mount_table table = parse("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
                                     "2 1 0:20 / /proc rw - proc proc rw\n"
                                     "3 1 8:2 /sub /bind rw - xfs /dev/sda2 rw\n"
                                     "4 1 8:1 /home /home rw - ext4 /dev/sda1 rw\n"
                                     "5 1 8:2 / /data rw - xfs /dev/sda2 rw\n"
                                     "6 1 0:33 / /pool rw - btrfs /dev/sdb rw\n"
                                     "7 1 0:34 / /net rw - nfs4 server:/x rw\n");
    static const size_t superblocks[] = {0, 1, 2, 0, 2, 3, 4}, mounts[] = {0, 1, 2, 5, 6};
    assert_int_equal(table.superblock_count, 5);
    for (size_t i = 0; i < table.count; i++)
        assert_int_equal(table.mounts[i].superblock, superblocks[i]);
    for (size_t i = 0; i < table.superblock_count; i++)
        assert_int_equal(table.superblocks[i].mount, mounts[i]);
    assert_int_equal(table.superblocks[2].major, 8);
    assert_int_equal(table.superblocks[2].minor, 2);

    static const bool on_disk[] = {true, false, true, true, true, true, false};
    for (size_t i = 0; i < table.count; i++)
        assert_int_equal(mount_is_on_disk(&table.mounts[i]), on_disk[i]);
    mount_table_deinit(&table);
}

/* Which mounts can be reached, as a text of their ids. */
static void expect_reachable(const char *text, const char *expected)
{
    struct mount_table table = parse(text);
    struct buffer ids = BUFFER_INIT;
    buffer_append_text(&ids, "");
    for (size_t i = 0; i < table.count; i++)
        if (table.mounts[i].is_reachable)
            buffer_append_format(&ids, "%d ", table.mounts[i].id);
    assert_string_equal(ids.data, expected);
    buffer_deinit(&ids);
    mount_table_deinit(&table);
}

#define LINE(id, parent, point) #id " " #parent " 8:" #id " / " point " rw - ext4 /dev/x rw\n"

static void test_covered_mounts(void **state)
{
    expect_reachable(LINE(1, 1, "/") LINE(2, 1, "/a") LINE(3, 2, "/a/b"), "1 2 3 ");
    /* one on top of another */
    expect_reachable(LINE(1, 0, "/") LINE(2, 1, "/a") LINE(3, 2, "/a") LINE(4, 3, "/a/b"),
                     "1 3 4 ");
    /* what was below the covered one */
    expect_reachable(LINE(1, 0, "/") LINE(2, 1, "/a") LINE(3, 2, "/a/b") LINE(4, 2, "/a"), "1 4 ");
    /* a mount on a directory above; /a-b and /ab are not below /a */
    expect_reachable(LINE(1, 0, "/") LINE(2, 1, "/a/b") LINE(3, 2, "/a/b/c") LINE(4, 1, "/a-b")
                         LINE(5, 1, "/ab") LINE(6, 1, "/a/b/d") LINE(7, 1, "/a"),
                     "1 4 5 7 ");
    /* the root itself: an initramfs that was mounted over */
    expect_reachable(LINE(1, 1, "/") LINE(2, 1, "/old") LINE(3, 1, "/") LINE(4, 3, "/proc"),
                     "3 4 ");
    /* parents that come later, or cannot be seen (chroot) */
    expect_reachable(LINE(3, 2, "/a/b") LINE(2, 1, "/a") LINE(1, 0, "/"), "3 2 1 ");
    expect_reachable(LINE(2, 100, "/a") LINE(3, 101, "/b") LINE(4, 2, "/a/c"), "2 3 4 ");
    /* tables that the kernel does not make must not hang anything */
    expect_reachable(LINE(9, 1, "/x") LINE(1, 2, "/a") LINE(2, 3, "/b") LINE(3, 1, "/c"),
                     "9 1 2 3 ");
    expect_reachable(LINE(1, 0, "/") LINE(1, 0, "/"), "1 1 ");
}

static void test_superblock_is_shown_where_it_can_be_reached(void **state)
{
    struct mount_table table = parse("1 0 0:2 / / rw - rootfs rootfs rw\n"
                                     "2 1 8:1 / /a rw - ext4 /dev/sda1 rw\n"
                                     "3 2 8:2 / /a rw - ext4 /dev/sda2 rw\n"
                                     "4 1 8:1 / /b rw - ext4 /dev/sda1 rw\n"
                                     "5 1 8:1 / /c rw - ext4 /dev/sda1 rw\n"
                                     "6 3 8:3 / /a/x rw - ext4 /dev/sda3 rw\n"
                                     "7 6 0:9 / /a/x rw - tmpfs none rw\n");
    assert_int_equal(table.superblocks[1].mount, 3); /* /b, as /a leads to another */
    assert_int_equal(table.superblocks[3].mount, 5); /* nowhere; so the only one there is */
    assert_false(table.mounts[5].is_reachable);
    mount_table_deinit(&table);
}

static void expect_found(const struct mount_table *table, const char *path, int id)
{
    const struct mount *mount = mount_table_find_path(table, path);
    assert_int_equal(mount ? mount->id : -1, id);
}

static void test_find_path(void **state)
{
    struct mount_table table = parse(LINE(1, 0, "/") LINE(2, 1, "/mnt/lv") LINE(
        3, 1, "/mnt/lvm") LINE(4, 2, "/mnt/lv/x/y") LINE(5, 3, "/mnt/lvm") LINE(6, 1, "/mnt/loop"));
    expect_found(&table, "/", 1);
    expect_found(&table, "/file", 1);
    expect_found(&table, "/mnt", 1);
    expect_found(&table, "/mnt/l", 1);
    expect_found(&table, "/mnt/lv", 2);
    expect_found(&table, "/mnt/lv/", 2);
    expect_found(&table, "/mnt/lv/image", 2);
    expect_found(&table, "/mnt/lv/x", 2);
    expect_found(&table, "/mnt/lv/x/y/z/w", 4);
    expect_found(&table, "/mnt/lvm/image", 5);
    expect_found(&table, "/mnt/lvmm", 1);
    mount_table_deinit(&table);
}

static bool is_same_text(const char *left, const char *right)
{
    return strcmp(left, right) == 0;
}

/* Sources may differ: libmount knows what "/dev/root" is. */
static bool is_same_table(const struct mount_table *left, const struct mount_table *right)
{
    if (left->count != right->count || left->point_count != right->point_count ||
        left->superblock_count != right->superblock_count)
        return false;
    for (size_t i = 0; i < left->count; i++) {
        const struct mount *a = &left->mounts[i], *b = &right->mounts[i];
        if (a->id != b->id || a->parent_id != b->parent_id || a->major != b->major ||
            a->minor != b->minor || a->superblock != b->superblock ||
            a->is_reachable != b->is_reachable || !is_same_text(a->root, b->root) ||
            !is_same_text(a->point, b->point) || !is_same_text(a->options, b->options) ||
            !is_same_text(a->type, b->type) || !is_same_text(a->super_options, b->super_options))
            return false;
    }
    return true;
}

/* Others may mount something between the two looks. */
static void test_library_and_text_tell_the_same(void **state)
{
    bool is_same = false;
    for (unsigned try = 0; !is_same && try < 100; try++) {
        struct mount_table loaded, parsed;
        struct buffer text = BUFFER_INIT;
        assert_int_equal(mount_table_load(&loaded), 0);
        assert_int_equal(sysroot_read(&text, 1 << 24, "/proc/self/mountinfo"), 0);
        assert_int_equal(mount_table_parse_take(&parsed, &text), 0);
        is_same = is_same_table(&loaded, &parsed);
        mount_table_deinit(&loaded);
        mount_table_deinit(&parsed);
    }
    assert_true(is_same);
}

static void test_load(void **state)
{
    char root[32];
    struct mount_table table;
    assert_int_equal(mount_table_load(&table), 0); /* this machine's: whatever there is */
    assert_true(table.count > 0);
    assert_non_null(mount_table_find_path(&table, "/"));
    mount_table_deinit(&table);

    file_tree_use(root, "file /proc/1/mountinfo\n|1 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
    assert_int_equal(mount_table_load(&table), 0);
    assert_int_equal(table.count, 1);
    mount_table_deinit(&table);
    file_tree_remove(root);

    file_tree_use(root, "dir /proc\n");
    assert_int_equal(mount_table_load(&table), -ENOENT);
    file_tree_remove(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_broken_lines_are_left_out),
        cmocka_unit_test(test_superblocks),
        cmocka_unit_test(test_covered_mounts),
        cmocka_unit_test(test_superblock_is_shown_where_it_can_be_reached),
        cmocka_unit_test(test_find_path),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_library_and_text_tell_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
