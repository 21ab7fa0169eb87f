/* SPDX-License-Identifier: MIT */
#include "base/mount-library.h"

#include <errno.h>
#include <libmount.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/buffer.h"
#include "base/mount-table.h"

static void unref_table(struct libmnt_table **table)
{
    mnt_unref_table(*table);
}

static void free_iterator(struct libmnt_iter **iterator)
{
    mnt_free_iter(*iterator);
}

/* What cannot be understood is left out. */
static int on_broken_line(struct libmnt_table *table, const char *file_name, int line)
{
    return 1;
}

static void append_text(struct buffer *text, const char *from)
{
    buffer_append(text, from ? from : "", strlen(from ? from : "") + 1);
}

static void take(struct mount *mount, struct libmnt_fs *from, struct buffer *text)
{
    dev_t number = mnt_fs_get_devno(from);
    *mount = (struct mount){
        .id = mnt_fs_get_id(from),
        .parent_id = mnt_fs_get_parent_id(from),
        .major = major(number),
        .minor = minor(number),
        .is_reachable = true,
    };
    append_text(text, mnt_fs_get_root(from));
    append_text(text, mnt_fs_get_target(from));
    append_text(text, mnt_fs_get_vfs_options(from));
    append_text(text, mnt_fs_get_fstype(from));
    append_text(text, mnt_fs_get_source(from));
    append_text(text, mnt_fs_get_fs_options(from));
}

/* The buffer has moved for the last time. Returns where the next mount's texts are. */
static const char *point_into(struct mount *mount, const char *text)
{
    const char **texts[] = {&mount->root, &mount->point,  &mount->options,
                            &mount->type, &mount->source, &mount->super_options};
    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        *texts[i] = text;
        text += strlen(text) + 1;
    }
    return text;
}

int mount_library_read(struct mount **ret_mounts, size_t *ret_count, char **ret_text)
{
    _cleanup_(unref_table) struct libmnt_table *table = mnt_new_table();
    _cleanup_(free_iterator) struct libmnt_iter *iterator = mnt_new_iter(MNT_ITER_FORWARD);
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    struct libmnt_fs *from;
    size_t count = 0;
    if (!table || !iterator)
        return -ENOMEM;
    mnt_table_set_parser_errcb(table, on_broken_line);
    int r = mnt_table_parse_file(table, "/proc/self/mountinfo");
    if (r != 0)
        return r < 0 ? r : -EIO;

    size_t capacity = (size_t)mnt_table_get_nents(table);
    _cleanup_free_ struct mount *mounts = calloc(capacity + 1, sizeof(*mounts));
    if (!mounts)
        return -ENOMEM;
    while (count < capacity && mnt_table_next_fs(table, iterator, &from) == 0) {
        const char *point = mnt_fs_get_target(from);
        if (point && point[0] == '/')
            take(&mounts[count++], from, &text);
    }
    buffer_append_char(&text, '\0'); /* also if there are no mounts */
    if (text.failed)
        return -ENOMEM;
    const char *at = text.data;
    for (size_t i = 0; i < count; i++)
        at = point_into(&mounts[i], at);
    *ret_mounts = take_ptr(&mounts);
    *ret_count = count;
    *ret_text = buffer_take(&text).data;
    return 0;
}
