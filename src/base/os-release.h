/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_OS_RELEASE_H
#define BELLHOP_BASE_OS_RELEASE_H

/*
 * os-release(5): what operating system this is, as a file of shell-compatible assignments.
 *
 * Read as a shell would read it, without expanding anything:
 * - a value is one shell word: unquoted text (a backslash takes the next character as it is),
 *   'single quotes' (everything as it is) and "double quotes" (a backslash only escapes
 *   `"`, `$`, '`', the backslash, and takes out a newline), in any sequence;
 * - quoted values may span lines; a quote that is never closed makes its line be ignored;
 * - an unquoted blank or `;` ends the value, and the rest of its line is ignored;
 * - `#` starts a comment where a name or a value's next word would start;
 * - the last assignment of a name wins; lines that are no assignment are ignored.
 * Blanks around `=` and CRLF line ends are passed over.
 *
 * Not thread safe by itself; whoever has the struct uses it.
 */

#include <stddef.h>

#include "base/cleanup.h"

/* Members are NULL where the file does not say; a name without a value gives "". */
struct os_release {
    char *id;
    char *name;
    char *pretty_name;
    char *version;
    char *version_id;
    char *variant;
    char *variant_id;
};

#define OS_RELEASE_INIT {NULL}

/* Takes over what the text says, over what is there. Returns 0 or -ENOMEM. */
int os_release_parse(struct os_release *release, const char *text, size_t length) MUST_CHECK;

/*
 * Reads the first file that exists of a NULL-terminated list, as the manual page demands: the
 * others are not looked at, even if it cannot be read. Blocks on the disk. Paths are those of
 * base/sysroot.h.
 * Returns 0; -ENOENT if none exists; -EFBIG above 1 MiB; or another -errno.
 */
int os_release_load(struct os_release *release, const char *const *paths) MUST_CHECK;

/* The list for this machine : /etc/os-release, /usr/lib/os-release. */
extern const char *const os_release_paths[];

void os_release_deinit(struct os_release *release);

#endif
