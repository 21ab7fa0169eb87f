/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_FILE_TABLE_H
#define BELLHOP_CMDS_FILE_TABLE_H

/*
 * The handles: which number stands for which open file. Numbers only ever go up, so that a client
 * with a stale one gets an error and not somebody else's file.
 *
 * Loop only, no locks. The table has one reference to each file in it and never closes one itself
 * (closing may block): who takes the last reference out sees to that.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"

struct file_table;
struct guest_file;

/* The number of the first handle, as in the classic agent. */
#define FILE_TABLE_FIRST_HANDLE 1000

/*
 * `first_handle` is the first number that is given out, `files_max` how many may be open at once.
 * Returns NULL if there is no memory.
 */
struct file_table *file_table_new(int64_t first_handle, size_t files_max);

/*
 * For the end of the process: frees the memory of the table and of the files in it, and leaves
 * their descriptors to the kernel, since nothing may block any more. Returns NULL.
 */
struct file_table *file_table_free(struct file_table *table) ON_LOOP;

/*
 * Keeps a place for a file that is about to be opened, so that the limit holds while opens are
 * under way. False if there is none left. The place is used up by file_table_add_take(), or
 * given back by file_table_unreserve().
 */
bool file_table_reserve(struct file_table *table) ON_LOOP MUST_CHECK;
void file_table_unreserve(struct file_table *table) ON_LOOP;

/* Files in the table and places kept. */
size_t file_table_in_use(const struct file_table *table) ON_LOOP;

/*
 * Enters a file in the place that was kept for it, and takes the caller's reference. It belongs to
 * the profile (security/profile.h) that it was opened under. Returns 0 and its new handle, or -ENOMEM: place and reference are still the caller's.
 */
int file_table_add_take(struct file_table *table, unsigned profile, struct guest_file *file,
                        int64_t *ret_handle) ON_LOOP MUST_CHECK;

/* The file of that handle, or NULL, also if it belongs to another profile. Borrowed. */
struct guest_file *file_table_get(const struct file_table *table, unsigned profile,
                                  int64_t handle) ON_LOOP;

/* Takes the file out; the table's reference becomes the caller's. NULL if there is none. */
struct guest_file *file_table_remove(struct file_table *table, int64_t handle) ON_LOOP;

#endif
