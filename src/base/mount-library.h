/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_MOUNT_LIBRARY_H
#define BELLHOP_BASE_MOUNT_LIBRARY_H

/*
 * The mounts of this process as libmount reads them; only where bellhop was built with its header. It
 * knows what the kernel's table leaves open, as what device "/dev/root" is. Loaded at the first call.
 * Any thread; may block.
 */

#include <stddef.h>

#include "base/cleanup.h"

struct mount;

/*
 * Fills in what a line of mountinfo has, in the kernel's order. `ret_mounts` and `ret_text`, which
 * the mounts' texts point into, are malloc'ed. Returns 0; -ENOSYS: there is no libmount; or -errno.
 */
int mount_library_read(struct mount **ret_mounts, size_t *ret_count, char **ret_text) MUST_CHECK;

#endif
