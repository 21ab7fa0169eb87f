/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cmds/file-table.h"
#include "cmds/guest-file.h"

static struct guest_file *open_file(void)
{
    struct guest_file *file = NULL;
    assert_int_equal(guest_file_open("/dev/null", guest_file_mode_flags("r"), &file), 0);
    return file;
}

/* Opens a file and enters it. */
static int64_t add(struct file_table *table)
{
    int64_t handle = -1;
    assert_true(file_table_reserve(table));
    assert_int_equal(file_table_add_take(table, 0, open_file(), &handle), 0);
    return handle;
}

static void drop(struct file_table *table, int64_t handle)
{
    struct guest_file *file = file_table_remove(table, handle);
    assert_non_null(file);
    assert_true(guest_file_unref(file));
    guest_file_free(file);
}

static void test_numbers_start_at_1000_and_are_never_reused(void **state)
{
    struct file_table *table = file_table_new(FILE_TABLE_FIRST_HANDLE, 100);
    assert_int_equal(add(table), 1000);
    assert_int_equal(add(table), 1001);
    drop(table, 1001);
    assert_int_equal(add(table), 1002);
    drop(table, 1000);
    drop(table, 1002);
    assert_int_equal(add(table), 1003);
    assert_null(file_table_get(table, 0, 1000));
    assert_null(file_table_get(table, 0, 1001));
    assert_null(file_table_get(table, 0, 1002));
    assert_non_null(file_table_get(table, 0, 1003));
    drop(table, 1003);
    assert_null(file_table_free(table));
}

static void test_handles_of_another_profile_are_unknown(void **state)
{
    struct file_table *table = file_table_new(1000, 100);
    int64_t handle = -1;
    assert_true(file_table_reserve(table));
    assert_int_equal(file_table_add_take(table, 2, open_file(), &handle), 0);
    assert_null(file_table_get(table, 0, handle));
    assert_null(file_table_get(table, 3, handle));
    assert_non_null(file_table_get(table, 2, handle));
    drop(table, handle);
    assert_null(file_table_free(table));
}

static void test_unknown_handles(void **state)
{
    struct file_table *table = file_table_new(5000, 100);
    assert_null(file_table_get(table, 0, 5000));
    assert_null(file_table_remove(table, 5000));
    assert_int_equal(add(table), 5000);
    const int64_t others[] = {4999, 5001, 0, -1, 5000 - 4294967296, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
        assert_null(file_table_get(table, 0, others[i]));
        assert_null(file_table_remove(table, others[i]));
    }
    drop(table, 5000);
    assert_null(file_table_remove(table, 5000));
    file_table_free(table);
}

static void test_the_limit_counts_files_and_places(void **state)
{
    struct file_table *table = file_table_new(1000, 3);
    add(table);
    assert_true(file_table_reserve(table));
    assert_true(file_table_reserve(table));
    assert_int_equal(file_table_in_use(table), 3);
    assert_false(file_table_reserve(table));

    /* A place that was not needed is free again, one that was used up is not. */
    file_table_unreserve(table);
    int64_t handle;
    assert_int_equal(file_table_add_take(table, 0, open_file(), &handle), 0);
    assert_int_equal(file_table_in_use(table), 2);
    add(table);
    assert_false(file_table_reserve(table));

    drop(table, handle);
    assert_true(file_table_reserve(table));
    file_table_unreserve(table);
    drop(table, 1000);
    drop(table, 1002);
    assert_int_equal(file_table_in_use(table), 0);
    file_table_free(table);
}

/* Handles come and go in an order that visits every position; each stays with its file. */
static void test_many(void **state)
{
    enum { COUNT = 100, STRIDE = 37 };
    struct file_table *table = file_table_new(1000, COUNT);
    struct guest_file *files[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int64_t handle;
        files[i] = open_file();
        assert_true(file_table_reserve(table));
        assert_int_equal(file_table_add_take(table, 0, files[i], &handle), 0);
        assert_int_equal(handle, 1000 + i);
    }
    for (int i = 0; i < COUNT; i++) {
        int gone = i * STRIDE % COUNT;
        assert_ptr_equal(file_table_get(table, 0, 1000 + gone), files[gone]);
        drop(table, 1000 + gone);
        files[gone] = NULL;
        for (int j = 0; j < COUNT; j++)
            assert_ptr_equal(file_table_get(table, 0, 1000 + j), files[j]);
    }
    file_table_free(table);
}

/* A file taken out while somebody still has it goes on until he is done. */
static void test_references(void **state)
{
    struct file_table *table = file_table_new(1000, 10);
    int64_t handle = add(table);
    struct guest_file *mine = guest_file_ref(file_table_get(table, 0, handle));
    struct guest_file *removed = file_table_remove(table, handle);
    assert_ptr_equal(mine, removed);
    assert_false(guest_file_unref(removed));

    char bytes[4];
    size_t length;
    bool is_at_end;
    assert_int_equal(guest_file_read(mine, bytes, sizeof(bytes), &length, &is_at_end), 0);
    assert_true(is_at_end);
    assert_true(guest_file_unref(mine));
    guest_file_free(mine);
    file_table_free(table);
}

/* The memory is given back (a leak checker would say), the descriptors are the kernel's matter. */
static void test_free_with_open_files(void **state)
{
    struct file_table *table = file_table_new(1000, 10);
    add(table);
    add(table);
    assert_null(file_table_free(table));
    assert_null(file_table_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_start_at_1000_and_are_never_reused),
        cmocka_unit_test(test_handles_of_another_profile_are_unknown),
        cmocka_unit_test(test_unknown_handles),
        cmocka_unit_test(test_the_limit_counts_files_and_places),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_free_with_open_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
