/* SPDX-License-Identifier: MIT */
#include "base/udev-library.h"

#include <dlfcn.h>
#include <errno.h>
#include <libudev.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/log.h"

/* Loaded when it is first needed, and then kept. */
static struct {
    bool is_complete;
    __typeof__(udev_new) *new_context;
    __typeof__(udev_unref) *unref_context;
    __typeof__(udev_device_new_from_devnum) *new_device;
    __typeof__(udev_device_unref) *unref_device;
    __typeof__(udev_device_get_property_value) *get_property;
} library;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load_library(void)
{
    static const struct {
        const char *name;
        void **function;
    } symbols[] = {
        {"udev_new", (void **)&library.new_context},
        {"udev_unref", (void **)&library.unref_context},
        {"udev_device_new_from_devnum", (void **)&library.new_device},
        {"udev_device_unref", (void **)&library.unref_device},
        {"udev_device_get_property_value", (void **)&library.get_property},
    };
    void *handle = dlopen("libudev.so.1", RTLD_NOW | RTLD_LOCAL);
    library.is_complete = handle != NULL;
    for (size_t i = 0; handle && i < ARRAY_SIZE(symbols); i++) {
        *symbols[i].function = dlsym(handle, symbols[i].name);
        library.is_complete &= *symbols[i].function != NULL;
    }
    if (!library.is_complete)
        log_debug("libudev cannot be loaded: udev's files are read without it");
}

static void unref_udev(struct udev **udev)
{
    library.unref_context(*udev);
}

static void unref_device(struct udev_device **device)
{
    library.unref_device(*device);
}

int udev_library_property(unsigned device_major, unsigned device_minor, const char *name,
                          char *ret_value, size_t size)
{
    pthread_once(&once, load_library);
    if (!library.is_complete)
        return -ENOSYS;
    /* A context is cheap and belongs to one thread. */
    _cleanup_(unref_udev) struct udev *udev = library.new_context();
    if (!udev)
        return -ENOMEM;
    _cleanup_(unref_device) struct udev_device *device =
        library.new_device(udev, 'b', makedev(device_major, device_minor));
    const char *value = device ? library.get_property(device, name) : NULL;
    if (!value || !value[0])
        return -ENOENT;
    size_t length = strlen(value);
    if (length >= size)
        return -ENAMETOOLONG;
    memcpy(ret_value, value, length + 1);
    return 0;
}
