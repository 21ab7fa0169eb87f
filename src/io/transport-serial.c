/* SPDX-License-Identifier: MIT */
/*
 * isa-serial: a serial line, in raw mode.
 *
 * The line carries bytes and nothing else: that there is a host is not to be seen on it, and
 * whether it keeps up neither (no handshake: QEMU's serial port has none). Modem lines are ignored,
 * so a hang-up is that of the kernel: vhangup(2), a device that was removed, the other end of a
 * pseudo terminal.
 */
#include "io/transport-device.h"

#include <errno.h>
#include <sys/file.h>
#include <termios.h>

#include "base/log.h"

/* What the classic agent sets; QEMU does not mind it. */
#define LINE_SPEED B38400

struct transport_serial {
    struct transport_device device;
};

/* termios(3), "raw" mode. What has come in already stays: it may be the host's first request. */
static int set_raw(int fd)
{
    struct termios line;

    if (tcgetattr(fd, &line) < 0)
        return -errno;
    cfmakeraw(&line);
    line.c_iflag |= IGNBRK; /* a break, such as one of QEMU's monitor, is no byte */
    line.c_iflag &= ~(tcflag_t)(IXOFF | IXANY | IMAXBEL);
    line.c_cflag |= CLOCAL | CREAD;
    line.c_cflag &= ~(tcflag_t)(CRTSCTS | HUPCL);
    line.c_cc[VMIN] = 1; /* with 0 a read that finds nothing looks like the end of the file */
    line.c_cc[VTIME] = 0;
    if (cfsetspeed(&line, LINE_SPEED) < 0 || tcsetattr(fd, TCSANOW, &line) < 0)
        return -errno;
    return 0;
}

static int serial_open_device(struct transport_device *device, bool *ret_closed_again)
{
    _cleanup_close_ int fd = transport_device_open(device->common.path, ret_closed_again);
    int result;

    if (fd < 0)
        return fd;
    *ret_closed_again = true;
    /* Two agents on one line would each take half of what the host sends. */
    if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return -EBUSY;
    result = set_raw(fd);
    if (result < 0)
        return result;
    *ret_closed_again = false;
    return take_fd(&fd);
}

static void serial_explain(const struct transport_device *device, int error, char **ret_reason)
{
    const char *path = device->common.path;

    if (error == -ENOTTY || error == -ENODEV)
        transport_set_reason(ret_reason, "%s is no serial line", path);
    else if (error == -EIO)
        transport_set_reason(ret_reason, "cannot open %s: there is no serial port behind it", path);
}

static void serial_free(struct transport *transport)
{
    struct transport_serial *serial = (struct transport_serial *)transport;

    transport_device_deinit(&serial->device);
    free(serial);
}

static int serial_open(const struct transport *common, const struct transport_options *options,
                       struct transport **ret_transport, char **ret_reason)
{
    struct transport_serial *serial = calloc(1, sizeof(*serial));
    int result;

    if (!serial)
        return -ENOMEM;
    serial->device.open_device = serial_open_device;
    serial->device.explain = serial_explain;
    result = transport_device_start(&serial->device, common, options, ret_reason);
    if (result < 0) {
        serial_free(&serial->device.common);
        return result;
    }
    *ret_transport = &serial->device.common;
    return 0;
}

const struct transport_class transport_serial_class = {
    .name = "isa-serial",
    .default_path = "/dev/ttyS0",
    .open = serial_open,
    .disconnected = transport_device_disconnected,
    .free = serial_free,
};
