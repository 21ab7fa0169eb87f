/* SPDX-License-Identifier: MIT */
#include "base/mount-library.h"

#include <dlfcn.h>
#include <errno.h>
#include <libmount.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/mount-table.h"

/* Loaded when it is first needed, and then kept. */
static struct {
    bool is_complete;
    __typeof__(mnt_new_table) *new_table;
    __typeof__(mnt_unref_table) *unref_table;
    __typeof__(mnt_table_set_parser_errcb) *table_set_parser_errcb;
    __typeof__(mnt_table_parse_file) *table_parse_file;
    __typeof__(mnt_table_get_nents) *table_get_nents;
    __typeof__(mnt_table_next_fs) *table_next_fs;
    __typeof__(mnt_new_iter) *new_iter;
    __typeof__(mnt_free_iter) *free_iter;
    __typeof__(mnt_fs_get_devno) *fs_get_devno;
    __typeof__(mnt_fs_get_id) *fs_get_id;
    __typeof__(mnt_fs_get_parent_id) *fs_get_parent_id;
    __typeof__(mnt_fs_get_root) *fs_get_root;
    __typeof__(mnt_fs_get_target) *fs_get_target;
    __typeof__(mnt_fs_get_vfs_options) *fs_get_vfs_options;
    __typeof__(mnt_fs_get_fstype) *fs_get_fstype;
    __typeof__(mnt_fs_get_source) *fs_get_source;
    __typeof__(mnt_fs_get_fs_options) *fs_get_fs_options;
} library;

static pthread_once_t once = PTHREAD_ONCE_INIT;

#define SYMBOL(member)                           \
    {                                            \
        "mnt_" #member, (void **)&library.member \
    }

static void load_library(void)
{
    static const struct {
        const char *name;
        void **function;
    } symbols[] = {
        SYMBOL(new_table),        SYMBOL(unref_table),        SYMBOL(table_set_parser_errcb),
        SYMBOL(table_parse_file), SYMBOL(table_get_nents),    SYMBOL(table_next_fs),
        SYMBOL(new_iter),         SYMBOL(free_iter),          SYMBOL(fs_get_devno),
        SYMBOL(fs_get_id),        SYMBOL(fs_get_parent_id),   SYMBOL(fs_get_root),
        SYMBOL(fs_get_target),    SYMBOL(fs_get_vfs_options), SYMBOL(fs_get_fstype),
        SYMBOL(fs_get_source),    SYMBOL(fs_get_fs_options),
    };
    void *handle = dlopen("libmount.so.1", RTLD_NOW | RTLD_LOCAL);
    library.is_complete = handle != NULL;
    for (size_t i = 0; handle && i < ARRAY_SIZE(symbols); i++) {
        *symbols[i].function = dlsym(handle, symbols[i].name);
        library.is_complete &= *symbols[i].function != NULL;
    }
    if (!library.is_complete)
        log_debug("libmount cannot be loaded: the mount table is read without it");
}

static void unref_table(struct libmnt_table **table)
{
    library.unref_table(*table);
}

static void free_iterator(struct libmnt_iter **iterator)
{
    library.free_iter(*iterator);
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
    dev_t number = library.fs_get_devno(from);
    *mount = (struct mount){
        .id = library.fs_get_id(from),
        .parent_id = library.fs_get_parent_id(from),
        .major = major(number),
        .minor = minor(number),
        .is_reachable = true,
    };
    append_text(text, library.fs_get_root(from));
    append_text(text, library.fs_get_target(from));
    append_text(text, library.fs_get_vfs_options(from));
    append_text(text, library.fs_get_fstype(from));
    append_text(text, library.fs_get_source(from));
    append_text(text, library.fs_get_fs_options(from));
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
    pthread_once(&once, load_library);
    if (!library.is_complete)
        return -ENOSYS;
    _cleanup_(unref_table) struct libmnt_table *table = library.new_table();
    _cleanup_(free_iterator) struct libmnt_iter *iterator = library.new_iter(MNT_ITER_FORWARD);
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
    struct libmnt_fs *from;
    size_t count = 0;
    if (!table || !iterator)
        return -ENOMEM;
    library.table_set_parser_errcb(table, on_broken_line);
    int r = library.table_parse_file(table, "/proc/self/mountinfo");
    if (r != 0)
        return r < 0 ? r : -EIO;

    size_t capacity = (size_t)library.table_get_nents(table);
    _cleanup_free_ struct mount *mounts = calloc(capacity + 1, sizeof(*mounts));
    if (!mounts)
        return -ENOMEM;
    while (count < capacity && library.table_next_fs(table, iterator, &from) == 0) {
        const char *point = library.fs_get_target(from);
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
