/* SPDX-License-Identifier: MIT */
/*
 * virtio-serial: a named port of a virtio console device.
 *
 * A device that is not there is waited for by inotify. Two things come without an event of their
 * own, a moment after one: the port's name in sysfs (after its node in /dev, virtio_console.c sets
 * it when the host's message arrives) and the port's being free (IN_CLOSE comes before the driver's
 * release). So for about a second after an event the opening is tried a few times more. Errors that
 * no event may ever end, EBUSY first of all, are tried again once a second.
 */
#include "io/transport-method.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/path-watch.h"

#define SETTLE_FIRST_MS 10 /* doubled with each attempt ... */
#define SETTLE_LAST_MS  640
#define SLOW_RETRY_MS   1000
#define REOPEN_MIN_MS   200 /* between two openings, should a device end them at once */

struct transport_virtio {
    struct transport common;
    char *devices_directory;
    char *ports_directory;
    bool retry_path;
    int fd;              /* opened, not yet handed out; or -1 */
    int waiting_error;   /* the last error that was logged while waiting */
    unsigned settle_ms;  /* wait before the next attempt; above SETTLE_LAST_MS none are left */
    uint64_t opened_ms;  /* when the device was last opened */
    struct event *timer; /* the next attempt, or handing out `fd` */
    struct path_watch *watch;
};

static void attempt(struct transport_virtio *virtio);

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
    const char *path = virtio->common.path;

    if (strncmp(path, virtio->devices_directory, length) != 0 ||
        strncmp(path + length, "/virtio-ports/", 14) != 0)
        return NULL;
    path += length + 14;
    return path[0] && !strchr(path, '/') ? path : NULL;
}

static int open_device(const char *path)
{
    _cleanup_close_ int fd = -1;
    struct stat status;

    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (S_ISREG(status.st_mode)) /* cannot be waited on, and would be filled with replies */
        return -ENODEV;
    return take_fd(&fd);
}

/* Opens the port at its path or, where udev made no link for it, at the node that has its name. */
static int open_port(const struct transport_virtio *virtio)
{
    _cleanup_free_ char *node = NULL;
    const char *name = name_in_path(virtio);
    int result;

    result = open_device(virtio->common.path);
    if (result != -ENOENT || !name)
        return result;
    if (find_port(virtio, name, &node) < 0)
        return result;
    return open_device(node);
}

static void start_timer(struct transport_virtio *virtio, unsigned delay_ms)
{
    const struct timeval delay = {.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};

    if (event_add(virtio->timer, &delay) < 0)
        log_error("no memory to wait for %s", virtio->common.path);
}

/* The descriptor is handed out from the loop, also when the opening was done at start-up. */
static void hand_out_soon(struct transport_virtio *virtio, int fd)
{
    virtio->fd = fd;
    virtio->opened_ms = clock_now_ms();
    virtio->waiting_error = 0;
    start_timer(virtio, 0);
}

static void hand_out(struct transport_virtio *virtio)
{
    struct transport *transport = &virtio->common;

    log_info("opened %s", transport->path);
    transport->ops->connected(transport, take_fd(&virtio->fd), transport->context);
}

/* Decides when to try again; `is_watched` says that a change of the paths will tell. */
static void wait_for_port(struct transport_virtio *virtio, int error, bool is_watched)
{
    bool is_absent = error == -ENOENT || error == -ENOTDIR;

    if (error != virtio->waiting_error)
        log_info("waiting for %s: %s", virtio->common.path, strerror(-error));
    virtio->waiting_error = error;
    if (virtio->settle_ms <= SETTLE_LAST_MS) {
        start_timer(virtio, virtio->settle_ms);
        virtio->settle_ms *= 2;
    } else if (!is_absent || !is_watched) {
        start_timer(virtio, SLOW_RETRY_MS);
    }
}

static void attempt(struct transport_virtio *virtio)
{
    struct transport *transport = &virtio->common;
    bool is_watched;
    int result;

    event_del(virtio->timer);
    /* first, so that a device which comes right after the failing open is not missed */
    is_watched = virtio->retry_path &&
                 path_watch_arm(virtio->watch, transport->path, virtio->devices_directory) == 0;
    result = open_port(virtio);
    if (result >= 0) {
        path_watch_disarm(virtio->watch);
        hand_out_soon(virtio, result);
    } else if (virtio->retry_path) {
        wait_for_port(virtio, result, is_watched);
    } else {
        transport->ops->failed(transport, result, transport->context);
    }
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct transport_virtio *virtio = context;

    if (virtio->fd >= 0)
        hand_out(virtio);
    else
        attempt(virtio);
}

static void on_change(void *context)
{
    struct transport_virtio *virtio = context;

    virtio->settle_ms = SETTLE_FIRST_MS;
    attempt(virtio);
}

static void virtio_disconnected(struct transport *transport)
{
    struct transport_virtio *virtio = (struct transport_virtio *)transport;
    uint64_t open_for_ms = clock_now_ms() - virtio->opened_ms;

    virtio->settle_ms = SETTLE_FIRST_MS;
    start_timer(virtio, open_for_ms < REOPEN_MIN_MS ? REOPEN_MIN_MS - (unsigned)open_for_ms : 0);
}

static void virtio_free(struct transport *transport)
{
    struct transport_virtio *virtio = (struct transport_virtio *)transport;

    if (virtio->timer)
        event_free(virtio->timer);
    path_watch_free(virtio->watch);
    close_fd(virtio->fd);
    free(virtio->devices_directory);
    free(virtio->ports_directory);
    free(virtio);
}

static void explain_failure(const struct transport_virtio *virtio, int error, char **ret_reason)
{
    const char *path = virtio->common.path;

    if (error == -EBUSY)
        transport_set_reason(ret_reason, "cannot open %s: another program has it open", path);
    else if (error == -ENOENT && name_in_path(virtio))
        transport_set_reason(ret_reason, "cannot open %s: the machine has no channel of that name",
                             path);
    else
        transport_set_reason(ret_reason, "cannot open %s: %s", path, strerror(-error));
}

static int virtio_start(struct transport_virtio *virtio, const struct transport_options *options,
                        char **ret_reason)
{
    int result;

    virtio->devices_directory =
        strdup(options->devices_directory ? options->devices_directory : "/dev");
    virtio->ports_directory =
        strdup(options->ports_directory ? options->ports_directory : "/sys/class/virtio-ports");
    virtio->timer = evtimer_new(virtio->common.base, on_timer, virtio);
    virtio->watch = path_watch_new(virtio->common.base, on_change, virtio);
    if (!virtio->devices_directory || !virtio->ports_directory || !virtio->timer || !virtio->watch)
        return -ENOMEM;
    if (virtio->retry_path) {
        attempt(virtio);
        return 0;
    }
    result = open_port(virtio);
    if (result < 0) {
        explain_failure(virtio, result, ret_reason);
        return result;
    }
    hand_out_soon(virtio, result);
    return 0;
}

static int virtio_open(const struct transport *common, const struct transport_options *options,
                       struct transport **ret_transport, char **ret_reason)
{
    struct transport_virtio *virtio = calloc(1, sizeof(*virtio));
    int result;

    if (!virtio)
        return -ENOMEM;
    virtio->common = *common;
    virtio->retry_path = options->retry_path;
    virtio->fd = -1;
    virtio->settle_ms = SETTLE_FIRST_MS;
    result = virtio_start(virtio, options, ret_reason);
    if (result < 0) {
        virtio_free(&virtio->common);
        return result;
    }
    *ret_transport = &virtio->common;
    return 0;
}

const struct transport_class transport_virtio_class = {
    .name = "virtio-serial",
    .default_path = "/dev/virtio-ports/org.qemu.guest_agent.0",
    .is_device = true,
    .open = virtio_open,
    .disconnected = virtio_disconnected,
    .free = virtio_free,
};
