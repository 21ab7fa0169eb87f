/* SPDX-License-Identifier: MIT */
#include "cmds/file-table.h"

#include <string.h>

#include "cmds/guest-file.h"

struct entry {
    int64_t handle;
    unsigned profile;
    struct guest_file *file;
};

/* Numbers only go up, so appending keeps the entries sorted and a look-up is a binary search. */
struct file_table {
    size_t files_max; /* immutable; the rest is loop only */

    struct entry *entries;
    size_t count;
    size_t capacity;
    size_t reserved;
    int64_t next_handle;
};

struct file_table *file_table_new(int64_t first_handle, size_t files_max)
{
    struct file_table *table = calloc(1, sizeof(*table));
    if (table) {
        table->next_handle = first_handle;
        table->files_max = files_max;
    }
    return table;
}

struct file_table *file_table_free(struct file_table *table)
{
    if (!table)
        return NULL;
    assert_on_loop();
    for (size_t i = 0; i < table->count; i++)
        if (guest_file_unref(table->entries[i].file))
            guest_file_abandon(table->entries[i].file);
    free(table->entries);
    free(table);
    return NULL;
}

size_t file_table_in_use(const struct file_table *table)
{
    assert_on_loop();
    return table->count + table->reserved;
}

bool file_table_reserve(struct file_table *table)
{
    if (file_table_in_use(table) >= table->files_max)
        return false;
    table->reserved++;
    return true;
}

void file_table_unreserve(struct file_table *table)
{
    assert_on_loop();
    table->reserved--;
}

int file_table_add_take(struct file_table *table, unsigned profile, struct guest_file *file,
                        int64_t *ret_handle)
{
    assert_on_loop();
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 16;
        struct entry *entries = reallocarray(table->entries, capacity, sizeof(*entries));
        if (!entries)
            return -ENOMEM;
        table->entries = entries;
        table->capacity = capacity;
    }
    table->reserved--;
    *ret_handle = table->next_handle++;
    table->entries[table->count++] = (struct entry){*ret_handle, profile, file};
    return 0;
}

/* Where the handle is, or `count`. */
static size_t find(const struct file_table *table, int64_t handle)
{
    size_t low = 0, high = table->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table->entries[middle].handle < handle)
            low = middle + 1;
        else
            high = middle;
    }
    return low < table->count && table->entries[low].handle == handle ? low : table->count;
}

struct guest_file *file_table_get(const struct file_table *table, unsigned profile, int64_t handle)
{
    assert_on_loop();
    size_t at = find(table, handle);
    bool is_there = at < table->count && table->entries[at].profile == profile;
    return is_there ? table->entries[at].file : NULL;
}

struct guest_file *file_table_remove(struct file_table *table, int64_t handle)
{
    assert_on_loop();
    size_t at = find(table, handle);
    if (at == table->count)
        return NULL;
    struct guest_file *file = table->entries[at].file;
    table->count--;
    memmove(&table->entries[at], &table->entries[at + 1],
            (table->count - at) * sizeof(*table->entries));
    return file;
}
