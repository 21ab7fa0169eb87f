/* SPDX-License-Identifier: MIT */
#include "base/mount-table.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/mount-library.h"
#include "base/sysroot.h"

/* The kernel allows 100,000 mounts (fs.mount-max), each with two paths. */
enum { TEXT_MAX = 256 * 1024 * 1024 };

/* --- reading --- */

static bool is_octal(char character)
{
    return character >= '0' && character <= '7';
}

/* Resolves \ooo in place. What does not look like one of the kernel's escapes stays as it is. */
static void unescape(char *text)
{
    char *to = strchr(text, '\\');
    if (!to)
        return;
    for (const char *from = to; *from; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && is_octal(from[2]) &&
            is_octal(from[3])) {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* Cuts the next field off, or returns NULL at the line's end. A field may be empty. */
static char *next_field(char **rest)
{
    return *rest ? strsep(rest, " ") : NULL;
}

static const char *next_text(char **rest)
{
    char *field = next_field(rest);
    if (field)
        unescape(field);
    return field;
}

/* 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue */
static bool parse_line(char *line, struct mount *ret_mount)
{
    struct mount mount = {.is_reachable = true};
    char *rest = line, *field;
    int length = 0;
    if (sscanf(line, "%d %d %u:%u %n", &mount.id, &mount.parent_id, &mount.major, &mount.minor,
               &length) != 4 ||
        length == 0)
        return false;
    rest += length;
    mount.root = next_text(&rest);
    mount.point = next_text(&rest);
    mount.options = next_field(&rest);
    do /* any number of optional fields */
        field = next_field(&rest);
    while (field && strcmp(field, "-") != 0);
    mount.type = next_text(&rest);
    mount.source = next_text(&rest);
    mount.super_options = next_field(&rest);
    if (!mount.super_options || mount.point[0] != '/')
        return false;
    *ret_mount = mount;
    return true;
}

static size_t count_lines(const char *text)
{
    size_t count = 1;
    for (; (text = strchr(text, '\n')); text++)
        count++;
    return count;
}

/* --- which mounts can be reached --- */

/* Compares paths so that everything below a directory comes right after it: '/' is the lowest. */
static int compare_paths(const char *left, const char *right)
{
    while (*left && *left == *right) {
        left++;
        right++;
    }
    unsigned char a = (unsigned char)*left, b = (unsigned char)*right;
    if (a == b)
        return 0;
    if (!a || !b)
        return a ? 1 : -1;
    if (a == '/' || b == '/')
        return a == '/' ? -1 : 1;
    return a < b ? -1 : 1;
}

static bool is_below(const char *path, const char *directory)
{
    size_t length = strlen(directory);
    if (length == 1) /* the root */
        return path[1] != '\0';
    return strncmp(path, directory, length) == 0 && path[length] == '/';
}

#define NO_PARENT ((size_t)-1)

/* What is known of one mount while the tree is walked. */
struct node {
    const struct mount *mount;
    size_t parent;    /* its index, or NO_PARENT */
    size_t below;     /* where the walk came from */
    bool is_shadowed; /* its mount point lies below one of a sibling's */
    bool is_covered;  /* another mount sits on its root */
    bool is_decided;  /* the next one holds */
    bool is_in_sight; /* its mount point can be reached, be it covered or not */
};

static int compare_ids(const void *left, const void *right)
{
    const struct node *const *a = left, *const *b = right;
    return ((*a)->mount->id > (*b)->mount->id) - ((*a)->mount->id < (*b)->mount->id);
}

static int compare_siblings(const void *left, const void *right)
{
    const struct node *const *a = left, *const *b = right;
    if ((*a)->parent != (*b)->parent)
        return (*a)->parent < (*b)->parent ? -1 : 1;
    int order = compare_paths((*a)->mount->point, (*b)->mount->point);
    return order ? order : ((*a) > (*b)) - ((*a) < (*b));
}

static void find_parents(struct node *nodes, struct node **sorted, size_t count)
{
    qsort(sorted, count, sizeof(*sorted), compare_ids);
    for (size_t i = 0; i < count; i++) {
        const struct mount wanted = {.id = nodes[i].mount->parent_id};
        const struct node key = {.mount = &wanted}, *pointer = &key;
        struct node **found = bsearch(&pointer, sorted, count, sizeof(*sorted), compare_ids);
        nodes[i].parent = found && *found != &nodes[i] ? (size_t)(*found - nodes) : NO_PARENT;
        if (nodes[i].parent != NO_PARENT &&
            strcmp((*found)->mount->point, nodes[i].mount->point) == 0)
            (*found)->is_covered = true;
    }
}

/* A mount on a directory hides the siblings that were mounted further down before. */
static void find_shadowed(struct node **sorted, size_t count)
{
    const struct node *cover = NULL;
    qsort(sorted, count, sizeof(*sorted), compare_siblings);
    for (size_t i = 0; i < count; i++) {
        if (cover && cover->parent == sorted[i]->parent && cover->parent != NO_PARENT &&
            is_below(sorted[i]->mount->point, cover->mount->point))
            sorted[i]->is_shadowed = true;
        else
            cover = sorted[i];
    }
}

/*
 * In sight is what is not shadowed and has its parent in sight. Walks up to what is decided, and
 * down again; so every node is decided once.
 */
static void decide(struct node *nodes, size_t index)
{
    size_t at = index, steps = 0;
    while (!nodes[at].is_decided) {
        nodes[at].is_decided = true; /* now already: a table with a cycle in it ends here, too */
        nodes[at].is_in_sight = true;
        if (nodes[at].parent == NO_PARENT)
            break;
        nodes[nodes[at].parent].below = at;
        at = nodes[at].parent;
        steps++;
    }
    for (; steps > 0; steps--) {
        size_t child = nodes[at].below;
        nodes[child].is_in_sight = nodes[at].is_in_sight && !nodes[child].is_shadowed;
        at = child;
    }
}

static int find_reachable(struct mount_table *table)
{
    size_t count = table->count;
    _cleanup_free_ struct node *nodes = calloc(count + 1, sizeof(*nodes));
    _cleanup_free_ struct node **sorted = calloc(count + 1, sizeof(*sorted));
    if (!nodes || !sorted)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        nodes[i].mount = &table->mounts[i];
        sorted[i] = &nodes[i];
    }
    find_parents(nodes, sorted, count);
    find_shadowed(sorted, count);
    for (size_t i = 0; i < count; i++) {
        decide(nodes, i);
        table->mounts[i].is_reachable = nodes[i].is_in_sight && !nodes[i].is_covered;
    }
    return 0;
}

/* --- the indexes --- */

static int compare_superblocks(const void *left, const void *right)
{
    const struct mount *a = *(const struct mount *const *)left;
    const struct mount *b = *(const struct mount *const *)right;
    if (a->major != b->major)
        return a->major < b->major ? -1 : 1;
    if (a->minor != b->minor)
        return a->minor < b->minor ? -1 : 1;
    return (a > b) - (a < b);
}

static int compare_by_point(const void *left, const void *right)
{
    const struct mount *a = *(const struct mount *const *)left;
    const struct mount *b = *(const struct mount *const *)right;
    int order = strcmp(a->point, b->point);
    return order ? order : (a > b) - (a < b);
}

static bool is_same_superblock(const struct mount *a, const struct mount *b)
{
    return a->major == b->major && a->minor == b->minor;
}

/* Notes in each mount, for now, the index of its superblock's oldest one. */
static void find_oldest(struct mount_table *table, struct mount **sorted)
{
    qsort(sorted, table->count, sizeof(*sorted), compare_superblocks);
    for (size_t i = 0; i < table->count; i++)
        sorted[i]->superblock = i > 0 && is_same_superblock(sorted[i - 1], sorted[i])
                                    ? sorted[i - 1]->superblock
                                    : (size_t)(sorted[i] - table->mounts);
}

static int index_superblocks(struct mount_table *table, struct mount **sorted)
{
    table->superblocks = calloc(table->count + 1, sizeof(*table->superblocks));
    if (!table->superblocks)
        return -ENOMEM;
    find_oldest(table, sorted);
    for (size_t i = 0; i < table->count; i++) {
        struct mount *mount = &table->mounts[i];
        if (mount->superblock == i) {
            mount->superblock = table->superblock_count++;
            table->superblocks[mount->superblock] =
                (struct superblock){.major = mount->major, .minor = mount->minor, .mount = i};
            continue;
        }
        mount->superblock = table->mounts[mount->superblock].superblock;
        struct superblock *superblock = &table->superblocks[mount->superblock];
        if (mount->is_reachable && !table->mounts[superblock->mount].is_reachable)
            superblock->mount = i;
    }
    return 0;
}

static int build_indexes(struct mount_table *table)
{
    _cleanup_free_ struct mount **sorted = calloc(table->count + 1, sizeof(*sorted));
    if (!sorted)
        return -ENOMEM;
    for (size_t i = 0; i < table->count; i++)
        sorted[i] = &table->mounts[i];
    int r = index_superblocks(table, sorted);
    if (r < 0)
        return r;

    for (size_t i = 0; i < table->count; i++)
        if (table->mounts[i].is_reachable)
            sorted[table->point_count++] = &table->mounts[i];
    qsort(sorted, table->point_count, sizeof(*sorted), compare_by_point);
    table->by_point = (const struct mount **)take_ptr(&sorted);
    return 0;
}

/* --- the table --- */

/* Completes a table that has its mounts and nothing else yet, and takes it. */
static int finish_take(struct mount_table *ret_table, struct mount_table *table)
{
    int r = find_reachable(table);
    if (r == 0)
        r = build_indexes(table);
    if (r < 0)
        return r;
    *ret_table = *table;
    *table = (struct mount_table){0};
    return 0;
}

int mount_table_parse_take(struct mount_table *ret_table, struct buffer *text)
{
    _cleanup_(mount_table_deinit) struct mount_table table = {0};
    *ret_table = (struct mount_table){0};
    table.text = buffer_take(text).data;
    table.mounts = calloc(count_lines(table.text ? table.text : ""), sizeof(*table.mounts));
    if (!table.mounts)
        return -ENOMEM;
    char *rest = table.text, *line;
    while (rest && (line = strsep(&rest, "\n")))
        if (parse_line(line, &table.mounts[table.count]))
            table.count++;
    return finish_take(ret_table, &table);
}

#if HAVE_LIBMOUNT
static int load_by_library(struct mount_table *ret_table)
{
    _cleanup_(mount_table_deinit) struct mount_table table = {0};
    *ret_table = (struct mount_table){0};
    int r = mount_library_read(&table.mounts, &table.count, &table.text);
    return r < 0 ? r : finish_take(ret_table, &table);
}
#endif

int mount_table_load(struct mount_table *ret_table)
{
    _cleanup_buffer_ struct buffer text = BUFFER_INIT;
#if HAVE_LIBMOUNT
    if (!sysroot_prefix()[0]) { /* the library knows no prefix */
        int error = load_by_library(ret_table);
        if (error != -ENOSYS)
            return error;
    }
#endif
    int r = sysroot_read(&text, TEXT_MAX,
                         sysroot_prefix()[0] ? "/proc/1/mountinfo" : "/proc/self/mountinfo");
    return r < 0 ? r : mount_table_parse_take(ret_table, &text);
}

void mount_table_deinit(struct mount_table *table)
{
    free(table->mounts);
    free(table->superblocks);
    free(table->by_point);
    free(table->text);
    *table = (struct mount_table){0};
}

bool mount_is_on_disk(const struct mount *mount)
{
    /* Those that manage several devices themselves have no device number of one of them. */
    return mount->major != 0 || strcmp(mount->type, "btrfs") == 0 ||
           strcmp(mount->type, "bcachefs") == 0;
}

/* The reachable mount on exactly the path's first `length` bytes, or NULL. */
static const struct mount *find_point(const struct mount_table *table, const char *path,
                                      size_t length)
{
    size_t low = 0, high = table->point_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct mount *mount = table->by_point[middle];
        int order = strncmp(mount->point, path, length);
        if (order == 0)
            order = mount->point[length] != '\0';
        if (order == 0)
            return mount;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct mount *mount_table_find_path(const struct mount_table *table, const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 1) {
        const struct mount *mount = find_point(table, path, length);
        if (mount)
            return mount;
        while (length > 1 && path[length - 1] != '/')
            length--;
        if (length > 1)
            length--;
    }
    return find_point(table, "/", 1);
}
