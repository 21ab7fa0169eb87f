/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_KEY_FILE_H
#define BELLHOP_BASE_KEY_FILE_H

/*
 * Reader of configuration files, which are GLib key files (the "Desktop Entry Specification" has
 * the format, "Basic format of the file"):
 *
 *     # a comment, only as a line of its own
 *     [group]
 *     key = value
 *
 * Space around the key and before the value is ignored. A value ends with its line, keeps its
 * trailing space, and may hold \s \t \n \r \\ for space, tab, newline, return and backslash.
 *
 * A reader of our own because the files of the classic agent must mean here what they mean there.
 * libinih, the usual library, reads another dialect: lines end at 200 bytes (a list of commands is
 * longer), a ';' begins a comment (it separates lists here), and there are no escapes.
 *
 * A parsed file does not change; functions are pure: any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"

struct buffer;
struct key_file;

/* One line that matters: a group's header (then `key` and `value` are NULL), or a key in it. */
struct key_file_entry {
    unsigned line; /* from 1 */
    char *group;
    char *key;
    char *value; /* as it stands there, escapes and trailing space included */
};

/*
 * Reads a file of at most 1 MiB. Returns 0; -errno of opening and reading it (-ENOENT: there is
 * none); -EINVAL if it is malformed; -ENOMEM. On an error `ret_reason` is a message for the
 * operator that names the file and, where there is one, the line (malloc'ed; NULL without memory).
 */
int key_file_load(const char *path, struct key_file **ret_file, char **ret_reason) MUST_CHECK;

/* The same of text in memory, which messages call `name`. */
int key_file_parse(const char *name, const char *text, size_t length, struct key_file **ret_file,
                   char **ret_reason) MUST_CHECK;

struct key_file *key_file_free(struct key_file *file);

/* The entries in their order: a group or a key that comes again comes again here. */
size_t key_file_count(const struct key_file *file);
const struct key_file_entry *key_file_at(const struct key_file *file, size_t index);

/*
 * Resolves a value's escapes. Returns 0; -EINVAL for an escape there is not (or a lone '\' at the
 * end); -EILSEQ if it is not UTF-8; -ENOMEM.
 */
int key_file_decode(const char *value, char **ret_text) MUST_CHECK;

/* "true" or "1", "false" or "0"; trailing space does not matter. Returns 0 or -EINVAL. */
int key_file_decode_bool(const char *value, bool *ret_bool) MUST_CHECK;

/* Appends text as a value that key_file_decode() reads back. */
void key_file_encode(struct buffer *out, const char *text);

#endif
