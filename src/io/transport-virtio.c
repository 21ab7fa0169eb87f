/* SPDX-License-Identifier: MIT */
/* virtio-serial: a named port of a virtio console device. */
#include "io/transport-device.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

struct transport_virtio {
    struct transport_device device;
    char *devices_directory;
    char *ports_directory;
};

/* Reads a port's name; false if it has none (yet). */
static bool port_has_name(int ports_fd, const char *port, const char *name)
{
    _cleanup_close_ int fd = -1;
    char path[NAME_MAX + sizeof("/name")];
    char found[256];
    ssize_t length;

    snprintf(path, sizeof(path), "%.*s/name", NAME_MAX, port);
    fd = openat(ports_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    length = read(fd, found, sizeof(found) - 1);
    if (length <= 0)
        return false;
    found[length] = '\0';
    found[strcspn(found, "\n")] = '\0';
    return strcmp(found, name) == 0;
}

/* Finds the device node of the port with that name. Returns 0 (the path is malloc'ed) or -errno. */
static int find_port(const struct transport_virtio *virtio, const char *name, char **ret_path)
{
    _cleanup_closedir_ DIR *ports = opendir(virtio->ports_directory);
    const struct dirent *entry;

    if (!ports)
        return -errno;
    while ((entry = readdir(ports))) {
        if (entry->d_name[0] == '.' || !port_has_name(dirfd(ports), entry->d_name, name))
            continue;
        if (asprintf(ret_path, "%s/%s", virtio->devices_directory, entry->d_name) < 0)
            return -ENOMEM;
        return 0;
    }
    return -ENOENT;
}

/* The port's name in <devices>/virtio-ports/NAME, or NULL if the path is another one. */
static const char *name_in_path(const struct transport_virtio *virtio)
{
    size_t length = strlen(virtio->devices_directory);
    const char *path = virtio->device.common.path;

    if (strncmp(path, virtio->devices_directory, length) != 0 ||
        strncmp(path + length, "/virtio-ports/", 14) != 0)
        return NULL;
    path += length + 14;
    return path[0] && !strchr(path, '/') ? path : NULL;
}

/* Opens the port at its path or, where udev made no link for it, at the node that has its name. */
static int open_port(struct transport_device *device, bool *ret_closed_again)
{
    const struct transport_virtio *virtio = (const struct transport_virtio *)device;
    _cleanup_free_ char *node = NULL;
    const char *name = name_in_path(virtio);
    int result;

    result = transport_device_open(device->common.path, ret_closed_again);
    if (result != -ENOENT || !name)
        return result;
    if (find_port(virtio, name, &node) < 0)
        return result;
    return transport_device_open(node, ret_closed_again);
}

static void explain(const struct transport_device *device, int error, char **ret_reason)
{
    if (error == -ENOENT && name_in_path((const struct transport_virtio *)device))
        transport_set_reason(ret_reason, "cannot open %s: the machine has no channel of that name",
                             device->common.path);
}

static void virtio_free(struct transport *transport)
{
    struct transport_virtio *virtio = (struct transport_virtio *)transport;

    transport_device_deinit(&virtio->device);
    free(virtio->devices_directory);
    free(virtio->ports_directory);
    free(virtio);
}

static int virtio_start(struct transport_virtio *virtio, const struct transport *common,
                        const struct transport_options *options, char **ret_reason)
{
    virtio->devices_directory =
        strdup(options->devices_directory ? options->devices_directory : "/dev");
    virtio->ports_directory =
        strdup(options->ports_directory ? options->ports_directory : "/sys/class/virtio-ports");
    if (!virtio->devices_directory || !virtio->ports_directory)
        return -ENOMEM;
    virtio->device.open_device = open_port;
    virtio->device.explain = explain;
    virtio->device.watched_directory = virtio->devices_directory;
    return transport_device_start(&virtio->device, common, options, ret_reason);
}

static int virtio_open(const struct transport *common, const struct transport_options *options,
                       struct transport **ret_transport, char **ret_reason)
{
    struct transport_virtio *virtio = calloc(1, sizeof(*virtio));
    int result;

    if (!virtio)
        return -ENOMEM;
    virtio->device.fd = -1;
    result = virtio_start(virtio, common, options, ret_reason);
    if (result < 0) {
        virtio_free(&virtio->device.common);
        return result;
    }
    *ret_transport = &virtio->device.common;
    return 0;
}

const struct transport_class transport_virtio_class = {
    .name = "virtio-serial",
    .default_path = "/dev/virtio-ports/org.qemu.guest_agent.0",
    .is_device = true,
    .open = virtio_open,
    .disconnected = transport_device_disconnected,
    .free = virtio_free,
};
