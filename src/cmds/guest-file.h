/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_CMDS_GUEST_FILE_H
#define BELLHOP_CMDS_GUEST_FILE_H

/*
 * A file that a client opened: a descriptor with the reading semantics of stdio (fopen, fread,
 * feof, fseek), which is what the protocol's file commands were made of.
 *
 * Reads shorter than a block go through a read-ahead buffer, as stdio's do: some files give their
 * content only to the first read (sysctls), or only a whole record at a time (/dev/kmsg).
 * Writes are not held back: what guest_file_write() counted is in the kernel, so that a full
 * disk is reported by the write that met it, and an agent that dies takes nothing with it.
 * Reading and writing may alternate without a seek between them.
 *
 * The descriptor is non-blocking. That means pipes and devices; a regular file may still block, so
 * everything that touches the descriptor is for workers. No locks: one caller at a time has a file
 * (its lane sees to that). The reference count is the loop's, and needs nothing else.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/thread.h"
#include "security/object-gate.h"

struct guest_file;

/*
 * The open(2) flags of an fopen mode ("r", "w", "a", each with "+", with "b" before or behind
 * the plus), or -EINVAL. Nothing else is a mode, also none of the C library's extensions.
 */
int guest_file_mode_flags(const char *mode) ANY_THREAD;

/*
 * Opens the file as guest_file_mode_flags() says; creates it with mode 0666 less the process's
 * umask, but never through a dangling symbolic link (-ENOENT). Blocks as open(2) does: on a FIFO
 * until its other end is opened, on a dead mount for ever.
 * The file has one reference. Returns 0 or -errno; -EINTR means that nothing was opened and the
 * call may be repeated.
 */
int guest_file_open(const char *path, int flags, struct guest_file **ret_file) ON_WORKER MUST_CHECK;

/*
 * The same, as far as the rules for files allow it (security/object-gate.h). A refusal is -EPERM with its
 * text in `ret_reason`, which is empty otherwise.
 */
int guest_file_open_gated(const struct object_question *question, const char *path, int flags,
                          struct guest_file **ret_file,
                          char ret_reason[FILE_REFUSAL_MAX]) ON_WORKER MUST_CHECK;

/* The path that it was opened by. Borrowed, never changes. */
const char *guest_file_path(const struct guest_file *file) ANY_THREAD;

/*
 * Reads until `length` bytes are there, the file ends or an error is met. `ret_length` is set in
 * any case: bytes that came before the error are not lost. `ret_is_at_end` is true where feof()
 * would be. Returns 0 or -errno (-EAGAIN: a pipe or device has no more for now).
 */
int guest_file_read(struct guest_file *file, void *bytes, size_t length, size_t *ret_length,
                    bool *ret_is_at_end) ON_WORKER MUST_CHECK;

/*
 * Writes at the position that the client sees (what was read ahead does not count), or at the end
 * for the "a" modes. Returns 0 once all is written, or -errno; `ret_length` is set in any case.
 */
int guest_file_write(struct guest_file *file, const void *bytes, size_t length,
                     size_t *ret_length) ON_WORKER MUST_CHECK;

/* Moves the position; `whence` is SEEK_SET, _CUR or _END. Returns 0 or -errno. */
int guest_file_seek(struct guest_file *file, int64_t offset, int whence,
                    int64_t *ret_position) ON_WORKER MUST_CHECK;

/*
 * Bytes between the position and the end as the file system tells it: a hint of how much can be
 * read, 0 where it does not know.
 */
uint64_t guest_file_remaining_hint(const struct guest_file *file) ON_WORKER;

/*
 * Closes the descriptor, which may block (a network file system writes back, a terminal drains).
 * It is closed also when an error is returned: then something written before did not get through.
 * The file itself remains, with nothing to do any more. Returns 0 or -errno.
 */
int guest_file_close(struct guest_file *file) ON_WORKER MUST_CHECK;

/* True once guest_file_close() was called. */
bool guest_file_is_closed(const struct guest_file *file);

struct guest_file *guest_file_ref(struct guest_file *file) ON_LOOP;

/* Gives a reference back. True if it was the last: the caller then sees to guest_file_free(). */
bool guest_file_unref(struct guest_file *file) ON_LOOP MUST_CHECK;

/*
 * Frees the file, whatever its references; closes it first unless that was done: for a worker,
 * or for anybody if guest_file_is_closed(). Returns NULL.
 */
struct guest_file *guest_file_free(struct guest_file *file);

/* Frees the memory and leaves the descriptor open, for a process that is about to end. */
void guest_file_abandon(struct guest_file *file);

#endif
