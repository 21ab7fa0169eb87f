/* SPDX-License-Identifier: MIT */
/*
 * A device that is not there is waited for by inotify. Some things come without an event of their
 * own, a moment after one: a virtio port's name in sysfs (after its node in /dev, virtio_console.c
 * sets it when the host's message arrives), and its being free (IN_CLOSE comes before the driver's
 * release). So for about a second after an event the opening is tried a few times more. Errors that
 * no event may ever end, EBUSY first of all, are tried again once a second.
 *
 * A watch that stands is kept from one attempt to the next: each one costs the kernel as much as
 * the watched folders have entries.
 */
#include "io/transport-device.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/log.h"
#include "io/path-watch.h"

#define SETTLE_FIRST_MS 10 /* doubled with each attempt ... */
#define SETTLE_LAST_MS  640
#define SLOW_RETRY_MS   1000
#define REOPEN_MIN_MS   200 /* between two openings, should a device end them at once */

int transport_device_open(const char *path, bool *ret_closed_again)
{
    _cleanup_close_ int fd = -1;
    struct stat status;

    fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return -errno;
    *ret_closed_again = true;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (S_ISREG(status.st_mode)) /* cannot be waited on, and would be filled with replies */
        return -ENODEV;
    *ret_closed_again = false;
    return take_fd(&fd);
}

static void start_timer(struct transport_device *device, unsigned delay_ms)
{
    const struct timeval delay = {.tv_sec = delay_ms / 1000, .tv_usec = delay_ms % 1000 * 1000};

    if (event_add(device->timer, &delay) < 0)
        log_error("no memory to wait for %s", device->common.path);
}

/* The descriptor is handed out from the loop, also when the opening was done at start-up. */
static void hand_out_soon(struct transport_device *device, int fd)
{
    device->fd = fd;
    device->opened_ms = clock_now_ms();
    device->waiting_error = 0;
    start_timer(device, 0);
}

static void hand_out(struct transport_device *device)
{
    struct transport *transport = &device->common;

    log_info("opened %s", transport->path);
    transport->ops->connected(transport, take_fd(&device->fd), transport->context);
}

/* Decides when to try again; `is_watched` says that a change of the paths will tell. */
static void wait_for_device(struct transport_device *device, int error, bool is_watched)
{
    bool is_absent = error == -ENOENT || error == -ENOTDIR;

    if (error != device->waiting_error)
        log_info("waiting for %s: %s", device->common.path, strerror(-error));
    device->waiting_error = error;
    if (device->settle_ms <= SETTLE_LAST_MS) {
        start_timer(device, device->settle_ms);
        device->settle_ms *= 2;
    } else if (!is_absent || !is_watched) {
        start_timer(device, SLOW_RETRY_MS);
    }
}

/* Watches the paths, unless they are watched already. Returns whether they are. */
static bool watch_paths(struct transport_device *device)
{
    if (!device->retry_path)
        return false;
    return path_watch_is_armed(device->watch) ||
           path_watch_arm(device->watch, device->common.path, device->watched_directory) == 0;
}

static void attempt(struct transport_device *device)
{
    struct transport *transport = &device->common;
    bool is_closed_again = false;
    bool is_watched;
    int result;

    event_del(device->timer);
    /* first, so that a device which comes right after the failing open is not missed */
    is_watched = watch_paths(device);
    result = device->open_device(device, &is_closed_again);
    if (result >= 0 || is_closed_again) {
        path_watch_disarm(device->watch);
        is_watched = false;
    }
    if (result >= 0)
        hand_out_soon(device, result);
    else if (device->retry_path)
        wait_for_device(device, result, is_watched);
    else
        transport->ops->failed(transport, result, transport->context);
}

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    struct transport_device *device = context;

    if (device->fd >= 0)
        hand_out(device);
    else
        attempt(device);
}

static void on_change(void *context)
{
    struct transport_device *device = context;

    device->settle_ms = SETTLE_FIRST_MS;
    attempt(device);
}

void transport_device_disconnected(struct transport *transport)
{
    struct transport_device *device = (struct transport_device *)transport;
    uint64_t open_for_ms = clock_now_ms() - device->opened_ms;

    device->settle_ms = SETTLE_FIRST_MS;
    start_timer(device, open_for_ms < REOPEN_MIN_MS ? REOPEN_MIN_MS - (unsigned)open_for_ms : 0);
}

void transport_device_deinit(struct transport_device *device)
{
    if (device->timer)
        event_free(device->timer);
    path_watch_free(device->watch);
    close_fd(device->fd);
}

static int open_first(struct transport_device *device, char **ret_reason)
{
    const char *path = device->common.path;
    bool is_closed_again = false;
    int result = device->open_device(device, &is_closed_again);

    if (result >= 0) {
        hand_out_soon(device, result);
        return 0;
    }
    device->explain(device, result, ret_reason);
    if (!*ret_reason && result == -EBUSY)
        transport_set_reason(ret_reason, "cannot open %s: another program has it open", path);
    else if (!*ret_reason)
        transport_set_reason(ret_reason, "cannot open %s: %s", path, strerror(-result));
    return result;
}

int transport_device_start(struct transport_device *device, const struct transport *common,
                           const struct transport_options *options, char **ret_reason)
{
    device->common = *common;
    device->retry_path = options->retry_path;
    device->fd = -1;
    device->settle_ms = SETTLE_FIRST_MS;
    device->timer = evtimer_new(common->base, on_timer, device);
    device->watch = path_watch_new(common->base, on_change, device);
    if (!device->timer || !device->watch)
        return -ENOMEM;
    if (!device->retry_path)
        return open_first(device, ret_reason);
    attempt(device);
    return 0;
}
