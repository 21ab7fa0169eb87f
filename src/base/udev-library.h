/* SPDX-License-Identifier: MIT */
#ifndef BELLHOP_BASE_UDEV_LIBRARY_H
#define BELLHOP_BASE_UDEV_LIBRARY_H

/*
 * What udev found out about devices, from libudev; only where bellhop was built with its header. Loaded
 * at the first call. Reads files, opens no device, and asks no daemon. Any thread; may block.
 */

#include <stddef.h>

#include "base/cleanup.h"

/*
 * A property of a block device of this machine ("ID_SERIAL"). Returns 0; -ENOENT if there is no
 * such device or property; -ENAMETOOLONG if it does not fit; -ENOSYS: there is no libudev; or
 * -ENOMEM.
 */
int udev_library_property(unsigned device_major, unsigned device_minor, const char *name,
                          char *ret_value, size_t size) MUST_CHECK;

#endif
