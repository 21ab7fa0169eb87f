/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_TESTS_UNIT_FILE_TREE_H
#define BELLHOP_TESTS_UNIT_FILE_TREE_H

/*
 * Directories of files for tests to read as the system's, written down in one text each:
 *
 *     # a comment
 *     file /sys/class/block/sda/dev
 *     |8:0
 *     link /sys/class/block/sda ../../devices/...
 *     dir /sys/devices/ata1
 *
 * A file's lines follow it, each after a '|'; "\xNN" in them and in the paths is a byte. Comes after
 * cmocka.h.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sysroot.h"

static void file_tree_make_directories(const char *path)
{
    char part[4096];
    snprintf(part, sizeof(part), "%s", path);
    for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0755) < 0)
            assert_int_equal(errno, EEXIST);
        *slash = '/';
    }
}

static void file_tree_unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        unsigned byte;
        if (from[0] == '\\' && sscanf(from, "\\x%2x", &byte) == 1) {
            *to = (char)byte;
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* Carries out one line below `root`; `open` is the file whose lines may follow. */
static void file_tree_line(const char *root, char *line, FILE **open)
{
    char word[8], path[2048], target[2048], full[4096];
    file_tree_unescape(line);
    if (line[0] == '|') {
        assert_non_null(*open);
        fprintf(*open, "%s\n", line + 1);
        return;
    }
    if (line[0] == '#' || line[0] == '\0')
        return;
    int fields = sscanf(line, "%7s %2047s %2047s", word, path, target);
    assert_true(fields >= 2);
    snprintf(full, sizeof(full), "%s%s", root, path);
    file_tree_make_directories(full);
    if (strcmp(word, "file") == 0) {
        if (*open)
            fclose(*open);
        *open = fopen(full, "w");
        assert_non_null(*open);
    } else if (strcmp(word, "link") == 0) {
        assert_int_equal(fields, 3);
        assert_int_equal(symlink(target, full), 0);
    } else {
        assert_string_equal(word, "dir");
        if (mkdir(full, 0755) < 0)
            assert_int_equal(errno, EEXIST);
    }
}

/* Adds the files to the tree below `root`. The text is changed. */
static void file_tree_add(const char *root, char *text)
{
    FILE *open = NULL;
    for (char *line; (line = strsep(&text, "\n"));)
        file_tree_line(root, line, &open);
    if (open)
        fclose(open);
}

static void file_tree_remove(const char *root)
{
    char command[300];
    assert_int_equal(sysroot_set(NULL), 0);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

/* A new directory with the files of `text`, which is what sysroot reads from now on. */
__attribute__((unused)) static void file_tree_use(char root[static 32], const char *text)
{
    strcpy(root, "/tmp/bellhop-tree-XXXXXX");
    assert_non_null(mkdtemp(root));
    char *copy = strdup(text);
    assert_non_null(copy);
    file_tree_add(root, copy);
    free(copy);
    assert_int_equal(sysroot_set(root), 0);
}

/* The same of a text in tests/unit/trees. */
__attribute__((unused)) static void file_tree_use_recorded(char root[static 32], const char *name)
{
    static char text[4 * 1024 * 1024];
    char path[512];
    snprintf(path, sizeof(path), "%s/tests/unit/trees/%s", SOURCE_ROOT, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    text[length] = '\0';
    fclose(file);
    file_tree_use(root, text);
}

#endif
