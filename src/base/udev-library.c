/* SPDX-License-Identifier: MIT */
#include "base/udev-library.h"

#include <errno.h>
#include <libudev.h>
#include <string.h>
#include <sys/sysmacros.h>

static void unref_udev(struct udev **udev)
{
    udev_unref(*udev);
}

static void unref_device(struct udev_device **device)
{
    udev_device_unref(*device);
}

int udev_library_property(unsigned device_major, unsigned device_minor, const char *name,
                          char *ret_value, size_t size)
{
    /* A context is cheap and belongs to one thread. */
    _cleanup_(unref_udev) struct udev *udev = udev_new();
    if (!udev)
        return -ENOMEM;
    _cleanup_(unref_device) struct udev_device *device =
        udev_device_new_from_devnum(udev, 'b', makedev(device_major, device_minor));
    const char *value = device ? udev_device_get_property_value(device, name) : NULL;
    if (!value || !value[0])
        return -ENOENT;
    size_t length = strlen(value);
    if (length >= size)
        return -ENAMETOOLONG;
    memcpy(ret_value, value, length + 1);
    return 0;
}
